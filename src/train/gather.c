/* The model writes conversations, and what heads learn from is caught on the way. See gather.h. */
#include "gather.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "gather_file.h"
#include "rollout.h"
#include "script.h"
#include "toplist.h"

#define EXAMPLES 2 /* user turns of the data that stand before an invented one */

/* ---- One conversation being made ---- */
typedef struct making {
    const xl_gather_job *job;
    uint32_t job_index;
    xl_script script;
    xl_gather_record *record;
    bool inventing;   /* the user's turn, or a text's opening, is being written */
    uint32_t opening; /* tokens of the text's opening; 0: a conversation */
    uint64_t random;
    int32_t *prompt; /* of an invented turn */
} making;

/* What the threads share. */
typedef struct common {
    const xl_gather_plan *plan;
    const xl_observer *observer;
    atomic_size_t jobs, positions; /* done in this run */
    size_t first_job, end_job;     /* of the shard */
    size_t before;                 /* jobs done earlier */
    atomic_bool stop;
    atomic_size_t next_block;
    xl_part_writer part;
    xl_failure failure;
} common;

typedef struct worker {
    const xl_gather_plan *plan;
    common *common;
    bool leader; /* says how far all are */
    xl_talk *talks;
    making *making; /* [batch] */
    xl_gather_record records[XL_GATHER_BLOCK_JOBS];
    size_t first_job, next_job, end_job;
} worker;

static making *making_of(worker *w, const xl_talk *talk) { return &w->making[talk - w->talks]; }

/* ---- Recording ---- */
static exitlm_status record(making *m, const xl_talk *talk, const xl_toplist *top,
                            exitlm_error *error) {
    const xl_watch *watch = &talk->watch;
    if (!xl_gather_record_grow(m->record, watch->n * watch->dim))
        return xl_no_memory(error, "the gathered data");
    xl_gather_record *r = m->record;
    const size_t i = r->n_positions++;
    r->at[i] = talk->session->stair.n - 1;
    for (int k = 0; k < XL_GATHER_TOP; k++) {
        r->top_ids[i * XL_GATHER_TOP + k] = top->id[k];
        r->top_p[i * XL_GATHER_TOP + k] = xl_f32_to_f16(top->p[k]);
    }
    const exitlm_model *model = talk->session->run.model;
    for (uint32_t l = 0; l < watch->n; l++) {
        const float *h = watch->hidden + (size_t)l * watch->dim;
        uint16_t *x = r->x + (i * watch->n + l) * watch->dim;
        double sum = 0, squares = 0;
        for (uint32_t d = 0; d < watch->dim && model->output_norm.bias; d++) sum += h[d];
        const float mean = (float)(sum / watch->dim);
        for (uint32_t d = 0; d < watch->dim; d++) squares += (double)(h[d] - mean) * (h[d] - mean);
        const float scale = (float)(1 / sqrt(squares / watch->dim + model->config.norm_eps));
        for (uint32_t d = 0; d < watch->dim; d++) x[d] = xl_f32_to_f16((h[d] - mean) * scale);
    }
    return EXITLM_OK;
}

/* ---- Callbacks of the rollout ---- */
static exitlm_status tokenize(making *m, const char *text, const int32_t **ids, size_t *n,
                              exitlm_error *error) {
    free(m->prompt);
    exitlm_status status =
        xl_ids_of_text(m->script.dialog.model, text, strlen(text),
                       EXITLM_ADD_SPECIAL | EXITLM_PARSE_SPECIAL, &m->prompt, n, error);
    *ids = m->prompt;
    return status;
}

/* A prompt after which the model goes on with a user's message: its template's opening, in two
 * of three cases after a few of the data's. */
static exitlm_status invent_prompt(worker *w, making *m, const int32_t **ids, size_t *n,
                                   exitlm_error *error) {
    const xl_gather_plan *plan = w->plan;
    if (!plan->frame.open) { /* no chat: a text */
        free(m->prompt);
        m->opening = xl_opening_tokens(&m->random);
        exitlm_status status = xl_text_start(plan->model, &m->prompt, n, error);
        *ids = m->prompt;
        return status;
    }
    const char *shown[EXAMPLES] = {0};
    size_t bytes = strlen(plan->frame.open) + 1,
           n_shown = plan->data->n && xl_random(&m->random) % 3 ? EXAMPLES : 0;
    for (size_t i = 0; i < n_shown; i++) {
        const xl_dataset_item *item = &plan->data->items[xl_random(&m->random) % plan->data->n];
        bool short_turn = item->kind == XL_DATASET_TURNS && strlen(item->texts[0]) < 400;
        shown[i] = short_turn ? item->texts[0] : NULL;
        bytes += shown[i] ? strlen(shown[i]) + strlen(plan->frame.between) : 0;
    }
    char *text = calloc(bytes, 1);
    if (!text) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a prompt");
    strcpy(text, plan->frame.open);
    for (size_t i = 0; i < n_shown; i++)
        if (shown[i]) strcat(strcat(text, shown[i]), plan->frame.between);
    exitlm_status status = tokenize(m, text, ids, n, error);
    free(text);
    return status;
}

