/* Training data: the model answers (and invents) conversations, and what heads learn from is kept on disk in shards: token ids, the
 * model's likeliest tokens, and hidden states after a few layers. A shard's content depends on the plan alone; a finished one is not
 * made again, so that an interrupted run goes on where it stopped. */
#ifndef CLI_GATHER_H
#define CLI_GATHER_H
#include "dataset.h"
#include "train/dialog.h"
#include "exitlm.h"
#include "base/threads.h"

#define GATHER_SHARD_JOBS 128
#define GATHER_MAX_LAYERS 12
#define GATHER_TOP 24

typedef enum gather_kind { GATHER_ANSWER, GATHER_INVENT, GATHER_FORCED } gather_kind;

/* One conversation to be made. */
typedef struct gather_job {
    gather_kind kind;
    bool validation;   /* kept apart from training */
    uint32_t item;     /* of the data set; INVENT: unused */
    uint64_t seed;
    float temperature; /* of the answers; 0: greedy */
} gather_job;

typedef struct gather_plan {
    const exitlm_model *model;
    const dataset *data;
    gather_job *jobs;
    size_t n_jobs;
    uint32_t layers[GATHER_MAX_LAYERS], n_layers; /* layers run, ascending */
    uint32_t reply_tokens, user_tokens, context_tokens, batch;
    exitlm_kv_type kv_type;
    const char *kernel;
    const char *folder; /* shards go here; the caller made it unique to the plan */
    xl_user_frame frame;
    uint8_t key[32];    /* stands in every shard */
} gather_plan;

/* A shard in memory, without its hidden states. */
typedef struct gather_conversation {
    uint32_t job, first_id, n_ids, first_position, n_positions;
    uint32_t validation, kind, n_turns;
    float temperature;
} gather_conversation;
typedef struct gather_shard {
    uint32_t n_conversations, n_ids, n_positions, dim, top, n_layers;
    gather_conversation *conversations;
    int32_t *ids;       /* [n_ids] */
    uint32_t *at;       /* [n_positions] the position's place in its conversation's ids: it has seen ids[0 … at] */
    int32_t *top_ids;   /* [n_positions][top] */
    uint16_t *top_p;    /* [n_positions][top] f16 */
    long x_offset;      /* of the hidden states in the file: [n_layers][n_positions][dim] f16, rms 1 */
} gather_shard;

size_t gather_shards(const gather_plan *plan);
/* Makes what is missing, `pool` many shards at a time. CLI status; *complete false where Ctrl-C stopped it. */
int gather_run(const gather_plan *plan, xl_pool *pool, bool quiet, bool *complete);
/* 0, or the status of a reported failure. */
int gather_open(const gather_plan *plan, size_t index, gather_shard *shard);
/* Hidden states of one layer (index in plan->layers): x [n_positions][dim]. */
int gather_layer(const gather_plan *plan, size_t index, const gather_shard *shard, uint32_t layer, uint16_t *x);
void gather_close(gather_shard *shard);

#endif
