/* Relaxed SIMD by the two-product dot, which on x86 without AVX-VNNI is the one instruction
 * vpmaddubsw: sums of up to 8 groups of nibbles stay in int16 (15 * 127 * 2 * 8 = 30480) and are
 * widened once a block, where the four-product dot widens each time. int8 weights would need two
 * such dots, as they may not be the operand of 7 bits, so they go by pairs. */
#if defined(__wasm_relaxed_simd__)
#include "pairs.h"

/* A quantised activation block of 32 columns, in halves of four words: q for nibbles, pairs for
 * int8. minusN: -N times the sum of q. */
typedef struct act_words16 {
    int8_t q[16];
    int16_t whole[4][2], odd[4][2];
} act_words16;

typedef struct act_block {
    float d, s;
    int32_t minus8, minus16, minus32[2], minus128even, unused;
    act_words16 half[2];
} act_block;

typedef const act_words16 *act_half;

INLINE act_half act_words(const act_block *a, int half) { return a->half + half; }

INLINE void act_finish(act_block *out, const int32_t q[32], int32_t total) {
    (void)total;
    for (int c = 0; c < 32; c++) out->half[c / 16].q[c % 16] = (int8_t)q[c];
    for (int g = 0; g < 8; g++)
        act_pair(out->half[g / 4].whole[g % 4], out->half[g / 4].odd[g % 4], q + 4 * g);
    out->minus128even = act_minus128even(q);
    out->unused = 0;
}

typedef vi u_acc; /* int16 */
#define U_GROUPS_5 4
#define U_GROUPS_6 2

INLINE vi widen_pairs(vi a, const consts *k) { return wasm_i32x4_dot_i16x8(a, k->ones16); }

INLINE u_acc u_begin(vi acc) {
    (void)acc;
    return vi_set1(0);
}
INLINE u_acc u_dot(u_acc part, vi w, act_half a, int lane) {
    return pinned(wasm_i16x8_add(
        part, wasm_i16x8_relaxed_dot_i8x16_i7x16(wasm_v128_load32_splat(a->q + 4 * lane), w)));
}
INLINE vi u_end(vi acc, u_acc part, const consts *k) { return vi_add(acc, widen_pairs(part, k)); }

INLINE s_acc s_begin(const act_block *a) { return vi_splat(&a->minus128even); }
INLINE s_acc s_dot(s_acc part, s_weights w, act_half a, int lane, const consts *k) {
    (void)k;
    return dot_pairs(part, w, a->whole[lane], a->odd[lane]);
}

#define WIDE_N 4  /* up to so many rows a step covers the whole tile */
#define FLOAT_N 2 /* at most so many for float weights, and for K-quants */
#define SUPER_N 4
#define FOR_EACH_N XL_N_TO_4
#define ISA relaxed16
#include "kernel/body/body.h"
#endif
