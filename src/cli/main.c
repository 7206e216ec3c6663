/* The program: finds the command, parses its options, runs it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "commands.h"

#define X(name) extern const cli_command cli_command_##name;
CLI_COMMAND_LIST(X)
#undef X

static const cli_command *const commands[] = {
#define X(name) &cli_command_##name,
    CLI_COMMAND_LIST(X)
#undef X
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static const cli_command *find_command(const char *name) {
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

static int print_help(void) {
    printf("exitlm %s: small language models on the CPU, each token as deep as it needs\n\n"
           "usage: exitlm COMMAND [operands] [options]\n\n",
           EXITLM_VERSION);
    for (size_t i = 0; i < N_COMMANDS; i++)
        printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
    printf("\n\"exitlm COMMAND --help\" describes one of them. Options are written --name value or "
           "--name=value.\n"
           "The server is in the npm package: npx exitlm serve MODEL.\n"
           "MODEL is a GGUF file, the first part of a split one, or a name of the catalogue "
           "(models/catalog.json);\n"
           "its exit heads are NAME.exits.gguf beside it.\n"
           "Exit status: 0, 1 for a failure, 2 for wrong usage.\n");
    return CLI_OK;
}

static int print_version(void) {
    printf("exitlm %s\n", EXITLM_VERSION);
    return CLI_OK;
}

static int unknown_command(const char *word) {
    const char *names[N_COMMANDS + 1];
    for (size_t i = 0; i < N_COMMANDS; i++) names[i] = commands[i]->name;
    names[N_COMMANDS] = NULL;
    const char *closest = cli_closest(word, names);
    if (closest) return cli_usage("unknown command \"%.60s\"; did you mean %s?", word, closest);
    return cli_usage("unknown command \"%.60s\"; \"exitlm --help\" lists the commands", word);
}

static int run_command(const cli_command *command, int argc, char **argv) {
    union {
        max_align_t align;
        char bytes[CLI_MAX_VALUES_BYTES];
    } values;
    const char *operands[8];
    bool given[CLI_MAX_OPTIONS];
    if (command->values_bytes > sizeof values || command->n_operands > 8 ||
        command->n_options > CLI_MAX_OPTIONS)
        return cli_fail("%s: its table of options is too large", command->name);
    int status = CLI_USAGE;
    switch (cli_options_parse(command, argc, argv, &values, operands, given)) {
    case CLI_PARSED: {
        cli_call call = {
            .command = command, .values = &values, .operands = operands, .given = given};
        status = command->run(&call);
        break;
    }
    case CLI_WANTS_HELP:
        cli_options_help(command);
        status = CLI_OK;
        break;
    case CLI_WANTS_VERSION: status = print_version(); break;
    case CLI_BAD_USAGE: break;
    }
    cli_options_free(command, &values);
    return status;
}

static int run(int argc, char **argv) {
    if (argc < 2) return cli_usage("a command is needed; \"exitlm --help\" lists them");
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) return print_help();
    if (strcmp(word, "--version") == 0) return print_version();
    if (strcmp(word, "help") == 0) {
        const cli_command *command = argc > 2 ? find_command(argv[2]) : NULL;
        if (argc > 2 && !command) return unknown_command(argv[2]);
        if (!command) return print_help();
        cli_options_help(command);
        return CLI_OK;
    }
    if (word[0] == '-')
        return cli_usage("unknown option %.60s; a command comes first, see \"exitlm --help\"",
                         word);
    if (strcmp(word, "serve") == 0)
        return cli_fail("serve: this program has no server, the npm package has one: "
                        "npx exitlm serve MODEL");
    const cli_command *command = find_command(word);
    return command ? run_command(command, argc - 2, argv + 2) : unknown_command(word);
}

int main(int argc, char **argv) {
    int status = run(argc, argv);
    errno = 0;
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == CLI_OK)
        status = cli_fail("standard output: cannot be written: %s",
                          errno ? strerror(errno) : "an earlier write failed");
    return status;
}
