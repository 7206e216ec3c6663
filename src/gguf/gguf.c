/* The parser is a list of small steps. Each looks at the bytes from `at` on; where too few have
 * come it changes nothing and is tried again once there are more. So the chunking never shows. */
#include "gguf.h"

#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "base/sort.h"

enum {
    PHASE_START,
    PHASE_KEY,
    PHASE_STRINGS,
    PHASE_KEYS_END,
    PHASE_TENSOR,
    PHASE_TENSORS_END,
    PHASE_DONE
};
typedef enum { STEP_ON, STEP_WAIT, STEP_FAIL } step_result;

#define MAX_ELEMENTS ((uint64_t)1 << 44) /* of one tensor */
#define MAX_FILE_BYTES ((uint64_t)1 << 46)
#define SLICE_BYTES 65536u /* taken at once, so that little more than the header is ever gathered */

/* ---- Types -------------------------------------------------------------------- */
typedef struct {
    const char *name;
    uint16_t block_elements, block_bytes;
} tensor_type;

static const tensor_type tensor_types[] = {
    [0] = {"F32", 1, 4},         [1] = {"F16", 1, 2},         [2] = {"Q4_0", 32, 18},
    [3] = {"Q4_1", 32, 20},      [6] = {"Q5_0", 32, 22},      [7] = {"Q5_1", 32, 24},
    [8] = {"Q8_0", 32, 34},      [9] = {"Q8_1", 32, 36},      [10] = {"Q2_K", 256, 84},
    [11] = {"Q3_K", 256, 110},   [12] = {"Q4_K", 256, 144},   [13] = {"Q5_K", 256, 176},
    [14] = {"Q6_K", 256, 210},   [15] = {"Q8_K", 256, 292},   [16] = {"IQ2_XXS", 256, 66},
    [17] = {"IQ2_XS", 256, 74},  [18] = {"IQ3_XXS", 256, 98}, [19] = {"IQ1_S", 256, 50},
    [20] = {"IQ4_NL", 32, 18},   [21] = {"IQ3_S", 256, 110},  [22] = {"IQ2_S", 256, 82},
    [23] = {"IQ4_XS", 256, 136}, [24] = {"I8", 1, 1},         [25] = {"I16", 1, 2},
    [26] = {"I32", 1, 4},        [27] = {"I64", 1, 8},        [28] = {"F64", 1, 8},
    [29] = {"IQ1_M", 256, 56},   [30] = {"BF16", 1, 2},       [34] = {"TQ1_0", 256, 54},
    [35] = {"TQ2_0", 256, 66},   [39] = {"MXFP4", 32, 17},
};
#define N_TENSOR_TYPES (sizeof tensor_types / sizeof tensor_types[0])

const char *xl_gguf_tensor_type_name(uint32_t type) {
    return type < N_TENSOR_TYPES ? tensor_types[type].name : NULL;
}

bool xl_gguf_tensor_type_size(uint32_t type, uint32_t *block_elements, uint32_t *block_bytes) {
    if (!xl_gguf_tensor_type_name(type)) return false;
    *block_elements = tensor_types[type].block_elements;
    *block_bytes = tensor_types[type].block_bytes;
    return true;
}

