/* K/V maps: from the hidden state at an exit to k and v of each skipped layer, by ridge
 * regression on the model's own conversations. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reply/session.h"
#include "train_internal.h"
#include "training.h"

#define RIDGE 1e-3
#define BATCH 256

typedef struct fitting {
    const xl_training *run;
    exitlm_session *session;
    uint32_t first;  /* hidden states are kept from after this many layers on */
    uint32_t n_kept; /* n_layers - first: after first, first + 1, … n_layers - 1 layers */
    float *hidden;   /* [n_kept][ctx][dim] */
    float *kv;       /* [n_kept][ctx][2 * kv_dim] what the layers make of it, before RoPE */
    xl_ridge *ridge[EXITLM_MAX_HEADS];
    const uint32_t *layers; /* of the heads */
    uint32_t n_layers;
    float *x, *y, *ones; /* [BATCH][dim] [BATCH][widest output] [dim] */
} fitting;

static void keep(void *user, uint32_t layers_run, uint32_t pos, uint32_t n, const float *hidden) {
    fitting *f = user;
    const uint32_t dim = f->session->run.model->config.dim;
    if (layers_run < f->first || layers_run >= f->first + f->n_kept) return;
    float *to = f->hidden + ((size_t)(layers_run - f->first) * f->session->stair.ctx + pos) * dim;
    for (uint32_t i = 0; i < n; i++)
        memcpy(to + (size_t)i * dim, hidden + (size_t)i * f->session->run.work.dim_stride,
               dim * sizeof *to);
}

/* k and v of layer first + kept for positions [0, n). */
static void project(fitting *f, uint32_t kept, uint32_t n) {
    exitlm_session *s = f->session;
    const xl_config *c = &s->run.model->config;
    const xl_layer *layer = &s->run.model->layers[f->first + kept];
    for (uint32_t pos = 0; pos < n; pos += XL_CHUNK) {
        const uint32_t rows = n - pos < XL_CHUNK ? n - pos : XL_CHUNK;
        for (uint32_t r = 0; r < rows; r++)
            xl_norm_row(&s->run, s->run.work.norm + (size_t)r * s->run.work.dim_stride,
                        f->hidden + ((size_t)kept * s->stair.ctx + pos + r) * c->dim,
                        &layer->attn_norm);
        xl_matmul(&s->run, s->run.work.k, s->run.work.kv_stride, &layer->wk, s->run.work.norm,
                  rows);
        xl_matmul(&s->run, s->run.work.v, s->run.work.kv_stride, &layer->wv, s->run.work.norm,
                  rows);
        for (uint32_t r = 0; r < rows; r++) {
            float *k = f->kv + ((size_t)kept * s->stair.ctx + pos + r) * 2 * c->kv_dim,
                  *v = k + c->kv_dim;
            memcpy(k, s->run.work.k + (size_t)r * s->run.work.kv_stride, c->kv_dim * sizeof *k);
            memcpy(v, s->run.work.v + (size_t)r * s->run.work.kv_stride, c->kv_dim * sizeof *v);
            if (layer->bk) xl_add_scaled(k, 1, layer->bk, c->kv_dim);
            if (layer->bv) xl_add_scaled(v, 1, layer->bv, c->kv_dim);
        }
    }
}

/* The positions `at` [n] of a conversation. */
static void add_to_ridge(fitting *f, uint32_t h, const uint32_t *at, uint32_t n) {
    const xl_config *c = &f->session->run.model->config;
    const uint32_t from = f->layers[h] - f->first, count = f->n_kept - from;
    const size_t wide = (size_t)count * 2 * c->kv_dim;
    for (uint32_t first = 0; first < n; first += BATCH) {
        const uint32_t rows = n - first < BATCH ? n - first : BATCH;
        for (uint32_t r = 0; r < rows; r++) {
            const uint32_t pos = at[first + r];
            const float *hidden = f->hidden + ((size_t)from * f->session->stair.ctx + pos) * c->dim;
            f->session->run.kernels->rmsnorm(f->x + (size_t)r * c->dim, hidden, f->ones, c->dim,
                                             c->norm_eps);
            for (uint32_t l = 0; l < count; l++)
                memcpy(f->y + r * wide + (size_t)l * 2 * c->kv_dim,
                       f->kv + ((size_t)(from + l) * f->session->stair.ctx + pos) * 2 * c->kv_dim,
                       2 * c->kv_dim * sizeof(float));
        }
        xl_ridge_add(f->ridge[h], f->x, f->y, rows);
    }
}

