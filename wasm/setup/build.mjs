// Builds everything (npm run build) by the presets of CMakePresets.json: the
// native program build/exitlm, the WebAssembly files, then what the package
// needs beside them, and the type declarations. Sets up what is missing first.
//
//   node wasm/setup/build.mjs [--for=everything|chat|page|site|package|bench] [--quiet]
//
// --for builds only what that use needs; --quiet says nothing when there is
// nothing to do. The second run takes a second or two.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  SetupError,
  ensureEmscripten,
  exitWith,
  findFuzzer,
  findWasi,
  output,
  root,
  run,
  say,
  setUp,
} from './setup.mjs';

/**
 * What each use needs: of the set-up, the presets with their targets, and the types.
 * @type {Record<string, { parts: import('./setup.mjs').Part[], presets: Record<string, string>,
 *   types?: boolean }>}
 */
const uses = {
  everything: {
    parts: ['native', 'wasm', 'wasi', 'npm'],
    presets: { native: 'all', wasm: 'all', wasi: 'all' },
    types: true,
  },
  chat: { parts: ['native', 'model'], presets: { native: 'exitlm_cli' } },
  page: { parts: ['wasm', 'npm', 'model'], presets: { wasm: 'all' } },
  site: {
    parts: ['native', 'wasm', 'npm', 'model'],
    presets: { native: 'exitlm_cli', wasm: 'all' },
  },
  package: { parts: ['wasm', 'wasi', 'npm'], presets: { wasm: 'all', wasi: 'wasi' }, types: true },
  bench: {
    parts: ['native', 'wasm', 'wasi', 'npm', 'browser', 'model'],
    presets: { native: 'exitlm_cli', wasm: 'all', wasi: 'all' },
  },
};

const inRoot = (/** @type {string} */ file) => path.join(root, file);

async function withLibFuzzer() {
  const clang = findFuzzer();
  if (!clang) throw new SetupError('No clang here has libFuzzer: node wasm/setup/setup.mjs fuzz');
  return { args: [`-DCMAKE_C_COMPILER=${clang}`] };
}

/**
 * What a preset is told of this machine: cmake's arguments, the environment; a new version of the
 * tools builds all anew.
 * @type {Record<string, () => Promise<{ args: string[], env?: NodeJS.ProcessEnv, version?: string |
 *   null }>>}
 */
const onThisMachine = {
  async wasm() {
    const { toolchain, version, env } = await ensureEmscripten();
    return { args: ['--toolchain', toolchain], env, version };
  },
  async wasi() {
    const { wasmOpt } = await ensureEmscripten();
    const found = findWasi();
    if (!found)
      throw new SetupError(
        'No clang here compiles for wasm32-wasi: node wasm/setup/setup.mjs wasi',
      );
    return {
      args: [
        `-DEXITLM_WASI_CLANG=${found.clang}`,
        `-DEXITLM_WASI_SYSROOT=${found.sysroot}`,
        `-DEXITLM_WASM_OPT=${wasmOpt}`,
      ],
      version: output(found.clang, '--version'),
    };
  },
  fuzz: withLibFuzzer,
  coverage: withLibFuzzer,
};

/** The folder that a preset is built in. @param {string} preset @param {string} [kernel] */
export const treeOf = (preset, kernel) =>
  inRoot(
    preset === 'native' && !kernel
      ? 'build'
      : `build/${[preset, kernel].filter(Boolean).join('-')}`,
  );

/**
 * Configures a preset (again only when the presets or this machine's tools changed) and builds a
 * target of it. `kernel`: the best instruction set that it may use, in a tree of its own.
 */
export async function buildPreset(
  /** @type {string} */ preset,
  { target = 'all', quiet = false, kernel = /** @type {string | undefined} */ (undefined) } = {},
) {
  const { args, env, version } = (await onThisMachine[preset]?.()) ?? { args: [] };
  const tree = treeOf(preset, kernel);
  if (kernel) args.push('-B', tree, `-DEXITLM_BEST_KERNEL=${kernel}`);
  const free = await onlyOne(tree);
  try {
    const stamp = path.join(tree, 'exitlm-options');
    const wanted = [
      root,
      ...args,
      version,
      fs.readFileSync(inRoot('CMakePresets.json'), 'utf8'),
    ].join('\n');
    if (
      !fs.existsSync(path.join(tree, 'build.ninja')) ||
      !fs.existsSync(stamp) ||
      fs.readFileSync(stamp, 'utf8') !== wanted
    ) {
      // Neither options nor objects of an earlier configuration linger.
      for (const name of ['CMakeCache.txt', 'CMakeFiles', 'wasm/CMakeFiles'])
        fs.rmSync(path.join(tree, name), { recursive: true, force: true });
      if (quiet) say(`${preset}: built for the first time, a minute or two`);
      run('cmake', ['--preset', preset, ...args], { env, quiet: true });
      fs.writeFileSync(stamp, wanted);
    }
    run('cmake', ['--build', tree, '--target', target, '-j', String(os.availableParallelism())], {
      env,
      quiet,
    });
  } finally {
    free();
  }
}

