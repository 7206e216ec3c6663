/* Head training: products against plain loops, the loss's gradient against differences, and heads
 * that learn a known map, with the same result for any number of threads and after a checkpoint. */
#include "check.h"
#include "train/train_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int failures;

static uint64_t state = 12345;

static float random_unit(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(state >> 32) * 0x1p-31f;
}

static float *random_floats(size_t n) {
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = random_unit();
    return x;
}

static void test_gemm(void) {
    const size_t sizes[][3] = {{1, 5, 3}, {7, 300, 33}, {12, 64, 32}, {13, 65, 70}, {50, 17, 129}};
    for (size_t s = 0; s < 5; s++) {
        const size_t m = sizes[s][0], k = sizes[s][1], n = sizes[s][2];
        float *a = random_floats(m * k), *b = random_floats(k * n),
              *bt = malloc(k * n * sizeof *bt);
        float *c = random_floats(m * n), *was = malloc(m * n * sizeof *was),
              *p = malloc(xl_panel_floats(k, n) * sizeof *p);
        memcpy(was, c, m * n * sizeof *c);
        xl_transpose(bt, b, k, n);
        for (int mode = 0; mode < 2; mode++) {
            mode ? xl_panel_pack_transposed(p, bt, k, k, n) : xl_panel_pack(p, b, n, k, n);
            xl_gemm(c, n, a, k, p, m, k, n, mode);
            for (size_t i = 0; i < m * n; i++) {
                double sum = 0;
                for (size_t q = 0; q < k; q++) sum += (double)a[i / n * k + q] * b[q * n + i % n];
                CHECK(fabs(c[i] - (mode + 1) * sum) < 1e-4,
                      "%zu x %zu x %zu, mode %d, at %zu: %g, not %g", m, k, n, mode, i, c[i], sum);
            }
        }
        free(a);
        free(b);
        free(bt);
        free(c);
        free(was);
        free(p);
    }
}

static void test_half_row(void) {
    for (uint32_t h = 0; h < 0x10000; h++) {
        if ((h & 0x7c00) == 0x7c00) continue;
        uint16_t in = (uint16_t)h;
        float out;
        xl_half_row(&out, &in, 1);
        CHECK(out == xl_f16_to_f32(in), "f16 %04x: %g, not %g", (unsigned)h, out,
              xl_f16_to_f32(in));
    }
}

/* The gradient of a row against central differences, with and without "other", with listed,
 * context and unlisted targets. */
static void test_loss(void) {
    int32_t ids[4] = {2, 9, 6, 8}, index_of[10] = {0, 1, 2, 3, 4, -1, -1, -1, -1, -1},
            extra[2] = {6, 7};
    uint16_t p[4];
    const float probability[4] = {.4f, .25f, .15f, .05f};
    for (int i = 0; i < 4; i++) p[i] = xl_f32_to_f16(probability[i]);
    const float temperatures[] = {1, .5f, 0};
    for (int round = 0; round < 6; round++) {
        const bool other = round % 2;
        xl_target target = {.ids = ids,
                            .p = p,
                            .k = 4,
                            .index_of = index_of,
                            .rows = 5,
                            .extra = extra,
                            .n_extra = 2,
                            .other = other,
                            .temperature = temperatures[round / 2]};
        float z[8], g[8];
        bool agrees;
        uint32_t n = xl_target_outcomes(&target);
        for (uint32_t i = 0; i < n; i++) z[i] = g[i] = 2 * random_unit();
        xl_loss_row(g, &target, &agrees);
        double total = 0;
        for (uint32_t i = 0; i < n; i++) {
            float up[8], down[8];
            memcpy(up, z, sizeof z);
            memcpy(down, z, sizeof z);
            up[i] += 1e-2f;
            down[i] -= 1e-2f;
            double slope =
                (xl_loss_row(up, &target, &agrees) - xl_loss_row(down, &target, &agrees)) / 2e-2;
            CHECK(fabs(slope - g[i]) < 1e-3, "other %d, logit %u: gradient %g, difference %g",
                  other, (unsigned)i, g[i], slope);
            total += g[i];
        }
        CHECK(fabs(total) < 1e-5, "the gradient does not sum to zero: %g", total);
    }
    /* At temperature 0 nothing counts but the choice: -log of its probability. */
    xl_target target = {.ids = ids,
                        .p = p,
                        .k = 4,
                        .index_of = index_of,
                        .rows = 5,
                        .extra = extra,
                        .n_extra = 2,
                        .other = true};
    float z[8] = {0};
    bool agrees;
    CHECK(fabs(xl_loss_row(z, &target, &agrees) - log(8)) < 1e-5 && fabsf(z[2] + .875f) < 1e-6f &&
              fabsf(z[7] - .125f) < 1e-6f,
          "the gradient of a choice");
}

/* A small world: tokens' rows are random; the model's hidden state is H = R x for a hidden
 * rotation-like R, its logits rows . H. */
