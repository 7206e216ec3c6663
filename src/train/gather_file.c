/* Blocks of gathered data in parts: a header, then the arrays of xl_gather_block in their order, then
 * hidden states layer by layer. */
#include "gather_file.h"

#include <stdlib.h>
#include <string.h>

#include "files.h"

enum { F16_ONE = 0x3c00, F16_INFINITY = 0x7c00 };

typedef struct header {
    uint32_t n_conversations, n_ids, n_positions, dim, top, n_layers;
} header;

/* ---- Heads ---- */
enum { REPLY_TOKENS, CONTEXT_TOKENS, KV_TYPE, SEED, SEED_HIGH, N_LAYERS, LAYERS };

void xl_gather_head(const xl_gather_plan *plan, xl_shard shard, xl_part_head *head) {
    exitlm_model_info info;
    exitlm_model_describe(plan->model, &info);
    *head = (xl_part_head){.kind = XL_PART_GATHER, .total = plan->n_jobs, .shard = shard};
    memcpy(head->key, plan->key, sizeof head->key);
    memcpy(head->fingerprint, info.fingerprint, sizeof info.fingerprint);
    uint32_t *n = head->numbers;
    n[REPLY_TOKENS] = plan->reply_tokens;
    n[CONTEXT_TOKENS] = plan->context_tokens;
    n[KV_TYPE] = plan->kv_type;
    n[SEED] = (uint32_t)plan->seed;
    n[SEED_HIGH] = (uint32_t)(plan->seed >> 32);
    n[N_LAYERS] = plan->n_layers;
    memcpy(n + LAYERS, plan->layers, plan->n_layers * sizeof *n);
}

bool xl_gather_plan_of(const xl_part_head *head, xl_gather_plan *plan) {
    const uint32_t *n = head->numbers;
    memcpy(plan->key, head->key, sizeof plan->key);
    plan->n_jobs = (size_t)head->total;
    plan->reply_tokens = n[REPLY_TOKENS];
    plan->context_tokens = n[CONTEXT_TOKENS];
    plan->kv_type = (exitlm_kv_type)n[KV_TYPE];
    plan->seed = n[SEED] | (uint64_t)n[SEED_HIGH] << 32;
    plan->n_layers = n[N_LAYERS];
    memcpy(plan->layers, n + LAYERS, sizeof plan->layers);
    bool fine = plan->n_layers >= 1 && plan->n_layers <= XL_GATHER_MAX_LAYERS &&
                plan->context_tokens > 0 && plan->kv_type < EXITLM_KV_TYPE_COUNT;
    for (uint32_t l = 0; fine && l < plan->n_layers; l++)
        fine = plan->layers[l] > (l ? plan->layers[l - 1] : 0) &&
               plan->layers[l] <= plan->model->config.n_layers;
    return fine;
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

/* ---- Writing ---- */
static void put_conversations(xl_part_writer *part, const xl_gather_plan *plan,
                              const xl_gather_record *records, size_t first_job, size_t n) {
    xl_gather_conversation c = {0};
    for (size_t i = 0; i < n; i++) {
        const xl_gather_job *job = &plan->jobs[first_job + i];
        c.job = (uint32_t)(first_job + i);
        c.n_ids = records[i].n_ids;
        c.n_positions = records[i].n_positions;
        c.validation = job->validation;
        c.kind = job->kind;
        c.n_turns = records[i].n_turns;
        c.temperature = job->temperature;
        xl_part_put(part, &c, sizeof c);
        c.first_id += c.n_ids;
        c.first_position += c.n_positions;
    }
}

static void put_layers(xl_part_writer *part, const xl_gather_plan *plan,
                       const xl_gather_record *records, size_t n, size_t dim) {
    for (uint32_t l = 0; l < plan->n_layers; l++)
        for (size_t i = 0; i < n; i++)
            for (size_t p = 0; p < records[i].n_positions; p++)
                xl_part_put(part, records[i].x + (p * plan->n_layers + l) * dim,
                            dim * sizeof(uint16_t));
}

exitlm_status xl_gather_write(const xl_gather_plan *plan, xl_part_writer *part,
                              const xl_gather_record *records, size_t first_job, size_t n,
                              exitlm_error *error) {
    const xl_gather_record *r = records;
    header h = {.n_conversations = (uint32_t)n,
                .dim = plan->model->config.dim,
                .top = XL_GATHER_TOP,
                .n_layers = plan->n_layers};
    for (size_t i = 0; i < n; i++) {
        h.n_ids += r[i].n_ids;
        h.n_positions += r[i].n_positions;
    }
    xl_part_block_open(part);
    xl_part_put(part, &h, sizeof h);
    put_conversations(part, plan, records, first_job, n);
    for (size_t i = 0; i < n; i++) xl_part_put(part, r[i].ids, r[i].n_ids * sizeof(int32_t));
    for (size_t i = 0; i < n; i++) xl_part_put(part, r[i].at, r[i].n_positions * sizeof(uint32_t));
    for (size_t i = 0; i < n; i++)
        xl_part_put(part, r[i].top_ids, r[i].n_positions * XL_GATHER_TOP * sizeof(int32_t));
    for (size_t i = 0; i < n; i++)
        xl_part_put(part, r[i].top_p, r[i].n_positions * XL_GATHER_TOP * sizeof(uint16_t));
    put_layers(part, plan, records, n, h.dim);
    return xl_part_block_end(part, first_job, n, error);
}

/* ---- Reading ---- */
/* Fresh memory with n items of the file. */
static exitlm_status get(FILE *f, const char *path, void **bytes, size_t n, size_t size,
                         exitlm_error *error) {
    *bytes = malloc(n ? n * size : 1);
    if (!*bytes) return xl_no_memory(error, "the gathered data");
    return xl_read_whole(f, path, *bytes, n * size, error);
}

/* Bytes before the hidden states. */
static uint64_t bytes_before(const header *h) {
    return sizeof *h + (uint64_t)h->n_conversations * sizeof(xl_gather_conversation) +
           (uint64_t)h->n_ids * sizeof(int32_t) +
           (uint64_t)h->n_positions * (sizeof(uint32_t) + h->top * (sizeof(int32_t) + 2));
}

static bool is_sound(const header *h, const xl_gather_plan *plan, const xl_part_block *b) {
    return h->n_conversations == b->n && h->dim == plan->model->config.dim &&
           h->top == XL_GATHER_TOP && h->n_layers == plan->n_layers &&
           b->n_bytes ==
               bytes_before(h) + (uint64_t)h->n_layers * h->n_positions * h->dim * sizeof(uint16_t);
}

/* Do the conversations have the block's ids and positions one after the other, and are these what
 * they should be? */
static bool fits(const xl_gather_block *s, uint32_t vocab) {
    uint64_t id = 0, position = 0;
    for (uint32_t i = 0; i < s->n_conversations; i++) {
        const xl_gather_conversation *c = &s->conversations[i];
        if (c->first_id != id || c->first_position != position || c->n_ids > s->n_ids - id ||
            c->n_positions > s->n_positions - position || c->kind >= XL_GATHER_KINDS)
            return false;
        for (uint32_t p = 0; p < c->n_positions; p++)
            if (s->at[position + p] >= c->n_ids ||
                (p && s->at[position + p] <= s->at[position + p - 1]))
                return false;
        id += c->n_ids;
        position += c->n_positions;
    }
    for (size_t i = 0; i < s->n_ids; i++)
        if ((uint32_t)s->ids[i] >= vocab) return false;
    for (size_t i = 0; i < (size_t)s->n_positions * s->top; i++)
        if ((uint32_t)s->top_ids[i] >= vocab || s->top_p[i] > F16_ONE) return false;
    return id == s->n_ids && position == s->n_positions;
}

static exitlm_status read_arrays(FILE *f, const char *path, xl_gather_block *s,
                                 exitlm_error *error) {
    const size_t n_top = (size_t)s->n_positions * s->top;
    const struct {
        void **to;
        size_t n, size;
    } arrays[] = {{(void **)&s->conversations, s->n_conversations, sizeof *s->conversations},
                  {(void **)&s->ids, s->n_ids, sizeof *s->ids},
                  {(void **)&s->at, s->n_positions, sizeof *s->at},
                  {(void **)&s->top_ids, n_top, sizeof *s->top_ids},
                  {(void **)&s->top_p, n_top, sizeof *s->top_p}};
    exitlm_status status = EXITLM_OK;
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays && status == EXITLM_OK; i++)
        status = get(f, path, arrays[i].to, arrays[i].n, arrays[i].size, error);
    return status;
}

