/* What eval --tasks found, as text or JSON. */
#include "eval_tasks_show.h"

#include <stdio.h>
#include <string.h>

#include "base/ndjson.h"
#include "engine.h"

static double share(size_t part, size_t whole) { return whole ? (double)part / (double)whole : 0; }

/* Is task `i` the first of its kind? */
static bool begins_kind(const xl_tasks *tasks, size_t i) {
    for (size_t k = 0; k < i; k++)
        if (strcmp(tasks->tasks[k].kind, tasks->tasks[i].kind) == 0) return false;
    return true;
}

static size_t of_kind(const xl_tasks *tasks, const char *kind) {
    size_t n = 0;
    for (size_t i = 0; i < tasks->n; i++) n += strcmp(tasks->tasks[i].kind, kind) == 0;
    return n;
}

static size_t right_of_kind(const xl_tasks *tasks, const char *kind, size_t row) {
    size_t n = 0;
    for (size_t i = 0; i < tasks->n; i++)
        n += strcmp(tasks->tasks[i].kind, kind) == 0 &&
             tasks->replies[i * tasks->n_rows + row].right;
    return n;
}

void cli_tasks_show(const xl_tasks *tasks, const char *file, uint32_t max_tokens) {
    printf("%s: %zu tasks, greedy replies of at most %u tokens\n", file, tasks->n, max_tokens);
    printf("level  right           lost  gained  against full, with its 95 %% interval, points   "
           "work   K/V\n");
    for (size_t r = 0; r < tasks->n_rows; r++) {
        const xl_task_row *row = &tasks->row[r];
        if (r) printf("%.2f   ", (double)row->accuracy);
        else printf("full   ");
        printf("%4zu  %5.1f %%   ", row->right, 100 * share(row->right, tasks->n));
        if (r)
            printf("%5zu   %5zu  %+6.1f  (%+.1f … %+.1f)", row->lost, row->gained,
                   100 * row->difference, 100 * row->low, 100 * row->high);
        else printf("%5s   %5s  %6s", "-", "-", "-");
        printf("  %.3f  %s%s\n", row->mean_work, r ? cli_kv_policies[row->kv] : "exact",
               row->certified ? "" : "  not certified: nothing exits");
    }
    printf("\nkind            tasks  right, row by row\n");
    for (size_t i = 0; i < tasks->n; i++) {
        const char *kind = tasks->tasks[i].kind;
        if (!begins_kind(tasks, i)) continue;
        printf("%-14s  %5zu ", *kind ? kind : "-", of_kind(tasks, kind));
        for (size_t r = 0; r < tasks->n_rows; r++) printf(" %4zu", right_of_kind(tasks, kind, r));
        printf("\n");
    }
}

static void json_row(ndjson *j, const xl_tasks *tasks, size_t r) {
    const xl_task_row *row = &tasks->row[r];
    xl_nd_uint(j, "right", row->right);
    xl_nd_double(j, "share", share(row->right, tasks->n));
    xl_nd_double(j, "mean_work", row->mean_work);
    xl_nd_uint(j, "tokens", row->tokens);
    if (r == 0) return;
    xl_nd_float(j, "accuracy", row->accuracy);
    xl_nd_string(j, "kv", cli_kv_policies[row->kv]);
    xl_nd_bool(j, "certified", row->certified);
    xl_nd_uint(j, "lost", row->lost);
    xl_nd_uint(j, "gained", row->gained);
    xl_nd_double(j, "difference", row->difference);
    xl_nd_double(j, "low", row->low);
    xl_nd_double(j, "high", row->high);
}

static void json_task(ndjson *j, const xl_tasks *tasks, size_t i) {
    const xl_task_reply *replies = &tasks->replies[i * tasks->n_rows];
    xl_nd_object(j, NULL);
    xl_nd_string(j, "id", tasks->tasks[i].id);
    xl_nd_string(j, "kind", tasks->tasks[i].kind);
    xl_nd_array(j, "right");
    for (size_t r = 0; r < tasks->n_rows; r++) xl_nd_bool(j, NULL, replies[r].right);
    xl_nd_end(j);
    xl_nd_array(j, "replies");
    for (size_t r = 0; r < tasks->n_rows; r++) xl_nd_string(j, NULL, replies[r].text);
    xl_nd_end(j);
    xl_nd_end(j);
}

void cli_tasks_json(const xl_tasks *tasks, const char *model, const char *file,
                    uint32_t max_tokens) {
    ndjson j = xl_nd_to(stdout);
    xl_nd_object(&j, NULL);
    xl_nd_string(&j, "type", "tasks");
    xl_nd_string(&j, "model", model);
    xl_nd_string(&j, "file", file);
    xl_nd_uint(&j, "tasks", tasks->n);
    xl_nd_uint(&j, "max_tokens", max_tokens);
    xl_nd_object(&j, "full");
    json_row(&j, tasks, 0);
    xl_nd_end(&j);
    xl_nd_array(&j, "levels");
    for (size_t r = 1; r < tasks->n_rows; r++) {
        xl_nd_object(&j, NULL);
        json_row(&j, tasks, r);
        xl_nd_end(&j);
    }
    xl_nd_end(&j);
    xl_nd_array(&j, "kinds");
    for (size_t i = 0; i < tasks->n; i++) {
        const char *kind = tasks->tasks[i].kind;
        if (!begins_kind(tasks, i)) continue;
        xl_nd_object(&j, NULL);
        xl_nd_string(&j, "kind", kind);
        xl_nd_uint(&j, "tasks", of_kind(tasks, kind));
        xl_nd_array(&j, "right");
        for (size_t r = 0; r < tasks->n_rows; r++)
            xl_nd_uint(&j, NULL, right_of_kind(tasks, kind, r));
        xl_nd_end(&j);
        xl_nd_end(&j);
    }
    xl_nd_end(&j);
    xl_nd_array(&j, "items");
    for (size_t i = 0; i < tasks->n; i++) json_task(&j, tasks, i);
    xl_nd_end(&j);
    xl_nd_end(&j);
}
