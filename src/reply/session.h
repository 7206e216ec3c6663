/* A session: positions on the staircase (README.md), their K/V, and one generation. Internal; exitlm.h is the public face. */
#ifndef XL_SESSION_H
#define XL_SESSION_H
#include "model/heads.h"
#include "kernel/kernels.h"
#include "model/model.h"
#include "run/sampler.h"
#include "base/status.h"
#include "base/threads.h"

#define XL_CHUNK 32       /* most rows of one pass through a layer */
#define XL_FINE 16        /* most rows of a product whose inputs count twice (forward.c); 2 XL_FINE <= XL_CHUNK */
#define XL_MAX_VERIFY 9   /* most rows whose full logits are held: 8 drafts and the token before them */

/* How a position's K/V was made. */
typedef enum xl_made { XL_MADE_EXACT, XL_MADE_MAPS, XL_MADE_PROPAGATE } xl_made;

/* The K/V cache of one sequence. Area of layer l and K/V head g: (l * n_kv_heads + g) * area_bytes. */
typedef struct xl_kv {
    uint8_t *k, *v;
    size_t area_bytes; /* xl_kv_bytes(type, head_dim, ctx) */
    xl_kv_type type;
} xl_kv;

/* One row of a batch: a position of a sequence. Rows of one sequence are in ascending order of position. */
typedef struct xl_row {
    xl_kv *kv;
    uint32_t pos;
    float *hidden; /* [dim], in: the residual stream before the layer; out: after it */
} xl_row;

/* Scratch of forward passes: XL_CHUNK rows. One per session; sessions that are run together use one of them. */
typedef struct xl_work {
    float *norm;      /* [XL_CHUNK][dim] */
    uint8_t *act;     /* [XL_CHUNK][act_stride] quantised rows of the widest input; of XL_FINE rows and of what quantising them left */
    float *rest;      /* [widest input] what quantising a row left */
    size_t act_stride;
    /* Nobody reads these after a pass: they lie where the logits of a verification are (exitlm_session.logits). */
    float *q, *k, *v; /* [XL_CHUNK + XL_FINE][q_dim] [kv_dim] [kv_dim] */
    float *att;       /* [XL_CHUNK][q_dim] */
    float *out;       /* [XL_CHUNK + XL_FINE][dim] */
    float *gate, *up; /* [XL_CHUNK + XL_FINE][ffn_dim] */
    float *scores;    /* [threads][attend scratch] */
    size_t scores_floats;
    size_t dim_stride, q_stride, kv_stride, ffn_stride; /* floats from row to row */
    float attention_scale; /* 1 / sqrt(head_dim) */
} xl_work;

/* What an exit check says of one position. */
typedef struct xl_check {
    int32_t id;          /* the head's choice under the token rule (greedy: its argmax); -1: it declines ("other") */
    float uncertainty;   /* 0 … 1 by the heads file's metric */
    /* the ingredients, for calibration: */
    float entropy;       /* / log(outcomes) */
    float p1, margin, other;
    int32_t argmax;      /* without sampling; -1: other */
} xl_check;

struct exitlm_session {
    exitlm_allocator allocator;
    const exitlm_model *model;
    const exitlm_heads *heads; /* or NULL */
    const xl_kernels *kernels;
    xl_pool *pool;
    uint8_t *memory; /* the one block behind all arrays */
    size_t memory_bytes;
    double (*clock_ms)(void *user);
    void *clock_user;

    /* the staircase */
    uint32_t ctx;        /* capacity in positions */
    uint32_t n;          /* positions held */
    uint32_t embedded;   /* positions whose hidden state has been started */
    int32_t *ids;        /* [ctx] */
    uint16_t *depth;     /* [ctx] layers whose K/V exists; non-increasing */
    uint8_t *made;       /* [ctx] xl_made */
    float *hidden;       /* [ctx][work.dim_stride] residual stream after `depth` layers */
    xl_kv kv;
    float *rope_cos, *rope_sin; /* [ctx][rope_dims / 2] */
    bool rope_ready;            /* filled once the model's rope_factors are there */
    xl_work work;
    float *logits;       /* [XL_MAX_VERIFY][vocab_padded], slot order; a pass through a layer leaves only row 0 as it is */
    size_t logits_stride;
    float *scratch_logits; /* [vocab_padded] for sampling, id order */

