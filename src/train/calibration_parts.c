#include "calibration_parts.h"

#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "reply/session.h"

#define BLOCK 64 /* conversations that a killed worker loses at most */

/* ---- Options and heads of parts ---- */
static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

void xl_calibration_numbers(const xl_calibration_options *o, xl_calibration_stage stage,
                            uint32_t *n) {
    memset(n, 0, XL_PART_NUMBERS * sizeof *n);
    n[XL_CALIBRATED_STAGE] = stage;
    n[XL_CALIBRATED_METRIC] = (uint32_t)o->metric;
    n[XL_CALIBRATED_STRATEGY] = (uint32_t)o->strategy;
    n[XL_CALIBRATED_KV] = o->kv;
    n[XL_CALIBRATED_KV_TYPE] = o->use.kv_type;
    n[XL_CALIBRATED_TEMPERATURE] = bits_of(o->use.temperature);
    n[XL_CALIBRATED_REPLY_TOKENS] = o->use.max_tokens;
    n[XL_CALIBRATED_DELTA] = bits_of(o->delta);
    for (int i = 0; i < XL_LEVELS; i++)
        n[XL_CALIBRATED_LEVELS] |=
            (uint32_t)xl_level_wanted(o->accuracy, o->n_accuracy, xl_levels[i]) << i;
    n[XL_CALIBRATED_SEED] = (uint32_t)o->seed;
    n[XL_CALIBRATED_SEED_HIGH] = (uint32_t)(o->seed >> 32);
    n[XL_CALIBRATED_CONTEXT] = o->context_tokens;
    n[XL_CALIBRATED_FIRST_WORD] = bits_of(o->first_word);
}

void xl_calibration_options_of(const uint32_t *n, xl_calibration_options *o, float *accuracy) {
    o->metric = (int)n[XL_CALIBRATED_METRIC];
    o->strategy = (int)n[XL_CALIBRATED_STRATEGY];
    o->kv = (exitlm_kv_policy)n[XL_CALIBRATED_KV];
    o->use = (xl_use){.kv_type = (exitlm_kv_type)n[XL_CALIBRATED_KV_TYPE],
                      .temperature = float_of(n[XL_CALIBRATED_TEMPERATURE]),
                      .max_tokens = n[XL_CALIBRATED_REPLY_TOKENS]};
    o->delta = float_of(n[XL_CALIBRATED_DELTA]);
    o->accuracy = accuracy;
    o->n_accuracy = 0;
    for (int i = 0; i < XL_LEVELS; i++)
        if (n[XL_CALIBRATED_LEVELS] >> i & 1) accuracy[o->n_accuracy++] = xl_levels[i];
    o->seed = n[XL_CALIBRATED_SEED] | (uint64_t)n[XL_CALIBRATED_SEED_HIGH] << 32;
    o->context_tokens = n[XL_CALIBRATED_CONTEXT];
    o->first_word = float_of(n[XL_CALIBRATED_FIRST_WORD]);
}

/* Of the heads: their file without its table, so that parts can be merged more than once; and, where
 * rows are added, by what the table goes. */
static exitlm_status hash_heads(const xl_calibration *c, const char *path, xl_sha256 *sha,
                                exitlm_error *error) {
    const float weights[EXITLM_MAX_HEADS * 6] = {0};
    const xl_heads_calibration none = {.kv = EXITLM_POLICY_EXACT, .logistic = weights, .data = ""};
    xl_buffer out;
    exitlm_status status = xl_calibration_rewrite(path, &none, &out, error);
    if (status == EXITLM_OK) xl_sha256_update(sha, out.data, out.n_bytes);
    xl_buffer_free(&out);
    if (status != EXITLM_OK || !xl_calibration_adds(c)) return status;
    const uint32_t metric = c->heads->metric;
    xl_sha256_update(sha, &metric, sizeof metric);
    for (uint32_t h = 0; h < c->heads->n_heads; h++)
        xl_sha256_update(sha, c->heads->head[h].logistic, sizeof c->heads->head[h].logistic);
    return status;
}

/* The first half of a key is of the heads, the second of the data. */
#define HALF 16

