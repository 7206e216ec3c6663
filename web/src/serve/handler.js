/**
 * An HTTP service in the shape of OpenAI's, for whatever speaks fetch: Cloudflare Workers, Deno, Bun,
 * a service worker, a page itself.
 *
 *   POST /v1/chat/completions    whole or as server-sent events; the exit of each token in
 *                                choices[0].delta.exit
 *   POST /v1/completions, /v1/responses
 *   GET  /v1/models, /v1/models/NAME
 *   GET  /health                 what the engine is doing
 *   GET  /ready                  200 where the model is loaded and a question would be taken, else 503
 *   GET  /metrics                with the option `metrics`: the same, and what it has done
 *
 * There is one engine, loaded at the first question; it answers as many questions together as there
 * are `sessions`, the others wait in a line that has an end.
 *
 * A Worker of Cloudflare runs each request in a context of its own, and a client that goes away
 * takes the context with it: what was being awaited there never goes on, not even into `finally`.
 * So everything that others wait for is also given to `ctx.waitUntil`, whoever holds the engine
 * gives it back only when the engine has stopped, and gives a sign of life twice a second; those
 * who wait take it over when there is none for ten seconds.
 *
 * @typedef {import('../client/exitlm.js').ExitLM} ExitLM
 * @typedef {import('../link/types.js').GenerateOptions} GenerateOptions
 * @typedef {import('../link/types.js').Result} Result
 *
 * @typedef {object} ServiceState what the engine is doing
 * @property {boolean} ready whether the model is loaded, to the last byte
 * @property {number} answering questions that are being answered
 * @property {number} waiting questions that wait
 * @property {number} starts how often the model was loaded
 * @property {number} memoryBytes of the model and its conversations
 *
 * @typedef {object} Metrics hears of what is done, and writes it down
 * @property {(path: string, status: number, code: string) => void} responded to a request; `path`
 *   is one that there is, or 'other', `code` that of an error, else ''
 * @property {(result: Result, waitedMs: number | null) => void} answered a reply is over; waitedMs
 *   from its request to its beginning, null for all but the first of several choices
 * @property {(state: ServiceState) => Promise<Response>} page what `GET /metrics` answers
 *
 * @typedef {{ waitUntil?: (promise: Promise<unknown>) => void }} Context of a request, where the
 *   platform has one
 *
 * @typedef {object} HandlerOptions
 * @property {(env: any, ctx: Context) => ExitLM | Promise<ExitLM>} load makes the engine, at the
 *   first question and again after it crashed
 * @property {string} model name under which it is offered
 * @property {boolean} [anyModel] a request may name any model, and is answered by this one
 * @property {boolean} [eager] load at once, not at the first question (there is no `env` then)
 * @property {string | ((env: any) => string | null | undefined)} [token] asked for as
 *   `Authorization: Bearer …`; none: open to all
 * @property {'*' | string[] | false} [cors] origins whose pages may ask ('*'), beside its own; a
 *   page of another one: 403
 * @property {number} [maxBodyBytes] of a request (65536); longer: 413
 * @property {number} [maxPromptTokens] longer: 400; left out: what the context holds
 * @property {number} [maxOutputTokens] more asked for, or nothing: this many (256), for each choice
 * @property {number} [sessions] questions that are answered together, and conversations that are kept
 *   (1); each takes `lm.info.memory.session` bytes. On Cloudflare, where memory is short and a request
 *   may end at any time, it stays 1
 * @property {number} [maxWaiting] questions that wait for a place (8); more: 503
 * @property {number} [maxPerClient] questions of one client that wait or are answered; more: 429.
 *   Left out: no limit
 * @property {Metrics} [metrics] left out: there is no `/metrics`. `npx exitlm serve` has those of
 *   serve/metrics.js
 * @property {(request: Request, env: any) => string} [clientOf] who asks; left out: the address
 *   that Cloudflare reports, else the token
 * @property {GenerateOptions} [defaults] for what a request leaves out
 * @property {(error: unknown) => void} [onError] hears of what went wrong on this side
 *   (console.error)
 */
