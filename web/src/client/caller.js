/**
 * What stays in the caller's thread: the objects that cannot cross to a worker (a function for
 * fetch, a stream, a cache of the caller's own), served to the engine piece by piece.
 *
 * @typedef {import('../link/types.js').ModelSource} ModelSource
 * @typedef {import('../link/types.js').LoadOptions} LoadOptions
 * @typedef {import('../link/protocol.js').SourceSpec} SourceSpec
 * @typedef {import('../link/protocol.js').LoadSpec} LoadSpec
 * @typedef {import('../link/protocol.js').CallerSide} CallerSide
 * @typedef {import('../link/sources.js').Source} Source
 *
 * @typedef {{ iterator: AsyncIterator<Uint8Array> | null, abort: AbortController, ours: boolean }}
 *   Stream `iterator`: null until there is an answer
 */
import { absolute } from '../link/address.js';
import { ExitLMError } from '../link/errors.js';
import { number, usage } from '../link/options.js';
import { hasNodeModules, memoryIsShort } from '../link/platform.js';
import { Transfer } from '../link/protocol.js';
import { blobSource, bytesSource, chunksOf, streamSource } from '../link/sources.js';

const CACHES = ['auto', 'opfs', 'cache-api', 'none'];

export class Caller {
  #options;
  /** @type {Source[]} */ #sources = [];
  /** @type {Map<number, Stream>} */ #streams = new Map();
  /** Whether the engine is in another thread. */
  #far = false;

  /** @param {LoadOptions} options */
  constructor(options) {
    this.#options = options;
  }

  /** @returns {import('../link/protocol.js').CallerSide} */
  handlers() {
    return {
      fetch: (request) => this.#fetch(request),
      open: (stretch) => this.#open(stretch),
      read: ({ stream }) => this.#read(stream),
      cancelStream: ({ stream }) => this.#cancel(stream),
      cacheGet: ({ key }) => this.#cache.get(key),
      cachePut: ({ key, bytes }) => this.#cache.put(key, bytes),
      cacheDelete: ({ key }) => this.#cache.delete?.(key),
    };
  }

  get #cache() {
    return /** @type {import('../link/types.js').KeyValueCache} */ (this.#options.cache);
  }

