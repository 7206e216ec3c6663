// The bundlers, at the versions of tests/bundlers/package-lock.json. They are installed outside the
// repository, once: ${XDG_CACHE_HOME:-~/.cache}/exitlm/bundlers-HASH.
//
//   node tests/bundlers/support/tools.mjs     installs them, and prints where they are
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { exitWith, root } from '../../../wasm/setup/setup.mjs';
import { installOnce, nameOf } from '../../install-once.mjs';

const recipes = ['package.json', 'package-lock.json'].map((name) =>
  path.join(root, 'tests/bundlers', name),
);

/** Installs what is missing. @returns {string} the folder with their node_modules */
export function tools() {
  return installOnce(
    nameOf('bundlers', recipes),
    'bundlers: Vite, webpack, esbuild, Rollup (about 150 MB, once)',
    (work) => {
      for (const file of recipes) fs.copyFileSync(file, path.join(work, path.basename(file)));
    },
  );
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    console.log(tools());
  } catch (error) {
    exitWith(error);
  }
}
