/* The staircase: nothing that a position computes depends on how it was computed. And the step
 * machine on top of it. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "random_model.h"
#include "run/batch.h"
#include "run/snapshot.h"
#include "tiny.h"

enum { N = 90, PROMPT = 40 };

static const exitlm_model *plain; /* without heads */
static const exitlm_model *model; /* with heads */
static const exitlm_heads *heads;

static void make_ids(int32_t *ids, uint32_t n, uint32_t seed) {
    for (uint32_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (int32_t)(20 + (seed >> 8) % (plain->config.vocab - 40));
    }
}

/* Logits of the last of n positions, appended `chunk` at a time. */
static void last_logits(exitlm_session *s, const int32_t *ids, uint32_t n, uint32_t chunk,
                        float *out) {
    exitlm_session_reset(s);
    for (uint32_t i = 0; i < n; i += chunk) {
        CHECK_OK(xl_stair_append(&s->stair, ids + i, i + chunk < n ? chunk : n - i, &error_));
        CHECK_OK(xl_stair_advance(&s->stair, plain->config.n_layers, &error_));
    }
    CHECK_OK(xl_logits_compute(&s->logits, n - 1, 1, 0, &error_));
    xl_logits_by_id(&s->logits, s->logits.row, out);
}

static float *row(void) { return calloc(plain->config.vocab, sizeof(float)); }
static size_t row_bytes(void) { return plain->config.vocab * sizeof(float); }

static void test_batches_threads_kernels_and_row_order_change_nothing(void) {
    int32_t ids[N];
    float *reference = row(), *other = row();
    make_ids(ids, N, 1);
    for (int type = 0; type < EXITLM_KV_TYPE_COUNT; type++) {
        exitlm_session_options o = {.kv_type = (exitlm_kv_type)type, .context_tokens = 128};
        exitlm_session *s = tiny_session(plain, &o);
        last_logits(s, ids, N, 1, reference);
        for (uint32_t chunk = 2; chunk < 50; chunk += 5) {
            last_logits(s, ids, N, chunk, other);
            assert(memcmp(reference, other, row_bytes()) == 0);
        }
        exitlm_session_free(s);
        for (size_t k = 0; exitlm_kernel_name(k); k++) {
            o.kernel = exitlm_kernel_name(k);
            o.threads = 1 + (uint32_t)k % 3;
            s = tiny_session(plain, &o);
            last_logits(s, ids, N, 7, other);
            assert(memcmp(reference, other, row_bytes()) == 0);
            exitlm_session_free(s);
        }
        o.kernel = NULL;
        s = tiny_session(model, &o); /* rows of the embedding in the shortlist's order */
        last_logits(s, ids, N, N, other);
        assert(memcmp(reference, other, row_bytes()) == 0);
        exitlm_session_free(s);
    }
    free(reference);
    free(other);
}

/* Positions that stopped at different layers, filled later, give the K/V of the full model bit
 * for bit. */
static void test_exact_kv(void) {
    int32_t ids[N];
    float *reference = row(), *other = row();
    make_ids(ids, N, 2);
    exitlm_session *s = tiny_session(model, &(exitlm_session_options){.context_tokens = 128});
    last_logits(s, ids, N, 1, reference);
    exitlm_session_reset(s);
    uint32_t seed = 5, layers = model->config.n_layers;
    for (uint32_t i = 0; i < N; i++) {
        CHECK_OK(xl_stair_append(&s->stair, ids + i, 1, &error_));
        seed = seed * 1664525u + 1013904223u;
        CHECK_OK(xl_stair_advance(&s->stair, 1 + (seed >> 10) % layers, &error_));
        for (uint32_t p = 1; p < s->stair.n; p++)
            assert(s->stair.depth[p] <= s->stair.depth[p - 1]);
    }
    CHECK_OK(xl_stair_advance(&s->stair, layers, &error_));
    CHECK_OK(xl_logits_compute(&s->logits, N - 1, 1, 0, &error_));
    xl_logits_by_id(&s->logits, s->logits.row, other);
    assert(memcmp(reference, other, row_bytes()) == 0);
    exitlm_session_free(s);
    free(reference);
    free(other);
}

static bool keep_row(void *user, size_t position, const float *logits) {
    memcpy((float *)user + position * plain->config.vocab, logits, row_bytes());
    return true;
}

