/* exitlm pack: a model cut into shards in the order of use, with a manifest that tells where each byte belongs in the original (see
 * web/src/manifest.js for its form). Put back by its extents it is the original, byte for byte. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "files.h"
#include "model_path.h"
#include "ndjson.h"
#include "pack.h"
#include "platform.h"

#define MAX_HEADS_BYTES ((uint64_t)512 << 20)

typedef struct pack_options {
    const char *heads, *folder;
    uint64_t shard_bytes;
} pack_options;

static const cli_option options[] = {
    {.name = "output", .letter = 'o', .kind = CLI_TEXT, .offset = offsetof(pack_options, folder), .value = "DIR", .help = "folder to write into (required)"},
    {.name = "heads", .kind = CLI_TEXT, .offset = offsetof(pack_options, heads), .value = "FILE",
     .help = "exit heads, or none; default: NAME.exits.gguf beside the model, if it is there. The rows of their shortlist come early"},
    {.name = "shard-size", .kind = CLI_BYTES, .offset = offsetof(pack_options, shard_bytes), .value = "SIZE",
     .help = "largest shard; a Cloudflare Worker serves files of at most 25M", .fallback = "24M"},
};

/* The heads file's bytes (NULL: none). */
static int read_heads(const cli_model_path *path, const char *wanted, char **file, char **bytes, size_t *n_bytes, exitlm_heads **heads) {
    exitlm_error error;
    int status = cli_model_path_heads(path, wanted, file);
    if (status != CLI_OK || !*file) return status;
    status = cli_read_file(*file, MAX_HEADS_BYTES, bytes, n_bytes);
    if (status != CLI_OK) return status;
    if (exitlm_heads_create(heads, *bytes, *n_bytes, NULL, &error) != EXITLM_OK) return cli_report(&error, *file);
    return CLI_OK;
}

static int write_heads(const char *folder, const char *file, const char *bytes, size_t n_bytes) {
    char *target = cli_format("%s/%s", folder, cli_base_name(file));
    if (!target) return cli_no_memory("a file name");
    int status = cli_write_file(target, bytes, n_bytes);
    free(target);
    return status;
}

static void put_hash(ndjson *j, const uint8_t digest[32]) {
    char hex[65];
    xl_sha256_hex(digest, hex);
    nd_string(j, "sha256", hex);
}

static void put_extents(ndjson *j, const pack *p, const pack_shard *shard) {
    nd_array(j, "extents");
    for (size_t i = 0; i < shard->n_extents; i++) {
        const exitlm_extent *e = &p->extents[shard->first_extent + i];
        nd_object(j, NULL);
        nd_uint(j, "part", e->part);
        nd_uint(j, "offset", e->offset);
        nd_uint(j, "bytes", e->n_bytes);
        nd_int(j, "layer", e->layer);
        nd_end(j);
    }
    nd_end(j);
}

static void put_manifest(FILE *out, const pack *p, const char *name, const char *heads_file, const char *heads, size_t n_heads_bytes) {
    ndjson j = nd_to(out);
    nd_object(&j, NULL);
    nd_uint(&j, "format", 1);
    nd_string(&j, "name", name);
    nd_uint(&j, "bytes", p->total_bytes);
    put_hash(&j, p->digest);
    nd_array(&j, "files");
    for (uint32_t i = 0; i < p->n_parts; i++) {
        nd_object(&j, NULL);
        nd_string(&j, "path", cli_base_name(p->parts[i].path));
        nd_uint(&j, "bytes", p->parts[i].n_bytes);
        put_hash(&j, p->parts[i].digest);
        nd_end(&j);
    }
    nd_end(&j);
    nd_array(&j, "shards");
    for (size_t i = 0; i < p->n_shards; i++) {
        char file[PACK_NAME_BYTES];
        pack_shard_name(i, file);
        nd_object(&j, NULL);
        nd_string(&j, "file", file);
        nd_uint(&j, "bytes", p->shards[i].n_bytes);
        put_hash(&j, p->shards[i].digest);
        put_extents(&j, p, &p->shards[i]);
        nd_end(&j);
    }
    nd_end(&j);
    if (heads) {
        uint8_t digest[32];
        xl_sha256 sha;
        xl_sha256_init(&sha);
        xl_sha256_update(&sha, heads, n_heads_bytes);
        xl_sha256_final(&sha, digest);
        nd_object(&j, "heads");
        nd_string(&j, "file", cli_base_name(heads_file));
        nd_uint(&j, "bytes", n_heads_bytes);
        put_hash(&j, digest);
        nd_end(&j);
    }
    nd_end(&j);
}

