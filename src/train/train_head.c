/* Training of one exit head. A step has three phases, each shared by the threads without any sum
 * across them, so that the result does not depend on their number:
 *   rows      forward, loss and backward of the batch's rows; what gradients need is laid down by
 *             row
 *   update    gradients and AdamW, split by the rows of each matrix
 *   pack      the matrices' panels for the next step */
#include "base/bytes.h"
#include "base/fmath.h"
#include "base/sort.h"
#include "train_internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 64       /* rows that a thread takes through forward and backward together */
#define MAX_EXTRA 4096 /* context tokens beside the static shortlist */

typedef struct vector {
    float *w, *m, *v; /* NULL: not trained */
    uint32_t n;
} vector;

/* A thread's scratch, CHUNK rows. */
typedef struct scratch {
    float *n, *h, *dh; /* [CHUNK][dim] */
    float *u, *a, *da; /* [CHUNK][hidden] mlp */
    float *z;          /* [CHUNK][z_stride] */
} scratch;

struct xl_trainer {
    xl_train_options options;
    xl_train_base base;
    uint32_t batch, z_stride, threads;
    bool trains, backward; /* anything to train; gradients flow into h' */
    vector norm, bias, other;
    xl_linear map, up, down, output;
    float *rows_forward, *rows_backward; /* panels of the shortlist's rows */
    int32_t *index_of;                   /* [vocab] */
    /* per row of the batch */
    /* h' [batch][dim]; d norm [batch][dim]; d static logits [batch][rows] */
    float *h, *dn_x, *dz, *dz_other;
    double *loss;
    uint8_t *agrees;
    scratch *scratch;
    uint64_t step;
    float *state; /* one block: w, m, v of everything */
    size_t state_floats;
    float *memory; /* one block: everything else */
    size_t memory_floats;
};

/* ---- Sizes: the same walk counts and hands out ---- */
typedef struct walk {
    float *base;
    size_t used;
    bool overflow;
} walk;

static float *take(walk *w, size_t a, size_t b) {
    if (b && a > (SIZE_MAX / 64 - w->used) / b) {
        w->overflow = true;
        return NULL;
    }
    float *p = w->base ? w->base + w->used : NULL;
    w->used += (a * b + 15) / 16 * 16;
    return p;
}

static void take_vector(walk *w, vector *v, uint32_t n) {
    v->n = n;
    v->w = take(w, n, 1);
    v->m = take(w, n, 1);
    v->v = take(w, n, 1);
}

static void take_weights(walk *w, xl_linear *l, uint32_t out, uint32_t in, uint32_t batch) {
    *l = (xl_linear){.out = out, .in = in, .batch = batch};
    l->w = take(w, out, in);
    l->m = take(w, out, in);
    l->v = take(w, out, in);
}

static void take_workspace(walk *w, xl_linear *l, bool backward) {
    if (!l->out) return;
    l->forward = take(w, l->in, xl_panel_floats(1, l->out));
    l->backward = backward ? take(w, l->out, xl_panel_floats(1, l->in)) : NULL;
    l->dy_t = take(w, l->out, l->batch);
    l->x_panels = take(w, l->batch, xl_panel_floats(1, l->in));
}

static void lay_state(xl_trainer *t, walk *w) {
    const xl_train_options *o = &t->options;
    const uint32_t dim = t->base.dim;
    const bool tied = o->form == XL_FORM_TIED, mlp = o->form == XL_FORM_MLP;
    if (tied || mlp || o->form == XL_FORM_FULL) take_vector(w, &t->norm, dim);
    if (tied || mlp) take_vector(w, &t->bias, o->rows);
    if (o->form != XL_FORM_FULL && o->form != XL_FORM_LENS) take_vector(w, &t->other, dim + 1);
    if (tied) take_weights(w, &t->map, dim, dim, t->batch);
    if (mlp) {
        take_weights(w, &t->up, o->hidden, dim, t->batch);
        take_weights(w, &t->down, dim, o->hidden, t->batch);
    }
    if (o->form == XL_FORM_FULL) take_weights(w, &t->output, t->base.vocab, dim, t->batch);
}

