/* exitlm pull: a model of the catalogue and its heads, verified. The bytes come through curl, or
 * pip for what lies on PyPI; a file appears under its name only when its size and SHA-256 are
 * those of the catalogue. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "catalog.h"
#include "cli.h"
#include "files.h"
#include "platform.h"
#include "base/sha256.h"

#define CHUNK_BYTES ((size_t)1 << 20)

typedef struct pull_options {
    const char *folder;
} pull_options;

#define AT(field) offsetof(pull_options, field)

static const cli_option options[] = {
    CLI_VALUE(TEXT, 'o', "output", folder, "DIR", "models", "folder to put it in"),
};

/* ---- Verifying ---- */

/* The file's size and SHA-256; false where it cannot be read. */
static bool hash_file(const char *path, uint64_t *n_bytes, char hex[65]) {
    FILE *in = fopen(path, "rb");
    uint8_t *chunk = malloc(CHUNK_BYTES), digest[32];
    bool good = in && chunk;
    xl_sha256 sha;
    xl_sha256_init(&sha);
    *n_bytes = 0;
    size_t n;
    while (good && (n = fread(chunk, 1, CHUNK_BYTES, in)) > 0) {
        xl_sha256_update(&sha, chunk, n);
        *n_bytes += n;
    }
    if (in && ferror(in)) good = false;
    if (in) fclose(in);
    free(chunk);
    xl_sha256_final(&sha, digest);
    xl_sha256_hex(digest, hex);
    return good;
}

/* Whether the file is what the entry (of a model or its heads) names; an entry without a hash
 * accepts any file. */
static bool matches(const char *path, const xl_json *entry, char *why, size_t why_bytes) {
    uint64_t n, wanted = xl_json_uint(entry, "size_bytes", 0);
    char hex[65];
    const char *sha256 = xl_json_string(entry, "sha256");
    if (!hash_file(path, &n, hex)) snprintf(why, why_bytes, "it cannot be read");
    else if (wanted && n != wanted)
        snprintf(why, why_bytes, "it has %llu bytes, %llu were expected", (unsigned long long)n,
                 (unsigned long long)wanted);
    else if (sha256 && strcmp(sha256, hex) != 0)
        snprintf(why, why_bytes, "its SHA-256 is %s, %s was expected", hex, sha256);
    else return true;
    return false;
}

/* ---- Fetching ---- */

/* Both put the bytes into `part`; false with the reason in why. */
static bool fetch_url(const char *url, const char *part, char *why, size_t why_bytes) {
    const char *arguments[] = {"curl",
                               "--fail",
                               "--location",
                               "--proto",
                               "=https,http",
                               "--retry",
                               "3",
                               "--connect-timeout",
                               "20",
                               "--progress-bar",
                               "--continue-at",
                               "-",
                               "--output",
                               part,
                               url,
                               NULL};
    if (strncmp(url, "https://", 8) != 0 && strncmp(url, "http://", 7) != 0) {
        snprintf(why, why_bytes, "its address is not http");
        return false;
    }
    int status = cli_run_program(arguments);
    if (status < 0) snprintf(why, why_bytes, "curl cannot be started");
    else if (status > 0) snprintf(why, why_bytes, "curl failed with exit status %d", status);
    return status == 0;
}

static const char take_member[] = "import glob, shutil, sys, zipfile\n"
                                  "folder, member, target = sys.argv[1:]\n"
                                  "with zipfile.ZipFile(glob.glob(folder + '/*.whl')[0]) as wheel, "
                                  "wheel.open(member) as source, open(target, 'wb') as out:\n"
                                  "    shutil.copyfileobj(source, out, 1 << 20)\n";

/* The folder's wheel goes with the folder: Python knows how to remove it. */
static const char remove_folder[] =
    "import shutil, sys\nshutil.rmtree(sys.argv[1], ignore_errors=True)\n";

static bool fetch_pypi(const xl_json *source, const char *part, char *why, size_t why_bytes) {
    const char *package = xl_json_string(source, "package"),
               *version = xl_json_string(source, "version");
    const char *member = xl_json_string(source, "member");
    if (!package || !version || !member) {
        snprintf(why, why_bytes, "its entry needs \"package\", \"version\" and \"member\"");
        return false;
    }
    char *folder = xl_format("%s.wheel", part), *wanted = xl_format("%s==%s", package, version);
    bool good = folder && wanted;
    if (!good) snprintf(why, why_bytes, "no memory");
    if (good) {
        const char *download[] = {"python3",   "-m",
                                  "pip",       "download",
                                  "--quiet",   "--disable-pip-version-check",
                                  "--no-deps", "--only-binary",
                                  ":all:",     "--dest",
                                  folder,      wanted,
                                  NULL};
        const char *extract[] = {"python3", "-c", take_member, folder, member, part, NULL};
        const char *tidy[] = {"python3", "-c", remove_folder, folder, NULL};
        int status = cli_run_program(download);
        if (status < 0) snprintf(why, why_bytes, "python3 cannot be started");
        else if (status > 0) snprintf(why, why_bytes, "pip failed with exit status %d", status);
        else if (cli_run_program(extract) != 0)
            status = 1, snprintf(why, why_bytes, "the wheel has no %.100s", member);
        good = status == 0;
        if (status >= 0) cli_run_program(tidy);
    }
    free(folder);
    free(wanted);
    return good;
}

