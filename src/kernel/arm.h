/* The 128-bit primitives that the two NEON tables share; the dot products differ and stay in
 * their files. */
#ifndef XL_KERNELS_ARM_H
#define XL_KERNELS_ARM_H

#include "kernel/body/prefix.h"

#include <arm_neon.h>

#define LANES 4

typedef float32x4_t vf;
typedef int32x4_t vi;

INLINE vf vf_set1(float f) { return vdupq_n_f32(f); }
INLINE vi vi_set1(int32_t x) { return vdupq_n_s32(x); }
#include "kernel/body/consts.h"

/* A quantised activation block of 32 columns. minusN: -N times the sum of q. */
typedef struct act_block {
    float d, s;
    int32_t minus8, minus16, minus32[2] /* of the halves */, unused[2];
    int8_t q[32];
} act_block;

typedef int8x16_t act_half; /* 16 columns, 4 groups, in a register */

INLINE act_half act_words(const act_block *a, int half) { return vld1q_s8(a->q + 16 * half); }

INLINE void act_finish(act_block *out, const int32_t q[32], int32_t total) {
    (void)total;
    out->unused[0] = out->unused[1] = 0;
    for (int c = 0; c < 32; c++) out->q[c] = (int8_t)q[c];
}

INLINE vf vf_load(const float *p) { return vld1q_f32(p); }
INLINE void vf_store(float *p, vf a) { vst1q_f32(p, a); }
INLINE vf vf_splat(const float *p) { return vld1q_dup_f32(p); }
INLINE vf vf_load_f16(const uint8_t *p, const consts *k) {
    (void)k;
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}
INLINE vf vf_load_bf16(const uint8_t *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}
INLINE vf vf_add(vf a, vf b) { return vaddq_f32(a, b); }
INLINE vf vf_sub(vf a, vf b) { return vsubq_f32(a, b); }
INLINE vf vf_mul(vf a, vf b) { return vmulq_f32(a, b); }
INLINE vf vf_div(vf a, vf b) { return vdivq_f32(a, b); }
INLINE vf vf_negate(vf a) { return vnegq_f32(a); }
INLINE vi vf_less(vf a, vf b) { return vreinterpretq_s32_u32(vcltq_f32(a, b)); }
INLINE vi vf_equal(vf a, vf b) { return vreinterpretq_s32_u32(vceqq_f32(a, b)); }
INLINE vf vf_select(vi mask, vf a, vf b) { return vbslq_f32(vreinterpretq_u32_s32(mask), a, b); }
/* a < b ? a : b and a < b ? b : a. */
INLINE vf vf_min(vf a, vf b) { return vf_select(vf_less(a, b), a, b); }
INLINE vf vf_max(vf a, vf b) { return vf_select(vf_less(a, b), b, a); }
INLINE vf vf_from_vi(vi a) { return vcvtq_f32_s32(a); }
INLINE vi vi_bits_of_vf(vf a) { return vreinterpretq_s32_f32(a); }
INLINE vf vf_of_bits(vi a) { return vreinterpretq_f32_s32(a); }

INLINE vi vi_load(const uint8_t *p) { return vreinterpretq_s32_u8(vld1q_u8(p)); }
INLINE void vi_store(int32_t *p, vi a) { vst1q_s32(p, a); }
INLINE uint8x8_t load_4_bytes(const uint8_t *p) {
    uint32_t word;
    memcpy(&word, p, sizeof word);
    return vreinterpret_u8_u32(vdup_n_u32(word));
}
INLINE vi vi_load_u8(const uint8_t *p) {
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(load_4_bytes(p)))));
}
INLINE vi vi_load_i8(const uint8_t *p) {
    return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(load_4_bytes(p)))));
}
INLINE vi vi_splat(const int32_t *p) { return vld1q_dup_s32(p); }
INLINE vi vi_add(vi a, vi b) { return vaddq_s32(a, b); }
INLINE vi vi_sub(vi a, vi b) { return vsubq_s32(a, b); }
INLINE vi vi_mul(vi a, vi b) { return vmulq_s32(a, b); }
INLINE vi vi_max(vi a, vi b) { return vmaxq_s32(a, b); }
INLINE vi vi_and(vi a, vi b) { return vandq_s32(a, b); }
INLINE vi vi_and_not(vi a, vi b) { return vbicq_s32(a, b); } /* a & ~b */
INLINE vi vi_or(vi a, vi b) { return vorrq_s32(a, b); }
INLINE vi vi_shl(vi a, int n) { return vshlq_s32(a, vdupq_n_s32(n)); }
INLINE vi vi_shr(vi a, int n) {
    return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(-n)));
}
INLINE bool vi_any(vi a) { return vmaxvq_u32(vreinterpretq_u32_s32(a)) != 0; }

/* Keeps a sum where it is written: compilers otherwise finish one sum after the other, with the
 * operands that they share spilled in between. */
INLINE vf vf_pinned(vf a) {
    __asm__ volatile("" : "+w"(a));
    return a;
}

/* Attention: most chains (attend.h) in a block, how many tiles of keys and vectors of values go
 * with C of them, and which C have their own code. */
#define ATTEND_CHAINS XL_ATTEND_CHAINS
#define SCORE_TILES(C) ((C) > 3 ? 1 : 2)
#define OUTPUT_VECTORS 4
#define ATTEND_UNROLL 4
#define OUTPUT_WIDTH(C) ((C) > 3 ? 2 : 4)
#define FOR_EACH_CHAINS(X) X(6) X(5) X(4) X(3) X(2) X(1)

/* Exponential functions side by side (vector.h). */
#define MAX_EXPS 6

#define WIDE_N 4

#endif
