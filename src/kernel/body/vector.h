/* Vector kernels over the primitives of an instruction set (see matmul.h): quantisation, norm,
 * RoPE, activation, softmax. */

/* The order of kernels.h' sum8. */
INLINE float sum_of8(const float f[8]) {
    return ((f[0] + f[4]) + (f[2] + f[6])) + ((f[1] + f[5]) + (f[3] + f[7]));
}

INLINE float sum8(const vf l[TILE_VECTORS]) {
    float f[8];
    EACH(v, TILE_VECTORS) vf_store(f + v * LANES, l[v]);
    return sum_of8(f);
}

INLINE vf vf_load_part(const float *x, size_t n, float fill) { /* the first n < LANES elements */
    float f[LANES];
    for (size_t i = 0; i < LANES; i++) f[i] = i < n ? x[i] : fill;
    return vf_load(f);
}

INLINE void vf_store_part(float *x, size_t n, vf v) {
    float f[LANES];
    vf_store(f, v);
    for (size_t i = 0; i < n; i++) x[i] = f[i];
}

/* ---- quantisation ---- */

/* The largest magnitude of x [n] as bits, n a multiple of 8. */
INLINE uint32_t peak_bits(const float *x, size_t n) {
    vi peak = vi_set1(0), magnitude = vi_set1(0x7fffffff);
    for (size_t i = 0; i < n; i += LANES)
        peak = vi_max(peak, vi_and(vi_load((const uint8_t *)(x + i)), magnitude));
    int32_t lanes[LANES], max = 0;
    vi_store(lanes, peak);
    EACH(i, LANES) max = lanes[i] > max ? lanes[i] : max;
    return (uint32_t)max;
}

/* Does a group of this largest magnitude count as zero? */
INLINE bool peak_is_zero(uint32_t peak) {
    return peak >= 0x7f800000u || xl_float_of_bits(peak) < XL_ACT_TINY;
}

/* q [n] <- x [n] * inverse, rounded, n a multiple of 8. */
INLINE void round_group(int32_t *q, const float *x, size_t n, vf inverse) {
    vf magic = vf_set1(XL_EXPF_MAGIC);
    vi magic_bits = vi_bits_of_vf(magic);
    for (size_t i = 0; i < n; i += LANES)
        vi_store(q + i,
                 vi_sub(vi_bits_of_vf(vf_add(vf_mul(vf_load(x + i), inverse), magic)), magic_bits));
}

/* q [n] <- x [n] as int32 with one scale, which is returned; 0 (and nothing in q) if the group
 * counts as zero. n a multiple of 8. */
INLINE float quantize_group(int32_t *q, const float *x, size_t n) {
    const uint32_t peak = peak_bits(x, n);
    if (peak_is_zero(peak)) return 0.0f;
    const float amax = xl_float_of_bits(peak);
    round_group(q, x, n, vf_set1(127.0f / amax));
    return amax / 127.0f;
}

#ifdef OWN_QUANTIZE_BLOCK
static void quantize(void *act, float *rest, const float *x, size_t cols) {
    act_block *out = act;
    for (size_t c = 0; c < cols; c += 32, out++) quantize_block(out, rest ? rest + c : NULL, x + c);
}
#else
/* rest [32] <- x [32] - d * q, q = x * inverse rounded. */
INLINE void quantize_rest(float *rest, const float *x, float d, vf inverse) {
    vf scale = vf_set1(d), magic = vf_set1(XL_EXPF_MAGIC);
    for (size_t i = 0; i < 32; i += LANES) {
        vf v = vf_load(x + i), q = vf_sub(vf_add(vf_mul(v, inverse), magic), magic);
        vf_store(rest + i, vf_sub(v, vf_mul(scale, q)));
    }
}

/* As many blocks as a vector has lanes go together, so that their scales are divided for at once: what
 * waits for a division is not started early enough by a processor that finds a block too long to look
 * past. */
