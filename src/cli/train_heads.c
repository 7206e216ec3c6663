/* Heads from the gathered data: training with progress and checkpoints, and the choice of layers. */
#include <stdlib.h>
#include <string.h>

#include "train/calibrate.h"
#include "run/cost.h"
#include "files.h"
#include "model/model.h"
#include "platform.h"
#include "reply/session.h"
#include "base/sha256.h"
#include "signals.h"
#include "train.h"

#define BATCH_FILL 0.35 /* what a layer costs that a waiting position runs later, in a batch, against running it at once */

static xl_head_form form_of(const train_run *run, bool vocabulary) {
    static const xl_head_form forms[] = {XL_FORM_TIED, XL_FORM_MLP, XL_FORM_FULL, XL_FORM_LENS};
    return vocabulary ? XL_FORM_VOCABULARY : forms[run->options->form];
}

/* ---- Progress ---- */
typedef struct reporter {
    const train_run *run;
    xl_trainer *trainer;
    const char *file;      /* checkpoint */
    uint32_t layer;
    uint64_t first, per_epoch, saved;
    double start_ms, shown_ms;
    bool stopped;
} reporter;

static bool save_checkpoint(const reporter *r) {
    size_t n = xl_trainer_state_floats(r->trainer);
    float *state = malloc(n * sizeof *state);
    char *part = cli_format("%s.part", r->file);
    FILE *f = state && part ? fopen(part, "wb") : NULL;
    if (f) xl_trainer_save(r->trainer, state);
    bool fine = f && fwrite(state, sizeof *state, n, f) == n;
    if (f) fine = fclose(f) == 0 && fine;
    if (fine) fine = rename(part, r->file) == 0;
    free(state);
    free(part);
    return fine;
}

static bool load_checkpoint(const reporter *r) {
    size_t n = xl_trainer_state_floats(r->trainer);
    float *state = malloc((n + 1) * sizeof *state);
    FILE *f = state ? fopen(r->file, "rb") : NULL;
    bool fine = f && fread(state, sizeof *state, n + 1, f) == n && xl_trainer_load(r->trainer, state, n);
    if (f) fclose(f);
    free(state);
    return fine;
}

static bool report(void *user, uint64_t step, uint64_t steps, double loss, double agreement) {
    reporter *r = user;
    double now = cli_clock_ms(NULL), seconds = (now - r->start_ms) / 1000, done = (double)(step - r->first);
    r->stopped = cli_interrupted();
    if (!r->run->options->quiet && (now - r->shown_ms > 1000 || step == steps || r->stopped)) {
        fprintf(stderr, "\rlayer %2u  %5.1f %%  loss %.4f  agreement %.3f  %.0f s left    ", r->layer, 100.0 * (double)step / (double)steps, loss,
                agreement, done > 0 ? seconds / done * (double)(steps - step) : 0);
        fflush(stderr);
        r->shown_ms = now;
    }
    if (step == steps || r->stopped || step / r->per_epoch != r->saved) {
        r->saved = step / r->per_epoch;
        save_checkpoint(r);
    }
    return !r->stopped;
}

/* ---- One head ---- */
static char *checkpoint_name(const train_run *run, const xl_train_options *o, size_t n) {
    xl_sha256 sha;
    uint8_t digest[32];
    const uint64_t numbers[] = {o->layer, o->form, o->rows, o->hidden, o->epochs, o->batch, o->seed, n};
    const float floats[] = {o->rate, o->weight_decay, o->warmup, o->target_temperature};
    xl_sha256_init(&sha);
    xl_sha256_update(&sha, run->plan.key, sizeof run->plan.key);
    xl_sha256_update(&sha, numbers, sizeof numbers);
    xl_sha256_update(&sha, floats, sizeof floats);
    xl_sha256_final(&sha, digest);
    return cli_format("%s/head-%u-%02x%02x%02x%02x", run->folder, o->layer, digest[0], digest[1], digest[2], digest[3]);
}

