/* Architectures: hyperparameters, and which tensor goes where. A new architecture is a line in
 * `archs`, the rules of its tensors, and what forward.c does with them.
 *
 * The fingerprint of a model (fingerprint.c) tells whether exit heads belong to it. It is the
 * SHA-256, in hexadecimal, of: the hyperparameters; the table of all tensors sorted by name (name,
 * dimensions, type); the tokenizer (kind, pre-tokenizer, tokens, merges, scores, token types); the
 * bytes, as in the file, of the norms in xl_fingerprint_norms and of rows 0, 1, 2, 3 of the token
 * embedding. It is the same for a plain, a split and a packed file. */
#include "loader.h"
#include "text/template.h"

#include <math.h>
#include <stdio.h>
#include <stdatomic.h>
#include <string.h>

/* What no tensor tells. */
typedef struct {
    const char *name; /* general.architecture, and prefix of its keys */
    xl_rope_style rope_style;
    xl_activation activation;
    bool layer_norm; /* not RMS */
    bool gated, parallel;
    bool scales_embedding;  /* by sqrt(dim) */
    uint32_t window_period; /* with attention.sliding_window; 0: the context ends there */
    uint32_t rope_period;
} arch_entry;

static const arch_entry archs[XL_ARCH_COUNT] = {
    [XL_ARCH_LLAMA] = {"llama", XL_ROPE_NORM, XL_SILU, .gated = true},
    [XL_ARCH_SMOLLM3] = {"smollm3", XL_ROPE_NORM, XL_SILU, .gated = true, .rope_period = 4},
    [XL_ARCH_QWEN2] = {"qwen2", XL_ROPE_NEOX, XL_SILU, .gated = true},
    [XL_ARCH_QWEN3] = {"qwen3", XL_ROPE_NEOX, XL_SILU, .gated = true},
    [XL_ARCH_GEMMA3] = {"gemma3", XL_ROPE_NEOX, XL_GELU_TANH, .gated = true,
                        .scales_embedding = true, .window_period = 6},
    [XL_ARCH_GPTNEOX] = {"gptneox", XL_ROPE_NEOX, XL_GELU, .layer_norm = true, .parallel = true},
    [XL_ARCH_PHI2] = {"phi2", XL_ROPE_NEOX, XL_GELU_TANH, .layer_norm = true, .parallel = true},
};
#define SUPPORTED_ARCHS "llama, smollm3, qwen2, qwen3, gemma3, gptneox, phi2"

/* ---- Tensors ------------------------------------------------------------------ */
typedef enum {
    SIZE_ONE,
    SIZE_DIM,
    SIZE_FFN,
    SIZE_Q,
    SIZE_KV,
    SIZE_QKV,
    SIZE_HEAD,
    SIZE_ANGLES,
    SIZE_VOCAB
} size_name;
enum {
    QWEN2 = 1 << XL_ARCH_QWEN2,
    QWEN3 = 1 << XL_ARCH_QWEN3,
    GEMMA3 = 1 << XL_ARCH_GEMMA3,
    GPTNEOX = 1 << XL_ARCH_GPTNEOX,
    PHI2 = 1 << XL_ARCH_PHI2,
    LAYER_NORM = GPTNEOX | PHI2,
    LLAMAS = 1 << XL_ARCH_LLAMA | 1 << XL_ARCH_SMOLLM3,
    GATED = LLAMAS | QWEN2 | QWEN3 | GEMMA3,
    ALL = GATED | LAYER_NORM
};

/* Of the layers' rules the names are what follows "blk.N.". */
typedef struct {
    const char *name;
    size_name rows, cols;        /* rows ONE: a vector */
    unsigned required, optional; /* architectures */
    size_t offset;               /* in xl_layer, or in exitlm_model */
    int32_t place;               /* xl_place.layer, of those that are in no layer */
    const char *fused;           /* the tensor that may have it in the place of one of its own */
} tensor_rule;

const char *const xl_fingerprint_norms[XL_FINGERPRINT_NORMS] = {
    "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "blk.0.attn_q_norm.weight",
    "blk.0.attn_k_norm.weight"};

