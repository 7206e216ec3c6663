/* A repeated part is read again for each of its copies, so there is no tree of the expression: `dry`
 * is reading without laying. */
#include "regex.h"

#include <string.h>

#include "base/status.h"
#include "text/unicode.h"

enum { MAX_NESTING = 64, MAX_REPEATS = 4096 };
#define NO_END UINT32_MAX

typedef struct regex {
    xl_automaton *automaton;
    const char *start, *at, *end;
    unsigned flags, nesting;
    xl_quoting quoting;
    bool dry;
    exitlm_error *error;
    exitlm_status status; /* sticky */
} regex;

static void alternatives(regex *x, uint32_t from, uint32_t to);

static bool going(const regex *x) {
    return x->status == EXITLM_OK && !x->automaton->no_memory && !x->automaton->too_large;
}

static void wrong(regex *x, const char *what) {
    if (!going(x)) return;
    x->status = xl_fail(x->error, EXITLM_USAGE, "pattern: %s at byte %zu of \"%.*s\"", what,
                        (size_t)(x->at - x->start), XL_TEXT(x->start, (size_t)(x->end - x->start)));
}

static bool sees(const regex *x, const char *text) {
    const size_t n = strlen(text);
    return (size_t)(x->end - x->at) >= n && memcmp(x->at, text, n) == 0;
}

static bool take(regex *x, const char *text) {
    if (!sees(x, text)) return false;
    x->at += strlen(text);
    return true;
}

/* Is the next byte one of these? */
static bool sees_one(const regex *x, const char *bytes) {
    return x->at < x->end && *x->at && strchr(bytes, *x->at);
}

static uint32_t new_state(regex *x) { return x->dry ? 0 : xl_automaton_state(x->automaton); }
static void lay_nothing(regex *x, uint32_t from, uint32_t to) {
    if (!x->dry) xl_lay_nothing(x->automaton, from, to);
}

/* ---- Characters ---- */

static uint32_t character(regex *x) {
    const size_t n = x->at < x->end ? xl_utf8_sequence(x->at, (size_t)(x->end - x->at)) : 0;
    if (n == 0) {
        wrong(x, x->at < x->end ? "this is not UTF-8" : "a character is missing");
        return 0;
    }
    uint32_t c;
    xl_utf8_decode_lenient((const uint8_t *)x->at, (const uint8_t *)x->end, &c);
    x->at += n;
    return c;
}

static uint32_t hex(regex *x, unsigned least, unsigned most) {
    uint32_t value = 0;
    unsigned n = 0;
    for (; n < most && x->at < x->end; n++, x->at++) {
        const char *digit = strchr("0123456789abcdef", *x->at | 0x20);
        if (!digit || !*digit || (*x->at < '0')) break;
        value = value * 16 + (uint32_t)(digit - "0123456789abcdef");
    }
    if (n < least || value > 0x10ffff) wrong(x, "hexadecimal digits are missing or too many");
    return value;
}

static uint32_t unicode_escape(regex *x) {
    if (take(x, "{")) {
        const uint32_t c = hex(x, 1, 6);
        if (!take(x, "}")) wrong(x, "a } is missing");
        return c;
    }
    uint32_t c = hex(x, 4, 4);
    if (c >= 0xd800 && c < 0xdc00 && take(x, "\\u")) {
        const uint32_t low = hex(x, 4, 4);
        if (low >= 0xdc00 && low < 0xe000) c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    if (c >= 0xd800 && c < 0xe000) wrong(x, "half a surrogate pair");
    return c;
}

static void add_class(xl_charset *set, char name) {
    xl_charset one = {0};
    const bool inverted = name < 'a';
    switch (name | 0x20) {
    case 'd': xl_charset_add(&one, '0', '9'); break;
    case 'w':
        xl_charset_add(&one, '0', '9');
        xl_charset_add(&one, 'A', 'Z');
        xl_charset_add(&one, '_', '_');
        xl_charset_add(&one, 'a', 'z');
        break;
    default: {
        static const xl_range spaces[] = {{9, 13},          {32, 32},         {0xa0, 0xa0},
                                          {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029},
                                          {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000},
                                          {0xfeff, 0xfeff}};
        for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++)
            xl_charset_add(&one, spaces[i].low, spaces[i].high);
    }
    }
    if (inverted) xl_charset_invert(&one);
    for (uint32_t i = 0; i < one.n; i++) xl_charset_add(set, one.range[i].low, one.range[i].high);
}

