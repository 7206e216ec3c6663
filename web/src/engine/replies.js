/**
 * Replies: those of one session follow each other in the order they were asked for, those of several
 * are advanced together. Generation goes in steps of C, each a token or a slice of the prompt for
 * everybody, and lets the event loop turn every few milliseconds: so a stop arrives, and so
 * downloads go on beside it.
 *
 * @typedef {import('./engine.js').Engine} Engine
 * @typedef {import('./template.js').Prompt} Prompt
 * @typedef {import('./tools.js').Form} Form
 * @typedef {import('../loading/loader.js').ModelLoader} ModelLoader
 * @typedef {import('../link/protocol.js').CallerPeer} Peer
 * @typedef {import('../link/protocol.js').GenerateRequest} GenerateRequest
 * @typedef {import('../link/types.js').Level} Level
 * @typedef {import('../link/types.js').Exits} Exits
 * @typedef {import('../link/types.js').GenerateOptions} GenerateOptions
 * @typedef {import('../link/types.js').Result} Result
 *
 * @typedef {object} Reply
 * @property {number} session
 * @property {boolean} stopped
 * @property {{ promise: Promise<void>, resolve: (value: void) => void }} wake
 *
 * @typedef {object} Running a reply that C has begun
 * @property {number} id
 * @property {Reply} reply
 * @property {number} address of its session
 * @property {number} [dropped] messages that its prompt goes without
 * @property {string} begun what its prompt ends with, an assistant's
 * @property {string | null} seed
 * @property {GenerateOptions} options
 * @property {CallReader | null} calls
 * @property {boolean} stopSent
 * @property {(result: Result) => void} resolve
 * @property {(error: unknown) => void} reject
 */
import { isShaped } from '../link/options.js';
import { deferred, now, turn } from '../link/platform.js';
import { idsOfText, textOfIds, withPrompt } from './describe.js';
import { Shapes, isJson } from './shapes.js';
import { generateOptions } from './structs.js';
import { CallReader, toolsIn } from './tools.js';

const TURN_MS = 8;
/**
 * Bytes that come go before computing for so long: taking them in has to be done anyway, and what is
 * not taken keeps server and browser from going on.
 */
const BYTES_MS = 40;
/** From an answer's bytes to the engine there are some turns. */
const QUIET_TURNS = 4;
/** As EXITLM_MAX_TURNS. */
const MOST_TOGETHER = 32;

export class Replies {
  #engine;
  #loader;
  #sessions;
  #exits;
  #clock;
  #peer;
  #maps;
  #turns;
  #shapes;
  #form;
  /** @type {Set<Running>} */ #running = new Set();
  /** @type {Map<number, Reply>} */ #open = new Map();

  /**
   * @param {object} given
   * @param {Engine} given.engine
   * @param {ModelLoader} given.loader
   * @param {import('./sessions.js').Sessions} given.sessions
   * @param {Exits | null} given.exits
   * @param {boolean} given.clock time passes while code runs
   * @param {Peer} given.peer is told of each token
   * @param {{ come: boolean, want: () => Promise<void>, promise: Promise<void> }} given.maps the
   *   heads' K/V maps are still to come, until this promise resolves; `want` fetches them now
   * @param {Form | null} given.form of tool calls that the model's template knows
   */
  constructor({ engine, loader, sessions, exits, clock, peer, maps, form }) {
    this.#engine = engine;
    this.#loader = loader;
    this.#sessions = sessions;
    this.#exits = exits;
    this.#clock = clock;
    this.#peer = peer;
    this.#maps = maps;
    this.#form = form;
    this.#turns = engine.alloc(MOST_TOGETHER * engine.sizeOf('turn'));
    this.#shapes = new Shapes(engine, loader.model);
  }

