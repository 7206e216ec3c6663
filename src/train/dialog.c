/* A conversation turn by turn as token ids. See dialog.h. */
#include "dialog.h"
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "dataset.h"

static exitlm_status no_memory(exitlm_error *error) {
    return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a conversation");
}

exitlm_status xl_ids_of_text(const exitlm_model *model, const char *text, size_t n_bytes,
                             unsigned flags, int32_t **ids, size_t *n, exitlm_error *error) {
    /* a token is at least a byte, but for those that the model adds */
    size_t capacity = n_bytes + 16;
    *ids = malloc(capacity * sizeof **ids);
    exitlm_status status =
        *ids ? exitlm_tokenize(model, text, n_bytes, flags, *ids, capacity, n, error)
             : xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a text's tokens");
    if (status != EXITLM_OK || *n <= capacity) return status;
    free(*ids);
    *ids = malloc(*n * sizeof **ids);
    return *ids ? exitlm_tokenize(model, text, n_bytes, flags, *ids, *n, n, error)
                : xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a text's tokens");
}

exitlm_status xl_text_of_messages(const exitlm_model *model, const exitlm_message *messages,
                                  size_t n, bool open, char **text, size_t *n_bytes,
                                  exitlm_error *error) {
    *text = NULL;
    exitlm_status status = exitlm_apply_template(model, messages, n, open, NULL, 0, n_bytes, error);
    if (status != EXITLM_OK) return status;
    *text = calloc(*n_bytes + 1, 1);
    return *text ? exitlm_apply_template(model, messages, n, open, *text, *n_bytes, n_bytes, error)
                 : no_memory(error);
}

void xl_dialog_init(xl_dialog *d, const exitlm_model *model) { *d = (xl_dialog){.model = model}; }

void xl_dialog_clear(xl_dialog *d) {
    for (size_t i = 0; i < d->n_messages; i++) free((char *)(uintptr_t)d->messages[i].content);
    d->n_messages = 0;
    free(d->text);
    d->text = NULL;
    d->text_bytes = 0;
}

void xl_dialog_free(xl_dialog *d) {
    xl_dialog_clear(d);
    free(d->messages);
    free(d->ids);
    xl_dialog_init(d, d->model);
}

exitlm_status xl_dialog_add(xl_dialog *d, const char *role, const char *text, size_t n_bytes,
                            exitlm_error *error) {
    const char *known = xl_known_role(role);
    if (!known)
        return xl_fail(error, EXITLM_USAGE, "unknown role \"%.32s\": system, user or assistant",
                       role);
    if (memchr(text, 0, n_bytes)) n_bytes = strlen(text);
    if (d->n_messages == d->messages_capacity) {
        size_t more = d->messages_capacity ? 2 * d->messages_capacity : 8;
        exitlm_message *grown = realloc(d->messages, more * sizeof *grown);
        if (!grown) return no_memory(error);
        d->messages = grown;
        d->messages_capacity = more;
    }
    char *copy = calloc(n_bytes + 1, 1);
    if (!copy) return no_memory(error);
    memcpy(copy, text, n_bytes);
    d->messages[d->n_messages++] = (exitlm_message){known, copy};
    return EXITLM_OK;
}

static exitlm_status tokenize(xl_dialog *d, const char *text, size_t n_bytes, unsigned flags,
                              const int32_t **ids, size_t *n, exitlm_error *error) {
    free(d->ids);
    exitlm_status status = xl_ids_of_text(d->model, text, n_bytes, flags, &d->ids, n, error);
    *ids = d->ids;
    return status;
}

static exitlm_status render(xl_dialog *d, char **text, size_t *n_bytes, exitlm_error *error) {
    return xl_text_of_messages(d->model, d->messages, d->n_messages, true, text, n_bytes, error);
}

static void remember(xl_dialog *d, char *text, size_t n_bytes) {
    free(d->text);
    d->text = text;
    d->text_bytes = n_bytes;
}

exitlm_status xl_dialog_prompt(xl_dialog *d, const int32_t **ids, size_t *n, exitlm_error *error) {
    char *text = NULL;
    size_t n_bytes = 0;
    exitlm_status status = render(d, &text, &n_bytes, error);
    if (status == EXITLM_OK)
        status =
            tokenize(d, text, n_bytes, EXITLM_ADD_SPECIAL | EXITLM_PARSE_SPECIAL, ids, n, error);
    if (text) remember(d, text, n_bytes);
    return status;
}

exitlm_status xl_dialog_text(xl_dialog *d, const int32_t *ids, size_t n, char **text,
                             size_t *n_bytes, exitlm_error *error) {
    exitlm_status status = exitlm_detokenize(d->model, ids, n, NULL, 0, n_bytes, error);
    if (status != EXITLM_OK) return status;
    *text = calloc(*n_bytes + 1, 1);
    if (!*text) return no_memory(error);
    return exitlm_detokenize(d->model, ids, n, *text, *n_bytes, n_bytes, error);
}

