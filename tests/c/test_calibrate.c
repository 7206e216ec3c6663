/* Calibration: the bounds keep their promise on synthetic conversations with a known risk, and
 * thresholds mean what they say. */
#include "check.h"
#include "train/calibrate.h"
#include "train/dataset.h"
#include "train/eval_tasks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int failures;

static uint64_t state = 0x853c49e6748fea9bu;

static double uniform(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    uint64_t x = state ^ state >> 29;
    x *= 0xbf58476d1ce4e5b9u;
    return ((double)((x ^ x >> 32) >> 11) + 0.5) * 0x1p-53;
}

static double normal(void) {
    return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

static double gamma_draw(double shape) {
    if (shape < 1) return gamma_draw(shape + 1) * pow(uniform(), 1 / shape);
    const double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = normal(), v = 1 + c * x;
        if (v <= 0) continue;
        v = v * v * v;
        if (log(uniform()) < 0.5 * x * x + d - d * v + d * log(v)) return d * v;
    }
}

/* One conversation: its own error rate around `mean` (beta: conversations differ, tokens in one
 * resemble each other), 10 to 70 tokens. */
static double conversation(double mean) {
    double a = gamma_draw(mean * 8), b = gamma_draw((1 - mean) * 8), rate = a / (a + b);
    int tokens = 10 + (int)(uniform() * 61), errors = 0;
    for (int i = 0; i < tokens; i++) errors += uniform() < rate;
    return (double)errors / tokens;
}

enum { SETTINGS = 10, CONVERSATIONS = 200, DRAWS = 1500 };

/* True means of a path, one of them just above alpha; not monotone. */
static void path_means(double alpha, double *mean) {
    const double share[SETTINGS] = {.1, .2, .4, .35, .6, .75, .9, 1.02, .97, 1.3};
    for (int i = 0; i < SETTINGS; i++) mean[i] = alpha * share[i];
}

/* How often the fixed sequence ends at a setting whose true risk is above alpha, over many draws
 * of the conversations. */
static double miss_rate(double alpha, double delta, double *mean_choice) {
    static double x[SETTINGS][CONVERSATIONS];
    xl_losses samples[SETTINGS];
    double mean[SETTINGS], sum = 0;
    int misses = 0;
    path_means(alpha, mean);
    for (int draw = 0; draw < DRAWS; draw++) {
        for (int j = 0; j < SETTINGS; j++) {
            for (int i = 0; i < CONVERSATIONS; i++) x[j][i] = conversation(mean[j]);
            samples[j] = (xl_losses){x[j], CONVERSATIONS};
        }
        int32_t chosen = xl_fixed_sequence(samples, SETTINGS, CONVERSATIONS, alpha, delta);
        misses += chosen >= 0 && mean[chosen] > alpha;
        sum += chosen;
    }
    *mean_choice = sum / DRAWS;
    return (double)misses / DRAWS;
}

/* The hardest case of a single test: the risk is alpha itself. `two_point`: X is 0 or 1, the
 * widest distribution with that mean. */
static double false_rejections(double alpha, double delta, bool two_point) {
    double x[CONVERSATIONS];
    int rejected = 0;
    for (int draw = 0; draw < 4000; draw++) {
        for (int i = 0; i < CONVERSATIONS; i++)
            x[i] = two_point ? uniform() < alpha : conversation(alpha);
        rejected += xl_risk_p(x, CONVERSATIONS, CONVERSATIONS, alpha, delta) <= delta;
    }
    return rejected / 4000.0;
}

static void test_guarantee(void) {
    const double alphas[] = {0.02, 0.05, 0.10, 0.30}, deltas[] = {0.05, 0.10};
    for (size_t a = 0; a < 4; a++)
        for (size_t d = 0; d < 2; d++) {
            double choice, tolerance = 3 * sqrt(deltas[d] * (1 - deltas[d]) / DRAWS);
            double miss = a == 1 || a == 2 ? miss_rate(alphas[a], deltas[d], &choice) : 0;
            CHECK(miss <= deltas[d] + tolerance, "alpha %.2f delta %.2f: missed in %.3f", alphas[a],
                  deltas[d], miss);
            if (a == 1 || a == 2) {
                printf("alpha %.2f delta %.2f: miss rate %.4f, mean setting %.2f\n", alphas[a],
                       deltas[d], miss, choice);
                CHECK(choice > 1, "alpha %.2f: no power, mean setting %.2f", alphas[a], choice);
            }
            for (int two = 0; two < 2; two++) {
                double wrong = false_rejections(alphas[a], deltas[d], two);
                CHECK(wrong <= deltas[d] + 3 * sqrt(deltas[d] / 4000),
                      "alpha %.2f delta %.2f two-point %d: %.4f", alphas[a], deltas[d], two, wrong);
            }
        }
}

