/* A head looks at the hidden state after its layer, scores a shortlist of tokens, and says how
 * uncertain it is. Method: Valade, arXiv 2407.21082. Against the paper's full vocabulary per head:
 * a shortlist of the model's own output rows, the tokens of the context beside them, and "other"
 * for all that is not listed, so that a head can decline. Whether it answers: xl_head_answers. */
#include "exits.h"

#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "base/fmath.h"
#include "rule.h"

struct xl_exits {
    xl_logits *logits;
    xl_stair *stair;
    xl_run *run;
    const exitlm_heads *heads;
    /* Prefix of the output matrix, or a copy of its rows where the model was loaded without
     * these heads. */
    xl_matrix shortlist;
    uint8_t *shortlist_copy; /* NULL: it is a prefix */
    /* [vocab] index in the shortlist, UINT32_MAX: not in it; NULL where the model's slots say it */
    uint32_t *short_index;
    uint32_t shortlist_ready; /* so many of its rows are there (and copied) */
    uint32_t smallest_head;   /* rows of the shortlist that every head has */
    /* Rows of context tokens outside that, copied at their first position, in the order of these
     * positions. */
    xl_matrix context_rows;
    uint8_t *context_memory;
    int32_t *context_ids; /* [context_capacity] */
    /* [context_capacity] position where the token came up first, ascending */
    uint32_t *context_pos;
    uint32_t n_context, context_capacity;
    uint32_t context_seen; /* positions looked through for context rows */
    bool *in_context;      /* [vocab] a context row */
    /* scratch of a check; what scores need lies where the model's are sorted by id: nobody wants
     * both */
    float *x, *out; /* [dim] */
    float *inner;   /* [widest mlp] */
    float *scores;  /* [capacity] static rows, context rows, "other" */
    float *work;    /* [capacity] */
    int32_t *ids;   /* [capacity] ids of scores */
    size_t capacity;
};

/* ---- Memory ---- */

static void take_shortlist(xl_exits *e, xl_arena *arena) {
    const exitlm_model *m = e->run->model;
    const xl_config *c = &m->config;
    size_t bytes = 0;
    e->shortlist = m->output;
    if (m->heads == e->heads || e->heads->n_shortlist == 0) return;
    e->shortlist.rows = e->heads->n_shortlist;
    if (!xl_matrix_bytes(m->output.type, e->shortlist.rows, c->dim, &bytes)) arena->overflow = true;
    e->shortlist_copy = xl_arena_take(arena, 1, bytes);
    e->shortlist.data = e->shortlist_copy;
    e->short_index = xl_arena_take(arena, c->vocab, sizeof *e->short_index);
}

static void take_context(xl_exits *e, xl_arena *arena) {
    const exitlm_model *m = e->run->model;
    size_t bytes = 0;
    e->context_capacity = xl_min_u32(e->stair->ctx, XL_MAX_CONTEXT_ROWS);
    if (!xl_matrix_bytes(m->output.type, e->context_capacity, m->config.dim, &bytes))
        arena->overflow = true;
    e->context_memory = xl_arena_take(arena, 1, bytes);
    e->context_rows =
        (xl_matrix){e->context_memory, m->output.type, e->context_capacity, m->config.dim};
    e->context_ids = xl_arena_take(arena, e->context_capacity, sizeof *e->context_ids);
    e->context_pos = xl_arena_take(arena, e->context_capacity, sizeof *e->context_pos);
    e->in_context = xl_arena_take(arena, m->config.vocab, sizeof *e->in_context);
}

/* Most candidates of a head, in whole tiles of each kind, and "other". */
static size_t most_candidates(const exitlm_heads *heads, uint32_t ctx) {
    uint32_t longest = 0;
    for (uint32_t i = 0; i < heads->n_heads; i++)
        longest = xl_max_u32(longest, heads->head[i].rows);
    return xl_whole_tiles(longest) + xl_whole_tiles(xl_min_u32(ctx, XL_MAX_CONTEXT_ROWS)) + 8;
}

size_t xl_exits_scratch_floats(const exitlm_heads *heads, uint32_t ctx) {
    return heads ? 3 * most_candidates(heads, ctx) : 0;
}

