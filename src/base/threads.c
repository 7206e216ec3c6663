#include "threads.h"

#if defined(__wasm_atomics__)
/* wasm/pool.c: workers of the host instead of a thread library */
typedef int xl_threads_are_elsewhere;
#elif defined(XL_NO_THREADS) || (defined(__wasm__) && !defined(__EMSCRIPTEN_PTHREADS__))

xl_pool *xl_pool_create(uint32_t threads, const exitlm_allocator *allocator) {
    (void)threads;
    (void)allocator;
    return NULL;
}
xl_pool *xl_pool_share(xl_pool *pool) { return pool; }
void xl_pool_free(xl_pool *pool) { (void)pool; }
uint32_t xl_pool_threads(const xl_pool *pool) {
    (void)pool;
    return 1;
}
void xl_pool_run(xl_pool *pool, xl_part_fn fn, void *arg) {
    (void)pool;
    fn(arg, 0, 1);
}

#else

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

/* A worker spins longer than the gap between two matrices of a small model, then blocks: where
 * another program takes the core, endless spinning would stand in that program's way and ours.
 * By a clock: a pause takes 40 cycles on one processor and 140 on another. */
enum { SPIN_NANOSECONDS = 50000, SPINS_BETWEEN_LOOKS = 64, MAX_THREADS = 64 };

typedef struct worker {
    xl_pool *pool;
    uint32_t part;
    pthread_t thread;
} worker;

struct xl_pool {
    exitlm_allocator allocator;
    uint32_t threads, others; /* who share it, beside the first */
    worker workers[MAX_THREADS];
    pthread_mutex_t lock;
    pthread_cond_t work, idle;
    atomic_uint epoch;   /* number of the current job */
    atomic_uint pending; /* workers still at it */
    atomic_uint sleepers;
    atomic_bool stop, waiting;
    xl_part_fn fn;
    void *arg;
};

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

typedef struct spinner {
    uint32_t spins;
    struct timespec begun;
} spinner;

/* Waits a moment. False once it has been long enough. */
static bool spin(spinner *s) {
    struct timespec now;
    relax();
    if (s->spins++ % SPINS_BETWEEN_LOOKS) return true;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) return false;
    if (s->spins == 1) s->begun = now;
    return now.tv_sec - s->begun.tv_sec < 2 &&
           (now.tv_sec - s->begun.tv_sec) * 1000000000LL + now.tv_nsec - s->begun.tv_nsec <
               SPIN_NANOSECONDS;
}

/* Returns the epoch that follows `seen`. */
static unsigned wait_for_work(xl_pool *pool, unsigned seen) {
    spinner s = {0};
    do {
        unsigned epoch = atomic_load_explicit(&pool->epoch, memory_order_acquire);
        if (epoch != seen) return epoch;
    } while (spin(&s));
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    unsigned epoch;
    while ((epoch = atomic_load(&pool->epoch)) == seen) pthread_cond_wait(&pool->work, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
    return epoch;
}

static void finish_part(xl_pool *pool) {
    if (atomic_fetch_sub(&pool->pending, 1) != 1) return;
    if (!atomic_load(&pool->waiting)) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_signal(&pool->idle);
    pthread_mutex_unlock(&pool->lock);
}

static void *worker_main(void *arg) {
    worker *w = arg;
    unsigned seen = 0;
    for (;;) {
        seen = wait_for_work(w->pool, seen);
        if (atomic_load(&w->pool->stop)) return NULL;
        w->pool->fn(w->pool->arg, w->part, w->pool->threads);
        finish_part(w->pool);
    }
}

static void start_job(xl_pool *pool) {
    atomic_fetch_add(&pool->epoch, 1);
    if (!atomic_load(&pool->sleepers)) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
}

xl_pool *xl_pool_create(uint32_t threads, const exitlm_allocator *allocator) {
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    if (threads <= 1) return NULL;
    xl_pool *pool = xl_calloc(allocator, 1, sizeof *pool);
    if (!pool) return NULL;
    pool->allocator = *allocator;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->idle, NULL);
    pool->threads = 1;
    for (uint32_t i = 1; i < threads; i++) {
        worker *w = &pool->workers[i];
        *w = (worker){.pool = pool, .part = i};
        /* fewer threads, same results */
        if (pthread_create(&w->thread, NULL, worker_main, w) != 0) break;
        pool->threads++;
    }
    return pool;
}

xl_pool *xl_pool_share(xl_pool *pool) {
    if (pool) pool->others++;
    return pool;
}

void xl_pool_free(xl_pool *pool) {
    if (!pool || pool->others-- > 0) return;
    atomic_store(&pool->stop, true);
    start_job(pool);
    for (uint32_t i = 1; i < pool->threads; i++) pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->idle);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    exitlm_allocator allocator = pool->allocator;
    xl_free(&allocator, pool, 1, sizeof *pool);
}

uint32_t xl_pool_threads(const xl_pool *pool) { return pool ? pool->threads : 1; }

void xl_pool_run(xl_pool *pool, xl_part_fn fn, void *arg) {
    if (!pool || pool->threads == 1) {
        fn(arg, 0, 1);
        return;
    }
    pool->fn = fn;
    pool->arg = arg;
    atomic_store(&pool->pending, pool->threads - 1);
    start_job(pool);
    fn(arg, 0, pool->threads);
    spinner s = {0};
    do {
        if (!atomic_load_explicit(&pool->pending, memory_order_acquire)) return;
    } while (spin(&s));
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->waiting, true);
    while (atomic_load(&pool->pending)) pthread_cond_wait(&pool->idle, &pool->lock);
    atomic_store(&pool->waiting, false);
    pthread_mutex_unlock(&pool->lock);
}

#endif
