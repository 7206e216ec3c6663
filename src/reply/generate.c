/* The step machine of one reply: prompt, then token after token, each by the chain of exits or by
 * the full model. A step does a bounded piece of work, so a caller can stop, or wait for
 * weights, between any two. */
#include <string.h>

#include "model/loader.h"
#include "run/cost.h"
#include "session.h"

/* Level whose thresholds limit drafts, in mode LOSSLESS; and the threshold where it is not certified. */
#define DRAFT_ACCURACY 0.90f
#define DRAFT_UNCERTAINTY 0.05f

xl_generation *xl_generation_take(xl_arena *arena, const exitlm_model *model, uint32_t ctx) {
    xl_generation measured, *taken = xl_arena_take(arena, 1, sizeof *taken),
                            *g = taken ? taken : &measured;
    *g = (xl_generation){0};
    g->tokens = xl_arena_take(arena, ctx, sizeof *g->tokens);
    g->prompt = xl_arena_take(arena, ctx, sizeof *g->prompt);
    xl_text_out_take(&g->out, arena, model->tokenizer, ctx);
    return taken;
}

void xl_generation_end(xl_generation *g) {
    g->phase = XL_IDLE;
    g->n_tokens = g->n_released = 0;
    g->out.n_bytes = 0;
    g->context_known = false;
}

void xl_generation_copy(xl_generation *to, const xl_generation *from, uint32_t n) {
    xl_generation_end(to);
    if (!xl_generation_has_turn(from, n)) return;
    to->context_known = true;
    to->context_bytes = from->context_bytes;
    memcpy(to->context_sha, from->context_sha, sizeof to->context_sha);
    to->prompt_n = from->prompt_n;
    to->n_tokens = from->n_tokens;
    for (uint32_t i = 0; i < from->n_tokens; i++) to->tokens[i].id = from->tokens[i].id;
    to->out.n_bytes = from->out.n_bytes;
    to->out.stopped = false;
    memcpy(to->out.text, from->out.text, from->out.n_bytes);
}

/* ---- Start -------------------------------------------------------------------------- */

void exitlm_generate_defaults(exitlm_generate_options *options) {
    if (options) *options = (exitlm_generate_options){0};
}

static exitlm_status bad(exitlm_error *error, const char *what, double value, const char *range) {
    return xl_fail(error, EXITLM_USAGE, "%s is %g: %s", what, value, range);
}

static bool within(float value, float low, float high) { return value >= low && value <= high; }

static exitlm_status check_numbers(const exitlm_generate_options *o, uint32_t n_layers,
                                   exitlm_error *error) {
    if (o->accuracy != 0 && !within(o->accuracy, 0.5f, 1))
        return bad(error, "accuracy", o->accuracy, "it must lie between 0.5 and 1");
    if (!within(o->temperature, 0, 100))
        return bad(error, "temperature", o->temperature, "it must lie between 0 and 100");
    if (!within(o->top_p, 0, 1))
        return bad(error, "top_p", o->top_p, "it must lie between 0 and 1");
    if (!within(o->min_p, 0, 1))
        return bad(error, "min_p", o->min_p, "it must lie between 0 and 1");
    if (o->repeat_penalty != 0 && !within(o->repeat_penalty, 0.1f, 10))
        return bad(error, "repeat_penalty", o->repeat_penalty, "it must lie between 0.1 and 10");
    if (!within(o->audit, 0, 1))
        return bad(error, "audit", o->audit, "it must lie between 0 and 1");
    if (o->top_logprobs > EXITLM_MAX_TOP_LOGPROBS)
        return bad(error, "top_logprobs", o->top_logprobs, "at most 20 are possible");
    if (o->max_draft >= XL_MAX_VERIFY)
        return bad(error, "max_draft", o->max_draft, "at most 8 drafts are verified at once");
    if (o->draft_length >= XL_MAX_VERIFY)
        return bad(error, "draft_length", o->draft_length, "at most 8 drafts are verified at once");
    if (o->draft_layer < 0 || (uint32_t)o->draft_layer > n_layers)
        return bad(error, "draft_layer", o->draft_layer,
                   "it must be at most the number of layers (0: adaptive)");
    if ((unsigned)o->mode >= EXITLM_MODE_COUNT) return bad(error, "mode", (int)o->mode, "unknown");
    if ((unsigned)o->strategy >= EXITLM_STRATEGY_COUNT)
        return bad(error, "strategy", (int)o->strategy, "unknown");
    if ((unsigned)o->kv >= EXITLM_POLICY_COUNT) return bad(error, "kv", (int)o->kv, "unknown");
    if (o->draft_sources & ~3)
        return bad(error, "draft_sources", o->draft_sources,
                   "its bits are 1, exits, and 2, prompt lookup");
    return EXITLM_OK;
}

