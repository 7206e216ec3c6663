#include "snapshot.h"

#include <string.h>

#include "base/bytes.h"

uint32_t xl_snapshot_exact(const xl_stair *stair) {
    uint32_t n = 0;
    while (n < stair->n && stair->depth[n] == stair->run->model->config.n_layers &&
           stair->made[n] == XL_MADE_EXACT)
        n++;
    return xl_stair_in_window(stair, n) ? n : 0;
}

/* ---- Areas ---- */

/* What one area has of n positions: whole tiles, and the last one that n does not fill. */
typedef struct area {
    uint32_t layer, kv_head;
    bool is_v;
    uint32_t n;         /* positions that it has */
    size_t whole, rest; /* bytes */
} area;

static uint32_t n_areas(const xl_stair *stair) {
    const xl_config *c = &stair->run->model->config;
    return 2 * c->n_layers * c->n_kv_heads;
}

/* Area i; K and V in turn. */
static area area_of(const xl_stair *stair, uint32_t i, uint32_t n) {
    const xl_config *c = &stair->run->model->config;
    const xl_kv *kv = &stair->kv;
    const uint32_t layer = i / 2 / c->n_kv_heads,
                   held = xl_layer_is_local(c, layer) ? xl_min_u32(n, kv->ring_slots) : n;
    return (area){.layer = layer,
                  .kv_head = i / 2 % c->n_kv_heads,
                  .is_v = i % 2,
                  .n = held,
                  .whole = held / 8 * kv->tile_bytes,
                  .rest = held % 8 ? kv->tile_bytes : 0};
}

static uint8_t *tiles_at(const xl_stair *stair, const area *a, uint32_t pos, uint32_t *tiles) {
    return xl_kv_tile(&stair->kv, a->layer, a->kv_head, a->is_v, pos, tiles);
}

/* One piece, though it may lie in several places. */
static bool write_whole(const xl_stair *stair, const area *a, xl_put put, void *user) {
    const uint32_t end = a->n / 8 * 8;
    bool good = true;
    for (uint32_t pos = 0, tiles; good && pos < end; pos += 8 * tiles) {
        const uint8_t *at = tiles_at(stair, a, pos, &tiles);
        tiles = xl_min_u32(tiles, (end - pos) / 8);
        good = put(user, at, tiles * stair->kv.tile_bytes, pos + 8 * tiles < end);
    }
    return good;
}

bool xl_snapshot_write(const xl_stair *stair, uint32_t n, xl_put put, void *user) {
    uint8_t *tile = stair->run->work.act; /* free between passes, and 32 rows of it are a tile */
    uint32_t tiles;
    bool good = n == 0 || put(user, stair->ids, n * sizeof *stair->ids, false);
    for (uint32_t i = 0; good && i < n_areas(stair); i++) {
        const area a = area_of(stair, i, n);
        good = write_whole(stair, &a, put, user);
        if (!good || !a.rest) continue;
        memcpy(tile, tiles_at(stair, &a, a.n, &tiles), a.rest);
        xl_kv_clear(stair->kv.type, !a.is_v, stair->run->model->config.head_dim, tile, a.n % 8);
        good = put(user, tile, a.rest, false);
    }
    return good;
}

static bool read_area(const area *a, uint8_t *at, exitlm_read read, void *user) {
    return (!a->whole || read(user, at, a->whole)) &&
           (!a->rest || read(user, at + a->whole, a->rest));
}

/* check: the bytes may come from anybody. */
static exitlm_status read_all(xl_stair *stair, uint32_t n, bool check, exitlm_read read, void *user,
                              exitlm_error *error) {
    xl_stair_truncate(stair, 0);
    if (n == 0) return EXITLM_OK;
    if (n <= stair->ctx && !read(user, stair->ids, n * sizeof *stair->ids))
        return xl_fail(error, EXITLM_BAD_MODEL, "a saved conversation that ends too early");
    exitlm_status status = xl_stair_append(stair, stair->ids, n, error);
    for (uint32_t i = 0; status == EXITLM_OK && i < n_areas(stair); i++) {
        const area a = area_of(stair, i, n);
        uint32_t tiles;
        uint8_t *at =
            tiles_at(stair, &a, 0, &tiles); /* one after the other, in a block of its own */
        if (!read_area(&a, at, read, user))
            status = xl_fail(error, EXITLM_BAD_MODEL, "a saved conversation that ends too early");
        else if (check && !xl_kv_is_sane(stair->kv.type, stair->run->model->config.head_dim, at,
                                         (a.n + 7) / 8))
            status = xl_fail(error, EXITLM_BAD_MODEL,
                             "a saved conversation with numbers that no model computes");
    }
    if (status == EXITLM_OK) xl_stair_set_through(stair);
    return status;
}

exitlm_status xl_snapshot_read(xl_stair *stair, uint32_t n, exitlm_read read, void *user,
                               exitlm_error *error) {
    return read_all(stair, n, true, read, user, error);
}

/* ---- In memory ---- */

struct xl_snapshot {
    size_t bytes; /* of everything */
    uint32_t n;
};

static bool put(void *user, const void *bytes, size_t n_bytes, bool goes_on) {
    uint8_t **at = user;
    (void)goes_on;
    memcpy(*at, bytes, n_bytes);
    *at += n_bytes;
    return true;
}

static bool get(void *user, void *bytes, size_t n_bytes) {
    const uint8_t **at = user;
    memcpy(bytes, *at, n_bytes);
    *at += n_bytes;
    return true;
}

xl_snapshot *xl_snapshot_take(const xl_stair *stair) {
    size_t bytes = sizeof(xl_snapshot) + stair->n * sizeof *stair->ids;
    for (uint32_t i = 0; i < n_areas(stair); i++) {
        const area a = area_of(stair, i, stair->n);
        bytes += a.whole + a.rest;
    }
    xl_snapshot *snapshot = xl_calloc(&xl_libc_allocator, 1, bytes);
    if (!snapshot) return NULL;
    *snapshot = (xl_snapshot){bytes, stair->n};
    uint8_t *at = (uint8_t *)(snapshot + 1);
    xl_snapshot_write(stair, stair->n, put, &at);
    return snapshot;
}

exitlm_status xl_snapshot_restore(const xl_snapshot *snapshot, xl_stair *stair,
                                  exitlm_error *error) {
    const uint8_t *at = (const uint8_t *)(snapshot + 1);
    return read_all(stair, snapshot->n, false, get, &at, error);
}

void xl_snapshot_free(xl_snapshot *snapshot) {
    if (snapshot) xl_free(&xl_libc_allocator, snapshot, 1, snapshot->bytes);
}
