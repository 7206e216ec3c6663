// How fast the full model is here: what an answer's speed is held against. Measured beside the answer,
// on its own question, once; again when somebody asks for it.
import { model } from './model.js';
import { speedOf } from './scale.js';

/** @typedef {import('./store.js').Run} Run */

const TOKENS = 32;
/** Enough for a question and these tokens; a whole context's K/V would take as much as the model. */
const CONTEXT = 512;

/** @type {{ lm: unknown, rate: number } | null} */
let full = null;
/** @type {AbortController | null} */
let measuring = null;

/** Somebody wants the processor. */
export const stopMeasuring = () => measuring?.abort();
export const isMeasuring = () => measuring !== null;

/** A comparison has measured it. @param {number} rate tokens a second */
export function rememberFull(rate) {
  full = { lm: model.lm, rate };
}

/** @param {Run} run */
export const isMissing = (run) => run.tokens.length > 1 && run.mode !== 'full' && !run.full;

/**
 * Gives a run the full model's speed, and its own where its tokens waited for the line.
 * @param {Run} run
 * @param {{ role: string, content: string }[]} messages
 * @param {(run: Run) => object} optionsOf
 * @param {boolean} [anew]
 */
export async function measure(run, messages, optionsOf, anew = false) {
  const { lm, state } = model;
  if (!lm || state !== 'ready' || measuring) return;
  const abort = new AbortController();
  measuring = abort;
  let session;
  try {
    session = lm.session({ contextLength: Math.min(CONTEXT, lm.info.contextLength) });
    const rateOf = async (/** @type {object} */ options) => {
      const { result } = session.chat(messages, {
        ...options,
        overflow: 'drop',
        maxTokens: TOKENS,
        signal: abort.signal,
      });
      return (await result).timing.tokensPerSecond;
    };
    if (anew || full?.lm !== lm) {
      const rate = await rateOf({ ...optionsOf(run), mode: 'full' });
      if (rate) rememberFull(rate);
    }
    if (!speedOf(run)) run.rate = await rateOf(optionsOf(run));
    run.full = full?.lm === lm ? full.rate : null;
  } catch {
    // stopped, or no room: the answer stands without it
  } finally {
    session?.dispose();
    measuring = null;
  }
}
