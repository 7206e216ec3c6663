/* Replies while the model is still on its way: they wait, or say what they would say on the
 * complete model. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "random_model.h"
#include "tiny.h"

enum { PROMPT = 20, TOKENS = 14, MOST_EXTENTS = 4096 };

static uint8_t *file;
static size_t file_bytes, n_extents;
static exitlm_extent extents[MOST_EXTENTS];
static const exitlm_model *plain;
static const exitlm_heads *heads;
static int32_t prompt[PROMPT];

/* A loader that has the header alone; the plan's extents follow by push_extent. */
static exitlm_loader *header_only(const exitlm_heads *known) {
    exitlm_loader *loader;
    exitlm_load_state state = {0};
    CHECK_OK(exitlm_loader_create(&loader, &(exitlm_load_options){.heads = known}, &error_));
    for (size_t at = 0; !state.header_ready; at += 512) {
        assert(at < file_bytes);
        CHECK_OK(exitlm_loader_push(loader, file + at,
                                    file_bytes - at < 512 ? file_bytes - at : 512, &error_));
        exitlm_loader_state(loader, &state);
    }
    CHECK_OK(exitlm_loader_plan(loader, extents, MOST_EXTENTS, &n_extents, &error_));
    assert(n_extents > state.layers && n_extents <= MOST_EXTENTS);
    return loader;
}

static void push_extent(exitlm_loader *loader, size_t i) {
    CHECK_OK(exitlm_loader_seek(loader, 0, extents[i].offset, &error_));
    CHECK_OK(
        exitlm_loader_push(loader, file + extents[i].offset, (size_t)extents[i].n_bytes, &error_));
}

typedef struct given {
    int32_t id[TOKENS], head[TOKENS];
    float work[TOKENS];
    uint32_t n;
    bool done;
    exitlm_stats stats;
} given;

/* Steps until the reply is over or waits. */
static void go_on(exitlm_session *s, given *g) {
    exitlm_event event;
    exitlm_error error;
    while (!g->done) {
        const exitlm_status status = exitlm_session_step(s, &event, &error);
        assert(xl_stair_check(&s->stair));
        if (status == EXITLM_WAIT) {
            int32_t layer, row;
            exitlm_session_needs(s, &layer, &row);
            assert(layer >= 0
                       ? (uint32_t)layer >= s->run.model->layers_ready || !s->run.model->base_ready
                   : layer == -2 ? !xl_output_complete(s->run.model)
                                 : !s->run.model->row_ready[row]);
            return;
        }
        assert(status == EXITLM_OK);
        g->done = event.type == EXITLM_EVENT_DONE;
        if (g->done) g->stats = event.stats;
        if (event.type != EXITLM_EVENT_TOKEN) continue;
        g->id[g->n] = event.token.id;
        g->head[g->n] = event.token.head;
        g->work[g->n++] = event.token.work;
    }
}

static bool begins(const given *part, const given *whole) {
    return part->n <= whole->n && memcmp(part->id, whole->id, part->n * sizeof *part->id) == 0 &&
           memcmp(part->head, whole->head, part->n * sizeof *part->head) == 0 &&
           memcmp(part->work, whole->work, part->n * sizeof *part->work) == 0;
}

/* The prompt's K and V are the model's own under every policy, as in calibration. */
static void check_prompt(const exitlm_session *s) {
    for (uint32_t p = 0; p < PROMPT && p < s->stair.n; p++)
        assert(s->stair.made[p] == XL_MADE_EXACT);
}

/* One reply goes on with each extent that comes, and with each a fresh one begins. Returns the
 * tokens that were out before the last byte. */
static uint32_t load_and_reply(const exitlm_generate_options *o, const given *whole) {
    exitlm_loader *loader = header_only(heads);
    const exitlm_model *model = exitlm_loader_model(loader);
    const exitlm_session_options options = {.context_tokens = 64};
    exitlm_session *s = tiny_session(model, &options);
    given all = {0};
    uint32_t early = 0;
    CHECK_OK(exitlm_session_start(s, prompt, PROMPT, o, &error_));
    for (size_t i = 0; i < n_extents; i++) {
        go_on(s, &all);
        assert(begins(&all, whole));
        exitlm_session *fresh = tiny_session(model, &options);
        given now = {0};
        CHECK_OK(exitlm_session_start(fresh, prompt, PROMPT, o, &error_));
        go_on(fresh, &now);
        assert(now.n == all.n && begins(&now, whole));
        check_prompt(fresh);
        exitlm_session_free(fresh);
        early = all.n;
        push_extent(loader, i);
    }
    assert(model->complete);
    go_on(s, &all);
    assert(all.done && all.n == whole->n && begins(&all, whole));
    assert(all.stats.audited == whole->stats.audited &&
           all.stats.audit_disagreed == whole->stats.audit_disagreed);
    check_prompt(s);
    exitlm_session_free(s);
    exitlm_loader_free(loader);
    return early;
}

