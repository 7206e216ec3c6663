/* Kernels: the scalar reference against plain double arithmetic, and every other instruction set
 * against the reference, bit for bit. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "base/fmath.h"
#include "kernel/kernels.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if !defined(__wasi__)
#include <sys/mman.h>
#endif
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

static int failures;

#define CHECK(condition, ...)                               \
    do {                                                    \
        if (!(condition)) {                                 \
            fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
            fprintf(stderr, __VA_ARGS__);                   \
            fputc('\n', stderr);                            \
            if (++failures > 20) exit(1);                   \
        }                                                   \
    } while (0)

static uint64_t random_state = 0x9e3779b97f4a7c15u;

static uint32_t random32(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 32);
}

static float random_unit(void) { return (float)(int32_t)random32() * 0x1p-31f; }

/* What inputs look like. EXTREME: integers at the ends of their ranges. WILD: magnitudes from 1e-38
 * to 1e4, blocks of zeros, values that are not finite (for the quantisation alone). */
typedef enum flavour { PLAIN, EXTREME, WILD, FLAVOURS } flavour;

static void fill(float *x, size_t n, flavour f) {
    for (size_t i = 0; i < n; i++) {
        x[i] = random_unit();
        if (f == EXTREME) x[i] = random32() & 1 ? 3.0f : -3.0f;
        if (f == WILD) x[i] *= i / 32 % 3 == 1 ? 1e-38f : i / 32 % 3 == 2 ? 1e4f : random32() & 1;
    }
}

#if defined(__wasi__) /* has no pages */
static void *guarded(size_t bytes) {
    const size_t rounded = (bytes + 63) / 64 * 64;
    void *memory = aligned_alloc(64, rounded);
    if (!memory) exit(1);
    return memset(memory, 0, rounded);
}

static void release(void *memory) { free(memory); }
#else
/* Memory of zeros that ends where a page begins that nobody may touch: a load too far is seen, also
 * one that no sanitizer knows of. The page before it says how large it is. */
static void *guarded(size_t bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), rounded = (bytes + page - 1) / page * page;
    uint8_t *base = mmap(NULL, page + rounded + page, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + page + rounded, page, PROT_NONE) != 0) exit(1);
    memcpy(base, &rounded, sizeof rounded);
    return base + page + rounded - bytes;
}

static void release(void *memory) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *base = (uint8_t *)memory - (uintptr_t)memory % page - page;
    size_t rounded;
    memcpy(&rounded, base, sizeof rounded);
    munmap(base, page + rounded + page);
}
#endif

static float *random_floats(size_t n, flavour f) {
    float *x = guarded(n * sizeof(float));
    fill(x, n, f);
    return x;
}

static void *aligned(size_t bytes) { return guarded((bytes + 63) / 64 * 64); }

static bool same(const float *a, const float *b, size_t n) {
    return memcmp(a, b, n * sizeof(float)) == 0;
}

/* A random matrix in tiles. EXTREME: all bits set or none, so that the integers are at the ends
 * of their ranges. */
static void *random_matrix(xl_type type, size_t rows, size_t cols, flavour f) {
    const xl_quant_type *t = &xl_quant_types[type];
    size_t bytes, blocks = cols / t->block_elems;
    CHECK(xl_matrix_bytes(type, rows, cols, &bytes), "%s size", t->name);
    void *tiles = aligned(bytes);
    for (size_t i = 0; i < rows * blocks; i++) {
        uint8_t block[256];
        for (size_t k = 0; k < t->block_bytes; k++) block[k] = (uint8_t)random32();
        if (f == EXTREME)
            memset(block, random32() & 1 ? 0xff : random32() & 1 ? 0x80 : 0, sizeof block);
        uint16_t d = xl_f32_to_f16(random_unit() * 0.01f), m = xl_f32_to_f16(random_unit());
        if (f == WILD && i % 5 == 0) d = (uint16_t)(random32() & 0x83ff); /* subnormal */
        if (f == WILD && i % 5 == 1) d = (uint16_t)(0x7bff | (random32() & 0x8000));
        float value = random_unit();
        if (type == XL_F32) memcpy(block, &value, 4);
        else if (type == XL_BF16) memcpy(block, (uint8_t *)&value + 2, 2);
        else memcpy(block + (type == XL_Q6_K ? 208 : 0), &d, 2);
        if (type == XL_Q4_1 || type == XL_Q5_1 || type == XL_Q4_K || type == XL_Q5_K)
            memcpy(block + 2, &m, 2);
        CHECK(xl_repack_blocks(type, tiles, blocks * t->block_elems, i / blocks, i % blocks, 1,
                               block),
              "%s block", t->name);
    }
    return tiles;
}

