/**
 * The engine's side: one instance, one model, one session. It lives in a worker, or in the caller's thread; either way it is
 * spoken to through a Peer, and its methods are that peer's handlers.
 *
 * Generation advances in steps of C, each a token or a slice of the prompt, and lets the event loop turn every few milliseconds:
 * so a stop arrives, and so downloads go on beside it. Replies follow each other in the order they were asked for.
 */
import { keepNote, openStore, readNote } from './cache.js';
import { checkModel } from './check.js';
import { downloadAll } from './download.js';
import { ExitLMError, errorToData, messageOf } from './errors.js';
import { downloadMaps, downloadWithoutMaps, withoutMaps } from './heads.js';
import { startEngine } from './instance.js';
import { ModelLoader } from './loader.js';
import { jobsByShard } from './manifest.js';
import { generateOptions, sessionOptions } from './options.js';
import { Pieces } from './pieces.js';
import { clockRuns, deferred, isWorkerd, now, turn } from './platform.js';
import { resolve } from './resolve.js';
import { Sha256 } from './sha256.js';
import { ChangedError, httpSource } from './source.js';
import { startThreads } from './threads.js';

/**
 * @typedef {import('./protocol.js').Peer} Peer
 * @typedef {import('./engine.js').Engine} Engine
 * @typedef {import('./source.js').Source} Source
 * @typedef {import('./source.js').FetchLike} FetchLike
 * @typedef {import('./source.js').ResponseLike} ResponseLike
 * @typedef {import('./resolve.js').SourceSpec} SourceSpec
 * @typedef {import('./resolve.js').Resolved} Resolved
 *
 * @typedef {object} LoadSpec what `load` takes; plain data
 * @property {SourceSpec[]} files
 * @property {SourceSpec | 'auto' | null} heads
 * @property {number | 'auto'} threads
 * @property {'auto' | 'opfs' | 'cache-api' | 'none' | 'remote'} cache 'remote': an object in the caller's thread
 * @property {number} contextLength 0: the model's, at most 2048
 * @property {string | null} kvType
 * @property {boolean | null} kvMaps null: with the heads where they are local, else after the weights where a level is calibrated with them
 * @property {(string | null)[] | null} sha256 of each file
 * @property {boolean} customFetch the caller's thread fetches
 * @property {WebAssembly.Module | Uint8Array | string | null} wasm
 * @property {boolean} inWorker
 *
 * @typedef {object} GenerateRequest
 * @property {number} id the caller's number of this reply
 * @property {string} text the prompt, template applied
 * @property {Record<string, any>} options
 */

const TURN_MS = 8;

export class Host {
  #peer;
  /** @type {Engine | null} */ #engine = null;
  /** @type {ModelLoader | null} */ #loader = null;
  /** @type {Pieces | null} */ #pieces = null;
  #heads = 0;
  #nHeads = 0;
  #session = 0;
  #event = 0;
  #abort = new AbortController();
  /** The reply before the next one. @type {Promise<unknown>} */ #last = Promise.resolve();
  /** @type {Map<number, { stopped: boolean, wake: { promise: Promise<void>, resolve: (value: void) => void } }>} */
  #replies = new Map();
  /** @type {() => void} */ #endThreads = () => {};
  /** @type {unknown} */ #failure;
  #customFetch = false;
  /** Settles when the cache has all that came. @type {Promise<void>} */ #putAway = Promise.resolve();

  /** @param {Peer} peer */
  constructor(peer) {
    this.#peer = peer;
    this.#abort.signal.addEventListener('abort', () => this.#loader?.fail(this.#abort.signal.reason));
  }

  /** @returns {import('./protocol.js').Handlers} */
  handlers() {
    return {
      load: (spec) => this.#load(spec),
      check: (spec) => this.#check(spec),
      generate: (request) => this.#generate(request),
      cancel: ({ id }) => this.#cancel(id),
      tokenize: ({ text, special, bos }) => this.#tokenize(text, special, bos),
      detokenize: ({ ids }) => this.#detokenize(ids),
      memory: () => this.#memory(),
      setLevel: (level) => this.#setLevel(level),
      dispose: () => this.#dispose(),
    };
  }

