/* Conversations under many settings of the exits at once, with the full model's choice beside every token.
 *
 * All settings of a conversation share one session as long as they say the same; where they part, the session is copied. Contexts are
 * computed in full depth and the exits decide on the hidden states that they would see with exact K/V (rollout.h), so text, exits and
 * disagreement are those of mode EXIT with the K/V policy `exact`, token by token.
 *
 * With another K/V policy every setting has contexts of its own: each conversation is written under one setting after the other, as mode
 * EXIT writes it, and what it said is then scored by the full model (measure_written.c). That takes longer and nothing is recorded. */
#ifndef CLI_MEASURE_H
#define CLI_MEASURE_H
#include "dataset.h"
#include "exitlm.h"
#include "model/heads.h"
#include "base/threads.h"

#define MEASURE_MAX 32 /* settings */

typedef struct measure_setting {
    float threshold[EXITLM_MAX_HEADS]; /* all 0: the full model */
} measure_setting;

/* One conversation under one setting. A reply that an exit ends against the full model counts one more token, a wrong one. */
typedef struct measure_sum {
    uint32_t tokens, exits[EXITLM_MAX_HEADS], wrong[EXITLM_MAX_HEADS];
    uint32_t wrong_full; /* tokens of the final head that the full model would not have said: its K/V was not exact */
    uint32_t common;    /* tokens before the text departs from the full model's */
    uint32_t repeats;   /* tokens that complete a run of four tokens that the reply had before */
    bool departed;
    double depth, work; /* sums over tokens, shares of full; work with failed checks and K/V filled later */
    double loss;        /* sum of -log p of the emitted tokens under the full model */
} measure_sum;

/* What a head says at one position. */
typedef struct measure_check {
    float entropy, p1, margin, other;
    int32_t argmax;
} measure_check;

typedef struct measure_plan {
    const exitlm_model *model;
    const exitlm_heads *heads;
    const dataset_item *items;
    size_t n_items;
    const measure_setting *settings; /* with `record` or for `common`: settings[0] is the full model */
    size_t n_settings;
    bool record;                     /* keep what every head says along the full model's text */
    uint32_t reply_tokens, context_tokens, batch;
    exitlm_kv_type kv_type;
    exitlm_kv_policy kv;             /* not EXACT: without `record`; a setting without exits is not run, its sums stay 0 */
    const char *kernel, *label;      /* label: of the progress line; NULL: none */
} measure_plan;

typedef struct measure_record {
    size_t n, capacity;
    uint32_t *conversation;          /* [n] ascending */
    uint8_t *first;                  /* [n] 1: first token of a reply, where inner heads are not asked */
    int32_t *full;                   /* [n] the full model's choice */
    measure_check *checks;           /* [n][n_heads] */
} measure_record;

typedef struct measure_result {
    size_t n_items, n_settings;
    measure_sum *sums;               /* [n_items][n_settings] */
    measure_record record;
    double seconds;
} measure_result;

/* CLI status; *complete false where Ctrl-C stopped it. */
int measure_run(const measure_plan *plan, xl_pool *pool, measure_result *result, bool *complete);
void measure_free(measure_result *result);
static inline const measure_sum *measure_at(const measure_result *r, size_t item, size_t setting) { return &r->sums[item * r->n_settings + setting]; }
/* Share of the conversation's tokens that are not the full model's choice: X of calibrate.h. With exact K/V they are all exits. */
double measure_x(const measure_sum *sum);
/* Share that exits wrongly. */
double measure_wrong_exits(const measure_sum *sum);
/* Share that exits. */
double measure_exited(const measure_sum *sum);

#endif
