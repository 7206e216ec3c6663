/* Chat templates in C give the bytes that the models' own Jinja templates give
 * (tests/data/template). */
#include "text/template.h"
#include "tokenizer_fixture.h"

#define FOLDER "tests/data/template/"

static packed tokens;
static xl_tokenizer *tokenizer;

static xl_tokenizer *make_tokenizer(int add_bos) {
    xl_tokenizer *t;
    static const char *const texts[] = {"<s>", "</s>", "<|im_end|>", "a", "b", "ab"};
    static const uint8_t types[] = {3, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0,
                                    1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0};
    packed merges = {0};
    exitlm_error error = {0};
    for (size_t i = 0; tokens.count < sizeof texts / sizeof *texts; i++)
        packed_text(&tokens, texts[i]);
    packed_text(&merges, "a b");
    xl_tokenizer_source source;
    xl_tokenizer_source_init(&source);
    source.model = text_of("gpt2");
    source.tokens = packed_array(&tokens);
    source.merges = packed_array(&merges);
    source.types = types;
    source.n_types = 6;
    source.bos = 0;
    source.eos = 1;
    source.add_bos = add_bos;
    CHECK(xl_tokenizer_create(&t, &source, NULL, &error) == EXITLM_OK, "%s", error.message);
    free(merges.data);
    return t;
}

/* Renders into a buffer of exactly the size that is told, and checks that a smaller one is not
 * overrun. */
static char *render(const xl_template *chat, const exitlm_message *messages, size_t n, bool prompt,
                    size_t *n_bytes, exitlm_status *status) {
    exitlm_error error = {0};
    *status = xl_template_render(chat, messages, n, prompt, NULL, 0, n_bytes, NULL, &error);
    if (*status != EXITLM_OK) {
        CHECK(error.message[0] && error.status == *status, "no message with status %d", *status);
        return NULL;
    }
    char *text = malloc(*n_bytes + 1), *half = malloc(*n_bytes / 2 + 1);
    size_t again, cut;
    *status = xl_template_render(chat, messages, n, prompt, text, *n_bytes, &again, NULL, &error);
    xl_template_render(chat, messages, n, prompt, half, *n_bytes / 2, &cut, NULL, &error);
    CHECK(again == *n_bytes && cut == *n_bytes, "lengths %zu %zu %zu", *n_bytes, again, cut);
    CHECK(memcmp(half, text, *n_bytes / 2) == 0, "a smaller buffer gets the beginning");
    free(half);
    text[*n_bytes] = 0;
    return text;
}

typedef struct vector_case {
    char template_name[64], name[64];
    exitlm_message messages[16];
    size_t n;
} vector_case;

static void check_case(const xl_template *chat, const vector_case *c, const char *kind,
                       const char *expected, size_t n_expected) {
    exitlm_status status;
    size_t n_bytes;
    size_t name = strlen(c->name);
    bool prompt = name > 7 && strcmp(c->name + name - 7, "+prompt") == 0;
    char *text = render(chat, c->messages, c->n, prompt, &n_bytes, &status);
    if (strncmp(c->template_name, "unknown", 7) == 0) {
        CHECK(status == EXITLM_UNSUPPORTED, "%s/%s: status %d", c->template_name, c->name, status);
    } else if (strcmp(kind, "refused") == 0) {
        bool folded = strstr(expected, "System role") != NULL;
        CHECK(status == (folded ? EXITLM_OK : EXITLM_USAGE), "%s/%s: status %d", c->template_name,
              c->name, status);
    } else {
        CHECK(status == EXITLM_OK && n_bytes == n_expected && memcmp(text, expected, n_bytes) == 0,
              "%s/%s:\n--- is\n%s\n--- should be\n%s", c->template_name, c->name,
              text ? text : "(error)", expected);
    }
    free(text);
}

static char *load_template(const char *name, xl_template *chat) {
    char path[256];
    size_t n = 0;
    snprintf(path, sizeof path, FOLDER "%s.jinja", name);
    char *text = read_file(path, &n);
    CHECK(text, "%s cannot be read", path);
    xl_template_init(chat, (xl_str){text, n}, tokenizer);
    return text;
}

static size_t test_vectors(void) {
    size_t n = 0, n_cases = 0;
    char *file = read_file(FOLDER "vectors.txt", &n), *source = NULL;
    CHECK(file, FOLDER "vectors.txt cannot be read");
    xl_template chat = {0};
    vector_case c = {0};
    for (char *line = file, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        char *value = strchr(line, ' ');
        if (*line == '#' || !value) continue;
        *value++ = 0;
        if (strcmp(line, "template") == 0) {
            free(source);
            source = load_template(value, &chat);
            snprintf(c.template_name, sizeof c.template_name, "%s", value);
        } else if (strcmp(line, "case") == 0) {
            snprintf(c.name, sizeof c.name, "%s", value);
            c.n = 0;
        } else if (strcmp(line, "text") == 0 || strcmp(line, "refused") == 0) {
            size_t n_expected = unescape(value);
            check_case(&chat, &c, line, value, n_expected);
            n_cases++;
        } else {
            unescape(value);
            c.messages[c.n++] = (exitlm_message){line, value};
        }
    }
    free(source);
    free(file);
    return n_cases;
}

