// Models of the edge tests: the tiny one with heads, and the default one where `npm run model` has
// fetched it; packed by the native program.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { program, real } from '../../js/support/cli.mjs';
import { tinyHeads, tinyPath } from '../../js/support/tiny-model.mjs';

export const realHeads = real.replace(/\.gguf$/, '.exits.gguf');

/**
 * A packed model.
 * @param {string} to folder, made
 * @param {string} model
 * @param {string[]} [options]
 */
export function pack(to, model, options = []) {
  fs.mkdirSync(path.dirname(to), { recursive: true });
  execFileSync(program, ['pack', model, '-o', to, ...options], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  return to;
}

/** The tiny model with its test heads, packed. */
export async function packTiny(
  /** @type {string} */ to,
  /** @type {string[]} */ options = ['--shard-size', '256K'],
) {
  const work = `${to}.work`;
  fs.mkdirSync(work, { recursive: true });
  fs.copyFileSync(tinyPath, path.join(work, 'tiny.gguf'));
  fs.writeFileSync(path.join(work, 'tiny.exits.gguf'), await tinyHeads());
  pack(to, path.join(work, 'tiny.gguf'), options);
  fs.rmSync(work, { recursive: true });
  return to;
}
