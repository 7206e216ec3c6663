/* The staircase: the positions of one sequence and how many layers each has been through.
 * ../README.md draws it. */
#ifndef XL_STAIR_H
#define XL_STAIR_H
#include "base/status.h"
#include "forward.h"

/* most rows whose full logits are held: 8 drafts and the token before them */
#define XL_MAX_VERIFY 9
/* most positions that may wait for layers at a time; a multiple of XL_CHUNK */
#define XL_WAITING 256
/* Positions that may be run before the logits of all are asked for. */
#define XL_SCORED (XL_WAITING / XL_MAX_VERIFY * XL_MAX_VERIFY)

typedef struct xl_stair {
    xl_run *run;
    uint32_t ctx;      /* capacity in positions */
    uint32_t n;        /* positions held */
    uint32_t embedded; /* positions whose hidden state has been started */
    /* of the first positions, how many are through all layers: their hidden states are not kept */
    uint32_t through;
    int32_t *ids;       /* [ctx] */
    uint16_t *depth;    /* [ctx] layers whose K/V exists; never increases with the position */
    uint8_t *made;      /* [ctx] xl_made */
    uint32_t n_waiting; /* min(ctx, XL_WAITING) */
    /* ring [n_waiting][dim_stride], see xl_hidden: residual stream after `depth` layers */
    float *hidden;
    xl_kv kv;
    /* No position from here on has had its K/V stored since the stair was empty. */
    uint32_t stored;
    /* positions from here on have changed since the exits looked (exits.c) */
    uint32_t unseen_from;
    /* of positions below it nobody wants the last hidden state: the last layer makes only their K
     * and V */
    uint32_t kv_only_until;
    /* positions of the prompt before its last one, whose work is not the reply's */
    uint32_t prefix;
    uint64_t prefix_macs;         /* and the multiply-adds that went into them */
    int32_t need_layer, need_row; /* of the last EXITLM_WAIT */
    /* After each layer of a run of rows: training looks at hidden states here. NULL: nobody
     * does. */
    void (*on_layer)(void *user, uint32_t layers_run, uint32_t pos, uint32_t n,
                     const float *hidden /* [n][dim_stride] */);
    void *on_layer_user;
    /* Who advances it does not run layers, but gets WAIT and asks again: they are run together with
     * those of other sequences (batch.h). */
    bool deferred;
    uint32_t wanted; /* depth that was asked for so; 0: none */
} xl_stair;

/* Positions [start, start + n) on their way through one layer. */
typedef struct xl_slice {
    uint32_t layer, start, n;
    bool kv_only; /* nobody wants their hidden states after it */
} xl_slice;

void xl_stair_take(xl_stair *stair, xl_arena *arena, xl_run *run, uint32_t ctx, xl_kv_type kv_type);

/* The hidden state of a position: of one that waits, or has been run since the last n_waiting -
 * 1 before it. */
static inline float *xl_hidden(const xl_stair *stair, uint32_t pos) {
    return stair->hidden + pos % stair->n_waiting * stair->run->work.dim_stride;
}

/* Fills the error and need_layer, need_row of an EXITLM_WAIT: layer >= 0 of a layer, else of the
 * embedding of a token. */
exitlm_status xl_stair_wait(xl_stair *stair, int32_t layer, int32_t row, exitlm_error *error);
/* USAGE for an id outside the vocabulary. */
exitlm_status xl_stair_check_ids(const xl_stair *stair, const int32_t *ids, size_t n,
                                 exitlm_error *error);
/* Appends ids at depth 0. CONTEXT_FULL where they do not fit, USAGE for an id outside the
 * vocabulary, OUT_OF_MEMORY where clones read what they would be written over and there is no memory
 * for another place (nothing appended). */
exitlm_status xl_stair_append(xl_stair *stair, const int32_t *ids, size_t n, exitlm_error *error);
/* Drops positions from n on; all, where layers with a window have lost what the next position is to
 * look at. Returns how many are left: n, or 0. */
uint32_t xl_stair_truncate(xl_stair *stair, uint32_t n);
/* One slice of advancing: the chunk of rows that is next on the way of all positions to depth `to`.
 * *done: all positions have depth >= to. WAIT: the layer or an embedding row is not there. */
exitlm_status xl_stair_advance_slice(xl_stair *stair, uint32_t to, bool *done, exitlm_error *error);
/* That chunk, not run yet; n 0: all have that depth. */
exitlm_status xl_stair_next(xl_stair *stair, uint32_t to, xl_slice *slice, exitlm_error *error);
/* Its rows, and what is to be noted once they have been through the layer, for so many multiply-adds. */
void xl_stair_rows(xl_stair *stair, const xl_slice *slice, xl_row *rows);
void xl_stair_passed(xl_stair *stair, const xl_slice *slice, uint64_t macs);
/* Slices until done. */
exitlm_status xl_stair_advance(xl_stair *stair, uint32_t to, exitlm_error *error);
/* Is the oldest position that those from `pos` on look at still in the layers with a window? */
bool xl_stair_in_window(const xl_stair *stair, uint32_t pos);
/* `to` gets the first n positions of `from`, which are through all layers, whatever it held (kv.h,
 * xl_kv_share). OUT_OF_MEMORY: it is empty. */
exitlm_status xl_stair_share(xl_stair *to, const xl_stair *from, uint32_t n, exitlm_error *error);
/* All positions are through all layers by a copy from elsewhere. Layers with a window are not known
 * to hold more than the window of what comes next. */
void xl_stair_set_through(xl_stair *stair);
/* What the exit of the last position, pos, at `head` does about the K/V of the layers that it
 * skips: nothing (it waits), or they are made from its hidden state by the layers' own projections
 * or by maps (heads.h, xl_heads_mapping), and its depth becomes n_layers; so do those before it
 * that wait still. WAIT, with nothing changed, while a layer that would be skipped has not
 * arrived. */
exitlm_status xl_stair_exit(xl_stair *stair, const exitlm_heads *heads, uint32_t pos, uint32_t head,
                            exitlm_kv_policy policy, exitlm_error *error);
/* Policy MAPS, when the last position has come to the layer of `head`: where that is the mapping
 * head, those that waited and came along are mapped; while a layer above has not arrived, or one
 * before them stands between the layers above, they go on waiting. */
void xl_stair_map_waiting(xl_stair *stair, const exitlm_heads *heads, uint32_t head);
/* The invariant of the staircase. Asserted after each change in debug builds. */
bool xl_stair_check(const xl_stair *stair);

#endif
