/* Four lanes of 64 bits, so that the products of one do not wait for those of another. Every step
 * can be undone, so a difference in one word never gets lost in its lane. */
#include "checksum.h"

#include <string.h>

#include "bytes.h"

#define LANES 4
#define WORD_BYTES 8
#define FACTOR 0xd6e8feb86659fd93u /* odd: multiplying can be undone */

static uint64_t mix(uint64_t lane, uint64_t word) {
    lane ^= word;
    lane = (lane ^ lane >> 32) * FACTOR; /* the high bits too reach others */
    return lane << 29 | lane >> 35;
}

void xl_summing_begin(xl_summing *s) { *s = (xl_summing){.lanes = {1, 2, 3, 4}}; }

void xl_summing_add(xl_summing *s, const void *bytes, size_t n_bytes) {
    const uint8_t *p = bytes;
    uint64_t lanes[LANES];
    uint8_t last[LANES * WORD_BYTES] = {0};
    size_t left = n_bytes;
    memcpy(lanes, s->lanes, sizeof lanes);
    for (; left >= sizeof last; p += sizeof last, left -= sizeof last)
        for (int i = 0; i < LANES; i++) lanes[i] = mix(lanes[i], xl_load_u64(p + i * WORD_BYTES));
    if (left) {
        memcpy(last, p, left);
        for (int i = 0; i < LANES; i++)
            lanes[i] = mix(lanes[i], xl_load_u64(last + i * WORD_BYTES));
    }
    memcpy(s->lanes, lanes, sizeof lanes);
    s->n_bytes += n_bytes;
}

uint64_t xl_summing_end(const xl_summing *s) {
    uint64_t sum = s->n_bytes;
    for (int i = 0; i < LANES; i++) sum = mix(sum, s->lanes[i]);
    for (int i = 0; i < 2; i++) { /* every bit reaches every bit */
        sum = (sum ^ sum >> 32) * FACTOR;
        sum ^= sum >> 29;
    }
    return sum;
}

uint64_t xl_checksum(const void *bytes, size_t n_bytes) {
    xl_summing s;
    xl_summing_begin(&s);
    xl_summing_add(&s, bytes, n_bytes);
    return xl_summing_end(&s);
}