/* More positions than may wait at a time: whole prompts, exits that pile up, prompts that wait
 * for layers, and scores of each position. */
static void test_more_than_may_wait(void) {
    enum { LONG = XL_WAITING + 2 * XL_CHUNK + 7 };
    int32_t ids[LONG];
    float *reference = row(), *other = row(),
          *all = calloc((LONG + 1) * plain->config.vocab, sizeof *all);
    make_ids(ids, LONG, 12);
    exitlm_session *s = tiny_session(model, &(exitlm_session_options){.context_tokens = LONG + 1});
    last_logits(s, ids, LONG, 1, reference);
    last_logits(s, ids, LONG, LONG, other);
    assert(memcmp(reference, other, row_bytes()) == 0);
    const uint32_t layers = model->config.n_layers;
    exitlm_session_reset(s);
    for (uint32_t i = 0; i < LONG; i++) { /* each exits after the first or the second layer */
        CHECK_OK(xl_stair_append(&s->stair, ids + i, 1, &error_));
        CHECK_OK(xl_stair_advance(&s->stair, 1 + (i % 7 == 0), &error_));
        assert(s->stair.depth[i] >= 1 && s->stair.n - s->stair.through <= XL_WAITING);
    }
    CHECK_OK(xl_stair_advance(&s->stair, layers, &error_));
    CHECK_OK(xl_logits_compute(&s->logits, LONG - 1, 1, 0, &error_));
    xl_logits_by_id(&s->logits, s->logits.row, other);
    assert(memcmp(reference, other, row_bytes()) == 0);
    /* and back, over where the ring began anew */
    xl_stair_truncate(&s->stair, LONG - XL_WAITING - 3);
    CHECK_OK(xl_stair_append(&s->stair, ids + s->stair.n, LONG - s->stair.n, &error_));
    CHECK_OK(xl_stair_advance(&s->stair, 1, &error_));
    CHECK_OK(xl_stair_advance(&s->stair, layers, &error_));
    CHECK_OK(xl_logits_compute(&s->logits, LONG - 1, 1, 0, &error_));
    xl_logits_by_id(&s->logits, s->logits.row, other);
    assert(memcmp(reference, other, row_bytes()) == 0);
    CHECK_OK(exitlm_session_score(s, ids, LONG, keep_row, all, &error_));
    for (uint32_t n = 1; n < LONG; n += n < XL_WAITING - XL_MAX_VERIFY ? 40 : 1) {
        if (n > XL_WAITING + XL_MAX_VERIFY && n + 20 < LONG) continue;
        last_logits(s, ids, n, 32, other);
        assert(memcmp(all + n * plain->config.vocab, other, row_bytes()) == 0);
    }
    /* a copy goes on as the original, also from where later positions have been dropped */
    exitlm_session *copy =
        tiny_session(model, &(exitlm_session_options){.context_tokens = LONG + 1});
    for (uint32_t n = LONG - 3; n > LONG - 100; n -= 90) {
        xl_stair_truncate(&s->stair, n);
        assert(xl_snapshot_exact(&s->stair) == n);
        CHECK_OK(xl_stair_share(&copy->stair, &s->stair, n, &error_));
        CHECK_OK(xl_stair_append(&copy->stair, ids + n, LONG - n, &error_));
        CHECK_OK(xl_stair_advance(&copy->stair, layers, &error_));
        CHECK_OK(xl_logits_compute(&copy->logits, LONG - 1, 1, 0, &error_));
        xl_logits_by_id(&copy->logits, copy->logits.row, other);
        assert(memcmp(reference, other, row_bytes()) == 0);
    }
    exitlm_session_free(copy);
    /* what a window has lost is computed anew */
    assert(xl_stair_truncate(&s->stair, 5) == (model->config.window ? 0 : 5));
    exitlm_session_free(s);
    free(reference);
    free(other);
    free(all);
}

