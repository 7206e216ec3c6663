#include "files.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "platform.h"

static int read_stream(FILE *stream, const char *shown, uint64_t max_bytes, char **bytes, size_t *n_bytes) {
    size_t capacity = 1 << 16, n = 0;
    char *data = malloc(capacity + 1);
    while (data) {
        n += fread(data + n, 1, capacity - n, stream);
        if (n < capacity || n > max_bytes) break;
        char *larger = capacity > SIZE_MAX / 4 ? NULL : realloc(data, capacity * 2 + 1);
        if (!larger) {
            free(data);
            data = NULL;
        } else {
            data = larger;
            capacity *= 2;
        }
    }
    if (!data) return cli_fail("%s: no memory to read it", shown);
    if (ferror(stream) || n > max_bytes) {
        free(data);
        if (n > max_bytes) return cli_fail("%s: larger than %llu bytes; give a smaller file", shown, (unsigned long long)max_bytes);
        return cli_fail("%s: cannot be read: %s", shown, strerror(errno));
    }
    data[n] = 0;
    *bytes = data;
    *n_bytes = n;
    return CLI_OK;
}

int cli_read_file(const char *path, uint64_t max_bytes, char **bytes, size_t *n_bytes) {
    *bytes = NULL;
    *n_bytes = 0;
    if (strcmp(path, "-") == 0) return read_stream(stdin, "standard input", max_bytes, bytes, n_bytes);
    if (cli_path(path, NULL) == CLI_PATH_DIRECTORY) return cli_fail("%s: is a directory; give a file", path);
    errno = 0;
    FILE *stream = fopen(path, "rb");
    if (!stream) return cli_fail("%s: cannot be opened: %s", path, strerror(errno));
    int status = read_stream(stream, path, max_bytes, bytes, n_bytes);
    fclose(stream);
    return status;
}

int cli_write_file(const char *path, const void *bytes, size_t n_bytes) {
    char *part = cli_format("%s.part", path);
    if (!part) return cli_no_memory("a file name");
    errno = 0;
    FILE *f = fopen(part, "wb");
    bool fine = f && (n_bytes == 0 || fwrite(bytes, 1, n_bytes, f) == n_bytes);
    if (f) fine = fclose(f) == 0 && fine;
    if (fine) fine = rename(part, path) == 0;
    int status = fine ? CLI_OK : cli_fail("%s: cannot be written: %s", path, strerror(errno));
    if (!fine && f) remove(part);
    free(part);
    return status;
}

char *cli_format(const char *format, ...) {
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

const char *cli_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool cli_ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}
