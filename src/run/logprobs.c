#include "logprobs.h"

#include "base/fmath.h"

bool xl_logprobs_create(xl_logprobs *l, const exitlm_allocator *allocator, uint32_t n, uint32_t top,
                        size_t room) {
    *l = (xl_logprobs){.allocator = *allocator, .n = n, .top = top, .room = room};
    l->said = xl_calloc(allocator, n, (1 + top) * sizeof *l->said);
    l->scores = xl_calloc(allocator, room, sizeof *l->scores);
    if (l->said && l->scores) return true;
    xl_logprobs_free(l);
    return false;
}

void xl_logprobs_free(xl_logprobs *l) {
    xl_free(&l->allocator, l->said, l->n, (1 + l->top) * sizeof *l->said);
    xl_free(&l->allocator, l->scores, l->room, sizeof *l->scores);
    *l = (xl_logprobs){0};
}

static bool is_before(exitlm_logprob a, exitlm_logprob b) {
    return a.logprob != b.logprob ? a.logprob > b.logprob : a.id < b.id;
}

void xl_logprobs_note(xl_logprobs *l, const xl_kernels *kernels, uint32_t index, int32_t chosen,
                      const int32_t *ids, uint32_t n, uint32_t others) {
    if (index >= l->n) return; /* a draft behind the last token */
    exitlm_logprob *said = l->said + (size_t)index * (1 + l->top), *best = said + 1;
    xl_softmax_stats stats;
    uint32_t n_best = 0;
    kernels->softmax_stats(l->scores, n + others, &stats);
    *said = (exitlm_logprob){chosen, -INFINITY};
    for (uint32_t i = 0; i < n; i++) {
        const exitlm_logprob one = {ids ? ids[i] : (int32_t)i, l->scores[i]};
        if (!(one.logprob > -INFINITY)) continue; /* stands elsewhere in the list */
        if (one.id == chosen) *said = one;
        uint32_t at = n_best;
        while (at > 0 && is_before(one, best[at - 1])) at--;
        if (at == l->top) continue;
        if (n_best < l->top) n_best++;
        for (uint32_t k = n_best - 1; k > at; k--) best[k] = best[k - 1];
        best[at] = one;
    }
    const double whole = stats.max + xl_log(stats.sum_exp);
    for (uint32_t k = 0; k <= n_best; k++) said[k].logprob = (float)(said[k].logprob - whole);
    for (uint32_t k = n_best; k < l->top; k++) best[k].id = -1;
}
