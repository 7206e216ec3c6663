/* exitlm.h: small language models on the CPU that stop a token's computation
 * at the shallowest layer that is already sure of it.
 * Method: F. Valade, "Accelerating Large Language Model Inference with
 * Self-Supervised Early Exits", arXiv 2407.21082.
 *
 * The shortest use (error handling left out):
 *
 *   exitlm_loader *loader; exitlm_model *model; exitlm_session *session;
 *   exitlm_loader_create(&loader, NULL, &error);
 *   while ((n = fread(bytes, 1, sizeof bytes, file)) > 0)
 *       exitlm_loader_push(loader, bytes, n, &error);
 *   exitlm_loader_finish(loader, &model, &error);
 *   exitlm_session_create(&session, model, NULL, &error);
 *   exitlm_session_chat(session, messages, 1, NULL, &error);
 *   while (exitlm_session_step(session, &event, &error) == EXITLM_OK &&
 *          event.type != EXITLM_EVENT_DONE)
 *       if (event.type == EXITLM_EVENT_TOKEN)
 *           fwrite(event.token.text, 1, event.token.text_bytes, stdout);
 *
 * Rules that hold for every function:
 *  - It returns an exitlm_status, USAGE where an object or a result is NULL; those that return none
 *    do nothing then. On a failure the caller's `error` (may be NULL) holds the same status and a
 *    sentence that says what, where and what to do; objects stay usable in the state that they had
 *    before, unless the function's comment says otherwise.
 *  - Nothing is printed, nothing exits or aborts, there is no global mutable
 *    state. Objects may be used from any thread, one thread at a time; several
 *    sessions may share one fully loaded model at the same time.
 *  - Memory comes from the caller's allocator, for a model and its session
 *    within the bound that exitlm_loader_memory tells before weights are
 *    read. Beside it are exit heads, and, only while the call runs, what a
 *    text takes: exitlm_session_chat the whole conversation once and 32 bytes
 *    for each message, tokenising
 *    at most 100 bytes for each of the text and 20 for each special token
 *    (byte-level vocabularies nothing, where the text is valid UTF-8 in words
 *    of up to 256 bytes).
 *  - Strings are UTF-8. Those that go out are valid until the next call on the
 *    same object unless stated otherwise. */
#ifndef EXITLM_H
#define EXITLM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EXITLM_VERSION "0.1.0"

/* ---- Status --------------------------------------------------------------
 * X(name, js_code). The one list from which the C enum, the names and the
 * codes of JavaScript's ExitLMError are derived. */
/* clang-format off */
#define EXITLM_STATUS_LIST(X)                                                \
    X(OK, "OK")                                                              \
    X(WAIT, "WAIT")                     /* weights needed that are not there \
                                           yet: push more, then call again */ \
    X(BAD_MODEL, "BAD_MODEL")           /* a file that breaks its format   */ \
    X(UNSUPPORTED, "UNSUPPORTED")       /* a valid file, not handled here  */ \
    X(HEADS_MISMATCH, "HEADS_MISMATCH") /* heads of another model          */ \
    X(CHECKSUM, "CHECKSUM")                                                  \
    X(OUT_OF_MEMORY, "OUT_OF_MEMORY")                                        \
    X(CONTEXT_FULL, "CONTEXT_FULL")     /* prompt longer than the context  */ \
    X(USAGE, "USAGE")                   /* an argument out of its range    */ \
    X(IO, "IO")                         /* the command line's files        */ \
    X(NETWORK, "NETWORK") X(HTTP, "HTTP")                                    \
    X(DISPOSED, "DISPOSED") X(WORKER, "WORKER") /* these four: JavaScript */
/* clang-format on */

typedef enum exitlm_status {
#define X(name, code) EXITLM_##name,
    EXITLM_STATUS_LIST(X)
#undef X
        EXITLM_STATUS_COUNT
} exitlm_status;

typedef struct exitlm_error {
    exitlm_status status;
    char message[508]; /* NUL-terminated, cut where too long */
} exitlm_error;

/* "BAD_MODEL", …; "?" for a value out of range. Static. */
const char *exitlm_status_name(exitlm_status status);

/* ---- Memory -------------------------------------------------------------- */
typedef struct exitlm_allocator {
    void *user;
    /* `bytes` > 0 of memory aligned to `align` (a power of two, <= 64), not
     * necessarily zeroed; NULL where there is none. */
    void *(*alloc)(void *user, size_t bytes, size_t align);
    /* Gives back what alloc gave; `bytes` as then. Never called with NULL. */
    void (*free)(void *user, void *memory, size_t bytes);
} exitlm_allocator;

