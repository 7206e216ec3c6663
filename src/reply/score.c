#include "session.h"

exitlm_status exitlm_session_score(exitlm_session *session, const int32_t *ids, size_t n,
                                   bool (*visit)(void *user, size_t position, const float *logits),
                                   void *user, exitlm_error *error) {
    if (!session || !visit || (!ids && n))
        return xl_fail(error, EXITLM_USAGE, "exitlm_session_score: an argument is NULL");
    xl_stair *stair = &session->stair;
    xl_logits *logits = &session->logits;
    exitlm_session_reset(session);
    if (n > stair->ctx) return xl_stair_append(stair, ids, n, error); /* says so */
    exitlm_status status = EXITLM_OK;
    for (uint32_t pos = 0; pos < n; pos += XL_MAX_VERIFY) {
        const uint32_t left = (uint32_t)n - pos, rows = left < XL_MAX_VERIFY ? left : XL_MAX_VERIFY;
        if (pos % XL_SCORED == 0) {
            status = xl_stair_append(stair, ids + pos, left < XL_SCORED ? left : XL_SCORED, error);
            if (status == EXITLM_OK)
                status = xl_stair_advance(stair, session->run.model->config.n_layers, error);
        }
        if (status == EXITLM_OK) status = xl_logits_compute(logits, pos, rows, 0, error);
        if (status != EXITLM_OK) return status;
        for (uint32_t r = 0; r < rows && pos + r + 1 < n; r++) {
            xl_logits_by_id(logits, xl_logits_row(logits, r), logits->by_id);
            if (!visit(user, pos + r + 1, logits->by_id)) return EXITLM_OK;
        }
    }
    return status;
}
