// Saved work as colour, and the sums of an answer. Eleven steps from much saved (bright) to nothing
// (dark), in style.css: viridis, whose lightness falls evenly, so that it reads without colour vision
// too.
import { ARRIVING, FREE } from './store.js';

/** @typedef {import('./store.js').Run} Run */

export const STEPS = 11;

/**
 * What the brightest colour stands for: somewhat more than the first exit saves. @param {{ of:
 * number, exits: number[] }} run
 */
const most = ({ of, exits }) => (exits.length && of ? 1 - 0.75 * (exits[0] / of) : 1);

/**
 * By the root, since what most exits save is little beside what the first does.
 * @param {number} work share of a full token's multiply-adds
 * @param {{ of: number, exits: number[] }} run
 * @returns {number} 0 … STEPS - 1
 */
export function stepOf(work, run) {
  const saved = Math.max(0, Math.min(1, (1 - work) / most(run)));
  return Math.round((1 - Math.sqrt(saved)) * (STEPS - 1));
}

/** @param {number} head @param {{ of: number, exits: number[] }} run */
export function nameOfHead(head, { of, exits }) {
  if (head < 0) return `all ${of} layers`;
  return exits[head] === of ? 'vocabulary exit' : `layer ${exits[head] ?? '?'}`;
}

/** What a head is, in a sentence. @param {number} head @param {{ of: number, exits: number[] }} run */
export function aboutHead(head, { of, exits }) {
  if (head < 0) return 'The whole model: nothing is saved.';
  return exits[head] === of
    ? `All ${of} layers were run, but only the commonest words were weighed, not the whole vocabulary.`
    : `The layers after layer ${exits[head]} were not run: their answer was sure already.`;
}

/** @type {WeakMap<Run, { n: number, layers: number, work: number, free: number, clean: number, ms: number | null }>} */
const known = new WeakMap();

/** The sums of a run's tokens; each token is looked at once. @param {Run} run */
export function sums(run) {
  const sum = known.get(run) ?? { n: 0, layers: 0, work: 0, free: 0, clean: 0, ms: 0 };
  known.set(run, sum);
  for (; sum.n < run.tokens.length; sum.n++) {
    const [, layer, work, , , , ms, marks = 0] = run.tokens[sum.n];
    sum.layers += layer;
    sum.work += work;
    sum.free += Number((marks & FREE) > 0);
    // the first token's time is that of the prompt
    if (sum.n === 0 || marks & ARRIVING || sum.ms === null) continue;
    sum.clean++;
    sum.ms = ms === null ? null : sum.ms + ms;
  }
  return sum;
}

const ENOUGH = 8; // tokens whose time says something

/**
 * Tokens a second, of the tokens after the first that did not wait for the line.
 * @param {Run} run
 * @returns {number | null}
 */
export function speedOf(run) {
  const { n, clean, ms } = sums(run);
  if (run.rate) return run.rate;
  const all = clean === n - 1; // then the engine's own figure is the finer one
  if (all && run.result?.timing) return run.result.timing.tokensPerSecond;
  return ms && (all || clean >= ENOUGH) ? (1000 * clean) / ms : null;
}

/** @param {Run} run */
export const meanDepth = (run) =>
  run.result?.meanDepth ?? sums(run).layers / (run.tokens.length || 1) / (run.of || 1);
/** @param {Run} run */
export const meanWork = (run) => run.result?.meanWork ?? sums(run).work / (run.tokens.length || 1);

/** How many times as fast as the full model. @param {Run} run */
export function ratioOf(run) {
  const rate = speedOf(run);
  return rate && run.full && run.mode !== 'full' ? rate / run.full : null;
}

/** @param {number} work share of the full model's */
export function savedWork(work) {
  const share = Math.round((1 - work) * 100);
  if (share === 0) return 'no work saved';
  return share > 0 ? `${share} % of the work saved` : `${-share} % more work`;
}

/** @param {number} ratio */
export const asFast = (ratio) => `${ratio.toFixed(2)}× as fast as full`;
