/**
 * ExitLM, without a word on where the engine runs: page.js puts it into a worker, edge.js does not.
 *
 * @typedef {import('../link/types.js').ChatMessage} ChatMessage
 * @typedef {import('../link/types.js').Check} Check
 * @typedef {import('../link/types.js').DraftEvent} DraftEvent
 * @typedef {import('../link/types.js').Exits} Exits
 * @typedef {import('../link/types.js').GenerateOptions} GenerateOptions
 * @typedef {import('../link/types.js').Info} Info
 * @typedef {import('../link/types.js').Level} Level
 * @typedef {import('../link/types.js').LoadOptions} LoadOptions
 * @typedef {import('../link/types.js').ModelSource} ModelSource
 * @typedef {import('../link/types.js').Token} Token
 */
import { checkSignal, isSignal, onAbort, orAbort } from '../link/abort.js';
import { ExitLMError, errorFromData } from '../link/errors.js';
import { knownOptions, modeOf, number, usage } from '../link/options.js';
import { deferred, isPage } from '../link/platform.js';
import { bytesOf, Caller } from './caller.js';
import { Reply } from './reply.js';
import { Session } from './session.js';

/**
 * How a subclass reaches an engine.
 * @typedef {object} Connection
 * @property {import('../link/protocol.js').EnginePeer} peer
 * @property {boolean} inWorker
 * @property {() => void} end
 *
 * @typedef {(options: { worker?: boolean | string | URL }, handlers:
 *   import('../link/protocol.js').CallerSide, onCrash: (error: ExitLMError) => void) =>
 *   Promise<Connection>} Connect
 */

const LOAD_OPTIONS = [
  'heads',
  'threads',
  'cache',
  'cacheKey',
  'contextLength',
  'kvType',
  'kvMaps',
  'vocabularyOnly',
  'worker',
  'signal',
  'onProgress',
  'onWarning',
  'sha256',
  'fetch',
  'wasm',
];
const TOOL_OPTIONS = ['tools', 'toolChoice', 'parallelToolCalls'];
const GENERATE_OPTIONS = [
  'mode',
  'accuracy',
  'strategy',
  'maxTokens',
  'temperature',
  'topK',
  'topP',
  'minP',
  'repeatPenalty',
  'seed',
  'stop',
  'kv',
  'thresholds',
  'audit',
  'maxDraft',
  'draftLayer',
  'draftLength',
  'events',
  'schema',
  'pattern',
  'json',
  'logprobs',
  'overflow',
  ...TOOL_OPTIONS,
  'signal',
];

/** How long an engine that is ended may take to put away what it has downloaded. */
const FAREWELL_MS = 1000;

/** @param {LoadOptions | undefined} options @returns {(message: string) => void} */
const warningsOf = (options) => {
  const warn =
    options?.onWarning ?? ((/** @type {string} */ message) => console.warn(`exitlm: ${message}`));
  return (message) => guarded(warn, message);
};

export class ExitLM {
  /** @type {Connection} */ #connection;
  /** @type {Info} */ #info;
  /** @type {Exits | null} */ #exits;
  /** @type {Promise<void>} */ #ready;
  /** @type {unknown} */ #ended;
  #end;
  #nextReply = 1;
  #nextSession = 1;
  #own;
  #warn;
  /** @type {Map<number, (token: any) => void>} */ #listeners;

  /** @type {Connect} */
  static connect = async () => {
    throw new ExitLMError('UNSUPPORTED', 'import ExitLM from exitlm or from exitlm/edge');
  };

