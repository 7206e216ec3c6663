/* All that changes a position's depth. */
#include "stair.h"

#include <assert.h>

#include "base/bytes.h"

void xl_stair_take(xl_stair *stair, xl_arena *arena, xl_run *run, uint32_t ctx,
                   xl_kv_type kv_type) {
    stair->run = run;
    stair->ctx = ctx;
    stair->n_waiting = xl_min_u32(ctx, XL_WAITING);
    stair->ids = xl_arena_take(arena, ctx, sizeof *stair->ids);
    stair->depth = xl_arena_take(arena, ctx, sizeof *stair->depth);
    stair->made = xl_arena_take(arena, ctx, sizeof *stair->made);
    xl_kv_take(&stair->kv, arena, run->model, ctx, kv_type);
    stair->hidden = xl_arena_take2(arena, stair->n_waiting, run->work.dim_stride, sizeof(float));
}

bool xl_stair_check(const xl_stair *stair) {
    const uint32_t layers = stair->run->model->config.n_layers;
    for (uint32_t p = 0; p < stair->n; p++) {
        if (stair->depth[p] > layers || (p > 0 && stair->depth[p] > stair->depth[p - 1]))
            return false;
        if (p < stair->through && stair->depth[p] != layers) return false;
        if (p >= stair->embedded && stair->depth[p] != 0) return false;
    }
    return stair->through <= stair->embedded && stair->embedded <= stair->n &&
           stair->n <= stair->ctx;
}

exitlm_status xl_stair_wait(xl_stair *stair, int32_t layer, int32_t row, exitlm_error *error) {
    stair->need_layer = layer;
    stair->need_row = row;
    if (layer >= 0) return xl_fail(error, EXITLM_WAIT, "layer %d has not arrived yet", (int)layer);
    return xl_fail(error, EXITLM_WAIT, "the embedding of token %d has not arrived yet", (int)row);
}

exitlm_status xl_stair_check_ids(const xl_stair *stair, const int32_t *ids, size_t n,
                                 exitlm_error *error) {
    const uint32_t vocab = stair->run->model->config.vocab;
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= vocab)
            return xl_fail(error, EXITLM_USAGE,
                           "token id %ld at index %zu is outside the vocabulary of %u",
                           (long)ids[i], i, (unsigned)vocab);
    return EXITLM_OK;
}

static void hold(xl_stair *stair, const int32_t *ids, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        stair->ids[stair->n + i] = ids[i];
        stair->depth[stair->n + i] = 0;
        stair->made[stair->n + i] = XL_MADE_EXACT;
    }
    stair->n += n;
}

exitlm_status xl_stair_append(xl_stair *stair, const int32_t *ids, size_t n, exitlm_error *error) {
    if (n > stair->ctx - stair->n)
        return xl_fail(error, EXITLM_CONTEXT_FULL,
                       "%zu tokens after %u do not fit a context of %u: shorten the prompt or ask "
                       "for a larger context",
                       n, (unsigned)stair->n, (unsigned)stair->ctx);
    exitlm_status status = xl_stair_check_ids(stair, ids, n, error);
    if (status != EXITLM_OK) return status;
    if (n > 0 && !xl_kv_own(&stair->kv, stair->n))
        return xl_fail(error, EXITLM_OUT_OF_MEMORY,
                       "no memory to go on from token %u: clones of this conversation read what "
                       "stands there; free one of them, or another session",
                       (unsigned)stair->n);
    hold(stair, ids, (uint32_t)n);
    return EXITLM_OK;
}

bool xl_stair_in_window(const xl_stair *stair, uint32_t pos) {
    const uint32_t window = stair->run->model->config.window, slots = stair->kv.ring_slots;
    return window == 0 || stair->stored <= slots || pos + 1 >= window + (stair->stored - slots);
}

