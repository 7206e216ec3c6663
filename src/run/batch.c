#include "batch.h"

#include <string.h>

/* ---- Layers ---- */

/* The slice that a sequence has next; n 0: it has what it asked for, or has to wait for weights. */
static xl_slice next_slice(xl_stair *stair) {
    xl_slice slice = {0};
    if (stair->wanted &&
        (xl_stair_next(stair, stair->wanted, &slice, NULL) != EXITLM_OK || !slice.n))
        stair->wanted = 0;
    return slice;
}

static bool is_before(const xl_slice *a, const xl_slice *b) {
    return a->layer < b->layer || (a->layer == b->layer && a->kv_only && !b->kv_only);
}

/* One pass: the lowest layer that is wanted, for as many slices as fit. False: there is none. */
static bool run_pass(xl_logits *const *sequences, uint32_t n) {
    xl_slice slices[XL_CHUNK], first = {0};
    xl_row rows[XL_CHUNK];
    uint32_t n_rows = 0;
    for (uint32_t i = 0; i < n; i++) {
        slices[i] = next_slice(sequences[i]->stair);
        if (slices[i].n && (!first.n || is_before(&slices[i], &first))) first = slices[i];
    }
    if (!first.n) return false;
    for (uint32_t i = 0; i < n; i++) {
        xl_slice *slice = &slices[i];
        if (slice->layer != first.layer || slice->kv_only != first.kv_only ||
            n_rows + slice->n > XL_CHUNK)
            slice->n = 0;
        xl_stair_rows(sequences[i]->stair, slice, rows + n_rows);
        n_rows += slice->n;
    }
    xl_run *run = sequences[0]->stair->run;
    const uint64_t before = run->macs;
    if (first.kv_only) xl_forward_kv(run, first.layer, rows, n_rows);
    else xl_forward_layer(run, first.layer, rows, n_rows);
    const uint64_t row_macs = (run->macs - before) / n_rows;
    run->macs = before;
    for (uint32_t i = 0; i < n; i++) {
        xl_stair *stair = sequences[i]->stair;
        if (!slices[i].n) continue;
        stair->run->macs += row_macs * slices[i].n;
        xl_stair_passed(stair, &slices[i], row_macs * slices[i].n);
    }
    return true;
}

/* ---- Logits ---- */

/* Sequences [first, end), of which the first wants rows, and has room for those of all. */
static void run_logits(xl_logits *const *sequences, uint32_t first, uint32_t end) {
    xl_logits all = *sequences[0]; /* the lead's scratch and threads; its rows are its own */
    all.row = sequences[first]->row;
    xl_run *run = all.stair->run;
    const uint64_t before = run->macs;
    uint32_t n = 0, row0 = UINT32_MAX;
    for (uint32_t i = first; i < end; i++)
        if (sequences[i]->wanted.n && sequences[i]->wanted.row0 < row0)
            row0 = sequences[i]->wanted.row0;
    for (uint32_t i = first; i < end; i++) {
        const xl_logits *of = sequences[i];
        xl_logits_inputs(of, of->wanted.pos, of->wanted.n,
                         run->work.norm + n * run->work.dim_stride);
        for (uint32_t r = 0; r < of->wanted.n; r++, n++) /* what an exit has scored already */
            if (i > first)
                memcpy(xl_logits_row(&all, n), xl_logits_row(of, r), row0 * sizeof(float));
    }
    xl_logits_of(&all, run->work.norm, n, row0);
    run->macs = before;
    n = 0;
    for (uint32_t i = first; i < end; i++) {
        xl_logits *to = sequences[i];
        for (uint32_t r = 0; r < to->wanted.n; r++, n++)
            if (i > first)
                memcpy(xl_logits_row(to, r), xl_logits_row(&all, n), all.stride * sizeof(float));
        to->wanted.ready = to->wanted.n > 0;
        to->wanted.n = 0;
    }
}

static void run_all_logits(xl_logits *const *sequences, uint32_t n) {
    for (uint32_t first = 0, end; first < n; first = end) {
        uint32_t rows = 0;
        for (end = first; end < n && rows + sequences[end]->wanted.n <= XL_MAX_VERIFY; end++)
            rows += sequences[end]->wanted.n;
        while (first < end && !sequences[first]->wanted.n) first++;
        if (first < end) run_logits(sequences, first, end);
    }
}

/* ---- Together ---- */

void xl_batch_run(xl_logits *const *sequences, uint32_t n) {
    while (run_pass(sequences, n)) {
        bool served = false;
        for (uint32_t i = 0; i < n; i++) {
            xl_stair *stair = sequences[i]->stair;
            if (!stair->wanted || stair->depth[stair->n - 1] < stair->wanted) continue;
            stair->wanted = 0;
            served = true;
        }
        if (served) return;
    }
    run_all_logits(sequences, n);
}

exitlm_status xl_batch_advance(xl_logits *const *sequences, uint32_t n, exitlm_error *error) {
    if (n == 0 || n > XL_CHUNK)
        return xl_fail(error, EXITLM_USAGE, "%u sequences together: 1 to %d are possible",
                       (unsigned)n, XL_CHUNK);
    const xl_stair *lead = sequences[0]->stair;
    const exitlm_model *m = lead->run->model;
    if (!m->complete)
        return xl_stair_wait(sequences[0]->stair, (int32_t)m->layers_ready, -1, error);
    for (uint32_t i = 0; i < n; i++) {
        xl_stair *stair = sequences[i]->stair;
        if (stair->run->model != m || stair->n == 0 || stair->ctx > lead->ctx)
            return xl_fail(
                error, EXITLM_USAGE,
                "sequence %u of %u has nothing to run, or a larger context than the first",
                (unsigned)i, (unsigned)n);
        stair->wanted = m->config.n_layers;
    }
    while (run_pass(sequences, n)) {
    }
    for (uint32_t i = 0; i < n; i++) {
        sequences[i]->wanted.pos = sequences[i]->stair->n - 1;
        sequences[i]->wanted.n = 1;
        sequences[i]->wanted.row0 = 0;
    }
    run_all_logits(sequences, n);
    for (uint32_t i = 0; i < n; i++) sequences[i]->wanted.ready = false;
    return EXITLM_OK;
}