  /**
   * Loads a model. Resolves once it can be talked to, which is before all of it has arrived:
   * replies then wait for what they need. `await lm.ready` for the whole.
   * @param {ModelSource} source
   * @param {LoadOptions} [options]
   * @returns {Promise<ExitLM>}
   */
  static async load(source, options) {
    const warn = warningsOf(options);
    options = knownOptions(options, LOAD_OPTIONS, warn);
    const { signal } = options;
    checkSignal(signal);
    const caller = new Caller(options);
    /** @type {Map<number, (token: any) => void>} */
    const listeners = new Map();
    const ready = deferred();
    ready.promise.catch(() => {});
    /** What is known of the model; some of it only when all has arrived. */
    const known = /** @type {Info} */ ({});
    /** @type {ExitLM | undefined} */
    let lm;
    /** @type {Connection | null} */
    let connection = null;
    /** @type {Promise<void> | undefined} */
    let leaving;
    const leave = async (/** @type {unknown} */ error) => {
      if (!connection) return;
      const { peer, end } = connection;
      // What has been downloaded is still put away, where the engine lives.
      if (error instanceof ExitLMError && error.code !== 'DISPOSED') peer.end(error);
      else await peer.close(error, 'dispose', FAREWELL_MS);
      caller.end(error);
      end();
    };
    const fail = (/** @type {unknown} */ error) => {
      ready.reject(error);
      if (lm) lm.#ended ??= error;
      return (leaving ??= leave(error));
    };
    const connecting = this.connect(
      { worker: options.worker },
      {
        ...caller.handlers(),
        progress: (progress) => guarded(options.onProgress, progress),
        warning: warn,
        token: ({ id, token }) => listeners.get(id)?.(token),
        ready: (info) => {
          Object.assign(known, info);
          ready.resolve(undefined);
        },
        failed: (data) => fail(errorFromData(data)),
      },
      fail,
    );
    connection = await orAbort(connecting, signal, ({ peer, end }) => {
      peer.end(signal?.reason);
      end();
    });
    const unlisten = onAbort(signal, fail);
    const release = connection.peer.hold();
    const settled = () => {
      release();
      unlisten();
    };
    ready.promise.then(settled, settled);
    if (options.cache !== 'none' && !options.vocabularyOnly)
      ready.promise.then(keepForLong, () => {});
    try {
      if (signal?.aborted) throw signal.reason;
      const spec = caller.spec(source, connection.inWorker);
      const described = await connection.peer.call('load', spec);
      described.info = Object.assign(known, { ...described.info, ...known });
      const { exits } = described;
      if (
        !options.kvType &&
        known.kvType === 'q8' &&
        !exits?.levels.some((l) => l.certified && l.kvType === 'q8')
      )
        warn(
          `memory is short here: the K/V cache is of type ${known.kvType}, with which a few tokens in a hundred differ and no accuracy is certified; kvType: 'f32' asks for the exact one, of four times the size`,
        );
      lm = new this(connection, described, ready.promise, listeners, warn, fail);
      return lm;
    } catch (error) {
      fail(error);
      throw signal?.aborted ? signal.reason : error;
    }
  }

  /**
   * Whether a model will run here, what it takes, roughly how fast it will be, and where it does not
   * run what is missing: from its header, which is fetched by ranges, before its weights.
   * @param {ModelSource} source
   * @param {LoadOptions} [options]
   * @returns {Promise<Check>}
   */
  static async check(source, options) {
    options = knownOptions(options, LOAD_OPTIONS, warningsOf(options));
    const { signal } = options;
    checkSignal(signal);
    const caller = new Caller(options);
    const crashed = deferred();
    crashed.promise.catch(() => {});
    const connection = await orAbort(
      this.connect({ worker: options.worker }, caller.handlers(), crashed.reject),
      signal,
      ({ end }) => end(),
    );
    const unlisten = onAbort(signal, crashed.reject);
    try {
      return await Promise.race([
        connection.peer.call('check', caller.spec(source, connection.inWorker)),
        crashed.promise,
      ]);
    } finally {
      unlisten();
      const over = new ExitLMError('DISPOSED', 'the check is over');
      await connection.peer.close(over, 'dispose', FAREWELL_MS);
      caller.end(over);
      connection.end();
    }
  }

