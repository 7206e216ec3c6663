/* Shards of gathered data on disk: a header, then the arrays of xl_gather_shard in their order,
 * then hidden states layer by layer. For this machine alone: numbers lie as in memory. */
#include "gather_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

typedef struct header {
    char magic[8];
    uint8_t key[32];
    uint32_t n_conversations, n_ids, n_positions, dim, top, n_layers;
} header;

static const char magic[8] = "XLGATH1";

size_t xl_gather_shards(const xl_gather_plan *plan) {
    return (plan->n_jobs + XL_GATHER_SHARD_JOBS - 1) / XL_GATHER_SHARD_JOBS;
}

bool xl_gather_record_grow(xl_gather_record *r, size_t x_items) {
    if (r->n_positions < r->capacity) return true;
    uint32_t more = r->capacity ? 2 * r->capacity : 64;
    uint32_t *at = realloc(r->at, more * sizeof *at);
    if (at) r->at = at;
    int32_t *ids = realloc(r->top_ids, more * sizeof *ids * XL_GATHER_TOP);
    if (ids) r->top_ids = ids;
    uint16_t *p = realloc(r->top_p, more * sizeof *p * XL_GATHER_TOP),
             *x = realloc(r->x, more * sizeof *x * x_items);
    if (p) r->top_p = p;
    if (x) r->x = x;
    if (!at || !ids || !p || !x) return false;
    r->capacity = more;
    return true;
}

void xl_gather_record_free(xl_gather_record *r) {
    free(r->ids);
    free(r->at);
    free(r->top_ids);
    free(r->top_p);
    free(r->x);
    *r = (xl_gather_record){0};
}

static char *shard_name(const xl_gather_plan *plan, size_t index, const char *end) {
    return xl_format("%s/shard-%05zu%s", plan->folder, index, end);
}

static bool read_header(const xl_gather_plan *plan, FILE *f, header *h) {
    return fread(h, sizeof *h, 1, f) == 1 && memcmp(h->magic, magic, sizeof magic) == 0 &&
           memcmp(h->key, plan->key, 32) == 0 && h->dim == plan->model->config.dim &&
           h->top == XL_GATHER_TOP && h->n_layers == plan->n_layers;
}

bool xl_gather_exists(const xl_gather_plan *plan, size_t index) {
    header h;
    char *name = shard_name(plan, index, "");
    FILE *f = name ? fopen(name, "rb") : NULL;
    bool fine = f && read_header(plan, f, &h);
    if (f) fclose(f);
    free(name);
    return fine;
}

/* ---- Writing ---- */
static bool put(FILE *f, const void *bytes, size_t n) {
    return n == 0 || fwrite(bytes, 1, n, f) == n;
}

static bool put_conversations(FILE *f, const xl_gather_plan *plan, const xl_gather_record *records,
                              size_t first_job, size_t n) {
    xl_gather_conversation c = {0};
    bool fine = true;
    for (size_t i = 0; i < n && fine; i++) {
        const xl_gather_job *job = &plan->jobs[first_job + i];
        c.job = (uint32_t)(first_job + i);
        c.n_ids = records[i].n_ids;
        c.n_positions = records[i].n_positions;
        c.validation = job->validation;
        c.kind = job->kind;
        c.n_turns = records[i].n_turns;
        c.temperature = job->temperature;
        fine = put(f, &c, sizeof c);
        c.first_id += c.n_ids;
        c.first_position += c.n_positions;
    }
    return fine;
}

static bool put_layers(FILE *f, const xl_gather_plan *plan, const xl_gather_record *records,
                       size_t n, size_t dim) {
    bool fine = true;
    for (uint32_t l = 0; l < plan->n_layers; l++)
        for (size_t i = 0; i < n; i++)
            for (size_t p = 0; p < records[i].n_positions && fine; p++)
                fine =
                    put(f, records[i].x + (p * plan->n_layers + l) * dim, dim * sizeof(uint16_t));
    return fine;
}

