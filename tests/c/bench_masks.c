/* What the masks of a grammar cost: microseconds a token of a reply that draws every token by its mask,
 * the first reply and a later one. Not a test.
 *   bench_masks MODEL SCHEMA [replies] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "grammar/grammar.h"
#include "tiny.h"

enum { MAX_TOKENS = 200 };

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

/* Draws a reply; returns the time of its masks, and the tokens. */
static double draw(exitlm_grammar *g, const exitlm_model *model, float *logits, uint64_t seed,
                   uint32_t *n) {
    static int32_t ids[MAX_TOKENS];
    const uint32_t vocab = model->config.vocab;
    double spent = 0;
    for (*n = 0; *n < MAX_TOKENS; ++*n) {
        memset(logits, 0, vocab * sizeof *logits);
        const double from = now_us();
        xl_grammar_mask(g, ids, *n, logits, vocab);
        spent += now_us() - from;
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

int main(int argc, char **argv) {
    size_t n_bytes;
    exitlm_error error;
    if (argc < 3) return 2;
    uint8_t *bytes = tiny_read(argv[1], &n_bytes);
    exitlm_model *model = tiny_load_bytes(bytes, n_bytes, NULL);
    free(bytes);
    const double start = now_us();
    xl_model_vocabulary(model);
    const double vocabulary_us = now_us() - start;
    exitlm_grammar *g;
    if (exitlm_grammar_from_schema(&g, model, argv[2], strlen(argv[2]), NULL, &error) !=
        EXITLM_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    float *logits = malloc(model->config.vocab * sizeof *logits);
    uint32_t n, tokens = 0;
    const int replies = argc > 3 ? atoi(argv[3]) : 8;
    const double first = draw(g, model, logits, 1, &n) / n;
    double later = 0;
    for (int i = 2; i < 2 + replies; i++) {
        later += draw(g, model, logits, (uint64_t)i, &n);
        tokens += n;
    }
    printf("{\"vocabulary_us\": %.0f, \"first_us\": %.1f, \"later_us\": %.1f}\n", vocabulary_us,
           first, later / tokens);
    free(logits);
    exitlm_grammar_free(g);
    exitlm_model_free(model);
    return 0;
}
