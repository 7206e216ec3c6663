/* Parts: files that hold one shard's share of a long work, so that it can be spread over machines
 * and gone on with. A part is a head, which says of which work it is and which shard of it, and
 * blocks with a checksum each. Numbers lie as in memory; a machine of another byte order refuses it.
 *
 * A part has its name when it is whole. Until then it is NAME.part and grows by blocks, so that a
 * killed worker goes on behind the last whole one. Two cannot write it at a time. */
#ifndef XL_PART_FILE_H
#define XL_PART_FILE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

/* A share of a work; {1, 1} is all of it. */
typedef struct xl_shard {
    uint32_t index, of; /* index 1 … of */
} xl_shard;
/* "3/8". False: it is no shard. */
bool xl_shard_parse(const char *text, xl_shard *shard);
/* The work's items [xl_shard_first, xl_shard_end) are the shard's. total < 2^32. */
static inline uint64_t xl_shard_first(xl_shard s, uint64_t total) {
    return total * (s.index - 1) / s.of;
}
static inline uint64_t xl_shard_end(xl_shard s, uint64_t total) { return total * s.index / s.of; }

typedef enum xl_part_kind { XL_PART_GATHER = 1, XL_PART_CALIBRATE } xl_part_kind;

/* The same in all parts of one work, but for the shard. */
#define XL_PART_NUMBERS 20
typedef struct xl_part_head {
    uint32_t format, kind;             /* format: filled in by xl_part_begin */
    uint8_t key[32];                   /* of all that the content depends on */
    char fingerprint[72];              /* of the model */
    uint64_t total;                    /* items of the work */
    uint32_t numbers[XL_PART_NUMBERS]; /* what its kind has to say */
    xl_shard shard;
} xl_part_head;

/* Some items of the work in a part. n 0: what holds for all of its items. */
typedef struct xl_part_block {
    uint64_t first, n, n_bytes;
    size_t part;     /* index of its file */
    uint64_t offset; /* of its bytes */
} xl_part_block;

/* ---- Reading ---- */
/* The head alone; false: it cannot be read. */
bool xl_part_look(const char *path, xl_part_head *head);

typedef struct xl_parts {
    xl_part_head head; /* of the first one */
    char **paths;      /* [n] */
    size_t n, n_blocks, capacity;
    xl_part_block *blocks; /* [n_blocks] by first item, those without items before the others */
} xl_parts;
/* Opens all parts of one work, each once, of this model, and reads them to the end: what is missing,
 * doubled, foreign or damaged is named. `partial`: of the one path what is there of NAME.part, too.
 * xl_parts_close either way. */
exitlm_status xl_parts_open(xl_parts *parts, const char *const *paths, size_t n, xl_part_kind kind,
                            const char *fingerprint, bool partial, exitlm_error *error);
/* What a part says cannot be: the error. */
exitlm_status xl_part_unreadable(const char *path, exitlm_error *error);
/* The file at the block's bytes, to be closed; NULL: it cannot be opened any more. */
FILE *xl_parts_block(const xl_parts *parts, size_t index, uint64_t offset);
/* n bytes from where the file stands; NULL: xl_parts_block has failed. */
exitlm_status xl_read_whole(FILE *f, const char *path, void *bytes, size_t n, exitlm_error *error);
/* The whole block in fresh memory. */
exitlm_status xl_parts_read(const xl_parts *parts, size_t index, void **bytes, exitlm_error *error);
void xl_parts_close(xl_parts *parts);

/* ---- Writing ---- */
typedef struct xl_part_writer {
    char *path;     /* its name when it is whole */
    xl_parts there; /* the blocks that an earlier run has written */
    FILE *file;     /* NULL: the part is whole already */
    uint8_t *buffer;
    size_t filled;
    uint64_t start, n_bytes, sum; /* of the block that is being written */
    bool failed;
} xl_part_writer;
/* Goes on with the part of this head, or begins it. xl_part_close either way. */
exitlm_status xl_part_begin(xl_part_writer *w, const char *path, const xl_part_head *head,
                            exitlm_error *error);
/* Was the block written by an earlier run? */
bool xl_part_has(const xl_part_writer *w, uint64_t first, uint64_t n);
/* Blocks that are written in order: the first item that no earlier run has written. */
uint64_t xl_part_done(const xl_part_writer *w);
/* A block: open, bytes in pieces, end. From open to end other threads wait. */
void xl_part_block_open(xl_part_writer *w);
void xl_part_put(xl_part_writer *w, const void *bytes, size_t n);
exitlm_status xl_part_block_end(xl_part_writer *w, uint64_t first, uint64_t n, exitlm_error *error);
/* All blocks are there: the part gets its name. */
exitlm_status xl_part_finish(xl_part_writer *w, exitlm_error *error);
void xl_part_close(xl_part_writer *w);

#endif
