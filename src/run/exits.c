/* When is a token sure? A head looks at the hidden state after its layer, scores a shortlist of tokens, and says how uncertain it is.
 * Method: Valade, arXiv 2407.21082. Against the paper's full vocabulary per head: a shortlist of the model's own output rows, the
 * tokens of the context beside them, and "other" for all that is not listed, so that a head can decline. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/fmath.h"
#include "reply/session.h"

static uint32_t smallest_head(const exitlm_heads *heads) {
    uint32_t rows = UINT32_MAX;
    for (uint32_t i = 0; i < heads->n_heads; i++)
        if (heads->head[i].form != XL_FORM_FULL && heads->head[i].rows < rows) rows = heads->head[i].rows;
    return rows == UINT32_MAX ? 0 : rows;
}

static exitlm_status wait_for_row(exitlm_session *s, int32_t id, exitlm_error *error) {
    s->need_layer = -1;
    s->need_row = id;
    return xl_fail(error, EXITLM_WAIT, "the output row of token %ld has not arrived yet", (long)id);
}

/* The static shortlist is there; copied once where it is no prefix of the output matrix. */
static exitlm_status ready_shortlist(exitlm_session *s, exitlm_error *error) {
    const exitlm_model *m = s->model;
    if (s->shortlist_ready) return EXITLM_OK;
    if (!m->base_ready) return wait_for_row(s, s->heads->n_shortlist ? s->heads->shortlist[0] : 0, error);
    for (uint32_t i = 0; i < s->heads->n_shortlist; i++)
        if (!m->output_row_ready[s->heads->shortlist[i]]) return wait_for_row(s, s->heads->shortlist[i], error);
    for (uint32_t i = 0; s->shortlist_copied && i < s->heads->n_shortlist; i++)
        xl_copy_row(m->output.type, (void *)(uintptr_t)s->shortlist.data, i, m->output.data, xl_slot(m, (uint32_t)s->heads->shortlist[i]),
                    m->config.dim);
    s->shortlist_ready = true;
    return EXITLM_OK;
}

/* Rows of the context's tokens that the smallest head does not have, copied at their first position. */
static exitlm_status ready_context(exitlm_session *s, exitlm_error *error) {
    const exitlm_model *m = s->model;
    uint32_t least = smallest_head(s->heads);
    for (; s->context_seen < s->n; s->context_seen++) {
        int32_t id = s->ids[s->context_seen];
        if (xl_is_listed(s, (uint32_t)id, least) || s->in_context[id] || s->n_context == s->context_capacity) continue;
        if (!m->output_row_ready[id]) return wait_for_row(s, id, error);
        xl_copy_row(m->output.type, (void *)(uintptr_t)s->context_rows.data, s->n_context, m->output.data, xl_slot(m, (uint32_t)id),
                    m->config.dim);
        s->context_ids[s->n_context] = id;
        s->context_pos[s->n_context] = s->context_seen;
        s->in_context[id] = true;
        s->n_context++;
    }
    return EXITLM_OK;
}

/* head_x <- what the head makes of the hidden state. */
static const float *transform(exitlm_session *s, const xl_head *head, const float *hidden) {
    const xl_config *c = &s->model->config;
    s->kernels->rmsnorm(s->head_x, hidden, head->norm ? head->norm : s->model->output_norm, c->dim, c->norm_eps);
    if (head->form == XL_FORM_TIED && head->map.data) {
        xl_matmul(s, s->head_out, s->work.dim_stride, &head->map, s->head_x, 1);
        s->kernels->add(s->head_x, s->head_out, c->dim);
    } else if (head->form == XL_FORM_MLP) {
        xl_matmul(s, s->head_hidden, head->up.rows, &head->up, s->head_x, 1);
        s->kernels->silu_mul(s->head_hidden, s->ones, head->up.rows);
        xl_matmul(s, s->head_out, s->work.dim_stride, &head->down, s->head_hidden, 1);
        s->kernels->add(s->head_x, s->head_out, c->dim);
    }
    return s->head_x;
}

/* Scores of the static rows, straight into the first slots of the full logits where they are those. */
static float *static_scores(exitlm_session *s, const xl_head *head, const float *x) {
    if (head->form == XL_FORM_VOCABULARY && !s->shortlist_copied) {
        xl_matmul_rows(s, s->logits, s->logits_stride, &s->shortlist, 0, head->rows, x, 1);
        memcpy(s->head_logits, s->logits, head->rows * sizeof(float));
    } else {
        xl_matmul_rows(s, s->head_logits, s->head_capacity, head->form == XL_FORM_FULL ? &head->output : &s->shortlist, 0, head->rows, x, 1);
    }
    if (head->bias) s->kernels->add(s->head_logits, head->bias, head->rows);
    return s->head_logits;
}

