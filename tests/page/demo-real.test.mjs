// The chat page with the default model and its exit heads, where they are there: an answer of both
// modes, before the model is whole.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, test } from 'node:test';
import { start } from './browser.mjs';

const here = ['smollm2-135m-instruct.gguf', 'smollm2-135m-instruct.exits.gguf'].every((name) =>
  fs.existsSync(new URL(`../../models/${name}`, import.meta.url)),
);

test(
  'asks the default model while it loads, and compares exit with full',
  { skip: !here && 'the model is not here (npm run model)', timeout: 600000 },
  async () => {
    const it = await start({ bitsPerSecond: 200e6 });
    after(() => it.close());
    const page = await it.open('/web/demo/');
    await page.evaluate(async () =>
      (await import(/** @type {any} */ ('/web/demo/store.js'))).change({
        maxTokens: 40,
        compare: true,
      }),
    );
    await page.getByRole('textbox', { name: 'Message' }).fill('What is the capital of France?');
    await page.keyboard.press('Enter');
    await page.locator('#loading .here').first().waitFor({ timeout: 300000 });
    await page.locator('.turn.assistant').waitFor();
    await page.locator('#send[data-busy=false]').waitFor({ timeout: 500000 });
    const [lossless, full, exit] = await page.evaluate(() =>
      [...document.querySelectorAll('#messages .answer')].map(
        (node) => /** @type {any} */ (node).answer.run,
      ),
    );
    assert.deepEqual([lossless.mode, full.mode, exit.mode], ['lossless', 'full', 'exit']);
    assert.equal(lossless.text, full.text);
    for (const { text } of [exit, full]) assert.match(text, /Paris/);
    assert.ok(exit.checked, 'each exit was compared with the full model');
    assert.ok(
      exit.tokens.some((/** @type {any} */ [, layer]) => layer < 30),
      'some tokens leave before the last layer',
    );
    assert.ok(
      exit.tokens.some((/** @type {any} */ [, , , head]) => head >= 0),
      'exits answer',
    );
    const work = (/** @type {any} */ { tokens }) =>
      tokens.reduce((/** @type {number} */ sum, /** @type {any} */ [, , w]) => sum + w, 0) /
      tokens.length;
    assert.ok(work(exit) < 0.97 && work(full) > 0.99, `work ${work(exit)} against ${work(full)}`);
    // What the page suggests comes to an end and says nothing twice, greedily.
    const said = await page.evaluate(async () => {
      const { model } = await import(/** @type {any} */ ('/web/demo/model.js'));
      const { settings, DEFAULTS } = await import(/** @type {any} */ ('/web/demo/store.js'));
      const { SUGGESTIONS } = await import(/** @type {any} */ ('/web/demo/shapes.js'));
      const replies = [];
      for (const { text: content, shape } of SUGGESTIONS)
        if (!shape)
          replies.push(
            await model.lm.chat(
              [
                { role: 'system', content: settings.system },
                { role: 'user', content },
              ],
              { maxTokens: DEFAULTS.maxTokens, mode: DEFAULTS.mode },
            ).result,
          );
      return replies;
    });
    assert.ok(said.length >= 2);
    for (const { text, reason } of said) {
      assert.equal(reason, 'stop', text);
      const words = text.split(/\s+/);
      const runs = words
        .slice(7)
        .map((/** @type {string} */ _, /** @type {number} */ i) => words.slice(i, i + 8).join(' '));
      assert.ok(new Set(runs).size > 0.9 * runs.length, text);
    }
    assert.deepEqual(it.errors, []);
  },
);
