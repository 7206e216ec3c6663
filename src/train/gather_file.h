/* Blocks of gathered data in parts. See gather.h. */
#ifndef XL_GATHER_FILE_H
#define XL_GATHER_FILE_H
#include "gather.h"

/* What one conversation gave. */
typedef struct xl_gather_record {
    int32_t *ids;
    uint32_t n_ids, n_turns;
    uint32_t n_positions, capacity;
    uint32_t *at;
    int32_t *top_ids;
    uint16_t *top_p;
    uint16_t *x; /* [n_positions][layers][dim] */
} xl_gather_record;

/* Room for one more position of x_items f16. False: no memory. */
bool xl_gather_record_grow(xl_gather_record *record, size_t x_items);
void xl_gather_record_free(xl_gather_record *record); /* leaves it empty */

exitlm_status xl_gather_write(const xl_gather_plan *plan, xl_part_writer *part,
                              const xl_gather_record *records, size_t first_job, size_t n,
                              exitlm_error *error);

#endif
