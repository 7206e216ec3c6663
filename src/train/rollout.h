/* Many conversations decoded side by side: a step takes one new position of every session through
 * all layers in one batch. What a conversation gives does not depend on its neighbours, because a
 * row's result does not (README.md). Training gathers its data here, and calibration measures: with
 * exact K/V the hidden state after layer L of a full pass is bit for bit what an exit at L would
 * see, so a whole chain of exits, the full model's choice beside it, and text written under the
 * chain's own decisions come from one pass. */
#ifndef XL_ROLLOUT_H
#define XL_ROLLOUT_H
#include "reply/session.h"

/* Hidden states of the last position after some layers, caught on their way. */
typedef struct xl_watch {
    uint32_t n, dim;
    const uint32_t *layers; /* [n] layers run, ascending */
    float *hidden;          /* [n][dim] */
} xl_watch;

typedef struct xl_talk {
    exitlm_session *session;
    xl_watch watch;
    size_t job;         /* which conversation; set by `begin` */
    uint32_t turn;      /* replies finished in it */
    uint32_t index;     /* tokens of this reply so far: the token being chosen has this index */
    uint32_t reply_pos; /* position of the reply's first token */
    /* >= 0: set by `begin`, which restored the session itself: the token to go on with */
    int32_t resume_id;
    bool busy;
} xl_talk;

typedef struct xl_rollout {
    void *user;
    /* A new conversation for an empty session: the ids of its prompt, to be read before the next
     * call. *n 0: there are none left, unless talk->resume_id was set (then turn, index and
     * reply_pos as well, index counting that token). */
    exitlm_status (*begin)(void *user, xl_talk *talk, const int32_t **ids, size_t *n,
                           exitlm_error *error);
    /* The next token. Row 0 of the session's logits holds the full model's for the last
     * position. *id < 0 ends the reply. */
    exitlm_status (*choose)(void *user, xl_talk *talk, int32_t *id, exitlm_error *error);
    /* A reply has ended (talk->turn counts it): ids to go on with, appended to what the session
     * holds (which the callee may have truncated or reset). *n 0: the conversation is over. */
    exitlm_status (*more)(void *user, xl_talk *talk, const int32_t **ids, size_t *n,
                          exitlm_error *error);
    /* Between two steps; false stops. NULL: never. */
    bool (*step)(void *user);
} xl_rollout;

/* The last position's hidden state after the watched layer number i. */
static inline const float *xl_watched(const xl_talk *talk, uint32_t i) {
    return talk->watch.hidden + (size_t)i * talk->watch.dim;
}

/* Talks with sessions of `options` and a watch on `layers` (which must live as long). *talks
 * [n], n <= XL_CHUNK. */
exitlm_status xl_talks_create(xl_talk **talks, uint32_t n, const exitlm_model *model,
                              const exitlm_session_options *options, const uint32_t *layers,
                              uint32_t n_layers, exitlm_error *error);
void xl_talks_free(xl_talk *talks, uint32_t n);

/* Runs until `begin` has no more and every conversation is over, or `step` says stop. An error of a
 * callback ends it. A conversation whose ids do not fit the context is ended where it stands. */
exitlm_status xl_rollout_run(const xl_rollout *rollout, xl_talk *talks, uint32_t n,
                             exitlm_error *error);

#endif
