/* From gathered blocks to arrays for the trainer. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "model/model.h"
#include "run/exits.h"
#include "training.h"

/* ---- The shortlist ---- */
typedef struct ranked {
    float mass;
    int32_t id;
} ranked;

static int compare_ranked(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->mass != y->mass) return x->mass < y->mass ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Does the conversation make the shortlist while it is learnt with? */
static bool lists(const xl_gather_conversation *c) { return c->job % 2 == 0; }

/* Expected counts: the probabilities that the model gives, summed; smoother than counting its
 * choices. */
static exitlm_status count_mass(xl_training *run, ranked *list, exitlm_error *error) {
    exitlm_status status = EXITLM_OK;
    run->n_conversations = 0;
    memset(run->n_of_kind, 0, sizeof run->n_of_kind);
    for (size_t i = 0; i < run->gathered.n_blocks && status == EXITLM_OK; i++) {
        xl_gather_block s = {0};
        status = xl_gather_open(&run->plan, &run->gathered, i, &s, error);
        for (uint32_t c = 0; status == EXITLM_OK && c < s.n_conversations; c++) {
            run->n_conversations++;
            run->n_of_kind[s.conversations[c].kind]++;
            if (s.conversations[c].validation || (run->halved && !lists(&s.conversations[c])))
                continue;
            const size_t from = (size_t)s.conversations[c].first_position * s.top,
                         n = (size_t)s.conversations[c].n_positions * s.top;
            for (size_t k = from; k < from + n; k++)
                list[s.top_ids[k]].mass += xl_f16_to_f32(s.top_p[k]);
        }
        xl_gather_close(&s);
    }
    return status;
}

exitlm_status xl_training_shortlist(xl_training *run, exitlm_error *error) {
    const uint32_t vocab = run->info.vocab;
    const xl_training_options *o = run->options;
    uint32_t n = o->rows > o->vocabulary_rows ? o->rows : o->vocabulary_rows;
    if (n < o->further_rows) n = o->further_rows;
    if (n > vocab) n = vocab;
    ranked *list = calloc(vocab, sizeof *list);
    free(run->shortlist);
    run->shortlist = malloc(n * sizeof *run->shortlist);
    exitlm_status status =
        list && run->shortlist ? EXITLM_OK : xl_no_memory(error, "the shortlist");
    for (uint32_t i = 0; status == EXITLM_OK && i < vocab; i++) list[i].id = (int32_t)i;
    if (status == EXITLM_OK) status = count_mass(run, list, error);
    if (status == EXITLM_OK) {
        qsort(list, vocab, sizeof *list, compare_ranked);
        for (uint32_t i = 0; i < n; i++) run->shortlist[i] = list[i].id;
        run->base.shortlist = run->shortlist;
        run->base.n_shortlist = n;
    }
    free(list);
    return status;
}

/* ---- Parts ---- */
static bool wanted(const xl_training *run, const xl_gather_conversation *c, bool validation) {
    return (c->validation != 0) == validation && c->n_positions > 0 &&
           !(run->halved && !validation && lists(c));
}

static exitlm_status count_positions(const xl_training *run, bool validation, size_t most,
                                     size_t *n, exitlm_error *error) {
    exitlm_status status = EXITLM_OK;
    *n = 0;
    for (size_t i = 0; i < run->gathered.n_blocks && status == EXITLM_OK && *n < most; i++) {
        xl_gather_block s = {0};
        status = xl_gather_open(&run->plan, &run->gathered, i, &s, error);
        for (uint32_t c = 0; status == EXITLM_OK && c < s.n_conversations && *n < most; c++)
            if (wanted(run, &s.conversations[c], validation)) *n += s.conversations[c].n_positions;
        xl_gather_close(&s);
    }
    return status;
}

typedef struct filling {
    const xl_training *run;
    xl_train_part *part;
    size_t n, capacity; /* positions; those that there are room for */
    size_t n_extra, extra_capacity;
    uint32_t *place; /* [vocab] place in the shortlist + 1, or 0 */
    uint32_t *seen;  /* [vocab] last conversation that had it outside the shortlist */
    uint32_t rows, conversation;
} filling;

static bool add_extra(filling *f, int32_t id) {
    if (f->n_extra == f->extra_capacity) {
        size_t more = f->extra_capacity ? 2 * f->extra_capacity : 65536;
        int32_t *ids = realloc(f->part->extra_ids, more * sizeof *ids);
        if (!ids) return false;
        f->part->extra_ids = ids;
        f->extra_capacity = more;
    }
    f->part->extra_ids[f->n_extra++] = id;
    return true;
}

/* Context tokens outside the shortlist, in the order of their first position: each position sees
 * a prefix of them. */
