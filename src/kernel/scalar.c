/* The reference: every kernel in plain C, in exactly the order of operations that kernels.h states.
 * The other instruction sets are tested against it bit for bit. It is written to be read, and is
 * complete, so that any machine can run it. */
#include "kernels_isa.h"

#include "base/fmath.h"

#include <float.h>

/* A quantised activation block of 32 columns. */
typedef struct act_block {
    float d, s;     /* scale; d * (S0 + S1) */
    int32_t sum[2]; /* S0, S1: sums of q over columns 0..15 and 16..31 */
    int8_t q[32];
} act_block;

static float load_f16(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return xl_f16_to_f32(h);
}

static float load_bf16(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return xl_float_of_bits((uint32_t)h << 16);
}

static float sum8(const float l[8]) {
    return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
}

/* The largest magnitude of x as bits: integers compare like magnitudes, and NaN above all. */
static uint32_t peak_bits(const float *x, size_t n) {
    uint32_t peak = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = xl_bits_of_float(x[i]) & 0x7fffffffu;
        peak = bits > peak ? bits : peak;
    }
    return peak;
}

/* q [n] <- x [n] with one scale, which is returned. */
static float quantize_group(int8_t *q, const float *x, size_t n) {
    uint32_t peak = peak_bits(x, n);
    float amax = xl_float_of_bits(peak);
    if (peak >= 0x7f800000u || amax < XL_ACT_TINY) {
        memset(q, 0, n);
        return 0.0f;
    }
    float inverse = 127.0f / amax;
    for (size_t i = 0; i < n; i++) {
        float z = x[i] * inverse + XL_EXPF_MAGIC;
        q[i] = (int8_t)(int)(z - XL_EXPF_MAGIC);
    }
    return amax / 127.0f;
}

static void quantize(void *act, float *rest, const float *x, size_t cols) {
    act_block *out = act;
    for (size_t b = 0; b < cols / 32; b++, out++, x += 32) {
        out->d = quantize_group(out->q, x, 32);
        out->sum[0] = out->sum[1] = 0;
        for (int c = 0; c < 32; c++) out->sum[c / 16] += out->q[c];
        out->s = out->d * (float)(out->sum[0] + out->sum[1]);
        if (!rest) continue;
        for (int c = 0; c < 32; c++)
            rest[b * 32 + c] = out->d == 0.0f ? 0.0f : x[c] - out->d * (float)out->q[c];
    }
}

/* ---- matmul ---- */

/* One row's 32 columns of a weight tile, decoded. w is signed and complete for the types without
 * a minimum. */
typedef struct weight_block {
    float d, m;
    int32_t scale[2]; /* of the halves; 1 but for Q6_K */
    int8_t w[32];
} weight_block;

/* 4 words: columns 0..15 low, 16..31 high */
static int nibble_column(const uint8_t *words, size_t r, int c) {
    uint8_t byte = words[(size_t)(c % 16 / 4) * 32 + 4 * r + (size_t)(c % 4)];
    return c < 16 ? byte & 15 : byte >> 4;
}

static void decode_q8_0(const uint8_t *rec, size_t r, weight_block *b) {
    b->d = load_f16(rec + 2 * r);
    for (int c = 0; c < 32; c++) b->w[c] = (int8_t)rec[16 + c / 4 * 32 + 4 * (int)r + c % 4];
}

static void decode_q45(xl_type type, const uint8_t *rec, size_t r, weight_block *b) {
    bool has_min = type == XL_Q4_1 || type == XL_Q5_1,
         has_high = type == XL_Q5_0 || type == XL_Q5_1;
    b->d = load_f16(rec + 2 * r);
    rec += 16;
    if (has_min) b->m = load_f16(rec + 2 * r), rec += 16;
    const uint8_t *qh = rec + 4 * r;
    if (has_high) rec += 32;
    int offset = has_min ? 0 : has_high ? 16 : 8;
    for (int c = 0; c < 32; c++) {
        int v = nibble_column(rec, r, c);
        if (has_high) v |= (qh[c % 4] >> c / 4 & 1) << 4;
        b->w[c] = (int8_t)(v - offset);
    }
}

