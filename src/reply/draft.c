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
 * Exits draft in two ways. The whole chain stops at the first head that is sure, and the layers
 * above are run for all drafts in one pass: that pays where one more row of a pass is cheap. The
 * vocabulary exit alone drafts after the last layer, and one pass over the output matrix checks all
 * drafts: that pays nearly everywhere, because its drafts are nearly always right.
 *
 * What pays: work is counted in multiply-adds, so other programs on the same core do not disturb
 * the account; only prices are measured by the clock (of one more row in a pass, of the output
 * matrix by rows, of the layers), or stored where there is none. Acceptance is counted: of each way
 * of drafting as a whole, and of the vocabulary exit by what it gives to tokens that it does not
 * list, for these alone can make it wrong. */
#include "draft.h"

#include <float.h>
#include <string.h>

#include "run/cost.h"

typedef enum drafter { PLAIN, BY_EXITS, BY_VOCABULARY, BY_LOOKUP } drafter;
enum { N_GRAM = 4, SOURCE_EXITS = 1, SOURCE_LOOKUP = 2 };

/* cost of one more row in a pass, in passes of one row, until it is measured */
#define ROW_PRICE 0.4
#define OUTPUT_PRICE 0.25 /* the same of the output matrix alone; hopeful, for use measures it */
/* uses until a price of the output matrix is believed: in a browser the first run in code that is
 * not optimised yet */
#define TRUSTED 6
#define FORGET 256     /* rounds until prices and chances are doubted, and so tried, again */
#define FIRST_DRAFTS 2 /* by exits, until their acceptance is known */
/* as in the paper: a longer round gains little and loses much where its first draft is wrong */
#define MOST_BY_EXITS 5
#define MARGIN 1.03 /* a way of drafting must win by this to be used */
/* the same for drafts of the vocabulary exit, which are made one by one where each promises to
 * pay */
#define SMALL_MARGIN 1.005
#define MEMORY 0.9 /* weight of the past in running means, by round */

/* where a token is drawn, the vocabulary exit drafts from this probability of its likeliest on */
#define MIN_SAMPLED_PROBABILITY 0.4f

typedef struct tally {
    double cost, tokens, rounds; /* decayed sums; cost in full tokens */
    uint32_t pause, patience;    /* rounds without it, and how many that are next time */
} tally;

/* Drafts of the vocabulary exit by the mass of what is not listed; counts decay. */
typedef struct acceptance {
    float most; /* of that mass, over the draft's own where the likeliest token is taken */
    double right, drafted;
} acceptance;
static const acceptance first_chances[] = {{0.003f, 20, 20.02}, {0.01f, 20, 20.1},
                                           {0.03f, 10, 10.15},  {0.1f, 10, 10.5},
                                           {0.3f, 10, 11.2},    {FLT_MAX, 2, 4}};
enum { CHANCES = sizeof first_chances / sizeof *first_chances };

struct xl_drafting {
    xl_draft_job job;
    bool open;          /* a round is under way */
    drafter way;        /* of this round */
    uint32_t base;      /* position of the last certain token */
    uint32_t n, wanted; /* drafts so far; how many at most */
    xl_draft draft[XL_MAX_DRAFTS];
    double round_cost;
    tally exits, vocabulary;
    double ms_per_mac[XL_MAX_VERIFY + 1]; /* of a pass, by its rows; 0: not measured */
    /* drafts by exits in a round, at most: grows while they are right */
    uint32_t length;
    double accepted[N_GRAM + 1]; /* of lookup drafts, by the length of the n-gram */
    uint32_t gram;               /* of this round's lookup */
    /* of one row: all layers; the vocabulary exit. 0: not measured */
    double layers_ms, check_ms;
    double output_ms[XL_MAX_VERIFY + 1]; /* of the output matrix, by rows */
    uint32_t output_uses[XL_MAX_VERIFY + 1], rounds;
    acceptance chances[CHANCES];
    uint32_t chance_of[XL_MAX_DRAFTS]; /* of this round's drafts */
    double all_right;                  /* the chance that this round's drafts all are */
    uint32_t checks;                   /* of the vocabulary exit in this round */
    /* output rows that its check of the round's only row has scored */
    uint32_t scored;
    uint32_t right; /* of the drafts that were verified last */
};

