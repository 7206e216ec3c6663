/* pretokenize: cuts text into the words within which byte-level BPE merges.
 * Models publish the cuts as regular expressions; here they are written out as
 * small state machines over characters, each with its expression beside it. */
#ifndef XL_PRETOKENIZE_H
#define XL_PRETOKENIZE_H
#include "exitlm.h"

typedef enum xl_pre_kind {
    XL_PRE_DEFAULT,
    XL_PRE_GPT2,
    XL_PRE_SMOLLM,
    XL_PRE_LLAMA3,
    XL_PRE_QWEN2
} xl_pre_kind;

typedef struct xl_pre_rule {
    const char *name; /* the best-known value of tokenizer.ggml.pre */
    xl_pre_kind kind;
    /* a word that is a token as a whole is that token, whatever the merges say */
    bool ignore_merges;
    bool add_bos; /* where the file does not say */
    bool known;   /* false: `pre` is not in the table */
} xl_pre_rule;
/* The rule for a value of tokenizer.ggml.pre ("" is "default", as in llama.cpp). */
xl_pre_rule xl_pre_find(const char *pre, size_t n_bytes);

/* A walk over the words of [at, end), text that xl_utf8_is_plain. Fill kind, at and end, the
 * rest zero. */
typedef struct xl_pre_walk {
    xl_pre_kind kind;
    const uint8_t *at, *end;
    /* of the outer cuts, where a rule has several */
    const uint8_t *piece_end, *word_end, *number_end;
} xl_pre_walk;
/* The next word is [*word, walk->at); false at the end. Words are never empty and cover the
 * text. */
bool xl_pre_next(xl_pre_walk *walk, const uint8_t **word);

#endif
