/* libFuzzer: calls of the public interface and of the staircase in any order, on a small random
 * model of each family, complete or on its way. What must hold: no crash, no leak, every reply
 * ends; after each call the staircase is one; a refused call says why and changes nothing; in the
 * end the model can be completed, and each session says, from what it has kept, what a fresh one
 * says. */
#include "base/bytes.h"
#include "base/checksum.h"
#include "counting.h"
#include "input.h"
#include "model/loader.h"
#include "random_model.h"
#include "tiny.h"

#include <math.h>
#include <string.h>

enum {
    FAMILIES = 1 + RANDOM_FAMILIES,
    SEATS = 3,
    CALLS = 80,
    WORK = 500, /* rows through all layers, about */
    MERGES = 40,
    VOCAB = 3 + 256 + MERGES,
    HEADS = 3,
    SHORTLIST = 100,
    GRAMMARS = 4,
    SAID = 7, /* messages of a chat */
    MOST_EXTENTS = 512
};

/* ---- A model of each family, made once ----------------------------------------------------- */
typedef struct family {
    counting memory; /* of its models and their sessions */
    xl_buffer file;
    exitlm_heads *heads, *mixed, *lists; /* mixed, lists (vocabulary exits alone): no loader's */
    exitlm_model *plain, *with;          /* with: its rows lie as the heads want them */
    size_t header_bytes, n_extents;
    exitlm_extent extents[MOST_EXTENTS];
} family;

static exitlm_status make_grammar(exitlm_grammar **grammar, const exitlm_model *model,
                                  uint32_t which, const exitlm_allocator *allocator) {
    static const char *const texts[GRAMMARS] = {
        "(yes|no|the river)[ab]{2,9}", "x*", "( the|e|river){1,20}",
        "{\"type\":\"object\",\"properties\":{\"a\":{\"enum\":[\"the river\",7,null]},"
        "\"b\":{\"type\":\"array\",\"items\":{\"type\":\"number\"},\"maxItems\":2}},"
        "\"required\":[\"a\"]}"};
    const char *text = texts[which];
    if (which == 3)
        return exitlm_grammar_from_schema(grammar, model, text, strlen(text), allocator, NULL);
    const exitlm_status status =
        exitlm_grammar_from_pattern(grammar, model, text, strlen(text), 0, allocator, NULL);
    if (status != EXITLM_OK || which != 2) return status;
    const exitlm_status begun = exitlm_grammar_begin(*grammar, " th", 3, NULL);
    EXPECT(begun == EXITLM_OK || begun == EXITLM_OUT_OF_MEMORY);
    return EXITLM_OK;
}

static exitlm_loader *begin_loading(const family *f, counting *memory, const exitlm_heads *heads) {
    exitlm_loader *loader;
    const exitlm_load_options options = {.allocator = &memory->allocator, .heads = heads};
    EXPECT(exitlm_loader_create(&loader, &options, NULL) == EXITLM_OK);
    EXPECT(exitlm_loader_push(loader, f->file.data, f->header_bytes, NULL) == EXITLM_OK);
    return loader;
}

static exitlm_model *load(family *f, const exitlm_heads *heads) {
    exitlm_model *model;
    exitlm_grammar *grammar;
    exitlm_loader *loader = begin_loading(f, &f->memory, heads);
    const size_t done = f->header_bytes;
    EXPECT(exitlm_loader_push(loader, f->file.data + done, f->file.n_bytes - done, NULL) ==
           EXITLM_OK);
    if (!f->n_extents)
        EXPECT(exitlm_loader_plan(loader, f->extents, MOST_EXTENTS, &f->n_extents, NULL) ==
                   EXITLM_OK &&
               f->n_extents <= MOST_EXTENTS);
    EXPECT(exitlm_loader_finish(loader, &model, NULL) == EXITLM_OK);
    EXPECT(make_grammar(&grammar, model, 0, NULL) == EXITLM_OK); /* the model keeps what it makes */
    exitlm_grammar_free(grammar);
    return model;
}

