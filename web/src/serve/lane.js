/** The line before the engine. */
import { later, Refusal } from '../chat/refusal.js';
import { onAbort } from '../link/abort.js';
import { deferred } from '../link/platform.js';

/**
 * One question's turn.
 * @typedef {object} Turn
 * @property {boolean} started it has begun to use the engine
 * @property {Promise<unknown>} settled resolves when the engine does no more for it
 * @property {string} [client] who asks
 * @property {() => void} [leave] gives its conversation's place back
 */

/** How often who uses the engine gives a sign of life. */
export const BEAT_MS = 500;
/** So many beats without a sign of life, and the holder counts as gone. */
export const SILENT_BEATS = 20;

/**
 * The right to use the engine: some have it, others wait for it. Of those who wait, the first one has
 * it next whose client has it least often now.
 */
export class Lane {
  /** Beats without a sign of life. @type {Map<Turn, number>} */
  #holders = new Map();
  /** @type {{ turn: Turn, resolve: (value: unknown) => void }[]} */ #waiting = [];
  #maxWaiting;
  #onLost;
  #places;

  /**
   * @param {number} maxWaiting @param {() => void} onLost somebody went away in the middle of using
   *   the engine
   * @param {number} [places] who may have it at a time
   */
  constructor(maxWaiting, onLost, places = 1) {
    this.#maxWaiting = maxWaiting;
    this.#onLost = onLost;
    this.#places = places;
  }

  get waiting() {
    return this.#waiting.length;
  }

  /** Whether who comes now is refused. */
  get full() {
    return this.#holders.size >= this.#places && this.#waiting.length >= this.#maxWaiting;
  }

  get answering() {
    return this.#holders.size;
  }

  /** @param {Turn} turn lives */
  beat(turn) {
    if (this.#holders.has(turn)) this.#holders.set(turn, -1);
  }

  /**
   * @param {Turn} turn @param {AbortSignal} signal @returns {Promise<void>} it is this one's turn
   */
  async acquire(turn, signal) {
    if (this.#holders.size < this.#places) {
      this.#holders.set(turn, -1);
      return;
    }
    if (this.full) {
      throw new Refusal(
        503,
        'overloaded',
        `${this.#waiting.length} questions are waiting already; ask again later`,
        later(1 + this.#waiting.length),
      );
    }
    const { promise, resolve, reject } = deferred();
    const waiter = { turn, resolve };
    this.#waiting.push(waiter);
    const timer = setInterval(() => {
      if (this.#waiting[0] === waiter) this.#listen();
    }, BEAT_MS);
    const unlisten = onAbort(signal, reject);
    try {
      await promise;
    } catch (error) {
      if (this.#waiting.includes(waiter)) this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
      throw error;
    } finally {
      clearInterval(timer);
      unlisten();
    }
  }

  /** Does nothing where it is somebody else's turn. @param {Turn} turn */
  release(turn) {
    if (this.#holders.delete(turn)) this.#next();
  }

  /** One more beat; who has been silent for too long counts as gone. */
  #listen() {
    for (const [turn, silent] of [...this.#holders]) {
      this.#holders.set(turn, silent + 1);
      if (silent + 1 < SILENT_BEATS) continue;
      if (turn.started) this.#onLost();
      this.release(turn);
    }
  }

  #next() {
    const holds = (/** @type {string | undefined} */ client) =>
      [...this.#holders.keys()].filter((turn) => turn.client === client).length;
    const least = Math.min(...this.#waiting.map(({ turn }) => holds(turn.client)));
    const at = this.#waiting.findIndex(({ turn }) => holds(turn.client) === least);
    const [next] = at < 0 ? [] : this.#waiting.splice(at, 1);
    if (!next) return;
    this.#holders.set(next.turn, -1);
    next.resolve(undefined);
  }
}