static void measure(const train_part *part, train_result *r) {
    double agreed[3] = {0}, n[3] = {0};
    for (size_t i = 0; i < part->set.n; i++) {
        agreed[part->source[i] % 3] += r->answers[i].id == part->top_ids[i * GATHER_TOP];
        n[part->source[i] % 3]++;
    }
    for (int k = 0; k < 3; k++) {
        r->agreement[k] = n[k] > 0 ? agreed[k] / n[k] : 0;
        r->positions[k] = n[k];
    }
}

static int validate(const train_run *run, uint32_t layer, uint32_t rows, train_result *r) {
    train_part part;
    exitlm_error error;
    int status = train_part_load(run, layer, rows, true, 0, &part);
    if (status != CLI_OK) return status;
    r->answers = calloc(part.set.n + 1, sizeof *r->answers);
    if (!r->answers) status = cli_no_memory("answers");
    else if (xl_trainer_answer(r->trainer, &part.set, r->answers, &error) != EXITLM_OK) status = cli_report(&error, NULL);
    if (status == CLI_OK) measure(&part, r);
    /* A vocabulary exit's scores are the model's own. */
    r->sampling_scale = 1;
    if (status == CLI_OK && layer + 1 < run->plan.n_layers && xl_trainer_sampling_scale(r->trainer, &part.set, &r->sampling_scale, &error) != EXITLM_OK)
        status = cli_report(&error, NULL);
    train_part_free(&part);
    return status;
}

static void say(const train_run *run, const train_result *r, double loss_seconds) {
    if (run->options->quiet) return;
    fprintf(stderr, "\rlayer %2u  agrees on held-out conversations:", r->layer);
    if (r->positions[GATHER_ANSWER] > 0) fprintf(stderr, "  data %.3f", r->agreement[GATHER_ANSWER]);
    if (r->positions[GATHER_FORCED] > 0) fprintf(stderr, "  text %.3f", r->agreement[GATHER_FORCED]);
    if (r->positions[GATHER_INVENT] > 0) fprintf(stderr, "  self-chat %.3f", r->agreement[GATHER_INVENT]);
    fprintf(stderr, "  (%.0f s)          \n", loss_seconds);
}

static int run_trainer(train_run *run, const xl_train_set *set, reporter *r, bool *stopped) {
    exitlm_error error;
    r->start_ms = cli_clock_ms(NULL);
    if (load_checkpoint(r)) r->first = xl_trainer_step(r->trainer);
    r->saved = r->first / r->per_epoch;
    int status = xl_trainer_run(r->trainer, set, &error) == EXITLM_OK ? CLI_OK : cli_report(&error, NULL);
    *stopped = r->stopped;
    (void)run;
    return status;
}

int train_head(train_run *run, uint32_t layer, bool vocabulary, size_t max_positions, uint32_t epochs, train_result *result, bool *stopped) {
    const train_options *o = run->options;
    train_part part;
    exitlm_error error;
    reporter r = {.run = run, .layer = run->plan.layers[layer]};
    uint32_t rows = vocabulary ? o->vocabulary_rows : o->rows;
    if (rows > run->base.n_shortlist) rows = run->base.n_shortlist;
    *result = (train_result){.layer = r.layer};
    int status = train_part_load(run, layer, rows, false, max_positions, &part);
    if (status != CLI_OK) return status;
    uint32_t batch = part.set.n < o->batch ? (uint32_t)part.set.n : o->batch;
    xl_train_options t = {.form = form_of(run, vocabulary), .layer = r.layer, .rows = rows, .hidden = o->hidden, .epochs = epochs, .batch = batch,
                          .rate = vocabulary ? 5 * o->rate : o->rate, .weight_decay = o->weight_decay, .warmup = 0.04f, .target_temperature = o->target_temperature, .seed = o->seed,
                          .pool = run->pool, .report_steps = 20, .report = report, .user = &r};
    char *file = checkpoint_name(run, &t, part.set.n);
    r.file = file;
    r.per_epoch = batch && part.set.n / batch ? part.set.n / batch : 1;
    if (!file) status = cli_no_memory("a checkpoint");
    else if (batch == 0) status = cli_fail("%s: no training data was gathered", run->folder);
    else if (xl_trainer_create(&r.trainer, &run->base, &t, &error) != EXITLM_OK) status = cli_report(&error, NULL);
    result->trainer = r.trainer;
    if (status == CLI_OK) status = run_trainer(run, &part.set, &r, stopped);
    train_part_free(&part);
    free(file);
    if (status == CLI_OK) status = validate(run, layer, rows, result);
    if (status == CLI_OK) say(run, result, (cli_clock_ms(NULL) - r.start_ms) / 1000);
    return status;
}

