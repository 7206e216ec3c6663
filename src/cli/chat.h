/* The chat command: what its files share. */
#ifndef CLI_CHAT_H
#define CLI_CHAT_H
#include "cli.h"
#include "depth_view.h"
#include "engine.h"
#include "base/ndjson.h"

typedef struct chat_options {
    cli_engine_options engine;
    const char *prompt, *system, *schema, *pattern, *tools, *tool_choice, *save, *load;
    int mode; /* exitlm_mode, -1: exit where there are heads, else full */
    float accuracy;
    int strategy, kv;
    uint32_t max_tokens; /* 0: to the context's end */
    float temperature, top_p, min_p, repeat_penalty, audit;
    uint32_t top_k;
    uint64_t seed;
    cli_texts stop;
    uint32_t draft_layer, draft_length, logprobs;
    bool show_depth, json, raw;
} chat_options;

typedef struct chat_talk {
    exitlm_message *messages; /* contents are owned, roles are literals */
    size_t n, capacity;
} chat_talk;

/* Takes `content`; false: no memory (content is freed). */
bool chat_talk_add(chat_talk *talk, const char *role, char *content);
void chat_talk_shorten(chat_talk *talk, size_t n);
/* Anew, with a system message or NULL. */
bool chat_talk_begin(chat_talk *talk, const char *system);
void chat_talk_free(chat_talk *talk);
/* As a line of JSON. */
void chat_talk_write(const chat_talk *talk, FILE *out);

typedef struct chat {
    const cli_call *call;
    const chat_options *options;
    cli_engine engine;
    exitlm_generate_options generate;
    cli_depth_view view;
    chat_talk talk;
    ndjson json;
    const char *system; /* message, with the tools; or NULL */
    char *told;         /* its memory, where there are tools */
    bool terminal;      /* standard output is one: control characters are kept from it */
    bool verbose;       /* a line of figures after each answer */
} chat;

/* One answer, written to standard output. `text` where messages is NULL (--raw). *reply, if not
 * NULL, is its text in fresh memory (also where the answer was stopped). 0, or the exit status
 * of a failure that has been reported. */
int chat_reply(chat *c, const exitlm_message *messages, size_t n_messages, const char *text,
               char **reply);

/* Reads the tools, into c->generate.grammar and c->system. */
int chat_tools_open(chat *c);
/* How many whole calls are in the text; write: they join the open object as `tool_calls`. */
uint32_t chat_tool_calls(chat *c, const char *said, bool write);
/* The conversation and what the session holds of it, to and from a file. 0, or the exit status of a
 * failure that has been reported. */
int chat_save(const chat *c, const char *file);
int chat_load(chat *c, const char *file);
/* The exitlm_kv_type that a saved conversation needs; -1: the file does not say, which chat_load reports. */
int chat_saved_kv_type(const char *file);

/* The next turn of the conversation; takes `turn`, NULL: no memory. 0, or the exit status of a failure
 * that has been reported; the conversation is then as before. */
int chat_answer(chat *c, char *turn);

/* The conversation with a person, or with a program that writes a line a turn. */
int chat_converse(chat *c);

#endif
