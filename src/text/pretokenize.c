#include "pretokenize.h"

#include "unicode.h"

#include <string.h>

/* ---- The rules: names of tokenizer.ggml.pre, and their expressions, each of which cuts what the
 * one before it left. Beside what regular expressions have: \c is a contraction, as 's or 'LL, \C
 * one in small letters; \p{U} are letters but a-z, \p{l} letters but A-Z. ---- */

#define GPT2 "\\C| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LEAD "[^\r\n\\p{L}\\p{N}]?"
#define SIGNS " ?[^\\s\\p{L}\\p{N}]+"
#define SPACES "\\s+(?!\\S)|\\s+"
#define BREAKS "\\s*[\r\n]+|" SPACES
/* Llama 3's and its many relatives' */
#define WORDS(digits) LEAD "\\p{L}+|" digits "|" SIGNS "[\r\n]*|"
#define QWEN2 "\\c|" WORDS("\\p{N}") BREAKS
#define HAN_TO_HANGUL "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
#define HAN_AND_KANA "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
#define ASCII_SIGN "[!-/:-@\\[-`{-~]"
#define DEEPSEEK3 ASCII_SIGN "[A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+"
#define CASES(more) LEAD "\\p{U}*\\p{l}+" more "|" LEAD "\\p{U}+\\p{l}*" more "|"
#define BLOOM " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
/* letters with capitals, as of one version of Unicode */
#define CASED                                                                              \
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕ" \
    "ἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ"     \
    "\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"

