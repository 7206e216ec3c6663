#include "platform.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if !defined(__wasm__)
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>
#endif

double cli_clock_ms(void *user) {
    (void)user;
    struct timespec t;
    if (clock_gettime(CLOCK_MONOTONIC, &t) != 0) return 0;
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

bool cli_is_terminal(FILE *stream) { return isatty(fileno(stream)) == 1; }

#if defined(__wasm__)

uint32_t cli_processors(void) { return 1; }

/* linear memory never shrinks */
uint64_t cli_peak_bytes(void) { return (uint64_t)__builtin_wasm_memory_size(0) * 65536; }

bool cli_program_folder(char *out, size_t out_bytes) {
    (void)out;
    (void)out_bytes;
    return false;
}

int cli_run_program(const char *const *arguments) {
    (void)arguments;
    return -1;
}

#else

uint32_t cli_processors(void) {
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : (uint32_t)n;
}

uint64_t cli_peak_bytes(void) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
#if defined(__APPLE__)
    return (uint64_t)usage.ru_maxrss;
#else
    return (uint64_t)usage.ru_maxrss * 1024;
#endif
}

bool cli_program_folder(char *out, size_t out_bytes) {
    ssize_t n = readlink("/proc/self/exe", out, out_bytes);
    if (n <= 0 || (size_t)n >= out_bytes) return false;
    out[n] = 0;
    char *slash = strrchr(out, '/');
    if (!slash) return false;
    slash[1] = 0;
    return true;
}

int cli_run_program(const char *const *arguments) {
    fflush(stdout);
    fflush(stderr);
    pid_t child = fork();
    if (child < 0) return -1;
    if (child == 0) {
        dup2(STDERR_FILENO, STDOUT_FILENO);
        execvp(arguments[0], (char *const *)arguments);
        _exit(127);
    }
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return -1;
    if (!WIFEXITED(status)) return 1;
    return WEXITSTATUS(status) == 127 ? -1 : WEXITSTATUS(status);
}

#endif
