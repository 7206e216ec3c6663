/* How many small tasks with checkable answers come out right, in full and at each level. A file of
 * JSONL, a task a line:
 *
 *   {"id": "t001", "kind": "capital", "turns": ["…", …], "answer": ["Paris"]}
 *   "messages" [{"role", "content"}, …] instead of "turns": a conversation as it stands, which ends
 *   with the user's turn
 *   "match"    "contains" (the default): the last reply has one of the answers in it, on word
 *              borders, whatever the case of its ASCII letters; "exact": the last reply is one of
 *              the answers, but for white space at its ends
 *   "not"      texts that must not come before the answer (contains): the other choices, "no"
 *              where "yes" is right */
#ifndef XL_EVAL_TASKS_H
#define XL_EVAL_TASKS_H
#include "base/json.h"
#include "exitlm.h"
#include "observer.h"

typedef struct xl_task {
    xl_json *root;                   /* owns all texts */
    const char *id, *kind;           /* kind "": not stated */
    const xl_json *talk;             /* "turns" or "messages" */
    const xl_json *answers, *before; /* lists of strings; before: "not", or NULL */
    bool written, exact;             /* written: "messages" */
} xl_task;

typedef struct xl_task_reply {
    char *text; /* the last reply */
    bool right;
} xl_task_reply;

/* One level, or the full model. */
typedef struct xl_task_row {
    float accuracy;      /* 0: full */
    bool certified;      /* false: there is no row for it, so nothing exits */
    exitlm_kv_policy kv; /* that was used */
    size_t right;
    size_t lost, gained;          /* right in full alone, right here alone */
    double difference, low, high; /* of the share right against full, with its 95 % interval */
    double mean_work;             /* of a token of all replies */
    uint64_t tokens;
} xl_task_row;

#define XL_TASK_TOKENS 48 /* of a reply, where nothing else is asked for */
#define XL_TASK_ROWS 33   /* the full model, and as many levels as an option takes */
typedef struct xl_tasks {
    xl_task *tasks;
    size_t n, capacity;
    xl_task_row row[XL_TASK_ROWS]; /* row 0: full */
    size_t n_rows;
    xl_task_reply *replies; /* [n][n_rows] */
} xl_tasks;

typedef struct xl_task_options {
    exitlm_strategy strategy;
    exitlm_kv_policy kv;
    uint32_t max_tokens;
    const float *accuracy; /* [n_levels] */
    size_t n_levels;
} xl_task_options;

/* The message of a failure tells file, line, what. */
exitlm_status xl_tasks_read(xl_tasks *tasks, const char *path, exitlm_error *error);
/* Greedy replies to all tasks, each in full and at every level, one after the other; fills rows
 * and replies. The session has heads. */
exitlm_status xl_tasks_run(xl_tasks *tasks, exitlm_session *session, const xl_task_options *options,
                           const xl_observer *observer, exitlm_error *error);
/* Of rows from strict to bold, the last before the first that gets over `points` of a hundred tasks
 * fewer right than full; 0: none. */
size_t xl_tasks_boldest(const xl_tasks *tasks, double points);
void xl_tasks_free(xl_tasks *tasks);

/* Is the reply right? */
bool xl_task_right(const xl_task *task, const char *reply);

#endif
