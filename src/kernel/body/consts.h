/* Vector constants of the kernels, loaded once at the start of a function. Natively that is what
 * the compiler does anyway. V8 builds a vector constant anew at each use, by three instructions,
 * which were a third of the inner loops; so in WebAssembly they are read from memory through a
 * pointer that the compiler cannot see through, and stay in registers. Included by an
 * instruction set's header after vi and vf. */
#ifndef XL_KERNEL_CONSTS_H
#define XL_KERNEL_CONSTS_H

#include "kernel/body/const_list.h"

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

INLINE consts load_consts(void) {
    consts k;
#ifdef __wasm__
    const uint32_t *table = xl_const_table;
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
    const float *table = xl_exp_const_table;
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
