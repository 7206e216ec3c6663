/* exitlm tokenize: the tokens of a text. Needs the header alone, of a model of any architecture. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "engine.h"
#include "files.h"
#include "base/ndjson.h"
#include "text.h"

#define MAX_TEXT_BYTES ((uint64_t)256 << 20)
#define AT(field) offsetof(tokenize_options, field)

typedef struct tokenize_options {
    const char *prompt, *file;
    bool ids, special, bos, json;
} tokenize_options;

static const cli_option options[] = {
    CLI_VALUE(TEXT, 'p', "prompt", prompt, "TEXT", NULL,
              "the text; without it and without -f: standard input"),
    CLI_VALUE(TEXT, 'f', "file", file, "FILE", NULL, "a file with the text"),
    CLI_SWITCH(0, "ids", ids, "the ids alone, on one line"),
    CLI_SWITCH(0, "special", special, "special tokens in the text, as <|im_start|>, count as such"),
    CLI_SWITCH(0, "bos", bos, "put begin-of-text first where the model wants it"),
    CLI_SWITCH(0, "json", json, "one JSON object"),
};

/* The bytes of one token, in `room` or fresh memory (*owned). */
static const char *piece(const exitlm_model *model, int32_t id, char *room, size_t room_bytes,
                         size_t *n, char **owned) {
    exitlm_error error;
    *owned = NULL;
    *n = 0;
    if (exitlm_detokenize(model, &id, 1, room, room_bytes, n, &error) != EXITLM_OK) return "";
    if (*n <= room_bytes) return room;
    *owned = malloc(*n);
    if (!*owned || exitlm_detokenize(model, &id, 1, *owned, *n, n, &error) != EXITLM_OK) {
        *n = 0;
        return "";
    }
    return *owned;
}

static void print_pieces(const exitlm_model *model, const int32_t *ids, size_t n, ndjson *j) {
    for (size_t i = 0; i < n; i++) {
        char room[256], *owned;
        size_t n_bytes;
        const char *text = piece(model, ids[i], room, sizeof room, &n_bytes, &owned);
        if (j) xl_nd_put(j, "%.*s", (int)n_bytes, text);
        else {
            printf("%7d  \"", ids[i]);
            cli_print_safe(stdout, text, n_bytes, false);
            printf("\"\n");
        }
        free(owned);
    }
}

static void print_json(const exitlm_model *model, const int32_t *ids, size_t n, bool ids_alone) {
    ndjson j = xl_nd_to(stdout);
    xl_nd_put(&j, "{ ids=[");
    for (size_t i = 0; i < n; i++) xl_nd_put(&j, "%d", ids[i]);
    xl_nd_put(&j, "]");
    if (!ids_alone) {
        xl_nd_put(&j, "tokens=[");
        print_pieces(model, ids, n, &j);
        xl_nd_put(&j, "]");
    }
    xl_nd_put(&j, "}");
}

static int run(const cli_call *call) {
    const tokenize_options *o = call->values;
    cli_engine engine;
    cli_engine_options engine_options = {.heads = "none", .threads = 1};
    char *read = NULL;
    int32_t *ids = NULL;
    size_t n_bytes = 0, n = 0;
    if (o->prompt && o->file) return cli_usage("tokenize: --prompt and --file exclude each other");
    if (!o->prompt && !o->file && strcmp(call->operands[0], "-") == 0)
        return cli_usage("tokenize: the model and the text cannot both come from standard input");
    int status = cli_engine_open(&engine, call->operands[0], &engine_options, CLI_VOCABULARY);
    if (status == CLI_OK && !o->prompt)
        status = cli_read_file(o->file ? o->file : "-", MAX_TEXT_BYTES, &read, &n_bytes);
    if (status == CLI_OK) {
        const char *text = read ? read : o->prompt;
        if (!read) n_bytes = strlen(text);
        unsigned flags =
            (o->special ? EXITLM_PARSE_SPECIAL : 0) | (o->bos ? EXITLM_ADD_SPECIAL : 0);
        status = cli_tokenize(engine.model, text, n_bytes, flags, &ids, &n);
    }
    if (status == CLI_OK && o->json) print_json(engine.model, ids, n, o->ids);
    else if (status == CLI_OK && !o->ids) print_pieces(engine.model, ids, n, NULL);
    else if (status == CLI_OK) {
        for (size_t i = 0; i < n; i++) printf("%s%d", i ? " " : "", ids[i]);
        printf("\n");
    }
    free(ids);
    free(read);
    cli_engine_close(&engine);
    return status;
}

const cli_command cli_command_tokenize = {
    .name = "tokenize",
    .summary = "Show the tokens of a text.",
    .operands = "MODEL",
    .n_operands = 1,
    CLI_OPTIONS(options, tokenize_options),
    .run = run,
};
