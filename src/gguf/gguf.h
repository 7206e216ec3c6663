/* GGUF headers (v2, v3), parsed from bytes as they arrive in any chunking.
 * The header is gathered in one block that grows with what has really come; nothing is ever
 * allocated by a count that a file merely claims. Strings and arrays are read in place from that
 * block. After `done` the block no longer moves: pointers into it live as long as the xl_gguf.
 *
 *   xl_gguf_init(&g, &allocator);
 *   while (!g.done) { … xl_gguf_push(&g, bytes, n, &used, error) … }
 *   if (xl_gguf_get_u32(&g, "llama.block_count", &layers)) …
 *   xl_gguf_free(&g);
 */
#ifndef XL_GGUF_H
#define XL_GGUF_H
#include "base/alloc.h"
#include "base/status.h"

/* Hard limits. The largest vocabularies (262,144 tokens) need about 12 MB of header. */
#define XL_GGUF_MAX_HEADER_BYTES (64u << 20)
#define XL_GGUF_MAX_KEYS 16384u
#define XL_GGUF_MAX_TENSORS 65536u
#define XL_GGUF_MAX_KEY_BYTES 1024u
#define XL_GGUF_MAX_NAME_BYTES 256u /* of a tensor */
#define XL_GGUF_MAX_DIMS 4u
#define XL_GGUF_MAX_ALIGNMENT (1u << 20)

/* Types of metadata values, numbered as in the file. */
typedef enum xl_gguf_type {
    XL_GGUF_U8,
    XL_GGUF_I8,
    XL_GGUF_U16,
    XL_GGUF_I16,
    XL_GGUF_U32,
    XL_GGUF_I32,
    XL_GGUF_F32,
    XL_GGUF_BOOL,
    XL_GGUF_STRING,
    XL_GGUF_ARRAY,
    XL_GGUF_U64,
    XL_GGUF_I64,
    XL_GGUF_F64,
    XL_GGUF_TYPE_COUNT
} xl_gguf_type;

typedef struct xl_gguf_key {
    uint32_t name_offset, name_bytes; /* in the blob */
    xl_gguf_type type, item_type;     /* item_type: of an array */
    uint32_t n_items;                 /* 1 for what is not an array */
    /* the value as it stands in the file, type tag excluded (array: item type and count
     * included) */
    uint32_t offset, n_bytes;
    /* first item: text of a string, first byte of a scalar or array item */
    uint32_t items_offset;
} xl_gguf_key;

typedef struct xl_gguf_tensor {
    uint32_t name_offset, name_bytes; /* in the blob */
    uint32_t entry_offset;            /* where its entry in the table begins */
    /* as numbered in the file, see xl_gguf_tensor_type_name; it may be one that nobody knows */
    uint32_t type;
    uint32_t n_dims;
    uint64_t dims[XL_GGUF_MAX_DIMS]; /* dims[0] is the contiguous one; unused are 1 */
    /* offset: in the file (data_offset included), once `done`; n_bytes: 0 of an unknown type */
    uint64_t offset, n_bytes;
} xl_gguf_tensor;

typedef struct xl_gguf_index { /* open addressing, 0 = empty, else index + 1 */
    uint32_t *slots;
    uint32_t n_slots; /* power of two, or 0 */
} xl_gguf_index;

typedef struct xl_gguf {
    exitlm_allocator allocator;
    uint8_t *blob; /* the header's bytes so far */
    size_t blob_bytes, blob_capacity_bytes;
    /* of the whole header, where the caller knows it (set after init), else 0: the block then
     * begins with that size */
    size_t expected_bytes;
    /* set after init: `done` behind the keys, the table of tensors is not read */
    bool keys_only;
    size_t peak_bytes; /* most memory held at a time so far */
    size_t at;         /* parsed up to here */
    int phase;
    uint32_t version, n_keys, n_tensors; /* as claimed, within the limits */
    uint32_t keys_read, tensors_read, keys_capacity, tensors_capacity;
    xl_gguf_key *keys;       /* [keys_read] in the order of the file */
    xl_gguf_tensor *tensors; /* [tensors_read] */
    xl_gguf_index key_index, tensor_index;
    uint32_t items_left; /* of the array of strings that is being read */
    uint32_t *by_offset; /* [n_tensors] indices in the order of the file; valid once `done` */
    uint32_t alignment;
    bool done;
    uint64_t data_offset; /* header size, padding included; valid once `done` */
    uint64_t total_bytes; /* end of the last tensor in the file; valid once `done` */
} xl_gguf;

