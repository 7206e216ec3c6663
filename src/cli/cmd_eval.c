/* exitlm eval: what a heads file does on text that it has not seen. */
#include <stdlib.h>
#include <string.h>

#include "eval.h"
#include "eval_tasks.h"
#include "invent.h"
#include "base/ndjson.h"
#include "reply/session.h"
#include "signals.h"

#define AT(field) .offset = offsetof(eval_options, field)

static const cli_option options[] = {
    {.name = "data", .kind = CLI_TEXTS, AT(data), .value = "FILE|DIR",
     .help = "conversations that the heads have not seen: JSONL of {\"turns\"} (the engine answers) or {\"messages\"} (their assistant turns are the text); "
             "lines of the split \"test\" and lines without a split; default: invented by the model"},
    {.name = "tasks", .kind = CLI_TEXT, AT(tasks), .value = "FILE.jsonl",
     .help = "instead of conversations, tasks with checkable answers, {\"id\", \"turns\", \"answer\"} a line (tests/data/README.md): how many are right in full "
             "and at each level, greedy"},
    {.name = "strategy", .kind = CLI_CHOICE, AT(strategy), .choices = cli_strategies, .help = "rows of this strategy alone"},
    {.name = "kv", .kind = CLI_CHOICE, AT(kv), .choices = cli_kv_policies, .help = "rows calibrated with this K/V policy alone"},
    {.name = "accuracy", .kind = CLI_NUMBERS, AT(accuracy), .value = "A,...", .min = 0.5, .max = 1, .help = "rows of these levels alone; of tasks 0.99,0.98,0.95,0.9"},
    {.name = "reply-tokens", .kind = CLI_COUNT, AT(reply_tokens), .value = "N", .min = 8, .max = 1024, .help = "longest answer; default: 96, to a task 48"},
    {.name = "batch", .kind = CLI_COUNT, AT(batch), .value = "N", .min = 1, .max = 32, .fallback = "32", .help = "conversations side by side, a thread"},
    {.name = "speed", .kind = CLI_COUNT, AT(speed), .value = "N", .min = 0, .max = 10000, .fallback = "8",
     .help = "conversations on which decode speed is measured against full, interleaved; 0: not"},
    {.name = "reps", .kind = CLI_COUNT, AT(reps), .value = "R", .min = 1, .max = 15, .fallback = "3", .help = "repetitions of it; medians are reported"},
    {.name = "calibration", .kind = CLI_TEXT, AT(calibration), .value = "FILE", .help = "the report of the calibration: re-splits of both sets are tested"},
    {.name = "resplits", .kind = CLI_COUNT, AT(resplits), .value = "N", .min = 1, .max = 100000, .fallback = "1000", .help = "how many"},
    {.name = "plot", .kind = CLI_TEXT, AT(plot), .value = "FILE.svg", .help = "risk-coverage curve and depth histogram as a picture"},
    {.name = "json", .kind = CLI_FLAG, AT(json), .help = "one JSON object"},
    {.name = "quiet", .letter = 'q', .kind = CLI_FLAG, AT(quiet), .help = "no progress"},
    CLI_ENGINE_OPTIONS(eval_options, engine),
};

/* ---- Output ---- */
static void json_row(ndjson *j, const eval_row *r, uint32_t n_heads, size_t conversations) {
    xl_nd_object(j, NULL);
    xl_nd_string(j, "strategy", cli_strategies[r->level.strategy]);
    xl_nd_string(j, "kv", cli_kv_policies[r->level.kv]);
    xl_nd_float(j, "accuracy", r->level.accuracy);
    xl_nd_bool(j, "certified", r->level.certified);
    xl_nd_array(j, "coverage");
    for (uint32_t h = 0; h < n_heads; h++) xl_nd_double(j, NULL, r->coverage[h]);
    xl_nd_end(j);
    xl_nd_double(j, "agreement", r->agreement);
    xl_nd_double(j, "agreement_exited", r->agreement_exited);
    xl_nd_double(j, "mean_depth", r->mean_depth);
    xl_nd_double(j, "mean_work", r->mean_work);
    if (r->speedup >= 0) xl_nd_double(j, "speedup", r->speedup);
    else xl_nd_null(j, "speedup");
    xl_nd_double(j, "expected_speedup", r->mean_work > 0 ? 1 / r->mean_work : 1);
    xl_nd_uint(j, "conversations", conversations);
    xl_nd_bool(j, "holds", r->holds);
    xl_nd_double(j, "common_prefix", r->common_prefix);
    xl_nd_double(j, "perplexity", r->perplexity);
    xl_nd_double(j, "repetition", r->repetition);
    xl_nd_end(j);
}

