/* Reads one JSON text (RFC 8259) into memory: the catalogue, manifests. Not for hostile giants: nesting is bounded and so is the size. */
#ifndef CLI_JSON_H
#define CLI_JSON_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cli_json_kind { CLI_JSON_NULL, CLI_JSON_BOOL, CLI_JSON_NUMBER, CLI_JSON_STRING, CLI_JSON_ARRAY, CLI_JSON_OBJECT } cli_json_kind;

typedef struct cli_json {
    cli_json_kind kind;
    const char *key;        /* of a member of an object, else NULL */
    const char *text;       /* STRING: NUL-terminated UTF-8 */
    double number;          /* NUMBER; BOOL: 0 or 1 */
    struct cli_json *first; /* ARRAY, OBJECT: the first item, NULL if empty */
    struct cli_json *next;  /* the item after this one */
} cli_json;

/* NULL with a sentence in why for what is not JSON. Free with cli_json_free. */
cli_json *cli_json_parse(const char *text, size_t n_bytes, char *why, size_t why_bytes);
void cli_json_free(cli_json *root);

/* The member of an object, or NULL (also for NULL and for what is no object). */
const cli_json *cli_json_get(const cli_json *object, const char *key);
/* Its text, or NULL where it is missing or no string. */
const char *cli_json_string(const cli_json *object, const char *key);
/* Its value, or `otherwise` where it is missing or not a whole number within 0 … 2^53. */
uint64_t cli_json_uint(const cli_json *object, const char *key, uint64_t otherwise);

#endif
