/* A small thread pool. Results never depend on it: work is split into disjoint parts. */
#ifndef XL_THREADS_H
#define XL_THREADS_H
#include "alloc.h"

typedef struct xl_pool xl_pool;
enum { XL_MAX_THREADS = 64 };
/* Part `part` of `parts`, on any thread. */
typedef void (*xl_part_fn)(void *arg, uint32_t part, uint32_t parts);

/* A pool of `threads` threads with the caller's, XL_MAX_THREADS at most; NULL for 1, without memory,
 * or where there are no threads: xl_pool_run then runs all parts itself. */
xl_pool *xl_pool_create(uint32_t threads, const exitlm_allocator *allocator);
/* The same pool once more: it lives until each has been given back, and serves one at a time. */
xl_pool *xl_pool_share(xl_pool *pool);
void xl_pool_free(xl_pool *pool);
uint32_t xl_pool_threads(const xl_pool *pool); /* 1 for NULL */
/* Runs fn for every part of xl_pool_threads() times `each` parts, 255 at most, and returns when all are
 * done. With more parts than threads, who is held up by another program leaves some to others; `part`
 * is no number of a thread then. */
void xl_pool_run_parts(xl_pool *pool, xl_part_fn fn, void *arg, uint32_t each);
/* The same with one part a thread. */
static inline void xl_pool_run(xl_pool *pool, xl_part_fn fn, void *arg) {
    xl_pool_run_parts(pool, fn, arg, 1);
}

#endif
