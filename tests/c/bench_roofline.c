/* What this machine can do at most, whoever computes: bytes a second that its threads read from
 * memory (GB/s), and multiply-adds of int8 a second on registers alone (GMAC/s), with the
 * instructions of the kernel that the engine takes here. One JSON object. Not a test.
 *   bench_roofline [threads, 1] [seconds for each of the two, 0.5] */
#include "clock.h"
#include "kernel/kernels.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

enum { MOST_THREADS = 64, CHAINS = 6, ROUNDS = 20000 };
static const size_t READ_BYTES = (size_t)256 << 20; /* more than any last cache holds */

static double now_s(void) { return clock_s(CLOCK_MONOTONIC); }

/* Sums words, and asks `ahead` bytes ahead (0: not), as some processors' own prefetch ends at each
 * page and others' does not. */
static uint64_t read_words(const uint8_t *from, size_t bytes, size_t ahead) {
    typedef uint64_t words __attribute__((vector_size(32), aligned(32)));
    words sum[4] = {{0}};
    const words *p = (const words *)(const void *)from;
    for (size_t i = 0; i < bytes / sizeof *p; i += 4) {
        if (ahead) {
            __builtin_prefetch((const uint8_t *)(p + i) + ahead);
            __builtin_prefetch((const uint8_t *)(p + i + 2) + ahead);
        }
        for (size_t j = 0; j < 4; j++) sum[j] += p[i + j];
    }
    words all = sum[0] + sum[1] + sum[2] + sum[3];
    return all[0] + all[1] + all[2] + all[3];
}

/* ROUNDS times CHAINS products, each added to a chain of its own; returns the multiply-adds done.
 * LOOKED_AT keeps the compiler from making a product that does not change once for all rounds. */
#define LOOKED_AT(x, where) __asm__ volatile("" : "+" where(x))
#define DOTS(NAME, TARGET, INPUT, SUM, WHERE, MACS, STEP)                        \
    TARGET static double NAME(void) {                                            \
        INPUT a = {0}, b[CHAINS] = {{0}};                                        \
        SUM chain[CHAINS] = {{0}};                                               \
        for (int j = 0; j < CHAINS; j++) LOOKED_AT(b[j], WHERE);                 \
        for (int i = 0; i < ROUNDS; i++) {                                       \
            LOOKED_AT(a, WHERE);                                                 \
            for (int j = 0; j < CHAINS; j++) chain[j] = STEP(chain[j], a, b[j]); \
        }                                                                        \
        for (int j = 0; j < CHAINS; j++) LOOKED_AT(chain[j], WHERE);             \
        return (double)(MACS) * ROUNDS * CHAINS;                                 \
    }

#if defined(__x86_64__)
#define SSE2_STEP(chain, a, b) _mm_add_epi32(chain, _mm_madd_epi16(a, b))
#define AVX2_STEP(chain, a, b) _mm256_add_epi16(chain, _mm256_maddubs_epi16(a, b))
#define AVX2 __attribute__((target("avx2")))
#define VNNI __attribute__((target("avx512f,avx512vnni")))
DOTS(dots_sse2, , __m128i, __m128i, "x", 8, SSE2_STEP)
DOTS(dots_avx2, AVX2, __m256i, __m256i, "x", 32, AVX2_STEP)
DOTS(dots_vnni, VNNI, __m512i, __m512i, "v", 64, _mm512_dpbusd_epi32)
#define OTHERWISE dots_sse2
#define BY_KERNEL \
    {"avx2", dots_avx2}, { "avx512vnni", dots_vnni }
#elif defined(__aarch64__)
#define NEON_STEP(chain, a, b) vpadalq_s16(chain, vmull_s8(vget_low_s8(a), vget_low_s8(b)))
#define DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
DOTS(dots_neon, , int8x16_t, int32x4_t, "w", 8, NEON_STEP)
DOTS(dots_neondot, DOTPROD, int8x16_t, int32x4_t, "w", 16, vdotq_s32)
#define OTHERWISE dots_neon
#define BY_KERNEL {"neondot", dots_neondot}
#else
#error "bench_roofline: no dot products of this processor are known here"
#endif

typedef double (*dots_fn)(void);
static dots_fn dots_of(const char *kernel) {
    static const struct {
        const char *kernel;
        dots_fn run;
    } known[] = {BY_KERNEL};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].kernel, kernel)) return known[i].run;
    return OTHERWISE;
}

typedef struct worker {
    pthread_t thread;
    const uint8_t *part;
    size_t bytes;
    dots_fn dots;
    double seconds;
    uint64_t sum; /* of what was read, so that it is read */
    double bytes_per_s, macs_per_s;
} worker;

/* The better of reading with and without asking ahead; then the products. */
static void *work(void *of) {
    static const size_t ahead[] = {0, 8192};
    worker *w = of;
    for (size_t i = 0; i < 2; i++) {
        double start = now_s(), now = start, bytes = 0;
        for (; now - start < w->seconds; now = now_s(), bytes += (double)w->bytes)
            w->sum += read_words(w->part, w->bytes, ahead[i]);
        if (bytes / (now - start) > w->bytes_per_s) w->bytes_per_s = bytes / (now - start);
    }
    double start = now_s(), now = start, macs = 0;
    for (; now - start < w->seconds; now = now_s()) macs += w->dots();
    w->macs_per_s = macs / (now - start);
    return NULL;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    double seconds = argc > 2 ? atof(argv[2]) : 0.5;
    if (threads < 1 || threads > MOST_THREADS || !(seconds > 0)) {
        fprintf(stderr, "usage: bench_roofline [threads, 1 to %d] [seconds]\n", MOST_THREADS);
        return 2;
    }
    const char *kernel = xl_kernels_pick(NULL)->name;
    uint8_t *memory = aligned_alloc(128, READ_BYTES);
    if (!memory) return 1;
    memset(memory, 1, READ_BYTES);
    worker workers[MOST_THREADS] = {0};
    size_t bytes = READ_BYTES / (size_t)threads / 128 * 128;
    int started = 0;
    for (; started < threads; started++) {
        worker *w = workers + started;
        *w = (worker){.part = memory + (size_t)started * bytes,
                      .bytes = bytes,
                      .dots = dots_of(kernel),
                      .seconds = seconds};
        if (pthread_create(&w->thread, NULL, work, w)) break;
    }
    double read = 0, macs = 0;
    uint64_t sum = 0;
    for (int i = 0; i < started; i++) {
        pthread_join(workers[i].thread, NULL);
        read += workers[i].bytes_per_s, macs += workers[i].macs_per_s, sum += workers[i].sum;
    }
    free(memory);
    if (started < threads || sum == 0) return 1;
    printf("{\"kernel\":\"%s\",\"threads\":%d,\"read_bytes_per_s\":%.4g,\"macs_per_s\":%.4g}\n",
           kernel, threads, read, macs);
    return 0;
}
