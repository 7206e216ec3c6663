// The order and the size of requests, on lines of any kind, by a clock that jumps: no engine, no
// network. A plan must never lose to the file read in one stream, nor, up to 64 Mbit/s, to the one that
// counts 3 KB a request on every line.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ranges } from '../../web/src/cache/ranges.js';
import { Jobs, planFor } from '../../web/src/loading/jobs.js';
import { jobsByRange, REQUEST_BYTES, Rows } from '../../web/src/loading/plan.js';

const ROW = 612;
const N_ROWS = 49_152;
const LAYER = 2_216_448;
const N_LAYERS = 30;
const HEADER = 1_785_664;
const FILE = HEADER + N_ROWS * ROW + N_LAYERS * LAYER;
const FIRST = 128 * 1024;
const SECOND = 2 * 2 ** 20;

/**
 * Rows of the shortlist, as scattered as those of the default model: dense at first, then ever
 * rarer. @returns {import('../../web/src/loading/plan.js').Extent[]}
 */
function model() {
  let seed = 7;
  const random = () => (seed = (seed * 1103515245 + 12345) % 2 ** 31) / 2 ** 31;
  /** @type {Record<string, number[]>} */
  const rows = { early: [], late: [], other: [] };
  for (let i = 0; i < N_ROWS; i++) {
    const listed = random() < Math.min(0.9, 0.1 + 1.2 * Math.exp(-i / 4000));
    const when = () => (random() < Math.exp(-i / 6000) ? 'early' : 'late');
    rows[listed ? when() : 'other'].push(i);
  }
  const extentsOf = (/** @type {number[]} */ list, /** @type {number} */ layer) => {
    const out = [];
    for (let i = 0, n; i < list.length; i += n) {
      for (n = 1; list[i + n] === list[i] + n; n++);
      out.push({
        part: 0,
        offset: HEADER + list[i] * ROW,
        nBytes: n * ROW,
        layer,
        row: list[i],
        nRows: n,
        output: false,
      });
    }
    return out;
  };
  const layers = Array.from({ length: N_LAYERS }, (_, i) => ({
    part: 0,
    offset: HEADER + N_ROWS * ROW + i * LAYER,
    nBytes: LAYER,
    layer: i,
    row: 0,
    nRows: 0,
    output: false,
  }));
  return [
    ...extentsOf(rows.early, -2),
    ...layers,
    ...extentsOf(rows.late, -2),
    ...extentsOf(rows.other, -3),
  ];
}
const extents = model();

/**
 * @typedef {{ rate: number, rtt: number, connections: number, requestMs: number, halts?: boolean }} Kind
 *   bytes a millisecond; `requestMs`: what one takes browser and server, one after the other;
 *   `halts`: nothing else comes meanwhile, for the processor has other work too
 * @typedef {{ exit: number, full: number, ready: number, requests: number }} Times
 */

/** A line on which answers share what there is. */
class Network {
  now = 0;
  requests = 0;
  #kind;
  #busyUntil = 0;
  /** @type {{ opensAt: number, left: number, open: boolean, onOpen: () => void, onBytes: (n: number) => void, onEnd: () => void }[]} */ #flows =
    [];
  /** @type {(() => void)[]} */ #queued = [];

  /** @param {Kind} kind */
  constructor(kind) {
    this.#kind = kind;
  }

  /**
   * @param {number} bytes @param {{ onOpen: () => void, onBytes: (n: number) => void, onEnd: () =>
   *   void }} on
   */
  ask(bytes, on) {
    const go = () => {
      this.requests++;
      if (this.#kind.halts) this.now += this.#kind.requestMs;
      this.#busyUntil = Math.max(this.#busyUntil, this.now) + this.#kind.requestMs;
      this.#flows.push({
        ...on,
        opensAt: this.#busyUntil + this.#kind.rtt,
        left: bytes,
        open: false,
      });
    };
    if (this.#flows.length < this.#kind.connections) go();
    else this.#queued.push(go);
  }

