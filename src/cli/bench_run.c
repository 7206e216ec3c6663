/* Timing: repetitions that are interleaved, and what a row of a verification costs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "platform.h"
#include "reply/session.h"

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(const double *values, uint32_t n) {
    double sorted[BENCH_MAX_REPS];
    if (n == 0) return NAN;
    if (n > BENCH_MAX_REPS) n = BENCH_MAX_REPS;
    memcpy(sorted, values, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, ascending);
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

static int run_once(const cli_engine *engine, bench_run *run) {
    exitlm_error error;
    exitlm_event event = {0};
    exitlm_session_reset(engine->session);
    exitlm_status status =
        exitlm_session_start(engine->session, run->ids, run->prompt_n, &run->generate, &error);
    while (status == EXITLM_OK && event.type != EXITLM_EVENT_DONE)
        status = exitlm_session_step(engine->session, &event, &error);
    if (status != EXITLM_OK) return cli_report(&error, NULL);
    run->stats = event.stats;
    if (event.stats.tokens_per_second > 0 && run->n_speeds < BENCH_MAX_REPS)
        run->speed[run->n_speeds++] = event.stats.tokens_per_second;
    return CLI_OK;
}

int bench_decode(const cli_engine *engine, bench_run *runs, size_t n, uint32_t reps) {
    int status = CLI_OK;
    for (uint32_t rep = 0; rep < reps; rep++)
        for (size_t i = 0; i < n && status == CLI_OK; i++) status = run_once(engine, &runs[i]);
    return status;
}

/* Milliseconds of taking the last `rows` ids through all layers to their logits; the positions
 * are dropped again. */
static exitlm_status time_rows(exitlm_session *session, const int32_t *ids, uint32_t n_ids,
                               uint32_t rows, double *ms, exitlm_error *error) {
    uint32_t before = session->stair.n;
    double start = cli_clock_ms(NULL);
    exitlm_status status = xl_stair_append(&session->stair, ids + n_ids - rows, rows, error);
    if (status == EXITLM_OK)
        status = xl_stair_advance(&session->stair, session->run.model->config.n_layers, error);
    if (status == EXITLM_OK) status = xl_logits_compute(&session->logits, before, rows, 0, error);
    *ms = cli_clock_ms(NULL) - start;
    xl_stair_truncate(&session->stair, before);
    return status;
}

int bench_rows(const cli_engine *engine, const int32_t *ids, uint32_t n_ids, uint32_t reps,
               double r[BENCH_ROWS + 1]) {
    exitlm_session *session = engine->session;
    exitlm_error error;
    double times[BENCH_ROWS + 1][BENCH_MAX_REPS];
    for (int rows = 0; rows <= BENCH_ROWS; rows++) r[rows] = NAN;
    if (n_ids <= BENCH_ROWS) return CLI_OK;
    exitlm_session_reset(session);
    exitlm_status status = xl_stair_append(&session->stair, ids, n_ids - BENCH_ROWS, &error);
    if (status == EXITLM_OK)
        status = xl_stair_advance(&session->stair, session->run.model->config.n_layers, &error);
    reps = reps * 5 < BENCH_MAX_REPS ? reps * 5 : BENCH_MAX_REPS; /* each is short */
    for (uint32_t rep = 0; rep < reps; rep++)
        for (uint32_t rows = 1; rows <= BENCH_ROWS && status == EXITLM_OK; rows++)
            status = time_rows(session, ids, n_ids, rows, &times[rows][rep], &error);
    exitlm_session_reset(session);
    if (status != EXITLM_OK) return cli_report(&error, NULL);
    double one = bench_median(times[1], reps);
    for (uint32_t rows = 2; rows <= BENCH_ROWS; rows++)
        r[rows] = one > 0 ? (bench_median(times[rows], reps) / one - 1) / (rows - 1) : NAN;
    return CLI_OK;
}
