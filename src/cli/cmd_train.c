/* exitlm train: exit heads for a model, from what the model itself says. */
#include <stdio.h>

#include "cli.h"
#include "engine.h"
#include "platform.h"
#include "progress.h"
#include "run/cost.h"
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

#define AT(field) offsetof(train_options, field)

static const cli_option options[] = {
    CLI_VALUE(TEXT, 'o', "output", training.output, "HEADS", NULL,
              "the heads file to write, NAME.exits.gguf (required)"),
    CLI_HEADLINE("Data"),
    CLI_VALUE(TEXTS, 0, "data", data, "FILE|DIR", NULL,
              "conversations to learn from: JSONL of {\"turns\"} (the model answers), "
              "{\"messages\"}, {\"prompt\"} (the model goes on with the text) or {\"text\"}, text "
              "files, folders; lines of the split \"train\""),
    CLI_RANGE(COUNT, "self-chat", training.self_chat, "N", 0, 1000000, "4000",
              "conversations whose user turn the model invents too, or, where it has no chat "
              "template, texts that it begins itself"),
    CLI_RANGE(COUNT, "answers", training.answers, "N", 1, 64, "6",
              "answers to each conversation of --data: the first greedy, the others sampled"),
    CLI_RANGE(COUNT, "reply-tokens", training.reply_tokens, "N", 8, 4096, "96", "longest answer"),
    CLI_VALUE(TEXT, 0, "out-data", out_data, "FILE", NULL, "keep what was learnt from as JSONL"),
    CLI_VALUE(TEXT, 0, "cache", training.cache, "DIR", NULL,
              "where hidden states and checkpoints are kept; default: HEADS.cache"),
    CLI_SWITCH(0, "only-data", only_data, "stop when the data is there"),
    CLI_SWITCH(0, "gathered", gathered,
               "learn from what an earlier, interrupted run has gathered; gather no more"),
    CLI_HEADLINE("Heads"),
    CLI_SWITCH(0, "vocabulary-only", training.vocabulary_only,
               "the exit after the last layer alone, which scores a shortlist instead of the whole "
               "vocabulary, from little data: minutes. For models whose vocabulary is most of the "
               "work; --self-chat is 400 then, --probe-tokens 20000"),
    CLI_ONE_OF(
        "form", training.form, xl_training_forms, "tied",
        "tied: a residual map and the model's own rows; mlp; full: the paper's; lens: untrained"),
    CLI_RANGE(COUNTS, "layers", layers, "L,...", 1, 4096, NULL,
              "layers run before each head, the last may be the model's number of layers "
              "(vocabulary exit); default: chosen by what they earn"),
    CLI_RANGE(COUNT, "rows", training.rows, "N", 16, 1048576, "2048",
              "tokens of the shortlist of an inner head"),
    CLI_RANGE(COUNT, "vocabulary-rows", training.vocabulary_rows, "N", 16, 1048576, NULL,
              "tokens of the shortlist after the last layer; default: a sixteenth of the "
              "vocabulary, at least 8192"),
    CLI_RANGE(COUNT, "hidden", training.hidden, "N", 8, 65536, "768", "width of --form mlp"),
    CLI_SWITCH(0, "no-maps", training.no_maps, "leave out the maps of the K/V policy \"maps\""),
    CLI_RANGE(COUNT, "map-tokens", training.map_tokens, "N", 1000, 10000000, "40000",
              "positions that the maps are fitted on"),
    CLI_VALUE(TEXT, 0, "licence", training.licence, "TEXT", NULL,
              "licence of the heads; default: the model's"),
    CLI_HEADLINE("Training"),
    CLI_RANGE(COUNT, "epochs", training.epochs, "N", 1, 1000, "6", "passes over the data"),
    CLI_RANGE(COUNT, "batch", training.batch, "N", 16, 8192, "512", "positions of a step"),
    CLI_RANGE(NUMBER, "rate", training.rate, "R", 1e-6, 1, "0.001", "peak learning rate"),
    CLI_RANGE(NUMBER, "target-temperature", training.target_temperature, "T", 0, 1, "0",
              "of the model's distribution that heads learn: 1 as it is, as in the paper; 0 its "
              "choice alone, which exits are judged by"),
    CLI_RANGE(COUNT, "probe-tokens", training.probe_tokens, "N", 1000, 100000000, "100000",
              "positions on which candidate layers are tried"),
    CLI_VALUE(SEED, 0, "seed", training.seed, "S", "1",
              "of data and training; the same seed gives the same file"),
    CLI_SWITCH('q', "quiet", quiet, "no progress"),
    CLI_HEADLINE("Engine"),
    CLI_ENGINE_OPTIONS,
};

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
    if (report.work > 0)
        printf("chosen: work %.3f of a full token's at 5 %% disagreement, on held-out "
               "conversations%s\n",
               report.work, report.work > 0.97 ? "; exits hardly pay on this model" : "");
    if (status == CLI_OK && report.n_heads)
        printf("%s: %u heads, %.2f MB; not calibrated yet: run exitlm calibrate\n",
               run->options->output, report.n_heads, (double)report.n_bytes / 1e6);
    return status;
}

