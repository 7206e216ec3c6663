/* Matrix products of all weight types, written once over the vector primitives that an instruction
 * set's file defines before it includes this one (through body.h). The arithmetic, operation for
 * operation, is the one stated in kernels.h; layouts are in quant.h.
 *
 * Lanes are the rows of a weight tile. LANES is 4 or 8, so a tile of 8 rows is one or two vectors
 * wide; a step covers R vectors (R = TILE_VECTORS, or one, where n is so large that two would not
 * stay in registers). N, R and the type are compile-time constants of functions that are always
 * inlined: `matmul_NAME` expands to straight loops for each N that the file lists in FOR_EACH_N.
 *
 * Primitives: vf (LANES f32), vi (LANES i32, or 4 * LANES bytes), and two families of dot products
 * of bytes with the int8 activations, 4 columns a lane, exact:
 *   u_begin, u_dot, u_end   weights 0..63 unsigned; a flush is due after U_GROUPS_4, U_GROUPS_5,
 *                           U_GROUPS_6 groups (4, 5, 6 bits)
 *   s_prepare, s_begin, s_dot, s_end   weights int8
 * act_words(block, half) addresses 16 columns, 4 groups, of an activation block. */

/* ---- from integer dots to f32 ---- */

INLINE void add_scaled(const int N, const int R, vf acc[][STEP_VECTORS], vi dot[][STEP_VECTORS],
                       const vf d[], const uint8_t *act, size_t act_stride) {
    EACH(i, N) {
        vf da = vf_splat(&ACT(i)->d);
        EACH(v, R) acc[i][v] = vf_add(acc[i][v], vf_mul(vf_from_vi(dot[i][v]), vf_mul(d[v], da)));
    }
}

INLINE void add_scaled_min(const int N, const int R, vf acc[][STEP_VECTORS], vi dot[][STEP_VECTORS],
                           const vf d[], const vf m[], const uint8_t *act, size_t act_stride) {
    EACH(i, N) {
        vf da = vf_splat(&ACT(i)->d), sa = vf_splat(&ACT(i)->s);
        EACH(v, R) {
            vf product = vf_mul(vf_from_vi(dot[i][v]), vf_mul(d[v], da));
            acc[i][v] = vf_add(acc[i][v], vf_add(product, vf_mul(m[v], sa)));
        }
    }
}

/* ---- 4, 5 and 8 bit blocks of 32 columns ---- */

INLINE vi low_nibbles(vi w, const consts *k) { return vi_and(w, k->nibbles); }
INLINE vi high_nibbles(vi w, const consts *k) { return vi_and(vi_shr(w, 4), k->nibbles); }

INLINE void load_f16s(const int R, vf out[], const uint8_t *p, size_t apart, const consts *k) {
    EACH(v, R) out[v] = vf_load_f16(TILE_OF(p, v, apart) + 2 * LANES * (v % TILE_VECTORS), k);
}

#ifndef OWN_DOT_NIBBLES
/* dot += nibbles . q over 32 columns: 4 word planes, low nibbles with columns 0..15, high ones
 * with 16..31. */
INLINE void dot_nibbles(const int N, const int R, vi dot[][STEP_VECTORS], const uint8_t *words,
                        size_t apart, const uint8_t *act, size_t act_stride, const consts *k) {
    u_acc part[MAX_N][STEP_VECTORS];
    EACH(i, N)
        EACH(v, R) part[i][v] = u_begin(dot[i][v]);
    EACH(g, 4) {
        if (N == 1) { /* each vector's operands die before the next one's are made */
            EACH(v, R) {
                vi w = WORD_APART(words, g, v, apart);
                part[0][v] = u_dot(part[0][v], low_nibbles(w, k), act_words(ACT(0), 0), g);
                part[0][v] = u_dot(part[0][v], high_nibbles(w, k), act_words(ACT(0), 1), g);
            }
            continue;
        }
        vi low[STEP_VECTORS], high[STEP_VECTORS];
        EACH(v, R) {
            vi w = WORD_APART(words, g, v, apart);
            low[v] = low_nibbles(w, k);
            high[v] = high_nibbles(w, k);
        }
        EACH(i, N) {
            act_half a = act_words(ACT(i), 0), b = act_words(ACT(i), 1);
            EACH(v, R) part[i][v] = u_dot(part[i][v], low[v], a, g);
            EACH(v, R) part[i][v] = u_dot(part[i][v], high[v], b, g);
        }
    }
    EACH(i, N)
        EACH(v, R) dot[i][v] = u_end(dot[i][v], part[i][v], k);
}
#endif

