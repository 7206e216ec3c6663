// Builds everything (npm run build): the native program build/exitlm, the
// WebAssembly files (wasm/build.mjs), what the package needs beside them, and
// the type declarations. Sets up what is missing first.
//
//   node wasm/setup/build.mjs [--for=everything|chat|page|bench] [--quiet]
//
// --for builds only what that use needs; --quiet says nothing when there is
// nothing to do. The second run takes a second or two.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { SetupError, exitWith, root, run, say, setUp } from './setup.mjs';
import { buildWasm } from '../build.mjs';

/**
 * What each use needs: of the set-up, and of what is built.
 * @type {Record<string, { parts: import('./setup.mjs').Part[], native?: boolean, wasm?: boolean | string[], types?: boolean }>}
 */
const uses = {
  everything: { parts: ['native', 'wasm', 'npm'], native: true, wasm: true, types: true },
  chat: { parts: ['native', 'model'], native: true },
  page: { parts: ['wasm', 'npm', 'model'], wasm: ['simd', 'relaxed', 'simd-mt', 'relaxed-mt'] },
  bench: { parts: ['native', 'wasm', 'npm', 'browser', 'model'], native: true, wasm: true },
};

const inRoot = (/** @type {string} */ file) => path.join(root, file);

/** Configures (again only when CMakeLists.txt or the options changed) and builds a CMake tree. */
export function buildNative({ tree = 'build', target = 'all', options = /** @type {string[]} */ ([]), quiet = false } = {}) {
  const cached = inRoot(`${tree}/CMakeCache.txt`);
  const stamp = inRoot(`${tree}/exitlm-options`);
  const wanted = [root, ...options].join(' ');
  if (!fs.existsSync(cached) || !fs.existsSync(stamp) || fs.readFileSync(stamp, 'utf8') !== wanted) {
    fs.rmSync(cached, { force: true }); // options of an earlier configuration do not linger
    run('cmake', ['-S', '.', '-B', tree, ...options], { quiet: true, failure: 'Is src/exitlm.h there, and do the options fit?' });
    fs.writeFileSync(stamp, wanted);
  }
  run('cmake', ['--build', tree, '--target', target, '-j', String(os.availableParallelism())], { quiet });
}

/** Libraries that a page loads without a bundler: copied, licence first. */
function vendor() {
  for (const [name, file, licence, to] of [
    ['@huggingface/jinja', 'dist/index.js', 'LICENSE', 'web/dist/jinja.js'],
    ['marked', 'lib/marked.esm.js', 'LICENSE', 'web/demo/vendor/marked.js'],
    ['dompurify', 'dist/purify.es.mjs', 'LICENSE', 'web/demo/vendor/dompurify.js'],
  ]) {
    const from = inRoot(`node_modules/${name}`);
    const { version } = JSON.parse(fs.readFileSync(path.join(from, 'package.json'), 'utf8'));
    const terms = fs.readFileSync(path.join(from, licence), 'utf8').trim().replaceAll('*/', '* /');
    const code = fs.readFileSync(path.join(from, file), 'utf8').replace(/^\/\/# sourceMappingURL=.*$/m, '');
    writeIfChanged(inRoot(to), `/*! ${name} ${version}\n\n${terms}\n*/\n${code}`);
    writeIfChanged(inRoot(to.replace(/\.js$/, '.d.ts')), `export * from '${name}';\n${name === 'dompurify' ? `export { default } from '${name}';\n` : ''}`);
  }
}

function writeIfChanged(/** @type {string} */ file, /** @type {string} */ text) {
  if (fs.existsSync(file) && fs.readFileSync(file, 'utf8') === text) return;
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, text);
}

/** `tsc` checks the JSDoc types and writes the declarations. */
function buildTypes(/** @type {boolean} */ quiet) {
  const project = 'web/tsconfig.json';
  if (!fs.existsSync(inRoot(project))) return;
  const newest = (/** @type {string} */ folder, /** @type {RegExp} */ like) => Math.max(0, ...fs.readdirSync(inRoot(folder), { recursive: true })
    .map(String).filter((f) => like.test(f) && !/^(dist|types|demo)\//.test(f)).map((f) => fs.statSync(inRoot(path.join(folder, f))).mtimeMs));
  const stamp = inRoot('build/types-checked');
  const sources = Math.max(newest('web', /\.(m?js|d\.ts|json)$/), fs.statSync(inRoot('package-lock.json')).mtimeMs);
  if (fs.existsSync(stamp) && fs.statSync(stamp).mtimeMs > sources && fs.existsSync(inRoot('web/types'))) return;
  if (!quiet) say('types: tsc');
  const result = spawnSync(process.execPath, [inRoot('node_modules/typescript/bin/tsc'), '-p', project], { cwd: root, stdio: ['ignore', 2, 2] });
  if (result.status !== 0) throw new SetupError('The types do not check (tsc, above).');
  fs.mkdirSync(inRoot('build'), { recursive: true });
  fs.writeFileSync(stamp, '');
}

/**
 * Sets up and builds for that use.
 * @param {keyof typeof uses} use
 */
export async function build(use = 'everything', { quiet = false } = {}) {
  const wanted = uses[use];
  if (!wanted) throw new SetupError(`--for=${use}? It is one of ${Object.keys(uses).join(', ')}.`);
  await setUp(wanted.parts);
  if (wanted.native) {
    if (!quiet) say('native: cmake');
    buildNative({ quiet, options: ['-DCMAKE_BUILD_TYPE=Release'], target: use === 'everything' ? 'all' : 'exitlm_cli' });
  }
  if (wanted.wasm) {
    if (!quiet) say('WebAssembly: wasm/build.mjs');
    await buildWasm({ names: wanted.wasm === true ? undefined : wanted.wasm });
    vendor();
  }
  if (wanted.types) buildTypes(quiet);
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const args = process.argv.slice(2);
  const use = args.find((arg) => arg.startsWith('--for='))?.slice('--for='.length);
  build(use, { quiet: args.includes('--quiet') }).catch(exitWith);
}