static void test_together(void) {
    enum { S = 11 };
    exitlm_session *sessions[S];
    xl_logits *together[S];
    float *expected[S];
    int32_t ids[N];
    exitlm_session_options o = {.context_tokens = 128};
    for (uint32_t i = 0; i < S; i++) {
        make_ids(ids, 20 + i, 100 + i);
        sessions[i] = tiny_session(plain, &o);
        expected[i] = row();
        last_logits(sessions[i], ids, 20 + i, 20 + i, expected[i]);
        xl_stair_truncate(&sessions[i]->stair, 19 + i);
        CHECK_OK(xl_stair_append(&sessions[i]->stair, ids + 19 + i, 1, &error_));
        together[i] = &sessions[i]->logits;
    }
    CHECK_OK(xl_batch_advance(together, S, &error_));
    for (uint32_t i = 0; i < S; i++) {
        assert(memcmp(sessions[i]->logits.row, expected[i], row_bytes()) == 0);
        exitlm_session_free(sessions[i]);
        free(expected[i]);
    }
}

/* ---- Replies ------------------------------------------------------------------------ */

static exitlm_generate_options options(exitlm_mode mode, float temperature, uint64_t seed) {
    exitlm_generate_options o;
    exitlm_generate_defaults(&o);
    o.mode = mode;
    o.temperature = temperature;
    o.seed = seed;
    o.max_tokens = 60;
    return o;
}

static void reply_to(exitlm_session *s, const int32_t *ids, uint32_t n,
                     const exitlm_generate_options *o, tiny_reply *reply) {
    CHECK_OK(exitlm_session_start(s, ids, n, o, &error_));
    tiny_run(s, reply);
}

static bool same(const tiny_reply *a, const tiny_reply *b) {
    return a->n == b->n && memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0 &&
           strcmp(a->whole, b->whole) == 0 && a->stats.reason == b->stats.reason;
}

static tiny_reply full, other;

static void test_lossless_is_full(void) {
    int32_t ids[PROMPT];
    uint32_t drafted = 0, accepted = 0;
    exitlm_session *reference =
        tiny_session(plain, &(exitlm_session_options){.context_tokens = 128});
    exitlm_session *s = tiny_session(model, &(exitlm_session_options){.context_tokens = 128});
    float bold[EXITLM_MAX_HEADS] = {2, 2, 2}, shy[EXITLM_MAX_HEADS] = {0.5f, 0.5f, 0.5f};
    for (uint32_t trial = 0; trial < 60; trial++) {
        make_ids(ids, PROMPT, trial);
        if (trial % 2) memcpy(ids + 20, ids, 20 * sizeof *ids); /* something to look up */
        exitlm_generate_options o = options(EXITLM_MODE_FULL, trial % 3 ? 0 : 0.8f, trial);
        if (trial % 5 == 4) o.repeat_penalty = 1.3f;
        reply_to(reference, ids, PROMPT, &o, &full);
        o.mode = EXITLM_MODE_LOSSLESS;
        o.draft_sources = (int32_t)(trial % 4);
        o.thresholds = trial % 3 ? bold : shy; /* bold: drafts that are often wrong */
        o.max_draft = trial % 9;
        o.events = trial % 2;
        if (trial % 7 == 6) {
            o.draft_layer = 2;
            o.draft_length = 4;
        }
        reply_to(s, ids, PROMPT, &o, &other);
        assert(same(&full, &other));
        drafted += other.stats.drafted;
        accepted += other.stats.accepted;
    }
    printf("lossless: %u of %u drafts accepted\n", accepted, drafted);
    assert(drafted > accepted && accepted > 0);
    exitlm_session_free(reference);
    exitlm_session_free(s);
}

/* Heads that are sure of whatever they say, so that the account lets them draft; of two vocabulary
 * exits the second one. */
static exitlm_heads *sure_heads(const uint32_t *layers, uint32_t n) {
    exitlm_heads *sure = tiny_heads(plain, layers, n, plain->config.vocab / 64 * 8, 5);
    sure->metric = EXITLM_METRIC_LOGISTIC;
    for (uint32_t h = 0; h < n; h++) {
        const bool goes_on = h + 1 < n && layers[h + 1] == layers[h];
        memcpy(sure->head[h].logistic, (float[6]){goes_on ? -9 : 9}, sizeof sure->head[h].logistic);
    }
    return sure;
}

