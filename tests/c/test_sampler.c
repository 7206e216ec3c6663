/* The one token rule: it samples from the model's distribution, whatever the order of the
 * candidates, and its shortcuts change nothing. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fmath.h"
#include "run/sampler.h"

enum { N = 600 };

static uint64_t state = 42;
static double uniform(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) * 0x1p-53;
}

static void random_logits(float *logits, size_t n, double spread) {
    for (size_t i = 0; i < n; i++) logits[i] = (float)(spread * (uniform() - 0.5));
}

static int32_t sample(const xl_sampler *sampler, const float *logits, const int32_t *ids, size_t n,
                      uint32_t position) {
    static float processed[N], work[N];
    memcpy(processed, logits, n * sizeof *logits);
    return xl_sample(sampler, processed, ids, n, position, NULL, 0, work);
}

/* The rule as it is written, without shortcuts. */
static int32_t plain_rule(const xl_sampler *s, const float *logits, size_t n, uint32_t position) {
    double best = -1e300;
    int32_t id = -1;
    for (size_t i = 0; i < n; i++) {
        double value =
            logits[i] / (double)s->temperature + xl_gumbel(s->seed, position, (int32_t)i);
        if (value > best) {
            best = value;
            id = (int32_t)i;
        }
    }
    return id;
}

static void test_shortcuts_change_nothing(void) {
    float logits[N];
    for (uint32_t trial = 0; trial < 3000; trial++) {
        random_logits(logits, N, trial % 3 == 0 ? 2 : 30);
        xl_sampler s = {.temperature = 0.3f + (float)(trial % 7) * 0.3f, .seed = trial};
        assert(sample(&s, logits, NULL, N, trial * 3) == plain_rule(&s, logits, N, trial * 3));
    }
}

static void test_order_does_not_matter(void) {
    float logits[N], shuffled[N];
    int32_t ids[N];
    for (uint32_t trial = 0; trial < 500; trial++) {
        random_logits(logits, N, 12);
        for (int32_t i = 0; i < N; i++) ids[i] = i;
        for (size_t i = N - 1; i > 0; i--) {
            size_t j = (size_t)(uniform() * (double)(i + 1));
            int32_t t = ids[i];
            ids[i] = ids[j];
            ids[j] = t;
        }
        for (size_t i = 0; i < N; i++) shuffled[i] = logits[ids[i]];
        xl_sampler s = {.temperature = 0.8f,
                        .seed = trial,
                        .top_k = trial % 2 ? 40 : 0,
                        .min_p = trial % 3 ? 0 : 0.02f};
        assert(sample(&s, logits, NULL, N, 7) == sample(&s, shuffled, ids, N, 7));
        s.temperature = 0;
        assert(sample(&s, logits, NULL, N, 7) == sample(&s, shuffled, ids, N, 7));
    }
}

/* Chi-squared over many seeds. 11 degrees of freedom; 49.0 is exceeded by chance once in a
 * million draws. */
static void test_distribution(void) {
    enum { K = 12, DRAWS = 60000 };
    float logits[K];
    double p[K], total = 0, chi = 0;
    int counts[K] = {0};
    for (int i = 0; i < K; i++) logits[i] = (float)(i * 0.3 - (i % 3));
    xl_sampler s = {.temperature = 0.7f};
    for (int i = 0; i < K; i++) total += p[i] = xl_exp(logits[i] / 0.7f);
    for (int draw = 0; draw < DRAWS; draw++) {
        s.seed = (uint64_t)draw * 0x9e3779b9u;
        counts[sample(&s, logits, NULL, K, (uint32_t)draw % 100)]++;
    }
    for (int i = 0; i < K; i++) {
        double expected = DRAWS * p[i] / total;
        assert(expected > 5);
        chi += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    printf("chi-squared %.1f on %d degrees of freedom\n", chi, K - 1);
    assert(chi < 49.0);
    /* The test can fail: another distribution does not pass. */
    double wrong = 0;
    for (int i = 0; i < K; i++)
        wrong +=
            (counts[i] - DRAWS / (double)K) * (counts[i] - DRAWS / (double)K) / (DRAWS / (double)K);
    assert(wrong > 49.0);
}

/* Positions and ids give noise that is not shared. */
static void test_noise(void) {
    double sum = 0, product = 0;
    for (uint32_t i = 0; i < 20000; i++) {
        double a = xl_gumbel(1, i, 5), b = xl_gumbel(1, i + 1, 5), c = xl_gumbel(1, i, 6);
        assert(a != b && a != c && xl_gumbel(1, i, 5) == a);
        assert(a > -3.3 && a < 23);
        sum += a;
        product += (a - 0.5772) * (c - 0.5772);
    }
    assert(sum / 20000 > 0.54 && sum / 20000 < 0.61); /* Euler's constant, standard error 0.009 */
    assert(product / 20000 > -0.06 && product / 20000 < 0.06);
}

static void test_truncation(void) {
    float logits[6] = {5, 4, 3, 2, 1, 0}; /* softmax .634 .233 .086 .032 .012 .004 */
    for (uint64_t seed = 0; seed < 4000; seed++) {
        xl_sampler k = {.temperature = 3, .top_k = 2, .seed = seed};
        assert(sample(&k, logits, NULL, 6, 0) < 2);
        xl_sampler p = {.temperature = 3, .top_p = 0.9f, .seed = seed};
        assert(sample(&p, logits, NULL, 6, 0) < 3);
        xl_sampler m = {.temperature = 3, .min_p = 0.3f, .seed = seed};
        assert(sample(&m, logits, NULL, 6, 0) < 2);
    }
    int32_t seen = 0;
    for (uint64_t seed = 0; seed < 4000; seed++) {
        xl_sampler p = {.temperature = 3, .top_p = 0.9f, .seed = seed};
        seen |= 1 << sample(&p, logits, NULL, 6, 0);
    }
    assert(seen == 7); /* and all three do come */
}

static void test_penalty(void) {
    float logits[4] = {2.0f, 1.9f, -1.0f, 0}, work[4];
    int32_t recent[3] = {0, 0, 2};
    xl_sampler s = {.repeat_penalty = 1.2f};
    assert(xl_sample(&s, logits, NULL, 4, 0, recent, 3, work) == 1);
    /* once, though seen twice */
    assert(logits[0] == 2.0f / 1.2f && logits[2] == -1.0f * 1.2f && logits[1] == 1.9f);
    float by_id[2] = {1.0f, 1.0f};
    int32_t ids[2] = {9, 4};
    s.repeat_penalty = 1;
    assert(xl_sample(&s, by_id, ids, 2, 0, NULL, 0, work) == 4); /* a tie goes to the lowest id */
}

int main(void) {
    test_shortcuts_change_nothing();
    test_order_does_not_matter();
    test_distribution();
    test_noise();
    test_truncation();
    test_penalty();
    puts("sampler: all right");
    return 0;
}
