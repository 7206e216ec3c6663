/** OpenAI's own client in front of a model in the page: what it calls instead of the network. */
import { ExitLMError } from '../link/errors.js';
import { createHandler } from './handler.js';

/**
 * A `fetch` for the client of the package `openai`: chat completions, completions, responses and
 * models, streamed too, with the client's own helpers and error classes.
 *
 * ```js
 * const client = new OpenAI({ baseURL: 'http://exitlm/v1', apiKey: 'none', fetch: openaiFetch(lm) });
 * ```
 *
 * @param {import('../client/exitlm.js').ExitLM | PromiseLike<import('../client/exitlm.js').ExitLM>} lm
 * @param {Partial<Pick<import('./handler.js').HandlerOptions, 'model' | 'defaults' | 'onError' |
 *   'maxWaiting'>>} [options] `model`: the only name that requests may give; left out: they may give any
 * @returns {(input: string | URL | Request, init?: RequestInit) => Promise<Response>}
 */
export function openaiFetch(lm, options = {}) {
  if (typeof (/** @type {any} */ (lm)?.chat ?? /** @type {any} */ (lm)?.then) !== 'function')
    throw new ExitLMError('USAGE', 'openaiFetch: an ExitLM was expected');
  /** @type {Promise<ReturnType<typeof createHandler>> | undefined} */
  let handler;
  const made = async () => {
    const { info } = await lm;
    return createHandler({
      model: info.name,
      anyModel: options.model === undefined,
      load: async () => lm,
      maxBodyBytes: Infinity,
      maxOutputTokens: Infinity,
      maxWaiting: Infinity,
      onError: () => {}, // the caller hears of it
      ...options,
    });
  };
  return async (input, init) => {
    const request = new Request(input, init);
    const answer = await (handler ??= made());
    const { signal } = request;
    const response = await answer(request);
    signal.throwIfAborted();
    return response.body
      ? new Response(response.body.pipeThrough(new TransformStream(), { signal }), response)
      : response;
  };
}
