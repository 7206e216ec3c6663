/* The account of drafting. See account.h. */
#include "account.h"

#include <float.h>

#define MEMORY 0.95   /* weight of the past in what is learnt of a way, by round */
#define FORGET 0.02   /* of what was learnt, by round; of prices a tenth of it */
#define MARGIN 1.02   /* a way must promise this much to be used */
#define SHARE 0.005   /* of all tokens that drafts may lose */
#define FIRST 0.7     /* tokens that they may lose in a reply before they have won any, */
#define MOST 5.0      /* and of those that they have won */
#define MOST_DRAFTS 5 /* by exits, as in the paper */

/* Six rounds of each way as they may be expected: of the drafts by exits, after three quarters of
 * the layers, 86 % are right; of the vocabulary exit's checks two in five end in a draft. */
static const union {
    xl_belief belief;
    double beliefs[sizeof(xl_belief) / sizeof(double)];
} first = {{.row = {0.4, 0.3},
            .book = {[XL_BY_EXITS] = {{{10.4, 7.8}, {1.6, 6}}, 6, 6, {5.2, 6}},
                     [XL_BY_VOCABULARY] = {{{8.4, 7}, {0, 2.4}}, 6, 2.4, {2.36, 2.4}}},
            .lookup = {[2] = {3, 6}, [3] = {4.5, 6}, [4] = {4.5, 6}},
            .vocabulary = {{20, 20.02}, {20, 20.1}, {10, 10.15}, {10, 10.5}, {10, 11.2}, {2, 4}}}};
static const float cell_ends[XL_CHANCES] = {0.003f, 0.01f, 0.03f, 0.1f, 0.3f, FLT_MAX};

void xl_account_start(xl_account *a, double share) {
    *a = (xl_account){.share = share, .spare = FIRST, .length = 1};
    a->now = first.belief;
}

void xl_account_reply(xl_account *a) {
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
    return n * cost <= a->spare ? gain(a->now.lookup[gram], cost, n) : 0;
}

/* The same of a way that has a book: what its rounds without drafts cost, the drafts bear. */
static double book_gain(const xl_account *a, xl_way way, uint32_t n) {
    const xl_book *book = &a->now.book[way];
    return gain(book->chance, (xl_account_cost(a, &book->spent) - book->rounds) / book->drafts, n);
}

uint32_t xl_account_cell(float unlisted) {
    uint32_t cell = 0;
    while (cell < XL_CHANCES - 1 && unlisted >= cell_ends[cell]) cell++;
    return cell;
}

double xl_account_chance(const xl_account *a, uint32_t cell) {
    return a->now.vocabulary[cell].right / a->now.vocabulary[cell].drafted;
}

/* ---- Rounds ---- */

xl_way xl_account_choose(xl_account *a, double lookup, bool exits, bool vocabulary) {
    double promised[XL_WAYS] = {[XL_BY_LOOKUP] = lookup};
    if (vocabulary) promised[XL_BY_VOCABULARY] = book_gain(a, XL_BY_VOCABULARY, 1);
    const uint32_t most = exits ? MOST_DRAFTS : 0;
    for (uint32_t n = 1; n <= most; n++) {
        const double now = book_gain(a, XL_BY_EXITS, n);
        if (now <= promised[XL_BY_EXITS]) continue;
        promised[XL_BY_EXITS] = now;
        a->length = n;
    }
    xl_way best = XL_PLAIN;
    for (xl_way way = XL_BY_LOOKUP; way < XL_WAYS && a->spare > 0; way++)
        if (promised[way] > MARGIN && (!best || promised[way] > promised[best])) best = way;
    for (size_t i = 0; i < sizeof first.beliefs / sizeof *first.beliefs; i++)
        a->beliefs[i] += (i < XL_WORKS ? FORGET / 10 : FORGET) * (first.beliefs[i] - a->beliefs[i]);
    return best;
}

static void learn_chance(xl_chance *c, double memory, bool right) {
    c->right = c->right * memory + right;
    c->drafted = c->drafted * memory + 1;
}

void xl_account_close(xl_account *a, xl_way way, const xl_spent *spent, double tokens,
                      const uint32_t *cell, uint32_t drafts, uint32_t right) {
    a->spare += SHARE * tokens;
    if (way != XL_PLAIN) a->spare += tokens - xl_account_cost(a, spent);
    if (a->spare > MOST) a->spare = MOST;
    for (uint32_t i = 0; i < drafts && i <= right; i++) {
        learn_chance(&a->now.book[way].chance, MEMORY, i < right);
        if (way == XL_BY_LOOKUP) learn_chance(&a->now.lookup[cell[i]], MEMORY, i < right);
        if (way == XL_BY_VOCABULARY) learn_chance(&a->now.vocabulary[cell[i]], 0.98, i < right);
    }
    xl_book *book = &a->now.book[way];
    for (int work = 0; work < XL_WORKS; work++) {
        book->spent.one[work] = book->spent.one[work] * MEMORY + spent->one[work];
        book->spent.more[work] = book->spent.more[work] * MEMORY + spent->more[work];
    }
    book->rounds = book->rounds * MEMORY + 1;
    book->drafts = book->drafts * MEMORY + drafts;
}
