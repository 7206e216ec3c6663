/* Tensor bytes on their way from the stream to their place: whole blocks go straight to the tiles;
 * only the part of a block that a chunk ends in is staged. */
#include "loader.h"

#include <math.h>
#include <string.h>

#define NAME(part, i)                                                         \
    XL_TEXT(xl_gguf_text(&(part)->gguf, (part)->gguf.tensors[i].name_offset), \
            (part)->gguf.tensors[i].name_bytes)

/* ---- Memory ---------------------------------------------------------------------- */
/* Measures (arena->base NULL) or cuts the weights of a part. False at overflow. */
static bool cut_weights(xl_part *part, xl_arena *arena) {
    size_t staging = 0;
    for (uint32_t i = 0; i < part->gguf.n_tensors; i++) {
        xl_place *place = &part->places[i];
        size_t bytes = 0;
        if (place->kind == XL_PLACE_SKIP) continue;
        if (place->kind == XL_PLACE_VECTOR) bytes = (size_t)place->cols * sizeof(float);
        else if (!xl_matrix_bytes(place->type, place->rows, place->cols, &bytes)) return false;
        place->data = xl_arena_take(arena, bytes, 1);
        if (place->kind != XL_PLACE_ROWS) staging += xl_quant_types[place->type].block_bytes;
    }
    uint8_t *staged = xl_arena_take(arena, staging, 1);
    if (arena->overflow) return false;
    if (!staged) return true; /* measured */
    for (uint32_t i = 0; i < part->gguf.n_tensors; i++) {
        xl_place *place = &part->places[i];
        if (place->kind == XL_PLACE_SKIP || place->kind == XL_PLACE_ROWS) continue;
        place->staged = staged;
        staged += xl_quant_types[place->type].block_bytes;
    }
    return true;
}

exitlm_status xl_part_places(exitlm_model *model, xl_part *part, exitlm_error *error) {
    const xl_gguf *gguf = &part->gguf;
    part->places = xl_calloc(&model->allocator, gguf->n_tensors, sizeof *part->places);
    if (!part->places)
        return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for the table of tensors");
    for (uint32_t i = 0; i < gguf->n_tensors; i++) {
        exitlm_status status =
            xl_place_find(model, gguf, &gguf->tensors[i], &part->places[i], error);
        if (status != EXITLM_OK) return status;
    }
    xl_arena arena = {0};
    if (!cut_weights(part, &arena))
        return xl_fail(error, EXITLM_OUT_OF_MEMORY,
                       "the model's weights do not fit in the address space");
    part->weights_bytes = arena.used_bytes;
    return EXITLM_OK;
}

/* Tells the model where the weights will lie. Q, K and V of one tensor are runs of its rows. */
static void connect(const xl_config *c, xl_place *place) {
    const bool vector = place->kind == XL_PLACE_VECTOR;
    const uint32_t all = vector ? place->cols : place->rows;
    const uint32_t runs[] = {place->fused ? c->q_dim : all, c->kv_dim, c->kv_dim};
    uint8_t *data = place->data;
    for (size_t i = 0; i < (place->fused ? 3 : 1); i++) {
        if (vector) {
            ((const float **)place->target)[i] = (const float *)(void *)data;
            data += runs[i] * sizeof(float);
            continue;
        }
        ((xl_matrix *)place->target)[i] =
            (xl_matrix){.data = data, .type = place->type, .rows = runs[i], .cols = place->cols};
        data += runs[i] / XL_TILE_ROWS * xl_tile_bytes(place->type, place->cols);
    }
    if (!vector) xl_clear_last_tile(place->type, place->data, place->rows, place->cols);
}

exitlm_status xl_part_allocate(exitlm_model *model, xl_part *part, exitlm_error *error) {
    if (part->weights_bytes == 0) return EXITLM_OK;
    part->weights = model->allocator.alloc(model->allocator.user, part->weights_bytes, XL_ALIGN);
    if (!part->weights)
        return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for the model's weights: %zu bytes",
                       part->weights_bytes);
    xl_arena arena = {.base = part->weights, .capacity_bytes = part->weights_bytes};
    cut_weights(part, &arena);
    for (uint32_t i = 0; i < part->gguf.n_tensors; i++)
        if (part->places[i].kind != XL_PLACE_SKIP) connect(&model->config, &part->places[i]);
    return EXITLM_OK;
}

