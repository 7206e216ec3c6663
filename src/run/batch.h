/* Several sequences in one pass. */
#ifndef XL_BATCH_H
#define XL_BATCH_H
#include "logits.h"

/* Takes 1 <= n <= XL_CHUNK sequences of one model, each with exactly one position that has not been
 * through all layers (depth 0), through all layers together, then fills row 0 of each one's
 * logits. The first lends its scratch. For batched decoding. */
exitlm_status xl_batch_advance(xl_logits *const *sequences, uint32_t n, exitlm_error *error);

#endif
