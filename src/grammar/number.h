/* Numbers in decimal digits as automata. */
#ifndef XL_NUMBER_H
#define XL_NUMBER_H
#include "automaton.h"

#define XL_MAX_NUMBER 999999999999999.0 /* 15 digits: exact in a double */

typedef struct xl_interval {
    double low, high;
    bool low_open, high_open; /* without the limit itself */
} xl_interval;

/* Lays the decimal numbers within: whole ones, or those with up to six digits after the point.
 * False: there is none. */
bool xl_lay_numbers(xl_automaton *automaton, uint32_t from, const xl_interval *within, bool whole,
                    uint32_t to);

#endif