static void lay_memory(xl_trainer *t, walk *w) {
    const xl_train_options *o = &t->options;
    const uint32_t dim = t->base.dim, rows = o->rows;
    take_workspace(w, &t->map, true);
    take_workspace(w, &t->up, true);
    take_workspace(w, &t->down, true);
    take_workspace(w, &t->output, true);
    if (o->form != XL_FORM_FULL) {
        t->rows_forward = take(w, dim, xl_panel_floats(1, rows));
        t->rows_backward = t->backward ? take(w, rows, xl_panel_floats(1, dim)) : NULL;
    }
    t->index_of = (int32_t *)(void *)take(w, t->base.vocab, 1);
    t->h = take(w, t->batch, dim);
    t->dn_x = t->norm.n ? take(w, t->batch, dim) : NULL;
    t->dz = t->bias.n ? take(w, t->batch, rows) : NULL;
    t->dz_other = take(w, t->batch, 1);
    t->loss = (double *)(void *)take(w, t->batch, 2);
    t->agrees = (uint8_t *)(void *)take(w, t->batch, 1);
    t->scratch = (scratch *)(void *)take(w, t->threads,
                                         (sizeof(scratch) + sizeof(float) - 1) / sizeof(float) + 2);
    for (uint32_t p = 0; p < t->threads; p++) {
        scratch s = {.n = take(w, CHUNK, dim), .h = take(w, CHUNK, dim), .dh = take(w, CHUNK, dim)};
        s.u = take(w, CHUNK, t->up.out);
        s.a = take(w, CHUNK, t->up.out);
        s.da = take(w, CHUNK, t->up.out);
        s.z = take(w, CHUNK, t->z_stride);
        if (w->base) t->scratch[p] = s;
    }
}

/* Uniform in +-1/sqrt(in): only for matrices that cannot start at zero. */
static void scatter(float *w, size_t n, size_t in, uint64_t seed) {
    const double scale = 1 / sqrt((double)in);
    for (size_t i = 0; i < n; i++)
        w[i] = (float)(scale * ((double)(xl_random(&seed) >> 11) * 0x1p-52 - 1));
}

static void start_values(xl_trainer *t) {
    const uint32_t dim = t->base.dim;
    if (t->norm.w) memcpy(t->norm.w, t->base.output_norm, dim * sizeof(float));
    if (t->up.w) scatter(t->up.w, (size_t)t->up.out * dim, dim, t->options.seed ^ 0x75705f77u);
    if (t->output.w)
        memcpy(t->output.w, t->base.output, (size_t)t->base.vocab * dim * sizeof(float));
    if (t->bias.w && t->base.output_bias)
        for (uint32_t i = 0; i < t->options.rows; i++)
            t->bias.w[i] = t->base.output_bias[t->base.shortlist[i]];
    for (uint32_t i = 0; i < t->base.vocab; i++) t->index_of[i] = -1;
    if (t->options.form != XL_FORM_FULL) {
        for (uint32_t i = 0; i < t->options.rows; i++)
            t->index_of[t->base.shortlist[i]] = (int32_t)i;
    }
}

static void pack_rows(xl_trainer *t) {
    const uint32_t dim = t->base.dim, rows = t->options.rows;
    if (!t->rows_forward) return;
    for (uint32_t j = 0; j < rows; j += XL_PANEL) {
        uint32_t width = rows - j < XL_PANEL ? rows - j : XL_PANEL;
        float *panel = t->rows_forward + (size_t)j * dim;
        for (uint32_t c = 0; c < width; c++) {
            const float *row = t->base.output + (size_t)t->base.shortlist[j + c] * dim;
            for (uint32_t i = 0; i < dim; i++) panel[i * XL_PANEL + c] = row[i];
        }
    }
    if (!t->rows_backward) return;
    for (uint32_t r = 0; r < rows; r++) {
        const float *row = t->base.output + (size_t)t->base.shortlist[r] * dim;
        for (uint32_t i = 0; i < dim; i++)
            t->rows_backward[(size_t)(i / XL_PANEL) * XL_PANEL * rows + r * XL_PANEL +
                             i % XL_PANEL] = row[i];
    }
}

static void pack_all(void *arg, uint32_t part, uint32_t parts) {
    xl_trainer *t = arg;
    xl_linear *all[] = {&t->map, &t->up, &t->down, &t->output};
    for (int i = 0; i < 4; i++)
        if (all[i]->w) xl_linear_pack(all[i], part, parts);
}

