/* Relaxed SIMD by the four-product dot: one vpdpbusd on x86 with AVX-VNNI, one sdot on arm64 with
 * DOTPROD. Relaxed instructions are used only where every engine must give the same: the second
 * operand of a relaxed dot stays in 0..127, so that pairs of products cannot overflow int16, and
 * neither its signedness nor saturation matters. */
#if defined(__wasm_relaxed_simd__)
#include "wasm.h"

/* A quantised activation block of 32 columns. minusN: -N times the sum of q. For int8 weights q is
 * split by sign, q = up - down, so that the weights stay the signed operand: w . q = w . up - w
 * . down. */
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
    const vi zero = vi_set1(0);
    EACH(half, 2) {
        vi w[4];
        EACH(i, 4) w[i] = vi_load((const uint8_t *)(q + 16 * half + 4 * i));
        const vi all = wasm_i8x16_narrow_i16x8(wasm_i16x8_narrow_i32x4(w[0], w[1]),
                                               wasm_i16x8_narrow_i32x4(w[2], w[3]));
        wasm_v128_store(out->q + 16 * half, all);
        wasm_v128_store(out->up + 16 * half, wasm_i8x16_max(all, zero));
        wasm_v128_store(out->down + 16 * half, wasm_i8x16_max(wasm_i8x16_neg(all), zero));
    }
}

INLINE vi act_splat(act_half a, int lane) { return wasm_v128_load32_splat(a + 4 * lane); }
INLINE vi act_splat_up(act_half a, int lane) { return wasm_v128_load32_splat(a + 32 + 4 * lane); }
INLINE vi act_splat_down(act_half a, int lane) { return wasm_v128_load32_splat(a + 64 + 4 * lane); }

typedef vi u_acc;
#define U_GROUPS_5 8
#define U_GROUPS_6 4

typedef vi u_weights;
INLINE u_weights u_prepare(vi w) { return w; }

INLINE u_acc u_begin(vi acc) { return acc; }
INLINE u_acc u_dot(u_acc part, vi w, act_half a, int lane) {
    return pinned(wasm_i32x4_relaxed_dot_i8x16_i7x16_add(act_splat(a, lane), w, part));
}
INLINE u_acc u_dot_prepared(u_acc part, u_weights w, act_half a, int lane) {
    return u_dot(part, w, a, lane);
}
INLINE vi u_end(vi acc, u_acc part, const consts *k) {
    (void)acc, (void)k;
    return part;
}

typedef vi s_weights;
INLINE s_weights s_prepare(vi w, const consts *k) {
    (void)k;
    return w;
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
    part.down =
        pinned(wasm_i32x4_relaxed_dot_i8x16_i7x16_add(w, act_splat_down(a, lane), part.down));
    return part;
}
INLINE vi s_end(s_acc part) { return vi_sub(part.up, part.down); }

#define PANEL_FROM 16
#define WIDE_N 4  /* up to so many rows a step covers the whole tile */
#define FLOAT_N 2 /* at most so many for float weights, and for K-quants */
#define SUPER_N 4
#define FOR_EACH_N XL_N_TO_4
#define ISA relaxed
#include "kernel/body/body.h"

/* Outside of the portable range the ways differ: with 127 and 255, pairs of products saturate in
 * int16 where they are widened; vpdpbusd sums all four unsigned, sdot all four signed. */
bool xl_relaxed_dot_widens(void) {
    vi a = pinned(vi_set1(0x7f7f7f7f)), b = pinned(vi_set1(-1));
    return wasm_i32x4_extract_lane(wasm_i32x4_relaxed_dot_i8x16_i7x16_add(a, b, vi_set1(0)), 0) ==
           2 * INT16_MAX;
}
#endif
