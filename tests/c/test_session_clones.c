/* Clones share what stands before the place where they part. Whatever they and their parents do then,
 * in whichever order, each has the K and V and the logits of a session that shares nothing; memory
 * that is not there is an error that loses nothing; what is shared is given back. */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "counting.h"
#include "random_model.h"
#include "tiny.h"

enum { CTX = 90, SEATS = 5, ROUNDS = 900, SAVED_BYTES = 4 << 20 };

static counting memory;
static const exitlm_model *model;
static uint64_t seed;

static uint32_t draw(uint32_t n) { return (uint32_t)(xl_random(&seed) % n); }

static exitlm_session_options of_type(int type) {
    return (exitlm_session_options){.context_tokens = CTX, .kv_type = (exitlm_kv_type)type};
}

/* ---- A session, and one that shares nothing ---- */

/* Both hold the same positions, and run the same layers. */
typedef struct seat {
    exitlm_session *s, *apart;
} seat;

static uint32_t layers(void) { return model->config.n_layers; }

static void grow(exitlm_session *s, const int32_t *ids, uint32_t n, uint32_t to) {
    CHECK_OK(xl_stair_append(&s->stair, ids, n, &error_));
    CHECK_OK(xl_stair_advance(&s->stair, to, &error_));
}

static void let_go(seat *at) {
    exitlm_session_free(at->s);
    exitlm_session_free(at->apart);
    *at = (seat){0};
}

typedef struct file {
    uint8_t *bytes;
    size_t n;
} file;

static bool put(void *user, const void *bytes, size_t n) {
    file *f = user;
    assert(f->n + n <= SAVED_BYTES);
    memcpy(f->bytes + f->n, bytes, n);
    f->n += n;
    return true;
}

/* What is saved is all K and V, and a sum over it. Where layers have windows it may be of other
 * positions: a clone does not know what its parent has dropped. */
static void check_same(const seat *at) {
    static uint8_t a[SAVED_BYTES], b[SAVED_BYTES];
    const uint32_t n = at->s->stair.n;
    assert(n == at->apart->stair.n && at->s->stair.kv.n_blocks <= XL_KV_BLOCKS);
    assert(memcmp(at->s->stair.depth, at->apart->stair.depth, n * sizeof(uint16_t)) == 0);
    if (!model->config.window) {
        file f = {a, 0}, g = {b, 0};
        CHECK_OK(exitlm_session_save(at->s, put, &f, &error_));
        CHECK_OK(exitlm_session_save(at->apart, put, &g, &error_));
        assert(f.n == g.n && memcmp(a, b, f.n) == 0);
    }
}

/* Of a position that both have just run. */
static void check_logits(const seat *at) {
    const uint32_t n = at->s->stair.n;
    if (at->s->stair.depth[n - 1] < layers()) return;
    CHECK_OK(xl_logits_compute(&at->s->logits, n - 1, 1, 0, &error_));
    CHECK_OK(xl_logits_compute(&at->apart->logits, n - 1, 1, 0, &error_));
    assert(memcmp(at->s->logits.row, at->apart->logits.row, model->config.vocab * sizeof(float)) ==
           0);
}

/* ---- Any order of calls ---- */

static uint32_t n_refused;

/* Some ids more, through all layers or not; now and then the next allocation fails. */
static void go_on(seat *at) {
    int32_t ids[20];
    const uint32_t n = xl_min_u32(1 + draw(20), CTX - at->s->stair.n),
                   to = draw(4) ? layers() : 1 + draw(layers());
    for (uint32_t i = 0; i < n; i++) ids[i] = (int32_t)(20 + draw(model->config.vocab - 40));
    if (n == 0) return;
    const uint32_t before = at->s->stair.n;
    exitlm_error error = {0};
    memory.fail_at = draw(3) ? 0 : memory.calls + 1;
    const exitlm_status status = xl_stair_append(&at->s->stair, ids, n, &error);
    memory.fail_at = 0;
    if (status == EXITLM_OUT_OF_MEMORY) {
        n_refused++;
        assert(at->s->stair.n == before && strstr(error.message, "clones"));
        check_same(at); /* all that it had is there, and it goes on once there is memory */
        CHECK_OK(xl_stair_append(&at->s->stair, ids, n, &error_));
    } else assert(status == EXITLM_OK);
    CHECK_OK(xl_stair_advance(&at->s->stair, to, &error_));
    grow(at->apart, ids, n, to);
    check_logits(at);
}

