#include "work.h"

#include "base/bytes.h"

static uint32_t widest_head(const exitlm_heads *heads, uint32_t dim) {
    uint32_t widest = dim;
    if (!heads) return widest;
    for (uint32_t i = 0; i < heads->n_heads; i++)
        widest = xl_max_u32(widest, heads->head[i].up.rows);
    return widest;
}

static void take_angles(xl_angles *angles, xl_arena *arena, uint32_t n_slots, uint32_t half) {
    angles->n_slots = n_slots;
    angles->cos = xl_arena_take2(arena, n_slots, half, sizeof(float));
    angles->sin = xl_arena_take2(arena, n_slots, half, sizeof(float));
    angles->of = xl_arena_take(arena, n_slots, sizeof *angles->of);
    angles->frequency = xl_arena_take(arena, half, sizeof *angles->frequency);
}

void xl_run_take(xl_run *run, xl_arena *arena, const exitlm_heads *heads, uint32_t ctx,
                 uint32_t n_angles, uint32_t threads) {
    const xl_config *c = &run->model->config;
    xl_work *w = &run->work;
    take_angles(&run->angles, arena, n_angles, c->rope_dims / 2);
    take_angles(&run->local_angles, arena, c->window ? n_angles : 0, c->rope_dims / 2);
    w->dim_stride = xl_whole_tiles(c->dim);
    w->q_stride = xl_whole_tiles(c->q_dim);
    w->kv_stride = xl_whole_tiles(c->kv_dim);
    w->ffn_stride = xl_whole_tiles(c->ffn_dim);
    uint32_t widest = xl_max_u32(xl_max_u32(c->dim, c->q_dim),
                                 xl_max_u32(c->ffn_dim, widest_head(heads, c->dim)));
    w->act_stride = xl_act_bytes(widest);
    w->norm = xl_arena_take2(arena, XL_CHUNK, w->dim_stride, sizeof(float));
    w->act = xl_arena_take(arena, XL_CHUNK, w->act_stride);
    w->residual_floats = xl_whole_tiles(widest);
    w->residual = xl_arena_take2(arena, threads, w->residual_floats, sizeof(float));
    w->scores_floats = xl_whole_tiles(xl_attend_scratch_floats(ctx)) + 16;
    w->scores = xl_arena_take2(arena, threads, w->scores_floats, sizeof(float));
    if (heads)
        w->ones = xl_arena_take(arena, xl_whole_tiles(widest_head(heads, c->dim)), sizeof(float));
}

void xl_run_take_sections(xl_run *run, xl_arena *arena) {
    xl_work *w = &run->work;
    const size_t rows = XL_CHUNK + XL_RESIDUAL_ROWS;
    w->q = xl_arena_take2(arena, rows, w->q_stride, sizeof(float));
    w->k = xl_arena_take2(arena, rows, w->kv_stride, sizeof(float));
    w->v = xl_arena_take2(arena, rows, w->kv_stride, sizeof(float));
    w->att = xl_arena_take2(arena, XL_CHUNK, w->q_stride, sizeof(float));
    w->out = xl_arena_take2(arena, rows, w->dim_stride, sizeof(float));
    w->gate = xl_arena_take2(arena, rows, w->ffn_stride, sizeof(float));
    w->up = xl_arena_take2(arena, rows, w->ffn_stride, sizeof(float));
}

void xl_norm_row(const xl_run *run, float *y, const float *x, const xl_norm *norm) {
    const xl_config *c = &run->model->config;
    if (norm->bias) run->kernels->layernorm(y, x, norm->weight, norm->bias, c->dim, c->norm_eps);
    else run->kernels->rmsnorm(y, x, norm->weight, c->dim, c->norm_eps);
}

void xl_run_fill(xl_run *run, const exitlm_heads *heads) {
    if (!heads) return;
    const size_t n = xl_whole_tiles(widest_head(heads, run->model->config.dim));
    for (size_t i = 0; i < n; i++) run->work.ones[i] = 1.0f;
}
