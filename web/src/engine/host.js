/**
 * The engine's side: one instance, one model, its conversations. It lives in a worker, or in the caller's
 * thread; either way it is spoken to through a Peer, and its methods are that peer's handlers.
 */
import { headsKey, openStore, readNote } from '../cache/cache.js';
import { Pieces } from '../cache/pieces.js';
import { linked } from '../link/abort.js';
import { ExitLMError, errorToData, messageOf } from '../link/errors.js';
import { clockRuns, deferred } from '../link/platform.js';
import { Transfer } from '../link/protocol.js';
import { ChangedError, httpSource } from '../loading/http.js';
import { ModelLoader } from '../loading/loader.js';
import { jobsByShard } from '../loading/manifest.js';
import { resolve } from '../loading/resolve.js';
import { checkModel } from './check.js';
import {
  describeHeads,
  describeModel,
  describeTemplate,
  idsOfText,
  textOfIds,
} from './describe.js';
import { ONLY_VOCABULARY, readHeaders, stateOf } from './header.js';
import { loadHeads, loadMaps } from './heads-loading.js';
import { startEngine } from './instance.js';
import { fitting } from './overflow.js';
import { fetchFor, remoteSource } from './remote.js';
import { Replies } from './replies.js';
import { risk } from './risk.js';
import { Sessions } from './sessions.js';
import { sessionOptions } from './structs.js';
import { createTemplate } from './template.js';
import { startThreads } from './threads.js';
import { formOf, toolsIn } from './tools.js';

/**
 * @typedef {import('./engine.js').Engine} Engine
 * @typedef {import('../link/protocol.js').CallerPeer} Peer
 * @typedef {import('../link/protocol.js').GenerateRequest} GenerateRequest
 * @typedef {import('../link/protocol.js').LoadSpec} LoadSpec
 * @typedef {import('../link/types.js').ChatMessage} ChatMessage
 * @typedef {import('../link/types.js').Exits} Exits
 * @typedef {import('../link/types.js').Info} Info
 * @typedef {import('../loading/resolve.js').Heads} Heads
 * @typedef {import('../loading/resolve.js').Resolved} Resolved
 */

