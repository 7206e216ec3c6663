/* libFuzzer: model files and heads files, as they are or as a good file with changes, pushed in
 * chunks and with jumps. What must hold: no crash, no leak, a word for every failure, no more
 * memory than was allowed, and what is complete can be used.
 *
 * First byte: what the rest is. 0: a whole file. 1: changes of a small model. 2: of a heads
 * file. 3: of a small model, with jumps. */
#include "base/alloc.h"
#include "input.h"
#include "model/heads.h"
#include "model/loader.h"

#include <stdio.h>
#include <string.h>

enum { DIM = 32, FFN = 32, LAYERS = 2, VOCAB = 259, MAX_MODEL_BYTES = 8 << 20 };

/* ---- A good model, a good heads file --------------------------------------------------------- */
static void put_vocabulary(xl_gguf_writer *w) {
    static char texts[VOCAB][8];
    const char *tokens[VOCAB];
    int32_t types[VOCAB];
    uint32_t others = 0;
    for (int i = 0; i < VOCAB; i++) {
        uint32_t byte = (uint32_t)i - 3, c = byte;
        if (i < 3) snprintf(texts[i], sizeof texts[i], "<|%d|>", i);
        else {
            if (!((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174))
                c = 256 + others++;
            if (c < 128) texts[i][0] = (char)c;
            else texts[i][0] = (char)(0xc0 | c >> 6), texts[i][1] = (char)(0x80 | (c & 63));
        }
        tokens[i] = texts[i];
        types[i] = i < 3 ? 3 : 1;
    }
    xl_gguf_put_cstring(w, "tokenizer.ggml.model", "gpt2");
    xl_gguf_put_cstring(w, "tokenizer.ggml.pre", "smollm");
    xl_gguf_put_strings(w, "tokenizer.ggml.tokens", tokens, VOCAB);
    xl_gguf_put_array(w, "tokenizer.ggml.token_type", XL_GGUF_I32, types, VOCAB);
    xl_gguf_put_strings(w, "tokenizer.ggml.merges", (const char *const[]){"a b"}, 0);
    xl_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 2);
}

static void make_model(xl_buffer *out) {
    static const struct {
        const char *suffix;
        uint64_t rows, cols;
        uint32_t type;
    } tensors[] = {{"attn_norm", 1, DIM, 0},  {"ffn_norm", 1, DIM, 0}, {"attn_q", DIM, DIM, 8},
                   {"attn_k", 16, DIM, 2},    {"attn_v", 16, DIM, 3},  {"attn_output", DIM, DIM, 1},
                   {"ffn_gate", FFN, DIM, 6}, {"ffn_up", FFN, DIM, 7}, {"ffn_down", DIM, FFN, 30}};
    xl_gguf_writer w;
    char name[64];
    xl_gguf_writer_init(&w, &xl_libc_allocator);
    xl_gguf_put_cstring(&w, "general.architecture", "llama");
    xl_gguf_put_u32(&w, "llama.block_count", LAYERS);
    xl_gguf_put_u32(&w, "llama.context_length", 64);
    xl_gguf_put_u32(&w, "llama.embedding_length", DIM);
    xl_gguf_put_u32(&w, "llama.feed_forward_length", FFN);
    xl_gguf_put_u32(&w, "llama.attention.head_count", 2);
    xl_gguf_put_u32(&w, "llama.attention.head_count_kv", 1);
    xl_gguf_put_f32(&w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    put_vocabulary(&w);
    xl_gguf_put_tensor(&w, "token_embd.weight", 8, 2, (uint64_t[]){DIM, VOCAB});
    for (int layer = 0; layer < LAYERS; layer++)
        for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
            snprintf(name, sizeof name, "blk.%d.%s.weight", layer, tensors[i].suffix);
            xl_gguf_put_tensor(&w, name, tensors[i].type, tensors[i].rows > 1 ? 2 : 1,
                               (uint64_t[]){tensors[i].cols, tensors[i].rows});
        }
    xl_gguf_put_tensor(&w, "output_norm.weight", 0, 1, (uint64_t[]){DIM});
    EXPECT(xl_gguf_writer_header(&w, out, NULL) == EXITLM_OK);
    xl_buffer_add(out, NULL, (size_t)w.data_bytes); /* zeros are good blocks of every type */
    xl_gguf_writer_free(&w);
}

static void make_heads(xl_buffer *out) {
    static const float zeros[DIM * DIM];
    static const int32_t shortlist[] = {5, 3, 100, 20};
    exitlm_level level = {
        .kv = EXITLM_POLICY_EXACT, .accuracy = 0.9f, .certified = true, .threshold = {0.5f, 0.5f}};
    xl_heads_source s = {.kv = EXITLM_POLICY_EXACT,
                         .fingerprint =
                             "0000000000000000000000000000000000000000000000000000000000000000",
                         .n_layers = LAYERS,
                         .dim = DIM,
                         .kv_dim = 16,
                         .vocab = VOCAB,
                         .n_heads = 2,
                         .n_shortlist = 4,
                         .shortlist = shortlist,
                         .n_levels = 1,
                         .levels = &level,
                         .matrix_type = XL_Q8_0,
                         .metric = EXITLM_METRIC_LOGISTIC};
    s.head[0] = (xl_head_source){.layer = 1,
                                 .form = XL_FORM_TIED,
                                 .rows = 4,
                                 .norm = zeros,
                                 .map = zeros,
                                 .bias = zeros,
                                 .other = zeros};
    s.head[1] = (xl_head_source){.layer = 2, .form = XL_FORM_VOCABULARY, .rows = 2};
    s.head[0].map_k = s.head[0].map_v = (const float *const[]){zeros};
    EXPECT(xl_heads_write(&s, out, NULL) == EXITLM_OK);
}

