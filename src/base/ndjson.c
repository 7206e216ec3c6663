#include "ndjson.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "utf8.h"

static void quoted(FILE *out, const char *text, size_t n_bytes) {
    fputc('"', out);
    for (size_t i = 0; i < n_bytes;) {
        unsigned char c = (unsigned char)text[i];
        size_t n = xl_utf8_sequence(text + i, n_bytes - i);
        if (n == 0) fputs("\xEF\xBF\xBD", out);
        else if (c == '"' || c == '\\') fprintf(out, "\\%c", c);
        else if (c == '\n') fputs("\\n", out);
        else if (c == '\t') fputs("\\t", out);
        else if (c == '\r') fputs("\\r", out);
        else if (c < 0x20 || c == 0x7F) fprintf(out, "\\u%04x", c);
        else fwrite(text + i, 1, n, out);
        i += n ? n : 1;
    }
    fputc('"', out);
}

static void begin(ndjson *j, const char *key) {
    if (j->comma) fputc(',', j->out);
    j->comma = true;
    if (!key) return;
    quoted(j->out, key, strlen(key));
    fputc(':', j->out);
}

static void open_level(ndjson *j, const char *key, char bracket, char close) {
    assert(j->nesting < ND_MAX_NESTING);
    begin(j, key);
    fputc(bracket, j->out);
    j->close[j->nesting++] = close;
    j->comma = false;
}

void xl_nd_object(ndjson *j, const char *key) { open_level(j, key, '{', '}'); }
void xl_nd_array(ndjson *j, const char *key) { open_level(j, key, '[', ']'); }

void xl_nd_end(ndjson *j) {
    assert(j->nesting > 0);
    fputc(j->close[--j->nesting], j->out);
    j->comma = j->nesting > 0;
    if (j->nesting == 0) {
        fputc('\n', j->out);
        fflush(j->out);
    }
}

void xl_nd_text(ndjson *j, const char *key, const char *text, size_t n_bytes) {
    begin(j, key);
    quoted(j->out, text, n_bytes);
}

void xl_nd_string(ndjson *j, const char *key, const char *text) {
    if (text) xl_nd_text(j, key, text, strlen(text));
    else xl_nd_null(j, key);
}

void xl_nd_int(ndjson *j, const char *key, int64_t value) {
    begin(j, key);
    fprintf(j->out, "%" PRId64, value);
}

void xl_nd_uint(ndjson *j, const char *key, uint64_t value) {
    begin(j, key);
    fprintf(j->out, "%" PRIu64, value);
}

void xl_nd_float(ndjson *j, const char *key, float value) {
    if (!isfinite(value)) {
        xl_nd_null(j, key);
        return;
    }
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) break;
    }
    begin(j, key);
    fputs(text, j->out);
}

static void number(ndjson *j, const char *key, double value, int digits) {
    if (!isfinite(value)) {
        xl_nd_null(j, key);
        return;
    }
    begin(j, key);
    fprintf(j->out, "%.*g", digits, value);
}

void xl_nd_double(ndjson *j, const char *key, double value) { number(j, key, value, 6); }
void xl_nd_exact(ndjson *j, const char *key, double value) { number(j, key, value, 10); }

void xl_nd_bool(ndjson *j, const char *key, bool value) {
    begin(j, key);
    fputs(value ? "true" : "false", j->out);
}

void xl_nd_null(ndjson *j, const char *key) {
    begin(j, key);
    fputs("null", j->out);
}
