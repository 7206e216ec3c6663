#include "random_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Random numbers without libm: the same everywhere ------------------------------------- */
static uint64_t next(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
static float uniform(uint64_t *state) { return (float)(next(state) >> 40) * 0x1p-24f; }
/* Nearly normal, standard deviation 1. */
static float normal(uint64_t *state) {
    float sum = -6;
    for (int i = 0; i < 12; i++) sum += uniform(state);
    return sum;
}

/* ---- Vocabulary: byte-level BPE learnt from a few sentences
 * ----------------------------------- */
enum { N_SPECIAL = 3, MAX_TOKENS = 2048, MAX_SYMBOLS = 16384 };

static const char text[] = " The river ran past the mill, and the miller's children ran along the "
                           "river until the evening came. In the"
                           " morning there was bread on the table, warm bread with butter and "
                           "honey, and nobody asked where the honey had come"
                           " from. They knew the bees, and the bees knew them. Every summer the "
                           "same carts came over the hill with salt, cloth"
                           " and news from the town; every winter the road was white and nobody "
                           "came at all. What is the answer to that? The"
                           " oldest of them said that there is no answer, only a better question, "
                           "and that a question is worth more than a cart"
                           " of salt. She was right about most things. When the water was low they "
                           "walked over the stones to the other side and"
                           " looked for the place where the heron stands, very still, thinking of "
                           "fish. How are you today? I am well, thank you."
                           " And you? The letter that she wrote to her brother begins like this: "
                           "my dear, you would not know the house again. We"
                           " have painted the door blue and the window green, the cat has had "
                           "kittens, and the apple tree that was struck by"
                           " lightning is growing from the other side. You should have seen it. "
                           "Please write to me when the ship has come in, and"
                           " tell me what the captain said about the weather, the whales and the "
                           "wonderful fruit of the islands. user system"
                           " assistant helpful answer question\n please give me the name of the "
                           "capital, the number of people and the reason why.\n";

typedef struct vocabulary {
    char texts[MAX_TOKENS][64]; /* as they stand in the file */
    uint32_t n_tokens;
    char merges[MAX_TOKENS][128];
    uint32_t n_merges;
    uint16_t symbols[MAX_SYMBOLS]; /* the sentences; UINT16_MAX between words */
    uint32_t n_symbols;
} vocabulary;

/* GPT-2's way to write any byte as a printable character. */
static uint32_t byte_character(uint32_t byte, uint32_t *others) {
    if ((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174) return byte;
    return 256 + (*others)++;
}

static void byte_tokens(vocabulary *v) {
    uint32_t others = 0;
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t c = byte_character(byte, &others);
        char *out = v->texts[v->n_tokens++];
        if (c < 128) out[0] = (char)c;
        else out[0] = (char)(0xc0 | c >> 6), out[1] = (char)(0x80 | (c & 63));
    }
}

static bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/* Words with the space before them; everything else on its own. */
static void cut_words(vocabulary *v) {
    for (size_t i = 0; text[i]; i++) {
        bool inside = i && letter(text[i]) && (letter(text[i - 1]) || text[i - 1] == ' ');
        if (i && !inside) v->symbols[v->n_symbols++] = UINT16_MAX;
        v->symbols[v->n_symbols++] = (uint16_t)(N_SPECIAL + (uint8_t)text[i]);
    }
}

/* The most frequent pair; the lowest ids where several are. */
static bool best_pair(const vocabulary *v, uint16_t *left, uint16_t *right) {
    static uint16_t count[MAX_TOKENS][MAX_TOKENS];
    uint32_t best = 0;
    memset(count, 0, sizeof count);
    for (uint32_t i = 0; i + 1 < v->n_symbols; i++)
        if (v->symbols[i] != UINT16_MAX && v->symbols[i + 1] != UINT16_MAX)
            count[v->symbols[i]][v->symbols[i + 1]]++;
    for (uint32_t a = 0; a < v->n_tokens; a++)
        for (uint32_t b = 0; b < v->n_tokens; b++)
            if (count[a][b] > best) best = count[a][b], *left = (uint16_t)a, *right = (uint16_t)b;
    return best > 0;
}

static void merge(vocabulary *v, uint16_t left, uint16_t right) {
    uint32_t n = 0;
    uint16_t merged = (uint16_t)v->n_tokens++;
    char a[32], b[32];
    snprintf(a, sizeof a, "%.31s", v->texts[left]);
    snprintf(b, sizeof b, "%.31s", v->texts[right]);
    snprintf(v->texts[merged], sizeof v->texts[0], "%s%s", a, b);
    snprintf(v->merges[v->n_merges++], sizeof v->merges[0], "%s %s", a, b);
    for (uint32_t i = 0; i < v->n_symbols; i++) {
        bool pair = i + 1 < v->n_symbols && v->symbols[i] == left && v->symbols[i + 1] == right;
        v->symbols[n++] = pair ? merged : v->symbols[i];
        i += pair;
    }
    v->n_symbols = n;
}

static vocabulary *learn(uint32_t merges) {
    vocabulary *v = calloc(1, sizeof *v);
    static const char *const special[N_SPECIAL] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    if (!v) return NULL;
    for (int i = 0; i < N_SPECIAL; i++) strcpy(v->texts[v->n_tokens++], special[i]);
    byte_tokens(v);
    cut_words(v);
    uint16_t left = 0, right = 0;
    while (v->n_merges < merges && best_pair(v, &left, &right)) merge(v, left, right);
    return v;
}

static void put_vocabulary(xl_gguf_writer *w, const random_model *m, const vocabulary *v) {
    const char *tokens[MAX_TOKENS], *merges[MAX_TOKENS];
    int32_t types[MAX_TOKENS];
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        tokens[i] = v->texts[i];
        types[i] = i < N_SPECIAL ? 3 : 1; /* control, normal */
    }
    for (uint32_t i = 0; i < v->n_merges; i++) merges[i] = v->merges[i];
    xl_gguf_put_cstring(w, "tokenizer.ggml.model", m->pieces ? "llama" : "gpt2");
    xl_gguf_put_cstring(w, "tokenizer.ggml.pre", "smollm");
    xl_gguf_put_strings(w, "tokenizer.ggml.tokens", tokens, v->n_tokens);
    xl_gguf_put_array(w, "tokenizer.ggml.token_type", XL_GGUF_I32, types, v->n_tokens);
    xl_gguf_put_strings(w, "tokenizer.ggml.merges", merges, v->n_merges);
    xl_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 1);
    xl_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 2);
    xl_gguf_put_u32(w, "tokenizer.ggml.unknown_token_id", 0);
    xl_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", false);
    xl_gguf_put_cstring(w, "tokenizer.chat_template",
                        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' "
                        "+ message['content'] + '<|im_end|>' + "
                        "'\\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
                        "'<|im_start|>assistant\\n' }}{% endif %}");
}

