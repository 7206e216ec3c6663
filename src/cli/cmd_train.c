/* exitlm train: exit heads for a model, from what the model itself says. */
#include <stdio.h>

#include "gathering.h"
#include "platform.h"
#include "run/cost.h"
#include "signals.h"

typedef struct train_options {
    cli_engine_options engine;
    cli_gathering from;
    const char *out_data;
    cli_texts gathered;
    bool only_data;
    bool seed_given;
} train_options;

#define AT(field) offsetof(train_options, field)

static const cli_option options[] = {
    CLI_VALUE(TEXT, 'o', "output", from.training.output, "HEADS", NULL,
              "the heads file to write, NAME.exits.gguf (required)"),
    CLI_HEADLINE("Data"),
    CLI_GATHERING_OPTIONS,
    CLI_VALUE(
        TEXTS, 0, "gathered", gathered, "PART", NULL,
        "learn from the parts of exitlm gather, all shards of one plan in any order; they say "
        "what the options above and --seed would"),
    CLI_VALUE(TEXT, 0, "out-data", out_data, "FILE", NULL, "keep what was learnt from as JSONL"),
    CLI_VALUE(TEXT, 0, "cache", from.training.cache, "DIR", NULL,
              "where hidden states and checkpoints are kept; default: HEADS.cache"),
    CLI_SWITCH(0, "only-data", only_data, "stop when the data is there"),
    CLI_HEADLINE("Heads"),
    CLI_ONE_OF(
        "form", from.training.form, xl_training_forms, "tied",
        "tied: a residual map and the model's own rows; mlp; full: the paper's; lens: untrained"),
    CLI_GATHERING_LAYERS(
        "layers run before each head, the last may be the model's number of layers "
        "(vocabulary exit); default: chosen by what they earn"),
    CLI_RANGE(COUNT, "rows", from.training.rows, "N", 16, 1048576, "2048",
              "tokens of the shortlist of an inner head"),
    CLI_RANGE(COUNTS, "vocabulary-rows", from.vocabulary_rows, "N,...", 16, 1048576, NULL,
              "tokens of the shortlist after the last layer, and of a longer one for where that is "
              "not sure; default: a sixteenth of the vocabulary, at least 8192, and with "
              "--vocabulary-only a quarter of a vocabulary of 131072 or more"),
    CLI_RANGE(COUNT, "hidden", from.training.hidden, "N", 8, 65536, "768", "width of --form mlp"),
    CLI_SWITCH(0, "no-maps", from.training.no_maps,
               "leave out the maps of the K/V policy \"maps\""),
    CLI_RANGE(COUNT, "map-tokens", from.training.map_tokens, "N", 1000, 10000000, "40000",
              "positions that the maps are fitted on"),
    CLI_VALUE(TEXT, 0, "licence", from.training.licence, "TEXT", NULL,
              "licence of the heads; default: the model's"),
    CLI_HEADLINE("Training"),
    CLI_RANGE(COUNT, "epochs", from.training.epochs, "N", 1, 1000, "6", "passes over the data"),
    CLI_RANGE(COUNT, "batch", from.training.batch, "N", 16, 8192, "512", "positions of a step"),
    CLI_RANGE(NUMBER, "rate", from.training.rate, "R", 1e-6, 1, "0.001", "peak learning rate"),
    CLI_RANGE(NUMBER, "target-temperature", from.training.target_temperature, "T", 0, 1, "0",
              "of the model's distribution that heads learn: 1 as it is, as in the paper; 0 its "
              "choice alone, which exits are judged by"),
    CLI_RANGE(COUNT, "probe-tokens", from.training.probe_tokens, "N", 1000, 100000000, "100000",
              "positions on which candidate layers are tried"),
    CLI_GATHERING_SEED("of data and training; the same seed gives the same file"),
    CLI_SWITCH('q', "quiet", from.quiet, "no progress"),
    CLI_HEADLINE("Engine"),
    CLI_EXACT_KV_OPTION,
    CLI_ENGINE_OPTIONS,
};

/* ---- The stages ---- */
#define MOST_WORK 0.97 /* more than that is not worth a check */

/* Says what it takes and what it can bring; declines where that is next to nothing, but not what
 * is asked for by name. */
