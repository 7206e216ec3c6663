#include "calibration.h"

#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "reply/session.h"

#define MAX_HEADS_BYTES ((uint64_t)1 << 30)

/* Expected disagreement of the settings on the path, safest first, and the level that each may just
 * hold: what was expected and what is measured differ by a tenth. What is expected is measured with
 * exact K/V; with another policy the text departs further, even where little exits. */
typedef struct goal {
    float target, accuracy;
} goal;
static const goal exact_goals[] = {
    {0.003f, 0.99f},  {0.005f, 0.99f},  {0.0115f, 0.98f}, {0.0135f, 0.98f},
    {0.0155f, 0.98f}, {0.0455f, 0.95f}, {0.049f, 0.95f},  {0.052f, 0.95f},
    {0.098f, 0.90f},  {0.103f, 0.90f},  {0.108f, 0.90f},  {0.157f, 0.85f},
    {0.166f, 0.85f},  {0.214f, 0.80f},  {0.26f, 0.75f},   {0.33f, 0.70f}};
static const goal other_goals[] = {{0.002f, 0.99f}, {0.004f, 0.98f}, {0.0235f, 0.95f},
                                   {0.074f, 0.90f}, {0.125f, 0.85f}, {0.175f, 0.80f},
                                   {0.225f, 0.75f}, {0.28f, 0.70f}};
#define COUNT(array) (sizeof array / sizeof *array)

static size_t wanted_targets(const xl_calibration_options *o, float *targets) {
    const bool exact = o->kv == EXITLM_POLICY_EXACT;
    const goal *goals = exact ? exact_goals : other_goals;
    const size_t n_goals = exact ? COUNT(exact_goals) : COUNT(other_goals);
    size_t n = 0;
    for (size_t i = 0; i < n_goals; i++)
        if (xl_level_wanted(o->accuracy, o->n_accuracy, goals[i].accuracy))
            targets[n++] = goals[i].target;
    return n;
}

/* Another K/V policy's rows are added to a table whose metric they share. */
static bool adds(const xl_calibration *c) {
    return c->options->kv != EXITLM_POLICY_EXACT && c->heads->n_levels > 0;
}

exitlm_status xl_calibration_check(const xl_calibration *c, exitlm_error *error) {
    const xl_calibration_options *o = c->options;
    float targets[XL_PATH_MAX];
    if (wanted_targets(o, targets) == 0)
        return xl_fail(
            error, EXITLM_USAGE,
            "--accuracy: no settings are laid out for this level: see exitlm calibrate --help");
    if (o->kv == EXITLM_POLICY_EXACT) return EXITLM_OK;
    if (o->kv == EXITLM_POLICY_MAPS && !exitlm_heads_have_maps(c->heads))
        return xl_fail(error, EXITLM_USAGE,
                       "--kv maps: these heads have no maps: train them without --no-maps");
    if (o->strategy > EXITLM_STRATEGY_RISK)
        return xl_fail(error, EXITLM_USAGE,
                       "--kv %s: the paper's strategies know exact K/V alone: use --strategy risk",
                       xl_policy_names[o->kv]);
    if (adds(c) && o->metric >= 0 && o->metric != (int)c->heads->metric)
        return xl_fail(
            error, EXITLM_USAGE,
            "--metric: the heads file's table goes by %s, and rows for --kv %s are added to it",
            xl_metric_names[c->heads->metric], xl_policy_names[o->kv]);
    return EXITLM_OK;
}

/* ---- Data ---- */
static bool may_lay_path(const xl_dataset_item *item) {
    return item->split == XL_DATASET_ANY || item->split == XL_DATASET_TRAIN;
}

static bool only_training(const xl_dataset *set) {
    bool any = false;
    for (size_t i = 0; i < set->n; i++) {
        if (set->items[i].split == XL_DATASET_ANY) return false;
        any |= set->items[i].split == XL_DATASET_TRAIN;
    }
    return any;
}

/* Held-out lines of the training split lay out the path; without such lines, every sixth
 * conversation does, and then decides nothing. */