/* ---- Weights
 * ------------------------------------------------------------------------------------ */
static void put_half(uint8_t *p, float value) {
    uint16_t h = xl_f32_to_f16(value);
    p[0] = (uint8_t)h, p[1] = (uint8_t)(h >> 8);
}

/* A block of random quants whose weights have about the deviation `sd` and the mean 0. */
static void random_block(xl_type type, uint8_t *p, float sd, uint64_t *state) {
    const xl_quant_type *q = &xl_quant_types[type];
    for (uint32_t i = 0; i < q->block_bytes; i++) p[i] = (uint8_t)next(state);
    float scale = sd * (0.75f + 0.5f * uniform(state));
    switch (type) {
    case XL_Q5_0: put_half(p, scale / 9.2f); break;
    case XL_Q5_1: put_half(p, scale / 9.2f), put_half(p + 2, -scale / 9.2f * 15.5f); break;
    case XL_Q4_K: /* scales and minima of 6 bits */
    case XL_Q5_K:
        put_half(p, scale / 36 / (type == XL_Q4_K ? 4.6f : 9.2f));
        put_half(p + 2,
                 scale / 36 / (type == XL_Q4_K ? 4.6f : 9.2f) * (type == XL_Q4_K ? 7.5f : 15.5f));
        /* sub-block i: the minimum's factor is the scale's, 20 to 51 */
        for (int i = 0; i < 8; i++) {
            uint8_t s = (uint8_t)(20 + next(state) % 32);
            if (i < 4) p[4 + i] = s, p[8 + i] = s;
            else {
                p[8 + i] = (uint8_t)((s & 15) | (s & 15) << 4);
                p[i] = (uint8_t)((p[i] & 63) | (s >> 4) << 6);
                p[4 + i] = (uint8_t)((p[4 + i] & 63) | (s >> 4) << 6);
            }
        }
        break;
    case XL_Q6_K:
        for (int i = 0; i < 16; i++) p[192 + i] = (uint8_t)(20 + next(state) % 64);
        put_half(p + 208, scale / 52 / 18.5f);
        break;
    default: break;
    }
}

