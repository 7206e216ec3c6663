/* p-values and bounds of the mean of what lies in [0, 1], as share of a conversation's tokens that
 * are wrong (train/calibrate.h has the guarantee that is made of it).
 *
 * H: E[X] > alpha, for n >= 1 independent x in [0, 1] and 0 < alpha < 1, is tested by betting: the
 * largest wealth of a gambler who bets on x < alpha; the stakes follow the predictable plug-in of
 * Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", tuned for a
 * test at `delta` (the p-value is valid whatever delta was). */
#ifndef XL_RISK_H
#define XL_RISK_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The order of x must not depend on their values. Of the `planned` conversations the first n may be
 * all that there are, whatever it was that ended it: the wealth of more is no smaller. */
double xl_risk_p(const double *x, size_t n, size_t planned, double alpha, double delta);
/* The smallest alpha (to 1e-4) that is rejected at delta: an upper bound of E[X]; 1 where there
 * is none. */
double xl_risk_upper(const double *x, size_t n, size_t planned, double delta);
/* So many conversations reject E[X] > alpha if all are like the n seen ones, in their order over and
 * over (n 0: if none is ever wrong), at most 20,000; 0: they would not. */
uint32_t xl_risk_needed(const double *x, size_t n, double alpha, double delta);
/* About the largest E[X] at which so many conversations are expected to reject E[X] > alpha, where
 * the variance of X is `spread` times its mean; 0: none is. */
double xl_risk_boundary(double alpha, double spread, size_t n, double delta);

#ifdef __cplusplus
}
#endif
#endif
