/* Conversations under many settings of the exits at once. See measure.h. */
#include "measure_parts.h"
#include "base/bytes.h"
#include "run/cost.h"
#include "run/rule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "run/snapshot.h"
#include "rollout.h"
#include "script.h"

static uint32_t wrong_exits(const xl_measure_sum *s) {
    uint32_t wrong = 0;
    for (int h = 0; h < EXITLM_MAX_HEADS; h++) wrong += s->wrong[h];
    return wrong;
}

double xl_measure_x(const xl_measure_sum *s) {
    return s->tokens ? (double)(wrong_exits(s) + s->wrong_full) / s->tokens : 0;
}

double xl_measure_x_in(const xl_measure_sum *s, uint32_t window) {
    if (s->window_tokens[window] == 0) return window == 0 ? 0 : -1;
    return (double)s->window_wrong[window] / s->window_tokens[window];
}

double xl_measure_wrong_exits(const xl_measure_sum *s) {
    return s->tokens ? (double)wrong_exits(s) / s->tokens : 0;
}

double xl_measure_mean_regret(const xl_measure_sum *s) {
    return s->tokens ? s->regret / s->tokens : 0;
}

double xl_measure_exited(const xl_measure_sum *s) {
    uint32_t exits = 0;
    for (int h = 0; h < EXITLM_MAX_HEADS; h++) exits += s->exits[h];
    return s->tokens ? (double)exits / s->tokens : 0;
}

xl_measure_means xl_measure_means_of(const xl_measure_result *r, size_t setting) {
    xl_measure_means m = {0};
    double loss = 0, repeats = 0;
    size_t n_exited = 0;
    for (size_t i = 0; i < r->measured[setting]; i++) {
        const xl_measure_sum *s = xl_measure_at(r, i, setting);
        const double exited = xl_measure_exited(s);
        m.agreement += 1 - xl_measure_x(s);
        m.regret += xl_measure_mean_regret(s);
        m.unwanted += s->tokens ? (double)s->unwanted / s->tokens : 0;
        if (exited > 0) {
            m.agreement_exited += 1 - xl_measure_wrong_exits(s) / exited;
            n_exited++;
        }
        m.mean_depth += s->tokens ? s->depth / s->tokens : 1;
        m.mean_work += s->tokens ? s->work / s->tokens : 1;
        m.common_prefix += s->common;
        loss += s->loss;
        repeats += s->repeats;
        m.tokens += s->tokens;
        for (int h = 0; h < EXITLM_MAX_HEADS; h++) m.coverage[h] += s->exits[h];
    }
    const double n = (double)r->measured[setting], tokens = m.tokens ? (double)m.tokens : 1;
    if (n == 0) return (xl_measure_means){.agreement = 1, .agreement_exited = 1};
    for (int h = 0; h < EXITLM_MAX_HEADS; h++) m.coverage[h] /= tokens;
    m.agreement /= n;
    m.regret /= n;
    m.unwanted /= n;
    m.agreement_exited = n_exited ? m.agreement_exited / (double)n_exited : 1;
    m.mean_depth /= n;
    m.mean_work /= n;
    m.common_prefix /= n;
    m.perplexity = exp(loss / tokens);
    m.repetition = repeats / tokens;
    return m;
}

/* ---- State ---- */
/* What one talk is about. */
typedef struct node {
    xl_script script;
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
    xl_measuring *all;
    bool leader;
    xl_talk *talks;
    node *nodes; /* [batch] */
    fork_point *waiting;
    float *full; /* [vocab] its logits, which a draw and a vocabulary exit would use up */
} worker;

/* What one setting does at the current position. */
typedef struct decision {
    int32_t id; /* the token; the model's own where no head exits */
    int32_t head;
    double check_macs;
} decision;

typedef struct moment {
    worker *w;
    xl_talk *talk;
    node *node;
    int32_t full;
    const float *logits;    /* the full ones */
    xl_softmax_stats stats; /* of them */
    xl_sampler noise;
    const xl_sampler *sampler; /* &noise, or NULL: greedy */
    xl_check checks[EXITLM_MAX_HEADS];
    bool asked[EXITLM_MAX_HEADS];
} moment;

