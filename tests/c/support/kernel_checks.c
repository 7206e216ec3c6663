/* Compares the kernels of an instruction set with the scalar ones: see the header. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "kernel_checks.h"

#include "base/fmath.h"

#include <math.h>
#include <string.h>
#include <unistd.h>
#if !defined(__wasi__)
#include <sys/mman.h>
#endif

int failures;

static uint64_t random_state = 0x9e3779b97f4a7c15u;
static input *numbers; /* of the flavour BYTES */

uint32_t random32(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 32);
}

static float random_unit(void) { return (float)(int32_t)random32() * 0x1p-31f; }

/* The next four bytes of the input as a number that no sum of squares overflows with, and no NaN;
 * behind its end, a random one. */
static float number_of_bytes(void) {
    uint32_t bits = numbers && numbers->n ? take(numbers, 4) : random32();
    float x;
    memcpy(&x, &bits, 4);
    if (!(fabsf(x) < 1e4f)) bits = (bits & 0x807fffffu) | 0x3f800000u;
    memcpy(&x, &bits, 4);
    return x;
}

void fill(float *x, size_t n, flavour f) {
    for (size_t i = 0; i < n; i++) {
        x[i] = random_unit();
        if (f == EXTREME) x[i] = random32() & 1 ? 3.0f : -3.0f;
        if (f == BYTES) x[i] = number_of_bytes();
        if (f == WILD) x[i] *= i / 32 % 3 == 1 ? 1e-38f : i / 32 % 3 == 2 ? 1e4f : random32() & 1;
    }
}

#if defined(__wasi__) /* has no pages */
void *guarded(size_t bytes) {
    const size_t rounded = (bytes + 63) / 64 * 64;
    void *memory = aligned_alloc(64, rounded);
    if (!memory) exit(1);
    return memset(memory, 0, rounded);
}

void release(void *memory) { free(memory); }
#else
enum { CANARY = 0xa5 };

/* Memory of zeros that ends where a page begins that nobody may touch: a load too far is seen, also
 * one that no sanitizer knows of. The page before it says how large it is; the rest of that and what
 * lies between are canaries. */
void *guarded(size_t bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), rounded = (bytes + page - 1) / page * page;
    uint8_t *base = mmap(NULL, page + rounded + page, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + page + rounded, page, PROT_NONE) != 0) exit(1);
    uint8_t *memory = base + page + rounded - bytes;
    memset(base, CANARY, (size_t)(memory - base));
    memcpy(base, &rounded, sizeof rounded);
    return memory;
}

void release(void *memory) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *base = (uint8_t *)memory - (uintptr_t)memory % page - page;
    size_t rounded;
    memcpy(&rounded, base, sizeof rounded);
    const uint8_t *at = base + sizeof rounded;
    while (at < (uint8_t *)memory && *at == CANARY) at++;
    CHECK(at == memory, "something is written before a buffer");
    munmap(base, page + rounded + page);
}
#endif

float *random_floats(size_t n, flavour f) {
    float *x = guarded(n * sizeof(float));
    fill(x, n, f);
    return x;
}

void *aligned(size_t bytes) { return guarded((bytes + 63) / 64 * 64); }

bool same(const float *a, const float *b, size_t n) { return memcmp(a, b, n * sizeof(float)) == 0; }

/* A random matrix in tiles. EXTREME: all bits set or none, so that the integers are at the ends
 * of their ranges. */