static exitlm_status check_stops(const exitlm_generate_options *o, exitlm_error *error) {
    if (o->n_stop > XL_MAX_STOPS)
        return bad(error, "number of stop strings", (double)o->n_stop, "at most 16 are possible");
    if (o->n_stop && !o->stop)
        return xl_fail(error, EXITLM_USAGE,
                       "%zu stop strings are announced, and the list of them is NULL", o->n_stop);
    for (size_t i = 0; i < o->n_stop; i++) {
        size_t n = o->stop[i] ? strlen(o->stop[i]) : 0;
        if (n == 0 || n > XL_MAX_STOP_BYTES)
            return xl_fail(error, EXITLM_USAGE,
                           "stop string %zu has %zu bytes: 1 to %d are possible", i, n,
                           XL_MAX_STOP_BYTES);
    }
    return EXITLM_OK;
}

static exitlm_status check_prompt(const exitlm_session *s, const int32_t *ids, size_t n,
                                  exitlm_error *error) {
    if (n == 0)
        return xl_fail(error, EXITLM_USAGE, "an empty prompt: at least one token is needed");
    if (n >= s->stair.ctx)
        return xl_fail(error, EXITLM_CONTEXT_FULL,
                       "the prompt has %zu tokens and the context holds %u: shorten it or ask for "
                       "a larger context",
                       n, (unsigned)s->stair.ctx);
    return xl_stair_check_ids(&s->stair, ids, n, error);
}

static float accuracy_of(const exitlm_session *s, const exitlm_generate_options *o) {
    return o->accuracy != 0 ? o->accuracy : s->heads->info.default_accuracy;
}

/* Between rows of different origin or policy the length does not count: a reply that ends before the
 * shorter row does would only be dearer. */
static xl_use of_any_length(const xl_use *use) {
    return (xl_use){use->kv_type, use->temperature, 0};
}

/* The row of a K/V policy; where none is asked for, of those that are calibrated for the level the
 * one that covers most of the use, and of such the one that is expected to cost least. */
static const exitlm_level *row_of_table(const exitlm_session *s, const exitlm_generate_options *o,
                                        exitlm_kv_policy asked, const xl_use *use) {
    const exitlm_heads *heads = s->heads;
    const float accuracy = accuracy_of(s, o);
    if (asked != EXITLM_POLICY_AUTO) return xl_heads_row(heads, o->strategy, accuracy, asked, use);
    const bool maps = o->maps_come || exitlm_heads_have_maps(heads);
    const xl_use any = of_any_length(use);
    const exitlm_level *best = NULL;
    for (int kv = EXITLM_POLICY_EXACT; kv <= EXITLM_POLICY_MAPS; kv++) {
        const exitlm_level *row =
            xl_heads_row(heads, o->strategy, accuracy, (exitlm_kv_policy)kv, use);
        if (!row || (kv == EXITLM_POLICY_MAPS && !maps)) continue;
        const int cover = best ? xl_level_compare(row, best, &any) : -1;
        if (cover < 0 || (cover == 0 && xl_expected_macs(s->run.model, heads, row) <
                                            xl_expected_macs(s->run.model, heads, best)))
            best = row;
    }
    return best;
}

/* The caller's own row goes first: it speaks of the caller's text. */
static const exitlm_level *exit_row(const exitlm_session *s, const exitlm_generate_options *o,
                                    exitlm_kv_policy asked, const xl_use *use) {
    const exitlm_level *own = o->level, *row = row_of_table(s, o, asked, use);
    const bool serves = own && (asked == EXITLM_POLICY_AUTO || asked == own->kv) &&
                        xl_level_serves(own, o->strategy, accuracy_of(s, o), own->kv);
    const xl_use any = of_any_length(use);
    return serves && (!row || xl_level_compare(own, row, &any) <= 0) ? own : row;
}

/* Row and K/V policy of mode EXIT. */
static exitlm_status choose_exit_row(const exitlm_session *s, const exitlm_generate_options *o,
                                     const xl_use *use, xl_chain *chain, exitlm_error *error) {
    const exitlm_kv_policy kv = xl_policy_of(o->kv, o->audit);
    if (o->audit > 0 && kv != EXITLM_POLICY_EXACT)
        return xl_fail(error, EXITLM_USAGE,
                       "audit with K/V policy %s: what its K and V make wrong would not be seen; "
                       "use exact",
                       xl_policy_names[kv]);
    chain->kv = kv;
    if (!o->thresholds) chain->row = exit_row(s, o, kv, use);
    if (kv == EXITLM_POLICY_AUTO) chain->kv = chain->row ? chain->row->kv : s->heads->kv;
    if (chain->kv != EXITLM_POLICY_MAPS || exitlm_heads_have_maps(s->heads)) return EXITLM_OK;
    if (o->maps_come)
        return xl_fail(error, EXITLM_WAIT, "the K/V maps of the heads have not arrived yet");
    return xl_fail(error, EXITLM_USAGE,
                   "K/V policy maps: this heads file holds no maps; use exact");
}

/* Thresholds and K/V policy of mode EXIT, and of the heads that draft in LOSSLESS, where nothing
 * is left out of the K/V and drafts need no certificate. */