static void go_back(seat *at, uint32_t n) {
    const uint32_t left = xl_stair_truncate(&at->s->stair, n),
                   same = xl_stair_truncate(&at->apart->stair, left);
    if (same != left) assert(xl_stair_truncate(&at->s->stair, same) == same);
}

static void make_clone(const seat *from, seat *to, const exitlm_session_options *o) {
    exitlm_error error = {0};
    const size_t blocks = memory.blocks, bytes = memory.now_bytes;
    memory.fail_at = draw(3) ? 0 : memory.calls + 1 + draw(4);
    exitlm_status status = exitlm_session_clone(&to->s, from->s, &error);
    memory.fail_at = 0;
    if (status == EXITLM_OUT_OF_MEMORY) {
        n_refused++;
        assert(!to->s && memory.blocks == blocks && memory.now_bytes == bytes);
        check_same(from);
        status = exitlm_session_clone(&to->s, from->s, &error);
    }
    assert(status == EXITLM_OK);
    to->apart = tiny_session(model, o);
    if (to->s->stair.n) grow(to->apart, from->s->stair.ids, to->s->stair.n, layers());
}

static void test_any_order(int type) {
    const exitlm_session_options o = of_type(type);
    seat seats[SEATS] = {{0}};
    uint32_t most_blocks = 0;
    memory.fail_once = true;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        seat *at = &seats[draw(SEATS)], *other = &seats[draw(SEATS)];
        if (!at->s) *at = (seat){tiny_session(model, &o), tiny_session(model, &o)};
        switch (draw(8)) {
        case 0: go_back(at, draw(at->s->stair.n + 1)); break;
        case 1:
            if (at->s->stair.n > 9) go_back(at, at->s->stair.n - draw(9));
            break;
        case 2:
            if (draw(3) == 0) let_go(at);
            break;
        case 3:
        case 4:
            if (at == other) break;
            let_go(other);
            make_clone(at, other, &o);
            check_same(other);
            break;
        default: go_on(at);
        }
        if (!at->s) continue;
        most_blocks = xl_max_u32(most_blocks, at->s->stair.kv.n_blocks);
        check_same(at);
        for (uint32_t i = 0; i < SEATS && round % 10 == 0; i++)
            if (seats[i].s) check_same(&seats[i]);
    }
    for (uint32_t i = 0; i < SEATS; i++) let_go(&seats[i]);
    assert(most_blocks >= XL_KV_BLOCKS - 1 && n_refused > 20 && !memory.wrong_size);
}

/* ---- Memory ---- */

static exitlm_session *filled(int type, uint32_t n) {
    const exitlm_session_options o = of_type(type);
    exitlm_session *s = tiny_session(model, &o);
    int32_t ids[CTX];
    for (uint32_t i = 0; i < n; i++) ids[i] = (int32_t)(20 + i);
    grow(s, ids, n, layers());
    return s;
}

static void one_more(exitlm_session *s) { grow(s, &(int32_t){30}, 1, layers()); }

/* What each takes, while all are there and after the parent has gone. */
static void test_memory(int type) {
    const size_t before = memory.now_bytes;
    exitlm_session *s = filled(type, 64), *clones[3];
    const size_t one = memory.now_bytes - before;
    xl_arena block = {0}, rest = {0};
    xl_kv_take_block(&s->stair.kv, &block, 0);
    xl_kv_take_block(&s->stair.kv, &rest, 64);
    for (int i = 0; i < 3; i++) CHECK_OK(exitlm_session_clone(&clones[i], s, &error_));
    const size_t clone = one - block.used_bytes + rest.used_bytes;
    assert(memory.now_bytes - before == one + 3 * clone);
    if (!model->config.window) assert(2 * rest.used_bytes < block.used_bytes);
    /* the first that goes on has its parent's block, and gives its own back */
    exitlm_session_free(s);
    for (int i = 0; i < 3; i++) one_more(clones[i]);
    assert(memory.now_bytes - before == one + 2 * clone);
    /* so has the last one, and what it goes back over is its own */
    exitlm_session_free(clones[0]);
    exitlm_session_free(clones[1]);
    one_more(clones[2]);
    assert(memory.now_bytes - before == one && clones[2]->stair.kv.n_blocks == 1);
    xl_stair_truncate(&clones[2]->stair, 3);
    const size_t calls = memory.calls;
    one_more(clones[2]);
    assert(memory.calls == calls);
    exitlm_session_free(clones[2]);
    assert(memory.now_bytes == before);
}

