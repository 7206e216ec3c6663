/* exitlm calibrate: thresholds for accuracy levels, with a guarantee by conversation, into a heads file. */
#include <stdlib.h>
#include <string.h>

#include "dataset.h"
#include "engine.h"
#include "files.h"
#include "invent.h"
#include "levels.h"
#include "base/ndjson.h"
#include "platform.h"
#include "reply/session.h"
#include "signals.h"
#include "cli.h"

typedef struct calibrate_options {
    cli_engine_options engine;
    cli_texts data;
    const char *report;
    int metric, strategy, bound, kv;
    float delta, default_accuracy; /* 0: as the file has it */
    cli_numbers accuracy;
    uint32_t reply_tokens, batch;
    uint64_t seed;
    bool quiet;
} calibrate_options;

#define AT(field) .offset = offsetof(calibrate_options, field)
#define MAX_HEADS_BYTES ((uint64_t)1 << 30)

static const char *const bounds[] = {"betting", "hb", NULL};

static const cli_option options[] = {
    {.name = "data", .kind = CLI_TEXTS, AT(data), .value = "FILE|DIR",
     .help = "conversations as users have them: JSONL of {\"turns\"} or {\"messages\"}; lines of the split \"calibration\" decide, held-out lines of \"train\" "
             "lay out the path; default: invented by the model"},
    {.name = "strategy", .kind = CLI_CHOICE, AT(strategy), .choices = cli_strategies,
     .help = "calibrate only this one; default: all"},
    {.name = "metric", .kind = CLI_CHOICE, AT(metric), .choices = cli_metrics, .help = "measure of uncertainty; default: the one that saves most on the path's data"},
    {.name = "kv", .kind = CLI_CHOICE, AT(kv), .choices = cli_kv_policies, .fallback = "exact",
     .help = "K/V of skipped layers that the levels are to hold with; exact replaces all of the table, another is added to it (strategy risk)"},
    {.name = "accuracy", .kind = CLI_NUMBERS, AT(accuracy), .value = "A,...", .min = 0.7, .max = 0.99,
     .help = "run the settings that are laid out for these levels (.70, .75, .80, .85, .90, .95, .98, .99) alone; default: all"},
    {.name = "default", .kind = CLI_NUMBER, AT(default_accuracy), .value = "A", .min = 0.5, .max = 1,
     .help = "the certified level that is taken where none is asked for, see eval --tasks; without --data nothing else in the file changes; "
             "default: the one that the file names, else its strictest"},
    {.name = "delta", .kind = CLI_NUMBER, AT(delta), .value = "D", .min = 1e-6, .max = 0.5, .fallback = "0.05",
     .help = "a level's promise may fail with this probability over the draw of the conversations"},
    {.name = "bound", .kind = CLI_CHOICE, AT(bound), .choices = bounds, .fallback = "betting", .help = "bound of the risk"},
    {.name = "reply-tokens", .kind = CLI_COUNT, AT(reply_tokens), .value = "N", .min = 8, .max = 1024, .fallback = "96", .help = "longest answer"},
    {.name = "batch", .kind = CLI_COUNT, AT(batch), .value = "N", .min = 1, .max = 32, .fallback = "32", .help = "conversations side by side, a thread"},
    {.name = "seed", .kind = CLI_SEED, AT(seed), .value = "S", .fallback = "1", .help = "the one that train was given: says which lines it held out"},
    {.name = "report", .kind = CLI_TEXT, AT(report), .value = "FILE", .help = "keep the path and each conversation's result as JSON (eval reads it)"},
    {.name = "quiet", .letter = 'q', .kind = CLI_FLAG, AT(quiet), .help = "no progress"},
    CLI_ENGINE_OPTIONS(calibrate_options, engine),
};

/* Expected disagreement of the settings on the path, safest first, and the level that each may just hold: what was expected and what is measured
 * differ by a tenth. What is expected is measured with exact K/V; with another policy the text departs further, even where little exits. */
