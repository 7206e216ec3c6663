/* Parts of a work on disk. See part_file.h. */
#include "part_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/checksum.h"
#include "files.h"
#include "observer.h"

#define FORMAT 0x31504c58u /* "XLP1" on a little-endian machine */
#define FORMAT_SWAPPED 0x584c5031u
#define PIECE 65536 /* bytes that are summed at once */

/* As they lie in the file. */
typedef struct head_record {
    xl_part_head head;
    uint64_t check;
} head_record;
typedef struct block_record {
    uint64_t first, n, n_bytes, sum, check;
} block_record;

static uint64_t check_of(const block_record *b) {
    return xl_checksum(b, offsetof(block_record, check));
}

static uint64_t add_piece(uint64_t sum, const uint8_t *bytes, size_t n) {
    return xl_mix64(sum ^ xl_checksum(bytes, n));
}

bool xl_shard_parse(const char *text, xl_shard *shard) {
    unsigned index, of;
    char end;
    if (sscanf(text, "%6u/%6u%c", &index, &of, &end) != 2 || index < 1 || index > of) return false;
    *shard = (xl_shard){index, of};
    return true;
}

static bool same_work(const xl_part_head *a, const xl_part_head *b) {
    return a->kind == b->kind && memcmp(a->key, b->key, sizeof a->key) == 0 &&
           a->total == b->total && memcmp(a->numbers, b->numbers, sizeof a->numbers) == 0;
}

static bool same_shard(const xl_part_head *a, const xl_part_head *b) {
    return a->shard.index == b->shard.index && a->shard.of == b->shard.of;
}

/* ---- One file ---- */
static bool add_block(xl_parts *p, const xl_part_block *block) {
    if (p->n_blocks == p->capacity) {
        const size_t more = p->capacity ? 2 * p->capacity : 64;
        xl_part_block *blocks = realloc(p->blocks, more * sizeof *blocks);
        if (!blocks) return false;
        p->blocks = blocks;
        p->capacity = more;
    }
    p->blocks[p->n_blocks++] = *block;
    return true;
}

static bool sum_holds(FILE *f, const block_record *b, uint8_t *buffer) {
    uint64_t sum = 0;
    for (uint64_t left = b->n_bytes; left;) {
        const size_t n = left < PIECE ? (size_t)left : PIECE;
        if (fread(buffer, 1, n, f) != n) return false;
        sum = add_piece(sum, buffer, n);
        left -= n;
    }
    return sum == b->sum;
}

static bool read_head(FILE *f, xl_part_head *head) {
    head_record r;
    const bool fine = fread(&r, sizeof r, 1, f) == 1;
    *head = fine ? r.head : (xl_part_head){0};
    head->fingerprint[sizeof head->fingerprint - 1] = 0;
    return fine && head->format == FORMAT && r.check == xl_checksum(&r.head, sizeof r.head) &&
           head->shard.index >= 1 && head->shard.index <= head->shard.of &&
           head->total <= UINT32_MAX;
}

static exitlm_status cannot_read(const char *path, exitlm_error *error) {
    return xl_fail(error, EXITLM_IO, XL_FILE_NAME ": cannot be read: %s", path,
                   errno ? strerror(errno) : "the file is shorter than it was");
}

exitlm_status xl_part_unreadable(const char *path, exitlm_error *error) {
    return xl_fail(error, EXITLM_IO,
                   XL_FILE_NAME ": this part cannot be read: delete it and make it again", path);
}

/* Whole blocks from here on. *end: behind the last one; *more: something follows that is none. */
static exitlm_status read_blocks(xl_parts *p, size_t part, FILE *f, uint64_t *end, bool *more,
                                 exitlm_error *error) {
    exitlm_status status = EXITLM_OK;
    uint8_t *buffer = malloc(PIECE);
    if (!buffer) status = xl_no_memory(error, "a part");
    *end = sizeof(head_record);
    *more = false;
    errno = 0;
    while (status == EXITLM_OK && !*more) {
        block_record b;
        const size_t got = fread(&b, 1, sizeof b, f);
        if (got == 0) break;
        *more = got < sizeof b || b.check != check_of(&b) || !sum_holds(f, &b, buffer);
        if (*more) break;
        const xl_part_block block = {b.first, b.n, b.n_bytes, part, *end + sizeof b};
        *end += sizeof b + b.n_bytes;
        if (!add_block(p, &block)) status = xl_no_memory(error, "a part");
    }
    free(buffer);
    /* what cannot be read now may be whole */
    return status == EXITLM_OK && ferror(f) ? cannot_read(p->paths[part], error) : status;
}

static int compare_blocks(const void *a, const void *b) {
    const xl_part_block *x = a, *y = b;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return (x->n > y->n) - (x->n < y->n);
}

