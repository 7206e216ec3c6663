/* Grammars: a mask says the same as each token asked alone, a walk that keeps to it never ends in
 * nothing, going back needs no word, memory that is not there and garbage are errors. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/json.h"
#include "counting.h"
#include "grammar/grammar.h"
#include "tiny.h"

#undef CHECK
#define CHECK(condition, ...)                               \
    do {                                                    \
        if (!(condition)) {                                 \
            fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
            fprintf(stderr, __VA_ARGS__);                   \
            fprintf(stderr, "\n");                          \
            exit(1);                                        \
        }                                                   \
    } while (0)

enum { MAX_TOKENS = 300 };

static exitlm_model *model;
static uint32_t vocab;

static const char *const schemas[] = {
    "true",
    "{\"type\":\"array\",\"items\":{\"$ref\":\"#\"},\"maxItems\":2}",
    "{\"anyOf\":[{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}},{\"type\":\"integer\",\"minimum\":"
    "-12,\"maximum\":1234}]}",
    "{\"properties\":{\"a\":{\"type\":\"string\",\"maxLength\":9},\"b\":{\"enum\":[1,\"x\",null]}},"
    "\"required\":[\"b\"],\"additionalProperties\":{\"type\":\"boolean\"}}",
    "{\"type\":\"string\",\"format\":\"date-time\"}",
    "{\"type\":\"number\",\"exclusiveMinimum\":0.1,\"maximum\":2.5}",
    "{\"type\":\"string\",\"minLength\":2,\"maxLength\":40}",
    "{\"anyOf\":[{\"type\":\"string\",\"maxLength\":5},{\"enum\":[\"abcdefgh\"]}]}",
};
static const char *const patterns[] = {"(?:a|b)*c{2,4}", "[^a-z\\s]+\\u00e9?", "x|yy|zzz", ".{1,9}",
                                       "(?:.|\\n\\w+)*"};

static exitlm_grammar *grammar_of(const char *schema, const char *pattern) {
    exitlm_grammar *grammar;
    if (schema)
        CHECK_OK(
            exitlm_grammar_from_schema(&grammar, model, schema, strlen(schema), NULL, &error_));
    else
        CHECK_OK(exitlm_grammar_from_pattern(&grammar, model, pattern, strlen(pattern), 0, NULL,
                                             &error_));
    return grammar;
}

/* Which tokens the mask leaves; returns how many. */
static uint32_t allowed_of(exitlm_grammar *g, const int32_t *ids, uint32_t n, float *logits) {
    uint32_t allowed = 0;
    for (uint32_t i = 0; i < vocab; i++) logits[i] = 1;
    xl_grammar_mask(g, ids, n, logits, vocab);
    for (uint32_t i = 0; i < vocab; i++) allowed += logits[i] == 1;
    return allowed;
}

/* Texts that two tokens share are one to the mask. */
static bool has_twin(int32_t id) {
    char a[XL_MAX_SPOKEN_BYTES], b[XL_MAX_SPOKEN_BYTES];
    const size_t n = xl_token_bytes(model->tokenizer, id, a, sizeof a);
    for (uint32_t i = 0; i < vocab; i++)
        if ((int32_t)i != id && xl_token_bytes(model->tokenizer, (int32_t)i, b, sizeof b) == n &&
            memcmp(a, b, n) == 0)
            return true;
    return false;
}

static void walk(exitlm_grammar *g, uint64_t seed, const char *name) {
    static int32_t ids[MAX_TOKENS];
    float *logits = malloc(vocab * sizeof *logits);
    for (uint32_t n = 0; n < MAX_TOKENS; n++) {
        CHECK(xl_grammar_goes_on(g, ids, n), "%s: too many possibilities after %u tokens", name, n);
        const uint32_t allowed = allowed_of(g, ids, n, logits);
        CHECK(allowed > 0, "%s: nothing may follow %u tokens", name, n);
        for (int32_t id = 0; (n < 6 || n % 16 == 0) && id < (int32_t)vocab; id++)
            CHECK(xl_grammar_allows(g, ids, n, id) == (logits[id] == 1) || has_twin(id),
                  "%s: token %d after %u: the mask says %d", name, id, n, logits[id] == 1);
        uint32_t chosen = (uint32_t)(xl_random(&seed) % allowed);
        int32_t id = 0;
        while (logits[id] != 1 || chosen-- > 0) id++;
        if (xl_token_is_eog(model->tokenizer, id)) break;
        ids[n] = id;
        /* as a round of drafts does: there and back */
        if (n > 4) xl_grammar_allows(g, ids, n - 3, ids[n - 3]);
    }
    free(logits);
}