static bool sizes_fit(const xl_train_base *base, const xl_train_options *o) {
    if (base->dim == 0 || base->vocab == 0 || o->batch == 0 || o->batch > 65536 ||
        o->epochs > 100000)
        return false;
    if (o->form == XL_FORM_FULL) return true;
    if (o->form == XL_FORM_MLP && (o->hidden == 0 || o->hidden > 65536)) return false;
    return o->rows > 0 && o->rows <= base->n_shortlist && base->n_shortlist <= base->vocab;
}

exitlm_status xl_trainer_create(xl_trainer **trainer, const xl_train_base *base,
                                const xl_train_options *options, exitlm_error *error) {
    *trainer = NULL;
    if (!sizes_fit(base, options))
        return xl_fail(error, EXITLM_USAGE, "a head of %u rows cannot be trained with these sizes",
                       (unsigned)options->rows);
    xl_trainer *t = calloc(1, sizeof *t);
    if (!t) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a trainer");
    *t = (xl_trainer){.options = *options, .base = *base, .batch = options->batch};
    t->threads = xl_pool_threads(options->pool);
    if (options->form == XL_FORM_FULL) t->options.rows = base->vocab;
    t->trains = options->form != XL_FORM_LENS;
    t->backward = t->trains && options->form != XL_FORM_VOCABULARY;
    t->z_stride = t->options.rows + MAX_EXTRA + 1;
    walk state = {0}, memory = {0};
    lay_state(t, &state);
    lay_memory(t, &memory);
    if (!state.overflow && !memory.overflow) {
        t->state = xl_calloc(&xl_libc_allocator, t->state_floats = state.used, sizeof(float));
        t->memory = xl_calloc(&xl_libc_allocator, t->memory_floats = memory.used, sizeof(float));
    }
    *trainer = t;
    if ((state.used && !t->state) || !t->memory) {
        xl_trainer_free(t);
        *trainer = NULL;
        return xl_fail(error, EXITLM_OUT_OF_MEMORY, "a head of this form needs %.0f MB to train",
                       (state.used + memory.used) * 4e-6);
    }
    lay_state(t, &(walk){.base = t->state});
    lay_memory(t, &(walk){.base = t->memory});
    start_values(t);
    pack_rows(t);
    pack_all(t, 0, 1);
    return EXITLM_OK;
}

void xl_trainer_free(xl_trainer *t) {
    if (!t) return;
    if (t->state) xl_free(&xl_libc_allocator, t->state, t->state_floats, sizeof(float));
    if (t->memory) xl_free(&xl_libc_allocator, t->memory, t->memory_floats, sizeof(float));
    free(t);
}

/* ---- Forward ---- */
static xl_target target_of(const xl_trainer *t, const xl_train_set *set, size_t i) {
    const bool full = t->options.form == XL_FORM_FULL;
    return (xl_target){.ids = set->top_ids + i * set->top_k,
                       .p = set->top_p + i * set->top_k,
                       .k = set->top_k,
                       .index_of = full ? NULL : t->index_of,
                       .rows = t->options.rows,
                       .extra = set->extra_ids + set->extra_start[i],
                       .n_extra = full ? 0 : set->extra_count[i],
                       .other = t->other.n > 0,
                       .temperature = t->options.target_temperature};
}

static void extra_scores(const xl_trainer *t, const xl_target *target, const float *h, float *z) {
    const uint32_t dim = t->base.dim;
    const float *bias = t->base.output_bias;
    for (uint32_t e = 0; e < target->n_extra; e++)
        z[target->rows + e] = xl_dot(h, t->base.output + (size_t)target->extra[e] * dim, dim) +
                              (bias ? bias[target->extra[e]] : 0);
    if (target->other)
        z[target->rows + target->n_extra] = xl_dot(h, t->other.w, dim) + t->other.w[dim];
}

/* The trained bias of the static rows, or the model's. */
static void add_bias(const xl_trainer *t, float *z) {
    const float *bias = t->base.output_bias;
    if (t->bias.w) xl_add_scaled(z, 1, t->bias.w, t->options.rows);
    else if (bias && t->options.form == XL_FORM_FULL) xl_add_scaled(z, 1, bias, t->options.rows);
    else if (bias)
        for (uint32_t i = 0; i < t->options.rows; i++) z[i] += bias[t->base.shortlist[i]];
}

