/* Conversations side by side: tokens and exits of the chain on full passes are those of the
 * engine's own mode EXIT with exact K/V, and a snapshot goes on as the original would. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "run/snapshot.h"
#include "train/rollout.h"
#include "tiny.h"

int failures;

enum { CONVERSATIONS = 7, REPLY = 40, TALKS = 3 };

typedef struct script {
    int32_t prompt[CONVERSATIONS][24];
    size_t n_prompt[CONVERSATIONS];
    const float *threshold;
    int32_t ids[CONVERSATIONS][REPLY], heads[CONVERSATIONS][REPLY];
    uint32_t n[CONVERSATIONS];
    size_t next;
    xl_snapshot *snapshot; /* of conversation `forked` after 5 tokens */
    size_t forked;
    bool resume; /* begin goes on from the snapshot */
} script;

static exitlm_status begin(void *user, xl_talk *talk, const int32_t **ids, size_t *n,
                           exitlm_error *error) {
    script *s = user;
    *n = 0;
    if (s->resume) {
        s->resume = false;
        talk->job = s->forked;
        talk->index = 6;
        talk->reply_pos = (uint32_t)s->n_prompt[s->forked];
        talk->resume_id = s->ids[s->forked][5];
        s->n[s->forked] = 6;
        s->next = CONVERSATIONS;
        return xl_snapshot_restore(s->snapshot, &talk->session->stair, error);
    }
    if (s->next == CONVERSATIONS) return EXITLM_OK;
    talk->job = s->next++;
    *ids = s->prompt[talk->job];
    *n = s->n_prompt[talk->job];
    return EXITLM_OK;
}

/* The rule of mode EXIT on the watched position: which heads are asked, and which one exits. The
 * first token of a reply follows a prompt that went through all layers. */
static exitlm_status chain_check(xl_talk *talk, const float *threshold, xl_check *checks,
                                 bool *asked, int32_t *head, exitlm_error *error) {
    exitlm_session *s = talk->session;
    const exitlm_heads *heads = s->heads;
    const uint32_t pos = s->stair.n - 1;
    /* as the chain finds it: a prompt is through */
    const uint32_t depth = talk->index == 0 ? s->run.model->config.n_layers : 0;
    const xl_check *previous = NULL;
    *head = -1;
    memset(asked, 0, heads->n_heads * sizeof *asked);
    for (uint32_t h = 0; h < heads->n_heads; h++) {
        if (!xl_head_is_asked(&heads->head[h], threshold[h], depth)) continue;
        exitlm_status status =
            xl_exit_check(s->exits, h, pos, xl_watched(talk, h), previous, NULL, &checks[h], error);
        if (status != EXITLM_OK) return status;
        asked[h] = true;
        if (xl_head_answers(&checks[h], threshold[h])) {
            *head = (int32_t)h;
            return EXITLM_OK;
        }
        previous = &checks[h];
    }
    return EXITLM_OK;
}

static exitlm_status choose(void *user, xl_talk *talk, int32_t *id, exitlm_error *error) {
    script *s = user;
    exitlm_session *session = talk->session;
    xl_check checks[EXITLM_MAX_HEADS];
    bool asked[EXITLM_MAX_HEADS];
    int32_t head;
    if (talk->index >= REPLY) return EXITLM_OK;
    const int32_t full = xl_logits_argmax(&session->logits, xl_logits_row(&session->logits, 0));
    exitlm_status status = chain_check(talk, s->threshold, checks, asked, &head, error);
    if (status != EXITLM_OK) return status;
    if (talk->index == 5 && talk->job == s->forked && !s->snapshot)
        s->snapshot = xl_snapshot_take(&session->stair);
    *id = head < 0 ? full : checks[head].id;
    if (xl_token_is_eog(session->run.model->tokenizer, *id)) {
        *id = -1;
        return EXITLM_OK;
    }
    s->ids[talk->job][s->n[talk->job]] = *id;
    s->heads[talk->job][s->n[talk->job]++] = head;
    return EXITLM_OK;
}

