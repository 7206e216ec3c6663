/* Errors inside the engine: one way to fill an exitlm_error. */
#ifndef XL_STATUS_H
#define XL_STATUS_H
#include "exitlm.h"

#if defined(__GNUC__) || defined(__clang__)
#define XL_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define XL_PRINTF(f, a)
#endif

/* Fills `error` (may be NULL) and returns `status`:
 *   return xl_fail(error, EXITLM_BAD_MODEL, "tensor %s: …", name);
 * Text from files goes through XL_TEXT(ptr, len) with "%.*s": it is cut to 64 bytes. */
exitlm_status xl_fail(exitlm_error *error, exitlm_status status, const char *format, ...)
    XL_PRINTF(3, 4);

#define XL_TEXT(ptr, len) (int)((len) < 64 ? (len) : 64), (ptr)

#endif