/* Do sorted blocks have each of the items [first, end) once, and no others? */
static bool cover(const xl_part_block *blocks, size_t n, uint64_t first, uint64_t end) {
    for (size_t i = 0; i < n; i++) {
        if (blocks[i].n == 0) continue;
        if (blocks[i].first != first || blocks[i].n > end - first) return false;
        first += blocks[i].n;
    }
    return first == end;
}

/* ---- Reading ---- */
bool xl_part_look(const char *path, xl_part_head *head) {
    FILE *f = fopen(path, "rb");
    const bool fine = f && read_head(f, head);
    if (f) fclose(f);
    return fine;
}

static exitlm_status refuse_head(const char *path, const xl_part_head *h, xl_part_kind kind,
                                 exitlm_error *error) {
    if (h->format == FORMAT_SWAPPED)
        return xl_fail(error, EXITLM_IO,
                       XL_FILE_NAME ": this part was written on a machine of another byte order",
                       path);
    return xl_fail(error, EXITLM_IO, XL_FILE_NAME ": this is no part that exitlm %s has written",
                   path, kind == XL_PART_GATHER ? "gather" : "calibrate --shard");
}

static exitlm_status damaged(const char *path, xl_shard s, uint64_t at, exitlm_error *error) {
    return xl_fail(error, EXITLM_IO,
                   XL_FILE_NAME
                   ": damaged from byte %llu on: delete it and make it again, --shard %u/%u",
                   path, (unsigned long long)at, s.index, s.of);
}

static exitlm_status read_part(xl_parts *p, size_t part, xl_part_head *head, xl_part_kind kind,
                               bool partial, exitlm_error *error) {
    const char *path = p->paths[part];
    const size_t before = p->n_blocks;
    uint64_t end = 0;
    bool more = false;
    errno = 0;
    FILE *f = fopen(path, "rb");
    if (!f)
        return xl_fail(error, EXITLM_IO, XL_FILE_NAME ": cannot be opened: %s", path,
                       strerror(errno));
    const bool fine = read_head(f, head) && head->kind == (uint32_t)kind;
    exitlm_status status = fine        ? read_blocks(p, part, f, &end, &more, error)
                           : ferror(f) ? cannot_read(path, error)
                                       : refuse_head(path, head, kind, error);
    fclose(f);
    if (status != EXITLM_OK || partial) return status;
    if (more) return damaged(path, head->shard, end, error);
    qsort(p->blocks + before, p->n_blocks - before, sizeof *p->blocks, compare_blocks);
    const uint64_t first = xl_shard_first(head->shard, head->total),
                   last = xl_shard_end(head->shard, head->total);
    if (cover(p->blocks + before, p->n_blocks - before, first, last)) return EXITLM_OK;
    return xl_fail(
        error, EXITLM_IO,
        XL_FILE_NAME
        ": not whole: the command that makes shard %u/%u has to be run again, and goes on",
        path, head->shard.index, head->shard.of);
}

/* Does part number `part` belong to those before it? */
static exitlm_status check_head(const xl_parts *p, size_t part, const xl_part_head *heads,
                                const char *fingerprint, exitlm_error *error) {
    const xl_part_head *h = &heads[part];
    const char *path = p->paths[part];
    if (strcmp(h->fingerprint, fingerprint) != 0)
        return xl_fail(error, EXITLM_IO,
                       "%.200s: of another model: its fingerprint is %.16s…, this model's %.16s…",
                       path, h->fingerprint, fingerprint);
    for (size_t i = 0; i < part; i++) {
        if (!same_work(h, &heads[i]))
            return xl_fail(error, EXITLM_IO,
                           "%.200s: of another plan than %.200s: other data, options, heads or "
                           "version of exitlm",
                           path, p->paths[i]);
        if (h->shard.of != heads[i].shard.of)
            return xl_fail(error, EXITLM_IO, "%.200s: one of %u shards, but %.200s is one of %u",
                           path, h->shard.of, p->paths[i], heads[i].shard.of);
        if (same_shard(h, &heads[i]))
            return xl_fail(error, EXITLM_IO,
                           "%.200s: shard %u/%u, as %.200s is: leave one of them out", path,
                           h->shard.index, h->shard.of, p->paths[i]);
    }
    return EXITLM_OK;
}

/* Each is there once: fewer than all means that some are missing. */
static exitlm_status check_all(const xl_parts *p, const xl_part_head *heads, exitlm_error *error) {
    const uint32_t of = p->head.shard.of;
    char list[80] = "";
    if (p->n == of) return EXITLM_OK;
    for (uint32_t s = 1; s <= of && strlen(list) < 50; s++) {
        bool there = false;
        for (size_t i = 0; i < p->n; i++) there |= heads[i].shard.index == s;
        const size_t at = strlen(list);
        if (!there) snprintf(list + at, sizeof list - at, "%s%u/%u", at ? ", " : "", s, of);
    }
    return xl_fail(error, EXITLM_IO, "%zu of %u parts are missing: shard %s%s", of - p->n, of, list,
                   strlen(list) < 50 ? "" : ", …");
}

