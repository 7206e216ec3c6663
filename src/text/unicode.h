/* unicode: UTF-8 and the character classes that the tokenizers need. */
#ifndef XL_UNICODE_H
#define XL_UNICODE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/utf8.h"

/* Classes of a code point; a mask of them can be tested with 1u << class. The numbers are those
 * of unicode_gen.py. */
typedef enum xl_unicode_class {
    XL_UNICODE_OTHER,       /* controls, unassigned, out of range */
    XL_UNICODE_LETTER,      /* \p{L} */
    XL_UNICODE_NUMBER,      /* \p{N} */
    XL_UNICODE_SPACE,       /* \s: White_Space */
    XL_UNICODE_PUNCTUATION, /* \p{P} */
    XL_UNICODE_MARK,        /* \p{M} */
    XL_UNICODE_SYMBOL       /* \p{S} */
} xl_unicode_class;
xl_unicode_class xl_unicode_classify_wide(uint32_t code_point); /* any; meant for those over 127 */
extern const char xl_unicode_ascii[129];
static inline xl_unicode_class xl_unicode_classify(uint32_t code_point) {
    return code_point < 128 ? (xl_unicode_class)(xl_unicode_ascii[code_point] & 7)
                            : xl_unicode_classify_wide(code_point);
}

/* Decodes one character of [text, end) the way llama.cpp does, and returns the
 * bytes that it takes (>= 1): overlong forms and surrogates are accepted, a byte
 * that begins nothing complete is U+FFFD on its own. A code point over U+10FFFF,
 * where llama.cpp gives up, is U+FFFD too. text < end. */
size_t xl_utf8_decode_lenient(const uint8_t *text, const uint8_t *end, uint32_t *code_point);

/* True where decoding as above and encoding again gives the same bytes. */
bool xl_utf8_is_plain(const uint8_t *text, size_t n_bytes);

/* Bytes of the character that begins with `lead` by its high bits alone, 1 for a continuation
 * byte. */
size_t xl_utf8_length(uint8_t lead);

#endif
