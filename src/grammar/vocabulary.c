#include "vocabulary.h"

#include "base/alloc.h"

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

static bool take(xl_vocabulary *v, const exitlm_allocator *allocator, uint32_t n, uint32_t n_ends) {
    *v = (xl_vocabulary){.n = n, .n_ends = n_ends};
    v->byte = xl_calloc(allocator, n, sizeof *v->byte);
    v->end = xl_calloc(allocator, n, sizeof *v->end);
    v->id = xl_calloc(allocator, n, sizeof *v->id);
    v->ends = xl_calloc(allocator, n_ends ? n_ends : 1, sizeof *v->ends);
    return v->byte && v->end && v->id && v->ends;
}

void xl_vocabulary_free(xl_vocabulary *v, const exitlm_allocator *allocator) {
    xl_free(allocator, v->byte, v->n, sizeof *v->byte);
    xl_free(allocator, v->end, v->n, sizeof *v->end);
    xl_free(allocator, v->id, v->n, sizeof *v->id);
    xl_free(allocator, v->ends, v->n_ends ? v->n_ends : 1, sizeof *v->ends);
    *v = (xl_vocabulary){0};
}

/* Writes the tree down in the order of a walk; recursion is as deep as the longest text. */
static void write_children(const tree *t, uint32_t parent, xl_vocabulary *v, uint32_t *at) {
    for (uint32_t c = t->nodes[parent].child; c; c = t->nodes[c].sibling) {
        const uint32_t here = (*at)++;
        v->byte[here] = t->nodes[c].byte;
        v->id[here] = t->nodes[c].id;
        write_children(t, c, v, at);
        v->end[here] = *at;
    }
}

static void write_ends(xl_vocabulary *v, const xl_tokenizer *tokenizer, uint32_t n_tokens) {
    uint32_t n = 0;
    for (uint32_t id = 0; id < n_tokens; id++)
        if (xl_token_is_eog(tokenizer, (int32_t)id)) v->ends[n++] = (int32_t)id;
}

bool xl_vocabulary_create(xl_vocabulary *v, const xl_tokenizer *tokenizer,
                          const exitlm_allocator *allocator) {
    xl_tokenizer_info info;
    xl_tokenizer_describe(tokenizer, &info);
    tree t = {.allocator = allocator, .n = 1, .capacity = 2 * info.n_tokens + 2};
    t.nodes = xl_calloc(allocator, t.capacity, sizeof *t.nodes);
    bool good = t.nodes != NULL;
    uint32_t n_ends = 0, at = 0;
    for (uint32_t id = 0; id < info.n_tokens && good; id++) {
        good = join(&t, tokenizer, (int32_t)id);
        n_ends += xl_token_is_eog(tokenizer, (int32_t)id);
    }
    *v = (xl_vocabulary){0};
    good = good && take(v, allocator, t.n - 1, n_ends);
    if (good) {
        write_children(&t, 0, v, &at);
        write_ends(v, tokenizer, info.n_tokens);
    }
    xl_free(allocator, t.nodes, t.capacity, sizeof *t.nodes);
    if (!good) xl_vocabulary_free(v, allocator);
    return good;
}