enum { MERGELESS = 1, BOS = 2, ALWAYS_BOS = 4, RAW = 8, WHOLE_BREAKS = 16 };
static const struct {
    const char *names;
    unsigned flags;
    const char *cuts[XL_PRE_CUTS];
} rules[] = {
    {"default", 0, {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
    {"gpt-2 phi-2 mpt olmo jais trillion granite-docling exaone4 gigachat a.x-4.0 mellum",
     0,
     {GPT2}},
    {"smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", 0, {"\\p{N}", GPT2}},
    {"falcon", 0, {"[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"}},
    {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2",
     MERGELESS | BOS,
     {"\\c|" WORDS("\\p{N}{1,3}") BREAKS}},
    /* the same cuts, other defaults */
    {"dbrx smaug-bpe glm4 chatglm-bpe", 0, {"\\c|" WORDS("\\p{N}{1,3}") BREAKS}},
    {"qwen2 deepseek-r1-qwen megrez stablelm2 hunyuan solar-open grok-2 kormo f2llmv2", 0, {QWEN2}},
    {"qwen35",
     0,
     {"\\c|" LEAD "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\r\n]*|" BREAKS}},
    {"deepseek-llm",
     0,
     {"[\r\n]", "\\s?[" CASED "]+",
      "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", "\\s+$", HAN_TO_HANGUL,
      "\\p{N}+"}},
    {"deepseek-coder", 0, {"[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", HAN_TO_HANGUL, "\\p{N}"}},
    {"deepseek-v3 hunyuan-dense joyai-llm hy_v4",
     0,
     {"\\p{N}{1,3}", HAN_AND_KANA, DEEPSEEK3 "[\r\n]*|" BREAKS}},
    {"spark2_5", 0, {"\\p{N}{1,3}", HAN_AND_KANA, DEEPSEEK3 "|[\r\n]|" SPACES, "\\p{N}"}},
    {"gpt-4o llama4 kanana2 talkie minimax-m2",
     0,
     {CASES("\\c?") "\\p{N}{1,3}|" SIGNS "[\r\n/]*|" BREAKS}},
    {"tekken", MERGELESS | BOS, {CASES("") "\\p{N}|" SIGNS "[\r\n/]*|" BREAKS}},
    {"youtu",
     MERGELESS,
     {"[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c"
      "\u3001-\u303f\ufe30-\ufe4f]+|[\u3105-\u312f]+|" HAN_AND_KANA,
      LEAD "[\\p{L}\\p{M}]+\\c?|\\p{N}|" SIGNS "[\r\n/]*|" BREAKS}},
    {"bailingmoe bailingmoe2 llada-moe", 0, {"\\c|" WORDS("\\p{N}") "\\s*[\r\n]|" SPACES}},
    {"seed-coder", 0, {"\\c|" LEAD "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}\r\n]+|" BREAKS}},
    {"ufakzeka", 0, {WORDS("\\p{N}") BREAKS}},
    {"laguna", 0, {"[^\n]+|[\n]+", QWEN2}},
    {"minicpm5", MERGELESS, {"\\p{N}{1,3}", "\\c|" WORDS("\\p{N}+") BREAKS}},
    {"jais-2",
     0,
     {"\\c|" WORDS("\\p{N}{1,3}") "\\s*[\r\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|"
                                  "\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{"
                                  "4}(?!\\S)|\\s{1,2}(?!\\S)|"
                                  "\\s"}},
    {"bloom gpt3-finnish poro-chat", 0, {BLOOM}},
    {"viking", 0, {BLOOM, "\\p{N}"}},
    {"chameleon",
     BOS,
     {"<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", "[\t\n]|    |  ", "\\p{N}",
      "[\\p{P}!-/:-@\\[-`{-~]", GPT2}},
    {"gemma4", ALWAYS_BOS | RAW | WHOLE_BREAKS, {"[^\n]+|[\n]+"}},
    {"sarvam-moe", RAW, {"[^\n]+|[\n]+"}},
};

/* ---- Characters ---- */

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
    /* white space over 127 counts as a vertical tab, also where a range names it */
    if (c.class == XL_UNICODE_SPACE) c.code_point = '\v';
    return c;
}

/* Bytes of the contraction 's 't 're 've 'm 'll 'd at `at`, or 0. `fold`: 0x20 where capitals count
 * too, else 0 (only ASCII letters fold to these). */
static size_t contraction(const uint8_t *at, const uint8_t *end, uint8_t fold) {
    if (end - at < 2 || *at != '\'') return 0;
    uint8_t a = at[1] | fold;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (end - at < 3) return 0;
    uint8_t b = at[2] | fold;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* ---- Classes of characters ---- */

/* What stands next in a class's text: a range, or an escape such as \s or \p{L}. */
typedef struct entry {
    char escape, property; /* 's' 'S' 'd' 'p', and of 'p' its letter; 0: a range */
    uint32_t low, high;
} entry;

static entry next_entry(const char **at, const char *end) {
    const char *p = *at;
    entry e = {0};
    if (*p == '\\' && strchr("sSdp", p[1])) {
        e.escape = p[1];
        if (e.escape == 'p') e.property = p[3];
        *at = p + (e.escape == 'p' ? 5 : 2);
        return e;
    }
    p += *p == '\\';
    p += xl_utf8_decode_lenient((const uint8_t *)p, (const uint8_t *)end, &e.low);
    e.high = e.low;
    if (end - p >= 2 && *p == '-') {
        p++;
        p += xl_utf8_decode_lenient((const uint8_t *)p, (const uint8_t *)end, &e.high);
    }
    *at = p;
    return e;
}

static unsigned classes_of(char property) {
    switch (property) {
    case 'N': return 1u << XL_UNICODE_NUMBER;
    case 'P': return 1u << XL_UNICODE_PUNCTUATION;
    case 'M': return 1u << XL_UNICODE_MARK;
    case 'S': return 1u << XL_UNICODE_SYMBOL;
    default: return 1u << XL_UNICODE_LETTER;
    }
}

static bool entry_has_ascii(const entry *e, uint32_t c) {
    const xl_unicode_class class = xl_unicode_classify(c);
    switch (e->escape) {
    case 's':
    case 'S': return class == XL_UNICODE_SPACE;
    case 'd': return class == XL_UNICODE_NUMBER;
    case 'p':
        if (e->property == 'U' && c >= 'a') return false;
        if (e->property == 'l' && c <= 'Z') return false;
        return classes_of(e->property) >> class & 1;
    default: return c >= e->low && c <= e->high;
    }
}

/* Fills a set from the text of a class without its brackets. */
static void fill_set(xl_pre_set *set, const char *text, const char *end) {
    *set = (xl_pre_set){.negated = *text == '^'};
    const char *p = text += set->negated;
    while (p < end) {
        const entry e = next_entry(&p, end);
        if (e.escape == 'p') set->classes |= (uint8_t)classes_of(e.property);
        if (e.escape == 'S') set->negated = true;
        if (e.high >= 128) set->ranges = text, set->ranges_end = end;
        for (uint32_t c = 0; c < 128; c++)
            if (entry_has_ascii(&e, c)) set->ascii[c >> 5] |= 1u << (c & 31);
    }
    if (set->negated)
        for (unsigned i = 0; i < 4; i++) set->ascii[i] = ~set->ascii[i];
}

static inline bool has_bit(const uint32_t bits[4], uint32_t c) {
    return bits[c >> 5] >> (c & 31) & 1;
}

static bool has(const xl_pre_set *set, const character *c) {
    if (c->code_point < 128) return has_bit(set->ascii, c->code_point);
    bool in = set->classes >> c->class & 1;
    for (const char *p = set->ranges; p && !in && p < set->ranges_end;) {
        const entry e = next_entry(&p, set->ranges_end);
        in = c->code_point >= e.low && c->code_point <= e.high;
    }
    return in != set->negated;
}

/* ---- Expressions to items ---- */

enum {
    CHARACTER,
    CLASS,
    NOT_AHEAD,
    CONTRACTION,
    SMALL_CONTRACTION,
    AT_END,
    END_OF_WAY,
    END_OF_CUT
};

/* "?", "*", "+", "{m}" or "{m,n}" at p; returns where it ends. */
static const char *read_times(const char *p, xl_pre_item *item) {
    item->min = item->max = 1;
    if (*p == '?' || *p == '*') item->min = 0;
    if (*p == '*' || *p == '+') item->max = UINT16_MAX;
    if (*p == '?' || *p == '*' || *p == '+') return p + 1;
    if (*p != '{') return p;
    uint16_t *number = &item->min;
    for (item->min = 0; *++p != '}';) {
        if (*p == ',') number = &item->max, item->max = 0;
        else *number = (uint16_t)(*number * 10 + (*p - '0'));
    }
    if (number == &item->min) item->max = item->min;
    return p + 1;
}

/* A class at p, as [a-z] or \s, or one character. */
static const char *read_class(xl_pre *pre, const char *p, xl_pre_item *item) {
    const char *text = p, *end = p + 1;
    if (*p == '[') {
        text = p + 1;
        while (*end != ']') end += *end == '\\' ? 2 : 1;
    } else if (*p == '\\') {
        end = p + (p[1] == 'p' ? 5 : 2);
    } else {
        *item = (xl_pre_item){.kind = CHARACTER, .what = (uint8_t)*p};
        return end;
    }
    *item = (xl_pre_item){.kind = CLASS, .what = (uint8_t)pre->n_sets};
    fill_set(&pre->set[pre->n_sets++], text, end);
    return end + (*p == '[');
}

/* Adds the ASCII characters with which what a way matches may begin. */
static void add_first(const xl_pre *pre, const xl_pre_item *item, uint32_t first[4]) {
    do {
        if (item->kind == CLASS) {
            for (int i = 0; i < 4; i++) first[i] |= pre->set[item->what].ascii[i];
        } else {
            const uint8_t c = item->kind == CHARACTER ? item->what : '\'';
            first[c >> 5] |= 1u << (c & 31);
        }
    } while (item++->min == 0);
}

static void compile(xl_pre *pre, const char *p) {
    uint32_t *first = pre->first[pre->n_cuts], way = pre->n_items;
    pre->cut[pre->n_cuts++] = (uint8_t)pre->n_items;
    for (;;) {
        xl_pre_item *item = &pre->item[pre->n_items++];
        if (!*p || *p == '|') {
            *item = (xl_pre_item){.kind = END_OF_WAY};
            add_first(pre, &pre->item[way], first);
            way = pre->n_items;
            if (*p++) continue;
            pre->item[pre->n_items++] = (xl_pre_item){.kind = END_OF_CUT};
            return;
        }
        if (*p == '$') {
            *item = (xl_pre_item){.kind = AT_END};
            p++;
        } else if (*p == '(') { /* (?!X) */
            p = read_class(pre, p + 3, item) + 1;
            item->kind = NOT_AHEAD;
        } else if (*p == '\\' && (p[1] == 'c' || p[1] == 'C')) {
            *item = (xl_pre_item){.kind = p[1] == 'c' ? CONTRACTION : SMALL_CONTRACTION};
            p = read_times(p + 2, item);
        } else {
            p = read_class(pre, p, item);
            p = read_times(p, item);
        }
    }
}

/* Is this one of the names, which have spaces between? */
static bool is_among(const char *names, const char *name, size_t n_bytes) {
    for (;; names++) {
        const size_t n = strcspn(names, " ");
        if (n == n_bytes && memcmp(names, name, n) == 0) return true;
        names += n;
        if (!*names) return false;
    }
}

bool xl_pre_find(xl_pre *pre, const char *name, size_t n_bytes) {
    if (n_bytes == 0) name = "default", n_bytes = strlen(name);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        if (!is_among(rules[i].names, name, n_bytes)) continue;
        if (!pre) return true;
        const unsigned flags = rules[i].flags;
        *pre = (xl_pre){.ignore_merges = flags & MERGELESS,
                        .add_bos = flags & BOS,
                        .always_bos = flags & ALWAYS_BOS,
                        .raw = flags & RAW,
                        .whole_breaks = flags & WHOLE_BREAKS};
        for (size_t k = 0; k < XL_PRE_CUTS && rules[i].cuts[k]; k++) compile(pre, rules[i].cuts[k]);
        return true;
    }
    return false;
}

/* ---- Matching ---- */

static const uint8_t *step_back(const uint8_t *at) {
    do at--;
    while ((*at & 0xC0) == 0x80);
    return at;
}

/* The end of what the items from `item` on match at `at`, as much as may be; NULL: nothing. No item
 * is tried at more places than the one before it took, so this goes over the text a few times at
 * most. */
static const uint8_t *match(const xl_pre *pre, const xl_pre_item *item, const uint8_t *at,
                            const uint8_t *end) {
    const uint8_t *p = at;
    switch (item->kind) {
    case END_OF_WAY: return at;
    case AT_END: return at == end ? match(pre, item + 1, at, end) : NULL;
    case NOT_AHEAD:
        if (at < end) {
            const character c = look(at, end);
            if (has(&pre->set[item->what], &c)) return NULL;
        }
        return match(pre, item + 1, at, end);
    case CONTRACTION:
    case SMALL_CONTRACTION:
        p += contraction(at, end, item->kind == CONTRACTION ? 0x20 : 0);
        return p > at || item->min == 0 ? match(pre, item + 1, p, end) : NULL;
    case CHARACTER:
        if (p < end && *p == item->what) p++;
        break;
    default: break;
    }
    size_t n = (size_t)(p - at);
    if (item->kind == CLASS) {
        const xl_pre_set *set = &pre->set[item->what];
        for (const size_t max = item->max == UINT16_MAX ? SIZE_MAX : item->max; n < max && p < end;
             n++) {
            if (*p < 0x80) {
                if (!has_bit(set->ascii, *p)) break;
                p++;
                continue;
            }
            const character c = look(p, end);
            if (!has(set, &c)) break;
            p = c.next;
        }
    }
    if (item[1].kind == END_OF_WAY) return n >= item->min ? p : NULL;
    for (; n >= item->min; n--, p = step_back(p)) {
        const uint8_t *past = match(pre, item + 1, p, end);
        if (past || n == 0) return past;
    }
    return NULL;
}

/* Where [at, end) is cut next by an expression: behind a match here, else before the next one. */
static const uint8_t *next_stop(const xl_pre *pre, uint32_t cut, const uint8_t *at,
                                const uint8_t *end) {
    const xl_pre_item *first = &pre->item[pre->cut[cut]];
    if (first[1].kind == AT_END) { /* X+$: from the end backwards, or it would be quadratic */
        const uint8_t *p = end;
        while (p > at) {
            const character c = look(step_back(p), end);
            if (!has(&pre->set[first->what], &c)) break;
            p = step_back(p);
        }
        return p > at ? p : end;
    }
    for (const uint8_t *p = at; p < end; p = *p < 0x80 ? p + 1 : look(p, end).next) {
        if (*p < 0x80 && !has_bit(pre->first[cut], *p)) continue;
        for (const xl_pre_item *item = first; item->kind != END_OF_CUT; item++) {
            const uint8_t *past = match(pre, item, p, end);
            if (past) return p > at ? p : past;
            while (item->kind != END_OF_WAY) item++;
        }
    }
    return end;
}

bool xl_pre_next(xl_pre_walk *walk, const uint8_t **word) {
    const xl_pre *pre = walk->pre;
    if (walk->at >= walk->end) return false;
    *word = walk->at;
    const uint8_t *end = walk->end;
    for (uint32_t i = 0; i < pre->n_cuts; i++) {
        if (!walk->stop[i] || walk->stop[i] <= walk->at)
            walk->stop[i] = next_stop(pre, i, walk->at, end);
        end = walk->stop[i];
    }
    walk->at = end;
    return true;
}
