/** ExitLM with its engine in a worker, where there are any. */
import { connect } from './connect.js';
import { ExitLM as Base } from './exitlm.js';

const kept = async () => (await import('../cache/cache.js')).modelCache;

/** A language model that can be talked to. */
export class ExitLM extends Base {
  /** @override @type {import('./exitlm.js').Connect} */
  static connect = connect;

  /** Models that earlier visits left on this device. */
  static cache = {
    /**
     * @returns {Promise<import('../link/types.js').CachedModel[]>} exit heads count as files of
     *   their own, and so do K/V maps that came after them
     */
    list: async () => (await kept()).list(),

    /**
     * Removes what is kept of a model, its exit heads included.
     * @param {string | URL} url
     * @returns {Promise<boolean>} whether there was anything
     */
    delete: async (url) => (await kept()).delete(url),

    /** @returns {Promise<number>} bytes that all of them take */
    size: async () => (await kept()).size(),
  };
}
