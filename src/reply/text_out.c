#include "text_out.h"

#include <string.h>

void xl_text_out_take(xl_text_out *out, xl_arena *arena, const xl_tokenizer *tokenizer,
                      uint32_t ctx) {
    xl_tokenizer_info info;
    xl_tokenizer_describe(tokenizer, &info);
    /* + 1: an incomplete character, the NUL */
    out->text = xl_arena_take2(arena, (size_t)ctx + 1, info.max_text_bytes, 1);
    out->capacity = ((size_t)ctx + 1) * info.max_text_bytes;
}

void xl_text_out_begin(xl_text_out *out, const char *const *stop, size_t n_stop) {
    out->n_bytes = out->decided = 0;
    out->utf8 = (xl_utf8_stream){0};
    out->stopped = false;
    out->n_stop = (uint32_t)n_stop;
    for (size_t i = 0; i < n_stop; i++) {
        out->stop_bytes[i] = (uint32_t)strlen(stop[i]);
        memcpy(out->stop[i], stop[i], out->stop_bytes[i]);
    }
}

static bool begins_stop(const xl_text_out *out, uint32_t stop, size_t at) {
    size_t left = out->n_bytes - at;
    return left < out->stop_bytes[stop] && memcmp(out->text + at, out->stop[stop], left) == 0;
}

static bool is_stop(const xl_text_out *out, uint32_t stop, size_t at) {
    return out->n_bytes - at >= out->stop_bytes[stop] &&
           memcmp(out->text + at, out->stop[stop], out->stop_bytes[stop]) == 0;
}

/* The first place from `from` on that some stop string matches, or n_bytes. */
static size_t find(const xl_text_out *out, size_t from,
                   bool (*matches)(const xl_text_out *, uint32_t, size_t)) {
    for (size_t at = from; at < out->n_bytes; at++)
        for (uint32_t i = 0; i < out->n_stop; i++)
            if (matches(out, i, at)) return at;
    return out->n_bytes;
}

size_t xl_text_out_push(xl_text_out *out, const xl_tokenizer *tokenizer, int32_t id) {
    char bytes[XL_MAX_SPOKEN_BYTES], decoded[XL_UTF8_ROOM(XL_MAX_SPOKEN_BYTES)];
    size_t n = 0;
    if (!(xl_token_attributes(tokenizer, id) & XL_TOKEN_CONTROL))
        n = xl_token_bytes(tokenizer, id, bytes, sizeof bytes);
    n = xl_utf8_push(&out->utf8, bytes, n, decoded);
    memcpy(out->text + out->n_bytes, decoded, n); /* fits: xl_tokenizer_info.max_text_bytes */
    out->n_bytes += n;
    const size_t end = out->n_bytes, stop = find(out, out->decided, is_stop);
    if (stop < end) {
        out->n_bytes = out->decided = stop;
        out->stopped = true;
        out->utf8 = (xl_utf8_stream){0};
    } else {
        out->decided = find(out, out->decided, begins_stop);
    }
    return end;
}

void xl_text_out_end(xl_text_out *out) {
    if (!out->stopped) out->n_bytes += xl_utf8_flush(&out->utf8, out->text + out->n_bytes);
    out->decided = out->n_bytes;
    out->text[out->n_bytes] = 0;
}
