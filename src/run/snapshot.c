#include "snapshot.h"

#include <string.h>

uint32_t xl_snapshot_exact(const xl_stair *stair) {
    uint32_t n = 0;
    while (n < stair->n && stair->depth[n] == stair->run->model->config.n_layers &&
           stair->made[n] == XL_MADE_EXACT)
        n++;
    return n;
}

/* ---- Areas ---- */

/* The bytes of n positions in one area: whole tiles, and the last one that n does not fill. */
typedef struct areas {
    uint32_t n; /* K and V in turn */
    size_t whole, rest;
    uint32_t used; /* positions in the last tile */
} areas;

static areas areas_of(const xl_stair *stair, uint32_t n) {
    const xl_config *c = &stair->run->model->config;
    const size_t whole = xl_kv_bytes(stair->kv.type, c->head_dim, n / 8 * 8);
    return (areas){2 * c->n_layers * c->n_kv_heads, whole,
                   xl_kv_bytes(stair->kv.type, c->head_dim, n) - whole, n % 8};
}

static uint8_t *area_at(const xl_stair *stair, uint32_t i) {
    return (i % 2 ? stair->kv.v : stair->kv.k) + i / 2 * stair->kv.area_bytes;
}

bool xl_snapshot_write(const xl_stair *stair, uint32_t n, exitlm_write write, void *user) {
    const areas a = areas_of(stair, n);
    uint8_t *tile = stair->run->work.act; /* free between passes, and 32 rows of it are a tile */
    bool good = n == 0 || write(user, stair->ids, n * sizeof *stair->ids);
    for (uint32_t i = 0; good && i < a.n; i++) {
        const uint8_t *area = area_at(stair, i);
        if (a.whole) good = write(user, area, a.whole);
        if (!good || !a.rest) continue;
        memcpy(tile, area + a.whole, a.rest);
        xl_kv_clear(stair->kv.type, i % 2 == 0, stair->run->model->config.head_dim, tile, a.used);
        good = write(user, tile, a.rest);
    }
    return good;
}

static bool read_area(xl_stair *stair, const areas *a, uint32_t i, exitlm_read read, void *user) {
    uint8_t *area = area_at(stair, i);
    return (!a->whole || read(user, area, a->whole)) &&
           (!a->rest || read(user, area + a->whole, a->rest));
}

exitlm_status xl_snapshot_read(xl_stair *stair, uint32_t n, exitlm_read read, void *user,
                               exitlm_error *error) {
    const areas a = areas_of(stair, n);
    xl_stair_truncate(stair, 0);
    if (n == 0) return EXITLM_OK;
    if (n <= stair->ctx && !read(user, stair->ids, n * sizeof *stair->ids))
        return xl_fail(error, EXITLM_BAD_MODEL, "a saved conversation that ends too early");
    exitlm_status status = xl_stair_append(stair, stair->ids, n, error);
    for (uint32_t i = 0; status == EXITLM_OK && i < a.n; i++) {
        if (!read_area(stair, &a, i, read, user))
            status = xl_fail(error, EXITLM_BAD_MODEL, "a saved conversation that ends too early");
        else if (!xl_kv_is_sane(stair->kv.type, stair->run->model->config.head_dim,
                                area_at(stair, i), (n + 7) / 8))
            status = xl_fail(error, EXITLM_BAD_MODEL,
                             "a saved conversation with numbers that no model computes");
    }
    if (status == EXITLM_OK) xl_stair_set_through(stair);
    return status;
}

exitlm_status xl_snapshot_copy(xl_stair *to, const xl_stair *from, uint32_t n,
                               exitlm_error *error) {
    const areas a = areas_of(from, n);
    xl_stair_truncate(to, 0);
    exitlm_status status = xl_stair_append(to, from->ids, n, error);
    if (status != EXITLM_OK) return status;
    for (uint32_t i = 0; i < a.n; i++) memcpy(area_at(to, i), area_at(from, i), a.whole + a.rest);
    xl_stair_set_through(to);
    return EXITLM_OK;
}

/* ---- In memory ---- */

struct xl_snapshot {
    size_t bytes; /* of everything */
    uint32_t n;
};

static bool put(void *user, const void *bytes, size_t n_bytes) {
    uint8_t **at = user;
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
    const areas a = areas_of(stair, stair->n);
    const size_t bytes =
        sizeof(xl_snapshot) + stair->n * sizeof *stair->ids + a.n * (a.whole + a.rest);
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
    return xl_snapshot_read(stair, snapshot->n, get, &at, error);
}

void xl_snapshot_free(xl_snapshot *snapshot) {
    if (snapshot) xl_free(&xl_libc_allocator, snapshot, 1, snapshot->bytes);
}