exitlm_status xl_calibration_split(xl_calibration *c, exitlm_error *error) {
    const bool held_out = only_training(&c->data);
    uint32_t index = 0;
    for (size_t i = 0; i < c->data.n; i++) {
        const xl_dataset_item *it = &c->data.items[i];
        if (!may_lay_path(it)) continue;
        const bool taken = held_out ? xl_dataset_held_out(c->options->seed, index) : index % 6 == 0;
        index++;
        if (!taken) continue;
        if (!xl_dataset_add(&c->path_data, it->kind, it->split, (const char *const *)it->roles,
                            (const char *const *)it->texts, it->n))
            return xl_no_memory(error, "the data");
    }
    xl_dataset_keep(&c->data, XL_DATASET_CALIBRATION);
    if (!held_out) xl_dataset_drop_every(&c->data, 6);
    size_t left_out = 0;
    const uint32_t context = xl_measure_context(c->model, c->options->context_tokens);
    exitlm_status status = xl_measure_leave_out(c->model, context, &c->path_data, &left_out, error);
    if (status == EXITLM_OK)
        status = xl_measure_leave_out(c->model, context, &c->data, &c->left_out, error);
    c->left_out += left_out;
    if (status != EXITLM_OK) return status;
    return xl_dataset_shuffle(&c->data) ? EXITLM_OK : xl_no_memory(error, "the data");
}

/* ---- Measuring ---- */
static exitlm_status measure(xl_calibration *c, const xl_dataset *data,
                             const xl_measure_setting *settings, size_t n, exitlm_kv_policy kv,
                             const char *label, xl_measure_result *result, exitlm_error *error) {
    const xl_calibration_options *o = c->options;
    bool complete;
    const xl_measure_plan plan = {.model = c->model,
                                  .heads = c->heads,
                                  .items = data->items,
                                  .n_items = data->n,
                                  .settings = settings,
                                  .n_settings = n,
                                  .record = kv == EXITLM_POLICY_EXACT,
                                  .reply_tokens = o->reply_tokens,
                                  .batch = o->batch,
                                  .context_tokens = xl_measure_context(c->model, o->context_tokens),
                                  .kv_type = o->kv_type,
                                  .kv = kv,
                                  .kernel = o->kernel,
                                  .label = label,
                                  .observer = c->observer};
    exitlm_status status = xl_measure_run(&plan, c->pool, result, &complete, error);
    return status == EXITLM_OK && !complete
               ? xl_fail(error, EXITLM_IO, "stopped; the heads file is as it was")
               : status;
}

/* Thresholds of the path by one metric. */
static exitlm_status lay_path(xl_calibration *c, const xl_measure_record *record,
                              exitlm_metric metric, xl_path *path, exitlm_error *error) {
    xl_level_tokens tokens;
    const exitlm_heads *heads = c->heads;
    float targets[XL_PATH_MAX];
    const size_t n = wanted_targets(c->options, targets);
    bool laid =
        xl_level_tokens_make(&tokens, heads, metric, heads->n_layers, record, c->path_data.n);
    xl_path_data data = {.n = tokens.n,
                         .n_heads = heads->n_heads,
                         .u = tokens.u,
                         .wrong = tokens.wrong,
                         .weight = tokens.weight};
    xl_level_costs(c->model, heads, c->options->kv, &data);
    if (laid) laid = xl_path_build(&data, targets, n, &xl_libc_allocator, path);
    xl_level_tokens_free(&tokens);
    return laid ? EXITLM_OK : xl_no_memory(error, "the path");
}

/* What the logistic metric weighs by: fitted, or what rows are added to. */
static exitlm_status fit_logistic(xl_calibration *c, const xl_measure_record *record,
                                  exitlm_error *error) {
    exitlm_heads *heads = c->heads;
    if (adds(c)) {
        for (uint32_t h = 0; h < heads->n_heads; h++)
            memcpy(c->logistic + 6 * h, heads->head[h].logistic, sizeof heads->head[h].logistic);
        return EXITLM_OK;
    }
    if (!xl_level_fit_logistic(heads, heads->n_layers, record, c->logistic))
        return xl_no_memory(error, "the metric");
    for (uint32_t h = 0; h < heads->n_heads; h++)
        memcpy(heads->head[h].logistic, c->logistic + 6 * h, sizeof heads->head[h].logistic);
    return EXITLM_OK;
}

