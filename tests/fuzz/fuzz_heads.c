/* libFuzzer: heads files of every form for a small random model, with changes, and what is
 * accepted is used. What must hold: no crash, no leak, a word for every failure; replies in the
 * modes exit and lossless end, with tokens of the vocabulary, and lossless says what full says. */
#include "counting.h"
#include "input.h"
#include "random_model.h"
#include "tiny.h"

#include <string.h>

enum { MERGES = 40, VOCAB = 3 + 256 + MERGES, LAYERS = 6, DIM = 64, KV_DIM = 32, LEVELS = 3 };

/* The model, loaded once without heads. */
static const xl_buffer *model_file(void) {
    static xl_buffer file;
    if (file.n_bytes) return &file;
    random_model m;
    random_model_defaults(&m);
    m.merges = MERGES;
    xl_buffer_init(&file, &xl_libc_allocator);
    EXPECT(random_model_write(&m, &file));
    return &file;
}

static const exitlm_model *plain_model(void) {
    static exitlm_model *model;
    if (!model) {
        model = tiny_load_bytes(model_file()->data, model_file()->n_bytes, NULL);
        const xl_config *c = &model->config;
        EXPECT(c->vocab == VOCAB && c->n_layers == LAYERS && c->dim == DIM && c->kv_dim == KV_DIM);
    }
    return model;
}

/* ---- A file --------------------------------------------------------------------------------- */
/* Numbers for everything: some magnitude, nearly random. */
static const float *floats(uint32_t which) {
    static float pool[4][VOCAB * DIM];
    static const float scales[4] = {0.02f, 0, 1, 1e18f};
    float *x = pool[which & 3];
    if (which % 4 != 1 && x[0] == 0)
        for (uint32_t i = 0; i < VOCAB * DIM; i++)
            x[i] = scales[which & 3] * ((float)((i + 1) * 2654435761u >> 16 & 0xffff) / 32768 - 1);
    return x;
}

static void take_head(input *in, xl_head_source *head, uint32_t layer, uint32_t n_shortlist,
                      const float **maps) {
    const uint32_t kind = take(in, 2), scale = kind >> 3 & 3;
    const float *some = floats(scale == 3 && !(kind & 0x8000) ? 0 : scale);
    head->layer = layer;
    head->form = (xl_head_form)((kind & 7) % XL_FORM_COUNT);
    if (layer == LAYERS) head->form = kind & 1 ? XL_FORM_VOCABULARY : head->form;
    head->rows = 1 + take(in, 1) % n_shortlist;
    if (kind & 0x20) head->norm = some;
    if (head->form == XL_FORM_TIED) head->map = some;
    if (head->form == XL_FORM_MLP) {
        head->hidden = 32 * (1 + (kind >> 6 & 3));
        head->up = head->down = some;
    }
    if (head->form == XL_FORM_FULL) head->output = some;
    if (kind & 0x100) head->bias = some;
    if (kind & 0x200) head->other = some + 7;
    if (kind & 0x400) head->sampling_scale = 0.4f;
    for (int i = 0; i < 6; i++) head->logistic[i] = kind & 0x800 ? some[i] * 1e3f : (float)(i - 2);
    if (!(kind & 0x1000)) return;
    for (uint32_t l = layer; l < LAYERS; l++) maps[l] = some;
    head->map_k = head->map_v = maps + layer;
    if (kind & 0x2000) head->map_k_bias = head->map_v_bias = maps + layer;
}

