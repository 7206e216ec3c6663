/* Weight formats: tiles hold exactly what the file holds, formats mean what they should, and the
 * elementary functions are accurate. */
#include "check.h"
#include "base/fmath.h"
#include "kernel/quant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

int failures;

static uint64_t random_state = 0x9e3779b97f4a7c15u;

static uint32_t random32(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 32);
}

static float random_unit(void) { return (float)(int32_t)random32() * 0x1p-31f; } /* [-1, 1) */

static void random_bytes(uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)random32();
}

/* Where the f16 scales of a file block are. */
static size_t scale_offsets(xl_type type, size_t offsets[2]) {
    offsets[0] = type == XL_Q6_K ? 208 : 0;
    offsets[1] = 2;
    switch (type) {
    case XL_Q4_1:
    case XL_Q5_1:
    case XL_Q4_K:
    case XL_Q5_K: return 2;
    default: return 1;
    }
}

static void random_block(xl_type type, uint8_t *block) {
    random_bytes(block, xl_quant_types[type].block_bytes);
    if (type == XL_F32) {
        float f = random_unit();
        memcpy(block, &f, 4);
    } else if (type == XL_BF16) {
        block[1] = (uint8_t)((block[1] & 0x80) | 0x3e);
    } else {
        size_t offsets[2], n = scale_offsets(type, offsets);
        for (size_t i = 0; i < n; i++) block[offsets[i] + 1] &= 0xbb; /* exponent below 31 */
    }
}

static void test_table(void) {
    CHECK(xl_type_from_ggml(3) == XL_Q4_1 && xl_type_from_ggml(14) == XL_Q6_K &&
              xl_type_from_ggml(30) == XL_BF16,
          "type ids");
    CHECK(xl_type_from_ggml(10) == XL_TYPE_COUNT && xl_type_from_ggml(9999) == XL_TYPE_COUNT,
          "unknown id");
    CHECK(xl_type_from_name("q4_k") == XL_Q4_K && xl_type_from_name("BF16") == XL_BF16, "names");
    CHECK(xl_type_from_name("q4") == XL_TYPE_COUNT && xl_type_from_name("") == XL_TYPE_COUNT,
          "unknown name");
    size_t bytes = 7;
    CHECK(xl_row_file_bytes(XL_Q4_1, 576, &bytes) && bytes == 360, "row bytes");
    CHECK(!xl_row_file_bytes(XL_Q4_1, 577, &bytes) && !xl_row_file_bytes(XL_Q4_K, 576, &bytes) &&
              bytes == 360,
          "partial blocks");
    CHECK(!xl_row_file_bytes(XL_F32, SIZE_MAX / 2, &bytes) && !xl_row_file_bytes(XL_F32, 0, &bytes),
          "row overflow");
    CHECK(xl_matrix_bytes(XL_Q8_0, 9, 64, &bytes) && bytes == 2 * 2 * 272, "matrix bytes");
    CHECK(!xl_matrix_bytes(XL_Q8_0, SIZE_MAX - 3, 64, &bytes) &&
              !xl_matrix_bytes(XL_Q8_0, 0, 64, &bytes),
          "matrix overflow");
}

/* Blocks scattered in random order come back byte for byte; rows copied elsewhere too;
 * dequantising agrees with the file blocks. */
