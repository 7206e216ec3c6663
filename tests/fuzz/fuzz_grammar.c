/* libFuzzer: a schema, a pattern or tools, and tokens drawn from its masks. What must hold: no crash, an
 * error that is a sentence, no leak; after each allowed token something is allowed, the mask says what
 * each token alone is told, and whoever goes back hears what was said there before. */
#include <string.h>

#include "base/bytes.h"
#include "base/alloc.h"
#include "grammar/grammar.h"
#include "input.h"
#include "text/tokenizer.h"

enum { VOCAB = 256 + 24, STEPS = 24 };

/* A byte-level vocabulary of all bytes, some pieces of JSON, and an end of text. */
static xl_tokenizer *tokenizer_of(void) {
    static uint8_t tokens[VOCAB * 24];
    static int32_t types[VOCAB];
    static const char *const pieces[] = {
        "{\"", "\":",  "\",", "[{",   "}]",  "]]",    "true", "false", "null", "12",   "00", "a\"",
        "abc", "\\\"", "-0",  "\":[", "0.1", "2026-", "e.c",  "@b",    "xx",   "\\u0", "()"};
    size_t bytes = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < VOCAB - 1; i++) {
        char text[8];
        size_t length = 0;
        if (i < 256) {
            /* GPT-2's letters for bytes: those that print stand for themselves */
            const bool prints = (i > 32 && i < 127) || (i > 160 && i != 173);
            const uint32_t c = prints ? i : 256 + n++;
            if (c < 128) text[length++] = (char)c;
            else {
                text[length++] = (char)(0xc0 | c >> 6);
                text[length++] = (char)(0x80 | (c & 63));
            }
        } else {
            length = strlen(pieces[i - 256]);
            memcpy(text, pieces[i - 256], length);
        }
        for (int k = 0; k < 8; k++) tokens[bytes++] = (uint8_t)((uint64_t)length >> (8 * k));
        memcpy(tokens + bytes, text, length);
        bytes += length;
        types[i] = 1;
    }
    const char *end = "<|end|>";
    for (int k = 0; k < 8; k++) tokens[bytes++] = k ? 0 : 7;
    memcpy(tokens + bytes, end, 7);
    bytes += 7;
    types[VOCAB - 1] = 3;
    xl_tokenizer_source source;
    xl_tokenizer_source_init(&source);
    source.model = (xl_str){"gpt2", 4};
    source.pre = (xl_str){"gpt-2", 5};
    source.tokens = (xl_str_array){tokens, bytes, VOCAB};
    source.merges = (xl_str_array){tokens, 0, 0};
    source.types = types;
    source.n_types = VOCAB;
    source.eos = VOCAB - 1;
    xl_tokenizer *tokenizer;
    exitlm_error error;
    EXPECT(xl_tokenizer_create(&tokenizer, &source, NULL, &error) == EXITLM_OK);
    return tokenizer;
}

/* A hash of what may come next; `logits` is masked. */
static uint32_t mask_at(xl_grammar *g, const int32_t *ids, uint32_t n, float *logits) {
    memset(logits, 0, VOCAB * sizeof *logits);
    xl_grammar_mask(g, ids, n, logits, VOCAB);
    return xl_hash_more(XL_HASH_START, (const char *)logits, VOCAB * sizeof *logits);
}

static void draw(xl_grammar *g, const xl_tokenizer *tokenizer, uint64_t seed) {
    int32_t ids[STEPS];
    uint32_t said[STEPS];
    for (uint32_t n = 0; n < STEPS; n++) {
        float logits[VOCAB];
        uint32_t allowed = 0;
        if (!xl_grammar_goes_on(g, ids, n)) return; /* an error to the reply */
        said[n] = mask_at(g, ids, n, logits);
        const uint32_t back = (uint32_t)(xl_random(&seed) % (4 * (n + 1)));
        if (back < n && xl_grammar_goes_on(g, ids, back)) {
            EXPECT(mask_at(g, ids, back, logits) == said[back]);
            EXPECT(xl_grammar_allows_all(g, ids, back, ids + back, n - back));
            if (!xl_grammar_goes_on(g, ids, n)) return;
            EXPECT(mask_at(g, ids, n, logits) == said[n]);
        }
        for (int32_t id = 0; id < VOCAB; id++) allowed += logits[id] == 0;
        EXPECT(allowed > 0);
        uint64_t chosen = xl_random(&seed) % allowed;
        int32_t id = 0;
        while (logits[id] != 0 || chosen-- > 0) id++;
        EXPECT(xl_grammar_allows(g, ids, n, id));
        if (xl_token_is_eog(tokenizer, id)) return;
        ids[n] = id;
        char bytes[32];
        bool complete;
        xl_grammar_forced(g, ids, n + 1, bytes, sizeof bytes, &complete);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static xl_tokenizer *tokenizer;
    static xl_vocabulary *vocabulary;
    if (!tokenizer) tokenizer = tokenizer_of();
    if (!vocabulary) vocabulary = xl_vocabulary_create(tokenizer, &xl_libc_allocator);
    static const char *const choices[4] = {"a", "at", "", "now"}, *const begun[4] = {
                                                                      "{\"a\":", " [ 1,", "abc",
                                                                      "\"2026-"};
    if (n < 2) return 0;
    const xl_grammar_source source = {.kind = data[0] & 8 ? XL_GRAMMAR_TOOLS : data[0] & 1,
                                      .flags = data[0] >> 1 & 3,
                                      .text = (const char *)data + 1,
                                      .n_bytes = n - 1,
                                      .choice = data[0] & 0x80 ? choices[data[0] >> 4 & 3] : NULL};
    xl_grammar *g;
    exitlm_error error = {0};
    if (xl_grammar_create(&g, vocabulary, &source, NULL, &error) == EXITLM_OK)
        for (uint64_t seed = 0; seed < 3; seed++) {
            const char *text = begun[data[0] >> 4 & 3];
            if (seed == 2 && data[0] & 0x40) {
                const exitlm_status status = xl_grammar_begin(g, text, strlen(text), &error);
                EXPECT(status == EXITLM_OK || (status == EXITLM_USAGE && error.message[0]));
            }
            draw(g, tokenizer, seed);
        }
    else EXPECT(!g && error.message[0]);
    xl_grammar_free(g);
    return 0;
}
