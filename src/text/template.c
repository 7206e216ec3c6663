/* A template is recognised by what its text contains (xl_template_init); each family is then
 * written out by its own render function. */
#include "template.h"

#include "base/status.h"
#include "unicode.h"

#include <string.h>

/* ---- Recognising a template ---- */

/* Where `what` first stands in `text` from `from` on; NULL if nowhere. */
static const char *find(xl_str text, const char *what, size_t from) {
    size_t length = strlen(what);
    for (size_t i = from; length <= text.bytes && i <= text.bytes - length; i++)
        if (text.data[i] == what[0] && memcmp(text.data + i, what, length) == 0)
            return text.data + i;
    return NULL;
}

static bool has(xl_str text, const char *what) { return find(text, what, 0) != NULL; }

static size_t count(xl_str text, const char *what) {
    size_t n = 0;
    for (const char *hit = find(text, what, 0); hit;
         hit = find(text, what, (size_t)(hit - text.data) + 1))
        n++;
    return n;
}

/* Length of a newline inside a Jinja literal: written as \n or as itself; 0 where there is none. */
static size_t newline_at(const char *p, const char *end) {
    if (p < end && *p == '\n') return 1;
    return end - p >= 2 && p[0] == '\\' && p[1] == 'n' ? 2 : 0;
}

/* The system turn that is written out in full in a ChatML template:
 * '<|im_start|>system\nTEXT<|im_end|>'. */
static xl_str default_system(xl_str source) {
    static const char opening[] = "<|im_start|>system";
    const char *end = source.data + source.bytes;
    for (const char *hit = find(source, opening, 0); hit;
         hit = find(source, opening, (size_t)(hit - source.data) + 1)) {
        const char *text = hit + sizeof opening - 1;
        size_t newline = newline_at(text, end);
        if (newline == 0) continue;
        text += newline;
        const char *close = find(source, "<|im_end|>", (size_t)(text - source.data));
        if (!close) break;
        xl_str literal = {text, (size_t)(close - text)};
        /* A literal that ends before is a system turn made of the conversation's own message. */
        if (literal.bytes && !has(literal, "'") && !has(literal, "\"") && !has(literal, "{"))
            return literal;
    }
    return (xl_str){NULL, 0};
}

static bool recognise_chatml(xl_template *chat, xl_str source) {
    if (!has(source, "<|im_start|>") || !has(source, "<|im_end|>")) return false;
    /* Forced thoughts, modes of reasoning and the like are programs of their own. */
    if (has(source, "assistant\\n<think>") || has(source, "assistant\n<think>") ||
        has(source, "reasoning_mode"))
        return false;
    chat->family = XL_TEMPLATE_CHATML;
    chat->default_system = default_system(source);
    chat->think = has(source, "</think>") && has(source, "last_query_index");
    chat->trim = has(source, "| trim") || has(source, "|trim");
    return has(source, "</think>") == chat->think;
}

/* The text of the first "…" or '…' that directly follows `before`. */
static xl_str literal_after(xl_str source, const char *before) {
    const char *end = source.data + source.bytes;
    for (const char *hit = find(source, before, 0); hit;
         hit = find(source, before, (size_t)(hit - source.data) + 1)) {
        const char *quote = hit + strlen(before);
        if (quote >= end || (*quote != '"' && *quote != '\'')) continue;
        const char *close = memchr(quote + 1, *quote, (size_t)(end - quote - 1));
        if (close) return (xl_str){quote + 1, (size_t)(close - quote - 1)};
    }
    return (xl_str){NULL, 0};
}

static bool recognise_llama3(xl_template *chat, xl_str source) {
    if (!has(source, "<|start_header_id|>") || !has(source, "<|eot_id|>")) return false;
    chat->family = XL_TEMPLATE_LLAMA3;
    chat->trim = has(source, "| trim") || has(source, "|trim");
    chat->always_prompt = !has(source, "add_generation_prompt");
    if (has(source, "Cutting Knowledge Date: December 2023")) {
        chat->date = literal_after(source, "date_string = ");
        return chat->date.data != NULL;
    }
    return !has(source, "Cutting Knowledge Date"); /* another header than the one known */
}

static bool newline_after_expression(xl_str source, const char *p) {
    const char *end = source.data + source.bytes;
    while (p < end && (*p == ' ' || *p == '\'' || *p == '"')) p++;
    return end - p >= 3 && memcmp(p, "}}\n", 3) == 0;
}

