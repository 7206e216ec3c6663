/* libFuzzer: a vocabulary, a chat template and a text made of the input. What must hold: no crash,
 * ids in range and within the stated numbers, the same ids whatever the buffer, whole characters
 * out of the stream. */
#include "base/alloc.h"
#include "input.h"
#include "text/template.h"
#include "text/tokenizer.h"

#include <string.h>

typedef struct strings {
    uint8_t data[1 << 14];
    size_t bytes, count;
} strings;

static void add(strings *s, const void *text, size_t n, uint64_t claimed) {
    if (s->bytes + 8 + n > sizeof s->data) return;
    for (int i = 0; i < 8; i++) s->data[s->bytes++] = (uint8_t)(claimed >> (8 * i));
    if (n) memcpy(s->data + s->bytes, text, n);
    s->bytes += n;
    s->count++;
}

/* Texts of up to 15 bytes from the input; one length in 256 lies. */
static void add_texts(strings *s, input *in, size_t n_texts) {
    for (size_t i = 0; i < n_texts && in->n; i++) {
        uint8_t head = take(in, 1);
        size_t n = head & 15 ? head & 15 : 1;
        if (n > in->n) n = in->n;
        uint64_t claimed = head == 0xFF ? (uint64_t)take(in, 1) << 56 | take(in, 1) : n;
        if (n > in->n) n = in->n;
        add(s, in->data, n, claimed);
        in->data += n;
        in->n -= n;
    }
}

static const uint8_t *text_at(const strings *s, size_t index, size_t *n) {
    const uint8_t *at = s->data;
    for (; index > 0; index--) at += 8 + at[0];
    *n = at[0];
    return at + 8;
}

/* Merges of pairs of tokens, and the tokens that they make, so that long chains arise. */
static void add_merges(strings *tokens, strings *merges, input *in, size_t n_merges) {
    for (size_t i = 0; i < n_merges && in->n > 1 && tokens->count; i++) {
        size_t na, nb;
        const uint8_t *a = text_at(tokens, take(in, 1) % tokens->count, &na);
        const uint8_t *b = text_at(tokens, take(in, 1) % tokens->count, &nb);
        uint8_t text[600];
        memcpy(text, a, na);
        text[na] = ' ';
        memcpy(text + na + 1, b, nb);
        add(merges, text, na + nb + 1, na + nb + 1);
        memcpy(text + na, b, nb);
        if (na + nb < 256) add(tokens, text, na + nb, na + nb);
    }
}

static void check_decoding(const xl_tokenizer *t, const int32_t *ids, size_t n) {
    xl_tokenizer_info info;
    xl_tokenizer_describe(t, &info);
    xl_utf8_stream stream = {0};
    char *piece = malloc(info.max_token_bytes + 1),
         *out = malloc(3 * ((size_t)info.max_token_bytes + 3));
    EXPECT(piece && out);
    for (size_t i = 0; i < n; i++) {
        EXPECT(ids[i] >= 0 && (uint32_t)ids[i] < info.n_tokens &&
               xl_token_attributes(t, ids[i]) != 0);
        size_t length = xl_token_bytes(t, ids[i], piece, info.max_token_bytes);
        EXPECT(length <= info.max_token_bytes);
        size_t written = xl_utf8_push(&stream, piece, length, out), again;
        EXPECT(written <= 3 * (length + 3));
        xl_utf8_stream whole = {0};
        char *copy = malloc(3 * (written + 3));
        EXPECT(copy);
        again = xl_utf8_push(&whole, out, written, copy);
        EXPECT(again == written && whole.n_held == 0 && memcmp(copy, out, written) == 0);
        free(copy);
    }
    EXPECT(xl_utf8_flush(&stream, out) <= 3);
    free(piece);
    free(out);
}