INLINE void block_q4_0(const int N, const int R, vf acc[][STEP_VECTORS], const uint8_t *rec,
                       int lane0, size_t apart, const uint8_t *act, size_t act_stride,
                       const consts *k) {
    vf d[STEP_VECTORS];
    vi dot[MAX_N][STEP_VECTORS];
    EACH(i, N)
        EACH(v, R) dot[i][v] = vi_splat(&ACT(i)->minus8);
    dot_nibbles(N, R, dot, rec + 16 + 4 * lane0, apart, act, act_stride, k);
    load_f16s(R, d, rec + 2 * lane0, apart, k);
    add_scaled(N, R, acc, dot, d, act, act_stride);
}

INLINE void block_q4_1(const int N, const int R, vf acc[][STEP_VECTORS], const uint8_t *rec,
                       int lane0, size_t apart, const uint8_t *act, size_t act_stride,
                       const consts *k) {
    vf d[STEP_VECTORS], m[STEP_VECTORS];
    vi dot[MAX_N][STEP_VECTORS];
    EACH(i, N)
        EACH(v, R) dot[i][v] = vi_set1(0);
    dot_nibbles(N, R, dot, rec + 32 + 4 * lane0, apart, act, act_stride, k);
    load_f16s(R, d, rec + 2 * lane0, apart, k);
    load_f16s(R, m, rec + 16 + 2 * lane0, apart, k);
    add_scaled_min(N, R, acc, dot, d, m, act, act_stride);
}

/* The same for 5 bits; bit j of a byte of qh goes with group j, as bit 4. */
INLINE void dot_q5(const int N, const int R, vi dot[][STEP_VECTORS], const uint8_t *qh,
                   const uint8_t *words, const uint8_t *act, size_t act_stride, const consts *k) {
    u_acc part[MAX_N][STEP_VECTORS];
    vi high_bits[STEP_VECTORS];
    EACH(v, R) high_bits[v] = WORD(qh, 0, v);
    EACH(g, 4) {
        vi low[STEP_VECTORS], high[STEP_VECTORS];
        EACH(v, R) {
            vi w = WORD(words, g, v);
            low[v] = vi_or(low_nibbles(w, k), vi_and(vi_shl(high_bits[v], 4 - g), k->bit4));
            high[v] = vi_or(high_nibbles(w, k), vi_and(vi_shr(high_bits[v], g), k->bit4));
        }
        EACH(i, N) {
            act_half a = act_words(ACT(i), 0), b = act_words(ACT(i), 1);
            EACH(v, R) {
                if (2 * g % U_GROUPS_5 == 0) part[i][v] = u_begin(dot[i][v]);
                part[i][v] = u_dot(part[i][v], low[v], a, g);
                part[i][v] = u_dot(part[i][v], high[v], b, g);
                if ((2 * g + 2) % U_GROUPS_5 == 0) dot[i][v] = u_end(dot[i][v], part[i][v], k);
            }
        }
    }
}

INLINE void block_q5_0(const int N, const int R, vf acc[][STEP_VECTORS], const uint8_t *rec,
                       int lane0, const uint8_t *act, size_t act_stride, const consts *k) {
    vf d[STEP_VECTORS];
    vi dot[MAX_N][STEP_VECTORS];
    EACH(i, N)
        EACH(v, R) dot[i][v] = vi_splat(&ACT(i)->minus16);
    dot_q5(N, R, dot, rec + 16 + 4 * lane0, rec + 48 + 4 * lane0, act, act_stride, k);
    load_f16s(R, d, rec + 2 * lane0, 0, k);
    add_scaled(N, R, acc, dot, d, act, act_stride);
}

INLINE void block_q5_1(const int N, const int R, vf acc[][STEP_VECTORS], const uint8_t *rec,
                       int lane0, const uint8_t *act, size_t act_stride, const consts *k) {
    vf d[STEP_VECTORS], m[STEP_VECTORS];
    vi dot[MAX_N][STEP_VECTORS];
    EACH(i, N)
        EACH(v, R) dot[i][v] = vi_set1(0);
    dot_q5(N, R, dot, rec + 32 + 4 * lane0, rec + 64 + 4 * lane0, act, act_stride, k);
    load_f16s(R, d, rec + 2 * lane0, 0, k);
    load_f16s(R, m, rec + 16 + 2 * lane0, 0, k);
    add_scaled_min(N, R, acc, dot, d, m, act, act_stride);
}

