#include "vocab.h"

#include "base/bytes.h"
#include "base/sort.h"
#include "base/status.h"
#include "unicode.h"

#include <string.h>

/* ---- Byte-level characters: printable Latin-1 stands for itself, the other 68 bytes
 * follow from U+0100 on, in their order. ---- */

static bool is_printable(uint32_t byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
           (byte >= 0xAE && byte <= 0xFF);
}

uint32_t xl_byte_to_char(uint8_t byte) {
    if (is_printable(byte)) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    if (byte <= 0xA0) return 0x121u + (byte - 0x7Fu);
    return 0x143;
}

int xl_char_to_byte(uint32_t code_point) {
    if (code_point < 0x100) return is_printable(code_point) ? (int)code_point : -1;
    if (code_point <= 0x120) return (int)(code_point - 0x100);
    if (code_point <= 0x142) return (int)(code_point - 0x121 + 0x7F);
    return code_point == 0x143 ? 0xAD : -1;
}

/* ---- Texts ---- */

xl_str xl_vocab_text(const xl_tokenizer *t, uint32_t id) {
    const uint8_t *text = t->tokens + t->offsets[id];
    return (xl_str){(const char *)text, (size_t)xl_load_u64(text - 8)};
}

/* Steps through a packed array of strings; false where it breaks off. */
static bool next_string(const xl_str_array *array, size_t *at, xl_str *text) {
    if (array->bytes - *at < 8) return false;
    uint64_t length = xl_load_u64(array->data + *at);
    *at += 8;
    if (length > array->bytes - *at) return false;
    *text = (xl_str){(const char *)array->data + *at, (size_t)length};
    *at += (size_t)length;
    return true;
}

/* ---- Hash tables: open addressing over `n_slots` slots, not necessarily a power of two ---- */

static uint32_t first_slot(uint32_t hash, uint32_t n_slots) {
    hash ^= hash >> 15;
    hash *= 0x2C1B3C6Du;
    hash ^= hash >> 13;
    return (uint32_t)((uint64_t)hash * n_slots >> 32);
}

static uint32_t hash_pair(uint32_t left, uint32_t right) {
    return (left * 0x9E3779B1u) ^ ((right + 0x7F4A7C15u) * 0x85EBCA77u);
}

uint32_t xl_vocab_slots(size_t n) { return (uint32_t)(n + n / 2 + 8); }

/* A vocabulary whose texts were chosen to collide would make building quadratic: refused
 * once the probes exceed what any honest one needs (about 2 an entry) many times over. */
#define MAX_PROBES(n) (64ull * (n) + 65536)

/* The slot of the text a + b: the one that holds its id, or the empty one where it belongs. */
static uint32_t *text_slot(const xl_tokenizer *t, xl_str a, xl_str b, uint64_t *probes) {
    uint32_t hash = xl_hash_more(xl_hash_more(XL_HASH_START, a.data, a.bytes), b.data, b.bytes);
    for (uint32_t at = first_slot(hash, t->n_slots);; at = at + 1 < t->n_slots ? at + 1 : 0) {
        uint32_t id = t->slots[at];
        if (probes) ++*probes;
        if (id == XL_NO_ID) return &t->slots[at];
        xl_str text = xl_vocab_text(t, id);
        if (text.bytes == a.bytes + b.bytes && memcmp(text.data, a.data, a.bytes) == 0 &&
            (b.bytes == 0 || memcmp(text.data + a.bytes, b.data, b.bytes) == 0))
            return &t->slots[at];
    }
}

uint32_t xl_vocab_find(const xl_tokenizer *t, xl_str a, xl_str b) {
    if (a.bytes == 0) return b.bytes ? xl_vocab_find(t, b, a) : XL_NO_ID;
    return *text_slot(t, a, b, NULL);
}

uint32_t xl_vocab_find_bytes(const xl_tokenizer *t, const uint8_t *bytes, size_t n_bytes) {
    char encoded[2 * 64];
    size_t n = 0;
    if (n_bytes == 0 || n_bytes > t->info.max_token_bytes) return XL_NO_ID;
    if (n_bytes <= 64) {
        for (size_t i = 0; i < n_bytes; i++)
            n += xl_utf8_encode(xl_byte_to_char(bytes[i]), (uint8_t *)encoded + n);
        return xl_vocab_find(t, (xl_str){encoded, n}, (xl_str){NULL, 0});
    }
    /* Longer: hash and compare character by character, without a copy. */
    uint32_t hash = XL_HASH_START;
    uint8_t utf8[4];
    for (size_t i = 0; i < n_bytes; i++)
        hash = xl_hash_more(hash, (char *)utf8, xl_utf8_encode(xl_byte_to_char(bytes[i]), utf8));
    for (uint32_t at = first_slot(hash, t->n_slots);; at = at + 1 < t->n_slots ? at + 1 : 0) {
        uint32_t id = t->slots[at];
        if (id == XL_NO_ID) return XL_NO_ID;
        xl_str text = xl_vocab_text(t, id);
        size_t seen = 0, i = 0;
        for (; i < n_bytes; i++) {
            size_t length = xl_utf8_encode(xl_byte_to_char(bytes[i]), utf8);
            if (text.bytes - seen < length || memcmp(text.data + seen, utf8, length) != 0) break;
            seen += length;
        }
        if (i == n_bytes && seen == text.bytes) return id;
    }
}