static void take_scratch(xl_exits *e, xl_arena *arena) {
    uint32_t widest = e->run->model->config.dim;
    e->smallest_head = UINT32_MAX;
    for (uint32_t i = 0; i < e->heads->n_heads; i++) {
        const xl_head *head = &e->heads->head[i];
        widest = xl_max_u32(widest, head->up.rows);
        if (head->form != XL_FORM_FULL) e->smallest_head = xl_min_u32(e->smallest_head, head->rows);
    }
    e->x = xl_arena_take(arena, e->run->work.dim_stride, sizeof(float));
    e->out = xl_arena_take(arena, e->run->work.dim_stride, sizeof(float));
    e->inner = xl_arena_take(arena, xl_whole_tiles(widest), sizeof(float));
    e->capacity = most_candidates(e->heads, e->stair->ctx);
    if (!e->logits->by_id) return;
    e->scores = e->logits->by_id;
    e->work = e->scores + e->capacity;
    e->ids = (int32_t *)(void *)(e->work + e->capacity);
}

xl_exits *xl_exits_take(xl_arena *arena, xl_logits *logits, const exitlm_heads *heads) {
    if (!heads) return NULL;
    xl_exits measured, *taken = xl_arena_take(arena, 1, sizeof *taken),
                       *e = taken ? taken : &measured;
    *e = (xl_exits){
        .logits = logits, .stair = logits->stair, .run = logits->stair->run, .heads = heads};
    take_shortlist(e, arena);
    take_context(e, arena);
    take_scratch(e, arena);
    return taken;
}

void xl_exits_fill(xl_exits *e) {
    if (!e || !e->short_index) return;
    for (uint32_t i = 0; i < e->run->model->config.vocab; i++) e->short_index[i] = UINT32_MAX;
    for (uint32_t i = 0; i < e->heads->n_shortlist; i++) e->short_index[e->heads->shortlist[i]] = i;
}

/* ---- Rows ---- */

/* Is the token one of the first `rows` of the shortlist? */
static bool is_listed(const xl_exits *e, uint32_t id, uint32_t rows) {
    const uint32_t *index = e->short_index ? e->short_index : e->run->model->slot_of;
    return index && index[id] < xl_min_u32(e->heads->n_shortlist, rows);
}

static exitlm_status wait_for_row(xl_exits *e, int32_t id, exitlm_error *error) {
    e->stair->need_layer = -1;
    e->stair->need_row = id;
    return xl_fail(error, EXITLM_WAIT, "the output row of token %ld has not arrived yet", (long)id);
}

/* The first `rows` of the static shortlist are there; copied once where it is no prefix of the
 * output matrix. */
static exitlm_status ready_shortlist(xl_exits *e, uint32_t rows, exitlm_error *error) {
    const exitlm_model *m = e->run->model;
    const int32_t *ids = e->heads->shortlist;
    rows = xl_min_u32(rows, e->heads->n_shortlist);
    if (e->shortlist_ready >= rows) return EXITLM_OK;
    /* norms: they come before all layers */
    if (!m->base_ready) return xl_stair_wait(e->stair, 0, -1, error);
    for (uint32_t i = e->shortlist_ready; i < rows; i++)
        if (!m->output_row_ready[ids[i]]) return wait_for_row(e, ids[i], error);
    for (uint32_t i = e->shortlist_ready; i < rows && e->shortlist_copy; i++)
        xl_copy_row(m->output.type, e->shortlist_copy, i, m->output.data,
                    xl_slot(m, (uint32_t)ids[i]), m->config.dim);
    e->shortlist_ready = rows;
    return EXITLM_OK;
}

/* Forgets what positions brought that the staircase has dropped since. */
static void forget_context(xl_exits *e) {
    const uint32_t from = e->stair->unseen_from;
    while (e->n_context && e->context_pos[e->n_context - 1] >= from)
        e->in_context[e->context_ids[--e->n_context]] = false;
    e->context_seen = xl_min_u32(e->context_seen, from);
}

static exitlm_status ready_context(xl_exits *e, exitlm_error *error) {
    const exitlm_model *m = e->run->model;
    forget_context(e);
    /* heads of the whole vocabulary have every row */
    if (e->smallest_head == UINT32_MAX) return EXITLM_OK;
    for (; e->context_seen < e->stair->n; e->context_seen++) {
        int32_t id = e->stair->ids[e->context_seen];
        if (is_listed(e, (uint32_t)id, e->smallest_head) || e->in_context[id] ||
            e->n_context == e->context_capacity)
            continue;
        if (!m->output_row_ready[id]) break;
        xl_copy_row(m->output.type, e->context_memory, e->n_context, m->output.data,
                    xl_slot(m, (uint32_t)id), m->config.dim);
        e->context_ids[e->n_context] = id;
        e->context_pos[e->n_context] = e->context_seen;
        e->in_context[id] = true;
        e->n_context++;
    }
    e->stair->unseen_from = e->context_seen;
    return e->context_seen == e->stair->n ? EXITLM_OK
                                          : wait_for_row(e, e->stair->ids[e->context_seen], error);
}

