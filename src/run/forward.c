/* One transformer layer for a batch of rows.
 *
 * A row is one position of one sequence. Nothing that a row computes depends on the rows beside it,
 * so a batch may be cut anywhere and rows of several sequences may share one. The work of a
 * layer is cut into sections, each spread over the threads. */
#include "forward.h"

#include "base/fmath.h"
#include "product.h"

typedef struct pass {
    xl_run *run;
    const xl_layer *weights;
    const xl_row *rows;
    uint32_t layer, n;
} pass;

/* ---- Attention ----------------------------------------------------------------- */

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

static bool has_rope(const xl_config *c, uint32_t layer) {
    return !c->rope_period || (layer + 1) % c->rope_period != 0;
}

/* The layer's rotation of the heads of x at a position. */
static void rotate(xl_run *run, uint32_t layer, uint32_t pos, float *x, uint32_t n_heads) {
    const xl_config *c = &run->model->config;
    if (!has_rope(c, layer)) return;
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

/* K of each head through its norm, then RoPE, for one row; then its K and V into the cache. */
static void place_kv(xl_run *run, uint32_t layer, const xl_row *row, float *k, float *v) {
    const xl_config *c = &run->model->config;
    const xl_layer *l = &run->model->layers[layer];
    const xl_kv *kv = row->kv;
    if (l->k_norm) norm_heads(run, k, l->k_norm, c->n_kv_heads);
    rotate(run, layer, row->pos, k, c->n_kv_heads);
    for (uint32_t h = 0, tiles; h < c->n_kv_heads; h++)
        run->kernels->store_kv[kv->type](xl_kv_tile(kv, layer, h, false, row->pos, &tiles),
                                         xl_kv_tile(kv, layer, h, true, row->pos, &tiles),
                                         row->pos % 8, k + h * c->head_dim, v + h * c->head_dim,
                                         c->head_dim);
}

static void place_kv_of(const void *arg, uint32_t r, uint32_t part) {
    const pass *p = arg;
    const xl_work *w = &p->run->work;
    (void)part;
    place_kv(p->run, p->layer, &p->rows[r], w->k + r * w->kv_stride, w->v + r * w->kv_stride);
}

static void place_of(const void *arg, uint32_t r, uint32_t part) {
    const pass *p = arg;
    const xl_config *c = &p->run->model->config;
    float *q = p->run->work.q + r * p->run->work.q_stride;
    if (p->weights->q_norm) norm_heads(p->run, q, p->weights->q_norm, c->n_heads);
    rotate(p->run, p->layer, p->rows[r].pos, q, c->n_heads);
    place_kv_of(arg, r, part);
}

/* Whether the angles of all rows are in the tables, so that nobody writes to these. Rows of several
 * sequences may want the same slot for different positions. */
static bool have_angles(const pass *p) {
    const xl_config *c = &p->run->model->config;
    const bool local = xl_layer_is_local(c, p->layer);
    xl_angles *angles = local ? &p->run->local_angles : &p->run->angles;
    if (!has_rope(c, p->layer)) return true;
    for (uint32_t r = 0; r < p->n; r++)
        (void)rope_slot(p->run->model, angles, local, p->rows[r].pos);
    for (uint32_t r = 0; r < p->n; r++)
        if (angles->of[p->rows[r].pos % angles->n_slots] != p->rows[r].pos + 1) return false;
    return true;
}

static void place_rows(const pass *p, xl_row_fn fn) {
    if (have_angles(p)) xl_each_row(p->run, fn, p, 0, p->n);
    else
        for (uint32_t r = 0; r < p->n; r++) fn(p, r, 0);
}

/* Rows from `at` on that are consecutive positions of one sequence, at most ATTENTION_ROWS: they
 * read K and V together. */
enum { ATTENTION_ROWS = 8 };
static uint32_t consecutive(const pass *a, uint32_t at) {
    uint32_t n = 1;
    const xl_row *row = &a->rows[at];
    while (n < ATTENTION_ROWS && at + n < a->n && row[n].kv == row->kv &&
           row[n].pos == row->pos + n)
        n++;
    return n;
}

static void attention_part(void *arg, uint32_t part, uint32_t parts) {
    const pass *a = arg;
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

static void norm_for_attention(const void *arg, uint32_t r, uint32_t part) {
    const pass *p = arg;
    const xl_work *w = &p->run->work;
    (void)part;
    xl_norm_row(p->run, w->norm + r * w->dim_stride, p->rows[r].hidden, &p->weights->attn_norm);
}

/* What attention gave goes into the hidden state, whose norm is what the feed-forward part reads. */
static void norm_for_ffn(const void *arg, uint32_t r, uint32_t part) {
    const pass *p = arg;
    const xl_run *run = p->run;
    const xl_layer *l = p->weights;
    const xl_config *c = &run->model->config;
    float *norm = run->work.norm + r * run->work.dim_stride,
          *added = run->work.out + r * run->work.dim_stride, *hidden = p->rows[r].hidden;
    (void)part;
    if (l->post_attn_norm.weight) xl_norm_row(run, added, added, &l->post_attn_norm);
    if (!c->parallel) run->kernels->add(hidden, added, c->dim);
    if (l->ffn_norm.weight) xl_norm_row(run, norm, hidden, &l->ffn_norm);
    if (c->parallel) run->kernels->add(hidden, added, c->dim);
}

static void add_ffn(const void *arg, uint32_t r, uint32_t part) {
    const pass *p = arg;
    const xl_run *run = p->run;
    float *added = run->work.out + r * run->work.dim_stride;
    (void)part;
    if (p->weights->post_ffn_norm.weight)
        xl_norm_row(run, added, added, &p->weights->post_ffn_norm);
    run->kernels->add(p->rows[r].hidden, added, run->model->config.dim);
}

void xl_forward_layer(xl_run *run, uint32_t layer, const xl_row *rows, uint32_t n) {
    const xl_config *c = &run->model->config;
    const xl_layer *l = &run->model->layers[layer];
    xl_work *w = &run->work;
    pass p = {run, l, rows, layer, n};

    xl_product qkv = {.run = run,
                      .w = {&l->wq, &l->wk, &l->wv},
                      .bias = {l->bq, l->bk, l->bv},
                      .y = {w->q, w->k, w->v},
                      .y_stride = {w->q_stride, w->kv_stride, w->kv_stride},
                      .n_matrices = 3,
                      .x = w->norm,
                      .x_stride = w->dim_stride,
                      .n = n,
                      .before = norm_for_attention,
                      .before_arg = &p,
                      .residual = residual_qkv(c, layer)};
    xl_product_run(&qkv);
    place_rows(&p, place_of);
    xl_pool_run(run->pool, attention_part, &p);
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

    xl_product up = {.run = run,
                     .w = {&l->w_up},
                     .bias = {l->b_up},
                     .y = {w->gate},
                     .y_stride = {w->ffn_stride, w->ffn_stride},
                     .n_matrices = 1,
                     .x = w->norm,
                     .x_stride = w->dim_stride,
                     .n = n,
                     .before = norm_for_ffn,
                     .before_arg = &p,
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
    xl_each_row(run, add_ffn, &p, 0, n);
}

void xl_forward_kv(xl_run *run, uint32_t layer, const xl_row *rows, uint32_t n) {
    const xl_config *c = &run->model->config;
    const xl_layer *l = &run->model->layers[layer];
    xl_work *w = &run->work;
    pass p = {run, l, rows, layer, n};
    xl_product kv = {.run = run,
                     .w = {&l->wk, &l->wv},
                     .bias = {l->bk, l->bv},
                     .y = {w->k, w->v},
                     .y_stride = {w->kv_stride, w->kv_stride},
                     .n_matrices = 2,
                     .x = w->norm,
                     .x_stride = w->dim_stride,
                     .n = n,
                     .before = norm_for_attention,
                     .before_arg = &p,
                     .residual = residual_qkv(c, layer)};
    xl_product_run(&kv);
    place_rows(&p, place_kv_of);
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
    place_kv(run, layer, row, w->k, w->v);
}
