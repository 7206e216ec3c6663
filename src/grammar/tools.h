/* Calls of tools as an automaton: a reply of any text in which a call, once it is opened, is whole,
 * names a tool and has arguments of its schema. */
#ifndef XL_TOOLS_H
#define XL_TOOLS_H
#include "automaton.h"

enum {
    XL_TOOLS_LLAMA3 = 1, /* {"name": "…", "parameters": {…}} is the reply; else Hermes' form:
                          * <tool_call>, the call as {"name": "…", "arguments": {…}} and </tool_call>,
                          * a line each, as often as wanted */
    XL_TOOLS_ONE = 2     /* one call at most */
};

/* Lays rule 0. json: a list of {name, description, parameters}, also within {type: "function",
 * function: …}. choice: NULL or "auto": calls or none; "required": one at least, from the first
 * token on; else the tool that is called, once. USAGE, with tool and place, for what is wrong. */
exitlm_status xl_lay_tools(xl_automaton *automaton, const char *json, size_t n_bytes,
                           const char *choice, unsigned flags, exitlm_error *error);

#endif
