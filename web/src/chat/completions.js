/**
 * Chat completions in OpenAI's shape: what a request asks for, and what a reply is turned into.
 *
 * @typedef {import('./shared.js').Exit} Exit
 * @typedef {import('./shared.js').ExitSummary} ExitSummary
 * @typedef {import('../link/types.js').ChatMessage} ChatMessage
 * @typedef {import('../link/types.js').Exits} Exits
 * @typedef {import('../link/types.js').GenerateOptions} GenerateOptions
 * @typedef {import('../link/types.js').Info} Info
 * @typedef {import('../link/types.js').Result} Result
 * @typedef {import('../link/types.js').Token} Token
 * @typedef {import('../link/types.js').ToolCall} ToolCall
 * @typedef {AsyncIterable<Token> & { result: Promise<Result>, cancel(): void }} Reply
 * @typedef {{ info: Info, exits: Exits | null }} Model
 *
 * @typedef {object} ChatRequest
 * @property {ChatMessage[]} messages
 * @property {GenerateOptions} options
 * @property {string | null} model
 * @property {boolean} stream
 * @property {boolean} withUsage a last chunk tells of the tokens
 * @property {number} n choices
 * @property {string[]} ignored parameters that are not understood
 *
 * @typedef {object} OpenAIMessage
 * @property {'system' | 'developer' | 'user' | 'assistant' | (string & {})} role
 * @property {string | { type: string, text?: string }[] | null} content
 * @property {string} [name]
 * @property {OpenAIToolCall[] | null} [tool_calls] of an assistant
 * @property {string} [tool_call_id] of a tool
 *
 * @typedef {{ id: string, type: 'function', function: { name: string, arguments: string } }}
 *   OpenAIToolCall
 *
 * @typedef {{ token: string, logprob: number, bytes: number[] | null }} TokenLogprob
 * @typedef {{ content: (TokenLogprob & { top_logprobs: TokenLogprob[] })[], refusal: null }} Logprobs
 *
 * @typedef {object} OpenAIExtras ExitLM's own
 * @property {GenerateOptions['mode']} [mode]
 * @property {number} [accuracy]
 * @property {GenerateOptions['strategy']} [strategy]
 * @property {number} [top_k]
 * @property {number} [min_p]
 * @property {number} [repeat_penalty]
 * @property {GenerateOptions['kv']} [kv]
 * @property {number} [audit]
 *
 * @typedef {object} OpenAIParameters
 * @property {OpenAIMessage[]} messages
 * @property {string} [model] echoed; where the client was given no model: the address of one
 * @property {boolean | null} [stream]
 * @property {{ include_usage?: boolean } | null} [stream_options]
 * @property {number | null} [temperature]
 * @property {number | null} [top_p]
 * @property {number | null} [max_tokens]
 * @property {number | null} [max_completion_tokens]
 * @property {string | string[] | null} [stop]
 * @property {number | null} [seed]
 * @property {number | null} [n] choices, 1 … 8
 * @property {{ type: 'function', function: { name: string, description?: string, parameters?: any,
 *   strict?: boolean | null } }[] | null} [tools]
 * @property {'none' | 'auto' | 'required' | { type: 'function', function: { name: string } } | null}
 *   [tool_choice]
 * @property {boolean | null} [parallel_tool_calls]
 * @property {boolean | null} [logprobs]
 * @property {number | null} [top_logprobs] 0 … 20
 * @property {any} [response_format]
 *
 * @typedef {OpenAIParameters & OpenAIExtras} CreateParameters
 *
 * @typedef {object} CompletionUsage
 * @property {number} prompt_tokens
 * @property {number} completion_tokens
 * @property {number} total_tokens
 * @property {{ cached_tokens: number }} prompt_tokens_details
 * @property {{ reasoning_tokens: 0 }} completion_tokens_details
 *
 * @typedef {'stop' | 'length' | 'tool_calls'} FinishReason
 *
 * @typedef {object} ChatCompletion
 * @property {string} id
 * @property {'chat.completion'} object
 * @property {number} created seconds since 1970
 * @property {string} model
 * @property {string} system_fingerprint
 * @property {{ index: number, message: { role: 'assistant', content: string | null, refusal: null,
 *   tool_calls?: OpenAIToolCall[], exit: ExitSummary & { tokens: Exit[] } }, finish_reason:
 *   FinishReason, logprobs: Logprobs | null }[]} choices
 * @property {CompletionUsage} usage
 *
 * @typedef {object} ChatCompletionChunk
 * @property {string} id
 * @property {'chat.completion.chunk'} object
 * @property {number} created
 * @property {string} model
 * @property {string} system_fingerprint
 * @property {{ index: number, delta: { role?: 'assistant', content?: string, exit?: Exit, tool_calls?:
 *   (OpenAIToolCall & { index: number })[] }, finish_reason: FinishReason | null, logprobs: Logprobs
 *   | null }[]} choices
 * @property {CompletionUsage | null} [usage] with `stream_options: { include_usage: true }`: null
 *   but in the last chunk, which has no choices
 */
