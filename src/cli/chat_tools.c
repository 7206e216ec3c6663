/* Tools: what the model is told of them, and the calls in what it says. The words are those of Qwen
 * 2.5's template, for every model: JavaScript runs the model's own. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "chat.h"
#include "files.h"
#include "model/model.h"

#define MAX_TOOLS_BYTES ((uint64_t)1 << 20)

static void write_tool(ndjson *j, const xl_json *tool) {
    const xl_json *function = xl_json_get(tool, "function");
    if (function) tool = function;
    const xl_json *parameters = xl_json_get(tool, "parameters");
    const char *description = xl_json_string(tool, "description");
    xl_nd_put(j, "{ type=function function={ name=%s description=%s", xl_json_string(tool, "name"),
              description ? description : "");
    if (parameters) xl_nd_json(j, "parameters", parameters);
    else xl_nd_put(j, "parameters={ type=object properties={ } }");
    xl_nd_put(j, "} }");
}

/* The system message, in fresh memory; NULL: no memory. */
static char *words_of(const xl_json *list, const char *system, size_t system_bytes) {
    char *words = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&words, &n);
    if (!out) return NULL;
    ndjson j = {.out = out, .spaced = true};
    if (system_bytes) fwrite(system, 1, system_bytes, out);
    fprintf(out,
            "%s# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
            "You are provided with function signatures within <tools></tools> XML tags:\n"
            "<tools>\n",
            system_bytes ? "\n\n" : "");
    for (const xl_json *tool = list->first; tool; tool = tool->next) write_tool(&j, tool);
    fprintf(out, "</tools>\n\nFor each function call, return a json object with function name and "
                 "arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
                 "{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>");
    const bool whole = fflush(out) == 0 && !ferror(out);
    if (fclose(out) == 0 && whole) return words;
    free(words);
    return NULL;
}

static int tell(chat *c, const char *json, size_t n_bytes) {
    const xl_str own = c->engine.model->chat.default_system;
    const char *given = c->options->system;
    xl_json *list = xl_json_parse(json, n_bytes, NULL, NULL);
    if (list && given) c->told = words_of(list, given, strlen(given));
    else if (list) c->told = words_of(list, own.data, c->engine.model->chat.tools ? own.bytes : 0);
    xl_json_free(list);
    c->system = c->told;
    return c->told ? CLI_OK : cli_no_memory("the tools");
}

int chat_tools_open(chat *c) {
    exitlm_error error;
    char *json = NULL;
    size_t n = 0;
    int status = cli_read_file(c->options->tools, MAX_TOOLS_BYTES, &json, &n);
    if (status != CLI_OK) return status;
    const exitlm_status made = exitlm_grammar_from_tools(
        &c->generate.grammar, c->engine.model, json, n, c->options->tool_choice, 0, NULL, &error);
    if (made == EXITLM_USAGE) status = cli_usage("chat: %s", error.message);
    else if (made != EXITLM_OK) status = cli_report(&error, NULL);
    else status = tell(c, json, n);
    free(json);
    return status;
}

/* The next whole call from *at on, which moves behind it; NULL: there is no other. */
static xl_json *next_call(const char **at) {
    static const char opening[] = "<tool_call>\n";
    const char *open = strstr(*at, opening), *close = open ? strstr(open, "\n</tool_call>") : NULL;
    if (!close) return NULL;
    open += strlen(opening);
    *at = close + 1;
    return xl_json_parse(open, (size_t)(close - open), NULL, NULL);
}

uint32_t chat_tool_calls(chat *c, const char *said, bool write) {
    uint32_t n = 0;
    if (write) xl_nd_put(&c->json, "tool_calls=[");
    for (xl_json *call; (call = next_call(&said)) != NULL; n++) {
        if (write) {
            char id[16];
            snprintf(id, sizeof id, "call_%u", n);
            xl_nd_put(&c->json, "{ id=%s name=%s", id, xl_json_string(call, "name"));
            xl_nd_json(&c->json, "arguments", xl_json_get(call, "arguments"));
            xl_nd_put(&c->json, "}");
        }
        xl_json_free(call);
    }
    if (write) xl_nd_put(&c->json, "]");
    return n;
}