/* A row of normal weights, or random blocks where the library has no quantiser. */
static bool random_row(xl_type type, uint32_t cols, float sd, uint64_t *state, float *x,
                       uint8_t *out) {
    const xl_quant_type *q = &xl_quant_types[type];
    if (type == XL_Q5_0 || type == XL_Q5_1 || type == XL_Q4_K || type == XL_Q5_K ||
        type == XL_Q6_K) {
        if (cols % q->block_elems) return false;
        for (uint32_t b = 0; b < cols / q->block_elems; b++)
            random_block(type, out + (size_t)b * q->block_bytes, sd, state);
        return true;
    }
    for (uint32_t i = 0; i < cols; i++) x[i] = sd * normal(state);
    return xl_quantize_row(type, x, cols, out);
}

/* ---- Tensors
 * --------------------------------------------------------------------------------------- */
typedef struct tensor {
    char name[64];
    xl_type type;
    uint32_t rows, cols;
    enum { WEIGHTS, TOKENS, GAIN, SIGNED_GAIN, FACTORS } content;
    float sd;
} tensor;

typedef struct tensor_list {
    tensor items[1024];
    uint32_t n;
    bool failed;
} tensor_list;

static void add(tensor_list *list, const char *name, xl_type type, uint32_t rows, uint32_t cols,
                int content, float sd) {
    if (list->n == 1024 || type == XL_TYPE_COUNT) {
        list->failed = true;
        return;
    }
    tensor *t = &list->items[list->n++];
    snprintf(t->name, sizeof t->name, "%s", name);
    t->type = type, t->rows = rows, t->cols = cols, t->content = content, t->sd = sd;
}

static float inverse_root(uint32_t n) { /* 1 / sqrt(n), by Newton */
    float r = 1;
    for (int i = 0; i < 40; i++) r = 0.5f * (r + (float)n / r);
    return 1 / r;
}

/* Early layers decide most, late ones correct: as in a real model, so that exits make sense. */
static float layer_gain(const random_model *m, uint32_t layer) {
    float depth = (float)layer / (float)m->layers;
    return 2.4f * (1 - depth) * (1 - depth) + 0.15f;
}

static bool is(const random_model *m, const char *arch) { return strcmp(m->arch, arch) == 0; }
static bool has_layer_norm(const random_model *m) { return is(m, "gptneox") || is(m, "phi2"); }

/* A norm's weight, times `gain`, and its bias. */
static void add_norm(tensor_list *list, const random_model *m, const char *prefix, uint32_t n,
                     int content, float gain) {
    char name[64];
    snprintf(name, sizeof name, "%.50s.weight", prefix);
    add(list, name, XL_F32, 1, n, content, gain);
    snprintf(name, sizeof name, "%.50s.bias", prefix);
    if (has_layer_norm(m)) add(list, name, XL_F32, 1, n, WEIGHTS, 0.3f);
}