static void check_encoding(const xl_tokenizer *t, const char *text, size_t n_bytes) {
    size_t bound = 3 * n_bytes + 5, n, half;
    int32_t *ids = malloc(bound * sizeof *ids), *some = malloc(bound * sizeof *some);
    EXPECT(ids && some);
    for (unsigned flags = 0; flags < 4; flags++) {
        EXPECT(xl_tokenizer_encode(t, text, n_bytes, flags, ids, bound, &n, NULL) == EXITLM_OK &&
               n <= bound);
        EXPECT(xl_tokenizer_encode(t, text, n_bytes, flags, some, n / 2, &half, NULL) ==
                   EXITLM_OK &&
               half == n);
        EXPECT(memcmp(ids, some, n / 2 * sizeof *ids) == 0);
        check_decoding(t, ids, n);
    }
    free(ids);
    free(some);
}

static void check_template(const xl_tokenizer *t, const char *text, size_t n_bytes) {
    char *content = malloc(n_bytes + 1);
    EXPECT(content);
    memcpy(content, text, n_bytes);
    content[n_bytes] = 0;
    const exitlm_message messages[] = {
        {"system", content}, {"user", content}, {"assistant", content}};
    xl_template chat;
    size_t n, again;
    xl_template_init(&chat, (xl_str){text, n_bytes}, t);
    for (size_t from = 0; from < 2; from++) {
        if (xl_template_render(&chat, messages + from, 3 - from, true, NULL, 0, &n, NULL, NULL) !=
            EXITLM_OK)
            continue;
        char *out = malloc(n + 1);
        EXPECT(out && xl_template_render(&chat, messages + from, 3 - from, true, out, n, &again,
                                         NULL, NULL) == EXITLM_OK);
        EXPECT(again == n);
        free(out);
    }
    free(content);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const pres[] = {"smollm",  "llama-bpe",    "qwen2",  "gpt-2",
                                       "default", "deepseek-llm", "gpt-4o", "gemma4"};
    static strings tokens, merges;
    static uint8_t types[4 * 4096], scores[4 * 4096];
    input in = {data, size};
    uint8_t setup = take(&in, 1), n_tokens = take(&in, 1), n_merges = take(&in, 1);
    tokens.bytes = tokens.count = merges.bytes = merges.count = 0;
    if (setup & 1) add(&tokens, "\xE2\x96\x81", 3, 3);
    add_texts(&tokens, &in, n_tokens);
    bool honest = true;
    for (size_t at = 0, i = 0; i < tokens.count; i++) {
        if (at >= tokens.bytes || tokens.data[at] == 0 ||
            memcmp(tokens.data + at + 1, "\0\0\0\0\0\0\0", 7) != 0)
            honest = false;
        if (!honest) break;
        at += 8 + tokens.data[at];
    }
    if (honest) add_merges(&tokens, &merges, &in, n_merges);
    for (size_t i = 0; i < 4096; i++) {
        types[4 * i] = i < size ? data[i] & 7 : 1;
        scores[4 * i + 2] = i < size ? data[i] & 0xF0 : 0;
        scores[4 * i + 3] = 0xC0;
    }
    xl_tokenizer_source source;
    xl_tokenizer_source_init(&source);
    source.model = setup & 1 ? (xl_str){"llama", 5} : (xl_str){"gpt2", 4};
    source.pre = (xl_str){pres[setup >> 5], strlen(pres[setup >> 5])};
    source.tokens = (xl_str_array){tokens.data, tokens.bytes, tokens.count};
    source.merges = (xl_str_array){merges.data, merges.bytes, merges.count};
    source.types = setup & 2 ? types : NULL;
    source.scores = setup & 4 ? scores : NULL;
    source.n_types = source.n_scores = 4096;
    source.bos = setup & 8 ? 0 : -1;
    source.add_bos = setup & 8 ? 1 : -1;
    source.add_space_prefix = setup & 16 ? 0 : -1;
    xl_tokenizer *t;
    exitlm_error error = {0};
    exitlm_status status = xl_tokenizer_create(&t, &source, NULL, &error);
    EXPECT((status == EXITLM_OK) == (t != NULL) && (t || error.message[0]));
    if (!t) return 0;
    check_encoding(t, (const char *)in.data, in.n);
    check_template(t, (const char *)in.data, in.n);
    xl_tokenizer_free(t);
    return 0;
}
