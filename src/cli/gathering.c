#include "gathering.h"

#include "progress.h"
#include "signals.h"

/* What is given by name stays. */
static void choose_vocabulary_only(cli_gathering *from, const cli_call *call, uint32_t layers) {
    from->layers = (cli_counts){.items = {layers}, .n = 1};
    from->training.no_maps = true;
    if (!cli_given(call, "self-chat")) from->training.self_chat = 300;
    if (!cli_given(call, "probe-tokens")) from->training.probe_tokens = 20000;
}

enum { LEAST_ROWS = 8192, LEAST_VOCABULARY_OF_TWO = 131072 };

/* A second list has to be several times as long to find what the first lacks (SPEED.md, "A
 * vocabulary of 262,144"). */
static void choose_vocabulary_rows(cli_gathering *from, uint32_t vocab) {
    xl_training_options *o = &from->training;
    const cli_counts *rows = &from->vocabulary_rows;
    o->vocabulary_rows = rows->n                   ? rows->items[0]
                         : vocab / 16 > LEAST_ROWS ? vocab / 16
                                                   : LEAST_ROWS;
    o->further_rows = rows->n > 1 ? rows->items[1] : 0;
    if (rows->n == 0 && o->vocabulary_only && vocab >= LEAST_VOCABULARY_OF_TWO)
        o->further_rows = vocab / 4;
}

/* What is given by name stays. A model of few layers has fewer heads. */
static void choose_as_paper(cli_gathering *from, const cli_call *call, uint32_t layers) {
    xl_training_options *o = &from->training;
    cli_counts *named = &from->layers;
    for (uint32_t i = 1, n = (uint32_t)named->n; i <= 4 && n == 0; i++) {
        const uint32_t layer = (2 * i * layers + 5) / 10;
        if (layer && (named->n == 0 || named->items[named->n - 1] < layer))
            named->items[named->n++] = layer;
    }
    o->no_maps = true;
    if (!cli_given(call, "form")) o->form = XL_TRAINING_FULL;
    if (!cli_given(call, "target-temperature")) o->target_temperature = 1;
}

static void take_model(xl_training *run, const cli_call *call, cli_gathering *from,
                       const cli_engine_options *options, const cli_engine *engine) {
    xl_training_options *o = &from->training;
    if (o->vocabulary_only) choose_vocabulary_only(from, call, engine->info.layers);
    if (o->as_paper) choose_as_paper(from, call, engine->info.layers);
    choose_vocabulary_rows(from, engine->info.vocab);
    o->layers = from->layers.items;
    o->n_layers = from->layers.n;
    o->threads = engine->threads;
    o->context_tokens = options->ctx;
    o->kv_type = (exitlm_kv_type)options->kv_type;
    o->kernel = options->kernel;
    run->options = o;
    run->model = engine->model;
    run->info = engine->info;
    if (engine->threads > 1) run->pool = xl_pool_create(engine->threads, &xl_libc_allocator);
}

int cli_gathering_run(const cli_call *call, cli_gathering *from, const cli_engine_options *options,
                      int (*work)(xl_training *run, void *user), void *user) {
    cli_engine_options without = *options;
    without.heads = "none"; /* those beside the model have no part in it */
    if (from->training.vocabulary_only && from->layers.n)
        return cli_usage("%s: --vocabulary-only names the layer: leave out --layers",
                         call->command->name);
    if (from->training.vocabulary_only && from->training.as_paper)
        return cli_usage("%s: --as-paper has no vocabulary exit: leave out --vocabulary-only",
                         call->command->name);
    const cli_counts *rows = &from->vocabulary_rows;
    if (rows->n > 2 || (rows->n == 2 && rows->items[1] <= rows->items[0]))
        return cli_usage("%s: --vocabulary-rows: one list, or two, the second the longer",
                         call->command->name);
    cli_interrupt_catch();
    cli_engine engine;
    cli_progress progress = {0};
    const xl_observer observer = cli_observer(&progress, from->quiet);
    xl_training run = {.observer = &observer};
    int status = cli_engine_open(&engine, call->operands[0], &without, CLI_WEIGHTS);
    if (status == CLI_OK) {
        take_model(&run, call, from, options, &engine);
        status = work(&run, user);
    }
    xl_pool_free(run.pool);
    xl_training_free(&run);
    cli_engine_close(&engine);
    return status;
}

int cli_gathering_plan(const cli_gathering *from, xl_training *run) {
    exitlm_error error;
    exitlm_status status = EXITLM_OK;
    for (size_t i = 0; i < from->data.n && status == EXITLM_OK; i++)
        status = xl_dataset_read(&run->data, from->data.items[i], &error);
    if (status == EXITLM_OK) status = xl_training_plan(run, &error);
    return cli_done(status, &error);
}
