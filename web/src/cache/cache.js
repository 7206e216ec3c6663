/**
 * Where models are kept between visits: the origin private file system, else the Cache API, else
 * nowhere; or an object of the caller's. One writer a model (Web Locks); other tabs read what is
 * there, or load without the cache.
 *
 * @typedef {import('../link/protocol.js').CacheKind} CacheKind
 * @typedef {import('../link/protocol.js').CallerPeer} Peer
 * @typedef {import('./store.js').Slot} Slot
 * @typedef {import('../link/types.js').CachedModel} CachedModel
 */
import { absolute } from '../link/address.js';
import { messageOf } from '../link/errors.js';
import { bytesKept, journalLine, mark, parseJournal } from './journal.js';
import { cacheApi, cacheApiList, cacheApiRemove, keyValueSlot } from './key-value.js';
import { opfsList, opfsRemove, opfsSlot, opfsWorks } from './opfs.js';
import { digest, hex } from './sha256.js';
import { ModelStore } from './store.js';

const MAPS = ' kv-maps'; // no address has a space
const MOST_IDLE_MS = 90 * 24 * 3600e3;

/**
 * The key of the K/V maps that were fetched after their heads. @param {string} url of the heads
 * @returns {string}
 */
export const mapsKey = (url) => `${plain(url)}${MAPS}`;

/** The key of exit heads, where the model has one of the caller's. @param {string} key */
export const headsKey = (key) => `${plain(key)} heads`;

