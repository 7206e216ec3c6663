// The command line's WASI module in Node: node-wasi.mjs MODULE FOLDER ARGUMENTS…
import fs from 'node:fs';
import { WASI } from 'node:wasi';

const [module, folder, ...args] = process.argv.slice(2);
const wasi = new WASI({
  version: 'preview1',
  args: ['exitlm', ...args],
  env: {},
  preopens: { '.': folder },
});
const instance = await WebAssembly.instantiate(await WebAssembly.compile(fs.readFileSync(module)), {
  wasi_snapshot_preview1: wasi.wasiImport,
});
process.exitCode = wasi.start(instance);
