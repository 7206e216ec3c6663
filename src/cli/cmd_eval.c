/* exitlm eval: what a heads file does on text that it has not seen. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/ndjson.h"
#include "cli.h"
#include "engine.h"
#include "eval_plot.h"
#include "eval_tasks_show.h"
#include "progress.h"
#include "signals.h"
#include "train/invent.h"

typedef struct eval_options {
    cli_engine_options engine;
    xl_eval_options eval;
    cli_texts data;
    uint32_t self_chat;
    const char *tasks, *plot;
    cli_numbers accuracy;
    int kv;
    bool json, quiet;
} eval_options;

#define AT(field) offsetof(eval_options, field)

static const cli_option options[] = {
    CLI_VALUE(
        TEXTS, 0, "data", data, "FILE|DIR", NULL,
        "conversations that the heads have not seen: JSONL of {\"turns\"} (the engine answers), "
        "{\"messages\"} (their assistant turns are the text), {\"prompt\"} (it goes on) or "
        "{\"text\"}; lines of the split \"test\" and lines without a split; default: invented by "
        "the model"),
    CLI_RANGE(COUNT, "self-chat", self_chat, "N", 1, 100000, "300",
              "conversations, or beginnings of texts, that the model invents where no --data is "
              "given"),
    CLI_VALUE(TEXT, 0, "tasks", tasks, "FILE.jsonl", NULL,
              "instead of conversations, tasks with checkable answers, {\"id\", \"turns\", "
              "\"answer\"} a line (tests/data/README.md): how many are right in full "
              "and at each level, greedy"),
    CLI_ONE_OF("strategy", eval.strategy, xl_strategy_names, NULL, "rows of this strategy alone"),
    CLI_ONE_OF("kv", kv, xl_policy_names, "auto",
               "rows calibrated with this K/V policy alone; auto: all"),
    CLI_RANGE(NUMBERS, "accuracy", accuracy, "A,...", 0.5, 1, NULL,
              "rows of these levels alone; of tasks 0.99,0.98,0.95,0.9"),
    CLI_RANGE(COUNT, "reply-tokens", eval.reply_tokens, "N", 8, 1024, NULL,
              "longest answer; default: the row's, to a task 48"),
    CLI_RANGE(COUNT, "batch", eval.batch, "N", 1, 32, "32", "conversations side by side, a thread"),
    CLI_RANGE(
        COUNT, "speed", eval.speed, "N", 0, 10000, "8",
        "conversations on which decode speed is measured against full, interleaved; rows of the "
        "strategy risk where --strategy names no other; 0: not"),
    CLI_RANGE(COUNT, "reps", eval.reps, "R", 1, 15, "3", "repetitions of it; medians are reported"),
    CLI_VALUE(TEXT, 0, "plot", plot, "FILE.svg", NULL,
              "risk and coverage of each head, and the levels, as a picture"),
    CLI_SWITCH(0, "json", json, "one JSON object"),
    CLI_SWITCH('q', "quiet", quiet, "no progress"),
    CLI_REPLY_KV_OPTION,
    CLI_ENGINE_OPTIONS,
};

typedef struct evaluation {
    const eval_options *options;
    cli_engine engine;
    xl_eval_run run;
} evaluation;

/* ---- Output ---- */
static void json_row(ndjson *j, const xl_eval_row *r, uint32_t n_heads, size_t conversations) {
    xl_nd_put(
        j,
        "{ strategy=%s kv=%s kv_type=%s temperature=%f max_tokens=%u accuracy=%f certified?%d "
        "coverage=[",
        xl_strategy_names[r->level.strategy], xl_policy_names[r->level.kv],
        xl_kv_type_names[r->level.kv_type], r->level.temperature, r->level.max_tokens,
        r->level.accuracy, r->level.certified);
    for (uint32_t h = 0; h < n_heads; h++) xl_nd_put(j, "%g", r->means.coverage[h]);
    xl_nd_put(j,
              "] agreement=%g agreement_exited=%g regret=%g unwanted=%g mean_depth=%g mean_work=%g",
              r->means.agreement, r->means.agreement_exited, r->means.regret, r->means.unwanted,
              r->means.mean_depth, r->means.mean_work);
    xl_nd_put(
        j,
        "speedup=%g expected_speedup=%g conversations=%zu holds?%d common_prefix=%g perplexity=%g "
        "repetition=%g }",
        r->speedup < 0 ? NAN : r->speedup, r->means.mean_work > 0 ? 1 / r->means.mean_work : 1,
        conversations, r->holds, r->means.common_prefix, r->means.perplexity, r->means.repetition);
}