/* What is given by name stays. */
static void choose_vocabulary_only(const cli_call *call, train_options *o, uint32_t layers) {
    xl_training_options *t = &o->training;
    o->layers = (cli_counts){.items = {layers}, .n = 1};
    t->no_maps = true;
    if (!cli_given(call, "self-chat")) t->self_chat = 400;
    if (!cli_given(call, "probe-tokens")) t->probe_tokens = 20000;
}

#define MOST_WORK 0.97 /* more than that is not worth a check */

/* Says what it takes and what it can bring; declines where that is next to nothing, but not what
 * is asked for by name. */
static int expect(const xl_training *run, const train_options *o) {
    xl_training_prospect p;
    xl_training_expect(run, &p);
    static const char why[] = "exits cannot pay here: a token that leaves where it costs least "
                              "still takes %.3f of the work; name earlier layers with --layers, or "
                              "list fewer tokens with --rows and --vocabulary-rows";
    const bool named = o->layers.n && !o->training.vocabulary_only;
    if (p.least_work > MOST_WORK && !named) return cli_fail(why, p.least_work);
    if (p.least_work > MOST_WORK) cli_warn(why, p.least_work);
    if (o->quiet) return CLI_OK;
    /* weights of 4 bits and a scale for each 32 */
    const double speed = xl_weight_speed(cli_clock_ms) / 0.5625 * o->training.threads;
    fprintf(stderr, "a token that leaves takes %.2f of the work or more: %.1fx at best\n",
            p.least_work, 1 / p.least_work);
    if (p.tokens && speed > 0 && !o->gathered)
        fprintf(stderr,
                "the model is to write up to %zu tokens: some %.0f s, twice that where "
                "the machine is busy; training follows\n",
                p.tokens, p.macs / speed);
    return CLI_OK;
}

static int train(xl_training *run, const train_options *o) {
    exitlm_error error;
    int status = read_data(run, &o->data);
    if (status == CLI_OK) status = cli_done(xl_training_plan(run, &error), &error);
    if (status == CLI_OK && !o->only_data) status = expect(run, o);
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
    if (o.training.vocabulary_only && o.layers.n)
        return cli_usage("train: --vocabulary-only names the layer: leave out --layers");
    o.engine.heads = "none"; /* those beside the model are about to be replaced */
    cli_interrupt_catch();
    cli_engine engine;
    cli_progress progress = {0};
    const xl_observer observer = cli_observer(&progress, o.quiet);
    xl_training run = {.options = &o.training, .observer = &observer};
    int status = cli_engine_open(&engine, call->operands[0], &o.engine, CLI_WEIGHTS);
    if (status == CLI_OK) {
        if (o.training.vocabulary_only) choose_vocabulary_only(call, &o, engine.info.layers);
        if (!o.training.vocabulary_rows)
            o.training.vocabulary_rows =
                engine.info.vocab / 16 > 8192 ? engine.info.vocab / 16 : 8192;
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
    CLI_OPTIONS(options, train_options),
    .run = run_train,
};
