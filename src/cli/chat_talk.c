/* The conversation of a chat: its messages, and both, messages and K/V, as a file: a line of JSON, then
 * what exitlm_session_save writes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "chat.h"
#include "files.h"
#include "reply/session.h"
#include "train/dataset.h"

#define MAX_LINE_BYTES ((size_t)64 << 20)

bool chat_talk_add(chat_talk *talk, const char *role, char *content) {
    if (content && talk->n == talk->capacity) {
        size_t capacity = talk->capacity ? talk->capacity * 2 : 16;
        exitlm_message *larger = realloc(talk->messages, capacity * sizeof *larger);
        if (larger) {
            talk->messages = larger;
            talk->capacity = capacity;
        } else {
            free(content);
            content = NULL;
        }
    }
    if (!content) return false;
    talk->messages[talk->n++] = (exitlm_message){role, content};
    return true;
}

void chat_talk_shorten(chat_talk *talk, size_t n) {
    while (talk->n > n) free((char *)talk->messages[--talk->n].content);
}

bool chat_talk_begin(chat_talk *talk, const char *system) {
    chat_talk_shorten(talk, 0);
    return !system || chat_talk_add(talk, "system", xl_format("%s", system));
}

void chat_talk_free(chat_talk *talk) {
    chat_talk_shorten(talk, 0);
    free(talk->messages);
}

/* ---- As a file ---- */

void chat_talk_write(const chat_talk *talk, FILE *out) {
    ndjson j = xl_nd_to(out);
    xl_nd_put(&j, "{ messages=[");
    for (size_t i = 0; i < talk->n; i++)
        xl_nd_put(&j, "{ role=%s content=%s }", talk->messages[i].role, talk->messages[i].content);
    xl_nd_put(&j, "] }");
}

static bool put(void *user, const void *bytes, size_t n_bytes) {
    return fwrite(bytes, 1, n_bytes, user) == n_bytes;
}

static bool get(void *user, void *bytes, size_t n_bytes) {
    return fread(bytes, 1, n_bytes, user) == n_bytes;
}

int chat_save(const chat *c, const char *file) {
    exitlm_error error;
    xl_file_out out;
    exitlm_status status = xl_file_begin(&out, file, &error);
    if (status == EXITLM_OK) {
        chat_talk_write(&c->talk, out.stream);
        status = exitlm_session_save(c->engine.session, put, out.stream, &error);
        if (status != EXITLM_OK) xl_about(file, status, &error);
        status = xl_file_end(&out, status, &error);
    }
    return cli_done(status, &error);
}

/* The first line in fresh memory, NULL where it has no end or there is no memory. */
static char *read_line(FILE *in, size_t *n) {
    size_t capacity = 4096;
    char *line = malloc(capacity);
    *n = 0;
    int byte;
    while (line && (byte = fgetc(in)) != '\n') {
        if (*n == capacity) {
            char *larger = capacity >= MAX_LINE_BYTES ? NULL : realloc(line, capacity *= 2);
            if (!larger) free(line);
            line = larger;
        }
        if (byte == EOF) free(line);
        if (byte == EOF || !line) return NULL;
        line[(*n)++] = (char)byte;
    }
    return line;
}

/* False: it is no line of messages. */
static bool take_messages(chat_talk *talk, const xl_json *root) {
    const xl_json *messages = xl_json_get(root, "messages");
    if (!messages || messages->kind != XL_JSON_ARRAY) return false;
    for (const xl_json *m = messages->first; m; m = m->next) {
        const char *role = xl_known_role(xl_json_string(m, "role")),
                   *content = xl_json_string(m, "content");
        if (!role || !content || !chat_talk_add(talk, role, xl_format("%s", content))) return false;
    }
    return true;
}

int chat_saved_kv_type(const char *file) {
    size_t n;
    exitlm_kv_type type;
    FILE *in = fopen(file, "rb");
    char *line = in ? read_line(in, &n) : NULL;
    const bool known = line && xl_saved_kv_type(get, in, &type);
    free(line);
    if (in) fclose(in);
    return known ? (int)type : -1;
}

int chat_load(chat *c, const char *file) {
    exitlm_error error;
    size_t n = 0;
    FILE *in = fopen(file, "rb");
    if (!in) return cli_fail("%s: cannot be read: %s", file, strerror(errno));
    char *line = read_line(in, &n);
    xl_json *root = line ? xl_json_parse(line, n, NULL, NULL) : NULL;
    int status = CLI_OK;
    if (ferror(in)) status = cli_fail("%s: cannot be read: %s", file, strerror(errno));
    else if (!root || !take_messages(&c->talk, root))
        status = cli_fail("%s: is no conversation that chat --save wrote", file);
    xl_json_free(root);
    free(line);
    if (status == CLI_OK && exitlm_session_restore(c->engine.session, get, in, &error) != EXITLM_OK)
        status = cli_report(&error, file);
    if (status == CLI_OK && fgetc(in) != EOF)
        status = cli_fail("%s: goes on behind the conversation's end; it is damaged", file);
    fclose(in);
    return status;
}
