#include "pretokenize.h"

#include "unicode.h"

#include <string.h>

/* ---- Which rule ---- */

static const struct {
    const char *pre;
    xl_pre_rule rule;
} rules[] = {
#define SMOLLM {"smollm", XL_PRE_SMOLLM, false, false, true}
#define GPT2 {"gpt-2", XL_PRE_GPT2, false, false, true}
#define QWEN2 {"qwen2", XL_PRE_QWEN2, false, false, true}
#define LLAMA3 {"llama-bpe", XL_PRE_LLAMA3, true, true, true}
/* the same cuts, other defaults */
#define LIKE_LLAMA3 {"llama-bpe", XL_PRE_LLAMA3, false, false, true}
    {"smollm", SMOLLM},
    {"starcoder", SMOLLM},
    {"refact", SMOLLM},
    {"command-r", SMOLLM},
    {"codeshell", SMOLLM},
    {"exaone", SMOLLM},
    {"minerva-7b", SMOLLM},
    {"mellum2", SMOLLM},
    {"gpt-2", GPT2},
    {"phi-2", GPT2},
    {"mpt", GPT2},
    {"olmo", GPT2},
    {"jais", GPT2},
    {"trillion", GPT2},
    {"granite-docling", GPT2},
    {"exaone4", GPT2},
    {"gigachat", GPT2},
    {"a.x-4.0", GPT2},
    {"mellum", GPT2},
    {"qwen2", QWEN2},
    {"deepseek-r1-qwen", QWEN2},
    {"megrez", QWEN2},
    {"stablelm2", QWEN2},
    {"hunyuan", QWEN2},
    {"solar-open", QWEN2},
    {"grok-2", QWEN2},
    {"kormo", QWEN2},
    {"llama-bpe", LLAMA3},
    {"llama3", LLAMA3},
    {"llama-v3", LLAMA3},
    {"falcon3", LLAMA3},
    {"falcon-h1", LLAMA3},
    {"pixtral", LLAMA3},
    {"midm-2.0", LLAMA3},
    {"lfm2", LLAMA3},
    {"dbrx", LIKE_LLAMA3},
    {"smaug-bpe", LIKE_LLAMA3},
    {"glm4", LIKE_LLAMA3},
    {"chatglm-bpe", LIKE_LLAMA3},
    {"default", {"default", XL_PRE_DEFAULT, false, false, true}},
    {"", {"default", XL_PRE_DEFAULT, false, false, true}},
};

xl_pre_rule xl_pre_find(const char *pre, size_t n_bytes) {
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strlen(rules[i].pre) == n_bytes &&
            (n_bytes == 0 || memcmp(rules[i].pre, pre, n_bytes) == 0))
            return rules[i].rule;
    return (xl_pre_rule){"default", XL_PRE_DEFAULT, false, false, false};
}

/* ---- Characters ---- */

#define IN(class, mask) ((1u << (class) & (mask)) != 0)
enum {
    LETTERS = 1u << XL_UNICODE_LETTER,
    NUMBERS = 1u << XL_UNICODE_NUMBER,
    SPACES = 1u << XL_UNICODE_SPACE,
    /* [^\s\p{L}\p{N}] */
    SIGNS = 1u << XL_UNICODE_OTHER | 1u << XL_UNICODE_PUNCTUATION | 1u << XL_UNICODE_MARK
};

typedef struct character {
    uint32_t code_point;
    xl_unicode_class class;
    const uint8_t *next; /* first byte after it */
} character;

/* The character at `at`, which must lie before `end`. */
static inline character look(const uint8_t *at, const uint8_t *end) {
    if (*at < 0x80) return (character){*at, xl_unicode_classify(*at), at + 1};
    character c;
    c.next = at + xl_utf8_decode_lenient(at, end, &c.code_point);
    c.class = xl_unicode_classify_wide(c.code_point);
    return c;
}

/* End of the longest run of characters of `mask`'s classes. */
static const uint8_t *skip(const uint8_t *at, const uint8_t *end, unsigned mask) {
    while (at < end) {
        character c = look(at, end);
        if (!IN(c.class, mask)) break;
        at = c.next;
    }
    return at;
}

/* 's 't 're 've 'm 'll 'd: bytes of the contraction at `at` (an apostrophe), or 0. `fold`: 0x20
 * where capitals count too, else 0 (only ASCII letters fold to these). */