static void test_sure_drafts(void) {
    const uint32_t last = plain->config.n_layers,
                   chains[][3] = {{1, 2, last}, {last, last}, {last}}, lengths[] = {3, 2, 1};
    for (int c = 0; c < 3; c++) {
        exitlm_heads *sure = sure_heads(chains[c], lengths[c]);
        exitlm_model *with = tiny_load(sure);
        exitlm_session *s = tiny_session(with, &(exitlm_session_options){.context_tokens = 128});
        uint32_t drafted = 0, accepted = 0;
        int32_t ids[PROMPT];
        for (uint32_t trial = 0; trial < 60; trial++) {
            make_ids(ids, PROMPT, trial);
            exitlm_generate_options o = options(EXITLM_MODE_FULL, trial % 3 ? 0 : 0.8f, trial);
            reply_to(s, ids, PROMPT, &o, &full);
            o.mode = EXITLM_MODE_LOSSLESS;
            o.draft_sources = 1;
            o.thresholds = (float[EXITLM_MAX_HEADS]){0.5f, 0.5f, 0.5f};
            reply_to(s, ids, PROMPT, &o, &other);
            assert(same(&full, &other));
            drafted += other.stats.drafted;
            accepted += other.stats.accepted;
        }
        printf("drafts of %u sure heads: %u of %u accepted\n", lengths[c], accepted, drafted);
        assert(drafted > accepted && accepted > 0);
        exitlm_session_free(s);
        exitlm_model_free(with);
        exitlm_heads_free(sure);
    }
}

static void test_exit_mode(void) {
    int32_t ids[PROMPT];
    make_ids(ids, PROMPT, 3);
    exitlm_session *s = tiny_session(model, &(exitlm_session_options){.context_tokens = 128});
    exitlm_generate_options o = options(EXITLM_MODE_FULL, 0, 0);
    reply_to(s, ids, PROMPT, &o, &full);
    float never[EXITLM_MAX_HEADS] = {0}, always[EXITLM_MAX_HEADS] = {2, 2, 2},
          barely[EXITLM_MAX_HEADS] = {1e-6f, 1e-6f, 1e-6f};
    o.mode = EXITLM_MODE_EXIT;
    o.thresholds = never;
    reply_to(s, ids, PROMPT, &o, &other);
    assert(same(&full, &other) && other.stats.full_tokens == other.n &&
           other.stats.mean_depth == 1);
    o.thresholds = barely; /* checks that all fail must not change the model's own logits */
    reply_to(s, ids, PROMPT, &o, &other);
    assert(same(&full, &other) && other.stats.mean_work > 1);
    for (int policy = EXITLM_POLICY_EXACT; policy < EXITLM_POLICY_COUNT; policy++) {
        o.thresholds = always;
        o.kv = (exitlm_kv_policy)policy;
        reply_to(s, ids, PROMPT, &o, &other);
        /* After a prompt that ran through all layers the first token has only the vocabulary
         * exit; the others leave at the first head. */
        assert(other.heads[0] == 2 && other.layers[0] == model->config.n_layers);
        for (uint32_t i = 1; i < other.n; i++)
            assert(other.heads[i] == 0 && other.layers[i] == heads->head[0].layer);
        assert(other.stats.exits[0] + 1 == other.n && other.stats.mean_depth < 1);
        /* With maps, what left before the mapping head waits for a token that comes to it; all
         * that came there is through. */
        const uint32_t mapping = s->heads->head[xl_heads_mapping(s->heads)].layer,
                       layers = model->config.n_layers;
        uint32_t mapped = 0;
        for (uint32_t p = 0; p + 1 < s->stair.n; p++) {
            if (policy == EXITLM_POLICY_PROPAGATE) assert(s->stair.depth[p] == layers);
            if (policy == EXITLM_POLICY_MAPS)
                assert(s->stair.depth[p] == layers || s->stair.depth[p] < mapping);
            mapped += s->stair.made[p] == XL_MADE_MAPS;
        }
        assert(mapped == 0);
    }
    /* The same with positions that leave at the mapping head: they and those that waited are
     * mapped there. */
    float some[EXITLM_MAX_HEADS] = {0, 2, 2};
    uint32_t at_first = 0, at_mapping = 0, waiting = 0;
    o.kv = EXITLM_POLICY_MAPS;
    o.thresholds = some;
    for (int step = 1; step < 100 && (at_first < 5 || at_mapping < 5); step++) {
        some[0] = (float)step / 100;
        reply_to(s, ids, PROMPT, &o, &other);
        at_first = at_mapping = waiting = 0;
        for (uint32_t i = 1; i < other.n; i++) {
            at_first += other.heads[i] == 0;
            at_mapping += other.heads[i] == 1;
            waiting = other.heads[i] == 0 ? waiting + 1 : 0;
        }
    }
    assert(at_first >= 5 && at_mapping >= 5 && at_first + at_mapping + 1 == other.n);
    for (uint32_t p = PROMPT; p < s->stair.n; p++) {
        const bool waits = p + waiting >= s->stair.n;
        assert(s->stair.depth[p] == (waits ? heads->head[0].layer : model->config.n_layers) &&
               s->stair.made[p] == (waits ? XL_MADE_EXACT : XL_MADE_MAPS));
    }
    o.kv = EXITLM_POLICY_EXACT;
    o.audit = 1;
    reply_to(s, ids, PROMPT, &o, &other);
    assert(other.stats.audited == other.n && other.stats.audit_disagreed > 0 &&
           other.stats.audit_disagreed == other.disagreed && other.disagreed < other.n);
    /* An audit is of exact K and V: */
    exitlm_error error;
    for (int kv = EXITLM_POLICY_MAPS; kv <= EXITLM_POLICY_PROPAGATE; kv++) {
        o.kv = (exitlm_kv_policy)kv;
        assert(exitlm_session_start(s, ids, PROMPT, &o, &error) == EXITLM_USAGE &&
               strstr(error.message, "audit with K/V policy"));
    }
    const exitlm_stats audited = other.stats;
    o.kv = EXITLM_POLICY_AUTO;
    reply_to(s, ids, PROMPT, &o, &other);
    assert(other.stats.audited == audited.audited &&
           other.stats.audit_disagreed == audited.audit_disagreed);
    /* What approximate K/V left behind is not used by the full model: */
    o.audit = 0;
    o.kv = EXITLM_POLICY_PROPAGATE;
    int32_t longer[N];
    memcpy(longer, ids, sizeof ids);
    reply_to(s, ids, PROMPT, &o, &other);
    memcpy(longer + PROMPT, other.ids, 20 * sizeof *longer);
    o = options(EXITLM_MODE_FULL, 0, 0);
    reply_to(s, longer, PROMPT + 20, &o, &other);
    assert(other.stats.reused_tokens <= PROMPT);
    exitlm_session *fresh = tiny_session(model, &(exitlm_session_options){.context_tokens = 128});
    reply_to(fresh, longer, PROMPT + 20, &o, &full);
    assert(same(&full, &other));
    exitlm_session_free(fresh);
    exitlm_session_free(s);
}

