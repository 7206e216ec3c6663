/* The program under failing memory and failing files, as curl's torture tests do it: each command runs
 * once and is watched; then, for each place in the program that asks for memory, opens, reads, writes,
 * moves or closes a file, and that no earlier command has come to, it runs again, and that one call
 * fails.
 *
 * What must hold: the command says in a sentence what failed, or it has done all that it does otherwise;
 * the file that it makes is the old one, none or the whole new one; where a file failed, the same command
 * then does what it would have done; nothing leaks (LeakSanitizer).
 *
 * The linker puts the functions here between the program's objects and the C library (--wrap). Files
 * are streams of fopencookie, so that a full disk looks to the program as it does in life. */
#define _GNU_SOURCE
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/sha256.h"
#include "counting.h"

/* ---- The calls that may fail ---------------------------------------------------------------- */
enum { MEMORY = 1, FILES = 2, MOST_CALLS = 1 << 17, FRAMES = 32, MOST_STREAMS = 64 };

/* A place is told from others by its caller, and by so many of the callers of that; between a stream and
 * the program there is the C library. */
enum { MEMORY_CALLERS = 4, FILES_CALLERS = 6 };

static int watched; /* of these two; 0: nothing */
static size_t n_calls, fails_at;
static uint64_t *sites; /* [MOST_CALLS], shared with the parent; NULL: not recorded */

static uint64_t site_of(int kind, const void *caller) {
    void *frames[FRAMES];
    const int kinds = watched, most = kind == MEMORY ? MEMORY_CALLERS : FILES_CALLERS;
    watched = 0;
    const int n = backtrace(frames, FRAMES);
    watched = kinds;
    int first = 0;
    while (first < n && frames[first] != caller) first++;
    return xl_checksum(frames + first,
                       (size_t)(n - first < most ? n - first : most) * sizeof *frames) ^
           (uint64_t)kind;
}

/* The next call; true: it is the one that fails. */
static bool fails(int kind, const void *caller) {
    if (!(watched & kind)) return false;
    if (sites && n_calls < MOST_CALLS) sites[n_calls] = site_of(kind, caller);
    return ++n_calls == fails_at;
}

static bool out_of_memory(const void *caller) {
    if (!fails(MEMORY, caller)) return false;
    errno = ENOMEM;
    return true;
}

static bool broken(int reason, const void *caller) {
    if (!fails(FILES, caller)) return false;
    errno = reason;
    return true;
}
#define CALLER __builtin_return_address(0)

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *memory, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *memory, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
void *__wrap_malloc(size_t n) { return out_of_memory(CALLER) ? NULL : __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) {
    return out_of_memory(CALLER) ? NULL : __real_calloc(n, size);
}
void *__wrap_realloc(void *memory, size_t n) {
    return out_of_memory(CALLER) ? NULL : __real_realloc(memory, n);
}
void *__wrap_aligned_alloc(size_t align, size_t n) {
    return out_of_memory(CALLER) ? NULL : __real_aligned_alloc(align, n);
}

/* ---- Streams ---- */
static struct {
    FILE *stream;
    int fd;
} streams[MOST_STREAMS];

static int *fd_of(const FILE *stream) {
    for (size_t i = 0; i < MOST_STREAMS; i++)
        if (streams[i].stream == stream) return &streams[i].fd;
    return NULL;
}

static ssize_t stream_read(void *cookie, char *bytes, size_t n) {
    return broken(EIO, CALLER) ? -1 : read(*(int *)cookie, bytes, n);
}

/* A disk that is full takes the first half. */
static ssize_t stream_write(void *cookie, const char *bytes, size_t n) {
    size_t done = 0;
    const bool full = broken(ENOSPC, CALLER);
    const size_t most = full ? n / 2 : n;
    while (done < most) {
        const ssize_t some = write(*(int *)cookie, bytes + done, most - done);
        if (some <= 0) return (ssize_t)done;
        done += (size_t)some;
    }
    if (full) errno = ENOSPC;
    return (ssize_t)done;
}

