/* exitlm pack --quant: a GGUF file whose matrices are quantised anew, row by row, so that memory
 * stays small. */
#include "requant.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "gguf_file.h"
#include "base/status.h"
#include "gguf/gguf_write.h"

#define CHUNK_BYTES ((size_t)1 << 20)

const char *const requant_names[] = {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0",
                                     "q6_k", "f16",  "bf16", "f32",  NULL};

/* `general.file_type` of a file whose matrices mostly have this type. */
static const struct {
    xl_type type;
    uint32_t file_type;
} file_types[] = {{XL_Q4_0, 2},  {XL_Q4_1, 3}, {XL_Q5_0, 8},  {XL_Q5_1, 9}, {XL_Q8_0, 7},
                  {XL_Q6_K, 18}, {XL_F16, 1},  {XL_BF16, 32}, {XL_F32, 0}};

xl_type requant_type(int index) {
    return index < 0 ? XL_TYPE_COUNT : xl_type_from_name(requant_names[index]);
}

typedef struct requant {
    const cli_model_path *path;
    xl_type layers, embedding;
    cli_gguf_file *parts; /* [path->n_parts] */
    const char *target;
    FILE *out;
    uint8_t *bytes, *packed; /* of a row, before and after */
    float *values;
    size_t row_capacity;
} requant;

/* ---- What becomes of a tensor ---- */

static bool is_named(const char *name, const char *wanted) { return strcmp(name, wanted) == 0; }

/* The type to write, or XL_TYPE_COUNT: as it is. */
static xl_type type_for(const requant *r, const xl_gguf_tensor *t, const char *name) {
    size_t n = strlen(name), end = strlen(".weight");
    xl_type wanted = XL_TYPE_COUNT;
    if (t->n_dims != 2 || n < end || !is_named(name + n - end, ".weight")) return XL_TYPE_COUNT;
    if (is_named(name, "token_embd.weight") || is_named(name, "output.weight"))
        wanted = r->embedding;
    else if (strncmp(name, "blk.", 4) == 0) wanted = r->layers;
    return wanted != XL_TYPE_COUNT && xl_quant_types[wanted].ggml_id == t->type ? XL_TYPE_COUNT
                                                                                : wanted;
}

/* Tensor number i in the order of a file's bytes, and its name. */
static const xl_gguf_tensor *tensor_at(const xl_gguf *gguf, uint32_t i,
                                       char name[XL_GGUF_MAX_NAME_BYTES + 1]) {
    const xl_gguf_tensor *t = &gguf->tensors[gguf->by_offset[i]];
    memcpy(name, xl_gguf_text(gguf, t->name_offset), t->name_bytes);
    name[t->name_bytes] = 0;
    return t;
}

static int write_bytes(const requant *r, const void *bytes, size_t n) {
    if (fwrite(bytes, 1, n, r->out) == n) return CLI_OK;
    return cli_fail("%s: cannot be written: %s", r->target, strerror(errno));
}

/* Can this tensor be read, and written as that? */
static int check_tensor(const requant *r, const xl_gguf_tensor *t, const char *name,
                        xl_type wanted) {
    const xl_quant_type *to = &xl_quant_types[wanted];
    xl_type from = xl_type_from_ggml(t->type);
    if (from == XL_TYPE_COUNT)
        return cli_fail("%s: tensor %s has type %s, which cannot be read: leave it as it is, or "
                        "start from another file",
                        r->path->file, name,
                        xl_gguf_tensor_type_name(t->type) ? xl_gguf_tensor_type_name(t->type)
                                                          : "unknown");
    if (t->dims[0] % to->block_elems)
        return cli_usage("pack: tensor %s has rows of %llu values, %s has blocks of %u: take a "
                         "type with smaller blocks, for example %s",
                         name, (unsigned long long)t->dims[0], to->name, (unsigned)to->block_elems,
                         t->dims[0] % 32 ? "f16" : "q8_0");
    return CLI_OK;
}

/* ---- The header ---- */

static bool is_dropped(const xl_gguf *gguf, const xl_gguf_key *key, bool new_type) {
    const char *name = xl_gguf_text(gguf, key->name_offset);
    static const char file_type[] = "general.file_type", split[] = "split.";
    if (key->name_bytes == sizeof file_type - 1 && memcmp(name, file_type, key->name_bytes) == 0)
        return new_type;
    return key->name_bytes >= sizeof split - 1 && memcmp(name, split, sizeof split - 1) == 0;
}

