#include "calibration.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "reply/session.h"

#define MAX_HEADS_BYTES ((uint64_t)1 << 30)

static bool wanted_level(const xl_calibration_options *o, int level) {
    return xl_level_wanted(o->accuracy, o->n_accuracy, xl_levels[level]);
}

static bool wants_level(const xl_calibration_options *o) {
    bool any = false;
    for (int i = 0; i < XL_LEVELS; i++) any |= wanted_level(o, i);
    return any;
}

static bool is_plain(const xl_calibration_options *o) {
    return o->kv == EXITLM_POLICY_EXACT && o->use.kv_type == EXITLM_KV_F32 &&
           o->use.temperature == 0 && o->use.max_tokens == XL_CALIBRATED_TOKENS;
}

bool xl_calibration_adds(const xl_calibration *c) {
    return (!is_plain(c->options) || c->options->keep_settings) && c->heads->n_levels > 0;
}

/* Would this row be made anew? Those of replies longer than one window are one kind: each holds as
 * far as it could be shown. */
static bool is_like(const exitlm_level *level, const xl_calibration_options *o) {
    return level->strategy == EXITLM_STRATEGY_RISK && level->kv == o->kv &&
           level->kv_type == o->use.kv_type &&
           fabsf(level->temperature - o->use.temperature) < 1e-6f &&
           (level->max_tokens == o->use.max_tokens ||
            (level->max_tokens > XL_MEASURE_WINDOW && o->use.max_tokens > XL_MEASURE_WINDOW));
}

static bool knows_papers(const xl_calibration *c) {
    return c->options->kv == EXITLM_POLICY_EXACT && c->options->use.temperature == 0 &&
           !xl_calibration_adds(c);
}

exitlm_status xl_calibration_check(const xl_calibration *c, exitlm_error *error) {
    const xl_calibration_options *o = c->options;
    if (!wants_level(o))
        return xl_fail(error, EXITLM_USAGE,
                       "--accuracy: is no level of the table: see exitlm calibrate --help");
    if (o->kv == EXITLM_POLICY_MAPS && !exitlm_heads_have_maps(c->heads))
        return xl_fail(error, EXITLM_USAGE,
                       "--kv maps: these heads have no maps: train them without --no-maps");
    if (o->kv != EXITLM_POLICY_EXACT && o->use.temperature > 0)
        return xl_fail(error, EXITLM_USAGE,
                       "--temp: tokens are drawn with exact K/V alone: leave out --kv %s",
                       xl_policy_names[o->kv]);
    if (o->strategy > EXITLM_STRATEGY_RISK && !knows_papers(c))
        return xl_fail(
            error, EXITLM_USAGE,
            "--strategy %s: the paper's strategies know greedy replies with exact K/V, and "
            "are made with all of the table; rows that are added are of --strategy risk",
            xl_strategy_names[o->strategy]);
    if (xl_calibration_adds(c) && o->metric >= 0 && o->metric != (int)c->heads->metric)
        return xl_fail(
            error, EXITLM_USAGE,
            "--metric: the heads file's table goes by %s, and these rows are added to it",
            xl_metric_names[c->heads->metric]);
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
        if (c->options->keep_settings || !may_lay_path(it)) continue;
        const bool taken = held_out ? xl_dataset_held_out(c->options->seed, index) : index % 6 == 0;
        index++;
        if (!taken) continue;
        if (!xl_dataset_add(&c->path_data, it->kind, it->split, (const char *const *)it->roles,
                            (const char *const *)it->texts, it->n))
            return xl_no_memory(error, "the data");
    }
    xl_dataset_keep(&c->data, XL_DATASET_CALIBRATION);
    if (!held_out && !c->options->keep_settings) xl_dataset_drop_every(&c->data, 6);
    size_t left_out = 0;
    const uint32_t context = xl_measure_context(c->model, c->options->context_tokens);
    exitlm_status status = xl_measure_leave_out(c->model, context, &c->path_data, &left_out, error);
    if (status == EXITLM_OK)
        status = xl_measure_leave_out(c->model, context, &c->data, &c->left_out, error);
    c->left_out += left_out;
    if (status != EXITLM_OK) return status;
    c->n = c->data.n;
    return xl_dataset_shuffle(&c->data) ? EXITLM_OK : xl_no_memory(error, "the data");
}

