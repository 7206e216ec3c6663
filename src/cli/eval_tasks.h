/* exitlm eval --tasks: how many small tasks with checkable answers come out right, in full and at each level. A file of JSONL, a task a line:
 *
 *   {"id": "t001", "kind": "capital", "turns": ["…", …], "answer": ["Paris"]}
 *   "messages" [{"role", "content"}, …] instead of "turns": a conversation as it stands, which ends with the user's turn
 *   "match"    "contains" (the default): the last reply has one of the answers in it, on word borders, whatever the case of its ASCII letters;
 *              "exact": the last reply is one of the answers, but for white space at its ends
 *   "not"      texts that must not come before the answer (contains): the other choices, "no" where "yes" is right */
#ifndef CLI_EVAL_TASKS_H
#define CLI_EVAL_TASKS_H
#include "engine.h"
#include "base/json.h"

typedef struct eval_task {
    xl_json *root;           /* owns all texts */
    const char *id, *kind;    /* kind "": not stated */
    const xl_json *talk;     /* "turns" or "messages" */
    const xl_json *answers, *before; /* lists of strings; before: "not", or NULL */
    bool written, exact;      /* written: "messages" */
} eval_task;

typedef struct eval_task_reply {
    char *text;               /* the last reply */
    bool right;
} eval_task_reply;

/* One level, or the full model. */
typedef struct eval_task_row {
    float accuracy;           /* 0: full */
    bool certified;           /* false: there is no row for it, so nothing exits */
    exitlm_kv_policy kv;      /* that was used */
    size_t right;
    size_t lost, gained;      /* right in full alone, right here alone */
    double difference, low, high; /* of the share right against full, with its 95 % interval */
    double mean_work;         /* of a token of all replies */
    uint64_t tokens;
} eval_task_row;

#define EVAL_TASK_ROWS (CLI_MAX_LIST + 1)
typedef struct eval_tasks {
    eval_task *tasks;
    size_t n, capacity;
    eval_task_row row[EVAL_TASK_ROWS]; /* row 0: full */
    size_t n_rows;
    eval_task_reply *replies; /* [n][n_rows] */
} eval_tasks;

typedef struct eval_task_options {
    exitlm_strategy strategy;
    int kv;                   /* exitlm_kv_policy, -1: the engine chooses */
    uint32_t max_tokens;
    bool quiet;
} eval_task_options;

/* 0, or the exit status of a failure that has been reported (file, line, what). */
int eval_tasks_read(eval_tasks *tasks, const char *path);
/* Greedy replies to all tasks, each in full and at every level, one after the other; fills rows and replies. The engine has a session and heads. */
int eval_tasks_run(eval_tasks *tasks, cli_engine *engine, const float *accuracy, size_t n_levels, const eval_task_options *options);
void eval_tasks_free(eval_tasks *tasks);

/* Is the reply right? */
bool eval_task_right(const eval_task *task, const char *reply);

/* As text, or as one JSON object, to standard output. `file`: where the tasks come from. */
void eval_tasks_show(const eval_tasks *tasks, const char *file, uint32_t max_tokens);
void eval_tasks_json(const eval_tasks *tasks, const char *model, const char *file, uint32_t max_tokens);

#endif
