/* SentencePiece-style BPE: spaces written as U+2581, characters as first
 * symbols, pairs merge where their text is a token, best score first. What is no token in
 * the end is spelled in byte tokens. */
#include "base/bytes.h"
#include "unicode.h"
#include "vocab.h"

#include <string.h>

/* A symbol's value is the offset of its text; it ends where the next one begins. */
typedef struct spm_text {
    const xl_tokenizer *t;
    const uint8_t *text;
} spm_text;

/* Numbers so that a higher score gives a lower key, and equal scores the same. */
static uint32_t score_key(const xl_tokenizer *t, uint32_t id) {
    if (!t->scores) return 0;
    uint32_t bits = xl_load_u32(t->scores + 4 * (size_t)id);
    if (bits == 0x80000000u) bits = 0; /* -0 equals 0 */
    uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return ~ascending;
}

static bool scored_pair(const void *context, uint32_t left, uint32_t right, uint32_t value_after,
                        uint32_t *key, uint32_t *merged) {
    const spm_text *s = context;
    (void)right;
    xl_str text = {(const char *)s->text + left, value_after - left};
    if (text.bytes > s->t->info.max_token_bytes) return false;
    uint32_t id = xl_vocab_find(s->t, text, (xl_str){NULL, 0});
    if (id == XL_NO_ID) return false;
    *key = score_key(s->t, id);
    *merged = left;
    return true;
}

static void put_symbol(const xl_tokenizer *t, const uint8_t *text, size_t n_bytes, xl_ids *out) {
    uint32_t id = xl_vocab_find(t, (xl_str){(const char *)text, n_bytes}, (xl_str){NULL, 0});
    if (id != XL_NO_ID) {
        xl_ids_put(out, id);
        return;
    }
    for (size_t i = 0; i < n_bytes; i++)
        if (t->byte_id[text[i]] != XL_NO_ID) xl_ids_put(out, t->byte_id[text[i]]);
}

static bool encode_piece(const xl_tokenizer *t, xl_work *work, const uint8_t *piece, size_t n_bytes,
                         size_t n_symbols, xl_ids *out) {
    if (!xl_work_reserve(work, n_symbols)) return false;
    uint32_t n = 0;
    for (size_t at = 0; at < n_bytes; at += xl_utf8_length(piece[at]))
        work->value[n++] = (uint32_t)at;
    spm_text context = {t, piece};
    n = xl_merge_symbols(work, n, (uint32_t)n_bytes, scored_pair, &context);
    for (uint32_t i = 0; i < n; i++) {
        size_t end = i + 1 < n ? work->value[i + 1] : n_bytes;
        put_symbol(t, piece + work->value[i], end - work->value[i], out);
    }
    return true;
}

static bool is_space(const uint8_t *text, size_t length) {
    return length == 3 && memcmp(text, "\xE2\x96\x81", 3) == 0;
}

/* Characters are told by their first byte alone and may swallow what follows a broken one, as in
 * llama.cpp. Where no token has a space inside, no merge crosses the front of a run of spaces,
 * and each word is done on its own. */
static bool encode_escaped(const xl_tokenizer *t, xl_work *work, const uint8_t *text,
                           size_t n_bytes, xl_ids *out) {
    size_t begin = 0, n_symbols = 0;
    bool after_space = true;
    for (size_t at = 0; at < n_bytes;) {
        size_t length = xl_utf8_length(text[at]);
        if (length > n_bytes - at) length = n_bytes - at;
        bool space = is_space(text + at, length);
        if (space && !after_space && t->words_split) {
            if (!encode_piece(t, work, text + begin, at - begin, n_symbols, out)) return false;
            begin = at;
            n_symbols = 0;
        }
        after_space = space;
        n_symbols++;
        at += length;
    }
    return encode_piece(t, work, text + begin, n_bytes - begin, n_symbols, out);
}

bool xl_spm_encode(const xl_tokenizer *t, xl_work *work, const uint8_t *text, size_t n_bytes,
                   bool space_prefix, xl_ids *out) {
    if (!xl_work_text(work, 3 * (n_bytes + 1))) return false;
    size_t written = 0;
    for (size_t i = space_prefix ? 0 : 1; i <= n_bytes; i++) {
        if (i == 0 || text[i - 1] == ' ') {
            memcpy(work->text + written, "\xE2\x96\x81", 3);
            written += 3;
        } else {
            work->text[written++] = text[i - 1];
        }
    }
    return written == 0 || encode_escaped(t, work, work->text, written, out);
}
