// The chat page in other engines than Chromium's: Firefox ESR and WebKitGTK, as Debian has them
// (npm run test:browsers installs them). Load, answer, stop, come back and load from this device.
// An engine that is not installed is skipped.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { after, test } from 'node:test';
import { roomyBytes } from '../js/support/tiny-model.mjs';
import { startTiny } from './tiny.mjs';

/**
 * @typedef {object} Driver
 * @property {(url: string) => Promise<unknown>} open
 * @property {(body: string) => Promise<any>} run the body of an async function, in the page
 * @property {() => Promise<unknown>} close
 */

const find = (/** @type {string[]} */ files) => files.find((file) => fs.existsSync(file)) ?? null;
const firefox = process.env.EXITLM_FIREFOX || find(['/usr/bin/firefox-esr', '/usr/bin/firefox']);
const webkitDriver = find(['/usr/bin/WebKitWebDriver']);
const xvfb = find(['/usr/bin/Xvfb']);
const miniBrowser =
  ['/usr/lib', '/usr/libexec']
    .flatMap((folder) =>
      fs.existsSync(folder)
        ? [folder, ...fs.readdirSync(folder).map((name) => path.join(folder, name))]
        : [],
    )
    .map((folder) => path.join(folder, 'webkit2gtk-4.1/MiniBrowser'))
    .find((file) => fs.existsSync(file)) ?? null;

/** @returns {Promise<Driver>} */
async function startFirefox() {
  const { default: puppeteer } = await import('puppeteer-core');
  const browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: /** @type {string} */ (firefox),
    headless: true,
  });
  const page = await browser.newPage();
  return {
    open: (url) => page.goto(url),
    run: (body) => page.evaluate(`(async () => { ${body} })()`),
    close: () => browser.close(),
  };
}

/**
 * WebKitGTK speaks WebDriver, a JSON protocol over HTTP; MiniBrowser needs a display. @returns
 * {Promise<Driver>}
 */
async function startWebKit() {
  const port = await freePort();
  const display = `:${100 + (port % 400)}`;
  const screen = spawn(
    /** @type {string} */ (xvfb),
    [display, '-screen', '0', '1280x900x24', '-nolisten', 'tcp'],
    { stdio: 'ignore' },
  );
  const server = spawn(/** @type {string} */ (webkitDriver), [`--port=${port}`], {
    stdio: 'ignore',
    env: {
      ...process.env,
      DISPLAY: display,
      WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: '1',
      WEBKIT_DISABLE_COMPOSITING_MODE: '1',
      LIBGL_ALWAYS_SOFTWARE: '1',
    },
  });
  const call = async (
    /** @type {string} */ method,
    /** @type {string} */ at,
    /** @type {any} */ body,
  ) => {
    const response = await fetch(`http://127.0.0.1:${port}${at}`, {
      method,
      body: body && JSON.stringify(body),
    });
    const { value } = /** @type {any} */ (await response.json());
    if (!response.ok) throw new Error(`${value.error}: ${value.message}`);
    return value;
  };
  const stop = () => [server, screen].forEach((child) => child.kill());
  try {
    await until(() =>
      fetch(`http://127.0.0.1:${port}/status`).then(
        ({ ok }) => ok,
        () => false,
      ),
    );
    const { sessionId } = await call('POST', '/session', {
      capabilities: {
        alwaysMatch: {
          'browserName': 'MiniBrowser',
          'webkitgtk:browserOptions': { binary: miniBrowser, args: ['--automation'] },
        },
      },
    });
    const at = `/session/${sessionId}`;
    await call('POST', `${at}/timeouts`, { script: 120000, pageLoad: 120000 });
    return {
      open: (url) => call('POST', `${at}/url`, { url }),
      run: async (body) => {
        const { value, error } = await call('POST', `${at}/execute/async`, {
          args: [],
          script: `const done = arguments[0]; (async () => { ${body} })().then((value) => done({ value }), (error) => done({ error: String(error) }));`,
        });
        if (error) throw new Error(error);
        return value;
      },
      close: async () => {
        await call('DELETE', at, undefined).catch(() => {});
        stop();
      },
    };
  } catch (error) {
    stop();
    throw error;
  }
}

/** @returns {Promise<number>} */
const freePort = () =>
  new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = /** @type {net.AddressInfo} */ (server.address());
      server.close(() => resolve(port));
    });
  });

/** @param {() => Promise<boolean>} condition */
async function until(condition, seconds = 90) {
  for (
    const end = Date.now() + 1000 * seconds;
    !(await condition());
    await new Promise((resolve) => setTimeout(resolve, 100))
  ) {
    if (Date.now() > end) throw new Error(`nothing after ${seconds} s: ${condition}`);
  }
}

