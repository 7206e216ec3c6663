/* Shards of gathered data on disk. See gather.h. */
#ifndef CLI_GATHER_FILE_H
#define CLI_GATHER_FILE_H
#include "gather.h"

/* What one conversation gave. */
typedef struct gather_record {
    int32_t *ids;
    uint32_t n_ids, n_turns;
    uint32_t n_positions, capacity;
    uint32_t *at;
    int32_t *top_ids;
    uint16_t *top_p;
    uint16_t *x; /* [n_positions][layers][dim] */
} gather_record;

/* Room for one more position of x_items f16. False: no memory. */
bool gather_record_grow(gather_record *record, size_t x_items);
void gather_record_free(gather_record *record); /* leaves it empty */

bool gather_exists(const gather_plan *plan, size_t index);
/* Writes a shard under another name first: a file that is there is whole. */
int gather_write(const gather_plan *plan, size_t index, const gather_record *records, size_t first_job, size_t n);

#endif
