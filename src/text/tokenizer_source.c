/* What a GGUF header says about its tokenizer. */
#include "gguf/gguf.h"
#include "tokenizer.h"

void xl_tokenizer_source_init(xl_tokenizer_source *source) {
    *source = (xl_tokenizer_source){.bos = -1,
                                    .eos = -1,
                                    .unk = -1,
                                    .eot = -1,
                                    .eom = -1,
                                    .pad = -1,
                                    .add_bos = -1,
                                    .add_eos = -1,
                                    .add_space_prefix = -1,
                                    .fim = {-1, -1, -1, -1, -1, -1}};
}

static exitlm_status wrong_type(const char *key, const char *wanted, exitlm_error *error) {
    return xl_fail(error, EXITLM_BAD_MODEL, "%s is not %s", key, wanted);
}

static exitlm_status take_text(const xl_gguf *gguf, const char *key, xl_str *text,
                               exitlm_error *error) {
    if (!xl_gguf_find(gguf, key)) return EXITLM_OK;
    return xl_gguf_get_string(gguf, key, &text->data, &text->bytes)
               ? EXITLM_OK
               : wrong_type(key, "a string", error);
}

#define ARRAY_HEAD_BYTES 12u /* item type and count, before the items */

static exitlm_status take_strings(const xl_gguf *gguf, const char *key, xl_str_array *strings,
                                  exitlm_error *error) {
    const xl_gguf_key *found = xl_gguf_find(gguf, key);
    xl_gguf_array array;
    if (!found) return EXITLM_OK;
    if (!xl_gguf_get_array(gguf, key, &array) || array.item_type != XL_GGUF_STRING)
        return wrong_type(key, "an array of strings", error);
    *strings = (xl_str_array){array.items, found->n_bytes - ARRAY_HEAD_BYTES, array.n};
    return EXITLM_OK;
}

static exitlm_status take_numbers(const xl_gguf *gguf, const char *key, xl_gguf_type type,
                                  const void **numbers, size_t *n, exitlm_error *error) {
    xl_gguf_array array;
    if (!xl_gguf_find(gguf, key)) return EXITLM_OK;
    if (!xl_gguf_get_array(gguf, key, &array) || array.item_type != type)
        return wrong_type(key, type == XL_GGUF_F32 ? "an array of f32" : "an array of i32", error);
    *numbers = array.items;
    *n = array.n;
    return EXITLM_OK;
}

static exitlm_status take_id(const xl_gguf *gguf, const char *key, int64_t *id,
                             exitlm_error *error) {
    if (!xl_gguf_find(gguf, key)) return EXITLM_OK;
    if (!xl_gguf_get_i64(gguf, key, id)) return wrong_type(key, "an integer", error);
    if (*id == UINT32_MAX) *id = -1; /* how some converters write "none" */
    return EXITLM_OK;
}

static exitlm_status take_flag(const xl_gguf *gguf, const char *key, int *flag,
                               exitlm_error *error) {
    bool value;
    if (!xl_gguf_find(gguf, key)) return EXITLM_OK;
    if (!xl_gguf_get_bool(gguf, key, &value)) return wrong_type(key, "a bool", error);
    *flag = value;
    return EXITLM_OK;
}

/* Is "phi3" or "phi-3" part of it, in small letters or capitals? */
static bool names_phi3(const char *name, size_t n_bytes) {
    for (; n_bytes >= 4; name++, n_bytes--) {
        const bool dash = name[3] == '-' && n_bytes >= 5;
        if ((name[0] | 32) == 'p' && (name[1] | 32) == 'h' && (name[2] | 32) == 'i' &&
            name[3 + dash] == '3')
            return true;
    }
    return false;
}

exitlm_status xl_tokenizer_source_from_gguf(xl_tokenizer_source *source, const xl_gguf *gguf,
                                            exitlm_error *error) {
    xl_tokenizer_source_init(source);
    const struct {
        const char *key;
        int64_t *id;
    } ids[] = {{"tokenizer.ggml.bos_token_id", &source->bos},
               {"tokenizer.ggml.eos_token_id", &source->eos},
               {"tokenizer.ggml.unknown_token_id", &source->unk},
               {"tokenizer.ggml.eot_token_id", &source->eot},
               {"tokenizer.ggml.eom_token_id", &source->eom},
               {"tokenizer.ggml.padding_token_id", &source->pad},
               {"tokenizer.ggml.fim_pre_token_id", &source->fim[0]},
               {"tokenizer.ggml.fim_suf_token_id", &source->fim[1]},
               {"tokenizer.ggml.fim_mid_token_id", &source->fim[2]},
               {"tokenizer.ggml.fim_pad_token_id", &source->fim[3]},
               {"tokenizer.ggml.fim_rep_token_id", &source->fim[4]},
               {"tokenizer.ggml.fim_sep_token_id", &source->fim[5]},
               /* older names of the first three */
               {"tokenizer.ggml.prefix_token_id", &source->fim[0]},
               {"tokenizer.ggml.suffix_token_id", &source->fim[1]},
               {"tokenizer.ggml.middle_token_id", &source->fim[2]}};
    const struct {
        const char *key;
        int *flag;
    } flags[] = {{"tokenizer.ggml.add_bos_token", &source->add_bos},
                 {"tokenizer.ggml.add_eos_token", &source->add_eos},
                 {"tokenizer.ggml.add_space_prefix", &source->add_space_prefix}};
    exitlm_status status = take_text(gguf, "tokenizer.ggml.model", &source->model, error);
    if (status == EXITLM_OK) status = take_text(gguf, "tokenizer.ggml.pre", &source->pre, error);
    if (status == EXITLM_OK)
        status = take_strings(gguf, "tokenizer.ggml.tokens", &source->tokens, error);
    if (status == EXITLM_OK)
        status = take_strings(gguf, "tokenizer.ggml.merges", &source->merges, error);
    if (status == EXITLM_OK)
        status = take_numbers(gguf, "tokenizer.ggml.scores", XL_GGUF_F32, &source->scores,
                              &source->n_scores, error);
    if (status == EXITLM_OK)
        status = take_numbers(gguf, "tokenizer.ggml.token_type", XL_GGUF_I32, &source->types,
                              &source->n_types, error);
    for (size_t i = 0; i < sizeof ids / sizeof *ids && status == EXITLM_OK; i++)
        status = take_id(gguf, ids[i].key, ids[i].id, error);
    for (size_t i = 0; i < sizeof flags / sizeof *flags && status == EXITLM_OK; i++)
        status = take_flag(gguf, flags[i].key, flags[i].flag, error);
    const char *name;
    size_t n_bytes;
    source->strips =
        xl_gguf_get_string(gguf, "general.name", &name, &n_bytes) && names_phi3(name, n_bytes);
    return status;
}