static void json_heads(ndjson *j, const eval_run *run) {
    const exitlm_heads_info *info = &run->engine.heads_info;
    xl_nd_array(j, "heads");
    for (uint32_t h = 0; h < info->n_heads; h++) {
        xl_nd_object(j, NULL);
        xl_nd_uint(j, "layer", info->head[h].layer);
        xl_nd_string(j, "form", info->head[h].form);
        xl_nd_uint(j, "rows", info->head[h].rows);
        xl_nd_double(j, "agreement", run->head_agreement[h]);
        xl_nd_end(j);
    }
    xl_nd_end(j);
}

static void print_json(const eval_run *run) {
    ndjson j = xl_nd_to(stdout);
    xl_nd_object(&j, NULL);
    xl_nd_string(&j, "type", "eval");
    xl_nd_string(&j, "model", run->engine.info.name);
    xl_nd_string(&j, "metric", cli_metrics[run->engine.heads->metric]);
    xl_nd_uint(&j, "conversations", run->data.n);
    xl_nd_uint(&j, "tokens", run->tokens);
    json_heads(&j, run);
    xl_nd_object(&j, "full");
    xl_nd_double(&j, "perplexity", run->full_perplexity);
    xl_nd_double(&j, "repetition", run->full_repetition);
    xl_nd_end(&j);
    xl_nd_array(&j, "levels");
    for (size_t i = 0; i < run->n_rows; i++) json_row(&j, &run->rows[i], run->engine.heads->n_heads, run->data.n);
    xl_nd_end(&j);
    xl_nd_array(&j, "resplits");
    for (size_t i = 0; i < run->n_resplits; i++) {
        const eval_resplit *r = &run->resplits[i];
        xl_nd_object(&j, NULL);
        xl_nd_float(&j, "accuracy", r->accuracy);
        xl_nd_float(&j, "delta", r->delta);
        xl_nd_uint(&j, "splits", r->splits);
        xl_nd_uint(&j, "misses", r->misses);
        xl_nd_uint(&j, "uncertified", r->uncertified);
        xl_nd_double(&j, "expected_work", r->mean_work);
        xl_nd_end(&j);
    }
    xl_nd_end(&j);
    xl_nd_end(&j);
}

static void print_rows(const eval_run *run) {
    const uint32_t n_heads = run->engine.heads->n_heads;
    printf("strategy      level  agreement  exits   depth  work   speed  prefix  ppl    repeat  coverage; K/V\n");
    for (size_t i = 0; i < run->n_rows; i++) {
        const eval_row *r = &run->rows[i];
        printf("%-13s %.2f   %.4f     %.4f  %.3f  %.3f  ", cli_strategies[r->level.strategy], (double)r->level.accuracy, r->agreement, r->agreement_exited, r->mean_depth, r->mean_work);
        if (r->speedup >= 0) printf("%.2fx  ", r->speedup);
        else printf("  -    ");
        printf("%5.1f   %.3f  %.3f  ", r->common_prefix, r->perplexity, r->repetition);
        for (uint32_t h = 0; h < n_heads; h++) printf(" %.3f", r->coverage[h]);
        printf("  %s%s%s\n", cli_kv_policies[r->level.kv], r->level.certified ? "" : "  uncertifiable", r->holds ? "" : "  DOES NOT HOLD");
    }
}

static void print_text(const eval_run *run) {
    const exitlm_heads_info *info = &run->engine.heads_info;
    printf("%zu conversations, %zu tokens of the full model (perplexity to itself %.3f, repetition %.3f)\n", run->data.n, run->tokens, run->full_perplexity,
           run->full_repetition);
    for (uint32_t h = 0; h < info->n_heads; h++)
        printf("head %u: layer %u, %s, %u rows: agrees with the model in %.3f\n", h, info->head[h].layer, info->head[h].form, info->head[h].rows, run->head_agreement[h]);
    print_rows(run);
    for (size_t i = 0; i < run->n_resplits; i++) {
        const eval_resplit *r = &run->resplits[i];
        printf("re-splits: accuracy %.2f at delta %.2f missed in %.1f %% of %u, uncertified in %.1f %%, expected work %.3f\n", (double)r->accuracy, (double)r->delta,
               100.0 * r->misses / r->splits, r->splits, 100.0 * r->uncertified / r->splits, r->mean_work);
    }
}

