/** A model that somebody names, or has. */

/**
 * @typedef {import('./exitlm.js').ExitLM} ExitLM
 * @typedef {import('../link/types.js').LoadOptions} LoadOptions
 * @typedef {import('../link/types.js').ModelSource} ModelSource
 * @typedef {ExitLM | PromiseLike<ExitLM> | ModelSource} ModelOrSource
 */

/**
 * @param {unknown} value @returns {value is ExitLM} a loaded model, of this module or of
 *   exitlm/edge
 */
export const isModel = (value) => typeof (/** @type {any} */ (value)?.chat) === 'function';

/**
 * A model that is loaded when it is first asked for; a load that failed is tried again at the next
 * time.
 * @param {ModelOrSource} given
 * @param {LoadOptions} [options]
 * @returns {() => Promise<ExitLM>}
 */
export function lazyModel(given, options) {
  /** @type {Promise<ExitLM> | null} */
  let loading = null;
  const load = async () => {
    const value = await given;
    if (isModel(value)) return value;
    // only now: who passes a model may be where there are no workers
    const { ExitLM } = await import('./page.js');
    return ExitLM.load(/** @type {ModelSource} */ (value), options);
  };
  return () => {
    if (loading) return loading;
    const mine = load();
    mine.catch(() => {
      if (loading === mine) loading = null;
    });
    loading = mine;
    return mine;
  };
}
