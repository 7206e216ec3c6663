/* Writes JSON, one object a line, straight to a stream. Text that is not UTF-8 comes out with
 * U+FFFD for the broken bytes; a number that is not finite comes out as null. `key` is NULL for
 * an item of an array and for the object that begins a line. */
#ifndef XL_NDJSON_H
#define XL_NDJSON_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define ND_MAX_NESTING 16

typedef struct ndjson {
    FILE *out;
    unsigned nesting;
    char close[ND_MAX_NESTING]; /* '}' or ']' of each open level */
    bool comma;                 /* something stands before in this level */
} ndjson;

static inline ndjson xl_nd_to(FILE *out) { return (ndjson){.out = out}; }
void xl_nd_object(ndjson *j, const char *key);
void xl_nd_array(ndjson *j, const char *key);
/* Closes the innermost object or array; the outermost also ends the line and flushes. */
void xl_nd_end(ndjson *j);
void xl_nd_text(ndjson *j, const char *key, const char *text, size_t n_bytes);
void xl_nd_string(ndjson *j, const char *key, const char *text); /* NULL: null */
void xl_nd_int(ndjson *j, const char *key, int64_t value);
void xl_nd_uint(ndjson *j, const char *key, uint64_t value);
/* the shortest text that reads back as the same float */
void xl_nd_float(ndjson *j, const char *key, float value);
void xl_nd_double(ndjson *j, const char *key, double value); /* six significant digits */
void xl_nd_exact(ndjson *j, const char *key, double value);  /* ten significant digits */
void xl_nd_bool(ndjson *j, const char *key, bool value);
void xl_nd_null(ndjson *j, const char *key);

#endif
