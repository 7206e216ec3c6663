#include "kv.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"

/* ---- Sizes ---- */

static uint32_t n_global(const xl_config *c) {
    return c->window ? c->n_layers / c->window_period : c->n_layers;
}

static size_t area_bytes(const xl_kv *kv, uint32_t positions) {
    const size_t bytes = positions / 8 * kv->tile_bytes;
    return (bytes + XL_ALIGN - 1) / XL_ALIGN * XL_ALIGN;
}

void xl_kv_take(xl_kv *kv, xl_arena *arena, const exitlm_model *model, uint32_t ctx,
                xl_kv_type type) {
    const xl_config *c = &model->config;
    const uint32_t most = c->window < ctx ? xl_min_u32(ctx, c->window + XL_BESIDE_WINDOW) : ctx;
    kv->model = model;
    kv->type = type;
    kv->tile_bytes = xl_kv_bytes(type, c->head_dim, 8);
    kv->slots = (ctx + 7) / 8 * 8;
    kv->ring_slots = (most + 7) / 8 * 8;
    kv->ring_area_bytes = area_bytes(kv, kv->ring_slots);
    const size_t before = arena->used_bytes;
    kv->ring = xl_arena_take2(arena, 2 * (size_t)(c->n_layers - n_global(c)) * c->n_kv_heads,
                              kv->ring_area_bytes, 1);
    kv->ring_bytes = arena->used_bytes - before;
}

void xl_kv_take_block(const xl_kv *kv, xl_arena *arena, uint32_t from) {
    const xl_config *c = &kv->model->config;
    xl_arena_take(arena, 1, sizeof(xl_kv_block));
    xl_arena_take2(arena, 2 * (size_t)n_global(c) * c->n_kv_heads, area_bytes(kv, kv->slots - from),
                   1);
}

/* ---- Blocks ---- */

static xl_kv_block *last_of(const xl_kv *kv) { return kv->block[kv->n_blocks - 1]; }

/* With this sequence as its reader and writer. */
static xl_kv_block *new_block(const xl_kv *kv, uint32_t from) {
    const exitlm_allocator *allocator = &kv->model->allocator;
    xl_arena arena = {0};
    xl_kv_take_block(kv, &arena, from);
    if (arena.overflow) return NULL;
    /* A clone often writes a little of its part of the context. */
    xl_kv_block *block =
        allocator->alloc(allocator->user, arena.used_bytes, from ? XL_ALIGN_SPARSE : XL_ALIGN);
    if (!block) return NULL;
    *block = (xl_kv_block){
        .area_bytes = area_bytes(kv, kv->slots - from), .bytes = arena.used_bytes, .from = from};
    atomic_init(&block->readers, 1);
    atomic_init(&block->has_writer, true);
    const size_t head_bytes = (sizeof *block + XL_ALIGN - 1) / XL_ALIGN * XL_ALIGN;
    block->areas = (uint8_t *)block + head_bytes;
    return block;
}

/* Positions [first, end), which both have, in whole tiles. */
static void copy(const xl_kv *kv, xl_kv_block *to, const xl_kv_block *from, uint32_t first,
                 uint32_t end) {
    const xl_config *c = &kv->model->config;
    const size_t to_tile = (first - to->from) / 8, from_tile = (first - from->from) / 8,
                 bytes = (end - first + 7) / 8 * kv->tile_bytes,
                 areas = 2 * (size_t)n_global(c) * c->n_kv_heads;
    for (size_t i = 0; i < areas; i++)
        memcpy(to->areas + i * to->area_bytes + to_tile * kv->tile_bytes,
               from->areas + i * from->area_bytes + from_tile * kv->tile_bytes, bytes);
}

/* Its writer, or nobody but its only reader, may ask. */
static bool may_write(xl_kv_block *block, uint32_t n) {
    if (atomic_load(&block->readers) == 1) block->shared = 0;
    return n >= block->shared;
}

/* A block without a writer gets one that begins at n, unless others read there. */
static bool claim(xl_kv_block *block, uint32_t n) {
    if (atomic_exchange(&block->has_writer, true)) return false;
    if (may_write(block, n)) return true;
    atomic_store(&block->has_writer, false);
    return false;
}

static void stop_writing(xl_kv *kv) {
    if (kv->writes) atomic_store(&last_of(kv)->has_writer, false);
    kv->writes = false;
}

static void drop_last(xl_kv *kv) {
    const exitlm_allocator *allocator = &kv->model->allocator;
    stop_writing(kv);
    xl_kv_block *block = kv->block[--kv->n_blocks];
    if (atomic_fetch_sub(&block->readers, 1) == 1)
        allocator->free(allocator->user, block, block->bytes);
}

