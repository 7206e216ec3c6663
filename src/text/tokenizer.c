#include "tokenizer.h"

#include "base/alloc.h"
#include "base/status.h"
#include "unicode.h"
#include "vocab.h"

#include <string.h>

#define MAX_TEXT_BYTES (1u << 29)
#define MAX_TOKENS ((1u << XL_MERGE_ID_BITS) - 1) /* 8 times the largest vocabulary known */
#define MAX_MERGES (1u << 25)
#define KNOWN_SPECIAL 64u /* more than there are in vocab.c's list */

/* ---- Creation ---- */

static size_t count_special(const xl_tokenizer_source *source) {
    size_t n = KNOWN_SPECIAL;
    const size_t n_types = source->types ? source->n_types : 0;
    for (size_t id = 0; id < n_types; id++) {
        /* the low byte: a bound is enough */
        uint8_t type = ((const uint8_t *)source->types)[4 * id];
        n += type >= 2 && type <= 4;
    }
    return n < source->tokens.count ? n : source->tokens.count;
}

/* The tables of merges where their texts stood, whose 11 bytes at least are more than the 8 of a
 * row of the table: it never overtakes the reading of the texts, and the slots behind it are
 * filled when that is done. False: they do not fit. */
static bool lay_over(xl_tokenizer *parts, const xl_tokenizer_source *source) {
    size_t merges_bytes = parts->n_merges * sizeof *parts->merges,
           slots_bytes = parts->n_merge_slots * sizeof *parts->merge_slots;
    if (!source->room || merges_bytes + slots_bytes > source->merges.bytes) return false;
    uint8_t *start = source->room - (uintptr_t)source->room % sizeof *parts->merges;
    parts->merges = (xl_merge *)(void *)start;
    parts->merge_slots = (uint32_t *)(void *)(start + merges_bytes);
    return true;
}

/* Cuts the block into the tokenizer's arrays; with a measuring arena only the size is counted. */
static xl_tokenizer *lay_out(xl_arena *arena, const xl_tokenizer_source *source) {
    size_t n = source->tokens.count, n_special = count_special(source);
    uint32_t n_slots = xl_vocab_slots(n), n_merge_slots = xl_vocab_slots(source->merges.count);
    xl_tokenizer *t = xl_arena_take(arena, 1, sizeof *t); /* NULL while measuring */
    xl_tokenizer parts = {.n_slots = n_slots,
                          .n_merges = (uint32_t)source->merges.count,
                          .n_merge_slots = n_merge_slots,
                          .special_capacity = (uint32_t)n_special};
    parts.offsets = xl_arena_take(arena, n, sizeof *parts.offsets);
    parts.attr = xl_arena_take(arena, n, sizeof *parts.attr);
    parts.slots = xl_arena_take(arena, n_slots, sizeof *parts.slots);
    if (!lay_over(&parts, source)) {
        parts.merges = xl_arena_take(arena, parts.n_merges, sizeof *parts.merges);
        parts.merge_slots = xl_arena_take(arena, n_merge_slots, sizeof *parts.merge_slots);
    }
    parts.special = xl_arena_take(arena, n_special, sizeof *parts.special);
    parts.special_sorted = xl_arena_take(arena, n_special, sizeof *parts.special_sorted);
    if (t) *t = parts;
    return t;
}

size_t xl_tokenizer_bytes(const xl_tokenizer_source *source) {
    if (source->tokens.count > MAX_TOKENS || source->merges.count > MAX_MERGES) return SIZE_MAX;
    xl_arena measure = {0};
    lay_out(&measure, source);
    return measure.overflow ? SIZE_MAX : measure.used_bytes;
}

static bool is_text(xl_str text, const char *literal) {
    return text.bytes == strlen(literal) && memcmp(text.data, literal, text.bytes) == 0;
}

/* Are merges chosen by rank? Else by score. */
static bool is_ranked(const xl_tokenizer_source *source) {
    return is_text(source->model, "gpt2") || is_text(source->model, "gemma4");
}

static bool find_pre(const xl_tokenizer_source *source, xl_pre *pre, xl_str *name) {
    *name = is_text(source->model, "gemma4") ? source->model : source->pre;
    return xl_pre_find(pre, name->data, name->bytes);
}

