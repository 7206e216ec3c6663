/* A heads file's table measured on other text, in parts: rows (eval_rows.c), speed
 * (eval_speed.c), re-splits (eval_resplit.c). */
#ifndef XL_EVAL_H
#define XL_EVAL_H
#include "dataset.h"
#include "levels.h"
#include "measure.h"

typedef struct xl_eval_options {
    int strategy, kv;      /* rows of this strategy, of this K/V policy alone; -1: all */
    const float *accuracy; /* [n_accuracy] rows of these levels alone; none: all */
    size_t n_accuracy;
    uint32_t reply_tokens, batch, context_tokens; /* context_tokens 0: the model's, at most 1024 */
    uint32_t speed, reps;                         /* conversations that are timed, and how often */
    uint32_t resplits;
    exitlm_kv_type kv_type;
    const char *kernel;
} xl_eval_options;

/* One row of the heads file's table, measured again. Means over conversations, but coverage: a
 * share of the tokens. */
typedef struct xl_eval_row {
    exitlm_level level; /* as in the file */
    double coverage[EXITLM_MAX_HEADS], agreement, agreement_exited, mean_depth, mean_work;
    double common_prefix, perplexity, repetition; /* free-running text against the full model */
    double speedup; /* decode speed over full; negative: not measured */
    bool measured, holds;
} xl_eval_row;

typedef struct xl_eval_resplit { /* over random re-splits of calibration and test conversations */
    float accuracy, delta;
    uint32_t splits, misses, uncertified;
    double mean_work; /* of the chosen settings, expected */
} xl_eval_resplit;

#define XL_EVAL_MAX_RESPLITS 16
typedef struct xl_eval_run {
    const xl_eval_options *options;
    const exitlm_model *model;
    const exitlm_heads *heads;
    xl_dataset data;
    xl_pool *pool;
    const xl_observer *observer;
    xl_eval_row *rows;
    size_t n_rows;
    xl_measure_record record;                /* of the full model's text */
    double head_agreement[EXITLM_MAX_HEADS]; /* top-1, mean over conversations */
    double full_perplexity, full_repetition;
    size_t tokens; /* of the full model's replies */
    xl_eval_resplit resplits[XL_EVAL_MAX_RESPLITS];
    size_t n_resplits;
} xl_eval_run;

/* The heads' data and rows are freed; what it points to is not its own. */
void xl_eval_free(xl_eval_run *run);

exitlm_status xl_eval_list_rows(xl_eval_run *run, exitlm_error *error);
/* Those that are not measured yet, and, with exact K/V, the full model. */
exitlm_status xl_eval_measure_rows(xl_eval_run *run, exitlm_error *error);
/* Rows of this K/V policy that are one of settings[0 … n-1], from the measurement of those; what
 * was recorded of the full model moves to the run. */
exitlm_status xl_eval_take_rows(xl_eval_run *run, const xl_measure_setting *settings, size_t n,
                                exitlm_kv_policy kv, xl_measure_result *result,
                                exitlm_error *error);
/* Decode speed of risk rows over full, interleaved, on the first conversations of the data;
 * `session` has a clock. */
exitlm_status xl_eval_measure_speed(xl_eval_run *run, exitlm_session *session, exitlm_error *error);
/* Before the rows, from the calibration's report in this file: measures those that lie on its
 * path, too. */
exitlm_status xl_eval_measure_resplits(xl_eval_run *run, const char *file, exitlm_error *error);

/* Runs the data under settings[0 … n-1], settings[0] the full model. `record` with exact K/V
 * alone. */
exitlm_status xl_eval_measure(const xl_eval_run *run, const xl_measure_setting *settings, size_t n,
                              exitlm_kv_policy kv, bool record, const char *label,
                              xl_measure_result *result, exitlm_error *error);

#endif
