/* Heads from the gathered data: training with progress and checkpoints, and the choice of
 * layers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "calibrate.h"
#include "run/cost.h"
#include "files.h"
#include "model/model.h"
#include "reply/session.h"
#include "training.h"

static xl_head_form form_of(const xl_training *run, bool vocabulary) {
    static const xl_head_form forms[] = {XL_FORM_TIED, XL_FORM_MLP, XL_FORM_FULL, XL_FORM_LENS};
    return vocabulary ? XL_FORM_VOCABULARY : forms[run->options->form];
}

/* ---- Progress ---- */
typedef struct reporter {
    const xl_training *run;
    xl_trainer *trainer;
    const char *file; /* checkpoint */
    uint32_t layer;
    uint64_t per_epoch, saved;
    bool stopped;
} reporter;

/* Training goes on where it cannot be saved. */
static void save_checkpoint(const reporter *r) {
    const size_t n = xl_trainer_state_floats(r->trainer);
    float *state = malloc(n * sizeof *state);
    if (!state) return;
    xl_trainer_save(r->trainer, state);
    xl_file_write(r->file, state, n * sizeof *state, NULL);
    free(state);
}

static bool load_checkpoint(const reporter *r) {
    size_t n = xl_trainer_state_floats(r->trainer);
    float *state = malloc((n + 1) * sizeof *state);
    FILE *f = state ? fopen(r->file, "rb") : NULL;
    bool fine =
        f && fread(state, sizeof *state, n + 1, f) == n && xl_trainer_load(r->trainer, state, n);
    if (f) fclose(f);
    free(state);
    return fine;
}

static bool report(void *user, uint64_t step, uint64_t steps, double loss, double agreement) {
    reporter *r = user;
    const xl_progress now = {.stage = XL_STAGE_HEAD,
                             .layer = r->layer,
                             .done = (double)step,
                             .total = (double)steps,
                             .loss = loss,
                             .agreement = agreement};
    xl_show(r->run->observer, &now);
    r->stopped = xl_stopped(r->run->observer);
    if (step == steps || r->stopped || step / r->per_epoch != r->saved) {
        r->saved = step / r->per_epoch;
        save_checkpoint(r);
    }
    return !r->stopped;
}

/* ---- One head ---- */
static char *checkpoint_name(const xl_training *run, const xl_train_options *o, size_t n) {
    xl_sha256 sha;
    uint8_t digest[32];
    const uint64_t numbers[] = {o->layer,  o->form,  o->rows, o->hidden,
                                o->epochs, o->batch, o->seed, n};
    const float floats[] = {o->rate, o->weight_decay, o->warmup, o->target_temperature};
    xl_sha256_init(&sha);
    xl_sha256_update(&sha, run->plan.key, sizeof run->plan.key);
    xl_sha256_update(&sha, numbers, sizeof numbers);
    xl_sha256_update(&sha, floats, sizeof floats);
    xl_sha256_final(&sha, digest);
    return xl_format("%s/head-%u-%02x%02x%02x%02x", run->folder, o->layer, digest[0], digest[1],
                     digest[2], digest[3]);
}

static void count_agreement(const xl_train_part *part, xl_train_result *r) {
    double agreed[3] = {0}, n[3] = {0};
    for (size_t i = 0; i < part->set.n; i++) {
        agreed[part->source[i] % 3] += r->answers[i].id == part->top_ids[i * XL_GATHER_TOP];
        n[part->source[i] % 3]++;
    }
    for (int k = 0; k < 3; k++) {
        r->agreement[k] = n[k] > 0 ? agreed[k] / n[k] : 0;
        r->positions[k] = n[k];
    }
}

