/* Whole files and names. */
#ifndef CLI_FILES_H
#define CLI_FILES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The whole file ("-": standard input), with a NUL behind it. 0, or the exit status of a failure that has been reported.
 * More than max_bytes is a failure. *bytes is to be freed. */
int cli_read_file(const char *path, uint64_t max_bytes, char **bytes, size_t *n_bytes);

/* Writes a whole file, under another name first, so that an interrupted write leaves the old one. 0, or the status of a reported failure. */
int cli_write_file(const char *path, const void *bytes, size_t n_bytes);

/* printf to fresh memory; NULL: no memory. */
char *cli_format(const char *format, ...)
#if defined(__GNUC__) || defined(__clang__)
    __attribute__((format(printf, 1, 2)))
#endif
    ;

/* Behind the last slash. */
const char *cli_base_name(const char *path);
bool cli_ends_with(const char *text, const char *end);

#endif
