#include "engine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "files.h"
#include "model/heads.h"
#include "model_path.h"
#include "platform.h"
#include "train/dialog.h"

#define CHUNK_BYTES ((size_t)1 << 20)
#define MAX_HEADS_BYTES ((uint64_t)1 << 30)

const char *const cli_reply_policies[] = {"auto", "exact", "maps", NULL};
#define X(name, text) text,
const char *const cli_modes[] = {EXITLM_MODE_LIST(X) NULL};
#undef X

static int check_kernel(cli_engine *engine, const char *wanted) {
    char known[160] = "";
    size_t n = 0;
    engine->kernel = exitlm_kernel_name(0);
    if (!wanted) return CLI_OK;
    for (size_t i = 0; exitlm_kernel_name(i); i++) {
        if (strcmp(exitlm_kernel_name(i), wanted) == 0) {
            engine->kernel = exitlm_kernel_name(i);
            return CLI_OK;
        }
        if (n < sizeof known)
            n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "",
                                  exitlm_kernel_name(i));
    }
    return cli_usage("--kernel: this machine and build do not run \"%.40s\"; they run %s", wanted,
                     known);
}

static int open_heads(cli_engine *engine, const cli_model_path *path, const char *wanted,
                      const char *heads_for) {
    int status = cli_model_path_heads(path, wanted, &engine->heads_file);
    if (status == CLI_OK && !engine->heads_file && heads_for)
        return cli_usage(
            "%s needs exit heads: give --heads FILE, or put %s.exits.gguf beside the model",
            heads_for, xl_base_name(path->stem));
    if (status != CLI_OK || !engine->heads_file) return status;
    char *bytes;
    size_t n;
    status = cli_read_file(engine->heads_file, MAX_HEADS_BYTES, &bytes, &n);
    if (status != CLI_OK) return status;
    exitlm_error error;
    if (exitlm_heads_create(&engine->heads, bytes, n, NULL, &error) != EXITLM_OK)
        status = cli_report(&error, engine->heads_file);
    else exitlm_heads_describe(engine->heads, &engine->heads_info);
    free(bytes);
    return status;
}

/* Bits of the K/V types with which a level of at least this accuracy is certified for replies that are
 * drawn at this temperature, 0: greedy. */
static unsigned certified_types(const exitlm_heads *heads, float temperature, float accuracy) {
    unsigned types = 0;
    for (size_t i = 0; i < exitlm_heads_levels(heads); i++) {
        const exitlm_level *level = &heads->levels[i];
        if (level->strategy == EXITLM_STRATEGY_RISK && level->certified &&
            level->temperature >= temperature - 1e-6f && level->accuracy >= accuracy - 1e-6f)
            types |= 1u << level->kv_type;
    }
    return types;
}

/* The platform's; but a certificate is of one type, and where there is none with it f32, the type
 * that calibrate takes. Replies that are drawn go by the levels for such, if there are any. */
static exitlm_kv_type choose_kv_type(const cli_engine *engine, const cli_engine_options *o) {
    if (o->kv_type >= 0) return (exitlm_kv_type)o->kv_type;
    unsigned types = 0;
    if (o->temperature > 0)
        types =
            certified_types(engine->heads, o->temperature,
                            o->accuracy != 0 ? o->accuracy : engine->heads_info.default_accuracy);
    if (!types) types = certified_types(engine->heads, 0, 0);
    return !types || types >> CLI_KV_TYPE & 1 ? CLI_KV_TYPE : EXITLM_KV_F32;
}

static exitlm_session_options session_options(const cli_engine *engine,
                                              const cli_engine_options *options, uint32_t ctx) {
    return (exitlm_session_options){
        .heads = engine->heads,
        .context_tokens = ctx ? ctx : options->ctx,
        .kv_type = engine->kv_type,
        .threads = engine->threads,
        .kernel = engine->kernel,
        .clock_ms = cli_clock_ms,
    };
}

