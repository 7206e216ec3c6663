/**
 * Chat completions in OpenAI's shape: what a request asks for, and what a reply is turned into. The
 * client of `exitlm/openai` and the server of `exitlm/edge` are made of it.
 *
 * @typedef {import('./shared.js').Exit} Exit
 * @typedef {import('./shared.js').ExitSummary} ExitSummary
 * @typedef {import('../link/types.js').ChatMessage} ChatMessage
 * @typedef {import('../link/types.js').Exits} Exits
 * @typedef {import('../link/types.js').GenerateOptions} GenerateOptions
 * @typedef {import('../link/types.js').Info} Info
 * @typedef {import('../link/types.js').Result} Result
 * @typedef {import('../link/types.js').Token} Token
 * @typedef {AsyncIterable<Token> & { result: Promise<Result>, cancel(): void }} Reply
 * @typedef {{ info: Info, exits: Exits | null }} Model
 *
 * @typedef {object} ChatRequest
 * @property {ChatMessage[]} messages
 * @property {GenerateOptions} options
 * @property {string | null} model
 * @property {boolean} stream
 * @property {boolean} withUsage a last chunk tells of the tokens
 *
 * @typedef {object} OpenAIMessage
 * @property {'system' | 'developer' | 'user' | 'assistant' | (string & {})} role
 * @property {string | { type: string, text?: string }[] | null} content
 * @property {string} [name]
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
 * @property {number | null} [n] 1
 *
 * @typedef {OpenAIParameters & OpenAIExtras} CreateParameters
 *
 * @typedef {object} CompletionUsage
 * @property {number} prompt_tokens
 * @property {number} completion_tokens
 * @property {number} total_tokens
 * @property {{ cached_tokens: number }} prompt_tokens_details
 *
 * @typedef {'stop' | 'length'} FinishReason
 *
 * @typedef {object} ChatCompletion
 * @property {string} id
 * @property {'chat.completion'} object
 * @property {number} created seconds since 1970
 * @property {string} model
 * @property {string} system_fingerprint
 * @property {{ index: 0, message: { role: 'assistant', content: string, refusal: null, exit:
 *   ExitSummary & { tokens: Exit[] } }, finish_reason: FinishReason, logprobs: null }[]} choices
 * @property {CompletionUsage} usage
 *
 * @typedef {object} ChatCompletionChunk
 * @property {string} id
 * @property {'chat.completion.chunk'} object
 * @property {number} created
 * @property {string} model
 * @property {string} system_fingerprint
 * @property {{ index: 0, delta: { role?: 'assistant', content?: string, exit?: Exit },
 *   finish_reason: FinishReason | null, logprobs: null }[]} choices
 * @property {CompletionUsage | null} [usage] with `stream_options: { include_usage: true }`: null
 *   but in the last chunk, which has no choices
 */
import { onAbort } from '../link/abort.js';
import { ExitLMError } from '../link/errors.js';
import { exitOf, newId, summaryOf, textOf } from './shared.js';

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
  'parallel_tool_calls',
  'safety_identifier',
  'prompt_cache_key',
  'prompt_cache_retention',
  'reasoning_effort',
  'verbosity',
]);

/**
 * Parameters that are taken only with the value that asks for nothing. @type {Record<string,
 * (value: any) => boolean>}
 */
const ONLY_NEUTRAL = {
  n: (value) => value === 1,
  tools: (value) => Array.isArray(value) && value.length === 0,
  tool_choice: (value) => value === 'none' || value === 'auto',
  functions: (value) => Array.isArray(value) && value.length === 0,
  function_call: (value) => value === 'none' || value === 'auto',
  logprobs: (value) => value === false,
  top_logprobs: (value) => value === 0,
  logit_bias: (value) => Object.keys(value).length === 0,
  presence_penalty: (value) => value === 0,
  frequency_penalty: (value) => value === 0,
  modalities: (value) => Array.isArray(value) && value.every((m) => m === 'text'),
  audio: () => false,
  prediction: () => false,
  web_search_options: () => false,
};

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
};

/**
 * Checks what was asked for.
 * @param {CreateParameters} parameters
 * @returns {ChatRequest}
 */