/* ---- Objects -------------------------------------------------------------- */
typedef struct exitlm_heads exitlm_heads;     /* exit heads and their calibration */
typedef struct exitlm_loader exitlm_loader;   /* a model on its way in */
typedef struct exitlm_model exitlm_model;     /* weights and tokenizer, read-only */
typedef struct exitlm_session exitlm_session; /* K/V cache and one generation */
typedef struct exitlm_grammar exitlm_grammar; /* what a reply may say */

/* ---- Exit heads ----------------------------------------------------------- */
/* Reads a whole heads file (NAME.exits.gguf) from memory; the bytes are copied.
 * EXITLM_BAD_MODEL with name and offset for anything malformed. `allocator`
 * NULL: the C library's. Free after every model and session that uses it. */
exitlm_status exitlm_heads_create(exitlm_heads **heads, const void *bytes, size_t n_bytes,
                                  const exitlm_allocator *allocator, exitlm_error *error);
/* Adds the K/V maps of the whole file that `heads` is a part of, loaded
 * without them (they are most of it and only replies with the policy `maps`
 * want them); heads that have them stay as they are. Not while a call on a
 * session with these heads runs; replies that have begun go on as they were.
 * EXITLM_HEADS_MISMATCH for another file; on failure nothing has changed. */
exitlm_status exitlm_heads_add_maps(exitlm_heads *heads, const void *bytes, size_t n_bytes,
                                    exitlm_error *error);
void exitlm_heads_free(exitlm_heads *heads); /* NULL is allowed, here and below */

/* ---- Loading --------------------------------------------------------------- */
typedef struct exitlm_load_options {
    const exitlm_allocator *allocator; /* NULL: the C library's; copied */
    /* NULL: none. With heads, the embedding rows of their shortlist are laid first and the
     * fingerprint is compared as soon as the bytes that it covers are there. */
    const exitlm_heads *heads;
    /* refuse (OUT_OF_MEMORY) a model that needs more; 0: no limit */
    size_t max_bytes;
    bool header_only; /* stop after the header: no weights are allocated */
    /* The same, and of the (first) file's header only its keys, before the table of tensors: a model
     * of any architecture, or a vocabulary without weights, for exitlm_tokenize, exitlm_detokenize
     * and exitlm_apply_template. It takes no session. */
    bool vocabulary_only;
    /* size of the first file's header, padding included, where it is known: it is then read into
     * one block instead of one that grows, which leaves no gaps in memory. 0: not known. A wrong
     * number does no harm. */
    size_t header_bytes;
} exitlm_load_options;

exitlm_status exitlm_loader_create(exitlm_loader **loader, const exitlm_load_options *options,
                                   exitlm_error *error);

/* The next `n_bytes` of the file at the current position, in any chunking.
 * Bytes that are there already are skipped. After an error the loader only
 * can be freed. */
exitlm_status exitlm_loader_push(exitlm_loader *loader, const void *bytes, size_t n_bytes,
                                 exitlm_error *error);

/* Moves the position: file `part` (0 unless the model is split) and byte
 * `offset` in it. Only once the header of that part is known (offset 0 starts
 * a part). A position inside a tensor must be where its bytes stopped, or the
 * start of a row for the token embedding and the output matrix; else USAGE. */
exitlm_status exitlm_loader_seek(exitlm_loader *loader, uint32_t part, uint64_t offset,
                                 exitlm_error *error);

typedef struct exitlm_load_state {
    bool header_ready;      /* hyperparameters, tokenizer and tensor table are known */
    bool complete;          /* every weight is there */
    uint32_t part, n_parts; /* current file of a split model, and their number (1) */
    uint64_t offset;        /* position of the next byte */
    uint64_t header_bytes;  /* size of the header of this part, padding included; 0 until known */
    uint64_t total_bytes;   /* size of this part, from its tensor table; 0 until known */
    uint64_t loaded_bytes;  /* distinct bytes taken, over all parts */
    uint32_t layers, layers_ready; /* layers_ready: layers 0 … layers_ready-1 are complete */
} exitlm_load_state;
void exitlm_loader_state(const exitlm_loader *loader, exitlm_load_state *state);

/* One stretch of a file that belongs together, in the order of use. */
typedef struct exitlm_extent {
    uint32_t part;
    uint64_t offset, n_bytes;
    /* 0…: a layer; -1: norms and what every token needs; -2: shortlist rows; -3: other rows */
    int32_t layer;
    uint32_t row, n_rows; /* rows of the token embedding (or output matrix) for -2 and -3 */
    bool output;          /* rows of a separate output matrix */
} exitlm_extent;
/* The extents of the weights in the order in which generation needs them: -1, shortlist
 * rows in runs of the file, layers from 0, other rows in runs of at most 256 KiB, most
 * frequent first where that is known. They are disjoint and leave out what no token needs (padding,
 * unknown tensors). A shortlist may give thousands of runs: who pays for each request joins
 * neighbours, the bytes between them are taken as well. *n is the number; up to `capacity` are
 * written. Needs the header (of all parts). */
