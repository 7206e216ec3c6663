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

static void fill_frequencies(const exitlm_model *m, xl_angles *angles, bool local) {
    const xl_config *c = &m->config;
    angles->ready = true;
    for (uint32_t i = 0; i < c->rope_dims / 2; i++) {
        angles->frequency[i] =
            (local ? 1 : c->rope_scale) /
            xl_pow(local ? c->local_rope_base : c->rope_base, 2.0 * i / c->rope_dims);
        if (m->rope_factors && !local) angles->frequency[i] /= m->rope_factors[i];
    }
}

/* Slot of the position's angles in the tables, which hold as many positions as may wait: all
 * layers use them before others come. */
static size_t rope_slot(const exitlm_model *m, xl_angles *angles, bool local, uint32_t pos) {
    const size_t half = m->config.rope_dims / 2, slot = pos % angles->n_slots;
    if (angles->of[slot] == pos + 1) return slot;
    if (!angles->ready) fill_frequencies(m, angles, local);
    angles->of[slot] = pos + 1;
    for (size_t i = 0; i < half; i++) {
        double sine, cosine;
        xl_sincos(pos * angles->frequency[i], &sine, &cosine);
        angles->cos[slot * half + i] = (float)cosine;
        angles->sin[slot * half + i] = (float)sine;
    }
    return slot;
}

/* The layer's rotation of the heads of x at a position. */
static void rotate(xl_run *run, uint32_t layer, uint32_t pos, float *x, uint32_t n_heads) {
    const xl_config *c = &run->model->config;
    if (c->rope_period && (layer + 1) % c->rope_period == 0) return;
    /* Rows of other sessions share these tables: same model, same angles. */
    const bool local = xl_layer_is_local(c, layer);
    xl_angles *angles = local ? &run->local_angles : &run->angles;
    const size_t at = rope_slot(run->model, angles, local, pos) * (c->rope_dims / 2);
    run->kernels->rope(x, angles->cos + at, angles->sin + at, n_heads, c->head_dim, c->rope_dims,
                       c->rope_style);
}

static void norm_heads(const xl_run *run, float *x, const float *weight, uint32_t n_heads) {
    const xl_config *c = &run->model->config;
    for (uint32_t h = 0; h < n_heads; h++)
        run->kernels->rmsnorm(x + h * c->head_dim, x + h * c->head_dim, weight, c->head_dim,
                              c->norm_eps);
}

/* Q and K of each head through their norm, then RoPE, for one row; then its K and V into the
 * cache. */
static void place_row(xl_run *run, uint32_t layer, const xl_row *row, float *q, float *k,
                      float *v) {
    const xl_config *c = &run->model->config;
    const xl_layer *l = &run->model->layers[layer];
    const xl_kv *kv = row->kv;
    if (q) {
        if (l->q_norm) norm_heads(run, q, l->q_norm, c->n_heads);
        rotate(run, layer, row->pos, q, c->n_heads);
    }
    if (l->k_norm) norm_heads(run, k, l->k_norm, c->n_kv_heads);
    rotate(run, layer, row->pos, k, c->n_kv_heads);
    for (uint32_t h = 0, tiles; h < c->n_kv_heads; h++)
        run->kernels->store_kv[kv->type](xl_kv_tile(kv, layer, h, false, row->pos, &tiles),
                                         xl_kv_tile(kv, layer, h, true, row->pos, &tiles),
                                         row->pos % 8, k + h * c->head_dim, v + h * c->head_dim,
                                         c->head_dim);
}

/* Rows from `at` on that are consecutive positions of one sequence, at most ATTENTION_ROWS: they
 * read K and V together. */
enum { ATTENTION_ROWS = 8 };
static uint32_t consecutive(const attention *a, uint32_t at) {
    uint32_t n = 1;
    const xl_row *row = &a->rows[at];
    while (n < ATTENTION_ROWS && at + n < a->n && row[n].kv == row->kv &&
           row[n].pos == row->pos + n)
        n++;
    return n;
}

