/* The step machine of one reply: prompt, then token after token, each by the chain of exits or by the full model. A step does a
 * bounded piece of work, so a caller can stop, or wait for weights, between any two. Text and stop strings: reply.c. */
#include "generate.h"

#include <string.h>

#include "base/fmath.h"
#include "reply.h"

#define DRAFT_ACCURACY 0.90f /* level whose thresholds make a draft, in mode LOSSLESS */

double xl_now(const exitlm_session *s) { return s->clock_ms ? s->clock_ms(s->clock_user) : -1; }

void xl_generation_take(exitlm_session *s, xl_arena *arena) {
    s->generation = xl_arena_take(arena, 1, sizeof *s->generation);
    xl_chosen *tokens = xl_arena_take(arena, s->ctx, sizeof *tokens);
    if (s->generation) s->generation->tokens = tokens;
    xl_draft_take(s, arena);
}

void xl_generation_free(exitlm_session *s) {
    xl_generation *g = s->generation;
    xl_free(&s->allocator, g->text, 1, g->text_capacity);
    xl_free(&s->allocator, g->context, 1, g->context_capacity);
    g->text = g->context = NULL;
    g->text_capacity = g->context_capacity = 0;
}

void xl_generation_end(exitlm_session *s) {
    xl_generation *g = s->generation;
    g->phase = XL_IDLE;
    g->n_tokens = g->n_released = 0;
    g->text_bytes = 0;
    g->context_known = false;
}

/* ---- Start -------------------------------------------------------------------------- */

void exitlm_generate_defaults(exitlm_generate_options *options) {
    *options = (exitlm_generate_options){.kv = (exitlm_kv_policy)-1};
}

static exitlm_status bad(exitlm_error *error, const char *what, double value, const char *range) {
    return xl_fail(error, EXITLM_USAGE, "%s is %g: %s", what, value, range);
}

static bool within(float value, float low, float high) { return value >= low && value <= high; }

static exitlm_status check_numbers(const exitlm_generate_options *o, exitlm_error *error) {
    if (o->accuracy != 0 && !within(o->accuracy, 0.5f, 1)) return bad(error, "accuracy", o->accuracy, "it must lie between 0.5 and 1");
    if (!within(o->temperature, 0, 100)) return bad(error, "temperature", o->temperature, "it must lie between 0 and 100");
    if (!within(o->top_p, 0, 1)) return bad(error, "top_p", o->top_p, "it must lie between 0 and 1");
    if (!within(o->min_p, 0, 1)) return bad(error, "min_p", o->min_p, "it must lie between 0 and 1");
    if (o->repeat_penalty != 0 && !within(o->repeat_penalty, 0.1f, 10)) return bad(error, "repeat_penalty", o->repeat_penalty, "it must lie between 0.1 and 10");
    if (!within(o->audit, 0, 1)) return bad(error, "audit", o->audit, "it must lie between 0 and 1");
    if (o->max_draft >= XL_MAX_VERIFY) return bad(error, "max_draft", o->max_draft, "at most 8 drafts are verified at once");
    if (o->draft_length >= XL_MAX_VERIFY) return bad(error, "draft_length", o->draft_length, "at most 8 drafts are verified at once");
    if ((unsigned)o->mode >= EXITLM_MODE_COUNT) return bad(error, "mode", o->mode, "unknown");
    if ((unsigned)o->strategy >= EXITLM_STRATEGY_COUNT) return bad(error, "strategy", o->strategy, "unknown");
    if ((int)o->kv < -1 || (int)o->kv >= EXITLM_POLICY_COUNT) return bad(error, "kv", o->kv, "unknown");
    if (o->n_stop > XL_MAX_STOPS) return bad(error, "number of stop strings", (double)o->n_stop, "at most 16 are possible");
    return EXITLM_OK;
}

static exitlm_status copy_stops(xl_generation *g, const exitlm_generate_options *o, exitlm_error *error) {
    g->n_stop = 0;
    for (size_t i = 0; i < o->n_stop; i++) {
        size_t n = strlen(o->stop[i]);
        if (n == 0 || n > XL_MAX_STOP_BYTES)
            return xl_fail(error, EXITLM_USAGE, "stop string %zu has %zu bytes: 1 to %d are possible", i, n, XL_MAX_STOP_BYTES);
        memcpy(g->stop[i], o->stop[i], n);
        g->stop_bytes[i] = (uint32_t)n;
    }
    g->n_stop = (uint32_t)o->n_stop;
    return EXITLM_OK;
}

