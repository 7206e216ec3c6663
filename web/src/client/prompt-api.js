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
 * `globalThis.LanguageModel ??= LanguageModel` gives a page that is written for Chrome's the same
 * everywhere. Errors are the specification's (a QuotaExceededError with `requested` and `quota`, a
 * NotSupportedError, …), with ExitLM's own as their `cause`. docs/prompt-api.md says what differs.
 * ExitLM's own: `model`, `languages`, `mode` and `accuracy` of `create`, `token` events with each
 * token's exit, and `session.exit` for the last reply.
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
 * @typedef {import('./shared-model.js').CreateMonitor} CreateMonitor
 * @typedef {import('./prompt-input.js').PromptContentType} PromptContentType
 * @typedef {import('./prompt-input.js').PromptMessage} PromptMessage
 * @typedef {import('./prompt-input.js').PromptInput} PromptInput
 * @typedef {import('./prompt-input.js').PromptTool} PromptTool
 * @typedef {import('./prompt-input.js').Expected} Expected
 * @typedef {import('./prompt-input.js').SamplingMode} SamplingMode
 *
 * @typedef {object} CoreOptions
 * @property {ModelOrSource} [model] left out: the one of `configure`
 * @property {LoadOptions} [load] options of ExitLM.load, for a `model` given here
 * @property {string[]} [languages] that the model is for; left out: those of `configure`, else English
 * @property {Expected[]} [expectedInputs]
 * @property {Expected[]} [expectedOutputs]
 * @property {SamplingMode} [samplingMode] 'balanced'
 * @property {number} [temperature] in place of a samplingMode
 * @property {number} [topK] in place of a samplingMode
 * @property {PromptTool[]} [tools] run while the model answers
 *
 * @typedef {object} OwnOptions
 * @property {GenerateOptions['mode']} [mode]
 * @property {number} [accuracy]
 * @property {PromptMessage[]} [initialPrompts]
 * @property {AbortSignal} [signal]
 * @property {(monitor: CreateMonitor) => void} [monitor] gets `downloadprogress` events; `loaded`
 *   goes from 0 to 1
 *
 * @typedef {CoreOptions & OwnOptions} CreateOptions
 * @typedef {{ signal?: AbortSignal, responseConstraint?: object, omitResponseConstraintInput?:
 *   boolean }} PromptOptions `responseConstraint`: a JSON Schema (docs/shaped.md says what of it is
 *   understood) or a RegExp
 */
import { summaryOf } from '../chat/shared.js';
import { linked, orAbort } from '../link/abort.js';
import { absolute } from '../link/address.js';
import { deferred } from '../link/platform.js';
import { turnsToLeaveOut } from '../link/turns.js';
import {
  conforming,
  constrained,
  exception,
  lacking,
  messagesOf,
  PARAMS,
  samplingOf,
  tooLong,
  toolsOf,
} from './prompt-input.js';
import { shapeOrCall } from './shape-or-call.js';
import { CreateMonitor as Monitor, SharedModel } from './shared-model.js';

/** After so many rounds of calls the model answers without tools. */
const MOST_ROUNDS = 8;

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

/** @type {string[]} */
let languagesConfigured = ['en'];

