/* Reads a heads file. Two passes over the same list of tensors (read_tensors): the first measures,
 * the second takes memory from one arena and fills it. */
#include "heads.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *const xl_form_names[XL_FORM_COUNT] = {"tied", "mlp", "full", "lens", "vocabulary"};

#define X(name, text) text,
const char *const xl_metric_names[] = {EXITLM_METRIC_LIST(X) NULL};
const char *const xl_policy_names[] = {EXITLM_KV_POLICY_LIST(X) NULL};
const char *const xl_kv_type_names[] = {EXITLM_KV_TYPE_LIST(X) NULL};
const char *const xl_strategy_names[] = {EXITLM_STRATEGY_LIST(X) NULL};
#undef X

#define MAX_LEVELS 4096u
#define MAX_LAYERS 1024u

typedef struct reader {
    const uint8_t *bytes;
    size_t n_bytes;
    xl_gguf gguf;
    uint8_t *seen; /* [n_tensors] */
    exitlm_heads *h;
    xl_arena arena; /* base NULL: measuring */
    exitlm_status status;
    exitlm_error *error;
} reader;

typedef struct arena_owner { /* first piece of the arena */
    size_t n_bytes;
} arena_owner;

static bool fail(reader *r, const char *key, const char *what) {
    const xl_gguf_key *found = xl_gguf_find(&r->gguf, key);
    if (found)
        r->status = xl_fail(r->error, EXITLM_BAD_MODEL, "exit heads: key %s at offset %u %s", key,
                            found->name_offset, what);
    else r->status = xl_fail(r->error, EXITLM_BAD_MODEL, "exit heads: key %s is missing", key);
    return false;
}

/* ---- Keys ------------------------------------------------------------------------------ */
static bool read_u32(reader *r, const char *key, uint32_t low, uint32_t high, uint32_t *value) {
    if (xl_gguf_get_u32(&r->gguf, key, value) && *value >= low && *value <= high) return true;
    return fail(r, key, "is no integer in its range");
}

static bool text_is(const char *text, size_t n, const char *name) {
    return strlen(name) == n && memcmp(name, text, n) == 0;
}

/* Index of a text in a list that ends with NULL, or -1. */
static int find_name(const char *text, size_t n, const char *const *names) {
    for (int i = 0; names[i]; i++)
        if (text_is(text, n, names[i])) return i;
    return -1;
}

static bool read_name(reader *r, const char *key, const char *const *names, int *value) {
    const char *text;
    size_t n;
    *value = 0;
    if (!xl_gguf_get_string(&r->gguf, key, &text, &n)) return fail(r, key, "is no string");
    *value = find_name(text, n, names);
    return *value >= 0 || fail(r, key, "names nothing that this version knows");
}

/* An array of exactly `n` items. */
static bool read_array(reader *r, const char *key, xl_gguf_type type, uint64_t n,
                       xl_gguf_array *array) {
    if (!xl_gguf_find(&r->gguf, key)) return fail(r, key, "");
    if (!xl_gguf_get_array(&r->gguf, key, array)) return fail(r, key, "is no array");
    bool integers = type == XL_GGUF_U32 && array->item_type == XL_GGUF_I32;
    if (array->item_type != type && !integers) return fail(r, key, "is an array of the wrong type");
    return array->n == n || fail(r, key, "has the wrong number of items");
}

/* A NUL-terminated copy; "" where the key is missing. */
static const char *copy_text(reader *r, const char *key) {
    const char *text = "";
    size_t n = 0;
    xl_gguf_get_string(&r->gguf, key, &text, &n);
    char *copy = xl_arena_take(&r->arena, n + 1, 1);
    if (copy && n) memcpy(copy, text, n);
    if (copy) copy[n] = 0;
    return copy;
}

static bool read_fingerprint(reader *r) {
    const char *key = "exitlm.base.fingerprint", *text;
    size_t n;
    if (!xl_gguf_get_string(&r->gguf, key, &text, &n) || n != 64)
        return fail(r, key, "is no string of 64 hexadecimal digits");
    for (size_t i = 0; i < n; i++)
        if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f')))
            return fail(r, key, "is no string of 64 hexadecimal digits");
    memcpy(r->h->fingerprint, text, 64);
    return true;
}