xl_drafting *xl_drafting_take(xl_arena *arena) {
    return xl_arena_take(arena, 1, sizeof(xl_drafting));
}

void xl_drafting_fill(xl_drafting *d) {
    memcpy(d->chances, first_chances, sizeof first_chances);
    for (uint32_t gram = 0; gram <= N_GRAM; gram++) d->accepted[gram] = gram < 3 ? 0.5 : 0.75;
}

void xl_drafting_start(xl_drafting *d, const xl_draft_job *job) {
    d->job = *job;
    d->open = false;
    d->n = 0;
    if (d->length == 0) d->length = FIRST_DRAFTS;
}

/* ---- Costs ---------------------------------------------------------------------------- */

typedef struct meter {
    double ms;
    uint64_t macs;
} meter;

static const exitlm_model *model_of(const xl_drafting *d) { return d->job.stair->run->model; }
static double now_ms(const xl_drafting *d) {
    return d->job.clock_ms ? d->job.clock_ms(d->job.clock_user) : -1;
}
static meter start_meter(const xl_drafting *d) {
    return (meter){now_ms(d), d->job.stair->run->macs};
}

/* Cost of a pass of `rows` rows through the whole model, in passes of one row. */
static double pass_cost(const xl_drafting *d, uint32_t rows) {
    if (rows == 1) return 1;
    if (d->ms_per_mac[1] > 0 && d->ms_per_mac[rows] > 0) {
        double cost = rows * d->ms_per_mac[rows] / d->ms_per_mac[1];
        return cost < 1 ? 1 : cost;
    }
    return 1 + ROW_PRICE * (rows - 1);
}

/* What has been done since, in full tokens of one row. */
static double spent(const xl_drafting *d, meter from, uint32_t rows) {
    return (double)(d->job.stair->run->macs - from.macs) / (double)xl_token_macs(model_of(d)) *
           pass_cost(d, rows) / rows;
}

/* The lower times count: what other programs took of the core is not the pass's. */
static void learn(double *known, double now) {
    if (now > 0) *known += *known <= 0 ? now : (now < *known ? 0.3 : 0.02) * (now - *known);
}

static void learn_price(xl_drafting *d, meter from, uint32_t rows) {
    const uint64_t macs = d->job.stair->run->macs - from.macs;
    if (d->job.clock_ms && macs) learn(&d->ms_per_mac[rows], (now_ms(d) - from.ms) / (double)macs);
}

static void learn_way(tally *a, double cost, double tokens) {
    a->cost = a->cost * MEMORY + cost;
    a->tokens = a->tokens * MEMORY + tokens;
    a->rounds = a->rounds * MEMORY + 1;
}

static double cost_per_token(const tally *a) { return a->tokens > 0 ? a->cost / a->tokens : 0; }

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

/* Tokens per cost of a pass that verifies k drafts, each right with probability a. */
static double rate(const xl_drafting *d, double a, uint32_t k) {
    double tokens = 1, right = 1;
    for (uint32_t i = 0; i < k; i++) tokens += right *= a;
    return tokens / pass_cost(d, k + 1);
}

typedef struct lookup {
    uint32_t gram, next, drafts;
} lookup;

/* The drafts of a prompt lookup that are worth most; returns their rate, 0 where there are none. */
static double plan_lookup(const xl_drafting *d, uint32_t most, lookup *plan) {
    uint32_t next = 0, gram = N_GRAM;
    while (gram >= 2 && !find_gram(d, gram, &next)) gram--;
    if (gram < 2) return 0;
    if (most > d->job.stair->n - next) most = d->job.stair->n - next;
    double best = 0;
    for (uint32_t k = 1; k <= most; k++)
        if (rate(d, d->accepted[gram], k) > best) {
            best = rate(d, d->accepted[gram], k);
            *plan = (lookup){gram, next, k};
        }
    return best;
}

static void take_lookup(xl_drafting *d, const lookup *plan) {
    d->gram = plan->gram;
    for (uint32_t i = 0; i < plan->drafts; i++) {
        const int32_t id = d->job.stair->ids[plan->next + i];
        if (!xl_rule_allows(d->job.sampler, d->job.stair, d->job.stair->n - 1, id)) return;
        if (xl_stair_append(d->job.stair, &id, 1, NULL) != EXITLM_OK) return;
        d->draft[d->n++] = (xl_draft){.id = id, .head = -2};
    }
}

