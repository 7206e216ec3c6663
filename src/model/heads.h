/* The heads file, NAME.exits.gguf, in memory. A GGUF v3 file, general.architecture = "exitlm".
 *
 * Metadata keys (u32/f32/string/arrays as GGUF knows them):
 *   exitlm.format_version        u32, 1; 2 where several vocabulary exits follow each other, which
 *                                the first programs do not know
 *   exitlm.engine_version        string
 *   exitlm.base.fingerprint      string, 64 hex digits (see model.c)
 *   exitlm.base.name             string
 *   exitlm.base.layers, .dim, .kv_dim, .vocab   u32, sizes of the base model
 *   exitlm.layers                u32[]  layers run before each head, ascending; may end with
 *                                n_layers (vocabulary exit), several times where vocabulary exits
 *                                have more rows each
 *   exitlm.forms                 string[] "tied" | "mlp" | "full" | "lens" | "vocabulary"
 *   exitlm.rows                  u32[]  static shortlist rows that each head scores: a prefix of
 *                                exitlm.shortlist
 *   exitlm.shortlist             i32[]  token ids, most frequent first, distinct
 *   exitlm.metric                string
 *   exitlm.kv_policy             string: the calibration's, where a row does not say;
 *                                exitlm.kv_type string: what it ran with
 *   exitlm.logistic              f32[n_heads * 6] bias and weights on [entropy, log p1, margin,
 *                                other, agrees] (metric "logistic"), or on [log entropy, log(1 -
 *                                p1), log(1 - margin), log other, agrees] (metric "regret")
 *   exitlm.sampling_scale        f32[n_heads] what an exit's logits are multiplied with where
 *                                tokens are sampled from them (optional: 1)
 *   exitlm.default_accuracy      f32 the level that is taken where none is asked for (optional: the
 *                                strictest certified one)
 *   general.license, exitlm.data string
 *   exitlm.levels.count          u32 and parallel arrays over the rows of the calibration table:
 *   exitlm.levels.strategy string[], .kv_policy string[] (optional), .accuracy f32[], .certified
 *   u32[], .delta f32[], .bound f32[], .threshold f32[count * n_heads], .coverage f32[count *
 *   n_heads], .agreement f32[], .agreement_exited f32[], .conversations u32[], .tokens u32[],
 *   .regret f32[], .regret_bound f32[], .unwanted f32[] (optional, all three: 1),
 *   .first_threshold f32[] (optional: 0)
 *                                These rows are of replies with the K/V type exitlm.kv_type, greedy,
 *                                of up to 96 tokens.
 *   exitlm.further.…             the same columns, and .kv_type string[], .temperature f32[],
 *                                .max_tokens u32[] (optional): rows for other replies, which the
 *                                first programs would take for all; they do not look here
 * Tensors, for head i (file layout as in any GGUF; matrices may be F32, F16 or Q8_0):
 *   exit.i.norm.weight           F32 [dim]           (absent: "vocabulary", the model's
 *                                output_norm); a layer norm's bias is the model's
 *   exit.i.map.weight            [dim][dim]          tied: h' = norm(h) + map norm(h)
 *   exit.i.up.weight [hidden][dim], exit.i.down.weight [dim][hidden]   mlp: h' = norm(h) + down
 *   silu(up norm(h))
 *   exit.i.output.weight         [vocab][dim]        full: the paper's independent head (rows =
 *                                vocab)
 *   exit.i.bias                  F32 [rows]          tied, mlp: added to the static shortlist's
 *                                logits in place of the model's output bias (optional)
 *   exit.i.other.weight          F32 [dim + 1]       score of "none of the listed tokens": w . h' +
 *                                bias (optional)
 *   exit.i.kv.L.k.weight, .v.weight [kv_dim][dim]    maps: rms(h) -> k (before RoPE), v of skipped
 *   layer L (optional; of the last head before
 *                                                     the last layer)
 *   exit.i.kv.L.k.bias, .v.bias  F32 [kv_dim]        (optional)
 */
#ifndef XL_HEADS_H
#define XL_HEADS_H
#include "gguf/gguf_write.h"
#include "model.h"

#define XL_HEADS_VERSION 2 /* the newest that is read */

typedef enum xl_head_form {
    XL_FORM_TIED,
    XL_FORM_MLP,
    XL_FORM_FULL,
    XL_FORM_LENS,
    XL_FORM_VOCABULARY,
    XL_FORM_COUNT
} xl_head_form;
extern const char *const xl_form_names[XL_FORM_COUNT];

