/* JSON Schema (2020-12, and what of earlier drafts is written alike) as an automaton over the bytes of
 * one JSON text. Every text of the automaton is valid; not every valid text is one of it:
 *  - one form: `, ` between members and items, `: ` after a key, no other white space;
 *  - members in the order of `properties`; others only where additionalProperties is written (or
 *    there are no properties), with keys of letters, digits, _ and -, at most 32;
 *  - numbers without exponents, at most 15 digits in all;
 *  - a tuple (prefixItems, or items as a list) is complete; `pattern` matches the whole string;
 *  - values nest at least 60 deep.
 * USAGE, with the place in the schema, for a keyword that is not supported and for a schema that
 * nothing satisfies. */
#ifndef XL_SCHEMA_H
#define XL_SCHEMA_H
#include "automaton.h"
#include "base/json.h"

/* Lays it as rule 0. */
exitlm_status xl_lay_schema(xl_automaton *automaton, const char *json, size_t n_bytes,
                            exitlm_error *error);
/* The same of a schema that has been read, as a rule that is there; the message has no "schema: ". */
exitlm_status xl_lay_schema_tree(xl_automaton *automaton, const xl_json *schema, uint32_t rule,
                                 exitlm_error *error);

#endif
