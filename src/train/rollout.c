/* Conversations decoded side by side. See rollout.h. */
#include "rollout.h"

#include <stdlib.h>
#include <string.h>

#include "run/batch.h"

/* ---- Talks ---- */
static void watch_layer(void *user, uint32_t layers_run, uint32_t pos, uint32_t n,
                        const float *hidden) {
    xl_talk *talk = user;
    if (pos + n != talk->session->stair.n) return;
    for (uint32_t i = 0; i < talk->watch.n; i++)
        if (talk->watch.layers[i] == layers_run)
            memcpy(talk->watch.hidden + (size_t)i * talk->watch.dim,
                   hidden + (size_t)(n - 1) * talk->session->run.work.dim_stride,
                   talk->watch.dim * sizeof *hidden);
}

exitlm_status xl_talks_create(xl_talk **out, uint32_t n, const exitlm_model *model,
                              const exitlm_session_options *options, const uint32_t *layers,
                              uint32_t n_layers, exitlm_error *error) {
    *out = NULL;
    if (n == 0 || n > XL_CHUNK)
        return xl_fail(error, EXITLM_USAGE, "%u conversations together: 1 to %d are possible",
                       (unsigned)n, XL_CHUNK);
    const uint32_t dim = model->config.dim;
    const size_t talk_bytes = (n * sizeof(xl_talk) + 63) / 64 * 64;
    uint8_t *memory = calloc(1, talk_bytes + (size_t)n * n_layers * dim * sizeof(float));
    if (!memory)
        return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for %u conversations", (unsigned)n);
    xl_talk *talks = (xl_talk *)(void *)memory;
    float *hidden = (float *)(void *)(memory + talk_bytes);
    exitlm_status status = EXITLM_OK;
    for (uint32_t i = 0; i < n && status == EXITLM_OK; i++) {
        talks[i].watch = (xl_watch){n_layers, dim, layers, hidden + (size_t)i * n_layers * dim};
        status = exitlm_session_create(&talks[i].session, model, options, error);
        if (status != EXITLM_OK) break;
        talks[i].session->stair.on_layer = watch_layer;
        talks[i].session->stair.on_layer_user = &talks[i];
    }
    if (status != EXITLM_OK) {
        xl_talks_free(talks, n);
        return status;
    }
    *out = talks;
    return EXITLM_OK;
}

void xl_talks_free(xl_talk *talks, uint32_t n) {
    if (!talks) return;
    for (uint32_t i = 0; i < n; i++) exitlm_session_free(talks[i].session);
    free(talks);
}

/* ---- The loop ---- */
/* Takes ids through all layers; the logits of the last position lie in row 0. *fits false: they
 * do not fit the context. */
static exitlm_status take_prompt(xl_talk *talk, const int32_t *ids, size_t n, bool *fits,
                                 exitlm_error *error) {
    exitlm_session *s = talk->session;
    *fits = n < s->stair.ctx && s->stair.n + n < s->stair.ctx;
    if (!*fits) return EXITLM_OK;
    exitlm_status status = xl_stair_append(&s->stair, ids, n, error);
    if (status == EXITLM_OK)
        status = xl_stair_advance(&s->stair, s->run.model->config.n_layers, error);
    if (status == EXITLM_OK) status = xl_logits_compute(&s->logits, s->stair.n - 1, 1, 0, error);
    talk->reply_pos = s->stair.n;
    talk->index = 0;
    return status;
}

/* Chooses until the talk has a position to run (*wants) or there is nothing left to do in it. */
static exitlm_status settle(const xl_rollout *r, xl_talk *talk, bool *wants, exitlm_error *error) {
    *wants = false;
    while (talk->busy) {
        int32_t id = -1;
        exitlm_status status = r->choose(r->user, talk, &id, error);
        if (status != EXITLM_OK) return status;
        if (id >= 0) talk->index++;
        if (id >= 0 && talk->session->stair.n + 1 < talk->session->stair.ctx) {
            *wants = true;
            return xl_stair_append(&talk->session->stair, &id, 1, error);
        }
        const int32_t *ids = NULL;
        size_t n = 0;
        bool fits = false;
        talk->turn++;
        status = r->more(r->user, talk, &ids, &n, error);
        if (status == EXITLM_OK && n) status = take_prompt(talk, ids, n, &fits, error);
        if (status != EXITLM_OK) return status;
        talk->busy = fits;
    }
    return EXITLM_OK;
}

static exitlm_status begin(const xl_rollout *r, xl_talk *talk, bool *none_left,
                           exitlm_error *error) {
    const int32_t *ids = NULL;
    size_t n = 0;
    bool fits = false;
    exitlm_session_reset(talk->session);
    talk->turn = talk->index = talk->reply_pos = 0;
    talk->resume_id = -1;
    exitlm_status status = r->begin(r->user, talk, &ids, &n, error);
    if (status == EXITLM_OK && talk->resume_id >= 0) {
        talk->busy = true;
        return xl_stair_append(&talk->session->stair, &talk->resume_id, 1, error);
    }
    *none_left = status == EXITLM_OK && n == 0;
    if (status != EXITLM_OK || n == 0) return status;
    status = take_prompt(talk, ids, n, &fits, error);
    if (status != EXITLM_OK || fits) {
        talk->busy = status == EXITLM_OK;
        return status;
    }
    talk->turn = 1; /* a prompt longer than the context: over before it began */
    return r->more(r->user, talk, &ids, &n, error);
}

exitlm_status xl_rollout_run(const xl_rollout *r, xl_talk *talks, uint32_t n, exitlm_error *error) {
    bool none_left = false;
    for (uint32_t i = 0; i < n; i++) talks[i].busy = false;
    bool waits[XL_CHUNK] = {false};
    for (;;) {
        xl_logits *together[XL_CHUNK];
        uint32_t count = 0;
        none_left = false; /* a conversation may have left others behind to go on with */
        for (uint32_t i = 0; i < n; i++) {
            waits[i] = false;
            exitlm_status status =
                talks[i].busy ? settle(r, &talks[i], &waits[i], error) : EXITLM_OK;
            while (status == EXITLM_OK && !talks[i].busy && !none_left) {
                status = begin(r, &talks[i], &none_left, error);
                waits[i] = status == EXITLM_OK && talks[i].resume_id >= 0;
                if (status == EXITLM_OK && talks[i].busy && !waits[i])
                    status = settle(r, &talks[i], &waits[i], error);
            }
            if (status != EXITLM_OK) return status;
            if (waits[i]) together[count++] = &talks[i].session->logits;
        }
        if (count == 0 || (r->step && !r->step(r->user))) return EXITLM_OK;
        exitlm_status status = xl_batch_advance(together, count, error);
        if (status != EXITLM_OK) return status;
    }
}
