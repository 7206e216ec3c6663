/* Reads conversations and texts. See dataset.h. */
#include "dataset.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/json.h"
#include "base/sort.h"
#include "files.h"
#include "observer.h"

#define MAX_FILE_BYTES ((uint64_t)1 << 30)
#define MAX_DEPTH 8
#define PIECE_BYTES 2000 /* of plain text */

static const char *const roles_known[] = {"system", "user", "assistant"};

/* ---- Items ---- */
static void free_item(xl_dataset_item *item) {
    for (size_t i = 0; i < item->n; i++) free(item->texts[i]);
    free(item->texts);
    free(item->roles);
}

void xl_dataset_free(xl_dataset *set) {
    for (size_t i = 0; i < set->n; i++) free_item(&set->items[i]);
    free(set->items);
    *set = (xl_dataset){0};
}

bool xl_dataset_held_out(uint64_t seed, uint32_t index) {
    return xl_mix64(seed * 0x9e3779b97f4a7c15u + index + 0x632be59bd9b4e019u) % 8 == 0;
}

bool xl_dataset_add(xl_dataset *set, xl_dataset_kind kind, xl_dataset_split split,
                    const char *const *roles, const char *const *texts, size_t n) {
    if (set->n == set->capacity) {
        size_t more = set->capacity ? 2 * set->capacity : 256;
        xl_dataset_item *items = realloc(set->items, more * sizeof *items);
        if (!items) return false;
        set->items = items;
        set->capacity = more;
    }
    xl_dataset_item item = {.kind = kind,
                            .split = split,
                            .texts = calloc(n ? n : 1, sizeof(char *)),
                            .roles = calloc(n ? n : 1, sizeof(char *))};
    bool fine = item.texts && item.roles;
    for (; fine && item.n < n; item.n++) {
        if (roles) item.roles[item.n] = (char *)(uintptr_t)roles[item.n];
        item.texts[item.n] = xl_format("%s", texts[item.n]);
        fine = item.texts[item.n] != NULL;
    }
    if (fine) set->items[set->n++] = item;
    else free_item(&item);
    return fine;
}

void xl_dataset_keep(xl_dataset *set, xl_dataset_split split) {
    size_t kept = 0;
    for (size_t i = 0; i < set->n; i++) {
        if (set->items[i].split == XL_DATASET_ANY || set->items[i].split == split)
            set->items[kept++] = set->items[i];
        else free_item(&set->items[i]);
    }
    set->n = kept;
}

bool xl_dataset_shuffle(xl_dataset *set) {
    uint64_t state = 0x5a17;
    uint32_t *order = malloc((set->n + 1) * sizeof *order);
    xl_dataset_item *items = malloc((set->n + 1) * sizeof *items);
    const bool fine = order && items && set->n <= UINT32_MAX;
    if (fine) {
        for (size_t i = 0; i < set->n; i++) order[i] = (uint32_t)i;
        xl_shuffle(order, set->n, &state);
        for (size_t i = 0; i < set->n; i++) items[i] = set->items[order[i]];
        for (size_t i = 0; i < set->n; i++) set->items[i] = items[i];
    }
    free(order);
    free(items);
    return fine;
}

void xl_dataset_drop(xl_dataset *set, size_t index) {
    free_item(&set->items[index]);
    set->n--;
    for (size_t i = index; i < set->n; i++) set->items[i] = set->items[i + 1];
}

void xl_dataset_drop_every(xl_dataset *set, size_t n) {
    size_t kept = 0;
    for (size_t i = 0; i < set->n; i++) {
        if (i % n == 0) free_item(&set->items[i]);
        else set->items[kept++] = set->items[i];
    }
    set->n = kept;
}

/* ---- JSON ---- */
typedef struct place {
    const char *path;
    size_t line; /* 0: not by lines */
} place;

/* What is wrong with a file, or with a line of it. */
static exitlm_status complain(const place *at, const char *what, exitlm_error *error) {
    if (!at->line) return xl_fail(error, EXITLM_IO, XL_FILE_NAME ": %s", at->path, what);
    return xl_fail(error, EXITLM_IO, XL_FILE_NAME ": line %zu: %s", at->path, at->line, what);
}

static exitlm_status add_turns(xl_dataset *set, xl_dataset_split split, const xl_json *turns,
                               const place *at, exitlm_error *error) {
    size_t n = 0;
    const char **texts = calloc(xl_json_count(turns) + 1, sizeof *texts);
    if (!texts) return xl_no_memory(error, "a conversation");
    exitlm_status status = EXITLM_OK;
    for (const xl_json *t = turns->first; t && status == EXITLM_OK; t = t->next) {
        if (t->kind != XL_JSON_STRING) status = complain(at, "\"turns\" must hold strings", error);
        else texts[n++] = t->text;
    }
    if (status == EXITLM_OK && n == 0) status = complain(at, "\"turns\" is empty", error);
    if (status == EXITLM_OK && !xl_dataset_add(set, XL_DATASET_TURNS, split, NULL, texts, n))
        status = xl_no_memory(error, "a conversation");
    free(texts);
    return status;
}

