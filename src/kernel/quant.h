/* The layout of each weight type: in a GGUF file, in memory, and the ways between the two.
 *
 * A weight matrix [rows][cols] is kept in TILES of 8 rows, so that the lanes of a vector register
 * are rows and no kernel needs a horizontal sum. The last tile is padded with zero rows. Tiles
 * follow each other; within a tile the records of the block columns follow each other, so that a
 * kernel reads one matrix as one straight stream. Little-endian, every record 16-byte aligned:
 *
 *   F32, F16, BF16   [col][8 rows]
 *   Q8_0   272 B  f16 d[8]                       u32 qs[8][8]
 *   Q4_0   144 B  f16 d[8]                       u32 qs[4][8]
 *   Q4_1   160 B  f16 d[8], f16 m[8]             u32 qs[4][8]
 *   Q5_0   176 B  f16 d[8], u32 qh[8]            u32 qs[4][8]
 *   Q5_1   192 B  f16 d[8], f16 m[8], u32 qh[8]  u32 qs[4][8]
 *   Q4_K  1184 B  f16 d[8], f16 dmin[8], of each 64 columns: u8 sc[2][8], u8 m[2][8], u32 qs[8][8]
 *   Q5_K  1440 B  f16 d[8], f16 dmin[8], u32 qh[8][8], then as Q4_K
 *   Q6_K  1680 B  f16 d[8], i8 sc[16][8], u32 ql[32][8], u32 qh[16][8]
 *
 * Q8_0: word g of a row holds columns 4g to 4g+3. Q4 and Q5: the low nibbles of word g hold columns
 * 4g to 4g+3, the high ones those 16 further on; bit j of byte k of qh is the fifth bit of column
 * 4j+k (in the file, bit c that of column c: qh_to_tile in quant.c). Q4_K and Q5_K: low nibbles are
 * the first 32 of 64 columns, high ones the second; bit j of a byte of qh is the fifth bit in the
 * j-th 32 columns; the 6-bit scales are unpacked to bytes. Q6_K: in each 128 columns, column 32t+l
 * has its low four bits in nibble t>>1 of byte 32(t&1)+l of ql, its high two in bits 2t and 2t+1 of
 * byte l of qh; scale j is that of columns 16j to 16j+15.
 *
 * In a file a block is one row's share:
 *
 *   Q8_0    34 B  f16 d, i8 qs[32]
 *   Q4_0    18 B  f16 d, u8 qs[16]
 *   Q4_1    20 B  f16 d, f16 m, u8 qs[16]
 *   Q5_0    22 B  f16 d, u32 qh, u8 qs[16]
 *   Q5_1    24 B  f16 d, f16 m, u32 qh, u8 qs[16]
 *   Q4_K   144 B  f16 d, f16 dmin, u8 scales[12] (k_scale in quant.c), u8 qs[128]
 *   Q5_K   176 B  f16 d, f16 dmin, u8 scales[12], u8 qh[32], u8 qs[128]
 *   Q6_K   210 B  u8 ql[128], u8 qh[64], i8 sc[16], f16 d
 *
 * What value a weight has: xl_dequant_block.
 *
 * All sizes equal the file's, but for the two K-quants with unpacked scales (+3 %). */
#ifndef XL_QUANT_H
#define XL_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define XL_TILE_ROWS 8

/* X(NAME, ggml type id, elements of a block, bytes of a block in the file, bytes of a record = 8
 * rows of a block in a tile) */
#define XL_TYPE_LIST(X)         \
    X(F32, 0, 1, 4, 32)         \
    X(F16, 1, 1, 2, 16)         \
    X(BF16, 30, 1, 2, 16)       \
    X(Q8_0, 8, 32, 34, 272)     \
    X(Q4_0, 2, 32, 18, 144)     \
    X(Q4_1, 3, 32, 20, 160)     \
    X(Q5_0, 6, 32, 22, 176)     \
    X(Q5_1, 7, 32, 24, 192)     \
    X(Q4_K, 12, 256, 144, 1184) \
    X(Q5_K, 13, 256, 176, 1440) \
    X(Q6_K, 14, 256, 210, 1680)

