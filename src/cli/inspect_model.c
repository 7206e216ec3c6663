/* inspect of a model: hyperparameters, tensors by type, memory need, fingerprint. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "catalog.h"
#include "cli.h"
#include "files.h"
#include "inspect.h"
#include "model/loader.h"
#include "platform.h"
#include "run/cost.h"
#include "text.h"

#define MAX_TYPES 64u /* tensor types as numbered in the file */

typedef struct type_count {
    uint32_t n;
    uint64_t n_bytes;
} type_count;

typedef struct summary {
    exitlm_loader *loader;
    exitlm_model_info info;
    bool supported;
    bool complete;     /* the weights are there, too */
    exitlm_error why;  /* where it is not supported */
    char missing[512]; /* lines: what of it the engine lacks */
    uint64_t file_bytes, header_bytes, n_tensors, model_bytes, session_bytes;
    double tokens_per_second; /* roughly, of the whole model on one thread; 0: not known */
    type_count types[MAX_TYPES];
    const char *heads;   /* file beside the model, or NULL */
    char catalogue[128]; /* its name in the catalogue, or "" */
    bool catalogue_heads;
} summary;

/* ---- Feeding a loader with just what it needs ---- */

/* Pushes bytes [offset, offset + n) of a part. */
static exitlm_status push_range(exitlm_loader *loader, cli_gguf_file *file, uint32_t part,
                                uint64_t offset, uint64_t n, exitlm_error *error) {
    uint8_t chunk[16384];
    if (offset > INT64_MAX) n = 0;
    exitlm_status status = exitlm_loader_seek(loader, part, offset, error);
    errno = 0;
    if (n && fseeko(file->stream, (off_t)offset, SEEK_SET) != 0)
        return xl_fail(error, EXITLM_IO, "cannot be read: %s", strerror(errno));
    while (n && status == EXITLM_OK) {
        size_t got = fread(chunk, 1, n < sizeof chunk ? (size_t)n : sizeof chunk, file->stream);
        if (ferror(file->stream))
            return xl_fail(error, EXITLM_IO, "cannot be read: %s", strerror(errno));
        if (got == 0) break;
        status = exitlm_loader_push(loader, chunk, got, error);
        n -= got;
    }
    return status;
}

static exitlm_status push_headers(exitlm_loader *loader, cli_gguf_file *files, uint32_t n_parts,
                                  exitlm_error *error) {
    exitlm_status status = EXITLM_OK;
    for (uint32_t part = 0; part < n_parts && status == EXITLM_OK; part++)
        status = push_range(loader, &files[part], part, 0, files[part].header.data_offset, error);
    return status;
}

/* The norms of layer 0 and the first rows of the embedding. */
static exitlm_status push_fingerprint(exitlm_loader *loader, cli_gguf_file *files, uint32_t n_parts,
                                      exitlm_error *error) {
    exitlm_status status = EXITLM_OK;
    for (uint32_t part = 0; part < n_parts; part++)
        for (size_t i = 0; i <= XL_FINGERPRINT_NORMS && status == EXITLM_OK; i++) {
            const bool rows = i == XL_FINGERPRINT_NORMS;
            const xl_gguf_tensor *t = xl_gguf_find_tensor(
                &files[part].header, rows ? "token_embd.weight" : xl_fingerprint_norms[i]);
            if (!t) continue;
            uint64_t n = t->n_bytes;
            if (rows && t->dims[1] > XL_FINGERPRINT_ROWS) n = n / t->dims[1] * XL_FINGERPRINT_ROWS;
            status = push_range(loader, &files[part], part, t->offset, n, error);
        }
    return status;
}

int inspect_fingerprint(cli_gguf_file *files, uint32_t n_parts, const char *name,
                        char fingerprint[65]) {
    exitlm_error error;
    exitlm_loader *loader;
    fingerprint[0] = 0;
    if (exitlm_loader_create(&loader, NULL, &error) != EXITLM_OK) return CLI_OK;
    exitlm_status status = push_headers(loader, files, n_parts, &error);
    if (status == EXITLM_OK) status = push_fingerprint(loader, files, n_parts, &error);
    exitlm_model *model = exitlm_loader_model(loader);
    if (status == EXITLM_OK && model) {
        exitlm_model_info info;
        exitlm_model_describe(model, &info);
        memcpy(fingerprint, info.fingerprint, sizeof info.fingerprint);
    }
    exitlm_loader_free(loader);
    return status == EXITLM_IO ? cli_report(&error, name) : CLI_OK;
}

