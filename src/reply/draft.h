/* Lossless decoding: rounds of cheap drafts, checked by the full model. draft.c says how. */
#ifndef XL_DRAFT_H
#define XL_DRAFT_H
#include "run/exits.h"
#include "run/rule.h"

#define XL_MAX_DRAFTS (XL_MAX_VERIFY - 1)

typedef struct xl_draft {
    int32_t id;
    /* which drafted it; -1: the fixed drafter without a head, -2: prompt lookup */
    int32_t head;
    uint16_t layer;
    float confidence;
} xl_draft;

/* What a reply drafts with. */
typedef struct xl_draft_job {
    xl_stair *stair;
    xl_logits *logits;
    xl_exits *exits;
    const exitlm_heads *heads;
    const xl_sampler *sampler;
    const float *threshold;             /* [heads->n_heads] */
    uint32_t fixed_layer, fixed_length; /* the fixed drafter; layer 0: adaptive */
    uint32_t max_drafts;                /* 0: no limit of its own */
    unsigned sources;                   /* bits: 1 exits, 2 prompt lookup */
    double (*clock_ms)(void *user);     /* NULL: none */
    void *clock_user;
} xl_draft_job;

/* What a step of a round has done: one more draft, or the end of the round. */
typedef struct xl_round {
    uint32_t base;         /* position of the last token that was certain */
    uint32_t n;            /* drafts of this round so far */
    const xl_draft *draft; /* [n] */
    bool drafted;          /* the last of them was made by this step */
    /* 0: the round goes on; else tokens that the full model says, one after the other */
    uint32_t n_tokens;
    int32_t id[XL_MAX_VERIFY];
    float confidence[XL_MAX_VERIFY];
} xl_round;

typedef struct xl_drafting xl_drafting;

xl_drafting *xl_drafting_take(xl_arena *arena);
/* A new reply: what was learnt about the device and the heads stays. */
void xl_drafting_start(xl_drafting *drafting, const xl_draft_job *job);
/* One step: a draft, or the verification of the round's drafts, after which the positions of wrong
 * ones are dropped; `left`: tokens that the reply may still have. The stair then holds base +
 * n_tokens positions: the last token's own is still to be appended. */
exitlm_status xl_draft_step(xl_drafting *drafting, uint32_t left, xl_round *round,
                            exitlm_error *error);
/* After a round: how many of its tokens were taken, and how many of these count (an end of text
 * does not). Returns the drafts that were right among them. */
uint32_t xl_draft_learn(xl_drafting *drafting, uint32_t taken, uint32_t counted);

#endif
