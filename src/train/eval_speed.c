/* Decode speed, measured: the engine's own modes, one after the other on the same prompts,
 * medians over repetitions. */
#include <stdlib.h>

#include "eval.h"
#include "reply/session.h"
#include "script.h"

#define MAX_REPS 15

typedef struct timing {
    double ms[MAX_REPS], tokens[MAX_REPS];
} timing;

static exitlm_status run_reply(xl_eval_run *run, exitlm_session *session,
                               const xl_dataset_item *item, const exitlm_level *level, timing *t,
                               uint32_t rep, exitlm_error *error) {
    exitlm_generate_options options = {0};
    exitlm_event event = {0};
    xl_script script;
    const int32_t *ids = NULL;
    size_t n = 0;
    if (level) {
        options.mode = EXITLM_MODE_EXIT;
        options.kv = level->kv;
        options.thresholds = level->threshold;
    }
    options.max_tokens =
        run->options->reply_tokens ? run->options->reply_tokens : XL_CALIBRATED_TOKENS;
    exitlm_session_reset(session);
    xl_script_init(&script, run->model);
    exitlm_status status = xl_script_begin(&script, item, &ids, &n, error);
    if (status == EXITLM_OK) status = exitlm_session_start(session, ids, n, &options, error);
    xl_script_free(&script);
    while (status == EXITLM_OK && event.type != EXITLM_EVENT_DONE)
        status = exitlm_session_step(session, &event, error);
    if (status == EXITLM_CONTEXT_FULL) return EXITLM_OK;
    if (status != EXITLM_OK) return status;
    if (event.stats.completion_tokens < 2) return EXITLM_OK;
    t->ms[rep] += event.stats.decode_ms;
    t->tokens[rep] += event.stats.completion_tokens - 1;
    return EXITLM_OK;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_speed(const timing *t, uint32_t reps) {
    double speed[MAX_REPS];
    for (uint32_t r = 0; r < reps; r++) speed[r] = t->ms[r] > 0 ? t->tokens[r] / t->ms[r] : 0;
    qsort(speed, reps, sizeof *speed, compare_doubles);
    return speed[reps / 2];
}

/* One repetition of a conversation: full, then each row that is timed. times[n_rows]: full. */
static exitlm_status run_rows(xl_eval_run *run, exitlm_session *session,
                              const xl_dataset_item *item, timing *times, uint32_t rep,
                              exitlm_error *error) {
    exitlm_status status = run_reply(run, session, item, NULL, &times[run->n_rows], rep, error);
    for (size_t r = 0; r < run->n_rows && status == EXITLM_OK; r++) {
        const exitlm_level *level = &run->rows[r].level;
        const xl_use use = {(exitlm_kv_type)session->stair.kv.type, 0, 0};
        const int timed = run->options->strategy;
        if ((int)level->strategy != (timed < 0 ? EXITLM_STRATEGY_RISK : timed) ||
            !level->certified || level->temperature > 0 || xl_level_misfit(level, &use))
            continue;
        status = run_reply(run, session, item, level, &times[r], rep, error);
    }
    return status;
}

static void show(const xl_eval_run *run, size_t done, bool ended) {
    const xl_progress now = {.stage = XL_STAGE_SPEED,
                             .done = (double)done,
                             .total = run->options->speed,
                             .ended = ended};
    xl_show(run->observer, &now);
}

exitlm_status xl_eval_measure_speed(xl_eval_run *run, exitlm_session *session,
                                    exitlm_error *error) {
    const uint32_t reps = run->options->reps < MAX_REPS ? run->options->reps : MAX_REPS;
    timing *times = calloc(run->n_rows + 1, sizeof *times);
    if (!times) return xl_no_memory(error, "timings");
    exitlm_status status = EXITLM_OK;
    size_t used = 0;
    for (size_t i = 0; i < run->data.n && status == EXITLM_OK; i++) {
        if (used == run->options->speed) break;
        if (!xl_dataset_answered(&run->data.items[i])) continue;
        used++;
        for (uint32_t rep = 0; rep < reps && status == EXITLM_OK; rep++)
            status = run_rows(run, session, &run->data.items[i], times, rep, error);
        show(run, used, false);
    }
    if (used) show(run, used, true);
    const double full = status == EXITLM_OK ? median_speed(&times[run->n_rows], reps) : 0;
    if (full > 0) {
        for (size_t r = 0; r < run->n_rows; r++)
            if (times[r].ms[0] > 0) run->rows[r].speedup = median_speed(&times[r], reps) / full;
    }
    free(times);
    return status;
}