/* s->n, s->h, s->z (and the mlp's u, a) of `count` positions. */
static void forward(const xl_trainer *t, scratch *s, const xl_train_set *set, const uint32_t *order,
                    size_t count) {
    const uint32_t dim = t->base.dim, rows = t->options.rows;
    const float *norm = t->norm.w ? t->norm.w : t->base.output_norm;
    for (size_t r = 0; r < count; r++) {
        float *n = s->n + r * dim;
        xl_half_row(n, set->x + (size_t)order[r] * dim, dim);
        for (uint32_t i = 0; i < dim; i++) n[i] *= norm[i];
        if (t->base.norm_bias) xl_add_scaled(n, 1, t->base.norm_bias, dim);
    }
    memcpy(s->h, s->n, count * dim * sizeof(float));
    if (t->map.w) xl_gemm(s->h, dim, s->n, dim, t->map.forward, count, dim, dim, true);
    if (t->up.w) {
        const size_t hidden = t->up.out;
        xl_gemm(s->u, hidden, s->n, dim, t->up.forward, count, dim, hidden, false);
        for (size_t i = 0; i < count * hidden; i++) s->a[i] = s->u[i] / (1 + xl_expf(-s->u[i]));
        xl_gemm(s->h, dim, s->a, hidden, t->down.forward, count, hidden, dim, true);
    }
    xl_gemm(s->z, t->z_stride, s->h, dim, t->output.w ? t->output.forward : t->rows_forward, count,
            dim, rows, false);
    for (size_t r = 0; r < count; r++) {
        xl_target target = target_of(t, set, order[r]);
        float *z = s->z + r * t->z_stride;
        add_bias(t, z);
        extra_scores(t, &target, s->h + r * dim, z);
    }
}

/* ---- Backward ---- */
/* s->dh from the gradients in s->z. */
static void backward_scores(xl_trainer *t, scratch *s, const xl_train_set *set,
                            const uint32_t *order, size_t count) {
    const uint32_t dim = t->base.dim, rows = t->options.rows;
    xl_gemm(s->dh, dim, s->z, t->z_stride, t->output.w ? t->output.backward : t->rows_backward,
            count, rows, dim, false);
    for (size_t r = 0; r < count; r++) {
        xl_target target = target_of(t, set, order[r]);
        const float *z = s->z + r * t->z_stride + rows;
        float *dh = s->dh + r * dim;
        for (uint32_t e = 0; e < target.n_extra; e++)
            if (fabsf(z[e]) > 1e-6f)
                xl_add_scaled(dh, z[e], t->base.output + (size_t)target.extra[e] * dim, dim);
        if (target.other) xl_add_scaled(dh, z[target.n_extra], t->other.w, dim);
    }
}

/* From dh to the matrices' inputs; s->dh becomes the gradient of n. */
static void backward_maps(xl_trainer *t, scratch *s, size_t row, size_t count) {
    const uint32_t dim = t->base.dim;
    if (t->map.w) {
        xl_linear_put_x(&t->map, s->n, row, count);
        xl_linear_put_dy(&t->map, s->dh, dim, row, count);
        memcpy(s->h, s->dh, count * dim * sizeof(float));
        xl_gemm(s->dh, dim, s->h, dim, t->map.backward, count, dim, dim, true);
    }
    if (t->up.w) {
        const size_t hidden = t->up.out;
        xl_linear_put_x(&t->down, s->a, row, count);
        xl_linear_put_dy(&t->down, s->dh, dim, row, count);
        xl_gemm(s->da, hidden, s->dh, dim, t->down.backward, count, dim, hidden, false);
        for (size_t i = 0; i < count * hidden; i++) {
            float g = 1 / (1 + xl_expf(-s->u[i]));
            s->da[i] *= g * (1 + s->u[i] * (1 - g));
        }
        xl_linear_put_x(&t->up, s->n, row, count);
        xl_linear_put_dy(&t->up, s->da, hidden, row, count);
        xl_gemm(s->dh, dim, s->da, hidden, t->up.backward, count, hidden, dim, true);
    }
}

typedef struct step_job {
    xl_trainer *t;
    const xl_train_set *set;
    const uint32_t *order; /* [batch] */
    xl_adam adam;
} step_job;

