/* exitlm train: exit heads for a model, from what the model itself says. */
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "gather_file.h"
#include "model/model.h"
#include "platform.h"
#include "signals.h"
#include "train.h"

#define AT(field) .offset = offsetof(train_options, field)

const char *const train_forms[] = {"tied", "mlp", "full", "lens", NULL};
const char *const train_matrix_types[] = {"f32", "f16", "q8_0", NULL};

static const cli_option options[] = {
    {.name = "output", .letter = 'o', .kind = CLI_TEXT, AT(output), .value = "HEADS", .help = "the heads file to write, NAME.exits.gguf (required)"},
    CLI_HEADLINE("Data"),
    {.name = "data", .kind = CLI_TEXTS, AT(data), .value = "FILE|DIR",
     .help = "conversations to learn from: JSONL of {\"turns\"} (the model answers) or {\"messages\"}, text files, folders; lines of the split \"train\""},
    {.name = "self-chat", .kind = CLI_COUNT, AT(self_chat), .value = "N", .min = 0, .max = 1000000, .fallback = "4000",
     .help = "conversations whose user turn the model invents too"},
    {.name = "answers", .kind = CLI_COUNT, AT(answers), .value = "N", .min = 1, .max = 64, .fallback = "6",
     .help = "answers to each conversation of --data: the first greedy, the others sampled"},
    {.name = "reply-tokens", .kind = CLI_COUNT, AT(reply_tokens), .value = "N", .min = 8, .max = 4096, .fallback = "96", .help = "longest answer"},
    {.name = "out-data", .kind = CLI_TEXT, AT(out_data), .value = "FILE", .help = "keep what was learnt from as JSONL"},
    {.name = "cache", .kind = CLI_TEXT, AT(cache), .value = "DIR", .help = "where hidden states and checkpoints are kept; default: HEADS.cache"},
    {.name = "only-data", .kind = CLI_FLAG, AT(only_data), .help = "stop when the data is there"},
    {.name = "gathered", .kind = CLI_FLAG, AT(gathered), .help = "learn from what an earlier, interrupted run has gathered; gather no more"},
    CLI_HEADLINE("Heads"),
    {.name = "form", .kind = CLI_CHOICE, AT(form), .choices = train_forms, .help = "tied: a residual map and the model's own rows; mlp; full: the paper's; lens: untrained",
     .fallback = "tied"},
    {.name = "layers", .kind = CLI_COUNTS, AT(layers), .value = "L,...", .min = 1, .max = 4096,
     .help = "layers run before each head, the last may be the model's number of layers (vocabulary exit); default: chosen by what they earn"},
    {.name = "rows", .kind = CLI_COUNT, AT(rows), .value = "N", .min = 16, .max = 1048576, .fallback = "2048", .help = "tokens of the shortlist of an inner head"},
    {.name = "vocabulary-rows", .kind = CLI_COUNT, AT(vocabulary_rows), .value = "N", .min = 16, .max = 1048576, .fallback = "8192",
     .help = "tokens of the shortlist after the last layer"},
    {.name = "hidden", .kind = CLI_COUNT, AT(hidden), .value = "N", .min = 8, .max = 65536, .fallback = "768", .help = "width of --form mlp"},
    {.name = "matrix-type", .kind = CLI_CHOICE, AT(matrix_type), .choices = train_matrix_types, .help = "numbers of the heads' matrices in the file", .fallback = "q8_0"},
    {.name = "no-maps", .kind = CLI_FLAG, AT(no_maps), .help = "leave out the maps of the K/V policy \"maps\""},
    {.name = "map-tokens", .kind = CLI_COUNT, AT(map_tokens), .value = "N", .min = 1000, .max = 10000000, .fallback = "40000", .help = "positions that the maps are fitted on"},
    {.name = "licence", .kind = CLI_TEXT, AT(licence), .value = "TEXT", .help = "licence of the heads; default: the model's"},
    CLI_HEADLINE("Training"),
    {.name = "epochs", .kind = CLI_COUNT, AT(epochs), .value = "N", .min = 1, .max = 1000, .fallback = "6", .help = "passes over the data"},
    {.name = "batch", .kind = CLI_COUNT, AT(batch), .value = "N", .min = 16, .max = 8192, .fallback = "512", .help = "positions of a step"},
    {.name = "rate", .kind = CLI_NUMBER, AT(rate), .value = "R", .min = 1e-6, .max = 1, .fallback = "0.001", .help = "peak learning rate"},
    {.name = "weight-decay", .kind = CLI_NUMBER, AT(weight_decay), .value = "D", .min = 0, .max = 1, .fallback = "0.02", .help = "of the matrices"},
    {.name = "target-temperature", .kind = CLI_NUMBER, AT(target_temperature), .value = "T", .min = 0, .max = 1, .fallback = "0",
     .help = "of the model's distribution that heads learn: 1 as it is, as in the paper; 0 its choice alone, which exits are judged by"},
    {.name = "probe-tokens", .kind = CLI_COUNT, AT(probe_tokens), .value = "N", .min = 1000, .max = 100000000, .fallback = "100000",
     .help = "positions on which candidate layers are tried"},
    {.name = "seed", .kind = CLI_SEED, AT(seed), .value = "S", .fallback = "1", .help = "of data and training; the same seed gives the same file"},
    {.name = "quiet", .letter = 'q', .kind = CLI_FLAG, AT(quiet), .help = "no progress"},
    CLI_HEADLINE("Engine"),
    CLI_ENGINE_OPTIONS(train_options, engine),
};

