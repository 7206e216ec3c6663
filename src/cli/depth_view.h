/* How deep each token went, for a person: colours while the text is written, a histogram after
 * it. */
#ifndef CLI_DEPTH_VIEW_H
#define CLI_DEPTH_VIEW_H
#include "exitlm.h"

typedef struct cli_depth_view {
    bool colours;  /* ANSI, 256 colours */
    bool lossless; /* colours then tell where a draft came from */
    uint32_t layers, n_heads;
    exitlm_head_info head[EXITLM_MAX_HEADS];
    int colour; /* the one that is set, or -1 */
} cli_depth_view;

/* Colours where standard output is a terminal that wants them (NO_COLOR, TERM=dumb;
 * CLICOLOR_FORCE=1 insists). */
bool cli_wants_colours(void);

/* heads NULL: the model's own head alone. */
void cli_depth_view_init(cli_depth_view *view, const exitlm_heads_info *heads, uint32_t layers,
                         exitlm_mode mode);
void cli_depth_view_legend(const cli_depth_view *view);
/* Sets the colour for a token; the text is for the caller to print. */
void cli_depth_view_colour(cli_depth_view *view, const exitlm_token *token);
void cli_depth_view_plain(cli_depth_view *view); /* back to the terminal's own colour */
void cli_depth_view_histogram(const cli_depth_view *view, const exitlm_stats *stats);

#endif
