/* Writes heads files: from plain arrays (training), or a copy with another calibration. */
#include "heads.h"

#include <stdio.h>
#include <string.h>

/* ---- Keys -------------------------------------------------------------------------------- */
static bool is_policy(exitlm_kv_policy kv) {
    return kv > EXITLM_POLICY_AUTO && kv < EXITLM_POLICY_COUNT;
}

/* What is not a number (a share of nothing) becomes 0. */
static float within(float x, float most) { return x > 0 ? (x < most ? x : most) : 0; }

/* An item of a column: a number's bits, or a name. */
typedef union level_item {
    float real;
    uint32_t whole;
} level_item;

static void put_column(xl_gguf_writer *w, xl_level_table table, const xl_level_column *c,
                       const exitlm_level *levels, size_t n_levels, uint32_t n_heads) {
    const uint32_t per_level = c->by_head ? n_heads : 1;
    const size_t n = n_levels * per_level;
    xl_level_key key;
    level_item *items = xl_calloc(&w->allocator, n, sizeof *items);
    const char **names = xl_calloc(&w->allocator, n, sizeof *names);
    const bool fine = items && names;
    for (size_t i = 0; i < n && fine; i++) {
        const void *field = (const char *)&levels[i / per_level] + c->offset;
        if (c->kind == XL_COLUMN_FLOAT)
            items[i].real = within(((const float *)field)[i % per_level], c->most);
        else if (c->kind == XL_COLUMN_BOOL) items[i].whole = *(const bool *)field;
        else memcpy(&items[i].whole, field, sizeof items[i].whole);
        if (c->kind == XL_COLUMN_NAME) names[i] = c->names[items[i].whole];
    }
    xl_level_key_of(key, table, c);
    if (!fine) w->keys.failed = true;
    else if (c->kind == XL_COLUMN_NAME) xl_gguf_put_strings(w, key, names, n);
    else
        xl_gguf_put_array(w, key, c->kind == XL_COLUMN_FLOAT ? XL_GGUF_F32 : XL_GGUF_U32, items, n);
    xl_free(&w->allocator, names, n, sizeof *names);
    xl_free(&w->allocator, items, n, sizeof *items);
}

/* A row as the first programs took all of them. */
static xl_level_table table_of(const exitlm_level *level, exitlm_kv_type kv_type) {
    return level->kv_type == kv_type && level->temperature == 0 &&
                   level->max_tokens == XL_CALIBRATED_TOKENS
               ? XL_LEVELS_FIRST
               : XL_LEVELS_FURTHER;
}

static void put_levels(xl_gguf_writer *w, const exitlm_level *levels, size_t n_levels,
                       uint32_t n_heads, exitlm_kv_type kv_type) {
    exitlm_level *rows = xl_calloc(&w->allocator, n_levels, sizeof *rows);
    if (n_levels && !rows) w->keys.failed = true;
    for (int t = 0; t < XL_LEVEL_TABLES; t++) {
        const bool first = t == XL_LEVELS_FIRST;
        size_t n = 0;
        for (size_t i = 0; i < n_levels && rows; i++) {
            rows[n] = levels[i];
            if (rows[n].max_tokens == 0) rows[n].max_tokens = XL_CALIBRATED_TOKENS;
            n += table_of(&rows[n], kv_type) == (xl_level_table)t;
        }
        if (n || first)
            xl_gguf_put_u32(w, first ? "exitlm.levels.count" : "exitlm.further.count", (uint32_t)n);
        for (int c = 0; c < XL_LEVEL_COLUMNS && n; c++)
            if (!first || xl_level_columns[c].where != XL_COLUMN_FURTHER)
                put_column(w, (xl_level_table)t, &xl_level_columns[c], rows, n, n_heads);
    }
    xl_free(&w->allocator, rows, n_levels, sizeof *rows);
}

static void put_text(xl_gguf_writer *w, const char *key, const char *text) {
    xl_gguf_put_cstring(w, key, text ? text : "");
}

