/* exitlm gather: what exit heads learn from, or one shard of it, into a part. */
#include <stdio.h>

#include "gathering.h"

typedef struct gather_options {
    cli_engine_options engine;
    cli_gathering from;
    const char *output, *shard_text;
    xl_shard shard;
} gather_options;

#define AT(field) offsetof(gather_options, field)

static const cli_option options[] = {
    CLI_VALUE(
        TEXT, 'o', "output", output, "PART", NULL,
        "the part to write (required); until it is whole it is PART.part, with which the same "
        "command goes on"),
    CLI_VALUE(TEXT, 0, "shard", shard_text, "I/N", "1/1",
              "gather the I-th of N shares of the conversations: one worker each, anywhere"),
    CLI_HEADLINE("Data: the same for all shards"),
    CLI_GATHERING_OPTIONS,
    CLI_GATHERING_LAYERS("layers whose hidden states are kept beside the usual candidates"),
    CLI_GATHERING_SEED("of the conversations; train goes on with it"),
    CLI_SWITCH('q', "quiet", from.quiet, "no progress"),
    CLI_HEADLINE("Engine"),
    CLI_EXACT_KV_OPTION,
    CLI_ENGINE_OPTIONS,
};

static int gather(xl_training *run, void *user) {
    const gather_options *o = user;
    const xl_gather_plan *plan = &run->plan;
    exitlm_error error;
    bool complete;
    int status = cli_gathering_plan(&o->from, run);
    if (status == CLI_OK)
        status = cli_done(
            xl_gather_run(plan, o->shard, o->output, run->pool, run->observer, &complete, &error),
            &error);
    if (status != CLI_OK) return status;
    if (!complete) return cli_fail("stopped; the same command goes on with %.300s.part", o->output);
    printf("%s: shard %u/%u, %llu of %zu conversations\n", o->output, o->shard.index, o->shard.of,
           (unsigned long long)(xl_shard_end(o->shard, plan->n_jobs) -
                                xl_shard_first(o->shard, plan->n_jobs)),
           plan->n_jobs);
    return CLI_OK;
}

static int run_gather(const cli_call *call) {
    gather_options o = *(const gather_options *)call->values;
    if (!o.output) return cli_usage("gather: give the part to write: -o PART");
    if (!xl_shard_parse(o.shard_text, &o.shard))
        return cli_usage("gather: --shard: \"%.40s\" is not as 3/8: one of how many", o.shard_text);
    return cli_gathering_run(call, &o.from, &o.engine, gather, &o);
}

const cli_command cli_command_gather = {
    .name = "gather",
    .summary = "Gather what exit heads learn from, or a shard of it, for train --gathered.",
    .operands = "MODEL",
    .n_operands = 1,
    CLI_OPTIONS(options, gather_options),
    .run = run_gather,
};
