/* tokenizer: text to token ids and back, from a GGUF file's metadata.
 *
 * Two kinds, told by `tokenizer.ggml.model`: "gpt2" and "gemma4" are BPE with merges, and with a
 * pre-tokenizer told by `tokenizer.ggml.pre`, over bytes or (Gemma 4) over characters; "llama" is
 * SentencePiece's BPE (scores, byte tokens). The ids are those of llama.cpp, also for text that
 * is not valid UTF-8: the whole of tests/data/tokenizer is compared with it.
 *
 * The 49k strings of a vocabulary are not copied: the tokenizer points into the
 * metadata, which must stay where it is while the tokenizer lives. Its own
 * memory (hash tables, 2-3 MB for 49k tokens) is one block whose size is known
 * beforehand. A finished tokenizer is read-only and may be used by several
 * threads at once. */
#ifndef XL_TOKENIZER_H
#define XL_TOKENIZER_H
#include "exitlm.h"

/* Bytes somewhere in the metadata; not NUL-terminated. {NULL, 0} where absent. */
typedef struct xl_str {
    const char *data;
    size_t bytes;
} xl_str;

/* A GGUF array of strings as it lies in the file: for each of `count` strings
 * a little-endian u64 length, then its bytes; `bytes` in all, unaligned. */
typedef struct xl_str_array {
    const uint8_t *data;
    size_t bytes;
    size_t count;
} xl_str_array;

#define XL_FIM_COUNT 6u /* kinds of fill-in-the-middle tokens */

/* What the metadata says; fill with xl_tokenizer_source_init first. Nothing
 * here is trusted: xl_tokenizer_create checks all of it. */
typedef struct xl_tokenizer_source {
    xl_str model;        /* tokenizer.ggml.model: "gpt2", "gemma4" or "llama" */
    xl_str pre;          /* tokenizer.ggml.pre */
    xl_str_array tokens; /* tokenizer.ggml.tokens */
    xl_str_array merges; /* tokenizer.ggml.merges: "left right", best first */
    /* NULL, or merges.data, to be overwritten with the tables made of it; the 12 bytes before it
     * (an array's head), too */
    uint8_t *room;
    /* tokenizer.ggml.scores: f32 LE [n_scores], unaligned; NULL where absent */
    const void *scores;
    size_t n_scores;
    /* tokenizer.ggml.token_type: i32 LE [n_types], unaligned; NULL where absent */
    const void *types;
    size_t n_types;
    /* tokenizer.ggml.{bos,eos,unknown,eot,eom,padding}_token_id; -1 where absent */
    int64_t bos, eos, unk, eot, eom, pad;
    /* tokenizer.ggml.{add_bos_token,add_eos_token,add_space_prefix}: 0, 1, or -1 where absent */
    int add_bos, add_eos, add_space_prefix;
    /* tokenizer.ggml.fim_{pre,suf,mid,pad,rep,sep}_token_id; -1 where absent */
    int64_t fim[XL_FIM_COUNT];
    /* special tokens swallow the white space behind them: Phi-3, told by general.name */
    bool strips;
} xl_tokenizer_source;

/* Everything absent. */
void xl_tokenizer_source_init(xl_tokenizer_source *source);

typedef struct xl_tokenizer xl_tokenizer;

struct xl_gguf;
/* What a parsed GGUF header says (keys tokenizer.ggml.*); the source points into its blob.
 * BAD_MODEL where a key is missing or of the wrong type. */
exitlm_status xl_tokenizer_source_from_gguf(xl_tokenizer_source *source, const struct xl_gguf *gguf,
                                            exitlm_error *error);

/* What of it is not supported: "tokenizer" or "pre-tokenizer" and, in *name, which; NULL: nothing. */
const char *xl_tokenizer_lacks(const xl_tokenizer_source *source, xl_str *name);

/* Bytes that xl_tokenizer_create will take from the allocator (one block, 64-byte alignment), or
 * SIZE_MAX where the source is too large to be true. Looks at the counts and the token types
 * only. */
size_t xl_tokenizer_bytes(const xl_tokenizer_source *source);

/* Builds the tokenizer; *tokenizer is NULL after a failure. `source` itself is not
 * kept, what it points to is. `allocator` is copied.
 * BAD_MODEL (with the index of the token or merge) for metadata that breaks its
 * format, UNSUPPORTED naming another tokenizer model or an unknown pre-tokenizer, OUT_OF_MEMORY. */
exitlm_status xl_tokenizer_create(xl_tokenizer **tokenizer, const xl_tokenizer_source *source,
                                  const exitlm_allocator *allocator, exitlm_error *error);
void xl_tokenizer_free(xl_tokenizer *tokenizer); /* NULL is allowed */

/* of a token, as text; a vocabulary with a longer one is not supported */
#define XL_MAX_SPOKEN_BYTES 1024u