static void put_keys(xl_gguf_writer *w, const xl_heads_source *s) {
    uint32_t layers[EXITLM_MAX_HEADS], rows[EXITLM_MAX_HEADS];
    const char *forms[EXITLM_MAX_HEADS];
    float logistic[EXITLM_MAX_HEADS * 6], scale[EXITLM_MAX_HEADS];
    bool scaled = false, several = false;
    for (uint32_t i = 0; i < s->n_heads; i++) {
        several |= i && s->head[i].layer == s->head[i - 1].layer;
        layers[i] = s->head[i].layer;
        rows[i] = s->head[i].form == XL_FORM_FULL ? s->vocab : s->head[i].rows;
        forms[i] = xl_form_names[s->head[i].form];
        memcpy(&logistic[6 * i], s->head[i].logistic, sizeof s->head[i].logistic);
        scale[i] = s->head[i].sampling_scale != 0 ? s->head[i].sampling_scale : 1;
        scaled |= scale[i] != 1;
    }
    put_text(w, "general.architecture", "exitlm");
    put_text(w, "general.license", s->licence);
    xl_gguf_put_u32(w, "exitlm.format_version", several ? 2 : 1);
    put_text(w, "exitlm.engine_version", EXITLM_VERSION);
    put_text(w, "exitlm.base.fingerprint", s->fingerprint);
    put_text(w, "exitlm.base.name", s->base_name);
    xl_gguf_put_u32(w, "exitlm.base.layers", s->n_layers);
    xl_gguf_put_u32(w, "exitlm.base.dim", s->dim);
    xl_gguf_put_u32(w, "exitlm.base.kv_dim", s->kv_dim);
    xl_gguf_put_u32(w, "exitlm.base.vocab", s->vocab);
    xl_gguf_put_array(w, "exitlm.layers", XL_GGUF_U32, layers, s->n_heads);
    xl_gguf_put_strings(w, "exitlm.forms", forms, s->n_heads);
    xl_gguf_put_array(w, "exitlm.rows", XL_GGUF_U32, rows, s->n_heads);
    xl_gguf_put_array(w, "exitlm.shortlist", XL_GGUF_I32, s->shortlist, s->n_shortlist);
    put_text(w, "exitlm.metric", xl_metric_names[s->metric]);
    put_text(w, "exitlm.kv_policy", xl_policy_names[s->kv]);
    put_text(w, "exitlm.kv_type", xl_kv_type_names[s->kv_type]);
    if (xl_metric_weighs(s->metric))
        xl_gguf_put_array(w, "exitlm.logistic", XL_GGUF_F32, logistic, (size_t)s->n_heads * 6);
    if (scaled) xl_gguf_put_array(w, "exitlm.sampling_scale", XL_GGUF_F32, scale, s->n_heads);
    put_text(w, "exitlm.data", s->data);
    put_levels(w, s->levels, s->n_levels, s->n_heads, s->kv_type);
}

/* ---- Tensors ------------------------------------------------------------------------------- */
/* First pass (out NULL): announces; second: appends the bytes. */
typedef struct tensor_writer {
    xl_gguf_writer *w;
    xl_buffer *out;
    xl_type matrix_type;
    uint8_t *row; /* a quantised row */
    bool bad;     /* a value cannot be stored */
} tensor_writer;

static void put_tensor(tensor_writer *t, const char *name, xl_type type, const float *values,
                       uint32_t rows, uint32_t cols) {
    size_t row_bytes;
    if (!values || t->bad) return;
    if (!xl_row_file_bytes(type, cols, &row_bytes)) {
        t->bad = true;
        return;
    }
    if (!t->out) {
        xl_gguf_put_tensor(t->w, name, xl_quant_types[type].ggml_id, rows > 1 ? 2 : 1,
                           (uint64_t[]){cols, rows});
        return;
    }
    for (uint32_t r = 0; r < rows && !t->bad; r++) {
        t->bad = !xl_quantize_row(type, values + (size_t)r * cols, cols, t->row);
        xl_buffer_add(t->out, t->row, row_bytes);
    }
    xl_gguf_writer_data(t->w, t->out, NULL, 0);
}

static void put_maps(tensor_writer *t, const xl_heads_source *s, uint32_t i) {
    const xl_head_source *head = &s->head[i];
    char name[64];
    if (!head->map_k || !head->map_v) return;
    for (uint32_t l = 0; head->layer + l < s->n_layers; l++)
        for (int v = 0; v < 2; v++) {
            const float *const *maps = v ? head->map_v : head->map_k, *const *biases =
                                                                          v ? head->map_v_bias
                                                                            : head->map_k_bias;
            snprintf(name, sizeof name, "exit.%u.kv.%u.%c.weight", i, head->layer + l, "kv"[v]);
            put_tensor(t, name, t->matrix_type, maps[l], s->kv_dim, s->dim);
            snprintf(name, sizeof name, "exit.%u.kv.%u.%c.bias", i, head->layer + l, "kv"[v]);
            if (biases) put_tensor(t, name, XL_F32, biases[l], 1, s->kv_dim);
        }
}

