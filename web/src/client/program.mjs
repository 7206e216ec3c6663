/**
 * The native program as a WASI module (build/exitlm.wasm), for the commands that have no
 * counterpart on the JavaScript engine.
 */
import fs from 'node:fs';
import path from 'node:path';

const MODULE = new URL('../../../build/exitlm.wasm', import.meta.url);

/**
 * Paths are relative to the working directory, below it or above: the module sees folders of
 * relative names alone.
 * @param {string[]} args
 * @returns {{ args: string[], preopens: Record<string, string> }}
 */
function within(args) {
  let above = 0;
  const seen = args.map((arg) => {
    const [, option, given] = /** @type {string[]} */ (/^(--[\w-]+=)?(.*)$/s.exec(arg));
    const file = (path.isAbsolute(given) ? path.relative('', given) : given).replaceAll(
      path.sep,
      '/',
    );
    above = Math.max(above, /^(\.\.(\/|$))*/.exec(file)?.[0].split('..').length ?? 1);
    return `${option ?? ''}${file}`;
  });
  /** @type {Record<string, string>} */
  const preopens = { '.': process.cwd() };
  for (let i = 1; i < above; i++) {
    const up = Array(i).fill('..');
    preopens[up.join('/')] = path.resolve(...up);
  }
  return { args: seen, preopens };
}

/**
 * What a module imports. Called directly from one whose memory has grown, the functions of Node 20 end
 * the process by a segmentation fault; called from JavaScript they do not.
 * @param {import('node:wasi').WASI} wasi
 */
export const wasiImports = (wasi) => ({
  wasi_snapshot_preview1: Object.fromEntries(
    Object.entries(wasi.wasiImport).map(([name, call]) => [
      name,
      (/** @type {any[]} */ ...given) => call(...given),
    ]),
  ),
});

/**
 * @param {string[]} argv a command with its operands and options
 * @returns {Promise<number>} the exit status
 */
export async function runProgram(argv) {
  const { emitWarning } = process;
  process.emitWarning = () => {}; // node:wasi calls itself experimental
  const { WASI } = await import('node:wasi');
  process.emitWarning = emitWarning;
  const { args, preopens } = within(argv);
  const wasi = new WASI({ version: 'preview1', args: ['exitlm', ...args], env: {}, preopens });
  const { instance } = await WebAssembly.instantiate(fs.readFileSync(MODULE), wasiImports(wasi));
  return /** @type {number} */ (/** @type {unknown} */ (wasi.start(instance)));
}
