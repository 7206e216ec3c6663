/* SHA-256 (FIPS 180-4), from bytes in any chunking. */
#ifndef XL_SHA256_H
#define XL_SHA256_H
#include <stddef.h>
#include <stdint.h>

typedef struct xl_sha256 {
    uint32_t state[8];
    uint64_t n_bytes;
    uint8_t block[64];
} xl_sha256;

void xl_sha256_init(xl_sha256 *sha);
void xl_sha256_update(xl_sha256 *sha, const void *bytes, size_t n_bytes);
void xl_sha256_final(xl_sha256 *sha, uint8_t digest[32]);
/* 64 lower-case digits and a NUL. */
void xl_sha256_hex(const uint8_t digest[32], char hex[65]);

#endif
