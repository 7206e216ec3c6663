/**
 * Which bytes, in which order.
 *
 * @typedef {object} Extent bytes of the original file that belong together, as the engine tells them
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
 * @property {Span[]} spans they cover [from, to), in its order
 * @property {string} [sha256] of a whole shard
 * @property {boolean} [urgent] rows that generation waits for
 */

/** A set of byte ranges. */
export class Ranges {
  /** Disjoint, ascending, never touching. @type {[number, number][]} */
  list = [];

  /**
   * @param {number} from
   * @param {number} to
   */
  add(from, to) {
    if (to <= from) return;
    const { list } = this;
    const last = list[list.length - 1];
    if (last && from >= last[0]) {
      // the usual case: bytes that follow
      if (from <= last[1]) {
        last[1] = Math.max(last[1], to);
        return;
      }
      list.push([from, to]);
      return;
    }
    let first = 0;
    while (first < list.length && list[first][1] < from) first++;
    let end = first;
    while (end < list.length && list[end][0] <= to) {
      from = Math.min(from, list[end][0]);
      to = Math.max(to, list[end][1]);
      end++;
    }
    list.splice(first, end - first, [from, to]);
  }

  /**
   * @param {number} from
   * @param {number} to
   */
  has(from, to) {
    return this.missing(from, to).length === 0;
  }

  /**
   * @param {number} from
   * @param {number} to
   * @returns {[number, number][]} what of [from, to) is not in the set
   */
  missing(from, to) {
    /** @type {[number, number][]} */
    const out = [];
    let low = 0;
    let high = this.list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.list[middle][1] <= from) low = middle + 1;
      else high = middle;
    }
    for (let i = low; i < this.list.length && this.list[i][0] < to && from < to; i++) {
      const [a, b] = this.list[i];
      if (a > from) out.push([from, a]);
      from = Math.max(from, b);
    }
    if (from < to) out.push([from, to]);
    return out;
  }

  get total() {
    return this.list.reduce((sum, [from, to]) => sum + to - from, 0);
  }
}

/** What a request costs, in bytes that the line could have brought meanwhile. */
const REQUEST_BYTES = 32 * 1024;
/** Jobs end at about this size, so that a late one does not hold the rest up. */
const JOB_BYTES = 8 * 2 ** 20;

/**
 * Jobs for a file that is fetched by ranges, in the order of the plan. Rows that lie close together become one stretch, with what is
 * between them: so many requests cost more than those bytes.
 * @param {Extent[]} extents in the order of use
 * @returns {Job[]}
 */
export function jobsByRange(extents) {
  /** @type {Job[]} */
  const jobs = [];
  for (let i = 0; i < extents.length; ) {
    const rows = extents[i].layer <= -2;
    let end = i + 1;
    while (end < extents.length && (rows ? extents[end].layer === extents[i].layer : extents[end].layer > -2)) end++;
    const group = extents.slice(i, end);
    const stretches = rows ? joinRows(group) : joinTouching(group);
    for (const [part, from, to] of stretches) {
      jobs.push({ file: part, from, to, spans: [{ at: from, part, offset: from, bytes: to - from }] });
    }
    i = end;
  }
  return jobs;
}

/** @typedef {[part: number, from: number, to: number]} Stretch */

/**
 * @param {Extent[]} extents
 * @returns {Stretch[]}
 */
function joinTouching(extents) {
  /** @type {Stretch[]} */
  const out = [];
  for (const { part, offset, nBytes } of extents) {
    const last = out[out.length - 1];
    if (last && last[0] === part && last[2] === offset && last[2] - last[1] < JOB_BYTES) last[2] += nBytes;
    else out.push([part, offset, offset + nBytes]);
  }
  return out;
}

/**
 * Runs of rows, joined over the gap with which requests and bytes fetched beside the point cost least; in the order of the first extent
 * of each.
 * @param {Extent[]} extents
 * @returns {Stretch[]}
 */
function joinRows(extents) {
  const sorted = extents.map((e, order) => ({ ...e, order })).sort((a, b) => a.part - b.part || a.offset - b.offset);
  /** @type {{ stretch: Stretch, order: number }[]} */
  let best = [];
  let leastCost = Infinity;
  for (let gap = 0; gap <= 2 ** 20; gap = gap === 0 ? 512 : gap * 2) {
    const joined = joinOver(sorted, gap);
    const cost = joined.reduce((sum, { stretch: [, from, to] }) => sum + REQUEST_BYTES + to - from, 0);
    if (cost < leastCost) [best, leastCost] = [joined, cost];
  }
  return best.sort((a, b) => a.order - b.order).map(({ stretch }) => stretch);
}

/**
 * @param {(Extent & { order: number })[]} sorted by place
 * @param {number} gap
 */
function joinOver(sorted, gap) {
  /** @type {{ stretch: Stretch, order: number }[]} */
  const out = [];
  for (const { part, offset, nBytes, order } of sorted) {
    const last = out[out.length - 1];
    if (last && last.stretch[0] === part && offset - last.stretch[2] <= gap && offset + nBytes - last.stretch[1] <= JOB_BYTES) {
      last.stretch[2] = Math.max(last.stretch[2], offset + nBytes);
      last.order = Math.min(last.order, order);
    } else out.push({ stretch: [part, offset, offset + nBytes], order });
  }
  return out;
}

/**
 * Where a row of the token embedding lies.
 * @param {Extent[]} extents
 * @param {number} row
 * @returns {{ part: number, offset: number, rowBytes: number, rowsAfter: number } | null}
 */
export function findRow(extents, row) {
  for (const { part, offset, nBytes, layer, row: first, nRows, output } of extents) {
    if (layer > -2 || output || row < first || row >= first + nRows) continue;
    const rowBytes = nBytes / nRows;
    return { part, offset: offset + (row - first) * rowBytes, rowBytes, rowsAfter: first + nRows - row };
  }
  return null;
}
