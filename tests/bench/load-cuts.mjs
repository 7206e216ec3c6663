// The connection is cut at random bytes while the default model loads in Chromium: does it arrive
// whole, does the answer go on, what comes twice?
//
//   node tests/bench/load-cuts.mjs [--ways range,packed] [--cuts 20] [--mbit 20] [--seed 1] [--mode
//   exit] [--model FILE]
//
// The model is checked against its SHA-256 (range: the whole file, read back from the cache;
// packed: each shard); the answer, which begins before the weights are there, against the one that
// the loaded model gives. Ends with status 1 where a check fails or where over 1 MB was sent twice.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { cutAt, drawCuts, randomFrom, sentTwice } from '../js/support/cuts.mjs';
import { modelServer } from '../js/support/model-server.mjs';
import { start } from '../page/browser.mjs';

const MOST_TWICE_BYTES = 1e6;
const root = fileURLToPath(new URL('../../', import.meta.url));
const { values } = parseArgs({
  options: {
    ways: { type: 'string', default: 'range,packed' },
    cuts: { type: 'string', default: '20' },
    mbit: { type: 'string', default: '20' },
    seed: { type: 'string', default: '1' },
    mode: { type: 'string', default: 'exit' },
    model: { type: 'string', default: 'models/smollm2-135m-instruct.gguf' },
    program: { type: 'string', default: 'build/exitlm' },
  },
});
const model = path.resolve(root, values.model);
const bytes = fs.readFileSync(model);
const heads = fs.readFileSync(model.replace(/\.gguf$/, '.exits.gguf'));
const packages = await start({ folders: ['web', 'tests'] });

/** @param {string} way @returns {Record<string, Uint8Array>} */
function filesOf(way) {
  if (way === 'range') return { '/m/model.gguf': bytes, '/m/model.exits.gguf': heads };
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-cuts-'));
  try {
    const { status } = spawnSync(
      path.resolve(root, values.program),
      ['pack', model, '-o', folder],
      { stdio: ['ignore', 2, 2] },
    );
    if (status !== 0) throw new Error('exitlm pack failed');
    return Object.fromEntries(
      fs
        .readdirSync(folder)
        .map((name) => [`/m/${name}`, fs.readFileSync(path.join(folder, name))]),
    );
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

for (const way of values.ways.split(',')) {
  const files = filesOf(way);
  const server = await modelServer(files, {
    bytesPerSecond: Number(values.mbit) * 125_000,
    headers: {
      'access-control-allow-origin': '*',
      'access-control-expose-headers': 'ETag, Content-Range',
      'cross-origin-resource-policy': 'cross-origin',
    },
  });
  const targets = Object.entries(files).map(([url, file]) => ({ url, bytes: file.length }));
  const { pending } = cutAt(
    server,
    drawCuts(targets, Number(values.cuts), randomFrom(Number(values.seed))),
  );
  const page = await packages.open('/tests/page/blank.html');
  const result = await page.evaluate(
    async ({ url, sha256, mode }) => {
      const { ExitLM } = await import(/** @type {any} */ ('/web/src/index.js'));
      const messages = [
        { role: 'user', content: 'Please tell me in a few clear sentences how bread is made.' },
      ];
      const lm = await ExitLM.load(url, { ...(sha256 ? { sha256 } : {}), threads: 1 });
      let isReady = false;
      const ready = lm.ready.then(() => {
        isReady = true;
      });
      const reply = lm.chat(messages, { mode, maxTokens: 40 });
      const early = !isReady;
      const { text } = await reply.result;
      const beforeTheEnd = !isReady;
      await ready; // rejects with CHECKSUM where a byte is wrong
      const again = (await lm.chat(messages, { mode, maxTokens: 40 }).result).text;
      const { networkBytes } = await lm.memory();
      await lm.dispose();
      return { early, beforeTheEnd, text, again, networkBytes };
    },
    {
      url: `${server.address}/m/${way === 'range' ? 'model.gguf' : 'manifest.json'}`,
      sha256: way === 'range' ? createHash('sha256').update(bytes).digest('hex') : null,
      mode: values.mode,
    },
  );
  await page.context().close();
  await server.close();
  const twice = sentTwice(server.seen);
  const happened = Number(values.cuts) - pending.length;
  const good =
    result.early && result.text === result.again && twice <= MOST_TWICE_BYTES && happened > 0;
  console.log(
    `${way}: ${happened} of ${values.cuts} cuts happened (seed ${values.seed}), the model arrived whole; the answer began before the last byte and ${result.text === result.again ? 'is' : 'is NOT'} that of the loaded model` +
      `${result.beforeTheEnd ? ', it ended before the last byte' : ''}; ${server.seen.length} requests, ${(twice / 1000).toFixed(0)} kB sent twice, ${result.networkBytes} bytes taken of a file of ${bytes.length}${good ? '' : ': FAILED'}`,
  );
  if (!good) process.exitCode = 1;
}
await packages.close();
