/* Several conversations: advanced together, saved and restored, cloned. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checksum.h"
#include "run/stair.h"
#include "tiny.h"

enum { S = 8, CTX = 160 };

static const exitlm_model *model;
static const exitlm_heads *heads;
static tiny_reply alone[S], beside[S], other;
static const float bold[EXITLM_MAX_HEADS] = {0.9f, 0.9f, 0.9f},
                   shy[EXITLM_MAX_HEADS] = {0.5f, 0.6f, 0.7f};

static uint32_t make_ids(int32_t *ids, uint32_t n, uint64_t seed) {
    for (uint32_t i = 0; i < n; i++)
        ids[i] = (int32_t)(20 + xl_random(&seed) % (model->config.vocab - 40));
    if (seed % 2 && n > 20) memcpy(ids + n - 10, ids, 10 * sizeof *ids); /* something to look up */
    return n;
}

static exitlm_generate_options options(exitlm_mode mode, float temperature, uint64_t seed) {
    return (exitlm_generate_options){.mode = mode,
                                     .temperature = temperature,
                                     .seed = seed,
                                     .max_tokens = 40,
                                     .thresholds = bold};
}

/* ---- Together ---- */

static const exitlm_generate_options kinds[S] = {
    {.mode = EXITLM_MODE_FULL},
    {.mode = EXITLM_MODE_FULL, .temperature = 0.9f, .repeat_penalty = 1.2f},
    {.mode = EXITLM_MODE_EXIT, .thresholds = bold, .kv = EXITLM_POLICY_EXACT},
    {.mode = EXITLM_MODE_EXIT, .thresholds = shy, .temperature = 0.7f, .audit = 0.5f},
    {.mode = EXITLM_MODE_EXIT, .thresholds = bold, .kv = EXITLM_POLICY_MAPS},
    {.mode = EXITLM_MODE_LOSSLESS, .thresholds = bold, .events = true},
    {.mode = EXITLM_MODE_LOSSLESS, .thresholds = shy, .temperature = 0.8f},
    {.mode = EXITLM_MODE_LOSSLESS, .draft_layer = 2, .draft_length = 3},
};

static void start(exitlm_session *s, uint32_t i, uint64_t round) {
    int32_t ids[CTX];
    exitlm_generate_options o = kinds[i];
    o.seed = round * 100 + i;
    o.max_tokens = 30 + 5 * i;
    const uint32_t n = make_ids(ids, 3 + (uint32_t)(o.seed * 37 % 90), o.seed);
    CHECK_OK(exitlm_session_start(s, ids, n, &o, &error_));
}

static void check_same(const tiny_reply *a, const tiny_reply *b, uint32_t i) {
    const exitlm_stats *x = &a->stats, *y = &b->stats;
    if (a->n == b->n && memcmp(a->ids, b->ids, sizeof a->ids) == 0 &&
        memcmp(a->heads, b->heads, sizeof a->heads) == 0 &&
        memcmp(a->layers, b->layers, sizeof a->layers) == 0 &&
        memcmp(a->work, b->work, sizeof a->work) == 0 && strcmp(a->whole, b->whole) == 0 &&
        x->reason == y->reason && x->mean_work == y->mean_work && x->drafted == y->drafted &&
        x->accepted == y->accepted && x->audited == y->audited &&
        x->audit_disagreed == y->audit_disagreed && x->reused_tokens == y->reused_tokens)
        return;
    fprintf(stderr, "reply %u is another one beside others: work %g and %g, drafted %u and %u\n", i,
            x->mean_work, y->mean_work, x->drafted, y->drafted);
    exit(1);
}

/* Fresh: what drafting learns stays with a session. */
static exitlm_session *session_of(uint32_t i, uint64_t round) {
    return tiny_session(
        model, &(exitlm_session_options){.context_tokens = CTX - 7 * (i % 3), /* not all the same */
                                         .kv_type = i % 2 ? EXITLM_KV_Q8 : EXITLM_KV_F32,
                                         .threads = i == 1 || round % 2 ? 2 : 1});
}

