/* exitlm calibrate: thresholds for accuracy levels, with a guarantee by conversation, into a
 * heads file. */
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "engine.h"
#include "eval_tasks_show.h"
#include "model/heads.h"
#include "platform.h"
#include "progress.h"
#include "signals.h"
#include "train/calibration_parts.h"
#include "train/invent.h"

typedef struct calibrate_options {
    cli_engine_options engine;
    xl_calibration_options calibration;
    cli_texts data;
    uint32_t self_chat;
    const char *shard, *part; /* one share of the work, and where it goes */
    int stage;
    cli_texts merge;
    const char *tasks;
    int kv;
    float default_accuracy; /* 0: as the file has it */
    cli_numbers accuracy;
    bool quiet;
} calibrate_options;

#define AT(field) offsetof(calibrate_options, field)

static const cli_option options[] = {
    CLI_VALUE(TEXTS, 0, "data", data, "FILE|DIR", NULL,
              "conversations as users have them: JSONL of {\"turns\"}, {\"messages\"}, "
              "{\"prompt\"} or {\"text\"}; lines of the split \"calibration\" decide, held-out "
              "lines of \"train\" lay out the path; default: invented by the model"),
    CLI_RANGE(COUNT, "self-chat", self_chat, "N", 0, 100000, "720",
              "conversations, or beginnings of texts, that the model invents where no --data is "
              "given, or beside it where this is"),
    CLI_ONE_OF("strategy", calibration.strategy, xl_strategy_names, NULL,
               "calibrate only this one; default: all"),
    CLI_ONE_OF("metric", calibration.metric, xl_metric_names, NULL,
               "measure of uncertainty; default: the one that saves most on the path's data"),
    CLI_ONE_OF(
        "kv", kv, xl_policy_names + 1, "exact",
        "K/V of skipped layers that the levels are to hold with. This, --kv-type, --temp and "
        "--reply-tokens as they are by default replace all of the table; with any other "
        "rows for such replies are added to it, or replaced (strategy risk)"),
    CLI_RANGE(NUMBER, "temp", calibration.use.temperature, "T", 0, 2, "0",
              "tokens are drawn at this temperature, and compared with what the full model draws "
              "with the same noise; 0: the likeliest"),
    CLI_RANGE(NUMBERS, "accuracy", accuracy, "A,...", 0.6, 0.99, NULL,
              "certify these levels (.60, .65, .70, .75, .80, .85, .90, .95, .97, .98, .99) alone; "
              "default: all"),
    CLI_VALUE(TEXT, 0, "tasks", tasks, "FILE.jsonl", NULL,
              "tasks with checkable answers (tests/data/README.md): the boldest certified level at "
              "which at most one in a hundred fewer come out right than in full becomes the "
              "default; without --data nothing else in the file changes"),
    CLI_RANGE(
        NUMBER, "default", default_accuracy, "A", 0.5, 1, NULL,
        "the certified level that is taken where none is asked for, see eval --tasks; without "
        "--data nothing else in the file changes; "
        "default: the one that the file names, else its strictest"),
    CLI_SWITCH(
        0, "keep-settings", calibration.keep_settings,
        "instead of laying out new settings, test those that the file's rows for such replies "
        "have, or where it has none those for greedy replies with K/V in f32: each level's after "
        "the stricter one's before it; the rest of the table stays"),
    CLI_RANGE(NUMBER, "first-word", calibration.first_word, "X", 1, 10, "1",
              "a reply's first token may be X times as uncertain at the vocabulary exit as the "
              "others, so that it need not wait for the last bytes of a model that loads; the "
              "levels hold with it, but a short answer may be that token (SPEED.md)"),
    CLI_RANGE(
        NUMBER, "delta", calibration.delta, "D", 1e-6, 0.5, "0.05",
        "a level's promise may fail with this probability over the draw of the conversations"),
    CLI_RANGE(COUNT, "reply-tokens", calibration.use.max_tokens, "N", 8, 1024, "96",
              "longest answer; beyond 96 the levels are to hold in each 96 tokens of it, and say "
              "how far they do"),
    CLI_RANGE(COUNT, "batch", calibration.batch, "N", 1, 32, "32",
              "conversations side by side, a thread"),
    CLI_VALUE(SEED, 0, "seed", calibration.seed, "S", "1",
              "the one that train was given: says which lines it held out"),
    CLI_SWITCH('q', "quiet", quiet, "no progress"),
    CLI_HEADLINE("On many machines"),
    CLI_VALUE(
        TEXT, 0, "shard", shard, "I/N", NULL,
        "measure the I-th of N shares of the conversations alone, into the part of -o; the heads "
        "file stays as it is"),
    CLI_VALUE(
        TEXT, 'o', "output", part, "PART", NULL,
        "the part to write; until it is whole it is PART.part, with which the same command goes "
        "on"),
    CLI_VALUE(TEXTS, 0, "merge", merge, "PART", NULL,
              "take the measurements of these parts, all shards in any order; they say what the "
              "options would. With --shard: of the stages before"),
    CLI_ONE_OF(
        "stage", stage, xl_calibration_stages, "levels",
        "with --shard: path and trial share out what each worker of the stage levels measures "
        "for itself where it is not given the parts of these two"),
    CLI_HEADLINE("Engine"),
    CLI_EXACT_KV_OPTION,
    CLI_ENGINE_OPTIONS,
};

