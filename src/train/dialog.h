/* A conversation turn by turn as token ids: what to append to a session so that its generated
 * ids are kept. */
#ifndef XL_DIALOG_H
#define XL_DIALOG_H
#include "reply/session.h"

typedef struct xl_dialog {
    exitlm_allocator allocator;
    const exitlm_model *model;
    exitlm_message *messages; /* texts are owned */
    size_t n_messages, messages_capacity;
    char *text; /* what the session holds as text, the reply under way excluded */
    size_t text_bytes;
    int32_t *ids; /* of the last call */
    size_t ids_capacity;
} xl_dialog;

void xl_dialog_init(xl_dialog *dialog, const exitlm_model *model,
                    const exitlm_allocator *allocator);
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

/* Text of ids: fresh memory of *capacity bytes from the dialog's allocator, NUL-terminated;
 * *n_bytes without the NUL. */
exitlm_status xl_dialog_text(xl_dialog *dialog, const int32_t *ids, size_t n, char **text,
                             size_t *n_bytes, size_t *capacity, exitlm_error *error);

/* Makes `to` remember the same session text as `from` (its messages are the caller's business). */
exitlm_status xl_dialog_copy_text(xl_dialog *to, const xl_dialog *from, exitlm_error *error);

/* What stands before the user's first message, and what between the end of one user's message and
 * the beginning of the next if the answer between is left out: with these a model invents user
 * turns. Pieces of xl_dialog_user_frame; *frame is fresh memory of
 * *capacity bytes from the allocator. UNSUPPORTED where the template has no such pieces. */
typedef struct xl_user_frame {
    char *memory;
    size_t memory_bytes;
    const char *open, *between; /* NUL-terminated */
} xl_user_frame;
exitlm_status xl_user_frame_create(xl_user_frame *frame, const exitlm_model *model,
                                   const exitlm_allocator *allocator, exitlm_error *error);
void xl_user_frame_free(xl_user_frame *frame, const exitlm_allocator *allocator);

#endif
