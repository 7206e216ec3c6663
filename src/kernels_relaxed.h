/* What the two relaxed SIMD tables share. Relaxed instructions are used only where every engine must give the same: the second operand of
 * a relaxed dot stays in 0..127, so that pairs of products cannot overflow int16, and neither its signedness nor saturation matters. */
#ifndef XL_KERNELS_RELAXED_H
#define XL_KERNELS_RELAXED_H

#include "kernels_wasm.h"

/* A quantised activation block of 32 columns. minusN: -N times the sum of q. For int8 weights q is split by sign, q = up - down, so that
 * the weights stay the signed operand: w . q = w . up - w . down. */
typedef struct act_block {
    float d, s;
    int32_t minus8, minus16, minus32[2], unused[2];
    int8_t q[32], up[32], down[32];
} act_block;

typedef const int8_t *act_half;

INLINE act_half act_words(const act_block *a, int half) { return a->q + 16 * half; }

INLINE void act_finish(act_block *out, const int32_t q[32], int32_t total) {
    (void)total;
    out->unused[0] = out->unused[1] = 0;
    for (int c = 0; c < 32; c++) {
        out->q[c] = (int8_t)q[c];
        out->up[c] = (int8_t)(q[c] > 0 ? q[c] : 0);
        out->down[c] = (int8_t)(q[c] < 0 ? -q[c] : 0);
    }
}

INLINE vi act_splat(act_half a, int lane) { return wasm_v128_load32_splat(a + 4 * lane); }
INLINE vi act_splat_up(act_half a, int lane) { return wasm_v128_load32_splat(a + 32 + 4 * lane); }
INLINE vi act_splat_down(act_half a, int lane) { return wasm_v128_load32_splat(a + 64 + 4 * lane); }

typedef vi s_weights;
INLINE s_weights s_prepare(vi w, const consts *k) {
    (void)k;
    return w;
}

#endif
