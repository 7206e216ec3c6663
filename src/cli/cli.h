/* What every command of the program shares: how it is described, how it reports.
 *
 * A command is one table of options (options.h), from which its arguments are parsed, its values are checked and its
 * --help is printed, and one function. Exit status: 0, CLI_FAILED for a failure, CLI_USAGE for wrong usage; both
 * with one line on standard error. */
#ifndef CLI_CLI_H
#define CLI_CLI_H
#include "exitlm.h"
#include "options.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

typedef struct cli_call cli_call;

typedef struct cli_command {
    const char *name;
    const char *summary;     /* one line for the list of commands */
    const char *operands;    /* as in the usage line: "MODEL", "MODEL HEADS" */
    uint32_t n_operands;     /* how many are required; no more are taken */
    const char *notes;       /* printed after the options, or NULL */
    const cli_option *options;
    size_t n_options;
    size_t values_bytes;     /* size of the struct that the table's offsets speak of, at most CLI_MAX_VALUES_BYTES */
    int (*run)(const cli_call *call);
} cli_command;

struct cli_call {
    const cli_command *command;
    const void *values;        /* the command's struct, filled from the table */
    const char *const *operands; /* [command->n_operands] */
    const bool *given;         /* [command->n_options] named on the command line */
};

/* Whether the option was named on the command line. */
bool cli_given(const cli_call *call, const char *name);

/* ---- Reporting: "exitlm: " and one line on standard error; control characters of the text are made harmless ---- */
#if defined(__GNUC__) || defined(__clang__)
#define CLI_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define CLI_PRINTF(f, a)
#endif
int cli_fail(const char *format, ...) CLI_PRINTF(1, 2);  /* returns CLI_FAILED */
int cli_usage(const char *format, ...) CLI_PRINTF(1, 2); /* returns CLI_USAGE */
void cli_warn(const char *format, ...) CLI_PRINTF(1, 2); /* "exitlm: warning: …" */
/* An error of the engine, after the name of the file that it is about (NULL: none). Returns the exit status: CLI_USAGE for
 * EXITLM_USAGE, else CLI_FAILED. */
int cli_report(const exitlm_error *error, const char *file);
/* "no memory for WHAT" */
int cli_no_memory(const char *what);

#endif
