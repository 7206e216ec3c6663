/* Within a product the parts of the threads are disjoint, so threads change nothing. */
#include "product.h"

#include "base/bytes.h"

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

static void quantise_rows(const xl_product *p) {
    const xl_kernels *k = p->run->kernels;
    xl_work *w = &p->run->work;
    for (uint32_t r = 0; r < p->n; r++) {
        k->quantize(w->act + r * w->act_stride, p->residual ? w->residual : NULL,
                    p->x + r * p->x_stride, p->w[0]->cols);
        if (p->residual)
            k->quantize(w->act + (p->n + r) * w->act_stride, NULL, w->residual, p->w[0]->cols);
    }
}

void xl_product_run(const xl_product *whole) {
    bool quantised = false;
    for (uint32_t i = 0; i < whole->n_matrices; i++) {
        quantised |= xl_type_is_quantized(whole->w[i]->type);
        whole->run->macs += (uint64_t)(whole->rows ? whole->rows : whole->w[i]->rows) *
                            whole->w[i]->cols * whole->n;
    }
    /* With residuals it goes in pieces: the second half of a piece's rows lies where the next
     * piece's rows will be. */
    xl_product p = *whole;
    for (uint32_t left = whole->n;;) {
        p.n = whole->residual ? xl_min_u32(left, XL_RESIDUAL_ROWS) : left;
        if (quantised) quantise_rows(&p);
        xl_pool_run(p.run->pool, run_part, &p);
        left -= p.n;
        if (left == 0) return;
        p.x += p.n * p.x_stride;
        for (uint32_t i = 0; i < p.n_matrices; i++) p.y[i] += p.n * p.y_stride[i];
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
