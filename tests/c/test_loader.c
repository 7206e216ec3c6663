/* The push loader: every chunking and order gives the same model, byte for byte; every damage an
 * error; memory within the bound. */
#include "counting.h"
#include "model/heads.h"
#include "model/loader.h"
#include "random_model.h"

#include <string.h>

static uint64_t state = 11;
static uint32_t below(uint32_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % n);
}

/* ---- Helpers ------------------------------------------------------------------------------ */
static xl_buffer new_buffer(void) {
    xl_buffer b;
    xl_buffer_init(&b, &xl_libc_allocator);
    return b;
}

static xl_buffer make(const random_model *m) {
    xl_buffer b = new_buffer();
    CHECK(random_model_write(m, &b));
    return b;
}

static xl_buffer make_default(void) {
    random_model m;
    random_model_defaults(&m);
    return make(&m);
}

static void good(exitlm_status status, const exitlm_error *error) {
    if (status == EXITLM_OK) return;
    fprintf(stderr, "%s: %s\n", exitlm_status_name(status), error->message);
    exit(1);
}

static exitlm_loader *loader_for(const exitlm_load_options *options) {
    exitlm_loader *loader;
    exitlm_error error;
    good(exitlm_loader_create(&loader, options, &error), &error);
    return loader;
}

static exitlm_status push_chunks(exitlm_loader *loader, const uint8_t *bytes, size_t n,
                                 size_t chunk, exitlm_error *error) {
    for (size_t at = 0; at < n; at += chunk) {
        exitlm_status status =
            exitlm_loader_push(loader, bytes + at, n - at < chunk ? n - at : chunk, error);
        if (status != EXITLM_OK) return status;
    }
    return EXITLM_OK;
}

static exitlm_model *load(const xl_buffer *file, size_t chunk, const exitlm_load_options *options) {
    exitlm_loader *loader = loader_for(options);
    exitlm_model *model;
    exitlm_error error = {0};
    good(push_chunks(loader, file->data, file->n_bytes, chunk, &error), &error);
    good(exitlm_loader_finish(loader, &model, &error), &error);
    return model;
}

/* What a whole load, with an end, says of these bytes. */
static exitlm_status try_load(const uint8_t *bytes, size_t n, size_t chunk,
                              const exitlm_load_options *options, exitlm_error *error) {
    exitlm_loader *loader;
    exitlm_model *model = NULL;
    *error = (exitlm_error){0};
    exitlm_status status = exitlm_loader_create(&loader, options, error);
    if (status != EXITLM_OK) return status;
    status = push_chunks(loader, bytes, n, chunk, error);
    if (status == EXITLM_OK) status = exitlm_loader_finish(loader, &model, error);
    if (status == EXITLM_OK) exitlm_model_free(model);
    else exitlm_loader_free(loader);
    return status;
}

static void expect(const xl_buffer *file, exitlm_status status, const char *part_of_message) {
    exitlm_error error;
    exitlm_status got = try_load(file->data, file->n_bytes, 5000, NULL, &error);
    if (got == status && strstr(error.message, part_of_message)) return;
    fprintf(stderr, "wanted %s with \"%s\", got %s: %s\n", exitlm_status_name(status),
            part_of_message, exitlm_status_name(got), error.message);
    exit(1);
}

/* Each weight of the model against the bytes of the file that it came from. */
static void compare_with_file(const exitlm_model *model, const uint8_t *file) {
    const xl_owner *owner = model->owner;
    CHECK(owner->n_parts == 1 && model->complete && model->base_ready &&
          model->layers_ready == model->config.n_layers);
    const xl_part *part = &owner->parts[0];
    for (uint32_t i = 0; i < part->gguf.n_tensors; i++) {
        const xl_gguf_tensor *t = &part->gguf.tensors[i];
        const xl_place *place = &part->places[i];
        if (place->kind == XL_PLACE_SKIP) continue;
        uint8_t *row_bytes = malloc(place->row_bytes);
        CHECK(row_bytes);
        for (uint32_t row = 0; row < place->rows; row++) {
            const uint8_t *expected = file + t->offset + row * place->row_bytes;
            if (place->kind == XL_PLACE_VECTOR) {
                CHECK(place->type != XL_F32 ||
                      memcmp(place->data, expected, place->row_bytes) == 0);
                continue;
            }
            const xl_matrix *m = place->target;
            uint32_t slot = place->kind == XL_PLACE_ROWS ? xl_slot(model, row) : row;
            xl_unpack_row(m->type, m->data, m->cols, slot, row_bytes);
            CHECK(memcmp(row_bytes, expected, place->row_bytes) == 0);
        }
        free(row_bytes);
    }
}

/* Heads that only carry a shortlist and a fingerprint. */
static exitlm_heads *plain_heads(const exitlm_model *model, const char *fingerprint,
                                 const int32_t *shortlist, uint32_t n) {
    xl_heads_source source = {.kv = EXITLM_POLICY_EXACT,
                              .fingerprint = fingerprint,
                              .n_layers = model->config.n_layers,
                              .dim = model->config.dim,
                              .kv_dim = model->config.kv_dim,
                              .vocab = model->config.vocab,
                              .n_heads = 1,
                              .n_shortlist = n,
                              .shortlist = shortlist,
                              .matrix_type = XL_F32};
    source.head[0] =
        (xl_head_source){.layer = model->config.n_layers, .form = XL_FORM_VOCABULARY, .rows = n};
    xl_buffer file = new_buffer();
    exitlm_heads *heads;
    exitlm_error error;
    good(xl_heads_write(&source, &file, &error), &error);
    good(exitlm_heads_create(&heads, file.data, file.n_bytes, NULL, &error), &error);
    xl_buffer_free(&file);
    return heads;
}

enum { N_SHORT = 96 };
static void draw_shortlist(int32_t ids[N_SHORT], uint32_t vocab) {
    for (uint32_t i = 0; i < N_SHORT;) {
        ids[i] = (int32_t)below(vocab);
        uint32_t j = 0;
        while (ids[j] != ids[i]) j++;
        i += j == i;
    }
}

/* ---- Loading in the order of the file ------------------------------------------------------- */
static void test_committed_file(void) {
    FILE *f = fopen("tests/data/tiny.gguf", "rb");
    xl_buffer file = make_default();
    uint8_t *bytes = malloc(file.n_bytes + 1);
    CHECK(f && bytes);
    CHECK(fread(bytes, 1, file.n_bytes + 1, f) == file.n_bytes &&
          memcmp(bytes, file.data, file.n_bytes) == 0);
    fclose(f);
    free(bytes);
    xl_buffer_free(&file);
}

