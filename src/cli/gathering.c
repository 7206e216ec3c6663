#include "gathering.h"

int cli_gathering_open(cli_gathering *from, const cli_engine_options *options, xl_training *run,
                       cli_engine *engine, const char *model) {
    cli_engine_options without = *options;
    without.heads = "none"; /* those beside the model have no part in it */
    const int status = cli_engine_open(engine, model, &without, CLI_WEIGHTS);
    if (status != CLI_OK) return status;
    from->training.layers = from->layers.items;
    from->training.n_layers = from->layers.n;
    from->training.threads = engine->threads;
    from->training.context_tokens = options->ctx;
    from->training.kv_type = (exitlm_kv_type)options->kv_type;
    from->training.kernel = options->kernel;
    run->options = &from->training;
    run->model = engine->model;
    run->info = engine->info;
    if (engine->threads > 1) run->pool = xl_pool_create(engine->threads, &xl_libc_allocator);
    return CLI_OK;
}

int cli_gathering_plan(const cli_gathering *from, xl_training *run) {
    exitlm_error error;
    exitlm_status status = EXITLM_OK;
    for (size_t i = 0; i < from->data.n && status == EXITLM_OK; i++)
        status = xl_dataset_read(&run->data, from->data.items[i], &error);
    if (status == EXITLM_OK) status = xl_training_plan(run, &error);
    return cli_done(status, &error);
}

void cli_gathering_close(xl_training *run, cli_engine *engine) {
    xl_pool_free(run->pool);
    xl_training_free(run);
    cli_engine_close(engine);
}
