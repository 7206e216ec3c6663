/* The header parser: any chunking, every kind of damage, bounded memory; the writer; SHA-256 and
 * the checksum. */
#include "base/checksum.h"
#include "counting.h"
#include "gguf/gguf_write.h"
#include "random_model.h"
#include "base/sha256.h"

#include <string.h>

static xl_buffer tiny; /* the file of random_model_defaults */

/* ---- Helpers ------------------------------------------------------------------------- */
static exitlm_status parse_expected(const uint8_t *bytes, size_t n_bytes, size_t chunk,
                                    size_t expected_bytes, const exitlm_allocator *allocator,
                                    xl_gguf *g, exitlm_error *error) {
    size_t at = 0, used;
    *error = (exitlm_error){0};
    xl_gguf_init(g, allocator);
    g->expected_bytes = expected_bytes;
    while (!g->done && at < n_bytes) {
        size_t n = n_bytes - at < chunk ? n_bytes - at : chunk;
        exitlm_status status = xl_gguf_push(g, bytes + at, n, &used, error);
        CHECK(status == error->status);
        if (status != EXITLM_OK) return status;
        CHECK(g->done || used == n);
        at += used;
    }
    if (g->done) CHECK(at == g->at && at <= g->data_offset && at <= n_bytes);
    return g->done ? EXITLM_OK : xl_gguf_truncated(g, error);
}

static exitlm_status parse(const uint8_t *bytes, size_t n_bytes, size_t chunk,
                           const exitlm_allocator *allocator, xl_gguf *g, exitlm_error *error) {
    return parse_expected(bytes, n_bytes, chunk, 0, allocator, g, error);
}

static void expect_failure(const xl_buffer *file, exitlm_status status,
                           const char *part_of_message) {
    for (size_t chunk = 1; chunk < 5000; chunk = chunk * 7 + 3) {
        xl_gguf g;
        exitlm_error error;
        exitlm_status got = parse(file->data, file->n_bytes, chunk, &xl_libc_allocator, &g, &error);
        if (got != status || !strstr(error.message, part_of_message)) {
            fprintf(stderr, "wanted %s with \"%s\", got %s: %s\n", exitlm_status_name(status),
                    part_of_message, exitlm_status_name(got), error.message);
            exit(1);
        }
        xl_gguf_free(&g);
    }
}

static xl_buffer new_buffer(void) {
    xl_buffer b;
    xl_buffer_init(&b, &xl_libc_allocator);
    return b;
}

static xl_buffer start(uint64_t n_tensors, uint64_t n_keys) {
    xl_buffer b = new_buffer();
    xl_buffer_add(&b, "GGUF", 4);
    xl_buffer_u32(&b, 3);
    xl_buffer_u64(&b, n_tensors);
    xl_buffer_u64(&b, n_keys);
    return b;
}

static void name(xl_buffer *b, const char *text) {
    xl_buffer_u64(b, strlen(text));
    xl_buffer_add(b, text, strlen(text));
}

static void tensor(xl_buffer *b, const char *text, uint32_t n_dims, const uint64_t *dims,
                   uint32_t type, uint64_t offset) {
    name(b, text);
    xl_buffer_u32(b, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) xl_buffer_u64(b, dims[i]);
    xl_buffer_u32(b, type);
    xl_buffer_u64(b, offset);
}

static void fails(xl_buffer b, exitlm_status status, const char *message) {
    xl_buffer_add(&b, NULL, 64); /* so that nothing waits for more */
    expect_failure(&b, status, message);
    xl_buffer_free(&b);
}

static void fails_text(const char *text, exitlm_status status, const char *message) {
    xl_buffer b = new_buffer();
    xl_buffer_add(&b, text, strlen(text));
    fails(b, status, message);
}