static exitlm_status choose_chain(const exitlm_session *s, const exitlm_generate_options *o,
                                  const xl_use *use, xl_chain *chain, exitlm_error *error) {
    *chain = (xl_chain){.kv = EXITLM_POLICY_EXACT};
    if (o->mode == EXITLM_MODE_FULL) return EXITLM_OK;
    const bool exits = o->mode == EXITLM_MODE_EXIT;
    if (!s->heads)
        return xl_fail(error, EXITLM_USAGE,
                       "mode %s needs exit heads, and none are loaded: give a heads file (for a "
                       "model of the catalogue exitlm pull fetches it, for others exitlm train "
                       "makes one) or use mode full",
                       exits ? "exit" : "lossless");
    exitlm_status status = xl_heads_check(s->heads, s->run.model, error);
    if (status == EXITLM_OK && exits) status = choose_exit_row(s, o, use, chain, error);
    if (status != EXITLM_OK) return status;
    if (!exits && !o->thresholds) {
        chain->row =
            xl_heads_row(s->heads, EXITLM_STRATEGY_RISK, DRAFT_ACCURACY, s->heads->kv, use);
        if (!chain->row)
            chain->row = xl_heads_row(s->heads, EXITLM_STRATEGY_MAX_COVERAGE, DRAFT_ACCURACY,
                                      s->heads->kv, use);
    }
    chain->n = s->heads->n_heads;
    const bool known = chain->row && (exits || chain->row->certified);
    const float *threshold = o->thresholds ? o->thresholds : known ? chain->row->threshold : NULL;
    for (uint32_t h = 0; h < chain->n; h++)
        chain->threshold[h] = threshold ? threshold[h] : exits ? 0 : DRAFT_UNCERTAINTY;
    if (exits && chain->row) chain->first = chain->row->first_threshold;
    return EXITLM_OK;
}

/* Why no exit is taken at this accuracy. */
static const char *why_no_row(const exitlm_heads *heads, exitlm_strategy strategy, float accuracy,
                              exitlm_kv_policy kv) {
    if (!xl_heads_calibrated(heads, strategy, kv))
        return "the heads are not calibrated with this strategy and K/V policy: nothing exits";
    for (size_t i = 0; i < heads->n_levels; i++)
        if (heads->levels[i].strategy == strategy && heads->levels[i].kv == kv &&
            heads->levels[i].accuracy >= accuracy - 1e-6f)
            return "no level of this accuracy or above is certified: nothing exits";
    return "an accuracy above all levels that were tried: nothing exits";
}

/* Why the level's promise does not cover this reply, as far as that is known now: "", or a
 * sentence. Its length is known when it ends. */
static const char *why_uncertified(const exitlm_session *s, const exitlm_generate_options *o,
                                   const xl_use *use, const xl_chain *chain) {
    if (o->mode != EXITLM_MODE_EXIT) return "";
    if (o->thresholds) return "the thresholds are the caller's, not the calibration's";
    if (o->strategy != EXITLM_STRATEGY_RISK) return "only the strategy risk is certified";
    if (!chain->row) return why_no_row(s->heads, o->strategy, accuracy_of(s, o), chain->kv);
    const unsigned misfit = xl_level_misfit(chain->row, use);
    if (o->grammar) return "a schema or pattern restricts the tokens";
    if (misfit & XL_TOO_COLD)
        return chain->row->temperature > 0
                   ? "tokens are drawn at a higher temperature than the calibration's"
                   : "tokens are drawn: the level speaks of the likeliest token";
    if (o->temperature > 0 && (o->top_k || (o->top_p > 0 && o->top_p < 1) || o->min_p > 0))
        return "tokens are drawn from a cut (top-k, top-p, min-p), and the calibration has none";
    if (o->repeat_penalty != 0 && o->repeat_penalty != 1)
        return "a repeat penalty changes which token is chosen";
    if (misfit & XL_OTHER_TYPE) return "the K/V cache is of another type than the calibration's";
    if (!s->run.model->complete) return "the model was still loading when the reply began";
    return "";
}

static xl_made made_by(exitlm_kv_policy kv) {
    if (kv == EXITLM_POLICY_EXACT) return XL_MADE_EXACT;
    return kv == EXITLM_POLICY_MAPS ? XL_MADE_MAPS : XL_MADE_PROPAGATE;
}

/* How much of what the session holds is good for this prompt. The last token of the prompt is
 * always run again unless its hidden state is at hand: it decides the first token. K and V that
 * another policy guessed are not what this one was calibrated with. */
static uint32_t common_prefix(const xl_stair *stair, const int32_t *ids, size_t n,
                              exitlm_kv_policy kv) {
    uint32_t common = 0;
    while (common < stair->n && common < n && stair->ids[common] == ids[common]) {
        if (stair->made[common] != XL_MADE_EXACT && stair->made[common] != made_by(kv)) break;
        common++;
    }
    return common == n ? common - 1 : common;
}

static void begin_token(xl_generation *g) {
    g->next_head = 0;
    g->has_previous = g->answered = false;
    g->check_macs = 0;
}

