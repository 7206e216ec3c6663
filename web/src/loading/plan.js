/**
 * Which bytes, in which order.
 *
 * @typedef {object} Extent bytes of the original file that belong together, as the engine tells
 *   them
 * @property {number} part file of a split model
 * @property {number} offset
 * @property {number} nBytes
 * @property {number} layer 0…: a layer; -1: norms; -2: shortlist rows; -3: other rows
 * @property {number} row
 * @property {number} nRows
 * @property {boolean} output rows of a separate output matrix
 *
 * @typedef {object} Span bytes of a fetched file and where they belong in the original
 * @property {number} at offset in the fetched file
 * @property {number} part
 * @property {number} offset offset in the original
 * @property {number} bytes
 *
 * @typedef {object} Job one stretch of one fetched file
 * @property {number} file its number
 * @property {number} from
 * @property {number} to
 * @property {Spans} spans they cover [from, to), in its order
 * @property {string} [sha256] of a whole shard
 * @property {string[]} [pieces] and of each part of it
 * @property {'early' | 'layer' | 'late' | 'other' | 'urgent'} [use] of a file by ranges: rows of
 *   the shortlist that a head inside the model scores, layers, the other rows of the shortlist,
 *   other rows; rows that generation waits for
 * @property {number} [gap] bytes that are there already are read over up to so many, rather than to
 *   ask twice
 */
import { Ranges } from '../cache/ranges.js';

/**
 * A list of spans. As numbers: a packed model has some ten thousand, and a Worker counts each byte.
 */
export class Spans {
  /** at, part, offset, bytes of each. */ #numbers;

  /** @param {Span[]} list in the order of `at`, without gaps */
  constructor(list) {
    const numbers = new Float64Array(list.length * 4);
    for (let i = 0; i < list.length; i++) {
      const span = list[i];
      numbers[4 * i] = span.at;
      numbers[4 * i + 1] = span.part;
      numbers[4 * i + 2] = span.offset;
      numbers[4 * i + 3] = span.bytes;
    }
    this.#numbers = numbers;
  }

  get length() {
    return this.#numbers.length / 4;
  }

  /** @param {number} index @returns {Span} */
  at(index) {
    const [at, part, offset, bytes] = this.#numbers.subarray(4 * index, 4 * index + 4);
    return { at, part, offset, bytes };
  }

  /**
   * At most `most` spans from number `index` on, as four numbers each.
   * @param {number} index @param {number} most
   */
  numbers(index, most) {
    return this.#numbers.subarray(4 * index, 4 * (index + most));
  }

