/* Each allocation of a conversation's life fails once: creating, replies in every mode, shaped ones,
 * a chat, log-probabilities, saving and restoring, a copy, scores. The call that it hits says so, and
 * succeeds when it is made again; in the end all has been said that is said without a failure, and
 * nothing leaks. (Of loading: test_loader, test_heads; of training: faults.) */
#include "counting.h"
#include "random_model.h"
#include "tiny.h"

#include "base/bytes.h"
#include "base/checksum.h"
#include "gguf/gguf_write.h"

#include <string.h>

static counting memory;
static size_t n_hit; /* calls that a failure has hit */

/* The status of a call that has hit a failing allocation is another one the second time. */
#define TRY(call)                                                             \
    do {                                                                      \
        exitlm_error error = {0};                                             \
        exitlm_status status = (call);                                        \
        if (status == EXITLM_OUT_OF_MEMORY) {                                 \
            CHECK(memory.calls >= memory.fail_at && memory.fail_at);          \
            CHECK(error.status == status && strstr(error.message, "memory")); \
            n_hit++;                                                          \
            status = (call);                                                  \
        }                                                                     \
        if (status != EXITLM_OK) fprintf(stderr, "%s\n", error.message);      \
        CHECK(status == EXITLM_OK);                                           \
    } while (0)

typedef struct life {
    exitlm_model *model;
    const exitlm_heads *heads;
    uint64_t said; /* a sum of all that was said */
} life;

static void hear(life *l, const void *bytes, size_t n_bytes) {
    l->said = xl_mix64(l->said ^ xl_checksum(bytes, n_bytes));
}

static tiny_reply reply;

static void run_out(life *l, exitlm_session *s) {
    const size_t calls = memory.calls;
    tiny_run(s, &reply);
    CHECK(memory.calls == calls); /* a step allocates nothing */
    hear(l, reply.ids, reply.n * sizeof *reply.ids);
    hear(l, reply.whole, reply.stats.text_bytes);
}

static exitlm_generate_options short_reply(exitlm_mode mode) {
    exitlm_generate_options o;
    exitlm_generate_defaults(&o);
    o.mode = mode;
    o.max_tokens = 5;
    o.kv = mode == EXITLM_MODE_EXIT ? EXITLM_POLICY_MAPS : EXITLM_POLICY_AUTO;
    return o;
}

static void say(life *l, exitlm_session *s, const char *text, const exitlm_generate_options *o) {
    TRY(exitlm_session_text(s, text, strlen(text), false, o, &error));
    run_out(l, s);
}

static void shape(life *l, exitlm_session *s, exitlm_mode mode) {
    static const char schema[] = "{\"type\":\"object\",\"properties\":{\"a\":{\"enum\":[1,true]}},"
                                 "\"required\":[\"a\"],\"additionalProperties\":false}",
                      pattern[] = "(yes|no)[ab]{2,9}", tools[] = "[{\"name\":\"look\"}]";
    exitlm_generate_options o = short_reply(mode);
    const exitlm_allocator *a = &memory.allocator;
    if (mode == EXITLM_MODE_FULL)
        TRY(exitlm_grammar_from_schema(&o.grammar, l->model, schema, strlen(schema), a, &error));
    else if (mode == EXITLM_MODE_EXIT)
        TRY(exitlm_grammar_from_pattern(&o.grammar, l->model, pattern, strlen(pattern), 0, a,
                                        &error));
    else
        TRY(exitlm_grammar_from_tools(&o.grammar, l->model, tools, strlen(tools), "required", 0, a,
                                      &error));
    say(l, s, "so", &o);
    exitlm_grammar_free(o.grammar);
}

static void converse(life *l, exitlm_session *s) {
    exitlm_message messages[] = {
        {"user", "Who is it?"}, {"assistant", ""}, {"user", "caf\xc3\xa9"}};
    static char answer[8192];
    const exitlm_generate_options o = short_reply(EXITLM_MODE_LOSSLESS);
    TRY(exitlm_session_chat(s, messages, 1, &o, &error));
    run_out(l, s);
    snprintf(answer, sizeof answer, "%s", reply.whole);
    messages[1].content = answer;
    TRY(exitlm_session_chat(s, messages, 3, &o, &error));
    run_out(l, s);
}

/* ---- Saving ---- */
static bool put(void *user, const void *bytes, size_t n_bytes) {
    xl_buffer_add(user, bytes, n_bytes);
    return true;
}

typedef struct tape {
    const uint8_t *bytes;
    size_t n_bytes;
} tape;

static bool get(void *user, void *bytes, size_t n_bytes) {
    tape *t = user;
    if (n_bytes > t->n_bytes) return false;
    memcpy(bytes, t->bytes, n_bytes);
    *t = (tape){t->bytes + n_bytes, t->n_bytes - n_bytes};
    return true;
}

/* After a failure the session is empty, and the reader is to begin anew. */
static void restore(exitlm_session *s, const xl_buffer *saved) {
    tape t;
    TRY((t = (tape){saved->data, saved->n_bytes}, exitlm_session_restore(s, get, &t, &error)));
    CHECK(t.n_bytes == 0);
}

static void copies(life *l, exitlm_session *s) {
    const exitlm_generate_options o = short_reply(EXITLM_MODE_FULL);
    exitlm_session *twin = NULL;
    xl_buffer saved;
    TRY((exitlm_session_free(twin), twin = NULL, exitlm_session_clone(&twin, s, &error)));
    say(l, twin, "the river and", &o);
    say(l, s, "who else", &o); /* over what the clone reads */
    say(l, twin, "who else", &o);
    TRY((xl_buffer_init(&saved, &xl_libc_allocator), exitlm_session_save(s, put, &saved, &error)));
    restore(twin, &saved);
    say(l, twin, "the river and", &o);
    exitlm_session_free(twin);
    xl_buffer_free(&saved);
}

