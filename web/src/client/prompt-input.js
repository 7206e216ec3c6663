/**
 * What the Prompt API is given, checked as its specification says, and what it throws.
 *
 * @typedef {import('../link/types.js').ChatMessage} ChatMessage
 * @typedef {import('../link/types.js').GenerateOptions} GenerateOptions
 * @typedef {import('../link/types.js').Tool} Tool
 *
 * @typedef {'text' | 'image' | 'audio' | 'tool-call' | 'tool-response'} PromptContentType
 * @typedef {{ role: 'system' | 'user' | 'assistant', content: string | { type: PromptContentType,
 *   value: unknown }[], prefix?: boolean }} PromptMessage `prefix`: of the last one, an assistant's,
 *   which the reply goes on from
 * @typedef {string | PromptMessage[]} PromptInput
 * @typedef {{ type: PromptContentType, languages?: string[] }} Expected
 * @typedef {'most-predictable' | 'predictable' | 'balanced' | 'creative' | 'most-creative'}
 *   SamplingMode
 * @typedef {{ name: string, description: string, inputSchema: object, execute: (...given: any[]) =>
 *   Promise<string> }} PromptTool
 *
 * @typedef {object} Settings of a session
 * @property {ReturnType<typeof samplingOf>} sampling
 * @property {Pick<GenerateOptions, 'mode' | 'accuracy'>} exits
 * @property {Pick<GenerateOptions, 'tools'>} tools for the engine
 * @property {Record<string, PromptTool['execute']>} run
 */
import { ExitLMError } from '../link/errors.js';

// ---- what is thrown ----

/** @param {string} name of a DOMException @param {string} message @param {unknown} [cause] */
export function exception(name, message, cause) {
  const error = new DOMException(message, name);
  if (cause !== undefined) Object.defineProperty(error, 'cause', { value: cause });
  return error;
}

/** @param {number} requested @param {number} quota tokens */
export function tooLong(requested, quota) {
  const message = `the prompt takes ${requested} tokens, the context has room for ${quota}`;
  const Native = /** @type {any} */ (globalThis).QuotaExceededError; // newer than the exception's name
  return Native
    ? new Native(message, { requested, quota })
    : Object.assign(new DOMException(message, 'QuotaExceededError'), { requested, quota });
}

/** @type {Record<string, string>} */
const NAMES = {
  UNSUPPORTED: 'NotSupportedError',
  CONTEXT_FULL: 'QuotaExceededError',
  DISPOSED: 'InvalidStateError',
  NETWORK: 'NetworkError',
  HTTP: 'NetworkError',
};

/**
 * An error as the Prompt API has it; a signal's reason and what a tool throws stay what they are.
 * @param {unknown} error
 */
export function conforming(error) {
  if (!(error instanceof ExitLMError)) return error;
  const { code, message } = error;
  if (code === 'USAGE') {
    return /^(schema|pattern|tools|options? (schema|pattern|tools))\b/.test(message)
      ? exception('NotSupportedError', message, error)
      : new TypeError(message, { cause: error });
  }
  return exception(NAMES[code] ?? 'OperationError', message, error);
}

// ---- options of create and availability ----

/** Of each mode, what the engine samples with. @type {Record<SamplingMode, { temperature: number, topK: number }>} */
const SAMPLING = {
  'most-predictable': { temperature: 0, topK: 1 },
  'predictable': { temperature: 0.3, topK: 40 },
  'balanced': { temperature: 0.7, topK: 40 },
  'creative': { temperature: 1, topK: 64 },
  'most-creative': { temperature: 1.3, topK: 128 },
};

export const PARAMS = {
  defaultTopK: SAMPLING.balanced.topK,
  maxTopK: 128,
  defaultTemperature: SAMPLING.balanced.temperature,
  maxTemperature: 2,
};

/**
 * @param {{ samplingMode?: SamplingMode | 'default', temperature?: number, topK?: number }} options
 * @returns {{ samplingMode: SamplingMode, temperature: number, topK: number }}
 */
export function samplingOf({ samplingMode: asked, temperature, topK }) {
  if (asked !== undefined && asked !== 'default' && !Object.hasOwn(SAMPLING, asked))
    throw new TypeError(
      `samplingMode: one of ${Object.keys(SAMPLING).join(', ')} was expected, not ${JSON.stringify(asked)}`,
    );
  if (asked !== undefined && (temperature !== undefined || topK !== undefined))
    throw new TypeError('samplingMode: goes without temperature and topK');
  if (temperature !== undefined && !(temperature >= 0))
    throw new RangeError(`temperature: at least 0 was expected, not ${temperature}`);
  if (topK !== undefined && !(topK >= 1))
    throw new RangeError(`topK: at least 1 was expected, not ${topK}`);
  const samplingMode = asked === undefined || asked === 'default' ? 'balanced' : asked;
  const usual = SAMPLING[samplingMode];
  return {
    samplingMode,
    temperature: Math.min(temperature ?? usual.temperature, PARAMS.maxTemperature),
    topK: Math.min(Math.trunc(topK ?? usual.topK), PARAMS.maxTopK),
  };
}

const TYPES = ['text', 'image', 'audio', 'tool-call', 'tool-response'];

/**
 * What of the expected inputs and outputs cannot be had.
 * @param {{ expectedInputs?: Expected[], expectedOutputs?: Expected[] }} options
 * @param {string[]} spoken languages of the model
 * @returns {string | null}
 */
