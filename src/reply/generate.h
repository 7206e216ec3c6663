/* One reply under way: the step machine's state. */
#ifndef XL_GENERATE_H
#define XL_GENERATE_H
#include "session.h"

enum { XL_MAX_STOPS = 16, XL_MAX_STOP_BYTES = 256 };

typedef enum xl_phase { XL_IDLE, XL_PROMPT, XL_DECODE, XL_FINISHING, XL_DONE } xl_phase;

/* A token that has been chosen; its text may still be held back. */
typedef struct xl_chosen {
    int32_t id, head, draft_head;
    uint32_t text_end;     /* bytes of the reply up to and with this token */
    float work, confidence;
    uint16_t layer;
    bool drafted;
    double at_ms;          /* clock when it was chosen */
} xl_chosen;

/* Drafts that wait for verification (draft.c): the last n positions of the session. */
typedef struct xl_draft {
    int32_t head;          /* -2: prompt lookup */
    uint16_t layer;
    float confidence;
} xl_draft;

typedef struct xl_generation {
    xl_phase phase;
    exitlm_generate_options options; /* its pointers are NULL: copied below */
    xl_sampler sampler;
    exitlm_kv_policy kv;
    uint32_t n_chain;                /* heads in use; 0 in mode FULL */
    float threshold[EXITLM_MAX_HEADS];
    char stop[XL_MAX_STOPS][XL_MAX_STOP_BYTES];
    uint32_t stop_bytes[XL_MAX_STOPS], n_stop;

    uint32_t prompt_n;      /* positions of the prompt */
    uint32_t reused;
    uint32_t limit;         /* most tokens of this reply */

    /* the token being computed at position session.n - 1 */
    uint32_t next_head;
    bool has_previous;
    xl_check previous;        /* of head previous_head */
    uint32_t previous_head;
    uint64_t check_macs;

    /* the reply */
    xl_chosen *tokens;      /* [ctx] */
    uint32_t n_tokens, n_released;
    char *text;             /* grows */
    size_t text_bytes, text_capacity, released_bytes;
    size_t decided_bytes;   /* text up to here can no longer be part of a stop string */
    xl_utf8_stream utf8;
    exitlm_reason reason;
    bool stop_found, ended_by_token;

    /* the context as text, so that the next turn re-uses the generated ids */
    char *context;
    size_t context_bytes, context_capacity;
    bool context_known;

    /* counters */
    uint32_t exits[EXITLM_MAX_HEADS], full_tokens;
    uint32_t draft_attempts, drafted, accepted, audited, audit_disagreed;
    uint64_t start_macs;
    double depth_sum;
    double start_ms, first_ms, last_ms, previous_ms;

    /* lossless */
    struct xl_drafting *drafting;
    /* events that wait to be given out before the next token */
    exitlm_event *events;   /* [n_events_capacity] ring */
    uint32_t n_events, events_given, events_capacity;
} xl_generation;

/* session.c calls these. */
void xl_generation_take(exitlm_session *s, xl_arena *arena);
void xl_generation_end(exitlm_session *s);  /* forgets the reply and the context's text */
void xl_generation_free(exitlm_session *s); /* what did not come from the session's arena */

/* For draft.c. */
/* Output rows, in whole tiles, whose scores a check by this head has just left in the first slots of the logits, as the full model would. */
uint32_t xl_scored_rows(const exitlm_session *s, const xl_head *head);
/* The token after position pos by the rule, of the full logits in row `row`; where a token is drawn, they are used up. */
exitlm_status xl_choose_full(exitlm_session *s, uint32_t row, uint32_t pos, int32_t *id, float *confidence);
void xl_emit(exitlm_session *s, const xl_chosen *chosen);
double xl_now(const exitlm_session *s);

/* draft.c: one round of lossless decoding: drafts and their verification, or one plain token. */
exitlm_status xl_draft_round(exitlm_session *s, exitlm_error *error);
void xl_draft_start(exitlm_session *s);
void xl_draft_take(exitlm_session *s, xl_arena *arena);

#endif
