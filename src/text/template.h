/* template: a conversation as the prompt text that the model was trained on.
 *
 * A model carries a program (Jinja) for this. In C the common families are
 * recognised from its text and written out by hand, to exactly the same bytes;
 * JavaScript runs the program itself. An unknown one is an error.
 *
 * The text goes through the tokenizer as a whole, as with llama.cpp. What
 * messages say is marked in it, so that "<|im_end|>" in a message is text like
 * any other and does not end its turn. */
#ifndef XL_TEMPLATE_H
#define XL_TEMPLATE_H
#include "exitlm.h"
#include "tokenizer.h"

typedef enum xl_template_family {
    XL_TEMPLATE_UNKNOWN,
    XL_TEMPLATE_CHATML, /* SmolLM2, Qwen 2 to 3 and many others */
    XL_TEMPLATE_LLAMA3,
    XL_TEMPLATE_ZEPHYR, /* TinyLlama, too */
    XL_TEMPLATE_GEMMA   /* 1 to 3; a system message goes in front of the first user turn, also
                         * where the model's own template refuses one */
} xl_template_family;

/* What rendering needs. Plain data: points into the metadata, nothing to free. */
typedef struct xl_template {
    xl_template_family family;
    xl_str bos, eos; /* text of these tokens, as the template prints them */
    /* CHATML: system text where the conversation begins without one, as a Jinja literal (with its
     * escapes); {NULL, 0}: no such turn */
    xl_str default_system;
    /* LLAMA3: "Today Date" of the header, the template's own constant ("26 Jul 2024"); {NULL, 0}:
     * no header. May be set to today's, "%d %b %Y", which is what strftime_now in the template is
     * for. */
    xl_str date;
    bool print_bos; /* the template writes bos, and the tokenizer would not add it */
    /* the generation prompt comes whether asked for or not (first Llama 3) */
    bool always_prompt;
    bool tools;          /* it has a place for tools */
    bool trim;           /* contents are stripped of white space at both ends */
    bool think;          /* CHATML: Qwen 3's rules for <think> in earlier answers */
    bool end_newline;    /* ZEPHYR: a newline follows each message */
    bool prompt_newline; /* ZEPHYR: a newline follows the generation prompt */
} xl_template;

/* Recognises `source` (the model's Jinja text; may be {NULL, 0}: UNKNOWN). Never fails. */
void xl_template_init(xl_template *chat, xl_str source, const xl_tokenizer *tokenizer);

/* "chatml", "llama3", "zephyr", "gemma"; "" for UNKNOWN. Static. */
const char *xl_template_name(const xl_template *chat);

#define XL_CONTENT_SPANS 2 /* a message is at most so many pieces: thoughts and the answer */

/* The prompt text of `messages`, without a begin-of-text token that the tokenizer adds: it goes
 * through xl_tokenizer_encode with ADD_SPECIAL and PARSE_SPECIAL. *n_bytes is its length also where
 * `capacity` is smaller (then the first `capacity` bytes are written; `text` may be NULL for 0; no
 * NUL is added). UNSUPPORTED: unknown family (the message points to --raw). USAGE: no messages, a
 * role other than system, user and assistant, or an order of roles that the model's own template
 * refuses. Allocates nothing. contents (or NULL): room for XL_CONTENT_SPANS of each message;
 * what the messages say in the text. */
exitlm_status xl_template_render(const xl_template *chat, const exitlm_message *messages,
                                 size_t n_messages, bool add_generation_prompt, char *text,
                                 size_t capacity, size_t *n_bytes, xl_spans *contents,
                                 exitlm_error *error);

#endif
