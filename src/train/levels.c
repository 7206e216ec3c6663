/* From measurements to the rows of a calibration table. See levels.h. */
#include "levels.h"
#include "run/cost.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reply/session.h"

bool xl_level_wanted(const float *accuracy, size_t n, float x) {
    for (size_t i = 0; i < n; i++)
        if (fabsf(accuracy[i] - x) < 1e-4f) return true;
    return n == 0;
}

/* ---- Tokens ---- */
static xl_check check_of(const xl_measure_check *c) {
    return (xl_check){.id = c->argmax,
                      .argmax = c->argmax,
                      .entropy = c->entropy,
                      .p1 = c->p1,
                      .margin = c->margin,
                      .other = c->other};
}

static void fill_token(xl_level_tokens *t, size_t i, const exitlm_heads *heads,
                       exitlm_metric metric, uint32_t n_layers, const xl_measure_record *r) {
    xl_check previous;
    const xl_check *before = NULL;
    for (uint32_t h = 0; h < t->n_heads; h++) {
        xl_check check = check_of(&r->checks[i * t->n_heads + h]);
        const bool asked = !r->first[i] || heads->head[h].layer == n_layers;
        t->u[i * t->n_heads + h] =
            asked && check.argmax >= 0 ? xl_uncertainty(heads, h, metric, &check, before) : 2;
        t->wrong[i * t->n_heads + h] = check.argmax != r->full[i];
        if (!asked) continue;
        previous = check;
        before = &previous;
    }
}

bool xl_level_tokens_make(xl_level_tokens *t, const exitlm_heads *heads, exitlm_metric metric,
                          uint32_t n_layers, const xl_measure_record *r, size_t n_conversations) {
    *t = (xl_level_tokens){.n = r->n,
                           .n_conversations = n_conversations,
                           .n_heads = heads->n_heads,
                           .conversation = r->conversation};
    t->u = malloc((r->n * heads->n_heads + 1) * sizeof *t->u);
    t->wrong = malloc(r->n * heads->n_heads + 1);
    t->weight = malloc((r->n + 1) * sizeof *t->weight);
    if (!t->u || !t->wrong || !t->weight) return false;
    for (size_t i = 0; i < r->n; i++) fill_token(t, i, heads, metric, n_layers, r);
    for (size_t i = 0, end; i < r->n; i = end) {
        for (end = i; end < r->n; end++)
            if (r->conversation[end] != r->conversation[i]) break;
        for (size_t k = i; k < end; k++) t->weight[k] = 1.0f / (float)(end - i);
    }
    return true;
}

void xl_level_tokens_free(xl_level_tokens *t) {
    free(t->u);
    free(t->wrong);
    free(t->weight);
    *t = (xl_level_tokens){0};
}

bool xl_level_fit_logistic(const exitlm_heads *heads, uint32_t n_layers, const xl_measure_record *r,
                           float *w) {
    float *f = malloc((r->n * 5 + 1) * sizeof *f);
    uint8_t *y = malloc(r->n + 1);
    bool fine = f && y;
    for (uint32_t h = 0; fine && h < heads->n_heads; h++) {
        size_t n = 0;
        for (size_t i = 0; i < r->n; i++) {
            const xl_measure_check *c = &r->checks[i * heads->n_heads + h];
            if (c->argmax < 0 || (r->first[i] && heads->head[h].layer < n_layers)) continue;
            const bool agrees = h && !r->first[i] && c[-1].argmax == c->argmax;
            const float features[5] = {c->entropy, logf(c->p1 > 1e-30f ? c->p1 : 1e-30f), c->margin,
                                       c->other, agrees};
            memcpy(f + n * 5, features, sizeof features);
            y[n++] = c->argmax == r->full[i];
        }
        xl_logistic_fit(f, y, NULL, n, 5, 1.0, w + h * 6);
    }
    free(f);
    free(y);
    return fine;
}

/* ---- Costs ---- */
#define BATCH_FILL 0.35 /* what a layer costs that a waiting position runs later in a batch */

void xl_level_costs(const exitlm_model *model, const exitlm_heads *heads, exitlm_kv_policy kv,
                    xl_path_data *data) {
    const double layer = (double)xl_layer_macs(model), token = (double)xl_token_macs(model);
    double checks = 0, reused = 0;
    for (uint32_t h = 0; h < heads->n_heads; h++) {
        const double own = (double)xl_head_macs(model, &heads->head[h]), at = heads->head[h].layer;
        checks += own;
        data->exit_cost[h] =
            (float)((layer * (at + xl_deferred_layers(model, heads, h, kv, BATCH_FILL)) + checks) /
                    token);
        /* the final head starts from its scores */
        if (heads->head[h].form == XL_FORM_VOCABULARY) reused = own;
    }
    data->full_cost = (float)((token + checks - reused) / token);
}

/* ---- Risk ---- */
double *xl_level_x(const xl_measure_result *r, size_t n_path) {
    double *x = malloc((n_path * r->n_items + 1) * sizeof *x);
    if (!x) return NULL;
    for (size_t j = 0; j < n_path; j++)
        for (size_t i = 0; i < r->n_items; i++)
            x[j * r->n_items + i] = xl_measure_x(xl_measure_at(r, i, j + 1));
    return x;
}

