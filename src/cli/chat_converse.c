/* The interactive chat: a line is a turn, or several between lines of """. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "chat.h"
#include "files.h"
#include "platform.h"
#include "signals.h"

typedef enum read_result { READ_TEXT, READ_INTERRUPTED, READ_END, READ_NO_MEMORY } read_result;

/* ---- Reading ---- */

/* One line without its end, in fresh memory. */
static read_result read_line(char **line) {
    size_t n = 0, capacity = 256;
    char *text = malloc(capacity);
    while (text) {
        errno = 0;
        if (!fgets(text + n, (int)(capacity - n), stdin)) {
            bool ended = errno != EINTR;
            clearerr(stdin);
            if (n == 0 || !ended) {
                free(text);
                return ended ? READ_END : READ_INTERRUPTED;
            }
            break;
        }
        n += strlen(text + n);
        if (n && text[n - 1] == '\n') {
            text[--n] = 0;
            if (n && text[n - 1] == '\r') text[--n] = 0;
            break;
        }
        /* a NUL in the line, or its last part: the next read tells */
        if (n + 1 < capacity) continue;
        char *larger = capacity > (1u << 24) ? NULL : realloc(text, capacity * 2);
        if (!larger) free(text);
        text = larger;
        capacity *= 2;
    }
    *line = text;
    return text ? READ_TEXT : READ_NO_MEMORY;
}

static read_result prompt_line(bool person, const char *prompt, char **line) {
    cli_interrupt_clear();
    if (person) {
        printf("%s", prompt);
        fflush(stdout);
    }
    return read_line(line);
}

/* A turn: one line, or the lines between two of """. */
static read_result read_turn(bool person, char **turn) {
    read_result result = prompt_line(person, "> ", turn);
    if (result != READ_TEXT || strncmp(*turn, "\"\"\"", 3) != 0) return result;
    char *text = xl_format("%s", *turn + 3);
    free(*turn);
    for (;;) {
        char *line = NULL;
        if (!text) return READ_NO_MEMORY;
        result = prompt_line(person, ". ", &line);
        if (result != READ_TEXT) {
            free(text);
            return result;
        }
        bool last = xl_ends_with(line, "\"\"\"");
        if (last) line[strlen(line) - 3] = 0;
        char *longer = xl_format("%s%s%s", text, *text ? "\n" : "", line);
        free(line);
        free(text);
        text = longer;
        if (!last) continue;
        *turn = text;
        return text ? READ_TEXT : READ_NO_MEMORY;
    }
}

/* ---- Commands ---- */

static void save(const chat_talk *talk, const char *file) {
    exitlm_error error;
    xl_file_out out;
    if (!*file) {
        cli_warn("/save needs a file name: /save talk.jsonl");
        return;
    }
    exitlm_status status = xl_file_begin(&out, file, &error);
    if (status == EXITLM_OK) {
        chat_talk_write(talk, out.stream);
        status = xl_file_end(&out, EXITLM_OK, &error);
    }
    if (status != EXITLM_OK) cli_warn("%s", error.message);
    else fprintf(stderr, "saved to %s\n", file);
}

static void print_help(void) {
    fprintf(stderr, "/reset      forget the conversation\n"
                    "/save FILE  write it as a line of JSON, as --data of train and eval takes it\n"
                    "/quit       end (also Ctrl-D)\n"
                    "\"\"\"         begins and ends a turn of several lines\n"
                    "Ctrl-C      stops the answer\n");
}

/* Handles a line that begins with a slash. False: the end. */
static bool obey(chat *c, const char *line, bool *good) {
    if (strcmp(line, "/quit") == 0 || strcmp(line, "/exit") == 0) return false;
    if (strcmp(line, "/help") == 0) print_help();
    else if (strcmp(line, "/reset") == 0) {
        *good = chat_talk_begin(&c->talk, c->system);
        exitlm_session_reset(c->engine.session);
        fprintf(stderr, "a new conversation\n");
    } else if (strcmp(line, "/save") == 0 || strncmp(line, "/save ", 6) == 0) {
        const char *file = line + 5;
        save(&c->talk, file + strspn(file, " "));
    } else {
        cli_warn("unknown command %.40s; /help lists them", line);
    }
    return true;
}

/* ---- Turns ---- */

int chat_answer(chat *c, char *turn) {
    chat_talk *talk = &c->talk;
    char *reply = NULL;
    if (c->options->raw) {
        int status = turn ? chat_reply(c, NULL, 0, turn, NULL) : cli_no_memory("the text");
        free(turn);
        return status;
    }
    size_t before = talk->n;
    if (!chat_talk_add(talk, "user", turn)) return cli_no_memory("the conversation");
    int status = chat_reply(c, talk->messages, talk->n, NULL, &reply);
    if (status == CLI_OK && !chat_talk_add(talk, "assistant", reply))
        status = cli_no_memory("the conversation");
    if (status != CLI_OK) chat_talk_shorten(talk, before);
    return status;
}

int chat_converse(chat *c) {
    bool person = cli_is_terminal(stdin) && !c->options->json, good = true, open = true;
    int status = CLI_OK;
    if (person) fprintf(stderr, "%s. /help for commands, Ctrl-D ends.\n", c->engine.info.name);
    while (good && open) {
        char *turn = NULL;
        read_result result = read_turn(person, &turn);
        if (result == READ_END) break;
        if (result == READ_NO_MEMORY) good = false;
        if (result == READ_INTERRUPTED) {
            if (!person) break;
            fprintf(stderr, "\n(Ctrl-D or /quit ends)\n");
        }
        if (result != READ_TEXT) continue;
        if (*turn == '/' && person) {
            open = obey(c, turn, &good);
            free(turn);
        } else if (*turn == 0) {
            free(turn);
        } else {
            status = chat_answer(c, turn);
            /* a person reads the message and goes on */
            if (status == CLI_OK || person) status = CLI_OK;
            else open = false;
        }
    }
    if (person) fputc('\n', stderr);
    return good ? status : cli_no_memory("the conversation");
}
