/* What training, calibrating and evaluating say while they run: a line of standard error that is
 * written over. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H
#include "train/observer.h"

typedef struct cli_progress {
    bool under_way;            /* a stage has begun */
    double start_ms, shown_ms; /* of the stage; of its last line */
    double before;             /* what an earlier run had done of it */
} cli_progress;

/* An observer that Ctrl-C stops and that, unless `quiet`, writes to `progress` (zero before its
 * first use). */
xl_observer cli_observer(cli_progress *progress, bool quiet);

#endif