static size_t contraction(const uint8_t *at, const uint8_t *end, uint8_t fold) {
    if (end - at < 2) return 0;
    uint8_t a = at[1] | fold;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (end - at < 3) return 0;
    uint8_t b = at[2] | fold;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* White space at `at`: \s+(?!\S)|\s+, that is, a run without its last character where
 * something follows and more than one is there. */
static const uint8_t *space_word(const uint8_t *at, const uint8_t *end) {
    const uint8_t *last = at, *past = at;
    while (past < end) {
        character c = look(past, end);
        if (c.class != XL_UNICODE_SPACE) return last > at ? last : past;
        last = past;
        past = c.next;
    }
    return past;
}

/* ---- One word of each rule: its end ---- */

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static const uint8_t *gpt2_word(const uint8_t *at, const uint8_t *end) {
    if (*at == '\'') {
        size_t taken = contraction(at, end, 0);
        if (taken) return at + taken;
    }
    const uint8_t *start = *at == ' ' && at + 1 < end ? at + 1 : at; /* after the optional space */
    character c = look(start, end);
    if (c.class == XL_UNICODE_SPACE) return space_word(at, end);
    unsigned mask = c.class == XL_UNICODE_LETTER   ? LETTERS
                    : c.class == XL_UNICODE_NUMBER ? NUMBERS
                                                   : SIGNS;
    return skip(c.next, end, mask);
}

static const uint8_t *skip_newlines(const uint8_t *at, const uint8_t *end) {
    while (at < end && (*at == '\r' || *at == '\n')) at++;
    return at;
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ */
static const uint8_t *newline_or_space_word(const uint8_t *at, const uint8_t *end) {
    const uint8_t *past_newline = NULL;
    for (const uint8_t *p = at; p < end;) {
        character c = look(p, end);
        if (c.class != XL_UNICODE_SPACE) break;
        p = c.next;
        if (c.code_point == '\r' || c.code_point == '\n') past_newline = p;
    }
    return past_newline ? past_newline : space_word(at, end);
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,D}|
 * ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ with D = max_digits: 3 in Llama 3, 1 in Qwen
 * 2. */
static const uint8_t *llama3_word(const uint8_t *at, const uint8_t *end, unsigned max_digits) {
    if (*at == '\'') {
        size_t taken = contraction(at, end, 0x20);
        if (taken) return at + taken;
    }
    character c = look(at, end);
    if (c.class == XL_UNICODE_LETTER) return skip(c.next, end, LETTERS);
    if (c.class == XL_UNICODE_NUMBER) {
        const uint8_t *p = c.next;
        for (unsigned digits = 1; digits < max_digits && p < end; digits++) {
            character d = look(p, end);
            if (d.class != XL_UNICODE_NUMBER) break;
            p = d.next;
        }
        return p;
    }
    if (c.next < end && c.code_point != '\r' && c.code_point != '\n') {
        character d = look(c.next, end);
        if (d.class == XL_UNICODE_LETTER) return skip(d.next, end, LETTERS);
        if (c.code_point == ' ' && IN(d.class, SIGNS))
            return skip_newlines(skip(d.next, end, SIGNS), end);
    }
    if (c.class == XL_UNICODE_SPACE) return newline_or_space_word(at, end);
    return skip_newlines(skip(c.next, end, SIGNS), end);
}

/* ---- Rules of several cuts: each cuts what the one before it left ---- */

/* \p{N}, then GPT-2's. */
static const uint8_t *smollm_word(xl_pre_walk *walk) {
    if (walk->at >= walk->piece_end) {
        character c = look(walk->at, walk->end);
        walk->piece_end = c.class == XL_UNICODE_NUMBER
                              ? c.next
                              : skip(c.next, walk->end, LETTERS | SPACES | SIGNS);
    }
    return gpt2_word(walk->at, walk->piece_end);
}

/* [\p{P}\$\+<=>\^~\|] */
static bool is_default_sign(const character *c) {
    if (c->code_point >= 128) return c->class == XL_UNICODE_PUNCTUATION;
    return c->class == XL_UNICODE_PUNCTUATION ||
           (c->code_point && strchr("$+<=>^~|", (int)c->code_point));
}

static const uint8_t *default_piece(const uint8_t *at, const uint8_t *end) {
    character c = look(at, end);
    bool sign = is_default_sign(&c);
    for (at = c.next; at < end; at = c.next) {
        c = look(at, end);
        if (is_default_sign(&c) != sign) break;
    }
    return at;
}

static bool is_digit(uint8_t byte) { return byte >= '0' && byte <= '9'; }

/* \p{N}+, then [0-9][0-9][0-9], within the walk's word. */
static const uint8_t *default_number(xl_pre_walk *walk) {
    const uint8_t *at = walk->at;
    if (at >= walk->number_end) {
        if (look(at, walk->word_end).class != XL_UNICODE_NUMBER)
            return walk->number_end = skip(at, walk->word_end, LETTERS | SPACES | SIGNS);
        walk->number_end = skip(at, walk->word_end, NUMBERS);
    }
    for (const uint8_t *p = at; walk->number_end - p >= 3; p++) {
        if (!is_digit(p[0]) || !is_digit(p[1]) || !is_digit(p[2])) continue;
        return p == at ? at + 3 : p;
    }
    return walk->number_end;
}

/* [\p{P}\$\+<=>\^~\|]+, then GPT-2's, then \p{N}+, then [0-9][0-9][0-9]. */
static const uint8_t *default_word(xl_pre_walk *walk) {
    if (walk->at >= walk->piece_end) walk->piece_end = default_piece(walk->at, walk->end);
    if (walk->at >= walk->word_end) walk->word_end = gpt2_word(walk->at, walk->piece_end);
    return default_number(walk);
}

bool xl_pre_next(xl_pre_walk *walk, const uint8_t **word) {
    if (walk->at >= walk->end) return false;
    if (!walk->piece_end) walk->piece_end = walk->word_end = walk->number_end = walk->at;
    *word = walk->at;
    switch (walk->kind) {
    case XL_PRE_GPT2: walk->at = gpt2_word(walk->at, walk->end); break;
    case XL_PRE_SMOLLM: walk->at = smollm_word(walk); break;
    case XL_PRE_LLAMA3: walk->at = llama3_word(walk->at, walk->end, 3); break;
    case XL_PRE_QWEN2: walk->at = llama3_word(walk->at, walk->end, 1); break;
    case XL_PRE_DEFAULT: walk->at = default_word(walk); break;
    }
    return true;
}
