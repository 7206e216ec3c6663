/* Heads files: what is written is read back; every damage is an error; calibration is replaced,
 * tensors are not. */
#include "counting.h"
#include "model/heads.h"
#include "random_model.h"

#include <math.h>
#include <string.h>

enum {
    DIM = 64,
    KV = 32,
    VOCAB = 500,
    LAYERS = 6,
    HIDDEN = 96,
    ROWS = 40,
    SHORT = 48,
    N_HEADS = 5
};
static const char fingerprint[] =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static uint64_t state = 5;
static float random_float(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(state >> 40) * 0x1p-23 - 1);
}

static float *floats(size_t n) {
    float *x = calloc(n, sizeof *x);
    CHECK(x);
    for (size_t i = 0; i < n; i++) x[i] = random_float();
    return x;
}

/* One head of each form. The arrays live as long as the test. */
typedef struct fixture {
    float *norm, *map, *up, *down, *full, *bias, *full_bias, *other, *kv[2][LAYERS],
        *kv_bias[2][LAYERS];
    int32_t shortlist[SHORT];
    exitlm_level levels[4];
    xl_heads_source source;
} fixture;

static void fill(fixture *f) {
    *f = (fixture){.norm = floats(DIM),
                   .map = floats(DIM * DIM),
                   .up = floats(HIDDEN * DIM),
                   .down = floats(DIM * HIDDEN),
                   .full = floats(VOCAB * DIM),
                   .bias = floats(ROWS),
                   .full_bias = floats(VOCAB),
                   .other = floats(DIM + 1)};
    for (int v = 0; v < 2; v++)
        for (int l = 0; l < LAYERS; l++)
            f->kv[v][l] = floats(KV * DIM), f->kv_bias[v][l] = floats(KV);
    for (int i = 0; i < SHORT; i++) f->shortlist[i] = (i * 31 + 7) % VOCAB;
    f->levels[0] = (exitlm_level){EXITLM_STRATEGY_RISK,
                                  0.9f,
                                  true,
                                  0.05f,
                                  0.09f,
                                  {0.1f, 0.2f, 0, 0.4f, 2},
                                  {0.25f, 0, 0, 0, 1},
                                  0.93f,
                                  0.88f,
                                  600,
                                  12345,
                                  EXITLM_POLICY_EXACT,
                                  0.01f,
                                  0.02f,
                                  0.03f,
                                  EXITLM_KV_Q8,
                                  0,
                                  XL_CALIBRATED_TOKENS,
                                  0.75f};
    f->levels[1] = (exitlm_level){EXITLM_STRATEGY_RISK,
                                  0.95f,
                                  true,
                                  0.05f,
                                  0.04f,
                                  {0.05f, 0.1f, 0, 0.2f, 1},
                                  {0.125f},
                                  0.96f,
                                  NAN,
                                  600,
                                  12346,
                                  EXITLM_POLICY_EXACT,
                                  1,
                                  1,
                                  1,
                                  EXITLM_KV_Q8,
                                  0,
                                  0,
                                  0};
    f->levels[2] = (exitlm_level){.strategy = EXITLM_STRATEGY_RISK,
                                  .accuracy = 0.99f,
                                  .delta = 0.05f,
                                  .bound = 1,
                                  .kv_type = EXITLM_KV_Q8,
                                  .kv = EXITLM_POLICY_EXACT};
    f->levels[3] = (exitlm_level){.strategy = EXITLM_STRATEGY_RISK,
                                  .accuracy = 0.6f,
                                  .certified = true,
                                  .threshold = {0.3f},
                                  .kv_type = EXITLM_KV_Q8,
                                  .kv = EXITLM_POLICY_MAPS};
    f->source = (xl_heads_source){.fingerprint = fingerprint,
                                  .base_name = "base",
                                  .licence = "mit",
                                  .data = "a line on the data",
                                  .n_layers = LAYERS,
                                  .dim = DIM,
                                  .kv_dim = KV,
                                  .vocab = VOCAB,
                                  .n_heads = N_HEADS,
                                  .n_shortlist = SHORT,
                                  .shortlist = f->shortlist,
                                  .metric = EXITLM_METRIC_MARGIN,
                                  .kv = EXITLM_POLICY_EXACT,
                                  .kv_type = EXITLM_KV_Q8,
                                  .n_levels = 4,
                                  .levels = f->levels,
                                  .matrix_type = XL_F32};
    xl_head_source *h = f->source.head;
    h[0] = (xl_head_source){.layer = 2,
                            .form = XL_FORM_TIED,
                            .rows = ROWS,
                            .norm = f->norm,
                            .map = f->map,
                            .bias = f->bias,
                            .other = f->other};
    h[1] = (xl_head_source){.layer = 3,
                            .form = XL_FORM_MLP,
                            .rows = SHORT,
                            .hidden = HIDDEN,
                            .norm = f->norm,
                            .up = f->up,
                            .down = f->down};
    h[2] = (xl_head_source){
        .layer = 4, .form = XL_FORM_FULL, .norm = f->norm, .output = f->full, .bias = f->full_bias};
    h[3] = (xl_head_source){.layer = 5, .form = XL_FORM_LENS, .rows = 1};
    h[4] =
        (xl_head_source){.layer = 6, .form = XL_FORM_VOCABULARY, .rows = SHORT, .other = f->other};
    h[0].map_k = (const float *const *)f->kv[0], h[0].map_v = (const float *const *)f->kv[1];
    h[0].map_k_bias = (const float *const *)f->kv_bias[0],
    h[0].map_v_bias = (const float *const *)f->kv_bias[1];
    for (int i = 0; i < N_HEADS; i++)
        for (int j = 0; j < 6; j++) h[i].logistic[j] = random_float();
}

