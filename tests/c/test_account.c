/* The account of drafting, without a model: a device whose rows cost r, drafts that are right with
 * probability a, and a clock that is told. */
#include <assert.h>
#include <stdio.h>

#include "reply/account.h"

#define LAYERS_MS 7.0
#define OUTPUT_MS 2.0
#define CHECK 0.15 /* of a pass of the output matrix */

typedef struct device {
    xl_account account;
    double r, a, depth; /* price of a row; chance of a draft; layers before its exit */
    double ms;          /* the virtual clock */
    uint32_t tokens, drafts, tries;
    uint64_t state;
} device;

static double uniform(device *d) {
    d->state = d->state * 6364136223846793005u + 1442695040888963407u;
    return (double)(d->state >> 11) * 0x1p-53;
}

static device start(double r, double a) {
    device d = {.r = r, .a = a, .depth = 0.6, .state = 42};
    xl_account_start(&d.account, LAYERS_MS / (LAYERS_MS + OUTPUT_MS));
    return d;
}

static void work(device *d, xl_spent *spent, int kind, double one, double more) {
    const double ms = (kind == XL_LAYERS ? LAYERS_MS : OUTPUT_MS) * (one + d->r * more);
    d->ms += ms;
    spent->one[kind] += one;
    spent->more[kind] += more;
    xl_account_price(&d->account, kind, one, more, ms);
}

static void check(device *d, xl_spent *spent) {
    spent->one[XL_OUTPUT] += CHECK;
    d->ms += OUTPUT_MS * CHECK;
}

/* A round as draft.c does it, with lookup, exits after so many of the layers that are sure (cell
 * XL_SURE), or both. */
static void a_round(device *d, bool lookups, bool exits) {
    xl_spent spent = {0};
    const xl_spent draft = {{d->depth, CHECK}, {1 - d->depth, 1}};
    uint32_t n = 0, right = 0, cell[8];
    const xl_way way =
        xl_account_choose(&d->account, lookups ? xl_account_lookup(&d->account, 3, 2) : 0, exits);
    if (way == XL_BY_LOOKUP) n = 2;
    double all_right = 1;
    if (way == XL_BY_EXITS)
        while (n < 4 &&
               xl_account_pays(&d->account, all_right *= xl_account_chance(&d->account, XL_SURE), n,
                               &draft))
            n++;
    for (uint32_t i = 0; i < n; i++) {
        cell[i] = way == XL_BY_EXITS ? XL_SURE : 3;
        right += right == i && uniform(d) < d->a;
        if (way != XL_BY_EXITS) continue;
        work(d, &spent, XL_LAYERS, d->depth, 0);
        check(d, &spent);
    }
    if (way == XL_BY_EXITS) {
        work(d, &spent, XL_LAYERS, d->depth, 0); /* the row after the last draft */
        check(d, &spent);
        work(d, &spent, XL_LAYERS, 1 - d->depth, n);
    } else work(d, &spent, XL_LAYERS, 1, n);
    work(d, &spent, XL_OUTPUT, 1, n);
    d->tokens += right + 1;
    d->drafts += n;
    d->tries += n > 0;
    xl_account_close(&d->account, way, &spent, right + 1, cell, n, right);
}

static void run(device *d, uint32_t tokens, bool lookups, bool exits) {
    const uint32_t until = d->tokens + tokens;
    while (d->tokens < until) a_round(d, lookups, exits);
}

/* Times the full model's speed, since a moment. */
static double speed(const device *d, double ms, uint32_t tokens) {
    return (d->tokens - tokens) * (LAYERS_MS + OUTPUT_MS) / (d->ms - ms);
}

/* Whatever rows cost and however wrong drafts are, little is lost, and in the long run less. */
static void test_never_loses(void) {
    static const double rates[] = {0, 0.3, 0.6, 0.8, 0.9, 0.97, 1};
    for (int r = 1; r <= 9; r++)
        for (size_t a = 0; a < sizeof rates / sizeof *rates; a++)
            for (int ways = 1; ways <= 3; ways++) {
                device d = start(0.1 * r, rates[a]);
                run(&d, 32, ways & 1, ways & 2);
                assert(speed(&d, 0, 0) > 0.91);
                run(&d, 96, ways & 1, ways & 2);
                assert(speed(&d, 0, 0) > 0.97);
                run(&d, 2000, ways & 1, ways & 2);
                assert(speed(&d, 0, 0) > 0.985);
            }
}

