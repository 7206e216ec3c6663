/**
 * ExitLM where there are no workers and nothing may be compiled from bytes: Cloudflare Workers and the like.
 *
 * ```js
 * import { ExitLM, createHandler } from 'exitlm/edge';
 * import wasm from 'exitlm/exitlm-relaxed.wasm';
 * const answer = createHandler({
 *   model: 'smollm2-135m-instruct',
 *   load: (env) => ExitLM.load('https://assets.local/model/manifest.json', { wasm, kvType: 'q8', contextLength: 1024, fetch: env.ASSETS.fetch.bind(env.ASSETS) }),
 * });
 * export default { fetch: answer };
 * ```
 */
import { ExitLM as Base } from './exitlm.js';
import { connectLocally } from './local.js';

/** A language model that can be talked to, in the caller's own thread. Nothing is cached unless `cache` says so: weights lie beside the Worker. */
export class ExitLM extends Base {
  /** @internal @override @type {import('./exitlm.js').Connect} */
  static connect = connectLocally;

  /**
   * @override
   * @param {import('./exitlm.js').ModelSource} source
   * @param {import('./exitlm.js').LoadOptions} [options]
   * @returns {Promise<ExitLM>}
   */
  static async load(source, options = {}) {
    return super.load(source, { cache: 'none', kvMaps: false, ...options });
  }
}

export { ExitLMError } from './errors.js';
export { createHandler } from './handler.js';
export { Reply } from './reply.js';

/**
 * @typedef {import('./handler.js').HandlerOptions} HandlerOptions
 * @typedef {import('./handler.js').Context} Context
 */
