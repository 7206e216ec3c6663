/* exitlm bench: speed and memory of a model on this machine. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "model/heads.h"
#include "platform.h"
#include "train/levels.h"

#define AT(field) offsetof(bench_options, field)

static const cli_option options[] = {
    CLI_HEADS_OPTION,
    CLI_RANGE(COUNT, "prompt-tokens", prompt_tokens, "N", 1, 1048576, "256",
              "length of the prompt whose speed is measured"),
    CLI_RANGE(COUNT, "gen-tokens", gen_tokens, "N", 2, 1048576, "128", "tokens of each answer"),
    CLI_RANGE(COUNTS, "context", contexts, "N,...", 1, 1048576, "40,512",
              "tokens before the answer"),
    CLI_RANGE(COUNT, "reps", reps, "R", 1, BENCH_MAX_REPS, "3",
              "repetitions, interleaved; medians are reported"),
    CLI_RANGE(NUMBERS, "accuracy", accuracy, "A,...", 0.5, 1, NULL,
              "levels of mode exit; default: the one that the heads name, 0.95 and 0.9"),
    CLI_ONE_OF("kv", kv, cli_reply_policies, "auto",
               "K/V of the layers that an exit skips; auto: of those that the level is calibrated "
               "with, the cheapest"),
    CLI_SWITCH(0, "lossless", lossless,
               "compare ways of drafting: acceptance, tokens a verification, cost of a row"),
    CLI_REPLY_KV_OPTION,
    CLI_ENGINE_OPTIONS,
    CLI_SWITCH(0, "json", json, "one JSON object"),
};

typedef struct bench {
    const bench_options *options;
    cli_numbers accuracy; /* levels of mode exit */
    cli_engine engine;
    bench_run prompt;
    double prompt_speed[BENCH_MAX_REPS];
    bench_run *runs; /* [BENCH_MAX_RUNS] */
    size_t n_runs;
    int32_t *ids[CLI_MAX_LIST]; /* of each context */
    double r[BENCH_ROWS + 1];
} bench;

/* ---- What is run ---- */

static bench_run *add_run(bench *b, exitlm_mode mode, float accuracy, const char *variant,
                          const bench_run *at) {
    if (b->n_runs == BENCH_MAX_RUNS) return NULL;
    bench_run *run = &b->runs[b->n_runs++];
    *run = *at;
    run->generate.mode = mode;
    run->generate.accuracy = accuracy;
    run->generate.max_tokens = b->options->gen_tokens;
    run->generate.kv = (exitlm_kv_policy)b->options->kv;
    run->variant = variant;
    char level[24] = "";
    if (mode == EXITLM_MODE_EXIT) snprintf(level, sizeof level, " at %g", (double)accuracy);
    snprintf(run->name, sizeof run->name, "%s%s%s%s", cli_modes[mode], level, variant ? ", " : "",
             variant ? variant : "");
    return run;
}

/* The rivals of lossless decoding: one source of drafts alone, DSSD as in the paper (at most 5
 * drafts), LayerSkip's fixed layer and length. */
static void add_rivals(bench *b, const bench_run *at) {
    bench_run *run = add_run(b, EXITLM_MODE_LOSSLESS, 0, "exits only", at);
    if (run) run->generate.draft_sources = 1;
    run = add_run(b, EXITLM_MODE_LOSSLESS, 0, "lookup only", at);
    if (run) run->generate.draft_sources = 2;
    run = add_run(b, EXITLM_MODE_LOSSLESS, 0, "paper", at);
    if (run) {
        run->generate.max_draft = 5;
        run->generate.draft_sources = 1;
    }
    for (uint32_t h = 0; h < b->engine.heads_info.n_heads; h++)
        for (uint32_t length = 2; length <= 4; length += 2) {
            run = add_run(b, EXITLM_MODE_LOSSLESS, 0, "fixed", at);
            if (!run) return;
            run->generate.draft_layer = (int32_t)b->engine.heads_info.head[h].layer;
            run->generate.draft_length = length;
            snprintf(run->name, sizeof run->name, "lossless, layer %d x %u",
                     run->generate.draft_layer, length);
        }
}

static void add_runs(bench *b, const bench_run *at) {
    add_run(b, EXITLM_MODE_FULL, 0, NULL, at);
    if (!b->engine.heads) return;
    for (size_t i = 0; i < b->accuracy.n; i++) {
        float accuracy = b->accuracy.items[i];
        add_run(b, EXITLM_MODE_EXIT, accuracy, NULL, at);
    }
    add_run(b, EXITLM_MODE_LOSSLESS, 0, NULL, at);
    if (b->options->lossless) add_rivals(b, at);
}

static void choose_levels(bench *b) {
    const float usual[] = {b->engine.heads_info.default_accuracy, 0.95f, 0.9f};
    b->accuracy = b->options->accuracy;
    if (b->accuracy.n) return;
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        if (b->accuracy.n == 0 || !xl_level_wanted(b->accuracy.items, b->accuracy.n, usual[i]))
            b->accuracy.items[b->accuracy.n++] = usual[i];
}

