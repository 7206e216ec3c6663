#include "grammar.h"

#include <math.h>
#include <string.h>

#include "automaton.h"
#include "base/bytes.h"
#include "base/status.h"
#include "regex.h"
#include "schema.h"
#include "tools.h"

enum {
    MAX_SETS = 1024,       /* kept at a time; 0 is no set, 1 the dead one */
    MAX_CONFIGS = 1 << 14, /* in all of them */
    MAX_IN_SET = 1024,     /* of one */
    MAX_STACKS = 1 << 13,  /* 0 is the empty one */
    STACK_SLOTS = 1 << 14,
    SET_SLOTS = 1 << 12,
    VISITED = 1 << 13,
    MASKS = 32,
    RECENT = 32,   /* tokens that a caller may go back and only these are looked at again */
    MOST_BACK = 9, /* that a reply goes back at once; who is further is another reply */
    TRAILS = 16,
    UNKNOWN = 0,
    DEAD = 1
};

/* A state within calls: `stack` says where they return to. */
typedef struct config {
    uint32_t state, stack;
} config;

typedef struct stack_node {
    uint32_t back, parent; /* the state after the call; the stack around it */
    uint16_t depth;
} stack_node;

typedef struct config_set {
    uint32_t first, n; /* in `configs` */
    uint32_t hash;
    int16_t mask;  /* index, -1: none */
    bool accepts;  /* the text may end here */
    uint16_t text; /* a set that every character of text leads to at least, DEAD: none */
    bool other;    /* other edges begin with a byte of text; known with `text` */
    uint16_t next[256];
} config_set;

/* What a reply has said: several may go side by side. */
typedef struct trail {
    int32_t id[RECENT];     /* ring: token i of the reply at i % RECENT */
    uint32_t set[RECENT];   /* the set after it */
    uint32_t n, known_from; /* sets of the tokens from here on are in the ring */
    uint64_t before;        /* hash of the tokens before these */
    uint64_t used;          /* when it was last asked for */
} trail;

struct exitlm_grammar {
    exitlm_allocator allocator;
    const xl_vocabulary *vocabulary;
    xl_automaton automaton;
    xl_grammar_kind kind;
    char *begun; /* [2 * XL_MAX_BEGUN] before each reply; NULL: nothing is */
    size_t n_begun;
    void *block;
    size_t block_bytes;
    config_set *sets;      /* [MAX_SETS] */
    config *configs;       /* [MAX_CONFIGS] */
    stack_node *stacks;    /* [MAX_STACKS] */
    uint16_t *moved;       /* [MAX_STACKS] scratch: where a stack is now */
    uint16_t *set_slots;   /* [SET_SLOTS] by hash, 0: free */
    uint16_t *stack_slots; /* [STACK_SLOTS] */
    uint32_t n_sets, n_configs, n_stacks;
    bool full;         /* something did not fit: all is forgotten before the next question */
    config *made;      /* [MAX_IN_SET] the set that is being made */
    uint32_t *visited; /* [VISITED] index in `seen` by hash, where `stamps` has this stamp */
    uint32_t *stamps;  /* [VISITED] */
    config *seen;      /* [VISITED / 2] all that was reached, in order */
    uint32_t stamp, n_made, n_seen, start;
    bool made_accepts;
    uint64_t *masks; /* [MASKS][mask_words of the vocabulary] */
    uint32_t next_mask;
    uint16_t mask_of[MASKS]; /* set, 0: free */
    trail trails[TRAILS];
    uint64_t questions;
};

/* ---- Sets ---- */

static uint32_t hash_pair(uint32_t a, uint32_t b) {
    return (uint32_t)xl_mix64((uint64_t)a << 32 | b);
}

static void forget(xl_grammar *g) {
    memset(g->set_slots, 0, SET_SLOTS * sizeof *g->set_slots);
    memset(g->stack_slots, 0, STACK_SLOTS * sizeof *g->stack_slots);
    memset(g->mask_of, 0, sizeof g->mask_of);
    g->n_sets = 2;
    g->sets[DEAD] = (config_set){.mask = -1};
    g->n_configs = 0;
    g->n_stacks = 1;
    g->stacks[0] = (stack_node){0};
    for (uint32_t i = 0; i < TRAILS; i++) {
        g->trails[i].n = g->trails[i].known_from = 0;
        g->trails[i].before = 0;
    }
    g->start = UNKNOWN;
    g->full = false;
}

