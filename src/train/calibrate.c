/* Bounds and tests of the risk strategy. See calibrate.h. */
#include "calibrate.h"
#include <math.h>

const float xl_levels[XL_LEVELS] = {0.60f, 0.65f, 0.70f, 0.75f, 0.80f, 0.85f,
                                    0.90f, 0.95f, 0.97f, 0.98f, 0.99f};

int32_t xl_fixed_sequence(const xl_losses *x, size_t m, size_t planned, double alpha,
                          double delta) {
    int32_t chosen = -1;
    for (size_t j = 0; j < m && xl_risk_p(x[j].x, x[j].n, planned, alpha, delta) <= delta; j++)
        chosen = (int32_t)j;
    return chosen;
}

/* Upper 5 % point of Student's t: Cornish-Fisher expansion around the normal's, within 1 % from
 * 3 degrees of freedom on. */
static double student_95(double df) {
    const double z = 1.6448536269514722, z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
    if (df < 1.5) return 6.313752;
    if (df < 2.5) return 2.919986;
    return z + (z3 + z) / (4 * df) + (5 * z5 + 16 * z3 + 3 * z) / (96 * df * df) +
           (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * df * df * df);
}

bool xl_mean_exceeds(const double *x, size_t n, double alpha) {
    if (n < 2) return false;
    double mean = 0, squares = 0;
    for (size_t i = 0; i < n; i++) mean += x[i];
    mean /= (double)n;
    for (size_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    double error = sqrt(squares / (double)(n - 1) / (double)n);
    /* A tiny slack: a sample without spread is judged by its mean, not by rounding. */
    return mean - alpha > student_95((double)(n - 1)) * error + 1e-9;
}

/* ---- Logistic regression ---- */
#define MAX_FEATURES 8

/* Solves a x = b for a symmetric positive definite [m][m] in place (Cholesky); b becomes x. */
static bool solve_spd(double a[][MAX_FEATURES + 1], double *b, size_t m) {
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j <= i; j++) {
            double s = a[i][j];
            for (size_t k = 0; k < j; k++) s -= a[i][k] * a[j][k];
            if (i == j && !(s > 0)) return false;
            a[i][j] = i == j ? sqrt(s) : s / a[j][j];
        }
    for (size_t i = 0; i < m; i++) {
        for (size_t k = 0; k < i; k++) b[i] -= a[i][k] * b[k];
        b[i] /= a[i][i];
    }
    for (size_t i = m; i-- > 0;) {
        for (size_t k = i + 1; k < m; k++) b[i] -= a[k][i] * b[k];
        b[i] /= a[i][i];
    }
    return true;
}

void xl_logistic_fit(const float *f, const uint8_t *y, const float *weight, size_t n, size_t dim,
                     double ridge, float *w) {
    double theta[MAX_FEATURES + 1] = {0};
    const size_t m = dim + 1;
    for (size_t i = 0; i < m; i++) w[i] = 0;
    for (int step = 0; step < 25; step++) {
        double hessian[MAX_FEATURES + 1][MAX_FEATURES + 1] = {{0}},
                                                        gradient[MAX_FEATURES + 1] = {0};
        for (size_t t = 0; t < n; t++) {
            double v[MAX_FEATURES + 1], z = 0, g = weight ? weight[t] : 1;
            v[0] = 1;
            for (size_t i = 0; i < dim; i++) v[i + 1] = f[t * dim + i];
            for (size_t i = 0; i < m; i++) z += theta[i] * v[i];
            double p = 1 / (1 + exp(-z));
            for (size_t i = 0; i < m; i++) {
                gradient[i] += g * ((double)y[t] - p) * v[i];
                for (size_t j = 0; j <= i; j++) hessian[i][j] += g * p * (1 - p) * v[i] * v[j];
            }
        }
        for (size_t i = 0; i < m; i++) {
            gradient[i] -= i ? ridge * theta[i] : 0;
            hessian[i][i] += i ? ridge : 1e-9;
        }
        if (!solve_spd(hessian, gradient, m)) return;
        double largest = 0;
        for (size_t i = 0; i < m; i++) {
            /* separable data must not run away */
            double move = gradient[i] > 4 ? 4 : gradient[i] < -4 ? -4 : gradient[i];
            theta[i] += move;
            if (fabs(move) > largest) largest = fabs(move);
        }
        for (size_t i = 0; i < m; i++) w[i] = (float)theta[i];
        if (largest < 1e-7) return;
    }
}
