#include "text.h"

size_t cli_utf8_length(const char *text, size_t n_bytes) {
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80) return 1;
    size_t n = s[0] >= 0xC2 && s[0] < 0xE0 ? 2 : s[0] >= 0xE0 && s[0] < 0xF0 ? 3 : s[0] >= 0xF0 && s[0] < 0xF5 ? 4 : 0;
    if (n == 0 || n > n_bytes) return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    if (s[0] == 0xE0 && s[1] < 0xA0) return 0;                 /* over-long */
    if (s[0] == 0xED && s[1] >= 0xA0) return 0;                /* surrogates */
    if (s[0] == 0xF0 && s[1] < 0x90) return 0;                 /* over-long */
    if (s[0] == 0xF4 && s[1] >= 0x90) return 0;                /* past U+10FFFF */
    return n;
}

/* C0, DEL and C1 controls. */
static bool is_control(const char *text, size_t length) {
    unsigned char c = (unsigned char)text[0];
    return length == 1 ? c < 0x20 || c == 0x7F : length == 2 && c == 0xC2 && (unsigned char)text[1] < 0xA0;
}

void cli_print_safe(FILE *out, const char *text, size_t n_bytes, bool lines) {
    for (size_t i = 0; i < n_bytes;) {
        size_t n = cli_utf8_length(text + i, n_bytes - i);
        bool kept = n && (!is_control(text + i, n) || (lines && (text[i] == '\n' || text[i] == '\t')));
        if (kept) fwrite(text + i, 1, n, out);
        else if (!lines && text[i] == '\n') fputc(' ', out);
        else fputs("\xEF\xBF\xBD", out);
        i += n ? n : 1;
    }
}
