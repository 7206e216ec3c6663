/**
 * A model's header, without its weights: by ranges where the source has them.
 *
 * @typedef {import('./engine.js').Engine} Engine
 */
import { download } from '../loading/download.js';

/** Asked for first; then four times as much. The largest vocabularies need 12 MB. */
const FIRST_BYTES = 256 * 1024;

/** What a loader reads: parameters of `loader_create`. */
export const ONLY_HEADER = 1;
export const ONLY_VOCABULARY = 2;

/**
 * Pushes headers until the loader has what it wants.
 * @param {Engine} engine
 * @param {number} loader
 * @param {Pick<import('../loading/resolve.js').Resolved, 'sources' | 'manifest'>} resolved
 * @param {AbortSignal} signal
 * @param {(bytes: number | null) => void} [onTotal] bytes of all files, as far as they are known; null:
 *   nobody says
 */
export async function readHeaders(engine, loader, { sources, manifest }, signal, onTotal) {
  const state = () => stateOf(engine, loader);
  const enough = (/** @type {number} */ part) => {
    const { headerReady, part: at, headerBytes } = state();
    return headerReady || (!manifest && at === part && headerBytes > 0);
  };
  /** @type {number | null} */
  let all = manifest?.bytes ?? 0;
  const sum = (/** @type {number | null} */ total) =>
    all === null || total === null ? null : all + (manifest ? 0 : total);
  for (const [i, source] of sources.entries()) {
    if (state().headerReady) return;
    if (!manifest && i > 0) engine.run('loader_seek', loader, i, 0);
    /** @type {number | null} */
    let total = null;
    let at = 0;
    for (let to = FIRST_BYTES; !enough(i) && (total === null || at < total); to *= 4) {
      const before = at;
      for await (const { bytes } of download(source, at, to, {
        signal,
        tries: 3,
        more: true,
        onOpen: (opened) => {
          total = opened.total;
          onTotal?.(sum(total));
        },
      })) {
        at += bytes.length;
        engine.staged(bytes, (memory, n) => {
          if (!enough(i)) engine.run('loader_push', loader, memory, n);
        });
        if (enough(i)) break;
      }
      if (at < to && (at === before || !enough(i))) break; // that was all
    }
    all = sum(total);
  }
}

/** @param {Engine} engine @param {number} loader */
export function stateOf(engine, loader) {
  return engine.with(engine.sizeOf('load_state'), (struct) => {
    engine.call('loader_state', loader, struct);
    return engine.read('load_state', struct);
  });
}

/** A text of the header, as 'general.name'. @param {Engine} engine @param {number} loader @param {string} key */
export function headerText(engine, loader, key) {
  return engine.withText(key, (memory) =>
    engine.with(4, (n) => {
      const text = engine.call('loader_text', loader, memory, n);
      return engine.text(text, engine.view.getUint32(n, true));
    }),
  );
}
