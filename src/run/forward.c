/* One transformer layer for a batch of rows.
 *
 * A row is one position of one sequence. Nothing that a row computes depends on the rows beside it,
 * so a batch may be cut anywhere and rows of several sequences may share one. The work of a
 * layer is cut into sections, each spread over the threads. */
#include "forward.h"

#include "base/fmath.h"
#include "product.h"

/* ---- Attention ----------------------------------------------------------------- */

typedef struct attention {
    xl_run *run;
    const xl_row *rows;
    uint32_t layer, n;
} attention;

static void fill_frequencies(xl_run *run) {
    const xl_config *c = &run->model->config;
    run->angles.ready = true;
    for (uint32_t i = 0; i < c->rope_dims / 2; i++) {
        run->angles.frequency[i] = c->rope_scale / xl_pow(c->rope_base, 2.0 * i / c->rope_dims);
        if (run->model->rope_factors) run->angles.frequency[i] /= run->model->rope_factors[i];
    }
}

/* Slot of the position's angles in the tables, which hold as many positions as may wait: all
 * layers use them before others come. */
static size_t rope_slot(xl_run *run, uint32_t pos) {
    const size_t half = run->model->config.rope_dims / 2, slot = pos % run->angles.n_slots;
    if (run->angles.of[slot] == pos + 1) return slot;
    if (!run->angles.ready) fill_frequencies(run);
    run->angles.of[slot] = pos + 1;
    for (size_t i = 0; i < half; i++) {
        double sine, cosine;
        xl_sincos(pos * run->angles.frequency[i], &sine, &cosine);
        run->angles.cos[slot * half + i] = (float)cosine;
        run->angles.sin[slot * half + i] = (float)sine;
    }
    return slot;
}

static void norm_heads(const xl_run *run, float *x, const float *weight, uint32_t n_heads) {
    const xl_config *c = &run->model->config;
    for (uint32_t h = 0; h < n_heads; h++)
        run->kernels->rmsnorm(x + h * c->head_dim, x + h * c->head_dim, weight, c->head_dim,
                              c->norm_eps);
}

/* Q and K of each head through their norm (qwen3), then RoPE, for one row; then its K and V into
 * the cache. */
static void place_row(xl_run *run, uint32_t layer, const xl_row *row, float *q, float *k,
                      float *v) {
    const xl_config *c = &run->model->config;
    const xl_layer *l = &run->model->layers[layer];
    /* Rows of other sessions share these tables: same model, same angles. */
    const size_t angles = rope_slot(run, row->pos) * (c->rope_dims / 2);
    const float *cosines = run->angles.cos + angles, *sines = run->angles.sin + angles;
    if (q) {
        if (l->bq) run->kernels->add(q, l->bq, c->q_dim);
        if (l->q_norm) norm_heads(run, q, l->q_norm, c->n_heads);
        run->kernels->rope(q, cosines, sines, c->n_heads, c->head_dim, c->rope_dims, c->rope_style);
    }
    if (l->k_norm) norm_heads(run, k, l->k_norm, c->n_kv_heads);
    run->kernels->rope(k, cosines, sines, c->n_kv_heads, c->head_dim, c->rope_dims, c->rope_style);
    for (uint32_t h = 0; h < c->n_kv_heads; h++)
        run->kernels->store_kv[row->kv->type](xl_kv_area(row->kv->k, row->kv, c, layer, h),
                                              xl_kv_area(row->kv->v, row->kv, c, layer, h),
                                              row->pos, k + h * c->head_dim, v + h * c->head_dim,
                                              c->head_dim);
}

static void attention_part(void *arg, uint32_t part, uint32_t parts) {
    const attention *a = arg;
    xl_run *run = a->run;
    const xl_config *c = &run->model->config;
    uint32_t group = c->n_heads / c->n_kv_heads, jobs = a->n * c->n_kv_heads;
    float *scratch = run->work.scores + part * run->work.scores_floats;
    float scale = run->work.attention_scale;
    for (uint32_t job = part; job < jobs; job += parts) {
        const xl_row *row = &a->rows[job / c->n_kv_heads];
        uint32_t head = job % c->n_kv_heads;
        size_t at =
            (size_t)(job / c->n_kv_heads) * run->work.q_stride + (size_t)head * group * c->head_dim;
        run->kernels->attend[row->kv->type](run->work.att + at, run->work.q + at,
                                            xl_kv_area(row->kv->k, row->kv, c, a->layer, head),
                                            xl_kv_area(row->kv->v, row->kv, c, a->layer, head),
                                            row->pos + 1, c->head_dim, group, scale, scratch);
    }
}

/* ---- The layer ------------------------------------------------------------------- */

/* Which products take their inputs to 15 bits. With 8 everywhere, as in llama.cpp, 97.2 % of
 * SmolLM2's best tokens are those of float arithmetic. An error in q, k or v, and one shortly
 * before the end, counts most: from a third of the depth on in q, k, v and in the last tenth
 * everywhere gives 98.7 % (SPEED.md). */
static bool residual_qkv(const xl_config *c, uint32_t layer) { return layer >= c->n_layers / 3; }
static bool residual_all(const xl_config *c, uint32_t layer) {
    return layer + (c->n_layers + 9) / 10 >= c->n_layers;
}