/* ---- Measuring ---- */
/* Are these conversations and settings among those that were measured elsewhere? */
static bool is_given(const xl_measure_result *r, size_t from, size_t n, const size_t *list,
                     size_t n_settings) {
    bool there = from <= r->n_items && n <= r->n_items - from;
    for (size_t j = 0; j < n_settings; j++) there &= list[j] < r->n_settings;
    return there;
}

const char *const xl_calibration_stages[] = {"path", "trial", "levels", NULL};

exitlm_status xl_calibration_run(xl_calibration *c, xl_calibration_stage stage, size_t from,
                                 size_t n, const xl_measure_setting *settings, const size_t *list,
                                 size_t n_settings, const char *label, xl_measure_result *result,
                                 exitlm_error *error) {
    const xl_calibration_options *o = c->options;
    const exitlm_kv_policy kv = stage == XL_CALIBRATE_PATH ? EXITLM_POLICY_EXACT : o->kv;
    const xl_dataset *data = stage == XL_CALIBRATE_LEVELS ? &c->data : &c->path_data;
    bool complete;
    if (c->given[stage].n_items && !is_given(&c->given[stage], from, n, list, n_settings))
        return xl_fail(error, EXITLM_IO,
                       "the parts of the stage %s are of other conversations or settings",
                       xl_calibration_stages[stage]);
    if (c->given[stage].n_items)
        return xl_measure_take(&c->given[stage], from, n, list, n_settings, c->heads->n_heads,
                               result)
                   ? EXITLM_OK
                   : xl_no_memory(error, "the measurements");
    const xl_measure_plan plan = {.model = c->model,
                                  .heads = c->heads,
                                  .items = data->items + from,
                                  .n_items = n,
                                  .settings = settings,
                                  .n_settings = n_settings,
                                  .record = kv == EXITLM_POLICY_EXACT,
                                  .reply_tokens = o->use.max_tokens,
                                  .batch = o->batch,
                                  .context_tokens = xl_measure_context(c->model, o->context_tokens),
                                  .kv_type = o->use.kv_type,
                                  .temperature = o->use.temperature,
                                  .seed = o->seed,
                                  .kv = kv,
                                  .kernel = o->kernel,
                                  .label = label,
                                  .observer = c->observer};
    exitlm_status status = xl_measure_run(&plan, c->pool, result, &complete, error);
    return status == EXITLM_OK && !complete
               ? xl_fail(error, EXITLM_IO, "stopped; the heads file is as it was")
               : status;
}

/* All of the path's data under all settings of a stage. */
static exitlm_status run_all(xl_calibration *c, xl_calibration_stage stage,
                             const xl_measure_setting *settings, size_t n, const char *label,
                             xl_measure_result *result, exitlm_error *error) {
    size_t list[XL_MEASURE_MAX];
    for (size_t j = 0; j < n; j++) list[j] = j;
    return xl_calibration_run(c, stage, 0, c->path_data.n, settings, list, n, label, result, error);
}

/* The path's data and the curve by one metric. */
typedef struct layout {
    xl_level_tokens tokens;
    xl_path_data data;
    xl_curve curve;
} layout;

static void free_layout(layout *l) {
    if (l) xl_level_tokens_free(&l->tokens);
    free(l);
}

