/* inspect of a heads file: the heads, and what the calibration promises. */
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
    xl_nd_object(j, NULL);
    xl_nd_string(j, "strategy", cli_strategies[level->strategy]);
    xl_nd_string(j, "kv", cli_kv_policies[level->kv]);
    xl_nd_float(j, "accuracy", level->accuracy);
    xl_nd_bool(j, "certified", level->certified);
    xl_nd_float(j, "delta", level->delta);
    xl_nd_float(j, "bound", level->bound);
    xl_nd_array(j, "thresholds");
    for (uint32_t i = 0; i < n_heads; i++) xl_nd_float(j, NULL, level->threshold[i]);
    xl_nd_end(j);
    xl_nd_array(j, "coverage");
    for (uint32_t i = 0; i < n_heads; i++) xl_nd_float(j, NULL, level->coverage[i]);
    xl_nd_end(j);
    xl_nd_float(j, "agreement", level->agreement);
    xl_nd_float(j, "agreement_exited", level->agreement_exited);
    xl_nd_uint(j, "conversations", level->conversations);
    xl_nd_uint(j, "tokens", level->tokens);
    xl_nd_end(j);
}

static void print_json(const exitlm_heads *heads, const exitlm_heads_info *info, const char *path,
                       size_t n_bytes) {
    ndjson j = xl_nd_to(stdout);
    exitlm_error error;
    exitlm_level level;
    xl_nd_object(&j, NULL);
    xl_nd_string(&j, "type", "heads");
    xl_nd_string(&j, "file", path);
    xl_nd_uint(&j, "file_bytes", n_bytes);
    xl_nd_string(&j, "fingerprint", info->fingerprint);
    xl_nd_string(&j, "licence", info->licence);
    xl_nd_string(&j, "data", info->data);
    xl_nd_string(&j, "engine_version", info->engine_version);
    xl_nd_string(&j, "metric", cli_metrics[info->metric]);
    xl_nd_string(&j, "kv", cli_kv_policies[info->kv]);
    xl_nd_string(&j, "kv_type", cli_kv_types[info->kv_type]);
    xl_nd_float(&j, "default_accuracy", info->default_accuracy);
    xl_nd_array(&j, "heads");
    for (uint32_t i = 0; i < info->n_heads; i++) {
        xl_nd_object(&j, NULL);
        xl_nd_uint(&j, "layer", info->head[i].layer);
        xl_nd_string(&j, "form", info->head[i].form);
        xl_nd_uint(&j, "rows", info->head[i].rows);
        xl_nd_uint(&j, "macs", info->head[i].macs);
        xl_nd_end(&j);
    }
    xl_nd_end(&j);
    xl_nd_array(&j, "levels");
    for (size_t i = 0; i < exitlm_heads_levels(heads); i++)
        if (exitlm_heads_level(heads, i, &level, &error) == EXITLM_OK)
            json_level(&j, &level, info->n_heads);
    xl_nd_end(&j);
    xl_nd_end(&j);
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
    printf("\n%-13s %8s  %9s  %6s %6s  %13s  %s\n", "strategy", "accuracy", "agreement", "exited",
           "bound", "conversations", "coverage of each head, then the model's own; K/V");
    for (size_t i = 0; i < n; i++) {
        if (exitlm_heads_level(heads, i, &level, &error) != EXITLM_OK) continue;
        printf("%-13s %8.2f  ", cli_strategies[level.strategy], (double)level.accuracy);
        if (!level.certified) {
            printf("uncertifiable  %s\n", cli_kv_policies[level.kv]);
            continue;
        }
        double rest = 1;
        printf("%9.4f  %6.4f %6.4f  %13u  ", (double)level.agreement,
               (double)level.agreement_exited, (double)level.bound, level.conversations);
        for (uint32_t h = 0; h < info->n_heads; h++) {
            printf("%3.0f %%  ", (double)level.coverage[h] * 100);
            rest -= (double)level.coverage[h];
        }
        printf("%3.0f %%  %s\n", rest * 100, cli_kv_policies[level.kv]);
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
    printf("%-14s %s\n", "metric", cli_metrics[info->metric]);
    printf("%-14s %s, %s\n", "K/V", cli_kv_policies[info->kv], cli_kv_types[info->kv_type]);
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
