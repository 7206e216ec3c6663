// The default model over a slow line, beside two processes that take all that they can get: it
// answers before it has every byte, and neither who loads nor who computes starves the other.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { after, test } from 'node:test';
import { start } from './browser.mjs';

const model = new URL('../../models/smollm2-135m-instruct.gguf', import.meta.url);
const heads = new URL('../../models/smollm2-135m-instruct.exits.gguf', import.meta.url);
const here = fs.existsSync(model) && fs.existsSync(heads);

test(
  'answers before the last byte beside two busy processes',
  { skip: !here && 'the model is not here (npm run model)', timeout: 600000 },
  async (t) => {
    // The line nearly stands still, with what the first token needs on this side of it, until that has
    // been said.
    let come = 0;
    let said = false;
    const it = await start({ bitsPerSecond: () => (said || come < 0.85 ? 16e6 : 5e5) });
    const busy = [1, 2].map(() => spawn(process.execPath, ['-e', 'for (;;);']));
    after(() => {
      for (const child of busy) child.kill();
      return it.close();
    });
    const page = await it.open('/tests/page/blank.html');
    await page.exposeFunction('isSaid', () => {
      said = true;
    });
    await page.exposeFunction('hasCome', (/** @type {number} */ share) => {
      come = share;
    });
    const { text, loaded, total } = await page.evaluate(async () => {
      const { ExitLM } = await import(/** @type {any} */ ('/web/src/index.js'));
      let now = { loaded: 0, total: 0 };
      const lm = await ExitLM.load('/models/smollm2-135m-instruct.gguf', {
        cache: 'none',
        onProgress: (/** @type {typeof now} */ progress) => {
          now = progress;
          /** @type {any} */ (window).hasCome(now.loaded / now.total);
        },
      });
      /** What had come when each token was there. @type {number[]} */
      const seen = [];
      const ask = async () => {
        const reply = lm.chat([{ role: 'user', content: 'What is the capital of France?' }], {
          maxTokens: 24,
          // Exits that wait for no K/V maps: the full model's token would need every row.
          accuracy: 0.9,
          kv: 'exact',
        });
        for await (const token of reply)
          if (token && seen.push(now.loaded) === 1) await /** @type {any} */ (window).isSaid();
        return (await reply.result).text;
      };
      const answer = await ask();
      let whole = false;
      lm.ready.then(() => (whole = true));
      while (!whole) await ask();
      return { text: answer, loaded: seen, total: now.total };
    });
    const early = loaded.filter((bytes) => bytes < total).length;
    t.diagnostic(
      `${early} of ${loaded.length} tokens before the last byte, the first after ${((100 * loaded[0]) / total).toFixed(0)} %`,
    );
    assert.match(text, /Paris/);
    assert.ok(early >= 1, 'a token came before all bytes were there');
    assert.ok(loaded[loaded.length - 1] > loaded[0], 'bytes came while tokens were computed');
    assert.deepEqual(it.errors, []);
  },
);
