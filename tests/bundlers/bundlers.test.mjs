// From the packed tarball, in a temporary folder each: a small app with Vite, webpack, esbuild,
// Rollup and a plain module script, built and run in real Chromium. Vite and webpack need no
// configuration; esbuild and Rollup do not follow `new URL(…, import.meta.url)`, so there the
// package's folder is copied beside the page and the option `worker` says where (docs/bundlers.md).
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createServer, listen } from '../../web/serve.mjs';
import { launch } from '../page/browser.mjs';
import { createApp, serve } from './support/app.mjs';
import { tools } from './support/tools.mjs';

const policy =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; worker-src 'self'; img-src data:";
const bin = (/** @type {string} */ file) => path.join(tools(), 'node_modules', file);

/** @type {import('playwright-core').Browser} */
let browser;
/** What the app answers. @type {string} */
let expected;

before(async () => {
  tools();
  browser = await launch();
});
after(() => browser?.close());

/** Runs a bundler's command line to its end. */
function build(
  /** @type {string} */ program,
  /** @type {string[]} */ args,
  /** @type {string} */ cwd,
) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [bin(program), ...args], {
    cwd,
    encoding: 'utf8',
  });
  assert.equal(status, 0, `${program} ${args.join(' ')}\n${stdout}\n${stderr}`);
}

/**
 * Opens the app's page, waits for its answer and looks at what it asked for.
 * @param {import('playwright-core').BrowserContext} context
 * @param {string} url
 * @param {Record<string, unknown>} [loadOptions]
 */
async function visit(context, url, loadOptions) {
  const page = await context.newPage();
  /** @type {string[]} */
  const errors = [];
  page.on('pageerror', (error) => errors.push(error.message));
  // a warning: no worker, no copy kept
  page.on('console', (message) => {
    if (message.type() === 'error' || message.text().startsWith('exitlm'))
      errors.push(message.text());
  });
  if (loadOptions)
    await page.addInitScript((options) => {
      Object.assign(globalThis, { loadOptions: options });
    }, loadOptions);
  await page.goto(url);
  await page.waitForFunction(
    () =>
      /** @type {any} */ (document.getElementById('out'))?.dataset.done ??
      /** @type {any} */ (document.getElementById('out'))?.dataset.error,
    undefined,
    { timeout: 120_000 },
  );
  const seen = await page.evaluate(() => {
    const out = /** @type {HTMLElement} */ (document.getElementById('out'));
    return {
      ...out.dataset,
      text: out.textContent,
      title: /** @type {HTMLElement} */ (out.firstElementChild)?.title,
      isolated: crossOriginIsolated,
    };
  });
  assert.equal(seen.error, undefined);
  assert.deepEqual(errors, []);
  assert.match(String(seen.title), /^\d+ of \d+ layers$/);
  expected ??= String(seen.text);
  assert.ok(expected.length > 0);
  assert.equal(seen.text, expected, 'the same words whoever bundled them');
  await page.close();
  return seen;
}

/** A browser context that tells which origins were asked, workers and all. */
async function fresh() {
  const context = await browser.newContext();
  const origins = /** @type {Set<string>} */ (new Set());
  context.on('request', (request) => {
    if (!/^(data|blob):/.test(request.url())) origins.add(new URL(request.url()).origin);
  });
  return { context, origins };
}

/**
 * A folder that is ready to be published: with isolation and two threads; then under a strict
 * policy, without isolation, in one. The second visit takes the model from the cache.
 * @param {string} folder
 * @param {{ loadOptions?: Record<string, unknown> }} [options]
 */
