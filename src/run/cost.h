/* What work costs, in multiply-adds of matrices; and how fast this machine is. */
#ifndef XL_COST_H
#define XL_COST_H
#include "model/heads.h"

uint64_t xl_layer_macs(const exitlm_model *model);
uint64_t xl_token_macs(const exitlm_model *model); /* all layers and the output matrix */
/* What the layers that an exit at `head` skips cost later, in layers; `waiting`: of one that is
 * run for a position that waited. */
double xl_deferred_layers(const exitlm_model *model, const exitlm_heads *heads, uint32_t head,
                          exitlm_kv_policy policy, double waiting);
/* A token's expected multiply-adds under a level, from its coverage, on this kind of machine. */
double xl_expected_macs(const exitlm_model *model, const exitlm_heads *heads,
                        const exitlm_level *level);
/* Bytes of weights a second that one row of activations is multiplied with, on this thread: what a
 * token's speed depends on. Measured for some milliseconds; 0 where memory or a clock is missing. */
double xl_weight_speed(double (*clock_ms)(void *user));

#endif
