/* Prompts that come as text, and conversations: the ids of earlier turns are re-used where their text is unchanged. */
#include <string.h>

#include "base/sha256.h"
#include "session.h"

static void hash_text(const char *text, size_t n_bytes, uint8_t digest[32]) {
    xl_sha256 sha;
    xl_sha256_init(&sha);
    xl_sha256_update(&sha, text, n_bytes);
    xl_sha256_final(&sha, digest);
}

/* Is this the text of the prompt? Its hash is all that is kept of it. */
static bool is_context(const xl_generation *g, const char *text) {
    uint8_t digest[32];
    hash_text(text, g->context_bytes, digest);
    return memcmp(digest, g->context_sha, sizeof digest) == 0;
}

/* Does `text` begin with the context's text and the reply to it, followed by a token of its own? Then its ids can be kept. */
static bool continues(const exitlm_session *s, const char *text, size_t n_bytes) {
    const xl_generation *g = s->generation;
    size_t known = g->context_bytes + g->out.n_bytes;
    if (!g->context_known || g->out.stopped || g->phase == XL_IDLE || n_bytes <= known) return false;
    if (g->out.n_bytes && memcmp(text + g->context_bytes, g->out.text, g->out.n_bytes) != 0) return false;
    if (!is_context(g, text)) return false;
    /* Only where a special token follows can nothing merge across the border. */
    int32_t id = -1;
    size_t n = 0;
    size_t peek = n_bytes - known < 64 ? n_bytes - known : 64;
    if (exitlm_tokenize(s->run.model, text + known, peek, EXITLM_PARSE_SPECIAL, &id, 1, &n, NULL) != EXITLM_OK || n == 0) return false;
    return (xl_token_attributes(s->run.model->tokenizer, id) & XL_TOKEN_CONTROL) != 0;
}

/* The prompt's ids to g->prompt; *n is their number, which may be more than fit there. */
static exitlm_status tokenize_prompt(exitlm_session *s, const char *text, size_t n_bytes, unsigned flags, size_t *n, exitlm_error *error) {
    xl_generation *g = s->generation;
    size_t kept = 0, skip = 0;
    if (continues(s, text, n_bytes)) {
        kept = g->prompt_n + g->n_tokens;
        skip = g->context_bytes + g->out.n_bytes;
        flags &= ~(unsigned)EXITLM_ADD_SPECIAL;
        memcpy(g->prompt, s->stair.ids, g->prompt_n * sizeof *g->prompt);
    }
    for (size_t i = g->prompt_n; i < kept; i++) g->prompt[i] = g->tokens[i - g->prompt_n].id;
    exitlm_status status = exitlm_tokenize(s->run.model, text + skip, n_bytes - skip, flags, g->prompt + kept, s->stair.ctx - kept, n, error);
    *n += kept;
    return status;
}

static exitlm_status start_text(exitlm_session *s, const char *text, size_t n_bytes, unsigned flags, const exitlm_generate_options *options,
                                exitlm_error *error) {
    xl_generation *g = s->generation;
    size_t n = 0;
    exitlm_status status = tokenize_prompt(s, text, n_bytes, flags, &n, error);
    if (status == EXITLM_OK && n >= s->stair.ctx)
        status = xl_fail(error, EXITLM_CONTEXT_FULL, "the prompt has %zu tokens and the context holds %u: shorten it or ask for a larger context",
                         n, (unsigned)s->stair.ctx);
    if (status == EXITLM_OK) status = xl_generation_start(s, g->prompt, n, options, error);
    if (status != EXITLM_OK) return status;
    hash_text(text, n_bytes, g->context_sha);
    g->context_bytes = n_bytes;
    g->context_known = true;
    return EXITLM_OK;
}

exitlm_status exitlm_session_text(exitlm_session *session, const char *text, size_t n_bytes, bool parse_special,
                                  const exitlm_generate_options *options, exitlm_error *error) {
    unsigned flags = EXITLM_ADD_SPECIAL | (parse_special ? EXITLM_PARSE_SPECIAL : 0u);
    return start_text(session, text, n_bytes, flags, options, error);
}

exitlm_status exitlm_session_chat(exitlm_session *session, const exitlm_message *messages, size_t n_messages,
                                  const exitlm_generate_options *options, exitlm_error *error) {
    size_t n_bytes = 0;
    exitlm_status status = exitlm_apply_template(session->run.model, messages, n_messages, true, NULL, 0, &n_bytes, error);
    if (status != EXITLM_OK) return status;
    char *text = xl_calloc(&session->allocator, n_bytes + 1, 1);
    if (!text) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a conversation of %zu bytes", n_bytes);
    status = exitlm_apply_template(session->run.model, messages, n_messages, true, text, n_bytes, &n_bytes, error);
    if (status == EXITLM_OK) status = start_text(session, text, n_bytes, EXITLM_ADD_SPECIAL | EXITLM_PARSE_SPECIAL, options, error);
    xl_free(&session->allocator, text, n_bytes + 1, 1);
    return status;
}
