/* Log-probabilities of a reply's tokens, under the distribution that chose each: the softmax of its
 * scores as they are before a grammar, a penalty or a temperature. */
#ifndef XL_LOGPROBS_H
#define XL_LOGPROBS_H
#include "base/alloc.h"
#include "exitlm.h"
#include "kernel/kernels.h"

typedef struct xl_logprobs {
    exitlm_allocator allocator;
    uint32_t n, top;
    exitlm_logprob *said; /* [n][1 + top] the token, then the likeliest; id -1: there are no more */
    float *scores;        /* [room] of the choice to be noted: put there before it is made */
    size_t room;
} xl_logprobs;

/* For n tokens. False: no memory. */
bool xl_logprobs_create(xl_logprobs *logprobs, const exitlm_allocator *allocator, uint32_t n,
                        uint32_t top, size_t room);
void xl_logprobs_free(xl_logprobs *logprobs); /* zeroed is allowed */
/* Token number `index` was chosen by `scores`: n of tokens (ids NULL: in their order), then `others`
 * of other outcomes. Who chooses last for a place has the word. */
void xl_logprobs_note(xl_logprobs *logprobs, const xl_kernels *kernels, uint32_t index,
                      int32_t chosen, const int32_t *ids, uint32_t n, uint32_t others);
/* [1 + top] of token number `index`. */
static inline const exitlm_logprob *xl_logprobs_said(const xl_logprobs *logprobs, uint32_t index) {
    return logprobs->said + (size_t)index * (1 + logprobs->top);
}

#endif
