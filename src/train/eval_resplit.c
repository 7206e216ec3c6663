/* Is the guarantee's promise kept when the conversations are split again and again? The
 * calibration's own path and results (its --report) and the test conversations under the same
 * path are pooled, and split at random into as many for calibration and for test. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/json.h"
#include "base/sort.h"
#include "eval.h"
#include "files.h"

#define MAX_REPORT_BYTES ((uint64_t)1 << 28)

typedef struct pool_x {
    xl_path path;
    exitlm_kv_policy kv;
    size_t n, n_calibration; /* conversations in all, from the report */
    double *x;               /* [path.n][n] */
} pool_x;

/* ---- The report ---- */
static bool read_setting(const xl_json *entry, uint32_t n_heads, xl_path *path, double *x,
                         size_t n) {
    const xl_json *threshold = xl_json_get(entry, "threshold"), *values = xl_json_get(entry, "x"),
                  *cost = xl_json_get(entry, "expected_work");
    uint32_t h = 0;
    size_t i = 0;
    if (!threshold || !values || !cost || path->n == XL_PATH_MAX) return false;
    for (const xl_json *t = threshold->first; t && h < n_heads; t = t->next)
        path->threshold[path->n][h++] = (float)t->number;
    for (const xl_json *v = values->first; v && i < n; v = v->next) x[i++] = v->number;
    path->cost[path->n++] = (float)cost->number;
    return h == n_heads && i == n;
}

static exitlm_kv_policy kv_of(const xl_json *name) {
#define X(id, text) text,
    static const char *const names[] = {EXITLM_KV_POLICY_LIST(X)};
#undef X
    if (!name || !name->text) return EXITLM_POLICY_EXACT;
    for (int k = 0; k < EXITLM_POLICY_COUNT; k++)
        if (strcmp(name->text, names[k]) == 0) return (exitlm_kv_policy)k;
    return EXITLM_POLICY_EXACT;
}

static exitlm_status read_report(const xl_eval_run *run, const char *file, pool_x *p,
                                 exitlm_error *error) {
    char *text, why[160] = "";
    size_t n_bytes;
    exitlm_status status = xl_file_read(file, MAX_REPORT_BYTES, &text, &n_bytes, error);
    if (status != EXITLM_OK) return status;
    xl_json *root = xl_json_parse(text, n_bytes, NULL, why, sizeof why);
    const xl_json *path = xl_json_get(root, "path");
    p->kv = kv_of(xl_json_get(root, "kv"));
    p->n_calibration = (size_t)xl_json_uint(root, "conversations", 0);
    p->n = p->n_calibration + run->data.n;
    bool fine = path && p->n_calibration > 0 && p->n_calibration < 1000000;
    p->x = fine ? calloc(XL_PATH_MAX * p->n, sizeof *p->x) : NULL;
    for (const xl_json *s = path ? path->first : NULL; s && fine && p->x; s = s->next)
        fine = read_setting(s, run->heads->n_heads, &p->path, p->x + p->path.n * p->n,
                            p->n_calibration);
    if (!fine)
        status = xl_fail(error, EXITLM_IO,
                         XL_FILE_NAME ": is not the report of this heads file's calibration%s%s",
                         file, why[0] ? ": " : "", why);
    else if (!p->x) status = xl_no_memory(error, "the re-splits");
    xl_json_free(root);
    free(text);
    return status;
}

static exitlm_status measure_test(xl_eval_run *run, pool_x *p, exitlm_error *error) {
    xl_measure_setting settings[XL_PATH_MAX + 1] = {{{0}}};
    xl_measure_result result = {0};
    for (size_t j = 0; j < p->path.n; j++)
        memcpy(settings[j + 1].threshold, p->path.threshold[j], sizeof settings[0].threshold);
    exitlm_status status =
        xl_eval_measure(run, settings, p->path.n + 1, p->kv, p->kv == EXITLM_POLICY_EXACT,
                        "re-splits ", &result, error);
    for (size_t j = 0; j < p->path.n && status == EXITLM_OK; j++)
        for (size_t i = 0; i < run->data.n; i++)
            p->x[j * p->n + p->n_calibration + i] = xl_measure_x(xl_measure_at(&result, i, j + 1));
    if (status == EXITLM_OK)
        status = xl_eval_take_rows(run, settings, p->path.n + 1, p->kv, &result, error);
    xl_measure_free(&result);
    return status;
}

/* ---- Splitting ---- */
/* One split: the chosen setting, or -1; *mean: its disagreement on the test part. */
static int32_t split_once(const pool_x *p, const uint32_t *order, double *x, double alpha,
                          double delta, double *mean) {
    const size_t m = p->path.n, n = p->n_calibration;
    for (size_t j = 0; j < m; j++)
        for (size_t i = 0; i < n; i++) x[j * n + i] = p->x[j * p->n + order[i]];
    int32_t chosen = xl_fixed_sequence(XL_BOUND_BETTING, x, m, n, alpha, delta);
    *mean = 0;
    if (chosen < 0) return chosen;
    for (size_t i = n; i < p->n; i++)
        *mean += p->x[(size_t)chosen * p->n + order[i]] / (double)(p->n - n);
    return chosen;
}

static exitlm_status split_all(xl_eval_run *run, const pool_x *p, exitlm_error *error) {
    static const float accuracies[] = {0.90f, 0.95f, 0.98f}, deltas[] = {0.05f, 0.10f};
    uint32_t *order = malloc(p->n * sizeof *order);
    double *x = malloc(p->path.n * p->n_calibration * sizeof *x);
    exitlm_status status = order && x ? EXITLM_OK : xl_no_memory(error, "the re-splits");
    for (int d = 0; d < 2 && status == EXITLM_OK; d++)
        for (int a = 0; a < 3; a++) {
            xl_eval_resplit *r = &run->resplits[run->n_resplits++];
            uint64_t state = 20240907;
            *r = (xl_eval_resplit){
                .accuracy = accuracies[a], .delta = deltas[d], .splits = run->options->resplits};
            for (size_t i = 0; i < p->n; i++) order[i] = (uint32_t)i;
            for (uint32_t s = 0; s < r->splits; s++) {
                double mean, alpha = 1 - (double)accuracies[a];
                xl_shuffle(order, p->n, &state);
                int32_t chosen = split_once(p, order, x, alpha, deltas[d], &mean);
                r->misses += mean > alpha;
                r->uncertified += chosen < 0;
                r->mean_work += (chosen < 0 ? 1 : p->path.cost[chosen]) / r->splits;
            }
        }
    free(order);
    free(x);
    return status;
}

exitlm_status xl_eval_measure_resplits(xl_eval_run *run, const char *file, exitlm_error *error) {
    pool_x p = {0};
    exitlm_status status = read_report(run, file, &p, error);
    if (status == EXITLM_OK) status = measure_test(run, &p, error);
    if (status == EXITLM_OK) status = split_all(run, &p, error);
    free(p.x);
    return status;
}