exitlm_status xl_gather_open(const xl_gather_plan *plan, const xl_parts *parts, size_t index,
                             xl_gather_block *s, exitlm_error *error) {
    header h;
    const xl_part_block *b = &parts->blocks[index];
    const char *path = parts->paths[b->part];
    *s = (xl_gather_block){0};
    FILE *f = xl_parts_block(parts, index, 0);
    exitlm_status status = xl_read_whole(f, path, &h, sizeof h, error);
    if (status == EXITLM_OK && !is_sound(&h, plan, b)) status = xl_part_unreadable(path, error);
    if (status == EXITLM_OK) {
        *s = (xl_gather_block){.n_conversations = h.n_conversations,
                               .n_ids = h.n_ids,
                               .n_positions = h.n_positions,
                               .dim = h.dim,
                               .top = h.top,
                               .n_layers = h.n_layers,
                               .x_offset = bytes_before(&h)};
        status = read_arrays(f, path, s, error);
    }
    if (status == EXITLM_OK && !fits(s, plan->model->config.vocab))
        status = xl_part_unreadable(path, error);
    if (f) fclose(f);
    return status;
}

exitlm_status xl_gather_layer(const xl_parts *parts, size_t index, const xl_gather_block *s,
                              uint32_t layer, uint16_t *x, exitlm_error *error) {
    const char *path = parts->paths[parts->blocks[index].part];
    const size_t items = (size_t)s->n_positions * s->dim;
    FILE *f = xl_parts_block(parts, index, s->x_offset + (uint64_t)layer * items * sizeof *x);
    exitlm_status status = xl_read_whole(f, path, x, items * sizeof *x, error);
    for (size_t i = 0; i < items && status == EXITLM_OK; i++)
        if ((x[i] & F16_INFINITY) == F16_INFINITY) status = xl_part_unreadable(path, error);
    if (f) fclose(f);
    return status;
}

void xl_gather_close(xl_gather_block *s) {
    free(s->conversations);
    free(s->ids);
    free(s->at);
    free(s->top_ids);
    free(s->top_p);
    *s = (xl_gather_block){0};
}