/* The vocabulary exit's index in the chain, -1 where there is none. */
static int32_t vocabulary_head(const xl_drafting *d) {
    const exitlm_heads *heads = d->job.heads;
    for (uint32_t h = heads->n_heads; h-- > 0;)
        if (heads->head[h].form == XL_FORM_VOCABULARY &&
            heads->head[h].layer == model_of(d)->config.n_layers)
            return (int32_t)h;
    return -1;
}

/* Costs in one unit: measured times once both parts of a plain token have one, multiply-adds
 * until then. */
static bool timed(const xl_drafting *d) { return d->output_ms[1] > 0 && d->layers_ms > 0; }

static double output_macs(const xl_drafting *d) {
    return (double)model_of(d)->config.vocab * model_of(d)->config.dim;
}

/* Cost of one more row in a product with the output matrix, in rows: the least that is known for
 * sure of any number of rows. */
static double output_slope(const xl_drafting *d) {
    double slope = -1;
    for (uint32_t rows = 2; timed(d) && rows <= XL_MAX_VERIFY; rows++) {
        double now = (d->output_ms[rows] / d->output_ms[1] - 1) / (rows - 1);
        if (d->output_uses[rows] >= TRUSTED && (slope < 0 || now < slope))
            slope = now > 0 ? now : 0;
    }
    return slope < 0 ? OUTPUT_PRICE : slope;
}

static double output_cost(const xl_drafting *d, uint32_t rows) {
    double known = d->output_ms[rows], one = timed(d) ? d->output_ms[1] : output_macs(d),
           hoped = one * (1 + output_slope(d) * (rows - 1));
    return timed(d) && known > 0 && (d->output_uses[rows] >= TRUSTED || known < hoped) ? known
                                                                                       : hoped;
}

static void learn_output(xl_drafting *d, uint32_t rows, double ms) {
    learn(&d->output_ms[rows], ms);
    if (d->output_uses[rows] < TRUSTED) d->output_uses[rows]++;
}

static double layers_cost(const xl_drafting *d) {
    return timed(d) ? d->layers_ms
                    : (double)model_of(d)->config.n_layers * (double)xl_layer_macs(model_of(d));
}

static double check_cost(const xl_drafting *d, const xl_head *head) {
    return timed(d) && d->check_ms > 0
               ? d->check_ms
               : (double)xl_head_macs(model_of(d), head) / output_macs(d) * output_cost(d, 1);
}

static double plain_cost(const xl_drafting *d) { return layers_cost(d) + output_cost(d, 1); }

/* Cost of the output matrix where the vocabulary exit has scored some of its rows. */
static double rest_cost(const xl_drafting *d, uint32_t scored) {
    return output_cost(d, 1) * (1 - (double)scored / model_of(d)->config.vocab);
}

/* Whether one more draft of the vocabulary exit pays: `all_right` is the chance that it and
 * those before it are right. */
static bool one_more_pays(const xl_drafting *d, uint32_t h, double all_right) {
    const uint32_t rows = d->n + 1;
    double without =
        rows == 1 ? rest_cost(d, xl_scored_rows(d->job.exits, h)) : output_cost(d, rows);
    double cost =
        layers_cost(d) + check_cost(d, &d->job.heads->head[h]) + output_cost(d, rows + 1) - without;
    return all_right * plain_cost(d) > cost * SMALL_MARGIN;
}

/* Tokens for the cost of a plain one that a way has given so far; a hope until it has had a few
 * rounds, 0 while it rests. */
static double expected_gain(tally *a, double few, double hope, double margin) {
    if (a->pause) {
        a->pause--;
        return 0;
    }
    if (a->rounds < few) return hope;
    if (cost_per_token(a) * margin < 1) {
        if (a->rounds > 6) a->patience = 0;
        return 1 / cost_per_token(a);
    }
    a->patience = a->patience ? a->patience * 2 : 24;
    if (a->patience > 384) a->patience = 384;
    a->pause = a->patience;
    a->cost = a->tokens = a->rounds = 0;
    return 0;
}

