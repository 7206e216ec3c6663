/* exitlm chat: one question, or a conversation. */
#include <stdlib.h>
#include <string.h>

#include "chat.h"
#include "files.h"
#include "platform.h"
#include "signals.h"

#define MAX_PROMPT_BYTES ((uint64_t)64 << 20)
#define MAX_SCHEMA_BYTES ((uint64_t)1 << 20)
#define AT(field) offsetof(chat_options, field)

static const cli_option options[] = {
    CLI_VALUE(TEXT, 'p', "prompt", prompt, "TEXT", NULL,
              "one question; \"-\" reads it from standard input. Without it: an interactive chat"),
    CLI_VALUE(TEXT, 0, "system", system, "TEXT", NULL, "system message"),
    CLI_SWITCH(0, "raw", raw, "no chat template: the text as it stands is continued"),
    CLI_VALUE(TEXT, 0, "load", load, "FILE", NULL,
              "go on with a conversation that --save wrote, without reading it again"),
    CLI_VALUE(TEXT, 0, "save", save, "FILE", NULL,
              "write the conversation, with what the model has computed of it, when it ends"),
    CLI_HEADLINE("Depth:"),
    CLI_HEADS_OPTION,
    CLI_ONE_OF("mode", mode, cli_modes, NULL,
               "full: every token through all layers; exit: each as deep as it needs; lossless: "
               "exits draft, the full model "
               "checks; default: exit where there are heads, lossless for a shape or tools; else "
               "full"),
    CLI_RANGE(NUMBER, "accuracy", accuracy, "A", 0.5, 1, NULL,
              "of mode exit: expected share of tokens that the full model would have chosen; "
              "default: the level that the heads name"),
    CLI_ONE_OF("strategy", strategy, xl_strategy_names, "risk",
               "how the thresholds were calibrated"),
    CLI_ONE_OF("kv", kv, cli_reply_policies, "auto",
               "K/V of the layers that an exit skips; auto: of those that the level is calibrated "
               "with, the cheapest"),
    CLI_RANGE(NUMBER, "audit", audit, "P", 0, 1, "0",
              "share of the exits that the full model verifies"),
    CLI_SWITCH(0, "show-depth", show_depth,
               "colour each token by its depth; a histogram at the end"),
    CLI_RANGE(COUNT, "draft-layer", draft_layer, "L", 1, 65535, NULL,
              "of mode lossless: always draft with the head after this layer"),
    CLI_RANGE(COUNT, "draft-length", draft_length, "N", 1, 8, NULL,
              "and always so many tokens; needs --draft-layer"),
    CLI_HEADLINE("Sampling:"),
    CLI_RANGE(COUNT, "max-tokens", max_tokens, "N", 1, 1048576, NULL,
              "longest answer; default: to the end of the context"),
    CLI_RANGE(NUMBER, "temp", temperature, "T", 0, 10, "0",
              "temperature; 0 always takes the likeliest token"),
    CLI_RANGE(COUNT, "top-k", top_k, "K", 0, 1000000, "0", "sample among the K likeliest; 0: all"),
    CLI_RANGE(NUMBER, "top-p", top_p, "P", 0, 1, "1",
              "sample among the likeliest with this probability together"),
    CLI_RANGE(NUMBER, "min-p", min_p, "P", 0, 1, "0",
              "sample among those at least P times as likely as the likeliest"),
    CLI_RANGE(NUMBER, "repeat-penalty", repeat_penalty, "R", 0.1, 10, "1",
              "divides the logits of the last 64 tokens"),
    CLI_VALUE(SEED, 0, "seed", seed, "S", "0", "the same seed gives the same answer"),
    CLI_VALUE(TEXTS, 0, "stop", stop, "TEXT", NULL,
              "end the answer before this text; may be repeated"),
    CLI_HEADLINE("Shape:"),
    CLI_VALUE(TEXT, 0, "json-schema", schema, "FILE|JSON", NULL,
              "the answer is JSON of this schema; docs/shaped.md says what of JSON Schema is "
              "understood"),
    CLI_VALUE(TEXT, 0, "pattern", pattern, "REGEX", NULL,
              "the answer matches this regular expression as a whole"),
    CLI_VALUE(TEXT, 0, "tools", tools, "FILE", NULL,
              "JSON: a list of {name, description, parameters} that the answer may call; "
              "docs/tools.md"),
    CLI_VALUE(TEXT, 0, "tool-choice", tool_choice, "auto|required|NAME", "auto",
              "required: one call at least; NAME: one of this tool"),
    CLI_RANGE(COUNT, "logprobs", logprobs, "K", 0, EXITLM_MAX_TOP_LOGPROBS, NULL,
              "of --json: each token's log-probability, and the K likeliest tokens"),
    CLI_HEADLINE("Engine:"),
    CLI_REPLY_KV_OPTION,
    CLI_ENGINE_OPTIONS,
    CLI_SWITCH(0, "json", json, "one JSON object a line: start, tokens, done"),
};

