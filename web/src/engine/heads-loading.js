/**
 * Exit heads: fetched, checked, kept, given to the engine. Their K/V maps, most of their bytes,
 * come only where somebody needs them.
 *
 * @typedef {import('./engine.js').Engine} Engine
 * @typedef {import('../cache/store.js').ModelStore} ModelStore
 * @typedef {import('../cache/pieces.js').Pieces} Pieces
 * @typedef {import('../link/protocol.js').LoadSpec} LoadSpec
 * @typedef {import('../loading/resolve.js').Heads} Heads
 * @typedef {import('../link/sources.js').Source} Source
 *
 * @typedef {object} Means
 * @property {Engine} engine
 * @property {Pieces} pieces
 * @property {AbortSignal} signal
 * @property {(key: string, sha256: string | null) => Promise<ModelStore | null>} openCopy
 * @property {(keeping: Promise<unknown>) => void} keeping what nobody has to wait for, but the end
 */
import { mapsKey } from '../cache/cache.js';
import { inFile } from '../link/errors.js';
import { downloadAll } from '../loading/download.js';
import { downloadMaps, downloadWithoutMaps, withoutMaps } from '../loading/heads.js';
import { verifier } from '../loading/verify.js';

/**
 * @param {Means} means
 * @param {Heads} heads
 * @param {boolean | null} asked for K/V maps; null: where they are here already
 * @returns {Promise<number>} the heads in the engine; 0 where there are none
 */
export async function loadHeads(means, { source, sha256, core, optional, key }, asked) {
  const { engine, signal } = means;
  const kvMaps = asked ?? source.url === null;
  const always = asked === false;
  const fetchIt = async () => {
    if (!kvMaps && !sha256) return downloadWithoutMaps(source, always, signal);
    const bytes = await fetchChecked(means, !kvMaps && core ? core : { source, sha256 });
    return kvMaps ? bytes : withoutMaps(bytes, always);
  };
  const file = kvMaps ? 0 : 1; // of the copy: all of it, or what there is without the maps
  const bytes = await keptOrFetched(means, key, file, sha256, fetchIt).catch((error) => {
    if (optional && error.code !== 'CHECKSUM' && !signal.aborted) return null;
    throw error;
  });
  // Many servers answer any address with their front page: what was not asked for by name is taken
  // only where it is a GGUF file.
  if (!bytes || (optional && String.fromCharCode(...bytes.subarray(0, 4)) !== 'GGUF')) return 0;
  return inFile(source.name, () =>
    engine.withBytes(bytes, (memory, n) => engine.make('heads_create', memory, n)),
  );
}

/**
 * Adds the K/V maps to heads without them.
 * @param {Means} means
 * @param {Heads} heads
 * @param {number} pointer to the heads in the engine
 */
export async function loadMaps(means, { source, sha256, key }, pointer) {
  const { engine, signal } = means;
  const fetchIt = () =>
    sha256 ? fetchChecked(means, { source, sha256 }) : downloadMaps(source, signal);
  const bytes = await keptOrFetched(means, key && mapsKey(key), 0, sha256, fetchIt);
  inFile(source.name, () =>
    engine.withBytes(bytes, (memory, n) => engine.run('heads_add_maps', pointer, memory, n)),
  );
}

/** @param {Means} means @param {{ source: Source, sha256: string | null }} wanted */
async function fetchChecked({ engine, signal }, { source, sha256 }) {
  const bytes = await downloadAll(source, { signal });
  const sum = verifier(engine, sha256, bytes.length);
  sum?.update(bytes);
  await sum?.finish(source.name);
  return bytes;
}

/**
 * What an earlier visit left, or else what is fetched now, and kept.
 * @param {Means} means
 * @param {string | null} key
 * @param {number} file of the copy
 * @param {string | null} sha256
 * @param {() => Promise<Uint8Array>} fetchIt
 * @returns {Promise<Uint8Array>}
 */
async function keptOrFetched({ pieces, openCopy, keeping }, key, file, sha256, fetchIt) {
  const open = async () => {
    const store = key ? await openCopy(key, sha256) : null;
    store?.useChecksum((bytes) => pieces.sumOf(bytes));
    return store;
  };
  let store = await open();
  try {
    const kept = store?.complete ? await store.readAll(file) : null;
    if (kept) {
      await store?.close();
      return kept;
    }
    if (store?.complete) {
      await store.remove();
      store = await open();
    }
    const bytes = await fetchIt();
    if (store) keeping(keep(store, file, bytes));
    return bytes;
  } catch (error) {
    await store?.remove(); // nothing worth continuing
    throw error;
  }
}

/** @param {ModelStore} store @param {number} file @param {Uint8Array} bytes all of it */
async function keep(store, file, bytes) {
  await store.write(file, 0, bytes);
  await store.finish([bytes.length]);
  await store.close();
}
