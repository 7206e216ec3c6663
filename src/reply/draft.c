/* Lossless decoding: cheap drafts, checked by the full model (dynamic self-speculative decoding, DSSD, of arXiv 2407.21082 v2).
 *
 * A round begins at `base`, the last position whose token is certain. Drafts are appended behind it: from an n-gram of the context
 * (prompt lookup, free), or from exits that are sure. A drafted position stops at its exit's layer; its K/V up to there and its hidden
 * state are kept. Then one pass takes every waiting position through the layers that it lacks, and the full logits of each row say, by
 * the one token rule, which token follows it. Where that is the draft, the draft is accepted; at the first difference the rule's
 * own token is taken and the rest is rolled back; after the last draft its row gives one more token.
 *
 * Exits draft in two ways. The whole chain stops at the first head that is sure, and the layers above are run for all drafts in one pass:
 * that pays where one more row of a pass is cheap. The vocabulary exit alone drafts after the last layer, and one pass over the
 * output matrix checks all drafts: that pays nearly everywhere, because its drafts are nearly always right.
 *
 * What pays: work is counted in multiply-adds, so other programs on the same core do not disturb the account; only prices are measured
 * by the clock (of one more row in a pass, of the output matrix by rows, of the layers), or stored where there is none. Acceptance is
 * counted: of each way of drafting as a whole, and of the vocabulary exit by what it gives to tokens that it does not list, for these
 * alone can make it wrong. */
#include <float.h>
#include <string.h>

#include "generate.h"

enum { ARM_PLAIN, ARM_EXITS, ARM_VOCABULARY, ARM_LOOKUP, MAX_DRAFTS = XL_MAX_VERIFY - 1, N_GRAM = 4, MAX_DRAFT_TEXT = 64 };

#define ROW_PRICE 0.4   /* cost of one more row in a pass, in passes of one row, until it is measured */
#define OUTPUT_PRICE 0.25 /* the same of the output matrix alone; hopeful, for use measures it */
#define TRUSTED 6       /* uses until a price of the output matrix is believed: in a browser the first run in code that is not optimised yet */
#define FORGET 256      /* rounds until prices and chances are doubted, and so tried, again */
#define FIRST_DRAFTS 2  /* by exits, until their acceptance is known */
#define MOST_BY_EXITS 5 /* as in the paper: a longer round gains little and loses much where its first draft is wrong */
#define MARGIN 1.03     /* a way of drafting must win by this to be used */
#define SMALL_MARGIN 1.005 /* the same for drafts of the vocabulary exit, which are made one by one where each promises to pay */
#define MEMORY 0.9      /* weight of the past in running means, by round */

#define SURE 0.4f       /* where a token is drawn, the vocabulary exit drafts from this probability of its likeliest on */

typedef struct arm {
    double cost, tokens, rounds; /* decayed sums; cost in full tokens */
    uint32_t rest, patience;     /* rounds without it, and how many that are next time */
} arm;

/* Drafts of the vocabulary exit by the mass of what is not listed; counts decay. */
typedef struct chance {
    float most; /* of that mass, over the draft's own where the likeliest token is taken */
    double right, drafted;
} chance;
static const chance first_chances[] = {{0.003f, 20, 20.02}, {0.01f, 20, 20.1}, {0.03f, 10, 10.15}, {0.1f, 10, 10.5}, {0.3f, 10, 11.2}, {FLT_MAX, 2, 4}};
enum { CHANCES = sizeof first_chances / sizeof *first_chances };