static void keep_rows(xl_trainer *t, scratch *s, const xl_train_set *set, const uint32_t *order,
                      size_t row, size_t count) {
    const uint32_t dim = t->base.dim, rows = t->options.rows;
    memcpy(t->h + row * dim, s->h, count * dim * sizeof(float));
    for (size_t r = 0; r < count; r++) {
        const float *z = s->z + r * t->z_stride;
        if (t->other.n) t->dz_other[row + r] = z[rows + set->extra_count[order[r]]];
        if (t->dz) memcpy(t->dz + (row + r) * rows, z, rows * sizeof(float));
    }
}

/* d norm = dn * x, with x read again from the set. */
static void keep_norm(xl_trainer *t, scratch *s, const xl_train_set *set, const uint32_t *order,
                      size_t row, size_t count) {
    const uint32_t dim = t->base.dim;
    if (!t->dn_x) return;
    for (size_t r = 0; r < count; r++) {
        float *out = t->dn_x + (row + r) * dim;
        xl_half_row(out, set->x + (size_t)order[r] * dim, dim);
        for (uint32_t i = 0; i < dim; i++) out[i] *= s->dh[r * dim + i];
    }
}

static void rows_phase(void *arg, uint32_t part, uint32_t parts) {
    step_job *job = arg;
    xl_trainer *t = job->t;
    scratch *s = &t->scratch[part];
    const size_t from = (size_t)t->batch * part / parts, to = (size_t)t->batch * (part + 1) / parts;
    const float inverse = 1.0f / (float)t->batch;
    for (size_t row = from; row < to; row += CHUNK) {
        const size_t count = to - row < CHUNK ? to - row : CHUNK;
        const uint32_t *order = job->order + row;
        forward(t, s, job->set, order, count);
        for (size_t r = 0; r < count; r++) {
            xl_target target = target_of(t, job->set, order[r]);
            float *z = s->z + r * t->z_stride;
            bool agrees;
            t->loss[row + r] = xl_loss_row(z, &target, &agrees);
            t->agrees[row + r] = agrees;
            for (uint32_t i = 0; i < xl_target_outcomes(&target); i++) z[i] *= inverse;
        }
        keep_rows(t, s, job->set, order, row, count);
        if (!t->backward) continue;
        if (t->output.w) {
            xl_linear_put_x(&t->output, s->h, row, count);
            xl_linear_put_dy(&t->output, s->z, t->z_stride, row, count);
        }
        backward_scores(t, s, job->set, order, count);
        backward_maps(t, s, row, count);
        keep_norm(t, s, job->set, order, row, count);
    }
}

/* ---- Update ---- */
/* Gradient of a vector: the sum over rows of a [batch][stride], columns of this part. */
static void update_columns(const step_job *job, vector *v, const float *a, size_t stride,
                           uint32_t part, uint32_t parts) {
    const size_t from = (size_t)v->n * part / parts, to = (size_t)v->n * (part + 1) / parts;
    float sum[256];
    for (size_t c = from; c < to; c += 256) {
        size_t n = to - c < 256 ? to - c : 256;
        memset(sum, 0, sizeof sum);
        for (size_t r = 0; r < job->t->batch; r++) xl_add_scaled(sum, 1, a + r * stride + c, n);
        xl_adam_apply(&job->adam, 0, v->w + c, v->m + c, v->v + c, sum, n);
    }
}

static void update_other(const step_job *job) {
    xl_trainer *t = job->t;
    const uint32_t dim = t->base.dim;
    float *sum = t->scratch[0].n; /* dim + 1 floats: CHUNK rows are there */
    memset(sum, 0, (dim + 1) * sizeof(float));
    for (size_t r = 0; r < t->batch; r++) {
        xl_add_scaled(sum, t->dz_other[r], t->h + r * dim, dim);
        sum[dim] += t->dz_other[r];
    }
    xl_adam_apply(&job->adam, 0, t->other.w, t->other.m, t->other.v, sum, dim + 1);
}

static void update_phase(void *arg, uint32_t part, uint32_t parts) {
    step_job *job = arg;
    xl_trainer *t = job->t;
    xl_linear *all[] = {&t->map, &t->up, &t->down, &t->output};
    for (int i = 0; i < 4; i++)
        if (all[i]->w) xl_linear_update(all[i], &job->adam, part, parts);
    if (t->norm.w) update_columns(job, &t->norm, t->dn_x, t->base.dim, part, parts);
    if (t->bias.w) update_columns(job, &t->bias, t->dz, t->options.rows, part, parts);
    if (t->other.w && part == 0) update_other(job);
}

