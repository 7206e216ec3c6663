/**
 * What the caller's thread holds, as sources: its streams, and its fetch.
 *
 * @typedef {import('../link/protocol.js').CallerPeer} Peer
 * @typedef {import('../loading/http.js').FetchLike} FetchLike
 * @typedef {import('../link/sources.js').Source} Source
 */
import { onAbort, orAbort } from '../link/abort.js';
import { isWorkerd } from '../link/platform.js';

/** Streams of the caller's thread are numbered here, so that one can be cancelled before it comes. */
let nextStream = 1;

/**
 * @template T
 * @param {Peer} peer
 * @param {AbortSignal} signal
 * @param {(stream: number) => Promise<T>} ask
 */
async function askFor(peer, signal, ask) {
  const stream = nextStream++;
  onAbort(signal, () => peer.notify('cancelStream', { stream }));
  return { stream, answer: await orAbort(ask(stream), signal) };
}

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
  return async (url, { headers, signal }) => {
    const { stream, answer } = await askFor(peer, signal, (number) =>
      peer.call('fetch', { url, headers, stream: number }),
    );
    return {
      ...answer,
      headers: new Headers(answer.headers),
      body: answer.body ? chunks(peer, stream) : null,
    };
  };
}

/** @param {Peer} peer @returns {(id: number, name: string, once: boolean) => Source} */
export const remoteSource = (peer) => (id, name, once) => ({
  name,
  url: null,
  once,
  open: async (from, to, signal) => {
    const { stream, answer } = await askFor(peer, signal, (number) =>
      peer.call('open', { id, from, to, stream: number }),
    );
    return { ...answer, validator: null, body: chunks(peer, stream) };
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
