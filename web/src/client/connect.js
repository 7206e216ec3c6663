/**
 * An engine in a worker: a Web Worker in pages, Deno and Bun, a worker thread in Node.
 */
import { absolute, insteadOf, startable } from '../link/address.js';
import { ExitLMError, messageOf } from '../link/errors.js';
import { usage } from '../link/options.js';
import { isNode, isPage, isWorkerd, nodeModule } from '../link/platform.js';
import { Peer } from '../link/protocol.js';
import { connectLocally } from './local.js';

/**
 * @typedef {import('./exitlm.js').Connect} Connect
 * @typedef {import('./exitlm.js').Connection} Connection
 * @typedef {(handlers: import('../link/protocol.js').CallerSide, onCrash: (error: ExitLMError) =>
 *   void, script?: URL) => Promise<Connection>} Start
 */

/** @type {Connect} */
export async function connect(options, handlers, onCrash) {
  if (isWorkerd)
    throw new ExitLMError(
      'USAGE',
      "in a Worker of Cloudflare import { ExitLM } from 'exitlm/edge', in place of 'exitlm': there are no workers there, and no cache",
    );
  const possible = isNode || typeof Worker === 'function';
  if (options.worker === false || (!possible && options.worker === undefined))
    return connectLocally(options, handlers, onCrash);
  if (!possible)
    throw new ExitLMError('UNSUPPORTED', 'there are no workers here; leave the option worker out');
  const script = scriptOf(options.worker) ?? insteadOf('worker.js');
  if (isNode) return connectToThread(handlers, onCrash, script);
  try {
    return await connectToWorker(handlers, onCrash, script);
  } catch (error) {
    // Not asked for by name, and its script cannot be started here (a content security policy, a
    // page from a file): the caller's thread does the work, in slices.
    if (options.worker !== undefined) throw error;
    handlers.warning?.(
      `${messageOf(error).split(';')[0]}: the page's own thread does the work, in slices`,
    );
    return connectLocally(options, handlers, onCrash);
  }
}

/**
 * @param {boolean | string | URL | undefined} worker @returns {URL | undefined} the address of a
 *   script, where one was given
 */
function scriptOf(worker) {
  if (typeof worker !== 'string') return worker instanceof URL ? worker : undefined;
  try {
    if (/[./]/.test(worker)) return absolute(worker);
  } catch {
    // no address either
  }
  return usage('worker', "true, false or the address of the worker's script", worker);
}

/** @type {Start} */
async function connectToThread(handlers, onCrash, script) {
  const { Worker: NodeWorker } = await nodeModule('node:worker_threads');
  const options = { execArgv: [] }; // --input-type and the like are for the program alone
  const worker = script
    ? new NodeWorker(script, options)
    : new NodeWorker(new URL('../worker.js', import.meta.url), options);
  let ended = false;
  const peer = new Peer(
    (message, transfer) => worker.postMessage(message, transfer),
    handlers,
    (busy) => (busy ? worker.ref() : worker.unref()),
  );
  worker.on('message', (/** @type {any} */ message) => peer.receive(message));
  worker.on(
    'error',
    (/** @type {Error} */ cause) =>
      !ended && onCrash(crash(`the engine's worker thread failed (${messageOf(cause)})`, cause)),
  );
  worker.on(
    'exit',
    (/** @type {number} */ code) =>
      !ended && onCrash(crash(`the engine's worker thread ended with code ${code}`)),
  );
  return {
    peer,
    inWorker: true,
    end: () => {
      ended = true;
      worker.terminate();
    },
  };
}

/** @type {Start} */
function connectToWorker(handlers, onCrash, script) {
  return new Promise((resolve, reject) => {
    // Bundlers look for this very expression.
    const worker = script
      ? new Worker(startable(script), { type: 'module' })
      : new Worker(new URL('../worker.js', import.meta.url), { type: 'module' });
    const watch = new AbortController();
    let ended = false;
    /** Before it says hello nobody has it. @type {(error: ExitLMError) => void} */
    let tell = reject;
    const end = () => {
      ended = true;
      watch.abort();
      worker.terminate();
    };
    const died = (/** @type {string} */ why, /** @type {unknown} */ cause) => {
      if (ended) return;
      const error = crash(why, cause);
      end();
      tell(error);
    };
    const peer = new Peer((message, transfer) => worker.postMessage(message, transfer), {
      ...handlers,
      hello: ({ lock }) => {
        tell = onCrash;
        resolve({ peer, inWorker: true, end });
        if (lock)
          watchOver(lock, watch.signal, () =>
            died("the engine's worker was ended from outside", undefined),
          );
      },
    });
    worker.onmessage = ({ data }) => peer.receive(data);
    worker.onmessageerror = () =>
      died('a message to or from the engine could not be read', undefined);
    worker.onerror = (event) => {
      event.preventDefault?.();
      died(
        event.message
          ? `the engine's worker failed (${event.message})`
          : "the engine's worker could not be started",
        event.error,
      );
    };
  });
}

/**
 * A killed worker says nothing, but the browser takes its locks away: who waits for one learns of
 * it.
 * @param {string} lock that the worker holds
 * @param {AbortSignal} signal
 * @param {() => void} onDeath
 */
function watchOver(lock, signal, onDeath) {
  if (!isPage) return;
  navigator.locks.request(lock, { signal }, async () => onDeath()).catch(() => {});
}

/** @param {string} why @param {unknown} [cause] */
function crash(why, cause) {
  return new ExitLMError('WORKER', `${why}; load the model again`, { cause });
}
