// The checks of every reply see what is wrong, and are there where the suite is run.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ExitLM } from '../../web/src/index.js';
import { Replies } from '../../web/src/engine/replies.js';
import { checkMemory, checkReply } from './support/invariants.mjs';
import { tinyPath } from './support/tiny-model.mjs';

test('sums, means and memory that cannot be', async (t) => {
  const lm = await ExitLM.load(tinyPath, { worker: false });
  const result = await lm.complete('Once', { maxTokens: 5, mode: 'full' }).result;
  const memory = await lm.memory();
  checkReply(result, 'full');
  checkMemory(memory, 0);
  for (const wrong of [
    { exits: { ...result.exits, [-1]: 4 } },
    { meanDepth: 1.1 },
    { meanWork: 1.1 },
    { accepted: 1 },
  ])
    assert.throws(() => checkReply({ ...result, ...wrong }, 'full'), assert.AssertionError);
  const more = { ...memory, total: memory.total + 20e6 };
  assert.throws(() => checkMemory(more, 0));
  checkMemory(more, 0, true);
  assert.throws(() => checkMemory({ ...memory, total: memory.total + 40e6 }, 0, true));
  // …and each reply passes through them
  const { generate } = Replies.prototype;
  t.mock.method(Replies.prototype, 'generate', async function (/** @type {any[]} */ ...args) {
    return { ...(await generate.apply(this, /** @type {any} */ (args))), meanDepth: 2 };
  });
  await assert.rejects(lm.complete('Once', { maxTokens: 2 }).result, /meanDepth/);
  await lm.dispose();
});
