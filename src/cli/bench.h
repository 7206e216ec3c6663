/* The bench command: what its files share. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H
#include "cli.h"
#include "engine.h"
#include "base/ndjson.h"

#define BENCH_MAX_RUNS 32
#define BENCH_MAX_REPS 101

typedef struct bench_options {
    cli_engine_options engine;
    uint32_t prompt_tokens, gen_tokens, reps;
    cli_counts contexts;
    cli_numbers accuracy;
    int kv;
    bool lossless, json;
} bench_options;

/* One way of decoding that is timed, and what came of it. */
typedef struct bench_run {
    char name[64];       /* "exit at 0.95", "lossless, lookup only" */
    const char *variant; /* what is special about it, as "lookup only"; else NULL */
    exitlm_generate_options generate;
    uint32_t context;             /* wanted */
    uint32_t prompt_n;            /* and found */
    const int32_t *ids;           /* [prompt_n] */
    double speed[BENCH_MAX_REPS]; /* tokens per second; negative: none */
    uint32_t n_speeds;
    exitlm_stats stats; /* of the last repetition; its text is not valid */
} bench_run;

double bench_median(const double *values, uint32_t n); /* NaN for none */

/* Runs every entry once a repetition, one after the other, so that a slow moment of the machine
 * meets them all. */
int bench_decode(const cli_engine *engine, bench_run *runs, size_t n, uint32_t reps);

/* r for 2 … 8 rows: cost of one more row of a verification as a share of a plain token, at this
 * context. */
#define BENCH_ROWS 8
int bench_rows(const cli_engine *engine, const int32_t *ids, uint32_t n_ids, uint32_t reps,
               double r[BENCH_ROWS + 1]);

/* A chat prompt of at most n tokens, as near to it as whole words allow; plain text where the model
 * has no template or n is too small for it. *ids is fresh memory. */
int bench_prompt(const cli_engine *engine, uint32_t n, int32_t **ids, uint32_t *n_ids);

#endif
