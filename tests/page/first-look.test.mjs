// What somebody sees who comes for the first time, and what a link, a long answer, a full disk or a
// screen reader make of the page: one browser, one loaded model.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { after, test } from 'node:test';
import { startTiny } from './tiny.mjs';

const axe = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/** The engine's worker on a device whose disk is full: the page is told so by that user agent. */
const FULL = 'a full disk';
const worker = fs.readFileSync(new URL('../../web/src/worker.js', import.meta.url), 'utf8');
const it = await startTiny({
  serve: {
    intercept: (request, response) => {
      if (request.headers['user-agent'] !== FULL || request.url !== '/web/src/worker.js')
        return false;
      response
        .setHeader('Content-Type', 'text/javascript')
        .setHeader('Cross-Origin-Embedder-Policy', 'require-corp')
        .end(`navigator.storage.estimate = async () => ({ quota: 1e5, usage: 9e4 });\n${worker}`);
      return true;
    },
  },
});
after(() => it.close());

/** @typedef {import('playwright-core').Page} Page */
const page = await it.open('/web/demo/', { permissions: ['clipboard-read', 'clipboard-write'] });
/** @type {string[]} */
const asked = [];
page.on('request', (request) => asked.push(request.url()));

const idle = () => page.locator('#send[data-busy=false]').waitFor();
const prompt = page.getByRole('textbox', { name: 'Message' });
const set = (/** @type {Record<string, unknown>} */ values) =>
  page.evaluate(
    async (v) => (await import(/** @type {any} */ ('/web/demo/store.js'))).change(v),
    values,
  );
const settings = () =>
  page.evaluate(async () => ({
    ...(await import(/** @type {any} */ ('/web/demo/store.js'))).settings,
  }));
/** @param {string} text */
async function answered(text) {
  await prompt.fill(text);
  await page.keyboard.press('Enter');
  await page.locator('.turn.assistant').last().waitFor();
  await idle();
}
/** The answers on the page. @returns {Promise<any[]>} */
const runs = () =>
  page.evaluate(() =>
    [...document.querySelectorAll('#messages .answer')].map(
      (node) => /** @type {any} */ (node).answer.run,
    ),
  );
/** What axe-core finds on a page as it is. @param {Page} on @param {string} where */
async function accessible(on, where) {
  await on.evaluate(axe);
  const found = await on.evaluate(async () => {
    const { violations } = await /** @type {any} */ (window).axe.run();
    return violations.flatMap((/** @type {any} */ { id, nodes }) =>
      nodes.map((/** @type {any} */ { html, failureSummary }) => [
        id,
        html.slice(0, 150),
        failureSummary,
      ]),
    );
  });
  assert.deepEqual(found, [], where);
}

test('before anything is loaded: a recorded answer, its colours, and what they are worth', async () => {
  const recorded = page.getByRole('region', { name: 'A recorded answer' });
  await recorded.waitFor();
  assert.match(
    await recorded.locator('.recorded-figures').innerText(),
    /^\d+ % of the work saved, \d\.\d\d× as fast as full\.$/,
  );
  const { run, made } = JSON.parse(
    fs.readFileSync(new URL('../../web/demo/recorded.json', import.meta.url), 'utf8'),
  );
  assert.match(made, /^node tests\/page\/record\.mjs/);
  assert.equal(run.text, run.tokens.map((/** @type {any} */ [text]) => text).join(''));
  const works = run.tokens.map((/** @type {any} */ [, , work]) => work);
  const mean =
    works.reduce((/** @type {number} */ a, /** @type {number} */ b) => a + b) / run.tokens.length;
  assert.ok(Math.abs(run.result.meanWork - mean) < 0.05, `${run.result.meanWork}, tokens ${mean}`);
  const steps = await recorded
    .locator('.token')
    .evaluateAll((all) => all.map((node) => /** @type {HTMLElement} */ (node).dataset.step));
  assert.ok(new Set(steps).size >= 3, 'several colours');
  assert.match(
    await recorded.locator('.legend').innerText(),
    /^Work saved:\s+3\d %, layer 24\s+1\d %, vocabulary exit\s+none, all 30 layers$/,
  );
  await recorded.locator('.token').first().hover();
  assert.match(await page.locator('#tooltip').innerText(), /answered by\s+(exit|the model)/);
  assert.deepEqual(
    asked.filter((url) => /\.(gguf|wasm)/.test(url)),
    [],
    'nothing is loaded for it',
  );
  await accessible(page, 'the first look');
});