typedef struct xl_tokenizer_info {
    uint32_t n_tokens;
    int32_t bos, eos, unk, eot, pad; /* -1: none */
    bool add_bos, add_eos, add_space_prefix;
    bool byte_level; /* tokens are texts of byte-level BPE; else UTF-8, with U+2581 for a space */
    uint32_t max_token_bytes; /* no token decodes to more */
    uint32_t max_text_bytes;  /* n tokens are at most n times as much valid UTF-8 */
} xl_tokenizer_info;
void xl_tokenizer_describe(const xl_tokenizer *tokenizer, xl_tokenizer_info *info);

/* Token ids of `text`. `flags`: EXITLM_ADD_SPECIAL, EXITLM_PARSE_SPECIAL. *n is the number of ids
 * also where `capacity` is smaller (then the first `capacity` are written; `ids` may be NULL for
 * 0). There are never more ids than 3 * n_bytes + 5 (an invalid byte counts as U+FFFD, three
 * bytes). Time is n log n at worst. Byte-level BPE takes work memory from the tokenizer's allocator
 * only for words over 256 bytes and for text that is not UTF-8, BPE over characters for any; never
 * more than xl_tokenizer_work_bytes(n_bytes) are held. OUT_OF_MEMORY leaves nothing behind. USAGE where
 * n_bytes >= 2^29. */
exitlm_status xl_tokenizer_encode(const xl_tokenizer *tokenizer, const char *text, size_t n_bytes,
                                  unsigned flags, int32_t *ids, size_t capacity, size_t *n,
                                  exitlm_error *error);
/* Stretches of a text, ascending and disjoint. */
typedef struct xl_span {
    size_t start, end;
} xl_span;
typedef struct xl_spans {
    xl_span *span;
    size_t n;
    size_t skip; /* their positions count from so many bytes before the text */
} xl_spans;
/* a flag beside the public ones: begin-of-text as EXITLM_ADD_SPECIAL, but never end-of-text: the
 * text will be continued */
enum { XL_ADD_BEGIN = 4 };
/* The same; of special tokens that touch a span of `plain` (NULL: none) only those count that do
 * without PARSE_SPECIAL. */
exitlm_status xl_tokenizer_encode_parts(const xl_tokenizer *tokenizer, const char *text,
                                        size_t n_bytes, const xl_spans *plain, unsigned flags,
                                        int32_t *ids, size_t capacity, size_t *n,
                                        exitlm_error *error);
/* SIZE_MAX at overflow */
size_t xl_tokenizer_work_bytes(const xl_tokenizer *tokenizer, size_t n_bytes);

typedef enum xl_token_attr {
    XL_TOKEN_NORMAL = 1 << 0,
    XL_TOKEN_UNKNOWN = 1 << 1,
    XL_TOKEN_CONTROL = 1 << 2, /* <|im_end|> and the like: part of the text only on request */
    XL_TOKEN_USER_DEFINED = 1 << 3,
    XL_TOKEN_UNUSED = 1 << 4, /* and those of an unknown type */
    XL_TOKEN_BYTE = 1 << 5
} xl_token_attr;
/* A mask of the above; 0 for an id out of range. */
unsigned xl_token_attributes(const xl_tokenizer *tokenizer, int32_t id);

/* End of generation: eos, eot, eom and control tokens known to end a turn. */
bool xl_token_is_eog(const xl_tokenizer *tokenizer, int32_t id);

/* The bytes that `id` stands for, special tokens as they are written, nothing for unused ones.
 * Returns their number, which is at most max_token_bytes; writes the first `capacity` of them. 0
 * for an id out of range. A SentencePiece token's leading space is kept: whoever wants llama.cpp's
 * detokenize drops the first space of a whole text (info.add_space_prefix). */
size_t xl_token_bytes(const xl_tokenizer *tokenizer, int32_t id, char *out, size_t capacity);

/* The text of a token as it stands in the vocabulary, in the metadata. `id` must be in range. */
xl_str xl_token_text(const xl_tokenizer *tokenizer, int32_t id);

/* Streaming decoder: bytes of tokens go in, whole characters come out. Plain
 * data, no clean-up; {0} is a fresh one. */
typedef struct xl_utf8_stream {
    uint8_t held[4]; /* the incomplete character */
    uint32_t n_held;
} xl_utf8_stream;
#define XL_UTF8_ROOM(n_bytes) (3 * ((n_bytes) + 3))
/* Appends `n_bytes` bytes and writes all that is decided to `out`: valid characters
 * as they are, every ill-formed sequence (Unicode's maximal subpart) as U+FFFD. Needs a
 * capacity of XL_UTF8_ROOM(n_bytes); returns the bytes written. */
size_t xl_utf8_push(xl_utf8_stream *stream, const char *bytes, size_t n_bytes, char *out);
/* The end of the text: an incomplete rest becomes one U+FFFD. Writes at most 3 bytes; the stream
 * is fresh again. */
size_t xl_utf8_flush(xl_utf8_stream *stream, char *out);

#endif
