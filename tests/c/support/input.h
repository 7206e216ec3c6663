/* What the fuzz targets share: numbers from the fuzzer's bytes, changes of a good file. */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H
#include "gguf/gguf_write.h"

#include <stdio.h>
#include <stdlib.h>

#define EXPECT(condition)                                                             \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                  \
        }                                                                             \
    } while (0)

typedef struct input {
    const uint8_t *data;
    size_t n;
} input;

/* The next n bytes as a number; fewer where they are at an end. */
static inline uint32_t take(input *in, int n) {
    uint32_t value = 0;
    for (; n > 0 && in->n > 0; n--, in->n--) value = value << 8 | *in->data++;
    return value;
}

/* n changes of 1 to 8 bytes; a place has so many bytes in the input. */
static inline void change(xl_buffer *file, input *in, uint32_t n, int place_bytes) {
    for (uint32_t i = 0; i < n && in->n; i++) {
        size_t at = take(in, place_bytes) % file->n_bytes, count = take(in, 1) % 8 + 1;
        for (size_t j = 0; j < count && at + j < file->n_bytes; j++)
            file->data[at + j] = (uint8_t)take(in, 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
