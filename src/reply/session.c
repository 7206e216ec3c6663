/* A session's memory and life. */
#include "session.h"

#include <string.h>

#include "base/bytes.h"
#include "model/loader.h"
#include "run/snapshot.h"

enum {
    DEFAULT_CONTEXT = 2048,
    MAX_CONTEXT = 1 << 20,
    POOL_BYTES = 4096 /* of the threads' pool, at most */
};

/* ---- Memory ---------------------------------------------------------------------- */

static uint32_t context_of(const exitlm_model *m, const exitlm_session_options *o) {
    if (o->context_tokens) return o->context_tokens;
    return xl_min_u32(m->config.context_tokens ? m->config.context_tokens : DEFAULT_CONTEXT,
                      DEFAULT_CONTEXT);
}

static const exitlm_heads *heads_of(const exitlm_model *m, const exitlm_session_options *o) {
    return o->heads ? o->heads : m->heads;
}

static uint32_t threads_of(const exitlm_session_options *o) {
    if (o->beside) return xl_pool_threads(o->beside->run.pool);
    return o->threads ? o->threads : 1;
}

/* Lays out everything; with arena->base NULL it only measures. */
static void take_all(exitlm_session *s, xl_arena *arena, const exitlm_session_options *o) {
    const uint32_t ctx = context_of(s->run.model, o);
    xl_run_take(&s->run, arena, s->heads, ctx, xl_min_u32(ctx, XL_WAITING), threads_of(o));
    xl_stair_take(&s->stair, arena, &s->run, ctx, (xl_kv_type)o->kv_type);
    xl_logits_take(&s->logits, arena, &s->stair, xl_exits_scratch_floats(s->heads, ctx));
    s->exits = xl_exits_take(arena, &s->logits, s->heads);
    s->drafting = xl_drafting_take(arena);
    s->generation = xl_generation_take(arena, s->run.model, ctx);
}

static exitlm_status check_options(const exitlm_model *m, const exitlm_heads *heads,
                                   const exitlm_session_options *o, exitlm_error *error) {
    if (o->context_tokens > MAX_CONTEXT || o->context_tokens == 1)
        return xl_fail(error, EXITLM_USAGE, "a context of %u tokens: 2 to %d are possible",
                       (unsigned)o->context_tokens, MAX_CONTEXT);
    if (m->config.context_tokens && o->context_tokens > m->config.context_tokens)
        return xl_fail(error, EXITLM_USAGE,
                       "a context of %u tokens: this model was trained for at most %u",
                       (unsigned)o->context_tokens, (unsigned)m->config.context_tokens);
    if ((unsigned)o->kv_type >= EXITLM_KV_TYPE_COUNT)
        return xl_fail(error, EXITLM_USAGE, "unknown K/V type %d", (int)o->kv_type);
    if (o->beside && o->beside->run.model != m)
        return xl_fail(error, EXITLM_USAGE, "a session beside one of another model");
    if (o->threads > XL_MAX_THREADS)
        return xl_fail(error, EXITLM_USAGE, "%u threads: 1 to %d are possible",
                       (unsigned)o->threads, XL_MAX_THREADS);
    return heads ? xl_heads_check(heads, m, error) : EXITLM_OK;
}

exitlm_status exitlm_loader_memory(const exitlm_loader *loader,
                                   const exitlm_session_options *options, uint64_t *model_bytes,
                                   uint64_t *session_bytes, exitlm_error *error) {
    const exitlm_model *model = NULL;
    uint64_t bytes = 0;
    if (!loader) return xl_fail(error, EXITLM_USAGE, "exitlm_loader_memory: `loader` is NULL");
    exitlm_status status = xl_loader_measure(loader, &model, &bytes, error);
    if (status != EXITLM_OK) return status;
    if (model_bytes) *model_bytes = bytes;
    if (!session_bytes) return EXITLM_OK;
    const exitlm_session_options none = {0}, *o = options ? options : &none;
    status = check_options(model, NULL, o, error);
    if (status != EXITLM_OK) return status;
    exitlm_session s = {.heads = heads_of(model, o), .run.model = model};
    xl_arena arena = {0};
    take_all(&s, &arena, o);
    xl_kv_take_block(&s.stair.kv, &arena, 0);
    if (arena.overflow)
        return xl_fail(
            error, EXITLM_OUT_OF_MEMORY,
            "a session of this model does not fit in the address space: take a smaller context");
    *session_bytes = (uint64_t)arena.used_bytes + sizeof s + POOL_BYTES;
    return EXITLM_OK;
}

/* ---- Life ------------------------------------------------------------------------ */

/* All but the rings of K/V is zeros at first. Of K and V nothing is read before it is written but
 * the rest of a tile of keys, whose scores are dropped; and their pages, most of a session's memory,
 * are not touched before they are needed. */
static void clear_but_cache(const exitlm_session *s) {
    const xl_kv *kv = &s->stair.kv;
    const size_t before = (size_t)(kv->ring - s->memory), end = before + kv->ring_bytes;
    memset(s->memory, 0, before);
    memset(s->memory + end, 0, s->memory_bytes - end);
}

