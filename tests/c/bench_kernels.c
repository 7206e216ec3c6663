/* How fast the kernels are: thousand millions of multiply-adds a second (GMAC/s) on matrices out of
 * a set of 100 million weights, so that the caches do not flatter a matrix-vector product; and
 * attention at 40, 512 and 2,000 positions, which lie together or, as those of a clone of a clone, in
 * three stretches. Not a test.
 *   bench_kernels [kernel] [type] [seconds for each figure] */
#include "clock.h"
#include "kernel/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 1536, COLS = 576, WIDE_COLS = 768, MAX_ROWS = 32, SET_WEIGHTS = 100 * 1000 * 1000 };

static double now_s(void) { return clock_s(CLOCK_MONOTONIC); }

static void *aligned(size_t bytes) {
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!p) exit(1);
    memset(p, 0x11, bytes); /* f16 0x1111 is a small normal number */
    return p;
}

static void bench_matmul(const xl_kernels *k, xl_type type, double seconds) {
    static const size_t batches[] = {1, 2, 3, 4, 6, 8, 32};
    size_t cols = xl_quant_types[type].block_elems == 256 ? WIDE_COLS : COLS, bytes,
           count = SET_WEIGHTS / (ROWS * cols);
    if (!xl_matrix_bytes(type, ROWS, cols, &bytes)) exit(1);
    uint8_t *set = aligned(count * bytes);
    size_t stride = xl_type_is_quantized(type) ? xl_act_bytes(cols) : cols * sizeof(float);
    uint8_t *act = aligned(MAX_ROWS * stride);
    float *x = aligned(cols * sizeof(float)), *y = aligned(MAX_ROWS * ROWS * sizeof(float));
    for (size_t i = 0; i < cols; i++) x[i] = (float)(i % 17) - 8.0f;
    for (size_t i = 0; i < MAX_ROWS; i++) {
        if (xl_type_is_quantized(type)) k->quantize(act + i * stride, NULL, x, cols);
        else memcpy(act + i * stride, x, cols * sizeof(float));
    }
    printf("%-10s %-5s", k->name, xl_quant_types[type].name);
    for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
        size_t n = batches[b], at = 0;
        double best = 0, until = now_s() + seconds;
        do {
            double start = now_s();
            size_t some = count / n + 1;
            for (size_t i = 0; i < some; i++, at = (at + 1) % count)
                k->matmul[type](y, ROWS, set + at * bytes, cols, 0, ROWS, act, stride, n);
            double speed = (double)(some * ROWS * cols * n) / (now_s() - start);
            best = speed > best ? speed : best;
        } while (now_s() < until);
        printf("  n%zu %6.1f", n, best * 1e-9);
        fflush(stdout);
    }
    printf("  GMAC/s\n");
    free(set), free(act), free(x), free(y);
}

