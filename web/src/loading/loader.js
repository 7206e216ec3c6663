/**
 * Brings a model into the engine. Bytes go from the chunk that arrived straight into linear memory.
 *
 * Files come in one of two ways:
 *  - by jobs: the headers first, then stretches of the files (or shards of a packed model) in the
 *    order in which generation needs them; rows that a prompt needs at once go in between;
 *  - as a stream: each file from its first byte to its last. So it is where ranges do not work, and
 *    where a checksum of the whole has to be computed with no cache to read it from again.
 */
import { PIECE_BYTES, Staged } from '../cache/pieces.js';
import { Ranges } from '../cache/ranges.js';
import { ExitLMError, inFile } from '../link/errors.js';
import { deferred, now, turn } from '../link/platform.js';
import { download } from './download.js';
import { isShort, Jobs, planFor } from './jobs.js';
import { jobsByRange, READ_BYTES, Rows } from './plan.js';
import { verifier, verifyKept } from './verify.js';

/**
 * @typedef {import('../link/sources.js').Source} Source
 * @typedef {import('./plan.js').Job} Job
 * @typedef {import('./plan.js').Extent} Extent
 * @typedef {import('../engine/engine.js').Engine} Engine
 *
 * @typedef {object} Store what the cache has of this model's files (parts or shards), and takes of
 *   them
 * @property {boolean} complete it has all
 * @property {boolean} keeps what is written
 * @property {(file: number) => Ranges} has
 * @property {(file: number, offset: number, most: number) => Promise<Uint8Array | null>} read
 *   verified bytes from `offset` on; null where they are broken (they then count as missing)
 * @property {(file: number, offset: number, bytes: Uint8Array) => Promise<void>} write `bytes` are
 *   the caller's again afterwards
 * @property {(file: number, validator: string | null) => void} describe
 * @property {(bytes: number) => Promise<void>} expect so many are to come
 * @property {(file: number, offset: number) => { offset: number, bytes: number, hash: string, read:
 *   (into: Uint8Array) => boolean, drop: () => void } | null} direct a piece that can be read at
 *   once
 * @property {(stretches: Stretch[]) => void} order tells in which order a complete copy will be
 *   read
 * @property {(sizes: number[], stretches?: Stretch[]) => Promise<void>} finish all bytes are in and
 *   verified; the stretches as which they will be read
 * @property {() => Promise<void>} flush keeps what is there
 *
 * @typedef {{ file: number, from: number, to: number }} Stretch
 *
 * @typedef {'network' | 'cache' | 'memory'} Origin
 *
 * @typedef {object} LoadState
 * @property {number} loaded bytes in the engine
 * @property {number} total
 * @property {number} layersReady layers that can be computed
 * @property {number} layers
 * @property {Origin} source of the latest bytes
 * @property {number} bytesPerSecond of what comes from the network
 *
 * @typedef {object} LoaderOptions
 * @property {Engine} engine
 * @property {Source[]} sources parts of the model, or shards
 * @property {number} heads pointer to heads in the engine, or 0
 * @property {Job[]} [shards] jobs of a packed model
 * @property {number[]} [partBytes] sizes of the original files, where they are known (packed)
 * @property {Store | null} [store]
 * @property {import('../cache/pieces.js').Pieces} pieces
 * @property {(string | null)[]} [sha256] of each part, expected
 * @property {AbortSignal} signal
 * @property {(state: LoadState) => void} [onProgress]
 *
 * @typedef {import('./jobs.js').Running} Running
 */

const URGENT_ROWS = 16;
/**
 * What is asked for at first; then up to where most headers end, among the rows of frequent tokens;
 * then twice as much each time.
 */
const FIRST_BYTES = 128 * 1024;
const HEADER_BYTES = 2 * 2 ** 20;
/**
 * The plan is read so many extents at a time: some ten thousand would take a megabyte of the
 * engine's memory.
 */
