#include "json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"
#include "utf8.h"

#define MAX_NESTING 64
#define MAX_BYTES ((size_t)64 << 20)

typedef struct reader {
    const char *start, *at, *end;
    xl_json *nodes; /* [capacity] */
    size_t n_nodes, capacity;
    char *strings; /* room for every string of the text */
    const char *wrong;
} reader;

static bool value(reader *r, xl_json *node, unsigned nesting);

static bool wrong(reader *r, const char *what) {
    if (!r->wrong) r->wrong = what;
    return false;
}

static void space(reader *r) {
    while (r->at < r->end && strchr(" \t\r\n", *r->at) && *r->at) r->at++;
}

static bool take(reader *r, char c) {
    space(r);
    if (r->at == r->end || *r->at != c) return false;
    r->at++;
    return true;
}

static bool hex4(reader *r, uint32_t *code) {
    if (r->end - r->at < 4) return wrong(r, "\\u needs four hexadecimal digits");
    *code = 0;
    for (int i = 0; i < 4; i++) {
        char c = *r->at++;
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;
        if (digit == 16) return wrong(r, "\\u needs four hexadecimal digits");
        *code = *code * 16 + digit;
    }
    return true;
}

/* After "\u": one character, of two halves where it lies beyond the first plane; a half alone
 * becomes U+FFFD. */
static bool unicode_escape(reader *r) {
    uint32_t c, low;
    if (!hex4(r, &c)) return false;
    if (c >= 0xD800 && c < 0xDC00 && r->end - r->at >= 6 && r->at[0] == '\\' && r->at[1] == 'u') {
        const char *back = r->at;
        r->at += 2;
        if (!hex4(r, &low)) return false;
        if (low >= 0xDC00 && low < 0xE000) c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
        else r->at = back;
    }
    if (c >= 0xD800 && c < 0xE000) c = 0xFFFD;
    if (c == 0) return wrong(r, "a string with \\u0000");
    r->strings += xl_utf8_encode(c, (uint8_t *)r->strings);
    return true;
}

static bool string(reader *r, const char **text) {
    if (!take(r, '"')) return wrong(r, "a string was expected");
    *text = r->strings;
    while (r->at < r->end && *r->at != '"') {
        unsigned char c = (unsigned char)*r->at++;
        if (c < 0x20) return wrong(r, "a control character in a string");
        if (c != '\\') {
            *r->strings++ = (char)c;
            continue;
        }
        if (r->at == r->end) break;
        static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
        char escape = *r->at++;
        const char *known = escape ? strchr(names, escape) : NULL;
        if (known) *r->strings++ = values[known - names];
        else if (escape != 'u') return wrong(r, "an unknown escape in a string");
        else if (!unicode_escape(r)) return false;
    }
    if (r->at == r->end) return wrong(r, "a string does not end");
    r->at++;
    *r->strings++ = 0;
    return true;
}

/* The digits at r->at; counts them in *n and joins the first 19 to *value. */
static void digits(reader *r, uint64_t *value, int *n, int *dropped) {
    for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++, ++*n)
        if (*value < 922337203685477580u) *value = *value * 10 + (uint64_t)(*r->at - '0');
        else ++*dropped;
}

/* Exact where up to 15 digits and a power of ten up to 22 make the number (Clinger 1990), within
 * two units of the last place otherwise. The C library's own way is ten times as large. */
static bool number(reader *r, xl_json *node) {
    const char *first = r->at;
    uint64_t value = 0, power = 0;
    int whole = 0, places = 0, more = 0, cut = 0, unused = 0;
    const bool negative = r->at < r->end && *r->at == '-';
    r->at += negative;
    const bool zero = r->at < r->end && *r->at == '0';
    digits(r, &value, &whole, &cut);
    int scale = cut;
    if (r->at < r->end && *r->at == '.') {
        r->at++;
        digits(r, &value, &places, &cut);
        scale = cut - places;
        if (places == 0) return wrong(r, "a number is malformed");
    }
    if (whole == 0 || (zero && whole > 1)) return wrong(r, "a value was expected");
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        r->at++;
        const bool down = r->at < r->end && *r->at == '-';
        r->at += r->at < r->end && (*r->at == '-' || *r->at == '+');
        digits(r, &power, &more, &unused);
        if (more == 0) return wrong(r, "a number is malformed");
        if (power > 9999) power = 9999;
        scale += down ? -(int)power : (int)power;
    }
    node->number = (double)value;
    double ten = 1;
    for (int i = 0; i < (scale < 0 ? -scale : scale) && i < 400; i++) ten *= 10;
    if (value) node->number = scale < 0 ? node->number / ten : node->number * ten;
    if (negative) node->number = -node->number;
    if (!isfinite(node->number)) return wrong(r, "a number is too large");
    node->kind = XL_JSON_NUMBER;
    node->text = r->strings;
    for (; first < r->at; first++) *r->strings++ = *first;
    *r->strings++ = 0;
    return true;
}