static exitlm_status make_head(const xl_calibration *c, const char *heads,
                               xl_calibration_stage stage, xl_shard shard, xl_part_head *head,
                               exitlm_error *error) {
    exitlm_model_info info;
    xl_sha256 sha;
    uint8_t digest[32];
    exitlm_model_describe(c->model, &info);
    *head = (xl_part_head){.kind = XL_PART_CALIBRATE,
                           .total = stage == XL_CALIBRATE_LEVELS ? c->n : c->path_data.n,
                           .shard = shard};
    xl_calibration_numbers(c->options, stage, head->numbers);
    memcpy(head->fingerprint, info.fingerprint, sizeof info.fingerprint);
    xl_sha256_init(&sha);
    xl_sha256_update(&sha, EXITLM_VERSION, sizeof EXITLM_VERSION);
    exitlm_status status = hash_heads(c, heads, &sha, error);
    xl_sha256_final(&sha, digest);
    memcpy(head->key, digest, HALF);
    xl_sha256_init(&sha);
    xl_dataset_hash(&c->data, &sha);
    xl_dataset_hash(&c->path_data, &sha);
    xl_sha256_final(&sha, digest);
    memcpy(head->key + HALF, digest, HALF);
    return status;
}

/* ---- What a part holds ---- */
/* What is the same in all parts of a stage: its settings and, of the last one, where they are from. */
typedef struct about {
    uint32_t metric, n;
    float logistic[EXITLM_MAX_HEADS * 6];
    xl_path path;
    xl_measure_setting settings[XL_MEASURE_MAX];
} about;

/* Settings of one level at most, one after the other. */
static bool is_path(const xl_path *path) {
    bool fine = path->n <= XL_PATH_MAX;
    for (size_t i = 0; fine && i < path->n; i++)
        fine = path->level[i] >= 0 && path->level[i] < XL_LEVELS &&
               (i < XL_LEVEL_SETTINGS || path->level[i] != path->level[i - XL_LEVEL_SETTINGS]);
    return fine;
}

static bool is_sound(const about *a, xl_calibration_stage stage) {
    return a->n > 0 && a->n <= XL_MEASURE_MAX && a->metric < EXITLM_METRIC_COUNT &&
           is_path(&a->path) && (stage != XL_CALIBRATE_LEVELS || a->n == a->path.n + 1);
}

static size_t block_bytes(size_t n_sums, size_t n_records, uint32_t n_heads) {
    return sizeof(uint64_t) + n_sums * sizeof(xl_measure_sum) +
           n_records * (n_heads * sizeof(xl_measure_check) + 2 * sizeof(uint32_t) + 1);
}

static exitlm_status put_result(xl_part_writer *w, const xl_measure_result *r, uint64_t first,
                                uint32_t n_heads, exitlm_error *error) {
    const xl_measure_record *record = &r->record;
    const uint64_t n = record->n;
    xl_part_block_open(w);
    xl_part_put(w, &n, sizeof n);
    xl_part_put(w, r->sums, r->n_items * r->n_settings * sizeof *r->sums);
    xl_part_put(w, record->checks, record->n * n_heads * sizeof *record->checks);
    xl_part_put(w, record->conversation, record->n * sizeof *record->conversation);
    xl_part_put(w, record->full, record->n * sizeof *record->full);
    xl_part_put(w, record->first, record->n);
    return xl_part_block_end(w, first, r->n_items, error);
}

/* The result points into the block. False: these bytes are none. */
static bool get_result(uint8_t *bytes, const xl_part_block *b, size_t n_settings, uint32_t n_heads,
                       xl_measure_result *r) {
    uint64_t n;
    const size_t n_sums = (size_t)b->n * n_settings;
    if (b->n_bytes < sizeof n) return false;
    memcpy(&n, bytes, sizeof n);
    if (n > b->n_bytes || b->n_bytes != block_bytes(n_sums, (size_t)n, n_heads)) return false;
    *r = (xl_measure_result){.n_items = (size_t)b->n, .n_settings = n_settings};
    r->sums = (xl_measure_sum *)(bytes + sizeof n);
    r->record =
        (xl_measure_record){.n = (size_t)n, .checks = (xl_measure_check *)(r->sums + n_sums)};
    r->record.conversation = (uint32_t *)(r->record.checks + n * n_heads);
    r->record.full = (int32_t *)(r->record.conversation + n);
    r->record.first = (uint8_t *)(r->record.full + n);
    for (size_t i = 0; i < n; i++)
        if (r->record.conversation[i] >= b->n ||
            (i && r->record.conversation[i] < r->record.conversation[i - 1]))
            return false;
    return true;
}