static float rate_at(const xl_train_options *o, uint64_t step, uint64_t steps) {
    double warm = o->warmup * (double)steps, s = (double)step;
    if (s < warm) return (float)(o->rate * (s + 1) / (warm + 1));
    double x = steps > warm ? (s - warm) / ((double)steps - warm) : 1;
    return (float)(o->rate * (0.02 + 0.98 * 0.5 * (1 + cos(3.14159265358979 * x))));
}

static void run_step(xl_trainer *t, const xl_train_set *set, const uint32_t *order,
                     uint64_t steps) {
    step_job job = {.t = t, .set = set, .order = order};
    double count = (double)(t->step + 1);
    job.adam = (xl_adam){rate_at(&t->options, t->step, steps), t->options.weight_decay,
                         (float)(1 - pow(0.9, count)), (float)(1 - pow(0.99, count))};
    xl_pool_run(t->options.pool, rows_phase, &job);
    xl_pool_run(t->options.pool, update_phase, &job);
    xl_pool_run(t->options.pool, pack_all, t);
    t->step++;
}

static void shuffle(uint32_t *order, size_t n, uint64_t seed) {
    for (size_t i = 0; i < n; i++) order[i] = (uint32_t)i;
    xl_shuffle(order, n, &seed);
}

static bool set_fits(const xl_trainer *t, const xl_train_set *set) {
    bool fits = set->dim == t->base.dim && set->n <= UINT32_MAX && set->top_k > 0 &&
                set->top_k <= XL_TOP_MAX;
    for (size_t i = 0; fits && i < set->n; i++) fits = set->extra_count[i] <= MAX_EXTRA;
    return fits;
}

exitlm_status xl_trainer_run(xl_trainer *t, const xl_train_set *set, exitlm_error *error) {
    const xl_train_options *o = &t->options;
    const uint64_t per_epoch = set->n / t->batch, steps = per_epoch * o->epochs;
    if (!t->trains) return EXITLM_OK;
    if (!set_fits(t, set))
        return xl_fail(error, EXITLM_USAGE, "the training set does not fit the head");
    if (per_epoch == 0)
        return xl_fail(error, EXITLM_USAGE, "%zu tokens are not one batch of %u", set->n,
                       (unsigned)t->batch);
    uint32_t *order = malloc(set->n * sizeof *order);
    if (!order)
        return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for the order of %zu tokens",
                       set->n);
    double loss = 0, agreed = 0;
    uint64_t counted = 0, epoch = UINT64_MAX;
    while (t->step < steps) {
        if (t->step / per_epoch != epoch)
            shuffle(order, set->n, o->seed * 1000003u + (epoch = t->step / per_epoch));
        run_step(t, set, order + t->step % per_epoch * t->batch, steps);
        for (uint32_t r = 0; r < t->batch; r++) {
            loss += t->loss[r];
            agreed += t->agrees[r];
        }
        counted += t->batch;
        if (!o->report || (o->report_steps && t->step % o->report_steps && t->step < steps))
            continue;
        if (!o->report(o->user, t->step, steps, loss / (double)counted, agreed / (double)counted))
            break;
        loss = agreed = 0;
        counted = 0;
    }
    free(order);
    return EXITLM_OK;
}

/* ---- Results ---- */
typedef struct answer_job {
    xl_trainer *t;
    const xl_train_set *set;
    xl_head_answer *answers;
} answer_job;

static void answer_phase(void *arg, uint32_t part, uint32_t parts) {
    answer_job *job = arg;
    xl_trainer *t = job->t;
    scratch *s = &t->scratch[part];
    const size_t from = job->set->n * part / parts, to = job->set->n * (part + 1) / parts;
    for (size_t row = from; row < to; row += CHUNK) {
        const size_t count = to - row < CHUNK ? to - row : CHUNK;
        uint32_t order[CHUNK];
        for (size_t r = 0; r < count; r++) order[r] = (uint32_t)(row + r);
        forward(t, s, job->set, order, count);
        for (size_t r = 0; r < count; r++) {
            xl_target target = target_of(t, job->set, row + r);
            xl_answer_row(s->z + r * t->z_stride, &target, t->base.shortlist,
                          &job->answers[row + r]);
        }
    }
}