/* The way of this round, and how many drafts it wants at most. */
static void choose_way(xl_drafting *d) {
    const unsigned sources = d->job.sources ? d->job.sources : SOURCE_EXITS | SOURCE_LOOKUP;
    lookup plan = {0};
    double looked_up = sources & SOURCE_LOOKUP ? plan_lookup(d, d->wanted, &plan) : 0, exits = 0,
           vocabulary = 0;
    if (sources & SOURCE_EXITS) {
        exits = expected_gain(&d->exits, 1.8, 1.1, MARGIN);
        if (exits == 0) d->length = FIRST_DRAFTS;
        if (vocabulary_head(d) >= 0)
            vocabulary = expected_gain(&d->vocabulary, 4, 1.05, SMALL_MARGIN);
    }
    if (looked_up > MARGIN && looked_up >= vocabulary && looked_up >= exits) {
        d->way = BY_LOOKUP;
        take_lookup(d, &plan);
        d->wanted = d->n;
        return;
    }
    /* What failed for a while may work again: forget slowly. */
    if (plan.gram) d->accepted[plan.gram] += 0.01 * (0.6 - d->accepted[plan.gram]);
    d->way = exits > 0 && exits >= vocabulary ? BY_EXITS : vocabulary > 0 ? BY_VOCABULARY : PLAIN;
    if (d->way == PLAIN) d->wanted = 0;
    if (d->way == BY_EXITS && d->job.max_drafts == 0 && d->wanted > d->length)
        d->wanted = d->length;
}

/* What was seen to be dear or wrong may be so no longer, and is not tried otherwise. */
static void forget(xl_drafting *d) {
    memset(d->output_uses, 0, sizeof d->output_uses);
    for (int i = 0; i < CHANCES; i++) {
        d->chances[i].right = (d->chances[i].right + first_chances[i].right) / 2;
        d->chances[i].drafted = (d->chances[i].drafted + first_chances[i].drafted) / 2;
    }
}

static void open_round(xl_drafting *d, uint32_t left) {
    d->open = true;
    d->base = d->job.stair->n - 1;
    d->n = 0;
    d->round_cost = 0;
    d->all_right = 1;
    d->checks = d->scored = 0;
    if (++d->rounds % FORGET == 0) forget(d);
    d->wanted = most_drafts(d, left);
    if (fixed(d)) d->way = BY_EXITS;
    else choose_way(d);
}

/* ---- Drafting ------------------------------------------------------------------------------ */

/* A head's check of the last position. */
static exitlm_status check_last(xl_drafting *d, uint32_t head, const xl_check *previous,
                                xl_check *check, exitlm_error *error) {
    const xl_stair *stair = d->job.stair;
    return xl_exit_check(d->job.exits, head, stair->n - 1, xl_hidden(stair, stair->n - 1), previous,
                         d->job.sampler, check, error);
}

/* The fixed drafter of LayerSkip: whatever the head at that layer says, or the model's own
 * output matrix where there is no head. */
static exitlm_status draft_fixed(xl_drafting *d, xl_draft *draft, int32_t *id,
                                 exitlm_error *error) {
    const uint32_t layer = d->job.fixed_layer, last = d->job.stair->n - 1;
    exitlm_status status = xl_stair_advance(d->job.stair, layer, error);
    if (status != EXITLM_OK) return status;
    draft->layer = (uint16_t)layer;
    draft->head = -1;
    for (uint32_t h = 0; h < d->job.heads->n_heads; h++)
        if (d->job.heads->head[h].layer == layer) {
            xl_check check;
            status = check_last(d, h, NULL, &check, error);
            draft->head = (int32_t)h;
            draft->confidence = 1 - check.uncertainty;
            *id = check.id;
            return status;
        }
    status = xl_logits_compute(d->job.logits, last, 1, 0, error);
    if (status == EXITLM_OK)
        *id = xl_rule_full(d->job.sampler, d->job.logits, 0, last, &draft->confidence);
    return status;
}

