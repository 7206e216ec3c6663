/* int8 weights by i32x4.dot_i16x8, which adds the products of neighbouring int16. Nothing is
 * widened: a pair of bytes (lo, hi) is used whole, as lo + 256 hi, beside hi alone, and the
 * activations are prepared so that the surplus cancels,
 *     (lo + 256 hi) * q0 + hi * (q1 - 256 q0) = lo * q0 + hi * q1.
 * All in int32, all exact (|q1 - 256 q0| <= 32639). The even bytes are made unsigned (+ 128), which
 * is taken back by starting from -128 times the sum of their activations. */
#ifndef XL_KERNELS_PAIRS_H
#define XL_KERNELS_PAIRS_H

#include "wasm.h"

/* The even and the odd columns of a block's halves, in int16. */
typedef struct act_columns {
    vi even[2], odd[2];
} act_columns;

INLINE act_columns act_split(const int32_t q[32]) {
    act_columns out;
    EACH(half, 2) {
        vi w[4];
        EACH(i, 4) w[i] = vi_load((const uint8_t *)(q + 16 * half + 4 * i));
        const vi a = wasm_i16x8_narrow_i32x4(w[0], w[1]), b = wasm_i16x8_narrow_i32x4(w[2], w[3]);
        out.even[half] = wasm_i16x8_shuffle(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
        out.odd[half] = wasm_i16x8_shuffle(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
    }
    return out;
}

/* The even bytes of a word are columns 0 and 2, the odd ones 1 and 3. */
typedef struct act_pairs {
    int16_t whole[8][2]; /* q of the even bytes */
    int16_t odd[8][2];   /* q of the odd bytes - 256 * q of the even bytes */
} act_pairs;

/* Returns -128 times the sum of the even columns. */
INLINE int32_t act_pair(act_pairs *out, const act_columns *q) {
    EACH(half, 2) {
        wasm_v128_store(out->whole[4 * half], q->even[half]);
        wasm_v128_store(out->odd[4 * half],
                        wasm_i16x8_sub(q->odd[half], wasm_i16x8_shl(q->even[half], 8)));
    }
    int32_t sum[LANES];
    vi_store(sum, wasm_i32x4_extadd_pairwise_i16x8(wasm_i16x8_add(q->even[0], q->even[1])));
    return -128 * (sum[0] + sum[1] + sum[2] + sum[3]);
}

INLINE vi dot16(vi part, vi w, const void *pair) {
    return pinned(wasm_i32x4_add(part, wasm_i32x4_dot_i16x8(w, wasm_v128_load32_splat(pair))));
}

typedef struct s_weights {
    vi whole, odd;
} s_weights;

INLINE s_weights s_prepare(vi w, const consts *k) {
    return (s_weights){wasm_v128_xor(w, k->flip_even), wasm_i16x8_shr(w, 8)};
}

typedef vi s_acc; /* int32 */
INLINE s_acc dot_pairs(s_acc part, s_weights w, const void *whole, const void *odd) {
    return dot16(dot16(part, w.whole, whole), w.odd, odd);
}
INLINE vi s_end(s_acc part) { return part; }

#endif
