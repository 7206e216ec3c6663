/* Lossless decoding (DSSD). */
#include "generate.h"
void xl_draft_take(exitlm_session *s, xl_arena *arena) { (void)s; (void)arena; }
void xl_draft_start(exitlm_session *s) { (void)s; }
exitlm_status xl_draft_round(exitlm_session *s, exitlm_error *error) { (void)s; return xl_fail(error, EXITLM_UNSUPPORTED, "lossless"); }