static int read_data(eval_run *run) {
    const cli_texts *data = &run->options->data;
    int status = CLI_OK;
    if (data->n == 0) {
        cli_warn("no --data: the model invents the conversations");
        status = invent_conversations(&run->engine, run->options->engine.kernel, 300, 0x6576616c, run->options->quiet, &run->data);
    }
    for (size_t i = 0; i < data->n && status == CLI_OK; i++) status = dataset_read(&run->data, data->items[i]);
    dataset_keep(&run->data, DATASET_TEST);
    if (status == CLI_OK && run->data.n == 0) status = cli_fail("%s: no conversations of the split \"test\"", data->n ? data->items[0] : "data");
    return status;
}

static int evaluate(eval_run *run) {
    int status = eval_list_rows(run);
    if (status == CLI_OK && run->options->calibration) status = eval_measure_resplits(run);
    if (status == CLI_OK) status = eval_measure_rows(run);
    if (status == CLI_OK && run->options->speed) status = eval_measure_speed(run);
    if (status == CLI_OK && run->options->plot) status = eval_write_plot(run, run->options->plot);
    if (status != CLI_OK) return status;
    run->options->json ? print_json(run) : print_text(run);
    for (size_t i = 0; i < run->n_rows; i++)
        if (!run->rows[i].holds) status = CLI_FAILED;
    return status;
}

/* ---- Tasks ---- */
static int run_tasks(const cli_call *call, const eval_options *o) {
    static const float usual[] = {0.99f, 0.98f, 0.95f, 0.90f};
    const bool own = o->accuracy.n > 0;
    const eval_task_options options = {.strategy = o->strategy < 0 ? EXITLM_STRATEGY_RISK : (exitlm_strategy)o->strategy, .kv = o->kv,
                                       .max_tokens = o->reply_tokens ? o->reply_tokens : 48, .quiet = o->quiet};
    cli_engine engine = {0};
    eval_tasks tasks = {0};
    if (o->data.n) return cli_usage("eval: --data and --tasks are two evaluations: give one of them");
    cli_interrupt_catch();
    int status = eval_tasks_read(&tasks, o->tasks);
    if (status == CLI_OK) status = cli_engine_open(&engine, call->operands[0], &o->engine, CLI_SESSION);
    if (status == CLI_OK && !engine.heads->n_levels) status = cli_fail("%s: is not calibrated: run exitlm calibrate first", engine.heads_file);
    if (status == CLI_OK)
        status = eval_tasks_run(&tasks, &engine, own ? o->accuracy.items : usual, own ? o->accuracy.n : sizeof usual / sizeof *usual, &options);
    if (status == CLI_OK && o->json) eval_tasks_json(&tasks, engine.info.name, o->tasks, options.max_tokens);
    else if (status == CLI_OK) eval_tasks_show(&tasks, o->tasks, options.max_tokens);
    eval_tasks_free(&tasks);
    cli_engine_close(&engine);
    return status;
}

static int run_eval(const cli_call *call) {
    eval_options o = *(const eval_options *)call->values;
    eval_run run = {.options = &o};
    o.engine.heads = call->operands[1];
    if (o.tasks) return run_tasks(call, &o);
    if (!o.reply_tokens) o.reply_tokens = 96;
    const uint32_t threads = o.engine.threads;
    o.engine.threads = 1; /* speed is measured on one; conversations share the others */
    cli_interrupt_catch();
    int status = cli_engine_open(&run.engine, call->operands[0], &o.engine, CLI_WEIGHTS);
    if (status == CLI_OK) status = read_data(&run);
    if (status == CLI_OK && threads > 1) run.pool = xl_pool_create(threads, &xl_libc_allocator);
    if (status == CLI_OK) status = evaluate(&run);
    xl_pool_free(run.pool);
    measure_result record = {.record = run.record};
    measure_free(&record);
    free(run.rows);
    dataset_free(&run.data);
    cli_engine_close(&run.engine);
    return status;
}

const cli_command cli_command_eval = {
    .name = "eval",
    .summary = "what a heads file does on text that it has not seen",
    .operands = "MODEL HEADS",
    .n_operands = 2,
    .notes = "Exit status 1 where a level does not hold: where a one-sided test at 95 % rejects that the\nexpected disagreement is within it.",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .values_bytes = sizeof(eval_options),
    .run = run_eval,
};
