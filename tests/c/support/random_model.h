/* Models with random weights, as GGUF files in memory: small, the same bytes on every machine, of
 * any architecture and weight type that the engine supports. Their text is nonsense but varied. */
#ifndef RANDOM_MODEL_H
#define RANDOM_MODEL_H
#include "gguf/gguf_write.h"
#include "kernel/quant.h"

typedef struct random_model {
    const char *arch;      /* any of model.c's */
    const char *type;      /* of the layers' matrices: "Q4_K", …, or "mixed" */
    const char *embedding; /* type of token_embd and output */
    uint32_t dim, ffn_dim, layers, heads, kv_heads, context_tokens;
    uint32_t head_dim;  /* 0: dim / heads */
    uint32_t rope_dims; /* 0: head_dim */
    uint32_t window;    /* of two layers in three; 0: none */
    uint32_t merges;    /* vocabulary: 3 special tokens, 256 bytes, and so many merges */
    bool pieces;        /* the same texts as SentencePiece's vocabulary */
    bool untied;        /* a separate output matrix */
    bool rope_freqs;    /* Llama 3's factors */
    float rope_linear;  /* factor of linear scaling; 0: none */
    bool shuffled;      /* layers in the order 0, 1, 10, 2, … and the embedding last */
    bool extra;         /* a tensor that nobody needs */
    uint32_t alignment; /* 32 */
    uint64_t seed;
} random_model;

/* tests/data/tiny.gguf. */
void random_model_defaults(random_model *model);
/* One model of each family that is not llama's, qwen2's or qwen3's, in small. */
#define RANDOM_FAMILIES 4
void random_model_family(random_model *model, uint32_t number);
/* The file to the empty buffer `out`. False where a size or type does not fit, or there is no
 * memory. */
bool random_model_write(const random_model *model, xl_buffer *out);
/* Cuts a file into `n` parts as llama.cpp's splitting does: all keys in the first, runs of
 * tensors in each. `parts`: n empty buffers. */
bool random_model_split(const xl_buffer *file, uint32_t n, xl_buffer *parts);

#endif