export function lacking({ expectedInputs = [], expectedOutputs = [] }, spoken) {
  const reasons = [
    ...expectedInputs.map((expected) => lackOf(expected, 'tool-response', spoken)),
    ...expectedOutputs.map((expected) => lackOf(expected, 'tool-call', spoken)),
  ];
  return reasons.find((reason) => reason !== null) ?? null;
}

/** @param {Expected} expected @param {PromptContentType} ofTools @param {string[]} spoken */
function lackOf({ type, languages = [] }, ofTools, spoken) {
  if (!TYPES.includes(type)) throw new TypeError(`${JSON.stringify(type)} is no type of content`);
  const asked = Intl.getCanonicalLocales(languages);
  if (type !== 'text' && type !== ofTools) return `the model reads and writes text, not ${type}`;
  const base = (/** @type {string} */ tag) => tag.split('-')[0].toLowerCase();
  const other = asked.find((tag) => !spoken.some((known) => base(known) === base(tag)));
  return other === undefined
    ? null
    : `the model is for ${spoken.join(', ')}, not ${other}; where it is, say so: LanguageModel.configure({ languages })`;
}

/** @param {{ tools?: PromptTool[] }} options @returns {Tool[] | undefined} for the engine */
export function toolsOf({ tools = [] }) {
  if (tools.length === 0) return undefined;
  const names = new Set();
  return tools.map(({ name, description, inputSchema, execute }, i) => {
    const wrong = (/** @type {string} */ what) => new TypeError(`tools[${i}].${what}`);
    if (typeof name !== 'string' || !name) throw wrong('name: a text was expected');
    if (names.has(name)) throw wrong(`name: ${name} is there already`);
    names.add(name);
    if (typeof description !== 'string' || !description)
      throw wrong('description: a text was expected');
    if (typeof execute !== 'function') throw wrong('execute: a function was expected');
    const { type, properties = {}, required = [] } = /** @type {any} */ (inputSchema ?? {});
    if (type !== 'object' || typeof properties !== 'object' || !Array.isArray(required))
      throw wrong("inputSchema: a JSON Schema of type 'object' was expected");
    return { name, description, parameters: JSON.parse(JSON.stringify(inputSchema)) };
  });
}

// ---- prompts ----

/**
 * @param {unknown} input
 * @param {boolean} begun something was said before
 * @returns {ChatMessage[]}
 */
export function messagesOf(input, begun) {
  if (!Array.isArray(input)) return [{ role: 'user', content: String(input) }];
  return input.map((message, i) => messageOf(message, i, input.length - 1, begun));
}

/** @param {any} message @param {number} i @param {number} last @param {boolean} begun @returns {ChatMessage} */
function messageOf(message, i, last, begun) {
  const { role, content, prefix } = message ?? {};
  if (!['system', 'user', 'assistant'].includes(role))
    throw new TypeError(
      `[${i}].role: 'system', 'user' or 'assistant' was expected, not ${JSON.stringify(role)}`,
    );
  if (content === undefined) throw new TypeError(`[${i}].content: a text was expected`);
  if (prefix && (role !== 'assistant' || i !== last))
    throw exception(
      'SyntaxError',
      `[${i}].prefix: only the last message can have it, and only an assistant's`,
    );
  if (role === 'system' && (begun || i > 0))
    throw new TypeError(`[${i}].role: a system prompt comes first, before anything is said`);
  const text = Array.isArray(content)
    ? content.map((part, j) => textIn(part, `[${i}].content[${j}]`)).join('')
    : String(content);
  return { role, content: text, ...(prefix ? { prefix: true } : {}) };
}

/** @param {any} part @param {string} where */
function textIn(part, where) {
  const { type, value } = part ?? {};
  if (!TYPES.includes(type))
    throw new TypeError(`${where}.type: ${JSON.stringify(type)} is no type of content`);
  if (type !== 'text')
    throw exception(
      'NotSupportedError',
      `${where}: the model reads text only, not ${type} (what tools answer goes by their execute)`,
    );
  if (typeof value !== 'string') throw new TypeError(`${where}.value: a text was expected`);
  return value;
}

/**
 * What holds a reply to a shape, and the conversation with a word about it.
 * @param {ChatMessage[]} messages
 * @param {{ responseConstraint?: unknown, omitResponseConstraintInput?: boolean }} options
 * @returns {{ messages: ChatMessage[], shape: Pick<GenerateOptions, 'schema' | 'pattern'> | null }}
 */
export function constrained(messages, { responseConstraint: constraint, ...options }) {
  if (constraint === undefined || constraint === null) {
    if (options.omitResponseConstraintInput)
      throw new TypeError('omitResponseConstraintInput: there is no responseConstraint');
    return { messages, shape: null };
  }
  if (typeof constraint !== 'object' || Array.isArray(constraint))
    throw new TypeError('responseConstraint: a JSON Schema or a RegExp was expected');
  const { shape, hint } = shapeOf(constraint);
  const last = messages.findLastIndex(({ role }) => role === 'user');
  if (options.omitResponseConstraintInput || last < 0) return { messages, shape };
  const { role, content } = messages[last];
  return { messages: messages.with(last, { role, content: `${content}\n\n${hint}` }), shape };
}

/** @param {object} constraint */
function shapeOf(constraint) {
  if (constraint instanceof RegExp)
    return {
      shape: { pattern: constraint },
      hint: `Answer with nothing but a text that matches ${constraint}.`,
    };
  try {
    const text = JSON.stringify(constraint);
    return {
      shape: { schema: JSON.parse(text) },
      hint: `Answer with nothing but JSON of this schema: ${text}`,
    };
  } catch (cause) {
    throw exception('NotSupportedError', 'responseConstraint: this is no JSON Schema', cause);
  }
}
