/* Products of many rows where vectors are narrow: a tile's weights of 4 and 5 bits are unpacked once,
 * some blocks at a time, and all rows go over what was unpacked, PANEL_N at a time. A step of more rows
 * would not stay in 15 registers of 128 bits, and unpacking anew for each is a fifth of the work there.
 * What an instruction set adds to the primitives of matmul.h: u_weights, what u_prepare makes of bytes
 * 0..63 for u_dot_prepared, and PANEL_FROM, how many rows are worth it for nibbles. */

enum { PANEL_N = 4, PANEL_BLOCKS = 16 };

typedef struct panel_block { /* 32 columns of a tile */
    float d[XL_TILE_ROWS], m[XL_TILE_ROWS];
    u_weights words[8][TILE_VECTORS]; /* word g: columns 4g to 4g + 3 */
} panel_block;

INLINE bool panel_takes(const xl_type type) {
    return type == XL_Q4_0 || type == XL_Q4_1 || type == XL_Q5_0 || type == XL_Q5_1 ||
           type == XL_Q4_K || type == XL_Q5_K;
}

INLINE void panel_f16s(float out[XL_TILE_ROWS], const uint8_t *p, const consts *k) {
    EACH(v, TILE_VECTORS) vf_store(out + v * LANES, vf_load_f16(p + 2 * v * LANES, k));
}

/* Low and high nibbles of word g are words g and g + 4; bits g and g + 4 of qh, if there, their fifth. */
INLINE void panel_nibbles(panel_block *out, const uint8_t *words, const uint8_t *qh,
                          const consts *k) {
    EACH(g, 4)
        EACH(v, TILE_VECTORS) {
            const vi w = WORD(words, g, v);
            vi low = low_nibbles(w, k), high = high_nibbles(w, k);
            if (qh) {
                const vi bits = WORD(qh, 0, v);
                low = vi_or(low, vi_and(vi_shl(bits, 4 - g), k->bit4));
                high = vi_or(high, vi_and(vi_shr(bits, g), k->bit4));
            }
            out->words[g][v] = u_prepare(low);
            out->words[g + 4][v] = u_prepare(high);
        }
}

/* The sub-blocks j and j + 1 of Q4_K (qh NULL) or Q5_K, whose record of 64 columns is `group`. */
INLINE void panel_k45(panel_block *out, const float *d, const float *dmin, const uint8_t *group,
                      const uint8_t *qh, int j, const consts *k) {
    EACH(odd, 2) {
        EACH(v, TILE_VECTORS) {
            const uint8_t *at = group + 8 * odd + v * LANES;
            vf_store(out[odd].d + v * LANES,
                     vf_mul(vf_load(d + v * LANES), vf_from_vi(vi_load_u8(at))));
            vf_store(out[odd].m + v * LANES,
                     vf_negate(vf_mul(vf_load(dmin + v * LANES), vf_from_vi(vi_load_u8(at + 16)))));
        }
    }
    EACH(g, 8)
        EACH(v, TILE_VECTORS) {
            const vi word = WORD(group + 32, g, v);
            vi w[2] = {low_nibbles(word, k), high_nibbles(word, k)};
            EACH(odd, 2) {
                if (qh)
                    w[odd] =
                        vi_or(w[odd], vi_shl(vi_and(vi_shr(WORD(qh, g, v), j + odd), k->bit0), 4));
                out[odd].words[g][v] = u_prepare(w[odd]);
            }
        }
}

