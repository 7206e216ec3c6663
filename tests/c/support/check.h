/* CHECK: says where a condition does not hold, and with what; goes on up to twenty times. A test
 * program defines `failures` once and ends with it. */
#ifndef CHECK_H
#define CHECK_H
#include <stdio.h>
#include <stdlib.h>

extern int failures;

#define CHECK(condition, ...)                               \
    do {                                                    \
        if (!(condition)) {                                 \
            fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
            fprintf(stderr, __VA_ARGS__);                   \
            fputc('\n', stderr);                            \
            if (++failures > 20) exit(1);                   \
        }                                                   \
    } while (0)

#endif
