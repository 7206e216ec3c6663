/* One item of a data set as a conversation in a session: which ids come when. Turns are answered by
 * the model, and it goes on with the beginning of a text; the assistant's messages of a chat as it
 * stands, and plain text, are followed token by token. */
#ifndef XL_SCRIPT_H
#define XL_SCRIPT_H
#include "dataset.h"
#include "dialog.h"

typedef struct xl_script {
    xl_dialog dialog;
    const xl_dataset_item *item;
    uint32_t next_turn; /* of the item's turns or messages */
    int32_t *forced;    /* what the reply must be, or the text */
    size_t n_forced;
    bool follows; /* tokens come from `forced` */
} xl_script;

void xl_script_init(xl_script *s, const exitlm_model *model);
void xl_script_free(xl_script *s);
/* A new conversation: the ids of its first prompt. *n 0: there is none (an empty text). */
exitlm_status xl_script_begin(xl_script *s, const xl_dataset_item *item, const int32_t **ids,
                              size_t *n, exitlm_error *error);
/* Does the data say what comes as token `index` of the reply? *id: that token, -1 at its end.
 * False: the model chooses. */
bool xl_script_token(const xl_script *s, uint32_t index, int32_t *id);
/* Does the conversation go on after this reply? */
bool xl_script_goes_on(const xl_script *s);
/* The reply has ended: ids that continue the session. *n 0: the conversation is over. */
exitlm_status xl_script_next(xl_script *s, const int32_t *reply, size_t n_reply,
                             const int32_t **ids, size_t *n, exitlm_error *error);
/* Another script at the same place of the same conversation. */
exitlm_status xl_script_copy(xl_script *to, const xl_script *from, exitlm_error *error);

#endif
