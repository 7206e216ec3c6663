/* What every instruction set's file includes first. */
#ifndef XL_KERNEL_PREFIX_H
#define XL_KERNEL_PREFIX_H

#include "kernel/kernels_isa.h"

#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* A sanitised build checks every access; unrolled kernels would take it minutes to compile. */
#if defined(__SANITIZE_ADDRESS__)
#define XL_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define XL_SANITIZED 1
#endif
#endif

/* Before a loop with a constant count: unroll it whole, so that arrays of vectors become
 * registers. */
#if defined(XL_SANITIZED)
#define UNROLL
#define NO_UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#define NO_UNROLL _Pragma("GCC unroll 1")
#endif

#define MAX_N 8
#define TILE_VECTORS (XL_TILE_ROWS / LANES)
#define EACH(i, count) UNROLL for (int i = 0; i < (count); i++)

/* Activation row i of the batch, at the current block. */
#define ACT(i) ((const act_block *)(const void *)(act + (size_t)(i) * act_stride))

/* Vector v of word plane g; `words` points at this step's first lane. */
#define WORD(words, g, v) vi_load((words) + (g) * 32 + (v) * 4 * LANES)

/* In WebAssembly a step of one activation row goes over two tiles, which share the loads of
 * activations: vector v is of the tile at p or of the one `apart` behind it, half a matrix away.
 * There is no prefetch, and the processor's own ends at each page of 4 KB, so two pages are under
 * way. Natively that gains nothing. */
#define STEP_VECTORS (2 * TILE_VECTORS)
#define TILE_OF(p, v, apart) ((v) < TILE_VECTORS ? (p) : (p) + (apart))
#define WORD_APART(words, g, v, apart) WORD(TILE_OF(words, v, apart), g, (v) % TILE_VECTORS)
#if defined(__wasm__)
#define PAIRS 1
#else
#define PAIRS 0
#endif

/* Before constants are added to p: makes of it a pointer of which nothing more is known. LLVM otherwise
 * sees a sum in it, to which it adds the constants anew each time, where a load of WebAssembly could take them
 * for nothing. Queries of several chains lie in WebAssembly one chain after the other, as V8 shares an
 * offset's computation among pointers, and natively side by side. */
#if defined(__wasm__)
#define FOLDABLE(p) __asm__("" : "+r"(p))
#define QUERY_AT(c, g, C, head_dim) ((g) * (head_dim) + (c))
#else
#define FOLDABLE(p) (void)(p)
#define QUERY_AT(c, g, C, head_dim) ((c) * (C) + (g))
#endif

/* What computes a little of much memory waits for it, as the processor's own prefetch ends at each page
 * of 4 KB. So it is asked for twice: far ahead into the second cache, of which more may be under way,
 * and shortly before its use into the first. WebAssembly has no prefetch; what is read there line by
 * line before it is used comes with more lines under way than what is computed with at once. */
enum { AHEAD_BYTES = 16384, NEAR_BYTES = 2048, LINE_BYTES = 64 };
#if defined(__wasm__)
enum { PREFETCHES = 0 };
#define PREFETCH_FAR(p) (void)(p)
#define PREFETCH(p, ahead) (void)(p), (void)(ahead)
INLINE void touch(const uint8_t *p, size_t bytes) {
    for (size_t at = 0; at < bytes; at += LINE_BYTES) (void)*(const volatile uint8_t *)(p + at);
}
#else
enum { PREFETCHES = 1 };
#define PREFETCH_FAR(p) __builtin_prefetch(p, 0, 2)
#define PREFETCH(p, ahead) (PREFETCH_FAR((p) + (ahead)), __builtin_prefetch((p) + NEAR_BYTES))
INLINE void touch(const uint8_t *p, size_t bytes) { (void)p, (void)bytes; }
#endif

/* The batch sizes that get their own code: all, for the few rows of a verification or of
 * positions that wait come in any number. */
#ifdef XL_SANITIZED
#define XL_N_TO_8(X) X(2) X(1)
#define XL_N_TO_4(X) X(2) X(1)
#else
#define XL_N_TO_8(X) X(8) X(7) X(6) X(5) X(4) X(3) X(2) X(1)
#define XL_N_TO_4(X) X(4) X(3) X(2) X(1)
#endif

#endif
