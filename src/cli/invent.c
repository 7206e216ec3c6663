/* User turns that the model writes. See invent.h. */
#include "invent.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "train/dialog.h"
#include "train/rollout.h"
#include "signals.h"
#include "toplist.h"

#define TALKS 16
#define MOST_TOKENS 100

typedef struct inventor {
    dataset *set;
    const int32_t *prompt;
    size_t n_prompt;
    xl_dialog dialog;
    uint64_t seed, random[TALKS];
    uint32_t next, n;
    xl_talk *talks;
    bool quiet;
} inventor;

static exitlm_status begin(void *user, xl_talk *talk, const int32_t **ids, size_t *n, exitlm_error *error) {
    inventor *v = user;
    (void)error;
    *n = 0;
    if (v->set->n >= v->n || v->next >= 4 * v->n) return EXITLM_OK;
    v->random[talk - v->talks] = v->seed ^ (uint64_t)++v->next << 20;
    *ids = v->prompt;
    *n = v->n_prompt;
    return EXITLM_OK;
}

static exitlm_status choose(void *user, xl_talk *talk, int32_t *id, exitlm_error *error) {
    inventor *v = user;
    toplist top;
    (void)error;
    if (talk->index >= MOST_TOKENS) return EXITLM_OK;
    toplist_find(talk->session, &top);
    *id = toplist_draw(&top, 1, &v->random[talk - v->talks]);
    if (xl_token_is_eog(talk->session->run.model->tokenizer, *id)) *id = -1;
    return EXITLM_OK;
}

static exitlm_status more(void *user, xl_talk *talk, const int32_t **ids, size_t *n, exitlm_error *error) {
    inventor *v = user;
    const exitlm_session *s = talk->session;
    char *text = NULL;
    size_t n_bytes = 0, capacity = 0;
    (void)ids;
    *n = 0;
    exitlm_status status = xl_dialog_text(&v->dialog, s->stair.ids + talk->reply_pos, s->stair.n - talk->reply_pos, &text, &n_bytes, &capacity, error);
    const char *const texts[1] = {text};
    if (status == EXITLM_OK && strspn(text, " \t\r\n") < n_bytes && v->set->n < v->n && !dataset_add(v->set, DATASET_TURNS, DATASET_ANY, NULL, texts, 1))
        status = xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a conversation");
    if (text) xl_free(&v->dialog.allocator, text, capacity, 1);
    if (!v->quiet) fprintf(stderr, "\rinventing  %zu of %u user turns ", v->set->n, v->n);
    return status;
}

static bool step(void *user) {
    (void)user;
    return !cli_interrupted();
}

int invent_conversations(const cli_engine *engine, const char *kernel, uint32_t n, uint64_t seed, bool quiet, dataset *set) {
    exitlm_error error;
    xl_user_frame frame;
    int32_t *prompt = NULL;
    inventor v = {.set = set, .seed = seed, .n = n, .quiet = quiet};
    if (xl_user_frame_create(&frame, engine->model, NULL, &error) != EXITLM_OK) return cli_report(&error, NULL);
    int status = cli_tokenize(engine->model, frame.open, strlen(frame.open), EXITLM_ADD_SPECIAL | EXITLM_PARSE_SPECIAL, &prompt, &v.n_prompt);
    exitlm_session_options options = {.context_tokens = 512, .kernel = kernel};
    const xl_rollout rollout = {&v, begin, choose, more, step};
    v.prompt = prompt;
    xl_dialog_init(&v.dialog, engine->model, NULL);
    if (status == CLI_OK && (xl_talks_create(&v.talks, TALKS, engine->model, &options, NULL, 0, &error) != EXITLM_OK ||
                             xl_rollout_run(&rollout, v.talks, TALKS, &error) != EXITLM_OK))
        status = cli_report(&error, NULL);
    if (!quiet) fputc('\n', stderr);
    xl_talks_free(v.talks, TALKS);
    xl_dialog_free(&v.dialog);
    xl_user_frame_free(&frame, NULL);
    free(prompt);
    if (status == CLI_OK && cli_interrupted()) return cli_fail("stopped");
    return status == CLI_OK && set->n == 0 ? cli_fail("the model wrote no user turn: give conversations with --data") : status;
}
