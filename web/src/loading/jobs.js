/**
 * Which job starts when, and how the line is used: what a request costs on it is measured while the
 * model loads. Nothing here knows of an engine or of a network, so a test runs it by a clock of its
 * own.
 *
 * @typedef {import('./plan.js').Job} Job
 * @typedef {import('./plan.js').Plan} Plan
 * @typedef {import('./plan.js').Extent} Extent
 *
 * @typedef {'files' | 'rows' | 'urgent'} Lane
 * @typedef {object} Running
 * @property {Job} job
 * @property {number} left bytes
 * @property {Lane} lane
 * @property {number} began
 * @property {Promise<void>} [after] settles when the one is done in the middle of whose tensor it goes
 *   on
 * @property {ReturnType<typeof deferred<void>>} [ended] settles when it is done
 */
import { deferred } from '../link/platform.js';
import { Ranges } from '../cache/ranges.js';
import { JOB_BYTES, SMALL_BYTES, jobsByRange, planned, REQUEST_BYTES, Spans } from './plan.js';

const MOST_FILES = 3;
/** Short ones come whole too. */
const MOST_SHORT = 6;
const MOST_URGENT = 3;
const SHORT_BYTES = 256 * 1024;
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
/** …and of shards, of which many are short. */
const OVERLAP_MS = 50;
/** The late rows of the shortlist start so much sooner than they have to. */
const LATE_MARGIN = 1.3;
const LATE_MS = 500;

/**
 * What a request takes browser and server by themselves, before it is measured: they work on one
 * after the other.
 */
const REQUEST_MS = 4;
/**
 * That work is hidden while the line is waited for; where it brought so many bytes a millisecond it
 * would count in full.
 */
const BUSY_RATE = 50_000;
/**
 * From so many bytes a millisecond on (64 Mbit/s) it is always one stream: what requests by range
 * could win there is less than what they lose where browser, server and engine share two cores.
 */
const FAST_RATE = 8_000;
/** From one use to the next, beside the way. */
const TURN_MS = 10;
/** A job is so many times longer than what comes while an answer is waited for. */
const STREAM_LATENCIES = 8;
/** Costs of a request that are tried, in bytes. */
const COSTS = [REQUEST_BYTES, 8, 24, 64, 192, 1024].map((x, i) => (i ? x * 1024 : x));
/** The plan is made anew where the line is so many times faster or slower than it was thought to be. */
const OTHERWISE = 1.6;
const REPLAN_MS = 300;
/** …and where requests cost so much more, or less, each and together. */
const LOST_MS = 1;
const NOTED_MS = 500;
/** What they cost is told by so many of them. */
const COUNTED_REQUESTS = 100;
/** A line that brings so much of its best is thought not to have stood still. */
const STEADY = 0.9;
/** Speed is told by spans of at least so long, and the recent ones count. */
const SPAN_MS = 40;
const MEMORY_MS = 1000;
/**
 * What the line can do is the best of spans of so long and so much, of which a part is forgotten in
 * time: many requests make it look slow, which is no reason for more.
 */
const PEAK_MS = 250;
const PEAK_BYTES = 512 * 1024;
const PEAK_MEMORY_MS = 10_000;