/* n activation rows as matmul wants them for this type. */
static uint8_t *activations(const xl_kernels *k, xl_type type, const float *x, size_t cols,
                            size_t n, size_t stride) {
    uint8_t *act = aligned(n * stride);
    for (size_t i = 0; i < n; i++) {
        if (xl_type_is_quantized(type)) k->quantize(act + i * stride, NULL, x + i * cols, cols);
        else memcpy(act + i * stride, x + i * cols, cols * sizeof(float));
    }
    return act;
}

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

static void test_matmul_size(const xl_kernels *k, xl_type type, flavour f, size_t rows, size_t cols,
                             size_t n) {
    const xl_kernels *ref = xl_kernels_pick("scalar");
    size_t padded = (rows + 7) / 8 * 8, y_stride = padded + 3;
    size_t stride = xl_type_is_quantized(type) ? xl_act_bytes(cols) : cols * sizeof(float) + 16;
    float *x = random_floats(n * cols, f), *y = random_floats(n * y_stride, PLAIN),
          *expected = guarded(n * y_stride * sizeof(float));
    memcpy(expected, y, n * y_stride * sizeof(float));
    void *w = random_matrix(type, rows, cols, f);
    uint8_t *act = activations(k, type, x, cols, n, stride),
            *act_ref = activations(ref, type, x, cols, n, stride);
    ref->matmul[type](expected, y_stride, w, cols, 0, rows, act_ref, stride, n);
    k->matmul[type](y, y_stride, w, cols, 0, rows, act, stride, n);
    for (size_t i = 0; i < n * y_stride; i++)
        if (memcmp(&y[i], &expected[i], 4)) {
            CHECK(false,
                  "%s %s flavour %d, %zu x %zu, n %zu: row %zu of activation %zu is %.9g, not %.9g",
                  k->name, xl_quant_types[type].name, (int)f, rows, cols, n, i % y_stride,
                  i / y_stride, (double)y[i], (double)expected[i]);
            break;
        }
    /* split in two row ranges, and the activations one by one: the same bits */
    size_t cut = padded / 2 / 8 * 8;
    memset(y, 0, n * y_stride * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        if (cut)
            k->matmul[type](y + i * y_stride, y_stride, w, cols, 0, cut, act + i * stride, stride,
                            1);
        k->matmul[type](y + i * y_stride, y_stride, w, cols, cut, rows - cut, act + i * stride,
                        stride, 1);
        CHECK(same(y + i * y_stride, expected + i * y_stride, padded),
              "%s %s: row ranges or n change the result", k->name, xl_quant_types[type].name);
    }
    release(x), release(y), release(expected), release(w), release(act), release(act_ref);
}