#define MERGE_PAIR(left, right) ((xl_merge)(left) | (xl_merge)(right) << XL_MERGE_ID_BITS)
#define MERGE_PAIR_MASK (((xl_merge)1 << 2 * XL_MERGE_ID_BITS) - 1)

static uint32_t *merge_slot(const xl_tokenizer *t, uint32_t left, uint32_t right,
                            uint64_t *probes) {
    uint32_t at = first_slot(hash_pair(left, right), t->n_merge_slots);
    for (;; at = at + 1 < t->n_merge_slots ? at + 1 : 0) {
        uint32_t rank = t->merge_slots[at];
        if (probes) ++*probes;
        if (rank == XL_NO_ID || (t->merges[rank] & MERGE_PAIR_MASK) == MERGE_PAIR(left, right))
            return &t->merge_slots[at];
    }
}

bool xl_vocab_merge(const xl_tokenizer *t, uint32_t left, uint32_t right, uint32_t *rank,
                    uint32_t *result) {
    *rank = *merge_slot(t, left, right, NULL);
    if (*rank == XL_NO_ID) return false;
    *result = (uint32_t)(t->merges[*rank] >> 2 * XL_MERGE_ID_BITS);
    return true;
}

/* ---- Building ---- */

static exitlm_status too_many_collisions(const char *what, exitlm_error *error) {
    return xl_fail(error, EXITLM_BAD_MODEL,
                   "%s: too many entries share a hash; this vocabulary was made to be slow", what);
}

static exitlm_status build_texts(xl_tokenizer *t, const xl_tokenizer_source *source,
                                 exitlm_error *error) {
    memset(t->slots, 0xFF, t->n_slots * sizeof *t->slots);
    size_t at = 0;
    uint64_t probes = 0;
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        xl_str text;
        if (!next_string(&source->tokens, &at, &text))
            return xl_fail(error, EXITLM_BAD_MODEL,
                           "tokenizer.ggml.tokens: token %u lies outside its array", id);
        t->offsets[id] = (uint32_t)((const uint8_t *)text.data - t->tokens);
        if (text.bytes == 0) continue; /* a hole in the ids: never found, decodes to nothing */
        uint32_t *slot = text_slot(t, text, (xl_str){NULL, 0}, &probes);
        if (*slot != XL_NO_ID)
            return xl_fail(error, EXITLM_BAD_MODEL,
                           "tokenizer.ggml.tokens: tokens %u and %u have the same text '%.*s'",
                           *slot, id, XL_TEXT(text.data, text.bytes));
        *slot = id;
        if (probes > MAX_PROBES(t->n_tokens))
            return too_many_collisions("tokenizer.ggml.tokens", error);
    }
    return EXITLM_OK;
}

#define NO_MERGE UINT64_MAX

/* Merges whose parts or result are no tokens can never lead to one and are left out. Slots come
 * after all texts, over which they may lie. */