static void test_chunking(void) {
    static const size_t chunks[] = {1, 7, 4099, 1 << 20};
    xl_buffer file = make_default();
    char fingerprint[65] = "";
    for (size_t i = 0; i < 4; i++) {
        exitlm_model *model = load(&file, chunks[i], NULL);
        exitlm_model_info info;
        compare_with_file(model, file.data);
        exitlm_model_describe(model, &info);
        CHECK(info.layers == 6 && info.vocab == 500 && info.heads == 4 && info.kv_heads == 2 &&
              info.head_dim == 16);
        CHECK(strcmp(info.architecture, "llama") == 0 &&
              strcmp(info.name, "Tiny random model") == 0 && strcmp(info.licence, "mit") == 0);
        CHECK(strcmp(info.quantisation, "Q4_1") == 0 &&
              strcmp(info.template_family, "chatml") == 0 && info.context_tokens == 512);
        CHECK(model->tied && model->output.data == model->embedding.data &&
              xl_output_complete(model));
        CHECK(strlen(info.fingerprint) == 64 &&
              (i == 0 || strcmp(info.fingerprint, fingerprint) == 0));
        strcpy(fingerprint, info.fingerprint);
        exitlm_model_free(model);
    }
    xl_buffer_free(&file);
}

static void test_kinds(void) {
    random_model kinds[16 + RANDOM_FAMILIES];
    size_t n = 0;
    for (size_t i = 0; i < 16; i++) random_model_defaults(&kinds[i]);
    kinds[n].arch = "qwen2", kinds[n++].untied = true;
    kinds[n].arch = "qwen3", kinds[n++].head_dim = 32;
    kinds[n].type = "F32", kinds[n].embedding = "F16", kinds[n++].rope_freqs = true;
    kinds[n].type = "BF16", kinds[n].embedding = "BF16", kinds[n].alignment = 64,
    kinds[n].shuffled = true, kinds[n].layers = 12, kinds[n++].extra = true;
    static const char *const k_quants[] = {"Q4_K", "Q5_K", "Q6_K"};
    for (int i = 0; i < 3; i++) {
        kinds[n].type = k_quants[i], kinds[n].embedding = k_quants[2 - i],
        kinds[n].dim = kinds[n].ffn_dim = 256, kinds[n++].layers = 2;
    }
    static const char *const others[] = {"Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"};
    for (int i = 0; i < 5; i++)
        kinds[n].type = others[i], kinds[n].rope_linear = 4, kinds[n++].untied = true;
    for (uint32_t i = 0; i < RANDOM_FAMILIES; i++) random_model_family(&kinds[n++], i);
    for (size_t i = 0; i < n; i++) {
        xl_buffer file = make(&kinds[i]);
        exitlm_model *model = load(&file, 1009, NULL);
        const xl_config *c = &model->config;
        compare_with_file(model, file.data);
        CHECK(model->tied == !kinds[i].untied && model->output.rows == 500);
        const xl_layer *l = &model->layers[0];
        const bool biased = c->arch == XL_ARCH_GPTNEOX || c->arch == XL_ARCH_PHI2,
                   gemma = c->arch == XL_ARCH_GEMMA3;
        CHECK((l->bq != NULL) == (biased || c->arch == XL_ARCH_QWEN2) &&
              (l->k_norm != NULL) == (gemma || c->arch == XL_ARCH_QWEN3));
        CHECK((l->bo && l->b_up && l->b_down && l->attn_norm.bias && model->output_norm.bias) ==
                  biased &&
              (l->w_gate.data == NULL) == biased && c->gated != biased && c->parallel == biased);
        CHECK((model->output_bias != NULL) == (c->arch == XL_ARCH_PHI2) &&
              (l->ffn_norm.weight == NULL) == (c->arch == XL_ARCH_PHI2));
        CHECK((l->post_attn_norm.weight && l->post_ffn_norm.weight) == gemma &&
              (c->embedding_scale == 8) == gemma && (c->window == 11) == gemma);
        CHECK(l->wq.rows == c->q_dim && l->wk.rows == c->kv_dim && l->wv.rows == c->kv_dim);
        CHECK((c->rope_style == XL_ROPE_NORM) ==
                  (c->arch == XL_ARCH_LLAMA || c->arch == XL_ARCH_SMOLLM3) &&
              (model->rope_factors != NULL) == kinds[i].rope_freqs);
        CHECK(c->rope_scale == (kinds[i].rope_linear != 0 ? 0.25f : 1.0f) &&
              c->q_dim == c->n_heads * c->head_dim);
        exitlm_model_free(model);
        exitlm_error error;
        for (size_t part = 0; part < 8; part++) /* truncated */
            CHECK(try_load(file.data, file.n_bytes / 8 * part, 4096, NULL, &error) ==
                  EXITLM_BAD_MODEL);
        xl_buffer_free(&file);
    }
}

static void test_text(void) {
    xl_buffer file = make_default();
    exitlm_model *model = load(&file, 1 << 20, NULL);
    int32_t ids[64];
    char text[256];
    size_t n, n_bytes;
    exitlm_error error;
    exitlm_message message = {"user", "the river"};
    good(exitlm_apply_template(model, &message, 1, true, text, sizeof text, &n_bytes, &error),
         &error);
    CHECK(n_bytes < sizeof text &&
          memcmp(text, "<|im_start|>user\nthe river<|im_end|>\n<|im_start|>assistant\n", n_bytes) ==
              0);
    good(exitlm_tokenize(model, text, n_bytes, EXITLM_PARSE_SPECIAL, ids, 64, &n, &error), &error);
    CHECK(n > 6 && n < 64 && ids[0] == 1);
    good(exitlm_detokenize(model, ids, n, text, sizeof text, &n_bytes, &error), &error);
    CHECK(n_bytes == 59 &&
          memcmp(text, "<|im_start|>user\nthe river<|im_end|>\n<|im_start|>assistant\n", n_bytes) ==
              0);
    good(exitlm_detokenize(model, ids, n, NULL, 0, &n_bytes, &error), &error);
    CHECK(n_bytes == 59);
    ids[2] = 500;
    CHECK(exitlm_detokenize(model, ids, n, text, sizeof text, &n_bytes, &error) == EXITLM_USAGE &&
          strstr(error.message, "index 2"));
    CHECK(memcmp(exitlm_model_chat_template(model, &n), "{% for", 6) == 0 && n > 100);
    exitlm_model_free(model);
    xl_buffer_free(&file);
}

/* ---- Other orders
 * -------------------------------------------------------------------------------- */
static exitlm_extent *plan_of(const exitlm_loader *loader, size_t *n) {
    exitlm_error error;
    good(exitlm_loader_plan(loader, NULL, 0, n, &error), &error);
    exitlm_extent *extents = calloc(*n, sizeof *extents);
    CHECK(extents);
    good(exitlm_loader_plan(loader, extents, *n, n, &error), &error);
    return extents;
}

