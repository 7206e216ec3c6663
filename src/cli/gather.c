/* The model writes conversations, and what heads learn from is caught on the way. See gather.h. */
#include "gather.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "gather_file.h"
#include "platform.h"
#include "train/rollout.h"
#include "script.h"
#include "signals.h"
#include "toplist.h"

#define EXAMPLES 2     /* user turns of the data that stand before an invented one */

/* ---- One conversation being made ---- */
typedef struct making {
    const gather_job *job;
    uint32_t job_index;
    script script;
    gather_record *record;
    bool inventing;   /* the user's turn is being written */
    uint64_t random;
    int32_t *prompt;  /* of an invented turn */
} making;

typedef struct progress {
    atomic_size_t jobs, positions; /* done in this run */
    size_t total, before;          /* jobs; of these done earlier */
    double start_ms, last_ms;
    bool quiet;
    atomic_bool stop;
    atomic_size_t next_shard;
    atomic_int status;
} progress;

typedef struct worker {
    const gather_plan *plan;
    progress *progress;
    bool leader;       /* prints */
    xl_talk *talks;
    making *making;    /* [batch] */
    gather_record records[GATHER_SHARD_JOBS];
    size_t first_job, next_job, end_job;
} worker;

static making *making_of(worker *w, const xl_talk *talk) { return &w->making[talk - w->talks]; }

/* ---- Recording ---- */
static exitlm_status record(making *m, const xl_talk *talk, const toplist *top, exitlm_error *error) {
    const xl_watch *watch = &talk->watch;
    if (!gather_record_grow(m->record, watch->n * watch->dim)) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for the gathered data");
    gather_record *r = m->record;
    const size_t i = r->n_positions++;
    r->at[i] = talk->session->stair.n - 1;
    for (int k = 0; k < GATHER_TOP; k++) {
        r->top_ids[i * GATHER_TOP + k] = top->id[k];
        r->top_p[i * GATHER_TOP + k] = xl_f32_to_f16(top->p[k]);
    }
    const float eps = talk->session->run.model->config.norm_eps;
    for (uint32_t l = 0; l < watch->n; l++) {
        const float *h = watch->hidden + (size_t)l * watch->dim;
        uint16_t *x = r->x + (i * watch->n + l) * watch->dim;
        double squares = 0;
        for (uint32_t d = 0; d < watch->dim; d++) squares += (double)h[d] * h[d];
        float scale = (float)(1 / sqrt(squares / watch->dim + eps));
        for (uint32_t d = 0; d < watch->dim; d++) x[d] = xl_f32_to_f16(h[d] * scale);
    }
    return EXITLM_OK;
}

/* ---- Callbacks of the rollout ---- */
static exitlm_status tokenize(making *m, const char *text, const int32_t **ids, size_t *n, exitlm_error *error) {
    const exitlm_model *model = m->script.dialog.model;
    const unsigned flags = EXITLM_ADD_SPECIAL | EXITLM_PARSE_SPECIAL;
    exitlm_status status = exitlm_tokenize(model, text, strlen(text), flags, NULL, 0, n, error);
    free(m->prompt);
    m->prompt = status == EXITLM_OK ? malloc((*n + 1) * sizeof *m->prompt) : NULL;
    *ids = m->prompt;
    if (status == EXITLM_OK && !m->prompt) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a text");
    return status == EXITLM_OK ? exitlm_tokenize(model, text, strlen(text), flags, m->prompt, *n, n, error) : status;
}