static bool fetch(const xl_json *source, const char *part, char *why, size_t why_bytes) {
    const char *type = xl_json_string(source, "type"), *url = xl_json_string(source, "url");
    if (type && strcmp(type, "pypi") == 0) {
        fprintf(stderr, "fetching %s %s from PyPI\n", xl_json_string(source, "package"),
                xl_json_string(source, "version"));
        return fetch_pypi(source, part, why, why_bytes);
    }
    if (url) {
        fprintf(stderr, "fetching %s\n", url);
        return fetch_url(url, part, why, why_bytes);
    }
    snprintf(why, why_bytes, "the catalogue's source is of an unknown type");
    return false;
}

/* Each source in turn until one gives the right file. */
static int fetch_verified(const xl_json *entry, const char *name, const char *target) {
    const xl_json *sources = xl_json_get(entry, "sources");
    char why[400] = "the catalogue names no source";
    if (!CLI_HAS_PROGRAMS)
        return cli_fail(
            "%s: this build cannot fetch files; \"npx exitlm pull %s\" or the native program can",
            name, name);
    char *part = xl_format("%s.part", target);
    bool done = false;
    if (!part) return cli_no_memory("a file name");
    for (const xl_json *s = sources ? sources->first : NULL; s && !done; s = s->next) {
        if (!fetch(s, part, why, sizeof why)) {
            fprintf(stderr, "this source failed: %s\n", why);
            continue;
        }
        done = matches(part, entry, why, sizeof why);
        if (!done) remove(part); /* what is wrong must not be continued */
    }
    int status = CLI_OK;
    if (!done)
        status = cli_fail("%s: could not be fetched: %s; try again, or use \"npx exitlm pull %s\"",
                          name, why, name);
    else if (rename(part, target) != 0)
        status = cli_fail("%s: cannot be written: %s", target, strerror(errno));
    free(part);
    return status;
}

/* ---- The files of an entry ---- */

static int pull_model(const xl_json *entry, const char *name, const char *folder) {
    char why[400];
    const char *file = xl_json_string(entry, "file");
    if (!cli_is_plain_name(file) || !xl_json_string(entry, "sha256"))
        return cli_fail("%s: its entry in the catalogue needs a valid \"file\" and \"sha256\"",
                        name);
    char *target = xl_format("%s/%s", folder, file);
    if (!target) return cli_no_memory("a file name");
    int status = CLI_OK;
    if (xl_file_look(target, NULL) != XL_FILE_PLAIN) status = fetch_verified(entry, name, target);
    else if (!matches(target, entry, why, sizeof why))
        status = cli_fail("%s: is there, but %s; move it away to fetch it anew", target, why);
    if (status == CLI_OK) printf("%s\n", target);
    free(target);
    return status;
}

static int copy_file(const char *from, const char *to) {
    char *part = xl_format("%s.part", to);
    uint8_t *chunk = malloc(CHUNK_BYTES);
    FILE *in = fopen(from, "rb"), *out = part ? fopen(part, "wb") : NULL;
    bool good = chunk && in && out;
    size_t n;
    while (good && (n = fread(chunk, 1, CHUNK_BYTES, in)) > 0) good = fwrite(chunk, 1, n, out) == n;
    if (in && ferror(in)) good = false;
    if (in) fclose(in);
    if (out && fclose(out) != 0) good = false;
    if (good) good = rename(part, to) == 0;
    int status =
        good ? CLI_OK : cli_fail("%s: cannot be copied to %s: %s", from, to, strerror(errno));
    if (!good && out) remove(part);
    free(chunk);
    free(part);
    return status;
}

/* The heads lie beside the catalogue. */
static int pull_heads(const cli_catalog *catalog, const xl_json *entry, const char *folder) {
    char why[400];
    const xl_json *heads = xl_json_get(entry, "heads");
    const char *file = xl_json_string(heads, "file");
    if (!cli_is_plain_name(file)) return CLI_OK;
    char *source = xl_format("%s%s", catalog->folder, file),
         *target = xl_format("%s/%s", folder, file);
    int status = source && target ? CLI_OK : cli_no_memory("a file name");
    bool here = status == CLI_OK && xl_file_look(target, NULL) == XL_FILE_PLAIN;
    if (status == CLI_OK && !here && xl_file_look(source, NULL) == XL_FILE_PLAIN) {
        status = copy_file(source, target);
        here = status == CLI_OK;
    }
    if (here && !matches(target, heads, why, sizeof why))
        status = cli_fail("%s: %s; move it away and pull again", target, why);
    else if (here) printf("%s\n", target);
    free(source);
    free(target);
    return status;
}

static int run(const cli_call *call) {
    const pull_options *o = call->values;
    const char *name = call->operands[0];
    cli_catalog catalog;
    char text[600];
    if (!cli_catalog_open(&catalog, text, sizeof text))
        return cli_fail("%s: %s; \"npx exitlm pull %s\" brings its own", name, text, name);
    const xl_json *entry = cli_catalog_find(&catalog, name);
    int status = CLI_OK;
    if (!entry) {
        cli_catalog_names(&catalog, text, sizeof text);
        status =
            cli_fail("%s: not in the catalogue, which has %s", name, *text ? text : "no models");
    } else if (!xl_folder_make(o->folder)) {
        status = cli_fail("%s: is no folder and cannot be made: %s", o->folder, strerror(errno));
    }
    if (status == CLI_OK) status = pull_model(entry, name, o->folder);
    if (status == CLI_OK) status = pull_heads(&catalog, entry, o->folder);
    cli_catalog_close(&catalog);
    return status;
}

const cli_command cli_command_pull = {
    .name = "pull",
    .summary = "Fetch a model of the catalogue and its exit heads, verified.",
    .operands = "NAME",
    .n_operands = 1,
    CLI_OPTIONS(options, pull_options),
    .notes = "Uses curl, or python3 with pip for models on PyPI. A file that is there is checked, "
             "not fetched again.",
    .run = run,
};
