/**
 * ExitLM where there are no workers and nothing may be compiled from bytes: Cloudflare Workers and the like.
 *
 * ```js
 * import { ExitLM } from 'exitlm/edge';
 * import wasm from 'exitlm/exitlm-relaxed.wasm';
 * const lm = await ExitLM.load('https://assets.local/model/manifest.json', { wasm, kvType: 'q8', contextLength: 1024, fetch: env.ASSETS.fetch.bind(env.ASSETS) });
 * ```
 */
import { ExitLM as Base } from './exitlm.js';
import { connectLocally } from './local.js';

/** A language model that can be talked to, in the caller's own thread. */
export class ExitLM extends Base {
  /** @override @type {import('./exitlm.js').Connect} */
  static connect = connectLocally;
}

export { ExitLMError } from './errors.js';
export { Reply } from './reply.js';
