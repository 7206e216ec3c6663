// The JavaScript blocks of a page of docs/, run as they stand.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../..', import.meta.url));

/** @param {string} page `docs/NAME.md` @returns {string[]} what each block prints */
export function examplesOf(page) {
  const text = fs.readFileSync(path.join(root, page), 'utf8');
  const folder = path.join(root, 'build/readme'); // inside the package, so that it finds `exitlm` by its name
  fs.mkdirSync(folder, { recursive: true });
  return [...text.matchAll(/```js\n(.*?)```/gs)].map(([, code], i) => {
    const file = path.join(folder, `${path.basename(page, '.md')}-${i}.mjs`);
    fs.writeFileSync(file, code);
    return execFileSync(process.execPath, [file], { cwd: root, encoding: 'utf8' });
  });
}
