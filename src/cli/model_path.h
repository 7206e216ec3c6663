/* From what a user calls MODEL to files: a GGUF file, the parts of a split one, a name of the
 * catalogue; and the exit heads beside it. */
#ifndef CLI_MODEL_PATH_H
#define CLI_MODEL_PATH_H
#include <stdbool.h>
#include <stdint.h>

typedef struct cli_model_path {
    char *file;       /* of a split model: the first part; "-": standard input */
    char *stem;       /* file without ".gguf" and without "-00001-of-0000N" */
    uint32_t n_parts; /* as the name says; 1 */
} cli_model_path;

/* 0, or the exit status of a failure that has been reported. Free with cli_model_path_free
 * either way. */
int cli_model_path_find(cli_model_path *path, const char *model);
void cli_model_path_free(cli_model_path *path);

/* The file of part 0 … n_parts-1; NULL: no memory. */
char *cli_model_path_part(const cli_model_path *path, uint32_t part);

/* The heads to use: `heads` if it is a file's name, NULL for "none", and for NULL NAME.exits.gguf
 * beside the model if it is there.
 * *found is fresh memory or NULL. 0, or the exit status of a reported failure. */
int cli_model_path_heads(const cli_model_path *path, const char *heads, char **found);

#endif
