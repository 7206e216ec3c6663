/* exitlm train: exit heads for a model, from what the model itself says. */
#include <stdio.h>

#include "cli.h"
#include "engine.h"
#include "progress.h"
#include "signals.h"
#include "train/training.h"

typedef struct train_options {
    cli_engine_options engine;
    xl_training_options training;
    const char *out_data;
    cli_texts data;
    cli_counts layers;
    bool only_data, gathered, quiet;
} train_options;

#define AT(field) .offset = offsetof(train_options, field)

static const cli_option options[] = {
    {.name = "output",
     .letter = 'o',
     .kind = CLI_TEXT,
     AT(training.output),
     .value = "HEADS",
     .help = "the heads file to write, NAME.exits.gguf (required)"},
    CLI_HEADLINE("Data"),
    {.name = "data",
     .kind = CLI_TEXTS,
     AT(data),
     .value = "FILE|DIR",
     .help = "conversations to learn from: JSONL of {\"turns\"} (the model answers) or "
             "{\"messages\"}, text files, folders; lines of the split \"train\""},
    {.name = "self-chat",
     .kind = CLI_COUNT,
     AT(training.self_chat),
     .value = "N",
     .min = 0,
     .max = 1000000,
     .fallback = "4000",
     .help = "conversations whose user turn the model invents too"},
    {.name = "answers",
     .kind = CLI_COUNT,
     AT(training.answers),
     .value = "N",
     .min = 1,
     .max = 64,
     .fallback = "6",
     .help = "answers to each conversation of --data: the first greedy, the others sampled"},
    {.name = "reply-tokens",
     .kind = CLI_COUNT,
     AT(training.reply_tokens),
     .value = "N",
     .min = 8,
     .max = 4096,
     .fallback = "96",
     .help = "longest answer"},
    {.name = "out-data",
     .kind = CLI_TEXT,
     AT(out_data),
     .value = "FILE",
     .help = "keep what was learnt from as JSONL"},
    {.name = "cache",
     .kind = CLI_TEXT,
     AT(training.cache),
     .value = "DIR",
     .help = "where hidden states and checkpoints are kept; default: HEADS.cache"},
    {.name = "only-data", .kind = CLI_FLAG, AT(only_data), .help = "stop when the data is there"},
    {.name = "gathered",
     .kind = CLI_FLAG,
     AT(gathered),
     .help = "learn from what an earlier, interrupted run has gathered; gather no more"},
    CLI_HEADLINE("Heads"),
    {.name = "form",
     .kind = CLI_CHOICE,
     AT(training.form),
     .choices = xl_training_forms,
     .help =
         "tied: a residual map and the model's own rows; mlp; full: the paper's; lens: untrained",
     .fallback = "tied"},
    {.name = "layers",
     .kind = CLI_COUNTS,
     AT(layers),
     .value = "L,...",
     .min = 1,
     .max = 4096,
     .help = "layers run before each head, the last may be the model's number of layers "
             "(vocabulary exit); default: chosen by what they earn"},
    {.name = "rows",
     .kind = CLI_COUNT,
     AT(training.rows),
     .value = "N",
     .min = 16,
     .max = 1048576,
     .fallback = "2048",
     .help = "tokens of the shortlist of an inner head"},
    {.name = "vocabulary-rows",
     .kind = CLI_COUNT,
     AT(training.vocabulary_rows),
     .value = "N",
     .min = 16,
     .max = 1048576,
     .fallback = "8192",
     .help = "tokens of the shortlist after the last layer"},
    {.name = "hidden",
     .kind = CLI_COUNT,
     AT(training.hidden),
     .value = "N",
     .min = 8,
     .max = 65536,
     .fallback = "768",
     .help = "width of --form mlp"},
    {.name = "matrix-type",
     .kind = CLI_CHOICE,
     AT(training.matrix_type),
     .choices = xl_training_matrix_types,
     .help = "numbers of the heads' matrices in the file",
     .fallback = "q8_0"},
    {.name = "no-maps",
     .kind = CLI_FLAG,
     AT(training.no_maps),
     .help = "leave out the maps of the K/V policy \"maps\""},
    {.name = "map-tokens",
     .kind = CLI_COUNT,
     AT(training.map_tokens),
     .value = "N",
     .min = 1000,
     .max = 10000000,
     .fallback = "40000",
     .help = "positions that the maps are fitted on"},
    {.name = "licence",
     .kind = CLI_TEXT,
     AT(training.licence),
     .value = "TEXT",
     .help = "licence of the heads; default: the model's"},
    CLI_HEADLINE("Training"),
    {.name = "epochs",
     .kind = CLI_COUNT,
     AT(training.epochs),
     .value = "N",
     .min = 1,
     .max = 1000,
     .fallback = "6",
     .help = "passes over the data"},
    {.name = "batch",
     .kind = CLI_COUNT,
     AT(training.batch),
     .value = "N",
     .min = 16,
     .max = 8192,
     .fallback = "512",
     .help = "positions of a step"},
    {.name = "rate",
     .kind = CLI_NUMBER,
     AT(training.rate),
     .value = "R",
     .min = 1e-6,
     .max = 1,
     .fallback = "0.001",
     .help = "peak learning rate"},
    {.name = "weight-decay",
     .kind = CLI_NUMBER,
     AT(training.weight_decay),
     .value = "D",
     .min = 0,
     .max = 1,
     .fallback = "0.02",
     .help = "of the matrices"},
    {.name = "target-temperature",
     .kind = CLI_NUMBER,
     AT(training.target_temperature),
     .value = "T",
     .min = 0,
     .max = 1,
     .fallback = "0",
     .help = "of the model's distribution that heads learn: 1 as it is, as in the paper; 0 its "
             "choice alone, which exits are judged by"},
    {.name = "probe-tokens",
     .kind = CLI_COUNT,
     AT(training.probe_tokens),
     .value = "N",
     .min = 1000,
     .max = 100000000,
     .fallback = "100000",
     .help = "positions on which candidate layers are tried"},
    {.name = "seed",
     .kind = CLI_SEED,
     AT(training.seed),
     .value = "S",
     .fallback = "1",
     .help = "of data and training; the same seed gives the same file"},
    {.name = "quiet", .letter = 'q', .kind = CLI_FLAG, AT(quiet), .help = "no progress"},
    CLI_HEADLINE("Engine"),
    CLI_ENGINE_OPTIONS(train_options, engine),
};