void xl_kv_free(xl_kv *kv) {
    while (kv->n_blocks > 0) drop_last(kv);
}

/* A new block to write from n on, with what the tile of n has already; in the place of the last one
 * where that begins there, or is one too many. */
static bool branch(xl_kv *kv, uint32_t n) {
    xl_kv_block *last = kv->n_blocks ? last_of(kv) : NULL;
    uint32_t from = n / 8 * 8;
    const bool in_place = last && (last->from >= from || kv->n_blocks == XL_KV_BLOCKS);
    if (in_place) from = last->from;
    xl_kv_block *block = new_block(kv, from);
    if (!block) return false;
    if (last) copy(kv, block, last, from, n);
    if (in_place) drop_last(kv);
    stop_writing(kv);
    kv->block[kv->n_blocks++] = block;
    kv->writes = true;
    return true;
}

bool xl_kv_own(xl_kv *kv, uint32_t n) {
    while (kv->n_blocks > 1 && last_of(kv)->from > n) drop_last(kv);
    if (kv->n_blocks == 0) return branch(kv, n);
    if (kv->writes && !may_write(last_of(kv), n)) return branch(kv, n);
    if (!kv->writes) kv->writes = claim(last_of(kv), n);
    while (kv->writes && kv->n_blocks > 1 &&
           claim(kv->block[kv->n_blocks - 2], last_of(kv)->from)) {
        copy(kv, kv->block[kv->n_blocks - 2], last_of(kv), last_of(kv)->from, n);
        drop_last(kv);
        kv->writes = true;
    }
    return kv->writes || branch(kv, n);
}

/* What n positions have filled of the areas of layers with a window. */
static void copy_rings(xl_kv *to, const xl_kv *from, uint32_t n) {
    const size_t bytes = (xl_min_u32(n, from->ring_slots) + 7) / 8 * from->tile_bytes;
    for (size_t at = 0; at < from->ring_bytes; at += from->ring_area_bytes)
        memcpy(to->ring + at, from->ring + at, bytes);
}

bool xl_kv_share(xl_kv *to, const xl_kv *from, uint32_t n) {
    assert(to->model == from->model && to->type == from->type && to->slots == from->slots);
    xl_kv_free(to);
    for (; to->n_blocks < from->n_blocks && from->block[to->n_blocks]->from < n; to->n_blocks++) {
        to->block[to->n_blocks] = from->block[to->n_blocks];
        atomic_fetch_add(&to->block[to->n_blocks]->readers, 1);
    }
    if (!branch(to, n)) {
        xl_kv_free(to);
        return false;
    }
    if (from->writes) last_of(from)->shared = xl_max_u32(last_of(from)->shared, last_of(to)->from);
    copy_rings(to, from, n);
    return true;
}

/* ---- Tiles ---- */

uint8_t *xl_kv_tile(const xl_kv *kv, uint32_t layer, uint32_t kv_head, bool is_v, uint32_t pos,
                    uint32_t *tiles) {
    const xl_config *c = &kv->model->config;
    const uint32_t global = c->window ? layer / c->window_period : layer;
    if (xl_layer_is_local(c, layer)) {
        const size_t above = is_v ? c->n_layers - n_global(c) : 0,
                     area = (above + layer - global) * c->n_kv_heads + kv_head;
        const uint32_t tile = pos % kv->ring_slots / 8;
        *tiles = kv->ring_slots / 8 - tile;
        return kv->ring + area * kv->ring_area_bytes + tile * kv->tile_bytes;
    }
    uint32_t i = kv->n_blocks - 1, end = kv->slots;
    for (; kv->block[i]->from > pos; i--) end = kv->block[i]->from;
    const xl_kv_block *block = kv->block[i];
    const size_t above = is_v ? n_global(c) : 0, area = (above + global) * c->n_kv_heads + kv_head;
    *tiles = end / 8 - pos / 8;
    return block->areas + area * block->area_bytes + (pos - block->from) / 8 * kv->tile_bytes;
}

void xl_kv_stretches(const xl_kv *kv, uint32_t layer, uint32_t kv_head, uint32_t first,
                     uint32_t end, xl_stretch stretches[XL_KV_STRETCHES]) {
    for (uint32_t pos = first / 8 * 8, tiles; pos < end; pos += 8 * tiles, stretches++) {
        stretches->k = xl_kv_tile(kv, layer, kv_head, false, pos, &tiles);
        stretches->v = xl_kv_tile(kv, layer, kv_head, true, pos, &tiles);
        stretches->tiles = tiles;
    }
}