/* ---- An allocator with an end
 * ------------------------------------------------------------------ */
typedef struct limit {
    size_t left;
} limit;

static void *limited_alloc(void *user, size_t bytes, size_t align) {
    limit *l = user;
    if (bytes > l->left) return NULL;
    void *memory = xl_libc_allocator.alloc(NULL, bytes, align);
    if (memory) l->left -= bytes;
    return memory;
}

static void limited_free(void *user, void *memory, size_t bytes) {
    ((limit *)user)->left += bytes;
    xl_libc_allocator.free(NULL, memory, bytes);
}

/* ---- Loading
 * --------------------------------------------------------------------------------------- */
static bool expected(exitlm_status status, const exitlm_error *error) {
    EXPECT(status == EXITLM_OK || (error->status == status && error->message[0]));
    EXPECT(status == EXITLM_OK || status == EXITLM_BAD_MODEL || status == EXITLM_UNSUPPORTED ||
           status == EXITLM_OUT_OF_MEMORY);
    return status == EXITLM_OK;
}

static void use(const exitlm_loader *loader) {
    exitlm_model *model = exitlm_loader_model(loader);
    exitlm_extent extents[8];
    exitlm_model_info info;
    char text[64];
    int32_t ids[16];
    size_t n, n_bytes;
    if (!model) return;
    EXPECT(exitlm_loader_plan(loader, extents, 8, &n, NULL) == EXITLM_OK && n > 0);
    exitlm_model_describe(model, &info);
    exitlm_model_chat_template(model, &n_bytes);
    EXPECT(info.layers == model->config.n_layers && strlen(info.name) < 128);
    if (exitlm_tokenize(model, "a text", 6, EXITLM_ADD_SPECIAL, ids, 16, &n, NULL) == EXITLM_OK &&
        n <= 16)
        EXPECT(exitlm_detokenize(model, ids, n, text, sizeof text, &n_bytes, NULL) == EXITLM_OK);
}

/* Pushes the file; `in` says the chunks and, now and then, where to go on. */
static void load(const uint8_t *bytes, size_t n_bytes, input *in, bool jumps) {
    limit l = {4 * MAX_MODEL_BYTES};
    exitlm_allocator allocator = {&l, limited_alloc, limited_free};
    exitlm_load_options options = {.allocator = &allocator, .max_bytes = MAX_MODEL_BYTES};
    exitlm_loader *loader;
    exitlm_model *model = NULL;
    exitlm_error error;
    size_t chunk = 1 + take(in, 2);
    uint64_t at = 0;
    EXPECT(exitlm_loader_create(&loader, &options, &error) == EXITLM_OK);
    bool good = true;
    for (int steps = 0; good && at < n_bytes && steps < 4096; steps++) {
        size_t n = n_bytes - at < chunk ? (size_t)(n_bytes - at) : chunk;
        good = expected(exitlm_loader_push(loader, bytes + at, n, &error), &error);
        at += n;
        if (!good || !jumps || in->n == 0) continue;
        uint64_t to = take(in, 2) % n_bytes;
        exitlm_status status = exitlm_loader_seek(loader, 0, to, &error);
        EXPECT(status == EXITLM_OK || status == EXITLM_USAGE);
        if (status == EXITLM_OK) at = to;
        chunk = 1 + take(in, 1);
    }
    if (good && jumps && exitlm_loader_seek(loader, 0, 0, &error) == EXITLM_OK)
        good = expected(exitlm_loader_push(loader, bytes, n_bytes, &error), &error);
    if (good) use(loader);
    if (good && expected(exitlm_loader_finish(loader, &model, &error), &error))
        exitlm_model_free(model);
    else exitlm_loader_free(loader);
    EXPECT(l.left == 4 * MAX_MODEL_BYTES);
}

static void read_heads(const uint8_t *bytes, size_t n_bytes) {
    limit l = {MAX_MODEL_BYTES};
    exitlm_allocator allocator = {&l, limited_alloc, limited_free};
    exitlm_heads *heads;
    exitlm_error error;
    if (expected(exitlm_heads_create(&heads, bytes, n_bytes, &allocator, &error), &error)) {
        exitlm_heads_info info;
        exitlm_heads_describe(heads, &info);
        xl_heads_row(heads, EXITLM_STRATEGY_RISK, 0.9f, EXITLM_POLICY_MAPS, &(xl_use){0});
        exitlm_heads_free(heads);
    }
    EXPECT(l.left == MAX_MODEL_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    uint32_t kind = take(&in, 1) % 4;
    if (kind == 0) {
        input none = {NULL, 0};
        load(in.data, in.n, &none, false);
        read_heads(in.data, in.n);
        return 0;
    }
    static xl_buffer good[2]; /* a model, heads: made once */
    xl_buffer file, *from = &good[kind == 2];
    if (!from->data) {
        xl_buffer_init(from, &xl_libc_allocator);
        if (kind == 2) make_heads(from);
        else make_model(from);
        EXPECT(!from->failed);
    }
    xl_buffer_init(&file, &xl_libc_allocator);
    xl_buffer_add(&file, from->data, from->n_bytes);
    change(&file, &in, take(&in, 1) % 16, 2); /* in the first 64 KiB */
    size_t n = take(&in, 1) & 1 ? take(&in, 2) % (file.n_bytes + 1) : file.n_bytes; /* cut? */
    uint8_t *exact = malloc(n + 1);
    EXPECT(exact);
    memcpy(exact, file.data, n);
    if (kind == 2) read_heads(exact, n);
    else load(exact, n, &in, kind == 3);
    free(exact);
    xl_buffer_free(&file);
    return 0;
}