void xl_gguf_init(xl_gguf *gguf, const exitlm_allocator *allocator);
void xl_gguf_free(xl_gguf *gguf);                 /* leaves it as after init */
size_t xl_gguf_memory_bytes(const xl_gguf *gguf); /* held from the allocator now */

/* Takes bytes of the header; *used of the `n_bytes` belonged to it (without the padding behind it,
 * which a file without weights may lack). All are used until `done`. BAD_MODEL or
 * UNSUPPORTED with name and offset; then only xl_gguf_free. */
exitlm_status xl_gguf_push(xl_gguf *gguf, const void *bytes, size_t n_bytes, size_t *used,
                           exitlm_error *error);

/* The error for a file that ends here (before `done`). */
exitlm_status xl_gguf_truncated(const xl_gguf *gguf, exitlm_error *error);

/* ---- Keys (once done). NULL or false where the key is missing or of another kind. ---- */
const xl_gguf_key *xl_gguf_find(const xl_gguf *gguf, const char *key);
/* any integer type that fits */
bool xl_gguf_get_u32(const xl_gguf *gguf, const char *key, uint32_t *value);
/* any integer type that fits */
bool xl_gguf_get_i64(const xl_gguf *gguf, const char *key, int64_t *value);
/* f32, f64, finite, or an integer */
bool xl_gguf_get_f32(const xl_gguf *gguf, const char *key, float *value);
bool xl_gguf_get_bool(const xl_gguf *gguf, const char *key, bool *value);
/* in place */
bool xl_gguf_get_string(const xl_gguf *gguf, const char *key, const char **text, size_t *n_bytes);
/* a string equal to `text` */
bool xl_gguf_is(const xl_gguf *gguf, const char *key, const char *text);

/* An array in place. Items may be unaligned: read them with the functions below. */
typedef struct xl_gguf_array {
    xl_gguf_type item_type;
    uint32_t n;
    size_t n_bytes;       /* of all items */
    const uint8_t *items; /* packed as in the file; a string is its u64 length and its text */
} xl_gguf_array;
bool xl_gguf_get_array(const xl_gguf *gguf, const char *key, xl_gguf_array *array);
/* item_type STRING: the text at byte *cursor of the items (0 at first), which moves to the next;
 * NULL past the end. */
const char *xl_gguf_array_next(const xl_gguf_array *array, size_t *cursor, size_t *n_bytes);
/* integers and bool; else 0 */
int64_t xl_gguf_array_int(const xl_gguf_array *array, uint32_t index);
double xl_gguf_array_float(const xl_gguf_array *array, uint32_t index); /* any number; else 0 */

/* ---- Tensors (once done) ---- */
const xl_gguf_tensor *xl_gguf_find_tensor(const xl_gguf *gguf, const char *name);
static inline const char *xl_gguf_text(const xl_gguf *gguf, uint32_t offset) {
    return (const char *)gguf->blob + offset;
}
/* "Q4_1", …; NULL for a number that no format of this parser has. Sizes of a block, for known types
 * also where the engine cannot compute with them. */
const char *xl_gguf_tensor_type_name(uint32_t type);
bool xl_gguf_tensor_type_size(uint32_t type, uint32_t *block_elements, uint32_t *block_bytes);
size_t xl_gguf_item_bytes(xl_gguf_type type); /* 0 for strings and arrays */

#endif
