/* Conversations under many settings of the exits at once. See measure.h. */
#include "measure_parts.h"
#include "run/cost.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "platform.h"
#include "run/snapshot.h"
#include "train/rollout.h"
#include "script.h"
#include "signals.h"

static uint32_t wrong_exits(const measure_sum *s) {
    uint32_t wrong = 0;
    for (int h = 0; h < EXITLM_MAX_HEADS; h++) wrong += s->wrong[h];
    return wrong;
}

double measure_x(const measure_sum *s) { return s->tokens ? (double)(wrong_exits(s) + s->wrong_full) / s->tokens : 0; }

double measure_wrong_exits(const measure_sum *s) { return s->tokens ? (double)wrong_exits(s) / s->tokens : 0; }

double measure_exited(const measure_sum *s) {
    uint32_t exits = 0;
    for (int h = 0; h < EXITLM_MAX_HEADS; h++) exits += s->exits[h];
    return s->tokens ? (double)exits / s->tokens : 0;
}

/* ---- State ---- */
/* What one talk is about. */
typedef struct node {
    script script;
    size_t item;
    uint32_t set; /* settings that share it, a bit each */
} node;

/* A way that parted and waits for a free session. */
typedef struct fork_point {
    xl_snapshot *snapshot;
    node node;
    int32_t id;
    uint32_t turn, index, reply_pos;
    struct fork_point *next;
} fork_point;

typedef struct worker {
    shared *all;
    bool leader;
    xl_talk *talks;
    node *nodes; /* [batch] */
    fork_point *waiting;
} worker;

/* What one setting does at the current position. */
typedef struct decision {
    int32_t id;  /* the token; the model's own where no head exits */
    int32_t head;
    double check_macs;
} decision;

typedef struct moment {
    worker *w;
    xl_talk *talk;
    node *node;
    int32_t full;
    xl_softmax_stats stats; /* of the full logits */
    xl_check checks[EXITLM_MAX_HEADS];
    bool asked[EXITLM_MAX_HEADS];
} moment;

/* ---- Deciding ---- */
/* Asks head h once for all settings. The uncertainty is worked out a setting at a time: it may depend on the head asked before. */
static exitlm_status ask(moment *m, uint32_t h, exitlm_error *error) {
    exitlm_session *s = m->talk->session;
    if (m->asked[h]) return EXITLM_OK;
    exitlm_status status = xl_exit_check(s->exits, h, s->stair.n - 1, xl_watched(m->talk, h), NULL, NULL, &m->checks[h], error);
    m->asked[h] = true;
    return status;
}

static exitlm_status decide(moment *m, const float *threshold, decision *d, exitlm_error *error) {
    const exitlm_session *s = m->talk->session;
    const exitlm_heads *heads = s->heads;
    const shared *all = m->w->all;
    const uint32_t depth = m->talk->index == 0 ? s->run.model->config.n_layers : 0; /* as the chain finds it: a prompt is through */
    const xl_check *previous = NULL;
    *d = (decision){.id = m->full, .head = -1};
    for (uint32_t h = 0; h < heads->n_heads; h++) {
        if (!xl_head_is_asked(&heads->head[h], threshold[h], depth)) continue;
        exitlm_status status = ask(m, h, error);
        if (status != EXITLM_OK) return status;
        const xl_check *c = &m->checks[h];
        d->check_macs += all->head_macs[h] + (heads->head[h].form == XL_FORM_FULL ? 0 : (double)xl_context_rows(s->exits) * s->run.model->config.dim);
        if (c->argmax >= 0 && xl_uncertainty(heads, h, heads->metric, c, previous) < threshold[h]) {
            d->id = c->argmax;
            d->head = (int32_t)h;
            return EXITLM_OK;
        }
        previous = c;
        /* The final head re-uses the scores of the vocabulary exit. */
        if (h + 1 == heads->n_heads && heads->head[h].form == XL_FORM_VOCABULARY) d->check_macs -= all->head_macs[h];
    }
    return EXITLM_OK;
}

/* ---- Counting ---- */
static uint8_t *depths_of(const shared *all, size_t item, size_t setting) {
    return all->depths + (item * all->plan->n_settings + setting) * all->plan->context_tokens;
}

