#include "cost.h"

#include <string.h>

/* What a layer costs that a waiting position runs later, in a batch, against running it at once:
 * .07 to .7, by the instruction set (SPEED.md, "Rows of a batch" and "Kernels"). One number for
 * all of them, because it decides which K/V policy a level takes, and with that what is answered:
 * the same on every device. */
#define WAITING_ROW 0.4

uint64_t xl_layer_macs(const exitlm_model *m) {
    const xl_config *c = &m->config;
    return (uint64_t)c->dim * (2 * (uint64_t)c->q_dim + 2 * (uint64_t)c->kv_dim +
                               (c->gated ? 3 : 2) * (uint64_t)c->ffn_dim);
}

uint64_t xl_token_macs(const exitlm_model *m) {
    return m->config.n_layers * xl_layer_macs(m) + (uint64_t)m->config.vocab * m->config.dim;
}

/* Of its check after that of the head `previous` (NULL: it is the first): a vocabulary exit goes on
 * from what another has scored. */
static uint64_t check_macs(const exitlm_heads *heads, const xl_head *head,
                           const xl_head *previous) {
    const bool goes_on =
        previous && previous->form == XL_FORM_VOCABULARY && head->form == XL_FORM_VOCABULARY;
    return xl_head_macs(heads, head) - (goes_on ? (uint64_t)previous->rows * heads->dim : 0);
}

double xl_deferred_layers(const exitlm_model *m, const exitlm_heads *heads, uint32_t head,
                          exitlm_kv_policy policy, double waiting) {
    const double skipped = m->config.n_layers - heads->head[head].layer,
                 kv = 2.0 * m->config.kv_dim * m->config.dim / (double)xl_layer_macs(m);
    const uint32_t mapping = xl_heads_mapping(heads);
    if (policy == EXITLM_POLICY_EXACT || skipped == 0) return waiting * skipped;
    if (policy == EXITLM_POLICY_PROPAGATE || head >= mapping) return kv * skipped;
    const double mapped = m->config.n_layers - heads->head[mapping].layer;
    return waiting * (skipped - mapped) + kv * mapped;
}

double xl_expected_macs(const exitlm_model *m, const exitlm_heads *heads,
                        const exitlm_level *level) {
    const double layer = (double)xl_layer_macs(m), token = (double)xl_token_macs(m);
    double sum = 0, left = 1;
    const xl_head *previous = NULL;
    for (uint32_t h = 0; h < heads->n_heads; h++) {
        const double at = heads->head[h].layer;
        if (level->threshold[h] > 0) {
            sum += left * (double)check_macs(heads, &heads->head[h], previous);
            previous = &heads->head[h];
        }
        sum += level->coverage[h] * layer *
               (at + xl_deferred_layers(m, heads, h, level->kv, WAITING_ROW));
        left -= level->coverage[h];
    }
    return sum + left * token;
}

enum { SPEED_COLS = 576, SPEED_ROWS = 24576, SPEED_PASSES = 6 };

/* 8 MB of Q4_0 weights, more than most caches hold; the best of some passes. */
double xl_weight_speed(double (*clock_ms)(void *user)) {
    const xl_kernels *kernels = xl_kernels_pick(NULL);
    const exitlm_allocator libc = xl_libc_allocator;
    size_t bytes;
    if (!xl_matrix_bytes(XL_Q4_0, SPEED_ROWS, SPEED_COLS, &bytes)) return 0;
    const size_t act_bytes = xl_act_bytes(SPEED_COLS),
                 needed = bytes + act_bytes + sizeof(float) * (SPEED_ROWS + SPEED_COLS);
    uint8_t *memory = xl_calloc(&libc, needed, 1);
    if (!memory) return 0;
    memset(memory, 1, bytes);
    uint8_t *act = memory + bytes;
    float *x = (float *)(void *)(act + act_bytes), *y = x + SPEED_COLS;
    for (size_t i = 0; i < SPEED_COLS; i++) x[i] = (float)i;
    kernels->quantize(act, NULL, x, SPEED_COLS);
    double best_ms = 0;
    for (int i = 0; i < SPEED_PASSES; i++) {
        const double start = clock_ms(NULL);
        kernels->matmul[XL_Q4_0](y, SPEED_ROWS, memory, SPEED_COLS, 0, SPEED_ROWS, act, act_bytes,
                                 1);
        const double ms = clock_ms(NULL) - start;
        if (ms > 0 && (best_ms == 0 || ms < best_ms)) best_ms = ms;
    }
    xl_free(&libc, memory, needed, 1);
    return best_ms > 0 ? (double)bytes / best_ms * 1000 : 0;
}
