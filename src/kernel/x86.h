/* The 256-bit primitives that AVX2 and AVX-512 VNNI share; the dot products differ and stay in
 * their files. */
#ifndef XL_KERNELS_X86_H
#define XL_KERNELS_X86_H

#include "kernel/body/prefix.h"

#include <immintrin.h>

#define LANES 8

typedef __m256 vf;
typedef __m256i vi;

INLINE vf vf_set1(float f) { return _mm256_set1_ps(f); }
INLINE vi vi_set1(int32_t x) { return _mm256_set1_epi32(x); }
#include "kernel/body/consts.h"

/* A quantised activation block of 32 columns, one cache line. minusN: -N times the sum of q. */
typedef struct act_block {
    float d, s;
    int32_t minus8, minus16, minus32[2] /* of the halves */, minus128, unused;
    int8_t q[32];
} act_block;

typedef const int8_t *act_half;

INLINE act_half act_words(const act_block *a, int half) { return a->q + 16 * half; }

INLINE void act_finish(act_block *out, const int32_t q[32], int32_t total) {
    out->minus128 = -128 * total;
    out->unused = 0;
    for (int c = 0; c < 32; c++) out->q[c] = (int8_t)q[c];
}

/* The largest of positive numbers. */
INLINE uint32_t vi_largest(vi a) {
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1)));
}

/* A block of an activation row, and what quantising it left, as quantize in body/vector.h has them. */
#define OWN_QUANTIZE_BLOCK
INLINE void quantize_block(act_block *out, float *rest, const float *x) {
    const __m256 sign = _mm256_set1_ps(-0.0f), magic = _mm256_set1_ps(XL_EXPF_MAGIC);
    __m256 v[4], q[4];
    vi peak = _mm256_setzero_si256(), whole[4];
    EACH(i, 4) {
        v[i] = _mm256_loadu_ps(x + 8 * i);
        peak = _mm256_max_epi32(peak, _mm256_castps_si256(_mm256_andnot_ps(sign, v[i])));
    }
    const uint32_t bits = vi_largest(peak);
    const float amax = xl_float_of_bits(bits);
    if (bits >= 0x7f800000u || amax < XL_ACT_TINY) {
        memset(out, 0, sizeof *out);
        if (rest) memset(rest, 0, 32 * sizeof *rest);
        return;
    }
    const float d = amax / 127.0f;
    const __m256 inverse = _mm256_set1_ps(127.0f / amax);
    EACH(i, 4) {
        q[i] = _mm256_add_ps(_mm256_mul_ps(v[i], inverse), magic);
        whole[i] = _mm256_sub_epi32(_mm256_castps_si256(q[i]), _mm256_castps_si256(magic));
        if (rest)
            _mm256_storeu_ps(
                rest + 8 * i,
                _mm256_sub_ps(v[i], _mm256_mul_ps(_mm256_set1_ps(d), _mm256_sub_ps(q[i], magic))));
    }
    /* packing goes by halves of a register: 4 columns of each vector, then the other 4 */
    const vi bytes =
        _mm256_permutevar8x32_epi32(_mm256_packs_epi16(_mm256_packs_epi32(whole[0], whole[1]),
                                                       _mm256_packs_epi32(whole[2], whole[3])),
                                    _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)(void *)out->q, bytes);
    vi sums = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes),
                                _mm256_set1_epi16(1)); /* of 4 columns */
    sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32(sums, 0x4e));
    sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32(sums, 0xb1));
    const int32_t low = _mm256_cvtsi256_si32(sums),
                  high = _mm_cvtsi128_si32(_mm256_extracti128_si256(sums, 1)), total = low + high;
    out->d = d;
    out->s = d * (float)total;
    out->minus8 = -8 * total;
    out->minus16 = -16 * total;
    out->minus32[0] = -32 * low;
    out->minus32[1] = -32 * high;
    out->minus128 = -128 * total;
    out->unused = 0;
}

/* 8 keys or values as f16, saturated; NaN stays NaN. */
INLINE __m128i saturated_f16(const float *x) {
    const __m256 most = _mm256_set1_ps(65504.0f), least = _mm256_set1_ps(-65504.0f);
    return _mm256_cvtps_ph(_mm256_max_ps(least, _mm256_min_ps(most, _mm256_loadu_ps(x))), 0);
}