/* ---- Data ---- */
static int read_data(xl_calibration *c, const cli_texts *data, uint32_t invented) {
    exitlm_error error;
    exitlm_status status = EXITLM_OK;
    const xl_calibration_options *o = c->options;
    if (data->n == 0)
        cli_warn("no --data: the model invents the conversations; levels then hold for such, not "
                 "for what people write");
    if (invented)
        status = xl_invent(c->model, o->kernel, invented, o->seed + 0x63616c, c->observer, &c->data,
                           &error);
    for (size_t i = 0; i < data->n && status == EXITLM_OK; i++)
        status = xl_dataset_read(&c->data, data->items[i], &error);
    if (status == EXITLM_OK) status = xl_calibration_split(c, &error);
    if (status != EXITLM_OK) return cli_report(&error, NULL);
    if (c->data.n == 0 || (c->path_data.n == 0 && !o->keep_settings))
        return cli_fail("%s: no conversations of the split \"calibration\"",
                        data->n ? data->items[0] : "data");
    if (c->left_out)
        cli_warn("%zu conversation%s left out: empty, or longer than the context", c->left_out,
                 c->left_out == 1 ? " is" : "s are");
    return CLI_OK;
}

/* ---- Output ---- */
static void print_settings(const xl_calibration *c) {
    printf("agreement among the tokens that exit, certified likewise:");
    for (int i = 0; i < XL_LEVELS; i++) {
        const int32_t j = c->exited[i];
        if (j >= 0)
            printf("  %.2f: setting %d (expected work %.3f)", (double)xl_levels[i], j + 1,
                   c->path.expected[j].cost);
    }
    printf("\n");
}

static void print_row(const exitlm_level *l, uint32_t n_heads) {
    printf("  %-13s %.2f  ", xl_strategy_names[l->strategy], (double)l->accuracy);
    if (!l->certified) {
        printf("uncertifiable with %u conversations\n", l->conversations);
        return;
    }
    printf("agreement %.4f", (double)l->agreement);
    if (l->strategy == EXITLM_STRATEGY_RISK) printf(" (>= %.4f)", 1 - (double)l->bound);
    printf("  regret %.5f", (double)l->regret);
    if (l->strategy == EXITLM_STRATEGY_RISK) printf(" (<= %.5f)", (double)l->regret_bound);
    printf("  unwanted %.4f  among exits %.4f  coverage", (double)l->unwanted,
           (double)l->agreement_exited);
    for (uint32_t h = 0; h < n_heads; h++) printf(" %.3f", (double)l->coverage[h]);
    printf("  ");
    cli_print_use(l);
    printf("\n");
}

/* Levels that no setting was laid out for. */
static void print_untried(const xl_calibration *c) {
    const xl_calibration_options *o = c->options;
    const char *before = "  not tried:";
    for (int i = 0; i < XL_LEVELS; i++) {
        bool row = o->strategy > EXITLM_STRATEGY_RISK;
        for (size_t l = c->n_kept; l < c->n_levels; l++)
            row |= c->levels[l].strategy == EXITLM_STRATEGY_RISK &&
                   c->levels[l].accuracy == xl_levels[i];
        if (!row) printf("%s %.2f", before, (double)xl_levels[i]), before = ",";
    }
    if (before[0] == ',') printf("\n");
}

