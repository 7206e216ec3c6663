/* Greedy merging of neighbouring symbols, shared by both kinds of BPE: short
 * words by looking through them, long ones with a heap, so that a megabyte of the same
 * character does not take quadratic time. */
#include "base/alloc.h"
#include "vocab.h"

#include <string.h>

#define NO_KEY UINT32_MAX
#define SCAN_MAX 48u /* up to here looking through all pairs is the faster way */

/* ---- Work memory ---- */

static void use_small(xl_work *work) {
    work->value = work->small;
    work->prev = work->value + XL_WORK_SMALL;
    work->next = work->prev + XL_WORK_SMALL;
    work->key = work->next + XL_WORK_SMALL;
    work->heap = work->small_heap;
    work->capacity = XL_WORK_SMALL;
}

#define SYMBOL_BYTES (4 * sizeof(uint32_t) + 2 * sizeof(uint64_t))

static void drop_block(xl_work *work) {
    if (work->block) xl_free(work->allocator, work->block, work->capacity, SYMBOL_BYTES);
    work->block = NULL;
    use_small(work);
}

void xl_work_init(xl_work *work, const exitlm_allocator *allocator) {
    work->allocator = allocator;
    work->block = NULL;
    work->text = NULL;
    work->text_bytes = 0;
    use_small(work);
}

void xl_work_free(xl_work *work) {
    drop_block(work);
    if (work->text) xl_free(work->allocator, work->text, work->text_bytes, 1);
    work->text = NULL;
}

bool xl_work_reserve(xl_work *work, size_t n) {
    if (n <= work->capacity) return true;
    if (n > UINT32_MAX / 2 || n > SIZE_MAX / SYMBOL_BYTES) return false;
    drop_block(work);
    void *block = work->allocator->alloc(work->allocator->user, n * SYMBOL_BYTES, XL_ALIGN);
    if (!block) return false;
    work->block = block;
    work->capacity = (uint32_t)n;
    work->heap = block;
    work->value = (uint32_t *)(work->heap + 2 * n);
    work->prev = work->value + n;
    work->next = work->prev + n;
    work->key = work->next + n;
    return true;
}

bool xl_work_text(xl_work *work, size_t n_bytes) {
    if (n_bytes <= work->text_bytes) return true;
    if (work->text) xl_free(work->allocator, work->text, work->text_bytes, 1);
    work->text_bytes = 0;
    work->text = work->allocator->alloc(work->allocator->user, n_bytes, XL_ALIGN);
    if (!work->text) return false;
    work->text_bytes = n_bytes;
    return true;
}

/* ---- Short words ---- */

/* work->key[i] is the key of symbols i and i + 1; work->next[i] what they merge to. */
static void look_at_pair(xl_work *work, uint32_t i, uint32_t n, uint32_t end_value,
                         xl_pair_fn *pair, const void *context) {
    uint32_t after = i + 2 < n ? work->value[i + 2] : end_value;
    if (!pair(context, work->value[i], work->value[i + 1], after, &work->key[i], &work->next[i]))
        work->key[i] = NO_KEY;
}

static uint32_t merge_by_scan(xl_work *work, uint32_t n, uint32_t end_value, xl_pair_fn *pair,
                              const void *context) {
    for (uint32_t i = 0; i + 1 < n; i++) look_at_pair(work, i, n, end_value, pair, context);
    while (n > 1) {
        uint32_t best = 0;
        for (uint32_t i = 1; i + 1 < n; i++)
            if (work->key[i] < work->key[best]) best = i;
        if (work->key[best] == NO_KEY) break;
        work->value[best] = work->next[best];
        for (uint32_t i = best + 1; i + 1 < n; i++) {
            work->value[i] = work->value[i + 1];
            work->key[i] = work->key[i + 1];
            work->next[i] = work->next[i + 1];
        }
        n--;
        if (best + 1 < n) look_at_pair(work, best, n, end_value, pair, context);
        if (best > 0) look_at_pair(work, best - 1, n, end_value, pair, context);
    }
    return n;
}

/* ---- Long words: a linked list of symbols and a heap of pairs, key << 32 | left ---- */

typedef struct long_word {
    xl_work *work;
    uint32_t n, end_value, n_heap;
    xl_pair_fn *pair;
    const void *context;
} long_word;

static void heap_push(long_word *w, uint64_t item) {
    uint64_t *heap = w->work->heap;
    uint32_t at = w->n_heap++;
    while (at > 0 && heap[(at - 1) / 2] > item) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = item;
}

static uint64_t heap_pop(long_word *w) {
    uint64_t *heap = w->work->heap;
    uint64_t top = heap[0], item = heap[--w->n_heap];
    uint32_t at = 0;
    for (uint32_t child; (child = 2 * at + 1) < w->n_heap; at = child) {
        if (child + 1 < w->n_heap && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= item) break;
        heap[at] = heap[child];
    }
    heap[at] = item;
    return top;
}

static bool find_pair(const long_word *w, uint32_t left, uint32_t *key, uint32_t *merged) {
    const xl_work *work = w->work;
    uint32_t right = work->next[left];
    if (right >= w->n) return false;
    uint32_t after = work->next[right] < w->n ? work->value[work->next[right]] : w->end_value;
    return w->pair(w->context, work->value[left], work->value[right], after, key, merged);
}

static void push_pair(long_word *w, uint32_t left) {
    uint32_t merged;
    if (find_pair(w, left, &w->work->key[left], &merged))
        heap_push(w, (uint64_t)w->work->key[left] << 32 | left);
    else w->work->key[left] = NO_KEY;
}

/* Every push but the first n - 1 belongs to a merge, which takes one item out and puts at most two
 * in: the heap never holds more than 2 n items. Items whose pair has changed since are recognised
 * by their key: the pair at a symbol changes only by growing, and never grows back. */
static uint32_t merge_by_heap(xl_work *work, uint32_t n, uint32_t end_value, xl_pair_fn *pair,
                              const void *context) {
    long_word w = {work, n, end_value, 0, pair, context};
    for (uint32_t i = 0; i < n; i++) {
        work->prev[i] = i - 1;
        work->next[i] = i + 1;
    }
    for (uint32_t i = 0; i < n; i++) push_pair(&w, i);
    while (w.n_heap) {
        uint64_t item = heap_pop(&w);
        uint32_t left = (uint32_t)item, key, merged;
        if (work->key[left] != item >> 32 || !find_pair(&w, left, &key, &merged)) continue;
        uint32_t right = work->next[left], after = work->next[right];
        work->value[left] = merged;
        work->key[right] = NO_KEY;
        work->next[left] = after;
        if (after < n) work->prev[after] = left;
        push_pair(&w, left);
        if (left > 0) push_pair(&w, work->prev[left]);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i = work->next[i]) work->value[kept++] = work->value[i];
    return kept;
}

uint32_t xl_merge_symbols(xl_work *work, uint32_t n, uint32_t end_value, xl_pair_fn *pair,
                          const void *context) {
    return n <= SCAN_MAX ? merge_by_scan(work, n, end_value, pair, context)
                         : merge_by_heap(work, n, end_value, pair, context);
}