    /* shortlist of the heads: prefix of the output matrix, or a copy of its rows where the model was loaded without these heads */
    xl_matrix shortlist;
    bool shortlist_copied;
    xl_matrix context_rows;   /* rows of context tokens outside the shortlist */
    int32_t *context_ids;     /* [context_capacity] */
    uint32_t *context_pos;    /* [context_capacity] position where the token came up first, ascending */
    uint32_t n_context, context_capacity;
    uint32_t context_seen;    /* positions looked through for context rows */
    bool *in_context;         /* [vocab] a context row */
    uint32_t *short_index;    /* [vocab] index in the shortlist, UINT32_MAX: not in it; NULL where the model's slots say it */
    float *ones;              /* [max(dim, widest mlp)] 1.0 */
    float *head_x, *head_out; /* [dim] */
    float *head_hidden;       /* widest mlp */
    float *head_logits;       /* [head_capacity] static rows, context rows, "other" */
    float *head_work;         /* [2 * head_capacity] */
    int32_t *head_ids;        /* [head_capacity] ids of head_logits */
    size_t head_capacity;
    bool shortlist_ready;     /* its rows are there (and copied) */

    uint64_t macs;            /* multiply-adds done, matrices only */
    uint32_t wanted_from;     /* of positions below it nobody wants the last hidden state: the last layer makes only their K and V */
    uint32_t prefix;          /* positions of the prompt before its last one, whose work is not the reply's */
    uint64_t prefix_macs;     /* and the part of macs that went into them */
    int32_t need_layer, need_row; /* of the last EXITLM_WAIT */

    /* after each layer of a run of rows: training looks at hidden states here. NULL: nobody does. */
    void (*on_layer)(void *user, uint32_t layers_run, uint32_t pos, uint32_t n, const float *hidden /* [n][dim] */);
    void *on_layer_user;

    struct xl_generation *generation; /* generate.c */
};

/* ---- session.c ---- */
size_t xl_session_bytes(const exitlm_model *model, const exitlm_heads *heads, const exitlm_session_options *options);
/* Appends ids at depth 0. CONTEXT_FULL where they do not fit (nothing appended). */
exitlm_status xl_session_append(exitlm_session *s, const int32_t *ids, size_t n, exitlm_error *error);
/* Fills the RoPE tables; needs model->base_ready. */
void xl_session_fill_rope(exitlm_session *s);
/* Drops positions from n on. */
void xl_session_truncate(exitlm_session *s, uint32_t n);
/* Full logits (slot order) of positions pos … pos+n-1, which must be through all layers, n <= XL_MAX_VERIFY, to s->logits, where
 * those of row 1 on stay until the next pass through a layer. WAIT where output rows are missing. */
exitlm_status xl_session_logits(exitlm_session *s, uint32_t pos, uint32_t n, exitlm_error *error);
/* The same without the first row0 slots (a multiple of 8), which an exit check has filled already. */
exitlm_status xl_session_logits_from(exitlm_session *s, uint32_t pos, uint32_t n, uint32_t row0, exitlm_error *error);
/* s->logits [n][vocab] <- the output matrix times x [n][dim_stride], slots from row0 on; the others are there already. */
void xl_output_logits(exitlm_session *s, const float *x, uint32_t n, uint32_t row0);
/* slot order -> id order: out [vocab] */
void xl_logits_by_id(const exitlm_session *s, const float *slots, float *out);
/* Lowest id of the largest. */
int32_t xl_logits_argmax(const exitlm_session *s, const float *slots);

