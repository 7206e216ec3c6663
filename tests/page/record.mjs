// Makes web/demo/recorded.json, what the page shows before anything is loaded: an answer of the
// default model at its heads' own level, its first paragraph, written by this page in Chromium, and
// how fast it was beside the full model: the median of interleaved pairs.
//
//   node tests/page/record.mjs [--pairs 9]
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { start } from './browser.mjs';

const { values } = parseArgs({ options: { pairs: { type: 'string', default: '9' } } });
const question = 'How do plants make their food?';
const median = (/** @type {number[]} */ list) => list.sort((a, b) => a - b)[list.length >> 1];
const catalogue = JSON.parse(
  fs.readFileSync(new URL('../../models/catalog.json', import.meta.url), 'utf8'),
);
const { title } = catalogue.models.find(
  (/** @type {{ name: string }} */ { name }) => name === catalogue.default,
);

const it = await start();
try {
  const page = await it.open('/web/demo/');
  await page.getByRole('button', { name: /^Load / }).click();
  await page.locator('#model-dot[data-state=ready]').waitFor({ timeout: 300000 });
  // as many tokens as its first paragraph has
  await page.evaluate(async (content) => {
    const { model } = await import(/** @type {any} */ ('/web/demo/model.js'));
    const { change, settings } = await import(/** @type {any} */ ('/web/demo/store.js'));
    const messages = [
      { role: 'system', content: settings.system },
      { role: 'user', content },
    ];
    let maxTokens = 0;
    for await (const { text } of model.lm.chat(messages, { mode: 'exit', maxTokens: 160 })) {
      if (text.includes('\n\n')) break;
      maxTokens++;
    }
    change({ maxTokens });
  }, question);
  await page.getByRole('textbox', { name: 'Message' }).fill(question);
  await page.keyboard.press('Enter');
  await page.locator('.run-figures', { hasText: '× as fast as full' }).waitFor({ timeout: 600000 });
  const run = await page.evaluate(
    () => /** @type {any} */ (document.querySelector('#messages .answer')).answer.run,
  );
  const { pairs, kernel, threads } = await page.evaluate(
    async ({ content, maxTokens, n }) => {
      const { model } = await import(/** @type {any} */ ('/web/demo/model.js'));
      const { settings } = await import(/** @type {any} */ ('/web/demo/store.js'));
      const messages = [
        { role: 'system', content: settings.system },
        { role: 'user', content },
      ];
      const rate = async (/** @type {string} */ mode) =>
        (await model.lm.chat(messages, { mode, maxTokens }).result).timing.tokensPerSecond;
      /** @type {[number, number][]} */
      const list = [];
      for (let i = 0; i < n; i++) list.push([await rate('exit'), await rate('full')]);
      return { pairs: list, ...model.lm.info };
    },
    { content: question, maxTokens: run.tokens.length, n: Number(values.pairs) },
  );
  console.log(pairs.map(([exit, full]) => `${exit} / ${full} = ${exit / full}`).join('\n'));
  const ratio = median(pairs.map(([exit, full]) => exit / full));
  const rate = median(pairs.map(([exit]) => exit));
  const processor = os
    .cpus()[0]
    .model.replace(/\(R\)|\(TM\)|Processor|\d+-Core/g, '')
    .trim();
  const { meanDepth, meanWork } = run.result;
  const recorded = {
    made: `node tests/page/record.mjs --pairs ${values.pairs}`,
    question,
    about: `Recorded with ${title} in Chromium on ${threads === 1 ? 'one thread' : `${threads} threads`} of a shared ${processor.replace(/\s+/g, ' ')} (${kernel}), speed as the median of ${values.pairs} pairs. A model this small writes fluently and knows little.`,
    run: {
      mode: run.mode,
      accuracy: run.accuracy,
      of: run.of,
      exits: run.exits,
      text: run.text,
      reason: '',
      result: { meanDepth, meanWork },
      rate,
      full: rate / ratio,
      tokens: run.tokens.map((/** @type {any[]} */ [text, layer, work, head, confidence]) => [
        text,
        layer,
        work,
        head,
        confidence,
        0,
        null,
      ]),
    },
  };
  const rows = recorded.run.tokens.map((row) => JSON.stringify(row));
  const json = JSON.stringify({ ...recorded, run: { ...recorded.run, tokens: [] } }, null, 1);
  fs.writeFileSync(
    path.join(fileURLToPath(new URL('../../', import.meta.url)), 'web/demo/recorded.json'),
    `${json.replace('"tokens": []', `"tokens": [\n${rows.join(',\n')}\n]`)}\n`,
  );
  console.log(recorded.about, { ratio, meanWork });
} finally {
  await it.close();
}