enum { DIM = 40, VOCAB = 90, ROWS = 64, N = 6000, TOP = 8 };
typedef struct world {
    float output[VOCAB * DIM], norm[DIM];
    int32_t shortlist[ROWS], top_ids[N * TOP], extra_ids[2];
    uint16_t x[N * DIM], top_p[N * TOP], extra_count[N];
    uint32_t extra_start[N];
} world;

static void fill_position(world *w, const float *r, size_t i) {
    float x[DIM], h[DIM], z[VOCAB];
    double squares = 0, sum = 0;
    for (int d = 0; d < DIM; d++) {
        x[d] = random_unit();
        squares += x[d] * x[d];
    }
    for (int d = 0; d < DIM; d++)
        w->x[i * DIM + d] = xl_f32_to_f16(x[d] /= (float)sqrt(squares / DIM));
    for (int d = 0; d < DIM; d++) h[d] = x[d] * .3f + xl_dot(r + d * DIM, x, DIM);
    for (int t = 0; t < VOCAB; t++) sum += exp(z[t] = xl_dot(w->output + t * DIM, h, DIM));
    for (int k = 0; k < TOP; k++) {
        int best = 0;
        for (int t = 1; t < VOCAB; t++)
            if (z[t] > z[best]) best = t;
        w->top_ids[i * TOP + k] = best;
        w->top_p[i * TOP + k] = xl_f32_to_f16((float)(exp(z[best]) / sum));
        z[best] = -1e9f;
    }
    w->extra_count[i] = (uint16_t)(i % 3);
}

static world *make_world(void) {
    world *w = calloc(1, sizeof *w);
    float *r = random_floats(DIM * DIM);
    for (int i = 0; i < DIM * DIM; i++) r[i] *= .35f;
    for (int i = 0; i < VOCAB * DIM; i++) w->output[i] = random_unit();
    for (int i = 0; i < DIM; i++) w->norm[i] = 1;
    for (int i = 0; i < ROWS; i++) w->shortlist[i] = (i * 7) % VOCAB;
    int found = 0; /* two tokens outside the shortlist */
    for (int t = 0; t < VOCAB && found < 2; t++) {
        bool listed = false;
        for (int i = 0; i < ROWS; i++) listed |= w->shortlist[i] == t;
        if (!listed) w->extra_ids[found++] = t;
    }
    for (size_t i = 0; i < N; i++) fill_position(w, r, i);
    free(r);
    return w;
}

static double agreement(const world *w, const xl_head_answer *answers, double *declined) {
    size_t same = 0, other = 0;
    for (size_t i = 0; i < N; i++) {
        same += answers[i].id == w->top_ids[i * TOP];
        other += answers[i].id < 0;
        CHECK(answers[i].p1 > 0 && answers[i].p1 <= 1 && answers[i].margin >= 0 &&
                  answers[i].entropy >= -1e-5 && answers[i].entropy < 1.0001 &&
                  answers[i].other <= 1,
              "answer %zu out of range", i);
    }
    *declined = (double)other / N;
    return (double)same / N;
}

typedef struct stop_after {
    uint64_t step;
} stop_after;
static bool report(void *user, uint64_t step, uint64_t steps, double loss, double agrees) {
    (void)steps;
    CHECK(isfinite(loss) && agrees >= 0 && agrees <= 1, "report: loss %g", loss);
    return step != ((stop_after *)user)->step;
}

/* Trains; with `interrupted` it stops in the middle, and a second trainer goes on from the saved
 * state. Returns the final state. */
static float *train(const world *w, xl_head_form form, float temperature, uint32_t threads,
                    bool interrupted, double *agrees, double *declined, float *scale) {
    xl_train_base base = {.dim = DIM,
                          .vocab = VOCAB,
                          .output = w->output,
                          .output_norm = w->norm,
                          .shortlist = w->shortlist,
                          .n_shortlist = ROWS};
    xl_train_set set = {
        N, DIM, TOP, w->x, w->top_ids, w->top_p, w->extra_start, w->extra_count, w->extra_ids};
    stop_after stop = {interrupted ? 77 : 0};
    xl_train_options o = {.form = form,
                          .layer = 3,
                          .rows = ROWS,
                          .hidden = 48,
                          .epochs = 12,
                          .batch = 100,
                          .rate = 5e-3f,
                          .weight_decay = .01f,
                          .warmup = .05f,
                          .target_temperature = temperature,
                          .seed = 5,
                          .report_steps = 7,
                          .report = report,
                          .user = &stop};
    xl_trainer *t, *next;
    exitlm_error error;
    o.pool = xl_pool_create(threads, &xl_libc_allocator);
    CHECK(xl_trainer_create(&t, &base, &o, &error) == EXITLM_OK, "%s", error.message);
    CHECK(xl_trainer_run(t, &set, &error) == EXITLM_OK, "%s", error.message);
    float *saved = malloc(xl_trainer_state_floats(t) * sizeof *saved);
    xl_trainer_save(t, saved);
    if (interrupted) {
        CHECK(xl_trainer_step(t) == 77, "stopped at step %u", (unsigned)xl_trainer_step(t));
        stop.step = 0;
        CHECK(xl_trainer_create(&next, &base, &o, &error) == EXITLM_OK, "%s", error.message);
        CHECK(xl_trainer_load(next, saved, xl_trainer_state_floats(t)) &&
                  !xl_trainer_load(next, saved, 3),
              "loading a state");
        xl_trainer_free(t);
        t = next;
        CHECK(xl_trainer_run(t, &set, &error) == EXITLM_OK, "%s", error.message);
        xl_trainer_save(t, saved);
    }
    xl_head_answer *answers = malloc(N * sizeof *answers);
    CHECK(xl_trainer_answer(t, &set, answers, &error) == EXITLM_OK, "%s", error.message);
    *agrees = agreement(w, answers, declined);
    CHECK(xl_trainer_sampling_scale(t, &set, scale, &error) == EXITLM_OK, "%s", error.message);
    free(answers);
    xl_trainer_free(t);
    xl_pool_free(o.pool);
    return saved;
}

