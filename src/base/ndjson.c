#include "ndjson.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
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

static void open_level(ndjson *j, char bracket) {
    assert(j->nesting < ND_MAX_NESTING);
    fputc(bracket, j->out);
    j->close[j->nesting++] = bracket == '{' ? '}' : ']';
    j->comma = false;
}

static void close_level(ndjson *j, char bracket) {
    assert(j->nesting > 0 && j->close[j->nesting - 1] == bracket);
    j->nesting--;
    fputc(bracket, j->out);
    j->comma = j->nesting > 0;
    if (j->nesting == 0) {
        fputc('\n', j->out);
        fflush(j->out);
    }
}

static void number(ndjson *j, double value, int digits) {
    if (isfinite(value)) fprintf(j->out, "%.*g", digits, value);
    else fputs("null", j->out);
}

/* The fewest digits that read back as the same float. */
static int digits_of(float value) {
    char text[32];
    for (int digits = 1; digits < 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) return digits;
    }
    return 9;
}

static void text_or_null(ndjson *j, const char *text, size_t n_bytes) {
    if (text) quoted(j->out, text, n_bytes);
    else fputs("null", j->out);
}

static void between(const ndjson *j, char sign) {
    fputc(sign, j->out);
    if (j->spaced) fputc(' ', j->out);
}

static void put_name(ndjson *j, const char *name, size_t n_bytes) {
    quoted(j->out, name, n_bytes);
    between(j, ':');
}

/* One value; `spec` is what follows the percent sign. */
static void value(ndjson *j, const char *spec, bool truth, va_list *arguments) {
    switch (*spec) {
    case 'u': fprintf(j->out, "%u", va_arg(*arguments, unsigned)); break;
    case 'z': fprintf(j->out, "%zu", va_arg(*arguments, size_t)); break;
    case 'g': number(j, va_arg(*arguments, double), 6); break;
    case 'd': {
        const int n = va_arg(*arguments, int);
        if (truth) fputs(n ? "true" : "false", j->out);
        else fprintf(j->out, "%d", n);
        break;
    }
    case 'l': /* PRIu64 */
        fprintf(j->out, "%llu",
                spec[1] == 'l' ? va_arg(*arguments, unsigned long long)
                               : va_arg(*arguments, unsigned long));
        break;
    case 'f': {
        const double x = va_arg(*arguments, double);
        number(j, x, digits_of((float)x));
        break;
    }
    case 's': {
        const char *text = va_arg(*arguments, const char *);
        text_or_null(j, text, text ? strlen(text) : 0);
        break;
    }
    case '.':
        if (spec[1] == '*') {
            const int n = va_arg(*arguments, int);
            text_or_null(j, va_arg(*arguments, const char *), (size_t)n);
        } else {
            number(j, va_arg(*arguments, double), 10);
        }
        break;
    default: assert(false);
    }
}

/* A word of the format: "}", "{", "%u", "name=[", "name?%d", "name=word". */
static void put_word(ndjson *j, const char *word, size_t n_bytes, va_list *arguments) {
    const size_t name_bytes = strcspn(word, "=?");
    const bool named = name_bytes < n_bytes;
    if (*word == '}' || *word == ']') {
        close_level(j, *word);
        return;
    }
    if (j->comma) between(j, ',');
    j->comma = true;
    if (named) {
        const char *name = *word == '%' ? va_arg(*arguments, const char *) : word;
        if (name_bytes > 0) put_name(j, name, *word == '%' ? strlen(name) : name_bytes);
        word += name_bytes + 1;
        n_bytes -= name_bytes + 1;
    }
    if (*word == '{' || *word == '[') open_level(j, *word);
    else if (*word == '%') value(j, word + 1, word[-named] == '?', arguments);
    else quoted(j->out, word, n_bytes);
}

void xl_nd_put(ndjson *j, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    while (*format) {
        const size_t n = strcspn(format, " ");
        put_word(j, format, n, &arguments);
        format += n + (format[n] == ' ');
    }
    va_end(arguments);
}

static void put_json(ndjson *j, const xl_json *value) {
    if (value->kind == XL_JSON_STRING) quoted(j->out, value->text, strlen(value->text));
    else if (value->kind == XL_JSON_NUMBER) fputs(value->text, j->out);
    else if (value->kind == XL_JSON_BOOL) fputs(value->number != 0 ? "true" : "false", j->out);
    else if (value->kind == XL_JSON_NULL) fputs("null", j->out);
    else {
        fputc(value->kind == XL_JSON_OBJECT ? '{' : '[', j->out);
        for (const xl_json *item = value->first; item; item = item->next) {
            if (item != value->first) between(j, ',');
            if (item->key) put_name(j, item->key, strlen(item->key));
            put_json(j, item);
        }
        fputc(value->kind == XL_JSON_OBJECT ? '}' : ']', j->out);
    }
}

void xl_nd_json(ndjson *j, const char *name, const xl_json *value) {
    if (j->comma) between(j, ',');
    j->comma = true;
    put_name(j, name, strlen(name));
    put_json(j, value);
}
