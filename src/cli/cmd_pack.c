/* exitlm pack: a model cut into shards in the order of use, with a manifest that tells where each
 * byte belongs in the original (see web/src/loading/manifest.js for its form). Put back by its
 * extents it is the original, byte for byte. */
#include <inttypes.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "files.h"
#include "inspect.h"
#include "model/heads.h"
#include "model_path.h"
#include "base/ndjson.h"
#include "pack.h"
#include "platform.h"
#include "requant.h"
#include "train/observer.h"

#define PART ".part" /* behind the name of a file that is under way */
#define MAX_HEADS_BYTES ((uint64_t)512 << 20)

typedef struct pack_options {
    const char *heads, *folder, *gguf;
    uint64_t shard_bytes;
    int quant, embedding; /* indices in requant_names, -1: as it is */
} pack_options;

#define AT(field) offsetof(pack_options, field)

static const cli_option options[] = {
    CLI_VALUE(TEXT, 'o', "output", folder, "DIR", NULL, "folder to write into (required)"),
    CLI_VALUE(TEXT, 0, "heads", heads, "FILE", NULL,
              "exit heads, or none; default: NAME.exits.gguf beside the model, if it is there. The "
              "rows of their shortlist come early"),
    CLI_VALUE(BYTES, 0, "shard-size", shard_bytes, "SIZE", "24M",
              "largest shard; a Cloudflare Worker serves files of at most 25M"),
    CLI_ONE_OF(
        "quant", quant, requant_names, NULL,
        "quantise the layers' matrices anew, from the weights of this file; default: as they are"),
    CLI_ONE_OF("embedding", embedding, requant_names, NULL,
               "the same for the token embedding and the output matrix"),
    CLI_VALUE(TEXT, 0, "gguf", gguf, "FILE", NULL,
              "keep what --quant and --embedding made as a GGUF file, too: exit heads are trained "
              "on it"),
};

typedef struct pack_heads {
    char *file, *bytes; /* NULL: none */
    size_t n_bytes;
    exitlm_heads *heads;
    /* the file without its maps; empty where it has none, or was calibrated with them */
    xl_buffer core;
} pack_heads;

static int read_heads(const cli_model_path *path, const char *wanted, pack_heads *h) {
    exitlm_error error;
    int status = cli_model_path_heads(path, wanted, &h->file);
    if (status != CLI_OK || !h->file) return status;
    status = cli_read_file(h->file, MAX_HEADS_BYTES, &h->bytes, &h->n_bytes);
    if (status != CLI_OK) return status;
    if (exitlm_heads_create(&h->heads, h->bytes, h->n_bytes, NULL, &error) != EXITLM_OK)
        return cli_report(&error, h->file);
    if (xl_heads_without_maps(h->bytes, h->n_bytes, &h->core, &error) != EXITLM_OK)
        return cli_report(&error, h->file);
    /* all of it is wanted */
    if (h->core.n_bytes >= h->n_bytes || h->heads->kv == EXITLM_POLICY_MAPS) h->core.n_bytes = 0;
    return CLI_OK;
}

static int write_one(const char *folder, const char *name, const void *bytes, size_t n_bytes) {
    char *target = xl_format("%s/%s", folder, name);
    if (!target) return cli_no_memory("a file name");
    int status = cli_write_file(target, bytes, n_bytes);
    free(target);
    return status;
}

static int write_heads(const char *folder, const pack_heads *h) {
    int status = h->bytes ? write_one(folder, xl_base_name(h->file), h->bytes, h->n_bytes) : CLI_OK;
    return status == CLI_OK && h->core.n_bytes
               ? write_one(folder, PACK_CORE_NAME, h->core.data, h->core.n_bytes)
               : status;
}

static void put_hash(ndjson *j, const uint8_t digest[32]) {
    char hex[65];
    xl_sha256_hex(digest, hex);
    xl_nd_put(j, "sha256=%s", hex);
}

static void put_pieces(ndjson *j, const pack_shard *shard) {
    if (!shard->pieces) return;
    xl_nd_put(j, "pieces=[");
    for (size_t i = 0; i < shard->n_pieces; i++) {
        char hex[65];
        xl_sha256_hex(shard->pieces[i], hex);
        xl_nd_put(j, "%s", hex);
    }
    xl_nd_put(j, "]");
}

static void put_extents(ndjson *j, const pack *p, const pack_shard *shard) {
    xl_nd_put(j, "extents=[");
    for (size_t i = 0; i < shard->n_extents; i++) {
        const exitlm_extent *e = &p->extents[shard->first_extent + i];
        xl_nd_put(j, "{ part=%u offset=%" PRIu64 " bytes=%" PRIu64 " layer=%d }", e->part,
                  e->offset, e->n_bytes, e->layer);
    }
    xl_nd_put(j, "]");
}

