/* pretokenize: cuts text into the words within which BPE with ranked merges works.
 * Models publish the cuts as regular expressions. Here they stand in a table, as the expressions
 * that they are, and one small matcher runs them all: classes of characters, ? * + {m,n},
 * alternatives, and a look at the next character. It takes time in proportion to the text. */
#ifndef XL_PRETOKENIZE_H
#define XL_PRETOKENIZE_H
#include "exitlm.h"

#define XL_PRE_CUTS 6u
#define XL_PRE_SETS 32u
#define XL_PRE_ITEMS 96u

/* A class of characters. */
typedef struct xl_pre_set {
    uint32_t ascii[4]; /* bits, `negated` counted in */
    uint8_t classes;   /* of characters over 127: mask of 1u << xl_unicode_class */
    bool negated;
    const char *ranges, *ranges_end; /* its text; NULL: it names no characters over 127 */
} xl_pre_set;

/* A step of an expression. */
typedef struct xl_pre_item {
    uint8_t kind, what; /* what: of a character itself, of a class its number */
    uint16_t min, max;  /* how often */
} xl_pre_item;

/* How a vocabulary's text is cut, ready to run. */
typedef struct xl_pre {
    /* a word that is a token as a whole is that token, whatever the merges say */
    bool ignore_merges;
    bool add_bos;      /* where the file does not say */
    bool always_bos;   /* whatever the file says */
    bool raw;          /* tokens are UTF-8 with U+2581 for a space, not byte-level text */
    bool whole_breaks; /* a run of line feeds that is a token is that token */
    uint32_t n_cuts, n_sets, n_items;
    uint8_t cut[XL_PRE_CUTS];       /* the first item of each expression */
    uint32_t first[XL_PRE_CUTS][4]; /* ASCII characters that its matches may begin with */
    xl_pre_set set[XL_PRE_SETS];
    xl_pre_item item[XL_PRE_ITEMS];
} xl_pre;

/* The cuts for a value of tokenizer.ggml.pre ("" is "default", as in llama.cpp); NULL: only looks
 * whether it is known. False: it is not. */
bool xl_pre_find(xl_pre *pre, const char *name, size_t n_bytes);

/* A walk over the words of [at, end), text that xl_utf8_is_plain. Fill pre, at and end, the rest
 * zero. */
typedef struct xl_pre_walk {
    const xl_pre *pre;
    const uint8_t *at, *end;
    const uint8_t *stop[XL_PRE_CUTS]; /* where the present piece of each cut ends */
} xl_pre_walk;
/* The next word is [*word, walk->at); false at the end. Words are never empty and cover the
 * text. */
bool xl_pre_next(xl_pre_walk *walk, const uint8_t **word);

#endif
