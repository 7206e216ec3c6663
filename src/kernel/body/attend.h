/* Attention over the primitives of an instruction set (see matmul.h): consecutive query positions,
 * one K/V head, all its query heads.
 *
 * A chain is one query head at one position. Scores: lanes are positions (a K tile is
 * [head_dim][8 positions]), the sum over head_dim is sequential in each lane. Output: lanes are
 * elements of the head, the sum over positions is sequential in each. So neither needs a horizontal
 * sum. C chains share each load of K and V, and their sums are independent: the order within a sum
 * is that of one chain alone. C and the number of vectors beside it are such that all sums stay in
 * registers. The scores of a block of chains lie as [tile][C][8 positions]. */

/* A chain looks at positions [first, end). */
typedef struct chain {
    const float *q;
    float *out;
    size_t first, end;
} chain;

/* A block of chains looks at `tiles` tiles from position `base` on, up to `end`: all of these
 * stretches. */
typedef struct reach_tiles {
    size_t base, end, tiles, n;
    bool fresh; /* no block of this call has read them before */
    struct {
        const uint8_t *k, *v;
        size_t tiles;
    } at[XL_KV_STRETCHES];
} reach_tiles;

/* skip: tiles of the cache before `base`. */
static reach_tiles reach_of(const xl_stretch *cache, size_t skip, size_t base, size_t end,
                            size_t tile_bytes) {
    reach_tiles reach = {.base = base, .end = end, .tiles = (end - base + 7) / 8};
    for (; skip >= cache->tiles; cache++) skip -= cache->tiles;
    for (size_t left = reach.tiles; left; cache++, reach.n++) {
        const size_t some = left < cache->tiles - skip ? left : cache->tiles - skip;
        reach.at[reach.n].k = (const uint8_t *)cache->k + skip * tile_bytes;
        reach.at[reach.n].v = (const uint8_t *)cache->v + skip * tile_bytes;
        reach.at[reach.n].tiles = some;
        left -= some;
        skip = 0;
    }
    return reach;
}

INLINE size_t kv_element_bytes(const xl_kv_type type) {
    return type == XL_KV_F32 ? 4 : type == XL_KV_F16 ? 2 : 1;
}

INLINE size_t kv_tile_bytes(const xl_kv_type type, size_t head_dim) {
    return (type == XL_KV_Q8 ? 32 : 0) + 8 * head_dim * kv_element_bytes(type);
}

INLINE vf load_kv(const xl_kv_type type, const uint8_t *at, const consts *c) {
    if (type == XL_KV_F16) return vf_load_f16(at, c);
    if (type == XL_KV_Q8) return vf_from_vi(vi_load_i8(at));
    return vf_load((const float *)(const void *)at);
}

/* ---- scores ---- */

/* T tiles of f32 or f16 keys; q as QUERY_AT says; what lies `ahead` bytes on is fetched. */
INLINE void score_tiles(const xl_kv_type type, const int C, const int T, float *score,
                        const float *q, const uint8_t *k, const bool fetch, size_t ahead,
                        size_t head_dim, float scale) {
    const consts loaded = load_consts(), *consts = &loaded;
    const size_t bytes = kv_element_bytes(type), tile_bytes = kv_tile_bytes(type, head_dim);
    vf acc[ATTEND_CHAINS][4 * TILE_VECTORS], sv = vf_set1(scale);
    const float *of[ATTEND_CHAINS];
    const uint8_t *tile[4];
    EACH(g, C) {
        of[g] = q + QUERY_AT(0, g, C, head_dim);
        EACH(i, T * TILE_VECTORS) acc[g][i] = vf_set1(0.0f);
    }
    EACH(t, T) tile[t] = k + (size_t)t * tile_bytes;
    NO_UNROLL for (size_t c = 0; c < head_dim; c += ATTEND_UNROLL) {
        EACH(g, C) FOLDABLE(of[g]);
        EACH(t, T) FOLDABLE(tile[t]);
        EACH(u, ATTEND_UNROLL) {
            if (fetch && (size_t)u * 8 * bytes % LINE_BYTES == 0)
                EACH(t, T) PREFETCH(tile[t] + (size_t)u * 8 * bytes, ahead);
            vf kv[4 * TILE_VECTORS];
            EACH(t, T)
                EACH(v, TILE_VECTORS)
                    kv[t * TILE_VECTORS + v] =
                        load_kv(type, tile[t] + (size_t)(8 * u + v * LANES) * bytes, consts);
            EACH(g, C) {
                vf qv = vf_splat(of[g] + QUERY_AT(u, 0, C, head_dim));
                EACH(i, T * TILE_VECTORS)
                    acc[g][i] = vf_pinned(vf_add(acc[g][i], vf_mul(qv, kv[i])));
            }
        }
        EACH(g, C) of[g] += QUERY_AT(ATTEND_UNROLL, 0, C, head_dim);
        EACH(t, T) tile[t] += ATTEND_UNROLL * 8 * bytes;
    }
    EACH(t, T)
        EACH(g, C)
            EACH(v, TILE_VECTORS)
                vf_store(score + (t * C + g) * 8 + v * LANES,
                         vf_mul(acc[g][t * TILE_VECTORS + v], sv));
}