/* Weights and session against --max-memory, as soon as the header tells. */
static int check_memory(const cli_engine *engine, const cli_engine_options *options,
                        enum cli_engine_need need, const char *file) {
    exitlm_error error;
    uint64_t model_bytes, session_bytes;
    exitlm_session_options session = session_options(engine, options, 0);
    if (!options->max_memory || need <= CLI_HEADER) return CLI_OK;
    if (exitlm_loader_memory(engine->loader, &session, &model_bytes, &session_bytes, &error) !=
        EXITLM_OK)
        return cli_report(&error, file);
    if (need != CLI_SESSION) session_bytes = 0;
    if (model_bytes <= options->max_memory && session_bytes <= options->max_memory - model_bytes)
        return CLI_OK;
    return cli_fail("%s: needs %llu bytes for weights and %llu for the context, --max-memory "
                    "allows %llu; choose a smaller "
                    "model, a smaller --ctx or --kv-type q8",
                    file, (unsigned long long)model_bytes, (unsigned long long)session_bytes,
                    (unsigned long long)options->max_memory);
}

/* Pushes a file, chunk by chunk; for CLI_HEADER only as far as its header. */
static int push_stream(cli_engine *engine, const cli_engine_options *options,
                       enum cli_engine_need need, FILE *stream, const char *file, uint8_t *chunk) {
    exitlm_error error;
    exitlm_load_state state;
    exitlm_loader_state(engine->loader, &state);
    bool header_seen = state.header_ready;
    uint64_t total = 0;
    for (;;) {
        errno = 0;
        size_t n = fread(chunk, 1, CHUNK_BYTES, stream);
        if (ferror(stream)) return cli_fail("%s: cannot be read: %s", file, strerror(errno));
        if (n == 0) return total ? CLI_OK : cli_fail("%s: the file is empty; fetch it again", file);
        total += n;
        if (exitlm_loader_push(engine->loader, chunk, n, &error) != EXITLM_OK)
            return cli_report(&error, file);
        exitlm_loader_state(engine->loader, &state);
        if (state.header_ready && !header_seen) {
            header_seen = true;
            int status = check_memory(engine, options, need, file);
            if (status != CLI_OK) return status;
        }
        if (need <= CLI_HEADER && state.header_bytes) return CLI_OK;
    }
}

static int push_part(cli_engine *engine, const cli_engine_options *options,
                     enum cli_engine_need need, const cli_model_path *path, uint32_t part,
                     uint8_t *chunk) {
    if (strcmp(path->file, "-") == 0)
        return push_stream(engine, options, need, stdin, "standard input", chunk);
    char *file = cli_model_path_part(path, part);
    if (!file) return cli_no_memory("a file name");
    int status = CLI_OK;
    errno = 0;
    FILE *stream = fopen(file, "rb");
    if (!stream) status = cli_fail("%s: cannot be opened: %s", file, strerror(errno));
    if (stream) setvbuf(stream, NULL, _IONBF, 0); /* chunks are large enough */
    exitlm_error error;
    if (status == CLI_OK && part > 0 &&
        exitlm_loader_seek(engine->loader, part, 0, &error) != EXITLM_OK)
        status = cli_report(&error, file);
    if (status == CLI_OK) status = push_stream(engine, options, need, stream, file, chunk);
    if (stream) fclose(stream);
    free(file);
    return status;
}

static int load(cli_engine *engine, const cli_engine_options *options, enum cli_engine_need need,
                const cli_model_path *path) {
    exitlm_error error;
    exitlm_load_options load_options = {
        .heads = engine->heads,
        .max_bytes = options->max_memory > SIZE_MAX ? SIZE_MAX : (size_t)options->max_memory,
        .header_only = need <= CLI_HEADER,
        .vocabulary_only = need == CLI_VOCABULARY};
    if (exitlm_loader_create(&engine->loader, &load_options, &error) != EXITLM_OK)
        return cli_report(&error, NULL);
    uint8_t *chunk = malloc(CHUNK_BYTES);
    int status = chunk ? CLI_OK : cli_no_memory("reading the model");
    const uint32_t n_parts = need == CLI_VOCABULARY ? 1 : path->n_parts;
    for (uint32_t part = 0; part < n_parts && status == CLI_OK; part++)
        status = push_part(engine, options, need, path, part, chunk);
    free(chunk);
    if (status != CLI_OK) return status;
    if (need <= CLI_HEADER) {
        engine->model = exitlm_loader_model(engine->loader);
        if (engine->model) return CLI_OK;
    }
    if (exitlm_loader_finish(engine->loader, &engine->model, &error) != EXITLM_OK)
        return cli_report(&error, path->file);
    engine->loader = NULL;
    return CLI_OK;
}

