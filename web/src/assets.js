/**
 * The files beside this one. Literal `new URL(…, import.meta.url)`, which bundlers find and copy.
 *
 * @typedef {'simd' | 'relaxed' | 'simd-mt' | 'relaxed-mt'} Variant
 */

/**
 * Vite before 8 bundles what it finds in node_modules for its development server and leaves the files beside it behind. They are taken from
 * where they were installed. @type {string | undefined}
 */
const installed = /^.+\/node_modules\/(?=\.vite\/deps)/.exec(import.meta.url)?.[0];

/** The worker's script, where it is not beside this file. */
export const installedWorker = installed && `${installed}exitlm/web/src/worker.js`;

/** @type {Record<Variant, () => URL>} */
export const wasmUrl = {
  simd: () => new URL('../dist/exitlm-simd.wasm', import.meta.url),
  relaxed: () => new URL('../dist/exitlm-relaxed.wasm', import.meta.url),
  'simd-mt': () => new URL('../dist/exitlm-simd-mt.wasm', import.meta.url),
  'relaxed-mt': () => new URL('../dist/exitlm-relaxed-mt.wasm', import.meta.url),
};
if (installed) {
  for (const variant of /** @type {Variant[]} */ (Object.keys(wasmUrl))) wasmUrl[variant] = () => new URL(`${installed}exitlm/web/dist/exitlm-${variant}.wasm`);
}
