/* The table's rows, measured again on other text. See eval.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval.h"
#include "reply/session.h"

int eval_measure(const eval_run *run, const measure_setting *settings, size_t n, exitlm_kv_policy kv, bool record, const char *label, measure_result *result) {
    const eval_options *o = run->options;
    const uint32_t most = run->engine.info.context_tokens ? run->engine.info.context_tokens : 2048;
    bool complete;
    measure_plan plan = {.model = run->engine.model, .heads = run->engine.heads, .items = run->data.items, .n_items = run->data.n, .settings = settings,
                         .n_settings = n, .record = record, .reply_tokens = o->reply_tokens, .batch = o->batch,
                         .context_tokens = o->engine.ctx ? o->engine.ctx : most < 1024 ? most : 1024, .kv_type = (exitlm_kv_type)o->engine.kv_type, .kv = kv,
                         .kernel = o->engine.kernel, .label = o->quiet ? NULL : label};
    int status = measure_run(&plan, run->pool, result, &complete);
    return status == CLI_OK && !complete ? cli_fail("stopped") : status;
}

static bool wanted(const eval_options *o, const exitlm_level *level) {
    if (o->strategy >= 0 && (int)level->strategy != o->strategy) return false;
    if (o->kv >= 0 && (int)level->kv != o->kv) return false;
    return cli_numbers_want(&o->accuracy, level->accuracy);
}

int eval_list_rows(eval_run *run) {
    const size_t n = exitlm_heads_levels(run->engine.heads);
    exitlm_error error;
    run->rows = calloc(n + 1, sizeof *run->rows);
    if (!run->rows) return cli_no_memory("the table");
    for (size_t i = 0; i < n; i++) {
        exitlm_level level;
        if (exitlm_heads_level(run->engine.heads, i, &level, &error) != EXITLM_OK) return cli_report(&error, run->engine.heads_file);
        if (wanted(run->options, &level)) run->rows[run->n_rows++] = (eval_row){.level = level, .speedup = -1};
    }
    if (n == 0) return cli_fail("%s: is not calibrated: run exitlm calibrate first", run->engine.heads_file);
    return run->n_rows ? CLI_OK : cli_usage("eval: no level of the heads file is wanted: see --strategy, --accuracy and --kv");
}

/* ---- One row from its setting ---- */
typedef struct totals {
    double agreement, exited, depth, work, common, loss, repeats, tokens, exits[EXITLM_MAX_HEADS];
    size_t n, n_exited;
} totals;

static void add(totals *t, const measure_sum *s) {
    const double x = measure_wrong_exits(s), c = measure_exited(s);
    t->n++;
    t->agreement += 1 - measure_x(s);
    if (c > 0) t->exited += 1 - x / c, t->n_exited++;
    t->depth += s->tokens ? s->depth / s->tokens : 1;
    t->work += s->tokens ? s->work / s->tokens : 1;
    t->common += s->common;
    t->loss += s->loss;
    t->repeats += s->repeats;
    t->tokens += s->tokens;
    for (int h = 0; h < EXITLM_MAX_HEADS; h++) t->exits[h] += s->exits[h];
}

static int fill_row(eval_row *row, const measure_result *r, size_t setting) {
    totals t = {0};
    double *x = malloc((r->n_items + 1) * sizeof *x);
    if (!x) return cli_no_memory("the table");
    for (size_t i = 0; i < r->n_items; i++) {
        add(&t, measure_at(r, i, setting));
        x[i] = measure_x(measure_at(r, i, setting));
    }
    const double n = t.n ? (double)t.n : 1, tokens = t.tokens > 0 ? t.tokens : 1;
    for (int h = 0; h < EXITLM_MAX_HEADS; h++) row->coverage[h] = t.exits[h] / tokens;
    row->agreement = t.agreement / n;
    row->agreement_exited = t.n_exited ? t.exited / (double)t.n_exited : 1;
    row->mean_depth = t.depth / n;
    row->mean_work = t.work / n;
    row->common_prefix = t.common / n;
    row->perplexity = exp(t.loss / tokens);
    row->repetition = t.repeats / tokens;
    row->holds = !xl_mean_exceeds(x, r->n_items, 1 - (double)row->level.accuracy);
    free(x);
    return CLI_OK;
}