uint32_t xl_stair_truncate(xl_stair *stair, uint32_t n) {
    uint32_t first = xl_min_u32(n, stair->n);
    while (first > 0 && stair->depth[first - 1] < stair->run->model->config.n_layers) first--;
    if (!xl_stair_in_window(stair, first)) n = 0;
    if (n == 0) stair->stored = 0;
    if (n >= stair->n) return stair->n;
    stair->n = n;
    stair->embedded = xl_min_u32(stair->embedded, n);
    stair->through = xl_min_u32(stair->through, n);
    stair->kv_only_until = xl_min_u32(stair->kv_only_until, n);
    stair->unseen_from = xl_min_u32(stair->unseen_from, n);
    assert(xl_stair_check(stair));
    return n;
}

/* Starts the hidden states of all positions, or of as many as may wait at a time. */
static exitlm_status embed(xl_stair *stair, exitlm_error *error) {
    const exitlm_model *m = stair->run->model;
    while (stair->through < stair->n && stair->depth[stair->through] == m->config.n_layers)
        stair->through++;
    const uint32_t end = xl_min_u32(stair->n, stair->through + stair->n_waiting);
    for (; stair->embedded < end; stair->embedded++) {
        int32_t id = stair->ids[stair->embedded];
        if (!m->row_ready[id]) return xl_stair_wait(stair, -1, id, error);
        float *hidden = xl_hidden(stair, stair->embedded);
        xl_dequant_row(m->embedding.type, m->embedding.data, m->embedding.cols,
                       xl_slot(m, (uint32_t)id), hidden);
        if (m->config.embedding_scale != 1)
            for (uint32_t i = 0; i < m->config.dim; i++) hidden[i] *= m->config.embedding_scale;
    }
    return EXITLM_OK;
}

/* Positions from `start` on, at most one chunk of them: those that lie side by side in the ring
 * and go the same way through the layer. */
static uint32_t rows_of_slice(const xl_stair *stair, uint32_t start, uint32_t end, bool kv_only) {
    uint32_t n =
        xl_min_u32(xl_min_u32(end - start, XL_CHUNK), stair->n_waiting - start % stair->n_waiting);
    return kv_only ? xl_min_u32(n, stair->kv_only_until - start) : n;
}

exitlm_status xl_stair_next(xl_stair *stair, uint32_t to, xl_slice *slice, exitlm_error *error) {
    const exitlm_model *m = stair->run->model;
    *slice = (xl_slice){0};
    exitlm_status status = embed(stair, error);
    if (status != EXITLM_OK || stair->n == 0 || stair->depth[stair->n - 1] >= to) return status;
    /* Where more wait than there is room for, those that have begun go through all layers first. */
    const uint32_t end = stair->embedded, layer = stair->depth[end - 1];
    uint32_t start = end;
    if (!m->base_ready || m->layers_ready <= layer)
        return xl_stair_wait(stair, (int32_t)layer, -1, error);
    while (start > 0 && stair->depth[start - 1] <= layer) start--;
    const bool kv_only = layer + 1 == m->config.n_layers && start < stair->kv_only_until;
    *slice = (xl_slice){layer, start, rows_of_slice(stair, start, end, kv_only), kv_only};
    return EXITLM_OK;
}

void xl_stair_rows(xl_stair *stair, const xl_slice *slice, xl_row *rows) {
    for (uint32_t r = 0; r < slice->n; r++)
        rows[r] = (xl_row){&stair->kv, slice->start + r, xl_hidden(stair, slice->start + r)};
}

void xl_stair_passed(xl_stair *stair, const xl_slice *slice, uint64_t macs) {
    stair->stored = xl_max_u32(stair->stored, slice->start + slice->n);
    for (uint32_t r = 0; r < slice->n; r++) {
        stair->depth[slice->start + r] = (uint16_t)(slice->layer + 1);
        if (slice->start + r < stair->prefix) stair->prefix_macs += macs / slice->n;
    }
    assert(xl_stair_check(stair));
    if (stair->on_layer)
        stair->on_layer(stair->on_layer_user, slice->layer + 1, slice->start, slice->n,
                        xl_hidden(stair, slice->start));
}

