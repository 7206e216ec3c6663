/* Calibration: from measured disagreement to thresholds. Mathematics only: no engine, no files, no
 * printing.
 *
 * The guarantee (strategy `risk`). The unit is the conversation. For one setting lambda of all
 * thresholds,
 *   X_i = (tokens of conversation i that exit and differ from the full-depth choice in the same
 *   context) / (tokens of conversation i),
 * in [0, 1], independent over conversations. H: E[X] > alpha is rejected where a p-value that is
 * valid for every distribution on [0, 1] is <= delta. Settings are tested in a fixed order from
 * safe to bold; the first that is not rejected ends the test. Then, with probability at least 1 -
 * delta over the draw of the conversations, the setting that is used has E[X] <= alpha.
 *
 * Sources: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting";
 * Angelopoulos et al., "Learn then test" (fixed-sequence testing). */
#ifndef XL_CALIBRATE_H
#define XL_CALIBRATE_H
#include "base/alloc.h"
#include "exitlm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The levels of every table: .60 .65 … .95 .98 .99. */
#define XL_LEVELS 10
extern const float xl_levels[XL_LEVELS];

/* ---- p-values of H: E[X] > alpha, for n >= 1 independent x in [0, 1] and 0 < alpha < 1 ----
 * Betting: the largest wealth of a gambler who bets on x < alpha; the stakes follow WSR's
 * predictable plug-in, tuned for a test at `delta` (the p-value is valid whatever delta was).
 * The order of x must not depend on their values. */
double xl_risk_p(const double *x, size_t n, double alpha, double delta);
/* The smallest alpha (to 1e-4) that is rejected at delta: an upper bound of E[X]; 1 where there
 * is none. */
double xl_risk_upper(const double *x, size_t n, double delta);

/* Fixed-sequence test of m settings, safest first: x [m][n]. The boldest setting before the first
 * that is not rejected, or -1. Rows after the first that is not rejected are not looked at. */
int32_t xl_fixed_sequence(const double *x, size_t m, size_t n, double alpha, double delta);

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

/* ---- The path from lambda to thresholds, laid out on data disjoint from the calibration set
 * ---- */
/* What every token did at every head, in chains of up to EXITLM_MAX_HEADS heads. */
typedef struct xl_path_data {
    size_t n, n_heads;
    const float *u;       /* [n][n_heads] uncertainty; > 1: the head declines and never exits */
    const uint8_t *wrong; /* [n][n_heads] 1: the head's choice is not the model's */
    /* [n] 1 / tokens of the conversation, so that every conversation counts the same */
    const float *weight;
    /* cost of a token that exits at head h, failed checks before it included, as a share of full */
    float exit_cost[EXITLM_MAX_HEADS];
    float full_cost; /* of a token that fails all checks (1 + the checks) */
} xl_path_data;

#define XL_PATH_MAX 16 /* settings of a path */
typedef struct xl_path {
    /* settings, safest first; thresholds never fall along the path */
    size_t n;
    float threshold[XL_PATH_MAX][EXITLM_MAX_HEADS];
    float risk[XL_PATH_MAX], cost[XL_PATH_MAX]; /* expected on the path's own data */
} xl_path;

/* Risk and cost of one threshold vector on the data: means over conversations. */
void xl_path_measure(const xl_path_data *data, const float *threshold, double *risk, double *cost);
/* Lays out n <= XL_PATH_MAX settings with the expected risks target[n] (ascending): for a price mu
 * of an error, coordinate ascent finds thresholds that minimise cost + mu * risk; falling mu makes
 * the path, cumulative maxima make it nested, and interpolation meets the targets. False where
 * the allocator has no memory. */
bool xl_path_build(const xl_path_data *data, const float *target, size_t n,
                   const exitlm_allocator *allocator, xl_path *path);

/* One-sided t-test at 95 %: true where E[X] <= alpha is rejected (what `holds` of eval is the
 * negation of). */
bool xl_mean_exceeds(const double *x, size_t n, double alpha);

#ifdef __cplusplus
}
#endif
#endif