test('the ratio to the full model is measured once, and again when it is asked for', async () => {
  await set({ maxTokens: 12 });
  await answered('Hello');
  const figures = page.locator('.run-figures', { hasText: /\d× as fast as full/ });
  await figures.waitFor();
  const [first] = await runs();
  assert.ok(first.full > 0);
  await page.getByRole('button', { name: 'New chat' }).click();
  await answered('Hello again');
  await figures.waitFor();
  assert.equal((await runs())[0].full, first.full, 'it was not measured again');
  await page.getByRole('button', { name: 'Measure full again' }).click();
  await page.waitForFunction(
    (before) =>
      /** @type {any} */ (document.querySelector('#messages .answer')).answer.run.full !== before,
    first.full,
  );
});

test('the speed leaves out what waited for the line', async () => {
  const speeds = await page.evaluate(async () => {
    const { speedOf } = await import(/** @type {any} */ ('/web/demo/scale.js'));
    const run = (/** @type {number} */ waiting, /** @type {any} */ result) => ({
      tokens: Array.from({ length: 21 }, (_, i) =>
        i <= waiting ? ['x', 6, 1, -1, 1, 0, 1000, 2] : ['x', 6, 1, -1, 1, 0, 10],
      ),
      result,
    });
    return [run(10, { timing: { tokensPerSecond: 2 } }), run(18, null), run(-1, null)].map(speedOf);
  });
  assert.deepEqual(speeds, [100, null, 100]);
});

test('a question is edited; it is answered in another mode; all is deleted and comes back', async () => {
  await answered('And more');
  assert.equal(await page.locator('.turn').count(), 4);
  await page.getByRole('button', { name: 'Edit the question' }).first().click();
  await page.getByRole('textbox', { name: 'The question' }).fill('Something else');
  await page.getByRole('button', { name: 'Ask again' }).click();
  await page.locator('.bubble', { hasText: 'Something else' }).waitFor();
  await idle();
  assert.equal(await page.locator('.turn').count(), 2, 'what came after it is gone');
  const again = page.getByRole('group', { name: 'Answer again in another mode' });
  await again.getByRole('button', { name: 'Full' }).click();
  await page.locator('#send[data-busy=true]').waitFor({ state: 'detached' });
  await page.waitForFunction(
    () =>
      /** @type {any} */ (document.querySelector('#messages .answer'))?.answer.run.mode === 'full',
  );
  await idle();
  assert.equal((await settings()).mode, 'exit', 'the settings stay');
  await page.getByRole('button', { name: 'Conversations', exact: true }).click();
  const rows = page.locator('#history-list li');
  const before = await rows.count();
  assert.ok(before >= 2);
  await page.getByRole('button', { name: 'Delete all' }).click();
  assert.equal(await rows.count(), 0);
  assert.equal(await page.locator('.turn').count(), 0);
  await page.getByRole('button', { name: 'Undo' }).click();
  assert.equal(await rows.count(), before);
  await accessible(page, 'the conversations');
  await page.getByRole('button', { name: 'Conversations', exact: true }).click();
});

test('a question goes into a link, and one that comes by a link is seen before it is asked', async () => {
  await page.getByRole('button', { name: 'New chat' }).click();
  await set({ temperature: 0.7, seed: '5', system: 'Be brief.' });
  await answered('To <be> shared & read?');
  await page.getByRole('button', { name: 'Copy a link to the question' }).click();
  const link = new URL(await page.evaluate(() => navigator.clipboard.readText()));
  assert.equal(link.origin, it.address);
  assert.equal(link.search, '', 'a server is told nothing');
  await set({ temperature: 0, seed: '', system: 'Mine.' });
  const kept = await settings();
  const follow = async (/** @type {string} */ hash) => {
    await page.evaluate((to) => {
      location.hash = to;
    }, hash);
    await page.getByText('This question came by a link').waitFor();
  };
  await follow(link.hash);
  assert.equal(await prompt.inputValue(), 'To <be> shared & read?');
  assert.equal(await page.locator('.turn').count(), 0, 'nothing is asked by itself');
  assert.match(await page.locator('#linked').innerText(), /temperature 0\.7.*system Be brief\./);
  const { temperature, seed, system } = await settings();
  assert.deepEqual([temperature, seed, system], [0.7, '5', 'Be brief.']);
  // of this visit alone
  assert.deepEqual(
    await page.evaluate(() => JSON.parse(localStorage.getItem('exitlm.settings') ?? '{}').system),
    'Mine.',
  );
  await page.getByRole('button', { name: 'Use my settings' }).click();
  assert.deepEqual(await settings(), kept);
  // a stranger's: what is out of range or unknown is passed over, a text is a text
  const hostile = new URLSearchParams({
    ask: '<img src=x onerror="window.hit=1">',
    temperature: '1e9',
    maxTokens: '-1',
    mode: 'evil',
    theme: 'dark',
    seed: '1;2',
    accuracy: 'NaN',
    topP: '',
    __proto__: 'x',
  });
  await follow(`#${hostile}`);
  assert.deepEqual(await settings(), kept);
  await page.getByRole('button', { name: 'Send' }).click();
  await page.locator('.bubble', { hasText: '<img src=x' }).waitFor();
  await idle();
  assert.equal(await page.evaluate(() => /** @type {any} */ (window).hit), undefined);
});

