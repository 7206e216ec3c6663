/* Parts of a calibration and of gathered data whose checksums are right and whose content is not: each
 * is refused in a sentence, or used without harm. The program makes the parts, which are then forged. */
#include "counting.h"
#include "tiny.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "train/calibration_parts.h"
#include "train/files.h"
#include "train/gather_file.h"

static char folder[] = "/tmp/exitlm-parts-XXXXXX";
static const char *program;
static exitlm_model *model;

static const char *at(const char *name) {
    static char path[4][128];
    static unsigned next;
    char *to = path[next++ % 4];
    snprintf(to, sizeof path[0], "%s/%s", folder, name);
    return to;
}

/* Runs the program with arguments of printf's kind; what it says is in `err`. Returns its status. */
static int exitlm(char *err, size_t err_bytes, const char *arguments, ...) XL_PRINTF(3, 4);
static int exitlm(char *err, size_t err_bytes, const char *arguments, ...) {
    char line[1024];
    va_list list;
    va_start(list, arguments);
    const char *emulator = getenv("EXITLM_EMULATOR");
    int n = snprintf(line, sizeof line, "%s %s ", emulator ? emulator : "", program);
    n += vsnprintf(line + n, sizeof line - (size_t)n, arguments, list);
    va_end(list);
    snprintf(line + n, sizeof line - (size_t)n, " 2>&1 >/dev/null");
    FILE *p = popen(line, "r");
    CHECK(p);
    err[fread(err, 1, err_bytes - 1, p)] = 0;
    return pclose(p) >> 8;
}

/* ---- A part in memory ---- */
enum { MOST_BLOCKS = 8 };
typedef struct part {
    xl_part_head head;
    size_t n;
    xl_part_block block[MOST_BLOCKS];
    uint8_t *bytes[MOST_BLOCKS];
} part;

static part read_part(const char *path, xl_part_kind kind) {
    part p = {0};
    xl_parts parts;
    CHECK_OK(xl_parts_open(&parts, &path, 1, kind, model->fingerprint, false, &error_));
    p.head = parts.head;
    p.n = parts.n_blocks;
    CHECK(p.n > 0 && p.n <= MOST_BLOCKS);
    for (size_t i = 0; i < p.n; i++) {
        void *bytes;
        p.block[i] = parts.blocks[i];
        CHECK_OK(xl_parts_read(&parts, i, &bytes, &error_));
        p.bytes[i] = bytes;
    }
    xl_parts_close(&parts);
    return p;
}

static void free_part(part *p) {
    for (size_t i = 0; i < p->n; i++) free(p->bytes[i]);
}

/* Writes it with right checksums; returns its path. */
static const char *forge(const part *p) {
    const char *path = at("forged.part");
    xl_part_writer w;
    remove(path);
    CHECK_OK(xl_part_begin(&w, at("forged"), &p->head, &error_));
    for (size_t i = 0; i < p->n; i++) {
        xl_part_block_open(&w);
        xl_part_put(&w, p->bytes[i], (size_t)p->block[i].n_bytes);
        CHECK_OK(xl_part_block_end(&w, p->block[i].first, p->block[i].n, &error_));
    }
    xl_part_close(&w);
    return path;
}

/* ---- Calibration ---- */
/* What the program does with --merge. */
static exitlm_status merge(const char *path, exitlm_heads *heads, exitlm_error *error) {
    uint32_t numbers[XL_PART_NUMBERS];
    float accuracy[XL_LEVELS];
    xl_calibration_options options = {.batch = 4};
    const exitlm_heads before = *heads; /* a merge sets their metric and its weights */
    static xl_calibration c;
    c = (xl_calibration){.options = &options, .model = model, .heads = heads};
    CHECK(xl_calibration_look(&path, 1, numbers));
    xl_calibration_options_of(numbers, &options, accuracy);
    exitlm_status status = xl_calibration_take_parts(&c, at("h"), &path, 1, error);
    if (status == EXITLM_OK) status = xl_calibration_measure(&c, error);
    if (status == EXITLM_OK) status = xl_calibration_make_levels(&c, error);
    xl_calibration_free(&c);
    heads->metric = before.metric;
    memcpy(heads->head, before.head, sizeof before.head);
    return status;
}

static void expect_merge(const part *p, exitlm_heads *heads, bool refused) {
    exitlm_error error = {0};
    const exitlm_status status = merge(forge(p), heads, &error);
    CHECK(status == EXITLM_OK || (status == EXITLM_IO && error.message[0]));
    CHECK(!refused || status == EXITLM_IO);
}

/* Every number of a block, or every so-manieth, becomes another. */
static void change_numbers(const part *p, size_t block, size_t stride, exitlm_heads *heads) {
    static const uint32_t others[] = {0xffffffffu, 1, 0x7f800000u};
    uint8_t *bytes = p->bytes[block];
    for (size_t i = 0; i + 4 <= p->block[block].n_bytes; i += stride)
        for (size_t k = 0; k < 3; k++) {
            uint8_t before[4];
            memcpy(before, bytes + i, 4);
            memcpy(bytes + i, &others[k], 4);
            expect_merge(p, heads, false);
            memcpy(bytes + i, before, 4);
        }
}

