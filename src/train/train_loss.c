/* The loss of one position: KL from the model's distribution to a head's, over what the head
 * lists. See train_head.h. */
#include "base/fmath.h"
#include "train_internal.h"
#include <math.h>

/* The target on the candidates: probabilities of listed top tokens, the mass of unlisted ones,
 * and the mass beyond the top. */
typedef struct listed {
    uint32_t place[XL_TOP_MAX];
    float p[XL_TOP_MAX];
    uint32_t n;
    float unlisted, tail;
} listed;

static int32_t place_of(const xl_target *t, int32_t id) {
    int32_t place = t->index_of ? t->index_of[id] : id;
    if (place >= 0) return place;
    for (uint32_t i = 0; i < t->n_extra; i++)
        if (t->extra[i] == id) return (int32_t)(t->rows + i);
    return -1;
}

/* The top K at the target's temperature, likeliest first. Below 1 they are all there is. */
static uint32_t temper(const xl_target *t, float *p) {
    const uint32_t k = t->k < XL_TOP_MAX ? t->k : XL_TOP_MAX;
    float sum = 0;
    xl_half_row(p, t->p, k);
    if (t->temperature >= 1) return k;
    for (uint32_t i = 0; i < k; i++) {
        if (t->temperature <= 0) p[i] = i == 0;
        else p[i] = p[i] > 0 ? xl_expf((float)xl_log(p[i] / p[0]) / t->temperature) : 0;
        sum += p[i];
    }
    if (sum > 0) {
        for (uint32_t i = 0; i < k; i++) p[i] /= sum;
    }
    return k;
}

static void list_target(const xl_target *t, listed *l) {
    float top[XL_TOP_MAX], total = 0;
    const uint32_t k = temper(t, top);
    l->n = 0;
    l->unlisted = 0;
    for (uint32_t i = 0; i < k; i++) {
        const float p = top[i];
        if (p <= 0) continue;
        int32_t place = place_of(t, t->ids[i]);
        total += p;
        if (place < 0) {
            l->unlisted += p;
        } else {
            l->place[l->n] = (uint32_t)place;
            l->p[l->n++] = p;
        }
    }
    l->tail = total < 1 ? 1 - total : 0;
    if (!t->other) { /* nothing to decline with: what is not listed counts as the rest */
        l->tail += l->unlisted;
        l->unlisted = 0;
    }
}

static uint32_t largest(const float *z, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (z[i] > z[best]) best = i;
    return best;
}

/* z <- exp(z - max); their sum. */
static float exponentials(float *z, uint32_t n, float max) {
    float sum[8] = {0};
    for (uint32_t i = 0; i < n; i++) z[i] = xl_expf(z[i] - max);
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (uint32_t j = 0; j < 8; j++) sum[j] += z[i + j];
    for (; i < n; i++) sum[0] += z[i];
    for (uint32_t j = 1; j < 8; j++) sum[0] += sum[j];
    return sum[0];
}

static double minus_log(double p) { return -log(p > 1e-30 ? p : 1e-30); }

double xl_loss_row(float *z, const xl_target *t, bool *agrees) {
    const uint32_t n = xl_target_outcomes(t);
    listed l;
    list_target(t, &l);
    uint32_t best = largest(z, n);
    *agrees = t->k && place_of(t, t->ids[0]) == (int32_t)best;
    float sum = exponentials(z, n, z[best]), scale = 1 / sum, in_top = 0;
    double loss = 0;
    for (uint32_t i = 0; i < l.n; i++) {
        float p = z[l.place[i]] * scale;
        in_top += p;
        loss += l.p[i] * minus_log(p);
    }
    float group = 1 - in_top;
    if (group < 1e-6f) group = 1e-6f;
    if (l.tail > 0) loss += l.tail * minus_log(group);
    if (l.unlisted > 0) loss += l.unlisted * minus_log(z[n - 1] * scale);
    /* d loss / d z_j = P_j - T_j, where the rest's mass is spread over its group as the head
     * itself spreads it. */
    const float rest = scale * (1 - l.tail / group);
    float kept[XL_TOP_MAX];
    for (uint32_t i = 0; i < l.n; i++) kept[i] = z[l.place[i]] * scale - l.p[i];
    for (uint32_t j = 0; j < n; j++) z[j] *= rest;
    for (uint32_t i = 0; i < l.n; i++) z[l.place[i]] = kept[i];
    if (t->other) z[n - 1] -= l.unlisted;
    return loss;
}

void xl_answer_row(float *z, const xl_target *t, const int32_t *shortlist, xl_head_answer *answer) {
    const uint32_t n = xl_target_outcomes(t);
    uint32_t best = largest(z, n);
    float max = z[best], second = 0, spread = 0;
    for (uint32_t i = 0; i < n; i++)
        spread += z[i] < max - 80 ? 0 : (z[i] - max) * xl_expf(z[i] - max);
    float sum = exponentials(z, n, max);
    for (uint32_t i = 0; i < n; i++)
        if (i != best && z[i] > second) second = z[i];
    answer->p1 = 1 / sum;
    answer->margin = (1 - second) / sum;
    answer->other = t->other ? z[n - 1] / sum : 0;
    answer->entropy = n > 1 ? (logf(sum) - spread / sum) / logf((float)n) : 0;
    if (t->other && best == n - 1) answer->id = -1;
    else if (best < t->rows) answer->id = t->index_of ? shortlist[best] : (int32_t)best;
    else answer->id = t->extra[best - t->rows];
}
