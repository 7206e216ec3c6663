#include "catalog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "files.h"
#include "platform.h"

#define MAX_CATALOG_BYTES ((size_t)4 << 20)

/* Reads the catalogue at `path` if there is a file. 1: read, 0: none there, -1: not valid (why). */
static int try_path(cli_catalog *catalog, const char *path, char *why, size_t why_bytes) {
    if (xl_file_look(path, NULL) != XL_FILE_PLAIN) return 0;
    char *text;
    size_t n;
    exitlm_error reason;
    if (cli_read_file(path, MAX_CATALOG_BYTES, &text, &n) != 0) {
        snprintf(why, why_bytes, "%s cannot be read", path);
        return -1;
    }
    catalog->root = xl_json_parse(text, n, NULL, &reason);
    free(text);
    if (!catalog->root) {
        snprintf(why, why_bytes, "%s: %s", path, reason.message);
        return -1;
    }
    catalog->folder = xl_format("%.*s", (int)(xl_base_name(path) - path), path);
    if (catalog->folder) return 1;
    cli_catalog_close(catalog);
    snprintf(why, why_bytes, "no memory for the catalogue");
    return -1;
}

bool cli_catalog_open(cli_catalog *catalog, char *why, size_t why_bytes) {
    memset(catalog, 0, sizeof *catalog);
    const char *named = getenv("EXITLM_CATALOG");
    if (named && *named) {
        int found = try_path(catalog, named, why, why_bytes);
        if (found == 0) snprintf(why, why_bytes, "%s (EXITLM_CATALOG) is not there", named);
        return found == 1;
    }
    static const char *const places[] = {"../models/", "../share/exitlm/", "./models/"};
    char folder[4096];
    int found = try_path(catalog, "models/catalog.json", why, why_bytes);
    const bool known = cli_program_folder(folder, sizeof folder);
    const size_t n_places = known ? sizeof places / sizeof *places : 0;
    for (size_t i = 0; i < n_places && found == 0; i++) {
        char path[4200];
        snprintf(path, sizeof path, "%s%scatalog.json", folder, places[i]);
        found = try_path(catalog, path, why, why_bytes);
    }
    if (found == 0)
        snprintf(
            why, why_bytes,
            "no catalogue was found: models/catalog.json is neither here nor beside the program");
    return found == 1;
}

void cli_catalog_close(cli_catalog *catalog) {
    xl_json_free(catalog->root);
    free(catalog->folder);
    memset(catalog, 0, sizeof *catalog);
}

static const xl_json *first_model(const cli_catalog *catalog) {
    const xl_json *models = xl_json_get(catalog->root, "models");
    return models && models->kind == XL_JSON_ARRAY ? models->first : NULL;
}

const xl_json *cli_catalog_find(const cli_catalog *catalog, const char *name) {
    for (const xl_json *m = first_model(catalog); m; m = m->next) {
        const char *candidate = xl_json_string(m, "name");
        if (candidate && strcasecmp(candidate, name) == 0) return m;
    }
    return NULL;
}

const xl_json *cli_catalog_of_file(const cli_catalog *catalog, const char *file, uint64_t n_bytes) {
    for (const xl_json *m = first_model(catalog); m; m = m->next) {
        const char *candidate = xl_json_string(m, "file");
        if (candidate && strcmp(candidate, file) == 0 &&
            xl_json_uint(m, "size_bytes", 0) == n_bytes)
            return m;
    }
    return NULL;
}

void cli_catalog_names(const cli_catalog *catalog, char *out, size_t out_bytes) {
    size_t n = 0;
    *out = 0;
    for (const xl_json *m = first_model(catalog); m && n < out_bytes; m = m->next) {
        const char *name = xl_json_string(m, "name");
        if (name) n += (size_t)snprintf(out + n, out_bytes - n, "%s%s", n ? ", " : "", name);
    }
}

bool cli_is_plain_name(const char *name) {
    return name && *name && *name != '.' && strlen(name) < 200 && !strpbrk(name, "/\\");
}