static bool recognise_zephyr(xl_template *chat, xl_str source) {
    if (!has(source, "<|user|>") || !has(source, "<|assistant|>") || has(source, "<|end|>"))
        return false;
    /* one for each role: else it is a relative with other rules */
    if (count(source, "eos_token") != 3) return false;
    const char *end = source.data + source.bytes;
    const char *eos = find(source, "eos_token", 0) + strlen("eos_token");
    chat->family = XL_TEMPLATE_ZEPHYR;
    chat->end_newline = newline_after_expression(source, eos) || has(source, "eos_token + '\\n'") ||
                        has(source, "eos_token + '\n'") || has(source, "eos_token+'\\n'") ||
                        has(source, "eos_token+'\n'");
    const char *prompt = NULL; /* past the last <|assistant|>: the generation prompt */
    for (const char *hit = find(source, "<|assistant|>", 0); hit;
         hit = find(source, "<|assistant|>", (size_t)(hit - source.data) + 1))
        prompt = hit + strlen("<|assistant|>");
    chat->prompt_newline = newline_at(prompt, end) || newline_after_expression(source, prompt);
    return true;
}

static bool recognise_gemma(xl_template *chat, xl_str source) {
    if (!has(source, "<start_of_turn>") || !has(source, "<end_of_turn>") || !has(source, "model"))
        return false;
    chat->family = XL_TEMPLATE_GEMMA;
    chat->trim = has(source, "| trim") || has(source, "|trim");
    return true;
}

static xl_str token_text(const xl_tokenizer *tokenizer, int32_t id);

void xl_template_init(xl_template *chat, xl_str source, const xl_tokenizer *tokenizer) {
    static bool (*const families[])(xl_template *, xl_str) = {recognise_chatml, recognise_llama3,
                                                              recognise_gemma, recognise_zephyr};
    xl_tokenizer_info info;
    xl_tokenizer_describe(tokenizer, &info);
    *chat = (xl_template){0};
    if (!source.data) return;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        *chat = (xl_template){.bos = token_text(tokenizer, info.bos),
                              .eos = token_text(tokenizer, info.eos)};
        chat->tools = has(source, "<tool_call>");
        chat->print_bos = has(source, "bos_token") && !info.add_bos;
        if (families[i](chat, source)) return;
    }
    *chat = (xl_template){0};
}

const char *xl_template_name(const xl_template *chat) {
    static const char *const names[] = {"", "chatml", "llama3", "zephyr", "gemma"};
    return names[chat->family];
}

/* ---- Text ---- */

typedef struct writer {
    char *out;
    size_t capacity, n;
    xl_spans *contents; /* or NULL */
} writer;

static void put(writer *w, xl_str text) {
    if (text.bytes && w->n < w->capacity) {
        size_t room = w->capacity - w->n;
        memcpy(w->out + w->n, text.data, text.bytes < room ? text.bytes : room);
    }
    w->n += text.bytes;
}

/* What a message says. */
static void put_content(writer *w, xl_str text) {
    if (w->contents && text.bytes)
        w->contents->span[w->contents->n++] = (xl_span){w->n, w->n + text.bytes};
    put(w, text);
}

static xl_str str(const char *text) { return (xl_str){text, strlen(text)}; }
static void put_text(writer *w, const char *text) { put(w, str(text)); }

/* A Jinja literal, its escapes resolved. */
static void put_literal(writer *w, xl_str literal) {
    for (size_t i = 0; i < literal.bytes; i++) {
        char c = literal.data[i];
        if (c == '\\' && i + 1 < literal.bytes) {
            c = literal.data[++i];
            if (c == 'n') c = '\n';
            else if (c == 't') c = '\t';
        }
        put(w, (xl_str){&c, 1});
    }
}

/* White space as Python's str.strip means it. */
static bool is_blank(uint32_t code_point) {
    return xl_unicode_classify(code_point) == XL_UNICODE_SPACE ||
           (code_point >= 0x1C && code_point <= 0x1F);
}

static xl_str trimmed(xl_str text) {
    const uint8_t *begin = (const uint8_t *)text.data, *end = begin + text.bytes, *past = begin;
    uint32_t code_point;
    while (begin < end) {
        size_t taken = xl_utf8_decode_lenient(begin, end, &code_point);
        if (!is_blank(code_point)) break;
        begin += taken;
    }
    past = begin;
    for (const uint8_t *at = begin; at < end;) {
        at += xl_utf8_decode_lenient(at, end, &code_point);
        if (!is_blank(code_point)) past = at;
    }
    return (xl_str){(const char *)begin, (size_t)(past - begin)};
}

