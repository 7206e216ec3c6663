/* Prompts that come as text, and conversations: the ids of earlier turns are re-used where their
 * text is unchanged. */
#include <string.h>

#include "base/sha256.h"
#include "session.h"

/* A prompt as text; of special tokens in `plain` (or NULL) none counts. */
typedef struct prompt_text {
    const char *text;
    size_t n_bytes;
    unsigned flags;
    const xl_spans *plain;
} prompt_text;

/* The hash of the first n_bytes, and of what of them is plain: the same text may be other
 * tokens. */
static void hash_text(const prompt_text *prompt, size_t n_bytes, uint8_t digest[32]) {
    xl_sha256 sha;
    xl_sha256_init(&sha);
    if (n_bytes) xl_sha256_update(&sha, prompt->text, n_bytes);
    xl_sha256_update(&sha, &(uint8_t){(prompt->flags & EXITLM_PARSE_SPECIAL) != 0}, 1);
    for (size_t i = 0;
         prompt->plain && i < prompt->plain->n && prompt->plain->span[i].start < n_bytes; i++) {
        const xl_span span = prompt->plain->span[i];
        const uint64_t part[2] = {span.start, span.end < n_bytes ? span.end : n_bytes};
        xl_sha256_update(&sha, part, sizeof part);
    }
    xl_sha256_final(&sha, digest);
}

/* Is this the text of the prompt? Its hash is all that is kept of it. */
static bool is_context(const xl_generation *g, const prompt_text *prompt) {
    uint8_t digest[32];
    hash_text(prompt, g->context_bytes, digest);
    return memcmp(digest, g->context_sha, sizeof digest) == 0;
}

/* The ids of the text from byte `skip` on, up to n_bytes of them. */
static exitlm_status tokenize_from(const exitlm_session *s, const prompt_text *prompt, size_t skip,
                                   size_t n_bytes, unsigned flags, int32_t *ids, size_t capacity,
                                   size_t *n, exitlm_error *error) {
    xl_spans plain = {0};
    if (prompt->plain) plain = (xl_spans){prompt->plain->span, prompt->plain->n, skip};
    return xl_tokenizer_encode_parts(s->run.model->tokenizer, n_bytes ? prompt->text + skip : "",
                                     n_bytes, prompt->plain ? &plain : NULL, flags, ids, capacity,
                                     n, error);
}

/* Does the text begin with the context's text and the reply to it, followed by a token of its
 * own? Then its ids can be kept. */
static bool continues(const exitlm_session *s, const prompt_text *prompt) {
    const xl_generation *g = s->generation;
    const size_t known = g->context_bytes + g->out.n_bytes;
    if (!g->context_known || g->out.stopped || prompt->n_bytes <= known) return false;
    if (g->out.n_bytes && memcmp(prompt->text + g->context_bytes, g->out.text, g->out.n_bytes) != 0)
        return false;
    if (!is_context(g, prompt)) return false;
    /* Only where a special token follows can nothing merge across the border. */
    int32_t id = -1;
    size_t n = 0;
    const size_t peek = prompt->n_bytes - known < 64 ? prompt->n_bytes - known : 64;
    if (tokenize_from(s, prompt, known, peek, EXITLM_PARSE_SPECIAL, &id, 1, &n, NULL) !=
            EXITLM_OK ||
        n == 0)
        return false;
    return (xl_token_attributes(s->run.model->tokenizer, id) & XL_TOKEN_CONTROL) != 0;
}

/* The prompt's ids to g->prompt; *n is their number, which may be more than fit there: then
 * xl_generation_start refuses them unseen. */