static void add_layer(tensor_list *list, const random_model *m, uint32_t layer) {
    enum { QKV = 7, GATE = 4, N_MATRICES = 8 };
    static const xl_type mixed[N_MATRICES] = {XL_Q4_0, XL_F16,  XL_Q8_0, XL_Q5_1,
                                              XL_Q4_1, XL_Q5_0, XL_Q4_1, XL_Q4_0};
    const bool mix = strcmp(m->type, "mixed") == 0, gemma3 = is(m, "gemma3"),
               fused = is(m, "gptneox");
    uint32_t q_dim = m->heads * m->head_dim, kv_dim = m->kv_heads * m->head_dim;
    float gain = layer_gain(m, layer);
    const struct {
        const char *suffix;
        uint32_t rows, cols;
        float gain;
    } matrices[N_MATRICES] = {{"attn_q", q_dim, m->dim, 1.2f},
                              {"attn_k", kv_dim, m->dim, 1.2f},
                              {"attn_v", kv_dim, m->dim, 1},
                              {"attn_output", m->dim, q_dim, gain},
                              {"ffn_gate", m->ffn_dim, m->dim, 1},
                              {"ffn_up", m->ffn_dim, m->dim, 1},
                              {"ffn_down", m->dim, m->ffn_dim, 1.5f * gain},
                              {"attn_qkv", q_dim + 2 * kv_dim, m->dim, 1.2f}};
    char name[64];
    for (int i = 0; i < N_MATRICES; i++) {
        if (fused ? i < 3 : i == QKV) continue;
        if (has_layer_norm(m) && i == GATE) continue;
        snprintf(name, sizeof name, "blk.%u.%s.weight", layer, matrices[i].suffix);
        add(list, name, mix ? mixed[i] : xl_type_from_name(m->type), matrices[i].rows,
            matrices[i].cols, WEIGHTS, matrices[i].gain * inverse_root(matrices[i].cols));
        snprintf(name, sizeof name, "blk.%u.%s.bias", layer, matrices[i].suffix);
        if (has_layer_norm(m) || (is(m, "qwen2") && i < 3))
            add(list, name, XL_F32, 1, matrices[i].rows, WEIGHTS, 0.3f);
    }
    const struct {
        const char *name;
        bool has;
        uint32_t n;
        float gain;
    } norms[] = {{"attn_norm", true, m->dim, 1},
                 {"ffn_norm", !is(m, "phi2"), m->dim, 1},
                 {"attn_q_norm", gemma3 || is(m, "qwen3"), m->head_dim, 1},
                 {"attn_k_norm", gemma3 || is(m, "qwen3"), m->head_dim, 1},
                 {"post_attention_norm", gemma3, m->dim, gain},
                 {"post_ffw_norm", gemma3, m->dim, gain}};
    for (size_t i = 0; i < sizeof norms / sizeof *norms; i++) {
        snprintf(name, sizeof name, "blk.%u.%s", layer, norms[i].name);
        if (norms[i].has) add_norm(list, m, name, norms[i].n, GAIN, norms[i].gain);
    }
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const tensor *)a)->name, ((const tensor *)b)->name);
}

static void list_tensors(tensor_list *list, const random_model *m, uint32_t vocab) {
    xl_type embedding = xl_type_from_name(m->embedding);
    if (m->rope_freqs) add(list, "rope_freqs.weight", XL_F32, 1, m->head_dim / 2, FACTORS, 0);
    /* what scales the embedding by sqrt(dim) has smaller rows */
    const float row = is(m, "gemma3") ? inverse_root(m->dim) : 1;
    add(list, "token_embd.weight", embedding, vocab, m->dim, TOKENS, row);
    for (uint32_t i = 0; i < m->layers; i++) add_layer(list, m, i);
    if (m->extra) add(list, "vision.note.weight", XL_F16, 3, 5, WEIGHTS, 1);
    add_norm(list, m, "output_norm", m->dim, SIGNED_GAIN, 4 * inverse_root(m->dim) / row);
    if (m->untied) add(list, "output.weight", embedding, vocab, m->dim, TOKENS, row);
    if (is(m, "phi2")) add(list, "output.bias", XL_F32, 1, vocab, WEIGHTS, 0.3f);
    /* the embedding comes last */
    if (m->shuffled) qsort(list->items, list->n, sizeof *list->items, by_name);
}

/* Small rows are seldom chosen: half characters, control characters, the end of the text. */
static float token_scale(uint32_t id) {
    uint32_t byte = id - N_SPECIAL;
    if (id < N_SPECIAL) return 0.8f;
    return byte < 256 && (byte >= 127 || (byte < 32 && byte != '\n')) ? 0.4f : 1;
}