const PLAN_EXTENTS = 2048;
/** Spans that the engine takes at once, four numbers each: most pieces of a shard have fewer. */
const TABLE_SPANS = 256;
const SPAN_BYTES = 32;
const PROGRESS_MS = 50;
/** The longest that taking bytes keeps the event loop from turning. */
const SLICE_MS = 8;

const NO_PIECES =
  'a list is of the files of gguf-split, not of pieces of one file: give those as one ReadableStream, or cut the model by "npx exitlm pack"';

/** Ranges were asked for, the whole file came. */
class NotRanged extends Error {}

export class ModelLoader {
  #options;
  #engine;
  #pointer;
  #stateStruct;
  /** @type {any} */ #state;
  #abort = new AbortController();
  /** Spans of a shard on their way into the engine. */ #table = 0;
  #part = 0;
  #offset = 0;
  /** @type {Ranges[]} */ #have = [];
  #rows = new Rows();
  /** As which the files will be read from the cache. @type {Stretch[]} */ #stretches = [];
  /** What is left to be fetched, and how fast the line is. */ #jobs;
  #jobsDone = deferred();
  #jobsMode = false;
  #ranged = false;
  /** @type {(number | null)[]} */ #fileBytes = [];
  /** @type {number[]} */ #partBytes;
  #cachedAtStart;
  #answered = deferred();
  #headerReady = deferred();
  #changed = deferred();
  /** @type {unknown} */ #failure;
  #finished = false;
  #lastTurn = now();
  /** In which nothing could be taken from the line. */ #busyMs = 0;
  #lastProgress = -Infinity;
  /** Settles when it is known whether the cache has room. @type {Promise<void> | undefined} */ #roomAsked;
  /** Files whose checksum was compared as they came. @type {Set<number>} */ #verified = new Set();

  /** The model in the engine; 0 before its header is there. */
  model = 0;
  /** Bytes that came over the network, those that came twice included. */
  networkBytes = 0;