static void test_heads_given_late(void) { /* copied shortlist rows score like the shared ones */
    int32_t ids[PROMPT];
    make_ids(ids, PROMPT, 9);
    exitlm_session *shared = tiny_session(model, &(exitlm_session_options){.context_tokens = 128});
    exitlm_session *copied =
        tiny_session(plain, &(exitlm_session_options){.context_tokens = 128, .heads = heads});
    exitlm_generate_options o = options(EXITLM_MODE_EXIT, 0.7f, 4);
    float mixed[EXITLM_MAX_HEADS] = {0.6f, 0.8f, 0.9f};
    o.thresholds = mixed;
    reply_to(shared, ids, PROMPT, &o, &full);
    reply_to(copied, ids, PROMPT, &o, &other);
    assert(same(&full, &other) && memcmp(full.heads, other.heads, sizeof full.heads) == 0);
    exitlm_session_free(shared);
    exitlm_session_free(copied);
}

static void check_prompt(exitlm_session *s, uint32_t head, const xl_check *previous,
                         xl_check *check, uint64_t *macs) {
    const uint64_t before = s->run.macs;
    CHECK_OK(xl_exit_check(s->exits, head, PROMPT - 1, xl_hidden(&s->stair, PROMPT - 1), previous,
                           NULL, check, &error_));
    *macs = s->run.macs - before;
}

