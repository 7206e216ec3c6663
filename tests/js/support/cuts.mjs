// Connections that are cut at chosen bytes, and what the server's log says of bytes that went out
// twice.
import { Ranges } from '../../../web/src/cache/ranges.js';

/** @typedef {import('./model-server.mjs').Seen} Seen */
/**
 * @typedef {{ url: string, at: number }} Cut the answer that is about to send this byte of that
 *   file is cut off instead, once
 */

/** Numbers below 1, the same for the same seed. @param {number} seed */
export function randomFrom(seed) {
  let state = seed;
  return () => (state = (state * 1103515245 + 12345) % 2 ** 31) / 2 ** 31;
}

/**
 * @param {{ url: string, bytes: number }[]} files
 * @param {number} count
 * @param {() => number} random
 * @returns {Cut[]} at bytes drawn from all files together
 */
export function drawCuts(files, count, random) {
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  return Array.from({ length: count }, () => {
    let at = Math.floor(random() * total);
    for (const { url, bytes } of files) {
      if (at < bytes) return { url, at };
      at -= bytes;
    }
    throw new RangeError('unreachable');
  });
}

/**
 * Makes a server cut its connections there.
 * @param {Awaited<ReturnType<typeof import('./model-server.mjs').modelServer>>} server
 * @param {Cut[]} cuts
 * @returns {{ pending: Cut[] }} those that have not happened
 */
export function cutAt({ behaviour, seen }, cuts) {
  const pending = [...cuts];
  behaviour.cutAfter = (n, { from, to }) => {
    const next = pending
      .filter(({ url, at }) => url === seen[n].url && from <= at && at < to)
      .sort((a, b) => a.at - b.at)[0];
    if (!next) return null;
    pending.splice(pending.indexOf(next), 1);
    return next.at - from;
  };
  return { pending };
}

/** Bytes that the server sent more than once, by file. @param {Seen[]} seen @returns {number} */
export function sentTwice(seen) {
  /** @type {Map<string, Ranges>} */
  const sent = new Map();
  let all = 0;
  for (const { url, range, sent: bytes } of seen) {
    const from = Number(/^bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0);
    if (!sent.has(url)) sent.set(url, new Ranges());
    sent.get(url)?.add(from, from + bytes);
    all += bytes;
  }
  return all - [...sent.values()].reduce((sum, ranges) => sum + ranges.total, 0);
}
