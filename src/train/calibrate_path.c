/* Thresholds: the paper's strategies for one head, and the curve of a chain. See calibrate.h. */
#include "calibrate.h"
#include <math.h>
#include <string.h>

typedef struct pair {
    float u;
    uint32_t index;
} pair;

static bool before(pair a, pair b) { return a.u < b.u || (a.u == b.u && a.index < b.index); }

/* Merge sort, stable: `scratch` has n pairs too. */
static void sort_pairs(pair *a, pair *scratch, size_t n) {
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t low = 0; low < n; low += 2 * width) {
            size_t middle = low + width < n ? low + width : n,
                   high = low + 2 * width < n ? low + 2 * width : n;
            for (size_t i = low, l = low, r = middle; i < high; i++)
                scratch[i] = l < middle && (r >= high || !before(a[r], a[l])) ? a[l++] : a[r++];
        }
        memcpy(a, scratch, n * sizeof *a);
    }
}

/* A threshold between two neighbouring values: exits are those strictly below it. */
static float between(float below, float above) {
    float t = below + (above - below) / 2;
    return t > below ? t : above;
}

static bool sort_tokens(float *u, uint8_t *ok, size_t n, const exitlm_allocator *allocator) {
    pair *pairs = xl_calloc(allocator, n ? 2 * n : 1, sizeof *pairs);
    if (!pairs) return false;
    for (size_t i = 0; i < n; i++) pairs[i] = (pair){u[i], (uint32_t)(2 * i) | ok[i]};
    sort_pairs(pairs, pairs + n, n);
    for (size_t i = 0; i < n; i++) {
        u[i] = pairs[i].u;
        ok[i] = pairs[i].index & 1;
    }
    xl_free(allocator, pairs, n ? 2 * n : 1, sizeof *pairs);
    return true;
}

static float platt(const float *u, const uint8_t *ok, size_t n, double level) {
    float w[2];
    xl_logistic_fit(u, ok, NULL, n, 1, 1e-3, w);
    double logit = log(level / (1 - level));
    if (!(w[1] < 0)) return w[0] >= logit ? 1 : 0; /* the metric says nothing here */
    double t = (logit - w[0]) / w[1];
    return (float)(t < 0 ? 0 : t > 1 ? 1 : t);
}

bool xl_threshold_paper(exitlm_strategy strategy, float *u, uint8_t *ok, size_t n, double level,
                        const exitlm_allocator *allocator, float *threshold) {
    *threshold = 0;
    if (n == 0) return true;
    if (!sort_tokens(u, ok, n, allocator)) return false;
    if (strategy == EXITLM_STRATEGY_PLATT) {
        *threshold = platt(u, ok, n, level);
        return true;
    }
    float first = 0, last = 0; /* thresholds of min-coverage and max-coverage */
    bool unbroken = true;
    size_t agreed = 0;
    for (size_t i = 0; i < n; i++) {
        agreed += ok[i];
        if (i + 1 < n && u[i + 1] == u[i]) continue; /* equal uncertainties exit together */
        bool holds = (double)agreed >= level * (double)(i + 1) - 1e-9;
        float t = between(u[i], i + 1 < n ? u[i + 1] : nextafterf(u[i], 2));
        if (holds) last = t;
        if (holds && unbroken) first = t;
        if (!holds) unbroken = false;
    }
    *threshold = strategy == EXITLM_STRATEGY_MIN_COVERAGE ? first
                 : strategy == EXITLM_STRATEGY_MIDPOINT   ? (first + last) / 2
                                                          : last;
    return true;
}

/* ---- The curve ---- */
/* Prices of regret that are tried, geometrically from the most to the least. */
#define MOST_PRICE 2000.0
#define LEAST_PRICE 0.5

/* What becomes of token t from head `from` on: the head that exits it, or n_heads, and its cost. */
static size_t follow(const xl_path_data *d, size_t t, size_t from, const float *threshold,
                     double *cost) {
    const float *u = d->u + t * d->n_heads;
    *cost = 0;
    for (size_t h = from; h < d->n_heads; h++) {
        if (!(threshold[h] > 0)) continue;
        if (u[h] < threshold[h] && u[h] <= 1) {
            *cost += d->exit_cost[h];
            return h;
        }
        *cost += d->fail_cost[h];
    }
    *cost += 1;
    return d->n_heads;
}

xl_path_mean xl_path_measure(const xl_path_data *d, const float *threshold) {
    xl_path_mean m = {0};
    double total = 0;
    for (size_t t = 0; t < d->n; t++) {
        double cost, weight = d->weight[t];
        const size_t h = follow(d, t, 0, threshold, &cost), at = t * d->n_heads + h;
        m.cost += weight * cost;
        total += weight;
        if (h == d->n_heads) continue;
        m.wrong += weight * d->wrong[at];
        m.regret += weight * (double)d->regret[at];
    }
    if (!(total > 0)) return (xl_path_mean){.cost = 1};
    return (xl_path_mean){m.wrong / total, m.regret / total, m.cost / total};
}

