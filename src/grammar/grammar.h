/* Which tokens may come next: a schema or a pattern against a vocabulary.
 *
 * The automaton of bytes is run as sets of (state, stack of calls), which are made deterministic as
 * they come up (as in R. Cox's RE2): a set is a number, and a byte leads from number to number by a
 * table. The vocabulary is a tree of bytes; a mask is one walk through it that leaves a branch where
 * the automaton dies. Where any text may come only the tokens that are more than text are walked
 * through; the others are there as a set (vocabulary.h). Masks are kept with their sets.
 *
 * What a reply has said so far is told by its tokens, each time: so whoever goes back to an earlier
 * position needs to say nothing. */
#ifndef XL_GRAMMAR_H
#define XL_GRAMMAR_H
#include "vocabulary.h"

typedef struct exitlm_grammar xl_grammar;

enum { XL_MAX_BEGUN = 4096 };

typedef enum xl_grammar_kind {
    XL_GRAMMAR_SCHEMA,  /* JSON Schema (schema.h) */
    XL_GRAMMAR_PATTERN, /* a regular expression (regex.h) */
    XL_GRAMMAR_TOOLS    /* calls of tools (tools.h) */
} xl_grammar_kind;

typedef struct xl_grammar_source {
    xl_grammar_kind kind;
    unsigned flags; /* of a pattern, of tools */
    const char *text;
    size_t n_bytes;
    const char *choice; /* of tools */
} xl_grammar_source;

const char *xl_grammar_kind_name(xl_grammar_kind kind); /* "schema", ... */

/* Its memory is all taken here. The vocabulary must outlive it. */
exitlm_status xl_grammar_create(xl_grammar **grammar, const xl_vocabulary *vocabulary,
                                const xl_grammar_source *source, const exitlm_allocator *allocator,
                                exitlm_error *error);
void xl_grammar_free(xl_grammar *grammar); /* NULL is allowed */
/* What is asked from now on is of replies that go on from this text. USAGE where no text of the grammar
 * begins with it: it begins anew then. White space of JSON may be any. */
exitlm_status xl_grammar_begin(xl_grammar *grammar, const char *text, size_t n_bytes,
                               exitlm_error *error);

/* Each is asked of the reply's tokens so far, ids [n], which it allowed; a reply begins with n = 0. */
bool xl_grammar_allows(xl_grammar *grammar, const int32_t *ids, uint32_t n, int32_t id);
/* Whether all these may come next, one after the other. */
bool xl_grammar_allows_all(xl_grammar *grammar, const int32_t *ids, uint32_t n, const int32_t *next,
                           uint32_t n_next);
/* Takes from n logits by id those that may not come next: -infinity. */
void xl_grammar_mask(xl_grammar *grammar, const int32_t *ids, uint32_t n, float *logits,
                     uint32_t n_logits);
/* The bytes that must come next, up to `capacity`; *complete: after them nothing can follow. */
size_t xl_grammar_forced(xl_grammar *grammar, const int32_t *ids, uint32_t n, char *bytes,
                         size_t capacity, bool *complete);
/* False: too many possibilities at once to be held, so nothing can be said. */
bool xl_grammar_goes_on(xl_grammar *grammar, const int32_t *ids, uint32_t n);

#endif
