/* A session: one conversation's positions, heads and generation. Only this folder and what
 * measures or trains sees it whole. */
#ifndef XL_SESSION_H
#define XL_SESSION_H
#include "generation.h"

struct exitlm_session {
    exitlm_allocator allocator;
    uint8_t *memory; /* the block behind all arrays but K and V */
    size_t memory_bytes;
    double (*clock_ms)(void *user);
    void *clock_user;
    const exitlm_heads *heads; /* or NULL */
    xl_run run;
    xl_stair stair;
    xl_logits logits;
    xl_exits *exits; /* NULL without heads */
    xl_drafting *drafting;
    xl_generation *generation;
};

/* -1 where there is no clock. */
static inline double xl_session_now(const exitlm_session *s) {
    return s->clock_ms ? s->clock_ms(s->clock_user) : -1;
}

/* save.c: the K/V type of what exitlm_session_save wrote, from its first bytes; false: they are not. */
bool xl_saved_kv_type(exitlm_read read, void *user, exitlm_kv_type *type);

/* generate.c: a start that keeps what is known of the context's text. */
exitlm_status xl_generation_start(exitlm_session *session, const int32_t *ids, size_t n,
                                  const exitlm_generate_options *options, exitlm_error *error);

/* chat.c: exitlm_session_text, where special tokens in `plain` are text like any other. */
exitlm_status xl_session_text(exitlm_session *session, const char *text, size_t n_bytes,
                              const xl_spans *plain, bool parse_special,
                              const exitlm_generate_options *options, exitlm_error *error);

#endif