/* ---- Tests --------------------------------------------------------------------------------- */
static void test_chunking(void) {
    static const size_t chunks[] = {1, 7, 4096, 1 << 20};
    for (size_t i = 0; i < 4; i++) {
        xl_gguf g;
        exitlm_error error;
        CHECK(parse(tiny.data, tiny.n_bytes, chunks[i], &xl_libc_allocator, &g, &error) ==
              EXITLM_OK);
        CHECK(g.version == 3 && g.n_keys == g.keys_read && g.n_tensors == 56 &&
              g.total_bytes <= tiny.n_bytes);
        CHECK(g.total_bytes + 32 > tiny.n_bytes && memcmp(g.blob, tiny.data, g.at) == 0);
        CHECK(g.blob_bytes == g.blob_capacity_bytes && g.blob_bytes <= g.data_offset);
        uint32_t layers;
        CHECK(xl_gguf_get_u32(&g, "llama.block_count", &layers) && layers == 6);
        CHECK(xl_gguf_is(&g, "general.architecture", "llama") &&
              !xl_gguf_is(&g, "general.architecture", "llam"));
        const xl_gguf_tensor *t = xl_gguf_find_tensor(&g, "blk.3.ffn_up.weight");
        CHECK(t && t->n_dims == 2 && t->dims[0] == 64 && t->dims[1] == 128 &&
              t->n_bytes == 128 * 64 / 32 * 22);
        CHECK(!xl_gguf_find_tensor(&g, "blk.3.ffn_up") && !xl_gguf_find(&g, ""));
        xl_gguf_array tokens;
        CHECK(xl_gguf_get_array(&g, "tokenizer.ggml.tokens", &tokens) && tokens.n == 500 &&
              tokens.item_type == XL_GGUF_STRING);
        size_t cursor = 0, n, count = 0;
        const char *text;
        while ((text = xl_gguf_array_next(&tokens, &cursor, &n))) {
            if (count == 1) CHECK(n == 12 && memcmp(text, "<|im_start|>", n) == 0);
            count++;
        }
        CHECK(count == 500);
        xl_gguf_free(&g);
    }
}

/* A size told beforehand, right or wrong, changes only the memory: the right one takes a block
 * once. */
static void test_expected_size(void) {
    xl_gguf g;
    exitlm_error error;
    CHECK(parse(tiny.data, tiny.n_bytes, 1000, &xl_libc_allocator, &g, &error) == EXITLM_OK);
    size_t header = (size_t)g.data_offset, growing = g.peak_bytes;
    xl_gguf_free(&g);
    const size_t told[] = {header,     1,          header - 1,
                           header + 1, 4 * header, XL_GGUF_MAX_HEADER_BYTES + (size_t)1,
                           SIZE_MAX};
    for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        for (size_t chunk = 1; chunk < tiny.n_bytes; chunk = chunk * 9 + 5) {
            CHECK(parse_expected(tiny.data, tiny.n_bytes, chunk, told[i], &xl_libc_allocator, &g,
                                 &error) == EXITLM_OK);
            CHECK(g.data_offset == header && memcmp(g.blob, tiny.data, g.at) == 0 &&
                  g.blob_bytes == g.at && g.blob_capacity_bytes < header + 65536);
            if (i == 0) CHECK(g.blob_capacity_bytes == header && g.peak_bytes <= growing);
            xl_gguf_free(&g);
        }
}