/* One tile of q8 keys: words of 4 columns as in a Q8_0 weight tile. */
INLINE void score_tile_q8(const int C, float *score, const act_block *q, const float *dq,
                          const uint8_t *tile, size_t head_dim, float scale) {
    const consts loaded = load_consts(), *consts = &loaded;
    vi dot[ATTEND_CHAINS][TILE_VECTORS];
    EACH(g, C)
        EACH(v, TILE_VECTORS) dot[g][v] = vi_set1(0);
    const uint8_t *words = tile + 32;
    for (size_t c = 0; c < head_dim; c += 32, q++) {
        s_acc part[ATTEND_CHAINS][TILE_VECTORS];
        EACH(g, C)
            EACH(v, TILE_VECTORS) part[g][v] = s_begin(q + g * (XL_MAX_HEAD_DIM / 32));
        EACH(w, 8) {
            if (c + 4 * (size_t)w < head_dim) {
                EACH(v, TILE_VECTORS) {
                    s_weights kw = s_prepare(WORD(words, w, v), consts);
                    EACH(g, C)
                        part[g][v] =
                            s_dot(part[g][v], kw, act_words(q + g * (XL_MAX_HEAD_DIM / 32), w / 4),
                                  w % 4, consts);
                }
            }
        }
        EACH(g, C)
            EACH(v, TILE_VECTORS) dot[g][v] = vi_add(dot[g][v], s_end(part[g][v]));
        words += 8 * 32;
    }
    vf sv = vf_set1(scale);
    EACH(g, C)
        EACH(v, TILE_VECTORS) {
            vf dk = vf_load((const float *)(const void *)tile + v * LANES);
            vf s = vf_mul(vf_mul(vf_from_vi(dot[g][v]), vf_mul(vf_set1(dq[g]), dk)), sv);
            vf_store(score + g * 8 + v * LANES, s);
        }
}