/* at [n_at]: the positions that wrote a reply, which are those that may exit. *taken: how many
 * of them fit the context. */
static exitlm_status add_conversation(fitting *f, const int32_t *ids, uint32_t n,
                                      const uint32_t *at, uint32_t n_at, size_t *taken,
                                      exitlm_error *error) {
    exitlm_session *s = f->session;
    if (n > s->stair.ctx) n = s->stair.ctx;
    while (n_at && at[n_at - 1] >= n) n_at--;
    *taken = n_at;
    exitlm_session_reset(s);
    exitlm_status status = xl_stair_append(&s->stair, ids, n, error);
    if (status == EXITLM_OK)
        status = xl_stair_advance(&s->stair, s->run.model->config.n_layers, error);
    if (status != EXITLM_OK) return status;
    for (uint32_t kept = 0; kept < f->n_kept; kept++) project(f, kept, n);
    for (uint32_t h = 0; h < f->n_layers; h++)
        if (f->ridge[h]) add_to_ridge(f, h, at, n_at);
    return EXITLM_OK;
}

static void show(const fitting *f, size_t done, bool ended) {
    const double most = f->run->options->map_tokens;
    const xl_progress now = {.stage = XL_STAGE_MAPS,
                             .done = (double)done < most ? (double)done : most,
                             .total = most,
                             .ended = ended};
    xl_show(f->run->observer, &now);
}

static exitlm_status add_block(fitting *f, const xl_gather_block *s, size_t *done,
                               exitlm_error *error) {
    exitlm_status status = EXITLM_OK;
    for (uint32_t i = 0; i < s->n_conversations && status == EXITLM_OK; i++) {
        const xl_gather_conversation *c = &s->conversations[i];
        if (*done >= f->run->options->map_tokens || xl_stopped(f->run->observer)) break;
        if (c->validation || c->n_ids == 0) continue;
        size_t taken;
        status = add_conversation(f, s->ids + c->first_id, c->n_ids, s->at + c->first_position,
                                  c->n_positions, &taken, error);
        *done += taken;
        show(f, *done, false);
    }
    return status;
}

static exitlm_status add_all(fitting *f, exitlm_error *error) {
    size_t done = 0;
    exitlm_status status = EXITLM_OK;
    for (size_t i = 0; i < f->run->gathered.n_blocks && status == EXITLM_OK; i++) {
        xl_gather_block s = {0};
        if (done >= f->run->options->map_tokens) break;
        status = xl_gather_open(&f->run->plan, &f->run->gathered, i, &s, error);
        if (status == EXITLM_OK) status = add_block(f, &s, &done, error);
        xl_gather_close(&s);
    }
    show(f, done, true);
    return status;
}

/* The regression's outputs are k, v of the first skipped layer, k, v of the next, …: rows of one
 * matrix, taken apart without copying. */
