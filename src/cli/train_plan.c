/* What the model is to say for training: which conversations, from what, with which seeds; and where it is kept. */
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "gather_file.h"
#include "model/model.h"
#include "base/ndjson.h"
#include "platform.h"
#include "base/sha256.h"
#include "train.h"

static uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t x = a * 0x9e3779b97f4a7c15u + b + 0x632be59bd9b4e019u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* ---- Jobs ---- */
static const float temperatures[] = {0.7f, 1.0f, 0.5f, 0.85f};

static void add_answers(train_run *run, uint32_t item, gather_job *jobs, size_t *n) {
    const train_options *o = run->options;
    const bool turns = run->data.items[item].kind == DATASET_TURNS, validation = dataset_held_out(o->seed, item);
    /* One conversation in eight is kept for choosing layers and laying out thresholds: answered greedily, as agreement is measured. */
    for (uint32_t r = 0; r < (validation || !turns ? 1 : o->answers); r++)
        jobs[(*n)++] = (gather_job){.kind = turns ? GATHER_ANSWER : GATHER_FORCED, .validation = validation, .item = item,
                                    .seed = mix(o->seed + 1, (uint64_t)item << 16 | r), .temperature = r ? temperatures[(r - 1) % 4] : 0};
}

static void add_inventions(const train_options *o, gather_job *jobs, size_t *n) {
    for (uint32_t i = 0; i < o->self_chat; i++) {
        uint64_t seed = mix(o->seed + 2, i);
        bool validation = seed % 16 == 0;
        jobs[(*n)++] = (gather_job){.kind = GATHER_INVENT, .validation = validation, .seed = seed,
                                    .temperature = validation || seed / 16 % 5 < 3 ? 0 : temperatures[seed / 80 % 4]};
    }
}

/* Long and short conversations in turn keep the batches full; the order is part of the plan. */
static void shuffle(gather_job *jobs, size_t n, uint64_t seed) {
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)(mix(seed, i) % i);
        gather_job job = jobs[i - 1];
        jobs[i - 1] = jobs[j];
        jobs[j] = job;
    }
}

static int make_jobs(train_run *run) {
    const train_options *o = run->options;
    const size_t most = run->data.n * (o->answers + 1) + o->self_chat + 1;
    if (run->data.n > UINT32_MAX / 256 || !(run->plan.jobs = calloc(most, sizeof *run->plan.jobs))) return cli_no_memory("the plan");
    size_t n = 0;
    for (size_t i = 0; i < run->data.n; i++) add_answers(run, (uint32_t)i, run->plan.jobs, &n);
    add_inventions(o, run->plan.jobs, &n);
    shuffle(run->plan.jobs, n, o->seed + 3);
    run->plan.n_jobs = n;
    return n ? CLI_OK : cli_usage("nothing to learn from: give --self-chat N or --data FILE");
}

/* ---- Layers whose hidden states are kept ---- */
static bool has_layer(const gather_plan *plan, uint32_t layer) {
    for (uint32_t i = 0; i < plan->n_layers; i++)
        if (plan->layers[i] == layer) return true;
    return false;
}

