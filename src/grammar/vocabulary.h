/* The texts of a vocabulary as a tree of bytes, written in the order of a walk through it. */
#ifndef XL_VOCABULARY_H
#define XL_VOCABULARY_H
#include "text/tokenizer.h"

typedef struct xl_vocabulary {
    uint32_t n;    /* nodes */
    uint8_t *byte; /* [n] that leads to the node */
    uint32_t *end; /* [n] the node after its last descendant */
    int32_t *id;   /* [n] the token that ends here, -1: none */
    uint32_t n_ends;
    int32_t *ends; /* [n_ends] tokens that end a reply */
} xl_vocabulary;

/* False: no memory. Tokens without text are in no tree; of those with the same text the tree has
 * one, and not the one for a single byte if there is another. */
bool xl_vocabulary_create(xl_vocabulary *vocabulary, const xl_tokenizer *tokenizer,
                          const exitlm_allocator *allocator);
void xl_vocabulary_free(xl_vocabulary *vocabulary, const exitlm_allocator *allocator);

#endif
