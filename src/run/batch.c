#include "batch.h"

#include <string.h>

static exitlm_status row_of(xl_logits *sequence, const xl_logits *lead, uint32_t index, uint32_t n,
                            xl_row *row, exitlm_error *error) {
    xl_stair *stair = sequence->stair;
    const exitlm_model *m = lead->stair->run->model;
    if (stair->run->model != m || stair->n == 0 || stair->depth[stair->n - 1] != 0 ||
        (stair->n > 1 && stair->depth[stair->n - 2] != m->config.n_layers))
        return xl_fail(error, EXITLM_USAGE, "sequence %u of %u has not exactly one position to run",
                       (unsigned)index, (unsigned)n);
    if (stair->ctx > lead->stair->ctx)
        return xl_fail(error, EXITLM_USAGE, "sequence %u of %u has a larger context than the first",
                       (unsigned)index, (unsigned)n);
    exitlm_status status = xl_stair_embed(stair, error);
    if (status == EXITLM_OK)
        *row = (xl_row){&stair->kv, stair->n - 1, xl_hidden(stair, stair->n - 1)};
    return status;
}

/* The lead's logits hold a group at a time. Its own row is in the first group, which therefore
 * comes last. */
static void give_logits(xl_logits *const *sequences, uint32_t n) {
    xl_logits *lead = sequences[0];
    const xl_work *work = &lead->stair->run->work;
    const size_t bytes = lead->stair->run->model->config.vocab * sizeof(float);
    for (uint32_t first = (n - 1) / XL_MAX_VERIFY * XL_MAX_VERIFY;; first -= XL_MAX_VERIFY) {
        uint32_t group = n - first < XL_MAX_VERIFY ? n - first : XL_MAX_VERIFY;
        xl_logits_of(lead, work->norm + first * work->dim_stride, group, 0);
        for (uint32_t g = first ? 0 : 1; g < group; g++)
            memcpy(sequences[first + g]->row, xl_logits_row(lead, g), bytes);
        if (first == 0) return;
    }
}

exitlm_status xl_batch_advance(xl_logits *const *sequences, uint32_t n, exitlm_error *error) {
    if (n == 0 || n > XL_CHUNK)
        return xl_fail(error, EXITLM_USAGE, "%u sequences together: 1 to %d are possible",
                       (unsigned)n, XL_CHUNK);
    xl_logits *lead = sequences[0];
    xl_run *run = lead->stair->run;
    const exitlm_model *m = run->model;
    if (!m->complete) return xl_stair_wait(lead->stair, (int32_t)m->layers_ready, -1, error);
    xl_row rows[XL_CHUNK] = {{0}};
    for (uint32_t r = 0; r < n; r++) {
        exitlm_status status = row_of(sequences[r], lead, r, n, &rows[r], error);
        if (status != EXITLM_OK) return status;
    }
    for (uint32_t layer = 0; layer < m->config.n_layers; layer++) {
        xl_forward_layer(run, layer, rows, n);
        for (uint32_t r = 0; r < n; r++) {
            const xl_stair *stair = sequences[r]->stair;
            if (stair->on_layer)
                stair->on_layer(stair->on_layer_user, layer + 1, rows[r].pos, 1, rows[r].hidden);
        }
    }
    for (uint32_t r = 0; r < n; r++) {
        xl_stair_set_through(sequences[r]->stair);
        run->kernels->rmsnorm(run->work.norm + r * run->work.dim_stride, rows[r].hidden,
                              m->output_norm, m->config.dim, m->config.norm_eps);
    }
    give_logits(sequences, n);
    return EXITLM_OK;
}