export function readRequest(parameters) {
  const messages = readMessages(parameters?.messages);
  const { model, stream, stream_options: streaming } = parameters;
  return {
    messages,
    options: optionsIn(parameters),
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

/** @param {CreateParameters} parameters @returns {GenerateOptions} */
function optionsIn(parameters) {
  /** @type {Record<string, unknown>} */
  const options = {};
  for (const [name, value] of Object.entries(parameters)) {
    if (value === null || value === undefined || WITHOUT_EFFECT.has(name)) continue;
    if (name === 'response_format') Object.assign(options, shapeOf(value));
    else if (Object.hasOwn(TAKEN, name)) {
      if (!(Array.isArray(value) && value.length === 0)) options[TAKEN[name]] = value;
    } else if (Object.hasOwn(ONLY_NEUTRAL, name)) {
      if (!ONLY_NEUTRAL[name](value))
        throw new ExitLMError(
          'USAGE',
          `parameter ${name}: not supported by ExitLM (${JSON.stringify(value)?.slice(0, 80)} was given); leave it out`,
        );
    } else
      throw new ExitLMError(
        'USAGE',
        `parameter ${name}: unknown to ExitLM; it takes ${Object.keys(TAKEN).join(', ')}`,
      );
  }
  return options;
}

/** @param {OpenAIMessage[]} messages @returns {ChatMessage[]} */
function readMessages(messages) {
  if (!Array.isArray(messages) || messages.length === 0)
    throw new ExitLMError(
      'USAGE',
      'messages: a list with at least one { role, content } was expected',
    );
  return messages.map((message, i) => {
    const where = `messages[${i}]`;
    const { role, content } = message ?? {};
    if (
      role === 'tool' ||
      role === 'function' ||
      /** @type {any} */ (message)?.tool_calls?.length
    ) {
      throw new ExitLMError('USAGE', `${where}: tools are not supported by ExitLM`);
    }
    if (role !== 'system' && role !== 'developer' && role !== 'user' && role !== 'assistant') {
      throw new ExitLMError(
        'USAGE',
        `${where}.role: 'system', 'developer', 'user' or 'assistant' was expected, not ${JSON.stringify(role)}`,
      );
    }
    return {
      role: role === 'developer' ? 'system' : role,
      content: textOf(content, `${where}.content`),
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

/** @param {Result} result @returns {CompletionUsage} */
const usageOf = ({ usage: { promptTokens, completionTokens, reusedTokens } }) => ({
  prompt_tokens: promptTokens,
  completion_tokens: completionTokens,
  total_tokens: promptTokens + completionTokens,
  prompt_tokens_details: { cached_tokens: reusedTokens },
});

/** @param {Result} result @returns {FinishReason} */
const finishOf = ({ reason }) => (reason === 'length' ? 'length' : 'stop');

/**
 * The whole reply.
 * @param {Model} lm
 * @param {ChatRequest} request
 * @param {Reply} reply
 * @returns {Promise<ChatCompletion>}
 */
export async function makeCompletion(lm, request, reply) {
  const head = about(lm, request);
  /** @type {Exit[]} */
  const tokens = [];
  for await (const token of reply) tokens.push(exitOf(token));
  const result = await reply.result;
  return {
    ...head,
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        message: {
          role: 'assistant',
          content: result.text,
          refusal: null,
          exit: { ...summaryOf(result, lm, request.options), tokens },
        },
        finish_reason: finishOf(result),
        logprobs: null,
      },
    ],
    usage: usageOf(result),
  };
}

/**
 * The reply in chunks. It is begun when the first is asked for.
 * @param {Model} lm
 * @param {ChatRequest} request
 * @param {() => Reply} begin
 * @param {AbortSignal} [stopped] ends the chunks without an error
 * @returns {AsyncGenerator<ChatCompletionChunk, void, undefined>}
 */
export async function* makeChunks(lm, request, begin, stopped) {
  if (stopped?.aborted) return;
  const head = about(lm, request);
  /**
   * @type {(delta: ChatCompletionChunk['choices'][0]['delta'], finish?: FinishReason | null) =>
   *   ChatCompletionChunk}
   */
  const chunk = (delta, finish = null) => ({
    ...head,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta, finish_reason: finish, logprobs: null }],
    ...(request.withUsage ? { usage: null } : {}),
  });
  const reply = begin();
  const unlisten = onAbort(stopped, () => reply.cancel());
  try {
    let first = true;
    for await (const token of reply) {
      if (first) yield chunk({ role: 'assistant', content: '' });
      first = false;
      if (stopped?.aborted) return;
      yield chunk({ content: token.text, exit: exitOf(token) });
      if (stopped?.aborted) return;
    }
    const result = await reply.result;
    if (stopped?.aborted) return;
    if (first) yield chunk({ role: 'assistant', content: '' });
    yield chunk({}, finishOf(result));
    if (request.withUsage) yield { ...chunk({}), choices: [], usage: usageOf(result) };
  } finally {
    unlisten();
    reply.cancel();
  }
}