const char *xl_known_role(const char *role) {
    if (!role) return NULL;
    for (size_t i = 0; i < 3; i++)
        if (strcmp(role, roles_known[i]) == 0) return roles_known[i];
    return NULL;
}

static exitlm_status add_messages(xl_dataset *set, xl_dataset_split split, const xl_json *messages,
                                  const place *at, exitlm_error *error) {
    size_t n = 0, answers = 0, count = xl_json_count(messages);
    const char **texts = calloc(2 * count + 2, sizeof *texts), **roles = texts + count + 1;
    if (!texts) return xl_no_memory(error, "a conversation");
    exitlm_status status = EXITLM_OK;
    for (const xl_json *m = messages->first; m && status == EXITLM_OK; m = m->next, n++) {
        roles[n] = xl_known_role(xl_json_string(m, "role"));
        texts[n] = xl_json_string(m, "content");
        if (!roles[n] || !texts[n])
            status = complain(
                at, "a message needs \"role\" (system, user or assistant) and \"content\"", error);
        else answers += roles[n] == roles_known[2];
    }
    if (status == EXITLM_OK && answers == 0)
        status = complain(at,
                          "\"messages\" has no assistant turn to look at; give {\"turns\": […]} to "
                          "let the model answer",
                          error);
    if (status == EXITLM_OK && !xl_dataset_add(set, XL_DATASET_MESSAGES, split, roles, texts, n))
        status = xl_no_memory(error, "a conversation");
    free(texts);
    return status;
}

static exitlm_status split_of(const xl_json *object, const place *at, xl_dataset_split *split,
                              exitlm_error *error) {
    static const char *const names[] = {"train", "calibration", "test"};
    const char *s = xl_json_string(object, "split");
    *split = XL_DATASET_ANY;
    for (int i = 0; i < 3; i++)
        if (s && strcmp(s, names[i]) == 0) *split = (xl_dataset_split)(XL_DATASET_TRAIN + i);
    if (*split != XL_DATASET_ANY || !xl_json_get(object, "split")) return EXITLM_OK;
    return complain(
        at, "unknown \"split\": it is \"train\", \"calibration\" or \"test\", or is left out",
        error);
}

static exitlm_status add_object(xl_dataset *set, const xl_json *object, const place *at,
                                exitlm_error *error) {
    const xl_json *messages = xl_json_get(object, "messages"),
                  *turns = xl_json_get(object, "turns");
    const char *text = xl_json_string(object, "text"), *prompt = xl_json_string(object, "prompt");
    xl_dataset_split split;
    exitlm_status status = split_of(object, at, &split, error);
    if (status != EXITLM_OK) return status;
    if (messages && messages->kind == XL_JSON_ARRAY)
        return add_messages(set, split, messages, at, error);
    if (turns && turns->kind == XL_JSON_ARRAY) return add_turns(set, split, turns, at, error);
    if (prompt || text)
        return xl_dataset_add(set, prompt ? XL_DATASET_PROMPT : XL_DATASET_TEXT, split, NULL,
                              prompt ? &prompt : &text, 1)
                   ? EXITLM_OK
                   : xl_no_memory(error, "a text");
    return complain(at, "needs \"messages\", \"turns\", \"prompt\" or \"text\"", error);
}

static exitlm_status add_json(xl_dataset *set, const char *text, size_t n_bytes, const place *at,
                              exitlm_error *error) {
    exitlm_error why;
    xl_json *root = xl_json_parse(text, n_bytes, NULL, &why);
    exitlm_status status = EXITLM_OK;
    if (!root) return complain(at, why.message, error);
    if (root->kind == XL_JSON_ARRAY && !at->line)
        for (const xl_json *o = root->first; o && status == EXITLM_OK; o = o->next)
            status = add_object(set, o, at, error);
    else status = add_object(set, root, at, error);
    xl_json_free(root);
    return status;
}

static exitlm_status add_lines(xl_dataset *set, const char *path, const char *text, size_t n_bytes,
                               exitlm_error *error) {
    place at = {path, 0};
    exitlm_status status = EXITLM_OK;
    for (const char *line = text, *end = text + n_bytes; line < end && status == EXITLM_OK;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        size_t n = (size_t)((stop ? stop : end) - line), blank = strspn(line, " \t\r");
        at.line++;
        if (blank < n) status = add_json(set, line, n, &at, error);
        line += n + 1;
    }
    return status;
}