exitlm_status xl_trainer_answer(xl_trainer *t, const xl_train_set *set, xl_head_answer *answers,
                                exitlm_error *error) {
    if (!set_fits(t, set)) return xl_fail(error, EXITLM_USAGE, "the set does not fit the head");
    answer_job job = {.t = t, .set = set, .answers = answers};
    xl_pool_run(t->options.pool, answer_phase, &job);
    return EXITLM_OK;
}

/* ---- The scale of sampling ---- */
#define SCALES 16 /* 1, 0.95, … 0.25 */

typedef struct scale_job {
    xl_trainer *t;
    const xl_train_set *set;
    size_t n, stride;
    double (*loss)[SCALES]; /* [parts] */
    float *z;               /* [parts][z_stride] */
} scale_job;

static void scale_phase(void *arg, uint32_t part, uint32_t parts) {
    scale_job *job = arg;
    xl_trainer *t = job->t;
    scratch *s = &t->scratch[part];
    float *z = job->z + part * t->z_stride;
    const size_t from = job->n * part / parts, to = job->n * (part + 1) / parts;
    for (size_t row = from; row < to; row += CHUNK) {
        const size_t count = to - row < CHUNK ? to - row : CHUNK;
        uint32_t order[CHUNK];
        for (size_t r = 0; r < count; r++) order[r] = (uint32_t)((row + r) * job->stride);
        forward(t, s, job->set, order, count);
        for (size_t r = 0; r < count; r++) {
            xl_target target = target_of(t, job->set, order[r]);
            const uint32_t n = xl_target_outcomes(&target);
            target.temperature = 1;
            for (int k = 0; k < SCALES; k++) {
                bool agrees;
                for (uint32_t i = 0; i < n; i++)
                    z[i] = s->z[r * t->z_stride + i] * (1 - 0.05f * (float)k);
                job->loss[part][k] += xl_loss_row(z, &target, &agrees);
            }
        }
    }
}

exitlm_status xl_trainer_sampling_scale(xl_trainer *t, const xl_train_set *set, float *scale,
                                        exitlm_error *error) {
    const uint32_t parts = xl_pool_threads(t->options.pool);
    *scale = 1;
    if (!set_fits(t, set)) return xl_fail(error, EXITLM_USAGE, "the set does not fit the head");
    scale_job job = {
        .t = t, .set = set, .n = set->n < XL_SCALE_POSITIONS ? set->n : XL_SCALE_POSITIONS};
    if (job.n == 0) return EXITLM_OK;
    job.stride = set->n / job.n;
    job.loss = calloc(parts, sizeof *job.loss);
    job.z = calloc(parts * t->z_stride, sizeof *job.z);
    const bool fits = job.loss && job.z;
    if (fits) xl_pool_run(t->options.pool, scale_phase, &job);
    int best = 0;
    double least = 0;
    for (int k = 0; k < SCALES && fits; k++) {
        double sum = 0;
        for (uint32_t p = 0; p < parts; p++) sum += job.loss[p][k];
        if (k && sum >= least) continue;
        least = sum;
        best = k;
    }
    *scale = 1 - 0.05f * (float)best;
    free(job.loss);
    free(job.z);
    return fits ? EXITLM_OK
                : xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for the scale of sampling");
}

void xl_trainer_head(const xl_trainer *t, xl_head_source *head) {
    memset(head, 0, sizeof *head);
    head->layer = t->options.layer;
    head->form = t->options.form;
    head->rows = t->options.rows;
    head->norm = t->norm.w;
    head->map = t->map.w;
    head->hidden = t->up.out;
    head->up = t->up.w;
    head->down = t->down.w;
    head->output = t->output.w;
    head->bias = t->bias.w;
    head->other = t->other.w;
}

size_t xl_trainer_state_floats(const xl_trainer *t) { return t->state_floats + 2; }
uint64_t xl_trainer_step(const xl_trainer *t) { return t->step; }

void xl_trainer_save(const xl_trainer *t, float *state) {
    memcpy(state, &t->step, sizeof t->step);
    if (t->state_floats) memcpy(state + 2, t->state, t->state_floats * sizeof(float));
}

bool xl_trainer_load(xl_trainer *t, const float *state, size_t n_floats) {
    if (n_floats != t->state_floats + 2) return false;
    memcpy(&t->step, state, sizeof t->step);
    if (t->state_floats) memcpy(t->state, state + 2, t->state_floats * sizeof(float));
    pack_all(t, 0, 1);
    return true;
}
