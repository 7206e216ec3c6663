/* reference.c: the plain float32 forward pass that the engine's answers are judged by.
 *
 *   cc -std=gnu11 -O3 -march=native -o reference tests/reference/reference.c -lm
 *   reference MODEL.gguf --ids FILE [--top K] [--from N] [--next]
 *
 * It shares no line with the engine: it reads the GGUF file itself, turns every weight into float32
 * and does nothing clever afterwards. Activations are never quantised, so what it says is what the
 * file's weights mean. -DREAL=double makes the same program a float64 one: how far the two differ
 * is the error of the float32 reference.
 *
 * FILE holds token ids separated by white space; all of them are one context. For each position i
 * from max(N, 1) to the last, one line goes to standard output, in the form of `exitlm score
 * --json`: the id that stands at i, its log-probability given the ids before it, and the K best ids
 * with their logits. With --next one line more, for the position after the last id ("id":-1). The
 * last line has the number of tokens and the perplexity.
 *
 * llama (interleaved RoPE pairs, rope_freqs, linear scaling), qwen2 (biases), qwen3 (norms of q and
 * k); tied or separate output matrix; F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K,
 * Q6_K. One file, not split. It is a test's tool: a file that does not fit ends the program with a
 * sentence.
 *
 * Shapes: T tokens, D model width, F feed-forward width, H query heads, G key/value heads, d
 * head width, V vocabulary. */
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef REAL
#define REAL float
#endif
typedef REAL real;

static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("reference: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static void *reserve(size_t count, size_t size) {
    void *memory = NULL;
    if (posix_memalign(&memory, 64, (count * size + 63) / 64 * 64 + 64) != 0)
        die("no memory for %zu x %zu bytes", count, size);
    memset(memory, 0, count * size);
    return memory;
}
static real *reals(size_t count) { return reserve(count, sizeof(real)); }

/* ---- GGUF
 * ---------------------------------------------------------------------------------------------------------------- */
typedef struct {
    const uint8_t *at, *end;
} reader;

static const uint8_t *take(reader *r, uint64_t n) {
    if ((uint64_t)(r->end - r->at) < n) die("the file is truncated");
    const uint8_t *bytes = r->at;
    r->at += n;
    return bytes;
}
static uint32_t take_u32(reader *r) {
    uint32_t v;
    memcpy(&v, take(r, 4), 4);
    return v;
}
static uint64_t take_u64(reader *r) {
    uint64_t v;
    memcpy(&v, take(r, 8), 8);
    return v;
}
typedef struct {
    uint64_t n;
    const char *s;
} text;
static text take_text(reader *r) {
    text t;
    t.n = take_u64(r);
    t.s = (const char *)take(r, t.n);
    return t;
}
static int same(text t, const char *s) { return t.n == strlen(s) && memcmp(t.s, s, t.n) == 0; }

enum { KEYS_MAX = 256, TENSORS_MAX = 4096 };
enum { VALUE_TEXT = 8, VALUE_ARRAY = 9 };
typedef struct {
    text key;
    uint32_t type;
    double number;
    text string;
} entry;
typedef struct {
    text name;
    uint64_t cols, rows;
    uint32_t type;
    uint64_t offset;
} tensor;
typedef struct {
    entry keys[KEYS_MAX];
    size_t n_keys;
    tensor tensors[TENSORS_MAX];
    size_t n_tensors;
    const uint8_t *data, *end;
    char arch[32];
} gguf;

static double take_number(reader *r, uint32_t type) {
    switch (type) {
    case 0:
    case 7: return *take(r, 1);
    case 1: return (int8_t)*take(r, 1);
    case 2: {
        uint16_t v;
        memcpy(&v, take(r, 2), 2);
        return v;
    }
    case 3: {
        int16_t v;
        memcpy(&v, take(r, 2), 2);
        return v;
    }
    case 4: return take_u32(r);
    case 5: return (int32_t)take_u32(r);
    case 6: {
        float v;
        memcpy(&v, take(r, 4), 4);
        return v;
    }
    case 10: return (double)take_u64(r);
    case 11: return (double)(int64_t)take_u64(r);
    case 12: {
        double v;
        memcpy(&v, take(r, 8), 8);
        return v;
    }
    default: die("metadata value of unknown type %u", type); return 0;
    }
}

