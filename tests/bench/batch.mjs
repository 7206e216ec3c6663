// Several conversations written together, and one restored. With r the price of a row that rides along
// in a pass (with no conversation around it, in the same run), n sessions can be n / (1 + (n - 1) r)
// times as fast as one. The bar is of rows of one sequence, which share a K/V cache. Natively there is
// also the r of rows with a cache each, as sessions have: what is below 1 there the conversations cost.
//
//   node tests/bench/batch.mjs [--reps 5] [--model FILE] [--hosts native,node,chromium] [--variant relaxed]
//   needs, once, cmake --build build --target bench_sessions
//
// All is processor time, in Chromium that of the page's process: the package answers in its worker, and
// passes are of an engine without the package.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { defaultModel, root } from '../answers/tools.mjs';
import { start } from '../page/browser.mjs';
import { heads, median } from './hosts.mjs';

const { values } = parseArgs({
  options: {
    reps: { type: 'string', default: '5' },
    model: { type: 'string', default: defaultModel },
    hosts: { type: 'string', default: 'native,chromium' },
    variant: { type: 'string', default: 'relaxed' },
  },
});
const BAR = 0.9;
const FASTER = 20;

/**
 * Each round is compared within itself; what is shown are medians over rounds.
 * @typedef {{ sessions: number, mode: string, pass_ms: number, apart_ms?: number, token_ms: number, depth: number }} Line
 * @param {string} where
 * @param {Line[]} lines of all rounds, each round's from one session on
 */
function show(where, lines) {
  console.log(
    `${where}: sessions  r     tokens/s  faster  n/(1+(n-1)r)  of it  (caches apart: r     of it)  depth`,
  );
  /** @type {Record<string, number[][]>} */
  const bySessions = {};
  let [one] = lines;
  for (const line of lines) {
    const { sessions: n, pass_ms, apart_ms = NaN, token_ms, depth } = line;
    if (n === 1) one = line;
    const faster = one.token_ms / token_ms;
    const possible = (n * one.pass_ms) / pass_ms;
    const apart = apart_ms / (one.apart_ms ?? NaN);
    (bySessions[n] ??= []).push([
      (pass_ms / one.pass_ms - 1) / (n - 1),
      1000 / token_ms,
      faster,
      possible,
      faster / possible,
      (apart - 1) / (n - 1),
      (faster * apart) / n,
      depth,
    ]);
  }
  for (const [n, rounds] of Object.entries(bySessions)) {
    const [r, speed, faster, possible, of, apart, ofApart, depth] = rounds[0].map((_, i) =>
      median(rounds.map((round) => round[i])),
    );
    const shown = (/** @type {number} */ x, /** @type {number} */ width, digits = 2) =>
      (Number.isNaN(x) ? '' : x.toFixed(digits)).padEnd(width);
    console.log(
      ' '.repeat(where.length + 1),
      n.padEnd(9),
      shown(r, 5),
      shown(speed, 9, 0),
      shown(faster, 7),
      shown(possible, 13),
      shown(of, 6),
      ' '.repeat(15),
      shown(apart, 5),
      shown(ofApart, 7),
      shown(depth, 5),
      of < BAR ? `below ${BAR}` : '',
    );
  }
}

function native() {
  const program = path.join(root, 'build/tests/bench_sessions');
  const file = fs.existsSync(heads) ? heads : '';
  const { stdout, stderr, status } = spawnSync(program, [values.model, file, values.reps], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr || `${program} is not there`);
  const lines = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  for (const mode of ['full', 'exit']) {
    const rows = lines.filter((line) => line.mode === mode);
    if (rows.length) show(`native, ${mode}`, rows);
  }
  for (const { kv_type, restore, bytes, read_ms, save_ms, restore_ms, clone_ms } of lines.filter(
    (line) => line.restore,
  ))
    console.log(
      `${kv_type}: ${restore} tokens, ${(bytes / 1e6).toFixed(1)} MB: read in ${read_ms.toFixed(0)} ms, saved in ${save_ms.toFixed(1)} ms, restored in ${restore_ms.toFixed(1)} ms: ${(read_ms / restore_ms).toFixed(0)}x; cloned in ${clone_ms.toFixed(1)} ms`,
      read_ms / restore_ms < FASTER ? `below ${FASTER}x` : '',
    );
}

/**
 * In Node and, as text, in a page: passes of n rows and their logits, by an engine without the package,
 * and replies of n sessions of the package. A prompt is read when a session has it for the first time.
 * @param {{ web: string, model: string, wasm: string, worker: boolean }} given
 */
