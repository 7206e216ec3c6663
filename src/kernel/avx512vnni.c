/* AVX-512 VNNI on 256-bit registers: vpdpbusd multiplies unsigned by signed bytes and adds four
 * products into each int32, exactly. int8 weights are made unsigned by flipping the sign bit (w
 * + 128), which is taken back by starting from -128 times the sum of the activations. */
#if defined(__AVX512VNNI__) && defined(__AVX512VL__) && defined(__F16C__)
#include "x86.h"

typedef vi u_acc;
#define U_GROUPS_5 8
#define U_GROUPS_6 4

INLINE u_acc u_begin(vi acc) { return acc; }
INLINE u_acc u_dot(u_acc part, vi w, act_half a, int lane) {
    return _mm256_dpbusd_epi32(part, w, act_splat(a, lane));
}
INLINE vi u_end(vi acc, u_acc part, const consts *k) {
    (void)acc, (void)k;
    return part;
}

typedef vi s_acc;
typedef vi s_weights;

INLINE s_weights s_prepare(vi w, const consts *k) { return _mm256_xor_si256(w, k->flip); }
INLINE s_acc s_begin(const act_block *a) { return _mm256_set1_epi32(a->minus128); }
INLINE s_acc s_dot(s_acc part, s_weights w, act_half a, int lane, const consts *k) {
    (void)k;
    return _mm256_dpbusd_epi32(part, w, act_splat(a, lane));
}
INLINE vi s_end(s_acc part) { return part; }

#define FLOAT_N 4 /* at most so many rows a step for float weights, and for K-quants */
#define SUPER_N 4
#define FOR_EACH_N XL_N_TO_8
#define ISA avx512vnni
#include "kernel/body/body.h"
#endif
