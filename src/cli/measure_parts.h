/* What measure.c and measure_written.c share. */
#ifndef CLI_MEASURE_PARTS_H
#define CLI_MEASURE_PARTS_H
#include <stdatomic.h>

#include "measure.h"
#include "reply/session.h"

typedef struct shared {
    const measure_plan *plan;
    measure_result *result;
    atomic_size_t next_item, finished, tokens; /* finished: of n_items * n_settings */
    atomic_int status;
    atomic_bool stop;
    double start_ms, last_ms;
    uint8_t *depths;         /* [n_items][n_settings][context] layers run for each token of the reply */
    measure_record *records; /* [n_items], with `record` */
    double layer_macs, token_macs, head_macs[EXITLM_MAX_HEADS];
} shared;

/* Shows progress now and then (`leader`: one thread does), looks for Ctrl-C. False: stop. */
bool measure_step(shared *all, bool leader);
/* Has the reply [n] said its last three tokens and `id` before? */
bool measure_repeats(const int32_t *reply, uint32_t n, int32_t id);
/* -log p of token `id` under logits (slot order) of these statistics. */
double measure_loss(const exitlm_session *s, const float *logits, const xl_softmax_stats *stats, int32_t id);

/* One thread's share of the conversations under a K/V policy that is not exact. */
int measure_write(shared *all, bool leader);

#endif
