/* Grammars as the public header has them. */
#include <string.h>

#include "grammar/grammar.h"
#include "session.h"

static exitlm_status create(exitlm_grammar **grammar, const exitlm_model *model,
                            const xl_grammar_source *source, const exitlm_allocator *allocator,
                            exitlm_error *error) {
    if (!grammar || !model || !source->text)
        return xl_fail(error, EXITLM_USAGE, "exitlm_grammar_from_%s: an argument is NULL",
                       xl_grammar_kind_name(source->kind));
    const xl_vocabulary *vocabulary = xl_model_vocabulary(model);
    *grammar = NULL;
    if (!vocabulary)
        return xl_fail(error, EXITLM_OUT_OF_MEMORY, "no memory for a tree of the vocabulary");
    return xl_grammar_create(grammar, vocabulary, source, allocator, error);
}

exitlm_status exitlm_grammar_from_schema(exitlm_grammar **grammar, const exitlm_model *model,
                                         const char *json, size_t n_bytes,
                                         const exitlm_allocator *allocator, exitlm_error *error) {
    const xl_grammar_source source = {.text = json, .n_bytes = n_bytes};
    return create(grammar, model, &source, allocator, error);
}

exitlm_status exitlm_grammar_from_pattern(exitlm_grammar **grammar, const exitlm_model *model,
                                          const char *pattern, size_t n_bytes, unsigned flags,
                                          const exitlm_allocator *allocator, exitlm_error *error) {
    const xl_grammar_source source = {
        .kind = XL_GRAMMAR_PATTERN, .flags = flags, .text = pattern, .n_bytes = n_bytes};
    return create(grammar, model, &source, allocator, error);
}

exitlm_status exitlm_grammar_from_tools(exitlm_grammar **grammar, const exitlm_model *model,
                                        const char *json, size_t n_bytes, const char *choice,
                                        unsigned flags, const exitlm_allocator *allocator,
                                        exitlm_error *error) {
    const xl_grammar_source source = {.kind = XL_GRAMMAR_TOOLS,
                                      .flags = flags,
                                      .text = json,
                                      .n_bytes = n_bytes,
                                      .choice = choice};
    return create(grammar, model, &source, allocator, error);
}

exitlm_status exitlm_grammar_create(exitlm_grammar **grammar, const exitlm_model *model,
                                    const exitlm_grammar_options *options,
                                    const exitlm_allocator *allocator, exitlm_error *error) {
    const exitlm_grammar_options *o = options;
    if (grammar) *grammar = NULL;
    if (!o || !!o->schema + !!o->pattern + !!o->tools != 1)
        return xl_fail(error, EXITLM_USAGE,
                       "exitlm_grammar_create: exactly one of schema, pattern and tools is needed");
    const char *text = o->schema ? o->schema : o->pattern ? o->pattern : o->tools;
    const size_t n = o->n_bytes ? o->n_bytes : strlen(text);
    if (o->pattern)
        return exitlm_grammar_from_pattern(grammar, model, text, n, o->flags, allocator, error);
    if (o->tools)
        return exitlm_grammar_from_tools(grammar, model, text, n, o->choice, o->flags, allocator,
                                         error);
    return exitlm_grammar_from_schema(grammar, model, text, n, allocator, error);
}

exitlm_status exitlm_grammar_begin(exitlm_grammar *grammar, const char *text, size_t n_bytes,
                                   exitlm_error *error) {
    if (!grammar || (!text && n_bytes))
        return xl_fail(error, EXITLM_USAGE, "exitlm_grammar_begin: an argument is NULL");
    return xl_grammar_begin(grammar, text, n_bytes, error);
}

void exitlm_grammar_free(exitlm_grammar *grammar) { xl_grammar_free(grammar); }
