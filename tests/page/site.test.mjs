// The page as a folder (npm run site): behind a file server that sends no headers and knows no
// ranges, below a path, and then without that server.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { after, test } from 'node:test';
import { listen } from '../../web/serve.mjs';
import { writeSite } from '../../web/site.mjs';
import { built, program, scratch } from '../js/support/cli.mjs';
import { tinyBytes, tinyHeads } from '../js/support/tiny-model.mjs';
import { launch } from './browser.mjs';
import { tinyCatalogue } from './tiny.mjs';

const BELOW = '/some/path/';
const out = scratch('site', undefined);
/** @type {Record<string, string>} */
const TYPES = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
};
/** @type {string[]} */
const asked = [];
const server = http.createServer(({ url = '' }, response) => {
  asked.push(url);
  const name = url.split('?')[0].replace(/\/$/, '/index.html');
  const file = path.join(out, name.slice(BELOW.length));
  if (!name.startsWith(BELOW) || !fs.existsSync(file)) return response.writeHead(404).end();
  const type = TYPES[path.extname(file)] ?? 'application/octet-stream';
  response.setHeader('Content-Type', type).end(fs.readFileSync(file));
});
const stop = () => {
  server.closeAllConnections();
  return new Promise((resolve) => {
    server.close(resolve);
  });
};

test(
  'the page as a folder answers behind a file server, and then without it',
  { skip: !built && 'the native program is not built' },
  async () => {
    const catalogue = tinyCatalogue(tinyBytes);
    catalogue.models[0].licence = 'Apache-2.0';
    const models = path.dirname(
      scratch('models/catalog.json', Buffer.from(JSON.stringify(catalogue))),
    );
    scratch('models/tiny.gguf', tinyBytes);
    scratch('models/tiny.exits.gguf', Buffer.from(await tinyHeads()));
    await assert.rejects(writeSite({ out: models, models, program }), /other files are in it/);
    await writeSite({ out, models, program });
    await writeSite({ out, models, program }); // what it wrote it writes anew

    const address = (await listen(server)).slice(0, -1) + BELOW;
    const browser = await launch();
    after(() => Promise.all([browser.close(), stop()]));
    const context = await browser.newContext();
    context.setDefaultTimeout(120_000);
    /** @type {string[]} */
    const wrong = [];
    context.on('request', (request) => {
      if (!request.url().startsWith(address) && !/^(data|blob):/.test(request.url()))
        wrong.push(request.url());
    });
    const page = await context.newPage();
    page.on('pageerror', ({ message }) => wrong.push(message));
    page.on('console', (message) => {
      if (message.type() === 'error') wrong.push(message.text());
    });
    const answer = async () => {
      await page.locator('#model-name', { hasText: 'Tiny random' }).waitFor();
      await page.evaluate(
        async (store) => (await import(store)).change({ maxTokens: 20 }),
        `${address}web/demo/store.js`,
      );
      await page.getByRole('textbox', { name: 'Message' }).fill('Hello');
      await page.keyboard.press('Enter');
      await page.locator('.turn.assistant').waitFor();
      await page.locator('#send[data-busy=false]').waitFor();
      await page.locator('#model-dot[data-state=ready]').waitFor();
      const run = await page.evaluate(
        () => /** @type {any} */ (document.querySelector('#messages .answer')).answer.run,
      );
      return { mode: run.mode, text: run.text, tokens: run.tokens.length };
    };

    await page.goto(address);
    await page.waitForFunction(() => crossOriginIsolated); // loaded once more, by then
    await page.getByRole('button', { name: /^Load Tiny random/ }).waitFor();
    const first = await answer();
    assert.deepEqual([first.mode, first.tokens], ['exit', 20]);
    assert.ok(asked.includes(`${BELOW}models/tiny/manifest.json`));
    assert.ok(!asked.some((url) => url.endsWith('tiny.gguf')), 'the model comes packed');
    assert.deepEqual(
      asked.filter((url) => !url.startsWith(BELOW)),
      [],
    );
    const cdp = await context.newCDPSession(page);
    const { errors, url } = await cdp.send('Page.getAppManifest');
    assert.deepEqual([errors, url], [[], `${address}manifest.json`]);
    assert.deepEqual(wrong, []);

    // All is kept: model, heads and the page's files.
    await page.evaluate(async (index) => {
      const { ExitLM } = await import(index);
      for (;;) {
        const list = await ExitLM.cache.list();
        const whole = list.filter((/** @type {any} */ { complete }) => complete);
        const names = (await caches.keys()).filter((name) => name.startsWith('exitlm page'));
        const files = await Promise.all(
          names.map(async (name) => (await (await caches.open(name)).keys()).length),
        );
        // eslint-disable-next-line no-undef
        if (whole.length > 1 && files[0] === SITE.files.length) return;
        await new Promise((resolve) => {
          setTimeout(resolve, 20);
        });
      }
    }, `${address}web/src/index.js`);
    await stop();
    // A slow disk: the question comes before the page knows that the model is here.
    await page.addInitScript(() => {
      const { getDirectory } = StorageManager.prototype;
      StorageManager.prototype.getDirectory = async function later() {
        await new Promise((resolve) => {
          setTimeout(resolve, 1000);
        });
        return getDirectory.call(this);
      };
    });
    await page.reload();
    assert.deepEqual(await answer(), first);
  },
);
