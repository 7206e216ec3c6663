#include "values.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/threads.h"
#include "cli.h"
#include "platform.h"

/* A whole decimal number; false for anything else or one that does not fit. */
static bool parse_u64(const char *text, uint64_t *value) {
    if (*text < '0' || *text > '9') return false;
    uint64_t v = 0;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return false;
        uint64_t digit = (uint64_t)(*text - '0');
        if (v > (UINT64_MAX - digit) / 10) return false;
        v = v * 10 + digit;
    }
    *value = v;
    return true;
}

/* A finite decimal number; *end is what follows it. */
static bool parse_number(const char *text, double *value, const char **end) {
    const char *digits = text + (*text == '-' || *text == '+');
    if (strchr("0123456789.", *digits) == NULL || *digits == 0 || digits[1] == 'x' ||
        digits[1] == 'X')
        return false;
    char *stop;
    *value = strtod(text, &stop);
    *end = stop;
    return stop != text && isfinite(*value);
}

static bool set_count(const cli_option *o, const char *text, uint32_t *value, char *why,
                      size_t why_bytes) {
    uint64_t v;
    if (!parse_u64(text, &v) || v > UINT32_MAX || (double)v < o->min || (double)v > o->max) {
        snprintf(why, why_bytes, "\"%.60s\" is not a whole number from %.0f to %.0f", text, o->min,
                 o->max);
        return false;
    }
    *value = (uint32_t)v;
    return true;
}

static bool set_number(const cli_option *o, const char *text, float *value, char *why,
                       size_t why_bytes) {
    double v;
    const char *end;
    if (!parse_number(text, &v, &end) || *end || v < o->min || v > o->max) {
        snprintf(why, why_bytes, "\"%.60s\" is not a number from %g to %g", text, o->min, o->max);
        return false;
    }
    *value = (float)v;
    return true;
}

static bool set_bytes(const char *text, uint64_t *value, char *why, size_t why_bytes) {
    double v;
    const char *end;
    bool good = parse_number(text, &v, &end);
    if (good) {
        const char *units = "KMGT",
                   *unit = *end ? strchr(units, *end >= 'a' ? *end - 32 : *end) : NULL;
        if (*end && !unit) good = false;
        if (unit) {
            for (const char *u = units; u <= unit; u++) v *= 1024;
            end++;
            if (strcmp(end, "B") == 0 || strcmp(end, "iB") == 0) end += strlen(end);
        }
        if (*end || v < 1 || v > 9e15) good = false;
    }
    if (!good) {
        snprintf(why, why_bytes,
                 "\"%.60s\" is not a size: give bytes, or a number with K, M or G, as 24M", text);
        return false;
    }
    *value = (uint64_t)v;
    return true;
}

static bool set_choice(const cli_option *o, const char *text, int *value, char *why,
                       size_t why_bytes) {
    for (int i = 0; o->choices[i]; i++)
        if (strcmp(o->choices[i], text) == 0) {
            *value = i;
            return true;
        }
    int n = snprintf(why, why_bytes, "\"%.60s\" is not one of", text);
    for (int i = 0; o->choices[i] && n >= 0 && (size_t)n < why_bytes; i++)
        n += snprintf(why + n, why_bytes - (size_t)n, "%s %s", i ? "," : "", o->choices[i]);
    return false;
}

static bool set_threads(const char *text, uint32_t *value, char *why, size_t why_bytes) {
    uint64_t v;
    if (strcmp(text, "auto") == 0) {
        *value = xl_min_u32(cli_processors(), XL_MAX_THREADS);
        return true;
    }
    if (!parse_u64(text, &v) || v < 1 || v > XL_MAX_THREADS) {
        snprintf(why, why_bytes, "\"%.60s\" is neither a whole number from 1 to %d nor auto", text,
                 XL_MAX_THREADS);
        return false;
    }
    *value = (uint32_t)v;
    return true;
}

/* Calls set for each piece of "a,b,c". */
static bool set_list(const cli_option *o, const char *text, void *field, char *why,
                     size_t why_bytes) {
    cli_counts *counts = field;
    cli_numbers *numbers = field;
    size_t n = 0;
    for (;;) {
        char piece[32];
        size_t length = strcspn(text, ",");
        if (n == CLI_MAX_LIST) {
            snprintf(why, why_bytes, "more than %d values", CLI_MAX_LIST);
            return false;
        }
        if (length >= sizeof piece) {
            snprintf(why, why_bytes, "\"%.31s…\" is too long for a number", text);
            return false;
        }
        snprintf(piece, sizeof piece, "%.*s", (int)length, text);
        bool good = o->kind == CLI_COUNTS
                        ? set_count(o, piece, &counts->items[n], why, why_bytes)
                        : set_number(o, piece, &numbers->items[n], why, why_bytes);
        if (!good) return false;
        n++;
        if (!text[length]) break;
        text += length + 1;
    }
    if (o->kind == CLI_COUNTS) counts->n = n;
    else numbers->n = n;
    return true;
}

static bool add_text(cli_texts *texts, const char *text, size_t capacity, char *why,
                     size_t why_bytes) {
    if (!texts->items) texts->items = calloc(capacity ? capacity : 1, sizeof *texts->items);
    if (!texts->items) {
        snprintf(why, why_bytes, "no memory for its values");
        return false;
    }
    texts->items[texts->n++] = text;
    return true;
}

bool cli_value_set(const cli_option *o, const char *text, void *values, size_t capacity, char *why,
                   size_t why_bytes) {
    void *field = (char *)values + o->offset;
    switch (o->kind) {
    case CLI_GROUP: break;
    case CLI_FLAG: *(bool *)field = true; return true;
    case CLI_TEXT: *(const char **)field = text; return true;
    case CLI_TEXTS: return add_text(field, text, capacity, why, why_bytes);
    case CLI_COUNT: return set_count(o, text, field, why, why_bytes);
    case CLI_SEED:
        if (parse_u64(text, field)) return true;
        snprintf(why, why_bytes, "\"%.60s\" is not a whole number from 0 to 18446744073709551615",
                 text);
        return false;
    case CLI_BYTES: return set_bytes(text, field, why, why_bytes);
    case CLI_NUMBER: return set_number(o, text, field, why, why_bytes);
    case CLI_CHOICE: return set_choice(o, text, field, why, why_bytes);
    case CLI_COUNTS:
    case CLI_NUMBERS: return set_list(o, text, field, why, why_bytes);
    case CLI_THREADS: return set_threads(text, field, why, why_bytes);
    }
    return false;
}

bool cli_value_allowed(const cli_option *o, const void *values) {
    const void *field = (const char *)values + o->offset;
    if (o->kind == CLI_COUNT) {
        const uint32_t v = *(const uint32_t *)field;
        return (v == 0 && !o->fallback) || (v >= o->min && v <= o->max);
    }
    if (o->kind == CLI_NUMBER) {
        const double v = *(const float *)field;
        return v >= (float)o->min && v <= (float)o->max;
    }
    if (o->kind != CLI_CHOICE) return true;
    const int v = *(const int *)field;
    int n = 0;
    while (o->choices[n]) n++;
    return v < n && v >= (o->fallback ? 0 : -1);
}

bool cli_value_default(const cli_option *o, void *values) {
    char why[256];
    if (o->kind == CLI_CHOICE && !o->fallback) *(int *)((char *)values + o->offset) = -1;
    if (o->kind == CLI_GROUP || !o->fallback) return true;
    return cli_value_set(o, o->fallback, values, 1, why, sizeof why);
}
