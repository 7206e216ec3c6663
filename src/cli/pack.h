/* Cutting a model's files into shards in the order in which generation needs their bytes. */
#ifndef CLI_PACK_H
#define CLI_PACK_H
#include "exitlm.h"
#include "model_path.h"
#include "base/sha256.h"

/* shards of rows outside the shortlist, the first and the last */
#define PACK_SMALL_BYTES ((uint64_t)256 << 10)
#define PACK_ROWS_BYTES ((uint64_t)2 << 20)
#define PACK_PIECE_BYTES ((size_t)256 << 10) /* a digest each, in shards of more than one */
#define PACK_NAME_BYTES 32
#define PACK_CORE_NAME "heads-core.gguf" /* the heads without their maps */

/* `layer` of extents that the loader's plan does not name */
enum { PACK_HEADER = -4, PACK_REST = -5 };

typedef struct pack_part {
    char *path;
    uint64_t n_bytes, header_bytes;
    uint8_t digest[32];
} pack_part;

typedef struct pack_shard {
    size_t first_extent, n_extents;
    uint64_t n_bytes;
    uint8_t digest[32];
    uint8_t (*pieces)[32]; /* NULL: it is one piece */
    size_t n_pieces;
} pack_shard;

typedef struct pack {
    uint32_t n_parts;
    pack_part *parts;
    size_t n_extents, extents_capacity;
    exitlm_extent *extents; /* in the order of the shards */
    size_t n_shards, shards_capacity;
    pack_shard *shards;
    uint64_t total_bytes;
    uint8_t digest[32];
} pack;

/* Reads the headers and decides; nothing is written. `heads` may be NULL. 0, or the exit status
 * of a reported failure; pack_free either way. */
int pack_plan(pack *p, const cli_model_path *path, const exitlm_heads *heads, uint64_t shard_bytes);
/* Writes the shards into the folder and fills all digests. */
int pack_write_shards(pack *p, const char *folder);
void pack_free(pack *p);
/* "shard-0007.bin" */
void pack_shard_name(size_t index, char name[PACK_NAME_BYTES]);

#endif