async function production(folder, { loadOptions } = {}) {
  for (const strict of [false, true]) {
    const server = createServer({
      root: folder,
      folders: [],
      isolation: !strict,
      headers: strict ? { 'Content-Security-Policy': policy } : {},
      intercept: (request) => {
        if (request.url === '/') request.url = '/index.html';
      },
    });
    const address = await listen(server);
    const { context, origins } = await fresh();
    const first = await visit(
      context,
      address,
      strict ? loadOptions : { ...loadOptions, threads: 2 },
    );
    assert.deepEqual(
      { threads: first.threads, isolated: first.isolated },
      strict ? { threads: '1', isolated: false } : { threads: '2', isolated: true },
    );
    assert.ok(Number(first.network) > 100_000, 'the model came over the network');
    const again = await visit(context, address, loadOptions);
    assert.equal(again.network, '0', 'the second visit took it from the cache');
    assert.deepEqual([...origins], [address.slice(0, -1)]);
    await context.close();
    server.closeAllConnections();
    await new Promise((resolve) => {
      server.close(resolve);
    });
  }
}

/**
 * @param {{ url: string, stop: () => Promise<void> }} server @param {Record<string, unknown>}
 *   [loadOptions]
 */
async function development({ url, stop }, loadOptions) {
  const { context, origins } = await fresh();
  try {
    const seen = await visit(context, url, loadOptions);
    assert.ok(Number(seen.network) > 100_000);
    assert.deepEqual([...origins], [url.slice(0, -1)]);
  } finally {
    await context.close();
    await stop();
  }
}

describe('Vite, no configuration', () => {
  test('production build', async () => {
    const app = createApp({ script: '/src/index.js' });
    build('vite/bin/vite.js', ['build', '--logLevel', 'warn'], app);
    await production(path.join(app, 'dist'));
  });
  for (const version of ['vite', 'vite-7']) {
    // 7 bundles packages for development in another way
    test(`development server of ${version}`, async () => {
      const app = createApp({ script: '/src/index.js' });
      const server = await serve(
        bin(`${version}/bin/vite.js`),
        ['--port', '0', '--host', 'localhost'],
        app,
      );
      await development(server, { worker: true });
    });
  }
  test("development server of vite-7, in the page's own thread", async () => {
    const app = createApp({ script: '/src/index.js' });
    await development(
      await serve(bin('vite-7/bin/vite.js'), ['--port', '0', '--host', 'localhost'], app),
      { worker: false },
    );
  });
});

describe('webpack, no configuration', () => {
  const app = () => createApp({ script: 'main.js', page: 'dist/index.html', publicFolder: 'dist' });
  test('production build', async () => {
    const folder = app();
    build('webpack/bin/webpack.js', ['--mode', 'production'], folder);
    await production(path.join(folder, 'dist'));
  });
  test('development server', async () => {
    const folder = app();
    await development(
      await serve(
        bin('webpack/bin/webpack.js'),
        [
          'serve',
          '--mode',
          'development',
          '--static',
          'dist',
          '--host',
          'localhost',
          '--no-hot',
          '--no-live-reload',
        ],
        folder,
      ),
    );
  });
});

describe('esbuild, with a copy of the package', () => {
  const app = () => {
    const folder = createApp({ script: 'app.js', page: 'public/index.html' });
    fs.cpSync(path.join(folder, 'node_modules/exitlm/web'), path.join(folder, 'public/exitlm'), {
      recursive: true,
    });
    return folder;
  };
  const loadOptions = { worker: '/exitlm/src/worker.js' };
  const args = [
    'src/index.js',
    '--bundle',
    '--format=esm',
    '--outfile=public/app.js',
    '--log-level=warning',
  ];
  test('production build', async () => {
    const folder = app();
    build('esbuild/bin/esbuild', [...args, '--minify'], folder);
    await production(path.join(folder, 'public'), { loadOptions });
  });
  test('development server', async () => {
    const folder = app();
    await development(
      await serve(
        bin('esbuild/bin/esbuild'),
        [...args.slice(0, -1), '--log-level=info', '--servedir=public', '--serve=localhost:0'],
        folder,
      ),
      loadOptions,
    );
  });
});