static exitlm_status begin(void *user, xl_talk *talk, const int32_t **ids, size_t *n,
                           exitlm_error *error) {
    worker *w = user;
    *n = 0;
    if (w->next_job == w->end_job) return EXITLM_OK;
    making *m = making_of(w, talk);
    m->job_index = (uint32_t)w->next_job++;
    m->job = &w->plan->jobs[m->job_index];
    m->record = &w->records[m->job_index - w->first_job];
    m->inventing = m->job->kind == XL_GATHER_INVENT;
    m->random = m->job->seed;
    m->opening = 0;
    if (m->inventing) return invent_prompt(w, m, ids, n, error);
    return xl_script_begin(&m->script, &w->plan->data->items[m->job->item], ids, n, error);
}

static exitlm_status choose(void *user, xl_talk *talk, int32_t *id, exitlm_error *error) {
    worker *w = user;
    making *m = making_of(w, talk);
    exitlm_session *s = talk->session;
    /* what follows a text's opening is learnt from, in the same breath */
    if (m->opening && talk->index == m->opening) m->inventing = false;
    const bool forced = !m->inventing && m->job->kind == XL_GATHER_FORCED;
    if (talk->index >= (m->inventing ? w->plan->user_tokens
                        : forced     ? UINT32_MAX
                                     : m->opening + w->plan->reply_tokens))
        return EXITLM_OK;
    xl_toplist top;
    xl_toplist_find(s, &top);
    if (m->inventing) {
        *id = xl_toplist_draw(&top, 1, &m->random);
    } else {
        exitlm_status status = record(m, talk, &top, error);
        if (status != EXITLM_OK) return status;
        if (!forced || !xl_script_token(&m->script, talk->index, id))
            *id = xl_toplist_draw(&top, m->job->temperature, &m->random);
    }
    if (*id >= 0 && !forced && xl_token_is_eog(s->run.model->tokenizer, *id)) *id = -1;
    atomic_fetch_add_explicit(&w->common->positions, !m->inventing, memory_order_relaxed);
    return EXITLM_OK;
}

/* The invented message becomes the first turn of a fresh conversation. */
static exitlm_status adopt(making *m, xl_talk *talk, const int32_t **ids, size_t *n,
                           exitlm_error *error) {
    char *text = NULL;
    size_t n_bytes = 0;
    exitlm_session *s = talk->session;
    xl_dialog *dialog = &m->script.dialog;
    m->inventing = false;
    xl_dialog_clear(dialog);
    exitlm_status status = xl_dialog_text(dialog, s->stair.ids + talk->reply_pos,
                                          s->stair.n - talk->reply_pos, &text, &n_bytes, error);
    bool empty = status == EXITLM_OK && strspn(text, " \t\r\n") >= n_bytes;
    if (status == EXITLM_OK && !empty) status = xl_dialog_add(dialog, "user", text, n_bytes, error);
    if (status == EXITLM_OK && !empty) status = xl_dialog_prompt(dialog, ids, n, error);
    free(text);
    exitlm_session_reset(s);
    return status;
}

static exitlm_status keep_ids(making *m, const xl_talk *talk, exitlm_error *error) {
    const exitlm_session *s = talk->session;
    int32_t *ids = realloc(m->record->ids, (s->stair.n ? s->stair.n : 1) * sizeof *ids);
    if (!ids) return xl_no_memory(error, "the gathered data");
    memcpy(ids, s->stair.ids, s->stair.n * sizeof *ids);
    m->record->ids = ids;
    m->record->n_ids = s->stair.n;
    m->record->n_turns = talk->turn;
    return EXITLM_OK;
}

static exitlm_status more(void *user, xl_talk *talk, const int32_t **ids, size_t *n,
                          exitlm_error *error) {
    worker *w = user;
    making *m = making_of(w, talk);
    const exitlm_session *s = talk->session;
    *n = 0;
    if (m->inventing) {
        exitlm_status adopted =
            m->opening ? EXITLM_OK /* over in its opening */ : adopt(m, talk, ids, n, error);
        if (*n == 0) atomic_fetch_add(&w->common->jobs, 1);
        return adopted;
    }
    exitlm_status status = keep_ids(m, talk, error);
    if (status == EXITLM_OK && m->job->kind != XL_GATHER_INVENT)
        status = xl_script_next(&m->script, s->stair.ids + talk->reply_pos,
                                s->stair.n - talk->reply_pos, ids, n, error);
    if (*n == 0) atomic_fetch_add(&w->common->jobs, 1);
    return status;
}

