/* A session's memory, its positions, and the model's own logits. */
#include "session.h"

#include <math.h>
#include <string.h>

#include "base/fmath.h"
#include "generate.h"

enum { DEFAULT_CONTEXT = 2048, MAX_CONTEXT = 1 << 20, MAX_CONTEXT_ROWS = 1024 };

static size_t pad8(size_t n) { return (n + 7) / 8 * 8; }
static uint32_t max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }
static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* ---- Memory ---------------------------------------------------------------------- */

static uint32_t context_of(const exitlm_model *m, const exitlm_session_options *o) {
    if (o->context_tokens) return o->context_tokens;
    return min_u32(m->config.context_tokens ? m->config.context_tokens : DEFAULT_CONTEXT, DEFAULT_CONTEXT);
}

static const exitlm_heads *heads_of(const exitlm_model *m, const exitlm_session_options *o) { return o->heads ? o->heads : m->heads; }

/* Can the heads' shortlist be read as a prefix of the output matrix? */
static bool shares_rows(const exitlm_model *m, const exitlm_heads *heads) { return m->heads == heads; }

static uint32_t widest_head(const exitlm_heads *heads, uint32_t dim) {
    uint32_t widest = dim;
    for (uint32_t i = 0; heads && i < heads->n_heads; i++) widest = max_u32(widest, heads->head[i].up.rows);
    return widest;
}

static uint32_t longest_head(const exitlm_heads *heads) {
    uint32_t rows = 0;
    for (uint32_t i = 0; i < heads->n_heads; i++) rows = max_u32(rows, heads->head[i].rows);
    return rows;
}

/* What a layer's sections hand to each other. */
static void take_between(xl_work *w, xl_arena *arena) {
    const size_t rows = XL_CHUNK + XL_FINE;
    w->q = xl_arena_take(arena, rows * w->q_stride, sizeof(float));
    w->k = xl_arena_take(arena, rows * w->kv_stride, sizeof(float));
    w->v = xl_arena_take(arena, rows * w->kv_stride, sizeof(float));
    w->att = xl_arena_take(arena, XL_CHUNK * w->q_stride, sizeof(float));
    w->out = xl_arena_take(arena, rows * w->dim_stride, sizeof(float));
    w->gate = xl_arena_take(arena, rows * w->ffn_stride, sizeof(float));
    w->up = xl_arena_take(arena, rows * w->ffn_stride, sizeof(float));
}

/* The logits: row 0, then either the further rows of a verification or, in the same memory, what a layer needs while it is run.
 * Of the default model that saves 1 MB, which an edge worker has not. */
static void take_logits(exitlm_session *s, xl_arena *arena) {
    xl_arena first = {0}, between = {0};
    size_t rows_bytes = 0;
    s->logits_stride = pad8(s->model->config.vocab);
    xl_arena_take(&first, s->logits_stride, sizeof(float));
    take_between(&s->work, &between);
    if (!xl_size_add(&rows_bytes, s->logits_stride * XL_MAX_VERIFY, sizeof(float)) || between.overflow ||
        !xl_size_add(&between.used_bytes, first.used_bytes, 1))
        arena->overflow = true;
    uint8_t *memory = xl_arena_take(arena, rows_bytes > between.used_bytes ? rows_bytes : between.used_bytes, 1);
    s->logits = (float *)memory;
    if (!memory) return;
    between = (xl_arena){.base = memory, .used_bytes = first.used_bytes, .capacity_bytes = between.used_bytes};
    take_between(&s->work, &between);
}

static void take_work(exitlm_session *s, xl_arena *arena, uint32_t threads) {
    const xl_config *c = &s->model->config;
    xl_work *w = &s->work;
    w->dim_stride = pad8(c->dim);
    w->q_stride = pad8(c->q_dim);
    w->kv_stride = pad8(c->kv_dim);
    w->ffn_stride = pad8(c->ffn_dim);
    uint32_t widest = max_u32(max_u32(c->dim, c->q_dim), max_u32(c->ffn_dim, widest_head(s->heads, c->dim)));
    w->act_stride = xl_act_bytes(widest);
    w->norm = xl_arena_take(arena, XL_CHUNK * w->dim_stride, sizeof(float));
    w->act = xl_arena_take(arena, XL_CHUNK, w->act_stride);
    w->rest = xl_arena_take(arena, pad8(widest), sizeof(float));
    w->scores_floats = pad8(xl_attend_scratch_floats(c->n_heads / c->n_kv_heads, s->ctx, c->head_dim)) + 16;
    w->scores = xl_arena_take(arena, (size_t)threads * w->scores_floats, sizeof(float));
}

