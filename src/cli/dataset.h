/* What --data names: conversations to answer, conversations as they stand, or plain text.
 *
 *   JSONL  {"turns": ["…", …]}                     user turns: the model itself writes the answers
 *          {"messages": [{"role", "content"}, …]}  a chat as it stands: its assistant turns are the text
 *          {"text": "…"}                           plain text
 *          "split" ("train", "calibration", "test") says who may use the line; without it everybody may
 *   .json  the same, one object or an array of them
 *   else   plain text, cut at blank lines into pieces of a few hundred words
 *   folder all files in it, sorted by name; hidden ones are left out */
#ifndef CLI_DATASET_H
#define CLI_DATASET_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum dataset_kind { DATASET_TURNS, DATASET_MESSAGES, DATASET_TEXT } dataset_kind;
typedef enum dataset_split { DATASET_ANY, DATASET_TRAIN, DATASET_CALIBRATION, DATASET_TEST } dataset_split;

typedef struct dataset_item {
    dataset_kind kind;
    dataset_split split;
    char **roles; /* [n] "system", "user", "assistant"; MESSAGES only, static strings */
    char **texts; /* [n] turns, contents, or one text */
    size_t n;
} dataset_item;

typedef struct dataset {
    dataset_item *items;
    size_t n, capacity;
} dataset;

/* Adds what `path` holds. 0, or the exit status of a failure that has been reported (file, line, what). */
int dataset_read(dataset *set, const char *path);
/* Adds one item whose texts are copied. False: no memory. */
bool dataset_add(dataset *set, dataset_kind kind, dataset_split split, const char *const *roles, const char *const *texts, size_t n);
/* Keeps what `split` may use, in place; items without a split are kept too. */
void dataset_keep(dataset *set, dataset_split split);
void dataset_free(dataset *set);
/* Does training keep item `index` (of what it may use) apart, to choose layers and lay out thresholds? One in eight. */
bool dataset_held_out(uint64_t seed, uint32_t index);

#endif
