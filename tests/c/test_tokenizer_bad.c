/* Tokenizers and hostile metadata, missing memory, huge and awkward texts. */
#include "base/alloc.h"
#include "tokenizer_fixture.h"
#include "tokenizer_vocabularies.h"

/* ---- An allocator that counts, and fails at a chosen call ---- */

typedef struct counter {
    size_t held_bytes, peak_bytes, calls, fail_at;
} counter;

static void *counting_alloc(void *user, size_t bytes, size_t align) {
    counter *c = user;
    if (++c->calls == c->fail_at) return NULL;
    void *memory = xl_libc_allocator.alloc(NULL, bytes, align);
    if (!memory) return NULL;
    memset(memory, 0xA5, bytes); /* nothing may count on zeroes */
    c->held_bytes += bytes;
    if (c->held_bytes > c->peak_bytes) c->peak_bytes = c->held_bytes;
    return memory;
}

static void counting_free(void *user, void *memory, size_t bytes) {
    counter *c = user;
    c->held_bytes -= bytes;
    xl_libc_allocator.free(NULL, memory, bytes);
}

static exitlm_allocator counting(counter *c) {
    return (exitlm_allocator){c, counting_alloc, counting_free};
}

/* ---- Metadata ---- */

/* A small valid vocabulary, which each test spoils in one place. */
static void small_vocabulary(vocabulary *v, const char *model) {
    static const char *const texts[] = {"<unk>", "<s>", "</s>", "a",  "b",
                                        "c",     "ab",  "abc",  "bc", "<|x|>"};
    memset(v, 0, sizeof *v);
    xl_tokenizer_source_init(&v->source);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        add_token(v, texts[i], strlen(texts[i]), i == 0 ? 2 : i < 3 || i == 9 ? 3 : 1, -(float)i);
    packed_text(&v->merges, "a b");
    packed_text(&v->merges, "ab c");
    finish_vocabulary(v, model);
    if (strcmp(model, "llama") == 0) {
        v->source.scores = v->scores;
        v->source.n_scores = v->n_types;
    }
    v->source.bos = 1;
    v->source.eos = 2;
}

static void expect(const vocabulary *v, exitlm_status expected, const char *word,
                   const char *what) {
    xl_tokenizer *t = (xl_tokenizer *)v;
    exitlm_error error = {0};
    counter c = {0};
    exitlm_allocator allocator = counting(&c);
    exitlm_status status = xl_tokenizer_create(&t, &v->source, &allocator, &error);
    CHECK(status == expected, "%s: status %d instead of %d: %s", what, status, expected,
          error.message);
    if (expected != EXITLM_OK) {
        CHECK(t == NULL, "%s: a tokenizer in spite of the error", what);
        CHECK(strstr(error.message, word), "%s: '%s' does not say '%s'", what, error.message, word);
    }
    xl_tokenizer_free(t);
    CHECK(c.held_bytes == 0, "%s: %zu bytes leaked", what, c.held_bytes);
}

/* Spoils a small vocabulary with `change` (statements on v) and expects a status and a word of
 * the message. */