/* What a layer costs that a waiting position runs later, in a batch, against running it at once: less natively, where waiting for weights
 * is most of a single position's time, than in WebAssembly, where arithmetic is (SPEED.md, "Rows of a batch"). */
#ifdef __wasm__
#define WAITING 0.6
#else
#define WAITING 0.25
#endif

/* A token's expected multiply-adds under a level, from its coverage. */
static double expected_macs(const exitlm_session *s, const exitlm_level *level) {
    const exitlm_model *m = s->model;
    const double layer = (double)xl_layer_macs(m), token = (double)xl_token_macs(m);
    double sum = 0, rest = 1;
    for (uint32_t h = 0; h < s->heads->n_heads; h++) {
        const double at = s->heads->head[h].layer;
        sum += rest * (level->threshold[h] > 0 ? (double)xl_head_macs(m, &s->heads->head[h]) : 0);
        sum += level->coverage[h] * layer * (at + xl_later_layers(m, s->heads, h, level->kv, WAITING));
        rest -= level->coverage[h];
    }
    return sum + rest * token;
}

/* The K/V policy for who asks for none: of those that are calibrated for the level, the one that is expected to cost least here. */
static exitlm_kv_policy choose_policy(const exitlm_session *s, exitlm_strategy strategy, float accuracy) {
    const exitlm_heads *heads = s->heads;
    const exitlm_level *best = NULL;
    for (int kv = 0; kv < EXITLM_POLICY_COUNT; kv++) {
        const exitlm_level *row = xl_heads_row(heads, strategy, accuracy, (exitlm_kv_policy)kv);
        if (!row || (kv == EXITLM_POLICY_MAPS && !xl_heads_have_maps(heads))) continue;
        if (!best || expected_macs(s, row) < expected_macs(s, best)) best = row;
    }
    return best ? best->kv : heads->kv;
}

/* Thresholds and K/V policy of mode EXIT (and the heads that draft in LOSSLESS). */
static exitlm_status choose_chain(exitlm_session *s, exitlm_error *error) {
    xl_generation *g = s->generation;
    const exitlm_generate_options *o = &g->options;
    g->n_chain = 0;
    if (o->mode == EXITLM_MODE_FULL) return EXITLM_OK;
    if (!s->heads)
        return xl_fail(error, EXITLM_USAGE, "mode %s needs exit heads, and none are loaded: give a heads file (train one with exitlm train) or use mode full",
                       o->mode == EXITLM_MODE_EXIT ? "exit" : "lossless");
    bool exits = o->mode == EXITLM_MODE_EXIT;
    float accuracy = o->accuracy != 0 ? o->accuracy : exits ? 0.95f : DRAFT_ACCURACY;
    g->kv = (int)o->kv >= 0 ? o->kv : o->thresholds || !exits ? s->heads->kv : choose_policy(s, o->strategy, accuracy);
    if (g->kv == EXITLM_POLICY_MAPS && !xl_heads_have_maps(s->heads))
        return xl_fail(error, EXITLM_USAGE, "K/V policy maps: this heads file holds no maps; use exact or propagate");
    memset(g->threshold, 0, sizeof g->threshold);
    if (o->thresholds) memcpy(g->threshold, o->thresholds, s->heads->n_heads * sizeof(float));
    else if (!xl_heads_thresholds(s->heads, o->strategy, accuracy, g->kv, g->threshold) && !exits)
        xl_heads_thresholds(s->heads, EXITLM_STRATEGY_MAX_COVERAGE, accuracy, g->kv, g->threshold); /* drafts need no certificate */
    g->n_chain = s->heads->n_heads;
    return EXITLM_OK;
}

/* How much of what the session holds is good for this prompt. The last token of the prompt is always run again unless its
 * hidden state is at hand: it decides the first token. */
static uint32_t common_prefix(const exitlm_session *s, const int32_t *ids, size_t n, bool exact_only) {
    uint32_t common = 0;
    while (common < s->n && common < n && s->ids[common] == ids[common]) common++;
    for (uint32_t p = 0; exact_only && p < common; p++)
        if (s->made[p] != XL_MADE_EXACT) common = p;
    return common == n ? common - 1 : common;
}

