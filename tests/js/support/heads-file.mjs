// Writes small heads files (NAME.exits.gguf) for tests: forms "lens" and "vocabulary", which need
// no tensors.

const U32 = 4,
  I32 = 5,
  F32 = 6,
  STRING = 8,
  ARRAY = 9;

class Writer {
  #parts = [];
  u32(/** @type {number} */ value) {
    const b = Buffer.alloc(4);
    b.writeUInt32LE(value);
    this.#parts.push(b);
  }
  i32(/** @type {number} */ value) {
    const b = Buffer.alloc(4);
    b.writeInt32LE(value);
    this.#parts.push(b);
  }
  f32(/** @type {number} */ value) {
    const b = Buffer.alloc(4);
    b.writeFloatLE(value);
    this.#parts.push(b);
  }
  u64(/** @type {number} */ value) {
    const b = Buffer.alloc(8);
    b.writeBigUInt64LE(BigInt(value));
    this.#parts.push(b);
  }
  string(/** @type {string} */ text) {
    const b = Buffer.from(text);
    this.u64(b.length);
    this.#parts.push(b);
  }
  value(/** @type {number} */ type, /** @type {any} */ value) {
    if (type === U32) this.u32(value);
    else if (type === I32) this.i32(value);
    else if (type === F32) this.f32(value);
    else this.string(value);
  }
  bytes() {
    return Buffer.concat(this.#parts);
  }
}

/**
 * @typedef {{ strategy?: string, accuracy: number, certified?: boolean, thresholds: number[],
 *   coverage?: number[] }} Level
 * @param {{ fingerprint: string, layers: number, dim: number, vocab: number, kvDim: number, heads:
 *   { layer: number, rows: number }[], levels: Level[], metric?: string, defaultAccuracy?: number
 *   }} options `layers`, `dim`, `vocab`, `kvDim` are the base model's
 * @returns {Buffer}
 */
export function headsFile({
  fingerprint,
  layers,
  dim,
  vocab,
  kvDim,
  heads,
  levels,
  metric = 'entropy',
  defaultAccuracy,
}) {
  const rows = Math.max(...heads.map((head) => head.rows));
  const one = (
    /** @type {string} */ name,
    /** @type {number} */ type,
    /** @type {any} */ value,
  ) => ({ name, type, value });
  const many = (
    /** @type {string} */ name,
    /** @type {number} */ type,
    /** @type {any[]} */ value,
  ) => ({ name, type, value, array: true });
  const level = (
    /** @type {string} */ name,
    /** @type {number} */ type,
    /** @type {(l: Level) => any} */ of,
  ) => many(`exitlm.levels.${name}`, type, levels.flatMap(of));
  const keys = [
    one('general.architecture', STRING, 'exitlm'),
    one('general.license', STRING, 'mit'),
    one('exitlm.format_version', U32, 1),
    one('exitlm.engine_version', STRING, '0.1.0'),
    one('exitlm.data', STRING, 'none: a test'),
    one('exitlm.base.fingerprint', STRING, fingerprint),
    one('exitlm.base.name', STRING, 'test'),
    one('exitlm.base.layers', U32, layers),
    one('exitlm.base.dim', U32, dim),
    one('exitlm.base.kv_dim', U32, kvDim),
    one('exitlm.base.vocab', U32, vocab),
    many(
      'exitlm.layers',
      U32,
      heads.map((head) => head.layer),
    ),
    many(
      'exitlm.forms',
      STRING,
      heads.map((head) => (head.layer === layers ? 'vocabulary' : 'lens')),
    ),
    many(
      'exitlm.rows',
      U32,
      heads.map((head) => head.rows),
    ),
    many(
      'exitlm.shortlist',
      I32,
      Array.from({ length: rows }, (_, i) => vocab - 1 - i),
    ),
    one('exitlm.metric', STRING, metric),
    one('exitlm.kv_policy', STRING, 'exact'),
    one('exitlm.kv_type', STRING, 'f32'),
    ...(defaultAccuracy === undefined
      ? []
      : [one('exitlm.default_accuracy', F32, defaultAccuracy)]),
    one('exitlm.levels.count', U32, levels.length),
    level('strategy', STRING, (l) => l.strategy ?? 'risk'),
    level('accuracy', F32, (l) => l.accuracy),
    level('certified', U32, (l) => Number(l.certified ?? true)),
    level('delta', F32, () => 0.05),
    level('bound', F32, (l) => 1 - l.accuracy),
    level('threshold', F32, (l) => l.thresholds),
    level('coverage', F32, (l) => l.coverage ?? l.thresholds.map(() => 0.25)),
    level('agreement', F32, (l) => l.accuracy),
    level('agreement_exited', F32, (l) => l.accuracy),
    level('conversations', U32, () => 600),
    level('tokens', U32, () => 30000),
  ];
  const w = new Writer();
  w.u32(0x46554747); // "GGUF"
  w.u32(3);
  w.u64(0);
  w.u64(keys.length);
  for (const key of keys) {
    w.string(key.name);
    w.u32(key.array ? ARRAY : key.type);
    if (key.array) {
      w.u32(key.type);
      w.u64(key.value.length);
      for (const item of key.value) w.value(key.type, item);
    } else w.value(key.type, key.value);
  }
  const bytes = w.bytes();
  return Buffer.concat([bytes, Buffer.alloc((32 - (bytes.length % 32)) % 32)]);
}
