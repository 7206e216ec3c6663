/* The vocabularies of tests/data/tokenizer/make.py, by the same rules. */
#ifndef TOKENIZER_VOCABULARIES_H
#define TOKENIZER_VOCABULARIES_H
#include "tokenizer_fixture.h"

/* The generator of make.py. */
static inline uint32_t pick(uint64_t *random, uint32_t n) {
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*random >> 32) % n;
}

typedef struct vocabulary {
    packed tokens, merges;
    uint8_t *types;  /* [tokens.count] i32 LE */
    uint8_t *scores; /* [tokens.count] f32 LE */
    size_t n_types;
    xl_tokenizer_source source;
} vocabulary;

static const char *const byte_level_symbols[] = {
    "a", "s", "L", "1",        " ",        "\n",           "'",
    ".", "$", "`", "\xC3\xA9", "\xC2\xB2", "\xE3\x80\x80", "\xCC\x81"};
/* One at least of each class that a pre-tokenizer tells from others. */
static const char *const wide_symbols[] = {
    "a",      "S",      "l",      "1",      " ",      "\n",     "\r",
    "\t",     "'",      ".",      "$",      "~",      "(",      "/",
    "\x01",   "\u00e9", "\u0416", "\u00b2", "\u4e2d", "\u3042", "\uac00",
    "\uff01", "\u3002", "\u3000", "\u0301", "\u0903", "\u20ac", "\U0001f600"};

/* A name of each of the pre-tokenizers' rules. */
static const char *const every_pre[] = {
    "default", "gpt-2",    "smollm",       "falcon",         "llama-bpe",   "dbrx",
    "qwen2",   "qwen35",   "deepseek-llm", "deepseek-coder", "deepseek-v3", "spark2_5",
    "gpt-4o",  "tekken",   "youtu",        "bailingmoe",     "seed-coder",  "ufakzeka",
    "laguna",  "minicpm5", "jais-2",       "bloom",          "viking",      "chameleon"};
#define N_PRES (sizeof every_pre / sizeof *every_pre)

static inline void put_le32(uint8_t *p, uint32_t value) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(value >> (8 * i));
}

/* Adds a token with its type and score. */
static inline void add_token(vocabulary *v, const char *text, size_t n, uint32_t type,
                             float score) {
    if (v->n_types % 4096 == 0) {
        v->types = realloc(v->types, 4 * (v->n_types + 4096));
        v->scores = realloc(v->scores, 4 * (v->n_types + 4096));
        if (!v->types || !v->scores) abort();
    }
    uint32_t bits;
    memcpy(&bits, &score, 4);
    packed_add(&v->tokens, text, n);
    put_le32(v->types + 4 * v->n_types, type);
    put_le32(v->scores + 4 * v->n_types++, bits);
}

static inline void finish_vocabulary(vocabulary *v, const char *model) {
    v->source.model = text_of(model);
    v->source.tokens = packed_array(&v->tokens);
    v->source.merges = packed_array(&v->merges);
    v->source.types = v->types;
    v->source.n_types = v->n_types;
}

/* A byte as the characters of byte-level BPE, by the rule as it was first published: printable ones
 * stand for themselves, the others get the code points from 256 on. */
static inline size_t byte_char(uint8_t byte, char *out) {
    uint32_t code = byte, others = 0;
    for (uint32_t b = 0; b <= byte; b++) {
        bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        if (b == byte && !printable) code = 256 + others;
        others += !printable;
    }
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    out[0] = (char)(0xC0 | code >> 6);
    out[1] = (char)(0x80 | (code & 0x3F));
    return 2;
}

static inline size_t byte_chars(const uint8_t *bytes, size_t n, char *out) {
    size_t written = 0;
    for (size_t i = 0; i < n; i++) written += byte_char(bytes[i], out + written);
    return written;
}

/* Adds the token and its merge from all but the last byte and the last byte. */
static inline void add_merged(vocabulary *v, const uint8_t *bytes, size_t n) {
    char text[64];
    size_t length = byte_chars(bytes, n - 1, text);
    text[length++] = ' ';
    length += byte_chars(bytes + n - 1, 1, text + length);
    packed_add(&v->merges, text, length);
    length = byte_chars(bytes, n, text);
    add_token(v, text, length, 1, 0);
}

static inline void symbols_vocabulary(vocabulary *v, const char *const *symbols, size_t n_symbols,
                                      size_t longest, const char *pre) {
    memset(v, 0, sizeof *v);
    xl_tokenizer_source_init(&v->source);
    uint8_t alphabet[256], bytes[8], seen[256] = {0};
    size_t n = 0;
    char text[16];
    for (size_t i = 0; i < n_symbols; i++)
        for (const char *p = symbols[i]; *p; p++) seen[(uint8_t)*p] = 1;
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint8_t one = (uint8_t)byte;
        if (seen[byte]) alphabet[n++] = one;
        add_token(v, text, byte_chars(&one, 1, text), 1, 0);
    }
    for (size_t length = 2, total = n * n; length <= longest; length++, total *= n)
        for (size_t i = 0; i < total; i++) {
            for (size_t k = length, rest = i; k-- > 0; rest /= n) bytes[k] = alphabet[rest % n];
            add_merged(v, bytes, length);
        }
    memset(bytes, '1', sizeof bytes);
    for (size_t length = longest + 1; length < 8; length++) add_merged(v, bytes, length);
    v->source.bos = (int64_t)v->tokens.count;
    v->source.eos = v->source.bos + 1;
    add_token(v, "<|x|>", 5, 3, 0);
    add_token(v, "<|xy|>", 6, 3, 0);
    add_token(v, "|><|", 4, 3, 0);
    add_token(v, "  ll", 4, 4, 0);
    finish_vocabulary(v, "gpt2");
    v->source.pre = text_of(pre);
}

