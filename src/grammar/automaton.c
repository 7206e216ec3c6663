#include "automaton.h"

#include <string.h>

#include "base/bytes.h"
#include "base/utf8.h"

enum { MAX_STATES = 1 << 18, MAX_EDGES = 1 << 19, MAX_RULES = 1 << 12 };

/* ---- Parts ---- */

/* Room for one more; false, sticky, where there is none. */
static bool room(xl_automaton *a, void **items, uint32_t n, uint32_t *capacity, uint32_t most,
                 size_t size) {
    if (a->no_memory || a->too_large) return false;
    if (n < *capacity) return true;
    if (n >= most) {
        a->too_large = true;
        return false;
    }
    const uint32_t wanted = xl_min_u32(most, *capacity ? 2 * *capacity : 64);
    a->no_memory = !xl_grow(&a->allocator, items, *capacity, wanted, size);
    if (!a->no_memory) *capacity = wanted;
    return !a->no_memory;
}

void xl_automaton_begin(xl_automaton *a, const exitlm_allocator *allocator) {
    *a = (xl_automaton){.allocator = xl_allocator_or_default(allocator), .n_edges = 1};
    xl_automaton_rule(a);
}

void xl_automaton_free(xl_automaton *a) {
    xl_free(&a->allocator, a->edges, a->edges_room, sizeof *a->edges);
    xl_free(&a->allocator, a->first, a->states_room, sizeof *a->first);
    xl_free(&a->allocator, a->text, a->text_room, sizeof *a->text);
    xl_free(&a->allocator, a->need, a->n_states, sizeof *a->need);
    xl_free(&a->allocator, a->rules, a->rules_room, sizeof *a->rules);
    *a = (xl_automaton){.no_memory = true};
}

uint32_t xl_automaton_state(xl_automaton *a) {
    if (!room(a, (void **)&a->first, a->n_states, &a->states_room, MAX_STATES, sizeof *a->first) ||
        !room(a, (void **)&a->text, a->n_states, &a->text_room, MAX_STATES, sizeof *a->text))
        return 0;
    a->first[a->n_states] = a->text[a->n_states] = 0;
    return a->n_states++;
}

uint32_t xl_automaton_rule(xl_automaton *a) {
    const xl_rule rule = {xl_automaton_state(a), xl_automaton_state(a)};
    if (!room(a, (void **)&a->rules, a->n_rules, &a->rules_room, MAX_RULES, sizeof *a->rules))
        return 0;
    a->rules[a->n_rules] = rule;
    return a->n_rules++;
}

static void lay(xl_automaton *a, uint32_t from, xl_edge edge) {
    if (!room(a, (void **)&a->edges, a->n_edges, &a->edges_room, MAX_EDGES, sizeof *a->edges))
        return;
    edge.from = from;
    edge.next = a->first[from];
    a->first[from] = a->n_edges;
    a->edges[a->n_edges++] = edge;
}

void xl_lay_nothing(xl_automaton *a, uint32_t from, uint32_t to) {
    lay(a, from, (xl_edge){.to = to, .rule = XL_NO_RULE, .low = 1, .high = 0});
}

void xl_lay_bytes(xl_automaton *a, uint32_t from, uint8_t low, uint8_t high, uint32_t to) {
    lay(a, from, (xl_edge){.to = to, .rule = XL_NO_RULE, .low = low, .high = high});
}

void xl_lay_call(xl_automaton *a, uint32_t from, uint32_t rule, uint32_t to) {
    lay(a, from, (xl_edge){.to = to, .rule = rule, .low = 1, .high = 0});
}

void xl_lay_text(xl_automaton *a, uint32_t from, const char *text, uint32_t to) {
    for (; *text; text++) {
        const uint32_t next = text[1] ? xl_automaton_state(a) : to;
        xl_lay_bytes(a, from, (uint8_t)*text, (uint8_t)*text, next);
        from = next;
    }
    if (from != to) xl_lay_nothing(a, from, to);
}

/* ---- Characters ---- */

#define LAST_CHARACTER 0x10ffffu

void xl_charset_add(xl_charset *set, uint32_t low, uint32_t high) {
    if (set->n == XL_MAX_RANGES) set->too_many = true;
    else set->range[set->n++] = (xl_range){low, high};
}

static void add_well_formed(xl_charset *set, uint32_t low, uint32_t high) {
    if (low < 0xd800) xl_charset_add(set, low, xl_min_u32(high, 0xd7ff));
    if (high > 0xdfff) xl_charset_add(set, xl_max_u32(low, 0xe000), high);
}