typedef struct ascent {
    const xl_path_data *data;
    pair *order[EXITLM_MAX_HEADS]; /* tokens by uncertainty of that head */
    double mu;                     /* price of regret */
} ascent;

/* What token t costs from head `from` on, its regret included. */
static double price(const ascent *a, size_t t, size_t from, const float *threshold) {
    double cost;
    const size_t h = follow(a->data, t, from, threshold, &cost), n = a->data->n_heads;
    return h < n ? cost + a->mu * (double)a->data->regret[t * n + h] : cost;
}

/* The best threshold of head h with the others fixed: the prefix of its tokens, surest first,
 * that saves most. */
static float best_threshold(const ascent *a, size_t h, const float *threshold) {
    const xl_path_data *d = a->data;
    double sum = 0, best = 0, ignored;
    float result = 0;
    for (size_t t = 0; t < d->n && d->fail_cost[h] > 0; t++)
        if (follow(d, t, 0, threshold, &ignored) >= h) sum -= d->weight[t] * d->fail_cost[h];
    for (size_t i = 0; i < d->n; i++) {
        const size_t t = a->order[h][i].index, at = t * d->n_heads + h;
        if (!(d->u[at] <= 1)) break;
        if (follow(d, t, 0, threshold, &ignored) >= h)
            sum += d->weight[t] * (d->fail_cost[h] + price(a, t, h + 1, threshold) -
                                   d->exit_cost[h] - a->mu * (double)d->regret[at]);
        float next = i + 1 < d->n ? a->order[h][i + 1].u : 2;
        if (next == d->u[at] || sum <= best) continue;
        best = sum;
        result = next <= 1 ? between(d->u[at], next) : nextafterf(d->u[at], 2);
    }
    return result;
}

static void ascend(const ascent *a, float *threshold) {
    for (int sweep = 0; sweep < 8; sweep++) {
        bool moved = false;
        /* last head first: the early ones then see what they compete with */
        for (size_t i = a->data->n_heads; i-- > 0;) {
            float t = best_threshold(a, i, threshold);
            moved |= t != threshold[i];
            threshold[i] = t;
        }
        if (!moved) return;
    }
}

/* Between two settings: uncertainties are crowded near 0, so thresholds move evenly in their
 * square root. */
static void blend(const float *a, const float *b, double s, size_t n, float *out) {
    for (size_t h = 0; h < n; h++) {
        double v = (1 - s) * sqrt(a[h]) + s * sqrt(b[h]);
        out[h] = (float)(v * v);
    }
}

void xl_curve_at(const xl_curve *curve, const xl_path_data *data, double wrong, float *threshold) {
    size_t i = 0;
    while (i < XL_CURVE && curve->wrong[i + 1] <= wrong) i++;
    memcpy(threshold, curve->threshold[i], sizeof curve->threshold[i]);
    if (i == XL_CURVE) return;
    double low = 0, high = 1;
    for (int step = 0; step < 14; step++) {
        double middle = (low + high) / 2;
        blend(curve->threshold[i], curve->threshold[i + 1], middle, data->n_heads, threshold);
        if (xl_path_measure(data, threshold).wrong <= wrong) low = middle;
        else high = middle;
    }
    blend(curve->threshold[i], curve->threshold[i + 1], low, data->n_heads, threshold);
}

static void lay_out(ascent *a, xl_curve *curve) {
    const xl_path_data *data = a->data;
    for (size_t i = 1; i <= XL_CURVE; i++) {
        float *now = curve->threshold[i];
        const float *before = curve->threshold[i - 1];
        a->mu = MOST_PRICE * pow(LEAST_PRICE / MOST_PRICE, (double)(i - 1) / (XL_CURVE - 1));
        memcpy(now, before, sizeof curve->threshold[i]);
        ascend(a, now);
        for (size_t h = 0; h < data->n_heads; h++) now[h] = fmaxf(now[h], before[h]);
        const xl_path_mean mean = xl_path_measure(data, now);
        curve->wrong[i] = mean.wrong;
        curve->price += (mean.cost + a->mu * mean.regret) / XL_CURVE;
    }
}

bool xl_curve_build(const xl_path_data *data, const exitlm_allocator *allocator, xl_curve *curve) {
    ascent a = {.data = data};
    *curve = (xl_curve){0};
    if (data->n_heads == 0 || data->n_heads > EXITLM_MAX_HEADS || data->n > UINT32_MAX)
        return false;
    const size_t count = data->n * (data->n_heads + 1);
    pair *pairs = xl_calloc(allocator, count ? count : 1, sizeof *pairs);
    if (!pairs) return false;
    for (size_t h = 0; h < data->n_heads; h++) {
        a.order[h] = pairs + h * data->n;
        for (size_t t = 0; t < data->n; t++)
            a.order[h][t] = (pair){data->u[t * data->n_heads + h], (uint32_t)t};
        sort_pairs(a.order[h], pairs + data->n_heads * data->n, data->n);
    }
    lay_out(&a, curve);
    xl_free(allocator, pairs, count ? count : 1, sizeof *pairs);
    return true;
}
