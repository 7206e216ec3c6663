/**
 * Talk between the caller's thread and the engine's, over a port or within one thread.
 *
 * Both sides are alike: each has handlers that the other calls (`call` waits for the answer,
 * `notify` does not). Errors cross as data and arrive as errors.
 *
 * @typedef {import('./types.js').ChatMessage} ChatMessage
 * @typedef {import('./types.js').Check} Check
 * @typedef {import('./types.js').DraftEvent} DraftEvent
 * @typedef {import('./types.js').Exits} Exits
 * @typedef {import('./types.js').GenerateOptions} GenerateOptions
 * @typedef {import('./types.js').Info} Info
 * @typedef {import('./types.js').Level} Level
 * @typedef {import('./types.js').Progress} Progress
 * @typedef {import('./types.js').Result} Result
 * @typedef {import('./types.js').Token} Token
 * @typedef {import('./errors.js').ErrorData} ErrorData
 *
 * @typedef {object} EngineSide what the engine answers
 * @property {(spec: LoadSpec) => Promise<{ info: Info, exits: Exits | null }>} load resolves once
 *   the model can be talked to
 * @property {(spec: LoadSpec) => Promise<Check>} check
 * @property {(request: GenerateRequest) => Promise<Result>} generate its tokens come as notices
 *   before
 * @property {(reply: { id: number }) => void} cancel
 * @property {(how: { session: number, contextLength?: number, from?: number, bytes?: Uint8Array })
 *   => Promise<void>} openSession with the caller's number; `from`: a copy of that one, `bytes`: as
 *   it was saved
 * @property {(one: { session: number }) => Promise<Uint8Array | Transfer>} saveSession
 * @property {(one: { session: number }) => Promise<void>} closeSession
 * @property {(given: { text: string, special: boolean, bos: boolean }) => number[]} tokenize
 * @property {(given: { ids: number[] }) => string} detokenize
 * @property {(given: { messages: ChatMessage[], options: GenerateOptions }) => Promise<number>}
 *   countTokens
 * @property {() => { total: number, model: number, session: number, networkBytes: number }} memory
 * @property {(question: RiskQuestion) => number} risk
 * @property {(level: Level) => Level[]} setLevel one of this device; all there are then
 * @property {() => Promise<void>} dispose
 *
 * @typedef {{ xs: number[], delta: number } & ({ of: 'p', planned: number, alpha: number }
 *   | { of: 'upper', planned: number } | { of: 'needed', alpha: number })} RiskQuestion xs: shares
 *   of conversations' tokens that are wrong, 0 … 1. 'p': the p-value of E[X] > alpha; 'upper': the
 *   smallest alpha that is rejected; 'needed': so many conversations like these reject it, 0: none
 *   do
 *
 * @typedef {object} CallerSide what the caller's thread answers
 * @property {(hello: { lock: string | null }) => void} [hello] the worker runs, and holds this lock
 * @property {(progress: Progress) => void} [progress]
 * @property {(message: string) => void} [warning]
 * @property {(piece: { id: number, token: Token | DraftEvent }) => void} [token]
 * @property {(info: Info) => void} [ready] all of the model is there
 * @property {(error: ErrorData) => void} [failed] the rest of the model does not come
 * @property {(request: { url: string, headers: Record<string, string>, stream: number }) =>
 *   Promise<{ ok: boolean, status: number, headers: [string, string][], body: boolean }>} fetch
 *   `stream`: the number that the body gets
 * @property {(stretch: { id: number, from: number, to: number | null, stream: number }) =>
 *   Promise<{ total: number | null, ranged: boolean, from: number }>} open
 * @property {(from: { stream: number }) => Promise<Uint8Array | Transfer | null>} read null: the
 *   stream is over
 * @property {(from: { stream: number }) => void} cancelStream
 * @property {(at: { key: string }) => Promise<Uint8Array | null | undefined>} cacheGet
 * @property {(piece: { key: string, bytes: Uint8Array }) => Promise<unknown>} cachePut
 * @property {(at: { key: string }) => Promise<unknown> | undefined} cacheDelete
 *
 * @typedef {{ kind: 'url', url: string } | { kind: 'file', path: string } | { kind: 'blob', blob:
 *   Blob }
 *   | { kind: 'bytes', bytes: Uint8Array } | { kind: 'stream', stream: ReadableStream<Uint8Array> }
 *   | { kind: 'remote', id: number, name: string, once: boolean }} SourceSpec bytes of one file;
 *   'remote': the caller's thread has them
 *
 * @typedef {'auto' | 'opfs' | 'cache-api' | 'none' | 'remote'} CacheKind 'remote': an object in the
 *   caller's thread
 *
 * @typedef {object} LoadSpec what `load` takes; plain data
 * @property {SourceSpec[]} files
 * @property {SourceSpec | 'auto' | null} heads
 * @property {number | 'auto'} threads
 * @property {CacheKind} cache
 * @property {string | null} cacheKey in place of the source's address
 * @property {number} contextLength 0: the model's, at most 2048
 * @property {string | null} kvType
 * @property {boolean | null} kvMaps null: with the heads where they are local, else after the
 *   weights where a level is calibrated with them
 * @property {boolean} vocabularyOnly
 * @property {(string | null)[] | null} sha256 of each file
 * @property {boolean} customFetch the caller's thread fetches
 * @property {WebAssembly.Module | Uint8Array | string | null} wasm
 * @property {boolean} inWorker
 *
 * @typedef {object} GenerateRequest
 * @property {number} id the caller's number of this reply
 * @property {number} session 0: that of `lm`
 * @property {string | ChatMessage[]} prompt messages go through the model's chat template
 * @property {GenerateOptions} options
 *
 * @typedef {{ call: number, method: string, args: any } | { answer: number, value?: any, error?:
 *   ErrorData } | { notice: string, args: any }} Message
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

/**
 * @typedef {Peer<CallerSide, EngineSide>} EnginePeer the caller's end: it calls the engine
 * @typedef {Peer<EngineSide, CallerSide>} CallerPeer the engine's end
 */

