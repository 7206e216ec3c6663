/* What eval --tasks found, as text or JSON. */
#include "eval_tasks_show.h"

#include <inttypes.h>
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
        printf("  %.3f  %s%s\n", row->mean_work, r ? xl_policy_names[row->kv] : "exact",
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
    xl_nd_put(j, "right=%zu share=%g mean_work=%g tokens=%" PRIu64, row->right,
              share(row->right, tasks->n), row->mean_work, row->tokens);
    if (r == 0) return;
    xl_nd_put(j, "accuracy=%f kv=%s certified?%d lost=%zu gained=%zu difference=%g low=%g high=%g",
              row->accuracy, xl_policy_names[row->kv], row->certified, row->lost, row->gained,
              row->difference, row->low, row->high);
}

static void json_task(ndjson *j, const xl_tasks *tasks, size_t i) {
    const xl_task_reply *replies = &tasks->replies[i * tasks->n_rows];
    xl_nd_put(j, "{ id=%s kind=%s right=[", tasks->tasks[i].id, tasks->tasks[i].kind);
    for (size_t r = 0; r < tasks->n_rows; r++) xl_nd_put(j, "?%d", replies[r].right);
    xl_nd_put(j, "] replies=[");
    for (size_t r = 0; r < tasks->n_rows; r++) xl_nd_put(j, "%s", replies[r].text);
    xl_nd_put(j, "] }");
}

void cli_tasks_json(const xl_tasks *tasks, const char *model, const char *file,
                    uint32_t max_tokens) {
    ndjson j = xl_nd_to(stdout);
    xl_nd_put(&j, "{ type=tasks model=%s file=%s tasks=%zu max_tokens=%u full={", model, file,
              tasks->n, max_tokens);
    json_row(&j, tasks, 0);
    xl_nd_put(&j, "} levels=[");
    for (size_t r = 1; r < tasks->n_rows; r++) {
        xl_nd_put(&j, "{");
        json_row(&j, tasks, r);
        xl_nd_put(&j, "}");
    }
    xl_nd_put(&j, "] kinds=[");
    for (size_t i = 0; i < tasks->n; i++) {
        const char *kind = tasks->tasks[i].kind;
        if (!begins_kind(tasks, i)) continue;
        xl_nd_put(&j, "{ kind=%s tasks=%zu right=[", kind, of_kind(tasks, kind));
        for (size_t r = 0; r < tasks->n_rows; r++)
            xl_nd_put(&j, "%zu", right_of_kind(tasks, kind, r));
        xl_nd_put(&j, "] }");
    }
    xl_nd_put(&j, "] items=[");
    for (size_t i = 0; i < tasks->n; i++) json_task(&j, tasks, i);
    xl_nd_put(&j, "] }");
}