#define OWN_STORE_KV_F16
static void store_kv_f16(void *k_cache, void *v_cache, size_t slot, const float *k, const float *v,
                         size_t head_dim) {
    uint16_t *kt = (uint16_t *)k_cache + slot / 8 * 8 * head_dim + slot % 8,
             *vt = (uint16_t *)v_cache + slot * head_dim;
    for (size_t c = 0; c < head_dim; c += 8, kt += 64) {
        uint16_t column[8];
        _mm_storeu_si128((__m128i *)(void *)column, saturated_f16(k + c));
        EACH(i, 8) kt[8 * i] = column[i];
        _mm_storeu_si128((__m128i *)(void *)(vt + c), saturated_f16(v + c));
    }
}

/* 4 activations in every lane. */
INLINE vi act_splat(act_half a, int lane) {
    int32_t word;
    memcpy(&word, a + 4 * lane, sizeof word);
    return _mm256_set1_epi32(word);
}

INLINE vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void vf_store(float *p, vf a) { _mm256_storeu_ps(p, a); }
INLINE vf vf_splat(const float *p) { return _mm256_broadcast_ss(p); }
INLINE vf vf_load_f16(const uint8_t *p, const consts *k) {
    (void)k;
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
INLINE vf vf_load_bf16(const uint8_t *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(
        _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)), 16));
}
INLINE vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
INLINE vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
INLINE vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
INLINE vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
INLINE vf vf_negate(vf a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
INLINE vi vf_less(vf a, vf b) { return _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
INLINE vi vf_equal(vf a, vf b) { return _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)); }
INLINE vf vf_select(vi mask, vf a, vf b) {
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(mask));
}
/* a < b ? a : b and a < b ? b : a, NaNs included. */
INLINE vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
INLINE vf vf_max(vf a, vf b) { return _mm256_max_ps(b, a); }
INLINE vf vf_from_vi(vi a) { return _mm256_cvtepi32_ps(a); }
INLINE vi vi_bits_of_vf(vf a) { return _mm256_castps_si256(a); }
INLINE vf vf_of_bits(vi a) { return _mm256_castsi256_ps(a); }

INLINE vi vi_load(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
INLINE void vi_store(int32_t *p, vi a) { _mm256_storeu_si256((__m256i *)(void *)p, a); }
INLINE vi vi_load_u8(const uint8_t *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}
INLINE vi vi_load_i8(const uint8_t *p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}
INLINE vi vi_splat(const int32_t *p) { return _mm256_set1_epi32(*p); }
INLINE vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
INLINE vi vi_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
INLINE vi vi_mul(vi a, vi b) { return _mm256_mullo_epi32(a, b); }
INLINE vi vi_max(vi a, vi b) { return _mm256_max_epi32(a, b); }
INLINE vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
INLINE vi vi_and_not(vi a, vi b) { return _mm256_andnot_si256(b, a); } /* a & ~b */
INLINE vi vi_or(vi a, vi b) { return _mm256_or_si256(a, b); }
INLINE vi vi_shl(vi a, int n) { return _mm256_slli_epi32(a, n); }
INLINE vi vi_shr(vi a, int n) { return _mm256_srli_epi32(a, n); }
INLINE bool vi_any(vi a) { return !_mm256_testz_si256(a, a); }

/* Keeps a sum where it is written: compilers otherwise finish one sum after the other, with the
 * operands that they share spilled in between. It is looked at, not changed: GCC copies a sum that may have
 * been changed from register to register. */
INLINE vf vf_pinned(vf a) {
    __asm__ volatile("" : : "x"(a));
    return a;
}

/* Attention: most chains (attend.h) in a block, how many tiles of keys and vectors of values go
 * with C of them, and which C have their own code. */
#ifdef __AVX512VL__ /* 32 registers */
#define ATTEND_CHAINS XL_ATTEND_CHAINS
#define FOR_EACH_CHAINS(X) X(6) X(5) X(4) X(3) X(2) X(1)
#else /* six leave none of 16 free, and a sum in memory is what all wait for */
#define ATTEND_CHAINS 5
#define FOR_EACH_CHAINS(X) X(5) X(4) X(3) X(2) X(1)
#endif
#define SCORE_TILES(C) ((C) > 2 ? 2 : 4)
#define OUTPUT_VECTORS 8
#define ATTEND_UNROLL 4
#define OUTPUT_WIDTH(C) ((C) > 3 ? 2 : (C) > 1 ? 4 : 8)

/* Exponential functions side by side (vector.h). */
#define MAX_EXPS 6

#define WIDE_N MAX_N /* a tile is one vector wide */

#endif