static exitlm_status build_merges(xl_tokenizer *t, const xl_tokenizer_source *source,
                                  exitlm_error *error) {
    size_t at = 0;
    uint64_t probes = 0;
    for (uint32_t rank = 0; rank < source->merges.count; rank++) {
        xl_str text;
        if (!next_string(&source->merges, &at, &text))
            return xl_fail(error, EXITLM_BAD_MODEL,
                           "tokenizer.ggml.merges: merge %u lies outside its array", rank);
        const char *space = text.bytes > 2 ? memchr(text.data + 1, ' ', text.bytes - 2) : NULL;
        if (!space)
            return xl_fail(error, EXITLM_BAD_MODEL,
                           "tokenizer.ggml.merges: merge %u, '%.*s', is not two texts with "
                           "a space between",
                           rank, XL_TEXT(text.data, text.bytes));
        xl_str a = {text.data, (size_t)(space - text.data)};
        xl_str b = {space + 1, text.bytes - a.bytes - 1};
        uint32_t left = *text_slot(t, a, (xl_str){NULL, 0}, &probes);
        uint32_t right = *text_slot(t, b, (xl_str){NULL, 0}, &probes);
        uint32_t result = *text_slot(t, a, b, &probes);
        bool known = left != XL_NO_ID && right != XL_NO_ID && result != XL_NO_ID;
        t->merges[rank] =
            known ? MERGE_PAIR(left, right) | (xl_merge)result << 2 * XL_MERGE_ID_BITS : NO_MERGE;
        if (probes > MAX_PROBES(t->n_tokens + source->merges.count))
            return too_many_collisions("tokenizer.ggml.merges", error);
    }
    memset(t->merge_slots, 0xFF, t->n_merge_slots * sizeof *t->merge_slots);
    for (uint32_t rank = 0; rank < source->merges.count; rank++) {
        const xl_merge pair = t->merges[rank] & MERGE_PAIR_MASK;
        if (t->merges[rank] == NO_MERGE) continue;
        uint32_t *slot = merge_slot(t, (uint32_t)(pair & ((1u << XL_MERGE_ID_BITS) - 1)),
                                    (uint32_t)(pair >> XL_MERGE_ID_BITS), &probes);
        if (*slot == XL_NO_ID) *slot = rank; /* else: the first one counts */
        if (probes > MAX_PROBES(t->n_tokens + source->merges.count))
            return too_many_collisions("tokenizer.ggml.merges", error);
    }
    return EXITLM_OK;
}

/* ---- Attributes ---- */

static void build_types(xl_tokenizer *t, const xl_tokenizer_source *source) {
    static const uint8_t by_type[7] = {XL_TOKEN_UNUSED,  XL_TOKEN_NORMAL,       XL_TOKEN_UNKNOWN,
                                       XL_TOKEN_CONTROL, XL_TOKEN_USER_DEFINED, XL_TOKEN_UNUSED,
                                       XL_TOKEN_BYTE};
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        uint32_t type =
            source->types ? xl_load_u32((const uint8_t *)source->types + 4 * (size_t)id) : 1;
        t->attr[id] = type < 7 ? by_type[type] : XL_TOKEN_UNUSED;
    }
}

/* Tokens whose very text says what they are, as llama.cpp knows them; older files have them as
 * normal ones. END: a reply ends there; EOT: too, and the first of these is the end of a turn where
 * the file names none; USER: never control tokens. From FIM on, for fill-in-the-middle: the first
 * of each kind counts where the file names none; padding, repository and file separators end a
 * chat, too. */
enum { END, EOT, USER, FIM };
#define FULLWIDTH_BAR "\uff5c"
#define LOW_BLOCK "\u2581"
/* clang-format off */
#define FIM_NAMES(KIND, NAME, DEEPSEEK, LLAMA)                                              \
    {"<|fim_" NAME "|>", KIND}, {"<fim-" NAME ">", KIND}, {"<fim_" NAME ">", KIND},         \
    {"<" FULLWIDTH_BAR "fim" LOW_BLOCK DEEPSEEK FULLWIDTH_BAR ">", KIND},                   \
    {"<" LLAMA ">", KIND}, {LOW_BLOCK "<" LLAMA ">", KIND},                                 \
    {"<|code_" NAME "|>", KIND}, {"<|" NAME "|>", KIND}
/* clang-format on */
static const struct {
    const char *text;
    int kind;
} known_tokens[] = {
    {"<|eot_id|>", EOT},
    {"<|im_end|>", EOT},
    {"<|end|>", EOT},
    {"<end_of_turn>", EOT},
    {"<|endoftext|>", EOT},
    {"<|end_of_text|>", EOT},
    {"<EOT>", EOT},
    {"_<EOT>", EOT},
    {"[EOT]", EOT},
    {"<" FULLWIDTH_BAR "end" LOW_BLOCK "of" LOW_BLOCK "sentence" FULLWIDTH_BAR ">", EOT},
    {"<end_of_utterance>", EOT},
    {"<|eom_id|>", END},
    {"<|return|>", END},
    {"<|call|>", END},
    {"<|calls|>", END},
    {"<|flush|>", END},
    {"</s>", END},
    {"[EOS]", END},
    {"<eos>", END},
    {"<turn|>", END},
    {"<|tool_response>", END},
    {"[e~[", END},
    {"<|channel|>", USER},
    {"<|message|>", USER},
    {"<|start|>", USER},
    {"<|constrain|>", USER},
    FIM_NAMES(FIM, "prefix", "begin", "PRE"),
    FIM_NAMES(FIM + 1, "suffix", "hole", "SUF"),
    FIM_NAMES(FIM + 2, "middle", "end", "MID"),
    {"<|fim_pad|>", FIM + 3},
    {"<fim-pad>", FIM + 3},
    {"<fim_pad>", FIM + 3},
    {"<PAD>", FIM + 3},
    {"[PAD]", FIM + 3},
    {"<|fim_repo|>", FIM + 4},
    {"<|repo_name|>", FIM + 4},
    {"<fim-repo>", FIM + 4},
    {"<REPO>", FIM + 4},
    {"<reponame>", FIM + 4},
    {"<|file_sep|>", FIM + 5},
};

