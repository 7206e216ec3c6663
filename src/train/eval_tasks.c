/* Small tasks with checkable answers. See eval_tasks.h. */
#include "eval_tasks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dataset.h"
#include "files.h"
#include "model/heads.h"
#include "reply/session.h"
#include "text/unicode.h"

#define MAX_FILE_BYTES ((uint64_t)64 << 20)
#define MAX_MESSAGES 64

/* ---- Reading ---- */
static bool is_texts(const xl_json *list) {
    if (!list || list->kind != XL_JSON_ARRAY || !list->first) return false;
    for (const xl_json *i = list->first; i; i = i->next)
        if (i->kind != XL_JSON_STRING || !*i->text) return false;
    return true;
}

/* Known roles, user last. */
static bool is_talk(const xl_json *messages) {
    const char *role = NULL;
    if (!messages || messages->kind != XL_JSON_ARRAY) return false;
    for (const xl_json *m = messages->first; m; m = m->next) {
        role = xl_json_string(m, "role");
        if (!xl_known_role(role) || !xl_json_string(m, "content")) return false;
    }
    return role && strcmp(role, "user") == 0;
}

/* NULL, or what is wrong with the line. */
static const char *take_task(xl_task *task) {
    const xl_json *turns = xl_json_get(task->root, "turns"),
                  *messages = xl_json_get(task->root, "messages");
    const char *match = xl_json_string(task->root, "match");
    task->id = xl_json_string(task->root, "id");
    task->kind = xl_json_string(task->root, "kind");
    if (!task->kind) task->kind = "";
    task->written = messages != NULL;
    task->talk = messages ? messages : turns;
    task->answers = xl_json_get(task->root, "answer");
    task->before = xl_json_get(task->root, "not");
    task->exact = match && strcmp(match, "exact") == 0;
    if (!task->id) return "a task needs an \"id\"";
    if (messages ? turns || !is_talk(messages) : !is_texts(turns))
        return "a task needs \"turns\" (texts of the user), or \"messages\" (role and content) "
               "that end with the user's";
    if (xl_json_count(task->talk) * (messages ? 1 : 2) > MAX_MESSAGES)
        return "a task holds at most 64 messages, replies included";
    if (!is_texts(task->answers)) return "a task needs an \"answer\": the texts that are accepted";
    if (task->before && !is_texts(task->before)) return "\"not\" must hold texts";
    if (match && !task->exact && strcmp(match, "contains") != 0)
        return "\"match\" must be \"contains\" or \"exact\"";
    return NULL;
}

static exitlm_status add_task(xl_tasks *tasks, const char *path, size_t number, const char *line,
                              size_t n_bytes, exitlm_error *error) {
    exitlm_error why;
    if (tasks->n == tasks->capacity) {
        size_t more = tasks->capacity ? 2 * tasks->capacity : 256;
        xl_task *grown = realloc(tasks->tasks, more * sizeof *grown);
        if (!grown) return xl_no_memory(error, "the tasks");
        tasks->tasks = grown;
        tasks->capacity = more;
    }
    xl_task *task = &tasks->tasks[tasks->n];
    *task = (xl_task){.root = xl_json_parse(line, n_bytes, NULL, &why)};
    if (!task->root)
        return xl_fail(error, EXITLM_IO, XL_FILE_NAME ": line %zu: %s", path, number, why.message);
    tasks->n++;
    const char *wrong = take_task(task);
    return wrong ? xl_fail(error, EXITLM_IO, XL_FILE_NAME ": line %zu: %s", path, number, wrong)
                 : EXITLM_OK;
}

exitlm_status xl_tasks_read(xl_tasks *tasks, const char *path, exitlm_error *error) {
    char *text;
    size_t n_bytes, number = 0;
    exitlm_status status = xl_file_read(path, MAX_FILE_BYTES, &text, &n_bytes, error);
    if (status != EXITLM_OK) return status;
    for (const char *line = text, *end = text + n_bytes; line < end && status == EXITLM_OK;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        const size_t n = (size_t)((stop ? stop : end) - line);
        number++;
        if (strspn(line, " \t\r") < n) status = add_task(tasks, path, number, line, n, error);
        line += n + 1;
    }
    free(text);
    return status == EXITLM_OK && tasks->n == 0
               ? xl_fail(error, EXITLM_IO, XL_FILE_NAME ": holds no task", path)
               : status;
}