static void take_heads(exitlm_session *s, xl_arena *arena) {
    const exitlm_model *m = s->model;
    const xl_config *c = &m->config;
    if (!s->heads) return;
    size_t bytes = 0;
    s->shortlist = m->output;
    if (!shares_rows(m, s->heads) && s->heads->n_shortlist) {
        s->shortlist.rows = s->heads->n_shortlist;
        s->shortlist_copied = true;
        if (!xl_matrix_bytes(m->output.type, s->shortlist.rows, c->dim, &bytes)) arena->overflow = true;
        s->shortlist.data = xl_arena_take(arena, 1, bytes);
    }
    s->context_capacity = min_u32(s->ctx, MAX_CONTEXT_ROWS);
    s->context_rows = (xl_matrix){NULL, m->output.type, s->context_capacity, c->dim};
    if (!xl_matrix_bytes(m->output.type, s->context_capacity, c->dim, &bytes)) arena->overflow = true;
    s->context_rows.data = xl_arena_take(arena, 1, bytes);
    s->context_ids = xl_arena_take(arena, s->context_capacity, sizeof *s->context_ids);
    s->context_pos = xl_arena_take(arena, s->context_capacity, sizeof *s->context_pos);
    s->in_context = xl_arena_take(arena, c->vocab, sizeof *s->in_context);
    if (s->shortlist_copied) s->short_index = xl_arena_take(arena, c->vocab, sizeof *s->short_index);
    uint32_t widest = widest_head(s->heads, c->dim);
    s->ones = xl_arena_take(arena, pad8(widest), sizeof(float));
    s->head_x = xl_arena_take(arena, s->work.dim_stride, sizeof(float));
    s->head_out = xl_arena_take(arena, s->work.dim_stride, sizeof(float));
    s->head_hidden = xl_arena_take(arena, pad8(widest), sizeof(float));
    s->head_capacity = pad8(longest_head(s->heads)) + pad8(s->context_capacity) + 8;
    s->head_logits = xl_arena_take(arena, s->head_capacity, sizeof(float));
    s->head_work = xl_arena_take(arena, s->head_capacity * 2, sizeof(float));
    s->head_ids = xl_arena_take(arena, s->head_capacity, sizeof *s->head_ids);
}

/* Lays out everything; with arena->base NULL it only measures. */
static void take_all(exitlm_session *s, xl_arena *arena, exitlm_kv_type kv_type, uint32_t threads) {
    const xl_config *c = &s->model->config;
    s->ids = xl_arena_take(arena, s->ctx, sizeof *s->ids);
    s->depth = xl_arena_take(arena, s->ctx, sizeof *s->depth);
    s->made = xl_arena_take(arena, s->ctx, sizeof *s->made);
    s->kv.type = (xl_kv_type)kv_type;
    s->kv.area_bytes = (xl_kv_bytes(s->kv.type, c->head_dim, s->ctx) + XL_ALIGN - 1) / XL_ALIGN * XL_ALIGN;
    s->kv.k = xl_arena_take(arena, (size_t)c->n_layers * c->n_kv_heads, s->kv.area_bytes);
    s->kv.v = xl_arena_take(arena, (size_t)c->n_layers * c->n_kv_heads, s->kv.area_bytes);
    s->rope_cos = xl_arena_take(arena, (size_t)s->ctx * (c->rope_dims / 2), sizeof(float));
    s->rope_sin = xl_arena_take(arena, (size_t)s->ctx * (c->rope_dims / 2), sizeof(float));
    take_work(s, arena, threads);
    s->hidden = xl_arena_take(arena, s->ctx * s->work.dim_stride, sizeof(float));
    take_logits(s, arena);
    s->scratch_logits = xl_arena_take(arena, s->logits_stride, sizeof(float));
    take_heads(s, arena);
    xl_generation_take(s, arena);
}

static void plan(exitlm_session *s, const exitlm_model *m, const exitlm_heads *heads, const exitlm_session_options *o, xl_arena *arena) {
    *s = (exitlm_session){.model = m, .heads = heads, .ctx = context_of(m, o)};
    take_all(s, arena, o->kv_type, max_u32(o->threads, 1));
}

