#include "depth_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform.h"

/* From shallow to deep: green, yellow, orange, red of the 256-colour palette. */
static const int palette[] = {46, 118, 154, 190, 226, 220, 214, 208, 202};
enum { N_PALETTE = sizeof palette / sizeof *palette, LOOKUP_COLOUR = 213, BAR = 40 };

bool cli_wants_colours(void) {
    const char *force = getenv("CLICOLOR_FORCE"), *none = getenv("NO_COLOR"),
               *term = getenv("TERM");
    if (none && *none) return false;
    if (force && *force && strcmp(force, "0") != 0) return true;
    return cli_is_terminal(stdout) && !(term && strcmp(term, "dumb") == 0);
}

void cli_depth_view_init(cli_depth_view *view, const exitlm_heads_info *heads, uint32_t layers,
                         exitlm_mode mode) {
    *view = (cli_depth_view){.colours = cli_wants_colours(),
                             .lossless = mode == EXITLM_MODE_LOSSLESS,
                             .layers = layers,
                             .colour = -1};
    if (!heads || mode == EXITLM_MODE_FULL) return;
    view->n_heads = heads->n_heads;
    memcpy(view->head, heads->head, sizeof view->head);
}

/* head -1: the model's own, the deepest; -2: prompt lookup. */
static int colour_of(const cli_depth_view *view, int32_t head) {
    if (head == -2) return LOOKUP_COLOUR;
    uint32_t step = head < 0 || (uint32_t)head > view->n_heads ? view->n_heads : (uint32_t)head;
    return view->n_heads == 0 ? palette[N_PALETTE - 1]
                              : palette[step * (N_PALETTE - 1) / view->n_heads];
}

static void name_of(const cli_depth_view *view, int32_t head, char *out, size_t out_bytes) {
    if (head == -2) snprintf(out, out_bytes, "prompt lookup");
    else if (head < 0) snprintf(out, out_bytes, "layer %u, full", view->layers);
    else if (view->head[head].layer == view->layers)
        snprintf(out, out_bytes, "layer %u, shortlist", view->layers);
    else snprintf(out, out_bytes, "layer %u", view->head[head].layer);
}

static void legend_entry(const cli_depth_view *view, int32_t head) {
    char name[40];
    name_of(view, head, name, sizeof name);
    if (view->colours) printf("  \x1b[38;5;%dm\xE2\x96\xA0\x1b[0m %s", colour_of(view, head), name);
    else printf("  %s", name);
}

void cli_depth_view_legend(const cli_depth_view *view) {
    printf("%s", view->lossless ? "drafted by:" : "answered after:");
    for (uint32_t i = 0; i < view->n_heads; i++) legend_entry(view, (int32_t)i);
    if (view->lossless) legend_entry(view, -2);
    legend_entry(view, -1);
    printf("\n");
}

void cli_depth_view_colour(cli_depth_view *view, const exitlm_token *token) {
    if (!view->colours) return;
    int32_t head = view->lossless && token->drafted ? token->draft_head : token->head;
    int colour = colour_of(view, head);
    if (colour != view->colour) printf("\x1b[38;5;%dm", colour);
    view->colour = colour;
}

void cli_depth_view_plain(cli_depth_view *view) {
    if (view->colour >= 0) printf("\x1b[0m");
    view->colour = -1;
}

static void bar(const cli_depth_view *view, int32_t head, uint32_t count, uint32_t total) {
    char name[40];
    name_of(view, head, name, sizeof name);
    double share = total ? (double)count / total : 0;
    printf("  %-20s %5u  %3.0f %%  ", name, count, share * 100);
    if (view->colours) printf("\x1b[38;5;%dm", colour_of(view, head));
    for (int i = 0; i < (int)(share * BAR + 0.5); i++) printf("\xE2\x96\x88");
    printf("%s\n", view->colours ? "\x1b[0m" : "");
}

void cli_depth_view_histogram(const cli_depth_view *view, const exitlm_stats *stats) {
    uint32_t total = stats->full_tokens;
    for (uint32_t i = 0; i < view->n_heads; i++) total += stats->exits[i];
    printf("%u tokens, mean depth %.2f, mean work %.2f\n", stats->completion_tokens,
           stats->mean_depth, stats->mean_work);
    for (uint32_t i = 0; i < (view->lossless ? 0 : view->n_heads); i++)
        bar(view, (int32_t)i, stats->exits[i], total);
    bar(view, -1, stats->full_tokens, total);
    if (view->lossless)
        printf("  %u of %u drafts accepted, %u verifications\n", stats->accepted, stats->drafted,
               stats->draft_attempts);
}