typedef struct goal {
    float target, accuracy;
} goal;
static const goal exact_goals[] = {{0.003f, 0.99f},  {0.005f, 0.99f},  {0.0115f, 0.98f}, {0.0135f, 0.98f}, {0.0155f, 0.98f}, {0.0455f, 0.95f},
                                   {0.049f, 0.95f},  {0.052f, 0.95f},  {0.098f, 0.90f},  {0.103f, 0.90f},  {0.108f, 0.90f},  {0.157f, 0.85f},
                                   {0.166f, 0.85f},  {0.214f, 0.80f},  {0.26f, 0.75f},   {0.33f, 0.70f}};
static const goal other_goals[] = {{0.002f, 0.99f}, {0.004f, 0.98f},  {0.0235f, 0.95f}, {0.074f, 0.90f},
                                   {0.125f, 0.85f}, {0.175f, 0.80f}, {0.225f, 0.75f},  {0.28f, 0.70f}};
#define COUNT(array) (sizeof array / sizeof *array)

typedef struct calibration {
    const calibrate_options *options;
    cli_engine engine;
    dataset path_data, data;
    xl_pool *pool;
    exitlm_metric metric;
    float logistic[EXITLM_MAX_HEADS * 6];
    xl_path path;
    measure_result result;
    exitlm_level *levels; /* room for those of all strategies, and for the rows that stay */
    size_t n_levels, n_kept;
} calibration;

static exitlm_kv_policy policy(const calibration *c) { return (exitlm_kv_policy)c->options->kv; }

/* Another K/V policy's rows are added to a table whose metric they share. */
static bool adds(const calibration *c) { return policy(c) != EXITLM_POLICY_EXACT && c->engine.heads->n_levels > 0; }

/* ---- Data ---- */
/* Held-out lines of the training split lay out the path; without such lines, every sixth conversation does (and then decides nothing). */
static void keep_held_out(dataset *set, uint64_t seed, bool sixth) {
    dataset kept = {0};
    for (size_t i = 0; i < set->n; i++) {
        bool mine = sixth ? i % 6 == 0 : dataset_held_out(seed, (uint32_t)i);
        const dataset_item *it = &set->items[i];
        if (mine) dataset_add(&kept, it->kind, it->split, (const char *const *)it->roles, (const char *const *)it->texts, it->n);
    }
    dataset_free(set);
    *set = kept;
}

static void drop_sixth(dataset *set) {
    dataset kept = {0};
    for (size_t i = 0; i < set->n; i++) {
        const dataset_item *it = &set->items[i];
        if (i % 6) dataset_add(&kept, it->kind, it->split, (const char *const *)it->roles, (const char *const *)it->texts, it->n);
    }
    dataset_free(set);
    *set = kept;
}

static bool only_training(const dataset *set) {
    for (size_t i = 0; i < set->n; i++)
        if (set->items[i].split != DATASET_TRAIN) return false;
    return set->n > 0;
}

static int read_data(calibration *c) {
    const cli_texts *data = &c->options->data;
    int status = CLI_OK;
    if (data->n == 0) {
        cli_warn("no --data: the model invents the conversations; levels then hold for such, not for what people write");
        status = invent_conversations(&c->engine, c->options->engine.kernel, 720, c->options->seed + 0x63616c, c->options->quiet, &c->data);
        for (size_t i = 0; i < c->data.n && status == CLI_OK; i++)
            if (!dataset_add(&c->path_data, DATASET_TURNS, DATASET_ANY, NULL, (const char *const *)c->data.items[i].texts, 1)) status = cli_no_memory("the data");
    }
    for (size_t i = 0; i < data->n && status == CLI_OK; i++) {
        status = dataset_read(&c->data, data->items[i]);
        if (status == CLI_OK) status = dataset_read(&c->path_data, data->items[i]);
    }
    if (status != CLI_OK) return status;
    dataset_keep(&c->data, DATASET_CALIBRATION);
    dataset_keep(&c->path_data, DATASET_TRAIN);
    const bool split = only_training(&c->path_data);
    keep_held_out(&c->path_data, c->options->seed, !split);
    if (!split) drop_sixth(&c->data);
    if (c->data.n == 0 || c->path_data.n == 0) return cli_fail("%s: no conversations of the split \"calibration\"", data->n ? data->items[0] : "data");
    if (c->data.n < 300) cli_warn("%zu conversations certify little: 600 or more are recommended", c->data.n);
    return CLI_OK;
}

