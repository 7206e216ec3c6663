/* The push loader: bytes of one file (or the parts of a split one) in any chunking, in the order of
 * the file or with jumps, straight to their place in memory. */
#include "loader.h"

#include <string.h>

struct exitlm_loader {
    exitlm_allocator allocator;
    exitlm_load_options options;
    exitlm_model *model; /* owned until finish */
    uint32_t part;       /* position */
    uint64_t offset;
    uint32_t tensor; /* guess of the tensor at the position: index in by_offset */
    bool failed;
    /* a seek has been used: where the bytes stop says nothing of the file's size */
    bool jumped;
    bool header_ready;
    uint64_t loaded_bytes;
    uint32_t *layer_left; /* [n_layers] tensors that are not complete */
    uint32_t base_left, norms_left;
    xl_sha256 begun;      /* fingerprint of what the header says */
    uint64_t model_bytes; /* what the model takes at most */
};

static xl_owner *owner_of(const exitlm_loader *loader) { return loader->model->owner; }
static xl_part *current(const exitlm_loader *loader) {
    return &owner_of(loader)->parts[loader->part];
}

/* ---- Create, free ------------------------------------------------------------------- */
exitlm_status exitlm_loader_create(exitlm_loader **loader, const exitlm_load_options *options,
                                   exitlm_error *error) {
    if (!loader) return xl_fail(error, EXITLM_USAGE, "exitlm_loader_create: `loader` is NULL");
    exitlm_allocator allocator = xl_allocator_or_default(options ? options->allocator : NULL);
    exitlm_loader *l = xl_calloc(&allocator, 1, sizeof *l);
    *loader = NULL;
    if (!l) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a loader");
    l->allocator = allocator;
    if (options) l->options = *options;
    l->options.allocator = NULL; /* copied */
    l->model = xl_calloc(&allocator, 1, sizeof *l->model);
    xl_owner *owner = xl_calloc(&allocator, 1, sizeof *owner);
    xl_part *parts = xl_calloc(&allocator, 1, sizeof *parts);
    if (!l->model || !owner || !parts) {
        xl_free(&allocator, l->model, 1, sizeof *l->model);
        xl_free(&allocator, owner, 1, sizeof *owner);
        xl_free(&allocator, parts, 1, sizeof *parts);
        xl_free(&allocator, l, 1, sizeof *l);
        return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a loader");
    }
    owner->parts = parts;
    owner->n_parts = 1;
    xl_gguf_init(&parts[0].gguf, &allocator);
    parts[0].gguf.expected_bytes = l->options.header_bytes;
    parts[0].gguf.keys_only = l->options.vocabulary_only;
    l->model->allocator = allocator;
    l->model->heads = l->options.heads;
    l->model->owner = owner;
    *loader = l;
    return EXITLM_OK;
}

static void free_loader(exitlm_loader *loader, bool with_model) {
    exitlm_allocator allocator = loader->allocator;
    xl_free(&allocator, loader->layer_left, loader->model->config.n_layers,
            sizeof *loader->layer_left);
    if (with_model) exitlm_model_free(loader->model);
    xl_free(&allocator, loader, 1, sizeof *loader);
}

void exitlm_loader_free(exitlm_loader *loader) {
    if (loader) free_loader(loader, true);
}

/* ---- After the headers ----------------------------------------------------------------- */
/* The heads' shortlist is only followed where it can be this model's; else the fingerprint will
 * tell. */
static bool heads_fit(const exitlm_heads *heads, const xl_config *c) {
    if (!heads || heads->n_shortlist == 0) return false;
    if (heads->n_layers != c->n_layers || heads->dim != c->dim || heads->kv_dim != c->kv_dim ||
        heads->vocab != c->vocab)
        return false;
    return heads->n_shortlist <= c->vocab;
}

static void take_tables(exitlm_model *model, xl_arena *arena, bool order) {
    const xl_config *c = &model->config;
    model->layers = xl_arena_take(arena, c->n_layers, sizeof *model->layers);
    model->row_ready = xl_arena_take(arena, c->vocab, 1);
    model->output_row_ready = xl_arena_take(arena, c->vocab, 1);
    model->slot_of = order ? xl_arena_take(arena, c->vocab, sizeof(uint32_t)) : NULL;
    model->id_of = order ? xl_arena_take(arena, c->vocab, sizeof(uint32_t)) : NULL;
}

