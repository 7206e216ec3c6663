#include "sort.h"

#include "bytes.h"

static void sift(uint32_t *items, uint32_t at, uint32_t n, xl_before before, const void *context) {
    uint32_t item = items[at];
    for (uint64_t child; (child = 2 * (uint64_t)at + 1) < n; at = (uint32_t)child) {
        if (child + 1 < n && before(context, items[child], items[child + 1])) child++;
        if (!before(context, item, items[child])) break;
        items[at] = items[child];
    }
    items[at] = item;
}

void xl_sort(uint32_t *items, uint32_t n, xl_before before, const void *context) {
    for (uint32_t at = n / 2; at-- > 0;) sift(items, at, n, before, context);
    for (uint32_t end = n; end-- > 1;) {
        uint32_t top = items[0];
        items[0] = items[end];
        items[end] = top;
        sift(items, 0, end, before, context);
    }
}

void xl_shuffle(uint32_t *items, size_t n, uint64_t *state) {
    for (size_t i = n; i > 1; i--) {
        const size_t j = (size_t)(xl_random(state) % i);
        const uint32_t item = items[i - 1];
        items[i - 1] = items[j];
        items[j] = item;
    }
}
