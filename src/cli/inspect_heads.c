/* inspect of a heads file: the heads, and what the calibration promises. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "engine.h"
#include "files.h"
#include "inspect.h"
#include "text.h"

#define MAX_HEADS_BYTES ((uint64_t)1 << 30)

static void json_level(ndjson *j, const exitlm_level *level, uint32_t n_heads) {
    xl_nd_put(j, "{ strategy=%s kv=%s accuracy=%f certified?%d delta=%f bound=%f thresholds=[",
              xl_strategy_names[level->strategy], xl_policy_names[level->kv], level->accuracy,
              level->certified, level->delta, level->bound);
    for (uint32_t i = 0; i < n_heads; i++) xl_nd_put(j, "%f", level->threshold[i]);
    xl_nd_put(j, "] first_threshold=%f coverage=[", level->first_threshold);
    for (uint32_t i = 0; i < n_heads; i++) xl_nd_put(j, "%f", level->coverage[i]);
    xl_nd_put(j, "] agreement=%f agreement_exited=%f regret=%f regret_bound=%f unwanted=%f",
              level->agreement, level->agreement_exited, level->regret, level->regret_bound,
              level->unwanted);
    xl_nd_put(j, "conversations=%u tokens=%u kv_type=%s temperature=%f max_tokens=%u }",
              level->conversations, level->tokens, xl_kv_type_names[level->kv_type],
              level->temperature, level->max_tokens);
}

static void print_json(const exitlm_heads *heads, const exitlm_heads_info *info, const char *path,
                       size_t n_bytes) {
    ndjson j = xl_nd_to(stdout);
    exitlm_error error;
    exitlm_level level;
    xl_nd_put(&j,
              "{ type=heads file=%s file_bytes=%zu fingerprint=%s licence=%s data=%s "
              "engine_version=%s metric=%s kv=%s kv_type=%s default_accuracy=%f heads=[",
              path, n_bytes, info->fingerprint, info->licence, info->data, info->engine_version,
              xl_metric_names[info->metric], xl_policy_names[info->kv],
              xl_kv_type_names[info->kv_type], info->default_accuracy);
    for (uint32_t i = 0; i < info->n_heads; i++) {
        xl_nd_put(&j, "{ layer=%u form=%s rows=%u macs=%" PRIu64 " }", info->head[i].layer,
                  info->head[i].form, info->head[i].rows, info->head[i].macs);
    }
    xl_nd_put(&j, "] levels=[");
    for (size_t i = 0; i < exitlm_heads_levels(heads); i++)
        if (exitlm_heads_level(heads, i, &level, &error) == EXITLM_OK)
            json_level(&j, &level, info->n_heads);
    xl_nd_put(&j, "] }");
}

static void line(const char *name, const char *text) {
    printf("%-14s ", name);
    cli_print_safe(stdout, text && *text ? text : "not stated", text && *text ? strlen(text) : 10,
                   false);
    printf("\n");
}

static void print_levels(const exitlm_heads *heads, const exitlm_heads_info *info) {
    exitlm_error error;
    exitlm_level level;
    size_t n = exitlm_heads_levels(heads);
    if (n == 0) {
        printf("\nnot calibrated: \"exitlm calibrate\" finds the thresholds\n");
        return;
    }
    printf("\n%-13s %8s  %9s  %6s %6s  %-16s  %8s  %13s  %s\n", "strategy", "accuracy", "agreement",
           "exited", "bound", "regret (bound)", "unwanted", "conversations",
           "coverage of each head, then the model's own; replies");
    for (size_t i = 0; i < n; i++) {
        if (exitlm_heads_level(heads, i, &level, &error) != EXITLM_OK) continue;
        printf("%-13s %8.2f  ", xl_strategy_names[level.strategy], (double)level.accuracy);
        if (!level.certified) {
            printf("uncertifiable  ");
            cli_print_use(&level);
            printf("\n");
            continue;
        }
        double rest = 1;
        printf("%9.4f  %6.4f %6.4f  %.5f (%.5f)  %8.4f  %13u  ", (double)level.agreement,
               (double)level.agreement_exited, (double)level.bound, (double)level.regret,
               (double)level.regret_bound, (double)level.unwanted, level.conversations);
        for (uint32_t h = 0; h < info->n_heads; h++) {
            printf("%3.0f %%  ", (double)level.coverage[h] * 100);
            rest -= (double)level.coverage[h];
        }
        printf("%3.0f %%  ", rest * 100);
        cli_print_use(&level);
        printf("\n");
    }
}

static void print_table(const exitlm_heads *heads, const exitlm_heads_info *info, const char *path,
                        size_t n_bytes) {
    line("exit heads", path);
    printf("%-14s %.1f MB\n", "size", (double)n_bytes / 1e6);
    line("of the model", info->fingerprint);
    line("licence", info->licence);
    line("data", info->data);
    line("made by", info->engine_version);
    printf("%-14s %s\n", "metric", xl_metric_names[info->metric]);
    printf("%-14s %s, %s\n", "K/V", xl_policy_names[info->kv], xl_kv_type_names[info->kv_type]);
    printf("%-14s %g\n\n", "default level", (double)info->default_accuracy);
    printf("head  after layer  form        shortlist\n");
    for (uint32_t i = 0; i < info->n_heads; i++)
        printf("%4u  %11u  %-10s  %9u\n", i, info->head[i].layer, info->head[i].form,
               info->head[i].rows);
    print_levels(heads, info);
}

int inspect_heads(const char *path, bool json) {
    char *bytes;
    size_t n;
    exitlm_heads *heads;
    exitlm_error error;
    int status = cli_read_file(path, MAX_HEADS_BYTES, &bytes, &n);
    if (status != CLI_OK) return status;
    if (exitlm_heads_create(&heads, bytes, n, NULL, &error) != EXITLM_OK)
        status = cli_report(&error, path);
    free(bytes);
    if (status != CLI_OK) return status;
    exitlm_heads_info info;
    exitlm_heads_describe(heads, &info);
    if (json) print_json(heads, &info, path, n);
    else print_table(heads, &info, path, n);
    exitlm_heads_free(heads);
    return CLI_OK;
}