  /** Until nothing is on its way. */
  run() {
    while (this.#flows.length) this.#step();
  }

  #step() {
    const open = this.#flows.filter((f) => f.open);
    const opens = Math.min(...this.#flows.filter((f) => !f.open).map((f) => f.opensAt));
    const share = this.#kind.rate / Math.max(1, open.length);
    // A chunk is 64 kB, or what comes in 20 ms.
    const chunk = Math.max(64 * 1024, 20 * share);
    const least = Math.min(...open.map((f) => Math.min(f.left, chunk)));
    const end = Math.min(opens, open.length ? this.now + least / share : Infinity);
    const came = (end - this.now) * share;
    this.now = end;
    for (const flow of open) {
      const n = Math.min(flow.left, came);
      flow.left -= n;
      flow.onBytes(n);
    }
    for (const flow of this.#flows.filter((f) => !f.open && f.opensAt <= this.now)) {
      flow.open = true;
      flow.onOpen();
    }
    for (const flow of this.#flows.filter((f) => f.open && f.left < 1e-3)) {
      this.#flows.splice(this.#flows.indexOf(flow), 1);
      this.#queued.shift()?.();
      flow.onEnd();
    }
  }
}

/** One stream in the order of the file. @param {Kind} kind @returns {Times} */
function asStream(kind) {
  const network = new Network(kind);
  network.ask(FILE, { onOpen() {}, onBytes() {}, onEnd() {} });
  network.run();
  return { exit: network.now, full: network.now, ready: network.now, requests: 1 };
}

/**
 * As the loader does it: the header, then all that is left; `fixed`: with the cost of a request
 * that there was before. @param {Kind} kind @param {boolean} fixed @returns {Times}
 */
function byJobs(kind, fixed) {
  const network = new Network(kind);
  const jobs = new Jobs({ shards: false, cached: false, clock: () => network.now });
  const { line } = jobs;
  const have = [new Ranges()];
  const rows = new Rows();
  for (const extent of extents) rows.add(extent);
  /**
   * @param {number} from @param {number} to @param {(at: number) => void} took @param {() => void}
   *   end
   */
  const ask = (from, to, took, end) => {
    const asked = network.now;
    let at = from;
    network.ask(to - from, {
      onOpen: () => line.opened(asked, network.now),
      onBytes: (n) => {
        line.took(n, network.now);
        at += n;
        took(Math.min(to, Math.round(at)));
      },
      onEnd: () => {
        line.closed(network.now);
        end();
      },
    });
  };
  const times = { exit: NaN, full: NaN, ready: NaN };
  const firstLayer = extents.findIndex((e) => e.layer >= 0);
  const wanted = {
    exit: extents.filter((e, i) => e.layer >= 0 || (e.layer === -2 && i < firstLayer)),
    full: extents.filter((e) => e.layer >= -2),
  };
  const seen = { exit: 0, full: 0 };
  const arrived = () => {
    for (const key of /** @type {const} */ (['exit', 'full'])) {
      const list = wanted[key];
      for (
        let e = list[seen[key]];
        e && have[0].has(e.offset, e.offset + e.nBytes);
        e = list[++seen[key]]
      );
      if (Number.isNaN(times[key]) && seen[key] === list.length) times[key] = network.now;
    }
  };
  const startJobs = () => {
    if (!fixed && jobs.outdated) jobs.replan((coming) => rows.missing(have, coming));
    for (const running of jobs.start()) {
      const { job } = running;
      const missing = have[0].missing(job.from, job.to);
      const end = () => {
        have[0].add(job.from, job.to);
        jobs.done(running);
        arrived();
        startJobs();
      };
      if (missing.length === 0) {
        network.ask(0, { onOpen() {}, onBytes() {}, onEnd: end });
        continue;
      }
      ask(
        job.from,
        job.to,
        (at) => {
          running.left = job.to - at;
          if (running.lane === 'files') have[0].add(job.from, at);
          if (jobs.mayGoOn(running)) startJobs();
        },
        end,
      );
    }
  };
  const rest = () => {
    const left = extents.flatMap((e) =>
      have[0]
        .missing(e.offset, e.offset + e.nBytes)
        .map(([from, to]) => ({ ...e, offset: from, nBytes: to - from })),
    );
    jobs.put(fixed ? jobsByRange(left, REQUEST_BYTES) : planFor(left, line));
    startJobs();
  };
  const take = (/** @type {number} */ from) => (/** @type {number} */ at) => have[0].add(from, at);
  ask(0, FIRST, take(0), () => ask(FIRST, SECOND, take(FIRST), rest));
  network.run();
  assert.ok(have[0].has(0, FILE), 'all is there');
  return { ...times, ready: network.now, requests: network.requests };
}

/** Where it was much later than the better of the two. @param {Kind} kind @param {(line: string) => void} tell */
function lateOn(kind, tell) {
  const mbit = kind.rate / 125;
  const stream = asStream(kind);
  const before = byJobs(kind, true);
  const now = byJobs(kind, false);
  tell(
    `${mbit} Mbit/s: ${['exit', 'full', 'ready', 'requests'].map((key) => `${key} ${[stream, before, now].map((times) => Math.round(/** @type {any} */ (times)[key])).join(' / ')}`).join(', ')}`,
  );
  // The requests for the header, which tell what the line is like, wait for each other.
  const probing = 2 * (kind.rtt + kind.requestMs) + 2;
  const late = [];
  for (const key of /** @type {const} */ (['exit', 'full', 'ready'])) {
    // Fast lines are one stream: see FAST_RATE in jobs.js.
    const best = mbit > 64 ? stream[key] : Math.min(stream[key], before[key]);
    if (now[key] > 1.1 * best + probing)
      late.push(
        `${mbit} Mbit/s, ${key}: ${now[key].toFixed(0)} ms, ${stream[key].toFixed(0)} as a stream, ${before[key].toFixed(0)} before`,
      );
  }
  if (mbit >= 100 && now.requests > 150) late.push(`${mbit} Mbit/s: ${now.requests} requests`);
  return late;
}

const MBIT = [2, 5, 10, 20, 50, 100, 200, 500, 1000, 1e5];
for (const rtt of [0, 20, 100]) {
  for (const [name, connections] of /** @type {const} */ ([
    ['HTTP/1.1', 6],
    ['HTTP/2', 100],
  ])) {
    test(`${name}, ${rtt} ms: never much later than one stream, nor than requests of a fixed cost`, (t) => {
      const late = MBIT.flatMap((mbit) =>
        lateOn({ rate: mbit * 125, rtt, connections, requestMs: 4 }, (line) => t.diagnostic(line)),
      );
      assert.deepEqual(late, []);
    });
  }
}

for (const requestMs of [5, 15, 40]) {
  test(`a busy device on which the line stands still ${requestMs} ms a request: exits no later than one stream, all little later`, (t) => {
    const late = [];
    for (const mbit of [5, 10, 20, 50, 100]) {
      const kind = { rate: mbit * 125, rtt: 20, connections: 6, requestMs, halts: true };
      const [stream, now] = [asStream(kind), byJobs(kind, false)];
      t.diagnostic(
        `${mbit} Mbit/s: ${['exit', 'full', 'ready', 'requests'].map((key) => `${key} ${[stream, now].map((times) => Math.round(/** @type {any} */ (times)[key])).join(' / ')}`).join(', ')}`,
      );
      const ok =
        now.exit <= stream.exit + 4 * (kind.rtt + requestMs) &&
        Math.max(now.full, now.ready) <= 1.15 * stream.ready;
      if (!ok) late.push(`${mbit} Mbit/s`);
    }
    assert.deepEqual(late, []);
  });
}