void xl_forward_layer(xl_run *run, uint32_t layer, const xl_row *rows, uint32_t n) {
    const xl_config *c = &run->model->config;
    const xl_layer *l = &run->model->layers[layer];
    const xl_kernels *k = run->kernels;
    xl_work *w = &run->work;

    for (uint32_t r = 0; r < n; r++)
        k->rmsnorm(w->norm + r * w->dim_stride, rows[r].hidden, l->attn_norm, c->dim, c->norm_eps);
    xl_product qkv = {.run = run,
                      .w = {&l->wq, &l->wk, &l->wv},
                      .y = {w->q, w->k, w->v},
                      .y_stride = {w->q_stride, w->kv_stride, w->kv_stride},
                      .n_matrices = 3,
                      .x = w->norm,
                      .x_stride = w->dim_stride,
                      .n = n,
                      .residual = residual_qkv(c, layer)};
    xl_product_run(&qkv);
    for (uint32_t r = 0; r < n; r++) {
        if (l->bk) k->add(w->k + r * w->kv_stride, l->bk, c->kv_dim);
        if (l->bv) k->add(w->v + r * w->kv_stride, l->bv, c->kv_dim);
        place_row(run, layer, &rows[r], w->q + r * w->q_stride, w->k + r * w->kv_stride,
                  w->v + r * w->kv_stride);
    }
    attention a = {run, rows, layer, n};
    xl_pool_run(run->pool, attention_part, &a);
    xl_product out = {.run = run,
                      .w = {&l->wo},
                      .y = {w->out},
                      .y_stride = {w->dim_stride},
                      .n_matrices = 1,
                      .x = w->att,
                      .x_stride = w->q_stride,
                      .n = n,
                      .residual = residual_all(c, layer)};
    xl_product_run(&out);

    for (uint32_t r = 0; r < n; r++) {
        k->add(rows[r].hidden, w->out + r * w->dim_stride, c->dim);
        k->rmsnorm(w->norm + r * w->dim_stride, rows[r].hidden, l->ffn_norm, c->dim, c->norm_eps);
    }
    xl_product gate = {.run = run,
                       .w = {&l->w_gate, &l->w_up},
                       .y = {w->gate, w->up},
                       .y_stride = {w->ffn_stride, w->ffn_stride},
                       .n_matrices = 2,
                       .x = w->norm,
                       .x_stride = w->dim_stride,
                       .n = n,
                       .residual = residual_all(c, layer),
                       .gated = true};
    xl_product_run(&gate);
    xl_product down = {.run = run,
                       .w = {&l->w_down},
                       .y = {w->out},
                       .y_stride = {w->dim_stride},
                       .n_matrices = 1,
                       .x = w->gate,
                       .x_stride = w->ffn_stride,
                       .n = n,
                       .residual = residual_all(c, layer)};
    xl_product_run(&down);
    for (uint32_t r = 0; r < n; r++) k->add(rows[r].hidden, w->out + r * w->dim_stride, c->dim);
}

void xl_forward_kv(xl_run *run, uint32_t layer, const xl_row *rows, uint32_t n) {
    const xl_config *c = &run->model->config;
    const xl_layer *l = &run->model->layers[layer];
    xl_work *w = &run->work;
    for (uint32_t r = 0; r < n; r++)
        run->kernels->rmsnorm(w->norm + r * w->dim_stride, rows[r].hidden, l->attn_norm, c->dim,
                              c->norm_eps);
    xl_product kv = {.run = run,
                     .w = {&l->wk, &l->wv},
                     .y = {w->k, w->v},
                     .y_stride = {w->kv_stride, w->kv_stride},
                     .n_matrices = 2,
                     .x = w->norm,
                     .x_stride = w->dim_stride,
                     .n = n,
                     .residual = residual_qkv(c, layer)};
    xl_product_run(&kv);
    for (uint32_t r = 0; r < n; r++) {
        float *k = w->k + r * w->kv_stride, *v = w->v + r * w->kv_stride;
        if (l->bk) run->kernels->add(k, l->bk, c->kv_dim);
        if (l->bv) run->kernels->add(v, l->bv, c->kv_dim);
        place_row(run, layer, &rows[r], NULL, k, v);
    }
}

void xl_forward_skipped(xl_run *run, uint32_t layer, const xl_row *row, const xl_head *head) {
    const xl_config *c = &run->model->config;
    const xl_layer *l = &run->model->layers[layer];
    xl_work *w = &run->work;
    const uint32_t i = head ? layer - head->layer : 0;
    run->kernels->rmsnorm(w->norm, row->hidden, head ? w->ones : l->attn_norm, c->dim, c->norm_eps);
    xl_product kv = {.run = run,
                     .w = {head ? &head->map_k[i] : &l->wk, head ? &head->map_v[i] : &l->wv},
                     .y = {w->k, w->v},
                     .y_stride = {w->kv_stride, w->kv_stride},
                     .n_matrices = 2,
                     .x = w->norm,
                     .x_stride = w->dim_stride,
                     .n = 1};
    xl_product_run(&kv);
    const float *bk = head ? head->map_k_bias[i] : l->bk, *bv = head ? head->map_v_bias[i] : l->bv;
    if (bk) run->kernels->add(w->k, bk, c->kv_dim);
    if (bv) run->kernels->add(w->v, bv, c->kv_dim);
    place_row(run, layer, row, NULL, w->k, w->v);
}
