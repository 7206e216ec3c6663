/**
 * Where the bytes of one file come from: HTTP, a Blob, a file of Node's, a stream, or whatever the caller's thread holds.
 *
 * @typedef {object} Opened what a source answers to `open`
 * @property {number} from offset of the first byte that comes: what was asked for, or 0 where ranges do not work
 * @property {number | null} total bytes of the whole file; null where nobody says
 * @property {boolean} ranged whether `from` and `to` are obeyed
 * @property {string | null} validator ETag or date; two answers with different ones are of different files
 * @property {AsyncIterable<Uint8Array>} body
 *
 * @typedef {object} Source
 * @property {string} name for messages
 * @property {string | null} url what a cache keeps it under; null: it is here already
 * @property {(from: number, to: number | null, signal: AbortSignal, whole?: boolean) => Promise<Opened>} open bytes [from, to); `whole`: all, compressed on its way if the server likes
 * @property {boolean} [once] it can be opened only once, from 0
 *
 * @typedef {{ ok: boolean, status: number, headers: { get(name: string): string | null },
 *   body: AsyncIterable<Uint8Array> | ReadableStream<Uint8Array> | null }} ResponseLike
 * @typedef {(url: string, init: { headers: Record<string, string>, signal: AbortSignal }) => Promise<ResponseLike>} FetchLike
 */
import { ExitLMError, messageOf } from '../link/errors.js';
import { isPage, isWorkerd, nodeModule } from '../link/platform.js';

/** Statuses after which trying again makes sense. */
const PASSING = new Set([408, 425, 429, 500, 502, 503, 504]);

/** A failure that another try may cure. */
export class PassingError extends ExitLMError {
  /** @type {number} */ retryAfterMs = 0;
}

/** Another file lies at this address than the one that was begun. */
export class ChangedError extends ExitLMError {}

/**
 * @param {ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>} stream
 * @returns {AsyncGenerator<Uint8Array, void, void>}
 */
export async function* chunksOf(stream) {
  if (!('getReader' in stream)) {
    yield* stream;
    return;
  }
  yield* isWorkerd ? piecesInto(stream) : pieces(stream);
}