static void push_extent(exitlm_loader *loader, const uint8_t *const *parts,
                        const exitlm_extent *e) {
    exitlm_error error = {0};
    good(exitlm_loader_seek(loader, e->part, e->offset, &error), &error);
    good(push_chunks(loader, parts[e->part] + e->offset, e->n_bytes, 1 + below(700), &error),
         &error);
}

static exitlm_load_state state_of(const exitlm_loader *loader) {
    exitlm_load_state s;
    exitlm_loader_state(loader, &s);
    return s;
}

/* The header, then the plan's order; what is ready grows as it should; every byte that is needed
 * comes exactly once. */
static void test_plan(bool with_heads, bool untied) {
    random_model m;
    random_model_defaults(&m);
    m.untied = untied, m.shuffled = true, m.layers = 11;
    xl_buffer file = make(&m);
    exitlm_model *whole = load(&file, 1 << 20, NULL);
    int32_t ids[N_SHORT];
    draw_shortlist(ids, 500);
    exitlm_heads *heads = with_heads ? plain_heads(whole, whole->fingerprint, ids, N_SHORT) : NULL;
    exitlm_load_options options = {.heads = heads};
    exitlm_loader *loader = loader_for(&options);
    exitlm_error error = {0};
    while (!state_of(loader).header_ready) {
        uint64_t at = state_of(loader).offset;
        CHECK(exitlm_loader_model(loader) == NULL && at < 40000);
        good(exitlm_loader_push(loader, file.data + at, 100, &error), &error);
    }
    exitlm_model *model = exitlm_loader_model(loader);
    CHECK(model && !model->base_ready && model->layers_ready == 0 && state_of(loader).layers == 11);
    size_t n;
    exitlm_extent *plan = plan_of(loader, &n);
    CHECK(plan[0].layer == -1);
    int32_t layer = -1, before = -1;
    uint64_t bytes = state_of(loader).header_bytes;
    uint8_t *seen = calloc(file.n_bytes, 1);
    CHECK(seen);
    for (size_t i = 0; i < n; i++) {
        const exitlm_extent *e = &plan[i];
        for (uint64_t b = e->offset; b < e->offset + e->n_bytes; b++)
            CHECK(b < file.n_bytes && !seen[b]++);
        CHECK(e->layer != -3 || e->n_bytes <= 256 << 10);
        push_extent(loader, (const uint8_t *const[]){file.data}, e);
        bytes += e->n_bytes;
        if (e->layer == -1 || e->layer == -2) CHECK(before < 0 && before != -3);
        if (e->layer >= 0) {
            CHECK(e->layer == layer || e->layer == layer + 1);
            layer = e->layer;
            if (i + 1 == n || plan[i + 1].layer != layer)
                CHECK(model->layers_ready == (uint32_t)layer + 1 && model->base_ready);
            for (uint32_t s = 0; s < N_SHORT && with_heads; s++)
                CHECK(model->row_ready[ids[s]] && model->output_row_ready[ids[s]]);
            if (with_heads && layer > 0) CHECK(strcmp(model->fingerprint, whole->fingerprint) == 0);
        }
        before = e->layer;
    }
    CHECK(layer == 10 && state_of(loader).complete);
    CHECK(state_of(loader).loaded_bytes <= bytes &&
          state_of(loader).loaded_bytes + 32 * 200 > bytes);
    good(exitlm_loader_finish(loader, &model, &error), &error);
    compare_with_file(model, file.data);
    CHECK(strcmp(model->fingerprint, whole->fingerprint) == 0 &&
          (model->slot_of != NULL) == with_heads);
    for (uint32_t s = 0; s < N_SHORT && with_heads; s++)
        CHECK(xl_id(model, s) == (uint32_t)ids[s] && xl_slot(model, (uint32_t)ids[s]) == s);
    for (uint32_t id = 0; id < 500; id++) CHECK(xl_slot(model, xl_id(model, id)) == id);
    exitlm_model_free(model);
    exitlm_model_free(whole);
    exitlm_heads_free(heads);
    free(plan);
    free(seen);
    xl_buffer_free(&file);
}

/* Extents in any order, cut in the middle, gone on with elsewhere, some of them twice. */
static void test_interrupted(void) {
    xl_buffer file = make_default();
    exitlm_loader *loader = loader_for(NULL);
    exitlm_error error = {0};
    good(exitlm_loader_push(loader, file.data, 16000, &error), &error);
    size_t n;
    exitlm_extent *plan = plan_of(loader, &n);
    uint64_t *done = calloc(n, sizeof *done);
    CHECK(done);
    for (size_t i = n; i-- > 1;) {
        size_t j = below((uint32_t)i + 1);
        exitlm_extent swap = plan[i];
        plan[i] = plan[j], plan[j] = swap;
    }
    size_t left = n;
    while (left) {
        size_t i = below((uint32_t)n);
        uint64_t rest = plan[i].n_bytes - done[i];
        if (rest == 0) continue;
        uint64_t take = below(3) ? 1 + below((uint32_t)rest) : rest;
        good(exitlm_loader_seek(loader, 0, plan[i].offset + done[i], &error), &error);
        good(
            push_chunks(loader, file.data + plan[i].offset + done[i], take, 1 + below(300), &error),
            &error);
        done[i] += take;
        left -= done[i] == plan[i].n_bytes;
        /* again */
        if (done[i] == plan[i].n_bytes && below(2))
            push_extent(loader, (const uint8_t *const[]){file.data}, &plan[i]);
    }
    CHECK(state_of(loader).complete);
    exitlm_model *model;
    good(exitlm_loader_finish(loader, &model, &error), &error);
    compare_with_file(model, file.data);
    exitlm_model_free(model);
    free(done);
    free(plan);
    xl_buffer_free(&file);
}