static family *family_of(uint32_t number) {
    static family made[FAMILIES];
    family *f = &made[number];
    if (f->with) return f;
    random_model m;
    xl_gguf header;
    size_t used;
    if (number) random_model_family(&m, number - 1);
    else random_model_defaults(&m);
    m.merges = MERGES;
    m.context_tokens = 1024;
    counting_init(&f->memory);
    xl_buffer_init(&f->file, &xl_libc_allocator);
    EXPECT(random_model_write(&m, &f->file));
    xl_gguf_init(&header, &xl_libc_allocator);
    EXPECT(xl_gguf_push(&header, f->file.data, f->file.n_bytes, &used, NULL) == EXITLM_OK);
    f->header_bytes = used;
    xl_gguf_free(&header);
    f->plain = load(f, NULL);
    EXPECT(f->plain->config.vocab == VOCAB);
    f->heads = tiny_heads(f->plain, (uint32_t[]){1, 3, m.layers}, HEADS, SHORTLIST, 11);
    f->mixed =
        tiny_mixed_heads(f->plain, (uint32_t[]){2, m.layers, m.layers}, HEADS, SHORTLIST, 12);
    f->lists = tiny_mixed_heads(f->plain, (uint32_t[]){m.layers, m.layers}, 2, SHORTLIST, 13);
    f->n_extents = 0;
    f->with = load(f, f->heads);
    return f;
}

/* ---- One run -------------------------------------------------------------------------------- */
typedef struct seat {
    exitlm_session *s; /* NULL: none */
    exitlm_session_options options;
    tiny_reply reply; /* the one under way */
    bool done;        /* and over */
    bool forged;      /* it holds K and V that no model has made */
    char said[SAID][160];
    size_t n_said; /* of the chat that `reply` answers; 0: it answers no chat */
} seat;

typedef struct run {
    input in;
    family *f;
    counting *memory, own_memory; /* of the model; own: where it is on its way */
    exitlm_loader *loader;        /* NULL: the model is complete */
    exitlm_model *model;
    exitlm_grammar *grammar[GRAMMARS];
    seat seats[SEATS];
    xl_buffer saved;
    bool saved_forged; /* as the session was */
    uint32_t work;     /* that may still be done */
    uint64_t clock;    /* of sessions that have one */
    bool broken;       /* the loader only can be freed */
} run;

static bool good(const run *r, exitlm_status status, const exitlm_error *error) {
    EXPECT(status == EXITLM_OK || (error->status == status && error->message[0]));
    EXPECT(status != EXITLM_WAIT || !r->model->complete);
    EXPECT(status != EXITLM_OUT_OF_MEMORY || r->memory->fail_at);
    return status == EXITLM_OK;
}

static void spend(run *r, uint32_t work) { r->work -= xl_min_u32(r->work, work); }

static void check_all(const run *r) {
    EXPECT(!r->memory->wrong_size);
    for (int i = 0; i < SEATS; i++) {
        const xl_stair *stair = r->seats[i].s ? &r->seats[i].s->stair : NULL;
        if (!stair) continue;
        EXPECT(xl_stair_check(stair));
        EXPECT(stair->n == 0 || stair->depth[0] <= r->model->layers_ready);
    }
}

/* What a refused call leaves as it was. */
typedef struct standing {
    xl_phase phase;
    exitlm_mode mode;
    uint32_t n_tokens, n_released, prompt_n, positions;
} standing;

static standing standing_of(const exitlm_session *s) {
    const xl_generation *g = s->generation;
    return (standing){g->phase,      g->options.mode, g->n_tokens,
                      g->n_released, g->prompt_n,     s->stair.n};
}

static void expect_same(const exitlm_session *s, const standing *before) {
    const standing now = standing_of(s);
    EXPECT(now.phase == before->phase && now.mode == before->mode &&
           now.n_tokens == before->n_tokens && now.n_released == before->n_released &&
           now.prompt_n == before->prompt_n && now.positions == before->positions);
}