typedef struct xl_head {
    uint32_t layer; /* layers run before it */
    xl_head_form form;
    uint32_t rows;      /* prefix of the shortlist; vocab for "full" */
    const float *norm;  /* [dim]; NULL: the model's output_norm (eps always the model's) */
    xl_matrix map;      /* tied */
    xl_matrix up, down; /* mlp */
    xl_matrix output;   /* full */
    const float *bias;  /* [rows] or NULL */
    const float *other; /* [dim + 1] or NULL */
    float logistic[6];
    float sampling_scale; /* (0, 1] */
    /* K/V maps of the layers layer … n_layers-1, index l - layer; NULL arrays: none in the file. */
    xl_matrix *map_k, *map_v;
    const float **map_k_bias, **map_v_bias;
} xl_head;

struct exitlm_heads {
    exitlm_allocator allocator;
    /* of the base model, as stored: checked against it */
    uint32_t n_heads, dim, kv_dim, n_layers, vocab;
    xl_head head[EXITLM_MAX_HEADS];
    uint32_t n_shortlist;
    const int32_t *shortlist; /* [n_shortlist] */
    exitlm_metric metric;
    exitlm_kv_policy kv;
    exitlm_kv_type kv_type;
    float default_accuracy; /* as the file names it; 0: it does not */
    char fingerprint[65];
    size_t n_levels;
    exitlm_level *levels;
    exitlm_heads_info info;
    void *owner;
    exitlm_heads *maps; /* that came later (exitlm_heads_add_maps), or NULL */
};

/* HEADS_MISMATCH where the heads are known to be another model's. Before the model's first
 * weights have come only sizes tell. */
exitlm_status xl_heads_check(const exitlm_heads *heads, const exitlm_model *model,
                             exitlm_error *error);

/* Most tokens of a reply in calibration where a row does not say. */
#define XL_CALIBRATED_TOKENS 96

/* How a reply is made, as far as what a level promises depends on it. */
typedef struct xl_use {
    exitlm_kv_type kv_type;
    float temperature;   /* 0: greedy */
    uint32_t max_tokens; /* that it may have */
} xl_use;

/* What of the use a row does not cover: the sum of these; 0: it fits. */
enum { XL_TOO_SHORT = 1, XL_TOO_COLD = 2, XL_OTHER_TYPE = 4 };
unsigned xl_level_misfit(const exitlm_level *level, const xl_use *use);
/* < 0: row a covers more of the use than b, the K/V type counting most, then the temperature, then
 * the length; 0: as much. */
int xl_level_compare(const exitlm_level *a, const exitlm_level *b, const xl_use *use);

/* The row for a wanted accuracy and use: of the certified rows of the strategy with this K/V policy,
 * at this accuracy or above, that which covers most of the use; of such the least strict, then that
 * for least else. NULL: none. */
const exitlm_level *xl_heads_row(const exitlm_heads *heads, exitlm_strategy strategy,
                                 float accuracy, exitlm_kv_policy kv, const xl_use *use);
bool xl_level_serves(const exitlm_level *level, exitlm_strategy strategy, float accuracy,
                     exitlm_kv_policy kv);
/* What is asked for where exits are audited: what other policies make wrong would not be seen. */
static inline exitlm_kv_policy xl_policy_of(exitlm_kv_policy asked, float audit) {
    return audit > 0 && asked == EXITLM_POLICY_AUTO ? EXITLM_POLICY_EXACT : asked;
}
/* The strictest certified level of the strategy with the K/V policy (AUTO: with any); 0: none. */
float xl_heads_strictest(const exitlm_heads *heads, exitlm_strategy strategy, exitlm_kv_policy kv);
/* Has the strategy rows of this policy, certified or not? */
bool xl_heads_calibrated(const exitlm_heads *heads, exitlm_strategy strategy, exitlm_kv_policy kv);
/* The head whose maps the policy `maps` uses: the last one before the last layer. Exits of earlier
 * heads wait, as with exact K/V, until a later token comes to its layer, and are mapped from
 * there: half of the way is made exactly, and what is left is guessed from close by. n_heads:
 * none. */
uint32_t xl_heads_mapping(const exitlm_heads *heads);
/* Multiply-adds of one of them. */
uint64_t xl_head_macs(const exitlm_heads *heads, const xl_head *head);

/* Names by value, with NULL at the end. */
extern const char *const xl_metric_names[],
    *const xl_policy_names[], *const xl_kv_type_names[], *const xl_strategy_names[];

/* Does the metric weigh what a check says, by exitlm.logistic? */
static inline bool xl_metric_weighs(exitlm_metric metric) {
    return metric == EXITLM_METRIC_LOGISTIC || metric == EXITLM_METRIC_REGRET;
}