/* Contexts that the session cannot hold are left out, with a word. */
static int prepare(bench *b, uint32_t ctx) {
    const bench_options *o = b->options;
    uint32_t prompt_tokens = o->prompt_tokens;
    if (prompt_tokens > ctx - 1) {
        prompt_tokens = ctx - 1;
        cli_warn("--prompt-tokens: the context holds %u tokens, %u are measured", ctx,
                 prompt_tokens);
    }
    choose_levels(b);
    if (b->engine.heads)
        for (size_t i = 0; i < b->accuracy.n; i++)
            cli_engine_check_level(&b->engine, EXITLM_STRATEGY_RISK, b->accuracy.items[i],
                                   (exitlm_kv_policy)o->kv);
    int status =
        bench_prompt(&b->engine, prompt_tokens, (int32_t **)&b->prompt.ids, &b->prompt.prompt_n);
    b->prompt.generate.max_tokens = 1;
    for (size_t i = 0; i < o->contexts.n && status == CLI_OK; i++) {
        bench_run at = {.context = o->contexts.items[i]};
        if (at.context >= ctx || o->gen_tokens > ctx - at.context) {
            cli_warn(
                "--context %u with %u tokens to generate does not fit in a context of %u: left out",
                at.context, o->gen_tokens, ctx);
            continue;
        }
        status = bench_prompt(&b->engine, at.context, &b->ids[i], &at.prompt_n);
        at.ids = b->ids[i];
        if (status == CLI_OK) add_runs(b, &at);
    }
    return status;
}

static int measure_prompt(bench *b) {
    int status = CLI_OK;
    uint32_t n = 0;
    for (uint32_t rep = 0; rep < b->options->reps && status == CLI_OK; rep++) {
        status = bench_decode(&b->engine, &b->prompt, 1, 1);
        double ms = b->prompt.stats.prompt_ms;
        if (status == CLI_OK && ms > 0) b->prompt_speed[n++] = b->prompt.prompt_n * 1000.0 / ms;
    }
    b->prompt.n_speeds = n;
    return status;
}

/* ---- What is said ---- */

static double speed_of(const bench_run *run) { return bench_median(run->speed, run->n_speeds); }

/* Against `full` at the same context: that run stands before it. */
static double speedup_of(const bench *b, const bench_run *run) {
    const bench_run *full = run;
    while (full > b->runs && full->generate.mode != EXITLM_MODE_FULL) full--;
    return speed_of(run) / speed_of(full);
}

static double ratio(uint32_t part, uint32_t whole) { return whole ? (double)part / whole : NAN; }

/* Tokens for each run of the full model; a bonus or corrected token comes with every
 * verification. */
static double tokens_per_verification(const exitlm_stats *s) {
    return ratio(s->accepted + s->draft_attempts, s->draft_attempts);
}

static void json_run(ndjson *j, const bench *b, const bench_run *run) {
    const exitlm_stats *s = &run->stats;
    bool exits = run->generate.mode == EXITLM_MODE_EXIT;
    xl_nd_put(j, "{ mode=%s", cli_modes[run->generate.mode]);
    if (run->variant) xl_nd_put(j, "variant=%s", run->variant);
    if (run->generate.draft_layer) {
        xl_nd_put(j, "draft_layer=%d draft_length=%u", run->generate.draft_layer,
                  run->generate.draft_length);
    }
    xl_nd_put(j,
              "accuracy=%f context=%u tokens=%u tokens_per_second=%g mean_depth=%g mean_work=%g "
              "speedup=%g",
              exits ? run->generate.accuracy : NAN, run->prompt_n, s->completion_tokens,
              speed_of(run), s->mean_depth, s->mean_work, speedup_of(b, run));
    if (run->generate.mode == EXITLM_MODE_LOSSLESS) {
        xl_nd_put(j,
                  "draft_attempts=%u drafted=%u accepted=%u acceptance_rate=%g "
                  "mean_draft_length=%g tokens_per_verification=%g",
                  s->draft_attempts, s->drafted, s->accepted, ratio(s->accepted, s->drafted),
                  ratio(s->drafted, s->draft_attempts), tokens_per_verification(s));
    }
    xl_nd_put(j, "}");
}

