// `exitlm serve` under load that comes whether or not earlier questions are answered (open loop, by
// vegeta): from a quarter of what the server can do to three times as much.
//
//   node tests/bench/serve-load.mjs [--model FILE] [--sessions 1,4] [--shares 0.25,0.5,0.75,1,1.5,3]
//                                   [--seconds 20] [--tokens 24] [--threads N] [--waiting 8]
//   needs vegeta 12 in the PATH or as VEGETA: go install github.com/tsenart/vegeta/v12@v12.12.0
//
// What the server can do is measured first, by as many clients as there are sessions, each of which
// asks again when it has its answer. The time to the first token is that to the whole answer without
// the time of the tokens after the first, which the answer tells (exit.tokensPerSecond). The server's
// processor time, of its /metrics, hardly depends on what else the machine does.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { parseArgs } from 'node:util';
import { defaultModel, root } from '../answers/tools.mjs';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: defaultModel },
    sessions: { type: 'string', default: '1,4' },
    shares: { type: 'string', default: '0.25,0.5,0.75,1,1.5,3' },
    seconds: { type: 'string', default: '20' },
    tokens: { type: 'string', default: '24' },
    threads: { type: 'string', default: 'auto' },
    waiting: { type: 'string', default: '8' },
  },
});
const vegeta = process.env.VEGETA ?? 'vegeta';
const seconds = Number(values.seconds);
const numbers = (/** @type {string} */ list) => list.split(',').map(Number);

/** @param {number} sessions */
async function startServer(sessions) {
  const args = ['serve', values.model, '--port', '0', '--threads', values.threads];
  args.push('--waiting', values.waiting);
  const child = spawn(
    process.execPath,
    [path.join(root, 'web/src/cli.mjs'), ...args, '--sessions', String(sessions)],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const url = await new Promise((resolve, reject) => {
    child.stdout.on('data', (data) => {
      const found = /OPENAI_BASE_URL=(\S+)\/v1/.exec(String(data));
      if (found) resolve(found[1]);
    });
    child.once('exit', () => reject(new Error('the server did not start')));
  });
  while (!(await fetch(`${url}/ready`)).ok)
    await new Promise((resolve) => {
      setTimeout(resolve, 100);
    });
  return { url, stop: () => child.kill(), pid: child.pid ?? 0 };
}

/** Another question each time: nothing of it is known from before. @param {number} i */
const question = (i) =>
  JSON.stringify({
    messages: [{ role: 'user', content: `Name ${3 + (i % 5)} things that number ${i} recalls.` }],
    max_tokens: Number(values.tokens),
  });
const headers = { 'Content-Type': 'application/json' };
let asked = 0;

/** Answers a second, where each of n clients waits for its own. @param {string} url @param {number} n */
async function capacityOf(url, n) {
  const end = performance.now() + seconds * 500;
  let answers = 0;
  const began = performance.now();
  await Promise.all(
    Array.from({ length: n }, async () => {
      while (performance.now() < end) {
        const response = await fetch(`${url}/v1/chat/completions`, {
          method: 'POST',
          headers,
          body: question(asked++),
        });
        await response.json();
        if (response.ok) answers++;
      }
    }),
  );
  return (answers * 1000) / (performance.now() - began);
}

/** Seconds of processor time that the server has taken. @param {string} url */
async function cpuOf(url) {
  const page = await (await fetch(`${url}/metrics`)).text();
  return Number(/^process_cpu_seconds_total (\S+)$/m.exec(page)?.[1]);
}

/** @param {string} command @param {string[]} args @param {string | Buffer} input */
async function pipe(command, args, input) {
  const child = spawn(command, args);
  child.stdin.on('error', () => {}); // its end says why
  child.stdin.end(input);
  const ended = once(child, 'close').catch((error) => {
    throw new Error(`${command}: ${error.message}; see the head of this file`);
  });
  const [[status], stdout, stderr] = await Promise.all([
    ended,
    buffer(child.stdout),
    text(child.stderr),
  ]);
  if (status !== 0) throw new Error(stderr);
  return stdout;
}

/** Questions at this rate, for so many seconds. @param {string} url @param {number} rate */
async function attack(url, rate) {
  const n = Math.max(1, Math.ceil(rate * seconds));
  const targets = Array.from({ length: n }, () =>
    JSON.stringify({
      method: 'POST',
      url: `${url}/v1/chat/completions`,
      header: { 'Content-Type': ['application/json'] },
      body: Buffer.from(question(asked++)).toString('base64'),
    }),
  );
  const per = `${Math.max(1, Math.round(rate * 1000))}/1000s`;
  const results = await pipe(
    vegeta,
    ['attack', '-format=json', `-rate=${per}`, `-duration=${seconds}s`, '-timeout=300s'].concat(
      '-max-body=1000000',
    ),
    `${targets.join('\n')}\n`,
  );
  const lines = String(await pipe(vegeta, ['encode', '-to=json'], results))
    .trim()
    .split('\n');
  return lines.map((line) => JSON.parse(line));
}

const quantile = (/** @type {number[]} */ sorted, /** @type {number} */ q) =>
  sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] : NaN;
