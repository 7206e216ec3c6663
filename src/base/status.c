#include "status.h"

#include <stdarg.h>
#include <stdio.h>

exitlm_status xl_fail(exitlm_error *error, exitlm_status status, const char *format, ...) {
    if (error) {
        error->status = status;
        va_list args;
        va_start(args, format);
        vsnprintf(error->message, sizeof error->message, format, args);
        va_end(args);
        /* Names come from files: no control characters for the terminal, whatever they say. */
        for (char *p = error->message; *p; p++)
            if ((unsigned char)*p < 32 || *p == 127) *p = '?';
    }
    return status;
}

const char *exitlm_status_name(exitlm_status status) {
    static const char *const names[] = {
#define X(name, code) code,
        EXITLM_STATUS_LIST(X)
#undef X
    };
    return (unsigned)status < EXITLM_STATUS_COUNT ? names[status] : "?";
}
