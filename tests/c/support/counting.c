#include "counting.h"

#include <string.h>

#define GUARD_BYTES 64u /* before each block: its size */

static void *take(void *user, size_t bytes, size_t align) {
    counting *c = user;
    c->calls++;
    bool fails = c->fail_at && (c->fail_once ? c->calls == c->fail_at : c->calls >= c->fail_at);
    if (fails || align > GUARD_BYTES || bytes > SIZE_MAX / 2) return NULL;
    uint8_t *memory =
        aligned_alloc(GUARD_BYTES, (bytes + 2 * GUARD_BYTES - 1) / GUARD_BYTES * GUARD_BYTES);
    if (!memory) return NULL;
    memcpy(memory, &bytes, sizeof bytes);
    memset(memory + GUARD_BYTES, 0xa5, bytes < 4096 ? bytes : 4096); /* nobody may rely on zeros */
    c->blocks++;
    c->now_bytes += bytes;
    if (c->now_bytes > c->peak_bytes) c->peak_bytes = c->now_bytes;
    return memory + GUARD_BYTES;
}

static void give(void *user, void *memory, size_t bytes) {
    counting *c = user;
    size_t held;
    memcpy(&held, (uint8_t *)memory - GUARD_BYTES, sizeof held);
    if (held != bytes) {
        c->wrong_size = true;
        fprintf(stderr, "a block of %zu bytes was given back as one of %zu\n", held, bytes);
    }
    c->blocks--;
    c->now_bytes -= held;
    free((uint8_t *)memory - GUARD_BYTES);
}

void counting_init(counting *c) {
    *c = (counting){0};
    c->allocator = (exitlm_allocator){c, take, give};
}