/* The default that the file kept may be a level that the new table does not hold. */
static void check_default(const xl_calibration *c) {
    const float kept = c->heads->default_accuracy;
    bool certified = kept == 0;
    for (size_t i = 0; i < c->n_levels; i++) {
        const exitlm_level *l = &c->levels[i];
        certified |=
            l->strategy == EXITLM_STRATEGY_RISK && l->certified && l->accuracy >= kept - 1e-6f;
    }
    if (!certified)
        cli_warn("the file's default level, %g, is certified no more: nothing exits by default; "
                 "name another with --default",
                 (double)kept);
}

/* ---- Parts ---- */
/* Options that parts have on record: what is named beside --merge has to be the same. */
static const struct {
    const char *name;
    xl_calibration_number number;
} recorded[] = {
    {"metric", XL_CALIBRATED_METRIC},
    {"strategy", XL_CALIBRATED_STRATEGY},
    {"kv", XL_CALIBRATED_KV},
    {"kv-type", XL_CALIBRATED_KV_TYPE},
    {"temp", XL_CALIBRATED_TEMPERATURE},
    {"reply-tokens", XL_CALIBRATED_REPLY_TOKENS},
    {"delta", XL_CALIBRATED_DELTA},
    {"accuracy", XL_CALIBRATED_LEVELS},
    {"seed", XL_CALIBRATED_SEED},
    {"ctx", XL_CALIBRATED_CONTEXT},
    {"first-word", XL_CALIBRATED_FIRST_WORD},
};

/* The options are those of the parts. accuracy [XL_LEVELS] is their list. */
static int take_options(const cli_call *call, calibrate_options *o, float *accuracy) {
    uint32_t theirs[XL_PART_NUMBERS], named[XL_PART_NUMBERS];
    xl_calibration_numbers(&o->calibration, XL_CALIBRATE_LEVELS, named);
    if (!xl_calibration_look(o->merge.items, o->merge.n, theirs)) return CLI_OK; /* refused later */
    for (size_t i = 0; i < sizeof recorded / sizeof *recorded; i++)
        if (cli_given(call, recorded[i].name) &&
            named[recorded[i].number] != theirs[recorded[i].number])
            return cli_usage("calibrate: --%s: the parts were measured with another; leave it out",
                             recorded[i].name);
    xl_calibration_options_of(theirs, &o->calibration, accuracy);
    calibrate_options as_named = *o;
    as_named.kv = (int)o->calibration.kv - 1;
    as_named.engine.kv_type = (int)o->calibration.use.kv_type;
    as_named.engine.ctx = o->calibration.context_tokens;
    for (size_t i = 0; i < sizeof recorded / sizeof *recorded; i++)
        if (!cli_allowed(call, recorded[i].name, &as_named))
            return cli_fail("%s: what it says of --%s is out of range: make it again",
                            o->merge.items[0], recorded[i].name);
    return CLI_OK;
}

static int measure_shard(xl_calibration *c, const calibrate_options *o, const char *heads_path) {
    exitlm_error error;
    xl_shard shard;
    xl_shard_parse(o->shard, &shard);
    const int status = cli_done(
        xl_calibration_shard(c, heads_path, (xl_calibration_stage)o->stage, shard, o->part, &error),
        &error);
    if (status == CLI_OK)
        printf("%s: shard %u/%u of the stage %s\n", o->part, shard.index, shard.of,
               xl_calibration_stages[o->stage]);
    return status;
}

/* ---- The command ---- */
static int measure(xl_calibration *c, const calibrate_options *o) {
    exitlm_error error;
    const double start = cli_clock_ms(NULL);
    int status = CLI_OK;
    if (c->n < 300) cli_warn("%zu conversations certify little: 600 or more are recommended", c->n);
    if (!o->merge.n) status = cli_done(xl_calibration_choose_path(c, &error), &error);
    if (status == CLI_OK && !o->merge.n && !o->quiet && !o->calibration.keep_settings)
        fprintf(stderr, "%zu conversations under %zu settings: about %.0f s, or less\n", c->n,
                c->path.n, (cli_clock_ms(NULL) - start) / 1000 * xl_calibration_rest(c));
    return status == CLI_OK ? cli_done(xl_calibration_measure(c, &error), &error) : status;
}