static xl_str strip_newlines(xl_str text, bool front, bool back) {
    while (front && text.bytes && text.data[0] == '\n')
        text = (xl_str){text.data + 1, text.bytes - 1};
    while (back && text.bytes && text.data[text.bytes - 1] == '\n') text.bytes--;
    return text;
}

static bool is_role(const exitlm_message *message, const char *role) {
    return strcmp(message->role, role) == 0;
}

static xl_str content_of(const xl_template *chat, const exitlm_message *message) {
    xl_str content = str(message->content);
    return chat->trim ? trimmed(content) : content;
}

/* ---- ChatML ---- */

static void put_chatml(writer *w, const char *role, xl_str content) {
    put_text(w, "<|im_start|>");
    put_text(w, role);
    put_text(w, "\n");
    put_content(w, content);
    put_text(w, "<|im_end|>\n");
}

/* Qwen 3: the index of the last user message that is not the answer of a tool. */
static size_t last_query(const exitlm_message *messages, size_t n) {
    static const char opening[] = "<tool_response>", closing[] = "</tool_response>";
    for (size_t i = n; i-- > 0;) {
        if (!is_role(&messages[i], "user")) continue;
        xl_str content = str(messages[i].content);
        bool tool = content.bytes >= sizeof opening - 1 && content.bytes >= sizeof closing - 1 &&
                    memcmp(content.data, opening, sizeof opening - 1) == 0 &&
                    memcmp(content.data + content.bytes - (sizeof closing - 1), closing,
                           sizeof closing - 1) == 0;
        if (!tool) return i;
    }
    return n - 1;
}

static const char *find_last(xl_str text, const char *what) {
    const char *last = NULL;
    for (const char *hit = find(text, what, 0); hit;
         hit = find(text, what, (size_t)(hit - text.data) + 1))
        last = hit;
    return last;
}

/* Qwen 3: thoughts of earlier answers are left out, those of an answer after the last question
 * stay. */
static void put_thinking_answer(writer *w, xl_str content, bool after_query, bool is_last) {
    static const char opening[] = "<think>", closing[] = "</think>";
    xl_str thoughts = {NULL, 0};
    const char *close = find(content, closing, 0);
    if (close) {
        thoughts =
            strip_newlines((xl_str){content.data, (size_t)(close - content.data)}, false, true);
        const char *open = find_last(thoughts, opening);
        if (open) {
            open += sizeof opening - 1;
            thoughts = (xl_str){open, thoughts.bytes - (size_t)(open - thoughts.data)};
        }
        thoughts = strip_newlines(thoughts, true, false);
        const char *after = find_last(content, closing) + sizeof closing - 1;
        content = strip_newlines((xl_str){after, content.bytes - (size_t)(after - content.data)},
                                 true, false);
    }
    put_text(w, "<|im_start|>assistant\n");
    if (after_query && (is_last || thoughts.bytes)) {
        put_text(w, "<think>\n");
        put_content(w, strip_newlines(thoughts, true, true));
        put_text(w, "\n</think>\n\n");
        content = strip_newlines(content, true, false);
    }
    put_content(w, content);
    put_text(w, "<|im_end|>\n");
}

static exitlm_status render_chatml(const xl_template *chat, writer *w,
                                   const exitlm_message *messages, size_t n, bool prompt,
                                   exitlm_error *error) {
    (void)error;
    if (chat->default_system.data && !is_role(&messages[0], "system")) {
        put_text(w, "<|im_start|>system\n");
        put_literal(w, chat->default_system);
        put_text(w, "<|im_end|>\n");
    }
    size_t query = chat->think ? last_query(messages, n) : 0;
    for (size_t i = 0; i < n; i++) {
        if (chat->think && is_role(&messages[i], "assistant"))
            put_thinking_answer(w, content_of(chat, &messages[i]), i > query, i + 1 == n);
        else put_chatml(w, messages[i].role, content_of(chat, &messages[i]));
    }
    if (prompt) put_text(w, "<|im_start|>assistant\n");
    return EXITLM_OK;
}

/* ---- Llama 3 ---- */

static void put_header(writer *w, const char *role) {
    put_text(w, "<|start_header_id|>");
    put_text(w, role);
    put_text(w, "<|end_header_id|>\n\n");
}

static exitlm_status render_llama3(const xl_template *chat, writer *w,
                                   const exitlm_message *messages, size_t n, bool prompt,
                                   exitlm_error *error) {
    (void)error;
    size_t first = 0;
    if (chat->date.data) {
        put_header(w, "system");
        put_text(w, "Cutting Knowledge Date: December 2023\nToday Date: ");
        put(w, chat->date);
        put_text(w, "\n\n");
        if (is_role(&messages[0], "system")) put_content(w, content_of(chat, &messages[first++]));
        put_text(w, "<|eot_id|>");
    }
    for (size_t i = first; i < n; i++) {
        put_header(w, messages[i].role);
        put_content(w, content_of(chat, &messages[i]));
        put_text(w, "<|eot_id|>");
    }
    if (prompt || chat->always_prompt) put_header(w, "assistant");
    return EXITLM_OK;
}

