/* Conversations under settings whose K/V is not exact: each is written as mode EXIT writes it,
 * and read by the full model. See measure.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "measure_parts.h"
#include "script.h"

/* What was decided at one position of a reply. */
typedef struct said {
    int32_t id, head;
    int32_t emitted; /* -1: the reply ends here */
} said;

typedef struct writing {
    xl_measuring *all;
    exitlm_session *writer, *reader; /* the exits' contexts, and the same ids with exact K/V */
    xl_script script;
    said *said; /* [context_tokens] */
    size_t item, setting;
    uint32_t reply_pos, n_said;
} writing;

static xl_measure_sum *sum_of(const writing *w) {
    return &w->all->result->sums[w->item * w->all->plan->n_settings + w->setting];
}

/* ---- Writing ---- */
static exitlm_status write_prompt(writing *w, const int32_t *ids, size_t n, bool *fits,
                                  exitlm_error *error) {
    exitlm_session *s = w->writer;
    *fits = n < s->stair.ctx && s->stair.n + n < s->stair.ctx;
    if (!*fits) return EXITLM_OK;
    exitlm_status status = xl_stair_append(&s->stair, ids, n, error);
    s->stair.kv_only_until = s->stair.n - 1;
    w->reply_pos = s->stair.n;
    w->n_said = 0;
    return status == EXITLM_OK ? xl_stair_advance(&s->stair, s->run.model->config.n_layers, error)
                               : status;
}

/* The chain of mode EXIT on the last position (generate.c). */
static exitlm_status decide(writing *w, said *d, exitlm_error *error) {
    exitlm_session *s = w->writer;
    const exitlm_heads *heads = s->heads;
    const xl_measure_plan *plan = w->all->plan;
    const xl_measure_setting *setting = &plan->settings[w->setting];
    const uint32_t pos = s->stair.n - 1, layers = s->run.model->config.n_layers;
    xl_check check, previous;
    const xl_check *before = NULL;
    exitlm_status status = EXITLM_OK;
    for (uint32_t h = 0; h < heads->n_heads && status == EXITLM_OK; h++) {
        const float threshold =
            xl_threshold_of(heads, setting->threshold, w->n_said == 0 ? setting->first : 0, h);
        if (!xl_head_is_asked(&heads->head[h], threshold, s->stair.depth[pos])) continue;
        status = xl_stair_advance(&s->stair, heads->head[h].layer, error);
        if (status == EXITLM_OK && plan->kv == EXITLM_POLICY_MAPS)
            xl_stair_map_waiting(&s->stair, heads, h);
        if (status == EXITLM_OK)
            status = xl_exit_check(s->exits, h, pos, xl_hidden(&s->stair, pos), before, NULL,
                                   &check, error);
        if (status != EXITLM_OK) return status;
        if (xl_head_answers(&check, threshold)) {
            *d = (said){.id = check.argmax, .head = (int32_t)h};
            return xl_stair_exit(&s->stair, heads, pos, h, plan->kv, error);
        }
        previous = check;
        before = &previous;
    }
    if (status == EXITLM_OK) status = xl_stair_advance(&s->stair, layers, error);
    if (status == EXITLM_OK) status = xl_logits_compute(&s->logits, pos, 1, 0, error);
    if (status == EXITLM_OK)
        *d = (said){.id = xl_logits_argmax(&s->logits, s->logits.row), .head = -1};
    return status;
}

static void count_depth(writing *w, const said *d, uint64_t macs) {
    xl_measure_sum *sum = sum_of(w);
    const uint32_t layers = w->writer->run.model->config.n_layers;
    sum->depth += d->head < 0 ? 1 : (double)w->writer->heads->head[d->head].layer / layers;
    sum->work += (double)macs / w->all->token_macs;
    /* the prompt's last position */
    if (w->n_said == 0) sum->work += layers * w->all->layer_macs / w->all->token_macs;
}

/* *ended: the reply's last decision has been made. */
static exitlm_status write_token(writing *w, bool *ended, exitlm_error *error) {
    exitlm_session *s = w->writer;
    const uint64_t before = s->run.macs;
    said *d = &w->said[w->n_said];
    int32_t next = -1;
    const bool follows = xl_script_token(&w->script, w->n_said, &next);
    *ended = follows ? next < 0 : w->n_said >= w->all->plan->reply_tokens;
    if (*ended) return EXITLM_OK;
    exitlm_status status = decide(w, d, error);
    if (status != EXITLM_OK) return status;
    const bool stop = !follows && xl_token_is_eog(s->run.model->tokenizer, d->id);
    d->emitted = follows ? next : stop ? -1 : d->id;
    count_depth(w, d, s->run.macs - before);
    w->n_said++;
    *ended = stop || s->stair.n + 1 >= s->stair.ctx;
    return stop ? EXITLM_OK : xl_stair_append(&s->stair, &d->emitted, 1, error);
}

/* ---- Reading ---- */
/* A stop that both make is no token; one that only the exit makes is a wrong one. */
static void count(writing *w, uint32_t index, const float *logits) {
    xl_measure_sum *sum = sum_of(w);
    const said *d = &w->said[index];
    const int32_t full = xl_logits_argmax(&w->reader->logits, logits);
    const bool wrong = d->id != full;
    if (d->emitted < 0 && !wrong) return;
    xl_count_token(w->all->plan, sum, index, d->head, wrong,
                   xl_token_regret(w->reader, logits, full, d->id, NULL));
    if (d->emitted < 0) return;
    xl_softmax_stats stats;
    w->reader->run.kernels->softmax_stats(logits, w->reader->run.model->config.vocab, &stats);
    sum->loss += xl_token_loss(w->reader, logits, &stats, d->emitted);
    sum->repeats += xl_reply_repeats(w->writer->stair.ids + w->reply_pos, index, d->emitted);
}