/* ---- Output ---- */
static void print_choice(const xl_layer_choice *c) {
    printf("at 5 %% disagreement, on held-out conversations (work in shares of a full token, "
           "checks and later K/V included):\n");
    printf("  layer %2u (vocabulary exit) alone: work %.3f\n", c->last, c->alone);
    for (size_t i = 0; i < c->n; i++)
        printf("  layer %2u and the vocabulary exit: work %.3f, coverage of the layer %.3f, check "
               "%.2f layers: earns %+.3f\n",
               c->candidates[i].layer, c->candidates[i].work, c->candidates[i].coverage,
               c->check_layers, c->alone - c->candidates[i].work);
    printf("chosen: work %.3f%s\n", c->work,
           c->work > 0.97 ? "; exits hardly pay on this model" : "");
}

/* ---- The stages ---- */
static int read_data(xl_training *run, const cli_texts *data) {
    exitlm_error error;
    exitlm_status status = EXITLM_OK;
    for (size_t i = 0; i < data->n && status == EXITLM_OK; i++)
        status = xl_dataset_read(&run->data, data->items[i], &error);
    return cli_done(status, &error);
}

static int gather(xl_training *run) {
    exitlm_error error;
    bool complete;
    int status =
        cli_done(xl_gather_run(&run->plan, run->pool, run->observer, &complete, &error), &error);
    if (status != CLI_OK || complete) return status;
    cli_warn("stopped: going on with the data that is there; the same command gathers the rest");
    cli_interrupt_clear();
    return CLI_OK;
}

static int train_heads(xl_training *run) {
    exitlm_error error;
    xl_training_report report;
    int status = cli_done(xl_training_run(run, &report, &error), &error);
    if (report.choice.work > 0) print_choice(&report.choice);
    if (status == CLI_OK && report.n_heads)
        printf("%s: %u heads, %.2f MB; not calibrated yet: run exitlm calibrate\n",
               run->options->output, report.n_heads, (double)report.n_bytes / 1e6);
    return status;
}

static int train(xl_training *run, const train_options *o) {
    exitlm_error error;
    int status = read_data(run, &o->data);
    if (status == CLI_OK) status = cli_done(xl_training_plan(run, &error), &error);
    if (status == CLI_OK && o->engine.threads > 1)
        run->pool = xl_pool_create(o->engine.threads, &xl_libc_allocator);
    if (status == CLI_OK && !o->gathered) status = gather(run);
    if (status == CLI_OK && o->out_data)
        status = cli_done(xl_training_save_data(run, o->out_data, &error), &error);
    if (status == CLI_OK && !o->only_data) status = train_heads(run);
    return status;
}

static int run_train(const cli_call *call) {
    train_options o = *(const train_options *)call->values;
    if (!o.training.output)
        return cli_usage("train: give the heads file to write: -o NAME.exits.gguf");
    o.engine.heads = "none"; /* those beside the model are about to be replaced */
    cli_interrupt_catch();
    cli_engine engine;
    cli_progress progress = {0};
    const xl_observer observer = cli_observer(&progress, o.quiet);
    xl_training run = {.options = &o.training, .observer = &observer};
    int status = cli_engine_open(&engine, call->operands[0], &o.engine, CLI_WEIGHTS);
    if (status == CLI_OK) {
        o.training.layers = o.layers.items;
        o.training.n_layers = o.layers.n;
        o.training.threads = engine.threads;
        o.training.context_tokens = o.engine.ctx;
        o.training.kv_type = (exitlm_kv_type)o.engine.kv_type;
        o.training.kernel = o.engine.kernel;
        run.model = engine.model;
        run.info = engine.info;
        status = train(&run, &o);
    }
    xl_pool_free(run.pool);
    xl_training_free(&run);
    cli_engine_close(&engine);
    return status;
}

const cli_command cli_command_train = {
    .name = "train",
    .summary = "train exit heads for a model, from what it says itself",
    .operands = "MODEL",
    .n_operands = 1,
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .values_bytes = sizeof(train_options),
    .run = run_train,
};
