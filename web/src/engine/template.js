/**
 * Chat templates: the model's own program (Jinja), run by `@huggingface/jinja`, which is loaded at
 * the first chat.
 */
import { ExitLMError, messageOf } from '../link/errors.js';

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
 * @returns {(messages: ChatMessage[]) => Promise<Prompt>} the prompt of a conversation, without a
 *   begin-of-text token that the tokenizer adds
 */
export function createTemplate({ source, bosToken, eosToken, addBos, specialsIn }) {
  /** @type {Promise<Template> | undefined} */
  let compiling;
  /** A conversation is often counted, then asked. */
  let last = { key: '', prompt: /** @type {Prompt} */ ({ text: '', plain: [] }) };
  return async (messages) => {
    if (!source) {
      throw new ExitLMError(
        'UNSUPPORTED',
        'this model has no chat template; use complete() with a prompt in the form that it knows',
      );
    }
    const template = await (compiling ??= compile(source));
    const key = JSON.stringify(messages);
    if (last.key !== key) {
      const { marked, mark } = markSpecials(messages, specialsIn);
      let text;
      try {
        text = template.render({
          messages: marked,
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
      last = { key, prompt: withoutMarks(text, mark) };
    }
    return last.prompt;
  };
}

/**
 * The characters of special tokens that messages say get a mark before each, which no message has:
 * so they are found again wherever the template puts them.
 * @param {ChatMessage[]} messages
 * @param {(text: string) => string[]} specialsIn
 */
function markSpecials(messages, specialsIn) {
  const said = messages.map(({ content }) => content).join('\n');
  let code = 0xe000; // for private use
  while (said.includes(String.fromCharCode(code))) code++;
  const mark = String.fromCharCode(code);
  let marked = messages;
  for (const token of specialsIn(said))
    marked = marked.map((message) => ({
      ...message,
      content: message.content.replaceAll(token, [...token].map((c) => mark + c).join('')),
    }));
  return { marked, mark };
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
