/* The table's rows, measured again on other text. See eval.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval.h"
#include "reply/session.h"

/* `kind`: a row for replies like those to be measured. */
static exitlm_status measure(const xl_eval_run *run, const xl_measure_setting *settings, size_t n,
                             const exitlm_level *kind, bool record, const char *label,
                             xl_measure_result *result, exitlm_error *error) {
    const xl_eval_options *o = run->options;
    bool complete;
    const xl_measure_plan plan = {
        .model = run->model,
        .heads = run->heads,
        .items = run->data.items,
        .n_items = run->data.n,
        .settings = settings,
        .n_settings = n,
        .record = record,
        .reply_tokens = o->reply_tokens ? o->reply_tokens : kind->max_tokens,
        .batch = o->batch,
        .context_tokens = xl_measure_context(run->model, o->context_tokens),
        .kv_type = kind->kv_type,
        .temperature = kind->temperature,
        .seed = o->seed,
        .kv = kind->kv,
        .kernel = o->kernel,
        .label = label,
        .observer = run->observer};
    exitlm_status status = xl_measure_run(&plan, run->pool, result, &complete, error);
    return status == EXITLM_OK && !complete ? xl_fail(error, EXITLM_IO, "stopped") : status;
}

static bool wanted(const xl_eval_options *o, const exitlm_level *level) {
    if (o->strategy >= 0 && (int)level->strategy != o->strategy) return false;
    if (o->kv && level->kv != o->kv) return false;
    return xl_level_wanted(o->accuracy, o->n_accuracy, level->accuracy);
}

exitlm_status xl_eval_list_rows(xl_eval_run *run, exitlm_error *error) {
    const size_t n = run->heads->n_levels;
    run->rows = calloc(n + 1, sizeof *run->rows);
    if (!run->rows) return xl_no_memory(error, "the table");
    for (size_t i = 0; i < n; i++) {
        const exitlm_level *level = &run->heads->levels[i];
        if (wanted(run->options, level))
            run->rows[run->n_rows++] = (xl_eval_row){.level = *level, .speedup = -1};
    }
    if (run->n_rows) return EXITLM_OK;
    return xl_fail(
        error, EXITLM_USAGE,
        "eval: no level of the heads file is wanted: see --strategy, --accuracy and --kv");
}

void xl_eval_free(xl_eval_run *run) {
    xl_measure_result record = {.record = run->record};
    xl_measure_free(&record);
    free(run->rows);
    xl_dataset_free(&run->data);
}

/* ---- One row from its setting ---- */
static exitlm_status fill_row(xl_eval_row *row, const xl_measure_result *r, size_t setting,
                              exitlm_error *error) {
    double *x = malloc((r->n_items + 1) * sizeof *x);
    if (!x) return xl_no_memory(error, "the table");
    for (size_t i = 0; i < r->n_items; i++) x[i] = xl_measure_x(xl_measure_at(r, i, setting));
    row->means = xl_measure_means_of(r, setting);
    row->holds = !xl_mean_exceeds(x, r->n_items, 1 - (double)row->level.accuracy);
    free(x);
    return EXITLM_OK;
}

/* ---- The heads themselves ---- */
static void measure_heads(xl_eval_run *run) {
    const xl_measure_record *r = &run->record;
    const uint32_t n_heads = run->heads->n_heads;
    double conversations = 0;
    for (size_t i = 0, end; i < r->n; i = end) {
        double agreed[EXITLM_MAX_HEADS] = {0};
        for (end = i; end < r->n && r->conversation[end] == r->conversation[i]; end++)
            for (uint32_t h = 0; h < n_heads; h++)
                agreed[h] += r->checks[end * n_heads + h].argmax == r->full[end];
        for (uint32_t h = 0; h < n_heads; h++)
            run->head_agreement[h] += agreed[h] / (double)(end - i);
        conversations++;
    }
    if (conversations == 0) return;
    for (uint32_t h = 0; h < n_heads; h++) run->head_agreement[h] /= conversations;
}

