/* wasi:http 0.2 in the component model's own calling convention: what is returned and is no plain
 * number comes in memory of the caller's, a variant as its number in the first byte, a handle as
 * a 32-bit number. The functions are those of deps/. */
#include "http.h"

#include <stdlib.h>
#include <string.h>

#define IMPORT(interface, name) \
    __attribute__((import_module("wasi:" interface "@0.2.0"), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

enum { WRITE_BYTES = 4096 }; /* most of one blocking write */

/* Room for anything that is returned here; every variant's payload lies at 4 (at 8 where it is
 * error-code). */
typedef union returned {
    uint8_t tag;
    struct {
        int32_t tag, value, more;
    } words;
    uint64_t align[8];
} returned;

IMPORT("http/types", "[method]incoming-request.method")
void request_method(int32_t self, returned *out);
IMPORT("http/types", "[method]incoming-request.path-with-query")
void request_path(int32_t self, returned *out);
IMPORT("http/types", "[method]incoming-request.consume")
void request_consume(int32_t self, returned *out);
IMPORT("http/types", "[method]incoming-body.stream")
void incoming_stream(int32_t self, returned *out);
IMPORT("http/types", "[constructor]fields") int32_t fields_new(void);
IMPORT("http/types", "[method]fields.append")
void fields_append(int32_t self, const char *name, size_t name_bytes, const char *value,
                   size_t value_bytes, returned *out);
IMPORT("http/types", "[constructor]outgoing-response") int32_t response_new(int32_t headers);
IMPORT("http/types", "[method]outgoing-response.set-status-code")
int32_t response_status(int32_t self, int32_t status);
IMPORT("http/types", "[method]outgoing-response.body")
void response_body(int32_t self, returned *out);
IMPORT("http/types", "[method]outgoing-body.write")
void outgoing_stream(int32_t self, returned *out);
IMPORT("http/types", "[static]outgoing-body.finish")
void outgoing_finish(int32_t body, int32_t has_trailers, int32_t trailers, returned *out);
/* A result<outgoing-response, error-code>, flat: which, the response, and the numbers of the
 * longest error. */
IMPORT("http/types", "[static]response-outparam.set")
void outparam_set(int32_t self, int32_t is_error, int32_t response, int32_t a, int64_t b, int32_t c,
                  int32_t d, int32_t e, int32_t f);
IMPORT("http/types", "[resource-drop]incoming-request") void request_drop(int32_t self);
IMPORT("http/types", "[resource-drop]incoming-body") void incoming_drop(int32_t self);
IMPORT("io/streams", "[method]input-stream.blocking-read")
void stream_read(int32_t self, int64_t n_bytes, returned *out);
IMPORT("io/streams", "[method]output-stream.blocking-write-and-flush")
void stream_write(int32_t self, const void *bytes, size_t n_bytes, returned *out);
IMPORT("io/streams", "[resource-drop]input-stream") void input_drop(int32_t self);
IMPORT("io/streams", "[resource-drop]output-stream") void output_drop(int32_t self);
IMPORT("io/error", "[resource-drop]error") void error_drop(int32_t self);

/* Where the host puts what it returns and what has no fixed size. */
EXPORT("cabi_realloc")
void *cabi_realloc(void *old, size_t old_bytes, size_t align, size_t new_bytes) {
    (void)old_bytes;
    (void)align; /* malloc's is enough for all that comes */
    if (new_bytes == 0) return (void *)align;
    void *memory = realloc(old, new_bytes);
    if (!memory) __builtin_trap();
    return memory;
}

/* A stream's failure may own an error. */
static void forget_error(const returned *r) {
    if ((uint8_t)r->words.value == 0) error_drop(r->words.more);
}

http_method http_method_of(const http_exchange *x) {
    returned r = {0};
    request_method(x->request, &r);
    if (r.tag == 9) free((void *)(uintptr_t)r.words.value); /* another one, by its name */
    return r.tag == 0 ? HTTP_GET : r.tag == 1 ? HTTP_HEAD : r.tag == 2 ? HTTP_POST : HTTP_OTHER;
}

char *http_path(const http_exchange *x) {
    returned r = {0};
    request_path(x->request, &r);
    if (r.tag == 0) return NULL;
    char *text = (char *)(uintptr_t)r.words.value;
    size_t n = (size_t)r.words.more;
    char *path = n ? realloc(text, n + 1) : calloc(1, 1);
    if (path) path[n] = 0;
    return path;
}

/* Appends what the stream has; false at its end. */
static bool read_more(int32_t stream, char **text, size_t *n, bool *failed) {
    returned r = {0};
    stream_read(stream, 16384, &r);
    if (r.tag != 0) {
        forget_error(&r);
        *failed = (uint8_t)r.words.value == 0;
        return false;
    }
    void *bytes = (void *)(uintptr_t)r.words.value;
    size_t more = (size_t)r.words.more;
    char *grown = realloc(*text, *n + more + 1);
    if (grown) {
        *text = grown;
        if (more) memcpy(grown + *n, bytes, more);
        *n += more;
        grown[*n] = 0;
    }
    if (more) free(bytes);
    *failed = !grown;
    return grown != NULL;
}

char *http_read_body(http_exchange *x, size_t max_bytes, size_t *n_bytes, bool *too_long) {
    returned r = {0};
    char *text = calloc(1, 1);
    bool failed = !text;
    *n_bytes = 0;
    *too_long = false;
    request_consume(x->request, &r);
    if (r.tag != 0) failed = true;
    int32_t body = r.words.value;
    if (!failed) incoming_stream(body, &r);
    if (!failed && r.tag == 0) {
        int32_t stream = r.words.value;
        while (!*too_long && read_more(stream, &text, n_bytes, &failed))
            *too_long = *n_bytes > max_bytes;
        input_drop(stream);
        incoming_drop(body);
    }
    if (!failed && !*too_long) return text;
    free(text);
    return NULL;
}

static void add_header(int32_t headers, const char *name, const char *value) {
    returned r;
    fields_append(headers, name, strlen(name), value, strlen(value), &r);
}

void http_begin(http_exchange *x, uint16_t status, const char *content_type,
                const char *retry_after) {
    returned r = {0};
    int32_t headers = fields_new();
    add_header(headers, "content-type", content_type);
    if (retry_after) add_header(headers, "retry-after", retry_after);
    int32_t response = response_new(headers);
    response_status(response, status);
    response_body(response, &r);
    x->body = r.tag == 0 ? r.words.value : 0;
    if (x->body) outgoing_stream(x->body, &r);
    x->stream = x->body && r.tag == 0 ? r.words.value : 0;
    outparam_set(x->outparam, 0, response, 0, 0, 0, 0, 0, 0);
    x->outparam = 0;
}

bool http_write(http_exchange *x, const void *bytes, size_t n_bytes) {
    for (size_t at = 0; at < n_bytes && x->stream && !x->gone; at += WRITE_BYTES) {
        returned r = {0};
        stream_write(x->stream, (const char *)bytes + at,
                     n_bytes - at < WRITE_BYTES ? n_bytes - at : WRITE_BYTES, &r);
        if (r.tag == 0) continue;
        forget_error(&r);
        x->gone = true;
    }
    return !x->gone;
}

void http_end(http_exchange *x) {
    returned r;
    if (x->stream) output_drop(x->stream);
    if (x->body) outgoing_finish(x->body, 0, 0, &r);
    x->stream = x->body = 0;
}

void http_close(http_exchange *x) {
    http_end(x);
    request_drop(x->request);
}
