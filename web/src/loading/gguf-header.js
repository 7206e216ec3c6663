/**
 * The header of a small GGUF file: where its tensors lie. The engine reads whole ones; this is for
 * files of which only a part is fetched.
 */

/** Bytes of a value of each of GGUF's types; 8 is text, 9 a list. */
const VALUE_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];

/** Reads a GGUF header; a place outside the bytes throws a RangeError. */
class Reader {
  at = 0;
  #view;
  #bytes;

  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u32() {
    this.at += 4;
    return this.#view.getUint32(this.at - 4, true);
  }

  u64() {
    this.at += 8;
    return Number(this.#view.getBigUint64(this.at - 8, true));
  }

  text() {
    const n = this.u64();
    if (this.at + n > this.#bytes.length) throw new RangeError('text beyond the end');
    this.at += n;
    return new TextDecoder().decode(this.#bytes.subarray(this.at - n, this.at));
  }

  /**
   * @param {number} type @returns {number | string | undefined} the value where it is a 32-bit
   *   number or text
   */
  value(type) {
    if (type === 4) return this.u32();
    if (type === 8) return this.text();
    if (type === 9) {
      const inner = this.u32();
      const n = this.u64();
      if (inner < 8 || inner > 9) this.at += n * VALUE_BYTES[inner];
      else for (let i = 0; i < n; i++) this.value(inner);
    } else this.at += VALUE_BYTES[type];
    if (!(this.at <= this.#bytes.length)) throw new RangeError('value beyond the end');
    return undefined;
  }
}

/**
 * @typedef {object} Layout
 * @property {{ name: string, from: number, to: number, offset: number }[]} tensors where each
 *   stands in the list, and where its bytes are, from `dataAt` on
 * @property {number} infosAt start of that list
 * @property {number} dataAt
 * @property {number} alignment
 * @property {string} policy that the heads were calibrated with
 */

/** @param {Uint8Array} bytes the start of a file @returns {Layout} */
export function readLayout(bytes) {
  const reader = new Reader(bytes);
  reader.at = 8; // magic and version
  const nTensors = reader.u64();
  const nKeys = reader.u64();
  let alignment = 32;
  let policy = '';
  for (let i = 0; i < nKeys; i++) {
    const key = reader.text();
    const value = reader.value(reader.u32());
    if (key === 'general.alignment' && value) alignment = Number(value);
    if (key === 'exitlm.kv_policy') policy = String(value);
  }
  const infosAt = reader.at;
  const tensors = [];
  for (let i = 0; i < nTensors; i++) {
    const from = reader.at;
    const name = reader.text();
    for (let n = reader.u32(); n > 0; n--) reader.u64();
    reader.u32();
    const offset = reader.u64();
    tensors.push({ name, from, to: reader.at, offset });
  }
  return {
    tensors,
    infosAt,
    dataAt: Math.ceil(reader.at / alignment) * alignment,
    alignment,
    policy,
  };
}