/* Single rows in any order, any number of them under way at a time. */
static void test_rows(void) {
    xl_buffer file = make_default();
    exitlm_loader *loader = loader_for(NULL);
    exitlm_error error = {0};
    good(exitlm_loader_push(loader, file.data, 14880, &error), &error);
    exitlm_model *model = exitlm_loader_model(loader);
    const xl_gguf_tensor *t =
        xl_gguf_find_tensor(&((xl_owner *)model->owner)->parts[0].gguf, "token_embd.weight");
    enum { ROW = 68 };
    CHECK(t && t->n_bytes == 500 * ROW);
    uint64_t loaded = state_of(loader).loaded_bytes;
    for (uint32_t row = 10; row < 14; row++) {
        good(exitlm_loader_seek(loader, 0, t->offset + row * ROW, &error), &error);
        good(exitlm_loader_push(loader, file.data + t->offset + row * ROW, 41, &error), &error);
    }
    CHECK(model->rows_ready_count == 0 && state_of(loader).loaded_bytes == loaded + 4 * 41);
    CHECK(exitlm_loader_seek(loader, 0, t->offset + 12 * ROW + 42, &error) == EXITLM_USAGE);
    CHECK(strstr(error.message, "token_embd.weight"));
    CHECK(exitlm_loader_seek(loader, 0, t->offset + 300 * ROW + 1, &error) == EXITLM_USAGE);
    good(exitlm_loader_seek(loader, 0, t->offset + 12 * ROW + 41, &error), &error);
    good(exitlm_loader_push(loader, file.data + t->offset + 12 * ROW + 41, ROW - 41, &error),
         &error);
    CHECK(model->rows_ready_count == 1 && model->row_ready[12] && !model->row_ready[13]);
    for (uint32_t row = 20; row < 90; row++) {
        good(exitlm_loader_seek(loader, 0, t->offset + row * ROW, &error), &error);
        good(exitlm_loader_push(loader, file.data + t->offset + row * ROW, 1, &error), &error);
    }
    CHECK(state_of(loader).loaded_bytes == loaded + 3 * 41 + ROW + 70);
    for (uint32_t row = 20; row < 60; row++) {
        good(exitlm_loader_seek(loader, 0, t->offset + row * ROW + 1, &error), &error);
        good(exitlm_loader_push(loader, file.data + t->offset + row * ROW + 1, ROW - 1, &error),
             &error);
        CHECK(model->row_ready[row]);
    }
    for (uint32_t i = 0, row = 3; i < 500; i++, row = (row + 7) % 500) {
        good(exitlm_loader_seek(loader, 0, t->offset + row * ROW, &error), &error);
        good(push_chunks(loader, file.data + t->offset + row * ROW, ROW, 1 + below(ROW), &error),
             &error);
        CHECK(model->row_ready[row]);
    }
    CHECK(xl_rows_complete(model) && xl_output_complete(model) &&
          state_of(loader).loaded_bytes == loaded + 500 * ROW);
    CHECK(exitlm_loader_seek(loader, 1, 0, &error) == EXITLM_USAGE);
    CHECK(exitlm_loader_seek(loader, 0, t->offset + t->n_bytes + 100, &error) == EXITLM_USAGE);
    good(exitlm_loader_seek(loader, 0, 0, &error), &error); /* all of it again */
    good(exitlm_loader_push(loader, file.data, file.n_bytes, &error), &error);
    good(exitlm_loader_finish(loader, &model, &error), &error);
    compare_with_file(model, file.data);
    exitlm_model_free(model);
    xl_buffer_free(&file);
}

/* ---- Split models
 * --------------------------------------------------------------------------------- */
enum { N_PARTS = 3 };
static void test_split(void) {
    random_model m;
    random_model_defaults(&m);
    m.alignment = 64, m.untied = true;
    xl_buffer file = make(&m), parts[N_PARTS];
    for (int i = 0; i < N_PARTS; i++) parts[i] = new_buffer();
    CHECK(random_model_split(&file, N_PARTS, parts));
    const uint8_t *bytes[N_PARTS] = {parts[0].data, parts[1].data, parts[2].data};
    exitlm_model *whole = load(&file, 1 << 20, NULL), *model;
    exitlm_error error = {0};
    for (int way = 0; way < 3; way++) {
        exitlm_loader *loader = loader_for(NULL);
        if (way == 0) /* one after the other, as one stream */
            for (int i = 0; i < N_PARTS; i++)
                good(push_chunks(loader, bytes[i], parts[i].n_bytes, 333, &error), &error);
        for (uint32_t i = 0; i < N_PARTS && way == 1; i++) { /* file by file */
            good(exitlm_loader_seek(loader, i, 0, &error), &error);
            good(push_chunks(loader, bytes[i], parts[i].n_bytes, 1 << 20, &error), &error);
            CHECK(state_of(loader).n_parts == N_PARTS &&
                  state_of(loader).header_ready == (i == N_PARTS - 1));
        }
        if (way == 2) { /* the headers, then the plan */
            for (uint32_t i = 0; i < N_PARTS; i++) {
                good(exitlm_loader_seek(loader, i, 0, &error), &error);
                for (uint64_t at = 0; state_of(loader).header_bytes == 0; at += 64)
                    good(exitlm_loader_push(loader, bytes[i] + at, 64, &error), &error);
            }
            size_t n;
            exitlm_extent *plan = plan_of(loader, &n);
            for (size_t i = 0; i < n; i++) push_extent(loader, bytes, &plan[i]);
            free(plan);
        }
        good(exitlm_loader_finish(loader, &model, &error), &error);
        CHECK(strcmp(model->fingerprint, whole->fingerprint) == 0 &&
              model->info.parameters == whole->info.parameters);
        for (uint32_t row = 0; row < 500; row++) {
            uint8_t a[128], b[128];
            xl_unpack_row(model->output.type, model->output.data, 64, row, a);
            xl_unpack_row(whole->output.type, whole->output.data, 64, row, b);
            CHECK(memcmp(a, b, 68) == 0);
        }
        exitlm_model_free(model);
    }
    expect(&parts[1], EXITLM_BAD_MODEL, "part 2 of a split model where part 1 was expected");
    expect(&parts[0], EXITLM_BAD_MODEL, "part 2 of 3 is missing");
    xl_buffer twice = new_buffer();
    for (int i = 0; i < 2; i++) xl_buffer_add(&twice, parts[0].data, parts[0].n_bytes);
    expect(&twice, EXITLM_BAD_MODEL, "part 1 of a split model where part 2 was expected");
    exitlm_loader *loader = loader_for(NULL);
    good(exitlm_loader_push(loader, bytes[0], parts[0].n_bytes, &error), &error);
    good(exitlm_loader_seek(loader, 2, 0, &error), &error);
    good(exitlm_loader_push(loader, bytes[2], parts[2].n_bytes - 1000, &error), &error);
    CHECK(exitlm_loader_finish(loader, &model, &error) == EXITLM_BAD_MODEL &&
          strstr(error.message, "part 2 of 3 is missing"));
    good(exitlm_loader_seek(loader, 1, 0, &error), &error); /* the loader stays usable */
    good(exitlm_loader_push(loader, bytes[1], parts[1].n_bytes, &error), &error);
    CHECK(exitlm_loader_finish(loader, &model, &error) == EXITLM_BAD_MODEL &&
          strstr(error.message, "incomplete: tensor "));
    exitlm_loader_free(loader);
    for (int i = 0; i < N_PARTS; i++) xl_buffer_free(&parts[i]);
    exitlm_model_free(whole);
    xl_buffer_free(&twice);
    xl_buffer_free(&file);
}

/* ---- Heads of another model
 * ---------------------------------------------------------------------- */
