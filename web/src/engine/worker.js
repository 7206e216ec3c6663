/** The worker's script: a Host that is spoken to by messages. */
import { isNode, nodeModule } from '../link/platform.js';
import { Peer } from '../link/protocol.js';
import { Host } from './host.js';

/** @param {import('../link/protocol.js').Send} send */
function start(send) {
  const handlers = /** @type {import('../link/protocol.js').EngineSide} */ ({});
  /** @type {import('../link/protocol.js').CallerPeer} */
  const peer = new Peer(send, handlers);
  Object.assign(handlers, new Host(peer).handlers());
  return peer;
}

// No top-level await: bundlers that make classic scripts of workers have none.
if (isNode) {
  nodeModule('node:worker_threads').then(({ parentPort }) => {
    const peer = start((message, transfer) => parentPort.postMessage(message, transfer));
    parentPort.on('message', (/** @type {any} */ message) => peer.receive(message));
  });
} else {
  const scope = /** @type {any} */ (globalThis);
  const peer = start((message, transfer) => scope.postMessage(message, transfer));
  scope.onmessage = (/** @type {MessageEvent} */ { data }) => peer.receive(data);
  holdLock().then((lock) => peer.notify('hello', { lock }));
}

/**
 * A lock that lives as long as this worker: whoever waits for it learns of the worker's end.
 * @returns {Promise<string | null>} its name; null where there are no locks
 */
function holdLock() {
  const { locks } = /** @type {Partial<Navigator>} */ (globalThis.navigator ?? {});
  const name = `exitlm-worker-${crypto.getRandomValues(new Uint32Array(4)).join('-')}`;
  return new Promise((resolve) => {
    if (!locks) return resolve(null);
    locks
      .request(name, () => {
        resolve(name);
        return new Promise(() => {});
      })
      .catch(() => resolve(null));
  });
}
