// The browser and the server that the page tests stand on.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { start } from './browser.mjs';

const isolated = await start();
const plain = await start({ isolation: false });
after(() => Promise.all([isolated.close(), plain.close()]));

test('a served page is isolated, and has shared memory and threads', async () => {
  const page = await isolated.open('/tests/page/blank.html');
  assert.equal(await page.evaluate(() => crossOriginIsolated), true);
  assert.equal(
    await page.evaluate(
      () =>
        new WebAssembly.Memory({ initial: 1, maximum: 2, shared: true }).buffer instanceof
        SharedArrayBuffer,
    ),
    true,
  );
  assert.deepEqual(isolated.errors, []);
});

test('without the headers it is not', async () => {
  const page = await plain.open('/tests/page/blank.html');
  assert.equal(await page.evaluate(() => crossOriginIsolated), false);
  assert.deepEqual(plain.errors, []);
});