/** @param {ReadableStream<Uint8Array>} stream @returns {AsyncGenerator<Uint8Array, void, void>} */
async function* pieces(stream) {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      if (!(value instanceof Uint8Array)) throw new ExitLMError('USAGE', `the stream gave ${typeof value} where Uint8Array was expected`);
      if (value.length) yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** What a Worker of Cloudflare reads at once: as it comes, in pieces of 4 KB, a model would be 24,000 buffers, and they are garbage that counts. */
const READ_BYTES = 64 * 1024;
/** Buffers that nobody reads into. @type {ArrayBuffer[]} */
const spare = [];

/**
 * Pieces that share one buffer: each is over when the next one is asked for.
 * @param {ReadableStream<Uint8Array>} stream
 * @returns {AsyncGenerator<Uint8Array, void, void>}
 */
async function* piecesInto(stream) {
  /** @type {any} */
  let reader;
  try {
    reader = stream.getReader({ mode: 'byob' });
  } catch {
    yield* pieces(stream); // made by the caller, without a type
    return;
  }
  let buffer = spare.pop() ?? new ArrayBuffer(READ_BYTES);
  try {
    for (;;) {
      const { done, value } = await reader.readAtLeast(READ_BYTES, new Uint8Array(buffer));
      buffer = value?.buffer ?? new ArrayBuffer(READ_BYTES);
      if (value?.length) yield value;
      if (done) return;
    }
  } finally {
    if (buffer.byteLength === READ_BYTES) spare.push(buffer); // else it went along with a read that failed
    reader.cancel().catch(() => {});
  }
}

/**
 * @param {string} url
 * @param {FetchLike} fetchLike
 * @param {string | null} [validator] of the file whose bytes are there already
 * @returns {Source}
 */
export function httpSource(url, fetchLike, validator = null) {
  let wholeOnly = false; // this server has no ranges, or encodes what it sends
  const sameOrigin = typeof location === 'object' && location.origin !== 'null' && new URL(url, location.href).origin === location.origin;

  /** @type {Source['open']} */
  async function open(from, to, signal, whole = false) {
    const link = linked(signal);
    try {
      const { body: bytes, ...opened } = await request(from, to, link.signal, whole);
      return { ...opened, body: releasing(bytes, link.release) };
    } catch (error) {
      link.release();
      throw error;
    }
  }

  /** @type {Source['open']} */
  async function request(from, to, signal, whole) {
    /** @type {Record<string, string>} */
    const headers = {};
    if (!wholeOnly && !whole) {
      headers.Range = `bytes=${from}-${to === null ? '' : to - 1}`;
      // Another origin would be asked for permission first; there the answer's own validator is compared, below.
      if (from > 0 && validator?.startsWith('"') && (sameOrigin || !isBrowser())) headers['If-Range'] = validator;
    }
    /** @type {ResponseLike} */
    let response;
    try {
      response = await fetchLike(url, { headers, signal });
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      throw new PassingError('NETWORK', `${url}: no connection (${messageOf(cause)})`, { cause });
    }
    if (response.status === 416) {
      discard(response);
      if (from === 0) return { from: 0, total: 0, ranged: true, validator: null, body: nothing() };
      throw changed(url);
    }
    if (!response.ok) throw refusal(url, response);
    const encoded = !/^(identity)?$/.test(response.headers.get('content-encoding') ?? '');
    const ranged = response.status === 206 && !encoded;
    if (response.status === 206 && encoded) {
      discard(response);
      wholeOnly = true;
      return request(0, null, signal);
    }
    const tag = response.headers.get('etag') ?? response.headers.get('last-modified');
    if (validator !== null && tag !== null && tag !== validator) {
      discard(response);
      throw changed(url);
    }
    validator ??= tag;
    if (!ranged && !whole) wholeOnly = true;
    if (/^text\/html\b/.test(response.headers.get('content-type') ?? '')) {
      discard(response);
      throw new ExitLMError('HTTP', `${url}: the server answered with a web page instead of a model; check the address`);
    }
    const length = encoded ? null : numberOf(response.headers.get('content-length'));
    const range = ranged ? /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '') : null;
    if (range && Number(range[1]) !== from) {
      discard(response);
      throw new ExitLMError('HTTP', `${url}: bytes from ${from} on were asked for, the server answered with those from ${range[1]} on`);
    }
    let total = null;
    if (range && range[3] !== '*') total = Number(range[3]);
    else if (ranged && to === null && length !== null) total = from + length;
    else if (!ranged) total = length;
    const start = ranged ? from : 0;
    const expected = length ?? (total !== null ? (to === null || !ranged ? total : Math.min(to, total)) - start : null);
    return { from: start, total, ranged, validator, body: body(url, response, expected, signal) };
  }
  return { name: url, url, open };
}

/**
 * A signal of its own for each request: whoever fetches leaves listeners at the signal, and there are thousands of requests.
 * @param {AbortSignal} signal
 */
function linked(signal) {
  const own = new AbortController();
  const abort = () => own.abort(signal.reason);
  if (signal.aborted) abort();
  else signal.addEventListener('abort', abort, { once: true });
  return { signal: own.signal, release: () => signal.removeEventListener('abort', abort) };
}

/**
 * @param {AsyncIterable<Uint8Array>} bytes
 * @param {() => void} release
 */
async function* releasing(bytes, release) {
  try {
    yield* bytes;
  } finally {
    release();
  }
}

/**
 * The bytes of an answer; one that breaks off is a failure that may pass.
 * @param {string} url
 * @param {ResponseLike} response
 * @param {number | null} expected
 * @param {AbortSignal} signal
 */
async function* body(url, response, expected, signal) {
  let got = 0;
  try {
    if (response.body) {
      for await (const chunk of chunksOf(response.body)) {
        got += chunk.length;
        yield chunk;
        if (signal.aborted) throw signal.reason;
      }
    }
  } catch (cause) {
    if (signal.aborted) throw signal.reason;
    if (cause instanceof ExitLMError && !(cause instanceof PassingError)) throw cause;
    throw new PassingError('NETWORK', `${url}: the connection broke (${messageOf(cause)})`, { cause });
  }
  if (expected !== null && got < expected) {
    throw new PassingError('NETWORK', `${url}: the connection ended after ${got} of ${expected} bytes`);
  }
}

/** @returns {AsyncGenerator<Uint8Array>} */
async function* nothing() {}