exitlm_status exitlm_loader_plan(const exitlm_loader *loader, exitlm_extent *extents,
                                 size_t capacity, size_t *n, exitlm_error *error);
/* The same a piece at a time: extents [capacity] are those from number `first` on; *n is the
 * number of all. */
exitlm_status exitlm_loader_plan_from(const exitlm_loader *loader, size_t first,
                                      exitlm_extent *extents, size_t capacity, size_t *n,
                                      exitlm_error *error);

/* The model as far as it is there: known after the header, usable for
 * sessions at once (they answer EXITLM_WAIT where weights are missing).
 * The loader keeps owning it until exitlm_loader_finish. NULL before the header. */
exitlm_model *exitlm_loader_model(const exitlm_loader *loader);

/* What of the model this engine lacks, a line each: "architecture mamba", "weight type IQ2_XXS",
 * "tokenizer bert", "pre-tokenizer kimi-k2". NUL-terminated, cut where `text` [capacity] is too
 * short; "" where nothing is missing or no header has been read. Also after a push has failed. */
void exitlm_loader_missing(const exitlm_loader *loader, char *text, size_t capacity);
/* A text of the header, as "general.name", not NUL-terminated; *n_bytes 0 where there is none. Also
 * after a push has failed; it lives as long as the loader, or its model. */
const char *exitlm_loader_text(const exitlm_loader *loader, const char *key, size_t *n_bytes);

/* Ends loading: *model is complete and now the caller's, and the loader is freed.
 * BAD_MODEL where bytes are missing (the loader stays, and more may be pushed). */
exitlm_status exitlm_loader_finish(exitlm_loader *loader, exitlm_model **model,
                                   exitlm_error *error);
void exitlm_loader_free(exitlm_loader *loader); /* with the model, if it still owns that */
void exitlm_model_free(exitlm_model *model);    /* after its sessions */

typedef struct exitlm_model_info {
    const char *name, *architecture, *licence, *quantisation; /* "" where the file does not say */
    const char *template_family; /* "chatml", "llama3", "zephyr", "gemma" or "" */
    uint32_t layers, dim, ffn_dim, heads, kv_heads, head_dim, vocab, context_tokens;
    /* multiply-adds of the matrices, one token */
    uint64_t parameters, weight_bytes, macs_per_token;
    int32_t bos, eos; /* begin-of-text and end-of-text; -1: none */
    bool add_bos;     /* a text begins with begin-of-text */
    /* hex SHA-256 of sizes, table of tensors, tokenizer and first weights (exactly: src/model/model.c);
     * "" until its bytes are there */
    char fingerprint[65];
} exitlm_model_info;
/* strings live as long as the model */
void exitlm_model_describe(const exitlm_model *model, exitlm_model_info *info);
/* The model's own chat template (Jinja), not NUL-terminated; *n_bytes 0 where there is none. */
const char *exitlm_model_chat_template(const exitlm_model *model, size_t *n_bytes);

/* ---- Text and tokens -------------------------------------------------------- */
enum { EXITLM_ADD_SPECIAL = 1, EXITLM_PARSE_SPECIAL = 2 };
/* Token ids of `text`. *n is the number of ids, also where `capacity` is smaller
 * (then the first `capacity` are written). EXITLM_ADD_SPECIAL: begin-of-text, and end-of-text
 * behind it, where the model wants them; EXITLM_PARSE_SPECIAL: special tokens in the text count
 * as such. */
exitlm_status exitlm_tokenize(const exitlm_model *model, const char *text, size_t n_bytes,
                              unsigned flags, int32_t *ids, size_t capacity, size_t *n,
                              exitlm_error *error);
/* The bytes of `n` tokens, special ones included; *n_bytes as for exitlm_tokenize. May be half a
 * character where the tokens are. USAGE for an id out of range. */
exitlm_status exitlm_detokenize(const exitlm_model *model, const int32_t *ids, size_t n, char *text,
                                size_t capacity, size_t *n_bytes, exitlm_error *error);

typedef struct exitlm_message {
    /* role: "system", "user", "assistant"; content: NUL-terminated UTF-8 */
    const char *role, *content;
} exitlm_message;
/* The prompt text of a conversation, by the family of the model's template; nothing in it tells
 * what messages say from the template's own tokens: exitlm_session_chat does. *n_bytes as above.
 * UNSUPPORTED where the family is unknown. */