static bool any_given(const cli_call *call, const char *const *names, const char **which) {
    for (; *names; names++)
        if (cli_given(call, *names)) {
            *which = *names;
            return true;
        }
    return false;
}

/* Options that are valid but do nothing here deserve a word. */
static void warn_unused(const chat *c, exitlm_mode mode) {
    static const char *const exit_only[] = {"accuracy", "strategy", "kv", "audit", NULL};
    static const char *const lossless_only[] = {"draft-layer", "draft-length", NULL};
    static const char *const sampling_only[] = {"top-k", "top-p", "min-p", "seed", NULL};
    const char *name;
    if (mode != EXITLM_MODE_EXIT && any_given(c->call, exit_only, &name))
        cli_warn("--%s has no effect in mode %s", name, cli_modes[mode]);
    if (mode != EXITLM_MODE_LOSSLESS && any_given(c->call, lossless_only, &name))
        cli_warn("--%s has no effect in mode %s; it belongs to --mode lossless", name,
                 cli_modes[mode]);
    if (c->options->temperature == 0 && any_given(c->call, sampling_only, &name))
        cli_warn("--%s has no effect at --temp 0, which always takes the likeliest token", name);
    if (c->options->raw && c->options->system) cli_warn("--system has no effect with --raw");
    if (c->generate.logprobs && !c->options->json)
        cli_warn("--logprobs has no effect without --json");
    if (c->options->json && c->options->show_depth)
        cli_warn("--show-depth has no effect with --json");
}

static int check_draft_layer(const chat *c) {
    char layers[120] = "";
    size_t n = 0;
    const exitlm_heads_info *heads = &c->engine.heads_info;
    for (uint32_t i = 0; i < heads->n_heads; i++) {
        if (heads->head[i].layer == c->options->draft_layer) return CLI_OK;
        n += (size_t)snprintf(layers + n, sizeof layers - n, "%s%u", i ? ", " : "",
                              heads->head[i].layer);
    }
    return cli_usage("chat: --draft-layer %u: there is a head after layers %s",
                     c->options->draft_layer, layers);
}

/* Fills c->generate once the heads are known. */
static int choose_mode(chat *c) {
    const chat_options *o = c->options;
    const exitlm_mode with_heads =
        o->schema || o->pattern || o->tools ? EXITLM_MODE_LOSSLESS : EXITLM_MODE_EXIT;
    const exitlm_mode mode = o->mode >= 0      ? (exitlm_mode)o->mode
                             : c->engine.heads ? with_heads
                                               : EXITLM_MODE_FULL;
    c->generate.mode = mode;
    c->generate.accuracy =
        o->accuracy != 0 || !c->engine.heads ? o->accuracy : c->engine.heads_info.default_accuracy;
    c->generate.strategy = (exitlm_strategy)o->strategy;
    c->generate.kv = (exitlm_kv_policy)o->kv;
    c->generate.max_tokens = o->max_tokens;
    c->generate.temperature = o->temperature;
    c->generate.top_k = o->top_k;
    c->generate.top_p = o->top_p;
    c->generate.min_p = o->min_p;
    c->generate.repeat_penalty = o->repeat_penalty;
    c->generate.seed = o->seed;
    c->generate.stop = o->stop.items;
    c->generate.n_stop = o->stop.n;
    c->generate.audit = mode == EXITLM_MODE_EXIT ? o->audit : 0;
    c->generate.draft_layer = (int32_t)o->draft_layer;
    c->generate.draft_length = o->draft_length;
    c->generate.logprobs = cli_given(c->call, "logprobs");
    c->generate.top_logprobs = o->logprobs;
    warn_unused(c, mode);
    if (mode == EXITLM_MODE_EXIT)
        cli_engine_check_level(&c->engine, c->generate.strategy, c->generate.accuracy,
                               xl_policy_of(c->generate.kv, c->generate.audit));
    return mode == EXITLM_MODE_LOSSLESS && o->draft_layer ? check_draft_layer(c) : CLI_OK;
}

/* Wrong usage that is known before a byte of the weights is read. */
static int check_options(const chat_options *o) {
    if (o->draft_length && !o->draft_layer)
        return cli_usage("chat: --draft-length needs --draft-layer");
    if (o->prompt && *o->prompt == 0)
        return cli_usage(
            "chat: --prompt is empty; give a text, or leave it out for an interactive chat");
    if (o->load && o->system)
        return cli_usage("chat: --load and --system: the conversation has its system message");
    if ((o->schema != NULL) + (o->pattern != NULL) + (o->tools != NULL) > 1)
        return cli_usage("chat: --json-schema, --pattern and --tools are shapes; give one");
    if (o->tools && o->raw) return cli_usage("chat: --tools needs the chat template, not --raw");
    for (size_t i = 0; i < o->stop.n; i++)
        if (!o->stop.items[i][0])
            return cli_usage("chat: --stop is empty; give the text that ends the answer");
    return CLI_OK;
}