/** @param {CoreOptions} options @returns {SharedModel | null} */
function sharedFor({ model, load }) {
  if (model === undefined) return configured;
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
const lacks = (options) => lacking(options, options.languages ?? languagesConfigured);

/** A conversation. */
export class LanguageModel extends EventTarget {
  #shared;
  #lm;
  #settings;
  /** @type {ChatMessage[]} */ #initial;
  /** @type {ChatMessage[]} */ #turns;
  #usage = 0;
  /** @type {Promise<unknown>} */ #last = Promise.resolve();
  #gone = new AbortController();
  /** @type {ExitSummary | null} */ #exit = null;
  /** Listeners by their events. @type {Record<string, ((event: Event) => void) | null>} */
  #onOverflow = { quotaoverflow: null, contextoverflow: null };
  /** @type {CreateMonitor | null} */ #monitor = null;

  /**
   * The model that sessions are made of from now on.
   * @param {{ model: ModelOrSource, languages?: string[] } & LoadOptions} options with those of
   *   ExitLM.load; `languages`: those that the model is for, English where they are left out
   */
  static configure({ model, languages = ['en'], ...load }) {
    languagesConfigured = Intl.getCanonicalLocales(languages);
    configured = new SharedModel(model, load);
  }

  /**
   * Whether a session can be had: at once ('available'), or after a download. Without one on the
   * device, the model's header is looked at: 'unavailable' says that it would not run here.
   * @param {CoreOptions} [options]
   * @returns {Promise<Availability>}
   */
  static async availability(options = {}) {
    samplingOf(options);
    toolsOf(options);
    const shared = sharedFor(options);
    if (lacks(options) || !shared) return 'unavailable';
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
    try {
      return (await ExitLM.check(/** @type {ModelSource} */ (given), shared.options)).runs
        ? 'downloadable'
        : 'unavailable';
    } catch (error) {
      throw conforming(error);
    }
  }

  /** Ranges of `temperature` and `topK`. */
  static async params() {
    return PARAMS;
  }

  /**
   * A new session. Resolves once the model can be talked to.
   * @param {CreateOptions} [options]
   * @returns {Promise<LanguageModel>}
   */
  static async create(options = {}) {
    const { initialPrompts = [], tools = [], mode, accuracy, signal, monitor } = options;
    const sampling = samplingOf(options);
    const engineTools = toolsOf(options);
    const initial = messagesOf(initialPrompts, false).map(whole);
    const shared = sharedFor(options);
    const lack = lacks(options);
    signal?.throwIfAborted();
    const target = new Monitor();
    monitor?.(target);
    if (lack) throw exception('NotSupportedError', lack);
    if (!shared)
      throw exception(
        'NotSupportedError',
        'no model: call LanguageModel.configure({ model }) first, or give create() one',
      );
    shared.monitors.add(target);
    if (shared.state === 'available')
      queueMicrotask(() => {
        if (shared.monitors.has(target)) for (const part of [0, 1]) target.tell(part);
      });
    shared.users++;
    try {
      const lm = await orAbort(shared.get(), signal);
      const session = new LanguageModel(token, shared, lm, initial, [], {
        sampling,
        exits: {
          ...(mode === undefined ? {} : { mode }),
          ...(accuracy === undefined ? {} : { accuracy }),
        },
        tools: engineTools ? { tools: engineTools } : {},
        run: Object.fromEntries(tools.map(({ name, execute }) => [name, execute])),
      });
      session.#monitor = target;
      await orAbort(session.#count(), signal);
      if (session.#usage > session.inputQuota) throw tooLong(session.#usage, session.inputQuota);
      session.#endWith(signal);
      return session;
    } catch (error) {
      shared.release(target);
      throw conforming(error);
    }
  }

  /**
   * Use LanguageModel.create.
   * @param {any[]} inside
   */
  constructor(...inside) {
    super();
    const [secret, shared, lm, initial, turns, settings] = inside;
    if (secret !== token) throw new TypeError('Illegal constructor: use LanguageModel.create()');
    this.#shared = /** @type {SharedModel} */ (shared);
    this.#lm = /** @type {ExitLM} */ (lm);
    this.#initial = initial;
    this.#turns = turns;
    this.#settings = /** @type {import('./prompt-input.js').Settings} */ (settings);
  }

  get samplingMode() {
    return this.#settings.sampling.samplingMode;
  }

  get temperature() {
    return this.#settings.sampling.temperature;
  }

  get topK() {
    return this.#settings.sampling.topK;
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
    try {
      const over = await this.#turn(signal);
      try {
        const messages = this.#messagesOf(input).map(whole);
        if (!messages.length) return;
        const dropped = await orAbort(this.#fit(messages, 0), signal);
        this.#say([...this.#turns.slice(dropped), ...messages]);
        await this.#count();
      } finally {
        over();
      }
    } catch (error) {
      throw conforming(error);
    }
  }

  /**
   * Tokens that an input would take.
   * @param {PromptInput} input
   * @param {PromptOptions} [options]
   * @returns {Promise<number>}
   */
  async measureContextUsage(input, options = {}) {
    try {
      this.#check(options.signal);
      const { messages } = constrained(messagesOf(input, false), options);
      const before = [...this.#initial, ...this.#turns];
      // measured alone a system prompt is allowed, as for a session that is still to be made
      if (messages[0]?.role === 'system') before.length = 0;
      if (!messages.length) return 0;
      const [all, already] = await orAbort(
        Promise.all([this.#tokens([...before, ...messages]), this.#tokens(before)]),
        options.signal,
      );
      this.#check();
      return all - already;
    } catch (error) {
      throw conforming(error);
    }
  }

  /**
   * The older name of measureContextUsage. @param {PromptInput} input @param {PromptOptions}
   * [options]
   */
  measureInputUsage(input, options) {
    return this.measureContextUsage(input, options);
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
      this.#settings,
    );
    session.#usage = this.#usage;
    this.#shared.users++;
    session.#endWith(signal);
    return session;
  }

  /** Ends the session: what is under way rejects with an InvalidStateError. @returns {undefined} */
  destroy() {
    this.#end(exception('InvalidStateError', 'the session was destroyed'));
  }

  /** @param {unknown} reason */
  #end(reason) {
    if (this.#gone.signal.aborted) return;
    this.#gone.abort(reason);
    this.#shared.release(this.#monitor);
  }

  /** @param {AbortSignal} [signal] */
  #endWith(signal) {
    signal?.addEventListener('abort', () => this.#end(signal.reason), {
      once: true,
      signal: this.#gone.signal,
    });
  }

  /** @param {AbortSignal} [signal] */
  #check(signal) {
    if (this.#gone.signal.aborted)
      throw exception(
        'InvalidStateError',
        'the session was destroyed; create or clone another',
        this.#gone.signal.reason,
      );
    signal?.throwIfAborted();
  }

  /** @param {PromptInput} input */
  #messagesOf(input) {
    return messagesOf(input, this.#initial.length + this.#turns.length > 0);
  }

  /** @param {ChatMessage[]} messages */
  async #tokens(messages) {
    return messages.length ? this.#lm.countTokens(messages, this.#settings.tools) : 0;
  }

  async #count() {
    this.#usage = await this.#tokens([...this.#initial, ...this.#turns]);
  }

  /**
   * All that was said after the initial prompts; a system prompt among it becomes one of those, which
   * stay when room is made. @param {ChatMessage[]} turns
   */
  #say(turns) {
    const systems = turns.filter(({ role }) => role === 'system');
    this.#initial = [...this.#initial, ...systems];
    this.#turns = turns.slice(systems.length);
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
    let tokens = 0;
    const dropped = await turnsToLeaveOut([...this.#turns, { role: 'user' }], 0, async (at) => {
      tokens = await this.#tokens([...this.#initial, ...this.#turns.slice(at), ...messages]);
      return tokens + reserve < this.inputQuota;
    });
    if (tokens >= this.inputQuota) throw tooLong(tokens, this.inputQuota);
    for (const [name, listener] of dropped ? Object.entries(this.#onOverflow) : []) {
      const event = new Event(name);
      listener?.call(this, event);
      this.dispatchEvent(event);
    }
    return dropped;
  }

  /**
   * @param {PromptInput} input
   * @param {PromptOptions} [options]
   * @returns {AsyncGenerator<string, void, undefined>}
   */
  async *#reply(input, options = {}) {
    const { signal } = options;
    try {
      const over = await this.#turn(signal);
      const stop = linked(signal, this.#gone.signal);
      try {
        const said = this.#messagesOf(input);
        if (!said.length) said.push({ role: 'user', content: '' });
        const { messages, shape } = constrained(said, options);
        const dropped = await orAbort(
          this.#fit(messages, Math.min(256, Math.floor(this.inputQuota / 8))),
          stop.signal,
        );
        const turns = [...this.#turns.slice(dropped), ...messages];
        yield* this.#answer(turns, shape, stop.signal);
        this.#say(turns);
      } finally {
        stop.release();
        over();
      }
    } catch (error) {
      throw conforming(error);
    }
  }

  /**
   * One reply, or several with calls of tools between them.
   * @param {ChatMessage[]} turns what is said is added
   * @param {Pick<GenerateOptions, 'schema' | 'pattern'> | null} shape
   * @param {AbortSignal} signal
   * @returns {AsyncGenerator<string, void, undefined>}
   */
  async *#answer(turns, shape, signal) {
    const { sampling, exits, tools, run } = this.#settings;
    const { temperature, topK } = sampling;
    for (let round = 0; ; round++) {
      /** @type {GenerateOptions} */
      const options = {
        temperature,
        ...(temperature > 0 ? { topK } : {}),
        ...exits,
        ...shape,
        ...tools,
        ...(tools.tools && round === MOST_ROUNDS ? { toolChoice: 'none' } : {}),
        signal,
      };
      const reply = await shapeOrCall(this.#lm, [...this.#initial, ...turns], options);
      for await (const piece of reply) {
        this.dispatchEvent(new TokenEvent(piece));
        if (piece.text) yield piece.text;
      }
      const result = await reply.result;
      const { text, reason, toolCalls = [], usage } = result;
      if (shape && reason === 'length')
        throw exception(
          'SyntaxError',
          'responseConstraint: the context ended before the reply did',
        );
      const begun = turns[turns.length - 1].prefix ? (turns.pop()?.content ?? '') : '';
      const calls = toolCalls.length ? { toolCalls } : {};
      turns.push({ role: 'assistant', content: begun + text, ...calls });
      this.#exit = summaryOf(result, this.#lm, options);
      this.#usage = usage.promptTokens + usage.completionTokens;
      if (reason !== 'tool') return;
      const answers = toolCalls.map(async ({ id, name, arguments: given }) => ({
        role: 'tool',
        toolCallId: id,
        content: String(await run[name](given)),
      }));
      turns.push(...(await orAbort(Promise.all(answers), signal)));
    }
  }
}

/** A message that is through. @param {ChatMessage} message @returns {ChatMessage} */
const whole = ({ role, content }) => ({ role, content });

const token = Symbol('LanguageModel.create');