void xl_charset_tidy(xl_charset *set) {
    for (uint32_t i = 1; i < set->n; i++) /* by insertion: sets are short */
        for (uint32_t k = i; k > 0 && set->range[k].low < set->range[k - 1].low; k--) {
            const xl_range swap = set->range[k];
            set->range[k] = set->range[k - 1];
            set->range[k - 1] = swap;
        }
    xl_charset tidy = {.too_many = set->too_many};
    for (uint32_t i = 0; i < set->n;) {
        xl_range joined = set->range[i++];
        while (i < set->n && set->range[i].low <= joined.high + 1)
            joined.high = xl_max_u32(joined.high, set->range[i++].high);
        add_well_formed(&tidy, joined.low, joined.high);
    }
    *set = tidy;
}

void xl_charset_invert(xl_charset *set) {
    xl_charset other = {.too_many = set->too_many};
    uint32_t low = 0;
    for (uint32_t i = 0; i < set->n; i++) {
        if (set->range[i].low > low) add_well_formed(&other, low, set->range[i].low - 1);
        low = set->range[i].high + 1;
    }
    if (low <= LAST_CHARACTER) add_well_formed(&other, low, LAST_CHARACTER);
    *set = other;
}

/* A range of characters with as many bytes each is cut until every byte but the last ones of it is
 * one byte or all (as in R. Cox's RE2). */
static void lay_range(xl_automaton *a, uint32_t from, uint32_t low, uint32_t high, uint32_t to) {
    static const uint32_t last_of[] = {0x7f, 0x7ff, 0xffff};
    for (int i = 0; i < 3; i++)
        if (low <= last_of[i] && high > last_of[i]) {
            lay_range(a, from, low, last_of[i], to);
            lay_range(a, from, last_of[i] + 1, high, to);
            return;
        }
    for (uint32_t bits = 6; bits <= 18 && high >= 0x80; bits += 6) {
        const uint32_t rest = (1u << bits) - 1;
        if ((low & ~rest) == (high & ~rest)) continue;
        if (low & rest) {
            lay_range(a, from, low, low | rest, to);
            lay_range(a, from, (low | rest) + 1, high, to);
            return;
        }
        if ((high & rest) != rest) {
            lay_range(a, from, low, (high & ~rest) - 1, to);
            lay_range(a, from, high & ~rest, high, to);
            return;
        }
    }
    uint8_t least[4], most[4];
    const size_t n = xl_utf8_encode(low, least);
    xl_utf8_encode(high, most);
    for (size_t i = 0; i < n; i++) {
        const uint32_t next = i + 1 < n ? xl_automaton_state(a) : to;
        xl_lay_bytes(a, from, least[i], most[i], next);
        from = next;
    }
}

/* The character as an escape of JSON. */
static void lay_escape(xl_automaton *a, uint32_t from, uint32_t c, uint32_t to) {
    static const char *const named[] = {"\"\\\"", "\\\\\\", "\n\\n", "\r\\r",
                                        "\t\\t",  "\b\\b",  "\f\\f"};
    char text[8] = "\\u00";
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if ((uint32_t)named[i][0] == c) {
            xl_lay_text(a, from, named[i] + 1, to);
            return;
        }
    text[4] = "0123456789abcdef"[c >> 4 & 15];
    text[5] = "0123456789abcdef"[c & 15];
    xl_lay_text(a, from, text, to);
}

static bool is_escaped(uint32_t c) { return c < 0x20 || c == '"' || c == '\\'; }

static bool has_text(uint32_t from, uint32_t end) {
    for (uint32_t c = from; c < end; c++)
        if (xl_is_text(c)) return true;
    return false;
}

static bool has_all_text(const xl_charset *set) {
    uint32_t from = 0;
    for (uint32_t i = 0; i < set->n; i++) {
        if (has_text(from, set->range[i].low)) return false;
        from = set->range[i].high + 1;
    }
    return !has_text(from, LAST_CHARACTER + 1);
}

void xl_lay_charset(xl_automaton *a, uint32_t from, const xl_charset *set, xl_quoting quoting,
                    uint32_t to) {
    if (has_all_text(set)) {
        const uint32_t alone = xl_automaton_state(a);
        xl_lay_nothing(a, from, alone);
        if (!a->no_memory && !a->too_large) a->text[alone] = to;
        from = alone;
    }
    for (uint32_t i = 0; i < set->n; i++) {
        uint32_t low = set->range[i].low;
        const uint32_t high = set->range[i].high;
        const uint32_t last = quoting == XL_IN_JSON ? xl_min_u32(high, '\\') : 0;
        for (uint32_t c = low; c <= last; c++) {
            if (quoting == XL_UNQUOTED || !is_escaped(c)) continue;
            if (low < c) lay_range(a, from, low, c - 1, to);
            lay_escape(a, from, c, to);
            low = c + 1;
        }
        if (low <= high) lay_range(a, from, low, high, to);
    }
}

