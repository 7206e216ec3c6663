#include "text.h"

#include "base/utf8.h"

/* C0, DEL and C1 controls. */
static bool is_control(const char *text, size_t length) {
    unsigned char c = (unsigned char)text[0];
    return length == 1 ? c < 0x20 || c == 0x7F
                       : length == 2 && c == 0xC2 && (unsigned char)text[1] < 0xA0;
}

void cli_print_safe(FILE *out, const char *text, size_t n_bytes, bool lines) {
    for (size_t i = 0; i < n_bytes;) {
        size_t n = xl_utf8_sequence(text + i, n_bytes - i);
        bool kept =
            n && (!is_control(text + i, n) || (lines && (text[i] == '\n' || text[i] == '\t')));
        if (kept) fwrite(text + i, 1, n, out);
        else if (!lines && text[i] == '\n') fputc(' ', out);
        else fputs("\xEF\xBF\xBD", out);
        i += n ? n : 1;
    }
}