static bool read_chain(reader *r, uint32_t version) {
    exitlm_heads *h = r->h;
    xl_gguf_array layers, forms, rows;
    if (!xl_gguf_get_array(&r->gguf, "exitlm.layers", &layers))
        return fail(r, "exitlm.layers", "is no array");
    if (layers.n < 1 || layers.n > EXITLM_MAX_HEADS)
        return fail(r, "exitlm.layers", "must have 1 to 8 heads");
    h->n_heads = layers.n;
    if (!read_array(r, "exitlm.layers", XL_GGUF_U32, h->n_heads, &layers) ||
        !read_array(r, "exitlm.forms", XL_GGUF_STRING, h->n_heads, &forms) ||
        !read_array(r, "exitlm.rows", XL_GGUF_U32, h->n_heads, &rows))
        return false;
    size_t cursor = 0, n;
    for (uint32_t i = 0; i < h->n_heads; i++) {
        const char *text = xl_gguf_array_next(&forms, &cursor, &n);
        int form = -1;
        for (int f = 0; f < XL_FORM_COUNT; f++)
            if (text_is(text, n, xl_form_names[f])) form = f;
        if (form < 0)
            return fail(r, "exitlm.forms", "names a form that this version does not know");
        int64_t layer = xl_gguf_array_int(&layers, i), n_rows = xl_gguf_array_int(&rows, i);
        const bool longer_list = version > 1 && i && form == XL_FORM_VOCABULARY &&
                                 h->head[i - 1].form == XL_FORM_VOCABULARY &&
                                 n_rows > h->head[i - 1].rows;
        if (layer < 1 || layer > h->n_layers ||
            (i && layer <= h->head[i - 1].layer && !longer_list))
            return fail(r, "exitlm.layers",
                        "must be ascending, within the model's layers; only vocabulary exits "
                        "may share one, with more rows each");
        if (form == XL_FORM_FULL) n_rows = h->vocab;
        else if (n_rows < 1 || n_rows > h->n_shortlist)
            return fail(r, "exitlm.rows", "must be within the shortlist");
        if (form == XL_FORM_VOCABULARY && layer != h->n_layers)
            return fail(r, "exitlm.forms", "has a vocabulary exit before the last layer");
        h->head[i].layer = (uint32_t)layer;
        h->head[i].form = (xl_head_form)form;
        h->head[i].rows = (uint32_t)n_rows;
    }
    return true;
}

static bool read_logistic(reader *r) {
    exitlm_heads *h = r->h;
    xl_gguf_array array;
    if (!xl_metric_weighs(h->metric) && !xl_gguf_find(&r->gguf, "exitlm.logistic")) return true;
    if (!read_array(r, "exitlm.logistic", XL_GGUF_F32, h->n_heads * 6, &array)) return false;
    for (uint32_t i = 0; i < h->n_heads * 6; i++) {
        float w = (float)xl_gguf_array_float(&array, i);
        if (!isfinite(w)) return fail(r, "exitlm.logistic", "has a number that is not finite");
        h->head[i / 6].logistic[i % 6] = w;
    }
    return true;
}

static bool read_scales(reader *r) {
    exitlm_heads *h = r->h;
    xl_gguf_array array;
    for (uint32_t i = 0; i < h->n_heads; i++) h->head[i].sampling_scale = 1;
    if (!xl_gguf_find(&r->gguf, "exitlm.sampling_scale")) return true;
    if (!read_array(r, "exitlm.sampling_scale", XL_GGUF_F32, h->n_heads, &array)) return false;
    for (uint32_t i = 0; i < h->n_heads; i++) {
        h->head[i].sampling_scale = (float)xl_gguf_array_float(&array, i);
        if (!(h->head[i].sampling_scale > 0 && h->head[i].sampling_scale <= 1))
            return fail(r, "exitlm.sampling_scale",
                        "has a number that is not above 0 and at most 1");
    }
    return true;
}

/* A file without the key is one from before there was one, or of heads whose tasks nobody has
 * measured. */
static bool read_default(reader *r) {
    const char *key = "exitlm.default_accuracy";
    if (!xl_gguf_find(&r->gguf, key)) return true;
    if (xl_gguf_get_f32(&r->gguf, key, &r->h->default_accuracy) && r->h->default_accuracy >= 0.5f &&
        r->h->default_accuracy <= 1)
        return true;
    return fail(r, key, "is no number from 0.5 to 1");
}