/* ---- The heads themselves ---- */
static void measure_heads(eval_run *run) {
    const measure_record *r = &run->record;
    const uint32_t n_heads = run->engine.heads->n_heads;
    double conversations = 0;
    for (size_t i = 0, end; i < r->n; i = end) {
        double agreed[EXITLM_MAX_HEADS] = {0};
        for (end = i; end < r->n && r->conversation[end] == r->conversation[i]; end++)
            for (uint32_t h = 0; h < n_heads; h++) agreed[h] += r->checks[end * n_heads + h].argmax == r->full[end];
        for (uint32_t h = 0; h < n_heads; h++) run->head_agreement[h] += agreed[h] / (double)(end - i);
        conversations++;
    }
    for (uint32_t h = 0; h < n_heads && conversations > 0; h++) run->head_agreement[h] /= conversations;
}

static measure_setting setting_of(const exitlm_level *level) {
    measure_setting setting = {{0}};
    if (level->certified) memcpy(setting.threshold, level->threshold, sizeof setting.threshold);
    return setting;
}

/* Its index, or n. */
static size_t find_setting(const measure_setting *settings, size_t n, const measure_setting *wanted) {
    size_t s = 0;
    while (s < n && memcmp(&settings[s], wanted, sizeof *wanted) != 0) s++;
    return s;
}

static int take_full(eval_run *run, measure_result *result) {
    eval_row full = {.level = {.accuracy = 1}};
    int status = fill_row(&full, result, 0);
    run->full_perplexity = full.perplexity;
    run->full_repetition = full.repetition;
    run->record = result->record;
    result->record = (measure_record){0};
    run->tokens = run->record.n;
    measure_heads(run);
    return status;
}

int eval_take_rows(eval_run *run, const measure_setting *settings, size_t n, exitlm_kv_policy kv, measure_result *result) {
    int status = kv == EXITLM_POLICY_EXACT && !run->record.n ? take_full(run, result) : CLI_OK;
    for (size_t i = 0; i < run->n_rows && status == CLI_OK; i++) {
        eval_row *row = &run->rows[i];
        const measure_setting wanted_setting = setting_of(&row->level);
        const size_t s = find_setting(settings, n, &wanted_setting);
        if (row->measured || row->level.kv != kv || s == n) continue;
        status = fill_row(row, result, s);
        row->measured = true;
    }
    return status;
}

/* Rows with the same thresholds share a setting; settings are run in rounds of what measure can hold. *more: there is another round to run. */
static int run_round(eval_run *run, exitlm_kv_policy kv, bool *more) {
    measure_setting settings[MEASURE_MAX] = {{{0}}}; /* [0]: the full model, which is only run with exact K/V */
    const bool record = kv == EXITLM_POLICY_EXACT && !run->record.n;
    size_t n = 1;
    *more = false;
    for (size_t i = 0; i < run->n_rows; i++) {
        const measure_setting wanted_setting = setting_of(&run->rows[i].level);
        if (run->rows[i].level.kv != kv || run->rows[i].measured || find_setting(settings, n, &wanted_setting) < n) continue;
        if (n < MEASURE_MAX) settings[n++] = wanted_setting;
        else *more = true;
    }
    measure_result result = {0};
    int status = n > 1 || record ? eval_measure(run, settings, n, kv, record, kv == EXITLM_POLICY_EXACT ? "evaluate  " : "K/V policy", &result) : CLI_OK;
    if (status == CLI_OK && result.n_settings) status = eval_take_rows(run, settings, n, kv, &result);
    measure_free(&result);
    return status;
}

int eval_measure_rows(eval_run *run) {
    int status = CLI_OK;
    for (int kv = 0; kv < EXITLM_POLICY_COUNT && status == CLI_OK; kv++) {
        bool more = true;
        while (status == CLI_OK && more) status = run_round(run, (exitlm_kv_policy)kv, &more);
    }
    return status;
}
