/* The fingerprint of a model: see the top of model.c. Everything that is hashed carries its length,
 * so that no two models give the same bytes. */
#include <string.h>

#include "base/bytes.h"
#include "base/sort.h"
#include "loader.h"

static void hash_u64(xl_sha256 *sha, uint64_t value) {
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(value >> (8 * i));
    xl_sha256_update(sha, bytes, 8);
}

static void hash_f32(xl_sha256 *sha, float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    hash_u64(sha, bits);
}

static void hash_bytes(xl_sha256 *sha, const void *bytes, size_t n) {
    hash_u64(sha, n);
    if (n) xl_sha256_update(sha, bytes, n);
}

static void hash_config(xl_sha256 *sha, const exitlm_model *model) {
    const xl_config *c = &model->config;
    hash_bytes(sha, "exitlm fingerprint 1", 20);
    hash_bytes(sha, xl_arch_name(c->arch), strlen(xl_arch_name(c->arch)));
    const uint32_t sizes[] = {c->n_layers,   c->dim,      c->ffn_dim, c->n_heads,
                              c->n_kv_heads, c->head_dim, c->vocab,   c->rope_dims};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) hash_u64(sha, sizes[i]);
    hash_f32(sha, c->norm_eps);
    hash_f32(sha, c->rope_base);
    hash_f32(sha, c->rope_scale);
    if (c->window == 0) return;
    hash_u64(sha, c->window);
    hash_u64(sha, c->window_period);
    hash_f32(sha, c->local_rope_base);
}

/* The raw items of an array, or nothing where it is missing. */
static void hash_array(xl_sha256 *sha, const xl_gguf *gguf, const char *key) {
    xl_gguf_array array = {.n = 0};
    xl_gguf_get_array(gguf, key, &array);
    hash_u64(sha, array.n);
    hash_bytes(sha, array.items, array.n_bytes);
}

static void hash_text(xl_sha256 *sha, const xl_gguf *gguf, const char *key) {
    const char *text = NULL;
    size_t n = 0;
    xl_gguf_get_string(gguf, key, &text, &n);
    hash_bytes(sha, text, n);
}

static void hash_tokenizer(xl_sha256 *sha, const xl_gguf *gguf) {
    hash_text(sha, gguf, "tokenizer.ggml.model");
    hash_text(sha, gguf, "tokenizer.ggml.pre");
    hash_array(sha, gguf, "tokenizer.ggml.tokens");
    hash_array(sha, gguf, "tokenizer.ggml.merges");
    hash_array(sha, gguf, "tokenizer.ggml.scores");
    hash_array(sha, gguf, "tokenizer.ggml.token_type");
}

/* ---- The table of tensors, sorted by name ------------------------------------------- */
_Static_assert(sizeof(uint32_t) <= XL_FINGERPRINT_ENTRY_BYTES,
               "the bound of exitlm_loader_memory counts the list");

/* Tensor `i` of all parts. */
static const xl_gguf_tensor *tensor_of(const xl_owner *owner, uint32_t i, const char **name) {
    uint32_t p = 0;
    for (; i >= owner->parts[p].gguf.n_tensors; p++) i -= owner->parts[p].gguf.n_tensors;
    const xl_gguf *gguf = &owner->parts[p].gguf;
    *name = xl_gguf_text(gguf, gguf->tensors[i].name_offset);
    return &gguf->tensors[i];
}

static bool name_before(const void *context, uint32_t a, uint32_t b) {
    const char *name_a, *name_b;
    const uint32_t bytes_a = tensor_of(context, a, &name_a)->name_bytes,
                   bytes_b = tensor_of(context, b, &name_b)->name_bytes;
    const int order = memcmp(name_a, name_b, xl_min_u32(bytes_a, bytes_b));
    return order ? order < 0 : bytes_a < bytes_b;
}

static void hash_tensors(xl_sha256 *sha, const xl_owner *owner, const uint32_t *list, uint32_t n) {
    hash_u64(sha, n);
    for (uint32_t i = 0; i < n; i++) {
        const char *name;
        const xl_gguf_tensor *t = tensor_of(owner, list[i], &name);
        hash_bytes(sha, name, t->name_bytes);
        for (int d = 0; d < 4; d++) hash_u64(sha, t->dims[d]);
        hash_u64(sha, t->type);
    }
}

exitlm_status xl_fingerprint_begin(const exitlm_model *model, xl_sha256 *sha, exitlm_error *error) {
    const xl_owner *owner = model->owner;
    uint32_t n = 0;
    for (uint32_t p = 0; p < owner->n_parts; p++) n += owner->parts[p].gguf.n_tensors;
    uint32_t *list = xl_calloc(&model->allocator, n, sizeof *list);
    if (!list) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for the model's fingerprint");
    for (uint32_t i = 0; i < n; i++) list[i] = i;
    xl_sort(list, n, name_before, owner);
    xl_sha256_init(sha);
    hash_config(sha, model);
    hash_tensors(sha, owner, list, n);
    hash_tokenizer(sha, &owner->parts[0].gguf);
    xl_free(&model->allocator, list, n, sizeof *list);
    return EXITLM_OK;
}

/* ---- The first weights ------------------------------------------------------------------ */
/* f32 back to what stood in the file: exact, since it came from there. */
static void hash_vector(xl_sha256 *sha, const float *values, uint32_t n, xl_type type) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], 4);
        if (type == XL_F16) bits = xl_f32_to_f16(values[i]);
        if (type == XL_BF16) bits >>= 16;
        uint8_t bytes[4] = {(uint8_t)bits, (uint8_t)(bits >> 8), (uint8_t)(bits >> 16),
                            (uint8_t)(bits >> 24)};
        xl_sha256_update(sha, bytes, type == XL_F32 ? 4 : 2);
    }
}

static void hash_norm(xl_sha256 *sha, const exitlm_model *model, const char *name) {
    const xl_owner *owner = model->owner;
    for (uint32_t p = 0; p < owner->n_parts; p++) {
        const xl_gguf_tensor *t = xl_gguf_find_tensor(&owner->parts[p].gguf, name);
        if (!t) continue;
        const xl_place *place = &owner->parts[p].places[t - owner->parts[p].gguf.tensors];
        hash_u64(sha, t->n_bytes);
        hash_vector(sha, place->data, place->cols, place->type);
    }
}

exitlm_status xl_fingerprint_end(exitlm_model *model, const xl_sha256 *begun, exitlm_error *error) {
    const xl_matrix *embedding = &model->embedding;
    size_t row_bytes = 0;
    xl_row_file_bytes(embedding->type, embedding->cols, &row_bytes);
    uint8_t *row = xl_calloc(&model->allocator, row_bytes, 1);
    if (!row) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for the model's fingerprint");
    xl_sha256 sha = *begun;
    for (size_t i = 0; i < XL_FINGERPRINT_NORMS; i++)
        hash_norm(&sha, model, xl_fingerprint_norms[i]);
    for (uint32_t id = 0; id < XL_FINGERPRINT_ROWS && id < model->config.vocab; id++) {
        xl_unpack_row(embedding->type, embedding->data, embedding->cols, xl_slot(model, id), row);
        hash_bytes(&sha, row, row_bytes);
    }
    xl_free(&model->allocator, row, row_bytes, 1);
    uint8_t digest[32];
    xl_sha256_final(&sha, digest);
    xl_sha256_hex(digest, model->fingerprint);
    return EXITLM_OK;
}