static exitlm_status lay_curve(const xl_calibration *c, const xl_measure_record *record,
                               exitlm_metric metric, layout **out, exitlm_error *error) {
    const exitlm_heads *heads = c->heads;
    layout *l = *out = calloc(1, sizeof *l);
    bool laid = l && xl_level_tokens_make(&l->tokens, heads, metric, heads->n_layers, record,
                                          c->path_data.n);
    if (laid) {
        l->data = xl_level_path_data(&l->tokens, c->model, heads, c->options->kv);
        laid = xl_curve_build(&l->data, &xl_libc_allocator, &l->curve);
    }
    return laid ? EXITLM_OK : xl_no_memory(error, "the path");
}

static void set_weights(exitlm_heads *heads, const float *w) {
    for (uint32_t h = 0; h < heads->n_heads; h++)
        memcpy(heads->head[h].logistic, w + 6 * h, sizeof heads->head[h].logistic);
}

static void get_weights(const exitlm_heads *heads, float *w) {
    for (uint32_t h = 0; h < heads->n_heads; h++)
        memcpy(w + 6 * h, heads->head[h].logistic, sizeof heads->head[h].logistic);
}

/* The metric whose curve costs least; what it weighs by is fitted, or what rows are added to. */
static exitlm_status choose_metric(xl_calibration *c, const xl_measure_record *record,
                                   layout **best, exitlm_error *error) {
    exitlm_heads *heads = c->heads;
    const int wanted = xl_calibration_adds(c) ? (int)heads->metric : c->options->metric;
    exitlm_status status = EXITLM_OK;
    get_weights(heads, c->logistic);
    for (int m = 0; m < EXITLM_METRIC_COUNT && status == EXITLM_OK; m++) {
        const exitlm_metric metric = (exitlm_metric)m;
        float w[EXITLM_MAX_HEADS * 6] = {0};
        layout *l = NULL;
        if (wanted >= 0 && wanted != m) continue;
        get_weights(heads, w);
        if (xl_metric_weighs(metric) && !xl_calibration_adds(c) &&
            !xl_level_fit(heads, metric, heads->n_layers, record, w))
            return xl_no_memory(error, "the metric");
        set_weights(heads, w);
        status = lay_curve(c, record, metric, &l, error);
        if (status == EXITLM_OK && (!*best || l->curve.price < (*best)->curve.price)) {
            layout *worse = *best;
            *best = l;
            l = worse;
            c->metric = metric;
            memcpy(c->logistic, w, sizeof w);
        }
        free_layout(l);
    }
    set_weights(heads, c->logistic);
    heads->metric = c->metric;
    return status;
}

/* Three settings on the path's data, with the K/V policy in question: what was expected along the
 * full model's text, and what is measured where the exits write it. */
#define TRIALS 3
typedef struct trial {
    double expected[TRIALS + 1], measured[TRIALS + 1]; /* [0]: 0; ascending */
    double spread; /* variance of a conversation's X, as a multiple of its mean */
    double reach;  /* share of the conversations that it is of: those that reach the window */
} trial;

/* A setting's mean X in one window, over the conversations that reach it, and their spread. */
typedef struct window_mean {
    double mean, variance;
    size_t n;
} window_mean;

static window_mean mean_in(const xl_measure_result *r, size_t setting, uint32_t window) {
    double sum = 0, squares = 0;
    window_mean m = {0};
    for (size_t i = 0; i < r->n_items; i++) {
        const double x = xl_measure_x_in(xl_measure_at(r, i, setting), window);
        if (x < 0) continue;
        sum += x;
        squares += x * x;
        m.n++;
    }
    const double n = (double)m.n;
    if (m.n) m.mean = sum / n, m.variance = squares / n - sum / n * (sum / n);
    return m;
}

/* In the window where it is worst, of those that many conversations reach. */
static window_mean worst_mean(const xl_measure_result *r, size_t setting) {
    window_mean worst = mean_in(r, setting, 0);
    for (uint32_t w = 1; w < XL_MEASURE_WINDOWS; w++) {
        const window_mean m = mean_in(r, setting, w);
        if (m.n >= r->n_items / 4 + 1 && m.mean > worst.mean) worst = m;
    }
    return worst;
}