/* Sub-block j of the 8 in a K superblock. */
static void decode_k45(xl_type type, const uint8_t *rec, size_t r, size_t j, weight_block *b) {
    const uint8_t *qh = rec + 32, *group = rec + (type == XL_Q5_K ? 288 : 32) + j / 2 * 288;
    b->d = load_f16(rec + 2 * r) * (float)group[j % 2 * 8 + r];
    b->m = -(load_f16(rec + 16 + 2 * r) * (float)group[16 + j % 2 * 8 + r]);
    for (int c = 0; c < 32; c++) {
        size_t at = (size_t)(c / 4) * 32 + 4 * r + (size_t)(c % 4);
        int v = j % 2 ? group[32 + at] >> 4 : group[32 + at] & 15;
        if (type == XL_Q5_K) v |= (qh[at] >> j & 1) << 4;
        b->w[c] = (int8_t)v;
    }
}

static void decode_q6k(const uint8_t *rec, size_t r, size_t j, weight_block *b) {
    const uint8_t *ql = rec + 144, *qh = rec + 144 + 1024;
    size_t half = j / 4, quarter = j % 4;
    b->d = load_f16(rec + 2 * r);
    b->scale[0] = (int8_t)rec[16 + 2 * j * 8 + r];
    b->scale[1] = (int8_t)rec[16 + (2 * j + 1) * 8 + r];
    for (int c = 0; c < 32; c++) {
        size_t word = (size_t)(c / 4), at = 4 * r + (size_t)(c % 4);
        int low = ql[(half * 16 + (quarter & 1) * 8 + word) * 32 + at] >> (quarter >> 1) * 4 & 15;
        int high = qh[(half * 8 + word) * 32 + at] >> 2 * quarter & 3;
        b->w[c] = (int8_t)((low | high << 4) - 32);
    }
}

static void decode(xl_type type, const uint8_t *rec, size_t r, size_t j, weight_block *b) {
    b->m = 0.0f;
    b->scale[0] = b->scale[1] = 1;
    switch (type) {
    case XL_Q8_0: decode_q8_0(rec, r, b); break;
    case XL_Q4_K:
    case XL_Q5_K: decode_k45(type, rec, r, j, b); break;
    case XL_Q6_K: decode_q6k(rec, r, j, b); break;
    default: decode_q45(type, rec, r, b); break;
    }
}

static bool type_has_min(xl_type type) {
    return type == XL_Q4_1 || type == XL_Q5_1 || type == XL_Q4_K || type == XL_Q5_K;
}

static float add_block(xl_type type, float acc, const weight_block *w, const act_block *a) {
    int32_t dot[2] = {0, 0};
    for (int c = 0; c < 32; c++) dot[c / 16] += w->w[c] * a->q[c];
    float product = (float)(w->scale[0] * dot[0] + w->scale[1] * dot[1]) * (w->d * a->d);
    return acc + (type_has_min(type) ? product + w->m * a->s : product);
}

/* One tile, all rows of the activations. */
static void matmul_tile(xl_type type, float *y, size_t y_stride, const uint8_t *tile, size_t cols,
                        const uint8_t *act, size_t act_stride, size_t n) {
    const xl_quant_type *t = &xl_quant_types[type];
    for (size_t i = 0; i < n; i++)
        for (size_t r = 0; r < XL_TILE_ROWS; r++) y[i * y_stride + r] = 0.0f;
    for (size_t b = 0; b < cols / 32; b++) {
        size_t per_record = t->block_elems / 32;
        const uint8_t *rec = tile + b / per_record * t->record_bytes;
        for (size_t r = 0; r < XL_TILE_ROWS; r++) {
            weight_block w;
            decode(type, rec, r, b % per_record, &w);
            for (size_t i = 0; i < n; i++) {
                const act_block *a = (const act_block *)(const void *)(act + i * act_stride) + b;
                y[i * y_stride + r] = add_block(type, y[i * y_stride + r], &w, a);
            }
        }
    }
}

static float load_weight(xl_type type, const uint8_t *tile, size_t element) {
    float f;
    switch (type) {
    case XL_F16: return load_f16(tile + 2 * element);
    case XL_BF16: return load_bf16(tile + 2 * element);
    default: memcpy(&f, tile + 4 * element, sizeof f); return f;
    }
}