struct xl_drafting {
    bool open;              /* a round is under way */
    int way;                /* its arm */
    uint32_t base;          /* position of the last certain token */
    uint32_t n, wanted;     /* drafts so far; how many at most */
    xl_draft draft[MAX_DRAFTS];
    char text[MAX_DRAFTS][MAX_DRAFT_TEXT];
    double round_cost;
    arm exits, vocabulary;
    double ms_per_mac[XL_MAX_VERIFY + 1]; /* of a pass, by its rows; 0: not measured */
    uint32_t length;                     /* drafts by exits in a round, at most: grows while they are right */
    double accepted[N_GRAM + 1];         /* of lookup drafts, by the length of the n-gram */
    uint32_t gram;                       /* of this round's lookup */
    double layers_ms, check_ms;          /* of one row: all layers; the vocabulary exit. 0: not measured */
    double output_ms[XL_MAX_VERIFY + 1]; /* of the output matrix, by rows */
    uint32_t output_uses[XL_MAX_VERIFY + 1], rounds;
    chance chances[CHANCES];
    uint32_t chance_of[MAX_DRAFTS];      /* of this round's drafts */
    double all_right;                    /* the chance that this round's drafts all are */
    uint32_t checks;                     /* of the vocabulary exit in this round */
    uint32_t scored;                     /* output rows that its check of the round's only row has scored */
    exitlm_event *events;                /* [4 * XL_MAX_VERIFY] */
};

void xl_draft_take(exitlm_session *s, xl_arena *arena) {
    struct xl_drafting *d = xl_arena_take(arena, 1, sizeof *d);
    exitlm_event *events = xl_arena_take(arena, 4 * XL_MAX_VERIFY, sizeof *events);
    if (!s->generation) return;
    s->generation->drafting = d;
    s->generation->events = events;
    s->generation->events_capacity = 4 * XL_MAX_VERIFY;
    if (d) memcpy(d->chances, first_chances, sizeof first_chances);
    for (uint32_t gram = 0; d && gram <= N_GRAM; gram++) d->accepted[gram] = gram < 3 ? 0.5 : 0.75;
}

/* A new reply: what was learnt about the device and the heads stays. */
void xl_draft_start(exitlm_session *s) {
    struct xl_drafting *d = s->generation->drafting;
    d->open = false;
    d->n = 0;
    if (d->length == 0) d->length = FIRST_DRAFTS;
}

/* ---- Costs ---------------------------------------------------------------------------- */

typedef struct meter {
    double ms;
    uint64_t macs;
} meter;

static meter start_meter(const exitlm_session *s) { return (meter){xl_now(s), s->macs}; }

/* Cost of a pass of `rows` rows through the whole model, in passes of one row. */
static double pass_cost(const struct xl_drafting *d, uint32_t rows) {
    if (rows == 1) return 1;
    if (d->ms_per_mac[1] > 0 && d->ms_per_mac[rows] > 0) {
        double cost = rows * d->ms_per_mac[rows] / d->ms_per_mac[1];
        return cost < 1 ? 1 : cost;
    }
    return 1 + ROW_PRICE * (rows - 1);
}

/* What has been done since, in full tokens of one row. */
static double spent(const exitlm_session *s, meter from, uint32_t rows) {
    return (double)(s->macs - from.macs) / (double)xl_token_macs(s->model) * pass_cost(s->generation->drafting, rows) / rows;
}

/* The lower times count: what other programs took of the core is not the pass's. */
static void learn(double *known, double now) {
    if (now > 0) *known += *known <= 0 ? now : (now < *known ? 0.3 : 0.02) * (now - *known);
}

static void learn_price(const exitlm_session *s, meter from, uint32_t rows) {
    if (s->clock_ms && s->macs != from.macs) learn(&s->generation->drafting->ms_per_mac[rows], (xl_now(s) - from.ms) / (double)(s->macs - from.macs));
}

static void learn_arm(arm *a, double cost, double tokens) {
    a->cost = a->cost * MEMORY + cost;
    a->tokens = a->tokens * MEMORY + tokens;
    a->rounds = a->rounds * MEMORY + 1;
}

static double cost_per_token(const arm *a) { return a->tokens > 0 ? a->cost / a->tokens : 0; }

/* ---- Which way ------------------------------------------------------------------------- */

static bool fixed(const exitlm_session *s) { return s->generation->options.draft_layer > 0; }

