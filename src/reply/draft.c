/* Lossless decoding: cheap drafts, checked by the full model (dynamic self-speculative decoding,
 * DSSD, of arXiv 2407.21082 v2).
 *
 * A round begins at `base`, the last position whose token is certain. Drafts are appended behind
 * it: from an n-gram of the context (prompt lookup, free), or from exits that are sure. A drafted
 * position stops at its exit's layer; its K/V up to there and its hidden state are kept. Then one
 * pass takes every waiting position through the layers that it lacks, and the full logits of each
 * row say, by the one token rule, which token follows it. Where that is the draft, the draft is
 * accepted; at the first difference the rule's own token is taken and the rest is rolled back;
 * after the last draft its row gives one more token.
 *
 * Exits draft where that promises to pay: the surer a head is, and the fewer layers it has used,
 * the more. The layers above it, and the output matrix, are run for all drafts in one pass.
 *
 * What pays, account.h says. This file does what it decides and tells it what that took: the work
 * by multiply-adds, so that other programs on the same core do not disturb the account, and the
 * time of each pass, which makes its prices. */
#include "draft.h"

#include <string.h>

#include "account.h"
#include "run/cost.h"

enum { SOURCE_EXITS = 1, SOURCE_LOOKUP = 2 };

/* In a round, where the caller sets no limit: the chance that all are right is a product of
 * estimates, and less well known with each. */
#define MOST_BY_EXITS 4

struct xl_drafting {
    xl_draft_job job;
    xl_account account; /* share 0: not started */
    bool open;          /* a round is under way */
    /* Where a WAIT may interrupt it: the way to a layer, from where and since when; and the draft by
     * exits. */
    struct {
        bool open;
        uint32_t depth;
        uint64_t macs;
        double ms;
    } way_up;
    struct {
        uint32_t head; /* to be asked next */
        bool has_previous;
        xl_check previous;
    } chain;
    xl_way way;         /* of this round */
    uint32_t base;      /* position of the last certain token */
    uint32_t n, wanted; /* drafts so far; how many at most */
    xl_draft draft[XL_MAX_DRAFTS];
    uint32_t cell[XL_MAX_DRAFTS]; /* of the account's chances */
    double all_right;             /* the chance that this round's drafts all are */
    xl_spent spent;               /* in this round */
    /* output rows that a check of the round's only row has scored */
    uint32_t scored;
    uint32_t right; /* of the drafts that were verified last */
};

xl_drafting *xl_drafting_take(xl_arena *arena) {
    return xl_arena_take(arena, 1, sizeof(xl_drafting));
}

static const exitlm_model *model_of(const xl_drafting *d) { return d->job.stair->run->model; }
static double now_ms(const xl_drafting *d) {
    return d->job.clock_ms ? d->job.clock_ms(d->job.clock_user) : -1;
}

static double layers_macs(const exitlm_model *m) {
    return (double)m->config.n_layers * (double)xl_layer_macs(m);
}

void xl_drafting_start(xl_drafting *d, const xl_draft_job *job) {
    d->job = *job;
    d->open = d->way_up.open = false;
    d->n = 0;
    const exitlm_model *m = model_of(d);
    if (d->account.share == 0)
        xl_account_start(&d->account, layers_macs(m) / (double)xl_token_macs(m));
    xl_account_reply(&d->account);
}

/* ---- Work ------------------------------------------------------------------------------- */

static void spend(xl_drafting *d, int work, double one, double more, double from_ms) {
    d->spent.one[work] += one;
    d->spent.more[work] += more;
    /* passes that others share tell nothing of a price */
    if (d->job.clock_ms && !d->job.stair->deferred)
        xl_account_price(&d->account, work, one, more, now_ms(d) - from_ms);
}

/* The last position, and those that wait above it, through the layers up to `layer`. */
static exitlm_status advance(xl_drafting *d, uint32_t layer, exitlm_error *error) {
    xl_stair *stair = d->job.stair;
    const exitlm_model *m = model_of(d);
    const double layers = m->config.n_layers;
    if (!d->way_up.open) {
        d->way_up.open = true;
        d->way_up.depth = stair->depth[stair->n - 1];
        d->way_up.macs = stair->run->macs;
        d->way_up.ms = now_ms(d);
    }
    exitlm_status status = xl_stair_advance(stair, layer, error);
    if (status != EXITLM_OK) return status;
    d->way_up.open = false;
    if (d->way_up.depth >= layer) return EXITLM_OK;
    const double one = (layer - d->way_up.depth) / layers,
                 more = (double)(stair->run->macs - d->way_up.macs) / layers_macs(m) - one;
    spend(d, XL_LAYERS, one, more > 1e-6 ? more : 0, d->way_up.ms);
    return EXITLM_OK;
}

