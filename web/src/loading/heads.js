/** A heads file without what a caller does not need. */
import { download, downloadAll } from './download.js';
import { readLayout } from './gguf-header.js';

/** @typedef {import('./gguf-header.js').Layout} Layout */

/** What is asked for at first: the keys and the list of tensors, and more. */
const FIRST_BYTES = 64 * 1024;
const MOST_HEADER_BYTES = 16 * 2 ** 20;
/** Bytes that are fetched along rather than asking anew. */
const GAP_BYTES = 16 * 1024;

const MAP = /^exit\.\d+\.kv\./;

/**
 * A heads file without the K/V maps, most of its bytes: only the policy `maps` asks for them. What
 * cannot be read comes back as it is, for the engine to refuse.
 * @param {Uint8Array} bytes
 * @param {boolean} [always] also where the heads were calibrated with them
 * @returns {Uint8Array}
 */
export function withoutMaps(bytes, always = false) {
  try {
    return strip(bytes, always);
  } catch (error) {
    if (error instanceof RangeError) return bytes;
    throw error;
  }
}

/**
 * The same, with those bytes alone fetched where the source has ranges.
 * @param {import('../link/sources.js').Source} source
 * @param {boolean} always
 * @param {AbortSignal} signal
 * @returns {Promise<Uint8Array>}
 */
export async function downloadWithoutMaps(source, always, signal) {
  return withoutMaps(
    await downloadTensors(
      source,
      (name) => !MAP.test(name),
      ({ policy }) => policy === 'maps' && !always,
      signal,
    ),
    always,
  );
}

/**
 * The whole file, but with zeros for all tensors that are no K/V maps where the source has ranges:
 * what is added to heads without them.
 * @param {import('../link/sources.js').Source} source
 * @param {AbortSignal} signal
 * @returns {Promise<Uint8Array>}
 */
export async function downloadMaps(source, signal) {
  return downloadTensors(
    source,
    (name) => MAP.test(name),
    () => false,
    signal,
  );
}

/**
 * @param {import('../link/sources.js').Source} source
 * @param {(name: string) => boolean} wanted
 * @param {(layout: Layout) => boolean} whole the whole file is wanted
 * @param {AbortSignal} signal
 * @returns {Promise<Uint8Array>} the file, with zeros where nothing was fetched
 */
async function downloadTensors(source, wanted, whole, signal) {
  /** @type {number | null} */
  let total = null;
  let ranged = true;
  const onOpen = (/** @type {{ ranged: boolean, total: number | null }} */ opened) =>
    ({ ranged, total } = opened);
  for (let n = FIRST_BYTES; n <= MOST_HEADER_BYTES; n *= 4) {
    const start = new Uint8Array(n);
    let got = 0;
    for await (const { at, bytes } of download(source, 0, n, { signal, onOpen })) {
      // what has come is lost: few servers are like that, and it is a little of a small file
      if (!ranged) break;
      start.set(bytes, at);
      got = at + bytes.length;
      if (got === total) break; // a small file
    }
    if (!ranged || total === null) break;
    if (got >= total) return start.subarray(0, total);
    const layout = layoutOf(start);
    if (layout === 'more') continue;
    if (layout === null || whole(layout)) break; // no GGUF file, or all of it is wanted
    const all = new Uint8Array(total);
    all.set(start);
    await Promise.all(
      wantedOf(layout, total, n, wanted).map(async ([from, to]) => {
        for await (const { at, bytes } of download(source, from, to, { signal }))
          all.set(bytes, at);
      }),
    );
    return all;
  }
  return downloadAll(source, { signal });
}

/**
 * @param {Uint8Array} start of a file @returns {Layout | 'more' | null} 'more': it goes on; null:
 *   it cannot be read
 */
function layoutOf(start) {
  if (String.fromCharCode(...start.subarray(0, 4)) !== 'GGUF') return null;
  try {
    return readLayout(start);
  } catch (error) {
    if (error instanceof RangeError) return 'more';
    throw error;
  }
}

/**
 * @param {Layout} layout
 * @param {number} total bytes of the file
 * @param {number} have bytes from its start on that are there
 * @param {(name: string) => boolean} wanted
 * @returns {[number, number][]} what else is needed
 */
function wantedOf({ tensors, dataAt }, total, have, wanted) {
  /** @type {[number, number][]} */
  const out = [];
  const sorted = [...tensors].sort((a, b) => a.offset - b.offset);
  for (const [i, { name, offset }] of sorted.entries()) {
    if (!wanted(name)) continue;
    const from = Math.max(have, dataAt + offset);
    const to = Math.min(total, dataAt + (sorted[i + 1]?.offset ?? total));
    const last = out[out.length - 1];
    if (to <= from) continue;
    if (last && from - last[1] <= GAP_BYTES) last[1] = to;
    else out.push([from, to]);
  }
  return out;
}

/** @param {Uint8Array} bytes @param {boolean} always */
function strip(bytes, always) {
  const { tensors, infosAt, dataAt, alignment, policy } = readLayout(bytes);
  if (policy === 'maps' && !always) return bytes;
  const round = (/** @type {number} */ n) => Math.ceil(n / alignment) * alignment;
  const kept = tensors.filter(({ name }) => !MAP.test(name));
  if (kept.length === tensors.length) return bytes;
  // A tensor ends where the next one in the file begins.
  const starts = [...tensors.map(({ offset }) => offset), bytes.length - dataAt].sort(
    (a, b) => a - b,
  );
  const sizeOf = (/** @type {number} */ offset) =>
    (starts.find((start) => start > offset) ?? offset) - offset;
  const infoBytes = kept.reduce((sum, { from, to }) => sum + to - from, 0);
  const newDataAt = round(infosAt + infoBytes);
  const out = new Uint8Array(
    newDataAt + kept.reduce((sum, { offset }) => sum + round(sizeOf(offset)), 0),
  );
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