static void empty(fixture *f) {
    float *all[] = {f->norm, f->map, f->up, f->down, f->full, f->bias, f->full_bias, f->other};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    for (int v = 0; v < 2; v++)
        for (int l = 0; l < LAYERS; l++) free(f->kv[v][l]), free(f->kv_bias[v][l]);
}

static xl_buffer new_buffer(void) {
    xl_buffer b;
    xl_buffer_init(&b, &xl_libc_allocator);
    return b;
}

static void good(exitlm_status status, const exitlm_error *error) {
    if (status == EXITLM_OK) return;
    fprintf(stderr, "%s: %s\n", exitlm_status_name(status), error->message);
    exit(1);
}

static xl_buffer written(const xl_heads_source *source) {
    xl_buffer b = new_buffer();
    exitlm_error error;
    good(xl_heads_write(source, &b, &error), &error);
    return b;
}

static exitlm_heads *read_back(const xl_buffer *file) {
    exitlm_heads *heads;
    exitlm_error error;
    good(exitlm_heads_create(&heads, file->data, file->n_bytes, NULL, &error), &error);
    return heads;
}

static void same_matrix(const xl_matrix *m, const float *expected, uint32_t rows, uint32_t cols,
                        float tolerance) {
    float row[1024];
    CHECK(m->data && m->rows == rows && m->cols == cols);
    for (uint32_t r = 0; r < rows; r++) {
        xl_dequant_row(m->type, m->data, cols, r, row);
        for (uint32_t c = 0; c < cols; c++)
            CHECK(fabsf(row[c] - expected[r * cols + c]) <= tolerance);
    }
}

/* ---- Tests --------------------------------------------------------------------------------- */
static void test_round_trip(fixture *f) {
    static const struct {
        xl_type type;
        float tolerance;
    } types[] = {{XL_F32, 0}, {XL_F16, 0.0005f}, {XL_Q8_0, 0.005f}};
    for (size_t t = 0; t < 3; t++) {
        f->source.matrix_type = types[t].type;
        xl_buffer file = written(&f->source);
        exitlm_heads *h = read_back(&file);
        float tolerance = types[t].tolerance;
        CHECK(h->n_heads == N_HEADS && h->dim == DIM && h->kv_dim == KV && h->n_layers == LAYERS &&
              h->vocab == VOCAB);
        CHECK(strcmp(h->fingerprint, fingerprint) == 0 && h->metric == EXITLM_METRIC_MARGIN &&
              h->kv == EXITLM_POLICY_EXACT && h->kv_type == EXITLM_KV_Q8);
        CHECK(h->n_shortlist == SHORT &&
              memcmp(h->shortlist, f->shortlist, sizeof f->shortlist) == 0);
        CHECK(memcmp(h->head[0].norm, f->norm, DIM * 4) == 0 &&
              memcmp(h->head[0].bias, f->bias, ROWS * 4) == 0);
        CHECK(memcmp(h->head[0].other, f->other, (DIM + 1) * 4) == 0 &&
              memcmp(h->head[2].bias, f->full_bias, VOCAB * 4) == 0);
        same_matrix(&h->head[0].map, f->map, DIM, DIM, tolerance);
        same_matrix(&h->head[1].up, f->up, HIDDEN, DIM, tolerance);
        same_matrix(&h->head[1].down, f->down, DIM, HIDDEN, tolerance);
        same_matrix(&h->head[2].output, f->full, VOCAB, DIM, tolerance);
        for (int l = 0; l < 4; l++) {
            same_matrix(&h->head[0].map_k[l], f->kv[0][l], KV, DIM, tolerance);
            same_matrix(&h->head[0].map_v[l], f->kv[1][l], KV, DIM, tolerance);
            CHECK(memcmp(h->head[0].map_v_bias[l], f->kv_bias[1][l], KV * 4) == 0);
        }
        CHECK(!h->head[1].map_k && !h->head[3].norm && !h->head[4].norm && !h->head[1].other &&
              h->head[2].rows == VOCAB);
        exitlm_heads_info info;
        exitlm_heads_describe(h, &info);
        CHECK(info.n_heads == N_HEADS && strcmp(info.head[1].form, "mlp") == 0 &&
              info.head[3].layer == 5 && info.head[4].rows == SHORT);
        CHECK(strcmp(info.licence, "mit") == 0 && strcmp(info.data, "a line on the data") == 0 &&
              strcmp(info.engine_version, EXITLM_VERSION) == 0);
        CHECK(info.head[0].macs == DIM * DIM + ROWS * DIM + DIM &&
              info.head[1].macs == 2 * HIDDEN * DIM + SHORT * DIM);
        exitlm_heads_free(h);
        xl_buffer_free(&file);
    }
    f->source.matrix_type = XL_F32;
}

