#include "number.h"

#include <math.h>

enum { MAX_DIGITS = 15, MAX_PLACES = 6 };

/* Digit strings of one length between two. */
typedef struct digits {
    xl_automaton *automaton;
    char low[MAX_DIGITS], high[MAX_DIGITS];
    int length, places; /* digits, and how many of them stand after the point */
    uint32_t to;
} digits;

static uint32_t lay_digit(digits *d, uint32_t from, int at, char low, char high) {
    if (d->places && at == d->length - d->places) {
        const uint32_t pointed = xl_automaton_state(d->automaton);
        xl_lay_bytes(d->automaton, from, '.', '.', pointed);
        from = pointed;
    }
    const uint32_t next = at + 1 == d->length ? d->to : xl_automaton_state(d->automaton);
    xl_lay_bytes(d->automaton, from, (uint8_t)low, (uint8_t)high, next);
    return next;
}

/* From digit `at` on; at_low, at_high: so far they are those of the limit. */
static void lay_digits(digits *d, uint32_t from, int at, bool at_low, bool at_high) {
    while (at < d->length && !at_low && !at_high) from = lay_digit(d, from, at++, '0', '9');
    if (at == d->length) return;
    char low = at_low ? d->low[at] : '0', high = at_high ? d->high[at] : '9';
    if (low == high) {
        lay_digits(d, lay_digit(d, from, at, low, low), at + 1, at_low, at_high);
        return;
    }
    if (at_low) {
        lay_digits(d, lay_digit(d, from, at, low, low), at + 1, true, false);
        low++;
    }
    if (at_high) {
        lay_digits(d, lay_digit(d, from, at, high, high), at + 1, false, true);
        high--;
    }
    if (low <= high) lay_digits(d, lay_digit(d, from, at, low, high), at + 1, false, false);
}

static void write_digits(char *digits, int length, int64_t value) {
    for (; length-- > 0; value /= 10) digits[length] = (char)('0' + value % 10);
}

/* low … high, none negative, the last `places` digits after the point. */
static void lay_positive(xl_automaton *a, uint32_t from, int64_t low, int64_t high, int places,
                         uint32_t to) {
    int64_t power = 10;
    for (int i = 0; i < places; i++) power *= 10;
    /* as many digits as the point needs may begin with 0, longer ones may not */
    for (int length = places + 1; length <= MAX_DIGITS && low <= high; length++, power *= 10) {
        const int64_t last = high < power - 1 ? high : power - 1;
        if (low > last) continue;
        digits d = {.automaton = a, .length = length, .places = places, .to = to};
        write_digits(d.low, length, low);
        write_digits(d.high, length, last);
        lay_digits(&d, from, 0, true, true);
        low = last + 1;
    }
}

static bool is_within(const xl_interval *i, double x) {
    return (i->low_open ? x > i->low : x >= i->low) && (i->high_open ? x < i->high : x <= i->high);
}

/* Numbers with so many places: as whole numbers they are *low … *high. */
static bool limits_of(const xl_interval *within, int places, int64_t *low, int64_t *high) {
    double power = 1;
    for (int i = 0; i < places; i++) power *= 10;
    double first = ceil(within->low * power), last = floor(within->high * power);
    if (!(first > -XL_MAX_NUMBER)) first = -XL_MAX_NUMBER;
    if (!(last < XL_MAX_NUMBER)) last = XL_MAX_NUMBER;
    /* the products were rounded; x / power is what the text will be read as */
    for (int i = 0; i < 2 && first <= last && !is_within(within, first / power); i++) first++;
    for (int i = 0; i < 2 && first <= last && !is_within(within, last / power); i++) last--;
    if (!(first <= last)) return false;
    *low = (int64_t)first;
    *high = (int64_t)last;
    return true;
}

bool xl_lay_numbers(xl_automaton *a, uint32_t from, const xl_interval *within, bool whole,
                    uint32_t to) {
    bool any = false;
    for (int places = 0; places <= (whole ? 0 : MAX_PLACES); places++) {
        int64_t low, high;
        if (!limits_of(within, places, &low, &high)) continue;
        any = true;
        if (high >= 0) lay_positive(a, from, low > 0 ? low : 0, high, places, to);
        if (low >= 0) continue;
        const uint32_t negative = xl_automaton_state(a);
        xl_lay_bytes(a, from, '-', '-', negative);
        lay_positive(a, negative, high < 0 ? -high : 1, -low, places, to);
    }
    return any;
}