/* The manifest comes last and under another name first: a folder with a manifest is whole. */
static int write_manifest(const char *folder, const pack *p, const char *name, const char *heads_file, const char *heads, size_t n_heads_bytes) {
    char *part = cli_format("%s/manifest.json.part", folder), *target = cli_format("%s/manifest.json", folder);
    FILE *out = part && target ? fopen(part, "wb") : NULL;
    int status = CLI_OK;
    if (!part || !target) status = cli_no_memory("a file name");
    else if (!out) status = cli_fail("%s: cannot be written: %s", part, strerror(errno));
    if (out) {
        put_manifest(out, p, name, heads_file, heads, n_heads_bytes);
        bool good = !ferror(out);
        if (fclose(out) != 0) good = false;
        remove(target); /* WASI does not rename over a file */
        if (!good || rename(part, target) != 0) status = cli_fail("%s: cannot be written: %s", target, strerror(errno));
    }
    free(part);
    free(target);
    return status;
}

static int run(const cli_call *call) {
    const pack_options *o = call->values;
    if (!o->folder) return cli_usage("pack: -o DIR is missing: where the shards go");
    if (o->shard_bytes < PACK_SMALL_BYTES) return cli_usage("pack: --shard-size: at least 256K");
    cli_model_path path;
    exitlm_heads *heads = NULL;
    char *heads_file = NULL, *heads_bytes = NULL;
    size_t n_heads_bytes = 0;
    pack p = {0};
    int status = cli_model_path_find(&path, call->operands[0]);
    if (status == CLI_OK && strcmp(path.file, "-") == 0) status = cli_usage("pack: MODEL has to be a file, not standard input");
    if (status == CLI_OK) status = read_heads(&path, o->heads, &heads_file, &heads_bytes, &n_heads_bytes, &heads);
    if (status == CLI_OK) status = pack_plan(&p, &path, heads, o->shard_bytes);
    if (status == CLI_OK && cli_path(o->folder, NULL) != CLI_PATH_DIRECTORY && !cli_make_folder(o->folder))
        status = cli_fail("%s: cannot be created: %s", o->folder, strerror(errno));
    if (status == CLI_OK) status = pack_write_shards(&p, o->folder);
    if (status == CLI_OK && heads_bytes) status = write_heads(o->folder, heads_file, heads_bytes, n_heads_bytes);
    if (status == CLI_OK) status = write_manifest(o->folder, &p, cli_base_name(path.stem), heads_file, heads_bytes, n_heads_bytes);
    if (status == CLI_OK) printf("%s/manifest.json: %zu shards, %.1f MB\n", o->folder, p.n_shards, (double)p.total_bytes / 1e6);
    pack_free(&p);
    exitlm_heads_free(heads);
    free(heads_bytes);
    free(heads_file);
    cli_model_path_free(&path);
    return status;
}

const cli_command cli_command_pack = {
    .name = "pack",
    .summary = "Cut a model into shards in the order of use, for loading that answers early.",
    .operands = "MODEL",
    .n_operands = 1,
    .notes = "Example: exitlm pack models/smollm2-135m-instruct.gguf -o web/packed\n"
             "A page loads the folder's manifest.json. Any static host will do.",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .values_bytes = sizeof(pack_options),
    .run = run,
};
