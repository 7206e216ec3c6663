/** Listening to signals that may not be there, and no longer than needed. */
import { usage } from './options.js';

/** @param {unknown} value @returns {value is AbortSignal} of whichever realm */
export const isSignal = (value) =>
  typeof (/** @type {any} */ (value)?.addEventListener) === 'function' &&
  'aborted' in Object(value);

/**
 * What a caller gave as the option `signal`, which may have been aborted already.
 * @param {AbortSignal | null | undefined} signal
 */
export function checkSignal(signal) {
  if (signal === undefined || signal === null) return;
  if (!isSignal(signal)) usage('signal', 'an AbortSignal', signal);
  signal.throwIfAborted();
}

/**
 * @param {AbortSignal | null | undefined} signal
 * @param {(reason: any) => void} run at its abort; at once where that has been
 * @returns {() => void} listens no more
 */
export function onAbort(signal, run) {
  if (!signal) return () => {};
  const listener = () => run(signal.reason);
  if (signal.aborted) listener();
  else signal.addEventListener('abort', listener, { once: true });
  return () => signal.removeEventListener('abort', listener);
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal | null | undefined} signal
 * @param {(late: T) => void} [tidy] what comes of the promise after an abort
 * @returns {Promise<T>} rejects with the signal's reason at once
 */
export function orAbort(promise, signal, tidy = () => {}) {
  return new Promise((resolve, reject) => {
    const unlisten = onAbort(signal, (reason) => {
      reject(reason);
      promise.then(tidy, () => {});
    });
    promise.then(resolve, reject).finally(unlisten);
  });
}

/**
 * A controller that any of the signals aborts too.
 * @param {...(AbortSignal | null | undefined)} signals
 * @returns {AbortController & { release: () => void }} `release`: listens to them no more
 */
export function linked(...signals) {
  const own = new AbortController();
  const unlisten = signals.map((signal) => onAbort(signal, (reason) => own.abort(reason)));
  return Object.assign(own, { release: () => unlisten.forEach((stop) => stop()) });
}