void train_result_free(train_result *r) {
    xl_trainer_free(r->trainer);
    free(r->answers);
    *r = (train_result){0};
}

/* ---- What a set of heads earns ---- */
typedef struct choice {
    train_run *run;
    train_result results[GATHER_MAX_LAYERS];
    uint32_t n;             /* candidates; the last one is the vocabulary exit */
    const train_part *part; /* validation */
} choice;

static double layers_of(const train_run *run, double macs) { return macs / (double)xl_layer_macs(run->engine.model); }

static double check_layers(const train_run *run, bool vocabulary) {
    const train_options *o = run->options;
    const double dim = run->engine.info.dim;
    if (vocabulary) return layers_of(run, o->vocabulary_rows * dim);
    double map = o->form == 0 ? dim * dim : o->form == 1 ? 2 * dim * o->hidden : 0;
    return layers_of(run, map + dim * (o->form == 2 ? run->engine.info.vocab : o->rows));
}

/* Cost of exits, in shares of a full token, for the chain of `n` candidates. */
static void fill_costs(const choice *c, const uint32_t *chain, uint32_t n, xl_path_data *data) {
    const double last = c->run->engine.info.layers, full = layers_of(c->run, (double)xl_token_macs(c->run->engine.model));
    double checks = 0;
    for (uint32_t i = 0; i < n; i++) {
        const double layer = c->results[chain[i]].layer;
        checks += check_layers(c->run, chain[i] + 1 == c->n);
        data->exit_cost[i] = (float)((layer + BATCH_FILL * (last - layer) + checks) / full);
    }
    /* The vocabulary exit's scores are part of the final head's. */
    data->full_cost = (float)((full + checks - (n && chain[n - 1] + 1 == c->n ? check_layers(c->run, true) : 0)) / full);
}

/* Expected cost of a token at 5 % disagreement on the validation part. */
static int cost_of(const choice *c, const uint32_t *chain, uint32_t n, double *cost, double *coverage) {
    const size_t count = c->part->set.n;
    const float target = 0.05f;
    xl_path_data data = {.n = count, .n_heads = n, .weight = c->part->weight};
    float *u = malloc((count * n + 1) * sizeof *u);
    uint8_t *wrong = malloc(count * n + 1);
    xl_path *path = malloc(sizeof *path);
    int status = u && wrong && path ? CLI_OK : cli_no_memory("the choice of layers");
    for (size_t t = 0; status == CLI_OK && t < count; t++)
        for (uint32_t i = 0; i < n; i++) {
            const xl_head_answer *a = &c->results[chain[i]].answers[t];
            u[t * n + i] = a->id < 0 ? 2 : 1 - a->margin;
            wrong[t * n + i] = a->id != c->part->top_ids[t * GATHER_TOP];
        }
    data.u = u;
    data.wrong = wrong;
    fill_costs(c, chain, n, &data);
    if (status == CLI_OK && !xl_path_build(&data, &target, 1, &xl_libc_allocator, path)) status = cli_no_memory("the choice of layers");
    size_t exits = 0;
    for (size_t t = 0; status == CLI_OK && t < count; t++) exits += u[t * n] < path->threshold[0][0];
    if (status == CLI_OK) {
        *cost = path->cost[0];
        *coverage = count ? (double)exits / (double)count : 0;
    }
    free(u);
    free(wrong);
    free(path);
    return status;
}