static void put_tensors(tensor_writer *t, const xl_heads_source *s) {
    char name[64];
    for (uint32_t i = 0; i < s->n_heads; i++) {
        const xl_head_source *h = &s->head[i];
#define PUT(suffix, type, values, rows, cols)              \
    do {                                                   \
        snprintf(name, sizeof name, "exit.%u." suffix, i); \
        put_tensor(t, name, type, values, rows, cols);     \
    } while (0)
        PUT("norm.weight", XL_F32, h->norm, 1, s->dim);
        if (h->form == XL_FORM_TIED) PUT("map.weight", t->matrix_type, h->map, s->dim, s->dim);
        if (h->form == XL_FORM_MLP) {
            PUT("up.weight", t->matrix_type, h->up, h->hidden, s->dim);
            PUT("down.weight", t->matrix_type, h->down, s->dim, h->hidden);
        }
        if (h->form == XL_FORM_FULL)
            PUT("output.weight", t->matrix_type, h->output, s->vocab, s->dim);
        PUT("bias", XL_F32, h->bias, 1, h->form == XL_FORM_FULL ? s->vocab : h->rows);
        PUT("other.weight", XL_F32, h->other, 1, s->dim + 1);
#undef PUT
        put_maps(t, s, i);
    }
}

static bool levels_valid(const exitlm_level *levels, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((unsigned)levels[i].strategy >= EXITLM_STRATEGY_COUNT || !is_policy(levels[i].kv) ||
            (unsigned)levels[i].kv_type >= EXITLM_KV_TYPE_COUNT)
            return false;
    return true;
}

static bool source_valid(const xl_heads_source *s) {
    if (!s->fingerprint || strlen(s->fingerprint) != 64 || s->n_heads < 1 ||
        s->n_heads > EXITLM_MAX_HEADS || !s->shortlist)
        return false;
    if ((unsigned)s->metric >= EXITLM_METRIC_COUNT || !is_policy(s->kv) ||
        (unsigned)s->kv_type >= EXITLM_KV_TYPE_COUNT)
        return false;
    if (s->matrix_type != XL_F32 && s->matrix_type != XL_F16 && s->matrix_type != XL_Q8_0)
        return false;
    for (uint32_t i = 0; i < s->n_heads; i++)
        if ((unsigned)s->head[i].form >= XL_FORM_COUNT) return false;
    if (!levels_valid(s->levels, s->n_levels)) return false;
    return s->n_levels <= UINT32_MAX / EXITLM_MAX_HEADS;
}

/* The reader is the judge of what has been written. */
static exitlm_status check_result(const xl_buffer *out, exitlm_error *error) {
    exitlm_heads *heads;
    exitlm_status status =
        exitlm_heads_create(&heads, out->data, out->n_bytes, &out->allocator, error);
    exitlm_heads_free(heads);
    if (status == EXITLM_OK || status == EXITLM_OUT_OF_MEMORY) return status;
    if (error) error->status = EXITLM_USAGE; /* the message says what is wrong with it */
    return EXITLM_USAGE;
}

exitlm_status xl_heads_write(const xl_heads_source *source, xl_buffer *out, exitlm_error *error) {
    if (!source_valid(source))
        return xl_fail(error, EXITLM_USAGE,
                       "exit heads to be written: a size, form or type is out of its range");
    size_t row_bytes = ((size_t)source->dim + 1) * 4;
    for (uint32_t i = 0; i < source->n_heads; i++) {
        const xl_head_source *h = &source->head[i];
        size_t bytes = 4 * (size_t)(h->form == XL_FORM_FULL ? source->vocab
                                    : h->rows > h->hidden   ? h->rows
                                                            : h->hidden);
        if (row_bytes < bytes) row_bytes = bytes;
    }
    if (row_bytes < 4 * (size_t)source->kv_dim) row_bytes = 4 * (size_t)source->kv_dim;
    xl_gguf_writer w;
    xl_gguf_writer_init(&w, &out->allocator);
    tensor_writer t = {.w = &w,
                       .matrix_type = source->matrix_type,
                       .row = xl_calloc(&out->allocator, row_bytes, 1)};
    exitlm_status status =
        t.row ? EXITLM_OK : xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory to write exit heads");
    if (status == EXITLM_OK) {
        put_keys(&w, source);
        put_tensors(&t, source);
        status = xl_gguf_writer_header(&w, out, error);
    }
    if (status == EXITLM_OK) {
        t.out = out;
        put_tensors(&t, source);
        if (t.bad)
            status = xl_fail(
                error, EXITLM_USAGE,
                "exit heads to be written: a weight is not finite or too large for its type");
        else if (out->failed)
            status = xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory to write exit heads");
        else status = check_result(out, error);
    }
    xl_free(&out->allocator, t.row, row_bytes, 1);
    xl_gguf_writer_free(&w);
    return status;
}