/* ---- Which way ------------------------------------------------------------------------- */

static bool fixed(const xl_drafting *d) { return d->job.fixed_layer > 0; }

static uint32_t most_drafts(const xl_drafting *d, uint32_t left) {
    uint32_t most = fixed(d) ? d->job.fixed_length : d->job.max_drafts;
    if (most == 0 || most > XL_MAX_DRAFTS) most = XL_MAX_DRAFTS;
    uint32_t room = d->job.stair->ctx - d->job.stair->n;
    /* the row after the last draft gives a token too */
    if (left > 0 && most > left - 1) most = left - 1;
    return most < room ? most : room;
}

/* The latest earlier place of the last `gram` ids; *next is the position after it. */
static bool find_gram(const xl_drafting *d, uint32_t gram, uint32_t *next) {
    if (d->job.stair->n < gram + 1) return false;
    const int32_t *tail = d->job.stair->ids + d->job.stair->n - gram;
    for (uint32_t at = d->job.stair->n - gram; at-- > 0;)
        if (memcmp(d->job.stair->ids + at, tail, gram * sizeof *tail) == 0) {
            *next = at + gram;
            return true;
        }
    return false;
}

typedef struct lookup {
    uint32_t gram, next, drafts;
} lookup;

/* The drafts of a prompt lookup that are worth most; returns what they promise, 0 where there are
 * none. */
static double plan_lookup(const xl_drafting *d, uint32_t most, lookup *plan) {
    uint32_t next = 0, gram = XL_N_GRAM;
    while (gram >= 2 && !find_gram(d, gram, &next)) gram--;
    if (gram < 2) return 0;
    if (most > d->job.stair->n - next) most = d->job.stair->n - next;
    double best = 0;
    for (uint32_t k = 1; k <= most; k++) {
        const double now = xl_account_lookup(&d->account, gram, k);
        if (now <= best) continue;
        best = now;
        *plan = (lookup){gram, next, k};
    }
    return best;
}

static void take_lookup(xl_drafting *d, const lookup *plan) {
    for (uint32_t i = 0; i < plan->drafts; i++) {
        const int32_t id = d->job.stair->ids[plan->next + i];
        if (!xl_rule_allows(d->job.sampler, d->job.stair, d->job.stair->n - 1, id)) return;
        if (xl_stair_append(d->job.stair, &id, 1, NULL) != EXITLM_OK) return;
        d->cell[d->n] = plan->gram;
        d->draft[d->n++] = (xl_draft){.id = id, .head = -2};
    }
}

/* The way of this round, and how many drafts it wants at most. */
static void choose_way(xl_drafting *d) {
    const unsigned sources = d->job.sources ? d->job.sources : SOURCE_EXITS | SOURCE_LOOKUP;
    lookup plan = {0};
    const double promised = sources & SOURCE_LOOKUP ? plan_lookup(d, d->wanted, &plan) : 0;
    d->way = xl_account_choose(&d->account, promised, sources & SOURCE_EXITS);
    if (d->way == XL_BY_LOOKUP) take_lookup(d, &plan);
    if (d->way != XL_BY_EXITS) d->wanted = d->n;
    else if (d->job.max_drafts == 0 && d->wanted > MOST_BY_EXITS) d->wanted = MOST_BY_EXITS;
}

static void open_round(xl_drafting *d, uint32_t left) {
    d->open = true;
    d->base = d->job.stair->n - 1;
    d->n = 0;
    d->spent = (xl_spent){0};
    d->all_right = 1;
    d->scored = 0;
    d->chain.head = 0;
    d->chain.has_previous = false;
    d->wanted = most_drafts(d, left);
    if (fixed(d)) d->way = XL_PLAIN;
    else choose_way(d);
}

/* ---- Drafting ------------------------------------------------------------------------------ */