/* ---- Deciding ---- */
/* Asks head h once for all settings. The uncertainty is worked out a setting at a time: it may
 * depend on the head asked before. */
static exitlm_status ask(moment *m, uint32_t h, exitlm_error *error) {
    exitlm_session *s = m->talk->session;
    if (m->asked[h]) return EXITLM_OK;
    exitlm_status status = xl_exit_check(s->exits, h, s->stair.n - 1, xl_watched(m->talk, h), NULL,
                                         m->sampler, &m->checks[h], error);
    m->asked[h] = true;
    return status;
}

static exitlm_status decide(moment *m, const xl_measure_setting *setting, decision *d,
                            exitlm_error *error) {
    const exitlm_session *s = m->talk->session;
    const exitlm_heads *heads = s->heads;
    const xl_measuring *all = m->w->all;
    /* as the chain finds it: a prompt is through */
    const uint32_t depth = m->talk->index == 0 ? s->run.model->config.n_layers : 0;
    const xl_check *previous = NULL;
    *d = (decision){.id = m->full, .head = -1};
    for (uint32_t h = 0; h < heads->n_heads; h++) {
        const float threshold =
            xl_threshold_of(heads, setting->threshold, m->talk->index == 0 ? setting->first : 0, h);
        if (!xl_head_is_asked(&heads->head[h], threshold, depth)) continue;
        exitlm_status status = ask(m, h, error);
        if (status != EXITLM_OK) return status;
        const xl_check *c = &m->checks[h];
        d->check_macs += all->head_macs[h] +
                         (heads->head[h].form == XL_FORM_FULL
                              ? 0
                              : (double)xl_context_rows(s->exits) * s->run.model->config.dim);
        if (c->id >= 0 && xl_uncertainty(heads, h, heads->metric, c, previous) < threshold) {
            d->id = c->id;
            d->head = (int32_t)h;
            return EXITLM_OK;
        }
        previous = c;
        /* What follows goes on from the scores of a vocabulary exit. */
        if (heads->head[h].form == XL_FORM_VOCABULARY) d->check_macs -= all->head_macs[h];
    }
    return EXITLM_OK;
}

/* ---- Counting ---- */
static uint8_t *depths_of(const xl_measuring *all, size_t item, size_t setting) {
    return all->depths + (item * all->plan->n_settings + setting) * all->plan->context_tokens;
}

static void count(moment *m, uint32_t setting, const decision *d, int32_t emitted) {
    xl_measuring *all = m->w->all;
    const exitlm_session *s = m->talk->session;
    const uint32_t layers = s->run.model->config.n_layers, at = m->talk->index;
    xl_measure_sum *sum = &all->result->sums[m->node->item * all->plan->n_settings + setting];
    const uint32_t layer = d->head < 0 ? layers : s->heads->head[d->head].layer;
    xl_count_token(all->plan, sum, at, d->head, d->id != m->full,
                   xl_token_regret(s, m->logits, m->full, d->id, m->sampler));
    sum->depth += (double)layer / layers;
    sum->work += d->check_macs / all->token_macs +
                 (d->head < 0 ? 1 - layers * all->layer_macs / all->token_macs : 0);
    if (at < all->plan->context_tokens)
        depths_of(all, m->node->item, setting)[at] = (uint8_t)(layer < 255 ? layer : 255);
    if (emitted < 0) return; /* a stop that the full model would not have made */
    sum->loss += xl_token_loss(s, m->logits, &m->stats, emitted);
    sum->repeats += xl_reply_repeats(s->stair.ids + m->talk->reply_pos,
                                     s->stair.n - m->talk->reply_pos, emitted);
}

/* Layers of the reply: a position runs as deep as the deepest token from it on asks for. */
static void end_reply(moment *m, uint32_t set) {
    xl_measuring *all = m->w->all;
    const uint32_t n =
        m->talk->index < all->plan->context_tokens ? m->talk->index : all->plan->context_tokens;
    for (uint32_t j = 0; j < all->plan->n_settings; j++) {
        if (!(set >> j & 1)) continue;
        const uint8_t *depth = depths_of(all, m->node->item, j);
        double layers = 0;
        uint8_t deepest = 0;
        for (uint32_t i = n; i-- > 0; layers += deepest)
            deepest = depth[i] > deepest ? depth[i] : deepest;
        all->result->sums[m->node->item * all->plan->n_settings + j].work +=
            layers * all->layer_macs / all->token_macs;
    }
}

