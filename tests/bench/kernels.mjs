// tests/c/bench_kernels.c in Debian's Chromium: the kernels of the WASI modules, in a worker.
//
//   node tests/bench/kernels.mjs [simd|relaxed] [kernel] [type] [seconds for each figure]
//
//   node tests/bench/kernels.mjs relaxed relaxed16 q4_1
import fs from 'node:fs';
import path from 'node:path';
import { buildPreset } from '../../wasm/setup/build.mjs';
import { root } from '../../wasm/setup/setup.mjs';
import { start } from '../page/browser.mjs';

const [variant = 'simd', ...args] = process.argv.slice(2);
await buildPreset('wasi', { target: `bench_kernels-${variant}`, quiet: true });

/** Runs in the worker. What of WASI the program needs: its arguments, a clock, what it prints. */
function work() {
  onmessage = async ({ data: { bytes, args: words } }) => {
    let out = '';
    const program = { memory: new WebAssembly.Memory({ initial: 0 }) };
    const view = () => new DataView(program.memory.buffer);
    const encoded = words.map((/** @type {string} */ word) =>
      new TextEncoder().encode(`${word}\0`),
    );
    /** @type {Record<string, (...values: any[]) => number>} */
    const given = {
      args_sizes_get(count, size) {
        view().setUint32(count, encoded.length, true);
        view().setUint32(
          size,
          encoded.reduce((sum, word) => sum + word.length, 0),
          true,
        );
        return 0;
      },
      args_get(list, at) {
        for (const [i, word] of encoded.entries()) {
          view().setUint32(list + 4 * i, at, true);
          new Uint8Array(program.memory.buffer).set(word, at);
          at += word.length;
        }
        return 0;
      },
      fd_write(_, list, count, written) {
        let total = 0;
        for (let i = 0; i < count; i++) {
          const at = view().getUint32(list + 8 * i, true);
          const size = view().getUint32(list + 8 * i + 4, true);
          out += new TextDecoder().decode(
            new Uint8Array(program.memory.buffer).slice(at, at + size),
          );
          total += size;
        }
        view().setUint32(written, total, true);
        return 0;
      },
      clock_time_get(_, __, at) {
        view().setBigUint64(at, BigInt(Math.round(performance.now() * 1e6)), true);
        return 0;
      },
    };
    const others = new Proxy(given, { get: (of, name) => of[String(name)] ?? (() => 0) });
    const { instance } = await WebAssembly.instantiate(bytes, { wasi_snapshot_preview1: others });
    program.memory = /** @type {WebAssembly.Memory} */ (instance.exports.memory);
    /** @type {() => void} */ (instance.exports._start)();
    postMessage(out);
  };
}

const it = await start();
const page = await it.open('/tests/page/blank.html', { bypassCSP: true });
page.setDefaultTimeout(0);
const file = path.join(root, `build/wasi/wasm/bench_kernels-${variant}.wasm`);
const said = await page.evaluate(
  ({ base64, words, source }) =>
    new Promise((resolve, reject) => {
      const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
      const code = new Blob([`(${source})()`], { type: 'text/javascript' });
      const worker = new Worker(URL.createObjectURL(code));
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = ({ message }) => reject(new Error(message));
      worker.postMessage({ bytes, args: words });
    }),
  {
    base64: fs.readFileSync(file).toString('base64'),
    words: ['bench_kernels', ...args],
    source: work.toString(),
  },
);
process.stdout.write(said);
await it.close();