/* ---- Sessions ------------------------------------------------------------------------------- */
static void leave(seat *at) {
    exitlm_session_free(at->s);
    memset(at, 0, sizeof *at);
}

/* Some milliseconds more, or none. */
static double clock_ms(void *user) {
    uint64_t *passed = user;
    *passed += (*passed * 0x9e3779b97f4a7c15u + 0x51ed270b) >> 61;
    return (double)*passed;
}

static void create(run *r, seat *at) {
    static const uint16_t contexts[] = {48, 2, 9, 64, 300, 640, 1, 0xffff};
    static const char *const kernels[] = {NULL, NULL, "scalar", "none"};
    const uint32_t kind = take(&r->in, 2);
    exitlm_error error;
    leave(at);
    const exitlm_heads *const heads[] = {r->f->heads, r->f->mixed, r->f->heads, r->f->lists};
    at->options = (exitlm_session_options){.heads = kind & 1 ? heads[kind >> 9 & 3] : NULL,
                                           .context_tokens = contexts[kind >> 1 & 7],
                                           .kv_type = (exitlm_kv_type)(kind >> 4 & 3),
                                           .kernel = kernels[kind >> 6 & 3],
                                           .beside = kind & 0x100 ? r->seats[0].s : NULL,
                                           .clock_ms = kind & 0x800 ? clock_ms : NULL,
                                           .clock_user = &r->clock};
    uint64_t most = UINT64_MAX;
    if (r->loader && !r->broken)
        good(r, exitlm_loader_memory(r->loader, &at->options, NULL, &most, &error), &error);
    const size_t before = r->memory->now_bytes;
    if (!good(r, exitlm_session_create(&at->s, r->model, &at->options, &error), &error))
        EXPECT(!at->s);
    EXPECT(r->memory->now_bytes - before <= most);
}

static void clone(run *r, const seat *from, seat *to) {
    exitlm_error error;
    if (from == to || !from->s) return;
    leave(to);
    /* on failure a session may be there, and is the caller's */
    good(r, exitlm_session_clone(&to->s, from->s, &error), &error);
    to->options = from->options;
    to->forged = from->forged;
}

/* ---- Starting ------------------------------------------------------------------------------- */
typedef struct wish {
    exitlm_generate_options options;
    float thresholds[EXITLM_MAX_HEADS];
} wish;

static exitlm_grammar *grammar_of(run *r, uint32_t which) {
    if (!r->grammar[which])
        make_grammar(&r->grammar[which], r->model, which, &r->memory->allocator);
    return r->grammar[which];
}

static void take_wish(run *r, wish *w) {
    static const float thresholds[8] = {0, 0.3f, 0.9f, 2, 1, 2, 2, NAN};
    static const float temperatures[8] = {0, 0, 0, 0.8f, 0, 0, 3, -1};
    static const float shares[8] = {0, 0, 0, 0.5f, 0, 0, 1, 1.5f};
    static const char *const stops[4] = {"e", " the", "river", ""};
    input *in = &r->in;
    exitlm_generate_options *o = &w->options;
    const uint32_t kind = take(in, 2), more = take(in, 2);
    exitlm_generate_defaults(o);
    o->mode = (exitlm_mode)(kind & 3);
    o->kv = (exitlm_kv_policy)(kind >> 2 & 3);
    o->strategy = (exitlm_strategy)(kind >> 4 & 7);
    o->seed = kind;
    if (kind & 0x80) {
        for (int i = 0; i < HEADS; i++) w->thresholds[i] = thresholds[take(in, 1) & 7];
        o->thresholds = w->thresholds;
    }
    o->audit = shares[kind >> 8 & 7];
    o->events = kind >> 11 & 1;
    o->temperature = temperatures[kind >> 12 & 7];
    o->accuracy = kind >> 15 ? 0.6f : 0;
    o->max_tokens = 1 + (more & 31);
    if (more & 0x20) {
        o->n_stop = 1 + (more & 3);
        o->stop = stops;
    }
    if (more & 0x40) o->grammar = grammar_of(r, (more & 1) | (more >> 10 & 2));
    o->logprobs = more >> 7 & 1;
    o->top_logprobs = more >> 7 & 1 ? more & 31 : 0;
    if (more & 0x100) o->top_k = 3, o->top_p = 0.7f, o->min_p = 0.01f;
    if (more & 0x200) o->repeat_penalty = 1.3f;
    if (more & 0x400) {
        const uint32_t drafts = take(in, 2);
        o->max_draft = drafts & 15;
        o->draft_length = drafts >> 4 & 15;
        o->draft_layer = (int32_t)(drafts >> 8 & 7);
        o->draft_sources = (int32_t)(drafts >> 11 & 7);
    }
}

