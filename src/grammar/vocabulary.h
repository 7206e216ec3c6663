/* The texts of a vocabulary as a tree of bytes, written in the order of a walk through it, and the
 * sets of those that are plain text. It belongs to the model, for all its grammars. */
#ifndef XL_VOCABULARY_H
#define XL_VOCABULARY_H
#include "text/tokenizer.h"

/* Characters of the longest text that the sets by length know. */
enum { XL_MOST_TEXT = 24 };

typedef struct xl_token_tree {
    uint32_t n;    /* nodes */
    uint8_t *byte; /* [n] that leads to the node */
    uint32_t *end; /* [n] the node after its last descendant */
    int32_t *id;   /* [n] the token that ends here, -1: none */
} xl_token_tree;

typedef struct xl_vocabulary {
    exitlm_allocator allocator;
    const xl_tokenizer *tokenizer;
    void *block;
    size_t block_bytes;
    uint32_t mask_words; /* of 64 tokens, by id */
    xl_token_tree all;
    /* Most tokens are text and nothing else (automaton.h). Where any text may come they are not looked
     * through: text + c * mask_words has those of up to c characters, and `other` the rest. */
    uint64_t *text; /* [XL_MOST_TEXT + 1][mask_words] */
    xl_token_tree other;
    uint32_t n_ends;
    int32_t *ends; /* [n_ends] tokens that end a reply */
} xl_vocabulary;

static inline void xl_mask_set(uint64_t *mask, uint32_t id) {
    mask[id / 64] |= (uint64_t)1 << id % 64;
}

/* NULL: no memory. Tokens without text are in no tree; of those with the same text the tree has
 * one, and not the one for a single byte if there is another. */
xl_vocabulary *xl_vocabulary_create(const xl_tokenizer *tokenizer,
                                    const exitlm_allocator *allocator);
void xl_vocabulary_free(xl_vocabulary *vocabulary); /* NULL is allowed */

#endif