static int describe(summary *s, cli_gguf_file *files, uint32_t n_parts, const char *file) {
    exitlm_load_options options = {.header_only = true};
    if (exitlm_loader_create(&s->loader, &options, &s->why) != EXITLM_OK)
        return cli_report(&s->why, file);
    exitlm_status status = push_headers(s->loader, files, n_parts, &s->why);
    const exitlm_model *model = exitlm_loader_model(s->loader);
    if (status == EXITLM_OUT_OF_MEMORY || status == EXITLM_IO) return cli_report(&s->why, file);
    exitlm_loader_missing(s->loader, s->missing, sizeof s->missing);
    s->supported = status == EXITLM_OK;
    if (!s->supported) return CLI_OK;
    exitlm_model_describe(model, &s->info);
    exitlm_session_options session = {.kv_type = CLI_KV_TYPE};
    status = exitlm_loader_memory(s->loader, &session, &s->model_bytes, &s->session_bytes, &s->why);
    if (status != EXITLM_OK) return cli_report(&s->why, file);
    const double speed = xl_weight_speed(cli_clock_ms);
    s->tokens_per_second = speed / (double)s->model_bytes;
    return inspect_fingerprint(files, n_parts, file, s->info.fingerprint);
}

/* The entry of the catalogue with this file's name and size. */
static void find_in_catalogue(summary *s, const char *file) {
    cli_catalog catalog;
    char why[600];
    if (!cli_catalog_open(&catalog, why, sizeof why)) return;
    const xl_json *entry = cli_catalog_of_file(&catalog, xl_base_name(file), s->file_bytes);
    const char *name = xl_json_string(entry, "name");
    if (name) snprintf(s->catalogue, sizeof s->catalogue, "%s", name);
    s->catalogue_heads = entry && xl_json_get(entry, "heads");
    cli_catalog_close(&catalog);
}

static void count(summary *s, const cli_gguf_file *files, uint32_t n_parts) {
    s->complete = true;
    for (uint32_t part = 0; part < n_parts; part++) {
        const xl_gguf *g = &files[part].header;
        if (g->n_tensors == 0 || cli_gguf_header_alone(&files[part])) s->complete = false;
        s->file_bytes += files[part].n_bytes;
        s->header_bytes += g->data_offset;
        s->n_tensors += g->n_tensors;
        for (uint32_t i = 0; i < g->n_tensors; i++) {
            if (g->tensors[i].type >= MAX_TYPES) continue;
            s->types[g->tensors[i].type].n++;
            s->types[g->tensors[i].type].n_bytes += g->tensors[i].n_bytes;
        }
    }
}

/* ---- Printing ---- */

static void text_of(const xl_gguf *g, const char *key, const char **text, size_t *n) {
    *text = "";
    *n = 0;
    xl_gguf_get_string(g, key, text, n);
}

/* Why it does not run, or what to expect. */
static const char *sentence(const summary *s, char *room, size_t room_bytes) {
    if (!s->supported) return s->why.message;
    if (!s->complete) return "the weights are not in this file: it is a header alone";
    int n = snprintf(room, room_bytes, "runs here: %.1f MB of memory",
                     (double)(s->model_bytes + s->session_bytes) / 1e6);
    if (s->tokens_per_second > 0)
        snprintf(room + n, room_bytes - (size_t)n, ", about %.*f tokens a second on one thread",
                 s->tokens_per_second < 10, s->tokens_per_second);
    return room;
}

static void print_json(const summary *s, const cli_model_path *path, const xl_gguf *g) {
    ndjson j = xl_nd_to(stdout);
    const char *text;
    char room[128];
    size_t n;
    xl_nd_put(&j, "{ type=model file=%s file_bytes=%" PRIu64 " parts=%u gguf_version=%u",
              path->file, s->file_bytes, path->n_parts, g->version);
    text_of(g, "general.name", &text, &n);
    xl_nd_put(&j, "name=%.*s", (int)n, text);
    text_of(g, "general.architecture", &text, &n);
    xl_nd_put(&j, "arch=%.*s", (int)n, text);
    text_of(g, "tokenizer.ggml.model", &text, &n);
    xl_nd_put(&j, "tokenizer=%.*s", (int)n, text);
    text_of(g, "tokenizer.ggml.pre", &text, &n);
    xl_nd_put(&j, "pre_tokenizer=%.*s runs?%d supported?%d complete?%d reason=%s missing=[", (int)n,
              text, s->supported && s->complete, s->supported, s->complete,
              sentence(s, room, sizeof room));
    for (const char *at = s->missing; *at; at += n + (at[n] == '\n')) {
        n = strcspn(at, "\n");
        xl_nd_put(&j, "%.*s", (int)n, at);
    }
    xl_nd_put(&j, "]");
    if (s->supported) {
        const exitlm_model_info *i = &s->info;
        xl_nd_put(&j,
                  "licence=%s quantisation=%s template=%s parameters=%" PRIu64 " layers=%u dim=%u "
                  "ffn_dim=%u attention_heads=%u kv_heads=%u head_dim=%u vocab=%u "
                  "context_tokens=%u macs_per_token=%" PRIu64 " weight_bytes=%" PRIu64
                  " fingerprint=%s memory={ "
                  "model_bytes=%" PRIu64 " session_bytes=%" PRIu64
                  " } estimate={ tokens_per_second=%.3g }",
                  i->licence, i->quantisation, i->template_family, i->parameters, i->layers, i->dim,
                  i->ffn_dim, i->heads, i->kv_heads, i->head_dim, i->vocab, i->context_tokens,
                  i->macs_per_token, i->weight_bytes, *i->fingerprint ? i->fingerprint : NULL,
                  s->model_bytes, s->session_bytes, s->tokens_per_second);
    }
    xl_nd_put(&j, "header_bytes=%" PRIu64 " tensors=%" PRIu64 " tensor_types={", s->header_bytes,
              s->n_tensors);
    for (uint32_t t = 0; t < MAX_TYPES; t++) {
        if (s->types[t].n == 0) continue;
        xl_nd_put(&j, "%s={ tensors=%u bytes=%" PRIu64 " }",
                  xl_gguf_tensor_type_name(t) ? xl_gguf_tensor_type_name(t) : "unknown",
                  s->types[t].n, s->types[t].n_bytes);
    }
    xl_nd_put(&j, "} heads=%s catalogue=%s catalogue_heads?%d }", s->heads,
              *s->catalogue ? s->catalogue : NULL, s->catalogue_heads);
}