const char *xl_tokenizer_lacks(const xl_tokenizer_source *source, xl_str *name) {
    *name = source->model;
    if (!is_ranked(source)) return is_text(source->model, "llama") ? NULL : "tokenizer";
    return find_pre(source, NULL, name) ? NULL : "pre-tokenizer";
}

static exitlm_status check_source(const xl_tokenizer_source *source, exitlm_error *error) {
    if (!source->model.data)
        return xl_fail(error, EXITLM_BAD_MODEL, "tokenizer.ggml.model is missing");
    xl_str name;
    const char *lacks = xl_tokenizer_lacks(source, &name);
    if (lacks)
        return xl_fail(error, EXITLM_UNSUPPORTED,
                       "%s '%.*s' (tokenizer.ggml.%s) is not supported%s", lacks,
                       XL_TEXT(name.data, name.bytes), *lacks == 't' ? "model" : "pre",
                       *lacks == 't' ? "; supported are gpt2, gemma4 and llama" : "");
    size_t n = source->tokens.count;
    if (n == 0 || n > MAX_TOKENS)
        return xl_fail(error, EXITLM_BAD_MODEL,
                       "tokenizer.ggml.tokens: %zu tokens; 1 to %u are possible", n, MAX_TOKENS);
    if (source->merges.count > MAX_MERGES)
        return xl_fail(error, EXITLM_BAD_MODEL,
                       "tokenizer.ggml.merges: %zu merges; at most %u are possible",
                       source->merges.count, MAX_MERGES);
    if (source->tokens.bytes > UINT32_MAX)
        return xl_fail(error, EXITLM_BAD_MODEL,
                       "tokenizer.ggml.tokens: %zu bytes of text; less than 4 GiB is possible",
                       source->tokens.bytes);
    if (is_ranked(source) && !source->merges.data)
        return xl_fail(error, EXITLM_BAD_MODEL,
                       "tokenizer.ggml.merges is missing; a tokenizer of this kind needs it");
    if (source->scores && source->n_scores < n)
        return xl_fail(error, EXITLM_BAD_MODEL, "tokenizer.ggml.scores: %zu scores for %zu tokens",
                       source->n_scores, n);
    if (source->types && source->n_types < n)
        return xl_fail(error, EXITLM_BAD_MODEL,
                       "tokenizer.ggml.token_type: %zu types for %zu tokens", source->n_types, n);
    return EXITLM_OK;
}

/* An id of the file, or `fallback` where the file names none (or fallback is out of range, too). */
static exitlm_status take_id(const xl_tokenizer *t, const char *key, int64_t id, int32_t fallback,
                             int32_t *out, exitlm_error *error) {
    if (id >= (int64_t)t->n_tokens || id < -1)
        return xl_fail(error, EXITLM_BAD_MODEL, "%s: %lld is no token; there are %u", key,
                       (long long)id, t->n_tokens);
    *out = id >= 0 ? (int32_t)id : fallback < (int64_t)t->n_tokens ? fallback : -1;
    return EXITLM_OK;
}

/* Where the file is silent, SentencePiece's own ids hold; those with ranked merges have no such
 * custom. */
static exitlm_status take_ids(xl_tokenizer *t, const xl_tokenizer_source *source,
                              exitlm_error *error) {
    const bool spm = !t->ranked;
    int32_t eom;
    exitlm_status status =
        take_id(t, "tokenizer.ggml.bos_token_id", source->bos, spm ? 1 : -1, &t->info.bos, error);
    if (status == EXITLM_OK)
        status = take_id(t, "tokenizer.ggml.eos_token_id", source->eos, spm ? 2 : -1, &t->info.eos,
                         error);
    if (status == EXITLM_OK)
        status = take_id(t, "tokenizer.ggml.unknown_token_id", source->unk, spm ? 0 : -1,
                         &t->info.unk, error);
    if (status == EXITLM_OK)
        status = take_id(t, "tokenizer.ggml.eot_token_id", source->eot, -1, &t->info.eot, error);
    if (status == EXITLM_OK)
        status = take_id(t, "tokenizer.ggml.eom_token_id", source->eom, -1, &eom, error);
    /* A padding id beyond the vocabulary is common in published files, and never used. */
    t->info.pad =
        source->pad >= 0 && source->pad < (int64_t)t->n_tokens ? (int32_t)source->pad : -1;
    return status;
}

