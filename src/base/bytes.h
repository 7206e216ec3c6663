/* Numbers from bytes as files have them (little-endian), and numbers from bytes to find them by. */
#ifndef XL_BYTES_H
#define XL_BYTES_H
#include <stddef.h>
#include <stdint.h>

static inline uint32_t xl_min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }
static inline uint32_t xl_max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }

static inline uint32_t xl_load_u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t xl_load_u64(const uint8_t *p) {
    return xl_load_u32(p) | (uint64_t)xl_load_u32(p + 4) << 32;
}

/* n <= 8 bytes. */
static inline uint64_t xl_load_le(const uint8_t *p, size_t n) {
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++) value |= (uint64_t)p[i] << (8 * i);
    return value;
}

/* FNV-1a, piece by piece: begins with XL_HASH_START. */
#define XL_HASH_START 2166136261u
static inline uint32_t xl_hash_more(uint32_t hash, const char *text, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes; i++) hash = (hash ^ (uint8_t)text[i]) * 16777619u;
    return hash;
}

/* Every bit of x in every bit of the result (the end of splitmix64). */
static inline uint64_t xl_mix64(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* The next number of a sequence that `state` holds (splitmix64). */
static inline uint64_t xl_random(uint64_t *state) {
    return xl_mix64(*state += 0x9e3779b97f4a7c15u);
}

#endif