static bool put_shard(FILE *f, const xl_gather_plan *plan, const xl_gather_record *records,
                      size_t first_job, size_t n) {
    header h = {.n_conversations = (uint32_t)n,
                .dim = plan->model->config.dim,
                .top = XL_GATHER_TOP,
                .n_layers = plan->n_layers};
    memcpy(h.magic, magic, sizeof magic);
    memcpy(h.key, plan->key, sizeof h.key);
    for (size_t i = 0; i < n; i++) {
        h.n_ids += records[i].n_ids;
        h.n_positions += records[i].n_positions;
    }
    bool fine = put(f, &h, sizeof h) && put_conversations(f, plan, records, first_job, n);
    for (size_t i = 0; i < n && fine; i++)
        fine = put(f, records[i].ids, records[i].n_ids * sizeof(int32_t));
    for (size_t i = 0; i < n && fine; i++)
        fine = put(f, records[i].at, records[i].n_positions * sizeof(uint32_t));
    for (size_t i = 0; i < n && fine; i++)
        fine = put(f, records[i].top_ids, records[i].n_positions * XL_GATHER_TOP * sizeof(int32_t));
    for (size_t i = 0; i < n && fine; i++)
        fine = put(f, records[i].top_p, records[i].n_positions * XL_GATHER_TOP * sizeof(uint16_t));
    return fine && put_layers(f, plan, records, n, h.dim);
}

exitlm_status xl_gather_write(const xl_gather_plan *plan, size_t index,
                              const xl_gather_record *records, size_t first_job, size_t n,
                              exitlm_error *error) {
    char *name = shard_name(plan, index, ""), *part = shard_name(plan, index, ".part");
    FILE *f = name && part ? fopen(part, "wb") : NULL;
    bool fine = f && put_shard(f, plan, records, first_job, n);
    if (f) fine = fclose(f) == 0 && fine;
    if (fine) fine = rename(part, name) == 0;
    exitlm_status status =
        fine ? EXITLM_OK
             : xl_fail(error, EXITLM_IO,
                       XL_FILE_NAME ": the gathered data cannot be written: is the disk full?",
                       plan->folder);
    if (!fine && part) remove(part);
    free(name);
    free(part);
    return status;
}

/* ---- Reading ---- */
static bool get(FILE *f, void **bytes, size_t n, size_t size) {
    *bytes = malloc(n ? n * size : 1);
    return *bytes && fread(*bytes, size, n, f) == n;
}

exitlm_status xl_gather_open(const xl_gather_plan *plan, size_t index, xl_gather_shard *s,
                             exitlm_error *error) {
    header h;
    *s = (xl_gather_shard){0};
    char *name = shard_name(plan, index, "");
    FILE *f = name ? fopen(name, "rb") : NULL;
    bool fine = f && read_header(plan, f, &h);
    if (fine) {
        *s = (xl_gather_shard){.n_conversations = h.n_conversations,
                               .n_ids = h.n_ids,
                               .n_positions = h.n_positions,
                               .dim = h.dim,
                               .top = h.top,
                               .n_layers = h.n_layers};
        fine = get(f, (void **)&s->conversations, h.n_conversations, sizeof *s->conversations) &&
               get(f, (void **)&s->ids, h.n_ids, sizeof *s->ids) &&
               get(f, (void **)&s->at, h.n_positions, sizeof *s->at) &&
               get(f, (void **)&s->top_ids, (size_t)h.n_positions * h.top, sizeof *s->top_ids) &&
               get(f, (void **)&s->top_p, (size_t)h.n_positions * h.top, sizeof *s->top_p);
        s->x_offset = ftell(f);
    }
    if (f) fclose(f);
    exitlm_status status =
        fine ? EXITLM_OK
             : xl_fail(error, EXITLM_IO,
                       XL_FILE_NAME
                       ": not a whole shard of gathered data; delete it, and it is made again",
                       name ? name : plan->folder);
    free(name);
    return status;
}

exitlm_status xl_gather_layer(const xl_gather_plan *plan, size_t index, const xl_gather_shard *s,
                              uint32_t layer, uint16_t *x, exitlm_error *error) {
    const size_t items = (size_t)s->n_positions * s->dim;
    char *name = shard_name(plan, index, "");
    FILE *f = name ? fopen(name, "rb") : NULL;
    bool fine = f && fseek(f, s->x_offset + (long)(layer * items * sizeof *x), SEEK_SET) == 0 &&
                fread(x, sizeof *x, items, f) == items;
    if (f) fclose(f);
    exitlm_status status =
        fine ? EXITLM_OK
             : xl_fail(error, EXITLM_IO, XL_FILE_NAME ": hidden states cannot be read",
                       name ? name : plan->folder);
    free(name);
    return status;
}

void xl_gather_close(xl_gather_shard *s) {
    free(s->conversations);
    free(s->ids);
    free(s->at);
    free(s->top_ids);
    free(s->top_p);
    *s = (xl_gather_shard){0};
}
