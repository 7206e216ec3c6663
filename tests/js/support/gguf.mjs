// Writes small GGUF files for tests, true ones and lying ones.

export const U32 = 4,
  I32 = 5,
  F32 = 6,
  BOOL = 7,
  STRING = 8,
  ARRAY = 9,
  U64 = 10;

/**
 * @typedef {{ name: string, type: number, value: any, items?: number }} Key `items`: the type of an
 *   array's items; a value that is a Buffer is written as it stands
 * @typedef {{ name: string, dims?: (number | bigint)[], type?: number, offset?: number | bigint
 *   }} Tensor
 */

/** @type {Record<string, number>} */
const USUAL = { string: STRING, boolean: BOOL };

/** @param {string} name @param {any} value @param {number} [type] @returns {Key} */
export function key(name, value, type) {
  if (Array.isArray(value))
    return {
      name,
      type: ARRAY,
      items: type ?? (typeof value[0] === 'string' ? STRING : I32),
      value,
    };
  const usual = USUAL[typeof value] ?? U32;
  return { name, type: type ?? usual, value };
}

/** @param {number} bytes @param {(b: Buffer) => void} write */
function number(bytes, write) {
  const b = Buffer.alloc(bytes);
  write(b);
  return b;
}

export const u32 = (/** @type {number} */ value) => number(4, (b) => b.writeUInt32LE(value));
export const u64 = (/** @type {number | bigint} */ value) =>
  number(8, (b) => b.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value))));
export const text = (/** @type {string | Buffer} */ value) => {
  const b = Buffer.from(/** @type {string} */ (value));
  return Buffer.concat([u64(b.length), b]);
};

/** @param {number} type @param {any} value */
function item(type, value) {
  switch (type) {
    case 0:
      return Buffer.from([value]);
    case U32:
      return u32(value);
    case I32:
      return number(4, (b) => b.writeInt32LE(value));
    case F32:
      return number(4, (b) => b.writeFloatLE(value));
    case BOOL:
      return Buffer.from([Number(value)]);
    case U64:
      return u64(value);
    default:
      return text(value);
  }
}

/**
 * @param {Key[]} keys
 * @param {Tensor[]} [tensors]
 * @param {{ nKeys?: number | bigint, nTensors?: number | bigint, alignment?: number, data?: number
 *   }} [lies] other counts than there are; bytes of zeros behind the header
 * @returns {Buffer}
 */
export function ggufFile(keys, tensors = [], { nKeys, nTensors, alignment = 32, data = 0 } = {}) {
  const parts = [Buffer.from('GGUF'), u32(3)];
  parts.push(u64(nTensors ?? tensors.length), u64(nKeys ?? keys.length));
  for (const { name, type, items, value } of keys) {
    parts.push(text(name), u32(type));
    if (Buffer.isBuffer(value)) parts.push(value);
    else if (items === undefined) parts.push(item(type, value));
    else {
      parts.push(u32(items), u64(value.length));
      for (const one of value) parts.push(item(items, one));
    }
  }
  for (const { name, dims = [32], type = 0, offset = 0 } of tensors)
    parts.push(text(name), u32(dims.length), ...dims.map(u64), u32(type), u64(offset));
  const bytes = Buffer.concat(parts);
  return Buffer.concat([
    bytes,
    Buffer.alloc(((alignment - (bytes.length % alignment)) % alignment) + data),
  ]);
}

/** Keys of a small byte-level vocabulary. @param {string} [pre] */
export function vocabularyKeys(pre = 'gpt-2') {
  const printable = (/** @type {number} */ b) =>
    (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
  let others = 0;
  const bytes = Array.from({ length: 256 }, (_, b) =>
    String.fromCodePoint(printable(b) ? b : 256 + others++),
  );
  const merged = ['he', 'll', 'hell', 'hello'];
  return [
    key('tokenizer.ggml.model', 'gpt2'),
    key('tokenizer.ggml.pre', pre),
    key('tokenizer.ggml.tokens', [...bytes, ...merged, '<|end|>']),
    key('tokenizer.ggml.token_type', [...Array(260).fill(1), 3]),
    key('tokenizer.ggml.merges', ['h e', 'l l', 'he ll', 'hell o']),
    key('tokenizer.ggml.bos_token_id', 260),
    key('tokenizer.ggml.eos_token_id', 260),
  ];
}
