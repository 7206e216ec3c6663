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
    return (xl_check){.id = c->id,
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
        t->wrong[i * t->n_heads + h] = check.id != r->full[i];
        t->regret[i * t->n_heads + h] = r->checks[i * t->n_heads + h].regret;
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
    t->regret = malloc((r->n * heads->n_heads + 1) * sizeof *t->regret);
    t->weight = malloc((r->n + 1) * sizeof *t->weight);
    if (!t->u || !t->wrong || !t->regret || !t->weight) return false;
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
    free(t->regret);
    free(t->weight);
    *t = (xl_level_tokens){0};
}

bool xl_level_fit(const exitlm_heads *heads, exitlm_metric metric, uint32_t n_layers,
                  const xl_measure_record *r, float *w) {
    /* a token stands for "no regret" and for "regret", by weight */
    float *f = malloc((r->n * 2 * XL_FEATURES + 1) * sizeof *f),
          *weight = malloc((r->n * 2 + 1) * sizeof *weight);
    uint8_t *y = malloc(r->n * 2 + 1);
    bool fine = f && y && weight;
    for (uint32_t h = 0; fine && h < heads->n_heads; h++) {
        size_t n = 0;
        for (size_t i = 0; i < r->n; i++) {
            const xl_measure_check *c = &r->checks[i * heads->n_heads + h];
            if (c->argmax < 0 || (r->first[i] && heads->head[h].layer < n_layers)) continue;
            const xl_check check = check_of(c);
            const bool agrees = h && !r->first[i] && c[-1].argmax == c->argmax;
            for (int bad = 0; bad < (c->regret > 0 ? 2 : 1); bad++) {
                xl_metric_features(metric, &check, agrees, f + n * XL_FEATURES);
                weight[n] = bad ? c->regret : 1 - c->regret;
                y[n++] = !bad;
            }
        }
        xl_logistic_fit(f, y, weight, n, XL_FEATURES, 1.0, w + h * (XL_FEATURES + 1));
    }
    free(f);
    free(weight);
    free(y);
    return fine;
}

/* ---- Costs ---- */
xl_path_data xl_level_path_data(const xl_level_tokens *t, const exitlm_model *model,
                                const exitlm_heads *heads, exitlm_kv_policy kv) {
    xl_path_data data = {.n = t->n,
                         .n_heads = t->n_heads,
                         .u = t->u,
                         .wrong = t->wrong,
                         .regret = t->regret,
                         .weight = t->weight};
    const double layer = (double)xl_layer_macs(model), token = (double)xl_token_macs(model);
    for (uint32_t h = 0; h < heads->n_heads; h++) {
        const double own = (double)xl_head_macs(heads, &heads->head[h]), at = heads->head[h].layer;
        data.exit_cost[h] =
            (float)((layer * (at + xl_deferred_layers(model, heads, h, kv, XL_BATCH_FILL)) + own) /
                    token);
        /* what follows goes on from the scores of a vocabulary exit */
        data.fail_cost[h] = (float)(heads->head[h].form == XL_FORM_VOCABULARY ? 0 : own / token);
    }
    return data;
}

/* ---- Risk ---- */
typedef enum loss_kind { LOSS_WRONG, LOSS_REGRET, LOSS_EXITED, LOSS_WINDOW } loss_kind;

/* One setting's X, the same of LOSS_WINDOW + w in window w by the conversations that reach it, the
 * mean regret by conversation, or, for what exits alone, wrong - alpha C +
 * alpha, whose mean is at most alpha where E[wrong] <= alpha E[exits] in shares of a
 * conversation's tokens. x is fresh memory; NULL: none. */
static xl_losses sample_of(const xl_measure_result *r, size_t setting, uint32_t loss,
                           double alpha) {
    xl_losses sample = {.x = malloc((r->measured[setting] + 1) * sizeof *sample.x)};
    for (size_t i = 0; sample.x && i < r->measured[setting]; i++) {
        const xl_measure_sum *s = xl_measure_at(r, i, setting);
        const double x = loss == LOSS_WRONG    ? xl_measure_x(s)
                         : loss == LOSS_REGRET ? xl_measure_mean_regret(s)
                         : loss == LOSS_EXITED
                             ? xl_measure_wrong_exits(s) - alpha * xl_measure_exited(s) + alpha
                             : xl_measure_x_in(s, loss - LOSS_WINDOW);
        if (loss >= LOSS_WINDOW && x < 0) continue;
        sample.x[sample.n++] = x;
    }
    return sample;
}

/* Coverage, agreement and regret of setting j over the conversations. */
static bool describe(const xl_level_risk *risk, size_t j, exitlm_level *row) {
    const xl_measure_result *r = risk->result;
    const xl_measure_means means = xl_measure_means_of(r, j);
    for (int h = 0; h < EXITLM_MAX_HEADS; h++) row->coverage[h] = (float)means.coverage[h];
    row->agreement = (float)means.agreement;
    row->agreement_exited = (float)means.agreement_exited;
    row->regret = (float)means.regret;
    row->unwanted = (float)means.unwanted;
    row->conversations = (uint32_t)r->measured[j];
    row->tokens = (uint32_t)(means.tokens < UINT32_MAX ? means.tokens : UINT32_MAX);
    row->bound = row->regret_bound = 1;
    if (j == 0) return true; /* no exits */
    const xl_losses wrong = sample_of(r, j, LOSS_WRONG, 0),
                    regret = sample_of(r, j, LOSS_REGRET, 0);
    const bool fine = wrong.x && regret.x;
    if (fine) {
        row->bound = (float)xl_risk_upper(wrong.x, wrong.n, r->n_items, risk->delta);
        row->regret_bound = (float)xl_risk_upper(regret.x, regret.n, r->n_items, risk->delta);
    }
    free(wrong.x);
    free(regret.x);
    return fine;
}

