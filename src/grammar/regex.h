/* Regular expressions: the part of ECMAScript's (ES2024, mode u) that says which texts match as a
 * whole. Characters, `.`, classes, \d \w \s \D \W \S, \t \n \v \f \r \0 \xHH \uHHHH \u{H…}, escaped
 * punctuation, groups (?:…) (…) (?<name>…), |, * + ? {n} {n,} {n,m} and their lazy forms, which mean
 * the same here. ^ only at the beginning of an alternative, $ only at its end; without them the whole
 * text must match all the same. Look-around, back-references, \b and \p{…} are USAGE errors. */
#ifndef XL_REGEX_H
#define XL_REGEX_H
#include "automaton.h"

enum { XL_REGEX_IGNORE_CASE = 1 /* of ASCII letters */, XL_REGEX_DOT_ALL = 2 };

/* Lays the expression between two states. USAGE with the place for what is not understood. */
exitlm_status xl_lay_regex(xl_automaton *automaton, uint32_t from, const char *pattern,
                           size_t n_bytes, unsigned flags, xl_quoting quoting, uint32_t to,
                           exitlm_error *error);

#endif