static void begin_reply(exitlm_session *s, const exitlm_generate_options *o) {
    xl_generation *g = s->generation;
    g->options = *o;
    g->options.stop = NULL;
    g->options.thresholds = NULL;
    g->options.level = NULL;
    g->sampler = (xl_sampler){.temperature = o->temperature,
                              .top_p = o->top_p,
                              .min_p = o->min_p,
                              .repeat_penalty = o->repeat_penalty == 0 ? 1 : o->repeat_penalty,
                              .top_k = o->top_k,
                              .seed = o->seed,
                              .grammar = o->grammar,
                              .logprobs = o->logprobs ? &g->logprobs : NULL};
    xl_text_out_begin(&g->out, o->stop, o->n_stop);
    g->n_tokens = g->n_released = 0;
    g->released_bytes = 0;
    g->computed = g->draft_attempts = g->drafted = g->accepted = g->audited = g->audit_disagreed =
        0;
    g->n_events = g->events_given = 0;
    g->start_ms = g->previous_ms = xl_session_now(s);
    begin_token(g);
}

static void begin_drafting(exitlm_session *s) {
    xl_generation *g = s->generation;
    const exitlm_generate_options *o = &g->options;
    if (o->mode != EXITLM_MODE_LOSSLESS) return;
    const xl_draft_job job = {.stair = &s->stair,
                              .logits = &s->logits,
                              .exits = s->exits,
                              .heads = s->heads,
                              .sampler = &g->sampler,
                              .threshold = g->chain.threshold,
                              .fixed_layer = (uint32_t)o->draft_layer,
                              .fixed_length = o->draft_length,
                              .max_drafts = o->max_draft,
                              .sources = (unsigned)o->draft_sources,
                              .clock_ms = s->clock_ms,
                              .clock_user = s->clock_user};
    xl_drafting_start(s->drafting, &job);
}

/* Room for the log-probabilities of so many tokens, in place of those of the reply before. */
static exitlm_status take_logprobs(exitlm_session *s, const exitlm_generate_options *o,
                                   uint32_t n_tokens, exitlm_error *error) {
    xl_logprobs taken = {0};
    const size_t scores = xl_exits_scratch_floats(s->heads, s->stair.ctx);
    if (o->logprobs && !xl_logprobs_create(&taken, &s->allocator, n_tokens, o->top_logprobs,
                                           scores > s->logits.stride ? scores : s->logits.stride))
        return xl_fail(error, EXITLM_OUT_OF_MEMORY,
                       "no memory for the log-probabilities of %u tokens: ask for fewer tokens",
                       (unsigned)n_tokens);
    xl_logprobs_free(&s->generation->logprobs);
    s->generation->logprobs = taken;
    return EXITLM_OK;
}

exitlm_status xl_generation_start(exitlm_session *s, const int32_t *ids, size_t n,
                                  const exitlm_generate_options *options, exitlm_error *error) {
    exitlm_generate_options defaults;
    exitlm_generate_defaults(&defaults);
    const exitlm_generate_options *o = options ? options : &defaults;
    xl_generation *g = s->generation;
    xl_stair *stair = &s->stair;
    xl_chain chain;
    uint32_t limit = n < stair->ctx ? stair->ctx - (uint32_t)n : 0;
    if (o->max_tokens && o->max_tokens < limit) limit = o->max_tokens;
    const xl_use use = {(exitlm_kv_type)stair->kv.type, o->temperature, limit};
    exitlm_status status = check_numbers(o, s->run.model->config.n_layers, error);
    if (status == EXITLM_OK) status = check_stops(o, error);
    if (status == EXITLM_OK) status = check_prompt(s, ids, n, error);
    if (status == EXITLM_OK) status = choose_chain(s, o, &use, &chain, error);
    if (status == EXITLM_OK) status = take_logprobs(s, o, limit, error);
    if (status != EXITLM_OK) return status;

    /* Nothing has been changed so far, and nothing fails from here on but memory for what clones
     * read and this reply writes over: the session is empty then. */
    g->chain = chain;
    if (chain.row && chain.row == o->level) {
        g->own = *chain.row;
        g->chain.row = &g->own;
    }
    g->uncertified = why_uncertified(s, o, &use, &chain);
    begin_reply(s, o);
    g->reused = xl_stair_truncate(stair, common_prefix(stair, ids, n, chain.kv));
    status = xl_stair_append(stair, ids + g->reused, n - g->reused, error);
    if (status != EXITLM_OK) {
        xl_generation_end(g);
        xl_stair_truncate(stair, 0);
        return status;
    }
    g->prompt_n = g->sampler.reply_from = (uint32_t)n;
    stair->prefix = stair->kv_only_until = g->prompt_n - 1;
    g->start_macs = s->run.macs - stair->prefix_macs;
    g->limit = limit;
    begin_drafting(s);
    g->phase = XL_PROMPT;
    return EXITLM_OK;
}

exitlm_status exitlm_session_start(exitlm_session *session, const int32_t *ids, size_t n,
                                   const exitlm_generate_options *options, exitlm_error *error) {
    if (!session || (!ids && n))
        return xl_fail(error, EXITLM_USAGE, "exitlm_session_start: an argument is NULL");
    exitlm_status status = xl_generation_start(session, ids, n, options, error);
    if (status == EXITLM_OK) session->generation->context_known = false;
    return status;
}

