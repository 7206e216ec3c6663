/* Attention over the primitives of an instruction set (see matmul.h): one query position, one K/V
 * head, all its query heads.
 *
 * Scores: lanes are positions (a K tile is [head_dim][8 positions]), the sum over head_dim is
 * sequential in each lane. Output: lanes are elements of the head, the sum over positions is
 * sequential in each. So neither needs a horizontal sum, and several heads and vectors at once (G
 * heads, OUTPUT_VECTORS) give independent chains without touching any order. The cache is read
 * as one stream: taking several tiles of keys at once, or the values' rows in narrower parts, is
 * up to twice as slow. */

INLINE vf load_kv(const xl_kv_type type, const void *cache, size_t element, const consts *c) {
    if (type == XL_KV_F16) return vf_load_f16((const uint8_t *)cache + 2 * element, c);
    if (type == XL_KV_Q8) return vf_from_vi(vi_load_i8((const uint8_t *)cache + element));
    return vf_load((const float *)cache + element);
}

/* ---- scores ---- */

/* Tile `tile` of f32 or f16 keys: score [G][score_stride]. */
INLINE void score_tile(const xl_kv_type type, const int G, float *score, size_t score_stride,
                       const float *q, const void *k, size_t tile, size_t head_dim, float scale) {
    const consts loaded = load_consts(), *consts = &loaded;
    vf acc[3][TILE_VECTORS], sv = vf_set1(scale);
    EACH(g, G)
        EACH(v, TILE_VECTORS) acc[g][v] = vf_set1(0.0f);
    for (size_t c = 0; c < head_dim; c++) {
        vf qv[3];
        EACH(g, G) qv[g] = vf_splat(q + (size_t)g * head_dim + c);
        EACH(v, TILE_VECTORS) {
            vf kv = load_kv(type, k, (tile * head_dim + c) * 8 + (size_t)v * LANES, consts);
            EACH(g, G) acc[g][v] = vf_add(acc[g][v], vf_mul(qv[g], kv));
        }
    }
    EACH(g, G)
        EACH(v, TILE_VECTORS)
            vf_store(score + (size_t)g * score_stride + v * LANES, vf_mul(acc[g][v], sv));
}

/* One tile of q8 keys: words of 4 columns as in a Q8_0 weight tile. */
INLINE void score_tile_q8(const int G, float *score, size_t score_stride, const act_block *q,
                          const float *dq, const uint8_t *tile, size_t head_dim, float scale) {
    const consts loaded = load_consts(), *consts = &loaded;
    vi dot[3][TILE_VECTORS];
    EACH(g, G)
        EACH(v, TILE_VECTORS) dot[g][v] = vi_set1(0);
    const uint8_t *words = tile + 32;
    for (size_t c = 0; c < head_dim; c += 32, q++) {
        s_acc part[3][TILE_VECTORS];
        EACH(g, G)
            EACH(v, TILE_VECTORS) part[g][v] = s_begin(q + g * (XL_MAX_HEAD_DIM / 32));
        EACH(w, 8) {
            if (c + 4 * (size_t)w < head_dim) {
                EACH(v, TILE_VECTORS) {
                    s_weights kw = s_prepare(WORD(words, w, v), consts);
                    EACH(g, G)
                        part[g][v] =
                            s_dot(part[g][v], kw, act_words(q + g * (XL_MAX_HEAD_DIM / 32), w / 4),
                                  w % 4, consts);
                }
            }
        }
        EACH(g, G)
            EACH(v, TILE_VECTORS) dot[g][v] = vi_add(dot[g][v], s_end(part[g][v]));
        words += 8 * 32;
    }
    vf sv = vf_set1(scale);
    EACH(g, G)
        EACH(v, TILE_VECTORS) {
            vf dk = vf_load((const float *)(const void *)tile + v * LANES);
            vf s = vf_mul(vf_mul(vf_from_vi(dot[g][v]), vf_mul(vf_set1(dq[g]), dk)), sv);
            vf_store(score + (size_t)g * score_stride + v * LANES, s);
        }
}

/* A query head, rotated, as one group of int8, in activation blocks; its scale is returned. */
INLINE float quantize_query(act_block *out, const float *q, size_t head_dim) {
    int32_t values[XL_MAX_HEAD_DIM];
    float rotated[XL_MAX_HEAD_DIM];
    memcpy(rotated, q, head_dim * sizeof *q);
    xl_rotate(rotated, head_dim);
    float d = quantize_group(values, rotated, head_dim);
    size_t used = d == 0.0f ? 0 : head_dim;
    for (size_t c = used; c < (head_dim + 31) / 32 * 32; c++) values[c] = 0;
    for (size_t b = 0; b < (head_dim + 31) / 32; b++) {
        int32_t total = 0;
        for (size_t c = 0; c < 32; c++) total += values[32 * b + c];
        act_finish(out + b, values + 32 * b, total);
    }
    return d;
}

/* Scores of all tiles that the span touches: score [G][score_stride]. */
INLINE void scores(const xl_kv_type type, const int G, float *score, size_t score_stride,
                   const float *q, const void *k, xl_reach span, size_t head_dim, float scale) {
    act_block blocks[3][XL_MAX_HEAD_DIM / 32];
    float dq[3];
    const size_t n_tiles = span.slots / 8;
    size_t tile = span.first / 8 % n_tiles;
    if (type == XL_KV_Q8)
        EACH(g, G) dq[g] = quantize_query(blocks[g], q + (size_t)g * head_dim, head_dim);
    for (size_t at = 0; at < score_stride; at += 8) {
        if (type == XL_KV_Q8)
            score_tile_q8(G, score + at, score_stride, blocks[0], dq,
                          (const uint8_t *)k + tile * (32 + 8 * head_dim), head_dim, scale);
        else score_tile(type, G, score + at, score_stride, q, k, tile, head_dim, scale);
        if (++tile == n_tiles) tile = 0;
    }
}

