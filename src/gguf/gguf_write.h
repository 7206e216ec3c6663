/* Writes GGUF v3: first all keys and tensors are announced, then the header is made, then the
 * caller writes each tensor's bytes at its offset, padded with zeros to the alignment. Errors
 * stick: only the last call reports them.
 *
 *   xl_gguf_writer_init(&w, &allocator);
 *   xl_gguf_put_string(&w, "general.architecture", "exitlm", 6);
 *   offset = xl_gguf_put_tensor(&w, "exit.0.norm.weight", type, 1, (uint64_t[]){576});
 *   xl_gguf_writer_header(&w, &buffer, error);      appends the header, padded
 *   xl_gguf_writer_data(&w, &buffer, bytes, n);    appends the next tensor's bytes, padded
 */
#ifndef XL_GGUF_WRITE_H
#define XL_GGUF_WRITE_H
#include "gguf.h"

/* Bytes that grow. `failed` sticks once memory ran out (the content is then incomplete). */
typedef struct xl_buffer {
    exitlm_allocator allocator;
    uint8_t *data;
    size_t n_bytes, capacity_bytes;
    bool failed;
} xl_buffer;
void xl_buffer_init(xl_buffer *buffer, const exitlm_allocator *allocator);
void xl_buffer_free(xl_buffer *buffer);
void xl_buffer_add(xl_buffer *buffer, const void *bytes, size_t n_bytes); /* bytes NULL: zeros */
void xl_buffer_u32(xl_buffer *buffer, uint32_t value);                    /* little endian */
void xl_buffer_u64(xl_buffer *buffer, uint64_t value);

typedef struct xl_gguf_writer {
    exitlm_allocator allocator;
    xl_buffer keys, tensors; /* the two tables as they will stand in the file */
    uint64_t n_keys, n_tensors;
    uint64_t data_bytes; /* of all tensors announced, padded */
    /* 32; set general.alignment through this field before the first tensor */
    uint32_t alignment;
    bool failed; /* a size overflowed, a type is unknown */
} xl_gguf_writer;

void xl_gguf_writer_init(xl_gguf_writer *writer, const exitlm_allocator *allocator);
void xl_gguf_writer_free(xl_gguf_writer *writer);

void xl_gguf_put_u32(xl_gguf_writer *writer, const char *key, uint32_t value);
void xl_gguf_put_i32(xl_gguf_writer *writer, const char *key, int32_t value);
void xl_gguf_put_f32(xl_gguf_writer *writer, const char *key, float value);
void xl_gguf_put_bool(xl_gguf_writer *writer, const char *key, bool value);
void xl_gguf_put_string(xl_gguf_writer *writer, const char *key, const char *text, size_t n_bytes);
void xl_gguf_put_cstring(xl_gguf_writer *writer, const char *key, const char *text);
/* Items of a fixed size, in this machine's (little-endian) layout. */
void xl_gguf_put_array(xl_gguf_writer *writer, const char *key, xl_gguf_type item_type,
                       const void *items, size_t n);
void xl_gguf_put_strings(xl_gguf_writer *writer, const char *key, const char *const *texts,
                         size_t n);
/* A key of another file as it stands there. */
void xl_gguf_put_copy(xl_gguf_writer *writer, const xl_gguf *from, const xl_gguf_key *key);

/* Announces a tensor; dims[0] is the contiguous dimension. Its offset from the start of the data (a
 * multiple of the alignment). `type` as numbered in GGUF files. */
uint64_t xl_gguf_put_tensor(xl_gguf_writer *writer, const char *name, uint32_t type,
                            uint32_t n_dims, const uint64_t *dims);

/* Appends the whole header to `out`, padded to the alignment; out->n_bytes must be a multiple of it
 * before (0 as a rule). OUT_OF_MEMORY, or USAGE for a tensor that no file can hold. */
exitlm_status xl_gguf_writer_header(const xl_gguf_writer *writer, xl_buffer *out,
                                    exitlm_error *error);
/* Appends the bytes of the next tensor, padded: tensors in the order of their announcement. */
void xl_gguf_writer_data(const xl_gguf_writer *writer, xl_buffer *out, const void *bytes,
                         size_t n_bytes);

#endif
