#include "tools.h"

#include <string.h>

#include "base/json.h"
#include "base/status.h"
#include "schema.h"

enum { MAX_TOOLS = 128, MAX_NAME = 64 };

typedef struct tools {
    xl_automaton *automaton;
    const xl_json *parameters[MAX_TOOLS]; /* NULL: none */
    const char *name[MAX_TOOLS];
    uint32_t rule[MAX_TOOLS];
    uint32_t n;
    bool llama3, one;
} tools;

/* ---- Reading ---- */

static bool is_name(const char *name) {
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.";
    const size_t n = name ? strlen(name) : 0;
    return n > 0 && n <= MAX_NAME && strspn(name, allowed) == n;
}

static exitlm_status read_tool(tools *t, const xl_json *tool, exitlm_error *error) {
    const xl_json *function = xl_json_get(tool, "function");
    if (function) tool = function;
    const char *name = xl_json_string(tool, "name");
    const xl_json *parameters = xl_json_get(tool, "parameters");
    if (!is_name(name))
        return xl_fail(error, EXITLM_USAGE,
                       "tools: number %u: its name is 1 to 64 letters, digits, _, - and .",
                       (unsigned)t->n + 1);
    for (uint32_t i = 0; i < t->n; i++)
        if (strcmp(t->name[i], name) == 0)
            return xl_fail(error, EXITLM_USAGE, "tools: %s is there twice", name);
    const char *type = xl_json_string(parameters, "type");
    if (parameters && (!type || strcmp(type, "object") != 0))
        return xl_fail(error, EXITLM_USAGE,
                       "tools: %s: #/type: parameters are a schema of type object", name);
    if (t->n == MAX_TOOLS)
        return xl_fail(error, EXITLM_USAGE, "tools: at most %d are possible", MAX_TOOLS);
    t->name[t->n] = name;
    t->parameters[t->n++] = parameters;
    return EXITLM_OK;
}

static exitlm_status read_tools(tools *t, const xl_json *list, const char *only,
                                exitlm_error *error) {
    exitlm_status status = EXITLM_OK;
    if (list->kind != XL_JSON_ARRAY || !list->first)
        return xl_fail(
            error, EXITLM_USAGE,
            "tools: a list with at least one {name, description, parameters} is expected");
    for (const xl_json *tool = list->first; tool && status == EXITLM_OK; tool = tool->next)
        status = read_tool(t, tool, error);
    if (status != EXITLM_OK || !only) return status;
    for (uint32_t i = 0; i < t->n; i++)
        if (strcmp(t->name[i], only) == 0) {
            t->name[0] = t->name[i];
            t->parameters[0] = t->parameters[i];
            t->n = 1;
            return EXITLM_OK;
        }
    return xl_fail(error, EXITLM_USAGE,
                   "toolChoice: \"%.64s\" is none of the tools, nor auto, none or required", only);
}

static exitlm_status lay_parameters(tools *t, exitlm_error *error) {
    for (uint32_t i = 0; i < t->n; i++) {
        if (!t->parameters[i]) continue;
        exitlm_error inner;
        t->rule[i] = xl_automaton_rule(t->automaton);
        exitlm_status status =
            xl_lay_schema_tree(t->automaton, t->parameters[i], t->rule[i], &inner);
        if (status != EXITLM_OK)
            return xl_fail(error, status, "tools: %s: %s", t->name[i], inner.message);
    }
    return EXITLM_OK;
}

/* ---- Laying ---- */

static uint32_t after_text(xl_automaton *a, uint32_t from, const char *text) {
    const uint32_t to = xl_automaton_state(a);
    xl_lay_text(a, from, text, to);
    return to;
}

static void lay_call(tools *t, uint32_t from, uint32_t to) {
    xl_automaton *a = t->automaton;
    const uint32_t named = after_text(a, from, "{\"name\": \""), close = xl_automaton_state(a);
    for (uint32_t i = 0; i < t->n; i++) {
        const uint32_t arguments =
            after_text(a, after_text(a, named, t->name[i]),
                       t->llama3 ? "\", \"parameters\": " : "\", \"arguments\": ");
        if (t->parameters[i]) xl_lay_call(a, arguments, t->rule[i], close);
        else xl_lay_text(a, arguments, "{}", close);
    }
    xl_lay_text(a, close, "}", to);
}

