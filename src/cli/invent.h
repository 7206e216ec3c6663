/* Conversations for where no --data is given: the model writes user turns after its chat template's opening, with varied seeds. They
 * are no substitute for what people write. */
#ifndef CLI_INVENT_H
#define CLI_INVENT_H
#include "dataset.h"
#include "engine.h"

/* Adds n conversations of one turn. 0, or the status of a reported failure. */
int invent_conversations(const cli_engine *engine, const char *kernel, uint32_t n, uint64_t seed, bool quiet, dataset *set);

#endif