#define IN(FIELD) offsetof(xl_layer, FIELD)
static const tensor_rule layer_rules[] = {
    {"attn_norm.weight", SIZE_ONE, SIZE_DIM, ALL, 0, IN(attn_norm.weight), 0, NULL},
    {"attn_norm.bias", SIZE_ONE, SIZE_DIM, LAYER_NORM, 0, IN(attn_norm.bias), 0, NULL},
    {"ffn_norm.weight", SIZE_ONE, SIZE_DIM, ALL & ~PHI2, 0, IN(ffn_norm.weight), 0, NULL},
    {"ffn_norm.bias", SIZE_ONE, SIZE_DIM, GPTNEOX, 0, IN(ffn_norm.bias), 0, NULL},
    {"post_attention_norm.weight", SIZE_ONE, SIZE_DIM, GEMMA3, 0, IN(post_attn_norm.weight), 0,
     NULL},
    {"post_ffw_norm.weight", SIZE_ONE, SIZE_DIM, GEMMA3, 0, IN(post_ffn_norm.weight), 0, NULL},
    {"attn_q_norm.weight", SIZE_ONE, SIZE_HEAD, QWEN3 | GEMMA3, 0, IN(q_norm), 0, NULL},
    {"attn_k_norm.weight", SIZE_ONE, SIZE_HEAD, QWEN3 | GEMMA3, 0, IN(k_norm), 0, NULL},
    {"attn_q.weight", SIZE_Q, SIZE_DIM, ALL, 0, IN(wq), 0, "attn_qkv.weight"},
    {"attn_k.weight", SIZE_KV, SIZE_DIM, ALL, 0, IN(wk), 0, "attn_qkv.weight"},
    {"attn_v.weight", SIZE_KV, SIZE_DIM, ALL, 0, IN(wv), 0, "attn_qkv.weight"},
    {"attn_qkv.weight", SIZE_QKV, SIZE_DIM, 0, LAYER_NORM, IN(wq), 0, NULL},
    {"attn_output.weight", SIZE_DIM, SIZE_Q, ALL, 0, IN(wo), 0, NULL},
    {"attn_q.bias", SIZE_ONE, SIZE_Q, QWEN2 | LAYER_NORM, LLAMAS, IN(bq), 0, "attn_qkv.bias"},
    {"attn_k.bias", SIZE_ONE, SIZE_KV, QWEN2 | LAYER_NORM, LLAMAS, IN(bk), 0, "attn_qkv.bias"},
    {"attn_v.bias", SIZE_ONE, SIZE_KV, QWEN2 | LAYER_NORM, LLAMAS, IN(bv), 0, "attn_qkv.bias"},
    {"attn_qkv.bias", SIZE_ONE, SIZE_QKV, 0, LAYER_NORM, IN(bq), 0, NULL},
    {"attn_output.bias", SIZE_ONE, SIZE_DIM, LAYER_NORM, LLAMAS, IN(bo), 0, NULL},
    {"ffn_gate.weight", SIZE_FFN, SIZE_DIM, GATED, 0, IN(w_gate), 0, NULL},
    {"ffn_up.weight", SIZE_FFN, SIZE_DIM, ALL, 0, IN(w_up), 0, NULL},
    {"ffn_up.bias", SIZE_ONE, SIZE_FFN, LAYER_NORM, 0, IN(b_up), 0, NULL},
    {"ffn_down.weight", SIZE_DIM, SIZE_FFN, ALL, 0, IN(w_down), 0, NULL},
    {"ffn_down.bias", SIZE_ONE, SIZE_DIM, LAYER_NORM, 0, IN(b_down), 0, NULL},
};
#undef IN
#define N_LAYER_RULES (sizeof layer_rules / sizeof layer_rules[0])

#define IN(FIELD) offsetof(exitlm_model, FIELD)
static const tensor_rule base_rules[] = {
    {"token_embd.weight", SIZE_VOCAB, SIZE_DIM, ALL, 0, IN(embedding), XL_EMBEDDING, NULL},
    {"output.weight", SIZE_VOCAB, SIZE_DIM, 0, ALL, IN(output), XL_OUTPUT, NULL},
    {"output.bias", SIZE_ONE, SIZE_VOCAB, PHI2, 0, IN(output_bias), XL_BASE, NULL},
    {"output_norm.weight", SIZE_ONE, SIZE_DIM, ALL, 0, IN(output_norm.weight), XL_BASE, NULL},
    {"output_norm.bias", SIZE_ONE, SIZE_DIM, LAYER_NORM, 0, IN(output_norm.bias), XL_BASE, NULL},
    {"rope_freqs.weight", SIZE_ONE, SIZE_ANGLES, 0, ALL, IN(rope_factors), XL_BASE, NULL},
};
#undef IN
#define N_BASE_RULES (sizeof base_rules / sizeof base_rules[0])

/* In old files, without a meaning for the result. */
static const char *const ignored_suffixes[] = {"attn_rot_embd.weight", "attn.rope.freqs"};

static uint32_t size_of(const xl_config *c, size_name name) {
    switch (name) {
    case SIZE_DIM: return c->dim;
    case SIZE_FFN: return c->ffn_dim;
    case SIZE_Q: return c->q_dim;
    case SIZE_KV: return c->kv_dim;
    case SIZE_QKV: return c->q_dim + 2 * c->kv_dim;
    case SIZE_HEAD: return c->head_dim;
    case SIZE_ANGLES: return c->rope_dims / 2;
    case SIZE_VOCAB: return c->vocab;
    default: return 1;
    }
}

#define NAME(gguf, t) XL_TEXT(xl_gguf_text(gguf, (t)->name_offset), (t)->name_bytes)

/* The rule of this name, whatever the architecture; NULL: there is none. */
static const tensor_rule *find_rule(const tensor_rule *rules, size_t n, const char *name,
                                    size_t n_bytes) {
    for (size_t i = 0; i < n; i++)
        if (strlen(rules[i].name) == n_bytes && memcmp(rules[i].name, name, n_bytes) == 0)
            return &rules[i];
    return NULL;
}

