/* libFuzzer: model files and heads files, as they are or as a good file with changes, pushed in
 * chunks and with jumps. What must hold: no crash, no leak, a word for every failure, no more
 * memory than was allowed, and what is complete can be used.
 *
 * First byte: what the rest is. 0: a whole file. 1: changes of a small model. 2: of a heads
 * file. 3: of a small model, with jumps. Its other bits: the model's family; heads for the loader. */
#include "base/alloc.h"
#include "input.h"
#include "model/heads.h"
#include "model/loader.h"
#include "random_model.h"
#include "tiny.h"

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

/* The good files, made once. Models: the one of above, then a random one of each family. */
enum { MODELS = 2 + RANDOM_FAMILIES };

static const xl_buffer *good_model(uint32_t which) {
    static xl_buffer made[MODELS];
    xl_buffer *out = &made[which];
    if (out->data) return out;
    xl_buffer_init(out, &xl_libc_allocator);
    if (which == 0) make_model(out);
    else {
        random_model m;
        if (which == 1) random_model_defaults(&m);
        else random_model_family(&m, which - 2);
        m.context_tokens = 64;
        EXPECT(random_model_write(&m, out));
    }
    EXPECT(!out->failed);
    return out;
}

static const xl_buffer *good_heads(void) {
    static xl_buffer out;
    if (out.data) return &out;
    xl_buffer_init(&out, &xl_libc_allocator);
    make_heads(&out);
    EXPECT(!out.failed);
    return &out;
}

static const exitlm_heads *heads_for_loader(void) {
    static exitlm_heads *heads;
    const xl_buffer *file = good_heads();
    if (!heads)
        EXPECT(exitlm_heads_create(&heads, file->data, file->n_bytes, NULL, NULL) == EXITLM_OK);
    return heads;
}

/* ---- Changes where they count ----------------------------------------------------------------- */
/* n numbers of the header, each a key's or one of a tensor's: something that is seldom right. */
static void change_numbers(xl_buffer *file, input *in, uint32_t n) {
    static const uint32_t numbers[16] = {0,
                                         1,
                                         2,
                                         3,
                                         32,
                                         33,
                                         64,
                                         0xffff,
                                         0x10000,
                                         0x7fffffffu,
                                         0x80000000u,
                                         0xffffffffu,
                                         0x7fc00000u /* NaN */,
                                         0x7f800000u /* infinite */,
                                         0xbf800000u /* -1 */,
                                         0x7e000000u};
    xl_gguf g;
    size_t used;
    xl_gguf_init(&g, &xl_libc_allocator);
    EXPECT(xl_gguf_push(&g, file->data, file->n_bytes, &used, NULL) == EXITLM_OK && g.done);
    for (; n > 0 && in->n; n--) {
        const uint32_t what = take(in, 1), which = take(in, 1), kind = take(in, 1);
        const uint32_t value = kind < 128 ? numbers[kind % 16] : take(in, 4);
        const xl_gguf_key *key = &g.keys[which % g.n_keys];
        const xl_gguf_tensor *t = &g.tensors[which % g.n_tensors];
        size_t at = key->offset, n_bytes = key->n_bytes;
        if (what & 1) { /* the number of dimensions, these, the type, the offset */
            at = t->name_offset + t->name_bytes + (what >> 1) % 7 * 4;
            n_bytes = 4;
        } else if (n_bytes > 8) continue;
        memcpy(file->data + at, &value, n_bytes < 4 ? n_bytes : 4);
    }
    xl_gguf_free(&g);
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
           status == EXITLM_OUT_OF_MEMORY || status == EXITLM_HEADS_MISMATCH);
    return status == EXITLM_OK;
}

/* A reply of the model, whatever it is: it ends. */
static void talk(const exitlm_model *model) {
    static tiny_reply reply;
    const exitlm_session_options options = {.context_tokens = 16, .heads = model->heads};
    exitlm_session *s;
    exitlm_error error;
    exitlm_generate_options o;
    if (exitlm_session_create(&s, model, &options, &error) != EXITLM_OK) {
        EXPECT(!s && error.message[0]);
        return;
    }
    exitlm_generate_defaults(&o);
    o.max_tokens = 3;
    o.temperature = 0.5f;
    if (exitlm_session_text(s, "a te", 4, false, &o, &error) == EXITLM_OK) tiny_run(s, &reply);
    else EXPECT(error.message[0]);
    exitlm_session_free(s);
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
static void load(const uint8_t *bytes, size_t n_bytes, input *in, bool jumps,
                 const exitlm_heads *heads) {
    limit l = {4 * MAX_MODEL_BYTES};
    exitlm_allocator allocator = {&l, limited_alloc, limited_free};
    exitlm_load_options options = {
        .allocator = &allocator, .max_bytes = MAX_MODEL_BYTES, .heads = heads};
    exitlm_loader *loader;
    exitlm_model *model = NULL;
    exitlm_error error;
    size_t chunk = in->n ? 1 + take(in, 2) : n_bytes;
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
    if (good && !jumps && at < n_bytes)
        good = expected(exitlm_loader_push(loader, bytes + at, n_bytes - at, &error), &error);
    if (good && jumps && exitlm_loader_seek(loader, 0, 0, &error) == EXITLM_OK)
        good = expected(exitlm_loader_push(loader, bytes, n_bytes, &error), &error);
    if (good) use(loader);
    if (good && expected(exitlm_loader_finish(loader, &model, &error), &error)) {
        talk(model);
        exitlm_model_free(model);
    } else exitlm_loader_free(loader);
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
    const uint32_t first = take(&in, 1), kind = first % 4;
    if (kind == 0) {
        input none = {NULL, 0};
        load(in.data, in.n, &none, false, NULL);
        read_heads(in.data, in.n);
        return 0;
    }
    const xl_buffer *from = kind == 2 ? good_heads() : good_model(first / 4 % 32 % MODELS);
    xl_buffer file;
    xl_buffer_init(&file, &xl_libc_allocator);
    xl_buffer_add(&file, from->data, from->n_bytes);
    EXPECT(!file.failed);
    const uint32_t changes = take(&in, 1);
    change_numbers(&file, &in, changes >> 4);
    change(&file, &in, changes % 16, 2); /* in the first 64 KiB */
    size_t n = take(&in, 1) & 1 ? take(&in, 2) % (file.n_bytes + 1) : file.n_bytes; /* cut? */
    uint8_t *exact = malloc(n + 1);
    EXPECT(exact);
    memcpy(exact, file.data, n);
    if (kind == 2) read_heads(exact, n);
    else load(exact, n, &in, kind == 3, first & 0x80 ? heads_for_loader() : NULL);
    free(exact);
    xl_buffer_free(&file);
    return 0;
}