describe('Rollup, with a copy of the package', () => {
  test('production build', async () => {
    const folder = createApp({ script: 'index.js', page: 'public/index.html' });
    fs.cpSync(path.join(folder, 'node_modules/exitlm/web'), path.join(folder, 'public/exitlm'), {
      recursive: true,
    });
    build(
      'rollup/dist/bin/rollup',
      [
        'src/index.js',
        '--dir',
        'public',
        '--format',
        'es',
        '--silent',
        '--plugin',
        bin('@rollup/plugin-node-resolve/dist/es/index.js'),
      ],
      folder,
    );
    await production(path.join(folder, 'public'), {
      loadOptions: { worker: '/exitlm/src/worker.js' },
    });
  });
});

describe('a plain module script', () => {
  test('served as it is', async () => {
    const folder = createApp({ script: '/public/app.js', page: 'public/index.html' });
    const site = path.join(folder, 'public');
    fs.cpSync(path.join(folder, 'node_modules/exitlm/web'), path.join(site, 'exitlm'), {
      recursive: true,
    });
    const source = fs
      .readFileSync(path.join(folder, 'src/index.js'), 'utf8')
      .replace("'exitlm'", "'/exitlm/src/index.js'");
    fs.writeFileSync(path.join(site, 'app.js'), source);
    fs.writeFileSync(
      path.join(site, 'index.html'),
      fs.readFileSync(path.join(site, 'index.html'), 'utf8').replace('/public/app.js', '/app.js'),
    );
    await production(site);
  });
});

test('offline after the first visit: the app keeps its own files in a service worker, the package its model', async () => {
  const app = createApp({ script: '/src/index.js', head: '<script src="register.js"></script>' });
  fs.writeFileSync(
    path.join(app, 'public/register.js'),
    "navigator.serviceWorker.register('sw.js');\n",
  );
  fs.writeFileSync(
    path.join(app, 'public/sw.js'),
    `
self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
self.addEventListener('fetch', (event) => {
  if (event.request.url.endsWith('.gguf')) return;
  event.respondWith(caches.open('app').then(async (cache) => {
    const kept = await cache.match(event.request);
    if (kept) return kept;
    const response = await fetch(event.request);
    if (response.ok) await cache.put(event.request, response.clone());
    return response;
  }));
});
`,
  );
  build('vite/bin/vite.js', ['build', '--logLevel', 'warn'], app);
  const server = createServer({
    root: path.join(app, 'dist'),
    folders: [],
    isolation: false,
    intercept: (request) => {
      if (request.url === '/') request.url = '/index.html';
    },
  });
  const address = await listen(server);
  const { context } = await fresh();
  await visit(context, address);
  const page = await context.newPage(); // now under the service worker, which fills its cache
  await page.goto(address);
  await page.waitForFunction(() => navigator.serviceWorker.controller);
  await page.close();
  await visit(context, address);
  server.closeAllConnections();
  await new Promise((resolve) => {
    server.close(resolve);
  });
  assert.equal((await visit(context, address)).network, '0');
  await context.close();
});

test('a bundler that leaves the files behind: the error says what to do', async () => {
  const app = createApp({ script: 'app.js', page: 'public/index.html' });
  build(
    'esbuild/bin/esbuild',
    ['src/index.js', '--bundle', '--format=esm', '--outfile=public/app.js', '--log-level=error'],
    app,
  );
  const server = createServer({
    root: path.join(app, 'public'),
    folders: [],
    intercept: (request) => {
      if (request.url === '/') request.url = '/index.html';
    },
  });
  const page = await browser.newPage();
  await page.goto(await listen(server));
  await page.waitForFunction(
    () => /** @type {any} */ (document.getElementById('out'))?.dataset.error,
    undefined,
    { timeout: 60_000 },
  );
  const error = await page.evaluate(
    () => /** @type {any} */ (document.getElementById('out')).dataset.error,
  );
  assert.match(
    error,
    /^HTTP .*exitlm-relaxed.*\.wasm.*options worker and wasm \(docs\/bundlers\.md\)/,
  );
  await page.close();
  server.closeAllConnections();
  await new Promise((resolve) => {
    server.close(resolve);
  });
});