/** Waits until no other process builds in this tree; gives what ends that. */
async function onlyOne(/** @type {string} */ tree) {
  const lock = path.join(tree, 'exitlm-lock');
  fs.mkdirSync(tree, { recursive: true });
  for (let waited = 0; ; waited++) {
    try {
      fs.writeFileSync(lock, String(process.pid), { flag: 'wx' });
      return () => fs.rmSync(lock, { force: true });
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error;
    }
    const holder = Number(fs.existsSync(lock) ? fs.readFileSync(lock, 'utf8') : 0);
    const age = Date.now() - (fs.statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
    // of a build that was killed
    if ((holder && !isRunning(holder)) || (!holder && age > 5000)) fs.rmSync(lock, { force: true });
    else if (waited === 0) say('another process builds here, waiting for it');
    await new Promise((resolve) => {
      setTimeout(resolve, 200);
    });
  }
}

function isRunning(/** @type {number} */ pid) {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM';
  }
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
    const code = fs
      .readFileSync(path.join(from, file), 'utf8')
      .replace(/^\/\/# sourceMappingURL=.*$/m, '');
    writeIfChanged(inRoot(to), `/*! ${name} ${version}\n\n${terms}\n*/\n${code}`);
    writeIfChanged(
      inRoot(to.replace(/\.js$/, '.d.ts')),
      `export * from '${name}';\n${name === 'dompurify' ? `export { default } from '${name}';\n` : ''}`,
    );
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
  const newest = (/** @type {string} */ folder, /** @type {RegExp} */ like) =>
    Math.max(
      0,
      ...fs
        .readdirSync(inRoot(folder), { recursive: true })
        .map(String)
        .filter((f) => like.test(f) && !/^(dist|types|demo)\//.test(f))
        .map((f) => fs.statSync(inRoot(path.join(folder, f))).mtimeMs),
    );
  const stamp = inRoot('build/types-checked');
  const sources = Math.max(
    newest('web', /\.(m?js|d\.ts|json)$/),
    fs.statSync(inRoot('package-lock.json')).mtimeMs,
  );
  if (
    fs.existsSync(stamp) &&
    fs.statSync(stamp).mtimeMs > sources &&
    fs.existsSync(inRoot('web/types'))
  )
    return;
  if (!quiet) say('types: tsc');
  const result = spawnSync(
    process.execPath,
    [inRoot('node_modules/typescript-native/bin/tsc'), '-p', project],
    { cwd: root, stdio: ['ignore', 2, 2] },
  );
  if (result.status !== 0) throw new SetupError('The types do not check (tsc, above).');
  // A typedef that names another file's type becomes a re-export: one type with its documentation,
  // not a second one.
  for (const file of fs
    .readdirSync(inRoot('web/types'), { recursive: true })
    .map((name) => inRoot(`web/types/${name}`))
    .filter((name) => name.endsWith('.d.ts'))) {
    writeIfChanged(
      file,
      fs
        .readFileSync(file, 'utf8')
        .replace(
          /^export type (\w+) = import\(['"](\.[^'"]+)['"]\)\.\1;$/gm,
          "import type { $1 } from '$2';\nexport type { $1 };",
        ),
    );
  }
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
  for (const [preset, target] of Object.entries(wanted.presets)) {
    if (!quiet) say(`cmake --preset ${preset}`);
    await buildPreset(preset, { target, quiet });
  }
  if ('wasm' in wanted.presets) vendor();
  if (wanted.types) buildTypes(quiet);
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const args = process.argv.slice(2);
  const use = args.find((arg) => arg.startsWith('--for='))?.slice('--for='.length);
  build(use, { quiet: args.includes('--quiet') }).catch(exitWith);
}
