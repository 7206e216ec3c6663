/* Ridge regression in closed form, for K/V maps: (X'X + s n I) W = X'Y by Cholesky in f64. See
 * train_head.h. */
#include "train_gemm.h"
#include "train_head.h"
#include <math.h>
#include <string.h>

#define BATCH 256

struct xl_ridge {
    uint32_t inputs, outputs; /* inputs with the constant */
    uint64_t n;
    double *xx, *xy;         /* [inputs][inputs] [inputs][outputs] */
    float *x, *x_t;          /* [BATCH][inputs] [inputs][BATCH] */
    float *panels, *product; /* of x or y; [inputs][max(inputs, outputs)] */
    size_t bytes;
};

static size_t widest(const xl_ridge *r) { return r->inputs > r->outputs ? r->inputs : r->outputs; }

exitlm_status xl_ridge_create(xl_ridge **out, uint32_t inputs, uint32_t outputs,
                              exitlm_error *error) {
    *out = NULL;
    if (inputs == 0 || inputs > 16384 || outputs == 0 || outputs > 65536)
        return xl_fail(error, EXITLM_USAGE, "a regression of %u on %u", (unsigned)outputs,
                       (unsigned)inputs);
    xl_ridge head = {.inputs = inputs + 1, .outputs = outputs};
    const size_t in = head.inputs, wide = widest(&head), doubles = in * (in + outputs);
    const size_t floats = 2 * BATCH * in + BATCH * (wide + XL_PANEL) + in * wide;
    head.bytes = sizeof head + 64 + doubles * sizeof(double) + floats * sizeof(float);
    xl_ridge *r = xl_calloc(&xl_libc_allocator, head.bytes, 1);
    if (!r) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "a regression needs %zu bytes", head.bytes);
    *r = head;
    r->xx = (double *)(void *)((uint8_t *)r + (sizeof head + 63) / 64 * 64);
    r->xy = r->xx + in * in;
    r->x = (float *)(void *)(r->xy + in * outputs);
    r->x_t = r->x + BATCH * in;
    r->panels = r->x_t + BATCH * in;
    r->product = r->panels + BATCH * (wide + XL_PANEL);
    *out = r;
    return EXITLM_OK;
}

void xl_ridge_free(xl_ridge *r) {
    if (r) xl_free(&xl_libc_allocator, r, r->bytes, 1);
}

static void accumulate(xl_ridge *r, double *sum, const float *right, size_t stride, size_t n,
                       size_t columns) {
    xl_panel_pack(r->panels, right, stride, n, columns);
    xl_gemm(r->product, columns, r->x_t, n, r->panels, r->inputs, n, columns, false);
    for (size_t i = 0; i < r->inputs * columns; i++) sum[i] += r->product[i];
}

void xl_ridge_add(xl_ridge *r, const float *x, const float *y, size_t n) {
    const size_t in = r->inputs;
    for (size_t i = 0; i < n; i++) {
        memcpy(r->x + i * in, x + i * (in - 1), (in - 1) * sizeof *x);
        r->x[i * in + in - 1] = 1;
    }
    xl_transpose(r->x_t, r->x, n, in);
    accumulate(r, r->xx, r->x, in, n, in);
    accumulate(r, r->xy, y, r->outputs, n, r->outputs);
    r->n += n;
}

/* xx <- its lower Cholesky factor. */
static bool factor(double *a, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double s = a[i * n + j];
            for (size_t k = 0; k < j; k++) s -= a[i * n + k] * a[j * n + k];
            if (i == j && !(s > 0)) return false;
            a[i * n + j] = i == j ? sqrt(s) : s / a[j * n + j];
        }
    return true;
}

/* All right-hand sides together: rows of xy are eliminated as vectors. */
static void substitute(const double *l, double *b, size_t n, size_t columns) {
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++)
            for (size_t c = 0; c < columns; c++)
                b[i * columns + c] -= l[i * n + k] * b[k * columns + c];
        for (size_t c = 0; c < columns; c++) b[i * columns + c] /= l[i * n + i];
    }
    for (size_t i = n; i-- > 0;) {
        for (size_t k = i + 1; k < n; k++)
            for (size_t c = 0; c < columns; c++)
                b[i * columns + c] -= l[k * n + i] * b[k * columns + c];
        for (size_t c = 0; c < columns; c++) b[i * columns + c] /= l[i * n + i];
    }
}

exitlm_status xl_ridge_solve(xl_ridge *r, double strength, float *w, float *bias,
                             exitlm_error *error) {
    const size_t in = r->inputs, inputs = in - 1, outputs = r->outputs;
    if (r->n == 0) return xl_fail(error, EXITLM_USAGE, "a regression without data");
    for (size_t i = 0; i < inputs; i++) r->xx[i * in + i] += strength * (double)r->n;
    if (!factor(r->xx, in))
        return xl_fail(error, EXITLM_USAGE, "a regression on %llu positions is singular: use more",
                       (unsigned long long)r->n);
    substitute(r->xx, r->xy, in, outputs);
    for (size_t o = 0; o < outputs; o++) {
        for (size_t i = 0; i < inputs; i++) w[o * inputs + i] = (float)r->xy[i * outputs + o];
        bias[o] = (float)r->xy[inputs * outputs + o];
    }
    r->n = 0; /* the sums are used up */
    return EXITLM_OK;
}