static void test_mismatch(void) {
    random_model m;
    random_model_defaults(&m);
    xl_buffer file = make(&m);
    m.seed++;
    xl_buffer other_weights = make(&m);
    m.merges++;
    xl_buffer other_tokens = make(&m);
    m.layers--;
    xl_buffer other_sizes = make(&m);
    exitlm_model *model = load(&file, 1 << 20, NULL);
    int32_t ids[N_SHORT];
    draw_shortlist(ids, 500);
    exitlm_heads *heads = plain_heads(model, model->fingerprint, ids, N_SHORT);
    exitlm_load_options options = {.heads = heads};
    const xl_buffer *others[] = {&other_weights, &other_tokens, &other_sizes};
    exitlm_error error;
    for (size_t i = 0; i < 3; i++) {
        exitlm_model *other = load(others[i], 1 << 20, NULL);
        CHECK(strcmp(other->fingerprint, model->fingerprint) != 0);
        CHECK(try_load(others[i]->data, others[i]->n_bytes, 100, &options, &error) ==
              EXITLM_HEADS_MISMATCH);
        CHECK(strstr(error.message, model->fingerprint) &&
              strstr(error.message, other->fingerprint));
        /* as soon as the first layer's norms are there */
        CHECK(try_load(others[i]->data, 80000, 100, &options, &error) == EXITLM_HEADS_MISMATCH);
        exitlm_model_free(other);
    }
    CHECK(try_load(file.data, file.n_bytes, 100, &options, &error) == EXITLM_OK);
    exitlm_heads_free(heads);
    exitlm_model_free(model);
    xl_buffer_free(&file);
    for (size_t i = 0; i < 3; i++) xl_buffer_free((xl_buffer *)others[i]);
}

/* ---- Broken models
 * -------------------------------------------------------------------------------- */
typedef struct change { /* of a file: keys and tensors that are left out, replaced or added */
    const char *drop_key, *drop_tensor;
    const char *key; /* added (after dropping the one of this name) */
    int64_t integer;
    const char *text;   /* if not NULL, instead of the integer */
    float number;       /* if not 0, instead of both */
    const char *tensor; /* added, or replacing: this type and shape, zeros */
    uint32_t type;
    uint64_t dims[4];
} change;

static xl_buffer changed(const xl_buffer *file, const change *c) {
    xl_gguf g;
    size_t used;
    xl_gguf_writer w;
    xl_buffer out = new_buffer();
    exitlm_error error;
    char name[300];
    xl_gguf_init(&g, &xl_libc_allocator);
    good(xl_gguf_push(&g, file->data, file->n_bytes, &used, &error), &error);
    xl_gguf_writer_init(&w, &xl_libc_allocator);
    for (uint32_t i = 0; i < g.n_keys; i++) {
        snprintf(name, sizeof name, "%.*s", (int)g.keys[i].name_bytes,
                 xl_gguf_text(&g, g.keys[i].name_offset));
        if ((c->drop_key && strcmp(name, c->drop_key) == 0) ||
            (c->key && strcmp(name, c->key) == 0))
            continue;
        xl_gguf_put_copy(&w, &g, &g.keys[i]);
    }
    if (c->key && c->number != 0) xl_gguf_put_f32(&w, c->key, c->number);
    else if (c->key && c->text) xl_gguf_put_cstring(&w, c->key, c->text);
    else if (c->key) xl_gguf_put_i32(&w, c->key, (int32_t)c->integer);
    uint64_t data[1024];
    for (uint32_t i = 0; i < g.n_tensors; i++) {
        const xl_gguf_tensor *t = &g.tensors[g.by_offset[i]];
        snprintf(name, sizeof name, "%.*s", (int)t->name_bytes, xl_gguf_text(&g, t->name_offset));
        bool out_of = (c->drop_tensor && strcmp(name, c->drop_tensor) == 0) ||
                      (c->tensor && strcmp(name, c->tensor) == 0);
        data[i] = out_of ? UINT64_MAX : xl_gguf_put_tensor(&w, name, t->type, t->n_dims, t->dims);
    }
    if (c->tensor) xl_gguf_put_tensor(&w, c->tensor, c->type, 4, c->dims);
    good(xl_gguf_writer_header(&w, &out, &error), &error);
    size_t start = out.n_bytes;
    xl_buffer_add(&out, NULL, (size_t)w.data_bytes);
    for (uint32_t i = 0; i < g.n_tensors; i++) {
        const xl_gguf_tensor *t = &g.tensors[g.by_offset[i]];
        if (data[i] != UINT64_MAX)
            memcpy(out.data + start + data[i], file->data + t->offset, (size_t)t->n_bytes);
    }
    xl_gguf_writer_free(&w);
    xl_gguf_free(&g);
    return out;
}

