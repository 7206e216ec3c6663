// When does the first token come on a slow line? (npm run bench:load)
//
//   node tests/bench/load.mjs [--mbit 20] [--prompts 20] [--ways packed,range,order] [--modes exit,full] [--model FILE] [--heads FILE] [--json]
//
// Chromium loads the default model from a server on this machine whose line is limited, each time into an empty cache, and
// answers a prompt of about 40 tokens meanwhile. `packed`: shards of `exitlm pack`; `range`: the plain file from a server with
// ranges; `order`: from one without. Told are the share of all bytes (the heads' too) that had arrived when the first token was out, and the time from
// the last byte to it; negative: it was out before.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { start } from '../page/browser.mjs';

const root = fileURLToPath(new URL('../../', import.meta.url));
const { values } = parseArgs({ options: {
  mbit: { type: 'string', default: '20' }, prompts: { type: 'string', default: '20' }, ways: { type: 'string', default: 'packed,range,order' },
  modes: { type: 'string', default: 'exit,full' }, model: { type: 'string', default: 'models/smollm2-135m-instruct.gguf' }, heads: { type: 'string' },
  program: { type: 'string', default: 'build/exitlm' }, json: { type: 'boolean' },
} });
const model = path.resolve(root, values.model);
const beside = model.replace(/\.gguf$/, '.exits.gguf');
const heads = values.heads ? path.resolve(values.heads) : fs.existsSync(beside) ? beside : null;

const TOPICS = ['why the sky is blue', 'how bread is made', 'the first people on the Moon', 'a walk in the mountains', 'how to learn a language', 'what a library is for',
  'the history of the bicycle', 'why leaves turn red', 'how a bridge carries weight', 'a recipe for soup', 'how bees find flowers', 'what makes a good friend', 'how computers count',
  'the water cycle', 'a day at the sea', 'how music is written down', 'why we sleep', 'how paper is made', 'what stars are', 'growing tomatoes'];
const prompts = TOPICS.slice(0, Number(values.prompts)).map((topic) => `Please tell me in a few clear sentences about ${topic}.`);

/** Everything that is served, in one temporary folder. */
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-load-'));
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
for (const name of ['web', 'tests']) fs.symlinkSync(path.join(root, name), path.join(folder, name));
fs.mkdirSync(path.join(folder, 'models'));
fs.copyFileSync(model, path.join(folder, 'models/plain.gguf'));
if (heads) fs.copyFileSync(heads, path.join(folder, 'models/plain.exits.gguf'));
if (values.ways.includes('packed')) {
  const { status } = spawnSync(path.resolve(root, values.program), ['pack', path.join(folder, 'models/plain.gguf'), '-o', path.join(folder, 'models/packed')], { stdio: ['ignore', 2, 2] });
  if (status !== 0) throw new Error('exitlm pack failed');
}
const totalBytes = fs.statSync(model).size + (heads ? fs.statSync(heads).size : 0);

/** One load and one answer in a fresh profile. */
async function measure(/** @type {string} */ way, /** @type {string} */ mode, /** @type {string} */ prompt) {
  const it = await start({ root: folder, folders: ['web', 'tests', 'models'], ranges: way !== 'order' });
  const page = await it.open('/tests/page/blank.html');
  await page.evaluate(() => import('/web/src/index.js')); // the package itself is there already
  const slow = await start({ root: folder, folders: ['models'], ranges: way !== 'order', bitsPerSecond: Number(values.mbit) * 1e6,
    headers: { 'Access-Control-Allow-Origin': '*', 'Access-Control-Expose-Headers': 'ETag, Content-Range' } });
  const result = await page.evaluate(async ({ url, mode, prompt, heads }) => {
    const { ExitLM } = await import('/web/src/index.js');
    const began = performance.now();
    let loaded = 0;
    const lm = await ExitLM.load(url, { ...(heads ? {} : { heads: false }), cache: 'none', onProgress: (/** @type {any} */ p) => (loaded = p.loaded) });
    const talkable = performance.now() - began;
    const reply = lm.chat([{ role: 'user', content: prompt }], { mode, maxTokens: 24 });
    const readyAt = lm.ready.then(() => performance.now() - began);
    let firstMs = 0;
    let firstBytes = 0;
    for await (const token of reply) {
      if (firstMs === 0) {
        firstMs = performance.now() - began;
        firstBytes = loaded;
      }
      void token;
    }
    const { usage } = await reply.result;
    const readyMs = await readyAt;
    await lm.dispose();
    return { talkableMs: talkable, firstMs, firstBytes, readyMs, promptTokens: usage.promptTokens };
  }, { url: `${slow.address}/models/${way === 'packed' ? 'packed/manifest.json' : 'plain.gguf'}`, mode, prompt, heads: heads !== null });
  await it.close();
  await slow.close();
  const headsBytes = heads ? fs.statSync(heads).size : 0;
  return { ...result, share: (result.firstBytes + headsBytes) / totalBytes, afterLastByteMs: result.firstMs - result.readyMs };
}

const median = (/** @type {number[]} */ list) => [...list].sort((a, b) => a - b)[list.length >> 1];
const rows = [];
for (const way of values.ways.split(',')) {
  for (const mode of values.modes.split(',')) {
    if (mode !== 'full' && !heads) {
      console.error(`${mode}: left out, there are no heads beside ${values.model}`);
      continue;
    }
    const runs = [];
    for (const prompt of prompts) runs.push(await measure(way, mode, prompt));
    const shares = runs.map((r) => r.share);
    const row = { type: 'load', way, mode, mbit: Number(values.mbit), prompts: runs.length, share: median(shares), under78: shares.filter((s) => s < 0.78).length,
      under68: shares.filter((s) => s < 0.68).length, talkable_ms: median(runs.map((r) => r.talkableMs)), first_ms: median(runs.map((r) => r.firstMs)),
      ready_ms: median(runs.map((r) => r.readyMs)), after_last_byte_ms: median(runs.map((r) => r.afterLastByteMs)), shares };
    rows.push(row);
    if (values.json) console.log(JSON.stringify(row));
    else {
      console.log(`${way.padEnd(7)} ${mode.padEnd(5)} first token after ${(100 * row.share).toFixed(1)} % of the bytes (under 78 %: ${row.under78}, under 68 %: ${row.under68} of ${row.prompts}); ` +
        `talkable ${(row.talkable_ms / 1000).toFixed(1)} s, first token ${(row.first_ms / 1000).toFixed(1)} s, all there ${(row.ready_ms / 1000).toFixed(1)} s, ` +
        `${row.after_last_byte_ms.toFixed(0)} ms after the last byte`);
    }
  }
}
if (rows.length === 0) process.exitCode = 1;
