// The chat page as a person uses it, in Chromium, on the tiny model.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { roomyBytes, tinyBytes, tinyHeads } from '../js/support/tiny-model.mjs';
import { startTiny } from './tiny.mjs';

const it = await startTiny({ model: roomyBytes });
after(() => it.close());

/** @typedef {import('playwright-core').Page} Page */

/**
 * The page with the model loaded. @param {import('playwright-core').BrowserContextOptions}
 * [options]
 */
async function ready(options, path = '/web/demo/') {
  const page = await it.open(path, options);
  await page.getByRole('button', { name: /^Load / }).click();
  await isReady(page);
  return page;
}
const isReady = (/** @type {Page} */ page) =>
  page.locator('#model-dot[data-state=ready]').waitFor();
const idle = (/** @type {Page} */ page) => page.locator('#send[data-busy=false]').waitFor();
/** @param {Page} page @param {string} text */
async function ask(page, text) {
  await page.getByRole('textbox', { name: 'Message' }).fill(text);
  await page.keyboard.press('Enter');
}
/** @param {Page} page @param {string} text */
async function answered(page, text) {
  await ask(page, text);
  await page.locator('.turn.assistant').last().waitFor();
  await idle(page);
}
/**
 * Settings without the dialog, for tests of other things. @param {Page} page @param {Record<string,
 * unknown>} values
 */
const set = (page, values) =>
  page.evaluate(
    async (v) => (await import(/** @type {any} */ ('/web/demo/store.js'))).change(v),
    values,
  );
/** What the last answer is made of. @param {Page} page @returns {Promise<any[]>} */
const runs = (page) =>
  page.evaluate(() =>
    [
      ...([...document.querySelectorAll('.turn.assistant')].at(-1)?.querySelectorAll('.answer') ??
        []),
    ].map((node) => /** @type {any} */ (node).answer.run),
  );
const quiet = () => assert.deepEqual(it.errors.splice(0), []);