/* The stack with a return on it; 0 with `full` where there is no room. */
static uint32_t push(xl_grammar *g, uint32_t back, uint32_t parent) {
    uint32_t slot = hash_pair(back, parent) % STACK_SLOTS;
    for (; g->stack_slots[slot]; slot = (slot + 1) % STACK_SLOTS) {
        const stack_node *node = &g->stacks[g->stack_slots[slot]];
        if (node->back == back && node->parent == parent) return g->stack_slots[slot];
    }
    if (g->n_stacks == MAX_STACKS) {
        g->full = true;
        return 0;
    }
    g->stacks[g->n_stacks] = (stack_node){back, parent, (uint16_t)(g->stacks[parent].depth + 1)};
    g->stack_slots[slot] = (uint16_t)g->n_stacks;
    return g->n_stacks++;
}

/* Does it lead to the end of the text within the depth that is left? */
static bool leads_on(const xl_grammar *g, uint32_t state, uint32_t stack) {
    return g->automaton.need[state] + g->stacks[stack].depth <= XL_MAX_CALLS;
}

/* Joins what has been reached, once. */
static void reach(xl_grammar *g, uint32_t state, uint32_t stack) {
    if (!leads_on(g, state, stack)) return;
    uint32_t slot = hash_pair(state, stack) % VISITED;
    for (; g->stamps[slot] == g->stamp; slot = (slot + 1) % VISITED) {
        const config *seen = &g->seen[g->visited[slot]];
        if (seen->state == state && seen->stack == stack) return;
    }
    if (g->n_seen == VISITED / 2) {
        g->full = true;
        return;
    }
    g->stamps[slot] = g->stamp;
    g->visited[slot] = g->n_seen;
    g->seen[g->n_seen++] = (config){state, stack};
}

/* What is reached from a configuration without a byte; it joins the set if a byte leads on. */
static void follow(xl_grammar *g, config c) {
    const xl_automaton *a = &g->automaton;
    bool takes_bytes = false;
    if (a->first[c.state] == 0) { /* the end of a rule, and only that has no edge */
        const stack_node node = g->stacks[c.stack];
        if (c.stack) reach(g, node.back, node.parent);
        else g->made_accepts = true;
    }
    for (uint32_t e = a->first[c.state]; e && !g->full; e = a->edges[e].next) {
        const xl_edge *edge = &a->edges[e];
        if (!leads_on(g, edge->to, c.stack)) continue;
        if (edge->low <= edge->high) takes_bytes = true;
        else if (edge->rule == XL_NO_RULE) reach(g, edge->to, c.stack);
        else {
            const uint32_t stack = push(g, edge->to, c.stack);
            if (stack) reach(g, a->rules[edge->rule].start, stack);
        }
    }
    if (!takes_bytes) return;
    if (g->n_made == MAX_IN_SET) g->full = true;
    else g->made[g->n_made++] = c;
}

static bool config_before(const config *a, const config *b) {
    return a->state != b->state ? a->state < b->state : a->stack < b->stack;
}

static void begin_set(xl_grammar *g) {
    g->n_made = g->n_seen = 0;
    g->made_accepts = false;
    if (++g->stamp == 0) {
        memset(g->stamps, 0, VISITED * sizeof *g->stamps);
        g->stamp = 1;
    }
}

static bool is_made(const xl_grammar *g, const config_set *set, uint32_t hash) {
    return set->hash == hash && set->n == g->n_made && set->accepts == g->made_accepts &&
           memcmp(g->configs + set->first, g->made, set->n * sizeof *g->made) == 0;
}