static void matmul_tile_float(xl_type type, float *y, size_t y_stride, const uint8_t *tile,
                              size_t cols, const uint8_t *act, size_t act_stride, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const float *x = (const float *)(const void *)(act + i * act_stride);
        for (size_t r = 0; r < XL_TILE_ROWS; r++) {
            float p[4] = {0.0f, 0.0f, 0.0f, 0.0f};
            for (size_t c = 0; c < cols; c++)
                p[c % 4] = p[c % 4] + load_weight(type, tile, c * XL_TILE_ROWS + r) * x[c];
            y[i * y_stride + r] = (p[0] + p[1]) + (p[2] + p[3]);
        }
    }
}

static void matmul(xl_type type, float *y, size_t y_stride, const void *w, size_t cols, size_t row0,
                   size_t rows, const void *act, size_t act_stride, size_t n) {
    size_t tile_bytes = xl_tile_bytes(type, cols);
    for (size_t r = row0; r < row0 + rows; r += XL_TILE_ROWS) {
        const uint8_t *tile = (const uint8_t *)w + r / XL_TILE_ROWS * tile_bytes;
        if (xl_type_is_quantized(type))
            matmul_tile(type, y + r, y_stride, tile, cols, act, act_stride, n);
        else matmul_tile_float(type, y + r, y_stride, tile, cols, act, act_stride, n);
    }
}

#define X(NAME, ID, ELEMS, FILE_BYTES, RECORD_BYTES)                                              \
    static void matmul_##NAME(float *y, size_t y_stride, const void *w, size_t cols, size_t row0, \
                              size_t rows, const void *act, size_t act_stride_bytes, size_t n) {  \
        matmul(XL_##NAME, y, y_stride, w, cols, row0, rows, act, act_stride_bytes, n);            \
    }
XL_TYPE_LIST(X)
#undef X

/* ---- vectors ---- */

static void rmsnorm(float *y, const float *x, const float *w, size_t n, float eps) {
    float lanes[8] = {0.0f};
    for (size_t i = 0; i < n; i++) lanes[i % 8] = lanes[i % 8] + x[i] * x[i];
    float r = 1.0f / sqrtf(sum8(lanes) / (float)n + eps);
    for (size_t i = 0; i < n; i++) y[i] = (x[i] * r) * w[i];
}

static void layernorm(float *y, const float *x, const float *w, const float *b, size_t n,
                      float eps) {
    float sums[8] = {0.0f}, squares[8] = {0.0f};
    for (size_t i = 0; i < n; i++) sums[i % 8] = sums[i % 8] + x[i];
    float mean = sum8(sums) / (float)n;
    for (size_t i = 0; i < n; i++) squares[i % 8] = squares[i % 8] + (x[i] - mean) * (x[i] - mean);
    float r = 1.0f / sqrtf(sum8(squares) / (float)n + eps);
    for (size_t i = 0; i < n; i++) y[i] = ((x[i] - mean) * r) * w[i] + b[i];
}

static void rope(float *x, const float *cos, const float *sin, size_t n_heads, size_t head_dim,
                 size_t rot_dim, xl_rope_style style) {
    size_t half = rot_dim / 2;
    for (size_t h = 0; h < n_heads; h++, x += head_dim) {
        for (size_t i = 0; i < half; i++) {
            size_t ia = style == XL_ROPE_NORM ? 2 * i : i,
                   ib = style == XL_ROPE_NORM ? 2 * i + 1 : i + half;
            float a = x[ia], b = x[ib];
            x[ia] = a * cos[i] - b * sin[i];
            x[ib] = a * sin[i] + b * cos[i];
        }
    }
}

static void activate(float *x, const float *up, size_t n, xl_activation kind) {
    static const float coefficients[][XL_GELU_TERMS] = {
        [XL_GELU_TANH] = {XL_GELU_TANH_COEFFICIENTS}, [XL_GELU] = {XL_GELU_COEFFICIENTS}};
    for (size_t i = 0; i < n; i++) {
        float a = x[i], z = a * a < XL_GELU_MAX ? a * a : XL_GELU_MAX, p = 0.0f;
        for (int c = XL_GELU_TERMS; c-- > 0;) p = p * z + coefficients[kind][c];
        if (kind != XL_SILU) a = a * p;
        x[i] = x[i] / (1.0f + xl_expf(-a));
        if (up) x[i] = x[i] * up[i];
    }
}

static void add(float *x, const float *y, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = x[i] + y[i];
}

static void mul(float *x, const float *y, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = x[i] * y[i];
}

static void axpy(float *y, float a, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = y[i] + a * x[i];
}

static size_t argmax(const float *x, size_t n) {
    size_t arg = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[arg]) arg = i;
    return arg;
}