/* ---- The heads file ---- */

static int dequantise_output(train_run *run) {
    const exitlm_model *m = run->engine.model;
    const uint32_t vocab = m->config.vocab, dim = m->config.dim;
    run->output = malloc((size_t)vocab * dim * sizeof(float));
    if (!run->output) return cli_no_memory("the output matrix");
    for (uint32_t id = 0; id < vocab; id++) xl_dequant_row(m->output.type, m->output.data, dim, xl_slot(m, id), run->output + (size_t)id * dim);
    run->base = (xl_train_base){.dim = dim, .vocab = vocab, .output = run->output, .output_norm = m->output_norm};
    return CLI_OK;
}

/* What is there counts, which an interrupted run has less of than was planned. */
static char *describe_data(const train_run *run) {
    const gather_plan *plan = &run->plan;
    size_t conversations = 0, invented = 0;
    for (size_t i = 0; i < plan->n_jobs; i++) {
        if (!gather_exists(plan, i / GATHER_SHARD_JOBS)) continue;
        conversations++;
        invented += plan->jobs[i].kind == GATHER_INVENT;
    }
    return cli_format("trained on %zu conversations by the model itself: %zu invented, the others answers to the prompts of --data; no human labels",
                      conversations, invented);
}

static int write_file(const train_run *run, const train_result *results, const train_maps *maps, uint32_t n) {
    static const xl_type types[] = {XL_F32, XL_F16, XL_Q8_0};
    const exitlm_model *m = run->engine.model;
    const train_options *o = run->options;
    char *data = describe_data(run);
    xl_heads_source source = {.fingerprint = run->engine.info.fingerprint, .base_name = run->engine.info.name,
                              .licence = o->licence ? o->licence : run->engine.info.licence, .data = data, .n_layers = m->config.n_layers,
                              .dim = m->config.dim, .kv_dim = m->config.kv_dim, .vocab = m->config.vocab, .n_heads = n,
                              .n_shortlist = run->base.n_shortlist, .shortlist = run->shortlist, .metric = EXITLM_METRIC_MARGIN,
                              .kv = EXITLM_POLICY_EXACT, .kv_type = (exitlm_kv_type)o->engine.kv_type, .matrix_type = types[o->matrix_type]};
    for (uint32_t i = 0; i < n; i++) {
        xl_trainer_head(results[i].trainer, &source.head[i]);
        source.head[i].sampling_scale = results[i].sampling_scale;
        if (!maps || !maps[i].k) continue;
        source.head[i].map_k = maps[i].k;
        source.head[i].map_v = maps[i].v;
        source.head[i].map_k_bias = maps[i].k_bias;
        source.head[i].map_v_bias = maps[i].v_bias;
    }
    exitlm_error error;
    xl_buffer out;
    xl_buffer_init(&out, &xl_libc_allocator);
    int status = xl_heads_write(&source, &out, &error) == EXITLM_OK ? CLI_OK : cli_report(&error, o->output);
    if (status == CLI_OK) status = cli_write_file(o->output, out.data, out.n_bytes);
    if (status == CLI_OK) printf("%s: %u heads, %.2f MB; not calibrated yet: run exitlm calibrate\n", o->output, n, (double)out.n_bytes / 1e6);
    xl_buffer_free(&out);
    free(data);
    return status;
}