static bool fill_conversation(filling *f, const xl_gather_block *s, const xl_gather_conversation *c,
                              const uint16_t *x) {
    xl_train_part *p = f->part;
    const size_t start = f->n_extra, dim = s->dim;
    uint32_t read = 0;
    f->conversation++;
    for (uint32_t i = 0; i < c->n_positions; i++, f->n++) {
        const size_t from = c->first_position + i;
        for (; read <= s->at[from] && read < c->n_ids; read++) {
            int32_t id = s->ids[c->first_id + read];
            bool listed = f->place[id] && f->place[id] <= f->rows;
            if (listed || f->seen[id] == f->conversation) continue;
            f->seen[id] = f->conversation;
            if (!add_extra(f, id)) return false;
        }
        memcpy(p->x + f->n * dim, x + from * dim, dim * sizeof *x);
        memcpy(p->top_ids + f->n * s->top, s->top_ids + from * s->top, s->top * sizeof(int32_t));
        memcpy(p->top_p + f->n * s->top, s->top_p + from * s->top, s->top * sizeof(uint16_t));
        p->extra_start[f->n] = (uint32_t)start;
        p->extra_count[f->n] =
            (uint16_t)xl_min_u32((uint32_t)(f->n_extra - start), XL_MAX_CONTEXT_ROWS);
        p->weight[f->n] = 1.0f / (float)c->n_positions;
        p->source[f->n] = (uint8_t)c->kind;
    }
    return true;
}

static exitlm_status fill_block(filling *f, size_t index, uint32_t layer, bool validation,
                                exitlm_error *error) {
    xl_gather_block s = {0};
    const xl_parts *parts = &f->run->gathered;
    exitlm_status status = xl_gather_open(&f->run->plan, parts, index, &s, error);
    uint16_t *x =
        status == EXITLM_OK ? malloc(((size_t)s.n_positions * s.dim + 1) * sizeof *x) : NULL;
    if (status == EXITLM_OK && !x) status = xl_no_memory(error, "hidden states");
    if (status == EXITLM_OK) status = xl_gather_layer(parts, index, &s, layer, x, error);
    for (uint32_t c = 0; status == EXITLM_OK && c < s.n_conversations && f->n < f->capacity; c++)
        if (wanted(f->run, &s.conversations[c], validation) &&
            !fill_conversation(f, &s, &s.conversations[c], x))
            status = xl_no_memory(error, "the training set");
    free(x);
    xl_gather_close(&s);
    return status;
}

static bool allocate(xl_train_part *p, size_t n, size_t dim, size_t top) {
    p->x = malloc((n * dim + 1) * sizeof *p->x);
    p->top_ids = malloc((n * top + 1) * sizeof *p->top_ids);
    p->top_p = malloc((n * top + 1) * sizeof *p->top_p);
    p->extra_start = malloc((n + 1) * sizeof *p->extra_start);
    p->extra_count = malloc((n + 1) * sizeof *p->extra_count);
    p->extra_ids = malloc(sizeof *p->extra_ids);
    p->weight = malloc((n + 1) * sizeof *p->weight);
    p->source = malloc(n + 1);
    return p->x && p->top_ids && p->top_p && p->extra_start && p->extra_count && p->extra_ids &&
           p->weight && p->source;
}

exitlm_status xl_train_part_load(const xl_training *run, uint32_t layer, uint32_t rows,
                                 bool validation, size_t max_positions, xl_train_part *part,
                                 exitlm_error *error) {
    const uint32_t vocab = run->info.vocab, dim = run->info.dim;
    filling f = {.run = run, .part = part, .rows = rows};
    *part = (xl_train_part){0};
    exitlm_status status = count_positions(
        run, validation, max_positions ? max_positions : SIZE_MAX, &f.capacity, error);
    f.place = calloc(vocab, sizeof *f.place);
    f.seen = calloc(vocab, sizeof *f.seen);
    if (status == EXITLM_OK &&
        (!f.place || !f.seen || !allocate(part, f.capacity, dim, XL_GATHER_TOP)))
        status = xl_no_memory(error, "the training set");
    for (uint32_t i = 0; status == EXITLM_OK && i < run->base.n_shortlist; i++)
        f.place[run->shortlist[i]] = i + 1;
    for (size_t i = 0; i < run->gathered.n_blocks && status == EXITLM_OK && f.n < f.capacity; i++)
        status = fill_block(&f, i, layer, validation, error);
    free(f.place);
    free(f.seen);
    part->set = (xl_train_set){f.n,
                               dim,
                               XL_GATHER_TOP,
                               part->x,
                               part->top_ids,
                               part->top_p,
                               part->extra_start,
                               part->extra_count,
                               part->extra_ids};
    if (status != EXITLM_OK) xl_train_part_free(part);
    return status;
}

void xl_train_part_free(xl_train_part *p) {
    free(p->x);
    free(p->top_ids);
    free(p->top_p);
    free(p->extra_start);
    free(p->extra_count);
    free(p->extra_ids);
    free(p->weight);
    free(p->source);
    *p = (xl_train_part){0};
}
