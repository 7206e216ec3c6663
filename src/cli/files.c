#include "files.h"

#include "output.h"

int cli_read_file(const char *path, uint64_t max_bytes, char **bytes, size_t *n_bytes) {
    exitlm_error error;
    return cli_done(xl_file_read(path, max_bytes, bytes, n_bytes, &error), &error);
}

int cli_write_file(const char *path, const void *bytes, size_t n_bytes) {
    exitlm_error error;
    return cli_done(xl_file_write(path, bytes, n_bytes, &error), &error);
}
