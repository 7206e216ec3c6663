/* Parsing of a command's options. The help text is in help.c, the values themselves in values.c. */
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "values.h"

typedef struct parser {
    const cli_command *command;
    int argc;
    char **argv;
    int at;
    void *values;
    const char **operands;
    uint32_t n_operands;
    bool *given;
    const cli_option *open_list; /* the CLI_TEXTS that takes bare arguments as further values */
    bool only_operands;          /* after "--" */
    cli_parse_result result;     /* CLI_PARSED, or the --help or --version that was seen */
} parser;

static const cli_option *find_long(const cli_command *command, const char *name, size_t n_bytes) {
    for (size_t i = 0; i < command->n_options; i++) {
        const cli_option *o = &command->options[i];
        if (o->kind != CLI_GROUP && strlen(o->name) == n_bytes &&
            memcmp(o->name, name, n_bytes) == 0)
            return o;
    }
    return NULL;
}

static const cli_option *find_letter(const cli_command *command, char letter) {
    for (size_t i = 0; i < command->n_options; i++)
        if (command->options[i].kind != CLI_GROUP && command->options[i].letter == letter)
            return &command->options[i];
    return NULL;
}

static int unknown_option(const parser *p, const char *argument, size_t name_bytes) {
    const char *names[CLI_MAX_OPTIONS + 3];
    size_t n = 0;
    for (size_t i = 0; i < p->command->n_options && n < CLI_MAX_OPTIONS; i++)
        if (p->command->options[i].kind != CLI_GROUP) names[n++] = p->command->options[i].name;
    names[n++] = "help";
    names[n++] = "version";
    names[n] = NULL;
    char word[64];
    snprintf(word, sizeof word, "%.*s", (int)(name_bytes < 60 ? name_bytes : 60), argument);
    const char *bare = word + strspn(word, "-");
    const char *closest = cli_closest(bare, names);
    if (closest)
        return cli_usage("%s: unknown option %s; did you mean --%s?", p->command->name, word,
                         closest);
    return cli_usage("%s: unknown option %s; \"exitlm %s --help\" lists the options",
                     p->command->name, word, p->command->name);
}

/* Whether an argument is written like an option: "-x", "--name", "--name=…"; "-", "-5" and "-.5"
 * are not. */
static bool looks_like_option(const char *argument) {
    return argument[0] == '-' && argument[1] != 0 && strchr("0123456789.", argument[1]) == NULL;
}

/* Whether an argument is an option of this command, so that it can hardly be meant as the value
 * before it. */
static bool is_known_option(const parser *p, const char *argument) {
    if (strncmp(argument, "--", 2) != 0) return false;
    size_t n = strcspn(argument + 2, "=");
    return find_long(p->command, argument + 2, n) != NULL;
}

static bool set_value(parser *p, const cli_option *option, const char *shown, const char *text) {
    char why[256];
    if (!cli_value_set(option, text, p->values, (size_t)p->argc, why, sizeof why)) {
        cli_usage("%s: %s: %s", p->command->name, shown, why);
        return false;
    }
    return true;
}

static bool take_option(parser *p, const cli_option *option, const char *shown,
                        const char *attached) {
    p->given[option - p->command->options] = true;
    p->open_list = NULL;
    if (option->kind == CLI_FLAG) {
        if (attached) {
            cli_usage("%s: %s takes no value, \"%s\" was given", p->command->name, shown, attached);
            return false;
        }
        *(bool *)((char *)p->values + option->offset) = true;
        return true;
    }
    const char *text = attached;
    if (!text) {
        const char *next = p->at < p->argc ? p->argv[p->at] : NULL;
        bool textual = option->kind == CLI_TEXT || option->kind == CLI_TEXTS;
        if (!next || (textual ? is_known_option(p, next) : looks_like_option(next))) {
            cli_usage("%s: %s needs a value: %s %s", p->command->name, shown, shown,
                      option->value ? option->value : "VALUE");
            return false;
        }
        text = next;
        p->at++;
        if (option->kind == CLI_TEXTS) p->open_list = option;
    }
    return set_value(p, option, shown, text);
}

static bool take_long(parser *p, const char *argument) {
    size_t n = strcspn(argument + 2, "=");
    const char *attached = argument[2 + n] == '=' ? argument + 3 + n : NULL;
    const cli_option *option = find_long(p->command, argument + 2, n);
    if (!option) {
        unknown_option(p, argument, 2 + n);
        return false;
    }
    char shown[64];
    snprintf(shown, sizeof shown, "--%s", option->name);
    return take_option(p, option, shown, attached);
}