/* Shortlist first, then the other ids ascending. */
static bool order_rows(exitlm_model *model, const exitlm_heads *heads) {
    uint32_t vocab = model->config.vocab, n = 0;
    for (uint32_t id = 0; id < vocab; id++) model->slot_of[id] = UINT32_MAX;
    for (; n < heads->n_shortlist; n++) {
        int32_t id = heads->shortlist[n];
        if (id < 0 || (uint32_t)id >= vocab || model->slot_of[id] != UINT32_MAX) return false;
        model->slot_of[id] = n;
        model->id_of[n] = (uint32_t)id;
    }
    for (uint32_t id = 0; id < vocab; id++)
        if (model->slot_of[id] == UINT32_MAX) {
            model->slot_of[id] = n;
            model->id_of[n++] = id;
        }
    return true;
}

static exitlm_status make_tables(exitlm_loader *loader, exitlm_error *error) {
    exitlm_model *model = loader->model;
    xl_owner *owner = owner_of(loader);
    bool order = heads_fit(loader->options.heads, &model->config);
    xl_arena arena = {0};
    take_tables(model, &arena, order);
    uint32_t *left =
        arena.overflow ? NULL : xl_calloc(&loader->allocator, model->config.n_layers, sizeof *left);
    uint8_t *memory = left ? xl_calloc(&loader->allocator, arena.used_bytes, 1) : NULL;
    if (!memory) {
        xl_free(&loader->allocator, left, model->config.n_layers, sizeof *left);
        model->config.n_layers = 0;
        return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for the model's tables");
    }
    loader->layer_left = left;
    owner->tables = memory;
    owner->tables_bytes = arena.used_bytes;
    arena = (xl_arena){.base = memory, .capacity_bytes = arena.used_bytes};
    take_tables(model, &arena, order);
    if (order && !order_rows(model, loader->options.heads))
        return xl_fail(
            error, EXITLM_BAD_MODEL,
            "the exit heads' shortlist names a token twice or one that the model has not");
    return EXITLM_OK;
}

/* Part 0 says how many files there are. */
static exitlm_status read_split(exitlm_loader *loader, exitlm_error *error) {
    xl_owner *owner = owner_of(loader);
    const xl_gguf *gguf = &current(loader)->gguf;
    uint32_t number = 0, n_parts = 1;
    bool split = xl_gguf_find(gguf, "split.count") != NULL;
    if (split &&
        (!xl_gguf_get_u32(gguf, "split.count", &n_parts) || n_parts < 1 || n_parts > XL_MAX_PARTS))
        return xl_fail(error, EXITLM_BAD_MODEL, "key split.count must be an integer from 1 to %u",
                       XL_MAX_PARTS);
    if (split && (!xl_gguf_get_u32(gguf, "split.no", &number) || number != loader->part))
        return xl_fail(error, EXITLM_BAD_MODEL,
                       "this is part %u of a split model where part %u was expected: give its "
                       "parts in their order",
                       number + 1, loader->part + 1);
    if (loader->part > 0 && (!split || n_parts != owner->n_parts))
        return xl_fail(error, EXITLM_BAD_MODEL,
                       "part %u does not belong to the model: key split.count says %u parts, the "
                       "first part said %u",
                       loader->part + 1, n_parts, owner->n_parts);
    if (loader->part > 0 || n_parts == 1) return EXITLM_OK;
    void *parts = owner->parts;
    if (!xl_grow(&loader->allocator, &parts, 1, n_parts, sizeof *owner->parts))
        return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a model of %u parts", n_parts);
    owner->parts = parts;
    owner->n_parts = n_parts;
    for (uint32_t i = 1; i < n_parts; i++) xl_gguf_init(&owner->parts[i].gguf, &loader->allocator);
    return EXITLM_OK;
}

/* The texts of a single file's merges are hashed before the tokenizer is made, and make room for
 * it then. */
static exitlm_status find_source(const exitlm_loader *loader, xl_tokenizer_source *source,
                                 exitlm_error *error) {
    const xl_gguf *gguf = &owner_of(loader)->parts[0].gguf;
    exitlm_status status = xl_tokenizer_source_from_gguf(source, gguf, error);
    if (status == EXITLM_OK && source->merges.data && owner_of(loader)->n_parts == 1)
        source->room = gguf->blob + (source->merges.data - gguf->blob);
    return status;
}

