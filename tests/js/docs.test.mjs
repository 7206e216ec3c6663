// The pages of docs/: the API as the declarations have it, with nothing left out, and links that
// lead somewhere.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const root = fileURLToPath(new URL('../../', import.meta.url));
const api = path.join(root, 'docs/api');
const entries = Object.values(
  JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')).exports,
).flatMap(({ types }) => (types ? [path.join(root, types)] : []));
const skip = !entries.every((file) => fs.existsSync(file)) && 'the declarations are not built';
const pages = (folder) =>
  Object.fromEntries(
    fs
      .readdirSync(folder)
      .sort()
      .map((file) => [file, fs.readFileSync(path.join(folder, file), 'utf8')]),
  );

test('docs/api is what typedoc makes of the declarations', { skip }, () => {
  const now = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-api-'));
  try {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [
        'node_modules/typedoc/bin/typedoc',
        '--options',
        'docs/typedoc.mjs',
        '--treatWarningsAsErrors',
        '--out',
        now,
      ],
      { cwd: root, encoding: 'utf8' },
    );
    assert.equal(status, 0, stdout + stderr);
    assert.deepEqual(pages(api), pages(now), 'it is behind: npm run build && npm run docs');
  } finally {
    fs.rmSync(now, { recursive: true });
  }
});

test('every export of every entry is in docs/api', { skip }, () => {
  const program = ts.createProgram(entries, {
    module: ts.ModuleKind.NodeNext,
    target: ts.ScriptTarget.ES2022,
    skipLibCheck: true,
    types: ['node'],
  });
  for (const file of entries) {
    const name = path.basename(file, '.d.ts');
    const page = fs.readFileSync(path.join(api, `${name}.md`), 'utf8');
    const exported = program
      .getTypeChecker()
      .getExportsOfModule(program.getTypeChecker().getSymbolAtLocation(program.getSourceFile(file)))
      .map((symbol) => symbol.name);
    assert.ok(exported.length > 0, name);
    const headings = new Set([...page.matchAll(/^## (\w+)/gm)].map(([, heading]) => heading));
    assert.deepEqual(
      exported.filter((each) => !headings.has(each)),
      [],
      `${name}.md lacks these`,
    );
  }
  const { 'edge.md': edge, 'index.md': index, 'openai.md': openai } = pages(api);
  for (const row of ['`load`', '`model`'])
    assert.ok(
      edge.slice(edge.indexOf('## HandlerOptions')).includes(row),
      `HandlerOptions: ${row}`,
    );
  assert.match(openai, /openaiFetch\(/);
  for (const method of ['load', 'check', 'chat', 'complete', 'calibrate', 'tokenize', 'dispose'])
    assert.ok(index.includes(`### ${method}()`), method);
});

for (const file of [
  'README.md',
  ...fs
    .readdirSync(path.join(root, 'docs'), { recursive: true })
    .filter((f) => f.endsWith('.md'))
    .map((f) => `docs/${f}`),
]) {
  test(`links of ${file}`, () => {
    const text = fs.readFileSync(path.join(root, file), 'utf8');
    for (const [, target] of text.matchAll(/\]\(((?!https?:|#)[^)#\s]+)[^)]*\)/g)) {
      assert.ok(fs.existsSync(path.resolve(root, path.dirname(file), target)), target);
    }
  });
}

test('docs/errors.md says of every code when it comes and what to do', () => {
  const source = fs.readFileSync(path.join(root, 'web/src/link/errors.js'), 'utf8');
  const [, union = ''] = /@typedef \{([^}]*)\} ExitLMErrorCode/.exec(source) ?? [];
  const codes = [...union.matchAll(/'(\w+)'/g)].map(([, code]) => code);
  const page = fs.readFileSync(path.join(root, 'docs/errors.md'), 'utf8');
  const rows = [...page.matchAll(/^\| `(\w+)` \| .{10,} \| .{10,} \|$/gm)].map(([, code]) => code);
  assert.ok(codes.length > 5);
  assert.deepEqual(rows, codes);
});

test('every promise of SECURITY.md has its tests', () => {
  const page = fs.readFileSync(path.join(root, 'SECURITY.md'), 'utf8');
  const rows = [...page.matchAll(/^\|.*\|([^|]+)\|$/gm)].map(([, tests]) => tests);
  assert.ok(rows.length > 20);
  for (const row of rows.slice(2)) {
    assert.match(row, /^ `tests\//, row);
    for (const each of row.split(';')) {
      const [file, ...names] = [...each.matchAll(/`([^`]+)`/g)].map(([, name]) => name);
      const text = fs.readFileSync(path.join(root, file), 'utf8').replace(/\\'/g, "'");
      for (const name of names) assert.ok(text.includes(name), `${file}: ${name}`);
    }
  }
});
