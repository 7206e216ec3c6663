// The package from another origin than the page's, as from a CDN: the README's one file, with
// threads, and where a policy forbids the worker.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { start } from './browser.mjs';
import { startTiny } from './tiny.mjs';

const [, readme] =
  /```html\n([^]*?)```/.exec(
    fs.readFileSync(new URL('../../README.md', import.meta.url), 'utf8'),
  ) ?? [];
const anyOrigin = { 'Access-Control-Allow-Origin': '*' };
/** @type {Awaited<ReturnType<typeof startTiny>>} */
let cdn;
before(async () => {
  cdn = await startTiny({ serve: { headers: anyOrigin }, browser: false });
});
after(() => cdn.close());

/**
 * A page on a server that has nothing else.
 * @param {string} html
 * @param {import('../../web/serve.mjs').ServeOptions} [options]
 */
async function visit(html, options) {
  const site = await start({
    isolation: false,
    ...options,
    intercept: (request, response) => {
      if (request.url === '/') response.setHeader('Content-Type', 'text/html').end(html);
      else response.writeHead(204).end(); // the icon
      return true;
    },
  });
  const page = await site.open('/');
  /** @type {string[]} */
  const warnings = [];
  page.on('console', (message) => {
    if (message.type() === 'warning') warnings.push(message.text());
  });
  return { page, warnings, errors: site.errors, close: () => site.close() };
}

test("the README's file answers, in a worker", async () => {
  assert.ok(readme && readme.trim().split('\n').length <= 12, 'it is short');
  const html = readme
    .replaceAll('https://cdn.jsdelivr.net/npm/exitlm', cdn.address)
    .replace("'/models", `'${cdn.address}/models`)
    .replaceAll('smollm2-135m-instruct', 'tiny');
  const { page, errors, close } = await visit(html);
  try {
    await page.waitForFunction(
      () => (document.querySelector('#answer')?.textContent ?? '').length > 20,
    );
    assert.equal(page.workers().length, 1);
    assert.deepEqual(errors, []);
    assert.ok(
      cdn.requests.some(({ url }) => url.endsWith('tiny.exits.gguf')),
      'the heads came too',
    );
  } finally {
    await close();
  }
});

describe('a page that loads', () => {
  /** @param {any} page @param {object} [options] */
  const answer = (page, options = {}) =>
    page.evaluate(
      async ([address, given]) => {
        const { ExitLM } = await import(`${address}/web/src/index.js`);
        const lm = await ExitLM.load(`${address}/models/tiny.gguf`, { heads: false, ...given });
        const { text } = await lm.complete('Once upon a time', { maxTokens: 12 }).result;
        const { threads } = lm.info;
        await lm.dispose();
        return { text, threads };
      },
      [cdn.address, options],
    );
  /** @type {string} */
  let expected;
  test('with threads, where the page is isolated', async () => {
    const { page, errors, close } = await visit('<!doctype html>', { isolation: true });
    try {
      const one = await answer(page);
      expected = one.text;
      assert.deepEqual(await answer(page, { threads: 3 }), { text: expected, threads: 3 });
      assert.deepEqual(errors, []);
    } finally {
      await close();
    }
  });
  test("where a policy forbids such a worker, in the page's own thread, and says so", async () => {
    const { page, warnings, close } = await visit('<!doctype html>', {
      headers: {
        'Content-Security-Policy': `script-src ${cdn.address} 'wasm-unsafe-eval'; worker-src 'self'`,
      },
    });
    try {
      assert.equal((await answer(page)).text, expected);
      assert.equal(page.workers().length, 0);
      assert.ok(
        warnings.some((line) => /page's own thread/.test(line)),
        warnings.join('\n'),
      );
      await assert.rejects(answer(page, { worker: true }), /WORKER|worker/);
    } finally {
      await close();
    }
  });
});
