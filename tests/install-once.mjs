// Tools that are too large for the repository's node_modules: installed into
// ${XDG_CACHE_HOME:-~/.cache}/exitlm/NAME, once.
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { cache, root, run, say } from '../wasm/setup/setup.mjs';

/**
 * The folder appears whole or not at all, also where two processes install at the same time.
 * @param {string} name of the folder; another version has another name
 * @param {string} what is said before it takes a while
 * @param {(work: string) => void} prepare puts package.json, and a lock if there is one, into the
 *   folder
 * @param {(work: string) => void} [more] what there is to do after npm
 * @returns {string} the folder
 */
export function installOnce(name, what, prepare, more) {
  const folder = path.join(cache, name);
  if (fs.existsSync(path.join(folder, 'done'))) return folder;
  say(what);
  const work = `${folder}.${process.pid}`;
  fs.mkdirSync(work, { recursive: true });
  try {
    prepare(work);
    fs.copyFileSync(path.join(root, '.npmrc'), path.join(work, '.npmrc'));
    // Not npm ci: a lock has no entries for platforms whose packages its registry did not offer;
    // elsewhere they are taken at the pinned version.
    run('npm', ['install', '--no-progress', '--ignore-scripts'], {
      cwd: work,
      quiet: true,
      failure: 'Is npm able to reach its registry?',
    });
    more?.(work);
    fs.writeFileSync(path.join(work, 'done'), '');
    if (fs.existsSync(folder)) fs.rmSync(folder, { recursive: true });
    fs.renameSync(work, folder);
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
  return folder;
}

/** A name that changes with what the files hold. @param {string} name @param {string[]} files */
export function nameOf(name, files) {
  const hash = createHash('sha256');
  for (const file of files) hash.update(fs.readFileSync(file));
  return `${name}-${hash.digest('hex').slice(0, 12)}`;
}