/* The number of the set in `made`, which is sorted. */
static uint32_t number_of_made(xl_grammar *g) {
    const uint32_t hash = xl_hash_more(XL_HASH_START + g->made_accepts, (const char *)g->made,
                                       g->n_made * sizeof *g->made);
    uint32_t slot = hash % SET_SLOTS;
    for (; g->set_slots[slot]; slot = (slot + 1) % SET_SLOTS)
        if (is_made(g, &g->sets[g->set_slots[slot]], hash)) return g->set_slots[slot];
    if (g->n_sets == MAX_SETS || g->n_configs + g->n_made > MAX_CONFIGS) {
        g->full = true;
        return DEAD;
    }
    config_set *set = &g->sets[g->n_sets];
    *set = (config_set){.first = g->n_configs,
                        .n = g->n_made,
                        .hash = hash,
                        .mask = -1,
                        .accepts = g->made_accepts};
    memcpy(g->configs + g->n_configs, g->made, g->n_made * sizeof *g->made);
    g->n_configs += g->n_made;
    g->set_slots[slot] = (uint16_t)g->n_sets;
    return g->n_sets++;
}

/* The number of the set of what has been reached. */
static uint32_t end_set(xl_grammar *g) {
    for (uint32_t i = 0; i < g->n_seen && !g->full; i++) follow(g, g->seen[i]);
    if (g->full || (g->n_made == 0 && !g->made_accepts)) return DEAD;
    for (uint32_t i = 1; i < g->n_made; i++) /* nearly sorted, and short */
        for (uint32_t k = i; k > 0 && config_before(&g->made[k], &g->made[k - 1]); k--) {
            const config swap = g->made[k];
            g->made[k] = g->made[k - 1];
            g->made[k - 1] = swap;
        }
    return number_of_made(g);
}

static uint64_t hash_token(uint64_t hash, int32_t id) { return xl_mix64(hash ^ (uint32_t)id); }

/* Tokens before this one are not in the ring any more. */
static void forget_before(trail *t, const int32_t *ids, uint32_t known_from) {
    for (; t->known_from < known_from; t->known_from++)
        t->before = hash_token(t->before, ids[t->known_from]);
}

/* Forgets all but one set, that of a trail, where more than half of the room is taken; returns its
 * new number. A stack stands behind its parent, so their order, and with it the set's, stays. */
static uint32_t make_room(xl_grammar *g, trail *t, const int32_t *ids, uint32_t keep) {
    if (keep == DEAD || (g->n_sets <= MAX_SETS / 2 && g->n_configs <= MAX_CONFIGS / 2 &&
                         g->n_stacks <= MAX_STACKS / 2))
        return keep;
    const config_set set = g->sets[keep];
    const uint32_t n_stacks = g->n_stacks, n_said = t->n;
    memcpy(g->made, g->configs + set.first, set.n * sizeof *g->made);
    memset(g->moved, 0, n_stacks * sizeof *g->moved);
    for (uint32_t i = 0; i < set.n; i++)
        for (uint32_t at = g->made[i].stack; at && !g->moved[at]; at = g->stacks[at].parent)
            g->moved[at] = 1;
    forget(g);
    for (uint32_t i = 1; i < n_stacks; i++)
        if (g->moved[i]) {
            const stack_node node = g->stacks[i];
            g->moved[i] = (uint16_t)push(g, node.back, g->moved[node.parent]);
        }
    for (uint32_t i = 0; i < set.n; i++) g->made[i].stack = g->moved[g->made[i].stack];
    g->n_made = set.n;
    g->made_accepts = set.accepts;
    const uint32_t set_now = number_of_made(g);
    t->n = n_said;
    if (n_said) {
        forget_before(t, ids, n_said - 1);
        t->set[t->known_from % RECENT] = set_now;
    } else g->start = set_now;
    return set_now;
}

/* The set after a byte. DEAD with `full` where there was no room. Bytes that the same edges take are
 * done at once. */
static uint32_t step(xl_grammar *g, uint32_t from, uint8_t byte) {
    const uint32_t known = g->sets[from].next[byte];
    if (known != UNKNOWN) return known;
    const config_set *set = &g->sets[from];
    uint32_t low = 0, high = UINT8_MAX;
    begin_set(g);
    for (uint32_t i = 0; i < set->n; i++) {
        const config c = g->configs[set->first + i];
        for (uint32_t e = g->automaton.first[c.state]; e; e = g->automaton.edges[e].next) {
            const xl_edge *edge = &g->automaton.edges[e];
            if (edge->low > edge->high) continue;
            if (byte < edge->low) high = xl_min_u32(high, edge->low - 1u);
            else if (byte > edge->high) low = xl_max_u32(low, edge->high + 1u);
            else {
                low = xl_max_u32(low, edge->low);
                high = xl_min_u32(high, edge->high);
                reach(g, edge->to, c.stack);
            }
        }
    }
    const uint32_t to = end_set(g);
    for (; low <= high && !g->full; low++) g->sets[from].next[low] = (uint16_t)to;
    return to;
}

