/** An engine in the caller's own thread. */
import { Host } from './host.js';
import { localPeers } from './protocol.js';

/** @type {import('./exitlm.js').Connect} */
export async function connectLocally(_, handlers) {
  const peer = localPeers(handlers, (far) => new Host(far).handlers());
  return { peer, inWorker: false, end: () => {} };
}