static int calibrate(xl_calibration *c, const calibrate_options *o, const char *heads_path) {
    exitlm_error error;
    int status = measure(c, o);
    if (status == CLI_OK) status = cli_done(xl_calibration_make_levels(c, &error), &error);
    if (status != CLI_OK) return status;
    if (!o->calibration.keep_settings && o->calibration.strategy <= EXITLM_STRATEGY_RISK)
        print_settings(c);
    status = cli_done(xl_calibration_write(c, heads_path, &error), &error);
    if (status != CLI_OK) return status;
    printf("risk holds with probability %.3g for conversations like these; the other strategies "
           "state the agreement of this sample, "
           "without a guarantee\n",
           1 - (double)o->calibration.delta);
    for (size_t i = c->n_kept; i < c->n_levels; i++) print_row(&c->levels[i], c->heads->n_heads);
    print_untried(c);
    if (o->default_accuracy == 0 && !o->tasks) check_default(c);
    return CLI_OK;
}

/* Levels that are certified with this K/V type, strict first. */
static size_t certified_levels(const exitlm_heads *heads, exitlm_kv_type kv_type, float *accuracy) {
    size_t n = 0;
    for (int i = XL_LEVELS; i-- > 0;) {
        bool certified = false;
        for (size_t l = 0; l < heads->n_levels; l++)
            certified |= heads->levels[l].strategy == EXITLM_STRATEGY_RISK &&
                         heads->levels[l].certified && heads->levels[l].kv_type == kv_type &&
                         xl_level_wanted(&heads->levels[l].accuracy, 1, xl_levels[i]);
        if (certified) accuracy[n++] = xl_levels[i];
    }
    return n;
}

/* The level that the tasks allow: *accuracy. */
static int choose_by_tasks(const cli_engine *engine, const calibrate_options *o,
                           const xl_observer *observer, float *accuracy) {
    float levels[XL_LEVELS];
    const xl_task_options options = {
        .strategy = EXITLM_STRATEGY_RISK,
        .max_tokens = XL_TASK_TOKENS,
        .accuracy = levels,
        .n_levels = certified_levels(engine->heads, (exitlm_kv_type)o->engine.kv_type, levels)};
    exitlm_error error;
    xl_tasks tasks = {0};
    if (options.n_levels == 0)
        return cli_fail("%s: has no certified level to choose from", engine->heads_file);
    int status = cli_done(xl_tasks_read(&tasks, o->tasks, &error), &error);
    if (status == CLI_OK)
        status =
            cli_done(xl_tasks_run(&tasks, engine->session, &options, observer, &error), &error);
    if (status == CLI_OK) {
        const size_t boldest = xl_tasks_boldest(&tasks, 1);
        cli_tasks_show(&tasks, o->tasks, options.max_tokens);
        *accuracy = levels[boldest ? boldest - 1 : 0];
        if (!boldest)
            cli_warn("no certified level keeps the right answers within a point of full: the "
                     "strictest, %g, becomes the default",
                     (double)*accuracy);
        else printf("the default level is %g\n", (double)*accuracy);
    }
    xl_tasks_free(&tasks);
    return status;
}

/* Names the default level, and leaves all else: for one that is given the model is only looked
 * at. */
static int set_default(const cli_call *call, const calibrate_options *o,
                       const xl_observer *observer) {
    cli_engine engine;
    exitlm_error error;
    float accuracy = o->default_accuracy;
    int status = cli_engine_open(&engine, call->operands[0], &o->engine,
                                 o->tasks ? CLI_SESSION : CLI_HEADER);
    if (status == CLI_OK && o->tasks) status = choose_by_tasks(&engine, o, observer, &accuracy);
    if (status == CLI_OK)
        status = cli_done(xl_heads_set_default(call->operands[1], accuracy, &error), &error);
    cli_engine_close(&engine);
    return status;
}

/* The data, and what the parts hold. */
static int gather_what_is_there(xl_calibration *c, const calibrate_options *o,
                                const char *heads_path) {
    exitlm_error error;
    int status = CLI_OK;
    if (o->shard || !o->merge.n || o->data.n) status = read_data(c, &o->data, o->self_chat);
    if (status != CLI_OK || !o->merge.n) return status;
    status = cli_done(xl_calibration_take_parts(c, heads_path, o->merge.items, o->merge.n, &error),
                      &error);
    if (status == CLI_OK && !o->shard && c->given[XL_CALIBRATE_LEVELS].n_items == 0)
        return cli_fail("%s: the parts of the stage levels are missing: give these to --shard I/N "
                        "--merge",
                        o->merge.items[0]);
    return status;
}

