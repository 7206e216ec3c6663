/* Exports that look inside a session or a kernel, which exitlm.h does not show. */
#include <string.h>

#include "reply/session.h"
#include "run/cost.h"
#include "export.h"

typedef struct score_target {
    float *logits;
    size_t vocab;
} score_target;
static bool copy_logits(void *user, size_t position, const float *logits) {
    const score_target *target = user;
    memcpy(target->logits + (position - 1) * target->vocab, logits, target->vocab * sizeof *logits);
    return true;
}
/* Teacher-forced: logits [n - 1][vocab] <- those for positions 1 ... n - 1, each given the ids
 * before it. */
exitlm_status EXPORT(exitlm_wasm_session_score)(exitlm_session *session, const int32_t *ids,
                                                size_t n, float *logits, exitlm_error *error) {
    score_target target = {logits, session->run.model->config.vocab};
    return exitlm_session_score(session, ids, n, copy_logits, &target, error);
}
/* The pool that helper threads of this session join (pool.c); NULL: none. */
xl_pool *EXPORT(exitlm_wasm_session_pool)(const exitlm_session *session) {
    return session->run.pool;
}
uint32_t EXPORT(exitlm_wasm_session_threads)(const exitlm_session *session) {
    return session ? xl_pool_threads(session->run.pool) : 0;
}
/* See xl_weight_speed; 0 where there is no clock. */
double EXPORT(exitlm_wasm_speed)(void) { return xl_weight_speed(host_clock_ms); }
