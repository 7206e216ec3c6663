/**
 * The files beside this one. Literal `new URL(…, import.meta.url)`, which bundlers find and copy.
 *
 * @typedef {'simd' | 'relaxed' | 'simd-mt' | 'relaxed-mt'} Variant
 */

/** @type {Record<Variant, () => URL>} */
export const wasmUrl = {
  simd: () => new URL('../dist/exitlm-simd.wasm', import.meta.url),
  relaxed: () => new URL('../dist/exitlm-relaxed.wasm', import.meta.url),
  'simd-mt': () => new URL('../dist/exitlm-simd-mt.wasm', import.meta.url),
  'relaxed-mt': () => new URL('../dist/exitlm-relaxed-mt.wasm', import.meta.url),
};
