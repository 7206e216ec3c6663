#include "pack.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "files.h"
#include "platform.h"

#define CHUNK_BYTES ((size_t)1 << 20)

void pack_shard_name(size_t index, char name[PACK_NAME_BYTES]) {
    snprintf(name, PACK_NAME_BYTES, "shard-%04zu.bin", index);
}

void pack_free(pack *p) {
    for (uint32_t i = 0; i < p->n_parts; i++) free(p->parts[i].path);
    free(p->parts);
    free(p->extents);
    for (size_t i = 0; i < p->n_shards; i++) free(p->shards[i].pieces);
    free(p->shards);
    *p = (pack){0};
}

/* ---- Planning ---- */

static bool add_extent(pack *p, const exitlm_extent *extent) {
    if (p->n_extents == p->extents_capacity) {
        size_t capacity = p->extents_capacity ? 2 * p->extents_capacity : 256;
        exitlm_extent *grown = realloc(p->extents, capacity * sizeof *grown);
        if (!grown) return false;
        p->extents = grown;
        p->extents_capacity = capacity;
    }
    p->extents[p->n_extents++] = *extent;
    return true;
}

static bool add_shard(pack *p) {
    if (p->n_shards == p->shards_capacity) {
        size_t capacity = p->shards_capacity ? 2 * p->shards_capacity : 64;
        pack_shard *grown = realloc(p->shards, capacity * sizeof *grown);
        if (!grown) return false;
        p->shards = grown;
        p->shards_capacity = capacity;
    }
    p->shards[p->n_shards++] = (pack_shard){.first_extent = p->n_extents};
    return true;
}

/* Appends bytes to the last shard, or to fresh ones where it is full. Rows are not cut. */
static bool place(pack *p, exitlm_extent extent, uint64_t shard_bytes) {
    while (extent.n_bytes) {
        pack_shard *shard = &p->shards[p->n_shards - 1];
        uint64_t room = shard_bytes - shard->n_bytes;
        exitlm_extent piece = extent;
        /* a layer is not cut where it need not be */
        bool whole = extent.layer >= -1 && extent.n_bytes <= shard_bytes;
        if (piece.n_bytes > room && whole) piece.n_bytes = piece.n_rows = 0;
        else if (piece.n_bytes > room) {
            uint64_t row_bytes = extent.n_rows ? extent.n_bytes / extent.n_rows : 1;
            piece.n_rows = extent.n_rows ? (uint32_t)(room / row_bytes) : 0;
            piece.n_bytes = extent.n_rows ? piece.n_rows * row_bytes : room;
        }
        if (piece.n_bytes == 0) {
            if (shard->n_bytes == 0) piece = extent; /* one row larger than a shard */
            else {
                if (!add_shard(p)) return false;
                continue;
            }
        }
        if (!add_extent(p, &piece)) return false;
        shard = &p->shards[p->n_shards - 1];
        shard->n_extents++;
        shard->n_bytes += piece.n_bytes;
        extent.offset += piece.n_bytes;
        extent.n_bytes -= piece.n_bytes;
        extent.row += piece.n_rows;
        extent.n_rows -= piece.n_rows;
    }
    return true;
}