/* The first head of the chain that is sure enough. *id -1: none is. */
static exitlm_status draft_by_exits(xl_drafting *d, xl_draft *draft, int32_t *id,
                                    exitlm_error *error) {
    xl_check previous, check;
    bool has_previous = false;
    *id = -1;
    for (uint32_t h = 0; h < d->job.heads->n_heads; h++) {
        const xl_head *head = &d->job.heads->head[h];
        if (!xl_head_is_asked(head, d->job.threshold[h], d->job.stair->depth[d->job.stair->n - 1]))
            continue;
        exitlm_status status = xl_stair_advance(d->job.stair, head->layer, error);
        if (status == EXITLM_OK)
            status = check_last(d, h, has_previous ? &previous : NULL, &check, error);
        if (status != EXITLM_OK) return status;
        if (xl_head_answers(&check, d->job.threshold[h])) {
            *draft = (xl_draft){.head = (int32_t)h,
                                .layer = (uint16_t)head->layer,
                                .confidence = 1 - check.uncertainty};
            *id = check.id;
            return EXITLM_OK;
        }
        previous = check;
        has_previous = true;
    }
    return EXITLM_OK;
}

/* The vocabulary exit, where one more of its drafts pays. *id -1: it does not, or the exit
 * declines. */
static exitlm_status draft_by_vocabulary(xl_drafting *d, xl_draft *draft, int32_t *id,
                                         exitlm_error *error) {
    uint32_t h = (uint32_t)vocabulary_head(d), layers = model_of(d)->config.n_layers, at = 0;
    bool alone = d->job.stair->depth[d->job.stair->n - 1] == 0 &&
                 (d->job.stair->n == 1 || d->job.stair->depth[d->job.stair->n - 2] == layers);
    xl_check check;
    double from = now_ms(d);
    exitlm_status status = xl_stair_advance(d->job.stair, layers, error);
    double between = now_ms(d);
    if (d->job.clock_ms && alone) learn(&d->layers_ms, between - from);
    if (status == EXITLM_OK) status = check_last(d, h, NULL, &check, error);
    if (status != EXITLM_OK) return status;
    if (d->job.clock_ms) learn(&d->check_ms, now_ms(d) - between);
    d->checks++;
    *draft = (xl_draft){
        .head = (int32_t)h, .layer = (uint16_t)layers, .confidence = 1 - check.uncertainty};
    float unlisted =
        xl_sampler_is_plain(d->job.sampler) && check.p1 > 0 ? check.other / check.p1 : check.other;
    while (at < CHANCES - 1 && unlisted >= d->chances[at].most) at++;
    double all_right = d->all_right * d->chances[at].right / d->chances[at].drafted;
    bool flat = !xl_sampler_is_plain(d->job.sampler) && check.p1 < MIN_SAMPLED_PROBABILITY;
    *id = check.id >= 0 && !flat && one_more_pays(d, h, all_right) ? check.id : -1;
    if (*id < 0) {
        if (d->n == 0) d->scored = xl_scored_rows(d->job.exits, h);
        return EXITLM_OK;
    }
    d->all_right = all_right;
    d->chance_of[d->n] = at;
    return EXITLM_OK;
}

static exitlm_status draft_one(xl_drafting *d, bool *drafted, exitlm_error *error) {
    int32_t id = -1;
    meter from = start_meter(d);
    xl_draft *draft = &d->draft[d->n];
    exitlm_status status;
    if (fixed(d)) status = draft_fixed(d, draft, &id, error);
    else if (d->way == BY_VOCABULARY) status = draft_by_vocabulary(d, draft, &id, error);
    else status = draft_by_exits(d, draft, &id, error);
    if (status != EXITLM_OK) return status;
    d->round_cost += spent(d, from, 1);
    if (id < 0) {
        d->wanted = d->n;
        return EXITLM_OK;
    }
    status = xl_stair_append(d->job.stair, &id, 1, error);
    if (status != EXITLM_OK) return status;
    draft->id = id;
    d->n++;
    *drafted = true;
    /* nothing follows it; it is verified like any other */
    if (xl_token_is_eog(model_of(d)->tokenizer, id)) d->wanted = d->n;
    return EXITLM_OK;
}

/* ---- Verification ---------------------------------------------------------------------------- */

