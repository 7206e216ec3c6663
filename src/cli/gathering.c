#include "gathering.h"

int cli_gathering_check(const cli_gathering *from, const cli_call *call) {
    if (from->vocabulary_only && from->layers.n)
        return cli_usage("%s: --vocabulary-only names the layer: leave out --layers",
                         call->command->name);
    return CLI_OK;
}

/* What is given by name stays. */
static void choose_vocabulary_only(cli_gathering *from, const cli_call *call, uint32_t layers) {
    from->layers = (cli_counts){.items = {layers}, .n = 1};
    from->training.vocabulary_only = from->training.no_maps = true;
    if (!cli_given(call, "self-chat")) from->training.self_chat = 300;
}

int cli_gathering_open(cli_gathering *from, const cli_engine_options *options, const cli_call *call,
                       xl_training *run, cli_engine *engine) {
    cli_engine_options without = *options;
    without.heads = "none"; /* those beside the model have no part in it */
    const int status = cli_engine_open(engine, call->operands[0], &without, CLI_WEIGHTS);
    if (status != CLI_OK) return status;
    if (from->vocabulary_only) choose_vocabulary_only(from, call, engine->info.layers);
    if (!from->training.vocabulary_rows)
        from->training.vocabulary_rows =
            engine->info.vocab / 16 > 8192 ? engine->info.vocab / 16 : 8192;
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