INLINE void block_q8_0(const int N, const int R, vf acc[][STEP_VECTORS], const uint8_t *rec,
                       int lane0, size_t apart, const uint8_t *act, size_t act_stride,
                       const consts *k) {
    vf d[STEP_VECTORS];
    vi dot[MAX_N][STEP_VECTORS];
    s_acc part[MAX_N][STEP_VECTORS];
    EACH(i, N)
        EACH(v, R) part[i][v] = s_begin(ACT(i));
    EACH(g, 8) {
        if (N == 1) {
            EACH(v, R) {
                s_weights w = s_prepare(WORD_APART(rec + 16 + 4 * lane0, g, v, apart), k);
                part[0][v] = s_dot(part[0][v], w, act_words(ACT(0), g / 4), g % 4, k);
            }
            continue;
        }
        s_weights w[STEP_VECTORS];
        EACH(v, R) w[v] = s_prepare(WORD_APART(rec + 16 + 4 * lane0, g, v, apart), k);
        EACH(i, N) {
            act_half a = act_words(ACT(i), g / 4);
            EACH(v, R) part[i][v] = s_dot(part[i][v], w[v], a, g % 4, k);
        }
    }
    EACH(i, N)
        EACH(v, R) dot[i][v] = s_end(part[i][v]);
    load_f16s(R, d, rec + 2 * lane0, apart, k);
    add_scaled(N, R, acc, dot, d, act, act_stride);
}

/* ---- K superblocks of 256 columns: 8 activation blocks, `act` advances with the sub-blocks
 * ---- */

/* One sub-block of Q4_K (qh NULL) or Q5_K: `group` is its record of 64 columns, `odd` says which
 * nibbles, j which bit of qh. The loops over sub-blocks are real ones, with shifts by a
 * variable: unrolled, these types would be half of the engine's code. */
INLINE void sub_block_k45(const int N, const int R, vf acc[][STEP_VECTORS], const vf d[],
                          const vf dmin[], const uint8_t *group, const int odd, const uint8_t *qh,
                          int j, int lane0, const uint8_t *act, size_t act_stride,
                          const consts *k) {
    const uint8_t *words = group + 32 + 4 * lane0;
    vf scale[STEP_VECTORS], min[STEP_VECTORS];
    vi dot[MAX_N][STEP_VECTORS];
    u_acc part[MAX_N][STEP_VECTORS];
    EACH(v, R) {
        scale[v] = vf_mul(d[v], vf_from_vi(vi_load_u8(group + 8 * odd + lane0 + v * LANES)));
        min[v] = vf_negate(
            vf_mul(dmin[v], vf_from_vi(vi_load_u8(group + 16 + 8 * odd + lane0 + v * LANES))));
    }
    EACH(i, N)
        EACH(v, R) dot[i][v] = vi_set1(0);
    EACH(g, 8) {
        vi w[STEP_VECTORS];
        EACH(v, R) {
            w[v] = odd ? high_nibbles(WORD(words, g, v), k) : low_nibbles(WORD(words, g, v), k);
            if (qh) w[v] = vi_or(w[v], vi_shl(vi_and(vi_shr(WORD(qh, g, v), j), k->bit0), 4));
        }
        EACH(i, N) {
            act_half a = act_words(ACT(i), g / 4);
            EACH(v, R) {
                if (g % U_GROUPS_5 == 0) part[i][v] = u_begin(dot[i][v]);
                part[i][v] = u_dot(part[i][v], w[v], a, g % 4);
                if ((g + 1) % U_GROUPS_5 == 0) dot[i][v] = u_end(dot[i][v], part[i][v], k);
            }
        }
    }
    add_scaled_min(N, R, acc, dot, scale, min, act, act_stride);
}

