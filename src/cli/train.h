/* exitlm train, in its stages: plan and gather (train_plan.c, gather.c), arrays to learn from (train_set.c), heads (train_heads.c), K/V
 * maps (train_maps.c), the file (cmd_train.c). */
#ifndef CLI_TRAIN_H
#define CLI_TRAIN_H
#include "cli.h"
#include "dataset.h"
#include "engine.h"
#include "gather.h"
#include "train/train_head.h"

typedef struct train_options {
    cli_engine_options engine;
    const char *output, *out_data, *cache, *licence;
    cli_texts data;
    int form, matrix_type;
    cli_counts layers;
    uint32_t self_chat, answers, reply_tokens, rows, vocabulary_rows, hidden, epochs, batch, probe_tokens, map_tokens;
    float rate, weight_decay, target_temperature;
    uint64_t seed;
    bool only_data, gathered, no_maps, quiet;
} train_options;

extern const char *const train_forms[];   /* choices of --form: names of heads.h's forms without "vocabulary" */
extern const char *const train_matrix_types[]; /* f32, f16, q8_0 */

typedef struct train_run {
    const train_options *options;
    cli_engine engine;
    dataset data;
    gather_plan plan;
    char *cache, *folder; /* the cache, and the shards' folder in it */
    xl_pool *pool;
    float *output;        /* [vocab][dim] the model's output matrix as f32 */
    xl_train_base base;
    int32_t *shortlist;   /* [base.n_shortlist] */
} train_run;

/* ---- train_plan.c ---- */
/* Data set, jobs, key and folder. */
int train_plan_make(train_run *run);
void train_plan_free(train_run *run);
/* Writes the conversations that were gathered as JSONL. */
int train_plan_save(const train_run *run, const char *path);

/* ---- train_set.c ---- */
/* One layer's positions of the training or the validation part. */
typedef struct train_part {
    xl_train_set set;
    uint16_t *x;
    int32_t *top_ids;
    uint16_t *top_p;
    uint32_t *extra_start;
    uint16_t *extra_count;
    int32_t *extra_ids;
    float *weight;       /* [n] 1 / positions of the conversation */
    uint8_t *source;     /* [n] gather_kind of the conversation */
} train_part;
/* Most frequent choices of the model, most frequent first. */
int train_shortlist(train_run *run);
/* layer: index in plan.layers. rows: static shortlist of the head (context tokens outside of it are the extras).
 * At most max_positions (0: all), whole conversations in their order. */
int train_part_load(const train_run *run, uint32_t layer, uint32_t rows, bool validation, size_t max_positions, train_part *part);
void train_part_free(train_part *part);

/* ---- train_heads.c ---- */
typedef struct train_result {
    xl_trainer *trainer;
    uint32_t layer;
    double agreement[3], positions[3]; /* on validation: by gather_kind */
    float sampling_scale;              /* xl_trainer_sampling_scale */
    xl_head_answer *answers;           /* [validation positions] */
} train_result;
/* Trains one head, or takes it from its checkpoint. *stopped: Ctrl-C; the head is as far as it came. */
int train_head(train_run *run, uint32_t layer, bool vocabulary, size_t max_positions, uint32_t epochs, train_result *result, bool *stopped);
void train_result_free(train_result *result);
/* Tries all candidate layers on part of the data, prints what each earns and picks a set. */
int train_choose_layers(train_run *run, uint32_t *layers, uint32_t *n_layers, bool *stopped);

/* ---- train_maps.c ---- */
/* K/V maps of the layers that a head at `layer` skips; arrays as xl_head_source wants them, into one block. */
typedef struct train_maps {
    uint32_t layer, n;  /* n = n_layers - layer */
    float *memory;
    const float **k, **v, **k_bias, **v_bias; /* [n] */
} train_maps;
/* For the last of `layers` (ascending) before the model's last, from one pass over gathered conversations: maps [n_layers], the others empty. */
int train_maps_fit(const train_run *run, const uint32_t *layers, uint32_t n_layers, train_maps *maps);
void train_maps_free(train_maps *maps);

#endif
