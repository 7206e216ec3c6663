/* The K/V cache of one sequence. */
#ifndef XL_KV_H
#define XL_KV_H
#include "model/model.h"

/* How a position's K/V was made. */
typedef enum xl_made { XL_MADE_EXACT, XL_MADE_MAPS, XL_MADE_PROPAGATE } xl_made;

typedef struct xl_kv {
    uint8_t *k, *v; /* areas of all layers, of each n_kv_heads */
    /* Of layers that look at all positions, and of those with a window (xl_layer_is_local). */
    uint32_t slots[2];    /* positions that an area holds, a multiple of 8 (kernels.h) */
    size_t area_bytes[2]; /* xl_kv_bytes(type, head_dim, slots), in whole cache lines */
    xl_kv_type type;
} xl_kv;

static inline uint32_t xl_kv_slots(const xl_kv *kv, const xl_config *c, uint32_t layer) {
    return kv->slots[xl_layer_is_local(c, layer)];
}

/* The area of one layer and K/V head in kv->k or kv->v; of layer n_layers: the end of all. */
static inline uint8_t *xl_kv_area(uint8_t *base, const xl_kv *kv, const xl_config *c,
                                  uint32_t layer, uint32_t kv_head) {
    const uint32_t global = c->window ? layer / c->window_period : layer;
    return base +
           ((size_t)global * kv->area_bytes[0] + (size_t)(layer - global) * kv->area_bytes[1]) *
               c->n_kv_heads +
           kv_head * kv->area_bytes[xl_layer_is_local(c, layer)];
}

#endif