/* A head's check, in passes of the output matrix. */
static double check_work(const xl_drafting *d, const xl_head *head) {
    const exitlm_model *m = model_of(d);
    return (double)xl_head_macs(d->job.heads, head) / ((double)m->config.vocab * m->config.dim);
}

/* A head's check of the last position. */
static exitlm_status check_last(xl_drafting *d, uint32_t head, const xl_check *previous,
                                xl_check *check, exitlm_error *error) {
    const xl_stair *stair = d->job.stair;
    const exitlm_status status =
        xl_exit_check(d->job.exits, head, stair->n - 1, xl_hidden(stair, stair->n - 1), previous,
                      d->job.sampler, check, error);
    if (status == EXITLM_OK)
        d->spent.one[XL_OUTPUT] +=
            check_work(d, &d->job.heads->head[head]) -
            (previous ? (double)previous->scored / model_of(d)->config.vocab : 0);
    return status;
}

/* The fixed drafter of LayerSkip: whatever the head at that layer says, or the model's own
 * output matrix where there is no head. */
static exitlm_status draft_fixed(xl_drafting *d, xl_draft *draft, int32_t *id,
                                 exitlm_error *error) {
    const uint32_t layer = d->job.fixed_layer, last = d->job.stair->n - 1;
    exitlm_status status = advance(d, layer, error);
    if (status != EXITLM_OK) return status;
    draft->layer = (uint16_t)layer;
    draft->head = -1;
    for (uint32_t h = 0; h < d->job.heads->n_heads; h++)
        if (d->job.heads->head[h].layer == layer) {
            xl_check check;
            status = check_last(d, h, NULL, &check, error);
            if (status != EXITLM_OK) return status;
            draft->head = (int32_t)h;
            draft->confidence = 1 - check.uncertainty;
            *id = check.id;
            return EXITLM_OK;
        }
    status = xl_logits_compute(d->job.logits, last, 1, 0, error);
    if (status == EXITLM_OK)
        *id = xl_rule_full(d->job.sampler, d->job.logits, 0, last, &draft->confidence);
    return status;
}

/* What of a check the full model need not do again for the round's first row, where no draft comes of
 * it. */
static double kept_work(const xl_drafting *d, const xl_head *head) {
    const bool keeps = d->n == 0 && head->form == XL_FORM_VOCABULARY;
    return keeps ? (double)head->rows / model_of(d)->config.vocab : 0;
}

/* The work of one more draft of a head: the pass up to it and its check, and a row in the pass
 * through all that is above. */
static xl_spent draft_work(const xl_drafting *d, const xl_head *head) {
    const double depth = (double)head->layer / model_of(d)->config.n_layers;
    return (xl_spent){{depth, check_work(d, head) + kept_work(d, head)}, {1 - depth, 1}};
}

/* Is it worth its check? Where the caller limits the drafts, it is the thresholds that decide. */
static bool is_asked(const xl_drafting *d, uint32_t h) {
    const xl_head *head = &d->job.heads->head[h];
    const uint32_t depth = d->job.stair->depth[d->job.stair->n - 1];
    if (!xl_head_is_asked(head, d->job.threshold[h], depth)) return false;
    const xl_spent draft = draft_work(d, head),
                   lost = {{0, check_work(d, head) - kept_work(d, head)}, {0}};
    return d->job.max_drafts > 0 || xl_account_asks(&d->account, d->all_right, &draft, &lost);
}

/* Takes the draft if it pays. */
static bool accept(xl_drafting *d, uint32_t h, const xl_check *check) {
    const float threshold = d->job.threshold[h];
    if (!xl_head_answers(check, threshold)) return false;
    const xl_spent draft = draft_work(d, &d->job.heads->head[h]);
    const uint32_t cell = xl_account_cell(check->uncertainty / threshold);
    const double all_right = d->all_right * xl_account_chance(&d->account, cell);
    if (d->job.max_drafts == 0 && !xl_account_pays(&d->account, all_right, d->n, &draft))
        return false;
    d->cell[d->n] = cell;
    d->all_right = all_right;
    d->scored = 0; /* the round has another row now */
    return true;
}

