/* Several replies advanced in one pass. A session's step machine stops where it wants layers or
 * logits (stair.h, deferred), and is asked again once the batch has run them: so it decides as it
 * would alone. */
#include "run/batch.h"
#include "session.h"

/* Slices of prompts in a step, all sessions together: about what a token of everybody costs, so that
 * neither those who read nor those who write wait for long. */
enum { PROMPT_SLICES = 4 };
_Static_assert(EXITLM_MAX_TURNS <= XL_CHUNK, "a row of each is one pass");

static void take_step(exitlm_turn *turn) {
    turn->status = exitlm_session_step(turn->session, &turn->event, &turn->error);
}

static bool is_reading(const exitlm_turn *turn) {
    return turn->session->generation->phase == XL_PROMPT;
}

static bool wants(const exitlm_turn *turn) { return xl_batch_wants(&turn->session->logits); }

/* A token of each session that writes. The lead comes first in `together`, also where it has nothing
 * to run: it lends its scratch. */
static void write_together(exitlm_turn *turns, uint32_t n, exitlm_session *lead) {
    xl_logits *together[EXITLM_MAX_TURNS] = {&lead->logits};
    bool writes[EXITLM_MAX_TURNS];
    for (uint32_t i = 0; i < n; i++) {
        writes[i] = !is_reading(&turns[i]);
        turns[i].session->stair.deferred = writes[i];
    }
    for (;;) {
        uint32_t n_together = 1;
        bool any = false;
        for (uint32_t i = 0; i < n; i++) {
            if (writes[i] && !wants(&turns[i])) take_step(&turns[i]);
            writes[i] &= wants(&turns[i]);
            any |= writes[i];
            if (writes[i] && turns[i].session != lead)
                together[n_together++] = &turns[i].session->logits;
        }
        if (!any) break;
        xl_batch_run(together, n_together);
    }
    for (uint32_t i = 0; i < n; i++) turns[i].session->stair.deferred = false;
}

static void read_prompts(exitlm_turn *turns, const bool *reads, uint32_t n, uint32_t slices) {
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; reads[i] && k < slices; k++) {
            take_step(&turns[i]);
            if (turns[i].status != EXITLM_OK || turns[i].event.type != EXITLM_EVENT_PROGRESS) break;
        }
}

exitlm_status exitlm_sessions_step(exitlm_turn *turns, size_t n, exitlm_error *error) {
    if (!turns || n == 0 || n > EXITLM_MAX_TURNS)
        return xl_fail(error, EXITLM_USAGE,
                       "exitlm_sessions_step: %zu sessions: 1 to %d are possible", turns ? n : 0,
                       EXITLM_MAX_TURNS);
    exitlm_session *lead = turns[0].session;
    bool reads[EXITLM_MAX_TURNS];
    uint32_t n_reads = 0;
    for (size_t i = 0; i < n; i++) {
        const exitlm_session *s = turns[i].session;
        for (size_t k = 0; k < i; k++)
            if (turns[k].session == s) s = NULL;
        if (!s || s->run.model != turns[0].session->run.model)
            return xl_fail(
                error, EXITLM_USAGE,
                "exitlm_sessions_step: session %zu is NULL, there twice, or of another model", i);
        if (s->stair.ctx > lead->stair.ctx) lead = turns[i].session;
        n_reads += reads[i] = is_reading(&turns[i]);
    }
    if (n == 1) {
        take_step(turns);
        return EXITLM_OK;
    }
    write_together(turns, (uint32_t)n, lead);
    if (n_reads)
        read_prompts(turns, reads, (uint32_t)n,
                     n_reads < PROMPT_SLICES ? PROMPT_SLICES / n_reads : 1);
    return EXITLM_OK;
}