static uint32_t most_drafts(const exitlm_session *s) {
    const xl_generation *g = s->generation;
    uint32_t most = fixed(s) ? g->options.draft_length : g->options.max_draft;
    if (most == 0 || most > MAX_DRAFTS) most = MAX_DRAFTS;
    uint32_t room = s->ctx - s->n, left = g->limit - g->n_tokens;
    if (left > 0 && most > left - 1) most = left - 1; /* the row after the last draft gives a token too */
    return most < room ? most : room;
}

/* The latest earlier place of the last `gram` ids; *next is the position after it. */
static bool find_gram(const exitlm_session *s, uint32_t gram, uint32_t *next) {
    if (s->n < gram + 1) return false;
    const int32_t *tail = s->ids + s->n - gram;
    for (uint32_t at = s->n - gram; at-- > 0;)
        if (memcmp(s->ids + at, tail, gram * sizeof *tail) == 0) {
            *next = at + gram;
            return true;
        }
    return false;
}

/* Tokens per cost of a pass that verifies k drafts, each right with probability a. */
static double rate(const struct xl_drafting *d, double a, uint32_t k) {
    double tokens = 1, right = 1;
    for (uint32_t i = 0; i < k; i++) tokens += right *= a;
    return tokens / pass_cost(d, k + 1);
}

typedef struct lookup {
    uint32_t gram, next, drafts;
} lookup;

/* The drafts of a prompt lookup that are worth most; returns their rate, 0 where there are none. */
static double plan_lookup(exitlm_session *s, lookup *plan) {
    struct xl_drafting *d = s->generation->drafting;
    uint32_t next = 0, gram = N_GRAM, most = most_drafts(s);
    while (gram >= 2 && !find_gram(s, gram, &next)) gram--;
    if (gram < 2) return 0;
    if (most > s->n - next) most = s->n - next;
    double best = 0;
    for (uint32_t k = 1; k <= most; k++)
        if (rate(d, d->accepted[gram], k) > best) {
            best = rate(d, d->accepted[gram], k);
            *plan = (lookup){gram, next, k};
        }
    return best;
}

static void take_lookup(exitlm_session *s, const lookup *plan) {
    struct xl_drafting *d = s->generation->drafting;
    d->gram = plan->gram;
    for (uint32_t i = 0; i < plan->drafts; i++) {
        d->draft[d->n++] = (xl_draft){.head = -2};
        xl_session_append(s, &s->ids[plan->next + i], 1, NULL);
    }
}

/* The vocabulary exit's index in the chain, -1 where there is none. */
static int32_t vocabulary_head(const exitlm_session *s) {
    const exitlm_heads *heads = s->heads;
    for (uint32_t h = heads->n_heads; h-- > 0;)
        if (heads->head[h].form == XL_FORM_VOCABULARY && heads->head[h].layer == s->model->config.n_layers) return (int32_t)h;
    return -1;
}

/* Costs in one unit: measured times once both parts of a plain token have one, multiply-adds until then. */
static bool timed(const struct xl_drafting *d) { return d->output_ms[1] > 0 && d->layers_ms > 0; }

static double output_macs(const exitlm_session *s) { return (double)s->model->config.vocab * s->model->config.dim; }

/* Cost of one more row in a product with the output matrix, in rows: the least that is known for sure of any number of rows. */
static double output_slope(const struct xl_drafting *d) {
    double slope = -1;
    for (uint32_t rows = 2; timed(d) && rows <= XL_MAX_VERIFY; rows++) {
        double now = (d->output_ms[rows] / d->output_ms[1] - 1) / (rows - 1);
        if (d->output_uses[rows] >= TRUSTED && (slope < 0 || now < slope)) slope = now > 0 ? now : 0;
    }
    return slope < 0 ? OUTPUT_PRICE : slope;
}

