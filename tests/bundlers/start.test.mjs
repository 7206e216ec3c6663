// The quick starts of docs/start.md that end in a page, as they stand there: each file in a folder of
// its own beside the packed package, built where it says so, and used in Chromium. The tiny model
// stands in for the one that it names.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, test } from 'node:test';
import { createServer, listen } from '../../web/serve.mjs';
import { root } from '../../wasm/setup/setup.mjs';
import { launch } from '../page/browser.mjs';
import { install } from './support/app.mjs';
import { tools } from './support/tools.mjs';

const page = fs.readFileSync(path.join(root, 'docs/start.md'), 'utf8');
const browser = await launch();
after(() => browser.close());

/**
 * A folder with a section's file and what it needs. It lies where the tools do, whose packages are
 * found from there: a link to them from elsewhere is none of Turbopack's.
 * @param {string} section
 * @param {Record<string, string>} [more] files
 */
function project(section, more = {}) {
  const folder = fs.mkdtempSync(path.join(tools(), 'start-'));
  after(() => fs.rmSync(folder, { recursive: true, force: true }));
  install(folder);
  const [, text = ''] = page.split(`## ${section}\n`);
  const [, name, content] = /^`([^`]+)`:\n```\w+\n(.*?)^```/ms.exec(text.split('\n## ')[0]) ?? [];
  assert.ok(name, `a file under ${section}`);
  const model = 'public/models/smollm2-135m-instruct.gguf';
  for (const [file, text_] of Object.entries({
    'package.json': '{"private":true,"type":"module"}',
    [name]: content,
    [model]: '',
    ...more,
  })) {
    fs.mkdirSync(path.dirname(path.join(folder, file)), { recursive: true });
    fs.writeFileSync(path.join(folder, file), text_);
  }
  fs.copyFileSync(path.join(root, 'tests/data/tiny.gguf'), path.join(folder, model));
  return folder;
}

/** @param {string} folder @param {string} program @param {string[]} args */
function build(folder, program, ...args) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [path.join(tools(), 'node_modules', program), ...args],
    { cwd: folder, encoding: 'utf8', env: { ...process.env, NEXT_TELEMETRY_DISABLED: '1' } },
  );
  assert.equal(status, 0, `${stdout}\n${stderr}`);
}

/** @param {string} folder @param {(page: import('playwright-core').Page) => Promise<void>} use */
async function visit(folder, use) {
  const server = createServer({
    root: folder,
    folders: [],
    intercept: (request) => {
      if (request.url === '/') request.url = '/index.html';
    },
  });
  const context = await browser.newContext();
  context.setDefaultTimeout(120_000);
  const tab = await context.newPage();
  /** @type {string[]} */
  const errors = [];
  tab.on('pageerror', ({ message }) => errors.push(message));
  try {
    await tab.goto(await listen(server));
    await use(tab);
    assert.deepEqual(errors, []);
  } finally {
    await context.close();
    server.closeAllConnections();
    await new Promise((resolve) => {
      server.close(resolve);
    });
  }
}

/** @param {import('playwright-core').Page} tab */
async function converse(tab) {
  await tab.getByRole('button', { name: 'Send' }).and(tab.locator(':enabled')).waitFor();
  await tab.getByRole('textbox').fill('Hello');
  await tab.getByRole('button', { name: 'Send' }).click();
  await tab.locator('.user', { hasText: 'Hello' }).waitFor();
  await tab.locator('.assistant', { hasText: /\w{3}/ }).waitFor();
}

test('a page without a build', async () => {
  const folder = project('A page without a build');
  const site = path.join(folder, 'public');
  fs.cpSync(path.join(folder, 'node_modules/exitlm/web'), path.join(site, 'exitlm'), {
    recursive: true,
  });
  await visit(site, async (tab) => {
    await tab.locator('#answer[data-reason=length]').waitFor();
    assert.ok((await tab.locator('#answer').innerText()).length > 20);
  });
});

test('Vite', async () => {
  const folder = project('Vite', {
    'index.html':
      '<!doctype html><title>Chat</title><div id="app"></div><script type="module" src="/src/main.js"></script>',
  });
  build(folder, 'vite/bin/vite.js', 'build', '--logLevel', 'warn');
  await visit(path.join(folder, 'dist'), async (tab) => {
    await tab.locator('progress').waitFor({ state: 'detached' });
    await tab.getByRole('textbox').fill('Hello');
    await tab.getByRole('button', { name: 'Send' }).click();
    await tab.locator('.assistant', { hasText: /\w{3}/ }).waitFor();
  });
});

test('Vite and React', async () => {
  const folder = project('Vite and React', {
    'index.html':
      '<!doctype html><title>Chat</title><div id="root"></div><script type="module" src="/src/main.jsx"></script>',
  });
  build(folder, 'vite/bin/vite.js', 'build', '--logLevel', 'warn');
  await visit(path.join(folder, 'dist'), converse);
});

test('Next.js, App Router', async () => {
  const folder = project('Next.js, App Router', {
    'app/layout.js':
      'export default ({ children }) => <html lang="en"><body>{children}</body></html>;\n',
    'next.config.mjs': "export default { output: 'export' };\n",
  });
  build(folder, 'next/dist/bin/next', 'build');
  await visit(path.join(folder, 'out'), converse);
});