exitlm_status xl_parts_open(xl_parts *p, const char *const *paths, size_t n, xl_part_kind kind,
                            const char *fingerprint, bool partial, exitlm_error *error) {
    xl_part_head *heads = calloc(n + 1, sizeof *heads);
    *p = (xl_parts){.paths = calloc(n + 1, sizeof *p->paths)};
    exitlm_status status = heads && p->paths ? EXITLM_OK : xl_no_memory(error, "parts");
    for (; p->n < n && status == EXITLM_OK; p->n++) {
        p->paths[p->n] = xl_format("%s", paths[p->n]);
        if (!p->paths[p->n]) {
            status = xl_no_memory(error, "parts");
            break;
        }
        status = read_part(p, p->n, &heads[p->n], kind, partial, error);
        if (status == EXITLM_OK) status = check_head(p, p->n, heads, fingerprint, error);
    }
    if (status == EXITLM_OK) {
        p->head = heads[0];
        status = check_all(p, heads, error);
    }
    free(heads);
    if (p->n_blocks) qsort(p->blocks, p->n_blocks, sizeof *p->blocks, compare_blocks);
    return status;
}

FILE *xl_parts_block(const xl_parts *p, size_t index, uint64_t offset) {
    const xl_part_block *b = &p->blocks[index];
    FILE *f = fopen(p->paths[b->part], "rb");
    if (f && fseeko(f, (off_t)(b->offset + offset), SEEK_SET) == 0) return f;
    if (f) fclose(f);
    return NULL;
}

exitlm_status xl_read_whole(FILE *f, const char *path, void *bytes, size_t n, exitlm_error *error) {
    if (f) errno = 0;
    return f && fread(bytes, 1, n, f) == n ? EXITLM_OK : cannot_read(path, error);
}

exitlm_status xl_parts_read(const xl_parts *p, size_t index, void **bytes, exitlm_error *error) {
    const uint64_t n = p->blocks[index].n_bytes;
    *bytes = n < SIZE_MAX ? malloc((size_t)n + 1) : NULL;
    if (!*bytes) return xl_no_memory(error, "a part");
    FILE *f = xl_parts_block(p, index, 0);
    exitlm_status status =
        xl_read_whole(f, p->paths[p->blocks[index].part], *bytes, (size_t)n, error);
    if (f) fclose(f);
    if (status == EXITLM_OK) return EXITLM_OK;
    free(*bytes);
    *bytes = NULL;
    return status;
}

void xl_parts_close(xl_parts *p) {
    for (size_t i = 0; p->paths && p->paths[i]; i++) free(p->paths[i]);
    free(p->paths);
    free(p->blocks);
    *p = (xl_parts){0};
}

/* ---- Writing ---- */
/* The file is this process's alone until it is closed, which the system does for a killed one. */
static bool lock(FILE *f) {
#if defined(__wasi__)
    (void)f;
    return true;
#else
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fileno(f), F_SETLK, &whole) == 0 || (errno != EACCES && errno != EAGAIN);
#endif
}

/* Threads of the pool write a block each, in turn. */
static void begin_turn(FILE *f) {
#if defined(__wasi__)
    (void)f;
#else
    flockfile(f);
#endif
}

static void end_turn(FILE *f) {
#if defined(__wasi__)
    (void)f;
#else
    funlockfile(f);
#endif
}

static exitlm_status cannot_write(const xl_part_writer *w, exitlm_error *error) {
    return xl_fail(error, EXITLM_IO, XL_FILE_NAME ": cannot be written: %s", w->there.paths[0],
                   errno ? strerror(errno) : "is the disk full?");
}

/* Is the part of that name there, and whole? Then it has to be this one. */
static exitlm_status find_whole(xl_part_writer *w, exitlm_error *error) {
    xl_part_head head;
    exitlm_status status =
        read_part(&w->there, 0, &head, (xl_part_kind)w->there.head.kind, false, error);
    if (status == EXITLM_OK &&
        (!same_work(&head, &w->there.head) || !same_shard(&head, &w->there.head)))
        status = xl_fail(error, EXITLM_IO,
                         XL_FILE_NAME
                         ": a part of another plan or shard is there: delete it, or name another",
                         w->path);
    return status;
}

