/* A model, its heads and a session, opened for a command. */
#ifndef CLI_ENGINE_H
#define CLI_ENGINE_H
#include "exitlm.h"
#include "model/heads.h"
#include "options.h"

typedef struct cli_engine_options {
    /* a file, "none", or NULL: NAME.exits.gguf beside the model if it is there */
    const char *heads;
    /* what cannot do without heads, as "--mode exit"; NULL: nothing (not an option) */
    const char *heads_for;
    uint32_t threads;
    uint32_t ctx; /* 0: the engine's default */
    int kv_type; /* exitlm_kv_type; -1: the platform's, f32 where the heads are certified without it */
    float temperature;   /* that replies are drawn at (not an option) */
    float accuracy;      /* of drawn ones; 0: the heads' default (not an option) */
    const char *kernel;  /* NULL: the best */
    uint64_t max_memory; /* bytes for weights and session; 0: no limit */
} cli_engine_options;

/* Those that replies may be asked for: AUTO, EXACT, MAPS. */
extern const char *const cli_reply_policies[];
extern const char *const cli_modes[];

/* Rows of a table whose struct has the cli_engine_options `engine`. */
#define CLI_HEADS_OPTION                                    \
    CLI_VALUE(TEXT, 0, "heads", engine.heads, "FILE", NULL, \
              "exit heads, or none; default: NAME.exits.gguf beside the model, if it is there")
/* K/V of replies; and K/V of what is the same on every platform: scores, heads. */
#define CLI_REPLY_KV_OPTION                                                                   \
    CLI_ONE_OF("kv-type", engine.kv_type, xl_kv_type_names, NULL,                             \
               "numbers of the K/V cache; default: f16, or f32 in WebAssembly and where the " \
               "heads are certified for such replies with other types alone")
#define CLI_EXACT_KV_OPTION \
    CLI_ONE_OF("kv-type", engine.kv_type, xl_kv_type_names, "f32", "numbers of the K/V cache")
#define CLI_ENGINE_OPTIONS                                                                    \
    CLI_VALUE(THREADS, 0, "threads", engine.threads, "N", "1", "threads that compute"),       \
        CLI_RANGE(COUNT, "ctx", engine.ctx, "N", 2, 1048576, NULL,                            \
                  "context in tokens; default: the model's, at most 2048"),                   \
        CLI_VALUE(TEXT, 0, "kernel", engine.kernel, "NAME", NULL,                             \
                  "instruction set to compute with, as scalar or avx2; default: the best of " \
                  "this machine"),                                                            \
        CLI_VALUE(BYTES, 0, "max-memory", engine.max_memory, "SIZE", NULL,                    \
                  "refuse a model that needs more for weights and context, as 100M")

typedef struct cli_engine {
    exitlm_heads *heads;          /* or NULL */
    exitlm_heads_info heads_info; /* where there are heads */
    char *heads_file;             /* their file, or NULL */
    exitlm_loader *loader;        /* while the model is not complete (CLI_HEADER) */
    exitlm_model *model;
    exitlm_model_info info;
    exitlm_session *session;
    exitlm_kv_type kv_type; /* of sessions */
    const char *kernel;     /* the one in use */
    uint32_t threads;
    double load_ms; /* reading and laying out the weights */
} cli_engine;

enum cli_engine_need {
    CLI_VOCABULARY, /* the tokenizer alone, from a header of any architecture */
    CLI_HEADER,     /* hyperparameters and tokenizer: no weights are read */
    CLI_WEIGHTS,    /* the whole model */
    CLI_SESSION     /* and a session */
};

/* Opens what is needed. 0, or the exit status of a failure that has been reported.
 * cli_engine_close either way. */
int cli_engine_open(cli_engine *engine, const char *model, const cli_engine_options *options,
                    enum cli_engine_need need);
/* A (further) session with the same options but another context (0: theirs). */
int cli_engine_session(const cli_engine *engine, const cli_engine_options *options, uint32_t ctx,
                       exitlm_session **session);
void cli_engine_close(cli_engine *engine);

/* What replies a row of the table is for: "exact", "exact, q8", "exact, drawn to 0.7, to 384
 * tokens". */
void cli_print_use(const exitlm_level *level);

/* Warns where no exits will be taken at this accuracy: above the strictest certified level of
 * the strategy (kv AUTO: with any K/V policy). Needs heads. */
void cli_engine_check_level(const cli_engine *engine, exitlm_strategy strategy, float accuracy,
                            exitlm_kv_policy kv);

/* Ids of a text: *ids is fresh memory. flags as for exitlm_tokenize. 0, or the status of a
 * reported failure. */
int cli_tokenize(const exitlm_model *model, const char *text, size_t n_bytes, unsigned flags,
                 int32_t **ids, size_t *n);

#endif
