// A strict TypeScript program beside the tests, as its author would compile it.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../..', import.meta.url));

/**
 * @param {string} program in a folder of tests/js
 * @param {string[]} [types] packages of @types that it has
 * @returns {import('node:child_process').SpawnSyncReturns<string>}
 */
export function tscAccepts(program, types = ['node']) {
  const folder = fs.mkdtempSync(path.join(root, 'tests/js/types-'));
  try {
    const file = path.join(folder, 'a.ts');
    fs.writeFileSync(file, program);
    const flags =
      '--noEmit --strict --skipLibCheck --allowJs --checkJs false --target es2022 --module nodenext';
    const lib = 'es2023,esnext.disposable,esnext.promise,dom,dom.iterable,dom.asynciterable';
    return spawnSync(
      process.execPath,
      [
        'node_modules/typescript-native/bin/tsc',
        ...flags.split(' '),
        '--lib',
        lib,
        '--types',
        types.join(),
        file,
      ],
      { cwd: root, encoding: 'utf8' },
    );
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}