static double output_cost(const exitlm_session *s, uint32_t rows) {
    const struct xl_drafting *d = s->generation->drafting;
    double known = d->output_ms[rows], one = timed(d) ? d->output_ms[1] : output_macs(s), hoped = one * (1 + output_slope(d) * (rows - 1));
    return timed(d) && known > 0 && (d->output_uses[rows] >= TRUSTED || known < hoped) ? known : hoped;
}

static void learn_output(struct xl_drafting *d, uint32_t rows, double ms) {
    learn(&d->output_ms[rows], ms);
    if (d->output_uses[rows] < TRUSTED) d->output_uses[rows]++;
}

static double layers_cost(const exitlm_session *s) {
    const struct xl_drafting *d = s->generation->drafting;
    return timed(d) ? d->layers_ms : (double)s->model->config.n_layers * (double)xl_layer_macs(s->model);
}

static double check_cost(const exitlm_session *s, const xl_head *head) {
    const struct xl_drafting *d = s->generation->drafting;
    return timed(d) && d->check_ms > 0 ? d->check_ms : (double)xl_head_macs(s->model, head) / output_macs(s) * output_cost(s, 1);
}

static double plain_cost(const exitlm_session *s) { return layers_cost(s) + output_cost(s, 1); }

/* Cost of the output matrix where the vocabulary exit has scored some of its rows. */
static double rest_cost(const exitlm_session *s, uint32_t scored) { return output_cost(s, 1) * (1 - (double)scored / s->model->config.vocab); }

/* Whether one more draft of the vocabulary exit pays: `all_right` is the chance that it and those before it are right. */
static bool one_more_pays(const exitlm_session *s, const xl_head *head, double all_right) {
    const uint32_t rows = s->generation->drafting->n + 1;
    double without = rows == 1 ? rest_cost(s, xl_scored_rows(s, head)) : output_cost(s, rows);
    double cost = layers_cost(s) + check_cost(s, head) + output_cost(s, rows + 1) - without;
    return all_right * plain_cost(s) > cost * SMALL_MARGIN;
}

/* Tokens for the cost of a plain one that a way has given so far; a hope until it has had a few rounds, 0 while it rests. */
static double promise(arm *a, double few, double hope, double margin) {
    if (a->rest) {
        a->rest--;
        return 0;
    }
    if (a->rounds < few) return hope;
    if (cost_per_token(a) * margin < 1) {
        if (a->rounds > 6) a->patience = 0;
        return 1 / cost_per_token(a);
    }
    a->patience = a->patience ? a->patience * 2 : 24;
    if (a->patience > 384) a->patience = 384;
    a->rest = a->patience;
    a->cost = a->tokens = a->rounds = 0;
    return 0;
}

/* The way of this round, and how many drafts it wants at most. */
static void choose_way(exitlm_session *s) {
    const xl_generation *g = s->generation;
    struct xl_drafting *d = g->drafting;
    int sources = g->options.draft_sources ? g->options.draft_sources : 3;
    lookup plan = {0};
    double looked_up = sources & 2 ? plan_lookup(s, &plan) : 0, exits = 0, vocabulary = 0;
    if (sources & 1) {
        exits = promise(&d->exits, 1.8, 1.1, MARGIN);
        if (exits == 0) d->length = FIRST_DRAFTS;
        if (vocabulary_head(s) >= 0) vocabulary = promise(&d->vocabulary, 4, 1.05, SMALL_MARGIN);
    }
    if (looked_up > MARGIN && looked_up >= vocabulary && looked_up >= exits) {
        d->way = ARM_LOOKUP;
        take_lookup(s, &plan);
        d->wanted = d->n;
        return;
    }
    /* What failed for a while may work again: forget slowly. */
    if (plan.gram) d->accepted[plan.gram] += 0.01 * (0.6 - d->accepted[plan.gram]);
    d->way = exits > 0 && exits >= vocabulary ? ARM_EXITS : vocabulary > 0 ? ARM_VOCABULARY : ARM_PLAIN;
    if (d->way == ARM_PLAIN) d->wanted = 0;
    if (d->way == ARM_EXITS && g->options.max_draft == 0 && d->wanted > d->length) d->wanted = d->length;
}