static bool write_heads(input *in, xl_buffer *out) {
    static const float thresholds[4] = {0, 0.5f, 0.95f, 2};
    const float *maps[EXITLM_MAX_HEADS][LAYERS];
    int32_t shortlist[VOCAB];
    exitlm_level levels[LEVELS] = {{0}};
    const uint32_t kind = take(in, 3);
    xl_heads_source s = {.fingerprint = plain_model()->fingerprint,
                         .n_layers = LAYERS,
                         .dim = DIM,
                         .kv_dim = KV_DIM,
                         .vocab = VOCAB,
                         .shortlist = shortlist,
                         .n_levels = kind & 3,
                         .levels = levels,
                         .metric = (exitlm_metric)((kind >> 2 & 7) % EXITLM_METRIC_COUNT),
                         .kv = (exitlm_kv_policy)(1 + (kind >> 5 & 3) % 3),
                         .matrix_type =
                             (xl_type[]){XL_Q8_0, XL_F16, XL_F32, XL_Q8_0}[kind >> 7 & 3],
                         .n_shortlist = 1 + (kind >> 9 & 0xff)};
    for (uint32_t i = 0; i < s.n_shortlist; i++) shortlist[i] = (int32_t)((i * 7 + 3) % VOCAB);
    for (uint32_t layer = 1; layer <= LAYERS; layer++)
        if (kind >> (16 + layer) & 1) {
            take_head(in, &s.head[s.n_heads], layer, s.n_shortlist, maps[s.n_heads]);
            s.n_heads++;
        }
    /* a second vocabulary exit, a longer one or not */
    if (kind >> 23 & 1 && s.n_heads && s.head[s.n_heads - 1].form == XL_FORM_VOCABULARY) {
        take_head(in, &s.head[s.n_heads], LAYERS, s.n_shortlist, maps[s.n_heads]);
        s.n_heads++;
    }
    for (uint32_t i = 0; i < s.n_levels; i++) {
        const uint32_t what = take(in, 2);
        levels[i] =
            (exitlm_level){.strategy = (exitlm_strategy)((what & 7) % EXITLM_STRATEGY_COUNT),
                           .accuracy = 0.6f + 0.1f * (float)(what >> 3 & 3),
                           .certified = what >> 5 & 1,
                           .kv = (exitlm_kv_policy)(1 + (what >> 6 & 3) % 3),
                           .temperature = what >> 8 & 1 ? 0.7f : 0,
                           .max_tokens = what >> 9 & 127};
        for (uint32_t h = 0; h < s.n_heads; h++)
            levels[i].threshold[h] = thresholds[take(in, 1) & 3];
    }
    return xl_heads_write(&s, out, NULL) == EXITLM_OK;
}

/* ---- Its use -------------------------------------------------------------------------------- */
static void reply(exitlm_session *s, const exitlm_generate_options *o, tiny_reply *said) {
    static const int32_t prompt[] = {60, 61, 62, 60, 61, 62, 60};
    exitlm_error error;
    const exitlm_status status = exitlm_session_start(s, prompt, 7, o, &error);
    said->n = 0;
    EXPECT(status == EXITLM_OK || (status == EXITLM_USAGE && error.message[0])); /* no maps */
    if (status != EXITLM_OK) return;
    tiny_run(s, said);
    for (uint32_t i = 0; i < said->n; i++) EXPECT(said->ids[i] >= 0 && said->ids[i] < VOCAB);
}

static void use(const exitlm_model *model, const exitlm_heads *heads, input *in) {
    static tiny_reply said, full;
    static const float thresholds[EXITLM_MAX_HEADS] = {0.9f, 2, 2, 0.5f, 2, 2, 2, 2};
    exitlm_generate_options o;
    exitlm_session *s;
    exitlm_error error;
    const uint32_t kind = take(in, 1);
    const exitlm_session_options options = {.context_tokens = 24, .heads = heads};
    const exitlm_status status = exitlm_session_create(&s, model, &options, &error);
    EXPECT(status == EXITLM_OK || (!s && status == EXITLM_HEADS_MISMATCH));
    if (!s) return;
    exitlm_generate_defaults(&o);
    o.max_tokens = 6;
    o.strategy = (exitlm_strategy)((kind & 7) % EXITLM_STRATEGY_COUNT);
    o.accuracy = kind & 8 ? 0.6f : 0;
    o.temperature = kind & 0x10 ? 0.8f : 0;
    o.logprobs = kind >> 5 & 1;
    o.top_logprobs = 5;
    o.thresholds = kind & 0x40 ? thresholds : NULL;
    reply(s, &o, &full);
    o.mode = EXITLM_MODE_EXIT;
    for (int kv = EXITLM_POLICY_AUTO; kv < EXITLM_POLICY_COUNT; kv++) {
        o.kv = (exitlm_kv_policy)kv;
        reply(s, &o, &said);
    }
    o.kv = EXITLM_POLICY_EXACT;
    o.audit = kind & 0x80 ? 1 : 0;
    reply(s, &o, &said);
    o.mode = EXITLM_MODE_LOSSLESS;
    reply(s, &o, &said);
    EXPECT(said.n == full.n && memcmp(said.ids, full.ids, said.n * sizeof *said.ids) == 0);
    exitlm_session_free(s);
}