static uint32_t step_token(xl_grammar *g, uint32_t set, int32_t id) {
    char bytes[XL_MAX_SPOKEN_BYTES];
    if (xl_token_attributes(g->vocabulary->tokenizer, id) & (XL_TOKEN_CONTROL | XL_TOKEN_UNUSED))
        return DEAD;
    const size_t n = xl_token_bytes(g->vocabulary->tokenizer, id, bytes, sizeof bytes);
    if (n == 0) return DEAD;
    for (size_t i = 0; i < n && set != DEAD; i++) set = step(g, set, (uint8_t)bytes[i]);
    return set;
}

static uint32_t start_set(xl_grammar *g) {
    if (g->start != UNKNOWN) return g->start;
    begin_set(g);
    reach(g, g->automaton.rules[0].start, 0);
    uint32_t set = end_set(g);
    for (size_t i = 0; i < g->n_begun && set != DEAD; i++) set = step(g, set, (uint8_t)g->begun[i]);
    if (!g->full) g->start = set;
    return set;
}

/* ---- Where the reply is ---- */

/* How many of the tokens lead to a set that is still known. */
static uint32_t known_tokens(const trail *t, const int32_t *ids, uint32_t n) {
    const uint32_t oldest = t->known_from;
    if (n <= oldest || t->n <= oldest || t->id[oldest % RECENT] != ids[oldest]) return 0;
    uint64_t before = 0;
    for (uint32_t i = 0; i < oldest; i++) before = hash_token(before, ids[i]);
    if (before != t->before) return 0;
    uint32_t i = oldest;
    while (i < n && i < t->n && t->id[i % RECENT] == ids[i]) i++;
    return i;
}

/* The trail that knows most of the tokens, where the others do not need it; *known: so many. */
static trail *trail_of(xl_grammar *g, const int32_t *ids, uint32_t n, uint32_t *known) {
    trail *best = g->trails, *oldest = g->trails;
    *known = known_tokens(best, ids, n);
    for (trail *t = g->trails + 1; t < g->trails + TRAILS; t++) {
        const uint32_t tokens = known_tokens(t, ids, n);
        if (tokens > *known) best = t;
        *known = xl_max_u32(*known, tokens);
        if (t->used < oldest->used) oldest = t;
    }
    if (*known == 0) {
        best = oldest;
        best->known_from = 0;
        best->before = 0;
    } else if (*known + MOST_BACK < best->n) {
        *oldest = *best;
        best = oldest;
    }
    best->n = *known;
    if (n) best->used = ++g->questions;
    return best;
}

/* The set after the tokens, with half of the room free for what is asked of it. */
static uint32_t here(xl_grammar *g, const int32_t *ids, uint32_t n) {
    if (g->full) forget(g);
    uint32_t i;
    trail *t = trail_of(g, ids, n, &i);
    uint32_t set = make_room(g, t, ids, i ? t->set[(i - 1) % RECENT] : start_set(g));
    while (i < n && set != DEAD) {
        set = step_token(g, set, ids[i]);
        t->id[i % RECENT] = ids[i];
        t->set[i % RECENT] = set;
        t->n = ++i;
        if (i > RECENT) forget_before(t, ids, i - RECENT);
        set = make_room(g, t, ids, set);
    }
    return set;
}

/* ---- Answers ---- */

bool xl_grammar_goes_on(xl_grammar *g, const int32_t *ids, uint32_t n) {
    return here(g, ids, n) != DEAD;
}

bool xl_grammar_allows(xl_grammar *g, const int32_t *ids, uint32_t n, int32_t id) {
    const uint32_t set = here(g, ids, n);
    if (xl_token_is_eog(g->vocabulary->tokenizer, id)) return g->sets[set].accepts;
    return set != DEAD && step_token(g, set, id) != DEAD;
}

