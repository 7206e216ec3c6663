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
    const first = this.#endingAfter(from - 1);
    let end = first;
    while (end < list.length && list[end][0] <= to) {
      from = Math.min(from, list[end][0]);
      to = Math.max(to, list[end][1]);
      end++;
    }
    list.splice(first, end - first, [from, to]);
  }

  /** @param {number} at @returns {number} index of the first range that ends after that byte */
  #endingAfter(at) {
    let low = 0;
    let high = this.list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.list[middle][1] <= at) low = middle + 1;
      else high = middle;
    }
    return low;
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
    for (
      let i = this.#endingAfter(from);
      i < this.list.length && this.list[i][0] < to && from < to;
      i++
    ) {
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