/* ---- A shard ---- */
/* From an earlier run of the same shard, or worked out. */
static exitlm_status find_about(xl_calibration *c, xl_part_writer *w, xl_calibration_stage stage,
                                about *a, exitlm_error *error) {
    size_t n;
    if (w->there.n_blocks && w->there.blocks[0].n_bytes == sizeof *a) {
        void *bytes;
        exitlm_status status = xl_parts_read(&w->there, 0, &bytes, error);
        if (status == EXITLM_OK) memcpy(a, bytes, sizeof *a);
        free(bytes);
        if (status == EXITLM_OK && !is_sound(a, stage))
            status = xl_part_unreadable(w->there.paths[0], error);
        if (status == EXITLM_OK && stage == XL_CALIBRATE_LEVELS)
            xl_calibration_take_path(c, (exitlm_metric)a->metric, a->logistic, &a->path);
        return status;
    }
    exitlm_status status = xl_calibration_settings(c, stage, a->settings, &n, error);
    if (status != EXITLM_OK) return status;
    a->n = (uint32_t)n;
    if (stage == XL_CALIBRATE_LEVELS) {
        a->metric = c->metric;
        a->path = c->path;
        memcpy(a->logistic, c->logistic, sizeof a->logistic);
    }
    xl_part_block_open(w);
    xl_part_put(w, a, sizeof *a);
    return xl_part_block_end(w, 0, 0, error);
}

static exitlm_status measure_shard(xl_calibration *c, xl_part_writer *w, xl_calibration_stage stage,
                                   const about *a, exitlm_error *error) {
    const xl_shard shard = w->there.head.shard;
    const uint64_t end = xl_shard_end(shard, w->there.head.total);
    size_t list[XL_MEASURE_MAX];
    char label[128];
    exitlm_status status = EXITLM_OK;
    for (size_t j = 0; j < XL_MEASURE_MAX; j++) list[j] = j;
    for (uint64_t from = xl_part_done(w); from < end && status == EXITLM_OK; from += BLOCK) {
        const uint64_t n = end - from < BLOCK ? end - from : BLOCK;
        xl_measure_result result = {0};
        snprintf(label, sizeof label, "%-9s  %llu to %llu of %llu, %u settings",
                 xl_calibration_stages[stage], (unsigned long long)from + 1,
                 (unsigned long long)(from + n), (unsigned long long)end, a->n - 1);
        status = xl_calibration_run(c, stage, (size_t)from, (size_t)n, a->settings, list, a->n,
                                    label, &result, error);
        if (status == EXITLM_OK) status = put_result(w, &result, from, c->heads->n_heads, error);
        xl_measure_free(&result);
    }
    return status;
}

exitlm_status xl_calibration_shard(xl_calibration *c, const char *heads, xl_calibration_stage stage,
                                   xl_shard shard, const char *path, exitlm_error *error) {
    xl_part_head head;
    xl_part_writer w;
    about *a = calloc(1, sizeof *a);
    if (!a) return xl_no_memory(error, "a part");
    exitlm_status status = make_head(c, heads, stage, shard, &head, error);
    if (status == EXITLM_OK) {
        status = xl_part_begin(&w, path, &head, error);
        if (status == EXITLM_OK && w.file) {
            status = find_about(c, &w, stage, a, error);
            if (status == EXITLM_OK) status = measure_shard(c, &w, stage, a, error);
            if (status == EXITLM_OK) status = xl_part_finish(&w, error);
        }
        xl_part_close(&w);
    }
    free(a);
    return status;
}

/* ---- All parts of a stage ---- */
bool xl_calibration_look(const char *const *paths, size_t n, uint32_t *numbers) {
    xl_part_head head;
    for (size_t i = 0; i < n; i++) {
        if (!xl_part_look(paths[i], &head) || head.kind != XL_PART_CALIBRATE) continue;
        memcpy(numbers, head.numbers, sizeof head.numbers);
        return true;
    }
    return false;
}

static exitlm_status check_origin(const xl_calibration *c, const char *heads, const xl_parts *p,
                                  exitlm_error *error) {
    xl_part_head own;
    const xl_calibration_stage stage = (xl_calibration_stage)p->head.numbers[XL_CALIBRATED_STAGE];
    exitlm_status status = make_head(c, heads, stage, p->head.shard, &own, error);
    if (status != EXITLM_OK) return status;
    if (memcmp(own.key, p->head.key, HALF) != 0)
        return xl_fail(error, EXITLM_IO,
                       "%.200s: measured with other heads than %.200s, or by another version of "
                       "exitlm",
                       p->paths[0], heads);
    if (c->data.n && memcmp(own.key + HALF, p->head.key + HALF, HALF) != 0)
        return xl_fail(error, EXITLM_IO, XL_FILE_NAME ": measured on other data than --data",
                       p->paths[0]);
    if (memcmp(own.numbers, p->head.numbers, sizeof own.numbers) != 0)
        return xl_fail(error, EXITLM_IO, XL_FILE_NAME ": measured with other options", p->paths[0]);
    return EXITLM_OK;
}

