/* exitlm score: how likely the model finds each token of a text, given the tokens before it. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "engine.h"
#include "files.h"
#include "base/ndjson.h"

#define MAX_TEXT_BYTES ((uint64_t)256 << 20)
#define DEFAULT_CONTEXT 2048u
#define MAX_TOP 1000
#define AT(field) offsetof(score_options, field)

typedef struct score_options {
    cli_engine_options engine;
    const char *file, *ids;
    uint32_t top;
    bool json;
} score_options;

static const cli_option options[] = {
    CLI_VALUE(TEXT, 'f', "file", file, "FILE", NULL,
              "text, cut at the context length; \"-\": standard input"),
    CLI_VALUE(TEXT, 0, "ids", ids, "FILE", NULL, "token ids separated by white space"),
    CLI_RANGE(COUNT, "top", top, "K", 0, MAX_TOP, "0",
              "also print the K likeliest candidates of each position"),
    CLI_EXACT_KV_OPTION,
    CLI_ENGINE_OPTIONS,
    CLI_SWITCH(0, "json", json, "one JSON object a position, then a summary"),
};

typedef struct candidate {
    int32_t id;
    float logit;
} candidate;

typedef struct scorer {
    const score_options *options;
    const int32_t *ids;
    uint32_t vocab;
    ndjson json;
    candidate top[MAX_TOP]; /* best first */
    double log_sum;         /* of the probabilities' logarithms */
    size_t scored;
} scorer;

/* The K largest, lowest id first among equals. */
static size_t find_top(scorer *s, const float *logits) {
    size_t n = 0, k = s->options->top < s->vocab ? s->options->top : s->vocab;
    if (k == 0) return 0;
    for (uint32_t id = 0; id < s->vocab; id++) {
        if (n == k && !(logits[id] > s->top[n - 1].logit)) continue;
        size_t at = n < k ? n++ : n - 1;
        for (; at > 0 && logits[id] > s->top[at - 1].logit; at--) s->top[at] = s->top[at - 1];
        s->top[at] = (candidate){(int32_t)id, logits[id]};
    }
    return n;
}

static double log_probability(const scorer *s, const float *logits, int32_t id) {
    double max = logits[0], sum = 0;
    for (uint32_t i = 1; i < s->vocab; i++)
        if (logits[i] > max) max = logits[i];
    for (uint32_t i = 0; i < s->vocab; i++) sum += exp(logits[i] - max);
    return logits[id] - max - log(sum);
}

static void print_position(scorer *s, size_t position, double logprob, size_t n_top) {
    if (!s->options->json) {
        printf("%zu %d %.6f", position, s->ids[position], logprob);
        for (size_t i = 0; i < n_top; i++)
            printf(" %d:%.6g", s->top[i].id, (double)s->top[i].logit);
        printf("\n");
        return;
    }
    ndjson *j = &s->json;
    xl_nd_put(j, "{ type=position index=%zu id=%d logprob=%.10g", position, s->ids[position],
              logprob);
    if (s->options->top) {
        xl_nd_put(j, "top=[");
        for (size_t i = 0; i < n_top; i++) {
            xl_nd_put(j, "{ id=%d logit=%f }", s->top[i].id, s->top[i].logit);
        }
        xl_nd_put(j, "]");
    }
    xl_nd_put(j, "}");
}

static bool visit(void *user, size_t position, const float *logits) {
    scorer *s = user;
    double logprob = log_probability(s, logits, s->ids[position]);
    print_position(s, position, logprob, find_top(s, logits));
    s->log_sum += logprob;
    s->scored++;
    return !ferror(stdout);
}

/* ---- Input ---- */

