/**
 * What is kept of one model, whatever the place: pieces of its files, each with a checksum, told by
 * a journal that is only appended to. A piece is written before the journal tells of it, and a line
 * of the journal that was cut off counts as not there: so a tab that is closed at any moment leaves
 * a copy that can be continued.
 *
 * @typedef {object} Slot a place for one model
 * @property {string} kind
 * @property {boolean} flat a file's bytes lie there as they are: any stretch of them can be read,
 *   and what was given to `write` is the giver's again afterwards
 * @property {boolean} writable false: somebody else writes it, or it is complete
 * @property {string} journal its text
 * @property {(text: string) => Promise<void>} append to the journal, after what was written before
 *   is safe
 * @property {(file: number, offset: number, bytes: Uint8Array) => Promise<void>} write
 * @property {(file: number, offset: number, n: number) => Promise<Uint8Array | null>} read a piece
 *   that was written
 * @property {(file: number) => Promise<unknown>} [open] so that `reader` has something to give
 * @property {(file: number) => ((offset: number, into: Uint8Array) => boolean) | null} [reader]
 *   reads at once; null: the file is not open. False: not all is there
 * @property {() => Promise<string | null>} readNote
 * @property {(text: string) => Promise<void>} writeNote
 * @property {() => Promise<void>} close
 * @property {() => Promise<void>} remove
 *
 * @typedef {import('./journal.js').Piece} Piece
 * @typedef {import('./journal.js').JournalState} JournalState
 */
import { megabytes, messageOf } from '../link/errors.js';
import { now } from '../link/platform.js';
import { bytesKept, journalLine } from './journal.js';
import { PIECE_BYTES } from './pieces.js';
import { Ranges } from './ranges.js';
import { digest } from './sha256.js';

/** Room for the first bytes of a piece: many are a few rows. */
const FIRST_BYTES = 32 * 1024;
/** Pieces that wait to be written; more, and the download waits. */
const MOST_WAITING = 4;
/** The journal is told of pieces so often at most: what a tab that ends at once may lose. */
const TELL_MS = 1000;
/** Pieces of a complete copy that are read and checked ahead of the one that is asked for. */
const READ_AHEAD = 4;
const DAY_MS = 24 * 3600e3;

/** @param {Uint8Array} bytes @returns {Promise<string>} */
async function pieceHash(bytes) {
  const subtle = globalThis.crypto?.subtle;
  if (subtle) return (await digest(subtle, bytes)).slice(0, 32);
  let hash = 0x811c9dc5; // an insecure page: damage is all that can be found here
  for (let i = 0; i < bytes.length; i++) hash = Math.imul(hash ^ bytes[i], 0x01000193);
  return (hash >>> 0).toString(16);
}

/**
 * @typedef {import('../loading/loader.js').Store} Store
 * @implements {Store}
 */
export class ModelStore {
  #slot;
  #state;
  #warn;
  #makeRoom;
  #stale;
  /** @type {Map<number, Ranges>} */ #ranges = new Map();
  // pieces that are being filled
  /** @type {{ file: number, offset: number, bytes: Uint8Array, used: number }[]} */ #open = [];
  // of whole pieces that were written: new memory takes as long as the bytes
  /** @type {Uint8Array[]} */ #spare = [];
  #tail = Promise.resolve();
  #waiting = 0;
  #writing;
  /** @type {unknown} */ #note;
  /** @type {((bytes: Uint8Array) => string | null) | null} */ #checksum = null;
  /** Pieces that the journal does not tell of yet. @type {[number, number, number, string][]} */ #untold =
    [];
  #untoldBytes = 0;
  /** Lines about their files. */ #untoldTags = '';
  #toldAt = now();
  /** Pieces of a complete copy in the order of their use. @type {{ file: number, piece: Piece }[]} */ #order =
    [];
  /** Where the piece that was asked for last stands there. */ #at = -1;
  /** Pieces that are read or were, verified; null: broken. @type {Map<Piece, Promise<Uint8Array | null>>} */ #reading =
    new Map();

  /**
   * @param {Slot} slot
   * @param {JournalState} state
   * @param {(message: string) => void} warn
   * @param {(bytes: number) => Promise<number>} [makeRoom] drops others' copies, and tells how much
   */
  constructor(slot, state, warn, makeRoom = async () => 0) {
    this.#makeRoom = makeRoom;
    this.#stale = state.doneBytes !== null && Date.now() - state.usedAt > DAY_MS;
    this.#slot = slot;
    this.#state = state;
    this.#warn = warn;
    this.#writing = slot.writable && state.doneBytes === null;
    for (const [file, list] of state.pieces) {
      const ranges = new Ranges();
      for (const piece of list) {
        ranges.add(piece.offset, piece.offset + piece.bytes);
        if (state.doneBytes !== null) this.#order.push({ file, piece });
      }
      this.#ranges.set(file, ranges);
    }
  }