static int check_usage(const calibrate_options *o) {
    xl_shard shard;
    if (o->default_accuracy > 0 && o->tasks)
        return cli_usage(
            "calibrate: --default and --tasks both name the default: give one of them");
    if (!o->shard != !o->part) return cli_usage("calibrate: --shard I/N and -o PART go together");
    if (o->shard && !xl_shard_parse(o->shard, &shard))
        return cli_usage("calibrate: --shard: \"%.40s\" is not as 3/8: one of how many", o->shard);
    if (o->shard && (o->default_accuracy > 0 || o->tasks))
        return cli_usage("calibrate: --default and --tasks are for the heads file, which --shard "
                         "leaves as it is");
    if (o->calibration.keep_settings && (o->shard || o->merge.n))
        return cli_usage("calibrate: --keep-settings takes no parts: it measures little");
    if (o->calibration.keep_settings && o->calibration.first_word > 1)
        return cli_usage("calibrate: --first-word is for settings that are laid out, and "
                         "--keep-settings keeps the file's");
    if (!o->shard && o->stage != XL_CALIBRATE_LEVELS)
        return cli_usage("calibrate: --stage is for --shard");
    return CLI_OK;
}

static int run_all(const cli_call *call, calibrate_options *o, xl_calibration *c) {
    exitlm_error error;
    const char *heads_path = call->operands[1];
    int status = cli_done(xl_calibration_check(c, &error), &error);
    if (status == CLI_OK) status = gather_what_is_there(c, o, heads_path);
    if (status != CLI_OK) return status;
    return o->shard ? measure_shard(c, o, heads_path) : calibrate(c, o, heads_path);
}

static int run_calibrate(const cli_call *call) {
    calibrate_options o = *(const calibrate_options *)call->values;
    float accuracy[XL_LEVELS];
    o.engine.heads = call->operands[1];
    const bool names_default = o.default_accuracy > 0 || o.tasks;
    cli_progress progress = {0};
    const xl_observer observer = cli_observer(&progress, o.quiet);
    if (check_usage(&o) != CLI_OK) return CLI_USAGE;
    cli_interrupt_catch();
    if (names_default && o.data.n == 0 && o.merge.n == 0) return set_default(call, &o, &observer);
    xl_calibration *c = calloc(1, sizeof *c);
    if (!c) return cli_no_memory("the calibration");
    cli_engine engine;
    if (o.data.n && !cli_given(call, "self-chat")) o.self_chat = 0;
    o.calibration.kv = (exitlm_kv_policy)(o.kv + 1);
    o.calibration.accuracy = o.accuracy.items;
    o.calibration.n_accuracy = o.accuracy.n;
    o.calibration.context_tokens = o.engine.ctx;
    o.calibration.use.kv_type = (exitlm_kv_type)o.engine.kv_type;
    o.calibration.kernel = o.engine.kernel;
    int status = o.merge.n ? take_options(call, &o, accuracy) : CLI_OK;
    if (status != CLI_OK) {
        free(c);
        return status;
    }
    status = cli_engine_open(&engine, call->operands[0], &o.engine, CLI_WEIGHTS);
    c->options = &o.calibration;
    c->model = engine.model;
    c->heads = engine.heads;
    c->observer = &observer;
    if (status == CLI_OK && o.engine.threads > 1)
        c->pool = xl_pool_create(o.engine.threads, &xl_libc_allocator);
    if (status == CLI_OK) status = run_all(call, &o, c);
    xl_pool_free(c->pool);
    xl_calibration_free(c);
    cli_engine_close(&engine);
    free(c);
    return status == CLI_OK && names_default ? set_default(call, &o, &observer) : status;
}

const cli_command cli_command_calibrate = {
    .name = "calibrate",
    .summary = "Certify thresholds for accuracy levels, with a guarantee, into a heads file.",
    .operands = "MODEL HEADS",
    .n_operands = 2,
    CLI_OPTIONS(options, calibrate_options),
    .run = run_calibrate,
};