describe('the page', () => {
  test('loads a model of the catalogue, answers, and asks no other origin', async () => {
    const before = it.requests.length;
    const page = await it.open('/web/demo/');
    /** @type {string[]} */
    const asked = [];
    page.on('request', (request) => asked.push(request.url()));
    await page.getByText('A language model in this tab').waitFor();
    assert.equal(await page.getByRole('button', { name: 'Send' }).isDisabled(), true);
    await page.getByRole('button', { name: 'Load Tiny random (0.22 MB)' }).click();
    await isReady(page);
    await set(page, { maxTokens: 60 });
    await answered(page, 'Hello there');
    const [run] = await runs(page);
    assert.equal(run.mode, 'exit');
    assert.equal(run.tokens.length, 60);
    assert.equal(run.text, run.tokens.map((/** @type {any} */ t) => t[0]).join(''));
    assert.ok(
      run.tokens.some((/** @type {any} */ t) => t[1] < 6),
      'some tokens exit early',
    );
    // the full model is measured beside it, unasked
    await page.locator('.run-figures', { hasText: '× as fast as full' }).waitFor();
    assert.match(
      await page.locator('.run-figures').innerText(),
      /^60 tokens · [\d.]+\/s · [\d.]+× as fast as full · \d+ % (of the work saved|more work) · reached its length$/,
    );
    assert.deepEqual(
      asked.filter((url) => !url.startsWith(it.address) && !/^(data|blob):/.test(url)),
      [],
    );
    assert.ok(it.requests.slice(before).every(({ host }) => host === new URL(it.address).host));
    // The charts: a row for each exit and the model's own head; a bar for each token.
    await page.locator('.histogram li').nth(3).waitFor(); // drawn with the next frame
    assert.equal(await page.locator('.histogram li').count(), 4);
    assert.equal(await page.locator('.chart.bars rect').count(), 60);
    assert.match(await page.locator('.figures').innerText(), /tokens a second/);
    quiet();
    await page.context().close();
  });

  test('a question that is sent first loads the model', async () => {
    const page = await it.open('/web/demo/');
    await set(page, { maxTokens: 10 });
    await answered(page, 'Hello');
    assert.equal((await runs(page))[0].tokens.length, 10);
    quiet();
    await page.context().close();
  });

  test('stops at once, keeps what is there, and goes on', async () => {
    const page = await ready();
    await set(page, { maxTokens: 5000, mode: 'full' });
    await page.evaluate(
      // the tiny model is too fast to be stopped by hand
      () =>
        new MutationObserver((_, observer) => {
          if (document.querySelectorAll('#messages .token').length < 5) return;
          observer.disconnect();
          document.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true }));
        }).observe(document.querySelector('#messages') ?? document, {
          childList: true,
          subtree: true,
        }),
    );
    await answered(page, 'Hello');
    const [run] = await runs(page);
    assert.equal(run.reason, 'abort');
    assert.ok(run.tokens.length > 0 && run.tokens.length < 1900, String(run.tokens.length));
    assert.match(await page.locator('.run-figures').innerText(), /stopped$/);
    await set(page, { maxTokens: 10 });
    await page.getByRole('button', { name: 'Answer again' }).click();
    await idle(page);
    assert.equal((await runs(page))[0].tokens.length, 10);
    assert.equal(
      await page.locator('.turn').count(),
      2,
      'the new answer took the place of the old one',
    );
    quiet();
    await page.context().close();
  });

  test('text, depth and tokens; what is known of a token by pointer and by keyboard', async () => {
    const page = await ready();
    await set(page, { maxTokens: 40 });
    await answered(page, 'Hello there');
    const [run] = await runs(page);
    await page.getByText('Tokens', { exact: true }).click();
    assert.equal(await page.locator('#messages .answer .token').count(), 40);
    const steps = await page
      .locator('#messages .answer .token')
      .evaluateAll((all) =>
        all.map((node) => Number(/** @type {HTMLElement} */ (node).dataset.step)),
      );
    // the colour is that of the work: the less of it, the brighter
    const works = run.tokens.map((/** @type {any} */ [, , work]) => Math.min(1, work));
    assert.ok(new Set(steps).size >= 3, String(steps));
    works.forEach((/** @type {number} */ work, /** @type {number} */ i) => {
      assert.equal(steps[i] === 10, work > 0.995, `token ${i}`);
      const j = (i + 1) % works.length;
      if (work < works[j]) assert.ok(steps[i] <= steps[j], `token ${i}`);
    });
    await page.locator('#messages .answer .token').nth(3).hover();
    const tooltip = page.locator('#tooltip');
    assert.match(await tooltip.innerText(), new RegExp(`layers\\s+${run.tokens[3][1]} of 6`));
    assert.match(await tooltip.innerText(), /confidence\s+[\d.]+ %/);
    await page.locator('#messages .answer').focus();
    for (let i = 0; i < 3; i++) await page.keyboard.press('ArrowRight');
    assert.match(
      await page.locator('#status').innerText(),
      new RegExp(`layers ${run.tokens[2][1]} of 6, work saved -?\\d+ %, `),
    );
    await page.keyboard.press('Escape');
    assert.equal(await tooltip.isVisible(), false);
    await page.getByText('Work', { exact: true }).click();
    // Markdown is in effect and nearly every character is coloured all the same.
    const covered = await page
      .locator('#messages .answer')
      .evaluate(
        (node) =>
          [...node.querySelectorAll('.token')].reduce(
            (n, t) => n + (t.textContent ?? '').replace(/\s/g, '').length,
            0,
          ) / /** @type {HTMLElement} */ (node.textContent ?? '').replace(/\s/g, '').length,
      );
    assert.ok(covered > 0.99, String(covered));
    await page.getByText('Text', { exact: true }).click();
    assert.equal(await page.locator('#messages .answer .token').count(), 0);
    quiet();
    await page.context().close();
  });

  test('compares: lossless beside full, then exit with the tokens that full would not have chosen', async () => {
    const page = await ready();
    await set(page, { maxTokens: 30 });
    await page.getByRole('checkbox', { name: 'Compare with full' }).check({ force: true });
    await answered(page, 'Hello there');
    const [lossless, full, exit] = await runs(page);
    assert.deepEqual([lossless.mode, full.mode, exit.mode], ['lossless', 'full', 'exit']);
    assert.equal(lossless.text, full.text);
    assert.equal(exit.tokens.length, 30);
    assert.ok(full.tokens.every((/** @type {any} */ t) => t[1] === 6 && t[3] === -1));
    const audited = await page.evaluate(async () => {
      const { model } = await import(/** @type {any} */ ('/web/demo/model.js'));
      const { settings } = await import(/** @type {any} */ ('/web/demo/store.js'));
      const messages = [
        { role: 'system', content: settings.system },
        { role: 'user', content: 'Hello there' },
      ];
      return model.lm.chat(messages, { mode: 'exit', maxTokens: 30, audit: 1 }).result;
    });
    assert.ok(audited.auditDisagreed > 0, 'random heads are often wrong');
    assert.equal(await page.locator('.token.other').count(), audited.auditDisagreed);
    await page.locator('.token.other').first().hover();
    assert.match(await page.locator('#tooltip').innerText(), /full model\s+another token here/);
    assert.match(
      await page.locator('.verdict').innerText(),
      new RegExp(
        `^Lossless: the same words as full, [\\d.]+× as fast as full\\.\\s+Exit: .*, [\\d.]+× as fast as full; ${audited.auditDisagreed} of its 30 tokens `,
      ),
    );
    const [left, right, below] = await page
      .locator('.run')
      .evaluateAll((all) => all.map((node) => node.getBoundingClientRect().toJSON()));
    assert.ok(left.right <= right.left && Math.abs(left.top - right.top) < 2, 'side by side');
    assert.ok(below.top >= left.bottom, 'exit comes after them');
    quiet();
    await page.context().close();
  });

  test('lossless: drafts are pale until they are confirmed, and the text is that of full', async () => {
    const page = await ready();
    await set(page, { maxTokens: 40, mode: 'full' });
    await answered(page, 'Hello there');
    const [{ text }] = await runs(page);
    await set(page, { mode: 'lossless' });
    await page.getByRole('button', { name: 'Answer again' }).click();
    await idle(page);
    const [run] = await runs(page);
    assert.equal(run.mode, 'lossless');
    assert.equal(run.text, text);
    assert.ok(run.result.drafted > 0);
    assert.match(
      await page.locator('.run-figures').innerText(),
      new RegExp(`${run.result.accepted} of ${run.result.drafted} drafts accepted`),
    );
    assert.equal(await page.locator('.drafts').count(), 0, 'no draft is left');
    // The tiny model verifies before anybody sees a draft: the same view, held still.
    const pale = await page.evaluate(() => {
      const view = /** @type {any} */ (document.querySelector('#messages .answer')).answer;
      const styles = (/** @type {string} */ shown) => {
        view.drafts = [
          { index: 40, text: ' sure', accepted: true },
          { index: 41, text: ' maybe', accepted: false },
        ];
        view.show(shown);
        const node = view.node.querySelector('.drafts');
        return [node.textContent, Number(getComputedStyle(node).opacity) < 0.6];
      };
      const seen = [styles('depth'), styles('tokens'), styles('text')];
      view.drafts = [];
      view.show('text');
      return [...seen, view.node.querySelector('.drafts') === null];
    });
    assert.deepEqual(pale, [...Array(3).fill([' sure maybe', true]), true]);
    quiet();
    await page.context().close();
  });

  test('a second visit: the model comes from this device, the conversations are there', async () => {
    const page = await ready();
    await set(page, { maxTokens: 10 });
    await answered(page, 'Remember me');
    // the copy is closed
    await page.waitForFunction(async () => !(await navigator.locks.query()).held?.length);
    const before = it.requests.length;
    await page.reload();
    await isReady(page);
    assert.deepEqual(
      it.requests.slice(before).filter(({ url }) => url.startsWith('/models/tiny.gguf')),
      [],
      'nothing of the model is fetched again',
    );
    await page.getByRole('button', { name: 'Conversations', exact: true }).click();
    await page.getByRole('button', { name: 'Remember me', exact: true }).click();
    assert.equal((await runs(page))[0].tokens.length, 10);
    await answered(page, 'And more');
    assert.equal(await page.locator('.turn').count(), 4);
    await page.getByRole('button', { name: 'New chat' }).click();
    assert.equal(await page.locator('.turn').count(), 0);
    await page.getByRole('button', { name: 'Delete “Remember me”' }).click();
    assert.equal(await page.locator('#history-list li').count(), 0);
    await page.getByRole('button', { name: 'Undo' }).click();
    assert.equal(await page.locator('#history-list li').count(), 1);
    quiet();
    await page.context().close();
  });

  test('two tabs keep, change and delete conversations beside each other', async () => {
    const first = await it.open('/tests/page/blank.html');
    await first.evaluate(() => {
      const turns = [{ role: 'user', content: 'Of an earlier version' }];
      const old = [{ id: 'old', title: 'Earlier', at: 1, turns }];
      localStorage.setItem('exitlm.conversations', JSON.stringify(old));
    });
    const second = await first.context().newPage();
    for (const page of [first, second]) {
      await page.goto(`${it.address}/web/demo/`);
      await set(page, { maxTokens: 8 });
    }
    const titles = async (/** @type {Page} */ page, /** @type {string[]} */ expected) => {
      await page.waitForFunction(
        (wanted) =>
          wanted ===
          [...document.querySelectorAll('#history-list .conversation')]
            .map((node) => node.textContent)
            .join(),
        expected.join(),
      );
    };
    const both = (/** @type {string[]} */ ...expected) =>
      Promise.all([first, second].map((page) => titles(page, expected)));
    await both('Earlier');
    await answered(first, 'One');
    await answered(second, 'Two');
    await both('Two', 'One', 'Earlier');
    // what is open here is gone on with there
    await second.getByRole('button', { name: 'Conversations', exact: true }).click();
    await second.getByRole('button', { name: 'One', exact: true }).click();
    await answered(second, 'One more');
    await both('One', 'Two', 'Earlier');
    await first.locator('.turn').nth(3).waitFor();
    assert.equal((await runs(first))[0].tokens.length, 8);
    await second.getByRole('button', { name: 'Delete “Two”' }).click();
    await both('One', 'Earlier');
    for (const page of [first, second]) await page.reload();
    await both('One', 'Earlier');
    quiet();
    await first.context().close();
  });

  test('files of this device: picked, and dropped', async () => {
    const page = await it.open('/web/demo/');
    await set(page, { maxTokens: 10 });
    await page.getByRole('button', { name: /^Model: / }).click();
    await page.locator('#file').setInputFiles([
      { name: 'tiny.exits.gguf', mimeType: '', buffer: await tinyHeads() },
      { name: 'mine.gguf', mimeType: '', buffer: tinyBytes },
    ]);
    await isReady(page);
    assert.match(await page.locator('#model-name').innerText(), /^mine$/);
    await answered(page, 'Hello');
    assert.equal((await runs(page))[0].mode, 'exit');
    const dropped = await page.evaluateHandle((bytes) => {
      const transfer = new DataTransfer();
      transfer.items.add(
        new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], 'dropped.gguf'),
      );
      return transfer;
    }, tinyBytes.toString('base64'));
    await page.dispatchEvent('body', 'drop', { dataTransfer: dropped });
    await page.getByText('dropped', { exact: true }).waitFor();
    await isReady(page);
    await answered(page, 'Hello again');
    assert.equal((await runs(page))[0].mode, 'full', 'it came without heads');
    assert.equal(
      await page.getByRole('checkbox', { name: 'Compare with full' }).isDisabled(),
      true,
    );
    await page
      .locator('#file')
      .setInputFiles([{ name: 'tiny.exits.gguf', mimeType: '', buffer: Buffer.from('x') }]);
    assert.match(await page.locator('#toast').innerText(), /These are exit heads/);
    quiet();
    await page.context().close();
  });

  test('an address that does not work says why, and trying again works', async () => {
    const page = await it.open('/web/demo/');
    await page.getByRole('button', { name: /^Model: / }).click();
    await page.getByLabel('Address of a GGUF file').fill('/models/missing.gguf');
    await page.getByLabel('Address of a GGUF file').press('Enter');
    await page.getByText('missing could not be loaded').waitFor();
    assert.match(await page.locator('#loading-text').innerText(), /404/);
    it.errors.length = 0; // the browser tells of the 404 too
    await set(page, { maxTokens: 10 });
    await answered(page, 'Hello?');
    const trouble = page.locator('.turn.assistant .error');
    assert.match(await trouble.innerText(), /404/);
    it.errors.length = 0;
    await page.getByRole('button', { name: /^Model: / }).click();
    await page.getByLabel('Address of a GGUF file').fill('/models/tiny.gguf');
    await page.locator('#url-load').click();
    await isReady(page);
    await trouble.getByRole('button', { name: 'Try again' }).click();
    await idle(page);
    assert.equal((await runs(page))[0].tokens.length, 10);
    assert.match(await page.locator('.turn.user').innerText(), /Hello\?/);
    quiet();
    await page.context().close();
  });

  test('the engine dies: a sentence, and the next try loads it again', async () => {
    /** @type {import('playwright-core').Worker[]} */
    const workers = [];
    const page = await it.open('/web/demo/');
    page.on('worker', (worker) => workers.push(worker));
    await page.getByRole('button', { name: /^Load / }).click();
    await isReady(page);
    await set(page, { maxTokens: 10 });
    await workers[0].evaluate(() => self.close());
    await answered(page, 'Still there?');
    const trouble = page.locator('.turn.assistant .error');
    assert.match(await trouble.innerText(), /load/i);
    await trouble.getByRole('button', { name: 'Try again' }).click();
    await idle(page);
    assert.equal((await runs(page))[0].tokens.length, 10);
    await page.context().close();
    it.errors.length = 0;
  });

  test('a conversation that fills the context goes on without its oldest turns', async () => {
    const page = await ready();
    await set(page, { maxTokens: 5000 });
    await answered(page, 'One');
    assert.match(await page.locator('.run-figures').innerText(), /the context is full$/);
    const [{ room }] = await runs(page);
    const told = `used ${room.used} of the ${room.of} tokens that the context holds`;
    await page.locator('.room', { hasText: told }).waitFor();
    assert.match(await page.locator('#status').textContent(), new RegExp(told));
    await set(page, { maxTokens: 10 });
    await answered(page, 'Two');
    assert.equal((await runs(page))[0].tokens.length, 10);
    await page.locator('.room', { hasText: 'The oldest 2 messages were left out' }).waitFor();
    assert.match(await page.locator('.turn.user').last().innerText(), /Two/);
    quiet();
    await page.context().close();
  });

  test('settings: system prompt, mode, accuracy, temperature, length, theme; they stay', async () => {
    const page = await ready();
    await page.getByRole('button', { name: 'Settings', exact: true }).click();
    const dialog = page.getByRole('dialog', { name: 'Settings' });
    await dialog.getByLabel('System prompt').fill('Answer like a pirate.');
    await dialog.getByLabel('Longest answer, in tokens').fill('12');
    await dialog.getByLabel('Longest answer, in tokens').press('Tab');
    assert.equal(await dialog.getByLabel('Accuracy').inputValue(), '0.95'); // the heads' default
    await dialog.getByLabel('Accuracy').fill('0.9');
    assert.match(
      await dialog.innerText(),
      /At the level 90 %, 600 conversations measured 90\.0 %\. Of 20 small tasks with one right answer it gets 9 right, the full model 11\./,
    );
    await dialog.getByLabel('Theme').selectOption('dark');
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark');
    await page.keyboard.press('Escape');
    const plain = await page.evaluate(async () =>
      (await import(/** @type {any} */ ('/web/demo/model.js'))).model.lm
        .chat(
          [
            { role: 'system', content: 'Answer like a pirate.' },
            { role: 'user', content: 'Hi' },
          ],
          { mode: 'exit', accuracy: 0.9, maxTokens: 12 },
        )
        .result.then((/** @type {any} */ r) => r.text),
    );
    await answered(page, 'Hi');
    assert.equal((await runs(page))[0].text, plain);
    await page.getByRole('button', { name: 'Mode: Exit, 90 %. Change it in the settings' }).click();
    await dialog.getByRole('radio', { name: /^Full/ }).check();
    await dialog.getByLabel('Temperature').fill('1');
    await dialog.getByText('More').click();
    await dialog.getByLabel('Seed').fill('7');
    await dialog.getByLabel('Seed').press('Tab');
    await dialog.getByRole('button', { name: 'Close' }).click();
    await answered(page, 'Hi');
    const first = (await runs(page))[0];
    assert.equal(first.mode, 'full');
    assert.equal(first.result.seed, '7');
    await page.reload();
    await isReady(page);
    await page.getByRole('button', { name: 'Settings', exact: true }).click();
    assert.equal(await dialog.getByLabel('System prompt').inputValue(), 'Answer like a pirate.');
    assert.equal(await dialog.getByLabel('Theme').inputValue(), 'dark');
    await dialog.getByRole('button', { name: 'Delete tiny.gguf' }).click();
    await page.waitForFunction(
      async () =>
        !(await (await import(/** @type {any} */ ('/web/demo/model.js'))).ExitLM.cache.list()).some(
          (/** @type {any} */ { url }) => url.endsWith('/tiny.gguf'),
        ),
    );
    quiet();
    await page.context().close();
  });

  test('will it run here', async () => {
    const page = await it.open('/web/demo/');
    await page.getByRole('button', { name: /^Model: / }).click();
    await page.getByRole('button', { name: 'Will it run here?' }).click();
    await page.getByText(/^Runs here: .* of memory/).waitFor();
    quiet();
    await page.context().close();
  });

  test('copy', async () => {
    const page = await ready({ permissions: ['clipboard-read', 'clipboard-write'] });
    await set(page, { maxTokens: 10 });
    await answered(page, 'Hello');
    await page.getByRole('button', { name: 'Copy the answer' }).click();
    const [{ text }] = await runs(page);
    await page.waitForFunction(
      async (expected) => (await navigator.clipboard.readText()) === expected,
      text,
    );
    quiet();
    await page.context().close();
  });
});