/* The second goes on from the scores of the first, and the model from the second's; no bit tells. */
static void test_two_vocabulary_exits(void) {
    enum { LIST = 96 };
    const uint32_t last = plain->config.n_layers, dim = plain->config.dim;
    exitlm_heads *two = tiny_heads(plain, (uint32_t[]){last, last}, 2, LIST, 5);
    exitlm_model *with = tiny_load(two);
    exitlm_session *s = tiny_session(with, &(exitlm_session_options){.context_tokens = 128}),
                   *late = tiny_session(
                       plain, &(exitlm_session_options){.context_tokens = 128, .heads = two});
    int32_t ids[PROMPT];
    make_ids(ids, PROMPT, 31);
    const size_t row_bytes = plain->config.vocab * sizeof(float);
    float *row = malloc(row_bytes);
    xl_check first, second, alone;
    uint64_t macs, macs_alone;
    assert(row);
    CHECK_OK(xl_stair_append(&s->stair, ids, PROMPT, &error_));
    CHECK_OK(xl_stair_advance(&s->stair, last, &error_));
    CHECK_OK(xl_logits_compute(&s->logits, PROMPT - 1, 1, 0, &error_));
    memcpy(row, s->logits.row, row_bytes);
    memset(s->logits.row, 0, row_bytes);
    check_prompt(s, 1, NULL, &alone, &macs_alone);
    memset(s->logits.row, 0, row_bytes);
    check_prompt(s, 0, NULL, &first, &macs);
    check_prompt(s, 1, &first, &second, &macs);
    assert(first.scored == LIST / 2 && second.scored == LIST && macs > 0);
    assert(macs_alone - macs == (uint64_t)first.scored * dim);
    assert(second.argmax == alone.argmax && second.p1 == alone.p1 &&
           second.margin == alone.margin && second.entropy == alone.entropy &&
           second.other == alone.other && second.uncertainty == alone.uncertainty);
    CHECK_OK(xl_logits_compute(&s->logits, PROMPT - 1, 1, second.scored, &error_));
    assert(memcmp(row, s->logits.row, row_bytes) == 0);
    free(row);

    uint32_t exits[3] = {0};
    float barely[EXITLM_MAX_HEADS] = {1e-6f, 1e-6f}, mixed[EXITLM_MAX_HEADS] = {0.5f, 0.9f};
    for (uint32_t trial = 0; trial < 12; trial++) {
        make_ids(ids, PROMPT, trial);
        exitlm_generate_options o = options(EXITLM_MODE_FULL, trial % 3 ? 0 : 0.8f, trial);
        reply_to(s, ids, PROMPT, &o, &full);
        o.mode = EXITLM_MODE_LOSSLESS;
        o.thresholds = mixed;
        reply_to(s, ids, PROMPT, &o, &other);
        assert(same(&full, &other));
        o.mode = EXITLM_MODE_EXIT;
        o.thresholds = barely;
        reply_to(s, ids, PROMPT, &o, &other);
        assert(same(&full, &other) && other.stats.full_tokens == other.n);
        o.thresholds = mixed;
        reply_to(s, ids, PROMPT, &o, &full);
        reply_to(late, ids, PROMPT, &o, &other); /* its list is a copy, scored anew each time */
        assert(same(&full, &other) && memcmp(full.heads, other.heads, sizeof full.heads) == 0);
        exits[0] += full.stats.exits[0];
        exits[1] += full.stats.exits[1];
        exits[2] += full.stats.full_tokens;
    }
    printf("two vocabulary exits: %u, %u, full %u\n", exits[0], exits[1], exits[2]);
    assert(exits[0] && exits[1] && exits[2]);
    exitlm_session_free(late);
    exitlm_session_free(s);
    exitlm_model_free(with);
    exitlm_heads_free(two);
}

static void test_stop_strings(void) {
    int32_t ids[PROMPT];
    make_ids(ids, PROMPT, 21);
    exitlm_session *s = tiny_session(model, &(exitlm_session_options){.context_tokens = 128});
    exitlm_generate_options o = options(EXITLM_MODE_FULL, 1.0f, 77);
    reply_to(s, ids, PROMPT, &o, &full);
    assert(strcmp(full.text, full.whole) == 0 && full.n > 10);
    size_t length = strlen(full.whole);
    for (size_t at = length / 4; at + 6 < length; at += length / 7) {
        char stop[6] = {0};
        memcpy(stop, full.whole + at, 5);
        const char *stops[2] = {"never in the text, surely", stop};
        o.stop = stops;
        o.n_stop = 2;
        reply_to(s, ids, PROMPT, &o, &other);
        size_t first = (size_t)(strstr(full.whole, stop) - full.whole);
        assert(other.stats.reason == EXITLM_REASON_STOP && other.stats.text_bytes == first);
        assert(memcmp(other.whole, full.whole, first) == 0 &&
               strcmp(other.text, other.whole) == 0 && other.n <= full.n);
        o.mode = EXITLM_MODE_LOSSLESS;
        tiny_reply *drafted = malloc(sizeof *drafted);
        float bold[EXITLM_MAX_HEADS] = {2, 2, 2};
        o.thresholds = bold;
        reply_to(s, ids, PROMPT, &o, drafted);
        assert(same(&other, drafted));
        free(drafted);
        o.mode = EXITLM_MODE_FULL;
    }
    exitlm_session_free(s);
}

