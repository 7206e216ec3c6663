// The quick start of docs/start.md for a Worker, as it stands there and with nothing but the packed
// package: packed by `exitlm pack`, built by esbuild, answering in Miniflare. The tiny model stands
// in for the one that it names.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, test } from 'node:test';
import { install, temporary } from '../bundlers/support/app.mjs';
import { root } from '../js/support/cli.mjs';
import { runtimes } from './support/runtimes.mjs';
import { ask } from './support/worker.mjs';

const folder = temporary();
/** @type {import('node:child_process').ChildProcess | undefined} */
let mini;
after(() => mini?.kill());

test('Cloudflare Worker', async () => {
  const page = fs.readFileSync(path.join(root, 'docs/start.md'), 'utf8');
  const [section] = page.split('## Cloudflare Worker\n')[1].split('\n## ');
  const model = path.join(folder, 'models/smollm2-135m-instruct.gguf');
  fs.mkdirSync(path.join(folder, 'src'));
  fs.mkdirSync(path.dirname(model));
  fs.copyFileSync(path.join(root, 'tests/data/tiny.gguf'), model);
  for (const [, file, text] of section.matchAll(/^`([^`]+)`:\n```\w+\n(.*?)^```/gms))
    fs.writeFileSync(
      path.join(folder, file),
      text.replace('contextLength: 1024', 'contextLength: 512'), // all that the tiny model has
    );
  install(folder);
  const tools = path.resolve(path.dirname(runtimes().wrangler), '../..');
  for (const name of ['miniflare', 'esbuild'])
    fs.symlinkSync(path.join(tools, name), path.join(folder, 'node_modules', name));
  const programs = { exitlm: 'exitlm/web/src/cli.mjs', esbuild: 'esbuild/bin/esbuild' };
  for (const [, name, args] of section.matchAll(/^npx (exitlm|esbuild) (?!pull)(.*)$/gm))
    execFileSync(
      process.execPath,
      [
        path.join(folder, 'node_modules', programs[/** @type {'exitlm' | 'esbuild'} */ (name)]),
        ...args.split(' '),
      ],
      { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] },
    );
  assert.ok(fs.existsSync(path.join(folder, 'public/model/manifest.json')), 'packed');
  const child = (mini = spawn(process.execPath, ['mini.mjs'], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'inherit'],
  }));
  const url = await new Promise((resolve, reject) => {
    child.stdout.on('data', (said) => resolve(String(said).trim()));
    child.once('exit', () => reject(new Error('mini.mjs ended')));
  });
  const response = await ask(new URL(url).origin, {
    messages: [{ role: 'user', content: 'Hi' }],
    max_tokens: 8,
  });
  assert.equal(response.status, 200, await response.clone().text());
  const { choices } = await response.json();
  assert.ok(choices[0].message.content.length > 3);
});
