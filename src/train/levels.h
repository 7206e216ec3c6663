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
    float *regret;  /* [n][n_heads] */
    float *weight;  /* [n] 1 / tokens of the conversation */
    const uint32_t *conversation;
} xl_level_tokens;
bool xl_level_tokens_make(xl_level_tokens *tokens, const exitlm_heads *heads, exitlm_metric metric,
                          uint32_t n_layers, const xl_measure_record *record,
                          size_t n_conversations);
void xl_level_tokens_free(xl_level_tokens *tokens);

/* Fits a metric that weighs, for every head, as an expectation of regret: w [n_heads][6]. */
bool xl_level_fit(const exitlm_heads *heads, exitlm_metric metric, uint32_t n_layers,
                  const xl_measure_record *record, float *w);

/* The tokens, with what exits at each head cost under a K/V policy. */
xl_path_data xl_level_path_data(const xl_level_tokens *tokens, const exitlm_model *model,
                                const exitlm_heads *heads, exitlm_kv_policy kv);

/* Settings, safest first; each is tested for one level. */
#define XL_LEVEL_SETTINGS 2
#define XL_PATH_MAX (XL_LEVEL_SETTINGS * XL_LEVELS)
typedef struct xl_path {
    size_t n;
    xl_measure_setting setting[XL_PATH_MAX];
    int level[XL_PATH_MAX]; /* index in xl_levels */
    xl_path_mean expected[XL_PATH_MAX];
} xl_path;

/* Rows of the strategy risk: settings 1 … path->n of the measurement are the path. */
typedef struct xl_level_risk {
    const xl_measure_result *result;
    const xl_path *path;
    double delta;
    exitlm_kv_policy kv; /* that the measurement ran with, and of what replies */
    xl_use use;
} xl_level_risk;
/* Is more of setting j of the path worth its time? Not once the level's test is won, nor where it
 * has shown more disagreement than the level allows. Replies longer than one window are tested window
 * by window. */
bool xl_level_undecided(const xl_level_risk *risk, size_t j);
/* Row of level number `level`: the boldest setting that holds in every window, or, where none does,
 * the safest up to the last window that it holds in, if that is more than one. And the boldest
 * setting at which the disagreement among exits is certified likewise, or -1. False: no memory. */
bool xl_level_of_risk(const xl_level_risk *risk, int level, exitlm_level *row, int32_t *exited);

/* Row of one of the paper's strategies: thresholds head by head, each from the tokens that reach
 * it. */
bool xl_level_of_paper(const xl_level_tokens *tokens, exitlm_strategy strategy, float accuracy,
                       const xl_use *use, exitlm_level *row);

#endif
