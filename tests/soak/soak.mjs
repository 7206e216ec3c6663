// A long run (npm run soak): a page in Chromium, a Node process and a Worker in workerd load the tiny
// and the default model in turn, answer, stop in the middle of a reply, calibrate, and begin again.
//
//   node tests/soak/soak.mjs --hours N [--only page|node|worker] [--out FOLDER]
//
// After each round the outputs are compared with the first one's, and memory is looked at. The exit
// status is 1 where an output differs, a round fails or hangs, or memory grows by more than the
// tolerance of verdict.js. FOLDER (build/soak) gets soak.json and soak.svg, after each round.
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startMiniflare } from '../edge/support/miniflare.mjs';
import { pack, packTiny } from '../edge/support/models.mjs';
import { inspectIsolate } from '../edge/support/worker.mjs';
import { real, root } from '../js/support/cli.mjs';
import { tinyHeads, tinyPath } from '../js/support/tiny-model.mjs';
import { startTiny } from '../page/tiny.mjs';
import { residentBytes } from '../processes.mjs';
import { FEWEST_ROUNDS, TOLERANCE, complaints, drawSoak, growth } from './verdict.js';

/** @typedef {{ outputs: any[], linear: number, heap: number, resident: number }} Round */
/** @typedef {{ round: () => Promise<Round>, close: () => unknown }} Place */

const here = path.dirname(fileURLToPath(import.meta.url));
const work = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-soak-'));
const failed = (/** @type {any} */ done) => {
  if (done.error) throw new Error(done.error);
  return done;
};

/** @returns {Promise<Place>} */
async function page() {
  const it = await startTiny();
  const open = await it.open('/tests/page/blank.html');
  return {
    async round() {
      const done = await open.evaluate(
        async (models) => {
          const { ExitLM } = await import(/** @type {any} */ ('/web/src/index.js'));
          const { round } = await import(/** @type {any} */ ('/tests/soak/round.js'));
          const did = await round(ExitLM, models);
          const { bytes } = await /** @type {any} */ (performance).measureUserAgentSpecificMemory();
          return { ...did, heap: bytes };
        },
        ['/models/tiny.gguf', `/models/${path.basename(real)}`].map((model) => ({ model })),
      );
      assert.deepEqual(it.errors, [], 'nothing is logged as an error in the page');
      return { ...done, resident: residentBytes(process.pid, /chrom/) };
    },
    close: () => it.close(),
  };
}

/** @returns {Promise<Place>} */
async function node() {
  const tiny = path.join(work, 'tiny.gguf');
  fs.copyFileSync(tinyPath, tiny);
  fs.writeFileSync(path.join(work, 'tiny.exits.gguf'), await tinyHeads());
  const child = fork(path.join(here, 'node.mjs'), { execArgv: ['--expose-gc'] });
  const ended = once(child, 'exit').then(([status]) => ({
    error: `the process ended with ${status}`,
  }));
  return {
    async round() {
      child.send([tiny, real].map((model) => ({ model })));
      const said = new Promise((resolve) => {
        child.once('message', resolve);
      });
      const done = await Promise.race([said, ended]);
      return { ...failed(done), resident: residentBytes(child.pid ?? 0) };
    },
    close: () => child.kill(),
  };
}

/** @returns {Promise<Place>} */
async function worker() {
  const models = path.join(work, 'models');
  await packTiny(path.join(models, 'tiny'));
  pack(path.join(models, 'default'), real);
  const miniflare = await startMiniflare(
    path.join(here, 'worker.js'),
    () => [{ name: 'exitlm', serviceBindings: { ASSETS: { disk: { path: models } } } }],
    { inspectorPort: 0 },
  );
  const inspector = await inspectIsolate({ pid: process.pid });
  const files = ['tiny', 'default'].map((name) => `http://localhost/${name}/manifest.json`);
  return {
    async round() {
      const body = JSON.stringify(files);
      const response = await miniflare.dispatchFetch('http://localhost', { method: 'POST', body });
      const done = failed(await response.json());
      const { heap, outside } = await inspector.inUse();
      return { ...done, heap: heap + outside, resident: residentBytes(process.pid, /workerd/) };
    },
    async close() {
      inspector.close();
      await miniflare.dispose();
    },
  };
}

