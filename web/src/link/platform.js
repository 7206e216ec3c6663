/**
 * What differs between browsers, Node, Deno, Bun and workerd, in one place.
 */

const scope = /** @type {any} */ (globalThis);

/** A Worker of Cloudflare. */
export const isWorkerd = scope.navigator?.userAgent === 'Cloudflare-Workers';
/** Node and whatever offers its modules (Deno, Bun); a page of Electron's is a page. */
export const hasNodeModules =
  typeof scope.process?.versions?.node === 'string' &&
  scope.process.type !== 'renderer' &&
  scope.process.type !== 'worker' &&
  !isWorkerd;
/** Node itself: no global Worker, so its own worker threads are used. */
export const isNode =
  hasNodeModules && typeof scope.Deno === 'undefined' && typeof scope.Bun === 'undefined';
/** A page, where `document` exists. */
export const isPage = typeof scope.document === 'object';

/**
 * One of Node's modules. It is no import: bundlers for pages must not see the name, and a Worker's
 * take no import of a name that is computed.
 * @param {string} name with its prefix: 'node:fs/promises'
 * @returns {Promise<any>}
 */
export const nodeModule = async (name) => scope.process.getBuiltinModule(name);

/** Threads of the machine; 1 where it does not say. */
export async function cores() {
  const n =
    scope.navigator?.hardwareConcurrency ??
    (isNode ? (await nodeModule('node:os')).availableParallelism() : 1);
  return typeof n === 'number' && n >= 1 ? Math.floor(n) : 1;
}

/**
 * Whether the device says that its memory is short. iOS does not, and ends a page that takes much;
 * an iPad calls itself a Macintosh.
 */
export function memoryIsShort() {
  const { deviceMemory = 8, userAgent = '', maxTouchPoints = 0 } = scope.navigator ?? {};
  return (
    deviceMemory <= 4 ||
    /iPhone|iPad|iPod/.test(userAgent) ||
    (/Macintosh/.test(userAgent) && maxTouchPoints > 1)
  );
}

/** @returns {number} milliseconds from any start */
export const now =
  typeof scope.performance?.now === 'function' ? () => scope.performance.now() : () => Date.now();

/**
 * Whether time passes while code runs: a deployed Worker freezes its clock between I/O.
 * @returns {boolean}
 */
export function clockRuns() {
  const start = now();
  for (let i = 0; i < 50_000; i++) if (now() !== start) return true;
  return false;
}

/** @type {MessageChannel | undefined} */
let channel;
/** @type {(() => void)[]} */
const waiting = [];

/**
 * Lets the event loop turn once: messages, network and timers are handled, nothing is delayed
 * (a timer of 0 ms takes 4 ms in a browser).
 * @returns {Promise<void>}
 */
export function turn() {
  if (typeof scope.setImmediate === 'function' && hasNodeModules)
    return new Promise((resolve) => scope.setImmediate(resolve));
  // In a Worker of Cloudflare a channel belongs to the request that made it; timers do not.
  if (typeof MessageChannel !== 'function' || isWorkerd)
    return new Promise((resolve) => setTimeout(resolve, 0));
  if (!channel) {
    channel = new MessageChannel();
    channel.port1.onmessage = () => waiting.shift()?.();
  }
  const { port2 } = channel;
  return new Promise((resolve) => {
    waiting.push(resolve);
    port2.postMessage(0);
  });
}

/**
 * @template T
 * @returns {{ promise: Promise<T>, resolve: (value: T | PromiseLike<T>) => void, reject: (reason:
 *   unknown) => void }}
 */
export function deferred() {
  /** @type {any} */
  const d = {};
  d.promise = new Promise((resolve, reject) => Object.assign(d, { resolve, reject }));
  return d;
}

/**
 * Gives a buffer's memory back at once, where the platform can: what a garbage collector will do
 * some time counts until then, and a Worker has 128 MB.
 * @param {Uint8Array} bytes nobody reads them any more, nor anything else in their buffer
 */
export function release(bytes) {
  /** @type {any} */ (bytes.buffer).transfer?.(0);
}

/** @returns {string} letters and digits that are new */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) =>
    b.toString(36).padStart(2, '0'),
  ).join('');
}
