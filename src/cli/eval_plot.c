/* The picture: how often each head is wrong among its surest tokens, where the certified levels
 * stand, and how deep tokens go. */
#include "eval_plot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "svg.h"

#define POINTS 200
static const char *const colours[EXITLM_MAX_HEADS] = {"#0b7285", "#e8590c", "#5f3dc4", "#2b8a3e",
                                                      "#c2255c", "#1864ab", "#846358", "#495057"};

typedef struct curve {
    double x[POINTS], y[POINTS];
    size_t n;
} curve;

typedef struct pair {
    float u;
    uint8_t wrong;
} pair;

static int compare_pairs(const void *a, const void *b) {
    const pair *x = a, *y = b;
    return (x->u > y->u) - (x->u < y->u);
}

/* Share of wrong choices among the surest tokens of head h, over the share of tokens. */
static bool risk_curve(const xl_level_tokens *t, uint32_t h, curve *c) {
    pair *pairs = malloc((t->n + 1) * sizeof *pairs);
    size_t n = 0, wrong = 0, next = 0;
    if (!pairs) return false;
    for (size_t i = 0; i < t->n; i++)
        if (t->u[i * t->n_heads + h] <= 1)
            pairs[n++] = (pair){t->u[i * t->n_heads + h], t->wrong[i * t->n_heads + h]};
    qsort(pairs, n, sizeof *pairs, compare_pairs);
    c->n = 0;
    for (size_t i = 0; i < n; i++) {
        wrong += pairs[i].wrong;
        /* the first 2 % are noise */
        if (i + 1 < n && (i + 1 < t->n / 50 || (i + 1) * POINTS / t->n < next)) continue;
        if (c->n == POINTS) break;
        c->x[c->n] = (double)(i + 1) / (double)t->n;
        c->y[c->n++] = (double)wrong / (double)(i + 1);
        next = (i + 1) * POINTS / t->n + 1;
    }
    free(pairs);
    return true;
}

static void head_name(const xl_eval_run *run, uint32_t h, char *name, size_t n_bytes) {
    exitlm_heads_info heads;
    exitlm_heads_describe(run->heads, &heads);
    const exitlm_head_info *info = &heads.head[h];
    if (strcmp(info->form, "vocabulary") == 0)
        snprintf(name, n_bytes, "layer %u, %u words", info->layer, info->rows);
    else snprintf(name, n_bytes, "layer %u", info->layer);
}

static int draw_curves(const xl_eval_run *run, FILE *out) {
    const exitlm_heads *heads = run->heads;
    svg_axes a = {out, 80, 70, 400, 290, 0, 1, 0, 0.25};
    xl_level_tokens tokens;
    char name[64];
    if (!xl_level_tokens_make(&tokens, heads, heads->metric, heads->n_layers, &run->record,
                              run->data.n))
        return cli_no_memory("the picture");
    svg_text(out, 80, 48, "start", "font-weight=\"600\" font-size=\"14\"",
             "Risk and coverage on held-out conversations");
    svg_axes_draw(&a, 0.2, 0.05, "tokens that exit", "exits that differ from the full model");
    curve *c = malloc(sizeof *c);
    int status = c ? CLI_OK : cli_no_memory("the picture");
    for (uint32_t h = 0; h < heads->n_heads && status == CLI_OK; h++) {
        if (!risk_curve(&tokens, h, c)) status = cli_no_memory("the picture");
        else svg_line(&a, c->x, c->y, c->n, colours[h], false);
        head_name(run, h, name, sizeof name);
        fprintf(out, "<rect x=\"96\" y=\"%.1f\" width=\"14\" height=\"3\" fill=\"%s\"/>\n",
                86.0 + 18 * h, colours[h]);
        svg_text(out, 116, 91.0 + 18 * h, "start", "", name);
    }
    for (size_t r = 0; r < run->n_rows && status == CLI_OK; r++) {
        const xl_eval_row *row = &run->rows[r];
        double exits = 0;
        if (row->level.strategy != EXITLM_STRATEGY_RISK || row->level.kv != run->heads->kv ||
            !row->level.certified)
            continue;
        for (uint32_t h = 0; h < heads->n_heads; h++) exits += row->coverage[h];
        if (1 - row->agreement_exited > a.y1) continue;
        svg_dot(&a, exits, 1 - row->agreement_exited, "#1f2933");
        snprintf(name, sizeof name, "%.2f", (double)row->level.accuracy);
        svg_text(out, svg_x(&a, exits) - 8, svg_y(&a, 1 - row->agreement_exited) - 7, "end",
                 "font-size=\"11\"", name);
    }
    svg_text(out, 96, 92.0 + 18 * heads->n_heads, "start", "fill=\"#52606d\"",
             "\xe2\x97\x8f the chain at a certified accuracy");
    free(c);
    xl_level_tokens_free(&tokens);
    return status;
}