static void begin_token(xl_generation *g) {
    g->next_head = 0;
    g->has_previous = false;
    g->check_macs = 0;
}

static void clear_reply(xl_generation *g) {
    g->n_tokens = g->n_released = 0;
    g->text_bytes = g->released_bytes = g->decided_bytes = 0;
    g->utf8 = (xl_utf8_stream){0};
    g->stop_found = g->ended_by_token = false;
    memset(g->exits, 0, sizeof g->exits);
    g->full_tokens = g->draft_attempts = g->drafted = g->accepted = g->audited = g->audit_disagreed = 0;
    g->depth_sum = 0;
    g->n_events = g->events_given = 0;
}

static exitlm_status start(exitlm_session *s, const int32_t *ids, size_t n, const exitlm_generate_options *options, exitlm_error *error) {
    exitlm_generate_options defaults;
    exitlm_generate_defaults(&defaults);
    const exitlm_generate_options *o = options ? options : &defaults;
    xl_generation *g = s->generation;
    exitlm_status status = check_numbers(o, error);
    if (status != EXITLM_OK) return status;
    if (n == 0) return xl_fail(error, EXITLM_USAGE, "an empty prompt: at least one token is needed");
    if (n >= s->ctx)
        return xl_fail(error, EXITLM_CONTEXT_FULL, "the prompt has %zu tokens and the context holds %u: shorten it or ask for a larger context", n,
                       (unsigned)s->ctx);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= s->model->config.vocab)
            return xl_fail(error, EXITLM_USAGE, "token id %ld at index %zu is outside the vocabulary of %u", (long)ids[i], i, (unsigned)s->model->config.vocab);
    g->phase = XL_IDLE;
    g->options = *o;
    if (o->draft_layer < 0 || (uint32_t)o->draft_layer > s->model->config.n_layers)
        return bad(error, "draft_layer", o->draft_layer, "it must be at most the number of layers (0: adaptive)");
    status = copy_stops(g, o, error);
    if (status == EXITLM_OK) status = choose_chain(s, error);
    g->options.stop = NULL;
    g->options.thresholds = NULL;
    if (status != EXITLM_OK) return status;

    g->sampler = (xl_sampler){o->temperature, o->top_p, o->min_p, o->repeat_penalty == 0 ? 1 : o->repeat_penalty, o->top_k, o->seed};
    clear_reply(g);
    g->start_ms = g->previous_ms = xl_now(s);
    g->reused = common_prefix(s, ids, n, o->mode != EXITLM_MODE_EXIT || g->kv == EXITLM_POLICY_EXACT);
    xl_session_truncate(s, g->reused);
    status = xl_session_append(s, ids + g->reused, n - g->reused, error);
    if (status != EXITLM_OK) return status;
    g->prompt_n = (uint32_t)n;
    s->prefix = s->wanted_from = g->prompt_n - 1;
    g->start_macs = s->macs - s->prefix_macs;
    g->limit = s->ctx - g->prompt_n;
    if (o->max_tokens && o->max_tokens < g->limit) g->limit = o->max_tokens;
    status = xl_reply_reserve(s, g->limit, error);
    if (status != EXITLM_OK) return status;
    begin_token(g);
    xl_draft_start(s);
    g->phase = XL_PROMPT;
    return EXITLM_OK;
}

exitlm_status exitlm_session_start(exitlm_session *session, const int32_t *ids, size_t n, const exitlm_generate_options *options,
                                   exitlm_error *error) {
    session->generation->context_known = false;
    return start(session, ids, n, options, error);
}

exitlm_status xl_generation_start(exitlm_session *s, const int32_t *ids, size_t n, const exitlm_generate_options *options, exitlm_error *error) {
    return start(s, ids, n, options, error);
}

void exitlm_session_stop(exitlm_session *session) {
    xl_generation *g = session->generation;
    if (g->phase == XL_IDLE || g->phase == XL_DONE) return;
    if (g->phase != XL_FINISHING) g->reason = EXITLM_REASON_ABORT;
    g->n_events = g->events_given = 0;
    g->phase = XL_FINISHING;
    xl_reply_finish(session);
}

/* ---- Choosing ---------------------------------------------------------------------------- */

