#include "gguf_write.h"

#include <string.h>

/* ---- Buffers ------------------------------------------------------------------------ */
void xl_buffer_init(xl_buffer *buffer, const exitlm_allocator *allocator) {
    *buffer = (xl_buffer){.allocator = *allocator};
}

void xl_buffer_free(xl_buffer *buffer) {
    xl_free(&buffer->allocator, buffer->data, buffer->capacity_bytes, 1);
    buffer->data = NULL;
    buffer->n_bytes = buffer->capacity_bytes = 0;
}

void xl_buffer_add(xl_buffer *buffer, const void *bytes, size_t n_bytes) {
    if (buffer->failed || n_bytes == 0) return;
    if (n_bytes > SIZE_MAX / 2 - buffer->n_bytes) {
        buffer->failed = true;
        return;
    }
    if (buffer->n_bytes + n_bytes > buffer->capacity_bytes) {
        size_t capacity = buffer->capacity_bytes + buffer->capacity_bytes / 2 + 256;
        if (capacity < buffer->n_bytes + n_bytes) capacity = buffer->n_bytes + n_bytes;
        void *data = buffer->data;
        if (!xl_grow(&buffer->allocator, &data, buffer->capacity_bytes, capacity, 1)) {
            buffer->failed = true;
            return;
        }
        buffer->data = data;
        buffer->capacity_bytes = capacity;
    }
    if (bytes) memcpy(buffer->data + buffer->n_bytes, bytes, n_bytes);
    else memset(buffer->data + buffer->n_bytes, 0, n_bytes);
    buffer->n_bytes += n_bytes;
}

static void add_le(xl_buffer *buffer, uint64_t value, size_t n) {
    uint8_t bytes[8];
    for (size_t i = 0; i < n; i++) bytes[i] = (uint8_t)(value >> (8 * i));
    xl_buffer_add(buffer, bytes, n);
}

void xl_buffer_u32(xl_buffer *buffer, uint32_t value) { add_le(buffer, value, 4); }
void xl_buffer_u64(xl_buffer *buffer, uint64_t value) { add_le(buffer, value, 8); }

static void add_string(xl_buffer *buffer, const char *text, size_t n_bytes) {
    xl_buffer_u64(buffer, n_bytes);
    xl_buffer_add(buffer, text, n_bytes);
}

static void pad(xl_buffer *buffer, uint32_t alignment) {
    size_t over = buffer->n_bytes % alignment;
    if (over) xl_buffer_add(buffer, NULL, alignment - over);
}

/* ---- Keys ------------------------------------------------------------------------------ */
void xl_gguf_writer_init(xl_gguf_writer *writer, const exitlm_allocator *allocator) {
    *writer = (xl_gguf_writer){.allocator = *allocator, .alignment = 32};
    xl_buffer_init(&writer->keys, allocator);
    xl_buffer_init(&writer->tensors, allocator);
}

void xl_gguf_writer_free(xl_gguf_writer *writer) {
    xl_buffer_free(&writer->keys);
    xl_buffer_free(&writer->tensors);
}

static void begin_key(xl_gguf_writer *writer, const char *key, xl_gguf_type type) {
    size_t n = strlen(key);
    if (n == 0 || n > XL_GGUF_MAX_KEY_BYTES) writer->failed = true;
    add_string(&writer->keys, key, n);
    xl_buffer_u32(&writer->keys, (uint32_t)type);
    writer->n_keys++;
}

void xl_gguf_put_u32(xl_gguf_writer *writer, const char *key, uint32_t value) {
    begin_key(writer, key, XL_GGUF_U32);
    xl_buffer_u32(&writer->keys, value);
}

void xl_gguf_put_i32(xl_gguf_writer *writer, const char *key, int32_t value) {
    begin_key(writer, key, XL_GGUF_I32);
    xl_buffer_u32(&writer->keys, (uint32_t)value);
}

void xl_gguf_put_f32(xl_gguf_writer *writer, const char *key, float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    begin_key(writer, key, XL_GGUF_F32);
    xl_buffer_u32(&writer->keys, bits);
}

void xl_gguf_put_bool(xl_gguf_writer *writer, const char *key, bool value) {
    uint8_t byte = value;
    begin_key(writer, key, XL_GGUF_BOOL);
    xl_buffer_add(&writer->keys, &byte, 1);
}

void xl_gguf_put_string(xl_gguf_writer *writer, const char *key, const char *text, size_t n_bytes) {
    begin_key(writer, key, XL_GGUF_STRING);
    add_string(&writer->keys, text, n_bytes);
}

