/**
 * Models in the origin private file system: a folder for each, with `journal`, `note` and the bytes
 * of file 0, 1, … as they are. Writing needs synchronous handles, which only workers have.
 *
 * @typedef {import('./store.js').Slot} Slot
 */
const FOLDER = 'exitlm';
const encoder = new TextEncoder();

/**
 * @param {boolean} create
 * @returns {Promise<FileSystemDirectoryHandle | null>}
 */
async function folder(create) {
  try {
    const root = await navigator.storage.getDirectory();
    return await root.getDirectoryHandle(FOLDER, { create });
  } catch {
    return null;
  }
}

/** Whether models can be kept here. */
export async function opfsWorks() {
  const scope = /** @type {any} */ (globalThis);
  if (typeof scope.FileSystemFileHandle?.prototype.createSyncAccessHandle !== 'function')
    return false;
  return (await folder(true)) !== null;
}

/**
 * @param {FileSystemDirectoryHandle} dir
 * @param {string} name
 * @returns {Promise<string | null>}
 */
async function readText(dir, name) {
  try {
    return await (await (await dir.getFileHandle(name)).getFile()).text();
  } catch {
    return null;
  }
}

/**
 * Where there is no more room, less is written than was given.
 * @param {any} handle @param {Uint8Array} bytes @param {number} at
 */
function writeAll(handle, bytes, at) {
  for (let done = 0; done < bytes.length;) {
    const n = handle.write(bytes.subarray(done), { at: at + done });
    if (!(n > 0)) throw new DOMException('nothing more can be written', 'QuotaExceededError');
    done += n;
  }
}

/**
 * @param {string} id
 * @param {boolean} writable
 * @param {() => void} release called when writing ends
 * @returns {Promise<Slot | null>}
 */
export async function opfsSlot(id, writable, release) {
  const all = await folder(true);
  if (!all) return null;
  const dir = await all.getDirectoryHandle(id, { create: writable }).catch(() => null);
  if (!dir) return null;
  /** @type {Map<string, Promise<any>>} */
  const opening = new Map();
  /** @type {Map<string, any>} */
  const handles = new Map();
  /** Written since the journal was. @type {Set<any>} */
  const dirty = new Set();
  const open = async (/** @type {string} */ name, /** @type {boolean} */ create) => {
    const file = /** @type {any} */ (await dir.getFileHandle(name, { create }));
    const handle = await file.createSyncAccessHandle();
    handles.set(name, handle);
    return handle;
  };
  const handle = (/** @type {string} */ name, create = true) => {
    let found = opening.get(name);
    if (!found) {
      opening.set(name, (found = open(name, create)));
      found.catch(() => opening.delete(name));
    }
    return found;
  };
  /** @type {Map<number, Promise<File>>} */
  const files = new Map();
  const closeHandles = () => {
    for (const it of handles.values()) {
      try {
        it.close();
      } catch {
        // it is closed
      }
    }
    handles.clear();
    opening.clear();
    dirty.clear();
  };
  return {
    kind: 'opfs',
    flat: true,
    writable,
    journal: (await readText(dir, 'journal')) ?? '',
    async append(text) {
      for (const it of dirty) it.flush();
      dirty.clear();
      const journal = await handle('journal');
      writeAll(journal, encoder.encode(text), journal.getSize());
      journal.flush();
    },
    async write(file, offset, bytes) {
      const own = await handle(`file-${file}`);
      dirty.add(own);
      writeAll(own, bytes, offset);
    },
    async read(file, offset, n) {
      // Who may write reads through a handle: the bytes come at once and are copied once. Others
      // would shut the writer out.
      const own = writable ? await handle(`file-${file}`, false).catch(() => null) : null;
      if (own) {
        const bytes = new Uint8Array(n);
        return own.read(bytes, { at: offset }) === n ? bytes : null;
      }
      if (!files.has(file))
        files.set(
          file,
          dir.getFileHandle(`file-${file}`).then((h) => h.getFile()),
        );
      const blob = await /** @type {Promise<File>} */ (files.get(file));
      return new Uint8Array(await blob.slice(offset, offset + n).arrayBuffer());
    },
    open: async (file) => writable && handle(`file-${file}`, false),
    reader(file) {
      const own = writable ? handles.get(`file-${file}`) : null;
      return own ? (offset, into) => own.read(into, { at: offset }) === into.length : null;
    },
    readNote: () => readText(dir, 'note'),
    async writeNote(text) {
      const note = await handle('note');
      note.truncate(0);
      writeAll(note, encoder.encode(text), 0);
      note.flush();
    },
    async close() {
      closeHandles();
      release();
    },
    async remove() {
      closeHandles();
      await all.removeEntry(id, { recursive: true }).catch(() => {});
      release();
    },
  };
}

/** @returns {Promise<{ id: string, journal: string }[]>} */
export async function opfsList() {
  const all = await folder(false);
  if (!all) return [];
  const out = [];
  for await (const [id, entry] of /** @type {any} */ (all).entries()) {
    if (entry.kind !== 'directory') continue;
    const journal = await readText(entry, 'journal');
    if (journal !== null) out.push({ id, journal });
  }
  return out;
}

/** @param {string} id @returns {Promise<boolean>} */
export async function opfsRemove(id) {
  const all = await folder(false);
  if (!all) return false;
  try {
    await all.removeEntry(id, { recursive: true });
    return true;
  } catch {
    return false;
  }
}
