/* The exit decision: when is a token sure? A head looks at the hidden state after its layer, scores
 * a shortlist, and says how uncertain it is (xl_exit_check). It answers where that is under the
 * level's threshold (xl_head_answers). */
#ifndef XL_EXITS_H
#define XL_EXITS_H
#include "logits.h"
#include "sampler.h"

/* What an exit check says of one position. */
typedef struct xl_check {
    /* the head's choice under the token rule (greedy: its argmax); -1: it declines ("other") */
    int32_t id;
    float uncertainty; /* 0 … 1 by the heads file's metric */
    /* the ingredients, for calibration: */
    float entropy; /* / log(outcomes) */
    float p1, margin, other;
    int32_t argmax; /* without sampling; -1: other */
    /* Output rows, in whole tiles, whose scores it has left in the first slots of the logits, as the
     * full model would. A check that follows, and then the full model, go on from there. */
    uint32_t scored;
} xl_check;

/* Tokens of the context beside the shortlist, the first ones that are not in it. */
enum { XL_MAX_CONTEXT_ROWS = 1024 };

/* The heads of one sequence: their shortlist and the rows of context tokens beside it. */
typedef struct xl_exits xl_exits;

/* Floats that xl_logits_take is to provide for its scores. */
size_t xl_exits_scratch_floats(const exitlm_heads *heads, uint32_t ctx);
/* Takes it from the arena; NULL while measuring, and without heads. */
xl_exits *xl_exits_take(xl_arena *arena, xl_logits *logits, const exitlm_heads *heads);
/* Fills its tables, once the memory is there. NULL is allowed. */
void xl_exits_fill(xl_exits *exits);

/* Scores of head `head` for position pos, the last, whose hidden state after the head's layer is
 * `hidden`; previous: the check of the head that was asked about it just before (or NULL), for "agrees"
 * and for what it has scored. With `sampler` NULL
 * greedy. */
exitlm_status xl_exit_check(xl_exits *exits, uint32_t head, uint32_t pos, const float *hidden,
                            const xl_check *previous, const xl_sampler *sampler, xl_check *check,
                            exitlm_error *error);
/* The exit decision. Generation (try_head of reply/generate.c), drafting (reply/draft.c) and
 * measuring (train/measure_written.c) share it.
 * Is a head asked about a position of this depth? A head that may never exit costs nothing; after a
 * prompt that went through all layers only heads there are left to ask. */
static inline bool xl_head_is_asked(const xl_head *head, float threshold, uint32_t depth) {
    return threshold > 0 && depth <= head->layer;
}
/* The threshold of head h for a token; `first` is a level's first_threshold where the token is the
 * first of a reply, else 0. */
static inline float xl_threshold_of(const exitlm_heads *heads, const float *threshold, float first,
                                    uint32_t h) {
    return first > 0 && h + 1 == heads->n_heads && heads->head[h].layer == heads->n_layers
               ? first
               : threshold[h];
}

/* Does it answer? */
static inline bool xl_head_answers(const xl_check *check, float threshold) {
    return check->id >= 0 && check->uncertainty < threshold;
}

/* What the metrics logistic and regret weigh; the latter by magnitude, for there are worlds between
 * p1 = .99 and .9999. `agrees`: with the head that was asked before. */
#define XL_FEATURES 5
void xl_metric_features(exitlm_metric metric, const xl_check *check, bool agrees, float *features);
/* Uncertainty by a metric from the ingredients; logistic and regret weigh them as heads->head[head]
 * says. */
float xl_uncertainty(const exitlm_heads *heads, uint32_t head, exitlm_metric metric,
                     const xl_check *check, const xl_check *previous);
/* Context tokens outside the shortlist that each check scores too. */
uint32_t xl_context_rows(const xl_exits *exits);

#endif