/* After a backslash. True: a class was added; false: *c is the one character. */
static bool escape(regex *x, bool in_class, xl_charset *set, uint32_t *c) {
    static const char controls[] = "t\tn\nv\vf\fr\r";
    if (x->at == x->end) {
        wrong(x, "a character is missing after \\");
        return false;
    }
    const char name = *x->at;
    if (sees_one(x, "dwsDWS")) {
        x->at++;
        add_class(set, name);
        return true;
    }
    for (const char *control = controls; *control; control += 2)
        if (*control == name) {
            x->at++;
            *c = (uint32_t)control[1];
            return false;
        }
    if (take(x, "x")) *c = hex(x, 2, 2);
    else if (take(x, "u")) *c = unicode_escape(x);
    else if (take(x, "0")) *c = 0;
    else if (in_class && take(x, "b")) *c = '\b';
    else if ((name >= 'a' && name <= 'z') || (name >= 'A' && name <= 'Z') ||
             (name >= '0' && name <= '9'))
        wrong(x, "this escape is not supported");
    else *c = character(x);
    return false;
}

/* One character or class of a bracket; true: it was a class. */
static bool class_item(regex *x, xl_charset *set, uint32_t *c) {
    if (take(x, "\\")) return escape(x, true, set, c);
    *c = character(x);
    return false;
}

static void bracket(regex *x, xl_charset *set) {
    const bool inverted = take(x, "^");
    while (x->status == EXITLM_OK && !take(x, "]")) {
        uint32_t low = 0, high = 0;
        if (class_item(x, set, &low)) continue;
        high = low;
        if (sees(x, "-") && !sees(x, "-]")) {
            x->at++;
            if (class_item(x, set, &high)) wrong(x, "a class cannot end a range");
        }
        if (high < low) wrong(x, "a range runs backwards");
        xl_charset_add(set, low, high);
    }
    xl_charset_tidy(set);
    if (inverted) xl_charset_invert(set);
}

static void fold(xl_charset *set) {
    const uint32_t n = set->n;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t c = 'A'; c <= 'Z'; c++) {
            const xl_range range = set->range[i];
            if (c >= range.low && c <= range.high) xl_charset_add(set, c | 0x20, c | 0x20);
            if ((c | 0x20) >= range.low && (c | 0x20) <= range.high) xl_charset_add(set, c, c);
        }
}

static void lay_set(regex *x, uint32_t from, xl_charset *set, uint32_t to) {
    xl_charset_tidy(set);
    if (x->flags & XL_REGEX_IGNORE_CASE) {
        fold(set);
        xl_charset_tidy(set);
    }
    if (set->too_many) wrong(x, "a class has too many ranges");
    if (!x->dry) xl_lay_charset(x->automaton, from, set, x->quoting, to);
}

static void dot(const regex *x, xl_charset *set) {
    if (!(x->flags & XL_REGEX_DOT_ALL)) {
        xl_charset_add(set, '\n', '\n');
        xl_charset_add(set, '\r', '\r');
        xl_charset_add(set, 0x2028, 0x2029);
    }
    xl_charset_invert(set);
}

/* ---- Structure ---- */

static void group(regex *x, uint32_t from, uint32_t to) {
    if (take(x, "?") && !take(x, ":")) {
        if (!take(x, "<") || sees(x, "=") || sees(x, "!")) wrong(x, "look-around is not supported");
        while (x->at < x->end && *x->at != '>') x->at++;
        if (!take(x, ">")) wrong(x, "the group's name has no end");
    }
    alternatives(x, from, to);
    if (!take(x, ")")) wrong(x, "a ) is missing");
}

