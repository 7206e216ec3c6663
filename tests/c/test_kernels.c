/* Kernels: the scalar reference against plain double arithmetic, and every other instruction set
 * against the reference, bit for bit. */
#include "kernel_checks.h"

#include "base/bytes.h"
#include "base/fmath.h"

#include <float.h>
#include <math.h>
#include <string.h>
#include <time.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

/* ---- the reference against double arithmetic ---- */

static void test_reference(xl_type type) {
    enum { ROWS = 11, COLS = 512, N = 2 };
    const xl_kernels *k = xl_kernels_pick("scalar");
    float *x = random_floats(N * COLS, PLAIN), y[N][16], row[COLS];
    void *w = random_matrix(type, ROWS, COLS, PLAIN);
    size_t stride = xl_type_is_quantized(type) ? xl_act_bytes(COLS) : COLS * sizeof(float);
    uint8_t *act = activations(k, type, x, COLS, N, stride);
    k->matmul[type](&y[0][0], 16, w, COLS, 0, ROWS, act, stride, N);
    for (size_t r = 0; r < ROWS; r++) {
        xl_dequant_row(type, w, COLS, r, row);
        for (size_t i = 0; i < N; i++) {
            double sum = 0, size = 0;
            for (size_t c = 0; c < COLS; c++) {
                double a = x[i * COLS + c];
                if (xl_type_is_quantized(type)) {
                    float peak = 0;
                    for (size_t j = c / 32 * 32; j < c / 32 * 32 + 32; j++)
                        peak = fmaxf(peak, fabsf(x[i * COLS + j]));
                    a = (double)(peak / 127.0f) * rint((double)(x[i * COLS + c] * (127.0f / peak)));
                }
                sum += a * (double)row[c];
                size += fabs(a * (double)row[c]);
            }
            CHECK(fabs((double)y[i][r] - sum) <= size * 1e-5, "%s scalar row %zu: %g, in double %g",
                  xl_quant_types[type].name, r, (double)y[i][r], sum);
        }
    }
    release(x), release(w), release(act);
}

/* ---- matmul, bit for bit ---- */

static void test_matmul(const xl_kernels *k, xl_type type) {
    size_t unit = xl_quant_types[type].block_elems;
    for (int f = 0; f < FLAVOURS; f++) {
        for (size_t n = 1; n <= 9; n++)
            test_matmul_size(k, type, (flavour)f, 24, unit == 1 ? 70 : unit * (1 + n % 3), n);
        test_matmul_size(k, type, (flavour)f, 1, unit, 1);
        test_matmul_size(k, type, (flavour)f, 13, 3 * unit, 17);
        test_matmul_size(k, type, (flavour)f, 40, unit == 32 ? 49 * unit : unit, 29);
        test_matmul_size(k, type, (flavour)f, 16, 2 * unit, 32);
        test_matmul_size(k, type, (flavour)f, 77, 2 * unit, 4);
        test_matmul_size(k, type, (flavour)f, 8, unit == 1 ? 576 : unit == 32 ? 576 : 1536, 3);
        if (unit == 1)
            for (size_t cols = 1; cols < 10; cols++)
                test_matmul_size(k, type, (flavour)f, 9, cols, cols);
    }
}