exitlm_status exitlm_apply_template(const exitlm_model *model, const exitlm_message *messages,
                                    size_t n_messages, bool add_generation_prompt, char *text,
                                    size_t capacity, size_t *n_bytes, exitlm_error *error);

/* ---- Sessions ---------------------------------------------------------------- */
#define EXITLM_KV_TYPE_LIST(X) X(F32, "f32") X(F16, "f16") X(Q8, "q8")
/* How the K/V of layers that an exit skips is made. AUTO: of EXACT and MAPS, where the wanted level
 * is calibrated with them, the one that is expected to cost least, the same on every machine.
 * PROPAGATE is there to be compared with. */
#define EXITLM_KV_POLICY_LIST(X) \
    X(AUTO, "auto") X(EXACT, "exact") X(MAPS, "maps") X(PROPAGATE, "propagate")
#define EXITLM_MODE_LIST(X) X(FULL, "full") X(EXIT, "exit") X(LOSSLESS, "lossless")
#define EXITLM_METRIC_LIST(X) \
    X(ENTROPY, "entropy")     \
    X(MAXPROB, "maxprob") X(MARGIN, "margin") X(LOGISTIC, "logistic") X(REGRET, "regret")
#define EXITLM_STRATEGY_LIST(X)     \
    X(RISK, "risk")                 \
    X(MAX_COVERAGE, "max-coverage") \
    X(MIN_COVERAGE, "min-coverage") \
    X(MIDPOINT, "midpoint")         \
    X(PLATT, "platt")
#define X(name, text) EXITLM_KV_##name,
typedef enum exitlm_kv_type { EXITLM_KV_TYPE_LIST(X) EXITLM_KV_TYPE_COUNT } exitlm_kv_type;
#undef X
#define X(name, text) EXITLM_POLICY_##name,
typedef enum exitlm_kv_policy { EXITLM_KV_POLICY_LIST(X) EXITLM_POLICY_COUNT } exitlm_kv_policy;
#undef X
#define X(name, text) EXITLM_MODE_##name,
typedef enum exitlm_mode { EXITLM_MODE_LIST(X) EXITLM_MODE_COUNT } exitlm_mode;
#undef X
#define X(name, text) EXITLM_METRIC_##name,
typedef enum exitlm_metric { EXITLM_METRIC_LIST(X) EXITLM_METRIC_COUNT } exitlm_metric;
#undef X
#define X(name, text) EXITLM_STRATEGY_##name,
typedef enum exitlm_strategy { EXITLM_STRATEGY_LIST(X) EXITLM_STRATEGY_COUNT } exitlm_strategy;
#undef X

typedef struct exitlm_session_options {
    /* NULL: those given to the loader, if any. The fingerprint of others is compared, and the
     * session has a copy of their shortlist's output rows: the loader's need none */
    const exitlm_heads *heads;
    uint32_t context_tokens; /* 0: the model's, at most 2048 */
    exitlm_kv_type kv_type;
    uint32_t threads; /* 0 or 1: the caller's thread alone */
    /* NULL: the best of this machine; else a name of exitlm_kernel_name */
    const char *kernel;
    double (*clock_ms)(void *user); /* NULL: times are reported as negative */
    void *clock_user;
    /* NULL: threads of its own; else a session of the same model, whose threads this one shares:
     * only one of those that share computes at a time */
    const exitlm_session *beside;
} exitlm_session_options;

/* Bytes that the model (weights, tokenizer) and one session will take at most,
 * replies of any length included, from the header alone. Either pointer may be NULL.
 * USAGE where session_bytes is asked for and no session has such a context, K/V type, number of
 * threads or neighbour. */
exitlm_status exitlm_loader_memory(const exitlm_loader *loader,
                                   const exitlm_session_options *options, uint64_t *model_bytes,
                                   uint64_t *session_bytes, exitlm_error *error);

exitlm_status exitlm_session_create(exitlm_session **session, const exitlm_model *model,
                                    const exitlm_session_options *options, exitlm_error *error);
void exitlm_session_free(exitlm_session *session);
/* A session like this one, which goes on from the same place on its own: with its exactly
 * computed positions, and beside it (exitlm_session_options). A reply under way is not taken along.
 * It reads those positions where `session` has them, and takes memory for the rest of the context
 * only. Either may go on, go back, begin anew or be freed first; where both compute on the caller's
 * thread alone also at the same time, each in its thread.
 * What is shared lives until nobody reads it: a session that was freed, or has begun anew, may so leave
 * up to the bound of one session to its clones, until they go on. A session that goes back to before
 * where it was cloned, and goes on otherwise, takes memory for that anew; where there is none its next
 * start is OUT_OF_MEMORY, and it is as after exitlm_session_reset. */