static void test_walks(void) {
    const size_t n_schemas = sizeof schemas / sizeof *schemas,
                 n = n_schemas + sizeof patterns / sizeof *patterns;
    for (size_t i = 0; i < n; i++) {
        const char *schema = i < n_schemas ? schemas[i] : NULL,
                   *pattern = schema ? NULL : patterns[i - n_schemas];
        exitlm_grammar *g = grammar_of(schema, pattern);
        for (uint64_t seed = 0; seed < 8; seed++) walk(g, seed, schema ? schema : pattern);
        exitlm_grammar_free(g);
    }
}

/* Calls, in both forms, of any tool, of one, or among a text. */
static void test_tools(void) {
    static const char tools[] =
        "[{\"name\":\"at\",\"parameters\":{\"type\":\"object\",\"properties\":{\"city\":{\"enum\":"
        "[\"a\",\"b\"]}},\"required\":[\"city\"]}},{\"function\":{\"name\":\"now\"}}]";
    static const char *const choices[] = {NULL, "required", "now"};
    for (unsigned i = 0; i < 12; i++) {
        exitlm_grammar *g;
        CHECK_OK(exitlm_grammar_from_tools(&g, model, tools, strlen(tools), choices[i % 3], i / 3,
                                           NULL, &error_));
        for (uint64_t seed = 0; seed < 4; seed++) walk(g, seed, "tools");
        char bytes[64];
        bool complete;
        const size_t n = xl_grammar_forced(g, NULL, 0, bytes, sizeof bytes, &complete);
        const bool llama3 = i / 3 & EXITLM_TOOLS_LLAMA3;
        CHECK((n > 0) == (i % 3 > 0), "choice %u: %zu bytes are forced at first", i % 3, n);
        if (n) CHECK(bytes[0] == (llama3 ? '{' : '<'), "form %u begins with %c", i / 3, bytes[0]);
        if (i % 3 == 2 && llama3)
            CHECK(complete && n == strlen("{\"name\": \"now\", \"parameters\": {}}"), "%zu bytes",
                  n);
        exitlm_grammar_free(g);
    }
}

/* Replies that go on from a text are with it what the grammar wants. */
static void test_begun(void) {
    static const char schema[] = "{\"type\":\"object\",\"properties\":{\"a\":{\"enum\":[\"x, "
                                 ":y\",\"z\"]},\"b\":{\"const\":1}},"
                                 "\"required\":[\"a\",\"b\"],\"additionalProperties\":false}";
    static const struct {
        const char *begun, *rest; /* NULL: no text begins like that */
    } cases[] = {{"", "{\"a\": \""},
                 {"{\n \"a\" :", " \""},
                 {"{ \"a\":\"x, ", ":y\", \"b\": 1}"},
                 {"{\"a\": \"z\" , ", "\"b\": 1}"},
                 {"{\"a\": \"z\", \"b\": 1}", ""},
                 {"{\"b\"", NULL},
                 {"{\"a\": \"x,  ", NULL}};
    exitlm_grammar *g = grammar_of(schema, NULL), *p = grammar_of(NULL, "ab c+d");
    char bytes[64], *long_text = calloc(1, XL_MAX_BEGUN + 1);
    bool complete;
    exitlm_error error_;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *begun = cases[i].begun, *rest = cases[i].rest;
        const exitlm_status status = exitlm_grammar_begin(g, begun, strlen(begun), &error_);
        CHECK(status == (rest ? EXITLM_OK : EXITLM_USAGE), "case %zu: %s", i, error_.message);
        const size_t n = xl_grammar_forced(g, NULL, 0, bytes, sizeof bytes, &complete);
        if (!rest) rest = cases[0].rest;
        CHECK(n == strlen(rest) && memcmp(bytes, rest, n) == 0, "case %zu: \"%.*s\"", i, (int)n,
              bytes);
        CHECK(complete == (i > 1 && i < 5), "case %zu: complete %d", i, complete);
        for (uint64_t seed = 0; i < 2 && seed < 4; seed++) walk(g, seed, begun);
    }
    CHECK_OK(exitlm_grammar_begin(p, "ab ", 3, &error_));
    CHECK(xl_grammar_forced(p, NULL, 0, bytes, sizeof bytes, &complete) == 1 && *bytes == 'c',
          "a pattern's white space counts");
    CHECK(exitlm_grammar_begin(p, long_text, XL_MAX_BEGUN + 1, &error_) == EXITLM_USAGE &&
              strstr(error_.message, "bytes at most") &&
              exitlm_grammar_begin(NULL, "", 0, &error_) == EXITLM_USAGE &&
              exitlm_grammar_begin(p, NULL, 1, &error_) == EXITLM_USAGE,
          "bad arguments");
    free(long_text);
    exitlm_grammar_free(g);
    exitlm_grammar_free(p);
}

