/**
 * Reading a stretch of a source whatever happens to the connection.
 */
import { linked } from '../link/abort.js';
import { isForeign } from '../link/address.js';
import { ExitLMError, messageOf } from '../link/errors.js';
import { isWorkerd, now, release } from '../link/platform.js';
import { PassingError } from './http.js';

/** @typedef {import('../link/sources.js').Source} Source */

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 8000;
/** So much memory is taken at once on a server's word. */
const MOST_EXPECTED_BYTES = 16 * 2 ** 20;
/** Tries in a row without one new byte: about a minute. */
const MOST_TRIES = 12;
/**
 * …where the server has never answered yet: a wrong address is more likely than a lost connection.
 * About four seconds.
 */
const FIRST_TRIES = 5;
/** A connection over which nothing has come for so long is given up, and opened again. */
const STALL_MS = 60_000;
/** Sources that have answered once. @type {WeakSet<Source>} */
const answered = new WeakSet();

/**
 * @typedef {object} DownloadOptions
 * @property {AbortSignal} signal
 * @property {(info: { ranged: boolean, total: number | null, validator: string | null }) => void}
 *   [onOpen] after each answer
 * @property {(error: ExitLMError, pauseMs: number) => void} [onRetry]
 * @property {number} [tries]
 * @property {number} [stallMs]
 * @property {boolean} [more] where the source knows no ranges, all that comes is wanted, not only
 *   up to `to`
 * @property {boolean} [whole] the file is asked for without a range from its start: servers
 *   compress no ranges
 */

/**
 * Yields the bytes [from, to) of a source in order, each once. A connection that breaks is opened
 * again where it broke, after a pause that doubles; a server that ignores ranges is read from the
 * start and the part that is there already is passed over.
 * @param {Source} source
 * @param {number} from
 * @param {number | null} to null: up to the end
 * @param {DownloadOptions} options
 * @returns {AsyncGenerator<{ at: number, bytes: Uint8Array }, void, void>}
 */
export async function* download(
  source,
  from,
  to,
  { signal, onOpen, onRetry, tries = MOST_TRIES, stallMs = STALL_MS, whole = false, more = false },
) {
  let at = from;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let stalled;
  let waitingSince = NaN;
  for (let failures = 0; ;) {
    // Whoever fetches leaves listeners at the signal, and there are thousands of requests. Its abort
    // ends an answer that nobody has begun to read.
    const link = linked(signal);
    // One timer that looks again, for there are thousands of chunks. Of the caller's own stream only
    // the caller knows how long it may take.
    const look = () => {
      const left = waitingSince + stallMs - now();
      if (!(left <= 0)) stalled = setTimeout(look, left || stallMs);
      else
        link.abort(
          new PassingError(
            'NETWORK',
            `${source.name}: nothing has come for ${stallMs / 1000} seconds`,
          ),
        );
    };
    try {
      waitingSince = now();
      if (source.url) look();
      const opened = await source.open(at, to, link.signal, whole);
      answered.add(source);
      onOpen?.(opened);
      if (more && !opened.ranged) to = null;
      // The length of a whole answer may be that of its compressed form: another origin's server
      // need not say so.
      const { total } = opened;
      if (opened.ranged && total !== null && (to === null || to > total)) to = total;
      let position = opened.from;
      for await (const chunk of opened.body) {
        waitingSince = NaN; // whoever takes the bytes may take its time
        const skip = Math.max(0, at - position);
        position += chunk.length;
        if (skip < chunk.length) {
          let bytes = skip ? chunk.subarray(skip) : chunk;
          if (to !== null && at + bytes.length > to) bytes = bytes.subarray(0, to - at);
          if (bytes.length) yield { at, bytes };
          at += bytes.length;
          failures = 0;
          if (to !== null && at >= to) return;
        }
        waitingSince = now();
      }
      if (to === null || at >= to || (!opened.ranged && total !== null && at >= total)) return;
      throw new PassingError(
        'NETWORK',
        `${source.name}: ends at byte ${at} where ${to} were expected`,
      );
    } catch (error) {
      link.abort(error);
      if (signal.aborted) throw signal.reason;
      if (!(error instanceof PassingError) || source.once) throw error;
      const never = error.code === 'NETWORK' && !answered.has(source);
      if (++failures >= (never ? Math.min(tries, FIRST_TRIES) : tries)) {
        const assets = isWorkerd
          ? '; the assets of a Worker are read by the option fetch: (url, init) => env.ASSETS.fetch(url, init)'
          : '';
        const advice = never
          ? `is the address right${isForeign(source.url) ? ', and does that server allow other origins (CORS)' : ''}?${assets}`
          : 'load it again later: what is cached stays';
        throw new ExitLMError(
          error.code,
          `${error.message}; gave up after ${failures} tries, ${advice}`,
          { cause: error },
        );
      }
      const pause = Math.max(
        error.retryAfterMs,
        Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (failures - 1)) *
          (0.75 + Math.random() / 2),
      );
      onRetry?.(error, pause);
      await online(pause, signal);
    } finally {
      clearTimeout(stalled);
      link.release();
    }
  }
}

/**
 * Waits, but not longer than until the machine says that it is online again.
 * @param {number} ms
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
function online(ms, signal) {
  const target = typeof globalThis.addEventListener === 'function' ? globalThis : null;
  return new Promise((resolve, reject) => {
    const done = () => {
      clearTimeout(timer);
      target?.removeEventListener('online', done);
      signal.removeEventListener('abort', done);
      if (signal.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(done, ms);
    target?.addEventListener('online', done);
    signal.addEventListener('abort', done);
    if (signal.aborted) done();
  });
}

/**
 * All bytes of a small file.
 * @param {Source} source
 * @param {DownloadOptions & { maxBytes?: number }} options
 * @returns {Promise<Uint8Array>}
 */
export async function downloadAll(source, { maxBytes = 512 * 2 ** 20, ...options }) {
  // Nothing is held twice where the server tells the size: a Worker has little room.
  let expected = 0;
  const onOpen = (
    /** @type {{ ranged: boolean, total: number | null, validator: string | null }} */ opened,
  ) => {
    expected = Math.min(opened.total ?? 0, MOST_EXPECTED_BYTES);
    options.onOpen?.(opened);
  };
  let all = new Uint8Array(0);
  let length = 0;
  const resize = (/** @type {number} */ bytes) => {
    const old = all;
    all = new Uint8Array(bytes);
    all.set(old.subarray(0, length));
    release(old);
  };
  for await (const { bytes } of download(source, 0, null, { ...options, onOpen })) {
    const needed = length + bytes.length;
    if (needed > maxBytes)
      throw new ExitLMError(
        'BAD_MODEL',
        `${source.name}: over ${maxBytes} bytes, too large for what it should be`,
      );
    if (needed > all.length) resize(Math.max(needed, expected, 2 * all.length));
    all.set(bytes, length);
    length = needed;
  }
  if (length < all.length) resize(length);
  return all;
}

/**
 * A JSON file.
 * @param {Source} source
 * @param {DownloadOptions} options
 * @returns {Promise<unknown>}
 */
export async function downloadJson(source, options) {
  const bytes = await downloadAll(source, { ...options, whole: true, maxBytes: 64 * 2 ** 20 });
  try {
    const text = new TextDecoder().decode(bytes);
    release(bytes);
    return JSON.parse(text);
  } catch (cause) {
    throw new ExitLMError('BAD_MODEL', `${source.name}: not JSON (${messageOf(cause)})`, { cause });
  }
}
