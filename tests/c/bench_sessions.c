/* Several conversations in one batch, and a conversation restored: how much faster than one after the
 * other, and than reading again. One JSON object a line; tests/bench/batch.mjs judges them.
 *
 *   build/tests/bench_sessions MODEL [HEADS [REPS]]
 *
 * A round is, one after the other: a pass of n rows and their likeliest tokens, of one sequence and of
 * n sequences (what a row that rides along costs, with no conversation around it), and n sessions that
 * write together, for n = 1, 2, 4, 8, with K/V in f16 as the program has it. Processor time: one thread
 * computes, and what else the machine does hardly shows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run/batch.h"
#include "clock.h"
#include "tiny.h"

enum { MOST = 8, PROMPT = 40, TOKENS = 24, PASSES = 12, MAX_REPS = 64, LONG = 1000 };

static const uint32_t counts[] = {1, 2, 4, 8};
enum { COUNTS = sizeof counts / sizeof *counts };

static double now_ms(void) { return 1e3 * clock_s(CLOCK_PROCESS_CPUTIME_ID); }

static double median(double *values, uint32_t n) {
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t k = i; k > 0 && values[k] < values[k - 1]; k--) {
            const double swap = values[k];
            values[k] = values[k - 1];
            values[k - 1] = swap;
        }
    return values[n / 2];
}

static void fill(int32_t *ids, uint32_t n, uint32_t seed) {
    for (uint32_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (int32_t)(300 + (seed >> 8) % 20000);
    }
}

static void read_prompt(exitlm_session *s, const int32_t *ids) {
    exitlm_session_reset(s);
    CHECK_OK(xl_stair_append(&s->stair, ids, PROMPT, &error_));
    CHECK_OK(xl_stair_advance(&s->stair, s->run.model->config.n_layers, &error_));
}

static const xl_sampler greedy = {.repeat_penalty = 1};

/* Milliseconds of one pass of n rows of one sequence, logits and all, after PROMPT positions. */
static double pass(exitlm_session *s, uint32_t n) {
    int32_t ids[PROMPT + MOST];
    float confidence;
    const uint32_t layers = s->run.model->config.n_layers;
    fill(ids, PROMPT + n, 1);
    read_prompt(s, ids);
    const double from = now_ms();
    for (uint32_t i = 0; i < PASSES; i++) {
        CHECK_OK(xl_stair_append(&s->stair, ids + PROMPT, n, &error_));
        CHECK_OK(xl_stair_advance(&s->stair, layers, &error_));
        CHECK_OK(xl_logits_compute(&s->logits, PROMPT, n, 0, &error_));
        for (uint32_t row = 0; row < n; row++)
            xl_rule_full(&greedy, &s->logits, row, PROMPT + row, &confidence);
        xl_stair_truncate(&s->stair, PROMPT);
    }
    return (now_ms() - from) / PASSES;
}

/* The same of n sequences, a row and a K/V cache each. */
static double pass_apart(exitlm_session **sessions, uint32_t n) {
    int32_t ids[PROMPT + MOST];
    xl_logits *logits[MOST];
    float confidence;
    fill(ids, PROMPT + n, 1);
    for (uint32_t i = 0; i < n; i++) {
        read_prompt(sessions[i], ids);
        logits[i] = &sessions[i]->logits;
    }
    const double from = now_ms();
    for (uint32_t k = 0; k < PASSES; k++) {
        for (uint32_t i = 0; i < n; i++)
            CHECK_OK(xl_stair_append(&sessions[i]->stair, ids + PROMPT + i, 1, &error_));
        CHECK_OK(xl_batch_advance(logits, n, &error_));
        for (uint32_t i = 0; i < n; i++) {
            xl_rule_full(&greedy, logits[i], 0, PROMPT, &confidence);
            xl_stair_truncate(&sessions[i]->stair, PROMPT);
        }
    }
    return (now_ms() - from) / PASSES;
}