static exitlm_status read_reply(writing *w, exitlm_error *error) {
    exitlm_session *s = w->reader;
    if (w->n_said == 0) return EXITLM_OK;
    exitlm_status status = EXITLM_OK;
    for (uint32_t i = 0, end = 0; i < w->n_said && status == EXITLM_OK; i += XL_MAX_VERIFY) {
        const uint32_t rows = w->n_said - i < XL_MAX_VERIFY ? w->n_said - i : XL_MAX_VERIFY;
        /* of so many positions the hidden states are kept; the decision i follows position
         * reply_pos - 1 + i */
        if (i == end) {
            end = w->n_said - i < XL_SCORED ? w->n_said : i + XL_SCORED;
            status = xl_stair_append(&s->stair, w->writer->stair.ids + s->stair.n,
                                     w->reply_pos - 1 + end - s->stair.n, error);
            s->stair.kv_only_until = w->reply_pos - 1;
            if (status == EXITLM_OK)
                status = xl_stair_advance(&s->stair, s->run.model->config.n_layers, error);
        }
        if (status == EXITLM_OK)
            status = xl_logits_compute(&s->logits, w->reply_pos - 1 + i, rows, 0, error);
        for (uint32_t r = 0; r < rows && status == EXITLM_OK; r++)
            count(w, i + r, s->logits.row + (size_t)r * s->logits.stride);
    }
    atomic_fetch_add_explicit(&w->all->tokens, w->n_said, memory_order_relaxed);
    return status;
}

/* ---- A conversation under one setting ---- */
/* Both sessions keep the prompt's positions, which are exact, for the next setting. */
static exitlm_status begin(writing *w, const int32_t **ids, size_t *n, exitlm_error *error) {
    exitlm_status status =
        xl_script_begin(&w->script, &w->all->plan->items[w->item], ids, n, error);
    uint32_t same = 0;
    while (same + 1 < *n && same < w->writer->stair.n &&
           w->writer->stair.ids[same] == (*ids)[same] &&
           w->writer->stair.made[same] == XL_MADE_EXACT)
        same++;
    if (same > w->reader->stair.n) same = w->reader->stair.n;
    same = xl_stair_truncate(&w->writer->stair, same);
    if (xl_stair_truncate(&w->reader->stair, same) < same)
        same = xl_stair_truncate(&w->writer->stair, 0);
    *ids += same;
    *n -= *n ? same : 0;
    return status;
}

static exitlm_status run_setting(writing *w, exitlm_error *error) {
    const int32_t *ids = NULL;
    size_t n = 0;
    exitlm_status status = begin(w, &ids, &n, error);
    while (status == EXITLM_OK && n) {
        bool fits, ended = false;
        status = write_prompt(w, ids, n, &fits, error);
        if (status != EXITLM_OK || !fits) break;
        while (status == EXITLM_OK && !ended) status = write_token(w, &ended, error);
        if (status == EXITLM_OK) status = read_reply(w, error);
        const exitlm_session *s = w->writer;
        if (status == EXITLM_OK)
            status = xl_script_next(&w->script, s->stair.ids + w->reply_pos,
                                    s->stair.n - w->reply_pos, &ids, &n, error);
    }
    return status;
}

static bool exits(const xl_measure_setting *setting, uint32_t n_heads) {
    for (uint32_t h = 0; h < n_heads; h++)
        if (setting->threshold[h] > 0) return true;
    return false;
}

static exitlm_status write_all(writing *w, bool leader, exitlm_error *error) {
    xl_measuring *all = w->all;
    const xl_measure_plan *plan = all->plan;
    exitlm_status status = EXITLM_OK;
    while (status == EXITLM_OK && (w->item = atomic_fetch_add(&all->next_item, 1)) < plan->n_items)
        for (w->setting = 0; w->setting < plan->n_settings && status == EXITLM_OK; w->setting++) {
            if (!xl_measuring_step(all, leader)) return EXITLM_OK;
            if (exits(&plan->settings[w->setting], plan->heads->n_heads))
                status = run_setting(w, error);
            atomic_fetch_add(&all->finished, 1);
        }
    return status;
}

exitlm_status xl_measure_written(xl_measuring *all, bool leader, exitlm_error *error) {
    const xl_measure_plan *plan = all->plan;
    const exitlm_session_options options = {.heads = plan->heads,
                                            .context_tokens = plan->context_tokens,
                                            .kv_type = plan->kv_type,
                                            .kernel = plan->kernel};
    writing w = {.all = all, .said = calloc(plan->context_tokens + 1, sizeof *w.said)};
    if (!w.said) return xl_no_memory(error, "a reply");
    xl_script_init(&w.script, plan->model);
    exitlm_status status = exitlm_session_create(&w.writer, plan->model, &options, error);
    if (status == EXITLM_OK)
        status = exitlm_session_create(&w.reader, plan->model, &options, error);
    if (status == EXITLM_OK) status = write_all(&w, leader, error);
    exitlm_session_free(w.writer);
    exitlm_session_free(w.reader);
    xl_script_free(&w.script);
    free(w.said);
    return status;
}
