/* The first positions of a sequence, all through all layers, as bytes: ids, then K and V. To go on
 * from one place more than once, or another time. */
#ifndef XL_SNAPSHOT_H
#define XL_SNAPSHOT_H
#include "stair.h"

/* Positions from the first on that are through all layers and exactly computed. */
uint32_t xl_snapshot_exact(const xl_stair *stair);
/* Takes bytes of a piece. goes_on: the next ones belong to the same piece; they are a multiple of
 * 32 then. */
typedef bool (*xl_put)(void *user, const void *bytes, size_t n_bytes, bool goes_on);
/* Writes n positions, in pieces whose sizes depend on n alone; what of a tile of keys belongs to none
 * is zeros. False where `put` returned that. */
bool xl_snapshot_write(const xl_stair *stair, uint32_t n, xl_put put, void *user);
/* The other way, into a staircase of the same model and K/V type, whatever it held. BAD_MODEL where
 * `read` returns false or gives numbers that no model computes, USAGE and CONTEXT_FULL for ids and n
 * as in xl_stair_append; what it holds is then to be dropped. */
exitlm_status xl_snapshot_read(xl_stair *stair, uint32_t n, exitlm_read read, void *user,
                               exitlm_error *error);

/* In memory. */
typedef struct xl_snapshot xl_snapshot;
/* Of all positions; NULL: no memory. */
xl_snapshot *xl_snapshot_take(const xl_stair *stair);
/* As xl_snapshot_read, whose checks of the numbers it does not need; the capacities may differ. */
exitlm_status xl_snapshot_restore(const xl_snapshot *snapshot, xl_stair *stair,
                                  exitlm_error *error);
void xl_snapshot_free(xl_snapshot *snapshot);

#endif
