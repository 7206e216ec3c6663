/* Whole files, folders and names, for training and the program alone: the engine touches no files.
 * A failure's message begins with the file's name. */
#ifndef XL_FILES_H
#define XL_FILES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

#define XL_FILE_NAME "%.300s" /* in a message: leaves room for the reason */

typedef enum xl_file_kind { XL_FILE_NONE, XL_FILE_PLAIN, XL_FILE_FOLDER } xl_file_kind;
/* Pipes and devices count as plain. n_bytes (may be NULL): 0 where it is no regular file. */
xl_file_kind xl_file_look(const char *path, uint64_t *n_bytes);

/* The whole file ("-": standard input), with a NUL behind it. More than max_bytes is a failure.
 * *bytes is to be freed; NULL after a failure. */
exitlm_status xl_file_read(const char *path, uint64_t max_bytes, char **bytes, size_t *n_bytes,
                           exitlm_error *error);

/* A file that is written in pieces, under another name, PATH.part, until it is whole: a failure leaves
 * the old one. A pipe or a device is written as it is. */
typedef struct xl_file_out {
    FILE *stream;
    const char *path;
    char *part;
    bool as_it_is;
} xl_file_out;
exitlm_status xl_file_begin(xl_file_out *out, const char *path, exitlm_error *error);
/* After xl_file_begin has succeeded. `status` of what was to be written: where it is a failure the
 * old file stays, and that status is returned. What the stream could not write is a failure, too. */
exitlm_status xl_file_end(xl_file_out *out, exitlm_status status, exitlm_error *error);
/* The same for a file that is there as a whole. */
exitlm_status xl_file_write(const char *path, const void *bytes, size_t n_bytes,
                            exitlm_error *error);

/* Puts the name of what it is about, a file mostly, before the message of a failure; returns
 * `status`. */
exitlm_status xl_about(const char *name, exitlm_status status, exitlm_error *error);

/* Creates a folder, and those above it, if it is not there. errno says why it cannot be. */
bool xl_folder_make(const char *path);

/* printf to fresh memory; NULL: no memory. */
char *xl_format(const char *format, ...) XL_PRINTF(1, 2);

/* Behind the last slash. */
const char *xl_base_name(const char *path);
bool xl_ends_with(const char *text, const char *end);

#endif