/* Some of what the session holds, and ids of a pattern behind it. Returns their number. */
static size_t take_ids(run *r, const xl_stair *stair, int32_t *ids, size_t capacity) {
    size_t n = 0, kept = take(&r->in, 1);
    const uint32_t further = take(&r->in, 1), pattern = take(&r->in, 1);
    kept = kept & 0x80 ? stair->n - xl_min_u32(stair->n, kept & 0x7f) : kept;
    for (; n < kept && n < stair->n && n < capacity; n++) ids[n] = stair->ids[n];
    for (uint32_t i = 0; i < further * (pattern == 200 ? 3 : 1) && n < capacity; i++)
        ids[n++] = (int32_t)((pattern * 31 + i * (pattern % 5) * 7) % VOCAB);
    if (pattern == 255 && n) ids[n - 1] = VOCAB;
    spend(r, (uint32_t)n);
    return n;
}

/* A reply has begun, or it is refused. */
static void begun(run *r, seat *at, exitlm_status status, const exitlm_error *error,
                  const standing *before) {
    if (!good(r, status, error)) {
        /* No memory for what clones read and this reply would write over leaves the session empty. */
        const standing now = standing_of(at->s);
        const bool emptied = status == EXITLM_OUT_OF_MEMORY && now.positions == 0 &&
                             now.phase == XL_IDLE && now.n_tokens == 0 &&
                             !at->s->generation->context_known;
        if (!emptied) expect_same(at->s, before);
        return;
    }
    memset(&at->reply, 0, sizeof at->reply);
    at->done = false;
    at->n_said = 0;
}

static void start(run *r, seat *at) {
    int32_t ids[1000];
    wish w;
    exitlm_error error;
    take_wish(r, &w);
    const size_t n = take_ids(r, &at->s->stair, ids, 1000);
    const standing before = standing_of(at->s);
    begun(r, at, exitlm_session_start(at->s, ids, n, &w.options, &error), &error, &before);
}

/* A text of the input's own bytes, or a phrase; NUL-terminated. */
static size_t take_text(run *r, char *text, size_t capacity) {
    static const char *const phrases[4] = {"What is the answer?", " the river\n", "<|im_end|>",
                                           "a\xc3"};
    const uint32_t kind = take(&r->in, 1);
    size_t n = 0;
    if (kind < 64) {
        n = strlen(phrases[kind & 3]);
        memcpy(text, phrases[kind & 3], n + 1);
    } else {
        while (n < kind - 64u && n + 1 < capacity && r->in.n) {
            text[n] = (char)take(&r->in, 1);
            if (text[n]) n++;
        }
        text[n] = 0;
    }
    spend(r, (uint32_t)n);
    return n;
}

static void start_text(run *r, seat *at) {
    char text[160];
    wish w;
    exitlm_error error;
    take_wish(r, &w);
    const size_t n = take_text(r, text, sizeof text);
    const standing before = standing_of(at->s);
    begun(r, at, exitlm_session_text(at->s, text, n, take(&r->in, 1) & 1, &w.options, &error),
          &error, &before);
}

