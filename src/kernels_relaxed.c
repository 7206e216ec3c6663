/* Relaxed SIMD by the four-product dot: one vpdpbusd on x86 with AVX-VNNI, one sdot on arm64 with DOTPROD. */
#if defined(__wasm_relaxed_simd__)
#include "kernels_relaxed.h"

typedef vi u_acc;
#define U_GROUPS_5 8
#define U_GROUPS_6 4

INLINE u_acc u_begin(vi acc) { return acc; }
INLINE u_acc u_dot(u_acc part, vi w, act_half a, int lane) {
    return pinned(wasm_i32x4_relaxed_dot_i8x16_i7x16_add(act_splat(a, lane), w, part));
}
INLINE vi u_end(vi acc, u_acc part, const consts *k) {
    (void)acc, (void)k;
    return part;
}

typedef struct s_acc {
    vi up, down;
} s_acc;

INLINE s_acc s_begin(const act_block *a) {
    (void)a;
    return (s_acc){vi_set1(0), vi_set1(0)};
}
INLINE s_acc s_dot(s_acc part, s_weights w, act_half a, int lane, const consts *k) {
    (void)k;
    part.up = pinned(wasm_i32x4_relaxed_dot_i8x16_i7x16_add(w, act_splat_up(a, lane), part.up));
    part.down = pinned(wasm_i32x4_relaxed_dot_i8x16_i7x16_add(w, act_splat_down(a, lane), part.down));
    return part;
}
INLINE vi s_end(s_acc part) { return vi_sub(part.up, part.down); }

#define WIDE_N 4 /* up to so many rows a step covers the whole tile */
#define FLOAT_N 2 /* at most so many for float weights, and for K-quants */
#define SUPER_N 4
#define FOR_EACH_N XL_N_TO_4
#define ISA relaxed
#include "kernel_body.h"

/* Outside of the portable range the ways differ: with 127 and 255, pairs of products saturate in int16 where they are widened; vpdpbusd sums
 * all four unsigned, sdot all four signed. */
bool xl_relaxed_dot_widens(void) {
    vi a = pinned(vi_set1(0x7f7f7f7f)), b = pinned(vi_set1(-1));
    return wasm_i32x4_extract_lane(wasm_i32x4_relaxed_dot_i8x16_i7x16_add(a, b, vi_set1(0)), 0) == 2 * INT16_MAX;
}
#endif
