#include "signals.h"

#if defined(__wasi__)

void cli_interrupt_catch(void) {}
bool cli_interrupted(void) { return false; }
void cli_interrupt_clear(void) {}

#else
#include <signal.h>
#include <stddef.h>
#include <string.h>

/* A signal handler can reach nothing but a static object: the one exception to "no global
 * state", and in the program only. */
static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number) {
    if (interrupted) {
        signal(signal_number, SIG_DFL);
        raise(signal_number);
    }
    interrupted = 1;
}

void cli_interrupt_catch(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    sigemptyset(&action.sa_mask);
    /* without SA_RESTART: a read that waits for the keyboard ends */
    sigaction(SIGINT, &action, NULL);
}

bool cli_interrupted(void) { return interrupted != 0; }

void cli_interrupt_clear(void) { interrupted = 0; }

#endif
