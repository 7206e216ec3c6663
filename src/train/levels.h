/* From measurements to the rows of a heads file's calibration table. */
#ifndef XL_LEVELS_H
#define XL_LEVELS_H
#include "calibrate.h"
#include "measure.h"

/* Is x among them (to 1e-4)? Where there are none, everything is. */
bool xl_level_wanted(const float *accuracy, size_t n, float x);

/* Uncertainties and errors of every head along the full model's text, by one metric. Arrays are
 * fresh memory. */
typedef struct xl_level_tokens {
    size_t n, n_conversations;
    uint32_t n_heads;
    /* [n][n_heads]; 2: the head declines, or is not asked at a reply's first token */
    float *u;
    uint8_t *wrong; /* [n][n_heads] */
    float *weight;  /* [n] 1 / tokens of the conversation */
    const uint32_t *conversation;
} xl_level_tokens;
bool xl_level_tokens_make(xl_level_tokens *tokens, const exitlm_heads *heads, exitlm_metric metric,
                          uint32_t n_layers, const xl_measure_record *record,
                          size_t n_conversations);
void xl_level_tokens_free(xl_level_tokens *tokens);

/* Fits the metric "logistic" of every head: w [n_heads][6]. */
bool xl_level_fit_logistic(const exitlm_heads *heads, uint32_t n_layers,
                           const xl_measure_record *record, float *w);

/* What exits at each head cost under a K/V policy (calibrate.h, xl_path_data). */
void xl_level_costs(const exitlm_model *model, const exitlm_heads *heads, exitlm_kv_policy kv,
                    xl_path_data *data);

/* Row of the strategy risk: settings 1 … n_path of the measurement are the path. */
typedef struct xl_level_risk {
    const xl_measure_result *result;
    const xl_path *path;
    double delta;
    exitlm_kv_policy kv; /* that the measurement ran with */
    double *x;           /* [n_path][n_items], from xl_level_x */
} xl_level_risk;
double *xl_level_x(const xl_measure_result *result, size_t n_path); /* NULL: no memory */
bool xl_level_of_risk(const xl_level_risk *risk, float accuracy, exitlm_level *row);
/* Boldest setting at which the disagreement among exits is certified to be at most 1 - accuracy,
 * or -1; -2: no memory. */
int32_t xl_level_of_exited(const xl_level_risk *risk, float accuracy);

/* Row of one of the paper's strategies: thresholds head by head, each from the tokens that reach
 * it. */
bool xl_level_of_paper(const xl_level_tokens *tokens, exitlm_strategy strategy, float accuracy,
                       exitlm_level *row);

#endif