import { ExitLMError } from '../link/errors.js';
import { newId } from '../link/platform.js';
import { exitOf, summaryOf, textOf } from './shared.js';

/** Parameters that change nothing here. */
const WITHOUT_EFFECT = new Set([
  'model',
  'messages',
  'stream',
  'stream_options',
  'user',
  'metadata',
  'store',
  'service_tier',
  'safety_identifier',
  'prompt_cache_key',
  'prompt_cache_retention',
  'reasoning_effort',
  'verbosity',
  'n',
]);

/**
 * Parameters that are taken only with the value that asks for nothing: without them the answer would
 * mean something else. @type {Record<string, (value: any) => boolean>}
 */
const ONLY_NEUTRAL = {
  functions: (value) => Array.isArray(value) && value.length === 0,
  function_call: (value) => value === 'none' || value === 'auto',
  logit_bias: (value) => Object.keys(value).length === 0,
  modalities: (value) => Array.isArray(value) && value.every((m) => m === 'text'),
  audio: () => false,
  web_search_options: () => false,
  conversation: () => false,
  prompt: () => false,
};

const MOST_CHOICES = 8;

/** @type {Record<string, keyof GenerateOptions>} */
const TAKEN = {
  temperature: 'temperature',
  top_p: 'topP',
  max_tokens: 'maxTokens',
  max_completion_tokens: 'maxTokens',
  stop: 'stop',
  seed: 'seed',
  mode: 'mode',
  accuracy: 'accuracy',
  strategy: 'strategy',
  top_k: 'topK',
  min_p: 'minP',
  repeat_penalty: 'repeatPenalty',
  kv: 'kv',
  audit: 'audit',
  tools: 'tools',
  tool_choice: 'toolChoice',
  parallel_tool_calls: 'parallelToolCalls',
  top_logprobs: 'logprobs',
};

/**
 * Checks what was asked for.
 * @param {CreateParameters} parameters
 * @returns {ChatRequest}
 */
export function readRequest(parameters) {
  const messages = readMessages(parameters?.messages);
  const { model, stream, stream_options: streaming, n } = parameters;
  if (n !== undefined && n !== null && !(Number.isInteger(n) && n >= 1 && n <= MOST_CHOICES))
    throw new ExitLMError(
      'USAGE',
      `parameter n: an integer from 1 to ${MOST_CHOICES} was expected, not ${JSON.stringify(n)}`,
    );
  return {
    messages,
    ...optionsIn(parameters),
    n: n ?? 1,
    model: model ?? null,
    stream: Boolean(stream),
    withUsage: streaming?.include_usage === true,
  };
}

/** @param {any} format @returns {{ json?: true, schema?: object }} */
function shapeOf(format) {
  if (format.type === 'text') return {};
  if (format.type === 'json_object') return { json: true };
  const schema = format.type === 'json_schema' ? format.json_schema?.schema : null;
  if (!schema)
    throw new ExitLMError(
      'USAGE',
      'parameter response_format: its type is text, json_object, or json_schema with json_schema.schema',
    );
  return { schema };
}

