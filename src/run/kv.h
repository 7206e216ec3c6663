/* The K/V cache of one sequence, and what it shares with others.
 *
 * Of layers that look at all positions K and V lie in blocks. A block has an area for K and one for V
 * of each such layer and K/V head, from its first position on to the end of the context. A sequence
 * that shares nothing has one block. A clone reads its parent's, below the position where they part,
 * and writes one of its own from there on; so attention goes over a few long stretches:
 *
 *   parent   [0 ---------------------- 1000 ------- 1700              ]
 *   clone          reads that up to   [1000 --- 1300                  ]
 *
 * A block lives until the last sequence that reads it is freed or has gone another way. One of them
 * at most writes it, from where no other reads; one that has to write below that takes a block anew
 * (copy on write). Who goes on where the writer has left takes its place, and gives its own block
 * back: so blocks are in the long run not more than sequences. Sequences that share blocks may be
 * used in several threads.
 *
 * Layers with a window have a ring of positions instead, which no other sequence sees. */
#ifndef XL_KV_H
#define XL_KV_H
#include <stdatomic.h>

#include "work.h"

/* Positions that a layer with a window keeps beside its window: those of a pass, and as many as may
 * be dropped again without anything being computed anew. */
#define XL_BESIDE_WINDOW (XL_CHUNK + 256)

/* How a position's K/V was made. */
typedef enum xl_made { XL_MADE_EXACT, XL_MADE_MAPS, XL_MADE_PROPAGATE } xl_made;

typedef struct xl_kv_block {
    uint8_t *areas; /* of K, then of V, of all layers that look at all positions */
    size_t area_bytes, bytes;
    uint32_t from;   /* its first position, a multiple of 8 */
    uint32_t shared; /* positions below it are read by others, too; its writer's to change */
    atomic_uint readers;
    atomic_bool has_writer;
} xl_kv_block;

/* Most blocks of a sequence: a clone of more shares the first ones and copies the rest. */
#define XL_KV_BLOCKS XL_KV_STRETCHES

typedef struct xl_kv {
    const exitlm_model *model;
    xl_kv_type type;
    size_t tile_bytes;
    uint32_t slots; /* the context, in whole tiles */
    uint32_t n_blocks;
    xl_kv_block *block[XL_KV_BLOCKS]; /* each is read up to where the next one begins */
    bool writes;                      /* the last of them */
    uint8_t *ring;                    /* areas of the layers with a window */
    size_t ring_area_bytes, ring_bytes;
    uint32_t ring_slots;
} xl_kv;

/* Sizes, and the rings from the arena; no block yet. */
void xl_kv_take(xl_kv *kv, xl_arena *arena, const exitlm_model *model, uint32_t ctx,
                xl_kv_type type);
/* Adds up what a block from a position on takes. */
void xl_kv_take_block(const xl_kv *kv, xl_arena *arena, uint32_t from);
/* Gives all blocks back. */
void xl_kv_free(xl_kv *kv);

/* Makes the positions from n on this sequence's own to write; what it has from there on is lost where
 * that takes memory. False: there is none, and the positions below n are as before. */
bool xl_kv_own(xl_kv *kv, uint32_t n);
/* `to`, of the same model, type and context, reads the first n positions of `from` and writes those
 * from n on, whatever it had before. Copies the tile that n cuts, and rings. False: there is no memory,
 * and `to` has no block. */
bool xl_kv_share(xl_kv *to, const xl_kv *from, uint32_t n);

/* The tile of a position in one layer and K/V head, and how many lie there one after the other. */
uint8_t *xl_kv_tile(const xl_kv *kv, uint32_t layer, uint32_t kv_head, bool is_v, uint32_t pos,
                    uint32_t *tiles);
/* Those of positions [first, end), for attend. */
void xl_kv_stretches(const xl_kv *kv, uint32_t layer, uint32_t kv_head, uint32_t first,
                     uint32_t end, xl_stretch stretches[XL_KV_STRETCHES]);

#endif