/* ---- Emitting ------------------------------------------------------------------------------ */

/* The end of a reply. Tokens that only spell the stop string are not part of it. */
static void finish_text(xl_generation *g) {
    xl_text_out *out = &g->out;
    xl_text_out_end(out);
    if (!out->stopped) {
        if (g->n_tokens) g->tokens[g->n_tokens - 1].text_end = (uint32_t)out->n_bytes;
        return;
    }
    while (g->n_tokens > g->n_released) {
        const uint32_t start = g->n_tokens > 1 ? g->tokens[g->n_tokens - 2].text_end : 0,
                       end = g->tokens[g->n_tokens - 1].text_end;
        if (start < out->n_bytes || (start == out->n_bytes && end == start)) break;
        g->n_tokens--;
    }
}

static void finish(xl_generation *g, exitlm_reason reason) {
    g->reason = reason;
    g->phase = XL_FINISHING;
    finish_text(g);
}

void exitlm_session_stop(exitlm_session *session) {
    if (!session) return;
    xl_generation *g = session->generation;
    if (g->phase == XL_IDLE || g->phase == XL_DONE) return;
    g->n_events = g->events_given = 0;
    if (g->phase != XL_FINISHING) finish(g, EXITLM_REASON_ABORT);
}

static void emit(exitlm_session *s, const xl_chosen *chosen) {
    xl_generation *g = s->generation;
    begin_token(g);
    g->computed++;
    if (xl_token_is_eog(s->run.model->tokenizer, chosen->id)) {
        finish(g, EXITLM_REASON_STOP);
        return;
    }
    xl_chosen *token = &g->tokens[g->n_tokens++];
    *token = *chosen;
    token->at_ms = xl_session_now(s);
    token->text_end = (uint32_t)xl_text_out_push(&g->out, s->run.model->tokenizer, token->id);
    if (g->out.stopped) finish(g, EXITLM_REASON_STOP);
    else if (g->n_tokens >= g->limit) finish(g, EXITLM_REASON_LENGTH);
    else g->phase = XL_DECODE;
}

/* ---- One token of the modes full and exit ---------------------------------------------------- */

/* A random share of the exits is run to the end and compared: the token that the full model would
 * choose in this context, and, where tokens are drawn at a level for greedy replies, its likeliest
 * one, since of that the level speaks. */
static exitlm_status audit(exitlm_session *s, const xl_check *check, bool *disagreed,
                           exitlm_error *error) {
    xl_generation *g = s->generation;
    const uint32_t pos = s->stair.n - 1;
    *disagreed = false;
    if (!xl_rule_audits(g->options.seed, pos, g->options.audit)) return EXITLM_OK;
    exitlm_status status = xl_stair_advance(&s->stair, s->run.model->config.n_layers, error);
    if (status == EXITLM_OK) status = xl_logits_compute(&s->logits, pos, 1, 0, error);
    if (status != EXITLM_OK) return status;
    float confidence;
    xl_sampler sampler = g->sampler;
    sampler.logprobs = NULL; /* the exit has chosen */
    g->audited++;
    if (g->sampler.temperature > 0 && !(g->chain.row && g->chain.row->temperature > 0))
        *disagreed = xl_logits_argmax(&s->logits, xl_logits_row(&s->logits, 0)) != check->argmax;
    else *disagreed = xl_rule_full(&sampler, &s->logits, 0, pos, &confidence) != check->id;
    g->audit_disagreed += *disagreed;
    return EXITLM_OK;
}

static float work_of(const exitlm_session *s, uint32_t layer, uint64_t other_macs) {
    const exitlm_model *m = s->run.model;
    return (float)(((double)layer * (double)xl_layer_macs(m) + (double)other_macs) /
                   (double)xl_token_macs(m));
}

/* The answer of next_head becomes the token. WAIT: nothing is lost, call again. */
static exitlm_status take_exit(exitlm_session *s, exitlm_error *error) {
    xl_generation *g = s->generation;
    xl_stair *stair = &s->stair;
    const uint32_t head = g->next_head, layer = s->heads->head[head].layer;
    const xl_check *check = &g->answer;
    bool disagreed;
    exitlm_status status = audit(s, check, &disagreed, error);
    if (status == EXITLM_OK)
        status = xl_stair_exit(stair, s->heads, stair->n - 1, head, g->chain.kv, error);
    if (status != EXITLM_OK) return status;
    stair->kv_only_until = stair->n; /* what remains of its layers is run for its K and V */
    const xl_chosen chosen = {.id = check->id,
                              .head = (int32_t)head,
                              .layer = (uint16_t)layer,
                              .confidence = 1 - check->uncertainty,
                              .disagreed = disagreed,
                              .work = work_of(s, layer, g->check_macs)};
    emit(s, &chosen);
    return EXITLM_OK;
}

