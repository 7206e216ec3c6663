#include "sampler.h"

#include <float.h>
#include <stdbool.h>

#include "base/bytes.h"
#include "base/fmath.h"

/* Uniform bits from (seed, position, id): three steps of SplitMix64 (Steele et al. 2014). */
static uint32_t noise_bits(uint64_t seed, uint32_t position, int32_t id) {
    uint64_t state = seed;
    state = xl_random(&state) ^ position;
    state = xl_random(&state) ^ (uint32_t)id;
    return (uint32_t)(xl_random(&state) >> 32);
}

/* u = (bits + 0.5) / 2^32: never 0 or 1, so the noise lies in (-3.2, 22.9). */
static double noise_of(uint32_t bits) { return -xl_log(-xl_log((bits + 0.5) * 0x1p-32)); }

double xl_gumbel(uint64_t seed, uint32_t position, int32_t id) {
    return noise_of(noise_bits(seed, position, id));
}

static int32_t id_at(const int32_t *ids, size_t i) { return ids ? ids[i] : (int32_t)i; }

/* Keskar et al. 2019: a logit of a token seen lately is divided by the penalty, or multiplied
 * where it is negative. */
static void penalise(const xl_sampler *sampler, float *logits, const int32_t *ids, size_t n,
                     const int32_t *recent, size_t n_recent) {
    float penalty = sampler->repeat_penalty;
    if (penalty == 0 || penalty == 1) return;
    if (n_recent > XL_REPEAT_WINDOW) {
        recent += n_recent - XL_REPEAT_WINDOW;
        n_recent = XL_REPEAT_WINDOW;
    }
    for (size_t r = 0; r < n_recent; r++) {
        bool again = false;
        for (size_t q = 0; q < r && !again; q++) again = recent[q] == recent[r];
        if (again) continue;
        size_t i = 0;
        if (!ids) i = (size_t)recent[r];
        else
            while (i < n && ids[i] != recent[r]) i++;
        if (i < n) logits[i] = logits[i] > 0 ? logits[i] / penalty : logits[i] * penalty;
    }
}

static size_t best_of(const float *logits, const int32_t *ids, size_t n) {
    size_t best = 0;
    float most = logits[0];
    for (size_t i = 1; i < n; i++) {
        if (logits[i] < most) continue;
        if (logits[i] > most || (logits[i] == most && id_at(ids, i) < id_at(ids, best))) best = i;
        most = logits[best];
    }
    return best;
}

/* A heap: nothing at 2 i + 1 and 2 i + 2 is larger than at i. It gives the largest values one by
 * one, for only a few are wanted as a rule. */
static void sift_down(float *heap, size_t n, size_t at) {
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && heap[child + 1] > heap[child]) child++;
        if (heap[child] <= heap[at]) return;
        const float value = heap[at];
        heap[at] = heap[child];
        heap[child] = value;
    }
}

static float take_largest(float *heap, size_t *n) {
    const float largest = heap[0];
    heap[0] = heap[--*n];
    sift_down(heap, *n, 0);
    return largest;
}

/* The logits within `depth` of the largest, as a heap in work; returns how many. */
static size_t head_of(const float *logits, size_t n, float max, float depth, float *work) {
    size_t m = 0;
    for (size_t i = 0; i < n; i++)
        if (logits[i] >= max - depth) work[m++] = logits[i];
    for (size_t i = m / 2; i-- > 0;) sift_down(work, m, i);
    return m;
}

/* The smallest logit that the k largest hold. Ties at the border all stay, so the order of the
 * candidates does not matter. */
static float top_k_floor(const float *logits, size_t n, size_t k, float max, float *work) {
    for (float depth = 12; depth < 1e5f; depth *= 8) {
        size_t m = head_of(logits, n, max, depth, work);
        if (m < k) continue;
        for (size_t i = 1; i < k; i++) take_largest(work, &m);
        return work[0];
    }
    return -FLT_MAX;
}

/* The smallest logit of the shortest descending run whose share of the mass above `floor`
 * reaches top_p. */
static float top_p_floor(const float *logits, size_t n, float top_p, float max, float floor,
                         float *work) {
    double total = 0;
    for (size_t i = 0; i < n; i++)
        if (logits[i] >= floor) total += xl_expf(logits[i] - max);
    for (float depth = 12; depth < 1e5f; depth *= 8) {
        size_t m = head_of(logits, n, max, depth, work);
        double sum = 0;
        while (m) {
            const float logit = take_largest(work, &m);
            if (logit < floor) return floor;
            sum += xl_expf(logit - max);
            if (sum >= top_p * total) return logit;
        }
    }
    return floor;
}

/* A logit below this, plus the largest noise, is less than the value to beat, however it is
 * rounded. */
static float reach_of(double value, double temperature) {
    const double reach = (value - 23) * temperature;
    return (float)(reach - 1e-5 * (reach < 0 ? -reach : reach));
}

/* argmax of logit / T + noise over the candidates at or above `floor`. Most cannot win: with best
 * the value to beat, token i needs noise over x = best - logit / T, which happens with probability
 * 1 - exp(-exp(-x)) <= exp(-x); the uniform bits tell that without two logarithms. The test
 * leaves a margin, so it never changes the choice. Nor does `reach`, below which no noise helps: one
 * comparison for nearly all of a large vocabulary. */
static size_t noisy_best(const xl_sampler *sampler, const float *logits, const int32_t *ids,
                         size_t n, size_t first, float floor, uint32_t position) {
    const double temperature = sampler->temperature;
    size_t best = first;
    double best_value =
        logits[first] / temperature + xl_gumbel(sampler->seed, position, id_at(ids, first));
    float reach = reach_of(best_value, temperature);
    for (size_t i = 0; i < n; i++) {
        if (logits[i] < reach || logits[i] < floor || i == first) continue;
        double scaled = logits[i] / temperature, needed = best_value - scaled;
        if (needed > 22.95) continue;
        int32_t id = id_at(ids, i);
        uint32_t bits = noise_bits(sampler->seed, position, id);
        if (needed > 1 && (double)(UINT32_MAX - bits) * 0x1p-32 > xl_expf((float)-needed) * 1.001)
            continue;
        double value = scaled + noise_of(bits);
        if (value > best_value || (value == best_value && id < id_at(ids, best))) {
            best = i;
            best_value = value;
            reach = reach_of(best_value, temperature);
        }
    }
    return best;
}

int32_t xl_sample(const xl_sampler *sampler, float *logits, const int32_t *ids, size_t n,
                  uint32_t position, const int32_t *recent, size_t n_recent, float *work) {
    penalise(sampler, logits, ids, n, recent, n_recent);
    size_t top = best_of(logits, ids, n);
    if (sampler->temperature <= 0) return id_at(ids, top);
    float max = logits[top], floor = -FLT_MAX;
    if (sampler->top_k && sampler->top_k < n)
        floor = top_k_floor(logits, n, sampler->top_k, max, work);
    if (sampler->top_p > 0 && sampler->top_p < 1) {
        float f = top_p_floor(logits, n, sampler->top_p, max, floor, work);
        if (f > floor) floor = f;
    }
    if (sampler->min_p > 0) {
        float f = max + (float)xl_log(sampler->min_p);
        if (f > floor) floor = f;
    }
    return id_at(ids, noisy_best(sampler, logits, ids, n, top, floor, position));
}