/* Replies of all modes, that begin and end at different times. */
static void test_a_reply_does_not_depend_on_who_is_there(void) {
    exitlm_session *sessions[S];
    for (uint64_t round = 0; round < 12; round++) {
        for (uint32_t i = 0; i < S; i++) {
            sessions[i] = session_of(i, round);
            start(sessions[i], i, round);
            tiny_run(sessions[i], &alone[i]);
            exitlm_session_free(sessions[i]);
            sessions[i] = session_of(i, round);
        }
        memset(beside, 0, sizeof beside);
        enum { LATER, NOW, OVER } state[S] = {LATER};
        for (uint32_t step = 0, left = S; left; step++) {
            exitlm_turn turns[S];
            uint32_t of[S], n = 0;
            for (uint32_t k = 0; k < S; k++) {
                const uint32_t i = (k + (uint32_t)round) % S; /* each leads once */
                if (state[i] == LATER && step >= (i * 5 + round) % 17) {
                    start(sessions[i], i, round);
                    state[i] = NOW;
                }
                if (state[i] != NOW) continue;
                turns[n].session = sessions[i];
                of[n++] = i;
            }
            if (n == 0) continue;
            CHECK_OK(exitlm_sessions_step(turns, n, &error_));
            for (uint32_t k = 0; k < n; k++) {
                assert(turns[k].status == EXITLM_OK);
                if (!tiny_take(sessions[of[k]], &turns[k].event, &beside[of[k]])) continue;
                state[of[k]] = OVER;
                left--;
            }
        }
        for (uint32_t i = 0; i < S; i++) {
            check_same(&alone[i], &beside[i], i);
            exitlm_session_free(sessions[i]);
        }
    }
}

/* As many rows as threads share, of positions that want the same places in the tables of angles. */
static void test_positions_a_whole_table_apart(void) {
    enum { LONG = 400, FAR = XL_WAITING };
    static int32_t ids[LONG];
    exitlm_session *sessions[S];
    exitlm_turn turns[S];
    const exitlm_session_options o = {.context_tokens = LONG, .threads = 3};
    const exitlm_generate_options full = options(EXITLM_MODE_FULL, 0.8f, 7);
    memset(beside, 0, sizeof beside);
    for (uint32_t i = 0; i < S; i++) {
        const uint32_t n = make_ids(ids, 40 + FAR * (i % 3 == 1), i + 1);
        sessions[i] = tiny_session(model, &o);
        CHECK_OK(exitlm_session_start(sessions[i], ids, n, &full, &error_));
        tiny_run(sessions[i], &alone[i]);
        exitlm_session_reset(sessions[i]);
        CHECK_OK(exitlm_session_start(sessions[i], ids, n, &full, &error_));
        do {
            CHECK_OK(exitlm_session_step(sessions[i], &turns[i].event, &error_));
            assert(!tiny_take(sessions[i], &turns[i].event, &beside[i]));
        } while (sessions[i]->generation->phase == XL_PROMPT);
        turns[i].session = sessions[i];
    }
    for (uint32_t n = S; n > 0;) {
        CHECK_OK(exitlm_sessions_step(turns, n, &error_));
        for (uint32_t k = n; k-- > 0;) {
            uint32_t i = 0;
            while (sessions[i] != turns[k].session) i++;
            assert(turns[k].status == EXITLM_OK);
            if (tiny_take(sessions[i], &turns[k].event, &beside[i])) turns[k] = turns[--n];
        }
    }
    for (uint32_t i = 0; i < S; i++) {
        check_same(&alone[i], &beside[i], i);
        exitlm_session_free(sessions[i]);
    }
}

/* More rows of logits than are computed at a time, each begun by a check of the vocabulary exit. */
static void test_more_than_a_verification_holds(void) {
    enum { MANY = 2 * XL_MAX_VERIFY + 3 };
    static tiny_reply by_itself[MANY], together[MANY];
    exitlm_generate_options barely = options(EXITLM_MODE_EXIT, 0, 0);
    exitlm_turn turns[MANY];
    barely.thresholds = (float[EXITLM_MAX_HEADS]){0, 0, 1e-6f};
    barely.max_tokens = 4;
    for (uint32_t i = 0; i < MANY; i++) {
        int32_t ids[20];
        exitlm_session *s = tiny_session(model, &(exitlm_session_options){.context_tokens = 32});
        make_ids(ids, 20, i + 1);
        CHECK_OK(exitlm_session_start(s, ids, 20, &barely, &error_));
        tiny_run(s, &by_itself[i]);
        exitlm_session_reset(s);
        CHECK_OK(exitlm_session_start(s, ids, 20, &barely, &error_));
        do {
            CHECK_OK(exitlm_session_step(s, &turns[i].event, &error_));
            assert(!tiny_take(s, &turns[i].event, &together[i]));
        } while (s->generation->phase == XL_PROMPT);
        turns[i].session = s;
    }
    for (bool over = false; !over;) {
        CHECK_OK(exitlm_sessions_step(turns, MANY, &error_));
        for (uint32_t i = 0; i < MANY; i++) {
            assert(turns[i].status == EXITLM_OK);
            over = tiny_take(turns[i].session, &turns[i].event, &together[i]);
        }
    }
    for (uint32_t i = 0; i < MANY; i++) {
        check_same(&by_itself[i], &together[i], i);
        exitlm_session_free(turns[i].session);
    }
}