/* A query head, rotated, as one group of int8, in activation blocks; its scale is returned. */
static float quantize_query(act_block *out, const float *q, size_t head_dim) {
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

INLINE void scores_q8(const int C, float *score, const chain *chains, const reach_tiles *reach,
                      size_t head_dim, float scale) {
    act_block blocks[ATTEND_CHAINS][XL_MAX_HEAD_DIM / 32];
    float dq[ATTEND_CHAINS];
    EACH(g, C) dq[g] = quantize_query(blocks[g], chains[g].q, head_dim);
    for (size_t i = 0; i < reach->n; i++)
        for (size_t t = 0; t < reach->at[i].tiles; t++, score += 8 * C)
            score_tile_q8(C, score, blocks[0], dq,
                          reach->at[i].k + t * kv_tile_bytes(XL_KV_Q8, head_dim), head_dim, scale);
}

/* Keys are touched so many tiles at a time. */
enum { TOUCHED_TILES = 4 };

/* Scores of all tiles that the block touches. */
INLINE void scores(const xl_kv_type type, const int C, float *score, const chain *chains,
                   const reach_tiles *reach, size_t head_dim, float scale) {
    const int T = SCORE_TILES(C);
    const size_t tile_bytes = kv_tile_bytes(type, head_dim);
    float q[XL_MAX_HEAD_DIM * ATTEND_CHAINS];
    for (size_t c = 0; c < head_dim; c++)
        EACH(g, C) q[QUERY_AT(c, g, C, head_dim)] = chains[g].q[c];
    const size_t far = (AHEAD_BYTES + tile_bytes - 1) / tile_bytes;
    for (size_t i = 0; i < reach->n; i++) {
        const uint8_t *at = reach->at[i].k;
        const size_t tiles = reach->at[i].tiles;
        size_t t = 0;
        for (; t + T <= tiles; t += T, at += T * tile_bytes, score += T * C * 8) {
            if (reach->fresh && t % TOUCHED_TILES == 0)
                touch(at, (tiles - t < TOUCHED_TILES ? tiles - t : TOUCHED_TILES) * tile_bytes);
            if (PREFETCHES && reach->fresh)
                score_tiles(type, C, T, score, q, at, true, t + far < tiles ? far * tile_bytes : 0,
                            head_dim, scale);
            else score_tiles(type, C, T, score, q, at, false, 0, head_dim, scale);
        }
        for (; T > 1 && t < tiles; t++, at += tile_bytes, score += C * 8)
            score_tiles(type, C, 1, score, q, at, false, 0, head_dim, scale);
    }
}

/* ---- softmax ---- */

/* Of one chain, score [tiles][step]: positions outside [from, end) become -infinity. */
INLINE void mask_scores(float *score, size_t step, size_t tiles, size_t from, size_t end) {
    for (size_t p = 0; p < from; p++) score[p / 8 * step + p % 8] = -INFINITY;
    for (size_t p = end; p < 8 * tiles; p++) score[p / 8 * step + p % 8] = -INFINITY;
}

/* The largest of 8 numbers. */
INLINE float largest8(const vf most[TILE_VECTORS]) {
    float f[8];
    EACH(v, TILE_VECTORS) vf_store(f + v * LANES, most[v]);
    float max = f[0];
    for (int i = 1; i < 8; i++) max = f[i] > max ? f[i] : max;
    return max;
}

#if MAX_EXPS > 1
/* The largest score of each of C chains, score [tiles][C][8]; positions that a chain does not look at
 * become -infinity. */
INLINE void largest_scores(const int C, float max[], float *score, const chain *chains,
                           const reach_tiles *reach) {
    vf most[ATTEND_CHAINS][TILE_VECTORS];
    EACH(g, C) {
        mask_scores(score + 8 * g, 8 * (size_t)C, reach->tiles, chains[g].first - reach->base,
                    chains[g].end - reach->base);
        EACH(v, TILE_VECTORS) most[g][v] = vf_set1(-INFINITY);
    }
    for (size_t t = 0; t < reach->tiles; t++, score += 8 * C)
        EACH(g, C)
            EACH(v, TILE_VECTORS)
                most[g][v] = vf_max(most[g][v], vf_load(score + 8 * g + v * LANES));
    EACH(g, C) max[g] = largest8(most[g]);
}

/* score [tiles][C][8] <- exp(score - max), added to the sums; of a q8 cache then times the scale of
 * the value, v [tiles]. */
INLINE void exp_scores(const xl_kv_type type, const int C, vf sum[][TILE_VECTORS], float *score,
                       const float max[], const uint8_t *v, size_t tiles, size_t head_dim) {
    const exp_consts loaded = load_exp_consts(), *k = &loaded;
    _Static_assert(ATTEND_CHAINS <= MAX_EXPS, "a block's exponentials go side by side");
    for (size_t t = 0; t < tiles; t++, score += 8 * C, v += kv_tile_bytes(type, head_dim))
        EACH(i, TILE_VECTORS) {
            float *row = score + i * LANES;
            vf e[MAX_EXPS];
            EACH(g, C) e[g] = vf_sub(vf_load(row + 8 * g), vf_set1(max[g]));
            vf_exps(C, e, k);
            EACH(g, C) {
                sum[g][i] = vf_add(sum[g][i], e[g]);
                if (type == XL_KV_Q8)
                    e[g] = vf_mul(e[g], vf_load((const float *)(const void *)v + i * LANES));
                vf_store(row + 8 * g, e[g]);
            }
        }
}
#else
/* The same for one chain, score [tiles][step]: where exponentials go one by one, one copy serves any
 * number of them. */
static __attribute__((noinline)) float largest_score(float *score, size_t step, size_t tiles,
                                                     size_t from, size_t end) {
    mask_scores(score, step, tiles, from, end);
    vf most[TILE_VECTORS];
    EACH(v, TILE_VECTORS) most[v] = vf_set1(-INFINITY);
    for (size_t t = 0; t < tiles; t++, score += step)
        EACH(v, TILE_VECTORS) most[v] = vf_max(most[v], vf_load(score + v * LANES));
    return largest8(most);
}

static __attribute__((noinline)) void exp_chain(vf sum[TILE_VECTORS], float *score, size_t step,
                                                float max, const uint8_t *scale, size_t scale_step,
                                                size_t tiles) {
    const exp_consts loaded = load_exp_consts(), *k = &loaded;
    const vf most = vf_set1(max);
    for (size_t t = 0; t < tiles; t++, score += step) {
        EACH(i, TILE_VECTORS) {
            vf e = vf_exp(vf_sub(vf_load(score + i * LANES), most), k);
            sum[i] = vf_add(sum[i], e);
            if (scale) e = vf_mul(e, vf_load((const float *)(const void *)scale + i * LANES));
            vf_store(score + i * LANES, e);
        }
        if (scale) scale += scale_step;
    }
}

INLINE void largest_scores(const int C, float max[], float *score, const chain *chains,
                           const reach_tiles *reach) {
    EACH(g, C)
        max[g] = largest_score(score + 8 * g, 8 * (size_t)C, reach->tiles,
                               chains[g].first - reach->base, chains[g].end - reach->base);
}

INLINE void exp_scores(const xl_kv_type type, const int C, vf sum[][TILE_VECTORS], float *score,
                       const float max[], const uint8_t *v, size_t tiles, size_t head_dim) {
    EACH(g, C)
        exp_chain(sum[g], score + 8 * g, 8 * (size_t)C, max[g], type == XL_KV_Q8 ? v : NULL,
                  kv_tile_bytes(type, head_dim), tiles);
}
#endif

/* ---- output ---- */

/* acc += e * a row of V, at position u from the one that e of each chain and row are of. */
INLINE void output_row(const xl_kv_type type, const int C, const int D, const int u,
                       vf acc[][OUTPUT_VECTORS], const float *const e[], const uint8_t *row,
                       size_t row_bytes, size_t ahead, const consts *consts) {
    row += (size_t)u * row_bytes;
    UNROLL for (size_t at = 0; at < (size_t)(D * LANES) * kv_element_bytes(type); at += LINE_BYTES)
        PREFETCH_FAR(row + at + ahead);
    vf value[OUTPUT_VECTORS];
    EACH(d, D) value[d] = load_kv(type, row + (size_t)(d * LANES) * kv_element_bytes(type), consts);
    EACH(g, C) {
        vf ev = vf_splat(e[g] + u);
        EACH(d, D) acc[g][d] = vf_pinned(vf_add(acc[g][d], vf_mul(ev, value[d])));
    }
}

/* D vectors of the head from element c on: adds the positions [from, end) of tiles that lie one
 * after the other. */
INLINE void output_part(const xl_kv_type type, const int C, const int D, const chain *chains,
                        const float *e, const uint8_t *v, size_t ahead, size_t from, size_t end,
                        size_t head_dim, size_t c) {
    const consts loaded = load_consts(), *consts = &loaded;
    const size_t row_bytes = head_dim * kv_element_bytes(type);
    vf acc[ATTEND_CHAINS][OUTPUT_VECTORS];
    EACH(g, C)
        EACH(d, D) acc[g][d] = vf_load(chains[g].out + c + d * LANES);
    v += (type == XL_KV_Q8 ? 32 : 0) + c * kv_element_bytes(type);
    for (size_t p = from; p < end; v += kv_tile_bytes(type, head_dim), e += 8 * C) {
        const uint8_t *row = v + p % 8 * row_bytes;
        const float *of[ATTEND_CHAINS];
        EACH(g, C) of[g] = e + 8 * g + p % 8;
        if (p % 8 == 0 && p + 8 <= end) {
            NO_UNROLL for (int half = 0; half < 2; half++, row += 4 * row_bytes) {
                EACH(g, C) FOLDABLE(of[g]);
                EACH(u, 4) output_row(type, C, D, u, acc, of, row, row_bytes, ahead, consts);
                EACH(g, C) of[g] += 4;
            }
            p += 8;
            continue;
        }
        do {
            output_row(type, C, D, 0, acc, of, row, row_bytes, ahead, consts);
            EACH(g, C) of[g]++;
            row += row_bytes;
        } while (++p < end && p % 8);
    }
    EACH(g, C)
        EACH(d, D) vf_store(chains[g].out + c + d * LANES, acc[g][d]);
}

/* Values are read in blocks that stay in the first cache while all parts of the head go over
 * them. */
enum { OUTPUT_BLOCK_BYTES = 16384 };

INLINE void scale_output(const chain *chain, const vf sum[], size_t head_dim) {
    const vf inverse = vf_set1(1.0f / sum8(sum));
    for (size_t c = 0; c < head_dim; c += LANES)
        vf_store(chain->out + c, vf_mul(vf_load(chain->out + c), inverse));
}

/* score: of all tiles; what becomes of them in exp_scores is used at once. */
INLINE void outputs(const xl_kv_type type, const int C, const chain *chains, float *score,
                    const float max[], const reach_tiles *reach, size_t head_dim) {
    const int D = OUTPUT_WIDTH(C);
    const size_t tile_bytes = kv_tile_bytes(type, head_dim),
                 most = OUTPUT_BLOCK_BYTES > tile_bytes ? OUTPUT_BLOCK_BYTES / tile_bytes : 1;
    vf sum[ATTEND_CHAINS][TILE_VECTORS];
    EACH(g, C) {
        memset(chains[g].out, 0, head_dim * sizeof(float));
        EACH(v, TILE_VECTORS) sum[g][v] = vf_set1(0.0f);
    }
    size_t left = reach->end - reach->base, from = chains[0].first - reach->base; /* positions */
    for (size_t i = 0; i < reach->n; i++)
        for (size_t t = 0, some; t < reach->at[i].tiles; t += some, from = 0) {
            const size_t tiles = reach->at[i].tiles;
            const uint8_t *v = reach->at[i].v + t * tile_bytes;
            some = tiles - t < most ? tiles - t : most;
            const size_t end = left < 8 * some ? left : 8 * some,
                         ahead = t + some < tiles ? some * tile_bytes : 0;
            if (reach->fresh) touch(v, some * tile_bytes);
            exp_scores(type, C, sum, score, max, v, some, head_dim);
            size_t c = 0;
            for (; c + (size_t)D * LANES <= head_dim; c += (size_t)D * LANES)
                output_part(type, C, D, chains, score, v, ahead, from, end, head_dim, c);
            if (D > TILE_VECTORS)
                for (; c < head_dim; c += 8)
                    output_part(type, C, TILE_VECTORS, chains, score, v, ahead, from, end, head_dim,
                                c);
            score += some * (8 * C);
            left -= end;
        }
    EACH(g, C) scale_output(&chains[g], sum[g], head_dim);
}

/* A block of C chains; the cache begins at tile `first_tile`. */
INLINE void attend_chains(const xl_kv_type type, const int C, const chain *chains,
                          const xl_stretch *cache, size_t first_tile, bool fresh, size_t head_dim,
                          float scale, float *score) {
    const size_t tile = chains[0].first / 8;
    reach_tiles reach = reach_of(cache, tile - first_tile, 8 * tile, chains[C - 1].end,
                                 kv_tile_bytes(type, head_dim));
    reach.fresh = fresh;
    if (type == XL_KV_Q8)
        scores_q8(C, score, chains, &reach, head_dim, scale / (float)xl_rotation_block(head_dim));
    else scores(type, C, score, chains, &reach, head_dim, scale);
    float max[ATTEND_CHAINS];
    largest_scores(C, max, score, chains, &reach);
    outputs(type, C, chains, score, max, &reach, head_dim);
}

INLINE void attend(const xl_kv_type type, float *out, const float *q, size_t stride, size_t rows,
                   const xl_stretch *cache, xl_reach span, size_t head_dim, size_t group,
                   float scale, float *scratch) {
    const size_t first_tile = xl_reach_first(span, 0) / 8;
    const size_t most = type == XL_KV_Q8 ? 3 : ATTEND_CHAINS, all = rows * group;
    for (size_t at = 0, some; at < all; at += some) {
        const size_t left = all - at, blocks = (left + most - 1) / most;
        chain chains[ATTEND_CHAINS];
        some = (left + blocks - 1) / blocks;
        for (size_t i = 0; i < some; i++) {
            const size_t row = (at + i) / group,
                         offset = row * stride + (at + i) % group * head_dim;
            chains[i] =
                (chain){q + offset, out + offset, xl_reach_first(span, row), span.end + row};
        }
#define X(N)                        \
    if (some == (N) && (N) <= most) \
        attend_chains(type, (N), chains, cache, first_tile, at == 0, head_dim, scale, scratch);
        FOR_EACH_CHAINS(X)
#undef X
    }
}