size_t xl_session_bytes(const exitlm_model *model, const exitlm_heads *heads, const exitlm_session_options *options) {
    static const exitlm_session_options none = {0};
    exitlm_session s;
    xl_arena measure = {0};
    if (!options) options = &none;
    plan(&s, model, heads ? heads : heads_of(model, options), options, &measure);
    return measure.overflow ? SIZE_MAX : measure.used_bytes + sizeof s + 4096;
}

/* ---- Creation ---------------------------------------------------------------------- */

static exitlm_status check_options(const exitlm_model *m, const exitlm_heads *heads, const exitlm_session_options *o, exitlm_error *error) {
    if (o->context_tokens > MAX_CONTEXT || o->context_tokens == 1)
        return xl_fail(error, EXITLM_USAGE, "a context of %u tokens: 2 to %d are possible", (unsigned)o->context_tokens, MAX_CONTEXT);
    if (m->config.context_tokens && o->context_tokens > m->config.context_tokens)
        return xl_fail(error, EXITLM_USAGE, "a context of %u tokens: this model was trained for at most %u",
                       (unsigned)o->context_tokens, (unsigned)m->config.context_tokens);
    if ((unsigned)o->kv_type >= EXITLM_KV_TYPE_COUNT) return xl_fail(error, EXITLM_USAGE, "unknown K/V type %d", (int)o->kv_type);
    if (o->threads > 64) return xl_fail(error, EXITLM_USAGE, "%u threads: 1 to 64 are possible", (unsigned)o->threads);
    if (!heads) return EXITLM_OK;
    const xl_config *c = &m->config;
    if (heads->dim != c->dim || heads->n_layers != c->n_layers || heads->vocab != c->vocab || heads->kv_dim != c->kv_dim ||
        (m->fingerprint[0] && strcmp(m->fingerprint, heads->fingerprint) != 0))
        return xl_fail(error, EXITLM_HEADS_MISMATCH,
                       "these exit heads belong to another model: they were trained on fingerprint %.16s…, this model has %.16s…; use its own "
                       "heads file, or train one with exitlm train",
                       heads->fingerprint, m->fingerprint[0] ? m->fingerprint : "(not known yet)");
    return EXITLM_OK;
}

void xl_session_fill_rope(exitlm_session *s) {
    s->rope_ready = true;
    const xl_config *c = &s->model->config;
    uint32_t half = c->rope_dims / 2;
    for (uint32_t i = 0; i < half; i++) {
        double frequency = c->rope_scale / xl_pow(c->rope_base, 2.0 * i / c->rope_dims);
        if (s->model->rope_factors) frequency /= s->model->rope_factors[i];
        for (uint32_t p = 0; p < s->ctx; p++) {
            double sine, cosine;
            xl_sincos(p * frequency, &sine, &cosine);
            s->rope_cos[(size_t)p * half + i] = (float)cosine;
            s->rope_sin[(size_t)p * half + i] = (float)sine;
        }
    }
}

static void fill_tables(exitlm_session *s) {
    const xl_config *c = &s->model->config;
    s->work.attention_scale = 1.0f / sqrtf((float)c->head_dim);
    if (!s->heads) return;
    uint32_t widest = widest_head(s->heads, c->dim);
    for (uint32_t i = 0; i < pad8(widest); i++) s->ones[i] = 1.0f;
    for (uint32_t i = 0; s->short_index && i < c->vocab; i++) s->short_index[i] = UINT32_MAX;
    for (uint32_t i = 0; s->short_index && i < s->heads->n_shortlist; i++) s->short_index[s->heads->shortlist[i]] = i;
}

/* All but the K/V cache is zeros at first. Of the cache nothing is read before it is written but the rest of a tile of keys, whose scores are
 * dropped; and its pages, most of a session's memory, are not touched before they are needed. */
static void clear_but_cache(const exitlm_session *s, uint8_t *memory, size_t n_bytes) {
    size_t areas = (size_t)s->model->config.n_layers * s->model->config.n_kv_heads;
    size_t before = (size_t)(s->kv.k - memory), end = (size_t)(s->kv.v - memory) + areas * s->kv.area_bytes;
    memset(memory, 0, before);
    memset(memory + end, 0, n_bytes - end);
}

