/* The inspect command: what its files share. */
#ifndef CLI_INSPECT_H
#define CLI_INSPECT_H
#include "gguf_file.h"
#include "base/ndjson.h"

/* The fingerprint of the weights; it needs their memory, though almost none is touched. Empty where
 * there is none, or no memory. 0, or the exit status of a failure to read that has been reported,
 * after `name`. */
int inspect_fingerprint(cli_gguf_file *files, uint32_t n_parts, const char *name,
                        char fingerprint[65]);
/* Both print to standard output. 0, or the exit status of a reported failure. */
int inspect_heads(const char *path, bool json);
/* files [path->n_parts]: the parts' headers, open. */
int inspect_model(const cli_model_path *path, cli_gguf_file *files, bool json);

#endif