static int write_header(requant *r) {
    const xl_gguf *first = &r->parts[0].header;
    exitlm_error error;
    xl_gguf_writer w;
    xl_buffer header;
    xl_buffer_init(&header, &xl_libc_allocator);
    xl_gguf_writer_init(&w, &xl_libc_allocator);
    w.alignment = first->alignment; /* its key, if there is one, is copied */
    for (uint32_t i = 0; i < first->n_keys; i++)
        if (!is_dropped(first, &first->keys[i], r->layers != XL_TYPE_COUNT))
            xl_gguf_put_copy(&w, first, &first->keys[i]);
    for (size_t i = 0; i < sizeof file_types / sizeof *file_types; i++)
        if (file_types[i].type == r->layers)
            xl_gguf_put_u32(&w, "general.file_type", file_types[i].file_type);
    int status = CLI_OK;
    for (uint32_t p = 0; p < r->path->n_parts; p++) {
        const xl_gguf *gguf = &r->parts[p].header;
        for (uint32_t i = 0; i < gguf->n_tensors && status == CLI_OK; i++) {
            char name[XL_GGUF_MAX_NAME_BYTES + 1];
            const xl_gguf_tensor *t = tensor_at(gguf, i, name);
            xl_type wanted = type_for(r, t, name);
            if (wanted != XL_TYPE_COUNT) status = check_tensor(r, t, name, wanted);
            xl_gguf_put_tensor(&w, name,
                               wanted == XL_TYPE_COUNT ? t->type : xl_quant_types[wanted].ggml_id,
                               t->n_dims, t->dims);
        }
    }
    if (status == CLI_OK && xl_gguf_writer_header(&w, &header, &error) != EXITLM_OK)
        status = cli_report(&error, r->target);
    if (status == CLI_OK) status = write_bytes(r, header.data, header.n_bytes);
    xl_gguf_writer_free(&w);
    xl_buffer_free(&header);
    return status;
}

/* ---- The tensors ---- */

static bool make_room(requant *r, size_t cols) {
    if (cols <= r->row_capacity) return true;
    free(r->bytes), free(r->packed), free(r->values);
    r->row_capacity = 0;
    r->bytes = r->packed = NULL, r->values = NULL;
    if (cols > SIZE_MAX / 8) return false;
    r->bytes = malloc(cols * sizeof(float)); /* no type takes more */
    r->packed = malloc(cols * sizeof(float));
    r->values = malloc(cols * sizeof(float));
    if (!r->bytes || !r->packed || !r->values) return false;
    r->row_capacity = cols;
    return true;
}

static int read_bytes(const requant *r, uint32_t part, const char *name, void *bytes, size_t n) {
    errno = 0;
    if (fread(bytes, 1, n, r->parts[part].stream) == n) return CLI_OK;
    if (errno) return cli_fail("%s: cannot be read: %s", r->path->file, strerror(errno));
    return cli_fail("%s: truncated: the file ends within tensor %s; fetch it again", r->path->file,
                    name);
}

static int copy_tensor(requant *r, uint32_t part, const xl_gguf_tensor *t, const char *name,
                       uint8_t *chunk) {
    for (uint64_t left = t->n_bytes; left;) {
        size_t n = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
        int status = read_bytes(r, part, name, chunk, n);
        if (status == CLI_OK) status = write_bytes(r, chunk, n);
        if (status != CLI_OK) return status;
        left -= n;
    }
    return CLI_OK;
}

static int convert_tensor(requant *r, uint32_t part, const xl_gguf_tensor *t, const char *name,
                          xl_type to) {
    xl_type from = xl_type_from_ggml(t->type);
    const xl_quant_type *f = &xl_quant_types[from];
    size_t cols = (size_t)t->dims[0], from_bytes = 0, to_bytes = 0;
    if (cols != t->dims[0] || !xl_row_file_bytes(from, cols, &from_bytes) ||
        !xl_row_file_bytes(to, cols, &to_bytes) || !make_room(r, cols))
        return cli_no_memory("a row of the model");
    for (uint64_t row = 0; row < t->dims[1]; row++) {
        int status = read_bytes(r, part, name, r->bytes, from_bytes);
        if (status != CLI_OK) return status;
        for (size_t block = 0; block * f->block_elems < cols; block++)
            xl_dequant_block(from, r->bytes + block * f->block_bytes,
                             r->values + block * f->block_elems);
        if (!xl_quantize_row(to, r->values, cols, r->packed))
            return cli_fail("%s: row %llu of tensor %s holds a value that %s cannot hold (not a "
                            "number, or too large)",
                            r->path->file, (unsigned long long)row, name, xl_quant_types[to].name);
        status = write_bytes(r, r->packed, to_bytes);
        if (status != CLI_OK) return status;
    }
    return CLI_OK;
}