static void quantize(void *act, float *rest, const float *x, size_t cols) {
    act_block *out = act;
    for (size_t left = cols / 32, some; left; left -= some) {
        int32_t peaks[LANES];
        float d[LANES], inverse[LANES];
        some = left < LANES ? left : LANES;
        for (size_t b = 0; b < LANES; b++)
            peaks[b] = b < some ? (int32_t)peak_bits(x + 32 * b, 32) : 0x3f800000;
        const vf amax = vf_of_bits(vi_load((const uint8_t *)peaks)), most = vf_set1(127.0f);
        vf_store(d, vf_div(amax, most));
        vf_store(inverse, vf_div(most, amax));
        for (size_t b = 0; b < some; b++, out++, x += 32) {
            int32_t q[32], sum[2] = {0, 0};
            if (peak_is_zero((uint32_t)peaks[b])) {
                memset(out, 0, sizeof *out);
                if (rest) memset(rest, 0, 32 * sizeof *rest);
            } else {
                const vf times = vf_splat(inverse + b);
                round_group(q, x, 32, times);
                if (rest) quantize_rest(rest, x, d[b], times);
                for (int c = 0; c < 16; c++) sum[0] += q[c];
                for (int c = 16; c < 32; c++) sum[1] += q[c];
                const int32_t total = sum[0] + sum[1];
                out->d = d[b];
                out->s = d[b] * (float)total;
                out->minus8 = -8 * total;
                out->minus16 = -16 * total;
                out->minus32[0] = -32 * sum[0];
                out->minus32[1] = -32 * sum[1];
                act_finish(out, q, total);
            }
            if (rest) rest += 32;
        }
    }
}
#endif

/* ---- elementwise ---- */

/* x [N] <- xl_expf of fmath.h, the same operations in the same order, of N vectors side by side: one
 * alone is a chain of operations that wait for each other. */
INLINE void vf_exps(const int N, vf x[], const exp_consts *k) {
    vi under[MAX_EXPS];
    vf z[MAX_EXPS], p[MAX_EXPS];
    EACH(i, N) {
        vf c = vf_min(x[i], k->max);
        under[i] = vf_less(c, k->min);
        x[i] = vf_max(c, k->min);
        z[i] = vf_pinned(vf_add(vf_mul(x[i], k->log2e), k->magic));
    }
    EACH(i, N) {
        vf n = vf_sub(z[i], k->magic), r = vf_sub(x[i], vf_mul(n, k->ln2_hi));
        x[i] = vf_pinned(vf_sub(r, vf_mul(n, k->ln2_lo)));
    }
    EACH(i, N) p[i] = vf_pinned(vf_add(vf_mul(k->c5, x[i]), k->c4));
    EACH(i, N) p[i] = vf_pinned(vf_add(vf_mul(p[i], x[i]), k->c3));
    EACH(i, N) p[i] = vf_pinned(vf_add(vf_mul(p[i], x[i]), k->c2));
    EACH(i, N) p[i] = vf_pinned(vf_add(vf_mul(p[i], x[i]), k->c1));
    EACH(i, N) p[i] = vf_pinned(vf_add(vf_mul(p[i], x[i]), k->c0));
    EACH(i, N) p[i] = vf_pinned(vf_add(vf_mul(p[i], vf_mul(x[i], x[i])), x[i]));
    EACH(i, N) {
        /* (bits of z + 127) << 23, the addition after the shift: 127 << 23 is the bits of 1.0f */
        vf scale = vf_of_bits(vi_add(vi_shl(vi_bits_of_vf(z[i]), 23), vi_bits_of_vf(k->one)));
        x[i] = vf_of_bits(vi_and_not(vi_bits_of_vf(vf_mul(vf_add(p[i], k->one), scale)), under[i]));
    }
}

INLINE vf vf_exp(vf x, const exp_consts *k) {
    vf_exps(1, &x, k);
    return x;
}

/* a(x) of xl_activation; c [XL_GELU_TERMS], NULL for SiLU. */
INLINE vf vf_gate(vf x, const float *c, vf most) {
    if (!c) return x;
    vf z = vf_mul(x, x), p = vf_splat(c + XL_GELU_TERMS - 1);
    z = vf_min(z, most);
    for (int i = XL_GELU_TERMS - 1; i-- > 0;) p = vf_add(vf_mul(p, z), vf_splat(c + i));
    return vf_mul(x, p);
}

INLINE vf vf_activated(vf g, const float *c, vf most, const exp_consts *k) {
    return vf_div(g, vf_add(k->one, vf_exp(vf_negate(vf_gate(g, c, most)), k)));
}

