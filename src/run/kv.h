/* The K/V cache of one sequence. */
#ifndef XL_KV_H
#define XL_KV_H
#include "model/model.h"

/* How a position's K/V was made. */
typedef enum xl_made { XL_MADE_EXACT, XL_MADE_MAPS, XL_MADE_PROPAGATE } xl_made;

typedef struct xl_kv {
    uint8_t *k, *v;    /* [n_layers * n_kv_heads] areas */
    size_t area_bytes; /* xl_kv_bytes(type, head_dim, ctx), in whole cache lines */
    xl_kv_type type;
} xl_kv;

/* The area of one layer and K/V head in kv->k or kv->v. */
static inline uint8_t *xl_kv_area(uint8_t *base, const xl_kv *kv, const xl_config *c,
                                  uint32_t layer, uint32_t kv_head) {
    return base + ((size_t)layer * c->n_kv_heads + kv_head) * kv->area_bytes;
}

#endif