static exitlm_status take_settings(xl_tokenizer *t, const xl_tokenizer_source *source,
                                   exitlm_error *error) {
    xl_str name;
    t->n_tokens = t->info.n_tokens = (uint32_t)source->tokens.count;
    t->tokens = source->tokens.data;
    t->scores = source->scores;
    t->ranked = is_ranked(source);
    if (t->ranked) find_pre(source, &t->pre, &name);
    t->info.byte_level = t->ranked && !t->pre.raw;
    exitlm_status status = take_ids(t, source, error);
    if (status != EXITLM_OK) return status;
    t->info.add_bos =
        source->add_bos >= 0 ? source->add_bos : (!t->ranked || t->pre.add_bos) && t->info.bos >= 0;
    if (t->pre.always_bos) t->info.add_bos = true;
    t->info.add_eos = source->add_eos > 0;
    t->info.add_space_prefix = !t->ranked && source->add_space_prefix != 0;
    if (t->info.add_bos && t->info.bos < 0)
        return xl_fail(error, EXITLM_BAD_MODEL,
                       "tokenizer.ggml.add_bos_token is true, but bos_token_id is missing");
    if (t->info.add_eos && t->info.eos < 0)
        return xl_fail(error, EXITLM_BAD_MODEL,
                       "tokenizer.ggml.add_eos_token is true, but eos_token_id is missing");
    return EXITLM_OK;
}

/* Each token alone, and 3 bytes more where it ends in an incomplete character: what these bytes
 * become is no longer than that, whatever stands before and behind. */
static exitlm_status measure_texts(xl_tokenizer *t, exitlm_error *error) {
    char bytes[XL_MAX_SPOKEN_BYTES], out[XL_UTF8_ROOM(XL_MAX_SPOKEN_BYTES)];
    t->info.max_text_bytes = 3;
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        if (XL_UTF8_ROOM(xl_vocab_text(t, id).bytes) <= t->info.max_text_bytes) continue;
        xl_utf8_stream stream = {0};
        size_t n = xl_token_bytes(t, (int32_t)id, bytes, sizeof bytes);
        if (n > sizeof bytes)
            return xl_fail(
                error, EXITLM_UNSUPPORTED,
                "tokenizer.ggml.tokens: token %u is %zu bytes of text; at most %u are supported",
                id, n, XL_MAX_SPOKEN_BYTES);
        n = xl_utf8_push(&stream, bytes, n, out) + (stream.n_held ? 3 : 0);
        if (n > t->info.max_text_bytes) t->info.max_text_bytes = (uint32_t)n;
    }
    return EXITLM_OK;
}

exitlm_status xl_tokenizer_create(xl_tokenizer **tokenizer, const xl_tokenizer_source *source,
                                  const exitlm_allocator *allocator, exitlm_error *error) {
    *tokenizer = NULL;
    exitlm_status status = check_source(source, error);
    if (status != EXITLM_OK) return status;
    exitlm_allocator own = xl_allocator_or_default(allocator);
    size_t bytes = xl_tokenizer_bytes(source);
    void *block = bytes == SIZE_MAX ? NULL : own.alloc(own.user, bytes, XL_ALIGN);
    if (!block)
        return xl_fail(error, EXITLM_OUT_OF_MEMORY,
                       "no memory for the tokenizer: %zu bytes are needed", bytes);
    xl_arena arena = {.base = block, .capacity_bytes = bytes};
    xl_tokenizer *t = lay_out(&arena, source);
    t->allocator = own;
    t->block_bytes = bytes;
    status = take_settings(t, source, error);
    if (status == EXITLM_OK) status = xl_vocab_build(t, source, error);
    if (status == EXITLM_OK) status = measure_texts(t, error);
    if (status == EXITLM_OK) *tokenizer = t;
    else xl_tokenizer_free(t);
    return status;
}

void xl_tokenizer_free(xl_tokenizer *t) {
    if (!t) return;
    exitlm_allocator allocator = t->allocator;
    allocator.free(allocator.user, t, t->block_bytes);
}

void xl_tokenizer_describe(const xl_tokenizer *t, xl_tokenizer_info *info) { *info = t->info; }

/* ---- Special tokens in a text ----
 * As in llama.cpp the longest special token is cut out first wherever it stands, then the next one
 * in what is left, and so on. A first walk finds which of them occur at all. */