  /**
   * Checked options and sources as plain data.
   * @param {ModelSource} source
   * @param {boolean} inWorker
   * @returns {LoadSpec}
   */
  spec(source, inWorker) {
    const {
      heads,
      threads = 'auto',
      cache = 'auto',
      cacheKey,
      kvType,
      kvMaps,
      vocabularyOnly = false,
      sha256,
      fetch,
      wasm,
      onProgress,
      worker,
    } = this.#options;
    if (threads !== 'auto') number({ threads }, 'threads', 1, 64, true);
    if (
      typeof cache === 'string'
        ? !CACHES.includes(cache)
        : typeof cache?.get !== 'function' || typeof cache?.put !== 'function'
    ) {
      usage(
        'cache',
        `one of ${CACHES.map((c) => `'${c}'`).join(', ')} or an object with get and put`,
        cache,
      );
    }
    if (cacheKey !== undefined && (typeof cacheKey !== 'string' || !URL.canParse(cacheKey)))
      usage('cacheKey', "an address, such as 'https://models.example/name.gguf'", cacheKey);
    if (fetch !== undefined && typeof fetch !== 'function') usage('fetch', 'a function', fetch);
    if (onProgress !== undefined && typeof onProgress !== 'function')
      usage('onProgress', 'a function', onProgress);
    if (!['undefined', 'boolean'].includes(typeof kvMaps)) usage('kvMaps', 'true or false', kvMaps);
    if (typeof vocabularyOnly !== 'boolean')
      usage('vocabularyOnly', 'true or false', vocabularyOnly);
    if (!['undefined', 'boolean', 'string'].includes(typeof worker) && !(worker instanceof URL))
      usage('worker', "true, false or the address of the worker's script", worker);
    this.#far = inWorker;
    const list = Array.isArray(source) ? source : [source];
    if (list.length === 0) throw new ExitLMError('USAGE', 'source: the list is empty');
    return {
      files: list.map((item) => this.#sourceSpec(item, inWorker)),
      heads: this.#headsSpec(heads, inWorker),
      threads,
      cache: typeof cache === 'string' ? /** @type {LoadSpec['cache']} */ (cache) : 'remote',
      cacheKey: cacheKey ?? null,
      contextLength: number(this.#options, 'contextLength', 1, 0xffffffff, true) ?? 0,
      kvType: kvType ?? (memoryIsShort() ? 'q8' : null),
      kvMaps: kvMaps ?? null,
      vocabularyOnly,
      sha256: sha256 === undefined ? null : checksums(sha256),
      customFetch: fetch !== undefined,
      wasm: wasmSpec(wasm),
      inWorker,
    };
  }

  /**
   * @param {LoadOptions['heads']} heads
   * @param {boolean} inWorker
   * @returns {LoadSpec['heads']}
   */
  #headsSpec(heads, inWorker) {
    if (heads === undefined) return 'auto';
    return heads === false || heads === null ? null : this.#sourceSpec(heads, inWorker, 'heads');
  }

  /**
   * @param {ModelSource} source
   * @param {boolean} inWorker
   * @param {string} [name] for errors
   * @returns {SourceSpec}
   */
  #sourceSpec(source, inWorker, name = 'source') {
    if (typeof source === 'string' || source instanceof URL) return addressSpec(String(source));
    if (source instanceof Blob)
      return inWorker && hasNodeModules
        ? this.#remote(blobSource(source))
        : { kind: 'blob', blob: source };
    if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) {
      const bytes = bytesOf(source);
      return inWorker ? this.#remote(bytesSource(bytes)) : { kind: 'bytes', bytes };
    }
    if (typeof ReadableStream === 'function' && source instanceof ReadableStream) {
      if (source.locked)
        throw new ExitLMError('USAGE', `${name}: this stream is being read by somebody else`);
      return inWorker ? this.#remote(streamSource(source)) : { kind: 'stream', stream: source };
    }
    throw new ExitLMError(
      'USAGE',
      `${name}: an address, ${name === 'source' ? 'a list of addresses, ' : ''}a Blob, a ReadableStream or bytes were expected`,
    );
  }

  /** @param {Source} source @returns {SourceSpec} */
  #remote(source) {
    const id = this.#sources.push(source) - 1;
    return { kind: 'remote', id, name: source.name, once: source.once === true };
  }

  /** @param {Parameters<CallerSide['fetch']>[0]} request */
  async #fetch({ url, headers, stream }) {
    const response = await this.#begin(stream, true, (signal) =>
      /** @type {typeof fetch} */ (this.#options.fetch)(url, { headers, signal }),
    );
    return {
      ok: response.ok,
      status: response.status,
      headers: [...response.headers],
      body: response.body !== null,
    };
  }

  /** @param {Parameters<CallerSide['open']>[0]} stretch */
  async #open({ id, from, to, stream }) {
    const opened = await this.#begin(stream, false, (signal) =>
      this.#sources[id].open(from, to, signal),
    );
    return { total: opened.total, ranged: opened.ranged, from: opened.from };
  }

  /**
   * @template {{ body: ReadableStream<Uint8Array> | AsyncIterable<Uint8Array> | null }} T
   * @param {number} id
   * @param {boolean} ours its buffers are of no use to anybody else
   * @param {(signal: AbortSignal) => Promise<T>} begin
   */
  async #begin(id, ours, begin) {
    /** @type {Stream} */
    const stream = { iterator: null, abort: new AbortController(), ours };
    const { signal } = stream.abort;
    this.#streams.set(id, stream);
    try {
      const begun = await begin(signal);
      if (begun.body) stream.iterator = chunksOf(begun.body)[Symbol.asyncIterator]();
      if (!begun.body) this.#streams.delete(id);
      else if (signal.aborted && 'cancel' in begun.body) await begun.body.cancel();
      return begun;
    } catch (error) {
      this.#streams.delete(id);
      throw error;
    }
  }

  /** @param {number} id */
  async #read(id) {
    const stream = this.#streams.get(id);
    if (!stream?.iterator) return null;
    try {
      const { done, value } = await stream.iterator.next();
      if (!done) {
        // In one thread they are taken before the next ones are asked for.
        if (!this.#far) return value;
        const bytes =
          stream.ours && value.byteLength === value.buffer.byteLength ? value : value.slice();
        return new Transfer(bytes, [/** @type {ArrayBuffer} */ (bytes.buffer)]);
      }
    } catch (error) {
      this.#streams.delete(id);
      throw error;
    }
    this.#streams.delete(id);
    return null;
  }

  /** Nobody reads any more. @param {unknown} reason */
  end(reason) {
    for (const id of this.#streams.keys()) this.#cancel(id, reason);
  }

  /** @param {number} id @param {unknown} [reason] */
  #cancel(id, reason) {
    const stream = this.#streams.get(id);
    this.#streams.delete(id);
    stream?.abort.abort(reason);
    stream?.iterator?.return?.().catch(() => {});
  }
}

/** @param {ArrayBuffer | ArrayBufferView} source */
export function bytesOf(source) {
  return source instanceof ArrayBuffer
    ? new Uint8Array(source)
    : new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
}

/**
 * An address, absolute; in Node, Deno and Bun also the path of a file.
 * @param {string} text
 * @returns {Extract<SourceSpec, { kind: 'url' | 'file' }>}
 */
function addressSpec(text) {
  if (text === '') throw new ExitLMError('USAGE', 'source: the address is empty');
  const scheme = /^([a-z][a-z0-9+.-]+):/i.exec(text)?.[1].toLowerCase();
  if (hasNodeModules && scheme === 'file')
    return {
      kind: 'file',
      path: decodeURIComponent(new URL(text).pathname).replace(/^\/(?=[a-z]:\/)/i, ''),
    };
  if (hasNodeModules && !scheme) return { kind: 'file', path: text };
  try {
    return { kind: 'url', url: absolute(text).href };
  } catch (cause) {
    throw new ExitLMError('USAGE', `source: ${JSON.stringify(text)} is no address`, { cause });
  }
}

/** @param {LoadOptions['wasm']} wasm @returns {LoadSpec['wasm']} */
function wasmSpec(wasm) {
  if (wasm === undefined || wasm === null) return null;
  if (wasm instanceof WebAssembly.Module) return wasm;
  if (wasm instanceof ArrayBuffer || ArrayBuffer.isView(wasm)) return bytesOf(wasm);
  if (typeof wasm === 'string' || wasm instanceof URL) {
    const spec = addressSpec(String(wasm));
    return spec.kind === 'file'
      ? absolute(encodeURI(spec.path.replaceAll('\\', '/'))).href
      : spec.url;
  }
  return usage('wasm', 'an address, a WebAssembly.Module or bytes', wasm);
}

/** @param {string | string[]} value */
function checksums(value) {
  const list = typeof value === 'string' ? [value] : value;
  if (!Array.isArray(list) || list.some((s) => !/^[0-9a-f]{64}$/i.test(s)))
    usage('sha256', '64 hexadecimal digits, or a list of such', value);
  return list.map((s) => s.toLowerCase());
}