/* Nor in short replies of one session, one after the other, whose surest drafts are all wrong. */
static void test_short_replies(void) {
    for (int r = 1; r <= 9; r += 4)
        for (uint32_t length = 8; length <= 32; length *= 2) {
            device d = start(0.1 * r, 0);
            for (int reply = 0; reply < 60; reply++) {
                xl_account_reply(&d.account);
                run(&d, length, false, true);
            }
            assert(d.drafts > 0 && speed(&d, 0, 0) > 0.97);
        }
}

/* Where it pays, it goes on; where it cannot, it stops. */
static void test_pays_or_stops(void) {
    device d = start(0.2, 0.97);
    run(&d, 256, false, true);
    assert(speed(&d, 0, 0) > 1.05);
    d = start(0.2, 0.9);
    run(&d, 256, true, false);
    assert(speed(&d, 0, 0) > 1.3);
    for (int r = 7; r <= 9; r++) {
        d = start(0.1 * r, 0.85);
        run(&d, 400, false, true);
        assert(d.drafts < 24); /* of 400 */
    }
    d = start(0.3, 0.1);
    run(&d, 1000, true, true);
    assert(d.tries < 40);
}

/* What has changed is noticed: a dear device becomes cheap, wrong drafts become right. */
static void test_resumes(void) {
    device d = start(0.9, 0.9);
    run(&d, 1000, true, false);
    uint32_t drafts = d.drafts;
    run(&d, 500, true, false);
    assert(d.drafts - drafts < 60);
    d.r = 0.2;
    run(&d, 300, true, false);
    uint32_t tokens = d.tokens;
    double ms = d.ms;
    run(&d, 500, true, false);
    assert(speed(&d, ms, tokens) > 1.5);

    d = start(0.3, 0);
    run(&d, 1000, true, false);
    d.a = 0.95;
    run(&d, 300, true, false);
    tokens = d.tokens;
    ms = d.ms;
    run(&d, 500, true, false);
    assert(speed(&d, ms, tokens) > 1.2);
}

/* One slow pass is not a price; without a clock the prices are those expected. */
static void test_prices(void) {
    device d = start(0.2, 0.97);
    run(&d, 256, false, true);
    const double before = d.account.now.row[XL_LAYERS];
    assert(before > 0.15 && before < 0.3);
    xl_account_price(&d.account, XL_LAYERS, 1, 2, 100 * LAYERS_MS);
    assert(d.account.now.row[XL_LAYERS] < before + 0.2);
    xl_account_price(&d.account, XL_LAYERS, 1, 0, 100 * LAYERS_MS);
    assert(d.account.ms[XL_LAYERS] < 4 * LAYERS_MS);

    xl_account untimed;
    xl_account_start(&untimed, 0.8);
    const xl_spent one = {{1, 1}, {0, 0}};
    assert(xl_account_cost(&untimed, &one) == 1);
    assert(xl_account_cell(0) == XL_SURE && xl_account_cell(1) == XL_CELLS - 1);
    assert(xl_account_chance(&untimed, XL_SURE) > xl_account_chance(&untimed, XL_CELLS - 1));
    /* the deeper the exit, the surer it has to be, and the dearer a row, the less it is asked */
    const xl_spent shallow = {{0.6, 0.1}, {0.4, 1}}, deep = {{0.9, 0.1}, {0.1, 1}},
                   lost = {{0, 0.1}, {0}};
    assert(xl_account_pays(&untimed, 0.87, 0, &shallow) &&
           !xl_account_pays(&untimed, 0.87, 0, &deep));
    assert(xl_account_pays(&untimed, 0.99, 0, &deep) && !xl_account_pays(&untimed, 0.99, 3, &deep));
    assert(xl_account_asks(&untimed, 1, &shallow, &lost) &&
           !xl_account_asks(&untimed, 0.75, &shallow, &lost));
    untimed.now.row[XL_LAYERS] = untimed.now.row[XL_OUTPUT] = 0.95;
    assert(!xl_account_asks(&untimed, 1, &shallow, &lost));
}

int main(void) {
    test_never_loses();
    test_short_replies();
    test_pays_or_stops();
    test_resumes();
    test_prices();
    puts("test_account: ok");
    return 0;
}