static int stream_seek(void *cookie, off64_t *offset, int whence) {
    if (broken(EIO, CALLER)) return -1;
    *offset = lseek(*(int *)cookie, *offset, whence);
    return *offset < 0 ? -1 : 0;
}

static int stream_close(void *cookie) {
    const int fd = *(int *)cookie;
    *(int *)cookie = -1;
    close(fd);
    return broken(EIO, CALLER) ? -1 : 0;
}

static FILE *stream_of(int fd, const char *mode) {
    const cookie_io_functions_t functions = {stream_read, stream_write, stream_seek, stream_close};
    for (size_t i = 0; i < MOST_STREAMS; i++) {
        if (streams[i].stream) continue;
        streams[i].fd = fd;
        return streams[i].stream = fopencookie(&streams[i].fd, mode, functions);
    }
    return NULL;
}

FILE *__wrap_fopen(const char *path, const char *mode);
int __real_fclose(FILE *stream);
int __wrap_fclose(FILE *stream);
int __real_fileno(FILE *stream);
int __wrap_fileno(FILE *stream);
int __wrap_setvbuf(FILE *stream, char *buffer, int mode, size_t n);
FILE *__wrap_fopen(const char *path, const char *mode) {
    const bool plus = strchr(mode, '+') != NULL;
    const int access = plus           ? O_RDWR
                       : *mode == 'r' ? O_RDONLY
                                      : O_WRONLY,
              create = *mode == 'w' ? O_CREAT | O_TRUNC : 0;
    if (broken(EMFILE, CALLER)) return NULL;
    const int fd = open(path, access | create, 0666);
    return fd < 0 ? NULL : stream_of(fd, mode);
}
int __wrap_fclose(FILE *stream) {
    const int closed = __real_fclose(stream);
    for (size_t i = 0; i < MOST_STREAMS; i++)
        if (streams[i].stream == stream) streams[i].stream = NULL;
    return closed;
}
/* One without a buffer is asked for each byte alone. */
int __wrap_setvbuf(FILE *stream, char *buffer, int mode, size_t n) {
    (void)stream, (void)buffer, (void)mode, (void)n;
    return 0;
}
int __wrap_fileno(FILE *stream) {
    const int *fd = fd_of(stream);
    return fd ? *fd : __real_fileno(stream);
}

/* ---- The rest ---- */
#define WRAP(type, name, parameters, arguments, failure, reason)           \
    type __real_##name parameters;                                         \
    type __wrap_##name parameters;                                         \
    type __wrap_##name parameters {                                        \
        return broken(reason, CALLER) ? failure : __real_##name arguments; \
    }
WRAP(int, rename, (const char *from, const char *to), (from, to), -1, ENOSPC)
WRAP(int, remove, (const char *path), (path), -1, EIO)
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), -1, ENOSPC)
WRAP(int, fsync, (int fd), (fd), -1, EIO)
WRAP(int, ftruncate, (int fd, off_t n), (fd, n), -1, EIO)
WRAP(DIR *, opendir, (const char *path), (path), NULL, EMFILE)

/* ---- Commands ------------------------------------------------------------------------------- */
typedef struct command {
    const char *line, *makes; /* words; the file that it makes, or NULL */
    bool less;                /* without memory it may leave out a part of what it says */
} command;

