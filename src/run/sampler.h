/* The one token rule: token = argmax over candidates of (processed logit / temperature +
 * Gumbel(seed, position, token id)). Greedy is temperature 0: the argmax, lowest id on ties. What a
 * grammar forbids is taken away before that (rule.c). Processed: the repetition penalty comes first,
 * then, where tokens are drawn, top-k, top-p and min-p leave some of the candidates. The
 * rule depends on the candidates' ids and logits alone, not on their order, so that exits,
 * drafts, verification and plain decoding share it. */
#ifndef XL_SAMPLER_H
#define XL_SAMPLER_H
#include <stddef.h>
#include <stdint.h>

#include "grammar/grammar.h"
#include "logprobs.h"

#define XL_REPEAT_WINDOW 64

typedef struct xl_sampler {
    /* 0 temperature: greedy; top_p, min_p 0: off; repeat_penalty 1: off */
    float temperature, top_p, min_p, repeat_penalty;
    uint32_t top_k; /* 0: off */
    uint64_t seed;
    xl_grammar *grammar;   /* NULL: every token may come */
    uint32_t reply_from;   /* position of the reply's first token: there the grammar begins */
    xl_logprobs *logprobs; /* where the choices are noted, or NULL */
} xl_sampler;

/* True where the choice is the plain argmax of the logits. */
static inline int xl_sampler_is_plain(const xl_sampler *s) {
    return s->temperature <= 0 && (s->repeat_penalty == 1 || s->repeat_penalty == 0);
}

/* Noise of one token: uniform u in (0, 1) from a hash of the three, then -log(-log(u)). */
double xl_gumbel(uint64_t seed, uint32_t position, int32_t id);

/* The choice among n candidates. logits [n] is overwritten (processed); ids [n], or NULL: the index
 * is the id (then ascending). recent [n_recent]: the last ids of the context, for the repetition
 * penalty. work [n] is scratch. Returns the id. */
int32_t xl_sample(const xl_sampler *sampler, float *logits, const int32_t *ids, size_t n,
                  uint32_t position, const int32_t *recent, size_t n_recent, float *work);

#endif
