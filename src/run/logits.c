#include "logits.h"

#include <string.h>

/* Row 0, then either the further rows of a verification or, in the same memory, what a layer needs
 * while it is run. Of the default model that saves 1 MB, which an edge worker has not. */
void xl_logits_take(xl_logits *logits, xl_arena *arena, xl_stair *stair, size_t scratch_floats) {
    xl_run *run = stair->run;
    xl_arena first = {0}, sections = {0};
    size_t rows_bytes = 0;
    logits->stair = stair;
    logits->stride = xl_whole_tiles(run->model->config.vocab);
    xl_arena_take(&first, logits->stride, sizeof(float));
    xl_run_take_sections(run, &sections);
    if (!xl_size_add(&rows_bytes, logits->stride * XL_MAX_VERIFY, sizeof(float)) ||
        sections.overflow || !xl_size_add(&sections.used_bytes, first.used_bytes, 1))
        arena->overflow = true;
    uint8_t *memory = xl_arena_take(
        arena, rows_bytes > sections.used_bytes ? rows_bytes : sections.used_bytes, 1);
    logits->row = (float *)memory;
    if (memory) {
        sections = (xl_arena){
            .base = memory, .used_bytes = first.used_bytes, .capacity_bytes = sections.used_bytes};
        xl_run_take_sections(run, &sections);
    }
    logits->by_id = xl_arena_take(
        arena, logits->stride > scratch_floats ? logits->stride : scratch_floats, sizeof(float));
}

/* Where the choice is made, quantised inputs are not exact enough: rows whose logit is less than 1
 * below the best get the product of what quantising the input left. x [dim] is the input of
 * logits [vocab]. */
static void refine(xl_logits *l, float *logits, const float *x) {
    xl_run *run = l->stair->run;
    const xl_matrix *w = &run->model->output;
    if (!xl_type_is_quantized(w->type)) return;
    run->kernels->quantize(run->work.act, run->work.residual, x, w->cols);
    run->kernels->quantize(run->work.act, NULL, run->work.residual, w->cols);
    float least = logits[run->kernels->argmax(logits, w->rows)] - 1.0f;
    for (uint32_t row = 0; row < w->rows; row += 8) {
        uint32_t rows = w->rows - row < 8 ? w->rows - row : 8;
        bool close = false;
        for (uint32_t i = 0; i < rows; i++) close |= logits[row + i] >= least;
        if (!close) continue;
        run->kernels->matmul[w->type](l->by_id, 0, w->data, w->cols, row, rows, run->work.act,
                                      run->work.act_stride, 1);
        for (uint32_t i = 0; i < rows; i++)
            if (logits[row + i] >= least) logits[row + i] += l->by_id[row + i];
    }
}

static void add_bias(const exitlm_model *m, float *slots) {
    for (uint32_t i = 0; i < m->config.vocab; i++) slots[i] += m->output_bias[xl_id(m, i)];
}

void xl_logits_of(xl_logits *logits, const float *x, uint32_t n, uint32_t row0) {
    xl_run *run = logits->stair->run;
    xl_matmul_rows(run, logits->row, logits->stride, &run->model->output, row0,
                   run->model->config.vocab - row0, x, n);
    for (uint32_t r = 0; r < n; r++) {
        float *row = xl_logits_row(logits, r);
        refine(logits, row, x + r * run->work.dim_stride);
        if (run->model->output_bias) add_bias(run->model, row);
    }
}

void xl_logits_inputs(const xl_logits *logits, uint32_t pos, uint32_t n, float *x) {
    const xl_run *run = logits->stair->run;
    for (uint32_t r = 0; r < n; r++)
        xl_norm_row(run, x + r * run->work.dim_stride, xl_hidden(logits->stair, pos + r),
                    &run->model->output_norm);
}

exitlm_status xl_logits_compute(xl_logits *logits, uint32_t pos, uint32_t n, uint32_t row0,
                                exitlm_error *error) {
    xl_run *run = logits->stair->run;
    const exitlm_model *m = run->model;
    if (!xl_output_complete(m)) {
        logits->stair->need_layer = -2;
        logits->stair->need_row = -1;
        return xl_fail(error, EXITLM_WAIT,
                       "the output matrix has not arrived in full: %u of %u rows are there",
                       (unsigned)m->output_rows_ready_count, (unsigned)m->config.vocab);
    }
    if (logits->wanted.ready) {
        logits->wanted.ready = false;
        run->macs += (uint64_t)(m->config.vocab - row0) * m->config.dim * n;
        return EXITLM_OK;
    }
    if (logits->stair->deferred) {
        logits->wanted.pos = pos;
        logits->wanted.n = n;
        logits->wanted.row0 = row0;
        return EXITLM_WAIT;
    }
    xl_logits_inputs(logits, pos, n, run->work.norm);
    xl_logits_of(logits, run->work.norm, n, row0);
    return EXITLM_OK;
}

void xl_logits_by_id(const xl_logits *logits, const float *slots, float *out) {
    const exitlm_model *m = logits->stair->run->model;
    if (!m->id_of) {
        memcpy(out, slots, m->config.vocab * sizeof(float));
        return;
    }
    for (uint32_t i = 0; i < m->config.vocab; i++) out[m->id_of[i]] = slots[i];
}

int32_t xl_logits_argmax(const xl_logits *logits, const float *slots) {
    const exitlm_model *m = logits->stair->run->model;
    uint32_t best = (uint32_t)logits->stair->run->kernels->argmax(slots, m->config.vocab),
             id = xl_id(m, best);
    if (!m->id_of) return (int32_t)id;
    /* The kernel takes the lowest slot of a tie; the rule is the lowest id. */
    for (uint32_t i = best + 1; i < m->config.vocab; i++)
        if (slots[i] == slots[best] && m->id_of[i] < id) id = m->id_of[i];
    return (int32_t)id;
}
