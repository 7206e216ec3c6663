// How fast the engine is in workerd and in Wasmtime, beside the same files in Node on the same
// machine, in turns; cold start to the first token, and CPU time, beside what Cloudflare's plans
// grant. Everything of workerd is measured from outside.
//
//   node tests/edge/speed.mjs [--rounds 5] [--tokens 64] [--json]
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { hasReal, real, root } from '../js/support/cli.mjs';
import { pack, realHeads } from './support/models.mjs';
import { runtimes } from './support/runtimes.mjs';
import { ask, chunksOf, cpuMs, startWorker } from './support/worker.mjs';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    tokens: { type: 'string', default: '64' },
    json: { type: 'boolean', default: false },
  },
});
/** @type {import('./support/worker.mjs').Worker | undefined} */
let worker;
const rounds = Number(values.rounds);
const tokens = Number(values.tokens);
const question = 'Tell me a long story about a lighthouse.';
if (!hasReal) throw new Error('the default model is not there: npm run model');
for (const signal of ['SIGINT', 'SIGTERM'])
  process.once(signal, async () => {
    await worker?.stop(); // its processes are a group of their own
    process.exit(1);
  });

const { wasmtime } = runtimes();
// Node 20 has relaxed SIMD only as an experiment that computes wrongly: there all run the SIMD128
// files.
const suffix =
  Number(process.versions.node.split('.')[0]) < 22 ? ['simd', ''] : ['relaxed', '-relaxed'];
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-speed-'));
pack(path.join(folder, 'packed'), real);
for (const file of [real, realHeads]) fs.copyFileSync(file, path.join(folder, path.basename(file)));

/** workerd ends connections that are idle while others are measured. */
const closing = { headers: { connection: 'close' } };
const median = (/** @type {number[]} */ list) => [...list].sort((a, b) => a - b)[list.length >> 1];

const inNode = (/** @type {string} */ mode) =>
  execFileSync(
    process.execPath,
    [
      '--no-warnings',
      path.join(root, 'tests/edge/support/node-chat.mjs'),
      path.join(folder, 'packed/manifest.json'),
      path.join(root, `web/dist/exitlm-${suffix[0]}.wasm`),
      question,
      mode,
      String(tokens),
      '1',
    ],
    { encoding: 'utf8' },
  )
    .trim()
    .split('\n')
    .map(Number);

