/**
 * Tools: what the model is told of them, and the calls in what it writes.
 *
 * A model whose template has tools is told by that, in its own form: Hermes' (Qwen's too) or Llama
 * 3's. Any other is told by a system message, in Hermes' form.
 *
 * @typedef {import('../link/types.js').ChatMessage} ChatMessage
 * @typedef {import('../link/types.js').GenerateOptions} GenerateOptions
 * @typedef {import('../link/types.js').Token} Token
 * @typedef {import('../link/types.js').Tool} Tool
 * @typedef {import('../link/types.js').ToolCall} ToolCall
 *
 * @typedef {'hermes' | 'llama3'} Form of a call
 */
import { ExitLMError } from '../link/errors.js';
import { usage } from '../link/options.js';
import { newId } from '../link/platform.js';

/** As C's grammar has it (src/grammar/tools.c). */
const OPENING = '<tool_call>';
const CALL = /<tool_call>\n(.*)\n<\/tool_call>/g;

/** How a template tells of tools; null: it does not, or in a form that is not known here. @param {string} source @returns {Form | null} */
export function formOf(source) {
  if (!/\btools\b/.test(source)) return null;
  if (source.includes(OPENING) && source.includes('"arguments"') && !source.includes('<function='))
    return 'hermes';
  return source.includes('<|start_header_id|>') && source.includes('"parameters"')
    ? 'llama3'
    : null;
}

/**
 * The tools that a reply may call, in the form of OpenAI, which templates expect; null: none.
 * @param {GenerateOptions} options
 * @returns {object[] | null}
 */
export function toolsIn({ tools, toolChoice, parallelToolCalls }) {
  if (tools === undefined) {
    if (toolChoice !== undefined && toolChoice !== 'none' && toolChoice !== 'auto')
      throw new ExitLMError('USAGE', 'option toolChoice: there are no tools to choose from');
    return null;
  }
  if (!Array.isArray(tools) || tools.length === 0)
    usage('tools', 'a list with at least one { name, description, parameters }', tools);
  if (toolChoice !== undefined && typeof toolChoice !== 'string')
    usage('toolChoice', "'auto', 'none', 'required' or the name of a tool", toolChoice);
  if (parallelToolCalls !== undefined && typeof parallelToolCalls !== 'boolean')
    usage('parallelToolCalls', 'true or false', parallelToolCalls);
  if (toolChoice === 'none') return null;
  return tools.map((/** @type {any} */ tool) => {
    const { name, description, parameters } = tool?.function ?? tool ?? {};
    if (typeof name !== 'string') usage('tools', 'tools with a name each', tool);
    return {
      type: 'function',
      function: {
        name,
        description: description ?? '',
        parameters: parameters ?? { type: 'object', properties: {} },
      },
    };
  });
}

/** JSON as Python writes it, and as the grammar does. @param {unknown} value */
const spaced = (value) =>
  JSON.stringify(value, null, 1)
    .replace(/,\n\s*/g, ', ')
    .replace(/\n\s*/g, '');

/** The words of Qwen 2.5's template. @param {object[]} tools */
const instructions = (tools) =>
  `# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
${tools.map(spaced).join('\n')}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>`;

/** @param {ChatMessage} message @returns {string} with its calls, as the model has written them */
const withCalls = ({ content, toolCalls = [] }) =>
  [
    ...(content ? [content] : []),
    ...toolCalls.map(
      ({ name, arguments: given }) =>
        `${OPENING}\n${spaced({ name, arguments: given })}\n</tool_call>`,
    ),
  ].join('\n');

/**
 * The conversation for a template that knows no tools.
 * @param {ChatMessage[]} messages
 * @param {object[] | null} tools
 * @returns {{ role: string, content: string }[]}
 */
function inWords(messages, tools) {
  /** @type {{ role: string, content: string }[]} */
  const out = [];
  for (const [i, message] of messages.entries()) {
    const { role } = message;
    if (role !== 'tool') {
      out.push({ role, content: withCalls(message) });
      continue;
    }
    const answer = `<tool_response>\n${message.content}\n</tool_response>`;
    const last = out[out.length - 1];
    if (messages[i - 1]?.role === 'tool') last.content += `\n${answer}`;
    else out.push({ role: 'user', content: answer });
  }
  if (!tools) return out;
  if (out[0].role !== 'system') return [{ role: 'system', content: instructions(tools) }, ...out];
  out[0].content += `\n\n${instructions(tools)}`;
  return out;
}