/* The block behind all arrays; NULL memory where there is none. */
static void take_memory(exitlm_session *s, const exitlm_session_options *o) {
    xl_arena arena = {0};
    take_all(s, &arena, o);
    s->memory_bytes = arena.used_bytes;
    if (arena.overflow) return;
    s->memory = s->allocator.alloc(s->allocator.user, s->memory_bytes, XL_ALIGN);
    if (!s->memory) return;
    arena = (xl_arena){.base = s->memory, .capacity_bytes = s->memory_bytes};
    take_all(s, &arena, o);
    clear_but_cache(s);
    arena = (xl_arena){.base = s->memory, .capacity_bytes = s->memory_bytes};
    take_all(s, &arena, o); /* again: it writes into what has been cleared */
}

/* `from`: a session whose first n positions it has; NULL: it has none. */
static exitlm_status create(exitlm_session **session, const exitlm_model *model,
                            const exitlm_session_options *o, const exitlm_session *from, uint32_t n,
                            exitlm_error *error) {
    const exitlm_heads *heads = heads_of(model, o);
    exitlm_status status = check_options(model, heads, o, error);
    if (status != EXITLM_OK) return status;
    const xl_kernels *kernels = xl_kernels_pick(o->kernel);
    if (!kernels)
        return xl_fail(error, EXITLM_USAGE, "no kernel named %.32s on this machine",
                       o->kernel ? o->kernel : "(default)");

    exitlm_session *s = xl_calloc(&model->allocator, 1, sizeof *s);
    if (!s) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a session");
    *s = (exitlm_session){.allocator = model->allocator,
                          .clock_ms = o->clock_ms,
                          .clock_user = o->clock_user,
                          .heads = heads,
                          .run = {.model = model, .kernels = kernels}};
    take_memory(s, o);
    if (s->memory && from) status = xl_stair_share(&s->stair, &from->stair, n, error);
    else if (!s->memory || !xl_kv_own(&s->stair.kv, 0)) {
        xl_arena all = {.used_bytes = s->memory_bytes};
        xl_kv_take_block(&s->stair.kv, &all, 0);
        status = xl_fail(error, EXITLM_OUT_OF_MEMORY,
                         "a session with a context of %u tokens needs %llu bytes of memory, which "
                         "are not there: ask for a smaller context or K/V type q8",
                         (unsigned)context_of(model, o), (unsigned long long)all.used_bytes);
    }
    if (status != EXITLM_OK) {
        exitlm_session_free(s);
        return status;
    }
    s->run.pool =
        o->beside ? xl_pool_share(o->beside->run.pool) : xl_pool_create(o->threads, &s->allocator);
    xl_run_fill(&s->run, heads);
    xl_exits_fill(s->exits);
    *session = s;
    return EXITLM_OK;
}

exitlm_status exitlm_session_create(exitlm_session **session, const exitlm_model *model,
                                    const exitlm_session_options *options, exitlm_error *error) {
    if (!session) return xl_fail(error, EXITLM_USAGE, "exitlm_session_create: `session` is NULL");
    *session = NULL;
    if (!model || !model->config.n_layers)
        return xl_fail(error, EXITLM_USAGE, "a session needs a model whose header has been read");
    const exitlm_session_options none = {0};
    return create(session, model, options ? options : &none, NULL, 0, error);
}

exitlm_status exitlm_session_clone(exitlm_session **clone, const exitlm_session *session,
                                   exitlm_error *error) {
    if (!session || !clone)
        return xl_fail(error, EXITLM_USAGE, "exitlm_session_clone: an argument is NULL");
    *clone = NULL;
    const exitlm_session_options like = {.heads = session->heads,
                                         .context_tokens = session->stair.ctx,
                                         .kv_type = (exitlm_kv_type)session->stair.kv.type,
                                         .kernel = session->run.kernels->name,
                                         .clock_ms = session->clock_ms,
                                         .clock_user = session->clock_user,
                                         .beside = session};
    const uint32_t n = xl_snapshot_exact(&session->stair);
    exitlm_status status = create(clone, session->run.model, &like, session, n, error);
    if (status == EXITLM_OK) xl_generation_copy((*clone)->generation, session->generation, n);
    return status;
}

void exitlm_session_free(exitlm_session *session) {
    if (!session) return;
    exitlm_allocator allocator = session->allocator;
    xl_pool_free(session->run.pool);
    xl_kv_free(&session->stair.kv);
    if (session->memory) xl_logprobs_free(&session->generation->logprobs);
    xl_free(&allocator, session->memory, 1, session->memory_bytes);
    xl_free(&allocator, session, 1, sizeof *session);
}

void exitlm_session_reset(exitlm_session *session) {
    if (!session) return;
    xl_generation_end(session->generation);
    xl_stair_truncate(&session->stair, 0);
}

void exitlm_session_needs(const exitlm_session *session, int32_t *layer, int32_t *row) {
    if (layer) *layer = session ? session->stair.need_layer : -1;
    if (row) *row = session ? session->stair.need_row : -1;
}

uint32_t exitlm_session_context_tokens(const exitlm_session *session) {
    return session ? session->stair.ctx : 0;
}

const char *exitlm_session_kernel(const exitlm_session *session) {
    return session ? session->run.kernels->name : "";
}
