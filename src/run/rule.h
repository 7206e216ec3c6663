/* The token rule as the full model, exits, drafts and verification ask it. Its formula is that of
 * xl_sample (sampler.h); what a grammar forbids is taken away before. */
#ifndef XL_RULE_H
#define XL_RULE_H
#include "logits.h"
#include "sampler.h"

/* The token after position pos, of the full logits in row `row`; where a token is drawn, they are
 * used up.
 * *confidence: the probability of the likeliest. */
int32_t xl_rule_full(const xl_sampler *sampler, xl_logits *logits, uint32_t row, uint32_t pos,
                     float *confidence);
/* The token after position pos among n candidates; logits [n] are used up, work [n] is scratch.
 * ids NULL: the index is the id. */
int32_t xl_rule_among(const xl_sampler *sampler, const xl_stair *stair, float *logits,
                      const int32_t *ids, uint32_t n, uint32_t pos, float *work);
/* Whether the grammar, if there is one, lets this token come after position pos. */
bool xl_rule_allows(const xl_sampler *sampler, const xl_stair *stair, uint32_t pos, int32_t id);
/* Tokens after position pos that the grammar leaves no choice about. */
enum { XL_MAX_FORCED = 128 };
typedef struct xl_forced {
    int32_t id[XL_MAX_FORCED];
    uint32_t n;
    bool complete; /* nothing can follow them */
} xl_forced;
/* Only with a grammar. USAGE where it cannot tell any more. */
exitlm_status xl_rule_forced(const xl_sampler *sampler, const xl_stair *stair, uint32_t pos,
                             xl_forced *forced, exitlm_error *error);
/* Whether the exit after position pos is among the share that is audited, apart from the noise
 * of sampling. */
bool xl_rule_audits(uint64_t seed, uint32_t pos, float share);

#endif