async function open({ web, model, wasm, worker }) {
  const { Engine } = await import(`${web}/src/engine/engine.js`);
  const { ExitLM } = await import(`${web}/src/index.js`);
  const { loadModel, openSession, vocabOf } = await import(`${web}/../tests/answers/bare.mjs`);
  const read = async (/** @type {string} */ from) =>
    worker
      ? new Uint8Array(await (await fetch(from)).arrayBuffer())
      : new Uint8Array(await (await import('node:fs/promises')).readFile(from));
  const module = await WebAssembly.compile(await read(wasm));
  const engine = await Engine.create(module);
  const own = loadModel(engine, await read(model));
  const session = openSession(engine, own, { contextTokens: 64 });
  const ids = engine.alloc(4 * 8);
  const logits = engine.alloc(4 * vocabOf(engine, own) * 8);
  const lm = await ExitLM.load(model, {
    heads: false,
    cache: 'none',
    threads: 1,
    contextLength: 256,
    wasm: worker ? wasm : module,
    worker,
  });
  await lm.ready;
  const sessions = Array.from({ length: 8 }, () => lm.session());
  return {
    kernel: lm.info.kernel,
    pass(/** @type {number} */ n, /** @type {number} */ times) {
      for (let i = 0; i < n; i++) engine.view.setInt32(ids + 4 * i, 300 + 977 * i, true);
      for (let i = 0; i < times; i++) engine.run('session_score', session, ids, n, logits);
    },
    async write(/** @type {number} */ n, /** @type {number} */ maxTokens) {
      const replies = sessions.slice(0, n).map(async (one, i) => {
        const prompt = `${'Once upon a time '.repeat(8)}${i}`;
        let tokens = 0;
        for await (const { index } of one.complete(prompt, { mode: 'full', maxTokens }))
          tokens = index + 1;
        return tokens;
      });
      return (await Promise.all(replies)).reduce((sum, tokens) => sum + tokens, 0);
    },
    close: () => lm.dispose(),
  };
}

/**
 * @param {string} where
 * @param {string} kernel
 * @param {() => Promise<number>} now processor time in ms
 * @param {(n: number, times: number) => Promise<void> | void} pass
 * @param {(n: number, maxTokens: number) => Promise<number>} write
 */
async function measure(where, kernel, now, pass, write) {
  const PASSES = 12;
  /** @type {Line[]} */
  const lines = [];
  await write(8, 2);
  await pass(8, 1);
  for (let rep = 0; rep < Number(values.reps); rep++)
    for (const sessions of [1, 2, 4, 8]) {
      const from = await now();
      await pass(sessions, PASSES);
      const between = await now();
      const begun = await write(sessions, 1); // what is not written together: the prompts' last rows
      const after = await now();
      const tokens = (await write(sessions, 33)) - begun;
      lines.push({
        sessions,
        mode: 'full',
        pass_ms: (between - from) / PASSES,
        token_ms: ((await now()) - after - (after - between)) / tokens,
        depth: 1,
      });
    }
  show(`${where} (${kernel}), full`, lines);
}

async function inNode() {
  const it = await open({
    web: path.join(root, 'web'),
    model: values.model,
    wasm: path.join(root, `web/dist/exitlm-${values.variant}.wasm`),
    worker: false,
  });
  const now = async () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  };
  await measure('Node', it.kernel, now, it.pass, it.write);
  await it.close();
}

/** The processor time is that of the page's process: its own thread and its worker. */
async function inChromium() {
  const it = await start();
  const page = await it.open('/tests/page/blank.html');
  const browser = await it.browser.newBrowserCDPSession();
  const now = async () => {
    const { processInfo } = await browser.send('SystemInfo.getProcessInfo');
    return processInfo
      .filter(({ type }) => type === 'renderer')
      .reduce((sum, { cpuTime }) => sum + 1000 * cpuTime, 0);
  };
  const kernel = await page.evaluate(
    async ({ source, given }) => {
      const code = await import(
        URL.createObjectURL(new Blob([`export default ${source}`], { type: 'text/javascript' }))
      );
      const opened = await code.default({ web: `${location.origin}/web`, ...given });
      Object.assign(window, { opened });
      return opened.kernel;
    },
    {
      source: open.toString(),
      given: {
        model: `${it.address}/models/${path.basename(values.model)}`,
        wasm: `${it.address}/web/dist/exitlm-${values.variant}.wasm`,
        worker: true,
      },
    },
  );
  const call =
    (/** @type {'pass' | 'write'} */ name) =>
    (/** @type {number[]} */ ...args) =>
      page.evaluate((given) => /** @type {any} */ (window).opened[given.name](...given.args), {
        name,
        args,
      });
  await measure('Chromium', kernel, now, call('pass'), call('write'));
  await it.close();
}

if (values.hosts.includes('native')) native();
if (values.hosts.includes('node')) await inNode();
if (values.hosts.includes('chromium')) await inChromium();