#define BAD(model, change, status, word)   \
    do {                                   \
        vocabulary v;                      \
        small_vocabulary(&v, model);       \
        change;                            \
        expect(&v, status, word, #change); \
        free_vocabulary(&v);               \
    } while (0)

static void test_settings(void) {
    BAD("gpt2", (void)0, EXITLM_OK, "");
    BAD("llama", (void)0, EXITLM_OK, "");
    BAD("gpt2", v.source.model = (xl_str){0}, EXITLM_BAD_MODEL, "tokenizer.ggml.model");
    BAD("gpt2", v.source.model = text_of("bert"), EXITLM_UNSUPPORTED, "'bert'");
    BAD("gpt2", v.source.model = text_of(""), EXITLM_UNSUPPORTED, "gpt2, gemma4 and llama");
    BAD("gpt2", v.source.pre = text_of("never-heard-of"), EXITLM_UNSUPPORTED, "'never-heard-of'");
    BAD("gpt2", v.source.pre = text_of("smollm starcoder"), EXITLM_UNSUPPORTED, "pre-tokenizer");
    BAD("gpt2", v.source.tokens.count = 0, EXITLM_BAD_MODEL, "0 tokens");
    BAD("gpt2", v.source.tokens.count = SIZE_MAX, EXITLM_BAD_MODEL, "tokens");
    BAD("gpt2", (v.source.tokens.count = 1 << 20, v.source.types = NULL), EXITLM_BAD_MODEL,
        "outside its array");
    BAD("gpt2", (v.source.merges = (xl_str_array){0}), EXITLM_BAD_MODEL, "merges is missing");
    BAD("gpt2", v.source.merges.count = SIZE_MAX, EXITLM_BAD_MODEL, "merges");
    BAD("gpt2", v.source.merges.count = 100, EXITLM_BAD_MODEL, "merge 2 lies outside");
    BAD("llama", v.source.n_scores = 3, EXITLM_BAD_MODEL, "3 scores for 10 tokens");
    BAD("llama", v.source.n_types = 3, EXITLM_BAD_MODEL, "3 types for 10 tokens");
    BAD("llama", put_le32(v.scores + 12, 0x7FC00000), EXITLM_BAD_MODEL, "score of token 3");
    BAD("llama", put_le32(v.scores + 12, 0xFFFFFFFF), EXITLM_BAD_MODEL, "score of token 3");
    BAD("llama", put_le32(v.scores + 12, 0x7F800000), EXITLM_OK, "");
    BAD("llama", (v.source.scores = NULL, v.source.types = NULL), EXITLM_OK, "");
    /* an unknown type: never used */
    BAD("gpt2", put_le32(v.types + 12, 0xFFFFFFFF), EXITLM_OK, "");
}

static void test_ids(void) {
    BAD("gpt2", v.source.bos = 10, EXITLM_BAD_MODEL, "bos_token_id: 10 is no token");
    BAD("gpt2", v.source.eos = INT64_MAX, EXITLM_BAD_MODEL, "eos_token_id");
    BAD("gpt2", v.source.eos = INT64_MIN, EXITLM_BAD_MODEL, "eos_token_id");
    BAD("gpt2", v.source.unk = 4294967296, EXITLM_BAD_MODEL, "unknown_token_id");
    BAD("gpt2", v.source.eot = 99, EXITLM_BAD_MODEL, "eot_token_id");
    BAD("gpt2", v.source.eom = 99, EXITLM_BAD_MODEL, "eom_token_id");
    BAD("gpt2", v.source.pad = 99, EXITLM_OK, "");
    BAD("gpt2", (v.source.bos = -1, v.source.add_bos = 1), EXITLM_BAD_MODEL,
        "bos_token_id is missing");
    BAD("gpt2", (v.source.eos = -1, v.source.add_eos = 1), EXITLM_BAD_MODEL,
        "eos_token_id is missing");
}

static void spoil_token(vocabulary *v, size_t index, uint64_t length) {
    size_t at = 0;
    for (size_t i = 0; i < index; i++) at += 8 + v->tokens.data[at];
    for (int i = 0; i < 8; i++) v->tokens.data[at + (size_t)i] = (uint8_t)(length >> (8 * i));
}

static void replace_merge(vocabulary *v, const char *merge) {
    free(v->merges.data);
    v->merges = (packed){0};
    packed_text(&v->merges, merge);
    v->source.merges = packed_array(&v->merges);
}

static void long_token(vocabulary *v, size_t n, uint32_t type) {
    char *text = malloc(n);
    memset(text, 'x', n);
    add_token(v, text, n, type, 0);
    free(text);
    finish_vocabulary(v, "gpt2");
}

static void test_texts(void) {
    BAD("gpt2", spoil_token(&v, 9, 6), EXITLM_BAD_MODEL, "token 9 lies outside");
    BAD("gpt2", spoil_token(&v, 3, UINT64_MAX), EXITLM_BAD_MODEL, "token 3 lies outside");
    BAD("gpt2", spoil_token(&v, 3, (uint64_t)1 << 63), EXITLM_BAD_MODEL, "token 3 lies outside");
    BAD("gpt2", v.source.tokens.bytes = 7, EXITLM_BAD_MODEL, "token 0 lies outside");
    BAD("gpt2", (add_token(&v, "ab", 2, 1, 0), finish_vocabulary(&v, "gpt2")), EXITLM_BAD_MODEL,
        "tokens 6 and 10 have the same text 'ab'");
    BAD("gpt2",
        (add_token(&v, "", 0, 1, 0), add_token(&v, "", 0, 3, 0), finish_vocabulary(&v, "gpt2")),
        EXITLM_OK, "");
    BAD("gpt2", long_token(&v, 70000, 1), EXITLM_BAD_MODEL, "70000 bytes");
    BAD("gpt2", long_token(&v, 2000, 3), EXITLM_BAD_MODEL, "special token 10 is 2000 bytes");
    /* a reply would have to cut it */
    BAD("gpt2", long_token(&v, 1025, 1), EXITLM_UNSUPPORTED, "token 10 is 1025 bytes");
    BAD("gpt2", long_token(&v, 1024, 1), EXITLM_OK, "");
    BAD("gpt2", replace_merge(&v, "ab"), EXITLM_BAD_MODEL, "merge 0, 'ab'");
    BAD("gpt2", replace_merge(&v, " b"), EXITLM_BAD_MODEL, "merge 0");
    BAD("gpt2", replace_merge(&v, "a "), EXITLM_BAD_MODEL, "merge 0");
    BAD("gpt2", replace_merge(&v, ""), EXITLM_BAD_MODEL, "merge 0");
    BAD("gpt2", replace_merge(&v, "a q"), EXITLM_OK, ""); /* a part that is no token: of no use */
}

/* Tokens whose hashes were chosen to fall into the same slot: refused before it takes quadratic
 * time. */
static uint32_t slot_of(const char *text, uint32_t n_slots) {
    uint32_t hash = 2166136261u;
    for (; *text; text++) hash = (hash ^ (uint8_t)*text) * 16777619u;
    hash ^= hash >> 15;
    hash *= 0x2C1B3C6Du;
    hash ^= hash >> 13;
    return (uint32_t)((uint64_t)hash * n_slots >> 32);
}

static void test_collisions(void) {
    enum { N = 2000, N_SLOTS = N + N / 2 + 8 };
    vocabulary v = {0};
    xl_tokenizer_source_init(&v.source);
    char text[32];
    for (uint32_t i = 0; v.tokens.count < N; i++) {
        snprintf(text, sizeof text, "%x", i);
        if (slot_of(text, N_SLOTS) < 8) add_token(&v, text, strlen(text), 1, 0);
    }
    finish_vocabulary(&v, "llama");
    expect(&v, EXITLM_BAD_MODEL, "share a hash", "colliding tokens");
    free_vocabulary(&v);
}

/* ---- Memory ---- */

static void test_create_memory(void) {
    for (int kind = 0; kind < 2; kind++) {
        vocabulary v;
        if (kind) byte_level_vocabulary(&v, "gpt-2");
        else sentencepiece_vocabulary(&v, true);
        counter c = {0};
        exitlm_allocator allocator = counting(&c);
        xl_tokenizer *t;
        CHECK(xl_tokenizer_create(&t, &v.source, &allocator, NULL) == EXITLM_OK, "create");
        CHECK(c.calls == 1 && c.peak_bytes == xl_tokenizer_bytes(&v.source),
              "%zu calls, %zu bytes, announced %zu", c.calls, c.peak_bytes,
              xl_tokenizer_bytes(&v.source));
        xl_tokenizer_free(t);
        c = (counter){.fail_at = 1};
        exitlm_error error = {0};
        CHECK(xl_tokenizer_create(&t, &v.source, &allocator, &error) == EXITLM_OUT_OF_MEMORY &&
                  !t && error.message[0],
              "no memory");
        CHECK(c.held_bytes == 0, "%zu bytes leaked", c.held_bytes);
        free_vocabulary(&v);
    }
}

/* Encodes with each allocation failing in turn: OUT_OF_MEMORY or the right ids, nothing leaks,
 * the bound holds. */
static void fail_in_turn(vocabulary *v, const char *text, size_t n, unsigned flags,
                         size_t least_calls) {
    counter c = {0};
    exitlm_allocator allocator = counting(&c);
    xl_tokenizer *t;
    exitlm_error error = {0};
    size_t n_ids = 0, again;
    CHECK(xl_tokenizer_create(&t, &v->source, &allocator, &error) == EXITLM_OK, "%s",
          error.message);
    size_t own_bytes = c.held_bytes;
    c.calls = c.peak_bytes = 0;
    CHECK(xl_tokenizer_encode(t, text, n, flags, NULL, 0, &n_ids, &error) == EXITLM_OK, "%s",
          error.message);
    size_t calls = c.calls, bound = xl_tokenizer_work_bytes(t, n);
    CHECK(calls >= least_calls, "%zu allocations, expected %zu: the test misses its aim", calls,
          least_calls);
    CHECK(c.peak_bytes <= own_bytes + bound, "%zu bytes for %zu of text, bound %zu",
          c.peak_bytes - own_bytes, n, bound);
    for (size_t i = 1; i <= calls; i++) {
        c.calls = 0;
        c.fail_at = i;
        exitlm_status status = xl_tokenizer_encode(t, text, n, flags, NULL, 0, &again, &error);
        CHECK(status == EXITLM_OUT_OF_MEMORY && error.status == status,
              "allocation %zu fails: status %d", i, status);
        CHECK(c.held_bytes == own_bytes, "allocation %zu fails: %zu bytes leaked", i,
              c.held_bytes - own_bytes);
    }
    c.fail_at = 0;
    CHECK(xl_tokenizer_encode(t, text, n, flags, NULL, 0, &again, &error) == EXITLM_OK &&
              again == n_ids,
          "afterwards");
    xl_tokenizer_free(t);
    CHECK(c.held_bytes == 0, "%zu bytes leaked", c.held_bytes);
}

static void many_special(vocabulary *v) {
    char text[32];
    byte_level_vocabulary(v, "gpt-2");
    for (int i = 0; i < 5000; i++)
        add_token(v, text, (size_t)snprintf(text, sizeof text, "<|special %d|>", i), 3, 0);
    finish_vocabulary(v, "gpt2");
}

static void test_encode_memory(void) {
    vocabulary v;
    char text[4096];
    memset(text, 'a', sizeof text);
    byte_level_vocabulary(&v, "gpt-2");
    fail_in_turn(&v, text, 200, 0, 0);         /* on the stack */
    fail_in_turn(&v, text, sizeof text, 0, 1); /* a long word */
    text[5] = (char)0xFF;
    fail_in_turn(&v, text, sizeof text, 0, 2); /* and rewritten */
    free_vocabulary(&v);
    sentencepiece_vocabulary(&v, true);
    fail_in_turn(&v, text, sizeof text, 3, 2);
    memset(text, ' ', sizeof text);
    fail_in_turn(&v, text, sizeof text, 3, 2);
    free_vocabulary(&v);
    many_special(&v);
    size_t n = 0;
    for (int i = 0; i < 100; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "<|special %d|>%d", 7 * i, i);
    fail_in_turn(&v, text, n, EXITLM_PARSE_SPECIAL, 2); /* the set and the list */
    free_vocabulary(&v);
}

/* ---- Awkward texts ---- */

/* The same for each rule of the pre-tokenizers: runs whose end decides, before something else. */
static void test_long_runs(void) {
    enum { N = 1 << 16 };
    static const char *const units[] = {" ", "\u3000", "A", "a",  "\u0416",
                                        "1", "~",      "'", "\r", "\u0301"};
    static const char *const ends[] = {"\u4e2d", "x", "\n", "", "1", "$"};
    char *text = malloc(N + 8);
    for (size_t i = 0; i < N_PRES * 10; i++) {
        const char *unit = units[i % 10];
        size_t n = 0, n_ids;
        while (n + strlen(unit) <= N) n += (size_t)sprintf(text + n, "%s", unit);
        n += (size_t)sprintf(text + n, "%s", ends[(i / 10 + i) % 6]);
        vocabulary v;
        symbols_vocabulary(&v, SYMBOLS(wide_symbols), 2, every_pre[i / 10]);
        xl_tokenizer *t = create_tokenizer(&v);
        exitlm_error error = {0};
        exitlm_status status = xl_tokenizer_encode(t, text, n, 0, NULL, 0, &n_ids, &error);
        CHECK(status == EXITLM_OK && n_ids > 0 && n_ids <= 3 * n + 5, "%s, '%s': %d %s",
              every_pre[i / 10], unit, status, error.message);
        xl_tokenizer_free(t);
        free_vocabulary(&v);
    }
    free(text);
}

/* A megabyte of one character, and other texts that make a careless tokenizer quadratic: CTest's
 * time limit tells. */
static void test_long_texts(void) {
    enum { N = 1 << 20 };
    static const char *const units[] = {"a",   " ",     "1",   "\n", "\xFF", "\xE3\x80\x80",
                                        " \n", "<|x|>", "<|x", "'s", "|><"};
    static const char *const pres[] = {"smollm", "llama-bpe", "qwen2", "default"};
    char *text = malloc(N);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t unit = strlen(units[i]), n = 0, n_ids;
        for (; n + unit <= N; n += unit) memcpy(text + n, units[i], unit);
        vocabulary v;
        if (i % 5 == 4) sentencepiece_vocabulary(&v, true);
        else byte_level_vocabulary(&v, pres[i % 5]);
        xl_tokenizer *t = create_tokenizer(&v);
        exitlm_error error = {0};
        exitlm_status status =
            xl_tokenizer_encode(t, text, n, EXITLM_PARSE_SPECIAL, NULL, 0, &n_ids, &error);
        CHECK(status == EXITLM_OK && n_ids > 0 && n_ids <= 3 * n + 5, "%zu: %d %zu %s", i, status,
              n_ids, error.message);
        xl_tokenizer_free(t);
        free_vocabulary(&v);
    }
    free(text);
}