static void learn_vocabulary(xl_drafting *d, uint32_t right, uint32_t tokens) {
    for (uint32_t i = 0; i < d->n && i <= right; i++) {
        acceptance *c = &d->chances[d->chance_of[i]];
        c->right = c->right * 0.98 + (i < right);
        c->drafted = c->drafted * 0.98 + 1;
    }
    const xl_head *head = &d->job.heads->head[vocabulary_head(d)];
    double cost = (d->n + 1) * layers_cost(d) + d->checks * check_cost(d, head) +
                  (d->n ? output_cost(d, d->n + 1) : rest_cost(d, d->scored));
    learn_way(&d->vocabulary, cost / plain_cost(d), tokens);
}

static void learn_round(xl_drafting *d, uint32_t right, uint32_t tokens) {
    if (d->way == BY_LOOKUP)
        for (uint32_t i = 0; i < d->n && i <= right; i++)
            d->accepted[d->gram] += 0.15 * ((i < right) - d->accepted[d->gram]);
    if (d->way == BY_VOCABULARY) learn_vocabulary(d, right, tokens);
    if (d->way != BY_EXITS) return;
    learn_way(&d->exits, d->round_cost, tokens);
    if (right < d->n) d->length = right < 1 ? 1 : right;
    else if (d->n == d->length && d->length < MOST_BY_EXITS) d->length++;
}

/* Row by row what the full model says after position base + row, up to the first draft that it
 * does not say. */
static exitlm_status compare(xl_drafting *d, uint32_t rows, xl_round *round, exitlm_error *error) {
    xl_stair *stair = d->job.stair;
    uint32_t right = 0;
    for (uint32_t row = 0; row < rows; row++) {
        xl_forced forced = {0};
        if (row > 0) {
            exitlm_status status =
                xl_rule_forced(d->job.sampler, stair, d->base + row, &forced, error);
            if (status != EXITLM_OK) return status;
        }
        if (forced.n || forced.complete) break; /* nobody is asked */
        round->id[row] = xl_rule_full(d->job.sampler, d->job.logits, row, d->base + row,
                                      &round->confidence[row]);
        round->n_tokens = row + 1;
        if (row == d->n || d->draft[row].id != round->id[row]) break;
        right++;
    }
    d->right = right;
    xl_stair_truncate(stair, d->base + round->n_tokens);
    return EXITLM_OK;
}

static exitlm_status verify(xl_drafting *d, xl_round *round, exitlm_error *error) {
    xl_stair *stair = d->job.stair;
    const exitlm_model *m = stair->run->model;
    const uint32_t rows = d->n + 1;
    meter from = start_meter(d);
    /* these rows, and no others, through all layers */
    const bool whole = stair->depth[d->base] == 0 &&
                       (d->base == 0 || stair->depth[d->base - 1] == m->config.n_layers);
    exitlm_status status = xl_stair_advance(stair, m->config.n_layers, error);
    double between = now_ms(d);
    if (d->job.clock_ms && whole && rows == 1) learn(&d->layers_ms, between - from.ms);
    if (status == EXITLM_OK)
        status = xl_logits_compute(d->job.logits, d->base, rows, d->scored, error);
    if (status != EXITLM_OK) return status;
    /* Where the vocabulary exit has scored every row, nothing was left to time. */
    const uint32_t computed = m->config.vocab - d->scored;
    if (d->job.clock_ms && computed)
        learn_output(d, rows, (now_ms(d) - between) * m->config.vocab / computed);
    if (whole) learn_price(d, from, rows);
    d->round_cost += spent(d, from, rows);
    d->open = false;
    return compare(d, rows, round, error);
}

exitlm_status xl_draft_step(xl_drafting *d, uint32_t left, xl_round *round, exitlm_error *error) {
    exitlm_status status;
    *round = (xl_round){0};
    if (!d->open) open_round(d, left);
    if (d->way != BY_LOOKUP && d->n < d->wanted) status = draft_one(d, &round->drafted, error);
    else status = verify(d, round, error);
    round->base = d->base;
    round->n = d->n;
    round->draft = d->draft;
    return status;
}

uint32_t xl_draft_learn(xl_drafting *d, uint32_t taken, uint32_t counted) {
    const uint32_t right = d->right < taken ? d->right : taken;
    learn_round(d, right, counted);
    return right;
}