double measure_loss(const exitlm_session *s, const float *logits, const xl_softmax_stats *stats, int32_t id) {
    return log(stats->sum_exp) - (logits[xl_slot(s->run.model, (uint32_t)id)] - stats->max);
}

bool measure_repeats(const int32_t *reply, uint32_t n, int32_t id) {
    for (uint32_t i = 3; n >= 3 && i < n; i++)
        if (reply[i] == id && memcmp(reply + i - 3, reply + n - 3, 3 * sizeof *reply) == 0) return true;
    return false;
}

static void count(moment *m, uint32_t setting, const decision *d, int32_t emitted) {
    shared *all = m->w->all;
    const exitlm_session *s = m->talk->session;
    const uint32_t layers = s->run.model->config.n_layers, at = m->talk->index;
    measure_sum *sum = &all->result->sums[m->node->item * all->plan->n_settings + setting];
    const uint32_t layer = d->head < 0 ? layers : s->heads->head[d->head].layer;
    sum->tokens++;
    if (d->head >= 0) {
        sum->exits[d->head]++;
        sum->wrong[d->head] += d->id != m->full;
    }
    if (d->id != m->full) sum->departed = true;
    if (!sum->departed) sum->common++;
    sum->depth += (double)layer / layers;
    sum->work += d->check_macs / all->token_macs + (d->head < 0 ? 1 - layers * all->layer_macs / all->token_macs : 0);
    if (at < all->plan->context_tokens) depths_of(all, m->node->item, setting)[at] = (uint8_t)(layer < 255 ? layer : 255);
    if (emitted < 0) return; /* a stop that the full model would not have made */
    sum->loss += measure_loss(s, s->logits.row, &m->stats, emitted);
    sum->repeats += measure_repeats(s->stair.ids + m->talk->reply_pos, s->stair.n - m->talk->reply_pos, emitted);
}

/* Layers of the reply: a position runs as deep as the deepest token from it on asks for. */
static void end_reply(moment *m, uint32_t set) {
    shared *all = m->w->all;
    const uint32_t n = m->talk->index < all->plan->context_tokens ? m->talk->index : all->plan->context_tokens;
    for (uint32_t j = 0; j < all->plan->n_settings; j++) {
        if (!(set >> j & 1)) continue;
        const uint8_t *depth = depths_of(all, m->node->item, j);
        double layers = 0;
        uint8_t deepest = 0;
        for (uint32_t i = n; i-- > 0; layers += deepest) deepest = depth[i] > deepest ? depth[i] : deepest;
        all->result->sums[m->node->item * all->plan->n_settings + j].work += layers * all->layer_macs / all->token_macs;
    }
}

static void end_conversation(worker *w, uint32_t set) { /* counted by the setting that runs longest: the last to end */
    atomic_fetch_add(&w->all->finished, (size_t)__builtin_popcount(set));
}

/* ---- Recording along the full model's text ---- */
static bool grow_record(measure_record *r, uint32_t n_heads) {
    if (r->n < r->capacity) return true;
    size_t more = r->capacity ? 2 * r->capacity : 64;
    uint32_t *c = realloc(r->conversation, more * sizeof *c);
    if (c) r->conversation = c;
    uint8_t *f = realloc(r->first, more);
    if (f) r->first = f;
    int32_t *u = realloc(r->full, more * sizeof *u);
    if (u) r->full = u;
    measure_check *k = realloc(r->checks, more * n_heads * sizeof *k);
    if (k) r->checks = k;
    if (!c || !f || !u || !k) return false;
    r->capacity = more;
    return true;
}

static exitlm_status keep_checks(moment *m, exitlm_error *error) {
    const uint32_t n_heads = m->talk->session->heads->n_heads;
    measure_record *r = &m->w->all->records[m->node->item];
    if (!grow_record(r, n_heads)) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for the heads' answers");
    r->conversation[r->n] = (uint32_t)m->node->item;
    r->first[r->n] = m->talk->index == 0;
    r->full[r->n] = m->full;
    for (uint32_t h = 0; h < n_heads; h++) {
        exitlm_status status = ask(m, h, error);
        if (status != EXITLM_OK) return status;
        const xl_check *c = &m->checks[h];
        r->checks[r->n * n_heads + h] = (measure_check){c->entropy, c->p1, c->margin, c->other, c->argmax};
    }
    r->n++;
    return EXITLM_OK;
}

