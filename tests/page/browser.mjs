// Debian's Chromium for the page tests, driven by playwright-core.
import fs from 'node:fs';
import { chromium } from 'playwright-core';
import { createServer, listen } from '../../web/serve.mjs';

/** Where the browser is: $EXITLM_CHROMIUM, else Debian's. */
export const executablePath = process.env.EXITLM_CHROMIUM || '/usr/bin/chromium';

export const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-dev-shm-usage',
  // performance.measureUserAgentSpecificMemory() collects garbage itself, and waits for nothing
  '--enable-blink-features=ForceEagerMeasureMemory',
];

/** @param {import('playwright-core').LaunchOptions} [options] */
export async function launch(options = {}) {
  if (!fs.existsSync(executablePath))
    throw new Error(
      `no browser at ${executablePath}: npm test installs it, or set EXITLM_CHROMIUM`,
    );
  return chromium.launch({
    executablePath,
    headless: true,
    ...options,
    args: [...ARGS, ...(options.args ?? [])],
  });
}

/**
 * A browser and a server of this repository for one test file: `after(() => it.close())`.
 * `open(path)` gives a page at that path of the server; what the page logs as an error, and every
 * error that nobody caught in it, is in `errors`.
 * @param {import('../../web/serve.mjs').ServeOptions} [serve]
 * @param {{ browser?: boolean }} [options] browser: false starts the server alone
 */
export async function start(serve = {}, { browser: wanted = true } = {}) {
  const server = createServer({ folders: ['web', 'models', 'tests'], ...serve });
  const address = (await listen(server)).slice(0, -1);
  const browser = wanted
    ? await launch()
    : /** @type {import('playwright-core').Browser} */ (/** @type {unknown} */ (null));
  /** @type {string[]} */
  const errors = [];
  return {
    address,
    browser,
    server,
    errors,
    /** @param {string} path @param {import('playwright-core').BrowserContextOptions} [options] */
    async open(path, options) {
      const context = await browser.newContext(options);
      context.setDefaultTimeout(120000); // a loaded machine is slow, and that is not what is tested
      const page = await context.newPage();
      page.on('pageerror', (error) => errors.push(error.message));
      page.on('console', (message) => {
        if (message.type() === 'error') errors.push(message.text());
      });
      await page.goto(`${address}${path}`);
      return page;
    },
    async close() {
      await browser?.close();
      server.closeAllConnections();
      await new Promise((resolve) => {
        server.close(resolve);
      });
    },
  };
}