static void test_levels(fixture *f) {
    xl_buffer file = written(&f->source);
    exitlm_heads *h = read_back(&file);
    exitlm_level level;
    exitlm_error error;
    CHECK(exitlm_heads_levels(h) == 4);
    good(exitlm_heads_level(h, 0, &level, &error), &error);
    CHECK(level.accuracy == 0.9f && level.certified && level.bound == 0.09f &&
          level.threshold[3] == 0.4f && level.coverage[0] == 0.25f);
    CHECK(level.conversations == 600 && level.tokens == 12345 && level.agreement_exited == 0.88f);
    CHECK(level.regret == 0.01f && level.regret_bound == 0.02f && level.unwanted == 0.03f &&
          level.first_threshold == 0.75f);
    good(exitlm_heads_level(h, 1, &level, &error), &error);
    CHECK(level.agreement_exited == 0); /* was not a number */
    CHECK(exitlm_heads_level(h, 4, &level, &error) == EXITLM_USAGE);
    CHECK(level.kv == EXITLM_POLICY_EXACT);
    const exitlm_strategy risk = EXITLM_STRATEGY_RISK;
    const exitlm_kv_policy exact = EXITLM_POLICY_EXACT, maps = EXITLM_POLICY_MAPS;
    CHECK(level.kv_type == EXITLM_KV_Q8 && level.temperature == 0 &&
          level.max_tokens == XL_CALIBRATED_TOKENS);
    const xl_use use = {EXITLM_KV_Q8, 0, 96};
    CHECK(xl_heads_row(h, risk, 0.9f, exact, &use) == &h->levels[0]);
    CHECK(xl_heads_row(h, risk, 0.7f, exact, &use) == &h->levels[0]);
    /* the stricter of two neighbours */
    CHECK(xl_heads_row(h, risk, 0.92f, exact, &use) == &h->levels[1]);
    /* 0.99 is not certified */
    CHECK(!xl_heads_row(h, risk, 0.96f, exact, &use));
    CHECK(!xl_heads_row(h, EXITLM_STRATEGY_PLATT, 0.6f, exact, &use));
    /* a policy with a row of its own; one without is not served another's */
    CHECK(xl_heads_row(h, risk, 0.6f, maps, &use) == &h->levels[3]);
    CHECK(!xl_heads_row(h, risk, 0.9f, maps, &use));
    CHECK(!xl_heads_row(h, risk, 0.9f, EXITLM_POLICY_PROPAGATE, &use));
    exitlm_heads_free(h);
    xl_buffer_free(&file);
}

/* Which row of the fixture's with further ones (test_uses) serves a use; -1: none. *misfit: of it. */
static int row_for(const exitlm_heads *h, float accuracy, xl_use use, unsigned *misfit) {
    const exitlm_level *row =
        xl_heads_row(h, EXITLM_STRATEGY_RISK, accuracy, EXITLM_POLICY_EXACT, &use);
    *misfit = row ? xl_level_misfit(row, &use) : 0;
    return row ? (int)(row - h->levels) : -1;
}

/* Rows for other replies: kept where the first programs do not see them, and picked by what a reply
 * is. */
