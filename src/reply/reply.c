#include "reply.h"

#include <string.h>

/* ---- Text of tokens --------------------------------------------------------------------- */

static uint32_t max_text_bytes(const exitlm_session *s) { /* of one token, whatever was held back before it */
    xl_tokenizer_info info;
    xl_tokenizer_describe(s->model->tokenizer, &info);
    return 3 * (info.max_token_bytes + 3);
}

exitlm_status xl_reply_reserve(exitlm_session *s, uint32_t limit, exitlm_error *error) {
    xl_generation *g = s->generation;
    size_t needed = ((size_t)limit + 1) * max_text_bytes(s) + 8;
    if (needed <= g->text_capacity) return EXITLM_OK;
    void *text = xl_calloc(&s->allocator, 1, needed);
    if (!text) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for %zu bytes of reply: set max_tokens lower", needed);
    xl_free(&s->allocator, g->text, 1, g->text_capacity);
    g->text = text;
    g->text_capacity = needed;
    return EXITLM_OK;
}

static bool ends_like(const xl_generation *g, uint32_t stop, size_t at) {
    size_t rest = g->text_bytes - at;
    return rest < g->stop_bytes[stop] && memcmp(g->text + at, g->stop[stop], rest) == 0;
}

/* The first stop string in text[from …], or text_bytes. */
static size_t find_stop(const xl_generation *g, size_t from) {
    for (size_t at = from; at < g->text_bytes; at++)
        for (uint32_t i = 0; i < g->n_stop; i++)
            if (g->text_bytes - at >= g->stop_bytes[i] && memcmp(g->text + at, g->stop[i], g->stop_bytes[i]) == 0) return at;
    return g->text_bytes;
}

/* Where text begins that may still become a stop string, or text_bytes. */
static size_t find_start_of_stop(const xl_generation *g, size_t from) {
    for (size_t at = from; at < g->text_bytes; at++)
        for (uint32_t i = 0; i < g->n_stop; i++)
            if (ends_like(g, i, at)) return at;
    return g->text_bytes;
}

void xl_reply_add(exitlm_session *s, xl_chosen *token) {
    xl_generation *g = s->generation;
    char bytes[1024];
    size_t n = xl_token_bytes(s->model->tokenizer, token->id, bytes, sizeof bytes);
    if (n > sizeof bytes) n = sizeof bytes;
    if (xl_token_attributes(s->model->tokenizer, token->id) & XL_TOKEN_CONTROL) n = 0; /* not text */
    if (g->text_bytes + 3 * (n + 3) <= g->text_capacity) g->text_bytes += xl_utf8_push(&g->utf8, bytes, n, g->text + g->text_bytes);
    token->text_end = (uint32_t)g->text_bytes;
    size_t stop = find_stop(g, g->decided_bytes);
    if (stop < g->text_bytes) {
        g->text_bytes = stop;
        g->stop_found = true;
        g->utf8 = (xl_utf8_stream){0};
    }
    g->decided_bytes = g->stop_found ? g->text_bytes : find_start_of_stop(g, g->decided_bytes);
}

bool xl_reply_decided(const exitlm_session *s, const xl_chosen *token) {
    const xl_generation *g = s->generation;
    if (g->phase == XL_FINISHING || g->phase == XL_DONE) return true;
    bool last = token == &g->tokens[g->n_tokens - 1];
    return token->text_end <= g->decided_bytes && !(last && g->utf8.n_held);
}

void xl_reply_finish(exitlm_session *s) {
    xl_generation *g = s->generation;
    if (!g->stop_found && g->text && g->text_capacity - g->text_bytes >= 4) {
        g->text_bytes += xl_utf8_flush(&g->utf8, g->text + g->text_bytes);
        if (g->n_tokens) g->tokens[g->n_tokens - 1].text_end = (uint32_t)g->text_bytes;
    }
    g->decided_bytes = g->text_bytes;
    if (g->text) g->text[g->text_bytes] = 0;
    /* Tokens that only spell the stop string are not part of the reply. */
    while (g->stop_found && g->n_tokens > g->n_released) {
        uint32_t start = g->n_tokens > 1 ? g->tokens[g->n_tokens - 2].text_end : 0;
        if (start < g->text_bytes || (start == g->text_bytes && g->tokens[g->n_tokens - 1].text_end == start)) break;
        g->n_tokens--;
    }
}

/* ---- Conversations ------------------------------------------------------------------------- */

/* Remembers the text whose ids the session will hold: the prompt now, the reply is appended when the next turn asks. */
static exitlm_status remember(exitlm_session *s, const char *text, size_t n_bytes, exitlm_error *error) {
    xl_generation *g = s->generation;
    if (n_bytes > g->context_capacity) {
        void *context = xl_calloc(&s->allocator, 1, n_bytes + n_bytes / 2);
        if (!context) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for %zu bytes of conversation", n_bytes);
        xl_free(&s->allocator, g->context, 1, g->context_capacity);
        g->context = context;
        g->context_capacity = n_bytes + n_bytes / 2;
    }
    memcpy(g->context, text, n_bytes);
    g->context_bytes = n_bytes;
    return EXITLM_OK;
}

