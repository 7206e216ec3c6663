/* What the two ways of measuring share: measure.c and measure_written.c. */
#ifndef XL_MEASURE_PARTS_H
#define XL_MEASURE_PARTS_H
#include "measure.h"
#include "reply/session.h"

/* What the threads share. */
typedef struct xl_measuring {
    const xl_measure_plan *plan;
    xl_measure_result *result;
    atomic_size_t next_item, finished, tokens; /* finished: of n_items * n_settings */
    atomic_bool stop;
    xl_failure failure;
    /* [n_items][n_settings][context] layers run for each token of the reply */
    uint8_t *depths;
    xl_measure_record *records; /* [n_items], with `record` */
    double layer_macs, token_macs, head_macs[EXITLM_MAX_HEADS];
} xl_measuring;

/* Tells the observer how far all are. */
void xl_measuring_show(xl_measuring *all, bool ended);
/* The same now and then (`leader`: one thread does). False: stop. */
bool xl_measuring_step(xl_measuring *all, bool leader);
/* Has the reply [n] said its last three tokens and `id` before? */
bool xl_reply_repeats(const int32_t *reply, uint32_t n, int32_t id);
/* Counts token number `index` of a reply, which head `head` (-1: the final one) answered. */
void xl_count_token(const xl_measure_plan *plan, xl_measure_sum *sum, uint32_t index, int32_t head,
                    bool wrong, float regret);
/* Regret of token `id` where the full model's choice is `full`, both for the last position by
 * `logits` (slot order); id < 0: 1. sampler: the noise counts; NULL: greedy. */
float xl_token_regret(const exitlm_session *s, const float *logits, int32_t full, int32_t id,
                      const xl_sampler *sampler);
/* -log p of token `id` under logits (slot order) of these statistics. */
double xl_token_loss(const exitlm_session *s, const float *logits, const xl_softmax_stats *stats,
                     int32_t id);

/* measure_written.c: one thread's share of the conversations under a K/V policy that is not
 * exact. */
exitlm_status xl_measure_written(xl_measuring *all, bool leader, exitlm_error *error);

#endif
