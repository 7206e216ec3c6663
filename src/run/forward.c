/* One transformer layer for a batch of rows, and the ways to run layers.
 *
 * A row is one position of one sequence. Nothing that a row computes depends on the rows beside it, so a batch may be cut
 * anywhere and rows of several sequences may share one. The work of a layer is cut into sections; within a section the
 * parts are disjoint, so threads change nothing. */
#include <string.h>

#include "reply/session.h"

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* ---- Matrices ---------------------------------------------------------------- */

/* Up to three matrices that take the same inputs, over disjoint ranges of their rows. */
typedef struct product {
    const exitlm_session *s;
    const xl_matrix *w[3];
    float *y[3];
    size_t y_stride[3]; /* floats */
    uint32_t n_matrices, row0, rows; /* row0, rows: of a single matrix; rows 0: all */
    const float *x;     /* [n][x_stride] */
    size_t x_stride;    /* floats */
    uint32_t n;
    bool fine;          /* quantised inputs count twice: themselves and, in as many more rows, what that leaves; y has room for XL_FINE more */
    bool gated;         /* w[0], w[1] are gate and up: y[0] = silu(gate) * up */
} product;

/* Tiles [*first, *last) of part `part`. */
static void share(uint32_t rows, uint32_t part, uint32_t parts, uint32_t *first, uint32_t *last) {
    uint64_t tiles = ((uint64_t)rows + 7) / 8;
    *first = (uint32_t)(tiles * part / parts) * 8;
    *last = min_u32((uint32_t)(tiles * (part + 1) / parts) * 8, rows);
}

static void product_part(void *arg, uint32_t part, uint32_t parts) {
    const product *p = arg;
    const xl_kernels *k = p->s->kernels;
    uint32_t first = 0, last = 0;
    for (uint32_t i = 0; i < p->n_matrices; i++) {
        const xl_matrix *w = p->w[i];
        share(p->rows ? p->rows : w->rows, part, parts, &first, &last);
        if (first >= last) continue;
        bool quantised = xl_type_is_quantized(w->type);
        k->matmul[w->type](p->y[i], p->y_stride[i], w->data, w->cols, p->row0 + first, last - first,
                           quantised ? (const void *)p->s->work.act : p->x,
                           quantised ? p->s->work.act_stride : p->x_stride * sizeof(float), quantised && p->fine ? 2 * p->n : p->n);
        for (uint32_t r = 0; quantised && p->fine && r < p->n; r++)
            k->add(p->y[i] + r * p->y_stride[i] + p->row0 + first, p->y[i] + (p->n + r) * p->y_stride[i] + p->row0 + first, last - first);
    }
    if (!p->gated || first >= last) return;
    for (uint32_t r = 0; r < p->n; r++)
        k->silu_mul(p->y[0] + r * p->y_stride[0] + first, p->y[1] + r * p->y_stride[1] + first, last - first);
}

/* The next p->n rows of a product. */
static void run_rows(exitlm_session *s, product *p, bool quantised) {
    xl_work *w = &s->work;
    for (uint32_t r = 0; quantised && r < p->n; r++) {
        s->kernels->quantize(w->act + r * w->act_stride, p->fine ? w->rest : NULL, p->x + r * p->x_stride, p->w[0]->cols);
        if (p->fine) s->kernels->quantize(w->act + (p->n + r) * w->act_stride, NULL, w->rest, p->w[0]->cols);
    }
    xl_pool_run(s->pool, product_part, p);
}

/* Fine products go in pieces: the second half of a piece's rows lies where the next piece's rows will be. */
static void run_product(exitlm_session *s, const product *whole) {
    bool quantised = false;
    for (uint32_t i = 0; i < whole->n_matrices; i++) {
        quantised |= xl_type_is_quantized(whole->w[i]->type);
        s->macs += (uint64_t)(whole->rows ? whole->rows : whole->w[i]->rows) * whole->w[i]->cols * whole->n;
    }
    product p = *whole;
    p.s = s;
    for (uint32_t left = whole->n;;) {
        p.n = whole->fine ? min_u32(left, XL_FINE) : left;
        run_rows(s, &p, quantised);
        left -= p.n;
        if (left == 0) return;
        p.x += p.n * p.x_stride;
        for (uint32_t i = 0; i < p.n_matrices; i++) p.y[i] += p.n * p.y_stride[i];
    }
}