/* Figures that the method's page states: what 600 and 87 conversations certify at alpha = .05. */
static void test_power(void) {
    double x[600];
    for (int i = 0; i < 600; i++) x[i] = i % 5 == 3 ? 0.2 : 0; /* mean .04 */
    CHECK(xl_risk_p(x, 600, 600, 0.05, 0.05) <= 0.05, "mean .04 of 600 not certified: p %.4f",
          xl_risk_p(x, 600, 600, .05, .05));
    memset(x, 0, sizeof x);
    CHECK(xl_risk_p(x, 600, 600, 0.01, 0.05) <= 0.05, "no errors in 600 do not certify .01");
    CHECK(xl_risk_p(x, 50, 50, 0.05, 0.05) > 0.05, "50 conversations certify .05");
    CHECK(xl_risk_p(x, 0, 0, 0.05, 0.05) == 1, "no conversations certify something");
    double upper = xl_risk_upper(x, 600, 600, 0.05);
    CHECK(upper > 0.004 && upper < 0.012, "upper bound without errors in 600: %.4f", upper);
    for (int i = 0; i < 600; i++) x[i] = 1;
    CHECK(xl_risk_upper(x, 600, 600, 0.05) > 0.99, "all wrong, and bounded below 1");
}

/* The bound against another implementation of it: 30 lines of Python from the paper's formulas, which
 * sum a conversation's past anew at every step. */
static void test_vectors(void) {
    const struct {
        size_t n, planned;
        double alpha, delta, p;
    } vectors[] = {{400, 400, 0.05, 0.05, 0.007054940102080448},
                   {400, 400, 0.03, 0.05, 0.9367694670665327},
                   {200, 400, 0.05, 0.10, 0.10979193143573136},
                   {400, 1000, 0.10, 0.01, 5.388274534429251e-10}};
    double x[400];
    for (int i = 0; i < 400; i++) x[i] = i * 37 % 101 < 12 ? i * 13 % 10 / 20.0 : 0;
    for (int v = 0; v < 4; v++) {
        const double p =
            xl_risk_p(x, vectors[v].n, vectors[v].planned, vectors[v].alpha, vectors[v].delta);
        CHECK(fabs(p / vectors[v].p - 1) < 1e-9, "vector %d: p %.15g", v, p);
    }
}

static void test_sequence_stops(void) {
    double none[300] = {0}, half[300];
    for (int i = 0; i < 300; i++) half[i] = 0.5;
    /* the middle setting fails: what follows is not reached */
    const xl_losses x[] = {{none, 300}, {half, 300}, {none, 300}};
    CHECK(xl_fixed_sequence(x, 3, 300, 0.1, 0.05) == 0, "walked past a setting that fails");
    CHECK(xl_fixed_sequence(x + 1, 2, 300, 0.1, 0.05) == -1, "began at a setting that fails");
}

static float paper(exitlm_strategy s, double level) {
    float u[] = {.9f, .1f, .2f, .3f, .3f, .5f, .6f, .7f};
    /* sorted prefixes: 1, 1, (.3 twice) .75, .8, .83, .71, .625 */
    uint8_t ok[] = {0, 1, 1, 0, 1, 1, 1, 0};
    float t;
    CHECK(xl_threshold_paper(s, u, ok, 8, level, &xl_libc_allocator, &t), "no memory");
    return t;
}

