/** ExitLM in the caller's own thread: where there are no workers. */
import { ExitLM as Base } from './exitlm.js';
import { connectLocally } from './local.js';

/**
 * A language model that can be talked to, in the caller's own thread: what that of `exitlm` has,
 * without `cache`. Nothing is cached unless
 * `cache` says so: weights lie beside the Worker.
 */
export class ExitLM extends Base {
  /** @override @type {import('./exitlm.js').Connect} */
  static connect = connectLocally;

  /**
   * @override
   * @param {import('../link/types.js').ModelSource} source
   * @param {import('../link/types.js').LoadOptions} [options]
   * @returns {Promise<ExitLM>}
   */
  static async load(source, options = {}) {
    return super.load(source, { cache: 'none', kvMaps: false, ...options });
  }
}
