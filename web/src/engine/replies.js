/**
 * Replies: they follow each other in the order they were asked for. Generation advances in steps of
 * C, each a token or a slice of the prompt, and lets the event loop turn every few milliseconds: so
 * a stop arrives, and so downloads go on beside it.
 *
 * @typedef {import('./engine.js').Engine} Engine
 * @typedef {import('./template.js').Prompt} Prompt
 * @typedef {import('./tools.js').Form} Form
 * @typedef {import('../loading/loader.js').ModelLoader} ModelLoader
 * @typedef {import('../link/protocol.js').CallerPeer} Peer
 * @typedef {import('../link/protocol.js').GenerateRequest} GenerateRequest
 * @typedef {import('../link/protocol.js').OwnLevel} OwnLevel
 * @typedef {import('../link/types.js').Exits} Exits
 * @typedef {import('../link/types.js').GenerateOptions} GenerateOptions
 * @typedef {import('../link/types.js').Result} Result
 *
 * @typedef {{ stopped: boolean, wake: { promise: Promise<void>, resolve: (value: void) => void } }}
 *   Reply
 */
import { deferred, now, turn } from '../link/platform.js';
import { idsOfText, textOfIds, withPrompt } from './describe.js';
import { Shapes, isJson, isShaped } from './shapes.js';
import { generateOptions } from './structs.js';
import { CallReader, toolsIn } from './tools.js';

const TURN_MS = 8;
/** From an answer's bytes to the engine there are some turns. */
const QUIET_TURNS = 4;

export class Replies {
  #engine;
  #loader;
  #session;
  #exits;
  #clock;
  #peer;
  #maps;
  #event;
  #shapes;
  #form;
  /** All replies so far. @type {Promise<unknown>} */ #before = Promise.resolve();
  /** @type {Map<number, Reply>} */ #open = new Map();
  /** Levels that were calibrated here, by accuracy. @type {OwnLevel[]} */ #ownLevels = [];

  /**
   * @param {object} given
   * @param {Engine} given.engine
   * @param {ModelLoader} given.loader
   * @param {number} given.session
   * @param {Exits | null} given.exits
   * @param {boolean} given.clock time passes while code runs
   * @param {Peer} given.peer is told of each token
   * @param {Promise<void>} given.maps the heads' K/V maps are here, or will not come
   * @param {Form | null} given.form of tool calls that the model's template knows
   */
  constructor({ engine, loader, session, exits, clock, peer, maps, form }) {
    this.#engine = engine;
    this.#loader = loader;
    this.#session = session;
    this.#exits = exits;
    this.#clock = clock;
    this.#peer = peer;
    this.#maps = maps;
    this.#event = engine.create('event');
    this.#form = form;
    this.#shapes = new Shapes(engine, loader.model);
  }

  /**
   * Resolves to the statistics of a reply; its tokens go out as notices before.
   * @param {GenerateRequest} request
   * @param {(prompt: GenerateRequest['prompt']) => string | Promise<Prompt>} textOf
   * @param {() => void} check throws where the engine has ended
   * @returns {Promise<Result>}
   */
  async generate({ id, prompt, options }, textOf, check) {
    /** @type {Reply} */
    const reply = { stopped: false, wake: deferred() };
    this.#open.set(id, reply);
    const before = this.#before;
    const { promise, resolve: release } = deferred();
    this.#before = before.then(() => promise);
    try {
      const text = await textOf(prompt); // what is wrong with it is said at once
      await before;
      if (this.#mayUseMaps(options)) await Promise.race([this.#maps, reply.wake.promise]);
      check();
      return reply.stopped ? nothingDone() : await this.#run(id, text, options, reply);
    } finally {
      this.#open.delete(id);
      release(undefined);
    }
  }

  /** @param {number} id */
  cancel(id) {
    const reply = this.#open.get(id);
    if (!reply) return;
    reply.stopped = true;
    reply.wake.resolve();
  }

  cancelAll() {
    for (const id of this.#open.keys()) this.cancel(id);
  }

  /** @param {OwnLevel} level */
  setLevel(level) {
    this.#ownLevels = [
      ...this.#ownLevels.filter(({ accuracy }) => Math.abs(accuracy - level.accuracy) > 1e-6),
      level,
    ].sort((a, b) => a.accuracy - b.accuracy);
  }

  /**
   * The lowest level of this device that is good for what is asked goes before the heads file's.
   * @param {GenerateOptions} options
   */
  #withOwnLevel(options) {
    const {
      mode = 'exit',
      strategy = 'risk',
      kv = 'auto',
      accuracy = this.#exits?.defaultAccuracy ?? 1,
      thresholds,
    } = options;
    if (mode !== 'exit' || strategy !== 'risk' || kv === 'maps' || thresholds) return options;
    const own = this.#ownLevels.find((level) => level.accuracy >= accuracy - 1e-6);
    return own ? { ...options, kv: 'exact', thresholds: own.threshold } : options;
  }