static bool read_keys(reader *r) {
    exitlm_heads *h = r->h;
    uint32_t version;
    int metric, kv, kv_type;
    if (!xl_gguf_is(&r->gguf, "general.architecture", "exitlm")) {
        r->status =
            xl_fail(r->error, EXITLM_BAD_MODEL,
                    "this is no file of exit heads: general.architecture is not \"exitlm\"");
        return false;
    }
    if (!xl_gguf_get_u32(&r->gguf, "exitlm.format_version", &version))
        return fail(r, "exitlm.format_version", "is no integer");
    if (version < 1 || version > XL_HEADS_VERSION) {
        r->status = xl_fail(r->error, EXITLM_UNSUPPORTED,
                            "exit heads of format version %u: this program knows versions 1 to %d",
                            version, XL_HEADS_VERSION);
        return false;
    }
    xl_gguf_array shortlist;
    if (!read_fingerprint(r) || !read_u32(r, "exitlm.base.layers", 1, MAX_LAYERS, &h->n_layers) ||
        !read_u32(r, "exitlm.base.dim", 32, 65536, &h->dim) ||
        !read_u32(r, "exitlm.base.kv_dim", 8, 65536, &h->kv_dim) ||
        !read_u32(r, "exitlm.base.vocab", 1, 1u << 22, &h->vocab) ||
        !read_name(r, "exitlm.metric", xl_metric_names, &metric) ||
        !read_name(r, "exitlm.kv_policy", xl_policy_names, &kv) ||
        !read_name(r, "exitlm.kv_type", xl_kv_type_names, &kv_type))
        return false;
    if (kv == EXITLM_POLICY_AUTO) return fail(r, "exitlm.kv_policy", "must name a policy");
    if (h->dim % 32) return fail(r, "exitlm.base.dim", "is no multiple of 32");
    h->metric = (exitlm_metric)metric;
    h->kv = (exitlm_kv_policy)kv;
    h->kv_type = (exitlm_kv_type)kv_type;
    if (!xl_gguf_get_array(&r->gguf, "exitlm.shortlist", &shortlist) ||
        shortlist.item_type != XL_GGUF_I32)
        return fail(r, "exitlm.shortlist", "is no array of i32");
    if (shortlist.n < 1 || shortlist.n > h->vocab)
        return fail(r, "exitlm.shortlist", "must have 1 to `vocab` tokens");
    h->n_shortlist = shortlist.n;
    return read_chain(r, version) && read_logistic(r) && read_scales(r) && read_default(r);
}

/* ---- Tensors ----------------------------------------------------------------------------- */
/* The tensor with this shape, its bytes checked. NULL: none (an error where `required`). */
static const xl_gguf_tensor *find_tensor(reader *r, const char *name, uint32_t rows, uint32_t cols,
                                         bool required) {
    if (r->status != EXITLM_OK) return NULL;
    const xl_gguf_tensor *t = xl_gguf_find_tensor(&r->gguf, name);
    if (!t) {
        if (required)
            r->status =
                xl_fail(r->error, EXITLM_BAD_MODEL, "exit heads: tensor %s is missing", name);
        return NULL;
    }
    r->seen[t - r->gguf.tensors] = 1;
    if (t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != 1 || t->dims[3] != 1)
        r->status =
            xl_fail(r->error, EXITLM_BAD_MODEL,
                    "exit heads: tensor %s has the shape [%llu, %llu] instead of [%u, %u]", name,
                    (unsigned long long)t->dims[0], (unsigned long long)t->dims[1], cols, rows);
    else if (t->offset > r->n_bytes || t->n_bytes > r->n_bytes - t->offset)
        r->status = xl_fail(r->error, EXITLM_BAD_MODEL,
                            "exit heads: truncated: tensor %s needs %llu bytes at offset %llu, the "
                            "file ends at %zu",
                            name, (unsigned long long)t->n_bytes, (unsigned long long)t->offset,
                            r->n_bytes);
    return r->status == EXITLM_OK ? t : NULL;
}

static void bad_type(reader *r, const char *name, const xl_gguf_tensor *t, const char *allowed) {
    r->status = xl_fail(r->error, EXITLM_UNSUPPORTED,
                        "exit heads: tensor %s has weights of type %s; %s expected", name,
                        xl_gguf_tensor_type_name(t->type), allowed);
}

static void not_finite(reader *r, const char *name, const xl_gguf_tensor *t) {
    r->status = xl_fail(r->error, EXITLM_BAD_MODEL,
                        "exit heads: tensor %s at offset %llu has a number that is not finite",
                        name, (unsigned long long)t->offset);
}

static const float *read_vector(reader *r, const char *name, uint32_t n, bool required) {
    const xl_gguf_tensor *t = find_tensor(r, name, 1, n, required);
    if (!t) return NULL;
    if (t->type != xl_quant_types[XL_F32].ggml_id) {
        bad_type(r, name, t, "F32 is");
        return NULL;
    }
    float *out = xl_arena_take(&r->arena, n, sizeof *out);
    if (!out) return NULL;
    for (uint32_t i = 0; i < n; i++) {
        xl_dequant_block(XL_F32, r->bytes + t->offset + 4 * (size_t)i, &out[i]);
        if (!isfinite(out[i])) {
            not_finite(r, name, t);
            return NULL;
        }
    }
    return out;
}

static xl_matrix read_matrix(reader *r, const char *name, uint32_t rows, uint32_t cols,
                             bool required) {
    xl_matrix none = {0}, m = {.rows = rows, .cols = cols};
    const xl_gguf_tensor *t = find_tensor(r, name, rows, cols, required);
    size_t bytes, row_bytes;
    if (!t) return none;
    m.type = xl_type_from_ggml(t->type);
    if (m.type != XL_F32 && m.type != XL_F16 && m.type != XL_Q8_0)
        return bad_type(r, name, t, "F32, F16 or Q8_0 are"), none;
    if (!xl_matrix_bytes(m.type, rows, cols, &bytes) ||
        !xl_row_file_bytes(m.type, cols, &row_bytes)) {
        r->status = xl_fail(r->error, EXITLM_BAD_MODEL,
                            "exit heads: tensor %s has an impossible size", name);
        return none;
    }
    uint8_t *data = xl_arena_take(&r->arena, bytes, 1);
    if (!data) return none;
    xl_clear_last_tile(m.type, data, rows, cols);
    for (uint32_t row = 0; row < rows; row++)
        if (!xl_repack_blocks(m.type, data, cols, row, 0, cols / xl_quant_types[m.type].block_elems,
                              r->bytes + t->offset + row * row_bytes))
            return not_finite(r, name, t), none;
    m.data = data;
    return m;
}

