/* What every command of the program shares: how it is described.
 *
 * A command is one table of options (options.h), from which its arguments are parsed, its values
 * are checked and its
 * --help is printed, and one function. Exit status: 0, CLI_FAILED for a failure, CLI_USAGE for
 * wrong usage; both with one line on standard error (output.h). */
#ifndef CLI_CLI_H
#define CLI_CLI_H
#include "options.h"
#include "output.h"

typedef struct cli_call cli_call;

typedef struct cli_command {
    const char *name;
    const char *summary;  /* one line for the list of commands */
    const char *operands; /* as in the usage line: "MODEL", "MODEL HEADS" */
    uint32_t n_operands;  /* how many are required; no more are taken */
    const char *notes;    /* printed after the options, or NULL */
    const cli_option *options;
    size_t n_options;
    /* size of the struct that the table's offsets speak of, at most CLI_MAX_VALUES_BYTES */
    size_t values_bytes;
    int (*run)(const cli_call *call);
} cli_command;

/* The fields of a cli_command that say its table of options, and the struct that it fills. */
#define CLI_OPTIONS(table, type) \
    .options = table, .n_options = sizeof table / sizeof *table, .values_bytes = sizeof(type)

struct cli_call {
    const cli_command *command;
    const void *values;          /* the command's struct, filled from the table */
    const char *const *operands; /* [command->n_operands] */
    const bool *given;           /* [command->n_options] named on the command line */
};

/* Whether the option was named on the command line. */
bool cli_given(const cli_call *call, const char *name);
/* Whether the option's field in a struct like call->values holds what could be named there. */
bool cli_allowed(const cli_call *call, const char *name, const void *values);

#endif