void xl_matmul_rows(exitlm_session *s, float *y, size_t y_stride, const xl_matrix *w, uint32_t row0, uint32_t rows, const float *x,
                    uint32_t n) {
    while (n) {
        uint32_t chunk = min_u32(n, XL_CHUNK);
        product p = {.w = {w}, .y = {y}, .y_stride = {y_stride}, .n_matrices = 1, .row0 = row0, .rows = rows, .x = x,
                     .x_stride = w->cols, .n = chunk};
        if (rows) run_product(s, &p);
        y += chunk * y_stride;
        x += chunk * (size_t)w->cols;
        n -= chunk;
    }
}

void xl_matmul(exitlm_session *s, float *y, size_t y_stride, const xl_matrix *w, const float *x, uint32_t n) {
    xl_matmul_rows(s, y, y_stride, w, 0, w->rows, x, n);
}

/* ---- Attention ----------------------------------------------------------------- */

typedef struct attention {
    exitlm_session *s;
    const xl_row *rows;
    uint32_t layer, n;
} attention;

static uint8_t *area(uint8_t *base, const xl_kv *kv, const xl_config *c, uint32_t layer, uint32_t head) {
    return base + ((size_t)layer * c->n_kv_heads + head) * kv->area_bytes;
}

/* Q and K of each head through their norm (qwen3), then RoPE, for one row; then its K and V into the cache. */
static void place_row(exitlm_session *s, uint32_t layer, const xl_row *row, float *q, float *k, float *v) {
    const xl_config *c = &s->model->config;
    const xl_layer *l = &s->model->layers[layer];
    size_t half = c->rope_dims / 2;
    /* Rows of other sessions share these tables: same model, same angles; the context of `s` must reach as far as theirs. */
    const float *cosines = s->rope_cos + row->pos * half, *sines = s->rope_sin + row->pos * half;
    if (q) {
        if (l->bq) s->kernels->add(q, l->bq, c->q_dim);
        for (uint32_t h = 0; l->q_norm && h < c->n_heads; h++)
            s->kernels->rmsnorm(q + h * c->head_dim, q + h * c->head_dim, l->q_norm, c->head_dim, c->norm_eps);
        s->kernels->rope(q, cosines, sines, c->n_heads, c->head_dim, c->rope_dims, c->rope_style);
    }
    for (uint32_t h = 0; l->k_norm && h < c->n_kv_heads; h++)
        s->kernels->rmsnorm(k + h * c->head_dim, k + h * c->head_dim, l->k_norm, c->head_dim, c->norm_eps);
    s->kernels->rope(k, cosines, sines, c->n_kv_heads, c->head_dim, c->rope_dims, c->rope_style);
    for (uint32_t h = 0; h < c->n_kv_heads; h++)
        s->kernels->store_kv[row->kv->type](area(row->kv->k, row->kv, c, layer, h), area(row->kv->v, row->kv, c, layer, h), row->pos,
                                            k + h * c->head_dim, v + h * c->head_dim, c->head_dim);
}

static void attention_part(void *arg, uint32_t part, uint32_t parts) {
    const attention *a = arg;
    exitlm_session *s = a->s;
    const xl_config *c = &s->model->config;
    uint32_t group = c->n_heads / c->n_kv_heads, jobs = a->n * c->n_kv_heads;
    float *scratch = s->work.scores + part * s->work.scores_floats;
    float scale = s->work.attention_scale;
    for (uint32_t job = part; job < jobs; job += parts) {
        const xl_row *row = &a->rows[job / c->n_kv_heads];
        uint32_t head = job % c->n_kv_heads;
        size_t at = (size_t)(job / c->n_kv_heads) * s->work.q_stride + (size_t)head * group * c->head_dim;
        s->kernels->attend[row->kv->type](s->work.att + at, s->work.q + at, area(row->kv->k, row->kv, c, a->layer, head),
                                          area(row->kv->v, row->kv, c, a->layer, head), row->pos + 1, c->head_dim, group, scale, scratch);
    }
}

/* ---- The layer ------------------------------------------------------------------- */

/* Which products take their inputs to 15 bits. With 8 everywhere, as in llama.cpp, 97.2 % of SmolLM2's best tokens are those of float
 * arithmetic. An error in q, k or v, and one shortly before the end, counts most: from a third of the depth on in q, k, v and in the
 * last tenth everywhere gives 98.7 % (SPEED.md). */
static bool fine_qkv(const xl_config *c, uint32_t layer) { return layer >= c->n_layers / 3; }
static bool fine_all(const xl_config *c, uint32_t layer) { return layer + (c->n_layers + 9) / 10 >= c->n_layers; }

