/* exitlm eval, in its parts: rows of the table (eval_rows.c), speed (eval_speed.c), re-splits (eval_resplit.c), picture (eval_plot.c). */
#ifndef CLI_EVAL_H
#define CLI_EVAL_H
#include "cli.h"
#include "dataset.h"
#include "engine.h"
#include "levels.h"
#include "measure.h"

typedef struct eval_options {
    cli_engine_options engine;
    cli_texts data;
    const char *tasks, *plot, *calibration;
    int strategy, kv;
    cli_numbers accuracy;
    uint32_t reply_tokens, batch, speed, reps, resplits;
    float delta;
    bool json, quiet;
} eval_options;

/* One row of the heads file's table, measured again. Means over conversations, but coverage: a share of the tokens. */
typedef struct eval_row {
    exitlm_level level;       /* as in the file */
    double coverage[EXITLM_MAX_HEADS], agreement, agreement_exited, mean_depth, mean_work;
    double common_prefix, perplexity, repetition; /* free-running text against the full model */
    double speedup;           /* decode speed over full; negative: not measured */
    bool measured, holds;
} eval_row;

typedef struct eval_resplit { /* over random re-splits of calibration and test conversations */
    float accuracy, delta;
    uint32_t splits, misses, uncertified;
    double mean_work;         /* of the chosen settings, expected */
} eval_resplit;

#define EVAL_MAX_RESPLITS 16
typedef struct eval_run {
    const eval_options *options;
    cli_engine engine;
    dataset data;
    xl_pool *pool;
    eval_row *rows;
    size_t n_rows;
    measure_record record;    /* of the full model's text */
    double head_agreement[EXITLM_MAX_HEADS]; /* top-1, mean over conversations */
    double full_perplexity, full_repetition;
    size_t tokens;            /* of the full model's replies */
    eval_resplit resplits[EVAL_MAX_RESPLITS];
    size_t n_resplits;
} eval_run;

int eval_list_rows(eval_run *run);
/* Those that are not measured yet, and, with exact K/V, the full model. */
int eval_measure_rows(eval_run *run);
/* Rows of this K/V policy that are one of settings[0 … n-1], from the measurement of those; what was recorded of the full model moves to the run. */
int eval_take_rows(eval_run *run, const measure_setting *settings, size_t n, exitlm_kv_policy kv, measure_result *result);
/* Decode speed of risk rows over full, interleaved, on the first conversations of the data. */
int eval_measure_speed(eval_run *run);
/* Before the rows: measures those that lie on the calibration's path, too. */
int eval_measure_resplits(eval_run *run);
int eval_write_plot(const eval_run *run, const char *path);

/* Runs the data under settings[0 … n-1], settings[0] the full model. `record` with exact K/V alone. */
int eval_measure(const eval_run *run, const measure_setting *settings, size_t n, exitlm_kv_policy kv, bool record, const char *label, measure_result *result);

#endif