/* ---- State of rows ------------------------------------------------------------------ */
bool xl_place_row_ready(const exitlm_model *model, const xl_place *place, uint32_t row) {
    return (place->layer == XL_OUTPUT ? model->output_row_ready : model->row_ready)[row] != 0;
}

bool xl_place_complete(const xl_place *place) {
    return place->kind == XL_PLACE_SKIP ||
           place->n_done_bytes == (uint64_t)place->row_bytes * place->rows;
}

/* The link to a row that is under way, or the last one, which is NULL. */
static xl_stop **find_stop(xl_place *place, uint32_t row) {
    xl_stop **at = &place->stops;
    while (*at && (*at)->row != row) at = &(*at)->next;
    return at;
}

bool xl_place_may_seek(const exitlm_model *model, const xl_place *place, uint64_t offset) {
    if (place->kind == XL_PLACE_SKIP) return true;
    if (place->kind != XL_PLACE_ROWS) return offset <= place->n_done_bytes;
    uint32_t row = (uint32_t)(offset / place->row_bytes);
    size_t within = (size_t)(offset % place->row_bytes);
    if (within == 0 || xl_place_row_ready(model, place, row)) return true;
    const xl_stop *stop = *find_stop((xl_place *)place, row);
    return stop && within <= stop->n_bytes;
}

/* ---- Taking bytes ---------------------------------------------------------------------- */
static bool put_floats(xl_type type, float *out, size_t n, const uint8_t *p) {
    bool finite = true;
    for (size_t i = 0; i < n; i++) {
        xl_dequant_block(type, p + i * xl_quant_types[type].block_bytes, &out[i]);
        finite &= isfinite(out[i]) != 0;
    }
    return finite;
}

/* Whole blocks from block column `block` of a row on. */
static bool put_blocks(const xl_place *place, uint32_t row, size_t block, size_t n_blocks,
                       const uint8_t *p) {
    if (place->kind == XL_PLACE_VECTOR)
        return put_floats(place->type, (float *)place->data + block, n_blocks, p);
    return xl_repack_blocks(place->type, place->data, place->cols, row, block, n_blocks, p);
}

/* `n_bytes` of one row from byte `within` of it on; `row` is where it lies in memory. False for
 * a number that is not finite. */
static bool put_row_bytes(const xl_place *place, uint32_t row, size_t within, uint8_t *staged,
                          const uint8_t *p, size_t n_bytes) {
    size_t block_bytes = xl_quant_types[place->type].block_bytes;
    size_t held = within % block_bytes, block = within / block_bytes;
    bool finite = true;
    if (held) {
        size_t n = n_bytes < block_bytes - held ? n_bytes : block_bytes - held;
        memcpy(staged + held, p, n);
        if (held + n < block_bytes) return true;
        finite = put_blocks(place, row, block++, 1, staged);
        p += n, n_bytes -= n;
    }
    size_t n_blocks = n_bytes / block_bytes, rest = n_bytes % block_bytes;
    if (n_blocks) finite &= put_blocks(place, row, block, n_blocks, p);
    if (rest) memcpy(staged, p + n_blocks * block_bytes, rest);
    return finite;
}

static exitlm_status not_finite(const xl_part *part, uint32_t index, uint64_t offset,
                                size_t n_bytes, exitlm_error *error) {
    uint64_t at = part->gguf.tensors[index].offset + offset;
    return xl_fail(
        error, EXITLM_BAD_MODEL,
        "tensor %.*s has a weight or scale that is no finite number, between offsets %llu and %llu",
        NAME(part, index), (unsigned long long)at, (unsigned long long)(at + n_bytes));
}

