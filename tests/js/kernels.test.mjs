// The kernels of the WebAssembly builds against the scalar reference, bit for bit: tests/c/test_kernels.c, built as a WASI program with
// and without relaxed SIMD. Relaxed SIMD needs a flag in Node 20, and its baseline compiler gets the relaxed dot wrong, so that is off.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { root, wasi } from '../../wasm/setup/setup.mjs';

const SOURCES = ['quant', 'kernels', 'kernels_scalar', 'kernels_simd128', 'kernels_relaxed', 'kernels_relaxed16'].map((name) => `src/${name}.c`);
const FLAGS = ['--target=wasm32-wasi', '-Wno-deprecated', '-std=c11', '-O2', '-ffp-contract=off', '-D_POSIX_C_SOURCE=200809L', '-Isrc',
  '-msimd128', '-mbulk-memory', '-mnontrapping-fptoint', '-msign-ext', '--no-wasm-opt', '-Wl,-z,stack-size=262144'];
const RUN = `
  import { WASI } from 'node:wasi';
  import fs from 'node:fs';
  const wasi = new WASI({ version: 'preview1', args: ['test_kernels'] });
  const { instance } = await WebAssembly.instantiate(fs.readFileSync(process.argv[1]), wasi.getImportObject());
  process.exitCode = wasi.start(instance);`;

const old = Number(process.versions.node.split('.')[0]) < 22;

for (const { name, flags, options, tables } of [
  { name: 'SIMD128', flags: [], options: [], tables: ['simd128', 'scalar'] },
  { name: 'relaxed SIMD', flags: ['-mrelaxed-simd'], options: old ? ['--no-liftoff', '--experimental-wasm-relaxed-simd'] : [], tables: ['relaxed', 'relaxed16', 'scalar'] },
]) {
  test(`every kernel of the ${name} build equals the reference`, () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'exitlm-kernels-'));
    try {
      const program = path.join(folder, 'test.wasm');
      execFileSync(wasi.clang, [...FLAGS, ...flags, ...SOURCES, 'tests/c/test_kernels.c', '-o', program], { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
      const run = spawnSync(process.execPath, [...options, '--no-warnings', '--input-type=module', '-e', RUN, program], { encoding: 'utf8' });
      assert.equal(run.status, 0, run.stderr);
      for (const table of tables) assert.match(run.stdout, new RegExp(`kernels ${table}: checked`));
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });
}
