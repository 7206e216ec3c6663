/* Matrices that learn, and small vector loops. See train_internal.h. */
#include "train_internal.h"
#include <math.h>
#include <string.h>

#define BETA1 0.9f
#define BETA2 0.99f

void xl_adam_apply(const xl_adam *adam, float decay, float *w, float *m, float *v,
                   const float *gradient, size_t n) {
    const float step = adam->rate / adam->correct1, second = 1 / adam->correct2,
                keep = 1 - adam->rate * decay;
    for (size_t i = 0; i < n; i++) {
        float g = gradient[i];
        m[i] = BETA1 * m[i] + (1 - BETA1) * g;
        v[i] = BETA2 * v[i] + (1 - BETA2) * g * g;
        w[i] = keep * w[i] - step * m[i] / (sqrtf(v[i] * second) + 1e-8f);
    }
}

void xl_linear_put_x(xl_linear *linear, const float *x, size_t row, size_t n) {
    for (size_t r = 0; r < n; r++)
        for (size_t j = 0; j < linear->in; j += XL_PANEL) {
            size_t width = linear->in - j < XL_PANEL ? linear->in - j : XL_PANEL;
            memcpy(linear->x_panels + j * linear->batch + (row + r) * XL_PANEL,
                   x + r * linear->in + j, width * sizeof *x);
        }
}

void xl_linear_put_dy(xl_linear *linear, const float *dy, size_t stride, size_t row, size_t n) {
    for (size_t o0 = 0; o0 < linear->out; o0 += 64)
        for (size_t r = 0; r < n; r++)
            for (size_t o = o0; o < linear->out && o < o0 + 64; o++)
                linear->dy_t[o * linear->batch + row + r] = dy[r * stride + o];
}

#define UPDATE_ROWS 48

void xl_linear_update(xl_linear *linear, const xl_adam *adam, uint32_t part, uint32_t parts) {
    const size_t in = linear->in, from = (size_t)linear->out * part / parts,
                 to = (size_t)linear->out * (part + 1) / parts;
    float gradient[UPDATE_ROWS * XL_PANEL]; /* one panel of columns of a few rows */
    for (size_t o = from; o < to; o += UPDATE_ROWS) {
        size_t rows = to - o < UPDATE_ROWS ? to - o : UPDATE_ROWS;
        for (size_t j = 0; j < in; j += XL_PANEL) {
            size_t width = in - j < XL_PANEL ? in - j : XL_PANEL;
            xl_gemm(gradient, XL_PANEL, linear->dy_t + o * linear->batch, linear->batch,
                    linear->x_panels + j * linear->batch, rows, linear->batch, width, false);
            for (size_t r = 0; r < rows; r++) {
                size_t at = (o + r) * in + j;
                xl_adam_apply(adam, adam->decay, linear->w + at, linear->m + at, linear->v + at,
                              gradient + r * XL_PANEL, width);
            }
        }
    }
}

static void pack_share(float *panels, const float *w, size_t stride, size_t k, size_t n,
                       bool transposed, uint32_t part, uint32_t parts) {
    const size_t count = (n + XL_PANEL - 1) / XL_PANEL, from = count * part / parts,
                 to = count * (part + 1) / parts;
    for (size_t j = from; j < to; j++) {
        size_t first = j * XL_PANEL, width = n - first < XL_PANEL ? n - first : XL_PANEL;
        if (transposed)
            xl_panel_pack_transposed(panels + first * k, w + first * stride, stride, k, width);
        else xl_panel_pack(panels + first * k, w + first, stride, k, width);
    }
}

void xl_linear_pack(xl_linear *linear, uint32_t part, uint32_t parts) {
    pack_share(linear->forward, linear->w, linear->in, linear->in, linear->out, true, part, parts);
    if (linear->backward)
        pack_share(linear->backward, linear->w, linear->in, linear->out, linear->in, false, part,
                   parts);
}

float xl_dot(const float *a, const float *b, size_t n) {
    float s[16] = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t j = 0; j < 16; j++) s[j] += a[i + j] * b[i + j];
    for (; i < n; i++) s[0] += a[i] * b[i];
    for (size_t j = 1; j < 16; j++) s[0] += s[j];
    return s[0];
}

void xl_add_scaled(float *y, float a, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += a * x[i];
}

/* The exponent of an f16 is moved to that of an f32 by a multiplication, which is exact for
 * subnormals too. */
void xl_half_row(float *out, const uint16_t *in, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)(in[i] & 0x7fff) << 13, sign = (uint32_t)(in[i] & 0x8000) << 16;
        float f;
        memcpy(&f, &bits, sizeof f);
        f *= 0x1p112f;
        memcpy(&bits, &f, sizeof f);
        bits |= sign;
        memcpy(&out[i], &bits, sizeof f);
    }
}
