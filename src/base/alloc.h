/* Memory: the caller's allocator, and arenas whose size is known beforehand. */
#ifndef XL_ALLOC_H
#define XL_ALLOC_H
#include "exitlm.h"

#define XL_ALIGN 64 /* every arena piece starts on a cache line */
/* Asked for where a large piece is filled little by little, here and there: from the C library it
 * comes as XL_ALIGN, but on small pages, of which only those that are used take memory. */
#define XL_ALIGN_SPARSE 32

extern const exitlm_allocator xl_libc_allocator;

/* NULL gives the C library's. */
exitlm_allocator xl_allocator_or_default(const exitlm_allocator *allocator);

/* Zeroed memory or NULL; n * size is checked for overflow. */
void *xl_calloc(const exitlm_allocator *allocator, size_t n, size_t size);
void xl_free(const exitlm_allocator *allocator, void *memory, size_t n, size_t size);
/* Moves an array to `new_n` elements, the new ones zeroed; false (nothing changed) where there
 * is no memory. */
bool xl_grow(const exitlm_allocator *allocator, void **memory, size_t old_n, size_t new_n,
             size_t size);

/* *total += n * size rounded up to XL_ALIGN; false at overflow. */
bool xl_size_add(size_t *total, size_t n, size_t size);

/* One block, cut into pieces from the front. Sizes are computed by the same
 * code that takes: with base NULL, xl_arena_take only counts. */
typedef struct xl_arena {
    uint8_t *base; /* NULL: measuring */
    size_t used_bytes, capacity_bytes;
    bool overflow; /* sticky: a size overflowed or did not fit */
} xl_arena;
/* n * size bytes, aligned to XL_ALIGN (NULL while measuring and after an overflow). */
void *xl_arena_take(xl_arena *arena, size_t n, size_t size);
/* rows * columns * size bytes; every product is checked. */
void *xl_arena_take2(xl_arena *arena, size_t rows, size_t columns, size_t size);

#endif