/* Milliseconds a token of n sessions that write TOKENS each, together. */
static double write(exitlm_session **sessions, uint32_t n, exitlm_mode mode, double *depth) {
    static const char *const towns[MOST] = {"Oslo",   "Rome",  "Paris", "Berlin",
                                            "London", "Tokyo", "Lima",  "Cairo"};
    char text[200];
    exitlm_turn turns[MOST];
    exitlm_generate_options o = {.mode = mode, .max_tokens = TOKENS + 1, .accuracy = 0.9f};
    uint32_t left = n, tokens = 0;
    for (uint32_t i = 0; i < n; i++) {
        exitlm_session_reset(sessions[i]);
        const int bytes =
            snprintf(text, sizeof text,
                     "Once upon a time there lived an old woman in the city of %s. Every "
                     "morning she went to the market, and there she used to",
                     towns[i]);
        CHECK_OK(exitlm_session_text(sessions[i], text, (size_t)bytes, false, &o, &error_));
        turns[i].session = sessions[i];
        do CHECK_OK(exitlm_session_step(sessions[i], &turns[i].event, &error_));
        while (turns[i].event.type == EXITLM_EVENT_PROGRESS); /* the prompt, and a first token */
    }
    *depth = 0;
    const double from = now_ms();
    while (left) {
        CHECK_OK(exitlm_sessions_step(turns, left, &error_));
        for (uint32_t i = left; i-- > 0;) {
            tokens += turns[i].event.type == EXITLM_EVENT_TOKEN;
            if (turns[i].event.type != EXITLM_EVENT_DONE) continue;
            *depth += turns[i].event.stats.mean_depth / n;
            turns[i] = turns[--left];
        }
    }
    if (tokens < n * TOKENS)
        fprintf(stderr, "%u replies, %u tokens: some ended early\n", n, tokens);
    return (now_ms() - from) / tokens;
}

static void bench_batch(const exitlm_model *model, uint32_t reps, exitlm_mode mode) {
    exitlm_session *sessions[MOST];
    for (uint32_t i = 0; i < MOST; i++)
        sessions[i] = tiny_session(
            model, &(exitlm_session_options){.context_tokens = 256, .kv_type = EXITLM_KV_F16});
    for (uint32_t rep = 0; rep < reps; rep++)
        for (uint32_t c = 0; c < COUNTS; c++) {
            double depth;
            const double together = pass(sessions[0], counts[c]),
                         apart = pass_apart(sessions, counts[c]),
                         token = write(sessions, counts[c], mode, &depth);
            printf("{\"sessions\":%u,\"mode\":\"%s\",\"pass_ms\":%.4f,\"apart_ms\":%.4f,"
                   "\"token_ms\":%.4f,\"depth\":%.3f}\n",
                   counts[c], mode == EXITLM_MODE_FULL ? "full" : "exit", together, apart, token,
                   depth);
        }
    for (uint32_t i = 0; i < MOST; i++) exitlm_session_free(sessions[i]);
}

typedef struct file {
    uint8_t *bytes;
    size_t n, at;
} file;

static bool put(void *user, const void *bytes, size_t n) {
    file *f = user;
    memcpy(f->bytes + f->n, bytes, n);
    f->n += n;
    return true;
}

static bool get(void *user, void *bytes, size_t n) {
    file *f = user;
    memcpy(bytes, f->bytes + f->at, n);
    f->at += n;
    return true;
}

/* Megabytes that lie in memory; 0 where nobody says so. */
static double resident_mb(void) {
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    if (fscanf(f, "%*s %ld", &pages) != 1) pages = 0;
    fclose(f);
    return (double)pages * 4096e-6;
}

/* Milliseconds of one more token after all that the session has. */
static double token_ms(exitlm_session *s) {
    const int32_t id = 500;
    const uint32_t n = s->stair.n;
    const double from = now_ms();
    CHECK_OK(xl_stair_append(&s->stair, &id, 1, &error_));
    CHECK_OK(xl_stair_advance(&s->stair, s->run.model->config.n_layers, &error_));
    const double took = now_ms() - from;
    xl_stair_truncate(&s->stair, n);
    return took;
}

