/* Products of up to three matrices with the same inputs, spread over the threads. Used by
 * forward.c and xl_matmul. */
#ifndef XL_PRODUCT_H
#define XL_PRODUCT_H
#include "work.h"

typedef struct xl_product {
    xl_run *run;
    const xl_matrix *w[3];
    const float *bias[3]; /* added to y; NULL: none */
    float *y[3];
    size_t y_stride[3];              /* floats */
    uint32_t n_matrices, row0, rows; /* row0, rows: of a single matrix; rows 0: all */
    const float *x;                  /* [n][x_stride] */
    size_t x_stride;                 /* floats */
    uint32_t n;                      /* <= XL_CHUNK */
    /* inputs are quantised twice: themselves and, in as many more rows, what that leaves; y has
     * room for XL_RESIDUAL_ROWS more */
    bool residual;
    bool activated; /* then y[0] = activation(y[0]), where there are two times y[1] */
} xl_product;

void xl_product_run(const xl_product *product);

#endif