static void test_families(void) {
    static const struct {
        const char *file, *family;
    } expected[] = {{"smollm2", "chatml"},  {"qwen3", "chatml"},  {"llama3", "llama3"},
                    {"llama3.2", "llama3"}, {"zephyr", "zephyr"}, {"gemma3", "gemma"},
                    {"unknown-mistral", ""}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        xl_template chat;
        free(load_template(expected[i].file, &chat));
        CHECK(strcmp(xl_template_name(&chat), expected[i].family) == 0, "%s is '%s'",
              expected[i].file, xl_template_name(&chat));
    }
    xl_template chat;
    xl_template_init(&chat, (xl_str){NULL, 0}, tokenizer);
    CHECK(chat.family == XL_TEMPLATE_UNKNOWN, "no template is unknown");
}

static void test_gemma_system(void) {
    xl_template chat;
    char *source = load_template("gemma2", &chat);
    const exitlm_message messages[] = {{"system", "Be brief."}, {"user", "Hi"}};
    size_t n_bytes;
    exitlm_status status;
    char *text = render(&chat, messages, 2, true, &n_bytes, &status);
    CHECK(text &&
              strcmp(
                  text,
                  "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n") ==
                  0,
          "%s", text ? text : "(error)");
    free(text);
    free(source);
}

static void test_date(void) {
    xl_template chat;
    char *source = load_template("llama3.2", &chat);
    const exitlm_message messages[] = {{"user", "Hi"}};
    size_t n_bytes;
    exitlm_status status;
    chat.date = text_of("01 Jan 2030");
    char *text = render(&chat, messages, 1, false, &n_bytes, &status);
    CHECK(text && strstr(text, "Today Date: 01 Jan 2030\n\n<|eot_id|>"), "the date can be set");
    free(text);
    free(source);
}

static void test_bad_messages(void) {
    xl_template chat;
    char *source = load_template("smollm2", &chat);
    const exitlm_message tool = {"tool", "x"}, none = {"user", NULL};
    size_t n_bytes;
    exitlm_error error = {0};
    CHECK(xl_template_render(&chat, &tool, 0, true, NULL, 0, &n_bytes, NULL, &error) ==
              EXITLM_USAGE,
          "no messages");
    CHECK(xl_template_render(&chat, &tool, 1, true, NULL, 0, &n_bytes, NULL, &error) ==
                  EXITLM_USAGE &&
              strstr(error.message, "'tool'"),
          "role: %s", error.message);
    CHECK(xl_template_render(&chat, &none, 1, true, NULL, 0, &n_bytes, NULL, NULL) == EXITLM_USAGE,
          "no content");
    free(source);
    xl_template unknown = {0};
    CHECK(xl_template_render(&unknown, &tool, 1, true, NULL, 0, &n_bytes, NULL, &error) ==
                  EXITLM_UNSUPPORTED &&
              strstr(error.message, "--raw"),
          "unknown family: %s", error.message);
}

/* Whether the template or the tokenizer writes begin-of-text, it stands there once. */
static void test_begin_once(void) {
    const exitlm_message message = {"user", "a"};
    for (int adds = 0; adds < 2; adds++) {
        xl_tokenizer *t = make_tokenizer(adds);
        xl_template chat;
        size_t n_source = 0, n_bytes, n;
        char *source = read_file(FOLDER "llama3.jinja", &n_source);
        xl_template_init(&chat, (xl_str){source, n_source}, t);
        exitlm_status status;
        char *text = render(&chat, &message, 1, true, &n_bytes, &status);
        int32_t ids[256];
        exitlm_status encoded = xl_tokenizer_encode(
            t, text, n_bytes, EXITLM_ADD_SPECIAL | EXITLM_PARSE_SPECIAL, ids, 256, &n, NULL);
        CHECK(encoded == EXITLM_OK && n >= 2 && ids[0] == 0 && ids[1] != 0,
              "the tokenizer %s: ids %d %d", adds ? "adds it" : "does not", ids[0], ids[1]);
        free(text);
        free(source);
        xl_tokenizer_free(t);
    }
}

int main(void) {
    tokenizer = make_tokenizer(0);
    size_t n_cases = test_vectors();
    CHECK(n_cases == 480, "%zu cases in the vectors", n_cases);
    test_families();
    test_gemma_system();
    test_date();
    test_bad_messages();
    test_begin_once();
    xl_tokenizer_free(tokenizer);
    free(tokens.data);
    if (failures == 0) printf("template: %zu renderings equal Jinja's\n", n_cases);
    return failures != 0;
}
