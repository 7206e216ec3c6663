/* Products of many rows of activations with Q4_0 and Q4_1, for an instruction set whose u_acc is int16
 * (avx2.c): two tiles by PANEL_ROWS rows a step, so that an activation is loaded once for 16 outputs.
 * Nibbles are made bytes, and scales f32, once for all rows. The arithmetic is that of matmul.h. */

/* Fewer rows do not earn what unpacking costs. */
enum { PANEL_LEAST = 24 };

/* A block of both tiles. */
typedef struct panel_block {
    uint8_t words[8][2][4 * XL_TILE_ROWS];
    float d[2][XL_TILE_ROWS], m[2][XL_TILE_ROWS];
} panel_block;

/* At most so many blocks at a time: they stay in the first cache while all rows go over them. */
enum { PANEL_BLOCKS = 24 };

INLINE void unpack_panel(const xl_type type, panel_block *panel, const uint8_t *tile, size_t apart,
                         size_t blocks, const consts *k) {
    const panel_block *end = panel + blocks;
    for (; panel < end; panel++, tile += record_bytes[type])
        EACH(t, 2) {
            const uint8_t *rec = tile + (size_t)t * apart, *m = rec + 2 * XL_TILE_ROWS,
                          *words = type == XL_Q4_1 ? m + 2 * XL_TILE_ROWS : m;
            UNROLL for (size_t line = 0; line < record_bytes[type]; line += LINE_BYTES)
                PREFETCH(rec + line, AHEAD_BYTES);
            vf_store(panel->d[t], vf_load_f16(rec, k));
            if (type == XL_Q4_1) vf_store(panel->m[t], vf_load_f16(m, k));
            EACH(g, 4) {
                const vi w = WORD(words, g, 0);
                vi_store((int32_t *)(void *)panel->words[g][t], low_nibbles(w, k));
                vi_store((int32_t *)(void *)panel->words[4 + g][t], high_nibbles(w, k));
            }
        }
}

/* dot [PANEL_ROWS][2] += a block. A row's products are made before those of the row before it are added:
 * addition after addition, each right behind its product, the processor puts more of them where
 * products have to go. */
INLINE void panel_dots(vi dot[][STEP_VECTORS], const panel_block *block, const uint8_t *act,
                       size_t act_stride, const consts *k) {
    u_acc part[PANEL_ROWS][2], made[2];
    EACH(g, 8) {
        vi w[2];
        EACH(t, 2) w[t] = vi_load(block->words[g][t]);
        EACH(i, PANEL_ROWS) {
            const int before = (i + PANEL_ROWS - 1) % PANEL_ROWS;
            u_acc next[2];
            EACH(t, 2) next[t] = u_product(w[t], act_words(ACT(i), g / 4), g % 4);
            if (g > 1 || (g == 1 && i > 0))
                EACH(t, 2) part[before][t] = u_add(part[before][t], made[t]);
            else if (g == 1 || i > 0)
                EACH(t, 2) part[before][t] = made[t];
            EACH(t, 2) made[t] = next[t];
        }
    }
    EACH(t, 2) part[PANEL_ROWS - 1][t] = u_add(part[PANEL_ROWS - 1][t], made[t]);
    EACH(i, PANEL_ROWS)
        EACH(t, 2) dot[i][t] = u_end(dot[i][t], part[i][t], k);
}

/* y [PANEL_ROWS][2 tiles] += blocks, of which the first ones start from 0. */
INLINE void panel_rows(const xl_type type, float *y, size_t y_stride, const panel_block *block,
                       size_t blocks, bool first, const uint8_t *act, size_t act_stride) {
    const consts loaded = load_consts(), *k = &loaded;
    const panel_block *end = block + blocks;
    vf acc[PANEL_ROWS][STEP_VECTORS];
    EACH(i, PANEL_ROWS)
        EACH(t, 2)
            acc[i][t] = first ? vf_set1(0.0f)
                              : vf_load(y + (size_t)i * y_stride + (size_t)t * XL_TILE_ROWS);
    for (; block < end; block++, act += sizeof(act_block)) {
        vi dot[PANEL_ROWS][STEP_VECTORS];
        vf d[2], m[2];
        EACH(i, PANEL_ROWS)
            EACH(t, 2) dot[i][t] = type == XL_Q4_0 ? vi_splat(&ACT(i)->minus8) : vi_set1(0);
        panel_dots(dot, block, act, act_stride, k);
        EACH(t, 2) d[t] = vf_load(block->d[t]);
        if (type == XL_Q4_1) {
            EACH(t, 2) m[t] = vf_load(block->m[t]);
            add_scaled_min(PANEL_ROWS, 2, acc, dot, d, m, act, act_stride);
        } else add_scaled(PANEL_ROWS, 2, acc, dot, d, act, act_stride);
    }
    EACH(i, PANEL_ROWS)
        EACH(t, 2) vf_store(y + (size_t)i * y_stride + (size_t)t * XL_TILE_ROWS, acc[i][t]);
}

/* Two tiles, `apart` bytes from each other, for n rows, a multiple of PANEL_ROWS. */
INLINE void panel_all(const xl_type type, float *y, size_t y_stride, const uint8_t *tile,
                      size_t apart, size_t cols, const uint8_t *act, size_t act_stride, size_t n) {
    const consts loaded = load_consts(), *k = &loaded;
    panel_block panel[PANEL_BLOCKS];
    const size_t all = cols / 32, panels = (all + PANEL_BLOCKS - 1) / PANEL_BLOCKS;
    for (size_t i = 0, at = 0, end; i < panels; i++, at = end) {
        end = all * (i + 1) / panels;
        unpack_panel(type, panel, tile + at * record_bytes[type], apart, end - at, k);
        for (size_t row = 0; row < n; row += PANEL_ROWS)
            panel_rows(type, y + row * y_stride, y_stride, panel, end - at, i == 0,
                       act + row * act_stride + at * sizeof(act_block), act_stride);
    }
}
