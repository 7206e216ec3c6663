/**
 * Chat completions in the shape of OpenAI's client library:
 *
 * ```js
 * import { OpenAI } from 'exitlm/openai';
 * const client = new OpenAI({ model: '/models/smollm2-135m-instruct.gguf' });   // or { lm } with a loaded ExitLM
 * const stream = await client.chat.completions.create({ messages, stream: true });
 * for await (const chunk of stream) show(chunk.choices[0].delta.content, chunk.choices[0].delta.exit);
 * ```
 *
 * What the engine does not do (tools, several choices, JSON output, log-probabilities, …) is refused by name, with the code USAGE.
 * Two things are ExitLM's: temperature is 0 where it is left out, and beside OpenAI's parameters `mode`, `accuracy`, `strategy`,
 * `top_k`, `min_p`, `repeat_penalty`, `kv` and `audit` are taken.
 *
 * @typedef {import('./adapter.js').ExitLM} ExitLM
 * @typedef {import('./adapter.js').Exit} Exit
 * @typedef {import('./adapter.js').ExitSummary} ExitSummary
 * @typedef {import('./adapter.js').LoadOptions} LoadOptions
 * @typedef {import('./adapter.js').ModelSource} ModelSource
 * @typedef {import('./adapter.js').GenerateOptions} GenerateOptions
 * @typedef {import('./template.js').ChatMessage} ChatMessage
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
 * @property {{ index: 0, message: { role: 'assistant', content: string, refusal: null, exit: ExitSummary & { tokens: Exit[] } }, finish_reason: FinishReason, logprobs: null }[]} choices
 * @property {CompletionUsage} usage
 *
 * @typedef {object} ChatCompletionChunk
 * @property {string} id
 * @property {'chat.completion.chunk'} object
 * @property {number} created
 * @property {string} model
 * @property {string} system_fingerprint
 * @property {{ index: 0, delta: { role?: 'assistant', content?: string, exit?: Exit }, finish_reason: FinishReason | null, logprobs: null }[]} choices
 * @property {CompletionUsage | null} [usage] with `stream_options: { include_usage: true }`: null but in the last chunk, which has no choices
 */
import { exitOf, isModel, lazyModel, newId, summaryOf, textOf } from './adapter.js';
import { ExitLMError } from './errors.js';

/** Parameters that change nothing here. */
const WITHOUT_EFFECT = new Set(['model', 'messages', 'stream', 'stream_options', 'user', 'metadata', 'store', 'service_tier', 'parallel_tool_calls',
  'safety_identifier', 'prompt_cache_key', 'prompt_cache_retention', 'reasoning_effort', 'verbosity']);