/* The next turn of the chat, or the first of another one. */
static void chat(run *r, seat *at) {
    exitlm_message messages[SAID];
    wish w;
    exitlm_error error;
    take_wish(r, &w);
    size_t n = at->n_said;
    if (n == 0 || n + 2 > SAID || !at->done || (take(&r->in, 1) & 7) == 7) n = 0;
    else snprintf(at->said[n++], sizeof at->said[0], "%s", at->reply.whole);
    take_text(r, at->said[n++], sizeof at->said[0]);
    for (size_t i = 0; i < n; i++) {
        messages[i] = (exitlm_message){i % 2 ? "assistant" : "user", at->said[i]};
        spend(r, (uint32_t)strlen(at->said[i]));
    }
    const standing before = standing_of(at->s);
    begun(r, at, exitlm_session_chat(at->s, messages, n, &w.options, &error), &error, &before);
    at->n_said = at->done ? 0 : n;
}

/* ---- Stepping ------------------------------------------------------------------------------- */
static void taken(const run *r, seat *at, const exitlm_event *event) {
    const exitlm_token *token = &event->token;
    if (event->type >= EXITLM_EVENT_TOKEN && event->type <= EXITLM_EVENT_REJECT)
        EXPECT(token->id >= 0 && token->id < VOCAB && token->layer <= token->of &&
               token->of == r->model->config.n_layers && token->head < HEADS);
    for (uint32_t i = 0; event->type == EXITLM_EVENT_TOKEN && i < token->n_top; i++)
        EXPECT(token->top[i].id >= 0 && token->top[i].id < VOCAB);
    at->done = tiny_take(at->s, event, &at->reply);
}

/* Up to n steps; true: there may be more. */
static bool steps(run *r, seat *at, uint32_t n) {
    exitlm_event event;
    exitlm_error error;
    for (; n > 0; n--) {
        const bool idle = at->s->generation->phase == XL_IDLE;
        const exitlm_status status = exitlm_session_step(at->s, &event, &error);
        EXPECT(!idle || status == EXITLM_USAGE);
        if (!good(r, status, &error)) return false;
        taken(r, at, &event);
        spend(r, event.type == EXITLM_EVENT_TOKEN);
        check_all(r);
        if (at->done) return false;
    }
    return true;
}

/* Every reply ends. */
static void run_out(run *r, seat *at) { EXPECT(!steps(r, at, 500 + 40 * at->s->stair.ctx)); }

static void step_together(run *r, uint32_t times) {
    exitlm_turn turns[SEATS];
    seat *who[SEATS];
    exitlm_error error;
    size_t n = 0;
    for (int i = 0; i < SEATS; i++)
        if (r->seats[i].s) who[n++] = &r->seats[i];
    for (; times > 0; times--) {
        for (size_t i = 0; i < n; i++) turns[i] = (exitlm_turn){.session = who[i]->s};
        const exitlm_status status = exitlm_sessions_step(turns, n, &error);
        EXPECT((status == EXITLM_OK) == (n > 0));
        for (size_t i = 0; i < n; i++) {
            EXPECT(!who[i]->s->stair.deferred);
            if (good(r, turns[i].status, &turns[i].error)) taken(r, who[i], &turns[i].event);
        }
        spend(r, (uint32_t)n);
        check_all(r);
    }
}

static bool visit(void *user, size_t position, const float *logits) {
    (void)logits;
    return position != *(const size_t *)user;
}

static void score(run *r, seat *at) {
    int32_t ids[700];
    exitlm_error error;
    size_t end = take(&r->in, 1);
    const size_t n = take_ids(r, &at->s->stair, ids, 700);
    good(r, exitlm_session_score(at->s, ids, n, visit, &end, &error), &error);
    at->forged = false;
}

/* ---- Saving --------------------------------------------------------------------------------- */
static bool put(void *user, const void *bytes, size_t n_bytes) {
    xl_buffer_add(user, bytes, n_bytes);
    return !((xl_buffer *)user)->failed;
}