static void test_paper(void) {
    CHECK(fabsf(paper(EXITLM_STRATEGY_MAX_COVERAGE, .8) - .65f) < 1e-6f, "max %f",
          paper(EXITLM_STRATEGY_MAX_COVERAGE, .8));
    CHECK(fabsf(paper(EXITLM_STRATEGY_MIN_COVERAGE, .8) - .25f) < 1e-6f, "min %f",
          paper(EXITLM_STRATEGY_MIN_COVERAGE, .8));
    CHECK(fabsf(paper(EXITLM_STRATEGY_MIDPOINT, .8) - .45f) < 1e-6f, "midpoint %f",
          paper(EXITLM_STRATEGY_MIDPOINT, .8));
    CHECK(paper(EXITLM_STRATEGY_MAX_COVERAGE, .6) > .9f, "everything may exit: %f",
          paper(EXITLM_STRATEGY_MAX_COVERAGE, .6));
    float u[4000];
    uint8_t ok[4000];
    float t;
    for (int i = 0; i < 4000; i++) {
        u[i] = (float)uniform();
        ok[i] = uniform() < 1 / (1 + exp(-(4 - 6 * u[i])));
    }
    CHECK(xl_threshold_paper(EXITLM_STRATEGY_PLATT, u, ok, 4000, .9, &xl_libc_allocator, &t),
          "no memory");
    CHECK(fabs(t - (4 - log(9)) / 6) < 0.03, "platt %f, true %f", t, (4 - log(9)) / 6);
    CHECK(xl_threshold_paper(EXITLM_STRATEGY_PLATT, u, ok, 0, .9, &xl_libc_allocator, &t) && t == 0,
          "no tokens, threshold %f", t);
}

/* What is expected to be certified is certified about as often as not: some way below the boundary
 * mostly, some way above it seldom. And a test that ends early is no easier. */
static void test_boundary(void) {
    enum { N = 1000, TESTS = 150 };
    const double alphas[] = {0.02, 0.05, 0.10};
    double x[N];
    for (int a = 0; a < 3; a++) {
        double sum = 0, squares = 0;
        for (int i = 0; i < 20000; i++) {
            const double v = conversation(alphas[a]);
            sum += v / 20000;
            squares += v * v / 20000;
        }
        const double edge = xl_risk_boundary(alphas[a], (squares - sum * sum) / sum, N, 0.05);
        int won[2] = {0};
        for (int draw = 0; draw < TESTS; draw++)
            for (int side = 0; side < 2; side++) {
                for (int i = 0; i < N; i++) x[i] = conversation(edge * (side ? 1.15 : 0.85));
                won[side] += xl_risk_p(x, N, N, alphas[a], 0.05) <= 0.05;
            }
        CHECK(edge > alphas[a] / 2 && edge < alphas[a], "alpha %.2f: boundary %.4f", alphas[a],
              edge);
        CHECK(won[0] > TESTS * 3 / 4 && won[1] < TESTS / 2, "alpha %.2f: certified %d and %d of %d",
              alphas[a], won[0], won[1], TESTS);
        CHECK(xl_risk_p(x, N / 2, N, alphas[a], 0.05) >= xl_risk_p(x, N, N, alphas[a], 0.05),
              "fewer of the same conversations certify more");
    }
    CHECK(xl_risk_boundary(0.01, 0.05, 100, 0.05) == 0, "100 conversations for .99");
}

/* Two heads whose uncertainty is the true probability of an error; an error of the second costs a
 * quarter. The curve is nested, meets what is asked of it, and saves more when bolder. */
static void test_curve(void) {
    enum { N = 20000 };
    float *u = malloc(2 * N * sizeof *u), *weight = malloc(N * sizeof *weight),
          *regret = malloc(2 * N * sizeof *regret);
    uint8_t *wrong = malloc(2 * N);
    for (int t = 0; t < N; t++) {
        weight[t] = 1;
        for (int h = 0; h < 2; h++) {
            u[2 * t + h] = (float)pow(uniform(), h ? 4 : 2);
            wrong[2 * t + h] = uniform() < u[2 * t + h];
            regret[2 * t + h] = wrong[2 * t + h] ? (h ? 0.25f : 1) : 0;
        }
    }
    const xl_path_data data = {.n = N,
                               .n_heads = 2,
                               .u = u,
                               .wrong = wrong,
                               .regret = regret,
                               .weight = weight,
                               .exit_cost = {.6f, .85f},
                               .fail_cost = {.01f, .02f}};
    const double target[] = {.002, .01, .02, .05, .1, .2};
    xl_curve *curve = malloc(sizeof *curve);
    CHECK(curve && xl_curve_build(&data, &xl_libc_allocator, curve), "no curve");
    float before[EXITLM_MAX_HEADS] = {0}, now[EXITLM_MAX_HEADS], middle[EXITLM_MAX_HEADS];
    double cost = 2;
    for (size_t j = 0; j < 6; j++) {
        xl_curve_at(curve, &data, target[j], now);
        const xl_path_mean mean = xl_path_measure(&data, now);
        CHECK(mean.wrong <= target[j] + 1e-6 && mean.wrong > target[j] * .7,
              "target %.3f, wrong %.4f", target[j], mean.wrong);
        CHECK(mean.cost < cost, "bolder and dearer at %zu: %.3f %.3f", j, cost, mean.cost);
        for (int h = 0; h < 2; h++) CHECK(now[h] >= before[h], "not nested at %zu, head %d", j, h);
        memcpy(before, now, sizeof now);
        cost = mean.cost;
        if (j == 3) memcpy(middle, now, sizeof now);
    }
    /* no pair of a fine grid with no more regret is much cheaper */
    const xl_path_mean chosen = xl_path_measure(&data, middle);
    double best = 1;
    for (float a = 0; a < 1; a += .02f)
        for (float b = 0; b < 1; b += .02f) {
            const xl_path_mean mean = xl_path_measure(&data, (const float[]){a, b});
            if (mean.regret <= chosen.regret && mean.cost < best) best = mean.cost;
        }
    CHECK(chosen.cost < best + .01, "cost %.4f, exhaustive search %.4f", chosen.cost, best);
    CHECK(middle[1] > middle[0], "cheap errors are not preferred: %f %f", middle[0], middle[1]);
    free(u);
    free(weight);
    free(regret);
    free(wrong);
    free(curve);
}

