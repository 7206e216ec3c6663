// The command line's WASI module in Node: node-wasi.mjs MODULE FOLDER ARGUMENTS…
import fs from 'node:fs';
import { WASI } from 'node:wasi';
import { wasiImports } from '../../../web/src/client/program.mjs';

const [module, folder, ...args] = process.argv.slice(2);
const wasi = new WASI({
  version: 'preview1',
  args: ['exitlm', ...args],
  env: {},
  preopens: { '.': folder },
});
const { instance } = await WebAssembly.instantiate(fs.readFileSync(module), wasiImports(wasi));
process.exitCode = wasi.start(instance);