static exitlm_status tokenize_prompt(exitlm_session *s, const prompt_text *prompt, size_t *n,
                                     exitlm_error *error) {
    xl_generation *g = s->generation;
    size_t kept = 0, skip = 0;
    unsigned flags = prompt->flags;
    if (continues(s, prompt)) {
        kept = g->prompt_n + g->n_tokens;
        skip = g->context_bytes + g->out.n_bytes;
        flags &= ~(unsigned)XL_ADD_BEGIN;
        memcpy(g->prompt, s->stair.ids, g->prompt_n * sizeof *g->prompt);
    }
    for (size_t i = g->prompt_n; i < kept; i++) g->prompt[i] = g->tokens[i - g->prompt_n].id;
    exitlm_status status = tokenize_from(s, prompt, skip, prompt->n_bytes - skip, flags,
                                         g->prompt + kept, s->stair.ctx - kept, n, error);
    *n += kept;
    return status;
}

static exitlm_status start_text(exitlm_session *s, const prompt_text *prompt,
                                const exitlm_generate_options *options, exitlm_error *error) {
    xl_generation *g = s->generation;
    size_t n = 0;
    exitlm_status status = tokenize_prompt(s, prompt, &n, error);
    if (status == EXITLM_OK) status = xl_generation_start(s, g->prompt, n, options, error);
    if (status != EXITLM_OK) return status;
    hash_text(prompt, prompt->n_bytes, g->context_sha);
    g->context_bytes = prompt->n_bytes;
    g->context_known = true;
    return EXITLM_OK;
}

exitlm_status xl_session_text(exitlm_session *session, const char *text, size_t n_bytes,
                              const xl_spans *plain, bool parse_special,
                              const exitlm_generate_options *options, exitlm_error *error) {
    if (!session || (!text && n_bytes))
        return xl_fail(error, EXITLM_USAGE, "exitlm_session_text: an argument is NULL");
    const prompt_text prompt = {text, n_bytes,
                                XL_ADD_BEGIN | (parse_special ? EXITLM_PARSE_SPECIAL : 0u), plain};
    return start_text(session, &prompt, options, error);
}

exitlm_status exitlm_session_text(exitlm_session *session, const char *text, size_t n_bytes,
                                  bool parse_special, const exitlm_generate_options *options,
                                  exitlm_error *error) {
    return xl_session_text(session, text, n_bytes, NULL, parse_special, options, error);
}

/* Renders a conversation into `text` [n_bytes], its contents marked in `plain`, and starts. */
static exitlm_status start_chat(exitlm_session *s, const exitlm_message *messages,
                                size_t n_messages, char *text, size_t n_bytes, xl_spans *plain,
                                const exitlm_generate_options *options, exitlm_error *error) {
    exitlm_status status = xl_template_render(&s->run.model->chat, messages, n_messages, true, text,
                                              n_bytes, &n_bytes, plain, error);
    return status == EXITLM_OK ? xl_session_text(s, text, n_bytes, plain, true, options, error)
                               : status;
}

exitlm_status exitlm_session_chat(exitlm_session *session, const exitlm_message *messages,
                                  size_t n_messages, const exitlm_generate_options *options,
                                  exitlm_error *error) {
    if (!session) return xl_fail(error, EXITLM_USAGE, "exitlm_session_chat: `session` is NULL");
    size_t n_bytes = 0;
    exitlm_status status = exitlm_apply_template(session->run.model, messages, n_messages, true,
                                                 NULL, 0, &n_bytes, error);
    if (status != EXITLM_OK) return status;
    char *text = xl_calloc(&session->allocator, n_bytes + 1, 1);
    xl_spans plain = {
        .span = xl_calloc(&session->allocator, n_messages, XL_CONTENT_SPANS * sizeof *plain.span)};
    if (text && plain.span)
        status = start_chat(session, messages, n_messages, text, n_bytes, &plain, options, error);
    else
        status = xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a conversation of %zu bytes",
                         n_bytes);
    xl_free(&session->allocator, plain.span, n_messages, XL_CONTENT_SPANS * sizeof *plain.span);
    xl_free(&session->allocator, text, n_bytes + 1, 1);
    return status;
}
