/* What the loader, the architecture table, the plan and the fingerprint share. Internal. */
#ifndef XL_LOADER_H
#define XL_LOADER_H
#include "gguf/gguf.h"
#include "heads.h"
#include "model.h"
#include "base/sha256.h"

#define XL_MAX_PARTS 1024u
/* For rows that are under way: 64 of the longest blocks. */
#define XL_STOPS_BYTES (64 * (sizeof(xl_stop) + 256))
#define XL_FINGERPRINT_ROWS 4u
#define XL_FINGERPRINT_ENTRY_BYTES 16u /* of its list of tensors */

typedef enum xl_place_kind {
    XL_PLACE_SKIP,   /* not needed: no memory */
    XL_PLACE_VECTOR, /* to f32 */
    XL_PLACE_MATRIX, /* to tiles, in the order of the file */
    XL_PLACE_ROWS    /* to tiles, rows in any order: token embedding and output matrix */
} xl_place_kind;

/* `layer` of a place that is in no layer */
enum { XL_BASE = -1, XL_EMBEDDING = -2, XL_OUTPUT = -3 };

typedef struct xl_stop { /* a row that is under way */
    struct xl_stop *next;
    uint32_t row;
    size_t n_bytes;   /* that have come */
    uint8_t staged[]; /* [block_bytes] the part of a block that has come */
} xl_stop;

/* Where a tensor of the file goes, and how far it has come. */
typedef struct xl_place {
    xl_place_kind kind;
    xl_type type;
    int32_t layer;
    uint32_t rows, cols;   /* a vector: 1, n */
    size_t row_bytes;      /* in the file */
    bool in_fingerprint;   /* one of xl_fingerprint_norms */
    bool fused;            /* Q, K and V, whose fields follow each other */
    void *target;          /* the xl_matrix, or the const float *, in the model */
    void *data;            /* the memory; NULL: none yet */
    uint64_t n_done_bytes; /* VECTOR, MATRIX: they come in order. ROWS: of complete rows */
    uint8_t *staged;       /* VECTOR, MATRIX: as of a row */
    xl_stop *stops;        /* ROWS: those under way, any number */
} xl_place;

typedef struct xl_part { /* one file of a split model, else the file */
    xl_gguf gguf;
    xl_place *places; /* [gguf.n_tensors] */
    uint8_t *weights; /* one block: matrices, vectors, staging; NULL before it is taken */
    size_t weights_bytes;
} xl_part;

/* Behind exitlm_model.owner. */
typedef struct xl_owner {
    xl_part *parts;
    uint32_t n_parts;
    uint8_t *tables; /* layers, row order, flags of rows */
    size_t tables_bytes;
    char name[128], architecture[32], licence[64];
} xl_owner;

/* ---- loader.c ---- */
/* The model whose header is known, and what it takes at most; USAGE before that. */
exitlm_status xl_loader_measure(const exitlm_loader *loader, const exitlm_model **model,
                                uint64_t *model_bytes, exitlm_error *error);

/* ---- model.c ---- */
/* Reads and checks the hyperparameters. BAD_MODEL or UNSUPPORTED naming the key. */
exitlm_status xl_config_read(const xl_gguf *gguf, xl_config *config, exitlm_error *error);
/* Finds the place of a tensor: kind, type, layer, rows, cols, row_bytes, target. BAD_MODEL for a
 * wrong shape, UNSUPPORTED for a type. */
exitlm_status xl_place_find(exitlm_model *model, const xl_gguf *gguf, const xl_gguf_tensor *tensor,
                            xl_place *place, exitlm_error *error);
/* BAD_MODEL naming a tensor that no part of the model has. */
exitlm_status xl_model_check_tensors(const exitlm_model *model, exitlm_error *error);
/* Lines of exitlm_loader_missing, appended to `text`: of a part's header; with its keys only of the
 * first part. */
void xl_model_missing(const xl_gguf *gguf, bool first, char *text, size_t capacity);
void xl_model_fill_info(exitlm_model *model);

/* Names of the tensors, all of layer 0, whose bytes are in the fingerprint where a model has them. */
#define XL_FINGERPRINT_NORMS 4
extern const char *const xl_fingerprint_norms[XL_FINGERPRINT_NORMS];
/* Frees the first stop of a list. */
void xl_stop_drop(const exitlm_model *model, const xl_place *place, xl_stop **at);
void xl_part_free(exitlm_model *model, xl_part *part);

/* ---- fingerprint.c ---- */
/* The part that the header decides; needs all parts. OUT_OF_MEMORY. */
exitlm_status xl_fingerprint_begin(const exitlm_model *model, xl_sha256 *sha, exitlm_error *error);
/* The rest, once layer 0's norms and the first rows are there. */
exitlm_status xl_fingerprint_end(exitlm_model *model, const xl_sha256 *begun, exitlm_error *error);

/* ---- place.c ---- */
/* Finds the place of every tensor of a part whose header is known, checks shapes and types, and
 * computes weights_bytes. */
exitlm_status xl_part_places(exitlm_model *model, xl_part *part, exitlm_error *error);
/* Takes the memory for its weights, one block. */
exitlm_status xl_part_allocate(exitlm_model *model, xl_part *part, exitlm_error *error);
/* Takes up to `n_bytes` of tensor `index`'s data from byte `offset` of it on; *used of them.
 * *tensor_done: the last byte came; not said of rows.
 * *new_bytes: of those used, the ones that were not there yet. BAD_MODEL for a weight that is no
 * finite number, OUT_OF_MEMORY for a row that begins. */
typedef struct xl_taken {
    size_t used, new_bytes;
    bool tensor_done;
} xl_taken;
exitlm_status xl_place_take(exitlm_model *model, xl_part *part, uint32_t index, uint64_t offset,
                            const uint8_t *bytes, size_t n_bytes, xl_taken *taken,
                            exitlm_error *error);
/* May the position be moved to this byte of the tensor? */
bool xl_place_may_seek(const exitlm_model *model, const xl_place *place, uint64_t offset);
bool xl_place_row_ready(const exitlm_model *model, const xl_place *place, uint32_t row);
bool xl_place_complete(const xl_place *place);

#endif