void xl_forward_layer(exitlm_session *s, uint32_t layer, const xl_row *rows, uint32_t n) {
    const xl_config *c = &s->model->config;
    const xl_layer *l = &s->model->layers[layer];
    const xl_kernels *k = s->kernels;
    xl_work *w = &s->work;

    for (uint32_t r = 0; r < n; r++) k->rmsnorm(w->norm + r * w->dim_stride, rows[r].hidden, l->attn_norm, c->dim, c->norm_eps);
    product qkv = {.w = {&l->wq, &l->wk, &l->wv}, .y = {w->q, w->k, w->v}, .y_stride = {w->q_stride, w->kv_stride, w->kv_stride},
                   .n_matrices = 3, .x = w->norm, .x_stride = w->dim_stride, .n = n, .fine = fine_qkv(c, layer)};
    run_product(s, &qkv);
    for (uint32_t r = 0; r < n; r++) {
        if (l->bk) k->add(w->k + r * w->kv_stride, l->bk, c->kv_dim);
        if (l->bv) k->add(w->v + r * w->kv_stride, l->bv, c->kv_dim);
        place_row(s, layer, &rows[r], w->q + r * w->q_stride, w->k + r * w->kv_stride, w->v + r * w->kv_stride);
    }
    attention a = {s, rows, layer, n};
    xl_pool_run(s->pool, attention_part, &a);
    product out = {.w = {&l->wo}, .y = {w->out}, .y_stride = {w->dim_stride}, .n_matrices = 1, .x = w->att, .x_stride = w->q_stride, .n = n,
                   .fine = fine_all(c, layer)};
    run_product(s, &out);

    for (uint32_t r = 0; r < n; r++) {
        k->add(rows[r].hidden, w->out + r * w->dim_stride, c->dim);
        k->rmsnorm(w->norm + r * w->dim_stride, rows[r].hidden, l->ffn_norm, c->dim, c->norm_eps);
    }
    product gate = {.w = {&l->w_gate, &l->w_up}, .y = {w->gate, w->up}, .y_stride = {w->ffn_stride, w->ffn_stride}, .n_matrices = 2,
                    .x = w->norm, .x_stride = w->dim_stride, .n = n, .fine = fine_all(c, layer), .gated = true};
    run_product(s, &gate);
    product down = {.w = {&l->w_down}, .y = {w->out}, .y_stride = {w->dim_stride}, .n_matrices = 1, .x = w->gate, .x_stride = w->ffn_stride, .n = n,
                    .fine = fine_all(c, layer)};
    run_product(s, &down);
    for (uint32_t r = 0; r < n; r++) k->add(rows[r].hidden, w->out + r * w->dim_stride, c->dim);
}

void xl_forward_kv(exitlm_session *s, uint32_t layer, const xl_row *rows, uint32_t n) {
    const xl_config *c = &s->model->config;
    const xl_layer *l = &s->model->layers[layer];
    xl_work *w = &s->work;
    for (uint32_t r = 0; r < n; r++) s->kernels->rmsnorm(w->norm + r * w->dim_stride, rows[r].hidden, l->attn_norm, c->dim, c->norm_eps);
    product kv = {.w = {&l->wk, &l->wv}, .y = {w->k, w->v}, .y_stride = {w->kv_stride, w->kv_stride}, .n_matrices = 2, .x = w->norm,
                  .x_stride = w->dim_stride, .n = n, .fine = fine_qkv(c, layer)};
    run_product(s, &kv);
    for (uint32_t r = 0; r < n; r++) {
        float *k = w->k + r * w->kv_stride, *v = w->v + r * w->kv_stride;
        if (l->bk) s->kernels->add(k, l->bk, c->kv_dim);
        if (l->bv) s->kernels->add(v, l->bv, c->kv_dim);
        place_row(s, layer, &rows[r], NULL, k, v);
    }
}

/* ---- Advancing -------------------------------------------------------------------- */

static exitlm_status wait_for(exitlm_session *s, int32_t layer, int32_t row, exitlm_error *error) {
    s->need_layer = layer;
    s->need_row = row;
    if (layer >= 0) return xl_fail(error, EXITLM_WAIT, "layer %d has not arrived yet", (int)layer);
    return xl_fail(error, EXITLM_WAIT, "the embedding of token %d has not arrived yet", (int)row);
}

static exitlm_status embed(exitlm_session *s, exitlm_error *error) {
    const exitlm_model *m = s->model;
    for (; s->embedded < s->n; s->embedded++) {
        int32_t id = s->ids[s->embedded];
        if (!m->row_ready[id]) return wait_for(s, -1, id, error);
        xl_dequant_row(m->embedding.type, m->embedding.data, m->embedding.cols, xl_slot(m, (uint32_t)id),
                       s->hidden + (size_t)s->embedded * s->work.dim_stride);
    }
    return EXITLM_OK;
}

