/**
 * What the caller's thread holds, as sources: its streams, and its fetch.
 *
 * @typedef {import('../link/protocol.js').CallerPeer} Peer
 * @typedef {import('../loading/http.js').FetchLike} FetchLike
 * @typedef {import('../link/sources.js').Source} Source
 */
import { isWorkerd } from '../link/platform.js';

/**
 * @param {Peer} peer
 * @param {boolean} custom the caller's thread fetches
 * @returns {FetchLike}
 */
export function fetchFor(peer, custom) {
  // The browser's own cache would let one range of a file wait for another, and keep a second copy.
  if (!custom)
    return (url, init) =>
      fetch(url, /** @type {RequestInit} */ (isWorkerd ? init : { ...init, cache: 'no-store' }));
  return async (url, { headers }) => {
    const { status, ok, headers: answered, stream } = await peer.call('fetch', { url, headers });
    return {
      ok,
      status,
      headers: new Headers(answered),
      body: stream === null ? null : chunks(peer, stream),
    };
  };
}

/** @param {Peer} peer @returns {(id: number, name: string, once: boolean) => Source} */
export const remoteSource = (peer) => (id, name, once) => ({
  name,
  url: null,
  once,
  open: async (from, to) => {
    const { total, ranged, stream, from: start } = await peer.call('open', { id, from, to });
    return { from: start, total, ranged, validator: null, body: chunks(peer, stream) };
  },
});

/** @param {Peer} peer @param {number} stream of the caller's thread */
async function* chunks(peer, stream) {
  let ended = false;
  try {
    for (;;) {
      const bytes = await peer.call('read', { stream });
      if (!bytes) {
        ended = true;
        return;
      }
      yield bytes;
    }
  } catch (error) {
    ended = true;
    throw error;
  } finally {
    if (!ended) peer.notify('cancelStream', { stream });
  }
}
