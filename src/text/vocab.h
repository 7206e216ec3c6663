/* vocab: the inside of a tokenizer: token texts, and the tables to find them and their merges. */
#ifndef XL_VOCAB_H
#define XL_VOCAB_H
#include "pretokenize.h"
#include "tokenizer.h"

#define XL_NO_ID UINT32_MAX
/* beside xl_token_attr, in `attr`: a reply ends here; white space behind it is dropped */
#define XL_TOKEN_EOG 64u
#define XL_TOKEN_STRIPS 128u
#define XL_MAX_SPECIAL_BYTES 1024u

/* A merge by rank: left, right and the token that they make, 21 bits each (there are
 * 48,900 of them, and an edge worker counts each byte). */
typedef uint64_t xl_merge;
#define XL_MERGE_ID_BITS 21

struct xl_tokenizer {
    exitlm_allocator allocator;
    size_t block_bytes; /* of the one block that this struct begins */
    xl_tokenizer_info info;
    xl_pre pre;  /* of merges by rank */
    bool ranked; /* merges have ranks; else tokens have scores */
    uint32_t n_tokens;
    const uint8_t *tokens; /* the file's array of strings */
    /* [n_tokens] where each text begins in it; its u64 length lies before it */
    uint32_t *offsets;
    uint8_t *attr;         /* [n_tokens] xl_token_attr and the two above */
    const uint8_t *scores; /* [n_tokens] f32 LE, unaligned; NULL: all 0 */
    uint32_t *slots;       /* [n_slots] ids by hash of the text, or XL_NO_ID */
    uint32_t n_slots;
    /* [n_merges] by rank, their number in the file: the lowest merges first */
    xl_merge *merges;
    uint32_t *merge_slots; /* [n_merge_slots] ranks by hash of left and right, or XL_NO_ID */
    uint32_t n_merges, n_merge_slots;
    /* [n_special] control, user-defined and unknown tokens, longest first */
    uint32_t *special;
    uint32_t *special_sorted; /* [n_special] indexes into `special`, by text */
    uint32_t n_special, special_capacity;
    uint32_t special_first[8]; /* set of the bytes that special tokens begin with */
    uint32_t byte_id[256];     /* token of each single byte, or XL_NO_ID */
    /* SentencePiece: no token has a space inside, so words can be cut before each */
    bool words_split;
};

/* Text of a token as it stands in the vocabulary (byte-level tokens encoded). id < n_tokens. */
xl_str xl_vocab_text(const xl_tokenizer *t, uint32_t id);

/* The id of a text in two parts (the second may be empty), or XL_NO_ID. */
uint32_t xl_vocab_find(const xl_tokenizer *t, xl_str a, xl_str b);

/* The id of the token whose text is these bytes in byte-level encoding, or XL_NO_ID. */
uint32_t xl_vocab_find_bytes(const xl_tokenizer *t, const uint8_t *bytes, size_t n_bytes);

/* Rank and result of the merge of two ids; false: they do not merge. */
bool xl_vocab_merge(const xl_tokenizer *t, uint32_t left, uint32_t right, uint32_t *rank,
                    uint32_t *result);

/* Byte-level BPE writes each byte as one printable character: its code point (0x21 … 0x143), and
 * back (-1: none). */
uint32_t xl_byte_to_char(uint8_t byte);
int xl_char_to_byte(uint32_t code_point);

/* Fills the tables of `t`, whose arrays lie ready in the block. BAD_MODEL with the index. */
exitlm_status xl_vocab_build(xl_tokenizer *t, const xl_tokenizer_source *source,
                             exitlm_error *error);
/* Slots of a hash table for n entries. */
uint32_t xl_vocab_slots(size_t n);

/* Work memory of one call to encode: symbols of a word, on the stack up to XL_WORK_SMALL. */
#define XL_WORK_SMALL 256u
typedef struct xl_work {
    const exitlm_allocator *allocator;
    uint32_t *value, *prev, *next, *key; /* [capacity] */
    uint64_t *heap;                      /* [2 * capacity] */
    uint32_t capacity;
    void *block;   /* of the allocator, or NULL while the small arrays do */
    uint8_t *text; /* text rewritten before it is cut into words (allocator), or NULL */
    size_t text_bytes;
    uint32_t small[4 * XL_WORK_SMALL];
    uint64_t small_heap[2 * XL_WORK_SMALL];
} xl_work;
void xl_work_init(xl_work *work, const exitlm_allocator *allocator);
void xl_work_free(xl_work *work);
/* Makes room for n symbols; what the arrays held is lost. False: no memory. */
bool xl_work_reserve(xl_work *work, size_t n);
/* Makes room for n bytes of text; false: no memory. */
bool xl_work_text(xl_work *work, size_t n_bytes);

/* Looks whether two neighbouring symbols merge; value_after is the value of the symbol after them.
 * Lower keys merge first. */
typedef bool xl_pair_fn(const void *context, uint32_t left, uint32_t right, uint32_t value_after,
                        uint32_t *key, uint32_t *merged);
/* Merges the n symbols in work->value, best key first and leftmost among equals, until none is
 * left; value[n] is `end_value` to the pairs. Returns the number of symbols that remain in
 * work->value. n log n. */
uint32_t xl_merge_symbols(xl_work *work, uint32_t n, uint32_t end_value, xl_pair_fn *pair,
                          const void *context);

/* Where ids go: counts all, writes those that fit. */
typedef struct xl_ids {
    int32_t *ids;
    size_t capacity, n;
} xl_ids;
static inline void xl_ids_put(xl_ids *out, uint32_t id) {
    if (out->n < out->capacity) out->ids[out->n] = (int32_t)id;
    out->n++;
}

/* Ids of a text without special tokens, appended to `out`; false: no memory. n_bytes < 2^29. */
bool xl_bpe_encode(const xl_tokenizer *t, xl_work *work, const uint8_t *text, size_t n_bytes,
                   xl_ids *out);
bool xl_spm_encode(const xl_tokenizer *t, xl_work *work, const uint8_t *text, size_t n_bytes,
                   bool space_prefix, xl_ids *out);
#endif