static exitlm_status solve(fitting *f, uint32_t h, xl_train_maps *m, exitlm_error *error) {
    const xl_config *c = &f->session->run.model->config;
    const uint32_t n = c->n_layers - f->layers[h];
    const size_t outputs = (size_t)n * 2 * c->kv_dim;
    *m = (xl_train_maps){.layer = f->layers[h],
                         .n = n,
                         .memory = malloc(outputs * (c->dim + 1) * sizeof(float)),
                         .k = calloc((size_t)n * 4, sizeof *m->k)};
    if (!m->memory || !m->k) return xl_no_memory(error, "K/V maps");
    float *bias = m->memory + outputs * c->dim;
    exitlm_status status = xl_ridge_solve(f->ridge[h], RIDGE, m->memory, bias, error);
    if (status != EXITLM_OK) return status;
    m->v = m->k + n;
    m->k_bias = m->v + n;
    m->v_bias = m->k_bias + n;
    for (uint32_t l = 0; l < n; l++) {
        m->k[l] = m->memory + (size_t)l * 2 * c->kv_dim * c->dim;
        m->v[l] = m->k[l] + (size_t)c->kv_dim * c->dim;
        m->k_bias[l] = bias + (size_t)l * 2 * c->kv_dim;
        m->v_bias[l] = m->k_bias[l] + c->kv_dim;
    }
    return EXITLM_OK;
}

static exitlm_status prepare(fitting *f, exitlm_error *error) {
    const xl_config *c = &f->run->model->config;
    const uint32_t ctx = f->run->plan.context_tokens;
    f->first = c->n_layers;
    for (uint32_t h = 0; h < f->n_layers; h++)
        /* of the last one before the last layer: heads.h, xl_heads_mapping */
        if (f->layers[h] < c->n_layers) f->first = f->layers[h];
    f->n_kept = c->n_layers - f->first;
    f->hidden = malloc((size_t)f->n_kept * ctx * c->dim * sizeof(float) + 1);
    f->kv = malloc((size_t)f->n_kept * ctx * 2 * c->kv_dim * sizeof(float) + 1);
    f->x = malloc((size_t)BATCH * c->dim * sizeof(float));
    f->y = malloc((size_t)BATCH * f->n_kept * 2 * c->kv_dim * sizeof(float) + 1);
    f->ones = malloc(c->dim * sizeof(float));
    if (!f->hidden || !f->kv || !f->x || !f->y || !f->ones) return xl_no_memory(error, "K/V maps");
    for (uint32_t i = 0; i < c->dim; i++) f->ones[i] = 1;
    exitlm_session_options options = {.context_tokens = ctx,
                                      .kv_type = f->run->plan.kv_type,
                                      .kernel = f->run->plan.kernel,
                                      .threads = f->run->options->threads};
    exitlm_status status = exitlm_session_create(&f->session, f->run->model, &options, error);
    if (status != EXITLM_OK) return status;
    f->session->stair.on_layer = keep;
    f->session->stair.on_layer_user = f;
    for (uint32_t h = 0; h < f->n_layers; h++) {
        const uint32_t outputs = (c->n_layers - f->layers[h]) * 2 * c->kv_dim;
        if (!outputs || f->layers[h] != f->first) continue;
        status = xl_ridge_create(&f->ridge[h], c->dim, outputs, error);
        if (status != EXITLM_OK) return status;
    }
    return EXITLM_OK;
}

exitlm_status xl_train_maps_fit(const xl_training *run, const uint32_t *layers, uint32_t n_layers,
                                xl_train_maps *maps, exitlm_error *error) {
    fitting f = {.run = run, .layers = layers, .n_layers = n_layers};
    memset(maps, 0, n_layers * sizeof *maps);
    exitlm_status status = prepare(&f, error);
    if (status == EXITLM_OK && f.n_kept) status = add_all(&f, error);
    for (uint32_t h = 0; h < n_layers && status == EXITLM_OK; h++)
        if (f.ridge[h]) status = solve(&f, h, &maps[h], error);
    for (uint32_t h = 0; h < n_layers; h++) xl_ridge_free(f.ridge[h]);
    exitlm_session_free(f.session);
    free(f.hidden);
    free(f.kv);
    free(f.x);
    free(f.y);
    free(f.ones);
    return status;
}

void xl_train_maps_free(xl_train_maps *m) {
    free(m->memory);
    free(m->k);
    *m = (xl_train_maps){0};
}
