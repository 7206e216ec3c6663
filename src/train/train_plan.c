/* What the model is to say for training: which conversations, from what, with which seeds; and
 * where it is kept. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "files.h"
#include "measure.h"
#include "model/model.h"
#include "base/ndjson.h"
#include "base/sha256.h"
#include "training.h"

static uint64_t mix(uint64_t a, uint64_t b) {
    return xl_mix64(a * 0x9e3779b97f4a7c15u + b + 0x632be59bd9b4e019u);
}

/* ---- Jobs ---- */
static const float temperatures[] = {0.7f, 1.0f, 0.5f, 0.85f};

static void add_answers(xl_training *run, uint32_t item, xl_gather_job *jobs, size_t *n) {
    const xl_training_options *o = run->options;
    const bool answered = xl_dataset_answered(&run->data.items[item]),
               validation = xl_dataset_held_out(o->seed, item);
    /* One conversation in eight is kept for choosing layers and laying out thresholds: answered
     * greedily, as agreement is measured. */
    for (uint32_t r = 0; r < (validation || !answered ? 1 : o->answers); r++)
        jobs[(*n)++] = (xl_gather_job){.kind = answered ? XL_GATHER_ANSWER : XL_GATHER_FORCED,
                                       .validation = validation,
                                       .item = item,
                                       .seed = mix(o->seed + 1, (uint64_t)item << 16 | r),
                                       .temperature = r ? temperatures[(r - 1) % 4] : 0};
}

static void add_inventions(const xl_training_options *o, xl_gather_job *jobs, size_t *n) {
    for (uint32_t i = 0; i < o->self_chat; i++) {
        uint64_t seed = mix(o->seed + 2, i);
        bool validation = seed % 16 == 0;
        jobs[(*n)++] = (xl_gather_job){
            .kind = XL_GATHER_INVENT,
            .validation = validation,
            .seed = seed,
            .temperature = validation || seed / 16 % 5 < 3 ? 0 : temperatures[seed / 80 % 4]};
    }
}

/* Long and short conversations in turn keep the batches full; the order is part of the plan. */
static void shuffle(xl_gather_job *jobs, size_t n, uint64_t seed) {
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)(mix(seed, i) % i);
        xl_gather_job job = jobs[i - 1];
        jobs[i - 1] = jobs[j];
        jobs[j] = job;
    }
}

static exitlm_status make_jobs(xl_training *run, exitlm_error *error) {
    const xl_training_options *o = run->options;
    const size_t most = run->data.n * (o->answers + 1) + o->self_chat + 1;
    if (run->data.n <= UINT32_MAX / 256) run->plan.jobs = calloc(most, sizeof *run->plan.jobs);
    if (!run->plan.jobs) return xl_no_memory(error, "the plan");
    size_t n = 0;
    for (size_t i = 0; i < run->data.n; i++) add_answers(run, (uint32_t)i, run->plan.jobs, &n);
    add_inventions(o, run->plan.jobs, &n);
    shuffle(run->plan.jobs, n, o->seed + 3);
    run->plan.n_jobs = n;
    return n ? EXITLM_OK
             : xl_fail(error, EXITLM_USAGE,
                       "nothing to learn from: give --self-chat N or --data FILE");
}

/* ---- Layers whose hidden states are kept ---- */
static bool has_layer(const xl_gather_plan *plan, uint32_t layer) {
    for (uint32_t i = 0; i < plan->n_layers; i++)
        if (plan->layers[i] == layer) return true;
    return false;
}

