/* The model in memory: hyperparameters, where every weight lies, what is there yet.
 * Data's way: bytes -> gguf (parse) -> loader (weights to their tiles) -> model -> forward. */
#ifndef XL_MODEL_H
#define XL_MODEL_H
#include "base/alloc.h"
#include "exitlm.h"
#include "grammar/vocabulary.h"
#include "kernel/kernels.h"
#include "kernel/quant.h"
#include "text/template.h"
#include "text/tokenizer.h"

/* A matrix [rows][cols] in tiles of 8 rows (see quant.h), y = W x. */
typedef struct xl_matrix {
    const uint8_t *data; /* NULL: this model has no such matrix */
    xl_type type;        /* of quant.h's list */
    uint32_t rows, cols; /* rows as in the file; storage is padded to a multiple of 8 */
} xl_matrix;

typedef enum xl_arch_id {
    XL_ARCH_LLAMA,
    XL_ARCH_SMOLLM3,
    XL_ARCH_QWEN2,
    XL_ARCH_QWEN3,
    XL_ARCH_GEMMA3,
    XL_ARCH_GPTNEOX,
    XL_ARCH_PHI2,
    XL_ARCH_COUNT
} xl_arch_id;

const char *xl_arch_name(xl_arch_id arch); /* as general.architecture has it */

typedef struct xl_config {
    xl_arch_id arch;
    xl_rope_style rope_style;
    xl_activation activation; /* of the feed-forward network */
    bool gated;               /* it has a gate beside `up` */
    bool parallel;            /* it takes the layer's input, not attention's output */
    /* kv_dim = n_kv_heads * head_dim */
    uint32_t n_layers, dim, ffn_dim, n_heads, n_kv_heads, head_dim, kv_dim;
    uint32_t q_dim; /* n_heads * head_dim */
    uint32_t vocab, context_tokens;
    float norm_eps;
    float embedding_scale, attention_scale;
    /* Every window_period-th layer looks at all positions, the others at the last `window` of them;
     * window 0: all layers look at all. */
    uint32_t window, window_period;
    /* angle = position * rope_scale / base^(2i/head_dim) [/ rope_factors[i]] */
    float rope_base, rope_scale;
    float local_rope_base; /* of layers with a window, without scale and factors */
    uint32_t rope_dims;    /* dimensions that rotate, <= head_dim */
    uint32_t rope_period;  /* every rope_period-th layer does not rotate; 0: all do */
} xl_config;

/* Does the layer look at the last `window` positions alone? */
static inline bool xl_layer_is_local(const xl_config *c, uint32_t layer) {
    return c->window && (layer + 1) % c->window_period;
}

typedef struct xl_norm {
    const float *weight; /* [dim] */
    const float *bias;   /* [dim]; NULL: the norm is RMS, else layer norm */
} xl_norm;

/* NULL vectors: this architecture has none. All f32. */
typedef struct xl_layer {
    xl_norm attn_norm, ffn_norm;           /* ffn_norm none: both read what attn_norm gives */
    xl_norm post_attn_norm, post_ffn_norm; /* of what is added to the residual stream */
    const float *q_norm, *k_norm;          /* [head_dim] */
    const float *bq, *bk, *bv, *bo;        /* [q_dim] [kv_dim] [kv_dim] [dim] */
    const float *b_up, *b_down;            /* [ffn] [dim] */
    xl_matrix wq, wk, wv, wo;       /* [q_dim][dim] [kv_dim][dim] [kv_dim][dim] [dim][q_dim] */
    xl_matrix w_gate, w_up, w_down; /* [ffn][dim] [ffn][dim] [dim][ffn] */
} xl_layer;

struct exitlm_model {
    exitlm_allocator allocator;
    xl_config config;
    xl_layer *layers; /* [n_layers] */
    xl_norm output_norm;
    const float *output_bias;  /* [vocab] by token id */
    const float *rope_factors; /* [rope_dims / 2] (rope_freqs.weight, Llama 3), or NULL */
    xl_matrix embedding;       /* [vocab][dim], rows in slot order */
    xl_matrix output;          /* the same matrix where the head is tied; slot order too */
    bool tied;
    /* Row order of embedding and output: without heads NULL (slot = id). With heads the
     * shortlist's ids come first, in its order, so that a head's shortlist is a prefix of the
     * matrix. */
    uint32_t *slot_of;         /* [vocab] */
    uint32_t *id_of;           /* [vocab] */
    const exitlm_heads *heads; /* those given to the loader, or NULL */
    xl_tokenizer *tokenizer;
    _Atomic(xl_vocabulary *) vocabulary; /* xl_model_vocabulary's; NULL before */
    xl_template chat;                    /* points into the metadata */
    /* Progress of loading; all monotone. `layers_ready` and `base_ready` may be
     * read while another thread of the same program pushes only under the caller's own lock. */
    bool base_ready;           /* what is in no layer is there, but for embedding and output */
    uint32_t layers_ready;     /* layers [0, layers_ready) are complete */
    uint32_t rows_ready_count; /* embedding rows there */
    uint32_t output_rows_ready_count; /* output rows there (the same number where tied) */
    uint8_t *row_ready;               /* [vocab] by token id: 1 = embedding row is there */
    uint8_t *output_row_ready;        /* the same array where tied */
    bool complete;
    char fingerprint[65];   /* hex SHA-256 or "" until its bytes are there */
    exitlm_model_info info; /* what exitlm_model_describe gives */
    /* loader's private storage: metadata blob, arena; freed by exitlm_model_free */
    void *owner;
};

/* The texts of its tokens as a tree, made when the first grammar wants it, from any thread. NULL: no
 * memory. */
const xl_vocabulary *xl_model_vocabulary(const exitlm_model *model);

static inline bool xl_rows_complete(const exitlm_model *m) {
    return m->rows_ready_count == m->config.vocab;
}
static inline bool xl_output_complete(const exitlm_model *m) {
    return m->output_rows_ready_count == m->config.vocab;
}
static inline uint32_t xl_slot(const exitlm_model *m, uint32_t id) {
    return m->slot_of ? m->slot_of[id] : id;
}
static inline uint32_t xl_id(const exitlm_model *m, uint32_t slot) {
    return m->id_of ? m->id_of[slot] : slot;
}

#endif
