/* A sequence's positions, all through all layers, as one block of memory: to go on from one
 * place in more than one way. */
#ifndef XL_SNAPSHOT_H
#define XL_SNAPSHOT_H
#include "stair.h"

typedef struct xl_snapshot xl_snapshot;
/* NULL: no memory. */
xl_snapshot *xl_snapshot_take(const xl_stair *stair);
/* Into a staircase of the same model, capacity and K/V type, whatever it held. USAGE where it
 * does not fit. */
exitlm_status xl_snapshot_restore(const xl_snapshot *snapshot, xl_stair *stair,
                                  exitlm_error *error);
void xl_snapshot_free(xl_snapshot *snapshot);

#endif