static void attention_part(void *arg, uint32_t part, uint32_t parts) {
    const attention *a = arg;
    xl_run *run = a->run;
    const xl_config *c = &run->model->config;
    const uint32_t group = c->n_heads / c->n_kv_heads;
    float *scratch = run->work.scores + part * run->work.scores_floats;
    uint32_t job = 0;
    for (uint32_t at = 0, n; at < a->n; at += n) {
        const xl_row *row = &a->rows[at];
        n = consecutive(a, at);
        const xl_reach span = {.end = row->pos + 1,
                               .window = xl_layer_is_local(c, a->layer) ? c->window : 0};
        for (uint32_t head = 0; head < c->n_kv_heads; head++, job++) {
            if (job % parts != part) continue;
            xl_stretch cache[XL_KV_STRETCHES];
            xl_kv_stretches(row->kv, a->layer, head, (uint32_t)xl_reach_first(span, 0),
                            row->pos + n, cache);
            const size_t q = at * run->work.q_stride + (size_t)head * group * c->head_dim;
            run->kernels->attend[row->kv->type](run->work.att + q, run->work.q + q,
                                                run->work.q_stride, n, cache, span, c->head_dim,
                                                group, c->attention_scale, scratch);
        }
    }
}

/* ---- The layer ------------------------------------------------------------------- */

/* Which products take their inputs to 15 bits. With 8 everywhere, as in llama.cpp, 97.2 % of
 * SmolLM2's best tokens are those of float arithmetic. An error in q, k or v, and one shortly
 * before the end, counts most: from a third of the depth on in q, k, v and in the last tenth
 * everywhere gives 98.7 % (SPEED.md). Where the output matrix is most of a token's work, all that
 * comes from a norm is taken so, at little cost: of Gemma 3 270M 98.6 % instead of 96.9 %. */
static bool layers_are_cheap(const xl_config *c) {
    return (uint64_t)c->n_layers * (2 * c->q_dim + 2 * c->kv_dim + 3 * c->ffn_dim) < c->vocab;
}
static bool residual_qkv(const xl_config *c, uint32_t layer) {
    return layer >= c->n_layers / 3 || layers_are_cheap(c);
}
static bool residual_all(const xl_config *c, uint32_t layer) {
    return layer + (c->n_layers + 9) / 10 >= c->n_layers;
}