/** What the line does: told by the requests themselves. */
export class Line {
  #bytes = 0;
  /** Start of the span that is being measured; NaN: nothing comes. */ #since = NaN;
  #ms = 0;
  #sum = 0;
  #open = 0;
  #latency = Infinity;
  #peak = 0;
  /** Of the span for the peak. */ #span = { ms: 0, bytes: 0, requests: 0 };
  /** In spans with short requests the line stood still so long, by so many of them. */ #lost = {
    ms: 0,
    requests: 0,
  };
  /** What a short request has taken of late, to its end. */ #shortMs = 0;

  /** An answer has begun. @param {number} asked when @param {number} at */
  opened(asked, at) {
    // The shortest: waiting in a queue of the browser's is no property of the line.
    this.#latency = Math.min(at - asked, this.#latency);
    if (this.#open++ === 0) this.#since = at;
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
    const { ms: spanMs, bytes, requests } = this.#span;
    if (spanMs < PEAK_MS || bytes < PEAK_BYTES) return;
    this.#peak = Math.max(bytes / spanMs, this.#peak * Math.exp(-spanMs / PEAK_MEMORY_MS));
    // Bytes come in lumps, so the best span is a little better than the line.
    const stoodMs = Math.max(0, spanMs - bytes / (STEADY * this.#peak));
    const lost = this.#lost;
    const kept = Math.exp(-requests / COUNTED_REQUESTS);
    lost.ms = lost.ms * kept + (requests ? stoodMs : 0);
    lost.requests = lost.requests * kept + requests;
    this.#span = { ms: 0, bytes: 0, requests: 0 };
  }

  /** A short request has ended. @param {number} ms since it was asked */
  tookShort(ms) {
    this.#span.requests++;
    this.#shortMs += (ms - this.#shortMs) / (this.#shortMs ? 8 : 1);
  }

  /** Bytes a millisecond of late; 0: not known yet. */
  get rate() {
    return this.#sum === 0 ? 0 : this.#sum / Math.max(this.#ms, 0.1);
  }

  /** What it can bring where requests do not hold it up. */
  get capacity() {
    return this.#peak || this.rate;
  }

  /**
   * So long the line stands still for a short request: on a device that is slow, or busy, the work
   * on it takes from the processor what the others need.
   */
  get lostMs() {
    const { ms, requests } = this.#lost;
    return requests < COUNTED_REQUESTS / 2 ? 0 : ms / requests;
  }

  /** From a request to the first byte of its answer, in milliseconds. */
  get latency() {
    return this.#latency === Infinity ? 0 : this.#latency;
  }

  /** What a short request takes, where some are on their way. */
  get shortMs() {
    return this.#shortMs || Math.max(this.latency, MOST_ROWS * REQUEST_MS);
  }
}

/**
 * The plan that suits the line: the one that neither in `exit`, nor in `full`, nor to the last byte
 * is much later than it could be. The more requests, the sooner generation can begin, as long as
 * the line is not kept waiting by them; in the end one stream is best.
 * @param {Extent[]} extents in the order of use
 * @param {Line} line
 * @returns {Plan}
 */
export function planFor(extents, { capacity, latency, shortMs, lostMs }) {
  if (capacity === 0 || extents.length === 0) return jobsByRange(extents, REQUEST_BYTES);
  const jobBytes = Math.max(JOB_BYTES, STREAM_LATENCIES * capacity * latency);
  const inFile = [...extents].sort((a, b) => a.part - b.part || a.offset - b.offset);
  const asStream = (most = jobBytes) =>
    jobsByRange(
      inFile.map((extent) => ({ ...extent, layer: 0 })),
      0,
      0,
      0,
      most,
    );
  if (capacity >= FAST_RATE) return asStream(Infinity);
  const firstLayer = extents.findIndex(({ layer }) => layer >= 0);
  const shortlist = inFile.filter(({ layer }) => layer === -2);
  const first = new Set(extents.slice(0, Math.max(0, firstLayer)));
  const early = shortlist.filter((extent) => first.has(extent));
  const late = shortlist.filter((extent) => !first.has(extent));
  const all = sum(inFile.map(({ nBytes }) => nBytes));
  const layers = sum(inFile.map(({ layer, nBytes }) => (layer > -2 ? nBytes : 0)));
  /** When so much has come by `n` requests, in so many turns one after the other. */
  const timeOf = (
    /** @type {number} */ bytes,
    /** @type {number} */ n,
    /** @type {number} */ turns,
  ) => ({
    ms:
      Math.max(bytes / capacity, (n * shortMs) / MOST_ROWS) +
      n * lostMs +
      turns * (latency + TURN_MS),
    busyMs: (capacity / BUSY_RATE) * n * REQUEST_MS,
  });
  const stream = timeOf(all, 0, 0);
  const otherCost = Math.max(
    REQUEST_BYTES,
    capacity * Math.max(REQUEST_MS, lostMs, shortMs / MOST_ROWS_ALONE),
  );
  /** When there is what `exit` needs, what `full` needs, and all. */
  const options = [{ cost: 0, lateCost: 0, times: [stream, stream, stream] }];
  for (const [i, cost] of COSTS.entries()) {
    const { lengths: soon, ranges } = joinedOver(early, cost);
    const others = late.filter(({ part, offset }) => !ranges[part]?.has(offset, offset + 1));
    const exitBytes = layers + sum(soon);
    for (const lateCost of COSTS.slice(i)) {
      const { lengths } = joinedOver(others, lateCost);
      const n = soon.length + lengths.length;
      // Short stretches of late rows come beside the layers; other rows read over some of them.
      const beside = lengths.filter((length) => length <= SMALL_BYTES);
      const readOver = [...soon, ...lengths].filter((length) => length <= otherCost);
      options.push({
        cost,
        lateCost,
        times: [
          timeOf(exitBytes + sum(beside), soon.length, 1),
          timeOf(exitBytes + sum(lengths), n, 2),
          timeOf(all + sum(readOver), 2 * n - readOver.length, 3),
        ],
      });
    }
  }
  // Never much later than one stream, nor than the plan of the most requests.
  const [{ times: one }, { times: most }] = options;
  const worst = options.map(({ times }) =>
    Math.max(...times.map(({ ms, busyMs }, i) => (ms + busyMs) / Math.min(one[i].ms, most[i].ms))),
  );
  const { cost, lateCost } = options[worst.indexOf(Math.min(...worst))];
  return cost === 0 ? asStream() : jobsByRange(extents, cost, lateCost, otherCost, jobBytes);
}

/** @param {number[]} list */
const sum = (list) => list.reduce((total, n) => total + n, 0);

/**
 * @param {Extent[]} rows in the order of the file
 * @param {number} gap
 */
function joinedOver(rows, gap) {
  /** Of each part. @type {Ranges[]} */
  const ranges = [];
  for (const { part, offset, nBytes } of rows) {
    const { list } = (ranges[part] ??= new Ranges());
    const last = list[list.length - 1];
    if (last && offset - last[1] <= gap) last[1] = offset + nBytes;
    else list.push([offset, offset + nBytes]);
  }
  return { ranges, lengths: ranges.flatMap(({ list }) => list.map(([from, to]) => to - from)) };
}

/** @param {Job} job whether it comes whole before the engine gets it */
export const isShort = ({ from, to }) => to - from <= SHORT_BYTES;

/** The jobs that are left and those under way. */
export class Jobs {
  #shards;
  #cached;
  #clock;
  /** What follows one after the other. @type {Job[]} */ #files = [];
  /** Short stretches of rows. @type {Job[]} */ #rows = [];
  /** @type {Job[]} */ #urgent = [];
  /** @type {Set<Running>} */ #running = new Set();
  /** Generation waits for the late rows of the shortlist. */ #lateWanted = false;
  #plannedRate = 0;
  #plannedLostMs = 0;
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
    this.#plannedRate = this.line.capacity;
    this.#plannedLostMs = this.line.lostMs;
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
      /** @type {Running} */
      const running = {
        job,
        left: job.to - job.from,
        lane,
        began: this.#clock(),
        after: this.#before(job)?.ended?.promise,
        ended: deferred(),
      };
      this.#running.add(running);
      out.push(running);
    };
    while (this.#urgent.length && this.#count('urgent') < MOST_URGENT) run('urgent', this.#urgent);
    while (
      this.#files.length &&
      this.#count('files') < (isShort(this.#files[0]) ? MOST_SHORT : MOST_FILES) &&
      this.#leftBytes() < (this.#cached ? 1 : this.#overlap())
    ) {
      run('files', this.#files);
    }
    while (this.#rows.length && this.#mayStart(this.#rows[0])) run('rows', this.#rows);
    return out;
  }

  /** @param {Running} running */
  done(running) {
    this.#running.delete(running);
    running.ended?.resolve();
    if (running.lane === 'rows') this.line.tookShort(this.#clock() - running.began);
  }

  /** The line is otherwise than the plan thinks. */
  get outdated() {
    if (
      this.#cached ||
      this.#shards ||
      this.#files.length + this.#rows.length === 0 ||
      this.#clock() - this.#plannedAt < REPLAN_MS
    )
      return false;
    const ratio = this.line.capacity / this.#plannedRate;
    const lost = this.line.lostMs - this.#plannedLostMs;
    return (
      ratio > OTHERWISE ||
      ratio < 1 / OTHERWISE ||
      (Math.abs(lost) > LOST_MS && this.#rows.length * Math.abs(lost) > NOTED_MS)
    );
  }

  /**
   * @param {(coming: (part: number) => Ranges) => Extent[]} missing in the order of use, what is
   *   neither there nor among what is given
   */
  replan(missing) {
    this.put(planFor(missing(planned([...this.#running].map(({ job }) => job))), this.line));
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
    const { capacity, latency } = this.line;
    return Math.max(OVERLAP_BYTES, capacity * (1.5 * latency + (this.#shards ? OVERLAP_MS : 0)));
  }

  /**
   * The one under way whose tensor a job goes on with: the bytes of a tensor come in order. Only
   * shards are cut inside one.
   * @param {Job} job
   */
  #before({ spans }) {
    if (!this.#shards) return undefined;
    const { part, offset } = spans.at(0);
    return [...this.#running].find(
      ({ job, lane }) => lane === 'files' && job.spans.endsAt(part, offset),
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
    const { rate, shortMs } = this.line;
    if (rate === 0) return false;
    return bytes / rate <= (late * shortMs * LATE_MARGIN) / MOST_ROWS + LATE_MS;
  }
}