  /**
   * Might the engine choose K/V maps for it? Such a reply waits for those that are still to come:
   * which policy answers must not depend on the moment. @param {GenerateOptions} asked
   */
  #mayUseMaps(asked) {
    const {
      mode = 'exit',
      strategy = 'risk',
      kv,
      accuracy = this.#exits?.defaultAccuracy ?? 1,
      thresholds,
    } = this.#withOwnLevel(asked);
    if (mode !== 'exit' || kv || thresholds) return false;
    return !!this.#exits?.levels.some(
      (l) =>
        l.kv === 'maps' && l.strategy === strategy && l.certified && l.accuracy >= accuracy - 1e-6,
    );
  }

  /**
   * @param {number} id
   * @param {string | Prompt} text
   * @param {GenerateOptions} options
   * @param {Reply} reply
   */
  async #run(id, text, options, reply) {
    const engine = this.#engine;
    const loader = this.#loader;
    const tools = toolsIn(options);
    const calls = tools && new CallReader(this.#form ?? 'hermes');
    const grammar = this.#shapes.grammarOf(options, tools, this.#form);
    const { struct, seed, free } = generateOptions(
      engine,
      { ...this.#withOwnLevel(options), grammar },
      this.#exits?.heads.length ?? 0,
    );
    try {
      withPrompt(engine, text, (...memory) =>
        engine.run('session_text', this.#session, ...memory, struct),
      );
    } finally {
      free();
    }
    if (!loader.finished) loader.needRows(idsOfText(engine, loader.model, text, true, true));
    const typeAt = this.#event + engine.offsetOf('event', 'type');
    const tokenAt = this.#event + engine.offsetOf('event', 'token');
    let lastTurn = now();
    let stopSent = false;
    for (;;) {
      if (loader.failure) throw loader.failure;
      if (reply.stopped && !stopSent) {
        engine.call('session_stop', this.#session);
        stopSent = true;
      }
      if (engine.run('session_step', this.#session, this.#event) === 'WAIT') {
        const [layer, row] = engine.with(8, (needs) => {
          engine.call('session_needs', this.#session, needs);
          return engine.i32s(needs, 2);
        });
        if (layer === -1) loader.needRows([row]);
        await Promise.race([loader.nextChange(), reply.wake.promise]);
        lastTurn = now();
        continue;
      }
      const type = engine.names.event[engine.view.getUint32(typeAt, true)];
      const tell = (/** @type {any[]} */ tokens) =>
        tokens.forEach((token) => this.#peer.notify('token', { id, token }));
      if (type === 'done') {
        if (calls) tell(calls.end());
        return this.#result(seed, options, calls);
      }
      if (type !== 'progress') {
        const token = /** @type {any} */ (this.#token(tokenAt, type, options));
        tell(calls && type === 'token' ? calls.push(token) : [token]);
      }
      // Without a clock nobody knows how long this has taken: each token and each slice of the
      // prompt is a turn.
      if (!this.#clock || now() - lastTurn > TURN_MS) {
        await this.#pause();
        lastTurn = now();
      }
    }
  }

  /**
   * Lets the event loop turn; while the model loads as often as bytes come, but for no longer than
   * was computed: who computes and who loads share a thread.
   */
  async #pause() {
    const loader = this.#loader;
    const until = now() + TURN_MS;
    for (let quiet = 0; quiet < QUIET_TURNS; quiet++) {
      const before = loader.networkBytes;
      await turn();
      if (loader.finished || now() > until) return;
      if (loader.networkBytes !== before) quiet = 0;
    }
  }

  /**
   * @param {number} at
   * @param {string} type
   * @param {GenerateOptions} options
   * @returns {import('../link/types.js').Token | import('../link/types.js').DraftEvent}
   */
  #token(at, type, options) {
    const {
      index,
      id,
      text,
      textBytes,
      layer,
      of,
      work,
      head,
      confidence,
      drafted,
      forced,
      draftHead,
      ms,
      logprob,
      top,
      nTop,
    } = this.#engine.read('token', at);
    return {
      ...(options.events === true ? { type: /** @type {'token'} */ (type) } : {}),
      index,
      id,
      text: this.#engine.text(text, textBytes),
      layer,
      of,
      depth: of > 0 ? layer / of : 0,
      work,
      head,
      confidence,
      drafted,
      ...(drafted || type !== 'token' ? { draftHead } : {}),
      ...(forced ? { forced } : {}),
      ms: measured(ms),
      ...(typeof options.logprobs !== 'number' || type !== 'token'
        ? {}
        : { logprob, top: this.#likeliest(top, nTop) }),
    };
  }

  /** @param {number} at @param {number} n @returns {import('../link/types.js').Likely[]} */
  #likeliest(at, n) {
    const engine = this.#engine;
    return Array.from({ length: n }, (_, i) => {
      const { id, logprob } = engine.read('logprob', at + i * engine.sizeOf('logprob'));
      return { id, text: textOfIds(engine, this.#loader.model, [id]), logprob };
    });
  }

  /**
   * @param {string | null} seed @param {GenerateOptions} options @param {CallReader | null} calls
   * @returns {Result}
   */
  #result(seed, options, calls) {
    const engine = this.#engine;
    const {
      text,
      textBytes,
      reason,
      promptTokens,
      completionTokens,
      reusedTokens,
      exits: byHead,
      fullTokens,
      forcedTokens,
      promptMs,
      decodeMs,
      tokensPerSecond,
      certified,
      uncertified,
      ...counts
    } = engine.read('stats', this.#event + engine.offsetOf('event', 'stats'));
    const whole = engine.text(text, textBytes);
    const why = /** @type {Result['reason']} */ (engine.names.reason[reason]);
    const said = calls?.read(whole);
    return {
      text: whole,
      ...said,
      reason: why === 'stop' && said?.toolCalls.length ? 'tool' : why,
      ...(isJson(options) && why === 'stop' ? { json: JSON.parse(whole) } : {}),
      ...(isShaped(options) || calls ? { forced: forcedTokens } : {}),
      usage: { promptTokens, completionTokens, reusedTokens },
      exits: { ...byHead.slice(0, this.#exits?.heads.length ?? 0), [-1]: fullTokens },
      .../** @type {Pick<Result, 'meanDepth' | 'meanWork' | 'drafted' | 'accepted' | 'draftAttempts' | 'audited' | 'auditDisagreed'>} */ (
        counts
      ),
      certified,
      uncertified: certified ? null : engine.text(uncertified),
      seed,
      timing: {
        promptMs: measured(promptMs),
        decodeMs: measured(decodeMs),
        tokensPerSecond: measured(tokensPerSecond),
      },
    };
  }
}

/** @param {number} value negative where there is no clock */
function measured(value) {
  return value < 0 || !Number.isFinite(value) ? null : value;
}

/** @returns {Result} of a reply that was stopped before its turn */
function nothingDone() {
  return {
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
    certified: true,
    uncertified: null,
    seed: null,
    timing: { promptMs: null, decodeMs: null, tokensPerSecond: null },
  };
}