static void print_json(const bench *b) {
    ndjson j = xl_nd_to(stdout);
    xl_nd_put(&j,
              "{ type=bench model=%s kernel=%s threads=%u kv_type=%s reps=%u load_ms=%g "
              "peak_bytes=%" PRIu64 " prompt=[ { tokens=%u tokens_per_second=%g } ] decode=[",
              b->engine.info.name, b->engine.kernel, b->engine.threads,
              xl_kv_type_names[b->engine.kv_type], b->options->reps, b->engine.load_ms,
              cli_peak_bytes(), b->prompt.prompt_n,
              bench_median(b->prompt_speed, b->prompt.n_speeds));
    for (size_t i = 0; i < b->n_runs; i++) json_run(&j, b, &b->runs[i]);
    xl_nd_put(&j, "]");
    if (b->options->lossless) {
        xl_nd_put(&j, "r={");
        for (uint32_t rows = 2; rows <= BENCH_ROWS; rows++) {
            char key[8];
            snprintf(key, sizeof key, "%u", rows);
            xl_nd_put(&j, "%s=%g", key, b->r[rows]);
        }
        xl_nd_put(&j, "}");
    }
    xl_nd_put(&j, "}");
}

static void print_table(const bench *b) {
    printf("%s, kernel %s, %u thread%s, K/V %s: loaded in %.0f ms, %.1f MB at most\n",
           b->engine.info.name, b->engine.kernel, b->engine.threads,
           b->engine.threads == 1 ? "" : "s", xl_kv_type_names[b->engine.kv_type],
           b->engine.load_ms, (double)cli_peak_bytes() / 1e6);
    printf("prompt of %u tokens: %.1f tokens/s\n\n", b->prompt.prompt_n,
           bench_median(b->prompt_speed, b->prompt.n_speeds));
    printf("%-34s %7s %7s %9s %8s %6s %6s\n", "decode", "context", "tokens", "tokens/s", "speed-up",
           "depth", "work");
    for (size_t i = 0; i < b->n_runs; i++) {
        const bench_run *run = &b->runs[i];
        const exitlm_stats *s = &run->stats;
        printf("%-34s %7u %7u %9.1f %7.2fx %6.2f %6.2f", run->name, run->prompt_n,
               s->completion_tokens, speed_of(run), speedup_of(b, run), s->mean_depth,
               s->mean_work);
        if (s->draft_attempts)
            printf("  accepted %u of %u, %.2f tokens a verification", s->accepted, s->drafted,
                   tokens_per_verification(s));
        printf("\n");
    }
    if (!b->options->lossless) return;
    printf("\nr, the cost of one more row of a verification as a share of a token:");
    for (uint32_t rows = 2; rows <= BENCH_ROWS; rows++)
        printf(" %u: %.2f%s", rows, b->r[rows], rows < BENCH_ROWS ? "," : "\n");
}

static int measure(bench *b) {
    int status = measure_prompt(b);
    if (status == CLI_OK) status = bench_decode(&b->engine, b->runs, b->n_runs, b->options->reps);
    if (status == CLI_OK && b->options->lossless)
        status = bench_rows(&b->engine, b->prompt.ids, b->prompt.prompt_n, b->options->reps, b->r);
    return status;
}

/* Room for the longest thing that is run, within the model's context. */
static uint32_t context_for(const bench_options *o, const exitlm_model_info *info) {
    uint64_t longest = o->prompt_tokens;
    for (size_t i = 0; i < o->contexts.n; i++)
        if ((uint64_t)o->contexts.items[i] + o->gen_tokens > longest)
            longest = (uint64_t)o->contexts.items[i] + o->gen_tokens;
    longest += 16; /* drafts may run past the last token */
    if (o->engine.ctx) return o->engine.ctx;
    uint32_t most = info->context_tokens ? info->context_tokens : 2048;
    return longest < most ? (uint32_t)longest : most;
}

static int run(const cli_call *call) {
    const bench_options *o = call->values;
    bench b = {.options = o};
    b.runs = calloc(BENCH_MAX_RUNS, sizeof *b.runs);
    if (!b.runs) return cli_no_memory("the bench");
    cli_engine_options engine = o->engine;
    if (o->lossless) engine.heads_for = "--lossless";
    int status = cli_engine_open(&b.engine, call->operands[0], &engine, CLI_WEIGHTS);
    if (status == CLI_OK) {
        uint32_t ctx = context_for(o, &b.engine.info);
        if (ctx < 2) status = cli_usage("bench: --ctx must be at least 2");
        if (status == CLI_OK)
            status = cli_engine_session(&b.engine, &engine, ctx, &b.engine.session);
        if (status == CLI_OK) status = prepare(&b, ctx);
        if (status == CLI_OK) status = measure(&b);
        if (status == CLI_OK && o->json) print_json(&b);
        else if (status == CLI_OK) print_table(&b);
    }
    for (size_t i = 0; i < CLI_MAX_LIST; i++) free(b.ids[i]);
    free((int32_t *)b.prompt.ids);
    free(b.runs);
    cli_engine_close(&b.engine);
    return status;
}

const cli_command cli_command_bench = {
    .name = "bench",
    .summary = "Measure speed and memory on this machine.",
    .operands = "MODEL",
    .n_operands = 1,
    CLI_OPTIONS(options, bench_options),
    .run = run,
};