/* Copy on write takes what the parent had left, and no session more than it was said to take. */
static void test_going_back(int type) {
    const size_t before = memory.now_bytes;
    exitlm_session *s = filled(type, 64), *clone;
    const size_t one = memory.now_bytes - before;
    CHECK_OK(exitlm_session_clone(&clone, s, &error_));
    exitlm_session_reset(s);
    one_more(s);
    one_more(clone);
    assert(memory.now_bytes - before == 2 * one);
    exitlm_session_free(clone);
    /* a clone that goes back below its parent's place has no use for its own block */
    CHECK_OK(exitlm_session_clone(&clone, s, &error_));
    exitlm_session_reset(clone);
    memory.peak_bytes = memory.now_bytes;
    one_more(clone);
    assert(memory.now_bytes - before <= 2 * one && memory.peak_bytes - before <= 2 * one);
    exitlm_session_free(clone);
    exitlm_session_free(s);
    assert(memory.now_bytes == before);
}

/* ---- Threads ---- */

typedef struct worker {
    exitlm_session *s;
    uint32_t back; /* go on from here, on and on */
    float *row;
} worker;

static void *work(void *user) {
    worker *w = user;
    for (uint32_t round = 0; round < 20; round++) {
        xl_stair_truncate(&w->s->stair, w->back);
        for (uint32_t i = 0; i < 6; i++) {
            const int32_t id = (int32_t)(40 + w->back + i);
            CHECK_OK(xl_stair_append(&w->s->stair, &id, 1, &error_));
            CHECK_OK(xl_stair_advance(&w->s->stair, layers(), &error_));
        }
    }
    CHECK_OK(xl_logits_compute(&w->s->logits, w->s->stair.n - 1, 1, 0, &error_));
    memcpy(w->row, w->s->logits.row, model->config.vocab * sizeof(float));
    exitlm_session_free(w->s);
    return NULL;
}

/* A parent and clones at once, each in its thread, back below where they part and on. */
static void test_threads(void) {
    enum { N = 4 };
    const size_t row_bytes = model->config.vocab * sizeof(float);
    pthread_t threads[N];
    worker workers[N], alone;
    for (int once = 0; once < 5; once++) {
        workers[0].s = filled(EXITLM_KV_F32, 64);
        for (int i = 1; i < N; i++)
            CHECK_OK(exitlm_session_clone(&workers[i].s, workers[i / 2].s, &error_));
        for (uint32_t i = 0; i < N; i++) {
            workers[i].back = (uint32_t)(i + (uint32_t)once) % 2 ? 64 : 37;
            workers[i].row = malloc(row_bytes);
            assert(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
        }
        for (int i = 0; i < N; i++) pthread_join(threads[i], NULL);
        for (int i = 0; i < N; i++) {
            alone = (worker){filled(EXITLM_KV_F32, 64), workers[i].back, malloc(row_bytes)};
            work(&alone);
            assert(memcmp(alone.row, workers[i].row, row_bytes) == 0);
            free(alone.row);
            free(workers[i].row);
        }
    }
}

static void test_on(const random_model *kind) {
    xl_buffer bytes;
    xl_buffer_init(&bytes, &xl_libc_allocator);
    assert(random_model_write(kind, &bytes));
    exitlm_model *plain = tiny_load_bytes(bytes.data, bytes.n_bytes, NULL);
    model = plain;
    /* The counting allocator serves one thread. A clone may have to read anew what a window has lost. */
    if (!kind->window) test_threads();
    counting_init(&memory);
    exitlm_model *loaded = tiny_load_with(bytes.data, bytes.n_bytes,
                                          &(exitlm_load_options){.allocator = &memory.allocator});
    model = loaded;
    n_refused = 0;
    for (int type = 0; type < EXITLM_KV_TYPE_COUNT; type++) {
        test_any_order(type);
        test_memory(type);
        test_going_back(type);
    }
    exitlm_model_free(loaded);
    exitlm_model_free(plain);
    assert(memory.blocks == 0);
    xl_buffer_free(&bytes);
}

int main(void) {
    random_model kind;
    bool has_window = false;
    random_model_defaults(&kind);
    test_on(&kind);
    for (uint32_t i = 0; i < RANDOM_FAMILIES; i++) {
        random_model_family(&kind, i);
        if (!kind.window) continue;
        has_window = true;
        test_on(&kind);
    }
    assert(has_window);
    puts("clones: all right");
    return 0;
}
