/* What eval --tasks found. */
#ifndef CLI_EVAL_TASKS_SHOW_H
#define CLI_EVAL_TASKS_SHOW_H
#include "train/eval_tasks.h"

/* As text, or as one JSON object, to standard output. `file`: where the tasks come from. */
void cli_tasks_show(const xl_tasks *tasks, const char *file, uint32_t max_tokens);
void cli_tasks_json(const xl_tasks *tasks, const char *model, const char *file,
                    uint32_t max_tokens);

#endif
