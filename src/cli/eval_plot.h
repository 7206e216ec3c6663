/* The picture of an evaluation. */
#ifndef CLI_EVAL_PLOT_H
#define CLI_EVAL_PLOT_H
#include "train/eval.h"

/* 0, or the exit status of a failure that has been reported. */
int cli_eval_plot(const xl_eval_run *run, const char *path);

#endif