static void test_training(const world *w) {
    double lens, untrained, agrees, declined, chosen;
    float scale, sharp;
    free(train(w, XL_FORM_LENS, 1, 1, false, &lens, &untrained, &scale));
    const xl_head_form forms[] = {XL_FORM_TIED, XL_FORM_MLP, XL_FORM_FULL};
    for (int f = 0; f < 3; f++) {
        free(train(w, forms[f], 1, 1, false, &agrees, &declined, &scale));
        printf("form %d: agreement %.3f (untrained %.3f), declines %.3f\n", forms[f], agrees, lens,
               declined);
        CHECK(agrees > lens + .2, "form %d: agreement %.3f, untrained %.3f", forms[f], agrees,
              lens);
        CHECK(forms[f] == XL_FORM_FULL ? declined == 0 : declined > .05, "form %d declines %.3f",
              forms[f], declined);
    }
    free(train(w, XL_FORM_VOCABULARY, 1, 1, false, &agrees, &declined, &scale));
    CHECK(declined > 0, "the vocabulary exit never declines");
    /* Trained on the choices alone, a head agrees more often, is surer than the model, and the
     * scale of sampling says so. */
    free(train(w, XL_FORM_MLP, 1, 1, false, &agrees, &declined, &scale));
    free(train(w, XL_FORM_MLP, 0, 1, false, &chosen, &declined, &sharp));
    printf("distribution: agreement %.3f, scale %.2f; choice: %.3f, %.2f\n", agrees, (double)scale,
           chosen, (double)sharp);
    CHECK(chosen > agrees + .005 && scale > .9f && sharp < scale - .1f,
          "choices: agreement %.3f (%.3f), scale %.2f (%.2f)", chosen, agrees, (double)sharp,
          (double)scale);
}

static void test_same(const world *w) {
    double a, d;
    float scale, same;
    float *one = train(w, XL_FORM_TIED, 0, 1, false, &a, &d, &scale),
          *two = train(w, XL_FORM_TIED, 0, 2, false, &a, &d, &same);
    float *resumed = train(w, XL_FORM_TIED, 0, 1, true, &a, &d, &same);
    const size_t n = (size_t)DIM * DIM * 3;
    CHECK(memcmp(one, two, n * sizeof *one) == 0, "two threads train another head than one");
    CHECK(scale == same, "two threads find another scale of sampling than one");
    CHECK(memcmp(one, resumed, n * sizeof *one) == 0, "a resumed training gives another head");
    free(one);
    free(two);
    free(resumed);
}

static void test_ridge(void) {
    enum { IN = 9, OUT = 5, COUNT = 400 };
    float *w = random_floats(IN * OUT), got[IN * OUT], bias[OUT];
    xl_ridge *ridge;
    exitlm_error error;
    CHECK(xl_ridge_create(&ridge, IN, OUT, &error) == EXITLM_OK, "%s", error.message);
    CHECK(xl_ridge_solve(ridge, 1e-6, got, bias, &error) == EXITLM_USAGE, "solved without data");
    for (int i = 0; i < COUNT; i++) {
        float x[IN], y[OUT];
        for (int j = 0; j < IN; j++) x[j] = random_unit();
        for (int o = 0; o < OUT; o++) y[o] = xl_dot(w + o * IN, x, IN) + (float)o;
        xl_ridge_add(ridge, x, y, 1);
    }
    CHECK(xl_ridge_solve(ridge, 1e-7, got, bias, &error) == EXITLM_OK, "%s", error.message);
    for (int i = 0; i < IN * OUT; i++)
        CHECK(fabsf(got[i] - w[i]) < 1e-3f, "weight %d: %g, not %g", i, got[i], w[i]);
    for (int o = 0; o < OUT; o++)
        CHECK(fabsf(bias[o] - (float)o) < 1e-3f, "bias %d: %g", o, bias[o]);
    xl_ridge_free(ridge);
    free(w);
}

int main(void) {
    test_gemm();
    test_half_row();
    test_loss();
    world *w = make_world();
    test_training(w);
    test_same(w);
    free(w);
    test_ridge();
    if (!failures) puts("train: ok");
    return failures != 0;
}