static void take_entry(reader *r, entry *e) {
    e->key = take_text(r);
    e->type = take_u32(r);
    if (e->type == VALUE_TEXT) {
        e->string = take_text(r);
    } else if (e->type == VALUE_ARRAY) { /* the tokenizer's: not needed here */
        uint32_t type = take_u32(r);
        for (uint64_t n = take_u64(r); n > 0; n--)
            if (type == VALUE_TEXT) take_text(r);
            else take_number(r, type);
    } else {
        e->number = take_number(r, e->type);
    }
}

static const entry *find_key(const gguf *g, const char *name) {
    for (size_t i = 0; i < g->n_keys; i++)
        if (same(g->keys[i].key, name)) return &g->keys[i];
    return NULL;
}
/* The number under "ARCH.name", or `fallback` (NAN: it has to be there). */
static double hyper(const gguf *g, const char *name, double fallback) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", g->arch, name);
    const entry *e = find_key(g, key);
    if (!e && isnan(fallback)) die("%s is missing", key);
    return e ? e->number : fallback;
}

static void open_gguf(gguf *g, const char *path) {
    int fd = open(path, O_RDONLY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) die("%s cannot be opened", path);
    const uint8_t *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED) die("%s cannot be mapped", path);
    close(fd);
    reader r = {bytes, bytes + st.st_size};
    if (memcmp(take(&r, 4), "GGUF", 4) != 0) die("%s is not a GGUF file", path);
    take_u32(&r);
    g->n_tensors = take_u64(&r);
    g->n_keys = take_u64(&r);
    if (g->n_tensors > TENSORS_MAX || g->n_keys > KEYS_MAX) die("too many tensors or keys");
    for (size_t i = 0; i < g->n_keys; i++) take_entry(&r, &g->keys[i]);
    for (size_t i = 0; i < g->n_tensors; i++) {
        tensor *t = &g->tensors[i];
        t->name = take_text(&r);
        uint32_t n_dims = take_u32(&r);
        t->cols = t->rows = 1;
        for (uint32_t d = 0; d < n_dims; d++) *(d == 0 ? &t->cols : &t->rows) *= take_u64(&r);
        t->type = take_u32(&r);
        t->offset = take_u64(&r);
    }
    const entry *alignment = find_key(g, "general.alignment"),
                *arch = find_key(g, "general.architecture");
    size_t align = alignment ? (size_t)alignment->number : 32;
    g->data = bytes + ((size_t)(r.at - bytes) + align - 1) / align * align;
    g->end = r.end;
    if (!arch || arch->string.n >= sizeof g->arch) die("no architecture");
    memcpy(g->arch, arch->string.s, arch->string.n);
}

/* ---- Weights to reals
 * ------------------------------------------------------------------------------------------------------ */
