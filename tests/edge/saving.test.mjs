// A conversation that one isolate has saved in R2 goes on in another, in miniflare (workerd), as it
// would in one session of Node: the same text, and nothing of it is read again.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ExitLM } from '../../web/src/edge.js';
import { tiny } from '../js/support/cli.mjs';
import { startMiniflare } from './support/miniflare.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
/** @type {any} */ let miniflare;

before(async () => {
  miniflare = await startMiniflare(path.join(here, 'fixture/saving-worker.js'), (Response) =>
    ['one', 'another'].map((name) => ({
      name,
      r2Buckets: { SAVED: 'saved' },
      serviceBindings: {
        ASSETS: (/** @type {Request} */ { url }) =>
          url.endsWith('/tiny.gguf')
            ? new Response(fs.readFileSync(tiny))
            : new Response(null, { status: 404 }),
      },
    })),
  );
});
after(() => miniflare?.dispose());

/** @param {string} isolate @param {object} body */
async function ask(isolate, body) {
  const worker = await miniflare.getWorker(isolate);
  const init = { method: 'POST', body: JSON.stringify(body) };
  return (await worker.fetch('https://worker.local/', init)).json();
}

test('another isolate goes on with a conversation of R2; what is damaged is refused', async () => {
  const lm = await ExitLM.load(new Uint8Array(fs.readFileSync(tiny)), { contextLength: 512 });
  const session = lm.session();
  const messages = [{ role: 'user', content: 'Name a river.' }];
  const says = async (/** @type {string} */ isolate, /** @type {boolean} */ restored) => {
    const expected = await session.chat(messages, { maxTokens: 12 }).result;
    const answer = await ask(isolate, { name: 'anna', messages });
    assert.deepEqual([answer.text, answer.restored], [expected.text, restored], answer.error);
    messages.push({ role: 'assistant', content: answer.text });
    return answer.usage;
  };
  const { promptTokens } = await says('one', false);
  messages.push({ role: 'user', content: 'And a tree?' });
  const { reusedTokens } = await says('another', true);
  assert.ok(reusedTokens >= promptTokens, `${reusedTokens} of ${promptTokens} tokens again`);
  messages.push({ role: 'user', content: 'Thanks.' });
  await says('one', true);
  await lm.dispose();

  const bucket = await miniflare.getR2Bucket('SAVED', 'one');
  const bytes = new Uint8Array(await (await bucket.get('anna')).arrayBuffer());
  bytes[bytes.length >> 1] ^= 1;
  await bucket.put('anna', bytes);
  assert.match((await ask('another', { name: 'anna', messages })).error, /checksum|damaged/);
});