/* "blk.N.suffix": the layer number and the suffix. */
static bool parse_layer_name(const xl_gguf *gguf, const xl_gguf_tensor *t, uint32_t *layer,
                             const char **suffix, size_t *suffix_bytes) {
    const char *p = xl_gguf_text(gguf, t->name_offset), *end = p + t->name_bytes;
    if (t->name_bytes < 7 || memcmp(p, "blk.", 4) != 0) return false;
    p += 4;
    uint32_t n = 0;
    const char *digits = p;
    while (p < end && *p >= '0' && *p <= '9' && p - digits < 6) n = n * 10 + (uint32_t)(*p++ - '0');
    if (p == digits || p == end || *p != '.' || (*digits == '0' && p - digits > 1)) return false;
    *layer = n;
    *suffix = p + 1;
    *suffix_bytes = (size_t)(end - p - 1);
    return true;
}

static exitlm_status set_shape(const xl_gguf *gguf, const xl_gguf_tensor *t, uint32_t rows,
                               uint32_t cols, xl_place *place, exitlm_error *error) {
    bool vector = place->kind == XL_PLACE_VECTOR;
    if (t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != 1 || t->dims[3] != 1)
        return xl_fail(error, EXITLM_BAD_MODEL,
                       "tensor %.*s at offset %llu has the shape [%llu, %llu, %llu, %llu]; the "
                       "hyperparameters ask for [%u, %u]",
                       NAME(gguf, t), (unsigned long long)t->offset, (unsigned long long)t->dims[0],
                       (unsigned long long)t->dims[1], (unsigned long long)t->dims[2],
                       (unsigned long long)t->dims[3], cols, rows);
    place->type = xl_type_from_ggml(t->type);
    if (place->type == XL_TYPE_COUNT || (vector && xl_type_is_quantized(place->type)))
        return xl_fail(error, EXITLM_UNSUPPORTED,
                       "tensor %.*s has weights of type %s; supported here: %s", NAME(gguf, t),
                       xl_gguf_tensor_type_name(t->type),
                       vector ? "F32, F16, BF16"
                              : "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K");
    place->rows = rows;
    place->cols = cols;
    if (!xl_row_file_bytes(place->type, cols, &place->row_bytes))
        return xl_fail(error, EXITLM_BAD_MODEL,
                       "tensor %.*s: rows of %u are no whole number of %s blocks", NAME(gguf, t),
                       cols, xl_gguf_tensor_type_name(t->type));
    return EXITLM_OK;
}

static exitlm_status find_in_layer(exitlm_model *model, const xl_gguf *gguf,
                                   const xl_gguf_tensor *t, xl_place *place, exitlm_error *error) {
    const xl_config *c = &model->config;
    uint32_t layer;
    const char *suffix;
    size_t suffix_bytes;
    if (!parse_layer_name(gguf, t, &layer, &suffix, &suffix_bytes)) return EXITLM_OK;
    if (layer >= c->n_layers)
        return xl_fail(error, EXITLM_BAD_MODEL,
                       "tensor %.*s: %s.block_count says that there are %u layers", NAME(gguf, t),
                       archs[c->arch].name, c->n_layers);
    const tensor_rule *rule = find_rule(layer_rules, N_LAYER_RULES, suffix, suffix_bytes);
    if (rule && ((rule->required | rule->optional) & 1u << c->arch)) {
        place->kind = rule->rows == SIZE_ONE ? XL_PLACE_VECTOR : XL_PLACE_MATRIX;
        place->layer = (int32_t)layer;
        if (layer == 0)
            for (size_t i = 0; i < XL_FINGERPRINT_NORMS; i++)
                place->in_fingerprint |= strcmp(rule->name, xl_fingerprint_norms[i] + 6) == 0;
        place->target = (char *)&model->layers[layer] + rule->offset;
        place->fused = rule->rows == SIZE_QKV || rule->cols == SIZE_QKV;
        return set_shape(gguf, t, size_of(c, rule->rows), size_of(c, rule->cols), place, error);
    }
    for (size_t i = 0; i < sizeof ignored_suffixes / sizeof *ignored_suffixes; i++)
        if (strlen(ignored_suffixes[i]) == suffix_bytes &&
            memcmp(ignored_suffixes[i], suffix, suffix_bytes) == 0)
            return EXITLM_OK;
    return xl_fail(error, EXITLM_UNSUPPORTED,
                   "tensor %.*s is unknown in architecture %s: this variant of it is not supported",
                   NAME(gguf, t), archs[c->arch].name);
}