static void test_stop_and_go_on(void) {
    int32_t ids[PROMPT];
    make_ids(ids, PROMPT, 31);
    exitlm_session *s = tiny_session(model, &(exitlm_session_options){.context_tokens = 128});
    exitlm_generate_options o = options(EXITLM_MODE_LOSSLESS, 0, 0);
    exitlm_event event;
    for (uint32_t steps = 0; steps < 30; steps++) {
        CHECK_OK(exitlm_session_start(s, ids, PROMPT, &o, &error_));
        for (uint32_t i = 0; i < steps; i++) CHECK_OK(exitlm_session_step(s, &event, &error_));
        exitlm_session_stop(s);
        tiny_reply rest;
        do CHECK_OK(exitlm_session_step(s, &event, &error_));
        while (event.type != EXITLM_EVENT_DONE);
        assert(event.stats.reason == EXITLM_REASON_ABORT);
        (void)rest;
    }
    reply_to(s, ids, PROMPT, &o, &other);
    o.mode = EXITLM_MODE_FULL;
    reply_to(s, ids, PROMPT, &o, &full);
    assert(same(&full, &other) && full.stats.reused_tokens == PROMPT - 1);
    exitlm_session_free(s);
}

static exitlm_status start_bad(exitlm_session *s, exitlm_generate_options o, size_t n,
                               exitlm_error *error) {
    int32_t ids[200] = {30};
    for (size_t i = 0; i < n && i < 200; i++) ids[i] = 30;
    return exitlm_session_start(s, ids, n, &o, error);
}

static void test_errors(void) {
    exitlm_error e;
    exitlm_session *s = tiny_session(plain, &(exitlm_session_options){.context_tokens = 128}),
                   *none = NULL;
    exitlm_event event;
    exitlm_generate_options o = options(EXITLM_MODE_FULL, 0, 0), bad = o;
    assert(exitlm_session_step(s, &event, &e) == EXITLM_USAGE);
    assert(start_bad(s, o, 128, &e) == EXITLM_CONTEXT_FULL && strstr(e.message, "128"));
    assert(start_bad(s, o, 0, &e) == EXITLM_USAGE);
    bad.mode = EXITLM_MODE_EXIT;
    assert(start_bad(s, bad, 5, &e) == EXITLM_USAGE && strstr(e.message, "heads"));
    bad = o, bad.temperature = -1;
    assert(start_bad(s, bad, 5, &e) == EXITLM_USAGE && strstr(e.message, "temperature"));
    bad = o, bad.top_p = 1.5f;
    assert(start_bad(s, bad, 5, &e) == EXITLM_USAGE);
    const char *stops[1] = {""};
    bad = o, bad.stop = stops, bad.n_stop = 1;
    assert(start_bad(s, bad, 5, &e) == EXITLM_USAGE);
    int32_t outside[1] = {(int32_t)plain->config.vocab};
    assert(exitlm_session_start(s, outside, 1, &o, &e) == EXITLM_USAGE);
    assert(exitlm_session_create(&none, plain, &(exitlm_session_options){.kernel = "abacus"}, &e) ==
               EXITLM_USAGE &&
           !none);
    assert(exitlm_session_create(&none, plain,
                                 &(exitlm_session_options){.context_tokens = 1u << 30},
                                 &e) == EXITLM_USAGE &&
           !none);
    /* the end of the context ends the reply */
    o.max_tokens = 0;
    assert(start_bad(s, o, 100, &e) == EXITLM_OK);
    tiny_run(s, &full);
    assert(full.n <= 28 && (full.n == 28) == (full.stats.reason == EXITLM_REASON_LENGTH));
    exitlm_session_free(s);
}

