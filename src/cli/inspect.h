/* The inspect command: what its files share. */
#ifndef CLI_INSPECT_H
#define CLI_INSPECT_H
#include "gguf_file.h"
#include "model_path.h"
#include "base/ndjson.h"

/* Both print to standard output. 0, or the exit status of a reported failure. */
int inspect_heads(const char *path, bool json);
/* files [path->n_parts]: the parts' headers, open. */
int inspect_model(const cli_model_path *path, cli_gguf_file *files, bool json);

#endif