static float f16(const uint8_t *p) {
    uint32_t h = p[0] | (uint32_t)p[1] << 8, exponent = h >> 10 & 31, mantissa = h & 1023;
    float value = exponent == 0    ? ldexpf((float)mantissa, -24)
                  : exponent == 31 ? (mantissa ? NAN : INFINITY)
                                   : ldexpf((float)(mantissa + 1024), (int)exponent - 25);
    return h >> 15 ? -value : value;
}
static float f32(uint32_t bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
static uint32_t u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* Blocks of 32. `high`: where the fifth bits lie (NULL: 4 bit); weight = d * (q - zero) + m. */
static void nibbles(real *y, const uint8_t *qs, const uint8_t *high, float d, float m, int zero) {
    uint32_t bits = high ? u32(high) : 0;
    for (int i = 0; i < 32; i++) {
        int q = (i < 16 ? qs[i] & 15 : qs[i - 16] >> 4) | (int)(bits >> i & 1) << 4;
        y[i] = (real)d * (real)(q - zero) + (real)m;
    }
}

/* The 6-bit scale and minimum of sub-block j (0..7) in the 12 bytes of a Q4_K or Q5_K block. */
static void scale_min(const uint8_t *s, int j, int *scale, int *min) {
    *scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
    *min = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;
}
/* Blocks of 256: f16 d, f16 dmin, 12 bytes of scales, [32 bytes of fifth bits], 128 bytes of
 * nibbles. */
static void k45(real *y, const uint8_t *b, const uint8_t *high, const uint8_t *qs) {
    for (int j = 0; j < 8; j++) {
        int scale, min;
        scale_min(b + 4, j, &scale, &min);
        real d = (real)f16(b) * (real)scale, m = (real)f16(b + 2) * (real)min;
        for (int i = 0; i < 32; i++) {
            uint8_t byte = qs[j / 2 * 32 + i];
            int q = (j & 1 ? byte >> 4 : byte & 15) | (high ? high[i] >> j & 1 : 0) << 4;
            y[j * 32 + i] = d * (real)q - m;
        }
    }
}
/* 128 bytes of low nibbles, 64 of upper bit pairs, 16 int8 scales, f16 d. */
static void k6(real *y, const uint8_t *b) {
    for (int i = 0; i < 256; i++) {
        int half = i / 128, quarter = i % 128 / 32, l = i % 32;
        uint8_t low = b[half * 64 + (quarter & 1) * 32 + l], up = b[128 + half * 32 + l];
        int q = (quarter < 2 ? low & 15 : low >> 4) | (up >> 2 * quarter & 3) << 4;
        y[i] = (real)f16(b + 208) * (real)(int8_t)b[192 + i / 16] * (real)(q - 32);
    }
}

typedef struct {
    uint32_t type;
    unsigned elements, bytes;
    const char *name;
} format;
static const format formats[] = {
    {0, 1, 4, "F32"},       {1, 1, 2, "F16"},       {30, 1, 2, "BF16"},     {8, 32, 34, "Q8_0"},
    {2, 32, 18, "Q4_0"},    {3, 32, 20, "Q4_1"},    {6, 32, 22, "Q5_0"},    {7, 32, 24, "Q5_1"},
    {12, 256, 144, "Q4_K"}, {13, 256, 176, "Q5_K"}, {14, 256, 210, "Q6_K"},
};

static void dequantise_block(real *y, const uint8_t *b, uint32_t type) {
    switch (type) {
    case 0: y[0] = f32(u32(b)); break;
    case 1: y[0] = f16(b); break;
    case 30: y[0] = f32((uint32_t)(b[0] | b[1] << 8) << 16); break;
    case 8:
        for (int i = 0; i < 32; i++) y[i] = (real)f16(b) * (real)(int8_t)b[2 + i];
        break;
    case 2: nibbles(y, b + 2, NULL, f16(b), 0, 8); break;
    case 3: nibbles(y, b + 4, NULL, f16(b), f16(b + 2), 0); break;
    case 6: nibbles(y, b + 6, b + 2, f16(b), 0, 16); break;
    case 7: nibbles(y, b + 8, b + 4, f16(b), f16(b + 2), 0); break;
    case 12: k45(y, b, NULL, b + 16); break;
    case 13: k45(y, b, b + 16, b + 48); break;
    case 14: k6(y, b); break;
    }
}

/* The tensor "prefix" + "name" as reals [rows][cols]; NULL where there is none and it is
 * optional. */
static real *weights(const gguf *g, const char *prefix, const char *name, uint64_t rows,
                     uint64_t cols, int optional) {
    char full[128];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const tensor *t = NULL;
    for (size_t i = 0; i < g->n_tensors; i++)
        if (same(g->tensors[i].name, full)) t = &g->tensors[i];
    if (!t && optional) return NULL;
    if (!t) die("tensor %s is missing", full);
    if (t->rows != rows || t->cols != cols)
        die("tensor %s is %llu x %llu, not %llu x %llu", full, (unsigned long long)t->rows,
            (unsigned long long)t->cols, (unsigned long long)rows, (unsigned long long)cols);
    const format *f = NULL;
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (formats[i].type == t->type) f = &formats[i];
    if (!f) die("tensor %s has type %u, which is not handled", full, t->type);
    uint64_t n_blocks = rows * cols / f->elements;
    const uint8_t *b = g->data + t->offset;
    if (b > g->end || (uint64_t)(g->end - b) < n_blocks * f->bytes)
        die("tensor %s is truncated", full);
    real *y = reals(rows * cols);
    for (uint64_t i = 0; i < n_blocks; i++)
        dequantise_block(y + i * f->elements, b + i * f->bytes, t->type);
    return y;
}

/* ---- Matrix product
 * --------------------------------------------------------------------------------------------------------- */
/* Panels of PANEL rows with the columns outside, so that the inner loop runs over PANEL
 * independent sums. */
enum { LANES = 64 / sizeof(real), VECTORS = 2, PANEL = LANES * VECTORS, TOKENS = 8 };
typedef real vec __attribute__((vector_size(64)));
typedef struct {
    real *panels;
    size_t rows, cols;
} matrix;

static matrix pack(const real *w, size_t rows, size_t cols) {
    matrix m = {reals((rows + PANEL - 1) / PANEL * PANEL * cols), rows, cols};
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            m.panels[(r / PANEL * cols + c) * PANEL + r % PANEL] = w[r * cols + c];
    return m;
}
static matrix load_matrix(const gguf *g, const char *prefix, const char *name, size_t rows,
                          size_t cols) {
    real *w = weights(g, prefix, name, rows, cols, 0);
    matrix m = pack(w, rows, cols);
    free(w);
    return m;
}

/* y[t][r] = sum over c of x[t][c] * w[r][c] for n tokens; y has rows `stride` apart. */
static void multiply(real *y, size_t stride, const real *x, const matrix *m, size_t n) {
    size_t cols = m->cols;
    for (size_t r = 0; r < m->rows; r += PANEL) {
        const vec *w = (const vec *)(m->panels + r * cols);
        size_t live = m->rows - r < PANEL ? m->rows - r : PANEL;
        for (size_t t = 0; t < n; t += TOKENS) {
            size_t tokens = n - t < TOKENS ? n - t : TOKENS;
            const real *row[TOKENS];
            for (size_t i = 0; i < TOKENS; i++) row[i] = x + (t + (i < tokens ? i : 0)) * cols;
            vec sum[TOKENS][VECTORS] = {{{0}}};
            for (size_t c = 0; c < cols; c++)
                for (size_t i = 0; i < TOKENS; i++)
                    for (size_t v = 0; v < VECTORS; v++)
                        sum[i][v] += w[c * VECTORS + v] * row[i][c];
            for (size_t i = 0; i < tokens; i++)
                memcpy(y + (t + i) * stride + r, sum[i], live * sizeof(real));
        }
    }
}

/* ---- The model
 * ---------------------------------------------------------------------------------------------------------------- */
typedef struct {
    real *attn_norm, *ffn_norm, *q_norm, *k_norm, *q_bias, *k_bias, *v_bias;
    matrix q, k, v, o, gate, up, down;
} layer;
typedef struct {
    size_t D, F, H, G, d, V, L, rot;
    double eps, freq_base, freq_scale;
    int neox; /* RoPE pairs (i, i + rot/2) instead of (2i, 2i+1) */
    real *embedding, *norm, *freq_factors;
    matrix output;
    layer *layers;
} model;

static size_t vocabulary(const gguf *g) {
    for (size_t i = 0; i < g->n_tensors; i++)
        if (same(g->tensors[i].name, "token_embd.weight")) return g->tensors[i].rows;
    die("tensor token_embd.weight is missing");
    return 0;
}

static void load_layer(layer *l, const gguf *g, const model *m, size_t index) {
    char blk[32];
    snprintf(blk, sizeof blk, "blk.%zu.", index);
    l->attn_norm = weights(g, blk, "attn_norm.weight", 1, m->D, 0);
    l->ffn_norm = weights(g, blk, "ffn_norm.weight", 1, m->D, 0);
    l->q_norm = weights(g, blk, "attn_q_norm.weight", 1, m->d, 1);
    l->k_norm = weights(g, blk, "attn_k_norm.weight", 1, m->d, 1);
    l->q_bias = weights(g, blk, "attn_q.bias", 1, m->H * m->d, 1);
    l->k_bias = weights(g, blk, "attn_k.bias", 1, m->G * m->d, 1);
    l->v_bias = weights(g, blk, "attn_v.bias", 1, m->G * m->d, 1);
    l->q = load_matrix(g, blk, "attn_q.weight", m->H * m->d, m->D);
    l->k = load_matrix(g, blk, "attn_k.weight", m->G * m->d, m->D);
    l->v = load_matrix(g, blk, "attn_v.weight", m->G * m->d, m->D);
    l->o = load_matrix(g, blk, "attn_output.weight", m->D, m->H * m->d);
    l->gate = load_matrix(g, blk, "ffn_gate.weight", m->F, m->D);
    l->up = load_matrix(g, blk, "ffn_up.weight", m->F, m->D);
    l->down = load_matrix(g, blk, "ffn_down.weight", m->D, m->F);
}

static void load(model *m, const gguf *g) {
    m->neox = strcmp(g->arch, "llama") != 0;
    if (m->neox && strcmp(g->arch, "qwen2") != 0 && strcmp(g->arch, "qwen3") != 0)
        die("architecture %s is not handled", g->arch);
    m->D = (size_t)hyper(g, "embedding_length", NAN);
    m->F = (size_t)hyper(g, "feed_forward_length", NAN);
    m->L = (size_t)hyper(g, "block_count", NAN);
    m->H = (size_t)hyper(g, "attention.head_count", NAN);
    m->G = (size_t)hyper(g, "attention.head_count_kv", (double)m->H);
    m->d = (size_t)hyper(g, "attention.key_length", (double)(m->D / m->H));
    m->rot = (size_t)hyper(g, "rope.dimension_count", (double)m->d);
    m->eps = hyper(g, "attention.layer_norm_rms_epsilon", NAN);
    m->freq_base = hyper(g, "rope.freq_base", 10000);
    m->freq_scale = 1 / hyper(g, "rope.scaling.factor", 1);
    char key[64];
    snprintf(key, sizeof key, "%s.rope.scaling.type", g->arch);
    const entry *scaling = find_key(g, key);
    if (!scaling || same(scaling->string, "none")) m->freq_scale = 1;
    else if (!same(scaling->string, "linear")) die("rope scaling other than linear is not handled");
    m->V = vocabulary(g);
    m->embedding = weights(g, "", "token_embd.weight", m->V, m->D, 0);
    m->norm = weights(g, "", "output_norm.weight", 1, m->D, 0);
    m->freq_factors = weights(g, "", "rope_freqs.weight", 1, m->rot / 2, 1);
    real *output = weights(g, "", "output.weight", m->V, m->D, 1);
    m->output = pack(output ? output : m->embedding, m->V, m->D);
    free(output);
    m->layers = reserve(m->L, sizeof(layer));
    for (size_t i = 0; i < m->L; i++) load_layer(&m->layers[i], g, m, i);
}

/* ---- Forward
 * ------------------------------------------------------------------------------------------------------------------ */
/* y = x / sqrt(mean(x^2) + eps) * w for `n` rows of `width`; y may be x. */
static void rmsnorm(real *y, const real *x, const real *w, size_t n, size_t width, double eps) {
    for (size_t t = 0; t < n; t++) {
        double squares = 0;
        for (size_t i = 0; i < width; i++)
            squares += (double)x[t * width + i] * (double)x[t * width + i];
        real r = (real)(1 / sqrt(squares / (double)width + eps));
        for (size_t i = 0; i < width; i++) y[t * width + i] = x[t * width + i] * r * w[i];
    }
}

static void add_bias(real *x, const real *bias, size_t n, size_t width) {
    for (size_t t = 0; bias && t < n; t++)
        for (size_t i = 0; i < width; i++) x[t * width + i] += bias[i];
}

/* Rotates x [T][heads][d]: row t stands at position t. */
static void rope(const model *m, real *x, size_t n, size_t heads) {
    for (size_t t = 0; t < n; t++)
        for (size_t i = 0; i < m->rot / 2; i++) {
            double factor = m->freq_factors ? (double)m->freq_factors[i] : 1;
            double angle = (double)t * m->freq_scale *
                           pow(m->freq_base, -2.0 * (double)i / (double)m->rot) / factor;
            real c = (real)cos(angle), s = (real)sin(angle);
            for (size_t h = 0; h < heads; h++) {
                real *a = x + (t * heads + h) * m->d + (m->neox ? i : 2 * i),
                     *b = a + (m->neox ? m->rot / 2 : 1);
                real a0 = *a, b0 = *b;
                *a = a0 * c - b0 * s;
                *b = a0 * s + b0 * c;
            }
        }
}

/* Causal attention: out, q [T][H][d]; k, v [T][G][d]; kt [d][T], weight [T] are scratch. */
static void attention(const model *m, real *restrict out, const real *q, const real *k,
                      const real *v, real *restrict kt, real *restrict weight, size_t n) {
    size_t d = m->d, group = m->H / m->G;
    real scale = (real)(1 / sqrt((double)d));
    for (size_t g = 0; g < m->G; g++) {
        for (size_t t = 0; t < n; t++)
            for (size_t c = 0; c < d; c++) kt[c * n + t] = k[(t * m->G + g) * d + c];
        for (size_t h = g * group; h < (g + 1) * group; h++)
            for (size_t t = 0; t < n; t++) {
                const real *query = q + (t * m->H + h) * d;
                real *restrict o = out + (t * m->H + h) * d;
                for (size_t p = 0; p <= t; p++) weight[p] = 0;
                for (size_t c = 0; c < d; c++)
                    for (size_t p = 0; p <= t; p++) weight[p] += query[c] * kt[c * n + p];
                real max = weight[0];
                for (size_t p = 1; p <= t; p++) max = weight[p] > max ? weight[p] : max;
                double total = 0;
                for (size_t p = 0; p <= t; p++)
                    total += weight[p] = (real)exp((double)((weight[p] - max) * scale));
                for (size_t c = 0; c < d; c++) o[c] = 0;
                for (size_t p = 0; p <= t; p++)
                    for (size_t c = 0; c < d; c++) o[c] += weight[p] * v[(p * m->G + g) * d + c];
                for (size_t c = 0; c < d; c++) o[c] = (real)((double)o[c] / total);
            }
    }
}

typedef struct {
    real *x, *y, *q, *k, *v, *a, *gate, *up, *kt, *weight;
} scratch;

static void run_layer(const model *m, const layer *l, scratch *s, size_t n) {
    size_t q_width = m->H * m->d, kv_width = m->G * m->d;
    rmsnorm(s->y, s->x, l->attn_norm, n, m->D, m->eps);
    multiply(s->q, q_width, s->y, &l->q, n);
    multiply(s->k, kv_width, s->y, &l->k, n);
    multiply(s->v, kv_width, s->y, &l->v, n);
    add_bias(s->q, l->q_bias, n, q_width);
    add_bias(s->k, l->k_bias, n, kv_width);
    add_bias(s->v, l->v_bias, n, kv_width);
    if (l->q_norm) rmsnorm(s->q, s->q, l->q_norm, n * m->H, m->d, m->eps);
    if (l->k_norm) rmsnorm(s->k, s->k, l->k_norm, n * m->G, m->d, m->eps);
    rope(m, s->q, n, m->H);
    rope(m, s->k, n, m->G);
    attention(m, s->a, s->q, s->k, s->v, s->kt, s->weight, n);
    multiply(s->y, m->D, s->a, &l->o, n);
    for (size_t i = 0; i < n * m->D; i++) s->x[i] += s->y[i];

    rmsnorm(s->y, s->x, l->ffn_norm, n, m->D, m->eps);
    multiply(s->gate, m->F, s->y, &l->gate, n);
    multiply(s->up, m->F, s->y, &l->up, n);
    for (size_t i = 0; i < n * m->F; i++)
        s->gate[i] *= s->up[i] / (1 + (real)exp(-(double)s->gate[i]));
    multiply(s->y, m->D, s->gate, &l->down, n);
    for (size_t i = 0; i < n * m->D; i++) s->x[i] += s->y[i];
}

/* Hidden states [T][D] after the last norm. */
static real *forward(const model *m, const int32_t *ids, size_t n) {
    scratch s = {reals(n * m->D),        reals(n * m->D),
                 reals(n * m->H * m->d), reals(n * m->G * m->d),
                 reals(n * m->G * m->d), reals(n * m->H * m->d),
                 reals(n * m->F),        reals(n * m->F),
                 reals(n * m->d),        reals(n)};
    for (size_t t = 0; t < n; t++)
        memcpy(s.x + t * m->D, m->embedding + (size_t)ids[t] * m->D, m->D * sizeof(real));
    for (size_t i = 0; i < m->L; i++) run_layer(m, &m->layers[i], &s, n);
    rmsnorm(s.x, s.x, m->norm, n, m->D, m->eps);
    free(s.y);
    free(s.q);
    free(s.k);
    free(s.v);
    free(s.a);
    free(s.gate);
    free(s.up);
    free(s.kt);
    free(s.weight);
    return s.x;
}

/* ---- Output
 * --------------------------------------------------------------------------------------------------------------------- */
enum { TOP_MAX = 64 };

/* The `k` largest, best first, lower ids first among equals. */
static size_t best(const real *logits, size_t n, size_t k, size_t *ids) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (count == k && logits[i] <= logits[ids[k - 1]]) continue;
        size_t at = count < k ? count++ : k - 1;
        for (; at > 0 && logits[i] > logits[ids[at - 1]]; at--) ids[at] = ids[at - 1];
        ids[at] = i;
    }
    return count;
}