const fixed = (/** @type {number} */ x, digits = 2) =>
  Number.isFinite(x) ? x.toFixed(digits) : '–';

/** @param {any[]} results of vegeta */
function summary(results) {
  const good = results.filter(({ code }) => code === 200);
  const answers = good.map(({ body, latency }) => {
    const { usage, choices } = JSON.parse(Buffer.from(body, 'base64').toString());
    const speed = choices[0].message.exit.tokensPerSecond;
    const rest = speed > 0 ? (usage.completion_tokens - 1) / speed : 0;
    return { tokens: usage.completion_tokens, first: latency / 1e9 - rest };
  });
  const start = Math.min(...results.map(({ timestamp }) => Date.parse(timestamp)));
  const end = Math.max(
    ...results.map(({ timestamp, latency }) => Date.parse(timestamp) + latency / 1e6),
  );
  const firsts = answers.map(({ first }) => first).sort((a, b) => a - b);
  const refusals = results.filter(({ code }) => code === 503 || code === 429);
  const took = (end - start) / 1000;
  return {
    answers: good.length,
    answered: good.length / took,
    refused: refusals.length / results.length,
    failed: results.length - good.length - refusals.length,
    refusal: quantile(
      refusals.map(({ latency }) => latency / 1e9).sort((a, b) => a - b),
      0.5,
    ),
    p: [0.5, 0.95, 0.99].map((q) => quantile(firsts, q)),
    tokens: answers.reduce((sum, { tokens }) => sum + tokens, 0) / took,
  };
}

for (const sessions of numbers(values.sessions)) {
  const { url, stop } = await startServer(sessions);
  try {
    const capacity = await capacityOf(url, sessions);
    console.log(
      `\n${sessions} session${sessions > 1 ? 's' : ''}: ${fixed(capacity)} answers of ${values.tokens} tokens a second\n` +
        '| offered/s | answered/s | refused | a refusal, s | first token p50, s | p95 | p99 | tokens/s | CPU s an answer | failed |\n' +
        '|---|---|---|---|---|---|---|---|---|---|',
    );
    for (const share of numbers(values.shares)) {
      const rate = share * capacity;
      const before = await cpuOf(url);
      const s = summary(await attack(url, rate));
      const cpu = ((await cpuOf(url)) - before) / s.answers;
      console.log(
        `| ${fixed(rate)} | ${fixed(s.answered)} | ${fixed(100 * s.refused, 0)} % | ${fixed(s.refusal, 3)} | ${s.p.map((x) => fixed(x)).join(' | ')} | ${fixed(s.tokens, 1)} | ${fixed(cpu)} | ${s.failed} |`,
      );
    }
  } finally {
    stop();
  }
}
