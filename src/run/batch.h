/* Several sequences of one model in one pass. A row computes the same whoever is beside it, so what
 * a sequence gets does not depend on the others. */
#ifndef XL_BATCH_H
#define XL_BATCH_H
#include "logits.h"

/* Has a sequence asked for layers or logits while its staircase was deferred? */
static inline bool xl_batch_wants(const xl_logits *sequence) {
    return sequence->stair->wanted || sequence->wanted.n;
}
/* Runs what n <= XL_CHUNK sequences have asked for, the lowest layer first, until one has all that it
 * asked for; logits once nobody wants a layer. The first lends its scratch and its threads: it has
 * the largest context. A sequence whose next layer has not arrived counts as served: asked again,
 * it says so. */
void xl_batch_run(xl_logits *const *sequences, uint32_t n);
/* Takes 1 <= n <= XL_CHUNK sequences through all layers, then fills row 0 of each one's logits: of
 * its last position. USAGE where one has nothing to run, or a larger context than the first. */
exitlm_status xl_batch_advance(xl_logits *const *sequences, uint32_t n, exitlm_error *error);

#endif
