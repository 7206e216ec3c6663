/* What a pass spreads over the threads: work row by row, and products of up to three matrices with
 * the same inputs. Used by forward.c and xl_matmul. */
#ifndef XL_PRODUCT_H
#define XL_PRODUCT_H
#include "work.h"

/* Work on row `row` of a pass, which touches no other row. `part`, less than the number of threads, says
 * whose scratch it may use. */
typedef void (*xl_row_fn)(const void *arg, uint32_t row, uint32_t part);

/* Runs fn for rows [first, first + n): on all threads where there are enough of them, one after the
 * other where that would cost more than it saves. */
void xl_each_row(const xl_run *run, xl_row_fn fn, const void *arg, uint32_t first, uint32_t n);

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
    xl_row_fn before;                /* makes a row of x; NULL: they are there */
    const void *before_arg;
    /* inputs are quantised twice: themselves and, in as many more rows, what that leaves; y has
     * room for XL_RESIDUAL_ROWS more */
    bool residual;
    bool activated; /* then y[0] = activation(y[0]), where there are two times y[1] */
} xl_product;

void xl_product_run(const xl_product *product);

#endif