/* ---- Measuring ---- */
static int measure(calibration *c, const dataset *data, const measure_setting *settings, size_t n, exitlm_kv_policy kv, const char *label,
                   measure_result *result) {
    const calibrate_options *o = c->options;
    const uint32_t most = c->engine.info.context_tokens ? c->engine.info.context_tokens : 2048;
    bool complete;
    measure_plan plan = {.model = c->engine.model, .heads = c->engine.heads, .items = data->items, .n_items = data->n, .settings = settings,
                         .n_settings = n, .record = kv == EXITLM_POLICY_EXACT, .reply_tokens = o->reply_tokens, .batch = o->batch,
                         .context_tokens = o->engine.ctx ? o->engine.ctx : most < 1024 ? most : 1024, .kv_type = (exitlm_kv_type)o->engine.kv_type, .kv = kv,
                         .kernel = o->engine.kernel, .label = o->quiet ? NULL : label};
    int status = measure_run(&plan, c->pool, result, &complete);
    if (status == CLI_OK && !complete) status = cli_fail("stopped; the heads file is as it was");
    return status;
}

static size_t wanted_targets(const calibration *c, float *targets) {
    const bool exact = policy(c) == EXITLM_POLICY_EXACT;
    const goal *goals = exact ? exact_goals : other_goals;
    size_t n = 0;
    for (size_t i = 0; i < (exact ? COUNT(exact_goals) : COUNT(other_goals)); i++)
        if (cli_numbers_want(&c->options->accuracy, goals[i].accuracy)) targets[n++] = goals[i].target;
    return n;
}

/* Thresholds of the path by one metric. */
static int lay_path(calibration *c, const measure_record *record, exitlm_metric metric, xl_path *path) {
    level_tokens tokens;
    int status = CLI_OK;
    const exitlm_heads *heads = c->engine.heads;
    if (!level_tokens_make(&tokens, heads, metric, heads->n_layers, record, c->path_data.n)) status = cli_no_memory("the path");
    xl_path_data data = {.n = tokens.n, .n_heads = heads->n_heads, .u = tokens.u, .wrong = tokens.wrong, .weight = tokens.weight};
    float target[XL_PATH_MAX];
    const size_t n = wanted_targets(c, target);
    level_costs(c->engine.model, heads, policy(c), &data);
    if (status == CLI_OK && !xl_path_build(&data, target, n, &xl_libc_allocator, path)) status = cli_no_memory("the path");
    level_tokens_free(&tokens);
    return status;
}

/* The metric that saves most at 2 to 10 % disagreement. */
static int choose_path(calibration *c) {
    measure_result held_out = {0};
    const measure_setting full = {{0}};
    exitlm_heads *heads = c->engine.heads; /* its metric is set here, for all that is measured from now on */
    int status = measure(c, &c->path_data, &full, 1, EXITLM_POLICY_EXACT, "path      ", &held_out);
    if (adds(c)) {
        for (uint32_t h = 0; h < heads->n_heads; h++) memcpy(c->logistic + 6 * h, heads->head[h].logistic, sizeof heads->head[h].logistic);
    } else if (status == CLI_OK && !level_fit_logistic(heads, heads->n_layers, &held_out.record, c->logistic)) {
        status = cli_no_memory("the metric");
    }
    for (uint32_t h = 0; status == CLI_OK && h < heads->n_heads; h++) memcpy(heads->head[h].logistic, c->logistic + 6 * h, sizeof heads->head[h].logistic);
    const int wanted = adds(c) ? (int)heads->metric : c->options->metric;
    double best = 2;
    for (int m = 0; m < EXITLM_METRIC_COUNT && status == CLI_OK; m++) {
        xl_path path;
        if (wanted >= 0 && wanted != m) continue;
        status = lay_path(c, &held_out.record, (exitlm_metric)m, &path);
        if (status != CLI_OK) break;
        const size_t at[] = {path.n / 4, path.n / 2, path.n * 3 / 4};
        double cost = 0;
        printf("metric %-9s expected work at", cli_metrics[m]);
        for (int k = 0; k < 3; k++) {
            cost += path.cost[at[k]] / 3;
            printf(" %.1f %% disagreement: %.3f%s", 100.0 * path.risk[at[k]], path.cost[at[k]], k < 2 ? "," : "\n");
        }
        if (cost >= best) continue;
        best = cost;
        c->metric = (exitlm_metric)m;
        c->path = path;
    }
    heads->metric = c->metric;
    measure_free(&held_out);
    return status;
}