/* The original's name; of one that is made only to be packed, the name that it would have. */
static void put_path(ndjson *j, const char *name) {
    const size_t n = strlen(name) - (xl_ends_with(name, PART) ? strlen(PART) : 0);
    xl_nd_put(j, "path=%.*s", (int)n, name);
}

/* The members of the object that tells of a file; the object stays open. */
static void put_file(ndjson *j, const char *name, const void *bytes, size_t n_bytes) {
    uint8_t digest[32];
    xl_sha256 sha;
    xl_sha256_init(&sha);
    xl_sha256_update(&sha, bytes, n_bytes);
    xl_sha256_final(&sha, digest);
    xl_nd_put(j, "file=%s bytes=%zu", name, n_bytes);
    put_hash(j, digest);
}

static void put_manifest(FILE *out, const pack *p, const char *name, const pack_heads *h) {
    ndjson j = xl_nd_to(out);
    xl_nd_put(&j, "{ format=%u name=%s bytes=%" PRIu64, 1, name, p->total_bytes);
    put_hash(&j, p->digest);
    xl_nd_put(&j, "files=[");
    for (uint32_t i = 0; i < p->n_parts; i++) {
        xl_nd_put(&j, "{");
        put_path(&j, xl_base_name(p->parts[i].path));
        xl_nd_put(&j, "bytes=%" PRIu64, p->parts[i].n_bytes);
        put_hash(&j, p->parts[i].digest);
        xl_nd_put(&j, "}");
    }
    xl_nd_put(&j, "] shards=[");
    for (size_t i = 0; i < p->n_shards; i++) {
        char file[PACK_NAME_BYTES];
        pack_shard_name(i, file);
        xl_nd_put(&j, "{ file=%s bytes=%" PRIu64, file, p->shards[i].n_bytes);
        put_hash(&j, p->shards[i].digest);
        put_pieces(&j, &p->shards[i]);
        put_extents(&j, p, &p->shards[i]);
        xl_nd_put(&j, "}");
    }
    xl_nd_put(&j, "]");
    if (h->bytes) {
        xl_nd_put(&j, "heads={");
        put_file(&j, xl_base_name(h->file), h->bytes, h->n_bytes);
        if (h->core.n_bytes) {
            xl_nd_put(&j, "core={");
            put_file(&j, PACK_CORE_NAME, h->core.data, h->core.n_bytes);
            xl_nd_put(&j, "}");
        }
        xl_nd_put(&j, "}");
    }
    xl_nd_put(&j, "}");
}

static bool removed(const char *folder, const char *name) {
    char *target = xl_format("%s/%s", folder, name);
    const bool gone = target && remove(target) == 0;
    free(target);
    return gone;
}

/* What an earlier pack left, its manifest first. */
static void remove_earlier(const char *folder) {
    char name[PACK_NAME_BYTES];
    size_t i = 0;
    removed(folder, "manifest.json");
    removed(folder, PACK_CORE_NAME);
    do pack_shard_name(i++, name);
    while (removed(folder, name));
}

/* The manifest comes last: a folder with a manifest is whole. */
static int write_manifest(const char *folder, const pack *p, const char *name,
                          const pack_heads *h) {
    exitlm_error error;
    xl_file_out out;
    char *target = xl_format("%s/manifest.json", folder);
    exitlm_status status =
        target ? xl_file_begin(&out, target, &error) : xl_no_memory(&error, "a file name");
    if (status == EXITLM_OK) {
        put_manifest(out.stream, p, name, h);
        status = xl_file_end(&out, EXITLM_OK, &error);
    }
    free(target);
    return cli_done(status, &error);
}

static void free_heads(pack_heads *h) {
    exitlm_heads_free(h->heads);
    xl_buffer_free(&h->core);
    free(h->bytes);
    free(h->file);
    *h = (pack_heads){0};
    xl_buffer_init(&h->core, &xl_libc_allocator);
}

/* Heads know the weights that they were trained on. Those that were found beside the model are left
 * out, those that were asked for are an error. */
static int refuse_heads(const pack_options *o, const char *weights, const char *advice,
                        pack_heads *h) {
    int status = CLI_OK;
    if (o->heads)
        status = cli_fail("%s: these exit heads were trained on other weights than %s; %s", h->file,
                          weights, advice);
    else cli_warn("%s is left out, it was trained on other weights; %s", h->file, advice);
    free_heads(h);
    return status;
}

static int check_heads(const pack_options *o, const cli_model_path *path, pack_heads *h) {
    char fingerprint[65];
    cli_gguf_file *files = NULL;
    if (!h->heads) return CLI_OK;
    int status = cli_gguf_open_parts(&files, path);
    if (status == CLI_OK)
        status = inspect_fingerprint(files, path->n_parts, path->file, fingerprint);
    if (status == CLI_OK && fingerprint[0] && strcmp(fingerprint, h->heads->fingerprint) != 0)
        status =
            refuse_heads(o, path->file, "give the model's own, or train some: exitlm train", h);
    cli_gguf_close_parts(files, path->n_parts);
    return status;
}