/* ---- Zephyr ---- */

static exitlm_status render_zephyr(const xl_template *chat, writer *w,
                                   const exitlm_message *messages, size_t n, bool prompt,
                                   exitlm_error *error) {
    (void)error;
    for (size_t i = 0; i < n; i++) {
        put_text(w, "<|");
        put_text(w, messages[i].role);
        put_text(w, "|>\n");
        put_content(w, content_of(chat, &messages[i]));
        put(w, chat->eos);
        if (chat->end_newline) put_text(w, "\n");
    }
    if (prompt) put_text(w, chat->prompt_newline ? "<|assistant|>\n" : "<|assistant|>");
    return EXITLM_OK;
}

/* ---- Gemma ---- */

static exitlm_status render_gemma(const xl_template *chat, writer *w,
                                  const exitlm_message *messages, size_t n, bool prompt,
                                  exitlm_error *error) {
    const exitlm_message *system = is_role(&messages[0], "system") ? &messages[0] : NULL;
    for (size_t i = system ? 1 : 0; i < n; i++) {
        bool first = i == (system ? 1u : 0u), user = is_role(&messages[i], "user");
        if (user != ((i - (system ? 1 : 0)) % 2 == 0))
            return xl_fail(error, EXITLM_USAGE,
                           "message %zu: roles must alternate, user first; the model's chat "
                           "template allows nothing else",
                           i);
        put_text(w, "<start_of_turn>");
        put_text(w, is_role(&messages[i], "assistant") ? "model" : messages[i].role);
        put_text(w, "\n");
        if (first && system) {
            put_content(w, str(system->content));
            put_text(w, "\n\n");
        }
        put_content(w, content_of(chat, &messages[i]));
        put_text(w, "<end_of_turn>\n");
    }
    if (prompt) put_text(w, "<start_of_turn>model\n");
    return EXITLM_OK;
}

/* ---- Rendering ---- */

static exitlm_status check_messages(const exitlm_message *messages, size_t n, exitlm_error *error) {
    if (n == 0) return xl_fail(error, EXITLM_USAGE, "a conversation needs at least one message");
    for (size_t i = 0; i < n; i++) {
        if (!messages[i].role || !messages[i].content)
            return xl_fail(error, EXITLM_USAGE, "message %zu has no role or no content", i);
        if (!is_role(&messages[i], "system") && !is_role(&messages[i], "user") &&
            !is_role(&messages[i], "assistant"))
            return xl_fail(error, EXITLM_USAGE,
                           "message %zu: unknown role '%.*s'; roles are system, user and "
                           "assistant",
                           i, XL_TEXT(messages[i].role, strlen(messages[i].role)));
    }
    return EXITLM_OK;
}

exitlm_status xl_template_render(const xl_template *chat, const exitlm_message *messages,
                                 size_t n_messages, bool add_generation_prompt, char *text,
                                 size_t capacity, size_t *n_bytes, xl_spans *contents,
                                 exitlm_error *error) {
    static exitlm_status (*const renderers[])(const xl_template *, writer *, const exitlm_message *,
                                              size_t, bool, exitlm_error *) = {
        NULL, render_chatml, render_llama3, render_zephyr, render_gemma};
    *n_bytes = 0;
    if (chat->family == XL_TEMPLATE_UNKNOWN)
        return xl_fail(error, EXITLM_UNSUPPORTED,
                       "the model's chat template is of no known family (chatml, llama3, "
                       "zephyr, gemma); write the prompt yourself, with --raw");
    exitlm_status status = check_messages(messages, n_messages, error);
    if (status != EXITLM_OK) return status;
    writer w = {text, text ? capacity : 0, 0, contents};
    if (contents) contents->n = 0;
    if (chat->print_bos) put(&w, chat->bos);
    status = renderers[chat->family](chat, &w, messages, n_messages, add_generation_prompt, error);
    if (status == EXITLM_OK) *n_bytes = w.n;
    return status;
}

/* ---- Special tokens ---- */

static xl_str token_text(const xl_tokenizer *tokenizer, int32_t id) {
    return id >= 0 ? xl_token_text(tokenizer, id) : (xl_str){NULL, 0};
}
