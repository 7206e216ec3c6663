/* Options of a command: one table for parsing, checking and --help. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The kinds of values, and the type of the field that holds each. */
typedef enum cli_kind {
    CLI_GROUP,   /* no option: a headline of the help text */
    CLI_FLAG,    /* bool */
    CLI_TEXT,    /* const char * (NULL: not given); also file names */
    CLI_TEXTS,   /* cli_texts: may be repeated, and takes several values: --stop A B --stop C */
    CLI_COUNT,   /* uint32_t within [min, max] */
    CLI_SEED,    /* uint64_t, any */
    CLI_BYTES,   /* uint64_t; 500000, 24M, 1.5G (powers of 1024) */
    CLI_NUMBER,  /* float within [min, max] */
    CLI_CHOICE,  /* int: index in choices; -1: not given */
    CLI_COUNTS,  /* cli_counts: 18,24,30, each within [min, max] */
    CLI_NUMBERS, /* cli_numbers: 0.9,0.95, each within [min, max] */
    CLI_THREADS  /* uint32_t: 1 … 64, or "auto": the processors of this machine */
} cli_kind;

#define CLI_MAX_LIST 32
#define CLI_MAX_VALUES_BYTES 4096
#define CLI_MAX_OPTIONS 64

typedef struct cli_texts {
    const char **items; /* point into argv; the array is freed by the program */
    size_t n;
} cli_texts;
typedef struct cli_counts {
    uint32_t items[CLI_MAX_LIST];
    size_t n;
} cli_counts;
typedef struct cli_numbers {
    float items[CLI_MAX_LIST];
    size_t n;
} cli_numbers;

typedef struct cli_option {
    const char *name; /* long name without dashes; the headline of a CLI_GROUP */
    char letter;      /* short name, or 0 */
    cli_kind kind;
    size_t offset;     /* of the field in the command's struct */
    const char *value; /* placeholder in the help text: "N"; NULL for flags and choices */
    const char *help;  /* what it does; range and default are added */
    double min, max;   /* COUNT, NUMBER, COUNTS, NUMBERS */
    /* value where the option is not given, written as on the command line; NULL: zero, NULL or
     * -1 */
    const char *fallback;
    const char *const *choices; /* CHOICE: NULL-terminated */
} cli_option;

/* Rows of the table. A command's file says AT(field): the field's offset in its struct. */
#define CLI_HEADLINE(text) {.name = text, .kind = CLI_GROUP}
#define CLI_SWITCH(short, long, field, text) \
    {long, short, CLI_FLAG, AT(field), NULL, text, 0, 0, NULL, NULL}
#define CLI_VALUE(type, short, long, field, shown, preset, text) \
    {long, short, CLI_##type, AT(field), shown, text, 0, 0, preset, NULL}
#define CLI_RANGE(type, long, field, shown, least, most, preset, text) \
    {long, 0, CLI_##type, AT(field), shown, text, least, most, preset, NULL}
#define CLI_ONE_OF(long, field, list, preset, text) \
    {long, 0, CLI_CHOICE, AT(field), NULL, text, 0, 0, preset, list}

struct cli_command;

typedef enum cli_parse_result {
    CLI_PARSED,
    CLI_WANTS_HELP,
    CLI_WANTS_VERSION,
    CLI_BAD_USAGE
} cli_parse_result;

/* Fills `values` (command->values_bytes, zeroed here), operands [command->n_operands] and given
 * [n_options] from the arguments after the command's name. CLI_BAD_USAGE has been reported.
 * Always to be followed by cli_options_free. */
cli_parse_result cli_options_parse(const struct cli_command *command, int argc, char **argv,
                                   void *values, const char **operands, bool *given);
void cli_options_free(const struct cli_command *command, void *values);

/* The help text of one command, on standard output. */
void cli_options_help(const struct cli_command *command);

/* The entry of the NULL-terminated list that `word` most likely meant, or NULL. */
const char *cli_closest(const char *word, const char *const *list);

#endif