/* Activations at the edges of what can be quantised: the results must still be the reference's. */
static void test_quantize_edges(const xl_kernels *k) {
    const xl_kernels *ref = xl_kernels_pick("scalar");
    enum { COLS = 32 * 10 };
    float x[COLS], y[8], expected[8];
    fill(x, COLS, PLAIN);
    x[3] = NAN, x[40] = INFINITY, x[64 + 31] = -INFINITY;
    for (int c = 96; c < 128; c++) x[c] = 1e-31f;
    for (int c = 128; c < 160; c++) x[c] = -0.0f;
    x[160] = FLT_MAX, x[192] = 1.01e-30f;
    for (int c = 193; c < 224; c++) x[c] = 0.0f;
    /* halves: to even */
    for (int c = 224; c < 256; c++) x[c] = ((float)(c - 224) - 15.5f) * (1.0f / 127.0f);
    x[255] = 1.0f;
    void *w = random_matrix(XL_Q8_0, 8, COLS, PLAIN);
    size_t stride = xl_act_bytes(COLS);
    for (size_t shift = 0; shift < 2; shift++) {
        uint8_t *a = activations(k, XL_Q8_0, x, COLS, 1, stride),
                *b = activations(ref, XL_Q8_0, x, COLS, 1, stride);
        k->matmul[XL_Q8_0](y, 8, w, COLS, 0, 8, a, stride, 1);
        ref->matmul[XL_Q8_0](expected, 8, w, COLS, 0, 8, b, stride, 1);
        CHECK(same(y, expected, 8), "%s: quantisation at the edges", k->name);
        /* FLT_MAX times the largest weight, 1.27, is infinite */
        CHECK(x[160] > 1 || isfinite(expected[0]), "reference");
        float rest[COLS], expected_rest[COLS];
        k->quantize(a, rest, x, COLS), ref->quantize(b, expected_rest, x, COLS);
        CHECK(same(rest, expected_rest, COLS), "%s: what quantisation leaves", k->name);
        CHECK(rest[3] == 0.0f && rest[100] == 0.0f && fabsf(rest[250]) <= fabsf(x[255]) / 254,
              "%s: it leaves at most half a step", k->name);
        release(a), release(b);
        x[160] = 1.0f;
    }
    release(w);
}

/* Keys and values at the edges of f16: the reference's bits. */
static void test_store_edges(const xl_kernels *k) {
    const xl_kernels *ref = xl_kernels_pick("scalar");
    enum { DIM = 24 };
    static const float edges[DIM] = {
        0.0f,     -0.0f,     65504.0f, 65519.0f, 65520.0f,     -65520.0f,    1e30f,    -1e30f,
        INFINITY, -INFINITY, 2049.0f,  2051.0f,  -2049.0f,     1e-30f,       1e-40f,   -1e-40f,
        0x1p-24f, 0x1p-25f,  0x3p-25f, 0x5p-25f, 0x1.ffep-15f, 0x1.fffp-15f, 0x1p-14f, 0.1f};
    uint16_t a[2][8 * DIM] = {{0}}, b[2][8 * DIM] = {{0}};
    float v[DIM];
    for (int i = 0; i < DIM; i++) v[i] = -edges[i];
    k->store_kv[XL_KV_F16](a[0], a[1], 5, edges, v, DIM);
    ref->store_kv[XL_KV_F16](b[0], b[1], 5, edges, v, DIM);
    CHECK(!memcmp(a, b, sizeof a), "%s: keys and values at the edges of f16", k->name);
    CHECK(b[0][8 * 4 + 5] == 0x7bff && b[0][8 * 17 + 5] == 0 && b[0][8 * 18 + 5] == 2,
          "reference: saturated, and to nearest even");
}

/* ---- vectors ---- */

/* What the vectors' functions mean, in double. */
static void test_meaning_of_vectors(void) {
    const xl_kernels *ref = xl_kernels_pick("scalar");
    enum { N = 64 };
    float x[N], y[N], w[N], b[N];
    for (int kind = 0; kind < 3; kind++) {
        for (double at = -40; at < 40; at += 0.0137) {
            double gate =
                kind == XL_SILU ? 1 / (1 + exp(-at))
                : kind == XL_GELU
                    ? 0.5 * erfc(-at / sqrt(2))
                    : 0.5 * (1 + tanh(sqrt(2 / acos(-1)) * (at + 0.044715 * at * at * at)));
            x[0] = (float)at;
            ref->activate(x, NULL, 1, (xl_activation)kind);
            CHECK(fabs((double)x[0] - at * gate) < 3e-7 * (1 + fabs(at)), "activation %d of %g: %g",
                  kind, at, (double)x[0]);
        }
    }
    double mean = 0, variance = 0;
    for (int i = 0; i < N; i++) {
        x[i] = 3 + (float)(i * 37 % 64) / 9, w[i] = 1 + (float)i / 64, b[i] = (float)(i % 5) - 2;
        mean += (double)x[i] / N;
    }
    for (int i = 0; i < N; i++) variance += ((double)x[i] - mean) * ((double)x[i] - mean) / N;
    ref->layernorm(y, x, w, b, N, 1e-5f);
    for (int i = 0; i < N; i++) {
        double wanted = ((double)x[i] - mean) / sqrt(variance + 1e-5) * (double)w[i] + (double)b[i];
        CHECK(fabs((double)y[i] - wanted) < 1e-5, "layernorm: %g, not %g", (double)y[i], wanted);
    }
}

