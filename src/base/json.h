/* Reads one JSON text (RFC 8259) into memory: the catalogue, manifests. Not for hostile giants:
 * nesting is bounded and so is the size. */
#ifndef XL_JSON_H
#define XL_JSON_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloc.h"

typedef enum xl_json_kind {
    XL_JSON_NULL,
    XL_JSON_BOOL,
    XL_JSON_NUMBER,
    XL_JSON_STRING,
    XL_JSON_ARRAY,
    XL_JSON_OBJECT
} xl_json_kind;

typedef struct xl_json {
    xl_json_kind kind;
    const char *key;       /* of a member of an object, else NULL */
    const char *text;      /* STRING: NUL-terminated UTF-8; NUMBER: as it was written */
    double number;         /* NUMBER; BOOL: 0 or 1 */
    struct xl_json *first; /* ARRAY, OBJECT: the first item, NULL if empty */
    struct xl_json *next;  /* the item after this one */
} xl_json;

/* NULL for what is not JSON (USAGE), and without memory (OUT_OF_MEMORY). `allocator` NULL: the C
 * library's. */
xl_json *xl_json_parse(const char *text, size_t n_bytes, const exitlm_allocator *allocator,
                       exitlm_error *why);
void xl_json_free(xl_json *root); /* NULL is allowed */

/* The member of an object, or NULL (also for NULL and for what is no object). */
const xl_json *xl_json_get(const xl_json *object, const char *key);
/* Its text, or NULL where it is missing or no string. */
const char *xl_json_string(const xl_json *object, const char *key);
/* Its value, or `otherwise` where it is missing or not a whole number within 0 … 2^53. */
uint64_t xl_json_uint(const xl_json *object, const char *key, uint64_t otherwise);
/* Items of a list, members of an object. */
size_t xl_json_count(const xl_json *list);

#endif