/* The saved bytes; the checksum made to fit what was read where it is asked for. */
typedef struct tape {
    const uint8_t *bytes;
    size_t n_bytes;
    bool forge;
    uint64_t sum;
} tape;

static bool get(void *user, void *bytes, size_t n_bytes) {
    tape *t = user;
    if (n_bytes > t->n_bytes) return false;
    const bool last = t->n_bytes == n_bytes && n_bytes == sizeof t->sum;
    memcpy(bytes, last && t->forge ? (const uint8_t *)&t->sum : t->bytes, n_bytes);
    t->sum = xl_mix64(t->sum ^ xl_checksum(bytes, n_bytes));
    t->bytes += n_bytes;
    t->n_bytes -= n_bytes;
    return true;
}

static void save(run *r, seat *at) {
    exitlm_error error;
    const standing before = standing_of(at->s);
    xl_buffer_free(&r->saved);
    xl_buffer_init(&r->saved, &xl_libc_allocator);
    r->saved_forged = at->forged;
    if (!good(r, exitlm_session_save(at->s, put, &r->saved, &error), &error))
        xl_buffer_free(&r->saved);
    expect_same(at->s, &before);
}

static void restore(run *r, seat *at) {
    const uint32_t kind = take(&r->in, 1);
    xl_buffer bytes;
    exitlm_error error;
    if (!r->saved.n_bytes) return;
    xl_buffer_init(&bytes, &xl_libc_allocator);
    xl_buffer_add(&bytes, r->saved.data, r->saved.n_bytes);
    EXPECT(!bytes.failed);
    change(&bytes, &r->in, kind & 7, kind & 8 ? 1 : 2);
    tape t = {bytes.data, bytes.n_bytes, kind & 0x10, 0};
    if (kind & 0x20) t.n_bytes = take(&r->in, 2) % bytes.n_bytes;
    const bool restored = good(r, exitlm_session_restore(at->s, get, &t, &error), &error);
    EXPECT(restored || at->s->stair.n == 0);
    at->forged = restored && (r->saved_forged || (t.forge && kind & 7));
    xl_buffer_free(&bytes);
}

/* ---- The staircase itself ------------------------------------------------------------------- */
static void climb(run *r, seat *at) {
    exitlm_session *s = at->s;
    xl_stair *stair = &s->stair;
    const exitlm_heads *heads = s->heads;
    const uint32_t layers = r->model->config.n_layers;
    int32_t ids[300];
    bool done;
    xl_check check;
    exitlm_error error;
    xl_generation_end(s->generation); /* it would not know what has happened */
    for (uint32_t n = take(&r->in, 1) & 7; n > 0; n--) {
        const uint32_t kind = take(&r->in, 1), what = kind & 7, to = (kind >> 3) % (layers + 1),
                       head = (kind >> 3) % (heads ? heads->n_heads : HEADS);
        const bool at_head =
            heads && stair->n && stair->depth[stair->n - 1] == heads->head[head].layer;
        if (what == 0) {
            const size_t more = take_ids(r, stair, ids, 300);
            good(r, xl_stair_append(stair, ids, more, &error), &error);
        } else if (what == 1) good(r, xl_stair_advance(stair, to, &error), &error);
        else if (what == 2) good(r, xl_stair_advance_slice(stair, to, &done, &error), &error);
        else if (what == 3 && at_head) {
            if (good(r,
                     xl_exit_check(s->exits, head, stair->n - 1, xl_hidden(stair, stair->n - 1),
                                   NULL, NULL, &check, &error),
                     &error))
                EXPECT(check.id >= -1 && check.id < VOCAB &&
                       (at->forged || (check.uncertainty >= 0 && check.uncertainty <= 1)));
        } else if (what == 4 && at_head)
            good(r,
                 xl_stair_exit(stair, heads, stair->n - 1, head,
                               (exitlm_kv_policy)(1 + take(&r->in, 1) % 3), &error),
                 &error);
        else if (what == 5 && at_head) xl_stair_map_waiting(stair, heads, head);
        else if (what == 6) xl_stair_truncate(stair, take(&r->in, 2) % (stair->n + 1));
        spend(r, stair->n / 8);
        check_all(r);
    }
}

