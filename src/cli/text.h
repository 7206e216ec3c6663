/* UTF-8 for people and programs. */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Bytes of the character at text[0 … n_bytes-1], 1 … 4, if it is well-formed UTF-8 (no surrogates, nothing over-long); else 0. n_bytes >= 1. */
size_t cli_utf8_length(const char *text, size_t n_bytes);

/* Prints text with control characters and broken UTF-8 replaced by U+FFFD, so that a file cannot command the terminal.
 * lines: line feeds and tabs are kept. */
void cli_print_safe(FILE *out, const char *text, size_t n_bytes, bool lines);

#endif