static xl_measure_setting setting_of(const exitlm_level *level) {
    xl_measure_setting setting = {0};
    if (!level->certified) return setting;
    memcpy(setting.threshold, level->threshold, sizeof setting.threshold);
    setting.first = level->first_threshold;
    return setting;
}

/* Its index, or n. */
static size_t find_setting(const xl_measure_setting *settings, size_t n,
                           const xl_measure_setting *wanted) {
    size_t s = 0;
    while (s < n && memcmp(&settings[s], wanted, sizeof *wanted) != 0) s++;
    return s;
}

static exitlm_status take_full(xl_eval_run *run, xl_measure_result *result, exitlm_error *error) {
    xl_eval_row full = {.level = {.accuracy = 1}};
    exitlm_status status = fill_row(&full, result, 0, error);
    run->full_perplexity = full.means.perplexity;
    run->full_repetition = full.means.repetition;
    run->record = result->record;
    result->record = (xl_measure_record){0};
    run->tokens = run->record.n;
    measure_heads(run);
    return status;
}

static bool same_kind(const exitlm_level *a, const exitlm_level *b) {
    return a->kv == b->kv && a->kv_type == b->kv_type && a->temperature == b->temperature &&
           a->max_tokens == b->max_tokens;
}

static exitlm_status take_rows(xl_eval_run *run, const xl_measure_setting *settings, size_t n,
                               const exitlm_level *kind, xl_measure_result *result,
                               exitlm_error *error) {
    exitlm_status status = EXITLM_OK;
    for (size_t i = 0; i < run->n_rows && status == EXITLM_OK; i++) {
        xl_eval_row *row = &run->rows[i];
        const xl_measure_setting wanted_setting = setting_of(&row->level);
        const size_t s = find_setting(settings, n, &wanted_setting);
        if (row->measured || !same_kind(&row->level, kind) || s == n) continue;
        status = fill_row(row, result, s, error);
        row->measured = true;
    }
    return status;
}

/* Rows of a kind; those with the same thresholds share a setting. *more: some wait for another
 * round. `full`: the full model's text is recorded as well. */
static exitlm_status run_round(xl_eval_run *run, const exitlm_level *kind, bool full, bool *more,
                               exitlm_error *error) {
    /* [0]: the full model, which is only run with exact K/V */
    xl_measure_setting settings[XL_MEASURE_MAX] = {0};
    size_t n = 1;
    *more = false;
    for (size_t i = 0; i < run->n_rows; i++) {
        const xl_measure_setting wanted_setting = setting_of(&run->rows[i].level);
        if (!same_kind(&run->rows[i].level, kind) || run->rows[i].measured ||
            find_setting(settings, n, &wanted_setting) < n)
            continue;
        if (n < XL_MEASURE_MAX) settings[n++] = wanted_setting;
        else *more = true;
    }
    xl_measure_result result = {0};
    exitlm_status status =
        n > 1 || full
            ? measure(run, settings, n, kind, full,
                      kind->kv == EXITLM_POLICY_EXACT ? "evaluate  " : "K/V policy", &result, error)
            : EXITLM_OK;
    if (status == EXITLM_OK && full) status = take_full(run, &result, error);
    if (status == EXITLM_OK && result.n_settings)
        status = take_rows(run, settings, n, kind, &result, error);
    xl_measure_free(&result);
    return status;
}

exitlm_status xl_eval_measure_rows(xl_eval_run *run, exitlm_error *error) {
    const exitlm_level plain = {.kv = EXITLM_POLICY_EXACT,
                                .kv_type = run->heads->kv_type,
                                .max_tokens = XL_CALIBRATED_TOKENS};
    bool more;
    exitlm_status status = run_round(run, &plain, true, &more, error);
    for (size_t i = 0; i < run->n_rows && status == EXITLM_OK; i++) {
        const exitlm_level kind = run->rows[i].level;
        more = !run->rows[i].measured;
        while (status == EXITLM_OK && more) status = run_round(run, &kind, false, &more, error);
    }
    return status;
}
