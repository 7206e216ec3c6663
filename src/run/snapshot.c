#include "snapshot.h"

#include <string.h>

struct xl_snapshot {
    size_t bytes, area_bytes; /* of everything; of one K or V area's prefix */
    uint32_t n, n_areas;
    /* then ids [n] padded to 64 bytes, then a K and a V area in turn */
};

static size_t head_bytes(uint32_t n) {
    return (sizeof(xl_snapshot) + n * sizeof(int32_t) + 63) / 64 * 64;
}

xl_snapshot *xl_snapshot_take(const xl_stair *stair) {
    const xl_config *c = &stair->run->model->config;
    const xl_kv *kv = &stair->kv;
    const uint32_t n_areas = c->n_layers * c->n_kv_heads, n = stair->n;
    const size_t area = xl_kv_bytes(kv->type, c->head_dim, n),
                 bytes = head_bytes(n) + 2 * n_areas * area;
    xl_snapshot *snapshot = xl_calloc(&xl_libc_allocator, 1, bytes);
    if (!snapshot) return NULL;
    *snapshot = (xl_snapshot){bytes, area, n, n_areas};
    memcpy(snapshot + 1, stair->ids, n * sizeof *stair->ids);
    uint8_t *at = (uint8_t *)snapshot + head_bytes(n);
    for (uint32_t i = 0; i < n_areas; i++, at += 2 * area) {
        memcpy(at, kv->k + i * kv->area_bytes, area);
        memcpy(at + area, kv->v + i * kv->area_bytes, area);
    }
    return snapshot;
}

exitlm_status xl_snapshot_restore(const xl_snapshot *snapshot, xl_stair *stair,
                                  exitlm_error *error) {
    const xl_config *c = &stair->run->model->config;
    const xl_kv *kv = &stair->kv;
    const uint32_t n = snapshot->n;
    const size_t area = snapshot->area_bytes;
    if (snapshot->n_areas != c->n_layers * c->n_kv_heads || n > stair->ctx ||
        area != xl_kv_bytes(kv->type, c->head_dim, n))
        return xl_fail(error, EXITLM_USAGE, "a snapshot of another kind of session");
    xl_stair_truncate(stair, 0);
    exitlm_status status = xl_stair_append(stair, (const int32_t *)(snapshot + 1), n, error);
    if (status != EXITLM_OK) return status;
    const uint8_t *at = (const uint8_t *)snapshot + head_bytes(n);
    for (uint32_t i = 0; i < snapshot->n_areas; i++, at += 2 * area) {
        memcpy(kv->k + i * kv->area_bytes, at, area);
        memcpy(kv->v + i * kv->area_bytes, at + area, area);
    }
    xl_stair_set_through(stair);
    return EXITLM_OK;
}

void xl_snapshot_free(xl_snapshot *snapshot) {
    if (snapshot) xl_free(&xl_libc_allocator, snapshot, 1, snapshot->bytes);
}