#define SYMBOLS(list) list, sizeof list / sizeof *list
static inline void byte_level_vocabulary(vocabulary *v, const char *pre) {
    symbols_vocabulary(v, SYMBOLS(byte_level_symbols), 3, pre);
}

static inline bool has_inner_space(const char *text) {
    while (strncmp(text, "\xE2\x96\x81", 3) == 0) text += 3;
    return strstr(text, "\xE2\x96\x81") != NULL;
}

static inline void sentencepiece_vocabulary(vocabulary *v, bool inner_spaces) {
    static const char *const characters[6] = {"\xE2\x96\x81", "a", "b", "c", "\xC3\xA9", "1"};
    memset(v, 0, sizeof *v);
    xl_tokenizer_source_init(&v->source);
    uint64_t random = 7;
    char text[64];
    add_token(v, "<unk>", 5, 2, 0);
    add_token(v, "<s>", 3, 3, 0);
    add_token(v, "</s>", 4, 3, 0);
    for (unsigned byte = 0; byte < 256; byte++) {
        snprintf(text, sizeof text, "<0x%02X>", byte);
        add_token(v, text, 6, 6, 0);
    }
    for (uint32_t length = 1, total = 6; length <= 4; length++, total *= 6)
        for (uint32_t i = 0; i < total; i++) {
            text[0] = 0;
            for (uint32_t k = 0, unit = total / 6; k < length; k++, unit /= 6)
                strcat(text, characters[i / unit % 6]);
            uint32_t keep = pick(&random, 2), score = pick(&random, 600);
            if (length > 1 && (!keep || (!inner_spaces && has_inner_space(text)))) continue;
            add_token(v, text, strlen(text), 1, -(float)score);
        }
    add_token(v, "<u>", 3, 4, 0);
    add_token(v, "\n\n", 2, 4, 0);
    finish_vocabulary(v, "llama");
    v->source.scores = v->scores;
    v->source.n_scores = v->n_types;
    v->source.bos = 1;
    v->source.eos = 2;
    v->source.unk = 0;
}

/* Its texts with merges in place of scores, and runs of line feeds. */
static inline void raw_vocabulary(vocabulary *v) {
    vocabulary plain;
    sentencepiece_vocabulary(&plain, true);
    memset(v, 0, sizeof *v);
    xl_tokenizer_source_init(&v->source);
    const uint8_t *at = plain.tokens.data;
    for (size_t i = 0; i + 2 < plain.tokens.count; i++, at += 8 + at[0])
        add_token(v, (const char *)at + 8, at[0], plain.types[4 * i], 0);
    /* known texts, each with a line feed before and behind */
    char *known = malloc(plain.tokens.bytes + 2), text[64], merge[64];
    size_t n = 0;
    known[n++] = '\n';
    at = plain.tokens.data;
    for (size_t i = 0; i + 2 < plain.tokens.count; i++, at += 8 + at[0]) {
        if (i < 259) continue;
        memcpy(known + n, at + 8, at[0]);
        n += at[0];
        known[n++] = '\n';
    }
    known[n] = 0;
    at = plain.tokens.data;
    for (size_t i = 0; i + 2 < plain.tokens.count; i++, at += 8 + at[0])
        for (size_t cut = 1; i >= 259 && cut < at[0]; cut++) {
            snprintf(text, sizeof text, "\n%.*s\n", (int)cut, at + 8);
            bool both = strstr(known, text) != NULL;
            snprintf(text, sizeof text, "\n%.*s\n", (int)(at[0] - cut), at + 8 + cut);
            if (!both || !strstr(known, text)) continue;
            snprintf(merge, sizeof merge, "%.*s %.*s", (int)cut, at + 8, (int)(at[0] - cut),
                     at + 8 + cut);
            packed_text(&v->merges, merge);
        }
    free(known);
    add_token(v, "<u>", 3, 4, 0);
    add_token(v, "\n", 1, 1, 0);
    add_token(v, "\n\n", 2, 1, 0);
    add_token(v, "\n\n\n", 3, 1, 0);
    finish_vocabulary(v, "gemma4");
    v->source.bos = 1;
    v->source.eos = 2;
    v->source.unk = 0;
    free(plain.tokens.data);
    free(plain.types);
    free(plain.scores);
}

static inline xl_tokenizer *create_tokenizer(const vocabulary *v) {
    xl_tokenizer *t;
    exitlm_error error = {0};
    if (xl_tokenizer_create(&t, &v->source, NULL, &error) != EXITLM_OK) {
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
    return t;
}

static inline void free_vocabulary(vocabulary *v) {
    free(v->tokens.data);
    free(v->merges.data);
    free(v->types);
    free(v->scores);
}
#endif