static int compare_u32(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Candidates: every fifteenth of the depth, down to a bit before the middle (answers form late), and those named. The candidates are kept
 * in any case, so that other layers can be trained from the same data. */
static int choose_candidates(train_run *run) {
    gather_plan *plan = &run->plan;
    const uint32_t last = run->engine.info.layers, stride = last >= 15 ? (last + 7) / 15 : 1;
    const cli_counts *named = &run->options->layers;
    if (named->n > EXITLM_MAX_HEADS) return cli_usage("--layers: at most %d heads", EXITLM_MAX_HEADS);
    for (uint32_t i = 1; i <= 7 && last > i * stride; i++) plan->layers[plan->n_layers++] = last - i * stride;
    plan->layers[plan->n_layers++] = last;
    for (size_t i = 0; i < named->n; i++) {
        uint32_t layer = named->items[i];
        if (layer < 1 || layer > last) return cli_usage("--layers: %u is not between 1 and the model's %u layers", layer, last);
        for (size_t j = 0; j < i; j++)
            if (named->items[j] == layer) return cli_usage("--layers: %u is named twice", layer);
        if (has_layer(plan, layer)) continue;
        if (plan->n_layers == GATHER_MAX_LAYERS) return cli_usage("--layers: too many that are no candidates");
        plan->layers[plan->n_layers++] = layer;
    }
    qsort(plan->layers, plan->n_layers, sizeof *plan->layers, compare_u32);
    return CLI_OK;
}

/* ---- Key and folder ---- */
static void hash_text(xl_sha256 *sha, const char *text) { xl_sha256_update(sha, text, strlen(text) + 1); }

static void make_key(train_run *run) {
    xl_sha256 sha;
    gather_plan *p = &run->plan;
    xl_sha256_init(&sha);
    hash_text(&sha, "gather 1");
    hash_text(&sha, run->engine.info.fingerprint);
    for (size_t i = 0; i < run->data.n; i++)
        for (size_t t = 0; t < run->data.items[i].n; t++) hash_text(&sha, run->data.items[i].texts[t]);
    for (size_t i = 0; i < p->n_jobs; i++) {
        const gather_job *j = &p->jobs[i];
        uint64_t numbers[4] = {(uint64_t)j->kind << 8 | j->validation, j->item, j->seed, (uint64_t)(j->temperature * 1000)};
        xl_sha256_update(&sha, numbers, sizeof numbers);
    }
    const uint32_t sizes[] = {p->reply_tokens, p->user_tokens, p->context_tokens, p->batch, p->kv_type};
    xl_sha256_update(&sha, p->layers, p->n_layers * sizeof *p->layers);
    xl_sha256_update(&sha, sizes, sizeof sizes);
    xl_sha256_final(&sha, p->key);
}

static int make_folder(train_run *run) {
    const train_options *o = run->options;
    run->cache = o->cache ? cli_format("%s", o->cache) : cli_format("%s.cache", o->output);
    const uint8_t *k = run->plan.key;
    if (run->cache) run->folder = cli_format("%s/%02x%02x%02x%02x%02x%02x", run->cache, k[0], k[1], k[2], k[3], k[4], k[5]);
    if (!run->folder) return cli_no_memory("a folder's name");
    if (!cli_make_folder(run->cache) || !cli_make_folder(run->folder)) return cli_fail("%s: this folder cannot be made", run->folder);
    run->plan.folder = run->folder;
    return CLI_OK;
}

static int read_data(train_run *run) {
    int status = CLI_OK;
    for (size_t i = 0; i < run->options->data.n && status == CLI_OK; i++) status = dataset_read(&run->data, run->options->data.items[i]);
    dataset_keep(&run->data, DATASET_TRAIN);
    return status;
}

int train_plan_make(train_run *run) {
    const train_options *o = run->options;
    gather_plan *p = &run->plan;
    exitlm_error error;
    int status = read_data(run);
    if (status != CLI_OK) return status;
    uint32_t most = run->engine.info.context_tokens ? run->engine.info.context_tokens : 2048;
    *p = (gather_plan){.model = run->engine.model, .data = &run->data, .reply_tokens = o->reply_tokens, .user_tokens = 100, .batch = 32,
                       .kv_type = (exitlm_kv_type)o->engine.kv_type, .kernel = o->engine.kernel};
    p->context_tokens = o->engine.ctx ? o->engine.ctx : most < 1024 ? most : 1024;
    if (o->self_chat && xl_user_frame_create(&p->frame, p->model, NULL, &error) != EXITLM_OK) return cli_report(&error, NULL);
    status = make_jobs(run);
    if (status == CLI_OK) status = choose_candidates(run);
    if (status != CLI_OK) return status;
    make_key(run);
    return make_folder(run);
}

void train_plan_free(train_run *run) {
    xl_user_frame_free(&run->plan.frame, NULL);
    free(run->plan.jobs);
    free(run->cache);
    free(run->folder);
    dataset_free(&run->data);
}

/* ---- --out-data ---- */
static void put_conversation(const train_run *run, ndjson *out, const gather_shard *s, const gather_conversation *c, char *text, size_t capacity) {
    static const char *const kinds[] = {"answered", "self-chat", "text"};
    size_t n_bytes = 0;
    exitlm_error error;
    if (exitlm_detokenize(run->engine.model, s->ids + c->first_id, c->n_ids, text, capacity, &n_bytes, &error) != EXITLM_OK) return;
    xl_nd_object(out, NULL);
    xl_nd_string(out, "split", c->validation ? "validation" : "train");
    xl_nd_string(out, "source", kinds[c->kind % 3]);
    xl_nd_double(out, "temperature", c->temperature);
    xl_nd_text(out, "text", text, n_bytes < capacity ? n_bytes : capacity);
    xl_nd_end(out);
}

int train_plan_save(const train_run *run, const char *path) {
    const size_t capacity = (size_t)run->plan.context_tokens * 64;
    char *text = malloc(capacity);
    FILE *f = text ? fopen(path, "w") : NULL;
    int status = f ? CLI_OK : cli_fail("%s: cannot be written", path);
    ndjson out = xl_nd_to(f);
    for (size_t i = 0; i < gather_shards(&run->plan) && status == CLI_OK; i++) {
        gather_shard shard = {0};
        if (!gather_exists(&run->plan, i)) continue;
        status = gather_open(&run->plan, i, &shard);
        for (uint32_t c = 0; status == CLI_OK && c < shard.n_conversations; c++)
            put_conversation(run, &out, &shard, &shard.conversations[c], text, capacity);
        gather_close(&shard);
    }
    if (f && fclose(f) != 0 && status == CLI_OK) status = cli_fail("%s: cannot be written: is the disk full?", path);
    free(text);
    return status;
}
