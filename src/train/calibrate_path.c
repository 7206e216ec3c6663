/* Thresholds: the paper's strategies for one head, and the path of a chain. See calibrate.h. */
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

/* ---- The path ---- */
#define CANDIDATES 48 /* prices that are tried */

void xl_path_measure(const xl_path_data *data, const float *threshold, double *risk, double *cost) {
    double r = 0, c = 0, total = 0;
    for (size_t t = 0; t < data->n; t++) {
        const float *u = data->u + t * data->n_heads;
        size_t h = 0;
        while (h < data->n_heads && !(u[h] < threshold[h] && u[h] <= 1)) h++;
        total += data->weight[t];
        if (h == data->n_heads) {
            c += data->weight[t] * data->full_cost;
        } else {
            c += data->weight[t] * data->exit_cost[h];
            r += data->weight[t] * data->wrong[t * data->n_heads + h];
        }
    }
    *risk = total > 0 ? r / total : 0;
    *cost = total > 0 ? c / total : 1;
}

typedef struct ascent {
    const xl_path_data *data;
    pair *order[EXITLM_MAX_HEADS]; /* tokens by uncertainty of that head */
    double mu;                     /* price of an error */
} ascent;

/* What token t costs if heads before `from` do not exit it. */
static double price_after(const ascent *a, size_t t, size_t from, const float *threshold) {
    const xl_path_data *d = a->data;
    for (size_t h = from; h < d->n_heads; h++) {
        float u = d->u[t * d->n_heads + h];
        if (u < threshold[h] && u <= 1)
            return d->exit_cost[h] + a->mu * d->wrong[t * d->n_heads + h];
    }
    return d->full_cost;
}

/* The best threshold of head h with the others fixed: the prefix of its tokens, surest first,
 * that saves most. */
static float best_threshold(const ascent *a, size_t h, const float *threshold) {
    const xl_path_data *d = a->data;
    double sum = 0, best = 0;
    float result = 0;
    for (size_t i = 0; i < d->n; i++) {
        size_t t = a->order[h][i].index, earlier = 0;
        const float *u = d->u + t * d->n_heads;
        if (!(u[h] <= 1)) break;
        while (earlier < h && !(u[earlier] < threshold[earlier] && u[earlier] <= 1)) earlier++;
        if (earlier == h) {
            double here = d->exit_cost[h] + a->mu * d->wrong[t * d->n_heads + h];
            sum += d->weight[t] * (price_after(a, t, h + 1, threshold) - here);
        }
        float next = i + 1 < d->n ? a->order[h][i + 1].u : 2;
        if (next == u[h] || sum <= best) continue;
        best = sum;
        result = next <= 1 ? between(u[h], next) : nextafterf(u[h], 2);
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

/* The setting on the polyline of candidates whose risk on the data is `target`. */
static void meet_target(const xl_path_data *data, float (*candidate)[EXITLM_MAX_HEADS], size_t n,
                        double target, float *out) {
    double risk, cost;
    size_t i = 0;
    for (; i + 1 < n; i++) {
        xl_path_measure(data, candidate[i + 1], &risk, &cost);
        if (risk > target) break;
    }
    if (i + 1 == n) {
        memcpy(out, candidate[i], sizeof *candidate);
        return;
    }
    double low = 0, high = 1;
    for (int step = 0; step < 14; step++) {
        double middle = (low + high) / 2;
        blend(candidate[i], candidate[i + 1], middle, data->n_heads, out);
        xl_path_measure(data, out, &risk, &cost);
        if (risk <= target) low = middle;
        else high = middle;
    }
    blend(candidate[i], candidate[i + 1], low, data->n_heads, out);
}

static void lay_out(ascent *a, const float *target, size_t n, xl_path *path) {
    const xl_path_data *data = a->data;
    float candidate[CANDIDATES + 1][EXITLM_MAX_HEADS] = {{0}}; /* [0]: no exits */
    for (size_t i = 1; i <= CANDIDATES; i++) {
        float *now = candidate[i];
        a->mu = 300 * pow(0.25 / 300, (double)(i - 1) / (CANDIDATES - 1));
        memcpy(now, candidate[i - 1], sizeof *candidate);
        ascend(a, now);
        for (size_t h = 0; h < data->n_heads; h++)
            if (now[h] < candidate[i - 1][h]) now[h] = candidate[i - 1][h];
    }
    path->n = n;
    for (size_t j = 0; j < n; j++) {
        double risk, cost;
        meet_target(data, candidate, CANDIDATES + 1, target[j], path->threshold[j]);
        xl_path_measure(data, path->threshold[j], &risk, &cost);
        path->risk[j] = (float)risk;
        path->cost[j] = (float)cost;
    }
}

bool xl_path_build(const xl_path_data *data, const float *target, size_t n,
                   const exitlm_allocator *allocator, xl_path *path) {
    ascent a = {.data = data};
    memset(path, 0, sizeof *path);
    if (data->n_heads == 0 || data->n_heads > EXITLM_MAX_HEADS || n > XL_PATH_MAX ||
        data->n > UINT32_MAX)
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
    lay_out(&a, target, n, path);
    xl_free(allocator, pairs, count ? count : 1, sizeof *pairs);
    return true;
}