static int measure_path(calibration *c) {
    measure_setting settings[XL_PATH_MAX + 1] = {{{0}}};
    for (size_t j = 0; j < c->path.n; j++) memcpy(settings[j + 1].threshold, c->path.threshold[j], sizeof settings[0].threshold);
    return measure(c, &c->data, settings, c->path.n + 1, policy(c), "calibrate ", &c->result);
}

/* ---- Tables ---- */
static void print_row(const exitlm_level *l, uint32_t n_heads) {
    printf("  %-13s %.2f  ", cli_strategies[l->strategy], (double)l->accuracy);
    if (!l->certified) {
        printf("uncertifiable with %u conversations\n", l->conversations);
        return;
    }
    printf("agreement %.4f", (double)l->agreement);
    if (l->strategy == EXITLM_STRATEGY_RISK) printf(" (>= %.4f)", 1 - (double)l->bound);
    printf("  among exits %.4f  coverage", (double)l->agreement_exited);
    for (uint32_t h = 0; h < n_heads; h++) printf(" %.3f", (double)l->coverage[h]);
    printf("\n");
}

static int make_risk_rows(calibration *c) {
    level_risk risk = {&c->result, &c->path, c->options->bound == 1 ? XL_BOUND_HB : XL_BOUND_BETTING, c->options->delta, c->engine.heads->n_heads, policy(c),
                       level_x(&c->result, c->path.n)};
    if (!risk.x) return cli_no_memory("the tables");
    for (int i = 0; i < XL_LEVELS; i++) level_of_risk(&risk, xl_levels[i], &c->levels[c->n_levels++], NULL);
    printf("agreement among the tokens that exit, certified likewise:");
    for (int i = 0; i < XL_LEVELS; i++) {
        int32_t j = level_of_exited(&risk, xl_levels[i]);
        if (j >= 0) printf("  %.2f: setting %d (expected work %.3f)", (double)xl_levels[i], j + 1, (double)c->path.cost[j]);
    }
    risk.delta = 0.10;
    printf("\nat delta 0.10 the levels end at settings:");
    for (int i = 0; i < XL_LEVELS; i++) {
        exitlm_level row;
        int32_t j;
        level_of_risk(&risk, xl_levels[i], &row, &j);
        printf("  %.2f: %d", (double)xl_levels[i], j + 1);
    }
    printf("\n");
    free(risk.x);
    return CLI_OK;
}

static int make_paper_rows(calibration *c) {
    level_tokens tokens;
    const exitlm_heads *heads = c->engine.heads;
    bool fine = level_tokens_make(&tokens, heads, c->metric, heads->n_layers, &c->result.record, c->data.n);
    for (int s = EXITLM_STRATEGY_MAX_COVERAGE; s < EXITLM_STRATEGY_COUNT && fine; s++) {
        if (c->options->strategy >= 0 && c->options->strategy != s) continue;
        for (int i = 0; i < XL_LEVELS && fine; i++) fine = level_of_paper(&tokens, (exitlm_strategy)s, xl_levels[i], &c->levels[c->n_levels++]);
    }
    level_tokens_free(&tokens);
    return fine ? CLI_OK : cli_no_memory("the tables");
}

