/* The vector constants of the kernels (consts.h). */
#ifndef XL_KERNEL_CONST_LIST_H
#define XL_KERNEL_CONST_LIST_H

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

#ifdef __wasm__
#include <stdint.h>
/* One of each for all instruction sets (kernels.c): functions that are the same in two of them are then
 * the same to the byte, and are linked once. */
extern const uint32_t xl_const_table[];
extern const float xl_exp_const_table[];
#endif

#endif
