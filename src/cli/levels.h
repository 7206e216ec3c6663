/* From measurements to the rows of a heads file's calibration table. */
#ifndef CLI_LEVELS_H
#define CLI_LEVELS_H
#include "train/calibrate.h"
#include "measure.h"

/* Uncertainties and errors of every head along the full model's text, by one metric. Arrays are fresh memory. */
typedef struct level_tokens {
    size_t n, n_conversations;
    uint32_t n_heads;
    float *u;       /* [n][n_heads]; 2: the head declines, or is not asked at a reply's first token */
    uint8_t *wrong; /* [n][n_heads] */
    float *weight;  /* [n] 1 / tokens of the conversation */
    const uint32_t *conversation;
} level_tokens;
bool level_tokens_make(level_tokens *tokens, const exitlm_heads *heads, exitlm_metric metric, uint32_t n_layers, const measure_record *record,
                       size_t n_conversations);
void level_tokens_free(level_tokens *tokens);

/* Fits the metric "logistic" of every head: w [n_heads][6]. */
bool level_fit_logistic(const exitlm_heads *heads, uint32_t n_layers, const measure_record *record, float *w);

/* What exits at each head cost under a K/V policy (calibrate.h, xl_path_data). */
void level_costs(const exitlm_model *model, const exitlm_heads *heads, exitlm_kv_policy kv, xl_path_data *data);

/* Row of the strategy risk: settings 1 … n_path of the measurement are the path. exited_row (may be NULL) is the stricter table: agreement
 * among the tokens that exit. chosen (may be NULL): the setting that was certified, or -1. */
typedef struct level_risk {
    const measure_result *result;
    const xl_path *path;
    xl_bound bound;
    double delta;
    uint32_t n_heads;
    exitlm_kv_policy kv; /* that the measurement ran with */
    double *x; /* [n_path][n_items], from level_x */
} level_risk;
double *level_x(const measure_result *result, size_t n_path); /* NULL: no memory */
bool level_of_risk(const level_risk *risk, float accuracy, exitlm_level *row, int32_t *chosen);
/* Boldest setting at which the disagreement among exits is certified to be at most 1 - accuracy, or -1; -2: no memory. */
int32_t level_of_exited(const level_risk *risk, float accuracy);

/* Row of one of the paper's strategies: thresholds head by head, each from the tokens that reach it. */
bool level_of_paper(const level_tokens *tokens, exitlm_strategy strategy, float accuracy, exitlm_level *row);

#endif