static void test_repack(xl_type type) {
    const xl_quant_type *t = &xl_quant_types[type];
    size_t rows = 19, blocks = t->block_elems == 1 ? 45 : 3, cols = blocks * t->block_elems,
           row_bytes, matrix_bytes;
    CHECK(xl_row_file_bytes(type, cols, &row_bytes) &&
              xl_matrix_bytes(type, rows, cols, &matrix_bytes),
          "%s sizes", t->name);
    uint8_t *file = malloc(rows * row_bytes + 1), *out = malloc(row_bytes);
    uint8_t *tiles = malloc(matrix_bytes), *gathered = malloc(matrix_bytes);
    float *row = malloc(cols * sizeof(float)), *expected = malloc(cols * sizeof(float));
    uint8_t *unaligned = file + 1;
    memset(tiles, 0xee, matrix_bytes);
    xl_clear_last_tile(type, tiles, rows, cols);
    for (size_t i = 0; i < rows * blocks; i++) random_block(type, unaligned + i * t->block_bytes);
    for (size_t i = 0; i < rows * blocks; i++) {
        size_t at = i * 7 % (rows * blocks);
        CHECK(xl_repack_blocks(type, tiles, cols, at / blocks, at % blocks, 1,
                               unaligned + at * t->block_bytes),
              "%s block", t->name);
    }
    for (size_t r = 0; r < rows; r++) {
        xl_unpack_row(type, tiles, cols, r, out);
        CHECK(memcmp(out, unaligned + r * row_bytes, row_bytes) == 0,
              "%s row %zu is not what was stored", t->name, r);
        xl_dequant_row(type, tiles, cols, r, row);
        for (size_t b = 0; b < blocks; b++)
            xl_dequant_block(type, unaligned + r * row_bytes + b * t->block_bytes,
                             expected + b * t->block_elems);
        CHECK(memcmp(row, expected, cols * sizeof(float)) == 0, "%s row %zu dequantised", t->name,
              r);
        xl_copy_row(type, gathered, rows - 1 - r, tiles, r, cols);
    }
    for (size_t r = 0; r < rows; r++) {
        xl_unpack_row(type, gathered, cols, rows - 1 - r, out);
        CHECK(memcmp(out, unaligned + r * row_bytes, row_bytes) == 0, "%s row %zu copied", t->name,
              r);
    }
    for (size_t r = rows; r < 24; r++) { /* padding */
        xl_dequant_row(type, tiles, cols, r, row);
        for (size_t c = 0; c < cols; c++) CHECK(row[c] == 0.0f, "%s padding row %zu", t->name, r);
    }
    memset(gathered, 0, matrix_bytes);
    for (size_t r = 0; r < rows; r++)
        xl_repack_blocks(type, gathered, cols, r, 0, blocks, unaligned + r * row_bytes);
    CHECK(memcmp(gathered, tiles, matrix_bytes) == 0, "%s: runs of blocks and single blocks differ",
          t->name);
    free(file), free(out), free(tiles), free(gathered), free(row), free(expected);
}

/* A scale that is not finite is refused and leaves zeros. */
static void test_not_finite(xl_type type) {
    const xl_quant_type *t = &xl_quant_types[type];
    uint8_t block[256], back[256];
    _Alignas(16) uint8_t tile[2048];
    float values[256];
    size_t offsets[2], n = scale_offsets(type, offsets);
    for (size_t i = 0; i < n; i++) {
        random_block(type, block);
        if (type == XL_F32) memcpy(block, &(uint32_t){0xff800000u}, 4);
        else if (type == XL_BF16) memcpy(block, &(uint16_t){0x7fc1}, 2);
        else memcpy(block + offsets[i], &(uint16_t){i ? 0x7e01 : 0xfc00}, 2);
        memset(tile, 0, sizeof tile);
        CHECK(!xl_repack_blocks(type, tile, t->block_elems, 3, 0, 1, block),
              "%s took a scale that is not finite", t->name);
        xl_unpack_row(type, tile, t->block_elems, 3, back);
        xl_dequant_block(type, back, values);
        for (size_t c = 0; c < t->block_elems; c++)
            CHECK(values[c] == 0.0f, "%s: not zero", t->name);
    }
}

