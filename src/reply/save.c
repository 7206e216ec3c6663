/* A conversation as bytes: a head, the last turn as the next one has to know it (chat.c), ids, K and
 * V, a checksum. Numbers lie as little-endian machines have them. */
#include <string.h>

#include "base/bytes.h"
#include "base/checksum.h"
#include "run/snapshot.h"
#include "session.h"

#define MAGIC "EXITLMKV"
/* also where the engine's arithmetic changes: K and V of another are not exact */
#define VERSION 2
#define MAX_CONTEXT_BYTES ((uint64_t)1 << 30)

typedef struct saved_head {
    char magic[8];
    uint32_t version, kv_type;
    char fingerprint[64];
    uint32_t n; /* positions */
    /* the last turn: prompt_n 0 where there is none */
    uint32_t prompt_n, n_tokens, text_bytes;
    uint64_t context_bytes;
    uint8_t context_sha[32];
} saved_head;
_Static_assert(sizeof(saved_head) == 136, "the same on every machine");

/* What passes through, summed up piece by piece. */
typedef struct channel {
    exitlm_write write;
    exitlm_read read;
    void *user;
    xl_summing piece;
    uint64_t sum;
} channel;

static void add_up(channel *c, const void *bytes, size_t n_bytes, bool goes_on) {
    xl_summing_add(&c->piece, bytes, n_bytes);
    if (goes_on) return;
    c->sum = xl_mix64(c->sum ^ xl_summing_end(&c->piece));
    xl_summing_begin(&c->piece);
}

static bool put(void *user, const void *bytes, size_t n_bytes, bool goes_on) {
    channel *c = user;
    add_up(c, bytes, n_bytes, goes_on);
    return c->write(c->user, bytes, n_bytes);
}

static bool get(void *user, void *bytes, size_t n_bytes) {
    channel *c = user;
    if (!c->read(c->user, bytes, n_bytes)) return false;
    add_up(c, bytes, n_bytes, false);
    return true;
}

/* ---- Save ---- */

static bool put_turn(channel *c, const xl_generation *g, const saved_head *head) {
    for (uint32_t i = 0; i < head->n_tokens; i++)
        if (!put(c, &g->tokens[i].id, sizeof g->tokens[i].id, false)) return false;
    return !head->text_bytes || put(c, g->out.text, head->text_bytes, false);
}

exitlm_status exitlm_session_save(const exitlm_session *session, exitlm_write write, void *user,
                                  exitlm_error *error) {
    if (!session || !write)
        return xl_fail(error, EXITLM_USAGE, "exitlm_session_save: an argument is NULL");
    const exitlm_model *m = session->run.model;
    const xl_generation *g = session->generation;
    if (!m->fingerprint[0])
        return xl_fail(error, EXITLM_WAIT,
                       "the model is still loading, and what is saved must say which it is: wait "
                       "until it is there");
    saved_head head = {.version = VERSION,
                       .kv_type = session->stair.kv.type,
                       .n = xl_snapshot_exact(&session->stair)};
    memcpy(head.magic, MAGIC, sizeof head.magic);
    memcpy(head.fingerprint, m->fingerprint, sizeof head.fingerprint);
    if (xl_generation_has_turn(g, head.n)) {
        head.prompt_n = g->prompt_n;
        head.n_tokens = g->n_tokens;
        head.text_bytes = (uint32_t)g->out.n_bytes;
        head.context_bytes = g->context_bytes;
        memcpy(head.context_sha, g->context_sha, sizeof head.context_sha);
    }
    channel c = {.write = write, .user = user};
    xl_summing_begin(&c.piece);
    if (put(&c, &head, sizeof head, false) && put_turn(&c, g, &head) &&
        xl_snapshot_write(&session->stair, head.n, put, &c) &&
        write(user, &(uint64_t){c.sum}, sizeof c.sum))
        return EXITLM_OK;
    return xl_fail(error, EXITLM_IO, "the conversation could not be written whole");
}

/* ---- Restore ---- */

bool xl_saved_kv_type(exitlm_read read, void *user, exitlm_kv_type *type) {
    saved_head head;
    if (!read(user, &head, sizeof head) || memcmp(head.magic, MAGIC, sizeof head.magic) != 0 ||
        head.kv_type >= EXITLM_KV_TYPE_COUNT)
        return false;
    *type = (exitlm_kv_type)head.kv_type;
    return true;
}

static exitlm_status too_short(exitlm_error *error) {
    return xl_fail(error, EXITLM_BAD_MODEL, "a saved conversation that ends too early");
}