import { makeChunks, makeCompletion } from '../chat/completions.js';
import { crashed, later, Refusal, refusalOf } from '../chat/refusal.js';
import { SHAPES } from '../chat/shapes.js';
import { linked, onAbort } from '../link/abort.js';
import { ExitLMError, messageOf } from '../link/errors.js';
import { deferred } from '../link/platform.js';
import { json, preflight, readText, sameText } from './http.js';
import { BEAT_MS, Lane, SILENT_BEATS } from './lane.js';
import { Places } from './places.js';

/**
 * @typedef {import('../chat/shapes.js').Shape} Shape
 * @typedef {import('../chat/shapes.js').ShapedRequest & { shape: Shape }} ShapedRequest
 * @typedef {import('./lane.js').Turn} Turn
 */

/**
 * After so long an answer is begun, though nothing of it is there yet: only then is a client's
 * going away heard of everywhere.
 */
const SOON_MS = 500;
const SLOW = Symbol('slow');

/** What of a request was not understood, and changes nothing about what its answer means. */
const WARNING = 'X-ExitLM-Warning';
const warningOf = (/** @type {string[]} */ names) =>
  `ignored parameters: ${names.map((name) => name.slice(0, 40).replace(/[^\w.-]/g, '?')).join(', ')}`.slice(
    0,
    400,
  );

const soon = () => new Promise((resolve) => setTimeout(resolve, SOON_MS, SLOW));

/**
 * @param {HandlerOptions} options
 * @returns {(request: Request, env?: any, ctx?: Context) => Promise<Response>}
 */
export function createHandler(options) {
  const service = new Service(options);
  return (request, env, ctx) => service.handle(request, env, ctx ?? {});
}

class Service {
  #options;
  #lane;
  /** @type {{ lm: Promise<ExitLM>, places: Promise<Places>, ready: boolean, beats: number } | null} */
  #engine = null;
  /** @type {Map<string, number>} */ #clients = new Map();
  #served = 0;
  #starts = 0;
  #memoryBytes = 0;
  #created = 0;
  /** @type {string[]} */ #paths;

  /** @param {HandlerOptions} options */
  constructor(options) {
    if (typeof options?.load !== 'function')
      throw new ExitLMError(
        'USAGE',
        'createHandler: load, a function that gives an ExitLM, was expected',
      );
    if (typeof options.model !== 'string' || options.model === '')
      throw new ExitLMError(
        'USAGE',
        'createHandler: model, the name under which it is offered, was expected',
      );
    this.#options = {
      cors: /** @type {NonNullable<HandlerOptions['cors']>} */ ('*'),
      maxBodyBytes: 65536,
      maxOutputTokens: 256,
      maxWaiting: 8,
      maxPerClient: Infinity,
      sessions: 1,
      ...options,
    };
    const { maxWaiting, metrics, sessions } = this.#options;
    this.#paths = [...Object.keys(SHAPES), '/v1/models', '/health', '/ready'];
    if (metrics) this.#paths.push('/metrics');
    this.#lane = new Lane(maxWaiting, () => this.#drop(), sessions);
    if (this.#options.eager) this.#engine = this.#start(undefined, {});
  }

  /**
   * @param {Request} request
   * @param {any} env
   * @param {Context} ctx
   * @returns {Promise<Response>}
   */
  async handle(request, env, ctx) {
    const cors = this.#corsHeaders(request);
    const { pathname } = new URL(request.url);
    const counted = (/** @type {Response} */ response, code = '') => {
      const path = this.#paths.includes(pathname) ? pathname : 'other';
      this.#options.metrics?.responded(path, response.status, code);
      return response;
    };
    try {
      this.#checkOrigin(request);
      if (request.method === 'OPTIONS')
        return counted(
          new Response(null, { status: 204, headers: { ...cors, ...preflight(request) } }),
        );
      const response = await this.#route(request, pathname, env, ctx);
      for (const [name, value] of Object.entries(cors)) response.headers.set(name, value);
      return counted(response);
    } catch (error) {
      if (request.signal?.aborted) return counted(new Response(null, { status: 499 })); // nobody reads it
      const refusal = refusalOf(error);
      if (refusal.status >= 500 && refusal.code !== 'overloaded') this.#complain(error);
      return counted(json(refusal, refusal.status, { ...cors, ...refusal.headers }), refusal.code);
    }
  }