/* counted by the setting that runs longest: the last to end */
static void end_conversation(worker *w, uint32_t set) {
    atomic_fetch_add(&w->all->finished, (size_t)__builtin_popcount(set));
}

/* ---- Recording along the full model's text ---- */
static bool grow_record(xl_measure_record *r, uint32_t n_heads) {
    if (r->n < r->capacity) return true;
    size_t more = r->capacity ? 2 * r->capacity : 64;
    uint32_t *c = realloc(r->conversation, more * sizeof *c);
    if (c) r->conversation = c;
    uint8_t *f = realloc(r->first, more);
    if (f) r->first = f;
    int32_t *u = realloc(r->full, more * sizeof *u);
    if (u) r->full = u;
    xl_measure_check *k = realloc(r->checks, more * n_heads * sizeof *k);
    if (k) r->checks = k;
    if (!c || !f || !u || !k) return false;
    r->capacity = more;
    return true;
}

static exitlm_status keep_checks(moment *m, exitlm_error *error) {
    const uint32_t n_heads = m->talk->session->heads->n_heads;
    xl_measure_record *r = &m->w->all->records[m->node->item];
    if (!grow_record(r, n_heads)) return xl_no_memory(error, "the heads' answers");
    r->conversation[r->n] = (uint32_t)m->node->item;
    r->first[r->n] = m->talk->index == 0;
    r->full[r->n] = m->full;
    for (uint32_t h = 0; h < n_heads; h++) {
        exitlm_status status = ask(m, h, error);
        if (status != EXITLM_OK) return status;
        const xl_check *c = &m->checks[h];
        r->checks[r->n * n_heads + h] = (xl_measure_check){
            .entropy = c->entropy,
            .p1 = c->p1,
            .margin = c->margin,
            .other = c->other,
            .regret = xl_token_regret(m->talk->session, m->logits, m->full, c->id, m->sampler),
            .argmax = c->argmax,
            .id = c->id};
    }
    r->n++;
    return EXITLM_OK;
}

/* ---- Parting ---- */
static exitlm_status part(moment *m, int32_t id, uint32_t set, exitlm_error *error) {
    fork_point *f = calloc(1, sizeof *f);
    if (!f) return xl_no_memory(error, "another setting");
    xl_script_init(&f->node.script, m->w->all->plan->model);
    f->next = m->w->waiting;
    m->w->waiting = f;
    f->snapshot = xl_snapshot_take(&m->talk->session->stair);
    f->node.item = m->node->item;
    f->node.set = set;
    f->id = id;
    f->turn = m->talk->turn;
    f->index = m->talk->index + 1;
    f->reply_pos = m->talk->reply_pos;
    if (!f->snapshot) return xl_no_memory(error, "another setting");
    return xl_script_copy(&f->node.script, &m->node->script, error);
}

static void free_fork(fork_point *f) {
    xl_snapshot_free(f->snapshot);
    xl_script_free(&f->node.script);
    free(f);
}

static exitlm_status resume(worker *w, xl_talk *talk, exitlm_error *error) {
    fork_point *f = w->waiting;
    node *n = &w->nodes[talk - w->talks];
    w->waiting = f->next;
    exitlm_status status = xl_snapshot_restore(f->snapshot, &talk->session->stair, error);
    xl_script_free(&n->script);
    *n = f->node;
    xl_script_init(&f->node.script, n->script.dialog.model); /* it has moved */
    talk->turn = f->turn;
    talk->index = f->index;
    talk->reply_pos = f->reply_pos;
    talk->resume_id = f->id;
    free_fork(f);
    return status;
}

/* ---- Callbacks ---- */
/* A seed of its own for each conversation: they are to be independent. */
static uint64_t seed_of(const xl_measure_plan *plan, const xl_dataset_item *item) {
    uint32_t hash = XL_HASH_START;
    for (size_t i = 0; i < item->n; i++)
        hash = xl_hash_more(hash, item->texts[i], strlen(item->texts[i]));
    return plan->seed + hash;
}

