/**
 * ExitLM, without a word on where the engine runs: index.js puts it into a worker, edge.js does not.
 *
 * @typedef {import('./reply.js').Token} Token
 * @typedef {import('./reply.js').DraftEvent} DraftEvent
 * @typedef {import('./reply.js').Result} Result
 * @typedef {import('./template.js').ChatMessage} ChatMessage
 * @typedef {import('./features.js').Features} Features
 *
 * @typedef {string | URL | (string | URL)[] | Blob | ReadableStream<Uint8Array> | ArrayBuffer | ArrayBufferView} ModelSource
 *   an address; a list with the addresses of a split model's files; the address of a manifest (`exitlm pack`); or the bytes
 *
 * @typedef {object} Progress
 * @property {number} loaded bytes that are in the engine
 * @property {number} total
 * @property {number} layersReady layers that have arrived
 * @property {number} layers
 * @property {'network' | 'cache' | 'memory'} source of the latest bytes
 * @property {number} bytesPerSecond
 *
 * @typedef {object} KeyValueCache a cache of the caller's own; keys are strings, values bytes
 * @property {(key: string) => Promise<Uint8Array | undefined | null>} get
 * @property {(key: string, bytes: Uint8Array) => Promise<unknown>} put
 * @property {(key: string) => Promise<unknown>} [delete]
 *
 * @typedef {object} LoadOptions
 * @property {ModelSource | false} [heads] exit heads; left out: `NAME.exits.gguf` beside the model, where there is one; false: none
 * @property {number | 'auto'} [threads] threads that compute; 'auto' leaves one processor free and takes at most four, and one where memory cannot be shared
 * @property {'auto' | 'opfs' | 'cache-api' | 'none' | KeyValueCache} [cache] where the model is kept for the next time
 * @property {number} [contextLength] tokens of prompt and reply together; left out: the model's, at most 2048
 * @property {'f32' | 'f16' | 'q8'} [kvType] of the K/V cache: 'q8' takes a quarter of the memory
 * @property {boolean} [kvMaps] whether the heads' K/V maps are loaded (1.4 MB of the default model's 3.4), which replies with `kv: 'maps'` need and
 *   levels that are calibrated with them; left out: with the heads where those are a local file or bytes, else after the last weight, where a level
 *   is calibrated with them (never by `exitlm/edge`)
 * @property {boolean | string | URL} [worker] run the engine in a worker (where there are any: the default); or the address of the worker's
 *   script, `web/src/worker.js` of a copy of this package, where a bundler leaves it behind
 * @property {AbortSignal} [signal] stops loading, also after `load` has resolved
 * @property {(progress: Progress) => void} [onProgress]
 * @property {(message: string) => void} [onWarning] something did not work that loading can do without, such as keeping a copy; left out: console.warn
 * @property {string | string[]} [sha256] expected, of the file or of each file
 * @property {typeof globalThis.fetch} [fetch] used for the model's bytes
 * @property {string | URL | WebAssembly.Module | ArrayBuffer | ArrayBufferView} [wasm] the engine: an address, that of a folder with all its
 *   variants (ending in '/'), a compiled module, or bytes
 *
 * @typedef {object} GenerateOptions
 * @property {'full' | 'exit' | 'lossless'} [mode] default: 'exit' where there are heads, else 'full'
 * @property {number} [accuracy] wanted of mode 'exit', 0.5 … 1; `lm.exits.defaultAccuracy`
 * @property {'risk' | 'max-coverage' | 'min-coverage' | 'midpoint' | 'platt'} [strategy]
 * @property {number} [maxTokens] left out: up to the context's end
 * @property {number} [temperature] 0, the default, takes the likeliest token
 * @property {number} [topK]
 * @property {number} [topP]
 * @property {number} [minP]
 * @property {number} [repeatPenalty]
 * @property {number | bigint} [seed] left out: a new one each time, see Result.seed
 * @property {string | string[]} [stop] texts that end the reply; they are not part of it
 * @property {'exact' | 'maps' | 'propagate'} [kv] how skipped layers' K/V is made; left out: of those that the level is calibrated with, the one that costs least here
 * @property {number[]} [thresholds] an uncertainty for each head, in place of those of a level: it exits below. No promise goes with them
 * @property {number} [audit] share of the exits that is verified, 0 … 1
 * @property {number} [maxDraft] mode 'lossless': most drafts before a verification
 * @property {number} [draftLayer] mode 'lossless': a fixed exit layer
 * @property {number} [draftLength] mode 'lossless': and a fixed number of drafts
 * @property {boolean} [events] also yield drafts, acceptances and rejections
 * @property {AbortSignal} [signal]
 *
 * @typedef {object} Info
 * @property {string} name
 * @property {string} architecture
 * @property {string} licence
 * @property {string} quantisation
 * @property {number} layers
 * @property {number} parameters
 * @property {number} vocabulary
 * @property {number} dimension
 * @property {number} contextLength tokens of prompt and reply together, in use
 * @property {number} modelContextLength …that the model was trained for
 * @property {number} weightBytes
 * @property {string} fingerprint '' until the bytes that it covers are there
 * @property {string} kernel the instruction set in use
 * @property {number} threads
 * @property {{ model: number, session: number, total: number }} memory bytes
 * @property {string} version of the engine
 *
 * @typedef {object} Level a line of the calibration
 * @property {string} strategy
 * @property {string} kv K/V policy that it was calibrated with
 * @property {number} accuracy
 * @property {boolean} certified
 * @property {number} delta
 * @property {number} bound
 * @property {number[]} threshold a head exits where its uncertainty is below
 * @property {number[]} coverage share of tokens that exit at each head
 * @property {number} agreement
 * @property {number} agreementExited
 * @property {number} conversations
 * @property {number} tokens
 * @property {boolean} [onDevice] made here by `calibrate`
 *
 * @typedef {object} Exits
 * @property {number[]} layers layers run before each head
 * @property {{ layer: number, rows: number, form: string, macs: number }[]} heads
 * @property {string} metric
 * @property {string} kv K/V policy of a reply with thresholds of its own; each level says its own
 * @property {string} kvType
 * @property {number} defaultAccuracy the level where none is asked for: the one that the heads file names, else its strictest certified one, else 1 (nothing exits)
 * @property {string} fingerprint of the model that they belong to
 * @property {string} licence
 * @property {string} data
 * @property {string} engineVersion
 * @property {Level[]} levels
 *
 * @typedef {object} Check
 * @property {boolean} runs
 * @property {string} reason a sentence: why not, or what to expect
 * @property {number | null} bytes to download
 * @property {{ model: number, session: number, total: number } | null} memory bytes that it will take
 * @property {Features & { threadsUsed: number, kernel: string }} features
 * @property {{ tokensPerSecond: number | null }} estimate a rough one
 */