exitlm_status xl_place_find(exitlm_model *model, const xl_gguf *gguf, const xl_gguf_tensor *t,
                            xl_place *place, exitlm_error *error) {
    const xl_config *c = &model->config;
    *place = (xl_place){.kind = XL_PLACE_SKIP, .layer = XL_BASE};
    const tensor_rule *rule =
        find_rule(base_rules, N_BASE_RULES, xl_gguf_text(gguf, t->name_offset), t->name_bytes);
    if (!xl_gguf_tensor_type_name(t->type))
        return xl_fail(error, EXITLM_UNSUPPORTED,
                       "tensor %.*s at offset %u: unknown weight type %u", NAME(gguf, t),
                       t->entry_offset, t->type);
    if (!rule) return find_in_layer(model, gguf, t, place, error);
    if (!((rule->required | rule->optional) & 1u << c->arch))
        return xl_fail(error, EXITLM_UNSUPPORTED,
                       "tensor %.*s: this variant of architecture %s is not supported",
                       NAME(gguf, t), archs[c->arch].name);
    place->kind = rule->rows == SIZE_ONE ? XL_PLACE_VECTOR : XL_PLACE_ROWS;
    place->layer = rule->place;
    place->target = (char *)model + rule->offset;
    return set_shape(gguf, t, size_of(c, rule->rows), size_of(c, rule->cols), place, error);
}

static bool present(const exitlm_model *model, const char *name) {
    const xl_owner *owner = model->owner;
    for (uint32_t i = 0; i < owner->n_parts; i++)
        if (xl_gguf_find_tensor(&owner->parts[i].gguf, name)) return true;
    return false;
}

/* The name of a rule's tensor in layer `layer` (-1: in none). */
static const char *full_name(int32_t layer, const char *name, char full[64]) {
    if (layer < 0) return name;
    snprintf(full, 64, "blk.%d.%s", (int)layer, name);
    return full;
}

/* Is the tensor of layer `layer` (-1: of none) there, where the rule requires it? */
static exitlm_status check_rule(const exitlm_model *model, const tensor_rule *rule, int32_t layer,
                                exitlm_error *error) {
    char full[64];
    if (!(rule->required & 1u << model->config.arch) ||
        present(model, full_name(layer, rule->name, full)) ||
        (rule->fused && present(model, full_name(layer, rule->fused, full))))
        return EXITLM_OK;
    return xl_fail(error, EXITLM_BAD_MODEL, "tensor %s is missing from the file's table",
                   full_name(layer, rule->name, full));
}

exitlm_status xl_model_check_tensors(const exitlm_model *model, exitlm_error *error) {
    for (uint32_t layer = 0; layer < model->config.n_layers; layer++)
        for (size_t i = 0; i < N_LAYER_RULES; i++) {
            exitlm_status status = check_rule(model, &layer_rules[i], (int32_t)layer, error);
            if (status != EXITLM_OK) return status;
        }
    for (size_t i = 0; i < N_BASE_RULES; i++) {
        exitlm_status status = check_rule(model, &base_rules[i], -1, error);
        if (status != EXITLM_OK) return status;
    }
    return EXITLM_OK;
}

/* ---- Hyperparameters ------------------------------------------------------------ */
typedef struct { /* reads keys "<architecture>.<name>", the first failure sticks */
    const xl_gguf *gguf;
    const char *arch;
    exitlm_status status;
    exitlm_error *error;
} key_reader;

static const xl_gguf_key *find_key(const key_reader *r, const char *name, char full[80]) {
    snprintf(full, 80, "%s.%s", r->arch, name);
    return xl_gguf_find(r->gguf, full);
}

/* An integer in [low, high]; a missing one is `fallback`, where that is 0 an error. */
static uint32_t read_u32(key_reader *r, const char *name, uint32_t low, uint32_t high,
                         uint32_t fallback) {
    char full[80];
    uint32_t value;
    if (r->status != EXITLM_OK) return low;
    const xl_gguf_key *key = find_key(r, name, full);
    if (!key && fallback) return fallback;
    if (!key) {
        r->status = xl_fail(r->error, EXITLM_BAD_MODEL, "key %s is missing", full);
        return low;
    }
    if (key->type == XL_GGUF_ARRAY) {
        r->status =
            xl_fail(r->error, EXITLM_UNSUPPORTED,
                    "key %s at offset %u is an array: layers of different sizes are not supported",
                    full, key->name_offset);
        return low;
    }
    if (!xl_gguf_get_u32(r->gguf, full, &value) || value < low || value > high) {
        r->status = xl_fail(r->error, EXITLM_BAD_MODEL,
                            "key %s at offset %u must be an integer from %u to %u", full,
                            key->name_offset, low, high);
        return low;
    }
    return value;
}

static float read_f32(key_reader *r, const char *name, float above, float high, float fallback) {
    char full[80];
    float value;
    if (r->status != EXITLM_OK) return fallback;
    const xl_gguf_key *key = find_key(r, name, full);
    if (!key && fallback != 0) return fallback;
    if (!key) r->status = xl_fail(r->error, EXITLM_BAD_MODEL, "key %s is missing", full);
    else if (!xl_gguf_get_f32(r->gguf, full, &value) || !(value > above) || value > high)
        r->status = xl_fail(r->error, EXITLM_BAD_MODEL,
                            "key %s at offset %u must be a number above %g, at most %g", full,
                            key->name_offset, (double)above, (double)high);
    else return value;
    return fallback;
}