static const uint8_t value_bytes[XL_GGUF_TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

size_t xl_gguf_item_bytes(xl_gguf_type type) {
    return (unsigned)type < XL_GGUF_TYPE_COUNT ? value_bytes[type] : 0;
}

/* ---- Reading ------------------------------------------------------------------ */
static bool have(const xl_gguf *g, uint64_t n_bytes) { return g->blob_bytes - g->at >= n_bytes; }

static step_result too_large(const xl_gguf *g, exitlm_error *error) {
    xl_fail(error, EXITLM_BAD_MODEL, "the header is larger than %u MiB, at offset %zu",
            XL_GGUF_MAX_HEADER_BYTES >> 20, g->at);
    return STEP_FAIL;
}

/* ---- Memory ---------------------------------------------------------------------- */
size_t xl_gguf_memory_bytes(const xl_gguf *g) {
    return g->blob_capacity_bytes + g->keys_capacity * sizeof *g->keys +
           g->tensors_capacity * sizeof *g->tensors +
           ((size_t)g->key_index.n_slots + g->tensor_index.n_slots + g->n_tensors + 1) *
               sizeof(uint32_t);
}

/* Moves the blob to a block of another size. */
static bool resize_blob(xl_gguf *g, size_t capacity_bytes) {
    void *blob = g->blob;
    size_t both = xl_gguf_memory_bytes(g) + capacity_bytes;
    if (!xl_grow(&g->allocator, &blob, g->blob_capacity_bytes, capacity_bytes, 1)) return false;
    g->blob = blob;
    g->blob_capacity_bytes = capacity_bytes;
    if (both > g->peak_bytes) g->peak_bytes = both;
    return true;
}

/* ---- Index of names ------------------------------------------------------------ */
static uint32_t hash_bytes(const char *text, size_t n) {
    uint32_t h = xl_hash_more(XL_HASH_START, text, n);
    return h ^ h >> 15;
}

/* Where entry `i` of the keys (or tensors) has its name. */
static const char *entry_name(const xl_gguf *g, bool tensors, uint32_t i, size_t *n) {
    *n = tensors ? g->tensors[i].name_bytes : g->keys[i].name_bytes;
    return xl_gguf_text(g, tensors ? g->tensors[i].name_offset : g->keys[i].name_offset);
}

/* Index of the entry with this name, or UINT32_MAX; *slot: where it is or belongs. */
static uint32_t index_find(const xl_gguf *g, bool tensors, const char *text, size_t n,
                           uint32_t *slot) {
    const xl_gguf_index *index = tensors ? &g->tensor_index : &g->key_index;
    if (index->n_slots == 0) return UINT32_MAX;
    for (uint32_t i = hash_bytes(text, n) & (index->n_slots - 1);;
         i = (i + 1) & (index->n_slots - 1)) {
        size_t name_bytes;
        if (slot) *slot = i;
        if (index->slots[i] == 0) return UINT32_MAX;
        const char *name = entry_name(g, tensors, index->slots[i] - 1, &name_bytes);
        if (name_bytes == n && memcmp(name, text, n) == 0) return index->slots[i] - 1;
    }
}

static bool index_grow(xl_gguf *g, bool tensors, uint32_t n_entries) {
    xl_gguf_index *index = tensors ? &g->tensor_index : &g->key_index;
    if ((n_entries + 1) * 2 <= index->n_slots) return true;
    uint32_t n_slots = index->n_slots ? index->n_slots * 2 : 64;
    uint32_t *slots = xl_calloc(&g->allocator, n_slots, sizeof *slots);
    if (!slots) return false;
    xl_free(&g->allocator, index->slots, index->n_slots, sizeof *slots);
    index->slots = slots;
    index->n_slots = n_slots;
    for (uint32_t i = 0; i < n_entries; i++) {
        size_t n;
        uint32_t slot = 0;
        const char *name = entry_name(g, tensors, i, &n);
        index_find(g, tensors, name, n, &slot);
        slots[slot] = i + 1;
    }
    return true;
}

/* Enters the entry behind the `n_entries` known ones. False (nothing entered) where its name is
 * known. */
static bool index_add(xl_gguf *g, bool tensors, uint32_t n_entries) {
    size_t n;
    uint32_t slot = 0;
    const char *name = entry_name(g, tensors, n_entries, &n);
    if (index_find(g, tensors, name, n, &slot) != UINT32_MAX) return false;
    (tensors ? &g->tensor_index : &g->key_index)->slots[slot] = n_entries + 1;
    return true;
}

static bool grow_entries(xl_gguf *g, bool tensors) {
    uint32_t n = tensors ? g->tensors_read : g->keys_read;
    uint32_t *capacity = tensors ? &g->tensors_capacity : &g->keys_capacity;
    if (n == *capacity) {
        uint32_t more = *capacity ? *capacity * 2 : 64;
        void *entries = tensors ? (void *)g->tensors : (void *)g->keys;
        if (!xl_grow(&g->allocator, &entries, *capacity, more,
                     tensors ? sizeof *g->tensors : sizeof *g->keys))
            return false;
        if (tensors) g->tensors = entries;
        else g->keys = entries;
        *capacity = more;
    }
    return index_grow(g, tensors, n);
}

static step_result no_memory(exitlm_error *error) {
    xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for the model's header");
    return STEP_FAIL;
}

/* ---- The steps ------------------------------------------------------------------ */
/* What a file that is no GGUF seems to be. */
static void say_not_gguf(const uint8_t *p, exitlm_error *error) {
    if (p[0] == '<')
        xl_fail(error, EXITLM_BAD_MODEL,
                "this is an HTML or XML page, not a GGUF file: check the address (a download page, "
                "a login or an error?)");
    else if (memcmp(p, "vers", 4) == 0)
        xl_fail(error, EXITLM_BAD_MODEL,
                "this looks like a Git LFS pointer, not a GGUF file: fetch the file itself");
    else if (memcmp(p, "PK\3\4", 4) == 0 || memcmp(p, "\x1f\x8b", 2) == 0)
        xl_fail(error, EXITLM_BAD_MODEL,
                "this is a compressed file, not a GGUF file: unpack it first");
    else if (memcmp(p, "ggml", 4) == 0 || memcmp(p, "lmgg", 4) == 0 || memcmp(p, "tjgg", 4) == 0)
        xl_fail(error, EXITLM_UNSUPPORTED,
                "this is a file of GGUF's predecessor: convert it to GGUF");
    else
        xl_fail(error, EXITLM_BAD_MODEL,
                "not a GGUF file: it begins with the bytes %02x %02x %02x %02x, not with \"GGUF\"",
                p[0], p[1], p[2], p[3]);
}

static step_result step_start(xl_gguf *g, exitlm_error *error) {
    if (!have(g, 4)) return STEP_WAIT;
    if (memcmp(g->blob, "GGUF", 4) != 0) {
        say_not_gguf(g->blob, error);
        return STEP_FAIL;
    }
    if (!have(g, 8)) return STEP_WAIT;
    g->version = xl_load_u32(g->blob + 4);
    if (g->version != 2 && g->version != 3) {
        if (g->version && (g->version & 0xffff) == 0)
            xl_fail(error, EXITLM_UNSUPPORTED,
                    "a big-endian GGUF file: only little-endian ones are supported");
        else
            xl_fail(error, EXITLM_UNSUPPORTED,
                    "GGUF version %u at offset 4: versions 2 and 3 are supported", g->version);
        return STEP_FAIL;
    }
    if (!have(g, 24)) return STEP_WAIT;
    uint64_t n_tensors = xl_load_u64(g->blob + 8), n_keys = xl_load_u64(g->blob + 16);
    if (n_tensors > XL_GGUF_MAX_TENSORS || n_keys > XL_GGUF_MAX_KEYS) {
        xl_fail(error, EXITLM_BAD_MODEL,
                "the header claims %llu tensors (offset 8) and %llu keys (offset 16); at most %u "
                "and %u are credible",
                (unsigned long long)n_tensors, (unsigned long long)n_keys, XL_GGUF_MAX_TENSORS,
                XL_GGUF_MAX_KEYS);
        return STEP_FAIL;
    }
    g->n_tensors = (uint32_t)n_tensors;
    g->n_keys = (uint32_t)n_keys;
    g->at = 24;
    g->phase = PHASE_KEY;
    return STEP_ON;
}

/* The length of a text at `offset`, within `max_bytes`. */
static step_result read_name(xl_gguf *g, const char *what, uint32_t number, uint32_t max_bytes,
                             uint32_t *n, exitlm_error *error) {
    if (!have(g, 8)) return STEP_WAIT;
    uint64_t n_bytes = xl_load_u64(g->blob + g->at);
    if (n_bytes == 0 || n_bytes > max_bytes) {
        xl_fail(error, EXITLM_BAD_MODEL,
                "the name of %s %u has %llu bytes at offset %zu; 1 to %u are allowed", what, number,
                (unsigned long long)n_bytes, g->at, max_bytes);
        return STEP_FAIL;
    }
    *n = (uint32_t)n_bytes;
    return STEP_ON;
}

/* Completes the key whose value ends at `end`. */
static step_result finish_key(xl_gguf *g, size_t end, exitlm_error *error) {
    xl_gguf_key *key = &g->keys[g->keys_read];
    key->n_bytes = (uint32_t)(end - key->offset);
    if (!index_add(g, false, g->keys_read)) {
        xl_fail(error, EXITLM_BAD_MODEL, "key %.*s stands twice, again at offset %u",
                XL_TEXT(xl_gguf_text(g, key->name_offset), key->name_bytes), key->name_offset);
        return STEP_FAIL;
    }
    g->keys_read++;
    g->at = end;
    g->phase = PHASE_KEY;
    return STEP_ON;
}

static step_result bad_key(const xl_gguf *g, const xl_gguf_key *key, const char *what,
                           uint64_t value, exitlm_error *error) {
    xl_fail(error, EXITLM_BAD_MODEL, "key %.*s at offset %u: %s %llu",
            XL_TEXT(xl_gguf_text(g, key->name_offset), key->name_bytes), key->name_offset, what,
            (unsigned long long)value);
    return STEP_FAIL;
}

/* An array whose item type and count stand at `offset`. */
static step_result read_array(xl_gguf *g, xl_gguf_key *key, exitlm_error *error) {
    size_t head = key->offset - g->at + 12;
    if (!have(g, head)) return STEP_WAIT;
    uint32_t item_type = xl_load_u32(g->blob + key->offset);
    uint64_t n = xl_load_u64(g->blob + key->offset + 4);
    if (item_type >= XL_GGUF_TYPE_COUNT)
        return bad_key(g, key, "unknown type of array items", item_type, error);
    if (item_type == XL_GGUF_ARRAY) {
        xl_fail(error, EXITLM_UNSUPPORTED,
                "key %.*s at offset %u: an array of arrays is not supported",
                XL_TEXT(xl_gguf_text(g, key->name_offset), key->name_bytes), key->name_offset);
        return STEP_FAIL;
    }
    size_t item_bytes = item_type == XL_GGUF_STRING ? 8 : value_bytes[item_type];
    if (n > (XL_GGUF_MAX_HEADER_BYTES - key->offset) / item_bytes)
        return bad_key(g, key, "an array too large to be true, its item count is", n, error);
    key->item_type = (xl_gguf_type)item_type;
    key->n_items = (uint32_t)n;
    key->items_offset = key->offset + 12;
    if (item_type == XL_GGUF_STRING) {
        g->items_left = (uint32_t)n;
        g->at = key->items_offset;
        g->phase = PHASE_STRINGS;
        return STEP_ON;
    }
    if (!have(g, head + n * item_bytes)) return STEP_WAIT;
    return finish_key(g, (size_t)(key->items_offset + n * item_bytes), error);
}

static step_result read_string(xl_gguf *g, xl_gguf_key *key, exitlm_error *error) {
    size_t head = key->offset - g->at + 8;
    if (!have(g, head)) return STEP_WAIT;
    uint64_t n = xl_load_u64(g->blob + key->offset);
    if (n > XL_GGUF_MAX_HEADER_BYTES - key->offset)
        return bad_key(g, key, "a text of absurd length:", n, error);
    if (!have(g, head + n)) return STEP_WAIT;
    key->items_offset = key->offset + 8;
    return finish_key(g, (size_t)(key->items_offset + n), error);
}

static step_result step_key(xl_gguf *g, exitlm_error *error) {
    uint32_t name_bytes;
    if (g->keys_read == g->n_keys) return g->phase = PHASE_KEYS_END, STEP_ON;
    if (g->at >= XL_GGUF_MAX_HEADER_BYTES) return too_large(g, error);
    step_result result =
        read_name(g, "key", g->keys_read, XL_GGUF_MAX_KEY_BYTES, &name_bytes, error);
    if (result != STEP_ON) return result;
    if (!have(g, 8 + (uint64_t)name_bytes + 4)) return STEP_WAIT;
    if (!grow_entries(g, false)) return no_memory(error);

    xl_gguf_key *key = &g->keys[g->keys_read];
    uint32_t type = xl_load_u32(g->blob + g->at + 8 + name_bytes);
    *key =
        (xl_gguf_key){.name_offset = (uint32_t)g->at + 8, .name_bytes = name_bytes, .n_items = 1};
    key->offset = key->items_offset = key->name_offset + name_bytes + 4;
    if (type >= XL_GGUF_TYPE_COUNT) return bad_key(g, key, "unknown value type", type, error);
    key->type = key->item_type = (xl_gguf_type)type;
    if (type == XL_GGUF_ARRAY) return read_array(g, key, error);
    if (type == XL_GGUF_STRING) return read_string(g, key, error);
    size_t head = key->offset - g->at;
    if (!have(g, head + value_bytes[type])) return STEP_WAIT;
    return finish_key(g, key->offset + value_bytes[type], error);
}

static step_result step_strings(xl_gguf *g, exitlm_error *error) {
    xl_gguf_key *key = &g->keys[g->keys_read];
    while (g->items_left) {
        if (!have(g, 8)) return STEP_WAIT;
        uint64_t n = xl_load_u64(g->blob + g->at);
        if (g->at >= XL_GGUF_MAX_HEADER_BYTES || n > XL_GGUF_MAX_HEADER_BYTES - g->at) {
            xl_fail(error, EXITLM_BAD_MODEL,
                    "key %.*s: item %u has an absurd length of %llu bytes at offset %zu",
                    XL_TEXT(xl_gguf_text(g, key->name_offset), key->name_bytes),
                    key->n_items - g->items_left, (unsigned long long)n, g->at);
            return STEP_FAIL;
        }
        if (!have(g, 8 + n)) return STEP_WAIT;
        g->at += 8 + (size_t)n;
        g->items_left--;
    }
    return finish_key(g, g->at, error);
}

static step_result step_keys_end(xl_gguf *g, exitlm_error *error) {
    g->phase = PHASE_TENSOR;
    if (g->keys_only) g->n_tensors = 0;
    uint32_t key = index_find(g, false, "general.alignment", 17, NULL);
    if (key == UINT32_MAX) return STEP_ON;
    uint32_t alignment =
        g->keys[key].type == XL_GGUF_U32 ? xl_load_u32(g->blob + g->keys[key].offset) : 0;
    if (alignment < 8 || alignment > XL_GGUF_MAX_ALIGNMENT || (alignment & (alignment - 1)))
        return bad_key(g, &g->keys[key], "must be a u32 power of two from 8 to 1048576, not",
                       alignment, error);
    g->alignment = alignment;
    return STEP_ON;
}

static step_result bad_tensor(const xl_gguf *g, const xl_gguf_tensor *t, const char *what,
                              uint64_t value, exitlm_error *error) {
    xl_fail(error, EXITLM_BAD_MODEL, "tensor %.*s at offset %u: %s %llu",
            XL_TEXT(xl_gguf_text(g, t->name_offset), t->name_bytes), t->entry_offset, what,
            (unsigned long long)value);
    return STEP_FAIL;
}

/* n_bytes from type and dimensions. */
static step_result size_tensor(const xl_gguf *g, xl_gguf_tensor *t, exitlm_error *error) {
    uint64_t elements = 1;
    for (uint32_t i = 0; i < t->n_dims; i++) {
        if (t->dims[i] == 0 || t->dims[i] > MAX_ELEMENTS / elements)
            return bad_tensor(g, t, "an impossible dimension:", t->dims[i], error);
        elements *= t->dims[i];
    }
    uint32_t block_elements, block_bytes;
    if (!xl_gguf_tensor_type_size(t->type, &block_elements, &block_bytes)) return STEP_ON;
    if (t->dims[0] % block_elements)
        return bad_tensor(g, t, "its type needs rows of whole blocks, a row has", t->dims[0],
                          error);
    t->n_bytes = elements / block_elements * block_bytes;
    return STEP_ON;
}

static step_result step_tensor(xl_gguf *g, exitlm_error *error) {
    uint32_t name_bytes;
    if (g->tensors_read == g->n_tensors) return g->phase = PHASE_TENSORS_END, STEP_ON;
    if (g->at >= XL_GGUF_MAX_HEADER_BYTES) return too_large(g, error);
    step_result result =
        read_name(g, "tensor", g->tensors_read, XL_GGUF_MAX_NAME_BYTES, &name_bytes, error);
    if (result != STEP_ON) return result;
    if (!have(g, 8 + (uint64_t)name_bytes + 4)) return STEP_WAIT;
    if (!grow_entries(g, true)) return no_memory(error);

    xl_gguf_tensor *t = &g->tensors[g->tensors_read];
    *t = (xl_gguf_tensor){.name_offset = (uint32_t)g->at + 8,
                          .name_bytes = name_bytes,
                          .entry_offset = (uint32_t)g->at,
                          .dims = {1, 1, 1, 1}};
    const uint8_t *p = g->blob + t->name_offset + name_bytes;
    t->n_dims = xl_load_u32(p);
    if (t->n_dims < 1 || t->n_dims > XL_GGUF_MAX_DIMS)
        return bad_tensor(g, t, "1 to 4 dimensions are allowed, not", t->n_dims, error);
    size_t entry_bytes = 8 + (size_t)name_bytes + 4 + 8 * (size_t)t->n_dims + 12;
    if (!have(g, entry_bytes)) return STEP_WAIT;
    for (uint32_t i = 0; i < t->n_dims; i++) t->dims[i] = xl_load_u64(p + 4 + 8 * i);
    t->type = xl_load_u32(p + 4 + 8 * t->n_dims);
    t->offset = xl_load_u64(p + 8 + 8 * t->n_dims);
    if (size_tensor(g, t, error) != STEP_ON) return STEP_FAIL;
    if (t->offset % g->alignment || t->offset > MAX_FILE_BYTES)
        return bad_tensor(g, t, "its data's offset is not aligned or beyond all bounds:", t->offset,
                          error);
    if (!index_add(g, true, g->tensors_read)) {
        xl_fail(error, EXITLM_BAD_MODEL, "tensor %.*s stands twice, again at offset %u",
                XL_TEXT(xl_gguf_text(g, t->name_offset), t->name_bytes), t->entry_offset);
        return STEP_FAIL;
    }
    g->tensors_read++;
    g->at += entry_bytes;
    return STEP_ON;
}

static bool lies_before(const void *context, uint32_t a, uint32_t b) {
    const xl_gguf *g = context;
    const uint64_t of_a = g->tensors[a].offset, of_b = g->tensors[b].offset;
    return of_a != of_b ? of_a < of_b : a < b;
}

/* The header is complete: the blob takes its final place and size, unless it has them. */
static step_result finish(xl_gguf *g, exitlm_error *error) {
    bool fits = g->expected_bytes && g->blob_capacity_bytes - g->at < SLICE_BYTES;
    if (!fits && !resize_blob(g, g->at)) return no_memory(error);
    g->blob_bytes = g->at;
    g->phase = PHASE_DONE;
    g->done = true;
    return STEP_ON;
}

static step_result step_tensors_end(xl_gguf *g, exitlm_error *error) {
    g->data_offset = g->at;
    if (g->n_tensors)
        g->data_offset = (g->data_offset + g->alignment - 1) / g->alignment * g->alignment;
    g->total_bytes = g->data_offset;
    if (!g->by_offset &&
        !(g->by_offset = xl_calloc(&g->allocator, g->n_tensors, sizeof *g->by_offset)))
        return no_memory(error);
    for (uint32_t i = 0; i < g->n_tensors; i++) g->by_offset[i] = i;
    xl_sort(g->by_offset, g->n_tensors, lies_before, g);
    for (uint32_t i = 0; i < g->n_tensors; i++) {
        xl_gguf_tensor *t = &g->tensors[g->by_offset[i]];
        t->offset += g->data_offset;
        if (t->offset < g->total_bytes) {
            const xl_gguf_tensor *before = &g->tensors[g->by_offset[i - 1]];
            xl_fail(error, EXITLM_BAD_MODEL, "tensor %.*s at offset %llu overlaps tensor %.*s",
                    XL_TEXT(xl_gguf_text(g, t->name_offset), t->name_bytes),
                    (unsigned long long)t->offset,
                    XL_TEXT(xl_gguf_text(g, before->name_offset), before->name_bytes));
            return STEP_FAIL;
        }
        g->total_bytes = t->offset + t->n_bytes;
    }
    return finish(g, error);
}

static step_result step(xl_gguf *g, exitlm_error *error) {
    switch (g->phase) {
    case PHASE_START: return step_start(g, error);
    case PHASE_KEY: return step_key(g, error);
    case PHASE_STRINGS: return step_strings(g, error);
    case PHASE_KEYS_END: return step_keys_end(g, error);
    case PHASE_TENSOR: return step_tensor(g, error);
    default: return step_tensors_end(g, error);
    }
}

/* ---- Pushing ---------------------------------------------------------------------- */
void xl_gguf_init(xl_gguf *gguf, const exitlm_allocator *allocator) {
    *gguf = (xl_gguf){.allocator = *allocator, .alignment = 32};
}

void xl_gguf_free(xl_gguf *gguf) {
    exitlm_allocator allocator = gguf->allocator;
    xl_free(&allocator, gguf->blob, gguf->blob_capacity_bytes, 1);
    xl_free(&allocator, gguf->keys, gguf->keys_capacity, sizeof *gguf->keys);
    xl_free(&allocator, gguf->tensors, gguf->tensors_capacity, sizeof *gguf->tensors);
    xl_free(&allocator, gguf->key_index.slots, gguf->key_index.n_slots, sizeof(uint32_t));
    xl_free(&allocator, gguf->tensor_index.slots, gguf->tensor_index.n_slots, sizeof(uint32_t));
    xl_free(&allocator, gguf->by_offset, gguf->n_tensors, sizeof *gguf->by_offset);
    xl_gguf_init(gguf, &allocator);
}

static bool append(xl_gguf *g, const uint8_t *bytes, size_t n) {
    if (g->blob_bytes + n > g->blob_capacity_bytes) {
        size_t capacity = g->blob_capacity_bytes + g->blob_capacity_bytes / 2;
        if (capacity < g->blob_bytes + n) capacity = g->blob_bytes + n;
        if (capacity < g->expected_bytes && g->expected_bytes <= XL_GGUF_MAX_HEADER_BYTES)
            capacity = g->expected_bytes;
        if (!resize_blob(g, capacity)) return false;
    }
    memcpy(g->blob + g->blob_bytes, bytes, n);
    g->blob_bytes += n;
    return true;
}

exitlm_status xl_gguf_push(xl_gguf *gguf, const void *bytes, size_t n_bytes, size_t *used,
                           exitlm_error *error) {
    exitlm_error local;
    const uint8_t *p = bytes;
    *used = 0;
    if (!error) error = &local;
    while (!gguf->done && *used < n_bytes) {
        size_t before = gguf->blob_bytes;
        size_t n = n_bytes - *used < SLICE_BYTES ? n_bytes - *used : SLICE_BYTES;
        size_t room = gguf->blob ? gguf->blob_capacity_bytes - before : gguf->expected_bytes;
        if (room && n > room) n = room;
        if (!append(gguf, p + *used, n)) return no_memory(error), error->status;
        step_result result = STEP_ON;
        while (!gguf->done && result == STEP_ON) result = step(gguf, error);
        if (result == STEP_FAIL) return error->status;
        *used += gguf->done ? gguf->at - before : n;
        if (result == STEP_WAIT &&
            gguf->blob_bytes > (size_t)XL_GGUF_MAX_HEADER_BYTES + XL_GGUF_MAX_ALIGNMENT)
            return too_large(gguf, error), error->status;
    }
    return EXITLM_OK;
}

exitlm_status xl_gguf_truncated(const xl_gguf *g, exitlm_error *error) {
    if (g->blob_bytes == 0) return xl_fail(error, EXITLM_BAD_MODEL, "the file is empty");
    const char *where = g->phase == PHASE_START     ? "its first 24 bytes"
                        : g->phase <= PHASE_STRINGS ? "its metadata"
                                                    : "its table of tensors";
    uint32_t number = g->phase <= PHASE_STRINGS ? g->keys_read : g->tensors_read;
    if (g->phase == PHASE_START)
        return xl_fail(error, EXITLM_BAD_MODEL, "truncated: the file ends at %zu, within %s",
                       g->blob_bytes, where);
    return xl_fail(error, EXITLM_BAD_MODEL,
                   "truncated: the file ends at %zu, within %s (entry %u of %u)", g->blob_bytes,
                   where, number + 1, g->phase <= PHASE_STRINGS ? g->n_keys : g->n_tensors);
}

/* ---- Looking up --------------------------------------------------------------------- */
const xl_gguf_key *xl_gguf_find(const xl_gguf *gguf, const char *key) {
    uint32_t i = index_find(gguf, false, key, strlen(key), NULL);
    return i == UINT32_MAX ? NULL : &gguf->keys[i];
}

const xl_gguf_tensor *xl_gguf_find_tensor(const xl_gguf *gguf, const char *name) {
    uint32_t i = index_find(gguf, true, name, strlen(name), NULL);
    return i == UINT32_MAX ? NULL : &gguf->tensors[i];
}

static bool is_integer(xl_gguf_type type) {
    return type <= XL_GGUF_I32 || type == XL_GGUF_U64 || type == XL_GGUF_I64;
}

/* False for a u64 beyond i64. */
static bool read_int(xl_gguf_type type, const uint8_t *p, int64_t *value) {
    uint64_t u = xl_load_le(p, value_bytes[type]);
    switch (type) {
    case XL_GGUF_I8: *value = (int8_t)u; return true;
    case XL_GGUF_I16: *value = (int16_t)u; return true;
    case XL_GGUF_I32: *value = (int32_t)u; return true;
    case XL_GGUF_U64: *value = (int64_t)u; return u <= INT64_MAX;
    default: *value = (int64_t)u; return true;
    }
}

static double read_float(xl_gguf_type type, const uint8_t *p) {
    int64_t i;
    if (type == XL_GGUF_F32) {
        uint32_t bits = xl_load_u32(p);
        float f;
        memcpy(&f, &bits, 4);
        return f;
    }
    if (type == XL_GGUF_F64) {
        uint64_t bits = xl_load_u64(p);
        double d;
        memcpy(&d, &bits, 8);
        return d;
    }
    return is_integer(type) && read_int(type, p, &i) ? (double)i : 0;
}

bool xl_gguf_get_i64(const xl_gguf *gguf, const char *name, int64_t *value) {
    const xl_gguf_key *key = xl_gguf_find(gguf, name);
    return key && is_integer(key->type) && read_int(key->type, gguf->blob + key->offset, value);
}

bool xl_gguf_get_u32(const xl_gguf *gguf, const char *name, uint32_t *value) {
    int64_t wide;
    if (!xl_gguf_get_i64(gguf, name, &wide) || wide < 0 || wide > UINT32_MAX) return false;
    *value = (uint32_t)wide;
    return true;
}

bool xl_gguf_get_f32(const xl_gguf *gguf, const char *name, float *value) {
    const xl_gguf_key *key = xl_gguf_find(gguf, name);
    if (!key || !(is_integer(key->type) || key->type == XL_GGUF_F32 || key->type == XL_GGUF_F64))
        return false;
    double wide = read_float(key->type, gguf->blob + key->offset);
    if (!isfinite(wide) || fabs(wide) > 3e38) return false;
    *value = (float)wide;
    return true;
}

bool xl_gguf_get_bool(const xl_gguf *gguf, const char *name, bool *value) {
    const xl_gguf_key *key = xl_gguf_find(gguf, name);
    if (!key || key->type != XL_GGUF_BOOL) return false;
    *value = gguf->blob[key->offset] != 0;
    return true;
}

bool xl_gguf_get_string(const xl_gguf *gguf, const char *name, const char **text, size_t *n_bytes) {
    const xl_gguf_key *key = xl_gguf_find(gguf, name);
    if (!key || key->type != XL_GGUF_STRING) return false;
    *text = xl_gguf_text(gguf, key->items_offset);
    *n_bytes = key->n_bytes - 8;
    return true;
}

bool xl_gguf_is(const xl_gguf *gguf, const char *key, const char *text) {
    const char *found;
    size_t n;
    return xl_gguf_get_string(gguf, key, &found, &n) && n == strlen(text) &&
           memcmp(found, text, n) == 0;
}

bool xl_gguf_get_array(const xl_gguf *gguf, const char *name, xl_gguf_array *array) {
    const xl_gguf_key *key = xl_gguf_find(gguf, name);
    if (!key || key->type != XL_GGUF_ARRAY) return false;
    *array = (xl_gguf_array){.item_type = key->item_type,
                             .n = key->n_items,
                             .n_bytes = key->n_bytes - 12,
                             .items = gguf->blob + key->items_offset};
    return true;
}

const char *xl_gguf_array_next(const xl_gguf_array *array, size_t *cursor, size_t *n_bytes) {
    if (array->item_type != XL_GGUF_STRING || *cursor >= array->n_bytes) return NULL;
    const uint8_t *item = array->items + *cursor;
    *n_bytes = (size_t)xl_load_u64(item);
    *cursor += 8 + *n_bytes;
    return (const char *)item + 8;
}

int64_t xl_gguf_array_int(const xl_gguf_array *array, uint32_t index) {
    int64_t value = 0;
    size_t size = xl_gguf_item_bytes(array->item_type);
    if (!is_integer(array->item_type) && array->item_type != XL_GGUF_BOOL) return 0;
    if (!read_int(array->item_type, array->items + size * index, &value)) return 0;
    return value;
}

double xl_gguf_array_float(const xl_gguf_array *array, uint32_t index) {
    size_t size = xl_gguf_item_bytes(array->item_type);
    return size ? read_float(array->item_type, array->items + size * index) : 0;
}
