// The kernels of the WebAssembly builds against the scalar reference, bit for bit:
// tests/c/test_kernels.c with the objects of the WASI modules. Relaxed SIMD needs a flag in Node
// 20, and its baseline compiler gets the relaxed dot wrong, so that is off.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { before, test } from 'node:test';
import { buildPreset } from '../../wasm/setup/build.mjs';
import { root } from '../../wasm/setup/setup.mjs';

const RUN = `
  import { WASI } from 'node:wasi';
  import fs from 'node:fs';
  const wasi = new WASI({ version: 'preview1', args: ['test_kernels'] });
  const { instance } = await WebAssembly.instantiate(fs.readFileSync(process.argv[1]), wasi.getImportObject());
  process.exitCode = wasi.start(instance);`;

const old = Number(process.versions.node.split('.')[0]) < 22;

before(() => buildPreset('wasi', { target: 'test_kernels', quiet: true }));

for (const { name, program, options, tables } of [
  { name: 'SIMD128', program: 'test_kernels-simd', options: [], tables: ['simd128', 'scalar'] },
  {
    name: 'relaxed SIMD',
    program: 'test_kernels-relaxed',
    options: old ? ['--no-liftoff', '--experimental-wasm-relaxed-simd'] : [],
    tables: ['relaxed', 'relaxed16', 'scalar'],
  },
]) {
  test(`every kernel of the ${name} build equals the reference`, () => {
    const file = path.join(root, 'build/wasi/wasm', `${program}.wasm`);
    const run = spawnSync(
      process.execPath,
      [...options, '--no-warnings', '--input-type=module', '-e', RUN, file],
      { encoding: 'utf8' },
    );
    assert.equal(run.status, 0, run.stderr);
    for (const table of tables) assert.match(run.stdout, new RegExp(`kernels ${table}: checked`));
  });
}