/* Memory of the model as far as the headers are known. */
static exitlm_status measure(exitlm_loader *loader, exitlm_error *error) {
    const xl_owner *owner = owner_of(loader);
    xl_tokenizer_source source;
    exitlm_status status = find_source(loader, &source, error);
    if (status != EXITLM_OK) return status;
    uint64_t total = sizeof *loader + sizeof *loader->model + sizeof *owner + owner->tables_bytes +
                     xl_tokenizer_bytes(&source) + XL_STOPS_BYTES +
                     (uint64_t)loader->model->config.n_layers * sizeof(uint32_t);
    for (uint32_t i = 0; i < owner->n_parts; i++) {
        const xl_part *part = &owner->parts[i];
        total += sizeof *part + xl_gguf_memory_bytes(&part->gguf) +
                 (uint64_t)part->gguf.n_tensors * sizeof *part->places + part->weights_bytes;
        total += (uint64_t)part->gguf.n_tensors * XL_FINGERPRINT_ENTRY_BYTES; /* for a moment */
    }
    total += 4 * (uint64_t)loader->model->config.dim; /* a row, likewise */
    /* a header on its way in, where the rest is smaller than that */
    for (uint32_t i = 0; i < owner->n_parts; i++)
        if (owner->parts[i].gguf.peak_bytes > total) total = owner->parts[i].gguf.peak_bytes;
    loader->model_bytes = total;
    if (loader->options.max_bytes && total > loader->options.max_bytes)
        return xl_fail(error, EXITLM_OUT_OF_MEMORY,
                       "the model needs %llu bytes of memory; %zu are allowed",
                       (unsigned long long)total, loader->options.max_bytes);
    return EXITLM_OK;
}

static exitlm_status make_tokenizer(exitlm_loader *loader, exitlm_error *error) {
    exitlm_model *model = loader->model;
    const xl_gguf *gguf = &owner_of(loader)->parts[0].gguf;
    xl_tokenizer_source source;
    exitlm_status status = find_source(loader, &source, error);
    if (status == EXITLM_OK)
        status = xl_tokenizer_create(&model->tokenizer, &source, &loader->allocator, error);
    if (status != EXITLM_OK) return status;
    xl_str text = {NULL, 0};
    xl_gguf_get_string(gguf, "tokenizer.chat_template", &text.data, &text.bytes);
    xl_template_init(&model->chat, text, model->tokenizer);
    return EXITLM_OK;
}

static exitlm_status check_duplicates(const exitlm_loader *loader, exitlm_error *error) {
    const xl_owner *owner = owner_of(loader);
    const xl_gguf *gguf = &current(loader)->gguf;
    char name[XL_GGUF_MAX_NAME_BYTES + 1];
    if (owner->n_parts == 1) return EXITLM_OK;
    for (uint32_t i = 0; i < gguf->n_tensors; i++) {
        const xl_gguf_tensor *t = &gguf->tensors[i];
        memcpy(name, xl_gguf_text(gguf, t->name_offset), t->name_bytes);
        name[t->name_bytes] = 0;
        for (uint32_t p = 0; p < owner->n_parts; p++)
            if (p != loader->part && owner->parts[p].gguf.done &&
                xl_gguf_find_tensor(&owner->parts[p].gguf, name))
                return xl_fail(error, EXITLM_BAD_MODEL,
                               "tensor %.64s stands in part %u and in part %u", name, p + 1,
                               loader->part + 1);
    }
    return EXITLM_OK;
}

static bool all_headers(const exitlm_loader *loader) {
    const xl_owner *owner = owner_of(loader);
    for (uint32_t i = 0; i < owner->n_parts; i++)
        if (!owner->parts[i].gguf.done) return false;
    return true;
}