/** What a person does, in words of the page. */
const PAGE = `
  const wait = async (condition, what) => {
    for (const end = Date.now() + 90000; !condition(); await new Promise((go) => setTimeout(go, 50))) {
      if (Date.now() > end) throw new Error('no ' + what + '; ' + document.querySelector('#loading-text').textContent + '; ' + document.querySelector('#messages').textContent);
    }
  };
  const ready = () => wait(() => document.querySelector('#model-dot').dataset.state === 'ready', 'model');
  const idle = () => wait(() => document.querySelector('#send').dataset.busy === 'false', 'end of the answer');
  const set = async (values) => (await import('/web/demo/store.js')).change(values);
  const model = async () => (await import('/web/demo/model.js')).model;
  const ask = async (text) => {
    const prompt = document.querySelector('#prompt');
    prompt.value = text;
    prompt.dispatchEvent(new Event('input', { bubbles: true }));
    document.querySelector('#send').click();
    await wait(() => document.querySelector('#send').dataset.busy === 'true' || document.querySelector('.run-figures')?.textContent.includes('tokens'), 'answer');
  };
  const last = () => [...document.querySelectorAll('#messages .answer')].at(-1).answer.run;
`;

/**
 * @param {string} name @param {() => Promise<Driver>} startBrowser @param {string | false} skip
 *   @param {boolean} isolation
 */
function smoke(name, startBrowser, skip, isolation) {
  test(
    `${name}${isolation ? '' : ', not isolated'}: loads, answers, stops, loads from this device`,
    { skip, timeout: 600000 },
    async (t) => {
      const site = await startTiny({ model: roomyBytes, serve: { isolation }, browser: false });
      after(() => site.close());
      const browser = await startBrowser();
      try {
        await browser.open(`${site.address}/web/demo/`);
        const about = await browser.run(`${PAGE}
        addEventListener('error', (event) => { document.documentElement.dataset.error = event.message; });
        addEventListener('unhandledrejection', (event) => { document.documentElement.dataset.error = String(event.reason); });
        await wait(() => !document.querySelector('#welcome-load').hidden, 'button');
        document.querySelector('#welcome-load').click();
        await ready();
        const { info } = (await model()).lm;
        return { kernel: info.kernel, threads: info.threads, isolated: crossOriginIsolated, opfs: typeof navigator.storage?.getDirectory === 'function', agent: navigator.userAgent };`);
        t.diagnostic(
          `${about.agent}: ${about.kernel}, ${about.threads} thread(s), isolated: ${about.isolated}, OPFS: ${about.opfs}`,
        );
        assert.equal(about.isolated, isolation);
        const run = await browser.run(`${PAGE}
        await set({ maxTokens: 30, temperature: 0 });
        await ask('Hello there');
        await idle();
        return last();`);
        assert.equal(run.mode, 'exit');
        assert.equal(run.tokens.length, 30);
        assert.ok(run.tokens.some((/** @type {any} */ [, layer]) => layer < 6));
        assert.ok(
          run.tokens.every(
            (/** @type {any} */ [, layer, work]) => layer >= 2 && layer <= 6 && work > 0,
          ),
        );
        const stopped = await browser.run(`${PAGE}
        await set({ maxTokens: 5000, mode: 'full' });
        const seen = new MutationObserver(() => {
          if ([...document.querySelectorAll('#messages .answer')].at(-1)?.querySelectorAll('.token').length > 4) document.querySelector('#send').dataset.busy === 'true' && document.querySelector('#send').click();
        });
        seen.observe(document.querySelector('#messages'), { childList: true, subtree: true });
        document.querySelector('#new-chat').click();
        await ask('Hello');
        await idle();
        seen.disconnect();
        return last();`);
        assert.equal(stopped.reason, 'abort');
        assert.ok(stopped.tokens.length > 0 && stopped.tokens.length < 1900);
        await new Promise((resolve) => setTimeout(resolve, 500)); // the copy is closed
        const before = site.requests.length;
        await browser.open(`${site.address}/web/demo/?again`);
        const again = await browser.run(`${PAGE}
        await ready();
        await set({ maxTokens: 30, mode: 'exit' });
        await ask('Hello there');
        await idle();
        return { run: last(), error: document.documentElement.dataset.error ?? null };`);
        assert.equal(again.error, null);
        assert.deepEqual(
          site.requests.slice(before).filter(({ url }) => url.startsWith('/models/tiny.gguf')),
          [],
          'the model is not fetched again',
        );
        assert.equal(again.run.text, run.text, 'and says the same');
      } finally {
        await browser.close();
      }
    },
  );
}

smoke(
  'Firefox',
  startFirefox,
  !firefox && 'Firefox is not installed (npm run test:browsers)',
  true,
);
smoke(
  'Firefox',
  startFirefox,
  !firefox && 'Firefox is not installed (npm run test:browsers)',
  false,
);
const noWebKit =
  (!webkitDriver || !xvfb || !miniBrowser) && 'WebKitGTK is not installed (npm run test:browsers)';
smoke('WebKitGTK', startWebKit, noWebKit, true);
smoke('WebKitGTK', startWebKit, noWebKit, false);