/* ---- Progress ---- */
static void show(common *all, bool ended) {
    xl_progress now = {.stage = XL_STAGE_GATHER,
                       .done = (double)(all->before + atomic_load(&all->jobs)),
                       .total = (double)(all->end_job - all->first_job),
                       .tokens = atomic_load(&all->positions),
                       .ended = ended};
    xl_show(all->observer, &now);
}

static bool step(void *user) {
    worker *w = user;
    if (w->leader) show(w->common, false);
    if (xl_stopped(w->common->observer)) atomic_store(&w->common->stop, true);
    return !atomic_load(&w->common->stop);
}

/* ---- Blocks ---- */
static size_t block_first(const common *all, size_t index) {
    const size_t first = all->first_job + index * XL_GATHER_BLOCK_JOBS;
    return first < all->end_job ? first : all->end_job;
}

static exitlm_status make_block(worker *w, size_t index, exitlm_error *error) {
    const xl_gather_plan *plan = w->plan;
    const xl_rollout rollout = {w, begin, choose, more, step};
    w->first_job = w->next_job = block_first(w->common, index);
    w->end_job = block_first(w->common, index + 1);
    exitlm_status status = xl_rollout_run(&rollout, w->talks, plan->batch, error);
    if (status == EXITLM_OK && !atomic_load(&w->common->stop))
        status = xl_gather_write(plan, &w->common->part, w->records, w->first_job,
                                 w->end_job - w->first_job, error);
    for (size_t i = 0; i < XL_GATHER_BLOCK_JOBS; i++) xl_gather_record_free(&w->records[i]);
    return status;
}

static bool is_made(const common *all, size_t index) {
    const size_t first = block_first(all, index);
    return xl_part_has(&all->part, first, block_first(all, index + 1) - first);
}

static exitlm_status work(worker *w, exitlm_error *error) {
    common *all = w->common;
    exitlm_status status = EXITLM_OK;
    while (status == EXITLM_OK && !atomic_load(&all->stop)) {
        size_t index = atomic_fetch_add(&all->next_block, 1);
        if (block_first(all, index) == all->end_job) break;
        if (!is_made(all, index)) status = make_block(w, index, error);
    }
    return status;
}

static exitlm_status run_worker(common *all, bool leader, exitlm_error *error) {
    const xl_gather_plan *plan = all->plan;
    exitlm_session_options options = {
        .context_tokens = plan->context_tokens, .kv_type = plan->kv_type, .kernel = plan->kernel};
    worker *w = calloc(1, sizeof *w);
    making *m = calloc(plan->batch, sizeof *m);
    if (!w || !m) {
        free(w);
        free(m);
        return xl_no_memory(error, "conversations");
    }
    *w = (worker){.plan = plan, .common = all, .leader = leader, .making = m};
    for (uint32_t i = 0; i < plan->batch; i++) xl_script_init(&m[i].script, plan->model);
    exitlm_status status = xl_talks_create(&w->talks, plan->batch, plan->model, &options,
                                           plan->layers, plan->n_layers, error);
    if (status == EXITLM_OK) status = work(w, error);
    for (uint32_t i = 0; i < plan->batch; i++) {
        xl_script_free(&m[i].script);
        free(m[i].prompt);
    }
    if (w->talks) xl_talks_free(w->talks, plan->batch);
    free(m);
    free(w);
    return status;
}

static void run_part(void *arg, uint32_t part, uint32_t parts) {
    common *all = arg;
    exitlm_error error;
    (void)parts;
    if (run_worker(all, part == 0, &error) == EXITLM_OK) return;
    xl_failure_take(&all->failure, &error);
    atomic_store(&all->stop, true);
}

static void gather_missing(common *all, xl_pool *pool) {
    for (size_t i = 0; block_first(all, i) < all->end_job; i++)
        if (is_made(all, i)) all->before += block_first(all, i + 1) - block_first(all, i);
    if (all->first_job + all->before == all->end_job) return;
    show(all, false);
    xl_pool_run(pool, run_part, all);
    show(all, true);
}

exitlm_status xl_gather_run(const xl_gather_plan *plan, xl_shard shard, const char *path,
                            xl_pool *pool, const xl_observer *observer, bool *complete,
                            exitlm_error *error) {
    common all = {.plan = plan,
                  .observer = observer,
                  .first_job = (size_t)xl_shard_first(shard, plan->n_jobs),
                  .end_job = (size_t)xl_shard_end(shard, plan->n_jobs)};
    xl_part_head head;
    xl_gather_head(plan, shard, &head);
    exitlm_status status = xl_part_begin(&all.part, path, &head, error);
    if (status == EXITLM_OK && all.part.file) gather_missing(&all, pool);
    if (status == EXITLM_OK) status = xl_failure_give(&all.failure, error);
    *complete = !atomic_load(&all.stop);
    if (status == EXITLM_OK && *complete) status = xl_part_finish(&all.part, error);
    xl_part_close(&all.part);
    return status;
}