/* Random sizes and numbers. */
static void test_random(const xl_kernels *k, uint64_t seed) {
    for (int round = 0; round < 300; round++) {
        uint8_t bytes[64];
        for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)xl_random(&seed);
        input in = {bytes, sizeof bytes};
        test_drawn(k, &in);
    }
}

static void test_table(const xl_kernels *k, uint64_t seed) {
    static const size_t lengths[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 64, 100, 576, 577};
#if defined(__SSE__)
    const unsigned modes = _mm_getcsr() & ~0x3fu; /* how is rounded; without what has happened */
#endif
    for (int t = 0; t < XL_TYPE_COUNT; t++) test_matmul(k, (xl_type)t);
    test_quantize_edges(k);
    test_store_edges(k);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        test_vectors(k, lengths[i], PLAIN);
        test_stats(k, lengths[i], PLAIN);
    }
    test_stats(k, 4099, PLAIN);
    static const size_t dims[][2] = {{64, 64}, {80, 80}, {96, 24}, {128, 128}, {32, 8}, {72, 6}};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        test_rope(k, dims[i][0], dims[i][1], PLAIN);
    static const size_t positions[] = {1, 2, 7, 8, 9, 16, 23, 65, 200, 513};
    for (int t = 0; t < XL_KV_COUNT; t++)
        for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) {
            test_attend(k, (xl_kv_type)t, 64, 3, positions[i], 1, PLAIN);
            test_attend(k, (xl_kv_type)t, 64, 3, positions[i], 4, PLAIN);
            test_attend(k, (xl_kv_type)t, 64, 5, positions[i], 2, PLAIN);
            test_attend(k, (xl_kv_type)t, 80, 1, positions[i], 1, PLAIN);
            test_attend(k, (xl_kv_type)t, 128, 4, positions[i], 3, PLAIN);
            test_attend(k, (xl_kv_type)t, 24, 7, positions[i], 2, PLAIN);
            test_attend(k, (xl_kv_type)t, 96, 2, positions[i], 4, PLAIN);
            test_attend(k, (xl_kv_type)t, 256, 4, positions[i], 2, PLAIN);
            test_attend(k, (xl_kv_type)t, 32, 3, positions[i], 4, PLAIN);
            if (t == XL_KV_Q8) test_attend(k, XL_KV_Q8, 64, 3, positions[i], 1, OUTLIER);
        }
    test_random(k, seed);
#if defined(__SSE__)
    CHECK((_mm_getcsr() & ~0x3fu) == modes, "%s: leaves another way of rounding", k->name);
#endif
}

static void test_pick(void) {
    const xl_kernels *list[XL_KERNELS_MAX];
    size_t n = xl_kernels_list(list);
    CHECK(n >= 1 && n <= XL_KERNELS_MAX && strcmp(list[n - 1]->name, "scalar") == 0,
          "scalar is last");
    CHECK(xl_kernels_list(NULL) == n && xl_kernels_pick(NULL) == list[0], "the best one is first");
    for (size_t i = 0; i < n; i++)
        CHECK(xl_kernels_pick(list[i]->name) == list[i], "pick %s", list[i]->name);
    CHECK(!xl_kernels_pick("mmx") && !xl_kernels_pick(""), "unknown names");
}

/* test_kernels [instruction set] [seed] */
int main(int argc, char **argv) {
    const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL);
    test_pick();
    test_meaning_of_vectors();
    for (int t = 0; t < XL_TYPE_COUNT; t++) test_reference((xl_type)t);
    const xl_kernels *list[XL_KERNELS_MAX];
    size_t n = xl_kernels_list(list);
    for (size_t i = 0; i < n; i++) {
        if (argc > 1 && strcmp(argv[1], list[i]->name)) continue;
        printf("kernels %s, random sizes of seed %llu\n", list[i]->name, (unsigned long long)seed);
        fflush(stdout); /* before a crash */
        test_table(list[i], seed);
        printf("kernels %s: checked\n", list[i]->name);
    }
    if (failures) fprintf(stderr, "%d checks failed\n", failures);
    else printf("test_kernels: all checks passed\n");
    return failures != 0;
}
