// The engine with threads, over and over: several instances at once, loaded and disposed of, while
// their workers come, sleep and go. What must not happen is that one waits for ever, or says
// something else than one thread does.
//
//   EXITLM_STRESS=20000 node --test tests/js/threads.test.mjs     as many replies (400)
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { ExitLM } from '../../web/src/index.js';
import { tinyPath } from './support/tiny-model.mjs';

const replies = Number(process.env.EXITLM_STRESS ?? 400);
const load = (/** @type {number} */ threads, worker = true) =>
  ExitLM.load(tinyPath, { heads: false, threads, worker });
const ask = { maxTokens: 3 };

/**
 * Rejects where nothing has happened for this long, on a loaded machine too. @template T @param
 * {Promise<T>} promise @param {string} what @returns {Promise<T>}
 */
function awake(promise, what, ms = 240_000) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  return Promise.race([
    promise,
    new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`${what}: nothing for ${ms} ms`)), ms);
    }),
  ]).finally(() => clearTimeout(timer));
}

test(`${replies} short replies in three instances at once`, async () => {
  const one = await load(1);
  const prompts = Array.from({ length: 8 }, (_, i) => `Once upon ${'a time '.repeat(i * 3)}`);
  const expected = [];
  for (const prompt of prompts) expected.push((await one.complete(prompt, ask).result).text);
  await one.dispose();
  let done = 0;
  await Promise.all(
    [2, 3, 4].map(async (threads) => {
      let lm = await awake(load(threads), 'load');
      assert.equal(lm.info.threads, threads);
      for (let i = 0; done < replies; i++) {
        const { text } = await awake(
          lm.complete(prompts[i % 8], ask).result,
          `reply ${i} with ${threads} threads`,
        );
        assert.equal(text, expected[i % 8]);
        done++;
        // the workers fall asleep
        if (i % 16 === 15)
          await new Promise((resolve) => {
            setTimeout(resolve, 2);
          });
        if (i % 100 === 99) {
          await awake(lm.dispose(), 'dispose');
          lm = await awake(load(threads), 'load');
        }
      }
      await awake(lm.dispose(), 'dispose');
    }),
  );
});

test("threads with the engine in the caller's own thread", async () => {
  const lm = await load(2, false);
  const texts = new Set();
  for (let i = 0; i < 100; i++)
    texts.add((await awake(lm.complete('Once upon a time', ask).result, `reply ${i}`)).text);
  assert.equal(texts.size, 1);
  await lm.dispose();
});

test('a process ends, whatever its threads are doing', async () => {
  const index = fileURLToPath(new URL('../../web/src/index.js', import.meta.url));
  const script = (/** @type {string} */ end) => `
    const { ExitLM } = await import(${JSON.stringify(index)});
    const lm = await ExitLM.load(${JSON.stringify(tinyPath)}, { heads: false, threads: 3 });
    await lm.complete('Once', { maxTokens: 3 }).result;
    ${end}`;
  for (const end of [
    '',
    'await lm.dispose();',
    'process.exit(0);',
    "lm.complete('Once').result.catch(() => {}); setTimeout(() => process.exit(0), 5);",
  ]) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script(end)], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    const code = await awake(
      new Promise((resolve) => {
        child.once('exit', (c, signal) => resolve(c ?? signal));
      }),
      `a process that ends with "${end}"`,
    ).catch((error) => {
      child.kill('SIGKILL');
      throw error;
    });
    assert.equal(code, 0);
  }
});
