/**
 * Thresholds for the caller's own text, on the device, with the guarantee of `exitlm calibrate`
 * (src/train/calibrate.h): the unit is the conversation; for each setting X is the share of a
 * conversation's tokens that exit and differ from the full model's choice in the same context, on
 * text that the engine itself writes with these exits on. A betting test (Waudby-Smith and Ramdas)
 * rejects "E[X] > 1 - accuracy" at level delta; settings are tested in a fixed order, from safe to
 * bold, and the first that is not rejected ends it.
 *
 * The order is laid out before the conversations are looked at: it comes from the heads file alone.
 * The conversations are shuffled, the same way each time, for a list may be sorted by topic.
 *
 * @typedef {import('../link/types.js').Exits} Exits
 * @typedef {import('../link/types.js').ChatMessage} ChatMessage
 * @typedef {import('../link/protocol.js').RiskQuestion} RiskQuestion
 *
 * @typedef {object} CalibrateOptions
 * @property {number} [accuracy] to be certified, 0.5 … 0.999; `lm.exits.defaultAccuracy`
 * @property {number} [delta] the promise may fail with this probability over the draw of the
 *   conversations; 0.05
 * @property {number} [maxTokens] longest answer; 96
 * @property {AbortSignal} [signal]
 * @property {(progress: CalibrateProgress) => void} [onProgress] hears what is done, and how far it is
 *
 * @typedef {object} CalibrateProgress
 * @property {number} setting number of the setting that is measured, from 1
 * @property {number} settings at most
 * @property {number} conversation done with this setting
 * @property {number} conversations
 * @property {number} tokens written so far
 *
 * @typedef {object} Calibration
 * @property {boolean} certified true: the thresholds are in use from the next reply on. False:
 *   nothing has changed
 * @property {number} accuracy
 * @property {number} delta
 * @property {string} reason a sentence: what was certified, or what is missing
 * @property {number[] | null} threshold a head exits where its uncertainty is below
 * @property {number | null} bound upper estimate of the disagreement, at 1 - delta, of the setting
 *   that was chosen by it; what is certified is 1 - accuracy
 * @property {number} agreement measured: mean over conversations of the share of tokens that are
 *   the full model's
 * @property {number[]} coverage share of tokens that exit at each head
 * @property {number} meanDepth
 * @property {number} conversations distinct ones that were given
 * @property {number} leftOut of those, how many are empty or do not fit the context
 * @property {number} measured of those that are left, how many it took
 * @property {number} tokens
 * @property {number | null} needed not certified: about how many conversations like these it would
 *   take; null: more of them do not help
 */
import { ExitLMError } from '../link/errors.js';
import { number, usage } from '../link/options.js';

/**
 * Settings, safe to bold, by what the heads file says: some stricter than the level, the level's
 * own, some bolder. @param {Exits} exits @param {number} accuracy
 */
export function settingsFor(exits, accuracy) {
  /** @type {number[][]} */
  const path = [];
  let wanted = 0;
  const rows = exits.levels.filter(
    (l) =>
      l.strategy === 'risk' &&
      l.kv === exits.kv &&
      l.kvType === exits.kvType &&
      !l.temperature &&
      l.certified &&
      !l.onDevice &&
      l.threshold.some((t) => t > 0),
  );
  rows.sort((a, b) => b.accuracy - a.accuracy || a.maxTokens - b.maxTokens);
  for (const [i, row] of rows.entries()) {
    // Longer replies may have a stricter row of the same level.
    if (i > 0 && row.accuracy === rows[i - 1].accuracy) continue;
    if (String(row.threshold) === String(path[path.length - 1])) continue;
    if (row.accuracy >= accuracy - 1e-6) wanted = path.length;
    path.push(row.threshold);
  }
  if (path.length === 0)
    return [0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3].map((t) => exits.layers.map(() => t));
  const safer = path.slice(Math.max(0, wanted - 2), wanted);
  if (safer.length < 2)
    safer.unshift(...[0.25, 0.5].slice(safer.length).map((part) => path[0].map((t) => t * part)));
  const steps = [...safer, ...path.slice(wanted, wanted + 4)];
  // Whose text is a little easier or harder than the file's need not lose a whole level.
  const halfway = (/** @type {number} */ i) =>
    steps[i].map((t, h) => Math.sqrt(t * steps[i - 1][h]));
  for (const i of [3, 2]) if (steps[i]) steps.splice(i, 0, halfway(i));
  return steps;
}