static void sum_trial(const xl_measure_result *r, trial *t) {
    double variance = 0, means = 0;
    t->reach = 1;
    for (int k = 1; k <= TRIALS; k++) {
        const window_mean m = worst_mean(r, (size_t)k);
        variance += m.variance;
        means += m.mean;
        if (m.n < r->n_items) t->reach = fmin(t->reach, (double)m.n / (double)r->n_items);
        /* few conversations may show nothing, or less for the bolder one */
        t->measured[k] =
            fmax(m.mean, t->measured[k - 1] + (t->expected[k] - t->expected[k - 1]) / 2);
    }
    t->spread = means > 0 ? variance / means : 0.1;
}

/* Where the vocabulary exit stands, a first token may be so many times as uncertain as the others: a
 * reply has one of them, and while the model loads it comes before the rest of the output matrix
 * does (SPEED.md, Loading 30). What it costs is measured with the setting. 0: as the others. */
static float first_threshold(const xl_calibration *c, const float *threshold) {
    const exitlm_heads *heads = c->heads;
    const uint32_t last = heads->n_heads - 1;
    return c->options->first_word > 1 && heads->head[last].layer == heads->n_layers
               ? fminf(1, c->options->first_word * threshold[last])
               : 0;
}

static void list_trials(const xl_calibration *c, const layout *l, xl_measure_setting *settings,
                        trial *t) {
    double least = 1, most = 0;
    for (int i = 0; i < XL_LEVELS; i++) {
        if (!wanted_level(c->options, i)) continue;
        least = fmin(least, 1 - (double)xl_levels[i]);
        most = fmax(most, 1 - (double)xl_levels[i]);
    }
    *t = (trial){0};
    settings[0] = (xl_measure_setting){0};
    for (int k = 1; k <= TRIALS; k++) {
        const double wrong = least * pow(most / least, (k - 1.0) / (TRIALS - 1));
        xl_curve_at(&l->curve, &l->data, wrong, settings[k].threshold);
        settings[k].first = first_threshold(c, settings[k].threshold);
        t->expected[k] =
            fmax(xl_path_measure(&l->data, settings[k].threshold).wrong, t->expected[k - 1] + 1e-9);
    }
}

static exitlm_status try_out(xl_calibration *c, const layout *l, trial *t, exitlm_error *error) {
    xl_measure_setting settings[TRIALS + 1] = {0};
    xl_measure_result result = {0};
    list_trials(c, l, settings, t);
    exitlm_status status =
        run_all(c, XL_CALIBRATE_TRIAL, settings, TRIALS + 1, "trial     ", &result, error);
    if (status == EXITLM_OK) sum_trial(&result, t);
    xl_measure_free(&result);
    return status;
}

/* What is to be expected along the full model's text where so much is to be measured. */
static double expected_for(const trial *t, double measured) {
    int k = 1;
    while (k < TRIALS && t->measured[k] < measured) k++;
    const double share = (measured - t->measured[k - 1]) / (t->measured[k] - t->measured[k - 1]);
    return t->expected[k - 1] + share * (t->expected[k] - t->expected[k - 1]);
}

/* A level's settings lie at these shares of the expected boundary: what is measured on other
 * conversations differs by a tenth or two, and each setting more takes as long as the others. */
static const double shares[XL_LEVEL_SETTINGS] = {0.8, 0.96};