bool xl_level_undecided(const xl_level_risk *risk, size_t j) {
    const double alpha = 1 - (double)xl_levels[risk->path->level[j]];
    bool undecided = false, lost = false;
    for (uint32_t w = 0; w < xl_measure_windows(risk->use.max_tokens) && !lost; w++) {
        const xl_losses s = sample_of(risk->result, j + 1, LOSS_WINDOW + w, alpha);
        lost = !s.x || xl_mean_exceeds(s.x, s.n, alpha);
        undecided |= !lost && (s.n == 0 || xl_risk_p(s.x, s.n, risk->result->n_items, alpha,
                                                     risk->delta) > risk->delta);
        free(s.x);
    }
    return undecided;
}

/* The level's own settings, [first, end) of the path, each tested on `n_losses` losses one after the
 * other, from `loss` on. *passed: so many of all these in a row. */
static bool test_level(const xl_level_risk *risk, size_t first, size_t end, uint32_t loss,
                       uint32_t n_losses, double alpha, size_t *passed) {
    xl_losses samples[XL_LEVEL_SETTINGS * XL_MEASURE_WINDOWS] = {{0}};
    const size_t n = (end - first) * n_losses;
    bool fine = true;
    for (size_t i = 0; i < n; i++) {
        samples[i] = sample_of(risk->result, first + i / n_losses + 1,
                               loss + (uint32_t)(i % n_losses), alpha);
        fine &= samples[i].x != NULL;
    }
    *passed =
        fine
            ? (size_t)(xl_fixed_sequence(samples, n, risk->result->n_items, alpha, risk->delta) + 1)
            : 0;
    for (size_t i = 0; i < n; i++) free(samples[i].x);
    return fine;
}

bool xl_level_of_risk(const xl_level_risk *risk, int level, exitlm_level *row, int32_t *exited) {
    const xl_path *path = risk->path;
    const double alpha = 1 - (double)xl_levels[level];
    const uint32_t windows = xl_measure_windows(risk->use.max_tokens);
    size_t first = 0, end, passed, alone;
    while (first < path->n && path->level[first] != level) first++;
    for (end = first; end < path->n && path->level[end] == level;) end++;
    if (!test_level(risk, first, end, LOSS_WINDOW, windows, alpha, &passed) ||
        !test_level(risk, first, end, LOSS_EXITED, 1, alpha, &alone))
        return false;
    *exited = alone ? (int32_t)(first + alone - 1) : -1;
    const bool whole = passed >= windows, certified = whole || passed > 1;
    const size_t j = whole ? first + passed / windows - 1 : first;
    *row = (exitlm_level){.strategy = EXITLM_STRATEGY_RISK,
                          .accuracy = xl_levels[level],
                          .certified = certified,
                          .delta = (float)risk->delta,
                          .kv = risk->kv,
                          .kv_type = risk->use.kv_type,
                          .temperature = risk->use.temperature,
                          .max_tokens = whole || !certified ? risk->use.max_tokens
                                                            : (uint32_t)passed * XL_MEASURE_WINDOW};
    if (certified) {
        memcpy(row->threshold, path->setting[j].threshold, sizeof row->threshold);
        row->first_threshold = path->setting[j].first;
    }
    return describe(risk, certified ? j + 1 : 0, row);
}

/* ---- The paper's strategies ---- */
static void describe_tokens(const xl_level_tokens *t, const float *threshold, exitlm_level *row) {
    double agreement = 0, exited = 0, weight = 0, exit_weight = 0, regret = 0, unwanted = 0,
           coverage[EXITLM_MAX_HEADS] = {0};
    for (size_t i = 0; i < t->n; i++) {
        const float *u = t->u + i * t->n_heads;
        uint32_t h = 0;
        while (h < t->n_heads && !(u[h] < threshold[h] && u[h] <= 1)) h++;
        const bool wrong = h < t->n_heads && t->wrong[i * t->n_heads + h];
        weight += t->weight[i];
        agreement += t->weight[i] * !wrong;
        if (h == t->n_heads) continue;
        coverage[h]++;
        regret += (double)t->weight[i] * t->regret[i * t->n_heads + h];
        unwanted += t->regret[i * t->n_heads + h] > 0 ? t->weight[i] : 0;
        exit_weight += t->weight[i];
        exited += t->weight[i] * !wrong;
    }
    for (uint32_t h = 0; h < t->n_heads; h++)
        row->coverage[h] = (float)(t->n ? coverage[h] / (double)t->n : 0);
    row->agreement = (float)(weight > 0 ? agreement / weight : 1);
    row->agreement_exited = (float)(exit_weight > 0 ? exited / exit_weight : 1);
    row->regret = (float)(weight > 0 ? regret / weight : 0);
    row->unwanted = (float)(weight > 0 ? unwanted / weight : 0);
    row->conversations = (uint32_t)t->n_conversations;
    row->tokens = (uint32_t)t->n;
}

bool xl_level_of_paper(const xl_level_tokens *t, exitlm_strategy strategy, float accuracy,
                       const xl_use *use, exitlm_level *row) {
    float *u = malloc((t->n + 1) * sizeof *u);
    uint8_t *ok = malloc(t->n + 1), *gone = calloc(t->n + 1, 1);
    bool fine = u && ok && gone;
    *row = (exitlm_level){.strategy = strategy,
                          .accuracy = accuracy,
                          .certified = true,
                          .bound = 1,
                          .regret_bound = 1,
                          .kv = EXITLM_POLICY_EXACT,
                          .kv_type = use->kv_type,
                          .max_tokens = use->max_tokens};
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