test('no text becomes a script, and no script of another origin runs', async () => {
  const refused = await page.evaluate(() =>
    [
      () => {
        document.createElement('div').innerHTML = '<b>x</b>';
      },
      () => new Worker('https://example.com/worker.js'),
      () => window.trustedTypes?.createPolicy('mine', { createHTML: (text) => text }),
    ].map((attempt) => {
      try {
        attempt();
        return 'done';
      } catch (error) {
        return /** @type {Error} */ (error).name;
      }
    }),
  );
  assert.deepEqual(refused, Array(3).fill('TypeError'));
  it.errors.length = 0; // the browser tells of each
});

test('what is read of an answer while it grows is proportional to its length', async () => {
  const read = await page.evaluate(async () => {
    const { AnswerView } = await import(/** @type {any} */ ('/web/demo/answer.js'));
    const { Marked } = await import(/** @type {any} */ ('/web/demo/vendor/marked.js'));
    let characters = 0;
    const { lexer } = Marked.prototype;
    Marked.prototype.lexer = function counted(/** @type {string} */ source) {
      characters += source.length;
      return lexer.call(this, source);
    };
    /** @param {number} n tokens @param {string} text of each */
    const grow = (n, text) => {
      characters = 0;
      const run = { tokens: [], text: '', of: 6, exits: [2], mode: 'exit', running: true };
      const view = new AnswerView(run);
      document.body.append(view.node);
      for (let i = 0; i < n; i++) {
        run.tokens.push([text, 3, 0.5, 0, 1, 0, 1]);
        run.text += text;
        view.show('depth');
        if (!view.body.textContent.trim().endsWith(text.trim())) return NaN;
      }
      run.running = false;
      view.show('depth');
      const grown = view.body.innerHTML;
      view.show('text');
      view.show('depth');
      view.node.remove();
      return grown === view.body.innerHTML ? characters : -1;
    };
    const counts = [
      grow(300, 'word '),
      grow(1200, 'word '),
      grow(300, 'a\n\n'),
      grow(1200, 'a\n\n'),
    ];
    Marked.prototype.lexer = lexer;
    return counts;
  });
  const [line, line4, blocks, blocks4] = read;
  assert.ok(line > 0 && line4 / line < 6, `a paragraph: ${read}`);
  assert.ok(blocks > 0 && blocks4 / blocks < 6, `many: ${read}`);
});

test('no room to keep the model: it is told, and it answers', async () => {
  const full = await it.open('/web/demo/', { userAgent: FULL });
  await full.getByRole('button', { name: /^Load / }).click();
  const warning = full.getByText(/cannot be kept on this device/);
  await warning.waitFor();
  await full.locator('#model-dot[data-state=ready]').waitFor();
  await full.getByRole('button', { name: 'Hide' }).click();
  assert.equal(await warning.isVisible(), false);
  await full.context().close();
});

test('axe-core finds nothing: light, dark, on a phone, in every panel', async () => {
  await set({ maxTokens: 20, compare: true });
  await page.getByRole('button', { name: 'New chat' }).click();
  await answered('Compare');
  await page.locator('.verdict p').nth(1).waitFor();
  await page.emulateMedia({ reducedMotion: 'reduce' });
  for (const theme of ['light', 'dark'])
    for (const width of [1280, 360]) {
      await set({ theme });
      await page.setViewportSize({ width, height: 740 });
      const where = `${theme}, ${width} px`;
      await accessible(page, where);
      if (width === 360) {
        await page.getByRole('button', { name: 'Charts of the answer', exact: true }).click();
        await page.locator('#insight .histogram').waitFor();
        await accessible(page, `${where}, charts`);
        await page.locator('#insight').getByRole('button', { name: 'Close' }).click();
      }
      for (const [name, dialog] of [
        ['Settings', '#settings'],
        [/^Model: /, '#models'],
      ]) {
        await page.getByRole('button', { name, exact: true }).click();
        await page.locator(`${dialog}[open]`).waitFor();
        await accessible(page, `${where}, ${dialog}`);
        await page.keyboard.press('Escape');
      }
    }
  assert.deepEqual(it.errors, []);
});
