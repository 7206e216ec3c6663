/* Conversations under many settings of the exits at once, with the full model's choice beside every
 * token.
 *
 * All settings of a conversation share one session as long as they say the same; where they part,
 * the session is copied. Contexts are computed in full depth and the exits decide on the hidden
 * states that they would see with exact K/V (rollout.h), so text, exits and disagreement are those
 * of mode EXIT with the K/V policy `exact`, token by token.
 *
 * With another K/V policy every setting has contexts of its own: each conversation is written under
 * one setting after the other, as mode EXIT writes it, and what it said is then scored by the
 * full model (measure_written.c). That takes longer and nothing is recorded. */
#ifndef XL_MEASURE_H
#define XL_MEASURE_H
#include "base/threads.h"
#include "dataset.h"
#include "exitlm.h"
#include "model/heads.h"
#include "observer.h"

#define XL_MEASURE_MAX 32 /* settings */

/* A reply's tokens are counted by windows of so many as well, the last of which has the rest. */
#define XL_MEASURE_WINDOW XL_CALIBRATED_TOKENS
#define XL_MEASURE_WINDOWS 11
/* Of replies of up to so many tokens. */
static inline uint32_t xl_measure_windows(uint32_t reply_tokens) {
    const uint32_t n = (reply_tokens + XL_MEASURE_WINDOW - 1) / XL_MEASURE_WINDOW;
    return n < XL_MEASURE_WINDOWS ? n : XL_MEASURE_WINDOWS;
}

typedef struct xl_measure_setting {
    float threshold[EXITLM_MAX_HEADS]; /* all 0: the full model */
    float first;                       /* exitlm_level.first_threshold */
} xl_measure_setting;

/* One conversation under one setting. A reply that an exit ends against the full model counts
 * one more token, a wrong one. */
typedef struct xl_measure_sum {
    uint32_t tokens, exits[EXITLM_MAX_HEADS], wrong[EXITLM_MAX_HEADS];
    /* tokens of the final head that the full model would not have said: its K/V was not exact */
    uint32_t wrong_full;
    uint32_t common;  /* tokens before the text departs from the full model's */
    uint32_t repeats; /* tokens that complete a run of four tokens that the reply had before */
    bool departed;
    /* sums over tokens, shares of full; work with failed checks and K/V filled later */
    double depth, work;
    double loss;       /* sum of -log p of the emitted tokens under the full model */
    double regret;     /* sum of xl_regret (calibrate.h) */
    uint32_t unwanted; /* tokens that cost any */
    uint32_t window_tokens[XL_MEASURE_WINDOWS], window_wrong[XL_MEASURE_WINDOWS];
} xl_measure_sum;

/* What a head says at one position. */
typedef struct xl_measure_check {
    float entropy, p1, margin, other;
    float regret;       /* of its choice; 1 where it declines */
    int32_t argmax, id; /* id: what it says, which may be drawn */
} xl_measure_check;

typedef struct xl_measure_plan {
    const exitlm_model *model;
    const exitlm_heads *heads;
    const xl_dataset_item *items;
    size_t n_items;
    /* with `record` or for `common`: settings[0] is the full model */
    const xl_measure_setting *settings;
    size_t n_settings;
    bool record; /* keep what every head says along the full model's text */
    uint32_t reply_tokens, context_tokens, batch;
    exitlm_kv_type kv_type;
    /* > 0: tokens are drawn, the full model's with the same noise, which is each conversation's own.
     * Only with kv EXACT */
    float temperature;
    uint64_t seed;
    /* not EXACT: without `record`; a setting without exits is not run, its sums stay 0 */
    exitlm_kv_policy kv;
    const char *kernel;
    const char *label;           /* what the observer is told that this is */
    const xl_observer *observer; /* or NULL */
} xl_measure_plan;

typedef struct xl_measure_record {
    size_t n, capacity;
    uint32_t *conversation; /* [n] ascending */
    /* [n] 1: first token of a reply, where inner heads are not asked */
    uint8_t *first;
    int32_t *full;            /* [n] the full model's choice */
    xl_measure_check *checks; /* [n][n_heads] */
} xl_measure_record;

typedef struct xl_measure_result {
    size_t n_items, n_settings;
    size_t measured[XL_MEASURE_MAX]; /* of each setting: so many of the first items */
    xl_measure_sum *sums;            /* [n_items][n_settings] */
    xl_measure_record record;
} xl_measure_result;

/* *complete false where the observer stopped it. */
exitlm_status xl_measure_run(const xl_measure_plan *plan, xl_pool *pool, xl_measure_result *result,
                             bool *complete, exitlm_error *error);
void xl_measure_free(xl_measure_result *result);
/* Room for sums, all 0. False: no memory. */
bool xl_measure_begin(xl_measure_result *result, size_t n_items, size_t n_settings);
/* Adds `part`, which measured the items from `from` on under these settings of `result`. */
bool xl_measure_add(xl_measure_result *result, const xl_measure_result *part, size_t from,
                    const size_t *settings, uint32_t n_heads);
/* The other way round: n items of `all` from `from` on under these settings. False: no memory. */
bool xl_measure_take(const xl_measure_result *all, size_t from, size_t n, const size_t *settings,
                     size_t n_settings, uint32_t n_heads, xl_measure_result *part);
static inline const xl_measure_sum *xl_measure_at(const xl_measure_result *r, size_t item,
                                                  size_t setting) {
    return &r->sums[item * r->n_settings + setting];
}
/* Of one setting: means over conversations, but `coverage`, `perplexity` and `repetition`, which are
 * over all tokens. */
typedef struct xl_measure_means {
    double coverage[EXITLM_MAX_HEADS], agreement, agreement_exited, mean_depth, mean_work;
    double common_prefix, perplexity, repetition;
    double regret, unwanted;
    size_t tokens;
} xl_measure_means;
xl_measure_means xl_measure_means_of(const xl_measure_result *result, size_t setting);
/* Share of the conversation's tokens that are not the full model's choice: X of calibrate.h.
 * With exact K/V they are all exits. */
double xl_measure_x(const xl_measure_sum *sum);
/* The same of its tokens in one window alone. Negative: it has none there, but for the first, which
 * every conversation has. */
double xl_measure_x_in(const xl_measure_sum *sum, uint32_t window);
/* Share that exits wrongly. */
double xl_measure_wrong_exits(const xl_measure_sum *sum);
/* Share that exits. */
double xl_measure_exited(const xl_measure_sum *sum);
/* Mean regret of its tokens, 0 … 1. */
double xl_measure_mean_regret(const xl_measure_sum *sum);
/* The context that conversations are measured in: `wanted`, or where it is 0 the model's, at
 * most 1024 tokens. */
uint32_t xl_measure_context(const exitlm_model *model, uint32_t wanted);
/* Drops what would count as perfect because nothing is said: conversations that are blank, or whose
 * first prompt does not fit the context. Returns how many in *left_out. */
exitlm_status xl_measure_leave_out(const exitlm_model *model, uint32_t context, xl_dataset *set,
                                   size_t *left_out, exitlm_error *error);

#endif
