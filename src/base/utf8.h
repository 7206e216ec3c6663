/* Well-formed UTF-8. */
#ifndef XL_UTF8_H
#define XL_UTF8_H
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character at text[0 ... n_bytes-1], 1 to 4, if it is well-formed UTF-8 (no
 * surrogates, nothing over-long); else 0. n_bytes >= 1. */
size_t xl_utf8_sequence(const char *text, size_t n_bytes);

/* Writes a code point (<= 0x10FFFF, surrogates as they are) as UTF-8: 1 to 4 bytes. */
size_t xl_utf8_encode(uint32_t code_point, uint8_t out[4]);

#endif