import { calibrate } from './calibrate.js';
import { CallerSide } from './caller.js';
import { ExitLMError, errorFromData } from './errors.js';
import { optionsOf } from './options.js';
import { deferred } from './platform.js';
import { Reply } from './reply.js';
import { createTemplate } from './template.js';

/**
 * How a subclass reaches an engine.
 * @typedef {object} Connection
 * @property {import('./protocol.js').Peer} peer
 * @property {boolean} inWorker
 * @property {() => void} end
 *
 * @typedef {(options: { worker?: boolean | string | URL }, handlers: import('./protocol.js').Handlers, onCrash: (error: ExitLMError) => void) => Promise<Connection>} Connect
 */

const LOAD_OPTIONS = ['heads', 'threads', 'cache', 'contextLength', 'kvType', 'kvMaps', 'worker', 'signal', 'onProgress', 'onWarning', 'sha256', 'fetch', 'wasm'];
const GENERATE_OPTIONS = ['mode', 'accuracy', 'strategy', 'maxTokens', 'temperature', 'topK', 'topP', 'minP', 'repeatPenalty', 'seed', 'stop', 'kv', 'thresholds', 'audit',
  'maxDraft', 'draftLayer', 'draftLength', 'events', 'signal'];

/** How long an engine that is ended may take to put away what it has downloaded. */
const FAREWELL_MS = 1000;