/* A tensor whose bytes come in order: the rows that `n_bytes` touch. */
static exitlm_status take_in_order(xl_part *part, uint32_t index, uint64_t offset, const uint8_t *p,
                                   size_t n_bytes, xl_taken *taken, exitlm_error *error) {
    xl_place *place = &part->places[index];
    if (offset < place->n_done_bytes) { /* there already */
        uint64_t known = place->n_done_bytes - offset;
        taken->used = known < n_bytes ? (size_t)known : n_bytes;
        return EXITLM_OK;
    }
    uint64_t total = (uint64_t)place->row_bytes * place->rows;
    while (n_bytes && place->n_done_bytes < total) {
        size_t within = (size_t)(place->n_done_bytes % place->row_bytes);
        size_t n = place->row_bytes - within < n_bytes ? place->row_bytes - within : n_bytes;
        if (!put_row_bytes(place, (uint32_t)(place->n_done_bytes / place->row_bytes), within,
                           place->staged, p, n))
            return not_finite(part, index, place->n_done_bytes, n, error);
        p += n, n_bytes -= n;
        place->n_done_bytes += n;
        taken->used += n;
    }
    taken->new_bytes = taken->used;
    taken->tensor_done = place->n_done_bytes == total;
    return EXITLM_OK;
}

static void row_done(exitlm_model *model, xl_place *place, uint32_t row) {
    place->n_done_bytes += place->row_bytes;
    if (place->layer == XL_OUTPUT) {
        model->output_row_ready[row] = 1;
        model->output_rows_ready_count++;
        return;
    }
    model->row_ready[row] = 1;
    model->rows_ready_count++;
    if (model->tied) model->output_rows_ready_count = model->rows_ready_count;
}

/* Rows in any order: at most one row a call. */
static exitlm_status take_row(exitlm_model *model, xl_part *part, uint32_t index, uint64_t offset,
                              const uint8_t *p, size_t n_bytes, xl_taken *taken,
                              exitlm_error *error) {
    xl_place *place = &part->places[index];
    uint32_t row = (uint32_t)(offset / place->row_bytes);
    size_t within = (size_t)(offset % place->row_bytes);
    size_t n = place->row_bytes - within < n_bytes ? place->row_bytes - within : n_bytes;
    taken->used = n;
    if (xl_place_row_ready(model, place, row)) return EXITLM_OK;
    xl_stop **at = find_stop(place, row);
    /* nearly always: nothing of it has to be remembered, and a row is whole blocks */
    if (!*at && n == place->row_bytes) {
        if (!put_row_bytes(place, xl_slot(model, row), 0, NULL, p, n))
            return not_finite(part, index, offset, n, error);
        taken->new_bytes = n;
        row_done(model, place, row);
        return EXITLM_OK;
    }
    if (!*at) {
        *at =
            xl_calloc(&model->allocator, 1, sizeof **at + xl_quant_types[place->type].block_bytes);
        if (!*at) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a row under way");
        (*at)->row = row;
    }
    xl_stop *stop = *at;
    if (within < stop->n_bytes) { /* there already */
        taken->used = stop->n_bytes - within < n ? stop->n_bytes - within : n;
        return EXITLM_OK;
    }
    if (!put_row_bytes(place, xl_slot(model, row), within, stop->staged, p, n))
        return not_finite(part, index, offset, n, error);
    stop->n_bytes += n;
    taken->new_bytes = n;
    if (stop->n_bytes < place->row_bytes) return EXITLM_OK;
    xl_stop_drop(model, place, at);
    row_done(model, place, row);
    return EXITLM_OK;
}

exitlm_status xl_place_take(exitlm_model *model, xl_part *part, uint32_t index, uint64_t offset,
                            const uint8_t *bytes, size_t n_bytes, xl_taken *taken,
                            exitlm_error *error) {
    *taken = (xl_taken){0};
    if (part->places[index].kind == XL_PLACE_ROWS)
        return take_row(model, part, index, offset, bytes, n_bytes, taken, error);
    return take_in_order(part, index, offset, bytes, n_bytes, taken, error);
}
