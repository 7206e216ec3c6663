/* Between the kernel files alone: which instruction sets exist, and what they share. */
#ifndef XL_KERNELS_ISA_H
#define XL_KERNELS_ISA_H

#include "kernels.h"

/* An activation group below this magnitude is zero: 127 / amax must stay finite. */
#define XL_ACT_TINY 1e-30f
#define XL_MAX_HEAD_DIM 256

/* X(NAME), best first; runs_NAME in kernels.c asks the CPU. Each has a file NAME.c, which defines its
 * table where the compiler targets that architecture, and nothing elsewhere. */
#if defined(__x86_64__) || defined(_M_X64)
#define XL_ISA_LIST(X) X(avx512vnni) X(avx2) X(scalar)
#elif defined(__aarch64__) || defined(_M_ARM64)
#define XL_ISA_LIST(X) X(neondot) X(neon) X(scalar)
#elif defined(__wasm_relaxed_simd__)
#define XL_ISA_LIST(X) X(relaxed) X(relaxed16) X(scalar)
#elif defined(__wasm_simd128__)
#define XL_ISA_LIST(X) X(simd128) X(scalar)
#else
#define XL_ISA_LIST(X) X(scalar)
#endif

#define X(NAME) extern const xl_kernels xl_kernels_##NAME;
XL_ISA_LIST(X)
#undef X

#if defined(__wasm_relaxed_simd__)
/* How this engine computes the four-product relaxed dot: true if by widening pairs of products
 * (vpmaddubsw, vpmaddwd, vpaddd on x86 without AVX-VNNI), where the two-product table is the
 * faster one. The results of both tables are the same. */
bool xl_relaxed_dot_widens(void);
#endif

/* x [n], n a multiple of 8, through Walsh and Hadamard's transform, in blocks of as many elements as
 * the largest power of two that divides n. Not normalised: the product of two rows becomes `block`
 * times what it was. */
static inline size_t xl_rotation_block(size_t n) { return n & (~n + 1); }
void xl_rotate(float *x, size_t n);

/* Storing is memory traffic and one position at a time; every instruction set shares the scalar
 * form. */
void xl_store_kv_F32(void *k_cache, void *v_cache, size_t slot, const float *k, const float *v,
                     size_t head_dim);
void xl_store_kv_F16(void *k_cache, void *v_cache, size_t slot, const float *k, const float *v,
                     size_t head_dim);
void xl_store_kv_Q8(void *k_cache, void *v_cache, size_t slot, const float *k, const float *v,
                    size_t head_dim);

#endif
