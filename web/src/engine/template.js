/**
 * Chat templates: the model's own program (Jinja), run by `@huggingface/jinja`, which is loaded at
 * the first chat.
 */
import { ExitLMError, messageOf } from '../link/errors.js';
import { now } from '../link/platform.js';
import { forTemplate, formOf } from './tools.js';

/**
 * @typedef {import('../link/types.js').ChatMessage} ChatMessage
 * @typedef {{ source: string, bosToken: string, eosToken: string, addBos: boolean,
 *   specialsIn: (text: string) => string[] }} TemplateInfo `specialsIn`: texts of special tokens
 * @typedef {{ text: string, plain: [start: number, end: number][], dropped?: number, begun?: string }}
 *   Prompt
 *   `plain`: its bytes in which special tokens are text like any other, because a message says them;
 *   `dropped`: messages that were left out of it; `begun`: what the reply goes on from
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
      if (last?.prefix) known.prompt.begun = messages[messages.length - 1].content;
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

/**
 * What a template may do: a long conversation takes some ten thousand steps and some milliseconds. It
 * comes with a file from anywhere, and must not hold the engine for ever, nor take all memory.
 */
const MOST_STEPS = 2 ** 19;
const MOST_MS = 10_000;
/** So many characters that are made count as a step. */
const STEP_CHARACTERS = 128;

/** The interpreter, with its steps counted. @type {Promise<typeof import('../../dist/jinja.js')> | undefined} */
let interpreter;

async function loadInterpreter() {
  const jinja = await import('../../dist/jinja.js');
  const globals = jinja.Environment.prototype;
  const { set } = globals;
  globals.set = function (/** @type {string} */ name, /** @type {unknown} */ value) {
    return set.call(this, name, name === 'range' ? range : value);
  };
  const { prototype } = jinja.Interpreter;
  const { evaluate } = prototype;
  /** Of each run. @type {WeakMap<object, { steps: number, began: number }>} */
  const runs = new WeakMap();
  /** Of lists and objects: one that is in another many times counts as often. @type {WeakMap<object, number>} */
  const weights = new WeakMap();
  const weightOf = (/** @type {any} */ { value }) => {
    if (typeof value === 'string') return 1 + value.length / STEP_CHARACTERS;
    if (!Array.isArray(value) && !(value instanceof Map)) return 1;
    let weight = weights.get(value) ?? 1;
    if (!weights.has(value)) {
      for (const part of value.values()) weight += weightOf(part);
      weights.set(value, weight);
    }
    return weight;
  };
  prototype.evaluate = function (/** @type {any} */ node, /** @type {any} */ environment) {
    const run = runs.get(this) ?? { steps: 0, began: now() };
    runs.set(this, run);
    const spend = (/** @type {number} */ n) => {
      run.steps += n;
      if (!(run.steps <= MOST_STEPS) || now() - run.began > MOST_MS)
        throw new Error(`it does not come to an end within ${MOST_STEPS} steps and ${MOST_MS} ms`);
    };
    spend(1);
    const value = evaluate.call(this, node, environment);
    // What has a name was made before.
    if (node?.type !== 'Identifier') spend(weightOf(value));
    return value;
  };
  return jinja;
}

/**
 * Jinja's, whose list is not made where it is too long to go through.
 * @param {number} start @param {number} [stop]
 */
function range(start, stop, step = 1) {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  const n = Math.ceil((to - from) / step);
  if (!(n <= MOST_STEPS)) throw new Error(`range() of ${n} numbers is too long`);
  return Array.from({ length: Math.max(0, n) }, (_, i) => from + i * step);
}

/** @param {string} source @returns {Promise<Template>} */
async function compile(source) {
  const { Template } = await (interpreter ??= loadInterpreter());
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