static void test_calibration(exitlm_heads *heads) {
    part p = read_part(at("c"), XL_PART_CALIBRATE);
    CHECK(p.n == 2 && p.block[0].n == 0 && p.block[1].n == p.head.total);
    CHECK_OK(merge(forge(&p), heads, &error_));
    change_numbers(&p, 0, 12, heads);
    change_numbers(&p, 1, p.block[1].n_bytes / 300 / 4 * 4, heads);
    /* more settings of one level than there is room for: of the path, behind metric and weights */
    uint8_t *in_block = p.bytes[0] + 2 * sizeof(uint32_t) + EXITLM_MAX_HEADS * 6 * sizeof(float);
    xl_path path, other;
    memcpy(&path, in_block, sizeof path);
    CHECK(path.n > 2 * XL_LEVEL_SETTINGS && path.level[path.n - 1] == 0);
    other = path;
    for (size_t i = 0; i < path.n; i++) other.level[i] = path.level[0];
    memcpy(in_block, &other, sizeof other);
    expect_merge(&p, heads, true);
    memcpy(in_block, &path, sizeof path);
    /* blocks that lie elsewhere: one more, and one in the place of another */
    part more = p;
    more.block[more.n] = p.block[1];
    more.bytes[more.n++] = p.bytes[1];
    for (uint64_t first = 0; first < 1u << 30; first = first * 7 + 1) {
        more.block[2].first = first;
        expect_merge(&more, heads, true);
    }
    part wide = p;
    wide.head.total = UINT32_MAX; /* more than there is memory for */
    wide.block[1].n = wide.head.total;
    expect_merge(&wide, heads, true);
    wide.head.total = 1;
    wide.block[1].n = 1;
    expect_merge(&wide, heads, true);
    wide.block[1].n = UINT64_MAX;
    expect_merge(&wide, heads, true);
    free_part(&p);
}

/* Options on record are held to what the command line allows. */
static void test_options(void) {
    static const struct {
        xl_calibration_number number;
        uint32_t value;
        const char *name;
    } wrong[] = {
        {XL_CALIBRATED_METRIC, EXITLM_METRIC_COUNT, "metric"},
        {XL_CALIBRATED_METRIC, 0x80000000u, "metric"},
        {XL_CALIBRATED_STRATEGY, 1000, "strategy"},
        {XL_CALIBRATED_KV, 0, "kv"},
        {XL_CALIBRATED_KV, 99, "kv"},
        {XL_CALIBRATED_KV_TYPE, 3, "kv-type"},
        {XL_CALIBRATED_TEMPERATURE, 0x7fc00000u, "temp"}, /* NaN */
        {XL_CALIBRATED_TEMPERATURE, 0xbf800000u, "temp"}, /* -1 */
        {XL_CALIBRATED_REPLY_TOKENS, 0xffffffffu, "reply-tokens"},
        {XL_CALIBRATED_DELTA, 0, "delta"},
        {XL_CALIBRATED_DELTA, 0x7f800000u, "delta"}, /* infinite */
        {XL_CALIBRATED_CONTEXT, 0xffffffffu, "ctx"},
        {XL_CALIBRATED_FIRST_WORD, 0x7fc00000u, "first-word"}, /* NaN */
    };
    part p = read_part(at("c"), XL_PART_CALIBRATE);
    char err[512], said[64];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        part other = p;
        other.head.numbers[wrong[i].number] = wrong[i].value;
        snprintf(said, sizeof said, "what it says of --%s is out of range", wrong[i].name);
        const int status = exitlm(err, sizeof err, "calibrate tests/data/tiny.gguf %s --merge %s",
                                  at("h"), forge(&other));
        if (status != 1 || !strstr(err, said)) fprintf(stderr, "%s: %s\n", said, err);
        CHECK(status == 1 && strstr(err, said));
    }
    free_part(&p);
}

/* ---- Gathered data ---- */
static exitlm_status open_gathered(const char *path, exitlm_error *error) {
    xl_parts parts;
    xl_gather_plan plan = {.model = model};
    exitlm_status status =
        xl_parts_open(&parts, &path, 1, XL_PART_GATHER, model->fingerprint, false, error);
    CHECK(status != EXITLM_OK || xl_gather_plan_of(&parts.head, &plan));
    for (size_t i = 0; i < parts.n_blocks && status == EXITLM_OK; i++) {
        xl_gather_block s;
        status = xl_gather_open(&plan, &parts, i, &s, error);
        for (uint32_t l = 0; l < s.n_layers && status == EXITLM_OK; l++) {
            uint16_t *x = malloc(((size_t)s.n_positions * s.dim + 1) * sizeof *x);
            status = xl_gather_layer(&parts, i, &s, l, x, error);
            free(x);
        }
        xl_gather_close(&s);
    }
    xl_parts_close(&parts);
    return status;
}

static void expect_opened(const part *p, bool refused) {
    exitlm_error error = {0};
    const exitlm_status status = open_gathered(forge(p), &error);
    CHECK(status == EXITLM_OK || (status == EXITLM_IO && error.message[0]));
    CHECK(!refused || status == EXITLM_IO);
}