/* The metric that saves most at 2 to 10 % disagreement. */
static exitlm_status try_metrics(xl_calibration *c, const xl_measure_record *record,
                                 exitlm_error *error) {
    const int wanted = adds(c) ? (int)c->heads->metric : c->options->metric;
    double best = 2;
    for (int m = 0; m < EXITLM_METRIC_COUNT; m++) {
        xl_path path;
        if (wanted >= 0 && wanted != m) continue;
        exitlm_status status = lay_path(c, record, (exitlm_metric)m, &path, error);
        if (status != EXITLM_OK) return status;
        double cost = 0;
        for (size_t k = 1; k < 4; k++) cost += path.cost[path.n * k / 4] / 3;
        if (cost >= best) continue;
        best = cost;
        c->metric = (exitlm_metric)m;
        c->path = path;
    }
    c->heads->metric = c->metric;
    return EXITLM_OK;
}

exitlm_status xl_calibration_choose_path(xl_calibration *c, exitlm_error *error) {
    xl_measure_result held_out = {0};
    const xl_measure_setting full = {{0}};
    exitlm_status status =
        measure(c, &c->path_data, &full, 1, EXITLM_POLICY_EXACT, "path      ", &held_out, error);
    if (status == EXITLM_OK) status = fit_logistic(c, &held_out.record, error);
    if (status == EXITLM_OK) status = try_metrics(c, &held_out.record, error);
    xl_measure_free(&held_out);
    return status;
}

exitlm_status xl_calibration_measure(xl_calibration *c, exitlm_error *error) {
    xl_measure_setting settings[XL_PATH_MAX + 1] = {{{0}}};
    for (size_t j = 0; j < c->path.n; j++)
        memcpy(settings[j + 1].threshold, c->path.threshold[j], sizeof settings[0].threshold);
    return measure(c, &c->data, settings, c->path.n + 1, c->options->kv, "calibrate ", &c->result,
                   error);
}

/* ---- Tables ---- */
/* What the file says already, but for rows that are made anew. */
static exitlm_status keep_rows(xl_calibration *c, exitlm_error *error) {
    const exitlm_heads *heads = c->heads;
    c->levels = calloc(XL_LEVELS * EXITLM_STRATEGY_COUNT + heads->n_levels, sizeof *c->levels);
    if (!c->levels) return xl_no_memory(error, "the tables");
    if (c->options->kv != EXITLM_POLICY_EXACT) {
        for (size_t i = 0; i < heads->n_levels; i++)
            if (heads->levels[i].kv != c->options->kv) c->levels[c->n_levels++] = heads->levels[i];
    }
    c->n_kept = c->n_levels;
    return EXITLM_OK;
}

static exitlm_status make_risk_rows(xl_calibration *c, exitlm_error *error) {
    const xl_calibration_options *o = c->options;
    xl_level_risk risk = {&c->result, &c->path, o->delta, o->kv, xl_level_x(&c->result, c->path.n)};
    if (!risk.x) return xl_no_memory(error, "the tables");
    for (int i = 0; i < XL_LEVELS; i++) {
        exitlm_level *row = &c->levels[c->n_levels];
        xl_level_of_risk(&risk, xl_levels[i], row);
        /* What no setting was laid out for was not tried. */
        c->n_levels += row->certified || xl_level_wanted(o->accuracy, o->n_accuracy, xl_levels[i]);
        c->exited[i] = xl_level_of_exited(&risk, xl_levels[i]);
    }
    free(risk.x);
    return EXITLM_OK;
}