static bool items(reader *r, xl_json *node, unsigned nesting, char close) {
    xl_json **link = &node->first;
    if (take(r, close)) return true;
    do {
        if (r->n_nodes == r->capacity) return wrong(r, "too many values");
        xl_json *item = &r->nodes[r->n_nodes++];
        if (close == '}') {
            if (!string(r, &item->key)) return false;
            if (!take(r, ':')) return wrong(r, "\":\" was expected");
        }
        if (!value(r, item, nesting + 1)) return false;
        *link = item;
        link = &item->next;
    } while (take(r, ','));
    return take(r, close) || wrong(r, "\",\" or a closing bracket was expected");
}

static bool word(reader *r, const char *text) {
    size_t n = strlen(text);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, text, n) != 0) return false;
    r->at += n;
    return true;
}

static bool value(reader *r, xl_json *node, unsigned nesting) {
    if (nesting > MAX_NESTING) return wrong(r, "it is nested too deeply");
    space(r);
    if (r->at == r->end) return wrong(r, "it ends too early");
    if (*r->at == '"') {
        node->kind = XL_JSON_STRING;
        return string(r, &node->text);
    }
    if (take(r, '{')) {
        node->kind = XL_JSON_OBJECT;
        return items(r, node, nesting, '}');
    }
    if (take(r, '[')) {
        node->kind = XL_JSON_ARRAY;
        return items(r, node, nesting, ']');
    }
    if (word(r, "null")) return true;
    if (word(r, "true") || word(r, "false")) {
        node->kind = XL_JSON_BOOL;
        node->number = r->at[-2] == 'u';
        return true;
    }
    return number(r, node);
}

/* Every value but the first follows one of these. */
static size_t count_values(const char *text, size_t n_bytes) {
    size_t n = 1;
    for (size_t i = 0; i < n_bytes; i++) n += text[i] == '[' || text[i] == '{' || text[i] == ',';
    return n;
}

/* One block: this, the tree, behind it its strings. */
typedef struct head {
    exitlm_allocator allocator;
    size_t n_bytes;
} head;

xl_json *xl_json_parse(const char *text, size_t n_bytes, const exitlm_allocator *allocator,
                       exitlm_error *why) {
    if (n_bytes > MAX_BYTES) {
        xl_fail(why, EXITLM_USAGE, "it is larger than %zu bytes", MAX_BYTES);
        return NULL;
    }
    size_t n = count_values(text, n_bytes);
    const exitlm_allocator own = xl_allocator_or_default(allocator);
    const size_t block_bytes = sizeof(head) + n * sizeof(xl_json) + n_bytes + 1;
    head *block = xl_calloc(&own, block_bytes, 1);
    if (!block) {
        xl_fail(why, EXITLM_OUT_OF_MEMORY, "no memory for it");
        return NULL;
    }
    *block = (head){own, block_bytes};
    xl_json *nodes = (xl_json *)(block + 1);
    reader r = {.start = text,
                .at = text,
                .end = text + n_bytes,
                .nodes = nodes,
                .n_nodes = 1,
                .capacity = n,
                .strings = (char *)(nodes + n)};
    bool good = value(&r, nodes, 0);
    space(&r);
    if (good && r.at != r.end) good = wrong(&r, "something follows its end");
    if (good) return nodes;
    xl_fail(why, EXITLM_USAGE, "byte %zu: %s", (size_t)(r.at - r.start), r.wrong);
    xl_json_free(nodes);
    return NULL;
}

void xl_json_free(xl_json *root) {
    if (!root) return;
    head *block = (head *)root - 1;
    const exitlm_allocator allocator = block->allocator;
    xl_free(&allocator, block, block->n_bytes, 1);
}

const xl_json *xl_json_get(const xl_json *object, const char *key) {
    if (!object || object->kind != XL_JSON_OBJECT) return NULL;
    for (const xl_json *m = object->first; m; m = m->next)
        if (strcmp(m->key, key) == 0) return m;
    return NULL;
}

const char *xl_json_string(const xl_json *object, const char *key) {
    const xl_json *m = xl_json_get(object, key);
    return m && m->kind == XL_JSON_STRING ? m->text : NULL;
}

uint64_t xl_json_uint(const xl_json *object, const char *key, uint64_t otherwise) {
    const xl_json *m = xl_json_get(object, key);
    if (!m || m->kind != XL_JSON_NUMBER || m->number < 0 || m->number > 9007199254740992.0 ||
        floor(m->number) != m->number)
        return otherwise;
    return (uint64_t)m->number;
}

size_t xl_json_count(const xl_json *list) {
    size_t n = 0;
    for (const xl_json *i = list->first; i; i = i->next) n++;
    return n;
}