exitlm_status exitlm_session_create(exitlm_session **session, const exitlm_model *model, const exitlm_session_options *options,
                                    exitlm_error *error) {
    static const exitlm_session_options none = {0};
    *session = NULL;
    if (!model) return xl_fail(error, EXITLM_USAGE, "a session needs a model whose header has been read");
    const exitlm_session_options *o = options ? options : &none;
    const exitlm_heads *heads = heads_of(model, o);
    exitlm_status status = check_options(model, heads, o, error);
    if (status != EXITLM_OK) return status;
    const xl_kernels *kernels = xl_kernels_pick(o->kernel);
    if (!kernels) return xl_fail(error, EXITLM_USAGE, "no kernel named %.32s on this machine", o->kernel ? o->kernel : "(default)");

    exitlm_session *s = xl_calloc(&model->allocator, 1, sizeof *s);
    if (!s) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a session");
    xl_arena arena = {0};
    plan(s, model, heads, o, &arena);
    size_t bytes = arena.overflow ? 0 : arena.used_bytes;
    uint8_t *memory = bytes ? model->allocator.alloc(model->allocator.user, bytes, XL_ALIGN) : NULL;
    if (!memory) {
        xl_free(&model->allocator, s, 1, sizeof *s);
        return xl_fail(error, EXITLM_OUT_OF_MEMORY,
                       "a session with a context of %u tokens needs %llu bytes of memory, which are not there: ask for a smaller context or K/V type q8",
                       (unsigned)context_of(model, o), (unsigned long long)arena.used_bytes);
    }
    arena = (xl_arena){.base = memory, .capacity_bytes = bytes};
    plan(s, model, heads, o, &arena);
    clear_but_cache(s, memory, bytes);
    arena = (xl_arena){.base = memory, .capacity_bytes = bytes};
    plan(s, model, heads, o, &arena); /* again: it writes into what has been cleared */
    s->allocator = model->allocator;
    s->kernels = kernels;
    s->memory = memory;
    s->memory_bytes = bytes;
    s->clock_ms = o->clock_ms;
    s->clock_user = o->clock_user;
    s->pool = xl_pool_create(o->threads, &s->allocator);
    fill_tables(s);
    *session = s;
    return EXITLM_OK;
}

void exitlm_session_free(exitlm_session *session) {
    if (!session) return;
    exitlm_allocator allocator = session->allocator;
    xl_pool_free(session->pool);
    xl_generation_free(session);
    xl_free(&allocator, session->memory, 1, session->memory_bytes);
    xl_free(&allocator, session, 1, sizeof *session);
}

const char *exitlm_kernel_name(size_t index) {
    const xl_kernels *list[XL_KERNELS_MAX];
    size_t n = xl_kernels_list(list);
    return index < n ? list[index]->name : NULL;
}

void exitlm_session_needs(const exitlm_session *session, int32_t *layer, int32_t *row) {
    if (layer) *layer = session->need_layer;
    if (row) *row = session->need_row;
}

/* ---- Positions ----------------------------------------------------------------------- */

exitlm_status xl_session_append(exitlm_session *s, const int32_t *ids, size_t n, exitlm_error *error) {
    if (n > s->ctx - s->n)
        return xl_fail(error, EXITLM_CONTEXT_FULL, "%zu tokens after %u do not fit a context of %u: shorten the prompt or ask for a larger context",
                       n, (unsigned)s->n, (unsigned)s->ctx);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= s->model->config.vocab)
            return xl_fail(error, EXITLM_USAGE, "token id %ld at index %zu is outside the vocabulary of %u", (long)ids[i], i,
                           (unsigned)s->model->config.vocab);
    for (size_t i = 0; i < n; i++) {
        s->ids[s->n + i] = ids[i];
        s->depth[s->n + i] = 0;
        s->made[s->n + i] = XL_MADE_EXACT;
    }
    s->n += (uint32_t)n;
    return EXITLM_OK;
}

void xl_session_truncate(exitlm_session *s, uint32_t n) {
    if (n >= s->n) return;
    s->n = n;
    if (s->embedded > n) s->embedded = n;
    if (s->wanted_from > n) s->wanted_from = n;
    /* Context rows stand in the order of their first position. */
    while (s->n_context && s->context_pos[s->n_context - 1] >= n) s->in_context[s->context_ids[--s->n_context]] = false;
    if (s->context_seen > n) s->context_seen = n;
}

void exitlm_session_reset(exitlm_session *session) {
    xl_generation_end(session);
    xl_session_truncate(session, 0);
}

/* ---- The model's own head --------------------------------------------------------------- */

/* Where the choice is made, quantised inputs are not exact enough: rows whose logit is less than 1 below the best get the product of
 * what quantising the input left. x [dim] is the input of logits [vocab]. */