static int expect(const xl_training *run, const train_options *o) {
    xl_training_prospect p;
    xl_training_expect(run, &p);
    static const char why[] = "exits cannot pay here: a token that leaves where it costs least "
                              "still takes %.3f of the work; name earlier layers with --layers, or "
                              "list fewer tokens with --rows and --vocabulary-rows";
    const bool named = o->from.layers.n && !o->from.training.vocabulary_only;
    if (p.least_work > MOST_WORK && !named) return cli_fail(why, p.least_work);
    if (p.least_work > MOST_WORK) cli_warn(why, p.least_work);
    if (o->from.quiet) return CLI_OK;
    /* weights of 4 bits and a scale for each 32 */
    const double speed = xl_weight_speed(cli_clock_ms) / 0.5625 * o->from.training.threads;
    fprintf(stderr, "a token that leaves takes %.2f of the work or more: %.1fx at best\n",
            p.least_work, 1 / p.least_work);
    if (p.tokens && speed > 0)
        fprintf(stderr,
                "the model is to write up to %zu tokens: some %.0f s, twice that where "
                "the machine is busy; training follows\n",
                p.tokens, p.macs / speed);
    return CLI_OK;
}

static int gather(xl_training *run, const train_options *o) {
    exitlm_error error;
    bool complete = false;
    int status = cli_gathering_plan(&o->from, run);
    if (status == CLI_OK && !o->only_data) status = expect(run, o);
    if (status == CLI_OK) status = cli_done(xl_training_gather(run, &complete, &error), &error);
    if (status != CLI_OK || complete) return status;
    cli_warn("stopped: going on with the data that is there; the same command gathers the rest");
    cli_interrupt_clear();
    return CLI_OK;
}

/* Its seed, too: the heads are those of the same command without parts. */
static int open_gathered(xl_training *run, train_options *o) {
    exitlm_error error;
    const int status =
        cli_done(xl_training_open(run, o->gathered.items, o->gathered.n, &error), &error);
    if (status == CLI_OK && !o->seed_given) o->from.training.seed = run->plan.seed;
    return status == CLI_OK && !o->only_data ? expect(run, o) : status;
}

static int train_heads(xl_training *run) {
    exitlm_error error;
    xl_training_report report;
    int status = cli_done(xl_training_run(run, &report, &error), &error);
    if (report.work > 0)
        printf("chosen: work %.3f of a full token's at 5 %% disagreement, on held-out "
               "conversations%s\n",
               report.work, report.work > MOST_WORK ? "; exits hardly pay on this model" : "");
    if (status == CLI_OK && report.n_heads)
        printf("%s: %u heads, %.2f MB; not calibrated yet: run exitlm calibrate\n",
               run->options->output, report.n_heads, (double)report.n_bytes / 1e6);
    return status;
}

static int train(xl_training *run, void *user) {
    train_options *o = user;
    exitlm_error error;
    int status = o->gathered.n ? open_gathered(run, o) : gather(run, o);
    if (status == CLI_OK && o->out_data)
        status = cli_done(xl_training_save_data(run, o->out_data, &error), &error);
    if (status == CLI_OK && !o->only_data) status = train_heads(run);
    return status;
}

static int check_usage(const cli_call *call, const train_options *o) {
    static const char *const said[] = {"data",         "self-chat", "answers",
                                       "reply-tokens", "ctx",       "kv-type"};
    if (!o->from.training.output)
        return cli_usage("train: give the heads file to write: -o NAME.exits.gguf");
    for (size_t i = 0; o->gathered.n && i < sizeof said / sizeof *said; i++)
        if (cli_given(call, said[i]))
            return cli_usage("train: --gathered: the parts say what --%s does: leave it out",
                             said[i]);
    return CLI_OK;
}

static int run_train(const cli_call *call) {
    train_options o = *(const train_options *)call->values;
    if (check_usage(call, &o) != CLI_OK) return CLI_USAGE;
    o.seed_given = cli_given(call, "seed");
    return cli_gathering_run(call, &o.from, &o.engine, train, &o);
}

const cli_command cli_command_train = {
    .name = "train",
    .summary = "Train exit heads for a model, from what it says itself.",
    .operands = "MODEL",
    .n_operands = 1,
    CLI_OPTIONS(options, train_options),
    .run = run_train,
};