/* ---- Parting ---- */
static exitlm_status part(moment *m, int32_t id, uint32_t set, exitlm_error *error) {
    fork_point *f = calloc(1, sizeof *f);
    if (!f) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory to follow another setting");
    script_init(&f->node.script, m->w->all->plan->model);
    f->next = m->w->waiting;
    m->w->waiting = f;
    f->snapshot = xl_snapshot_take(&m->talk->session->stair);
    f->node.item = m->node->item;
    f->node.set = set;
    f->id = id;
    f->turn = m->talk->turn;
    f->index = m->talk->index + 1;
    f->reply_pos = m->talk->reply_pos;
    if (!f->snapshot) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory to follow another setting");
    return script_copy(&f->node.script, &m->node->script, error);
}

static void free_fork(fork_point *f) {
    xl_snapshot_free(f->snapshot);
    script_free(&f->node.script);
    free(f);
}

static exitlm_status resume(worker *w, xl_talk *talk, exitlm_error *error) {
    fork_point *f = w->waiting;
    node *n = &w->nodes[talk - w->talks];
    w->waiting = f->next;
    exitlm_status status = xl_snapshot_restore(f->snapshot, &talk->session->stair, error);
    script_free(&n->script);
    *n = f->node;
    script_init(&f->node.script, n->script.dialog.model); /* it has moved */
    talk->turn = f->turn;
    talk->index = f->index;
    talk->reply_pos = f->reply_pos;
    talk->resume_id = f->id;
    free_fork(f);
    return status;
}

/* ---- Callbacks ---- */
static exitlm_status begin(void *user, xl_talk *talk, const int32_t **ids, size_t *n, exitlm_error *error) {
    worker *w = user;
    const measure_plan *plan = w->all->plan;
    *n = 0;
    if (w->waiting) return resume(w, talk, error);
    for (;;) {
        size_t item = atomic_fetch_add(&w->all->next_item, 1);
        if (item >= plan->n_items) return EXITLM_OK;
        node *node = &w->nodes[talk - w->talks];
        node->item = item;
        node->set = plan->n_settings == 32 ? UINT32_MAX : (1u << plan->n_settings) - 1;
        exitlm_status status = script_begin(&node->script, &plan->items[item], ids, n, error);
        if (status != EXITLM_OK || *n) return status;
        end_conversation(w, node->set);
    }
}

typedef struct group {
    int32_t id; /* -1: the reply ends */
    uint32_t set;
} group;

static void join(group *groups, uint32_t *n, int32_t id, uint32_t setting) {
    uint32_t g = 0;
    while (g < *n && groups[g].id != id) g++;
    if (g == *n) groups[(*n)++] = (group){id, 0};
    groups[g].set |= 1u << setting;
}

/* One group stays in the talk: that which ends the reply if the conversation goes on, else the largest that goes on; the others part. */
static exitlm_status split(moment *m, group *groups, uint32_t n, int32_t *id, exitlm_error *error) {
    const bool more_turns = script_goes_on(&m->node->script);
    uint32_t stays = n;
    for (uint32_t g = 0; g < n; g++) {
        if (groups[g].id < 0) {
            end_reply(m, groups[g].set);
            if (!more_turns) end_conversation(m->w, groups[g].set);
            else stays = g;
        } else if (stays == n || (groups[stays].id >= 0 && __builtin_popcount(groups[g].set) > __builtin_popcount(groups[stays].set))) {
            stays = g;
        }
    }
    *id = stays < n ? groups[stays].id : -1;
    if (stays == n) {
        m->node->set = 0;
        return EXITLM_OK;
    }
    exitlm_status status = EXITLM_OK;
    for (uint32_t g = 0; g < n && status == EXITLM_OK; g++)
        if (g != stays && groups[g].id >= 0) status = part(m, groups[g].id, groups[g].set, error);
    m->node->set = groups[stays].set;
    return status;
}