  /** A complete copy that has not been used for a day. */
  get stale() {
    return this.#stale;
  }

  /** Small data beside the model, for when there is no connection: its manifest. @param {unknown} value */
  keepNote(value) {
    if (this.#writing) this.#note = value;
  }

  /** It is used, and as the server has it. */
  async touch() {
    if (this.#slot.writable)
      await this.#slot.append(journalLine({ at: Date.now() })).catch(() => {});
  }

  get complete() {
    return this.#state.doneBytes !== null;
  }

  /** Whether what comes is written down. */
  get keeps() {
    return this.#writing;
  }

  /**
   * A faster checksum of pieces than the browser's, as soon as there is an engine. @param {(bytes:
   * Uint8Array) => string | null} checksum
   */
  useChecksum(checksum) {
    this.#checksum = checksum;
  }

  /** @param {Uint8Array} bytes @param {string} [expected] in the form of this one */
  async #hash(bytes, expected) {
    const sum = expected === undefined || expected.startsWith('x') ? this.#checksum?.(bytes) : null;
    return sum ?? pieceHash(bytes);
  }

  /** @param {number} file */
  has(file) {
    let ranges = this.#ranges.get(file);
    if (!ranges) this.#ranges.set(file, (ranges = new Ranges()));
    return ranges;
  }

  /** @param {number} file @returns {string | null} */
  validator(file) {
    return this.#state.validators.get(file) ?? null;
  }

  /**
   * @param {number} file
   * @param {string | null} validator
   */
  describe(file, validator) {
    if (!validator || this.#state.validators.get(file) === validator) return;
    this.#state.validators.set(file, validator);
    this.#untoldTags += journalLine({ file, tag: validator });
  }

  /**
   * @param {number} file
   * @param {number} offset
   * @param {number} most
   * @returns {Promise<Uint8Array | null>}
   */
  async read(file, offset, most) {
    const piece = this.#pieceWith(file, offset);
    if (!piece) return null;
    this.#readAhead(piece);
    const bytes = await this.#piece(file, piece);
    if (!bytes) {
      if (this.#reading.delete(piece)) this.#drop(file, piece);
      return null;
    }
    const from = offset - piece.offset;
    return bytes.subarray(from, Math.min(piece.bytes, from + most));
  }

  /**
   * Tells in which order a complete copy will be read.
   * @param {{ file: number, from: number, to: number }[]} stretches
   */
  order(stretches) {
    if (!this.complete) return;
    /** @type {Set<Piece>} */
    const known = new Set();
    this.#order = [];
    this.#at = -1;
    // whoever reads says so
    for (const file of new Set(stretches.map((s) => s.file)))
      this.#slot.open?.(file).catch(() => {});
    for (const { file, from, to } of stretches) {
      const list = (this.#state.pieces.get(file) ?? []).filter(
        (p) => p.offset < to && from < p.offset + p.bytes && !known.has(p),
      );
      for (const piece of list.sort((a, b) => a.offset - b.offset)) {
        known.add(piece);
        this.#order.push({ file, piece });
      }
    }
  }

  /**
   * A piece that can be read at once, straight to where it belongs; the reader compares the
   * checksum, and tells of one that is broken.
   * @param {number} file
   * @param {number} offset
   * @returns {{ offset: number, bytes: number, hash: string, read: (into: Uint8Array) => boolean,
   *   drop: () => void } | null}
   */
  direct(file, offset) {
    const read = this.complete ? this.#slot.reader?.(file) : null;
    const piece = read ? this.#pieceWith(file, offset) : undefined;
    if (!read || !piece?.hash.startsWith('x')) return null;
    const at = this.#order.findIndex((o, i) => i >= this.#at && o.piece === piece);
    if (at >= 0) this.#at = at;
    return {
      ...piece,
      read: (into) => read(piece.offset, into),
      drop: () => this.#drop(file, piece),
    };
  }

  /** @param {number} file @param {number} offset */
  #pieceWith(file, offset) {
    const holds = (/** @type {Piece} */ p) => p.offset <= offset && offset < p.offset + p.bytes;
    for (let i = Math.max(0, this.#at); i < this.#order.length && i <= this.#at + READ_AHEAD; i++) {
      if (this.#order[i].file === file && holds(this.#order[i].piece)) return this.#order[i].piece;
    }
    return (this.#state.pieces.get(file) ?? []).find(holds);
  }

  /**
   * The place reads and the checksums are computed on other threads, while this one takes bytes in
   * and computes with them.
   * @param {Piece} piece
   */
  #readAhead(piece) {
    if (this.#order[this.#at]?.piece === piece) return;
    const at = this.#order.findIndex((o) => o.piece === piece);
    if (at < 0) return;
    this.#at = at;
    for (const { file, piece: next } of this.#order.slice(at, at + 1 + READ_AHEAD))
      void this.#piece(file, next);
  }

  /** @param {number} file @param {Piece} piece @returns {Promise<Uint8Array | null>} */
  #piece(file, piece) {
    let bytes = this.#reading.get(piece);
    if (bytes) return bytes;
    bytes = this.#slot
      .read(file, piece.offset, piece.bytes)
      .then(async (found) =>
        found?.length === piece.bytes && (await this.#hash(found, piece.hash)) === piece.hash
          ? found
          : null,
      )
      .catch(() => null);
    this.#reading.set(piece, bytes);
    if (this.#reading.size > READ_AHEAD + 2)
      this.#reading.delete(/** @type {Piece} */ (this.#reading.keys().next().value));
    return bytes;
  }

  /**
   * A whole file, or null where a byte of it is missing.
   * @param {number} file
   */
  async readAll(file) {
    const end = this.#state.doneBytes ?? 0;
    const all = new Uint8Array(end);
    for (let at = 0; at < end;) {
      const bytes = await this.read(file, at, end - at);
      if (!bytes) return null;
      all.set(bytes, at);
      at += bytes.length;
    }
    return all;
  }

  /** @param {number} file @param {Piece} piece */
  #drop(file, piece) {
    const rest = (this.#state.pieces.get(file) ?? []).filter((p) => p !== piece);
    this.#state.pieces.set(file, rest);
    const ranges = new Ranges();
    for (const { offset, bytes } of rest) ranges.add(offset, offset + bytes);
    this.#ranges.set(file, ranges);
    this.#order = [];
    this.#state.doneBytes = null;
    this.#writing = this.#slot.writable;
    this.#enqueue(() => this.#slot.append(journalLine({ broken: file, offset: piece.offset })));
  }

  /**
   * Takes bytes to keep. Waits where the place is slower than the line.
   * @param {number} file
   * @param {number} offset
   * @param {Uint8Array} bytes
   */
  async write(file, offset, bytes) {
    if (!this.#writing) return;
    for (let done = 0; done < bytes.length;) {
      const at = offset + done;
      let open = this.#open.find((o) => o.file === file && o.offset + o.used === at);
      if (!open) {
        open = {
          file,
          offset: at,
          bytes:
            this.#spare.pop() ??
            new Uint8Array(Math.min(PIECE_BYTES, Math.max(FIRST_BYTES, bytes.length - done))),
          used: 0,
        };
        this.#open.push(open);
        if (this.#open.length > MOST_WAITING) this.#commit(this.#open[0]);
      }
      const n = Math.min(bytes.length - done, PIECE_BYTES - open.used);
      if (open.used + n > open.bytes.length) {
        const more = new Uint8Array(
          Math.min(PIECE_BYTES, Math.max(2 * open.bytes.length, open.used + n)),
        );
        more.set(open.bytes.subarray(0, open.used));
        open.bytes = more;
      }
      open.bytes.set(bytes.subarray(done, done + n), open.used);
      open.used += n;
      done += n;
      if (open.used === PIECE_BYTES) this.#commit(open);
    }
    if (this.#waiting > MOST_WAITING) await this.#tail;
  }

  /** @param {{ file: number, offset: number, bytes: Uint8Array, used: number }} open */
  #commit(open) {
    this.#open.splice(this.#open.indexOf(open), 1);
    const bytes = open.bytes.subarray(0, open.used);
    const { file, offset } = open;
    this.#waiting++;
    this.#enqueue(async () => {
      try {
        const hash = await this.#hash(bytes);
        await this.#slot.write(file, offset, bytes);
        const list = this.#state.pieces.get(file) ?? [];
        list.push({ offset, bytes: bytes.length, hash });
        this.#state.pieces.set(file, list);
        this.has(file).add(offset, offset + bytes.length);
        this.#untold.push([file, offset, bytes.length, hash]);
        this.#untoldBytes += bytes.length;
        if (this.#untoldBytes >= PIECE_BYTES && now() - this.#toldAt >= TELL_MS) await this.#tell();
        if (this.#slot.flat && open.bytes.length === PIECE_BYTES) this.#spare.push(open.bytes);
      } finally {
        this.#waiting--;
      }
    });
  }

  /**
   * The journal tells of a megabyte or more at a time: it is written through to the disk each time,
   * which a fast line does not wait for.
   */
  async #tell() {
    if (this.#untold.length === 0) return;
    const lines = this.#untoldTags + journalLine({ pieces: this.#untold });
    this.#untold = [];
    this.#untoldBytes = 0;
    this.#untoldTags = '';
    this.#toldAt = now();
    await this.#slot.append(lines);
  }

  /** @param {() => Promise<void>} work */
  #enqueue(work) {
    this.#tail = this.#tail.then(async () => {
      if (!this.#writing) return;
      try {
        await work();
      } catch (error) {
        // No room, or the place is gone: loading goes on without it.
        this.#writing = false;
        this.#open = [];
        this.#warn(
          `the model cannot be kept on this device (${messageOf(error)}); it is loaded without the cache`,
        );
      }
    });
  }

  async flush() {
    for (const open of [...this.#open]) this.#commit(open);
    this.#enqueue(() => this.#tell());
    await this.#tail;
  }

  /**
   * So many bytes are to come: whether there is room for them is asked now.
   * @param {number} bytes
   */
  async expect(bytes) {
    if (!this.#writing) return;
    const { quota, usage } =
      (await globalThis.navigator?.storage?.estimate?.().catch(() => undefined)) ?? {};
    if (quota === undefined || usage === undefined || this.#slot.kind === 'own') return;
    const needed = bytes - bytesKept(this.#state);
    const lacking = needed - (quota - usage);
    if (lacking <= 0 || lacking <= (await this.#makeRoom(lacking))) return;
    this.#writing = false;
    this.#open = [];
    this.#warn(
      `the model cannot be kept on this device: ${megabytes(needed)} are needed, ${megabytes(Math.max(0, quota - usage))} are free; it is loaded without the cache`,
    );
  }

  /**
   * @param {number[]} sizes of the files
   * @param {{ file: number, from: number, to: number }[]} [stretches] as which they will be read
   */
  async finish(sizes, stretches = []) {
    await this.flush();
    this.#spare = [];
    if (!this.#writing || this.#state.doneBytes !== null) return;
    const done = sizes.reduce((sum, n) => sum + n, 0);
    if (this.#slot.flat)
      for (const file of this.#state.pieces.keys())
        this.#enqueue(() => this.#cutAnew(file, stretches));
    const note = this.#note === undefined ? '' : JSON.stringify(this.#note);
    this.#note = undefined;
    if (note) this.#enqueue(() => this.#slot.writeNote(note));
    this.#enqueue(() => this.#slot.append(journalLine({ done, at: Date.now() })));
    await this.#tail;
    if (this.#writing) this.#state.doneBytes = done;
  }

  /**
   * A file that came in thousands of stretches of rows is cut into pieces as it will be read. Each
   * byte was written, or verified, just now.
   * @param {number} file
   * @param {{ file: number, from: number, to: number }[]} stretches
   */
  async #cutAnew(file, stretches) {
    const list = this.#state.pieces.get(file) ?? [];
    const { list: ranges, total } = this.has(file);
    if (list.length <= 8 + (2 * total) / PIECE_BYTES) return;
    const cuts = new Set(
      stretches.filter((s) => s.file === file).flatMap(({ from, to }) => [from, to]),
    );
    const points = [...cuts].sort((a, b) => a - b);
    /** @type {[number, number, string][]} */
    const cut = [];
    for (const [from, to] of ranges) {
      for (let at = from; at < to;) {
        const end = Math.min(to, at + PIECE_BYTES, points.find((p) => p > at) ?? to);
        const bytes = await this.#slot.read(file, at, end - at);
        if (bytes?.length !== end - at) return; // the pieces stay as they are
        cut.push([at, end - at, await this.#hash(bytes)]);
        at = end;
      }
    }
    await this.#slot.append(journalLine({ whole: file, cut }));
    this.#state.pieces.set(
      file,
      cut.map(([offset, bytes, hash]) => ({ offset, bytes, hash })),
    );
  }

  async close() {
    await this.flush();
    await this.#slot.close().catch(() => {});
  }

  /** Drops the copy. */
  async remove() {
    this.#writing = false;
    await this.#tail;
    await this.#slot.remove().catch(() => {});
  }
}
