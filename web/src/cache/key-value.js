/**
 * Models in a store of keys and values: the Cache API, or an object of the caller's. A piece is a
 * value; so is the journal.
 *
 * @typedef {import('./store.js').Slot} Slot
 *
 * @typedef {object} KeyValue
 * @property {string} kind
 * @property {(key: string) => Promise<Uint8Array | undefined | null>} get
 * @property {(key: string, bytes: Uint8Array) => Promise<unknown>} put
 * @property {(key: string) => Promise<unknown>} delete
 */
import { parseJournal } from './journal.js';

const CACHE = 'exitlm-models';
const ORIGIN = 'https://exitlm.invalid/'; // the Cache API wants addresses; this one is nobody's
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** @returns {Promise<KeyValue | null>} */
export async function cacheApi() {
  if (typeof caches !== 'object') return null;
  /** @type {Cache} */
  let cache;
  try {
    cache = await caches.open(CACHE);
  } catch {
    return null; // an insecure page, or storage is switched off
  }
  return {
    kind: 'cache-api',
    async get(key) {
      const response = await cache.match(ORIGIN + key);
      return response && new Uint8Array(await response.arrayBuffer());
    },
    put: (key, bytes) =>
      cache.put(ORIGIN + key, new Response(/** @type {Uint8Array<ArrayBuffer>} */ (bytes))),
    delete: (key) => cache.delete(ORIGIN + key),
  };
}

/**
 * @param {KeyValue} values
 * @param {string} id
 * @param {boolean} writable
 * @param {() => void} release
 * @returns {Promise<Slot>}
 */
export async function keyValueSlot(values, id, writable, release) {
  const text = async (/** @type {string} */ name) => {
    const bytes = await values.get(`${id}/${name}`);
    return bytes ? decoder.decode(bytes) : null;
  };
  let journal = (await text('journal')) ?? '';
  return {
    kind: values.kind,
    flat: false,
    writable,
    journal,
    async append(line) {
      journal += line;
      await values.put(`${id}/journal`, encoder.encode(journal));
    },
    write: async (file, offset, bytes) => void (await values.put(`${id}/${file}/${offset}`, bytes)),
    read: async (file, offset) => (await values.get(`${id}/${file}/${offset}`)) ?? null,
    readNote: () => text('note'),
    writeNote: async (note) => void (await values.put(`${id}/note`, encoder.encode(note))),
    close: async () => release(),
    async remove() {
      await removeKeys(values, id, journal).finally(release);
    },
  };
}

/**
 * The journal goes first: what is left without it is not there.
 * @param {KeyValue} values
 * @param {string} id
 * @param {string} journal
 */
async function removeKeys(values, id, journal) {
  await values.delete(`${id}/journal`);
  await values.delete(`${id}/note`);
  for (const [file, pieces] of parseJournal(journal).pieces) {
    for (const { offset } of pieces) await values.delete(`${id}/${file}/${offset}`);
  }
}

/** @returns {Promise<{ id: string, journal: string }[]>} */
export async function cacheApiList() {
  const values = await cacheApi();
  if (!values || !(await caches.has(CACHE))) return [];
  const cache = await caches.open(CACHE);
  const out = [];
  for (const { url } of await cache.keys()) {
    const id = /^https:\/\/exitlm\.invalid\/([^/]+)\/journal$/.exec(url)?.[1];
    const bytes = id && (await values.get(`${id}/journal`));
    if (id && bytes) out.push({ id, journal: decoder.decode(bytes) });
  }
  return out;
}

/** @param {string} id @returns {Promise<boolean>} */
export async function cacheApiRemove(id) {
  const values = await cacheApi();
  const journal = await values?.get(`${id}/journal`);
  if (!values || !journal) return false;
  await removeKeys(values, id, decoder.decode(journal));
  return true;
}