/** @param {CreateParameters} parameters @returns {{ options: GenerateOptions, ignored: string[] }} */
function optionsIn(parameters) {
  /** @type {Record<string, unknown>} */
  const options = {};
  /** @type {string[]} */
  const ignored = [];
  for (const [name, value] of Object.entries(parameters)) {
    if (value === null || value === undefined || WITHOUT_EFFECT.has(name)) continue;
    if (name === 'logprobs') options.logprobs ??= value ? 0 : undefined;
    else if (name === 'response_format') Object.assign(options, shapeOf(value));
    else if (Object.hasOwn(TAKEN, name)) {
      if (!(Array.isArray(value) && value.length === 0))
        options[TAKEN[name]] = value.function?.name ?? value; // a tool choice
    } else if (Object.hasOwn(ONLY_NEUTRAL, name)) {
      if (!ONLY_NEUTRAL[name](value))
        throw new ExitLMError(
          'USAGE',
          `parameter ${name}: not supported by ExitLM (${JSON.stringify(value)?.slice(0, 80)} was given); leave it out`,
        );
    } else if (value !== 0) ignored.push(name); // a penalty of 0
  }
  if (!parameters.logprobs) {
    if (options.logprobs)
      throw new ExitLMError('USAGE', 'parameter top_logprobs: needs logprobs: true');
    delete options.logprobs;
  }
  return { options, ignored };
}

/** @param {OpenAIToolCall[]} calls @param {string} where @returns {ToolCall[]} */
const readCalls = (calls, where) =>
  calls.map(({ id, function: { name = '', arguments: given = '{}' } = {} }, i) => {
    try {
      return { id, name, arguments: JSON.parse(given) };
    } catch {
      throw new ExitLMError('USAGE', `${where}[${i}].function.arguments: JSON was expected`);
    }
  });

/** @param {OpenAIMessage[]} messages @returns {ChatMessage[]} */
function readMessages(messages) {
  if (!Array.isArray(messages) || messages.length === 0)
    throw new ExitLMError(
      'USAGE',
      'messages: a list with at least one { role, content } was expected',
    );
  return messages.map((message, i) => {
    const where = `messages[${i}]`;
    const { role, content, tool_calls: calls, tool_call_id: toolCallId } = message ?? {};
    if (!['system', 'developer', 'user', 'assistant', 'tool'].includes(role)) {
      throw new ExitLMError(
        'USAGE',
        `${where}.role: 'system', 'developer', 'user', 'assistant' or 'tool' was expected, not ${JSON.stringify(role)}`,
      );
    }
    return {
      role: role === 'developer' ? 'system' : role,
      content: textOf(content, `${where}.content`),
      ...(calls?.length ? { toolCalls: readCalls(calls, `${where}.tool_calls`) } : {}),
      ...(toolCallId ? { toolCallId } : {}),
    };
  });
}

/** @param {Model} lm @param {ChatRequest} request */
const about = ({ info }, { model }) => ({
  id: `chatcmpl-${newId()}`,
  created: Math.floor(Date.now() / 1000),
  model: model ?? info.name,
  system_fingerprint: `exitlm-${info.version}`,
});

/** @param {Result[]} results one a choice, of the same prompt @returns {CompletionUsage} */
function usageOf(results) {
  const [{ promptTokens, reusedTokens }] = results.map(({ usage }) => usage);
  const written = results.reduce((sum, { usage }) => sum + usage.completionTokens, 0);
  return {
    prompt_tokens: promptTokens,
    completion_tokens: written,
    total_tokens: promptTokens + written,
    prompt_tokens_details: { cached_tokens: reusedTokens },
    completion_tokens_details: { reasoning_tokens: 0 },
  };
}

