/* AVX2: dots by vpmaddubsw, which adds pairs of products into int16. Weights of up to 6 bits stay
 * in int16 for as many groups as cannot overflow (15 * 127 * 2 * 8 = 30480) and are widened
 * once; for int8 weights the sign moves to the activation (|w| * 127 * 2 = 32512). */
#if defined(__AVX2__) && defined(__F16C__)
#include "x86.h"

/* Keeps an accumulation where it is written: compilers otherwise finish one row's sum after the
 * other, with the weights spilled in between. */
INLINE vi pinned(vi a) {
    __asm__ volatile("" : "+x"(a));
    return a;
}

typedef vi u_acc; /* int16 */
#define U_GROUPS_5 4
#define U_GROUPS_6 2

INLINE u_acc u_begin(vi acc) {
    (void)acc;
    return _mm256_setzero_si256();
}
INLINE u_acc u_dot(u_acc part, vi w, act_half a, int lane) {
    return pinned(_mm256_add_epi16(part, _mm256_maddubs_epi16(w, act_splat(a, lane))));
}
/* u_dot in two steps. They are only looked at (vf_pinned): with these, GCC needs no copies then. */
INLINE u_acc u_product(vi w, act_half a, int lane) {
    const vi product = _mm256_maddubs_epi16(w, act_splat(a, lane));
    __asm__ volatile("" : : "x"(product));
    return product;
}
INLINE u_acc u_add(u_acc part, u_acc product) {
    part = _mm256_add_epi16(part, product);
    __asm__ volatile("" : : "x"(part));
    return part;
}
INLINE vi u_end(vi acc, u_acc part, const consts *k) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(part, k->ones16));
}

typedef vi s_acc; /* int32 */
typedef struct s_weights {
    vi w, magnitude;
} s_weights;

INLINE s_weights s_prepare(vi w, const consts *k) {
    (void)k;
    return (s_weights){w, _mm256_abs_epi8(w)};
}
INLINE s_acc s_begin(const act_block *a) {
    (void)a;
    return _mm256_setzero_si256();
}
INLINE s_acc s_dot(s_acc part, s_weights w, act_half a, int lane, const consts *k) {
    vi pairs = _mm256_maddubs_epi16(w.magnitude, _mm256_sign_epi8(act_splat(a, lane), w.w));
    return pinned(_mm256_add_epi32(part, _mm256_madd_epi16(pairs, k->ones16)));
}
INLINE vi s_end(s_acc part) { return part; }

#define FLOAT_N 2 /* at most so many rows a step for float weights, and for K-quants */
#define SUPER_N 4
#define PANEL_ROWS 4 /* of a step of two tiles (panel_wide.h) */
#define FOR_EACH_N XL_N_TO_8
#define ISA avx2
#include "kernel/body/body.h"
#endif
