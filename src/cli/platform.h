/* What differs between a POSIX system and WASI, in one place. */
#ifndef CLI_PLATFORM_H
#define CLI_PLATFORM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Milliseconds of a clock that only goes forward. `user` is ignored: fits
 * exitlm_session_options. */
double cli_clock_ms(void *user);

/* Processors of this machine, at least 1. */
uint32_t cli_processors(void);

/* What this platform can do. */
#if defined(__wasm__)
#define CLI_HAS_THREADS 0
#define CLI_HAS_PROGRAMS 0
#define CLI_KV_TYPE EXITLM_KV_F32 /* WebAssembly has no conversion of 16-bit floats */
#else
#define CLI_HAS_THREADS 1
#define CLI_HAS_PROGRAMS 1
#define CLI_KV_TYPE EXITLM_KV_F16 /* half the bytes, as right: docs/accuracy.md */
#endif

/* Most memory that this process has had so far, in bytes; 0: unknown. */
uint64_t cli_peak_bytes(void);

bool cli_is_terminal(FILE *stream);

/* The folder of this program with a slash at its end; false where it is unknown. */
bool cli_program_folder(char *out, size_t out_bytes);

/* Runs a program found on the PATH with these arguments (NULL-terminated, the name first), no
 * shell; its standard output goes to standard error. Its exit status; -1: it could not be
 * started, or this platform cannot start programs. */
int cli_run_program(const char *const *arguments);

#endif