/* Runs slices up to `layer`. *again: a prompt's slice is done and more follow. */
static exitlm_status advance(exitlm_session *s, uint32_t layer, bool *again, exitlm_error *error) {
    const xl_stair *stair = &s->stair;
    *again = false;
    for (;;) {
        bool done;
        exitlm_status status = xl_stair_advance_slice(&s->stair, layer, &done, error);
        if (status != EXITLM_OK || done) return status;
        if (stair->n > 8 && stair->depth[stair->n - 8] <= stair->depth[stair->n - 1]) {
            *again = true;
            return EXITLM_OK;
        }
    }
}

static float next_threshold(const exitlm_session *s) {
    const xl_generation *g = s->generation;
    return xl_threshold_of(s->heads, g->chain.threshold, g->n_tokens == 0 ? g->chain.first : 0,
                           g->next_head);
}

/* One head of the chain for the last position: it answers, or the next one is asked. */
static exitlm_status try_head(exitlm_session *s, exitlm_error *error) {
    xl_generation *g = s->generation;
    const uint32_t last = s->stair.n - 1;
    const uint64_t before = s->run.macs;
    xl_check check;
    exitlm_status status =
        xl_exit_check(s->exits, g->next_head, last, xl_hidden(&s->stair, last),
                      g->has_previous ? &g->previous : NULL, &g->sampler, &check, error);
    if (status != EXITLM_OK) return status;
    g->check_macs += s->run.macs - before;
    g->answered = xl_head_answers(&check, next_threshold(s));
    if (g->answered) {
        g->answer = check;
        return EXITLM_OK;
    }
    g->previous = check;
    g->has_previous = true;
    g->next_head++;
    return EXITLM_OK;
}

static exitlm_status full_token(exitlm_session *s, exitlm_error *error) {
    xl_generation *g = s->generation;
    const uint32_t layers = s->run.model->config.n_layers, last = s->stair.n - 1;
    const uint64_t before = s->run.macs;
    exitlm_status status =
        xl_logits_compute(&s->logits, last, 1, g->has_previous ? g->previous.scored : 0, error);
    if (status != EXITLM_OK) return status;
    xl_chosen chosen = {.head = -1, .layer = (uint16_t)layers};
    chosen.id = xl_rule_full(&g->sampler, &s->logits, 0, last, &chosen.confidence);
    chosen.work = work_of(s, layers, g->check_macs + (s->run.macs - before));
    emit(s, &chosen);
    return EXITLM_OK;
}

/* One token, or as much of it as a slice allows. */
static exitlm_status decode(exitlm_session *s, bool *again, exitlm_error *error) {
    xl_generation *g = s->generation;
    exitlm_status status;
    while (!g->answered && g->next_head < g->chain.n) {
        const xl_head *head = &s->heads->head[g->next_head];
        if (!xl_head_is_asked(head, next_threshold(s), s->stair.depth[s->stair.n - 1])) {
            g->next_head++;
            continue;
        }
        status = advance(s, head->layer, again, error);
        if (status != EXITLM_OK || *again) return status;
        if (g->chain.kv == EXITLM_POLICY_MAPS)
            xl_stair_map_waiting(&s->stair, s->heads, g->next_head);
        status = try_head(s, error);
        if (status != EXITLM_OK) return status;
    }
    if (g->answered) return take_exit(s, error);
    status = advance(s, s->run.model->config.n_layers, again, error);
    if (status != EXITLM_OK || *again) return status;
    return full_token(s, error);
}

/* ---- A step of mode lossless
 * ------------------------------------------------------------------ */

static void draft_event(exitlm_session *s, exitlm_event_type type, uint32_t index,
                        const xl_draft *draft, uint32_t i) {
    xl_generation *g = s->generation;
    if (!g->options.events || g->n_events == XL_MAX_DRAFT_EVENTS) return;
    size_t n =
        xl_token_bytes(s->run.model->tokenizer, draft->id, g->draft_text[i], XL_MAX_DRAFT_TEXT);
    exitlm_event *event = &g->events[g->n_events++];
    *event = (exitlm_event){.type = type};
    event->token = (exitlm_token){.index = index,
                                  .id = draft->id,
                                  .text = g->draft_text[i],
                                  .text_bytes = n < XL_MAX_DRAFT_TEXT ? n : XL_MAX_DRAFT_TEXT,
                                  .layer = draft->layer,
                                  .of = s->run.model->config.n_layers,
                                  .head = draft->head,
                                  .confidence = draft->confidence,
                                  .drafted = true,
                                  .draft_head = draft->head,
                                  .ms = -1};
}

/* Emits a round's tokens until the reply is over. Returns how many. */
static uint32_t emit_round(exitlm_session *s, const xl_round *round) {
    xl_generation *g = s->generation;
    uint32_t taken = 0;
    while (taken < round->n_tokens && g->phase == XL_DECODE) {
        const xl_draft *draft = taken < round->n ? &round->draft[taken] : NULL;
        const bool right = draft && draft->id == round->id[taken];
        if (draft)
            draft_event(s, right ? EXITLM_EVENT_ACCEPT : EXITLM_EVENT_REJECT, g->n_tokens, draft,
                        taken);
        const xl_chosen chosen = {.id = round->id[taken],
                                  .head = -1,
                                  .layer = (uint16_t)s->run.model->config.n_layers,
                                  .work = 1,
                                  .confidence = round->confidence[taken],
                                  .drafted = right,
                                  .draft_head = right ? draft->head : 0};
        emit(s, &chosen);
        taken++;
    }
    return taken;
}