  /**
   * Use ExitLM.load.
   * @protected
   * @param {Connection} connection
   * @param {{ info: Info, exits: Exits | null }} described
   * @param {Promise<any>} ready
   * @param {Map<number, (token: any) => void>} listeners
   * @param {(message: string) => void} warn
   * @param {(reason: unknown) => Promise<void>} end
   */
  constructor(connection, described, ready, listeners, warn, end) {
    if (!described)
      throw new ExitLMError(
        'USAGE',
        'ExitLM has no public constructor: await ExitLM.load(source) gives one',
      );
    const { info, exits } = described;
    this.#connection = connection;
    this.#info = info;
    this.#exits = exits;
    this.#ready = ready;
    this.#listeners = listeners;
    this.#warn = warn;
    this.#end = end;
    this.#own = new Session(this.#means, 0, Promise.resolve());
  }

  /**
   * Resolves when every byte is there and verified; rejects where loading failed, with CHECKSUM
   * where the bytes are not what was promised.
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
    return this.#own.chat(messages, options);
  }

  /**
   * Goes on with a text as it stands: no chat template.
   * @template {GenerateOptions} O
   * @param {string} prompt
   * @param {O} [options]
   * @returns {Reply<O extends { events: true } ? Token | DraftEvent : Token>}
   */
  complete(prompt, options) {
    return this.#own.complete(prompt, options);
  }