/* Is the token one of the first `rows` of the shortlist? */
static inline bool xl_is_listed(const exitlm_session *s, uint32_t id, uint32_t rows) {
    const uint32_t *index = s->short_index ? s->short_index : s->model->slot_of;
    uint32_t listed = s->heads->n_shortlist < rows ? s->heads->n_shortlist : rows;
    return index && index[id] < listed;
}

/* ---- forward.c ---- */
/* One layer for n <= XL_CHUNK rows (of any sequences); K/V stored at each row's position. Allocates nothing.
 * Follows LlamaDecoderLayer.forward of transformers 4.x. */
void xl_forward_layer(exitlm_session *s, uint32_t layer, const xl_row *rows, uint32_t n);
/* Only what later positions need of these: their K and V; `hidden` stays. */
void xl_forward_kv(exitlm_session *s, uint32_t layer, const xl_row *rows, uint32_t n);
/* One slice of advancing: the chunk of rows that is next on the way of all positions to depth `to`.
 * *done: all positions have depth >= to. WAIT: the layer or an embedding row is not there. */
exitlm_status xl_session_advance_slice(exitlm_session *s, uint32_t to, bool *done, exitlm_error *error);
/* Slices until done. */
exitlm_status xl_session_advance(exitlm_session *s, uint32_t to, exitlm_error *error);
/* Takes 1 <= n <= XL_CHUNK sessions of one model, each with exactly one position that has not been through all layers (depth 0),
 * through all layers together, then fills row 0 of each session's logits. `sessions[0]` lends its scratch. For batched decoding. */
exitlm_status xl_sessions_advance_together(exitlm_session *const *sessions, uint32_t n, exitlm_error *error);
/* What the exit of position pos at `head` does about the K/V of the layers that it skips: nothing (it waits), or they are made from its hidden state
 * by the layers' own projections or by maps (heads.h, xl_heads_mapping), and its depth becomes n_layers. */
void xl_exit_kv(exitlm_session *s, uint32_t pos, uint32_t head, exitlm_kv_policy policy);
/* Policy MAPS, when the last position has come to the layer of `head`: where that is the mapping head, those that waited and came along are mapped. */
void xl_map_waiting(exitlm_session *s, uint32_t head);
/* What the layers that an exit at `head` skips cost later, in layers; `waiting`: of one that is run for a position that waited. */
double xl_later_layers(const exitlm_model *model, const exitlm_heads *heads, uint32_t head, exitlm_kv_policy policy, double waiting);
/* y[n][rows] = W x for n rows of f32 inputs [n][cols] (quantised here as the type wants). y_stride in floats. */
void xl_matmul(exitlm_session *s, float *y, size_t y_stride, const xl_matrix *w, const float *x, uint32_t n);
/* The same for rows [row0, row0 + rows), row0 a multiple of 8. */
void xl_matmul_rows(exitlm_session *s, float *y, size_t y_stride, const xl_matrix *w, uint32_t row0, uint32_t rows, const float *x, uint32_t n);

/* ---- exits.c ---- */
/* Scores of head `head` for position pos, which must have depth == the head's layer; previous: the check of the head before
 * (or NULL), for "agrees". With `sampler` NULL greedy. */
exitlm_status xl_exit_check(exitlm_session *s, uint32_t head, uint32_t pos, const xl_check *previous, const xl_sampler *sampler,
                            xl_check *check, exitlm_error *error);
/* Uncertainty by a metric from the ingredients (logistic: of heads->head[head], agrees with previous). */
float xl_uncertainty(const exitlm_heads *heads, uint32_t head, exitlm_metric metric, const xl_check *check, const xl_check *previous);
uint64_t xl_head_macs(const exitlm_model *m, const xl_head *head);
uint64_t xl_layer_macs(const exitlm_model *m);
uint64_t xl_token_macs(const exitlm_model *m); /* all layers and the output matrix */

#endif
