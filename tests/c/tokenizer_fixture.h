/* Small vocabularies for tests: packs strings as a GGUF file holds them. */
#ifndef TOKENIZER_FIXTURE_H
#define TOKENIZER_FIXTURE_H
#include "check.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int failures;

/* A growing array of strings, packed. */
typedef struct packed {
    uint8_t *data;
    size_t bytes, count, capacity;
} packed;

static inline void packed_add(packed *p, const void *text, size_t n) {
    if (p->bytes + 8 + n > p->capacity) {
        p->capacity = 2 * (p->bytes + 8 + n);
        p->data = realloc(p->data, p->capacity);
        if (!p->data) abort();
    }
    for (int i = 0; i < 8; i++) p->data[p->bytes++] = (uint8_t)((uint64_t)n >> (8 * i));
    if (n) memcpy(p->data + p->bytes, text, n);
    p->bytes += n;
    p->count++;
}

static inline void packed_text(packed *p, const char *text) { packed_add(p, text, strlen(text)); }

static inline xl_str_array packed_array(const packed *p) {
    return (xl_str_array){p->data, p->bytes, p->count};
}

static inline xl_str text_of(const char *text) { return (xl_str){text, strlen(text)}; }

/* Reads a whole file; NULL where it cannot be read. The text gets a NUL. */
static inline char *read_file(const char *path, size_t *n) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    size_t capacity = 1 << 16;
    char *text = malloc(capacity);
    *n = 0;
    for (size_t got; text && (got = fread(text + *n, 1, capacity - *n - 1, file)) > 0;) {
        *n += got;
        if (capacity - *n < 2) text = realloc(text, capacity *= 2);
    }
    fclose(file);
    if (text) text[*n] = 0;
    return text;
}

/* Resolves \\, \n, \r, \t and \xHH in place; returns the length. */
static inline size_t unescape(char *text) {
    char *out = text;
    for (const char *in = text; *in;) {
        if (*in != '\\') {
            *out++ = *in++;
            continue;
        }
        char c = in[1];
        if (c == 'x') {
            char hex[3] = {in[2], in[3], 0};
            *out++ = (char)strtoul(hex, NULL, 16);
            in += 4;
        } else {
            *out++ = (char)(c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c);
            in += 2;
        }
    }
    *out = 0;
    return (size_t)(out - text);
}
#endif
