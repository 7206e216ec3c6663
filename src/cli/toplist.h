/* The likeliest tokens of a position, and a draw among them: how training samples. */
#ifndef CLI_TOPLIST_H
#define CLI_TOPLIST_H
#include "reply/session.h"

#define TOPLIST_N 40

typedef struct toplist {
    int32_t id[TOPLIST_N]; /* likeliest first */
    float p[TOPLIST_N];    /* of the whole vocabulary's softmax */
} toplist;

/* From row 0 of the session's logits. */
void toplist_find(const exitlm_session *session, toplist *top);
/* temperature 0: the likeliest. */
int32_t toplist_draw(const toplist *top, float temperature, uint64_t *random);
uint64_t toplist_random(uint64_t *state);

#endif