static int write_report(const calibration *c) {
    FILE *f = fopen(c->options->report, "w");
    if (!f) return cli_fail("%s: cannot be written", c->options->report);
    ndjson j = xl_nd_to(f);
    xl_nd_object(&j, NULL);
    xl_nd_string(&j, "type", "calibration");
    xl_nd_string(&j, "metric", cli_metrics[c->metric]);
    xl_nd_string(&j, "kv", cli_kv_policies[policy(c)]);
    xl_nd_uint(&j, "conversations", c->data.n);
    xl_nd_array(&j, "path");
    for (size_t s = 0; s < c->path.n; s++) {
        xl_nd_object(&j, NULL);
        xl_nd_array(&j, "threshold");
        for (uint32_t h = 0; h < c->engine.heads->n_heads; h++) xl_nd_float(&j, NULL, c->path.threshold[s][h]);
        xl_nd_end(&j);
        xl_nd_float(&j, "expected_risk", c->path.risk[s]);
        xl_nd_float(&j, "expected_work", c->path.cost[s]);
        xl_nd_array(&j, "x");
        for (size_t i = 0; i < c->result.n_items; i++) xl_nd_exact(&j, NULL, measure_x(measure_at(&c->result, i, s + 1)));
        xl_nd_end(&j);
        xl_nd_end(&j);
    }
    xl_nd_end(&j);
    xl_nd_end(&j);
    return fclose(f) == 0 ? CLI_OK : cli_fail("%s: cannot be written", c->options->report);
}

/* ---- The file ---- */
static int rewrite(const calibration *c, const char *path) {
    char *bytes, *data;
    size_t n_bytes;
    exitlm_error error;
    xl_buffer out;
    int status = cli_read_file(path, MAX_HEADS_BYTES, &bytes, &n_bytes);
    if (status != CLI_OK) return status;
    exitlm_heads_info info;
    exitlm_heads_describe(c->engine.heads, &info);
    const char *old = info.data ? info.data : "", *cut = strstr(old, "; calibrated on ");
    data = cli_format("%.*s; calibrated on %zu conversations whose answers (at most %u tokens) the engine wrote", (int)(cut ? cut - old : (long)strlen(old)), old,
                      c->data.n, c->options->reply_tokens);
    xl_heads_calibration calibration = {.metric = c->metric, .kv = adds(c) ? c->engine.heads->kv : policy(c), .kv_type = (exitlm_kv_type)c->options->engine.kv_type,
                                        .logistic = c->logistic, .data = data, .n_levels = c->n_levels, .levels = c->levels};
    xl_buffer_init(&out, &xl_libc_allocator);
    status = xl_heads_rewrite(bytes, n_bytes, &calibration, &out, &error) == EXITLM_OK ? CLI_OK : cli_report(&error, path);
    if (status == CLI_OK) status = cli_write_file(path, out.data, out.n_bytes);
    xl_buffer_free(&out);
    free(data);
    free(bytes);
    return status;
}

/* Names the default level, and leaves all else. */
static int rewrite_default(const char *path, float accuracy) {
    char *bytes;
    size_t n_bytes;
    exitlm_error error;
    xl_buffer out;
    int status = cli_read_file(path, MAX_HEADS_BYTES, &bytes, &n_bytes);
    if (status != CLI_OK) return status;
    xl_buffer_init(&out, &xl_libc_allocator);
    status = xl_heads_with_default(bytes, n_bytes, accuracy, &out, &error) == EXITLM_OK ? CLI_OK : cli_report(&error, path);
    if (status == CLI_OK) status = cli_write_file(path, out.data, out.n_bytes);
    xl_buffer_free(&out);
    free(bytes);
    return status;
}

/* What the file says already, but for rows that are made anew. */
static int keep_rows(calibration *c) {
    const exitlm_heads *heads = c->engine.heads;
    const bool all = policy(c) != EXITLM_POLICY_EXACT;
    c->levels = calloc(XL_LEVELS * EXITLM_STRATEGY_COUNT + heads->n_levels, sizeof *c->levels);
    if (!c->levels) return cli_no_memory("the tables");
    for (size_t i = 0; i < heads->n_levels && all; i++)
        if (heads->levels[i].kv != policy(c)) c->levels[c->n_levels++] = heads->levels[i];
    c->n_kept = c->n_levels;
    return CLI_OK;
}

