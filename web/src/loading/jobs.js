/**
 * Which job starts when, and how the line is used: what a request costs on it is measured while the
 * model loads. Nothing here knows of an engine or of a network, so a test runs it by a clock of its
 * own.
 *
 * @typedef {import('./plan.js').Job} Job
 * @typedef {import('./plan.js').Plan} Plan
 * @typedef {import('./plan.js').Extent} Extent
 * @typedef {import('../cache/ranges.js').Ranges} Ranges
 *
 * @typedef {'files' | 'rows' | 'urgent'} Lane
 * @typedef {{ job: Job, left: number, lane: Lane, began: number }} Running
 */
import { jobsByRange, planned, REQUEST_BYTES, Spans } from './plan.js';

// The engine keeps 4 rows that are under way; urgent rows come whole.
const MOST_FILES = 3;
const MOST_URGENT = 3;
/**
 * Short stretches of rows on their way beside the layers: a browser has six connections to a server
 * that does not speak HTTP/2.
 */
const MOST_ROWS = 4;
/** …and where no layer is on its way any more. */
const MOST_ROWS_ALONE = 6;
/**
 * The next job starts when so much of those under way is left: the line is never idle, and layers
 * do not share it. On a long line it is more.
 */
const OVERLAP_BYTES = 256 * 1024;
/** The late rows of the shortlist start so much sooner than they have to. */
const LATE_MARGIN = 1.3;
const LATE_MS = 500;

/** What a request is to browser and server, without the way between them… */
const REQUEST_MS = 5;
/**
 * …is hidden on a slow line: it counts by the third power of the line's speed, from so many bytes a
 * millisecond on in full.
 */
const BUSY_RATE = 10_000;
/** …and where nothing else is on its way it counts in full; several at a time take less each. */
const ALONE_MS = 3;
/**
 * A request that costs so much: the gaps between the rows of a shortlist are smaller, so all is
 * read, and one stream does that best.
 */
const STREAM_BYTES = 96 * 1024;
/** Waiting for answers to begin is hidden where it is such a share of the time. */
const LITTLE = 0.25;
/**
 * The plan is made anew where a request costs so many times more or less than it was thought to.
 */
const OTHERWISE = 1.6;
const REPLAN_MS = 1000;
/** Speed is told by spans of at least so long, and the recent ones count. */
const SPAN_MS = 40;
const MEMORY_MS = 1000;
/**
 * What the line can do is the best of spans of so long and so much, of which a part is forgotten in
 * time…
 */
const PEAK_MS = 250;
const PEAK_BYTES = 512 * 1024;
const PEAK_MEMORY_MS = 10_000;
/**
 * …and where less than so much of it comes, the requests of that span are the reason, if they are
 * not too few.
 */
const SLOWED = 0.85;
const FEW_REQUESTS = 8;