/* Known values, worked out by hand from the formats' definitions. */
static void test_meaning(void) {
    float out[256];
    uint8_t q4[18] = {0x00, 0x40 /* 2.0 */, 0x5f};
    xl_dequant_block(XL_Q4_0, q4, out);
    CHECK(out[0] == 14.0f && out[16] == -6.0f && out[1] == -16.0f, "Q4_0 meaning");
    uint8_t q41[20] = {0x00, 0x38 /* 0.5 */, 0x00, 0xbc /* -1 */, 0x5f};
    xl_dequant_block(XL_Q4_1, q41, out);
    CHECK(out[0] == 6.5f && out[16] == 1.5f && out[1] == -1.0f, "Q4_1 meaning");
    uint8_t q5[22] = {0x00, 0x40, 0x01, 0x00, 0x01, 0x00, 0x5f};
    xl_dequant_block(XL_Q5_0, q5, out);
    CHECK(out[0] == 30.0f && out[16] == 10.0f && out[1] == -32.0f, "Q5_0 meaning");
    uint8_t q8[34] = {0x00, 0x40, 0x80, 0x7f};
    xl_dequant_block(XL_Q8_0, q8, out);
    CHECK(out[0] == -256.0f && out[1] == 254.0f && out[31] == 0.0f, "Q8_0 meaning");
    uint8_t q6[210] = {0x2f};
    q6[128] = 0x93; /* high bits 3, 0, 1, 2 for columns 0, 32, 64, 96 */
    q6[192] = 2, q6[194] = (uint8_t)-3, q6[196] = 1, q6[198] = 5;
    q6[209] = 0x3c; /* 1.0 */
    xl_dequant_block(XL_Q6_K, q6, out);
    CHECK(out[0] == 2.0f * (63 - 32) && out[32] == -3.0f * -32 && out[64] == 18.0f - 32 &&
              out[96] == 5.0f * 0,
          "Q6_K meaning");
    uint8_t q4k[144] = {0x00, 0x3c, 0x00, 0x40};
    /* scale 0: 5, min 0: 1, scale 4: 2 + 48, min 4: 3 + 16 */
    q4k[4] = 0xc5, q4k[8] = 0x41, q4k[12] = 0x32;
    q4k[16] = 7, q4k[16 + 64] = 9;
    xl_dequant_block(XL_Q4_K, q4k, out);
    CHECK(out[0] == 5 * 7 - 2 * 1 && out[128] == 50 * 9 - 2 * 19 && out[129] == -38,
          "Q4_K meaning");
    uint8_t q5k[176] = {0x00, 0x3c, 0x00, 0x40};
    q5k[4] = 0xc5, q5k[8] = 0x41, q5k[12] = 0x32;
    q5k[16] = 0x10, q5k[48] = 7, q5k[48 + 64] = 9; /* 5th bit in sub-block 4 */
    xl_dequant_block(XL_Q5_K, q5k, out);
    CHECK(out[0] == 5 * 7 - 2 * 1 && out[128] == 50 * 25 - 2 * 19, "Q5_K meaning");
}

static void test_quantize(xl_type type, float tolerance) {
    enum { COLS = 512 };
    float x[COLS], out[COLS], worst = 0;
    uint8_t file[COLS * 4];
    const xl_quant_type *t = &xl_quant_types[type];
    for (int c = 0; c < COLS; c++) x[c] = random_unit() * (c < 256 ? 1.0f : 0.01f);
    for (int c = 32; c < 64; c++) x[c] = 0.0f;
    CHECK(xl_quantize_row(type, x, COLS, file), "%s quantises", t->name);
    for (size_t c = 0; c < COLS; c += t->block_elems)
        xl_dequant_block(type, file + c / t->block_elems * t->block_bytes, out + c);
    for (int c = 0; c < COLS; c++)
        worst = fmaxf(worst, fabsf(out[c] - x[c]) / (c < 256 ? 1.0f : 0.01f));
    CHECK(worst <= tolerance, "%s: error %g of the largest value, at most %g expected", t->name,
          (double)worst, (double)tolerance);
    for (int c = 32; c < 64; c++)
        CHECK(out[c] == 0.0f, "%s: zero became %g", t->name, (double)out[c]);
    x[5] = INFINITY;
    CHECK(!xl_quantize_row(type, x, COLS, file), "%s took infinity", t->name);
    x[5] = 1.0f;
    if (t->block_elems > 1)
        CHECK(!xl_quantize_row(type, x, COLS - 1, file), "%s took a part of a block", t->name);
    x[5] = 3e38f;
    if (type != XL_F32 && type != XL_BF16)
        CHECK(!xl_quantize_row(type, x, COLS, file), "%s took a scale that overflows", t->name);
    /* subnormal values must not break anything */
    for (int c = 0; c < COLS; c++) x[c] = xl_float_of_bits(random32() & 0x807fffffu);
    CHECK(xl_quantize_row(type, x, COLS, file), "%s quantises subnormals", t->name);
}

static void test_half(void) {
    for (uint32_t h = 0; h < 65536; h++) {
        float f = xl_f16_to_f32((uint16_t)h);
        if ((h & 0x7c00u) == 0x7c00u && (h & 0x3ffu)) {
            CHECK(f != f && (xl_f32_to_f16(f) & 0x7fffu) > 0x7c00u, "NaN %04x", h);
            continue;
        }
        CHECK(xl_f32_to_f16(f) == h, "f16 %04x came back as %04x", h, xl_f32_to_f16(f));
        if ((h & 0x7fffu) >= 0x7bffu) continue;
        /* halfway to the next larger magnitude rounds to even, a hair either side to the nearer
         * one */
        float next = xl_f16_to_f32((uint16_t)(h + 1)), middle = (f + next) * 0.5f;
        uint16_t even = (uint16_t)(h & 1u ? h + 1 : h);
        CHECK(xl_f32_to_f16(middle) == even, "middle of %04x", h);
        CHECK(xl_f32_to_f16(nextafterf(middle, next)) == h + 1 &&
                  xl_f32_to_f16(nextafterf(middle, f)) == h,
              "near middle of %04x", h);
    }
    CHECK(xl_f32_to_f16(65519.996f) == 0x7bff && xl_f32_to_f16(65520.0f) == 0x7c00 &&
              xl_f32_to_f16(-1e30f) == 0xfc00,
          "overflow");
}