static exitlm_status draft_step(exitlm_session *s, exitlm_error *error) {
    xl_generation *g = s->generation;
    xl_round round;
    exitlm_status status = xl_draft_step(s->drafting, g->limit - g->n_tokens, &round, error);
    if (status != EXITLM_OK) return status;
    if (round.drafted)
        draft_event(s, EXITLM_EVENT_DRAFT, g->n_tokens + round.n - 1, &round.draft[round.n - 1],
                    round.n - 1);
    if (round.n_tokens == 0) return EXITLM_OK;
    const uint32_t taken = emit_round(s, &round);
    const bool ended = xl_token_is_eog(s->run.model->tokenizer, round.id[taken - 1]);
    /* the last one's own position is appended with the next step */
    xl_stair_truncate(&s->stair, round.base + taken);
    g->draft_attempts += round.n > 0;
    g->drafted += round.n;
    g->accepted += xl_draft_learn(s->drafting, taken, taken - ended);
    return EXITLM_OK;
}

/* ---- Events
 * ------------------------------------------------------------------------------------ */

/* The token that was emitted last becomes the next position. */
static exitlm_status append_last(exitlm_session *s, exitlm_error *error) {
    const xl_generation *g = s->generation;
    if (g->n_tokens == 0 || s->stair.n != g->prompt_n + g->n_tokens - 1) return EXITLM_OK;
    return xl_stair_append(&s->stair, &g->tokens[g->n_tokens - 1].id, 1, error);
}

/* Tokens that a grammar leaves no choice about are not computed: their K and V come with the next
 * token that is. */
static exitlm_status take_forced(exitlm_session *s, exitlm_error *error) {
    xl_generation *g = s->generation;
    xl_stair *stair = &s->stair;
    xl_forced forced;
    if (!g->sampler.grammar || stair->n != g->prompt_n + g->n_tokens)
        return EXITLM_OK; /* no grammar, or within a round of drafts */
    do {
        exitlm_status status = xl_rule_forced(&g->sampler, stair, stair->n - 1, &forced, error);
        if (status != EXITLM_OK) return status;
        if (forced.n == 0 && forced.complete) finish(g, EXITLM_REASON_STOP);
        for (uint32_t i = 0; i < forced.n && g->phase == XL_DECODE; i++) {
            const xl_chosen chosen = {
                .id = forced.id[i], .head = -1, .forced = true, .confidence = 1};
            emit(s, &chosen);
            stair->kv_only_until = stair->n;
            if (g->phase == XL_DECODE) status = append_last(s, error);
            if (status != EXITLM_OK) return status;
        }
    } while (forced.n > 0 && g->phase == XL_DECODE);
    return EXITLM_OK;
}

static void fill_times(const exitlm_session *s, exitlm_stats *stats) {
    const xl_generation *g = s->generation;
    stats->prompt_ms = stats->decode_ms = stats->tokens_per_second = -1;
    if (!s->clock_ms || g->n_tokens == 0) return;
    const double first_ms = g->tokens[0].at_ms;
    stats->prompt_ms = first_ms - g->start_ms;
    stats->decode_ms = g->tokens[g->n_tokens - 1].at_ms - first_ms;
    if (g->n_tokens > 1 && stats->decode_ms > 0)
        stats->tokens_per_second = (g->n_tokens - 1) * 1000.0 / stats->decode_ms;
}

static void fill_stats(const exitlm_session *s, exitlm_stats *stats) {
    const xl_generation *g = s->generation;
    *stats = (exitlm_stats){.reason = g->reason,
                            .prompt_tokens = g->prompt_n,
                            .reused_tokens = g->reused,
                            .completion_tokens = g->n_tokens,
                            .draft_attempts = g->draft_attempts,
                            .drafted = g->drafted,
                            .accepted = g->accepted,
                            .audited = g->audited,
                            .audit_disagreed = g->audit_disagreed,
                            .text = g->out.text,
                            .text_bytes = g->out.n_bytes};
    double depth = 0;
    for (uint32_t i = 0; i < g->n_tokens; i++) {
        const xl_chosen *token = &g->tokens[i];
        if (token->forced) stats->forced_tokens++;
        else if (token->head >= 0) stats->exits[token->head]++;
        else stats->full_tokens++;
        depth += (double)token->layer / s->run.model->config.n_layers;
    }
    stats->mean_depth = g->n_tokens ? depth / g->n_tokens : 0;
    const double macs = (double)(s->run.macs - s->stair.prefix_macs - g->start_macs);
    stats->mean_work = g->computed ? macs / ((double)xl_token_macs(s->run.model) * g->computed) : 0;
    stats->uncertified = g->uncertified;
    if (g->options.mode == EXITLM_MODE_EXIT && !stats->uncertified[0] &&
        g->n_tokens > g->chain.row->max_tokens)
        stats->uncertified = "the reply is longer than those of the calibration";
    stats->certified = !stats->uncertified[0];
    fill_times(s, stats);
}

