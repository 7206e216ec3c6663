import { isWorkerd } from '../link/platform.js';

/**
 * So much is held as a whole for the platform's SHA-256, which is some four times as fast as the
 * engine's: the largest shard that `pack` makes by itself.
 */
const MOST_HELD_BYTES = 25 * 2 ** 20;

/** Of so many bytes each the pieces of a shard are hashed: no new memory is touched for them. */
export const HASHED_BYTES = 256 * 1024;

const HEX = Array.from({ length: 256 }, (_, b) => b.toString(16).padStart(2, '0'));

/** @param {Uint8Array} bytes */
export function hex(bytes) {
  let text = '';
  for (let i = 0; i < bytes.length; i++) text += HEX[bytes[i]];
  return text;
}

/** @param {SubtleCrypto} subtle @param {Uint8Array} bytes @returns {Promise<string>} 64 digits */
export const digest = async (subtle, bytes) =>
  hex(
    new Uint8Array(await subtle.digest('SHA-256', /** @type {Uint8Array<ArrayBuffer>} */ (bytes))),
  );

/**
 * @param {import('../engine/engine.js').Engine} engine
 * @param {number} bytes that are to come
 * @returns {{ update(bytes: Uint8Array): void, finish(): string | Promise<string> }}
 */
export function sha256Of(engine, bytes) {
  // A Worker of Cloudflare has no room for it.
  const subtle = isWorkerd ? undefined : globalThis.crypto?.subtle;
  return subtle && bytes <= MOST_HELD_BYTES ? new Held(subtle, bytes) : new Sha256(engine);
}

/**
 * The SHA-256 of each piece.
 * @param {number} bytes that are to come
 * @returns {{ update(bytes: Uint8Array): void, finish(): Promise<string[]> } | null} null: this
 *   platform has none
 */
export function sha256OfPieces(bytes) {
  const subtle = isWorkerd ? undefined : globalThis.crypto?.subtle;
  if (!subtle) return null;
  const piece = new Uint8Array(Math.min(bytes, HASHED_BYTES));
  let used = 0;
  /** @type {Promise<string>[]} */
  const sums = [];
  const end = () => {
    sums.push(digest(subtle, piece.subarray(0, used))); // it is copied at once
    used = 0;
  };
  return {
    update(given) {
      for (let done = 0; done < given.length;) {
        const n = Math.min(given.length - done, piece.length - used);
        piece.set(given.subarray(done, done + n), used);
        used += n;
        done += n;
        if (used === piece.length) end();
      }
    },
    finish() {
      if (used) end();
      return Promise.all(sums);
    },
  };
}

class Held {
  #subtle;
  #all;
  #used = 0;

  /** @param {SubtleCrypto} subtle @param {number} bytes */
  constructor(subtle, bytes) {
    this.#subtle = subtle;
    this.#all = new Uint8Array(bytes);
  }

  /** @param {Uint8Array} bytes */
  update(bytes) {
    this.#all.set(bytes, this.#used);
    this.#used += bytes.length;
  }

  finish() {
    return digest(this.#subtle, this.#all.subarray(0, this.#used));
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