static void test_gathered(void) {
    part p = read_part(at("g"), XL_PART_GATHER);
    uint32_t head[6]; /* conversations, ids, positions, dim, top, layers */
    CHECK(p.n == 1);
    uint8_t *bytes = p.bytes[0];
    memcpy(head, bytes, sizeof head);
    const size_t conversations = sizeof head,
                 ids = conversations + head[0] * sizeof(xl_gather_conversation),
                 positions = ids + head[1] * sizeof(int32_t),
                 top_ids = positions + head[2] * sizeof(uint32_t),
                 top_p = top_ids + head[2] * head[4] * sizeof(int32_t),
                 hidden = top_p + head[2] * head[4] * sizeof(uint16_t);
    expect_opened(&p, false);
    /* a number each: what it stands for, where it is, and a value that it cannot have */
    const struct {
        size_t at;
        uint32_t value;
    } wrong[] = {
        {0, head[0] + 1},
        {4, head[1] - 1},
        {8, 0xffffffffu},
        {12, head[3] * 2},
        {16, 1},
        {20, head[5] + 1},
        {conversations + 4, 1},            /* first_id */
        {conversations + 8, 0xffffffffu},  /* n_ids */
        {conversations + 12, 0xffffffffu}, /* first_position */
        {conversations + 16, head[2] + 1}, /* n_positions */
        {conversations + 24, 7},           /* kind */
        {ids, model->config.vocab},
        {ids + 4, 0xffffffffu},
        {positions, 0x7fffffffu},
        {positions + 4, 0}, /* not behind the one before it */
        {top_ids, 0x80000000u},
        {top_p, 0x7e007e00u},  /* NaN */
        {top_p, 0x3c003c01u},  /* more than 1 */
        {hidden, 0xfc00fc00u}, /* infinite */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint8_t before[4];
        memcpy(before, bytes + wrong[i].at, 4);
        CHECK(memcmp(before, &wrong[i].value, 4) != 0);
        memcpy(bytes + wrong[i].at, &wrong[i].value, 4);
        expect_opened(&p, true);
        memcpy(bytes + wrong[i].at, before, 4);
    }
    free_part(&p);
}

/* What cannot be read may be whole: it is not called damaged, and a worker does not begin anew. */
static void test_unreadable(void) {
    part p = read_part(at("c"), XL_PART_CALIBRATE);
    const char *path = at("mem.part");
    exitlm_error error = {0};
    xl_parts parts;
    xl_part_writer w;
    if (symlink("/proc/self/mem", path) == 0 && access(path, R_OK | W_OK) == 0) {
        CHECK(xl_parts_open(&parts, &path, 1, XL_PART_CALIBRATE, model->fingerprint, false,
                            &error) == EXITLM_IO);
        CHECK(strstr(error.message, "cannot be read: "));
        xl_parts_close(&parts);
        CHECK(xl_part_begin(&w, at("mem"), &p.head, &error) == EXITLM_IO);
        CHECK(strstr(error.message, "cannot be read: "));
        xl_part_close(&w);
    }
    free_part(&p);
}

/* The data, heads, and a part of each kind. */
static void make_parts(exitlm_heads **heads) {
    char text[2048], err[512];
    size_t n = 0;
    xl_buffer file;
    for (int i = 0; i < 12; i++)
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "{\"turns\":[\"the river %d\",\"why?\"]}\n", i * i);
    CHECK_OK(xl_file_write(at("said.jsonl"), text, n, &error_));
    tiny_heads_file(model, (uint32_t[]){2, 4, 6}, 3, 60, 5, &file);
    CHECK_OK(xl_file_write(at("h"), file.data, file.n_bytes, &error_));
    CHECK_OK(exitlm_heads_create(heads, file.data, file.n_bytes, NULL, &error_));
    xl_buffer_free(&file);
    CHECK(exitlm(err, sizeof err,
                 "calibrate tests/data/tiny.gguf %s -q --data %s --reply-tokens 8 --delta 0.5 "
                 "--shard 1/1 -o %s",
                 at("h"), at("said.jsonl"), at("c")) == 0);
    CHECK(exitlm(err, sizeof err,
                 "gather tests/data/tiny.gguf -q --data %s --reply-tokens 8 --self-chat 0 "
                 "--answers 1 -o %s",
                 at("said.jsonl"), at("g")) == 0);
}

int main(void) {
    static char path[1024];
    exitlm_heads *heads;
    snprintf(path, sizeof path, "%s/exitlm", getenv("EXITLM_BUILD_DIR"));
    if (access(path, X_OK) != 0) return 77;
    program = path;
    CHECK(mkdtemp(folder));
    model = tiny_load(NULL);
    make_parts(&heads);
    test_calibration(heads);
    test_options();
    test_gathered();
    test_unreadable();
    snprintf(path, sizeof path, "rm -rf %s", folder);
    CHECK(system(path) == 0);
    exitlm_heads_free(heads);
    exitlm_model_free(model);
    return 0;
}