/* `text` goes on after what the session holds, with a special token, so that nothing merges
 * across the border. */
static bool goes_on(const xl_dialog *d, const char *text, size_t n_bytes, const char *reply,
                    size_t reply_bytes) {
    size_t known = d->text_bytes + reply_bytes, n = 0;
    int32_t id = -1;
    if (n_bytes <= known || memcmp(text, d->text, d->text_bytes) != 0 ||
        memcmp(text + d->text_bytes, reply, reply_bytes) != 0)
        return false;
    size_t peek = n_bytes - known < 64 ? n_bytes - known : 64;
    if (exitlm_tokenize(d->model, text + known, peek, EXITLM_PARSE_SPECIAL, &id, 1, &n, NULL) !=
            EXITLM_OK ||
        n == 0)
        return false;
    return (xl_token_attributes(d->model->tokenizer, id) & XL_TOKEN_CONTROL) != 0;
}

exitlm_status xl_dialog_next(xl_dialog *d, const int32_t *reply, size_t n_reply, const char *user,
                             size_t user_bytes, const int32_t **ids, size_t *n,
                             exitlm_error *error) {
    char *said = NULL, *text = NULL;
    size_t said_bytes = 0, n_bytes = 0;
    *n = 0;
    exitlm_status status = xl_dialog_text(d, reply, n_reply, &said, &said_bytes, error);
    if (status == EXITLM_OK) status = xl_dialog_add(d, "assistant", said, said_bytes, error);
    if (status == EXITLM_OK) status = xl_dialog_add(d, "user", user, user_bytes, error);
    if (status == EXITLM_OK) status = render(d, &text, &n_bytes, error);
    if (status == EXITLM_OK && goes_on(d, text, n_bytes, said, said_bytes)) {
        size_t known = d->text_bytes + said_bytes;
        status = tokenize(d, text + known, n_bytes - known, EXITLM_PARSE_SPECIAL, ids, n, error);
    }
    free(said);
    if (text) remember(d, text, n_bytes);
    return status;
}

exitlm_status xl_dialog_copy_text(xl_dialog *to, const xl_dialog *from, exitlm_error *error) {
    if (!from->text) return EXITLM_OK;
    char *text = calloc(from->text_bytes + 1, 1);
    if (!text) return no_memory(error);
    memcpy(text, from->text, from->text_bytes);
    remember(to, text, from->text_bytes);
    return EXITLM_OK;
}

/* ---- Texts ---- */
bool xl_model_chats(const exitlm_model *model) {
    size_t n = 0;
    exitlm_model_chat_template(model, &n);
    return n > 0;
}

exitlm_status xl_text_start(const exitlm_model *model, int32_t **ids, size_t *n,
                            exitlm_error *error) {
    xl_tokenizer_info info;
    exitlm_status status = xl_ids_of_text(model, "", 0, EXITLM_ADD_SPECIAL, ids, n, error);
    if (status != EXITLM_OK || *n) return status;
    xl_tokenizer_describe(model->tokenizer, &info);
    (*ids)[0] = info.bos >= 0 ? info.bos : info.eos; /* what ends a text begins the next one */
    *n = (*ids)[0] >= 0;
    return *n ? EXITLM_OK
              : xl_fail(error, EXITLM_UNSUPPORTED,
                        "this model has no token that a text begins with: give texts with --data");
}

uint32_t xl_opening_tokens(uint64_t *random) { return 4 + (uint32_t)(xl_random(random) % 28); }

/* ---- The frame of a user's turn ---- */
exitlm_status xl_user_frame_create(xl_user_frame *frame, const exitlm_model *model,
                                   exitlm_error *error) {
    static const char first[] = "@@first@@", answer[] = "@@answer@@", second[] = "@@second@@";
    const exitlm_message messages[3] = {{"user", first}, {"assistant", answer}, {"user", second}};
    size_t n_bytes;
    *frame = (xl_user_frame){0};
    exitlm_status status =
        xl_text_of_messages(model, messages, 3, false, &frame->memory, &n_bytes, error);
    char *at_first = status == EXITLM_OK ? strstr(frame->memory, first) : NULL,
         *at_answer = at_first ? strstr(at_first, answer) : NULL;
    char *at_second = at_answer ? strstr(at_answer, second) : NULL;
    if (!at_second) {
        xl_user_frame_free(frame);
        return status != EXITLM_OK ? status
                                   : xl_fail(error, EXITLM_UNSUPPORTED,
                                             "this chat template has no place for a user's turn");
    }
    *at_first = *at_second = 0;
    frame->open = frame->memory;
    frame->between = at_answer + sizeof answer - 1;
    return EXITLM_OK;
}

void xl_user_frame_free(xl_user_frame *frame) {
    free(frame->memory);
    *frame = (xl_user_frame){0};
}