static void bench_restore(const exitlm_model *model, uint32_t reps, exitlm_kv_type type) {
    static const char *const names[] = {"f32", "f16", "q8"};
    static int32_t ids[LONG];
    exitlm_session *s =
        tiny_session(model, &(exitlm_session_options){.context_tokens = 2 * LONG, .kv_type = type});
    exitlm_generate_options o = {.max_tokens = 1};
    exitlm_event event;
    exitlm_session *copy;
    file f = {.bytes = malloc((size_t)256 << 20)};
    double reads[MAX_REPS], saves[MAX_REPS], restores[MAX_REPS], clones[MAX_REPS], firsts[MAX_REPS],
        nexts[MAX_REPS], parents[MAX_REPS], megabytes[MAX_REPS];
    fill(ids, LONG, 3);
    if (!f.bytes) exit(1);
    for (uint32_t rep = 0; rep < reps; rep++) {
        exitlm_session_reset(s);
        double from = now_ms();
        CHECK_OK(exitlm_session_start(s, ids, LONG, &o, &error_));
        do CHECK_OK(exitlm_session_step(s, &event, &error_));
        while (event.type == EXITLM_EVENT_PROGRESS);
        reads[rep] = now_ms() - from;
        f.n = f.at = 0;
        from = now_ms();
        CHECK_OK(exitlm_session_save(s, put, &f, &error_));
        saves[rep] = now_ms() - from;
        from = now_ms();
        CHECK_OK(exitlm_session_restore(s, get, &f, &error_));
        restores[rep] = now_ms() - from;
        parents[rep] = token_ms(s);
        megabytes[rep] = -resident_mb();
        from = now_ms();
        CHECK_OK(exitlm_session_clone(&copy, s, &error_));
        clones[rep] = now_ms() - from;
        firsts[rep] = token_ms(copy);
        nexts[rep] = token_ms(copy);
        megabytes[rep] += resident_mb();
        exitlm_session_free(copy);
    }
    printf("{\"restore\":%d,\"kv_type\":\"%s\",\"bytes\":%zu,\"read_ms\":%.2f,\"save_ms\":%.2f,"
           "\"restore_ms\":%.2f,\"clone_ms\":%.2f,\"clone_mb\":%.1f,\"token_ms\":%.2f,"
           "\"clone_first_token_ms\":%.2f,\"clone_token_ms\":%.2f}\n",
           LONG, names[type], f.n, median(reads, reps), median(saves, reps), median(restores, reps),
           median(clones, reps), median(megabytes, reps), median(parents, reps),
           median(firsts, reps), median(nexts, reps));
    free(f.bytes);
    exitlm_session_free(s);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "bench_sessions MODEL [HEADS [REPS]]\n");
        return 2;
    }
    const bool has_heads = argc > 2 && *argv[2];
    uint32_t reps = argc > 3 ? (uint32_t)atoi(argv[3]) : 5;
    if (reps < 1 || reps > MAX_REPS) reps = 5;
    size_t n;
    uint8_t *bytes;
    exitlm_heads *heads = NULL;
    if (has_heads) {
        bytes = tiny_read(argv[2], &n);
        CHECK_OK(exitlm_heads_create(&heads, bytes, n, NULL, &error_));
        free(bytes);
    }
    bytes = tiny_read(argv[1], &n);
    exitlm_model *model = tiny_load_bytes(bytes, n, heads);
    free(bytes);
    bench_batch(model, reps, EXITLM_MODE_FULL);
    if (heads) bench_batch(model, reps, EXITLM_MODE_EXIT);
    for (int type = 0; type < EXITLM_KV_TYPE_COUNT; type++)
        bench_restore(model, reps < 3 ? reps : 3, (exitlm_kv_type)type);
    exitlm_model_free(model);
    exitlm_heads_free(heads);
    return 0;
}
