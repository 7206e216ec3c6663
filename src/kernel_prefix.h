/* What every instruction set's file includes first. */
#ifndef XL_KERNEL_PREFIX_H
#define XL_KERNEL_PREFIX_H

#include "kernels_isa.h"

#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* Before a loop with a constant count: unroll it whole, so that arrays of vectors become registers. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#define NO_UNROLL _Pragma("GCC unroll 1")
#endif

/* The batch sizes that get their own code. A sanitised build checks every access, which makes the larger ones take minutes to compile. */
#if defined(__SANITIZE_ADDRESS__)
#define XL_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define XL_SANITIZED 1
#endif
#endif
#ifdef XL_SANITIZED
#define XL_N_1_2_4_8(X) X(2) X(1)
#else
#define XL_N_1_2_4_8(X) X(8) X(4) X(2) X(1)
#endif

#endif
