/* bindings: what JavaScript calls. With inside.c, which looks inside, and pool.c, the threads, all
 * that knows of WebAssembly.
 *
 * Each export is a thin cover of one function of exitlm.h. It adds what the
 * boundary needs and nothing else:
 *  - 64-bit numbers cross as doubles (offsets and sizes are below 2^53),
 *  - a creator returns the object, or NULL with the caller's `error` filled,
 *  - the layout of every struct that crosses, and the names behind every enum,
 *    are handed out as tables (exitlm_wasm_fields, exitlm_wasm_names). JavaScript
 *    knows no offset and no number by heart.
 * Memory for arguments is the caller's: exitlm_wasm_alloc and _free. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/risk.h"
#include "base/sha256.h"
#include "exitlm.h"
#include "export.h"
#include "model/model.h"
#include "reply/session.h"

/* ---- Constants and layouts ------------------------------------------------ */
/* Rows of one list follow each other in the order of the enum's values. */
typedef struct wasm_name {
    const char *list, *name;
} wasm_name;

static const wasm_name names[] = {
#define X(name, code) {"status", code},
    EXITLM_STATUS_LIST(X)
#undef X
#define X(name, text) {"kvType", text},
        EXITLM_KV_TYPE_LIST(X)
#undef X
#define X(name, text) {"kv", text},
            EXITLM_KV_POLICY_LIST(X)
#undef X
#define X(name, text) {"mode", text},
                EXITLM_MODE_LIST(X)
#undef X
#define X(name, text) {"metric", text},
                    EXITLM_METRIC_LIST(X)
#undef X
#define X(name, text) {"strategy", text},
                        EXITLM_STRATEGY_LIST(X)
#undef X
                            {NULL, NULL},
};

/* These two enums have no X-macro: designated initialisers keep value and name together. */
#define EVENT(name, text) [EXITLM_EVENT_##name] = text
#define REASON(name, text) [EXITLM_REASON_##name] = text
static const char *const event_names[] = {
    EVENT(PROGRESS, "progress"), EVENT(TOKEN, "token"),   EVENT(DRAFT, "draft"),
    EVENT(ACCEPT, "accept"),     EVENT(REJECT, "reject"), EVENT(DONE, "done"),
};
static const char *const reason_names[] = {REASON(STOP, "stop"), REASON(LENGTH, "length"),
                                           REASON(ABORT, "abort")};

const wasm_name *EXPORT(exitlm_wasm_names)(void) { return names; }
/* Name number `index` of the events (list 0) or the reasons (list 1); NULL past the end. */
const char *EXPORT(exitlm_wasm_event_name)(uint32_t list, uint32_t index) {
    if (list == 0)
        return index < sizeof event_names / sizeof *event_names ? event_names[index] : NULL;
    return index < sizeof reason_names / sizeof *reason_names ? reason_names[index] : NULL;
}

typedef enum wasm_kind {
    KIND_U8,
    KIND_U32,
    KIND_I32,
    KIND_U64,
    KIND_F32,
    KIND_F64,
    KIND_POINTER,
    KIND_CHARS,
    KIND_STRUCT
} wasm_kind;

/* One field; a struct begins with a row whose `field` is NULL and whose `offset` is its size.
 * `nested`: the struct's name for KIND_STRUCT. count > 1: an array. Ends with `structure` NULL. */
typedef struct wasm_field {
    const char *structure, *field, *nested;
    uint32_t offset, kind, count;
} wasm_field;

#define KIND_OF(x)                  \
    _Generic((x),                   \
        bool: KIND_U8,              \
        uint32_t: KIND_U32,         \
        int32_t: KIND_I32,          \
        uint64_t: KIND_U64,         \
        float: KIND_F32,            \
        double: KIND_F64,           \
        const char *: KIND_POINTER, \
        void *: KIND_POINTER,       \
        unsigned long: KIND_U32,    \
        default: KIND_POINTER)
