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
 * `response_format` may be `json_object` or `json_schema` (docs/shaped.md); there are tools
 * (docs/tools.md) and log-probabilities (docs/logprobs.md). What the engine does not do (several
 * choices, …) is refused by name, with the code USAGE. Two things are ExitLM's: temperature is 0
 * where it is left out, and beside OpenAI's parameters `mode`, `accuracy`, `strategy`, `top_k`, `min_p`,
 * `repeat_penalty`, `kv` and `audit` are taken.
 *
 * @typedef {import('./exitlm.js').ExitLM} ExitLM
 * @typedef {import('../link/types.js').LoadOptions} LoadOptions
 * @typedef {import('../link/types.js').ModelSource} ModelSource
 * @typedef {import('../chat/completions.js').OpenAIMessage} OpenAIMessage
 * @typedef {import('../chat/completions.js').OpenAIToolCall} OpenAIToolCall
 * @typedef {import('../chat/completions.js').Logprobs} Logprobs
 * @typedef {import('../chat/completions.js').TokenLogprob} TokenLogprob
 * @typedef {import('../chat/completions.js').OpenAIExtras} OpenAIExtras
 * @typedef {import('../chat/completions.js').OpenAIParameters} OpenAIParameters
 * @typedef {import('../chat/completions.js').CreateParameters} CreateParameters
 * @typedef {import('../chat/completions.js').CompletionUsage} CompletionUsage
 * @typedef {import('../chat/completions.js').FinishReason} FinishReason
 * @typedef {import('../chat/completions.js').ChatCompletion} ChatCompletion
 * @typedef {import('../chat/completions.js').ChatCompletionChunk} ChatCompletionChunk
 */
import { makeChunks, makeCompletion, readRequest } from '../chat/completions.js';
import { orAbort } from '../link/abort.js';
import { ExitLMError } from '../link/errors.js';
import { isModel, lazyModel } from './lazy-model.js';

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
   * @param {ExitLM | PromiseLike<ExitLM> | { lm: ExitLM | PromiseLike<ExitLM> } | ({ model?:
   *   ModelSource } & LoadOptions)} [options] a loaded model, or what to load at the first request,
   *   with the options of ExitLM.load; left out: the parameter `model` of a request is an address
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
       * @param {{ signal?: AbortSignal | null }} [options] an abort rejects with the signal's
       *   reason
       * @returns {Promise<P extends { stream: true } ? ChatCompletionStream : ChatCompletion>}
       */
      create: async (parameters, options) =>
        /** @type {any} */ (await this.#create(parameters, options)),
    },
  };

  models = {
    /**
     * What is loaded. @returns {Promise<{ object: 'list', data: { id: string, object: 'model',
     * created: number, owned_by: string }[] }>}
     */
    list: async () => {
      const name = this.#model ? (await this.#model()).info.name : null;
      return {
        object: /** @type {const} */ ('list'),
        data: (name === null ? [...this.#named.keys()] : [name]).map((id) => ({
          id,
          object: /** @type {const} */ ('model'),
          created: this.#created,
          owned_by: 'exitlm',
        })),
      };
    },
  };

  /** @param {CreateParameters} parameters @param {{ signal?: AbortSignal | null }} [options] */
  async #create(parameters, { signal } = {}) {
    const request = readRequest(parameters);
    signal?.throwIfAborted();
    const lm = await orAbort(this.#modelFor(request.model), signal);
    const begin = () =>
      lm.chat(request.messages, { ...request.options, signal: signal ?? undefined });
    if (!request.stream) return makeCompletion(lm, request, begin());
    const controller = new AbortController();
    return new ChatCompletionStream(makeChunks(lm, request, begin, controller.signal), controller);
  }

  /** @param {string | null} name @returns {Promise<ExitLM>} */
  #modelFor(name) {
    if (this.#model) return this.#model();
    if (!name)
      return Promise.reject(
        new ExitLMError('USAGE', 'no model: give one to new OpenAI({ model }) or to the request'),
      );
    let model = this.#named.get(name);
    if (!model) this.#named.set(name, (model = lazyModel(name, this.#loadOptions)));
    return model();
  }
}

export default OpenAI;