exitlm_status exitlm_session_clone(exitlm_session **clone, const exitlm_session *session,
                                   exitlm_error *error);
uint32_t exitlm_session_context_tokens(const exitlm_session *session); /* its capacity */
/* what it computes with: "avx2", ... */
const char *exitlm_session_kernel(const exitlm_session *session);

/* Kernel sets that this build and machine can run, best first; NULL past the end. */
const char *exitlm_kernel_name(size_t index);

/* ---- Shaped replies ------------------------------------------------------------ */
/* A grammar is one JSON Schema, one regular expression or a list of tools against a model's
 * vocabulary. Each token of a reply is chosen among those that keep its text one that can still become one of the grammar's,
 * whatever the mode; where only one text can follow, its tokens are emitted without being computed.
 * The reply ends where the grammar says that it is complete; one that max_tokens or the context cuts
 * is incomplete (reason LENGTH). In mode EXIT such a reply is not certified.
 * What of JSON Schema and of regular expressions is understood stands in docs/shaped.md; else USAGE,
 * with the place. A grammar serves the replies of one thread, also several side by side, belongs to
 * the caller, and must outlive the replies that use it; the model must outlive the grammar. Its
 * memory, beside that of model and session, is taken when it is made: some 1.2 MB for 49,152 tokens,
 * and at most 20 MB for the largest that is taken. The first grammar of a model also
 * makes a tree of its vocabulary, 1.1 MB, which the model keeps. `allocator` NULL: the C library's. */
exitlm_status exitlm_grammar_from_schema(exitlm_grammar **grammar, const exitlm_model *model,
                                         const char *json, size_t n_bytes,
                                         const exitlm_allocator *allocator, exitlm_error *error);
enum { EXITLM_PATTERN_IGNORE_CASE = 1 /* of ASCII letters */, EXITLM_PATTERN_DOT_ALL = 2 };
exitlm_status exitlm_grammar_from_pattern(exitlm_grammar **grammar, const exitlm_model *model,
                                          const char *pattern, size_t n_bytes, unsigned flags,
                                          const exitlm_allocator *allocator, exitlm_error *error);
enum {
    EXITLM_TOOLS_LLAMA3 = 1, /* the form of calls, below */
    EXITLM_TOOLS_ONE = 2     /* one call at most */
};
/* Tools that a reply may call. json: a list of {"name", "description", "parameters"}, also in OpenAI's
 * form, {"type": "function", "function": {…}}; parameters is a JSON Schema of type object. choice:
 * NULL or "auto": text, calls, or both; "required": one call at least, from the first token on; else
 * the name of the one tool that is called, once. A call in the reply's text is, over three lines,
 * <tool_call>, {"name": "…", "arguments": {…}} and </tool_call>; with EXITLM_TOOLS_LLAMA3 the whole
 * reply is {"name": "…", "parameters": {…}}, where it begins with a brace. What the tools are the
 * prompt has to say (docs/tools.md). */
exitlm_status exitlm_grammar_from_tools(exitlm_grammar **grammar, const exitlm_model *model,
                                        const char *json, size_t n_bytes, const char *choice,
                                        unsigned flags, const exitlm_allocator *allocator,
                                        exitlm_error *error);
/* The same from options; zeroed ones, with exactly one of the three texts, are the defaults. USAGE with
 * none or several; what is not of its kind (choice and flags) is ignored; nothing of the options is
 * kept. */
typedef struct exitlm_grammar_options {
    const char *schema;  /* JSON */
    const char *pattern; /* a regular expression */
    const char *tools;   /* JSON */
    size_t n_bytes;      /* of the text; 0: it ends with a zero byte */
    const char *choice;  /* of tools */
    unsigned flags;      /* of a pattern or of tools */
} exitlm_grammar_options;
exitlm_status exitlm_grammar_create(exitlm_grammar **grammar, const exitlm_model *model,
                                    const exitlm_grammar_options *options,
                                    const exitlm_allocator *allocator, exitlm_error *error);
/* Replies go on from this text, which the prompt ends with, 4,096 bytes at most: with it before them they
 * are of the shape, white space of JSON apart. Between replies only. USAGE where no text of the shape
 * begins like that; the grammar begins with nothing then. */
exitlm_status exitlm_grammar_begin(exitlm_grammar *grammar, const char *text, size_t n_bytes,
                                   exitlm_error *error);
void exitlm_grammar_free(exitlm_grammar *grammar);

