/* The thread pool of the WebAssembly files with threads (the natives' is src/base/threads.c).
 *
 * There is no thread library: JavaScript starts workers that instantiate the same module on the
 * same memory and call exitlm_wasm_pool_join. They come when they come: parts of a job are claimed
 * one by one, and the caller claims like everybody else, so a job is done even where no worker
 * has arrived yet. */
#ifdef __wasm_atomics__
#include "base/threads.h"
#include "export.h"

/* About 20 microseconds, the gap between two matrices of a small model; then a thread sleeps. */
enum { SPINS = 3000, MAX_THREADS = 64, PART_BITS = 8 };
#define PART_MASK ((1u << PART_BITS) - 1)
#define LEAVE_NS 1000000000ll
#define LOOK_AGAIN_NS 20000000ll /* whatever happens to a wake-up, a job goes on */
/* a worker's sleep has an end: V8 11.3 does not always tell one that waits for ever that it was
 * terminated */
#define NAP_NS 1000000000ll

struct xl_pool {
    exitlm_allocator allocator;
    uint32_t threads, others; /* who share it, beside the first */
    /* Number of the job << PART_BITS | next part to claim. A claim is a compare-and-swap, so a
     * thread that looked at an older job cannot take a part of it; fn and arg stand still until
     * all parts are done. */
    uint32_t ticket;
    uint32_t done;     /* parts of this job */
    uint32_t waiting;  /* the caller sleeps on `done` */
    uint32_t sleepers; /* workers asleep on `ticket` */
    uint32_t workers;  /* that have joined and not left */
    uint32_t failed;   /* a worker trapped in a part */
    uint32_t stop;
    xl_part_fn fn;
    void *arg;
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

xl_pool *xl_pool_create(uint32_t threads, const exitlm_allocator *allocator) {
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    if (threads <= 1) return NULL;
    xl_pool *pool = xl_calloc(allocator, 1, sizeof *pool);
    if (!pool) return NULL;
    pool->allocator = *allocator;
    pool->threads = threads;
    pool->ticket = threads; /* job 0 has no part left */
    return pool;
}

/* Runs parts of the job as long as there are unclaimed ones. */
static void help(xl_pool *pool) {
    uint32_t ticket = load(&pool->ticket);
    while ((ticket & PART_MASK) < pool->threads) {
        if (!__atomic_compare_exchange_n(&pool->ticket, &ticket, ticket + 1, false,
                                         __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            continue;
        pool->fn(pool->arg, ticket & PART_MASK, pool->threads);
        if (add(&pool->done, 1) == pool->threads && load(&pool->waiting))
            __builtin_wasm_memory_atomic_notify((int *)&pool->done, 1);
        ticket = load(&pool->ticket);
    }
}

/* No wake-up is lost: the worker counts itself in and then looks at the ticket, the caller changes
 * the ticket and then looks at the count, all in one order (sequentially consistent), so at least
 * one of them sees the other; and wait32 compares the ticket under the lock that notify takes. A
 * lost one would cost speed alone, because the caller claims every part that nobody else does. */
static void sleep_until_job(xl_pool *pool) {
    for (int i = 0; i < SPINS; i++)
        if ((load(&pool->ticket) & PART_MASK) < pool->threads || load(&pool->stop)) return;
    add(&pool->sleepers, 1);
    uint32_t ticket = load(&pool->ticket);
    if ((ticket & PART_MASK) >= pool->threads && !load(&pool->stop))
        __builtin_wasm_memory_atomic_wait32((int *)&pool->ticket, (int)ticket, NAP_NS);
    add(&pool->sleepers, (uint32_t)-1);
}

/* A worker's whole life. */
void EXPORT(exitlm_wasm_pool_join)(xl_pool *pool) {
    add(&pool->workers, 1);
    while (!load(&pool->stop)) {
        help(pool);
        sleep_until_job(pool);
    }
    if (add(&pool->workers, (uint32_t)-1) == 0)
        __builtin_wasm_memory_atomic_notify((int *)&pool->workers, 1);
}

/* What a worker calls after a trap: whoever waits for its part waits no longer. */
void EXPORT(exitlm_wasm_pool_fail)(xl_pool *pool) {
    store(&pool->failed, 1);
    add(&pool->done, MAX_THREADS);
    __builtin_wasm_memory_atomic_notify((int *)&pool->done, 1);
}

void xl_pool_run(xl_pool *pool, xl_part_fn fn, void *arg) {
    if (!pool) {
        fn(arg, 0, 1);
        return;
    }
    pool->fn = fn;
    pool->arg = arg;
    store(&pool->done, 0);
    store(&pool->ticket, ((load(&pool->ticket) >> PART_BITS) + 1) << PART_BITS);
    if (load(&pool->sleepers))
        __builtin_wasm_memory_atomic_notify((int *)&pool->ticket, MAX_THREADS);
    help(pool);
    for (int i = 0; i < SPINS; i++)
        if (load(&pool->done) == pool->threads) return;
    store(&pool->waiting, 1);
    for (uint32_t done; (done = load(&pool->done)) < pool->threads && !load(&pool->failed);)
        __builtin_wasm_memory_atomic_wait32((int *)&pool->done, (int)done, LOOK_AGAIN_NS);
    store(&pool->waiting, 0);
    if (load(&pool->failed)) __builtin_trap(); /* the result has a hole: this instance ends */
}

xl_pool *xl_pool_share(xl_pool *pool) {
    if (pool) pool->others++;
    return pool;
}

void xl_pool_free(xl_pool *pool) {
    if (!pool || pool->others-- > 0) return;
    store(&pool->stop, 1);
    /* whoever is about to sleep sees a change */
    store(&pool->ticket, load(&pool->ticket) + (1u << PART_BITS));
    __builtin_wasm_memory_atomic_notify((int *)&pool->ticket, MAX_THREADS);
    uint32_t workers = load(&pool->workers);
    if (workers) __builtin_wasm_memory_atomic_wait32((int *)&pool->workers, (int)workers, LEAVE_NS);
    /* A worker that the page has killed never leaves; then these few bytes stay taken. */
    if (load(&pool->workers)) return;
    exitlm_allocator allocator = pool->allocator;
    xl_free(&allocator, pool, 1, sizeof *pool);
}

uint32_t xl_pool_threads(const xl_pool *pool) { return pool ? pool->threads : 1; }
#endif
