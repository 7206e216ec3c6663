// The tiny model with heads made for tests: exits after layers 2 and 4 of 6, and a short list after
// the last. Both are random, so what the heads promise means nothing; but tokens do leave
// everywhere.
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ExitLM } from '../../../web/src/index.js';
import { headsFile } from './heads-file.mjs';

export const tinyPath = fileURLToPath(new URL('../../data/tiny.gguf', import.meta.url));
export const tinyBytes = fs.readFileSync(tinyPath);

/** The same model with a context of 2048 tokens, which has room for tools. */
export const roomyBytes = Buffer.from(tinyBytes);
const key = 'llama.context_length';
roomyBytes.writeUInt32LE(2048, roomyBytes.indexOf(key) + key.length + 4); // behind the value's type

/**
 * What is said under this comes to no end before its context is full. Of the roomy model, that is half
 * a second of work or more: what happens after its first tokens happens in the midst of it.
 */
export const ENDLESS = /** @type {const} */ ({
  mode: 'full',
  maxTokens: 4000,
  pattern: /[a-z]{4096,}/,
});

/**
 * @param {number} [defaultAccuracy] the level that the file names
 * @param {string | Uint8Array} [model]
 * @param {import('./heads-file.mjs').Level[]} [further] rows for other replies
 */
export async function tinyHeads(defaultAccuracy, model = tinyPath, further = []) {
  const lm = await ExitLM.load(model, { heads: false, worker: false });
  await lm.ready;
  const { fingerprint, layers, dimension: dim, vocabulary: vocab } = lm.info;
  await lm.dispose();
  return headsFile({
    defaultAccuracy,
    fingerprint,
    layers,
    dim,
    vocab,
    kvDim: 32,
    heads: [
      { layer: 2, rows: 200 },
      { layer: 4, rows: 200 },
      { layer: 6, rows: 300 },
    ],
    levels: [
      { accuracy: 0.9, thresholds: [0.4, 0.4, 0.5] },
      { accuracy: 0.95, thresholds: [0.3, 0.35, 0.4] },
    ],
    further,
  });
}

/** @param {import('../../../web/src/link/types.js').LoadOptions} [options] */
export async function loadTiny(options = {}) {
  return ExitLM.load(tinyPath, { heads: await tinyHeads(), worker: false, ...options });
}

export async function loadRoomy() {
  return ExitLM.load(roomyBytes, { heads: await tinyHeads(undefined, roomyBytes), worker: false });
}
