/* Relaxed SIMD by the two-product dot, which on x86 without AVX-VNNI is the one instruction
 * vpmaddubsw: sums of up to 8 groups of nibbles stay in int16 (15 * 127 * 2 * 8 = 30480) and are
 * widened once a block, where the four-product dot widens each time. int8 weights would need two
 * such dots, as they may not be the operand of 7 bits, so they go by pairs. */
#if defined(__wasm_relaxed_simd__)
#include "pairs.h"

/* A quantised activation block of 32 columns: q for weights of a few bits, which is all in one cache
 * line, pairs for int8. minusN: -N times the sum of q. */
typedef struct act_block {
    float d, s;
    int32_t minus8, minus16, minus32[2], minus128even, unused;
    int8_t q[32];
    act_pairs pairs;
} act_block;

/* q of a half; what pairs has for it lies as far behind as in the other one. */
typedef const int8_t *act_half;

INLINE act_half act_words(const act_block *a, int half) { return a->q + 16 * half; }
INLINE const void *act_whole(act_half a, int lane) { return a + 32 + 4 * lane; }
INLINE const void *act_odd(act_half a, int lane) { return a + 64 + 4 * lane; }

INLINE void act_finish(act_block *out, const int32_t q[32], int32_t total) {
    (void)total;
    const act_columns c = act_split(q);
    EACH(half, 2) {
        const vi low = wasm_i16x8_shl(c.odd[half], 8);
        wasm_v128_store(out->q + 16 * half,
                        wasm_v128_bitselect(c.even[half], low, wasm_i16x8_splat(0xff)));
    }
    out->minus128even = act_pair(&out->pairs, &c);
    out->unused = 0;
}

typedef vi u_acc; /* int16 */
#define U_GROUPS_5 4
#define U_GROUPS_6 2

typedef vi u_weights;
INLINE u_weights u_prepare(vi w) { return w; }

INLINE vi widen_pairs(vi a, const consts *k) { return wasm_i32x4_dot_i16x8(a, k->ones16); }

INLINE u_acc u_begin(vi acc) {
    (void)acc;
    return vi_set1(0);
}
INLINE u_acc u_dot(u_acc part, vi w, act_half a, int lane) {
    return pinned(wasm_i16x8_add(
        part, wasm_i16x8_relaxed_dot_i8x16_i7x16(wasm_v128_load32_splat(a + 4 * lane), w)));
}
INLINE u_acc u_dot_prepared(u_acc part, u_weights w, act_half a, int lane) {
    return u_dot(part, w, a, lane);
}
INLINE vi u_end(vi acc, u_acc part, const consts *k) { return vi_add(acc, widen_pairs(part, k)); }

INLINE s_acc s_begin(const act_block *a) { return vi_splat(&a->minus128even); }
INLINE s_acc s_dot(s_acc part, s_weights w, act_half a, int lane, const consts *k) {
    (void)k;
    return dot_pairs(part, w, act_whole(a, lane), act_odd(a, lane));
}

#define PANEL_FROM 16
#define WIDE_N 4  /* up to so many rows a step covers the whole tile */
#define FLOAT_N 2 /* at most so many for float weights, and for K-quants */
#define SUPER_N 4
#define FOR_EACH_N XL_N_TO_4
#define ISA relaxed16
#include "kernel/body/body.h"
#endif
