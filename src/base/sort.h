/* Orders. Heap sort: in place, and n log n whatever a file holds. */
#ifndef XL_SORT_H
#define XL_SORT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Does item `a` come before item `b`? */
typedef bool (*xl_before)(const void *context, uint32_t a, uint32_t b);

void xl_sort(uint32_t *items, uint32_t n, xl_before before, const void *context);
/* Into an order that depends on the state alone, which goes on (bytes.h, xl_random). */
void xl_shuffle(uint32_t *items, size_t n, uint64_t *state);

#endif