exitlm_status xl_session_advance_slice(exitlm_session *s, uint32_t to, bool *done, exitlm_error *error) {
    *done = false;
    exitlm_status status = embed(s, error);
    if (status != EXITLM_OK) return status;
    if (s->n == 0 || s->depth[s->n - 1] >= to) {
        *done = true;
        return EXITLM_OK;
    }
    uint32_t layer = s->depth[s->n - 1], start = s->n;
    if (!s->model->base_ready || s->model->layers_ready <= layer) return wait_for(s, (int32_t)layer, -1, error);
    if (!s->rope_ready) xl_session_fill_rope(s);
    while (start > 0 && s->depth[start - 1] <= layer) start--;
    uint32_t n = min_u32(s->n - start, XL_CHUNK);
    bool kv_only = layer + 1 == s->model->config.n_layers && start < s->wanted_from;
    if (kv_only) n = min_u32(n, s->wanted_from - start);
    uint64_t before = s->macs;
    xl_row rows[XL_CHUNK] = {{0}};
    for (uint32_t r = 0; r < n; r++) rows[r] = (xl_row){&s->kv, start + r, s->hidden + (size_t)(start + r) * s->work.dim_stride};
    if (kv_only) xl_forward_kv(s, layer, rows, n);
    else xl_forward_layer(s, layer, rows, n);
    for (uint32_t r = 0; r < n; r++) {
        uint32_t pos = start + r;
        s->depth[pos] = (uint16_t)(layer + 1);
        if (pos < s->prefix) s->prefix_macs += (s->macs - before) / n;
    }
    if (s->on_layer) s->on_layer(s->on_layer_user, layer + 1, start, n, s->hidden + (size_t)start * s->work.dim_stride);
    *done = s->depth[s->n - 1] >= to;
    return EXITLM_OK;
}

exitlm_status xl_session_advance(exitlm_session *s, uint32_t to, exitlm_error *error) {
    bool done = false;
    exitlm_status status = EXITLM_OK;
    while (!done && status == EXITLM_OK) status = xl_session_advance_slice(s, to, &done, error);
    return status;
}

exitlm_status xl_sessions_advance_together(exitlm_session *const *sessions, uint32_t n, exitlm_error *error) {
    if (n == 0 || n > XL_CHUNK) return xl_fail(error, EXITLM_USAGE, "%u sessions together: 1 to %d are possible", (unsigned)n, XL_CHUNK);
    exitlm_session *lead = sessions[0];
    const exitlm_model *m = lead->model;
    if (!m->complete) return wait_for(lead, (int32_t)m->layers_ready, -1, error);
    xl_row rows[XL_CHUNK] = {{0}};
    for (uint32_t r = 0; r < n; r++) {
        exitlm_session *s = sessions[r];
        if (s->model != m || s->ctx > lead->ctx || s->n == 0 || s->depth[s->n - 1] != 0 || (s->n > 1 && s->depth[s->n - 2] != m->config.n_layers))
            return xl_fail(error, EXITLM_USAGE, "session %u of %u has not exactly one position to run", (unsigned)r, (unsigned)n);
        exitlm_status status = embed(s, error);
        if (status != EXITLM_OK) return status;
        if (!s->rope_ready) xl_session_fill_rope(s);
        rows[r] = (xl_row){&s->kv, s->n - 1, s->hidden + (size_t)(s->n - 1) * s->work.dim_stride};
    }
    for (uint32_t layer = 0; layer < m->config.n_layers; layer++) {
        xl_forward_layer(lead, layer, rows, n);
        for (uint32_t r = 0; r < n; r++)
            if (sessions[r]->on_layer) sessions[r]->on_layer(sessions[r]->on_layer_user, layer + 1, rows[r].pos, 1, rows[r].hidden);
    }
    for (uint32_t r = 0; r < n; r++) {
        sessions[r]->depth[sessions[r]->n - 1] = (uint16_t)m->config.n_layers;
        lead->kernels->rmsnorm(lead->work.norm + r * lead->work.dim_stride, rows[r].hidden, m->output_norm, m->config.dim, m->config.norm_eps);
    }
    /* The lead's logits hold a group at a time. Its own row is in the first group, which therefore comes last. */
    for (uint32_t first = (n - 1) / XL_MAX_VERIFY * XL_MAX_VERIFY;; first -= XL_MAX_VERIFY) {
        uint32_t group = min_u32(n - first, XL_MAX_VERIFY);
        xl_output_logits(lead, lead->work.norm + first * lead->work.dim_stride, group, 0);
        for (uint32_t g = first ? 0 : 1; g < group; g++)
            memcpy(sessions[first + g]->logits, lead->logits + g * lead->logits_stride, m->config.vocab * sizeof(float));
        if (first == 0) return EXITLM_OK;
    }
}

