/* Tokenizers give llama.cpp's ids (tests/data/tokenizer, made by make.py there), and text comes
 * back whole. */
#include "gguf/gguf.h"
#include "tokenizer_fixture.h"
#include "tokenizer_vocabularies.h"
#include "text/unicode.h"

#define FOLDER "tests/data/tokenizer/"
#define MODEL "models/smollm2-135m-instruct.gguf"
#define BLOCK 100

/* ---- Texts and generated cases, by the rules of make.py ---- */

static struct {
    char *text[256];
    size_t bytes[256];
    size_t n;
    char *file;
} texts;

static void read_texts(void) {
    size_t n;
    texts.file = read_file(FOLDER "texts.txt", &n);
    CHECK(texts.file, FOLDER "texts.txt cannot be read");
    for (char *line = texts.file, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        texts.text[texts.n] = line;
        texts.bytes[texts.n++] = unescape(line);
    }
}

static size_t add_text(char *out, const char *text, size_t times) {
    size_t length = strlen(text);
    for (size_t i = 0; i < times; i++) memcpy(out + i * length, text, length);
    return times * length;
}

#define PICK(random, list) list[pick(random, sizeof list / sizeof *list)]

static size_t mixed_part(uint64_t *random, char *out) {
    static const char *const special[] = {
        "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_", "'s", "'LL", " '", "\r\n"};
    static const char *const repeated[] = {" ", "\n", "\t",       "a",           "1",
                                           ".", "=",  "\xC3\xA9", "\xE3\x80\x80"};
    static const uint32_t limits[] = {0x80, 0x3000, 0x10000, 0x110000};
    uint32_t kind = pick(random, 8);
    size_t n = 0;
    if (kind < 4) {
        uint32_t line = pick(random, (uint32_t)texts.n), length = (uint32_t)texts.bytes[line];
        uint32_t start = pick(random, length + 1), left = length - start;
        n = pick(random, (left < 40 ? left : 40) + 1);
        memcpy(out, texts.text[line] + start, n);
        return n;
    }
    if (kind == 4) {
        uint32_t limit = PICK(random, limits);
        for (uint32_t times = 1 + pick(random, 3); times > 0; times--)
            n += xl_utf8_encode(pick(random, limit), (uint8_t *)out + n);
        return n;
    }
    if (kind == 5) {
        const char *text = PICK(random, repeated);
        return add_text(out, text, 1 + pick(random, 40));
    }
    if (kind == 6) return add_text(out, PICK(random, special), 1);
    for (uint32_t times = 1 + pick(random, 4); times > 0; times--)
        out[n++] = (char)pick(random, 0xF4);
    return n;
}

static size_t mixed_case(uint64_t *random, char *out) {
    size_t n = 0;
    for (uint32_t parts = 1 + pick(random, 6); parts > 0; parts--) n += mixed_part(random, out + n);
    return n;
}

static void break_a_byte(uint64_t *random, char *text, size_t n) {
    if (pick(random, 10)) return;
    uint32_t at = pick(random, (uint32_t)n);
    text[at] = (char)pick(random, 0xF4);
}

static size_t case_of(uint64_t *random, char *out, const char *const *symbols, uint32_t n_symbols) {
    static const char *const marks[] = {"<|x|>", "<|xy|>", "<|xy|><|x|>", "  ll", "'ll", "'Ll"};
    static const uint32_t times[] = {1, 1, 1, 2, 3, 5, 7};
    size_t n = 0;
    for (uint32_t parts = 1 + pick(random, 16); parts > 0; parts--) {
        if (pick(random, 20)) {
            const char *symbol = symbols[pick(random, n_symbols)];
            n += add_text(out + n, symbol, PICK(random, times));
        } else n += add_text(out + n, PICK(random, marks), 1);
    }
    break_a_byte(random, out, n);
    return n;
}

static size_t symbol_case(uint64_t *random, char *out) {
    return case_of(random, out, SYMBOLS(byte_level_symbols));
}

static size_t wide_case(uint64_t *random, char *out) {
    return case_of(random, out, SYMBOLS(wide_symbols));
}