static void json_heads(ndjson *j, const evaluation *e) {
    const exitlm_heads_info *info = &e->engine.heads_info;
    xl_nd_put(j, "heads=[");
    for (uint32_t h = 0; h < info->n_heads; h++) {
        xl_nd_put(j, "{ layer=%u form=%s rows=%u agreement=%g }", info->head[h].layer,
                  info->head[h].form, info->head[h].rows, e->run.head_agreement[h]);
    }
    xl_nd_put(j, "]");
}

static void print_json(const evaluation *e) {
    ndjson j = xl_nd_to(stdout);
    xl_nd_put(&j, "{ type=eval model=%s metric=%s conversations=%zu tokens=%zu",
              e->engine.info.name, xl_metric_names[e->run.heads->metric], e->run.data.n,
              e->run.tokens);
    json_heads(&j, e);
    xl_nd_put(&j, "full={ perplexity=%g repetition=%g } levels=[", e->run.full_perplexity,
              e->run.full_repetition);
    for (size_t i = 0; i < e->run.n_rows; i++)
        json_row(&j, &e->run.rows[i], e->run.heads->n_heads, e->run.data.n);
    xl_nd_put(&j, "] }");
}

static void print_rows(const evaluation *e) {
    const uint32_t n_heads = e->run.heads->n_heads;
    printf("strategy      level  agreement  exits   regret  unwanted  depth  work   speed  prefix  "
           "ppl    repeat  coverage; replies\n");
    for (size_t i = 0; i < e->run.n_rows; i++) {
        const xl_eval_row *r = &e->run.rows[i];
        printf("%-13s %.2f   %.4f     %.4f  %.5f %.4f    %.3f  %.3f  ",
               xl_strategy_names[r->level.strategy], (double)r->level.accuracy, r->means.agreement,
               r->means.agreement_exited, r->means.regret, r->means.unwanted, r->means.mean_depth,
               r->means.mean_work);
        if (r->speedup >= 0) printf("%.2fx  ", r->speedup);
        else printf("  -    ");
        printf("%5.1f   %.3f  %.3f  ", r->means.common_prefix, r->means.perplexity,
               r->means.repetition);
        for (uint32_t h = 0; h < n_heads; h++) printf(" %.3f", r->means.coverage[h]);
        printf("  ");
        cli_print_use(&r->level);
        printf("%s%s\n", r->level.certified ? "" : "  uncertifiable",
               r->holds ? "" : "  DOES NOT HOLD");
    }
}

static void print_text(const evaluation *e) {
    const exitlm_heads_info *info = &e->engine.heads_info;
    printf("%zu conversations, %zu tokens of the full model (perplexity to itself %.3f, repetition "
           "%.3f)\n",
           e->run.data.n, e->run.tokens, e->run.full_perplexity, e->run.full_repetition);
    for (uint32_t h = 0; h < info->n_heads; h++)
        printf("head %u: layer %u, %s, %u rows: agrees with the model in %.3f\n", h,
               info->head[h].layer, info->head[h].form, info->head[h].rows,
               e->run.head_agreement[h]);
    print_rows(e);
}

static int read_data(evaluation *e) {
    const cli_texts *data = &e->options->data;
    exitlm_error error;
    exitlm_status status = EXITLM_OK;
    if (data->n == 0) {
        cli_warn("no --data: the model invents the conversations");
        status = xl_invent(e->run.model, e->options->engine.kernel, e->options->self_chat,
                           0x6576616c, e->run.observer, &e->run.data, &error);
    }
    for (size_t i = 0; i < data->n && status == EXITLM_OK; i++)
        status = xl_dataset_read(&e->run.data, data->items[i], &error);
    xl_dataset_keep(&e->run.data, XL_DATASET_TEST);
    size_t left_out = 0;
    if (status == EXITLM_OK)
        status = xl_measure_leave_out(
            e->run.model, xl_measure_context(e->run.model, e->run.options->context_tokens),
            &e->run.data, &left_out, &error);
    if (status != EXITLM_OK) return cli_report(&error, NULL);
    if (left_out)
        cli_warn("%zu conversation%s left out: empty, or longer than the context", left_out,
                 left_out == 1 ? " is" : "s are");
    if (e->run.data.n) return CLI_OK;
    return cli_fail("%s: no conversations of the split \"test\"",
                    data->n ? data->items[0] : "data");
}

static int measure_speed(evaluation *e) {
    exitlm_error error;
    exitlm_session *session = NULL;
    int status = cli_engine_session(&e->engine, &e->options->engine, 0, &session);
    if (status == CLI_OK)
        status = cli_done(xl_eval_measure_speed(&e->run, session, &error), &error);
    exitlm_session_free(session);
    return status;
}

