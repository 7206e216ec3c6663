// The connection is cut at 20 random bytes while a model loads: it arrives whole, an answer that
// has begun waits and goes on, and next to nothing is fetched twice. On the tiny random model;
// tests/bench/load-cuts.mjs does the same with the default model in Chromium.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { after, test } from 'node:test';
import { ExitLM } from '../../web/src/index.js';
import { built, good, scratch } from './support/cli.mjs';
import { cutAt, drawCuts, randomFrom, sentTwice } from './support/cuts.mjs';
import { modelServer } from './support/model-server.mjs';
import { tinyBytes, tinyHeads, tinyPath } from './support/tiny-model.mjs';

const CUTS = 20;
const BYTES_PER_SECOND = 400_000;
/**
 * Rows that the prompt needs at once are fetched beside the file's order, with their neighbours.
 */
const URGENT_BYTES = 32 * 1024;
const sha256 = createHash('sha256').update(tinyBytes).digest('hex');
const prompt = 'Once upon a time';

/** @type {{ close(): Promise<void> }[]} */
const servers = [];
after(() => Promise.all(servers.map((s) => s.close())));

/** @returns {any} a cache of the caller's */
function memoryCache() {
  /** @type {Map<string, Uint8Array>} */
  const kept = new Map();
  return {
    get: async (/** @type {string} */ key) => kept.get(key),
    put: async (/** @type {string} */ key, /** @type {Uint8Array} */ value) =>
      void kept.set(key, value.slice()),
    delete: async (/** @type {string} */ key) => kept.delete(key),
  };
}

/** @param {'range' | 'packed'} way */
function filesOf(way) {
  if (way === 'range') return { '/m/tiny.gguf': new Uint8Array(tinyBytes) };
  const folder = scratch('cuts', undefined);
  good(['pack', tinyPath, '-o', folder, '--heads', 'none']);
  return Object.fromEntries(
    fs
      .readdirSync(folder)
      .map((name) => [`/m/${name}`, new Uint8Array(fs.readFileSync(path.join(folder, name)))]),
  );
}

for (const way of /** @type {const} */ (['range', 'packed'])) {
  for (const mode of /** @type {const} */ (['exit', 'full'])) {
    test(
      `${way}, ${mode}: cut at ${CUTS} random bytes`,
      { skip: way === 'packed' && !built, timeout: 120_000 },
      async () => {
        const heads = await tinyHeads();
        const whole = await ExitLM.load(tinyPath, { heads, worker: false });
        const expected = (await whole.complete(prompt, { mode, maxTokens: 16 }).result).text;
        await whole.dispose();

        const files = filesOf(way);
        const server = await modelServer(files, { bytesPerSecond: BYTES_PER_SECOND });
        servers.push(server);
        const targets = Object.entries(files)
          .map(([url, bytes]) => ({ url, bytes: bytes.length }))
          .filter(({ url }) => !url.endsWith('manifest.json'));
        const { pending } = cutAt(
          server,
          drawCuts(targets, CUTS, randomFrom(way === 'range' ? 7 : 8)),
        );
        const entry = way === 'range' ? '/m/tiny.gguf' : '/m/manifest.json';
        const lm = await ExitLM.load(`${server.address}${entry}`, {
          heads,
          worker: false,
          cache: memoryCache(),
          ...(way === 'range' ? { sha256 } : {}),
        });
        let ready = false;
        const all = lm.ready.then(() => {
          ready = true;
        });
        const reply = lm.complete(prompt, { mode, maxTokens: 16 });
        assert.equal(ready, false, 'the answer began before the model was there');
        assert.equal((await reply.result).text, expected);
        await all; // whole: checked against its SHA-256, or its shards' own
        // Not all of a file need be asked for by the byte that was drawn: padding between tensors
        // is not fetched.
        assert.ok(CUTS - pending.length >= 15, `${CUTS - pending.length} cuts`);
        const twice = sentTwice(server.seen);
        assert.ok(
          twice <= tinyBytes.length / 2,
          `${twice} bytes were sent twice after ${CUTS - pending.length} cuts`,
        );
        const { networkBytes } = await lm.memory();
        assert.ok(
          networkBytes <= tinyBytes.length + (way === 'range' ? URGENT_BYTES : 0),
          `${networkBytes} of ${tinyBytes.length} bytes were taken`,
        );
        await lm.dispose();
      },
    );
  }
}