#define EXITLM_MAX_TOP_LOGPROBS 20
typedef struct exitlm_generate_options {
    exitlm_mode mode; /* EXIT and LOSSLESS need heads: else USAGE */
    /* wanted accuracy of mode EXIT, 0.5 … 1; 0: the heads' default_accuracy */
    float accuracy;
    exitlm_strategy strategy;
    exitlm_kv_policy kv;
    uint32_t max_tokens;  /* 0: up to the context's end */
    float temperature;    /* 0: greedy */
    uint32_t top_k;       /* 0: all */
    float top_p;          /* 0 or 1: all */
    float min_p;          /* 0: all */
    float repeat_penalty; /* 0 or 1: none; over the last 64 tokens */
    uint64_t seed;
    const char *const *stop; /* stop strings, not emitted; copied */
    size_t n_stop;
    /* Share of the exits that is verified with the full model's choice in the same context, 0 … 1:
     * what a level promises. The K/V policy is then EXACT; another one is refused with it, since what
     * its K and V make wrong, here and in tokens of the last layer, would not be seen. */
    float audit;
    /* LOSSLESS: most drafts before a verification, which are made wherever a head's uncertainty is
     * under its threshold; 0: where they pay, up to 7 */
    uint32_t max_draft;
    /* LOSSLESS: LayerSkip's fixed exit layer (layers run); 0: adaptive */
    int32_t draft_layer;
    uint32_t draft_length; /*   and its fixed length */
    int32_t draft_sources; /* LOSSLESS: bit 0 exits, bit 1 prompt lookup; 0: both */
    /* NULL: from the calibration table; else one uncertainty per head, an exit where the head's is
     * below it (calibration uses this; copied) */
    const float *thresholds;
    /* EXIT: NULL, or a row of the caller's own calibration (copied). It goes before the table's where
     * it is good for the accuracy, unless one of these fits the K/V type and temperature better. */
    const struct exitlm_level *level;
    /* EXIT: the heads' K/V maps are still to come (exitlm_heads_add_maps). A reply that would use them
     * does not start without them: EXITLM_WAIT, and nothing has changed. */
    bool maps_come;
    bool events;             /* also DRAFT, ACCEPT and REJECT events */
    exitlm_grammar *grammar; /* NULL: any text */
    /* TOKEN events carry log-probabilities: of the token and of the top_logprobs likeliest, at most
     * EXITLM_MAX_TOP_LOGPROBS. That takes 4 bytes for each entry of the vocabulary and 8 for each
     * of these, of each token that the reply may have, until the session's next reply. */
    bool logprobs;
    uint32_t top_logprobs;
} exitlm_generate_options;
/* All zero: greedy, mode FULL, K/V policy AUTO. */
void exitlm_generate_defaults(exitlm_generate_options *options);

typedef enum exitlm_event_type {
    EXITLM_EVENT_PROGRESS, /* a slice of work is done: a good moment to look for a stop */
    EXITLM_EVENT_TOKEN,
    EXITLM_EVENT_DRAFT,
    EXITLM_EVENT_ACCEPT,
    EXITLM_EVENT_REJECT,
    EXITLM_EVENT_DONE
} exitlm_event_type;

typedef enum exitlm_reason {
    EXITLM_REASON_STOP,
    EXITLM_REASON_LENGTH,
    EXITLM_REASON_ABORT
} exitlm_reason;

typedef struct exitlm_logprob {
    int32_t id;
    float logprob;
} exitlm_logprob;

typedef struct exitlm_token {
    uint32_t index; /* 0, 1, … in this reply */
    int32_t id;
    const char *text; /* whole characters only; may be empty while a character is incomplete */
    size_t text_bytes;
    uint32_t layer, of; /* layers run for this token, of so many */
    /* share of a full token's multiply-adds when it was emitted, failed checks included */
    float work;
    int32_t head; /* index in the chain; -1: the model's own final head */
    /* 1 - uncertainty of the deciding head, 0 … 1; for -1: the largest probability */
    float confidence;
    bool drafted;
    bool forced;    /* the grammar left no choice: no layer was run for it (head -1, work 0) */
    bool disagreed; /* with `audit`: an exit where the full model would have chosen another token */
    int32_t draft_head; /* of a drafted token: the head, or -2: prompt lookup */
    /* since the previous token (the first: since the start); negative: no clock */
    double ms;
    /* With `logprobs`: the natural logarithm of the token's probability, and the likeliest tokens,
     * best first. They are of who chose it: for head -1 the softmax of the model's logits over the
     * whole vocabulary (in LOSSLESS as in FULL), for an exit that over its shortlist, the tokens of
     * the context and "other". Both before a grammar, a penalty, a temperature or a cut. A forced
     * token has 0 and no others. */
    float logprob;
    const exitlm_logprob *top;
    uint32_t n_top;
} exitlm_token;

