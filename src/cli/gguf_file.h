/* The header of a GGUF file, whatever it holds: for inspect, and for reading pieces of the file. */
#ifndef CLI_GGUF_FILE_H
#define CLI_GGUF_FILE_H
#include <stdio.h>

#include "gguf/gguf.h"
#include "model_path.h"

typedef struct cli_gguf_file {
    FILE *stream;
    xl_gguf header;
    uint64_t n_bytes; /* of the file; 0 where it is no regular file */
} cli_gguf_file;

/* Nothing behind the header: the beginning of a file, or a vocabulary without weights. */
static inline bool cli_gguf_header_alone(const cli_gguf_file *file) {
    return file->n_bytes && file->n_bytes <= file->header.data_offset;
}

/* 0, or the exit status of a reported failure; cli_gguf_close either way. */
int cli_gguf_open(cli_gguf_file *file, const char *path);
void cli_gguf_close(cli_gguf_file *file);
/* The same of all parts: *files [path->n_parts]. */
int cli_gguf_open_parts(cli_gguf_file **files, const cli_model_path *path);
void cli_gguf_close_parts(cli_gguf_file *files, uint32_t n);

#endif