  /** @param {LoaderOptions} options */
  constructor(options) {
    this.#options = options;
    this.#engine = options.engine;
    this.#partBytes = options.partBytes ?? [];
    this.#cachedAtStart = options.store?.complete ?? false;
    this.#jobs = new Jobs({
      shards: options.shards !== undefined,
      cached: this.#cachedAtStart,
      clock: now,
    });
    this.#stateStruct = this.#engine.create('load_state');
    // A packed model begins with its header: known to the byte, it leaves no gaps in the engine's
    // memory.
    const first = options.shards?.[0]?.spans.at(0);
    const headerBytes = first?.part === 0 && first.offset === 0 ? first.bytes : 0;
    this.#pointer = this.#engine.make('loader_create', options.heads, 0, headerBytes, 0);
    this.#readState();
    this.#headerReady.promise.catch(() => {});
    this.#answered.promise.catch(() => {});
    this.#jobsDone.promise.catch(() => {});
    options.signal.addEventListener('abort', () => this.fail(options.signal.reason), {
      once: true,
    });
  }

  /** Why loading failed; undefined while it has not. */
  get failure() {
    return this.#failure;
  }

  get finished() {
    return this.#finished;
  }

  /** @returns {LoadState} */
  get progress() {
    const { layers, layersReady, loadedBytes } = this.#state;
    const total = this.#total();
    const loaded = this.#finished ? total : Math.min(loadedBytes, total || loadedBytes);
    return {
      loaded,
      total,
      layersReady,
      layers,
      source: this.#origin,
      bytesPerSecond: Math.round(this.#jobs.line.rate * 1000),
    };
  }
  /** @type {Origin} */ #origin = 'network';

  /** Resolves once the model can be talked to. */
  headerReady() {
    return this.#headerReady.promise;
  }

  /**
   * Resolves at the next progress of any kind, at once where all is there; rejects where loading
   * failed.
   */
  async nextChange() {
    if (this.#failure) throw this.#failure;
    if (!this.#finished) await this.#changed.promise;
    if (this.#failure) throw this.#failure;
  }

  /**
   * Memory that model and session will take, from the header.
   * @param {number} sessionOptions struct in the engine
   */
  memory(sessionOptions) {
    const engine = this.#engine;
    // A small file can be whole, and its loader gone, before anybody asks: what is taken already is
    // the answer then.
    if (!this.#pointer) return { model: engine.u8.length, session: 0 };
    return engine.with(16, (sizes) => {
      engine.run('loader_memory', this.#pointer, sessionOptions, sizes);
      return {
        model: engine.view.getFloat64(sizes, true),
        session: engine.view.getFloat64(sizes + 8, true),
      };
    });
  }

  /**
   * Ends loading with this error.
   * @param {unknown} error
   */
  fail(error) {
    if (this.#failure || this.#finished) return;
    this.#failure = error;
    this.#abort.abort(error);
    this.#headerReady.reject(error);
    this.#answered.reject(error);
    this.#jobsDone.reject(error);
    this.#notify();
  }

  /**
   * Loads everything.
   * @returns {Promise<void>} resolves when all is there and verified
   */
  async run() {
    try {
      if (this.#options.shards) await this.#runShards(this.#options.shards);
      else await this.#runFiles();
      await this.#finish();
    } catch (error) {
      this.fail(error);
      await this.#options.store?.flush().catch(() => {});
      throw this.#failure;
    }
  }

  /**
   * Rows of the embedding that generation waits for, or soon will: they are fetched at once.
   * @param {Iterable<number>} rows
   */
  needRows(rows) {
    if (!this.#jobsMode || this.#finished || this.#failure) return;
    for (const row of new Set(rows)) this.#needRow(row);
    this.#startJobs();
  }

  /** @param {number} row */
  #needRow(row) {
    if (this.#options.shards) {
      const place = this.#rows.placeOf(row);
      if (place) this.#jobs.need(place.part, place.offset, 0);
      return;
    }
    const found = this.#rows.find(row);
    if (!found) return;
    const { part, offset, rowBytes, rowsAfter } = found;
    if (this.#have[part].has(offset, offset + rowBytes)) return;
    this.#jobs.need(part, offset, rowBytes * Math.min(URGENT_ROWS, rowsAfter));
  }

  // ---- by files ----

  async #runFiles() {
    const { sources, store } = this.#options;
    for (let part = 0; part < Math.max(sources.length, this.#state.nParts); part++) {
      if (!sources[part])
        throw new ExitLMError(
          'BAD_MODEL',
          `the model is split into ${this.#state.nParts} files, ${sources.length} were given`,
        );
      if (part > 0 && part >= this.#state.nParts)
        throw new ExitLMError(
          'USAGE',
          `${sources.length} files were given, and the first one says that the model has ${this.#state.nParts}; ${NO_PIECES}`,
        );
      await this.#readFile(part, false);
    }
    if (this.#state.complete || !this.#state.headerReady) return; // #finish tells what is missing
    /** @type {Extent[]} */
    const plan = [];
    this.#readPlan((extent) => plan.push(extent));
    try {
      const reading = jobsByRange(plan, READ_BYTES);
      const isHere = sources.every(({ url }) => url === null) || store?.complete;
      this.#jobs.put(isHere ? reading : planFor(plan, this.#jobs.line));
      this.#stretches = [...reading.jobs, ...reading.rows].map(({ file, from, to }) => ({
        file,
        from,
        to,
      }));
      store?.order(this.#stretches);
      await this.#runJobs();
    } catch (error) {
      if (!(error instanceof NotRanged)) throw error;
      this.#jobsMode = false;
      for (let part = 0; part < sources.length; part++) await this.#readFile(part, true);
    }
    if (store && !this.#state.complete)
      throw new ExitLMError(
        'BAD_MODEL',
        'the cached copy does not fit together; load the model again',
      );
  }

  /**
   * The header of a file, and all of it where it cannot be read by ranges.
   * @param {number} part
   * @param {boolean} whole
   */
  async #readFile(part, whole) {
    const { sources, store, sha256 } = this.#options;
    this.#have[part] ??= new Ranges();
    const sum = this.#cachedAtStart ? null : verifier(this.#engine, sha256?.[part]);
    let at = 0;
    // Without a copy to read it from again a checksum needs the bytes in order.
    const inOrder = () => whole || (sum !== null && !store?.keeps);
    const hasHeader = () => !inOrder() && this.#state.part === part && this.#state.headerBytes > 0;
    // By parts: what is asked for is taken to its end, the first rows after a header are wanted
    // anyway.
    const byParts = () => !inOrder() && sources[part].url !== null;
    while (store?.has(part).has(at, at + 1) && !hasHeader()) {
      const n = await this.#fromCache(
        part,
        at,
        PIECE_BYTES,
        async (bytes) => {
          sum?.update(bytes);
          await this.#take(part, at, bytes, 'cache');
        },
        sum === null,
      );
      if (n === 0) break;
      at += n;
    }
    while (!hasHeader()) {
      const to = at < FIRST_BYTES ? FIRST_BYTES : Math.max(HEADER_BYTES, 2 * at);
      const some = byParts(); // it may turn out meanwhile that there is no room for a copy
      for await (const { at: offset, bytes } of this.#download(part, at, some ? to : null, some)) {
        sum?.update(bytes);
        await this.#take(part, offset, bytes, 'network');
        await store?.write(part, offset, bytes);
        at = offset + bytes.length;
        await this.#roomAsked;
        if (hasHeader()) this.#checkSize(part);
        if (this.#ranged && !byParts() && hasHeader()) break;
      }
      const end = this.#fileBytes[part];
      if (!(some || hasHeader()) || !this.#ranged || (typeof end === 'number' && at >= end)) {
        await sum?.finish(sources[part].name);
        this.#verified.add(part);
        return;
      }
    }
    sum?.drop();
  }

  /** @param {number} part */
  #checkSize(part) {
    const { sources } = this.#options;
    const has = this.#fileBytes[part];
    const needs = this.#state.totalBytes;
    if (has !== null && has !== undefined && has < needs) {
      throw new ExitLMError(
        'BAD_MODEL',
        `${sources[part].name}: truncated: its tensors need ${needs} bytes, the file has ${has}${sources.length > 1 ? `; ${NO_PIECES}` : ''}`,
      );
    }
  }

  /**
   * @param {((extent: Extent) => void) | null} take each; null: only so many are read that a row is
   *   found among them
   */
  #readPlan(take) {
    const engine = this.#engine;
    const bytes = engine.sizeOf('extent');
    const at = (/** @type {string} */ key) => engine.offsetOf('extent', key);
    const [part, offset, nBytes, layer, row, nRows, output] = [
      'part',
      'offset',
      'nBytes',
      'layer',
      'row',
      'nRows',
      'output',
    ].map(at);
    /** There are some ten thousand: no object is made by way of names. */
    const read = (/** @type {number} */ from, /** @type {number} */ n) => {
      const { view } = engine;
      for (let i = 0, e = from; i < n; i++, e += bytes) {
        const extent = {
          part: view.getUint32(e + part, true),
          offset: Number(view.getBigUint64(e + offset, true)),
          nBytes: Number(view.getBigUint64(e + nBytes, true)),
          layer: view.getInt32(e + layer, true),
          row: view.getUint32(e + row, true),
          nRows: view.getUint32(e + nRows, true),
          output: view.getUint8(e + output) !== 0,
        };
        this.#rows.add(extent);
        take?.(extent);
      }
    };
    engine.with(PLAN_EXTENTS * bytes + 8, (extents) => {
      const count = extents + PLAN_EXTENTS * bytes;
      for (let first = 0, n = 1; first < n; first += PLAN_EXTENTS) {
        engine.run('loader_plan', this.#pointer, first, extents, PLAN_EXTENTS, count);
        n = engine.view.getUint32(count, true);
        read(extents, Math.min(n - first, PLAN_EXTENTS));
        if (!take && this.#rows.placeOf(0)) break;
      }
    });
  }

  // ---- by jobs ----

  /** @param {Job[]} shards */
  async #runShards(shards) {
    for (let part = 0; part < this.#partBytes.length; part++) this.#have[part] = new Ranges();
    this.#jobs.put({ jobs: shards, rows: [] });
    this.#options.store?.order(shards.map(({ file, from, to }) => ({ file, from, to })));
    while (!this.#state.headerReady) {
      const job = this.#jobs.shift();
      if (!job) break;
      await this.#runJob({ job, left: job.to - job.from, lane: 'files', began: now() });
    }
    if (this.#state.headerReady) this.#readPlan(null);
    await this.#runJobs();
  }

  async #runJobs() {
    this.#jobsMode = true;
    this.#startJobs();
    await this.#jobsDone.promise;
  }

  #startJobs() {
    const jobs = this.#jobs;
    if (this.#failure) jobs.clear();
    if (jobs.outdated) jobs.replan((coming) => this.#rows.missing(this.#have, coming));
    for (const running of jobs.start()) {
      this.#runJob(running).then(
        () => {
          jobs.done(running);
          this.#startJobs();
        },
        (error) => {
          if (!(error instanceof NotRanged)) return this.fail(error);
          jobs.clear();
          this.#jobsDone.reject(error);
        },
      );
    }
    if (jobs.idle) this.#jobsDone.resolve(undefined);
  }

  /** @param {Running} running */
  async #runJob(running) {
    const { job } = running;
    const whole = running.lane === 'rows' || job.use === 'urgent' || isShort(job);
    // A complete copy was verified when it was written, and each piece is again when it is read.
    const sum = this.#cachedAtStart
      ? null
      : verifier(this.#engine, job.sha256, job.to - job.from, job.pieces);
    const deliver = async (
      /** @type {number} */ at,
      /** @type {Uint8Array | Staged} */ bytes,
      /** @type {Origin} */ origin,
    ) => {
      await running.after;
      sum?.update(bytes);
      const end = at + bytes.length;
      // Before the last bytes go in: nothing is computed with a shard that is not what it should be
      // as a whole.
      if (end === job.to) await sum?.finish(this.#options.sources[job.file].name);
      await this.#deliver(job, at, bytes, origin);
      running.left = job.to - end;
      if (this.#jobsMode && this.#jobs.mayGoOn(running)) this.#startJobs();
      return end;
    };
    for (let at = job.from; at < job.to;) {
      const next = this.#nextPiece(job, at);
      if (!next) break;
      const { from, to, cached } = next;
      at = from;
      if (cached) {
        // Nothing where it is broken; it counts as missing now.
        at += await this.#fromCache(
          job.file,
          from,
          Math.min(PIECE_BYTES, to - from),
          (bytes) => deliver(from, bytes, 'cache'),
          !sum,
        );
      } else if (whole) at = await deliver(from, await this.#gather(job.file, from, to), 'network');
      else
        for await (const { at: offset, bytes } of this.#download(job.file, from, to))
          at = await deliver(offset, bytes, 'network');
    }
    running.left = 0;
  }

  /**
   * Verified bytes of the cache to `use`.
   * @param {number} file
   * @param {number} offset
   * @param {number} most
   * @param {(bytes: Uint8Array | Staged) => Promise<unknown>} use
   * @param {boolean} inEngine whether bytes that are only in the engine's memory will do
   * @returns {Promise<number>} how many; 0: they are broken
   */
  async #fromCache(file, offset, most, use, inEngine) {
    const store = /** @type {Store} */ (this.#options.store);
    const piece = inEngine ? store.direct(file, offset) : null;
    if (!piece) {
      const bytes = await store.read(file, offset, most);
      if (bytes) await use(bytes);
      return bytes?.length ?? 0;
    }
    const { pieces } = this.#options;
    const pointer = pieces.take();
    try {
      if (
        !piece.read(this.#engine.u8.subarray(pointer, pointer + piece.bytes)) ||
        pieces.sumAt(pointer, piece.bytes) !== piece.hash
      ) {
        piece.drop();
        return 0;
      }
      const skip = offset - piece.offset;
      const n = Math.min(most, piece.bytes - skip);
      await use(new Staged(pointer + skip, n));
      return n;
    } finally {
      pieces.release(pointer);
    }
  }

  /**
   * A few rows, whole.
   * @param {number} file
   * @param {number} from
   * @param {number} to
   */
  async #gather(file, from, to) {
    const all = new Uint8Array(to - from);
    for await (const { at, bytes } of this.#download(file, from, to)) all.set(bytes, at - from);
    return all;
  }

  /**
   * The next stretch of a job that has to be taken, and whether the cache has it.
   * @param {Job} job
   * @param {number} at
   * @returns {{ from: number, to: number, cached: boolean } | null} null: nothing is left
   */
  #nextPiece(job, at) {
    // A shard is taken whole, for its checksum; of a file, what the engine has is passed over.
    const missing = this.#options.shards
      ? [[at, job.to]]
      : this.#have[job.file].missing(at, job.to);
    if (missing.length === 0) return null;
    const [from, end] = missing[0];
    const { store } = this.#options;
    const uncached = store
      ? missing.flatMap(([a, b]) => store.has(job.file).missing(a, b))
      : missing;
    if (uncached[0]?.[0] !== from)
      return { from, to: Math.min(end, uncached[0]?.[0] ?? end), cached: true };
    let to = from;
    for (const [a, b] of uncached) if (a - to <= (job.gap ?? 0)) to = b;
    return { from, to, cached: false };
  }

  /**
   * Bytes of a job's file to where they belong.
   * @param {Job} job
   * @param {number} at
   * @param {Uint8Array | Staged} bytes
   * @param {Origin} origin
   */
  async #deliver(job, at, bytes, origin) {
    if (this.#failure) throw this.#failure;
    // Before the header is there it is a stretch or two.
    const taken =
      this.#options.shards && this.#state.headerReady
        ? this.#scatter(job, at, bytes)
        : this.#spread(job, at, bytes);
    if (origin === 'network') this.networkBytes += bytes.length - taken;
    await this.#took(job.file, taken, origin);
    if (!(bytes instanceof Staged) && origin === 'network')
      await this.#options.store?.write(job.file, at, bytes);
  }

  /**
   * Bytes of a job, a stretch of the original at a time.
   * @param {Job} job
   * @param {number} at
   * @param {Uint8Array | Staged} bytes
   * @returns {number} how many the engine had not
   */
  #spread(job, at, bytes) {
    let index = job.spans.indexAt(at);
    let taken = 0;
    for (let done = 0; done < bytes.length;) {
      const { part, offset, at: start, bytes: n } = job.spans.at(index++);
      const from = offset + at + done - start;
      const to = offset + Math.min(n, at + bytes.length - start);
      // Of a stretch that goes over what is there already, the rest.
      const wanted = job.gap ? this.#have[part].missing(from, to) : [[from, to]];
      for (const [a, b] of wanted) {
        this.#put(part, a, bytes.subarray(done + a - from, done + b - from));
        taken += b - a;
      }
      done += to - from;
    }
    return taken;
  }

  /**
   * Bytes of a shard, all at once: a call of the engine for each of some ten thousand stretches takes
   * longer than the bytes do.
   * @param {Job} job
   * @param {number} at
   * @param {Uint8Array | Staged} bytes
   * @returns {number} how many
   */
  #scatter({ spans }, at, bytes) {
    const engine = this.#engine;
    const began = now();
    const table = (this.#table ||= engine.alloc(TABLE_SPANS * SPAN_BYTES));
    let from = at;
    const take = (/** @type {number} */ memory, /** @type {number} */ n) => {
      for (const end = from + n; from < end;) {
        const first = spans.indexAt(from);
        const numbers = spans.numbers(
          first,
          Math.min(TABLE_SPANS, spans.indexAt(end - 1) - first + 1),
        );
        const to = Math.min(end, numbers[numbers.length - 4] + numbers[numbers.length - 1]);
        new Float64Array(engine.memory.buffer, table, numbers.length).set(numbers);
        engine.run(
          'loader_scatter',
          this.#pointer,
          table,
          numbers.length / 4,
          from,
          memory + n - (end - from),
          to - from,
        );
        from = to;
      }
    };
    inFile(this.#nameOf(0), () => {
      if (bytes instanceof Staged) take(bytes.pointer, bytes.length);
      else engine.staged(bytes, take);
    });
    this.#part = -1; // wherever it stands now
    this.#busyMs += now() - began;
    return bytes.length;
  }

  // ---- both ----

  /**
   * @param {number} file
   * @param {number} from
   * @param {number | null} to
   * @param {boolean} [more] where there are no ranges, what comes beyond is wanted too
   */
  async *#download(file, from, to, more = false) {
    const source = this.#options.sources[file];
    const { line } = this.#jobs;
    // What the engine does with bytes is no property of the line.
    const at = () => now() - this.#busyMs;
    const asked = at();
    let opened = false;
    const chunks = download(source, from, to, {
      more,
      signal: this.#abort.signal,
      onOpen: ({ ranged, total, validator }) => {
        if (!opened) line.opened(asked, at());
        opened = true;
        this.#ranged = ranged;
        this.#fileBytes[file] = ranged ? total : null; // what is compressed has another length
        this.#answered.resolve(undefined);
        if (!ranged && this.#jobsMode && !this.#options.shards) throw new NotRanged();
        this.#options.store?.describe(file, validator);
      },
    });
    try {
      for await (const chunk of chunks) {
        line.took(chunk.bytes.length, at());
        yield chunk;
      }
    } finally {
      if (opened) line.closed(at());
    }
  }

  /** Bytes of a packed model are the original file's, which has no name here. @param {number} part */
  #nameOf(part) {
    const { shards, sources } = this.#options;
    return shards ? 'the packed model' : sources[part].name;
  }

  /**
   * Bytes into the engine.
   * @param {number} part
   * @param {number} offset
   * @param {Uint8Array | Staged} bytes
   */
  #put(part, offset, bytes) {
    const engine = this.#engine;
    const began = now();
    if (part !== this.#part || offset !== this.#offset)
      engine.run('loader_seek', this.#pointer, part, offset);
    const push = (/** @type {number} */ memory, /** @type {number} */ n) =>
      engine.run('loader_push', this.#pointer, memory, n);
    inFile(this.#nameOf(part), () => {
      if (bytes instanceof Staged) push(bytes.pointer, bytes.length);
      else engine.staged(bytes, push);
    });
    this.#part = part;
    this.#offset = offset + bytes.length;
    this.#have[part].add(offset, offset + bytes.length);
    this.#busyMs += now() - began;
  }

  /**
   * @param {number} part
   * @param {number} offset
   * @param {Uint8Array | Staged} bytes
   * @param {Origin} origin
   */
  async #take(part, offset, bytes, origin) {
    if (this.#failure) throw this.#failure;
    this.#put(part, offset, bytes);
    await this.#took(part, bytes.length, origin);
  }

  /**
   * Tells of so many bytes that the engine has got: of a packed model a chunk is hundreds of spans.
   * @param {number} file
   * @param {number} n
   * @param {Origin} origin
   */
  async #took(file, n, origin) {
    const before = this.#state.layersReady;
    this.#readState();
    const isHere = this.#options.sources[file].url === null;
    this.#origin = origin === 'network' && isHere ? 'memory' : origin;
    if (origin === 'network') this.networkBytes += n;
    const isHeader = this.#state.headerReady && !this.model;
    if (isHeader) this.#useHeader();
    this.#notify();
    this.#report(this.#state.layersReady !== before);
    if (isHeader) {
      // The session is made now.
      const began = now();
      await turn();
      this.#busyMs += now() - began;
    } else if (now() - this.#lastTurn > SLICE_MS) {
      await turn();
      this.#lastTurn = now();
    }
  }

  #useHeader() {
    this.model = this.#engine.call('loader_model', this.#pointer);
    const { store } = this.#options;
    this.#roomAsked = store?.expect(this.#total());
    // A copy that was begun earlier may be of another file than the one on the server now: wait for
    // the first answer.
    const certain = !store || store.complete || this.networkBytes > 0;
    if (certain) this.#headerReady.resolve(undefined);
    else this.#answered.promise.then(this.#headerReady.resolve, this.#headerReady.reject);
  }

  async #finish() {
    if (this.#failure) throw this.#failure;
    this.model = inFile(this.#nameOf(this.#part), () =>
      this.#engine.make('loader_finish', this.#pointer),
    );
    this.#pointer = 0;
    await this.#verifyWhole();
    this.#finished = true;
    this.#headerReady.resolve(undefined);
    this.#notify();
    this.#report(true);
    const { store, shards } = this.#options;
    const sizes = shards
      ? this.#partBytes
      : this.#have.map(({ list }) => list[list.length - 1]?.[1] ?? 0);
    // A packed model's list of rows takes megabytes, and nobody asks for it any more.
    this.#options = { ...this.#options, shards: undefined };
    this.#rows = new Rows();
    this.#have = [];
    this.#freeTable();
    await store?.finish(sizes, this.#stretches); // who comes back right after finds all of it
    this.#options.pieces.free();
  }

  /** Checksums of whole files that did not come in order. */
  async #verifyWhole() {
    const { sha256, store, shards, sources } = this.#options;
    if (!sha256 || shards || !store || this.#cachedAtStart) return;
    await store.flush();
    for (const [file, expected] of sha256.entries()) {
      if (!expected || this.#verified.has(file)) continue;
      await verifyKept({
        engine: this.#engine,
        store,
        file,
        name: sources[file].name,
        bytes: this.#fileBytes[file] ?? this.#partBytes[file] ?? 0,
        expected,
        have: this.#have[file],
        download: (from, to) => this.#download(file, from, to),
      });
    }
  }

  #readState() {
    if (this.#pointer === 0) return;
    this.#engine.call('loader_state', this.#pointer, this.#stateStruct);
    this.#state = this.#engine.read('load_state', this.#stateStruct);
    const { part, totalBytes } = this.#state;
    if (totalBytes > 0 && !this.#options.partBytes) this.#partBytes[part] = totalBytes;
  }

  #total() {
    return this.#partBytes.reduce((sum, n) => sum + (n ?? 0), 0);
  }

  /** @param {boolean} always */
  #report(always) {
    if (this.#total() === 0) return; // before the header nobody knows what is to come
    const at = now();
    if (!always && at - this.#lastProgress < PROGRESS_MS) return;
    this.#lastProgress = at;
    this.#options.onProgress?.(this.progress);
  }

  #notify() {
    const { resolve } = this.#changed;
    this.#changed = deferred();
    resolve(undefined);
  }

  #freeTable() {
    if (this.#table) this.#engine.free(this.#table);
    this.#table = 0;
  }

  /** Gives the engine's objects back. The model is freed where loading did not finish. */
  dispose() {
    this.fail(new ExitLMError('DISPOSED', 'the model was disposed of'));
    if (this.#engine.crash) return;
    this.#freeTable();
    if (this.#pointer) this.#engine.call('loader_free', this.#pointer);
    this.#pointer = 0;
  }
}
