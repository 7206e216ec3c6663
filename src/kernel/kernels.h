/* Compute kernels: one table of function pointers for each instruction set, all giving the same
 * bits.
 *
 * The contract. Every kernel of every instruction set returns what the scalar reference (scalar.c)
 * returns, bit for bit, on finite input: integer dot products are exact, every f32 operation
 * happens in the one order written here, no fused multiply-add, no reassociation. A row's result
 * does not depend on how many rows are computed with it, nor on how the matrix is split into row
 * ranges.
 *
 * Notation: all f32 operations round separately; sum8(l) is the fixed tree over 8 partial sums,
 *   sum8(l) = ((l0+l4) + (l2+l6)) + ((l1+l5) + (l3+l7)),
 * and "8 lanes by index" means that element i is added to l[i mod 8], i ascending, lanes starting
 * at 0.
 *
 * Quantised activations. Blocks of 32 columns: amax = max |x|; d = amax / 127; q =
 * round_to_nearest_even(x * (127 / amax)), an int8 in [-127, 127]; S = sum of q, S0 and S1 = sums
 * of its halves; s = d * (float)S. A block with amax < 1e-30 or with a value that is not finite is
 * all zero (d = 0, q = 0): a NaN cannot reach an integer conversion, whose result would differ from
 * machine to machine.
 *
 * Row dots. acc = 0; for blocks of 32 columns ascending, with D = sum of w*q over the block, exact
 * in int32:
 *   Q8_0, Q4_0, Q5_0   acc = acc + (float)D * (dw * d)              w = the signed weight (nibble -
 *                      8, 5 bits - 16)
 *   Q4_1, Q5_1         acc = acc + ((float)D * (dw * d) + m * s)    w = the unsigned nibble or 5
 *                      bits
 *   Q4_K, Q5_K         the same with dw = D_super * (float)sc and m = -(DMIN_super * (float)mn) of
 *                      the sub-block
 *   Q6_K               acc = acc + (float)(sc0 * D0 + sc1 * D1) * (dw * d)   D0, D1 = dots of the
 *                      two halves, w = 6 bits - 32
 *   F32, F16, BF16     p[c mod 4] = p[c mod 4] + w[c] * x[c], c ascending;  result (p0 + p1) + (p2
 *                      + p3)
 *
 * Threads: kernels have no state; any number of threads may run them on disjoint outputs.
 * Nothing here allocates or fails. */
#ifndef XL_KERNELS_H
#define XL_KERNELS_H

#include "quant.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes to reserve for one quantised activation row of cols columns (a multiple of 32) in any
 * instruction set's private layout; also a good stride between rows (a multiple of 64 that avoids
 * cache aliasing). Rows must be 16-byte aligned, better 64. cols <= SIZE_MAX / 8. A quantised
 * row is only valid for the kernel table that wrote it. */
static inline size_t xl_act_bytes(size_t cols) { return (cols / 32 * 192 + 127) / 128 * 128 + 64; }

/* How RoPE pairs the elements of a head: (2i, 2i+1), which llama GGUF files are permuted for, or
 * (i, i + rot_dim/2) as in qwen. */
typedef enum xl_rope_style { XL_ROPE_NORM, XL_ROPE_NEOX } xl_rope_style;

/* What a feed-forward network does between its matrices. All are x / (1 + e^-a(x)):
 * X(NAME, coefficients of a(x) = x * (c0 + c1 z + c2 z^2 ...), z = min(x^2, XL_GELU_MAX))
 *   SILU       a(x) = x
 *   GELU_TANH  0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), as 1 / (1 + e^-2u) is that
 *   GELU       x Phi(x), Phi of the normal distribution: a(x) = log(Phi(x) / Phi(-x)), within 1e-7 of
 *              the result (weighted minimax fit) */
#define XL_GELU_TERMS 7
#define XL_GELU_MAX 30.0f
#define XL_GELU_TANH_COEFFICIENTS 1.5957691216f, 0.0713548162726f
#define XL_GELU_COEFFICIENTS                                                                \
    1.595768432f, 7.266856701e-02f, -6.625997029e-05f, -1.104803223e-04f, 7.938219666e-06f, \
        -2.668928653e-07f, 3.611233873e-09f
typedef enum xl_activation { XL_SILU, XL_GELU_TANH, XL_GELU } xl_activation;

/* K/V cache element types. X(NAME, option name) */
#define XL_KV_LIST(X) X(F32, "f32") X(F16, "f16") X(Q8, "q8")
typedef enum xl_kv_type {
#define X(NAME, TEXT) XL_KV_##NAME,
    XL_KV_LIST(X)
#undef X
        XL_KV_COUNT
} xl_kv_type;