/* Zeros up to where the next tensor begins. */
static int pad(requant *r) {
    static const uint8_t zeros[64];
    const uint32_t alignment = r->parts[0].header.alignment;
    const off_t at = ftello(r->out);
    if (at < 0) return cli_fail("%s: cannot be written: %s", r->target, strerror(errno));
    uint64_t over = (uint64_t)at % alignment;
    while (over > 0 && over < alignment) {
        size_t n = alignment - over < sizeof zeros ? (size_t)(alignment - over) : sizeof zeros;
        int status = write_bytes(r, zeros, n);
        if (status != CLI_OK) return status;
        over += n;
    }
    return CLI_OK;
}

static int write_tensors(requant *r, uint8_t *chunk) {
    for (uint32_t p = 0; p < r->path->n_parts; p++) {
        const xl_gguf *gguf = &r->parts[p].header;
        for (uint32_t i = 0; i < gguf->n_tensors; i++) {
            char name[XL_GGUF_MAX_NAME_BYTES + 1];
            const xl_gguf_tensor *t = tensor_at(gguf, i, name);
            if (t->offset > INT64_MAX ||
                fseeko(r->parts[p].stream, (off_t)t->offset, SEEK_SET) != 0)
                return cli_fail("%s: cannot be read at byte %llu", r->path->file,
                                (unsigned long long)t->offset);
            xl_type to = type_for(r, t, name);
            int status = to == XL_TYPE_COUNT ? copy_tensor(r, p, t, name, chunk)
                                             : convert_tensor(r, p, t, name, to);
            if (status == CLI_OK) status = pad(r);
            if (status != CLI_OK) return status;
        }
    }
    return CLI_OK;
}

int requant_write(const cli_model_path *path, xl_type layers, xl_type embedding,
                  const char *target) {
    requant r = {.path = path, .layers = layers, .embedding = embedding, .target = target};
    uint8_t *chunk = malloc(CHUNK_BYTES);
    r.parts = calloc(path->n_parts, sizeof *r.parts);
    int status = chunk && r.parts ? CLI_OK : cli_no_memory("quantising a model");
    for (uint32_t p = 0; p < path->n_parts && status == CLI_OK; p++) {
        char *name = cli_model_path_part(path, p);
        status = name ? cli_gguf_open(&r.parts[p], name) : cli_no_memory("a file name");
        free(name);
    }
    if (status == CLI_OK && !(r.out = fopen(target, "wb")))
        status = cli_fail("%s: cannot be written: %s", target, strerror(errno));
    if (status == CLI_OK) status = write_header(&r);
    if (status == CLI_OK) status = write_tensors(&r, chunk);
    if (r.out && fclose(r.out) != 0 && status == CLI_OK)
        status = cli_fail("%s: cannot be written: %s", target, strerror(errno));
    if (r.out && status != CLI_OK) remove(target);
    if (r.parts)
        for (uint32_t p = 0; p < path->n_parts; p++) cli_gguf_close(&r.parts[p]);
    free(r.parts);
    free(chunk);
    free(r.bytes);
    free(r.packed);
    free(r.values);
    return status;
}

/* ---- The result ---- */

static exitlm_status load(FILE *in, exitlm_loader *loader, uint8_t *chunk, exitlm_error *error) {
    exitlm_model *model = NULL;
    exitlm_status status = EXITLM_OK;
    size_t n;
    while (status == EXITLM_OK && (n = fread(chunk, 1, CHUNK_BYTES, in)) > 0)
        status = exitlm_loader_push(loader, chunk, n, error);
    if (status == EXITLM_OK && ferror(in))
        status = xl_fail(error, EXITLM_IO, "cannot be read: %s", strerror(errno));
    if (status != EXITLM_OK) {
        exitlm_loader_free(loader);
        return status;
    }
    status = exitlm_loader_finish(loader, &model, error);
    if (status != EXITLM_OK) exitlm_loader_free(loader);
    exitlm_model_free(model);
    return status;
}

int requant_verify(const char *file, const exitlm_heads *heads, bool *heads_fit) {
    exitlm_error error;
    exitlm_status result = EXITLM_OK;
    exitlm_loader *loader = NULL;
    exitlm_load_options options = {.heads = heads};
    uint8_t *chunk = malloc(CHUNK_BYTES);
    FILE *in = chunk ? fopen(file, "rb") : NULL;
    int status = chunk ? CLI_OK : cli_no_memory("reading the model");
    if (chunk && !in) status = cli_fail("%s: cannot be opened: %s", file, strerror(errno));
    if (status == CLI_OK) result = exitlm_loader_create(&loader, &options, &error);
    if (status == CLI_OK && result == EXITLM_OK) result = load(in, loader, chunk, &error);
    *heads_fit = result != EXITLM_HEADS_MISMATCH;
    if (in) fclose(in);
    free(chunk);
    if (result == EXITLM_HEADS_MISMATCH && heads) {
        bool fit;
        return requant_verify(file, NULL, &fit);
    }
    return result == EXITLM_OK ? status : cli_report(&error, file);
}
