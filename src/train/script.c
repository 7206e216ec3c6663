/* One item of a data set as a conversation. See script.h. */
#include "script.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"

void xl_script_init(xl_script *s, const exitlm_model *model) {
    *s = (xl_script){0};
    xl_dialog_init(&s->dialog, model);
}

void xl_script_free(xl_script *s) {
    xl_dialog_free(&s->dialog);
    free(s->forced);
    s->forced = NULL;
}

static exitlm_status tokenize(xl_script *s, const char *text, unsigned flags, exitlm_error *error) {
    size_t n = 0;
    free(s->forced);
    s->n_forced = 0;
    exitlm_status status =
        xl_ids_of_text(s->dialog.model, text, strlen(text), flags, &s->forced, &n, error);
    if (status == EXITLM_OK) s->n_forced = n;
    return status;
}

static bool role_is(const xl_script *s, uint32_t turn, const char *role) {
    return turn < s->item->n && s->item->roles[turn] && strcmp(s->item->roles[turn], role) == 0;
}

static exitlm_status add(xl_script *s, const char *role, uint32_t turn, exitlm_error *error) {
    return xl_dialog_add(&s->dialog, role, s->item->texts[turn], strlen(s->item->texts[turn]),
                         error);
}

exitlm_status xl_script_begin(xl_script *s, const xl_dataset_item *item, const int32_t **ids,
                              size_t *n, exitlm_error *error) {
    exitlm_status status = EXITLM_OK;
    xl_dialog_clear(&s->dialog);
    s->item = item;
    s->next_turn = 0;
    s->n_forced = 0;
    s->follows = !xl_dataset_answered(item);
    *n = 0;
    if (item->kind == XL_DATASET_TEXT || item->kind == XL_DATASET_PROMPT) {
        status = tokenize(s, item->texts[0], EXITLM_ADD_SPECIAL, error);
        s->next_turn = 1;
        *ids = s->forced;
        /* a text's first token is the prompt of the others */
        *n = s->follows ? s->n_forced > 1 : s->n_forced;
        return status;
    }
    if (item->kind == XL_DATASET_TURNS) status = add(s, "user", s->next_turn++, error);
    while (status == EXITLM_OK && s->follows && s->next_turn < item->n &&
           !role_is(s, s->next_turn, "assistant")) {
        status = add(s, item->roles[s->next_turn], s->next_turn, error);
        s->next_turn++;
    }
    if (status == EXITLM_OK && s->follows)
        status = tokenize(s, item->texts[s->next_turn++], 0, error);
    return status == EXITLM_OK ? xl_dialog_prompt(&s->dialog, ids, n, error) : status;
}

bool xl_script_token(const xl_script *s, uint32_t index, int32_t *id) {
    if (!s->follows) return false;
    size_t at = index + (size_t)(s->item->kind == XL_DATASET_TEXT);
    *id = at < s->n_forced ? s->forced[at] : -1;
    return true;
}

bool xl_script_goes_on(const xl_script *s) {
    if (s->item->kind == XL_DATASET_TEXT || s->next_turn >= s->item->n) return false;
    return s->item->kind == XL_DATASET_TURNS ||
           (role_is(s, s->next_turn, "user") && role_is(s, s->next_turn + 1, "assistant"));
}

exitlm_status xl_script_next(xl_script *s, const int32_t *reply, size_t n_reply,
                             const int32_t **ids, size_t *n, exitlm_error *error) {
    *n = 0;
    if (!xl_script_goes_on(s)) return EXITLM_OK;
    const char *text = s->item->texts[s->next_turn++];
    exitlm_status status =
        xl_dialog_next(&s->dialog, reply, n_reply, text, strlen(text), ids, n, error);
    if (status == EXITLM_OK && s->follows)
        status = tokenize(s, s->item->texts[s->next_turn++], 0, error);
    return status;
}

exitlm_status xl_script_copy(xl_script *to, const xl_script *from, exitlm_error *error) {
    exitlm_status status = EXITLM_OK;
    xl_dialog_clear(&to->dialog);
    free(to->forced);
    to->forced = NULL;
    to->n_forced = 0;
    to->item = from->item;
    to->next_turn = from->next_turn;
    to->follows = from->follows;
    for (size_t i = 0; i < from->dialog.n_messages && status == EXITLM_OK; i++)
        status = xl_dialog_add(&to->dialog, from->dialog.messages[i].role,
                               from->dialog.messages[i].content,
                               strlen(from->dialog.messages[i].content), error);
    if (status == EXITLM_OK) status = xl_dialog_copy_text(&to->dialog, &from->dialog, error);
    if (status != EXITLM_OK || !from->n_forced) return status;
    to->forced = malloc(from->n_forced * sizeof *to->forced);
    if (!to->forced) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a text");
    memcpy(to->forced, from->forced, from->n_forced * sizeof *to->forced);
    to->n_forced = from->n_forced;
    return status;
}
