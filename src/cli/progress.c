#include "progress.h"

#include <stdio.h>

#include "platform.h"
#include "signals.h"
#include "train/training.h"

#define REFRESH_MS 1000

static void print_head(const xl_train_result *r, double seconds) {
    fprintf(stderr, "\rlayer %2u  agrees on held-out conversations:", r->layer);
    if (r->positions[XL_GATHER_ANSWER] > 0)
        fprintf(stderr, "  data %.3f", r->agreement[XL_GATHER_ANSWER]);
    if (r->positions[XL_GATHER_FORCED] > 0)
        fprintf(stderr, "  text %.3f", r->agreement[XL_GATHER_FORCED]);
    if (r->positions[XL_GATHER_INVENT] > 0)
        fprintf(stderr, "  self-chat %.3f", r->agreement[XL_GATHER_INVENT]);
    fprintf(stderr, "  (%.0f s)          ", seconds);
}

/* left: seconds until the stage ends, as far as it went. */
static void print_stage(const xl_progress *p, double seconds, double left) {
    const double share = 100 * p->done / (p->total > 0 ? p->total : 1),
                 speed = (double)p->tokens / (seconds > 0 ? seconds : 1);
    switch (p->stage) {
    case XL_STAGE_INVENT:
        fprintf(stderr, "\rinventing  %.0f of %.0f user turns ", p->done, p->total);
        break;
    case XL_STAGE_GATHER:
        fprintf(
            stderr,
            "\rgathering  %5.1f %%  %.0f conversations, %zu tokens, %.0f tokens/s, %.0f s left   ",
            share, p->done, p->tokens, speed, left);
        break;
    case XL_STAGE_HEAD:
        if (p->result) print_head(p->result, seconds);
        else
            fprintf(stderr, "\rlayer %2u  %5.1f %%  loss %.4f  agreement %.3f  %.0f s left    ",
                    p->layer, share, p->loss, p->agreement, left);
        break;
    case XL_STAGE_MAPS: fprintf(stderr, "\rK/V maps   %5.1f %%     ", share); break;
    case XL_STAGE_MEASURE:
        if (p->ended)
            fprintf(stderr, "\r%s  %zu conversations, %zu tokens in %.0f s                      ",
                    p->label, p->conversations, p->tokens, seconds);
        else
            fprintf(stderr, "\r%s  %5.1f %%  %zu tokens, %.0f tokens/s, %.0f s left    ", p->label,
                    share, p->tokens, speed, left);
        break;
    case XL_STAGE_SPEED:
        fprintf(stderr, "\rspeed      %.0f of %.0f conversations ", p->done, p->total);
        break;
    case XL_STAGE_TASKS: fprintf(stderr, "\rtasks      %.0f of %.0f ", p->done, p->total); break;
    }
}

static void show(void *user, const xl_progress *p) {
    cli_progress *progress = user;
    const double now = cli_clock_ms(NULL);
    if (!progress->under_way) {
        *progress =
            (cli_progress){.under_way = true, .start_ms = now, .shown_ms = now, .before = p->done};
        if (!p->ended) return;
    }
    if (!p->ended && now - progress->shown_ms < REFRESH_MS) return;
    const double seconds = (now - progress->start_ms) / 1000, done = p->done - progress->before;
    print_stage(p, seconds, done > 0 ? seconds / done * (p->total - p->done) : 0);
    if (p->ended) fputc('\n', stderr);
    fflush(stderr);
    progress->shown_ms = now;
    progress->under_way = !p->ended;
}

static bool stopped(void *user) {
    (void)user;
    return cli_interrupted();
}

xl_observer cli_observer(cli_progress *progress, bool quiet) {
    return (xl_observer){.user = progress, .show = quiet ? NULL : show, .stopped = stopped};
}