static void token_event(exitlm_session *s, exitlm_event *event) {
    xl_generation *g = s->generation;
    const xl_chosen *t = &g->tokens[g->n_released];
    const size_t end = t->text_end < g->out.n_bytes ? t->text_end : g->out.n_bytes;
    *event = (exitlm_event){
        .type = EXITLM_EVENT_TOKEN, .prompt_done = g->prompt_n, .prompt_total = g->prompt_n};
    event->token = (exitlm_token){.index = g->n_released,
                                  .id = t->id,
                                  .text = g->out.text + g->released_bytes,
                                  .text_bytes = end - g->released_bytes,
                                  .layer = t->layer,
                                  .of = s->run.model->config.n_layers,
                                  .work = t->work,
                                  .head = t->head,
                                  .confidence = t->confidence,
                                  .drafted = t->drafted,
                                  .forced = t->forced,
                                  .disagreed = t->disagreed,
                                  .draft_head = t->draft_head,
                                  .ms = s->clock_ms ? t->at_ms - g->previous_ms : -1};
    if (g->options.logprobs && !t->forced) {
        const exitlm_logprob *said = xl_logprobs_said(&g->logprobs, g->n_released);
        event->token.logprob = said->logprob;
        event->token.top = said + 1;
        while (event->token.n_top < g->logprobs.top && said[1 + event->token.n_top].id >= 0)
            event->token.n_top++;
    }
    g->previous_ms = t->at_ms;
    g->released_bytes = end;
    g->n_released++;
}

/* Is the next token's text decided? */
static bool is_decided(const xl_generation *g) {
    if (g->phase == XL_FINISHING || g->phase == XL_DONE) return true;
    const xl_chosen *token = &g->tokens[g->n_released];
    const bool last = g->n_released == g->n_tokens - 1;
    return token->text_end <= g->out.decided && !(last && g->out.utf8.n_held);
}

/* Something to give out before more is computed? */
static bool give(exitlm_session *s, exitlm_event *event) {
    xl_generation *g = s->generation;
    if (g->events_given < g->n_events) {
        *event = g->events[g->events_given++];
        return true;
    }
    g->n_events = g->events_given = 0;
    if (g->n_released < g->n_tokens && is_decided(g)) {
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
    uint32_t deep = 0;
    for (uint32_t p = g->reused; p < g->prompt_n; p++) deep += s->stair.depth[p];
    const uint32_t done = g->reused + deep / s->run.model->config.n_layers;
    *event = (exitlm_event){.type = EXITLM_EVENT_PROGRESS,
                            .prompt_total = g->prompt_n,
                            .prompt_done = done < g->prompt_n ? done : g->prompt_n};
}

/* No head is asked before it is known to be this model's. */
static exitlm_status check_heads(exitlm_session *s, exitlm_error *error) {
    const exitlm_model *m = s->run.model;
    if (s->generation->chain.n == 0) return EXITLM_OK;
    if (m->fingerprint[0] || s->generation->phase == XL_PROMPT)
        return xl_heads_check(s->heads, m, error);
    uint32_t id = 0; /* the layers are there: it is a row that the fingerprint lacks */
    while (id + 1 < XL_FINGERPRINT_ROWS && m->row_ready[id]) id++;
    return xl_stair_wait(&s->stair, -1, (int32_t)id, error);
}

exitlm_status exitlm_session_step(exitlm_session *s, exitlm_event *event, exitlm_error *error) {
    if (!s || !event)
        return xl_fail(error, EXITLM_USAGE, "exitlm_session_step: an argument is NULL");
    xl_generation *g = s->generation;
    const exitlm_mode mode = g->options.mode;
    if (g->phase == XL_IDLE)
        return xl_fail(error, EXITLM_USAGE, "no reply is under way: start one first");
    if (give(s, event)) return EXITLM_OK;
    bool again = false;
    exitlm_status status = check_heads(s, error);
    if (status == EXITLM_OK && g->phase == XL_PROMPT) {
        /* Through all layers, as in calibration: so the first token, and the K and V of the
         * prompt, are the same whatever has arrived. */
        status = advance(s, s->run.model->config.n_layers, &again, error);
        if (status == EXITLM_OK && !again) g->phase = XL_DECODE;
    }
    if (status == EXITLM_OK && !again && g->phase == XL_DECODE) {
        status = append_last(s, error);
        if (status == EXITLM_OK) status = take_forced(s, error);
        if (status == EXITLM_OK && g->phase == XL_DECODE)
            status = mode == EXITLM_MODE_LOSSLESS ? draft_step(s, error) : decode(s, &again, error);
    }
    if (status != EXITLM_OK) return status;
    if (!give(s, event)) progress_event(s, event);
    return EXITLM_OK;
}