static void test_values(void) {
    xl_gguf_writer w;
    xl_buffer b = new_buffer();
    exitlm_error error;
    xl_gguf_writer_init(&w, &xl_libc_allocator);
    xl_gguf_put_i32(&w, "a.negative", -5);
    xl_gguf_put_u32(&w, "a.large", 4000000000u);
    xl_gguf_put_f32(&w, "a.float", 1.5f);
    xl_gguf_put_f32(&w, "a.nan", 0.0f / 0.0f);
    xl_gguf_put_bool(&w, "a.flag", true);
    xl_gguf_put_string(&w, "a.empty", "", 0);
    xl_gguf_put_array(&w, "a.i8", XL_GGUF_I8, (int8_t[]){1, -1, 127, -128}, 4);
    xl_gguf_put_array(&w, "a.f64", XL_GGUF_F64, (double[]){2.5, -1e300}, 2);
    xl_gguf_put_array(&w, "a.none", XL_GGUF_U32, NULL, 0);
    xl_gguf_put_strings(&w, "a.strings", (const char *const[]){"one", "", "three"}, 3);
    CHECK(xl_gguf_writer_header(&w, &b, &error) == EXITLM_OK && b.n_bytes % 32 == 0);
    xl_gguf g;
    CHECK(parse(b.data, b.n_bytes, 5, &xl_libc_allocator, &g, &error) == EXITLM_OK);
    uint32_t u;
    int64_t i;
    float f;
    bool flag;
    const char *text;
    size_t n, cursor = 0;
    xl_gguf_array a;
    CHECK(!xl_gguf_get_u32(&g, "a.negative", &u) && xl_gguf_get_i64(&g, "a.negative", &i) &&
          i == -5);
    CHECK(xl_gguf_get_u32(&g, "a.large", &u) && u == 4000000000u &&
          !xl_gguf_get_u32(&g, "a.float", &u));
    CHECK(xl_gguf_get_f32(&g, "a.float", &f) && f == 1.5f &&
          xl_gguf_get_f32(&g, "a.negative", &f) && f == -5);
    CHECK(!xl_gguf_get_f32(&g, "a.nan", &f) && !xl_gguf_get_f32(&g, "a.flag", &f) &&
          !xl_gguf_get_f32(&g, "a.missing", &f));
    CHECK(xl_gguf_get_bool(&g, "a.flag", &flag) && flag && !xl_gguf_get_bool(&g, "a.large", &flag));
    CHECK(xl_gguf_get_string(&g, "a.empty", &text, &n) && n == 0 &&
          !xl_gguf_get_string(&g, "a.flag", &text, &n));
    CHECK(xl_gguf_get_array(&g, "a.i8", &a) && a.n == 4 && a.n_bytes == 4 &&
          xl_gguf_array_int(&a, 3) == -128);
    CHECK(xl_gguf_array_float(&a, 1) == -1 && xl_gguf_get_array(&g, "a.f64", &a) &&
          xl_gguf_array_float(&a, 1) == -1e300);
    CHECK(xl_gguf_array_int(&a, 0) == 0 && xl_gguf_get_array(&g, "a.none", &a) && a.n == 0 &&
          a.n_bytes == 0);
    CHECK(xl_gguf_get_array(&g, "a.strings", &a) && a.n == 3 &&
          !xl_gguf_get_array(&g, "a.empty", &a));
    CHECK(xl_gguf_get_array(&g, "a.strings", &a) && xl_gguf_array_next(&a, &cursor, &n) && n == 3);
    CHECK(xl_gguf_array_next(&a, &cursor, &n) && n == 0 &&
          (text = xl_gguf_array_next(&a, &cursor, &n)) && memcmp(text, "three", 5) == 0);
    CHECK(!xl_gguf_array_next(&a, &cursor, &n));
    xl_gguf_free(&g);
    xl_gguf_writer_free(&w);
    xl_buffer_free(&b);
}

static void test_no_gguf(void) {
    fails_text("<!DOCTYPE html><html>not here", EXITLM_BAD_MODEL, "HTML");
    fails_text("\x1f\x8b\x08 zipped", EXITLM_BAD_MODEL, "compressed");
    fails_text("version https://git-lfs.github.com/spec/v1", EXITLM_BAD_MODEL, "Git LFS");
    fails_text("Not Found", EXITLM_BAD_MODEL, "begins with the bytes 4e 6f 74 20");
    fails_text("ggml old file", EXITLM_UNSUPPORTED, "predecessor");
    xl_buffer b = new_buffer();
    expect_failure(&b, EXITLM_BAD_MODEL, "empty");
    xl_buffer_add(&b, "GGUF", 4);
    xl_buffer_u32(&b, 1);
    expect_failure(&b, EXITLM_UNSUPPORTED, "version 1");
    b.n_bytes = 4;
    xl_buffer_u32(&b, 0x03000000);
    expect_failure(&b, EXITLM_UNSUPPORTED, "big-endian");
    xl_buffer_free(&b);
}

