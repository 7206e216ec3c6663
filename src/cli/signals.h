/* Ctrl-C: a wish to stop what is being written, not the program. */
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H
#include <stdbool.h>

/* From now on Ctrl-C sets a flag, and a blocked read returns with EINTR. A second one while the
 * flag is set ends the program as usual. Nothing happens where there are no signals (WASI). */
void cli_interrupt_catch(void);
bool cli_interrupted(void);
void cli_interrupt_clear(void);

#endif