static void bench_attend(const xl_kernels *k, xl_kv_type type, size_t positions, size_t parts,
                         double seconds) {
    enum { HEAD_DIM = 64, GROUP = 3, HEADS = 90, MOST = 3 };
    const size_t tiles = positions / 8, tile_bytes = xl_kv_bytes(type, HEAD_DIM, 8),
                 bytes = tiles * tile_bytes;
    uint8_t *cache[MOST];
    for (size_t i = 0; i < parts; i++) cache[i] = aligned(2 * HEADS * bytes);
    float *q = aligned(GROUP * HEAD_DIM * sizeof(float)),
          *out = aligned(GROUP * HEAD_DIM * sizeof(float));
    float *scratch = aligned(xl_attend_scratch_floats(positions) * sizeof(float));
    float row[HEAD_DIM];
    for (int i = 0; i < GROUP * HEAD_DIM; i++) q[i] = (float)(i % 13) * 0.1f - 0.6f;
    for (int i = 0; i < HEAD_DIM; i++) row[i] = (float)(i % 7) - 3.0f;
    for (size_t h = 0; h < HEADS; h++)
        for (size_t p = 0; p < positions; p++)
            for (size_t i = 0; i < parts; i++)
                k->store_kv[type](cache[i] + 2 * h * bytes, cache[i] + (2 * h + 1) * bytes, p, row,
                                  row, HEAD_DIM);
    double best = 1e9, until = now_s() + seconds;
    do {
        double start = now_s();
        for (size_t h = 0; h < HEADS; h++) {
            xl_stretch stretches[MOST];
            for (size_t i = 0; i < parts; i++) {
                const size_t from = i * tiles / parts, end = (i + 1) * tiles / parts;
                const uint8_t *at = cache[i] + 2 * h * bytes + from * tile_bytes;
                stretches[i] = (xl_stretch){at, at + bytes, end - from};
            }
            k->attend[type](out, q, 0, 1, stretches, (xl_reach){positions, 0}, HEAD_DIM, GROUP,
                            0.125f, scratch);
        }
        double took = now_s() - start;
        best = took < best ? took : best;
    } while (now_s() < until);
    static const char *const names[XL_KV_COUNT] = {"f32", "f16", "q8"};
    printf("%-10s attention over %4zu positions in %zu, kv %-3s: %6.3f ms a token of a 30-layer "
           "model with 9 heads of 64, %.1f GMAC/s\n",
           k->name, positions, parts, names[type], best * 1e3,
           2.0 * HEADS * GROUP * (double)positions * HEAD_DIM / best * 1e-9);
    for (size_t i = 0; i < parts; i++) free(cache[i]);
    free(q), free(out), free(scratch);
}

static void bench_vectors(const xl_kernels *k, double seconds) {
    enum { N = 49152 };
    float *x = aligned(N * sizeof(float)), *y = aligned(N * sizeof(float));
    void *act = aligned(xl_act_bytes(N));
    for (int i = 0; i < N; i++) x[i] = (float)(i * 7919 % 1000) * 0.02f, y[i] = 1.0f;
    static const char *const names[] = {"quantize", "activate", "softmax_stats", "argmax",
                                        "rmsnorm"};
    printf("%-10s ns an element:", k->name);
    for (int what = 0; what < 5; what++) {
        double best = 1e9, until = now_s() + seconds;
        xl_softmax_stats stats;
        volatile size_t sink = 0;
        do {
            double start = now_s();
            if (what == 0) k->quantize(act, NULL, x, N);
            if (what == 1) k->activate(y, x, N, XL_SILU);
            if (what == 2) k->softmax_stats(x, N, &stats);
            if (what == 3) sink += k->argmax(x, N);
            if (what == 4) k->rmsnorm(y, x, x, N, 1e-5f);
            double took = now_s() - start;
            best = took < best ? took : best;
        } while (now_s() < until);
        printf("  %s %.2f", names[what], best / N * 1e9);
    }
    printf("\n");
    free(x), free(y), free(act);
}

int main(int argc, char **argv) {
    const xl_kernels *list[XL_KERNELS_MAX];
    size_t n = xl_kernels_list(list);
    const char *name = argc > 1 ? argv[1] : "all", *type_name = argc > 2 ? argv[2] : "all";
    double seconds = argc > 3 ? atof(argv[3]) : 0.3;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(name, "all") && strcmp(name, list[i]->name)) continue;
        for (int t = XL_TYPE_COUNT - 1; t >= 0; t--)
            if (!strcmp(type_name, "all") || xl_type_from_name(type_name) == (xl_type)t)
                bench_matmul(list[i], (xl_type)t, seconds);
        if (strcmp(type_name, "all") && strcmp(type_name, "vectors")) continue;
        static const size_t positions[] = {40, 512, 2000};
        for (int t = 0; t < XL_KV_COUNT; t++)
            for (int p = 0; p < 3; p++)
                for (size_t parts = 1; parts <= 3; parts += 2)
                    bench_attend(list[i], (xl_kv_type)t, positions[p], parts, seconds);
        bench_vectors(list[i], seconds);
    }
    return 0;
}