static void test_bad_keys(void) {
    fails(start(1u << 30, 0), EXITLM_BAD_MODEL, "credible");
    fails(start(0, UINT64_MAX), EXITLM_BAD_MODEL, "credible");
    xl_buffer b = start(0, 1);
    xl_buffer_u64(&b, UINT64_MAX);
    fails(b, EXITLM_BAD_MODEL, "name of key 0 has 18446744073709551615 bytes at offset 24");
    b = start(0, 1);
    name(&b, "k");
    xl_buffer_u32(&b, 13);
    fails(b, EXITLM_BAD_MODEL, "key k at offset 32: unknown value type 13");
    b = start(0, 2);
    for (int i = 0; i < 2; i++) {
        name(&b, "twice");
        xl_buffer_u32(&b, XL_GGUF_U32);
        xl_buffer_u32(&b, 1);
    }
    fails(b, EXITLM_BAD_MODEL, "key twice stands twice");
    b = start(0, 1);
    name(&b, "k");
    xl_buffer_u32(&b, XL_GGUF_STRING);
    xl_buffer_u64(&b, UINT64_MAX - 3);
    fails(b, EXITLM_BAD_MODEL, "absurd length");
    static const struct {
        uint32_t type;
        uint64_t n;
        exitlm_status status;
        const char *message;
    } arrays[] = {{XL_GGUF_ARRAY, 1, EXITLM_UNSUPPORTED, "array of arrays"},
                  {99, 1, EXITLM_BAD_MODEL, "unknown type of array items 99"},
                  {XL_GGUF_U8, UINT64_MAX, EXITLM_BAD_MODEL, "too large to be true"},
                  {XL_GGUF_F64, UINT64_MAX / 8 + 2, EXITLM_BAD_MODEL, "too large to be true"},
                  {XL_GGUF_STRING, 1u << 28, EXITLM_BAD_MODEL, "too large to be true"}};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        b = start(0, 1);
        name(&b, "k");
        xl_buffer_u32(&b, XL_GGUF_ARRAY);
        xl_buffer_u32(&b, arrays[i].type);
        xl_buffer_u64(&b, arrays[i].n);
        fails(b, arrays[i].status, arrays[i].message);
    }
    b = start(0, 1);
    name(&b, "k");
    xl_buffer_u32(&b, XL_GGUF_ARRAY);
    xl_buffer_u32(&b, XL_GGUF_STRING);
    xl_buffer_u64(&b, 2);
    name(&b, "good");
    xl_buffer_u64(&b, (uint64_t)1 << 63);
    fails(b, EXITLM_BAD_MODEL, "key k: item 1 has an absurd length");
    static const uint32_t alignments[] = {0, 1, 3, 33, 1u << 21, UINT32_MAX};
    for (size_t i = 0; i < sizeof alignments / sizeof *alignments; i++) {
        b = start(0, 1);
        name(&b, "general.alignment");
        xl_buffer_u32(&b, XL_GGUF_U32);
        xl_buffer_u32(&b, alignments[i]);
        fails(b, EXITLM_BAD_MODEL, "general.alignment");
    }
}

/* What it takes is not known; the header is what it is. */
static void test_unknown_types(void) {
    static const uint32_t types[] = {4, 99, UINT32_MAX};
    for (size_t i = 0; i < 3; i++) {
        xl_buffer b = start(1, 0);
        tensor(&b, "odd", 1, (uint64_t[]){33}, types[i], 0);
        xl_gguf g;
        exitlm_error error;
        CHECK(parse(b.data, b.n_bytes, 7, &xl_libc_allocator, &g, &error) == EXITLM_OK &&
              g.tensors[0].type == types[i] && g.tensors[0].n_bytes == 0 &&
              !xl_gguf_tensor_type_name(types[i]));
        xl_gguf_free(&g);
        xl_buffer_free(&b);
    }
}

/* Of the keys alone nothing behind them is looked at. */
static void test_keys_only(void) {
    xl_buffer b = start(1, 0);
    tensor(&b, "bad", 5, (uint64_t[]){0, 0, 0, 0, 0}, 0, 1);
    xl_gguf g;
    exitlm_error error;
    size_t used;
    xl_gguf_init(&g, &xl_libc_allocator);
    g.keys_only = true;
    CHECK(xl_gguf_push(&g, b.data, b.n_bytes, &used, &error) == EXITLM_OK && g.done && used == 24 &&
          g.n_tensors == 0 && g.data_offset == 24);
    xl_gguf_free(&g);
    xl_buffer_free(&b);
}

