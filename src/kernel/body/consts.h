/* Vector constants of the kernels, loaded once at the start of a function. Natively that is what
 * the compiler does anyway. V8 builds a vector constant anew at each use, by three instructions,
 * which were a third of the inner loops; so in WebAssembly they are read from memory through a
 * pointer that the compiler cannot see through, and stay in registers. Included by an
 * instruction set's header after vi and vf. */
#ifndef XL_KERNEL_CONSTS_H
#define XL_KERNEL_CONSTS_H

#include "base/fmath.h"

/* X(name, the 32 bits of every lane) */
#define XL_CONST_LIST(X)      \
    X(nibbles, 0x0f0f0f0fu)   \
    X(bit4, 0x10101010u)      \
    X(bit0, 0x01010101u)      \
    X(bits01, 0x03030303u)    \
    X(f16_bits, 0x8fffffffu)  \
    X(f16_scale, 0x77800000u) \
    X(ones16, 0x00010001u)    \
    X(byte0, 0x00ff00ffu)     \
    X(nibble0, 0x000f000fu)   \
    X(flip_even, 0x00800080u) \
    X(flip, 0x80808080u)

/* X(name, value) for the exponential function */
#define XL_EXP_CONST_LIST(X)  \
    X(max, XL_EXPF_MAX)       \
    X(min, XL_EXPF_MIN)       \
    X(log2e, XL_EXPF_LOG2E)   \
    X(magic, XL_EXPF_MAGIC)   \
    X(ln2_hi, XL_EXPF_LN2_HI) \
    X(ln2_lo, XL_EXPF_LN2_LO) \
    X(c0, XL_EXPF_C0)         \
    X(c1, XL_EXPF_C1)         \
    X(c2, XL_EXPF_C2)         \
    X(c3, XL_EXPF_C3)         \
    X(c4, XL_EXPF_C4)         \
    X(c5, XL_EXPF_C5)         \
    X(one, 1.0f)

typedef struct consts {
#define X(NAME, BITS) vi NAME;
    XL_CONST_LIST(X)
#undef X
} consts;

typedef struct exp_consts {
#define X(NAME, VALUE) vf NAME;
    XL_EXP_CONST_LIST(X)
#undef X
} exp_consts;

#ifdef __wasm__
#define X(NAME, BITS) BITS,
static const uint32_t const_table[] = {XL_CONST_LIST(X)};
#undef X
#define X(NAME, VALUE) VALUE,
static const float exp_const_table[] = {XL_EXP_CONST_LIST(X)};
#undef X
#endif

INLINE consts load_consts(void) {
    consts k;
#ifdef __wasm__
    const uint32_t *table = const_table;
    __asm__("" : "+r"(table));
#define X(NAME, BITS) k.NAME = wasm_v128_load32_splat(table++);
#else
#define X(NAME, BITS) k.NAME = vi_set1((int32_t)(BITS));
#endif
    XL_CONST_LIST(X)
#undef X
    return k;
}

INLINE exp_consts load_exp_consts(void) {
    exp_consts k;
#ifdef __wasm__
    const float *table = exp_const_table;
    __asm__("" : "+r"(table));
#define X(NAME, VALUE) k.NAME = wasm_v128_load32_splat(table++);
#else
#define X(NAME, VALUE) k.NAME = vf_set1(VALUE);
#endif
    XL_EXP_CONST_LIST(X)
#undef X
    return k;
}

#endif