  // ---- loading ----

  /**
   * Resolves once the model can be talked to. A notice 'ready' or 'failed' says later how the rest went.
   * @param {LoadSpec} spec
   */
  async #load(spec) {
    this.#customFetch = spec.customFetch;
    const starting = startEngine(spec);
    starting.catch(() => {});
    const resolved = await resolve(spec.files, spec.heads, this.#context(spec));
    const opening = this.#openCopy(spec, resolved.key, resolved.manifest?.sha256);
    opening.catch(() => {});
    try {
      const { engine, threads } = await starting;
      this.#engine = engine;
      this.#pieces = new Pieces(engine);
      if (resolved.heads) await this.#loadHeads(spec, resolved.heads);
      const loader = await this.#openLoader(spec, resolved, threads, opening);
      return this.#describe(loader, threads);
    } catch (error) {
      await opening.then((store) => store?.close(), () => {}); // twice does no harm
      throw error;
    }
  }

  /** What the cache has of the model. @param {LoadSpec} spec @param {string | null} key @param {string | undefined} packed checksum of a packed model */
  async #openCopy({ cache, sha256 }, key, packed) {
    return key ? openStore(cache, key, this.#peer, { sha256: packed ?? sha256?.join() ?? null, warn: this.#warn }) : null;
  }

