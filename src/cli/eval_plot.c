/* The picture: how often each head is wrong among its surest tokens, and where the certified
 * levels stand. */
#include "eval_plot.h"

#include <stdio.h>
#include <stdlib.h>

#include "files.h"
#include "output.h"

#define POINTS 200
#define MOST_RISK 0.25 /* at the top */
enum { LEFT = 80, TOP = 50, WIDTH = 500, HEIGHT = 300, BOTTOM = TOP + HEIGHT };
static const char *const colours[EXITLM_MAX_HEADS] = {"#0b7285", "#e8590c", "#5f3dc4", "#2b8a3e",
                                                      "#c2255c", "#1864ab", "#846358", "#495057"};

static double x_of(double exits) { return LEFT + WIDTH * exits; }
static double y_of(double risk) { return BOTTOM - HEIGHT * risk / MOST_RISK; }

typedef struct pair {
    float u;
    uint8_t wrong;
} pair;

static int compare_pairs(const void *a, const void *b) {
    const pair *x = a, *y = b;
    return (x->u > y->u) - (x->u < y->u);
}

/* Share of wrong choices among the surest tokens of head h, over the share of tokens. */
static void draw_curve(const xl_level_tokens *t, uint32_t h, pair *pairs, FILE *out) {
    size_t n = 0, wrong = 0, next = t->n / 50; /* the first 2 % are noise */
    for (size_t i = 0; i < t->n; i++)
        if (t->u[i * t->n_heads + h] <= 1)
            pairs[n++] = (pair){t->u[i * t->n_heads + h], t->wrong[i * t->n_heads + h]};
    qsort(pairs, n, sizeof *pairs, compare_pairs);
    fprintf(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colours[h]);
    for (size_t i = 0; i < n; i++) {
        wrong += pairs[i].wrong;
        if (i + 1 < n && i < next) continue;
        const double risk = (double)wrong / (double)(i + 1);
        fprintf(out, "%.1f,%.1f ", x_of((double)(i + 1) / (double)t->n),
                y_of(risk < MOST_RISK ? risk : MOST_RISK));
        next = i + 1 + t->n / POINTS;
    }
    fprintf(out, "\"/>\n");
}

static void draw_axes(FILE *out) {
    for (int i = 0; i <= 5; i++) {
        const double x = x_of(0.2 * i), y = y_of(0.05 * i);
        fprintf(out,
                "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#cbd2d9\"/>\n"
                "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%d %%</text>\n"
                "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d %%</text>\n",
                LEFT, y, LEFT + WIDTH, y, LEFT - 8, y + 4, 5 * i, x, BOTTOM + 18, 20 * i);
    }
    fprintf(out,
            "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">tokens that exit</text>\n"
            "<text transform=\"translate(24 %d) rotate(-90)\" text-anchor=\"middle\">exits that "
            "differ from the full model</text>\n",
            LEFT + WIDTH / 2, BOTTOM + 38, TOP + HEIGHT / 2);
}

static void draw_legend(const xl_eval_run *run, FILE *out) {
    exitlm_heads_info heads;
    exitlm_heads_describe(run->heads, &heads);
    for (uint32_t h = 0; h < heads.n_heads; h++)
        fprintf(out, "<text x=\"%d\" y=\"%u\" fill=\"%s\">layer %u, %s, %u rows</text>\n",
                LEFT + 16, TOP + 20 + 18 * h, colours[h], heads.head[h].layer, heads.head[h].form,
                heads.head[h].rows);
    fprintf(out, "<text x=\"%d\" y=\"%u\">\xe2\x97\x8f the chain at a certified accuracy</text>\n",
            LEFT + 16, TOP + 20 + 18 * heads.n_heads);
}

static void draw_levels(const xl_eval_run *run, FILE *out) {
    for (size_t r = 0; r < run->n_rows; r++) {
        const xl_eval_row *row = &run->rows[r];
        const double risk = 1 - row->means.agreement_exited;
        double exits = 0;
        if (row->level.strategy != EXITLM_STRATEGY_RISK || row->level.kv != run->heads->kv ||
            !row->level.certified || risk > MOST_RISK)
            continue;
        for (uint32_t h = 0; h < run->heads->n_heads; h++) exits += row->means.coverage[h];
        fprintf(out,
                "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>\n"
                "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.2f</text>\n",
                x_of(exits), y_of(risk), x_of(exits) - 8, y_of(risk) - 7,
                (double)row->level.accuracy);
    }
}

static void draw(const xl_eval_run *run, const xl_level_tokens *tokens, pair *pairs, FILE *out) {
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 620 400\" "
            "font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#1f2933\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n"
            "<text x=\"%d\" y=\"28\">Risk and coverage, %zu conversations, %zu tokens</text>\n",
            LEFT, run->data.n, run->tokens);
    draw_axes(out);
    for (uint32_t h = 0; h < run->heads->n_heads; h++) draw_curve(tokens, h, pairs, out);
    draw_legend(run, out);
    draw_levels(run, out);
    fprintf(out, "</svg>\n");
}

int cli_eval_plot(const xl_eval_run *run, const char *path) {
    const exitlm_heads *heads = run->heads;
    exitlm_error error;
    xl_level_tokens tokens;
    xl_file_out out;
    const bool made = xl_level_tokens_make(&tokens, heads, heads->metric, heads->n_layers,
                                           &run->record, run->data.n);
    pair *pairs = malloc((run->record.n + 1) * sizeof *pairs);
    exitlm_status status =
        made && pairs ? xl_file_begin(&out, path, &error) : xl_no_memory(&error, "the picture");
    if (status == EXITLM_OK) {
        draw(run, &tokens, pairs, out.stream);
        status = xl_file_end(&out, EXITLM_OK, &error);
    }
    xl_level_tokens_free(&tokens);
    free(pairs);
    return cli_done(status, &error);
}