/* Counts what is to come, and joins the output matrix to the embedding where the file has none. */
static exitlm_status all_headers_known(exitlm_loader *loader, exitlm_error *error) {
    exitlm_model *model = loader->model;
    xl_owner *owner = owner_of(loader);
    uint64_t n_tensors = 0;
    uint32_t claimed;
    bool output = false;
    for (uint32_t p = 0; p < owner->n_parts; p++) {
        n_tensors += owner->parts[p].gguf.n_tensors;
        if (xl_gguf_find_tensor(&owner->parts[p].gguf, "output.weight")) output = true;
    }
    if (owner->n_parts > 1 &&
        xl_gguf_get_u32(&owner->parts[0].gguf, "split.tensors.count", &claimed) &&
        claimed != n_tensors)
        return xl_fail(error, EXITLM_BAD_MODEL,
                       "key split.tensors.count says %u tensors, the parts have %llu", claimed,
                       (unsigned long long)n_tensors);
    exitlm_status status = xl_model_check_tensors(model, error);
    if (status != EXITLM_OK) return status;
    if (!output) {
        model->tied = true;
        model->output = model->embedding;
        model->output_row_ready = model->row_ready;
        model->output_rows_ready_count = model->rows_ready_count;
    }
    xl_model_fill_info(model);
    if (owner->n_parts > 1) status = xl_fingerprint_begin(model, &loader->begun, error);
    if (status != EXITLM_OK) return status;
    loader->header_ready = true;
    return EXITLM_OK;
}

static void count_places(exitlm_loader *loader, const xl_part *part) {
    for (uint32_t i = 0; i < part->gguf.n_tensors; i++) {
        const xl_place *place = &part->places[i];
        if (place->kind == XL_PLACE_SKIP || place->kind == XL_PLACE_ROWS) continue;
        if (place->layer >= 0) loader->layer_left[place->layer]++;
        else loader->base_left++;
        loader->norms_left += place->in_fingerprint;
    }
}

/* The keys alone are known, and nothing else is wanted. */
static exitlm_status vocabulary_known(exitlm_loader *loader, exitlm_error *error) {
    exitlm_model *model = loader->model;
    exitlm_status status = make_tokenizer(loader, error);
    if (status != EXITLM_OK) return status;
    xl_tokenizer_info info;
    xl_tokenizer_describe(model->tokenizer, &info);
    model->config.vocab = info.n_tokens;
    xl_model_fill_info(model);
    loader->header_ready = true;
    return EXITLM_OK;
}

/* The current part's header is complete. */
static exitlm_status header_known(exitlm_loader *loader, exitlm_error *error) {
    exitlm_model *model = loader->model;
    if (loader->options.vocabulary_only) return vocabulary_known(loader, error);
    exitlm_status status = read_split(loader, error);
    if (status == EXITLM_OK && loader->part == 0) {
        status = xl_config_read(&current(loader)->gguf, &model->config, error);
        if (status == EXITLM_OK) status = make_tables(loader, error);
    }
    if (status == EXITLM_OK) status = check_duplicates(loader, error);
    if (status == EXITLM_OK) status = xl_part_places(model, current(loader), error);
    if (status == EXITLM_OK) status = measure(loader, error);
    if (status == EXITLM_OK && all_headers(loader) && owner_of(loader)->n_parts == 1)
        status = xl_fingerprint_begin(model, &loader->begun, error);
    if (status == EXITLM_OK && loader->part == 0) status = make_tokenizer(loader, error);
    if (status == EXITLM_OK && !loader->options.header_only)
        status = xl_part_allocate(model, current(loader), error);
    if (status != EXITLM_OK) return status;
    count_places(loader, current(loader));
    return all_headers(loader) ? all_headers_known(loader, error) : EXITLM_OK;
}

/* ---- Progress ------------------------------------------------------------------------------ */
static exitlm_status try_fingerprint(exitlm_loader *loader, exitlm_error *error) {
    exitlm_model *model = loader->model;
    if (model->fingerprint[0] || loader->norms_left) return EXITLM_OK;
    for (uint32_t id = 0; id < XL_FINGERPRINT_ROWS && id < model->config.vocab; id++)
        if (!model->row_ready[id]) return EXITLM_OK;
    exitlm_status status = xl_fingerprint_end(model, &loader->begun, error);
    const exitlm_heads *heads = loader->options.heads;
    if (status != EXITLM_OK || !heads || strcmp(heads->fingerprint, model->fingerprint) == 0)
        return status;
    return xl_fail(error, EXITLM_HEADS_MISMATCH,
                   "the exit heads belong to another model, version or quantisation: they were "
                   "made for fingerprint %s, this model has %s",
                   heads->fingerprint, model->fingerprint);
}

static void update_progress(exitlm_loader *loader) {
    exitlm_model *model = loader->model;
    model->base_ready = loader->base_left == 0;
    while (model->layers_ready < model->config.n_layers &&
           loader->layer_left[model->layers_ready] == 0)
        model->layers_ready++;
    model->complete = model->base_ready && model->layers_ready == model->config.n_layers &&
                      xl_rows_complete(model) && xl_output_complete(model);
}