static int evaluate(evaluation *e) {
    const eval_options *o = e->options;
    exitlm_error error;
    if (exitlm_heads_levels(e->engine.heads) == 0)
        return cli_fail("%s: is not calibrated: run exitlm calibrate first", e->engine.heads_file);
    int status = cli_done(xl_eval_list_rows(&e->run, &error), &error);
    if (status == CLI_OK) status = cli_done(xl_eval_measure_rows(&e->run, &error), &error);
    if (status == CLI_OK && o->eval.speed) status = measure_speed(e);
    if (status == CLI_OK && o->plot) status = cli_eval_plot(&e->run, o->plot);
    if (status != CLI_OK) return status;
    if (o->json) print_json(e);
    else print_text(e);
    for (size_t i = 0; i < e->run.n_rows; i++)
        if (!e->run.rows[i].holds) status = CLI_FAILED;
    return status;
}

/* ---- Tasks ---- */
static int run_tasks(const cli_call *call, const eval_options *o) {
    static const float usual[] = {0.99f, 0.98f, 0.95f, 0.90f};
    const bool own = o->accuracy.n > 0;
    const xl_task_options options = {
        .strategy = o->eval.strategy < 0 ? EXITLM_STRATEGY_RISK : (exitlm_strategy)o->eval.strategy,
        .kv = (exitlm_kv_policy)o->kv,
        .max_tokens = o->eval.reply_tokens ? o->eval.reply_tokens : XL_TASK_TOKENS,
        .accuracy = own ? o->accuracy.items : usual,
        .n_levels = own ? o->accuracy.n : sizeof usual / sizeof *usual};
    cli_engine engine = {0};
    cli_progress progress = {0};
    const xl_observer observer = cli_observer(&progress, o->quiet);
    xl_tasks tasks = {0};
    exitlm_error error;
    if (o->data.n)
        return cli_usage("eval: --data and --tasks are two evaluations: give one of them");
    cli_interrupt_catch();
    int status = cli_done(xl_tasks_read(&tasks, o->tasks, &error), &error);
    if (status == CLI_OK)
        status = cli_engine_open(&engine, call->operands[0], &o->engine, CLI_SESSION);
    if (status == CLI_OK && !engine.heads->n_levels)
        status = cli_fail("%s: is not calibrated: run exitlm calibrate first", engine.heads_file);
    if (status == CLI_OK)
        status =
            cli_done(xl_tasks_run(&tasks, engine.session, &options, &observer, &error), &error);
    if (status == CLI_OK && o->json)
        cli_tasks_json(&tasks, engine.info.name, o->tasks, options.max_tokens);
    else if (status == CLI_OK) cli_tasks_show(&tasks, o->tasks, options.max_tokens);
    xl_tasks_free(&tasks);
    cli_engine_close(&engine);
    return status;
}

static int run_eval(const cli_call *call) {
    eval_options o = *(const eval_options *)call->values;
    evaluation e = {.options = &o};
    cli_progress progress = {0};
    const xl_observer observer = cli_observer(&progress, o.quiet);
    o.engine.heads = call->operands[1];
    if (o.tasks) return run_tasks(call, &o);
    o.eval.kv = (exitlm_kv_policy)o.kv;
    o.eval.accuracy = o.accuracy.items;
    o.eval.n_accuracy = o.accuracy.n;
    o.eval.context_tokens = o.engine.ctx;
    o.eval.kernel = o.engine.kernel;
    const uint32_t threads = o.engine.threads;
    o.engine.threads = 1; /* speed is measured on one; conversations share the others */
    cli_interrupt_catch();
    int status = cli_engine_open(&e.engine, call->operands[0], &o.engine, CLI_WEIGHTS);
    e.run.options = &o.eval;
    e.run.model = e.engine.model;
    e.run.heads = e.engine.heads;
    e.run.observer = &observer;
    if (status == CLI_OK) status = read_data(&e);
    if (status == CLI_OK && threads > 1) e.run.pool = xl_pool_create(threads, &xl_libc_allocator);
    if (status == CLI_OK) status = evaluate(&e);
    xl_pool_free(e.run.pool);
    xl_eval_free(&e.run);
    cli_engine_close(&e.engine);
    return status;
}

const cli_command cli_command_eval = {
    .name = "eval",
    .summary = "Measure what a heads file does on text that it has not seen.",
    .operands = "MODEL HEADS",
    .n_operands = 2,
    .notes = "Exit status 1 where a level does not hold: where a one-sided test at 95 % rejects "
             "that the\nexpected disagreement is within it.",
    CLI_OPTIONS(options, eval_options),
    .run = run_eval,
};