/* Each tensor has its own numbers, whatever the others are. */
static bool write_tensor(const random_model *m, const xl_gguf_writer *w, const tensor *t,
                         xl_buffer *out) {
    uint64_t state = m->seed;
    for (const char *p = t->name; *p; p++) state = state * 1099511628211u + (uint8_t)*p;
    size_t row_bytes;
    if (!xl_row_file_bytes(t->type, t->cols, &row_bytes)) return false;
    float *x = calloc(t->cols, sizeof *x);
    uint8_t *row = calloc(1, row_bytes);
    bool good = x && row;
    for (uint32_t r = 0; r < t->rows && good; r++) {
        if (t->content == WEIGHTS || t->content == TOKENS)
            good =
                random_row(t->type, t->cols, t->content == TOKENS ? token_scale(r) * t->sd : t->sd,
                           &state, x, row);
        else {
            for (uint32_t i = 0; i < t->cols; i++) {
                x[i] = 0.6f + 0.8f * uniform(&state);
                /* else a token would answer itself */
                if (t->content == SIGNED_GAIN) x[i] *= next(&state) & 1 ? t->sd : -t->sd;
                if (t->content == GAIN) x[i] *= t->sd;
                if (t->content == FACTORS) x[i] = i < t->cols / 2 ? 1 : 4;
            }
            good = xl_quantize_row(t->type, x, t->cols, row);
        }
        xl_buffer_add(out, row, row_bytes);
    }
    xl_gguf_writer_data(w, out, NULL, 0);
    free(x);
    free(row);
    return good && !out->failed;
}

/* ---- The file
 * ------------------------------------------------------------------------------------------ */
static void put_u32(xl_gguf_writer *w, const random_model *m, const char *name, uint32_t value) {
    char key[96];
    snprintf(key, sizeof key, "%s.%s", m->arch, name);
    xl_gguf_put_u32(w, key, value);
}

static void put_f32(xl_gguf_writer *w, const random_model *m, const char *name, float value) {
    char key[96];
    snprintf(key, sizeof key, "%s.%s", m->arch, name);
    xl_gguf_put_f32(w, key, value);
}

static void put_keys(xl_gguf_writer *w, const random_model *m, const vocabulary *v) {
    char key[96];
    xl_gguf_put_cstring(w, "general.architecture", m->arch);
    xl_gguf_put_cstring(w, "general.name", "Tiny random model");
    xl_gguf_put_cstring(w, "general.license", "mit");
    put_u32(w, m, "block_count", m->layers);
    put_u32(w, m, "context_length", m->context_tokens);
    put_u32(w, m, "embedding_length", m->dim);
    put_u32(w, m, "feed_forward_length", m->ffn_dim);
    put_u32(w, m, "attention.head_count", m->heads);
    put_u32(w, m, "attention.head_count_kv", m->kv_heads);
    if (m->head_dim * m->heads != m->dim) {
        put_u32(w, m, "attention.key_length", m->head_dim);
        put_u32(w, m, "attention.value_length", m->head_dim);
    }
    put_f32(w, m,
            has_layer_norm(m) ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
            1e-5f);
    if (m->rope_dims) put_u32(w, m, "rope.dimension_count", m->rope_dims);
    if (m->window) {
        put_u32(w, m, "attention.sliding_window", m->window);
        put_u32(w, m, "attention.sliding_window_pattern", 3);
    }
    put_f32(w, m, "rope.freq_base", 10000);
    if (m->rope_linear != 0) {
        snprintf(key, sizeof key, "%s.rope.scaling.type", m->arch);
        xl_gguf_put_cstring(w, key, "linear");
        put_f32(w, m, "rope.scaling.factor", m->rope_linear);
    }
    put_u32(w, m, "vocab_size", v->n_tokens);
    if (m->alignment != 32) xl_gguf_put_u32(w, "general.alignment", m->alignment);
    put_vocabulary(w, m, v);
}

void random_model_defaults(random_model *model) {
    *model = (random_model){.arch = "llama",
                            .type = "mixed",
                            .embedding = "Q8_0",
                            .dim = 64,
                            .ffn_dim = 128,
                            .layers = 6,
                            .heads = 4,
                            .kv_heads = 2,
                            .context_tokens = 512,
                            .merges = 241,
                            .alignment = 32,
                            .seed = 9};
}