  /** @param {unknown} error */
  #complain(error) {
    (this.#options.onError ?? console.error)(error);
  }

  /** A page that may not read the answer does not get one computed. @param {Request} request */
  #checkOrigin({ headers, url }) {
    const { cors } = this.#options;
    const origin = headers.get('origin');
    const allowed = [...(cors || []), new URL(url).origin];
    if (origin !== null && cors !== '*' && !allowed.includes(origin))
      throw new Refusal(403, 'origin_not_allowed', `${origin}: pages from there may not ask`);
  }

  /** @param {Request} request @returns {Record<string, string>} */
  #corsHeaders(request) {
    const { cors } = this.#options;
    const origin = request.headers.get('origin');
    if (!cors || origin === null) return {};
    const exposed = { 'Access-Control-Expose-Headers': `Retry-After, ${WARNING}` };
    if (cors === '*') return { 'Access-Control-Allow-Origin': '*', ...exposed };
    return {
      Vary: 'Origin',
      ...(cors.includes(origin) ? { 'Access-Control-Allow-Origin': origin, ...exposed } : {}),
    };
  }

  /** @param {Request} request @param {string} pathname @param {any} env @param {Context} ctx */
  async #route(request, pathname, env, ctx) {
    const only = (/** @type {string} */ method) => {
      if (request.method !== method && !(method === 'GET' && request.method === 'HEAD')) {
        throw new Refusal(
          405,
          'method_not_allowed',
          `${pathname}: ${method} was expected, not ${request.method}`,
          { headers: { Allow: `${method}, OPTIONS` } },
        );
      }
    };
    if (Object.hasOwn(SHAPES, pathname)) {
      only('POST');
      // A browser asks for permission before it sends JSON to another origin; a form it just sends.
      if (!/^application\/json\b/i.test(request.headers.get('content-type') ?? ''))
        throw new Refusal(
          415,
          'unsupported_media_type',
          'the request: Content-Type: application/json was expected',
        );
      this.#authorise(request, env);
      return this.#completion(request, SHAPES[pathname], env, ctx);
    }
    if (pathname === '/v1/models' || pathname.startsWith('/v1/models/')) {
      only('GET');
      this.#authorise(request, env);
      this.#created ||= Math.floor(Date.now() / 1000);
      const model = {
        id: this.#options.model,
        object: 'model',
        created: this.#created,
        owned_by: 'exitlm',
      };
      if (pathname === '/v1/models') return json({ object: 'list', data: [model] });
      const name = pathname.slice('/v1/models/'.length);
      if (name !== encodeURIComponent(model.id)) this.#refuseModel(name);
      return json(model);
    }
    if (pathname === '/health') {
      only('GET');
      let status = 'cold';
      if (this.#engine) status = this.#engine.ready ? 'ready' : 'loading';
      return json({
        status,
        model: this.#options.model,
        busy: this.#lane.answering > 0,
        waiting: this.#lane.waiting,
        served: this.#served,
        starts: this.#starts,
        memory_bytes: this.#memoryBytes,
      });
    }
    if (pathname === '/ready') {
      only('GET');
      const full = this.#lane.full;
      const ready = Boolean(this.#engine?.ready) && !full;
      return json({ ready, full }, ready ? 200 : 503);
    }
    const { metrics } = this.#options;
    if (metrics && pathname === '/metrics') {
      only('GET');
      this.#authorise(request, env);
      return metrics.page({
        ready: Boolean(this.#engine?.ready),
        answering: this.#lane.answering,
        waiting: this.#lane.waiting,
        starts: this.#starts,
        memoryBytes: this.#memoryBytes,
      });
    }
    throw new Refusal(404, 'not_found', `${pathname}: there is ${this.#paths.join(', ')}`);
  }

  /** @param {Request} request @param {any} env */
  #authorise(request, env) {
    const { token } = this.#options;
    const expected = typeof token === 'function' ? token(env) : token;
    if (!expected) return;
    const given = /^Bearer +(.+)$/i.exec(request.headers.get('authorization') ?? '')?.[1] ?? '';
    if (!sameText(given, expected)) {
      throw new Refusal(
        401,
        'invalid_api_key',
        given ? 'the token is wrong' : 'a token was expected: Authorization: Bearer …',
        { headers: { 'WWW-Authenticate': 'Bearer' } },
      );
    }
  }

  /** @param {unknown} name @returns {never} */
  #refuseModel(name) {
    throw new Refusal(
      404,
      'model_not_found',
      `model ${JSON.stringify(name)?.slice(0, 80)}: here is ${JSON.stringify(this.#options.model)}`,
      { param: 'model' },
    );
  }

  // ---- questions ----

  /**
   * @param {Request} request
   * @param {Shape} shape
   * @param {any} env
   * @param {Context} ctx
   * @returns {Promise<Response>}
   */
  async #completion(request, shape, env, ctx) {
    const came = performance.now();
    const asked = await this.#read(request, shape);
    const client = this.#clientOf(request, env);
    const leave = this.#enter(client);
    const stop = linked(request.signal);
    const over = deferred();
    ctx.waitUntil?.(over.promise);
    /** @type {Turn} */
    const turn = { started: false, settled: Promise.resolve(), client };
    /** @type {ReturnType<typeof setInterval> | undefined} */
    let beating;
    const end = async (/** @type {unknown} */ error) => {
      if (crashed(error)) this.#drop();
      else await this.#stopped(turn);
      clearInterval(beating);
      turn.leave?.();
      this.#lane.release(turn);
      stop.release();
      leave();
      over.resolve(undefined);
    };
    try {
      await this.#lane.acquire(turn, stop.signal);
      beating = this.#signsOfLife(turn, stop);
      const response = await this.#answer(asked, came, turn, stop, end, env, ctx);
      if (asked.ignored.length) response.headers.set(WARNING, warningOf(asked.ignored));
      return response;
    } catch (error) {
      await end(error);
      throw error;
    }
  }

  /**
   * Waits until the engine has really stopped: its steps run in this request's context, and end
   * with it. @param {Turn} turn
   */
  async #stopped(turn) {
    let timer;
    const late = new Promise(
      (resolve) => (timer = setTimeout(resolve, BEAT_MS * SILENT_BEATS, 'late')),
    );
    if ((await Promise.race([turn.settled, late])) === 'late') this.#drop();
    clearTimeout(timer);
  }

  /**
   * Tells those who wait that this request lives; and gives up where the model's loading, which
   * belongs to another request, has ended with it.
   * @param {Turn} turn
   * @param {AbortController} stop
   */
  #signsOfLife(turn, stop) {
    let seen = -1;
    let silent = 0;
    return setInterval(() => {
      this.#lane.beat(turn);
      const engine = this.#engine;
      if (!engine || engine.ready) return;
      silent = engine.beats === seen ? silent + 1 : 0;
      seen = engine.beats;
      if (silent < SILENT_BEATS) return;
      this.#drop();
      stop.abort(new ExitLMError('NETWORK', 'loading the model did not go on'));
    }, BEAT_MS);
  }

  /**
   * @param {ShapedRequest} request
   * @param {number} came when, by `performance.now()`
   * @param {Turn} turn
   * @param {AbortController} stop
   * @param {(error?: unknown) => Promise<void>} end gives the engine back
   * @param {any} env
   * @param {Context} ctx
   * @returns {Promise<Response>}
   */
  async #answer(request, came, turn, stop, end, env, ctx) {
    const { signal } = stop;
    signal.throwIfAborted();
    turn.started = true;
    const { lm, places } = await this.#started(env, ctx);
    await this.#checkPrompt(lm, request);
    signal.throwIfAborted();
    const { session, leave } = await places.take(request.messages);
    turn.leave = leave;
    // An abort asks the engine to stop and ends the reply when it has.
    const begin = (/** @type {number} */ index) => {
      const { seed } = request.options;
      const again = index > 0 && seed !== undefined ? { seed: Number(seed) + index } : {};
      const options = { ...request.options, ...again };
      const waited = index === 0 ? performance.now() - came : null;
      const reply =
        request.prompt === undefined
          ? session.chat(request.messages, options)
          : session.complete(request.prompt, options);
      turn.settled = reply.result
        .then((result) => this.#options.metrics?.answered(result, waited))
        .catch(() => {});
      onAbort(signal, () => reply.cancel());
      return reply;
    };
    const { shape } = request;
    return request.stream
      ? this.#events(shape.events(makeChunks(lm, request, begin)), stop, end)
      : this.#whole(makeCompletion(lm, request, begin).then(shape.whole), stop, end);
  }

  /**
   * A whole completion. A failure has a status of its own; only one after the answer has begun to
   * take long breaks the answer off.
   * @param {Promise<object>} making
   * @param {AbortController} stop
   * @param {(error?: unknown) => Promise<void>} end
   */
  async #whole(making, stop, end) {
    const made = making.then((completion) => {
      stop.signal.throwIfAborted();
      this.#served++;
      return completion;
    });
    const early = await Promise.race([made, soon()]);
    if (early !== SLOW) {
      await end();
      return json(early);
    }
    return this.#streamed('application/json; charset=utf-8', stop, async (write, fail) => {
      try {
        write(`${JSON.stringify(await made)}\n`);
        await end();
      } catch (error) {
        await end(error);
        fail(error);
      }
    });
  }

  /**
   * Server-sent events. They are written as the engine makes them, not as they are read: a slow
   * reader does not keep the engine.
   * @param {AsyncGenerator<any, void, undefined>} chunks those of a kind that is named have a type
   * @param {AbortController} stop
   * @param {(error?: unknown) => Promise<void>} end
   */
  async #events(chunks, stop, end) {
    const { signal } = stop;
    const first = chunks.next();
    await Promise.race([first, soon()]); // a failure at the start has a status of its own
    return this.#streamed('text/event-stream; charset=utf-8', stop, async (write) => {
      try {
        let named = false;
        for (let next = await first; !next.done; next = await chunks.next()) {
          const { type } = next.value;
          named = type !== undefined;
          write(`${named ? `event: ${type}\n` : ''}data: ${JSON.stringify(next.value)}\n\n`);
        }
        signal.throwIfAborted();
        this.#served++;
        await end();
        if (!named) write('data: [DONE]\n\n');
      } catch (error) {
        await end(error);
        const refusal = refusalOf(error);
        if (refusal.status >= 500 && !signal.aborted) this.#complain(error);
        write(`data: ${JSON.stringify(refusal)}\n\n`);
      }
    });
  }

  /**
   * A response whose body is written from now on. A reader that goes away stops the work.
   * @param {string} type
   * @param {AbortController} stop
   * @param {(write: (text: string) => void, fail: (error: unknown) => void) => Promise<void>} write
   */
  #streamed(type, stop, write) {
    const encoder = new TextEncoder();
    let open = true;
    const body = new ReadableStream({
      start: (controller) => {
        const fail = (/** @type {unknown} */ error) => {
          if (!stop.signal.aborted) this.#complain(error);
          if (open) controller.error(error);
          open = false;
        };
        const done = () => {
          if (open) controller.close();
          open = false;
        };
        write((text) => {
          if (open) controller.enqueue(encoder.encode(text));
        }, fail).then(done, fail);
      },
      cancel: (reason) => {
        open = false;
        stop.abort(reason ?? new Error('the reader went away'));
      },
    });
    return new Response(body, {
      headers: { 'Content-Type': type, 'Cache-Control': 'no-store', 'X-Accel-Buffering': 'no' },
    });
  }

  /**
   * @param {Request} request
   * @param {Shape} shape
   * @returns {Promise<ShapedRequest>} checked, with defaults
   */
  async #read(request, shape) {
    const text = await readText(request, this.#options.maxBodyBytes);
    /** @type {any} */
    let parameters;
    try {
      parameters = JSON.parse(text);
    } catch (cause) {
      throw new Refusal(
        400,
        'invalid_json',
        `the request's body is not JSON (${messageOf(cause)})`,
      );
    }
    if (typeof parameters !== 'object' || parameters === null || Array.isArray(parameters))
      throw new Refusal(400, 'invalid_json', "the request's body: an object was expected");
    const { maxOutputTokens, defaults, model, anyModel } = this.#options;
    if ((parameters.model ?? model) !== model && !anyModel) this.#refuseModel(parameters.model);
    for (const name of ['stream', 'stream_options']) {
      const kind = name === 'stream' ? 'boolean' : 'object';
      if (
        parameters[name] !== undefined &&
        parameters[name] !== null &&
        typeof parameters[name] !== kind
      )
        throw new Refusal(400, 'invalid_type', `${name}: ${kind} was expected`, { param: name });
    }
    const asked = shape.read(parameters);
    const options = { ...defaults, ...asked.options };
    const most = Math.min(options.maxTokens ?? maxOutputTokens, maxOutputTokens);
    if (most !== Infinity) options.maxTokens = most;
    return { ...asked, shape, model, options };
  }

  /**
   * Who asks. @param {Request} request @param {any} env
   */
  #clientOf(request, env) {
    const { clientOf } = this.#options;
    if (clientOf) return clientOf(request, env);
    return request.headers.get('cf-connecting-ip') ?? request.headers.get('authorization') ?? '';
  }

  /**
   * Counts a client's questions. @param {string} client @returns {() => void} to call when it is
   * answered
   */
  #enter(client) {
    const { maxPerClient } = this.#options;
    const now = this.#clients.get(client) ?? 0;
    if (now >= maxPerClient) {
      throw new Refusal(
        429,
        'rate_limit_exceeded',
        `${now} questions of yours are being answered or wait; ask again when they are done`,
        later(1 + now),
      );
    }
    this.#clients.set(client, now + 1);
    return () => {
      const n = (this.#clients.get(client) ?? 1) - 1;
      if (n > 0) this.#clients.set(client, n);
      else this.#clients.delete(client);
    };
  }

  /** @param {ExitLM} lm @param {ShapedRequest} request */
  async #checkPrompt(lm, { messages, prompt, options }) {
    const tokens =
      prompt === undefined
        ? await lm.countTokens(messages, options)
        : (await lm.tokenize(prompt, { special: true, bos: true })).length;
    const most = Math.min(this.#options.maxPromptTokens ?? Infinity, lm.info.contextLength - 1);
    if (tokens > most)
      throw new Refusal(
        400,
        'context_length_exceeded',
        `messages: ${tokens} tokens, at most ${most} are taken`,
        { param: 'messages' },
      );
  }

  // ---- the engine ----

  /** @param {any} env @param {Context} ctx */
  async #started(env, ctx) {
    const engine = (this.#engine ??= this.#start(env, ctx));
    try {
      return { lm: await engine.lm, places: await engine.places };
    } catch (error) {
      if (this.#engine === engine) this.#engine = null;
      const passing =
        error instanceof ExitLMError &&
        ['NETWORK', 'HTTP', 'CHECKSUM', 'WORKER'].includes(error.code);
      const refusal = new Refusal(
        passing ? 503 : 500,
        'model_unavailable',
        `the model cannot be loaded: ${messageOf(error)}`,
        passing ? later(10) : {},
      );
      throw Object.assign(refusal, { cause: error });
    }
  }

  /** @param {any} env @param {Context} ctx */
  #start(env, ctx) {
    this.#starts++;
    const lm = (async () => this.#options.load(env, ctx))();
    const places = lm.then((model) => new Places(model, this.#options.sessions));
    places.catch(() => {});
    const engine = { lm, places, ready: false, beats: 0 };
    const beating = setInterval(() => engine.beats++, BEAT_MS);
    const all = lm
      .then(async (model) => {
        this.#memoryBytes = model.info.memory.total;
        await model.ready;
        engine.ready = true;
      })
      .catch(() => {
        if (this.#engine === engine) this.#engine = null;
      })
      .finally(() => clearInterval(beating));
    // loading goes on when the first question is answered, or its client is gone
    ctx.waitUntil?.(all);
    return engine;
  }

  /** The next question gets a new engine. */
  #drop() {
    const engine = this.#engine;
    this.#engine = null;
    engine?.lm.then((lm) => lm.dispose()).catch(() => {});
  }
}
