/* Thresholds for accuracy levels, with a guarantee by conversation, into a heads file: in steps,
 * each of which leaves what it found in the struct. What is tried follows from the path's data, the
 * number of conversations and delta alone. */
#ifndef XL_CALIBRATION_H
#define XL_CALIBRATION_H
#include "levels.h"

typedef struct xl_calibration_options {
    int metric, strategy; /* -1: the metric that saves most; all strategies */
    /* What the levels are to hold with. The plain case, EXACT and zeroed with XL_CALIBRATED_TOKENS,
     * makes all of the table anew, the metric's weights too; any other adds its rows to a table that
     * is there, in place of those like them. */
    exitlm_kv_policy kv;
    xl_use use;
    /* The settings are those of the file's rows for such replies, else of its rows for greedy ones
     * of usual length with K/V in f32: tested anew, each level's after the stricter one's before
     * it; what else the table has stays. */
    bool keep_settings;
    /* a first token may be so many times as uncertain at the vocabulary exit; 0 or 1: as the others */
    float first_word;
    float delta;
    /* [n_accuracy] these levels alone; none: all. The table has no row for the others. */
    const float *accuracy;
    size_t n_accuracy;
    uint32_t batch, context_tokens; /* context_tokens 0: the model's, at most 1024 */
    uint64_t seed;                  /* of the training: says which lines it held out */
    const char *kernel;
} xl_calibration_options;

/* What is measured one after the other: the full model's text on the path's data, a few settings on
 * it, and the path's settings on what decides. */
typedef enum xl_calibration_stage {
    XL_CALIBRATE_PATH,
    XL_CALIBRATE_TRIAL,
    XL_CALIBRATE_LEVELS
} xl_calibration_stage;
#define XL_CALIBRATE_STAGES 3
extern const char *const xl_calibration_stages[]; /* NULL-terminated */

typedef struct xl_calibration {
    const xl_calibration_options *options;
    const exitlm_model *model;
    exitlm_heads *heads; /* its metric is set, for all that is measured */
    xl_pool *pool;
    const xl_observer *observer;
    xl_dataset data, path_data; /* what decides, and what lays out the path */
    size_t n;                   /* conversations that decide */
    size_t left_out;            /* conversations that are blank, or do not fit the context */
    /* n_items 0: it is measured when it is wanted; else it was, under all settings of the stage */
    xl_measure_result given[XL_CALIBRATE_STAGES];
    exitlm_metric metric;
    float logistic[EXITLM_MAX_HEADS * 6];
    xl_path path;
    xl_measure_result result; /* setting 0: full; then the path's */
    exitlm_level *levels;     /* rows that stay, then the new ones */
    size_t n_levels, n_kept;
    int32_t exited[XL_LEVELS]; /* setting at which the exits alone agree that often, or -1 */
} xl_calibration;

/* Are the options such as these heads can be calibrated with? */
exitlm_status xl_calibration_check(const xl_calibration *c, exitlm_error *error);
/* Parts `data` into what decides and what lays out the path. Either may then be empty. What decides
 * is shuffled, the same way each time: the bound is for conversations that may come in any order,
 * and a list may be sorted by topic. */
exitlm_status xl_calibration_split(xl_calibration *c, exitlm_error *error);
/* The metric and the path: `metric`, `path`. Settings lie on the curve of least work and regret;
 * three of them are tried with the K/V policy in question, and tell where on it a level's boundary
 * is to be expected. Each level gets its settings from some way before it up to it. */
exitlm_status xl_calibration_choose_path(xl_calibration *c, exitlm_error *error);
/* The heads file with another table, in `out`, which the caller frees either way. */
exitlm_status xl_calibration_rewrite(const char *path, const xl_heads_calibration *table,
                                     xl_buffer *out, exitlm_error *error);
/* Are rows added to a table, whose metric they share? */
bool xl_calibration_adds(const xl_calibration *c);
/* The settings of a stage, [XL_MEASURE_MAX]; what they follow from is measured before. */
exitlm_status xl_calibration_settings(xl_calibration *c, xl_calibration_stage stage,
                                      xl_measure_setting *settings, size_t *n, exitlm_error *error);
/* Takes metric, weights and path from elsewhere. */
void xl_calibration_take_path(xl_calibration *c, exitlm_metric metric, const float *logistic,
                              const xl_path *path);
/* Conversations of a stage from `from` on, n of them, under some of its settings: numbers `list`. */
exitlm_status xl_calibration_run(xl_calibration *c, xl_calibration_stage stage, size_t from,
                                 size_t n, const xl_measure_setting *settings, const size_t *list,
                                 size_t n_settings, const char *label, xl_measure_result *result,
                                 exitlm_error *error);
/* How many times as long as choosing the path the rest will take, by conversations and
 * settings; less where settings are decided early. */
double xl_calibration_rest(const xl_calibration *c);
/* The data under the path's settings, part by part, each setting until it is decided: `result`. */
exitlm_status xl_calibration_measure(xl_calibration *c, exitlm_error *error);
/* The table's rows: `levels`; with strategy risk also `exited`. */
exitlm_status xl_calibration_make_levels(xl_calibration *c, exitlm_error *error);
/* Puts the table into the heads file. */
exitlm_status xl_calibration_write(const xl_calibration *c, const char *path, exitlm_error *error);
/* Names the level that is taken where none is asked for in a heads file, and leaves all else. */
exitlm_status xl_heads_set_default(const char *path, float accuracy, exitlm_error *error);
void xl_calibration_free(xl_calibration *c);

#endif