/* ---- A copy with changes -------------------------------------------------------------------- */
static const char default_key[] = "exitlm.default_accuracy";

typedef struct change {
    const xl_heads_calibration *calibration; /* NULL: as in the file */
    float default_accuracy;                  /* 0: as in the file */
    bool drop_maps;
} change;

static bool begins(const char *text, size_t n_bytes, const char *with) {
    return n_bytes > strlen(with) && memcmp(text, with, strlen(with)) == 0;
}

static bool is_replaced(const xl_gguf *gguf, const xl_gguf_key *key, const change *change) {
    const char *text = xl_gguf_text(gguf, key->name_offset);
    const xl_heads_calibration *c = change->calibration;
    const char *const names[] = {"exitlm.engine_version",
                                 "exitlm.metric",
                                 "exitlm.kv_policy",
                                 "exitlm.kv_type",
                                 c && c->logistic ? "exitlm.logistic" : "",
                                 c && c->data ? "exitlm.data" : ""};
    if (change->default_accuracy > 0 && key->name_bytes == strlen(default_key) &&
        memcmp(text, default_key, key->name_bytes) == 0)
        return true;
    if (!c) return false;
    if (begins(text, key->name_bytes, "exitlm.levels.") ||
        begins(text, key->name_bytes, "exitlm.further."))
        return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (key->name_bytes == strlen(names[i]) && memcmp(text, names[i], key->name_bytes) == 0)
            return true;
    return false;
}

/* exit.I.kv.… */
static bool is_map(const xl_gguf *gguf, const xl_gguf_tensor *t) {
    const char *name = xl_gguf_text(gguf, t->name_offset);
    size_t i = 5;
    if (t->name_bytes < 10 || memcmp(name, "exit.", 5) != 0) return false;
    while (i < t->name_bytes && name[i] >= '0' && name[i] <= '9') i++;
    return i > 5 && t->name_bytes - i > 4 && memcmp(name + i, ".kv.", 4) == 0;
}

static void put_calibration(xl_gguf_writer *w, const xl_heads_calibration *c, uint32_t n_heads) {
    put_text(w, "exitlm.engine_version", EXITLM_VERSION);
    put_text(w, "exitlm.metric", xl_metric_names[c->metric]);
    put_text(w, "exitlm.kv_policy", xl_policy_names[c->kv]);
    put_text(w, "exitlm.kv_type", xl_kv_type_names[c->kv_type]);
    if (c->logistic)
        xl_gguf_put_array(w, "exitlm.logistic", XL_GGUF_F32, c->logistic, (size_t)n_heads * 6);
    if (c->data) put_text(w, "exitlm.data", c->data);
    put_levels(w, c->levels, c->n_levels, n_heads, c->kv_type);
}

