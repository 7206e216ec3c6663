/* Calibration: from measured disagreement to thresholds. Mathematics only: no engine, no files, no
 * printing.
 *
 * The guarantee (strategy `risk`). The unit is the conversation. For one setting lambda of all
 * thresholds,
 *   X_i = (tokens of conversation i that exit and differ from the full-depth choice in the same
 *   context) / (tokens of conversation i),
 * in [0, 1], independent over conversations. H: E[X] > alpha is rejected where a p-value that is
 * valid for every distribution on [0, 1] is <= delta. Each level has settings of its own, tested in
 * a fixed order from safe to bold; the first that is not rejected ends the test. Then, with
 * probability at least 1 - delta over the draw of the conversations, the setting that is used has
 * E[X] <= alpha.
 *
 * Agreement counts a comma like a fact, so what a token costs is told by its regret, and settings
 * are laid out to save work at least regret.
 *
 * Sources: base/risk.h for the p-values; Angelopoulos et al., "Learn then test" (fixed-sequence
 * testing). */
#ifndef XL_CALIBRATE_H
#define XL_CALIBRATE_H
#include "base/alloc.h"
#include "base/risk.h"
#include "exitlm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The levels of every table: .60 .65 … .95 .97 .98 .99. */
#define XL_LEVELS 11
extern const float xl_levels[XL_LEVELS];

/* Regret of a token that the full model puts `gap` logits below its own choice in the same context:
 * 0 for a near-tie, up to 0.5; as a share of 8, which is the most. */
static inline float xl_regret(float gap) { return !(gap > 0.5f) ? 0 : gap < 8 ? gap / 8 : 1; }

/* X of one setting, of the conversations that it ran on. */
typedef struct xl_losses {
    double *x;
    size_t n;
} xl_losses;
/* Fixed-sequence test of m settings, safest first. The boldest setting before the first that is
 * not rejected, or -1. Those after it are not looked at. */
int32_t xl_fixed_sequence(const xl_losses *x, size_t m, size_t planned, double alpha, double delta);

/* ---- Paper's strategies (arXiv 2407.21082): agreement in the sample, no guarantee ----
 * Tokens that reach one head: uncertainty u [n] in 0..1, ok [n] 1 where the head's choice is the
 * model's. The threshold below which tokens exit, 0 where none should:
 *   max-coverage  the largest threshold whose exits agree at least at `level`
 *   min-coverage  where the agreement of the exits, counted from the surest token on, first falls
 *                 below the level
 *   midpoint      half way between the two
 *   platt         where a logistic fit of ok on u falls to the level
 * Sorts u and ok together. False where the allocator has no memory. */
bool xl_threshold_paper(exitlm_strategy strategy, float *u, uint8_t *ok, size_t n, double level,
                        const exitlm_allocator *allocator, float *threshold);

/* Logistic regression by Newton's method with a small ridge: P(y = 1) = 1 / (1 + exp(-(w0 + w .
 * f))). f [n][dim], dim <= 8, weight [n] or NULL; w [dim + 1]. */
void xl_logistic_fit(const float *f, const uint8_t *y, const float *weight, size_t n, size_t dim,
                     double ridge, float *w);

/* ---- The curve of settings, laid out on data disjoint from the calibration set ---- */
/* What a layer costs that a waiting position runs later, in a batch, against running it at once. */
#define XL_BATCH_FILL 0.35
/* What every token did at every head, in chains of up to EXITLM_MAX_HEADS heads. */
typedef struct xl_path_data {
    size_t n, n_heads;
    const float *u;       /* [n][n_heads] uncertainty; > 1: the head declines and never exits */
    const uint8_t *wrong; /* [n][n_heads] 1: the head's choice is not the model's */
    const float *regret;  /* [n][n_heads] what it costs, 0 … 1 */
    /* [n] 1 / tokens of the conversation, so that every conversation counts the same */
    const float *weight;
    /* shares of a full token: one that exits at head h, its check included, and what a check that
     * fails there adds; a head whose threshold is 0 is not asked */
    float exit_cost[EXITLM_MAX_HEADS], fail_cost[EXITLM_MAX_HEADS];
} xl_path_data;

/* Of one setting on the data: means over conversations. */
typedef struct xl_path_mean {
    double wrong, regret, cost;
} xl_path_mean;
xl_path_mean xl_path_measure(const xl_path_data *data, const float *threshold);

/* Settings from no exits to bold; thresholds never fall along it. */
#define XL_CURVE 64
typedef struct xl_curve {
    float threshold[XL_CURVE + 1][EXITLM_MAX_HEADS];
    double wrong[XL_CURVE + 1]; /* on the data */
    double price;               /* cost + mu * regret, mean over the curve: less is better */
} xl_curve;
/* For a price mu of regret, coordinate ascent finds thresholds that minimise cost + mu * regret;
 * falling mu makes the curve, cumulative maxima make it nested. False where the allocator has no
 * memory. */
bool xl_curve_build(const xl_path_data *data, const exitlm_allocator *allocator, xl_curve *curve);
/* The boldest setting on the curve with at most so many wrong tokens on its data. */
void xl_curve_at(const xl_curve *curve, const xl_path_data *data, double wrong, float *threshold);

/* One-sided t-test at 95 %: true where E[X] <= alpha is rejected (what `holds` of eval is the
 * negation of). */
bool xl_mean_exceeds(const double *x, size_t n, double alpha);

#ifdef __cplusplus
}
#endif
#endif
