// exitlm/react in Chromium, with the real React under StrictMode, which mounts everything twice.
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { ENDLESS, roomyBytes } from '../js/support/tiny-model.mjs';
import { startTiny } from './tiny.mjs';

const root = fileURLToPath(new URL('../../', import.meta.url));
const app = `
import { createElement as h, StrictMode, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { useExitLM } from 'exitlm/react';

function Chat({ source }) {
  const chat = useExitLM(source, { worker: '/web/src/worker.js', cache: 'none' });
  Object.assign(window, { chat });
  window.seen.push(chat.messages.at(-1)?.content.length ?? 0);
  if (chat.progress) window.progress = chat.progress;
  return h('main', { 'data-state': chat.state }, chat.messages.map(({ content }, i) => h('p', { key: i }, content)));
}
function App() {
  const [source, setSource] = useState('/models/tiny.gguf');
  Object.assign(window, { setSource });
  return source === '' ? null : h(Chat, { source });
}
window.seen = [];
createRoot(document.querySelector('#app')).render(h(StrictMode, null, h(App)));
`;
/** @type {Awaited<ReturnType<typeof startTiny>>} */
let it;
/** @type {import('esbuild').BuildResult<{ metafile: true, write: false }>} */
let bundle;
before(async () => {
  bundle = await build({
    stdin: { contents: app, resolveDir: root },
    alias: { 'exitlm/react': path.join(root, 'web/src/react.js') },
    bundle: true,
    splitting: false,
    format: 'esm',
    minify: true,
    write: false,
    metafile: true,
    logLevel: 'silent',
    define: { 'process.env.NODE_ENV': '"development"' },
  });
  it = await startTiny({
    model: roomyBytes,
    serve: {
      intercept: (request, response) => {
        if (request.url === '/app.js')
          response.setHeader('Content-Type', 'text/javascript').end(bundle.outputFiles[0].text);
        else if (request.url === '/app')
          response
            .setHeader('Content-Type', 'text/html')
            .end(
              '<!doctype html><link rel="icon" href="data:,"><div id="app"></div><script type="module" src="/app.js"></script>',
            );
        else return false;
        return true;
      },
    },
  });
});
after(() => it.close());

test('the hook itself is small', () => {
  const { inputs } = Object.values(bundle.metafile.outputs)[0];
  const bytes = Object.entries(inputs)
    .filter(([file]) => /^web\/src\/(client\/)?react\.js$/.test(file))
    .reduce((sum, [, { bytesInOutput }]) => sum + bytesInOutput, 0);
  assert.ok(bytes > 500 && bytes < 6000, `${bytes} bytes`);
});

test('loads once, streams, stops, goes on, changes its model, leaves nothing behind', async () => {
  const page = await it.open('/app');
  const state = (/** @type {string} */ wanted) =>
    page.waitForSelector(`main[data-state=${wanted}]`, { state: 'attached' });
  const run = (/** @type {(chat: any) => any} */ body) => page.evaluate(`(${body})(window.chat)`);
  /** What became of an answer that cannot end by itself, when this happened in the midst of it. */
  const meanwhile = (/** @type {string} */ text, /** @type {() => void} */ act) =>
    page.evaluate(`(async () => {
      const { mode, maxTokens } = ${JSON.stringify(ENDLESS)};
      const answer = chat.send('${text}', { mode, maxTokens, pattern: ${ENDLESS.pattern} });
      while (chat.state !== 'answering' || chat.tokens.length < 3) await new Promise(requestAnimationFrame);
      (${act})();
      return answer;
    })()`);
  const workers = async (/** @type {number} */ wanted) => {
    const began = Date.now();
    while (page.workers().length !== wanted && Date.now() - began < 30_000)
      await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(page.workers().length, wanted);
  };

  await state('ready');
  await workers(1);
  await page.waitForFunction(() => /** @type {any} */ (window).progress?.loaded > 0);

  const { text } = await run((chat) => chat.send('Hello there', { maxTokens: 40 }));
  await state('ready');
  assert.deepEqual(await page.locator('p').allTextContents(), ['Hello there', text]);
  const seen = await page.evaluate(() => new Set(/** @type {any} */ (window).seen).size);
  assert.ok(seen > 1, `${seen} lengths were drawn on the way`); // a busy device draws seldom
  assert.equal(await run((chat) => chat.tokens.length), 40);

  const { reason } = await meanwhile('Go on', () => /** @type {any} */ (window).chat.stop());
  assert.equal(reason, 'abort');
  await state('ready');
  assert.equal(await run((chat) => chat.messages.length), 4, 'what was said stays');

  await run((chat) => chat.reset());
  await page.waitForFunction(() => /** @type {any} */ (window).chat.messages.length === 0);
  assert.ok((await run((chat) => chat.send('Again', { maxTokens: 3 }))).text.length > 0);

  await page.evaluate(() => /** @type {any} */ (window).setSource('/models/none.gguf'));
  await state('failed');
  assert.match(await run((chat) => chat.error.message), /none\.gguf/);
  assert.deepEqual(
    it.errors.splice(0).filter((error) => !/404/.test(error)),
    [],
  );

  await page.evaluate(() => /** @type {any} */ (window).setSource('/models/tiny.gguf?again'));
  await state('ready');
  await workers(1);
  const left = await meanwhile('Hello', () => /** @type {any} */ (window).setSource(''));
  assert.equal(left, null);
  await workers(0);
  assert.deepEqual(it.errors, []);
});