static void test_every_prefix_of_the_plan(void) {
    exitlm_model *model = tiny_load_bytes(file, file_bytes, heads);
    float bold[EXITLM_MAX_HEADS] = {0.9f, 2, 2}, mapping[EXITLM_MAX_HEADS] = {0.3f, 0.9f, 2},
          shy[EXITLM_MAX_HEADS] = {0.5f, 0.5f, 0.5f};
    const float *thresholds[] = {bold, mapping, shy};
    uint32_t early = 0;
    for (int mode = 0; mode < EXITLM_MODE_COUNT; mode++)
        for (int kv = EXITLM_POLICY_EXACT;
             kv < (mode == EXITLM_MODE_EXIT ? EXITLM_POLICY_COUNT : EXITLM_POLICY_MAPS); kv++)
            for (int t = 0; t < (mode == EXITLM_MODE_EXIT ? 4 : 1); t++) {
                exitlm_generate_options o;
                exitlm_generate_defaults(&o);
                o.mode = (exitlm_mode)mode;
                o.kv = (exitlm_kv_policy)kv;
                o.max_tokens = TOKENS;
                o.thresholds = t < 3 ? thresholds[t] : bold;
                o.audit = t == 3 && kv == EXITLM_POLICY_EXACT ? 0.7f : 0;
                given whole = {0};
                exitlm_session *s =
                    tiny_session(model, &(exitlm_session_options){.context_tokens = 64});
                CHECK_OK(exitlm_session_start(s, prompt, PROMPT, &o, &error_));
                go_on(s, &whole);
                assert(whole.done && whole.n > 0);
                exitlm_session_free(s);
                early += load_and_reply(&o, &whole);
            }
    assert(early > 0); /* after all layers and the shortlist, before the last byte */
    printf("loading: %u tokens before the last byte\n", early);
    exitlm_model_free(model);
}

/* A position that leaves early while layers above it are missing waits; with them there, it and
 * all before it are through. */
static void test_exits_of_the_staircase(void) {
    exitlm_loader *loader = header_only(heads);
    const exitlm_model *model = exitlm_loader_model(loader);
    exitlm_session *s = tiny_session(model, &(exitlm_session_options){.context_tokens = 64});
    exitlm_error error;
    for (size_t i = 0; i < n_extents; i++)
        if (extents[i].layer < 2) push_extent(loader, i); /* all rows, and the first layers */
    assert(model->layers_ready == 2);
    const uint32_t mapping = xl_heads_mapping(heads), layers = model->config.n_layers;
    int32_t layer, row;
    CHECK_OK(xl_stair_append(&s->stair, prompt, PROMPT, &error_));
    CHECK_OK(xl_stair_advance(&s->stair, heads->head[mapping].layer, &error_));
    for (int kv = EXITLM_POLICY_MAPS; kv <= EXITLM_POLICY_PROPAGATE; kv++) {
        assert(xl_stair_exit(&s->stair, heads, PROMPT - 1, mapping, (exitlm_kv_policy)kv, &error) ==
               EXITLM_WAIT);
        exitlm_session_needs(s, &layer, &row);
        assert(layer == 2 && row == -1);
        xl_stair_map_waiting(&s->stair, heads, mapping);
        for (uint32_t p = 0; p < PROMPT; p++)
            assert(s->stair.depth[p] == heads->head[mapping].layer &&
                   s->stair.made[p] == XL_MADE_EXACT);
    }
    for (size_t i = 0; i < n_extents; i++)
        if (extents[i].layer >= 2) push_extent(loader, i);
    for (int kv = EXITLM_POLICY_MAPS; kv <= EXITLM_POLICY_PROPAGATE; kv++) {
        exitlm_session_reset(s);
        CHECK_OK(xl_stair_append(&s->stair, prompt, PROMPT, &error_));
        CHECK_OK(xl_stair_advance(&s->stair, heads->head[mapping].layer, &error_));
        CHECK_OK(
            xl_stair_exit(&s->stair, heads, PROMPT - 1, mapping, (exitlm_kv_policy)kv, &error_));
        for (uint32_t p = 0; p < PROMPT; p++)
            assert(s->stair.depth[p] == layers &&
                   s->stair.made[p] ==
                       (kv == EXITLM_POLICY_MAPS ? XL_MADE_MAPS : XL_MADE_PROPAGATE));
        assert(xl_stair_check(&s->stair));
    }
    exitlm_session_free(s);
    exitlm_loader_free(loader);
}