describe('safety', () => {
  test('Markdown cannot run, fetch, or pose as the page', async () => {
    const page = await it.open('/web/demo/');
    const hostile = [
      '<script>window.hit = 1</script>',
      '<img src="/hit.png" onerror="window.hit = 1">',
      '![x](/hit.png)',
      '[x](javascript:window.hit=1)',
      '<a href="https://a.example" style="position:fixed">y</a>',
      '<svg onload="window.hit=1"><circle/></svg>',
      '<iframe src="/hit"></iframe>',
      '<form action="/hit"><input></form>',
      '<style>body { display: none }</style>',
      '<div id="prompt" class="error">z</div>',
      '[ok](https://b.example)',
      '<math><mtext></mtext><mglyph><style><img src=x onerror=window.hit=1>',
    ].join('\n\n');
    const before = it.requests.length;
    const html = await page.evaluate(async (source) => {
      const { render } = await import(/** @type {any} */ ('/web/demo/markdown.js'));
      const box = document.createElement('div');
      document.body.append(box);
      render(box, source, 'text', null);
      // as it arrives
      for (let i = 1; i <= source.length; i += 7) render(box, source.slice(0, i), 'text', null);
      render(box, source, 'text', null);
      await new Promise((resolve) => setTimeout(resolve, 200));
      return [...box.querySelectorAll('*')].map((node) =>
        [node.localName, ...[...node.attributes].map(({ name, value }) => `${name}=${value}`)].join(
          ' ',
        ),
      );
    }, hostile);
    assert.equal(await page.evaluate(() => /** @type {any} */ (window).hit), undefined);
    const link = (/** @type {string} */ href) =>
      `a href=${href} rel=noopener noreferrer nofollow target=_blank`;
    assert.deepEqual(
      [...new Set(html)].sort(),
      [
        link('https://b.example'),
        'a rel=noopener noreferrer nofollow target=_blank',
        'div class=block',
        'p',
      ].sort(),
    );
    assert.deepEqual(
      it.requests.slice(before).filter(({ url }) => url.includes('hit')),
      [],
    );
    quiet();
    await page.context().close();
  });

  test('the text of Markdown is led back to the tokens that it came from', async () => {
    const page = await it.open('/web/demo/');
    const tokens = [
      '# ',
      'Ti',
      'tle\n\n',
      '**bo',
      'ld** and `co',
      'de`\n',
      '\n1. ',
      'one\n2. ',
      't',
      'wo\n\n```js\n',
      'let x',
      ' = 1;\n```\n',
      '\n| a | b |\n|---|---|\n| c',
      ' | d |\n',
      '\n&amp; ',
      'end',
    ];
    const wrong = await page.evaluate(async (list) => {
      const { AnswerView } = await import(/** @type {any} */ ('/web/demo/answer.js'));
      const run = {
        tokens: list.map((t, i) => [t, 1 + (i % 6), 0.5, 0, 1, 0, 1]),
        text: list.join(''),
        of: 6,
        exits: [2],
        mode: 'exit',
        accuracy: 1,
        reason: '',
        result: null,
      };
      const view = new AnswerView(run);
      document.body.append(view.node);
      view.show('depth');
      return [...view.node.querySelectorAll('.token')]
        .filter(
          (span) =>
            ![...(span.textContent ?? '').replace(/\s/g, '')].every((c) =>
              list[Number(/** @type {HTMLElement} */ (span).dataset.i)].includes(c),
            ),
        )
        .map((span) => span.outerHTML)
        .concat(
          ['Ti', 'tle', 'bo', 'ld', 'co', 'de', 'one', 't', 'wo', 'let x', 'c', 'd', 'end'].filter(
            (text) =>
              ![...view.node.querySelectorAll('.token')].some(
                (span) =>
                  (span.textContent ?? '').trim().startsWith(text) ||
                  (span.textContent ?? '').trim().endsWith(text),
              ),
          ),
        );
    }, tokens);
    assert.deepEqual(wrong, []);
    quiet();
    await page.context().close();
  });
});

