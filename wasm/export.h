/* What the files of this folder share: how a function is exported, and the host's clock. */
#ifndef EXITLM_WASM_EXPORT_H
#define EXITLM_WASM_EXPORT_H

#include <stdbool.h>
#include <stddef.h>

#define EXPORT(name) __attribute__((export_name(#name))) name

/* Takes the bytes, or gives them, as the call under way wants; false: it cannot. */
__attribute__((import_module("exitlm"), import_name("pass"))) bool exitlm_host_pass(void *bytes,
                                                                                    size_t n_bytes);
/* Milliseconds from any start. */
__attribute__((import_module("exitlm"), import_name("clock_ms"))) double exitlm_host_clock_ms(void);
static inline double host_clock_ms(void *user) {
    (void)user;
    return exitlm_host_clock_ms();
}

#endif