/* How much of the opening a text ends with, where it ended with `i` bytes of it before this one. */
static uint32_t matched(const char *opening, uint32_t i, unsigned byte) {
    for (uint32_t k = i + 1; k > 0; k--)
        if ((uint8_t)opening[k - 1] == byte && memcmp(opening, opening + i + 1 - k, k - 1) == 0)
            return k;
    return 0;
}

/* Any text from `from` on up to the first `opening`, which leads to `to`; the reply may end before
 * (Knuth, Morris and Pratt 1977). */
static void lay_free_text(xl_automaton *a, uint32_t from, const char *opening, uint32_t to,
                          uint32_t end) {
    const uint32_t n = (uint32_t)strlen(opening);
    uint32_t state[16] = {from}; /* by how much of the opening the text ends with */
    for (uint32_t i = 1; i < n; i++) state[i] = xl_automaton_state(a);
    state[n] = to;
    for (uint32_t i = 0; i < n; i++) {
        xl_lay_nothing(a, state[i], end);
        for (unsigned low = 0, high; low < 256; low = high) {
            const uint32_t k = matched(opening, i, low);
            for (high = low + 1; high < 256 && matched(opening, i, high) == k;) high++;
            xl_lay_bytes(a, state[i], (uint8_t)low, (uint8_t)(high - 1), state[k]);
        }
    }
}

static void lay_hermes(tools *t, uint32_t from, uint32_t end, bool required) {
    xl_automaton *a = t->automaton;
    static const char opening[] = "<tool_call>";
    const uint32_t opened = xl_automaton_state(a), before = after_text(a, opened, "\n"),
                   behind = xl_automaton_state(a);
    if (required) xl_lay_text(a, from, opening, opened);
    else lay_free_text(a, from, opening, opened, end);
    lay_call(t, before, behind);
    const uint32_t closed = after_text(a, behind, "\n</tool_call>");
    xl_lay_nothing(a, closed, end);
    if (!t->one) xl_lay_text(a, after_text(a, closed, "\n"), opening, opened);
}

static void lay_llama3(tools *t, uint32_t from, uint32_t end, bool required) {
    xl_automaton *a = t->automaton;
    lay_call(t, from, end);
    if (required) return;
    const uint32_t text = xl_automaton_state(a);
    xl_lay_nothing(a, from, end);
    xl_lay_bytes(a, from, 0, '{' - 1, text);
    xl_lay_bytes(a, from, '{' + 1, 0xff, text);
    xl_lay_bytes(a, text, 0, 0xff, text);
    xl_lay_nothing(a, text, end);
}

static exitlm_status lay_all(tools *t, const xl_json *list, const char *choice,
                             exitlm_error *error) {
    const bool free = !choice || strcmp(choice, "auto") == 0,
               named = !free && strcmp(choice, "required") != 0;
    exitlm_status status = read_tools(t, list, named ? choice : NULL, error);
    if (status == EXITLM_OK) status = lay_parameters(t, error);
    if (status != EXITLM_OK || t->automaton->no_memory) return status;
    t->one |= named;
    const xl_rule whole = t->automaton->rules[0];
    (t->llama3 ? lay_llama3 : lay_hermes)(t, whole.start, whole.end, !free);
    return EXITLM_OK;
}

exitlm_status xl_lay_tools(xl_automaton *automaton, const char *json, size_t n_bytes,
                           const char *choice, unsigned flags, exitlm_error *error) {
    exitlm_error why;
    xl_json *list = xl_json_parse(json, n_bytes, &automaton->allocator, &why);
    if (!list) return xl_fail(error, why.status, "tools: not JSON (%s)", why.message);
    tools t = {.automaton = automaton,
               .llama3 = (flags & XL_TOOLS_LLAMA3) != 0,
               .one = (flags & XL_TOOLS_ONE) != 0};
    const exitlm_status status = lay_all(&t, list, choice, error);
    xl_json_free(list);
    return status;
}