static void test_uses(fixture *f) {
    exitlm_level levels[8];
    memcpy(levels, f->levels, sizeof f->levels);
    for (int i = 4; i < 8; i++) levels[i] = f->levels[0]; /* .90, q8, greedy, 96 tokens */
    levels[4].kv_type = EXITLM_KV_F16;
    levels[5].temperature = 0.7f;
    levels[6].max_tokens = 384, levels[6].accuracy = 0.97f;
    levels[7].kv_type = EXITLM_KV_F16, levels[7].max_tokens = 192;
    f->source.n_levels = 8, f->source.levels = levels;
    xl_buffer file = written(&f->source), again = new_buffer();
    f->source.n_levels = 4, f->source.levels = f->levels;

    xl_gguf gguf;
    exitlm_error error;
    size_t used;
    uint32_t first, further;
    xl_gguf_init(&gguf, &xl_libc_allocator);
    good(xl_gguf_push(&gguf, file.data, file.n_bytes, &used, &error), &error);
    CHECK(xl_gguf_get_u32(&gguf, "exitlm.levels.count", &first) && first == 4);
    CHECK(xl_gguf_get_u32(&gguf, "exitlm.further.count", &further) && further == 4);
    CHECK(!xl_gguf_find(&gguf, "exitlm.levels.kv_type"));
    xl_gguf_free(&gguf);

    exitlm_heads *h = read_back(&file);
    CHECK(h->n_levels == 8);
    for (int i = 4; i < 8; i++)
        CHECK(h->levels[i].kv_type == levels[i].kv_type &&
              h->levels[i].temperature == levels[i].temperature &&
              h->levels[i].max_tokens == levels[i].max_tokens &&
              h->levels[i].threshold[3] == 0.4f && h->levels[i].unwanted == 0.03f);
    unsigned misfit;
    const exitlm_kv_type q8 = EXITLM_KV_Q8, f16 = EXITLM_KV_F16, f32 = EXITLM_KV_F32;
    CHECK(row_for(h, 0.9f, (xl_use){q8, 0, 96}, &misfit) == 0 && !misfit);
    CHECK(row_for(h, 0.9f, (xl_use){f16, 0, 40}, &misfit) == 4 && !misfit);
    CHECK(row_for(h, 0.9f, (xl_use){f16, 0, 97}, &misfit) == 7 && !misfit);
    CHECK(row_for(h, 0.9f, (xl_use){q8, 0.5f, 96}, &misfit) == 5 && !misfit);
    CHECK(row_for(h, 0.9f, (xl_use){q8, 0.7f, 96}, &misfit) == 5 && !misfit);
    /* a stricter level where it alone reaches so far; then the one that reaches farthest */
    CHECK(row_for(h, 0.9f, (xl_use){q8, 0, 200}, &misfit) == 6 && !misfit);
    CHECK(row_for(h, 0.9f, (xl_use){q8, 0, 2000}, &misfit) == 6 && misfit == XL_TOO_SHORT);
    CHECK(row_for(h, 0.9f, (xl_use){q8, 0.8f, 96}, &misfit) == 5 && misfit == XL_TOO_COLD);
    CHECK(row_for(h, 0.9f, (xl_use){q8, 0.7f, 97}, &misfit) == 5 && misfit == XL_TOO_SHORT);
    CHECK(row_for(h, 0.9f, (xl_use){f16, 0.7f, 96}, &misfit) == 4 && misfit == XL_TOO_COLD);
    CHECK(row_for(h, 0.9f, (xl_use){f32, 0, 96}, &misfit) >= 0 && misfit == XL_OTHER_TYPE);
    CHECK(row_for(h, 0.98f, (xl_use){q8, 0, 96}, &misfit) == -1);

    /* a copy keeps both tables, another calibration replaces both */
    good(xl_heads_with_default(file.data, file.n_bytes, 0.97f, &again, &error), &error);
    exitlm_heads *copy = read_back(&again);
    CHECK(copy->n_levels == 8 && copy->levels[6].max_tokens == 384);
    exitlm_heads_free(copy);
    xl_buffer_free(&again);
    again = new_buffer();
    const xl_heads_calibration c = {.metric = h->metric,
                                    .kv = h->kv,
                                    .kv_type = h->kv_type,
                                    .n_levels = 1,
                                    .levels = &h->levels[5]};
    good(xl_heads_rewrite(file.data, file.n_bytes, &c, &again, &error), &error);
    copy = read_back(&again);
    CHECK(copy->n_levels == 1 && copy->levels[0].temperature == 0.7f);
    exitlm_heads_free(copy);
    xl_buffer_free(&again);
    exitlm_heads_free(h);
    xl_buffer_free(&file);
}

