/* The parts of the threads are disjoint, so threads change nothing. */
#include "product.h"

#include "base/bytes.h"

/* ---- Rows ---- */

/* Fewer rows take less time than waking a thread for them. A product of so many goes in two parts a
 * thread, so that who is held up by another program leaves its second to others (SPEED.md, Kernels). */
enum { ROWS_TO_SHARE = 8, PARTS_A_THREAD = 2 };

typedef struct rows_job {
    xl_row_fn fn;
    const void *arg;
    uint32_t first, n;
} rows_job;

static void rows_part(void *arg, uint32_t part, uint32_t parts) {
    const rows_job *job = arg;
    const uint32_t end = job->first + job->n * (part + 1) / parts;
    for (uint32_t row = job->first + job->n * part / parts; row < end; row++)
        job->fn(job->arg, row, part);
}

void xl_each_row(const xl_run *run, xl_row_fn fn, const void *arg, uint32_t first, uint32_t n) {
    rows_job job = {fn, arg, first, n};
    if (n < ROWS_TO_SHARE) rows_part(&job, 0, 1);
    else xl_pool_run(run->pool, rows_part, &job);
}

/* ---- Products ---- */

/* Rows [*first, *last) of part `part`, in whole tiles. */
static void rows_of_part(uint32_t rows, uint32_t part, uint32_t parts, uint32_t *first,
                         uint32_t *last) {
    uint64_t tiles = ((uint64_t)rows + 7) / 8;
    *first = (uint32_t)(tiles * part / parts) * 8;
    *last = xl_min_u32((uint32_t)(tiles * (part + 1) / parts) * 8, rows);
}

static void multiply(const xl_product *p, uint32_t i, uint32_t first, uint32_t last) {
    const xl_kernels *k = p->run->kernels;
    const xl_work *work = &p->run->work;
    const xl_matrix *w = p->w[i];
    const uint32_t rows = last - first;
    float *y = p->y[i];
    if (!xl_type_is_quantized(w->type)) {
        k->matmul[w->type](y, p->y_stride[i], w->data, w->cols, p->row0 + first, rows, p->x,
                           p->x_stride * sizeof(float), p->n);
        return;
    }
    k->matmul[w->type](y, p->y_stride[i], w->data, w->cols, p->row0 + first, rows, work->act,
                       work->act_stride, p->residual ? 2 * p->n : p->n);
    if (!p->residual) return;
    for (uint32_t r = 0; r < p->n; r++)
        k->add(y + r * p->y_stride[i] + p->row0 + first,
               y + (p->n + r) * p->y_stride[i] + p->row0 + first, rows);
}

static void run_part(void *arg, uint32_t part, uint32_t parts) {
    const xl_product *p = arg;
    uint32_t first = 0, last = 0;
    for (uint32_t i = 0; i < p->n_matrices; i++) {
        rows_of_part(p->rows ? p->rows : p->w[i]->rows, part, parts, &first, &last);
        if (first < last) multiply(p, i, first, last);
        if (p->bias[i])
            for (uint32_t r = 0; r < p->n; r++)
                p->run->kernels->add(p->y[i] + r * p->y_stride[i] + first, p->bias[i] + first,
                                     last - first);
    }
    if (!p->activated || first >= last) return;
    for (uint32_t r = 0; r < p->n; r++)
        p->run->kernels->activate(p->y[0] + r * p->y_stride[0] + first,
                                  p->n_matrices > 1 ? p->y[1] + r * p->y_stride[1] + first : NULL,
                                  last - first, p->run->model->config.activation);
}

/* Of a piece of the rows: x and y of xl_product are its own, `first` is its first row of them all. */
typedef struct piece {
    xl_product product;
    uint32_t first;
    bool quantised;
} piece;

static void prepare_row(const void *arg, uint32_t row, uint32_t part) {
    const piece *of = arg;
    const xl_product *p = &of->product;
    const xl_kernels *k = p->run->kernels;
    xl_work *w = &p->run->work;
    const uint32_t r = row - of->first;
    if (p->before) p->before(p->before_arg, row, part);
    if (!of->quantised) return;
    float *rest = p->residual ? w->residual + part * w->residual_floats : NULL;
    k->quantize(w->act + r * w->act_stride, rest, p->x + r * p->x_stride, p->w[0]->cols);
    if (rest) k->quantize(w->act + (p->n + r) * w->act_stride, NULL, rest, p->w[0]->cols);
}

void xl_product_run(const xl_product *whole) {
    piece of = {.product = *whole};
    xl_product *p = &of.product;
    for (uint32_t i = 0; i < p->n_matrices; i++) {
        of.quantised |= xl_type_is_quantized(p->w[i]->type);
        p->run->macs += (uint64_t)(p->rows ? p->rows : p->w[i]->rows) * p->w[i]->cols * p->n;
    }
    /* With residuals it goes in pieces: the second half of a piece's rows lies where the next
     * piece's rows will be. */
    for (;; of.first += p->n) {
        const uint32_t left = whole->n - of.first;
        p->n = whole->residual ? xl_min_u32(left, XL_RESIDUAL_ROWS) : left;
        p->x = whole->x + of.first * whole->x_stride;
        for (uint32_t i = 0; i < p->n_matrices; i++)
            p->y[i] = whole->y[i] + of.first * whole->y_stride[i];
        if (p->before || of.quantised) xl_each_row(p->run, prepare_row, &of, of.first, p->n);
        xl_pool_run_parts(p->run->pool, run_part, p, p->n >= ROWS_TO_SHARE ? PARTS_A_THREAD : 1);
        if (p->n == left) return;
    }
}

void xl_matmul_rows(xl_run *run, float *y, size_t y_stride, const xl_matrix *w, uint32_t row0,
                    uint32_t rows, const float *x, uint32_t n) {
    if (rows == 0) return;
    while (n) {
        uint32_t chunk = xl_min_u32(n, XL_CHUNK);
        xl_product p = {.run = run,
                        .w = {w},
                        .y = {y},
                        .y_stride = {y_stride},
                        .n_matrices = 1,
                        .row0 = row0,
                        .rows = rows,
                        .x = x,
                        .x_stride = w->cols,
                        .n = chunk};
        xl_product_run(&p);
        y += chunk * y_stride;
        x += chunk * (size_t)w->cols;
        n -= chunk;
    }
}

void xl_matmul(xl_run *run, float *y, size_t y_stride, const xl_matrix *w, const float *x,
               uint32_t n) {
    xl_matmul_rows(run, y, y_stride, w, 0, w->rows, x, n);
}