/* -x VALUE, -xVALUE, -x=VALUE. */
static bool take_short(parser *p, const char *argument) {
    const cli_option *option = find_letter(p->command, argument[1]);
    if (!option) {
        unknown_option(p, argument, strcspn(argument, "="));
        return false;
    }
    char shown[3] = {'-', argument[1], 0};
    const char *attached = argument[2] == 0     ? NULL
                           : argument[2] == '=' ? argument + 3
                                                : argument + 2;
    return take_option(p, option, shown, attached);
}

static bool take_operand(parser *p, const char *argument) {
    if (p->n_operands < p->command->n_operands) {
        p->operands[p->n_operands++] = argument;
        p->open_list = NULL;
        return true;
    }
    if (p->open_list && !p->only_operands) {
        const cli_option *option = p->open_list;
        return set_value(p, option, option->name, argument);
    }
    cli_usage("%s: unexpected argument \"%s\"; it takes %s and options", p->command->name, argument,
              p->command->n_operands ? p->command->operands : "no operands");
    return false;
}

static bool take_argument(parser *p) {
    const char *argument = p->argv[p->at++];
    if (p->only_operands || !looks_like_option(argument)) return take_operand(p, argument);
    if (strcmp(argument, "--") == 0) {
        p->only_operands = true;
        return true;
    }
    if (strcmp(argument, "--help") == 0 ||
        (strcmp(argument, "-h") == 0 && !find_letter(p->command, 'h'))) {
        p->result = CLI_WANTS_HELP;
        return true;
    }
    if (strcmp(argument, "--version") == 0) {
        p->result = CLI_WANTS_VERSION;
        return true;
    }
    return argument[1] == '-' ? take_long(p, argument) : take_short(p, argument);
}

/* The operand that is missing: word `index` of "MODEL HEADS". */
static void missing_operand(const parser *p) {
    const char *word = p->command->operands;
    for (uint32_t i = 0; i < p->n_operands && *word; i++) {
        word += strcspn(word, " ");
        word += strspn(word, " ");
    }
    cli_usage("%s: %.*s is missing: exitlm %s %s [options]", p->command->name,
              (int)strcspn(word, " "), word, p->command->name, p->command->operands);
}

cli_parse_result cli_options_parse(const cli_command *command, int argc, char **argv, void *values,
                                   const char **operands, bool *given) {
    parser p = {.command = command,
                .argc = argc,
                .argv = argv,
                .values = values,
                .operands = operands,
                .given = given,
                .result = CLI_PARSED};
    memset(values, 0, command->values_bytes);
    for (size_t i = 0; i < command->n_options; i++) given[i] = false;
    for (size_t i = 0; i < command->n_options; i++)
        if (!cli_value_default(&command->options[i], values)) {
            cli_usage("%s: default of --%s is not valid", command->name, command->options[i].name);
            return CLI_BAD_USAGE;
        }
    while (p.at < argc) {
        if (!take_argument(&p)) return CLI_BAD_USAGE;
        if (p.result != CLI_PARSED) return p.result;
    }
    if (p.n_operands < command->n_operands) {
        missing_operand(&p);
        return CLI_BAD_USAGE;
    }
    return CLI_PARSED;
}

void cli_options_free(const cli_command *command, void *values) {
    for (size_t i = 0; i < command->n_options; i++) {
        const cli_option *o = &command->options[i];
        if (o->kind == CLI_TEXTS) free(((cli_texts *)((char *)values + o->offset))->items);
    }
}

bool cli_given(const cli_call *call, const char *name) {
    const cli_option *option = find_long(call->command, name, strlen(name));
    return option && call->given[option - call->command->options];
}

bool cli_allowed(const cli_call *call, const char *name, const void *values) {
    const cli_option *option = find_long(call->command, name, strlen(name));
    return option && cli_value_allowed(option, values);
}

/* Edits (insert, delete, replace, swap of neighbours counts two) from a to b; words are cut to
 * 40 letters. */
static size_t distance(const char *a, const char *b) {
    enum { LONGEST = 40 };
    size_t row[LONGEST + 1], n = strlen(b);
    if (n > LONGEST) n = LONGEST;
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 0; a[i] && i < LONGEST; i++) {
        size_t corner = row[0];
        row[0] = i + 1;
        for (size_t j = 1; j <= n; j++) {
            size_t best = corner + (a[i] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            corner = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

const char *cli_closest(const char *word, const char *const *list) {
    const char *best = NULL;
    size_t best_edits = strlen(word) / 3 + 1, letters = strlen(word);
    if (letters < 2) return NULL;
    for (; *list; list++) {
        if (letters >= 3 && strncmp(*list, word, letters) == 0) return *list;
        size_t edits = distance(word, *list);
        if (edits <= best_edits && (!best || edits < best_edits)) {
            best = *list;
            best_edits = edits;
        }
    }
    return best;
}
