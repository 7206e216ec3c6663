/* How the program reports: "exitlm: " and one line on standard error. Control characters of the
 * text are made harmless. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H
#include "exitlm.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

#if defined(__GNUC__) || defined(__clang__)
#define CLI_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define CLI_PRINTF(f, a)
#endif
int cli_fail(const char *format, ...) CLI_PRINTF(1, 2);  /* returns CLI_FAILED */
int cli_usage(const char *format, ...) CLI_PRINTF(1, 2); /* returns CLI_USAGE */
void cli_warn(const char *format, ...) CLI_PRINTF(1, 2); /* "exitlm: warning: …" */
/* An error of the engine, after the name of the file that it is about (NULL: none). Returns the
 * exit status: CLI_USAGE for EXITLM_USAGE, else CLI_FAILED. */
int cli_report(const exitlm_error *error, const char *file);
/* CLI_OK where `status` is EXITLM_OK, else the error is reported. */
int cli_done(exitlm_status status, const exitlm_error *error);
/* "no memory for WHAT" */
int cli_no_memory(const char *what);

#endif