static void read_maps(reader *r, uint32_t i, xl_head *head) {
    char name[64];
    uint32_t n = r->h->n_layers - head->layer;
    snprintf(name, sizeof name, "exit.%u.kv.%u.k.weight", i, head->layer);
    if (n == 0 || !xl_gguf_find_tensor(&r->gguf, name)) return;
    xl_matrix *maps[2];
    const float **biases[2];
    for (int v = 0; v < 2; v++) {
        maps[v] = xl_arena_take(&r->arena, n, sizeof **maps);
        biases[v] = xl_arena_take(&r->arena, n, sizeof **biases);
    }
    for (uint32_t l = 0; l < n; l++)
        for (int v = 0; v < 2; v++) {
            snprintf(name, sizeof name, "exit.%u.kv.%u.%c.weight", i, head->layer + l, "kv"[v]);
            xl_matrix map = read_matrix(r, name, r->h->kv_dim, r->h->dim, true);
            snprintf(name, sizeof name, "exit.%u.kv.%u.%c.bias", i, head->layer + l, "kv"[v]);
            const float *bias = read_vector(r, name, r->h->kv_dim, false);
            if (maps[v]) maps[v][l] = map;
            if (biases[v]) biases[v][l] = bias;
        }
    head->map_k = maps[0];
    head->map_v = maps[1];
    head->map_k_bias = biases[0];
    head->map_v_bias = biases[1];
}

static void read_mlp(reader *r, uint32_t i, xl_head *head) {
    char name[64];
    snprintf(name, sizeof name, "exit.%u.up.weight", i);
    const xl_gguf_tensor *up = xl_gguf_find_tensor(&r->gguf, name);
    uint32_t hidden = up && up->dims[1] <= 65536 ? (uint32_t)up->dims[1] : 0;
    if (up && (hidden == 0 || hidden % 32) && r->status == EXITLM_OK)
        r->status = xl_fail(
            r->error, EXITLM_BAD_MODEL,
            "exit heads: tensor %s: the hidden size must be a multiple of 32, at most 65536", name);
    head->up = read_matrix(r, name, hidden, r->h->dim, true);
    snprintf(name, sizeof name, "exit.%u.down.weight", i);
    head->down = read_matrix(r, name, r->h->dim, hidden, true);
}

static void read_head(reader *r, uint32_t i) {
    exitlm_heads *h = r->h;
    xl_head *head = &h->head[i];
    char name[64];
    snprintf(name, sizeof name, "exit.%u.norm.weight", i);
    head->norm = read_vector(r, name, h->dim, false);
    snprintf(name, sizeof name, "exit.%u.map.weight", i);
    if (head->form == XL_FORM_TIED) head->map = read_matrix(r, name, h->dim, h->dim, true);
    if (head->form == XL_FORM_MLP) read_mlp(r, i, head);
    snprintf(name, sizeof name, "exit.%u.output.weight", i);
    if (head->form == XL_FORM_FULL) head->output = read_matrix(r, name, h->vocab, h->dim, true);
    snprintf(name, sizeof name, "exit.%u.bias", i);
    head->bias = read_vector(r, name, head->rows, false);
    snprintf(name, sizeof name, "exit.%u.other.weight", i);
    head->other = read_vector(r, name, h->dim + 1, false);
    read_maps(r, i, head);
}

static bool read_tensors(reader *r) {
    for (uint32_t i = 0; i < r->h->n_heads && r->status == EXITLM_OK; i++) read_head(r, i);
    for (uint32_t i = 0; i < r->gguf.n_tensors && r->status == EXITLM_OK; i++)
        if (!r->seen[i])
            r->status =
                xl_fail(r->error, EXITLM_BAD_MODEL,
                        "exit heads: tensor %.*s at offset %u belongs to no head of the file",
                        XL_TEXT(xl_gguf_text(&r->gguf, r->gguf.tensors[i].name_offset),
                                r->gguf.tensors[i].name_bytes),
                        r->gguf.tensors[i].entry_offset);
    return r->status == EXITLM_OK;
}