typedef enum xl_type {
#define X(NAME, ID, ELEMS, FILE_BYTES, RECORD_BYTES) XL_##NAME,
    XL_TYPE_LIST(X)
#undef X
        XL_TYPE_COUNT
} xl_type;

typedef struct xl_quant_type {
    const char *name;      /* "Q4_1" */
    uint32_t ggml_id;      /* the type's number in a GGUF file */
    uint32_t block_elems;  /* columns of a block; a row has a whole number of blocks */
    uint32_t block_bytes;  /* bytes of a block in the file */
    uint32_t record_bytes; /* bytes of 8 rows of a block in a tile */
} xl_quant_type;

extern const xl_quant_type xl_quant_types[XL_TYPE_COUNT];

/* True for the types whose matmul takes quantised activations; false for F32, F16, BF16 (raw f32
 * activations). */
static inline bool xl_type_is_quantized(xl_type type) { return type >= XL_Q8_0; }

/* The type with this number in a GGUF file, or XL_TYPE_COUNT if it is not supported. */
xl_type xl_type_from_ggml(uint32_t ggml_id);

/* The type with this name, upper or lower case ("q4_1"), or XL_TYPE_COUNT. */
xl_type xl_type_from_name(const char *name);

/* Bytes of one row in a file. False (and *bytes untouched) if cols is 0 or not a whole number of
 * blocks, or on overflow. */
bool xl_row_file_bytes(xl_type type, size_t cols, size_t *bytes);

/* Bytes of a matrix in tiles, rows padded to a multiple of 8. False as above, or if rows is 0. */
bool xl_matrix_bytes(xl_type type, size_t rows, size_t cols, size_t *bytes);

/* Bytes from the start of one tile to the next. cols must be a whole number of blocks. */
static inline size_t xl_tile_bytes(xl_type type, size_t cols) {
    return cols / xl_quant_types[type].block_elems * xl_quant_types[type].record_bytes;
}

/* Zero the last tile, so that its padding rows are zero; call it before the matrix is filled. No
 * need on zeroed memory. */
void xl_clear_last_tile(xl_type type, void *base, size_t rows, size_t cols);

/* Scatter n_blocks file blocks of one row, from block column `block` on, to their place in the
 * tiles. `src` may be unaligned.
 *   base     start of the matrix (row 0), 16-byte aligned, of xl_matrix_bytes() bytes
 *   row      < rows (padded);  block + n_blocks <= cols / block_elems
 * For F32, F16 and BF16 a block is one element. Blocks may come in any order and as often as
 * wanted. False if a scale (or a float weight) is not finite; what was stored for that block is
 * then zero. Nothing else is checked. */
bool xl_repack_blocks(xl_type type, void *base, size_t cols, size_t row, size_t block,
                      size_t n_blocks, const uint8_t *src);

/* Back from the tiles to one row in file layout, the inverse of the repacking, byte for byte;
 * out has xl_row_file_bytes() bytes. */
void xl_unpack_row(xl_type type, const void *base, size_t cols, size_t row, uint8_t *out);

/* Row `row` of a tiled matrix as f32: out [cols]. */
void xl_dequant_row(xl_type type, const void *base, size_t cols, size_t row, float *out);

/* Copy row src_row of one tiled matrix to row dst_row of another with the same type and cols (a
 * shortlist's gather). */
void xl_copy_row(xl_type type, void *dst_base, size_t dst_row, const void *src_base, size_t src_row,
                 size_t cols);

/* One block in file layout as f32: out [block_elems]. The definition of what each format means. */
void xl_dequant_block(xl_type type, const uint8_t *block, float *out);

/* Quantise one f32 row to file layout: out has xl_row_file_bytes(type, cols) bytes.
 * F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q6_K; false for the other types, for a cols that
 * does not fit, and for a value that is not finite (or overflows the format's f16 scale). */
bool xl_quantize_row(xl_type type, const float *x, size_t cols, uint8_t *out);

/* f16 <-> f32, exact one way, round to nearest even the other (overflow becomes infinity, NaN
 * stays NaN). */
float xl_f16_to_f32(uint16_t h);
uint16_t xl_f32_to_f16(float f);

#ifdef __cplusplus
}
#endif
#endif