/* A long prompt beside a reply: neither waits for the other's end, and a stop is heard. */
static void test_prompts_are_read_between_tokens(void) {
    int32_t ids[CTX];
    exitlm_session *s[2] = {tiny_session(model, &(exitlm_session_options){.context_tokens = CTX}),
                            tiny_session(model, &(exitlm_session_options){.context_tokens = CTX})};
    exitlm_generate_options o = options(EXITLM_MODE_FULL, 0, 0);
    exitlm_turn turns[2] = {{.session = s[0]}, {.session = s[1]}};
    CHECK_OK(exitlm_session_start(s[0], ids, make_ids(ids, 5, 1), &o, &error_));
    CHECK_OK(exitlm_sessions_step(turns, 1, &error_));
    CHECK_OK(exitlm_session_start(s[1], ids, make_ids(ids, 150, 2), &o, &error_));
    uint32_t written = 0, read = 0;
    while (s[1]->generation->phase == XL_PROMPT) {
        CHECK_OK(exitlm_sessions_step(turns, 2, &error_));
        assert(turns[0].status == EXITLM_OK && turns[1].status == EXITLM_OK);
        written += turns[0].event.type == EXITLM_EVENT_TOKEN;
        if (turns[1].event.type != EXITLM_EVENT_PROGRESS) continue;
        assert(turns[1].event.prompt_done >= read);
        read = turns[1].event.prompt_done;
    }
    assert(written >= 3 && read > 0);
    exitlm_session_stop(s[0]);
    while (turns[0].event.type != EXITLM_EVENT_DONE)
        CHECK_OK(exitlm_sessions_step(turns, 2, &error_));
    assert(turns[0].event.stats.reason == EXITLM_REASON_ABORT);
    exitlm_session_free(s[0]);
    exitlm_session_free(s[1]);
}

static void test_turns_that_cannot_be_taken(void) {
    exitlm_error error;
    exitlm_session *a = tiny_session(model, &(exitlm_session_options){.context_tokens = 32}),
                   *b = tiny_session(model, &(exitlm_session_options){.context_tokens = 32});
    exitlm_turn turns[3] = {{.session = a}, {.session = a}, {.session = NULL}};
    assert(exitlm_sessions_step(NULL, 1, &error) == EXITLM_USAGE);
    assert(exitlm_sessions_step(turns, 0, &error) == EXITLM_USAGE);
    assert(exitlm_sessions_step(turns, EXITLM_MAX_TURNS + 1, &error) == EXITLM_USAGE);
    assert(exitlm_sessions_step(turns, 2, &error) == EXITLM_USAGE);
    turns[1].session = b;
    assert(exitlm_sessions_step(turns, 3, &error) == EXITLM_USAGE && strstr(error.message, "2"));
    /* one that has no reply says so in its turn, the other goes on */
    exitlm_generate_options o = options(EXITLM_MODE_FULL, 0, 0);
    CHECK_OK(exitlm_session_start(b, (int32_t[]){30, 31}, 2, &o, &error_));
    CHECK_OK(exitlm_sessions_step(turns, 2, &error_));
    assert(turns[0].status == EXITLM_USAGE && strstr(turns[0].error.message, "start"));
    assert(turns[1].status == EXITLM_OK);
    exitlm_session_free(a);
    exitlm_session_free(b);
}

/* ---- Saved ---- */

typedef struct file {
    uint8_t *bytes;
    size_t n, at, capacity;
    bool mend;    /* give a checksum that is right, whatever the bytes are */
    uint64_t sum; /* of what has been given */
} file;

static bool put(void *user, const void *bytes, size_t n) {
    file *f = user;
    if (f->n + n > f->capacity) return false;
    memcpy(f->bytes + f->n, bytes, n);
    f->n += n;
    return true;
}

static bool get(void *user, void *bytes, size_t n) {
    file *f = user;
    if (n > f->n - f->at) return false;
    memcpy(bytes, f->bytes + f->at, n);
    f->at += n;
    if (f->mend && f->at == f->n && n == sizeof f->sum) memcpy(bytes, &f->sum, sizeof f->sum);
    f->sum = xl_mix64(f->sum ^ xl_checksum(bytes, n));
    return true;
}

