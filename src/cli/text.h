/* UTF-8 for people and programs. */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Prints text with control characters and broken UTF-8 replaced by U+FFFD, so that a file cannot
 * command the terminal. lines: line feeds and tabs are kept. */
void cli_print_safe(FILE *out, const char *text, size_t n_bytes, bool lines);

#endif