/* One grammar for several replies, one after the other and by turns: each is told what a grammar of its
 * own would tell. */
static void test_side_by_side(void) {
    enum { REPLIES = 3, LENGTH = 60 };
    static int32_t ids[REPLIES][LENGTH];
    exitlm_grammar *shared = grammar_of(NULL, "[ab]{50}c"), *own[REPLIES];
    float *logits = malloc(2 * vocab * sizeof *logits);
    uint64_t seed = 5;
    for (uint32_t i = 0; i < REPLIES; i++) own[i] = grammar_of(NULL, "[ab]{50}c");
    for (uint32_t k = 0; k < 2 * REPLIES * LENGTH; k++) {
        /* first each alone, then all anew by turns */
        const bool alone = k < REPLIES * LENGTH;
        const uint32_t i = alone ? k / LENGTH : k % REPLIES,
                       n = alone ? k % LENGTH : k / REPLIES - LENGTH;
        const uint32_t allowed = allowed_of(own[i], ids[i], n, logits);
        allowed_of(shared, ids[i], n, logits + vocab);
        CHECK(memcmp(logits, logits + vocab, vocab * sizeof *logits) == 0,
              "reply %u is told something else after %u tokens", i, n);
        uint32_t chosen = allowed ? (uint32_t)(xl_random(&seed) % allowed) : 0;
        int32_t id = 0;
        while (allowed && (logits[id] != 1 || chosen-- > 0)) id++;
        ids[i][n] = id;
    }
    for (uint32_t i = 0; i < REPLIES; i++) exitlm_grammar_free(own[i]);
    exitlm_grammar_free(shared);
    free(logits);
}

/* Deeper than the sets of one grammar have room for: it forgets, and says the same. */
static void test_forgetting(void) {
    const char *schema = schemas[0];
    exitlm_grammar *g = grammar_of(schema, NULL);
    int32_t open;
    size_t n = 0;
    CHECK_OK(exitlm_tokenize(model, "[", 1, 0, &open, 1, &n, &error_));
    static int32_t ids[MAX_TOKENS];
    uint32_t depth = 0;
    while (depth < MAX_TOKENS && xl_grammar_allows(g, ids, depth, open)) ids[depth++] = open;
    CHECK(depth >= 60 && depth <= 128, "%u brackets in brackets", depth);
    for (uint32_t i = depth; i-- > 0;)
        CHECK(xl_grammar_allows(g, ids, i, open), "%u: another answer on the way back", i);
    exitlm_grammar_free(g);
}

/* By options: the same grammar, or what is wrong with them. */
static void test_options(void) {
    static const char schema[] = "{\"const\":\"Oslo\"} and more", pattern[] = "oslo",
                      tools[] = "[{\"name\":\"now\"}]";
    const struct {
        exitlm_grammar_options options;
        const char *forced; /* NULL: refused */
    } cases[] = {
        {{.schema = schema, .n_bytes = 16}, "\"Oslo\""},
        {{.pattern = pattern}, "oslo"},
        {{.pattern = pattern, .flags = EXITLM_PATTERN_IGNORE_CASE}, ""},
        {{.tools = tools, .choice = "now", .flags = EXITLM_TOOLS_LLAMA3},
         "{\"name\": \"now\", \"parameters\": {}}"},
        {{.schema = schema}, NULL},
        {{.schema = schema, .pattern = pattern}, NULL},
        {{0}, NULL},
    };
    exitlm_error error = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        exitlm_grammar *g = NULL;
        const exitlm_status status =
            exitlm_grammar_create(&g, model, &cases[i].options, NULL, &error);
        CHECK(status == (cases[i].forced ? EXITLM_OK : EXITLM_USAGE), "case %zu: %s", i,
              error.message);
        if (!cases[i].forced) continue;
        char bytes[64];
        bool complete;
        const size_t n = xl_grammar_forced(g, NULL, 0, bytes, sizeof bytes, &complete);
        CHECK(n == strlen(cases[i].forced) && memcmp(bytes, cases[i].forced, n) == 0,
              "case %zu: \"%.*s\" is forced", i, (int)n, bytes);
        exitlm_grammar_free(g);
    }
    CHECK(exitlm_grammar_create(NULL, model, &cases[1].options, NULL, &error) == EXITLM_USAGE &&
              exitlm_grammar_create(NULL, model, NULL, NULL, &error) == EXITLM_USAGE,
          "%s", error.message);
}

