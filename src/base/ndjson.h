/* Writes JSON, one object a line, straight to a stream. Text that is not UTF-8 comes out with
 * U+FFFD for the broken bytes; a number that is not finite comes out as null. */
#ifndef XL_NDJSON_H
#define XL_NDJSON_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "json.h"

#define ND_MAX_NESTING 16

typedef struct ndjson {
    FILE *out;
    unsigned nesting;
    char close[ND_MAX_NESTING]; /* '}' or ']' of each open level */
    bool comma;                 /* something stands before in this level */
    bool spaced;                /* a space behind each comma and colon, as Python has it */
} ndjson;

static inline ndjson xl_nd_to(FILE *out) { return (ndjson){.out = out}; }

/* Writes what `format` describes, word by word:
 *   { [ } ]          opens and closes; what closes the outermost ends the line and flushes
 *   %u               a value; which, is said as for printf, and the compiler checks it
 *   index=%u heads=[ the same as a member with this name; %s=… takes the name, too
 *   certified?%d     true or false; ?%d without a name
 *   type=token       a text that is one plain word
 * %u %d %zu and PRIu64 are whole numbers, %s and %.*s texts (NULL: null). %g has six significant
 * digits, %.10g ten, and %f of a float is the shortest text that reads back as the same. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void xl_nd_put(ndjson *j, const char *format, ...);
/* A member of the open object, with a value that has been read. */
void xl_nd_json(ndjson *j, const char *name, const xl_json *value);

#endif
