/**
 * Chrome's Prompt API (`LanguageModel`) for every browser, and for devices that Chrome's own model
 * leaves out:
 *
 * ```js
 * import { LanguageModel } from 'exitlm/prompt-api';
 * LanguageModel.configure({ model: '/models/smollm2-135m-instruct.gguf' });
 * const session = await LanguageModel.create({ monitor: (m) => m.addEventListener('downloadprogress', (e) => show(e.loaded)) });
 * for await (const text of session.promptStreaming('Why is the sky blue?')) show(text);
 * ```
 *
 * What differs: `create` resolves once the model can be talked to, which is before all of it has
 * arrived (the monitor goes on telling); the temperature is 0 where it is left out; errors are
 * ExitLMError; text only, no tools, no responseConstraint. What is ExitLM's own: `model`, `mode`
 * and `accuracy` of `create`, `token` events with each token's exit, and `session.exit` for the
 * last reply.
 *
 * @typedef {import('./exitlm.js').ExitLM} ExitLM
 * @typedef {import('./lazy-model.js').ModelOrSource} ModelOrSource
 * @typedef {import('./shared-model.js').Availability} Availability
 * @typedef {import('../chat/shared.js').ExitSummary} ExitSummary
 * @typedef {import('../link/types.js').ChatMessage} ChatMessage
 * @typedef {import('../link/types.js').GenerateOptions} GenerateOptions
 * @typedef {import('../link/types.js').LoadOptions} LoadOptions
 * @typedef {import('../link/types.js').ModelSource} ModelSource
 * @typedef {import('../link/types.js').Token} Token
 *
 * @typedef {{ role: 'system' | 'user' | 'assistant', content: string | { type: string, value?:
 *   unknown }[], prefix?: boolean }} PromptMessage
 * @typedef {string | PromptMessage[]} PromptInput
 * @typedef {{ type: string, languages?: string[] }} Expected
 *
 * @typedef {object} CoreOptions
 * @property {ModelOrSource} [model] left out: the one of `configure`
 * @property {LoadOptions} [load] options of ExitLM.load, for a `model` given here
 * @property {Expected[]} [expectedInputs]
 * @property {Expected[]} [expectedOutputs]
 * @property {number} [temperature]
 * @property {number} [topK]
 * @property {unknown[]} [tools] none
 *
 * @typedef {object} OwnOptions
 * @property {GenerateOptions['mode']} [mode]
 * @property {number} [accuracy]
 * @property {PromptMessage[]} [initialPrompts]
 * @property {AbortSignal} [signal]
 * @property {(monitor: EventTarget) => void} [monitor] gets `downloadprogress` events; `loaded`
 *   goes from 0 to 1
 *
 * @typedef {CoreOptions & OwnOptions} CreateOptions
 * @typedef {{ signal?: AbortSignal, responseConstraint?: unknown }} PromptOptions
 */
import { summaryOf, textOf } from '../chat/shared.js';
import { linked, orAbort } from '../link/abort.js';
import { absolute } from '../link/address.js';
import { ExitLMError } from '../link/errors.js';
import { deferred } from '../link/platform.js';
import { DownloadProgressEvent, SharedModel } from './shared-model.js';

/** Tells of one token of a reply. */
export class TokenEvent extends Event {
  /** @param {Token} token */
  constructor(token) {
    super('token');
    this.token = token;
  }
}

/** @type {SharedModel | null} */
let configured = null;
/**
 * Models given to `create` by address and options, so that sessions share them.
 * @type {Map<string, SharedModel>}
 */
const byAddress = new Map();
/** Models given as objects, as long as those live. @type {WeakMap<object, SharedModel>} */
const byObject = new WeakMap();

/** @param {CoreOptions} options @returns {SharedModel} */
function sharedFor({ model, load }) {
  if (model === undefined) {
    if (configured) return configured;
    throw new ExitLMError(
      'USAGE',
      'no model: call LanguageModel.configure({ model }) first, or give create() one',
    );
  }
  const address = typeof model === 'string' || model instanceof URL ? String(model) : null;
  const known = /** @type {Map<unknown, SharedModel>} */ (address === null ? byObject : byAddress);
  const key = address ?? model;
  let shared = known.get(key);
  if (!shared || (load && !sameOptions(load, shared.options)))
    known.set(key, (shared = new SharedModel(model, load)));
  return shared;
}

/** @param {Record<string, any>} a @param {Record<string, any>} b */
const sameOptions = (a, b) =>
  [...Object.keys(a), ...Object.keys(b)].every((name) => Object.is(a[name], b[name]));

