/* The thread pool of the WebAssembly files with threads.
 *
 * There is no thread library: JavaScript starts workers that instantiate the same module on the
 * same memory and call exitlm_wasm_pool_join. They come when they come: a job is done even where no
 * worker has arrived yet. */
#ifdef __wasm_atomics__
#include "base/threads.h"
#include "export.h"

typedef struct waits {
    uint32_t unused;
} waits;
typedef uint32_t spinner;

#include "base/pool.h"

/* About 20 microseconds, the gap between two matrices of a small model; then a thread sleeps. */
enum { SPINS = 3000 };
#define LEAVE_NS 1000000000ll

static bool spin(spinner *s) { return (*s)++ < SPINS; }

static void sleep_while(xl_pool *pool, uint32_t *word, uint32_t value, int64_t ns) {
    (void)pool;
    __builtin_wasm_memory_atomic_wait32((int *)word, (int)value, ns);
}

static void wake(xl_pool *pool, uint32_t *word) {
    (void)pool;
    __builtin_wasm_memory_atomic_notify((int *)word, XL_MAX_THREADS);
}

xl_pool *xl_pool_create(uint32_t threads, const exitlm_allocator *allocator) {
    return pool_alloc(threads, allocator);
}

void EXPORT(exitlm_wasm_pool_join)(xl_pool *pool) { work(pool); }

/* What a worker calls after a trap: whoever waits for its part waits no longer. */
void EXPORT(exitlm_wasm_pool_fail)(xl_pool *pool) {
    store(&pool->failed, 1);
    add(&pool->done, XL_MAX_THREADS);
    wake(pool, &pool->done);
}

void xl_pool_free(xl_pool *pool) {
    if (!pool || pool->others-- > 0) return;
    pool_stop(pool);
    uint32_t workers = load(&pool->workers);
    if (workers) sleep_while(pool, &pool->workers, workers, LEAVE_NS);
    /* A worker that the page has killed never leaves; then these few bytes stay taken. */
    if (load(&pool->workers)) return;
    pool_release(pool);
}
#endif
