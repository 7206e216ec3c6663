/* What eval --tasks found, as text or JSON. */
#include <stdio.h>
#include <string.h>

#include "eval_tasks.h"
#include "ndjson.h"

static double share(size_t part, size_t whole) { return whole ? (double)part / (double)whole : 0; }

/* Is task `i` the first of its kind? */
static bool begins_kind(const eval_tasks *tasks, size_t i) {
    for (size_t k = 0; k < i; k++)
        if (strcmp(tasks->tasks[k].kind, tasks->tasks[i].kind) == 0) return false;
    return true;
}

static size_t of_kind(const eval_tasks *tasks, const char *kind) {
    size_t n = 0;
    for (size_t i = 0; i < tasks->n; i++) n += strcmp(tasks->tasks[i].kind, kind) == 0;
    return n;
}

static size_t right_of_kind(const eval_tasks *tasks, const char *kind, size_t row) {
    size_t n = 0;
    for (size_t i = 0; i < tasks->n; i++) n += strcmp(tasks->tasks[i].kind, kind) == 0 && tasks->replies[i * tasks->n_rows + row].right;
    return n;
}

void eval_tasks_show(const eval_tasks *tasks, const char *file, uint32_t max_tokens) {
    printf("%s: %zu tasks, greedy replies of at most %u tokens\n", file, tasks->n, max_tokens);
    printf("level  right           lost  gained  against full, with its 95 %% interval, points   work   K/V\n");
    for (size_t r = 0; r < tasks->n_rows; r++) {
        const eval_task_row *row = &tasks->row[r];
        if (r) printf("%.2f   ", (double)row->accuracy);
        else printf("full   ");
        printf("%4zu  %5.1f %%   ", row->right, 100 * share(row->right, tasks->n));
        if (r) printf("%5zu   %5zu  %+6.1f  (%+.1f … %+.1f)", row->lost, row->gained, 100 * row->difference, 100 * row->low, 100 * row->high);
        else printf("%5s   %5s  %6s", "-", "-", "-");
        printf("  %.3f  %s%s\n", row->mean_work, r ? cli_kv_policies[row->kv] : "exact", row->certified ? "" : "  not certified: nothing exits");
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

static void json_row(ndjson *j, const eval_tasks *tasks, size_t r) {
    const eval_task_row *row = &tasks->row[r];
    nd_uint(j, "right", row->right);
    nd_double(j, "share", share(row->right, tasks->n));
    nd_double(j, "mean_work", row->mean_work);
    nd_uint(j, "tokens", row->tokens);
    if (r == 0) return;
    nd_float(j, "accuracy", row->accuracy);
    nd_string(j, "kv", cli_kv_policies[row->kv]);
    nd_bool(j, "certified", row->certified);
    nd_uint(j, "lost", row->lost);
    nd_uint(j, "gained", row->gained);
    nd_double(j, "difference", row->difference);
    nd_double(j, "low", row->low);
    nd_double(j, "high", row->high);
}

static void json_task(ndjson *j, const eval_tasks *tasks, size_t i) {
    const eval_task_reply *replies = &tasks->replies[i * tasks->n_rows];
    nd_object(j, NULL);
    nd_string(j, "id", tasks->tasks[i].id);
    nd_string(j, "kind", tasks->tasks[i].kind);
    nd_array(j, "right");
    for (size_t r = 0; r < tasks->n_rows; r++) nd_bool(j, NULL, replies[r].right);
    nd_end(j);
    nd_array(j, "replies");
    for (size_t r = 0; r < tasks->n_rows; r++) nd_string(j, NULL, replies[r].text);
    nd_end(j);
    nd_end(j);
}

void eval_tasks_json(const eval_tasks *tasks, const char *model, const char *file, uint32_t max_tokens) {
    ndjson j = nd_to(stdout);
    nd_object(&j, NULL);
    nd_string(&j, "type", "tasks");
    nd_string(&j, "model", model);
    nd_string(&j, "file", file);
    nd_uint(&j, "tasks", tasks->n);
    nd_uint(&j, "max_tokens", max_tokens);
    nd_object(&j, "full");
    json_row(&j, tasks, 0);
    nd_end(&j);
    nd_array(&j, "levels");
    for (size_t r = 1; r < tasks->n_rows; r++) {
        nd_object(&j, NULL);
        json_row(&j, tasks, r);
        nd_end(&j);
    }
    nd_end(&j);
    nd_array(&j, "kinds");
    for (size_t i = 0; i < tasks->n; i++) {
        const char *kind = tasks->tasks[i].kind;
        if (!begins_kind(tasks, i)) continue;
        nd_object(&j, NULL);
        nd_string(&j, "kind", kind);
        nd_uint(&j, "tasks", of_kind(tasks, kind));
        nd_array(&j, "right");
        for (size_t r = 0; r < tasks->n_rows; r++) nd_uint(&j, NULL, right_of_kind(tasks, kind, r));
        nd_end(&j);
        nd_end(&j);
    }
    nd_end(&j);
    nd_array(&j, "items");
    for (size_t i = 0; i < tasks->n; i++) json_task(&j, tasks, i);
    nd_end(&j);
    nd_end(&j);
}
