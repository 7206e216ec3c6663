/* One reply under way: the step machine's state (generate.c). */
#ifndef XL_GENERATION_H
#define XL_GENERATION_H
#include "draft.h"
#include "text_out.h"

enum { XL_MAX_DRAFT_TEXT = 64, XL_MAX_DRAFT_EVENTS = 4 * XL_MAX_VERIFY };

typedef enum xl_phase { XL_IDLE, XL_PROMPT, XL_DECODE, XL_FINISHING, XL_DONE } xl_phase;

/* A token that has been chosen; its text may still be held back. */
typedef struct xl_chosen {
    int32_t id, head, draft_head;
    uint32_t text_end; /* bytes of the reply up to and with this token */
    float work, confidence;
    uint16_t layer;
    bool drafted, forced, disagreed;
    double at_ms; /* clock when it was chosen */
} xl_chosen;

/* The chain of exits of a reply. */
typedef struct xl_chain {
    exitlm_kv_policy kv;
    const exitlm_level *row; /* that the thresholds are of; NULL: none, or the caller's own */
    uint32_t n;              /* heads in use; 0 in mode FULL */
    float threshold[EXITLM_MAX_HEADS], first; /* of the row */
} xl_chain;

typedef struct xl_generation {
    xl_phase phase;
    exitlm_generate_options options; /* its pointers are NULL: copied below */
    xl_sampler sampler;
    xl_logprobs logprobs; /* of this reply, where it wants them */
    xl_chain chain;
    exitlm_level own;  /* the chain's row, where it is the caller's */
    uint32_t prompt_n; /* positions of the prompt */
    uint32_t reused;   /* of these, taken from the turn before */
    uint32_t limit;    /* most tokens of this reply */

    /* the token being computed at the last position */
    uint32_t next_head;
    bool has_previous;
    xl_check previous; /* of the head that was asked last */
    /* a head has: what is left is the audit and the K/V, which may wait for weights */
    bool answered;
    xl_check answer; /* of next_head */
    uint64_t check_macs;

    /* the reply */
    xl_chosen *tokens; /* [ctx] */
    uint32_t n_tokens, n_released;
    xl_text_out out;
    size_t released_bytes;
    exitlm_reason reason;
    /* why the level's promise does not cover the reply, as far as it was known at the start; "" */
    const char *uncertified;

    /* The prompt as text, by its hash, so that the next turn re-uses the generated ids (chat.c). */
    uint8_t context_sha[32];
    size_t context_bytes;
    bool context_known;
    int32_t *prompt; /* [ctx] ids of a prompt that came as text, while it starts */

    /* counters */
    uint32_t computed; /* tokens, with an end of text and those that only spelled a stop string */
    uint32_t draft_attempts, drafted, accepted, audited, audit_disagreed;
    uint64_t start_macs;
    double start_ms, previous_ms;

    /* events of drafts, which are given out before the next token */
    exitlm_event events[XL_MAX_DRAFT_EVENTS];
    uint32_t n_events, events_given;
    char draft_text[XL_MAX_DRAFTS][XL_MAX_DRAFT_TEXT];
} xl_generation;

xl_generation *xl_generation_take(xl_arena *arena, const exitlm_model *model, uint32_t ctx);
/* Is there a turn that is over, whose prompt lies in the first n positions? */
static inline bool xl_generation_has_turn(const xl_generation *g, uint32_t n) {
    return g->context_known && !g->out.stopped && g->phase != XL_PROMPT && g->phase != XL_DECODE &&
           g->prompt_n <= n;
}
/* What the next turn has to know of the last one, where n positions are kept. */
void xl_generation_copy(xl_generation *to, const xl_generation *from, uint32_t n);
/* Forgets the reply and the context's text. */
void xl_generation_end(xl_generation *generation);

#endif
