/**
 * What the adapters to other interfaces share: reaching a model, and reading messages that other libraries write.
 *
 * @typedef {import('./exitlm.js').ExitLM} ExitLM
 * @typedef {import('./exitlm.js').LoadOptions} LoadOptions
 * @typedef {import('./exitlm.js').ModelSource} ModelSource
 * @typedef {import('./exitlm.js').GenerateOptions} GenerateOptions
 * @typedef {import('./reply.js').Token} Token
 * @typedef {import('./reply.js').Result} Result
 *
 * @typedef {object} Exit how deep a token went
 * @property {number} layer
 * @property {number} of
 * @property {number} depth
 * @property {number} work
 * @property {number} head
 * @property {number} confidence
 *
 * @typedef {{ mode: string, meanDepth: number, meanWork: number, exits: Record<string, number>, drafted: number, accepted: number,
 *   tokensPerSecond: number | null }} ExitSummary
 */
import { ExitLMError } from './errors.js';

/** @param {unknown} value @returns {value is ExitLM} a loaded model, of this module or of exitlm/edge */
export const isModel = (value) =>
  typeof value === 'object' && value !== null && typeof (/** @type {any} */ (value).chat) === 'function' && typeof (/** @type {any} */ (value).tokenize) === 'function';

/**
 * A model that is loaded when it is first asked for; a load that failed is tried again at the next time.
 * @param {ExitLM | PromiseLike<ExitLM> | ModelSource} given
 * @param {LoadOptions} [options]
 * @returns {() => Promise<ExitLM>}
 */
export function lazyModel(given, options) {
  /** @type {Promise<ExitLM> | null} */
  let loading = null;
  const load = async () => {
    const value = await given;
    if (isModel(value)) return value;
    const { ExitLM } = await import('./index.js'); // only now: who passes a model may be where there are no workers
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

/** @param {Token} token @returns {Exit} */
export const exitOf = ({ layer, of, depth, work, head, confidence }) => ({ layer, of, depth, work, head, confidence });

/**
 * @param {Result} result
 * @param {ExitLM} lm
 * @param {GenerateOptions} options
 * @returns {ExitSummary}
 */
export const summaryOf = ({ meanDepth, meanWork, exits, drafted, accepted, timing }, lm, { mode }) => ({
  mode: mode ?? (lm.exits ? 'exit' : 'full'),
  meanDepth,
  meanWork,
  exits,
  drafted,
  accepted,
  tokensPerSecond: timing.tokensPerSecond,
});

/**
 * The text of a message's content: a string, or a list of parts that are all text.
 * @param {unknown} content
 * @param {string} where for the error
 * @returns {string}
 */
export function textOf(content, where) {
  if (typeof content === 'string') return content;
  if (content === null || content === undefined) return '';
  if (!Array.isArray(content)) throw new ExitLMError('USAGE', `${where}: a string or a list of parts was expected, not ${typeof content}`);
  return content.map((part, i) => {
    if (typeof part === 'string') return part;
    const text = part?.text ?? part?.value;
    if (part?.type !== 'text' || typeof text !== 'string') {
      throw new ExitLMError('UNSUPPORTED', `${where}[${i}]: the model reads text only, not ${JSON.stringify(part?.type) ?? typeof part}`);
    }
    return text;
  }).join('');
}

/** @returns {string} letters and digits that are new */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(36).padStart(2, '0')).join('');
}