/* What was seen to be dear or wrong may be so no longer, and is not tried otherwise. */
static void forget(struct xl_drafting *d) {
    memset(d->output_uses, 0, sizeof d->output_uses);
    for (int i = 0; i < CHANCES; i++) {
        d->chances[i].right = (d->chances[i].right + first_chances[i].right) / 2;
        d->chances[i].drafted = (d->chances[i].drafted + first_chances[i].drafted) / 2;
    }
}

static void open_round(exitlm_session *s) {
    xl_generation *g = s->generation;
    struct xl_drafting *d = g->drafting;
    d->open = true;
    d->base = s->n - 1;
    d->n = 0;
    d->round_cost = 0;
    d->all_right = 1;
    d->checks = d->scored = 0;
    if (++d->rounds % FORGET == 0) forget(d);
    d->wanted = most_drafts(s);
    if (fixed(s)) d->way = ARM_EXITS;
    else choose_way(s);
    if (d->way == ARM_LOOKUP) g->draft_attempts++;
}

/* ---- Drafting ------------------------------------------------------------------------------ */

static void draft_event(exitlm_session *s, exitlm_event_type type, uint32_t i, int32_t id) {
    xl_generation *g = s->generation;
    struct xl_drafting *d = g->drafting;
    if (!g->options.events || g->n_events == g->events_capacity) return;
    size_t n = xl_token_bytes(s->model->tokenizer, id, d->text[i], MAX_DRAFT_TEXT);
    exitlm_event *event = &g->events[g->n_events++];
    *event = (exitlm_event){.type = type};
    event->token = (exitlm_token){.index = g->n_tokens + (type == EXITLM_EVENT_DRAFT ? i : 0), .id = id, .text = d->text[i],
                                  .text_bytes = n < MAX_DRAFT_TEXT ? n : MAX_DRAFT_TEXT, .layer = d->draft[i].layer,
                                  .of = s->model->config.n_layers, .head = d->draft[i].head, .confidence = d->draft[i].confidence,
                                  .drafted = true, .draft_head = d->draft[i].head, .ms = -1};
}

/* The fixed drafter of LayerSkip: whatever the head at that layer says, or the model's own output matrix where there is no head. */
static exitlm_status draft_fixed(exitlm_session *s, xl_draft *draft, int32_t *id, exitlm_error *error) {
    uint32_t layer = (uint32_t)s->generation->options.draft_layer;
    exitlm_status status = xl_session_advance(s, layer, error);
    if (status != EXITLM_OK) return status;
    draft->layer = (uint16_t)layer;
    draft->head = -1;
    for (uint32_t h = 0; h < s->heads->n_heads; h++)
        if (s->heads->head[h].layer == layer) {
            xl_check check;
            status = xl_exit_check(s, h, s->n - 1, NULL, &s->generation->sampler, &check, error);
            draft->head = (int32_t)h;
            draft->confidence = 1 - check.uncertainty;
            *id = check.id;
            return status;
        }
    status = xl_session_logits(s, s->n - 1, 1, error);
    return status == EXITLM_OK ? xl_choose_full(s, 0, s->n - 1, id, &draft->confidence) : status;
}

/* The first head of the chain that is sure enough. *id -1: none is. */
static exitlm_status draft_by_exits(exitlm_session *s, xl_draft *draft, int32_t *id, exitlm_error *error) {
    const xl_generation *g = s->generation;
    xl_check previous, check;
    bool has_previous = false;
    *id = -1;
    for (uint32_t h = 0; h < g->n_chain; h++) {
        const xl_head *head = &s->heads->head[h];
        if (g->threshold[h] <= 0 || s->depth[s->n - 1] > head->layer) continue;
        exitlm_status status = xl_session_advance(s, head->layer, error);
        if (status == EXITLM_OK) status = xl_exit_check(s, h, s->n - 1, has_previous ? &previous : NULL, &g->sampler, &check, error);
        if (status != EXITLM_OK) return status;
        if (check.id >= 0 && check.uncertainty < g->threshold[h]) {
            *draft = (xl_draft){(int32_t)h, (uint16_t)head->layer, 1 - check.uncertainty};
            *id = check.id;
            return EXITLM_OK;
        }
        previous = check;
        has_previous = true;
    }
    return EXITLM_OK;
}