static uint32_t find_known(const xl_tokenizer *t, const char *text) {
    return xl_vocab_find(t, (xl_str){text, strlen(text)}, (xl_str){NULL, 0});
}

static bool ends_reply(const xl_tokenizer *t, const char *text) {
    const uint32_t id = find_known(t, text);
    return id != XL_NO_ID && t->attr[id] & XL_TOKEN_EOG;
}

static void mark_end(xl_tokenizer *t, int64_t id) {
    if (id >= 0 && id < (int64_t)t->n_tokens) t->attr[id] |= XL_TOKEN_EOG;
}

/* A token that is an end of generation by its text is none in these vocabularies. */
static void unmark_end(xl_tokenizer *t, const char *text, xl_token_attr attr) {
    if (ends_reply(t, text)) t->attr[find_known(t, text)] = (uint8_t)attr;
}

static void build_ends(xl_tokenizer *t, const xl_tokenizer_source *source) {
    int64_t fim[XL_FIM_COUNT];
    memcpy(fim, source->fim, sizeof fim);
    for (size_t i = 0; i < sizeof known_tokens / sizeof *known_tokens; i++) {
        const int kind = known_tokens[i].kind;
        const uint32_t id = find_known(t, known_tokens[i].text);
        if (id == XL_NO_ID || (kind >= FIM && fim[kind - FIM] >= 0)) continue;
        if (kind == USER) {
            t->attr[id] = XL_TOKEN_USER_DEFINED;
            continue;
        }
        t->attr[id] |= XL_TOKEN_CONTROL;
        if (kind >= FIM) fim[kind - FIM] = id;
        else mark_end(t, id);
        if (kind == EOT && t->info.eot < 0) t->info.eot = (int32_t)id;
    }
    for (int i = 3; i < (int)XL_FIM_COUNT; i++) mark_end(t, fim[i]);
    mark_end(t, t->info.eos);
    mark_end(t, t->info.eot);
    mark_end(t, source->eom);
    /* <|end|> ends a message, not the reply, where these are */
    const bool calls = ends_reply(t, "<|call|>") || ends_reply(t, "<|calls|>");
    if (calls && (ends_reply(t, "<|return|>") || ends_reply(t, "<|flush|>")))
        unmark_end(t, "<|end|>", XL_TOKEN_USER_DEFINED);
    if (ends_reply(t, "<|tool_response>")) unmark_end(t, "</s>", XL_TOKEN_NORMAL);
}

/* Phi-3's special tokens swallow the white space behind them, but for three. */
static void build_strips(xl_tokenizer *t) {
    static const char *const plain[] = {"<unk>", "<s>", "<|endoftext|>"};
    for (uint32_t id = 0; id < t->n_tokens; id++)
        if (t->attr[id] & (XL_TOKEN_CONTROL | XL_TOKEN_USER_DEFINED | XL_TOKEN_UNKNOWN))
            t->attr[id] |= XL_TOKEN_STRIPS;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        const uint32_t id = find_known(t, plain[i]);
        if (id != XL_NO_ID) t->attr[id] &= (uint8_t)~XL_TOKEN_STRIPS;
    }
}

/* ---- Special tokens: two orders of the same ids ---- */

static int compare_texts(xl_str a, xl_str b) {
    int order = memcmp(a.data, b.data, a.bytes < b.bytes ? a.bytes : b.bytes);
    return order ? order : (a.bytes > b.bytes) - (a.bytes < b.bytes);
}

/* Longest first, then by id. */
static bool length_before(const void *context, uint32_t a, uint32_t b) {
    const xl_tokenizer *t = context;
    size_t la = xl_vocab_text(t, a).bytes, lb = xl_vocab_text(t, b).bytes;
    return la != lb ? la > lb : a < b;
}

static bool text_before(const void *context, uint32_t a, uint32_t b) {
    const xl_tokenizer *t = context;
    return compare_texts(xl_vocab_text(t, t->special[a]), xl_vocab_text(t, t->special[b])) < 0;
}