static exitlm_status validate(const xl_training *run, uint32_t layer, uint32_t rows,
                              xl_train_result *r, exitlm_error *error) {
    xl_train_part part;
    exitlm_status status = xl_train_part_load(run, layer, rows, true, 0, &part, error);
    if (status != EXITLM_OK) return status;
    r->answers = calloc(part.set.n + 1, sizeof *r->answers);
    if (!r->answers) status = xl_no_memory(error, "answers");
    else status = xl_trainer_answer(r->trainer, &part.set, r->answers, error);
    if (status == EXITLM_OK) count_agreement(&part, r);
    r->sampling_scale = 1; /* a vocabulary exit's scores are the model's own */
    if (status == EXITLM_OK && layer + 1 < run->plan.n_layers)
        status = xl_trainer_sampling_scale(r->trainer, &part.set, &r->sampling_scale, error);
    xl_train_part_free(&part);
    return status;
}

/* From the checkpoint where there is one. */
static exitlm_status run_trainer(const xl_train_set *set, reporter *r, bool *stopped,
                                 exitlm_error *error) {
    const uint64_t first = load_checkpoint(r) ? xl_trainer_step(r->trainer) : 0;
    const xl_progress start = {.stage = XL_STAGE_HEAD, .layer = r->layer, .done = (double)first};
    r->saved = first / r->per_epoch;
    xl_show(r->run->observer, &start);
    exitlm_status status = xl_trainer_run(r->trainer, set, error);
    *stopped = r->stopped;
    return status;
}

/* Trains on what `part` holds. */
static exitlm_status learn(xl_training *run, const xl_train_part *part, bool vocabulary,
                           uint32_t rows, uint32_t epochs, xl_train_result *result, bool *stopped,
                           exitlm_error *error) {
    const xl_training_options *o = run->options;
    reporter r = {.run = run, .layer = result->layer};
    const uint32_t batch = part->set.n < o->batch ? (uint32_t)part->set.n : o->batch;
    if (batch == 0)
        return xl_fail(error, EXITLM_IO, XL_FILE_NAME ": no training data was gathered",
                       run->folder);
    const xl_train_options t = {.form = form_of(run, vocabulary),
                                .layer = r.layer,
                                .rows = rows,
                                .hidden = o->hidden,
                                .epochs = epochs,
                                .batch = batch,
                                .rate = vocabulary ? 5 * o->rate : o->rate,
                                .weight_decay = 0.02f,
                                .warmup = 0.04f,
                                .target_temperature = o->target_temperature,
                                .seed = o->seed,
                                .pool = run->pool,
                                .report_steps = 20,
                                .report = report,
                                .user = &r};
    char *file = checkpoint_name(run, &t, part->set.n);
    if (!file) return xl_no_memory(error, "a checkpoint");
    r.file = file;
    r.per_epoch = part->set.n / batch ? part->set.n / batch : 1;
    exitlm_status status = xl_trainer_create(&r.trainer, &run->base, &t, error);
    result->trainer = r.trainer;
    if (status == EXITLM_OK) status = run_trainer(&part->set, &r, stopped, error);
    free(file);
    return status;
}

exitlm_status xl_training_head(xl_training *run, const xl_head_plan *plan, xl_train_result *result,
                               bool *stopped, exitlm_error *error) {
    xl_train_part part;
    const uint32_t layer = plan->layer, most = run->base.n_shortlist,
                   rows = plan->rows < most ? plan->rows : most;
    *result = (xl_train_result){.layer = run->plan.layers[layer]};
    exitlm_status status =
        xl_train_part_load(run, layer, rows, false, plan->max_positions, &part, error);
    if (status != EXITLM_OK) return status;
    status = learn(run, &part, plan->vocabulary, rows, plan->epochs, result, stopped, error);
    xl_train_part_free(&part);
    if (status == EXITLM_OK) status = validate(run, layer, rows, result, error);
    if (status != EXITLM_OK) return status;
    const xl_progress end = {
        .stage = XL_STAGE_HEAD, .layer = result->layer, .result = result, .ended = true};
    xl_show(run->observer, &end);
    return EXITLM_OK;
}

void xl_train_result_free(xl_train_result *r) {
    xl_trainer_free(r->trainer);
    free(r->answers);
    *r = (xl_train_result){0};
}