exitlm_status xl_choose_full(exitlm_session *s, uint32_t row, uint32_t pos, int32_t *id, float *confidence) {
    float *logits = s->logits + row * s->logits_stride;
    xl_generation *g = s->generation;
    xl_softmax_stats stats;
    s->kernels->softmax_stats(logits, s->model->config.vocab, &stats);
    *confidence = 1 / stats.sum_exp;
    if (xl_sampler_is_plain(&g->sampler)) {
        *id = stats.second < stats.max ? (int32_t)xl_id(s->model, (uint32_t)stats.arg) : xl_logits_argmax(s, logits);
        return EXITLM_OK;
    }
    xl_logits_by_id(s, logits, s->scratch_logits);
    uint32_t seen = pos + 1, window = seen < XL_REPEAT_WINDOW ? seen : XL_REPEAT_WINDOW;
    *id = xl_sample(&g->sampler, s->scratch_logits, NULL, s->model->config.vocab, pos + 1, s->ids + seen - window, window,
                    logits);
    return EXITLM_OK;
}

/* Uniform in [0, 1) for the audit, apart from the noise of sampling. */
static float audit_draw(uint64_t seed, uint32_t pos) {
    double g = xl_gumbel(seed ^ 0x61756469745f5f5fu, pos, -1);
    return (float)xl_exp(-xl_exp(-g));
}

/* A random share of the exits is run to the end and compared. */
static exitlm_status audit(exitlm_session *s, const xl_check *check, exitlm_error *error) {
    xl_generation *g = s->generation;
    uint32_t pos = s->n - 1;
    if (g->options.audit <= 0 || audit_draw(g->options.seed, pos) >= g->options.audit) return EXITLM_OK;
    exitlm_status status = xl_session_advance(s, s->model->config.n_layers, error);
    if (status == EXITLM_OK) status = xl_session_logits(s, pos, 1, error);
    if (status != EXITLM_OK) return status;
    g->audited++;
    g->audit_disagreed += xl_logits_argmax(s, s->logits) != check->argmax;
    return EXITLM_OK;
}

static float work_of(const exitlm_session *s, uint32_t layer, uint64_t other_macs) {
    return (float)(((double)layer * (double)xl_layer_macs(s->model) + (double)other_macs) / (double)xl_token_macs(s->model));
}

static exitlm_status take_exit(exitlm_session *s, const xl_check *check, exitlm_error *error) {
    xl_generation *g = s->generation;
    uint32_t head = g->next_head, layer = s->heads->head[head].layer;
    exitlm_status status = audit(s, check, error);
    if (status != EXITLM_OK) return status;
    xl_exit_kv(s, s->n - 1, head, g->kv);
    s->wanted_from = s->n; /* what remains of its layers is run for its K and V */
    xl_chosen chosen = {.id = check->id, .head = (int32_t)head, .layer = (uint16_t)layer, .confidence = 1 - check->uncertainty,
                        .work = work_of(s, layer, g->check_macs)};
    xl_emit(s, &chosen);
    return EXITLM_OK;
}

/* Runs slices up to `layer`. *again: a prompt's slice is done and more follow. */
static exitlm_status advance(exitlm_session *s, uint32_t layer, bool *again, exitlm_error *error) {
    *again = false;
    for (;;) {
        bool done;
        exitlm_status status = xl_session_advance_slice(s, layer, &done, error);
        if (status != EXITLM_OK || done) return status;
        if (s->n > 8 && s->depth[s->n - 8] <= s->depth[s->n - 1]) {
            *again = true;
            return EXITLM_OK;
        }
    }
}

/* One head of the chain for the last position. *exited: it answered. */
static exitlm_status try_head(exitlm_session *s, bool *exited, exitlm_error *error) {
    xl_generation *g = s->generation;
    uint64_t before = s->macs;
    xl_check check;
    *exited = false;
    exitlm_status status = xl_exit_check(s, g->next_head, s->n - 1, g->has_previous ? &g->previous : NULL, &g->sampler, &check, error);
    if (status != EXITLM_OK) return status;
    g->check_macs += s->macs - before;
    if (check.id >= 0 && check.uncertainty < g->threshold[g->next_head]) {
        *exited = true;
        return take_exit(s, &check, error);
    }
    g->previous = check;
    g->has_previous = true;
    g->previous_head = g->next_head++;
    return EXITLM_OK;
}

uint32_t xl_scored_rows(const exitlm_session *s, const xl_head *head) {
    return head->form == XL_FORM_VOCABULARY && !head->bias && !head->norm && !s->shortlist_copied ? head->rows / XL_TILE_ROWS * XL_TILE_ROWS : 0;
}

