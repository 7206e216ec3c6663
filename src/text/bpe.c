/* BPE with ranked merges: words of the pre-tokenizer; bytes as first symbols, or characters where
 * the vocabulary is of plain UTF-8. */
#include "unicode.h"
#include "vocab.h"

/* A first symbol that is no token, with its code point: no merge has it. */
#define NO_TOKEN 0x80000000u

static bool ranked_pair(const void *context, uint32_t left, uint32_t right, uint32_t value_after,
                        uint32_t *key, uint32_t *merged) {
    (void)value_after;
    return !((left | right) & NO_TOKEN) && xl_vocab_merge(context, left, right, key, merged);
}

static uint32_t whole_token(const xl_tokenizer *t, const uint8_t *word, size_t n_bytes) {
    const xl_str text = {(const char *)word, n_bytes};
    const bool breaks = t->pre.whole_breaks && *word == '\n'; /* such a word has nothing else */
    if (!t->pre.ignore_merges && !breaks) return XL_NO_ID;
    return t->pre.raw ? xl_vocab_find(t, text, (xl_str){NULL, 0})
                      : xl_vocab_find_bytes(t, word, n_bytes);
}

/* The first symbols of a word, to work->value; their number. */
static uint32_t split_word(const xl_tokenizer *t, xl_work *work, const uint8_t *word,
                           size_t n_bytes) {
    uint32_t n = 0;
    if (!t->pre.raw)
        for (; n < n_bytes; n++) work->value[n] = t->byte_id[word[n]];
    else
        for (size_t at = 0, taken; at < n_bytes; at += taken) {
            uint32_t code_point;
            taken = xl_utf8_decode_lenient(word + at, word + n_bytes, &code_point);
            const xl_str text = {(const char *)word + at, taken};
            const uint32_t id = xl_vocab_find(t, text, (xl_str){NULL, 0});
            work->value[n++] = id == XL_NO_ID ? NO_TOKEN | code_point : id;
        }
    return n;
}

/* A character without a token becomes its bytes' tokens; a byte without one is dropped. */
static void put_symbol(const xl_tokenizer *t, uint32_t value, xl_ids *out) {
    if (!(value & NO_TOKEN)) xl_ids_put(out, value);
    if (!(value & NO_TOKEN) || value == XL_NO_ID) return;
    uint8_t bytes[4];
    const size_t n = xl_utf8_encode(value & ~NO_TOKEN, bytes);
    for (size_t i = 0; i < n; i++)
        if (t->byte_id[bytes[i]] != XL_NO_ID) xl_ids_put(out, t->byte_id[bytes[i]]);
}

static bool encode_word(const xl_tokenizer *t, xl_work *work, const uint8_t *word, size_t n_bytes,
                        xl_ids *out) {
    const uint32_t whole = whole_token(t, word, n_bytes);
    if (whole != XL_NO_ID) return xl_ids_put(out, whole), true;
    if (!xl_work_reserve(work, n_bytes)) return false;
    uint32_t n = split_word(t, work, word, n_bytes);
    n = xl_merge_symbols(work, n, XL_NO_ID, ranked_pair, t);
    for (uint32_t i = 0; i < n; i++) put_symbol(t, work->value[i], out);
    return true;
}

/* Text rewritten to plain UTF-8: overlong forms shortened, what begins nothing becomes U+FFFD;
 * and a space becomes U+2581 where tokens have that. */
static bool rewrite(xl_work *work, const uint8_t **text, size_t *n_bytes, uint32_t space) {
    if (!xl_work_text(work, 3 * *n_bytes)) return false;
    size_t written = 0;
    for (const uint8_t *at = *text, *end = at + *n_bytes; at < end;) {
        uint32_t code_point;
        at += xl_utf8_decode_lenient(at, end, &code_point);
        written += xl_utf8_encode(code_point == ' ' ? space : code_point, work->text + written);
    }
    *text = work->text;
    *n_bytes = written;
    return true;
}

bool xl_bpe_encode(const xl_tokenizer *t, xl_work *work, const uint8_t *text, size_t n_bytes,
                   xl_ids *out) {
    if (n_bytes == 0) return true;
    if ((t->pre.raw || !xl_utf8_is_plain(text, n_bytes)) &&
        !rewrite(work, &text, &n_bytes, t->pre.raw ? 0x2581 : ' '))
        return false;
    xl_pre_walk walk = {.pre = &t->pre, .at = text, .end = text + n_bytes};
    for (const uint8_t *word; xl_pre_next(&walk, &word);)
        if (!encode_word(t, work, word, (size_t)(walk.at - word), out)) return false;
    return true;
}