void random_model_family(random_model *model, uint32_t number) {
    static const char *const archs[RANDOM_FAMILIES] = {"smollm3", "gemma3", "gptneox", "phi2"};
    random_model_defaults(model);
    model->arch = archs[number];
    model->untied = has_layer_norm(model);
    if (has_layer_norm(model)) model->rope_dims = 8;
    if (is(model, "gemma3")) model->window = 11, model->kv_heads = 1, model->head_dim = 32;
}

bool random_model_write(const random_model *model, xl_buffer *out) {
    random_model sized = *model, *m = &sized;
    if (m->head_dim == 0) m->head_dim = m->dim / m->heads;
    vocabulary *v = learn(m->merges);
    tensor_list *list = calloc(1, sizeof *list);
    xl_gguf_writer w;
    xl_gguf_writer_init(&w, &out->allocator);
    w.alignment = m->alignment;
    bool good = v && list;
    if (good) {
        put_keys(&w, m, v);
        list_tensors(list, m, v->n_tokens);
        for (uint32_t i = 0; i < list->n; i++) {
            const tensor *t = &list->items[i];
            xl_gguf_put_tensor(&w, t->name, xl_quant_types[t->type].ggml_id, t->rows > 1 ? 2 : 1,
                               (uint64_t[]){t->cols, t->rows});
        }
        good = !list->failed && xl_gguf_writer_header(&w, out, NULL) == EXITLM_OK;
    }
    for (uint32_t i = 0; good && i < list->n; i++) good = write_tensor(m, &w, &list->items[i], out);
    xl_gguf_writer_free(&w);
    free(list);
    free(v);
    return good;
}

static bool write_part(const xl_gguf *g, const xl_buffer *file, uint32_t number, uint32_t n,
                       xl_buffer *out) {
    uint32_t from = g->n_tensors * number / n, to = g->n_tensors * (number + 1) / n;
    uint16_t no = (uint16_t)number, count = (uint16_t)n;
    char name[XL_GGUF_MAX_NAME_BYTES + 1];
    xl_gguf_writer w;
    xl_gguf_writer_init(&w, &out->allocator);
    w.alignment = g->alignment;
    for (uint32_t i = 0; i < g->n_keys && number == 0; i++) xl_gguf_put_copy(&w, g, &g->keys[i]);
    /* u16, which the writer has no call for: an array's bytes are the same */
    for (int i = 0; i < 2; i++) {
        const char *key = i ? "split.count" : "split.no";
        xl_buffer_u64(&w.keys, strlen(key));
        xl_buffer_add(&w.keys, key, strlen(key));
        xl_buffer_u32(&w.keys, XL_GGUF_U16);
        xl_buffer_add(&w.keys, i ? &count : &no, 2);
        w.n_keys++;
    }
    xl_gguf_put_i32(&w, "split.tensors.count", (int32_t)g->n_tensors);
    if (number && g->alignment != 32) xl_gguf_put_u32(&w, "general.alignment", g->alignment);
    for (uint32_t i = from; i < to; i++) {
        const xl_gguf_tensor *t = &g->tensors[g->by_offset[i]];
        snprintf(name, sizeof name, "%.*s", (int)t->name_bytes, xl_gguf_text(g, t->name_offset));
        xl_gguf_put_tensor(&w, name, t->type, t->n_dims, t->dims);
    }
    bool good = xl_gguf_writer_header(&w, out, NULL) == EXITLM_OK;
    for (uint32_t i = from; i < to && good; i++) {
        const xl_gguf_tensor *t = &g->tensors[g->by_offset[i]];
        xl_gguf_writer_data(&w, out, file->data + t->offset, (size_t)t->n_bytes);
    }
    xl_gguf_writer_free(&w);
    return good && !out->failed;
}

bool random_model_split(const xl_buffer *file, uint32_t n, xl_buffer *parts) {
    xl_gguf g;
    size_t used;
    xl_gguf_init(&g, &file->allocator);
    bool good = xl_gguf_push(&g, file->data, file->n_bytes, &used, NULL) == EXITLM_OK && g.done;
    for (uint32_t i = 0; i < n && good; i++) good = write_part(&g, file, i, n, &parts[i]);
    xl_gguf_free(&g);
    return good;
}