/* The same replies from drafts that are often wrong, whatever the model. */
static void test_few_lossless(void) {
    int32_t ids[PROMPT];
    exitlm_session *s = tiny_session(model, &(exitlm_session_options){.context_tokens = 128});
    float bold[EXITLM_MAX_HEADS] = {2, 2, 2};
    for (uint32_t trial = 0; trial < 4; trial++) {
        make_ids(ids, PROMPT, 50 + trial);
        exitlm_generate_options o = options(EXITLM_MODE_FULL, trial % 2 ? 0.8f : 0, trial);
        reply_to(s, ids, PROMPT, &o, &full);
        o.mode = EXITLM_MODE_LOSSLESS;
        o.thresholds = bold;
        o.draft_sources = (int32_t)(trial % 4);
        reply_to(s, ids, PROMPT, &o, &other);
        assert(same(&full, &other));
    }
    exitlm_session_free(s);
}

static void test_on(const random_model *kind) {
    xl_buffer file;
    xl_buffer_init(&file, &xl_libc_allocator);
    assert(random_model_write(kind, &file));
    exitlm_model *without = tiny_load_bytes(file.data, file.n_bytes, NULL);
    exitlm_heads *own =
        tiny_heads(without, (uint32_t[]){1, 2, without->config.n_layers}, 3, 400, 11);
    exitlm_model *with = tiny_load_bytes(file.data, file.n_bytes, own);
    const exitlm_model *const kept_plain = plain, *const kept_model = model;
    const exitlm_heads *const kept_heads = heads;
    plain = without, model = with, heads = own;
    test_batches_threads_kernels_and_row_order_change_nothing();
    test_exact_kv();
    test_together();
    test_few_lossless();
    if (kind->window) test_more_than_may_wait(); /* the windows' rings have begun anew by then */
    test_heads_given_late();
    plain = kept_plain, model = kept_model, heads = kept_heads;
    exitlm_model_free(with);
    exitlm_model_free(without);
    exitlm_heads_free(own);
    xl_buffer_free(&file);
}

/* Shapes and types that the tiny model has not. */
static void test_other_models(void) {
    random_model base;
    random_model_defaults(&base);
    random_model kinds[8];
    for (size_t i = 0; i < 8; i++) kinds[i] = base;
    kinds[0].heads = kinds[0].kv_heads = 4; /* each its own K and V */
    kinds[1].heads = 3, kinds[1].kv_heads = 1, kinds[1].head_dim = 32;
    kinds[2].heads = 7, kinds[2].kv_heads = 1, kinds[2].head_dim = 32;
    kinds[3].arch = "qwen2";                         /* biases */
    kinds[4].arch = "qwen3", kinds[4].untied = true; /* norms of q and k */
    kinds[5].type = "F16", kinds[5].embedding = "F16";
    kinds[6].type = "Q4_K", kinds[6].dim = 256, kinds[6].ffn_dim = 256, kinds[6].heads = 8,
    kinds[6].kv_heads = 2;
    kinds[7].untied = true, kinds[7].rope_freqs = true;
    for (size_t i = 0; i < 8; i++) {
        if (i == 6) kinds[i].head_dim = 32;
        test_on(&kinds[i]);
    }
    for (uint32_t i = 0; i < RANDOM_FAMILIES; i++) {
        random_model_family(&base, i);
        test_on(&base);
    }
}

int main(void) {
    plain = tiny_load(NULL);
    heads = tiny_heads(plain, (uint32_t[]){1, 2, plain->config.n_layers}, 3, 400, 11);
    model = tiny_load(heads);
    test_batches_threads_kernels_and_row_order_change_nothing();
    test_exact_kv();
    test_more_than_may_wait();
    test_together();
    test_lossless_is_full();
    test_sure_drafts();
    test_exit_mode();
    test_heads_given_late();
    test_two_vocabulary_exits();
    test_stop_strings();
    test_stop_and_go_on();
    test_errors();
    test_other_models();
    exitlm_model_free((exitlm_model *)(uintptr_t)model);
    exitlm_model_free((exitlm_model *)(uintptr_t)plain);
    exitlm_heads_free((exitlm_heads *)(uintptr_t)heads);
    puts("session: all right");
    return 0;
}