/* A prompt after which the model goes on with a user's message: its template's opening, in two of three cases after a few of the data's. */
static exitlm_status invent_prompt(worker *w, making *m, const int32_t **ids, size_t *n, exitlm_error *error) {
    const gather_plan *plan = w->plan;
    const char *shown[EXAMPLES] = {0};
    size_t bytes = strlen(plan->frame.open) + 1, n_shown = plan->data->n && toplist_random(&m->random) % 3 ? EXAMPLES : 0;
    for (size_t i = 0; i < n_shown; i++) {
        const dataset_item *item = &plan->data->items[toplist_random(&m->random) % plan->data->n];
        bool short_turn = item->kind == DATASET_TURNS && strlen(item->texts[0]) < 400;
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

static exitlm_status begin(void *user, xl_talk *talk, const int32_t **ids, size_t *n, exitlm_error *error) {
    worker *w = user;
    *n = 0;
    if (w->next_job == w->end_job) return EXITLM_OK;
    making *m = making_of(w, talk);
    m->job_index = (uint32_t)w->next_job++;
    m->job = &w->plan->jobs[m->job_index];
    m->record = &w->records[m->job_index - w->first_job];
    m->inventing = m->job->kind == GATHER_INVENT;
    m->random = m->job->seed;
    if (m->inventing) return invent_prompt(w, m, ids, n, error);
    return script_begin(&m->script, &w->plan->data->items[m->job->item], ids, n, error);
}

static exitlm_status choose(void *user, xl_talk *talk, int32_t *id, exitlm_error *error) {
    worker *w = user;
    making *m = making_of(w, talk);
    exitlm_session *s = talk->session;
    const bool forced = !m->inventing && m->job->kind == GATHER_FORCED;
    if (talk->index >= (m->inventing ? w->plan->user_tokens : forced ? UINT32_MAX : w->plan->reply_tokens)) return EXITLM_OK;
    toplist top;
    toplist_find(s, &top);
    if (m->inventing) {
        *id = toplist_draw(&top, 1, &m->random);
    } else {
        exitlm_status status = record(m, talk, &top, error);
        if (status != EXITLM_OK) return status;
        if (!forced || !script_token(&m->script, talk->index, id)) *id = toplist_draw(&top, m->job->temperature, &m->random);
    }
    if (*id >= 0 && !forced && xl_token_is_eog(s->run.model->tokenizer, *id)) *id = -1;
    atomic_fetch_add_explicit(&w->progress->positions, !m->inventing, memory_order_relaxed);
    return EXITLM_OK;
}

/* The invented message becomes the first turn of a fresh conversation. */
static exitlm_status adopt(making *m, xl_talk *talk, const int32_t **ids, size_t *n, exitlm_error *error) {
    char *text = NULL;
    size_t n_bytes = 0, capacity = 0;
    exitlm_session *s = talk->session;
    xl_dialog *dialog = &m->script.dialog;
    m->inventing = false;
    xl_dialog_clear(dialog);
    exitlm_status status = xl_dialog_text(dialog, s->stair.ids + talk->reply_pos, s->stair.n - talk->reply_pos, &text, &n_bytes, &capacity, error);
    bool empty = status == EXITLM_OK && strspn(text, " \t\r\n") >= n_bytes;
    if (status == EXITLM_OK && !empty) status = xl_dialog_add(dialog, "user", text, n_bytes, error);
    if (status == EXITLM_OK && !empty) status = xl_dialog_prompt(dialog, ids, n, error);
    if (text) xl_free(&dialog->allocator, text, capacity, 1);
    exitlm_session_reset(s);
    return status;
}

static exitlm_status keep_ids(making *m, const xl_talk *talk, exitlm_error *error) {
    const exitlm_session *s = talk->session;
    int32_t *ids = realloc(m->record->ids, (s->stair.n ? s->stair.n : 1) * sizeof *ids);
    if (!ids) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for the gathered data");
    memcpy(ids, s->stair.ids, s->stair.n * sizeof *ids);
    m->record->ids = ids;
    m->record->n_ids = s->stair.n;
    m->record->n_turns = talk->turn;
    return EXITLM_OK;
}

static exitlm_status more(void *user, xl_talk *talk, const int32_t **ids, size_t *n, exitlm_error *error) {
    worker *w = user;
    making *m = making_of(w, talk);
    const exitlm_session *s = talk->session;
    *n = 0;
    if (m->inventing) {
        exitlm_status adopted = adopt(m, talk, ids, n, error);
        if (*n == 0) atomic_fetch_add(&w->progress->jobs, 1);
        return adopted;
    }
    exitlm_status status = keep_ids(m, talk, error);
    if (status == EXITLM_OK && m->job->kind != GATHER_INVENT)
        status = script_next(&m->script, s->stair.ids + talk->reply_pos, s->stair.n - talk->reply_pos, ids, n, error);
    if (*n == 0) atomic_fetch_add(&w->progress->jobs, 1);
    return status;
}

/* ---- Progress ---- */
static void show(progress *p) {
    double now = cli_clock_ms(NULL), seconds = (now - p->start_ms) / 1000;
    size_t jobs = atomic_load(&p->jobs), positions = atomic_load(&p->positions), left = p->total - p->before - jobs;
    fprintf(stderr, "\rgathering  %5.1f %%  %zu conversations, %zu tokens, %.0f tokens/s, %.0f s left   ",
            100.0 * (double)(p->before + jobs) / (double)(p->total ? p->total : 1), p->before + jobs, positions,
            (double)positions / (seconds > 0 ? seconds : 1), jobs ? seconds * (double)left / (double)jobs : 0);
    fflush(stderr);
    p->last_ms = now;
}

static bool step(void *user) {
    worker *w = user;
    progress *p = w->progress;
    if (w->leader && !p->quiet && cli_clock_ms(NULL) - p->last_ms > 1000) show(p);
    if (cli_interrupted()) atomic_store(&p->stop, true);
    return !atomic_load(&p->stop);
}

/* ---- Shards ---- */
static int make_shard(worker *w, size_t index) {
    const gather_plan *plan = w->plan;
    const xl_rollout rollout = {w, begin, choose, more, step};
    exitlm_error error;
    w->first_job = w->next_job = index * GATHER_SHARD_JOBS;
    w->end_job = w->first_job + GATHER_SHARD_JOBS < plan->n_jobs ? w->first_job + GATHER_SHARD_JOBS : plan->n_jobs;
    int status = CLI_OK;
    if (xl_rollout_run(&rollout, w->talks, plan->batch, &error) != EXITLM_OK) status = cli_report(&error, NULL);
    if (status == CLI_OK && !atomic_load(&w->progress->stop))
        status = gather_write(plan, index, w->records, w->first_job, w->end_job - w->first_job);
    for (size_t i = 0; i < GATHER_SHARD_JOBS; i++) gather_record_free(&w->records[i]);
    return status;
}

static int work(worker *w) {
    progress *p = w->progress;
    int status = CLI_OK;
    while (status == CLI_OK && !atomic_load(&p->stop)) {
        size_t index = atomic_fetch_add(&p->next_shard, 1);
        if (index >= gather_shards(w->plan)) break;
        if (!gather_exists(w->plan, index)) status = make_shard(w, index);
    }
    return status;
}

typedef struct gather_all {
    const gather_plan *plan;
    progress *progress;
} gather_all;

static int run_worker(const gather_all *all, bool leader) {
    const gather_plan *plan = all->plan;
    exitlm_session_options options = {.context_tokens = plan->context_tokens, .kv_type = plan->kv_type, .kernel = plan->kernel};
    exitlm_error error;
    worker *w = calloc(1, sizeof *w);
    making *m = calloc(plan->batch, sizeof *m);
    int status = w && m ? CLI_OK : cli_no_memory("conversations");
    if (status == CLI_OK) {
        *w = (worker){.plan = plan, .progress = all->progress, .leader = leader, .making = m};
        for (uint32_t i = 0; i < plan->batch; i++) script_init(&m[i].script, plan->model);
        if (xl_talks_create(&w->talks, plan->batch, plan->model, &options, plan->layers, plan->n_layers, &error) != EXITLM_OK)
            status = cli_report(&error, NULL);
    }
    if (status == CLI_OK) status = work(w);
    for (uint32_t i = 0; m && w && i < plan->batch; i++) {
        script_free(&m[i].script);
        free(m[i].prompt);
    }
    if (w && w->talks) xl_talks_free(w->talks, plan->batch);
    free(m);
    free(w);
    return status;
}

static void run_part(void *arg, uint32_t part, uint32_t parts) {
    const gather_all *all = arg;
    (void)parts;
    int status = run_worker(all, part == 0);
    if (status == CLI_OK) return;
    atomic_store(&all->progress->status, status);
    atomic_store(&all->progress->stop, true);
}

int gather_run(const gather_plan *plan, xl_pool *pool, bool quiet, bool *complete) {
    progress p = {.total = plan->n_jobs, .quiet = quiet, .start_ms = cli_clock_ms(NULL)};
    for (size_t i = 0; i < gather_shards(plan); i++) {
        size_t first = i * GATHER_SHARD_JOBS, count = plan->n_jobs - first < GATHER_SHARD_JOBS ? plan->n_jobs - first : GATHER_SHARD_JOBS;
        if (gather_exists(plan, i)) p.before += count;
    }
    gather_all all = {plan, &p};
    if (p.before < plan->n_jobs) xl_pool_run(pool, run_part, &all);
    if (!quiet && p.before < plan->n_jobs) {
        show(&p);
        fputc('\n', stderr);
    }
    *complete = !atomic_load(&p.stop);
    return atomic_load(&p.status);
}