static exitlm_status full_token(exitlm_session *s, exitlm_error *error) {
    xl_generation *g = s->generation;
    uint32_t row0 = 0, layers = s->model->config.n_layers;
    uint64_t before = s->macs;
    if (g->has_previous && g->previous_head + 1 == g->n_chain) row0 = xl_scored_rows(s, &s->heads->head[g->n_chain - 1]);
    exitlm_status status = xl_session_logits_from(s, s->n - 1, 1, row0, error);
    if (status != EXITLM_OK) return status;
    xl_chosen chosen = {.head = -1, .layer = (uint16_t)layers};
    xl_choose_full(s, 0, s->n - 1, &chosen.id, &chosen.confidence);
    chosen.work = work_of(s, layers, g->check_macs + (s->macs - before));
    xl_emit(s, &chosen);
    return EXITLM_OK;
}

/* One token of the modes full and exit, or as much of it as a slice allows. */
static exitlm_status decode(exitlm_session *s, bool *again, exitlm_error *error) {
    xl_generation *g = s->generation;
    uint32_t layers = s->model->config.n_layers;
    exitlm_status status;
    while (g->next_head < g->n_chain && g->options.mode == EXITLM_MODE_EXIT) {
        const xl_head *head = &s->heads->head[g->next_head];
        /* A head that may never exit costs nothing; after a prompt that went through all layers only the last one is left to ask. */
        if (g->threshold[g->next_head] <= 0 || s->depth[s->n - 1] > head->layer) {
            g->next_head++;
            continue;
        }
        status = advance(s, head->layer, again, error);
        if (status != EXITLM_OK || *again) return status;
        if (g->kv == EXITLM_POLICY_MAPS) xl_map_waiting(s, g->next_head);
        bool exited;
        status = try_head(s, &exited, error);
        if (status != EXITLM_OK || exited) return status;
    }
    status = advance(s, layers, again, error);
    if (status != EXITLM_OK || *again) return status;
    return full_token(s, error);
}

/* ---- Emitting ------------------------------------------------------------------------------ */

static void finish(xl_generation *g, exitlm_reason reason) {
    g->reason = reason;
    g->phase = XL_FINISHING;
}

void xl_emit(exitlm_session *s, const xl_chosen *chosen) {
    xl_generation *g = s->generation;
    begin_token(g);
    if (xl_token_is_eog(s->model->tokenizer, chosen->id)) {
        g->ended_by_token = true;
        finish(g, EXITLM_REASON_STOP);
        return;
    }
    xl_chosen *token = &g->tokens[g->n_tokens++];
    *token = *chosen;
    token->at_ms = xl_now(s);
    if (g->n_tokens == 1) g->first_ms = token->at_ms;
    g->last_ms = token->at_ms;
    if (token->head >= 0) g->exits[token->head]++;
    else g->full_tokens++;
    g->depth_sum += (double)token->layer / s->model->config.n_layers;
    xl_reply_add(s, token);
    if (g->stop_found) finish(g, EXITLM_REASON_STOP);
    else if (g->n_tokens >= g->limit) finish(g, EXITLM_REASON_LENGTH);
    else g->phase = XL_DECODE;
}

/* The token that was emitted last becomes the next position. */
static exitlm_status append_last(exitlm_session *s, exitlm_error *error) {
    xl_generation *g = s->generation;
    if (g->n_tokens == 0 || s->n != g->prompt_n + g->n_tokens - 1) return EXITLM_OK;
    return xl_session_append(s, &g->tokens[g->n_tokens - 1].id, 1, error);
}

