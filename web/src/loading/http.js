/**
 * A file at an address, by ranges where the server has them.
 *
 * @typedef {import('../link/sources.js').Source} Source
 *
 * @typedef {{ ok: boolean, status: number, headers: { get(name: string): string | null },
 *   body: AsyncIterable<Uint8Array> | ReadableStream<Uint8Array> | null }} ResponseLike
 * @typedef {(url: string, init: { headers: Record<string, string>, signal: AbortSignal }) =>
 *   Promise<ResponseLike>} FetchLike
 */
import { ExitLMError, messageOf } from '../link/errors.js';
import { isPage } from '../link/platform.js';
import { chunksOf } from '../link/sources.js';

/** Statuses after which trying again makes sense. */
const PASSING = new Set([408, 425, 429, 500, 502, 503, 504]);

/** A failure that another try may cure. */
export class PassingError extends ExitLMError {
  /** @type {number} */ retryAfterMs = 0;
}

/** Another file lies at this address than the one that was begun. */
export class ChangedError extends ExitLMError {}

/**
 * @param {string} url
 * @param {FetchLike} fetchLike
 * @param {string | null} [validator] of the file whose bytes are there already
 * @returns {Source}
 */
export function httpSource(url, fetchLike, validator = null) {
  let wholeOnly = false; // this server has no ranges, or encodes what it sends
  const sameOrigin =
    typeof location === 'object' &&
    location.origin !== 'null' &&
    new URL(url, location.href).origin === location.origin;

  /** @type {Source['open']} */
  async function open(from, to, signal, whole = false) {
    /** @type {Record<string, string>} */
    const headers = {};
    if (!wholeOnly && !whole) {
      headers.Range = `bytes=${from}-${to === null ? '' : to - 1}`;
      // Another origin would be asked for permission first; there the answer's own validator is
      // compared, below.
      if (from > 0 && validator?.startsWith('"') && (sameOrigin || !isBrowser()))
        headers['If-Range'] = validator;
    }
    /** @type {ResponseLike} */
    let response;
    try {
      response = await fetchLike(url, { headers, signal });
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      // in its own words, for network errors are TypeErrors too; no other try would cure it
      if (/illegal invocation/i.test(messageOf(cause)))
        throw new ExitLMError(
          'USAGE',
          `option fetch: it was called without its object (${messageOf(cause)}); give (url, init) => env.ASSETS.fetch(url, init), not env.ASSETS.fetch`,
          { cause },
        );
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
      return open(0, null, signal);
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
      throw new ExitLMError(
        'HTTP',
        `${url}: the server answered with a web page instead of a model; check the address`,
      );
    }
    const length = encoded ? null : numberOf(response.headers.get('content-length'));
    const range = ranged
      ? /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '')
      : null;
    if (range && Number(range[1]) !== from) {
      discard(response);
      throw new ExitLMError(
        'HTTP',
        `${url}: bytes from ${from} on were asked for, the server answered with those from ${range[1]} on`,
      );
    }
    let total = null;
    if (range && range[3] !== '*') total = Number(range[3]);
    else if (ranged && to === null && length !== null) total = from + length;
    else if (!ranged) total = length;
    const start = ranged ? from : 0;
    const expected =
      length ??
      (total !== null ? (to === null || !ranged ? total : Math.min(to, total)) - start : null);
    return { from: start, total, ranged, validator, body: body(url, response, expected, signal) };
  }
  return { name: url, url, open };
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
    throw new PassingError('NETWORK', `${url}: the connection broke (${messageOf(cause)})`, {
      cause,
    });
  }
  if (expected !== null && got < expected) {
    throw new PassingError(
      'NETWORK',
      `${url}: the connection ended after ${got} of ${expected} bytes`,
    );
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
  return new ChangedError(
    'CHECKSUM',
    `${url}: the file changed on the server while it was being loaded; load it again`,
  );
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
  error.retryAfterMs = Math.min(
    60_000,
    (numberOf(response.headers.get('retry-after')) ?? 0) * 1000,
  );
  return error;
}

/** @param {string | null} text */
function numberOf(text) {
  return text !== null && /^\d+$/.test(text) ? Number(text) : null;
}

function isBrowser() {
  return isPage || typeof (/** @type {any} */ (globalThis).WorkerGlobalScope) === 'function';
}