/* Each finds what those before it have made. MODEL: the tiny model. */
static const command commands[] = {
    {"chat MODEL -p the --max-tokens 3 --ctx 64 --save talk", "talk", false},
    {"chat MODEL -p river --max-tokens 3 --ctx 64 --load talk --pattern [ab]+ --json", NULL, false},
    {"tokenize MODEL -p river", NULL, false},
    {"score MODEL -f said.txt --ctx 64", NULL, false},
    {"inspect MODEL", NULL, true},
    {"pack MODEL -o packed --shard-size 256K", "packed/manifest.json", false},
    {"pack MODEL -o less --quant q8_0 --gguf less.gguf", "less.gguf", false},
    {"gather MODEL -q --data said.jsonl --self-chat 0 --answers 1 --reply-tokens 8 --ctx 64 -o "
     "part",
     "part", false},
    {"train MODEL -q --gathered part --out-data kept -o h.exits.gguf --layers 4,6 --rows 16 "
     "--vocabulary-rows 16 --map-tokens 1000 --batch 16 --epochs 1",
     "h.exits.gguf", false},
    {"calibrate MODEL h.exits.gguf -q --data said.jsonl --ctx 192 --batch 2 --shard 1/1 -o "
     "measured",
     "measured", false},
    {"calibrate MODEL h.exits.gguf -q --merge measured", "h.exits.gguf", false},
    {"calibrate MODEL h.exits.gguf -q --data said.jsonl --reply-tokens 8 --ctx 64 --batch 2 "
     "--accuracy 0.9",
     "h.exits.gguf", false},
    {"eval MODEL h.exits.gguf -q --data said.jsonl --speed 0 --ctx 192 --batch 2 --strategy platt "
     "--accuracy 0.9 "
     "--plot plot.svg",
     "plot.svg", false},
    {"pull tiny -o pulled", "pulled/tiny.gguf", false},
};

static const char said[] = "{\"turns\":[\"the river\",\"why?\"]}\n{\"turns\":[\"a house\"]}\n"
                           "{\"turns\":[\"who is it?\"]}\n{\"text\":\"on the road again\"}\n";
static char model[4096];

/* What `pull` finds: a catalogue, and in the PATH a curl that has the bytes here. */
static const char catalogue[] =
    "{\"models\":[{\"name\":\"tiny\",\"file\":\"tiny.gguf\",\"sha256\":\"%s\",\"sources\":[{"
    "\"url\":"
    "\"http://localhost/tiny.gguf\"}],\"heads\":{\"file\":\"h.exits.gguf\"}}]}";
static const char curl[] = "#!/bin/sh\nwhile [ $# -gt 2 ]; do shift; done\ncp \"$MODEL\" \"$1\"\n";

int __real_main(int argc, char **argv);
int __wrap_main(void);

