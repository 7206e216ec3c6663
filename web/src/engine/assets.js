/**
 * The engine's files. Literal `new URL(…, import.meta.url)`, which bundlers find and copy.
 *
 * @typedef {'simd' | 'relaxed' | 'simd-mt' | 'relaxed-mt'} Variant
 */
import { installed } from '../link/address.js';

/** @type {Record<Variant, () => URL>} */
export const wasmUrl = {
  'simd': () => new URL('../../dist/exitlm-simd.wasm', import.meta.url),
  'relaxed': () => new URL('../../dist/exitlm-relaxed.wasm', import.meta.url),
  'simd-mt': () => new URL('../../dist/exitlm-simd-mt.wasm', import.meta.url),
  'relaxed-mt': () => new URL('../../dist/exitlm-relaxed-mt.wasm', import.meta.url),
};
if (installed) {
  for (const variant of /** @type {Variant[]} */ (Object.keys(wasmUrl)))
    wasmUrl[variant] = () => new URL(`${installed}exitlm/web/dist/exitlm-${variant}.wasm`);
}