  /** @param {LoadSpec} spec @param {NonNullable<Resolved['heads']>} heads */
  async #loadHeads(spec, heads) {
    const engine = /** @type {Engine} */ (this.#engine);
    const { optional } = heads;
    const bytes = await this.#headsBytes(spec, heads).catch((error) => {
      if (optional && error.code !== 'CHECKSUM' && !this.#abort.signal.aborted) return null;
      throw error;
    });
    // Many servers answer any address with their front page: what was not asked for by name is taken only where it is a GGUF file.
    if (!bytes || (optional && String.fromCharCode(...bytes.subarray(0, 4)) !== 'GGUF')) return;
    this.#heads = engine.withBytes(bytes, (memory, n) => engine.make('heads_create', memory, n));
  }

  /**
   * The heads file, without the K/V maps where nobody needs them: they are most of it.
   * @param {LoadSpec} spec
   * @param {NonNullable<Resolved['heads']>} heads
   */
  async #headsBytes({ cache, kvMaps: asked }, { source, sha256, core }) {
    const kvMaps = asked ?? (source.url === null ? true : null); // what is here already costs no line
    const file = kvMaps ? 0 : 1; // of the copy: all of it, or what there is without the maps
    const open = async () => (source.url ? openStore(cache, source.url, this.#peer, { sha256, warn: this.#warn }) : null);
    const pieces = /** @type {Pieces} */ (this.#pieces);
    let store = await open();
    try {
      store?.useChecksum((bytes) => pieces.sumOf(bytes));
      if (store?.complete) {
        const kept = await store.readAll(file);
        if (kept) {
          await store.close();
          return kept;
        }
        await store.remove();
        store = await open();
        store?.useChecksum((bytes) => pieces.sumOf(bytes));
      }
      const { signal } = this.#abort;
      let bytes;
      if (kvMaps || sha256) {
        const wanted = !kvMaps && core ? core : { source, sha256 };
        bytes = await downloadAll(wanted.source, { signal });
        const actual = wanted.sha256 && this.#hash(bytes);
        if (actual !== wanted.sha256) throw new ExitLMError('CHECKSUM', `${wanted.source.name}: SHA-256 is ${actual}, ${wanted.sha256} was expected`);
        if (!kvMaps) bytes = withoutMaps(bytes, kvMaps === false);
      } else bytes = await downloadWithoutMaps(source, kvMaps === false, signal);
      await store?.write(file, 0, bytes);
      await store?.finish([bytes.length]);
      await store?.close();
      return bytes;
    } catch (error) {
      await store?.remove(); // nothing worth continuing
      throw error;
    }
  }

  /**
   * The K/V maps, once all else is there, where a level of the table wants them: they make exits cheaper, but nothing waits for them.
   * @param {LoadSpec} spec
   * @param {Resolved['heads']} heads
   */
  async #loadMaps(spec, heads) {
    const engine = /** @type {Engine} */ (this.#engine);
    if (!heads || !this.#heads || spec.kvMaps !== null || !this.#describeHeads(engine).levels.some((level) => level.kv === 'maps' && level.certified)) return;
    if (engine.call('heads_have_maps', this.#heads)) return;
    try {
      const bytes = await this.#mapsBytes(spec.cache, heads);
      engine.withBytes(bytes, (memory, n) => engine.run('heads_add_maps', this.#heads, memory, n));
    } catch (error) {
      if (!this.#abort.signal.aborted) this.#warn(`the K/V maps of the exit heads did not load, so replies do without them: ${error instanceof Error ? error.message : error}`);
    }
  }

  /** @param {LoadSpec['cache']} cache @param {NonNullable<Resolved['heads']>} heads */
  async #mapsBytes(cache, { source, sha256 }) {
    const pieces = /** @type {Pieces} */ (this.#pieces);
    const store = source.url ? await openStore(cache, `${source.url}#kv-maps`, this.#peer, { sha256, warn: this.#warn }) : null;
    store?.useChecksum((bytes) => pieces.sumOf(bytes));
    const kept = store?.complete ? await store.readAll(0) : null;
    if (kept) {
      await store?.close();
      return kept;
    }
    const { signal } = this.#abort;
    const bytes = await (sha256 ? downloadAll(source, { signal }) : downloadMaps(source, signal)).catch(async (error) => {
      await store?.remove();
      throw error;
    });
    const actual = sha256 && this.#hash(bytes);
    if (actual !== sha256) {
      await store?.remove();
      throw new ExitLMError('CHECKSUM', `${source.name}: SHA-256 is ${actual}, ${sha256} was expected`);
    }
    await store?.write(0, 0, bytes);
    await store?.finish([bytes.length]);
    await store?.close();
    return bytes;
  }

  /** @param {Uint8Array} bytes */
  #hash(bytes) {
    const sha = new Sha256(/** @type {Engine} */ (this.#engine));
    sha.update(bytes);
    return sha.finish();
  }

  /**
   * Resolves once the header is there and the session open. Where the server's file is another than the one that the
   * cache has begun, the copy is dropped and loading starts over.
   * @param {LoadSpec} spec
   * @param {Resolved} resolved
   * @param {number} threads
   * @param {Promise<import('./store.js').ModelStore | null>} opening what the cache has of it
   */
  async #openLoader(spec, resolved, threads, opening) {
    const { sources, key } = resolved;
    const packed = resolved.manifest && packing(resolved.manifest);
    resolved.manifest = null; // megabytes, which a Worker does not have beside the weights
    const engine = /** @type {Engine} */ (this.#engine);
    const sha256 = spec.sha256 ?? undefined;
    for (let attempt = 1; ; attempt++) {
      const store = await (attempt === 1 ? opening : this.#openCopy(spec, key, packed?.sha256));
      const pieces = /** @type {Pieces} */ (this.#pieces);
      store?.useChecksum((bytes) => pieces.sumOf(bytes));
      const loader = new ModelLoader({
        engine,
        sources: sources.map((s, i) => (s.url ? httpSource(s.url, this.#fetch, packed ? null : store?.validator(i)) : s)),
        heads: this.#heads,
        shards: packed?.shards,
        partBytes: packed?.partBytes,
        inOrder: Boolean(sha256?.some(Boolean)) && !store && !packed,
        sha256,
        store,
        pieces,
        signal: this.#abort.signal,
        onProgress: (state) => this.#peer.notify('progress', state),
      });
      this.#loader = loader;
      const running = loader.run();
      this.#putAway = running.then(() => store?.close(), () => store?.close());
      try {
        await Promise.race([loader.headerReady(), running]);
        this.#openSession(spec, loader, threads);
      } catch (error) {
        loader.fail(error);
        await running.catch(() => {});
        loader.dispose();
        const { code } = /** @type {{ code?: string }} */ (error ?? {});
        if (code === 'CHECKSUM') await store?.remove();
        else await store?.close();
        if (error instanceof ChangedError && attempt === 1) continue;
        throw error;
      }
      this.#putAway = running.then(
        async () => {
          this.#peer.notify('ready', this.#describe(loader, threads).info);
          await store?.close();
          await this.#loadMaps(spec, resolved.heads);
        },
        async (error) => {
          this.#failure = error;
          if (error?.code === 'CHECKSUM') await store?.remove();
          else await store?.close();
          this.#peer.notify('failed', errorToData(error));
        },
      );
      return loader;
    }
  }

  /**
   * Where memory is short and the caller named no type for the K/V cache, the smaller ones are tried.
   * @param {LoadSpec} spec
   * @param {ModelLoader} loader
   * @param {number} threads
   */
  #openSession(spec, loader, threads) {
    const engine = /** @type {Engine} */ (this.#engine);
    const types = spec.kvType === null ? [null, 'q8'] : [spec.kvType];
    this.#clock = clockRuns();
    for (const kvType of types) {
      const options = engine.create('session_options', sessionOptions(engine, { ...spec, kvType, threads, heads: this.#heads }));
      try {
        this.#memoryNeeded = loader.memory(options);
        this.#session = engine.make('session_create', loader.model, options, this.#clock);
        break;
      } catch (error) {
        if (/** @type {ExitLMError} */ (error).code !== 'OUT_OF_MEMORY' || kvType === types[types.length - 1]) throw error;
      } finally {
        engine.free(options);
      }
    }
    this.#event = engine.create('event');
    const pool = engine.call('session_pool', this.#session);
    if (pool) this.#endThreads = startThreads(engine, pool, engine.call('session_threads', this.#session));
  }
  #memoryNeeded = { model: 0, session: 0 };
  #clock = true;

  /**
   * What the caller is told of the model: plain data.
   * @param {ModelLoader} loader
   * @param {number} threads
   */
  #describe(loader, threads) {
    const engine = /** @type {Engine} */ (this.#engine);
    const info = engine.with(engine.sizeOf('model_info'), (struct) => {
      engine.call('model_describe', loader.model, struct);
      return engine.read('model_info', struct);
    });
    const special = engine.with(12, (ids) => {
      engine.call('model_special', loader.model, ids);
      return engine.i32s(ids, 3);
    });
    const chatTemplate = engine.with(4, (n) => {
      const at = engine.call('model_chat_template', loader.model, n);
      return engine.text(at, engine.view.getUint32(n, true));
    });
    const text = (/** @type {number} */ id) => (id < 0 ? '' : this.#detokenize([id]));
    return {
      info: {
        name: engine.text(info.name),
        architecture: engine.text(info.architecture),
        licence: engine.text(info.licence),
        quantisation: engine.text(info.quantisation),
        layers: info.layers,
        parameters: info.parameters,
        vocabulary: info.vocab,
        dimension: info.dim,
        contextLength: this.#contextLength,
        modelContextLength: info.contextTokens,
        weightBytes: info.weightBytes,
        fingerprint: info.fingerprint,
        kernel: engine.text(engine.call('session_kernel', this.#session)),
        threads: engine.call('session_threads', this.#session) || threads,
        memory: { ...this.#memoryNeeded, total: engine.memoryBytes },
        version: engine.version,
      },
      exits: this.#heads ? this.#describeHeads(engine) : null,
      template: { source: chatTemplate, bosToken: text(special[0]), eosToken: text(special[1]), addBos: special[2] === 1 },
      progress: loader.progress,
    };
  }

  get #contextLength() {
    const engine = /** @type {Engine} */ (this.#engine);
    return engine.call('session_context_tokens', this.#session);
  }

  /** @param {Engine} engine */
  #describeHeads(engine) {
    const info = engine.with(engine.sizeOf('heads_info'), (struct) => {
      engine.call('heads_describe', this.#heads, struct);
      return engine.read('heads_info', struct);
    });
    this.#nHeads = info.nHeads;
    this.#defaultAccuracy = Math.round(info.defaultAccuracy * 1e6) / 1e6; // 0.99, not the nearest float
    const levels = engine.with(engine.sizeOf('level'), (struct) =>
      Array.from({ length: engine.call('heads_levels', this.#heads) }, (_, i) => {
        engine.run('heads_level', this.#heads, i, struct);
        const level = engine.read('level', struct);
        return {
          ...level,
          strategy: engine.names.strategy[level.strategy],
          kv: engine.names.kv[level.kv],
          threshold: level.threshold.slice(0, info.nHeads),
          coverage: level.coverage.slice(0, info.nHeads),
        };
      }));
    return {
      layers: info.head.slice(0, info.nHeads).map((/** @type {any} */ head) => head.layer),
      heads: info.head.slice(0, info.nHeads).map((/** @type {any} */ head) => ({ ...head, form: engine.text(head.form) })),
      metric: engine.names.metric[info.metric],
      kv: engine.names.kv[info.kv],
      kvType: engine.names.kvType[info.kvType],
      defaultAccuracy: this.#defaultAccuracy,
      fingerprint: engine.text(info.fingerprint),
      licence: engine.text(info.licence),
      data: engine.text(info.data),
      engineVersion: engine.text(info.engineVersion),
      levels,
    };
  }

  /** @param {string} message */
  #warn = (message) => this.#peer.notify('warning', message);

  // ---- sources ----

  /** @param {LoadSpec} spec */
  #context({ cache }) {
    return {
      fetchLike: this.#fetch,
      remote: this.#remote,
      signal: this.#abort.signal,
      cachedManifest: (/** @type {string} */ key) => readNote(cache, key, this.#peer),
      keepManifest: (/** @type {string} */ key, /** @type {unknown} */ manifest) => keepNote(cache, key, this.#peer, manifest),
    };
  }

  /** @type {FetchLike} */
  #fetch = async (url, init) => {
    // The browser's own cache would let one range of a file wait for another, and keep a second copy.
    if (!this.#customFetch) return fetch(url, /** @type {RequestInit} */ (isWorkerd ? init : { ...init, cache: 'no-store' }));
    const { headers } = init;
    const { status, ok, headers: answered, stream } = await this.#peer.call('fetch', { url, headers });
    /** @type {ResponseLike} */
    const response = { ok, status, headers: new Headers(answered), body: stream === null ? null : this.#chunks(stream) };
    return response;
  };

  /** @param {number} id @param {string} name @param {boolean} once @returns {Source} */
  #remote = (id, name, once) => ({
    name,
    url: null,
    once,
    open: async (from, to) => {
      const { total, ranged, stream, from: start } = await this.#peer.call('open', { id, from, to });
      return { from: start, total, ranged, validator: null, body: this.#chunks(stream) };
    },
  });

  /** @param {number} stream of the caller's thread */
  async *#chunks(stream) {
    let ended = false;
    try {
      for (;;) {
        const bytes = await this.#peer.call('read', { stream });
        if (!bytes) {
          ended = true;
          return;
        }
        yield /** @type {Uint8Array} */ (bytes);
      }
    } catch (error) {
      ended = true;
      throw error;
    } finally {
      if (!ended) this.#peer.notify('cancelStream', { stream });
    }
  }

  // ---- text ----

  #alive() {
    if (this.#failure) {
      throw new ExitLMError('DISPOSED', `the model is not usable any more (${messageOf(this.#failure)}); load it again`, { cause: this.#failure });
    }
    if (!this.#engine || !this.#loader) throw new ExitLMError('DISPOSED', 'the model was disposed of');
    if (this.#engine.crash) this.#engine.call('version'); // throws, with the reason
    return { engine: this.#engine, loader: this.#loader };
  }

  /** @param {string} text @param {boolean} special @param {boolean} bos */
  #tokenize(text, special, bos) {
    const { engine, loader } = this.#alive();
    return engine.withText(text, (memory, n) => {
      const capacity = n + 8;
      return engine.with(capacity * 4 + 8, (ids) => {
        const count = ids + capacity * 4;
        const flags = engine.call('tokenize_flags', bos, special);
        engine.run('tokenize', loader.model, memory, n, flags, ids, capacity, count);
        const found = engine.view.getUint32(count, true);
        if (found <= capacity) return engine.i32s(ids, found);
        return engine.with(found * 4, (more) => {
          engine.run('tokenize', loader.model, memory, n, flags, more, found, count);
          return engine.i32s(more, found);
        });
      });
    });
  }

  /** @param {number[]} ids */
  #detokenize(ids) {
    const { engine, loader } = this.#alive();
    for (const id of ids) if (!Number.isInteger(id)) throw new ExitLMError('USAGE', `detokenize takes token ids; ${id} is none`);
    return engine.with(ids.length * 4 + 8, (memory) => {
      for (const [i, id] of ids.entries()) engine.view.setInt32(memory + 4 * i, id, true);
      const count = memory + 4 * ids.length;
      engine.run('detokenize', loader.model, memory, ids.length, 0, 0, count);
      const bytes = engine.view.getUint32(count, true);
      return engine.with(bytes, (text) => {
        engine.run('detokenize', loader.model, memory, ids.length, text, bytes, count);
        return engine.text(text, bytes);
      });
    });
  }

  #memory() {
    const { engine, loader } = this.#alive();
    return { total: engine.memoryBytes, ...this.#memoryNeeded, networkBytes: loader.networkBytes };
  }

  // ---- replies ----

  /**
   * Resolves to the statistics of a reply; its tokens go out as notices before.
   * @param {GenerateRequest} request
   */
  async #generate(request) {
    this.#alive();
    const reply = { stopped: false, wake: deferred() };
    this.#replies.set(request.id, reply);
    const before = this.#last;
    const { promise, resolve: release } = deferred();
    this.#last = promise;
    try {
      await before;
      const { engine, loader } = this.#alive();
      return await this.#reply(request, reply, engine, loader);
    } finally {
      this.#replies.delete(request.id);
      release(undefined);
    }
  }

  /**
   * @param {GenerateRequest} request
   * @param {{ stopped: boolean, wake: { promise: Promise<void> } }} reply
   * @param {Engine} engine
   * @param {ModelLoader} loader
   */
  async #reply({ id, text, options }, reply, engine, loader) {
    const { struct, seed, free } = generateOptions(engine, this.#withOwnLevel(options), this.#nHeads);
    try {
      engine.withText(text, (memory, n) => engine.run('session_text', this.#session, memory, n, true, struct));
    } finally {
      free();
    }
    if (!loader.finished) loader.needRows(this.#tokenize(text, true, true));
    const withEvents = options.events === true;
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
      if (type === 'done') return this.#result(engine, seed);
      if (type !== 'progress') this.#peer.notify('token', { id, token: this.#token(engine, tokenAt, type, withEvents) });
      // Without a clock nobody knows how long this has taken: each token and each slice of the prompt is a turn.
      if (!this.#clock || now() - lastTurn > TURN_MS) {
        await turn();
        lastTurn = now();
      }
    }
  }

  #defaultAccuracy = 1;

  /** Levels that were calibrated here, by accuracy. @type {{ accuracy: number, threshold: number[] }[]} */
  #ownLevels = [];

  /** @param {{ accuracy: number, threshold: number[] }} level */
  #setLevel(level) {
    this.#alive();
    this.#ownLevels = [...this.#ownLevels.filter(({ accuracy }) => Math.abs(accuracy - level.accuracy) > 1e-6), level].sort((a, b) => a.accuracy - b.accuracy);
  }

  /** The lowest level of this device that is good for what is asked goes before the heads file's. @param {Record<string, any>} options */
  #withOwnLevel(options) {
    const { mode = 'exit', strategy = 'risk', kv = 'exact', accuracy = this.#defaultAccuracy, thresholds } = options;
    if (mode !== 'exit' || strategy !== 'risk' || kv !== 'exact' || thresholds) return options;
    const own = this.#ownLevels.find((level) => level.accuracy >= accuracy - 1e-6);
    return own ? { ...options, kv, thresholds: own.threshold } : options;
  }

  /**
   * @param {Engine} engine
   * @param {number} at
   * @param {string} type
   * @param {boolean} withType
   */
  #token(engine, at, type, withType) {
    const { index, id, text, textBytes, layer, of, work, head, confidence, drafted, draftHead, ms } = engine.read('token', at);
    return {
      ...(withType ? { type } : {}),
      index,
      id,
      text: engine.text(text, textBytes),
      layer,
      of,
      depth: of > 0 ? layer / of : 0,
      work,
      head,
      confidence,
      drafted,
      ...(drafted || type !== 'token' ? { draftHead } : {}),
      ms: measured(ms),
    };
  }

  /** @param {Engine} engine @param {string | null} seed */
  #result(engine, seed) {
    const s = engine.read('stats', this.#event + engine.offsetOf('event', 'stats'));
    /** @type {Record<string, number>} */
    const exits = {};
    for (let i = 0; i < this.#nHeads; i++) exits[i] = s.exits[i];
    exits[-1] = s.fullTokens;
    return {
      text: engine.text(s.text, s.textBytes),
      reason: engine.names.reason[s.reason],
      usage: { promptTokens: s.promptTokens, completionTokens: s.completionTokens, reusedTokens: s.reusedTokens },
      exits,
      meanDepth: s.meanDepth,
      meanWork: s.meanWork,
      drafted: s.drafted,
      accepted: s.accepted,
      draftAttempts: s.draftAttempts,
      audited: s.audited,
      auditDisagreed: s.auditDisagreed,
      seed,
      timing: { promptMs: measured(s.promptMs), decodeMs: measured(s.decodeMs), tokensPerSecond: measured(s.tokensPerSecond) },
    };
  }

  /** @param {number} id */
  #cancel(id) {
    const reply = this.#replies.get(id);
    if (!reply) return;
    reply.stopped = true;
    reply.wake.resolve();
  }

  async #dispose() {
    const gone = new ExitLMError('DISPOSED', 'the model was disposed of');
    this.#failure ??= gone;
    this.#abort.abort(gone);
    for (const reply of this.#replies.values()) {
      reply.stopped = true;
      reply.wake.resolve();
    }
    await this.#putAway;
    this.#endThreads();
    this.#engine = null; // its memory goes with it
    this.#loader = null;
  }

  // ---- before loading ----

  /** @param {LoadSpec} spec */
  async #check(spec) {
    this.#customFetch = spec.customFetch;
    return checkModel(spec, this.#context(spec));
  }
}

/** What loading needs of a manifest. @param {import('./manifest.js').Manifest} manifest */
const packing = (manifest) => ({ shards: jobsByShard(manifest), sha256: manifest.sha256, partBytes: manifest.files.map(({ bytes }) => bytes) });

/** @param {number} value negative where there is no clock */
function measured(value) {
  return value < 0 || !Number.isFinite(value) ? null : value;
}