  /**
   * One more conversation, with K/V of its own: it takes `info.memory.session` bytes. `chat` and
   * `complete` of `lm` itself use a session that belongs to it.
   * @param {import('../link/types.js').SessionOptions} [options]
   * @returns {Session} usable at once
   */
  session(options) {
    this.#check();
    const given = knownOptions(options, ['contextLength'], this.#warn);
    return this.#open({ contextLength: number(given, 'contextLength', 1, 0xffffffff, true) });
  }

  /**
   * A conversation that `session.save()` gave, without reading it again.
   * @param {Uint8Array | ArrayBuffer} bytes
   * @returns {Promise<Session>} rejects where they are damaged, of another model or of another
   *   `kvType`
   */
  async restore(bytes) {
    this.#check();
    if (!(bytes instanceof ArrayBuffer || ArrayBuffer.isView(bytes)))
      usage('bytes', 'a Uint8Array that session.save() gave', bytes);
    const session = this.#open({ bytes: bytesOf(bytes) });
    await session.ready;
    return session;
  }

  /** @param {Omit<Parameters<import('../link/protocol.js').EngineSide['openSession']>[0], 'session'>} how */
  #open(how) {
    const session = this.#nextSession++;
    const opened = this.#connection.peer.call('openSession', { session, ...how });
    return new Session(this.#means, session, opened);
  }

  /** @type {import('./session.js').Means} */
  #means = {
    chat: (place, messages, options) =>
      this.#generate(place, () => plainMessages(messages), options),
    complete: (place, prompt, options) =>
      this.#generate(
        place,
        () => {
          for (const name of TOOL_OPTIONS)
            if (/** @type {any} */ (options)?.[name] !== undefined)
              throw new ExitLMError(
                'USAGE',
                `option ${name}: chat() has tools, complete() has none`,
              );
          if (typeof prompt !== 'string')
            throw new ExitLMError('USAGE', `prompt: a string was expected, not ${typeof prompt}`);
          return prompt;
        },
        options,
      ),
    open: (how) => this.#open(how),
    save: async (session) => {
      this.#check();
      return this.#connection.peer.call('saveSession', { session });
    },
    close: (session) =>
      this.#ended ? Promise.resolve() : this.#connection.peer.call('closeSession', { session }),
  };

  /**
   * @param {import('./session.js').Place} place
   * @param {() => string | ChatMessage[]} promptOf what is wrong rejects like everything else
   * @param {GenerateOptions} [given]
   * @returns {Reply<any>}
   */
  #generate({ session, opened, check }, promptOf, given) {
    const id = this.#nextReply++;
    const { peer } = this.#connection;
    const heard = given?.signal;
    const run = async () => {
      const { signal, ...options } = knownOptions(given, GENERATE_OPTIONS, this.#warn);
      checkSignal(signal);
      this.#check();
      check();
      this.#warnOfAccuracy(options);
      if (options.tools) options.tools = plain(options.tools);
      const prompt = promptOf();
      if (session) await opened;
      return peer.call('generate', { id, session, prompt, options });
    };
    return new Reply(
      (push) => {
        this.#listeners.set(id, push);
        return {
          result: run().finally(() => this.#listeners.delete(id)),
          stop: () => peer.notify('cancel', { id }),
        };
      },
      isSignal(heard) ? heard : null,
    );
  }

  /** @type {Set<string>} each is said once */
  #said = new Set();

  /** An accuracy at which nothing exits. @param {GenerateOptions} options */
  #warnOfAccuracy(options) {
    const { accuracy, strategy = 'risk', kv = 'auto', thresholds } = options;
    if (typeof accuracy !== 'number' || !(accuracy <= 1) || thresholds) return;
    if (!this.#exits || modeOf(options, this.#exits) !== 'exit') return;
    const strictest = Math.max(
      0,
      ...this.#exits.levels
        .filter((l) => l.certified && l.strategy === strategy && (kv === 'auto' || l.kv === kv))
        .map((l) => l.accuracy),
    );
    if (accuracy <= strictest + 1e-6) return;
    const of = `level of strategy ${strategy}${kv === 'auto' ? '' : ` and K/V policy ${kv}`}`;
    const warning = strictest
      ? `accuracy ${accuracy} is above the strictest certified ${of}, ${strictest}: no exits are taken`
      : `these heads have no certified ${of}: no exits are taken`;
    if (!this.#said.has(of)) this.#warn(warning);
    this.#said.add(of); // not the number: a server's clients may send many
  }

  /**
   * Token ids of a text.
   * @param {string} text
   * @param {object} [options]
   * @param {boolean} [options.special] special tokens in the text, such as `<|im_start|>`, count as
   *   such
   * @param {boolean} [options.bos] begin-of-text comes first where the model wants it
   * @returns {Promise<number[]>}
   */
  async tokenize(text, { special = false, bos = false } = {}) {
    this.#check();
    if (typeof text !== 'string')
      throw new ExitLMError('USAGE', `text: a string was expected, not ${typeof text}`);
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
   * @param {GenerateOptions} [options] with its tools
   * @returns {Promise<number>}
   */
  async countTokens(messages, options = {}) {
    this.#check();
    return this.#connection.peer.call('countTokens', {
      messages: plainMessages(messages),
      options: { tools: plain(options.tools), toolChoice: options.toolChoice },
    });
  }

  /**
   * Sets thresholds for the caller's own text, with the same guarantee by conversation as the heads
   * file's: the model answers the conversations with exits on, and every exit is verified. Says so
   * where there are too few to certify the accuracy; then nothing changes. It takes about as long
   * as answering the conversations two to eight times in mode `full`; replies that are asked for
   * meanwhile come in between.
   * @param {(string | string[] | ChatMessage[])[]} conversations each a text of the user, the texts
   *   of the user's turns, or messages whose answers the model writes anew. What users ask, drawn
   *   at random: the promise is for text like this. Repeated ones count once
   * @param {import('./calibrate.js').CalibrateOptions} [options]
   * @returns {Promise<import('./calibrate.js').Calibration>}
   */
  async calibrate(conversations, options) {
    this.#check();
    options = knownOptions(
      options,
      ['accuracy', 'delta', 'maxTokens', 'signal', 'onProgress'],
      this.#warn,
    );
    checkSignal(options.signal);
    const exits = this.#exits;
    const { calibrate } = await import('./calibrate.js');
    const made = await calibrate(
      {
        exits,
        layers: this.#info.layers,
        chat: (messages, more) => this.chat(messages, more),
        risk: (question) => this.#connection.peer.call('risk', question),
      },
      conversations,
      options,
    );
    const { certified, accuracy, delta, threshold, bound, coverage, agreement, measured, tokens } =
      made;
    if (!certified || !exits || !threshold) return made;
    /** @type {Level} */
    const level = {
      strategy: 'risk',
      kv: 'exact',
      kvType: this.#info.kvType,
      temperature: 0,
      maxTokens: options.maxTokens ?? 96,
      accuracy,
      certified,
      delta,
      bound: /** @type {number} */ (bound),
      threshold,
      coverage,
      agreement,
      agreementExited: agreement,
      regret: 1,
      regretBound: 1,
      unwanted: 1,
      conversations: measured,
      tokens,
      onDevice: true,
    };
    const exited = coverage.reduce((sum, c) => sum + c, 0);
    if (exited > 0) level.agreementExited = Math.max(0, 1 - (1 - agreement) / exited);
    this.#exits = { ...exits, levels: await this.#connection.peer.call('setLevel', level) };
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
   * Ends the engine and gives its memory back. What is under way rejects with DISPOSED; calling it
   * again waits for the first time.
   * @returns {Promise<void>}
   */
  async dispose() {
    await this.#end(new ExitLMError('DISPOSED', 'the model was disposed of'));
  }

  /** `await using lm = await ExitLM.load(…)` */
  async [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]() {
    await this.dispose();
  }

  #check() {
    if (!this.#ended) return;
    if (this.#ended instanceof ExitLMError && this.#ended.code === 'DISPOSED') throw this.#ended;
    const why = this.#ended instanceof Error ? this.#ended.message : String(this.#ended);
    throw new ExitLMError('DISPOSED', `the model is not usable any more (${why}); load it again`, {
      cause: this.#ended,
    });
  }
}

let askedToKeep = false;
/** Asks a browser, once, to keep what is cached also where it needs room. */
async function keepForLong() {
  if (askedToKeep || !isPage) return;
  askedToKeep = true;
  await globalThis.navigator?.storage?.persist?.().catch(() => false);
}

/**
 * What a listener throws is its own affair: loading goes on, and so does a process of Node's.
 * @template T
 * @param {((value: T) => void) | undefined} listener
 * @param {T} value
 */
function guarded(listener, value) {
  try {
    listener?.(value);
  } catch (error) {
    console.error(error);
  }
}

/**
 * Data as it can cross to a worker: what a framework made of it (a proxy, say) cannot.
 * @template T
 * @param {T} data
 * @returns {T}
 */
const plain = (data) => (data === undefined ? data : JSON.parse(JSON.stringify(data)));

/**
 * Messages as they can cross to a worker.
 * @param {unknown} messages
 * @returns {ChatMessage[]}
 */
function plainMessages(messages) {
  if (!Array.isArray(messages) || messages.length === 0) {
    throw new ExitLMError(
      'USAGE',
      `messages: a list with at least one { role, content } was expected${typeof messages === 'string' ? "; for a question write [{ role: 'user', content: text }], for a text to be continued use complete(text)" : ''}`,
    );
  }
  for (const [i, message] of messages.entries()) {
    const { role, content, toolCalls = [] } = message ?? {};
    if (!['system', 'user', 'assistant', 'tool'].includes(role))
      throw new ExitLMError(
        'USAGE',
        `messages[${i}].role: 'system', 'user', 'assistant' or 'tool' was expected, not ${JSON.stringify(role)}`,
      );
    if (!Array.isArray(toolCalls) || toolCalls.some((call) => typeof call?.name !== 'string'))
      throw new ExitLMError(
        'USAGE',
        `messages[${i}].toolCalls: a list of { id, name, arguments } was expected`,
      );
    if (typeof content !== 'string')
      throw new ExitLMError('USAGE', `messages[${i}].content: a string was expected`);
    if (message.prefix && (role !== 'assistant' || i < messages.length - 1))
      throw new ExitLMError(
        'USAGE',
        `messages[${i}].prefix: only the last message can have it, and only an assistant's`,
      );
  }
  return plain(messages);
}
