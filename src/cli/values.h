/* Option values: text to typed field, with a sentence for what is wrong. */
#ifndef CLI_VALUES_H
#define CLI_VALUES_H
#include "options.h"

/* Sets the option's field in `values` from text. CLI_TEXTS appends; capacity: most values that can
 * come (argc). False with the reason in why. */
bool cli_value_set(const cli_option *option, const char *text, void *values, size_t capacity,
                   char *why, size_t why_bytes);

/* Sets the field to the option's fallback. False: the fallback is not a valid value (a mistake
 * in the table). */
bool cli_value_default(const cli_option *option, void *values);

/* Could the field have been set so? For values that come from elsewhere. */
bool cli_value_allowed(const cli_option *option, const void *values);

#endif