static exitlm_status restore(exitlm_session *s, file *f, exitlm_error *error) {
    f->at = 0;
    f->sum = 0;
    return exitlm_session_restore(s, get, f, error);
}

static file save(const exitlm_session *s) {
    file f = {.capacity = (size_t)8 << 20};
    f.bytes = calloc(1, f.capacity);
    CHECK_OK(exitlm_session_save(s, put, &f, &error_));
    return f;
}

/* A turn, and the next one after it, in this session. */
static void first_turn(exitlm_session *s, tiny_reply *reply, exitlm_mode mode) {
    exitlm_generate_options o = options(mode, 0.9f, 5);
    CHECK_OK(exitlm_session_chat(s, &(exitlm_message){"user", "hello there"}, 1, &o, &error_));
    tiny_run(s, reply);
}

static void second_turn(exitlm_session *s, const char *first, tiny_reply *reply) {
    const exitlm_message messages[] = {
        {"user", "hello there"}, {"assistant", first}, {"user", "and now?"}};
    exitlm_generate_options o = options(EXITLM_MODE_FULL, 0.9f, 6);
    CHECK_OK(exitlm_session_chat(s, messages, 3, &o, &error_));
    tiny_run(s, reply);
}

static void test_a_restored_conversation_goes_on(void) {
    for (int type = 0; type < EXITLM_KV_TYPE_COUNT; type++)
        for (int mode = 0; mode < EXITLM_MODE_COUNT; mode++) {
            exitlm_session_options o = {.context_tokens = CTX, .kv_type = (exitlm_kv_type)type};
            exitlm_session *s = tiny_session(model, &o);
            first_turn(s, &other, (exitlm_mode)mode);
            file f = save(s), again = save(s);
            assert(f.n == again.n && memcmp(f.bytes, again.bytes, f.n) == 0);
            exitlm_session *clone;
            CHECK_OK(exitlm_session_clone(&clone, s, &error_));
            second_turn(s, other.whole, &alone[0]);
            /* a larger context, and something else in it */
            exitlm_session *fresh = tiny_session(
                model, &(exitlm_session_options){.context_tokens = CTX + 40, .kv_type = o.kv_type});
            first_turn(fresh, &beside[1], EXITLM_MODE_EXIT);
            CHECK_OK(restore(fresh, &f, &error_));
            assert(f.at == f.n);
            second_turn(fresh, other.whole, &beside[0]);
            exitlm_session_free(s); /* the clone lives on */
            second_turn(clone, other.whole, &beside[2]);
            for (int i = 0; i < 3; i += 2) {
                assert(beside[i].n == alone[0].n &&
                       memcmp(beside[i].ids, alone[0].ids, sizeof alone[0].ids) == 0);
                assert(beside[i].stats.reused_tokens > 20);
                assert(mode == EXITLM_MODE_EXIT ||
                       beside[i].stats.reused_tokens == alone[0].stats.reused_tokens);
            }
            exitlm_session_free(clone);
            exitlm_session_free(fresh);
            free(f.bytes);
            free(again.bytes);
        }
}

static exitlm_session *small_session(void) {
    exitlm_session *s = tiny_session(model, &(exitlm_session_options){.context_tokens = 48});
    int32_t ids[48];
    exitlm_generate_options o = options(EXITLM_MODE_FULL, 0, 0);
    o.max_tokens = 4;
    CHECK_OK(exitlm_session_start(s, ids, make_ids(ids, 3, 8), &o, &error_));
    tiny_run(s, &other);
    CHECK_OK(exitlm_session_text(s, "ab", 2, false, &o, &error_));
    tiny_run(s, &other);
    return s;
}

static void expect_empty(exitlm_session *s, const exitlm_error *error) {
    assert(s->stair.n == 0 && !s->generation->context_known && strlen(error->message) > 20);
}