static exitlm_status go_on(xl_part_writer *w, exitlm_error *error) {
    xl_part_head head;
    uint64_t end = 0;
    bool more;
    exitlm_status status = EXITLM_OK;
    errno = 0;
    if (read_head(w->file, &head) && same_work(&head, &w->there.head) &&
        same_shard(&head, &w->there.head))
        status = read_blocks(&w->there, 0, w->file, &end, &more, error);
    else if (ferror(w->file)) status = cannot_read(w->there.paths[0], error);
    if (status != EXITLM_OK) return status;
    errno = 0;
    bool fine =
        ftruncate(fileno(w->file), (off_t)end) == 0 && fseeko(w->file, (off_t)end, SEEK_SET) == 0;
    if (fine && end == 0) {
        const head_record r = {w->there.head, xl_checksum(&w->there.head, sizeof w->there.head)};
        fine = fwrite(&r, sizeof r, 1, w->file) == 1 && fflush(w->file) == 0;
    }
    return fine ? EXITLM_OK : cannot_write(w, error);
}

exitlm_status xl_part_begin(xl_part_writer *w, const char *path, const xl_part_head *head,
                            exitlm_error *error) {
    const bool whole = xl_file_look(path, NULL) != XL_FILE_NONE;
    *w = (xl_part_writer){.path = xl_format("%s", path),
                          .there = {.head = *head, .paths = calloc(2, sizeof(char *)), .n = 1},
                          .buffer = malloc(PIECE)};
    w->there.head.format = FORMAT;
    if (w->there.paths) w->there.paths[0] = xl_format("%s%s", path, whole ? "" : ".part");
    if (!w->path || !w->buffer || !w->there.paths || !w->there.paths[0])
        return xl_no_memory(error, "a part");
    if (whole) return find_whole(w, error);
    errno = 0;
    w->file = fopen(w->there.paths[0], "r+b");
    if (!w->file) w->file = fopen(w->there.paths[0], "w+b");
    if (!w->file) return cannot_write(w, error);
    if (lock(w->file)) return go_on(w, error);
    return xl_fail(error, EXITLM_IO, XL_FILE_NAME ": another process is writing it",
                   w->there.paths[0]);
}

bool xl_part_has(const xl_part_writer *w, uint64_t first, uint64_t n) {
    for (size_t i = 0; i < w->there.n_blocks; i++)
        if (w->there.blocks[i].first == first && w->there.blocks[i].n == n) return true;
    return false;
}

uint64_t xl_part_done(const xl_part_writer *w) {
    uint64_t first = xl_shard_first(w->there.head.shard, w->there.head.total);
    for (size_t i = 0; i < w->there.n_blocks; i++)
        if (w->there.blocks[i].first == first) first += w->there.blocks[i].n;
    return first;
}

static void flush_piece(xl_part_writer *w) {
    w->sum = add_piece(w->sum, w->buffer, w->filled);
    w->failed |= fwrite(w->buffer, 1, w->filled, w->file) != w->filled;
    w->filled = 0;
}

void xl_part_block_open(xl_part_writer *w) {
    const block_record later = {0};
    begin_turn(w->file);
    errno = 0;
    w->start = (uint64_t)ftello(w->file);
    w->n_bytes = w->sum = 0;
    w->failed = fwrite(&later, sizeof later, 1, w->file) != 1;
}

void xl_part_put(xl_part_writer *w, const void *bytes, size_t n) {
    const uint8_t *from = bytes;
    w->n_bytes += n;
    while (n) {
        const size_t some = n < PIECE - w->filled ? n : PIECE - w->filled;
        memcpy(w->buffer + w->filled, from, some);
        w->filled += some;
        from += some;
        n -= some;
        if (w->filled == PIECE) flush_piece(w);
    }
}

exitlm_status xl_part_block_end(xl_part_writer *w, uint64_t first, uint64_t n,
                                exitlm_error *error) {
    exitlm_status status = EXITLM_OK;
    if (w->filled) flush_piece(w);
    block_record b = {first, n, w->n_bytes, w->sum, 0};
    b.check = check_of(&b);
    /* the record last: a block that was cut off has none */
    if (w->failed || fflush(w->file) != 0 || fseeko(w->file, (off_t)w->start, SEEK_SET) != 0 ||
        fwrite(&b, sizeof b, 1, w->file) != 1 || fflush(w->file) != 0 ||
        fseeko(w->file, 0, SEEK_END) != 0)
        status = cannot_write(w, error);
    end_turn(w->file);
    return status;
}

exitlm_status xl_part_finish(xl_part_writer *w, exitlm_error *error) {
    if (!w->file) return EXITLM_OK;
    errno = 0;
    const bool fine = fflush(w->file) == 0 && fsync(fileno(w->file)) == 0 &&
                      rename(w->there.paths[0], w->path) == 0;
    return fine ? EXITLM_OK : cannot_write(w, error);
}

void xl_part_close(xl_part_writer *w) {
    if (w->file) fclose(w->file);
    free(w->path);
    free(w->buffer);
    xl_parts_close(&w->there);
    *w = (xl_part_writer){0};
}
