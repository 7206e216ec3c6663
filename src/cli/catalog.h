/* The catalogue of models, models/catalog.json: found in the folder models/ under the current
 * one, or beside the program. */
#ifndef CLI_CATALOG_H
#define CLI_CATALOG_H
#include "base/json.h"

typedef struct cli_catalog {
    xl_json *root;
    char *folder; /* of the catalogue, with a slash at its end */
} cli_catalog;

/* False where there is none (`why`: a sentence). EXITLM_CATALOG in the environment names another
 * one. */
bool cli_catalog_open(cli_catalog *catalog, char *why, size_t why_bytes);
void cli_catalog_close(cli_catalog *catalog);

/* The entry of this name, or NULL. */
const xl_json *cli_catalog_find(const cli_catalog *catalog, const char *name);
/* The entry of a file by its name and size, or NULL. */
const xl_json *cli_catalog_of_file(const cli_catalog *catalog, const char *file, uint64_t n_bytes);
/* "a, b, c" */
void cli_catalog_names(const cli_catalog *catalog, char *out, size_t out_bytes);

/* A text that is safe to be a file's name in a folder: not empty, no slash, not hidden. */
bool cli_is_plain_name(const char *name);

#endif
