/** The line before the engine. */
import { later, Refusal } from '../chat/refusal.js';
import { onAbort } from '../link/abort.js';
import { deferred } from '../link/platform.js';

/**
 * One question's turn.
 * @typedef {object} Turn
 * @property {boolean} started it has begun to use the engine
 * @property {Promise<unknown>} settled resolves when the engine does no more for it
 */

/** How often who uses the engine gives a sign of life. */
export const BEAT_MS = 500;
/** So many beats without a sign of life, and the holder counts as gone. */
export const SILENT_BEATS = 20;

/** The right to use the engine: one has it, others wait for it in order. */
export class Lane {
  /** @type {Turn | null} */ #holder = null;
  /** @type {{ turn: Turn, resolve: (value: unknown) => void }[]} */ #waiting = [];
  #beats = 0;
  #maxWaiting;
  #onLost;

  /**
   * @param {number} maxWaiting @param {() => void} onLost somebody went away in the middle of using
   *   the engine
   */
  constructor(maxWaiting, onLost) {
    this.#maxWaiting = maxWaiting;
    this.#onLost = onLost;
  }

  get waiting() {
    return this.#waiting.length;
  }

  get busy() {
    return this.#holder !== null;
  }

  beat() {
    this.#beats++;
  }

  /**
   * @param {Turn} turn @param {AbortSignal} signal @returns {Promise<void>} it is this one's turn
   */
  async acquire(turn, signal) {
    if (!this.#holder) {
      this.#holder = turn;
      return;
    }
    if (this.#waiting.length >= this.#maxWaiting) {
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
    let seen = this.#beats;
    let silent = 0;
    const timer = setInterval(() => {
      silent = seen === this.#beats ? silent + 1 : 0;
      seen = this.#beats;
      if (silent >= SILENT_BEATS && this.#waiting[0] === waiter) this.#evict();
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
    if (this.#holder === turn) this.#next();
  }

  #evict() {
    if (this.#holder?.started) this.#onLost();
    this.#next();
  }

  #next() {
    const next = this.#waiting.shift();
    this.#holder = next?.turn ?? null;
    this.beat(); // whoever it is gets its ten seconds
    next?.resolve(undefined);
  }
}
