/* Exit heads for a model, in stages: plan and gather (train_plan.c, gather.c), arrays to learn from
 * (train_set.c), heads (train_heads.c), K/V maps (train_maps.c), the file (train_file.c). */
#ifndef XL_TRAIN_H
#define XL_TRAIN_H
#include "dataset.h"
#include "gather.h"
#include "observer.h"
#include "train_head.h"

typedef struct xl_training_options {
    /* the heads file; where hidden states and checkpoints are kept (NULL: beside it) */
    const char *output, *cache;
    const char *licence;    /* NULL: the model's */
    int form;               /* index in xl_training_forms */
    const uint32_t *layers; /* [n_layers] named; none: chosen by what they earn */
    size_t n_layers;
    uint32_t self_chat, answers, reply_tokens, rows, hidden, epochs, batch, probe_tokens,
        map_tokens;
    uint32_t vocabulary_rows; /* of the vocabulary exit */
    uint32_t further_rows;    /* more than these: of a second one, which is asked where the first
                               * is not sure; 0: there is none */
    float rate, target_temperature;
    uint64_t seed;
    bool no_maps;
    bool vocabulary_only;             /* hidden states of the last layer alone are kept */
    bool as_paper;                    /* those of the named layers; heads are judged by entropy */
    uint32_t threads, context_tokens; /* context_tokens 0: the model's, at most 1024 */
    exitlm_kv_type kv_type;
    const char *kernel;
} xl_training_options;

/* NULL-terminated: heads.h's forms without "vocabulary" */
extern const char *const xl_training_forms[];
#define XL_TRAINING_FULL 2 /* index of "full" */

typedef struct xl_training {
    const xl_training_options *options;
    const exitlm_model *model;
    exitlm_model_info info;
    xl_dataset data; /* what train may use */
    xl_gather_plan plan;
    xl_parts gathered; /* what is learnt from */
    char *folder;      /* in the cache: what belongs to this plan */
    size_t n_conversations, n_of_kind[XL_GATHER_KINDS]; /* counted with the shortlist */
    xl_pool *pool;
    const xl_observer *observer;
    float *output; /* [vocab][dim] the model's output matrix as f32 */
    xl_train_base base;
    int32_t *shortlist; /* [base.n_shortlist] */
    /* Every other conversation makes the shortlist, and the rest is learnt from. In its own
     * conversations a list misses nothing, and from little data "other" would not be learnt. */
    bool halved;
} xl_training;

/* ---- train_plan.c ---- */
/* Jobs and key, from model, options and data. xl_training_free either way; it frees the data too. */
exitlm_status xl_training_plan(xl_training *run, exitlm_error *error);
/* Gathers in the cache what the plan says, or goes on with it, and opens it, stopped or not. */
exitlm_status xl_training_gather(xl_training *run, bool *complete, exitlm_error *error);
/* Opens parts that were gathered before, in the place of planning and gathering. */
exitlm_status xl_training_open(xl_training *run, const char *const *paths, size_t n,
                               exitlm_error *error);
void xl_training_free(xl_training *run);
/* Writes the conversations that were gathered as JSONL. */
exitlm_status xl_training_save_data(const xl_training *run, const char *path, exitlm_error *error);

/* ---- train_set.c ---- */
/* One layer's positions of the training or the validation part. */
typedef struct xl_train_part {
    xl_train_set set;
    uint16_t *x;
    int32_t *top_ids;
    uint16_t *top_p;
    uint32_t *extra_start;
    uint16_t *extra_count;
    int32_t *extra_ids;
    float *weight;   /* [n] 1 / positions of the conversation */
    uint8_t *source; /* [n] xl_gather_kind of the conversation */
} xl_train_part;
/* Most frequent choices of the model, most frequent first, in place of an earlier list. */
exitlm_status xl_training_shortlist(xl_training *run, exitlm_error *error);
/* layer: index in plan.layers. rows: static shortlist of the head (context tokens outside of it are
 * the extras). At most max_positions (0: all), whole conversations in their order. */
exitlm_status xl_train_part_load(const xl_training *run, uint32_t layer, uint32_t rows,
                                 bool validation, size_t max_positions, xl_train_part *part,
                                 exitlm_error *error);
void xl_train_part_free(xl_train_part *part);

/* ---- train_heads.c ---- */
/* What the plan takes, and what exits can win at best. */
typedef struct xl_training_prospect {
    size_t tokens;     /* at most, that the model is to write; texts that stand apart */
    double macs;       /* of these */
    double least_work; /* of a token that leaves where it costs least, as a share of a full one */
} xl_training_prospect;
void xl_training_expect(const xl_training *run, xl_training_prospect *prospect);
typedef struct xl_train_result {
    xl_trainer *trainer;
    uint32_t layer;
    double agreement[3], positions[3]; /* on validation: by xl_gather_kind */
    float sampling_scale;              /* xl_trainer_sampling_scale */
    xl_head_answer *answers;           /* [validation positions] */
} xl_train_result;
typedef struct xl_head_plan {
    uint32_t layer; /* index in plan.layers */
    bool vocabulary;
    uint32_t rows, epochs;
    size_t max_positions; /* 0: all */
} xl_head_plan;
/* Trains one head, or takes it from its checkpoint. *stopped: by the observer; the head is as
 * far as it came. */
exitlm_status xl_training_head(xl_training *run, const xl_head_plan *plan, xl_train_result *result,
                               bool *stopped, exitlm_error *error);
void xl_train_result_free(xl_train_result *result);
/* Tries all candidate layers on part of the data and picks a set. *work: what a token then costs at
 * 5 % disagreement on held-out conversations, as a share of a full one. */
exitlm_status xl_training_choose_layers(xl_training *run, uint32_t *layers, uint32_t *n_layers,
                                        double *work, bool *stopped, exitlm_error *error);

/* ---- train_maps.c ---- */
/* K/V maps of the layers that a head at `layer` skips; arrays as xl_head_source wants them, into
 * one block. */
typedef struct xl_train_maps {
    uint32_t layer, n; /* n = n_layers - layer */
    float *memory;
    const float **k, **v, **k_bias, **v_bias; /* [n] */
} xl_train_maps;
/* For the last of `layers` (ascending) before the model's last, from one pass over gathered
 * conversations: maps [n_layers], the others empty. */
exitlm_status xl_train_maps_fit(const xl_training *run, const uint32_t *layers, uint32_t n_layers,
                                xl_train_maps *maps, exitlm_error *error);
void xl_train_maps_free(xl_train_maps *maps);

/* ---- train_file.c ---- */
/* All that follows gathering: the shortlist, the layers where none are named, their heads and maps,
 * and the file.
 * *n_heads: how many were written; 0 where the observer stopped it before the first. */
typedef struct xl_training_report {
    double work; /* expected with the layers that were chosen; 0 where they are named */
    uint32_t n_heads;
    size_t n_bytes;
} xl_training_report;
exitlm_status xl_training_run(xl_training *run, xl_training_report *report, exitlm_error *error);

#endif
