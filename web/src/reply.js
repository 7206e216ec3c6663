/**
 * A reply under way.
 *
 * @typedef {object} Token one token of a reply
 * @property {number} index 0, 1, …
 * @property {number} id
 * @property {string} text whole characters only; may be empty while one is incomplete
 * @property {number} layer transformer layers run for it
 * @property {number} of …of so many
 * @property {number} depth layer / of
 * @property {number} work its share of a full token's multiply-adds when it was emitted, failed checks included
 * @property {number} head the exit head that answered; -1: the model's own final head
 * @property {number} confidence of that head, 0 … 1
 * @property {boolean} drafted whether it came from a draft (mode `lossless`)
 * @property {number} [draftHead] of a drafted token: the head, or -2 for prompt lookup
 * @property {number | null} ms since the token before; null where there is no usable clock
 * @property {'token'} [type] with `events: true`
 *
 * @typedef {Omit<Token, 'type'> & { type: 'draft' | 'accept' | 'reject' }} DraftEvent with `events: true`
 *
 * @typedef {object} Result
 * @property {string} text the whole reply
 * @property {'stop' | 'length' | 'abort'} reason
 * @property {{ promptTokens: number, completionTokens: number, reusedTokens: number }} usage reusedTokens: of the prompt, those whose K/V was there already
 * @property {Record<string, number>} exits tokens that each head answered; '-1' is the model's own
 * @property {number} meanDepth
 * @property {number} meanWork counts all that was done after the prompt
 * @property {number} drafted
 * @property {number} accepted
 * @property {number} draftAttempts
 * @property {number} audited exits that were verified with the full model
 * @property {number} auditDisagreed
 * @property {string | null} seed the seed of a sampled reply, also where it was drawn
 * @property {{ promptMs: number | null, decodeMs: number | null, tokensPerSecond: number | null }} timing
 *
 * @typedef {object} Job what a Reply needs of its owner
 * @property {(signal: AbortSignal) => Promise<Result>} run starts the work; rejects with `signal.reason` when that aborts before the engine has begun
 * @property {() => void} stop asks the engine to stop; the result then comes soon
 */
import { ExitLMError } from './errors.js';
import { deferred } from './platform.js';

/**
 * An async iterable of tokens, for one consumer, with the whole as `result`. `break` and `cancel()` stop the work.
 * @template [T=Token]
 * @implements {AsyncIterable<T>}
 */
export class Reply {
  /** @type {T[]} */ #tokens = [];
  #wake = deferred();
  #end = deferred();
  /** @type {{ error: unknown } | { result: Result } | null} */ #outcome = null;
  #stop;
  #stopped = false;
  #iterated = false;
  /** @type {(() => void)} */ #unlisten = () => {};

  /**
   * @param {(push: (token: T) => void) => { result: Promise<Result>, stop: () => void }} start
   * @param {AbortSignal} [signal]
   */
  constructor(start, signal) {
    this.#end.promise.catch(() => {});
    if (signal?.aborted) {
      this.#stop = () => {};
      this.#settle({ error: signal.reason });
      return;
    }
    const { result, stop } = start((token) => this.#push(token));
    this.#stop = stop;
    result.then((value) => this.#settle({ result: value }), (error) => this.#settle({ error }));
    if (signal) {
      const onAbort = () => {
        this.#settle({ error: signal.reason });
        this.#ask();
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#unlisten = () => signal.removeEventListener('abort', onAbort);
    }
  }

  /**
   * The whole reply. Rejects with an ExitLMError, or with the signal's reason after an abort.
   * @returns {Promise<Result>}
   */
  get result() {
    return this.#end.promise;
  }

  /** Stops the work; `result` then resolves with the text so far and the reason 'abort'. */
  cancel() {
    this.#ask();
  }

  #ask() {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#stop();
  }

  /** @param {T} token */
  #push(token) {
    if (this.#outcome) return;
    this.#tokens.push(token);
    this.#wake.resolve(undefined);
  }

  /** @param {{ error: unknown } | { result: Result }} outcome */
  #settle(outcome) {
    if (this.#outcome) return;
    this.#outcome = outcome;
    this.#unlisten();
    this.#wake.resolve(undefined);
    if ('error' in outcome) this.#end.reject(outcome.error);
    else this.#end.resolve(outcome.result);
  }

  /** @returns {AsyncIterator<T, undefined, undefined>} */
  [Symbol.asyncIterator]() {
    if (this.#iterated) throw new ExitLMError('USAGE', 'a reply can be iterated only once; its whole text is in result');
    this.#iterated = true;
    return {
      next: async () => {
        for (;;) {
          const outcome = this.#outcome;
          if (outcome && 'error' in outcome) throw outcome.error; // at once: what waits unread is of no use any more
          const token = this.#tokens.shift();
          if (token !== undefined) return { done: false, value: token };
          if (outcome) return { done: true, value: undefined };
          await this.#wake.promise;
          this.#wake = deferred();
        }
      },
      return: async () => {
        this.#tokens = [];
        this.#ask();
        return { done: true, value: undefined };
      },
    };
  }
}
