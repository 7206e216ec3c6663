/* Weight formats: the table of types, and the ways between file blocks, tiles and floats.
 * Layouts are drawn in quant.h. */
#include "quant.h"

#include "base/fmath.h"

#include <assert.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "ExitLM keeps weights little-endian in memory"
#endif

const xl_quant_type xl_quant_types[XL_TYPE_COUNT] = {
#define X(NAME, ID, ELEMS, FILE_BYTES, RECORD_BYTES) {#NAME, ID, ELEMS, FILE_BYTES, RECORD_BYTES},
    XL_TYPE_LIST(X)
#undef X
};

/* ---- sizes and names ---- */

xl_type xl_type_from_ggml(uint32_t ggml_id) {
    for (int t = 0; t < XL_TYPE_COUNT; t++)
        if (xl_quant_types[t].ggml_id == ggml_id) return (xl_type)t;
    return XL_TYPE_COUNT;
}

static char upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c; }

xl_type xl_type_from_name(const char *name) {
    for (int t = 0; t < XL_TYPE_COUNT; t++) {
        const char *a = name, *b = xl_quant_types[t].name;
        while (*a && upper(*a) == *b) a++, b++;
        if (!*a && !*b) return (xl_type)t;
    }
    return XL_TYPE_COUNT;
}

static bool blocks_of_row(xl_type type, size_t cols, size_t *blocks) {
    if ((unsigned)type >= XL_TYPE_COUNT || cols == 0 || cols % xl_quant_types[type].block_elems)
        return false;
    *blocks = cols / xl_quant_types[type].block_elems;
    return true;
}

bool xl_row_file_bytes(xl_type type, size_t cols, size_t *bytes) {
    size_t blocks;
    if (!blocks_of_row(type, cols, &blocks) || blocks > SIZE_MAX / xl_quant_types[type].block_bytes)
        return false;
    *bytes = blocks * xl_quant_types[type].block_bytes;
    return true;
}

bool xl_matrix_bytes(xl_type type, size_t rows, size_t cols, size_t *bytes) {
    size_t blocks;
    if (rows == 0 || !blocks_of_row(type, cols, &blocks)) return false;
    size_t record = xl_quant_types[type].record_bytes,
           tiles = rows / XL_TILE_ROWS + (rows % XL_TILE_ROWS != 0);
    if (blocks > SIZE_MAX / record || tiles > SIZE_MAX / (blocks * record)) return false;
    *bytes = tiles * blocks * record;
    return true;
}

void xl_clear_last_tile(xl_type type, void *base, size_t rows, size_t cols) {
    size_t tile_bytes = xl_tile_bytes(type, cols);
    memset((uint8_t *)base + (rows - 1) / XL_TILE_ROWS * tile_bytes, 0, tile_bytes);
}

/* ---- f16 and bf16 ---- */

float xl_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u,
             mantissa = h & 0x3ffu;
    if (exponent == 31) return xl_float_of_bits(sign | 0x7f800000u | mantissa << 13);
    if (exponent) return xl_float_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    float f = (float)mantissa * 0x1p-24f;
    return sign ? -f : f;
}

uint16_t xl_f32_to_f16(float f) {
    uint32_t bits = xl_bits_of_float(f), sign = bits >> 16 & 0x8000u,
             magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* from 65520 on: infinity */
    /* below 2^-14: adding 0.5 leaves the result's subnormal bits, rounded, at the bottom */
    if (magnitude < 0x38800000u) {
        float shifted = xl_float_of_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (xl_bits_of_float(shifted) - 0x3f000000u));
    }
    uint32_t odd = magnitude >> 13 & 1u;
    return (uint16_t)(sign | (magnitude - 0x38000000u + 0xfffu + odd) >> 13);
}

