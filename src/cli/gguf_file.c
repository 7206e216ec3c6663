#include "gguf_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "output.h"
#include "platform.h"

#define CHUNK_BYTES ((size_t)64 << 10)

static int read_header(cli_gguf_file *file, const char *path, uint8_t *chunk) {
    exitlm_error error;
    bool any = false;
    while (!file->header.done) {
        size_t used, n = fread(chunk, 1, CHUNK_BYTES, file->stream);
        if (ferror(file->stream)) return cli_fail("%s: cannot be read: %s", path, strerror(errno));
        if (n == 0 && !any) return cli_fail("%s: the file is empty; fetch it again", path);
        any = true;
        exitlm_status status = n ? xl_gguf_push(&file->header, chunk, n, &used, &error)
                                 : xl_gguf_truncated(&file->header, &error);
        if (status != EXITLM_OK) return cli_report(&error, path);
    }
    return CLI_OK;
}

int cli_gguf_open(cli_gguf_file *file, const char *path) {
    *file = (cli_gguf_file){0};
    xl_gguf_init(&file->header, &xl_libc_allocator);
    if (xl_file_look(path, &file->n_bytes) == XL_FILE_FOLDER)
        return cli_fail("%s: is a directory; give a GGUF file", path);
    errno = 0;
    file->stream = fopen(path, "rb");
    if (!file->stream) return cli_fail("%s: cannot be opened: %s", path, strerror(errno));
    uint8_t *chunk = malloc(CHUNK_BYTES);
    int status = chunk ? read_header(file, path, chunk) : cli_no_memory("reading the header");
    free(chunk);
    return status;
}

void cli_gguf_close(cli_gguf_file *file) {
    if (file->stream) fclose(file->stream);
    xl_gguf_free(&file->header);
    *file = (cli_gguf_file){0};
}

int cli_gguf_open_parts(cli_gguf_file **files, const cli_model_path *path) {
    *files = calloc(path->n_parts, sizeof **files);
    int status = *files ? CLI_OK : cli_no_memory("the file's header");
    for (uint32_t part = 0; part < path->n_parts && status == CLI_OK; part++) {
        char *name = cli_model_path_part(path, part);
        status = name ? cli_gguf_open(&(*files)[part], name) : cli_no_memory("a file name");
        free(name);
    }
    return status;
}

void cli_gguf_close_parts(cli_gguf_file *files, uint32_t n) {
    for (uint32_t part = 0; files && part < n; part++) cli_gguf_close(&files[part]);
    free(files);
}