static void test_broken(void) {
    static const struct {
        change what;
        exitlm_status status;
        const char *message;
    } cases[] = {
        {{.key = "general.architecture", .text = "mamba"},
         EXITLM_UNSUPPORTED,
         "architecture \"mamba\" is not supported; supported are llama, smollm3, qwen2, qwen3, "
         "gemma3, gptneox, phi2"},
        {{.key = "general.architecture", .text = "exitlm"},
         EXITLM_BAD_MODEL,
         "a file of exit heads, not a model"},
        {{.drop_key = "general.architecture"}, EXITLM_BAD_MODEL, "general.architecture is missing"},
        {{.drop_key = "llama.block_count"}, EXITLM_BAD_MODEL, "llama.block_count is missing"},
        {{.drop_key = "llama.embedding_length"},
         EXITLM_BAD_MODEL,
         "llama.embedding_length is missing"},
        {{.drop_key = "llama.attention.layer_norm_rms_epsilon"},
         EXITLM_BAD_MODEL,
         "layer_norm_rms_epsilon is missing"},
        {{.key = "llama.block_count", .integer = 7},
         EXITLM_BAD_MODEL,
         "tensor blk.6.attn_norm.weight is missing"},
        {{.key = "llama.block_count", .integer = 5},
         EXITLM_BAD_MODEL,
         "llama.block_count says that there are 5 layers"},
        {{.key = "llama.block_count", .integer = -1},
         EXITLM_BAD_MODEL,
         "must be an integer from 1 to 1024"},
        {{.key = "llama.block_count", .text = "six"},
         EXITLM_BAD_MODEL,
         "must be an integer from 1 to 1024"},
        {{.key = "llama.block_count", .number = 6},
         EXITLM_BAD_MODEL,
         "must be an integer from 1 to 1024"},
        {{.key = "llama.embedding_length", .integer = 96},
         EXITLM_BAD_MODEL,
         "the hyperparameters ask for [96, 500]"},
        {{.key = "llama.embedding_length", .integer = 0},
         EXITLM_BAD_MODEL,
         "must be an integer from 32"},
        {{.key = "llama.embedding_length", .integer = 66},
         EXITLM_BAD_MODEL,
         "no multiple of attention.head_count"},
        {{.key = "llama.feed_forward_length", .integer = 160},
         EXITLM_BAD_MODEL,
         "tensor blk.0.ffn_gate.weight at offset"},
        {{.key = "llama.feed_forward_length", .integer = 136},
         EXITLM_UNSUPPORTED,
         "multiples of 32"},
        {{.key = "llama.attention.head_count", .integer = 0},
         EXITLM_BAD_MODEL,
         "attention.head_count"},
        {{.key = "llama.attention.head_count", .integer = 16},
         EXITLM_UNSUPPORTED,
         "attention heads of 4 dimensions"},
        {{.key = "llama.attention.head_count_kv", .integer = 3},
         EXITLM_BAD_MODEL,
         "is no multiple of head_count_kv (3)"},
        {{.key = "llama.attention.key_length", .integer = 512}, EXITLM_BAD_MODEL, "key_length"},
        {{.key = "llama.attention.key_length", .integer = 20},
         EXITLM_UNSUPPORTED,
         "a multiple of 8 is needed"},
        {{.key = "llama.attention.value_length", .integer = 32},
         EXITLM_UNSUPPORTED,
         "value_length differs"},
        {{.key = "llama.vocab_size", .integer = 499},
         EXITLM_BAD_MODEL,
         "llama.vocab_size is 499, but tokenizer.ggml.tokens has 500"},
        {{.key = "llama.expert_count", .integer = 8}, EXITLM_UNSUPPORTED, "mixtures of experts"},
        {{.key = "llama.context_length", .integer = 0}, EXITLM_BAD_MODEL, "context_length"},
        {{.key = "llama.rope.scaling.type", .text = "yarn"},
         EXITLM_UNSUPPORTED,
         "rope scaling \"yarn\" is not supported"},
        {{.key = "llama.rope.freq_base", .number = -1}, EXITLM_BAD_MODEL, "rope.freq_base"},
        {{.key = "llama.rope.dimension_count", .integer = 18},
         EXITLM_BAD_MODEL,
         "rope.dimension_count"},
        {{.key = "llama.rope.dimension_count", .integer = 15}, EXITLM_BAD_MODEL, "must be even"},
        {{.drop_key = "tokenizer.ggml.tokens"},
         EXITLM_BAD_MODEL,
         "tokenizer.ggml.tokens is missing"},
        {{.key = "tokenizer.ggml.tokens", .text = "no array"},
         EXITLM_BAD_MODEL,
         "tokenizer.ggml.tokens is missing or no array"},
        {{.key = "tokenizer.ggml.model", .text = "t5"}, EXITLM_UNSUPPORTED, "t5"},
        {{.drop_tensor = "blk.3.ffn_up.weight"},
         EXITLM_BAD_MODEL,
         "tensor blk.3.ffn_up.weight is missing"},
        {{.drop_tensor = "token_embd.weight"},
         EXITLM_BAD_MODEL,
         "tensor token_embd.weight is missing"},
        {{.drop_tensor = "output_norm.weight"},
         EXITLM_BAD_MODEL,
         "tensor output_norm.weight is missing"},
        {{.tensor = "blk.2.attn_q.weight", .type = 0, .dims = {64, 32, 1, 1}},
         EXITLM_BAD_MODEL,
         "tensor blk.2.attn_q.weight at offset"},
        {{.tensor = "blk.2.attn_norm.weight", .type = 0, .dims = {32, 1, 1, 1}},
         EXITLM_BAD_MODEL,
         "ask for [64, 1]"},
        {{.tensor = "blk.2.attn_norm.weight", .type = 8, .dims = {64, 1, 1, 1}},
         EXITLM_UNSUPPORTED,
         "supported here: F32, F16, BF16"},
        {{.tensor = "blk.2.attn_q.weight", .type = 20, .dims = {64, 64, 1, 1}},
         EXITLM_UNSUPPORTED,
         "tensor blk.2.attn_q.weight has weights of type IQ4_NL; supported here: F32"},
        {{.tensor = "blk.2.ffn_gate_inp.weight", .type = 0, .dims = {64, 8, 1, 1}},
         EXITLM_UNSUPPORTED,
         "unknown in architecture llama"},
        {{.tensor = "blk.99.attn_q.weight", .type = 0, .dims = {64, 64, 1, 1}},
         EXITLM_BAD_MODEL,
         "says that there are 6 layers"},
        {{.tensor = "output.bias", .type = 0, .dims = {500, 1, 1, 1}},
         EXITLM_UNSUPPORTED,
         "output.bias"},
        {{.key = "split.count", .integer = 0}, EXITLM_BAD_MODEL, "split.count"},
        {{.key = "split.count", .integer = 100000}, EXITLM_BAD_MODEL, "split.count"},
        /* and what is allowed */
        {{.tensor = "some.extra", .type = 20, .dims = {64, 64, 1, 1}}, EXITLM_OK, ""},
        {{.tensor = "blk.1.attn_rot_embd.weight", .type = 1, .dims = {64, 1, 1, 1}}, EXITLM_OK, ""},
        {{.drop_key = "general.name"}, EXITLM_OK, ""},
        {{.drop_key = "llama.vocab_size"}, EXITLM_OK, ""},
        {{.key = "llama.rope.scaling.type", .text = "none"}, EXITLM_OK, ""},
    };
    xl_buffer file = make_default();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        xl_buffer bad = changed(&file, &cases[i].what);
        expect(&bad, cases[i].status, cases[i].message);
        xl_buffer_free(&bad);
    }
    xl_buffer_free(&file);
}

/* A weight that is not finite, in each kind of tensor. */
static void test_not_finite(void) {
    static const struct {
        const char *tensor;
        uint32_t at, n;
        uint8_t bytes[4];
        /* Q4_0: the scale of block 1 */
    } cases[] = {{"blk.1.attn_q.weight", 18, 2, {0, 0x7c}},
                 /* Q4_1: the minimum of block 1 */
                 {"blk.4.ffn_gate.weight", 22, 2, {0, 0xfe}},
                 {"blk.5.attn_k.weight", 100, 2, {1, 0x7c}},           /* F16 */
                 {"blk.0.attn_norm.weight", 8, 4, {0, 0, 0x80, 0x7f}}, /* F32: infinity */
                 {"output_norm.weight", 0, 4, {0, 0, 0xc0, 0xff}},     /* F32: not a number */
                 {"token_embd.weight", 68 * 499, 2, {0, 0x7c}}};       /* Q8_0 */
    xl_buffer file = make_default();
    xl_gguf g;
    size_t used;
    xl_gguf_init(&g, &xl_libc_allocator);
    CHECK(xl_gguf_push(&g, file.data, file.n_bytes, &used, NULL) == EXITLM_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t kept[4],
            *at = file.data + xl_gguf_find_tensor(&g, cases[i].tensor)->offset + cases[i].at;
        memcpy(kept, at, 4);
        memcpy(at, cases[i].bytes, cases[i].n);
        char message[128];
        snprintf(message, sizeof message,
                 "tensor %s has a weight or scale that is no finite number", cases[i].tensor);
        expect(&file, EXITLM_BAD_MODEL, message);
        memcpy(at, kept, 4);
    }
    expect(&file, EXITLM_OK, "");
    xl_gguf_free(&g);
    xl_buffer_free(&file);
}