static exitlm_status add_block(xl_measure_result *all, const xl_parts *p, size_t index,
                               uint32_t n_heads, exitlm_error *error) {
    const xl_part_block *b = &p->blocks[index];
    size_t list[XL_MEASURE_MAX];
    void *bytes;
    xl_measure_result r;
    exitlm_status status = xl_parts_read(p, index, &bytes, error);
    if (status != EXITLM_OK) return status;
    for (size_t j = 0; j < XL_MEASURE_MAX; j++) list[j] = j;
    if (!get_result(bytes, b, all->n_settings, n_heads, &r))
        status = xl_part_unreadable(p->paths[b->part], error);
    else if (!xl_measure_add(all, &r, (size_t)b->first, list, n_heads))
        status = xl_no_memory(error, "the measurements");
    free(bytes);
    return status;
}

/* One for all parts. */
static exitlm_status read_about(const xl_parts *p, about *a, exitlm_error *error) {
    exitlm_status status = EXITLM_OK;
    for (size_t i = 0; i < p->n_blocks && p->blocks[i].n == 0 && status == EXITLM_OK; i++) {
        void *bytes;
        const char *path = p->paths[p->blocks[i].part];
        status = xl_parts_read(p, i, &bytes, error);
        if (status != EXITLM_OK) return status;
        if (p->blocks[i].n_bytes != sizeof *a) status = xl_part_unreadable(path, error);
        else if (a->n && memcmp(a, bytes, sizeof *a) != 0)
            status = xl_fail(
                error, EXITLM_IO,
                "%.200s: laid out another path than %.200s: give all machines the same program, "
                "linked statically, or one path: --stage",
                path, p->paths[p->blocks[0].part]);
        else memcpy(a, bytes, sizeof *a);
        free(bytes);
    }
    const xl_calibration_stage stage = (xl_calibration_stage)p->head.numbers[XL_CALIBRATED_STAGE];
    if (status == EXITLM_OK && !is_sound(a, stage)) status = xl_part_unreadable(p->paths[0], error);
    /* a block has at least the sums of its items: what is asked for below is no more */
    for (size_t i = 0; i < p->n_blocks && status == EXITLM_OK; i++)
        if (p->blocks[i].n > p->blocks[i].n_bytes / (a->n * sizeof(xl_measure_sum)))
            status = xl_part_unreadable(p->paths[p->blocks[i].part], error);
    return status;
}

static exitlm_status take_stage(xl_calibration *c, const char *heads, xl_calibration_stage stage,
                                const xl_parts *p, exitlm_error *error) {
    xl_measure_result *all = &c->given[stage];
    about *a = calloc(1, sizeof *a);
    if (!a) return xl_no_memory(error, "a part");
    if (c->data.n == 0 && stage == XL_CALIBRATE_LEVELS) c->n = (size_t)p->head.total;
    exitlm_status status = check_origin(c, heads, p, error);
    if (status == EXITLM_OK) status = read_about(p, a, error);
    if (status == EXITLM_OK && !xl_measure_begin(all, (size_t)p->head.total, a->n))
        status = xl_no_memory(error, "the measurements");
    for (size_t i = 0; i < p->n_blocks && status == EXITLM_OK; i++)
        if (p->blocks[i].n) status = add_block(all, p, i, c->heads->n_heads, error);
    if (status == EXITLM_OK && stage == XL_CALIBRATE_LEVELS)
        xl_calibration_take_path(c, (exitlm_metric)a->metric, a->logistic, &a->path);
    free(a);
    return status;
}

exitlm_status xl_calibration_take_parts(xl_calibration *c, const char *heads,
                                        const char *const *paths, size_t n, exitlm_error *error) {
    exitlm_model_info info;
    exitlm_status status = EXITLM_OK;
    const char **some = calloc(n + 1, sizeof *some);
    if (!some) return xl_no_memory(error, "parts");
    exitlm_model_describe(c->model, &info);
    for (uint32_t stage = 0; stage < XL_CALIBRATE_STAGES && status == EXITLM_OK; stage++) {
        xl_parts parts = {0};
        size_t k = 0;
        for (size_t i = 0; i < n; i++) {
            xl_part_head head;
            /* what is no part is refused with the first stage */
            const bool known = xl_part_look(paths[i], &head) &&
                               head.numbers[XL_CALIBRATED_STAGE] < XL_CALIBRATE_STAGES;
            if ((known ? head.numbers[XL_CALIBRATED_STAGE] : 0) == stage) some[k++] = paths[i];
        }
        if (k == 0) continue;
        status = xl_parts_open(&parts, some, k, XL_PART_CALIBRATE, info.fingerprint, false, error);
        if (status == EXITLM_OK)
            status = take_stage(c, heads, (xl_calibration_stage)stage, &parts, error);
        xl_parts_close(&parts);
    }
    free(some);
    return status;
}