static exitlm_status choose(void *user, xl_talk *talk, int32_t *id, exitlm_error *error) {
    worker *w = user;
    const measure_plan *plan = w->all->plan;
    exitlm_session *s = talk->session;
    moment m = {.w = w, .talk = talk, .node = &w->nodes[talk - w->talks]};
    group groups[MEASURE_MAX];
    uint32_t n_groups = 0;
    int32_t next = -1;
    const bool follows = script_token(&m.node->script, talk->index, &next);
    const bool over = follows ? next < 0 : talk->index >= plan->reply_tokens;
    if (!over) {
        m.full = xl_logits_argmax(&s->logits, s->logits.row);
        s->run.kernels->softmax_stats(s->logits.row, s->run.model->config.vocab, &m.stats);
    }
    exitlm_status status = EXITLM_OK;
    for (uint32_t j = 0; j < plan->n_settings && status == EXITLM_OK; j++) {
        decision d;
        if (!(m.node->set >> j & 1)) continue;
        if (over) {
            join(groups, &n_groups, -1, j);
            continue;
        }
        status = decide(&m, plan->settings[j].threshold, &d, error);
        if (status != EXITLM_OK) break;
        const bool stop = !follows && xl_token_is_eog(s->run.model->tokenizer, d.id);
        const int32_t emitted = follows ? next : stop ? -1 : d.id;
        if (!stop || d.id != m.full) count(&m, j, &d, emitted);
        join(groups, &n_groups, emitted, j);
    }
    if (status == EXITLM_OK && plan->record && !over && (m.node->set & 1)) status = keep_checks(&m, error);
    atomic_fetch_add_explicit(&w->all->tokens, !over, memory_order_relaxed);
    return status == EXITLM_OK ? split(&m, groups, n_groups, id, error) : status;
}

static exitlm_status more(void *user, xl_talk *talk, const int32_t **ids, size_t *n, exitlm_error *error) {
    worker *w = user;
    node *node = &w->nodes[talk - w->talks];
    const exitlm_session *s = talk->session;
    *n = 0;
    if (node->set == 0) return EXITLM_OK;
    exitlm_status status = script_next(&node->script, s->stair.ids + talk->reply_pos, s->stair.n - talk->reply_pos, ids, n, error);
    /* Over, or longer than the context: the driver ends it where it stands. */
    if (status == EXITLM_OK && (*n == 0 || s->stair.n + *n >= s->stair.ctx)) {
        end_conversation(w, node->set);
        *n = 0;
    }
    return status;
}

bool measure_step(shared *all, bool leader) {
    double now = cli_clock_ms(NULL), seconds = (now - all->start_ms) / 1000;
    if (leader && all->plan->label && now - all->last_ms > 1000) {
        const double total = (double)(all->plan->n_items * all->plan->n_settings), done = (double)atomic_load(&all->finished);
        fprintf(stderr, "\r%s  %5.1f %%  %zu tokens, %.0f tokens/s, %.0f s left    ", all->plan->label, 100 * done / total, atomic_load(&all->tokens),
                (double)atomic_load(&all->tokens) / seconds, done > 0 ? seconds * (total - done) / done : 0);
        fflush(stderr);
        all->last_ms = now;
    }
    if (cli_interrupted()) atomic_store(&all->stop, true);
    return !atomic_load(&all->stop);
}

static bool step(void *user) {
    const worker *w = user;
    return measure_step(w->all, w->leader);
}

/* ---- Running ---- */
static int run_worker(shared *all, bool leader) {
    const measure_plan *plan = all->plan;
    const xl_rollout rollout = {NULL, begin, choose, more, step};
    uint32_t layers[EXITLM_MAX_HEADS];
    exitlm_error error;
    exitlm_session_options options = {.heads = plan->heads, .context_tokens = plan->context_tokens, .kv_type = plan->kv_type, .kernel = plan->kernel};
    worker w = {.all = all, .leader = leader, .nodes = calloc(plan->batch, sizeof(node))};
    if (!w.nodes) return cli_no_memory("conversations");
    for (uint32_t h = 0; h < plan->heads->n_heads; h++) layers[h] = plan->heads->head[h].layer;
    for (uint32_t i = 0; i < plan->batch; i++) script_init(&w.nodes[i].script, plan->model);
    xl_rollout r = rollout;
    r.user = &w;
    int status = CLI_OK;
    if (xl_talks_create(&w.talks, plan->batch, plan->model, &options, layers, plan->heads->n_heads, &error) != EXITLM_OK ||
        xl_rollout_run(&r, w.talks, plan->batch, &error) != EXITLM_OK)
        status = cli_report(&error, NULL);
    while (w.waiting) {
        fork_point *f = w.waiting;
        w.waiting = f->next;
        free_fork(f);
    }
    for (uint32_t i = 0; i < plan->batch; i++) script_free(&w.nodes[i].script);
    xl_talks_free(w.talks, plan->batch);
    free(w.nodes);
    return status;
}

