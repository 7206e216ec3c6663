/* How long work says how far it is, and how it is stopped. Nothing here prints, asks a clock or
 * knows of signals: the caller does. */
#ifndef XL_OBSERVER_H
#define XL_OBSERVER_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

typedef enum xl_stage {
    XL_STAGE_INVENT,  /* user turns */
    XL_STAGE_GATHER,  /* conversations */
    XL_STAGE_HEAD,    /* steps of a head's training */
    XL_STAGE_MAPS,    /* positions */
    XL_STAGE_MEASURE, /* conversations under a setting */
    XL_STAGE_SPEED,   /* conversations */
    XL_STAGE_TASKS    /* tasks */
} xl_stage;

typedef struct xl_progress {
    xl_stage stage;
    double done, total;                   /* in the stage's unit */
    size_t tokens;                        /* GATHER, MEASURE: of this run */
    const char *label;                    /* MEASURE: the plan's */
    size_t conversations;                 /* MEASURE: of the plan */
    uint32_t layer;                       /* HEAD */
    double loss, agreement;               /* HEAD */
    const struct xl_train_result *result; /* HEAD, at its end */
    bool ended;                           /* the stage's last word */
} xl_progress;

typedef struct xl_observer {
    void *user;
    /* by one thread at a time; NULL: nobody looks */
    void (*show)(void *user, const xl_progress *progress);
    bool (*stopped)(void *user); /* asked by any thread; NULL: never */
} xl_observer;

static inline void xl_show(const xl_observer *observer, const xl_progress *progress) {
    if (observer && observer->show) observer->show(observer->user, progress);
}

static inline bool xl_stopped(const xl_observer *observer) {
    return observer && observer->stopped && observer->stopped(observer->user);
}

/* The first failure of several threads; zero: none. To be read when they have ended. */
typedef struct xl_failure {
    atomic_bool taken;
    exitlm_error error;
} xl_failure;

static inline void xl_failure_take(xl_failure *failure, const exitlm_error *error) {
    if (!atomic_exchange(&failure->taken, true)) failure->error = *error;
}

static inline exitlm_status xl_failure_give(xl_failure *failure, exitlm_error *error) {
    if (!atomic_load(&failure->taken)) return EXITLM_OK;
    if (error) *error = failure->error;
    return failure->error.status;
}

static inline exitlm_status xl_no_memory(exitlm_error *error, const char *what) {
    return xl_fail(error, EXITLM_OUT_OF_MEMORY,
                   "no memory for %s; free some, or choose a smaller model", what);
}

#endif