static void describe(const exitlm_heads *heads) {
    exitlm_heads_info info;
    exitlm_level level;
    exitlm_heads_describe(heads, &info);
    EXPECT(info.n_heads > 0 && info.n_heads <= EXITLM_MAX_HEADS);
    for (size_t i = 0; i < exitlm_heads_levels(heads); i++)
        EXPECT(exitlm_heads_level(heads, i, &level, NULL) == EXITLM_OK);
}

/* Heads that the loader knows: their rows come first, and are those of the output matrix. */
static void use_known(const exitlm_heads *heads, const exitlm_allocator *allocator, input *in) {
    exitlm_loader *loader;
    exitlm_model *model;
    exitlm_error error;
    const exitlm_load_options options = {.heads = heads, .allocator = allocator};
    EXPECT(exitlm_loader_create(&loader, &options, &error) == EXITLM_OK);
    if (exitlm_loader_push(loader, model_file()->data, model_file()->n_bytes, &error) !=
            EXITLM_OK ||
        exitlm_loader_finish(loader, &model, &error) != EXITLM_OK) {
        EXPECT(error.status == EXITLM_HEADS_MISMATCH && error.message[0]);
        exitlm_loader_free(loader);
        return;
    }
    use(model, heads, in);
    exitlm_model_free(model);
}

/* Without its maps first, then with them. */
static void use_in_parts(const xl_buffer *file, const exitlm_allocator *allocator, input *in) {
    xl_buffer part;
    exitlm_heads *heads;
    exitlm_error error;
    xl_buffer_init(&part, &xl_libc_allocator);
    if (xl_heads_without_maps(file->data, file->n_bytes, &part, &error) == EXITLM_OK &&
        exitlm_heads_create(&heads, part.data, part.n_bytes, allocator, &error) == EXITLM_OK) {
        EXPECT(!exitlm_heads_have_maps(heads) || xl_heads_mapping(heads) == heads->n_heads);
        const exitlm_status status =
            exitlm_heads_add_maps(heads, file->data, file->n_bytes, &error);
        EXPECT(status == EXITLM_OK || error.message[0]);
        use(plain_model(), heads, in);
        exitlm_heads_free(heads);
    }
    xl_buffer_free(&part);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    counting memory;
    xl_buffer file;
    exitlm_heads *heads;
    exitlm_error error;
    counting_init(&memory);
    xl_buffer_init(&file, &xl_libc_allocator);
    if (write_heads(&in, &file)) {
        const uint32_t kind = take(&in, 1);
        change(&file, &in, kind & 7, kind & 8 ? 3 : 2);
        const size_t n = kind & 0x10 ? take(&in, 3) % file.n_bytes : file.n_bytes;
        uint8_t *exact = malloc(n + 1);
        EXPECT(exact);
        memcpy(exact, file.data, n);
        const exitlm_status status =
            exitlm_heads_create(&heads, exact, n, &memory.allocator, &error);
        free(exact);
        EXPECT(status == EXITLM_OK || (!heads && error.status == status && error.message[0]));
        if (heads) {
            describe(heads);
            if (kind & 0x20) use_known(heads, &memory.allocator, &in);
            else use(plain_model(), heads, &in);
            exitlm_heads_free(heads);
            if (kind & 0x40) use_in_parts(&file, &memory.allocator, &in);
        }
    }
    xl_buffer_free(&file);
    EXPECT(memory.blocks == 0 && !memory.wrong_size);
    return 0;
}
