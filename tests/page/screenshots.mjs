// Makes the pictures of the README (web/demo/screenshots), with the default model and its exit
// heads:
//
//   node tests/page/screenshots.mjs [--heads FILE] [--out DIR]
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { start } from './browser.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { values } = parseArgs({
  options: {
    heads: { type: 'string', default: path.join(root, 'models/smollm2-135m-instruct.exits.gguf') },
    out: { type: 'string', default: path.join(root, 'web/demo/screenshots') },
  },
});
const heads = fs.readFileSync(values.heads);
fs.mkdirSync(values.out, { recursive: true });

/** @type {import('../../web/serve.mjs').ServeOptions['intercept']} */
const intercept = (request, response) => {
  if (request.url !== '/models/smollm2-135m-instruct.exits.gguf') return false;
  response.setHeader('Content-Type', 'application/octet-stream').end(heads);
  return true;
};

const desktop = { viewport: { width: 1280, height: 800 } };
const phone = {
  viewport: { width: 390, height: 844 },
  deviceScaleFactor: 2,
  isMobile: true,
  hasTouch: true,
};
const question = 'Why is the sky blue?';

const fast = await start({ intercept });
const slow = await start({ intercept, bitsPerSecond: 12e6 });
try {
  await loading();
  const page = await fast.open('/web/demo/', desktop);
  await settle(page, { maxTokens: 90, view: 'depth' });
  await page.getByRole('button', { name: /^Load / }).click();
  await page.locator('#model-dot[data-state=ready]').waitFor({ timeout: 300000 });
  await ask(page, question);
  await page.mouse.move(0, 0);
  await shoot(page, 'desktop');
  await page.getByText('Tokens', { exact: true }).click();
  await page.locator('#messages .answer .token').nth(12).hover();
  await shoot(page, 'tokens');
  await page.mouse.move(0, 0);
  await page.getByText('Work', { exact: true }).click();
  await settle(page, { theme: 'dark', compare: true });
  await page.getByRole('button', { name: 'New chat' }).click();
  await ask(page, 'How do plants make their food?');
  await page.mouse.move(0, 400);
  await shoot(page, 'compare-dark');
  await settle(page, { compare: false });
  await page.setViewportSize({ width: 390, height: 844 });
  await shoot(page, 'phone-dark');
  await page.getByRole('button', { name: 'Charts of the answer', exact: true }).click();
  await page.locator('#insight .histogram').waitFor();
  await page.waitForTimeout(400);
  await shoot(page, 'phone-charts');
  console.log(fast.errors);
} finally {
  await Promise.all([fast.close(), slow.close()]);
}

/** A question while the model arrives, on a line of 12 Mbit/s. */
async function loading() {
  const page = await slow.open('/web/demo/', phone);
  await settle(page, { maxTokens: 110 });
  await page.getByRole('textbox', { name: 'Message' }).fill(question);
  await page.getByRole('button', { name: 'Send' }).tap();
  await page.waitForFunction(() => document.querySelectorAll('#loading .here').length >= 11, null, {
    timeout: 300000,
  });
  await shoot(page, 'phone-loading');
  await page.context().close();
}

/** @param {import('playwright-core').Page} page @param {Record<string, unknown>} settings */
async function settle(page, settings) {
  await page.evaluate(
    async (changes) => (await import(/** @type {any} */ ('/web/demo/store.js'))).change(changes),
    settings,
  );
}

/** @param {import('playwright-core').Page} page @param {string} text */
async function ask(page, text) {
  await page.getByRole('textbox', { name: 'Message' }).fill(text);
  await page.keyboard.press('Enter');
  await page.locator('.turn.assistant').last().waitFor();
  await page.locator('#send[data-busy=false]').waitFor({ timeout: 600000 });
  await page.locator('#model-dot[data-state=ready]').waitFor({ timeout: 300000 });
  await page.locator('#messages').getByText('as fast as full').first().waitFor({ timeout: 60000 });
  await page.waitForTimeout(400);
}

/** @param {import('playwright-core').Page} page @param {string} name */
async function shoot(page, name) {
  const file = path.join(values.out, `${name}.png`);
  await page.screenshot({ path: file });
  console.log(`${name}.png ${(fs.statSync(file).size / 1024).toFixed(0)} kB`);
}
