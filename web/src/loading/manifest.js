/**
 * `manifest.json` of a packed model (`exitlm pack`): the original file cut into shards in the order
 * of use.
 *
 * ```json
 * {
 *   "format": 1,
 *   "name": "smollm2-135m-instruct",
 *   "bytes": 98362432,
 *   "sha256": "…",
 *   "files": [{ "path": "smollm2-135m-instruct.gguf", "bytes": 98362432, "sha256": "…" }],
 *   "shards": [{
 *     "file": "000-header.bin", "bytes": 1785120, "sha256": "…",
 *     "extents": [{ "part": 0, "offset": 0, "bytes": 1785120, "layer": -4 }]
 *   }],
 *   "heads": { "file": "smollm2-135m-instruct.exits.gguf", "bytes": 5033440, "sha256": "…",
 *              "core": { "file": "heads-core.gguf", "bytes": 775648, "sha256": "…" } }
 * }
 * ```
 * - A shard of more than 256 KB may have `pieces` too: the SHA-256 of each 256 KB of it, in their order,
 *   which are cheaper to compute one by one than that of the whole.
 * - `files`: the original files, one unless the model is split; `bytes` and `sha256` at the top are
 *   those of all of them, one after the other.
 * - `shards`: in the order of use, at most 24 MiB each. A shard is its extents one after the other;
 *   an extent says which bytes of which original file (`part`) they are. `layer` is -4 for headers,
 *   -5 for what the engine does not need (padding; such shards are not loaded), else as the plan
 *   says (-1 norms, -2 rows of the shortlist, 0… layers, -3 other rows).
 * - Put back by its extents it is the original, byte for byte. Every byte lies in exactly one
 *   extent.
 * - The first shards are the headers. `heads` is left out where the model has none; `core` is the
 *   same file without the K/V maps, left out where it has none or was calibrated with them.
 * - File names are relative to the manifest's address.
 *
 * @typedef {object} ManifestExtent
 * @property {number} part
 * @property {number} offset
 * @property {number} bytes
 * @property {number} [layer]
 *
 * @typedef {object} ManifestShard
 * @property {string} file
 * @property {number} bytes
 * @property {string} sha256
 * @property {string[]} [pieces]
 * @property {ManifestExtent[]} extents
 *
 * @typedef {{ file: string, bytes: number, sha256: string }} ManifestFile
 *
 * @typedef {object} Manifest
 * @property {1} format
 * @property {string} name
 * @property {number} bytes
 * @property {string} sha256
 * @property {{ path?: string, bytes: number, sha256: string }[]} files
 * @property {ManifestShard[]} shards
 * @property {ManifestFile & { core?: ManifestFile }} [heads]
 *
 * @typedef {import('./plan.js').Job} Job
 */
import { HASHED_BYTES } from '../cache/sha256.js';
import { ExitLMError } from '../link/errors.js';
import { Spans } from './plan.js';

/** `layer` of bytes that the engine does not need. */
const REST = -5;

const isSize = (/** @type {unknown} */ n) =>
  Number.isSafeInteger(n) && /** @type {number} */ (n) >= 0;
const isHash = (/** @type {unknown} */ s) => typeof s === 'string' && /^[0-9a-f]{64}$/.test(s);

/**
 * Checks a manifest that came from somewhere.
 * @param {unknown} value
 * @param {string} name for messages
 * @returns {Manifest}
 */
export function parseManifest(value, name) {
  const fail = (/** @type {string} */ what) => {
    throw new ExitLMError('BAD_MODEL', `${name}: not a manifest of a packed model: ${what}`);
  };
  const m = /** @type {any} */ (value);
  if (typeof m !== 'object' || m === null) fail('no object');
  if (m.format === undefined)
    fail(
      'it names no format; a GGUF file, or the manifest.json of "npx exitlm pack", was expected',
    );
  if (m.format !== 1) fail(`format ${JSON.stringify(m.format)}, this version reads 1`);
  if (!Array.isArray(m.files) || m.files.length === 0 || m.files.length > 1024)
    fail('files is no list');
  for (const file of m.files)
    if (!isSize(file?.bytes) || !isHash(file?.sha256)) fail('a file without bytes or sha256');
  if (!Array.isArray(m.shards) || m.shards.length === 0 || m.shards.length > 100_000)
    fail('shards is no list');
  /** Of each file. @type {{ shard: string, from: number, to: number }[][]} */
  const covered = m.files.map(() => []);
  for (const shard of /** @type {Manifest} */ (m).shards) {
    if (
      typeof shard?.file !== 'string' ||
      !isSize(shard.bytes) ||
      !isHash(shard.sha256) ||
      !Array.isArray(shard.extents)
    ) {
      fail('a shard without file, bytes, sha256 or extents');
    }
    const { pieces } = shard;
    if (
      pieces !== undefined &&
      !(
        Array.isArray(pieces) &&
        pieces.length === Math.ceil(shard.bytes / HASHED_BYTES) &&
        pieces.every(isHash)
      )
    )
      fail(`${shard.file}: pieces is no list of checksums, one for each 256 KB`);
    let sum = 0;
    for (const { part, offset, bytes } of shard.extents) {
      const file = m.files[part];
      if (
        !isSize(part) ||
        !file ||
        !isSize(offset) ||
        !isSize(bytes) ||
        offset + bytes > file.bytes
      )
        fail(`${shard.file}: an extent outside its file`);
      covered[part].push({ shard: shard.file, from: offset, to: offset + bytes });
      sum += bytes;
    }
    if (sum !== shard.bytes)
      fail(`${shard.file}: its extents are ${sum} bytes, the shard ${shard.bytes}`);
  }
  for (const [part, file] of /** @type {Manifest} */ (m).files.entries()) {
    let at = 0;
    for (const { shard, from, to } of covered[part].sort(
      (a, b) => a.from - b.from || a.to - b.to,
    )) {
      if (from > at) fail(`bytes of file ${part} are in no shard`);
      if (from < at && to > from) fail(`${shard}: bytes that another extent has too`);
      at = Math.max(at, to);
    }
    if (at < file.bytes) fail(`bytes of file ${part} are in no shard`);
  }
  const isFile = (/** @type {any} */ f) =>
    typeof f?.file === 'string' && isSize(f.bytes) && isHash(f.sha256);
  if (
    m.heads !== undefined &&
    !(isFile(m.heads) && (m.heads.core === undefined || isFile(m.heads.core)))
  )
    fail('heads without file, bytes or sha256');
  return m;
}

/**
 * A job for each shard that the engine needs, in the order of use.
 * @param {Manifest} manifest
 * @returns {Job[]}
 */
export function jobsByShard(manifest) {
  return manifest.shards.flatMap(({ bytes, sha256, pieces, extents }, file) => {
    if (extents.every(({ layer }) => layer === REST)) return [];
    let at = 0;
    const spans = extents.map(({ part, offset, bytes: n }) => {
      at += n;
      return { at: at - n, part, offset, bytes: n };
    });
    return [{ file, from: 0, to: bytes, spans: new Spans(spans), sha256, pieces }];
  });
}