static exitlm_status find_arch(const xl_gguf *gguf, xl_config *config, exitlm_error *error) {
    const char *text;
    size_t n;
    if (!xl_gguf_get_string(gguf, "general.architecture", &text, &n))
        return xl_fail(error, EXITLM_BAD_MODEL, "key general.architecture is missing");
    for (int i = 0; i < XL_ARCH_COUNT; i++)
        if (strlen(archs[i].name) == n && memcmp(archs[i].name, text, n) == 0) {
            config->arch = (xl_arch_id)i;
            config->rope_style = archs[i].rope_style;
            config->rope_period = archs[i].rope_period;
            config->activation = archs[i].activation;
            config->gated = archs[i].gated;
            config->parallel = archs[i].parallel;
            return EXITLM_OK;
        }
    if (n == 6 && memcmp(text, "exitlm", 6) == 0)
        return xl_fail(error, EXITLM_BAD_MODEL,
                       "this is a file of exit heads, not a model: give it as the heads (--heads)");
    return xl_fail(error, EXITLM_UNSUPPORTED,
                   "architecture \"%.*s\" is not supported; supported are " SUPPORTED_ARCHS,
                   XL_TEXT(text, n));
}

static void read_rope(key_reader *r, xl_config *c) {
    char full[80];
    c->rope_base = read_f32(r, "rope.freq_base", 0.5f, 1e12f, 10000.0f);
    c->rope_dims = read_u32(r, "rope.dimension_count", 2, c->head_dim, c->head_dim);
    c->rope_scale = 1;
    if (r->status != EXITLM_OK) return;
    if (c->rope_dims % 2)
        r->status =
            xl_fail(r->error, EXITLM_BAD_MODEL, "key %s.rope.dimension_count must be even, not %u",
                    r->arch, c->rope_dims);
    const char *type;
    size_t n;
    const xl_gguf_key *key = find_key(r, "rope.scaling.type", full);
    if (key && !xl_gguf_get_string(r->gguf, full, &type, &n)) {
        r->status = xl_fail(r->error, EXITLM_BAD_MODEL, "key %s at offset %u must be a string",
                            full, key->name_offset);
        return;
    }
    bool none = key && n == 4 && memcmp(type, "none", 4) == 0;
    if (key && !none && !(n == 6 && memcmp(type, "linear", 6) == 0)) {
        r->status = xl_fail(r->error, EXITLM_UNSUPPORTED,
                            "rope scaling \"%.*s\" is not supported; supported are none, linear "
                            "and Llama 3's rope_freqs",
                            XL_TEXT(type, n));
        return;
    }
    float factor = read_f32(
        r, find_key(r, "rope.scaling.factor", full) ? "rope.scaling.factor" : "rope.scale_linear",
        1e-6f, 1e6f, 1.0f);
    if (!none) c->rope_scale = 1 / factor;
}

static void read_window(key_reader *r, xl_config *c) {
    char full[80];
    if (!find_key(r, "attention.sliding_window", full)) return;
    const uint32_t window = read_u32(r, "attention.sliding_window", 0, UINT32_MAX, 0);
    const uint32_t period = archs[c->arch].window_period;
    if (period == 0) { /* Within a sliding window attention is the plain one. */
        if (window && window < c->context_tokens) c->context_tokens = window;
        return;
    }
    c->window = window;
    c->window_period = read_u32(r, "attention.sliding_window_pattern", 1, UINT32_MAX, period);
    c->local_rope_base = read_f32(r, "rope.freq_base_swa", 0.5f, 1e12f, 10000.0f);
}

static exitlm_status check_config(const xl_config *c, const char *arch, exitlm_error *error) {
    if (c->n_heads % c->n_kv_heads)
        return xl_fail(error, EXITLM_BAD_MODEL,
                       "%s.attention.head_count (%u) is no multiple of head_count_kv (%u)", arch,
                       c->n_heads, c->n_kv_heads);
    if (c->head_dim % 8)
        return xl_fail(
            error, EXITLM_UNSUPPORTED,
            "attention heads of %u dimensions are not supported: a multiple of 8 is needed",
            c->head_dim);
    if (c->dim % 32 || c->ffn_dim % 32 || c->q_dim % 32)
        return xl_fail(error, EXITLM_UNSUPPORTED,
                       "dimensions %u (embedding), %u (feed-forward) and %u (attention) are not "
                       "supported: multiples of 32 are needed",
                       c->dim, c->ffn_dim, c->q_dim);
    return EXITLM_OK;
}