/** @param {CoreOptions} options what cannot be had here, or null */
function lacking({ expectedInputs = [], expectedOutputs = [], tools = [] }) {
  const kind = [...expectedInputs, ...expectedOutputs].find(({ type }) => type !== 'text');
  if (kind) return `the model reads and writes text, not ${kind.type}`;
  return tools.length ? 'tools are not supported' : null;
}

/** A conversation. */
export class LanguageModel extends EventTarget {
  #shared;
  #lm;
  #options;
  /** @type {ChatMessage[]} */ #initial;
  /** @type {ChatMessage[]} */ #turns;
  #usage = 0;
  /** @type {Promise<unknown>} */ #last = Promise.resolve();
  #gone = new AbortController();
  /** @type {ExitSummary | null} */ #exit = null;
  /** Listeners by their events. @type {Record<string, ((event: Event) => void) | null>} */
  #onOverflow = { quotaoverflow: null, contextoverflow: null };
  /** @type {EventTarget | null} */ #monitor = null;

  /**
   * The model that sessions are made of from now on.
   * @param {{ model: ModelOrSource } & LoadOptions} options with those of ExitLM.load
   */
  static configure({ model, ...load }) {
    configured = new SharedModel(model, load);
  }

  /**
   * Whether a session can be had: at once ('available'), or after a download. Without one on the
   * device, the model's header is looked at: 'unavailable' says that it would not run here.
   * @param {CoreOptions} [options]
   * @returns {Promise<Availability>}
   */
  static async availability(options = {}) {
    if (lacking(options)) return 'unavailable';
    const shared = sharedFor(options);
    if (shared.state !== 'downloadable') return shared.state;
    const { ExitLM } = await import('./page.js');
    const { given } = shared;
    // bytes that are here
    if (typeof given !== 'string' && !(given instanceof URL) && !Array.isArray(given))
      return 'available';
    try {
      if (shared.options.cache !== 'none' && !Array.isArray(given)) {
        const { href } = absolute(given);
        if ((await ExitLM.cache.list()).some(({ url, complete }) => complete && url === href))
          return 'available';
      }
    } catch {
      // no address, or nothing is kept here: the header tells
    }
    return (await ExitLM.check(/** @type {ModelSource} */ (given), shared.options)).runs
      ? 'downloadable'
      : 'unavailable';
  }

  /** Ranges of the parameters. */
  static async params() {
    return { defaultTopK: 40, maxTopK: 128, defaultTemperature: 0, maxTemperature: 2 };
  }

  /**
   * A new session. Resolves once the model can be talked to.
   * @param {CreateOptions} [options]
   * @returns {Promise<LanguageModel>}
   */
  static async create(options = {}) {
    const {
      initialPrompts = [],
      temperature = 0,
      topK = 40,
      mode,
      accuracy,
      signal,
      monitor,
    } = options;
    const lack = lacking(options);
    if (lack) throw new ExitLMError('UNSUPPORTED', lack);
    inRange('temperature', temperature, 2);
    inRange('topK', topK, 128);
    signal?.throwIfAborted();
    const shared = sharedFor(options);
    const initial = inputMessages(initialPrompts);
    if (initial.slice(1).some(({ role }) => role === 'system'))
      throw new ExitLMError('USAGE', 'initialPrompts: a system prompt comes first');
    const target = new EventTarget();
    if (monitor) {
      monitor(target);
      shared.monitors.add(target);
      if (shared.state === 'available')
        queueMicrotask(() =>
          [0, 1].forEach((part) => target.dispatchEvent(new DownloadProgressEvent(part))),
        );
    }
    shared.users++;
    try {
      const lm = await orAbort(shared.get(), signal);
      const session = new LanguageModel(token, shared, lm, initial, [], {
        temperature,
        topK,
        mode,
        accuracy,
      });
      session.#monitor = target;
      await session.#count();
      if (session.#usage > session.inputQuota) throw tooLong(session.#usage, session.inputQuota);
      signal?.addEventListener('abort', () => session.#end(signal.reason), {
        once: true,
        signal: session.#gone.signal,
      });
      return session;
    } catch (error) {
      shared.release(target);
      throw error;
    }
  }

  /**
   * Use LanguageModel.create.
   * @param {symbol} secret
   * @param {SharedModel} shared
   * @param {ExitLM} lm
   * @param {ChatMessage[]} initial
   * @param {ChatMessage[]} turns
   * @param {{ temperature: number, topK: number, mode?: GenerateOptions['mode'], accuracy?: number
   *   }} options
   */
  constructor(secret, shared, lm, initial, turns, options) {
    super();
    if (secret !== token) throw new TypeError('Illegal constructor: use LanguageModel.create()');
    this.#shared = shared;
    this.#lm = lm;
    this.#initial = initial;
    this.#turns = turns;
    this.#options = options;
  }

  get temperature() {
    return this.#options.temperature;
  }