  /**
   * Resolves to the statistics of a reply; its tokens go out as notices before.
   * @param {GenerateRequest} request
   * @param {(prompt: GenerateRequest['prompt']) => string | Promise<Prompt>} textOf
   * @param {() => void} check throws where the engine has ended
   * @returns {Promise<Result>}
   */
  async generate({ id, session: number, prompt, options }, textOf, check) {
    const session = this.#sessions.get(number);
    /** @type {Reply} */
    const reply = { session: number, stopped: false, wake: deferred() };
    this.#open.set(id, reply);
    const { before } = session;
    const { promise, resolve: release } = deferred();
    session.before = before.then(() => promise);
    try {
      const text = await textOf(prompt); // what is wrong with it is said at once
      await before;
      check();
      return reply.stopped ? nothingDone() : await this.#run(id, text, options, reply, check);
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

  /** @param {number} [session] of this one alone */
  cancelAll(session) {
    for (const [id, reply] of this.#open)
      if (session === undefined || reply.session === session) this.cancel(id);
  }

  /**
   * A level that was calibrated on this device goes before the heads file's; those stay.
   * @param {Level} level
   */
  setLevel(level) {
    const exits = /** @type {Exits} */ (this.#exits);
    const others = exits.levels.filter(
      (l) =>
        !l.onDevice ||
        Math.abs(l.accuracy - level.accuracy) > 1e-6 ||
        l.maxTokens !== level.maxTokens,
    );
    this.#exits = { ...exits, levels: [level, ...others] };
    return this.#exits.levels;
  }

  /** The lowest level of this device that is good for an accuracy. @param {GenerateOptions} asked */
  #ownLevel({ accuracy = this.#exits?.defaultAccuracy ?? 1 }) {
    return this.#exits?.levels
      .filter((l) => l.onDevice && l.accuracy >= accuracy - 1e-6)
      .sort((a, b) => a.accuracy - b.accuracy)[0];
  }

  /**
   * @param {number} id
   * @param {string | Prompt} text
   * @param {GenerateOptions} options
   * @param {Reply} reply
   * @param {() => void} check
   */
  async #run(id, text, options, reply, check) {
    const engine = this.#engine;
    const loader = this.#loader;
    const { address } = this.#sessions.get(reply.session);
    const { dropped, begun = '' } = /** @type {Partial<Prompt>} */ (text);
    const tools = toolsIn(options);
    const calls = tools && new CallReader(this.#form ?? 'hermes');
    const grammar = this.#shapes.take(options, tools, this.#form, begun);
    try {
      const start = () => {
        const { struct, seed, free } = generateOptions(
          engine,
          { ...options, grammar, level: this.#ownLevel(options), mapsCome: this.#maps.come },
          this.#exits?.heads.length ?? 0,
        );
        try {
          const status = withPrompt(engine, text, (...memory) =>
            engine.run('session_text', address, ...memory, struct),
          );
          return status === 'WAIT' ? null : { seed };
        } finally {
          free();
        }
      };
      let started;
      while (!(started = start())) {
        // Which K/V policy answers must not depend on the moment.
        void this.#maps.want();
        await Promise.race([this.#maps.promise, reply.wake.promise]);
        check();
        if (reply.stopped) return nothingDone();
      }
      if (!loader.finished) loader.needRows(idsOfText(engine, loader.model, text, true, true));
      const { promise, resolve, reject } = deferred();
      promise.catch(() => {});
      /** @type {Running} */
      const one = {
        id,
        reply,
        address,
        dropped,
        begun,
        seed: started.seed,
        options,
        calls,
        stopSent: false,
        resolve,
        reject,
      };
      this.#running.add(one);
      await this.#advance(one);
      return await promise;
    } finally {
      this.#shapes.release(grammar);
    }
  }

  /**
   * Steps until this reply is done. Each drives all of them: in a Worker what another request waits
   * for ends with that request.
   * @param {Running} one
   */
  async #advance(one) {
    let lastTurn = now();
    while (this.#running.has(one)) {
      try {
        const waits = this.#step();
        if (!this.#running.has(one)) return;
        if (waits) await Promise.race([this.#loader.nextChange(), one.reply.wake.promise]);
        // Without a clock nobody knows how long this has taken: each step is a turn.
        else if (!this.#clock || now() - lastTurn > TURN_MS) await this.#pause();
        else continue;
      } catch (error) {
        this.#running.delete(one);
        one.reject(error);
      }
      lastTurn = now();
    }
  }

  /** A step of all. @returns {boolean} they all wait for the model's bytes */
  #step() {
    const engine = this.#engine;
    if (this.#loader.failure) throw this.#loader.failure;
    const bytes = engine.sizeOf('turn');
    const all = [...this.#running].slice(0, MOST_TOGETHER);
    for (const [i, one] of all.entries()) {
      if (one.reply.stopped && !one.stopSent) engine.call('session_stop', one.address);
      one.stopSent = one.reply.stopped;
      engine.write('turn', this.#turns + i * bytes, { session: one.address });
    }
    engine.run('sessions_step', this.#turns, all.length);
    const waits = all.filter((one, i) => {
      try {
        return this.#take(one, this.#turns + i * bytes) === 'WAIT';
      } catch (error) {
        this.#running.delete(one); // the others go on
        one.reject(error);
        return false;
      }
    });
    return waits.length === all.length;
  }

  /** What a step says of a reply. @param {Running} one @param {number} memory of its turn */
  #take(one, memory) {
    const engine = this.#engine;
    const at = (/** @type {string} */ key) => memory + engine.offsetOf('turn', key);
    const status = engine.names.status[engine.view.getUint32(at('status'), true)];
    if (status === 'WAIT') {
      const [layer, row] = engine.with(8, (needs) => {
        engine.call('session_needs', one.address, needs);
        return engine.i32s(needs, 2);
      });
      if (layer === -1) this.#loader.needRows([row]);
      return status;
    }
    const event = at('event');
    const field = (/** @type {string} */ key) => event + engine.offsetOf('event', key);
    const type = engine.names.event[engine.view.getUint32(field('type'), true)];
    if (status !== 'OK') one.reject(engine.errorAt(at('error')));
    else if (type === 'done') {
      if (one.calls) this.#tell(one, one.calls.end());
      one.resolve(this.#result(field('stats'), one));
    } else {
      if (type !== 'progress') {
        const token = /** @type {any} */ (this.#token(field('token'), type, one.options));
        this.#tell(one, one.calls && type === 'token' ? one.calls.push(token) : [token]);
      }
      return status;
    }
    this.#running.delete(one);
    return status;
  }

  /** @param {Running} one @param {any[]} tokens */
  #tell({ id }, tokens) {
    for (const token of tokens) this.#peer.notify('token', { id, token });
  }

  /**
   * Lets the event loop turn; while the model loads as often as bytes come, but not for ever: who
   * computes and who loads share a thread.
   */
  async #pause() {
    const loader = this.#loader;
    const until = now() + BYTES_MS;
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
      disagreed,
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
      ...(disagreed ? { disagreed } : {}),
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

  /** @param {number} at @param {Running} of @returns {Result} */
  #result(at, { seed, options, calls, dropped, begun }) {
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
    } = engine.read('stats', at);
    const whole = engine.text(text, textBytes);
    const why = /** @type {Result['reason']} */ (engine.names.reason[reason]);
    const said = calls?.read(whole);
    return {
      text: whole,
      ...said,
      reason: why === 'stop' && said?.toolCalls.length ? 'tool' : why,
      ...(isJson(options) && why === 'stop' ? { json: JSON.parse(begun + whole) } : {}),
      ...(isShaped(options) || calls ? { forced: forcedTokens } : {}),
      usage: { promptTokens, completionTokens, reusedTokens },
      exits: { ...byHead.slice(0, this.#exits?.heads.length ?? 0), [-1]: fullTokens },
      .../** @type {Pick<Result, 'meanDepth' | 'meanWork' | 'drafted' | 'accepted' | 'draftAttempts' | 'audited' | 'auditDisagreed'>} */ (
        counts
      ),
      certified,
      uncertified: certified ? null : engine.text(uncertified),
      ...(dropped === undefined ? {} : { dropped }),
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