/* The full model's choice, greedy or drawn. */
static void choose_full(moment *m) {
    exitlm_session *s = m->talk->session;
    const xl_measure_plan *plan = m->w->all->plan;
    const uint32_t vocab = s->run.model->config.vocab;
    float confidence;
    s->run.kernels->softmax_stats(s->logits.row, vocab, &m->stats);
    m->logits = memcpy(m->w->full, s->logits.row, vocab * sizeof *m->w->full);
    if (plan->temperature == 0) {
        m->full = xl_logits_argmax(&s->logits, s->logits.row);
        return;
    }
    m->noise = (xl_sampler){.temperature = plan->temperature,
                            .repeat_penalty = 1,
                            .seed = seed_of(plan, &plan->items[m->node->item])};
    m->sampler = &m->noise;
    m->full = xl_rule_full(m->sampler, &s->logits, 0, s->stair.n - 1, &confidence);
}

static exitlm_status begin(void *user, xl_talk *talk, const int32_t **ids, size_t *n,
                           exitlm_error *error) {
    worker *w = user;
    const xl_measure_plan *plan = w->all->plan;
    *n = 0;
    if (w->waiting) return resume(w, talk, error);
    for (;;) {
        size_t item = atomic_fetch_add(&w->all->next_item, 1);
        if (item >= plan->n_items) return EXITLM_OK;
        node *node = &w->nodes[talk - w->talks];
        node->item = item;
        node->set = plan->n_settings == 32 ? UINT32_MAX : (1u << plan->n_settings) - 1;
        exitlm_status status = xl_script_begin(&node->script, &plan->items[item], ids, n, error);
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

/* One group stays in the talk: that which ends the reply if the conversation goes on, else the
 * largest that goes on; the others part. */
static exitlm_status split(moment *m, group *groups, uint32_t n, int32_t *id, exitlm_error *error) {
    const bool more_turns = xl_script_goes_on(&m->node->script);
    uint32_t stays = n;
    for (uint32_t g = 0; g < n; g++) {
        if (groups[g].id < 0) {
            end_reply(m, groups[g].set);
            if (!more_turns) end_conversation(m->w, groups[g].set);
            else stays = g;
        } else if (stays == n ||
                   (groups[stays].id >= 0 &&
                    __builtin_popcount(groups[g].set) > __builtin_popcount(groups[stays].set))) {
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
    const xl_measure_plan *plan = w->all->plan;
    exitlm_session *s = talk->session;
    moment m = {.w = w, .talk = talk, .node = &w->nodes[talk - w->talks]};
    group groups[XL_MEASURE_MAX];
    uint32_t n_groups = 0;
    int32_t next = -1;
    const bool follows = xl_script_token(&m.node->script, talk->index, &next);
    const bool over = follows ? next < 0 : talk->index >= plan->reply_tokens;
    if (!over) choose_full(&m);
    exitlm_status status = EXITLM_OK;
    for (uint32_t j = 0; j < plan->n_settings && status == EXITLM_OK; j++) {
        decision d;
        if (!(m.node->set >> j & 1)) continue;
        if (over) {
            join(groups, &n_groups, -1, j);
            continue;
        }
        status = decide(&m, &plan->settings[j], &d, error);
        if (status != EXITLM_OK) break;
        const bool stop = !follows && xl_token_is_eog(s->run.model->tokenizer, d.id);
        const int32_t emitted = follows ? next : stop ? -1 : d.id;
        if (!stop || d.id != m.full) count(&m, j, &d, emitted);
        join(groups, &n_groups, emitted, j);
    }
    if (status == EXITLM_OK && plan->record && !over && (m.node->set & 1))
        status = keep_checks(&m, error);
    atomic_fetch_add_explicit(&w->all->tokens, !over, memory_order_relaxed);
    return status == EXITLM_OK ? split(&m, groups, n_groups, id, error) : status;
}

static exitlm_status more(void *user, xl_talk *talk, const int32_t **ids, size_t *n,
                          exitlm_error *error) {
    worker *w = user;
    node *node = &w->nodes[talk - w->talks];
    const exitlm_session *s = talk->session;
    *n = 0;
    if (node->set == 0) return EXITLM_OK;
    exitlm_status status = xl_script_next(&node->script, s->stair.ids + talk->reply_pos,
                                          s->stair.n - talk->reply_pos, ids, n, error);
    /* Over, or longer than the context: the driver ends it where it stands. */
    if (status == EXITLM_OK && (*n == 0 || s->stair.n + *n >= s->stair.ctx)) {
        end_conversation(w, node->set);
        *n = 0;
    }
    return status;
}

static bool step(void *user) {
    const worker *w = user;
    return xl_measuring_step(w->all, w->leader);
}

/* ---- Running ---- */
static exitlm_status follow(worker *w, exitlm_error *error) {
    const xl_measure_plan *plan = w->all->plan;
    const xl_rollout rollout = {w, begin, choose, more, step};
    const exitlm_session_options options = {.heads = plan->heads,
                                            .context_tokens = plan->context_tokens,
                                            .kv_type = plan->kv_type,
                                            .kernel = plan->kernel};
    uint32_t layers[EXITLM_MAX_HEADS];
    for (uint32_t h = 0; h < plan->heads->n_heads; h++) layers[h] = plan->heads->head[h].layer;
    exitlm_status status = xl_talks_create(&w->talks, plan->batch, plan->model, &options, layers,
                                           plan->heads->n_heads, error);
    if (status == EXITLM_OK) status = xl_rollout_run(&rollout, w->talks, plan->batch, error);
    xl_talks_free(w->talks, plan->batch);
    return status;
}

static exitlm_status run_worker(xl_measuring *all, bool leader, exitlm_error *error) {
    const xl_measure_plan *plan = all->plan;
    worker w = {.all = all,
                .leader = leader,
                .nodes = calloc(plan->batch, sizeof(node)),
                .full = calloc(plan->model->config.vocab, sizeof(float))};
    if (!w.nodes || !w.full) {
        free(w.nodes);
        free(w.full);
        return xl_no_memory(error, "conversations");
    }
    for (uint32_t i = 0; i < plan->batch; i++) xl_script_init(&w.nodes[i].script, plan->model);
    exitlm_status status = follow(&w, error);
    while (w.waiting) {
        fork_point *f = w.waiting;
        w.waiting = f->next;
        free_fork(f);
    }
    for (uint32_t i = 0; i < plan->batch; i++) xl_script_free(&w.nodes[i].script);
    free(w.nodes);
    free(w.full);
    return status;
}

static void run_part(void *arg, uint32_t part, uint32_t parts) {
    xl_measuring *all = arg;
    exitlm_error error;
    (void)parts;
    const bool exact = all->plan->kv == EXITLM_POLICY_EXACT, leader = part == 0;
    exitlm_status status =
        exact ? run_worker(all, leader, &error) : xl_measure_written(all, leader, &error);
    if (status == EXITLM_OK) return;
    xl_failure_take(&all->failure, &error);
    atomic_store(&all->stop, true);
}

static void free_record(xl_measure_record *r) {
    free(r->conversation);
    free(r->first);
    free(r->full);
    free(r->checks);
    *r = (xl_measure_record){0};
}

/* Appends a record; its conversations count from `from` on. */
static bool append_record(xl_measure_record *to, const xl_measure_record *r, uint32_t from,
                          uint32_t n_heads) {
    for (size_t i = 0; i < r->n; i++) {
        if (!grow_record(to, n_heads)) return false;
        to->conversation[to->n] = r->conversation[i] + from;
        to->first[to->n] = r->first[i];
        to->full[to->n] = r->full[i];
        memcpy(to->checks + to->n * n_heads, r->checks + i * n_heads, n_heads * sizeof *to->checks);
        to->n++;
    }
    return true;
}

bool xl_measure_begin(xl_measure_result *result, size_t n_items, size_t n_settings) {
    *result = (xl_measure_result){.n_items = n_items, .n_settings = n_settings};
    result->sums = calloc(n_items * n_settings + 1, sizeof *result->sums);
    return result->sums != NULL;
}

bool xl_measure_add(xl_measure_result *result, const xl_measure_result *part, size_t from,
                    const size_t *settings, uint32_t n_heads) {
    for (size_t j = 0; j < part->n_settings; j++) {
        for (size_t i = 0; i < part->n_items; i++)
            result->sums[(from + i) * result->n_settings + settings[j]] =
                *xl_measure_at(part, i, j);
        result->measured[settings[j]] = from + part->n_items;
    }
    return append_record(&result->record, &part->record, (uint32_t)from, n_heads);
}

bool xl_measure_take(const xl_measure_result *all, size_t from, size_t n, const size_t *settings,
                     size_t n_settings, uint32_t n_heads, xl_measure_result *part) {
    const xl_measure_record *r = &all->record;
    size_t first = 0, end;
    if (!xl_measure_begin(part, n, n_settings)) return false;
    for (size_t j = 0; j < n_settings; j++) {
        part->measured[j] = n;
        for (size_t i = 0; i < n; i++)
            part->sums[i * n_settings + j] = *xl_measure_at(all, from + i, settings[j]);
    }
    while (first < r->n && r->conversation[first] < from) first++;
    for (end = first; end < r->n; end++)
        if (r->conversation[end] >= from + n) break;
    const xl_measure_record some = {.n = end - first,
                                    .conversation = r->conversation + first,
                                    .first = r->first + first,
                                    .full = r->full + first,
                                    .checks = r->checks + first * n_heads};
    /* as if they were all that there are: counted from 0 */
    return some.n == 0 || append_record(&part->record, &some, 0 - (uint32_t)from, n_heads);
}

exitlm_status xl_measure_run(const xl_measure_plan *plan, xl_pool *pool, xl_measure_result *result,
                             bool *complete, exitlm_error *error) {
    const size_t n_sums = plan->n_items * plan->n_settings;
    xl_measuring all = {.plan = plan, .result = result};
    *result = (xl_measure_result){0};
    *complete = false;
    if (plan->n_settings == 0 || plan->n_settings > XL_MEASURE_MAX)
        return xl_fail(error, EXITLM_USAGE, "internal: %zu settings", plan->n_settings);
    if (plan->record && plan->kv != EXITLM_POLICY_EXACT)
        return xl_fail(error, EXITLM_USAGE, "internal: nothing is recorded where K/V is not exact");
    if (plan->temperature > 0 && plan->kv != EXITLM_POLICY_EXACT)
        return xl_fail(error, EXITLM_USAGE, "internal: tokens are drawn with exact K/V alone");
    const bool begun = xl_measure_begin(result, plan->n_items, plan->n_settings);
    for (size_t j = 0; j < plan->n_settings; j++) result->measured[j] = plan->n_items;
    all.depths = calloc(n_sums + 1, plan->context_tokens);
    all.records = calloc(plan->n_items + 1, sizeof *all.records);
    exitlm_status status = EXITLM_OK;
    if (!begun || !all.depths || !all.records) status = xl_no_memory(error, "the measurements");
    all.layer_macs = (double)xl_layer_macs(plan->model);
    all.token_macs = (double)xl_token_macs(plan->model);
    for (uint32_t h = 0; h < plan->heads->n_heads; h++)
        all.head_macs[h] = (double)xl_head_macs(plan->heads, &plan->heads->head[h]);
    if (status == EXITLM_OK) {
        xl_measuring_show(&all, false);
        xl_pool_run(pool, run_part, &all);
        xl_measuring_show(&all, true);
        status = xl_failure_give(&all.failure, error);
    }
    *complete = !atomic_load(&all.stop);
    for (size_t i = 0; all.records && i < plan->n_items; i++) {
        if (status == EXITLM_OK &&
            !append_record(&result->record, &all.records[i], 0, plan->heads->n_heads))
            status = xl_no_memory(error, "the heads' answers");
        free_record(&all.records[i]);
    }
    free(all.records);
    free(all.depths);
    return status;
}

void xl_measure_free(xl_measure_result *r) {
    free(r->sums);
    free_record(&r->record);
    *r = (xl_measure_result){0};
}
