/* exitlm inspect: what a model or a heads file is. Reads the header and a few rows of a model,
 * not its weights; a header alone will do. */
#include <stdlib.h>

#include "cli.h"
#include "inspect.h"

typedef struct inspect_options {
    bool json;
} inspect_options;

#define AT(field) offsetof(inspect_options, field)

static const cli_option options[] = {
    CLI_SWITCH(0, "json", json, "one JSON object"),
};

/* The header tells where the last tensor ends. */
static int check_whole(const cli_gguf_file *file, const char *name) {
    const xl_gguf *g = &file->header;
    if (file->n_bytes == 0 || file->n_bytes >= g->total_bytes || cli_gguf_header_alone(file))
        return CLI_OK;
    for (uint32_t i = 0; i < g->n_tensors; i++) {
        const xl_gguf_tensor *t = &g->tensors[g->by_offset[i]];
        if (t->offset + t->n_bytes <= file->n_bytes) continue;
        return cli_fail(
            "%s: truncated: tensor %.*s needs %llu bytes at offset %llu, the file ends at %llu",
            name, (int)t->name_bytes, xl_gguf_text(g, t->name_offset),
            (unsigned long long)t->n_bytes, (unsigned long long)t->offset,
            (unsigned long long)file->n_bytes);
    }
    return CLI_OK;
}

static int inspect(const cli_model_path *path, cli_gguf_file *files, bool json) {
    for (uint32_t part = 0; part < path->n_parts; part++) {
        char *name = cli_model_path_part(path, part);
        const int status = name ? check_whole(&files[part], name) : cli_no_memory("a file name");
        free(name);
        if (status != CLI_OK) return status;
    }
    if (xl_gguf_is(&files[0].header, "general.architecture", "exitlm"))
        return inspect_heads(path->file, json);
    return inspect_model(path, files, json);
}

static int run(const cli_call *call) {
    const inspect_options *o = call->values;
    cli_model_path path;
    int status = cli_model_path_find(&path, call->operands[0]);
    cli_gguf_file *files = NULL;
    if (status == CLI_OK) status = cli_gguf_open_parts(&files, &path);
    if (status == CLI_OK) status = inspect(&path, files, o->json);
    cli_gguf_close_parts(files, path.n_parts);
    cli_model_path_free(&path);
    return status;
}

const cli_command cli_command_inspect = {
    .name = "inspect",
    .summary = "Describe a model or a heads file.",
    .operands = "FILE",
    .n_operands = 1,
    CLI_OPTIONS(options, inspect_options),
    .run = run,
};