static double ulps(double got, double expected, double unit) {
    return fabs(got - expected) / (fabs(expected) * unit);
}

static void test_functions(void) {
    double worst_f = 0, worst_exp = 0, worst_log = 0, worst_sin = 0;
    for (int i = 0; i < 400000; i++) {
        float x = -87.33f + 175.7f * (random_unit() * 0.5f + 0.5f);
        if (x > 88.37f) continue;
        worst_f = fmax(worst_f, ulps((double)xl_expf(x), exp((double)x), 0x1p-23));
        double d = random_unit() * 700.0, p = exp(random_unit() * 20.0),
               a = random_unit() * (i & 1 ? 10.0 : 140000.0);
        worst_exp = fmax(worst_exp, ulps(xl_exp(d), exp(d), 0x1p-52));
        worst_log = fmax(worst_log, fabs(xl_log(p) - log(p)) / fmax(fabs(log(p)), 1e-3) * 0x1p52);
        worst_sin =
            fmax(worst_sin, fmax(fabs(xl_sin(a) - sin(a)), fabs(xl_cos(a) - cos(a))) * 0x1p52);
    }
    printf("errors: expf %.2f ulp, exp %.2f, log %.2f, sin and cos %.2f units of 2^-52\n", worst_f,
           worst_exp, worst_log, worst_sin);
    CHECK(worst_f < 2.0 && worst_exp < 2.0 && worst_log < 3.0 && worst_sin < 8.0, "accuracy");
    CHECK(xl_expf(0.0f) == 1.0f && xl_exp(0.0) == 1.0 && xl_log(1.0) == 0.0 && xl_cos(0.0) == 1.0 &&
              xl_sin(0.0) == 0.0,
          "exact values");
    CHECK(xl_expf(-88.0f) == 0.0f && xl_expf(-INFINITY) == 0.0f && xl_expf(-1e30f) == 0.0f,
          "expf underflow");
    CHECK(xl_expf(1e30f) == xl_expf(88.37f) && xl_expf(88.37f) < INFINITY &&
              xl_expf(NAN) == xl_expf(88.37f),
          "expf overflow");
    CHECK(xl_exp(-800.0) == 0.0 && isinf(xl_exp(710.0)) && xl_exp(-744.0) > 0.0, "exp range");
    CHECK(isinf(xl_log(0.0)) && isnan(xl_log(-1.0)) && isnan(xl_log(NAN)) &&
              isinf(xl_log(INFINITY)),
          "log range");
    CHECK(fabs(xl_log(5e-324) - log(5e-324)) < 1e-12, "log of a subnormal");
    CHECK(xl_pow(10000.0, 0.0) == 1.0 &&
              fabs(xl_pow(100000.0, -0.5) / 0.0031622776601683794 - 1.0) < 1e-14,
          "pow");
    CHECK(xl_sin(INFINITY) == 0.0 && xl_cos(NAN) == 1.0, "sin and cos of nonsense");
}

int main(void) {
    test_table();
    test_half();
    test_meaning();
    for (int t = 0; t < XL_TYPE_COUNT; t++) {
        test_repack((xl_type)t);
        test_not_finite((xl_type)t);
    }
    test_quantize(XL_F32, 0.0f);
    test_quantize(XL_F16, 0x1p-11f);
    test_quantize(XL_BF16, 0x1p-8f);
    test_quantize(XL_Q8_0, 0.0041f);
    test_quantize(XL_Q6_K, 0.033f);
    test_quantize(XL_Q4_1, 0.068f);
    test_quantize(XL_Q4_0, 0.13f);
    test_quantize(XL_Q5_1, 0.033f);
    test_quantize(XL_Q5_0, 0.064f);
    test_functions();
    if (failures) fprintf(stderr, "%d checks failed\n", failures);
    else printf("test_quant: all checks passed\n");
    return failures != 0;
}
