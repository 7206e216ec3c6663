/* The reply as text: whole characters, stop strings, and what the next turn may re-use. */
#ifndef XL_REPLY_H
#define XL_REPLY_H
#include "generate.h"

/* Room for a reply of up to `limit` tokens; called when it starts. */
exitlm_status xl_reply_reserve(exitlm_session *s, uint32_t limit, exitlm_error *error);
/* The token's bytes join the text; sets stop_found, and cuts the text at the stop string. */
void xl_reply_add(exitlm_session *s, xl_chosen *token);
/* No more tokens: an incomplete character becomes U+FFFD, all text is decided, tokens after a stop string are dropped. */
void xl_reply_finish(exitlm_session *s);
/* Can this token be given out? */
bool xl_reply_decided(const exitlm_session *s, const xl_chosen *token);

/* generate.c: a start that keeps the context's text. */
exitlm_status xl_generation_start(exitlm_session *s, const int32_t *ids, size_t n, const exitlm_generate_options *options, exitlm_error *error);

#endif