static void test_rewrite(fixture *f) {
    xl_buffer file = written(&f->source), again = new_buffer(), third = new_buffer();
    float logistic[N_HEADS * 6];
    for (int i = 0; i < N_HEADS * 6; i++) logistic[i] = random_float();
    exitlm_level level = {.strategy = EXITLM_STRATEGY_MIDPOINT,
                          .kv = EXITLM_POLICY_EXACT,
                          .accuracy = 0.8f,
                          .certified = true,
                          .threshold = {0.5f}};
    xl_heads_calibration c = {.metric = EXITLM_METRIC_LOGISTIC,
                              .kv = EXITLM_POLICY_EXACT,
                              .kv_type = EXITLM_KV_F16,
                              .logistic = logistic,
                              .data = "other data",
                              .n_levels = 1,
                              .levels = &level};
    exitlm_error error;
    good(xl_heads_rewrite(file.data, file.n_bytes, &c, &again, &error), &error);
    exitlm_heads *h = read_back(&again);
    CHECK(h->metric == EXITLM_METRIC_LOGISTIC && h->kv == EXITLM_POLICY_EXACT &&
          h->kv_type == EXITLM_KV_F16 && h->n_levels == 1);
    CHECK(h->levels[0].strategy == EXITLM_STRATEGY_MIDPOINT && h->levels[0].threshold[0] == 0.5f &&
          strcmp(h->info.data, "other data") == 0);
    CHECK(memcmp(h->head[4].logistic, &logistic[24], 24) == 0 &&
          strcmp(h->info.licence, "mit") == 0);
    same_matrix(&h->head[2].output, f->full, VOCAB, DIM, 0);
    same_matrix(&h->head[0].map_v[3], f->kv[1][3], KV, DIM, 0);
    exitlm_heads_free(h);
    c.logistic = NULL, c.data = NULL, c.n_levels = 0; /* both stay */
    good(xl_heads_rewrite(again.data, again.n_bytes, &c, &third, &error), &error);
    h = read_back(&third);
    CHECK(h->n_levels == 0 && memcmp(h->head[4].logistic, &logistic[24], 24) == 0 &&
          strcmp(h->info.data, "other data") == 0);
    exitlm_heads_free(h);
    xl_buffer_free(&third);
    /* logistic without its weights */
    CHECK(xl_heads_rewrite(file.data, file.n_bytes, &c, &third, &error) == EXITLM_USAGE);
    CHECK(strstr(error.message, "exitlm.logistic is missing"));
    xl_buffer_free(&third);
    xl_buffer_free(&again);
    xl_buffer_free(&file);
}

/* The file names its default level; one that does not has its strictest certified level. */
static void test_default(fixture *f) {
    xl_buffer file = written(&f->source), named = new_buffer(), again = new_buffer();
    exitlm_error error;
    exitlm_heads *whole = read_back(&file);
    /* 0.99 is not certified */
    CHECK(whole->info.default_accuracy == 0.95f && whole->default_accuracy == 0);
    good(xl_heads_with_default(file.data, file.n_bytes, 0.9f, &named, &error), &error);
    exitlm_heads *h = read_back(&named);
    CHECK(h->info.default_accuracy == 0.9f && h->n_levels == whole->n_levels &&
          strcmp(h->info.data, whole->info.data) == 0);
    CHECK(memcmp(h->levels, whole->levels, h->n_levels * sizeof *h->levels) == 0);
    same_matrix(&h->head[2].output, f->full, VOCAB, DIM, 0);
    same_matrix(&h->head[0].map_k[1], f->kv[0][1], KV, DIM, 0);
    exitlm_heads_free(h);
    /* in place of the other */
    good(xl_heads_with_default(named.data, named.n_bytes, 0.95f, &again, &error), &error);
    h = read_back(&again);
    CHECK(h->default_accuracy == 0.95f && again.n_bytes == named.n_bytes);
    exitlm_heads_free(h);
    xl_buffer_free(&again);
    xl_heads_calibration c = {.metric = EXITLM_METRIC_MARGIN,
                              .kv = EXITLM_POLICY_EXACT,
                              .n_levels = 1,
                              .levels = f->levels};
    /* another calibration keeps it */
    good(xl_heads_rewrite(named.data, named.n_bytes, &c, &again, &error), &error);
    h = read_back(&again);
    CHECK(h->info.default_accuracy == 0.9f && h->n_levels == 1);
    exitlm_heads_free(h);
    xl_buffer_free(&again);
    static const float bad[] = {0.99f, 0.7f, 0, NAN};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(xl_heads_with_default(file.data, file.n_bytes, bad[i], &again, &error) ==
                  EXITLM_USAGE &&
              strstr(error.message, "no certified level"));
        CHECK(again.n_bytes == 0);
    }
    f->source.n_levels = 0; /* without a table nothing exits */
    xl_buffer bare = written(&f->source);
    h = read_back(&bare);
    CHECK(h->info.default_accuracy == 1);
    f->source.n_levels = 4;
    const char *key = "exitlm.default_accuracy";
    uint8_t *at = NULL;
    for (size_t i = 0; i + strlen(key) < named.n_bytes && !at; i++)
        if (memcmp(named.data + i, key, strlen(key)) == 0) at = named.data + i + strlen(key);
    CHECK(at);
    const float wrong[] = {0.3f, 1.5f, INFINITY};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        exitlm_heads *none;
        memcpy(at + 4, &wrong[i], 4);
        CHECK(exitlm_heads_create(&none, named.data, named.n_bytes, NULL, &error) ==
                  EXITLM_BAD_MODEL &&
              strstr(error.message, key));
    }
    exitlm_heads_free(h);
    exitlm_heads_free(whole);
    xl_buffer_free(&bare);
    xl_buffer_free(&named);
    xl_buffer_free(&file);
}

