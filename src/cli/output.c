#include "output.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text.h"

static void print_line(const char *prefix, const char *format, va_list arguments) {
    char line[1400];
    vsnprintf(line, sizeof line, format, arguments);
    fflush(stdout);
    fputs(prefix, stderr);
    cli_print_safe(stderr, line, strlen(line), false);
    fputc('\n', stderr);
}

int cli_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print_line("exitlm: ", format, arguments);
    va_end(arguments);
    return CLI_FAILED;
}

int cli_usage(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print_line("exitlm: ", format, arguments);
    va_end(arguments);
    return CLI_USAGE;
}

void cli_warn(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print_line("exitlm: warning: ", format, arguments);
    va_end(arguments);
}

int cli_report(const exitlm_error *error, const char *file) {
    if (file) cli_fail("%s: %s", file, error->message);
    else cli_fail("%s", error->message);
    return error->status == EXITLM_USAGE ? CLI_USAGE : CLI_FAILED;
}

int cli_done(exitlm_status status, const exitlm_error *error) {
    return status == EXITLM_OK ? CLI_OK : cli_report(error, NULL);
}

int cli_no_memory(const char *what) {
    return cli_fail("no memory for %s; free some, or choose a smaller model", what);
}
