/* What --data names: conversations to answer, conversations as they stand, or plain text.
 *
 *   JSONL  {"turns": ["…", …]}                     user turns: the model itself writes the answers
 *          {"messages": [{"role", "content"}, …]}  a chat as it stands: its assistant turns are the
 *          text
 *          {"prompt": "…"}                         the beginning of a text: the model itself goes on
 *          {"text": "…"}                           plain text
 *          "split" ("train", "calibration", "test") says who may use the line; without it everybody
 *          may; another is refused
 *   .json  the same, one object or an array of them
 *   else   plain text, cut at blank lines into pieces of a few hundred words
 *   folder all files in it, sorted by name; hidden ones are left out */
#ifndef XL_DATASET_H
#define XL_DATASET_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/sha256.h"
#include "base/status.h"

typedef enum xl_dataset_kind {
    XL_DATASET_TURNS,
    XL_DATASET_MESSAGES,
    XL_DATASET_PROMPT,
    XL_DATASET_TEXT
} xl_dataset_kind;
typedef enum xl_dataset_split {
    XL_DATASET_ANY,
    XL_DATASET_TRAIN,
    XL_DATASET_CALIBRATION,
    XL_DATASET_TEST
} xl_dataset_split;

typedef struct xl_dataset_item {
    xl_dataset_kind kind;
    xl_dataset_split split;
    char **roles; /* [n] "system", "user", "assistant"; MESSAGES only, static strings */
    char **texts; /* [n] turns, contents, or one text */
    size_t n;
} xl_dataset_item;

typedef struct xl_dataset {
    xl_dataset_item *items;
    size_t n, capacity;
} xl_dataset;

/* "system", "user" or "assistant" as a static string; NULL for anything else. */
const char *xl_known_role(const char *role);
/* Adds what `path` holds. The message of a failure tells file, line, what. */
exitlm_status xl_dataset_read(xl_dataset *set, const char *path, exitlm_error *error);
/* Adds one item whose texts are copied. False: no memory. */
bool xl_dataset_add(xl_dataset *set, xl_dataset_kind kind, xl_dataset_split split,
                    const char *const *roles, const char *const *texts, size_t n);
/* Keeps what `split` may use, in place; items without a split are kept too. */
void xl_dataset_keep(xl_dataset *set, xl_dataset_split split);
/* Into an order that depends on their number alone. False: no memory, and nothing has changed. */
bool xl_dataset_shuffle(xl_dataset *set);
void xl_dataset_drop(xl_dataset *set, size_t index);
/* Drops items 0, n, 2n, … in place. */
void xl_dataset_drop_every(xl_dataset *set, size_t n);
void xl_dataset_free(xl_dataset *set);
/* Does the model write what comes, or does the data say it? */
static inline bool xl_dataset_answered(const xl_dataset_item *item) {
    return item->kind == XL_DATASET_TURNS || item->kind == XL_DATASET_PROMPT;
}
/* Does training keep item `index` (of what it may use) apart, to choose layers and lay out
 * thresholds? One in eight. */
bool xl_dataset_held_out(uint64_t seed, uint32_t index);
/* Adds all that the set says to a hash. */
void xl_dataset_hash(const xl_dataset *set, xl_sha256 *sha);

#endif