void xl_gguf_put_cstring(xl_gguf_writer *writer, const char *key, const char *text) {
    xl_gguf_put_string(writer, key, text, strlen(text));
}

static void begin_array(xl_gguf_writer *writer, const char *key, xl_gguf_type item_type, size_t n) {
    begin_key(writer, key, XL_GGUF_ARRAY);
    xl_buffer_u32(&writer->keys, (uint32_t)item_type);
    xl_buffer_u64(&writer->keys, n);
}

void xl_gguf_put_array(xl_gguf_writer *writer, const char *key, xl_gguf_type item_type,
                       const void *items, size_t n) {
    size_t item_bytes = xl_gguf_item_bytes(item_type);
    if (item_bytes == 0 || n > SIZE_MAX / 8) {
        writer->failed = true;
        return;
    }
    begin_array(writer, key, item_type, n);
    xl_buffer_add(&writer->keys, items, n * item_bytes);
}

void xl_gguf_put_strings(xl_gguf_writer *writer, const char *key, const char *const *texts,
                         size_t n) {
    begin_array(writer, key, XL_GGUF_STRING, n);
    for (size_t i = 0; i < n; i++) add_string(&writer->keys, texts[i], strlen(texts[i]));
}

void xl_gguf_put_copy(xl_gguf_writer *writer, const xl_gguf *from, const xl_gguf_key *key) {
    add_string(&writer->keys, xl_gguf_text(from, key->name_offset), key->name_bytes);
    xl_buffer_u32(&writer->keys, (uint32_t)key->type);
    xl_buffer_add(&writer->keys, from->blob + key->offset, key->n_bytes);
    writer->n_keys++;
}

/* ---- Tensors --------------------------------------------------------------------------- */
uint64_t xl_gguf_put_tensor(xl_gguf_writer *writer, const char *name, uint32_t type,
                            uint32_t n_dims, const uint64_t *dims) {
    uint32_t block_elements, block_bytes;
    uint64_t elements = 1, offset = writer->data_bytes;
    size_t n = strlen(name);
    bool fits = n > 0 && n <= XL_GGUF_MAX_NAME_BYTES && n_dims >= 1 && n_dims <= XL_GGUF_MAX_DIMS &&
                xl_gguf_tensor_type_size(type, &block_elements, &block_bytes);
    for (uint32_t i = 0; fits && i < n_dims; i++) {
        fits = dims[i] > 0 && dims[i] <= ((uint64_t)1 << 44) / elements;
        if (fits) elements *= dims[i];
    }
    if (!fits || dims[0] % block_elements) {
        writer->failed = true;
        return 0;
    }
    add_string(&writer->tensors, name, n);
    xl_buffer_u32(&writer->tensors, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) xl_buffer_u64(&writer->tensors, dims[i]);
    xl_buffer_u32(&writer->tensors, type);
    xl_buffer_u64(&writer->tensors, offset);
    uint64_t bytes = elements / block_elements * block_bytes;
    writer->data_bytes += (bytes + writer->alignment - 1) / writer->alignment * writer->alignment;
    writer->n_tensors++;
    return offset;
}

exitlm_status xl_gguf_writer_header(const xl_gguf_writer *writer, xl_buffer *out,
                                    exitlm_error *error) {
    if (writer->failed || writer->n_keys > XL_GGUF_MAX_KEYS ||
        writer->n_tensors > XL_GGUF_MAX_TENSORS)
        return xl_fail(
            error, EXITLM_USAGE,
            "a key or tensor that no GGUF file can hold (name, size, type or their number)");
    xl_buffer_add(out, "GGUF", 4);
    xl_buffer_u32(out, 3);
    xl_buffer_u64(out, writer->n_tensors);
    xl_buffer_u64(out, writer->n_keys);
    xl_buffer_add(out, writer->keys.data, writer->keys.n_bytes);
    xl_buffer_add(out, writer->tensors.data, writer->tensors.n_bytes);
    pad(out, writer->alignment);
    if (writer->keys.failed || writer->tensors.failed || out->failed)
        return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for the header of a GGUF file");
    return EXITLM_OK;
}

void xl_gguf_writer_data(const xl_gguf_writer *writer, xl_buffer *out, const void *bytes,
                         size_t n_bytes) {
    xl_buffer_add(out, bytes, n_bytes);
    pad(out, writer->alignment);
}