/**
 * @param {unknown} conversations
 * @returns {ChatMessage[][]} distinct ones; of each what comes before the first answer, and the
 *   further turns of the user
 */
function readConversations(conversations) {
  if (!Array.isArray(conversations))
    usage('conversations', 'a list of conversations', conversations);
  const distinct = new Map();
  for (const [i, item] of /** @type {any[]} */ (conversations).entries()) {
    const list = (Array.isArray(item) ? item : [item]).map((/** @type {any} */ m) =>
      typeof m === 'string' ? { role: 'user', content: m } : m,
    );
    const kept = list.filter((m) => m?.role !== 'assistant');
    if (
      kept.some((m) => typeof m?.role !== 'string' || typeof m?.content !== 'string') ||
      !kept.some((m) => m.role === 'user')
    ) {
      throw new ExitLMError(
        'USAGE',
        `conversations[${i}]: a text, a list of the user's texts, or a list of { role, content } with a user's message was expected`,
      );
    }
    distinct.set(
      JSON.stringify(kept),
      kept.map(({ role, content }) => ({ role, content })),
    );
  }
  return shuffled([...distinct.values()]);
}

/**
 * @template T
 * @param {T[]} list
 * @returns {T[]} in an order that depends on its length alone
 */
function shuffled(list) {
  let state = 1;
  for (let i = list.length - 1; i > 0; i--) {
    state = (state * 48271) % 2147483647;
    const j = state % (i + 1);
    [list[i], list[j]] = [list[j], list[i]];
  }
  return list;
}

/**
 * @param {object} model
 * @param {Exits | null} model.exits
 * @param {number} model.layers of the whole model
 * @param {(messages: ChatMessage[], options: any) => { result: Promise<import('./reply.js').Result>
 *   }} model.chat
 * @param {(question: RiskQuestion) => number | Promise<number>} model.risk the engine's
 * @param {unknown} conversations
 * @param {CalibrateOptions} options
 * @returns {Promise<Calibration>}
 */
