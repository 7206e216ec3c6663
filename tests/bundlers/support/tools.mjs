// The bundlers, at the versions of tests/bundlers/package-lock.json. They are installed outside the repository, once:
// ${XDG_CACHE_HOME:-~/.cache}/exitlm/bundlers-HASH.
//
//   node tests/bundlers/support/tools.mjs     installs them, and prints where they are
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { cache, exitWith, root, run, say } from '../../../wasm/setup/setup.mjs';

const recipes = ['package.json', 'package-lock.json'].map((name) => path.join(root, 'tests/bundlers', name));

/** Installs what is missing. @returns {string} the folder with their node_modules */
export function tools() {
  const hash = createHash('sha256');
  for (const file of recipes) hash.update(fs.readFileSync(file));
  const folder = path.join(cache, `bundlers-${hash.digest('hex').slice(0, 12)}`);
  if (fs.existsSync(path.join(folder, 'done'))) return folder;
  say('bundlers: Vite, webpack, esbuild, Rollup (about 150 MB, once)');
  const work = `${folder}.${process.pid}`;
  fs.mkdirSync(work, { recursive: true });
  try {
    for (const file of [...recipes, path.join(root, '.npmrc')]) fs.copyFileSync(file, path.join(work, path.basename(file)));
    // Not npm ci: the lock has no entries for platforms whose packages its registry did not offer; elsewhere they are taken at the pinned version.
    run('npm', ['install', '--no-progress', '--ignore-scripts'], { cwd: work, quiet: true, failure: 'Is npm able to reach its registry?' });
    fs.writeFileSync(path.join(work, 'done'), '');
    if (fs.existsSync(folder)) fs.rmSync(folder, { recursive: true });
    fs.renameSync(work, folder);
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
  return folder;
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    console.log(tools());
  } catch (error) {
    exitWith(error);
  }
}