/* Each byte changed, each length cut, and another model, K/V type or context. */
static void test_damaged_and_foreign_files_are_refused(void) {
    exitlm_error error;
    exitlm_session *s = small_session();
    file f = save(s);
    for (size_t at = 0; at < f.n; at++) {
        f.bytes[at] ^= (uint8_t)(1u << at % 8);
        assert(restore(s, &f, &error) != EXITLM_OK);
        expect_empty(s, &error);
        f.bytes[at] ^= (uint8_t)(1u << at % 8);
    }
    const size_t whole = f.n;
    for (f.n = 0; f.n < whole; f.n += f.n < 400 || f.n > whole - 40 ? 1 : 97) {
        assert(restore(s, &f, &error) == EXITLM_BAD_MODEL);
        expect_empty(s, &error);
    }
    f.n = whole;
    exitlm_session *q8 = tiny_session(
        model, &(exitlm_session_options){.context_tokens = 48, .kv_type = EXITLM_KV_Q8});
    assert(restore(q8, &f, &error) == EXITLM_USAGE && strstr(error.message, "type"));
    exitlm_session *narrow = tiny_session(model, &(exitlm_session_options){.context_tokens = 4});
    assert(restore(narrow, &f, &error) == EXITLM_CONTEXT_FULL);
    f.bytes[20] ^= 1; /* the fingerprint */
    f.mend = true;
    assert(restore(s, &f, &error) == EXITLM_USAGE && strstr(error.message, "another model"));
    f.bytes[20] ^= 1;
    f.bytes[8] = 1; /* the version before K and V were rotated */
    assert(restore(s, &f, &error) == EXITLM_UNSUPPORTED && strstr(error.message, "format 1"));
    f.bytes[8] = 2;
    const int32_t no_token = (int32_t)model->config.vocab;
    int32_t id;
    uint8_t *turn = f.bytes + 136; /* the ids of the last turn, behind the head */
    memcpy(&id, turn, sizeof id);
    assert(other.n && id == other.ids[0]);
    memcpy(turn, &no_token, sizeof id);
    assert(restore(s, &f, &error) == EXITLM_USAGE && strstr(error.message, "token"));
    expect_empty(s, &error);
    memcpy(turn, &id, sizeof id);
    CHECK_OK(restore(s, &f, &error_)); /* and after all that the session works */
    f.capacity = 0;
    assert(exitlm_session_save(s, put, &f, &error) == EXITLM_IO);
    assert(exitlm_session_save(NULL, put, &f, &error) == EXITLM_USAGE);
    assert(exitlm_session_restore(s, NULL, &f, &error) == EXITLM_USAGE);
    exitlm_session_free(narrow);
    exitlm_session_free(q8);
    exitlm_session_free(s);
    free(f.bytes);
}

/* Bytes of somebody who can mend the checksum: whatever is taken, replies end as they should. */
static void test_hostile_files_break_nothing(void) {
    exitlm_error error;
    exitlm_session *s = small_session();
    file f = save(s);
    uint8_t *good = malloc(f.n);
    memcpy(good, f.bytes, f.n);
    f.mend = true;
    uint32_t taken = 0;
    uint64_t seed = 1;
    for (int trial = 0; trial < 3000; trial++) {
        memcpy(f.bytes, good, f.n);
        for (uint64_t edits = 1 + xl_random(&seed) % 4; edits > 0; edits--) {
            const bool in_head = xl_random(&seed) % 2;
            const size_t at = xl_random(&seed) % (in_head ? 180 : f.n - 8);
            static const uint8_t bytes[] = {0, 1, 0x7f, 0x80, 0xff, 3};
            f.bytes[at] = bytes[xl_random(&seed) % sizeof bytes];
        }
        if (trial % 10 == 0) memset(f.bytes + 200, 0xff, 400);
        if (restore(s, &f, &error) != EXITLM_OK) {
            expect_empty(s, &error);
            continue;
        }
        taken++;
        exitlm_generate_options o = options(EXITLM_MODE_EXIT, 0, 0);
        o.max_tokens = 3;
        if (exitlm_session_text(s, "ab", 2, false, &o, &error) == EXITLM_OK) tiny_run(s, &other);
    }
    printf("sessions: %u of 3000 hostile files were taken\n", taken);
    assert(taken > 100 && taken < 2900);
    exitlm_session_free(s);
    free(f.bytes);
    free(good);
}

int main(void) {
    exitlm_model *plain = tiny_load(NULL);
    heads = tiny_heads(plain, (uint32_t[]){1, 2, plain->config.n_layers}, 3, 400, 11);
    model = tiny_load(heads);
    test_a_reply_does_not_depend_on_who_is_there();
    test_positions_a_whole_table_apart();
    test_more_than_a_verification_holds();
    test_prompts_are_read_between_tokens();
    test_turns_that_cannot_be_taken();
    test_a_restored_conversation_goes_on();
    test_damaged_and_foreign_files_are_refused();
    test_hostile_files_break_nothing();
    exitlm_model_free((exitlm_model *)(uintptr_t)model);
    exitlm_model_free(plain);
    exitlm_heads_free((exitlm_heads *)(uintptr_t)heads);
    puts("sessions: all right");
    return 0;
}