/* ---- What a set of heads earns ---- */
typedef struct choice {
    xl_training *run;
    xl_train_result results[XL_GATHER_MAX_LAYERS];
    uint32_t n;                /* candidates; the last one is the vocabulary exit */
    const xl_train_part *part; /* validation */
} choice;

static double layers_of(const xl_training *run, double macs) {
    return macs / (double)xl_layer_macs(run->model);
}

static double check_layers(const xl_training *run, bool vocabulary) {
    const xl_training_options *o = run->options;
    const double dim = run->info.dim;
    if (vocabulary) return layers_of(run, o->vocabulary_rows * dim);
    double map = o->form == 0 ? dim * dim : o->form == 1 ? 2 * dim * o->hidden : 0;
    return layers_of(run, map + dim * (o->form == XL_TRAINING_FULL ? run->info.vocab : o->rows));
}

/* Cost of an exit after so many layers, its check included, in shares of a full token. */
static double exit_cost(const xl_training *run, double layer, double check) {
    return (layer + XL_BATCH_FILL * (run->info.layers - layer) + check) /
           layers_of(run, (double)xl_token_macs(run->model));
}

/* Cost of exits, in shares of a full token, for the chain of `n` candidates. */
static void fill_costs(const choice *c, const uint32_t *chain, uint32_t n, xl_path_data *data) {
    const double full = layers_of(c->run, (double)xl_token_macs(c->run->model));
    for (uint32_t i = 0; i < n; i++) {
        const bool vocabulary = chain[i] + 1 == c->n;
        const double check = check_layers(c->run, vocabulary);
        data->exit_cost[i] = (float)exit_cost(c->run, c->results[chain[i]].layer, check);
        /* The vocabulary exit's scores are part of the final head's. */
        data->fail_cost[i] = (float)(vocabulary ? 0 : check / full);
    }
}

void xl_training_expect(const xl_training *run, xl_training_prospect *prospect) {
    const xl_training_options *o = run->options;
    const xl_gather_plan *plan = &run->plan;
    *prospect = (xl_training_prospect){.least_work = 1};
    for (size_t i = 0; plan->jobs && i < plan->n_jobs; i++) /* of parts only the number is known */
        if (plan->jobs[i].kind != XL_GATHER_FORCED) prospect->tokens += plan->reply_tokens;
    prospect->macs = (double)prospect->tokens * (double)xl_token_macs(run->model);
    for (uint32_t l = 0; l < plan->n_layers; l++) {
        bool wanted = o->n_layers == 0;
        for (size_t i = 0; i < o->n_layers; i++) wanted |= o->layers[i] == plan->layers[l];
        const bool vocabulary = plan->layers[l] == run->info.layers;
        const double cost = exit_cost(run, plan->layers[l], check_layers(run, vocabulary));
        if (wanted && cost < prospect->least_work) prospect->least_work = cost;
    }
}

/* What the token costs at position t, by the gathered probabilities. */
static float regret_at(const xl_train_part *part, size_t t, int32_t id) {
    const int32_t *ids = part->top_ids + t * XL_GATHER_TOP;
    const uint16_t *p = part->top_p + t * XL_GATHER_TOP;
    for (int k = 0; k < XL_GATHER_TOP; k++)
        if (ids[k] == id) return xl_regret(logf(xl_f16_to_f32(p[0]) / xl_f16_to_f32(p[k])));
    return 1;
}

