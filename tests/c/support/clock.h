/* Seconds of a clock, for measurements: CLOCK_MONOTONIC, or CLOCK_PROCESS_CPUTIME_ID where others use
 * the machine too. */
#ifndef CLOCK_H
#define CLOCK_H
#include <time.h>

static inline double clock_s(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