  get topK() {
    return this.#options.topK;
  }

  /** Tokens that the conversation takes of the context. */
  get inputUsage() {
    return this.#usage;
  }

  /** Tokens that the context has room for. */
  get inputQuota() {
    return this.#lm.info.contextLength;
  }

  /** The newer name of inputUsage. */
  get contextUsage() {
    return this.#usage;
  }

  /** The newer name of inputQuota. */
  get contextWindow() {
    return this.inputQuota;
  }

  /** How deep the last reply went; null before there is one. @returns {ExitSummary | null} */
  get exit() {
    return this.#exit;
  }

  /**
   * Called when the oldest turns were dropped to make room; events: `quotaoverflow`, and
   * `contextoverflow`.
   */
  get onquotaoverflow() {
    return this.#onOverflow.quotaoverflow;
  }

  set onquotaoverflow(listener) {
    this.#onOverflow.quotaoverflow = typeof listener === 'function' ? listener : null;
  }

  get oncontextoverflow() {
    return this.#onOverflow.contextoverflow;
  }

  set oncontextoverflow(listener) {
    this.#onOverflow.contextoverflow = typeof listener === 'function' ? listener : null;
  }

  /**
   * The whole reply.
   * @param {PromptInput} input
   * @param {PromptOptions} [options]
   * @returns {Promise<string>}
   */
  async prompt(input, options) {
    let text = '';
    for await (const piece of this.#reply(input, options)) text += piece;
    return text;
  }

  /**
   * The reply in pieces.
   * @param {PromptInput} input
   * @param {PromptOptions} [options]
   * @returns {ReadableStream<string>}
   */
  promptStreaming(input, options) {
    const pieces = this.#reply(input, options);
    return new ReadableStream({
      // Written as it is made: who reads no further does not keep the session.
      async start(controller) {
        try {
          for await (const piece of pieces) controller.enqueue(piece);
          controller.close();
        } catch (error) {
          controller.error(error);
        }
      },
      async cancel() {
        await pieces.return();
      },
    });
  }

  /**
   * Adds messages without a reply to them.
   * @param {PromptInput} input
   * @param {{ signal?: AbortSignal }} [options]
   * @returns {Promise<undefined>}
   */
  async append(input, { signal } = {}) {
    const messages = inputMessages(input);
    const over = await this.#turn(signal);
    try {
      const dropped = await this.#fit(messages, 0);
      this.#turns = [...this.#turns.slice(dropped), ...messages];
      await this.#count();
    } finally {
      over();
    }
  }

  /**
   * Tokens that an input would take.
   * @param {PromptInput} input
   * @param {PromptOptions} [options]
   * @returns {Promise<number>}
   */
  async measureInputUsage(input, { signal } = {}) {
    this.#check(signal);
    const messages = inputMessages(input);
    const before = [...this.#initial, ...this.#turns];
    const [all, already] = await Promise.all([
      this.#lm.countTokens([...before, ...messages]),
      before.length ? this.#lm.countTokens(before) : 0,
    ]);
    this.#check(signal);
    return all - already;
  }

  /**
   * The newer name of measureInputUsage. @param {PromptInput} input @param {PromptOptions}
   * [options]
   */
  measureContextUsage(input, options) {
    return this.measureInputUsage(input, options);
  }

  /**
   * A session that goes its own way from here.
   * @param {{ signal?: AbortSignal }} [options]
   * @returns {Promise<LanguageModel>}
   */
  async clone({ signal } = {}) {
    this.#check(signal);
    const session = new LanguageModel(
      token,
      this.#shared,
      this.#lm,
      this.#initial,
      this.#turns,
      this.#options,
    );
    session.#usage = this.#usage;
    this.#shared.users++;
    signal?.addEventListener('abort', () => session.#end(signal.reason), {
      once: true,
      signal: session.#gone.signal,
    });
    return session;
  }

  /** Ends the session: what is under way rejects with an AbortError. */
  destroy() {
    this.#end(new DOMException('The session was destroyed', 'AbortError'));
  }

  /** @param {unknown} reason */
  #end(reason) {
    if (this.#gone.signal.aborted) return;
    this.#gone.abort(reason);
    this.#shared.release(this.#monitor);
  }

  /** @param {AbortSignal} [signal] */
  #check(signal) {
    if (this.#gone.signal.aborted)
      throw new ExitLMError('DISPOSED', 'the session was destroyed; create or clone another', {
        cause: this.#gone.signal.reason,
      });
    signal?.throwIfAborted();
  }

  async #count() {
    const messages = [...this.#initial, ...this.#turns];
    this.#usage = messages.length ? await this.#lm.countTokens(messages) : 0;
  }

  /**
   * Prompts of a session follow each other.
   * @param {AbortSignal} [signal]
   * @returns {Promise<() => void>} what ends the turn
   */
  async #turn(signal) {
    this.#check(signal);
    const before = this.#last;
    const { promise, resolve: over } = deferred();
    this.#last = before.then(() => promise);
    try {
      await orAbort(before, signal);
      this.#check(signal);
      return () => over(undefined);
    } catch (error) {
      over(undefined);
      throw error;
    }
  }