/* The cache of one layer and one K/V head is K and V in tiles of 8 positions, 16-byte aligned,
 * that lie one after the other in areas of xl_kv_bytes() bytes. A tile of K has the positions as
 * lanes, one of V a row for each position; a q8 tile starts with its 8 f32 scales, one for each
 * position. Both are written by store_kv and read by attend alone, and may be rolled back by just
 * using a smaller end and storing over it. `positions` is rounded up to a multiple of 8; head_dim a
 * multiple of 8, at most 256. No overflow check: keep positions * head_dim <= SIZE_MAX / 8. */
size_t xl_kv_bytes(xl_kv_type type, size_t head_dim, size_t positions);

/* Of the last tile of an area, 8 positions, those from `from` on become zeros. */
void xl_kv_clear(xl_kv_type type, bool is_k, size_t head_dim, uint8_t *tile, size_t from);
/* Are all numbers of `tiles` tiles finite, and within what f16 can say? With such numbers nothing
 * overflows. */
bool xl_kv_is_sane(xl_kv_type type, size_t head_dim, const uint8_t *area, size_t tiles);

/* Scores of so many query heads at once, of one position or several, are held in attend's
 * scratch. */
#define XL_ATTEND_CHAINS 6
/* f32 elements of scratch that attend needs for queries up to position n_pos - 1. */
static inline size_t xl_attend_scratch_floats(size_t n_pos) {
    return XL_ATTEND_CHAINS * ((n_pos + 7) / 8 * 8 + 8);
}

/* What an exit or a sampler asks of a row of scores. All relative to max, so that
 *   p1 = 1 / sum_exp, log-sum-exp = max + log(sum_exp), entropy = log(sum_exp) - sum_xexp /
 *   sum_exp. */
typedef struct xl_softmax_stats {
    float max; /* the largest value */
    /* the largest value at any other index (equal to max on a tie); -FLT_MAX if n is 1 */
    float second;
    size_t arg;     /* lowest index of the largest value */
    float sum_exp;  /* sum of e, e = xl_expf(x - max): 8 lanes by index, sum8 */
    float sum_xexp; /* sum of (x - max) * e, the same order */
} xl_softmax_stats;

/* The kernels, X(return type, name, parameters). All pointers to f32 need 4-byte alignment only (16
 * or more is faster); regions written do not overlap regions read, unless a parameter is named as
 * in and out.
 *
 * quantize      act [xl_act_bytes(cols)] <- x [cols] f32; cols a multiple of 32. rest [cols], if
 *               not NULL: what that leaves, x - d * (float)q, 0 in blocks that count as zero;
 *               quantised in its turn, it is a second row whose products are to be added to the
 *               first's.
 *
 * rmsnorm       y [n] = (x * r) * w, r = 1 / sqrt(ss / n + eps), ss = sum of x*x: 8 lanes by index,
 *               sum8. y may be x.
 * layernorm     y [n] = (d * r) * w + b, d = x - m, m = sum of x / n, r = 1 / sqrt(ss / n + eps), ss =
 *               sum of d*d; both sums 8 lanes by index, sum8. n a multiple of 8. y may be x.
 *
 * rope          rotate the first rot_dim (even, <= head_dim) elements of each head of x
 *               [n_heads][head_dim], in place, by the angles of one position: cos, sin [rot_dim /
 *               2];  a' = a*cos - b*sin, b' = a*sin + b*cos.
 *
 * activate      x [n] = (x / (1 + xl_expf(-a))) * up, in place, a as xl_activation says (Horner's way);
 *               up NULL: without that factor.
 * add, mul      x [n] = x + y, x * y, in place.
 * axpy          y [n] = y + a * x, in place.
 *
 * argmax        lowest index of the largest of x [n]; n >= 1.
 * softmax_stats see xl_softmax_stats; n >= 1, x finite (or -inf, which counts nothing).
 */
#define XL_KERNEL_LIST(X)                                                              \
    X(void, quantize, (void *act, float *rest, const float *x, size_t cols))           \
    X(void, rmsnorm, (float *y, const float *x, const float *w, size_t n, float eps))  \
    X(void, layernorm,                                                                 \
      (float *y, const float *x, const float *w, const float *b, size_t n, float eps)) \
    X(void, rope,                                                                      \
      (float *x, const float *cos, const float *sin, size_t n_heads, size_t head_dim,  \
       size_t rot_dim, xl_rope_style style))                                           \
    X(void, activate, (float *x, const float *up, size_t n, xl_activation kind))       \
    X(void, add, (float *x, const float *y, size_t n))                                 \
    X(void, mul, (float *x, const float *y, size_t n))                                 \
    X(void, axpy, (float *y, float a, const float *x, size_t n))                       \
    X(size_t, argmax, (const float *x, size_t n))                                      \
    X(void, softmax_stats, (const float *x, size_t n, xl_softmax_stats *out))