/* One record of a tile. */
INLINE void panel_unpack(const xl_type type, panel_block *out, const uint8_t *rec,
                         const consts *k) {
    const bool five = type == XL_Q5_0 || type == XL_Q5_1 || type == XL_Q5_K;
    if (type == XL_Q4_K || type == XL_Q5_K) {
        float d[XL_TILE_ROWS], dmin[XL_TILE_ROWS];
        panel_f16s(d, rec, k);
        panel_f16s(dmin, rec + 16, k);
        const uint8_t *group = rec + (five ? 288 : 32);
        NO_UNROLL for (int j = 0; j < 8; j += 2, group += 288)
            panel_k45(out + j, d, dmin, group, five ? rec + 32 : NULL, j, k);
        return;
    }
    const bool min = type == XL_Q4_1 || type == XL_Q5_1;
    panel_f16s(out->d, rec, k);
    if (min) panel_f16s(out->m, rec + 16, k);
    const uint8_t *rest = rec + (min ? 32 : 16);
    panel_nibbles(out, rest + (five ? 32 : 0), five ? rest : NULL, k);
}

/* y += these blocks . PANEL_N rows of activations, y = that for the first ones. */
INLINE void panel_rows(const xl_type type, float *y, size_t y_stride, const panel_block *w,
                       const panel_block *end, bool first, const uint8_t *act, size_t act_stride,
                       const consts *k) {
    const bool min = type != XL_Q4_0 && type != XL_Q5_0;
    const int N = PANEL_N, R = TILE_VECTORS,
              flush = type == XL_Q4_0 || type == XL_Q4_1 || type == XL_Q4_K ? 8 : U_GROUPS_5;
    vf acc[MAX_N][STEP_VECTORS];
    EACH(i, N)
        EACH(v, R)
            acc[i][v] = first ? vf_set1(0.0f) : vf_load(y + (size_t)i * y_stride + v * LANES);
    for (; w < end; w++, act += sizeof(act_block)) {
        vi dot[MAX_N][STEP_VECTORS];
        u_acc part[MAX_N][STEP_VECTORS];
        EACH(i, N)
            EACH(v, R)
                dot[i][v] = min               ? vi_set1(0)
                            : type == XL_Q4_0 ? vi_splat(&ACT(i)->minus8)
                                              : vi_splat(&ACT(i)->minus16);
        EACH(g, 8) {
            EACH(i, N) {
                act_half a = act_words(ACT(i), g / 4);
                EACH(v, R) {
                    if (g % flush == 0) part[i][v] = u_begin(dot[i][v]);
                    part[i][v] = u_dot_prepared(part[i][v], w->words[g][v], a, g % 4);
                    if ((g + 1) % flush == 0) dot[i][v] = u_end(dot[i][v], part[i][v], k);
                }
            }
        }
        vf d[STEP_VECTORS], m[STEP_VECTORS];
        EACH(v, R) d[v] = vf_load(w->d + v * LANES);
        if (min) {
            EACH(v, R) m[v] = vf_load(w->m + v * LANES);
            add_scaled_min(N, R, acc, dot, d, m, act, act_stride);
        } else add_scaled(N, R, acc, dot, d, act, act_stride);
    }
    EACH(i, N)
        EACH(v, R) vf_store(y + (size_t)i * y_stride + v * LANES, acc[i][v]);
}

/* One tile for n rows, a multiple of PANEL_N. */
INLINE void panel_tile(const xl_type type, float *y, size_t y_stride, const uint8_t *tile,
                       size_t cols, const uint8_t *act, size_t act_stride, size_t n) {
    const consts loaded = load_consts(), *k = &loaded;
    const size_t each = record_elems[type] / 32, records = cols / record_elems[type],
                 pieces = (records * each + PANEL_BLOCKS - 1) / PANEL_BLOCKS;
    panel_block panel[PANEL_BLOCKS];
    for (size_t piece = 0, done = 0; piece < pieces; piece++) {
        const size_t some = records * (piece + 1) / pieces - done;
        for (size_t i = 0; i < some; i++, tile += record_bytes[type])
            panel_unpack(type, panel + i * each, tile, k);
        for (size_t i = 0; i < n; i += PANEL_N)
            panel_rows(type, y + i * y_stride, y_stride, panel, panel + some * each, !done,
                       act + i * act_stride + done * each * sizeof(act_block), act_stride, k);
        done += some;
    }
}