static void place_settings(xl_calibration *c, const layout *l, const trial *t) {
    xl_path *path = &c->path;
    *path = (xl_path){0};
    for (int i = XL_LEVELS; i-- > 0;) {
        if (!wanted_level(c->options, i)) continue;
        const double boundary =
            xl_risk_boundary(1 - (double)xl_levels[i], t->spread, (size_t)(t->reach * (double)c->n),
                             (double)c->options->delta);
        for (size_t k = 0; k < XL_LEVEL_SETTINGS && boundary > 0; k++) {
            xl_measure_setting *setting = &path->setting[path->n];
            xl_curve_at(&l->curve, &l->data, expected_for(t, shares[k] * boundary),
                        setting->threshold);
            path->expected[path->n] = xl_path_measure(&l->data, setting->threshold);
            setting->first = first_threshold(c, setting->threshold);
            path->level[path->n++] = i;
        }
    }
}

/* *l: the metric's; held_out goes with it. */
static exitlm_status lay_out(xl_calibration *c, xl_measure_result *held_out, layout **l,
                             exitlm_error *error) {
    const xl_measure_setting full = {0};
    exitlm_status status = run_all(c, XL_CALIBRATE_PATH, &full, 1, "path      ", held_out, error);
    return status == EXITLM_OK ? choose_metric(c, &held_out->record, l, error) : status;
}

/* The file's setting of a level: that of its row for such replies; where it has no such rows, that
 * for greedy replies of usual length with K/V in f32. NULL: none. */
static const exitlm_level *setting_of_file(const xl_calibration *c, int level, bool like) {
    xl_calibration_options usual = *c->options;
    usual.use = (xl_use){EXITLM_KV_F32, 0, XL_CALIBRATED_TOKENS};
    for (size_t k = 0; k < c->heads->n_levels && wanted_level(c->options, level); k++) {
        const exitlm_level *row = &c->heads->levels[k];
        if (row->certified && is_like(row, like ? c->options : &usual) &&
            xl_level_wanted(&row->accuracy, 1, xl_levels[level]))
            return row;
    }
    return NULL;
}

static void add_setting(xl_path *path, int level, const exitlm_level *row) {
    xl_measure_setting *setting = &path->setting[path->n];
    memcpy(setting->threshold, row->threshold, sizeof setting->threshold);
    setting->first = row->first_threshold;
    path->level[path->n++] = level;
}

/* Each level tries the setting of the stricter level before it, which is measured anyway, and then
 * its own: where that fails, the level still has a row. */
static exitlm_status path_of_file(xl_calibration *c, exitlm_error *error) {
    const exitlm_heads *heads = c->heads;
    const exitlm_level *stricter = NULL;
    bool like = false;
    c->path = (xl_path){0};
    c->metric = heads->metric;
    get_weights(heads, c->logistic);
    for (int i = 0; i < XL_LEVELS; i++) like |= setting_of_file(c, i, true) != NULL;
    for (int i = XL_LEVELS; i-- > 0;) {
        const exitlm_level *row = setting_of_file(c, i, like);
        if (!row) continue;
        if (stricter) add_setting(&c->path, i, stricter);
        add_setting(&c->path, i, row);
        stricter = row;
    }
    return c->path.n
               ? EXITLM_OK
               : xl_fail(error, EXITLM_USAGE,
                         "--keep-settings: the heads file has no certified row for such "
                         "replies at these levels, nor one for greedy replies with K/V in f32");
}

exitlm_status xl_calibration_choose_path(xl_calibration *c, exitlm_error *error) {
    if (c->options->keep_settings) return path_of_file(c, error);
    xl_measure_result held_out = {0};
    layout *l = NULL;
    trial t;
    exitlm_status status = lay_out(c, &held_out, &l, error);
    if (status == EXITLM_OK && c->options->strategy <= EXITLM_STRATEGY_RISK) {
        status = try_out(c, l, &t, error);
        if (status == EXITLM_OK) place_settings(c, l, &t);
    }
    free_layout(l);
    xl_measure_free(&held_out);
    return status;
}