uint32_t xl_context_rows(const xl_exits *exits) { return exits->n_context; }

/* ---- A check ---- */

/* x <- what the head makes of the hidden state. */
static const float *transform(xl_exits *e, const xl_head *head, const float *hidden) {
    xl_run *run = e->run;
    const xl_kernels *k = run->kernels;
    const xl_config *c = &run->model->config;
    xl_norm_row(run, e->x, hidden,
                &(xl_norm){head->norm ? head->norm : run->model->output_norm.weight,
                           run->model->output_norm.bias});
    if (head->form == XL_FORM_TIED && head->map.data) {
        xl_matmul(run, e->out, run->work.dim_stride, &head->map, e->x, 1);
        k->add(e->x, e->out, c->dim);
    } else if (head->form == XL_FORM_MLP) {
        xl_matmul(run, e->inner, head->up.rows, &head->up, e->x, 1);
        k->activate(e->inner, NULL, head->up.rows, XL_SILU);
        xl_matmul(run, e->out, run->work.dim_stride, &head->down, e->inner, 1);
        k->add(e->x, e->out, c->dim);
    }
    return e->x;
}

/* Does the head score the model's own output rows, as the full model would? */
static bool scores_output(const xl_exits *e, const xl_head *head) {
    return head->form == XL_FORM_VOCABULARY && !e->shortlist_copy && !head->bias && !head->norm;
}

/* Scores of the static rows, straight into the first slots of the full logits where they are
 * those. `scored`: of them so many are there. */
static void score_static(xl_exits *e, const xl_head *head, const float *x, uint32_t scored) {
    if (scores_output(e, head)) {
        if (scored < head->rows)
            xl_matmul_rows(e->run, e->logits->row, e->logits->stride, &e->shortlist, scored,
                           head->rows - scored, x, 1);
        memcpy(e->scores, e->logits->row, head->rows * sizeof(float));
    } else {
        xl_matmul_rows(e->run, e->scores, e->capacity,
                       head->form == XL_FORM_FULL ? &head->output : &e->shortlist, 0, head->rows, x,
                       1);
    }
    if (head->bias) e->run->kernels->add(e->scores, head->bias, head->rows);
}

static float score_other(const xl_head *head, const float *x, uint32_t dim) {
    float sum = head->other[dim];
    for (uint32_t i = 0; i < dim; i++) sum = sum + head->other[i] * x[i];
    return sum;
}

static int32_t id_of_candidate(const xl_exits *e, const xl_head *head, size_t i) {
    if (head->form == XL_FORM_FULL) return (int32_t)i;
    return i < head->rows ? e->heads->shortlist[i] : e->context_ids[i - head->rows];
}

/* The candidates' scores: static rows, then context rows; a token stands once. Returns their
 * number. */
static uint32_t score_candidates(xl_exits *e, const xl_head *head, const float *x,
                                 uint32_t scored) {
    const float *bias = e->run->model->output_bias;
    const uint32_t n = head->form == XL_FORM_FULL ? head->rows : head->rows + e->n_context;
    score_static(e, head, x, scored);
    if (n > head->rows)
        xl_matmul_rows(e->run, e->scores + head->rows, e->capacity, &e->context_rows, 0,
                       e->n_context, x, 1);
    /* a bias of the head's own stands in place of the model's */
    for (uint32_t i = head->bias ? head->rows : 0; bias && i < n; i++)
        e->scores[i] += bias[id_of_candidate(e, head, i)];
    for (uint32_t i = head->rows; i < n; i++)
        if (is_listed(e, (uint32_t)e->context_ids[i - head->rows], head->rows))
            e->scores[i] = -INFINITY;
    return n;
}

static void fill_check(const xl_softmax_stats *stats, uint32_t n, const float *scores,
                       bool has_other, xl_check *check) {
    const uint32_t outcomes = n + has_other;
    float sum = stats->sum_exp;
    check->p1 = 1.0f / sum;
    check->margin = check->p1 - xl_expf(stats->second - stats->max) / sum;
    check->other = has_other ? xl_expf(scores[n] - stats->max) / sum : 0;
    float entropy = (float)xl_log(sum) - stats->sum_xexp / sum;
    check->entropy = outcomes > 1 ? entropy / (float)xl_log(outcomes) : 0;
    if (!(check->entropy > 0)) check->entropy = 0;
    if (check->entropy > 1) check->entropy = 1;
}