const PLACES = { page, node, worker };
const { values } = parseArgs({
  options: {
    hours: { type: 'string' },
    only: { type: 'string' },
    out: { type: 'string', default: path.join(root, 'build/soak') },
  },
});
const names = /** @type {(keyof typeof PLACES)[]} */ (
  values.only?.split(',') ?? Object.keys(PLACES)
);
let wrong = '';
if (!(Number(values.hours) > 0)) wrong = '--hours N says how long: a number above 0';
else if (!names.every((name) => PLACES[name]))
  wrong = `--only ${values.only}: the places are ${Object.keys(PLACES).join(', ')}`;
else if (!fs.existsSync(real)) wrong = 'the default model is not there: npm run model';
if (wrong) {
  console.error(`exitlm: ${wrong}`);
  process.exit(2);
}

/** @type {Record<string, import('./verdict.js').Sample[]>} */
const curves = Object.fromEntries(names.map((name) => [name, []]));
const began = performance.now();
const seconds = () => (performance.now() - began) / 1000;
let stopping = false;
/** A signal ends it after this round, or with it: not at once, as those of Miniflare would. */
function takeSignals() {
  for (const signal of ['SIGINT', 'SIGTERM'])
    process.removeAllListeners(signal).on(signal, () => {
      stopping = true;
    });
}
takeSignals();

/** A round takes seconds; on a machine with much else to do, minutes. */
const PATIENCE_MS = 20 * 60 * 1000;

/** @template T @param {Promise<T>} doing @param {string} what @returns {Promise<T>} */
async function inTime(doing, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`${what} has taken ${PATIENCE_MS / 60_000} minutes`)),
      PATIENCE_MS,
    );
  });
  try {
    return await Promise.race([doing, /** @type {Promise<never>} */ (late)]);
  } finally {
    clearTimeout(timer);
  }
}

function write() {
  fs.mkdirSync(values.out, { recursive: true });
  const told = { tolerance: TOLERANCE, places: curves };
  fs.writeFileSync(path.join(values.out, 'soak.json'), `${JSON.stringify(told, null, 1)}\n`);
  fs.writeFileSync(path.join(values.out, 'soak.svg'), drawSoak(curves));
}

/** @param {keyof typeof PLACES} name @returns {Promise<string[]>} what is wrong */
async function soak(name) {
  /** @type {Place | undefined} */
  let place;
  /** @type {any[] | undefined} */
  let expected;
  try {
    place = await inTime(PLACES[name](), 'the start');
    takeSignals();
    do {
      const n = curves[name].length + 1;
      const { outputs, ...memory } = await inTime(place.round(), `round ${n}`);
      expected ??= outputs;
      assert.deepEqual(outputs, expected, `round ${n}`);
      curves[name].push({ seconds: seconds(), ...memory });
      write();
    } while (!stopping && seconds() < 3600 * Number(values.hours));
  } catch (error) {
    // a signal may end the browser, or the process of Node, in the middle of a round
    if (stopping && !(error instanceof assert.AssertionError)) return complaints(curves[name]);
    const { stack } = /** @type {Error} */ (error);
    console.log(`${name}: failed after ${Math.round(seconds())} s; the others go on\n  ${stack}`);
    return [String(stack)];
  } finally {
    await place?.close();
  }
  return complaints(curves[name]);
}

const inMB = (/** @type {number} */ bytes) => (bytes / 1e6).toFixed(1);
const found = await Promise.all(names.map(soak));
fs.rmSync(work, { recursive: true });
for (const [i, name] of names.entries()) {
  const n = curves[name].length;
  const figures =
    n < FEWEST_ROUNDS
      ? 'too few to tell of growth'
      : growth(curves[name])
          .map(({ kind, before, after }) => `${kind} ${inMB(before)} to ${inMB(after)} MB`)
          .join(', ');
  const verdict = found[i].length ? 'FAILED' : 'the same outputs';
  console.log(`${name}: ${n} rounds; ${figures}; ${verdict}`);
  for (const what of found[i]) console.log(`  ${what}`);
}
process.exit(found.some((list) => list.length) ? 1 : 0);
