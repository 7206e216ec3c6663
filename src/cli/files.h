/* Whole files, with their failures reported. */
#ifndef CLI_FILES_H
#define CLI_FILES_H
#include "train/files.h"

/* xl_file_read and xl_file_write: 0, or the exit status of a failure that has been reported. */
int cli_read_file(const char *path, uint64_t max_bytes, char **bytes, size_t *n_bytes);
int cli_write_file(const char *path, const void *bytes, size_t n_bytes);

#endif
