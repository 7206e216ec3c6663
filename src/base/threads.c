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
void xl_pool_run_parts(xl_pool *pool, xl_part_fn fn, void *arg, uint32_t each) {
    (void)pool;
    (void)each;
    fn(arg, 0, 1);
}

#else

#include <pthread.h>
#include <time.h>

typedef struct waits {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t started[XL_MAX_THREADS - 1];
    uint32_t n_started;
} waits;

typedef struct spinner {
    uint32_t looks;
    struct timespec begun;
} spinner;

#include "base/pool.h"

/* A thread spins longer than the gap between two matrices of a small model, then blocks: where
 * another program takes the core, endless spinning would stand in that program's way and ours.
 * By a clock: a pause takes 40 cycles on one processor and 140 on another. */
enum { SPIN_NANOSECONDS = 50000, SPINS_BETWEEN_LOOKS = 64 };

static bool spin(spinner *s) {
    struct timespec now;
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
    if (s->looks++ % SPINS_BETWEEN_LOOKS) return true;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) return false;
    if (s->looks == 1) s->begun = now;
    return now.tv_sec - s->begun.tv_sec < 2 &&
           (now.tv_sec - s->begun.tv_sec) * 1000000000LL + now.tv_nsec - s->begun.tv_nsec <
               SPIN_NANOSECONDS;
}

/* Every wake-up comes under the lock, so an end to the wait is not needed. */
static void sleep_while(xl_pool *pool, uint32_t *word, uint32_t value, int64_t ns) {
    (void)ns;
    pthread_mutex_lock(&pool->waits.lock);
    while (load(word) == value) pthread_cond_wait(&pool->waits.changed, &pool->waits.lock);
    pthread_mutex_unlock(&pool->waits.lock);
}

static void wake(xl_pool *pool, uint32_t *word) {
    (void)word;
    pthread_mutex_lock(&pool->waits.lock);
    pthread_cond_broadcast(&pool->waits.changed);
    pthread_mutex_unlock(&pool->waits.lock);
}

static void *worker_main(void *pool) {
    work(pool);
    return NULL;
}

xl_pool *xl_pool_create(uint32_t threads, const exitlm_allocator *allocator) {
    xl_pool *pool = pool_alloc(threads, allocator);
    if (!pool) return NULL;
    waits *w = &pool->waits;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    /* fewer threads, same results: who did not start claims nothing */
    while (w->n_started + 1 < pool->threads &&
           pthread_create(&w->started[w->n_started], NULL, worker_main, pool) == 0)
        w->n_started++;
    return pool;
}

void xl_pool_free(xl_pool *pool) {
    if (!pool || pool->others-- > 0) return;
    pool_stop(pool);
    for (uint32_t i = 0; i < pool->waits.n_started; i++) pthread_join(pool->waits.started[i], NULL);
    pthread_cond_destroy(&pool->waits.changed);
    pthread_mutex_destroy(&pool->waits.lock);
    pool_release(pool);
}

#endif