/* Prints position `index`, where `id` stands (-1: nothing does); returns the log-probability of
 * `id`. */
static double print_position(const real *logits, size_t V, size_t index, int32_t id, size_t k) {
    size_t top[TOP_MAX] = {0}, count = best(logits, V, k, top);
    double max = (double)logits[top[0]], total = 0;
    for (size_t i = 0; i < V; i++) total += exp((double)logits[i] - max);
    double logprob = id >= 0 ? (double)logits[id] - max - log(total) : 0;
    printf("{\"type\":\"position\",\"index\":%zu,\"id\":%d,\"logprob\":%.6f,\"top\":[", index, id,
           logprob);
    for (size_t i = 0; i < count; i++)
        printf("%s{\"id\":%zu,\"logit\":%.6f}", i ? "," : "", top[i], (double)logits[top[i]]);
    puts("]}");
    return logprob;
}

static void print_all(const model *m, const int32_t *ids, size_t n, size_t from, size_t k,
                      int next) {
    real *hidden = forward(m, ids, n), *logits = reals(TOKENS * m->V);
    double sum = 0;
    size_t scored = 0, end = next ? n : n - 1; /* the state of token t predicts position t + 1 */
    for (size_t t = from > 0 ? from - 1 : 0; t < end; t += TOKENS) {
        size_t tokens = end - t < TOKENS ? end - t : TOKENS;
        multiply(logits, m->V, hidden + t * m->D, &m->output, tokens);
        for (size_t i = 0; i < tokens; i++) {
            int32_t id = t + i + 1 < n ? ids[t + i + 1] : -1;
            sum += print_position(logits + i * m->V, m->V, t + i + 1, id, k);
            scored += id >= 0;
        }
    }
    printf("{\"type\":\"done\",\"tokens\":%zu,\"perplexity\":%.6f}\n", scored,
           exp(-sum / (double)(scored ? scored : 1)));
}

