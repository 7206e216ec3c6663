/**
 * A reply under way.
 *
 * @typedef {import('../link/types.js').Token} Token
 * @typedef {import('../link/types.js').DraftEvent} DraftEvent
 * @typedef {import('../link/types.js').Result} Result
 */
import { onAbort } from '../link/abort.js';
import { ExitLMError } from '../link/errors.js';
import { deferred } from '../link/platform.js';

/** @param {string} name @returns {never} */
function later(name) {
  throw new ExitLMError(
    'USAGE',
    `a reply is still being written: its ${name} is in (await reply.result).${name}`,
  );
}

/**
 * An async iterable of tokens, for one consumer, with the whole as `result`. `break` and `cancel()`
 * stop the work.
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
   * @param {AbortSignal | null} [signal]
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
    result.then(
      (value) => this.#settle({ result: value }),
      (error) => this.#settle({ error }),
    );
    this.#unlisten = onAbort(signal, (error) => {
      this.#settle({ error });
      this.#ask();
    });
  }

  /**
   * The whole reply. Rejects with an ExitLMError, or with the signal's reason after an abort.
   * @returns {Promise<Result>}
   */
  get result() {
    return this.#end.promise;
  }

  /**
   * Not here: what is not awaited would be undefined without a word.
   * @returns {never}
   */
  get text() {
    return later('text');
  }

  /**
   * Not here, as `text`.
   * @returns {never}
   */
  get json() {
    return later('json');
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
    if (this.#iterated)
      throw new ExitLMError(
        'USAGE',
        'a reply can be iterated only once; its whole text is in result',
      );
    this.#iterated = true;
    return {
      next: async () => {
        for (;;) {
          const outcome = this.#outcome;
          // at once: what waits unread is of no use any more
          if (outcome && 'error' in outcome) throw outcome.error;
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