INLINE void block_k45(const int N, const int R, const bool five, vf acc[][STEP_VECTORS],
                      const uint8_t *rec, int lane0, const uint8_t *act, size_t act_stride,
                      const consts *k) {
    vf d[STEP_VECTORS], dmin[STEP_VECTORS];
    load_f16s(R, d, rec + 2 * lane0, 0, k);
    load_f16s(R, dmin, rec + 16 + 2 * lane0, 0, k);
    const uint8_t *qh = five ? rec + 32 + 4 * lane0 : NULL, *group = rec + (five ? 288 : 32);
    NO_UNROLL for (int j = 0; j < 8; j += 2, group += 288, act += 2 * sizeof(act_block)) {
        sub_block_k45(N, R, acc, d, dmin, group, 0, qh, j, lane0, act, act_stride, k);
        sub_block_k45(N, R, acc, d, dmin, group, 1, qh, j + 1, lane0, act + sizeof(act_block),
                      act_stride, k);
    }
}

/* Sub-block j = 4h + t of Q6_K: half h of 128 columns, quarter t of 32; nibble t/2 of ql, bits
 * 2t and 2t+1 of qh. */
INLINE void sub_block_q6k(const int N, const int R, vf acc[][STEP_VECTORS], const vf d[],
                          const uint8_t *scales, const uint8_t *ql, const uint8_t *qh, int t,
                          const uint8_t *act, size_t act_stride, const consts *k) {
    vi dot[2][MAX_N][STEP_VECTORS];
    u_acc part[MAX_N][STEP_VECTORS];
    EACH(h, 2) {
        EACH(i, N)
            EACH(v, R) dot[h][i][v] = vi_splat(&ACT(i)->minus32[h]);
        EACH(g, 4) {
            vi w[STEP_VECTORS];
            EACH(v, R) {
                vi low = vi_and(vi_shr(WORD(ql, 4 * h + g, v), t / 2 * 4), k->nibbles);
                vi high = vi_and(vi_shr(WORD(qh, 4 * h + g, v), 2 * t), k->bits01);
                w[v] = vi_or(low, vi_shl(high, 4));
            }
            EACH(i, N) {
                act_half a = act_words(ACT(i), h);
                EACH(v, R) {
                    if (g % U_GROUPS_6 == 0) part[i][v] = u_begin(dot[h][i][v]);
                    part[i][v] = u_dot(part[i][v], w[v], a, g);
                    if ((g + 1) % U_GROUPS_6 == 0)
                        dot[h][i][v] = u_end(dot[h][i][v], part[i][v], k);
                }
            }
        }
        EACH(v, R) {
            vi scale = vi_load_i8(scales + 8 * h + v * LANES);
            EACH(i, N) dot[h][i][v] = vi_mul(dot[h][i][v], scale);
        }
    }
    EACH(i, N)
        EACH(v, R) dot[0][i][v] = vi_add(dot[0][i][v], dot[1][i][v]);
    add_scaled(N, R, acc, dot[0], d, act, act_stride);
}

INLINE void block_q6k(const int N, const int R, vf acc[][STEP_VECTORS], const uint8_t *rec,
                      int lane0, const uint8_t *act, size_t act_stride, const consts *k) {
    vf d[STEP_VECTORS];
    load_f16s(R, d, rec + 2 * lane0, 0, k);
    const uint8_t *scales = rec + 16 + lane0, *ql = rec + 144 + 4 * lane0,
                  *qh = rec + 144 + 1024 + 4 * lane0;
    NO_UNROLL for (int j = 0; j < 8; j++, scales += 16, act += sizeof(act_block)) {
        int h = j / 4, t = j % 4;
        sub_block_q6k(N, R, acc, d, scales, ql + (h * 16 + (t & 1) * 8) * 32, qh + h * 8 * 32, t,
                      act, act_stride, k);
    }
}

/* ---- floats ---- */

INLINE vf load_weights(const xl_type type, const uint8_t *tile, size_t element, const consts *k) {
    if (type == XL_F16) return vf_load_f16(tile + 2 * element, k);
    if (type == XL_BF16) return vf_load_bf16(tile + 2 * element);
    return vf_load((const float *)(const void *)tile + element);
}

INLINE void column_float(const xl_type type, const int N, const int R, vf acc[][STEP_VECTORS],
                         const uint8_t *tile, int lane0, size_t c, const uint8_t *act,
                         size_t act_stride, const consts *k) {
    EACH(v, R) {
        vf w = load_weights(type, tile, c * XL_TILE_ROWS + (size_t)(lane0 + v * LANES), k);
        EACH(i, N) {
            vf x = vf_splat((const float *)(const void *)(act + (size_t)i * act_stride) + c);
            acc[i][v] = vf_add(acc[i][v], vf_mul(w, x));
        }
    }
}

