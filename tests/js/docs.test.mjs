// The pages of docs/: the API as the declarations have it, and links that lead somewhere.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { generate } from '../../docs/generate.mjs';

const root = fileURLToPath(new URL('../../', import.meta.url));
const types = path.join(root, 'web/types');

test('docs/api.md is up to date', { skip: !fs.existsSync(types) && 'the declarations are not built' }, () => {
  const now = generate(types);
  assert.equal(fs.readFileSync(path.join(root, 'docs/api.md'), 'utf8'), now, 'it is behind: npm run build && node docs/generate.mjs');
  for (const name of ['ExitLM.load', 'ExitLM.check', 'ExitLM.cache', 'chat', 'complete', 'calibrate', 'tokenize', 'dispose', 'ready', 'cancel', 'result']) {
    assert.ok(now.includes(`#### \`${name}\``), name);
  }
  for (const entry of Object.keys(JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')).exports).filter((e) => /^\.(\/[a-z-]+)?$/.test(e))) {
    assert.ok(now.includes(`## \`exitlm${entry.slice(1)}\``), entry);
  }
});

for (const file of ['README.md', ...fs.readdirSync(path.join(root, 'docs')).filter((f) => f.endsWith('.md')).map((f) => `docs/${f}`)]) {
  test(`links of ${file}`, () => {
    const text = fs.readFileSync(path.join(root, file), 'utf8');
    for (const [, target] of text.matchAll(/\]\(((?!https?:|#)[^)#\s]+)[^)]*\)/g)) {
      assert.ok(fs.existsSync(path.resolve(root, path.dirname(file), target)), target);
    }
  });
}
