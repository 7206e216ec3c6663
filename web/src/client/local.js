/** An engine in the caller's own thread. */
import { localPeers } from '../link/protocol.js';

/** @type {import('./exitlm.js').Connect} */
export async function connectLocally(_, handlers) {
  // only now: a page with a worker has no need of it
  const { Host } = await import('../engine/host.js');
  return {
    peer: localPeers(handlers, (far) => new Host(far).handlers()),
    inWorker: false,
    end: () => {},
  };
}