void xl_tasks_free(xl_tasks *tasks) {
    if (tasks->replies) {
        for (size_t i = 0; i < tasks->n * tasks->n_rows; i++) free(tasks->replies[i].text);
    }
    for (size_t i = 0; i < tasks->n; i++) xl_json_free(tasks->tasks[i].root);
    free(tasks->replies);
    free(tasks->tasks);
    *tasks = (xl_tasks){0};
}

/* ---- Right or wrong ---- */
static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

/* Whether the character that the byte at `at` belongs to is a letter or digit; the end is none. */
static bool in_word(const char *text, size_t at) {
    const unsigned classes =
        1u << XL_UNICODE_LETTER | 1u << XL_UNICODE_NUMBER | 1u << XL_UNICODE_MARK;
    const uint8_t *bytes = (const uint8_t *)text;
    uint32_t code_point;
    while (at && (bytes[at] & 0xC0) == 0x80) at--;
    xl_utf8_decode_lenient(bytes + at, bytes + at + strlen(text + at) + 1, &code_point);
    return classes >> xl_unicode_classify(code_point) & 1;
}

/* Where the text stands on word borders, or NULL. A border matters only where the text itself
 * ends with a letter or digit. */
static const char *find_words(const char *reply, const char *words) {
    const size_t n = strlen(words);
    for (size_t at = 0; reply[at]; at++) {
        size_t i = 0;
        while (i < n && reply[at + i] && lower(reply[at + i]) == lower(words[i])) i++;
        if (i < n || (at && in_word(reply, at - 1) && in_word(words, 0)) ||
            (in_word(reply, at + n) && in_word(words, n - 1)))
            continue;
        return reply + at;
    }
    return NULL;
}

static const char *first_of(const char *reply, const xl_json *texts) {
    const char *first = NULL;
    for (const xl_json *t = texts ? texts->first : NULL; t; t = t->next) {
        const char *at = find_words(reply, t->text);
        if (at && (!first || at < first)) first = at;
    }
    return first;
}

bool xl_task_right(const xl_task *task, const char *reply) {
    if (task->exact) {
        reply += strspn(reply, " \t\r\n");
        size_t n = strlen(reply);
        while (n && strchr(" \t\r\n", reply[n - 1])) n--;
        for (const xl_json *a = task->answers->first; a; a = a->next)
            if (strlen(a->text) == n && memcmp(a->text, reply, n) == 0) return true;
        return false;
    }
    const char *answer = first_of(reply, task->answers), *wrong = first_of(reply, task->before);
    return answer && (!wrong || wrong >= answer);
}

/* ---- Replies ---- */
typedef struct answering {
    exitlm_session *session;
    const xl_observer *observer;
    const exitlm_generate_options *options;
    const xl_task *task;
    xl_task_row *row;
} answering;

/* One reply; *text is fresh memory. */
static exitlm_status reply_to(const answering *a, const exitlm_message *messages, size_t n,
                              char **text, exitlm_error *error) {
    exitlm_event event = {0};
    xl_task_row *row = a->row;
    exitlm_status status = exitlm_session_chat(a->session, messages, n, a->options, error);
    while (status == EXITLM_OK && event.type != EXITLM_EVENT_DONE) {
        if (xl_stopped(a->observer)) exitlm_session_stop(a->session);
        status = exitlm_session_step(a->session, &event, error);
    }
    if (status != EXITLM_OK) return xl_about(a->task->id, status, error);
    if (xl_stopped(a->observer)) return xl_fail(error, EXITLM_IO, "stopped");
    *text = xl_format("%s", event.stats.text);
    row->tokens += event.stats.completion_tokens;
    /* a sum until all tasks are done */
    row->mean_work += event.stats.mean_work * event.stats.completion_tokens;
    row->kv = a->session->generation->chain.kv;
    row->certified = !row->accuracy || a->session->generation->chain.row;
    return *text ? EXITLM_OK : xl_no_memory(error, "a reply");
}