static size_t piece_case(uint64_t *random, char *out) {
    static const char *const pieces[] = {
        "a",   "b",   "c",    " ",  " ",   "\xC3\xA9", "1",           "\n", "\xE2\x96\x81",
        "abc", "<s>", "</s>", "ab", "<u>", "zz",       "\xE4\xBD\xA0"};
    static const uint32_t times[] = {1, 1, 2, 7};
    size_t n = 0;
    for (uint32_t parts = 1 + pick(random, 20); parts > 0; parts--) {
        const char *piece = PICK(random, pieces);
        n += add_text(out + n, piece, PICK(random, times));
    }
    break_a_byte(random, out, n);
    return n;
}

/* Characters over U+10FFFF, of which llama.cpp throws. */
static bool too_large(const char *text, size_t n) {
    const uint8_t *p = (const uint8_t *)text;
    for (size_t i = 0; i + 4 <= n; i++)
        if (p[i] >= 0xF4 && p[i] <= 0xF7 && (p[i] > 0xF4 || p[i + 1] >= 0x90) &&
            (p[i + 1] & 0xC0) == 0x80 && (p[i + 2] & 0xC0) == 0x80 && (p[i + 3] & 0xC0) == 0x80)
            return true;
    return false;
}

/* ---- Comparing ---- */

#define MAX_IDS 8192
typedef size_t case_fn(uint64_t *random, char *out);
typedef struct counts {
    size_t texts, blocks;
} counts;

static size_t encode(const xl_tokenizer *t, const char *text, size_t n, unsigned flags,
                     int32_t *ids) {
    exitlm_error error = {0};
    size_t n_ids = 0;
    exitlm_status status = xl_tokenizer_encode(t, text, n, flags, ids, MAX_IDS, &n_ids, &error);
    CHECK(status == EXITLM_OK && n_ids <= MAX_IDS && n_ids <= 3 * n + 5, "encode: %d %zu %s",
          status, n_ids, error.message);
    return n_ids;
}

static uint64_t hash_id(uint64_t hash, int32_t id) {
    for (int i = 0; i < 4; i++) hash = (hash ^ ((uint32_t)id >> (8 * i) & 0xFF)) * 0x100000001B3u;
    return hash;
}

static uint64_t hash_block(const xl_tokenizer *t, case_fn *make_case, uint64_t *random) {
    static char text[1 << 14];
    static int32_t ids[MAX_IDS];
    uint64_t hash = 0xCBF29CE484222325u;
    for (int i = 0; i < BLOCK; i++) {
        size_t n = make_case(random, text);
        unsigned flags = pick(random, 4);
        if (too_large(text, n)) continue;
        size_t n_ids = encode(t, text, n, flags, ids);
        for (size_t k = 0; k < n_ids; k++) hash = hash_id(hash, ids[k]);
        hash = hash_id(hash, -1);
    }
    return hash;
}

static void check_text(const xl_tokenizer *t, char *rest) {
    static int32_t ids[MAX_IDS];
    unsigned long line = strtoul(rest, &rest, 10), flags = strtoul(rest, &rest, 10);
    CHECK(line < texts.n, "text %lu of %zu", line, texts.n);
    size_t n = encode(t, texts.text[line], texts.bytes[line], (unsigned)flags, ids), i = 0;
    for (char *end;; rest = end, i++) {
        long id = strtol(rest, &end, 10);
        if (end == rest) break;
        CHECK(i < n && ids[i] == id, "text %lu, flags %lu: id %zu is %d, should be %ld", line,
              flags, i, i < n ? ids[i] : -1, id);
        if (i >= n || ids[i] != id) return;
    }
    CHECK(i == n, "text %lu, flags %lu: %zu ids, should be %zu", line, flags, n, i);
}