static void line(const char *name, const char *text, size_t n) {
    printf("%-14s ", name);
    cli_print_safe(stdout, n ? text : "not stated", n ? n : 10, false);
    printf("\n");
}

static void print_table(const summary *s, const cli_model_path *path, const xl_gguf *g) {
    const char *text;
    size_t n;
    const exitlm_model_info *i = &s->info;
    line("model", path->file, strlen(path->file));
    text_of(g, "general.name", &text, &n);
    line("name", text, n);
    text_of(g, "general.architecture", &text, &n);
    line("architecture", text, n);
    text_of(g, "tokenizer.ggml.model", &text, &n);
    line("tokenizer", text, n);
    text_of(g, "tokenizer.ggml.pre", &text, &n);
    if (n) line("pre-tokenizer", text, n);
    char room[128];
    const char *why = sentence(s, room, sizeof room);
    line(s->supported ? "verdict" : "not supported", why, strlen(why));
    for (const char *at = s->missing; *at; at += n + (at[n] == '\n')) {
        n = strcspn(at, "\n");
        line("missing", at, n);
    }
    if (s->supported) {
        line("licence", i->licence, strlen(i->licence));
        line("chat template", i->template_family, strlen(i->template_family));
        printf("%-14s %.1f million, %s\n", "parameters", (double)i->parameters / 1e6,
               i->quantisation);
        printf("%-14s %u of %u wide, feed-forward %u\n", "layers", i->layers, i->dim, i->ffn_dim);
        printf("%-14s %u heads of %u, %u for K/V\n", "attention", i->heads, i->head_dim,
               i->kv_heads);
        printf("%-14s %u tokens, context %u\n", "vocabulary", i->vocab, i->context_tokens);
        printf("%-14s %.1f million multiply-adds\n", "work a token",
               (double)i->macs_per_token / 1e6);
        printf("%-14s %.1f MB for the model, %.1f MB for a session with the default context\n",
               "memory", (double)s->model_bytes / 1e6, (double)s->session_bytes / 1e6);
        printf("%-14s %s\n", "fingerprint",
               *i->fingerprint ? i->fingerprint : "unknown: its bytes could not be read");
    }
    printf("%-14s %.1f MB, header %.1f MB, GGUF version %u", "file", (double)s->file_bytes / 1e6,
           (double)s->header_bytes / 1e6, g->version);
    if (path->n_parts > 1) printf(", %u parts", path->n_parts);
    printf("\n%-14s %" PRIu64 ":", "tensors", s->n_tensors);
    bool first = true;
    for (uint32_t t = 0; t < MAX_TYPES; t++) {
        if (s->types[t].n == 0) continue;
        const char *name = xl_gguf_tensor_type_name(t);
        printf("%s %u %s (%.1f MB)", first ? "" : ",", s->types[t].n,
               name ? name : "of unknown type", (double)s->types[t].n_bytes / 1e6);
        first = false;
    }
    printf("\n%-14s %s", "exit heads", s->heads ? s->heads : "none beside it");
    if (!s->heads && s->catalogue_heads)
        printf("; the catalogue has some: exitlm pull %s", s->catalogue);
    printf("\n");
}

int inspect_model(const cli_model_path *path, cli_gguf_file *files, bool json) {
    summary *s = calloc(1, sizeof *s);
    char *heads = NULL;
    if (!s) return cli_no_memory("the description");
    int status = cli_model_path_heads(path, NULL, &heads);
    s->heads = heads;
    count(s, files, path->n_parts);
    find_in_catalogue(s, path->file);
    if (status == CLI_OK) status = describe(s, files, path->n_parts, path->file);
    if (status == CLI_OK && json) print_json(s, path, &files[0].header);
    else if (status == CLI_OK) print_table(s, path, &files[0].header);
    exitlm_loader_free(s->loader);
    free(heads);
    free(s);
    return status;
}