typedef struct encoder {
    const xl_tokenizer *t;
    const uint8_t *text;
    xl_work *work;
    xl_ids *out;
    const xl_spans *plain; /* or NULL */
    bool after_special;
} encoder;

static bool encode_plain(encoder *e, size_t from, size_t to) {
    if (from == to) return true;
    bool prefix = e->t->info.add_space_prefix && e->after_special;
    e->after_special = false;
    return e->t->ranked ? xl_bpe_encode(e->t, e->work, e->text + from, to - from, e->out)
                        : xl_spm_encode(e->t, e->work, e->text + from, to - from, prefix, e->out);
}

/* First entry of special_sorted in [low, high) whose byte `depth` is >= `byte`; one that ends there
 * comes before all. */
static uint32_t narrow(const xl_tokenizer *t, uint32_t low, uint32_t high, size_t depth,
                       unsigned byte) {
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        xl_str text = xl_vocab_text(t, t->special[t->special_sorted[middle]]);
        if (text.bytes <= depth || (uint8_t)text.data[depth] < byte) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* The special tokens that stand at text[0] are added to the set `seen` (indexes into `special`). */
static void special_at(const xl_tokenizer *t, const uint8_t *text, size_t n_bytes, uint8_t *seen) {
    if (!(t->special_first[text[0] >> 5] >> (text[0] & 31) & 1)) return;
    uint32_t low = 0, high = t->n_special;
    for (size_t depth = 0; depth < n_bytes && low < high; depth++) {
        low = narrow(t, low, high, depth, text[depth]);
        high = narrow(t, low, high, depth, text[depth] + 1u);
        if (low >= high) break;
        uint32_t index = t->special_sorted[low];
        if (xl_vocab_text(t, t->special[index]).bytes != depth + 1) continue;
        seen[index >> 3] |= (uint8_t)(1u << (index & 7));
    }
}

/* Does it count only where special tokens are asked for? */
static bool on_request(const xl_tokenizer *t, uint32_t id) {
    return t->attr[id] & (XL_TOKEN_CONTROL | XL_TOKEN_UNKNOWN);
}

static bool counts(const xl_tokenizer *t, uint32_t index, unsigned flags) {
    return (flags & EXITLM_PARSE_SPECIAL) || !on_request(t, t->special[index]);
}

/* Does some of [from, to) lie in a plain span? */
static bool touches_plain(const xl_spans *plain, size_t from, size_t to) {
    size_t low = 0, high = plain->n; /* the first span that ends behind `from` */
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (plain->span[middle].end <= plain->skip + from) low = middle + 1;
        else high = middle;
    }
    return low < plain->n && plain->span[low].start < plain->skip + to;
}

/* Where `token` first stands in [from, to); `to` if nowhere. */
static size_t find_text(const uint8_t *text, size_t from, size_t to, xl_str token) {
    while (to - from >= token.bytes) {
        const uint8_t *hit = memchr(text + from, token.data[0], to - from - token.bytes + 1);
        if (!hit) break;
        if (memcmp(hit, token.data, token.bytes) == 0) return (size_t)(hit - text);
        from = (size_t)(hit - text) + 1;
    }
    return to;
}

/* The same, where it counts. */
static size_t find_token(const encoder *e, size_t from, size_t to, uint32_t id) {
    const xl_str token = xl_vocab_text(e->t, id);
    size_t hit = find_text(e->text, from, to, token);
    while (hit < to && e->plain && on_request(e->t, id) &&
           touches_plain(e->plain, hit, hit + token.bytes))
        hit = find_text(e->text, hit + 1, to, token);
    return hit;
}

/* A stretch of text up to `end` from which the tokens list[0 … k) are cut out already; `then`
 * follows it. */
typedef struct stretch {
    size_t end;
    uint32_t k, then;
} stretch;