static void tensor_done(exitlm_loader *loader, const xl_place *place) {
    if (place->layer >= 0) loader->layer_left[place->layer]--;
    else loader->base_left--;
    loader->norms_left -= place->in_fingerprint;
}

/* ---- Pushing -------------------------------------------------------------------------------- */
static uint64_t tensor_end(const xl_gguf *gguf, uint32_t i) {
    const xl_gguf_tensor *t = &gguf->tensors[gguf->by_offset[i]];
    return t->offset + t->n_bytes;
}

/* Is `i` the first tensor, in the order of the file, that ends after `offset`? */
static bool is_tensor_at(const xl_gguf *gguf, uint32_t i, uint64_t offset) {
    return i <= gguf->n_tensors && (i == 0 || tensor_end(gguf, i - 1) <= offset) &&
           (i == gguf->n_tensors || tensor_end(gguf, i) > offset);
}

/* Index in by_offset of that tensor, n_tensors: none. `guess`: where it was last. */
static uint32_t find_tensor(const xl_gguf *gguf, uint64_t offset, uint32_t guess) {
    if (is_tensor_at(gguf, guess, offset)) return guess;
    if (guess < gguf->n_tensors && is_tensor_at(gguf, guess + 1, offset)) return guess + 1;
    uint32_t low = 0, high = gguf->n_tensors;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (tensor_end(gguf, middle) > offset) high = middle;
        else low = middle + 1;
    }
    return low;
}

static exitlm_status push_header(exitlm_loader *loader, const uint8_t *bytes, size_t n_bytes,
                                 size_t *used, exitlm_error *error) {
    xl_gguf *gguf = &current(loader)->gguf;
    exitlm_status status = xl_gguf_push(gguf, bytes, n_bytes, used, error);
    if (status != EXITLM_OK) return status;
    loader->offset += *used;
    loader->loaded_bytes += *used;
    return gguf->done ? header_known(loader, error) : EXITLM_OK;
}

/* Behind the last tensor: padding, then perhaps the next part. */
static size_t skip_end(exitlm_loader *loader, const uint8_t *bytes, size_t n_bytes) {
    const xl_owner *owner = owner_of(loader);
    const xl_gguf *gguf = &current(loader)->gguf;
    if (loader->part + 1 >= owner->n_parts) return n_bytes;
    uint64_t end = (gguf->total_bytes + gguf->alignment - 1) / gguf->alignment * gguf->alignment;
    size_t n = 0;
    while (n < n_bytes && loader->offset + n < end && bytes[n] == 0) n++;
    if (n) return n;
    loader->part++;
    loader->offset = 0;
    loader->tensor = 0;
    return 0;
}

static exitlm_status push_data(exitlm_loader *loader, const uint8_t *bytes, size_t n_bytes,
                               size_t *used, exitlm_error *error) {
    xl_part *part = current(loader);
    loader->tensor = find_tensor(&part->gguf, loader->offset, loader->tensor);
    if (loader->tensor == part->gguf.n_tensors) {
        *used = skip_end(loader, bytes, n_bytes);
        loader->offset += *used;
        return EXITLM_OK;
    }
    uint32_t index = part->gguf.by_offset[loader->tensor];
    const xl_gguf_tensor *t = &part->gguf.tensors[index];
    uint64_t limit = loader->offset < t->offset ? t->offset - loader->offset
                                                : t->offset + t->n_bytes - loader->offset;
    *used = limit < n_bytes ? (size_t)limit : n_bytes;
    if (loader->offset >= t->offset && part->places[index].kind != XL_PLACE_SKIP &&
        !loader->options.header_only) {
        xl_taken taken;
        exitlm_status status = xl_place_take(loader->model, part, index, loader->offset - t->offset,
                                             bytes, *used, &taken, error);
        if (status != EXITLM_OK) return status;
        *used = taken.used;
        loader->loaded_bytes += taken.new_bytes;
        if (taken.tensor_done) tensor_done(loader, &part->places[index]);
    }
    loader->offset += *used;
    return EXITLM_OK;
}