export async function calibrate({ exits, layers, chat, risk }, conversations, options) {
  if (!exits)
    throw new ExitLMError(
      'USAGE',
      'calibrate needs exit heads, and none are loaded: give the option heads to ExitLM.load',
    );
  if (exits.kv !== 'exact')
    throw new ExitLMError(
      'UNSUPPORTED',
      `calibrate measures with exact K/V; these heads are for ${exits.kv}`,
    );
  const { signal, onProgress } = options;
  const accuracy =
    number(options, 'accuracy', 0.5, 0.999) ?? Math.min(exits.defaultAccuracy, 0.999);
  const delta = number(options, 'delta', 1e-6, 0.5) ?? 0.05;
  const maxTokens = number(options, 'maxTokens', 1, 1024, true) ?? 96;
  const alpha = 1 - accuracy;
  const distinct = readConversations(conversations);
  const list = distinct.filter((messages) => messages.some((m) => m.content.trim()));
  const needed = (/** @type {number[]} */ xs) => risk({ of: 'needed', xs, alpha, delta });
  const least = await needed([]);
  const settings = settingsFor(exits, accuracy);
  let tokens = 0;

  /**
   * One setting over the conversations, until it is decided. @param {number[]} threshold @param
   * {number} setting
   */
  const measure = async (threshold, setting) => {
    /** @type {number[]} */
    const xs = [];
    let won = false;
    const planned = list.length;
    const counts = exits.layers.map(() => 0);
    let written = 0;
    for (const conversation of [...list]) {
      const sum = await answer(chat, conversation, { threshold, maxTokens, signal });
      if (!sum) {
        list.splice(list.indexOf(conversation), 1);
        continue;
      }
      written += sum.tokens;
      tokens += sum.tokens;
      sum.exits.forEach((n, head) => {
        counts[head] += n;
      });
      xs.push(sum.x);
      won = (await risk({ of: 'p', xs, planned, alpha, delta })) <= delta;
      onProgress?.({
        setting,
        settings: settings.length,
        conversation: xs.length,
        conversations: list.length,
        tokens,
      });
      if (won) break;
    }
    const coverage = counts.map((n) => (written ? n / written : 0));
    return {
      threshold,
      won,
      xs,
      tokens: written,
      coverage,
      agreement: 1 - mean(xs),
      meanDepth: 1 - coverage.reduce((sum, c, h) => sum + c * (1 - exits.layers[h] / layers), 0),
    };
  };
  /** @typedef {Awaited<ReturnType<typeof measure>>} Measured */

  /** @type {Measured | null} */
  let best = null;
  /** @type {Measured | null} */
  let failed = null;
  if (list.length >= least) {
    for (const [i, threshold] of settings.entries()) {
      const measured = await measure(threshold, i + 1);
      if (!measured.won) {
        failed = measured;
        break;
      }
      best = measured;
    }
  }
  const shown = best ?? failed;
  const base = {
    accuracy,
    delta,
    agreement: shown?.agreement ?? 1,
    coverage: best?.coverage ?? exits.layers.map(() => 0),
    meanDepth: best?.meanDepth ?? 1,
    conversations: distinct.length,
    leftOut: distinct.length - list.length,
    measured: shown?.xs.length ?? 0,
    tokens,
  };
  if (best) {
    const bound = await risk({ of: 'upper', xs: best.xs, planned: list.length, delta });
    if (!best.coverage.some((c) => c > 0)) {
      return {
        certified: true,
        ...base,
        threshold: best.threshold,
        bound,
        needed: null,
        reason: `accuracy ${accuracy} holds, but only because no token of ${best.xs.length} conversations exits`,
      };
    }
    const promise = `over replies to prompts like these at most ${percent(alpha)} of a reply's tokens are expected to differ from the full model's, with confidence ${percent(1 - delta)}`;
    return {
      certified: true,
      ...base,
      threshold: best.threshold,
      bound,
      needed: null,
      reason: `certified with ${best.xs.length} conversations: ${promise}`,
    };
  }
  const enough = (failed ? await needed(failed.xs) : least) || null;
  const out = distinct.length - list.length;
  const given = `${list.length} distinct conversation${list.length === 1 ? '' : 's'}${out ? ` (${out} left out: empty, or too long for the context)` : ''}`;
  let reason;
  if (!failed)
    reason = `accuracy ${accuracy} cannot be certified with ${given}: even without one wrong token it takes ${least}`;
  else if (enough === null)
    reason = `accuracy ${accuracy} does not hold on these conversations: the safest setting disagrees on ${percent(1 - failed.agreement)} of the tokens; ask for a lower accuracy`;
  else
    reason = `accuracy ${accuracy} cannot be certified with ${given}: about ${enough} like these would do`;
  return {
    certified: false,
    ...base,
    threshold: null,
    bound: null,
    needed: enough,
    reason: `${reason}; the thresholds are as they were`,
  };
}

/**
 * One conversation, its answers written by the model with the exits on, each exit verified.
 * @param {(messages: ChatMessage[], options: any) => { result: Promise<import('./reply.js').Result>
 *   }} chat
 * @param {ChatMessage[]} conversation
 * @param {{ threshold: number[], maxTokens: number, signal?: AbortSignal }} options
 *   null: it does not fit the context
 */
async function answer(chat, conversation, { threshold, maxTokens, signal }) {
  /** @type {ChatMessage[]} */
  const messages = [];
  const exits = threshold.map(() => 0);
  let tokens = 0;
  let wrong = 0;
  for (const message of conversation) {
    messages.push(message);
    if (message.role !== 'user') continue;
    let result;
    try {
      result = await chat([...messages], {
        mode: 'exit',
        kv: 'exact',
        thresholds: threshold,
        audit: 1,
        maxTokens,
        signal,
      }).result;
    } catch (error) {
      if (/** @type {{ code?: string }} */ (error)?.code !== 'CONTEXT_FULL') throw error;
      if (messages.filter((m) => m.role === 'user').length === 1) return null;
      break; // over where it stands
    }
    let exited = 0;
    for (const head of exits.keys()) {
      exits[head] += result.exits[head];
      exited += result.exits[head];
    }
    tokens += result.usage.completionTokens;
    // An exit that was not verified counts as wrong.
    wrong += result.auditDisagreed + Math.max(0, exited - result.audited);
    messages.push({ role: 'assistant', content: result.text });
  }
  return { tokens, exits, x: Math.min(1, wrong / Math.max(1, tokens)) };
}

/** @param {number[]} xs */
const mean = (xs) => (xs.length ? xs.reduce((a, b) => a + b, 0) / xs.length : 0);
/** @param {number} share */
const percent = (share) => `${(100 * share).toFixed(1)} %`;