/* ---- Plain text ---- */
/* Pieces end at a blank line, else at a line's end, else where they are full. */
static size_t piece_of(const char *text, size_t n) {
    if (n <= PIECE_BYTES) return n;
    for (size_t i = PIECE_BYTES; i > PIECE_BYTES / 4; i--)
        if (text[i - 1] == '\n' && text[i - 2] == '\n') return i;
    for (size_t i = PIECE_BYTES; i > PIECE_BYTES / 4; i--)
        if (text[i - 1] == '\n') return i;
    size_t i = PIECE_BYTES;
    while (i > 1 && ((unsigned char)text[i] & 0xc0) == 0x80) i--; /* not inside a character */
    return i;
}

static exitlm_status add_text(xl_dataset *set, const char *text, size_t n_bytes,
                              exitlm_error *error) {
    while (n_bytes) {
        size_t n = piece_of(text, n_bytes);
        char *piece = xl_format("%.*s", (int)n, text);
        const char *const texts[1] = {piece};
        bool blank = piece && strspn(piece, " \t\r\n") >= n,
             fine = piece &&
                    (blank || xl_dataset_add(set, XL_DATASET_TEXT, XL_DATASET_ANY, NULL, texts, 1));
        free(piece);
        if (!fine) return xl_no_memory(error, "a text");
        text += n;
        n_bytes -= n;
    }
    return EXITLM_OK;
}

/* ---- Files and folders ---- */
static exitlm_status read_file(xl_dataset *set, const char *path, exitlm_error *error) {
    char *text;
    size_t n_bytes;
    exitlm_status status = xl_file_read(path, MAX_FILE_BYTES, &text, &n_bytes, error);
    if (status != EXITLM_OK) return status;
    if (xl_ends_with(path, ".jsonl") || xl_ends_with(path, ".ndjson"))
        status = add_lines(set, path, text, n_bytes, error);
    else if (xl_ends_with(path, ".json"))
        status = add_json(set, text, n_bytes, &(place){path, 0}, error);
    else status = add_text(set, text, n_bytes, error);
    free(text);
    return status;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static exitlm_status read_any(xl_dataset *set, const char *path, int depth, exitlm_error *error);

static exitlm_status read_folder(xl_dataset *set, const char *path, int depth,
                                 exitlm_error *error) {
    char **names = NULL;
    size_t n = 0, capacity = 0;
    exitlm_status status = EXITLM_OK;
    DIR *folder = opendir(path);
    if (!folder) return xl_fail(error, EXITLM_IO, XL_FILE_NAME ": cannot be listed", path);
    while (status == EXITLM_OK) {
        const struct dirent *entry = readdir(folder);
        if (!entry) break;
        if (entry->d_name[0] == '.') continue;
        if (n == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            char **more = realloc(names, capacity * sizeof *names);
            if (!more) {
                status = xl_no_memory(error, "a folder's names");
                break;
            }
            names = more;
        }
        names[n] = xl_format("%s/%s", path, entry->d_name);
        if (names[n]) n++;
        else status = xl_no_memory(error, "a file's name");
    }
    closedir(folder);
    if (n) qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        if (status == EXITLM_OK) status = read_any(set, names[i], depth + 1, error);
        free(names[i]);
    }
    free(names);
    return status;
}

static exitlm_status read_any(xl_dataset *set, const char *path, int depth, exitlm_error *error) {
    xl_file_kind kind = xl_file_look(path, NULL);
    if (kind == XL_FILE_NONE)
        return xl_fail(error, EXITLM_IO, XL_FILE_NAME ": no such file or folder", path);
    if (kind == XL_FILE_PLAIN) return read_file(set, path, error);
    return depth < MAX_DEPTH
               ? read_folder(set, path, depth, error)
               : xl_fail(error, EXITLM_IO, XL_FILE_NAME ": folders are nested too deeply", path);
}

exitlm_status xl_dataset_read(xl_dataset *set, const char *path, exitlm_error *error) {
    size_t before = set->n;
    exitlm_status status = read_any(set, path, 0, error);
    if (status == EXITLM_OK && set->n == before)
        status =
            xl_fail(error, EXITLM_IO, XL_FILE_NAME ": holds no conversation and no text", path);
    return status;
}

static void hash_text(xl_sha256 *sha, const char *text) {
    xl_sha256_update(sha, text, strlen(text) + 1);
}

void xl_dataset_hash(const xl_dataset *set, xl_sha256 *sha) {
    for (size_t i = 0; i < set->n; i++) {
        const xl_dataset_item *item = &set->items[i];
        const uint64_t numbers[] = {(uint64_t)item->kind, item->n};
        xl_sha256_update(sha, numbers, sizeof numbers);
        for (size_t t = 0; t < item->n; t++) {
            if (item->kind == XL_DATASET_MESSAGES) hash_text(sha, item->roles[t]);
            hash_text(sha, item->texts[t]);
        }
    }
}
