import { isWorkerd } from '../link/platform.js';

/**
 * So much is held as a whole for the platform's SHA-256, which is some four times as fast as the
 * engine's: the largest shard that `pack` makes by itself.
 */
const MOST_HELD_BYTES = 25 * 2 ** 20;

/** @param {Uint8Array} bytes */
export const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');

/** @param {SubtleCrypto} subtle @param {Uint8Array} bytes @returns {Promise<string>} 64 digits */
export const digest = async (subtle, bytes) =>
  hex(
    new Uint8Array(await subtle.digest('SHA-256', /** @type {Uint8Array<ArrayBuffer>} */ (bytes))),
  );

/**
 * @param {import('../engine/engine.js').Engine} engine
 * @param {number} bytes that are to come
 * @param {Uint8Array[]} spare buffers that nobody uses, of the caller's: pages that were touched before
 *   cost less than new ones
 * @returns {{ update(bytes: Uint8Array): void, finish(): string | Promise<string> }}
 */
export function sha256Of(engine, bytes, spare) {
  // A Worker of Cloudflare has no room for it.
  const subtle = isWorkerd ? undefined : globalThis.crypto?.subtle;
  return subtle && bytes <= MOST_HELD_BYTES ? new Held(subtle, bytes, spare) : new Sha256(engine);
}

class Held {
  #subtle;
  #spare;
  #all;
  #used = 0;

  /** @param {SubtleCrypto} subtle @param {number} bytes @param {Uint8Array[]} spare */
  constructor(subtle, bytes, spare) {
    this.#subtle = subtle;
    this.#spare = spare;
    const found = spare.findIndex(({ length }) => length >= bytes);
    this.#all = found < 0 ? new Uint8Array(bytes) : spare.splice(found, 1)[0];
  }

  /** @param {Uint8Array} bytes */
  update(bytes) {
    this.#all.set(bytes, this.#used);
    this.#used += bytes.length;
  }

  async finish() {
    const sum = await digest(this.#subtle, this.#all.subarray(0, this.#used));
    this.#spare.push(this.#all);
    return sum;
  }
}

/** SHA-256 of bytes in any chunking, computed by the engine. */
class Sha256 {
  #engine;
  #pointer;

  /** @param {import('../engine/engine.js').Engine} engine */
  constructor(engine) {
    this.#engine = engine;
    this.#pointer = engine.call('sha256_create');
  }

  /** @param {Uint8Array} bytes */
  update(bytes) {
    this.#engine.staged(bytes, (memory, n) =>
      this.#engine.call('sha256_update', this.#pointer, memory, n),
    );
  }

  /** @returns {string} 64 digits; the object cannot be used any more */
  finish() {
    return this.#engine.with(65, (digits) => {
      this.#engine.call('sha256_finish', this.#pointer, digits);
      return this.#engine.text(digits);
    });
  }
}