/* Does `text` begin with the context's text and the reply to it, followed by a token of its own? Then its ids can be kept. */
static bool continues(const exitlm_session *s, const char *text, size_t n_bytes) {
    const xl_generation *g = s->generation;
    size_t known = g->context_bytes + g->text_bytes;
    if (!g->context_known || g->stop_found || g->phase == XL_IDLE || n_bytes <= known) return false;
    if (memcmp(text, g->context, g->context_bytes) != 0 || (g->text_bytes && memcmp(text + g->context_bytes, g->text, g->text_bytes) != 0))
        return false;
    /* Only where a special token follows can nothing merge across the border. */
    int32_t id = -1;
    size_t n = 0;
    size_t peek = n_bytes - known < 64 ? n_bytes - known : 64;
    if (exitlm_tokenize(s->model, text + known, peek, EXITLM_PARSE_SPECIAL, &id, 1, &n, NULL) != EXITLM_OK || n == 0) return false;
    return (xl_token_attributes(s->model->tokenizer, id) & XL_TOKEN_CONTROL) != 0;
}

typedef struct id_list {
    int32_t *ids;
    size_t n, capacity;
} id_list;

static exitlm_status tokenize_prompt(exitlm_session *s, const char *text, size_t n_bytes, unsigned flags, id_list *list, exitlm_error *error) {
    const xl_generation *g = s->generation;
    size_t kept = 0, skip = 0;
    if (continues(s, text, n_bytes)) {
        kept = g->prompt_n + g->n_tokens;
        skip = g->context_bytes + g->text_bytes;
        flags &= ~(unsigned)EXITLM_ADD_SPECIAL;
    }
    if (n_bytes - skip > (SIZE_MAX / sizeof *list->ids - kept - 3) / 3) return xl_fail(error, EXITLM_USAGE, "a prompt of %zu bytes is too long", n_bytes);
    list->capacity = kept + 3 * (n_bytes - skip) + 3;
    if (list->capacity > (size_t)s->ctx + 64) list->capacity = (size_t)s->ctx + 64; /* more would be refused anyway */
    if (list->capacity < kept) list->capacity = kept;
    list->ids = xl_calloc(&s->allocator, list->capacity, sizeof *list->ids);
    if (!list->ids) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for the prompt's ids");
    if (kept) memcpy(list->ids, s->ids, g->prompt_n * sizeof *list->ids);
    for (size_t i = g->prompt_n; i < kept; i++) list->ids[i] = g->tokens[i - g->prompt_n].id;
    size_t n = 0;
    exitlm_status status = exitlm_tokenize(s->model, text + skip, n_bytes - skip, flags, list->ids + kept, list->capacity - kept, &n, error);
    list->n = kept + n;
    return status;
}

static exitlm_status start_text(exitlm_session *s, const char *text, size_t n_bytes, unsigned flags, const exitlm_generate_options *options,
                                exitlm_error *error) {
    xl_generation *g = s->generation;
    id_list list = {0};
    exitlm_status status = tokenize_prompt(s, text, n_bytes, flags, &list, error);
    if (status == EXITLM_OK && list.n >= s->ctx)
        status = xl_fail(error, EXITLM_CONTEXT_FULL, "the prompt has %zu tokens and the context holds %u: shorten it or ask for a larger context",
                         list.n, (unsigned)s->ctx);
    if (status == EXITLM_OK) status = xl_generation_start(s, list.ids, list.n, options, error);
    if (status == EXITLM_OK) {
        g->context_known = false;
        status = remember(s, text, n_bytes, error);
        g->context_known = status == EXITLM_OK;
        if (status != EXITLM_OK) g->phase = XL_IDLE;
    }
    xl_free(&s->allocator, list.ids, list.capacity, sizeof *list.ids);
    return status;
}

exitlm_status exitlm_session_text(exitlm_session *session, const char *text, size_t n_bytes, bool parse_special,
                                  const exitlm_generate_options *options, exitlm_error *error) {
    unsigned flags = EXITLM_ADD_SPECIAL | (parse_special ? EXITLM_PARSE_SPECIAL : 0u);
    return start_text(session, text, n_bytes, flags, options, error);
}

exitlm_status exitlm_session_chat(exitlm_session *session, const exitlm_message *messages, size_t n_messages,
                                  const exitlm_generate_options *options, exitlm_error *error) {
    size_t n_bytes = 0;
    exitlm_status status = exitlm_apply_template(session->model, messages, n_messages, true, NULL, 0, &n_bytes, error);
    if (status != EXITLM_OK) return status;
    char *text = xl_calloc(&session->allocator, n_bytes + 1, 1);
    if (!text) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a conversation of %zu bytes", n_bytes);
    status = exitlm_apply_template(session->model, messages, n_messages, true, text, n_bytes, &n_bytes, error);
    if (status == EXITLM_OK) status = start_text(session, text, n_bytes, EXITLM_ADD_SPECIAL | EXITLM_PARSE_SPECIAL, options, error);
    xl_free(&session->allocator, text, n_bytes + 1, 1);
    return status;
}
