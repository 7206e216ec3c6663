/* Exports that look inside a session or a kernel, which exitlm.h does not show. */
#include <stdlib.h>
#include <string.h>

#include "reply/session.h"
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
    return xl_pool_threads(session->run.pool);
}
/* ---- How fast -------------------------------------------------------------------- */
enum { SPEED_COLS = 576, SPEED_ROWS = 24576, SPEED_PASSES = 6 };

/* Bytes of weights a second that one row of activations is multiplied with, on this thread: what a
 * token's speed depends on. 8 MB of Q4_0 weights, more than most caches hold; the best of some
 * passes. 0 where there is no memory or no clock. */
double EXPORT(exitlm_wasm_speed)(void) {
    const xl_kernels *kernels = xl_kernels_pick(NULL);
    size_t bytes;
    if (!xl_matrix_bytes(XL_Q4_0, SPEED_ROWS, SPEED_COLS, &bytes)) return 0;
    size_t act_bytes = xl_act_bytes(SPEED_COLS);
    size_t needed = bytes + act_bytes + sizeof(float) * (SPEED_ROWS + SPEED_COLS);
    uint8_t *memory = aligned_alloc(64, (needed + 63) / 64 * 64);
    if (!memory) return 0;
    memset(memory, 1, bytes);
    uint8_t *act = memory + bytes;
    float *x = (float *)(void *)(act + act_bytes), *y = x + SPEED_COLS;
    for (size_t i = 0; i < SPEED_COLS; i++) x[i] = (float)i;
    kernels->quantize(act, NULL, x, SPEED_COLS);
    double best_ms = 0;
    for (int i = 0; i < SPEED_PASSES; i++) {
        double start = exitlm_host_clock_ms();
        kernels->matmul[XL_Q4_0](y, SPEED_ROWS, memory, SPEED_COLS, 0, SPEED_ROWS, act, act_bytes,
                                 1);
        double ms = exitlm_host_clock_ms() - start;
        if (ms > 0 && (best_ms == 0 || ms < best_ms)) best_ms = ms;
    }
    free(memory);
    return best_ms > 0 ? (double)bytes / best_ms * 1000 : 0;
}
