/**
 * The journal of a copy, a line for each change. It is only appended to, and a line that was cut
 * off counts as not there. `cache.js` begins it and `store.js` writes it, to where `opfs.js` or
 * `key-value.js` keep it. Its lines: `url` (whose copy), `tag` (a file's validator), `pieces` (what
 * has been written; bytes that no such line tells of are fetched again), `broken` (a piece that is no
 * longer counted), `whole` (a file cut into pieces anew), `done` (all is there); `at` says when it
 * was used.
 *
 * @typedef {{ offset: number, bytes: number, hash: string }} Piece
 *
 * @typedef {object} JournalState
 * @property {string} url the key
 * @property {string} of the model's key, where these are its heads
 * @property {string | null} sha256 that was promised when the copy was begun
 * @property {Map<number, Piece[]>} pieces of each file
 * @property {Map<number, string>} validators of each file
 * @property {number | null} doneBytes all is there, so many bytes
 * @property {number} savedAt
 * @property {number} usedAt to within a day
 */

/** @param {string} text @returns {string} a short checksum */
export function mark(text) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, '0');
}

/** @param {unknown} record @returns {string} a line of the journal */
export function journalLine(record) {
  const text = JSON.stringify(record);
  return `${mark(text)} ${text}\n`;
}

/** @param {string} text @returns {JournalState} */
export function parseJournal(text) {
  /** @type {JournalState} */
  const state = {
    url: '',
    of: '',
    sha256: null,
    pieces: new Map(),
    validators: new Map(),
    doneBytes: null,
    savedAt: 0,
    usedAt: 0,
  };
  for (const line of text.split('\n')) {
    const record = line.slice(9);
    if (line.length < 10 || mark(record) !== line.slice(0, 8)) continue;
    const r = JSON.parse(record);
    if (r.at !== undefined) state.usedAt = r.at;
    if (r.url !== undefined)
      Object.assign(state, { url: r.url, of: r.of ?? '', sha256: r.sha256, savedAt: r.at });
    else if (r.tag !== undefined) state.validators.set(r.file, r.tag);
    else if (r.done !== undefined) Object.assign(state, { doneBytes: r.done, savedAt: r.at });
    else if (r.whole !== undefined)
      state.pieces.set(
        r.whole,
        r.cut.map((/** @type {[number, number, string]} */ [offset, bytes, hash]) => ({
          offset,
          bytes,
          hash,
        })),
      );
    else if (r.broken !== undefined) {
      state.doneBytes = null;
      const list = state.pieces.get(r.broken);
      if (list)
        state.pieces.set(
          r.broken,
          list.filter(({ offset }) => offset !== r.offset),
        );
    } else if (r.pieces !== undefined) {
      for (const [file, offset, bytes, hash] of r.pieces) {
        const list = state.pieces.get(file) ?? [];
        list.push({ offset, bytes, hash });
        state.pieces.set(file, list);
      }
    }
  }
  return state;
}

/** @param {JournalState} state @returns {number} */
export function bytesKept({ pieces }) {
  let sum = 0;
  for (const list of pieces.values()) for (const { bytes } of list) sum += bytes;
  return sum;
}
