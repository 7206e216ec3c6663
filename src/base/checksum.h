/* A fast checksum against damage: of what a cache on this device keeps. Whoever may change the
 * bytes can change it too; for that there is SHA-256. */
#ifndef XL_CHECKSUM_H
#define XL_CHECKSUM_H
#include <stddef.h>
#include <stdint.h>

/* The same on every machine. Any change within 8 aligned bytes changes it for certain, any other
 * but once in 2^64. */
uint64_t xl_checksum(const void *bytes, size_t n_bytes);

/* The same of bytes that come in pieces, each but the last a multiple of 32. */
typedef struct xl_summing {
    uint64_t lanes[4], n_bytes;
} xl_summing;
void xl_summing_begin(xl_summing *s);
void xl_summing_add(xl_summing *s, const void *bytes, size_t n_bytes);
uint64_t xl_summing_end(const xl_summing *s);

#endif