/* ---- The stages ---- */
static int named_layers(const train_run *run, uint32_t *layers, uint32_t *n) {
    *n = 0;
    for (size_t i = 0; i < run->options->layers.n; i++)
        for (uint32_t l = 0; l < run->plan.n_layers; l++)
            if (run->plan.layers[l] == run->options->layers.items[i]) layers[(*n)++] = l;
    for (uint32_t i = 1; i < *n; i++) /* ascending */
        for (uint32_t j = i; j > 0 && layers[j - 1] > layers[j]; j--) {
            uint32_t l = layers[j];
            layers[j] = layers[j - 1];
            layers[j - 1] = l;
        }
    return CLI_OK;
}

static int fit_maps(const train_run *run, const train_result *results, uint32_t n, train_maps *maps) {
    uint32_t layers[EXITLM_MAX_HEADS];
    if (run->options->no_maps) return CLI_OK;
    for (uint32_t i = 0; i < n; i++) layers[i] = results[i].layer;
    return train_maps_fit(run, layers, n, maps);
}

static int train_all(train_run *run) {
    uint32_t layers[GATHER_MAX_LAYERS], n = 0, done = 0;
    train_result results[GATHER_MAX_LAYERS] = {{0}};
    train_maps maps[GATHER_MAX_LAYERS] = {{0}};
    bool stopped = false;
    int status = dequantise_output(run);
    if (status == CLI_OK) status = train_shortlist(run);
    if (status == CLI_OK) status = run->options->layers.n ? named_layers(run, layers, &n) : train_choose_layers(run, layers, &n, &stopped);
    for (uint32_t i = 0; i < n && status == CLI_OK && !stopped; i++, done++) {
        bool vocabulary = run->plan.layers[layers[i]] == run->engine.info.layers;
        /* The vocabulary exit learns a single vector: part of the data is enough. */
        status = train_head(run, layers[i], vocabulary, vocabulary ? run->options->probe_tokens : 0, vocabulary ? 3 : run->options->epochs,
                            &results[done], &stopped);
    }
    if (status == CLI_OK && done && !stopped) status = fit_maps(run, results, done, maps);
    if (status == CLI_OK && done) status = write_file(run, results, maps, done);
    for (uint32_t i = 0; i < GATHER_MAX_LAYERS; i++) {
        train_maps_free(&maps[i]);
        train_result_free(&results[i]);
    }
    free(run->output);
    free(run->shortlist);
    return status;
}

static int run_train(const cli_call *call) {
    train_options o = *(const train_options *)call->values;
    train_run run = {.options = &o};
    if (!o.output) return cli_usage("train: give the heads file to write: -o NAME.exits.gguf");
    o.engine.heads = "none"; /* those beside the model are about to be replaced */
    cli_interrupt_catch();
    int status = cli_engine_open(&run.engine, call->operands[0], &o.engine, CLI_WEIGHTS);
    if (status == CLI_OK) status = train_plan_make(&run);
    if (status == CLI_OK && o.engine.threads > 1) run.pool = xl_pool_create(o.engine.threads, &xl_libc_allocator);
    bool complete = false;
    if (status == CLI_OK && !o.gathered) status = gather_run(&run.plan, run.pool, o.quiet, &complete);
    if (status == CLI_OK && !complete && !o.gathered) {
        cli_warn("stopped: going on with the data that is there; the same command gathers the rest");
        cli_interrupt_clear();
    }
    if (status == CLI_OK && o.out_data) status = train_plan_save(&run, o.out_data);
    if (status == CLI_OK && !o.only_data) status = train_all(&run);
    xl_pool_free(run.pool);
    train_plan_free(&run);
    cli_engine_close(&run.engine);
    return status;
}

const cli_command cli_command_train = {
    .name = "train",
    .summary = "train exit heads for a model, from what it says itself",
    .operands = "MODEL",
    .n_operands = 1,
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .values_bytes = sizeof(train_options),
    .run = run_train,
};