/* What a check lacks is said so that it helps to fetch it. */
static void test_norms_come_first(void) {
    exitlm_loader *loader = header_only(heads);
    exitlm_session *s =
        tiny_session(exitlm_loader_model(loader), &(exitlm_session_options){.context_tokens = 64});
    exitlm_error error;
    xl_check check;
    int32_t layer, row;
    CHECK_OK(xl_stair_append(&s->stair, prompt, 1, &error_));
    assert(xl_exit_check(s->exits, 0, 0, xl_hidden(&s->stair, 0), NULL, NULL, &check, &error) ==
           EXITLM_WAIT);
    exitlm_session_needs(s, &layer, &row);
    assert(layer == 0 && row == -1);
    exitlm_session_free(s);
    exitlm_loader_free(loader);
}

/* Heads of another model of the same shape, given to a session before the model's first weights
 * are there. */
static void test_foreign_heads(void) {
    xl_buffer other;
    random_model m;
    random_model_defaults(&m);
    m.seed += 1;
    xl_buffer_init(&other, &xl_libc_allocator);
    assert(random_model_write(&m, &other));
    exitlm_model *foreign_model = tiny_load_bytes(other.data, other.n_bytes, NULL);
    exitlm_heads *foreign =
        tiny_heads(foreign_model, (uint32_t[]){1, 2, foreign_model->config.n_layers}, 3, 400, 11);
    assert(strcmp(foreign_model->fingerprint, plain->fingerprint) != 0 &&
           foreign_model->config.vocab == plain->config.vocab);
    for (int mode = EXITLM_MODE_EXIT; mode <= EXITLM_MODE_LOSSLESS; mode++) {
        exitlm_loader *loader = header_only(NULL);
        const exitlm_model *model = exitlm_loader_model(loader);
        exitlm_session *s = tiny_session(model, &(exitlm_session_options){.context_tokens = 64,
                                                                          .heads = foreign}),
                       *late = NULL;
        exitlm_generate_options o;
        exitlm_event event;
        exitlm_error error;
        exitlm_generate_defaults(&o);
        o.mode = (exitlm_mode)mode;
        CHECK_OK(exitlm_session_start(s, prompt, PROMPT, &o, &error_));
        exitlm_status status = EXITLM_WAIT;
        for (size_t i = 0; status == EXITLM_WAIT || event.type == EXITLM_EVENT_PROGRESS; i++) {
            do status = exitlm_session_step(s, &event, &error);
            while (status == EXITLM_OK && event.type == EXITLM_EVENT_PROGRESS);
            assert(status == EXITLM_WAIT || status == EXITLM_HEADS_MISMATCH); /* never a token */
            assert((status == EXITLM_HEADS_MISMATCH) == (model->fingerprint[0] != 0));
            if (status != EXITLM_WAIT) break;
            push_extent(loader, i);
        }
        assert(exitlm_session_start(s, prompt, PROMPT, &o, &error) == EXITLM_HEADS_MISMATCH);
        assert(exitlm_session_create(&late, model, &(exitlm_session_options){.heads = foreign},
                                     &error) == EXITLM_HEADS_MISMATCH &&
               !late);
        o.mode = EXITLM_MODE_FULL; /* asks no head */
        CHECK_OK(exitlm_session_start(s, prompt, PROMPT, &o, &error_));
        exitlm_session_free(s);
        exitlm_loader_free(loader);
    }
    exitlm_heads_free(foreign);
    exitlm_model_free(foreign_model);
    xl_buffer_free(&other);
}

static void test_file(bool of_the_family) {
    exitlm_model *model = tiny_load_bytes(file, file_bytes, NULL);
    exitlm_heads *own = tiny_heads(model, (uint32_t[]){1, 2, model->config.n_layers}, 3, 400, 11);
    plain = model;
    heads = own;
    for (uint32_t i = 0; i < PROMPT; i++)
        prompt[i] = (int32_t)(20 + i * 37 % (plain->config.vocab - 40));
    test_every_prefix_of_the_plan();
    test_exits_of_the_staircase();
    test_norms_come_first();
    if (!of_the_family) test_foreign_heads();
    exitlm_heads_free(own);
    exitlm_model_free(model);
}

int main(void) {
    file = tiny_read("tests/data/tiny.gguf", &file_bytes);
    test_file(false);
    free(file);
    for (uint32_t i = 0; i < RANDOM_FAMILIES; i++) {
        xl_buffer made;
        random_model m;
        random_model_family(&m, i);
        xl_buffer_init(&made, &xl_libc_allocator);
        assert(random_model_write(&m, &made));
        file = made.data;
        file_bytes = made.n_bytes;
        test_file(true);
        xl_buffer_free(&made);
    }
    puts("loading: all right");
    return 0;
}
