/** A heads file without what a caller does not need. */

/** Bytes of a value of each of GGUF's types; 8 is text, 9 a list. */
const VALUE_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
const MAP = /^exit\.\d+\.kv\./;

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

  /** @param {number} type @returns {number | undefined} the value where it is a 32-bit number */
  value(type) {
    if (type === 4) return this.u32();
    if (type === 8) {
      const n = this.u64();
      this.at += n;
    } else if (type === 9) {
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
 * A heads file without the K/V maps, most of its bytes: only the policy `maps` asks for them. What cannot be read comes back as it
 * is, for the engine to refuse.
 * @param {Uint8Array} bytes
 * @returns {Uint8Array}
 */
export function withoutMaps(bytes) {
  try {
    return strip(bytes);
  } catch (error) {
    if (error instanceof RangeError) return bytes;
    throw error;
  }
}

/** @param {Uint8Array} bytes */
function strip(bytes) {
  const reader = new Reader(bytes);
  reader.at = 8; // magic and version
  const nTensors = reader.u64();
  const nKeys = reader.u64();
  let alignment = 32;
  for (let i = 0; i < nKeys; i++) {
    const key = reader.text();
    const value = reader.value(reader.u32());
    if (key === 'general.alignment' && value) alignment = value;
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
  const round = (/** @type {number} */ n) => Math.ceil(n / alignment) * alignment;
  const dataAt = round(reader.at);
  const kept = tensors.filter(({ name }) => !MAP.test(name));
  if (kept.length === tensors.length) return bytes;
  // A tensor ends where the next one in the file begins.
  const starts = [...tensors.map(({ offset }) => offset), bytes.length - dataAt].sort((a, b) => a - b);
  const sizeOf = (/** @type {number} */ offset) => (starts.find((start) => start > offset) ?? offset) - offset;
  const infoBytes = kept.reduce((sum, { from, to }) => sum + to - from, 0);
  const newDataAt = round(infosAt + infoBytes);
  const out = new Uint8Array(newDataAt + kept.reduce((sum, { offset }) => sum + round(sizeOf(offset)), 0));
  const view = new DataView(out.buffer);
  out.set(bytes.subarray(0, infosAt));
  view.setBigUint64(8, BigInt(kept.length), true);
  let info = infosAt;
  let data = 0;
  for (const { from, to, offset } of kept) {
    out.set(bytes.subarray(from, to), info);
    info += to - from;
    view.setBigUint64(info - 8, BigInt(data), true);
    const size = sizeOf(offset);
    out.set(bytes.subarray(dataAt + offset, dataAt + offset + size), newDataAt + data);
    data += round(size);
  }
  return out;
}