static int read_ids(const char *file, uint32_t vocab, int32_t **ids, size_t *n) {
    char *text;
    size_t n_bytes, count = 0;
    int status = cli_read_file(file, MAX_TEXT_BYTES, &text, &n_bytes);
    if (status != CLI_OK) return status;
    *ids = malloc((n_bytes / 2 + 2) * sizeof **ids);
    if (!*ids) status = cli_no_memory("the ids");
    for (char *at = text; status == CLI_OK;) {
        at += strspn(at, " \t\r\n\v\f");
        if (*at == 0) break;
        char *end;
        errno = 0;
        long id = strtol(at, &end, 10);
        size_t word = strcspn(at, " \t\r\n\v\f");
        if (errno || end != at + word || id < 0 || id >= (long)vocab)
            status = cli_fail("%s: word %zu, \"%.*s\", is not a token id from 0 to %u", file,
                              count + 1, (int)(word < 40 ? word : 40), at, vocab - 1);
        else (*ids)[count++] = (int32_t)id;
        at = end;
    }
    if (status == CLI_OK && strlen(text) != n_bytes)
        status = cli_fail("%s: has a zero byte; give ids in decimal", file);
    free(text);
    *n = count;
    return status;
}

static int read_tokens(const cli_engine *engine, const score_options *o, int32_t **ids, size_t *n) {
    if (o->ids) return read_ids(o->ids, engine->info.vocab, ids, n);
    char *text;
    size_t n_bytes;
    int status = cli_read_file(o->file, MAX_TEXT_BYTES, &text, &n_bytes);
    if (status == CLI_OK)
        status = cli_tokenize(engine->model, text, n_bytes, EXITLM_ADD_SPECIAL, ids, n);
    free(text);
    return status;
}

/* Cuts a text at the context; ids that do not fit are an error, since they were counted by the
 * user. */
static int fit(const cli_engine *engine, const score_options *o, size_t *n) {
    const char *file = o->ids ? o->ids : o->file;
    uint32_t limit = o->engine.ctx                 ? o->engine.ctx
                     : engine->info.context_tokens ? engine->info.context_tokens
                                                   : DEFAULT_CONTEXT;
    if (*n < 2) return cli_fail("%s: has %zu tokens; at least 2 are needed to score one", file, *n);
    if (*n <= limit) return CLI_OK;
    if (o->ids)
        return cli_fail("%s: has %zu tokens, the context has %u; give fewer, or a larger --ctx",
                        file, *n, limit);
    *n = limit;
    return CLI_OK;
}

static void print_end(scorer *s) {
    double perplexity = exp(-s->log_sum / (double)s->scored);
    if (!s->options->json) {
        printf("%zu tokens scored, perplexity %.6g\n", s->scored, perplexity);
        return;
    }
    xl_nd_put(&s->json, "{ type=done tokens=%zu perplexity=%.10g }", s->scored, perplexity);
}

static int run(const cli_call *call) {
    const score_options *o = call->values;
    if (!o->file == !o->ids) return cli_usage("score: give either --file FILE or --ids FILE");
    cli_engine engine;
    cli_engine_options engine_options = o->engine;
    engine_options.heads = "none";
    int32_t *ids = NULL;
    size_t n = 0;
    exitlm_error error;
    int status = cli_engine_open(&engine, call->operands[0], &engine_options, CLI_WEIGHTS);
    if (status == CLI_OK) status = read_tokens(&engine, o, &ids, &n);
    if (status == CLI_OK) status = fit(&engine, o, &n);
    if (status == CLI_OK)
        status = cli_engine_session(&engine, &engine_options, (uint32_t)n, &engine.session);
    scorer *s = status == CLI_OK ? calloc(1, sizeof *s) : NULL;
    if (status == CLI_OK && !s) status = cli_no_memory("the scores");
    if (s) {
        *s = (scorer){
            .options = o, .ids = ids, .vocab = engine.info.vocab, .json = xl_nd_to(stdout)};
        if (exitlm_session_score(engine.session, ids, n, visit, s, &error) != EXITLM_OK)
            status = cli_report(&error, NULL);
        else if (s->scored == n - 1) print_end(s);
    }
    free(s);
    free(ids);
    cli_engine_close(&engine);
    return status;
}

const cli_command cli_command_score = {
    .name = "score",
    .summary = "Score a text: each token's log-probability given the tokens before it, and the "
               "perplexity.",
    .operands = "MODEL",
    .n_operands = 1,
    CLI_OPTIONS(options, score_options),
    .notes =
        "A line a position: index, id, log-probability, and with --top the candidates as id:logit.",
    .run = run,
};