INLINE void activate_with(float *x, const float *up, size_t n, const float *c) {
    const exp_consts loaded = load_exp_consts(), *k = &loaded;
    const vf most = vf_set1(XL_GELU_MAX);
    size_t i = 0;
    for (; i + MAX_EXPS * LANES <= n; i += MAX_EXPS * LANES) {
        vf g[MAX_EXPS], e[MAX_EXPS];
        EACH(j, MAX_EXPS) {
            g[j] = vf_load(x + i + j * LANES);
            e[j] = vf_negate(vf_gate(g[j], c, most));
        }
        vf_exps(MAX_EXPS, e, k);
        EACH(j, MAX_EXPS) {
            vf y = vf_div(g[j], vf_add(k->one, e[j]));
            vf_store(x + i + j * LANES, up ? vf_mul(y, vf_load(up + i + j * LANES)) : y);
        }
    }
    for (; i + LANES <= n; i += LANES) {
        vf y = vf_activated(vf_load(x + i), c, most, k);
        vf_store(x + i, up ? vf_mul(y, vf_load(up + i)) : y);
    }
    if (i == n) return;
    vf y = vf_activated(vf_load_part(x + i, n - i, 0.0f), c, most, k);
    vf_store_part(x + i, n - i, up ? vf_mul(y, vf_load_part(up + i, n - i, 0.0f)) : y);
}

static void activate(float *x, const float *up, size_t n, xl_activation kind) {
    static const float coefficients[][XL_GELU_TERMS] = {{XL_GELU_TANH_COEFFICIENTS},
                                                        {XL_GELU_COEFFICIENTS}};
    if (kind == XL_SILU && up) activate_with(x, up, n, NULL);
    else if (kind == XL_SILU) activate_with(x, NULL, n, NULL);
    else activate_with(x, up, n, coefficients[kind == XL_GELU]);
}

static void add(float *x, const float *y, size_t n) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) vf_store(x + i, vf_add(vf_load(x + i), vf_load(y + i)));
    for (; i < n; i++) x[i] = x[i] + y[i];
}

static void mul(float *x, const float *y, size_t n) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) vf_store(x + i, vf_mul(vf_load(x + i), vf_load(y + i)));
    for (; i < n; i++) x[i] = x[i] * y[i];
}

static void axpy(float *y, float a, const float *x, size_t n) {
    vf av = vf_set1(a);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_store(y + i, vf_add(vf_load(y + i), vf_mul(av, vf_load(x + i))));
    for (; i < n; i++) y[i] = y[i] + a * x[i];
}

static void rmsnorm(float *y, const float *x, const float *w, size_t n, float eps) {
    vf lanes[TILE_VECTORS];
    float f[8], rest[8] = {0.0f};
    EACH(v, TILE_VECTORS) lanes[v] = vf_set1(0.0f);
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        EACH(v, TILE_VECTORS) {
            vf t = vf_load(x + i + v * LANES);
            lanes[v] = vf_add(lanes[v], vf_mul(t, t));
        }
    EACH(v, TILE_VECTORS) vf_store(f + v * LANES, lanes[v]);
    for (size_t j = i; j < n; j++) rest[j - i] = x[j] * x[j];
    EACH(j, 8) f[j] = f[j] + rest[j]; /* + 0 changes nothing: a sum of squares is not -0 */
    float r = 1.0f / sqrtf(sum_of8(f) / (float)n + eps);
    vf rv = vf_set1(r);
    for (i = 0; i + LANES <= n; i += LANES)
        vf_store(y + i, vf_mul(vf_mul(vf_load(x + i), rv), vf_load(w + i)));
    for (; i < n; i++) y[i] = (x[i] * r) * w[i];
}

static void layernorm(float *y, const float *x, const float *w, const float *b, size_t n,
                      float eps) {
    vf sums[TILE_VECTORS], squares[TILE_VECTORS];
    EACH(v, TILE_VECTORS) sums[v] = squares[v] = vf_set1(0.0f);
    for (size_t i = 0; i < n; i += 8)
        EACH(v, TILE_VECTORS) sums[v] = vf_add(sums[v], vf_load(x + i + v * LANES));
    vf mean = vf_set1(sum8(sums) / (float)n);
    for (size_t i = 0; i < n; i += 8)
        EACH(v, TILE_VECTORS) {
            vf d = vf_sub(vf_load(x + i + v * LANES), mean);
            squares[v] = vf_add(squares[v], vf_mul(d, d));
        }
    vf r = vf_set1(1.0f / sqrtf(sum8(squares) / (float)n + eps));
    for (size_t i = 0; i < n; i += LANES) {
        vf d = vf_mul(vf_sub(vf_load(x + i), mean), r);
        vf_store(y + i, vf_add(vf_mul(d, vf_load(w + i)), vf_load(b + i)));
    }
}

INLINE void rope_pair(float *a, float *b, float c, float s) {
    float old_a = *a, old_b = *b;
    *a = old_a * c - old_b * s;
    *b = old_a * s + old_b * c;
}