/* The vocabulary exit, where one more of its drafts pays. *id -1: it does not, or the exit declines. */
static exitlm_status draft_by_vocabulary(exitlm_session *s, xl_draft *draft, int32_t *id, exitlm_error *error) {
    struct xl_drafting *d = s->generation->drafting;
    uint32_t h = (uint32_t)vocabulary_head(s), layers = s->model->config.n_layers, at = 0;
    bool alone = s->depth[s->n - 1] == 0 && (s->n == 1 || s->depth[s->n - 2] == layers);
    xl_check check;
    double from = xl_now(s);
    exitlm_status status = xl_session_advance(s, layers, error);
    double between = xl_now(s);
    if (s->clock_ms && alone) learn(&d->layers_ms, between - from);
    if (status == EXITLM_OK) status = xl_exit_check(s, h, s->n - 1, NULL, &s->generation->sampler, &check, error);
    if (status != EXITLM_OK) return status;
    if (s->clock_ms) learn(&d->check_ms, xl_now(s) - between);
    d->checks++;
    *draft = (xl_draft){(int32_t)h, (uint16_t)layers, 1 - check.uncertainty};
    float unlisted = xl_sampler_is_plain(&s->generation->sampler) && check.p1 > 0 ? check.other / check.p1 : check.other;
    while (at < CHANCES - 1 && unlisted >= d->chances[at].most) at++;
    double all_right = d->all_right * d->chances[at].right / d->chances[at].drafted;
    bool flat = !xl_sampler_is_plain(&s->generation->sampler) && check.p1 < SURE;
    *id = check.id >= 0 && !flat && one_more_pays(s, &s->heads->head[h], all_right) ? check.id : -1;
    if (*id < 0) {
        if (d->n == 0) d->scored = xl_scored_rows(s, &s->heads->head[h]);
        return EXITLM_OK;
    }
    d->all_right = all_right;
    d->chance_of[d->n] = at;
    return EXITLM_OK;
}

static exitlm_status draft_one(exitlm_session *s, exitlm_error *error) {
    xl_generation *g = s->generation;
    struct xl_drafting *d = g->drafting;
    int32_t id = -1;
    meter from = start_meter(s);
    xl_draft *draft = &d->draft[d->n];
    exitlm_status status = fixed(s) ? draft_fixed(s, draft, &id, error)
                           : d->way == ARM_VOCABULARY ? draft_by_vocabulary(s, draft, &id, error) : draft_by_exits(s, draft, &id, error);
    if (status != EXITLM_OK) return status;
    d->round_cost += spent(s, from, 1);
    if (id < 0) {
        d->wanted = d->n;
        return EXITLM_OK;
    }
    status = xl_session_append(s, &id, 1, error);
    if (status != EXITLM_OK) return status;
    if (d->n == 0) g->draft_attempts++;
    draft_event(s, EXITLM_EVENT_DRAFT, d->n, id);
    d->n++;
    if (xl_token_is_eog(s->model->tokenizer, id)) d->wanted = d->n; /* nothing follows it; it is verified like any other */
    return EXITLM_OK;
}

/* ---- Verification ---------------------------------------------------------------------------- */

static void emit_verified(exitlm_session *s, int32_t id, float confidence, const xl_draft *draft) {
    xl_chosen chosen = {.id = id, .head = -1, .layer = (uint16_t)s->model->config.n_layers, .confidence = confidence, .work = 1,
                        .drafted = draft != NULL, .draft_head = draft ? draft->head : 0};
    xl_emit(s, &chosen);
}