/** Parameters that are taken only with the value that asks for nothing. @type {Record<string, (value: any) => boolean>} */
const ONLY_NEUTRAL = {
  n: (value) => value === 1,
  tools: (value) => Array.isArray(value) && value.length === 0,
  tool_choice: (value) => value === 'none' || value === 'auto',
  functions: (value) => Array.isArray(value) && value.length === 0,
  function_call: (value) => value === 'none' || value === 'auto',
  response_format: (value) => value?.type === 'text',
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

/** @param {CreateParameters} parameters @returns {GenerateOptions} */
export function optionsOf(parameters) {
  /** @type {Record<string, unknown>} */
  const options = {};
  for (const [name, value] of Object.entries(parameters)) {
    if (value === null || value === undefined || WITHOUT_EFFECT.has(name)) continue;
    if (name in TAKEN) {
      if (!(Array.isArray(value) && value.length === 0)) options[TAKEN[name]] = value;
    } else if (name in ONLY_NEUTRAL) {
      if (!ONLY_NEUTRAL[name](value)) throw new ExitLMError('USAGE', `parameter ${name}: not supported by ExitLM (${JSON.stringify(value)?.slice(0, 80)} was given); leave it out`);
    } else throw new ExitLMError('USAGE', `parameter ${name}: unknown to ExitLM; it takes ${Object.keys(TAKEN).join(', ')}`);
  }
  return options;
}

/** @param {OpenAIMessage[]} messages @returns {ChatMessage[]} */
export function messagesOf(messages) {
  if (!Array.isArray(messages) || messages.length === 0) throw new ExitLMError('USAGE', 'messages: a list with at least one { role, content } was expected');
  return messages.map((message, i) => {
    const where = `messages[${i}]`;
    const { role, content } = message ?? {};
    if (role === 'tool' || role === 'function' || /** @type {any} */ (message)?.tool_calls?.length) {
      throw new ExitLMError('USAGE', `${where}: tools are not supported by ExitLM`);
    }
    if (role !== 'system' && role !== 'developer' && role !== 'user' && role !== 'assistant') {
      throw new ExitLMError('USAGE', `${where}.role: 'system', 'developer', 'user' or 'assistant' was expected, not ${JSON.stringify(role)}`);
    }
    return { role: role === 'developer' ? 'system' : role, content: textOf(content, `${where}.content`) };
  });
}

/** @param {import('./reply.js').Result} result @returns {CompletionUsage} */
const usageOf = ({ usage: { promptTokens, completionTokens, reusedTokens } }) => ({
  prompt_tokens: promptTokens,
  completion_tokens: completionTokens,
  total_tokens: promptTokens + completionTokens,
  prompt_tokens_details: { cached_tokens: reusedTokens },
});

/** @param {import('./reply.js').Result} result @returns {FinishReason} */
const finishOf = ({ reason }) => (reason === 'length' ? 'length' : 'stop');

/**
 * Chunks of one completion, for one consumer. `break` and `controller.abort()` stop the work.
 * @implements {AsyncIterable<ChatCompletionChunk>}
 */
export class ChatCompletionStream {
  #chunks;
  /** Stops the completion; the iteration then ends without an error. */
  controller;

  /**
   * @param {AsyncGenerator<ChatCompletionChunk, void, undefined>} chunks
   * @param {AbortController} controller
   */
  constructor(chunks, controller) {
    this.#chunks = chunks;
    this.controller = controller;
  }

  /** @returns {AsyncIterator<ChatCompletionChunk, void, undefined>} */
  [Symbol.asyncIterator]() {
    return this.#chunks;
  }

  /** One chunk a line, as JSON. @returns {ReadableStream<Uint8Array>} */
  toReadableStream() {
    const encoder = new TextEncoder();
    return new ReadableStream({
      pull: async (controller) => {
        const { done, value } = await this.#chunks.next();
        if (done) controller.close();
        else controller.enqueue(encoder.encode(`${JSON.stringify(value)}\n`));
      },
      cancel: async () => {
        await this.#chunks.return();
      },
    });
  }
}

/** The part of OpenAI's client that a model in the page can answer. */
export class OpenAI {
  /** @type {(() => Promise<ExitLM>) | null} */ #model = null;
  /** @type {Map<string, () => Promise<ExitLM>>} models that requests name */ #named = new Map();
  /** @type {LoadOptions} */ #loadOptions = {};
  #created = Math.floor(Date.now() / 1000);

  /**
   * @param {ExitLM | PromiseLike<ExitLM> | { lm: ExitLM | PromiseLike<ExitLM> } | ({ model?: ModelSource } & LoadOptions)} [options] a loaded
   *   model, or what to load at the first request, with the options of ExitLM.load; left out: the parameter `model` of a request is an address
   */
  constructor(options = {}) {
    const given = /** @type {any} */ (options);
    if (isModel(given) || typeof given.then === 'function') this.#model = lazyModel(given);
    else if (given.lm !== undefined) this.#model = lazyModel(given.lm);
    else {
      const { model, ...loadOptions } = given;
      this.#loadOptions = loadOptions;
      if (model !== undefined) this.#model = lazyModel(model, loadOptions);
    }
  }

  chat = {
    completions: {
      /**
       * A chat completion; with `stream: true` a ChatCompletionStream.
       * @template {CreateParameters} P
       * @param {P} parameters
       * @param {{ signal?: AbortSignal | null }} [options] an abort rejects with the signal's reason
       * @returns {Promise<P extends { stream: true } ? ChatCompletionStream : ChatCompletion>}
       */
      create: async (parameters, options) => /** @type {any} */ (await this.#create(parameters, options)),
    },
  };

  models = {
    /** What is loaded. @returns {Promise<{ object: 'list', data: { id: string, object: 'model', created: number, owned_by: string }[] }>} */
    list: async () => {
      const name = this.#model ? (await this.#model()).info.name : null;
      return { object: /** @type {const} */ ('list'), data: (name === null ? [...this.#named.keys()] : [name]).map((id) => ({ id, object: /** @type {const} */ ('model'), created: this.#created, owned_by: 'exitlm' })) };
    },
  };

  /** @param {CreateParameters} parameters @param {{ signal?: AbortSignal | null }} [options] */
  async #create(parameters, { signal } = {}) {
    const messages = messagesOf(parameters?.messages);
    const options = optionsOf(parameters);
    signal?.throwIfAborted();
    const lm = await raceWithAbort(this.#modelFor(parameters.model), signal);
    const about = {
      id: `chatcmpl-${newId()}`,
      created: Math.floor(Date.now() / 1000),
      model: parameters.model ?? lm.info.name,
      system_fingerprint: `exitlm-${lm.info.version}`,
    };
    if (parameters.stream) {
      const controller = new AbortController();
      return new ChatCompletionStream(this.#stream(lm, messages, options, about, parameters.stream_options?.include_usage === true, controller.signal, signal), controller);
    }
    const reply = lm.chat(messages, { ...options, signal: signal ?? undefined });
    /** @type {Exit[]} */
    const tokens = [];
    for await (const token of reply) tokens.push(exitOf(token));
    const result = await reply.result;
    return {
      ...about,
      object: 'chat.completion',
      choices: [{
        index: 0,
        message: { role: 'assistant', content: result.text, refusal: null, exit: { ...summaryOf(result, lm, options), tokens } },
        finish_reason: finishOf(result),
        logprobs: null,
      }],
      usage: usageOf(result),
    };
  }

  /**
   * @param {ExitLM} lm
   * @param {ChatMessage[]} messages
   * @param {GenerateOptions} options
   * @param {{ id: string, created: number, model: string, system_fingerprint: string }} about
   * @param {boolean} withUsage
   * @param {AbortSignal} stopped ends the stream
   * @param {AbortSignal | null} [signal] rejects
   * @returns {AsyncGenerator<ChatCompletionChunk, void, undefined>}
   */
  async *#stream(lm, messages, options, about, withUsage, stopped, signal) {
    if (stopped.aborted) return;
    /** @type {(delta: ChatCompletionChunk['choices'][0]['delta'], finish?: FinishReason | null) => ChatCompletionChunk} */
    const chunk = (delta, finish = null) => ({
      ...about,
      object: 'chat.completion.chunk',
      choices: [{ index: 0, delta, finish_reason: finish, logprobs: null }],
      ...(withUsage ? { usage: null } : {}),
    });
    const reply = lm.chat(messages, { ...options, signal: signal ?? undefined });
    const stop = () => reply.cancel();
    stopped.addEventListener('abort', stop, { once: true });
    try {
      let first = true;
      for await (const token of reply) {
        if (first) yield chunk({ role: 'assistant', content: '' });
        first = false;
        if (stopped.aborted) return;
        yield chunk({ content: token.text, exit: exitOf(token) });
        if (stopped.aborted) return;
      }
      const result = await reply.result;
      if (stopped.aborted) return;
      if (first) yield chunk({ role: 'assistant', content: '' });
      yield chunk({}, finishOf(result));
      if (withUsage) yield { ...chunk({}), choices: [], usage: usageOf(result) };
    } finally {
      stopped.removeEventListener('abort', stop);
      reply.cancel();
    }
  }

  /** @param {string} [name] @returns {Promise<ExitLM>} */
  #modelFor(name) {
    if (this.#model) return this.#model();
    if (!name) return Promise.reject(new ExitLMError('USAGE', 'no model: give one to new OpenAI({ model }) or to the request'));
    let model = this.#named.get(name);
    if (!model) this.#named.set(name, (model = lazyModel(name, this.#loadOptions)));
    return model();
  }
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal | null} [signal]
 * @returns {Promise<T>}
 */
async function raceWithAbort(promise, signal) {
  if (!signal) return promise;
  /** @type {() => void} */
  let unlisten = () => {};
  try {
    return await Promise.race([promise, new Promise((_, reject) => {
      const onAbort = () => reject(signal.reason);
      signal.addEventListener('abort', onAbort, { once: true });
      unlisten = () => signal.removeEventListener('abort', onAbort);
    })]);
  } finally {
    unlisten();
  }
}

export default OpenAI;