exitlm_status xl_config_read(const xl_gguf *gguf, xl_config *config, exitlm_error *error) {
    xl_config c = {0};
    exitlm_status status = find_arch(gguf, &c, error);
    if (status != EXITLM_OK) return status;
    key_reader r = {gguf, archs[c.arch].name, EXITLM_OK, error};
    c.n_layers = read_u32(&r, "block_count", 1, 1024, 0);
    c.dim = read_u32(&r, "embedding_length", 32, 65536, 0);
    c.ffn_dim = read_u32(&r, "feed_forward_length", 32, 1 << 20, 0);
    c.n_heads = read_u32(&r, "attention.head_count", 1, 1024, 0);
    c.n_kv_heads = read_u32(&r, "attention.head_count_kv", 1, 1024, c.n_heads);
    c.context_tokens = read_u32(&r, "context_length", 1, INT32_MAX, 0);
    c.norm_eps = read_f32(&r,
                          archs[c.arch].layer_norm ? "attention.layer_norm_epsilon"
                                                   : "attention.layer_norm_rms_epsilon",
                          0, 1, 0);
    char full[80];
    if (find_key(&r, "use_parallel_residual", full)) xl_gguf_get_bool(gguf, full, &c.parallel);
    if (r.status == EXITLM_OK && !find_key(&r, "attention.key_length", full) && c.dim % c.n_heads)
        return xl_fail(error, EXITLM_BAD_MODEL,
                       "%s.embedding_length (%u) is no multiple of attention.head_count (%u)",
                       r.arch, c.dim, c.n_heads);
    c.head_dim =
        read_u32(&r, "attention.key_length", 8, 256, c.dim / c.n_heads ? c.dim / c.n_heads : 1);
    if (r.status == EXITLM_OK && (c.head_dim < 8 || c.head_dim > 256))
        return xl_fail(error, EXITLM_UNSUPPORTED,
                       "attention heads of %u dimensions are not supported: 8 to 256 are",
                       c.head_dim);
    if (r.status == EXITLM_OK &&
        read_u32(&r, "attention.value_length", 1, 65536, c.head_dim) != c.head_dim &&
        r.status == EXITLM_OK)
        return xl_fail(error, EXITLM_UNSUPPORTED,
                       "%s.attention.value_length differs from key_length: not supported", r.arch);
    float cap = 0;
    if (r.status == EXITLM_OK && find_key(&r, "final_logit_softcapping", full) &&
        (!xl_gguf_get_f32(gguf, full, &cap) || cap != 0))
        return xl_fail(error, EXITLM_UNSUPPORTED, "key %s: capped logits are not supported", full);
    if (find_key(&r, "expert_count", full) && read_u32(&r, "expert_count", 0, 65536, 0) > 0 &&
        r.status == EXITLM_OK)
        return xl_fail(error, EXITLM_UNSUPPORTED, "key %s: mixtures of experts are not supported",
                       full);
    read_window(&r, &c);
    if (r.status == EXITLM_OK) read_rope(&r, &c);
    if (r.status != EXITLM_OK) return r.status;
    c.q_dim = c.n_heads * c.head_dim;
    c.kv_dim = c.n_kv_heads * c.head_dim;
    c.embedding_scale = archs[c.arch].scales_embedding ? sqrtf((float)c.dim) : 1;
    /* Gemma 3 27B, the one of 62 layers, is scaled as if its heads divided the embedding. */
    c.attention_scale =
        1.0f / sqrtf((float)(c.arch == XL_ARCH_GEMMA3 && c.n_layers == 62 ? c.dim / c.n_heads
                                                                          : c.head_dim));
    status = check_config(&c, r.arch, error);
    if (status != EXITLM_OK) return status;

    xl_gguf_array tokens;
    if (!xl_gguf_get_array(gguf, "tokenizer.ggml.tokens", &tokens) ||
        tokens.item_type != XL_GGUF_STRING)
        return xl_fail(error, EXITLM_BAD_MODEL,
                       "key tokenizer.ggml.tokens is missing or no array of strings");
    if (tokens.n == 0 || tokens.n > 1 << 22)
        return xl_fail(error, EXITLM_BAD_MODEL,
                       "key tokenizer.ggml.tokens has %u tokens; 1 to %d are possible", tokens.n,
                       1 << 22);
    c.vocab = tokens.n;
    uint32_t claimed = read_u32(&r, "vocab_size", 1, UINT32_MAX, c.vocab);
    if (r.status == EXITLM_OK && claimed != c.vocab)
        return xl_fail(error, EXITLM_BAD_MODEL,
                       "%s.vocab_size is %u, but tokenizer.ggml.tokens has %u tokens", r.arch,
                       claimed, c.vocab);
    if (r.status == EXITLM_OK) *config = c;
    return r.status;
}

/* ---- What a model says of itself ------------------------------------------------------ */
/* A C string from the file: no control characters, cut between characters. */
static void copy_text(char *out, size_t capacity, const xl_gguf *gguf, const char *key) {
    const char *text;
    size_t n, i;
    out[0] = 0;
    if (!xl_gguf_get_string(gguf, key, &text, &n)) return;
    if (n >= capacity) {
        n = capacity - 1;
        while (n && ((unsigned char)text[n] & 0xc0) == 0x80) n--;
    }
    for (i = 0; i < n; i++) out[i] = (unsigned char)text[i] < 32 || text[i] == 127 ? ' ' : text[i];
    out[n] = 0;
}

