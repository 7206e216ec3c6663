/* Training data: the model answers (and invents) conversations, and what heads learn from is kept
 * in parts (part_file.h), in blocks of conversations: token ids, the model's likeliest tokens, and
 * hidden states after a few layers. What a conversation gives depends on the plan alone, so what
 * is learnt from them does not show how many parts there were. */
#ifndef XL_GATHER_H
#define XL_GATHER_H
#include "base/threads.h"
#include "dataset.h"
#include "dialog.h"
#include "exitlm.h"
#include "observer.h"
#include "part_file.h"

#define XL_GATHER_BLOCK_JOBS 128
#define XL_GATHER_MAX_LAYERS 12
#define XL_GATHER_TOP 24

typedef enum xl_gather_kind {
    XL_GATHER_ANSWER,
    XL_GATHER_INVENT,
    XL_GATHER_FORCED,
    XL_GATHER_KINDS
} xl_gather_kind;

/* One conversation to be made. */
typedef struct xl_gather_job {
    xl_gather_kind kind;
    bool validation; /* kept apart from training */
    uint32_t item;   /* of the data set; INVENT: unused */
    uint64_t seed;
    float temperature; /* of the answers; 0: greedy */
} xl_gather_job;

typedef struct xl_gather_plan {
    const exitlm_model *model;
    const xl_dataset *data;
    xl_gather_job *jobs;
    size_t n_jobs;
    uint32_t layers[XL_GATHER_MAX_LAYERS], n_layers; /* layers run, ascending */
    uint32_t reply_tokens, user_tokens, context_tokens, batch;
    exitlm_kv_type kv_type;
    const char *kernel;
    xl_user_frame frame; /* open NULL: the model knows no chat and writes texts */
    uint64_t seed;
    uint8_t key[32]; /* of all of this */
} xl_gather_plan;

/* A block in memory, without its hidden states. */
typedef struct xl_gather_conversation {
    uint32_t job, first_id, n_ids, first_position, n_positions;
    uint32_t validation, kind, n_turns;
    float temperature;
} xl_gather_conversation;
typedef struct xl_gather_block {
    uint32_t n_conversations, n_ids, n_positions, dim, top, n_layers;
    xl_gather_conversation *conversations;
    int32_t *ids; /* [n_ids] */
    /* [n_positions] the position's place in its conversation's ids: it has seen ids[0 … at] */
    uint32_t *at;
    int32_t *top_ids; /* [n_positions][top] */
    uint16_t *top_p;  /* [n_positions][top] f16 */
    /* of the hidden states in the file: [n_layers][n_positions][dim] f16, normalised as the model's
     * last norm does it, without its weights */
    uint64_t x_offset;
} xl_gather_block;

/* The head of a part of this plan. */
void xl_gather_head(const xl_gather_plan *plan, xl_shard shard, xl_part_head *head);
/* What trainers want of the plan of plan->model, from a head: the jobs and the data are not in it.
 * False: it is not of such a model. */
bool xl_gather_plan_of(const xl_part_head *head, xl_gather_plan *plan);
/* Makes what is missing of the part `path`, `pool` many blocks at a time. *complete false where the
 * observer stopped it. */
exitlm_status xl_gather_run(const xl_gather_plan *plan, xl_shard shard, const char *path,
                            xl_pool *pool, const xl_observer *observer, bool *complete,
                            exitlm_error *error);
exitlm_status xl_gather_open(const xl_gather_plan *plan, const xl_parts *parts, size_t index,
                             xl_gather_block *block, exitlm_error *error);
/* Hidden states of one layer (index in plan->layers): x [n_positions][dim]. */
exitlm_status xl_gather_layer(const xl_parts *parts, size_t index, const xl_gather_block *block,
                              uint32_t layer, uint16_t *x, exitlm_error *error);
void xl_gather_close(xl_gather_block *block);

#endif