/** @param {ResponseLike} response */
function discard(response) {
  const stream = /** @type {any} */ (response.body);
  if (typeof stream?.cancel === 'function') stream.cancel().catch(() => {});
  else stream?.return?.();
}

/** @param {string} url */
function changed(url) {
  return new ChangedError('CHECKSUM', `${url}: the file changed on the server while it was being loaded; load it again`);
}

/**
 * @param {string} url
 * @param {ResponseLike} response
 */
function refusal(url, response) {
  discard(response);
  const message = `${url}: the server answered ${response.status}${response.status === 404 ? ' (not found)' : ''}`;
  if (!PASSING.has(response.status)) return new ExitLMError('HTTP', message);
  const error = new PassingError('HTTP', message);
  error.retryAfterMs = Math.min(60_000, (numberOf(response.headers.get('retry-after')) ?? 0) * 1000);
  return error;
}

/** @param {string | null} text */
function numberOf(text) {
  return text !== null && /^\d+$/.test(text) ? Number(text) : null;
}

function isBrowser() {
  return isPage || typeof (/** @type {any} */ (globalThis).WorkerGlobalScope) === 'function';
}

/**
 * @param {Blob} blob
 * @param {string} [name]
 * @returns {Source}
 */
export function blobSource(blob, name) {
  return {
    name: name ?? (/** @type {File} */ (blob).name || 'the Blob'),
    url: null,
    async open(from, to) {
      const part = from === 0 && to === null ? blob : blob.slice(from, to ?? blob.size);
      return { from, total: blob.size, ranged: true, validator: null, body: chunksOf(/** @type {any} */ (part.stream())) };
    },
  };
}

/**
 * A file of Node's, Deno's or Bun's.
 * @param {string} path
 * @returns {Source}
 */
export function fileSource(path) {
  return {
    name: path,
    url: null,
    async open(from, to, signal) {
      const fs = await nodeModule('node:fs/promises');
      let size;
      try {
        const stat = await fs.stat(path);
        if (stat.isDirectory()) throw new ExitLMError('USAGE', `${path}: this is a folder; a model file was expected`);
        size = stat.size;
      } catch (cause) {
        if (cause instanceof ExitLMError) throw cause;
        throw new ExitLMError('NETWORK', `${path}: cannot be read (${messageOf(cause)})`, { cause });
      }
      return { from, total: size, ranged: true, validator: null, body: fileChunks(fs, path, from, Math.min(to ?? size, size), signal) };
    },
  };
}

/**
 * @param {any} fs
 * @param {string} path
 * @param {number} from
 * @param {number} to
 * @param {AbortSignal} signal
 */
async function* fileChunks(fs, path, from, to, signal) {
  const file = await fs.open(path, 'r');
  try {
    const buffer = new Uint8Array(Math.max(1, Math.min(1 << 20, to - from)));
    for (let at = from; at < to; ) {
      const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, to - at), at);
      if (signal.aborted) throw signal.reason;
      if (bytesRead === 0) return; // it became shorter; the loader says what is missing
      yield buffer.subarray(0, bytesRead); // taken before the next read
      at += bytesRead;
    }
  } finally {
    await file.close();
  }
}

/**
 * Bytes in memory. Pieces are views: nothing is copied.
 * @param {Uint8Array} bytes
 * @param {string} [name]
 * @returns {Source}
 */
export function bytesSource(bytes, name = 'the bytes') {
  return {
    name,
    url: null,
    async open(from, to) {
      const end = Math.min(to ?? bytes.length, bytes.length);
      return { from, total: bytes.length, ranged: true, validator: null, body: slices(bytes, from, end) };
    },
  };
}

/**
 * @param {Uint8Array} bytes
 * @param {number} from
 * @param {number} to
 */
async function* slices(bytes, from, to) {
  for (let at = from; at < to; at += 1 << 20) yield bytes.subarray(at, Math.min(to, at + (1 << 20)));
}

/**
 * @param {ReadableStream<Uint8Array>} stream
 * @returns {Source}
 */
export function streamSource(stream) {
  let opened = false;
  return {
    name: 'the stream',
    url: null,
    once: true,
    async open(from) {
      if (opened || from !== 0) throw new ExitLMError('USAGE', 'a stream can be read only once, from its start');
      opened = true;
      return { from: 0, total: null, ranged: false, validator: null, body: chunksOf(stream) };
    },
  };
}