/** What the line does: told by the requests themselves. */
export class Line {
  #bytes = 0;
  /** Start of the span that is being measured; NaN: nothing comes. */ #since = NaN;
  #ms = 0;
  #sum = 0;
  #open = 0;
  #latency = Infinity;
  /** Whether short requests go beside a long one, so that the line is never idle for them. */ beside = false;
  #peak = 0;
  /** Of the span for the peak: its length, bytes, requests. */ #span = {
    ms: 0,
    bytes: 0,
    requests: 0,
  };
  /** What a request has cost of late, as bytes that did not come. */ #lost = 0;

  /** An answer has begun. @param {number} asked when @param {number} at */
  opened(asked, at) {
    // The shortest: waiting in a queue of the browser's is no property of the line.
    this.#latency = Math.min(at - asked, this.#latency);
    if (this.#open++ === 0) this.#since = at;
    this.#span.requests++;
  }

  /** @param {number} bytes @param {number} at */
  took(bytes, at) {
    this.#bytes += bytes;
    if (at - this.#since >= SPAN_MS) this.#tell(at);
  }

  /** An answer has ended. @param {number} at */
  closed(at) {
    if (this.#open > 0 && --this.#open > 0) return;
    this.#tell(at);
    this.#since = NaN;
  }

  /** @param {number} at */
  #tell(at) {
    const ms = at - this.#since;
    if (!(ms >= 0) || this.#bytes === 0) return;
    const fade = Math.max(0, 1 - ms / MEMORY_MS);
    this.#sum = this.#sum * fade + this.#bytes;
    this.#ms = this.#ms * fade + ms;
    this.#span.ms += ms;
    this.#span.bytes += this.#bytes;
    this.#bytes = 0;
    this.#since = at;
    if (this.#span.ms >= PEAK_MS && this.#span.bytes >= PEAK_BYTES) this.#endSpan();
  }

  #endSpan() {
    const { ms, bytes, requests } = this.#span;
    if (requests >= FEW_REQUESTS && this.beside) {
      const lost = Math.max(0, SLOWED * this.#peak * ms - bytes) / requests;
      this.#lost += (lost - this.#lost) / 4;
    }
    this.#peak = Math.max(bytes / ms, this.#peak * Math.exp(-ms / PEAK_MEMORY_MS));
    this.#span = { ms: 0, bytes: 0, requests: 0 };
  }

  /** Bytes a millisecond of late; 0: not known yet. */
  get rate() {
    return this.#sum === 0 ? 0 : this.#sum / Math.max(this.#ms, 0.1);
  }

  /**
   * What it can bring where requests do not hold it up: many of them make it look slow, which is no
   * reason for more.
   */
  get capacity() {
    return this.#peak || this.rate;
  }

  /** From a request to the first byte of its answer, in milliseconds. */
  get latency() {
    return this.#latency === Infinity ? 0 : this.#latency;
  }

  /** What a request beside others costs, in bytes. */
  get requestBytes() {
    const { capacity } = this;
    return Math.max(
      REQUEST_BYTES,
      this.#lost,
      capacity * REQUEST_MS * Math.min(1, (capacity / BUSY_RATE) ** 3),
    );
  }

  /** …and where nothing else is on its way. */
  get bareBytes() {
    return Math.max(
      this.requestBytes,
      this.capacity * Math.max(ALONE_MS, this.latency / MOST_ROWS_ALONE),
    );
  }

  /**
   * Whether all is best asked for at once; what has begun so goes on until a request costs half of
   * that, on a line a fifth slower. @param {boolean} begun
   */
  streams(begun) {
    return this.requestBytes >= (begun ? STREAM_BYTES / 2 : STREAM_BYTES);
  }
}

/**
 * The plan that suits the line: the more requests, the sooner generation can begin, as long as the
 * line is not kept waiting by them.
 * @param {Extent[]} extents in the order of use
 * @param {Line} line
 * @returns {Plan}
 */
export function planFor(extents, line) {
  const { capacity: rate, latency, requestBytes, bareBytes } = line;
  let plan = jobsByRange(extents, requestBytes, bareBytes);
  if (rate === 0 || timesOf(plan, rate, latency).waits < LITTLE) return plan;
  const whole = extents.reduce((sum, { nBytes }) => sum + nBytes, 0) / rate;
  const least = timesOf(jobsByRange(extents, REQUEST_BYTES), rate, latency);
  // The one that in none of the three is much later than it could be: by the fewest bytes, or by
  // one stream.
  let best = Infinity;
  let soonest = plan;
  for (let cost = requestBytes; ; cost *= 2) {
    for (let late = cost; ; late *= 2) {
      plan = jobsByRange(extents, cost, Math.max(late, bareBytes), late);
      const { exit, full, all } = timesOf(plan, rate, latency);
      const worst = Math.max(
        exit / Math.min(whole, least.exit),
        full / Math.min(whole, least.full),
        all / Math.min(whole, least.all),
      );
      if (worst < best) [best, soonest] = [worst, plan];
      if (late >= STREAM_BYTES) break;
    }
    if (cost >= STREAM_BYTES) break;
  }
  return soonest;
}

/**
 * When a plan brings what, and how much of that is waiting for answers to begin.
 * @param {Plan} plan
 * @param {number} rate
 * @param {number} latency
 */
function timesOf({ jobs, rows }, rate, latency) {
  /** Bytes and short requests of each use. @type {Record<string, { bytes: number, n: number }>} */
  const of = {
    early: { bytes: 0, n: 0 },
    layer: { bytes: 0, n: 0 },
    late: { bytes: 0, n: 0 },
    other: { bytes: 0, n: 0 },
  };
  for (const { use, from, to } of jobs) of[use ?? 'other'].bytes += to - from;
  for (const { use, from, to } of rows) {
    of[use ?? 'other'].bytes += to - from;
    of[use ?? 'other'].n++;
  }
  const { early, layer, late, other } = of;
  const exit = Math.max((early.bytes + layer.bytes) / rate, (early.n * latency) / MOST_ROWS);
  const full = Math.max(
    (early.bytes + layer.bytes + late.bytes) / rate,
    ((early.n + late.n) * latency) / MOST_ROWS,
  );
  const rest = Math.max(other.bytes / rate, (other.n * latency) / MOST_ROWS_ALONE);
  return {
    exit,
    full,
    all: full + rest,
    waits: ((early.n + late.n + other.n) * latency) / MOST_ROWS / (full + rest),
  };
}

/** The jobs that are left and those under way. */
export class Jobs {
  #shards;
  #cached;
  #clock;
  /** What follows one after the other. @type {Job[]} */ #files = [];
  /** Short stretches of rows. @type {Job[]} */ #rows = [];
  /** @type {Job[]} */ #urgent = [];
  /** @type {Set<Running>} */ #running = new Set();
  /** What a short stretch of rows has taken of late. */ #rowsMs = 0;
  /** Generation waits for the late rows of the shortlist. */ #lateWanted = false;
  #plannedCost = 0;
  #plannedAt = 0;
  line = new Line();

  /**
   * @param {{ shards: boolean, cached: boolean, clock: () => number }} options `cached`: nothing
   *   has to be asked for
   */
  constructor({ shards, cached, clock }) {
    this.#shards = shards;
    this.#cached = cached;
    this.#clock = clock;
  }

  /** @param {Plan} plan */
  put({ jobs, rows }) {
    this.#files = [...jobs];
    this.#rows = [...rows];
    this.#plannedCost = this.line.bareBytes;
    this.#plannedAt = this.#clock();
  }

  /** Nothing more starts. */
  clear() {
    this.#files = [];
    this.#rows = [];
    this.#urgent = [];
  }

  /** The first of them, to be run by itself. @returns {Job | undefined} */
  shift() {
    return this.#files.shift();
  }

  get idle() {
    return this.#running.size + this.#files.length + this.#rows.length + this.#urgent.length === 0;
  }

  /** Whether something may start now that so much of a job is left. @param {Running} running */
  mayGoOn({ left }) {
    return left < this.#overlap() || (this.#rows.length > 0 && this.#count('rows') === 0);
  }

  /** What starts now; the caller runs it and says `done`. @returns {Running[]} */
  start() {
    /** @type {Running[]} */
    const out = [];
    const run = (/** @type {Lane} */ lane, /** @type {Job[]} */ queue) => {
      const job = /** @type {Job} */ (queue.shift());
      const running = { job, left: job.to - job.from, lane, began: this.#clock() };
      this.#running.add(running);
      out.push(running);
    };
    while (this.#urgent.length && this.#count('urgent') < MOST_URGENT) run('urgent', this.#urgent);
    while (
      this.#files.length &&
      this.#count('files') < MOST_FILES &&
      this.#leftBytes() < (this.#cached ? 1 : this.#overlap()) &&
      !this.#continues(this.#files[0])
    ) {
      run('files', this.#files);
    }
    while (this.#rows.length && this.#mayStart(this.#rows[0])) run('rows', this.#rows);
    this.line.beside = this.#count('files') > 0;
    return out;
  }

  /** @param {Running} running */
  done(running) {
    this.#running.delete(running);
    if (running.lane === 'rows')
      this.#rowsMs += (this.#clock() - running.began - this.#rowsMs) / (this.#rowsMs ? 8 : 1);
  }

  /** What a request costs is otherwise than the plan thinks. */
  get outdated() {
    if (
      this.#cached ||
      this.#shards ||
      this.#rows.length === 0 ||
      this.#clock() - this.#plannedAt < REPLAN_MS
    )
      return false;
    const ratio = this.line.bareBytes / this.#plannedCost;
    return ratio > OTHERWISE || ratio < 1 / OTHERWISE;
  }

  /**
   * Rows are planned anew; layers follow each other as before.
   * @param {(covered: (part: number) => Ranges) => Extent[]} missing rows in the order of use that
   *   are neither there nor among what is given
   */
  replan(missing) {
    const { jobs, rows } = planFor(
      missing(planned([...this.#running].map(({ job }) => job))),
      this.line,
    );
    const early = jobs.filter(({ use }) => use === 'early');
    const layers = this.#files.filter(({ use }) => use === 'layer');
    this.put({ jobs: [...early, ...layers, ...jobs.filter(({ use }) => use !== 'early')], rows });
  }

  /**
   * Rows that generation waits for: what brings them goes first.
   * @param {number} part
   * @param {number} offset
   * @param {number} bytes with those after them, where nothing else brings them
   */
  need(part, offset, bytes) {
    if (this.#isOnItsWay(part, offset)) return;
    const covers = (/** @type {Job} */ { spans }) => spans.covers(part, offset);
    if (this.#shards) {
      const shard = this.#files.findIndex(covers);
      if (shard >= 0) this.#urgent.push(...this.#files.splice(shard, 1));
      return;
    }
    const at = this.#rows.findIndex(covers);
    if (at >= 0 && this.#rows[at].use !== 'other') {
      // With its neighbours, which are wanted next.
      if (this.#rows[at].use === 'late') this.#lateWanted = true;
      this.#rows.unshift(...this.#rows.splice(at, 1));
      return;
    }
    // they come before the layers
    if (this.#files.some((job) => job.use === 'early' && covers(job))) return;
    this.#urgent.push({
      file: part,
      from: offset,
      to: offset + bytes,
      spans: new Spans([{ at: offset, part, offset, bytes }]),
      use: 'urgent',
    });
  }

  /** @param {number} part @param {number} offset */
  #isOnItsWay(part, offset) {
    const covers = (/** @type {Job} */ { spans }) => spans.covers(part, offset);
    if (this.#urgent.some(covers)) return true;
    // A long stretch of other rows is not waited for.
    return [...this.#running].some(
      ({ job, lane }) => (lane !== 'files' || job.use !== 'other') && covers(job),
    );
  }

  /** @param {Lane} lane */
  #count(lane) {
    let n = 0;
    for (const running of this.#running) if (running.lane === lane) n++;
    return n;
  }

  #leftBytes() {
    let left = 0;
    for (const running of this.#running) if (running.lane === 'files') left += running.left;
    return left;
  }

  /** An answer that is asked for now begins before those under way have ended. */
  #overlap() {
    return Math.max(OVERLAP_BYTES, 1.5 * this.line.capacity * this.line.latency);
  }

  /**
   * Whether a job goes on in the middle of what one under way brings: the bytes of a tensor come in
   * order. Only shards are cut inside one.
   * @param {Job} job
   */
  #continues({ spans }) {
    const { part, offset } = spans.at(0);
    return (
      this.#shards &&
      [...this.#running].some(({ job, lane }) => lane === 'files' && job.spans.endsAt(part, offset))
    );
  }

  /**
   * Whether a short stretch of rows goes out now. Those that a head inside the model scores do; the
   * rest of the shortlist so that it is there when the last layer is, for before that it would only
   * hold the layers up; other rows after all of that.
   * @param {Job} job
   */
  #mayStart({ use }) {
    const n = this.#count('rows');
    if (n >= MOST_ROWS_ALONE) return false;
    let left = 0;
    for (const { job, left: bytes, lane } of this.#running)
      if (lane === 'files' && job.use !== 'other') left += bytes;
    for (const job of this.#files) if (job.use !== 'other') left += job.to - job.from;
    if (n >= MOST_ROWS && (left > 0 || this.#count('files') > 0)) return false;
    if (use === 'early') return true;
    if (use === 'other') return left < OVERLAP_BYTES / 4;
    if (this.#lateWanted || left === 0) return true;
    let late = 0;
    let bytes = left;
    for (const job of this.#rows) {
      if (job.use !== 'late') continue;
      late++;
      bytes += job.to - job.from;
    }
    const { rate } = this.line;
    if (rate === 0) return false;
    return bytes / rate <= (late * this.#rowsMs * LATE_MARGIN) / MOST_ROWS + LATE_MS;
  }
}