/* ---- What can be completed ---- */

/* Calls within calls that the edge and what follows it need. */
static uint16_t need_of(const xl_automaton *a, const xl_edge *edge) {
    uint16_t need = a->need[edge->to];
    if (edge->rule == XL_NO_RULE || need == XL_NO_WAY) return need;
    const uint16_t inside = a->need[a->rules[edge->rule].start];
    if (inside >= XL_MAX_CALLS) return XL_NO_WAY;
    return need > inside + 1 ? need : (uint16_t)(inside + 1);
}

/* Who has to be looked at again when a state's need has changed: edges that lead to it and edges that
 * call a rule which begins with it, in lists. */
typedef struct dependants {
    uint32_t *led;         /* [n_states] the first edge to it, 0: none */
    uint32_t *led_next;    /* [n_edges] */
    uint32_t *called;      /* [n_states] the first edge that calls its rule */
    uint32_t *called_next; /* [n_edges] */
    uint32_t *waiting;     /* [n_states] ring of states that have changed */
    bool *waits;           /* [n_states] */
    uint32_t first, n_waiting;
} dependants;

static bool take_dependants(const xl_automaton *a, dependants *d) {
    *d = (dependants){.led = xl_calloc(&a->allocator, a->n_states, sizeof *d->led),
                      .led_next = xl_calloc(&a->allocator, a->n_edges, sizeof *d->led_next),
                      .called = xl_calloc(&a->allocator, a->n_states, sizeof *d->called),
                      .called_next = xl_calloc(&a->allocator, a->n_edges, sizeof *d->called_next),
                      .waiting = xl_calloc(&a->allocator, a->n_states, sizeof *d->waiting),
                      .waits = xl_calloc(&a->allocator, a->n_states, sizeof *d->waits)};
    return d->led && d->led_next && d->called && d->called_next && d->waiting && d->waits;
}

static void free_dependants(const xl_automaton *a, dependants *d) {
    xl_free(&a->allocator, d->led, a->n_states, sizeof *d->led);
    xl_free(&a->allocator, d->led_next, a->n_edges, sizeof *d->led_next);
    xl_free(&a->allocator, d->called, a->n_states, sizeof *d->called);
    xl_free(&a->allocator, d->called_next, a->n_edges, sizeof *d->called_next);
    xl_free(&a->allocator, d->waiting, a->n_states, sizeof *d->waiting);
    xl_free(&a->allocator, d->waits, a->n_states, sizeof *d->waits);
}

static void lower(xl_automaton *a, dependants *d, uint32_t state, uint16_t need) {
    if (need >= a->need[state]) return;
    a->need[state] = need;
    if (d->waits[state]) return;
    d->waits[state] = true;
    d->waiting[(d->first + d->n_waiting++) % a->n_states] = state;
}

/* Least fixed point, from the ends of the rules backwards. A number is lowered XL_MAX_CALLS times at
 * most, so whatever a schema or a pattern says the time is bounded. */
static void fill_needs(xl_automaton *a, dependants *d) {
    for (uint32_t e = 1; e < a->n_edges; e++) {
        const xl_edge *edge = &a->edges[e];
        d->led_next[e] = d->led[edge->to];
        d->led[edge->to] = e;
        if (edge->rule == XL_NO_RULE) continue;
        const uint32_t start = a->rules[edge->rule].start;
        d->called_next[e] = d->called[start];
        d->called[start] = e;
    }
    for (uint32_t s = 0; s < a->n_states; s++) a->need[s] = XL_NO_WAY;
    for (uint32_t r = 0; r < a->n_rules; r++) lower(a, d, a->rules[r].end, 0);
    while (d->n_waiting) {
        const uint32_t state = d->waiting[d->first];
        d->first = (d->first + 1) % a->n_states;
        d->n_waiting--;
        d->waits[state] = false;
        for (uint32_t e = d->led[state]; e; e = d->led_next[e])
            lower(a, d, a->edges[e].from, need_of(a, &a->edges[e]));
        for (uint32_t e = d->called[state]; e; e = d->called_next[e])
            lower(a, d, a->edges[e].from, need_of(a, &a->edges[e]));
    }
}

bool xl_automaton_finish(xl_automaton *a) {
    if (a->no_memory || a->too_large) return true; /* the caller looks at these */
    dependants d;
    a->need = xl_calloc(&a->allocator, a->n_states, sizeof *a->need);
    a->no_memory = !take_dependants(a, &d) || !a->need;
    if (!a->no_memory) fill_needs(a, &d);
    free_dependants(a, &d);
    return a->no_memory || a->need[a->rules[0].start] <= XL_MAX_CALLS;
}
