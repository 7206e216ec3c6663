// What one isolate carries: the example Worker with the default model in workerd, from cold, then
// asked by several clients, each of which asks something else when it has its answer, or when a
// refusal says that it may.
//
//   node tests/edge/isolate.mjs [--clients 1,4,9,16] [--tokens 64] [--seconds 20]
//
// Answers a second depend on what else the machine does; workerd's processor time an answer hardly
// does, and is what Cloudflare counts.
import path from 'node:path';
import { parseArgs } from 'node:util';
import { hasReal, real } from '../js/support/cli.mjs';
import { pack } from './support/models.mjs';
import {
  ask,
  chunksOf,
  cpuMs,
  inspectIsolate,
  linearMemory,
  startWorker,
} from './support/worker.mjs';

const { values } = parseArgs({
  options: {
    clients: { type: 'string', default: '1,4,9,16' },
    tokens: { type: 'string', default: '64' },
    seconds: { type: 'string', default: '20' },
  },
});
if (!hasReal) throw new Error('the default model is not there: npm run model');
const wait = (/** @type {number} */ ms) =>
  new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
const megabytes = (/** @type {number} */ n) => (n / 1e6).toFixed(1);
const quantile = (/** @type {number[]} */ list, /** @type {number} */ q) =>
  [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(q * list.length))] ?? NaN;

const worker = await startWorker({
  model: (/** @type {string} */ to) => pack(to, real),
  fixture: true,
  vars: { OPEN: 1 },
});
for (const signal of ['SIGINT', 'SIGTERM'])
  process.once(signal, async () => {
    await worker.stop(); // its processes are a group of their own
    process.exit(1);
  });

let asked = 0;
const question = (/** @type {object} */ more = {}) => ({
  messages: [
    {
      role: 'user',
      content: `Tell me a long story about a lighthouse and ${100 + asked++} ships.`,
    },
  ],
  max_tokens: Number(values.tokens),
  ...more,
});

/** From nothing to the first token, and to the last byte of the model. */
async function cold() {
  const [began, before] = [performance.now(), cpuMs(worker.pid)];
  const response = await ask(worker.url, question({ stream: true }));
  let firstMs = 0;
  for await (const chunk of chunksOf(response))
    if (chunk !== '[DONE]' && JSON.parse(chunk).choices[0]?.delta.exit)
      firstMs ||= performance.now() - began;
  while ((await (await fetch(`${worker.url}/health`)).json()).status !== 'ready') await wait(20);
  return { firstMs, cpu: cpuMs(worker.pid) - before };
}

/** @param {number} clients */
async function under(clients) {
  const [began, before] = [performance.now(), cpuMs(worker.pid)];
  const until = began + Number(values.seconds) * 1000;
  /** @type {number[]} */
  const took = [];
  let tokens = 0;
  let refused = 0;
  await Promise.all(
    Array.from({ length: clients }, async () => {
      while (performance.now() < until) {
        const start = performance.now();
        const response = await ask(worker.url, question());
        const body = await response.json();
        if (response.ok) {
          took.push(performance.now() - start);
          tokens += body.usage.completion_tokens;
        } else if (response.status === 503) {
          refused++;
          await wait(Number(response.headers.get('retry-after')) * 1000);
        } else throw new Error(body.error.message);
      }
    }),
  );
  const seconds = (performance.now() - began) / 1000;
  const cpu = (cpuMs(worker.pid) - before) / took.length;
  const p = [0.5, 0.95].map((q) => (quantile(took, q) / 1000).toFixed(1));
  return `| ${clients} | ${(took.length / seconds).toFixed(2)} | ${refused} | ${(tokens / took.length).toFixed(0)} | ${cpu.toFixed(0)} | ${(1000 / cpu).toFixed(1)} | ${p.join(' | ')} |`;
}

try {
  const { firstMs, cpu } = await cold();
  console.log(
    `${path.basename(real)}, cold: first token after ${firstMs.toFixed(0)} ms, loading and an answer of ${values.tokens} tokens ${cpu.toFixed(0)} ms of CPU\n`,
  );
  console.log(
    '| clients | answers/s | refusals | tokens each | CPU ms an answer | of a core, answers/s | p50, s | p95 |\n|---|---|---|---|---|---|---|---|',
  );
  for (const clients of values.clients.split(',').map(Number)) console.log(await under(clients));
  const inspector = await inspectIsolate(worker);
  const linear = await linearMemory(worker.url);
  const { heap, outside } = await inspector.inUse();
  inspector.close();
  console.log(
    `\nmemory in use: linear ${megabytes(linear)}, JavaScript ${megabytes(heap + outside)}, together ${megabytes(linear + heap + outside)} of 128 MB`,
  );
} finally {
  await worker.stop();
}
