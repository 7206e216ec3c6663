/* Conversations for where no --data is given: the model writes user turns after its chat template's
 * opening, with varied seeds; one without a template writes openings of texts, which it will go on
 * with. They are no substitute for what people write. */
#ifndef XL_INVENT_H
#define XL_INVENT_H
#include "dataset.h"
#include "observer.h"

/* Fills the empty set with n conversations of one turn, or so many openings. */
exitlm_status xl_invent(const exitlm_model *model, const char *kernel, uint32_t n, uint64_t seed,
                        const xl_observer *observer, xl_dataset *set, exitlm_error *error);

#endif