exitlm_status exitlm_loader_push(exitlm_loader *loader, const void *bytes, size_t n_bytes,
                                 exitlm_error *error) {
    if (!loader || (!bytes && n_bytes))
        return xl_fail(error, EXITLM_USAGE, "exitlm_loader_push: an argument is NULL");
    if (loader->failed)
        return xl_fail(error, EXITLM_USAGE,
                       "exitlm_loader_push: this loader has failed and only can be freed");
    const uint8_t *p = bytes;
    exitlm_status status = EXITLM_OK;
    while (n_bytes && status == EXITLM_OK) {
        size_t used = 0;
        if (current(loader)->gguf.done) status = push_data(loader, p, n_bytes, &used, error);
        else status = push_header(loader, p, n_bytes, &used, error);
        p += used, n_bytes -= used;
    }
    if (status == EXITLM_OK && loader->header_ready && !loader->options.vocabulary_only) {
        status = try_fingerprint(loader, error);
        if (status == EXITLM_OK) update_progress(loader);
    }
    loader->failed = status != EXITLM_OK;
    return status;
}

exitlm_status exitlm_loader_seek(exitlm_loader *loader, uint32_t part, uint64_t offset,
                                 exitlm_error *error) {
    if (!loader) return xl_fail(error, EXITLM_USAGE, "exitlm_loader_seek: `loader` is NULL");
    if (loader->failed)
        return xl_fail(error, EXITLM_USAGE,
                       "exitlm_loader_seek: this loader has failed and only can be freed");
    const xl_owner *owner = owner_of(loader);
    if (part >= owner->n_parts || (part > 0 && !owner->parts[0].gguf.done))
        return xl_fail(error, EXITLM_USAGE,
                       "exitlm_loader_seek: part %u is not known; the model has %u", part,
                       owner->n_parts);
    xl_gguf *gguf = &owner->parts[part].gguf;
    if (!gguf->done && offset != gguf->blob_bytes) {
        if (offset != 0)
            return xl_fail(error, EXITLM_USAGE,
                           "exitlm_loader_seek: the header of part %u is not known yet: go on at "
                           "offset %zu, or at 0",
                           part, gguf->blob_bytes);
        loader->loaded_bytes -= gguf->blob_bytes;
        xl_gguf_free(gguf);
        gguf->keys_only = loader->options.vocabulary_only;
    }
    if (gguf->done) {
        uint32_t tensor = find_tensor(gguf, offset, 0);
        if (tensor < gguf->n_tensors) {
            uint32_t index = gguf->by_offset[tensor];
            const xl_gguf_tensor *t = &gguf->tensors[index];
            if (offset >= t->offset && !loader->options.header_only &&
                !xl_place_may_seek(loader->model, &owner->parts[part].places[index],
                                   offset - t->offset))
                return xl_fail(error, EXITLM_USAGE,
                               "exitlm_loader_seek: offset %llu of part %u is inside tensor %.*s, "
                               "not where its bytes stopped",
                               (unsigned long long)offset, part,
                               XL_TEXT(xl_gguf_text(gguf, t->name_offset), t->name_bytes));
        }
    }
    loader->tensor = 0;
    loader->jumped |= part != loader->part ? offset != 0 : offset != loader->offset;
    loader->part = part;
    loader->offset = offset;
    return EXITLM_OK;
}

/* ---- State ---------------------------------------------------------------------------------- */
void exitlm_loader_state(const exitlm_loader *loader, exitlm_load_state *state) {
    if (!state) return;
    *state = (exitlm_load_state){0};
    if (!loader) return;
    const xl_gguf *gguf = &current(loader)->gguf;
    const exitlm_model *model = loader->model;
    *state = (exitlm_load_state){
        .header_ready = loader->header_ready,
        .complete = model->complete,
        .part = loader->part,
        .n_parts = owner_of(loader)->n_parts,
        .offset = loader->offset,
        .header_bytes = gguf->done ? gguf->data_offset : 0,
        .total_bytes = gguf->done ? gguf->total_bytes : 0,
        .loaded_bytes = loader->loaded_bytes,
        .layers = model->config.n_layers,
        .layers_ready = model->layers_ready,
    };
}

exitlm_model *exitlm_loader_model(const exitlm_loader *loader) {
    return loader && loader->header_ready ? loader->model : NULL;
}