/* Expected cost of a token at 5 % disagreement on the validation part. */
static exitlm_status cost_of(const choice *c, const uint32_t *chain, uint32_t n, double *cost,
                             exitlm_error *error) {
    const size_t count = c->part->set.n;
    float *u = malloc((count * n + 1) * sizeof *u), *regret = malloc((count * n + 1) * sizeof *u);
    uint8_t *wrong = malloc(count * n + 1);
    xl_curve *curve = malloc(sizeof *curve);
    xl_path_data data = {.n = count,
                         .n_heads = n,
                         .u = u,
                         .wrong = wrong,
                         .regret = regret,
                         .weight = c->part->weight};
    bool fine = u && regret && wrong && curve;
    *cost = 1;
    for (size_t t = 0; fine && t < count; t++)
        for (uint32_t i = 0; i < n; i++) {
            const xl_head_answer *a = &c->results[chain[i]].answers[t];
            u[t * n + i] = a->id < 0 ? 2 : 1 - a->margin;
            wrong[t * n + i] = a->id != c->part->top_ids[t * XL_GATHER_TOP];
            regret[t * n + i] = regret_at(c->part, t, a->id);
        }
    fill_costs(c, chain, n, &data);
    fine = fine && xl_curve_build(&data, &xl_libc_allocator, curve);
    if (fine) {
        float threshold[EXITLM_MAX_HEADS];
        xl_curve_at(curve, &data, 0.05, threshold);
        *cost = xl_path_measure(&data, threshold).cost;
    }
    free(u);
    free(regret);
    free(wrong);
    free(curve);
    return fine ? EXITLM_OK : xl_no_memory(error, "the choice of layers");
}

#define LEAST_GAIN 0.004 /* of a full token's work, for one more head */
#define MOST_HEADS 4

/* chain: the chosen ones and `added`, ascending. False: it is chosen already. */
static bool chain_with(const uint32_t *chosen, uint32_t n, uint32_t added, uint32_t *chain) {
    uint32_t at = 0;
    while (at < n && chosen[at] < added) at++;
    if (at < n && chosen[at] == added) return false;
    memcpy(chain, chosen, at * sizeof *chain);
    chain[at] = added;
    memcpy(chain + at + 1, chosen + at, (n - at) * sizeof *chain);
    return true;
}

/* Greedy: the head that saves most beside those chosen, while it saves enough. */
static exitlm_status pick(const choice *c, uint32_t *chosen, uint32_t *n, double *work,
                          exitlm_error *error) {
    chosen[0] = c->n - 1;
    *n = 1;
    exitlm_status status = cost_of(c, chosen, 1, work, error);
    while (status == EXITLM_OK && *n < MOST_HEADS) {
        uint32_t chain[MOST_HEADS] = {0}, best[MOST_HEADS];
        double least = *work - LEAST_GAIN;
        bool found = false;
        for (uint32_t i = 0; i + 1 < c->n && status == EXITLM_OK; i++) {
            double cost;
            if (!chain_with(chosen, *n, i, chain)) continue;
            status = cost_of(c, chain, *n + 1, &cost, error);
            if (status != EXITLM_OK || cost >= least) continue;
            least = cost;
            found = true;
            memcpy(best, chain, sizeof best);
        }
        if (!found) break;
        memcpy(chosen, best, sizeof best);
        (*n)++;
        *work = least;
    }
    return status;
}

exitlm_status xl_training_choose_layers(xl_training *run, uint32_t *layers, uint32_t *n_layers,
                                        double *work, bool *stopped, exitlm_error *error) {
    choice c = {.run = run};
    xl_train_part part = {0};
    exitlm_status status = EXITLM_OK;
    *n_layers = 0;
    for (; c.n < run->plan.n_layers && status == EXITLM_OK && !*stopped; c.n++) {
        const xl_training_options *o = run->options;
        const bool vocabulary = c.n + 1 == run->plan.n_layers;
        const xl_head_plan plan = {.layer = c.n,
                                   .vocabulary = vocabulary,
                                   .rows = vocabulary ? o->vocabulary_rows : o->rows,
                                   .epochs = 2,
                                   .max_positions = o->probe_tokens};
        status = xl_training_head(run, &plan, &c.results[c.n], stopped, error);
    }
    if (status == EXITLM_OK && !*stopped) {
        status = xl_train_part_load(run, 0, run->base.n_shortlist, true, 0, &part, error);
        c.part = &part;
        if (status == EXITLM_OK) status = pick(&c, layers, n_layers, work, error);
        xl_train_part_free(&part);
    }
    for (uint32_t i = 0; i < c.n; i++) xl_train_result_free(&c.results[i]);
    return status;
}