/** The rate of the command line, as it says itself: in Wasmtime, or the same module in Node. */
function inWasi(/** @type {boolean} */ node, /** @type {string} */ mode) {
  const module = path.join(root, `build/exitlm${suffix[1]}.wasm`);
  const args = [
    'chat',
    path.basename(real),
    '-p',
    question,
    '--mode',
    mode,
    '--max-tokens',
    String(tokens),
    '--kv-type',
    'q8',
    '--ctx',
    '1024',
    '--threads',
    '1',
    '--json',
  ];
  const command = node
    ? [
        process.execPath,
        '--no-warnings',
        path.join(root, 'tests/edge/support/node-wasi.mjs'),
        module,
        folder,
        ...args,
      ]
    : [wasmtime, 'run', '--dir', '.', module, ...args];
  const { stdout, stderr } = spawnSync(command[0], command.slice(1), {
    cwd: folder,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  // The last line counts, not the exit status: Node 20's WASI may crash once the program has ended.
  const done = stdout.trim().split('\n').at(-1) ?? '';
  if (!done.startsWith('{"type":"done"')) throw new Error(`${command.join(' ')}: ${stderr}`);
  return JSON.parse(done).tokens_per_second;
}

/** A streamed answer, timed from outside. @param {string} url @param {string} mode */
async function answer(url, mode) {
  const began = performance.now();
  const response = await ask(
    url,
    { messages: [{ role: 'user', content: question }], mode, max_tokens: tokens, stream: true },
    closing,
  );
  let first = 0;
  let last = 0;
  let n = 0;
  for await (const chunk of chunksOf(response)) {
    if (chunk === '[DONE]' || !JSON.parse(chunk).choices[0]?.delta.exit) continue;
    last = performance.now();
    if (n++ === 0) first = last;
  }
  return { firstMs: first - began, tokensPerSecond: ((n - 1) / (last - first)) * 1000, n };
}

const start = (engine = 'relaxed') =>
  startWorker({
    model: (/** @type {string} */ to) => pack(to, real),
    edit: (_, text) => text.replace('exitlm-relaxed.wasm', `exitlm-${engine}.wasm`),
  });
/** @type {{ firstMs: number, cpuMs: number }[]} */
const cold = [];
for (let i = 0; i < 3; i++) {
  await worker?.stop();
  worker = await start();
  const before = cpuMs(worker.pid);
  const { firstMs } = await answer(worker.url, 'exit');
  while ((await (await fetch(`${worker.url}/health`, closing)).json()).status !== 'ready')
    await new Promise((resolve) => {
      setTimeout(resolve, 20);
    });
  cold.push({ firstMs, cpuMs: cpuMs(worker.pid) - before });
}
if (!worker) throw new Error('no Worker');
/**
 * Of the Worker as it is, with relaxed SIMD. @type {{ tokensPerSecond: number, cpuMs: number }[]}
 */
const asItIs = [];
for (let i = 0; i < rounds; i++) {
  const before = cpuMs(worker.pid);
  const { tokensPerSecond, n } = await answer(worker.url, 'exit');
  asItIs.push({ tokensPerSecond, cpuMs: (cpuMs(worker.pid) - before) / n });
}
await worker.stop();
worker = await start(suffix[0]);
await answer(worker.url, 'full');

/** @type {Record<string, Record<string, number[]>>} */
const rates = {};
for (let round = 0; round < rounds; round++) {
  for (const mode of ['full', 'exit']) {
    const of = (rates[mode] ??= { node: [], workerd: [], nodeWasi: [], wasmtime: [] });
    of.node.push(...inNode(mode));
    of.workerd.push((await answer(worker.url, mode)).tokensPerSecond);
    of.nodeWasi.push(inWasi(true, mode));
    of.wasmtime.push(inWasi(false, mode));
  }
}
await worker.stop();
fs.rmSync(folder, { recursive: true });

const modes = Object.fromEntries(
  Object.entries(rates).map(([mode, of]) => {
    const ratio = (/** @type {string} */ a, /** @type {string} */ b) =>
      median(of[a].map((rate, i) => rate / of[b][i]));
    return [
      mode,
      {
        ...Object.fromEntries(Object.entries(of).map(([name, list]) => [name, median(list)])),
        workerdToNode: ratio('workerd', 'node'),
        wasmtimeToNode: ratio('wasmtime', 'nodeWasi'),
      },
    ];
  }),
);
const result = {
  cpu: os.cpus()[0].model,
  node: process.version,
  rounds,
  tokens,
  coldFirstTokenMs: median(cold.map((c) => c.firstMs)),
  coldCpuMs: median(cold.map((c) => c.cpuMs)),
  tokensPerSecond: median(asItIs.map((a) => a.tokensPerSecond)),
  cpuMsPerToken: median(asItIs.map((a) => a.cpuMs)),
  engine: suffix[0],
  modes,
};
if (values.json) console.log(JSON.stringify(result));
else {
  console.log(
    `${result.cpu}, Node ${result.node}, one thread, exitlm-${result.engine}, 8-bit K/V, ${tokens} tokens, medians of ${rounds} interleaved rounds\n`,
  );
  console.log('mode   Node  workerd  ratio | Node, WASI  Wasmtime  ratio');
  for (const [mode, m] of Object.entries(/** @type {Record<string, any>} */ (modes))) {
    console.log(
      `${mode}  ${m.node.toFixed(0).padStart(5)}  ${m.workerd.toFixed(0).padStart(7)}   ${m.workerdToNode.toFixed(2)} | ${m.nodeWasi.toFixed(0).padStart(10)}  ${m.wasmtime.toFixed(0).padStart(8)}   ${m.wasmtimeToNode.toFixed(2)}`,
    );
  }
  const perToken = result.cpuMsPerToken;
  console.log(
    `\nthe Worker as it is (relaxed SIMD, exits): ${result.tokensPerSecond.toFixed(0)} tokens a second, ${perToken.toFixed(1)} ms of CPU each, prompt included`,
  );
  console.log(
    `cold start: first token after ${result.coldFirstTokenMs.toFixed(0)} ms; loading and the first answer of ${tokens} tokens take ${result.coldCpuMs.toFixed(0)} ms of CPU`,
  );
  console.log(
    `free plan, 10 ms a request: ${Math.floor(10 / perToken)} tokens of a loaded model, and loading does not fit`,
  );
  console.log(
    `paid plan, 30 s a request: about ${Math.floor((30_000 - result.coldCpuMs) / perToken)} tokens after a cold start`,
  );
}
if (
  Object.values(/** @type {Record<string, any>} */ (modes)).some(
    (m) => m.workerdToNode < 0.8 || m.wasmtimeToNode < 0.8,
  )
) {
  console.error('less than 0.8 of what Node does');
  process.exitCode = 1;
}
