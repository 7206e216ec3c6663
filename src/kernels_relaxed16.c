/* Relaxed SIMD by the two-product dot, which on x86 without AVX-VNNI is the one instruction vpmaddubsw: sums of up to 8 groups of nibbles stay
 * in int16 (15 * 127 * 2 * 8 = 30480) and are widened once a block, where the four-product dot widens each time. */
#if defined(__wasm_relaxed_simd__)
#include "kernels_relaxed.h"

typedef vi u_acc; /* int16 */
#define U_GROUPS_5 4
#define U_GROUPS_6 2

INLINE vi widen_pairs(vi a, const consts *k) { return wasm_i32x4_dot_i16x8(a, k->ones16); }

INLINE u_acc u_begin(vi acc) {
    (void)acc;
    return vi_set1(0);
}
INLINE u_acc u_dot(u_acc part, vi w, act_half a, int lane) {
    return pinned(wasm_i16x8_add(part, wasm_i16x8_relaxed_dot_i8x16_i7x16(act_splat(a, lane), w)));
}
INLINE vi u_end(vi acc, u_acc part, const consts *k) { return vi_add(acc, widen_pairs(part, k)); }

/* Each element of q is in `up` or in `down`, so the difference of the two pair sums is the sum of two int8 products: it fits int16. */
typedef vi s_acc; /* int32 */
INLINE s_acc s_begin(const act_block *a) {
    (void)a;
    return vi_set1(0);
}
INLINE s_acc s_dot(s_acc part, s_weights w, act_half a, int lane, const consts *k) {
    vi up = wasm_i16x8_relaxed_dot_i8x16_i7x16(w, act_splat_up(a, lane));
    vi down = wasm_i16x8_relaxed_dot_i8x16_i7x16(w, act_splat_down(a, lane));
    return pinned(vi_add(part, widen_pairs(wasm_i16x8_sub(up, down), k)));
}
INLINE vi s_end(s_acc part) { return part; }

#define WIDE_N 4 /* up to so many rows a step covers the whole tile */
#define FLOAT_N 2 /* at most so many for float weights, and for K-quants */
#define SUPER_N 4
#define FOR_EACH_N XL_N_TO_4
#define ISA relaxed16
#include "kernel_body.h"
#endif
