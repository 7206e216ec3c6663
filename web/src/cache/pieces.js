/**
 * Pieces of a cached copy in the engine's memory, and their checksum: against damage on the disk;
 * what comes over the network has its SHA-256.
 */
export const PIECE_BYTES = 2 ** 20;

/** Bytes that lie in the engine's memory already. */
export class Staged {
  /** @param {number} pointer @param {number} length */
  constructor(pointer, length) {
    this.pointer = pointer;
    this.length = length;
  }

  /** @param {number} from @param {number} to */
  subarray(from, to) {
    return new Staged(this.pointer + from, to - from);
  }
}

export class Pieces {
  #engine;
  /** Buffers that nobody uses. @type {number[]} */ #spare = [];
  #sum = 0;

  /** @param {import('../engine/engine.js').Engine} engine */
  constructor(engine) {
    this.#engine = engine;
  }

  /** @returns {number} memory for a piece */
  take() {
    return this.#spare.pop() ?? this.#engine.alloc(PIECE_BYTES);
  }

  /** @param {number} pointer */
  release(pointer) {
    this.#spare.push(pointer);
  }

  /**
   * @param {number} pointer @param {number} n @returns {string} the checksum of bytes that lie
   *   there
   */
  sumAt(pointer, n) {
    this.#sum ||= this.#engine.alloc(17);
    this.#engine.call('checksum', pointer, n, this.#sum);
    return `x${this.#engine.text(this.#sum)}`;
  }

  /**
   * @param {Uint8Array} bytes at most a piece @returns {string | null} null where the engine has
   *   ended
   */
  sumOf(bytes) {
    if (this.#engine.crash) return null;
    const pointer = this.take();
    this.#engine.u8.set(bytes, pointer);
    const sum = this.sumAt(pointer, bytes.length);
    this.release(pointer);
    return sum;
  }

  /** Gives the memory back; it is taken again where it is needed. */
  free() {
    for (const pointer of this.#spare.splice(0)) this.#engine.free(pointer);
  }
}
