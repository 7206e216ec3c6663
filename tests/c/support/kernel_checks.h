/* Compares the kernels of an instruction set with the scalar ones, bit for bit, and those with plain
 * double arithmetic. Buffers end at a page that nobody may touch, and lie behind canaries. For
 * test_kernels and fuzz_kernels. */
#ifndef KERNEL_CHECKS_H
#define KERNEL_CHECKS_H
#include "check.h"
#include "input.h"
#include "kernel/kernels.h"

#include <stdio.h>
#include <stdlib.h>

/* What inputs look like. EXTREME: integers at the ends of their ranges. WILD: magnitudes from 1e-38
 * to 1e4, blocks of zeros, values that are not finite (for the quantisation alone). Beside these:
 * BYTES, drawn from an input; OUTLIER, see test_attend. */
typedef enum flavour { PLAIN, EXTREME, WILD, FLAVOURS, BYTES = FLAVOURS, OUTLIER } flavour;

uint32_t random32(void);
void fill(float *x, size_t n, flavour f);
void *guarded(size_t bytes);
void release(void *memory);
float *random_floats(size_t n, flavour f);
void *aligned(size_t bytes);
bool same(const float *a, const float *b, size_t n);
void *random_matrix(xl_type type, size_t rows, size_t cols, flavour f);
/* n activation rows as matmul wants them for this type. */
uint8_t *activations(const xl_kernels *k, xl_type type, const float *x, size_t cols, size_t n,
                     size_t stride);

void test_matmul_size(const xl_kernels *k, xl_type type, flavour f, size_t rows, size_t cols,
                      size_t n);
void test_vectors(const xl_kernels *k, size_t n, flavour f);
void test_rope(const xl_kernels *k, size_t head_dim, size_t rot, flavour f);
void test_stats(const xl_kernels *k, size_t n, flavour f);
void test_attend(const xl_kernels *k, xl_kv_type type, size_t head_dim, size_t group, size_t n_pos,
                 size_t n, flavour f);
/* One of these; which, its sizes and its numbers are drawn from the input. */
void test_drawn(const xl_kernels *k, input *in);

#endif