static exitlm_status make_paper_rows(xl_calibration *c, exitlm_error *error) {
    xl_level_tokens tokens;
    const exitlm_heads *heads = c->heads;
    bool made = xl_level_tokens_make(&tokens, heads, c->metric, heads->n_layers, &c->result.record,
                                     c->data.n);
    for (int s = EXITLM_STRATEGY_MAX_COVERAGE; s < EXITLM_STRATEGY_COUNT && made; s++) {
        if (c->options->strategy >= 0 && c->options->strategy != s) continue;
        for (int i = 0; i < XL_LEVELS && made; i++)
            made = xl_level_of_paper(&tokens, (exitlm_strategy)s, xl_levels[i],
                                     &c->levels[c->n_levels++]);
    }
    xl_level_tokens_free(&tokens);
    return made ? EXITLM_OK : xl_no_memory(error, "the tables");
}

exitlm_status xl_calibration_make_levels(xl_calibration *c, exitlm_error *error) {
    const int strategy = c->options->strategy;
    exitlm_status status = keep_rows(c, error);
    if (status == EXITLM_OK && (strategy < 0 || strategy == EXITLM_STRATEGY_RISK))
        status = make_risk_rows(c, error);
    if (status == EXITLM_OK && c->options->kv == EXITLM_POLICY_EXACT &&
        strategy != EXITLM_STRATEGY_RISK)
        status = make_paper_rows(c, error);
    return status;
}

/* ---- The file ---- */
/* The heads' own account of their data, with these conversations in the place of earlier ones. */
static char *describe_data(const xl_calibration *c) {
    exitlm_heads_info info;
    exitlm_heads_describe(c->heads, &info);
    const char *old = info.data ? info.data : "", *cut = strstr(old, "; calibrated on ");
    const size_t kept = cut ? (size_t)(cut - old) : strlen(old);
    return xl_format(
        "%.*s; calibrated on %zu conversations whose answers (at most %u tokens) the engine wrote",
        (int)kept, old, c->data.n, c->options->reply_tokens);
}

exitlm_status xl_calibration_write(const xl_calibration *c, const char *path, exitlm_error *error) {
    char *bytes;
    size_t n_bytes;
    exitlm_status status = xl_file_read(path, MAX_HEADS_BYTES, &bytes, &n_bytes, error);
    if (status != EXITLM_OK) return status;
    char *data = describe_data(c);
    xl_buffer out;
    xl_buffer_init(&out, &xl_libc_allocator);
    if (!data) {
        status = xl_no_memory(error, "the heads");
    } else {
        const xl_heads_calibration calibration = {.metric = c->metric,
                                                  .kv = adds(c) ? c->heads->kv : c->options->kv,
                                                  .kv_type = c->options->kv_type,
                                                  .logistic = c->logistic,
                                                  .data = data,
                                                  .n_levels = c->n_levels,
                                                  .levels = c->levels};
        status = xl_about(path, xl_heads_rewrite(bytes, n_bytes, &calibration, &out, error), error);
    }
    if (status == EXITLM_OK) status = xl_file_write(path, out.data, out.n_bytes, error);
    xl_buffer_free(&out);
    free(data);
    free(bytes);
    return status;
}

exitlm_status xl_heads_set_default(const char *path, float accuracy, exitlm_error *error) {
    char *bytes;
    size_t n_bytes;
    xl_buffer out;
    exitlm_status status = xl_file_read(path, MAX_HEADS_BYTES, &bytes, &n_bytes, error);
    if (status != EXITLM_OK) return status;
    xl_buffer_init(&out, &xl_libc_allocator);
    status = xl_about(path, xl_heads_with_default(bytes, n_bytes, accuracy, &out, error), error);
    if (status == EXITLM_OK) status = xl_file_write(path, out.data, out.n_bytes, error);
    xl_buffer_free(&out);
    free(bytes);
    return status;
}

void xl_calibration_free(xl_calibration *c) {
    xl_measure_free(&c->result);
    xl_dataset_free(&c->data);
    xl_dataset_free(&c->path_data);
    free(c->levels);
}
