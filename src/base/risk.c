/* Bounds by betting. See risk.h. */
#include "risk.h"
#include "fmath.h"

#include <math.h>

/* Wealth W_t = prod (1 + nu_i (alpha - x_i)) with nu_i chosen from x_1 … x_{i-1} only and nu_i (1 -
 * alpha) < 1, so that W stays positive. Under H the factors' expectation is below 1, W is a
 * supermartingale and P(max W >= 1/p) <= p (Ville). x is read over and over, `period` of them. */
static double p_of(const double *x, size_t period, size_t n, size_t planned, double alpha,
                   double delta) {
    if (n == 0 || !(alpha > 0) || !(alpha < 1)) return 1;
    const double cap = 0.99 / (1 - alpha), scale = 2 * xl_log(1 / delta) / (double)planned;
    double sum = alpha, squares = 0.25, variance = 0.25, wealth = 0, best = 0;
    for (size_t i = 0; i < n; i++) {
        const double seen = period ? x[i % period] : 0;
        double nu = sqrt(scale / variance);
        if (nu > cap) nu = cap;
        wealth += xl_log(1 + nu * (alpha - seen));
        if (wealth > best) best = wealth;
        const double count = (double)(i + 2), mean = (sum += seen) / count;
        squares += (seen - mean) * (seen - mean);
        variance = squares / count;
    }
    return xl_exp(-best);
}

double xl_risk_p(const double *x, size_t n, size_t planned, double alpha, double delta) {
    return p_of(x, n, n, planned, alpha, delta);
}

double xl_risk_upper(const double *x, size_t n, size_t planned, double delta) {
    double low = 0, high = 1; /* high is rejected or 1 */
    while (high - low > 1e-4) {
        double middle = (low + high) / 2;
        if (xl_risk_p(x, n, planned, middle, delta) <= delta) high = middle;
        else low = middle;
    }
    return high;
}

enum { MOST_NEEDED = 20000 };

uint32_t xl_risk_needed(const double *x, size_t n, double alpha, double delta) {
    uint32_t low = 0, high = 1; /* low does not do */
    for (; p_of(x, n, high, high, alpha, delta) > delta; high *= 2) {
        if (high >= MOST_NEEDED) return 0;
        low = high;
    }
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (p_of(x, n, middle, middle, alpha, delta) <= delta) high = middle;
        else low = middle;
    }
    return high > MOST_NEEDED ? 0 : high;
}

/* With the stakes of xl_risk_p the wealth of n conversations is expected to reach 1 / delta where
 * the mean lies so far below alpha; where the variance is small the cap on the stakes rules. */
double xl_risk_boundary(double alpha, double spread, size_t n, double delta) {
    const double need = xl_log(1 / delta) / (double)n;
    double mean = alpha;
    for (int step = 0; step < 20; step++)
        mean = alpha - fmax(sqrt(2 * need * spread * fmax(mean, 0)), need);
    return mean > 0 ? mean : 0;
}
