/* One HTTP exchange of wasi:http 0.2, without the component model's details. */
#ifndef SERVICE_HTTP_H
#define SERVICE_HTTP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct http_exchange {
    int32_t request, outparam, body, stream; /* handles; 0: none, or used up */
    bool gone;                               /* the client takes no more */
} http_exchange;

typedef enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_OTHER } http_method;

http_method http_method_of(const http_exchange *x);
/* Path and query, fresh memory, or NULL. */
char *http_path(const http_exchange *x);
/* The request's body with a NUL behind it, fresh memory; NULL where it cannot be read or is
 * longer than max_bytes (then *too_long). */
char *http_read_body(http_exchange *x, size_t max_bytes, size_t *n_bytes, bool *too_long);
/* Sends status and headers; `retry_after` NULL: none. The body follows by http_write, then
 * http_end. */
void http_begin(http_exchange *x, uint16_t status, const char *content_type,
                const char *retry_after);
/* False, now and later: the client has gone. */
bool http_write(http_exchange *x, const void *bytes, size_t n_bytes);
void http_end(http_exchange *x);
/* Ends the exchange, whether it was answered or not. */
void http_close(http_exchange *x);

#endif