/** @param {Result} result @returns {FinishReason} */
function finishOf({ reason }) {
  if (reason === 'tool') return 'tool_calls';
  return reason === 'length' ? 'length' : 'stop';
}

/** @param {Result} result @returns {OpenAIToolCall[]} */
const callsOf = ({ toolCalls = [] }) =>
  toolCalls.map(({ id, name, arguments: given }) => ({
    id,
    type: 'function',
    function: { name, arguments: JSON.stringify(given) },
  }));

const encoder = new TextEncoder();
/** A part of a character has no text. @param {{ text: string, logprob?: number }} token */
const likelyOf = ({ text, logprob = 0 }) => ({
  token: text,
  logprob,
  bytes: text.includes('\ufffd') ? null : [...encoder.encode(text)],
});

/** @param {Token[]} tokens @returns {Logprobs | null} */
const logprobsOf = (tokens) =>
  tokens[0]?.top
    ? {
        content: tokens.map((token) => ({
          ...likelyOf({ ...token, text: token.call ?? token.text }),
          top_logprobs: token.top?.map(likelyOf) ?? [],
        })),
        refusal: null,
      }
    : null;

/**
 * The whole reply.
 * @param {Model} lm
 * @param {ChatRequest} request
 * @param {(index: number) => Reply} begin one choice after the other
 * @returns {Promise<ChatCompletion>}
 */
export async function makeCompletion(lm, request, begin) {
  const head = about(lm, request);
  /** @type {ChatCompletion['choices']} */
  const choices = [];
  /** @type {Result[]} */
  const results = [];
  for (let index = 0; index < request.n; index++) {
    const reply = begin(index);
    /** @type {Token[]} */
    const tokens = [];
    for await (const token of reply) tokens.push(token);
    const result = await reply.result;
    const calls = callsOf(result);
    results.push(result);
    choices.push({
      index,
      message: {
        role: 'assistant',
        content: calls.length && !result.text ? null : result.text,
        refusal: null,
        ...(calls.length ? { tool_calls: calls } : {}),
        exit: { ...summaryOf(result, lm, request.options), tokens: tokens.map(exitOf) },
      },
      finish_reason: finishOf(result),
      logprobs: logprobsOf(tokens),
    });
  }
  return { ...head, object: 'chat.completion', choices, usage: usageOf(results) };
}

/**
 * The reply in chunks. It is begun when the first is asked for.
 * @param {Model} lm
 * @param {ChatRequest} request
 * @param {(index: number) => Reply} begin one choice after the other
 * @returns {AsyncGenerator<ChatCompletionChunk, void, undefined>}
 */
export async function* makeChunks(lm, request, begin) {
  const head = { ...about(lm, request), object: /** @type {const} */ ('chat.completion.chunk') };
  const more = request.withUsage ? { usage: null } : {};
  /** @type {Result[]} */
  const results = [];
  for (let index = 0; index < request.n; index++) {
    /**
     * @type {(delta: ChatCompletionChunk['choices'][0]['delta'], finish?: FinishReason | null,
     *   logprobs?: Logprobs | null) => ChatCompletionChunk}
     */
    const chunk = (delta, finish = null, logprobs = null) => ({
      ...head,
      choices: [{ index, delta, finish_reason: finish, logprobs }],
      ...more,
    });
    const reply = begin(index);
    try {
      let first = true;
      for await (const token of reply) {
        if (first) yield chunk({ role: 'assistant', content: '' });
        first = false;
        yield chunk({ content: token.text, exit: exitOf(token) }, null, logprobsOf([token]));
      }
      const result = await reply.result;
      if (first) yield chunk({ role: 'assistant', content: '' });
      for (const [at, call] of callsOf(result).entries())
        yield chunk({ tool_calls: [{ index: at, ...call }] });
      yield chunk({}, finishOf(result));
      results.push(result);
    } finally {
      reply.cancel();
    }
  }
  if (request.withUsage) yield { ...head, choices: [], usage: usageOf(results) };
}
