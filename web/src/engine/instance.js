/**
 * From "whatever this machine can do" to a running instance of the engine.
 */
import { ExitLMError, messageOf } from '../link/errors.js';
import { cores, hasNodeModules, isWorkerd, nodeModule } from '../link/platform.js';
import { wasmUrl } from './assets.js';
import { createSharedEngine, Engine, needsSharedMemory } from './engine.js';
import { detectFeatures } from './features.js';

/** @typedef {import('./assets.js').Variant} Variant */

const MOST_THREADS_AUTO = 4;
/** What a missing file nearly always means. */
const LEFT_BEHIND =
  'a bundler that leaves it behind needs a copy of the package and the options worker and wasm (docs/bundlers.md)';

/**
 * @param {number | 'auto'} wanted
 * @param {boolean} inWorker
 * @returns {Promise<number>} threads that make sense here
 */
export async function threadsFor(wanted, inWorker) {
  // A page's own thread must not wait for others.
  if (!detectFeatures().threads || !(inWorker || hasNodeModules)) return 1;
  return wanted === 'auto' ? Math.max(1, Math.min((await cores()) - 1, MOST_THREADS_AUTO)) : wanted;
}

/** @param {number} threads @returns {Variant} */
export function variantFor(threads) {
  const { relaxedSimd } = detectFeatures();
  return `${relaxedSimd ? 'relaxed' : 'simd'}${threads > 1 ? '-mt' : ''}`;
}

/**
 * @param {object} options
 * @param {WebAssembly.Module | Uint8Array | string | null} options.wasm a module, its bytes, the
 *   address of one file, or that of a folder with all of them (ends with '/')
 * @param {number | 'auto'} options.threads
 * @param {boolean} options.inWorker
 * @returns {Promise<{ engine: Engine, threads: number }>}
 */
export async function startEngine({ wasm, threads: wanted, inWorker }) {
  const features = detectFeatures();
  if (!features.wasm)
    throw new ExitLMError('UNSUPPORTED', 'WebAssembly is missing or switched off here');
  if (!features.simd && !(wasm instanceof WebAssembly.Module)) {
    throw new ExitLMError(
      'UNSUPPORTED',
      'this browser has no WebAssembly SIMD, which the engine needs: Chrome 91, Firefox 89, Safari 16.4 or later have it',
    );
  }
  const threads = await threadsFor(wanted, inWorker);
  if (threads > 1 && (wasm === null || typeof wasm === 'string')) {
    try {
      return {
        engine: await createSharedEngine(await moduleFrom(wasm, variantFor(threads))),
        threads,
      };
    } catch (error) {
      if (wanted !== 'auto') throw error; // asked for by number: say why
    }
  }
  const module = await moduleFrom(wasm, variantFor(1));
  if (needsSharedMemory(module)) {
    if (threads === 1 && !features.threads)
      throw new ExitLMError(
        'USAGE',
        'the wasm module that was given needs shared memory, which this page has not (it is not cross-origin isolated)',
      );
    return { engine: await createSharedEngine(module), threads };
  }
  return { engine: await Engine.create(module), threads: 1 };
}

/**
 * @param {WebAssembly.Module | Uint8Array | string | null} wasm
 * @param {Variant} variant
 * @returns {Promise<WebAssembly.Module>}
 */
async function moduleFrom(wasm, variant) {
  if (wasm instanceof WebAssembly.Module) return wasm;
  if (isWorkerd)
    throw new ExitLMError(
      'USAGE',
      "option wasm: a Worker compiles nothing while it runs; give it the module: import wasm from 'exitlm/exitlm-relaxed.wasm', and ExitLM.load(…, { wasm })",
    );
  try {
    if (wasm instanceof Uint8Array)
      return await WebAssembly.compile(/** @type {Uint8Array<ArrayBuffer>} */ (wasm));
    if (wasm === null) return await compileUrl(wasmUrl[variant]().href);
    return await compileUrl(wasm.endsWith('/') ? `${wasm}exitlm-${variant}.wasm` : wasm);
  } catch (cause) {
    if (cause instanceof ExitLMError) throw cause;
    throw new ExitLMError(
      'UNSUPPORTED',
      `the engine's WebAssembly cannot be compiled here (${messageOf(cause)})`,
      { cause },
    );
  }
}

/** @param {string} url @returns {Promise<WebAssembly.Module>} */
async function compileUrl(url) {
  if (url.startsWith('file:')) {
    const fs = await nodeModule('node:fs/promises');
    let bytes;
    try {
      bytes = await fs.readFile(new URL(url));
    } catch (cause) {
      throw new ExitLMError(
        'NETWORK',
        `${url}: the engine's file cannot be read (${messageOf(cause)})`,
        { cause },
      );
    }
    return WebAssembly.compile(bytes);
  }
  /** @type {Response} */
  let response;
  try {
    response = await fetch(url);
  } catch (cause) {
    throw new ExitLMError(
      'NETWORK',
      `${url}: the engine's file cannot be loaded (${messageOf(cause)})`,
      { cause },
    );
  }
  if (!response.ok)
    throw new ExitLMError(
      'HTTP',
      `${url}: the server answered ${response.status} where the engine's file was expected; ${LEFT_BEHIND}`,
    );
  const type = response.headers.get('content-type') ?? '';
  if (/^application\/wasm\b/.test(type) && WebAssembly.compileStreaming)
    return WebAssembly.compileStreaming(response);
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (bytes[0] !== 0 || bytes[1] !== 0x61) {
    throw new ExitLMError(
      'HTTP',
      `${url}: the server answered with ${type || 'something else'} where the engine's file was expected; ${LEFT_BEHIND}`,
    );
  }
  return WebAssembly.compile(bytes);
}