static void rope(float *x, const float *cos, const float *sin, size_t n_heads, size_t head_dim,
                 size_t rot_dim, xl_rope_style style) {
    size_t half = rot_dim / 2;
    for (size_t h = 0; h < n_heads; h++, x += head_dim) {
        size_t i = 0;
        if (style == XL_ROPE_NORM) {
            for (; i < half; i++) rope_pair(x + 2 * i, x + 2 * i + 1, cos[i], sin[i]);
            continue;
        }
        for (; i + LANES <= half; i += LANES) {
            vf a = vf_load(x + i), b = vf_load(x + i + half), c = vf_load(cos + i),
               s = vf_load(sin + i);
            vf_store(x + i, vf_sub(vf_mul(a, c), vf_mul(b, s)));
            vf_store(x + i + half, vf_add(vf_mul(a, s), vf_mul(b, c)));
        }
        for (; i < half; i++) rope_pair(x + i, x + i + half, cos[i], sin[i]);
    }
}

/* ---- reductions ---- */

/* The largest of x [n]. */
INLINE float largest(const float *x, size_t n) {
    vf max[4];
    EACH(k, 4) max[k] = vf_set1(-INFINITY);
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        EACH(k, 4) max[k] = vf_max(max[k], vf_load(x + i + k * LANES));
    for (; i + LANES <= n; i += LANES) max[0] = vf_max(max[0], vf_load(x + i));
    if (i < n) max[1] = vf_max(max[1], vf_load_part(x + i, n - i, -INFINITY));
    float f[LANES], out = -INFINITY;
    vf_store(f, vf_max(vf_max(max[0], max[1]), vf_max(max[2], max[3])));
    EACH(k, LANES) out = f[k] > out ? f[k] : out;
    return out;
}

/* The first index of a value that is known to be there. */
INLINE size_t index_of(const float *x, size_t n, float value) {
    vf wanted = vf_set1(value);
    size_t i = 0;
    for (; i + 8 * LANES <= n; i += 8 * LANES) { /* in steps, without a branch for each vector */
        vi found = vf_equal(vf_load(x + i), wanted);
        UNROLL for (int k = 1; k < 8; k++) found =
            vi_or(found, vf_equal(vf_load(x + i + k * LANES), wanted));
        if (vi_any(found)) break;
    }
    while (i < n && x[i] != value) i++;
    return i < n ? i : 0;
}

/* The largest value apart from x[arg]. */
INLINE float second_largest(const float *x, size_t n, size_t arg) {
    float before = arg ? largest(x, arg) : -INFINITY,
          after = arg + 1 < n ? largest(x + arg + 1, n - arg - 1) : -INFINITY;
    return before > after ? before : after;
}

/* The lowest index of the largest, and the largest at any other index: one pass over x, and a second
 * one over the part that has it. */
static size_t two_largest(const float *x, size_t n, float *first, float *second) {
    enum { PART = 2048 };
    size_t at = 0;
    *first = *second = -INFINITY;
    for (size_t i = 0; i < n; i += PART) {
        const float here = largest(x + i, n - i < PART ? n - i : PART);
        if (here > *first) {
            *second = *first;
            *first = here;
            at = i;
        } else if (here > *second) *second = here;
    }
    const size_t rest = n - at < PART ? n - at : PART, arg = index_of(x + at, rest, *first);
    const float beside = second_largest(x + at, rest, arg);
    *second = beside > *second ? beside : *second;
    *second = *second > -FLT_MAX ? *second : -FLT_MAX;
    return at + arg;
}

static size_t argmax(const float *x, size_t n) {
    float first, second;
    return two_largest(x, n, &first, &second);
}

static void softmax_stats(const float *x, size_t n, xl_softmax_stats *out) {
    out->arg = two_largest(x, n, &out->max, &out->second);
    const exp_consts loaded = load_exp_consts(), *k = &loaded;
    vf sum[TILE_VECTORS], weighted[TILE_VECTORS], max = vf_set1(out->max);
    EACH(v, TILE_VECTORS) sum[v] = weighted[v] = vf_set1(0.0f);
    for (size_t i = 0; i < n; i += 8)
        EACH(v, TILE_VECTORS) {
            /* padding counts as -infinity: e is 0, t * e is -0, neither changes a sum */
            size_t at = i + (size_t)v * LANES;
            vf t = vf_sub(at + LANES <= n ? vf_load(x + at)
                                          : vf_load_part(x + at, at < n ? n - at : 0, -INFINITY),
                          max);
            vf e = vf_exp(t, k);
            t = vf_select(vf_less(k->min, t), t, k->min);
            sum[v] = vf_add(sum[v], e);
            weighted[v] = vf_add(weighted[v], vf_mul(t, e));
        }
    out->sum_exp = sum8(sum);
    out->sum_xexp = sum8(weighted);
}