static void softmax_stats(const float *x, size_t n, xl_softmax_stats *out) {
    out->arg = argmax(x, n);
    out->max = x[out->arg];
    out->second = -FLT_MAX;
    float sum[8] = {0.0f}, weighted[8] = {0.0f};
    for (size_t i = 0; i < n; i++) {
        if (i != out->arg && x[i] > out->second) out->second = x[i];
        float t = x[i] - out->max, e = xl_expf(t);
        t = t > XL_EXPF_MIN ? t : XL_EXPF_MIN; /* so that -inf gives 0 * finite */
        sum[i % 8] = sum[i % 8] + e;
        weighted[i % 8] = weighted[i % 8] + t * e;
    }
    out->sum_exp = sum8(sum);
    out->sum_xexp = sum8(weighted);
}

/* ---- attention ---- */

/* e [p] <- exp(score - max) for positions [first, end); returns their sum. */
static float exp_scores(float *score, size_t first, size_t end) {
    float max = score[first], lanes[8] = {0.0f};
    for (size_t p = first; p < end; p++) max = score[p] > max ? score[p] : max;
    for (size_t p = first; p < end; p++) {
        score[p] = xl_expf(score[p] - max);
        lanes[p % 8] = lanes[p % 8] + score[p];
    }
    return sum8(lanes);
}

static float load_kv(xl_kv_type type, const void *cache, size_t element) {
    return type == XL_KV_F16 ? load_f16((const uint8_t *)cache + 2 * element)
                             : ((const float *)cache)[element];
}

static size_t kv_tile_bytes(xl_kv_type type, size_t head_dim) {
    if (type == XL_KV_Q8) return 32 + 8 * head_dim;
    return 8 * head_dim * (type == XL_KV_F16 ? 2 : 4);
}

/* Where the tile of a position is, in K or V; the cache begins at tile `first_tile`. */
typedef struct tiles {
    const xl_stretch *cache;
    size_t first_tile, bytes;
} tiles;

static const uint8_t *tile_of(const tiles *t, bool is_k, size_t p) {
    const xl_stretch *at = t->cache;
    size_t skip = p / 8 - t->first_tile;
    for (; skip >= at->tiles; at++) skip -= at->tiles;
    return (const uint8_t *)(is_k ? at->k : at->v) + skip * t->bytes;
}

static void attend_float(xl_kv_type type, float *out, const float *q, const tiles *t, size_t first,
                         size_t end, size_t head_dim, float scale, float *score) {
    for (size_t p = first; p < end; p++) {
        const uint8_t *k = tile_of(t, true, p);
        float dot = 0.0f;
        for (size_t c = 0; c < head_dim; c++) dot = dot + q[c] * load_kv(type, k, c * 8 + p % 8);
        score[p] = dot * scale;
    }
    float inverse = 1.0f / exp_scores(score, first, end);
    for (size_t c = 0; c < head_dim; c++) {
        float sum = 0.0f;
        for (size_t p = first; p < end; p++)
            sum = sum + score[p] * load_kv(type, tile_of(t, false, p), p % 8 * head_dim + c);
        out[c] = sum * inverse;
    }
}

/* A q8 tile of 8 slots: f32 d[8], then K as words of 4 columns [head_dim/4][8][4], V as rows
 * [8][head_dim]. */
static float q8_scale(const uint8_t *tile, size_t slot) {
    return load_weight(XL_F32, tile, slot % 8);
}

/* Sums and differences of elements that lie `half` apart. */
static inline void butterflies(float *x, size_t n, size_t half) {
    for (size_t i = 0; i < n; i += 2 * half)
        for (size_t j = i; j < i + half; j++) {
            const float a = x[j], b = x[j + half];
            x[j] = a + b;
            x[j + half] = a - b;
        }
}

void xl_rotate(float *x, size_t n) {
    for (size_t i = 0; i < n; i += 8) { /* in registers: three times as fast */
        butterflies(x + i, 8, 1);
        butterflies(x + i, 8, 2);
        butterflies(x + i, 8, 4);
    }
    for (size_t half = 8; half < xl_rotation_block(n); half *= 2) butterflies(x, n, half);
}