describe('everybody', () => {
  test('360 px: nothing is cut off, every control is big enough, panels open and close', async () => {
    const page = await ready({
      viewport: { width: 360, height: 740 },
      hasTouch: true,
      isMobile: true,
      colorScheme: 'dark',
      reducedMotion: 'reduce',
    });
    await set(page, { maxTokens: 60, compare: true });
    await page.getByRole('textbox', { name: 'Message' }).fill('Hello there');
    await page.getByRole('button', { name: 'Send' }).tap();
    await page.locator('.turn.assistant').waitFor();
    await idle(page);
    const wide = await page.evaluate(() => [
      document.documentElement.scrollWidth,
      ...[...document.querySelectorAll('body *')]
        .filter((node) => {
          const { right, width } = node.getBoundingClientRect();
          return (
            width > 0 &&
            right > innerWidth + 1 &&
            !node.closest('[hidden], .hidden, pre, .table-box, .tooltip')
          );
        })
        .map((node) => node.outerHTML.slice(0, 80)),
    ]);
    assert.deepEqual(wide, [360]);
    const small = await page
      .locator('button:visible')
      .evaluateAll((all) =>
        all
          .map((node) => [
            node.getAttribute('aria-label') ?? node.textContent,
            node.getBoundingClientRect().width,
            node.getBoundingClientRect().height,
          ])
          .filter(([, w, h]) => Number(w) < 24 || Number(h) < 32),
      );
    assert.deepEqual(small, []);
    await page.getByRole('button', { name: 'Charts of the answer', exact: true }).tap();
    await page.locator('#insight .histogram').waitFor();
    await page.locator('#insight').getByRole('button', { name: 'Close' }).tap();
    assert.equal(await page.locator('#insight').isVisible(), false);
    const [first, second] = await page
      .locator('.run')
      .evaluateAll((all) => all.map((node) => node.getBoundingClientRect().toJSON()));
    assert.ok(second.top >= first.bottom, 'answers to compare stand below each other');
    assert.equal(
      await page.locator('.dot').evaluate((node) => getComputedStyle(node).animationName),
      'none',
    );
    quiet();
    await page.context().close();
  });

  test('JSON of a schema and the call of a tool: what is free is seen to be', async () => {
    const page = await ready();
    await set(page, { maxTokens: 300, mode: 'lossless' });
    for (const [name, form] of /** @type {[string, RegExp][]} */ ([
      ['Extract as JSON', /^\{"full_name": "[^]*"is_employed": (true|false)\}$/],
      ['Call a tool', /^<tool_call>\n\{"name": "get_weather", [^]*\}\n<\/tool_call>$/],
    ])) {
      await page.getByRole('button', { name: 'New chat' }).click();
      await page.getByRole('button', { name }).click();
      await page.locator('.turn.assistant').waitFor();
      await idle(page);
      const [run] = await runs(page);
      assert.match(run.text, form);
      const free = run.tokens.filter((/** @type {any} */ row) => row[7]).length;
      assert.ok(free > run.tokens.length / 4, `${free} of ${run.tokens.length}`);
      assert.match(
        await page.locator('.run-figures').innerText(),
        new RegExp(`${free} of them free`),
      );
      assert.ok((await page.locator('.token.forced').count()) > 0);
      await page.locator('.token.forced').first().hover();
      assert.match(
        await page.locator('#tooltip').innerText(),
        /nothing: the shape leaves no choice/,
      );
      await page.locator('.bubble summary').click();
      assert.match(await page.locator('.bubble pre').innerText(), /"properties"/);
      await answered(page, 'And now?');
      assert.equal((await runs(page))[0].result.toolCalls, undefined, 'the next one is free text');
    }
    quiet();
    await page.context().close();
  });

  test('keyboard alone: from the start to an answer, its tokens and its charts', async () => {
    const page = await it.open('/web/demo/');
    await page.locator('#prompt:focus').waitFor();
    await set(page, { maxTokens: 10 });
    await page.keyboard.type('Hello');
    await page.keyboard.press('Enter');
    await page.locator('.turn.assistant').waitFor();
    await idle(page);
    await page.evaluate(() => /** @type {HTMLElement} */ (document.activeElement)?.blur());
    /** @type {string[]} */
    const stops = [];
    for (let i = 0; i < 30; i++) {
      await page.keyboard.press('Tab');
      stops.push(
        await page.evaluate(() => {
          const node = /** @type {HTMLElement} */ (document.activeElement);
          if (node === document.body) return 'the page';
          const shown = node.matches(':focus-visible');
          return `${node.getAttribute('aria-label') ?? node.closest('label')?.textContent?.trim() ?? node.textContent?.trim()}${shown ? '' : ' (unseen)'}`;
        }),
      );
      if (await page.evaluate(() => document.activeElement?.id === 'send')) break;
    }
    const order = [
      'Skip to the message field',
      'Conversations',
      'ExitLM, start page',
      /^Model: Tiny random, ready/,
      'New chat',
      'Charts of the answer',
      'Settings',
      'Edit the question',
      'Copy a link to the question',
      /^Answer\. Left and right arrows/,
      'Copy the answer',
      'Answer again',
      'Charts of this answer',
      'Work',
      'Compare with full',
      /^Mode: /,
    ];
    let at = -1;
    for (const name of order) {
      const next = stops.findIndex(
        (stop, i) => i > at && (typeof name === 'string' ? stop === name : name.test(stop)),
      );
      assert.ok(next > at, `${name} in ${JSON.stringify(stops)}`);
      at = next;
    }
    assert.deepEqual(
      stops.filter((stop) => stop.endsWith('(unseen)')),
      [],
    );
    quiet();
    await page.context().close();
  });

  test('every control has a name, every image too; the answer is spoken', async () => {
    const page = await ready();
    await set(page, { maxTokens: 30 });
    await answered(page, 'Hello');
    await page.getByText('The answer is complete').waitFor({ state: 'attached' });
    const nameless = await page.evaluate(() =>
      [
        ...document.querySelectorAll(
          'button, input, textarea, select, [role=img], [role=progressbar], dialog, nav, aside',
        ),
      ]
        .filter(
          (node) =>
            !(
              node.getAttribute('aria-label') ||
              node.getAttribute('aria-labelledby') ||
              /** @type {any} */ (node).labels?.length ||
              node.textContent?.trim()
            ),
        )
        .map((node) => node.outerHTML.slice(0, 100)),
    );
    assert.deepEqual(nameless, []);
    quiet();
    await page.context().close();
  });

  test('text and controls stand out enough, in both themes', async () => {
    const page = await ready();
    for (const theme of ['light', 'dark']) {
      await set(page, { theme });
      const poor = await page.evaluate(() => {
        const parse = (/** @type {string} */ colour) => {
          const node = document.createElement('canvas').getContext('2d');
          if (!node) return [0, 0, 0];
          node.fillStyle = colour;
          node.fillRect(0, 0, 1, 1);
          return [...node.getImageData(0, 0, 1, 1).data].slice(0, 3);
        };
        const light = (/** @type {number[]} */ rgb) =>
          rgb
            .map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const style = getComputedStyle(document.documentElement);
        const colour = (/** @type {string} */ name) => light(parse(style.getPropertyValue(name)));
        const contrast = (/** @type {string} */ a, /** @type {string} */ b) => {
          const [x, y] = [colour(a), colour(b)].sort((p, q) => q - p);
          return (x + 0.05) / (y + 0.05);
        };
        const pairs = [
          ['--text', '--page'],
          ['--text', '--surface'],
          ['--soft', '--page'],
          ['--soft', '--surface'],
          ['--soft', '--sunken'],
          ['--accent', '--surface'],
          ['--on-accent', '--accent'],
          ['--danger', '--danger-soft'],
          ['--text', '--accent-soft'],
        ];
        const steps = Array.from({ length: 11 }, (_, i) => colour(`--d${i}`));
        return [
          ...pairs
            .map(([a, b]) => `${a} on ${b}: ${contrast(a, b).toFixed(2)}`)
            .filter((line) => Number(line.split(': ')[1]) < 4.5),
          ...steps.flatMap((v, i) =>
            i && v >= steps[i - 1] ? [`--d${i} is not darker than --d${i - 1}`] : [],
          ),
        ];
      });
      assert.deepEqual(poor, [], theme);
    }
    await page.context().close();
  });

  test('without exit heads it says so', async () => {
    const plain = await startTiny({ heads: false });
    try {
      const page = await plain.open('/web/demo/');
      await page.getByRole('button', { name: /^Load / }).click();
      await isReady(page);
      await page.getByText('This model has no exit heads here').first().waitFor();
      await set(page, { maxTokens: 10 });
      await answered(page, 'Hello');
      assert.equal((await runs(page))[0].mode, 'full');
      await page.getByRole('button', { name: 'Settings', exact: true }).click();
      assert.equal(await page.getByRole('radio', { name: /^Lossless/ }).isDisabled(), true);
      assert.deepEqual(
        plain.errors.filter((text) => !text.includes('404')),
        [],
      );
    } finally {
      await plain.close();
    }
  });

  test('a slow line: layers are seen to arrive, a question waits for them, and cancelling works', async () => {
    let rate = 6e5;
    const slow = await startTiny({
      serve: { bitsPerSecond: (url) => (url.endsWith('.gguf') ? rate : 0) },
    });
    try {
      const page = await slow.open(
        `/web/demo/?model=${encodeURIComponent('/tests/data/tiny.gguf')}`,
      );
      await set(page, { maxTokens: 10 });
      await page.evaluate(() => {
        const seen = /** @type {any} */ (window);
        seen.layers = new Set();
        seen.waits = new Set();
        new MutationObserver(() => {
          seen.layers.add(document.querySelectorAll('#loading .here').length);
          seen.waits.add(document.querySelector('.run-figures')?.textContent);
        }).observe(document.body, { childList: true, subtree: true, attributes: true });
      });
      await ask(page, 'Hello');
      await page.locator('.turn.assistant').waitFor();
      await idle(page);
      await isReady(page);
      const { layers, waits } = await page.evaluate(() => ({
        layers: [.../** @type {any} */ (window).layers],
        waits: [.../** @type {any} */ (window).waits],
      }));
      assert.ok(layers.length >= 3, `layers ${layers}`);
      assert.ok(
        waits.some((text) => /Waiting for layer \d of 6/.test(text ?? '')),
        String(waits),
      );
      const [run] = await runs(page);
      assert.equal(run.tokens.length, 10);
      // Their time was the line's: the speed is measured again, beside that of the full model.
      assert.ok(run.tokens[0][7] & 2, 'the first token began while the model arrived');
      await page.locator('.run-figures', { hasText: '× as fast as full' }).waitFor();
      await page.evaluate(async () => {
        await (
          await import(/** @type {any} */ ('/web/demo/model.js'))
        ).ExitLM.cache.delete('/tests/data/tiny.gguf');
      });
      await page.getByRole('button', { name: /^Model: / }).click();
      await page.getByLabel('Address of a GGUF file').fill('/models/tiny.gguf');
      rate = 2e4; // who cancels is slow, too
      await page.locator('#url-load').click();
      await page.getByRole('button', { name: 'Cancel' }).click();
      await page.locator('#model-dot[data-state=none]').waitFor();
      assert.equal(await page.locator('#loading').isVisible(), false);
      assert.deepEqual(slow.errors, []);
    } finally {
      await slow.close();
    }
  });
});