static void test_truncated(void) {
    xl_buffer file = make_default();
    exitlm_error error;
    for (size_t n = 0; n < file.n_bytes - 32; n += n < 14880 ? 61 : 1013) {
        CHECK(try_load(file.data, n, 1 << 20, NULL, &error) == EXITLM_BAD_MODEL);
        char end[64];
        snprintf(end, sizeof end, "the file ends at %zu", n);
        CHECK(strstr(error.message, n ? end : "empty"));
    }
    CHECK(try_load(file.data, 65664 + 5632 - 1, 999, NULL, &error) == EXITLM_BAD_MODEL);
    CHECK(strcmp(error.message, "truncated: tensor blk.0.ffn_up.weight needs 5632 bytes at offset "
                                "65664, the file ends at 71295") == 0);
    /* nothing but padding is missing, or more comes than belongs to the model */
    CHECK(try_load(file.data, 217344, 999, NULL, &error) == EXITLM_OK);
    xl_buffer_add(&file, NULL, 1000);
    CHECK(try_load(file.data, file.n_bytes, 999, NULL, &error) == EXITLM_OK);
    xl_buffer_free(&file);
}

/* Each header byte (within the vocabulary each seventh) damaged, then the whole file: no crash,
 * no leak, no memory beyond reason, and a word for every failure. */
static void test_damaged(void) {
    xl_buffer file = make_default();
    size_t good_loads = 0;
    for (size_t at = 0; at < 14880; at += at < 800 || at > 11100 ? 1 : 7) {
        uint8_t kept = file.data[at];
        file.data[at] ^= (uint8_t)(1u << below(8));
        counting c;
        counting_init(&c);
        exitlm_load_options options = {.allocator = &c.allocator, .max_bytes = 1 << 20};
        exitlm_error error;
        exitlm_status status = try_load(file.data, file.n_bytes, 30000, &options, &error);
        CHECK(status == EXITLM_OK || status == EXITLM_BAD_MODEL || status == EXITLM_UNSUPPORTED ||
              status == EXITLM_OUT_OF_MEMORY);
        CHECK((status == EXITLM_OK) == (error.message[0] == 0) && c.blocks == 0 && !c.wrong_size &&
              c.peak_bytes < 2 << 20);
        good_loads += status == EXITLM_OK;
        file.data[at] = kept;
    }
    CHECK(good_loads > 500 && good_loads < 5000); /* names and texts may be anything */
    xl_buffer_free(&file);
}

/* ---- Memory
 * ------------------------------------------------------------------------------------------ */
