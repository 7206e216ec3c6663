/* Parts of head training that share structures: train_linear.c (matrices with their moments),
 * train_loss.c (one row), train_head.c. */
#ifndef XL_TRAIN_INTERNAL_H
#define XL_TRAIN_INTERNAL_H
#include "train_gemm.h"
#include "train_head.h"

/* One step of AdamW. */
typedef struct xl_adam {
    float rate, decay, correct1, correct2; /* bias corrections 1 - beta^t */
} xl_adam;
void xl_adam_apply(const xl_adam *adam, float decay, float *w, float *m, float *v,
                   const float *gradient, size_t n);

/* A trained matrix y = W x and what its gradient needs of the batch. */
typedef struct xl_linear {
    uint32_t out, in, batch;
    float *w, *m, *v; /* [out][in]; NULL: this head has no such matrix */
    float *forward;   /* panels of W transposed: y = x . forward */
    float *backward;  /* panels of W: dx = dy . backward; NULL where nobody asks */
    float *dy_t;      /* [out][batch] */
    float *x_panels;  /* panels of x [batch][in] */
} xl_linear;

/* Rows [row, row + n) of the batch. */
void xl_linear_put_x(xl_linear *linear, const float *x, size_t row, size_t n);
void xl_linear_put_dy(xl_linear *linear, const float *dy, size_t stride, size_t row, size_t n);
/* Gradient and AdamW of this part's share of the rows. */
void xl_linear_update(xl_linear *linear, const xl_adam *adam, uint32_t part, uint32_t parts);
/* Panels from W, this part's share. */
void xl_linear_pack(xl_linear *linear, uint32_t part, uint32_t parts);

/* What one position should say, against the candidates of a head. */
typedef struct xl_target {
    const int32_t *ids; /* [k] the model's likeliest tokens */
    const uint16_t *p;  /* [k] f16 */
    uint32_t k;
    const int32_t *index_of; /* [vocab] place in the static shortlist, or -1; NULL: place = id */
    uint32_t rows;           /* static candidates */
    const int32_t *extra;    /* [n_extra] context tokens, candidates rows … rows + n_extra - 1 */
    uint32_t n_extra;
    bool other;        /* candidate rows + n_extra is "other" */
    float temperature; /* of the model's distribution: xl_train_options */
} xl_target;
static inline uint32_t xl_target_outcomes(const xl_target *t) {
    return t->rows + t->n_extra + t->other;
}
#define XL_TOP_MAX 64
/* z [outcomes]: logits in, gradient of the loss out. The loss. */
double xl_loss_row(float *z, const xl_target *target, bool *agrees);
/* The answer of logits z (left as exponentials). */
void xl_answer_row(float *z, const xl_target *target, const int32_t *shortlist,
                   xl_head_answer *answer);

float xl_dot(const float *a, const float *b, size_t n);
void xl_add_scaled(float *y, float a, const float *x, size_t n);
void xl_half_row(float *out, const uint16_t *in, size_t n); /* f16 to f32, finite values */

#endif