/* ---- Shortlist and levels ------------------------------------------------------------------ */
/* `used` [vocab] zeroed. */
static bool read_shortlist(reader *r, uint8_t *used) {
    exitlm_heads *h = r->h;
    xl_gguf_array array;
    int32_t *ids = xl_arena_take(&r->arena, h->n_shortlist, sizeof *ids);
    if (!ids) return true;
    xl_gguf_get_array(&r->gguf, "exitlm.shortlist", &array);
    for (uint32_t i = 0; i < h->n_shortlist; i++) {
        int64_t id = xl_gguf_array_int(&array, i);
        if (id < 0 || id >= h->vocab)
            return fail(r, "exitlm.shortlist", "has an id that the model does not have");
        if (used[id]) return fail(r, "exitlm.shortlist", "has an id twice");
        used[id] = 1;
        ids[i] = (int32_t)id;
    }
    h->shortlist = ids;
    return true;
}

const char *xl_level_key_of(xl_level_key key, xl_level_table table, const xl_level_column *column) {
    static const char *const tables[XL_LEVEL_TABLES] = {"exitlm.levels.", "exitlm.further."};
    snprintf(key, sizeof(xl_level_key), "%s%s", tables[table], column->key);
    return key;
}

#define COLUMN(key, field, kind, where, by_head, most, names) \
    {key, offsetof(exitlm_level, field), XL_COLUMN_##kind, XL_COLUMN_##where, by_head, most, names}
#define NUMBER(field, kind, where) COLUMN(#field, field, kind, where, false, 1, NULL)
#define BY_HEAD(field, most) COLUMN(#field, field, FLOAT, NEEDED, true, most, NULL)
#define NAME(key, field, where, names) COLUMN(key, field, NAME, where, false, 0, names)
const xl_level_column xl_level_columns[XL_LEVEL_COLUMNS] = {
    NAME("strategy", strategy, NEEDED, xl_strategy_names),
    NAME("kv_policy", kv, OPTIONAL, xl_policy_names),
    NUMBER(accuracy, FLOAT, NEEDED),
    NUMBER(certified, BOOL, NEEDED),
    NUMBER(delta, FLOAT, NEEDED),
    NUMBER(bound, FLOAT, NEEDED),
    BY_HEAD(threshold, 2),
    COLUMN("first_threshold", first_threshold, FLOAT, OPTIONAL, false, 2, NULL),
    BY_HEAD(coverage, 1),
    NUMBER(agreement, FLOAT, NEEDED),
    NUMBER(agreement_exited, FLOAT, NEEDED),
    NUMBER(conversations, U32, NEEDED),
    NUMBER(tokens, U32, NEEDED),
    NUMBER(regret, FLOAT, OPTIONAL),
    NUMBER(regret_bound, FLOAT, OPTIONAL),
    NUMBER(unwanted, FLOAT, OPTIONAL),
    NAME("kv_type", kv_type, FURTHER, xl_kv_type_names),
    COLUMN("temperature", temperature, FLOAT, FURTHER, false, 2, NULL),
    NUMBER(max_tokens, U32, FURTHER),
};
#undef COLUMN
#undef NUMBER
#undef BY_HEAD
#undef NAME

/* A name's value; the enums of a level are as large as an int. */
_Static_assert(sizeof(exitlm_strategy) == sizeof(int) && sizeof(exitlm_kv_policy) == sizeof(int) &&
                   sizeof(exitlm_kv_type) == sizeof(int),
               "names of a level are read as int");

static bool read_item(reader *r, const xl_level_column *c, const char *key,
                      const xl_gguf_array *array, uint32_t i, size_t *cursor, void *field) {
    if (c->kind == XL_COLUMN_FLOAT) {
        const float value = (float)xl_gguf_array_float(array, i);
        if (!(value >= 0 && value <= c->most))
            return fail(r, key,
                        c->most == 1 ? "has a number that is not between 0 and 1"
                                     : "has a number that is not between 0 and 2");
        *(float *)field = value;
    } else if (c->kind == XL_COLUMN_BOOL) {
        *(bool *)field = xl_gguf_array_int(array, i) != 0;
    } else if (c->kind == XL_COLUMN_U32) {
        *(uint32_t *)field = (uint32_t)xl_gguf_array_int(array, i);
    } else {
        size_t n_bytes;
        const char *text = xl_gguf_array_next(array, cursor, &n_bytes);
        const int value = find_name(text, n_bytes, c->names);
        if (value < 0 || (c->names == xl_policy_names && value == EXITLM_POLICY_AUTO))
            return fail(r, key, "has a name that this version does not know");
        memcpy(field, &value, sizeof value);
    }
    return true;
}

static bool read_column(reader *r, xl_level_table table, const xl_level_column *c,
                        exitlm_level *levels, uint32_t n_levels) {
    static const xl_gguf_type types[] = {[XL_COLUMN_FLOAT] = XL_GGUF_F32,
                                         [XL_COLUMN_BOOL] = XL_GGUF_U32,
                                         [XL_COLUMN_U32] = XL_GGUF_U32,
                                         [XL_COLUMN_NAME] = XL_GGUF_STRING};
    const uint32_t n = c->by_head ? r->h->n_heads : 1;
    const size_t item_bytes = c->kind == XL_COLUMN_BOOL ? sizeof(bool) : sizeof(float);
    xl_gguf_array array;
    size_t cursor = 0;
    xl_level_key key;
    xl_level_key_of(key, table, c);
    if (c->where == XL_COLUMN_FURTHER && table == XL_LEVELS_FIRST) return true;
    if (c->where == XL_COLUMN_OPTIONAL && !xl_gguf_find(&r->gguf, key)) return true;
    if (!read_array(r, key, types[c->kind], (uint64_t)n_levels * n, &array)) return false;
    for (uint32_t i = 0; i < array.n; i++)
        if (!read_item(r, c, key, &array, i, &cursor,
                       (char *)&levels[i / n] + c->offset + i % n * item_bytes))
            return false;
    return true;
}

static bool read_table(reader *r, xl_level_table table, exitlm_level *levels, uint32_t n) {
    const exitlm_heads *h = r->h;
    for (uint32_t i = 0; i < n; i++)
        levels[i] = (exitlm_level){.kv = h->kv,
                                   .regret = 1,
                                   .regret_bound = 1,
                                   .unwanted = 1,
                                   .kv_type = h->kv_type,
                                   .max_tokens = XL_CALIBRATED_TOKENS};
    for (int c = 0; c < XL_LEVEL_COLUMNS && n; c++)
        if (!read_column(r, table, &xl_level_columns[c], levels, n)) return false;
    return true;
}

static bool read_levels(reader *r) {
    static const char *const counts[XL_LEVEL_TABLES] = {"exitlm.levels.count",
                                                        "exitlm.further.count"};
    uint32_t n[XL_LEVEL_TABLES] = {0};
    for (int t = 0; t < XL_LEVEL_TABLES; t++)
        if (xl_gguf_find(&r->gguf, counts[t]) && !read_u32(r, counts[t], 0, MAX_LEVELS, &n[t]))
            return false;
    r->h->n_levels = (size_t)n[0] + n[1];
    if (r->h->n_levels == 0) return true; /* not calibrated yet */
    exitlm_level *levels = r->h->levels = xl_arena_take(&r->arena, r->h->n_levels, sizeof *levels);
    return !levels || (read_table(r, XL_LEVELS_FIRST, levels, n[0]) &&
                       read_table(r, XL_LEVELS_FURTHER, levels + n[0], n[1]));
}

/* ---- All of it ------------------------------------------------------------------------------ */
static uint64_t matrix_macs(const xl_matrix *w) { return (uint64_t)w->rows * w->cols; }

uint64_t xl_head_macs(const exitlm_heads *heads, const xl_head *head) {
    return (uint64_t)head->rows * heads->dim + matrix_macs(&head->map) + matrix_macs(&head->up) +
           matrix_macs(&head->down) + (head->other ? heads->dim : 0);
}

static void fill_info(reader *r, const char *texts[3]) {
    exitlm_heads *h = r->h;
    const float strictest = xl_heads_strictest(h, EXITLM_STRATEGY_RISK, EXITLM_POLICY_AUTO);
    h->info = (exitlm_heads_info){.n_heads = h->n_heads,
                                  .metric = h->metric,
                                  .kv = h->kv,
                                  .kv_type = h->kv_type,
                                  .default_accuracy = h->default_accuracy > 0 ? h->default_accuracy
                                                      : strictest > 0         ? strictest
                                                                              : 1,
                                  .fingerprint = h->fingerprint,
                                  .licence = texts[0],
                                  .data = texts[1],
                                  .engine_version = texts[2]};
    for (uint32_t i = 0; i < h->n_heads; i++)
        h->info.head[i] = (exitlm_head_info){.layer = h->head[i].layer,
                                             .rows = h->head[i].rows,
                                             .form = xl_form_names[h->head[i].form],
                                             .macs = xl_head_macs(h, &h->head[i])};
}

/* Measures, or takes and fills. */
static bool read_content(reader *r, uint8_t *used) {
    arena_owner *owner = xl_arena_take(&r->arena, 1, sizeof *owner);
    const char *texts[3] = {copy_text(r, "general.license"), copy_text(r, "exitlm.data"),
                            copy_text(r, "exitlm.engine_version")};
    if (!read_shortlist(r, used) || !read_levels(r) || !read_tensors(r)) return false;
    if (owner) fill_info(r, texts);
    return true;
}

static exitlm_status read_file(reader *r, uint8_t **used) {
    exitlm_heads *h = r->h;
    size_t taken;
    exitlm_status status = xl_gguf_push(&r->gguf, r->bytes, r->n_bytes, &taken, r->error);
    if (status != EXITLM_OK) return status;
    if (!r->gguf.done) return xl_gguf_truncated(&r->gguf, r->error);
    if (!read_keys(r)) return r->status;
    *used = xl_calloc(&h->allocator, h->vocab, 1);
    r->seen = xl_calloc(&h->allocator, r->gguf.n_tensors, 1);
    if (!*used || !r->seen)
        return xl_fail(r->error, EXITLM_OUT_OF_MEMORY, "no memory for the exit heads");
    if (!read_content(r, *used)) return r->status;
    if (r->arena.overflow)
        return xl_fail(r->error, EXITLM_OUT_OF_MEMORY,
                       "the exit heads do not fit in the address space");
    size_t n_bytes = r->arena.used_bytes;
    uint8_t *memory = h->allocator.alloc(h->allocator.user, n_bytes, XL_ALIGN);
    if (!memory)
        return xl_fail(r->error, EXITLM_OUT_OF_MEMORY, "no memory for the exit heads: %zu bytes",
                       n_bytes);
    ((arena_owner *)memory)->n_bytes = n_bytes;
    h->owner = memory;
    r->arena = (xl_arena){.base = memory, .capacity_bytes = n_bytes};
    read_content(r, *used);
    return r->status;
}

exitlm_status exitlm_heads_create(exitlm_heads **heads, const void *bytes, size_t n_bytes,
                                  const exitlm_allocator *allocator, exitlm_error *error) {
    if (!heads || (!bytes && n_bytes))
        return xl_fail(error, EXITLM_USAGE, "exitlm_heads_create: an argument is NULL");
    *heads = NULL;
    exitlm_allocator a = xl_allocator_or_default(allocator);
    exitlm_heads *h = xl_calloc(&a, 1, sizeof *h);
    if (!h) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for the exit heads");
    h->allocator = a;
    reader r = {.bytes = bytes, .n_bytes = n_bytes, .h = h, .error = error};
    uint8_t *used = NULL;
    xl_gguf_init(&r.gguf, &a);
    exitlm_status status = read_file(&r, &used);
    xl_free(&a, used, h->vocab, 1);
    xl_free(&a, r.seen, r.gguf.n_tensors, 1);
    xl_gguf_free(&r.gguf);
    if (status != EXITLM_OK) exitlm_heads_free(h);
    else *heads = h;
    return status;
}

static bool same_heads(const exitlm_heads *a, const exitlm_heads *b) {
    if (a->n_heads != b->n_heads || a->n_layers != b->n_layers || a->dim != b->dim ||
        a->kv_dim != b->kv_dim || a->n_shortlist != b->n_shortlist || a->n_levels != b->n_levels ||
        strcmp(a->fingerprint, b->fingerprint) != 0)
        return false;
    for (uint32_t i = 0; i < a->n_heads; i++)
        if (a->head[i].layer != b->head[i].layer || a->head[i].form != b->head[i].form ||
            a->head[i].rows != b->head[i].rows)
            return false;
    for (size_t i = 0; i < a->n_levels; i++)
        if (memcmp(a->levels[i].threshold, b->levels[i].threshold, sizeof a->levels[i].threshold) !=
                0 ||
            a->levels[i].first_threshold != b->levels[i].first_threshold)
            return false;
    return memcmp(a->shortlist, b->shortlist, a->n_shortlist * sizeof *a->shortlist) == 0;
}

exitlm_status exitlm_heads_add_maps(exitlm_heads *heads, const void *bytes, size_t n_bytes,
                                    exitlm_error *error) {
    exitlm_heads *whole;
    if (!heads) return xl_fail(error, EXITLM_USAGE, "exitlm_heads_add_maps: an argument is NULL");
    if (exitlm_heads_have_maps(heads)) return EXITLM_OK;
    exitlm_status status = exitlm_heads_create(&whole, bytes, n_bytes, &heads->allocator, error);
    if (status != EXITLM_OK) return status;
    if (!same_heads(heads, whole))
        status =
            xl_fail(error, EXITLM_HEADS_MISMATCH,
                    "these K/V maps are of other exit heads: load the heads file that they lie in");
    else if (!exitlm_heads_have_maps(whole))
        status = xl_fail(error, EXITLM_USAGE, "this heads file has no K/V maps to add");
    if (status != EXITLM_OK) {
        exitlm_heads_free(whole);
        return status;
    }
    for (uint32_t i = 0; i < heads->n_heads; i++) {
        xl_head *to = &heads->head[i];
        const xl_head *from = &whole->head[i];
        to->map_k = from->map_k;
        to->map_v = from->map_v;
        to->map_k_bias = from->map_k_bias;
        to->map_v_bias = from->map_v_bias;
    }
    heads->maps = whole;
    return EXITLM_OK;
}

void exitlm_heads_free(exitlm_heads *heads) {
    if (!heads) return;
    exitlm_heads_free(heads->maps);
    exitlm_allocator allocator = heads->allocator;
    if (heads->owner) xl_free(&allocator, heads->owner, ((arena_owner *)heads->owner)->n_bytes, 1);
    xl_free(&allocator, heads, 1, sizeof *heads);
}

void exitlm_heads_describe(const exitlm_heads *heads, exitlm_heads_info *info) {
    if (info)
        *info = heads ? heads->info
                      : (exitlm_heads_info){
                            .fingerprint = "", .licence = "", .data = "", .engine_version = ""};
}

size_t exitlm_heads_levels(const exitlm_heads *heads) { return heads ? heads->n_levels : 0; }

exitlm_status exitlm_heads_level(const exitlm_heads *heads, size_t index, exitlm_level *level,
                                 exitlm_error *error) {
    if (!heads || !level || index >= heads->n_levels)
        return xl_fail(error, EXITLM_USAGE, "exitlm_heads_level: there is no level %zu", index);
    *level = heads->levels[index];
    return EXITLM_OK;
}

exitlm_status xl_heads_check(const exitlm_heads *heads, const exitlm_model *m,
                             exitlm_error *error) {
    const xl_config *c = &m->config;
    if (heads->dim == c->dim && heads->n_layers == c->n_layers && heads->vocab == c->vocab &&
        heads->kv_dim == c->kv_dim &&
        (!m->fingerprint[0] || strcmp(m->fingerprint, heads->fingerprint) == 0))
        return EXITLM_OK;
    return xl_fail(error, EXITLM_HEADS_MISMATCH,
                   "these exit heads belong to another model: they were trained on fingerprint "
                   "%.16s…, this model has %.16s…; use its own "
                   "heads file, or train one with exitlm train",
                   heads->fingerprint, m->fingerprint[0] ? m->fingerprint : "(not known yet)");
}

unsigned xl_level_misfit(const exitlm_level *level, const xl_use *use) {
    return (level->kv_type != use->kv_type ? XL_OTHER_TYPE : 0u) |
           (level->temperature < use->temperature - 1e-6f ? XL_TOO_COLD : 0u) |
           (level->max_tokens < use->max_tokens ? XL_TOO_SHORT : 0u);
}

int xl_level_compare(const exitlm_level *a, const exitlm_level *b, const xl_use *use) {
    const unsigned misfit = xl_level_misfit(a, use), other = xl_level_misfit(b, use);
    if (misfit != other) return misfit < other ? -1 : 1;
    if (misfit & XL_TOO_COLD && a->temperature != b->temperature)
        return a->temperature > b->temperature ? -1 : 1;
    if (misfit & XL_TOO_SHORT && a->max_tokens != b->max_tokens)
        return a->max_tokens > b->max_tokens ? -1 : 1;
    return 0;
}

static bool goes_before(const exitlm_level *a, const exitlm_level *b, const xl_use *use) {
    const int cover = xl_level_compare(a, b, use);
    if (cover) return cover < 0;
    if (a->accuracy != b->accuracy) return a->accuracy < b->accuracy;
    if (a->temperature != b->temperature) return a->temperature < b->temperature;
    return a->max_tokens < b->max_tokens;
}

bool xl_level_serves(const exitlm_level *level, exitlm_strategy strategy, float accuracy,
                     exitlm_kv_policy kv) {
    return level->strategy == strategy && level->kv == kv && level->certified &&
           level->accuracy >= accuracy - 1e-6f;
}

const exitlm_level *xl_heads_row(const exitlm_heads *heads, exitlm_strategy strategy,
                                 float accuracy, exitlm_kv_policy kv, const xl_use *use) {
    const exitlm_level *best = NULL;
    for (size_t i = 0; i < heads->n_levels; i++) {
        const exitlm_level *level = &heads->levels[i];
        if (xl_level_serves(level, strategy, accuracy, kv) &&
            (!best || goes_before(level, best, use)))
            best = level;
    }
    return best;
}

float xl_heads_strictest(const exitlm_heads *heads, exitlm_strategy strategy, exitlm_kv_policy kv) {
    float strictest = 0;
    for (size_t i = 0; i < heads->n_levels; i++) {
        const exitlm_level *level = &heads->levels[i];
        if (level->strategy == strategy && (!kv || level->kv == kv) && level->certified &&
            level->accuracy > strictest)
            strictest = level->accuracy;
    }
    return strictest;
}

bool xl_heads_calibrated(const exitlm_heads *heads, exitlm_strategy strategy, exitlm_kv_policy kv) {
    for (size_t i = 0; i < heads->n_levels; i++)
        if (heads->levels[i].strategy == strategy && heads->levels[i].kv == kv) return true;
    return false;
}

uint32_t xl_heads_mapping(const exitlm_heads *heads) {
    uint32_t i = heads->n_heads;
    while (i > 0 && heads->head[i - 1].layer == heads->n_layers) i--;
    return i ? i - 1 : heads->n_heads;
}

bool exitlm_heads_have_maps(const exitlm_heads *heads) {
    if (!heads) return false;
    const uint32_t i = xl_heads_mapping(heads);
    return i == heads->n_heads || heads->head[i].map_k;
}
