// The runtimes of the edge tests: wrangler with workerd, Deno and Bun from npm, Wasmtime from PyPI,
// at the versions of tests/edge/package-lock.json and requirements.txt. They are large, so they are
// installed outside the repository, once: ${XDG_CACHE_HOME:-~/.cache}/exitlm/edge-HASH.
//
//   node tests/edge/support/runtimes.mjs     installs them, and prints where they are
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { SetupError, exitWith, root, run } from '../../../wasm/setup/setup.mjs';
import { installOnce, nameOf } from '../../install-once.mjs';

const recipes = ['package.json', 'package-lock.json', 'requirements.txt'].map((name) =>
  path.join(root, 'tests/edge', name),
);

/**
 * @param {string} folder @param {RegExp} like @returns {string} the first file below the folder
 *   whose path ends so
 */
function find(folder, like) {
  const file = fs.existsSync(folder)
    ? fs
        .readdirSync(folder, { recursive: true })
        .map(String)
        .find((f) => like.test(f))
    : undefined;
  if (!file)
    throw new SetupError(
      `${folder}: no ${like.source} in it. Remove the folder and run npm run test:edge again; is this platform one that its publisher builds for?`,
    );
  return path.join(folder, file);
}

/**
 * Packages that npm may not run install scripts for hold their program in the package of the
 * platform.
 */
function programs(/** @type {string} */ folder) {
  const modules = path.join(folder, 'node_modules');
  const wasmtime = path.join(folder, 'python/wasmtime_cli/wasmtime');
  return {
    wrangler: path.join(modules, 'wrangler/bin/wrangler.js'),
    ws: pathToFileURL(path.join(modules, 'ws/wrapper.mjs')).href,
    workerd: find(path.join(modules, '@cloudflare'), /\/bin\/workerd$/),
    deno: find(path.join(modules, '@deno'), /(^|\/)deno$/),
    bun: find(path.join(modules, '@oven'), /\/bin\/bun$/),
    wasmtime: process.env.WASMTIME ?? wasmtime,
    python: process.env.PYTHON ?? 'python3',
    /** Environment in which Python finds the wasmtime module. */
    pythonPath: path.join(folder, 'python'),
  };
}

/** @typedef {ReturnType<typeof programs>} Runtimes */

/** Installs what is missing. @returns {Runtimes} */
export function runtimes() {
  return programs(
    installOnce(
      nameOf('edge', recipes),
      'edge runtimes: wrangler, workerd, Deno, Bun, Wasmtime (about 500 MB, once)',
      (work) => {
        for (const file of recipes) fs.copyFileSync(file, path.join(work, path.basename(file)));
      },
      (work) => {
        run(
          process.env.PYTHON ?? 'python3',
          [
            '-m',
            'pip',
            'install',
            '--quiet',
            '--disable-pip-version-check',
            '--no-deps',
            '--require-hashes',
            '--target',
            'python',
            '-r',
            'requirements.txt',
          ],
          { cwd: work, quiet: true, failure: 'Is pip able to reach its index?' },
        );
        // pip --target forgets it
        fs.chmodSync(path.join(work, 'python/wasmtime_cli/wasmtime'), 0o755);
      },
    ),
  );
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    console.log(JSON.stringify(runtimes(), null, 2));
  } catch (error) {
    exitWith(error);
  }
}