#define TEXT(literal) literal, sizeof literal - 1

/* What is refused is told by the name it has. */
static void test_refused(void) {
    static const struct {
        xl_grammar_kind kind;
        const char *text;
        size_t n_bytes;
        const char *why; /* NULL: it is taken */
    } cases[] = {
        {XL_GRAMMAR_PATTERN, TEXT("\\ud83d\\ude00"), NULL},
        {XL_GRAMMAR_PATTERN, TEXT("\\ud83d\\u0041"), "half a surrogate pair"},
        {XL_GRAMMAR_PATTERN, TEXT("\\ude00"), "half a surrogate pair"},
        {XL_GRAMMAR_PATTERN, TEXT("a\0b"), NULL},
        {XL_GRAMMAR_PATTERN, TEXT("*"), "nothing to repeat"},
        {XL_GRAMMAR_SCHEMA,
         TEXT("{\"prefixItems\":[{\"const\":1}],\"items\":{},\"minItems\":5,\"maxItems\":3}"),
         "maxItems is below minItems"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const xl_grammar_source source = {
            .kind = cases[i].kind, .text = cases[i].text, .n_bytes = cases[i].n_bytes};
        exitlm_grammar *g = NULL;
        exitlm_error error = {0};
        const exitlm_status status =
            xl_grammar_create(&g, xl_model_vocabulary(model), &source, NULL, &error);
        CHECK(cases[i].why ? status == EXITLM_USAGE && strstr(error.message, cases[i].why)
                           : status == EXITLM_OK,
              "case %zu: %s", i, error.message);
        xl_grammar_free(g);
    }
}

/* A backslash before NUL is that character, not a class. */
static void test_nul(void) {
    static const xl_grammar_source source = {
        .kind = XL_GRAMMAR_PATTERN, .text = "\\\0", .n_bytes = 2};
    exitlm_grammar *g;
    char bytes[4];
    bool complete;
    CHECK_OK(xl_grammar_create(&g, xl_model_vocabulary(model), &source, NULL, &error_));
    CHECK(xl_grammar_forced(g, NULL, 0, bytes, sizeof bytes, &complete) == 1 && bytes[0] == 0,
          "not NUL alone");
    xl_grammar_free(g);
}

static void test_no_memory(void) {
    const char *schema = schemas[3];
    for (size_t fail_at = 1;; fail_at++) {
        counting c;
        counting_init(&c);
        c.fail_at = fail_at;
        exitlm_grammar *g = NULL;
        exitlm_error error = {0};
        exitlm_status status =
            exitlm_grammar_from_schema(&g, model, schema, strlen(schema), &c.allocator, &error);
        if (status == EXITLM_OK) {
            status = exitlm_grammar_begin(g, "{", 1, &error);
            exitlm_grammar_free(g);
            g = NULL;
        }
        CHECK(c.now_bytes == 0 && !c.wrong_size, "allocation %zu: %zu bytes are left", fail_at,
              c.now_bytes);
        if (status == EXITLM_OK) return;
        CHECK(!g && (status == EXITLM_OUT_OF_MEMORY || strstr(error.message, "no memory")), "%s",
              error.message);
    }
}

/* The largest that is taken, and one that is larger: what exitlm.h says of memory holds. */
static void test_memory(void) {
    for (int larger = 0; larger < 2; larger++) {
        const char *pattern = larger ? "(?:[ab]{4000}){90}" : "(?:[ab]{4000}){60}";
        counting c;
        counting_init(&c);
        exitlm_grammar *g;
        exitlm_error error;
        const exitlm_status status = exitlm_grammar_from_pattern(
            &g, model, pattern, strlen(pattern), 0, &c.allocator, &error);
        CHECK(status == (larger ? EXITLM_USAGE : EXITLM_OK), "%s", error.message);
        CHECK(c.peak_bytes > 4000000 && c.peak_bytes <= 20000000, "%zu bytes", c.peak_bytes);
        exitlm_grammar_free(g);
        CHECK(c.now_bytes == 0, "%zu bytes are left", c.now_bytes);
    }
}

/* Bytes cut, changed and added: an error or a grammar, never more. */
static void test_garbage(void) {
    uint64_t seed = 7;
    const size_t n_schemas = sizeof schemas / sizeof *schemas,
                 n_patterns = sizeof patterns / sizeof *patterns;
    for (int i = 0; i < 600; i++) {
        char text[512];
        const bool pattern = i % 2;
        const uint64_t which = xl_random(&seed);
        const char *from = pattern ? patterns[which % n_patterns] : schemas[which % n_schemas];
        const size_t n = strlen(from);
        memcpy(text, from, n);
        for (uint64_t k = xl_random(&seed) % 3 + 1; k-- > 0;)
            text[xl_random(&seed) % n] = "{}[]()|*+?\\\"0123,:^$-ax\xc3"[xl_random(&seed) % 24];
        exitlm_grammar *g = NULL;
        exitlm_error error;
        const xl_grammar_source source = {
            .kind = pattern, .text = text, .n_bytes = n - xl_random(&seed) % 3};
        if (xl_grammar_create(&g, xl_model_vocabulary(model), &source, NULL, &error) == EXITLM_OK) {
            static int32_t none[1];
            float *logits = malloc(vocab * sizeof *logits);
            allowed_of(g, none, 0, logits);
            free(logits);
        }
        xl_grammar_free(g);
    }
}

/* Does the grammar take the whole text? */
static bool is_taken(exitlm_grammar *g, const char *text) {
    enum { MOST = 4096 };
    static int32_t ids[MOST], none[1];
    size_t n = 0;
    CHECK_OK(exitlm_tokenize(model, text, strlen(text), 0, ids, MOST, &n, &error_));
    CHECK(n <= MOST, "%zu tokens", n);
    int32_t end = 0;
    while (!xl_token_is_eog(model->tokenizer, end)) end++;
    return xl_grammar_allows_all(g, none, 0, ids, (uint32_t)n) &&
           xl_grammar_allows(g, ids, (uint32_t)n, end);
}

/* For tests/js/shaped.test.mjs. Each line is {"schema": "…", "texts": ["…", …]}; said of it are a
 * digit for each text, 1 where the schema's grammar takes it, or why the schema is refused. */
static void say_what_is_taken(void) {
    static char line[1 << 16];
    while (fgets(line, sizeof line, stdin)) {
        exitlm_grammar *g;
        exitlm_error error;
        xl_json *asked = xl_json_parse(line, strlen(line), NULL, &error);
        CHECK(asked, "%s: %s", error.message, line);
        const char *schema = xl_json_string(asked, "schema");
        if (exitlm_grammar_from_schema(&g, model, schema, strlen(schema), NULL, &error) ==
            EXITLM_OK) {
            const xl_json *texts = xl_json_get(asked, "texts");
            for (const xl_json *one = texts->first; one; one = one->next)
                putchar(is_taken(g, one->text) ? '1' : '0');
            exitlm_grammar_free(g);
        } else fputs(error.message, stdout);
        putchar('\n');
        xl_json_free(asked);
    }
}

int main(int argc, char **argv) {
    exitlm_model_info info;
    model = tiny_load(NULL);
    exitlm_model_describe(model, &info);
    vocab = info.vocab;
    if (argc > 1 && strcmp(argv[1], "--taken") == 0) {
        say_what_is_taken();
        exitlm_model_free(model);
        return 0;
    }
    test_walks();
    test_tools();
    test_options();
    test_refused();
    test_nul();
    test_begun();
    test_side_by_side();
    test_forgetting();
    test_no_memory();
    test_memory();
    test_garbage();
    exitlm_model_free(model);
    return 0;
}