bool xl_grammar_allows_all(xl_grammar *g, const int32_t *ids, uint32_t n, const int32_t *next,
                           uint32_t n_next) {
    uint32_t set = here(g, ids, n);
    for (uint32_t i = 0; i < n_next && set != DEAD; i++) set = step_token(g, set, next[i]);
    return set != DEAD;
}

/* Fills `text` and `other` of a set. */
static void find_text(xl_grammar *g, uint32_t from) {
    const xl_automaton *a = &g->automaton;
    const config_set *set = &g->sets[from];
    bool other = false;
    begin_set(g);
    for (uint32_t i = 0; i < set->n; i++) {
        const config c = g->configs[set->first + i];
        if (a->text[c.state]) {
            reach(g, a->text[c.state], c.stack);
            continue;
        }
        for (uint32_t e = a->first[c.state]; e && !other; e = a->edges[e].next)
            for (uint32_t byte = a->edges[e].low; byte <= a->edges[e].high && !other; byte++)
                other = xl_is_text_byte((uint8_t)byte);
    }
    const uint32_t to = end_set(g);
    g->sets[from].text = (uint16_t)to;
    g->sets[from].other = other;
}

/* Of tokens that are text up to how many characters may come, whatever they say? *all: and of those no
 * others. */
static uint32_t text_run(xl_grammar *g, uint32_t set, bool *all) {
    uint32_t n = 0;
    for (*all = true; n < XL_MOST_TEXT; n++) {
        if (g->sets[set].text == UNKNOWN) find_text(g, set);
        const uint32_t next = g->sets[set].text;
        *all &= !g->sets[set].other;
        if (next == DEAD) break;
        if (next == set) n = XL_MOST_TEXT - 1;
        set = next;
    }
    return n;
}

/* One walk through a tree of the vocabulary. */
static void mask_tree(xl_grammar *g, uint32_t set, const xl_token_tree *tree, uint64_t *mask) {
    uint32_t ends[XL_MAX_SPOKEN_BYTES], sets[XL_MAX_SPOKEN_BYTES + 1], depth = 0;
    sets[0] = set;
    for (uint32_t i = 0; i < tree->n;) {
        while (depth && i >= ends[depth - 1]) depth--;
        const uint32_t next = step(g, sets[depth], tree->byte[i]);
        if (next == DEAD) {
            i = tree->end[i];
            continue;
        }
        if (tree->id[i] >= 0) xl_mask_set(mask, (uint32_t)tree->id[i]);
        if (tree->end[i] > i + 1) {
            ends[depth++] = tree->end[i];
            sets[depth] = next;
        }
        i++;
    }
}

static void fill_mask(xl_grammar *g, uint32_t set, uint64_t *mask) {
    const xl_vocabulary *v = g->vocabulary;
    bool all = false;
    const uint32_t run = text_run(g, set, &all);
    if (all || run == XL_MOST_TEXT) {
        memcpy(mask, v->text + (size_t)run * v->mask_words, v->mask_words * sizeof *mask);
        mask_tree(g, set, &v->other, mask);
    } else {
        memset(mask, 0, v->mask_words * sizeof *mask);
        mask_tree(g, set, &v->all, mask);
    }
    if (g->sets[set].accepts)
        for (uint32_t i = 0; i < v->n_ends; i++) xl_mask_set(mask, (uint32_t)v->ends[i]);
}

static const uint64_t *mask_of(xl_grammar *g, uint32_t set) {
    const size_t words = g->vocabulary->mask_words;
    if (g->sets[set].mask >= 0) return g->masks + (size_t)g->sets[set].mask * words;
    const uint32_t slot = g->next_mask++ % MASKS;
    uint64_t *mask = g->masks + slot * words;
    if (g->mask_of[slot]) g->sets[g->mask_of[slot]].mask = -1;
    fill_mask(g, set, mask);
    g->sets[set].mask = (int16_t)slot;
    g->mask_of[slot] = (uint16_t)set;
    return mask;
}

