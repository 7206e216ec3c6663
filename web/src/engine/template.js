/**
 * Chat templates: the model's own program (Jinja), run by `@huggingface/jinja`, which is loaded at
 * the first chat.
 */
import { ExitLMError, messageOf } from '../link/errors.js';
import { forTemplate, formOf } from './tools.js';

/**
 * @typedef {import('../link/types.js').ChatMessage} ChatMessage
 * @typedef {{ source: string, bosToken: string, eosToken: string, addBos: boolean,
 *   specialsIn: (text: string) => string[] }} TemplateInfo `specialsIn`: texts of special tokens
 * @typedef {{ text: string, plain: [start: number, end: number][], dropped?: number }} Prompt
 *   `plain`: its bytes in which special tokens are text like any other, because a message says them;
 *   `dropped`: messages that were left out of it
 * @typedef {{ render(context: Record<string, unknown>): string }} Template
 */

/**
 * @param {TemplateInfo} info
 * @returns {(messages: ChatMessage[], tools?: object[] | null) => Promise<Prompt>} the prompt of a
 *   conversation, without a begin-of-text token that the tokenizer adds
 */
export function createTemplate({ source, bosToken, eosToken, addBos, specialsIn }) {
  /** @type {Promise<Template> | undefined} */
  let compiling;
  /** A conversation is often counted, then asked. */
  let known = { key: '', prompt: /** @type {Prompt} */ ({ text: '', plain: [] }) };
  const form = formOf(source);
  return async (messages, tools = null) => {
    if (!source) {
      throw new ExitLMError(
        'UNSUPPORTED',
        'this model has no chat template; use complete() with a prompt in the form that it knows',
      );
    }
    const template = await (compiling ??= compile(source));
    const key = JSON.stringify({ messages, tools });
    if (known.key !== key) {
      const { marked, mark } = markSpecials({ messages, tools }, specialsIn);
      const last = marked.messages[messages.length - 1];
      let text;
      try {
        text = template.render({
          ...forTemplate(
            form,
            last?.prefix ? marked.messages.slice(0, -1) : marked.messages,
            marked.tools,
          ),
          add_generation_prompt: true,
          bos_token: bosToken,
          eos_token: eosToken,
        });
      } catch (cause) {
        throw new ExitLMError(
          'USAGE',
          `the model's chat template refuses this conversation: ${messageOf(cause)}`,
          { cause },
        );
      }
      if (addBos && bosToken && text.startsWith(bosToken)) text = text.slice(bosToken.length);
      if (last?.prefix) text += last.content;
      known = { key, prompt: withoutMarks(text, mark) };
    }
    return known.prompt;
  };
}

/**
 * The characters of special tokens that messages say get a mark before each, which no message has:
 * so they are found again wherever the template puts them.
 * @template T
 * @param {T} given messages and tools
 * @param {(text: string) => string[]} specialsIn
 * @returns {{ marked: T, mark: string }}
 */
function markSpecials(given, specialsIn) {
  const said = textsIn(given).join('\n');
  let code = 0xe000; // for private use
  while (said.includes(String.fromCharCode(code))) code++;
  const mark = String.fromCharCode(code);
  let marked = given;
  for (const token of specialsIn(said)) {
    const spelled = [...token].map((c) => mark + c).join('');
    marked = withTexts(marked, (text) => text.replaceAll(token, spelled));
  }
  return { marked, mark };
}

/** All texts in plain data, keys too. @param {unknown} data @returns {string[]} */
function textsIn(data) {
  if (typeof data === 'string') return [data];
  return data && typeof data === 'object' ? Object.entries(data).flat().flatMap(textsIn) : [];
}

/**
 * The same data with its texts changed.
 * @template T
 * @param {T} data
 * @param {(text: string) => string} change
 * @returns {T}
 */
function withTexts(data, change) {
  /** @type {any} */
  let out = data;
  if (typeof data === 'string') out = change(data);
  else if (Array.isArray(data)) out = data.map((item) => withTexts(item, change));
  else if (data && typeof data === 'object')
    out = Object.fromEntries(
      Object.entries(data).map(([key, value]) => [change(key), withTexts(value, change)]),
    );
  return out;
}

/** @param {string} text @param {string} mark @returns {Prompt} */
function withoutMarks(text, mark) {
  const [first, ...pieces] = text.split(mark);
  const bytes = (/** @type {string} */ of) => new TextEncoder().encode(of).length;
  let at = bytes(first);
  /** @type {Prompt['plain']} */
  const plain = [];
  for (const piece of pieces) {
    plain.push([at, at + 1]);
    at += bytes(piece);
  }
  return { text: first + pieces.join(''), plain };
}

/** @param {string} source @returns {Promise<Template>} */
async function compile(source) {
  const { Template } = await import('../../dist/jinja.js');
  try {
    return new Template(source);
  } catch (cause) {
    throw new ExitLMError(
      'UNSUPPORTED',
      `the model's chat template cannot be read: ${messageOf(cause)}; use complete() instead`,
      { cause },
    );
  }
}
