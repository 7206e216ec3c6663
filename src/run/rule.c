#include "rule.h"

#include "base/fmath.h"

int32_t xl_rule_among(const xl_sampler *sampler, const xl_stair *stair, float *logits,
                      const int32_t *ids, uint32_t n, uint32_t pos, float *work) {
    const uint32_t seen = pos + 1, window = seen < XL_REPEAT_WINDOW ? seen : XL_REPEAT_WINDOW;
    return xl_sample(sampler, logits, ids, n, seen, stair->ids + seen - window, window, work);
}

int32_t xl_rule_full(const xl_sampler *sampler, xl_logits *logits, uint32_t row, uint32_t pos,
                     float *confidence) {
    const xl_run *run = logits->stair->run;
    float *slots = xl_logits_row(logits, row);
    xl_softmax_stats stats;
    run->kernels->softmax_stats(slots, run->model->config.vocab, &stats);
    *confidence = 1 / stats.sum_exp;
    if (xl_sampler_is_plain(sampler)) {
        if (stats.second < stats.max) return (int32_t)xl_id(run->model, (uint32_t)stats.arg);
        return xl_logits_argmax(logits, slots);
    }
    xl_logits_by_id(logits, slots, logits->by_id);
    return xl_rule_among(sampler, logits->stair, logits->by_id, NULL, run->model->config.vocab, pos,
                         slots);
}

bool xl_rule_audits(uint64_t seed, uint32_t pos, float share) {
    if (share <= 0) return false;
    /* Uniform in (0, 1), from a Gumbel draw of a seed of its own. */
    const double gumbel = xl_gumbel(seed ^ 0x61756469745f5f5fu, pos, -1);
    return (float)xl_exp(-xl_exp(-gumbel)) < share;
}
