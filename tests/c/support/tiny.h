/* The tiny model of tests/data, random exit heads for it, and short ways through the engine. */
#ifndef TINY_H
#define TINY_H
#include "reply/session.h"

/* Whole file; the caller frees. Exits the test with a message where it cannot be read. */
uint8_t *tiny_read(const char *path, size_t *n_bytes);
/* tests/data/tiny.gguf, with heads (may be NULL) known to the loader. */
exitlm_model *tiny_load(const exitlm_heads *heads);
/* The same of any file in memory. */
exitlm_model *tiny_load_bytes(const void *bytes, size_t n_bytes, const exitlm_heads *heads);
exitlm_model *tiny_load_with(const void *bytes, size_t n_bytes, const exitlm_load_options *options);
/* A heads file for `model`: heads after `layers[0..n)`; a layer equal to the model's last makes a
 * vocabulary exit. Weights are pseudo-random from the seed, small enough for the heads to agree
 * often. With maps of K/V. The caller frees it. */
void tiny_heads_file(const exitlm_model *model, const uint32_t *layers, uint32_t n, uint32_t rows,
                     uint64_t seed, xl_buffer *out);
exitlm_heads *tiny_heads(const exitlm_model *model, const uint32_t *layers, uint32_t n,
                         uint32_t rows, uint64_t seed);
/* The same with what else a file may have: MLPs, a scale for samples, a metric that was learnt, levels
 * of two K/V policies, another threshold for the first token. */
exitlm_heads *tiny_mixed_heads(const exitlm_model *model, const uint32_t *layers, uint32_t n,
                               uint32_t rows, uint64_t seed);
exitlm_session *tiny_session(const exitlm_model *model, const exitlm_session_options *options);

typedef struct tiny_reply {
    int32_t ids[512];
    int32_t heads[512];
    uint16_t layers[512];
    float work[512];
    uint32_t n, disagreed;
    size_t text_bytes;
    char text[8192];    /* of the tokens, joined */
    exitlm_stats stats; /* its text is copied to `text` too: compare with whole */
    char whole[8192];
} tiny_reply;
/* Takes what a step has given to a reply that began as zeros; true: it is done. */
bool tiny_take(exitlm_session *s, const exitlm_event *event, tiny_reply *reply);
/* Runs the reply that has been started to its end. */
void tiny_run(exitlm_session *s, tiny_reply *reply);

#define CHECK_OK(call)                                                                     \
    do {                                                                                   \
        exitlm_error error_ = {0};                                                         \
        exitlm_status status_ = (call);                                                    \
        if (status_ != EXITLM_OK) {                                                        \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, error_.message); \
            exit(1);                                                                       \
        }                                                                                  \
    } while (0)
#endif
