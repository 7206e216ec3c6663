/* The last stage of training: every head, and the heads file. See training.h. */
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "model/model.h"
#include "training.h"

const char *const xl_training_forms[] = {"tied", "mlp", "full", "lens", NULL};

static exitlm_status dequantise_output(xl_training *run, exitlm_error *error) {
    const exitlm_model *m = run->model;
    const uint32_t vocab = m->config.vocab, dim = m->config.dim;
    run->output = malloc((size_t)vocab * dim * sizeof(float));
    if (!run->output) return xl_no_memory(error, "the output matrix");
    for (uint32_t id = 0; id < vocab; id++)
        xl_dequant_row(m->output.type, m->output.data, dim, xl_slot(m, id),
                       run->output + (size_t)id * dim);
    run->base = (xl_train_base){.dim = dim,
                                .vocab = vocab,
                                .output = run->output,
                                .output_norm = m->output_norm.weight,
                                .norm_bias = m->output_norm.bias,
                                .output_bias = m->output_bias};
    return EXITLM_OK;
}

/* ---- The heads file ---- */
/* What is there counts, which an interrupted run has less of than was planned. NULL: no memory. */
static char *describe_data(const xl_training *run) {
    return xl_format("trained on what the model itself says in %zu conversations or texts: %zu "
                     "invented, %zu answers to prompts of --data, %zu as they stand in --data; no "
                     "human labels",
                     run->n_conversations, run->n_of_kind[XL_GATHER_INVENT],
                     run->n_of_kind[XL_GATHER_ANSWER], run->n_of_kind[XL_GATHER_FORCED]);
}

static void describe_head(xl_head_source *head, const xl_train_result *result,
                          const xl_train_maps *maps) {
    xl_trainer_head(result->trainer, head);
    head->sampling_scale = result->sampling_scale;
    if (!maps->k) return;
    head->map_k = maps->k;
    head->map_v = maps->v;
    head->map_k_bias = maps->k_bias;
    head->map_v_bias = maps->v_bias;
}

static exitlm_status write_heads(const xl_training *run, const xl_train_result *results,
                                 const xl_train_maps *maps, xl_training_report *report,
                                 exitlm_error *error) {
    const exitlm_model *m = run->model;
    const xl_training_options *o = run->options;
    char *data = describe_data(run);
    if (!data) return xl_no_memory(error, "the heads");
    xl_heads_source source = {.fingerprint = run->info.fingerprint,
                              .base_name = run->info.name,
                              .licence = o->licence ? o->licence : run->info.licence,
                              .data = data,
                              .n_layers = m->config.n_layers,
                              .dim = m->config.dim,
                              .kv_dim = m->config.kv_dim,
                              .vocab = m->config.vocab,
                              .n_heads = report->n_heads,
                              .n_shortlist = run->base.n_shortlist,
                              .shortlist = run->shortlist,
                              .metric = run->options->as_paper ? EXITLM_METRIC_ENTROPY
                                                               : EXITLM_METRIC_MARGIN,
                              .kv = EXITLM_POLICY_EXACT,
                              .kv_type = run->plan.kv_type,
                              .matrix_type = XL_Q8_0};
    for (uint32_t i = 0; i < report->n_heads; i++)
        describe_head(&source.head[i], &results[i], &maps[i]);
    xl_buffer out;
    xl_buffer_init(&out, &xl_libc_allocator);
    exitlm_status status = xl_about(o->output, xl_heads_write(&source, &out, error), error);
    if (status == EXITLM_OK) status = xl_file_write(o->output, out.data, out.n_bytes, error);
    report->n_bytes = out.n_bytes;
    xl_buffer_free(&out);
    free(data);
    return status;
}

/* ---- The heads ---- */
#define MOST_RESULTS (XL_GATHER_MAX_LAYERS + 1) /* a second vocabulary exit beside one a layer */

/* Of the layers that the user named: their places in the plan, which is ascending. */
static uint32_t named_layers(const xl_training *run, uint32_t *layers) {
    const xl_training_options *o = run->options;
    uint32_t n = 0;
    for (uint32_t l = 0; l < run->plan.n_layers; l++)
        for (size_t i = 0; i < o->n_layers; i++)
            if (run->plan.layers[l] == o->layers[i]) layers[n++] = l;
    return n;
}

static exitlm_status fit_maps(const xl_training *run, const xl_train_result *results, uint32_t n,
                              xl_train_maps *maps, exitlm_error *error) {
    uint32_t layers[MOST_RESULTS];
    if (run->options->no_maps) return EXITLM_OK;
    for (uint32_t i = 0; i < n; i++) layers[i] = results[i].layer;
    return xl_train_maps_fit(run, layers, n, maps, error);
}

/* *n: heads that are ready, one of which may have been stopped on its way. */
static exitlm_status train_heads(xl_training *run, const uint32_t *layers, uint32_t n_layers,
                                 xl_train_result *results, uint32_t *n, bool *stopped,
                                 exitlm_error *error) {
    const xl_training_options *o = run->options;
    exitlm_status status = EXITLM_OK;
    for (uint32_t i = 0; i < n_layers; i++) {
        const bool vocabulary = run->plan.layers[layers[i]] == run->info.layers;
        /* A vocabulary exit learns a single vector: part of the data is enough. */
        xl_head_plan plan = {.layer = layers[i],
                             .vocabulary = vocabulary,
                             .rows = vocabulary ? o->vocabulary_rows : o->rows,
                             .epochs = vocabulary ? 3 : o->epochs,
                             .max_positions = vocabulary ? o->probe_tokens : 0};
        const uint32_t rows[] = {plan.rows, vocabulary ? o->further_rows : 0};
        for (int k = 0; k < 2 && rows[k] && status == EXITLM_OK && !*stopped; k++) {
            plan.rows = rows[k];
            status = xl_training_head(run, &plan, &results[(*n)++], stopped, error);
        }
    }
    return status;
}

exitlm_status xl_training_run(xl_training *run, xl_training_report *report, exitlm_error *error) {
    uint32_t layers[XL_GATHER_MAX_LAYERS], n = 0;
    xl_train_result results[MOST_RESULTS] = {{0}};
    xl_train_maps maps[MOST_RESULTS] = {{0}};
    bool stopped = false;
    *report = (xl_training_report){0};
    exitlm_status status = dequantise_output(run, error);
    run->halved = run->options->vocabulary_only;
    if (status == EXITLM_OK) status = xl_training_shortlist(run, error);
    if (run->options->n_layers) n = named_layers(run, layers);
    else if (status == EXITLM_OK)
        status = xl_training_choose_layers(run, layers, &n, &report->work, &stopped, error);
    if (status == EXITLM_OK)
        status = train_heads(run, layers, n, results, &report->n_heads, &stopped, error);
    if (status == EXITLM_OK && run->halved) {
        run->halved = false;
        status = xl_training_shortlist(run, error); /* of all, for the file */
    }
    if (status == EXITLM_OK && report->n_heads) {
        if (!stopped) status = fit_maps(run, results, report->n_heads, maps, error);
        if (status == EXITLM_OK) status = write_heads(run, results, maps, report, error);
    }
    for (uint32_t i = 0; i < MOST_RESULTS; i++) {
        xl_train_maps_free(&maps[i]);
        xl_train_result_free(&results[i]);
    }
    return status;
}