static void test_bound(void) {
    xl_buffer file = make_default();
    counting c;
    counting_init(&c);
    exitlm_load_options options = {.allocator = &c.allocator};
    exitlm_loader *loader = loader_for(&options);
    exitlm_error error = {0};
    uint64_t model_bytes, session_bytes;
    exitlm_model *model;
    CHECK(exitlm_loader_memory(loader, NULL, &model_bytes, NULL, &error) == EXITLM_USAGE);
    good(exitlm_loader_push(loader, file.data, 14880, &error), &error);
    const exitlm_session_options wrong[] = {
        {.kv_type = EXITLM_KV_TYPE_COUNT}, {.context_tokens = UINT32_MAX}, {.threads = 5000}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(exitlm_loader_memory(loader, &wrong[i], NULL, &session_bytes, &error) ==
              EXITLM_USAGE);
    good(exitlm_loader_memory(loader, NULL, &model_bytes, &session_bytes, &error), &error);
    CHECK(model_bytes < file.n_bytes * 5 / 4 && session_bytes > 0);
    good(push_chunks(loader, file.data + 14880, file.n_bytes - 14880, 100, &error), &error);
    good(exitlm_loader_finish(loader, &model, &error), &error);
    CHECK(c.peak_bytes <= model_bytes && c.now_bytes <= model_bytes);
    exitlm_model_free(model);
    CHECK(c.blocks == 0 && !c.wrong_size);
    options.max_bytes = (size_t)model_bytes - 1;
    CHECK(try_load(file.data, file.n_bytes, 4096, &options, &error) == EXITLM_OUT_OF_MEMORY &&
          strstr(error.message, "are allowed"));
    options.max_bytes = (size_t)model_bytes;
    CHECK(try_load(file.data, file.n_bytes, 4096, &options, &error) == EXITLM_OK && c.blocks == 0);
    xl_buffer_free(&file);
}

static void run_to_the_end(exitlm_session *session, counting *c, uint64_t most_bytes, uint32_t *n) {
    exitlm_event event;
    exitlm_error error = {0};
    const size_t calls = c->calls;
    do good(exitlm_session_step(session, &event, &error), &error);
    while (event.type != EXITLM_EVENT_DONE);
    CHECK(c->calls == calls && c->peak_bytes <= most_bytes); /* a step allocates nothing */
    *n = event.stats.prompt_tokens + event.stats.completion_tokens;
}

/* A session from create to the end of its context, in all modes, from ids and from text. */
static void test_session_bound(void) {
    xl_buffer file = make_default();
    exitlm_model *plain = load(&file, 1 << 20, NULL);
    int32_t ids[N_SHORT];
    draw_shortlist(ids, 500);
    exitlm_heads *heads = plain_heads(plain, plain->fingerprint, ids, N_SHORT);
    counting c;
    counting_init(&c);
    exitlm_load_options load_options = {.allocator = &c.allocator};
    exitlm_loader *loader = loader_for(&load_options);
    exitlm_session_options options = {.context_tokens = 512, .heads = heads};
    exitlm_error error = {0};
    uint64_t session_bytes;
    exitlm_model *model;
    exitlm_session *session;
    good(exitlm_loader_push(loader, file.data, file.n_bytes, &error), &error);
    good(exitlm_loader_memory(loader, &options, NULL, &session_bytes, &error), &error);
    good(exitlm_loader_finish(loader, &model, &error), &error);
    const uint64_t most_bytes = c.now_bytes + session_bytes;
    c.peak_bytes = c.now_bytes;
    good(exitlm_session_create(&session, model, &options, &error), &error);
    CHECK(c.peak_bytes <= most_bytes);
    uint32_t n, full_contexts = 0;
    for (int seed = 0; seed < 6; seed++) {
        exitlm_generate_options o;
        exitlm_generate_defaults(&o);
        o.mode = (exitlm_mode)(seed % EXITLM_MODE_COUNT);
        o.temperature = 2;
        o.seed = (uint64_t)seed;
        good(exitlm_session_start(session, ids, N_SHORT, &o, &error), &error);
        run_to_the_end(session, &c, most_bytes, &n);
        full_contexts += n == 512;
        exitlm_message message = {"user", "the river and the sea, the river and the sea"};
        size_t n_bytes;
        good(exitlm_apply_template(model, &message, 1, true, NULL, 0, &n_bytes, &error), &error);
        good(exitlm_session_chat(session, &message, 1, &o, &error), &error);
        CHECK(c.peak_bytes <=
              most_bytes + n_bytes + 1 + 32 + xl_tokenizer_work_bytes(model->tokenizer, n_bytes));
        CHECK(c.now_bytes <= most_bytes);
        c.peak_bytes = c.now_bytes;
        run_to_the_end(session, &c, most_bytes, &n);
    }
    CHECK(full_contexts > 0);
    exitlm_session_free(session);
    exitlm_model_free(model);
    CHECK(c.blocks == 0 && !c.wrong_size);
    exitlm_heads_free(heads);
    exitlm_model_free(plain);
    xl_buffer_free(&file);
}

static void test_no_memory(void) {
    xl_buffer file = make_default();
    exitlm_model *model = load(&file, 1 << 20, NULL);
    int32_t ids[N_SHORT];
    draw_shortlist(ids, 500);
    exitlm_heads *heads = plain_heads(model, model->fingerprint, ids, N_SHORT);
    exitlm_status status = EXITLM_OUT_OF_MEMORY;
    size_t fail_at = 0;
    while (status != EXITLM_OK)
        for (int once = 0; once < 2; once++) {
            counting c;
            counting_init(&c);
            exitlm_load_options options = {.allocator = &c.allocator, .heads = heads};
            exitlm_error error;
            c.fail_at = fail_at += !once;
            c.fail_once = once;
            status = try_load(file.data, file.n_bytes, 2000, &options, &error);
            CHECK((status == EXITLM_OK || status == EXITLM_OUT_OF_MEMORY) && c.blocks == 0 &&
                  !c.wrong_size);
            CHECK(status == EXITLM_OK || error.message[0]);
        }
    CHECK(fail_at > 15);
    exitlm_heads_free(heads);
    exitlm_model_free(model);
    xl_buffer_free(&file);
}

static void test_header_only(void) {
    xl_buffer file = make_default();
    counting c;
    counting_init(&c);
    exitlm_load_options options = {.allocator = &c.allocator, .header_only = true};
    exitlm_loader *loader = loader_for(&options);
    exitlm_error error = {0};
    exitlm_model *model;
    size_t n;
    int32_t ids[8];
    good(exitlm_loader_push(loader, file.data, file.n_bytes, &error), &error);
    CHECK(state_of(loader).header_ready && !state_of(loader).complete && c.peak_bytes < 100000);
    good(exitlm_tokenize(exitlm_loader_model(loader), "the river", 9, 0, ids, 8, &n, &error),
         &error);
    CHECK(exitlm_loader_finish(loader, &model, &error) == EXITLM_USAGE &&
          strstr(error.message, "header_only"));
    free(plan_of(loader, &n));
    CHECK(n > 6);
    exitlm_loader_free(loader);
    CHECK(c.blocks == 0);
    xl_buffer_free(&file);
}

/* A header that is begun anew is still read for its vocabulary alone. */
static void test_vocabulary_anew(void) {
    xl_buffer file = make_default();
    counting c;
    counting_init(&c);
    exitlm_load_options options = {.allocator = &c.allocator, .vocabulary_only = true};
    exitlm_loader *loader = loader_for(&options);
    exitlm_error error = {0};
    good(exitlm_loader_push(loader, file.data, 100, &error), &error);
    good(exitlm_loader_seek(loader, 0, 0, &error), &error);
    good(exitlm_loader_push(loader, file.data, file.n_bytes, &error), &error);
    CHECK(state_of(loader).header_ready);
    exitlm_loader_free(loader);
    CHECK(c.blocks == 0);
    xl_buffer_free(&file);
}

static void test_usage(void) {
    exitlm_loader *loader = loader_for(NULL);
    exitlm_error error;
    exitlm_model *model;
    size_t n;
    CHECK(exitlm_loader_seek(loader, 0, 100, &error) == EXITLM_USAGE &&
          exitlm_loader_plan(loader, NULL, 0, &n, &error) == EXITLM_USAGE);
    CHECK(exitlm_loader_push(loader, NULL, 3, &error) == EXITLM_USAGE &&
          exitlm_loader_push(loader, "GG", 2, &error) == EXITLM_OK);
    CHECK(exitlm_loader_seek(loader, 0, 2, &error) == EXITLM_OK &&
          exitlm_loader_seek(loader, 0, 0, &error) == EXITLM_OK);
    CHECK(exitlm_loader_push(loader, "<html>", 6, NULL) == EXITLM_BAD_MODEL);
    CHECK(exitlm_loader_push(loader, "GGUF", 4, &error) == EXITLM_USAGE &&
          exitlm_loader_seek(loader, 0, 0, &error) == EXITLM_USAGE);
    CHECK(exitlm_loader_finish(loader, &model, &error) == EXITLM_USAGE && !model &&
          !exitlm_loader_model(loader));
    CHECK(!*exitlm_loader_text(loader, "general.name", NULL) &&
          !*exitlm_loader_text(NULL, NULL, NULL));
    exitlm_loader_free(loader);
    exitlm_loader_free(NULL);
    exitlm_model_free(NULL);
}

/* The default model, where it has been fetched. */
static void test_real_model(void) {
    FILE *f = fopen("models/smollm2-135m-instruct.gguf", "rb");
    if (!f) return;
    xl_buffer file = new_buffer();
    static uint8_t bytes[1 << 20];
    size_t n;
    while ((n = fread(bytes, 1, sizeof bytes, f)) > 0) xl_buffer_add(&file, bytes, n);
    fclose(f);
    CHECK(!file.failed);
    exitlm_model *model = load(&file, 1 << 20, NULL);
    compare_with_file(model, file.data);
    CHECK(strcmp(model->fingerprint,
                 "002238e0d315e473ca3f2e3fe4fb5d32e727bc6a8f8d78f58af88b4f9711a76a") == 0);
    CHECK(model->info.parameters == 134515008 && model->info.macs_per_token == 134479872);
    exitlm_model_free(model);
    xl_buffer_free(&file);
}

int main(void) {
    test_committed_file();
    test_chunking();
    test_kinds();
    test_text();
    for (int i = 0; i < 4; i++) test_plan(i & 1, i & 2);
    for (int i = 0; i < 20; i++) test_interrupted();
    test_rows();
    test_split();
    test_mismatch();
    test_broken();
    test_not_finite();
    test_truncated();
    test_damaged();
    test_bound();
    test_session_bound();
    test_no_memory();
    test_header_only();
    test_vocabulary_anew();
    test_usage();
    test_real_model();
    puts("loader: good");
    return 0;
}