static void test_without_maps(fixture *f) {
    xl_buffer file = written(&f->source), core = new_buffer(), again = new_buffer();
    exitlm_error error;
    good(xl_heads_without_maps(file.data, file.n_bytes, &core, &error), &error);
    exitlm_heads *whole = read_back(&file), *h = read_back(&core);
    CHECK(core.n_bytes < file.n_bytes && whole->head[0].map_k && !h->head[0].map_k &&
          !h->head[0].map_v);
    CHECK(h->n_heads == whole->n_heads && h->n_levels == whole->n_levels &&
          h->n_shortlist == whole->n_shortlist);
    CHECK(strcmp(h->fingerprint, whole->fingerprint) == 0 &&
          strcmp(h->info.licence, whole->info.licence) == 0);
    same_matrix(&h->head[2].output, f->full, VOCAB, DIM, 0);
    /* nothing more to leave out */
    good(xl_heads_without_maps(core.data, core.n_bytes, &again, &error), &error);
    CHECK(again.n_bytes == core.n_bytes && memcmp(again.data, core.data, core.n_bytes) == 0);
    exitlm_heads_free(whole);
    exitlm_heads_free(h);
    xl_buffer_free(&again);
    CHECK(xl_heads_without_maps(file.data, 100, &again, &error) != EXITLM_OK);
    xl_buffer_free(&again);
    xl_buffer_free(&core);
    xl_buffer_free(&file);
}

/* What the writer refuses. */
static void refuse(const xl_heads_source *source, const char *part_of_message) {
    xl_buffer b = new_buffer();
    exitlm_error error;
    CHECK(xl_heads_write(source, &b, &error) == EXITLM_USAGE && error.status == EXITLM_USAGE);
    if (!strstr(error.message, part_of_message)) {
        fprintf(stderr, "wanted \"%s\", got: %s\n", part_of_message, error.message);
        exit(1);
    }
    xl_buffer_free(&b);
}

/* Maps that come after the rest of the file. */
static void test_add_maps(fixture *f) {
    xl_heads_source source = f->source;
    for (int i = 1; i < N_HEADS - 1; i++) {
        source.head[i].map_k = (const float *const *)f->kv[0] + i,
        source.head[i].map_v = (const float *const *)f->kv[1] + i;
        source.head[i].map_k_bias = (const float *const *)f->kv_bias[0] + i,
        source.head[i].map_v_bias = (const float *const *)f->kv_bias[1] + i;
    }
    xl_buffer file = written(&source), core = new_buffer(), few = written(&f->source);
    exitlm_error error;
    good(xl_heads_without_maps(file.data, file.n_bytes, &core, &error), &error);
    exitlm_heads *h = read_back(&core), *whole = read_back(&file);
    CHECK(!exitlm_heads_have_maps(h) && exitlm_heads_have_maps(whole));
    CHECK(exitlm_heads_add_maps(NULL, file.data, file.n_bytes, &error) == EXITLM_USAGE);
    CHECK(exitlm_heads_add_maps(h, file.data, 100, &error) != EXITLM_OK && !h->head[0].map_k);
    CHECK(exitlm_heads_add_maps(h, few.data, few.n_bytes, &error) == EXITLM_USAGE &&
          strstr(error.message, "no K/V maps"));
    source.head[0].rows--;
    xl_buffer other = written(&source);
    CHECK(exitlm_heads_add_maps(h, other.data, other.n_bytes, &error) == EXITLM_HEADS_MISMATCH &&
          !h->head[0].map_k);
    good(exitlm_heads_add_maps(h, file.data, file.n_bytes, &error), &error);
    CHECK(exitlm_heads_have_maps(h));
    same_matrix(&h->head[0].map_v[3], f->kv[1][3], KV, DIM, 0);
    same_matrix(&h->head[3].map_k[0], f->kv[0][3], KV, DIM, 0);
    /* they are there: nothing to do */
    good(exitlm_heads_add_maps(h, other.data, other.n_bytes, &error), &error);
    exitlm_heads_free(whole);
    exitlm_heads_free(h);
    xl_buffer_free(&other);
    xl_buffer_free(&few);
    xl_buffer_free(&core);
    xl_buffer_free(&file);
}