#define EXITLM_MAX_HEADS 8
typedef struct exitlm_stats {
    exitlm_reason reason;
    uint32_t prompt_tokens, reused_tokens, completion_tokens;
    /* negative: no clock, or fewer than two tokens */
    double prompt_ms, decode_ms, tokens_per_second;
    /* mean_work counts all that was done after the prompt */
    double mean_depth, mean_work;
    uint32_t exits[EXITLM_MAX_HEADS]; /* tokens that head i answered */
    uint32_t full_tokens;             /* the model's own */
    uint32_t forced_tokens;           /* and those that a grammar left no choice about */
    uint32_t draft_attempts, drafted, accepted;
    uint32_t audited, audit_disagreed;
    /* the reply lies inside what its accuracy is certified for; always in FULL and LOSSLESS */
    bool certified;
    const char *uncertified; /* else why not, in a few words; "". Static */
    const char *text;        /* the whole reply, NUL-terminated */
    size_t text_bytes;
} exitlm_stats;

typedef struct exitlm_event {
    exitlm_event_type type;
    /* PROGRESS, TOKEN: tokens of the prompt through all layers, and of the prompt */
    uint32_t prompt_done, prompt_total;
    /* TOKEN; DRAFT/ACCEPT/REJECT: id, text, layer, head, confidence, draft_head */
    exitlm_token token;
    exitlm_stats stats; /* DONE */
} exitlm_event;

/* Starts a reply to the token ids `ids` (the whole context, from its first
 * token). The K/V cache of the longest common prefix with what the session holds is
 * re-used (only exactly computed positions in modes FULL and LOSSLESS).
 * A reply that is under way is ended. CONTEXT_FULL where n >= context_tokens. */
exitlm_status exitlm_session_start(exitlm_session *session, const int32_t *ids, size_t n,
                                   const exitlm_generate_options *options, exitlm_error *error);
/* The same from messages or text, through template and tokenizer. An
 * assistant turn whose text is unchanged re-uses its generated ids. `options` NULL: the defaults.
 * Begin-of-text comes first where the model wants it; end-of-text never ends a prompt. "<|im_end|>"
 * and the like in what a message says are text, not tokens: a stranger's message cannot end its
 * turn. */
exitlm_status exitlm_session_chat(exitlm_session *session, const exitlm_message *messages,
                                  size_t n_messages, const exitlm_generate_options *options,
                                  exitlm_error *error);
exitlm_status exitlm_session_text(exitlm_session *session, const char *text, size_t n_bytes,
                                  bool parse_special, const exitlm_generate_options *options,
                                  exitlm_error *error);

/* Does a bounded piece of work (a few layers of a prompt chunk, or one token)
 * and says what happened. EXITLM_WAIT: weights are missing (see
 * exitlm_session_needs); nothing is lost, call again later. After DONE further
 * calls give DONE again. Allocates nothing, but where a grammar's text has to be tokenised and the
 * vocabulary is not byte-level; OUT_OF_MEMORY then, and it may be called again. */
exitlm_status exitlm_session_step(exitlm_session *session, exitlm_event *event,
                                  exitlm_error *error);

/* One session's part of a step that several take together. */
typedef struct exitlm_turn {
    exitlm_session *session; /* in; each a different one, all of one model */
    exitlm_status status;    /* out: as exitlm_session_step returns it for this session */
    exitlm_event event;
    exitlm_error error;
} exitlm_turn;
#define EXITLM_MAX_TURNS 32
/* exitlm_session_step for n sessions with a reply under way, 1 … EXITLM_MAX_TURNS: those that write a
 * token are taken through the layers together, which costs less than one after the other; prompts
 * are read in slices between, so nobody waits for another's. What a reply says does not depend on
 * who else is there. The session with the largest context lends its scratch and its threads. What
 * goes wrong with one session stands in its turn; USAGE (nothing is done) for turns that cannot be
 * taken together. Allocates nothing. */
exitlm_status exitlm_sessions_step(exitlm_turn *turns, size_t n, exitlm_error *error);

/* What the last EXITLM_WAIT waits for: *layer >= 0, or *layer = -1 and a row of
 * the embedding (token id), or *layer = -2: all rows of the output matrix. */
void exitlm_session_needs(const exitlm_session *session, int32_t *layer, int32_t *row);

/* Ends the reply under way; the next step gives DONE with reason ABORT (the text so far is
 * kept). */
void exitlm_session_stop(exitlm_session *session);

/* Forgets all K/V. */
void exitlm_session_reset(exitlm_session *session);