static bool visit(void *user, size_t position, const float *logits) {
    (void)position;
    hear(user, logits, 16);
    return true;
}

static uint64_t live(life *l, size_t fail_at) {
    exitlm_session_options options = {.heads = l->heads, .context_tokens = 128};
    const int32_t ids[] = {1, 5, 9, 5, 9, 5, 30};
    exitlm_session *s;
    memory.calls = 0;
    memory.fail_at = fail_at;
    l->said = 0;
    TRY(exitlm_session_create(&s, l->model, &options, &error));
    for (int mode = 0; mode < EXITLM_MODE_COUNT; mode++) {
        exitlm_generate_options o = short_reply((exitlm_mode)mode);
        say(l, s, "the river and the", &o);
        o.logprobs = true;
        o.top_logprobs = 3;
        o.stop = (const char *const[]){"river"};
        o.n_stop = 1;
        say(l, s, "a\xc3 b", &o);
        shape(l, s, (exitlm_mode)mode);
    }
    converse(l, s);
    copies(l, s);
    TRY(exitlm_session_score(s, ids, 7, visit, l, &error));
    exitlm_session_free(s);
    CHECK(!memory.wrong_size);
    return l->said;
}

/* ---- A step that takes memory ---- */
/* The ids of a drafted reply, whose allocation number `fail_at` fails, to `reply`. */
static void draft(exitlm_session *s, exitlm_grammar *grammar, size_t fail_at) {
    exitlm_generate_options o = short_reply(EXITLM_MODE_LOSSLESS);
    exitlm_event event = {0};
    o.max_tokens = 60;
    o.draft_layer = 5; /* which often agrees with the sixth and last one */
    o.draft_length = 4;
    o.grammar = grammar;
    exitlm_session_reset(s);
    CHECK_OK(exitlm_session_text(s, "so", 2, false, &o, &error_));
    memset(&reply, 0, sizeof reply);
    memory.calls = 0;
    memory.fail_at = fail_at;
    do TRY(exitlm_session_step(s, &event, &error));
    while (!tiny_take(s, &event, &reply));
    memory.fail_at = 0;
}

/* What a grammar forces is cut into SentencePiece's tokens with memory of its own, also amid the
 * verification of drafts. */
static void test_a_step_is_taken_again(void) {
    static const char pattern[] = "(?:[a-f]{2}(?:the|who)(?:ree|rest){2}){9}";
    static tiny_reply whole;
    random_model kind;
    xl_buffer file;
    exitlm_session *s;
    exitlm_grammar *grammar;
    random_model_defaults(&kind);
    kind.pieces = true;
    xl_buffer_init(&file, &xl_libc_allocator);
    CHECK(random_model_write(&kind, &file));
    exitlm_model *model = tiny_load_with(file.data, file.n_bytes,
                                         &(exitlm_load_options){.allocator = &memory.allocator});
    exitlm_heads *heads = tiny_heads(model, (uint32_t[]){2, 4, 6}, 3, 60, 5);
    const exitlm_session_options options = {.heads = heads, .context_tokens = 128};
    CHECK_OK(exitlm_session_create(&s, model, &options, &error_));
    CHECK_OK(
        exitlm_grammar_from_pattern(&grammar, model, pattern, strlen(pattern), 0, NULL, &error_));
    draft(s, grammar, 0);
    const size_t n = memory.calls, before = n_hit;
    whole = reply;
    for (size_t i = 1; i <= n; i++) {
        draft(s, grammar, i);
        CHECK(reply.n == whole.n && memcmp(reply.ids, whole.ids, sizeof whole.ids) == 0);
    }
    printf("torture: %zu allocations of a shaped reply's steps, %zu steps taken again; %u of %u "
           "drafts accepted\n",
           n, n_hit - before, whole.stats.accepted, whole.stats.drafted);
    CHECK(n_hit > before && whole.stats.accepted > 0);
    exitlm_grammar_free(grammar);
    exitlm_session_free(s);
    exitlm_heads_free(heads);
    exitlm_model_free(model);
    xl_buffer_free(&file);
}

int main(void) {
    exitlm_model *plain = tiny_load(NULL);
    exitlm_heads *heads = tiny_heads(plain, (uint32_t[]){2, 4, 6}, 3, 60, 5);
    size_t n_bytes, n;
    uint8_t *bytes = tiny_read("tests/data/tiny.gguf", &n_bytes);
    life l = {.heads = heads};
    counting_init(&memory);
    const exitlm_load_options options = {.allocator = &memory.allocator, .heads = heads};
    l.model = tiny_load_with(bytes, n_bytes, &options);
    memory.fail_once = true;
    test_a_step_is_taken_again();
    live(&l, 0); /* the model keeps a tree of its vocabulary */
    const size_t blocks = memory.blocks;
    const uint64_t said = live(&l, 0);
    n = memory.calls;
    for (size_t i = 1; i <= n; i++) {
        if (live(&l, i) == said && memory.blocks == blocks) continue;
        fprintf(stderr, "allocation %zu of %zu: something else was said, or is left\n", i, n);
        return 1;
    }
    printf("torture: %zu allocations, each failed once; %zu calls said so\n", n, n_hit);
    CHECK(n > 50 && n_hit > n / 2);
    exitlm_model_free(l.model);
    CHECK(memory.blocks == 0);
    exitlm_heads_free(heads);
    exitlm_model_free(plain);
    free(bytes);
    return 0;
}
