/* exitlm pack: a model cut into shards in the order of use, with a manifest that tells where each byte belongs in the original (see
 * web/src/manifest.js for its form). Put back by its extents it is the original, byte for byte. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "files.h"
#include "heads.h"
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

typedef struct pack_heads {
    char *file, *bytes; /* NULL: none */
    size_t n_bytes;
    exitlm_heads *heads;
    xl_buffer core; /* the file without its maps; empty where it has none, or was calibrated with them */
} pack_heads;

static int read_heads(const cli_model_path *path, const char *wanted, pack_heads *h) {
    exitlm_error error;
    int status = cli_model_path_heads(path, wanted, &h->file);
    if (status != CLI_OK || !h->file) return status;
    status = cli_read_file(h->file, MAX_HEADS_BYTES, &h->bytes, &h->n_bytes);
    if (status != CLI_OK) return status;
    if (exitlm_heads_create(&h->heads, h->bytes, h->n_bytes, NULL, &error) != EXITLM_OK) return cli_report(&error, h->file);
    if (xl_heads_without_maps(h->bytes, h->n_bytes, &h->core, &error) != EXITLM_OK) return cli_report(&error, h->file);
    if (h->core.n_bytes >= h->n_bytes || h->heads->kv == EXITLM_POLICY_MAPS) h->core.n_bytes = 0; /* all of it is wanted */
    return CLI_OK;
}

static int write_one(const char *folder, const char *name, const void *bytes, size_t n_bytes) {
    char *target = cli_format("%s/%s", folder, name);
    if (!target) return cli_no_memory("a file name");
    int status = cli_write_file(target, bytes, n_bytes);
    free(target);
    return status;
}

static int write_heads(const char *folder, const pack_heads *h) {
    int status = h->bytes ? write_one(folder, cli_base_name(h->file), h->bytes, h->n_bytes) : CLI_OK;
    return status == CLI_OK && h->core.n_bytes ? write_one(folder, PACK_CORE_NAME, h->core.data, h->core.n_bytes) : status;
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

/* The members of the object that tells of a file; the object stays open. */
static void put_file(ndjson *j, const char *name, const void *bytes, size_t n_bytes) {
    uint8_t digest[32];
    xl_sha256 sha;
    xl_sha256_init(&sha);
    xl_sha256_update(&sha, bytes, n_bytes);
    xl_sha256_final(&sha, digest);
    nd_string(j, "file", name);
    nd_uint(j, "bytes", n_bytes);
    put_hash(j, digest);
}

static void put_manifest(FILE *out, const pack *p, const char *name, const pack_heads *h) {
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
    if (h->bytes) {
        nd_object(&j, "heads");
        put_file(&j, cli_base_name(h->file), h->bytes, h->n_bytes);
        if (h->core.n_bytes) {
            nd_object(&j, "core");
            put_file(&j, PACK_CORE_NAME, h->core.data, h->core.n_bytes);
            nd_end(&j);
        }
        nd_end(&j);
    }
    nd_end(&j);
}

/* The manifest comes last and under another name first: a folder with a manifest is whole. */
static int write_manifest(const char *folder, const pack *p, const char *name, const pack_heads *h) {
    char *part = cli_format("%s/manifest.json.part", folder), *target = cli_format("%s/manifest.json", folder);
    FILE *out = part && target ? fopen(part, "wb") : NULL;
    int status = CLI_OK;
    if (!part || !target) status = cli_no_memory("a file name");
    else if (!out) status = cli_fail("%s: cannot be written: %s", part, strerror(errno));
    if (out) {
        put_manifest(out, p, name, h);
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
    pack_heads h = {0};
    xl_buffer_init(&h.core, &xl_libc_allocator);
    pack p = {0};
    int status = cli_model_path_find(&path, call->operands[0]);
    if (status == CLI_OK && strcmp(path.file, "-") == 0) status = cli_usage("pack: MODEL has to be a file, not standard input");
    if (status == CLI_OK) status = read_heads(&path, o->heads, &h);
    if (status == CLI_OK) status = pack_plan(&p, &path, h.heads, o->shard_bytes);
    if (status == CLI_OK && cli_path(o->folder, NULL) != CLI_PATH_DIRECTORY && !cli_make_folder(o->folder))
        status = cli_fail("%s: cannot be created: %s", o->folder, strerror(errno));
    if (status == CLI_OK) status = pack_write_shards(&p, o->folder);
    if (status == CLI_OK) status = write_heads(o->folder, &h);
    if (status == CLI_OK) status = write_manifest(o->folder, &p, cli_base_name(path.stem), &h);
    if (status == CLI_OK) printf("%s/manifest.json: %zu shards, %.1f MB\n", o->folder, p.n_shards, (double)p.total_bytes / 1e6);
    pack_free(&p);
    exitlm_heads_free(h.heads);
    xl_buffer_free(&h.core);
    free(h.bytes);
    free(h.file);
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