static exitlm_status build_special(xl_tokenizer *t, exitlm_error *error) {
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        if (!(t->attr[id] & (XL_TOKEN_CONTROL | XL_TOKEN_USER_DEFINED | XL_TOKEN_UNKNOWN)))
            continue;
        xl_str text = xl_vocab_text(t, id);
        if (text.bytes == 0) continue;
        if (text.bytes > XL_MAX_SPECIAL_BYTES)
            return xl_fail(error, EXITLM_BAD_MODEL,
                           "tokenizer.ggml.tokens: special token %u is %zu bytes long; "
                           "at most %u are allowed",
                           id, text.bytes, XL_MAX_SPECIAL_BYTES);
        if (t->n_special == t->special_capacity)
            return xl_fail(error, EXITLM_BAD_MODEL,
                           "tokenizer.ggml.token_type changed while it was read");
        t->special[t->n_special++] = id;
        t->special_first[(uint8_t)text.data[0] >> 5] |= 1u << (text.data[0] & 31);
    }
    xl_sort(t->special, t->n_special, length_before, t);
    for (uint32_t i = 0; i < t->n_special; i++) t->special_sorted[i] = i;
    xl_sort(t->special_sorted, t->n_special, text_before, t);
    return EXITLM_OK;
}

/* ---- Single bytes, lengths ---- */

static void build_bytes(xl_tokenizer *t) {
    static const char hex[] = "0123456789ABCDEF";
    for (uint32_t byte = 0; byte < 256; byte++) {
        char text[6] = {'<', '0', 'x', hex[byte >> 4], hex[byte & 15], '>'};
        char raw = (char)byte;
        xl_str none = {NULL, 0};
        if (t->info.byte_level) {
            uint8_t utf8[4];
            size_t length = xl_utf8_encode(xl_byte_to_char((uint8_t)byte), utf8);
            t->byte_id[byte] = xl_vocab_find(t, (xl_str){(char *)utf8, length}, none);
            continue;
        }
        t->byte_id[byte] = xl_vocab_find(t, (xl_str){text, sizeof text}, none);
        if (t->ranked) continue;
        if (t->byte_id[byte] == XL_NO_ID)
            t->byte_id[byte] = xl_vocab_find(t, (xl_str){&raw, 1}, none);
        if (t->byte_id[byte] == XL_NO_ID && t->info.unk >= 0)
            t->byte_id[byte] = (uint32_t)t->info.unk;
    }
}

/* True where U+2581 (a space) stands only at the front of the text, in a run. */
static bool space_only_in_front(xl_str text) {
    size_t front = 0;
    while (text.bytes - front >= 3 && memcmp(text.data + front, "\xE2\x96\x81", 3) == 0) front += 3;
    for (size_t i = front; text.bytes - i >= 3; i++)
        if (memcmp(text.data + i, "\xE2\x96\x81", 3) == 0) return false;
    return true;
}

static exitlm_status build_lengths(xl_tokenizer *t, exitlm_error *error) {
    t->words_split = true;
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        xl_str text = xl_vocab_text(t, id);
        if (text.bytes > UINT16_MAX)
            return xl_fail(error, EXITLM_BAD_MODEL,
                           "tokenizer.ggml.tokens: token %u is %zu bytes long; at most %u "
                           "are allowed",
                           id, text.bytes, UINT16_MAX);
        if (text.bytes > t->info.max_token_bytes) t->info.max_token_bytes = (uint32_t)text.bytes;
        if (!t->ranked && !space_only_in_front(text)) t->words_split = false;
    }
    return EXITLM_OK;
}

static exitlm_status check_scores(const xl_tokenizer *t, exitlm_error *error) {
    if (!t->scores) return EXITLM_OK;
    for (uint32_t id = 0; id < t->n_tokens; id++)
        if ((xl_load_u32(t->scores + 4 * (size_t)id) & 0x7FFFFFFF) > 0x7F800000)
            return xl_fail(error, EXITLM_BAD_MODEL,
                           "tokenizer.ggml.scores: the score of token %u is not a number", id);
    return EXITLM_OK;
}

exitlm_status xl_vocab_build(xl_tokenizer *t, const xl_tokenizer_source *source,
                             exitlm_error *error) {
    exitlm_status status = build_texts(t, source, error);
    if (status == EXITLM_OK) status = build_lengths(t, error);
    if (status == EXITLM_OK)
        status = t->ranked ? build_merges(t, source, error) : check_scores(t, error);
    if (status != EXITLM_OK) return status;
    build_types(t, source);
    build_ends(t, source);
    if (source->strips) build_strips(t);
    build_bytes(t);
    return build_special(t, error);
}