static void atom(regex *x, uint32_t from, uint32_t to) {
    xl_charset set = {0};
    if (take(x, "(")) {
        group(x, from, to);
        return;
    }
    if (take(x, "[")) bracket(x, &set);
    else if (take(x, ".")) dot(x, &set);
    else if (sees_one(x, "*+?{}]^$")) wrong(x, "nothing to repeat, or ^ $");
    else {
        uint32_t c = 0;
        if (!take(x, "\\")) c = character(x);
        else if (escape(x, false, &set, &c)) c = NO_END;
        if (c != NO_END) xl_charset_add(&set, c, c);
    }
    lay_set(x, from, &set, to);
}

static uint32_t number(regex *x) {
    uint32_t value = 0;
    const char *first = x->at;
    for (; x->at < x->end && *x->at >= '0' && *x->at <= '9'; x->at++)
        if (value <= MAX_REPEATS) value = value * 10 + (uint32_t)(*x->at - '0');
    if (x->at == first) wrong(x, "a number is missing");
    if (value > MAX_REPEATS) wrong(x, "more than 4096 repetitions");
    return value;
}

static void repeats(regex *x, uint32_t *least, uint32_t *most) {
    *least = *most = 1;
    if (take(x, "*")) *least = 0, *most = NO_END;
    else if (take(x, "+")) *most = NO_END;
    else if (take(x, "?")) *least = 0;
    else if (take(x, "{")) {
        *least = *most = number(x);
        if (take(x, ",")) *most = sees(x, "}") ? NO_END : number(x);
        if (!take(x, "}")) wrong(x, "a } is missing");
        if (*most < *least) wrong(x, "the numbers of { } run backwards");
    } else return;
    take(x, "?"); /* lazy */
}

/* One copy of the part that begins at `part`. */
static void copy(regex *x, const char *part, uint32_t from, uint32_t to) {
    x->at = part;
    atom(x, from, to);
}

static void piece(regex *x, uint32_t from, uint32_t to) {
    const char *part = x->at;
    const bool dry = x->dry;
    uint32_t least, most;
    x->dry = true;
    atom(x, from, to);
    repeats(x, &least, &most);
    x->dry = dry;
    if (dry || !going(x)) return;
    const char *end = x->at;
    for (uint32_t i = 0; i < least && going(x); i++) {
        const uint32_t next = new_state(x);
        copy(x, part, from, next);
        from = next;
    }
    if (most == NO_END) {
        const uint32_t loop = new_state(x);
        lay_nothing(x, from, loop);
        copy(x, part, loop, loop);
        from = loop;
    }
    for (uint32_t i = least; most != NO_END && i < most && going(x); i++) {
        const uint32_t next = new_state(x);
        lay_nothing(x, from, to);
        copy(x, part, from, next);
        from = next;
    }
    lay_nothing(x, from, to);
    x->at = end;
}

static void sequence(regex *x, uint32_t from, uint32_t to) {
    take(x, "^");
    while (going(x) && x->at < x->end && *x->at != '|' && *x->at != ')') {
        if (take(x, "$")) {
            if (x->at < x->end && *x->at != '|' && *x->at != ')') wrong(x, "$ before the end");
            break;
        }
        const uint32_t next = new_state(x);
        piece(x, from, next);
        from = next;
    }
    lay_nothing(x, from, to);
}

static void alternatives(regex *x, uint32_t from, uint32_t to) {
    if (++x->nesting > MAX_NESTING) wrong(x, "groups are nested too deep");
    do {
        sequence(x, from, to);
    } while (going(x) && take(x, "|"));
    x->nesting--;
}

exitlm_status xl_lay_regex(xl_automaton *automaton, uint32_t from, const char *pattern,
                           size_t n_bytes, unsigned flags, xl_quoting quoting, uint32_t to,
                           exitlm_error *error) {
    regex x = {.automaton = automaton,
               .start = pattern,
               .at = pattern,
               .end = pattern + n_bytes,
               .flags = flags,
               .quoting = quoting,
               .error = error};
    alternatives(&x, from, to);
    if (going(&x) && x.at < x.end) wrong(&x, "a ( is missing");
    return x.status;
}