static exitlm_status more(void *user, xl_talk *talk, const int32_t **ids, size_t *n,
                          exitlm_error *error) {
    (void)user, (void)talk, (void)ids, (void)error;
    *n = 0;
    return EXITLM_OK;
}

static void compare(const exitlm_model *model, const script *s, size_t c, size_t *exits) {
    exitlm_session *session = tiny_session(model, NULL);
    exitlm_generate_options options;
    static tiny_reply reply;
    exitlm_generate_defaults(&options);
    options.mode = EXITLM_MODE_EXIT;
    options.kv = EXITLM_POLICY_EXACT;
    options.thresholds = s->threshold;
    options.max_tokens = REPLY;
    CHECK_OK(exitlm_session_start(session, s->prompt[c], s->n_prompt[c], &options, &error_));
    tiny_run(session, &reply);
    CHECK(reply.n == s->n[c], "conversation %zu: %u tokens, the engine has %u", c, s->n[c],
          reply.n);
    for (uint32_t i = 0; i < reply.n && i < s->n[c]; i++) {
        CHECK(reply.ids[i] == s->ids[c][i], "conversation %zu, token %u: %d, the engine has %d", c,
              i, s->ids[c][i], reply.ids[i]);
        CHECK(reply.heads[i] == s->heads[c][i],
              "conversation %zu, token %u: head %d, the engine has %d", c, i, s->heads[c][i],
              reply.heads[i]);
        *exits += reply.heads[i] >= 0;
    }
    exitlm_session_free(session);
}

static void make_prompts(script *s, uint32_t vocab) {
    uint64_t state = 77;
    for (size_t c = 0; c < CONVERSATIONS; c++) {
        s->n_prompt[c] = 3 + c * 3;
        for (size_t i = 0; i < s->n_prompt[c]; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            s->prompt[c][i] = (int32_t)((state >> 33) % vocab);
        }
    }
}

int main(void) {
    const float thresholds[3][EXITLM_MAX_HEADS] = {{0.9f, 0.9f, 0.95f}, {0, 0.97f, 0.9f}, {0}};
    exitlm_model *plain = tiny_load(NULL);
    const uint32_t layers = plain->config.n_layers, at[3] = {layers / 2, layers - 1, layers};
    const uint32_t n_heads = at[0] < at[1] ? 3 : 2, *chain = n_heads == 3 ? at : at + 1;
    exitlm_heads *heads = tiny_heads(plain, chain, n_heads, 64, 5);
    exitlm_model_free(plain);
    exitlm_model *model = tiny_load(heads);
    size_t exits = 0;
    for (int t = 0; t < 3; t++) {
        script *s = calloc(1, sizeof *s);
        xl_talk *talks;
        exitlm_session_options options = {.context_tokens = 128};
        const xl_rollout rollout = {s, begin, choose, more, NULL};
        make_prompts(s, model->config.vocab);
        s->threshold = thresholds[t];
        s->forked = 4;
        CHECK_OK(xl_talks_create(&talks, TALKS, model, &options, chain, n_heads, &error_));
        CHECK_OK(xl_rollout_run(&rollout, talks, TALKS, &error_));
        for (size_t c = 0; c < CONVERSATIONS; c++) compare(model, s, c, &exits);
        if (s->snapshot) {
            script *again = malloc(sizeof *again);
            memcpy(again, s, sizeof *s);
            again->resume = true;
            const xl_rollout second = {again, begin, choose, more, NULL};
            CHECK_OK(xl_rollout_run(&second, talks, 1, &error_));
            CHECK(again->n[4] == s->n[4] &&
                      memcmp(again->ids[4], s->ids[4], s->n[4] * sizeof(int32_t)) == 0,
                  "a snapshot goes on in another way");
            free(again);
        }
        xl_snapshot_free(s->snapshot);
        xl_talks_free(talks, TALKS);
        free(s);
    }
    CHECK(exits > 20, "only %zu exits: the test compares nothing", exits);
    exitlm_model_free(model);
    exitlm_heads_free(heads);
    if (!failures) printf("rollout: ok, %zu exits\n", exits);
    return failures != 0;
}