/* The section of a vector file for one vocabulary. */
static counts check_vectors(const char *path, const char *vocabulary, const xl_tokenizer *t,
                            case_fn *make_case) {
    counts done = {0, 0};
    uint64_t random = 1;
    size_t n;
    bool here = false;
    char *file = read_file(path, &n);
    CHECK(file, "%s cannot be read", path);
    for (char *line = file, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        if (strncmp(line, "vocabulary ", 11) == 0) here = strcmp(line + 11, vocabulary) == 0;
        if (!here) continue;
        if (strncmp(line, "text ", 5) == 0) {
            check_text(t, line + 5);
            done.texts++;
        } else if (strncmp(line, "block ", 6) == 0) {
            char *rest;
            unsigned long block = strtoul(line + 6, &rest, 10);
            uint64_t expected = strtoull(rest, NULL, 16), hash = hash_block(t, make_case, &random);
            CHECK(hash == expected, "%s, %s: cases %lu to %lu differ", path, vocabulary,
                  block * BLOCK, block * BLOCK + BLOCK - 1);
            done.blocks++;
        }
    }
    free(file);
    return done;
}

/* ---- Decoding ---- */

static bool is_utf8(const char *text, size_t n) {
    xl_utf8_stream stream = {0};
    char *out = malloc(3 * (n + 3));
    size_t written = xl_utf8_push(&stream, text, n, out);
    bool same = stream.n_held == 0 && written == n && memcmp(out, text, n) == 0;
    free(out);
    return same;
}

/* Encodes, and decodes token by token through the stream: the same text, and whole characters
 * after every token. */
static void check_round_trip(const xl_tokenizer *t, const char *text, size_t n, bool drop_space) {
    static int32_t ids[MAX_IDS];
    xl_tokenizer_info info;
    xl_tokenizer_describe(t, &info);
    size_t n_ids = encode(t, text, n, EXITLM_PARSE_SPECIAL, ids), written = 0;
    char *piece = malloc(info.max_token_bytes + 1), *out = malloc(4 * n + 64);
    xl_utf8_stream stream = {0};
    for (size_t i = 0; i < n_ids; i++) {
        size_t length = xl_token_bytes(t, ids[i], piece, info.max_token_bytes),
               skip = drop_space && i == 0;
        CHECK(length <= info.max_token_bytes, "token %d has %zu bytes", ids[i], length);
        size_t added = xl_utf8_push(&stream, piece + skip, length - skip, out + written);
        CHECK(is_utf8(out + written, added), "half a character after token %d", ids[i]);
        written += added;
    }
    written += xl_utf8_flush(&stream, out + written);
    CHECK(written == n && memcmp(out, text, n) == 0, "'%s' comes back as '%.*s'", text,
          (int)written, out);
    free(piece);
    free(out);
}

static void check_stream(const char *bytes, const char *expected) {
    size_t n = strlen(bytes), whole, parts = 0;
    char out[256], again[256];
    xl_utf8_stream stream = {0};
    whole = xl_utf8_push(&stream, bytes, n, out);
    whole += xl_utf8_flush(&stream, out + whole);
    CHECK(whole == strlen(expected) && memcmp(out, expected, whole) == 0, "'%.*s' should be '%s'",
          (int)whole, out, expected);
    for (size_t i = 0; i < n; i++) {
        size_t added = xl_utf8_push(&stream, bytes + i, 1, again + parts);
        CHECK(is_utf8(again + parts, added), "half a character at byte %zu", i);
        parts += added;
    }
    parts += xl_utf8_flush(&stream, again + parts);
    CHECK(parts == whole && memcmp(again, out, whole) == 0, "byte by byte '%.*s'", (int)parts,
          again);
    CHECK(stream.n_held == 0 && xl_utf8_flush(&stream, again) == 0,
          "flush leaves the stream fresh");
}

#define R "\xEF\xBF\xBD"
/* Expected: Python's bytes.decode("utf-8", "replace"). */
static void test_stream(void) {
    check_stream("", "");
    check_stream("plain", "plain");
    check_stream("\xE4\xBD\xA0\xF0\x9F\x98\x80\xC3\xA9", "\xE4\xBD\xA0\xF0\x9F\x98\x80\xC3\xA9");
    check_stream("\xE4\xBD", R);
    check_stream("\xF0\x9F\x98", R);
    check_stream("\xF0\x9F\x98"
                 "a",
                 R "a");
    check_stream("\xF0\x9F\xF0\x9F\x98\x80", R "\xF0\x9F\x98\x80");
    check_stream("\x80\xBF", R R);
    check_stream("\xC0\xAF\xC1\x81", R R R R);
    check_stream("\xE0\x80\xAF", R R R);
    check_stream("\xED\xA0\x80", R R R);
    check_stream("\xF4\x90\x80\x80\xF5", R R R R R);
    check_stream("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF"
                 "A",
                 R R R R "A");
}