static bool encode_stretches(encoder *e, size_t n_bytes, const uint32_t *list, uint32_t n_list,
                             stretch *stack) {
    size_t at = 0;
    uint32_t depth = 0;
    stack[depth++] = (stretch){n_bytes, 0, XL_NO_ID};
    while (depth) {
        stretch *top = &stack[depth - 1];
        if (at < top->end && top->k < n_list) {
            size_t hit = find_token(e, at, top->end, list[top->k]);
            if (hit == top->end) top->k++;
            else stack[depth++] = (stretch){hit, top->k + 1, list[top->k]};
            continue;
        }
        if (!encode_plain(e, at, top->end)) return false;
        at = top->end;
        if (top->then != XL_NO_ID) {
            xl_ids_put(e->out, top->then);
            e->after_special = true;
            at += xl_vocab_text(e->t, top->then).bytes;
            /* below `top` lies the stretch that it was cut out of */
            if (e->t->attr[top->then] & XL_TOKEN_STRIPS)
                while (at < top[-1].end && xl_unicode_classify(e->text[at]) == XL_UNICODE_SPACE)
                    at++;
        }
        depth--;
    }
    return true;
}

/* The ids of the special tokens that occur in the text and count, longest first; `list` NULL
 * only counts. */
static uint32_t list_seen(const xl_tokenizer *t, const uint8_t *seen, unsigned flags,
                          uint32_t *list) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n_special; i++) {
        if (!(seen[i >> 3] >> (i & 7) & 1) || !counts(t, i, flags)) continue;
        if (list) list[n] = t->special[i];
        n++;
    }
    return n;
}

#define SMALL_SEEN 512u /* bytes of the set: 4096 special tokens */
#define SMALL_LIST 32u

static bool encode_listed(encoder *e, size_t n_bytes, const uint8_t *seen, unsigned flags) {
    const xl_tokenizer *t = e->t;
    uint32_t n = list_seen(t, seen, flags, NULL);
    if (n == 0) return encode_plain(e, 0, n_bytes);
    uint32_t small_list[SMALL_LIST];
    stretch small_stack[SMALL_LIST + 1];
    size_t more_bytes = n > SMALL_LIST ? (n + 1) * (sizeof(stretch) + sizeof(uint32_t)) : 0;
    stretch *stack =
        more_bytes ? t->allocator.alloc(t->allocator.user, more_bytes, XL_ALIGN) : small_stack;
    if (!stack) return false;
    uint32_t *list = more_bytes ? (uint32_t *)(stack + n + 1) : small_list;
    list_seen(t, seen, flags, list);
    bool done = encode_stretches(e, n_bytes, list, n, stack);
    if (more_bytes) t->allocator.free(t->allocator.user, stack, more_bytes);
    return done;
}

static bool encode_text(encoder *e, size_t n_bytes, unsigned flags) {
    const xl_tokenizer *t = e->t;
    uint8_t small_seen[SMALL_SEEN];
    size_t seen_bytes = (t->n_special + 7u) / 8,
           more_bytes = seen_bytes > SMALL_SEEN ? seen_bytes : 0;
    uint8_t *seen =
        more_bytes ? t->allocator.alloc(t->allocator.user, more_bytes, XL_ALIGN) : small_seen;
    if (!seen) return false;
    memset(seen, 0, seen_bytes);
    for (size_t i = 0; i < n_bytes; i++) special_at(t, e->text + i, n_bytes - i, seen);
    bool done = encode_listed(e, n_bytes, seen, flags);
    if (more_bytes) t->allocator.free(t->allocator.user, seen, more_bytes);
    return done;
}

/* ---- Encoding ---- */

exitlm_status xl_tokenizer_encode(const xl_tokenizer *t, const char *text, size_t n_bytes,
                                  unsigned flags, int32_t *ids, size_t capacity, size_t *n,
                                  exitlm_error *error) {
    return xl_tokenizer_encode_parts(t, text, n_bytes, NULL, flags, ids, capacity, n, error);
}

exitlm_status xl_tokenizer_encode_parts(const xl_tokenizer *t, const char *text, size_t n_bytes,
                                        const xl_spans *plain, unsigned flags, int32_t *ids,
                                        size_t capacity, size_t *n, exitlm_error *error) {
    *n = 0;
    if (n_bytes >= MAX_TEXT_BYTES)
        return xl_fail(error, EXITLM_USAGE,
                       "a text of %zu bytes is too long to tokenize; at most %u are possible",
                       n_bytes, MAX_TEXT_BYTES - 1);
    xl_work work;
    xl_work_init(&work, &t->allocator);
    xl_ids out = {ids, ids ? capacity : 0, 0};
    encoder e = {t, (const uint8_t *)text, &work, &out, plain, true};
    if (flags & (EXITLM_ADD_SPECIAL | XL_ADD_BEGIN) && t->info.add_bos)
        xl_ids_put(&out, (uint32_t)t->info.bos);
    bool done = n_bytes == 0 || encode_text(&e, n_bytes, flags);
    xl_work_free(&work);
    if (!done)
        return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory to tokenize a text of %zu bytes",
                       n_bytes);
    if (flags & EXITLM_ADD_SPECIAL && t->info.add_eos) xl_ids_put(&out, (uint32_t)t->info.eos);
    *n = out.n;
    return EXITLM_OK;
}