static int check_policy(const calibration *c) {
    const calibrate_options *o = c->options;
    float targets[XL_PATH_MAX];
    if (wanted_targets(c, targets) == 0) return cli_usage("--accuracy: no settings are laid out for this level: see exitlm calibrate --help");
    if (policy(c) == EXITLM_POLICY_EXACT) return CLI_OK;
    if (policy(c) == EXITLM_POLICY_MAPS && !exitlm_heads_have_maps(c->engine.heads)) return cli_usage("--kv maps: these heads have no maps: train them without --no-maps");
    if (o->strategy > EXITLM_STRATEGY_RISK) return cli_usage("--kv %s: the paper's strategies know exact K/V alone: use --strategy risk", cli_kv_policies[o->kv]);
    if (adds(c) && o->metric >= 0 && o->metric != (int)c->engine.heads->metric)
        return cli_usage("--metric: the heads file's table goes by %s, and rows for --kv %s are added to it", cli_metrics[c->engine.heads->metric], cli_kv_policies[o->kv]);
    return CLI_OK;
}

/* The default that the file kept may be a level that the new table does not hold. */
static void check_default(const calibration *c) {
    const float kept = c->engine.heads->default_accuracy;
    bool certified = kept == 0 || c->options->default_accuracy > 0;
    for (size_t i = 0; i < c->n_levels; i++) {
        const exitlm_level *l = &c->levels[i];
        certified |= l->strategy == EXITLM_STRATEGY_RISK && l->certified && l->accuracy >= kept - 1e-6f;
    }
    if (!certified) cli_warn("the file's default level, %g, is certified no more: nothing exits by default; name another with --default", (double)kept);
}

static int calibrate(calibration *c, const char *heads_path) {
    const bool exact = policy(c) == EXITLM_POLICY_EXACT;
    int status = keep_rows(c);
    if (status == CLI_OK) status = choose_path(c);
    if (status == CLI_OK) status = measure_path(c);
    if (status == CLI_OK && (c->options->strategy < 0 || c->options->strategy == EXITLM_STRATEGY_RISK)) status = make_risk_rows(c);
    if (status == CLI_OK && exact && c->options->strategy != EXITLM_STRATEGY_RISK) status = make_paper_rows(c);
    if (status == CLI_OK && c->options->report) status = write_report(c);
    if (status == CLI_OK) status = rewrite(c, heads_path);
    if (status == CLI_OK && c->options->default_accuracy > 0) status = rewrite_default(heads_path, c->options->default_accuracy);
    if (status != CLI_OK) return status;
    printf("risk holds with probability %.3g for conversations like these; the other strategies state the agreement of this sample, without a guarantee\n",
           1 - (double)c->options->delta);
    for (size_t i = c->n_kept; i < c->n_levels; i++) print_row(&c->levels[i], c->engine.heads->n_heads);
    check_default(c);
    return CLI_OK;
}

static int run_calibrate(const cli_call *call) {
    calibrate_options o = *(const calibrate_options *)call->values;
    calibration *c = calloc(1, sizeof *c);
    if (!c) return cli_no_memory("the calibration");
    c->options = &o;
    o.engine.heads = call->operands[1];
    cli_interrupt_catch();
    const uint32_t threads = o.engine.threads;
    const bool only_default = o.default_accuracy > 0 && o.data.n == 0;
    int status = cli_engine_open(&c->engine, call->operands[0], &o.engine, only_default ? CLI_HEADER : CLI_WEIGHTS);
    if (only_default) {
        if (status == CLI_OK) status = rewrite_default(call->operands[1], o.default_accuracy);
        cli_engine_close(&c->engine);
        free(c);
        return status;
    }
    if (status == CLI_OK) status = check_policy(c);
    if (status == CLI_OK) status = read_data(c);
    if (status == CLI_OK && threads > 1) c->pool = xl_pool_create(threads, &xl_libc_allocator);
    if (status == CLI_OK) status = calibrate(c, call->operands[1]);
    xl_pool_free(c->pool);
    measure_free(&c->result);
    dataset_free(&c->data);
    dataset_free(&c->path_data);
    cli_engine_close(&c->engine);
    free(c->levels);
    free(c);
    return status;
}

const cli_command cli_command_calibrate = {
    .name = "calibrate",
    .summary = "thresholds for accuracy levels, with a guarantee, into a heads file",
    .operands = "MODEL HEADS",
    .n_operands = 2,
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .values_bytes = sizeof(calibrate_options),
    .run = run_calibrate,
};