/* ---- softmax ---- */

/* score [first, n) -> exp(score - max), the lanes before and after become 0; returns the sum. */
INLINE float exp_scores(float *score, size_t first, size_t n) {
    const exp_consts loaded = load_exp_consts(), *k = &loaded;
    size_t padded = (n + 7) / 8 * 8;
    for (size_t p = 0; p < first; p++) score[p] = -INFINITY;
    for (size_t p = n; p < padded; p++) score[p] = -INFINITY;
    vf max = vf_set1(largest(score, n)), sum[TILE_VECTORS];
    EACH(v, TILE_VECTORS) sum[v] = vf_set1(0.0f);
    for (size_t p = 0; p < padded; p += 8)
        EACH(v, TILE_VECTORS) {
            vf e = vf_exp(vf_sub(vf_load(score + p + v * LANES), max), k);
            sum[v] = vf_add(sum[v], e);
            vf_store(score + p + v * LANES, e);
        }
    return sum8(sum);
}

/* ---- output ---- */

/* D vectors of the head from element c on, for G heads; e [G][e_stride] from the span's first
 * position on. */
INLINE void output_part(const xl_kv_type type, const int G, const int D, float *out, const float *e,
                        size_t e_stride, const float *inverse, const void *v, xl_reach span,
                        size_t head_dim, size_t c) {
    const consts loaded = load_consts(), *consts = &loaded;
    vf acc[3][OUTPUT_VECTORS];
    EACH(g, G)
        EACH(d, D) acc[g][d] = vf_set1(0.0f);
    for (size_t left = span.end - span.first, slot = span.first % span.slots; left; slot = 0) {
        const size_t n = left < span.slots - slot ? left : span.slots - slot;
        for (size_t p = slot; p < slot + n; p++, e++) {
            size_t row = type == XL_KV_Q8 ? p / 8 * (32 + 8 * head_dim) + 32 + p % 8 * head_dim
                                          : p * head_dim;
            vf ev[3];
            EACH(g, G) ev[g] = vf_splat(e + (size_t)g * e_stride);
            EACH(d, D) {
                vf value = load_kv(type, v, row + c + (size_t)d * LANES, consts);
                EACH(g, G) acc[g][d] = vf_add(acc[g][d], vf_mul(ev[g], value));
            }
        }
        left -= n;
    }
    EACH(g, G) {
        vf iv = vf_set1(inverse[g]);
        EACH(d, D) vf_store(out + (size_t)g * head_dim + c + d * LANES, vf_mul(acc[g][d], iv));
    }
}

/* The values' scales of a q8 cache: e [end - first]. */
INLINE void scale_values(float *e, const void *v, xl_reach span, size_t head_dim) {
    for (size_t p = span.first; p < span.end; p++, e++) {
        const size_t slot = p % span.slots;
        float dv;
        memcpy(&dv, (const uint8_t *)v + slot / 8 * (32 + 8 * head_dim) + slot % 8 * 4, sizeof dv);
        *e = *e * dv;
    }
}

/* G query heads. */
INLINE void attend_heads(const xl_kv_type type, const int G, float *out, const float *q,
                         const void *k, const void *v, xl_reach span, size_t head_dim, float scale,
                         float *score) {
    const size_t from = span.first % 8, n = from + span.end - span.first, stride = (n + 7) / 8 * 8;
    const float block = type == XL_KV_Q8 ? (float)xl_rotation_block(head_dim) : 1.0f;
    size_t c = 0;
    scores(type, G, score, stride, q, k, span, head_dim, scale / block);
    float inverse[3];
    EACH(g, G) {
        float *e = score + (size_t)g * stride;
        inverse[g] = 1.0f / exp_scores(e, from, n);
        if (type == XL_KV_Q8) scale_values(e + from, v, span, head_dim);
    }
    for (; c + OUTPUT_VECTORS * LANES <= head_dim; c += OUTPUT_VECTORS * LANES)
        output_part(type, G, OUTPUT_VECTORS, out, score + from, stride, inverse, v, span, head_dim,
                    c);
    for (; c < head_dim; c += 8)
        output_part(type, G, TILE_VECTORS, out, score + from, stride, inverse, v, span, head_dim,
                    c);
}

INLINE void attend(const xl_kv_type type, float *out, const float *q, const void *k, const void *v,
                   xl_reach span, size_t head_dim, size_t group, float scale, float *scratch) {
    while (group) {
        size_t g = group >= 3 && group != 4 ? 3 : group >= 2 ? 2 : 1;
        if (g == 3) attend_heads(type, 3, out, q, k, v, span, head_dim, scale, scratch);
        if (g == 2) attend_heads(type, 2, out, q, k, v, span, head_dim, scale, scratch);
        if (g == 1) attend_heads(type, 1, out, q, k, v, span, head_dim, scale, scratch);
        group -= g;
        q += g * head_dim;
        out += g * head_dim;
    }
}

#define X(NAME, TEXT)                                                                    \
    static void attend_##NAME(float *out, const float *q, const void *k, const void *v,  \
                              xl_reach span, size_t head_dim, size_t group, float scale, \
                              float *scratch) {                                          \
        attend(XL_KV_##NAME, out, q, k, v, span, head_dim, group, scale, scratch);       \
    }
XL_KV_LIST(X)
#undef X
