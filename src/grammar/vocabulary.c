#include "vocabulary.h"

#include "automaton.h"
#include "base/alloc.h"
#include "base/bytes.h"
#include "base/utf8.h"
#include "text/unicode.h"

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

/* False: no memory. */
static bool join(tree *t, const uint8_t *bytes, size_t n, int32_t id, bool replaces) {
    uint32_t at = 0;
    for (size_t i = 0; i < n; i++) {
        at = child_of(t, at, bytes[i]);
        if (!at) return false;
    }
    if (t->nodes[at].id < 0 || replaces) t->nodes[at].id = id;
    return true;
}

static bool join_token(tree *t, const xl_tokenizer *tokenizer, int32_t id) {
    char bytes[XL_MAX_SPOKEN_BYTES];
    const unsigned attributes = xl_token_attributes(tokenizer, id);
    if (attributes & (XL_TOKEN_CONTROL | XL_TOKEN_UNUSED)) return true;
    const size_t n = xl_token_bytes(tokenizer, id, bytes, sizeof bytes);
    return n == 0 || join(t, (const uint8_t *)bytes, n, id, !(attributes & XL_TOKEN_BYTE));
}

/* Characters of what is text and nothing else, up to XL_MOST_TEXT; 0: it is not, or is longer. */
static uint32_t text_length(const uint8_t *bytes, uint32_t n) {
    uint32_t length = 0;
    for (uint32_t i = 0; i < n; length++) {
        uint32_t character;
        if (length == XL_MOST_TEXT || !xl_utf8_sequence((const char *)bytes + i, n - i)) return 0;
        i += (uint32_t)xl_utf8_decode_lenient(bytes + i, bytes + n, &character);
        if (!xl_is_text(character)) return 0;
    }
    return length;
}

typedef struct walk {
    xl_vocabulary *v;
    const tree *all;
    tree *other;
    uint8_t bytes[XL_MAX_SPOKEN_BYTES]; /* on the way here */
} walk;

/* Divides the tokens below a node into texts and others; recursion is as deep as the longest text.
 * False: no memory. */
static bool divide(walk *w, uint32_t parent, uint32_t depth) {
    const node *nodes = w->all->nodes;
    for (uint32_t c = nodes[parent].child; c; c = nodes[c].sibling) {
        w->bytes[depth] = nodes[c].byte;
        if (nodes[c].id >= 0) {
            const uint32_t length = text_length(w->bytes, depth + 1);
            if (length) xl_mask_set(w->v->text + length * w->v->mask_words, (uint32_t)nodes[c].id);
            else if (!join(w->other, w->bytes, depth + 1, nodes[c].id, true)) return false;
        }
        if (!divide(w, c, depth + 1)) return false;
    }
    return true;
}

static void write_children(const tree *t, uint32_t parent, xl_token_tree *to, uint32_t *at) {
    for (uint32_t c = t->nodes[parent].child; c; c = t->nodes[c].sibling) {
        const uint32_t here = (*at)++;
        to->byte[here] = t->nodes[c].byte;
        to->id[here] = t->nodes[c].id;
        write_children(t, c, to, at);
        to->end[here] = *at;
    }
}

static void lay_out_tree(xl_token_tree *tree, xl_arena *arena) {
    tree->byte = xl_arena_take(arena, tree->n, sizeof *tree->byte);
    tree->end = xl_arena_take(arena, tree->n, sizeof *tree->end);
    tree->id = xl_arena_take(arena, tree->n, sizeof *tree->id);
}

static void lay_out(xl_vocabulary *v, xl_arena *arena) {
    v->ends = xl_arena_take(arena, v->n_ends, sizeof *v->ends);
    lay_out_tree(&v->all, arena);
    lay_out_tree(&v->other, arena);
}

static bool write_down(const tree *all, const tree *other, xl_vocabulary *v, uint32_t n_tokens) {
    uint32_t at = 0, n = 0;
    xl_arena arena = {0};
    v->all.n = all->n - 1;
    v->other.n = other->n - 1;
    lay_out(v, &arena);
    v->block = xl_calloc(&v->allocator, v->block_bytes = arena.used_bytes, 1);
    if (!v->block) return false;
    arena = (xl_arena){.base = v->block, .capacity_bytes = v->block_bytes};
    lay_out(v, &arena);
    write_children(all, 0, &v->all, &at);
    at = 0;
    write_children(other, 0, &v->other, &at);
    for (uint32_t id = 0; id < n_tokens; id++)
        if (xl_token_is_eog(v->tokenizer, (int32_t)id)) v->ends[n++] = (int32_t)id;
    return true;
}

static bool begin_tree(tree *t, const exitlm_allocator *allocator, uint32_t capacity) {
    *t = (tree){.allocator = allocator, .n = 1, .capacity = capacity};
    t->nodes = xl_calloc(allocator, capacity, sizeof *t->nodes);
    return t->nodes != NULL;
}

static size_t text_words(const xl_vocabulary *v) {
    return (size_t)(XL_MOST_TEXT + 1) * v->mask_words;
}

void xl_vocabulary_free(xl_vocabulary *v) {
    if (!v) return;
    const exitlm_allocator allocator = v->allocator;
    xl_free(&allocator, v->block, v->block_bytes, 1);
    xl_free(&allocator, v->text, text_words(v), sizeof *v->text);
    xl_free(&allocator, v, 1, sizeof *v);
}

xl_vocabulary *xl_vocabulary_create(const xl_tokenizer *tokenizer,
                                    const exitlm_allocator *allocator) {
    xl_tokenizer_info info;
    xl_tokenizer_describe(tokenizer, &info);
    xl_vocabulary *v = xl_calloc(allocator, 1, sizeof *v);
    if (!v) return NULL;
    *v = (xl_vocabulary){
        .allocator = *allocator, .tokenizer = tokenizer, .mask_words = (info.n_tokens + 63) / 64};
    tree all, other;
    v->text = xl_calloc(allocator, text_words(v), sizeof *v->text);
    bool good = begin_tree(&all, allocator, 2 * info.n_tokens + 2);
    good &= begin_tree(&other, allocator, info.n_tokens / 4 + 2) && v->text;
    for (uint32_t id = 0; id < info.n_tokens && good; id++) {
        good = join_token(&all, tokenizer, (int32_t)id);
        v->n_ends += xl_token_is_eog(tokenizer, (int32_t)id);
    }
    walk divided = {.v = v, .all = &all, .other = &other};
    good = good && divide(&divided, 0, 0) && write_down(&all, &other, v, info.n_tokens);
    if (good)
        for (size_t i = v->mask_words; i < text_words(v); i++)
            v->text[i] |= v->text[i - v->mask_words]; /* with those that are shorter */
    xl_free(allocator, all.nodes, all.capacity, sizeof *all.nodes);
    xl_free(allocator, other.nodes, other.capacity, sizeof *other.nodes);
    if (good) return v;
    xl_vocabulary_free(v);
    return NULL;
}
