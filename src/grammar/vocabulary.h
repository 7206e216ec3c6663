/* The texts of a vocabulary as a tree of bytes, written in the order of a walk through it. It belongs
 * to the model, for all its grammars. */
#ifndef XL_VOCABULARY_H
#define XL_VOCABULARY_H
#include "text/tokenizer.h"

typedef struct xl_vocabulary {
    exitlm_allocator allocator;
    const xl_tokenizer *tokenizer;
    void *block;
    size_t block_bytes;
    uint32_t n;      /* nodes */
    uint8_t *byte;   /* [n] that leads to the node */
    uint8_t *plain;  /* [n] bytes of the longest way on from here, with its own; 0: not all that
                      * follow are plain */
    uint8_t tallest; /* of `plain` */
    uint32_t *end;   /* [n] the node after its last descendant */
    uint32_t *rank;  /* [n + 1] tokens that end before the node */
    int32_t *ids;    /* [n_tokens] in this order */
    uint32_t n_tokens, n_ends;
    int32_t *ends; /* [n_ends] tokens that end a reply */
} xl_vocabulary;

/* A printable character of ASCII that stands for itself in a JSON string: long stretches of a
 * vocabulary are made of nothing else, and where all of them may come they are not looked through. */
static inline bool xl_is_plain(uint8_t byte) {
    return byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\';
}

/* NULL: no memory. Tokens without text are in no tree; of those with the same text the tree has
 * one, and not the one for a single byte if there is another. */
xl_vocabulary *xl_vocabulary_create(const xl_tokenizer *tokenizer,
                                    const exitlm_allocator *allocator);
void xl_vocabulary_free(xl_vocabulary *vocabulary); /* NULL is allowed */

#endif