/* ---- Loading -------------------------------------------------------------------------------- */
static bool push(run *r, uint64_t from, size_t n_bytes) {
    exitlm_error error;
    const exitlm_status status =
        exitlm_loader_push(r->loader, r->f->file.data + from, n_bytes, &error);
    r->broken |= !good(r, status, &error);
    return !r->broken;
}

static void push_extent(run *r, size_t i) {
    const exitlm_extent *e = &r->f->extents[i];
    exitlm_error error;
    /* refused where a part of it has come that is no whole row */
    if (exitlm_loader_seek(r->loader, 0, e->offset, &error) == EXITLM_OK)
        push(r, e->offset, (size_t)e->n_bytes);
}

static void load_more(run *r) {
    const family *f = r->f;
    const uint32_t kind = take(&r->in, 1);
    exitlm_load_state state;
    exitlm_error error;
    if (!r->loader) return;
    exitlm_loader_state(r->loader, &state);
    if (kind < 96) {
        const uint64_t left = f->file.n_bytes - state.offset, most = take(&r->in, 2) * 4;
        push(r, state.offset, (size_t)(left < most ? left : most));
    } else if (kind < 160) push_extent(r, take(&r->in, 1) % f->n_extents);
    else if (kind < 192) {
        for (size_t i = 0; i < f->n_extents && !r->broken; i++)
            if (f->extents[i].layer < (int32_t)(kind & 7)) push_extent(r, i);
    } else if (kind < 240) {
        const uint64_t to = take(&r->in, 3) % (f->file.n_bytes + 9);
        const exitlm_status status = exitlm_loader_seek(r->loader, 0, to, &error);
        EXPECT(good(r, status, &error) || status == EXITLM_USAGE);
    } else {
        exitlm_model *model; /* NULL where it fails */
        if (good(r, exitlm_loader_finish(r->loader, &model, &error), &error)) r->loader = NULL;
        EXPECT(r->loader ? !model : model == r->model);
    }
}

/* All that is missing; a tensor that was begun goes on where it stopped. */
static void complete(run *r) {
    exitlm_load_state state;
    exitlm_error error;
    if (!r->loader || r->broken) return;
    exitlm_loader_state(r->loader, &state);
    push(r, state.offset, (size_t)(r->f->file.n_bytes - state.offset));
    for (size_t i = 0; i < r->f->n_extents && !r->model->complete; i++) {
        const exitlm_extent *e = &r->f->extents[i];
        uint64_t at = e->offset;
        while (at < e->offset + e->n_bytes &&
               exitlm_loader_seek(r->loader, 0, at, &error) != EXITLM_OK)
            at++;
        if (at < e->offset + e->n_bytes) push(r, at, (size_t)(e->offset + e->n_bytes - at));
    }
    EXPECT(!r->broken && r->model->complete);
    EXPECT(exitlm_loader_finish(r->loader, &r->model, &error) == EXITLM_OK);
    r->loader = NULL;
}

/* ---- In the end ----------------------------------------------------------------------------- */
static void last_logits(exitlm_session *s, const int32_t *ids, size_t n, tiny_reply *reply,
                        float *logits) {
    exitlm_generate_options o;
    exitlm_generate_defaults(&o);
    o.max_tokens = 2;
    EXPECT(exitlm_session_start(s, ids, n, &o, NULL) == EXITLM_OK);
    tiny_run(s, reply);
    xl_logits_by_id(&s->logits, xl_logits_row(&s->logits, 0), logits);
}

