/** Bytes against the SHA-256 that was promised of them. */
import { PIECE_BYTES, Staged } from '../cache/pieces.js';
import { sha256Of, sha256OfPieces } from '../cache/sha256.js';
import { ExitLMError } from '../link/errors.js';
import { turn } from '../link/platform.js';

/**
 * @typedef {import('../cache/ranges.js').Ranges} Ranges
 * @typedef {import('../engine/engine.js').Engine} Engine
 * @typedef {import('./loader.js').Store} Store
 */

/**
 * @param {Engine} engine
 * @param {string | null | undefined} expected
 * @param {number} [length] bytes that are to come, where it is known
 * @param {string[]} [pieces] expected of each piece, where they are known
 */
export function verifier(engine, expected, length = Infinity, pieces = undefined) {
  if (!expected) return null;
  const inPieces = pieces ? sha256OfPieces(length) : null;
  const sha = inPieces ?? sha256Of(engine, length);
  const wanted = String(inPieces ? pieces : expected);
  return {
    /**
     * @param {Uint8Array | Staged} bytes those that are in the engine already were verified when
     *   they were kept
     */
    update(bytes) {
      if (!(bytes instanceof Staged)) sha.update(bytes);
    },
    /** @param {string} name of what came */
    async finish(name) {
      const actual = await sha.finish();
      if (String(actual) === wanted) return;
      const is = inPieces ? 'of a piece of it is another' : `is ${actual}`;
      throw new ExitLMError(
        'CHECKSUM',
        `${name}: SHA-256 ${is}, ${expected} was expected; the copy in the cache was removed, load the model again`,
      );
    },
    /** It did not come to an end. */
    drop: () => void sha.finish(),
  };
}

/**
 * A file that did not come in order is read once more, from the cache. What the engine has and the
 * cache has not cannot be verified any more: a second download would be another one.
 * @param {object} given
 * @param {Engine} given.engine
 * @param {Store} given.store
 * @param {number} given.file
 * @param {string} given.name
 * @param {number} given.bytes of the file
 * @param {string} given.expected
 * @param {Ranges} given.have what the engine has of it
 * @param {(from: number, to: number) => AsyncIterable<{ at: number, bytes: Uint8Array }>}
 *   given.download what lies between the tensors
 */
export async function verifyKept({
  engine,
  store,
  file,
  name,
  bytes: end,
  expected,
  have,
  download,
}) {
  const sum = /** @type {NonNullable<ReturnType<typeof verifier>>} */ (verifier(engine, expected));
  for (let at = 0; at < end;) {
    const kept = store.has(file).has(at, at + 1) ? await store.read(file, at, PIECE_BYTES) : null;
    if (kept) {
      sum.update(kept);
      at += kept.length;
      await turn();
      continue;
    }
    const to = Math.min(end, store.has(file).missing(at, end)[0]?.[1] ?? end);
    if (have.missing(at, to)[0]?.[0] !== at || have.missing(at, to)[0][1] !== to) {
      throw new ExitLMError(
        'CHECKSUM',
        `${name}: could not be verified, for its copy on this device broke off while it was being loaded; load the model again`,
      );
    }
    for await (const piece of download(at, to)) {
      sum.update(piece.bytes);
      await store.write(file, piece.at, piece.bytes);
    }
    at = to;
  }
  await sum.finish(name);
}
