// The packed package: what is in it, and what the registries' own tools say of it.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { before, test } from 'node:test';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { install, tarball, temporary } from '../bundlers/support/app.mjs';

const app = temporary();
const inPackage = (/** @type {string} */ file) => path.join(app, 'node_modules/exitlm', file);
const read = (/** @type {string} */ file) => JSON.parse(fs.readFileSync(file, 'utf8'));
/** @type {any} */
let manifest;
before(() => {
  install(app);
  manifest = read(inPackage('package.json'));
});

test('publint finds nothing', async () => {
  const { buffer } = new Uint8Array(fs.readFileSync(tarball()));
  const { messages, pkg } = await publint({ pack: { tarball: buffer }, strict: true });
  assert.deepEqual(
    messages.map((message) => formatMessage(message, pkg, { color: false })),
    [],
  );
});

test('attw: the types are right', () => {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['node_modules/@arethetypeswrong/cli/dist/index.js', tarball(), '--no-color'],
    { encoding: 'utf8' },
  );
  assert.equal(status, 0, stdout + stderr);
});

test('what package.json names is there', () => {
  const targets = (/** @type {any} */ value) =>
    typeof value === 'string' ? [value] : Object.values(value).flatMap(targets);
  for (const target of [...targets(manifest.exports), ...targets(manifest.bin)])
    if (!target.includes('*')) assert.ok(fs.existsSync(inPackage(target)), target);
  for (const variant of ['simd', 'relaxed', 'simd-mt', 'relaxed-mt']) {
    const bytes = fs.readFileSync(inPackage(`web/dist/exitlm-${variant}.wasm`));
    assert.equal(bytes.toString('latin1', 0, 4), '\0asm', variant);
  }
});

test('the exit heads of every model of the catalogue are in the package, whole', () => {
  for (const { heads } of read(inPackage('models/catalog.json')).models) {
    const bytes = fs.readFileSync(inPackage(`models/${heads.file}`));
    assert.equal(bytes.length, heads.size_bytes);
    assert.equal(createHash('sha256').update(bytes).digest('hex'), heads.sha256);
  }
});

test('jsr.json says what package.json says', () => {
  const { version, license, exports } = read('jsr.json');
  assert.deepEqual({ version, license }, { version: manifest.version, license: manifest.license });
  const typed = Object.entries(manifest.exports).filter(([, { types }]) => types);
  assert.deepEqual(exports, Object.fromEntries(typed.map(([at, one]) => [at, one.default])));
  for (const [, { types, default: file }] of typed) {
    const self = /^\/\/ @ts-self-types="(.+)"/.exec(fs.readFileSync(inPackage(file), 'utf8'))?.[1];
    assert.equal(path.join(path.dirname(file), self ?? ''), path.normalize(types));
  }
});

test(
  'from CommonJS by require',
  { skip: !(/** @type {any} */ (process.features).require_module) && 'this Node has none of it' },
  () => {
    fs.symlinkSync(path.resolve('node_modules/react'), path.join(app, 'node_modules/react'));
    fs.writeFileSync(
      path.join(app, 'app.cjs'),
      Object.keys(manifest.exports)
        .filter((at) => manifest.exports[at].types)
        .map((at) => `console.log(Object.keys(require('exitlm${at.slice(1)}')).join());`)
        .join('\n'),
    );
    const { status, stdout, stderr } = spawnSync(process.execPath, ['app.cjs'], {
      cwd: app,
      encoding: 'utf8',
    });
    assert.equal(status, 0, stderr);
    for (const name of ['ExitLM', 'createHandler', 'LanguageModel'])
      assert.match(stdout, new RegExp(`\\b${name}\\b`));
  },
);