/* What it has kept is what a fresh session computes, bit for bit. */
static void compare(run *r, const seat *at) {
    const xl_stair *stair = &at->s->stair;
    const uint32_t n = xl_min_u32(stair->n, stair->ctx - 2) + 1;
    static tiny_reply kept_reply, fresh_reply;
    float kept[VOCAB], fresh[VOCAB];
    int32_t ids[1024] = {5};
    if (at->forged || r->broken) return;
    memcpy(ids, stair->ids, xl_min_u32(stair->n, n) * sizeof *ids);
    last_logits(at->s, ids, n, &kept_reply, kept);
    const exitlm_session_options options = {.context_tokens = stair->ctx,
                                            .kv_type = at->options.kv_type};
    exitlm_session *s = tiny_session(r->f->plain, &options);
    last_logits(s, ids, n, &fresh_reply, fresh);
    exitlm_session_free(s);
    EXPECT(kept_reply.n == fresh_reply.n && strcmp(kept_reply.text, fresh_reply.text) == 0);
    EXPECT(memcmp(kept, fresh, sizeof kept) == 0);
}

static void call(run *r) {
    const uint32_t kind = take(&r->in, 1);
    seat *at = &r->seats[kind >> 5 & 3 ? (kind >> 5 & 3) - 1 : 0];
    enum { CREATE, FREE, CLONE, LOAD, LESS_MEMORY, TOGETHER, WITH_A_SESSION };
    switch (kind & 31) {
    case CREATE: create(r, at); return;
    case FREE: leave(at); return;
    case CLONE: clone(r, at, &r->seats[take(&r->in, 1) % SEATS]); return;
    case LOAD: load_more(r); return;
    case LESS_MEMORY:
        r->memory->fail_at = r->memory->calls + 1 + take(&r->in, 1) % 16;
        r->memory->fail_once = true;
        return;
    case TOGETHER: step_together(r, take(&r->in, 1) & 31); return;
    default: break;
    }
    if (!at->s) return;
    switch (kind & 31) {
    case WITH_A_SESSION: start_text(r, at); break;
    case 7:
    case 8:
    case 9: start(r, at); break;
    case 10:
    case 11: chat(r, at); break;
    case 12:
    case 13: steps(r, at, 1 + (take(&r->in, 1) & 31)); break;
    case 14:
    case 15: run_out(r, at); break;
    case 16: exitlm_session_stop(at->s); break;
    case 17:
        exitlm_session_reset(at->s);
        EXPECT(at->s->stair.n == 0);
        at->forged = false;
        break;
    case 18: save(r, at); break;
    case 19: restore(r, at); break;
    case 20: score(r, at); break;
    case 21:
    case 22:
    case 23: climb(r, at); break;
    default: load_more(r); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static run r;
    memset(&r, 0, sizeof r);
    r.in = (input){data, size};
    r.work = WORK;
    const uint32_t kind = take(&r.in, 1);
    r.f = family_of(kind % FAMILIES);
    const uint32_t form = kind / FAMILIES % 4;
    counting_init(&r.own_memory);
    r.memory = form < 2 ? &r.f->memory : &r.own_memory;
    r.memory->fail_at = 0;
    const size_t blocks = r.memory->blocks;
    if (form < 2) r.model = form ? r.f->with : r.f->plain;
    else {
        r.loader = begin_loading(r.f, r.memory, form == 3 ? r.f->heads : NULL);
        r.model = exitlm_loader_model(r.loader);
    }
    create(&r, &r.seats[0]);
    for (int i = 0; i < CALLS && r.in.n && r.work && !r.broken; i++) {
        call(&r);
        check_all(&r);
    }
    r.memory->fail_at = 0;
    complete(&r);
    for (int i = 0; i < SEATS; i++) {
        if (r.seats[i].s) compare(&r, &r.seats[i]);
        check_all(&r);
    }
    for (int i = 0; i < SEATS; i++) leave(&r.seats[i]);
    for (int i = 0; i < GRAMMARS; i++) exitlm_grammar_free(r.grammar[i]);
    xl_buffer_free(&r.saved);
    if (r.loader) exitlm_loader_free(r.loader);
    else if (form >= 2) exitlm_model_free(r.model);
    EXPECT(r.memory->blocks == blocks);
    return 0;
}