void xl_forward_layer(xl_run *run, uint32_t layer, const xl_row *rows, uint32_t n) {
    const xl_config *c = &run->model->config;
    const xl_layer *l = &run->model->layers[layer];
    const xl_kernels *k = run->kernels;
    xl_work *w = &run->work;

    for (uint32_t r = 0; r < n; r++)
        xl_norm_row(run, w->norm + r * w->dim_stride, rows[r].hidden, &l->attn_norm);
    xl_product qkv = {.run = run,
                      .w = {&l->wq, &l->wk, &l->wv},
                      .bias = {l->bq, l->bk, l->bv},
                      .y = {w->q, w->k, w->v},
                      .y_stride = {w->q_stride, w->kv_stride, w->kv_stride},
                      .n_matrices = 3,
                      .x = w->norm,
                      .x_stride = w->dim_stride,
                      .n = n,
                      .residual = residual_qkv(c, layer)};
    xl_product_run(&qkv);
    for (uint32_t r = 0; r < n; r++)
        place_row(run, layer, &rows[r], w->q + r * w->q_stride, w->k + r * w->kv_stride,
                  w->v + r * w->kv_stride);
    attention a = {run, rows, layer, n};
    xl_pool_run(run->pool, attention_part, &a);
    xl_product out = {.run = run,
                      .w = {&l->wo},
                      .bias = {l->bo},
                      .y = {w->out},
                      .y_stride = {w->dim_stride},
                      .n_matrices = 1,
                      .x = w->att,
                      .x_stride = w->q_stride,
                      .n = n,
                      .residual = residual_all(c, layer)};
    xl_product_run(&out);

    for (uint32_t r = 0; r < n; r++) {
        float *norm = w->norm + r * w->dim_stride, *added = w->out + r * w->dim_stride;
        if (l->post_attn_norm.weight) xl_norm_row(run, added, added, &l->post_attn_norm);
        if (!c->parallel) k->add(rows[r].hidden, added, c->dim);
        if (l->ffn_norm.weight) xl_norm_row(run, norm, rows[r].hidden, &l->ffn_norm);
        if (c->parallel) k->add(rows[r].hidden, added, c->dim);
    }
    xl_product up = {.run = run,
                     .w = {&l->w_up},
                     .bias = {l->b_up},
                     .y = {w->gate},
                     .y_stride = {w->ffn_stride, w->ffn_stride},
                     .n_matrices = 1,
                     .x = w->norm,
                     .x_stride = w->dim_stride,
                     .n = n,
                     .residual = residual_all(c, layer) || layers_are_cheap(c),
                     .activated = true};
    if (c->gated) {
        up.n_matrices = 2;
        up.w[0] = &l->w_gate, up.w[1] = &l->w_up;
        up.bias[0] = NULL, up.bias[1] = l->b_up;
        up.y[1] = w->up;
    }
    xl_product_run(&up);
    xl_product down = {.run = run,
                       .w = {&l->w_down},
                       .bias = {l->b_down},
                       .y = {w->out},
                       .y_stride = {w->dim_stride},
                       .n_matrices = 1,
                       .x = w->gate,
                       .x_stride = w->ffn_stride,
                       .n = n,
                       .residual = residual_all(c, layer)};
    xl_product_run(&down);
    for (uint32_t r = 0; r < n; r++) {
        float *added = w->out + r * w->dim_stride;
        if (l->post_ffn_norm.weight) xl_norm_row(run, added, added, &l->post_ffn_norm);
        k->add(rows[r].hidden, added, c->dim);
    }
}

void xl_forward_kv(xl_run *run, uint32_t layer, const xl_row *rows, uint32_t n) {
    const xl_config *c = &run->model->config;
    const xl_layer *l = &run->model->layers[layer];
    xl_work *w = &run->work;
    for (uint32_t r = 0; r < n; r++)
        xl_norm_row(run, w->norm + r * w->dim_stride, rows[r].hidden, &l->attn_norm);
    xl_product kv = {.run = run,
                     .w = {&l->wk, &l->wv},
                     .bias = {l->bk, l->bv},
                     .y = {w->k, w->v},
                     .y_stride = {w->kv_stride, w->kv_stride},
                     .n_matrices = 2,
                     .x = w->norm,
                     .x_stride = w->dim_stride,
                     .n = n,
                     .residual = residual_qkv(c, layer)};
    xl_product_run(&kv);
    for (uint32_t r = 0; r < n; r++)
        place_row(run, layer, &rows[r], NULL, w->k + r * w->kv_stride, w->v + r * w->kv_stride);
}

void xl_forward_skipped(xl_run *run, uint32_t layer, const xl_row *row, const xl_head *head) {
    const xl_layer *l = &run->model->layers[layer];
    xl_work *w = &run->work;
    const uint32_t i = head ? layer - head->layer : 0;
    xl_norm_row(run, w->norm, row->hidden, head ? &(xl_norm){.weight = w->ones} : &l->attn_norm);
    xl_product kv = {
        .run = run,
        .w = {head ? &head->map_k[i] : &l->wk, head ? &head->map_v[i] : &l->wv},
        .bias = {head ? head->map_k_bias[i] : l->bk, head ? head->map_v_bias[i] : l->bv},
        .y = {w->k, w->v},
        .y_stride = {w->kv_stride, w->kv_stride},
        .n_matrices = 2,
        .x = w->norm,
        .x_stride = w->dim_stride,
        .n = 1};
    xl_product_run(&kv);
    place_row(run, layer, row, NULL, w->k, w->v);
}
