#include "unicode.h"

#include "tokenizer.h"
#include "unicode_tables.h"

#include <string.h>

/* ---- Classes ---- */

/* Looks through the runs of the code point's block. */
static xl_unicode_class search_class(uint32_t code_point) {
    uint32_t block = code_point >> XL_UNICODE_BLOCK_BITS;
    if (block > XL_UNICODE_BLOCKS) block = XL_UNICODE_BLOCKS;
    const uint8_t *runs = (const uint8_t *)unicode_runs + unicode_starts[block];
    for (uint32_t at = block << XL_UNICODE_BLOCK_BITS;;) {
        uint32_t run = 0, shift = 0;
        for (bool more = true; more; shift += 7) {
            run |= (*runs & 0x7Fu) << shift;
            more = *runs++ >= 0x80;
        }
        at += run >> 3;
        if (code_point < at) return (xl_unicode_class)(run & 7);
    }
}

/* One digit an ASCII character: 0 other, 1 letter, 2 number, 3 space, 4 punctuation, 6 symbol. */
const char xl_unicode_ascii[129] = "00000000033333000000000000000000"
                                   "34446444444644442222222222446664"
                                   "41111111111111111111111111144464"
                                   "61111111111111111111111111146460";

xl_unicode_class xl_unicode_classify_wide(uint32_t code_point) {
    /* The two largest blocks without a search: CJK ideographs and Hangul syllables. */
    if (code_point - 0x4E00 < 0x5200 || code_point - 0xAC00 < 0x2BA4) return XL_UNICODE_LETTER;
    return code_point < 0x110000 ? search_class(code_point) : XL_UNICODE_OTHER;
}

/* ---- UTF-8 ---- */

static bool is_tail(uint8_t byte) { return (byte & 0xC0) == 0x80; }

size_t xl_utf8_length(uint8_t lead) {
    if (lead < 0xC0) return 1;
    return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

size_t xl_utf8_decode_lenient(const uint8_t *text, const uint8_t *end, uint32_t *code_point) {
    uint8_t lead = text[0];
    *code_point = lead;
    if (lead < 0x80) return 1;
    *code_point = 0xFFFD;
    if (lead < 0xC0 || lead >= 0xF8) return 1;
    size_t length = xl_utf8_length(lead);
    if ((size_t)(end - text) < length) return 1;
    uint32_t value = lead & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if (!is_tail(text[i])) return 1;
        value = value << 6 | (text[i] & 0x3Fu);
    }
    if (value < 0x110000) *code_point = value;
    return length;
}

bool xl_utf8_is_plain(const uint8_t *text, size_t n_bytes) {
    const uint8_t *end = text + n_bytes;
    while (text < end) {
        if (*text < 0x80) {
            text++;
            continue;
        }
        uint32_t code_point;
        uint8_t again[4];
        size_t taken = xl_utf8_decode_lenient(text, end, &code_point);
        if (xl_utf8_encode(code_point, again) != taken || memcmp(again, text, taken) != 0)
            return false;
        text += taken;
    }
    return true;
}

/* ---- Streaming ---- */

/* What may follow `held[0..n)`, an incomplete but so far well-formed character (Unicode's table
 * 3-7): the second byte is restricted after some leads. */
static bool may_follow(const uint8_t *held, uint32_t n, uint8_t byte) {
    if (n > 1) return is_tail(byte);
    switch (held[0]) {
    case 0xE0: return byte >= 0xA0 && byte <= 0xBF;
    case 0xED: return byte >= 0x80 && byte <= 0x9F;
    case 0xF0: return byte >= 0x90 && byte <= 0xBF;
    case 0xF4: return byte >= 0x80 && byte <= 0x8F;
    default: return is_tail(byte);
    }
}

static size_t put_replacement(char *out) {
    memcpy(out, "\xEF\xBF\xBD", 3);
    return 3;
}

size_t xl_utf8_push(xl_utf8_stream *stream, const char *bytes, size_t n_bytes, char *out) {
    size_t written = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        uint8_t byte = (uint8_t)bytes[i];
        if (stream->n_held) {
            if (may_follow(stream->held, stream->n_held, byte)) {
                stream->held[stream->n_held++] = byte;
                if (stream->n_held == xl_utf8_length(stream->held[0])) {
                    memcpy(out + written, stream->held, stream->n_held);
                    written += stream->n_held;
                    stream->n_held = 0;
                }
                continue;
            }
            written += put_replacement(out + written);
            stream->n_held = 0;
        }
        if (byte < 0x80) {
            out[written++] = (char)byte;
        } else if (byte >= 0xC2 && byte <= 0xF4) {
            stream->held[stream->n_held++] = byte;
        } else {
            written += put_replacement(out + written);
        }
    }
    return written;
}

size_t xl_utf8_flush(xl_utf8_stream *stream, char *out) {
    bool incomplete = stream->n_held > 0;
    stream->n_held = 0;
    return incomplete ? put_replacement(out) : 0;
}
