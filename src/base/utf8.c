#include "utf8.h"

size_t xl_utf8_sequence(const char *text, size_t n_bytes) {
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80) return 1;
    size_t n = s[0] >= 0xC2 && s[0] < 0xE0   ? 2
               : s[0] >= 0xE0 && s[0] < 0xF0 ? 3
               : s[0] >= 0xF0 && s[0] < 0xF5 ? 4
                                             : 0;
    if (n == 0 || n > n_bytes) return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    if (s[0] == 0xE0 && s[1] < 0xA0) return 0;  /* over-long */
    if (s[0] == 0xED && s[1] >= 0xA0) return 0; /* surrogates */
    if (s[0] == 0xF0 && s[1] < 0x90) return 0;  /* over-long */
    if (s[0] == 0xF4 && s[1] >= 0x90) return 0; /* past U+10FFFF */
    return n;
}

size_t xl_utf8_encode(uint32_t code_point, uint8_t out[4]) {
    if (code_point < 0x80) {
        out[0] = (uint8_t)code_point;
        return 1;
    }
    size_t length = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    for (size_t i = length; i-- > 1; code_point >>= 6)
        out[i] = (uint8_t)(0x80 | (code_point & 0x3F));
    out[0] = (uint8_t)(((0xF00u >> length) & 0xFF) | code_point);
    return length;
}