static uint16_t get16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint32_t get32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static void put16(uint8_t *p, uint16_t v) { memcpy(p, &v, sizeof v); }
static void put32(uint8_t *p, uint32_t v) { memcpy(p, &v, sizeof v); }
static bool finite16(const uint8_t *p) { return (get16(p) & 0x7c00u) != 0x7c00u; }
static uint16_t bf16_of(float f) { /* round to nearest even; f is finite */
    uint32_t bits = xl_bits_of_float(f);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* 6-bit scale and minimum j of the 8 in the 12 bytes of a Q4_K or Q5_K block. */
static void k_scale(const uint8_t *packed, int j, uint8_t *scale, uint8_t *min) {
    if (j < 4) {
        *scale = packed[j] & 63;
        *min = packed[j + 4] & 63;
    } else {
        *scale = (uint8_t)((packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4);
        *min = (uint8_t)((packed[j + 4] >> 4) | (packed[j] >> 6) << 4);
    }
}

static void k_scale_pack(uint8_t *packed, const uint8_t scale[8], const uint8_t min[8]) {
    for (int j = 0; j < 4; j++) {
        packed[j] = (uint8_t)(scale[j] | (scale[j + 4] >> 4) << 6);
        packed[j + 4] = (uint8_t)(min[j] | (min[j + 4] >> 4) << 6);
        packed[j + 8] = (uint8_t)((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
    }
}

/* ---- repacking: `rec` points at the record, `r` is the row in the tile ---- */

enum { LANE16 = 2 * XL_TILE_ROWS, LANE32 = 4 * XL_TILE_ROWS }; /* bytes of 8 lanes */

static void put_words(uint8_t *plane, size_t r, const uint8_t *src, int words) {
    for (int g = 0; g < words; g++) put32(plane + (size_t)g * LANE32 + 4 * r, get32(src + 4 * g));
}

static void get_words(const uint8_t *plane, size_t r, uint8_t *dst, int words) {
    for (int g = 0; g < words; g++) put32(dst + 4 * g, get32(plane + (size_t)g * LANE32 + 4 * r));
}

/* Bit c of the file's qh is the 5th bit of column c; in the tile, bit j of byte k belongs to
 * column 4j+k: an 8 x 4 transposition. */
static uint32_t qh_to_tile(uint32_t file) {
    uint32_t out = 0;
    for (unsigned j = 0; j < 8; j++)
        out |= (file >> (4 * j) & 1u) << j | (file >> (4 * j + 1) & 1u) << (8 + j) |
               (file >> (4 * j + 2) & 1u) << (16 + j) | (file >> (4 * j + 3) & 1u) << (24 + j);
    return out;
}

static uint32_t qh_to_file(uint32_t tile) {
    uint32_t out = 0;
    for (unsigned c = 0; c < 32; c++) out |= (tile >> (8 * (c & 3) + c / 4) & 1u) << c;
    return out;
}

/* Which parts a 32-element block has, in file order and in record order alike: d, then m, then
 * qh, then the words. */
typedef struct block32_shape {
    bool has_min, has_high;
    int words;
} block32_shape;

static block32_shape shape_of(xl_type type) {
    block32_shape s = {type == XL_Q4_1 || type == XL_Q5_1, type == XL_Q5_0 || type == XL_Q5_1,
                       type == XL_Q8_0 ? 8 : 4};
    return s;
}

static bool repack32(xl_type type, uint8_t *rec, size_t r, const uint8_t *src) {
    block32_shape s = shape_of(type);
    bool finite = finite16(src) && (!s.has_min || finite16(src + 2));
    static const uint8_t zero[34];
    if (!finite) src = zero;
    put16(rec + 2 * r, get16(src));
    rec += LANE16;
    src += 2;
    if (s.has_min) {
        put16(rec + 2 * r, get16(src));
        rec += LANE16;
        src += 2;
    }
    if (s.has_high) {
        put32(rec + 4 * r, qh_to_tile(get32(src)));
        rec += LANE32;
        src += 4;
    }
    put_words(rec, r, src, s.words);
    return finite;
}

static void unpack32(xl_type type, const uint8_t *rec, size_t r, uint8_t *dst) {
    block32_shape s = shape_of(type);
    put16(dst, get16(rec + 2 * r));
    rec += LANE16;
    dst += 2;
    if (s.has_min) {
        put16(dst, get16(rec + 2 * r));
        rec += LANE16;
        dst += 2;
    }
    if (s.has_high) {
        put32(dst, qh_to_file(get32(rec + 4 * r)));
        rec += LANE32;
        dst += 4;
    }
    get_words(rec, r, dst, s.words);
}

/* of 64 columns: sc[2][8], m[2][8], qs[8][8] */
enum { K_GROUP_BYTES = 4 * XL_TILE_ROWS + 8 * LANE32 };

static bool repack_k45(xl_type type, uint8_t *rec, size_t r, const uint8_t *src) {
    bool finite = finite16(src) && finite16(src + 2);
    static const uint8_t zero[176];
    if (!finite) src = zero;
    put16(rec + 2 * r, get16(src));
    put16(rec + LANE16 + 2 * r, get16(src + 2));
    rec += 2 * LANE16;
    const uint8_t *packed = src + 4;
    src += 16;
    if (type == XL_Q5_K) {
        put_words(rec, r, src, 8);
        rec += 8 * LANE32;
        src += 32;
    }
    for (int i = 0; i < 4; i++, rec += K_GROUP_BYTES, src += 32) {
        for (int j = 0; j < 2; j++)
            k_scale(packed, 2 * i + j, rec + j * XL_TILE_ROWS + r,
                    rec + (2 + j) * XL_TILE_ROWS + r);
        put_words(rec + 4 * XL_TILE_ROWS, r, src, 8);
    }
    return finite;
}

static void unpack_k45(xl_type type, const uint8_t *rec, size_t r, uint8_t *dst) {
    put16(dst, get16(rec + 2 * r));
    put16(dst + 2, get16(rec + LANE16 + 2 * r));
    rec += 2 * LANE16;
    uint8_t *packed = dst + 4, scale[8], min[8];
    dst += 16;
    if (type == XL_Q5_K) {
        get_words(rec, r, dst, 8);
        rec += 8 * LANE32;
        dst += 32;
    }
    for (int i = 0; i < 4; i++, rec += K_GROUP_BYTES, dst += 32) {
        for (int j = 0; j < 2; j++) {
            scale[2 * i + j] = rec[(size_t)j * XL_TILE_ROWS + r];
            min[2 * i + j] = rec[(size_t)(2 + j) * XL_TILE_ROWS + r];
        }
        get_words(rec + 4 * XL_TILE_ROWS, r, dst, 8);
    }
    k_scale_pack(packed, scale, min);
}

/* Q6_K in the file: ql[128], qh[64], scales[16], d. */
static bool repack_q6k(uint8_t *rec, size_t r, const uint8_t *src) {
    bool finite = finite16(src + 208);
    static const uint8_t zero[210];
    if (!finite) src = zero;
    put16(rec + 2 * r, get16(src + 208));
    rec += LANE16;
    for (int j = 0; j < 16; j++) rec[(size_t)j * XL_TILE_ROWS + r] = src[192 + j];
    rec += 16 * XL_TILE_ROWS;
    put_words(rec, r, src, 32);
    put_words(rec + 32 * LANE32, r, src + 128, 16);
    return finite;
}

static void unpack_q6k(const uint8_t *rec, size_t r, uint8_t *dst) {
    put16(dst + 208, get16(rec + 2 * r));
    rec += LANE16;
    for (int j = 0; j < 16; j++) dst[192 + j] = rec[(size_t)j * XL_TILE_ROWS + r];
    rec += 16 * XL_TILE_ROWS;
    get_words(rec, r, dst, 32);
    get_words(rec + 32 * LANE32, r, dst + 128, 16);
}

static bool repack_float32(uint8_t *rec, size_t r, const uint8_t *src) {
    uint32_t bits = get32(src);
    bool finite = (bits & 0x7f800000u) != 0x7f800000u;
    put32(rec + 4 * r, finite ? bits : 0);
    return finite;
}

static bool repack_float16(uint8_t *rec, size_t r, const uint8_t *src, uint16_t exponent_mask) {
    uint16_t bits = get16(src);
    bool finite = (bits & exponent_mask) != exponent_mask;
    put16(rec + 2 * r, finite ? bits : 0);
    return finite;
}

static bool repack_record(xl_type type, uint8_t *rec, size_t r, const uint8_t *src) {
    switch (type) {
    case XL_F32: return repack_float32(rec, r, src);
    case XL_F16: return repack_float16(rec, r, src, 0x7c00u);
    case XL_BF16: return repack_float16(rec, r, src, 0x7f80u);
    case XL_Q4_K:
    case XL_Q5_K: return repack_k45(type, rec, r, src);
    case XL_Q6_K: return repack_q6k(rec, r, src);
    case XL_Q8_0: return repack32(XL_Q8_0, rec, r, src);
    case XL_Q4_0: return repack32(XL_Q4_0, rec, r, src);
    case XL_Q4_1: return repack32(XL_Q4_1, rec, r, src);
    case XL_Q5_0: return repack32(XL_Q5_0, rec, r, src);
    case XL_Q5_1: return repack32(XL_Q5_1, rec, r, src);
    case XL_TYPE_COUNT: break;
    }
    return false;
}

static void unpack_record(xl_type type, const uint8_t *rec, size_t r, uint8_t *dst) {
    switch (type) {
    case XL_F32: put32(dst, get32(rec + 4 * r)); break;
    case XL_F16:
    case XL_BF16: put16(dst, get16(rec + 2 * r)); break;
    case XL_Q4_K:
    case XL_Q5_K: unpack_k45(type, rec, r, dst); break;
    case XL_Q6_K: unpack_q6k(rec, r, dst); break;
    default: unpack32(type, rec, r, dst); break;
    }
}

bool xl_repack_blocks(xl_type type, void *base, size_t cols, size_t row, size_t block,
                      size_t n_blocks, const uint8_t *src) {
    const xl_quant_type *t = &xl_quant_types[type];
    assert(cols % t->block_elems == 0 && block + n_blocks <= cols / t->block_elems);
    uint8_t *rec =
        (uint8_t *)base + row / XL_TILE_ROWS * xl_tile_bytes(type, cols) + block * t->record_bytes;
    bool finite = true;
    for (size_t i = 0; i < n_blocks; i++, rec += t->record_bytes, src += t->block_bytes)
        finite &= repack_record(type, rec, row % XL_TILE_ROWS, src);
    return finite;
}

void xl_unpack_row(xl_type type, const void *base, size_t cols, size_t row, uint8_t *out) {
    const xl_quant_type *t = &xl_quant_types[type];
    const uint8_t *rec = (const uint8_t *)base + row / XL_TILE_ROWS * xl_tile_bytes(type, cols);
    for (size_t b = 0; b < cols / t->block_elems;
         b++, rec += t->record_bytes, out += t->block_bytes)
        unpack_record(type, rec, row % XL_TILE_ROWS, out);
}

void xl_dequant_row(xl_type type, const void *base, size_t cols, size_t row, float *out) {
    const xl_quant_type *t = &xl_quant_types[type];
    const uint8_t *rec = (const uint8_t *)base + row / XL_TILE_ROWS * xl_tile_bytes(type, cols);
    uint8_t block[256];
    for (size_t b = 0; b < cols / t->block_elems;
         b++, rec += t->record_bytes, out += t->block_elems) {
        unpack_record(type, rec, row % XL_TILE_ROWS, block);
        xl_dequant_block(type, block, out);
    }
}

void xl_copy_row(xl_type type, void *dst_base, size_t dst_row, const void *src_base, size_t src_row,
                 size_t cols) {
    const xl_quant_type *t = &xl_quant_types[type];
    size_t tile_bytes = xl_tile_bytes(type, cols);
    const uint8_t *src = (const uint8_t *)src_base + src_row / XL_TILE_ROWS * tile_bytes;
    uint8_t *dst = (uint8_t *)dst_base + dst_row / XL_TILE_ROWS * tile_bytes, block[256];
    for (size_t b = 0; b < cols / t->block_elems;
         b++, src += t->record_bytes, dst += t->record_bytes) {
        unpack_record(type, src, src_row % XL_TILE_ROWS, block);
        repack_record(type, dst, dst_row % XL_TILE_ROWS, block);
    }
}

/* ---- dequantising file blocks: w = d * q (+ m), each operation rounded ---- */

static void dequant32(xl_type type, const uint8_t *p, float *out) {
    float d = xl_f16_to_f32(get16(p)), m = 0.0f;
    uint32_t high = 0;
    block32_shape s = shape_of(type);
    p += 2;
    if (s.has_min) {
        m = xl_f16_to_f32(get16(p));
        p += 2;
    }
    if (s.has_high) {
        high = get32(p);
        p += 4;
    }
    int offset = s.has_min ? 0 : s.has_high ? 16 : 8;
    for (int c = 0; c < 32; c++) {
        int q = c < 16 ? p[c] & 15 : p[c - 16] >> 4;
        q |= (int)(high >> c & 1u) << 4;
        out[c] = d * (float)(q - offset) + m;
    }
}

static void dequant_q8_0(const uint8_t *p, float *out) {
    float d = xl_f16_to_f32(get16(p));
    for (int c = 0; c < 32; c++) out[c] = d * (float)(int8_t)p[2 + c];
}

static void dequant_k45(xl_type type, const uint8_t *p, float *out) {
    float d = xl_f16_to_f32(get16(p)), dmin = xl_f16_to_f32(get16(p + 2));
    const uint8_t *qh = p + 16, *qs = type == XL_Q5_K ? p + 48 : p + 16;
    for (int j = 0; j < 8; j++) {
        uint8_t scale, min;
        k_scale(p + 4, j, &scale, &min);
        float dj = d * (float)scale, mj = dmin * (float)min;
        for (int c = 0; c < 32; c++) {
            int q = j & 1 ? qs[j / 2 * 32 + c] >> 4 : qs[j / 2 * 32 + c] & 15;
            if (type == XL_Q5_K) q |= (qh[c] >> j & 1) << 4;
            out[j * 32 + c] = dj * (float)q - mj;
        }
    }
}

/* 6-bit value of column c: half h of 128 columns, quarter t of 32; nibble t>>1 of ql, two bits
 * of qh. */
static int q6_value(const uint8_t *ql, const uint8_t *qh, int c) {
    int h = c / 128, t = c / 32 % 4, l = c % 32;
    int low = ql[h * 64 + (t & 1) * 32 + l] >> (t >> 1) * 4 & 15;
    return (low | (qh[h * 32 + l] >> 2 * t & 3) << 4) - 32;
}

static void dequant_q6k(const uint8_t *p, float *out) {
    float d = xl_f16_to_f32(get16(p + 208));
    for (int c = 0; c < 256; c++)
        out[c] = d * (float)(int8_t)p[192 + c / 16] * (float)q6_value(p, p + 128, c);
}

void xl_dequant_block(xl_type type, const uint8_t *block, float *out) {
    switch (type) {
    case XL_F32: *out = xl_float_of_bits(get32(block)); break;
    case XL_F16: *out = xl_f16_to_f32(get16(block)); break;
    case XL_BF16: *out = xl_float_of_bits((uint32_t)get16(block) << 16); break;
    case XL_Q8_0: dequant_q8_0(block, out); break;
    case XL_Q4_K:
    case XL_Q5_K: dequant_k45(type, block, out); break;
    case XL_Q6_K: dequant_q6k(block, out); break;
    default: dequant32(type, block, out); break;
    }
}

/* ---- quantising ---- */

static int round_even(float x) { /* |x| < 2^22 */
    float z = x + XL_EXPF_MAGIC;
    return (int)(z - XL_EXPF_MAGIC);
}

static float magnitude(float x) { return x < 0 ? -x : x; }

/* x / d clamped and rounded, in this order, so that no d can make the conversion overflow. */
static int quant_value(float x, float inverse, float offset, int lo, int hi) {
    float v = x * inverse + offset;
    if (!(v > (float)lo)) return lo;
    return v >= (float)hi ? hi : round_even(v);
}

static float inverse_of(float d) { return magnitude(d) < 1e-30f ? 0.0f : 1.0f / d; }

static float peak_of(const float *x, int n) { /* the value with the largest magnitude, sign kept */
    float peak = 0.0f;
    for (int i = 0; i < n; i++)
        if (magnitude(x[i]) > magnitude(peak)) peak = x[i];
    return peak;
}

static void quantize_q8_0(const float *x, uint8_t *out) {
    uint16_t d16 = xl_f32_to_f16(magnitude(peak_of(x, 32)) / 127.0f);
    float inverse = inverse_of(xl_f16_to_f32(d16));
    put16(out, d16);
    for (int c = 0; c < 32; c++)
        out[2 + c] = (uint8_t)(int8_t)quant_value(x[c], inverse, 0.0f, -127, 127);
}

/* 16 bytes of nibbles to `out`; the fifth bits of values up to 31 to the 4 bytes before them. */
static void put_steps(const float *x, float inverse, float offset, int most, uint8_t *out) {
    uint32_t high = 0;
    for (int c = 0; c < 16; c++) {
        int a = quant_value(x[c], inverse, offset, 0, most),
            b = quant_value(x[c + 16], inverse, offset, 0, most);
        out[c] = (uint8_t)((a & 15) | (b & 15) << 4);
        high |= (uint32_t)(a >> 4) << c | (uint32_t)(b >> 4) << (c + 16);
    }
    if (most > 15) put32(out - 4, high);
}

/* Q4_0 and Q5_0. The peak becomes -8 or -16, the one value without a mirror. */
static void quantize_around_zero(const float *x, int most, uint8_t *out) {
    float half = (float)(most + 1) / 2;
    uint16_t d16 = xl_f32_to_f16(peak_of(x, 32) / -half);
    put16(out, d16);
    put_steps(x, inverse_of(xl_f16_to_f32(d16)), half, most, most > 15 ? out + 6 : out + 2);
}

/* Q4_1 and Q5_1. */
static void quantize_from_least(const float *x, int most, uint8_t *out) {
    float lo = x[0], hi = x[0];
    for (int c = 1; c < 32; c++) {
        lo = x[c] < lo ? x[c] : lo;
        hi = x[c] > hi ? x[c] : hi;
    }
    uint16_t m16 = xl_f32_to_f16(lo), d16 = xl_f32_to_f16((hi - lo) / (float)most);
    float inverse = inverse_of(xl_f16_to_f32(d16));
    put16(out, d16);
    put16(out + 2, m16);
    put_steps(x, inverse, -xl_f16_to_f32(m16) * inverse, most, most > 15 ? out + 8 : out + 4);
}

/* The scale for 16 values in -32..31 with the least squared error, of a few around the one that
 * maps the peak to -32. */
static float best_q6_scale(const float *x) {
    float peak = peak_of(x, 16), best = 0.0f, best_error = 0.0f;
    if (magnitude(peak) < 1e-30f) return 0.0f;
    for (int step = -4; step <= 4; step++) {
        float scale = peak / (-32.0f + 0.25f * (float)step), inverse = inverse_of(scale),
              error = 0.0f;
        for (int i = 0; i < 16; i++) {
            float e = x[i] - scale * (float)quant_value(x[i], inverse, 0.0f, -32, 31);
            error += e * e;
        }
        if (best == 0.0f || error < best_error) best = scale, best_error = error;
    }
    return best;
}

static void quantize_q6k(const float *x, uint8_t *out) {
    float scales[16];
    for (int j = 0; j < 16; j++) scales[j] = best_q6_scale(x + 16 * j);
    uint16_t d16 = xl_f32_to_f16(peak_of(scales, 16) / -128.0f);
    float d = xl_f16_to_f32(d16), inverse = inverse_of(d);
    memset(out, 0, 210);
    put16(out + 208, d16);
    for (int j = 0; j < 16; j++)
        out[192 + j] = (uint8_t)(int8_t)quant_value(scales[j], inverse, 0.0f, -128, 127);
    for (int c = 0; c < 256; c++) {
        float step = d * (float)(int8_t)out[192 + c / 16];
        unsigned v = (unsigned)(quant_value(x[c], inverse_of(step), 0.0f, -32, 31) + 32);
        int h = c / 128, t = c / 32 % 4, l = c % 32;
        out[h * 64 + (t & 1) * 32 + l] |= (uint8_t)((v & 15u) << (t >> 1) * 4);
        out[128 + h * 32 + l] |= (uint8_t)((v >> 4) << 2 * t);
    }
}

static bool all_finite(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((xl_bits_of_float(x[i]) & 0x7f800000u) == 0x7f800000u) return false;
    return true;
}

/* Quantise one block whose values are finite; false if a scale overflowed. */
static bool quantize_block(xl_type type, const float *x, uint8_t *out) {
    switch (type) {
    case XL_F32: put32(out, xl_bits_of_float(*x)); return true;
    case XL_F16: put16(out, xl_f32_to_f16(*x)); return finite16(out);
    case XL_BF16: put16(out, bf16_of(*x)); return (get16(out) & 0x7f80u) != 0x7f80u;
    case XL_Q8_0: quantize_q8_0(x, out); return finite16(out);
    case XL_Q4_0: quantize_around_zero(x, 15, out); return finite16(out);
    case XL_Q5_0: quantize_around_zero(x, 31, out); return finite16(out);
    case XL_Q4_1: quantize_from_least(x, 15, out); return finite16(out) && finite16(out + 2);
    case XL_Q5_1: quantize_from_least(x, 31, out); return finite16(out) && finite16(out + 2);
    case XL_Q6_K: quantize_q6k(x, out); return finite16(out + 208);
    default: return false;
    }
}

bool xl_quantize_row(xl_type type, const float *x, size_t cols, uint8_t *out) {
    size_t bytes;
    if (!xl_row_file_bytes(type, cols, &bytes) || !all_finite(x, cols)) return false;
    const xl_quant_type *t = &xl_quant_types[type];
    for (size_t c = 0; c < cols; c += t->block_elems, out += t->block_bytes)
        if (!quantize_block(type, x + c, out)) return false;
    return true;
}