/** Without what no server sees of it. @param {string} address */
const plain = (address) => address.replace(/#.*$/, '');

/** @param {string} key @returns {Promise<string>} a name for folders */
async function idOf(key) {
  const bytes = new TextEncoder().encode(plain(key));
  const subtle = globalThis.crypto?.subtle;
  if (subtle) return (await digest(subtle, bytes)).slice(0, 32);
  const id = `u${hex(bytes)}`; // an insecure page, where only a cache of the caller's can be
  return id.length > 200 ? id.slice(0, 192) + mark(id) : id;
}

/**
 * The right to write, for as long as it is not released.
 * @param {string} id
 * @param {boolean} [ifAvailable] false: waits for it
 * @returns {Promise<(() => void) | null>} null: another tab has it
 */
async function lock(id, ifAvailable = true) {
  const locks = globalThis.navigator?.locks;
  if (!locks) return () => {};
  return new Promise((resolve, reject) => {
    locks
      .request(`exitlm-cache-${id}`, { ifAvailable }, (granted) => {
        if (!granted) return resolve(null);
        return new Promise((release) => resolve(() => release(undefined)));
      })
      .catch(reject);
  });
}

/**
 * @param {CacheKind} kind
 * @param {string} id
 * @param {Peer} peer
 * @returns {Promise<Slot | null>}
 */
async function openSlot(kind, id, peer) {
  if (kind === 'none') return null;
  const release = await lock(id);
  const writable = release !== null;
  const done = release ?? (() => {});
  try {
    /** @type {Slot | null} */
    let slot = null;
    if (kind === 'remote') {
      slot = await keyValueSlot(
        {
          kind: 'own',
          get: (key) => peer.call('cacheGet', { key }),
          put: (key, bytes) => peer.call('cachePut', { key, bytes }),
          delete: (key) => peer.call('cacheDelete', { key }),
        },
        id,
        writable,
        done,
      );
    } else if (kind !== 'cache-api' && (await opfsWorks()))
      slot = await opfsSlot(id, writable, done);
    else if (kind !== 'opfs') {
      const store = await cacheApi();
      slot = store && (await keyValueSlot(store, id, writable, done));
    }
    if (!slot) done();
    return slot;
  } catch {
    done();
    return null; // no cache is no reason not to load
  }
}

/**
 * What is kept of a model. A copy of another version than the one expected is dropped.
 * @param {CacheKind} kind
 * @param {string} key its address
 * @param {Peer} peer for a cache of the caller's
 * @param {object} [options]
 * @param {string | null} [options.sha256] promised
 * @param {string | null} [options.of] of heads: their model's key
 * @param {number[]} [options.sizes] of all its files, where they are many
 * @param {(message: string) => void} [options.warn]
 * @returns {Promise<ModelStore | null>} null: nothing is kept here
 */
export async function openStore(
  kind,
  key,
  peer,
  { sha256 = null, of = null, sizes, warn = () => {} } = {},
) {
  const id = await idOf(key);
  let slot = await openSlot(kind, id, peer);
  let state = slot && parseJournal(slot.journal);
  const another =
    state?.url && (plain(state.url) !== plain(key) || (sha256 !== null && state.sha256 !== sha256));
  if (slot && another) {
    if (!slot.writable) return null;
    await slot.remove().catch(() => {});
    slot = await openSlot(kind, id, peer);
    state = slot && parseJournal(slot.journal);
  }
  if (!slot || !state) return null;
  const others =
    kind === 'remote' ? undefined : (/** @type {number} */ n) => makeRoom(id, n).catch(() => 0);
  if (!state.url) {
    if (!slot.writable) return null;
    await others?.(0);
    try {
      await slot.append(journalLine({ url: key, of, sha256, at: Date.now() }));
    } catch (error) {
      warn(`the model cannot be kept on this device (${messageOf(error)})`);
      await slot.close().catch(() => {});
      return null;
    }
  }
  return new ModelStore(sizes && slot.flat ? joined(slot, sizes) : slot, state, warn, others);
}

/**
 * All files in one: a browser takes longer to open a file than to write a megabyte.
 * @param {Slot} slot @param {number[]} sizes @returns {Slot}
 */
function joined(slot, sizes) {
  let bytes = 0;
  const starts = sizes.map((n) => (bytes += n) - n);
  return {
    ...slot,
    write: (file, offset, it) => slot.write(0, starts[file] + offset, it),
    read: (file, offset, n) => slot.read(0, starts[file] + offset, n),
    open: async () => slot.open?.(0),
    reader(file) {
      const read = slot.reader?.(0);
      return read ? (offset, into) => read(starts[file] + offset, into) : null;
    },
  };
}

const kept = async () => [...(await opfsList()), ...(await cacheApiList())];

/**
 * Drops copies of other models, those first that were not used for longest, and all that were not
 * used for months.
 * @param {string} own
 * @param {number} bytes wanted
 * @returns {Promise<number>} that were freed
 */
async function makeRoom(own, bytes) {
  const found = (await kept()).map(({ id, journal }) => ({ id, ...parseJournal(journal) }));
  let freed = 0;
  for (const copy of found.sort((a, b) => a.usedAt - b.usedAt)) {
    if (copy.id === own || (freed >= bytes && Date.now() - copy.usedAt < MOST_IDLE_MS)) continue;
    const release = await lock(copy.id);
    if (!release) continue; // in use
    try {
      if ((await opfsRemove(copy.id)) || (await cacheApiRemove(copy.id))) freed += bytesKept(copy);
    } finally {
      release();
    }
  }
  return freed;
}

/**
 * Small data beside a model: its manifest.
 * @param {CacheKind} kind
 * @param {string} key
 * @param {Peer} peer
 * @returns {Promise<unknown>} undefined where there is none
 */
export async function readNote(kind, key, peer) {
  const slot = await openSlot(kind, await idOf(key), peer);
  const note = await slot?.readNote().catch(() => null);
  await slot?.close();
  try {
    return note ? JSON.parse(note) : undefined;
  } catch {
    return undefined;
  }
}

/** Models that earlier visits left on this device. */
export const modelCache = {
  /**
   * @returns {Promise<CachedModel[]>} exit heads count as files of their own, and so do K/V maps
   *   that came after them
   */
  async list() {
    return (await kept())
      .map(({ journal }) => parseJournal(journal))
      .filter(({ url }) => url)
      .map((state) => ({
        url: state.url.replace(/ .*/, ''),
        bytes: bytesKept(state),
        complete: state.doneBytes !== null,
        savedAt: new Date(state.savedAt),
      }));
  },

  /**
   * Removes what is kept of a model, its exit heads included. Waits for a tab that is loading it.
   * @param {string | URL} url
   * @returns {Promise<boolean>} whether there was anything
   */
  async delete(url) {
    const key = plain(absolute(url).href);
    const ids = new Set([await idOf(key)]);
    for (const { id, journal } of await kept()) {
      const state = parseJournal(journal);
      if ([state.of, state.url.replace(/ .*/, '')].some((its) => plain(its) === key)) ids.add(id);
    }
    let any = false;
    for (const id of ids) {
      const release = await lock(id, false);
      try {
        const removed = [await opfsRemove(id), await cacheApiRemove(id)];
        any ||= removed.includes(true);
      } finally {
        release?.();
      }
    }
    return any;
  },

  /** @returns {Promise<number>} bytes that all of them take */
  async size() {
    return (await this.list()).reduce((sum, { bytes }) => sum + bytes, 0);
  },
};