  /**
   * Oldest turns to leave out so that messages and some of a reply have room; the initial prompts
   * stay.
   * @param {ChatMessage[]} messages
   * @param {number} reserve tokens for the reply
   * @returns {Promise<number>}
   */
  async #fit(messages, reserve) {
    let dropped = 0;
    for (;;) {
      const tokens = await this.#lm.countTokens([
        ...this.#initial,
        ...this.#turns.slice(dropped),
        ...messages,
      ]);
      if (tokens + reserve < this.inputQuota) break;
      if (dropped >= this.#turns.length) {
        if (tokens < this.inputQuota) break;
        throw tooLong(tokens, this.inputQuota);
      }
      dropped++;
      while (dropped < this.#turns.length && this.#turns[dropped].role === 'assistant') dropped++;
    }
    for (const [name, listener] of dropped ? Object.entries(this.#onOverflow) : []) {
      const event = new Event(name);
      listener?.(event);
      this.dispatchEvent(event);
    }
    return dropped;
  }

  /**
   * @param {PromptInput} input
   * @param {PromptOptions} [options]
   * @returns {AsyncGenerator<string, void, undefined>}
   */
  async *#reply(input, { signal, responseConstraint } = {}) {
    this.#check(signal);
    if (responseConstraint !== undefined && responseConstraint !== null)
      throw new ExitLMError(
        'USAGE',
        'option responseConstraint: not supported by ExitLM; leave it out',
      );
    const messages = inputMessages(input);
    if (!messages.length)
      throw new ExitLMError(
        'USAGE',
        'input: a text or a list with at least one message was expected',
      );
    const over = await this.#turn(signal);
    try {
      const dropped = await orAbort(
        this.#fit(messages, Math.min(256, Math.floor(this.inputQuota / 8))),
        signal,
      );
      const turns = [...this.#turns.slice(dropped), ...messages];
      const stop = linked(signal, this.#gone.signal);
      const options = { ...this.#generateOptions(), signal: stop.signal };
      const reply = this.#lm.chat([...this.#initial, ...turns], options);
      try {
        for await (const piece of reply) {
          this.dispatchEvent(new TokenEvent(piece));
          if (piece.text) yield piece.text;
        }
        const result = await reply.result;
        this.#exit = summaryOf(result, this.#lm, options);
        this.#turns = [...turns, { role: 'assistant', content: result.text }];
        this.#usage = result.usage.promptTokens + result.usage.completionTokens;
      } finally {
        stop.release();
      }
    } finally {
      over();
    }
  }

  /** @returns {GenerateOptions} */
  #generateOptions() {
    const { temperature, topK, mode, accuracy } = this.#options;
    return {
      temperature,
      ...(temperature > 0 ? { topK } : {}),
      ...(mode === undefined ? {} : { mode }),
      ...(accuracy === undefined ? {} : { accuracy }),
    };
  }
}

const token = Symbol('LanguageModel.create');

/** @param {PromptInput} input @returns {ChatMessage[]} */
function inputMessages(input) {
  if (typeof input === 'string') return [{ role: 'user', content: input }];
  if (!Array.isArray(input))
    throw new ExitLMError(
      'USAGE',
      `input: a string or a list of messages was expected, not ${typeof input}`,
    );
  return input.map(({ role = 'user', content, prefix }, i) => {
    if (!['system', 'user', 'assistant'].includes(role))
      throw new ExitLMError(
        'USAGE',
        `input[${i}].role: 'system', 'user' or 'assistant' was expected, not ${JSON.stringify(role)}`,
      );
    if (prefix)
      throw new ExitLMError('USAGE', `input[${i}].prefix: not supported by ExitLM; leave it out`);
    return { role, content: textOf(content, `input[${i}].content`) };
  });
}

/** @param {string} name @param {unknown} value @param {number} most */
function inRange(name, value, most) {
  if (typeof value !== 'number' || !(value >= 0 && value <= most))
    throw new ExitLMError(
      'USAGE',
      `option ${name}: a number from 0 to ${most} was expected, not ${value}`,
    );
}

/** @param {number} tokens @param {number} quota */
const tooLong = (tokens, quota) =>
  new ExitLMError(
    'CONTEXT_FULL',
    `the prompt takes ${tokens} tokens, the context has room for ${quota}`,
  );