/* The two tables of the file: rows as all programs know them, and those for other replies. */
typedef enum xl_level_table { XL_LEVELS_FIRST, XL_LEVELS_FURTHER, XL_LEVEL_TABLES } xl_level_table;
/* Their columns in their order in the file. */
#define XL_LEVEL_COLUMNS 19
typedef struct xl_level_column {
    const char *key; /* behind the table's name */
    size_t offset;   /* of the field in exitlm_level */
    enum { XL_COLUMN_FLOAT, XL_COLUMN_BOOL, XL_COLUMN_U32, XL_COLUMN_NAME } kind;
    enum {
        XL_COLUMN_NEEDED,
        XL_COLUMN_OPTIONAL,
        XL_COLUMN_FURTHER
    } where;                  /* FURTHER: only there */
    bool by_head;             /* an item for each head */
    float most;               /* FLOAT: items are 0 … most */
    const char *const *names; /* NAME: of the values of an enum */
} xl_level_column;
extern const xl_level_column xl_level_columns[XL_LEVEL_COLUMNS];
typedef char xl_level_key[64];
const char *xl_level_key_of(xl_level_key key, xl_level_table table, const xl_level_column *column);

/* ---- Writing a heads file (train, calibrate) ---- */
/* Plain f32 arrays, row major (a row = one output); NULL: the head has no such part. Nothing is
 * kept. */
typedef struct xl_head_source {
    uint32_t layer;
    xl_head_form form;
    uint32_t rows;                                      /* static shortlist; ignored for "full" */
    const float *norm;                                  /* [dim] */
    const float *map;                                   /* [dim][dim], tied */
    uint32_t hidden;                                    /* mlp */
    const float *up, *down;                             /* [hidden][dim] [dim][hidden] */
    const float *output;                                /* [vocab][dim], full */
    const float *bias;                                  /* [rows] */
    const float *other;                                 /* [dim + 1] */
    float logistic[6];                                  /* written where the metric weighs */
    float sampling_scale;                               /* 0: 1 */
    const float *const *map_k, *const *map_v;           /* [n_layers - layer] of [kv_dim][dim] */
    const float *const *map_k_bias, *const *map_v_bias; /* [n_layers - layer] of [kv_dim] */
} xl_head_source;

typedef struct xl_heads_source {
    const char *fingerprint, *base_name, *licence, *data; /* NULL: "" (not the fingerprint) */
    uint32_t n_layers, dim, kv_dim, vocab;                /* of the base model */
    uint32_t n_heads;
    xl_head_source head[EXITLM_MAX_HEADS];
    uint32_t n_shortlist;
    const int32_t *shortlist;
    exitlm_metric metric;
    exitlm_kv_policy kv;
    exitlm_kv_type kv_type;
    size_t n_levels;
    const exitlm_level *levels;
    xl_type matrix_type; /* of maps and matrices: XL_F32, XL_F16 or XL_Q8_0 */
} xl_heads_source;

/* Appends the whole file to the empty buffer `out`. USAGE for what the format cannot hold,
 * OUT_OF_MEMORY. */
exitlm_status xl_heads_write(const xl_heads_source *source, xl_buffer *out, exitlm_error *error);

/* What calibration changes in a heads file. */
typedef struct xl_heads_calibration {
    exitlm_metric metric;
    exitlm_kv_policy kv;
    exitlm_kv_type kv_type;
    const float *logistic; /* [n_heads * 6]; NULL: as in the file */
    const char *data;      /* a line on the data; NULL: as in the file */
    size_t n_levels;
    const exitlm_level *levels;
} xl_heads_calibration;
/* Copies the heads file `bytes` with a new calibration to the empty buffer `out`; tensors byte
 * for byte. */
exitlm_status xl_heads_rewrite(const void *bytes, size_t n_bytes,
                               const xl_heads_calibration *calibration, xl_buffer *out,
                               exitlm_error *error);
/* Copies the heads file `bytes` with another default level, certified in its table (else USAGE),
 * to the empty buffer `out`; all else as it is. */
exitlm_status xl_heads_with_default(const void *bytes, size_t n_bytes, float accuracy,
                                    xl_buffer *out, exitlm_error *error);
/* Copies the heads file `bytes` without its K/V maps, which are most of it and which only the
 * policy `maps` wants, to the empty buffer `out`. */
exitlm_status xl_heads_without_maps(const void *bytes, size_t n_bytes, xl_buffer *out,
                                    exitlm_error *error);

#endif
