/* template: a conversation as the prompt text that the model was trained on.
 *
 * A model carries a program (Jinja) for this. In C the common families are
 * recognised from its text and written out by hand, to exactly the same bytes;
 * JavaScript runs the program itself. An unknown one is an error.
 *
 * The text goes through the tokenizer as a whole with EXITLM_PARSE_SPECIAL, as
 * llama.cpp and the JavaScript side do. So a message that contains "<|im_end|>" ends
 * its turn: who puts strangers' text into a conversation passes it
 * through xl_template_escape first. */
#ifndef XL_TEMPLATE_H
#define XL_TEMPLATE_H
#include "exitlm.h"
#include "tokenizer.h"

typedef enum xl_template_family {
    XL_TEMPLATE_UNKNOWN,
    XL_TEMPLATE_CHATML,
    XL_TEMPLATE_LLAMA3,
    XL_TEMPLATE_ZEPHYR,
    XL_TEMPLATE_GEMMA
} xl_template_family;

/* What rendering needs. Plain data: points into the metadata, nothing to free. */
typedef struct xl_template {
    xl_template_family family;
    xl_str default_system; /* CHATML: system text where the conversation has none; {NULL, 0}: no such turn */
    xl_str bos, eos;       /* text of these tokens, as the template prints them */
    bool print_bos;        /* the template writes bos itself: then the tokenizer must not add it */
    bool trim;             /* contents are stripped of white space at both ends */
    bool end_newline;      /* a newline follows a turn's end */
} xl_template;

/* Recognises `source` (the model's Jinja text; may be {NULL, 0}: UNKNOWN). Never fails. */
void xl_template_init(xl_template *chat, xl_str source, const xl_tokenizer *tokenizer);

/* "chatml", "llama3", "zephyr", "gemma"; "" for UNKNOWN. Static. */
const char *xl_template_name(const xl_template *chat);

/* The prompt text of `messages`. *n_bytes is its length also where `capacity` is
 * smaller (then the first `capacity` bytes are written; `text` may be NULL for 0; no NUL is added).
 * UNSUPPORTED: unknown family (the message points to --raw), or a conversation that the
 * model's own template refuses (a role it does not know, roles out of turn). Allocates nothing. */
exitlm_status xl_template_render(const xl_template *chat, const exitlm_message *messages, size_t n_messages,
                                 bool add_generation_prompt, char *text, size_t capacity, size_t *n_bytes,
                                 exitlm_error *error);

/* Flags for xl_tokenizer_encode of a rendered prompt: PARSE_SPECIAL, and ADD_SPECIAL unless the
 * text already begins with bos. */
unsigned xl_template_encode_flags(const xl_template *chat);

/* Makes text of a stranger harmless: writes it to `out` with U+200B (zero-width space) after the first
 * byte of whatever the tokenizer would take for a control token. *n_bytes as above. */
void xl_template_escape(const xl_tokenizer *tokenizer, const char *text, size_t n_text_bytes, char *out,
                        size_t capacity, size_t *n_bytes);

#endif
