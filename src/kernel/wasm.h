/* The 128-bit primitives that the WebAssembly kernels share; activation blocks and dot products
 * differ and stay in their files. */
#ifndef XL_KERNELS_WASM_H
#define XL_KERNELS_WASM_H

#include "kernel/body/prefix.h"

#include <wasm_simd128.h>

#define LANES 4

typedef v128_t vf;
typedef v128_t vi;

#include "kernel/body/consts.h"

/* Keeps an accumulation where it is written. LLVM otherwise reassociates integer sums and evaluates
 * one accumulator's whole chain after the other's, with the shared operands spilled in between;
 * V8 keeps the order that it is given. */
INLINE vi pinned(vi a) {
    __asm__ volatile("" : "+r"(a));
    return a;
}

INLINE vf vf_load(const float *p) { return wasm_v128_load(p); }
INLINE void vf_store(float *p, vf a) { wasm_v128_store(p, a); }
INLINE vf vf_set1(float f) { return wasm_f32x4_splat(f); }
INLINE vf vf_splat(const float *p) { return wasm_v128_load32_splat(p); }

/* f16: sign-extended to 32 bits and shifted left by 13, exponent and mantissa stand in an f32's
 * places with three copies of the sign too many; 2^112 makes up for the difference of the
 * exponents' biases, exactly, for subnormal numbers too. (Infinity and NaN never get in.) */
INLINE vf vf_load_f16(const uint8_t *p, const consts *k) {
    return wasm_f32x4_mul(wasm_v128_and(wasm_i32x4_shl(wasm_i32x4_load16x4(p), 13), k->f16_bits),
                          k->f16_scale);
}
INLINE vf vf_load_bf16(const uint8_t *p) { return wasm_i32x4_shl(wasm_u32x4_load16x4(p), 16); }

INLINE vf vf_add(vf a, vf b) { return wasm_f32x4_add(a, b); }
INLINE vf vf_sub(vf a, vf b) { return wasm_f32x4_sub(a, b); }
INLINE vf vf_mul(vf a, vf b) { return wasm_f32x4_mul(a, b); }
INLINE vf vf_div(vf a, vf b) { return wasm_f32x4_div(a, b); }
INLINE vf vf_negate(vf a) { return wasm_f32x4_neg(a); }
INLINE vi vf_less(vf a, vf b) { return wasm_f32x4_lt(a, b); }
INLINE vi vf_equal(vf a, vf b) { return wasm_f32x4_eq(a, b); }
INLINE vf vf_select(vi mask, vf a, vf b) { return wasm_v128_bitselect(a, b, mask); }
/* a < b ? a : b and a < b ? b : a: one instruction on x86. */
INLINE vf vf_min(vf a, vf b) { return wasm_f32x4_pmin(b, a); }
INLINE vf vf_max(vf a, vf b) { return wasm_f32x4_pmax(a, b); }
INLINE vf vf_from_vi(vi a) { return wasm_f32x4_convert_i32x4(a); }
INLINE vi vi_bits_of_vf(vf a) { return a; }
INLINE vf vf_of_bits(vi a) { return a; }

INLINE vi vi_load(const uint8_t *p) { return wasm_v128_load(p); }
INLINE void vi_store(int32_t *p, vi a) { wasm_v128_store(p, a); }
INLINE vi vi_load_u8(const uint8_t *p) {
    return wasm_u32x4_extend_low_u16x8(wasm_u16x8_extend_low_u8x16(wasm_v128_load32_zero(p)));
}
INLINE vi vi_load_i8(const uint8_t *p) {
    return wasm_i32x4_extend_low_i16x8(wasm_i16x8_extend_low_i8x16(wasm_v128_load32_zero(p)));
}
INLINE vi vi_set1(int32_t x) { return wasm_i32x4_splat(x); }
INLINE vi vi_splat(const int32_t *p) { return wasm_v128_load32_splat(p); }
INLINE vi vi_add(vi a, vi b) { return wasm_i32x4_add(a, b); }
INLINE vi vi_sub(vi a, vi b) { return wasm_i32x4_sub(a, b); }
INLINE vi vi_mul(vi a, vi b) { return wasm_i32x4_mul(a, b); }
INLINE vi vi_max(vi a, vi b) { return wasm_i32x4_max(a, b); }
INLINE vi vi_and(vi a, vi b) { return wasm_v128_and(a, b); }
INLINE vi vi_and_not(vi a, vi b) { return wasm_v128_andnot(a, b); } /* a & ~b */
INLINE vi vi_or(vi a, vi b) { return wasm_v128_or(a, b); }
INLINE vi vi_shl(vi a, int n) { return wasm_i32x4_shl(a, (uint32_t)n); }
INLINE vi vi_shr(vi a, int n) { return wasm_u32x4_shr(a, (uint32_t)n); }
INLINE bool vi_any(vi a) { return wasm_v128_any_true(a); }

INLINE vf vf_pinned(vf a) { return pinned(a); }

/* Attention: most chains (attend.h) in a block, how many tiles of keys and vectors of values go
 * with C of them, and which C have their own code. V8 has 15 registers for vectors. */
#define ATTEND_CHAINS 3
#define SCORE_TILES(C) ((C) > 1 ? 1 : 2)
#define OUTPUT_VECTORS 4
#define ATTEND_UNROLL 4
#define OUTPUT_WIDTH(C) ((C) > 1 ? 2 : 4)
#define FOR_EACH_CHAINS(X) X(3) X(2) X(1)

/* Exponential functions side by side (vector.h). */
#define MAX_EXPS 1

#endif