/* A schema is JSON where it begins like it, else the name of a file. */
static bool is_json(const char *text) {
    text += strspn(text, " \t\r\n");
    return *text == '{' || strcmp(text, "true") == 0;
}

static int make_grammar(chat *c) {
    const chat_options *o = c->options;
    exitlm_error error;
    char *read = NULL;
    size_t n = 0;
    exitlm_status made = EXITLM_OK;
    if (o->pattern)
        made = exitlm_grammar_from_pattern(&c->generate.grammar, c->engine.model, o->pattern,
                                           strlen(o->pattern), 0, NULL, &error);
    if (o->schema) {
        const bool given = is_json(o->schema);
        const int status = given ? CLI_OK : cli_read_file(o->schema, MAX_SCHEMA_BYTES, &read, &n);
        if (status != CLI_OK) return status;
        made = exitlm_grammar_from_schema(&c->generate.grammar, c->engine.model,
                                          given ? o->schema : read, given ? strlen(o->schema) : n,
                                          NULL, &error);
        free(read);
    }
    if (made == EXITLM_USAGE) return cli_usage("chat: %s", error.message);
    return made == EXITLM_OK ? CLI_OK : cli_report(&error, NULL);
}

static int one_question(chat *c) {
    char *read = NULL;
    size_t n;
    if (strcmp(c->options->prompt, "-") != 0)
        return chat_answer(c, xl_format("%s", c->options->prompt));
    const int status = cli_read_file("-", MAX_PROMPT_BYTES, &read, &n);
    if (status != CLI_OK) return status;
    if (n && read[n - 1] == '\n') read[--n] = 0; /* which ends the last line */
    if (n && read[n - 1] == '\r') read[--n] = 0;
    if (n) return chat_answer(c, read);
    free(read);
    return cli_usage("chat: --prompt -: standard input is empty");
}

static int talk(chat *c) {
    const chat_options *o = c->options;
    int status = CLI_OK;
    if (o->load) status = chat_load(c, o->load);
    else if (!chat_talk_begin(&c->talk, o->raw ? NULL : c->system))
        status = cli_no_memory("the conversation");
    if (status == CLI_OK) status = o->prompt ? one_question(c) : chat_converse(c);
    if (status == CLI_OK && o->save) status = chat_save(c, o->save);
    chat_talk_free(&c->talk);
    return status;
}

static int run(const cli_call *call) {
    const chat_options *o = call->values;
    chat c = {.call = call,
              .options = o,
              .json = xl_nd_to(stdout),
              .terminal = cli_is_terminal(stdout),
              .system = o->system};
    c.verbose = cli_is_terminal(stderr) && c.terminal && !o->json;
    int status = check_options(o);
    if (status != CLI_OK) return status;
    cli_engine_options engine = o->engine;
    /* other drawn replies are never certified (docs/accuracy.md) */
    const bool plain = !o->top_k && o->top_p >= 1 && !(o->min_p > 0) && o->repeat_penalty == 1;
    engine.temperature = plain ? o->temperature : 0;
    engine.accuracy = o->accuracy;
    if (o->mode == EXITLM_MODE_FULL && !engine.heads) engine.heads = "none";
    if (o->load && engine.kv_type < 0) engine.kv_type = chat_saved_kv_type(o->load);
    const bool says_full = o->mode == EXITLM_MODE_FULL || o->mode == EXITLM_MODE_LOSSLESS;
    if (says_full && engine.kv_type < 0)
        engine.kv_type = CLI_KV_TYPE; /* no certificate is asked for */
    if (o->mode == EXITLM_MODE_EXIT) engine.heads_for = "--mode exit";
    if (o->mode == EXITLM_MODE_LOSSLESS) engine.heads_for = "--mode lossless";
    status = cli_engine_open(&c.engine, call->operands[0], &engine, CLI_SESSION);
    if (status == CLI_OK) status = choose_mode(&c);
    if (status == CLI_OK) status = o->tools ? chat_tools_open(&c) : make_grammar(&c);
    if (status == CLI_OK) {
        const exitlm_heads_info *heads = c.engine.heads ? &c.engine.heads_info : NULL;
        cli_depth_view_init(&c.view, heads, c.engine.info.layers, c.generate.mode);
        if (o->show_depth && !o->json) cli_depth_view_legend(&c.view);
        cli_interrupt_catch();
        status = talk(&c);
    }
    exitlm_grammar_free(c.generate.grammar);
    free(c.told);
    cli_engine_close(&c.engine);
    return status;
}

const cli_command cli_command_chat = {
    .name = "chat",
    .summary = "Talk with a model: one question, or an interactive chat.",
    .operands = "MODEL",
    .n_operands = 1,
    CLI_OPTIONS(options, chat_options),
    .notes =
        "In the chat: /help, /reset, /save FILE, /quit; Ctrl-C stops the answer, Ctrl-D ends.\n"
        "Example: exitlm chat smollm2-135m-instruct -p \"Why is the sky blue?\" --show-depth",
    .run = run,
};