int cli_engine_session(const cli_engine *engine, const cli_engine_options *options, uint32_t ctx,
                       exitlm_session **session) {
    exitlm_error error;
    exitlm_session_options wanted = session_options(engine, options, ctx);
    if (exitlm_session_create(session, engine->model, &wanted, &error) != EXITLM_OK)
        return cli_report(&error, NULL);
    return CLI_OK;
}

int cli_engine_open(cli_engine *engine, const char *model, const cli_engine_options *options,
                    enum cli_engine_need need) {
    *engine = (cli_engine){.threads = CLI_HAS_THREADS && options->threads ? options->threads : 1};
    cli_model_path path;
    if (options->threads > engine->threads)
        cli_warn("--threads %u: this build has one thread alone", options->threads);
    int status = check_kernel(engine, options->kernel);
    if (status != CLI_OK) return status;
    status = cli_model_path_find(&path, model);
    double start = cli_clock_ms(NULL);
    if (status == CLI_OK && need > CLI_HEADER)
        status = open_heads(engine, &path, options->heads, options->heads_for);
    engine->kv_type = choose_kv_type(engine, options);
    if (status == CLI_OK) status = load(engine, options, need, &path);
    engine->load_ms = cli_clock_ms(NULL) - start;
    cli_model_path_free(&path);
    if (status != CLI_OK) return status;
    exitlm_model_describe(engine->model, &engine->info);
    return need == CLI_SESSION ? cli_engine_session(engine, options, 0, &engine->session) : CLI_OK;
}

void cli_engine_close(cli_engine *engine) {
    exitlm_session_free(engine->session);
    if (engine->loader) exitlm_loader_free(engine->loader); /* owns the model */
    else exitlm_model_free(engine->model);
    exitlm_heads_free(engine->heads);
    free(engine->heads_file);
    *engine = (cli_engine){0};
}

void cli_print_use(const exitlm_level *level) {
    printf("%s", xl_policy_names[level->kv]);
    if (level->kv_type != EXITLM_KV_F32) printf(", %s", xl_kv_type_names[level->kv_type]);
    if (level->temperature > 0) printf(", drawn to %g", (double)level->temperature);
    if (level->max_tokens != XL_CALIBRATED_TOKENS) printf(", to %u tokens", level->max_tokens);
}

void cli_engine_check_level(const cli_engine *engine, exitlm_strategy strategy, float accuracy,
                            exitlm_kv_policy kv) {
    const float strictest = xl_heads_strictest(engine->heads, strategy, kv);
    const char *name = xl_strategy_names[strategy], *with = kv ? " and K/V policy " : "",
               *policy = kv ? xl_policy_names[kv] : "";
    if (strictest == 0)
        cli_warn("these heads have no certified level of strategy %s%s%s: no exits are taken", name,
                 with, policy);
    else if (accuracy > strictest + 1e-6f)
        cli_warn("--accuracy %g is above the strictest certified level of strategy %s%s%s, %g: no "
                 "exits are taken",
                 (double)accuracy, name, with, policy, (double)strictest);
}

int cli_tokenize(const exitlm_model *model, const char *text, size_t n_bytes, unsigned flags,
                 int32_t **ids, size_t *n) {
    exitlm_error error;
    const int status =
        cli_done(xl_ids_of_text(model, text, n_bytes, flags, ids, n, &error), &error);
    if (status == CLI_OK) return status;
    free(*ids);
    *ids = NULL;
    return status;
}