#define STRUCT(s) {#s, NULL, NULL, sizeof(exitlm_##s), 0, 1}
#define FIELD(s, f) {#s, #f, NULL, offsetof(exitlm_##s, f), KIND_OF(((exitlm_##s *)0)->f), 1}
#define ARRAY(s, f)                    \
    {#s,                               \
     #f,                               \
     NULL,                             \
     offsetof(exitlm_##s, f),          \
     KIND_OF(((exitlm_##s *)0)->f[0]), \
     sizeof((exitlm_##s *)0)->f / sizeof((exitlm_##s *)0)->f[0]}
#define CHARS(s, f) {#s, #f, NULL, offsetof(exitlm_##s, f), KIND_CHARS, sizeof((exitlm_##s *)0)->f}
#define NESTED(s, f, t, n) {#s, #f, #t, offsetof(exitlm_##s, f), KIND_STRUCT, n}

static const wasm_field fields[] = {
    STRUCT(error),
    FIELD(error, status),
    CHARS(error, message),

    STRUCT(load_state),
    FIELD(load_state, header_ready),
    FIELD(load_state, complete),
    FIELD(load_state, part),
    FIELD(load_state, n_parts),
    FIELD(load_state, offset),
    FIELD(load_state, header_bytes),
    FIELD(load_state, total_bytes),
    FIELD(load_state, loaded_bytes),
    FIELD(load_state, layers),
    FIELD(load_state, layers_ready),

    STRUCT(extent),
    FIELD(extent, part),
    FIELD(extent, offset),
    FIELD(extent, n_bytes),
    FIELD(extent, layer),
    FIELD(extent, row),
    FIELD(extent, n_rows),
    FIELD(extent, output),

    STRUCT(model_info),
    FIELD(model_info, name),
    FIELD(model_info, architecture),
    FIELD(model_info, licence),
    FIELD(model_info, quantisation),
    FIELD(model_info, template_family),
    FIELD(model_info, layers),
    FIELD(model_info, dim),
    FIELD(model_info, ffn_dim),
    FIELD(model_info, heads),
    FIELD(model_info, kv_heads),
    FIELD(model_info, head_dim),
    FIELD(model_info, vocab),
    FIELD(model_info, context_tokens),
    FIELD(model_info, parameters),
    FIELD(model_info, weight_bytes),
    FIELD(model_info, macs_per_token),
    CHARS(model_info, fingerprint),

    STRUCT(session_options),
    FIELD(session_options, heads),
    FIELD(session_options, context_tokens),
    FIELD(session_options, kv_type),
    FIELD(session_options, threads),
    FIELD(session_options, kernel),
    FIELD(session_options, beside),

    STRUCT(generate_options),
    FIELD(generate_options, mode),
    FIELD(generate_options, accuracy),
    FIELD(generate_options, strategy),
    FIELD(generate_options, kv),
    FIELD(generate_options, max_tokens),
    FIELD(generate_options, temperature),
    FIELD(generate_options, top_k),
    FIELD(generate_options, top_p),
    FIELD(generate_options, min_p),
    FIELD(generate_options, repeat_penalty),
    FIELD(generate_options, seed),
    FIELD(generate_options, stop),
    FIELD(generate_options, n_stop),
    FIELD(generate_options, audit),
    FIELD(generate_options, max_draft),
    FIELD(generate_options, draft_layer),
    FIELD(generate_options, draft_length),
    FIELD(generate_options, draft_sources),
    FIELD(generate_options, thresholds),
    FIELD(generate_options, level),
    FIELD(generate_options, maps_come),
    FIELD(generate_options, events),
    FIELD(generate_options, grammar),
    FIELD(generate_options, logprobs),
    FIELD(generate_options, top_logprobs),

    STRUCT(logprob),
    FIELD(logprob, id),
    FIELD(logprob, logprob),

    STRUCT(token),
    FIELD(token, index),
    FIELD(token, id),
    FIELD(token, text),
    FIELD(token, text_bytes),
    FIELD(token, layer),
    FIELD(token, of),
    FIELD(token, work),
    FIELD(token, head),
    FIELD(token, confidence),
    FIELD(token, drafted),
    FIELD(token, forced),
    FIELD(token, disagreed),
    FIELD(token, draft_head),
    FIELD(token, ms),
    FIELD(token, logprob),
    FIELD(token, top),
    FIELD(token, n_top),

    STRUCT(stats),
    FIELD(stats, reason),
    FIELD(stats, prompt_tokens),
    FIELD(stats, reused_tokens),
    FIELD(stats, completion_tokens),
    FIELD(stats, prompt_ms),
    FIELD(stats, decode_ms),
    FIELD(stats, tokens_per_second),
    FIELD(stats, mean_depth),
    FIELD(stats, mean_work),
    ARRAY(stats, exits),
    FIELD(stats, full_tokens),
    FIELD(stats, forced_tokens),
    FIELD(stats, draft_attempts),
    FIELD(stats, drafted),
    FIELD(stats, accepted),
    FIELD(stats, audited),
    FIELD(stats, audit_disagreed),
    FIELD(stats, certified),
    FIELD(stats, uncertified),
    FIELD(stats, text),
    FIELD(stats, text_bytes),

    STRUCT(event),
    FIELD(event, type),
    FIELD(event, prompt_done),
    FIELD(event, prompt_total),
    NESTED(event, token, token, 1),
    NESTED(event, stats, stats, 1),

    STRUCT(turn),
    FIELD(turn, session),
    FIELD(turn, status),
    NESTED(turn, event, event, 1),
    NESTED(turn, error, error, 1),

    STRUCT(head_info),
    FIELD(head_info, layer),
    FIELD(head_info, rows),
    FIELD(head_info, form),
    FIELD(head_info, macs),

    STRUCT(heads_info),
    FIELD(heads_info, n_heads),
    NESTED(heads_info, head, head_info, EXITLM_MAX_HEADS),
    FIELD(heads_info, metric),
    FIELD(heads_info, kv),
    FIELD(heads_info, kv_type),
    FIELD(heads_info, default_accuracy),
    FIELD(heads_info, fingerprint),
    FIELD(heads_info, licence),
    FIELD(heads_info, data),
    FIELD(heads_info, engine_version),

    STRUCT(level),
    FIELD(level, strategy),
    FIELD(level, accuracy),
    FIELD(level, certified),
    FIELD(level, delta),
    FIELD(level, bound),
    ARRAY(level, threshold),
    FIELD(level, first_threshold),
    ARRAY(level, coverage),
    FIELD(level, agreement),
    FIELD(level, agreement_exited),
    FIELD(level, conversations),
    FIELD(level, tokens),
    FIELD(level, kv),
    FIELD(level, regret),
    FIELD(level, regret_bound),
    FIELD(level, unwanted),
    FIELD(level, kv_type),
    FIELD(level, temperature),
    FIELD(level, max_tokens),

    {NULL, NULL, NULL, 0, 0, 0},
};

const wasm_field *EXPORT(exitlm_wasm_fields)(void) { return fields; }
const char *EXPORT(exitlm_wasm_version)(void) { return EXITLM_VERSION; }
const char *EXPORT(exitlm_wasm_kernel_name)(uint32_t index) { return exitlm_kernel_name(index); }

/* ---- Memory ---------------------------------------------------------------- */
/* 64-byte aligned; NULL where there is none. */
void *EXPORT(exitlm_wasm_alloc)(size_t bytes) {
    if (bytes > SIZE_MAX - 64) return NULL;
    return aligned_alloc(64, (bytes + 63) / 64 * 64 + (bytes == 0 ? 64 : 0));
}
void EXPORT(exitlm_wasm_free)(void *memory) { free(memory); }

/* ---- Loading ---------------------------------------------------------------- */
exitlm_heads *EXPORT(exitlm_wasm_heads_create)(const void *bytes, size_t n_bytes,
                                               exitlm_error *error) {
    exitlm_heads *heads = NULL;
    return exitlm_heads_create(&heads, bytes, n_bytes, NULL, error) == EXITLM_OK ? heads : NULL;
}
exitlm_status EXPORT(exitlm_wasm_heads_add_maps)(exitlm_heads *heads, const void *bytes,
                                                 size_t n_bytes, exitlm_error *error) {
    return exitlm_heads_add_maps(heads, bytes, n_bytes, error);
}
bool EXPORT(exitlm_wasm_heads_have_maps)(const exitlm_heads *heads) {
    return exitlm_heads_have_maps(heads);
}
void EXPORT(exitlm_wasm_heads_free)(exitlm_heads *heads) { exitlm_heads_free(heads); }
void EXPORT(exitlm_wasm_heads_describe)(const exitlm_heads *heads, exitlm_heads_info *info) {
    exitlm_heads_describe(heads, info);
}
size_t EXPORT(exitlm_wasm_heads_levels)(const exitlm_heads *heads) {
    return exitlm_heads_levels(heads);
}
exitlm_status EXPORT(exitlm_wasm_heads_level)(const exitlm_heads *heads, size_t index,
                                              exitlm_level *level, exitlm_error *error) {
    return exitlm_heads_level(heads, index, level, error);
}

/* only: 1 the header, 2 the vocabulary, 0 all. */
exitlm_loader *EXPORT(exitlm_wasm_loader_create)(const exitlm_heads *heads, double max_bytes,
                                                 double header_bytes, unsigned only,
                                                 exitlm_error *error) {
    exitlm_loader *loader = NULL;
    size_t limit = max_bytes >= (double)SIZE_MAX ? 0 : (size_t)max_bytes,
           header = header_bytes >= (double)SIZE_MAX ? 0 : (size_t)header_bytes;
    exitlm_load_options options = {.heads = heads,
                                   .max_bytes = limit,
                                   .header_only = only == 1,
                                   .vocabulary_only = only == 2,
                                   .header_bytes = header};
    return exitlm_loader_create(&loader, &options, error) == EXITLM_OK ? loader : NULL;
}
exitlm_status EXPORT(exitlm_wasm_loader_push)(exitlm_loader *loader, const void *bytes,
                                              size_t n_bytes, exitlm_error *error) {
    return exitlm_loader_push(loader, bytes, n_bytes, error);
}
exitlm_status EXPORT(exitlm_wasm_loader_seek)(exitlm_loader *loader, uint32_t part, double offset,
                                              exitlm_error *error) {
    return exitlm_loader_seek(loader, part, (uint64_t)offset, error);
}
/* Bytes of a packed model, whose files are stretches of the original one after the other: those
 * from `at` on of such a file. A span is four numbers: where it begins in the file, its part, its
 * offset there, its length; what none of them covers is passed over. A chunk is hundreds of them,
 * and each call from JavaScript takes longer than the bytes of one. */
exitlm_status EXPORT(exitlm_wasm_loader_scatter)(exitlm_loader *loader, const double (*spans)[4],
                                                 size_t n_spans, double at, const uint8_t *bytes,
                                                 size_t n_bytes, exitlm_error *error) {
    const double end = at + (double)n_bytes;
    exitlm_status status = EXITLM_OK;
    for (size_t i = 0; i < n_spans && status == EXITLM_OK; i++) {
        const double start = spans[i][0], stop = start + spans[i][3];
        const double from = start > at ? start : at, to = stop < end ? stop : end;
        if (!(from < to)) continue;
        status = exitlm_loader_seek(loader, (uint32_t)spans[i][1],
                                    (uint64_t)(spans[i][2] + (from - start)), error);
        if (status == EXITLM_OK)
            status =
                exitlm_loader_push(loader, bytes + (size_t)(from - at), (size_t)(to - from), error);
    }
    return status;
}
void EXPORT(exitlm_wasm_loader_state)(const exitlm_loader *loader, exitlm_load_state *state) {
    exitlm_loader_state(loader, state);
}
/* The extents from number `first` on: a piece of the plan takes less memory than all of it. */
exitlm_status EXPORT(exitlm_wasm_loader_plan)(const exitlm_loader *loader, size_t first,
                                              exitlm_extent *extents, size_t capacity, size_t *n,
                                              exitlm_error *error) {
    return exitlm_loader_plan_from(loader, first, extents, capacity, n, error);
}
exitlm_model *EXPORT(exitlm_wasm_loader_model)(const exitlm_loader *loader) {
    return exitlm_loader_model(loader);
}
/* sizes[0]: bytes of the model, sizes[1]: of one session. */
exitlm_status EXPORT(exitlm_wasm_loader_memory)(const exitlm_loader *loader,
                                                const exitlm_session_options *options,
                                                double sizes[2], exitlm_error *error) {
    uint64_t model_bytes = 0, session_bytes = 0;
    exitlm_status status =
        exitlm_loader_memory(loader, options, &model_bytes, &session_bytes, error);
    sizes[0] = (double)model_bytes;
    sizes[1] = (double)session_bytes;
    return status;
}
void EXPORT(exitlm_wasm_loader_missing)(const exitlm_loader *loader, char *text, size_t capacity) {
    exitlm_loader_missing(loader, text, capacity);
}
const char *EXPORT(exitlm_wasm_loader_text)(const exitlm_loader *loader, const char *key,
                                            size_t *n_bytes) {
    return exitlm_loader_text(loader, key, n_bytes);
}
exitlm_model *EXPORT(exitlm_wasm_loader_finish)(exitlm_loader *loader, exitlm_error *error) {
    exitlm_model *model = NULL;
    return exitlm_loader_finish(loader, &model, error) == EXITLM_OK ? model : NULL;
}
void EXPORT(exitlm_wasm_loader_free)(exitlm_loader *loader) { exitlm_loader_free(loader); }
void EXPORT(exitlm_wasm_model_free)(exitlm_model *model) { exitlm_model_free(model); }
void EXPORT(exitlm_wasm_model_describe)(const exitlm_model *model, exitlm_model_info *info) {
    exitlm_model_describe(model, info);
}
const char *EXPORT(exitlm_wasm_model_chat_template)(const exitlm_model *model, size_t *n_bytes) {
    return exitlm_model_chat_template(model, n_bytes);
}
/* ids[0]: begin-of-text, ids[1]: end-of-text, -1 for none; ids[2]: 1 where begin-of-text is
 * added to a text. */
void EXPORT(exitlm_wasm_model_special)(const exitlm_model *model, int32_t ids[3]) {
    exitlm_model_info info;
    exitlm_model_describe(model, &info);
    ids[0] = info.bos;
    ids[1] = info.eos;
    ids[2] = info.add_bos;
}

/* ---- Text ------------------------------------------------------------------- */
/* plain: stretches of the text in which special tokens are text like any other; see
 * xl_tokenizer_encode_parts. */
exitlm_status EXPORT(exitlm_wasm_tokenize)(const exitlm_model *model, const char *text,
                                           size_t n_bytes, xl_span *plain, size_t n_plain,
                                           unsigned flags, int32_t *ids, size_t capacity, size_t *n,
                                           exitlm_error *error) {
    return xl_tokenizer_encode_parts(model->tokenizer, text, n_bytes,
                                     &(xl_spans){plain, n_plain, 0}, flags, ids, capacity, n,
                                     error);
}
uint32_t EXPORT(exitlm_wasm_tokenize_flags)(bool add_special, bool parse_special) {
    return (add_special ? EXITLM_ADD_SPECIAL : 0) | (parse_special ? EXITLM_PARSE_SPECIAL : 0);
}
exitlm_status EXPORT(exitlm_wasm_detokenize)(const exitlm_model *model, const int32_t *ids,
                                             size_t n, char *text, size_t capacity, size_t *n_bytes,
                                             exitlm_error *error) {
    return exitlm_detokenize(model, ids, n, text, capacity, n_bytes, error);
}

/* ---- Sessions ---------------------------------------------------------------- */
/* has_clock false: the host's clock stands still while the engine computes; times are then
 * reported as negative. */
exitlm_session *EXPORT(exitlm_wasm_session_create)(const exitlm_model *model,
                                                   const exitlm_session_options *options,
                                                   bool has_clock, exitlm_error *error) {
    exitlm_session *session = NULL;
    exitlm_session_options with_clock = *options;
    with_clock.clock_ms = has_clock ? host_clock_ms : NULL;
    with_clock.clock_user = NULL;
    return exitlm_session_create(&session, model, &with_clock, error) == EXITLM_OK ? session : NULL;
}
void EXPORT(exitlm_wasm_session_free)(exitlm_session *session) { exitlm_session_free(session); }
exitlm_grammar *EXPORT(exitlm_wasm_grammar_from_schema)(const exitlm_model *model, const char *json,
                                                        size_t n_bytes, exitlm_error *error) {
    exitlm_grammar *grammar = NULL;
    exitlm_grammar_from_schema(&grammar, model, json, n_bytes, NULL, error);
    return grammar;
}
exitlm_grammar *EXPORT(exitlm_wasm_grammar_from_pattern)(const exitlm_model *model,
                                                         const char *pattern, size_t n_bytes,
                                                         unsigned flags, exitlm_error *error) {
    exitlm_grammar *grammar = NULL;
    exitlm_grammar_from_pattern(&grammar, model, pattern, n_bytes, flags, NULL, error);
    return grammar;
}
exitlm_grammar *EXPORT(exitlm_wasm_grammar_from_tools)(const exitlm_model *model, const char *json,
                                                       size_t n_bytes, const char *choice,
                                                       bool llama3, bool one, exitlm_error *error) {
    exitlm_grammar *grammar = NULL;
    exitlm_grammar_from_tools(&grammar, model, json, n_bytes, choice,
                              (llama3 ? EXITLM_TOOLS_LLAMA3 : 0u) | (one ? EXITLM_TOOLS_ONE : 0u),
                              NULL, error);
    return grammar;
}
exitlm_status EXPORT(exitlm_wasm_grammar_begin)(exitlm_grammar *grammar, const char *text,
                                                size_t n_bytes, exitlm_error *error) {
    return exitlm_grammar_begin(grammar, text, n_bytes, error);
}
void EXPORT(exitlm_wasm_grammar_free)(exitlm_grammar *grammar) { exitlm_grammar_free(grammar); }
exitlm_status EXPORT(exitlm_wasm_session_start)(exitlm_session *session, const int32_t *ids,
                                                size_t n, const exitlm_generate_options *options,
                                                exitlm_error *error) {
    return exitlm_session_start(session, ids, n, options, error);
}
exitlm_status EXPORT(exitlm_wasm_session_text)(exitlm_session *session, const char *text,
                                               size_t n_bytes, xl_span *plain, size_t n_plain,
                                               const exitlm_generate_options *options,
                                               exitlm_error *error) {
    return xl_session_text(session, text, n_bytes, &(xl_spans){plain, n_plain, 0}, true, options,
                           error);
}
exitlm_status EXPORT(exitlm_wasm_sessions_step)(exitlm_turn *turns, size_t n, exitlm_error *error) {
    return exitlm_sessions_step(turns, n, error);
}
exitlm_session *EXPORT(exitlm_wasm_session_clone)(const exitlm_session *session,
                                                  exitlm_error *error) {
    exitlm_session *clone = NULL;
    return exitlm_session_clone(&clone, session, error) == EXITLM_OK ? clone : NULL;
}
static bool take(void *user, const void *bytes, size_t n_bytes) {
    (void)user;
    return exitlm_host_pass((void *)(uintptr_t)bytes, n_bytes);
}
static bool give(void *user, void *bytes, size_t n_bytes) {
    (void)user;
    return exitlm_host_pass(bytes, n_bytes);
}
/* The bytes pass through exitlm_host_pass. */
exitlm_status EXPORT(exitlm_wasm_session_save)(const exitlm_session *session, exitlm_error *error) {
    return exitlm_session_save(session, take, NULL, error);
}
exitlm_status EXPORT(exitlm_wasm_session_restore)(exitlm_session *session, exitlm_error *error) {
    return exitlm_session_restore(session, give, NULL, error);
}
/* needs[0]: layer, needs[1]: row; see exitlm_session_needs. */
void EXPORT(exitlm_wasm_session_needs)(const exitlm_session *session, int32_t needs[2]) {
    exitlm_session_needs(session, &needs[0], &needs[1]);
}
void EXPORT(exitlm_wasm_session_stop)(exitlm_session *session) { exitlm_session_stop(session); }
void EXPORT(exitlm_wasm_session_reset)(exitlm_session *session) { exitlm_session_reset(session); }
/* Capacity of its context. */
uint32_t EXPORT(exitlm_wasm_session_context_tokens)(const exitlm_session *session) {
    return exitlm_session_context_tokens(session);
}
/* What this session computes with: "relaxed", "simd128", ... */
const char *EXPORT(exitlm_wasm_session_kernel)(const exitlm_session *session) {
    return exitlm_session_kernel(session);
}

/* ---- SHA-256 ------------------------------------------------------------------ */
xl_sha256 *EXPORT(exitlm_wasm_sha256_create)(void) {
    xl_sha256 *sha = malloc(sizeof *sha);
    if (sha) xl_sha256_init(sha);
    return sha;
}
void EXPORT(exitlm_wasm_sha256_update)(xl_sha256 *sha, const void *bytes, size_t n_bytes) {
    xl_sha256_update(sha, bytes, n_bytes);
}
/* hex: 64 digits and a NUL. The state is freed. */
void EXPORT(exitlm_wasm_sha256_finish)(xl_sha256 *sha, char hex[65]) {
    uint8_t digest[32];
    xl_sha256_final(sha, digest);
    xl_sha256_hex(digest, hex);
    free(sha);
}

/* sum: 16 hex digits and a NUL. */
void EXPORT(exitlm_wasm_checksum)(const void *bytes, size_t n_bytes, char sum[17]) {
    uint64_t value = xl_checksum(bytes, n_bytes);
    for (int i = 0; i < 16; i++) sum[i] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
    sum[16] = 0;
}

/* ---- Bounds of a risk (base/risk.h) ------------------------------------------------- */
double EXPORT(exitlm_wasm_risk_p)(const double *x, size_t n, size_t planned, double alpha,
                                  double delta) {
    return xl_risk_p(x, n, planned, alpha, delta);
}
double EXPORT(exitlm_wasm_risk_upper)(const double *x, size_t n, size_t planned, double delta) {
    return xl_risk_upper(x, n, planned, delta);
}
uint32_t EXPORT(exitlm_wasm_risk_needed)(const double *x, size_t n, double alpha, double delta) {
    return xl_risk_needed(x, n, alpha, delta);
}
