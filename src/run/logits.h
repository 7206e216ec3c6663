/* The model's own head: scores of the whole vocabulary. */
#ifndef XL_LOGITS_H
#define XL_LOGITS_H
#include "stair.h"

typedef struct xl_logits {
    xl_stair *stair;
    /* [XL_MAX_VERIFY][stride], slot order; a pass through a layer leaves only row 0 as it is */
    float *row;
    size_t stride; /* the vocabulary in whole tiles */
    /* [stride] scratch: what is sampled from, in the order of ids; or an exit's scores */
    float *by_id;
    /* Where the staircase is deferred: the rows that were asked for, or have been computed since. */
    struct {
        uint32_t pos, n, row0; /* n 0: none */
        bool ready;
    } wanted;
} xl_logits;

/* scratch_floats: by_id has so many at least. */
void xl_logits_take(xl_logits *logits, xl_arena *arena, xl_stair *stair, size_t scratch_floats);

/* The normalised hidden states of positions pos … pos+n-1, which must be through all layers. */
void xl_logits_inputs(const xl_logits *logits, uint32_t pos, uint32_t n,
                      float *x /* [n][dim_stride] */);
/* Rows of logits <- those of positions pos … pos+n-1, which must be through all layers, n <=
 * XL_MAX_VERIFY, without the first row0 slots (a multiple of 8), which an exit check has filled
 * already. WAIT where output rows are missing. */
exitlm_status xl_logits_compute(xl_logits *logits, uint32_t pos, uint32_t n, uint32_t row0,
                                exitlm_error *error);
/* The same from n normalised hidden states x [n][dim_stride]. */
void xl_logits_of(xl_logits *logits, const float *x, uint32_t n, uint32_t row0);
static inline float *xl_logits_row(const xl_logits *logits, uint32_t row) {
    return logits->row + row * logits->stride;
}
/* slot order -> id order: out [vocab] */
void xl_logits_by_id(const xl_logits *logits, const float *slots, float *out);
/* Lowest id of the largest. */
int32_t xl_logits_argmax(const xl_logits *logits, const float *slots);

#endif