INLINE void tile_float(const xl_type type, const int N, const int R, float *y, size_t y_stride,
                       const uint8_t *tile, int lane0, size_t cols, const uint8_t *act,
                       size_t act_stride, const consts *k) {
    vf p[4][MAX_N][STEP_VECTORS];
    EACH(j, 4)
        EACH(i, N)
            EACH(v, R) p[j][i][v] = vf_set1(0.0f);
    size_t c = 0;
    for (; c + 4 <= cols; c += 4)
        EACH(j, 4) column_float(type, N, R, p[j], tile, lane0, c + (size_t)j, act, act_stride, k);
    EACH(j, 3)
        if (c + (size_t)j < cols)
            column_float(type, N, R, p[j], tile, lane0, c + (size_t)j, act, act_stride, k);
    EACH(i, N)
        EACH(v, R) {
            vf sum = vf_add(vf_add(p[0][i][v], p[1][i][v]), vf_add(p[2][i][v], p[3][i][v]));
            vf_store(y + (size_t)i * y_stride + lane0 + v * LANES, sum);
        }
}

/* ---- tiles ---- */

/* Columns and bytes of a record of a tile; constants, unlike those of xl_quant_types. */
static const uint16_t record_elems[XL_TYPE_COUNT] = {
#define X(NAME, ID, ELEMS, FILE_BYTES, RECORD_BYTES) ELEMS,
    XL_TYPE_LIST(X)
#undef X
};
static const uint16_t record_bytes[XL_TYPE_COUNT] = {
#define X(NAME, ID, ELEMS, FILE_BYTES, RECORD_BYTES) RECORD_BYTES,
    XL_TYPE_LIST(X)
#undef X
};

/* R vectors of rows from lane0 on, of one tile, for N activation rows. With R of two tiles the
 * second one lies `tiles_apart` behind the first. */
INLINE void tile_rows(const xl_type type, const int N, const int R, float *y, size_t y_stride,
                      const uint8_t *tile, int lane0, size_t tiles_apart, size_t cols,
                      const uint8_t *act, size_t act_stride) {
    const consts loaded = load_consts(), *k = &loaded;
    if (!xl_type_is_quantized(type)) {
        tile_float(type, N, R, y, y_stride, tile, lane0, cols, act, act_stride, k);
        return;
    }
    vf acc[MAX_N][STEP_VECTORS];
    EACH(i, N)
        EACH(v, R) acc[i][v] = vf_set1(0.0f);
    const size_t tile_bytes = cols / record_elems[type] * record_bytes[type],
                 apart = tiles_apart * tile_bytes;
    const uint8_t *end = tile + tile_bytes;
    for (; tile < end;
         tile += record_bytes[type], act += record_elems[type] / 32 * sizeof(act_block)) {
        UNROLL for (int line = 0; line < record_bytes[type]; line += LINE_BYTES)
            PREFETCH(tile + line, AHEAD_BYTES);
        if (type == XL_Q4_0) block_q4_0(N, R, acc, tile, lane0, apart, act, act_stride, k);
        if (type == XL_Q4_1) block_q4_1(N, R, acc, tile, lane0, apart, act, act_stride, k);
        if (type == XL_Q5_0) block_q5_0(N, R, acc, tile, lane0, act, act_stride, k);
        if (type == XL_Q5_1) block_q5_1(N, R, acc, tile, lane0, act, act_stride, k);
        if (type == XL_Q8_0) block_q8_0(N, R, acc, tile, lane0, apart, act, act_stride, k);
        if (type == XL_Q4_K) block_k45(N, R, false, acc, tile, lane0, act, act_stride, k);
        if (type == XL_Q5_K) block_k45(N, R, true, acc, tile, lane0, act, act_stride, k);
        if (type == XL_Q6_K) block_q6k(N, R, acc, tile, lane0, act, act_stride, k);
    }
    EACH(i, N)
        EACH(v, R)
            vf_store(TILE_OF(y + (size_t)i * y_stride, v, tiles_apart * XL_TILE_ROWS) + lane0 +
                         v % TILE_VECTORS * LANES,
                     acc[i][v]);
}

