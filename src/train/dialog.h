/* A conversation turn by turn as token ids: what to append to a session so that its generated
 * ids are kept. */
#ifndef XL_DIALOG_H
#define XL_DIALOG_H
#include "reply/session.h"

typedef struct xl_dialog {
    const exitlm_model *model;
    exitlm_message *messages; /* texts are owned */
    size_t n_messages, messages_capacity;
    char *text; /* what the session holds as text, the reply under way excluded */
    size_t text_bytes;
    int32_t *ids; /* of the last call */
} xl_dialog;

/* Fresh memory: the ids of a text (flags as for exitlm_tokenize), the prompt of messages. `open`:
 * the assistant is to go on. */
exitlm_status xl_ids_of_text(const exitlm_model *model, const char *text, size_t n_bytes,
                             unsigned flags, int32_t **ids, size_t *n, exitlm_error *error);
exitlm_status xl_text_of_messages(const exitlm_model *model, const exitlm_message *messages,
                                  size_t n, bool open, char **text, size_t *n_bytes,
                                  exitlm_error *error);

void xl_dialog_init(xl_dialog *dialog, const exitlm_model *model);
void xl_dialog_free(xl_dialog *dialog); /* leaves it as after init */
/* a new conversation; memory is kept where that is simple */
void xl_dialog_clear(xl_dialog *dialog);

/* Adds a message ("system", "user", "assistant"); its text is copied. */
exitlm_status xl_dialog_add(xl_dialog *dialog, const char *role, const char *text, size_t n_bytes,
                            exitlm_error *error);

/* Ids of the prompt of all messages so far, for an empty session. *ids is valid until the next
 * call. */
exitlm_status xl_dialog_prompt(xl_dialog *dialog, const int32_t **ids, size_t *n,
                               exitlm_error *error);

/* After the reply ids[0 … n_reply-1] to that prompt: adds it as the assistant's message and `user`
 * as the next one. Ids to append to the session, which holds the prompt and the reply. *n 0: the
 * template renders the reply in other words (trimmed, say): start afresh with xl_dialog_prompt. */
exitlm_status xl_dialog_next(xl_dialog *dialog, const int32_t *reply, size_t n_reply,
                             const char *user, size_t user_bytes, const int32_t **ids, size_t *n,
                             exitlm_error *error);

/* Text of ids: fresh memory, NUL-terminated; *n_bytes without the NUL. */
exitlm_status xl_dialog_text(xl_dialog *dialog, const int32_t *ids, size_t n, char **text,
                             size_t *n_bytes, exitlm_error *error);

/* Makes `to` remember the same session text as `from` (its messages are the caller's business). */
exitlm_status xl_dialog_copy_text(xl_dialog *to, const xl_dialog *from, exitlm_error *error);

/* Has the model a chat template? One that has none goes on with texts. */
bool xl_model_chats(const exitlm_model *model);
/* The ids, fresh memory, after which such a model begins a text. */
exitlm_status xl_text_start(const exitlm_model *model, int32_t **ids, size_t *n,
                            exitlm_error *error);
/* How many tokens it then draws that stand for what a user gives it to go on with. */
uint32_t xl_opening_tokens(uint64_t *random);

/* What stands before the user's first message, and what between the end of one user's message and
 * the beginning of the next if the answer between is left out: with these a model invents user
 * turns. UNSUPPORTED where the template has no such pieces. */
typedef struct xl_user_frame {
    char *memory;
    const char *open, *between; /* NUL-terminated */
} xl_user_frame;
exitlm_status xl_user_frame_create(xl_user_frame *frame, const exitlm_model *model,
                                   exitlm_error *error);
void xl_user_frame_free(xl_user_frame *frame);

#endif
