#include "tiny.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf/gguf_write.h"

uint8_t *tiny_read(const char *path, size_t *n_bytes) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "%s cannot be opened: run the tests from the top of the repository\n",
                path);
        exit(1);
    }
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    uint8_t *bytes = malloc((size_t)size + 1);
    *n_bytes = fread(bytes, 1, (size_t)size, file);
    fclose(file);
    return bytes;
}

exitlm_model *tiny_load_with(const void *bytes, size_t n_bytes,
                             const exitlm_load_options *options) {
    exitlm_loader *loader;
    exitlm_model *model;
    CHECK_OK(exitlm_loader_create(&loader, options, &error_));
    CHECK_OK(exitlm_loader_push(loader, bytes, n_bytes, &error_));
    CHECK_OK(exitlm_loader_finish(loader, &model, &error_));
    return model;
}

exitlm_model *tiny_load_bytes(const void *bytes, size_t n_bytes, const exitlm_heads *heads) {
    return tiny_load_with(bytes, n_bytes, &(exitlm_load_options){.heads = heads});
}

exitlm_model *tiny_load(const exitlm_heads *heads) {
    size_t n;
    uint8_t *bytes = tiny_read("tests/data/tiny.gguf", &n);
    exitlm_model *model = tiny_load_bytes(bytes, n, heads);
    free(bytes);
    return model;
}

static uint64_t state;
static float noise(void) { /* sum of uniforms: about normal, standard deviation 1 */
    float sum = 0;
    for (int i = 0; i < 12; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(state >> 40) * 0x1p-24f;
    }
    return sum - 6;
}

static float *noises(size_t n, float scale, float base) {
    if (n > SIZE_MAX / 2 / sizeof(float)) abort();
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = base + scale * noise();
    return x;
}

enum { HIDDEN = 32 }; /* of an MLP */

static void fill_head(xl_head_source *head, const xl_config *c, uint32_t layer, uint32_t rows,
                      xl_head_form inner, float **maps) {
    *head = (xl_head_source){.layer = layer,
                             .rows = rows,
                             .form = layer == c->n_layers ? XL_FORM_VOCABULARY : inner,
                             .logistic = {0.5f, -1, 0.5f, 2, -1, 0.3f},
                             .sampling_scale = inner == XL_FORM_MLP ? 0.7f : 1};
    head->other = noises(c->dim + 1, 0.02f, 0);
    if (head->form == XL_FORM_VOCABULARY) return;
    head->norm = noises(c->dim, 0.02f, 0.2f); /* flat enough that no check is certain */
    if (inner == XL_FORM_MLP) {
        head->hidden = HIDDEN;
        head->up = noises((size_t)HIDDEN * c->dim, 0.05f, 0);
        head->down = noises((size_t)c->dim * HIDDEN, 0.05f, 0);
    } else head->map = noises((size_t)c->dim * c->dim, 0.02f, 0);
    head->bias = noises(rows, 0.1f, 0);
    for (uint32_t l = 0; l < 2 * (c->n_layers - layer); l++)
        maps[l] = noises((size_t)c->kv_dim * c->dim, 0.05f, 0);
    head->map_k = (const float *const *)maps;
    head->map_v = (const float *const *)(maps + (c->n_layers - layer));
}

static void free_head(xl_head_source *head, uint32_t n_layers) {
    free((void *)(uintptr_t)head->other);
    free((void *)(uintptr_t)head->norm);
    free((void *)(uintptr_t)head->map);
    free((void *)(uintptr_t)head->up);
    free((void *)(uintptr_t)head->down);
    free((void *)(uintptr_t)head->bias);
    for (uint32_t l = 0; head->map_k && l < n_layers - head->layer; l++) {
        free((void *)(uintptr_t)head->map_k[l]);
        free((void *)(uintptr_t)head->map_v[l]);
    }
}