/* The first head of the chain that is sure enough for it to pay. *id -1: none is. */
static exitlm_status draft_by_exits(xl_drafting *d, xl_draft *draft, int32_t *id,
                                    exitlm_error *error) {
    xl_check check;
    *id = -1;
    for (; d->chain.head < d->job.heads->n_heads; d->chain.head++) {
        const uint32_t h = d->chain.head, layer = d->job.heads->head[h].layer;
        if (!is_asked(d, h)) continue;
        exitlm_status status = advance(d, layer, error);
        if (status == EXITLM_OK)
            status =
                check_last(d, h, d->chain.has_previous ? &d->chain.previous : NULL, &check, error);
        if (status != EXITLM_OK) return status;
        if (accept(d, h, &check)) {
            *draft = (xl_draft){
                .head = (int32_t)h, .layer = (uint16_t)layer, .confidence = 1 - check.uncertainty};
            *id = check.id;
            return EXITLM_OK;
        }
        if (d->n == 0) d->scored = check.scored;
        d->chain.previous = check;
        d->chain.has_previous = true;
    }
    return EXITLM_OK;
}

static exitlm_status draft_one(xl_drafting *d, bool *drafted, exitlm_error *error) {
    int32_t id = -1;
    xl_draft *draft = &d->draft[d->n];
    exitlm_status status;
    if (fixed(d)) status = draft_fixed(d, draft, &id, error);
    else status = draft_by_exits(d, draft, &id, error);
    if (status != EXITLM_OK) return status;
    if (id < 0) {
        d->wanted = d->n;
        return EXITLM_OK;
    }
    status = xl_stair_append(d->job.stair, &id, 1, error);
    if (status != EXITLM_OK) return status;
    draft->id = id;
    d->n++;
    d->chain.head = 0;
    d->chain.has_previous = false;
    *drafted = true;
    /* nothing follows it; it is verified like any other */
    if (xl_token_is_eog(model_of(d)->tokenizer, id)) d->wanted = d->n;
    return EXITLM_OK;
}

/* ---- Verification ---------------------------------------------------------------------------- */

/* Row by row what the full model says after position base + row, up to the first draft that it
 * does not say. */
static void compare(xl_drafting *d, uint32_t rows, xl_round *round) {
    xl_stair *stair = d->job.stair;
    uint32_t right = 0;
    for (uint32_t row = 0; row < rows; row++) {
        if (row > 0 && d->job.sampler->grammar) {
            xl_forced forced;
            const exitlm_status status =
                xl_rule_forced(d->job.sampler, stair, d->base + row, &forced, NULL);
            /* nobody is asked, or the next step says why nothing can be */
            if (status != EXITLM_OK || forced.n || forced.complete) break;
        }
        round->id[row] = xl_rule_full(d->job.sampler, d->job.logits, row, d->base + row,
                                      &round->confidence[row]);
        round->n_tokens = row + 1;
        if (row == d->n || d->draft[row].id != round->id[row]) break;
        right++;
    }
    d->right = right;
    xl_stair_truncate(stair, d->base + round->n_tokens);
}

static exitlm_status verify(xl_drafting *d, xl_round *round, exitlm_error *error) {
    xl_stair *stair = d->job.stair;
    const exitlm_model *m = stair->run->model;
    const uint32_t rows = d->n + 1;
    exitlm_status status = advance(d, m->config.n_layers, error);
    const double from = now_ms(d);
    if (status == EXITLM_OK)
        status = xl_logits_compute(d->job.logits, d->base, rows, d->scored, error);
    if (status != EXITLM_OK) return status;
    spend(d, XL_OUTPUT, 1 - (double)d->scored / m->config.vocab, rows - 1, from);
    d->open = false;
    compare(d, rows, round);
    return EXITLM_OK;
}

exitlm_status xl_draft_step(xl_drafting *d, uint32_t left, xl_round *round, exitlm_error *error) {
    exitlm_status status;
    *round = (xl_round){0};
    if (!d->open) open_round(d, left);
    if (d->n < d->wanted) status = draft_one(d, &round->drafted, error);
    else status = verify(d, round, error);
    round->base = d->base;
    round->n = d->n;
    round->draft = d->draft;
    return status;
}

uint32_t xl_draft_learn(xl_drafting *d, uint32_t taken, uint32_t counted) {
    const uint32_t right = d->right < taken ? d->right : taken;
    xl_account_close(&d->account, d->way, &d->spent, counted, d->cell, d->n, right);
    return right;
}