static int by_place(const void *a, const void *b) {
    const exitlm_extent *x = a, *y = b;
    if (x->part != y->part) return x->part < y->part ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* What no extent has: padding, tensors that the engine does not need. It lies in the last shard,
 * for the sake of the original. */
static bool place_rest(pack *p, uint64_t shard_bytes) {
    size_t n = p->n_extents;
    exitlm_extent *sorted = malloc((n ? n : 1) * sizeof *sorted);
    if (!sorted) return false;
    if (n) memcpy(sorted, p->extents, n * sizeof *sorted);
    if (n) qsort(sorted, n, sizeof *sorted, by_place);
    bool good = true, begun = false;
    size_t i = 0;
    for (uint32_t part = 0; part < p->n_parts && good; part++) {
        uint64_t at = 0;
        for (;;) {
            uint64_t next =
                i < n && sorted[i].part == part ? sorted[i].offset : p->parts[part].n_bytes;
            if (next > at) {
                if (!begun) good = add_shard(p);
                begun = true;
                exitlm_extent rest = {
                    .part = part, .offset = at, .n_bytes = next - at, .layer = PACK_REST};
                good = good && place(p, rest, shard_bytes);
            }
            if (!good || i == n || sorted[i].part != part) break;
            at = sorted[i].offset + sorted[i].n_bytes;
            i++;
        }
    }
    free(sorted);
    return good;
}

/* Headers, then the plan: large shards up to the last layer. Rows after that lie in small ones, for
 * a prompt may need any of them at once; the rarer they are, the larger, for each shard is a
 * request. */
static int lay_out(pack *p, const exitlm_extent *plan, size_t n, uint64_t shard_bytes) {
    bool good = add_shard(p);
    for (uint32_t i = 0; i < p->n_parts && good; i++) {
        exitlm_extent header = {
            .part = i, .n_bytes = p->parts[i].header_bytes, .layer = PACK_HEADER};
        good = place(p, header, shard_bytes);
    }
    bool layers = false, small = false;
    uint64_t row_bytes = 0;
    for (size_t i = 0; i < n && good; i++) {
        if (i == 0 || plan[i].layer != plan[i - 1].layer) {
            bool rows_after = layers && plan[i].layer < -1;
            if (i == 0 || rows_after) good = add_shard(p);
            small = rows_after;
        }
        if (plan[i].layer >= 0) layers = true;
        uint64_t most = shard_bytes;
        if (small) {
            most = row_bytes / 8;
            if (most > PACK_ROWS_BYTES) most = PACK_ROWS_BYTES;
            if (most < PACK_SMALL_BYTES) most = PACK_SMALL_BYTES;
            if (most > shard_bytes) most = shard_bytes;
            row_bytes += plan[i].n_bytes;
        }
        good = good && place(p, plan[i], most);
    }
    good = good && place_rest(p, shard_bytes);
    return good ? CLI_OK : cli_no_memory("the plan of the shards");
}

/* Pushes the header of one part. */
static int read_header(pack *p, uint32_t number, exitlm_loader *loader, uint8_t *chunk) {
    pack_part *part = &p->parts[number];
    exitlm_error error;
    exitlm_load_state state;
    if (xl_file_look(part->path, &part->n_bytes) == XL_FILE_FOLDER)
        return cli_fail("%s: is a directory; give a GGUF file", part->path);
    if (number > 0 && exitlm_loader_seek(loader, number, 0, &error) != EXITLM_OK)
        return cli_report(&error, part->path);
    errno = 0;
    FILE *in = fopen(part->path, "rb");
    if (!in) return cli_fail("%s: cannot be opened: %s", part->path, strerror(errno));
    int status = CLI_OK;
    do {
        size_t n = fread(chunk, 1, CHUNK_BYTES, in);
        if (ferror(in)) status = cli_fail("%s: cannot be read: %s", part->path, strerror(errno));
        else if (n == 0) {
            exitlm_model *model;
            exitlm_loader_finish(loader, &model, &error);
            status = cli_report(&error, part->path);
        } else if (exitlm_loader_push(loader, chunk, n, &error) != EXITLM_OK)
            status = cli_report(&error, part->path);
        exitlm_loader_state(loader, &state);
    } while (status == CLI_OK &&
             !(state.header_ready || (state.part == number && state.header_bytes)));
    fclose(in);
    part->header_bytes = state.header_bytes;
    if (status == CLI_OK && state.total_bytes > part->n_bytes)
        return cli_fail("%s: truncated: its tensors need %llu bytes, the file has %llu", part->path,
                        (unsigned long long)state.total_bytes, (unsigned long long)part->n_bytes);
    p->total_bytes += part->n_bytes;
    return status;
}

int pack_plan(pack *p, const cli_model_path *path, const exitlm_heads *heads,
              uint64_t shard_bytes) {
    exitlm_error error;
    exitlm_loader *loader = NULL;
    exitlm_load_options options = {.heads = heads, .header_only = true};
    exitlm_extent *plan = NULL;
    size_t n = 0;
    uint8_t *chunk = malloc(CHUNK_BYTES);
    p->parts = calloc(path->n_parts, sizeof *p->parts);
    int status = CLI_OK;
    if (!chunk || !p->parts) status = cli_no_memory("reading the model's header");
    else p->n_parts = path->n_parts;
    if (status == CLI_OK && exitlm_loader_create(&loader, &options, &error) != EXITLM_OK)
        status = cli_report(&error, NULL);
    for (uint32_t i = 0; i < path->n_parts && status == CLI_OK; i++) {
        p->parts[i].path = cli_model_path_part(path, i);
        status = p->parts[i].path ? read_header(p, i, loader, chunk) : cli_no_memory("a file name");
    }
    if (status == CLI_OK && exitlm_loader_plan(loader, NULL, 0, &n, &error) != EXITLM_OK)
        status = cli_report(&error, path->file);
    if (status == CLI_OK) {
        plan = malloc((n ? n : 1) * sizeof *plan);
        if (!plan) status = cli_no_memory("the order of use");
        else if (exitlm_loader_plan(loader, plan, n, &n, &error) != EXITLM_OK)
            status = cli_report(&error, path->file);
        else status = lay_out(p, plan, n, shard_bytes);
    }
    free(plan);
    free(chunk);
    exitlm_loader_free(loader);
    return status;
}

/* ---- Writing ---- */

static bool seek_to(FILE *in, uint64_t offset) {
    return offset <= INT64_MAX && fseeko(in, (off_t)offset, SEEK_SET) == 0;
}

/* The digests of a shard, whole and in pieces, as its bytes come. */
typedef struct shard_sums {
    pack_shard *shard;
    xl_sha256 whole, piece;
    size_t done, in_piece;
} shard_sums;

static bool begin_sums(shard_sums *s, pack_shard *shard) {
    *s = (shard_sums){.shard = shard};
    xl_sha256_init(&s->whole);
    xl_sha256_init(&s->piece);
    if (shard->n_bytes <= PACK_PIECE_BYTES) return true;
    shard->n_pieces = (size_t)((shard->n_bytes + PACK_PIECE_BYTES - 1) / PACK_PIECE_BYTES);
    shard->pieces = calloc(shard->n_pieces, sizeof *shard->pieces);
    return shard->pieces != NULL;
}

static void end_piece(shard_sums *s) {
    if (s->done == s->shard->n_pieces) return;
    xl_sha256_final(&s->piece, s->shard->pieces[s->done++]);
    xl_sha256_init(&s->piece);
    s->in_piece = 0;
}

static void add_sums(shard_sums *s, const uint8_t *bytes, size_t n_bytes) {
    xl_sha256_update(&s->whole, bytes, n_bytes);
    while (s->shard->pieces && n_bytes) {
        const size_t room = PACK_PIECE_BYTES - s->in_piece, n = n_bytes < room ? n_bytes : room;
        xl_sha256_update(&s->piece, bytes, n);
        s->in_piece += n;
        bytes += n;
        n_bytes -= n;
        if (s->in_piece == PACK_PIECE_BYTES) end_piece(s);
    }
}

static int write_shard(const pack *p, pack_shard *shard, FILE *const *inputs, const char *target,
                       uint8_t *chunk) {
    shard_sums sums;
    if (!begin_sums(&sums, shard)) return cli_no_memory("the checksums of a shard");
    FILE *out = fopen(target, "wb");
    if (!out) return cli_fail("%s: cannot be written: %s", target, strerror(errno));
    int status = CLI_OK;
    for (size_t i = 0; i < shard->n_extents && status == CLI_OK; i++) {
        const exitlm_extent *e = &p->extents[shard->first_extent + i];
        FILE *in = inputs[e->part];
        uint64_t left = e->n_bytes;
        if (!seek_to(in, e->offset))
            status = cli_fail("%s: cannot be read at byte %llu", p->parts[e->part].path,
                              (unsigned long long)e->offset);
        while (left && status == CLI_OK) {
            size_t n = fread(chunk, 1, left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES, in);
            if (n == 0)
                status = cli_fail("%s: became shorter while it was read", p->parts[e->part].path);
            else if (fwrite(chunk, 1, n, out) != n)
                status = cli_fail("%s: cannot be written: %s", target, strerror(errno));
            add_sums(&sums, chunk, n);
            left -= n;
        }
    }
    if (fclose(out) != 0 && status == CLI_OK)
        status = cli_fail("%s: cannot be written: %s", target, strerror(errno));
    xl_sha256_final(&sums.whole, shard->digest);
    if (sums.in_piece) end_piece(&sums);
    return status;
}

/* Digests of each original and of all of them, one after the other. */
static int hash_parts(pack *p, FILE *const *inputs, uint8_t *chunk) {
    xl_sha256 all;
    xl_sha256_init(&all);
    for (uint32_t i = 0; i < p->n_parts; i++) {
        xl_sha256 one;
        xl_sha256_init(&one);
        if (!seek_to(inputs[i], 0)) return cli_fail("%s: cannot be read", p->parts[i].path);
        for (uint64_t left = p->parts[i].n_bytes; left;) {
            size_t n = fread(chunk, 1, left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES, inputs[i]);
            if (n == 0) return cli_fail("%s: became shorter while it was read", p->parts[i].path);
            xl_sha256_update(&one, chunk, n);
            xl_sha256_update(&all, chunk, n);
            left -= n;
        }
        xl_sha256_final(&one, p->parts[i].digest);
    }
    xl_sha256_final(&all, p->digest);
    return CLI_OK;
}

int pack_write_shards(pack *p, const char *folder) {
    uint8_t *chunk = malloc(CHUNK_BYTES);
    FILE **inputs = calloc(p->n_parts, sizeof *inputs);
    int status = chunk && inputs ? CLI_OK : cli_no_memory("writing the shards");
    for (uint32_t i = 0; i < p->n_parts && status == CLI_OK; i++) {
        inputs[i] = fopen(p->parts[i].path, "rb");
        if (!inputs[i])
            status = cli_fail("%s: cannot be opened: %s", p->parts[i].path, strerror(errno));
    }
    for (size_t i = 0; i < p->n_shards && status == CLI_OK; i++) {
        char name[PACK_NAME_BYTES];
        pack_shard_name(i, name);
        char *target = xl_format("%s/%s", folder, name);
        status = target ? write_shard(p, &p->shards[i], inputs, target, chunk)
                        : cli_no_memory("a file name");
        free(target);
    }
    if (status == CLI_OK) status = hash_parts(p, inputs, chunk);
    if (inputs)
        for (uint32_t i = 0; i < p->n_parts; i++)
            if (inputs[i]) fclose(inputs[i]);
    free(inputs);
    free(chunk);
    return status;
}
