/* Byte-level BPE: words of the pre-tokenizer, bytes as first symbols, merges by rank. */
#include "unicode.h"
#include "vocab.h"

static bool ranked_pair(const void *context, uint32_t left, uint32_t right, uint32_t value_after,
                        uint32_t *key, uint32_t *merged) {
    (void)value_after;
    return xl_vocab_merge(context, left, right, key, merged);
}

static bool encode_word(const xl_tokenizer *t, xl_work *work, const uint8_t *word, size_t n_bytes,
                        xl_ids *out) {
    if (t->pre.ignore_merges) {
        uint32_t id = xl_vocab_find_bytes(t, word, n_bytes);
        if (id != XL_NO_ID) {
            xl_ids_put(out, id);
            return true;
        }
    }
    if (!xl_work_reserve(work, n_bytes)) return false;
    for (size_t i = 0; i < n_bytes; i++) work->value[i] = t->byte_id[word[i]];
    uint32_t n = xl_merge_symbols(work, (uint32_t)n_bytes, XL_NO_ID, ranked_pair, t);
    for (uint32_t i = 0; i < n; i++) /* a byte without a token is dropped */
        if (work->value[i] != XL_NO_ID) xl_ids_put(out, work->value[i]);
    return true;
}

/* Text that is not plain UTF-8 is rewritten first: overlong forms shortened, what begins nothing
 * becomes U+FFFD. */
static bool make_plain(xl_work *work, const uint8_t **text, size_t *n_bytes) {
    if (!xl_work_text(work, 3 * *n_bytes)) return false;
    size_t written = 0;
    for (const uint8_t *at = *text, *end = at + *n_bytes; at < end;) {
        uint32_t code_point;
        at += xl_utf8_decode_lenient(at, end, &code_point);
        written += xl_utf8_encode(code_point, work->text + written);
    }
    *text = work->text;
    *n_bytes = written;
    return true;
}

bool xl_bpe_encode(const xl_tokenizer *t, xl_work *work, const uint8_t *text, size_t n_bytes,
                   xl_ids *out) {
    if (n_bytes == 0) return true;
    if (!xl_utf8_is_plain(text, n_bytes) && !make_plain(work, &text, &n_bytes)) return false;
    xl_pre_walk walk = {.kind = t->pre.kind, .at = text, .end = text + n_bytes};
    for (const uint8_t *word; xl_pre_next(&walk, &word);)
        if (!encode_word(t, work, word, (size_t)(walk.at - word), out)) return false;
    return true;
}