/* y[i * y_stride + r] = row r of the matrix . row i of the activations, for r in [row0, row0 +
 * rows), i in [0, n).
 *   y         for row 0 of the matrix, whatever row0 is: threads share y and take disjoint row
 *             ranges
 *   y_stride  in floats; y needs room for a multiple of 8 rows: padding rows of the last tile are
 *             written too (as 0)
 *   w         the whole matrix in tiles (quant.h), 16-byte aligned; cols a whole number of blocks
 *   row0      a multiple of 8; rows: any, rounded up to a multiple of 8
 *   act       n rows, act_stride bytes apart: written by `quantize` of the same table, or raw
 *             f32 [cols] for F32, F16, BF16 */
typedef void (*xl_matmul_fn)(float *y, size_t y_stride, const void *w, size_t cols, size_t row0,
                             size_t rows, const void *act, size_t act_stride_bytes, size_t n);

/* The first query looks at positions [first, end), the `window` before end or (0) all; each further
 * one at one position more, all of which the cache has already. */
typedef struct xl_reach {
    size_t end, window;
} xl_reach;
static inline size_t xl_reach_first(xl_reach span, size_t row) {
    const size_t end = span.end + row;
    return span.window && end > span.window ? end - span.window : 0;
}

/* Tiles of a cache that lie one after the other. All that a call of attend looks at is at most
 * XL_KV_STRETCHES of them, in the order of positions; the first begins with the tile of the first
 * query's first position, and the last may have more tiles than anybody looks at. */
#define XL_KV_STRETCHES 4
typedef struct xl_stretch {
    const void *k, *v;
    size_t tiles; /* > 0 */
} xl_stretch;

/* Attention of `rows` consecutive query positions over the cache of one K/V head, for the `group`
 * query heads that share it.
 *   out, q   [rows][group][head_dim] f32, rows `stride` floats apart
 *   cache    the stretches of this layer and K/V head
 *   scratch  xl_attend_scratch_floats(end of the last row) floats
 * f32, f16: score[p] = (sum over c ascending of q[c] * k[p][c]) * scale.
 * q8:       q and k are rotated (xl_rotate) before they are quantised, so that no element stands
 *           out; q as one block (dq, q8): score[p] = ((float)(sum of q8 * k8, exact) * (dq *
 *           dk[p])) * (scale / block).
 * Then      e[p] = xl_expf(score[p] - max), Z = sum of e, 8 lanes by position, sum8;
 *           out[c] = (sum over p ascending of e[p] * v[p][c]) * (1 / Z), for q8 of (e[p] *
 *           dv[p]) * (float)v8[p][c]. */
typedef void (*xl_attend_fn)(float *out, const float *q, size_t stride, size_t rows,
                             const xl_stretch *cache, xl_reach span, size_t head_dim, size_t group,
                             float scale, float *scratch);

/* Store k [head_dim] and v [head_dim] in a slot, counted from the given tiles; f16 rounds to nearest even and saturates
 * at +-65504; q8 as one block of int8, k rotated. */
typedef void (*xl_store_kv_fn)(void *k_tiles, void *v_tiles, size_t slot, const float *k,
                               const float *v, size_t head_dim);

typedef struct xl_kernels {
    const char *name; /* what --kernel takes and the `start` event reports */
#define X(RET, NAME, PARAMS) RET(*NAME) PARAMS;
    XL_KERNEL_LIST(X)
#undef X
    xl_matmul_fn matmul[XL_TYPE_COUNT];
    xl_attend_fn attend[XL_KV_COUNT];
    xl_store_kv_fn store_kv[XL_KV_COUNT];
} xl_kernels;

/* The table of this name, or with NULL the best one that this CPU runs. NULL if the name is
 * unknown, or not compiled in, or not supported by this CPU. Names: scalar, avx2, avx512vnni,
 * neon, neondot, simd128, relaxed, relaxed16 (the last two in one module). */
const xl_kernels *xl_kernels_pick(const char *name);

/* The tables that are compiled in and supported by this CPU, best first, "scalar" always last.
 * Returns how many; list may be NULL. */
#define XL_KERNELS_MAX 8
size_t xl_kernels_list(const xl_kernels *list[XL_KERNELS_MAX]);

#ifdef __cplusplus
}
#endif
#endif