/* ---- K/V of skipped layers --------------------------------------------------------- */

static void fill_kv(exitlm_session *s, uint32_t pos, uint32_t head, exitlm_kv_policy policy) {
    const exitlm_model *m = s->model;
    const xl_config *c = &m->config;
    xl_work *w = &s->work;
    xl_row row = {&s->kv, pos, s->hidden + (size_t)pos * w->dim_stride};
    const xl_head *h = policy == EXITLM_POLICY_MAPS ? &s->heads->head[head] : NULL;
    if (h) s->kernels->rmsnorm(w->norm, row.hidden, s->ones, c->dim, c->norm_eps);
    for (uint32_t layer = s->depth[pos]; layer < c->n_layers; layer++) {
        const xl_layer *l = &m->layers[layer];
        if (!h) s->kernels->rmsnorm(w->norm, row.hidden, l->attn_norm, c->dim, c->norm_eps);
        uint32_t i = h ? layer - h->layer : 0;
        product kv = {.w = {h ? &h->map_k[i] : &l->wk, h ? &h->map_v[i] : &l->wv}, .y = {w->k, w->v},
                      .y_stride = {w->kv_stride, w->kv_stride}, .n_matrices = 2, .x = w->norm, .x_stride = w->dim_stride, .n = 1};
        run_product(s, &kv);
        const float *bk = h ? h->map_k_bias[i] : l->bk, *bv = h ? h->map_v_bias[i] : l->bv;
        if (bk) s->kernels->add(w->k, bk, c->kv_dim);
        if (bv) s->kernels->add(w->v, bv, c->kv_dim);
        place_row(s, layer, &row, NULL, w->k, w->v);
    }
    s->depth[pos] = (uint16_t)c->n_layers;
    s->made[pos] = h ? XL_MADE_MAPS : XL_MADE_PROPAGATE;
}

void xl_exit_kv(exitlm_session *s, uint32_t pos, uint32_t head, exitlm_kv_policy policy) {
    if (policy == EXITLM_POLICY_EXACT || s->depth[pos] == s->model->config.n_layers) return;
    if (policy == EXITLM_POLICY_PROPAGATE || head == xl_heads_mapping(s->heads)) fill_kv(s, pos, head, policy);
}

void xl_map_waiting(exitlm_session *s, uint32_t head) {
    if (head != xl_heads_mapping(s->heads)) return;
    for (uint32_t pos = s->n - 1; pos-- > 0 && s->depth[pos] == s->heads->head[head].layer;) fill_kv(s, pos, head, EXITLM_POLICY_MAPS);
}

/* ---- What work costs ----------------------------------------------------------------- */

static uint64_t matrix_macs(const xl_matrix *w) { return (uint64_t)w->rows * w->cols; }

uint64_t xl_layer_macs(const exitlm_model *m) {
    const xl_config *c = &m->config;
    return (uint64_t)c->dim * (2 * (uint64_t)c->q_dim + 2 * (uint64_t)c->kv_dim + 3 * (uint64_t)c->ffn_dim);
}

double xl_later_layers(const exitlm_model *m, const exitlm_heads *heads, uint32_t head, exitlm_kv_policy policy, double waiting) {
    const double skipped = m->config.n_layers - heads->head[head].layer, kv = 2.0 * m->config.kv_dim * m->config.dim / (double)xl_layer_macs(m);
    const uint32_t mapping = xl_heads_mapping(heads);
    if (policy == EXITLM_POLICY_EXACT || skipped == 0) return waiting * skipped;
    if (policy == EXITLM_POLICY_PROPAGATE || head >= mapping) return kv * skipped;
    const double mapped = m->config.n_layers - heads->head[mapping].layer;
    return waiting * (skipped - mapped) + kv * mapped;
}

uint64_t xl_token_macs(const exitlm_model *m) {
    return m->config.n_layers * xl_layer_macs(m) + (uint64_t)m->config.vocab * m->config.dim;
}

uint64_t xl_head_macs(const exitlm_model *m, const xl_head *head) {
    uint64_t rows = head->form == XL_FORM_FULL ? m->config.vocab : head->rows;
    return rows * m->config.dim + matrix_macs(&head->map) + matrix_macs(&head->up) + matrix_macs(&head->down) +
           (head->other ? m->config.dim : 0);
}