static void test_holds(void) {
    double x[300];
    int said = 0;
    for (int i = 0; i < 300; i++) x[i] = conversation(0.10);
    CHECK(xl_mean_exceeds(x, 300, 0.05), "a mean of .10 is not seen to exceed .05");
    for (int draw = 0; draw < 2000; draw++) {
        for (int i = 0; i < 300; i++) x[i] = conversation(0.05);
        said += xl_mean_exceeds(x, 300, 0.05);
    }
    CHECK(said / 2000.0 < 0.065, "false alarms: %.3f", said / 2000.0);
    CHECK(!xl_mean_exceeds(x, 1, 0.05), "one conversation proves nothing");
}

/* 200 easy conversations, then 400 hard ones, .067 wrong on the whole: in that order .05 would be
 * certified, and after the shuffle it is not. */
static void test_sorted_list(void) {
    enum { N = 600 };
    xl_dataset set = {0};
    double x[2][N];
    for (int i = 0; i < N; i++) {
        const char *text = i < 200 ? "easy" : "hard";
        x[0][i] = i < 200 ? 0 : 0.1;
        CHECK(xl_dataset_add(&set, XL_DATASET_TURNS, XL_DATASET_ANY, NULL, &text, 1), "no memory");
    }
    CHECK(xl_dataset_shuffle(&set) && set.n == N, "not shuffled");
    int hard = 0;
    for (int i = 0; i < N; i++) {
        x[1][i] = strcmp(set.items[i].texts[0], "hard") == 0 ? 0.1 : 0;
        hard += x[1][i] > 0;
    }
    xl_dataset_free(&set);
    CHECK(hard == 400, "%d of 400 are left", hard);
    CHECK(xl_risk_p(x[0], N, N, 0.05, 0.05) < 0.05, "the order makes no difference");
    CHECK(xl_risk_p(x[1], N, N, 0.05, 0.05) > 0.2, "certified against the mean");
}

/* Words end where letters and digits of any script end; signs are none. */
static void test_words(void) {
    static const struct {
        const char *answer, *reply;
        bool right;
    } cases[] = {
        {"[\"14\"]", "That is \u20ac14.", true},      {"[\"14\"]", "14\u00b0 outside", true},
        {"[\"\u20ac14\"]", "5\u20ac14", true},        {"[\"14\"]", "\u20ac140", false},
        {"[\"Caf\"]", "a caf\u00e9", false},          {"[\"t\u00e9\"]", "\u00e9t\u00e9", false},
        {"[\"\u00e9\"]", "\u2014\u00e9\u2014", true}, {"[\"na\"]", "na\u0308ive", false},
        {"[\"\u6771\"]", "\u6771\u4eac", false},      {"[\"a\"]", "\xc3 a \x80", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const xl_task task = {
            .answers = xl_json_parse(cases[i].answer, strlen(cases[i].answer), NULL, NULL)};
        CHECK(task.answers && xl_task_right(&task, cases[i].reply) == cases[i].right,
              "%s in \"%s\"", cases[i].answer, cases[i].reply);
        xl_json_free((xl_json *)task.answers);
    }
}

int main(void) {
    test_words();
    test_sorted_list();
    test_guarantee();
    test_power();
    test_vectors();
    test_sequence_stops();
    test_paper();
    test_boundary();
    test_curve();
    test_holds();
    if (!failures) puts("calibrate: ok");
    return failures != 0;
}
