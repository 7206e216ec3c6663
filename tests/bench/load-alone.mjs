// A model from localhost in a Chromium that nobody watches: a driver that hears of each request costs a
// packed model, which makes 36 of them, more than one stream. The page says itself how long it took.
//
//   node tests/bench/load-alone.mjs [--rounds 5] [--ways order,checked,packed]
//
// order: one stream, a server without ranges; checked: the same, verified by its sha256; packed: shards,
// each verified. In turn; the first token of a reply of 24, and all there, medians, and those of the
// ratios to the first way in the same round.
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { createServer, listen } from '../../web/serve.mjs';
import { defaultModel, program, root } from '../answers/tools.mjs';
import { ARGS, executablePath } from '../page/browser.mjs';
import { heads, median } from './hosts.mjs';
import { openLine } from './load-line.mjs';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    ways: { type: 'string', default: 'order,checked,packed' },
  },
});
const ways = values.ways.split(',');
const REST_MS = 1000; // a browser that has just started is busy with itself
const MOST_MS = 120_000;

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-alone-'));
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
const models = path.join(folder, 'models');
fs.mkdirSync(models);
fs.copyFileSync(defaultModel, path.join(models, 'm.gguf'));
fs.copyFileSync(heads, path.join(models, 'm.exits.gguf'));
const packing = ['pack', path.join(models, 'm.gguf'), '-o', path.join(models, 'p')];
execFileSync(program, packing, { stdio: ['ignore', 'ignore', 'inherit'] });
const sha256 = createHash('sha256').update(fs.readFileSync(defaultModel)).digest('hex');

const page = (/** @type {object} */ job) => `<!doctype html><script type="module">
  const { url, sha256 } = ${JSON.stringify(job)};
  const { ExitLM } = await import('/web/src/index.js');
  await new Promise((resolve) => setTimeout(resolve, ${REST_MS}));
  const began = performance.now();
  const since = () => performance.now() - began;
  const lm = await ExitLM.load(url, { threads: 1, sha256 });
  const ready = lm.ready.then(since);
  const messages = [{ role: 'user', content: 'Please tell me in a few clear sentences about why the sky is blue.' }];
  let first = 0;
  const reply = lm.chat(messages, { mode: 'exit', maxTokens: 24 });
  for await (const _ of reply) first ||= since();
  const all = await ready;
  await lm.dispose();
  await fetch('/took?' + first + '&' + all);
</script>`;

/** @type {(took: number[]) => void} */
let tell = () => {};
let job = {};
const server = createServer({
  root,
  folders: ['web'],
  intercept({ url = '' }, response) {
    if (url === '/alone') response.writeHead(200, { 'Content-Type': 'text/html' }).end(page(job));
    else if (url.startsWith('/took?')) {
      response.writeHead(200).end();
      tell(url.slice('/took?'.length).split('&').map(Number));
    } else return false;
    return true;
  },
});
const address = (await listen(server)).slice(0, -1);

/** @returns {Promise<number[]>} first token and all there, ms */
async function load(/** @type {string} */ way) {
  const line = await openLine({ root: folder, folders: ['models'], ranges: way === 'packed' });
  const file = way === 'packed' ? 'p/manifest.json' : 'm.gguf';
  job = { url: `${line.address}/models/${file}`, sha256: way === 'checked' ? sha256 : undefined };
  const profile = fs.mkdtempSync(path.join(folder, 'profile-'));
  const took = new Promise((resolve) => {
    tell = resolve;
  });
  const browser = spawn(
    executablePath,
    ['--headless=new', `--user-data-dir=${profile}`, ...ARGS, `${address}/alone`],
    { stdio: 'ignore', detached: true },
  );
  const late = setTimeout(() => tell([NaN, NaN]), MOST_MS);
  const times = await took;
  clearTimeout(late);
  if (browser.pid) process.kill(-browser.pid, 'SIGKILL');
  await new Promise((resolve) => {
    browser.once('exit', resolve);
  });
  fs.rmSync(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  await line.close();
  return times;
}

/** @type {Record<string, number[][]>} */
const results = Object.fromEntries(ways.map((way) => [way, []]));
for (let round = 0; round < Number(values.rounds); round++)
  for (let i = 0; i < ways.length; i++) {
    const way = ways[(i + round) % ways.length];
    results[way].push(await load(way));
  }
const all = (/** @type {string} */ way, /** @type {number} */ which) =>
  results[way].map((times) => times[which]);
for (const way of ways) {
  const shown = [0, 1].map((which) => {
    const ratios = all(way, which).map((ms, round) => ms / all(ways[0], which)[round]);
    return `${(median(all(way, which)) / 1000).toFixed(2)} s (${median(ratios).toFixed(2)}x)`;
  });
  console.log(`${way.padEnd(8)} first token ${shown[0]}, all there ${shown[1]}`);
}
process.exit(0);
