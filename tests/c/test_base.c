/* Sorting, and numbers from bytes. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/sort.h"

enum { MOST = 400 };

/* By key, then by item: equal keys have an order, too. */
static bool key_before(const void *context, uint32_t a, uint32_t b) {
    const uint8_t *keys = context;
    return keys[a] != keys[b] ? keys[a] < keys[b] : a < b;
}

static void test_sort(void) {
    uint64_t random = 7;
    for (uint32_t n = 0; n < MOST; n++) {
        uint8_t keys[MOST], seen[MOST] = {0};
        uint32_t items[MOST];
        const uint32_t different = 1 + (uint32_t)(xl_random(&random) % 200);
        for (uint32_t i = 0; i < n; i++) {
            keys[i] = (uint8_t)(xl_random(&random) % different);
            items[i] = n - 1 - i;
        }
        xl_sort(items, n, key_before, keys);
        for (uint32_t i = 0; i < n; i++) {
            assert(items[i] < n && !seen[items[i]]);
            seen[items[i]] = 1;
            assert(i == 0 || key_before(keys, items[i - 1], items[i]));
        }
    }
}

static void test_bytes(void) {
    const uint8_t bytes[] = {0xff, 0x01, 0x82, 0x03, 0x84, 0x05, 0x06, 0x87, 0x08};
    assert(xl_load_u32(bytes + 1) == 0x84038201u);
    assert(xl_load_u64(bytes + 1) == 0x0887060584038201u);
    assert(xl_load_le(bytes + 1, 8) == xl_load_u64(bytes + 1) && xl_load_le(bytes, 3) == 0x8201ff &&
           xl_load_le(bytes, 0) == 0);
    assert(xl_min_u32(3, 4) == 3 && xl_min_u32(UINT32_MAX, 4) == 4);
    /* FNV-1a's own example, and in pieces as at once. */
    assert(xl_hash_more(XL_HASH_START, "foobar", 6) == 0xbf9cf968u);
    assert(xl_hash_more(xl_hash_more(XL_HASH_START, "foo", 3), "bar", 3) == 0xbf9cf968u);
}

/* The reference sequence of splitmix64 from the seed 1234567. */
static void test_random(void) {
    uint64_t state = 1234567;
    assert(xl_random(&state) == 6457827717110365317u);
    assert(xl_random(&state) == 3203168211198807973u);
    assert(xl_random(&state) == 9817491932198370423u);
}

int main(void) {
    test_sort();
    test_bytes();
    test_random();
    puts("base: sorting, bytes, random numbers");
    return 0;
}
