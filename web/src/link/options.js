/**
 * Checks of options: messages quote the option, what was expected, what came.
 */
import { ExitLMError } from './errors.js';

/**
 * @param {string} name
 * @param {string} expected
 * @param {unknown} value
 * @returns {never}
 */
export function usage(name, expected, value) {
  let shown = String(value);
  if (typeof value === 'string') shown = JSON.stringify(value);
  else if (typeof value === 'object' && value !== null)
    shown = value.constructor?.name ?? 'an object';
  throw new ExitLMError('USAGE', `option ${name}: ${expected} was expected, not ${shown}`);
}

/** What others call them. @type {Record<string, string>} */
const ELSEWHERE = {
  temp: 'temperature',
  maxnewtokens: 'maxTokens',
  maxcompletiontokens: 'maxTokens',
  npredict: 'maxTokens',
  nthreads: 'threads',
  numthreads: 'threads',
  nctx: 'contextLength',
  contextsize: 'contextLength',
  abortsignal: 'signal',
  stopsequences: 'stop',
  jsonschema: 'schema',
  responseformat: 'schema',
  responseconstraint: 'schema',
  responseschema: 'schema',
  outputschema: 'schema',
  format: 'schema',
  grammar: 'pattern',
  regex: 'pattern',
  functions: 'tools',
  progress: 'onProgress',
  progresscallback: 'onProgress',
};

/**
 * An object of options, also where none were given. A name that is nearly one of ours is a slip,
 * which would otherwise go unnoticed; other names are ignored, with a word about it.
 * @template {object} T
 * @param {T | null | undefined} options
 * @param {readonly string[]} names
 * @param {(message: string) => void} warn
 * @returns {T}
 */
export function knownOptions(options, names, warn) {
  if (options === undefined || options === null) return /** @type {T} */ ({});
  if (typeof options !== 'object')
    throw new ExitLMError('USAGE', `options: an object was expected, not ${typeof options}`);
  const plain = (/** @type {string} */ name) => name.replace(/[-_]/g, '').toLowerCase();
  for (const given of Object.keys(options)) {
    if (names.includes(given)) continue;
    const like =
      names.find((name) => plain(name) === plain(given)) ??
      names.find((name) => name === ELSEWHERE[plain(given)]) ??
      names.find((name) => name.length > 4 && oneSlip(plain(name), plain(given)));
    if (like) throw new ExitLMError('USAGE', `option ${given}: unknown; did you mean ${like}?`);
    warn(`option ${given}: unknown, so it is ignored; there are ${names.join(', ')}`);
  }
  return options;
}

/** One letter more, less, or another, or two changed places. @param {string} a @param {string} b */
export function oneSlip(a, b) {
  let i = 0;
  while (i < a.length && a[i] === b[i]) i++;
  const [x, y] = [a.slice(i), b.slice(i)];
  return (
    x.slice(1) === y.slice(1) ||
    x.slice(1) === y ||
    x === y.slice(1) ||
    (x[0] === y[1] && x[1] === y[0] && x.slice(2) === y.slice(2))
  );
}

/**
 * @param {Record<string, any>} options
 * @param {string} name
 * @param {number} low
 * @param {number} high
 * @param {boolean} [integer]
 * @returns {number | undefined}
 */
export function number(options, name, low, high, integer = false) {
  const value = options[name];
  if (value === undefined || value === null) return undefined;
  const kind = integer ? 'an integer' : 'a number';
  if (
    typeof value !== 'number' ||
    Number.isNaN(value) ||
    value < low ||
    value > high ||
    (integer && !Number.isInteger(value))
  ) {
    usage(
      name,
      high === Infinity || high === 0xffffffff
        ? `${kind} of at least ${low}`
        : `${kind} from ${low} to ${high}`,
      value,
    );
  }
  return value;
}

/** Whether a reply with these options has a shape. @param {Record<string, any>} options */
export const isShaped = ({ schema, json, pattern }) =>
  schema !== undefined || json === true || pattern !== undefined;

/**
 * The mode where none is asked for: what is shaped is not certified, so it is the full model's.
 * @param {boolean} shaped
 * @param {boolean} heads there are some
 */
export function defaultMode(shaped, heads) {
  if (!heads) return 'full';
  return shaped ? 'lossless' : 'exit';
}

/**
 * The mode of a reply.
 * @param {import('./types.js').GenerateOptions} options
 * @param {unknown} exits of the model; null: it has no heads
 * @returns {'full' | 'exit' | 'lossless'}
 */
export function modeOf(options, exits) {
  const { mode, tools, toolChoice } = options;
  const shaped = isShaped(options) || Boolean(tools && toolChoice !== 'none');
  return mode ?? defaultMode(shaped, Boolean(exits));
}
