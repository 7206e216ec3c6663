/* f32 matrix products for training. The right-hand matrix is packed into panels of 32 columns once
 * and used often. Sums run over k in ascending order in every build; with FMA where the machine has
 * it (training promises the same file for the same seed on the same machine, not across
 * machines). */
#ifndef XL_TRAIN_GEMM_H
#define XL_TRAIN_GEMM_H
#include <stdbool.h>
#include <stddef.h>

#define XL_PANEL 32

/* Floats of the panels of a [k][n] matrix; no overflow check: k * n <= SIZE_MAX / 16. */
static inline size_t xl_panel_floats(size_t k, size_t n) {
    return (n + XL_PANEL - 1) / XL_PANEL * XL_PANEL * k;
}

/* panels <- b [k][n], row stride ldb. Columns beyond n are zero. */
void xl_panel_pack(float *panels, const float *b, size_t ldb, size_t k, size_t n);
/* panels <- transposed bt [n][k], row stride ldb. */
void xl_panel_pack_transposed(float *panels, const float *bt, size_t ldb, size_t k, size_t n);

/* c [m][n] = a [m][k] . b (add: +=). Row strides ldc >= n, lda >= k. */
void xl_gemm(float *c, size_t ldc, const float *a, size_t lda, const float *panels, size_t m,
             size_t k, size_t n, bool add);

/* out [cols][rows] <- in [rows][cols] */
void xl_transpose(float *out, const float *in, size_t rows, size_t cols);

#endif
