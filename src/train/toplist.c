/* The likeliest tokens of a position. See toplist.h. */
#include "toplist.h"

#include <math.h>

#include "base/bytes.h"

void xl_toplist_find(const exitlm_session *s, xl_toplist *top) {
    const uint32_t vocab = s->run.model->config.vocab;
    const float *logits = s->logits.row;
    xl_softmax_stats stats;
    float value[XL_TOPLIST_N];
    uint32_t held = 0;
    s->run.kernels->softmax_stats(logits, vocab, &stats);
    for (uint32_t slot = 0; slot < vocab; slot++) {
        if (held == XL_TOPLIST_N && !(logits[slot] > value[held - 1])) continue;
        uint32_t at = held < XL_TOPLIST_N ? held++ : held - 1;
        for (; at > 0 && logits[slot] > value[at - 1]; at--) {
            value[at] = value[at - 1];
            top->id[at] = top->id[at - 1];
        }
        value[at] = logits[slot];
        top->id[at] = (int32_t)xl_id(s->run.model, slot);
    }
    for (uint32_t i = 0; i < XL_TOPLIST_N; i++) {
        top->p[i] = i < held ? expf(value[i] - stats.max) / stats.sum_exp : 0;
        if (i >= held) top->id[i] = 0;
    }
}

int32_t xl_toplist_draw(const xl_toplist *top, float temperature, uint64_t *random) {
    if (temperature <= 0) return top->id[0];
    double weight[XL_TOPLIST_N], sum = 0;
    for (int i = 0; i < XL_TOPLIST_N; i++) {
        weight[i] = top->p[i] > 0 ? pow(top->p[i], 1 / temperature) : 0;
        sum += weight[i];
    }
    double draw = (double)(xl_random(random) >> 11) * 0x1p-53 * sum;
    for (int i = 0; i < XL_TOPLIST_N; i++) {
        draw -= weight[i];
        if (draw < 0) return top->id[i];
    }
    return top->id[0];
}
