#include "vocabulary.h"

#include "base/alloc.h"
#include "base/bytes.h"

/* The tree while tokens join it: children are lists in the order of their bytes. */
typedef struct node {
    uint32_t child, sibling; /* 0: none */
    int32_t id;
    uint8_t byte;
} node;

typedef struct tree {
    const exitlm_allocator *allocator;
    node *nodes; /* [capacity], the first is the root */
    uint32_t n, capacity;
} tree;

/* The child of `parent` by this byte, new where it has none; 0: no memory. */
static uint32_t child_of(tree *t, uint32_t parent, uint8_t byte) {
    uint32_t before = 0, at = t->nodes[parent].child;
    while (at && t->nodes[at].byte < byte) {
        before = at;
        at = t->nodes[at].sibling;
    }
    if (at && t->nodes[at].byte == byte) return at;
    if (t->n == t->capacity) {
        if (!xl_grow(t->allocator, (void **)&t->nodes, t->capacity, 2 * (size_t)t->capacity,
                     sizeof *t->nodes))
            return 0;
        t->capacity *= 2;
    }
    t->nodes[t->n] = (node){.sibling = at, .id = -1, .byte = byte};
    if (before) t->nodes[before].sibling = t->n;
    else t->nodes[parent].child = t->n;
    return t->n++;
}

static bool join(tree *t, const xl_tokenizer *tokenizer, int32_t id) {
    char bytes[XL_MAX_SPOKEN_BYTES];
    const unsigned attributes = xl_token_attributes(tokenizer, id);
    if (attributes & (XL_TOKEN_CONTROL | XL_TOKEN_UNUSED)) return true;
    const size_t n = xl_token_bytes(tokenizer, id, bytes, sizeof bytes);
    if (n == 0) return true;
    uint32_t at = 0;
    for (size_t i = 0; i < n; i++) {
        at = child_of(t, at, (uint8_t)bytes[i]);
        if (!at) return false;
    }
    if (t->nodes[at].id < 0 || !(attributes & XL_TOKEN_BYTE)) t->nodes[at].id = id;
    return true;
}

static void lay_out(xl_vocabulary *v, xl_arena *arena) {
    v->byte = xl_arena_take(arena, v->n, sizeof *v->byte);
    v->plain = xl_arena_take(arena, v->n, sizeof *v->plain);
    v->end = xl_arena_take(arena, v->n, sizeof *v->end);
    v->rank = xl_arena_take(arena, v->n + 1, sizeof *v->rank);
    v->ids = xl_arena_take(arena, v->n_tokens, sizeof *v->ids);
    v->ends = xl_arena_take(arena, v->n_ends, sizeof *v->ends);
}

void xl_vocabulary_free(xl_vocabulary *v) {
    if (!v) return;
    const exitlm_allocator allocator = v->allocator;
    xl_free(&allocator, v->block, v->block_bytes, 1);
    xl_free(&allocator, v, 1, sizeof *v);
}

/* Writes the tree down in the order of a walk; recursion is as deep as the longest text. Returns
 * the bytes of the longest way below; *plain: all of them are. */
static uint32_t write_children(const tree *t, uint32_t parent, xl_vocabulary *v, uint32_t *at,
                               bool *plain) {
    uint32_t tallest = 0;
    *plain = true;
    for (uint32_t c = t->nodes[parent].child; c; c = t->nodes[c].sibling) {
        const uint32_t here = (*at)++;
        bool below;
        v->byte[here] = t->nodes[c].byte;
        v->rank[here] = v->n_tokens;
        if (t->nodes[c].id >= 0) v->ids[v->n_tokens++] = t->nodes[c].id;
        const uint32_t height = 1 + write_children(t, c, v, at, &below);
        below = below && xl_is_plain(t->nodes[c].byte) && height <= UINT8_MAX;
        v->plain[here] = below ? (uint8_t)height : 0;
        if (v->plain[here] > v->tallest) v->tallest = v->plain[here];
        v->end[here] = *at;
        tallest = xl_max_u32(tallest, height);
        *plain &= below;
    }
    return tallest;
}

static void write_down(const tree *t, xl_vocabulary *v, uint32_t n_tokens) {
    uint32_t at = 0, n = 0;
    bool plain;
    v->n_tokens = 0;
    write_children(t, 0, v, &at, &plain);
    v->rank[at] = v->n_tokens;
    for (uint32_t id = 0; id < n_tokens; id++)
        if (xl_token_is_eog(v->tokenizer, (int32_t)id)) v->ends[n++] = (int32_t)id;
}

xl_vocabulary *xl_vocabulary_create(const xl_tokenizer *tokenizer,
                                    const exitlm_allocator *allocator) {
    xl_tokenizer_info info;
    xl_tokenizer_describe(tokenizer, &info);
    xl_vocabulary *v = xl_calloc(allocator, 1, sizeof *v);
    if (!v) return NULL;
    *v = (xl_vocabulary){.allocator = *allocator, .tokenizer = tokenizer};
    tree t = {.allocator = allocator, .n = 1, .capacity = 2 * info.n_tokens + 2};
    t.nodes = xl_calloc(allocator, t.capacity, sizeof *t.nodes);
    bool good = t.nodes != NULL;
    for (uint32_t id = 0; id < info.n_tokens && good; id++) {
        good = join(&t, tokenizer, (int32_t)id);
        v->n_ends += xl_token_is_eog(tokenizer, (int32_t)id);
    }
    for (uint32_t i = 1; i < t.n; i++) v->n_tokens += t.nodes[i].id >= 0;
    v->n = t.n - 1;
    xl_arena arena = {0};
    lay_out(v, &arena);
    if (good) v->block = xl_calloc(allocator, v->block_bytes = arena.used_bytes, 1);
    if (v->block) {
        arena = (xl_arena){.base = v->block, .capacity_bytes = v->block_bytes};
        lay_out(v, &arena);
        write_down(&t, v, info.n_tokens);
    }
    xl_free(allocator, t.nodes, t.capacity, sizeof *t.nodes);
    if (v->block) return v;
    xl_vocabulary_free(v);
    return NULL;
}
