/* User turns that the model writes. See invent.h. */
#include "invent.h"

#include <stdlib.h>
#include <string.h>

#include "dialog.h"
#include "rollout.h"
#include "toplist.h"

#define TALKS 16
#define MOST_TOKENS 100

typedef struct inventor {
    xl_dataset *set;
    const int32_t *prompt;
    size_t n_prompt;
    xl_dialog dialog;
    bool chats;
    uint64_t seed, random[TALKS];
    uint32_t most[TALKS]; /* tokens of what is being written */
    uint32_t next, n;
    xl_talk *talks;
    const xl_observer *observer;
} inventor;

static exitlm_status begin(void *user, xl_talk *talk, const int32_t **ids, size_t *n,
                           exitlm_error *error) {
    inventor *v = user;
    (void)error;
    *n = 0;
    if (v->set->n >= v->n || v->next >= 4 * v->n) return EXITLM_OK;
    const size_t i = (size_t)(talk - v->talks);
    v->random[i] = v->seed ^ (uint64_t)++v->next << 20;
    v->most[i] = v->chats ? MOST_TOKENS : xl_opening_tokens(&v->random[i]);
    *ids = v->prompt;
    *n = v->n_prompt;
    return EXITLM_OK;
}

static exitlm_status choose(void *user, xl_talk *talk, int32_t *id, exitlm_error *error) {
    inventor *v = user;
    xl_toplist top;
    (void)error;
    if (talk->index >= v->most[talk - v->talks]) return EXITLM_OK;
    xl_toplist_find(talk->session, &top);
    *id = xl_toplist_draw(&top, 1, &v->random[talk - v->talks]);
    if (xl_token_is_eog(talk->session->run.model->tokenizer, *id)) *id = -1;
    return EXITLM_OK;
}

static void show(const inventor *v, bool ended) {
    const xl_progress now = {
        .stage = XL_STAGE_INVENT, .done = (double)v->set->n, .total = v->n, .ended = ended};
    xl_show(v->observer, &now);
}

static exitlm_status more(void *user, xl_talk *talk, const int32_t **ids, size_t *n,
                          exitlm_error *error) {
    inventor *v = user;
    const exitlm_session *s = talk->session;
    char *text = NULL;
    size_t n_bytes = 0;
    (void)ids;
    *n = 0;
    exitlm_status status = xl_dialog_text(&v->dialog, s->stair.ids + talk->reply_pos,
                                          s->stair.n - talk->reply_pos, &text, &n_bytes, error);
    const char *const texts[1] = {text};
    if (status == EXITLM_OK && strspn(text, " \t\r\n") < n_bytes && v->set->n < v->n &&
        !xl_dataset_add(v->set, v->chats ? XL_DATASET_TURNS : XL_DATASET_PROMPT, XL_DATASET_ANY,
                        NULL, texts, 1))
        status = xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a conversation");
    free(text);
    show(v, false);
    return status;
}

static bool step(void *user) {
    const inventor *v = user;
    return !xl_stopped(v->observer);
}

static exitlm_status prompt_of(const exitlm_model *model, int32_t **ids, size_t *n,
                               exitlm_error *error) {
    xl_user_frame frame;
    if (!xl_model_chats(model)) return xl_text_start(model, ids, n, error);
    exitlm_status status = xl_user_frame_create(&frame, model, error);
    if (status != EXITLM_OK) return status;
    status = xl_ids_of_text(model, frame.open, strlen(frame.open),
                            EXITLM_ADD_SPECIAL | EXITLM_PARSE_SPECIAL, ids, n, error);
    xl_user_frame_free(&frame);
    return status;
}

exitlm_status xl_invent(const exitlm_model *model, const char *kernel, uint32_t n, uint64_t seed,
                        const xl_observer *observer, xl_dataset *set, exitlm_error *error) {
    int32_t *prompt = NULL;
    inventor v = {
        .set = set, .chats = xl_model_chats(model), .seed = seed, .n = n, .observer = observer};
    const exitlm_session_options options = {.context_tokens = 512, .kernel = kernel};
    const xl_rollout rollout = {&v, begin, choose, more, step};
    exitlm_status status = prompt_of(model, &prompt, &v.n_prompt, error);
    v.prompt = prompt;
    xl_dialog_init(&v.dialog, model);
    if (status == EXITLM_OK)
        status = xl_talks_create(&v.talks, TALKS, model, &options, NULL, 0, error);
    if (status == EXITLM_OK) status = xl_rollout_run(&rollout, v.talks, TALKS, error);
    show(&v, true);
    xl_talks_free(v.talks, TALKS);
    xl_dialog_free(&v.dialog);
    free(prompt);
    if (status != EXITLM_OK) return status;
    if (xl_stopped(observer)) return xl_fail(error, EXITLM_IO, "stopped");
    if (set->n == 0)
        return xl_fail(error, EXITLM_UNSUPPORTED,
                       "the model wrote nothing to go on with: give conversations with --data");
    return EXITLM_OK;
}
