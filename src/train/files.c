#include "files.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "observer.h"

xl_file_kind xl_file_look(const char *path, uint64_t *n_bytes) {
    struct stat s;
    if (n_bytes) *n_bytes = 0;
    if (stat(path, &s) != 0) return XL_FILE_NONE;
    if (S_ISDIR(s.st_mode)) return XL_FILE_FOLDER;
    if (n_bytes && S_ISREG(s.st_mode) && s.st_size > 0) *n_bytes = (uint64_t)s.st_size;
    return XL_FILE_PLAIN;
}

bool xl_folder_make(const char *path) {
    if (xl_file_look(path, NULL) == XL_FILE_FOLDER) return true;
    char *above = xl_format("%s", path);
    for (char *end = above; end && *end && (end = strchr(end + 1, '/'));) {
        *end = '\0';
        mkdir(above, 0777); /* what fails, fails below */
        *end = '/';
    }
    free(above);
    if (mkdir(path, 0777) == 0) return true;
    const int reason = errno;
    const bool there = xl_file_look(path, NULL) == XL_FILE_FOLDER;
    errno = reason;
    return there;
}

/* All that the stream holds, or a little more than max_bytes; NULL: no memory. */
static char *read_all(FILE *stream, uint64_t max_bytes, size_t *n_bytes) {
    size_t capacity = 1 << 16, n = 0;
    char *data = malloc(capacity + 1);
    while (data) {
        n += fread(data + n, 1, capacity - n, stream);
        if (n < capacity || n > max_bytes) break;
        char *larger = capacity > SIZE_MAX / 4 ? NULL : realloc(data, capacity * 2 + 1);
        if (!larger) free(data);
        data = larger;
        capacity *= 2;
    }
    *n_bytes = n;
    return data;
}

static exitlm_status read_stream(FILE *stream, const char *shown, uint64_t max_bytes, char **bytes,
                                 size_t *n_bytes, exitlm_error *error) {
    size_t n = 0;
    exitlm_status status = EXITLM_OK;
    char *data = read_all(stream, max_bytes, &n);
    if (!data)
        return xl_fail(error, EXITLM_OUT_OF_MEMORY, XL_FILE_NAME ": no memory to read it", shown);
    if (n > max_bytes)
        status =
            xl_fail(error, EXITLM_IO, XL_FILE_NAME ": larger than %llu bytes; give a smaller file",
                    shown, (unsigned long long)max_bytes);
    else if (ferror(stream))
        status =
            xl_fail(error, EXITLM_IO, XL_FILE_NAME ": cannot be read: %s", shown, strerror(errno));
    if (status != EXITLM_OK) {
        free(data);
        return status;
    }
    data[n] = 0;
    *bytes = data;
    *n_bytes = n;
    return EXITLM_OK;
}

exitlm_status xl_file_read(const char *path, uint64_t max_bytes, char **bytes, size_t *n_bytes,
                           exitlm_error *error) {
    *bytes = NULL;
    *n_bytes = 0;
    if (strcmp(path, "-") == 0)
        return read_stream(stdin, "standard input", max_bytes, bytes, n_bytes, error);
    if (xl_file_look(path, NULL) == XL_FILE_FOLDER)
        return xl_fail(error, EXITLM_IO, XL_FILE_NAME ": is a directory; give a file", path);
    errno = 0;
    FILE *stream = fopen(path, "rb");
    if (!stream)
        return xl_fail(error, EXITLM_IO, XL_FILE_NAME ": cannot be opened: %s", path,
                       strerror(errno));
    exitlm_status status = read_stream(stream, path, max_bytes, bytes, n_bytes, error);
    fclose(stream);
    return status;
}

static exitlm_status cannot_write(const char *path, exitlm_error *error) {
    return xl_fail(error, EXITLM_IO, XL_FILE_NAME ": cannot be written: %s", path,
                   errno ? strerror(errno) : "is the disk full?");
}

exitlm_status xl_file_begin(xl_file_out *out, const char *path, exitlm_error *error) {
    struct stat s;
    out->as_it_is = stat(path, &s) == 0 && !S_ISREG(s.st_mode);
    out->path = path;
    out->part = xl_format("%s%s", path, out->as_it_is ? "" : ".part");
    if (!out->part) return xl_no_memory(error, "a file name");
    errno = 0;
    out->stream = fopen(out->part, "wb");
    if (out->stream) return EXITLM_OK;
    free(out->part);
    return cannot_write(path, error);
}

exitlm_status xl_file_end(xl_file_out *out, exitlm_status status, exitlm_error *error) {
    errno = 0;
    bool written = fflush(out->stream) == 0 && !ferror(out->stream);
    written = fclose(out->stream) == 0 && written;
    if (status == EXITLM_OK && written && !out->as_it_is) {
#if defined(__wasi__)
        remove(out->path); /* it would be in the way */
#endif
        written = rename(out->part, out->path) == 0;
    }
    if (status == EXITLM_OK && !written) status = cannot_write(out->path, error);
    if (status != EXITLM_OK && !out->as_it_is) remove(out->part);
    free(out->part);
    return status;
}

exitlm_status xl_file_write(const char *path, const void *bytes, size_t n_bytes,
                            exitlm_error *error) {
    xl_file_out out;
    exitlm_status status = xl_file_begin(&out, path, error);
    if (status != EXITLM_OK) return status;
    fwrite(bytes, 1, n_bytes, out.stream); /* the stream remembers a failure */
    return xl_file_end(&out, EXITLM_OK, error);
}

exitlm_status xl_about(const char *name, exitlm_status status, exitlm_error *error) {
    if (status == EXITLM_OK || !error) return status;
    const exitlm_error plain = *error;
    return xl_fail(error, status, XL_FILE_NAME ": %s", name, plain.message);
}

char *xl_format(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (n < 0) return NULL;
    char *text = malloc((size_t)n + 1);
    if (!text) return NULL;
    va_start(arguments, format);
    vsnprintf(text, (size_t)n + 1, format, arguments);
    va_end(arguments);
    return text;
}

const char *xl_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool xl_ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}