void xl_grammar_mask(xl_grammar *g, const int32_t *ids, uint32_t n, float *logits,
                     uint32_t n_logits) {
    const uint64_t *mask = mask_of(g, here(g, ids, n));
    float none[64];
    for (uint32_t i = 0; i < 64; i++) none[i] = -INFINITY;
    const uint32_t known = xl_min_u32(n_logits, 64 * g->vocabulary->mask_words);
    for (uint32_t i = 0; i < known; i += 64) {
        const uint32_t most = xl_min_u32(64, known - i);
        uint64_t barred = ~mask[i / 64] & UINT64_MAX >> (64 - most);
        if (barred == UINT64_MAX) memcpy(logits + i, none, sizeof none);
        else
            for (; barred; barred &= barred - 1)
                logits[i + (uint32_t)__builtin_ctzll(barred)] = -INFINITY;
    }
    for (uint32_t i = known; i < n_logits; i++) logits[i] = -INFINITY;
}

/* The one byte that can follow, or -1. */
static int only_byte(const xl_grammar *g, uint32_t set) {
    int byte = -1;
    const config_set *s = &g->sets[set];
    if (s->accepts) return -1;
    for (uint32_t i = 0; i < s->n; i++) {
        const config c = g->configs[s->first + i];
        for (uint32_t e = g->automaton.first[c.state]; e; e = g->automaton.edges[e].next) {
            const xl_edge *edge = &g->automaton.edges[e];
            if (edge->low > edge->high || !leads_on(g, edge->to, c.stack)) continue;
            if (edge->low < edge->high || (byte >= 0 && byte != edge->low)) return -1;
            byte = edge->low;
        }
    }
    return byte;
}

size_t xl_grammar_forced(xl_grammar *g, const int32_t *ids, uint32_t n, char *bytes,
                         size_t capacity, bool *complete) {
    uint32_t set = here(g, ids, n);
    size_t k = 0;
    int byte;
    while (k < capacity && (byte = only_byte(g, set)) >= 0) {
        bytes[k++] = (char)byte;
        set = step(g, set, (uint8_t)byte);
        if (set == DEAD) break;
    }
    *complete = set != DEAD && g->sets[set].accepts && g->sets[set].n == 0;
    return k;
}

/* ---- Life ---- */

static void lay_out(xl_grammar *g, xl_arena *arena) {
    g->sets = xl_arena_take(arena, MAX_SETS, sizeof *g->sets);
    g->configs = xl_arena_take(arena, MAX_CONFIGS, sizeof *g->configs);
    g->stacks = xl_arena_take(arena, MAX_STACKS, sizeof *g->stacks);
    g->moved = xl_arena_take(arena, MAX_STACKS, sizeof *g->moved);
    g->set_slots = xl_arena_take(arena, SET_SLOTS, sizeof *g->set_slots);
    g->stack_slots = xl_arena_take(arena, STACK_SLOTS, sizeof *g->stack_slots);
    g->made = xl_arena_take(arena, MAX_IN_SET, sizeof *g->made);
    g->visited = xl_arena_take(arena, VISITED, sizeof *g->visited);
    g->stamps = xl_arena_take(arena, VISITED, sizeof *g->stamps);
    g->seen = xl_arena_take(arena, VISITED / 2, sizeof *g->seen);
    g->masks = xl_arena_take2(arena, MASKS, g->vocabulary->mask_words, sizeof *g->masks);
}

const char *xl_grammar_kind_name(xl_grammar_kind kind) {
    static const char *const names[] = {"schema", "pattern", "tools"};
    return names[kind];
}

static exitlm_status lay_automaton(xl_grammar *g, const xl_grammar_source *source,
                                   exitlm_error *error) {
    xl_automaton *a = &g->automaton;
    const char *name = xl_grammar_kind_name(source->kind);
    xl_automaton_begin(a, &g->allocator);
    exitlm_status status = EXITLM_OK;
    if (source->kind == XL_GRAMMAR_SCHEMA)
        status = xl_lay_schema(a, source->text, source->n_bytes, error);
    else if (source->kind == XL_GRAMMAR_TOOLS)
        status =
            xl_lay_tools(a, source->text, source->n_bytes, source->choice, source->flags, error);
    else if (!a->no_memory)
        status = xl_lay_regex(a, a->rules[0].start, source->text, source->n_bytes, source->flags,
                              XL_UNQUOTED, a->rules[0].end, error);
    if (status != EXITLM_OK) return status;
    const bool possible = xl_automaton_finish(a);
    if (a->no_memory)
        return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for the automaton of a %s", name);
    if (a->too_large)
        return xl_fail(error, EXITLM_USAGE,
                       "the %s is too large: over 262,144 states; shorten its counts and lengths",
                       name);
    if (!possible)
        return xl_fail(
            error, EXITLM_USAGE,
            "no text satisfies the %s within a nesting of %d: look for `false` and for a "
            "$ref that demands itself",
            name, XL_MAX_CALLS);
    return EXITLM_OK;
}