static void refine(exitlm_session *s, float *logits, const float *x) {
    const xl_matrix *w = &s->model->output;
    if (!xl_type_is_quantized(w->type)) return;
    s->kernels->quantize(s->work.act, s->work.rest, x, w->cols);
    s->kernels->quantize(s->work.act, NULL, s->work.rest, w->cols);
    float least = logits[s->kernels->argmax(logits, w->rows)] - 1.0f;
    for (uint32_t row = 0; row < w->rows; row += 8) {
        uint32_t rows = w->rows - row < 8 ? w->rows - row : 8;
        bool close = false;
        for (uint32_t i = 0; i < rows; i++) close |= logits[row + i] >= least;
        if (!close) continue;
        s->kernels->matmul[w->type](s->scratch_logits, 0, w->data, w->cols, row, rows, s->work.act, s->work.act_stride, 1);
        for (uint32_t i = 0; i < rows; i++)
            if (logits[row + i] >= least) logits[row + i] += s->scratch_logits[row + i];
    }
}

void xl_output_logits(exitlm_session *s, const float *x, uint32_t n, uint32_t row0) {
    xl_matmul_rows(s, s->logits, s->logits_stride, &s->model->output, row0, s->model->config.vocab - row0, x, n);
    for (uint32_t r = 0; r < n; r++) refine(s, s->logits + r * s->logits_stride, x + r * s->work.dim_stride);
}

exitlm_status xl_session_logits_from(exitlm_session *s, uint32_t pos, uint32_t n, uint32_t row0, exitlm_error *error) {
    const exitlm_model *m = s->model;
    if (!xl_output_complete(m)) {
        s->need_layer = -2;
        s->need_row = -1;
        return xl_fail(error, EXITLM_WAIT, "the output matrix has not arrived in full: %u of %u rows are there",
                       (unsigned)m->output_rows_ready_count, (unsigned)m->config.vocab);
    }
    for (uint32_t r = 0; r < n; r++)
        s->kernels->rmsnorm(s->work.norm + r * s->work.dim_stride, s->hidden + (size_t)(pos + r) * s->work.dim_stride, m->output_norm,
                            m->config.dim, m->config.norm_eps);
    xl_output_logits(s, s->work.norm, n, row0);
    return EXITLM_OK;
}

exitlm_status xl_session_logits(exitlm_session *s, uint32_t pos, uint32_t n, exitlm_error *error) {
    return xl_session_logits_from(s, pos, n, 0, error);
}

void xl_logits_by_id(const exitlm_session *s, const float *slots, float *out) {
    const exitlm_model *m = s->model;
    if (!m->id_of) memcpy(out, slots, m->config.vocab * sizeof(float));
    else
        for (uint32_t i = 0; i < m->config.vocab; i++) out[m->id_of[i]] = slots[i];
}

int32_t xl_logits_argmax(const exitlm_session *s, const float *slots) {
    const exitlm_model *m = s->model;
    uint32_t best = (uint32_t)s->kernels->argmax(slots, m->config.vocab), id = xl_id(m, best);
    if (!m->id_of) return (int32_t)id;
    /* The kernel takes the lowest slot of a tie; the rule is the lowest id. Ties are rare, so count first. */
    uint32_t ties = 0;
    for (uint32_t i = 0; i < m->config.vocab; i++) ties += slots[i] == slots[best];
    for (uint32_t i = best + 1; ties > 1 && i < m->config.vocab; i++)
        if (slots[i] == slots[best] && m->id_of[i] < id) id = m->id_of[i];
    return (int32_t)id;
}

exitlm_status exitlm_session_score(exitlm_session *session, const int32_t *ids, size_t n,
                                   bool (*visit)(void *user, size_t position, const float *logits), void *user, exitlm_error *error) {
    exitlm_session_reset(session);
    exitlm_status status = xl_session_append(session, ids, n, error);
    if (status == EXITLM_OK) status = xl_session_advance(session, session->model->config.n_layers, error);
    bool go_on = true;
    for (uint32_t pos = 0; status == EXITLM_OK && go_on && pos + 1 < n; pos += XL_MAX_VERIFY) {
        uint32_t rows = min_u32(XL_MAX_VERIFY, (uint32_t)n - 1 - pos);
        status = xl_session_logits(session, pos, rows, error);
        for (uint32_t r = 0; status == EXITLM_OK && go_on && r < rows; r++) {
            xl_logits_by_id(session, session->logits + r * session->logits_stride, session->scratch_logits);
            go_on = visit(user, pos + r + 1, session->scratch_logits);
        }
    }
    return status;
}