/**
 * @template F
 * @typedef {NonNullable<F> extends (args: infer A) => any ? A : never} Given
 */

/**
 * @template F
 * @typedef {NonNullable<F> extends (...args: any[]) => infer R ? Exclude<Awaited<R>, Transfer> :
 *   never} Answer
 */

/**
 * @template {EngineSide | CallerSide} Ours
 * @template {EngineSide | CallerSide} Theirs what the other side answers
 */
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
   * @param {Ours} handlers
   * @param {(busy: boolean) => void} [onBusy] whether answers are waited for: keeps Node's process
   *   alive so long and no longer
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
   * @template {keyof Theirs & string} M
   * @param {M} method
   * @param {Given<Theirs[M]>} [args]
   * @returns {Promise<Answer<Theirs[M]>>}
   */
  call(method, args) {
    const over = this.#ended ?? this.#closing;
    if (over) return Promise.reject(over);
    const { promise, resolve, reject } = deferred();
    const call = this.#next++;
    this.#pending.set(call, { resolve, reject });
    this.#count(1);
    try {
      this.#send({ call, method, args }, []);
    } catch (error) {
      if (this.#pending.delete(call)) this.#count(-1);
      reject(error);
    }
    return promise;
  }

  /**
   * @template {keyof Theirs & string} N
   * @param {N} notice
   * @param {Given<Theirs[N]>} [args]
   */
  notify(notice, args) {
    if (!this.#ended) this.#send({ notice, args }, []);
  }

  /** @param {Message} message */
  receive(message) {
    if (this.#ended) return;
    if ('notice' in message) this.#handler(message.notice)?.(message.args);
    else if ('answer' in message) {
      const waiting = this.#pending.get(message.answer);
      if (this.#pending.delete(message.answer)) this.#count(-1);
      if (message.error) waiting?.reject(errorFromData(message.error));
      else waiting?.resolve(message.value);
    } else this.#answer(message.call, message.method, message.args);
  }

  /** @param {string} name */
  #handler(name) {
    return /** @type {Record<string, (args: any) => any>} */ (this.#handlers)[name];
  }

  /**
   * @param {number} answer
   * @param {string} method
   * @param {any} args
   */
  async #answer(answer, method, args) {
    try {
      const value = await this.#handler(method)(args);
      if (this.#ended) return;
      if (value instanceof Transfer) this.#send({ answer, value: value.value }, value.list);
      else this.#send({ answer, value }, []);
    } catch (error) {
      if (!this.#ended) this.#send({ answer, error: errorToData(error) }, []);
    }
  }

  /**
   * Rejects what waits and whatever is asked from now on, then makes one last call; the other side
   * may still ask us meanwhile.
   * @param {unknown} reason
   * @param {keyof Theirs & string} method
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
 * Two peers in one thread. Messages arrive later, as over a port; values are handed over as they
 * are.
 * @param {CallerSide} ours
 * @param {(peer: CallerPeer) => EngineSide} theirs
 * @returns {EnginePeer} ours
 */
export function localPeers(ours, theirs) {
  const handlers = /** @type {EngineSide} */ ({});
  /** @type {EnginePeer} */
  const near = new Peer((message) => queueMicrotask(() => far.receive(message)), ours);
  /** @type {CallerPeer} */
  const far = new Peer((message) => queueMicrotask(() => near.receive(message)), handlers);
  Object.assign(handlers, theirs(far));
  return near;
}