static void test_matmul(const xl_kernels *k, xl_type type) {
    size_t unit = xl_quant_types[type].block_elems;
    for (int f = 0; f < FLAVOURS; f++) {
        for (size_t n = 1; n <= 9; n++)
            test_matmul_size(k, type, (flavour)f, 24, unit == 1 ? 70 : unit * (1 + n % 3), n);
        test_matmul_size(k, type, (flavour)f, 1, unit, 1);
        test_matmul_size(k, type, (flavour)f, 13, 3 * unit, 17);
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
        CHECK(isfinite(expected[0]), "reference");
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

/* ---- vectors ---- */

static void test_vectors(const xl_kernels *k, size_t n) {
    const xl_kernels *ref = xl_kernels_pick("scalar");
    float *x = random_floats(n, PLAIN), *w = random_floats(n, PLAIN), *a = guarded(4 * n),
          *b = guarded(4 * n);
    k->rmsnorm(a, x, w, n, 1e-5f), ref->rmsnorm(b, x, w, n, 1e-5f);
    CHECK(same(a, b, n), "%s rmsnorm %zu", k->name, n);
    memcpy(a, x, 4 * n);
    k->rmsnorm(a, a, w, n, 1e-5f);
    CHECK(same(a, b, n), "%s rmsnorm in place %zu", k->name, n);
    for (size_t i = 0; i < n; i++) w[i] *= 100.0f;
    for (int kind = 0; kind < 6; kind++) {
        const float *up = kind % 2 ? NULL : x;
        memcpy(a, w, 4 * n), memcpy(b, w, 4 * n);
        k->activate(a, up, n, (xl_activation)(kind / 2));
        ref->activate(b, up, n, (xl_activation)(kind / 2));
        CHECK(same(a, b, n), "%s activate %d %zu", k->name, kind, n);
    }
    if (n % 8 == 0) {
        k->layernorm(a, x, w, x, n, 1e-5f), ref->layernorm(b, x, w, x, n, 1e-5f);
        CHECK(same(a, b, n), "%s layernorm %zu", k->name, n);
        memcpy(a, x, 4 * n);
        k->layernorm(a, a, w, x, n, 1e-5f);
        CHECK(same(a, b, n), "%s layernorm in place %zu", k->name, n);
    }
    memcpy(a, w, 4 * n), memcpy(b, w, 4 * n);
    k->add(a, w, n), ref->add(b, w, n);
    k->mul(a, x, n), ref->mul(b, x, n);
    k->axpy(a, -0.37f, w, n), ref->axpy(b, -0.37f, w, n);
    CHECK(same(a, b, n), "%s add, mul, axpy %zu", k->name, n);
    release(x), release(w), release(a), release(b);
}

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

static void test_rope(const xl_kernels *k) {
    const xl_kernels *ref = xl_kernels_pick("scalar");
    static const size_t dims[][2] = {{64, 64}, {80, 80}, {96, 24}, {128, 128}, {32, 8}, {72, 6}};
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
        size_t head_dim = dims[d][0], rot = dims[d][1], n = 5 * head_dim;
        float cosines[64], sines[64], *a = random_floats(n, PLAIN), *b = guarded(4 * n);
        for (size_t i = 0; i < rot / 2; i++) {
            cosines[i] = (float)xl_cos(3.7 * (double)i);
            sines[i] = (float)xl_sin(3.7 * (double)i);
        }
        for (int style = 0; style < 2; style++) {
            memcpy(b, a, 4 * n);
            float first = a[0], partner = a[style == XL_ROPE_NORM ? 1 : rot / 2];
            k->rope(a, cosines, sines, 5, head_dim, rot, (xl_rope_style)style);
            ref->rope(b, cosines, sines, 5, head_dim, rot, (xl_rope_style)style);
            CHECK(same(a, b, n), "%s rope %zu %zu style %d", k->name, head_dim, rot, style);
            CHECK(b[0] == first * cosines[0] - partner * sines[0], "rope meaning");
        }
        release(a), release(b);
    }
}

static void test_stats(const xl_kernels *k, size_t n) {
    const xl_kernels *ref = xl_kernels_pick("scalar");
    float *x = random_floats(n, PLAIN);
    for (int round = 0; round < 6; round++) {
        xl_softmax_stats a, b;
        memset(&a, 0, sizeof a), memset(&b, 0, sizeof b);
        if (round == 1)
            for (size_t i = 0; i < n; i++) x[i] *= 120.0f;
        if (round == 2) x[random32() % n] = x[random32() % n] = 500.0f; /* a tie, or one */
        if (round == 3)
            for (size_t i = 0; i < n; i++) x[i] = -2.5f;
        if (round == 4) x[0] = -INFINITY, x[n - 1] = -1.0f;
        if (round == 5) x[n / 2] = 3.0f, x[n - 1] = 3.0f;
        k->softmax_stats(x, n, &a), ref->softmax_stats(x, n, &b);
        CHECK(memcmp(&a, &b, sizeof a) == 0,
              "%s softmax_stats n %zu round %d: arg %zu %zu, second %g %g, sum %g %g, %g %g",
              k->name, n, round, a.arg, b.arg, (double)a.second, (double)b.second,
              (double)a.sum_exp, (double)b.sum_exp, (double)a.sum_xexp, (double)b.sum_xexp);
        CHECK(k->argmax(x, n) == b.arg, "%s argmax n %zu", k->name, n);
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += exp((double)x[i] - (double)b.max);
        CHECK(fabs((double)b.sum_exp - sum) < 1e-4 * sum, "reference sum_exp");
        if (round == 3)
            CHECK(b.arg == 0 && (n == 1 || b.second == -2.5f), "ties go to the lowest index");
    }
    release(x);
}

/* ---- attention ---- */

/* slots: as many as the cache has positions, or fewer: then the first query looks at those that the
 * last but 7 of them hold. `outlier`: one element of keys is 40 times as large as the others, as in
 * real models; 8 bits have to hold the others too. */
static void test_attend(const xl_kernels *k, xl_kv_type type, size_t head_dim, size_t group,
                        size_t n_pos, size_t slots, bool outlier) {
    const xl_kernels *ref = xl_kernels_pick("scalar");
    /* several queries: those of the last positions */
    const size_t rows = n_pos < 9 ? 1 : 1 + n_pos % 5, end = n_pos - rows + 1,
                 first = n_pos >= slots  ? n_pos - slots + 7
                         : head_dim % 64 ? n_pos / 3
                                         : 0,
                 width = group * head_dim, stride = width + 8;
    const xl_reach span = {end, first ? end - first : 0, slots};
    size_t bytes = xl_kv_bytes(type, head_dim, slots);
    uint8_t *kc = aligned(bytes), *vc = aligned(bytes), *kr = aligned(bytes), *vr = aligned(bytes);
    /* what lies after the last position must not matter */
    memset(kc, 0xff, bytes), memset(vc, 0xff, bytes);
    memset(kr, 0xff, bytes), memset(vr, 0xff, bytes);
    float *kf = random_floats(n_pos * head_dim, PLAIN),
          *vf = random_floats(n_pos * head_dim, PLAIN);
    float *q = random_floats(rows * stride, PLAIN), *a = guarded(4 * rows * stride),
          *b = guarded(4 * rows * stride);
    float *scratch = guarded(4 * xl_attend_scratch_floats(n_pos)), scale = 0.7f;
    for (size_t p = 0; p < n_pos && outlier; p++) kf[p * head_dim + 5] *= 40;
    for (size_t g = 0; g < rows * group && outlier; g++)
        q[g / group * stride + g % group * head_dim + 5] *= 0.1f;
    for (size_t p = 0; p < n_pos; p++) {
        const size_t at = p % slots;
        k->store_kv[type](kc, vc, at, kf + p * head_dim, vf + p * head_dim, head_dim);
        ref->store_kv[type](kr, vr, at, kf + p * head_dim, vf + p * head_dim, head_dim);
    }
    k->attend[type](a, q, stride, rows, kc, vc, span, head_dim, group, scale, scratch);
    ref->attend[type](b, q, stride, rows, kr, vr, span, head_dim, group, scale, scratch);
    CHECK(same(a, b, rows * stride),
          "%s attend kv %d head_dim %zu group %zu positions %zu rows %zu", k->name, (int)type,
          head_dim, group, n_pos, rows);
    double tolerance = type == XL_KV_F32 ? 1e-5 : type == XL_KV_F16 ? 2e-3 : outlier ? 0.15 : 0.08;
    for (size_t g = 0; g < rows * group; g++) { /* the reference against double */
        const size_t row = g / group, at = row * stride + g % group * head_dim,
                     from = first ? first + row : 0, to = end + row;
        double score[600], z = 0;
        for (size_t p = from; p < to; p++) {
            score[p] = 0;
            for (size_t c = 0; c < head_dim; c++)
                score[p] += (double)q[at + c] * (double)kf[p * head_dim + c];
            score[p] = exp(score[p] * (double)scale);
            z += score[p];
        }
        for (size_t c = 0; c < head_dim; c++) {
            double sum = 0;
            for (size_t p = from; p < to; p++) sum += score[p] / z * (double)vf[p * head_dim + c];
            CHECK(fabs(sum - (double)b[at + c]) < tolerance,
                  "attend reference kv %d: %g, in double %g", (int)type, (double)b[at + c], sum);
        }
    }
    release(kc), release(vc), release(kr), release(vr), release(kf), release(vf), release(q),
        release(a), release(b), release(scratch);
}

static void test_table(const xl_kernels *k) {
    static const size_t lengths[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 64, 100, 576, 577};
#if defined(__SSE__)
    const unsigned modes = _mm_getcsr() & ~0x3fu; /* how is rounded; without what has happened */
#endif
    for (int t = 0; t < XL_TYPE_COUNT; t++) test_matmul(k, (xl_type)t);
    test_quantize_edges(k);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        test_vectors(k, lengths[i]);
        test_stats(k, lengths[i]);
    }
    test_stats(k, 4099);
    test_rope(k);
    static const size_t positions[] = {1, 2, 7, 8, 9, 16, 23, 65, 200, 513};
    for (int t = 0; t < XL_KV_COUNT; t++)
        for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) {
            const size_t all = (positions[i] + 8) / 8 * 8;
            test_attend(k, (xl_kv_type)t, 64, 3, positions[i], all, false);
            test_attend(k, (xl_kv_type)t, 80, 1, positions[i], all, false);
            test_attend(k, (xl_kv_type)t, 128, 4, positions[i], all, false);
            test_attend(k, (xl_kv_type)t, 24, 7, positions[i], all, false);
            test_attend(k, (xl_kv_type)t, 96, 2, positions[i], all, false);
            test_attend(k, (xl_kv_type)t, 256, 4, positions[i], 40, false);
            test_attend(k, (xl_kv_type)t, 32, 3, positions[i], 16, false);
            if (t == XL_KV_Q8) test_attend(k, XL_KV_Q8, 64, 3, positions[i], all, true);
        }
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

int main(int argc, char **argv) {
    test_pick();
    test_meaning_of_vectors();
    for (int t = 0; t < XL_TYPE_COUNT; t++) test_reference((xl_type)t);
    const xl_kernels *list[XL_KERNELS_MAX];
    size_t n = xl_kernels_list(list);
    for (size_t i = 0; i < n; i++) {
        if (argc > 1 && strcmp(argv[1], list[i]->name)) continue;
        test_table(list[i]);
        printf("kernels %s: checked\n", list[i]->name);
    }
    if (failures) fprintf(stderr, "%d checks failed\n", failures);
    else printf("test_kernels: all checks passed\n");
    return failures != 0;
}
