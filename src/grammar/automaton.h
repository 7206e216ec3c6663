/* The automaton that a schema or a pattern becomes: states and edges over bytes, and rules, which
 * are automata that edges call, also themselves (a recursive transition network, Woods 1970). It is
 * built from the outside in: each part is laid between two states that are there already. */
#ifndef XL_AUTOMATON_H
#define XL_AUTOMATON_H
#include "base/alloc.h"

#define XL_NO_RULE UINT32_MAX
/* Calls within calls: the nesting that a text can reach. A state's `need` keeps what is begun
 * completable within it. */
#define XL_MAX_CALLS 128
#define XL_NO_WAY UINT16_MAX

typedef struct xl_edge {
    uint32_t from, to;
    uint32_t rule;     /* that is run on the way, or XL_NO_RULE */
    uint32_t next;     /* edge of the same state, 0: the last */
    uint8_t low, high; /* a byte within these is taken; low > high: none is */
} xl_edge;

typedef struct xl_rule {
    uint32_t start, end;
} xl_rule;

typedef struct xl_automaton {
    exitlm_allocator allocator;
    xl_edge *edges; /* [n_edges], the first is no edge */
    uint32_t n_edges, edges_room;
    uint32_t *first; /* [n_states] edge, 0: none */
    uint16_t *need;  /* [n_states] calls within calls to the end of its rule; XL_NO_WAY: none leads
                      * there. Filled by xl_automaton_finish. */
    uint32_t *text;  /* [n_states] where every character of text leads from here, beside which the
                       * state has no edges that begin a text; 0: it is no such state */
    uint32_t text_room;
    uint32_t n_states, states_room;
    xl_rule *rules; /* [n_rules]; the first is the whole */
    uint32_t n_rules, rules_room;
    bool no_memory, too_large; /* sticky: what is laid after it is lost */
} xl_automaton;

/* With rule 0. */
void xl_automaton_begin(xl_automaton *automaton, const exitlm_allocator *allocator);
void xl_automaton_free(xl_automaton *automaton);
uint32_t xl_automaton_state(xl_automaton *automaton);
uint32_t xl_automaton_rule(xl_automaton *automaton);
/* Edges from one state to another: nothing, a byte, a text, the call of a rule. */
void xl_lay_nothing(xl_automaton *automaton, uint32_t from, uint32_t to);
void xl_lay_bytes(xl_automaton *automaton, uint32_t from, uint8_t low, uint8_t high, uint32_t to);
void xl_lay_text(xl_automaton *automaton, uint32_t from, const char *text, uint32_t to);
void xl_lay_call(xl_automaton *automaton, uint32_t from, uint32_t rule, uint32_t to);

/* Characters. */
typedef struct xl_range {
    uint32_t low, high;
} xl_range;
#define XL_MAX_RANGES 256
typedef struct xl_charset {
    xl_range range[XL_MAX_RANGES];
    uint32_t n;
    bool too_many; /* sticky */
} xl_charset;
void xl_charset_add(xl_charset *set, uint32_t low, uint32_t high);
/* Sorts and joins; surrogates fall out. */
void xl_charset_tidy(xl_charset *set);
/* All other characters; of a tidy set, and tidy. */
void xl_charset_invert(xl_charset *set);
/* How characters stand in the text. */
typedef enum xl_quoting {
    XL_UNQUOTED,
    XL_IN_JSON /* inside a JSON string: " and \ and control characters escaped */
} xl_quoting;
/* Text is what stands for itself in a JSON string and is taken by a pattern's dot. */
static inline bool xl_is_text(uint32_t c) {
    if (c < 0x7f) return c >= 0x20 && c != '"' && c != '\\';
    return c >= 0x80 && c != 0x2028 && c != 0x2029 && (c < 0xd800 || c > 0xdfff);
}
/* May a byte begin a character of text, or go on with one? */
static inline bool xl_is_text_byte(uint8_t byte) { return byte >= 0x80 || xl_is_text(byte); }
/* One character of a tidy set, in UTF-8. */
void xl_lay_charset(xl_automaton *automaton, uint32_t from, const xl_charset *set,
                    xl_quoting quoting, uint32_t to);

/* Fills `need`. False: no text at all leads through rule 0. */
bool xl_automaton_finish(xl_automaton *automaton);

#endif
