/** SHA-256 of bytes in any chunking, computed by the engine. */
export class Sha256 {
  #engine;
  #pointer;

  /** @param {import('../engine/engine.js').Engine} engine */
  constructor(engine) {
    this.#engine = engine;
    this.#pointer = engine.call('sha256_create');
  }

  /** @param {Uint8Array} bytes */
  update(bytes) {
    this.#engine.staged(bytes, (memory, n) => this.#engine.call('sha256_update', this.#pointer, memory, n));
  }

  /** @returns {string} 64 digits; the object cannot be used any more */
  finish() {
    return this.#engine.with(65, (hex) => {
      this.#engine.call('sha256_finish', this.#pointer, hex);
      return this.#engine.text(hex);
    });
  }
}
