/* The help text of a command, from its table of options. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

enum { LEFT = 26, WIDTH = 100 };

/* "  -p, --prompt TEXT" to `out`. */
static void left_side(const cli_option *o, char *out, size_t out_bytes) {
    char value[80] = "";
    if (o->kind == CLI_CHOICE) {
        size_t n = 0;
        for (int i = 0; o->choices[i] && n < sizeof value; i++)
            n += (size_t)snprintf(value + n, sizeof value - n, "%s%s", i ? "|" : "", o->choices[i]);
    } else if (o->kind == CLI_TEXTS) {
        snprintf(value, sizeof value, "%s ...", o->value);
    } else if (o->value) {
        snprintf(value, sizeof value, "%s", o->value);
    }
    char letter[8] = "    ";
    if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
    snprintf(out, out_bytes, "  %s--%s%s%s", letter, o->name, *value ? " " : "", value);
}

/* " (0 to 10, default 0)", or "". */
static void range(const cli_option *o, char *out, size_t out_bytes) {
    char limits[64] = "";
    if (o->kind == CLI_COUNT || o->kind == CLI_COUNTS)
        snprintf(limits, sizeof limits, "%.0f to %.0f", o->min, o->max);
    if (o->kind == CLI_NUMBER || o->kind == CLI_NUMBERS)
        snprintf(limits, sizeof limits, "%g to %g", o->min, o->max);
    if (o->kind == CLI_THREADS) snprintf(limits, sizeof limits, "or auto");
    *out = 0;
    if (o->fallback)
        snprintf(out, out_bytes, " (%s%sdefault %s)", limits, *limits ? ", " : "", o->fallback);
    else if (*limits) snprintf(out, out_bytes, " (%s)", limits);
}

/* Words wrapped to WIDTH, continued at column LEFT; the cursor is at `column`. */
static void wrap(const char *text, size_t column) {
    bool first = true;
    while (*text) {
        size_t n = strcspn(text, " ");
        if (!first && column + 1 + n > WIDTH) {
            printf("\n%*s", LEFT, "");
            column = LEFT;
            first = true;
        }
        if (!first) {
            putchar(' ');
            column++;
        }
        fwrite(text, 1, n, stdout);
        column += n;
        text += n;
        text += strspn(text, " ");
        first = false;
    }
    putchar('\n');
}

static void print_option(const char *left, const char *help) {
    size_t n = strlen(left);
    if (n + 2 > LEFT) printf("%s\n%*s", left, LEFT, "");
    else printf("%-*s", LEFT, left);
    wrap(help, LEFT);
}

void cli_options_help(const cli_command *command) {
    printf("%s\n\nusage: exitlm %s%s%s%s\n", command->summary, command->name,
           command->n_operands ? " " : "", command->operands,
           command->n_options ? " [options]" : "");
    bool headline = command->n_options && command->options[0].kind == CLI_GROUP;
    if (!headline) printf("\n");
    for (size_t i = 0; i < command->n_options; i++) {
        const cli_option *o = &command->options[i];
        if (o->kind == CLI_GROUP) {
            printf("\n%s\n", o->name);
            continue;
        }
        char left[128], limits[128], help[600];
        left_side(o, left, sizeof left);
        range(o, limits, sizeof limits);
        snprintf(help, sizeof help, "%s%s", o->help, limits);
        print_option(left, help);
    }
    printf("\n");
    print_option("  -h, --help", "this text");
    print_option("      --version", "the program's version");
    if (command->notes) printf("\n%s\n", command->notes);
}
