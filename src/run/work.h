/* What computes: a model with its kernels, threads and the scratch of a pass. It holds no
 * position. */
#ifndef XL_WORK_H
#define XL_WORK_H
#include "base/threads.h"
#include "kernel/kernels.h"
#include "model/heads.h"
#include "model/model.h"

#define XL_CHUNK 32 /* most rows of one pass through a layer */
#define XL_RESIDUAL_ROWS \
    16 /* most rows of a product whose inputs are quantised twice (forward.c);
                             * twice as many are at most XL_CHUNK */

/* Scratch of forward passes. Sequences that are run together use the scratch of one of them. */
typedef struct xl_work {
    float *norm; /* [XL_CHUNK][dim] */
    /* [XL_CHUNK][act_stride] quantised rows of the widest input; of XL_RESIDUAL_ROWS rows, then of
     * what quantising them left */
    uint8_t *act;
    size_t act_stride;
    float *residual; /* [threads][residual_floats] what quantising a row left */
    size_t residual_floats;
    /* Nobody reads these after a pass: they lie where a verification's logits are (logits.h). */
    float *q, *k, *v; /* [XL_CHUNK + XL_RESIDUAL_ROWS][q_dim] [kv_dim] [kv_dim] */
    float *att;       /* [XL_CHUNK][q_dim] */
    float *out;       /* [XL_CHUNK + XL_RESIDUAL_ROWS][dim] */
    float *gate, *up; /* [XL_CHUNK + XL_RESIDUAL_ROWS][ffn_dim] */
    float *scores;    /* [threads][scores_floats] */
    size_t scores_floats;
    size_t dim_stride, q_stride, kv_stride, ffn_stride; /* floats from row to row */
    float *ones; /* [widest input of a head] 1.0; NULL without heads */
} xl_work;

/* RoPE's angles of the positions that were run of late. */
typedef struct xl_angles {
    uint32_t n_slots;  /* 0: no layer of the model has such angles */
    float *cos, *sin;  /* [n_slots][rope_dims / 2] of the positions in `of` */
    uint32_t *of;      /* [n_slots] position + 1; 0: none */
    double *frequency; /* [rope_dims / 2] angle of position 1 */
    bool ready;        /* frequencies are filled once the model's rope_factors are there */
} xl_angles;

typedef struct xl_run {
    const exitlm_model *model;
    const xl_kernels *kernels;
    xl_pool *pool;
    xl_work work;
    xl_angles angles, local_angles; /* of layers that look at all positions; with a window */
    uint64_t macs;                  /* multiply-adds done, matrices only */
} xl_run;

/* n numbers in whole tiles: how far rows lie apart. */
static inline size_t xl_whole_tiles(size_t n) {
    return (n + XL_TILE_ROWS - 1) / XL_TILE_ROWS * XL_TILE_ROWS;
}

/* Takes the scratch from the arena. n_angles: positions whose angles are kept. */
void xl_run_take(xl_run *run, xl_arena *arena, const exitlm_heads *heads, uint32_t ctx,
                 uint32_t n_angles, uint32_t threads);
/* The part that may lie where logits are. */
void xl_run_take_sections(xl_run *run, xl_arena *arena);
/* Fills the constants, once the memory is there. */
void xl_run_fill(xl_run *run, const exitlm_heads *heads);

/* y [dim] <- the model's kind of norm of x [dim]. */
void xl_norm_row(const xl_run *run, float *y, const float *x, const xl_norm *norm);

/* y[n][rows] = W x for n rows of f32 inputs [n][cols] (quantised here as the type wants).
 * y_stride in floats. */
void xl_matmul(xl_run *run, float *y, size_t y_stride, const xl_matrix *w, const float *x,
               uint32_t n);
/* The same for rows [row0, row0 + rows), row0 a multiple of 8. */
void xl_matmul_rows(xl_run *run, float *y, size_t y_stride, const xl_matrix *w, uint32_t row0,
                    uint32_t rows, const float *x, uint32_t n);

#endif
