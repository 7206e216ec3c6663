// The example of a Python program that embeds Wasmtime (web/edge/wasmtime/embed.py) says what the
// native program says.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { objects, root } from '../js/support/cli.mjs';
import { tinyHeads, tinyPath } from '../js/support/tiny-model.mjs';
import { runtimes } from './support/runtimes.mjs';

const { python, pythonPath } = runtimes();

test('an embedded answer, and a failure', async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-embed-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  const model = path.join(folder, 'tiny.gguf');
  fs.copyFileSync(tinyPath, model);
  fs.writeFileSync(path.join(folder, 'tiny.exits.gguf'), await tinyHeads());
  const run = (/** @type {string[]} */ ...args) =>
    spawnSync(
      python,
      ['web/edge/wasmtime/embed.py', path.join(root, 'build/exitlm.wasm'), ...args],
      { cwd: root, encoding: 'utf8', env: { ...process.env, PYTHONPATH: pythonPath } },
    );
  const options = ['--max-tokens', '12', '--mode', 'exit', '--accuracy', '0.9'];
  const events = objects(['chat', model, '-p', 'Hi, how\nare you?', ...options]);
  const tokens = events.filter(({ type }) => type === 'token');
  assert.equal(tokens.length, 12);
  const { stdout, stderr } = run(model, 'Hi, how\nare you?', ...options);
  assert.equal(stdout, tokens.map(({ text }) => text).join(''), stderr);
  const failed = run(path.join(folder, 'nowhere.gguf'), 'Hi');
  assert.equal(failed.status, 1);
  assert.match(failed.stderr, /^exitlm: models\/nowhere\.gguf/);
});