/* The type that most bytes of the layers have. */
static const char *main_type(const exitlm_model *model) {
    const xl_owner *owner = model->owner;
    uint64_t bytes[XL_TYPE_COUNT] = {0};
    xl_type best = 0;
    for (uint32_t p = 0; p < owner->n_parts; p++)
        for (uint32_t i = 0; i < owner->parts[p].gguf.n_tensors; i++)
            if (owner->parts[p].places[i].kind == XL_PLACE_MATRIX)
                bytes[owner->parts[p].places[i].type] += owner->parts[p].gguf.tensors[i].n_bytes;
    for (xl_type t = 0; t < XL_TYPE_COUNT; t++)
        if (bytes[t] > bytes[best]) best = t;
    return xl_quant_types[best].name;
}

const char *xl_arch_name(xl_arch_id arch) { return archs[arch].name; }

/* A line of exitlm_loader_missing, unless it stands there already. */
static void add_missing(char *text, size_t capacity, const char *what, const char *name,
                        size_t n_bytes) {
    char line[96];
    int n = snprintf(line, sizeof line, "%s %.*s", what, XL_TEXT(name, n_bytes));
    for (int i = 0; i < n; i++)
        if ((unsigned char)line[i] < 32 || line[i] == 127) line[i] = ' ';
    for (const char *at = text; (at = strstr(at, line)); at++)
        if ((at == text || at[-1] == '\n') && (at[n] == '\n' || !at[n])) return;
    const size_t used = strlen(text);
    snprintf(text + used, capacity - used, "%s%s", used ? "\n" : "", line);
}

void xl_model_missing(const xl_gguf *gguf, bool first, char *text, size_t capacity) {
    xl_config config;
    xl_tokenizer_source source;
    xl_str name = {NULL, 0};
    if (first && find_arch(gguf, &config, NULL) == EXITLM_UNSUPPORTED &&
        xl_gguf_get_string(gguf, "general.architecture", &name.data, &name.bytes))
        add_missing(text, capacity, "architecture", name.data, name.bytes);
    for (uint32_t i = 0; i < gguf->n_tensors; i++) {
        const uint32_t type = gguf->tensors[i].type;
        const char *known = xl_gguf_tensor_type_name(type);
        char number[16];
        snprintf(number, sizeof number, "%u", type);
        if (xl_type_from_ggml(type) == XL_TYPE_COUNT)
            add_missing(text, capacity, "weight type", known ? known : number,
                        strlen(known ? known : number));
    }
    if (!first || xl_tokenizer_source_from_gguf(&source, gguf, NULL) != EXITLM_OK) return;
    const char *lacks = source.model.data ? xl_tokenizer_lacks(&source, &name) : NULL;
    if (lacks) add_missing(text, capacity, lacks, name.data, name.bytes);
}

void xl_model_fill_info(exitlm_model *model) {
    xl_owner *owner = model->owner;
    const xl_config *c = &model->config;
    const xl_gguf *gguf = &owner->parts[0].gguf;
    exitlm_model_info *info = &model->info;
    copy_text(owner->name, sizeof owner->name, gguf, "general.name");
    copy_text(owner->architecture, sizeof owner->architecture, gguf, "general.architecture");
    copy_text(owner->licence, sizeof owner->licence, gguf, "general.license");
    xl_tokenizer_info tokens;
    xl_tokenizer_describe(model->tokenizer, &tokens);
    *info = (exitlm_model_info){
        .bos = tokens.bos,
        .eos = tokens.eos,
        .add_bos = tokens.add_bos,
        .name = owner->name,
        .architecture = owner->architecture,
        .licence = owner->licence,
        .quantisation = c->n_layers ? main_type(model) : "",
        .template_family = xl_template_name(&model->chat),
        .layers = c->n_layers,
        .dim = c->dim,
        .ffn_dim = c->ffn_dim,
        .heads = c->n_heads,
        .kv_heads = c->n_kv_heads,
        .head_dim = c->head_dim,
        .vocab = c->vocab,
        .context_tokens = c->context_tokens,
    };
    for (uint32_t p = 0; p < owner->n_parts; p++)
        for (uint32_t i = 0; i < owner->parts[p].gguf.n_tensors; i++) {
            const xl_place *place = &owner->parts[p].places[i];
            uint64_t elements = (uint64_t)place->rows * place->cols;
            if (place->kind == XL_PLACE_SKIP) continue;
            info->parameters += elements;
            info->weight_bytes += owner->parts[p].gguf.tensors[i].n_bytes;
            if (place->kind == XL_PLACE_MATRIX) info->macs_per_token += elements;
        }
    info->macs_per_token += (uint64_t)c->vocab * c->dim;
}

void exitlm_model_describe(const exitlm_model *model, exitlm_model_info *info) {
    if (!info) return;
    *info = (exitlm_model_info){
        .name = "", .architecture = "", .licence = "", .quantisation = "", .template_family = ""};
    if (!model) return;
    *info = model->info;
    memcpy(info->fingerprint, model->fingerprint, sizeof info->fingerprint);
}