  /** @param {number} at in the fetched file @returns {number} index of the span with this byte */
  indexAt(at) {
    let low = 0;
    let high = this.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#numbers[4 * middle] <= at) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /**
   * @param {number} part @param {number} offset in the original @returns {boolean} whether that
   *   byte is among them
   */
  covers(part, offset) {
    const n = this.#numbers;
    for (let i = 0; i < n.length; i += 4)
      if (n[i + 1] === part && n[i + 2] <= offset && offset < n[i + 2] + n[i + 3]) return true;
    return false;
  }

  /**
   * @param {number} part @param {number} offset in the original @returns {boolean} whether a span
   *   ends just before that byte
   */
  endsAt(part, offset) {
    const n = this.#numbers;
    for (let i = 0; i < n.length; i += 4)
      if (n[i + 1] === part && n[i + 2] + n[i + 3] === offset) return true;
    return false;
  }
}

/**
 * What a request for a stretch of rows costs at least, in bytes: some go at a time beside the
 * layers, so the line is never idle for them.
 */
export const REQUEST_BYTES = 3 * 1024;
/** …where nothing has to be asked for: a copy in the cache, a file of this device. */
export const READ_BYTES = 2 ** 20;
/** Jobs end at about this size, so that a late one does not hold the rest up. */
export const JOB_BYTES = 8 * 2 ** 20;
/** Stretches of rows up to this size go beside the others, and into the engine whole. */
export const SMALL_BYTES = 128 * 1024;

/** @typedef {[part: number, from: number, to: number]} Stretch */

/**
 * @typedef {object} Plan
 * @property {Job[]} jobs what follows one after the other: layers, and long stretches of rows
 * @property {Job[]} rows short stretches of rows, to be fetched beside them, in the order of use
 */

/**
 * Jobs for a file that is fetched by ranges, in the order of the plan. Rows for the same use between
 * which fewer bytes lie than a request costs become one stretch, with what is between them.
 * @param {Extent[]} extents in the order of use
 * @param {number} earlyBytes what a request for early rows costs
 * @param {number} [lateBytes] one for late rows
 * @param {number} [otherBytes] one for other rows; 0: no byte is planned twice
 * @param {number} [jobBytes] the longest job
 * @returns {Plan}
 */
export function jobsByRange(
  extents,
  earlyBytes,
  lateBytes = earlyBytes,
  otherBytes = 0,
  jobBytes = JOB_BYTES,
) {
  const firstLayer = extents.findIndex(({ layer }) => layer >= 0);
  /** Rows that are in the plan, of each part. @type {Ranges[]} */
  const listed = [];
  /** @type {Plan} */
  const plan = { jobs: [], rows: [] };
  const put = (/** @type {Stretch[]} */ stretches, /** @type {Job['use']} */ use, gap = 0) => {
    for (const [part, from, to] of stretches) {
      const spans = new Spans([{ at: from, part, offset: from, bytes: to - from }]);
      const job = { file: part, from, to, spans, use, gap };
      (use !== 'layer' && to - from <= SMALL_BYTES ? plan.rows : plan.jobs).push(job);
    }
  };
  const putRows = (/** @type {Extent[]} */ rows, /** @type {Job['use']} */ use, gap = 0) => {
    const missing = rows.flatMap(({ part, offset, nBytes }, order) => {
      const ranges = (listed[part] ??= new Ranges()).missing(offset, offset + nBytes);
      return ranges.map(([from, to]) => ({
        stretch: /** @type {Stretch} */ ([part, from, to]),
        order,
      }));
    });
    const stretches = joinRows(missing, gap, jobBytes);
    for (const [part, from, to] of stretches) listed[part].add(from, to);
    put(stretches, use, gap);
  };
  const shortlist = (/** @type {Extent} */ { layer }) => layer === -2;
  putRows(extents.slice(0, Math.max(0, firstLayer)).filter(shortlist), 'early', earlyBytes);
  put(
    joinTouching(
      extents
        .filter(({ layer }) => layer > -2)
        .map(({ part, offset, nBytes }) => [part, offset, offset + nBytes]),
      jobBytes,
    ),
    'layer',
  );
  putRows(extents.slice(Math.max(0, firstLayer)).filter(shortlist), 'late', lateBytes);
  putRows(
    extents.filter(({ layer }) => layer < -2),
    'other',
    otherBytes,
  );
  return plan;
}

/**
 * @param {Job[]} jobs of files by ranges
 * @returns {(part: number) => Ranges} what they bring
 */
export function planned(jobs) {
  /** @type {Ranges[]} */
  const of = [];
  for (const { file, from, to } of jobs) (of[file] ??= new Ranges()).add(from, to);
  return (part) => (of[part] ??= new Ranges());
}

/**
 * @param {Stretch[]} stretches
 * @param {number} most bytes of one
 * @returns {Stretch[]}
 */
function joinTouching(stretches, most) {
  /** @type {Stretch[]} */
  const out = [];
  for (const [part, from, to] of stretches) {
    const last = out[out.length - 1];
    if (last && last[0] === part && last[2] === from && last[2] - last[1] < most) last[2] = to;
    else out.push([part, from, to]);
  }
  return out;
}

/**
 * @param {{ stretch: Stretch, order: number }[]} rows
 * @param {number} gap
 * @param {number} most bytes of one
 * @returns {Stretch[]} in the order of the first row in each
 */
function joinRows(rows, gap, most) {
  /** @type {typeof rows} */
  const out = [];
  rows.sort((a, b) => a.stretch[0] - b.stretch[0] || a.stretch[1] - b.stretch[1]);
  for (const row of rows) {
    const last = out[out.length - 1];
    const [part, from, to] = row.stretch;
    const joins =
      last?.stretch[0] === part && from - last.stretch[2] <= gap && to - last.stretch[1] <= most;
    if (joins) {
      last.stretch[2] = to;
      last.order = Math.min(last.order, row.order);
    } else out.push(row);
  }
  return out.sort((a, b) => a.order - b.order).map(({ stretch }) => stretch);
}

/** The extents of a file, and where the rows of the token embedding lie. As numbers, like Spans. */
export class Rows {
  /** row, nRows, part, offset, bytes, layer, output; of each extent. */ #numbers =
    new Float64Array(7 * 64);
  #length = 0;

  /** @param {Extent} extent */
  add({ part, offset, nBytes, layer, row, nRows, output }) {
    if (this.#length === this.#numbers.length) {
      const more = new Float64Array(this.#length * 2);
      more.set(this.#numbers);
      this.#numbers = more;
    }
    this.#numbers.set([row, nRows, part, offset, nBytes, layer, Number(output)], this.#length);
    this.#length += 7;
  }

  /** @param {number} i @returns {Extent} */
  #at(i) {
    const [row, nRows, part, offset, nBytes, layer, output] = this.#numbers.subarray(i, i + 7);
    return { row, nRows, part, offset, nBytes, layer, output: output !== 0 };
  }

  /**
   * Those that neither of the two has, in the order of use.
   * @param {Ranges[]} have of each part
   * @param {(part: number) => Ranges} coming
   * @returns {Extent[]}
   */
  missing(have, coming) {
    /** @type {Extent[]} */
    const out = [];
    for (let i = 0; i < this.#length; i += 7) {
      const extent = this.#at(i);
      const { part, offset, nBytes } = extent;
      for (const [a, b] of have[part].missing(offset, offset + nBytes))
        for (const [from, to] of coming(part).missing(a, b))
          out.push({ ...extent, offset: from, nBytes: to - from });
    }
    return out;
  }

  /**
   * Where a row of the embedding begins, told by any other one.
   * @param {number} wanted
   * @returns {{ part: number, offset: number } | null} null: no row of it is known
   */
  placeOf(wanted) {
    for (let i = 0; i < this.#length; i += 7) {
      const { row, nRows, part, offset, nBytes, layer, output } = this.#at(i);
      if (layer <= -2 && !output)
        return { part, offset: offset + ((wanted - row) * nBytes) / nRows };
    }
    return null;
  }

  /**
   * @param {number} wanted row of the embedding
   * @returns {{ part: number, offset: number, rowBytes: number, rowsAfter: number } | null}
   */
  find(wanted) {
    for (let i = 0; i < this.#length; i += 7) {
      const first = this.#numbers[i];
      if (wanted < first || wanted >= first + this.#numbers[i + 1]) continue;
      const { row, nRows, part, offset, nBytes, layer, output } = this.#at(i);
      if (layer > -2 || output) continue;
      const rowBytes = nBytes / nRows;
      return {
        part,
        offset: offset + (wanted - row) * rowBytes,
        rowBytes,
        rowsAfter: row + nRows - wanted,
      };
    }
    return null;
  }
}