/**
 * What a template is given.
 * @param {Form | null} form
 * @param {ChatMessage[]} messages
 * @param {object[] | null} tools
 * @returns {{ messages: object[], tools?: object[] }}
 */
export function forTemplate(form, messages, tools) {
  if (form === null) return { messages: inWords(messages, tools) };
  /** @type {Map<string | undefined, string>} */
  const names = new Map();
  // Llama 3's template refuses several calls in a message.
  const told = messages.flatMap((message) =>
    form === 'llama3' && message.toolCalls?.length
      ? message.toolCalls.map((call) => ({ ...message, toolCalls: [call] }))
      : message,
  );
  return {
    messages: told.map(({ role, content, toolCalls, toolCallId }) => {
      for (const { id, name } of toolCalls ?? []) names.set(id, name);
      return {
        role,
        content,
        ...(toolCalls?.length
          ? {
              tool_calls: toolCalls.map(({ id, name, arguments: given }) => ({
                id,
                type: 'function',
                function: { name, arguments: given },
              })),
            }
          : {}),
        ...(role === 'tool' ? { tool_call_id: toolCallId, name: names.get(toolCallId) } : {}),
      };
    }),
    ...(tools ? { tools } : {}),
  };
}

/** Tells the text of a reply from its calls, as its tokens come. */
export class CallReader {
  #form;
  /** Tokens whose text may still begin a call. @type {Token[]} */ #held = [];
  #said = '';
  #calls = '';

  /** @param {Form} form */
  constructor(form) {
    this.#form = form;
  }

  /**
   * The next token. @param {Token} token @returns {Token[]} those that are decided: of a call's,
   * `text` is empty and `call` has what they say
   */
  push(token) {
    if (this.#calls) {
      this.#calls += token.text;
      return [{ ...token, text: '', call: token.text }];
    }
    this.#said += token.text;
    this.#held.push(token);
    const at = this.#beginsAt();
    if (at < 0) return this.#release(this.#said.length - this.#undecided());
    this.#calls = this.#said.slice(at);
    const decided = this.#release(at);
    let start = this.#heldFrom();
    for (const held of this.#held.splice(0)) {
      const text = held.text.slice(0, Math.max(0, at - start));
      decided.push({ ...held, text, call: held.text.slice(text.length) });
      start += held.text.length;
    }
    return decided;
  }

  /** No more tokens. */
  end() {
    return this.#release(Infinity);
  }

  /** Where the first call begins, with the line before it; -1: there is none so far. */
  #beginsAt() {
    if (this.#form === 'llama3') return this.#said.startsWith('{') ? 0 : -1;
    const at = this.#said.indexOf(OPENING);
    return at > 0 && this.#said[at - 1] === '\n' ? at - 1 : at;
  }

  /** Characters at the end that may begin a call. */
  #undecided() {
    if (this.#form === 'llama3') return 0;
    const most = Math.min(this.#said.length, OPENING.length);
    for (let n = most; n > 0; n--)
      if (
        `\n${OPENING}`.startsWith(this.#said.slice(-n)) ||
        OPENING.startsWith(this.#said.slice(-n))
      )
        return n;
    return 0;
  }

  #heldFrom() {
    return this.#held.reduce((at, { text }) => at - text.length, this.#said.length);
  }

  /** @param {number} upTo characters of what was said @returns {Token[]} */
  #release(upTo) {
    let at = this.#heldFrom();
    let n = 0;
    while (n < this.#held.length && at + this.#held[n].text.length <= upTo)
      at += this.#held[n++].text.length;
    return this.#held.splice(0, n);
  }

  /**
   * The whole reply.
   * @param {string} text as the engine has it
   * @returns {{ text: string, toolCalls: ToolCall[] }}
   */
  read(text) {
    this.#said = text;
    const at = this.#beginsAt();
    return {
      text: at < 0 ? text : text.slice(0, at),
      toolCalls: at < 0 ? [] : this.#read(text.slice(at)),
    };
  }

  /** @param {string} calls the last one may be cut off @returns {ToolCall[]} */
  #read(calls) {
    const found =
      this.#form === 'hermes' ? [...calls.matchAll(CALL)].map(([, json]) => json) : [calls];
    return found.flatMap((json) => {
      try {
        const call = JSON.parse(json);
        return [
          { id: `call_${newId()}`, name: call.name, arguments: call.arguments ?? call.parameters },
        ];
      } catch {
        return []; // Llama's one call, cut off
      }
    });
  }
}