exitlm_status xl_stair_advance_slice(xl_stair *stair, uint32_t to, bool *done,
                                     exitlm_error *error) {
    xl_run *run = stair->run;
    xl_slice slice;
    exitlm_status status = xl_stair_next(stair, to, &slice, error);
    *done = status == EXITLM_OK && slice.n == 0;
    if (status != EXITLM_OK || *done) return status;
    if (stair->deferred) {
        stair->wanted = to;
        return EXITLM_WAIT;
    }
    const uint64_t before = run->macs;
    xl_row rows[XL_CHUNK];
    xl_stair_rows(stair, &slice, rows);
    if (slice.kv_only) xl_forward_kv(run, slice.layer, rows, slice.n);
    else xl_forward_layer(run, slice.layer, rows, slice.n);
    xl_stair_passed(stair, &slice, run->macs - before);
    *done = stair->depth[stair->n - 1] >= to;
    return EXITLM_OK;
}

exitlm_status xl_stair_advance(xl_stair *stair, uint32_t to, exitlm_error *error) {
    bool done = false;
    exitlm_status status = EXITLM_OK;
    while (!done && status == EXITLM_OK) status = xl_stair_advance_slice(stair, to, &done, error);
    return status;
}

void xl_stair_set_through(xl_stair *stair) {
    for (uint32_t p = stair->through; p < stair->n; p++)
        stair->depth[p] = (uint16_t)stair->run->model->config.n_layers;
    stair->embedded = stair->n;
    const uint32_t window = stair->run->model->config.window, slots = stair->kv.ring_slots;
    stair->stored = stair->n;
    if (window && stair->n > window) stair->stored = stair->n + 1 + slots - window;
    assert(xl_stair_check(stair));
}

exitlm_status xl_stair_share(xl_stair *to, const xl_stair *from, uint32_t n, exitlm_error *error) {
    xl_stair_truncate(to, 0);
    if (!xl_kv_share(&to->kv, &from->kv, n))
        return xl_fail(error, EXITLM_OUT_OF_MEMORY,
                       "no memory for a clone to go on from token %u: free another session",
                       (unsigned)n);
    hold(to, from->ids, n);
    xl_stair_set_through(to);
    return EXITLM_OK;
}

/* ---- K/V of skipped layers ---- */

static void make_skipped(xl_stair *stair, uint32_t pos, const xl_head *maps) {
    const uint32_t n_layers = stair->run->model->config.n_layers;
    const xl_row row = {&stair->kv, pos, xl_hidden(stair, pos)};
    for (uint32_t layer = stair->depth[pos]; layer < n_layers; layer++)
        xl_forward_skipped(stair->run, layer, &row, maps);
    stair->depth[pos] = (uint16_t)n_layers;
    stair->stored = xl_max_u32(stair->stored, pos + 1);
    stair->made[pos] = maps ? XL_MADE_MAPS : XL_MADE_PROPAGATE;
}

exitlm_status xl_stair_exit(xl_stair *stair, const exitlm_heads *heads, uint32_t pos, uint32_t head,
                            exitlm_kv_policy policy, exitlm_error *error) {
    const exitlm_model *m = stair->run->model;
    const bool maps = policy == EXITLM_POLICY_MAPS;
    if (policy == EXITLM_POLICY_EXACT || stair->depth[pos] == m->config.n_layers) return EXITLM_OK;
    if (maps && head != xl_heads_mapping(heads)) return EXITLM_OK;
    if (m->layers_ready < m->config.n_layers)
        return xl_stair_wait(stair, (int32_t)m->layers_ready, -1, error);
    uint32_t first = pos;
    while (first > 0 && stair->depth[first - 1] < m->config.n_layers) first--;
    for (; first <= pos; first++) make_skipped(stair, first, maps ? &heads->head[head] : NULL);
    assert(xl_stair_check(stair));
    return EXITLM_OK;
}

void xl_stair_map_waiting(xl_stair *stair, const exitlm_heads *heads, uint32_t head) {
    const exitlm_model *m = stair->run->model;
    if (head != xl_heads_mapping(heads) || m->layers_ready < m->config.n_layers) return;
    const uint32_t last = stair->n - 1, layer = heads->head[head].layer;
    uint32_t first = last;
    while (first > 0 && stair->depth[first - 1] == layer) first--;
    if (first > 0 && stair->depth[first - 1] < m->config.n_layers) return; /* it goes first */
    for (; first < last; first++) make_skipped(stair, first, &heads->head[head]);
    assert(xl_stair_check(stair));
}
