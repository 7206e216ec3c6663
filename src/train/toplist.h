/* The likeliest tokens of a position, and a draw among them: how training samples. */
#ifndef XL_TOPLIST_H
#define XL_TOPLIST_H
#include "reply/session.h"

#define XL_TOPLIST_N 40

typedef struct xl_toplist {
    int32_t id[XL_TOPLIST_N]; /* likeliest first */
    float p[XL_TOPLIST_N];    /* of the whole vocabulary's softmax */
} xl_toplist;

/* From row 0 of the session's logits. */
void xl_toplist_find(const exitlm_session *session, xl_toplist *top);
/* temperature 0: the likeliest. */
int32_t xl_toplist_draw(const xl_toplist *top, float temperature, uint64_t *random);

#endif