static void run_part(void *arg, uint32_t part, uint32_t parts) {
    shared *all = arg;
    (void)parts;
    int status = all->plan->kv == EXITLM_POLICY_EXACT ? run_worker(all, part == 0) : measure_write(all, part == 0);
    if (status == CLI_OK) return;
    atomic_store(&all->status, status);
    atomic_store(&all->stop, true);
}

static void free_record(measure_record *r) {
    free(r->conversation);
    free(r->first);
    free(r->full);
    free(r->checks);
    *r = (measure_record){0};
}

/* The conversations' records one after the other. */
static int gather_records(shared *all, measure_record *out) {
    const uint32_t n_heads = all->plan->heads->n_heads;
    size_t total = 0;
    for (size_t i = 0; i < all->plan->n_items; i++) total += all->records[i].n;
    *out = (measure_record){.capacity = total, .conversation = malloc((total + 1) * sizeof(uint32_t)), .first = malloc(total + 1),
                            .full = malloc((total + 1) * sizeof(int32_t)), .checks = malloc((total * n_heads + 1) * sizeof(measure_check))};
    if (!out->conversation || !out->first || !out->full || !out->checks) return cli_no_memory("the heads' answers");
    for (size_t i = 0; i < all->plan->n_items; i++) {
        const measure_record *r = &all->records[i];
        if (!r->n) continue;
        memcpy(out->conversation + out->n, r->conversation, r->n * sizeof *r->conversation);
        memcpy(out->first + out->n, r->first, r->n);
        memcpy(out->full + out->n, r->full, r->n * sizeof *r->full);
        memcpy(out->checks + out->n * n_heads, r->checks, r->n * n_heads * sizeof *r->checks);
        out->n += r->n;
    }
    return CLI_OK;
}

int measure_run(const measure_plan *plan, xl_pool *pool, measure_result *result, bool *complete) {
    shared all = {.plan = plan, .result = result, .start_ms = cli_clock_ms(NULL)};
    *result = (measure_result){.n_items = plan->n_items, .n_settings = plan->n_settings};
    *complete = false;
    if (plan->n_settings == 0 || plan->n_settings > MEASURE_MAX) return cli_fail("internal: %zu settings", plan->n_settings);
    if (plan->record && plan->kv != EXITLM_POLICY_EXACT) return cli_fail("internal: nothing is recorded where K/V is not exact");
    result->sums = calloc(plan->n_items * plan->n_settings + 1, sizeof *result->sums);
    all.depths = calloc(plan->n_items * plan->n_settings + 1, plan->context_tokens);
    all.records = calloc(plan->n_items + 1, sizeof *all.records);
    int status = result->sums && all.depths && all.records ? CLI_OK : cli_no_memory("the measurements");
    all.layer_macs = (double)xl_layer_macs(plan->model);
    all.token_macs = (double)xl_token_macs(plan->model);
    for (uint32_t h = 0; h < plan->heads->n_heads; h++) all.head_macs[h] = (double)xl_head_macs(plan->model, &plan->heads->head[h]);
    if (status == CLI_OK) xl_pool_run(pool, run_part, &all);
    if (status == CLI_OK) status = atomic_load(&all.status);
    *complete = !atomic_load(&all.stop);
    if (status == CLI_OK && plan->record) status = gather_records(&all, &result->record);
    if (plan->label) fprintf(stderr, "\r%s  %zu conversations, %zu tokens in %.0f s                      \n", plan->label, plan->n_items, atomic_load(&all.tokens),
                             (cli_clock_ms(NULL) - all.start_ms) / 1000);
    result->seconds = (cli_clock_ms(NULL) - all.start_ms) / 1000;
    for (size_t i = 0; all.records && i < plan->n_items; i++) free_record(&all.records[i]);
    free(all.records);
    free(all.depths);
    return status;
}

void measure_free(measure_result *r) {
    free(r->sums);
    free_record(&r->record);
    *r = (measure_result){0};
}