static void test_capacity(void) {
    vocabulary v;
    small_vocabulary(&v, "gpt2");
    xl_tokenizer *t = create_tokenizer(&v);
    int32_t ids[8], some[3] = {-7, -7, -7};
    size_t n, needed;
    exitlm_error error = {0};
    v.source.add_bos = 1;
    CHECK(xl_tokenizer_encode(t, "abcba<|x|>c", 11, EXITLM_PARSE_SPECIAL, ids, 8, &n, NULL) ==
                  EXITLM_OK &&
              n == 5 && ids[0] == 7 && ids[1] == 4 && ids[2] == 3 && ids[3] == 9 && ids[4] == 5,
          "%zu ids", n);
    CHECK(xl_tokenizer_encode(t, "abcba<|x|>c", 11, EXITLM_PARSE_SPECIAL, some, 2, &needed, NULL) ==
                  EXITLM_OK &&
              needed == n && some[0] == 7 && some[1] == 4 && some[2] == -7,
          "a small buffer");
    CHECK(xl_tokenizer_encode(t, "", 0, 3, NULL, 0, &n, NULL) == EXITLM_OK && n == 0, "no text");
    CHECK(xl_tokenizer_encode(t, NULL, 0, 3, NULL, 0, &n, NULL) == EXITLM_OK && n == 0,
          "NULL of no bytes");
    CHECK(xl_tokenizer_encode(t, "a", (size_t)1 << 29, 0, NULL, 0, &n, &error) == EXITLM_USAGE &&
              error.message[0],
          "too long a text");
    CHECK(xl_tokenizer_work_bytes(t, SIZE_MAX) == SIZE_MAX, "work bytes of an impossible text");
    xl_tokenizer_free(t);
    free_vocabulary(&v);
    xl_tokenizer_free(NULL);
}

int main(void) {
    test_settings();
    test_ids();
    test_texts();
    test_collisions();
    test_create_memory();
    test_encode_memory();
    test_long_texts();
    test_long_runs();
    test_capacity();
    if (failures == 0) printf("tokenizer: hostile metadata, memory and awkward texts\n");
    return failures != 0;
}
