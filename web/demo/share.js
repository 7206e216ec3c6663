// A question and its settings as a link. They are in the address's fragment, which no server is
// told, and whoever follows it sees them before anything is asked: a link comes from a stranger.
import { settings } from './store.js';

const MOST_TEXT = 4000;
const MOST_SYSTEM = 2000;

/** @param {number} low @param {number} high @param {boolean} [whole] */
const within =
  (low, high, whole = false) =>
  (/** @type {string} */ text) => {
    const value = Number(text);
    const right = text.trim() !== '' && value >= low && value <= high;
    return right && (!whole || Number.isInteger(value)) ? value : undefined;
  };
/** @param {...string} names */
const oneOf =
  (...names) =>
  (/** @type {string} */ text) =>
    names.includes(text) ? text : undefined;

/** What a link may set, and what it may set it to; anything else is passed over. */
const SHARED = {
  mode: oneOf('exit', 'lossless', 'full'),
  accuracy: within(0.8, 0.99),
  temperature: within(0, 1.5),
  topP: within(0.1, 1),
  repeatPenalty: within(1, 1.5),
  maxTokens: within(1, 8192, true),
  seed: (/** @type {string} */ text) => (/^\d{1,15}$/.test(text) ? text : undefined),
  system: (/** @type {string} */ text) => text.slice(0, MOST_SYSTEM),
  compare: (/** @type {string} */ text) => (text === 'true' ? true : undefined),
};
const NAMES = /** @type {(keyof typeof SHARED)[]} */ (Object.keys(SHARED));

/** @param {string} text the question @returns {string} */
export function linkTo(text) {
  const fragment = new URLSearchParams({ ask: text.slice(0, MOST_TEXT) });
  for (const name of NAMES) {
    const value = settings[name];
    if (value !== null && value !== '' && value !== false) fragment.set(name, String(value));
  }
  return new URL(`#${fragment}`, location.href).href;
}

/**
 * What an address's fragment asks for; null: nothing.
 * @param {string} hash
 * @returns {{ text: string, changes: Partial<typeof settings> } | null}
 */
export function readLink(hash) {
  const fragment = new URLSearchParams(hash.replace(/^#/, ''));
  const text = (fragment.get('ask') ?? '').slice(0, MOST_TEXT).trim();
  if (!text) return null;
  const changes = Object.fromEntries(
    NAMES.flatMap((name) => {
      const given = fragment.get(name);
      const value = given === null ? undefined : SHARED[name](given);
      return value === undefined ? [] : [[name, value]];
    }),
  );
  return { text, changes };
}