static exitlm_status copy_file(const xl_gguf *gguf, const uint8_t *bytes, const change *change,
                               uint32_t n_heads, xl_buffer *out, exitlm_error *error) {
    xl_gguf_writer w;
    char name[XL_GGUF_MAX_NAME_BYTES + 1];
    xl_gguf_writer_init(&w, &out->allocator);
    w.alignment = gguf->alignment; /* its key is copied */
    for (uint32_t i = 0; i < gguf->n_keys; i++)
        if (!is_replaced(gguf, &gguf->keys[i], change)) xl_gguf_put_copy(&w, gguf, &gguf->keys[i]);
    if (change->default_accuracy > 0) xl_gguf_put_f32(&w, default_key, change->default_accuracy);
    if (change->calibration) put_calibration(&w, change->calibration, n_heads);
    for (uint32_t i = 0; i < gguf->n_tensors; i++) {
        const xl_gguf_tensor *t = &gguf->tensors[gguf->by_offset[i]];
        if (change->drop_maps && is_map(gguf, t)) continue;
        memcpy(name, xl_gguf_text(gguf, t->name_offset), t->name_bytes);
        name[t->name_bytes] = 0;
        xl_gguf_put_tensor(&w, name, t->type, t->n_dims, t->dims);
    }
    exitlm_status status = xl_gguf_writer_header(&w, out, error);
    for (uint32_t i = 0; i < gguf->n_tensors && status == EXITLM_OK; i++) {
        const xl_gguf_tensor *t = &gguf->tensors[gguf->by_offset[i]];
        if (!change->drop_maps || !is_map(gguf, t))
            xl_gguf_writer_data(&w, out, bytes + t->offset, (size_t)t->n_bytes);
    }
    if (status == EXITLM_OK && out->failed)
        status = xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory to write exit heads");
    xl_gguf_writer_free(&w);
    return status;
}

static exitlm_status copy_bytes(const void *bytes, size_t n_bytes, const change *change,
                                uint32_t n_heads, xl_buffer *out, exitlm_error *error) {
    xl_gguf gguf;
    size_t used;
    xl_gguf_init(&gguf, &out->allocator);
    exitlm_status status = xl_gguf_push(&gguf, bytes, n_bytes, &used, error);
    if (status == EXITLM_OK) status = copy_file(&gguf, bytes, change, n_heads, out, error);
    if (status == EXITLM_OK) status = check_result(out, error);
    xl_gguf_free(&gguf);
    return status;
}

exitlm_status xl_heads_rewrite(const void *bytes, size_t n_bytes,
                               const xl_heads_calibration *calibration, xl_buffer *out,
                               exitlm_error *error) {
    const xl_heads_calibration *c = calibration;
    exitlm_heads *heads;
    exitlm_status status = exitlm_heads_create(&heads, bytes, n_bytes, &out->allocator, error);
    if (status != EXITLM_OK) return status; /* so every tensor's bytes are there */
    bool valid = (unsigned)c->metric < EXITLM_METRIC_COUNT && is_policy(c->kv) &&
                 (unsigned)c->kv_type < EXITLM_KV_TYPE_COUNT &&
                 c->n_levels <= UINT32_MAX / EXITLM_MAX_HEADS;
    valid = valid && levels_valid(c->levels, c->n_levels);
    if (!valid)
        status = xl_fail(
            error, EXITLM_USAGE,
            "exit heads to be calibrated: a metric, policy or strategy is out of its range");
    if (status == EXITLM_OK)
        status = copy_bytes(bytes, n_bytes, &(change){c, 0, false}, heads->n_heads, out, error);
    exitlm_heads_free(heads);
    return status;
}

exitlm_status xl_heads_with_default(const void *bytes, size_t n_bytes, float accuracy,
                                    xl_buffer *out, exitlm_error *error) {
    exitlm_heads *heads;
    bool certified = false;
    exitlm_status status = exitlm_heads_create(&heads, bytes, n_bytes, &out->allocator, error);
    if (status != EXITLM_OK) return status;
    for (size_t i = 0; i < heads->n_levels; i++) {
        const exitlm_level *level = &heads->levels[i];
        certified |= level->strategy == EXITLM_STRATEGY_RISK && level->certified &&
                     level->accuracy - accuracy < 1e-6f && accuracy - level->accuracy < 1e-6f;
    }
    if (!certified)
        status = xl_fail(error, EXITLM_USAGE, "%g is no certified level of these exit heads",
                         (double)accuracy);
    if (status == EXITLM_OK)
        status = copy_bytes(bytes, n_bytes, &(change){NULL, accuracy, false}, heads->n_heads, out,
                            error);
    exitlm_heads_free(heads);
    return status;
}

exitlm_status xl_heads_without_maps(const void *bytes, size_t n_bytes, xl_buffer *out,
                                    exitlm_error *error) {
    exitlm_heads *heads;
    exitlm_status status = exitlm_heads_create(&heads, bytes, n_bytes, &out->allocator, error);
    if (status == EXITLM_OK)
        status = copy_bytes(bytes, n_bytes, &(change){NULL, 0, true}, heads->n_heads, out, error);
    exitlm_heads_free(heads);
    return status;
}