static void test_sampling_scale(fixture *f) {
    xl_heads_source source = f->source;
    source.head[1].sampling_scale = 0.75f;
    xl_buffer file = written(&source), plain = written(&f->source);
    exitlm_heads *h = read_back(&file), *without = read_back(&plain);
    CHECK(h->head[1].sampling_scale == 0.75f && h->head[0].sampling_scale == 1 &&
          without->head[1].sampling_scale == 1);
    exitlm_heads_free(without);
    exitlm_heads_free(h);
    xl_buffer_free(&plain);
    xl_buffer_free(&file);
    source.head[1].sampling_scale = 1.5f;
    refuse(&source, "exitlm.sampling_scale");
}

/* Vocabulary exits alone may follow each other after the last layer, with more rows each; the first
 * programs are told by the version that they do not know such files. */
static void test_two_vocabulary_exits(fixture *f) {
    xl_heads_source s = f->source;
    s.head[3] = s.head[4];
    s.head[3].rows = SHORT / 2;
    s.head[3].layer = 6;
    xl_buffer file = written(&s);
    exitlm_heads *h = read_back(&file);
    CHECK(h->n_heads == N_HEADS && h->head[3].layer == 6 && h->head[4].layer == 6 &&
          h->head[3].rows == SHORT / 2 && h->head[4].rows == SHORT && h->head[3].other);
    exitlm_heads_free(h);
    static const char key[] = "exitlm.format_version";
    uint8_t *at = file.data;
    while (memcmp(at, key, sizeof key - 1) != 0) at++;
    at += sizeof key - 1 + 4; /* behind the name, the type, then the number */
    CHECK(at[0] == 2);
    at[0] = 1;
    exitlm_error error;
    CHECK(exitlm_heads_create(&h, file.data, file.n_bytes, NULL, &error) == EXITLM_BAD_MODEL &&
          strstr(error.message, "must be ascending"));
    xl_buffer_free(&file);
    s.head[3].rows = SHORT;
    refuse(&s, "with more rows each");
    s.head[3].rows = SHORT / 2;
    s.head[3].form = XL_FORM_LENS;
    refuse(&s, "only vocabulary exits may share one");
    s = f->source, s.head[3] = s.head[4], s.head[3].rows = 2, s.head[3].layer = 5;
    refuse(&s, "vocabulary exit before the last layer");
}

static void test_refused(fixture *f) {
    xl_heads_source s = f->source;
    s.fingerprint = "short";
    refuse(&s, "out of its range");
    s = f->source, s.matrix_type = XL_Q4_0;
    refuse(&s, "out of its range");
    s = f->source, s.head[1].layer = 2;
    refuse(&s, "must be ascending");
    s = f->source, s.head[4].layer = 7;
    refuse(&s, "within the model's layers");
    s = f->source, s.head[0].form = XL_FORM_VOCABULARY;
    refuse(&s, "vocabulary exit before the last layer");
    s = f->source, s.head[0].rows = SHORT + 1, s.head[0].bias = NULL;
    refuse(&s, "must be within the shortlist");
    s = f->source, s.head[0].map = NULL;
    refuse(&s, "exit.0.map.weight is missing");
    int32_t kept = f->shortlist[5];
    s = f->source;
    f->shortlist[5] = f->shortlist[4];
    refuse(&s, "has an id twice");
    f->shortlist[5] = VOCAB;
    refuse(&s, "an id that the model does not have");
    f->shortlist[5] = kept;
    float weight = f->map[77];
    f->map[77] = INFINITY;
    refuse(&s, "not finite");
    f->map[77] = weight;
    weight = f->norm[3];
    f->norm[3] = NAN;
    refuse(&s, "not finite");
    f->norm[3] = weight;
}

static exitlm_status try_read(const uint8_t *bytes, size_t n, const exitlm_allocator *allocator,
                              exitlm_error *error) {
    exitlm_heads *heads;
    *error = (exitlm_error){0};
    exitlm_status status = exitlm_heads_create(&heads, bytes, n, allocator, error);
    CHECK((status == EXITLM_OK) == (heads != NULL) &&
          (status == EXITLM_OK) == (error->message[0] == 0));
    exitlm_heads_free(heads);
    return status;
}