size_t xl_tokenizer_work_bytes(const xl_tokenizer *t, size_t n_bytes) {
    if (n_bytes >= MAX_TEXT_BYTES) return SIZE_MAX;
    /* Text rewritten (3 bytes for one), a symbol for each of those bytes, and the lists of
     * special tokens. */
    size_t total = 0;
    bool fits = xl_size_add(&total, n_bytes + 1, 3) && xl_size_add(&total, n_bytes + 1, 3 * 32) &&
                xl_size_add(&total, t->n_special / 8 + 1, 1) &&
                xl_size_add(&total, (size_t)t->n_special + 1, sizeof(stretch) + sizeof(uint32_t));
    return fits ? total : SIZE_MAX;
}

/* ---- Tokens ---- */

static bool in_range(const xl_tokenizer *t, int32_t id) {
    return id >= 0 && (uint32_t)id < t->n_tokens;
}

unsigned xl_token_attributes(const xl_tokenizer *t, int32_t id) {
    return in_range(t, id) ? t->attr[id] & ~(XL_TOKEN_EOG | XL_TOKEN_STRIPS) : 0;
}

bool xl_token_is_eog(const xl_tokenizer *t, int32_t id) {
    return in_range(t, id) && t->attr[id] & XL_TOKEN_EOG;
}

xl_str xl_token_text(const xl_tokenizer *t, int32_t id) { return xl_vocab_text(t, (uint32_t)id); }

typedef struct writer {
    char *out;
    size_t capacity, n;
} writer;

static void put(writer *w, const char *bytes, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes; i++, w->n++)
        if (w->n < w->capacity) w->out[w->n] = bytes[i];
}

static void put_byte_level(writer *w, xl_str text) {
    for (const uint8_t *at = (const uint8_t *)text.data, *end = at + text.bytes; at < end;) {
        uint32_t code_point;
        size_t taken = xl_utf8_decode_lenient(at, end, &code_point);
        int byte = xl_char_to_byte(code_point);
        char one = (char)byte;
        if (byte >= 0) put(w, &one, 1);
        else put(w, (const char *)at, taken); /* not of this encoding: as it stands */
        at += taken;
    }
}

static void put_with_spaces(writer *w, xl_str text) {
    for (size_t i = 0; i < text.bytes;) {
        bool space = text.bytes - i >= 3 && memcmp(text.data + i, "\xE2\x96\x81", 3) == 0;
        put(w, space ? " " : text.data + i, 1);
        i += space ? 3 : 1;
    }
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void put_byte_token(writer *w, xl_str text) { /* <0x0A> */
    int high = text.bytes == 6 ? hex_digit(text.data[3]) : -1,
        low = text.bytes == 6 ? hex_digit(text.data[4]) : -1;
    char byte = (char)(high * 16 + low);
    if (high >= 0 && low >= 0) put(w, &byte, 1);
    else put(w, text.data, text.bytes);
}

size_t xl_token_bytes(const xl_tokenizer *t, int32_t id, char *out, size_t capacity) {
    if (!in_range(t, id)) return 0;
    writer w = {out, out ? capacity : 0, 0};
    xl_str text = xl_vocab_text(t, (uint32_t)id);
    unsigned attr = t->attr[id];
    if (attr & (XL_TOKEN_CONTROL | XL_TOKEN_USER_DEFINED | XL_TOKEN_UNKNOWN))
        put(&w, text.data, text.bytes);
    else if (attr & XL_TOKEN_BYTE) put_byte_token(&w, text);
    else if (attr & XL_TOKEN_NORMAL && t->info.byte_level) put_byte_level(&w, text);
    else if (attr & XL_TOKEN_NORMAL) put_with_spaces(&w, text);
    return w.n;
}