/* ---- Unicode ---- */

static void test_classes(void) {
    size_t of_class[7] = {0};
    for (uint32_t c = 0; c < 0x110000; c++) of_class[xl_unicode_classify(c)]++;
    /* Counted with Python 3.13's unicodedata (15.1), white space taken out. */
    static const size_t expected[7] = {964463, 136726, 1831, 25, 842, 2450, 7775};
    for (int i = 0; i < 7; i++)
        CHECK(of_class[i] == expected[i], "class %d has %zu characters", i, of_class[i]);
    CHECK(xl_unicode_classify(0x110000) == XL_UNICODE_OTHER &&
              xl_unicode_classify(UINT32_MAX) == XL_UNICODE_OTHER,
          "out of range");
    CHECK(xl_unicode_classify(0xB2) == XL_UNICODE_NUMBER &&
              xl_unicode_classify(0x3000) == XL_UNICODE_SPACE &&
              xl_unicode_classify(0x301) == XL_UNICODE_MARK &&
              xl_unicode_classify('_') == XL_UNICODE_PUNCTUATION &&
              xl_unicode_classify(0x9FFF) == XL_UNICODE_LETTER &&
              xl_unicode_classify(0xD7A4) == XL_UNICODE_OTHER,
          "examples");
}

/* ---- The vocabularies ---- */

static void test_byte_level(void) {
    static const char *const pres[] = {"smollm", "llama-bpe", "qwen2", "gpt-2", "default", "dbrx"};
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++) {
        vocabulary v;
        byte_level_vocabulary(&v, pres[i]);
        xl_tokenizer *t = create_tokenizer(&v);
        counts done = check_vectors(FOLDER "byte_level.txt", pres[i], t, symbol_case);
        CHECK(done.blocks == 50, "%s: %zu blocks", pres[i], done.blocks);
        for (size_t line = 0; line < texts.n; line++)
            if (is_utf8(texts.text[line], texts.bytes[line]))
                check_round_trip(t, texts.text[line], texts.bytes[line], false);
        xl_tokenizer_free(t);
        free_vocabulary(&v);
    }
}

/* One of each of the pre-tokenizers' rules. */
static void test_wide(void) {
    for (size_t i = 0; i < N_PRES; i++) {
        vocabulary v;
        symbols_vocabulary(&v, SYMBOLS(wide_symbols), 2, every_pre[i]);
        xl_tokenizer *t = create_tokenizer(&v);
        counts done = check_vectors(FOLDER "wide.txt", every_pre[i], t, wide_case);
        CHECK(done.blocks == 20, "%s: %zu blocks", every_pre[i], done.blocks);
        xl_tokenizer_free(t);
        free_vocabulary(&v);
    }
}

/* Gemma 4's kind: merges over characters. */
static void test_raw(void) {
    vocabulary v;
    raw_vocabulary(&v);
    xl_tokenizer *t = create_tokenizer(&v);
    counts done = check_vectors(FOLDER "raw.txt", "gemma4", t, piece_case);
    CHECK(done.blocks == 20, "gemma4: %zu blocks", done.blocks);
    check_round_trip(t, "a b\n\nc \u4f60", 11, false);
    xl_tokenizer_free(t);
    free_vocabulary(&v);
}

static void test_sentencepiece(void) {
    static const char *const names[] = {"plain", "plain-bare", "inner", "inner-bare", "strips"};
    for (size_t i = 0; i < 5; i++) {
        vocabulary v;
        sentencepiece_vocabulary(&v, i == 2 || i == 3);
        if (i == 4) {
            add_token(&v, "<|endoftext|>", 13, 3, 0);
            finish_vocabulary(&v, "llama");
            v.source.scores = v.scores;
            v.source.n_scores = v.n_types;
            v.source.strips = true;
        }
        if (i % 2) {
            v.source.add_space_prefix = v.source.add_bos = 0;
            v.source.add_eos = 1;
        }
        xl_tokenizer *t = create_tokenizer(&v);
        counts done = check_vectors(FOLDER "sentencepiece.txt", names[i], t, piece_case);
        CHECK(done.blocks == (i % 2 || i == 4 ? 20 : 50), "%s: %zu blocks", names[i], done.blocks);
        for (size_t line = 0; line < texts.n; line++) {
            const char *text = texts.text[line];
            bool special = strstr(text, "<s>") || strstr(text, "</s>") ||
                           strstr(text, "\xE2\x96\x81") ||
                           strstr(text, "\n\n"); /* tokens after which a space is put */
            if (!special && is_utf8(text, texts.bytes[line]))
                check_round_trip(t, text, texts.bytes[line], i % 2 == 0 && texts.bytes[line] > 0);
        }
        xl_tokenizer_free(t);
        free_vocabulary(&v);
    }
}