static void write_heads(const exitlm_model *model, const uint32_t *layers, uint32_t n,
                        uint32_t rows, uint64_t seed, xl_head_form inner, xl_buffer *out) {
    const xl_config *c = &model->config;
    float *maps[EXITLM_MAX_HEADS][2 * 64];
    int32_t *shortlist = malloc(rows * sizeof *shortlist);
    const bool mixed = inner != XL_FORM_TIED;
    exitlm_level levels[2] = {{.strategy = EXITLM_STRATEGY_RISK,
                               .kv = EXITLM_POLICY_EXACT,
                               .accuracy = 0.95f,
                               .certified = true,
                               .delta = 0.05f,
                               .bound = 0.05f,
                               .conversations = 1,
                               .tokens = 1}};
    xl_heads_source source = {.fingerprint = model->fingerprint,
                              .base_name = "tiny",
                              .licence = "MIT",
                              .data = "noise",
                              .n_layers = c->n_layers,
                              .dim = c->dim,
                              .kv_dim = c->kv_dim,
                              .vocab = c->vocab,
                              .n_heads = n,
                              .n_shortlist = rows,
                              .shortlist = shortlist,
                              .metric = mixed ? EXITLM_METRIC_LOGISTIC : EXITLM_METRIC_MARGIN,
                              .kv = EXITLM_POLICY_EXACT,
                              .n_levels = mixed ? 2 : 1,
                              .levels = levels,
                              .matrix_type = XL_Q8_0};
    state = seed;
    /* 7 and the vocabulary share no factor */
    for (uint32_t i = 0; i < rows; i++) shortlist[i] = (int32_t)((i * 7u + 3u) % c->vocab);
    for (uint32_t i = 0; i < n; i++) {
        const bool goes_on = i + 1 < n && layers[i + 1] == layers[i];
        fill_head(&source.head[i], c, layers[i], goes_on ? rows / 2 : rows, inner, maps[i]);
        levels[0].threshold[i] = 0.9f;
        levels[0].coverage[i] = mixed ? 0.3f : 0;
    }
    levels[1] = levels[0];
    levels[1].kv = EXITLM_POLICY_MAPS;
    levels[1].first_threshold = 0.4f;
    xl_buffer_init(out, &xl_libc_allocator);
    CHECK_OK(xl_heads_write(&source, out, &error_));
    for (uint32_t i = 0; i < n; i++) free_head(&source.head[i], c->n_layers);
    free(shortlist);
}

void tiny_heads_file(const exitlm_model *model, const uint32_t *layers, uint32_t n, uint32_t rows,
                     uint64_t seed, xl_buffer *out) {
    write_heads(model, layers, n, rows, seed, XL_FORM_TIED, out);
}

static exitlm_heads *read_heads(xl_buffer *file) {
    exitlm_heads *heads;
    CHECK_OK(exitlm_heads_create(&heads, file->data, file->n_bytes, NULL, &error_));
    xl_buffer_free(file);
    return heads;
}

exitlm_heads *tiny_heads(const exitlm_model *model, const uint32_t *layers, uint32_t n,
                         uint32_t rows, uint64_t seed) {
    xl_buffer file;
    write_heads(model, layers, n, rows, seed, XL_FORM_TIED, &file);
    return read_heads(&file);
}

exitlm_heads *tiny_mixed_heads(const exitlm_model *model, const uint32_t *layers, uint32_t n,
                               uint32_t rows, uint64_t seed) {
    xl_buffer file;
    write_heads(model, layers, n, rows, seed, XL_FORM_MLP, &file);
    return read_heads(&file);
}

exitlm_session *tiny_session(const exitlm_model *model, const exitlm_session_options *options) {
    exitlm_session *s;
    CHECK_OK(exitlm_session_create(&s, model, options, &error_));
    return s;
}

/* What holds of every reply. */
static void check_reply(const exitlm_session *s, const tiny_reply *reply) {
    const exitlm_stats *stats = &reply->stats;
    uint32_t counted = stats->full_tokens + stats->forced_tokens;
    for (int i = 0; i < EXITLM_MAX_HEADS; i++) counted += stats->exits[i];
    const bool full = s->generation->options.mode == EXITLM_MODE_FULL;
    const bool sums = counted == stats->completion_tokens && reply->n == counted;
    const bool means =
        stats->mean_depth >= 0 && stats->mean_depth <= 1 && (!full || stats->mean_work <= 1 + 1e-6);
    if (sums && means && xl_stair_check(&s->stair)) return;
    fprintf(stderr,
            "%u tokens, %u counted, %u told; mean depth %g, mean work %g; the stair is %s\n",
            stats->completion_tokens, counted, reply->n, stats->mean_depth, stats->mean_work,
            xl_stair_check(&s->stair) ? "one" : "none");
    exit(1);
}

bool tiny_take(exitlm_session *s, const exitlm_event *event, tiny_reply *reply) {
    const exitlm_token *token = &event->token;
    if (event->type == EXITLM_EVENT_DONE) {
        reply->stats = event->stats;
        memcpy(reply->whole, event->stats.text, event->stats.text_bytes);
        reply->stats.text = reply->whole;
        check_reply(s, reply);
        return true;
    }
    if (event->type != EXITLM_EVENT_TOKEN) return false;
    if (reply->n == 512 || reply->text_bytes + token->text_bytes >= sizeof reply->text ||
        token->index != reply->n) {
        fprintf(stderr, "token %u at %u\n", token->index, reply->n);
        exit(1);
    }
    reply->ids[reply->n] = token->id;
    reply->heads[reply->n] = token->head;
    reply->layers[reply->n] = (uint16_t)token->layer;
    reply->disagreed += token->disagreed;
    reply->work[reply->n++] = token->work;
    memcpy(reply->text + reply->text_bytes, token->text, token->text_bytes);
    reply->text_bytes += token->text_bytes;
    return false;
}

void tiny_run(exitlm_session *s, tiny_reply *reply) {
    exitlm_event event;
    memset(reply, 0, sizeof *reply);
    do CHECK_OK(exitlm_session_step(s, &event, &error_));
    while (!tiny_take(s, &event, reply));
}
