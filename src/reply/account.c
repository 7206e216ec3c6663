/* The account of drafting. See account.h. */
#include "account.h"

#define MEMORY 0.95        /* weight of the past in what is learnt of rounds by exits, by round */
#define MEMORY_CHANCE 0.98 /* and of chances, by draft */
#define FORGET 0.02        /* of what was learnt, by round; of prices a tenth of it */
#define MARGIN 1.02        /* a way must promise this much to be used */
#define SHARE 0.005        /* of all tokens that drafts may lose */
#define FIRST 0.35         /* tokens that they may lose in a reply before they have won any, */
#define MOST 5.0           /* and of those that they have won */
#define OFTEN 0.4          /* how often a head of the shipped ones drafts when it is asked, */
#define SURE_RIGHT 0.97    /* and how often it is right then */

/* As it may be expected: six rounds by exits with nine drafts, made where they pay, so that 95 % of
 * them are right. */
static const union {
    xl_belief belief;
    double beliefs[sizeof(xl_belief) / sizeof(double)];
} first = {{.row = {0.5, 0.4},
            .exits = {{{13.5, 8.7}, {1.5, 9}}, 6, 9, {8.6, 9}},
            .cell = {[2] = {3, 6},
                     [3] = {4.5, 6},
                     [4] = {4.5, 6},
                     [XL_SURE] = {19.8, 20},
                     {19.2, 20},
                     {18.4, 20},
                     {17.2, 20},
                     {15.6, 20},
                     {14, 20}}}};
static const float cell_ends[XL_CELLS - XL_SURE - 1] = {0.04f, 0.1f, 0.2f, 0.4f, 0.8f};

void xl_account_start(xl_account *a, double share) {
    *a = (xl_account){.share = share, .spare = FIRST};
    a->now = first.belief;
}

void xl_account_reply(xl_account *a) {
    a->spare += FIRST / 2;
    if (a->spare > FIRST) a->spare = FIRST;
}

/* ---- Prices ---- */

void xl_account_price(xl_account *a, int work, double one, double more, double ms) {
    double *known = &a->ms[work], *row = &a->now.row[work];
    if (!(ms > 0) || !(one > 0)) return;
    /* The lower times count: what other programs took of the core is not the pass's. */
    if (more <= 0) {
        const double now = ms / one;
        *known += *known <= 0 ? now : (now < *known ? 0.3 : 0.02) * (now - *known);
    } else if (*known > 0) {
        double now = (ms / *known - one) / more;
        now = now < 0 ? 0 : now > 1 ? 1 : now;
        *row += (now < *row ? 0.25 : 0.12) * (now - *row);
    }
}

double xl_account_cost(const xl_account *a, const xl_spent *s) {
    const double *ms = a->ms, *row = a->now.row;
    const bool timed = ms[XL_LAYERS] > 0 && ms[XL_OUTPUT] > 0;
    const double share = timed ? ms[XL_LAYERS] / (ms[XL_LAYERS] + ms[XL_OUTPUT]) : a->share;
    return share * (s->one[XL_LAYERS] + row[XL_LAYERS] * s->more[XL_LAYERS]) +
           (1 - share) * (s->one[XL_OUTPUT] + row[XL_OUTPUT] * s->more[XL_OUTPUT]);
}

/* ---- Chances ---- */

/* Tokens for the cost of one, of n drafts that are right with such a chance and cost so much each
 * beside the pass that there is anyway. */
static double gain(xl_chance chance, double cost, uint32_t n) {
    double tokens = 1, right = 1;
    for (uint32_t i = 0; i < n; i++) tokens += right *= chance.right / chance.drafted;
    return tokens / (1 + n * cost);
}

double xl_account_lookup(const xl_account *a, uint32_t gram, uint32_t n) {
    const xl_spent row = {{0, 0}, {1, 1}};
    const double cost = xl_account_cost(a, &row);
    return n * cost <= a->spare ? gain(a->now.cell[gram], cost, n) : 0;
}

uint32_t xl_account_cell(float share) {
    uint32_t cell = 0;
    while (cell < sizeof cell_ends / sizeof *cell_ends && share >= cell_ends[cell]) cell++;
    return XL_SURE + cell;
}

double xl_account_chance(const xl_account *a, uint32_t cell) {
    return a->now.cell[cell].right / a->now.cell[cell].drafted;
}

bool xl_account_asks(const xl_account *a, double all_right, const xl_spent *draft,
                     const xl_spent *lost) {
    const double won = SURE_RIGHT * all_right - xl_account_cost(a, draft);
    return OFTEN * won > (1 - OFTEN) * xl_account_cost(a, lost);
}

bool xl_account_pays(const xl_account *a, double all_right, uint32_t drafts,
                     const xl_spent *draft) {
    /* A wrong draft loses more than it costs: those after it are for nothing, and could have been
     * right in a round of their own. So the chance must lie a third of the way from the cost to 1. And
     * half of what those before it would lose must be there: they are sure. */
    const double cost = xl_account_cost(a, draft);
    return 3 * all_right > 1 + 2 * cost && drafts * cost / 2 <= a->spare;
}

/* ---- Rounds ---- */

xl_way xl_account_choose(xl_account *a, double lookup, bool exits) {
    /* what rounds without drafts cost, the drafts bear */
    const double cost =
        (xl_account_cost(a, &a->now.exits.spent) - a->now.exits.rounds) / a->now.exits.drafts;
    const double promised = exits ? gain(a->now.exits.chance, cost, 1) : 0;
    const xl_way best = promised > lookup ? XL_BY_EXITS : XL_BY_LOOKUP;
    const bool pays = a->spare > 0 && (promised > MARGIN || lookup > MARGIN);
    for (size_t i = 0; i < sizeof first.beliefs / sizeof *first.beliefs; i++)
        a->beliefs[i] += (i < XL_WORKS ? FORGET / 10 : FORGET) * (first.beliefs[i] - a->beliefs[i]);
    return pays ? best : XL_PLAIN;
}

static void learn_chance(xl_chance *c, bool right) {
    c->right = c->right * MEMORY_CHANCE + right;
    c->drafted = c->drafted * MEMORY_CHANCE + 1;
}

static void learn_rounds(xl_belief *now, const xl_spent *spent, uint32_t drafts) {
    for (int work = 0; work < XL_WORKS; work++) {
        now->exits.spent.one[work] = now->exits.spent.one[work] * MEMORY + spent->one[work];
        now->exits.spent.more[work] = now->exits.spent.more[work] * MEMORY + spent->more[work];
    }
    now->exits.rounds = now->exits.rounds * MEMORY + 1;
    now->exits.drafts = now->exits.drafts * MEMORY + drafts;
}

void xl_account_close(xl_account *a, xl_way way, const xl_spent *spent, double tokens,
                      const uint32_t *cell, uint32_t drafts, uint32_t right) {
    a->spare += SHARE * tokens;
    if (way != XL_PLAIN) a->spare += tokens - xl_account_cost(a, spent);
    if (a->spare > MOST) a->spare = MOST;
    if (way == XL_PLAIN) return; /* the fixed drafter's belong to no cell */
    for (uint32_t i = 0; i < drafts && i <= right; i++) {
        learn_chance(&a->now.cell[cell[i]], i < right);
        if (way == XL_BY_EXITS) learn_chance(&a->now.exits.chance, i < right);
    }
    if (way == XL_BY_EXITS) learn_rounds(&a->now, spent, drafts);
}
