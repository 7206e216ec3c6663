/* Training of one exit head on the model's own distribution: forward KL, AdamW, mini-batches. No
 * engine, no files: arrays in, arrays out.
 *
 * A head sees x, the hidden state after its layer, normalised as the model does it, by rms or by
 * mean and deviation, and computes (heads.h says the same for running it)
 *   n  = x * norm (+ the bias of the model's layer norm)
 *   h' = n (lens, vocabulary, full) | n + map n (tied) | n + down silu(up n) (mlp)
 *   z  = rows of the model's output matrix . h' (+ bias on the static shortlist), or for full its
 *      own matrix . h'; + the model's output bias, in which that on the static shortlist starts
 * over the static shortlist, the context's tokens outside of it, and "other" = w . h' + b for all
 * that is not listed.
 *
 * The target is the model's distribution, known as its top-K probabilities and the mass of the
 * rest, at a temperature: 1 is the paper's KL, 0 the model's choice alone, which is all that an
 * exit is judged by. Listed tokens of the top K keep their probability, the others' goes to
 * "other". The rest's mass belongs to the group of what is listed outside the top K and "other"
 * together: the loss asks for the group's mass and says nothing of its parts, so the target is
 * never biased by the cut. */
#ifndef XL_TRAIN_HEAD_H
#define XL_TRAIN_HEAD_H
#include "model/heads.h"
#include "base/threads.h"

/* Positions to learn from. Everything belongs to the caller and stays unchanged. */
typedef struct xl_train_set {
    size_t n;
    uint32_t dim, top_k;
    const uint16_t *x;      /* [n][dim] f16, normalised */
    const int32_t *top_ids; /* [n][top_k] the model's likeliest tokens, likeliest first */
    /* [n][top_k] f16, their probabilities (temperature 1, whole vocabulary) */
    const uint16_t *top_p;
    /* [n] context tokens outside the head's static shortlist: extra_ids[start … start + count -
     * 1] */
    const uint32_t *extra_start;
    const uint16_t *extra_count; /* [n] */
    const int32_t *extra_ids;
} xl_train_set;

/* What all heads share. */
typedef struct xl_train_base {
    uint32_t dim, vocab;
    const float *output;      /* [vocab][dim] the model's output matrix as f32 */
    const float *output_norm; /* [dim], where training starts */
    const int32_t *shortlist; /* [n_shortlist] */
    uint32_t n_shortlist;
    const float *norm_bias;   /* [dim] of a layer norm; NULL: none */
    const float *output_bias; /* [vocab]; NULL: none */
} xl_train_base;

typedef struct xl_train_options {
    xl_head_form form;
    uint32_t layer;  /* written through to the head */
    uint32_t rows;   /* of the shortlist */
    uint32_t hidden; /* mlp */
    uint32_t epochs, batch;
    /* peak learning rate; decay of matrices; share of the steps that warm up */
    float rate, weight_decay, warmup;
    /* 0..1: of the model's distribution; below 1 the top K stand for all of it */
    float target_temperature;
    uint64_t seed;
    xl_pool *pool; /* results do not depend on it */
    /* After every `report_steps` steps: loss and agreement over the last ones. False ends the
     * training with what is there. */
    uint32_t report_steps;
    bool (*report)(void *user, uint64_t step, uint64_t steps, double loss, double agreement);
    void *user;
} xl_train_options;

typedef struct xl_trainer xl_trainer;

/* An untrained head; USAGE for sizes that do not fit together, OUT_OF_MEMORY. */
exitlm_status xl_trainer_create(xl_trainer **trainer, const xl_train_base *base,
                                const xl_train_options *options, exitlm_error *error);
void xl_trainer_free(xl_trainer *trainer);
/* Runs the epochs that are left. Forms without parameters return at once. */
exitlm_status xl_trainer_run(xl_trainer *trainer, const xl_train_set *set, exitlm_error *error);
/* The head as it is, for xl_heads_write: points into the trainer. */
void xl_trainer_head(const xl_trainer *trainer, xl_head_source *head);

/* State for checkpoints: parameters, moments and the step, as one block of floats. */
size_t xl_trainer_state_floats(const xl_trainer *trainer);
void xl_trainer_save(const xl_trainer *trainer, float *state);
/* False (trainer unchanged) where the state is not of this trainer. */
bool xl_trainer_load(xl_trainer *trainer, const float *state, size_t n_floats);
uint64_t xl_trainer_step(const xl_trainer *trainer); /* steps done */

/* What the head says of every position of a set. */
typedef struct xl_head_answer {
    int32_t id;                       /* its choice; -1: "other" */
    float p1, margin, entropy, other; /* as in xl_check */
} xl_head_answer;
/* What the logits of the head are to be multiplied with (at most 1) to say the model's own
 * distribution best: trained on choices, a head is surer than the model, and sampling from it
 * wants the model's variety. From at most XL_SCALE_POSITIONS positions of the set. */
#define XL_SCALE_POSITIONS 4096
exitlm_status xl_trainer_sampling_scale(xl_trainer *trainer, const xl_train_set *set, float *scale,
                                        exitlm_error *error);
/* answers [set->n] */
exitlm_status xl_trainer_answer(xl_trainer *trainer, const xl_train_set *set,
                                xl_head_answer *answers, exitlm_error *error);

/* ---- K/V maps: ridge regression ---- */
/* Accumulates X'X and X'Y over batches and solves (X'X + ridge n I) W = X'Y, a constant 1
 * appended to x (its weight is not shrunk). */
typedef struct xl_ridge xl_ridge;
exitlm_status xl_ridge_create(xl_ridge **ridge, uint32_t inputs, uint32_t outputs,
                              exitlm_error *error);
void xl_ridge_free(xl_ridge *ridge);
/* x [n][inputs], y [n][outputs]; n <= 256. */
void xl_ridge_add(xl_ridge *ridge, const float *x, const float *y, size_t n);
/* w [outputs][inputs], bias [outputs]. USAGE where nothing was added or the matrix is singular. */
exitlm_status xl_ridge_solve(xl_ridge *ridge, double strength, float *w, float *bias,
                             exitlm_error *error);

#endif
