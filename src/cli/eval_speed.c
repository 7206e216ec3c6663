/* Decode speed, measured: the engine's own modes, one after the other on the same prompts, medians over repetitions. */
#include <stdlib.h>
#include <string.h>

#include "eval.h"
#include "platform.h"

#define MAX_REPS 15

typedef struct timing {
    double ms[MAX_REPS], tokens[MAX_REPS];
} timing;

static int run_reply(eval_run *run, exitlm_session *session, const dataset_item *item, const exitlm_level *level, timing *t, uint32_t rep) {
    exitlm_generate_options options;
    exitlm_event event = {0};
    exitlm_error error;
    const exitlm_message message = {"user", item->texts[0]};
    exitlm_generate_defaults(&options);
    if (level) {
        options.mode = EXITLM_MODE_EXIT;
        options.kv = level->kv;
        options.thresholds = level->threshold;
    }
    options.max_tokens = run->options->reply_tokens;
    exitlm_session_reset(session);
    exitlm_status status = exitlm_session_chat(session, &message, 1, &options, &error);
    while (status == EXITLM_OK && event.type != EXITLM_EVENT_DONE) status = exitlm_session_step(session, &event, &error);
    if (status == EXITLM_CONTEXT_FULL) return CLI_OK;
    if (status != EXITLM_OK) return cli_report(&error, NULL);
    if (event.stats.completion_tokens < 2) return CLI_OK;
    t->ms[rep] += event.stats.decode_ms;
    t->tokens[rep] += event.stats.completion_tokens - 1;
    return CLI_OK;
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

int eval_measure_speed(eval_run *run) {
    const uint32_t reps = run->options->reps < MAX_REPS ? run->options->reps : MAX_REPS;
    timing *times = calloc(run->n_rows + 1, sizeof *times); /* the last one: full */
    exitlm_session *session = NULL;
    int status = times ? cli_engine_session(&run->engine, &run->options->engine, 0, &session) : cli_no_memory("timings");
    size_t used = 0;
    for (size_t i = 0; i < run->data.n && used < run->options->speed && status == CLI_OK; i++) {
        if (run->data.items[i].kind != DATASET_TURNS) continue;
        used++;
        for (uint32_t rep = 0; rep < reps && status == CLI_OK; rep++) {
            status = run_reply(run, session, &run->data.items[i], NULL, &times[run->n_rows], rep);
            for (size_t r = 0; r < run->n_rows && status == CLI_OK; r++)
                if (run->rows[r].level.strategy == EXITLM_STRATEGY_RISK && run->rows[r].level.certified)
                    status = run_reply(run, session, &run->data.items[i], &run->rows[r].level, &times[r], rep);
        }
        if (!run->options->quiet) fprintf(stderr, "\rspeed      %zu of %u conversations ", used, run->options->speed);
    }
    if (used && !run->options->quiet) fputc('\n', stderr);
    const double full = status == CLI_OK ? median_speed(&times[run->n_rows], reps) : 0;
    for (size_t r = 0; r < run->n_rows && full > 0; r++)
        if (times[r].ms[0] > 0) run->rows[r].speedup = median_speed(&times[r], reps) / full;
    exitlm_session_free(session);
    free(times);
    return status;
}