exitlm_status xl_calibration_settings(xl_calibration *c, xl_calibration_stage stage,
                                      xl_measure_setting *settings, size_t *n,
                                      exitlm_error *error) {
    settings[0] = (xl_measure_setting){0};
    *n = 1;
    if (stage == XL_CALIBRATE_PATH) return EXITLM_OK;
    if (stage == XL_CALIBRATE_LEVELS) {
        exitlm_status status = xl_calibration_choose_path(c, error);
        for (size_t j = 0; status == EXITLM_OK && j < c->path.n; j++)
            settings[(*n)++] = c->path.setting[j];
        return status;
    }
    xl_measure_result held_out = {0};
    layout *l = NULL;
    trial t;
    exitlm_status status = lay_out(c, &held_out, &l, error);
    if (status == EXITLM_OK) list_trials(c, l, settings, &t);
    *n = TRIALS + 1;
    free_layout(l);
    xl_measure_free(&held_out);
    return status;
}

void xl_calibration_take_path(xl_calibration *c, exitlm_metric metric, const float *logistic,
                              const xl_path *path) {
    c->metric = c->heads->metric = metric;
    memcpy(c->logistic, logistic, sizeof c->logistic);
    set_weights(c->heads, c->logistic);
    c->path = *path;
}

double xl_calibration_rest(const xl_calibration *c) {
    const double runs = c->options->strategy <= EXITLM_STRATEGY_RISK ? TRIALS + 2 : 1;
    return (double)c->n * (double)(c->path.n + 1) / ((double)c->path_data.n * runs);
}

/* Conversations are measured in so many parts; after each, what is decided is left out. */
#define PARTS 8
#define LEAST_PART 100

/* The full model, and the settings that are not decided. Returns their number. */
static size_t list_settings(const xl_calibration *c, size_t *list, xl_measure_setting *settings) {
    const xl_level_risk risk = {&c->result, &c->path, c->options->delta, c->options->kv,
                                c->options->use};
    size_t n = 1;
    list[0] = 0;
    settings[0] = (xl_measure_setting){0};
    for (size_t j = 0; j < c->path.n; j++) {
        if (c->result.measured[0] && !xl_level_undecided(&risk, j)) continue;
        settings[n] = c->path.setting[j];
        list[n++] = j + 1;
    }
    return n;
}

exitlm_status xl_calibration_measure(xl_calibration *c, exitlm_error *error) {
    size_t list[XL_PATH_MAX + 1], n;
    xl_measure_setting settings[XL_PATH_MAX + 1];
    const size_t part = c->n / PARTS > LEAST_PART ? c->n / PARTS : LEAST_PART;
    if (!xl_measure_begin(&c->result, c->n, c->path.n + 1))
        return xl_no_memory(error, "the measurements");
    exitlm_status status = EXITLM_OK;
    for (size_t from = 0; from < c->n && status == EXITLM_OK; from += part) {
        xl_measure_result result = {0};
        char label[96];
        const size_t some = c->n - from < part ? c->n - from : part;
        n = list_settings(c, list, settings);
        /* the paper's strategies want the full model's text alone */
        if (n == 1 && c->path.n) break;
        snprintf(label, sizeof label, "calibrate  %zu to %zu, %zu settings", from + 1, from + some,
                 n - 1);
        status = xl_calibration_run(c, XL_CALIBRATE_LEVELS, from, some, settings, list, n, label,
                                    &result, error);
        if (status == EXITLM_OK &&
            !xl_measure_add(&c->result, &result, from, list, c->heads->n_heads))
            status = xl_no_memory(error, "the measurements");
        xl_measure_free(&result);
    }
    return status;
}

/* ---- Tables ---- */
static bool is_tested(const xl_calibration *c, float accuracy) {
    for (size_t j = 0; j < c->path.n; j++)
        if (xl_level_wanted(&accuracy, 1, xl_levels[c->path.level[j]])) return true;
    return false;
}