/* The certified level that the histogram shows: 0.95, or what is nearest. */
static const xl_eval_row *shown_row(const xl_eval_run *run) {
    const xl_eval_row *best = NULL;
    for (size_t r = 0; r < run->n_rows; r++) {
        const xl_eval_row *row = &run->rows[r];
        if (!row->level.certified || row->level.kv != run->heads->kv) continue;
        if (row->level.strategy != EXITLM_STRATEGY_RISK && best) continue;
        double now = row->level.accuracy - 0.95, then = best ? best->level.accuracy - 0.95 : 9;
        if (now * now < then * then) best = row;
    }
    return best;
}

static void draw_depths(const xl_eval_run *run, FILE *out) {
    const xl_eval_row *row = shown_row(run);
    const uint32_t n = run->heads->n_heads;
    char text[128];
    double share[EXITLM_MAX_HEADS + 1], most = 0.1, rest = 1;
    if (!row) return;
    for (uint32_t h = 0; h < n; h++) rest -= share[h] = row->coverage[h];
    share[n] = rest > 0 ? rest : 0;
    for (uint32_t h = 0; h <= n; h++) most = share[h] > most ? share[h] : most;
    svg_axes a = {out, 580, 70, 340, 290, 0, n + 1, 0, most > 0.6 ? 1 : most > 0.4 ? 0.6 : 0.4};
    snprintf(text, sizeof text, "How deep tokens go at accuracy %.2f", (double)row->level.accuracy);
    svg_text(out, 580, 48, "start", "font-weight=\"600\" font-size=\"14\"", text);
    snprintf(text, sizeof text, "mean depth %.0f %%, mean work %.0f %%, agreement %.1f %%",
             100 * row->mean_depth, 100 * row->mean_work, 100 * row->agreement);
    svg_axes_draw(&a, 0, 0.2, text, "share of tokens");
    for (uint32_t h = 0; h <= n; h++) {
        const double middle = svg_x(&a, h + 0.5);
        svg_bar(&a, h + 0.18, h + 0.82, share[h], h < n ? colours[h] : "#adb5bd");
        snprintf(text, sizeof text, "%.1f %%", 100 * share[h]);
        svg_text(out, middle, svg_y(&a, share[h]) - 6, "middle", "font-weight=\"600\"", text);
        if (h < n) head_name(run, h, text, sizeof text);
        else snprintf(text, sizeof text, "full model");
        svg_text(out, middle, a.top + a.height + 18, "middle", "font-size=\"11\" fill=\"#52606d\"",
                 text);
    }
}

int cli_eval_plot(const xl_eval_run *run, const char *path) {
    char text[256];
    exitlm_model_info info;
    exitlm_model_describe(run->model, &info);
    errno = 0;
    FILE *out = fopen(path, "w");
    if (!out) return cli_fail("%s: cannot be written: %s", path, strerror(errno));
    svg_begin(out, 960, 440);
    snprintf(text, sizeof text, "%.80s: exit heads, %zu conversations, %zu tokens", info.name,
             run->data.n, run->tokens);
    svg_text(out, 24, 24, "start", "font-size=\"12\" fill=\"#52606d\"", text);
    int status = draw_curves(run, out);
    if (status == CLI_OK) draw_depths(run, out);
    svg_end(out);
    if (fclose(out) != 0 && status == CLI_OK)
        status = cli_fail("%s: cannot be written: is the disk full?", path);
    return status;
}
