/* An allocator that counts, checks what is given back, and fails when told to. */
#ifndef COUNTING_H
#define COUNTING_H
#include "exitlm.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct counting {
    /* give this to the engine; points to the struct, which must not move */
    exitlm_allocator allocator;
    size_t now_bytes, peak_bytes, blocks, calls;
    size_t fail_at;  /* the call with this number (from 1) and all later ones get NULL; 0: none */
    bool fail_once;  /* only that call */
    bool wrong_size; /* a block was given back with another size than it had */
} counting;
void counting_init(counting *c);

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

#endif
