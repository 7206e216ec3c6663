// Threads are optional: the helper for hosts that cannot send headers (coi-serviceworker.js), and
// that threads on and off say the same.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, test } from 'node:test';
import { start } from './browser.mjs';

const worker = fs.readFileSync(
  new URL('../../web/src/coi-serviceworker.js', import.meta.url),
  'utf8',
);
const page = (/** @type {string} */ src) => `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Isolation</title><link rel="icon" href="data:,"><script src="${src}"></script>
<script>sessionStorage.visits = 1 + Number(sessionStorage.visits ?? 0);</script></html>`;

/** A host that sends no header of its own, with the helper beside the page. */
const host = await start({
  isolation: false,
  intercept: (request, response) => {
    const path = (request.url ?? '').split('?')[0];
    if (path === '/coi-serviceworker.js')
      response.setHeader('Content-Type', 'text/javascript').end(worker);
    else if (path === '/')
      response
        .setHeader('Content-Type', 'text/html')
        .end(page(`coi-serviceworker.js${request.url?.includes('off') ? '?off' : ''}`));
    else return false;
    return true;
  },
});
after(() => host.close());

/** @param {import('playwright-core').Page} at @param {number | 'auto'} threads */
const answer = (at, threads) =>
  at.evaluate(async (n) => {
    const { ExitLM } = await import(/** @type {any} */ ('/web/src/index.js'));
    const lm = await ExitLM.load('/tests/data/tiny.gguf', {
      heads: false,
      threads: n,
      cache: 'none',
    });
    const { text } = await lm.complete('Once upon a time', { maxTokens: 40 }).result;
    const result = {
      text,
      threads: lm.info.threads,
      isolated: crossOriginIsolated,
      visits: sessionStorage.visits,
    };
    await lm.dispose();
    return result;
  }, threads);

test('a host without headers is isolated after one reload; threads on and off say the same; a plain page too', async () => {
  const context = await host.browser.newContext();
  const first = await context.newPage();
  first.setDefaultTimeout(120_000);
  first.on('console', (message) => {
    if (message.type() === 'error') host.errors.push(message.text());
  });
  await first.goto(host.address);
  await first.waitForFunction(() => crossOriginIsolated && document.readyState === 'complete');
  const several = await answer(first, 3);
  assert.deepEqual([several.threads, several.isolated, several.visits], [3, true, '2']);
  const one = await answer(first, 1);
  assert.deepEqual([one.threads, one.text], [1, several.text]);

  // At the next visit there is nothing to reload.
  const second = await context.newPage();
  await second.goto(host.address);
  await second.waitForFunction(() => document.readyState === 'complete');
  assert.deepEqual(await second.evaluate(() => [crossOriginIsolated, sessionStorage.visits]), [
    true,
    '1',
  ]);

  // Elsewhere on the host, where the helper was not asked for at the first visit, everything works
  // in one thread.
  const bare = await (await host.browser.newContext()).newPage();
  await bare.goto(`${host.address}/tests/page/blank.html`);
  const plain = await answer(bare, 'auto');
  assert.deepEqual([plain.threads, plain.isolated, plain.text], [1, false, several.text]);
  await bare.context().close();

  // …?off removes it, as soon as no page of before is left that it serves.
  await first.close();
  let isolated = true;
  for (let visit = 0; isolated && visit < 40; visit++) {
    await second.goto(`${host.address}/?off`);
    await second.evaluate(async () => {
      while ((await navigator.serviceWorker.getRegistrations()).length)
        await new Promise((resolve) => {
          setTimeout(resolve, 20);
        });
    });
    isolated = await second.evaluate(() => crossOriginIsolated);
  }
  assert.equal(isolated, false);
  await context.close();
  assert.deepEqual(host.errors, []);
});

test('where service workers are refused, the page stays as it is, and is not reloaded over and over', async () => {
  const context = await host.browser.newContext({ serviceWorkers: 'block' });
  const at = await context.newPage();
  at.setDefaultTimeout(120_000);
  await at.goto(host.address);
  const result = await answer(at, 'auto');
  assert.deepEqual([result.threads, result.isolated, result.visits], [1, false, '1']);
  await context.close();
});

test('200 short replies in two instances with threads', async () => {
  const isolated = await start();
  const at = await isolated.open('/tests/page/blank.html');
  const texts = await at.evaluate(async () => {
    const { ExitLM } = await import(/** @type {any} */ ('/web/src/index.js'));
    const seen = new Set();
    await Promise.all(
      [2, 3].map(async (threads) => {
        const lm = await ExitLM.load('/tests/data/tiny.gguf', {
          heads: false,
          threads,
          cache: 'none',
        });
        if (lm.info.threads !== threads) throw new Error(`${lm.info.threads} threads`);
        for (let i = 0; i < 100; i++) {
          seen.add((await lm.complete('Once upon a time', { maxTokens: 3 }).result).text);
          // the workers fall asleep
          if (i % 10 === 9)
            await new Promise((resolve) => {
              setTimeout(resolve, 3);
            });
        }
        await lm.dispose();
      }),
    );
    return [...seen];
  });
  assert.equal(texts.length, 1);
  await isolated.close();
});
