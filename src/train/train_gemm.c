/* f32 matrix products for training. See train_gemm.h. */
#include "train_gemm.h"
#include <string.h>

#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))
#define TRAIN_X86 1
#include <immintrin.h>
#endif

void xl_panel_pack(float *panels, const float *b, size_t ldb, size_t k, size_t n) {
    for (size_t j = 0; j < n; j += XL_PANEL, panels += k * XL_PANEL) {
        size_t width = n - j < XL_PANEL ? n - j : XL_PANEL;
        for (size_t p = 0; p < k; p++) {
            memcpy(panels + p * XL_PANEL, b + p * ldb + j, width * sizeof *b);
            memset(panels + p * XL_PANEL + width, 0, (XL_PANEL - width) * sizeof *b);
        }
    }
}

void xl_panel_pack_transposed(float *panels, const float *bt, size_t ldb, size_t k, size_t n) {
    for (size_t j = 0; j < n; j += XL_PANEL, panels += k * XL_PANEL) {
        size_t width = n - j < XL_PANEL ? n - j : XL_PANEL;
        if (width < XL_PANEL) memset(panels, 0, k * XL_PANEL * sizeof *panels);
        for (size_t c = 0; c < width; c++)
            for (size_t p = 0; p < k; p++) panels[p * XL_PANEL + c] = bt[(j + c) * ldb + p];
    }
}

void xl_transpose(float *out, const float *in, size_t rows, size_t cols) {
    for (size_t r0 = 0; r0 < rows; r0 += 32)
        for (size_t c0 = 0; c0 < cols; c0 += 32)
            for (size_t r = r0; r < rows && r < r0 + 32; r++)
                for (size_t c = c0; c < cols && c < c0 + 32; c++)
                    out[c * rows + r] = in[r * cols + c];
}

/* A tile kernel: t [rows][XL_PANEL] = a [rows][k] . panel, for a fixed number of rows. */
typedef void (*tile_fn)(float *t, const float *a, size_t lda, const float *panel, size_t k);

#define PORTABLE_ROWS 4
static void tile_portable(float *t, const float *a, size_t lda, const float *panel, size_t k) {
    float sum[PORTABLE_ROWS][XL_PANEL] = {{0}};
    for (size_t p = 0; p < k; p++)
        for (size_t r = 0; r < PORTABLE_ROWS; r++)
            for (size_t c = 0; c < XL_PANEL; c++)
                sum[r][c] += a[r * lda + p] * panel[p * XL_PANEL + c];
    memcpy(t, sum, sizeof sum);
}

#ifdef TRAIN_X86
#define AVX2_ROWS 6
__attribute__((target("avx2,fma"))) static void half_avx2(float *t, const float *a, size_t lda,
                                                          const float *panel, size_t k) {
    __m256 s[AVX2_ROWS][2];
    for (int r = 0; r < AVX2_ROWS; r++) s[r][0] = s[r][1] = _mm256_setzero_ps();
    for (size_t p = 0; p < k; p++, panel += XL_PANEL) {
        __m256 b0 = _mm256_loadu_ps(panel), b1 = _mm256_loadu_ps(panel + 8);
#pragma GCC unroll 6
        for (int r = 0; r < AVX2_ROWS; r++) {
            __m256 x = _mm256_set1_ps(a[(size_t)r * lda + p]);
            s[r][0] = _mm256_fmadd_ps(x, b0, s[r][0]);
            s[r][1] = _mm256_fmadd_ps(x, b1, s[r][1]);
        }
    }
    for (int r = 0; r < AVX2_ROWS; r++) {
        _mm256_storeu_ps(t + r * XL_PANEL, s[r][0]);
        _mm256_storeu_ps(t + r * XL_PANEL + 8, s[r][1]);
    }
}

static void tile_avx2(float *t, const float *a, size_t lda, const float *panel, size_t k) {
    half_avx2(t, a, lda, panel, k);
    half_avx2(t + 16, a, lda, panel + 16, k);
}

#define AVX512_ROWS 12
__attribute__((target("avx512f"))) static void tile_avx512(float *t, const float *a, size_t lda,
                                                           const float *panel, size_t k) {
    __m512 s[AVX512_ROWS][2];
#pragma GCC unroll 12
    for (int r = 0; r < AVX512_ROWS; r++) s[r][0] = s[r][1] = _mm512_setzero_ps();
    for (size_t p = 0; p < k; p++, panel += XL_PANEL) {
        __m512 b0 = _mm512_loadu_ps(panel), b1 = _mm512_loadu_ps(panel + 16);
#pragma GCC unroll 12
        for (int r = 0; r < AVX512_ROWS; r++) {
            __m512 x = _mm512_set1_ps(a[(size_t)r * lda + p]);
            s[r][0] = _mm512_fmadd_ps(x, b0, s[r][0]);
            s[r][1] = _mm512_fmadd_ps(x, b1, s[r][1]);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < AVX512_ROWS; r++) {
        _mm512_storeu_ps(t + r * XL_PANEL, s[r][0]);
        _mm512_storeu_ps(t + r * XL_PANEL + 16, s[r][1]);
    }
}
#endif

#define MAX_TILE_ROWS 12

static tile_fn pick(size_t *rows) {
#ifdef TRAIN_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) return *rows = AVX512_ROWS, tile_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return *rows = AVX2_ROWS, tile_avx2;
#endif
    return *rows = PORTABLE_ROWS, tile_portable;
}

static void put_tile(float *c, size_t ldc, const float *tile, size_t rows, size_t width, bool add) {
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < width; j++)
            c[r * ldc + j] = add ? c[r * ldc + j] + tile[r * XL_PANEL + j] : tile[r * XL_PANEL + j];
}

/* Fewer rows than a kernel's height: they are copied above rows of zeros, a stretch of k at a
 * time. */
#define EDGE_K 256

static void edge_tile(tile_fn tile, size_t height, float *t, const float *a, size_t lda,
                      const float *panel, size_t rows, size_t k) {
    float edge[MAX_TILE_ROWS * EDGE_K], part[MAX_TILE_ROWS * XL_PANEL];
    memset(t, 0, height * XL_PANEL * sizeof *t);
    for (size_t p = 0; p < k; p += EDGE_K) {
        size_t depth = k - p < EDGE_K ? k - p : EDGE_K;
        memset(edge, 0, sizeof edge);
        for (size_t r = 0; r < rows; r++)
            memcpy(edge + r * EDGE_K, a + r * lda + p, depth * sizeof *a);
        tile(part, edge, EDGE_K, panel + p * XL_PANEL, depth);
        for (size_t i = 0; i < height * XL_PANEL; i++) t[i] += part[i];
    }
}

void xl_gemm(float *c, size_t ldc, const float *a, size_t lda, const float *panels, size_t m,
             size_t k, size_t n, bool add) {
    size_t height;
    tile_fn tile = pick(&height);
    float t[MAX_TILE_ROWS * XL_PANEL];
    for (size_t j = 0; j < n; j += XL_PANEL, panels += k * XL_PANEL) {
        size_t width = n - j < XL_PANEL ? n - j : XL_PANEL;
        for (size_t i = 0; i < m; i += height) {
            /* The last tile reaches back over rows that are done, so that every row is summed in
             * the same way. */
            size_t rows = m - i < height ? m - i : height, back = m < height ? 0 : height - rows;
            if (m < height) edge_tile(tile, height, t, a, lda, panels, rows, k);
            else tile(t, a + (i - back) * lda, lda, panels, k);
            put_tile(c + i * ldc + j, ldc, t + back * XL_PANEL, rows, width, add);
        }
    }
}