static bool can_spell(const xl_tokenizer *t, const char *text, size_t n) {
    (void)t; /* the model has no tokens for these bytes; llama.cpp drops them, too */
    static const uint8_t missing[] = {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xF1, 0xF2};
    for (size_t i = 0; i < n; i++)
        if (memchr(missing, text[i], sizeof missing)) return false;
    return is_utf8(text, n);
}

static bool load_model(xl_gguf *gguf, xl_tokenizer **t) {
    exitlm_error error = {0};
    FILE *file = fopen(MODEL, "rb");
    if (!file) return false;
    static uint8_t bytes[1 << 16];
    xl_gguf_init(gguf, &xl_libc_allocator);
    for (size_t n, used; !gguf->done && (n = fread(bytes, 1, sizeof bytes, file)) > 0;)
        if (xl_gguf_push(gguf, bytes, n, &used, &error) != EXITLM_OK) break;
    fclose(file);
    xl_tokenizer_source source;
    CHECK(gguf->done && xl_tokenizer_source_from_gguf(&source, gguf, &error) == EXITLM_OK &&
              xl_tokenizer_create(t, &source, NULL, &error) == EXITLM_OK,
          "%s: %s", MODEL, error.message);
    return true;
}

static bool test_model(void) {
    xl_gguf gguf;
    xl_tokenizer *t = NULL;
    if (!load_model(&gguf, &t)) return false;
    counts done = check_vectors(FOLDER "smollm2.txt", "smollm2", t, mixed_case);
    CHECK(done.texts == 242 && done.blocks == 200, "%zu texts, %zu blocks", done.texts,
          done.blocks);
    for (size_t line = 0; line < texts.n; line++)
        if (can_spell(t, texts.text[line], texts.bytes[line]))
            check_round_trip(t, texts.text[line], texts.bytes[line], false);
    xl_tokenizer_info info;
    xl_tokenizer_describe(t, &info);
    CHECK(info.n_tokens == 49152 && info.bos == 1 && info.eos == 2 && info.eot == 2 &&
              info.unk == 0 && !info.add_bos && info.byte_level,
          "what the model says of itself");
    for (int32_t id = 0; id < 49152; id++)
        CHECK(xl_token_is_eog(t, id) == (id == 0 || id == 2 || id == 4),
              "token %d: end of generation", id);
    CHECK(xl_token_attributes(t, 2) & XL_TOKEN_CONTROL &&
              xl_token_attributes(t, 500) == XL_TOKEN_NORMAL && xl_token_attributes(t, -1) == 0 &&
              xl_token_attributes(t, 49152) == 0,
          "attributes");
    CHECK(xl_token_bytes(t, 49152, NULL, 0) == 0 && xl_token_bytes(t, 504, NULL, 0) == 3,
          "bytes of a token");
    xl_tokenizer_free(t);
    xl_gguf_free(&gguf);
    return true;
}

int main(void) {
    read_texts();
    test_classes();
    test_stream();
    test_byte_level();
    test_wide();
    test_raw();
    test_sentencepiece();
    bool model = test_model();
    if (!model) printf("tokenizer: %s is not there (npm run model): its part is skipped\n", MODEL);
    if (failures == 0)
        printf("tokenizer: equal to llama.cpp on %s%d generated cases\n",
               model ? "242 texts and " : "",
               (model ? 20000 : 0) + 6 * 5000 + 24 * 2000 + 2000 + 2 * 7000 + 2000);
    free(texts.file);
    return failures != 0;
}
