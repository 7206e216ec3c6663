/* A reply as text: whole characters, and nothing that may still become a stop string. */
#ifndef XL_TEXT_OUT_H
#define XL_TEXT_OUT_H
#include "base/alloc.h"
#include "text/tokenizer.h"

enum { XL_MAX_STOPS = 16, XL_MAX_STOP_BYTES = 256 };

typedef struct xl_text_out {
    char *text; /* [capacity] room for whatever the context's tokens spell */
    size_t capacity;
    size_t n_bytes;
    size_t decided; /* text up to here can no longer be part of a stop string */
    xl_utf8_stream utf8;
    bool stopped; /* a stop string was found; the text ends before it */
    char stop[XL_MAX_STOPS][XL_MAX_STOP_BYTES];
    uint32_t stop_bytes[XL_MAX_STOPS], n_stop;
} xl_text_out;

void xl_text_out_take(xl_text_out *out, xl_arena *arena, const xl_tokenizer *tokenizer,
                      uint32_t ctx);
/* A new reply with these stop strings; each has 1 … XL_MAX_STOP_BYTES bytes. */
void xl_text_out_begin(xl_text_out *out, const char *const *stop, size_t n_stop);
/* The bytes of a token join the text, control tokens as none. Returns how long the text was with
 * it, before a stop string was cut off. */
size_t xl_text_out_push(xl_text_out *out, const xl_tokenizer *tokenizer, int32_t id);
/* No more tokens: an incomplete character becomes U+FFFD, and all text is decided. */
void xl_text_out_end(xl_text_out *out);

#endif
