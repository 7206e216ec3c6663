// wllama, at the version that is named here. It is no part of the package's dependencies: it is installed outside the repository,
// once: ${XDG_CACHE_HOME:-~/.cache}/exitlm/wllama-VERSION.
import fs from 'node:fs';
import path from 'node:path';
import { cache, root, run, say } from '../../wasm/setup/setup.mjs';

const VERSION = '3.8.1';
export const wllamaName = `wllama ${VERSION}`;

/** Installs what is missing. @returns {string} wllama's folder */
export function wllama() {
  const folder = path.join(cache, `wllama-${VERSION}`);
  const inside = path.join(folder, 'node_modules/@wllama/wllama');
  if (fs.existsSync(path.join(folder, 'done'))) return inside;
  say(`${wllamaName}, to measure beside it (20 MB, once)`);
  const work = `${folder}.${process.pid}`;
  fs.mkdirSync(work, { recursive: true });
  try {
    fs.copyFileSync(path.join(root, '.npmrc'), path.join(work, '.npmrc'));
    fs.writeFileSync(path.join(work, 'package.json'), JSON.stringify({ private: true, dependencies: { '@wllama/wllama': VERSION } }));
    run('npm', ['install', '--no-progress', '--ignore-scripts'], { cwd: work, quiet: true, failure: 'Is npm able to reach its registry?' });
    fs.writeFileSync(path.join(work, 'done'), '');
    if (fs.existsSync(folder)) fs.rmSync(folder, { recursive: true });
    fs.renameSync(work, folder);
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
  return inside;
}
