/**
 * Where the bytes of one file come from: here what is in this thread, a Blob, bytes or a stream.
 * What has to be fetched is in loading/http.js, files are in loading/file.js.
 *
 * @typedef {object} Opened what a source answers to `open`
 * @property {number} from offset of the first byte that comes: what was asked for, or 0 where
 *   ranges do not work
 * @property {number | null} total bytes of the whole file; null where nobody says
 * @property {boolean} ranged whether `from` and `to` are obeyed
 * @property {string | null} validator ETag or date; two answers with different ones are of
 *   different files
 * @property {AsyncIterable<Uint8Array>} body
 *
 * @typedef {object} Source
 * @property {string} name for messages
 * @property {string | null} url what a cache keeps it under; null: it is here already
 * @property {(from: number, to: number | null, signal: AbortSignal, whole?: boolean) =>
 *   Promise<Opened>} open bytes [from, to); `whole`: all, compressed on its way if the server likes
 * @property {boolean} [once] it can be opened only once, from 0
 */
import { ExitLMError } from './errors.js';
import { isWorkerd } from './platform.js';

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
      if (!(value instanceof Uint8Array))
        throw new ExitLMError(
          'USAGE',
          `the stream gave ${typeof value} where Uint8Array was expected`,
        );
      if (value.length) yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * What a Worker of Cloudflare reads at once: as it comes, in pieces of 4 KB, a model would be
 * 24,000 buffers, and they are garbage that counts.
 */
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
    // else it went along with a read that failed
    if (buffer.byteLength === READ_BYTES) spare.push(buffer);
    reader.cancel().catch(() => {});
  }
}

/**
 * @param {Blob} blob
 * @param {string} [name]
 * @returns {Source}
 */
export function blobSource(blob, name) {
  const { name: own } = /** @type {File} */ (blob);
  return {
    name: name ?? (own || 'the Blob'),
    url: null,
    async open(from, to) {
      const part = from === 0 && to === null ? blob : blob.slice(from, to ?? blob.size);
      return {
        from,
        total: blob.size,
        ranged: true,
        validator: null,
        body: chunksOf(/** @type {any} */ (part.stream())),
      };
    },
  };
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
      return {
        from,
        total: bytes.length,
        ranged: true,
        validator: null,
        body: slices(bytes, from, end),
      };
    },
  };
}

/**
 * @param {Uint8Array} bytes
 * @param {number} from
 * @param {number} to
 */
async function* slices(bytes, from, to) {
  for (let at = from; at < to; at += 1 << 20)
    yield bytes.subarray(at, Math.min(to, at + (1 << 20)));
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
      if (opened || from !== 0)
        throw new ExitLMError('USAGE', 'a stream can be read only once, from its start');
      opened = true;
      return { from: 0, total: null, ranged: false, validator: null, body: chunksOf(stream) };
    },
  };
}