exitlm_status xl_grammar_create(xl_grammar **grammar, const xl_vocabulary *vocabulary,
                                const xl_grammar_source *source, const exitlm_allocator *allocator,
                                exitlm_error *error) {
    const exitlm_allocator own = xl_allocator_or_default(allocator);
    *grammar = NULL;
    xl_grammar *g = xl_calloc(&own, 1, sizeof *g);
    if (!g) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a grammar");
    *g = (xl_grammar){.allocator = own, .vocabulary = vocabulary, .kind = source->kind};
    exitlm_status status = lay_automaton(g, source, error);
    xl_arena arena = {0};
    lay_out(g, &arena);
    if (status == EXITLM_OK) {
        g->block_bytes = arena.used_bytes;
        g->block = xl_calloc(&own, g->block_bytes, 1);
        if (!g->block)
            status = xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a grammar: %zu bytes",
                             g->block_bytes);
    }
    if (status != EXITLM_OK) {
        xl_grammar_free(g);
        return status;
    }
    arena = (xl_arena){.base = g->block, .capacity_bytes = g->block_bytes};
    lay_out(g, &arena);
    forget(g);
    *grammar = g;
    return EXITLM_OK;
}

/* JSON in the one form that schemas have here (schema.h), at most twice as long. */
static size_t in_form(const char *json, size_t n, char *out) {
    size_t n_out = 0;
    bool quoted = false, space = false;
    for (size_t i = 0; i < n; i++) {
        const bool white = !quoted && strchr(" \t\r\n", json[i]) && json[i];
        if (space) out[n_out++] = ' ';
        space = false;
        if (white) continue;
        out[n_out++] = json[i];
        if (quoted && json[i] == '\\' && i + 1 < n) out[n_out++] = json[++i];
        else if (json[i] == '"') quoted = !quoted;
        else space = !quoted && (json[i] == ',' || json[i] == ':');
    }
    return n_out;
}

exitlm_status xl_grammar_begin(xl_grammar *g, const char *text, size_t n_bytes,
                               exitlm_error *error) {
    if (n_bytes > XL_MAX_BEGUN)
        return xl_fail(error, EXITLM_USAGE,
                       "a shaped reply goes on from %d bytes at most, these are %zu", XL_MAX_BEGUN,
                       n_bytes);
    if (!g->begun) g->begun = xl_calloc(&g->allocator, 2 * XL_MAX_BEGUN, 1);
    if (!g->begun) return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a reply's beginning");
    if (g->kind == XL_GRAMMAR_SCHEMA) g->n_begun = in_form(text, n_bytes, g->begun);
    else memcpy(g->begun, text, g->n_begun = n_bytes);
    forget(g);
    if (start_set(g) != DEAD) return EXITLM_OK;
    const bool full = g->full;
    g->n_begun = 0;
    forget(g);
    if (full)
        return xl_fail(error, EXITLM_USAGE,
                       "this beginning leaves too many possibilities at once; shorten it");
    return xl_fail(error, EXITLM_USAGE,
                   "no text of this shape begins with \"%.*s\"%s: the reply cannot go on from it",
                   n_bytes > 40 ? 40 : (int)n_bytes, text, n_bytes > 40 ? "..." : "");
}

void xl_grammar_free(xl_grammar *g) {
    if (!g) return;
    const exitlm_allocator allocator = g->allocator;
    xl_free(&allocator, g->begun, 2 * XL_MAX_BEGUN, 1);
    xl_automaton_free(&g->automaton);
    xl_free(&allocator, g->block, g->block_bytes, 1);
    xl_free(&allocator, g, 1, sizeof *g);
}
