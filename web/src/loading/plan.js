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
    this.#numbers = new Float64Array(list.length * 4);
    for (const [i, { at, part, offset, bytes }] of list.entries())
      this.#numbers.set([at, part, offset, bytes], 4 * i);
  }

  get length() {
    return this.#numbers.length / 4;
  }

  /** @param {number} index @returns {Span} */
  at(index) {
    const [at, part, offset, bytes] = this.#numbers.subarray(4 * index, 4 * index + 4);
    return { at, part, offset, bytes };
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
const JOB_BYTES = 8 * 2 ** 20;
/** Stretches of rows up to this size go beside the others, and into the engine whole. */
const SMALL_BYTES = 128 * 1024;

/** @typedef {[part: number, from: number, to: number]} Stretch */

/**
 * @typedef {object} Plan
 * @property {Job[]} jobs what follows one after the other: layers, and long stretches of rows
 * @property {Job[]} rows short stretches of rows, to be fetched beside them, in the order of use
 */

/**
 * Jobs for a file that is fetched by ranges, in the order of the plan. Rows of the shortlist that
 * lie close together become one stretch, with what is between them: so many requests cost more than
 * those bytes.
 * @param {Extent[]} extents in the order of use
 * @param {number} requestBytes what a request costs
 * @param {number} [bareBytes] what one for other rows costs, at the end; 0: no byte is planned
 *   twice
 * @param {number} [lateBytes] what one for late rows costs
 * @returns {Plan}
 */
export function jobsByRange(extents, requestBytes, bareBytes = 0, lateBytes = requestBytes) {
  const firstLayer = extents.findIndex(({ layer }) => layer >= 0);
  const isEarly = (/** @type {number} */ order) => order < firstLayer;
  const { joined: shortlist, gap } = joinRows(
    extents.map((_, order) => order).filter((order) => extents[order].layer === -2),
    extents,
    requestBytes,
  );
  shortlist.sort((a, b) => a.order - b.order);
  const early = shortlist.filter(({ order }) => isEarly(order));
  let late = { joined: shortlist.slice(early.length), gap };
  if (lateBytes > requestBytes) {
    const places = late.joined.map(({ stretch: [part, from, to] }) => ({
      part,
      offset: from,
      nBytes: to - from,
    }));
    late = joinRows(
      places.map((_, order) => order),
      places,
      lateBytes,
    );
    late.joined.sort((a, b) => a.order - b.order);
  }
  /** Of each part. @type {Ranges[]} */
  const listed = [];
  for (const {
    stretch: [part, from, to],
  } of [...early, ...late.joined])
    (listed[part] ??= new Ranges()).add(from, to);
  const others = extents
    .filter(({ layer }) => layer < -2)
    .flatMap((extent) =>
      (
        listed[extent.part]?.missing(extent.offset, extent.offset + extent.nBytes) ?? [
          [extent.offset, extent.offset + extent.nBytes],
        ]
      ).map(([from, to]) => ({ ...extent, offset: from, nBytes: to - from })),
    );
  const rest = joinRows(
    others.map((_, order) => order),
    others,
    bareBytes,
  );
  /** @type {Plan} */
  const plan = { jobs: [], rows: [] };
  const put = (/** @type {Stretch[]} */ stretches, /** @type {Job['use']} */ use, over = 0) => {
    for (const [part, from, to] of stretches) {
      const job = {
        file: part,
        from,
        to,
        spans: new Spans([{ at: from, part, offset: from, bytes: to - from }]),
        use,
        gap: over,
      };
      (use !== 'layer' && to - from <= SMALL_BYTES ? plan.rows : plan.jobs).push(job);
    }
  };
  put(
    early.map(({ stretch }) => stretch),
    'early',
    gap,
  );
  put(
    joinTouching(
      extents
        .filter(({ layer }) => layer > -2)
        .map(({ part, offset, nBytes }) => [part, offset, offset + nBytes]),
    ),
    'layer',
  );
  put(
    late.joined.map(({ stretch }) => stretch),
    'late',
    late.gap,
  );
  put(
    rest.joined.map(({ stretch }) => stretch),
    'other',
    rest.gap,
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
 * @returns {Stretch[]}
 */
function joinTouching(stretches) {
  /** @type {Stretch[]} */
  const out = [];
  for (const [part, from, to] of stretches) {
    const last = out[out.length - 1];
    if (last && last[0] === part && last[2] === from && last[2] - last[1] < JOB_BYTES) last[2] = to;
    else out.push([part, from, to]);
  }
  return out;
}

/** @typedef {Pick<Extent, 'part' | 'offset' | 'nBytes'>} Place */
/** @typedef {{ stretch: Stretch, order: number }} Joined `order`: of the first extent in it */

/**
 * Runs of rows, joined over the gap with which requests and bytes fetched beside the point cost
 * least.
 * @param {number[]} orders which extents
 * @param {Place[]} extents
 * @param {number} requestBytes
 * @returns {{ joined: Joined[], gap: number }} in the order of the file
 */
function joinRows(orders, extents, requestBytes) {
  const byPlace = orders.sort(
    (a, b) => extents[a].part - extents[b].part || extents[a].offset - extents[b].offset,
  );
  let best = 0;
  let leastCost = Infinity;
  for (let gap = 0; gap <= 2 ** 20; gap = gap === 0 ? 512 : Math.round(gap * 1.3)) {
    const cost = costOver(extents, byPlace, gap, requestBytes);
    if (cost < leastCost) [best, leastCost] = [gap, cost];
  }
  return { joined: joinOver(extents, byPlace, best), gap: best };
}

/**
 * What joinOver's stretches cost. There are some thousand runs and some gaps: nothing is allocated.
 * @param {Place[]} extents
 * @param {number[]} byPlace
 * @param {number} gap
 * @param {number} requestBytes
 */
function costOver(extents, byPlace, gap, requestBytes) {
  let cost = 0;
  let lastPart = -1;
  let from = 0;
  let to = 0;
  for (const order of byPlace) {
    const { part, offset, nBytes } = extents[order];
    if (part === lastPart && offset - to <= gap && offset + nBytes - from <= JOB_BYTES) {
      cost += Math.max(0, offset + nBytes - to);
      to = Math.max(to, offset + nBytes);
    } else {
      cost += requestBytes + nBytes;
      lastPart = part;
      from = offset;
      to = offset + nBytes;
    }
  }
  return cost;
}

/**
 * @param {Place[]} extents
 * @param {number[]} byPlace their numbers
 * @param {number} gap
 * @returns {Joined[]}
 */
function joinOver(extents, byPlace, gap) {
  /** @type {Joined[]} */
  const out = [];
  for (const order of byPlace) {
    const { part, offset, nBytes } = extents[order];
    const last = out[out.length - 1];
    if (
      last &&
      last.stretch[0] === part &&
      offset - last.stretch[2] <= gap &&
      offset + nBytes - last.stretch[1] <= JOB_BYTES
    ) {
      last.stretch[2] = Math.max(last.stretch[2], offset + nBytes);
      last.order = Math.min(last.order, order);
    } else out.push({ stretch: [part, offset, offset + nBytes], order });
  }
  return out;
}

/** Where the rows of the token embedding lie. As numbers, like Spans. */
export class Rows {
  /** row, nRows, part, offset, bytes of a row, layer; of each stretch. */ #numbers =
    new Float64Array(6 * 64);
  #length = 0;
  /** Of the stretches that come before the layers. */ #earlyLength = -1;
  /** A separate output matrix has rows too: they are not here. */ separate = false;

  /** @param {Extent} extent what is no row of the embedding is passed over */
  add({ part, offset, nBytes, layer, row, nRows, output }) {
    if (layer >= 0 && this.#earlyLength < 0) this.#earlyLength = this.#length;
    this.separate ||= output;
    if (layer > -2 || output) return;
    if (this.#length === this.#numbers.length) {
      const more = new Float64Array(this.#length * 2);
      more.set(this.#numbers);
      this.#numbers = more;
    }
    this.#numbers.set([row, nRows, part, offset, nBytes / nRows, layer], this.#length);
    this.#length += 6;
  }

  /**
   * Those that neither of the two has, in the order of use, with the layers as one extent between
   * them.
   * @param {Ranges[]} have of each part
   * @param {(part: number) => Ranges} coming
   * @param {number} bytes all that is missing
   * @returns {Extent[]}
   */
  missing(have, coming, bytes) {
    /** @type {Extent[]} */
    const out = [];
    const layers = { part: 0, offset: 0, nBytes: bytes, layer: 0, row: 0, nRows: 0, output: false };
    for (let i = 0; i < this.#length; i += 6) {
      if (i === this.#earlyLength) out.push(layers);
      const [row, nRows, part, offset, rowBytes, layer] = this.#numbers.subarray(i, i + 6);
      for (const [a, b] of have[part].missing(offset, offset + nRows * rowBytes)) {
        layers.nBytes -= b - a;
        for (const [from, to] of coming(part).missing(a, b)) {
          out.push({
            part,
            offset: from,
            nBytes: to - from,
            layer,
            row: row + (from - offset) / rowBytes,
            nRows: (to - from) / rowBytes,
            output: false,
          });
        }
      }
    }
    return out;
  }

  /**
   * @param {number} row
   * @returns {{ part: number, offset: number, rowBytes: number, rowsAfter: number } | null}
   */
  find(row) {
    for (let i = 0; i < this.#length; i += 6) {
      const first = this.#numbers[i];
      if (row < first || row >= first + this.#numbers[i + 1]) continue;
      const [, nRows, part, offset, rowBytes] = this.#numbers.subarray(i, i + 5);
      return {
        part,
        offset: offset + (row - first) * rowBytes,
        rowBytes,
        rowsAfter: first + nRows - row,
      };
    }
    return null;
  }
}
