/* What a shape costs and wins, in processor time. One JSON object; tests/bench/shaped.mjs judges it. Not a
 * test.
 *   bench_shaped MODEL SCHEMA QUESTION [reps]
 *
 * A rep is, one after the other: the shaped reply, a free one of as many tokens to the same question,
 * and passes of as many rows as the shaped one had beside each token that was computed. Then masks:
 * replies whose every token is drawn by a mask of its own, the first of a grammar and later ones. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "grammar/grammar.h"
#include "clock.h"
#include "tiny.h"

enum { MAX_TOKENS = 400, MAX_REPS = 64, MAX_BESIDE = 64, PASSES = 3, REPLIES = 8 };

static double now_ms(void *user) {
    (void)user;
    return 1e3 * clock_s(CLOCK_PROCESS_CPUTIME_ID);
}

typedef struct reply {
    uint32_t n, forced;
    uint32_t passes[MAX_BESIDE]; /* how many had so many forced rows beside the token's own */
    double ms;                   /* from the prompt's end, or from the first token, to the last */
} reply;

static reply answer(exitlm_session *s, const char *question, exitlm_generate_options o) {
    const exitlm_message message = {"user", question};
    exitlm_event event;
    reply r = {0};
    uint32_t beside = 0;
    /* a base model has no template: the question as it stands */
    if (exitlm_session_chat(s, &message, 1, &o, NULL) != EXITLM_OK)
        CHECK_OK(exitlm_session_text(s, question, strlen(question), false, &o, &error_));
    do {
        CHECK_OK(exitlm_session_step(s, &event, &error_));
        if (event.type != EXITLM_EVENT_TOKEN) continue;
        if (event.token.forced) beside++;
        else {
            if (beside < MAX_BESIDE) r.passes[beside]++;
            beside = 0;
        }
    } while (event.type != EXITLM_EVENT_DONE);
    r.n = event.stats.completion_tokens;
    r.forced = event.stats.forced_tokens;
    r.ms = event.stats.decode_ms;
    return r;
}

/* Milliseconds of a pass of `beside` rows of which nobody wants the logits and one whose likeliest token
 * is chosen, behind what the session holds. */
static double pass(exitlm_session *s, uint32_t beside) {
    int32_t ids[MAX_BESIDE + 1];
    const xl_sampler greedy = {.repeat_penalty = 1};
    const uint32_t base = s->stair.n;
    float confidence;
    for (uint32_t i = 0; i <= beside; i++) ids[i] = 300 + (int32_t)(977 * i % 20000);
    const double from = now_ms(NULL);
    for (uint32_t i = 0; i < PASSES; i++) {
        CHECK_OK(xl_stair_append(&s->stair, ids, beside + 1, &error_));
        s->stair.kv_only_until = base + beside;
        CHECK_OK(xl_stair_advance(&s->stair, s->run.model->config.n_layers, &error_));
        CHECK_OK(xl_logits_compute(&s->logits, base + beside, 1, 0, &error_));
        xl_rule_full(&greedy, &s->logits, 0, base + beside, &confidence);
        xl_stair_truncate(&s->stair, base);
    }
    return (now_ms(NULL) - from) / PASSES;
}

static void bench_reply(const exitlm_model *model, exitlm_grammar *g, const char *question,
                        uint32_t reps) {
    exitlm_session *s =
        tiny_session(model, &(exitlm_session_options){.context_tokens = 1024, .clock_ms = now_ms});
    for (uint32_t rep = 0; rep < reps; rep++) {
        const reply shaped =
            answer(s, question, (exitlm_generate_options){.max_tokens = MAX_TOKENS, .grammar = g});
        double passes = 0;
        const double one = pass(s, 0);
        for (uint32_t k = 1; k < MAX_BESIDE; k++)
            if (shaped.passes[k]) passes += shaped.passes[k] * (pass(s, k) - one);
        const reply is_free =
            answer(s, question, (exitlm_generate_options){.max_tokens = shaped.n});
        printf("%s{\"tokens\":%u,\"forced\":%u,\"shaped_ms\":%.4f,\"free_tokens\":%u,"
               "\"free_ms\":%.4f,\"pass_ms\":%.4f,\"rows_ms\":%.4f}",
               rep ? "," : "", shaped.n, shaped.forced, shaped.ms, is_free.n, is_free.ms, one,
               passes);
    }
    exitlm_session_free(s);
}

/* Draws a reply; returns the time of its masks, and the tokens. */
static double draw(exitlm_grammar *g, const exitlm_model *model, float *logits, uint64_t seed,
                   uint32_t *n) {
    static int32_t ids[MAX_TOKENS];
    const uint32_t vocab = model->config.vocab;
    double spent = 0;
    for (*n = 0; *n < MAX_TOKENS; ++*n) {
        memset(logits, 0, vocab * sizeof *logits);
        const double from = now_ms(NULL);
        xl_grammar_mask(g, ids, *n, logits, vocab);
        spent += now_ms(NULL) - from;
        int32_t id = -1;
        for (uint32_t tries = 0; id < 0 && tries < 1000000; tries++) {
            const uint32_t one = (uint32_t)(xl_random(&seed) % vocab);
            if (logits[one] == 0) id = (int32_t)one;
        }
        if (id < 0 || xl_token_is_eog(model->tokenizer, id)) break;
        ids[*n] = id;
    }
    return spent;
}

static void bench_masks(const exitlm_model *model, exitlm_grammar *g) {
    float *logits = malloc(model->config.vocab * sizeof *logits);
    uint32_t n, tokens = 0;
    if (!logits) exit(1);
    const double first = draw(g, model, logits, 1, &n) / (n + 1);
    double later = 0;
    for (uint64_t seed = 2; seed < 2 + REPLIES; seed++) {
        later += draw(g, model, logits, seed, &n);
        tokens += n + 1;
    }
    printf("\"first_mask_ms\":%.4f,\"later_mask_ms\":%.4f}\n", first, later / tokens);
    free(logits);
}

static exitlm_grammar *grammar_of(const exitlm_model *model, const char *schema) {
    exitlm_grammar *g;
    CHECK_OK(exitlm_grammar_from_schema(&g, model, schema, strlen(schema), NULL, &error_));
    return g;
}

int main(int argc, char **argv) {
    size_t n_bytes;
    if (argc < 4) return 2;
    uint32_t reps = argc > 4 ? (uint32_t)atoi(argv[4]) : 5;
    if (reps < 1 || reps > MAX_REPS) reps = 5;
    uint8_t *bytes = tiny_read(argv[1], &n_bytes);
    exitlm_model *model = tiny_load_bytes(bytes, n_bytes, NULL);
    free(bytes);
    const double start = now_ms(NULL);
    xl_model_vocabulary(model);
    printf("{\"vocabulary_ms\":%.1f,\"reps\":[", now_ms(NULL) - start);
    exitlm_grammar *g = grammar_of(model, argv[2]);
    bench_reply(model, g, argv[3], reps);
    printf("],");
    exitlm_grammar_free(g);
    g = grammar_of(model, argv[2]);
    bench_masks(model, g);
    exitlm_grammar_free(g);
    exitlm_model_free(model);
    return 0;
}