export class Host {
  #peer;
  /** @type {Engine | null} */ #engine = null;
  /** @type {ModelLoader | null} */ #loader = null;
  /** @type {Pieces | null} */ #pieces = null;
  /** @type {Replies | null} */ #replies = null;
  /** @type {ReturnType<typeof createTemplate> | null} */ #template = null;
  #heads = 0;
  /** @type {Exits | null} */ #exits = null;
  /** @type {Sessions | null} */ #sessions = null;
  /** The model of which only the vocabulary was loaded. */ #vocabulary = 0;
  /** Are the heads' K/V maps still to come? Until it resolves. `want` fetches them now. */
  #maps = { come: false, want: async () => {}, ...deferred() };
  #memoryNeeded = { model: 0, session: 0 };
  #kvType = '';
  #abort = new AbortController();
  /** @type {() => void} */ #endThreads = () => {};
  /** @type {unknown} */ #failure;
  /** @type {import('../loading/http.js').FetchLike} */ #fetch = async () => {
    throw new Error('nothing is loaded yet');
  };
  /** Settles when the cache has all that came. @type {Promise<void>} */ #putAway =
    Promise.resolve();

  /** …and that of the heads. @type {Promise<unknown>} */ #keeping = Promise.resolve();

  /** @param {Peer} peer */
  constructor(peer) {
    this.#peer = peer;
    this.#abort.signal.addEventListener('abort', () =>
      this.#loader?.fail(this.#abort.signal.reason),
    );
  }

  /** @returns {import('../link/protocol.js').EngineSide} */
  handlers() {
    return {
      load: (spec) => this.#load(spec),
      check: (spec) => checkModel(spec, this.#context(spec)),
      generate: (request) => this.#generate(request),
      cancel: ({ id }) => this.#replies?.cancel(id),
      openSession: (how) => this.#alive().sessions.open(how),
      saveSession: async ({ session }) => {
        const bytes = await this.#alive().sessions.save(session);
        return new Transfer(bytes, [bytes.buffer]);
      },
      closeSession: async ({ session }) => {
        this.#replies?.cancelAll(session);
        await this.#sessions?.close(session);
      },
      tokenize: ({ text, special, bos }) => this.#tokenize(text, special, bos),
      detokenize: ({ ids }) => this.#detokenize(ids),
      countTokens: ({ messages, options }) => this.#countTokens(messages, options),
      memory: () => this.#memory(),
      risk: (question) => risk(this.#texts().engine, question),
      setLevel: (level) => this.#alive().replies.setLevel(level),
      dispose: () => this.#dispose(),
    };
  }

  // ---- loading ----

  /**
   * Resolves once the model can be talked to. A notice 'ready' or 'failed' says later how the rest
   * went.
   * @param {LoadSpec} spec
   */
  async #load(spec) {
    if (spec.vocabularyOnly) return this.#loadVocabulary(spec);
    const starting = startEngine(spec);
    starting.catch(() => {});
    const resolved = await resolve(spec.files, spec.heads, this.#context(spec));
    if (spec.cacheKey && resolved.key) resolved.key = spec.cacheKey;
    if (spec.cacheKey && resolved.heads?.key) resolved.heads.key = headsKey(spec.cacheKey);
    const packed = resolved.manifest && packing(resolved.manifest);
    const opening = this.#openCopy(spec, resolved.key, packed, resolved.manifest);
    resolved.manifest = null; // megabytes, which a Worker does not have beside the weights
    opening.catch(() => {});
    try {
      const { engine, threads } = await starting;
      this.#engine = engine;
      this.#pieces = new Pieces(engine);
      if (resolved.heads)
        this.#heads = await loadHeads(
          this.#headsMeans(spec, resolved.key),
          resolved.heads,
          spec.kvMaps,
        );
      const loader = await this.#openLoader(spec, { ...resolved, packed }, threads, opening);
      return this.#describe(loader);
    } catch (error) {
      await opening.then(
        (store) => store?.close(),
        () => {},
      ); // twice does no harm
      throw error;
    }
  }

  /**
   * The tokenizer and the chat template, from the header.
   * @param {LoadSpec} spec
   */
  async #loadVocabulary(spec) {
    const { engine } = await startEngine({ ...spec, threads: 1 });
    const resolved = await resolve(spec.files.slice(0, 1), null, this.#context(spec));
    if (!resolved.manifest) resolved.sources.splice(1); // the first part has it all
    const loader = engine.make('loader_create', 0, 0, 0, ONLY_VOCABULARY);
    await readHeaders(engine, loader, resolved, this.#abort.signal);
    if (!stateOf(engine, loader).headerReady) engine.make('loader_finish', loader); // says why
    const model = engine.call('loader_model', loader);
    this.#engine = engine;
    this.#vocabulary = model;
    this.#template = createTemplate(describeTemplate(engine, model));
    const memory = { model: 0, session: 0, total: engine.memoryBytes };
    /** @type {Info} */
    const info = { ...describeModel(engine, model, 0), kvType: '', memory };
    this.#peer.notify('ready', info);
    return { info, exits: null };
  }

  /** @param {LoadSpec} spec */
  #context({ cache, cacheKey, customFetch }) {
    this.#fetch = fetchFor(this.#peer, customFetch);
    return {
      fetchLike: this.#fetch,
      remote: remoteSource(this.#peer),
      signal: this.#abort.signal,
      cachedManifest: (/** @type {string} */ key) => readNote(cache, cacheKey ?? key, this.#peer),
    };
  }

  /**
   * What the cache has of the model.
   * @param {LoadSpec} spec
   * @param {string | null} key
   * @param {ReturnType<typeof packing> | null} packed
   * @param {import('../loading/manifest.js').Manifest | null} [manifest] to be kept
   */
  async #openCopy({ cache, sha256 }, key, packed, manifest) {
    if (!key) return null;
    const store = await openStore(cache, key, this.#peer, {
      sha256: packed?.sha256 ?? sha256?.join() ?? null,
      sizes: packed?.sizes,
      warn: this.#warn,
    });
    if (manifest) store?.keepNote(manifest);
    return store;
  }

  /**
   * @param {LoadSpec} spec
   * @param {string | null} of the model's key
   * @returns {import('./heads-loading.js').Means}
   */
  #headsMeans({ cache }, of) {
    return {
      engine: /** @type {Engine} */ (this.#engine),
      pieces: /** @type {Pieces} */ (this.#pieces),
      signal: this.#abort.signal,
      openCopy: (key, sha256) =>
        openStore(cache, key, this.#peer, { sha256, of, warn: this.#warn }),
      keeping: (promise) => {
        this.#keeping = Promise.all([this.#keeping, promise.catch(() => {})]);
      },
    };
  }

  /**
   * The K/V maps, where a level of the table wants them: they make exits cheaper. They come once
   * all else is there, or when a reply that may use them waits for them.
   * @param {LoadSpec} spec
   * @param {Heads | null | undefined} heads
   * @param {string | null} of the model's key
   */
  async #loadMaps(spec, heads, of) {
    if (heads && this.#maps.come)
      try {
        await loadMaps(this.#headsMeans(spec, of), heads, this.#heads);
      } catch (error) {
        if (!this.#abort.signal.aborted)
          this.#warn(
            `the K/V maps of the exit heads did not load, so replies do without them: ${messageOf(error)}`,
          );
      }
    this.#noMoreMaps();
  }

  #noMoreMaps() {
    this.#maps.come = false;
    this.#maps.resolve(undefined);
  }

  /**
   * Resolves once the header is there and the session open. Where the server's file is another than
   * the one that the cache has begun, the copy is dropped and loading starts over.
   * @param {LoadSpec} spec
   * @param {Resolved & { packed: ReturnType<typeof packing> | null }} resolved
   * @param {number} threads
   * @param {Promise<import('../cache/store.js').ModelStore | null>} opening what the cache has of
   *   it
   */
  async #openLoader(spec, resolved, threads, opening) {
    const { sources, key, packed } = resolved;
    const engine = /** @type {Engine} */ (this.#engine);
    const pieces = /** @type {Pieces} */ (this.#pieces);
    const sha256 = spec.sha256 ?? undefined;
    for (let attempt = 1; ; attempt++) {
      const store = await (attempt === 1 ? opening : this.#openCopy(spec, key, packed));
      store?.useChecksum((bytes) => pieces.sumOf(bytes));
      const loader = new ModelLoader({
        engine,
        sources: sources.map((s, i) =>
          s.url ? httpSource(s.url, this.#fetch, packed ? null : store?.validator(i)) : s,
        ),
        heads: this.#heads,
        shards: packed?.shards,
        partBytes: packed?.partBytes,
        sha256,
        store,
        pieces,
        signal: this.#abort.signal,
        onProgress: (state) => this.#peer.notify('progress', state),
      });
      this.#loader = loader;
      /** @type {Promise<void> | undefined} */
      let maps;
      this.#maps.want = () => (maps ??= this.#loadMaps(spec, resolved.heads, key));
      const running = loader.run();
      const putAway = () => store?.close();
      this.#putAway = running.then(putAway, putAway);
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
          this.#peer.notify('ready', this.#describe(loader).info);
          if (store?.stale && !packed && !sha256) await this.#revalidate(store, sources[0]);
          await store?.close();
          await this.#maps.want();
        },
        async (error) => {
          this.#failure = error;
          this.#noMoreMaps();
          if (error?.code === 'CHECKSUM') await store?.remove();
          else await store?.close();
          this.#peer.notify('failed', errorToData(error));
        },
      );
      return loader;
    }
  }

  /**
   * A copy is compared with the server's file once a day, when nobody waits for it any more.
   * @param {import('../cache/store.js').ModelStore} store
   * @param {import('../link/sources.js').Source} source
   */
  async #revalidate(store, { url }) {
    const link = linked(this.#abort.signal);
    const source = httpSource(/** @type {string} */ (url), this.#fetch, store.validator(0));
    try {
      await source.open(0, 1, link.signal);
      await store.touch();
    } catch (error) {
      if (!(error instanceof ChangedError)) return; // no connection: another time
      await store.remove();
      this.#warn(`${url}: there is a new file; it is fetched the next time`);
    } finally {
      link.abort();
      link.release();
    }
  }

  /**
   * Where no type was named for the K/V cache and the first finds no room, the smallest is tried.
   * @param {LoadSpec} spec
   * @param {ModelLoader} loader
   * @param {number} threads
   */
  #openSession(spec, loader, threads) {
    const engine = /** @type {Engine} */ (this.#engine);
    const types = spec.kvType === null ? ['f32', 'q8'] : [spec.kvType];
    const clock = clockRuns();
    const make = (/** @type {number} */ contextLength, /** @type {number} */ beside) => {
      const options = engine.create('session_options', {
        ...sessionOptions(engine, {
          ...spec,
          contextLength: contextLength || spec.contextLength,
          kvType: this.#kvType,
          threads,
          heads: this.#heads,
        }),
        beside,
      });
      try {
        if (!beside) this.#memoryNeeded = loader.memory(options);
        return engine.make('session_create', loader.model, options, clock);
      } finally {
        engine.free(options);
      }
    };
    for (const kvType of types) {
      this.#kvType = kvType;
      try {
        this.#sessions = new Sessions(engine, loader, make);
        break;
      } catch (error) {
        if (
          /** @type {ExitLMError} */ (error).code !== 'OUT_OF_MEMORY' ||
          kvType === types[types.length - 1]
        )
          throw error;
      }
    }
    const sessions = /** @type {Sessions} */ (this.#sessions);
    const { address } = sessions.get(0);
    this.#exits = this.#heads ? describeHeads(engine, this.#heads) : null;
    this.#maps.come =
      spec.kvMaps === null &&
      !!this.#exits?.levels.some((level) => level.kv === 'maps' && level.certified) &&
      !engine.call('heads_have_maps', this.#heads);
    const template = describeTemplate(engine, loader.model);
    this.#template = createTemplate(template);
    this.#replies = new Replies({
      engine,
      loader,
      sessions,
      exits: this.#exits,
      clock,
      peer: this.#peer,
      maps: this.#maps,
      form: formOf(template.source),
    });
    const pool = engine.call('session_pool', address);
    if (pool)
      this.#endThreads = startThreads(engine, pool, engine.call('session_threads', address));
  }

  /** What the caller is told of the model. @param {ModelLoader} loader */
  #describe(loader) {
    const engine = /** @type {Engine} */ (this.#engine);
    /** @type {Info} */
    const info = {
      ...describeModel(
        engine,
        loader.model,
        /** @type {Sessions} */ (this.#sessions).get(0).address,
      ),
      kvType: this.#kvType,
      memory: { ...this.#memoryNeeded, total: engine.memoryBytes },
    };
    return { info, exits: this.#exits };
  }

  /** @param {string} message */
  #warn = (message) => this.#peer.notify('warning', message);

  // ---- with a model ----

  #alive() {
    if (this.#failure) {
      throw new ExitLMError(
        'DISPOSED',
        `the model is not usable any more (${messageOf(this.#failure)}); load it again`,
        { cause: this.#failure },
      );
    }
    if (this.#engine && this.#vocabulary)
      throw new ExitLMError(
        'USAGE',
        'only the vocabulary of this model was loaded (vocabularyOnly): it tokenizes, and does not answer',
      );
    if (!this.#engine || !this.#loader || !this.#replies || !this.#template || !this.#sessions)
      throw new ExitLMError('DISPOSED', 'the model was disposed of');
    if (this.#engine.crash) this.#engine.call('version'); // throws, with the reason
    return {
      engine: this.#engine,
      loader: this.#loader,
      replies: this.#replies,
      sessions: this.#sessions,
      template: this.#template,
    };
  }

  /** The tokenizer and the chat template. */
  #texts() {
    if (this.#engine && this.#vocabulary && this.#template)
      return { engine: this.#engine, model: this.#vocabulary, template: this.#template };
    const { engine, loader, template } = this.#alive();
    return { engine, model: loader.model, template };
  }

  /**
   * @param {string | import('./template.js').Prompt} text
   * @param {boolean} special
   * @param {boolean} bos
   */
  #tokenize(text, special, bos) {
    const { engine, model } = this.#texts();
    return idsOfText(engine, model, text, special, bos);
  }

  /** @param {number[]} ids */
  #detokenize(ids) {
    const { engine, model } = this.#texts();
    for (const id of ids)
      if (!Number.isInteger(id))
        throw new ExitLMError('USAGE', `detokenize takes token ids; ${id} is none`);
    return textOfIds(engine, model, ids);
  }

  /**
   * @param {ChatMessage[]} messages @param {import('../link/types.js').GenerateOptions} options with
   *   the tools
   */
  async #countTokens(messages, options) {
    const { template } = this.#texts();
    return this.#tokenize(await template(messages, toolsIn(options)), true, true).length;
  }

  /** @param {GenerateRequest} request */
  #generate(request) {
    const { engine, loader, replies, sessions, template } = this.#alive();
    const session = sessions.get(request.session);
    const { options } = request;
    return replies.generate(
      request,
      (prompt) =>
        typeof prompt === 'string'
          ? prompt
          : fitting({
              messages: prompt,
              options,
              session,
              contextLength: engine.call('session_context_tokens', session.address),
              template: (messages) => template(messages, toolsIn(options)),
              count: (text) => idsOfText(engine, loader.model, text, true, true).length,
            }),
      () => this.#alive(),
    );
  }

  #memory() {
    const { engine, loader, sessions } = this.#alive();
    const { model, session } = this.#memoryNeeded;
    return {
      total: engine.memoryBytes,
      model,
      session: session * sessions.most,
      networkBytes: loader.networkBytes,
    };
  }

  async #dispose() {
    const gone = new ExitLMError('DISPOSED', 'the model was disposed of');
    this.#failure ??= gone;
    this.#abort.abort(gone);
    this.#replies?.cancelAll();
    await this.#putAway;
    await this.#keeping;
    this.#endThreads();
    this.#engine = null; // its memory goes with it
    this.#loader = null;
    this.#replies = null;
  }
}

/** What loading needs of a manifest. @param {import('../loading/manifest.js').Manifest} manifest */
const packing = (manifest) => ({
  shards: jobsByShard(manifest),
  sha256: manifest.sha256,
  sizes: manifest.shards.map(({ bytes }) => bytes),
  partBytes: manifest.files.map(({ bytes }) => bytes),
});