static void test_bad_tensors(void) {
    static const struct {
        uint32_t n_dims;
        uint64_t dims[5];
        uint32_t type;
        uint64_t offset;
        exitlm_status status;
        const char *message;
    } cases[] = {{0, {0}, 0, 0, EXITLM_BAD_MODEL, "1 to 4 dimensions are allowed, not 0"},
                 {5, {1, 1, 1, 1, 1}, 0, 0, EXITLM_BAD_MODEL, "not 5"},
                 {UINT32_MAX, {1}, 0, 0, EXITLM_BAD_MODEL, "dimensions"},
                 {1, {0}, 0, 0, EXITLM_BAD_MODEL, "impossible dimension: 0"},
                 {2, {1u << 31, UINT64_MAX}, 0, 0, EXITLM_BAD_MODEL, "impossible dimension"},
                 {2, {(uint64_t)1 << 40, 1 << 10}, 0, 0, EXITLM_BAD_MODEL, "impossible dimension"},
                 {1, {33}, 2, 0, EXITLM_BAD_MODEL, "whole blocks"},
                 {1, {32}, 0, 31, EXITLM_BAD_MODEL, "not aligned"},
                 {1, {32}, 0, UINT64_MAX - 31, EXITLM_BAD_MODEL, "beyond all bounds"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        xl_buffer b = start(1, 0);
        tensor(&b, "bad", cases[i].n_dims > 5 ? 1 : cases[i].n_dims, cases[i].dims, cases[i].type,
               cases[i].offset);
        if (cases[i].n_dims > 5) memset(b.data + 24 + 8 + 3, 0xff, 4);
        fails(b, cases[i].status, cases[i].message);
    }
    xl_buffer b = start(2, 0);
    for (int i = 0; i < 2; i++) tensor(&b, "same", 1, (uint64_t[]){32}, 0, 128u * (unsigned)i);
    fails(b, EXITLM_BAD_MODEL, "tensor same stands twice");
    b = start(2, 0);
    tensor(&b, "late", 1, (uint64_t[]){32}, 0, 96);
    tensor(&b, "early", 1, (uint64_t[]){32}, 0, 0);
    fails(b, EXITLM_BAD_MODEL, "tensor late at offset");
    b = start(1, 0);
    xl_buffer_u64(&b, 0);
    fails(b, EXITLM_BAD_MODEL, "name of tensor 0 has 0 bytes");
    b = start(1, 0);
    xl_buffer_u64(&b, 257);
    fails(b, EXITLM_BAD_MODEL, "1 to 256 are allowed");
}

/* Cut anywhere in the header: an error that says so, in little memory. */
static void test_truncated(size_t header_bytes) {
    for (size_t n = 0; n < header_bytes; n++) {
        counting c;
        xl_gguf g;
        exitlm_error error;
        counting_init(&c);
        CHECK(parse(tiny.data, n, 1000, &c.allocator, &g, &error) == EXITLM_BAD_MODEL);
        CHECK(strstr(error.message, n ? "truncated: the file ends at" : "empty"));
        xl_gguf_free(&g);
        CHECK(c.blocks == 0 && !c.wrong_size && c.peak_bytes < 8 * n + 65536);
    }
}

/* Each header byte damaged in several ways: no crash, no large allocation, whatever comes of it. */
static void test_damaged(size_t header_bytes) {
    static const uint8_t flips[] = {0x01, 0x80, 0xff};
    uint8_t *bytes = malloc(tiny.n_bytes);
    CHECK(bytes);
    for (size_t at = 0; at < header_bytes; at++)
        for (size_t f = 0; f < sizeof flips; f++) {
            counting c;
            xl_gguf g;
            exitlm_error error;
            memcpy(bytes, tiny.data, tiny.n_bytes);
            bytes[at] ^= flips[f];
            counting_init(&c);
            exitlm_status status = parse(bytes, tiny.n_bytes, 50000, &c.allocator, &g, &error);
            CHECK(status == EXITLM_OK || status == EXITLM_BAD_MODEL ||
                  status == EXITLM_UNSUPPORTED);
            CHECK((status == EXITLM_OK) == (error.message[0] == 0));
            xl_gguf_free(&g);
            CHECK(c.blocks == 0 && !c.wrong_size && c.peak_bytes < 4 * tiny.n_bytes);
        }
    free(bytes);
}

static void test_no_memory(void) {
    exitlm_status status = EXITLM_OUT_OF_MEMORY;
    size_t fail_at = 0;
    while (status != EXITLM_OK) {
        counting c;
        xl_gguf g;
        exitlm_error error;
        counting_init(&c);
        c.fail_at = ++fail_at;
        status = parse(tiny.data, tiny.n_bytes, 3000, &c.allocator, &g, &error);
        xl_gguf_free(&g);
        CHECK(c.blocks == 0 && !c.wrong_size &&
              (status == EXITLM_OK || status == EXITLM_OUT_OF_MEMORY));
    }
    CHECK(fail_at > 8);
}

static void test_writer_limits(void) {
    xl_gguf_writer w;
    xl_buffer b = new_buffer();
    exitlm_error error;
    xl_gguf_writer_init(&w, &xl_libc_allocator);
    xl_gguf_put_tensor(&w, "bad", 2, 1, (uint64_t[]){33});
    CHECK(xl_gguf_writer_header(&w, &b, &error) == EXITLM_USAGE);
    xl_gguf_writer_free(&w);
    xl_buffer_free(&b);
    counting c;
    counting_init(&c);
    c.fail_at = 1;
    xl_gguf_writer_init(&w, &c.allocator);
    xl_gguf_put_u32(&w, "key", 1);
    xl_buffer_init(&b, &c.allocator);
    CHECK(xl_gguf_writer_header(&w, &b, &error) == EXITLM_OUT_OF_MEMORY);
    xl_gguf_writer_free(&w);
    xl_buffer_free(&b);
    CHECK(c.blocks == 0);
}

static void expect_digest(const void *bytes, size_t n, size_t times, size_t chunk,
                          const char *expected) {
    xl_sha256 sha;
    uint8_t digest[32];
    char hex[65];
    xl_sha256_init(&sha);
    for (size_t i = 0; i < times; i++)
        for (size_t at = 0; at < n; at += chunk)
            xl_sha256_update(&sha, (const uint8_t *)bytes + at, n - at < chunk ? n - at : chunk);
    xl_sha256_final(&sha, digest);
    xl_sha256_hex(digest, hex);
    CHECK(strcmp(hex, expected) == 0);
}

/* The examples of FIPS 180-4. */
static void test_sha256(void) {
    static const char *const two_blocks =
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    expect_digest("", 0, 1, 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect_digest("abc", 3, 1, 1,
                  "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    for (size_t chunk = 1; chunk <= 56; chunk += 11)
        expect_digest(two_blocks, 56, 1, chunk,
                      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char a[1000];
    memset(a, 'a', sizeof a);
    expect_digest(a, sizeof a, 1000, 77,
                  "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void test_checksum(void) {
    uint8_t bytes[100];
    uint64_t seen[100 * 8 + 101];
    size_t n_seen = 0;
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 37 + 11);
    for (size_t n = 0; n <= sizeof bytes; n++) seen[n_seen++] = xl_checksum(bytes, n);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        seen[n_seen++] = xl_checksum(bytes, sizeof bytes);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t i = 0; i < n_seen; i++)
        for (size_t j = 0; j < i; j++) CHECK(seen[i] != seen[j]);
    CHECK(xl_checksum(bytes, sizeof bytes) == seen[sizeof bytes]);
    memset(bytes, 0, sizeof bytes);
    CHECK(xl_checksum(bytes, 31) != xl_checksum(bytes, 32)); /* zeros at the end count */
}

int main(void) {
    random_model model;
    random_model_defaults(&model);
    tiny = new_buffer();
    CHECK(random_model_write(&model, &tiny));
    xl_gguf g;
    exitlm_error error;
    CHECK(parse(tiny.data, tiny.n_bytes, 1 << 20, &xl_libc_allocator, &g, &error) == EXITLM_OK);
    size_t header_bytes = g.at;
    xl_gguf_free(&g);

    test_chunking();
    test_expected_size();
    test_values();
    test_no_gguf();
    test_bad_keys();
    test_bad_tensors();
    test_unknown_types();
    test_keys_only();
    test_truncated(header_bytes);
    test_damaged(header_bytes);
    test_no_memory();
    test_writer_limits();
    test_sha256();
    test_checksum();
    xl_buffer_free(&tiny);
    puts("gguf: good");
    return 0;
}
