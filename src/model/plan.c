/* The order in which generation needs the bytes of a file, as few long stretches: what every token
 * needs, the rows that the exit heads inside the model score, the layers from the first to the
 * last, the rest of the shortlist (which only a head after the last layer scores), the other
 * rows. */
#include "loader.h"

/* padding and tensors that nobody needs, inside a stretch of a layer */
#define MAX_GAP_BYTES 4096u
#define OTHER_ROWS_BYTES (256u << 10)
#define MAX_ROW_GAP 256u

typedef struct plan {
    const exitlm_model *model;
    exitlm_extent *extents; /* [capacity] those from number `first` on */
    size_t first, capacity, n;
    exitlm_extent open; /* the last stretch of a layer, not yet written */
} plan;

static void put(plan *p, const exitlm_extent *extent) {
    if (p->n >= p->first && p->n - p->first < p->capacity) p->extents[p->n - p->first] = *extent;
    p->n++;
}

/* ---- Layers, and what is in no layer ---------------------------------------------------- */
static void close_stretch(plan *p) {
    if (p->open.n_bytes) put(p, &p->open);
    p->open.n_bytes = 0;
}

/* Stretches of one part with everything that belongs to `layer`. */
static void put_layer_of_part(plan *p, uint32_t number, const xl_part *part, int32_t layer) {
    const xl_gguf *gguf = &part->gguf;
    for (uint32_t i = 0; i < gguf->n_tensors; i++) {
        const xl_gguf_tensor *t = &gguf->tensors[gguf->by_offset[i]];
        const xl_place *place = &part->places[gguf->by_offset[i]];
        if (place->kind == XL_PLACE_SKIP) continue;
        if (place->kind == XL_PLACE_ROWS || place->layer != layer) {
            close_stretch(p);
            continue;
        }
        uint64_t end = p->open.offset + p->open.n_bytes;
        if (p->open.n_bytes && t->offset - end > MAX_GAP_BYTES) close_stretch(p);
        if (p->open.n_bytes == 0)
            p->open = (exitlm_extent){.part = number, .offset = t->offset, .layer = layer};
        p->open.n_bytes = t->offset + t->n_bytes - p->open.offset;
    }
    close_stretch(p);
}

static void put_layer(plan *p, int32_t layer) {
    const xl_owner *owner = p->model->owner;
    for (uint32_t i = 0; i < owner->n_parts; i++) put_layer_of_part(p, i, &owner->parts[i], layer);
}

/* ---- Rows ----------------------------------------------------------------------------------- */
typedef struct row_tensor {
    uint32_t part;
    uint64_t offset, row_bytes;
    /* of the shortlist: all, and those of heads before the last layer */
    uint32_t rows, n_short, n_early;
    /* early rows apart by up to so many others are fetched in one go */
    uint32_t max_gap;
    bool output;
} row_tensor;

static bool is_short(const plan *p, const row_tensor *t, uint32_t row) {
    return t->n_short && xl_slot(p->model, row) < t->n_short;
}

/* A row that comes before the layers: of a head inside the model, or one that the fingerprint
 * covers. */
static bool is_early(const plan *p, const row_tensor *t, uint32_t row) {
    if (t->n_short == 0) return false;
    return xl_slot(p->model, row) < t->n_early || (!t->output && row < XL_FINGERPRINT_ROWS);
}

/* Rows of the shortlist that a token may need before it has been through all layers; where no
 * head is inside the model, all. */
static uint32_t count_early(const exitlm_model *model) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < model->heads->n_heads; i++) {
        const xl_head *head = &model->heads->head[i];
        if (head->layer < model->config.n_layers && head->form != XL_FORM_FULL && head->rows > n)
            n = head->rows;
    }
    return n > 0 && n < model->heads->n_shortlist ? n : model->heads->n_shortlist;
}

/* The widest gap with which at most an eighth of the early bytes is fetched beside the point. */
static uint32_t choose_gap(const plan *p, const row_tensor *t) {
    uint32_t gaps[MAX_ROW_GAP + 1] = {0}, last = UINT32_MAX, n_early = 0;
    for (uint32_t row = 0; row < t->rows; row++) {
        if (!is_early(p, t, row)) continue;
        if (last != UINT32_MAX && row - last - 1 <= MAX_ROW_GAP) gaps[row - last - 1]++;
        last = row;
        n_early++;
    }
    uint64_t wasted = 0;
    uint32_t gap = 0;
    while (gap < MAX_ROW_GAP && wasted + (uint64_t)(gap + 1) * gaps[gap + 1] <= n_early / 8) {
        gap++;
        wasted += (uint64_t)gap * gaps[gap];
    }
    return gap;
}