/* Coverage and agreement of setting j over the conversations. */
static void describe(const xl_measure_result *r, size_t j, exitlm_level *row) {
    const xl_measure_means means = xl_measure_means_of(r, j);
    for (int h = 0; h < EXITLM_MAX_HEADS; h++) row->coverage[h] = (float)means.coverage[h];
    row->agreement = (float)means.agreement;
    row->agreement_exited = (float)means.agreement_exited;
    row->conversations = (uint32_t)r->n_items;
    row->tokens = (uint32_t)(means.tokens < UINT32_MAX ? means.tokens : UINT32_MAX);
}

bool xl_level_of_risk(const xl_level_risk *risk, float accuracy, exitlm_level *row) {
    const size_t n = risk->result->n_items;
    const double alpha = 1 - (double)accuracy;
    int32_t j = n ? xl_fixed_sequence(risk->x, risk->path->n, n, alpha, risk->delta) : -1;
    *row = (exitlm_level){.strategy = EXITLM_STRATEGY_RISK,
                          .accuracy = accuracy,
                          .certified = j >= 0,
                          .delta = (float)risk->delta,
                          .kv = risk->kv};
    if (j < 0) {
        describe(risk->result, 0, row); /* no exits */
        row->bound = 1;
        return true;
    }
    memcpy(row->threshold, risk->path->threshold[j], sizeof row->threshold);
    describe(risk->result, (size_t)j + 1, row);
    row->bound = (float)xl_risk_upper(risk->x + (size_t)j * n, n, risk->delta);
    return true;
}

/* E[wrong] <= alpha E[exits], in shares of a conversation's tokens: Z = wrong - alpha C + alpha
 * lies in [0, 1], and E[Z] <= alpha says it. */
int32_t xl_level_of_exited(const xl_level_risk *risk, float accuracy) {
    const size_t n = risk->result->n_items, m = risk->path->n;
    const double alpha = 1 - (double)accuracy;
    double *z = malloc((m * n + 1) * sizeof *z);
    if (!z) return -2;
    for (size_t j = 0; j < m; j++)
        for (size_t i = 0; i < n; i++) {
            const xl_measure_sum *s = xl_measure_at(risk->result, i, j + 1);
            z[j * n + i] = xl_measure_wrong_exits(s) - alpha * xl_measure_exited(s) + alpha;
        }
    int32_t chosen = n ? xl_fixed_sequence(z, m, n, alpha, risk->delta) : -1;
    free(z);
    return chosen;
}

/* ---- The paper's strategies ---- */
static void describe_tokens(const xl_level_tokens *t, const float *threshold, exitlm_level *row) {
    double agreement = 0, exited = 0, weight = 0, exit_weight = 0, coverage[EXITLM_MAX_HEADS] = {0};
    for (size_t i = 0; i < t->n; i++) {
        const float *u = t->u + i * t->n_heads;
        uint32_t h = 0;
        while (h < t->n_heads && !(u[h] < threshold[h] && u[h] <= 1)) h++;
        const bool wrong = h < t->n_heads && t->wrong[i * t->n_heads + h];
        weight += t->weight[i];
        agreement += t->weight[i] * !wrong;
        if (h == t->n_heads) continue;
        coverage[h]++;
        exit_weight += t->weight[i];
        exited += t->weight[i] * !wrong;
    }
    for (uint32_t h = 0; h < t->n_heads; h++)
        row->coverage[h] = (float)(t->n ? coverage[h] / (double)t->n : 0);
    row->agreement = (float)(weight > 0 ? agreement / weight : 1);
    row->agreement_exited = (float)(exit_weight > 0 ? exited / exit_weight : 1);
    row->conversations = (uint32_t)t->n_conversations;
    row->tokens = (uint32_t)t->n;
}

bool xl_level_of_paper(const xl_level_tokens *t, exitlm_strategy strategy, float accuracy,
                       exitlm_level *row) {
    float *u = malloc((t->n + 1) * sizeof *u);
    uint8_t *ok = malloc(t->n + 1), *gone = calloc(t->n + 1, 1);
    bool fine = u && ok && gone;
    *row = (exitlm_level){.strategy = strategy,
                          .accuracy = accuracy,
                          .certified = true,
                          .bound = 1,
                          .kv = EXITLM_POLICY_EXACT};
    for (uint32_t h = 0; fine && h < t->n_heads; h++) {
        size_t n = 0;
        for (size_t i = 0; i < t->n; i++) {
            if (gone[i] || t->u[i * t->n_heads + h] > 1) continue;
            u[n] = t->u[i * t->n_heads + h];
            ok[n++] = !t->wrong[i * t->n_heads + h];
        }
        fine = xl_threshold_paper(strategy, u, ok, n, accuracy, &xl_libc_allocator,
                                  &row->threshold[h]);
        for (size_t i = 0; i < t->n; i++) gone[i] |= t->u[i * t->n_heads + h] < row->threshold[h];
    }
    if (fine) describe_tokens(t, row->threshold, row);
    free(u);
    free(ok);
    free(gone);
    return fine;
}
