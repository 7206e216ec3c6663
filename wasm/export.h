/* What the files of this folder share: how a function is exported, and the host's clock. */
#ifndef EXITLM_WASM_EXPORT_H
#define EXITLM_WASM_EXPORT_H

#define EXPORT(name) __attribute__((export_name(#name))) name

/* Milliseconds from any start. */
__attribute__((import_module("exitlm"), import_name("clock_ms"))) double exitlm_host_clock_ms(void);

#endif