void *random_matrix(xl_type type, size_t rows, size_t cols, flavour f) {
    const xl_quant_type *t = &xl_quant_types[type];
    size_t bytes, blocks = cols / t->block_elems;
    CHECK(xl_matrix_bytes(type, rows, cols, &bytes), "%s size", t->name);
    void *tiles = aligned(bytes);
    for (size_t i = 0; i < rows * blocks; i++) {
        uint8_t block[256];
        for (size_t k = 0; k < t->block_bytes; k++)
            block[k] =
                (uint8_t)(f == BYTES && numbers && numbers->n ? take(numbers, 1) : random32());
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
uint8_t *activations(const xl_kernels *k, xl_type type, const float *x, size_t cols, size_t n,
                     size_t stride) {
    uint8_t *act = aligned(n * stride);
    for (size_t i = 0; i < n; i++) {
        if (xl_type_is_quantized(type)) k->quantize(act + i * stride, NULL, x + i * cols, cols);
        else memcpy(act + i * stride, x + i * cols, cols * sizeof(float));
    }
    return act;
}

/* ---- matmul, bit for bit ---- */

void test_matmul_size(const xl_kernels *k, xl_type type, flavour f, size_t rows, size_t cols,
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

/* ---- vectors ---- */

void test_vectors(const xl_kernels *k, size_t n, flavour f) {
    const xl_kernels *ref = xl_kernels_pick("scalar");
    float *x = random_floats(n, f), *w = random_floats(n, f), *a = guarded(4 * n),
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

void test_rope(const xl_kernels *k, size_t head_dim, size_t rot, flavour f) {
    const xl_kernels *ref = xl_kernels_pick("scalar");
    const size_t n = 5 * head_dim;
    float cosines[128], sines[128], *a = random_floats(n, f), *b = guarded(4 * n);
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

void test_stats(const xl_kernels *k, size_t n, flavour f) {
    const xl_kernels *ref = xl_kernels_pick("scalar");
    float *x = random_floats(n, f);
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

/* Tiles from `first` on of a cache of `tiles`, cut into at most n stretches, each in memory of its
 * own. Returns how many there are. */
static size_t cut(xl_stretch *stretches, size_t n, const uint8_t *k, const uint8_t *v,
                  size_t tile_bytes, size_t first, size_t tiles) {
    size_t i = 0;
    for (size_t at = first; at < tiles; i++) {
        const size_t left = tiles - at, some = i + 1 == n ? left : 1 + random32() % left;
        uint8_t *const kt = aligned(some * tile_bytes), *const vt = aligned(some * tile_bytes);
        memcpy(kt, k + at * tile_bytes, some * tile_bytes);
        memcpy(vt, v + at * tile_bytes, some * tile_bytes);
        stretches[i] = (xl_stretch){kt, vt, some};
        at += some;
    }
    return i;
}

/* n: most stretches that the cache lies in. OUTLIER: one element of keys is 40 times as large as the
 * others, as in real models; 8 bits have to hold the others too. */
void test_attend(const xl_kernels *k, xl_kv_type type, size_t head_dim, size_t group, size_t n_pos,
                 size_t n, flavour f) {
    const xl_kernels *ref = xl_kernels_pick("scalar");
    /* several queries: those of the last positions */
    const size_t rows = n_pos < 9 ? 1 : 1 + n_pos % 5, end = n_pos - rows + 1,
                 first = head_dim % 64 ? n_pos / 3 : 0, width = group * head_dim,
                 stride = width + 8, tiles = (n_pos + 8) / 8,
                 tile_bytes = xl_kv_bytes(type, head_dim, 8), bytes = tiles * tile_bytes;
    const xl_reach span = {end, first ? end - first : 0};
    xl_stretch stretches[XL_KV_STRETCHES], whole;
    uint8_t *kc = aligned(bytes), *vc = aligned(bytes), *kr = aligned(bytes), *vr = aligned(bytes);
    /* what lies after the last position must not matter */
    memset(kc, 0xff, bytes), memset(vc, 0xff, bytes);
    memset(kr, 0xff, bytes), memset(vr, 0xff, bytes);
    float *kf = random_floats(n_pos * head_dim, f), *vf = random_floats(n_pos * head_dim, f);
    float *q = random_floats(rows * stride, f), *a = guarded(4 * rows * stride),
          *b = guarded(4 * rows * stride);
    float *scratch = guarded(4 * xl_attend_scratch_floats(n_pos)), scale = 0.7f;
    for (size_t p = 0; p < n_pos && f == OUTLIER; p++) kf[p * head_dim + 5] *= 40;
    for (size_t g = 0; g < rows * group && f == OUTLIER; g++)
        q[g / group * stride + g % group * head_dim + 5] *= 0.1f;
    for (size_t p = 0; p < n_pos; p++) {
        k->store_kv[type](kc, vc, p, kf + p * head_dim, vf + p * head_dim, head_dim);
        ref->store_kv[type](kr, vr, p, kf + p * head_dim, vf + p * head_dim, head_dim);
    }
    const size_t n_cut = cut(stretches, n, kc, vc, tile_bytes, first / 8, tiles);
    cut(&whole, 1, kr, vr, tile_bytes, first / 8, tiles);
    k->attend[type](a, q, stride, rows, stretches, span, head_dim, group, scale, scratch);
    ref->attend[type](b, q, stride, rows, &whole, span, head_dim, group, scale, scratch);
    CHECK(same(a, b, rows * stride),
          "%s attend kv %d head_dim %zu group %zu positions %zu rows %zu stretches %zu", k->name,
          (int)type, head_dim, group, n_pos, rows, n_cut);
    ref->attend[type](a, q, stride, rows, stretches, span, head_dim, group, scale, scratch);
    CHECK(same(a, b, rows * stride), "scalar attend over %zu stretches", n_cut);
    double tolerance = type == XL_KV_F32   ? 1e-5
                       : type == XL_KV_F16 ? 2e-3
                       : f == OUTLIER      ? 0.15
                                           : 0.08;
    /* the reference against double */
    for (size_t g = 0; g < rows * group && f != BYTES; g++) {
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
    for (size_t i = 0; i < n_cut; i++)
        release((void *)(uintptr_t)stretches[i].k), release((void *)(uintptr_t)stretches[i].v);
    release((void *)(uintptr_t)whole.k), release((void *)(uintptr_t)whole.v);
    release(kc), release(vc), release(kr), release(vr), release(kf), release(vf), release(q),
        release(a), release(b), release(scratch);
}

/* ---- drawn ---- */

void test_drawn(const xl_kernels *k, input *in) {
    const uint32_t what = take(in, 1);
    const flavour f = take(in, 1) % 4 ? BYTES : PLAIN;
    const size_t a = take(in, 1), b = take(in, 1), c = take(in, 1);
    random_state = take(in, 4);
    numbers = in;
    switch (what % 6) {
    case 0:
    case 1: {
        const xl_type type = (xl_type)(what / 6 % XL_TYPE_COUNT);
        const size_t unit = xl_quant_types[type].block_elems;
        test_matmul_size(k, type, f, 1 + a % 40, unit == 1 ? 1 + b : unit * (1 + b % 3),
                         1 + c % 12);
        break;
    }
    case 2: test_vectors(k, 1 + a * (c % 4) + b, f); break;
    case 3: test_stats(k, 1 + a * (c % 8) + b, f); break;
    case 4: {
        const size_t head_dim = 8 * (1 + a % 32);
        test_rope(k, head_dim, 2 * (1 + b % (head_dim / 2)), f);
        break;
    }
    default: {
        test_attend(k, (xl_kv_type)(what / 6 % XL_KV_COUNT), 8 * (1 + a % 32), 1 + c % 9, 1 + b,
                    1 + c / 9 % XL_KV_STRETCHES, f);
    }
    }
    numbers = NULL;
}