static float dot_other(const xl_head *head, const float *x, uint32_t dim) {
    float sum = head->other[dim];
    for (uint32_t i = 0; i < dim; i++) sum = sum + head->other[i] * x[i];
    return sum;
}

static int32_t id_of_candidate(const exitlm_session *s, const xl_head *head, size_t i) {
    if (head->form == XL_FORM_FULL) return (int32_t)i;
    return i < head->rows ? s->heads->shortlist[i] : s->context_ids[i - head->rows];
}

/* The candidates' logits in head_logits: static rows, then context rows; a token stands once. Returns their number. */
static uint32_t candidates(exitlm_session *s, const xl_head *head, const float *x) {
    float *logits = static_scores(s, head, x);
    if (head->form == XL_FORM_FULL || s->n_context == 0) return head->rows;
    xl_matmul_rows(s, logits + head->rows, s->head_capacity, &s->context_rows, 0, s->n_context, x, 1);
    for (uint32_t i = 0; i < s->n_context; i++)
        if (xl_is_listed(s, (uint32_t)s->context_ids[i], head->rows)) logits[head->rows + i] = -INFINITY;
    return head->rows + s->n_context;
}

static void measure(const xl_softmax_stats *stats, uint32_t n, uint32_t outcomes, const float *logits, bool has_other, xl_check *check) {
    float sum = stats->sum_exp;
    check->p1 = 1.0f / sum;
    check->margin = check->p1 - xl_expf(stats->second - stats->max) / sum;
    check->other = has_other ? xl_expf(logits[n] - stats->max) / sum : 0;
    float entropy = (float)xl_log(sum) - stats->sum_xexp / sum;
    check->entropy = outcomes > 1 ? entropy / (float)xl_log(outcomes) : 0;
    if (!(check->entropy > 0)) check->entropy = 0;
    if (check->entropy > 1) check->entropy = 1;
}

exitlm_status xl_exit_check(exitlm_session *s, uint32_t index, uint32_t pos, const xl_check *previous, const xl_sampler *sampler,
                            xl_check *check, exitlm_error *error) {
    const xl_head *head = &s->heads->head[index];
    exitlm_status status = ready_shortlist(s, error);
    if (status == EXITLM_OK) status = ready_context(s, error);
    if (status != EXITLM_OK) return status;

    const float *x = transform(s, head, s->hidden + (size_t)pos * s->work.dim_stride);
    uint32_t n = candidates(s, head, x);
    float *logits = s->head_logits;
    if (head->other) logits[n] = dot_other(head, x, s->model->config.dim);
    xl_softmax_stats stats;
    s->kernels->softmax_stats(logits, n + (head->other != NULL), &stats);
    measure(&stats, n, n + (head->other != NULL), logits, head->other != NULL, check);
    check->argmax = stats.arg == n ? -1 : id_of_candidate(s, head, stats.arg);
    check->id = check->argmax;
    check->uncertainty = check->argmax < 0 ? 1 : xl_uncertainty(s->heads, index, s->heads->metric, check, previous);
    if (check->argmax >= 0 && sampler && !xl_sampler_is_plain(sampler)) {
        for (uint32_t i = 0; i < n; i++) s->head_ids[i] = id_of_candidate(s, head, i);
        for (uint32_t i = 0; head->sampling_scale != 1 && i < n; i++) logits[i] *= head->sampling_scale;
        uint32_t window = s->n < XL_REPEAT_WINDOW ? s->n : XL_REPEAT_WINDOW;
        check->id = xl_sample(sampler, logits, s->head_ids, n, pos + 1, s->ids + s->n - window, window, s->head_work);
    }
    return EXITLM_OK;
}

float xl_uncertainty(const exitlm_heads *heads, uint32_t head, exitlm_metric metric, const xl_check *check, const xl_check *previous) {
    switch (metric) {
    case EXITLM_METRIC_ENTROPY: return check->entropy;
    case EXITLM_METRIC_MAXPROB: return 1 - check->p1;
    case EXITLM_METRIC_MARGIN: return 1 - check->margin;
    default: break;
    }
    const float *w = heads->head[head].logistic;
    float agrees = previous && previous->argmax == check->argmax ? 1.0f : 0.0f;
    float z = w[0] + w[1] * check->entropy + w[2] * (float)xl_log(check->p1 > 1e-30f ? check->p1 : 1e-30f) + w[3] * check->margin +
              w[4] * check->other + w[5] * agrees;
    return 1.0f / (1.0f + xl_expf(z));
}