static void name_candidates(xl_exits *e, const xl_head *head, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) e->ids[i] = id_of_candidate(e, head, i);
}

/* The candidate that is drawn, not the likeliest. */
static int32_t draw(xl_exits *e, const xl_head *head, uint32_t n, uint32_t pos,
                    const xl_sampler *sampler) {
    name_candidates(e, head, n);
    if (head->sampling_scale != 1)
        for (uint32_t i = 0; i < n; i++) e->scores[i] *= head->sampling_scale;
    return xl_rule_among(sampler, e->stair, e->scores, e->ids, n, pos, e->work);
}

exitlm_status xl_exit_check(xl_exits *e, uint32_t index, uint32_t pos, const float *hidden,
                            const xl_check *previous, const xl_sampler *sampler, xl_check *check,
                            exitlm_error *error) {
    const xl_head *head = &e->heads->head[index];
    exitlm_status status = ready_shortlist(e, head->rows, error);
    if (status == EXITLM_OK) status = ready_context(e, error);
    if (status != EXITLM_OK) return status;

    const float *x = transform(e, head, hidden);
    const bool has_other = head->other != NULL;
    uint32_t n = score_candidates(e, head, x, previous ? previous->scored : 0);
    if (has_other) e->scores[n] = score_other(head, x, e->run->model->config.dim);
    xl_logprobs *logprobs = sampler ? sampler->logprobs : NULL;
    if (logprobs) memcpy(logprobs->scores, e->scores, (n + has_other) * sizeof *e->scores);
    xl_softmax_stats stats;
    e->run->kernels->softmax_stats(e->scores, n + has_other, &stats);
    fill_check(&stats, n, e->scores, has_other, check);
    check->scored = scores_output(e, head) ? head->rows / XL_TILE_ROWS * XL_TILE_ROWS : 0;
    check->argmax = stats.arg == n ? -1 : id_of_candidate(e, head, stats.arg);
    check->id = check->argmax;
    check->uncertainty =
        check->argmax < 0 ? 1 : xl_uncertainty(e->heads, index, e->heads->metric, check, previous);
    if (check->argmax >= 0 && sampler && !xl_sampler_is_plain(sampler))
        check->id = draw(e, head, n, pos, sampler);
    if (check->id >= 0 && sampler && !xl_rule_allows(sampler, e->stair, pos, check->id)) {
        check->id = -1; /* it declines: the full model has the whole choice */
        check->uncertainty = 1;
    }
    if (logprobs && check->id >= 0) {
        name_candidates(e, head, n);
        xl_logprobs_note(logprobs, e->run->kernels, pos + 1 - sampler->reply_from, check->id,
                         e->ids, n, has_other);
    }
    return EXITLM_OK;
}

static float log_from(float x, float least) { return (float)xl_log(x > least ? x : least); }

void xl_metric_features(exitlm_metric metric, const xl_check *c, bool agrees, float *f) {
    const bool regret = metric == EXITLM_METRIC_REGRET;
    f[0] = regret ? log_from(c->entropy, 1e-7f) : c->entropy;
    f[1] = regret ? log_from(1 - c->p1, 1e-7f) : log_from(c->p1, 1e-30f);
    f[2] = regret ? log_from(1 - c->margin, 1e-7f) : c->margin;
    f[3] = regret ? log_from(c->other, 1e-7f) : c->other;
    f[4] = agrees ? 1.0f : 0.0f;
}

float xl_uncertainty(const exitlm_heads *heads, uint32_t head, exitlm_metric metric,
                     const xl_check *check, const xl_check *previous) {
    switch (metric) {
    case EXITLM_METRIC_ENTROPY: return check->entropy;
    case EXITLM_METRIC_MAXPROB: return 1 - check->p1;
    case EXITLM_METRIC_MARGIN: return 1 - check->margin;
    default: break;
    }
    const float *w = heads->head[head].logistic;
    float f[XL_FEATURES], z = w[0];
    xl_metric_features(metric, check, previous && previous->argmax == check->argmax, f);
    for (int i = 0; i < XL_FEATURES; i++) z = z + w[i + 1] * f[i];
    return 1.0f / (1.0f + xl_expf(z));
}
