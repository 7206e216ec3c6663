/* A heads file's table measured on other text, in parts: rows (eval_rows.c), speed
 * (eval_speed.c). */
#ifndef XL_EVAL_H
#define XL_EVAL_H
#include "dataset.h"
#include "levels.h"
#include "measure.h"

typedef struct xl_eval_options {
    int strategy;          /* rows of this strategy alone; -1: all */
    exitlm_kv_policy kv;   /* rows of this K/V policy alone; AUTO: all */
    const float *accuracy; /* [n_accuracy] rows of these levels alone; none: all */
    size_t n_accuracy;
    uint32_t reply_tokens;          /* 0: as each row says */
    uint64_t seed;                  /* of tokens that are drawn */
    uint32_t batch, context_tokens; /* context_tokens 0: the model's, at most 1024 */
    uint32_t speed, reps;           /* conversations that are timed, and how often */
    const char *kernel;
} xl_eval_options;

/* One row of the heads file's table, measured again with replies as it is for. */
typedef struct xl_eval_row {
    exitlm_level level; /* as in the file */
    xl_measure_means means;
    double speedup; /* decode speed over full; negative: not measured */
    bool measured, holds;
} xl_eval_row;

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
} xl_eval_run;

/* The heads' data and rows are freed; what it points to is not its own. */
void xl_eval_free(xl_eval_run *run);

exitlm_status xl_eval_list_rows(xl_eval_run *run, exitlm_error *error);
/* Those that are not measured yet, and, with exact K/V, the full model. */
exitlm_status xl_eval_measure_rows(xl_eval_run *run, exitlm_error *error);
/* Decode speed of the rows of options->strategy (none: risk) over full, interleaved, on the first conversations of the data;
 * `session` has a clock. */
exitlm_status xl_eval_measure_speed(xl_eval_run *run, exitlm_session *session, exitlm_error *error);
#endif
