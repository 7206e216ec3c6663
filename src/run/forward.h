/* One transformer layer for a batch of rows. */
#ifndef XL_FORWARD_H
#define XL_FORWARD_H
#include "kv.h"
#include "work.h"

/* One row of a batch: a position of a sequence. Rows of one sequence are in ascending order of
 * position. */
typedef struct xl_row {
    xl_kv *kv;
    uint32_t pos;
    float *hidden; /* [dim], in: the residual stream before the layer; out: after it */
} xl_row;

/* One layer for n <= XL_CHUNK rows (of any sequences); K/V stored at each row's position. Allocates
 * nothing. Follows LlamaDecoderLayer.forward of transformers 4.x. */
void xl_forward_layer(xl_run *run, uint32_t layer, const xl_row *rows, uint32_t n);
/* Only what later positions need of these: their K and V; `hidden` stays. */
void xl_forward_kv(xl_run *run, uint32_t layer, const xl_row *rows, uint32_t n);
/* K and V of a layer that the row's exit skipped, from its hidden state: by the maps of `head`,
 * or (NULL) by the layer's own projections. */
void xl_forward_skipped(xl_run *run, uint32_t layer, const xl_row *row, const xl_head *head);

#endif