/* Cut at every header byte and through every tensor; every header byte damaged. */
static void test_damaged(fixture *f) {
    xl_buffer file = written(&f->source);
    exitlm_error error;
    xl_gguf g;
    size_t used, good_loads = 0;
    xl_gguf_init(&g, &xl_libc_allocator);
    CHECK(xl_gguf_push(&g, file.data, file.n_bytes, &used, NULL) == EXITLM_OK && g.done);
    for (size_t n = 0; n < g.total_bytes; n += n < g.data_offset ? 1 : 997) {
        uint8_t *exact = malloc(n ? n : 1); /* so that a step too far is seen */
        CHECK(exact);
        memcpy(exact, file.data, n);
        CHECK(try_read(exact, n, NULL, &error) == EXITLM_BAD_MODEL &&
              (n == 0 || strstr(error.message, "truncated")));
        free(exact);
    }
    for (size_t at = 0; at < g.data_offset; at++)
        for (int bit = 0; bit < 8; bit += 7) {
            counting c;
            counting_init(&c);
            file.data[at] ^= (uint8_t)(1u << bit);
            exitlm_status status = try_read(file.data, file.n_bytes, &c.allocator, &error);
            CHECK(status == EXITLM_OK || status == EXITLM_BAD_MODEL ||
                  status == EXITLM_UNSUPPORTED);
            CHECK(c.blocks == 0 && !c.wrong_size && c.peak_bytes < 8 * file.n_bytes);
            good_loads += status == EXITLM_OK;
            file.data[at] ^= (uint8_t)(1u << bit);
        }
    CHECK(good_loads > 0 && good_loads < g.data_offset);
    /* The first number of each tensor, or the scale of its first block: none. */
    for (uint32_t i = 0; i < g.n_tensors; i++) {
        uint8_t *first = file.data + g.tensors[i].offset, kept[4];
        memcpy(kept, first, sizeof kept);
        memset(first, 0xff, sizeof kept);
        CHECK(try_read(file.data, file.n_bytes, NULL, &error) == EXITLM_BAD_MODEL &&
              strstr(error.message, "not finite"));
        memcpy(first, kept, sizeof kept);
    }
    CHECK(try_read(file.data, file.n_bytes, NULL, &error) == EXITLM_OK);
    xl_gguf_free(&g);
    xl_buffer_free(&file);
}

static void test_no_memory(fixture *f) {
    xl_buffer file = written(&f->source);
    exitlm_error error;
    exitlm_status status = EXITLM_OUT_OF_MEMORY;
    for (size_t i = 1; status != EXITLM_OK; i++) {
        counting c;
        counting_init(&c);
        c.fail_at = i;
        status = try_read(file.data, file.n_bytes, &c.allocator, &error);
        CHECK((status == EXITLM_OK || status == EXITLM_OUT_OF_MEMORY) && c.blocks == 0 &&
              !c.wrong_size);
    }
    status = EXITLM_OUT_OF_MEMORY;
    for (size_t i = 1; status != EXITLM_OK; i++) {
        counting c;
        xl_buffer b;
        counting_init(&c);
        c.fail_at = i;
        c.fail_once = i & 1;
        xl_buffer_init(&b, &c.allocator);
        status = xl_heads_write(&f->source, &b, &error);
        CHECK(status == EXITLM_OK || status == EXITLM_OUT_OF_MEMORY);
        xl_buffer_free(&b);
        CHECK(c.blocks == 0 && !c.wrong_size);
    }
    xl_buffer_free(&file);
}

static void test_other_files(void) {
    exitlm_error error;
    random_model m;
    random_model_defaults(&m);
    xl_buffer model = new_buffer();
    CHECK(random_model_write(&m, &model));
    CHECK(try_read(model.data, model.n_bytes, NULL, &error) == EXITLM_BAD_MODEL &&
          strstr(error.message, "no file of exit heads"));
    CHECK(try_read((const uint8_t *)"<html>", 6, NULL, &error) == EXITLM_BAD_MODEL &&
          strstr(error.message, "HTML"));
    xl_gguf_writer w;
    xl_buffer b = new_buffer();
    xl_gguf_writer_init(&w, &xl_libc_allocator);
    xl_gguf_put_cstring(&w, "general.architecture", "exitlm");
    xl_gguf_put_u32(&w, "exitlm.format_version", 3);
    CHECK(xl_gguf_writer_header(&w, &b, &error) == EXITLM_OK);
    CHECK(try_read(b.data, b.n_bytes, NULL, &error) == EXITLM_UNSUPPORTED &&
          strstr(error.message, "format version 3"));
    xl_gguf_writer_free(&w);
    xl_buffer_free(&b);
    xl_buffer_free(&model);
}

int main(void) {
    fixture f;
    fill(&f);
    test_round_trip(&f);
    test_levels(&f);
    test_uses(&f);
    test_rewrite(&f);
    test_default(&f);
    test_without_maps(&f);
    test_add_maps(&f);
    test_sampling_scale(&f);
    test_two_vocabulary_exits(&f);
    test_refused(&f);
    test_damaged(&f);
    test_no_memory(&f);
    test_other_files();
    empty(&f);
    puts("heads: good");
    return 0;
}
