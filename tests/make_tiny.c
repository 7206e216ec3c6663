/* Writes a model with random weights: tests/data/tiny.gguf, and relatives of it for single tests.
 *
 *   make_tiny OUT.gguf [--arch NAME] [--type mixed|TYPE] [--embedding TYPE] [--dim N]
 *   [--ffn N] [--layers N]
 *             [--heads N] [--kv-heads N] [--head-dim N] [--rope-dims N] [--window N] [--ctx N] [--merges N] [--alignment N]
 *             [--seed N] [--untied] [--rope-freqs] [--rope-linear F] [--shuffled] [--extra]
 *             [--split N]
 *
 * With --split N, OUT is the stem: OUT-00001-of-0000N.gguf, …. The committed file is made by
 * `make_tiny tests/data/tiny.gguf`. */
#include "random_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool save(const char *path, const xl_buffer *file) {
    FILE *f = fopen(path, "wb");
    bool good = f && fwrite(file->data, 1, file->n_bytes, f) == file->n_bytes;
    if (f && fclose(f) != 0) good = false;
    if (!good) fprintf(stderr, "make_tiny: cannot write %s\n", path);
    return good;
}

static bool save_split(const char *stem, const xl_buffer *file, uint32_t n) {
    xl_buffer parts[64];
    char path[1024];
    for (uint32_t i = 0; i < n; i++) xl_buffer_init(&parts[i], &xl_libc_allocator);
    bool good = random_model_split(file, n, parts);
    for (uint32_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s-%05u-of-%05u.gguf", stem, i + 1, n);
        good = good && save(path, &parts[i]);
        xl_buffer_free(&parts[i]);
    }
    return good;
}

int main(int argc, char **argv) {
    random_model m;
    uint32_t split = 0;
    random_model_defaults(&m);
    struct {
        const char *name;
        const char **text;
        uint32_t *number;
        bool *flag;
    } options[] = {{"--arch", &m.arch, 0, 0},
                   {"--type", &m.type, 0, 0},
                   {"--embedding", &m.embedding, 0, 0},
                   {"--dim", 0, &m.dim, 0},
                   {"--ffn", 0, &m.ffn_dim, 0},
                   {"--layers", 0, &m.layers, 0},
                   {"--heads", 0, &m.heads, 0},
                   {"--kv-heads", 0, &m.kv_heads, 0},
                   {"--head-dim", 0, &m.head_dim, 0},
                   {"--rope-dims", 0, &m.rope_dims, 0},
                   {"--window", 0, &m.window, 0},
                   {"--ctx", 0, &m.context_tokens, 0},
                   {"--merges", 0, &m.merges, 0},
                   {"--alignment", 0, &m.alignment, 0},
                   {"--split", 0, &split, 0},
                   {"--untied", 0, 0, &m.untied},
                   {"--rope-freqs", 0, 0, &m.rope_freqs},
                   {"--shuffled", 0, 0, &m.shuffled},
                   {"--extra", 0, 0, &m.extra}};
    if (argc < 2)
        return fprintf(stderr, "usage: make_tiny OUT.gguf [options]: see tests/make_tiny.c\n"), 2;
    for (int i = 2; i < argc; i++) {
        size_t o = 0;
        while (o < sizeof options / sizeof *options && strcmp(options[o].name, argv[i]) != 0) o++;
        bool known = o < sizeof options / sizeof *options;
        if (known && options[o].flag) *options[o].flag = true;
        else if (i + 1 == argc)
            return fprintf(stderr, "make_tiny: %s: unknown, or without its value\n", argv[i]), 2;
        else if (known && options[o].text) *options[o].text = argv[++i];
        else if (known) *options[o].number = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0) m.seed = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--rope-linear") == 0) m.rope_linear = strtof(argv[++i], NULL);
        else return fprintf(stderr, "make_tiny: unknown option %s\n", argv[i]), 2;
    }
    xl_buffer file;
    xl_buffer_init(&file, &xl_libc_allocator);
    if (split > 64 || !random_model_write(&m, &file))
        return fprintf(stderr, "make_tiny: these sizes and types do not fit together\n"), 1;
    bool good = split ? save_split(argv[1], &file, split) : save(argv[1], &file);
    xl_buffer_free(&file);
    return good ? 0 : 1;
}