static void fill_stats(const exitlm_session *s, exitlm_stats *stats) {
    const xl_generation *g = s->generation;
    uint32_t n = g->n_released;
    *stats = (exitlm_stats){.reason = g->reason, .prompt_tokens = g->prompt_n, .reused_tokens = g->reused, .completion_tokens = n,
                            .prompt_ms = -1, .decode_ms = -1, .tokens_per_second = -1, .full_tokens = g->full_tokens,
                            .draft_attempts = g->draft_attempts, .drafted = g->drafted, .accepted = g->accepted, .audited = g->audited,
                            .audit_disagreed = g->audit_disagreed, .text = g->text ? g->text : "", .text_bytes = g->text_bytes};
    memcpy(stats->exits, g->exits, sizeof stats->exits);
    stats->mean_depth = g->n_tokens ? g->depth_sum / g->n_tokens : 0;
    /* The end-of-text token was computed too. */
    uint32_t computed = g->n_tokens + g->ended_by_token;
    stats->mean_work = computed ? (double)(s->macs - s->prefix_macs - g->start_macs) / ((double)xl_token_macs(s->model) * computed) : 0;
    if (!s->clock_ms || g->n_tokens == 0) return;
    stats->prompt_ms = g->first_ms - g->start_ms;
    stats->decode_ms = g->last_ms - g->first_ms;
    if (g->n_tokens > 1 && stats->decode_ms > 0) stats->tokens_per_second = (g->n_tokens - 1) * 1000.0 / stats->decode_ms;
}

static void token_event(exitlm_session *s, exitlm_event *event) {
    xl_generation *g = s->generation;
    const xl_chosen *t = &g->tokens[g->n_released];
    size_t end = t->text_end < g->text_bytes ? t->text_end : g->text_bytes;
    *event = (exitlm_event){.type = EXITLM_EVENT_TOKEN, .prompt_done = g->prompt_n, .prompt_total = g->prompt_n};
    event->token = (exitlm_token){.index = g->n_released, .id = t->id, .text = g->text + g->released_bytes, .text_bytes = end - g->released_bytes,
                                  .layer = t->layer, .of = s->model->config.n_layers, .work = t->work, .head = t->head,
                                  .confidence = t->confidence, .drafted = t->drafted, .draft_head = t->draft_head,
                                  .ms = s->clock_ms ? t->at_ms - g->previous_ms : -1};
    g->previous_ms = t->at_ms;
    g->released_bytes = end;
    g->n_released++;
}

/* Something to give out before more is computed? */
static bool give(exitlm_session *s, exitlm_event *event) {
    xl_generation *g = s->generation;
    if (g->events_given < g->n_events) {
        *event = g->events[g->events_given++];
        return true;
    }
    g->n_events = g->events_given = 0;
    if (g->n_released < g->n_tokens && xl_reply_decided(s, &g->tokens[g->n_released])) {
        token_event(s, event);
        return true;
    }
    if (g->phase != XL_FINISHING && g->phase != XL_DONE) return false;
    g->phase = XL_DONE;
    *event = (exitlm_event){.type = EXITLM_EVENT_DONE};
    fill_stats(s, &event->stats);
    return true;
}

static void progress_event(const exitlm_session *s, exitlm_event *event) {
    const xl_generation *g = s->generation;
    uint32_t fresh = g->prompt_n - g->reused, deep = 0, layers = s->model->config.n_layers;
    for (uint32_t p = g->reused; p < g->prompt_n; p++) deep += s->depth[p];
    *event = (exitlm_event){.type = EXITLM_EVENT_PROGRESS, .prompt_total = g->prompt_n};
    event->prompt_done = g->reused + (uint32_t)((uint64_t)deep / layers);
    if (event->prompt_done > g->reused + fresh) event->prompt_done = g->prompt_n;
}

exitlm_status exitlm_session_step(exitlm_session *s, exitlm_event *event, exitlm_error *error) {
    xl_generation *g = s->generation;
    if (g->phase == XL_IDLE) return xl_fail(error, EXITLM_USAGE, "no reply is under way: start one first");
    if (give(s, event)) return EXITLM_OK;
    bool again = false;
    exitlm_status status = EXITLM_OK;
    if (g->phase == XL_PROMPT) {
        /* With all weights there the prompt goes through all layers; else the chain may answer before they are. */
        if (s->model->complete || g->options.mode != EXITLM_MODE_EXIT) status = advance(s, s->model->config.n_layers, &again, error);
        if (status == EXITLM_OK && !again) g->phase = XL_DECODE;
    }
    if (status == EXITLM_OK && !again && g->phase == XL_DECODE) {
        status = append_last(s, error);
        if (status == EXITLM_OK) status = g->options.mode == EXITLM_MODE_LOSSLESS ? xl_draft_round(s, error) : decode(s, &again, error);
    }
    if (status != EXITLM_OK) return status;
    if (g->phase == XL_FINISHING) xl_reply_finish(s);
    if (!give(s, event)) progress_event(s, event);
    return EXITLM_OK;
}