/* What the file says already, but for rows that are made anew. */
static exitlm_status keep_rows(xl_calibration *c, exitlm_error *error) {
    const exitlm_heads *heads = c->heads;
    c->levels = calloc(XL_LEVELS * EXITLM_STRATEGY_COUNT + heads->n_levels, sizeof *c->levels);
    if (!c->levels) return xl_no_memory(error, "the tables");
    if (xl_calibration_adds(c))
        for (size_t i = 0; i < heads->n_levels; i++)
            if (!is_like(&heads->levels[i], c->options) ||
                (c->options->keep_settings && !is_tested(c, heads->levels[i].accuracy)))
                c->levels[c->n_levels++] = heads->levels[i];
    c->n_kept = c->n_levels;
    return EXITLM_OK;
}

static exitlm_status make_risk_rows(xl_calibration *c, exitlm_error *error) {
    const xl_calibration_options *o = c->options;
    const xl_level_risk risk = {&c->result, &c->path, o->delta, o->kv, o->use};
    for (int i = 0; i < XL_LEVELS; i++) {
        c->exited[i] = -1;
        if ((o->keep_settings ? is_tested(c, xl_levels[i]) : wanted_level(o, i)) &&
            !xl_level_of_risk(&risk, i, &c->levels[c->n_levels++], &c->exited[i]))
            return xl_no_memory(error, "the tables");
    }
    return EXITLM_OK;
}

static exitlm_status make_paper_rows(xl_calibration *c, exitlm_error *error) {
    xl_level_tokens tokens;
    const exitlm_heads *heads = c->heads;
    bool made = xl_level_tokens_make(&tokens, heads, c->metric, heads->n_layers, &c->result.record,
                                     c->result.measured[0]);
    for (int s = EXITLM_STRATEGY_MAX_COVERAGE; s < EXITLM_STRATEGY_COUNT && made; s++) {
        if (c->options->strategy >= 0 && c->options->strategy != s) continue;
        for (int i = 0; i < XL_LEVELS && made; i++)
            made = xl_level_of_paper(&tokens, (exitlm_strategy)s, xl_levels[i], &c->options->use,
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
    if (status == EXITLM_OK && knows_papers(c) && strategy != EXITLM_STRATEGY_RISK)
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
        (int)kept, old, c->n, c->options->use.max_tokens);
}

exitlm_status xl_calibration_rewrite(const char *path, const xl_heads_calibration *table,
                                     xl_buffer *out, exitlm_error *error) {
    char *bytes;
    size_t n_bytes;
    xl_buffer_init(out, &xl_libc_allocator);
    exitlm_status status = xl_file_read(path, MAX_HEADS_BYTES, &bytes, &n_bytes, error);
    if (status != EXITLM_OK) return status;
    status = xl_about(path, xl_heads_rewrite(bytes, n_bytes, table, out, error), error);
    free(bytes);
    return status;
}

exitlm_status xl_calibration_write(const xl_calibration *c, const char *path, exitlm_error *error) {
    const bool adds = xl_calibration_adds(c);
    char *data = adds ? NULL : describe_data(c);
    if (!data && !adds) return xl_no_memory(error, "the heads");
    xl_buffer out;
    const xl_heads_calibration table = {.metric = c->metric,
                                        .kv = adds ? c->heads->kv : c->options->kv,
                                        .kv_type =
                                            adds ? c->heads->kv_type : c->options->use.kv_type,
                                        .logistic = c->logistic,
                                        .data = data,
                                        .n_levels = c->n_levels,
                                        .levels = c->levels};
    exitlm_status status = xl_calibration_rewrite(path, &table, &out, error);
    if (status == EXITLM_OK) status = xl_file_write(path, out.data, out.n_bytes, error);
    xl_buffer_free(&out);
    free(data);
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
    for (int i = 0; i < XL_CALIBRATE_STAGES; i++) xl_measure_free(&c->given[i]);
    xl_dataset_free(&c->data);
    xl_dataset_free(&c->path_data);
    free(c->levels);
}