/* The whole conversation; what the model itself said before its last reply is part of it. */
static exitlm_status run_task(const answering *a, xl_task_reply *reply, exitlm_error *error) {
    const xl_task *task = a->task;
    exitlm_message messages[MAX_MESSAGES];
    char *said[MAX_MESSAGES];
    size_t n = 0, n_said = 0;
    exitlm_status status = EXITLM_OK;
    for (const xl_json *t = task->talk->first; t && status == EXITLM_OK; t = t->next) {
        if (task->written)
            messages[n++] =
                (exitlm_message){xl_json_string(t, "role"), xl_json_string(t, "content")};
        else messages[n++] = (exitlm_message){"user", t->text};
        if (task->written && t->next) continue;
        status = reply_to(a, messages, n, t->next ? &said[n_said] : &reply->text, error);
        if (status != EXITLM_OK || !t->next) continue;
        messages[n++] = (exitlm_message){"assistant", said[n_said++]};
    }
    if (status == EXITLM_OK) reply->right = xl_task_right(task, reply->text);
    while (n_said) free(said[--n_said]);
    return status;
}

/* Difference of two shares in pairs, with the interval of Bonett and Price (2012): a pair of either
 * kind is added, so that a few pairs that all agree do not make it certain. */
static void compare(xl_task_row *row, size_t n) {
    const double all = (double)n + 2, p = ((double)row->gained + 1) / all,
                 q = ((double)row->lost + 1) / all;
    const double half = 1.959964 * sqrt((p + q - (p - q) * (p - q)) / all);
    row->difference = ((double)row->gained - (double)row->lost) / (double)n;
    row->low = fmax(p - q - half, -1);
    row->high = fmin(p - q + half, 1);
}

static void sum_up(xl_tasks *tasks) {
    for (size_t r = 0; r < tasks->n_rows; r++) {
        xl_task_row *row = &tasks->row[r];
        for (size_t i = 0; i < tasks->n; i++) {
            const bool full = tasks->replies[i * tasks->n_rows].right,
                       right = tasks->replies[i * tasks->n_rows + r].right;
            row->right += right;
            row->lost += full && !right;
            row->gained += right && !full;
        }
        if (row->tokens) row->mean_work /= (double)row->tokens;
        compare(row, tasks->n);
    }
}

size_t xl_tasks_boldest(const xl_tasks *tasks, double points) {
    size_t r = 0;
    while (r + 1 < tasks->n_rows && 100 * tasks->row[r + 1].difference >= -points - 1e-9) r++;
    return r;
}

static void show(const xl_tasks *tasks, size_t done, const xl_observer *observer) {
    const xl_progress now = {.stage = XL_STAGE_TASKS,
                             .done = (double)done,
                             .total = (double)tasks->n,
                             .ended = done == tasks->n};
    xl_show(observer, &now);
}

exitlm_status xl_tasks_run(xl_tasks *tasks, exitlm_session *session, const xl_task_options *options,
                           const xl_observer *observer, exitlm_error *error) {
    exitlm_generate_options generate = {.max_tokens = options->max_tokens,
                                        .strategy = options->strategy};
    exitlm_status status = EXITLM_OK;
    tasks->n_rows = 1 + (options->n_levels < XL_TASK_ROWS ? options->n_levels : XL_TASK_ROWS - 1);
    tasks->replies = calloc(tasks->n * tasks->n_rows, sizeof *tasks->replies);
    if (!tasks->replies) return xl_no_memory(error, "the replies");
    for (size_t i = 0; i < tasks->n && status == EXITLM_OK; i++) {
        show(tasks, i, observer);
        for (size_t r = 0; r < tasks->n_rows && status == EXITLM_OK; r++) {
            xl_task_row *row = &tasks->row[r];
            const answering a = {session, observer, &generate, &tasks->tasks[i], row};
            generate.mode = r ? EXITLM_MODE_EXIT : EXITLM_MODE_FULL;
            generate.kv = r ? options->kv : EXITLM_POLICY_AUTO;
            generate.accuracy = row->accuracy = r ? options->accuracy[r - 1] : 0;
            status = run_task(&a, &tasks->replies[i * tasks->n_rows + r], error);
        }
    }
    if (status != EXITLM_OK) return status;
    show(tasks, tasks->n, observer);
    sum_up(tasks);
    return EXITLM_OK;
}
