/* int8 weights by i32x4.dot_i16x8, which adds the products of neighbouring int16. Nothing is
 * widened: a pair of bytes (lo, hi) is used whole, as lo + 256 hi, beside hi alone, and the
 * activations are prepared so that the surplus cancels,
 *     (lo + 256 hi) * q0 + hi * (q1 - 256 q0) = lo * q0 + hi * q1.
 * All in int32, all exact (|q1 - 256 q0| <= 32639). The even bytes are made unsigned (+ 128), which
 * is taken back by starting from -128 times the sum of their activations. */
#ifndef XL_KERNELS_PAIRS_H
#define XL_KERNELS_PAIRS_H

#include "wasm.h"

/* Four columns: the even bytes of a word are columns 0 and 2, the odd ones 1 and 3. */
INLINE void act_pair(int16_t whole[2], int16_t odd[2], const int32_t q[4]) {
    for (int i = 0; i < 2; i++) {
        whole[i] = (int16_t)q[2 * i];
        odd[i] = (int16_t)(q[2 * i + 1] - 256 * q[2 * i]);
    }
}

INLINE int32_t act_minus128even(const int32_t q[32]) {
    int32_t even = 0;
    for (int c = 0; c < 32; c += 2) even += q[c];
    return -128 * even;
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