/* quantize_group of a head's row, rotated. */
static float rotate_group(int8_t *q, const float *x, size_t n) {
    float rotated[XL_MAX_HEAD_DIM];
    memcpy(rotated, x, n * sizeof *x);
    xl_rotate(rotated, n);
    return quantize_group(q, rotated, n);
}

static void attend_q8(float *out, const float *q, const tiles *t, size_t first, size_t end,
                      size_t head_dim, float scale, float *score) {
    int8_t q8[XL_MAX_HEAD_DIM];
    const float block = (float)xl_rotation_block(head_dim);
    float dq = rotate_group(q8, q, head_dim);
    for (size_t p = first; p < end; p++) {
        const uint8_t *tile = tile_of(t, true, p);
        int32_t dot = 0;
        for (size_t c = 0; c < head_dim; c++)
            dot += q8[c] * (int8_t)tile[32 + c / 4 * 32 + p % 8 * 4 + c % 4];
        score[p] = ((float)dot * (dq * q8_scale(tile, p))) * (scale / block);
    }
    float inverse = 1.0f / exp_scores(score, first, end);
    for (size_t p = first; p < end; p++) score[p] = score[p] * q8_scale(tile_of(t, false, p), p);
    for (size_t c = 0; c < head_dim; c++) {
        float sum = 0.0f;
        for (size_t p = first; p < end; p++) {
            const uint8_t *tile = tile_of(t, false, p);
            sum = sum + score[p] * (float)(int8_t)tile[32 + p % 8 * head_dim + c];
        }
        out[c] = sum * inverse;
    }
}

static void attend(xl_kv_type type, float *out, const float *q, size_t stride, size_t rows,
                   const xl_stretch *cache, xl_reach span, size_t head_dim, size_t group,
                   float scale, float *score) {
    const tiles t = {cache, xl_reach_first(span, 0) / 8, kv_tile_bytes(type, head_dim)};
    for (size_t i = 0; i < rows * group; i++) {
        const size_t row = i / group, at = row * stride + i % group * head_dim,
                     first = xl_reach_first(span, row), end = span.end + row;
        if (type == XL_KV_Q8) attend_q8(out + at, q + at, &t, first, end, head_dim, scale, score);
        else attend_float(type, out + at, q + at, &t, first, end, head_dim, scale, score);
    }
}

void xl_store_kv_F32(void *k_cache, void *v_cache, size_t slot, const float *k, const float *v,
                     size_t head_dim) {
    float *kt = (float *)k_cache + slot / 8 * 8 * head_dim + slot % 8;
    for (size_t c = 0; c < head_dim; c++) kt[c * 8] = k[c];
    memcpy((float *)v_cache + slot * head_dim, v, head_dim * sizeof(float));
}

static uint16_t saturate_f16(float f) {
    uint16_t h = xl_f32_to_f16(f);
    /* infinity -> the largest finite value */
    return (h & 0x7fffu) == 0x7c00u ? (uint16_t)(h - 1) : h;
}

void xl_store_kv_F16(void *k_cache, void *v_cache, size_t slot, const float *k, const float *v,
                     size_t head_dim) {
    uint16_t *kt = (uint16_t *)k_cache + slot / 8 * 8 * head_dim + slot % 8,
             *vt = (uint16_t *)v_cache + slot * head_dim;
    for (size_t c = 0; c < head_dim; c++) kt[c * 8] = saturate_f16(k[c]);
    for (size_t c = 0; c < head_dim; c++) vt[c] = saturate_f16(v[c]);
}

void xl_store_kv_Q8(void *k_cache, void *v_cache, size_t slot, const float *k, const float *v,
                    size_t head_dim) {
    uint8_t *kt = (uint8_t *)k_cache + slot / 8 * (32 + 8 * head_dim),
            *vt = (uint8_t *)v_cache + slot / 8 * (32 + 8 * head_dim);
    int8_t q[XL_MAX_HEAD_DIM];
    float d = rotate_group(q, k, head_dim);
    memcpy(kt + slot % 8 * 4, &d, sizeof d);
    for (size_t c = 0; c < head_dim; c += 4) memcpy(kt + 32 + c * 8 + slot % 8 * 4, q + c, 4);
    d = quantize_group((int8_t *)vt + 32 + slot % 8 * head_dim, v, head_dim);
    memcpy(vt + slot % 8 * 4, &d, sizeof d);
}

#define ISA scalar
#include "kernel/body/table.h"