/* Take and give exactly `n_bytes`; false: they cannot. */
typedef bool (*exitlm_write)(void *user, const void *bytes, size_t n_bytes);
typedef bool (*exitlm_read)(void *user, void *bytes, size_t n_bytes);
/* Writes what the session holds of its conversation: the exactly computed positions (in mode EXIT the
 * last ones may be left out: they are computed again), their ids, the last reply's text by which the
 * next turn knows its ids, the model's fingerprint, a checksum. As many bytes as the K/V cache takes
 * for these positions, and some more. For little-endian machines. WAIT while the fingerprint is not
 * known, IO where `write` returns false. */
exitlm_status exitlm_session_save(const exitlm_session *session, exitlm_write write, void *user,
                                  exitlm_error *error);
/* Puts it into a session of the same model, K/V type and a large enough context, in place of what that
 * held. BAD_MODEL where the bytes end too early or are nothing that was saved, CHECKSUM where they
 * are damaged, USAGE where they are of another model or K/V type, UNSUPPORTED of another version of
 * the engine, CONTEXT_FULL where the context is too small; the session is then empty. The bytes may come from anybody: whatever they are, nothing breaks. The
 * checksum tells damage, not malice: who can change them can change what the model seems to have
 * read. */
exitlm_status exitlm_session_restore(exitlm_session *session, exitlm_read read, void *user,
                                     exitlm_error *error);

/* Teacher-forced log-probabilities: for positions 1 … n-1 calls `visit` with the
 * logits [vocab] for that position given the tokens before it. Batched; the session's K/V is
 * overwritten. Stops early where `visit` returns false. */
exitlm_status exitlm_session_score(exitlm_session *session, const int32_t *ids, size_t n,
                                   bool (*visit)(void *user, size_t position, const float *logits),
                                   void *user, exitlm_error *error);

typedef struct exitlm_head_info {
    uint32_t layer;   /* layers run before this head */
    uint32_t rows;    /* static shortlist */
    const char *form; /* "tied", "mlp", "full", "lens", "vocabulary" */
    uint64_t macs;    /* multiply-adds of one check */
} exitlm_head_info;
typedef struct exitlm_heads_info {
    uint32_t n_heads;
    exitlm_head_info head[EXITLM_MAX_HEADS];
    exitlm_metric metric;
    exitlm_kv_policy kv;
    exitlm_kv_type kv_type;
    /* the level where none is asked for: the one that the file names, else its strictest certified
     * one, else 1 (nothing exits) */
    float default_accuracy;
    const char *fingerprint, *licence, *data, *engine_version;
} exitlm_heads_info;
void exitlm_heads_describe(const exitlm_heads *heads, exitlm_heads_info *info);
/* K/V maps, which may come later: exitlm_heads_add_maps */
bool exitlm_heads_have_maps(const exitlm_heads *heads);

/* One row of the calibration: what a level of a strategy promises. A level that was not tried has
 * no row. */
typedef struct exitlm_level {
    exitlm_strategy strategy;
    float accuracy; /* the level, e.g. 0.95 */
    bool certified; /* false: uncertifiable (no thresholds) */
    /* risk: 1 - accuracy holds with confidence 1 - delta; an upper estimate of the disagreement,
     * made after these thresholds were chosen */
    float delta, bound;
    /* exit where uncertainty < threshold; 0: this head never exits */
    float threshold[EXITLM_MAX_HEADS];
    float coverage[EXITLM_MAX_HEADS];  /* share of the calibration tokens that exit at each head */
    float agreement, agreement_exited; /* mean over conversations, measured */
    uint32_t conversations, tokens;
    exitlm_kv_policy kv; /* what it was calibrated with, and so is good for */
    /* Regret of a token: by how many logits the full model preferred its own choice in the same
     * context, as a share of 8; 0 up to 0.5, a near-tie. Measured mean, its upper bound at
     * 1 - delta, and the share of tokens that have any. All 1 where nobody has measured it. */
    float regret, regret_bound, unwanted;
    /* And what else it is good for: replies with this K/V type, drawn at up to this temperature by
     * the noise that the full model draws with (0: greedy), of up to so many tokens. */
    exitlm_kv_type kv_type;
    float temperature;
    uint32_t max_tokens;
    /* The last head's threshold for the first token of a reply, where it stands after the last layer,
     * so that a first word need not wait for the whole output matrix; 0: the same as for others. */
    float first_threshold;
} exitlm_level;
size_t exitlm_heads_levels(const exitlm_heads *heads); /* number of rows in the table */
exitlm_status exitlm_heads_level(const exitlm_heads *heads, size_t index, exitlm_level *level,
                                 exitlm_error *error);

#ifdef __cplusplus
}
#endif
#endif