exitlm_status xl_loader_measure(const exitlm_loader *loader, const exitlm_model **model,
                                uint64_t *model_bytes, exitlm_error *error) {
    if (loader->options.vocabulary_only)
        return xl_fail(error, EXITLM_USAGE,
                       "exitlm_loader_memory: only the vocabulary was asked for (vocabulary_only)");
    if (!loader->header_ready)
        return xl_fail(error, EXITLM_USAGE, "exitlm_loader_memory: the header is not known yet%s",
                       owner_of(loader)->n_parts > 1 ? " (those of all parts are needed)" : "");
    *model = loader->model;
    *model_bytes = loader->model_bytes;
    return EXITLM_OK;
}

void exitlm_loader_missing(const exitlm_loader *loader, char *text, size_t capacity) {
    if (!text || !capacity) return;
    *text = 0;
    if (!loader) return;
    const xl_owner *owner = owner_of(loader);
    for (uint32_t i = 0; i < owner->n_parts; i++)
        if (owner->parts[i].gguf.done)
            xl_model_missing(&owner->parts[i].gguf, i == 0, text, capacity);
}

const char *exitlm_loader_text(const exitlm_loader *loader, const char *key, size_t *n_bytes) {
    const char *text = "";
    if (!n_bytes) return text;
    *n_bytes = 0;
    const xl_gguf *gguf = loader ? &owner_of(loader)->parts[0].gguf : NULL;
    if (gguf && gguf->done && key) xl_gguf_get_string(gguf, key, &text, n_bytes);
    return text;
}

/* ---- The end -------------------------------------------------------------------------------- */
static uint64_t first_missing_byte(const exitlm_model *model, const xl_place *place) {
    if (place->kind != XL_PLACE_ROWS) return place->n_done_bytes;
    uint32_t row = 0;
    while (row < place->rows && xl_place_row_ready(model, place, row)) row++;
    return (uint64_t)row * place->row_bytes;
}

static exitlm_status say_missing(const exitlm_loader *loader, exitlm_error *error) {
    const xl_owner *owner = owner_of(loader);
    for (uint32_t p = 0; p < owner->n_parts; p++) {
        const xl_part *part = &owner->parts[p];
        const xl_gguf *gguf = &part->gguf;
        if (!gguf->done && gguf->blob_bytes == 0 && owner->n_parts > 1)
            return xl_fail(error, EXITLM_BAD_MODEL, "part %u of %u is missing", p + 1,
                           owner->n_parts);
        if (!gguf->done) return xl_gguf_truncated(gguf, error);
        for (uint32_t i = 0; i < gguf->n_tensors; i++) {
            const xl_gguf_tensor *t = &gguf->tensors[gguf->by_offset[i]];
            const xl_place *place = &part->places[gguf->by_offset[i]];
            if (xl_place_complete(place)) continue;
            if (!loader->jumped && p == loader->part)
                return xl_fail(
                    error, EXITLM_BAD_MODEL,
                    "truncated: tensor %.*s needs %llu bytes at offset %llu, the file ends at %llu",
                    XL_TEXT(xl_gguf_text(gguf, t->name_offset), t->name_bytes),
                    (unsigned long long)t->n_bytes, (unsigned long long)t->offset,
                    (unsigned long long)loader->offset);
            return xl_fail(
                error, EXITLM_BAD_MODEL,
                "incomplete: tensor %.*s needs %llu bytes at offset %llu%s, those from %llu on are "
                "missing",
                XL_TEXT(xl_gguf_text(gguf, t->name_offset), t->name_bytes),
                (unsigned long long)t->n_bytes, (unsigned long long)t->offset,
                p ? " of a later part" : "",
                (unsigned long long)(t->offset + first_missing_byte(loader->model, place)));
        }
    }
    return xl_fail(error, EXITLM_BAD_MODEL, "the model is incomplete");
}

exitlm_status exitlm_loader_finish(exitlm_loader *loader, exitlm_model **model,
                                   exitlm_error *error) {
    if (!loader || !model)
        return xl_fail(error, EXITLM_USAGE, "exitlm_loader_finish: an argument is NULL");
    *model = NULL;
    if (loader->failed)
        return xl_fail(error, EXITLM_USAGE,
                       "exitlm_loader_finish: this loader has failed and only can be freed");
    if ((loader->options.header_only || loader->options.vocabulary_only) && loader->header_ready)
        return xl_fail(error, EXITLM_USAGE,
                       "exitlm_loader_finish: only the header was asked for (header_only)");
    if (!loader->model->complete) return say_missing(loader, error);
    *model = loader->model;
    free_loader(loader, false);
    return EXITLM_OK;
}