static exitlm_status check_head(const exitlm_session *s, const saved_head *head,
                                exitlm_error *error) {
    const exitlm_model *m = s->run.model;
    const xl_generation *g = s->generation;
    if (memcmp(head->magic, MAGIC, sizeof head->magic) != 0)
        return xl_fail(error, EXITLM_BAD_MODEL, "these bytes are no saved conversation");
    if (head->version != VERSION)
        return xl_fail(error, EXITLM_UNSUPPORTED,
                       "a conversation saved by another version of the engine (format %u, here "
                       "%d): have the model read it anew",
                       (unsigned)head->version, VERSION);
    if (!m->fingerprint[0])
        return xl_fail(error, EXITLM_WAIT,
                       "the model is still loading, and a saved conversation is of one model: wait "
                       "until it is there");
    if (memcmp(head->fingerprint, m->fingerprint, sizeof head->fingerprint) != 0)
        return xl_fail(error, EXITLM_USAGE,
                       "a conversation with another model: it was saved with fingerprint %.12s…, "
                       "this is %.12s…",
                       head->fingerprint, m->fingerprint);
    if (head->kv_type != (uint32_t)s->stair.kv.type)
        return xl_fail(
            error, EXITLM_USAGE,
            "the conversation was saved from a K/V cache of type %s, this session's is %s: "
            "open the model with that type",
            head->kv_type < EXITLM_KV_TYPE_COUNT ? xl_kv_type_names[head->kv_type] : "?",
            xl_kv_type_names[s->stair.kv.type]);
    if (head->n >= s->stair.ctx)
        return xl_fail(error, EXITLM_CONTEXT_FULL,
                       "the saved conversation has %u tokens and the context holds %u: open the "
                       "model with a larger context",
                       (unsigned)head->n, (unsigned)s->stair.ctx);
    if (head->prompt_n > head->n || head->n_tokens > s->stair.ctx - head->prompt_n ||
        head->text_bytes >= g->out.capacity || head->context_bytes > MAX_CONTEXT_BYTES ||
        (!head->prompt_n && head->n_tokens))
        return xl_fail(error, EXITLM_BAD_MODEL, "a saved conversation whose numbers do not fit");
    return EXITLM_OK;
}

static exitlm_status get_turn(exitlm_session *s, channel *c, const saved_head *head,
                              exitlm_error *error) {
    xl_generation *g = s->generation;
    for (uint32_t i = 0; i < head->n_tokens; i++) {
        if (!get(c, &g->tokens[i].id, sizeof g->tokens[i].id)) return too_short(error);
        exitlm_status status = xl_stair_check_ids(&s->stair, &g->tokens[i].id, 1, error);
        if (status != EXITLM_OK) return status;
    }
    if (head->text_bytes && !get(c, g->out.text, head->text_bytes)) return too_short(error);
    g->context_known = head->prompt_n > 0;
    g->prompt_n = head->prompt_n;
    g->n_tokens = head->n_tokens;
    g->out.n_bytes = head->text_bytes;
    g->out.stopped = false;
    g->context_bytes = (size_t)head->context_bytes;
    memcpy(g->context_sha, head->context_sha, sizeof g->context_sha);
    return EXITLM_OK;
}

static exitlm_status restore(exitlm_session *s, channel *c, exitlm_error *error) {
    saved_head head;
    uint64_t sum = 0;
    if (!get(c, &head, sizeof head)) return too_short(error);
    exitlm_status status = check_head(s, &head, error);
    if (status == EXITLM_OK) status = get_turn(s, c, &head, error);
    if (status == EXITLM_OK) status = xl_snapshot_read(&s->stair, head.n, get, c, error);
    if (status != EXITLM_OK) return status;
    if (!c->read(c->user, &sum, sizeof sum)) return too_short(error);
    if (sum != c->sum)
        return xl_fail(error, EXITLM_CHECKSUM,
                       "the saved conversation is damaged: its checksum is not that of its bytes");
    return EXITLM_OK;
}

exitlm_status exitlm_session_restore(exitlm_session *session, exitlm_read read, void *user,
                                     exitlm_error *error) {
    if (!session || !read)
        return xl_fail(error, EXITLM_USAGE, "exitlm_session_restore: an argument is NULL");
    channel c = {.read = read, .user = user};
    xl_summing_begin(&c.piece);
    exitlm_session_reset(session);
    exitlm_status status = restore(session, &c, error);
    if (status != EXITLM_OK) exitlm_session_reset(session);
    return status;
}