static int compare_u32(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Candidates: every fifteenth of the depth, down to a bit before the middle (answers form late),
 * and those named. The candidates are kept in any case, so that other layers can be trained from
 * the same data; but where a preset says which are wanted. */
static exitlm_status choose_candidates(xl_training *run, exitlm_error *error) {
    xl_gather_plan *plan = &run->plan;
    const uint32_t last = run->info.layers, stride = last >= 15 ? (last + 7) / 15 : 1;
    const xl_training_options *o = run->options;
    if (o->n_layers + (o->further_rows > 0) > EXITLM_MAX_HEADS)
        return xl_fail(error, EXITLM_USAGE,
                       "--layers: at most %d heads, a second list of --vocabulary-rows included",
                       EXITLM_MAX_HEADS);
    for (uint32_t i = 1; i <= 7 && !o->vocabulary_only && !o->as_paper; i++)
        if (last > i * stride) plan->layers[plan->n_layers++] = last - i * stride;
    plan->layers[plan->n_layers++] = last;
    for (size_t i = 0; i < o->n_layers; i++) {
        uint32_t layer = o->layers[i];
        if (layer < 1 || layer > last)
            return xl_fail(error, EXITLM_USAGE,
                           "--layers: %u is not between 1 and the model's %u layers", layer, last);
        for (size_t j = 0; j < i; j++)
            if (o->layers[j] == layer)
                return xl_fail(error, EXITLM_USAGE, "--layers: %u is named twice", layer);
        if (has_layer(plan, layer)) continue;
        if (plan->n_layers == XL_GATHER_MAX_LAYERS)
            return xl_fail(error, EXITLM_USAGE, "--layers: too many that are no candidates");
        plan->layers[plan->n_layers++] = layer;
    }
    qsort(plan->layers, plan->n_layers, sizeof *plan->layers, compare_u32);
    return EXITLM_OK;
}

/* ---- Key and folder ---- */
static void hash_text(xl_sha256 *sha, const char *text) {
    xl_sha256_update(sha, text, strlen(text) + 1);
}

static void make_key(xl_training *run) {
    xl_sha256 sha;
    xl_gather_plan *p = &run->plan;
    xl_sha256_init(&sha);
    hash_text(&sha, "gather " EXITLM_VERSION);
    hash_text(&sha, run->info.fingerprint);
    xl_dataset_hash(&run->data, &sha);
    for (size_t i = 0; i < p->n_jobs; i++) {
        const xl_gather_job *j = &p->jobs[i];
        uint64_t numbers[4] = {(uint64_t)j->kind << 8 | j->validation, j->item, j->seed,
                               (uint64_t)(j->temperature * 1000)};
        xl_sha256_update(&sha, numbers, sizeof numbers);
    }
    const uint32_t sizes[] = {p->reply_tokens, p->user_tokens, p->context_tokens, p->batch,
                              p->kv_type};
    xl_sha256_update(&sha, p->layers, p->n_layers * sizeof *p->layers);
    xl_sha256_update(&sha, sizes, sizeof sizes);
    xl_sha256_final(&sha, p->key);
}

static exitlm_status make_folder(xl_training *run, exitlm_error *error) {
    const xl_training_options *o = run->options;
    char *cache = o->cache ? xl_format("%s", o->cache) : xl_format("%s.cache", o->output);
    const uint8_t *k = run->plan.key;
    if (cache)
        run->folder =
            xl_format("%s/%02x%02x%02x%02x%02x%02x", cache, k[0], k[1], k[2], k[3], k[4], k[5]);
    const bool made = run->folder && xl_folder_make(cache) && xl_folder_make(run->folder);
    const int reason = errno;
    free(cache);
    if (!run->folder) return xl_no_memory(error, "a folder's name");
    return made ? EXITLM_OK
                : xl_fail(error, EXITLM_IO, XL_FILE_NAME ": this folder cannot be made: %s",
                          run->folder, strerror(reason));
}

exitlm_status xl_training_plan(xl_training *run, exitlm_error *error) {
    const xl_training_options *o = run->options;
    xl_gather_plan *p = &run->plan;
    xl_dataset_keep(&run->data, XL_DATASET_TRAIN);
    *p = (xl_gather_plan){.model = run->model,
                          .data = &run->data,
                          .reply_tokens = o->reply_tokens,
                          .user_tokens = 100,
                          .batch = 32,
                          .seed = o->seed,
                          .context_tokens = xl_measure_context(run->model, o->context_tokens),
                          .kv_type = o->kv_type,
                          .kernel = o->kernel};
    exitlm_status status = o->self_chat && xl_model_chats(p->model)
                               ? xl_user_frame_create(&p->frame, p->model, error)
                               : EXITLM_OK;
    if (status == EXITLM_OK) status = make_jobs(run, error);
    if (status == EXITLM_OK) status = choose_candidates(run, error);
    if (status != EXITLM_OK) return status;
    make_key(run);
    return EXITLM_OK;
}

/* ---- What was gathered ---- */
static exitlm_status open_parts(xl_training *run, const char *const *paths, size_t n, bool partial,
                                exitlm_error *error) {
    return xl_parts_open(&run->gathered, paths, n, XL_PART_GATHER, run->info.fingerprint, partial,
                         error);
}

exitlm_status xl_training_gather(xl_training *run, bool *complete, exitlm_error *error) {
    const xl_shard all = {1, 1};
    exitlm_status status = make_folder(run, error);
    if (status != EXITLM_OK) return status;
    char *path = xl_format("%s/gathered", run->folder),
         *under_way = xl_format("%s/gathered.part", run->folder);
    status = path && under_way
                 ? xl_gather_run(&run->plan, all, path, run->pool, run->observer, complete, error)
                 : xl_no_memory(error, "a file name");
    if (status == EXITLM_OK)
        status = open_parts(run, (const char *const[]){*complete ? path : under_way}, 1, !*complete,
                            error);
    free(path);
    free(under_way);
    return status;
}

exitlm_status xl_training_open(xl_training *run, const char *const *paths, size_t n,
                               exitlm_error *error) {
    exitlm_status status = open_parts(run, paths, n, false, error);
    if (status != EXITLM_OK) return status;
    xl_gather_plan *plan = &run->plan;
    plan->model = run->model;
    plan->kernel = run->options->kernel;
    if (!xl_gather_plan_of(&run->gathered.head, plan))
        return xl_fail(error, EXITLM_IO, XL_FILE_NAME ": its layers are not this model's",
                       paths[0]);
    for (size_t i = 0; i < run->options->n_layers; i++)
        if (!has_layer(plan, run->options->layers[i]))
            return xl_fail(error, EXITLM_USAGE,
                           "--layers: these parts have no hidden states after layer %u: give "
                           "--layers to exitlm gather",
                           run->options->layers[i]);
    return make_folder(run, error);
}

void xl_training_free(xl_training *run) {
    xl_user_frame_free(&run->plan.frame);
    free(run->plan.jobs);
    free(run->output);
    free(run->shortlist);
    xl_parts_close(&run->gathered);
    free(run->folder);
    xl_dataset_free(&run->data);
}

/* ---- --out-data ---- */
static void put_conversation(const xl_training *run, ndjson *out, const xl_gather_block *s,
                             const xl_gather_conversation *c, char *text, size_t capacity) {
    static const char *const kinds[] = {"answered", "self-chat", "text"};
    size_t n_bytes = 0;
    if (exitlm_detokenize(run->model, s->ids + c->first_id, c->n_ids, text, capacity, &n_bytes,
                          NULL) != EXITLM_OK)
        return;
    xl_nd_put(out, "{ split=%s source=%s temperature=%g text=%.*s }",
              c->validation ? "validation" : "train", kinds[c->kind % 3], c->temperature,
              (int)(n_bytes < capacity ? n_bytes : capacity), text);
}

static exitlm_status put_all(const xl_training *run, FILE *stream, exitlm_error *error) {
    const size_t capacity = (size_t)run->plan.context_tokens * 64;
    char *text = malloc(capacity);
    exitlm_status status = text ? EXITLM_OK : xl_no_memory(error, "a conversation");
    ndjson out = xl_nd_to(stream);
    for (size_t i = 0; i < run->gathered.n_blocks && status == EXITLM_OK; i++) {
        xl_gather_block block = {0};
        status = xl_gather_open(&run->plan, &run->gathered, i, &block, error);
        for (uint32_t c = 0; status == EXITLM_OK && c < block.n_conversations; c++)
            put_conversation(run, &out, &block, &block.conversations[c], text, capacity);
        xl_gather_close(&block);
    }
    free(text);
    return status;
}

exitlm_status xl_training_save_data(const xl_training *run, const char *path, exitlm_error *error) {
    xl_file_out out;
    exitlm_status status = xl_file_begin(&out, path, error);
    if (status != EXITLM_OK) return status;
    status = put_all(run, out.stream, error);
    return xl_file_end(&out, status, error);
}