static int print_earnings(const choice *c) {
    const uint32_t last = c->n - 1;
    double base, unused;
    int status = cost_of(c, &last, 1, &base, &unused);
    if (status != CLI_OK) return status;
    printf("at 5 %% disagreement, on held-out conversations (work in shares of a full token, checks and later K/V included):\n");
    printf("  layer %2u (vocabulary exit) alone: work %.3f\n", c->results[last].layer, base);
    for (uint32_t i = 0; i < last && status == CLI_OK; i++) {
        double cost, coverage;
        status = cost_of(c, (const uint32_t[]){i, last}, 2, &cost, &coverage);
        if (status == CLI_OK)
            printf("  layer %2u and the vocabulary exit: work %.3f, coverage of the layer %.3f, check %.2f layers: earns %+.3f\n", c->results[i].layer, cost,
                   coverage, check_layers(c->run, false), base - cost);
    }
    return status;
}

#define LEAST_GAIN 0.004 /* of a full token's work, for one more head */

/* Greedy: the head that saves most beside those chosen, while it saves enough. */
static int pick(const choice *c, uint32_t *chosen, uint32_t *n) {
    double best, unused;
    chosen[0] = c->n - 1;
    *n = 1;
    int status = cost_of(c, chosen, 1, &best, &unused);
    while (status == CLI_OK && *n < 4) {
        uint32_t chain[8], winner = UINT32_MAX;
        double winning = best - LEAST_GAIN;
        for (uint32_t i = 0; i + 1 < c->n && status == CLI_OK; i++) {
            bool there = false;
            uint32_t k = 0;
            double cost;
            for (uint32_t j = 0; j < *n; j++) there |= chosen[j] == i;
            if (there) continue;
            while (k < *n && chosen[k] < i) chain[k] = chosen[k], k++;
            chain[k] = i;
            for (; k < *n; k++) chain[k + 1] = chosen[k];
            status = cost_of(c, chain, *n + 1, &cost, &unused);
            if (status == CLI_OK && cost < winning) winning = cost, winner = i;
        }
        if (winner == UINT32_MAX) break;
        uint32_t k = (*n)++;
        for (; k > 0 && chosen[k - 1] > winner; k--) chosen[k] = chosen[k - 1];
        chosen[k] = winner;
        best = winning;
    }
    if (status == CLI_OK) printf("chosen: work %.3f%s\n", best, best > 0.97 ? "; exits hardly pay on this model" : "");
    return status;
}

int train_choose_layers(train_run *run, uint32_t *layers, uint32_t *n_layers, bool *stopped) {
    choice c = {.run = run};
    train_part part = {0};
    uint32_t chosen[8], n = 0;
    int status = CLI_OK;
    for (uint32_t i = 0; i < run->plan.n_layers && status == CLI_OK && !*stopped; i++, c.n++)
        status = train_head(run, i, i + 1 == run->plan.n_layers, run->options->probe_tokens, 2, &c.results[i], stopped);
    if (status == CLI_OK && !*stopped) status = train_part_load(run, 0, run->base.n_shortlist, true, 0, &part);
    c.part = &part;
    if (status == CLI_OK && !*stopped) status = print_earnings(&c);
    if (status == CLI_OK && !*stopped) status = pick(&c, chosen, &n);
    for (uint32_t i = 0; i < n; i++) layers[i] = chosen[i];
    *n_layers = n;
    for (uint32_t i = 0; i < c.n; i++) train_result_free(&c.results[i]);
    train_part_free(&part);
    return status;
}
