#include "model_path.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "catalog.h"
#include "output.h"
#include "files.h"
#include "platform.h"

#define PART_SUFFIX_BYTES 20 /* strlen("-00001-of-00003.gguf") */

/* "NAME-00001-of-00003.gguf": *n_parts = 3, *stem_bytes = the length of NAME. */
static bool is_part(const char *file, size_t *stem_bytes, uint32_t *n_parts) {
    size_t n = strlen(file);
    if (n <= PART_SUFFIX_BYTES) return false;
    const char *suffix = file + n - PART_SUFFIX_BYTES;
    if (suffix[0] != '-' || memcmp(suffix + 6, "-of-", 4) != 0 || strcmp(suffix + 15, ".gguf") != 0)
        return false;
    if (strspn(suffix + 1, "0123456789") != 5 || strspn(suffix + 10, "0123456789") != 5)
        return false;
    *n_parts = (uint32_t)strtoul(suffix + 10, NULL, 10);
    *stem_bytes = n - PART_SUFFIX_BYTES;
    return *n_parts > 0;
}

/* The file of a catalogue name, where a fetched model lies: the catalogue's folder, models/,
 * here. */
static int find_in_catalog(const char *name, char **file) {
    cli_catalog catalog;
    char why[600];
    int status = CLI_OK;
    if (!cli_catalog_open(&catalog, why, sizeof why))
        return cli_fail("%s: no such file, and no name of the catalogue: %s", name, why);
    const xl_json *entry = cli_catalog_find(&catalog, name);
    const char *wanted = xl_json_string(entry, "file");
    if (!entry) {
        cli_catalog_names(&catalog, why, sizeof why);
        status = cli_fail("%s: no such file, and no name of the catalogue, which has %s", name,
                          *why ? why : "no models");
    } else if (!cli_is_plain_name(wanted)) {
        status = cli_fail("%s: its entry in the catalogue has no valid \"file\"", name);
    } else {
        const char *folders[] = {catalog.folder, "models/", ""};
        for (size_t i = 0; i < 3; i++) {
            char *path = xl_format("%s%s", folders[i], wanted);
            if (!path) status = cli_no_memory("a file name");
            else if (xl_file_look(path, NULL) == XL_FILE_PLAIN) *file = path;
            else free(path);
            if (*file || status != CLI_OK) break;
        }
        if (!*file && status == CLI_OK)
            status = cli_fail("%s: this model has not been fetched yet; \"exitlm pull %s\" does",
                              name, name);
    }
    cli_catalog_close(&catalog);
    return status;
}

int cli_model_path_find(cli_model_path *path, const char *model) {
    *path = (cli_model_path){.n_parts = 1};
    xl_file_kind kind = strcmp(model, "-") == 0 ? XL_FILE_PLAIN : xl_file_look(model, NULL);
    if (kind == XL_FILE_FOLDER) return cli_fail("%s: is a directory; give a GGUF file", model);
    if (kind == XL_FILE_NONE) {
        bool may_be_name = cli_is_plain_name(model) && !xl_ends_with(model, ".gguf");
        if (!may_be_name)
            return cli_fail("%s: no such file; give a GGUF file or a name of the catalogue", model);
        int status = find_in_catalog(model, &path->file);
        if (status != CLI_OK) return status;
    } else {
        path->file = xl_format("%s", model);
    }
    if (!path->file) return cli_no_memory("a file name");

    size_t stem_bytes = strlen(path->file);
    if (!is_part(path->file, &stem_bytes, &path->n_parts) && xl_ends_with(path->file, ".gguf"))
        stem_bytes -= strlen(".gguf");
    path->stem = xl_format("%.*s", (int)stem_bytes, path->file);
    return path->stem ? CLI_OK : cli_no_memory("a file name");
}

void cli_model_path_free(cli_model_path *path) {
    free(path->file);
    free(path->stem);
    *path = (cli_model_path){0};
}

char *cli_model_path_part(const cli_model_path *path, uint32_t part) {
    if (path->n_parts == 1) return xl_format("%s", path->file);
    return xl_format("%s-%05u-of-%05u.gguf", path->stem, (unsigned)part + 1,
                     (unsigned)path->n_parts);
}

int cli_model_path_heads(const cli_model_path *path, const char *heads, char **found) {
    *found = NULL;
    if (heads && strcmp(heads, "none") == 0) return CLI_OK;
    *found = heads ? xl_format("%s", heads) : xl_format("%s.exits.gguf", path->stem);
    if (!*found) return cli_no_memory("a file name");
    xl_file_kind kind = xl_file_look(*found, NULL);
    if (heads && kind == XL_FILE_NONE)
        return cli_fail("%s: no such file; give a file of exit heads", heads);
    if (!heads && kind != XL_FILE_PLAIN) {
        free(*found);
        *found = NULL;
    }
    return CLI_OK;
}