/* In the folder `work`; what it says goes to the files `out` and `err`. */
static int run(const char *line, int kinds, size_t fault, uint64_t *record, size_t *n) {
    static size_t *counted;
    if (!counted)
        counted =
            mmap(NULL, sizeof *counted, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fflush(stdout);
    const pid_t child = fork();
    CHECK(child >= 0 && counted != MAP_FAILED);
    if (child == 0) {
        char words[512], *argv[48] = {(char *)"exitlm"};
        int argc = 1;
        snprintf(words, sizeof words, "%s", line);
        for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
            argv[argc++] = strcmp(word, "MODEL") == 0 ? model : word;
        const int null = open("/dev/null", O_RDONLY),
                  out = open("out", O_CREAT | O_TRUNC | O_WRONLY, 0666),
                  err = open("err", O_CREAT | O_TRUNC | O_WRONLY, 0666);
        if (dup2(null, 0) < 0 || dup2(err, 2) < 0 || chdir("work") != 0) _exit(98);
        alarm(120);
        void *frame[1];
        backtrace(frame, 1); /* the first call loads a library */
        stdout = stream_of(out, "w");
        sites = record;
        fails_at = fault;
        watched = kinds;
        const int status = __real_main(argc, argv);
        watched = 0;
        *counted = n_calls;
        if (!kinds) _exit(status); /* nothing failed: leaks are looked for elsewhere */
        exit(status);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    if (n) *n = *counted;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- What is there -------------------------------------------------------------------------- */
static uint64_t content(const char *path) { /* 0: no such file */
    const int fd = open(path, O_RDONLY);
    struct stat s;
    if (fd < 0) return 0;
    CHECK(fstat(fd, &s) == 0);
    uint8_t *bytes = malloc((size_t)s.st_size + 1);
    CHECK(bytes && read(fd, bytes, (size_t)s.st_size) == s.st_size);
    const uint64_t sum = xl_checksum(bytes, (size_t)s.st_size) | 1;
    free(bytes);
    close(fd);
    return sum;
}

static uint64_t all_sum, lasting_sum; /* lasting: without caches */

static int add_file(const char *path, const struct stat *s, int type, struct FTW *at) {
    (void)s, (void)at;
    const uint64_t name = xl_checksum(path, strlen(path)),
                   sum = xl_mix64(name ^ (type == FTW_F ? content(path) : 2));
    all_sum += sum;
    if (!strstr(path, ".cache")) lasting_sum += sum;
    return 0;
}

static uint64_t look(void) {
    all_sum = lasting_sum = 0;
    CHECK(nftw("work", add_file, 8, FTW_PHYS) == 0);
    return lasting_sum;
}

static void shell(const char *line) { CHECK(system(line) == 0); }

static void fresh(void) { shell("rm -rf work && cp -r base work"); }

/* ---- One command ---------------------------------------------------------------------------- */
typedef struct outcome {
    uint64_t all, lasting, out, made;
} outcome;

static outcome look_at(const command *c) {
    char path[256];
    outcome o = {0};
    if (c->makes) {
        snprintf(path, sizeof path, "work/%s", c->makes);
        o.made = content(path);
    }
    o.lasting = look();
    o.all = all_sum;
    o.out = content("out");
    return o;
}

static void fail(const command *c, int kinds, size_t fault, int status, const char *what) {
    char text[600] = "";
    FILE *err = __wrap_fopen("err", "r");
    if (err) text[fread(text, 1, sizeof text - 1, err)] = 0;
    fprintf(stderr, "%s\nwith call %zu of the %s failing: status %d, %s; it said: %s\n", c->line,
            fault, kinds == FILES ? "files" : "memory", status, what, text);
    exit(1);
}

/* Is there a line that is an error, no warning? */
static bool says_why(void) {
    char text[1000] = "";
    FILE *err = __wrap_fopen("err", "r");
    if (err) text[fread(text, 1, sizeof text - 1, err)] = 0;
    if (err) __wrap_fclose(err);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (strncmp(line, "exitlm: ", 8) == 0 && strncmp(line + 8, "warning: ", 9) != 0)
            return true;
    return false;
}

/* Whether the same run says the same twice: then a run that succeeds has to, too. */
static bool same_out;

static void one_fault(const command *c, int kinds, size_t fault, const outcome *before,
                      const outcome *good) {
    const int status = run(c->line, kinds, fault, NULL, NULL);
    const outcome now = look_at(c);
    /* without memory for its values an option is wrong usage */
    if (status > (kinds == MEMORY ? 2 : 1)) fail(c, kinds, fault, status, "it broke");
    if (status && !says_why()) fail(c, kinds, fault, status, "no sentence");
    const bool same = same_out && !(c->less && kinds == MEMORY);
    if (status == 0 && (now.lasting != good->lasting || (same && now.out != good->out)))
        fail(c, kinds, fault, status, "it did something else");
    if (now.made != before->made && now.made != good->made)
        fail(c, kinds, fault, status, "what it makes is neither the old nor the new");
    if (now.all == before->all) return;
    if (status != 0 && kinds == FILES) {
        const int again = run(c->line, 0, 0, NULL, NULL);
        const outcome then = look_at(c);
        if (again != 0 || then.made != good->made || (same_out && then.out != good->out))
            fail(c, kinds, fault, again, "the same command again did not do it");
    }
    fresh();
}

static uint64_t *record;

/* Has the place been met in an earlier command? */
static bool is_known(uint64_t site) {
    static uint64_t known[1 << 13];
    size_t at = (size_t)(site % (1 << 13));
    while (known[at] && known[at] != site) at = (at + 1) % (1 << 13);
    const bool was = known[at] == site;
    known[at] = site;
    return was;
}

/* Returns the number of faults. */
static size_t all_faults(const command *c, int kinds, const outcome *before, const outcome *good) {
    size_t n, n_faults = 0;
    fresh();
    CHECK(run(c->line, kinds, 0, record, &n) == 0 && n <= MOST_CALLS);
    fresh();
    for (size_t i = 0; i < n; i++) {
        if (is_known(record[i])) continue;
        one_fault(c, kinds, i + 1, before, good);
        n_faults++;
    }
    return n_faults;
}

static size_t all_memory, all_files;

static void torture(const command *c) {
    fresh();
    const outcome before = look_at(c);
    const int status = run(c->line, 0, 0, NULL, NULL);
    if (status) fail(c, 0, 0, status, "without a fault");
    const outcome good = look_at(c);
    CHECK(!c->makes || (good.made && good.made != before.made));
    fresh();
    CHECK(run(c->line, 0, 0, NULL, NULL) == 0);
    same_out = look_at(c).out == good.out;
    const size_t memory = all_faults(c, MEMORY, &before, &good),
                 files = all_faults(c, FILES, &before, &good);
    printf("%4zu places that ask for memory, %3zu that use files: %.40s\n", memory, files, c->line);
    all_memory += memory;
    all_files += files;
    fresh();
    CHECK(run(c->line, 0, 0, NULL, NULL) == 0);
    shell("rm -rf base work/*.cache && mv work base");
}

static void put_file(const char *path, const char *text) {
    const int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0666);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static void put_catalogue(void) {
    struct stat s;
    const int fd = open(model, O_RDONLY);
    CHECK(fd >= 0 && fstat(fd, &s) == 0);
    uint8_t *bytes = malloc((size_t)s.st_size), digest[32];
    CHECK(bytes && read(fd, bytes, (size_t)s.st_size) == s.st_size);
    close(fd);
    xl_sha256 sha;
    char hex[65], text[sizeof catalogue + sizeof hex], path[4096];
    xl_sha256_init(&sha);
    xl_sha256_update(&sha, bytes, (size_t)s.st_size);
    xl_sha256_final(&sha, digest);
    xl_sha256_hex(digest, hex);
    free(bytes);
    snprintf(text, sizeof text, catalogue, hex);
    put_file("base/catalog.json", text);
    CHECK(__real_mkdir("bin", 0777) == 0);
    put_file("bin/curl", curl);
    CHECK(chmod("bin/curl", 0777) == 0 && getcwd(path, sizeof path / 4) && getenv("PATH"));
    snprintf(path + strlen(path), sizeof path / 2, "/bin:%s", getenv("PATH"));
    CHECK(setenv("PATH", path, 1) == 0 && setenv("MODEL", model, 1) == 0 &&
          setenv("EXITLM_CATALOG", "catalog.json", 1) == 0);
}

int __wrap_main(void) {
    char folder[] = "/tmp/exitlm-faults-XXXXXX", line[64];
    CHECK(realpath("tests/data/tiny.gguf", model) && mkdtemp(folder) && chdir(folder) == 0);
    record = mmap(NULL, MOST_CALLS * sizeof *record, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(record != MAP_FAILED && __real_mkdir("base", 0777) == 0);
    put_file("base/said.jsonl", said);
    put_file("base/said.txt", "the river is on the road");
    put_catalogue();
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) torture(&commands[i]);
    printf("%zu places that ask for memory, %zu that use files\n", all_memory, all_files);
    CHECK(all_memory > 200 && all_files > 100);
    snprintf(line, sizeof line, "rm -rf %s", folder);
    shell(line);
    return 0;
}
