/* What the commands gather and train share: which conversations the model is to write. */
#ifndef CLI_GATHERING_H
#define CLI_GATHERING_H
#include "cli.h"
#include "engine.h"
#include "train/training.h"

typedef struct cli_gathering {
    xl_training_options training;
    cli_texts data;
    cli_counts layers, vocabulary_rows;
    bool quiet;
} cli_gathering;

/* Rows of a table whose struct has the cli_gathering `from`. */
#define CLI_GATHERING_OPTIONS                                                                      \
    CLI_VALUE(                                                                                     \
        TEXTS, 0, "data", from.data, "FILE|DIR", NULL,                                             \
        "conversations to learn from: JSONL of {\"turns\"} (the model answers), "                  \
        "{\"messages\"}, {\"prompt\"} (the model goes on with the text) or {\"text\"}, text "      \
        "files, folders; lines of the split \"train\""),                                           \
        CLI_RANGE(COUNT, "self-chat", from.training.self_chat, "N", 0, 1000000, "4000",            \
                  "conversations whose user turn the model invents too, or, where it has no chat " \
                  "template, texts that it begins itself"),                                        \
        CLI_RANGE(COUNT, "answers", from.training.answers, "N", 1, 64, "6",                        \
                  "answers to each conversation of --data: the first greedy, the others sampled"), \
        CLI_RANGE(COUNT, "reply-tokens", from.training.reply_tokens, "N", 8, 4096, "96",           \
                  "longest answer"),                                                               \
        CLI_SWITCH(0, "vocabulary-only", from.training.vocabulary_only,                            \
                   "for the exit after the last layer alone, which scores a shortlist instead of " \
                   "the whole vocabulary, from little data: minutes. For models whose vocabulary " \
                   "is most of the work; --self-chat is 300 then (train: --probe-tokens 20000)"),  \
        CLI_SWITCH(0, "as-paper", from.training.as_paper,                                          \
                   "as in arXiv 2407.21082: after 1/5 to 4/5 of the layers heads of the whole "    \
                   "vocabulary that learn the model's distribution, judged by entropy (train: "    \
                   "--form full --target-temperature 1 --no-maps)")
#define CLI_GATHERING_LAYERS(text) \
    CLI_RANGE(COUNTS, "layers", from.layers, "L,...", 1, 4096, NULL, text)
#define CLI_GATHERING_SEED(text) CLI_VALUE(SEED, 0, "seed", from.training.seed, "S", "1", text)

/* Opens the model and what a run needs of it, lets `work` have it, and closes it. 0, or the exit
 * status of a failure that has been reported. `from` gets what the options leave to the model. */
int cli_gathering_run(const cli_call *call, cli_gathering *from, const cli_engine_options *options,
                      int (*work)(xl_training *run, void *user), void *user);
/* Reads the data and lays out the plan. */
int cli_gathering_plan(const cli_gathering *from, xl_training *run);

#endif