export class ExitLM {
  /** @type {Connection} */ #connection;
  #template;
  /** @type {Info} */ #info;
  /** @type {Exits | null} */ #exits;
  /** @type {Promise<void>} */ #ready;
  /** @type {unknown} */ #ended;
  #nextReply = 1;
  /** @type {Map<number, (token: any) => void>} */ #listeners;

  /** @internal @type {Connect} */
  static connect = async () => {
    throw new ExitLMError('UNSUPPORTED', 'import ExitLM from exitlm or from exitlm/edge');
  };

  /**
   * Loads a model. Resolves once it can be talked to, which is before all of it has arrived: replies then wait for what they need.
   * `await lm.ready` for the whole.
   * @param {ModelSource} source
   * @param {LoadOptions} [options]
   * @returns {Promise<ExitLM>}
   */
  static async load(source, options) {
    options = optionsOf(options, LOAD_OPTIONS);
    const { signal } = options;
    signal?.throwIfAborted();
    const caller = new CallerSide(options);
    const warn = options.onWarning ?? ((/** @type {string} */ message) => console.warn(`exitlm: ${message}`));
    /** @type {Map<number, (token: any) => void>} */
    const listeners = new Map();
    const ready = deferred();
    ready.promise.catch(() => {});
    /** What is known of the model; some of it only when all has arrived. */
    const known = /** @type {Info} */ ({});
    /** @type {ExitLM | undefined} */
    let lm;
    /** @type {Connection | undefined} */
    let connection;
    const fail = (/** @type {unknown} */ error) => {
      ready.reject(error);
      if (lm) lm.#ended ??= error;
      // What has been downloaded is still put away.
      const { peer, end } = connection ?? {};
      if (error instanceof ExitLMError) {
        peer?.end(error);
        end?.();
      } else peer?.close(error, 'dispose', FAREWELL_MS).then(end);
    };
    const connecting = this.connect(
      { worker: options.worker },
      {
        ...caller.handlers(),
        progress: (progress) => options.onProgress?.(progress),
        warning: (message) => warn(message),
        token: ({ id, token }) => listeners.get(id)?.(token),
        ready: (info) => {
          Object.assign(known, info);
          ready.resolve(undefined);
        },
        failed: (data) => fail(errorFromData(data)),
      },
      fail,
    );
    connection = await unlessAborted(connecting, signal, ({ peer, end }) => {
      peer.end(signal?.reason);
      end();
    });
    const onAbort = () => fail(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    const release = connection.peer.hold();
    const settled = () => {
      release();
      signal?.removeEventListener('abort', onAbort);
    };
    ready.promise.then(settled, settled);
    try {
      if (signal?.aborted) throw signal.reason;
      const spec = caller.spec(source, connection.inWorker);
      const described = await connection.peer.call('load', spec);
      described.info = Object.assign(known, { ...described.info, ...known });
      lm = new this(connection, described, ready.promise, listeners);
      return lm;
    } catch (error) {
      fail(error);
      throw signal?.aborted ? signal.reason : error;
    }
  }

  /**
   * Whether a model will run here, what it takes and roughly how fast it will be: from its header, before its weights are downloaded.
   * @param {ModelSource} source
   * @param {LoadOptions} [options]
   * @returns {Promise<Check>}
   */
  static async check(source, options) {
    options = optionsOf(options, LOAD_OPTIONS);
    const { signal } = options;
    signal?.throwIfAborted();
    const caller = new CallerSide(options);
    const crashed = deferred();
    crashed.promise.catch(() => {});
    const connection = await unlessAborted(this.connect({ worker: options.worker }, caller.handlers(), crashed.reject), signal, ({ end }) => end());
    const onAbort = () => crashed.reject(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return await Promise.race([connection.peer.call('check', caller.spec(source, connection.inWorker)), crashed.promise]);
    } finally {
      signal?.removeEventListener('abort', onAbort);
      connection.peer.end(new ExitLMError('DISPOSED', 'the check is over'));
      connection.end();
    }
  }

  /**
   * Use ExitLM.load.
   * @protected
   * @param {Connection} connection
   * @param {any} described
   * @param {Promise<any>} ready
   * @param {Map<number, (token: any) => void>} listeners
   */
  constructor(connection, described, ready, listeners) {
    if (!described) throw new ExitLMError('USAGE', 'ExitLM has no public constructor: await ExitLM.load(source) gives one');
    const { info, exits, template } = described;
    this.#connection = connection;
    this.#info = info;
    this.#exits = exits;
    this.#template = createTemplate(template);
    this.#ready = ready;
    this.#listeners = listeners;
  }

  /**
   * Resolves when every byte is there and verified; rejects where loading failed, with CHECKSUM where the bytes are not what was promised.
   * @returns {Promise<void>}
   */
  get ready() {
    return this.#ready;
  }

  /** The model and what it runs on. @returns {Info} */
  get info() {
    return this.#info;
  }

  /** Exit heads and their calibration; null where there are none. @returns {Exits | null} */
  get exits() {
    return this.#exits;
  }

  /**
   * The next turn of a conversation.
   * @template {GenerateOptions} O
   * @param {ChatMessage[]} messages
   * @param {O} [options]
   * @returns {Reply<O extends { events: true } ? Token | DraftEvent : Token>}
   */
  chat(messages, options) {
    return this.#generate(() => this.#template.render(messages), options);
  }

  /**
   * Goes on with a text as it stands: no chat template.
   * @template {GenerateOptions} O
   * @param {string} prompt
   * @param {O} [options]
   * @returns {Reply<O extends { events: true } ? Token | DraftEvent : Token>}
   */
  complete(prompt, options) {
    return this.#generate(async () => {
      if (typeof prompt !== 'string') throw new ExitLMError('USAGE', `prompt: a string was expected, not ${typeof prompt}`);
      return prompt;
    }, options);
  }

  /**
   * @param {() => Promise<string>} textOf
   * @param {GenerateOptions} [given]
   * @returns {Reply<any>}
   */
  #generate(textOf, given) {
    /** @type {unknown} */
    let wrong;
    /** @type {GenerateOptions} */
    let all = {};
    try {
      all = optionsOf(given, GENERATE_OPTIONS);
    } catch (error) {
      wrong = error; // it rejects like everything else
    }
    const { signal, ...options } = all;
    const id = this.#nextReply++;
    const { peer } = this.#connection;
    return new Reply((push) => {
      let stopped = false;
      const run = async () => {
        if (wrong) throw wrong;
        this.#check();
        this.#listeners.set(id, push);
        try {
          const text = await textOf();
          if (stopped) return nothingDone();
          this.#check();
          return await peer.call('generate', { id, text, options });
        } finally {
          this.#listeners.delete(id);
        }
      };
      return {
        result: run(),
        stop: () => {
          stopped = true;
          peer.notify('cancel', { id });
        },
      };
    }, signal);
  }

  /**
   * Token ids of a text.
   * @param {string} text
   * @param {object} [options]
   * @param {boolean} [options.special] special tokens in the text, such as `<|im_start|>`, count as such
   * @param {boolean} [options.bos] begin-of-text comes first where the model wants it
   * @returns {Promise<number[]>}
   */
  async tokenize(text, { special = false, bos = false } = {}) {
    this.#check();
    if (typeof text !== 'string') throw new ExitLMError('USAGE', `text: a string was expected, not ${typeof text}`);
    return this.#connection.peer.call('tokenize', { text, special, bos });
  }

  /**
   * The text of token ids, special ones included.
   * @param {Iterable<number>} ids
   * @returns {Promise<string>}
   */
  async detokenize(ids) {
    this.#check();
    return this.#connection.peer.call('detokenize', { ids: Array.from(ids) });
  }

  /**
   * Tokens of the prompt that `chat` makes of a conversation.
   * @param {ChatMessage[]} messages
   * @returns {Promise<number>}
   */
  async countTokens(messages) {
    this.#check();
    const text = await this.#template.render(messages);
    return (await this.tokenize(text, { special: true, bos: true })).length;
  }

  /**
   * Sets thresholds for the caller's own text, with the same guarantee by conversation as the heads file's: the model answers the
   * conversations with exits on, and every exit is verified. Says so where there are too few to certify the accuracy; then nothing changes.
   * It takes about as long as answering the conversations two to six times in mode `full`; replies that are asked for meanwhile come in between.
   * @param {(string | string[] | ChatMessage[])[]} conversations each a text of the user, the texts of the user's turns, or messages whose answers
   *   the model writes anew. What users ask, drawn at random: the promise is for text like this. Repeated ones count once
   * @param {import('./calibrate.js').CalibrateOptions} [options]
   * @returns {Promise<import('./calibrate.js').Calibration>}
   */
  async calibrate(conversations, options) {
    this.#check();
    options = optionsOf(options, ['accuracy', 'delta', 'maxTokens', 'signal', 'onProgress']);
    options.signal?.throwIfAborted();
    const exits = this.#exits;
    const made = await calibrate({ exits, layers: this.#info.layers, chat: (messages, more) => this.chat(messages, more) }, conversations, options);
    const { certified, accuracy, delta, threshold, bound, coverage, agreement, measured, tokens } = made;
    if (!certified || !exits || !threshold) return made;
    await this.#connection.peer.call('setLevel', { accuracy, threshold });
    /** @type {Level} */
    const level = { strategy: 'risk', kv: exits.kv, accuracy, certified, delta, bound: /** @type {number} */ (bound), threshold, coverage, agreement,
      agreementExited: agreement, conversations: measured, tokens, onDevice: true };
    const exited = coverage.reduce((sum, c) => sum + c, 0);
    if (exited > 0) level.agreementExited = Math.max(0, 1 - (1 - agreement) / exited);
    const others = exits.levels.filter((l) => l.strategy !== 'risk' || Math.abs(l.accuracy - accuracy) > 1e-6);
    this.#exits = { ...exits, levels: [...others, level] };
    return made;
  }

  /**
   * Bytes of linear memory in use, and of those the model's and the session's.
   * @returns {Promise<{ total: number, model: number, session: number, networkBytes: number }>}
   */
  async memory() {
    this.#check();
    return this.#connection.peer.call('memory');
  }

  /**
   * Ends the engine and gives its memory back. What is under way rejects with DISPOSED; calling it again does nothing.
   * @returns {Promise<void>}
   */
  async dispose() {
    if (this.#ended) return;
    const { peer, end } = this.#connection;
    this.#ended = new ExitLMError('DISPOSED', 'the model was disposed of');
    await peer.close(this.#ended, 'dispose', FAREWELL_MS);
    end();
  }

  /** `await using lm = await ExitLM.load(…)` */
  async [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]() {
    await this.dispose();
  }

  #check() {
    if (!this.#ended) return;
    if (this.#ended instanceof ExitLMError && this.#ended.code === 'DISPOSED') throw this.#ended;
    const why = this.#ended instanceof Error ? this.#ended.message : String(this.#ended);
    throw new ExitLMError('DISPOSED', `the model is not usable any more (${why}); load it again`, { cause: this.#ended });
  }
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal | undefined} signal
 * @param {(late: T) => void} tidy what comes of the promise after an abort
 * @returns {Promise<T>} rejects with the signal's reason at once
 */
function unlessAborted(promise, signal, tidy) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      reject(signal.reason);
      promise.then(tidy, () => {});
    };
    signal.addEventListener('abort', onAbort, { once: true });
    promise.finally(() => signal.removeEventListener('abort', onAbort)).then(resolve, reject);
    if (signal.aborted) onAbort();
  });
}

function nothingDone() {
  return /** @type {Result} */ ({
    text: '',
    reason: 'abort',
    usage: { promptTokens: 0, completionTokens: 0, reusedTokens: 0 },
    exits: {},
    meanDepth: 0,
    meanWork: 0,
    drafted: 0,
    accepted: 0,
    draftAttempts: 0,
    audited: 0,
    auditDisagreed: 0,
    seed: null,
    timing: { promptMs: null, decodeMs: null, tokensPerSecond: null },
  });
}