#ifdef PANEL_FROM
#include "panel_narrow.h"
#endif

/* All 8 rows of one tile for N activation rows: as wide as the registers allow. */
INLINE void tile_all(const xl_type type, const int N, float *y, size_t y_stride,
                     const uint8_t *tile, size_t cols, const uint8_t *act, size_t act_stride) {
    if (LANES == XL_TILE_ROWS || N <= WIDE_N) {
        tile_rows(type, N, TILE_VECTORS, y, y_stride, tile, 0, 0, cols, act, act_stride);
    } else {
        tile_rows(type, N, 1, y, y_stride, tile, 0, 0, cols, act, act_stride);
        tile_rows(type, N, 1, y, y_stride, tile, LANES, 0, cols, act, act_stride);
    }
}

#ifdef PANEL_ROWS
#include "panel_wide.h"
#endif

/* The batch goes in steps of the largest listed N that fits; the tile stays in the cache
 * meanwhile. */
INLINE void matmul(const xl_type type, float *y, size_t y_stride, const uint8_t *w, size_t cols,
                   size_t row0, size_t rows, const uint8_t *act, size_t act_stride, size_t n) {
#ifdef PANEL_FROM
    const bool panel = panel_takes(type);
#else
    const bool panel = false;
#endif
    const bool nibbles = type == XL_Q4_0 || type == XL_Q4_1;
    const size_t most = panel && !nibbles            ? 2
                        : type >= XL_Q4_K            ? SUPER_N
                        : xl_type_is_quantized(type) ? MAX_N
                                                     : FLOAT_N;
    size_t tile_bytes = xl_tile_bytes(type, cols), end = row0 + rows;
    w += row0 / XL_TILE_ROWS * tile_bytes;
#ifdef PANEL_FROM
    if (panel && n >= (nibbles ? PANEL_FROM : PANEL_N)) {
        const size_t whole = n / PANEL_N * PANEL_N;
        for (size_t r = row0, t = 0; r < end; r += XL_TILE_ROWS, t++)
            panel_tile(type, y + r, y_stride, w + t * tile_bytes, cols, act, act_stride, whole);
        n -= whole;
        act += whole * act_stride;
        y += whole * y_stride;
    }
#endif
    if (PAIRS && n == 1 && (type == XL_Q4_0 || type == XL_Q4_1 || type == XL_Q8_0)) {
        const size_t pairs = (rows + XL_TILE_ROWS - 1) / XL_TILE_ROWS / 2;
        for (size_t i = 0; i < pairs; i++, row0 += XL_TILE_ROWS, w += tile_bytes)
            tile_rows(type, 1, 2 * TILE_VECTORS, y + row0, y_stride, w, 0, pairs, cols, act,
                      act_stride);
        row0 += pairs * XL_TILE_ROWS;
        w += pairs * tile_bytes;
    }
    for (size_t r = row0, step; r < end; r += step, w += step / XL_TILE_ROWS * tile_bytes) {
        size_t done = 0;
        step = XL_TILE_ROWS;
#ifdef PANEL_ROWS
        if (n >= PANEL_LEAST && (type == XL_Q4_0 || type == XL_Q4_1) && end - r > XL_TILE_ROWS) {
            step = 2 * XL_TILE_ROWS;
            done = n / PANEL_ROWS * PANEL_ROWS;
            panel_all(type, y + r, y_stride, w, tile_bytes, cols, act, act_stride, done);
        }
#endif
        for (size_t part = 0; part < step; part += XL_TILE_ROWS) {
            size_t i = done;
#define X(N)                                                     \
    for (; n - i >= (N) && (N) <= most; i += (N))                \
        tile_all(type, N, y + i * y_stride + r + part, y_stride, \
                 w + part / XL_TILE_ROWS * tile_bytes, cols, act + i * act_stride, act_stride);
            FOR_EACH_N(X)
#undef X
        }
    }
}

#define X(NAME, ID, ELEMS, FILE_BYTES, RECORD_BYTES)                                              \
    static void matmul_##NAME(float *y, size_t y_stride, const void *w, size_t cols, size_t row0, \
                              size_t rows, const void *act, size_t act_stride_bytes, size_t n) {  \
        matmul(XL_##NAME, y, y_stride, w, cols, row0, rows, act, act_stride_bytes, n);            \
    }
XL_TYPE_LIST(X)
#undef X