static int32_t *read_ids(const char *path, size_t V, size_t *n) {
    FILE *file = fopen(path, "r");
    if (!file) die("%s cannot be opened", path);
    int32_t *ids = NULL;
    long id;
    for (*n = 0; fscanf(file, "%ld", &id) == 1; (*n)++) {
        if (id < 0 || (size_t)id >= V)
            die("%s: id %ld is not in the vocabulary of %zu", path, id, V);
        if ((*n & (*n - 1)) == 0) ids = realloc(ids, (*n ? *n * 2 : 1) * sizeof *ids);
        if (!ids) die("no memory");
        ids[*n] = (int32_t)id;
    }
    fclose(file);
    if (*n == 0) die("%s holds no ids", path);
    return ids;
}

int main(int argc, char **argv) {
    const char *path = NULL, *ids_path = NULL;
    size_t k = 2, from = 1, n;
    int next = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--next") == 0) next = 1;
        else if (strcmp(argv[i], "--ids") == 0 && i + 1 < argc) ids_path = argv[++i];
        else if (strcmp(argv[i], "--top") == 0 && i + 1 < argc) k = strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--from") == 0 && i + 1 < argc)
            from = strtoul(argv[++i], NULL, 10);
        else if (!path && argv[i][0] != '-') path = argv[i];
        else
            die("what is %s? usage: reference MODEL.gguf --ids FILE [--top K] [--from N] [--next]",
                argv[i]);
    }
    if (!path || !ids_path || k < 1 || k > TOP_MAX)
        die("usage: reference MODEL.gguf --ids FILE [--top 1..64] [--from N] [--next]");
    static gguf g;
    static model m;
    open_gguf(&g, path);
    load(&m, &g);
    int32_t *ids = read_ids(ids_path, m.V, &n);
    print_all(&m, ids, n, from, k, next);
    return 0;
}