static int check_requantised(const pack_options *o, const char *file, pack_heads *h) {
    bool fit;
    const int status = requant_verify(file, h->heads, &fit);
    if (status != CLI_OK || fit) return status;
    return refuse_heads(o, "--quant and --embedding make",
                        "train heads on the new weights: keep them with --gguf FILE, then exitlm "
                        "train FILE, then exitlm pack FILE",
                        h);
}

/* The model with other types, as one file: `made` becomes its path. */
static int requantise(const pack_options *o, const cli_model_path *path, pack_heads *h,
                      cli_model_path *made) {
    const char *types = requant_names[o->quant >= 0 ? o->quant : o->embedding];
    char *stem = xl_format("%s/%s-%s%s", o->folder, xl_base_name(path->stem), types,
                           o->quant >= 0 ? "" : "-embedding");
    char *file = !stem     ? NULL
                 : o->gguf ? xl_format("%s" PART, o->gguf)
                           : xl_format("%s.gguf" PART, stem);
    *made = (cli_model_path){.file = file, .stem = stem, .n_parts = 1};
    if (!file) return cli_no_memory("a file name");
    int status = requant_write(path, requant_type(o->quant), requant_type(o->embedding), file);
    if (status == CLI_OK) status = check_requantised(o, file, h);
    if (status != CLI_OK || !o->gguf) return status;
    char *kept = xl_format("%s", o->gguf);
    if (!kept) return cli_no_memory("a file name");
    remove(kept); /* WASI does not rename over a file */
    if (rename(file, kept) != 0)
        status = cli_fail("%s: cannot be written: %s", kept, strerror(errno));
    else made->file = kept;
    free(status == CLI_OK ? file : kept);
    return status;
}

static int check_options(const pack_options *o) {
    if (!o->folder) return cli_usage("pack: -o DIR is missing: where the shards go");
    if (o->shard_bytes < PACK_SMALL_BYTES) return cli_usage("pack: --shard-size: at least 256K");
    if (o->gguf && o->quant < 0 && o->embedding < 0)
        return cli_usage(
            "pack: --gguf goes with --quant or --embedding: without them it would be a copy");
    return CLI_OK;
}

static int run(const cli_call *call) {
    const pack_options *o = call->values;
    if (check_options(o) != CLI_OK) return CLI_USAGE;
    cli_model_path path, made = {0};
    const cli_model_path *source = &path;
    pack_heads h = {0};
    xl_buffer_init(&h.core, &xl_libc_allocator);
    pack p = {0};
    int status = cli_model_path_find(&path, call->operands[0]);
    if (status == CLI_OK && strcmp(path.file, "-") == 0)
        status = cli_usage("pack: MODEL has to be a file, not standard input");
    if (status == CLI_OK) status = read_heads(&path, o->heads, &h);
    if (status == CLI_OK && xl_file_look(o->folder, NULL) != XL_FILE_FOLDER &&
        !xl_folder_make(o->folder))
        status = cli_fail("%s: cannot be created: %s", o->folder, strerror(errno));
    if (status == CLI_OK && (o->quant >= 0 || o->embedding >= 0)) {
        status = requantise(o, &path, &h, &made);
        source = &made;
    } else if (status == CLI_OK) status = check_heads(o, &path, &h);
    if (status == CLI_OK) status = pack_plan(&p, source, h.heads, o->shard_bytes);
    if (status == CLI_OK) {
        remove_earlier(o->folder);
        status = pack_write_shards(&p, o->folder);
    }
    if (status == CLI_OK) status = write_heads(o->folder, &h);
    if (status == CLI_OK) status = write_manifest(o->folder, &p, xl_base_name(source->stem), &h);
    if (status == CLI_OK)
        printf("%s/manifest.json: %zu shards, %.1f MB\n", o->folder, p.n_shards,
               (double)p.total_bytes / 1e6);
    pack_free(&p);
    free_heads(&h);
    if (made.file && xl_ends_with(made.file, PART)) remove(made.file);
    cli_model_path_free(&made);
    cli_model_path_free(&path);
    return status;
}

const cli_command cli_command_pack = {
    .name = "pack",
    .summary = "Cut a model into shards in the order of use, for loading that answers early.",
    .operands = "MODEL",
    .n_operands = 1,
    .notes = "Example: exitlm pack models/smollm2-135m-instruct.gguf -o web/packed\n"
             "A page loads the folder's manifest.json. Any static host will do.\n"
             "         exitlm pack model.gguf -o packed --quant q4_0 --embedding q5_1 --gguf "
             "smaller.gguf",
    CLI_OPTIONS(options, pack_options),
    .run = run,
};