static bool find_rows(const plan *p, bool output, row_tensor *t) {
    const xl_owner *owner = p->model->owner;
    for (uint32_t i = 0; i < owner->n_parts; i++) {
        const xl_gguf *gguf = &owner->parts[i].gguf;
        const xl_gguf_tensor *tensor =
            xl_gguf_find_tensor(gguf, output ? "output.weight" : "token_embd.weight");
        if (!tensor) continue;
        const xl_place *place = &owner->parts[i].places[tensor - gguf->tensors];
        *t = (row_tensor){.part = i,
                          .offset = tensor->offset,
                          .row_bytes = place->row_bytes,
                          .rows = place->rows,
                          .output = output};
        t->n_short = p->model->slot_of ? p->model->heads->n_shortlist : 0;
        t->n_early = p->model->slot_of ? count_early(p->model) : 0;
        t->max_gap = choose_gap(p, t);
        return true;
    }
    return false;
}

static void put_rows(plan *p, const row_tensor *t, int32_t kind, uint32_t row, uint32_t end) {
    uint32_t most = kind == -2 ? t->rows
                    : OTHER_ROWS_BYTES / t->row_bytes > 0
                        ? (uint32_t)(OTHER_ROWS_BYTES / t->row_bytes)
                        : 1;
    while (row < end) {
        uint32_t n = end - row < most ? end - row : most;
        exitlm_extent extent = {.part = t->part,
                                .offset = t->offset + row * t->row_bytes,
                                .n_bytes = n * t->row_bytes,
                                .layer = kind,
                                .row = row,
                                .n_rows = n,
                                .output = t->output};
        put(p, &extent);
        row += n;
    }
}

/* The next run of early rows, those in its gaps included, from `row` on. */
static bool next_early_run(const plan *p, const row_tensor *t, uint32_t row, uint32_t *start,
                           uint32_t *end) {
    while (row < t->rows && !is_early(p, t, row)) row++;
    if (row >= t->rows) return false;
    *start = row;
    uint32_t last = row;
    for (row++; row < t->rows && row - last - 1 <= t->max_gap; row++)
        if (is_early(p, t, row)) last = row;
    *end = last + 1;
    return true;
}

static void put_early_rows(plan *p, const row_tensor *t) {
    uint32_t start, end = 0;
    while (next_early_run(p, t, end, &start, &end)) put_rows(p, t, -2, start, end);
}

/* What the early runs leave: the rest of the shortlist (-2), or the rows outside it (-3). */
static void put_late_rows(plan *p, const row_tensor *t, int32_t kind) {
    uint32_t early_start = 0, early_end = 0, open = UINT32_MAX;
    bool more = next_early_run(p, t, 0, &early_start, &early_end);
    for (uint32_t row = 0; row <= t->rows; row++) {
        if (more && row >= early_end)
            more = next_early_run(p, t, early_end, &early_start, &early_end);
        bool early = more && row >= early_start;
        bool wanted = row < t->rows && !early && is_short(p, t, row) == (kind == -2);
        if (wanted && open == UINT32_MAX) open = row;
        if (!wanted && open != UINT32_MAX) {
            put_rows(p, t, kind, open, row);
            open = UINT32_MAX;
        }
    }
}

exitlm_status exitlm_loader_plan(const exitlm_loader *loader, exitlm_extent *extents,
                                 size_t capacity, size_t *n, exitlm_error *error) {
    return exitlm_loader_plan_from(loader, 0, extents, capacity, n, error);
}

exitlm_status exitlm_loader_plan_from(const exitlm_loader *loader, size_t first,
                                      exitlm_extent *extents, size_t capacity, size_t *n,
                                      exitlm_error *error) {
    if (!loader || !n || (!extents && capacity))
        return xl_fail(error, EXITLM_USAGE, "exitlm_loader_plan: an argument is NULL");
    const exitlm_model *model = exitlm_loader_model(loader);
    if (!model)
        return xl_fail(error, EXITLM_USAGE, "exitlm_loader_plan: the header is not known yet");
    plan p = {.model = model, .extents = extents, .first = first, .capacity = capacity};
    row_tensor embedding, output;
    bool has_embedding = find_rows(&p, false, &embedding),
         has_output = find_rows(&p, true, &output);
    put_layer(&p, XL_BASE);
    if (has_embedding) put_early_rows(&p, &embedding);
    if (has_output) put_early_rows(&p, &output);
    for (uint32_t layer = 0; layer < model->config.n_layers; layer++) put_layer(&p, (int32_t)layer);
    for (int32_t kind = -2; kind >= -3; kind--) {
        if (has_output) put_late_rows(&p, &output, kind);
        if (has_embedding) put_late_rows(&p, &embedding, kind);
    }
    *n = p.n;
    return EXITLM_OK;
}
