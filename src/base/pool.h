/* The thread pool, over what a platform gives: threads.c has POSIX threads, wasm/pool.c the workers of
 * the host. Either defines two types before it includes this,
 *   waits             what a pool needs beside for sleeping
 *   spinner           a short wait, which starts as zeros
 * and three functions after it,
 *   spin              waits a moment; false once it is time to sleep
 *   sleep_while       until woken, or `ns` at most; not at all where *word is not value
 *   wake              all who sleep on `word`
 *
 * Parts of a job are claimed one by one, and the caller claims like everybody else: who comes late, or
 * has to leave its core to another program, is not waited for, unless it is amid a part. */
#ifndef XL_POOL_H
#define XL_POOL_H
#include "base/threads.h"

enum { PART_BITS = 8 };
#define PART_MASK ((1u << PART_BITS) - 1)
#define LOOK_AGAIN_NS 20000000ll /* whatever happens to a wake-up, a job goes on */
#define NAP_NS 1000000000ll /* V8 11.3 does not always tell a sleeping worker that it was ended */

struct xl_pool {
    exitlm_allocator allocator;
    uint32_t threads, others; /* who share it, beside the first */
    /* Number of the job << PART_BITS | how many parts nobody has claimed; the first ones go first.
     * A claim is a compare-and-swap, so a thread that looked at an older job cannot take a part of
     * it; parts, fn and arg stand still until all parts are done. */
    uint32_t ticket;
    uint32_t parts;
    uint32_t done;     /* parts of this job */
    uint32_t waiting;  /* the caller sleeps on `done` */
    uint32_t sleepers; /* workers asleep on `ticket` */
    uint32_t workers;  /* that have joined and not left */
    uint32_t failed;   /* a worker trapped in a part (WebAssembly) */
    uint32_t stop;
    xl_part_fn fn;
    void *arg;
    waits waits;
};

static uint32_t load(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }
/* An exchange, not a store: what is loaded afterwards is loaded after this. With stores, V8 11.3
 * lost a wake-up now and then. */
static void store(uint32_t *word, uint32_t value) {
    (void)__atomic_exchange_n(word, value, __ATOMIC_SEQ_CST);
}
static uint32_t add(uint32_t *word, uint32_t value) {
    return __atomic_add_fetch(word, value, __ATOMIC_SEQ_CST);
}

static bool spin(spinner *s);
static void sleep_while(xl_pool *pool, uint32_t *word, uint32_t value, int64_t ns);
static void wake(xl_pool *pool, uint32_t *word);

static bool has_parts(uint32_t ticket) { return (ticket & PART_MASK) != 0; }

static xl_pool *pool_alloc(uint32_t threads, const exitlm_allocator *allocator) {
    if (threads > XL_MAX_THREADS) threads = XL_MAX_THREADS;
    if (threads <= 1) return NULL;
    xl_pool *pool = xl_calloc(allocator, 1, sizeof *pool);
    if (!pool) return NULL;
    pool->allocator = *allocator;
    pool->threads = threads;
    return pool;
}

/* Runs parts of the job as long as there are unclaimed ones. */
static void help(xl_pool *pool) {
    uint32_t ticket = load(&pool->ticket);
    while (has_parts(ticket)) {
        if (!__atomic_compare_exchange_n(&pool->ticket, &ticket, ticket - 1, false,
                                         __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            continue;
        const uint32_t parts = pool->parts;
        pool->fn(pool->arg, parts - (ticket & PART_MASK), parts);
        if (add(&pool->done, 1) == parts && load(&pool->waiting)) wake(pool, &pool->done);
        ticket = load(&pool->ticket);
    }
}

/* No wake-up is lost: the worker counts itself in and then looks at the ticket, the caller changes
 * the ticket and then looks at the count, all in one order (sequentially consistent), so at least
 * one of them sees the other; and sleep_while compares the ticket under the lock that wake takes. A
 * lost one would cost speed alone, because the caller claims every part that nobody else does. */
static void sleep_until_job(xl_pool *pool) {
    spinner s = {0};
    do
        if (has_parts(load(&pool->ticket)) || load(&pool->stop)) return;
    while (spin(&s));
    add(&pool->sleepers, 1);
    const uint32_t ticket = load(&pool->ticket);
    if (!has_parts(ticket) && !load(&pool->stop)) sleep_while(pool, &pool->ticket, ticket, NAP_NS);
    add(&pool->sleepers, (uint32_t)-1);
}

/* A worker's whole life. */
static void work(xl_pool *pool) {
    add(&pool->workers, 1);
    while (!load(&pool->stop)) {
        help(pool);
        sleep_until_job(pool);
    }
    if (add(&pool->workers, (uint32_t)-1) == 0) wake(pool, &pool->workers);
}

void xl_pool_run_parts(xl_pool *pool, xl_part_fn fn, void *arg, uint32_t each) {
    if (!pool) {
        fn(arg, 0, 1);
        return;
    }
    const uint32_t wanted = pool->threads * each, parts = wanted < PART_MASK ? wanted : PART_MASK;
    pool->parts = parts;
    pool->fn = fn;
    pool->arg = arg;
    store(&pool->done, 0);
    store(&pool->ticket, ((load(&pool->ticket) >> PART_BITS) + 1) << PART_BITS | parts);
    if (load(&pool->sleepers)) wake(pool, &pool->ticket);
    help(pool);
    spinner s = {0};
    do
        if (load(&pool->done) == parts) return;
    while (spin(&s));
    store(&pool->waiting, 1);
    for (uint32_t done; (done = load(&pool->done)) < parts && !load(&pool->failed);)
        sleep_while(pool, &pool->done, done, LOOK_AGAIN_NS);
    store(&pool->waiting, 0);
    if (load(&pool->failed)) __builtin_trap(); /* the result has a hole: this instance ends */
}

xl_pool *xl_pool_share(xl_pool *pool) {
    if (pool) pool->others++;
    return pool;
}

/* All who wait for a job see `stop`. */
static void pool_stop(xl_pool *pool) {
    store(&pool->stop, 1);
    /* whoever is about to sleep sees a change */
    store(&pool->ticket, load(&pool->ticket) + (1u << PART_BITS));
    wake(pool, &pool->ticket);
}

static void pool_release(xl_pool *pool) {
    const exitlm_allocator allocator = pool->allocator;
    xl_free(&allocator, pool, 1, sizeof *pool);
}

uint32_t xl_pool_threads(const xl_pool *pool) { return pool ? pool->threads : 1; }

#endif
