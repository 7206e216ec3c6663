/* Who asks: reply/generate (the full choice), run/exits (a head's), reply/draft (drafts and their
 * verification). All of them choose here, so that a grammar and a seed mean the same to them. */
#include "rule.h"

#include <math.h>

#include "base/fmath.h"

enum { TRIED_WITHOUT_MASK = 4 };

int32_t xl_rule_among(const xl_sampler *sampler, const xl_stair *stair, float *logits,
                      const int32_t *ids, uint32_t n, uint32_t pos, float *work) {
    return xl_sample(sampler, logits, ids, n, pos + 1, stair->ids, pos + 1, work);
}

bool xl_rule_allows(const xl_sampler *sampler, const xl_stair *stair, uint32_t pos, int32_t id) {
    return !sampler->grammar ||
           xl_grammar_allows(sampler->grammar, stair->ids + sampler->reply_from,
                             pos + 1 - sampler->reply_from, id);
}

/* What a grammar's mask leaves of logits->by_id. */
static int32_t choose_masked(const xl_sampler *sampler, xl_logits *logits, uint32_t pos,
                             float *work) {
    const uint32_t vocab = logits->stair->run->model->config.vocab;
    if (sampler->grammar)
        xl_grammar_mask(sampler->grammar, logits->stair->ids + sampler->reply_from,
                        pos + 1 - sampler->reply_from, logits->by_id, vocab);
    return xl_rule_among(sampler, logits->stair, logits->by_id, NULL, vocab, pos, work);
}

/* The choice by logits in the order of ids, in logits->by_id. A grammar's mask comes before a cut; where
 * there is none the token that is drawn mostly may come, and if not, the next one is what the mask
 * would give. */
static int32_t choose_by_id(const xl_sampler *sampler, xl_logits *logits, uint32_t pos,
                            float *work) {
    const uint32_t vocab = logits->stair->run->model->config.vocab;
    const bool cut = sampler->top_k || sampler->top_p > 0 || sampler->min_p > 0;
    const int tries = sampler->grammar && !cut ? TRIED_WITHOUT_MASK : 0;
    xl_sampler again = *sampler;
    for (int i = 0; i < tries; i++) {
        const int32_t id =
            xl_rule_among(&again, logits->stair, logits->by_id, NULL, vocab, pos, work);
        if (xl_rule_allows(sampler, logits->stair, pos, id)) return id;
        logits->by_id[id] = -INFINITY;
        again.repeat_penalty = 1; /* done */
    }
    return choose_masked(&again, logits, pos, work);
}

/* Greedy under a grammar: mostly the likeliest token may come, and no mask is needed. */
static int32_t likeliest_allowed(const xl_sampler *sampler, xl_logits *logits, float *slots,
                                 uint32_t pos) {
    const exitlm_model *m = logits->stair->run->model;
    for (int i = 0; i < TRIED_WITHOUT_MASK; i++) {
        const int32_t id = xl_logits_argmax(logits, slots);
        if (xl_rule_allows(sampler, logits->stair, pos, id)) return id;
        slots[xl_slot(m, (uint32_t)id)] = -INFINITY;
    }
    xl_logits_by_id(logits, slots, logits->by_id);
    return choose_masked(sampler, logits, pos, slots);
}

static int32_t choose(const xl_sampler *sampler, xl_logits *logits, float *slots, uint32_t pos,
                      float *confidence) {
    const xl_run *run = logits->stair->run;
    xl_softmax_stats stats;
    run->kernels->softmax_stats(slots, run->model->config.vocab, &stats);
    *confidence = 1 / stats.sum_exp;
    if (xl_sampler_is_plain(sampler)) {
        if (sampler->grammar) return likeliest_allowed(sampler, logits, slots, pos);
        if (stats.second < stats.max) return (int32_t)xl_id(run->model, (uint32_t)stats.arg);
        return xl_logits_argmax(logits, slots);
    }
    xl_logits_by_id(logits, slots, logits->by_id);
    return choose_by_id(sampler, logits, pos, slots);
}

int32_t xl_rule_full(const xl_sampler *sampler, xl_logits *logits, uint32_t row, uint32_t pos,
                     float *confidence) {
    const xl_run *run = logits->stair->run;
    float *slots = xl_logits_row(logits, row);
    xl_logprobs *logprobs = sampler->logprobs;
    if (logprobs) xl_logits_by_id(logits, slots, logprobs->scores);
    const int32_t id = choose(sampler, logits, slots, pos, confidence);
    if (logprobs)
        xl_logprobs_note(logprobs, run->kernels, pos + 1 - sampler->reply_from, id, NULL,
                         run->model->config.vocab, 0);
    return id;
}

/* The bytes that must come become tokens as the tokenizer has them: all where nothing can follow,
 * else without the last, which may reach beyond these bytes and is the model's to choose. */
exitlm_status xl_rule_forced(const xl_sampler *sampler, const xl_stair *stair, uint32_t pos,
                             xl_forced *forced, exitlm_error *error) {
    const int32_t *ids = stair->ids + sampler->reply_from;
    const uint32_t n = pos + 1 - sampler->reply_from;
    char bytes[XL_MAX_FORCED];
    *forced = (xl_forced){0};
    if (!xl_grammar_goes_on(sampler->grammar, ids, n))
        return xl_fail(error, EXITLM_USAGE,
                       "the schema or pattern leaves too many possibilities at once after %u "
                       "tokens: make its alternatives differ earlier",
                       (unsigned)n);
    const size_t n_bytes =
        xl_grammar_forced(sampler->grammar, ids, n, bytes, sizeof bytes, &forced->complete);
    size_t n_ids = 0;
    exitlm_status status = EXITLM_OK;
    if (n_bytes)
        status = xl_tokenizer_encode(stair->run->model->tokenizer, bytes, n_bytes, 0, forced->id,
                                     XL_MAX_FORCED, &n_ids, error);
    if (status != EXITLM_OK) return status;
    if (!forced->complete && n_ids) n_ids--;
    if (n_ids > XL_MAX_FORCED ||
        !xl_grammar_allows_all(sampler->grammar, ids, n, forced->id, (uint32_t)n_ids))
        n_ids = 0; /* the tokenizer would not write these bytes so */
    if (n_ids == 0) forced->complete &= n_bytes == 0;
    forced->n = (uint32_t)n_ids;
    return EXITLM_OK;
}

bool xl_rule_audits(uint64_t seed, uint32_t pos, float share) {
    if (share <= 0) return false;
    /* Uniform in (0, 1), from a Gumbel draw of a seed of its own. */
    const double gumbel = xl_gumbel(seed ^ 0x61756469745f5f5fu, pos, -1);
    return (float)xl_exp(-xl_exp(-gumbel)) < share;
}
