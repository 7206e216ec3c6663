/* The commands, in the order of `exitlm --help`. X(NAME): src/cli/cmd_NAME.c defines `const
 * cli_command cli_command_NAME`. A new command is that file and one line here. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#define CLI_COMMAND_LIST(X) \
    X(chat)                 \
    X(pull)                 \
    X(score)                \
    X(bench)                \
    X(inspect)              \
    X(tokenize)             \
    X(gather)               \
    X(train)                \
    X(calibrate)            \
    X(eval)                 \
    X(pack)

#endif