/* Row by row: what the full model says after position base + row. Returns the drafts that were right. */
static uint32_t compare(exitlm_session *s, uint32_t rows) {
    xl_generation *g = s->generation;
    struct xl_drafting *d = g->drafting;
    for (uint32_t row = 0; row < rows; row++) {
        int32_t id;
        float confidence;
        uint32_t pos = d->base + row;
        xl_choose_full(s, row, pos, &id, &confidence);
        bool right = row < d->n && s->ids[pos + 1] == id;
        if (row < d->n) draft_event(s, right ? EXITLM_EVENT_ACCEPT : EXITLM_EVENT_REJECT, row, s->ids[pos + 1]);
        emit_verified(s, id, confidence, right ? &d->draft[row] : NULL);
        bool over = g->phase != XL_DECODE;
        if (!right || over) {
            xl_session_truncate(s, pos + 1 + (right && !over));
            return row + right;
        }
    }
    return d->n;
}

static void learn_vocabulary(const exitlm_session *s, uint32_t right, uint32_t tokens) {
    struct xl_drafting *d = s->generation->drafting;
    for (uint32_t i = 0; i < d->n && i <= right; i++) {
        chance *c = &d->chances[d->chance_of[i]];
        c->right = c->right * 0.98 + (i < right);
        c->drafted = c->drafted * 0.98 + 1;
    }
    const xl_head *head = &s->heads->head[vocabulary_head(s)];
    double cost = (d->n + 1) * layers_cost(s) + d->checks * check_cost(s, head) + (d->n ? output_cost(s, d->n + 1) : rest_cost(s, d->scored));
    learn_arm(&d->vocabulary, cost / plain_cost(s), tokens);
}

static void learn_round(const exitlm_session *s, uint32_t right, uint32_t tokens) {
    struct xl_drafting *d = s->generation->drafting;
    for (uint32_t i = 0; d->way == ARM_LOOKUP && i < d->n && i <= right; i++)
        d->accepted[d->gram] += 0.15 * ((i < right) - d->accepted[d->gram]);
    if (d->way == ARM_VOCABULARY) learn_vocabulary(s, right, tokens);
    if (d->way != ARM_EXITS) return;
    learn_arm(&d->exits, d->round_cost, tokens);
    if (right < d->n) d->length = right < 1 ? 1 : right;
    else if (d->n == d->length && d->length < MOST_BY_EXITS) d->length++;
}

static exitlm_status verify(exitlm_session *s, exitlm_error *error) {
    xl_generation *g = s->generation;
    struct xl_drafting *d = g->drafting;
    uint32_t rows = d->n + 1, before = g->n_tokens;
    meter from = start_meter(s);
    bool whole = s->depth[d->base] == 0; /* all rows through all layers */
    exitlm_status status = xl_session_advance(s, s->model->config.n_layers, error);
    double between = xl_now(s);
    if (s->clock_ms && whole && rows == 1) learn(&d->layers_ms, between - from.ms);
    if (status == EXITLM_OK) status = xl_session_logits_from(s, d->base, rows, d->scored, error);
    if (status != EXITLM_OK) return status;
    if (s->clock_ms) learn_output(d, rows, (xl_now(s) - between) * s->model->config.vocab / (s->model->config.vocab - d->scored));
    if (whole) learn_price(s, from, rows);
    d->round_cost += spent(s, from, rows);
    d->open = false;
    uint32_t right = compare(s, rows);
    g->drafted += d->n;
    g->accepted += right;
    learn_round(s, right, g->n_tokens - before);
    return EXITLM_OK;
}

exitlm_status xl_draft_round(exitlm_session *s, exitlm_error *error) {
    struct xl_drafting *d = s->generation->drafting;
    if (!d->open) open_round(s);
    if (d->way != ARM_LOOKUP && d->n < d->wanted) return draft_one(s, error);
    return verify(s, error);
}
