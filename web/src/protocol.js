/**
 * Talk between the caller's thread and the engine's, over a port or within one thread.
 *
 * Both sides are alike: each has handlers that the other calls (`call` waits for the answer, `notify` does not). Errors
 * cross as data and arrive as errors.
 *
 * @typedef {{ call: number, method: string, args: any } | { answer: number, value?: any, error?: import('./errors.js').ErrorData }
 *   | { notice: string, args: any }} Message
 * @typedef {Record<string, (args: any) => any>} Handlers
 * @typedef {(message: Message, transfer: Transferable[]) => void} Send
 */
import { errorFromData, errorToData } from './errors.js';
import { deferred } from './platform.js';

/** What a handler returns to send an answer's buffers along instead of copying them. */
export class Transfer {
  /**
   * @param {any} value
   * @param {Transferable[]} list
   */
  constructor(value, list) {
    this.value = value;
    this.list = list;
  }
}

export class Peer {
  /** @type {Map<number, { resolve: (value: any) => void, reject: (reason: unknown) => void }>} */
  #pending = new Map();
  #next = 1;
  /** @type {unknown} */ #ended;
  /** @type {unknown} */ #closing;
  #send;
  #handlers;
  #onBusy;
  #busy = 0;

  /**
   * @param {Send} send
   * @param {Handlers} handlers
   * @param {(busy: boolean) => void} [onBusy] whether answers are waited for: keeps Node's process alive so long and no longer
   */
  constructor(send, handlers, onBusy = () => {}) {
    this.#send = send;
    this.#handlers = handlers;
    this.#onBusy = onBusy;
  }

  /** Counts something else that is waited for; the function returned ends that. */
  hold() {
    let held = true;
    this.#count(1);
    return () => {
      if (held) this.#count(-1);
      held = false;
    };
  }

  /** @param {number} change */
  #count(change) {
    this.#busy += change;
    if (this.#busy === Math.max(0, change)) this.#onBusy(this.#busy > 0);
  }

  /**
   * @param {string} method
   * @param {any} [args]
   * @param {Transferable[]} [transfer]
   * @returns {Promise<any>}
   */
  call(method, args, transfer = []) {
    const over = this.#ended ?? this.#closing;
    if (over) return Promise.reject(over);
    const { promise, resolve, reject } = deferred();
    const call = this.#next++;
    this.#pending.set(call, { resolve, reject });
    this.#count(1);
    try {
      this.#send({ call, method, args }, transfer);
    } catch (error) {
      if (this.#pending.delete(call)) this.#count(-1);
      reject(error);
    }
    return promise;
  }

  /**
   * @param {string} notice
   * @param {any} [args]
   * @param {Transferable[]} [transfer]
   */
  notify(notice, args, transfer = []) {
    if (!this.#ended) this.#send({ notice, args }, transfer);
  }

  /** @param {Message} message */
  receive(message) {
    if (this.#ended) return;
    if ('notice' in message) this.#handlers[message.notice]?.(message.args);
    else if ('answer' in message) {
      const waiting = this.#pending.get(message.answer);
      if (this.#pending.delete(message.answer)) this.#count(-1);
      if (message.error) waiting?.reject(errorFromData(message.error));
      else waiting?.resolve(message.value);
    } else this.#answer(message.call, message.method, message.args);
  }

  /**
   * @param {number} answer
   * @param {string} method
   * @param {any} args
   */
  async #answer(answer, method, args) {
    try {
      const value = await this.#handlers[method](args);
      if (this.#ended) return;
      if (value instanceof Transfer) this.#send({ answer, value: value.value }, value.list);
      else this.#send({ answer, value }, []);
    } catch (error) {
      if (!this.#ended) this.#send({ answer, error: errorToData(error) }, []);
    }
  }

  /**
   * Rejects what waits and whatever is asked from now on, then makes one last call; the other side may still ask us meanwhile.
   * @param {unknown} reason
   * @param {string} method
   * @param {number} ms the longest to wait
   * @returns {Promise<void>} the talk has ended
   */
  async close(reason, method, ms) {
    if (this.#ended || this.#closing) return;
    this.#rejectAll(reason);
    const last = this.call(method).catch(() => {});
    this.#closing = reason;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    await Promise.race([last, new Promise((resolve) => (timer = setTimeout(resolve, ms)))]);
    clearTimeout(timer);
    this.end(reason);
  }

  /**
   * Ends the talk: what waits is rejected, what comes is ignored.
   * @param {unknown} reason
   */
  end(reason) {
    if (this.#ended) return;
    this.#ended = reason;
    this.#rejectAll(reason);
  }

  /** @param {unknown} reason */
  #rejectAll(reason) {
    const waiting = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of waiting) {
      this.#count(-1);
      reject(reason);
    }
  }
}

/**
 * Two peers in one thread. Messages arrive later, as over a port; values are handed over as they are.
 * @param {Handlers} ours
 * @param {(peer: Peer) => Handlers} theirs
 * @returns {Peer} ours
 */
export function localPeers(ours, theirs) {
  /** @type {Handlers} */
  const handlers = {};
  /** @type {Peer} */
  const near = new Peer((message) => queueMicrotask(() => far.receive(message)), ours);
  const far = new Peer((message) => queueMicrotask(() => near.receive(message)), handlers);
  Object.assign(handlers, theirs(far));
  return near;
}