const char *exitlm_model_chat_template(const exitlm_model *model, size_t *n_bytes) {
    const char *text = "";
    if (n_bytes) *n_bytes = 0;
    if (!model || !n_bytes) return text;
    const xl_owner *owner = model->owner;
    xl_gguf_get_string(&owner->parts[0].gguf, "tokenizer.chat_template", &text, n_bytes);
    return text;
}

const xl_vocabulary *xl_model_vocabulary(const exitlm_model *model) {
    _Atomic(xl_vocabulary *) *kept = &((exitlm_model *)model)->vocabulary;
    xl_vocabulary *known = atomic_load(kept);
    if (known) return known;
    xl_vocabulary *made = xl_vocabulary_create(model->tokenizer, &model->allocator);
    if (!made || atomic_compare_exchange_strong(kept, &known, made)) return made;
    xl_vocabulary_free(made); /* another thread came first */
    return known;
}

void xl_stop_drop(const exitlm_model *model, const xl_place *place, xl_stop **at) {
    xl_stop *stop = *at;
    *at = stop->next;
    xl_free(&model->allocator, stop, 1, sizeof *stop + xl_quant_types[place->type].block_bytes);
}

void xl_part_free(exitlm_model *model, xl_part *part) {
    if (part->places)
        for (uint32_t i = 0; i < part->gguf.n_tensors; i++)
            while (part->places[i].stops)
                xl_stop_drop(model, &part->places[i], &part->places[i].stops);
    xl_free(&model->allocator, part->places, part->gguf.n_tensors, sizeof *part->places);
    xl_gguf_free(&part->gguf);
    xl_free(&model->allocator, part->weights, part->weights_bytes, 1);
}

void exitlm_model_free(exitlm_model *model) {
    if (!model) return;
    exitlm_allocator allocator = model->allocator;
    xl_owner *owner = model->owner;
    xl_vocabulary_free(model->vocabulary);
    xl_tokenizer_free(model->tokenizer);
    if (owner) {
        for (uint32_t i = 0; i < owner->n_parts; i++) xl_part_free(model, &owner->parts[i]);
        xl_free(&allocator, owner->parts, owner->n_parts, sizeof *owner->parts);
        xl_free(&allocator, owner->tables, owner->tables_bytes, 1);
        xl_free(&allocator, owner, 1, sizeof *owner);
    }
    xl_free(&allocator, model, 1, sizeof *model);
}

/* ---- Text and tokens ------------------------------------------------------------------ */
exitlm_status exitlm_tokenize(const exitlm_model *model, const char *text, size_t n_bytes,
                              unsigned flags, int32_t *ids, size_t capacity, size_t *n,
                              exitlm_error *error) {
    if (!model || !n || (!text && n_bytes) || (!ids && capacity))
        return xl_fail(error, EXITLM_USAGE, "exitlm_tokenize: an argument is NULL");
    if (flags & ~(unsigned)(EXITLM_ADD_SPECIAL | EXITLM_PARSE_SPECIAL))
        return xl_fail(
            error, EXITLM_USAGE,
            "exitlm_tokenize: flags %u: only EXITLM_ADD_SPECIAL and EXITLM_PARSE_SPECIAL are known",
            flags);
    return xl_tokenizer_encode(model->tokenizer, text, n_bytes, flags, ids, capacity, n, error);
}

exitlm_status exitlm_detokenize(const exitlm_model *model, const int32_t *ids, size_t n, char *text,
                                size_t capacity, size_t *n_bytes, exitlm_error *error) {
    if (!model || !n_bytes || (!ids && n) || (!text && capacity))
        return xl_fail(error, EXITLM_USAGE, "exitlm_detokenize: an argument is NULL");
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= model->config.vocab)
            return xl_fail(error, EXITLM_USAGE,
                           "token id %d at index %zu is out of range: the model has %u tokens",
                           (int)ids[i], i, model->config.vocab);
    size_t total = 0;
    for (size_t i = 0; i < n; i++) {
        size_t room = total < capacity ? capacity - total : 0;
        total += xl_token_bytes(model->tokenizer, ids[i], room ? text + total : NULL, room);
    }
    *n_bytes = total;
    return EXITLM_OK;
}

exitlm_status exitlm_apply_template(const exitlm_model *model, const exitlm_message *messages,
                                    size_t n_messages, bool add_generation_prompt, char *text,
                                    size_t capacity, size_t *n_bytes, exitlm_error *error) {
    if (!model || !n_bytes || (!messages && n_messages) || (!text && capacity))
        return xl_fail(error, EXITLM_USAGE, "exitlm_apply_template: an argument is NULL");
    for (size_t i = 0; i < n_messages; i++)
        if (!messages[i].role || !messages[i].content)
            return xl_fail(error, EXITLM_USAGE,
                           "exitlm_apply_template: message %zu has no role or no content", i);
    return xl_template_render(&model->chat, messages, n_messages, add_generation_prompt, text,
                              capacity, n_bytes, NULL, error);
}
